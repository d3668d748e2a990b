//! Which scenarios of lapin are there, and how did each end? A line for each, the sum as the last line.

mod client;
mod proxy;
mod scenarios;
mod tutorials;

use std::{process::ExitCode, time::Duration, time::Instant};

use crate::client::Server;

const SCENARIO_TIME_MAX: Duration = Duration::from_secs(180);

/// What a scenario comes to: nothing, or what was not as it must be.
pub type Ended = Result<(), Box<dyn std::error::Error + Send + Sync>>;

/// A scenario by its name, which is a sentence.
pub struct Scenario {
    pub name: &'static str,
    pub run: fn(Server) -> futures_util::future::BoxFuture<'static, Ended>,
}

/// The table of some scenarios, each named as its function is.
#[macro_export]
macro_rules! scenarios {
    ($($name:ident),* $(,)?) => {
        pub const ALL: &[$crate::Scenario] =
            &[$($crate::Scenario { name: stringify!($name), run: |server| Box::pin($name(server)) }),*];
    };
}

#[tokio::main]
async fn main() -> ExitCode {
    let (server, only) = options();
    let (mut passed, mut failed) = (0, 0);
    for scenario in tutorials::ALL.iter().chain(scenarios::ALL) {
        if !only.is_empty() && !only.iter().any(|part| scenario.name.contains(part.as_str())) {
            continue;
        }
        let begun = Instant::now();
        // A task of its own, so that a failed assertion ends the scenario and not the run.
        let running = tokio::spawn(tokio::time::timeout(SCENARIO_TIME_MAX, (scenario.run)(server.clone())));
        let said = match running.await {
            Ok(Ok(Ok(()))) => None,
            Ok(Ok(Err(error))) => Some(error.to_string()),
            Ok(Err(_)) => Some(format!("took longer than {SCENARIO_TIME_MAX:?}")),
            Err(panic) => Some(panicked(panic)),
        };
        let word = if said.is_none() { "ok" } else { "FAILED" };
        let detail = said.as_ref().map_or(String::new(), |said| format!(": {}", said.replace('\n', " ")));
        let name = scenario.name.replace('_', " ");
        println!("{word:8}{:6.1} s  {name}{detail}", begun.elapsed().as_secs_f64());
        if said.is_none() { passed += 1 } else { failed += 1 }
    }
    println!("{passed} passed, {failed} failed, 0 skipped");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn panicked(panic: tokio::task::JoinError) -> String {
    let Ok(payload) = panic.try_into_panic() else { return "was cancelled".to_owned() };
    match payload.downcast::<String>() {
        Ok(text) => *text,
        Err(other) => other.downcast_ref::<&str>().map_or("panicked".to_owned(), |text| (*text).to_owned()),
    }
}

fn options() -> (Server, Vec<String>) {
    let mut server =
        Server { host: "127.0.0.1".into(), port: 5672, user: "guest".into(), password: "guest".into() };
    let mut only = Vec::new();
    let mut given = std::env::args().skip(1);
    while let Some(name) = given.next() {
        let mut value = || given.next().unwrap_or_default();
        match name.as_str() {
            "--host" => server.host = value(),
            "--port" => server.port = value().parse().expect("a port"),
            "--user" => server.user = value(),
            "--password" => server.password = value(),
            "--only" => only.push(value()),
            _ => {}
        }
    }
    (server, only)
}
