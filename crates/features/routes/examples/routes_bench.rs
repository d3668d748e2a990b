//! How many messages a second go through routes, and does it matter how many routes, bindings or cases there are?
//! Prints `name value unit` lines. Run: `cargo xtask bench routes`.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::{env, path::PathBuf, sync::Arc, time::Instant};

use bytes::Bytes;
use tokio::sync::oneshot;
use waystation_base::{
    Message, MessageId, Millis, Name,
    os::{self, OsClock, OsDisk},
};
use waystation_broker::{
    SessionId,
    command::{Bind, Destination, Payload, Publish, Target, Transaction},
    spec::{QueueSpec, RouteKind, RouteSpec, Spec},
};
use waystation_host::Broker;
use waystation_jq::{Command, Limits, Pool};
use waystation_routes::{RouteSteps, Routes, Tools};

const COUNTS: [usize; 3] = [1, 100, 10_000];
const MESSAGES: usize = 20_000;
const BATCH: usize = 200;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = env::args().collect();
    if arguments.get(1).is_some_and(|word| word == "jq-worker") {
        let memory_bytes = arguments.get(2).ok_or("a limit of memory is missing")?.parse()?;
        return Ok(waystation_jq::serve_worker(memory_bytes)?);
    }
    let at = arguments.iter().position(|word| word == "--dir").ok_or("--dir is missing")?;
    let dir = PathBuf::from(arguments.get(at + 1).ok_or("a folder is missing")?);
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(measure(dir))
}

async fn measure(dir: PathBuf) -> Result<(), Failure> {
    for count in COUNTS {
        report(
            &format!("through {count} bindings of a topic route"),
            World::new(&dir).await?.bindings(count).await?,
        );
    }
    for count in COUNTS {
        report(
            &format!("through a route with {count} cases by a header"),
            World::new(&dir).await?.cases(count).await?,
        );
    }
    for count in COUNTS {
        report(
            &format!("through 100 of {} routes", count.max(100)),
            World::new(&dir).await?.routes(count.max(100)).await?,
        );
    }
    for (name, steps) in [
        ("sent on as they are", r#"[{"to": "out"}]"#),
        ("filtered by a selector", r#"[{"filter": {"selector": "n >= 0 AND kind = 'a'"}}, {"to": "out"}]"#),
        (
            "transformed by jq",
            r#"[{"transform": {"body": "{id: .n, total: (.lines | map(.price) | add)}"}}, {"to": "out"}]"#,
        ),
        ("split by jq into 4", r#"[{"split": ".lines[]"}, {"to": "out"}]"#),
    ] {
        for record in [true, false] {
            let kept = if record { "with a record" } else { "without a record" };
            report(&format!("{name}, {kept}"), World::new(&dir).await?.one(steps, record).await?);
        }
    }
    Ok(())
}

fn report(name: &str, per_second: f64) {
    println!("{name:60} {per_second:>10.0} messages/s");
}

/// A broker on an empty folder, and routes.
struct World {
    broker: Broker,
    routes: Routes,
    _stop: oneshot::Sender<()>,
}

fn name(text: &str) -> Result<Name, Failure> {
    Ok(Name::new(text)?)
}

impl World {
    async fn new(dir: &PathBuf) -> Result<World, Failure> {
        if dir.exists() {
            std::fs::remove_dir_all(dir)?;
        }
        let clock = Arc::new(OsClock);
        let options =
            waystation_host::Options { disk_reserve_bytes: 0, ..waystation_host::Options::new(dir) };
        let (broker, driver, _) = waystation_host::open(options, Arc::new(OsDisk), clock.clone())?;
        let (stop, stopped) = oneshot::channel::<()>();
        tokio::spawn(driver.run(async { drop(stopped.await) }));
        let command = Command { program: env::current_exe()?, arguments: vec!["jq-worker".into()] };
        let routes = Routes::new(broker.clone(), Tools::new(Pool::new(command, Limits::default()), clock));
        routes.load().await?;
        Ok(World { broker, routes, _stop: stop })
    }

    async fn queue(&self, queue: &str) -> Result<(), Failure> {
        let spec = Spec::Queue(QueueSpec::default());
        self.broker.declare(name(queue)?, spec, false, SessionId::default()).await?;
        Ok(())
    }

    async fn route(&self, route: &str, json: &str) -> Result<(), Failure> {
        let spec: RouteSteps = serde_json::from_str(json)?;
        self.routes.put(name(route)?, spec, false, &self.broker).await?;
        Ok(())
    }

    /// Stores messages at a queue; each tells its number in a header.
    async fn fill(&self, queue: &str, count: usize) -> Result<(), Failure> {
        for begin in (0..count).step_by(BATCH) {
            let messages = (begin..count.min(begin + BATCH)).map(message).collect::<Result<Vec<_>, _>>()?;
            self.broker.publish(name(queue)?, messages).await?;
        }
        Ok(())
    }

    async fn until_taken(&self, route: &str, count: u64) -> Result<(), Failure> {
        let route = name(route)?;
        while self.routes.get(&route).await?.counts.taken < count {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
        Ok(())
    }

    async fn bindings(self, count: usize) -> Result<f64, Failure> {
        self.queue("out").await?;
        let route = name("r")?;
        let spec = Spec::Route(RouteSpec::new(RouteKind::Topic));
        self.broker.declare(route.clone(), spec, false, SessionId::default()).await?;
        for n in 0..count {
            let key = format!("order.{n}.#").into();
            let to = Destination::Address(name("out")?);
            self.broker.bind(Bind { route: route.clone(), to, key, arguments: Default::default() }).await?;
        }
        let begun = Instant::now();
        for begin in (0..MESSAGES).step_by(BATCH) {
            let publish = |n: usize| {
                let keys = std::iter::once(format!("order.{}.paid", n % count).into()).collect();
                let to = Target::Route { route: route.clone(), keys, told: false };
                Ok(Publish { to, partition: None, payload: Payload::One(message(n)?) })
            };
            let publishes = (begin..begin + BATCH).map(publish).collect::<Result<Vec<_>, Failure>>()?;
            self.broker.transact(Transaction { publishes, settlements: Vec::new() }).await?;
        }
        Ok(MESSAGES as f64 / begun.elapsed().as_secs_f64())
    }

    async fn cases(self, count: usize) -> Result<f64, Failure> {
        self.queue("in").await?;
        self.queue("out").await?;
        self.fill("in", MESSAGES).await?;
        let case = |n: usize| {
            format!(r#"{{"when": {{"filter": {{"exact": {{"c{count}": "{n}"}}}}}}, "to": "out"}}"#)
        };
        let cases: Vec<String> = (0..count).map(case).collect();
        let steps = format!(r#"[{{"choose": [{}]}}]"#, cases.join(","));
        let begun = Instant::now();
        self.route("r", &format!(r#"{{"from": {{"queue": "in"}}, "steps": {steps}, "record": false}}"#))
            .await?;
        self.until_taken("r", MESSAGES as u64).await?;
        Ok(MESSAGES as f64 / begun.elapsed().as_secs_f64())
    }

    async fn routes(self, count: usize) -> Result<f64, Failure> {
        const BUSY: usize = 100;
        self.queue("out").await?;
        for n in 0..count {
            self.queue(&format!("in{n}")).await?;
            let from = format!(r#"{{"from": {{"queue": "in{n}"}}"#);
            let steps = r#""steps": [{"filter": {"selector": "n >= 0"}}, {"to": "out"}]"#;
            self.route(
                &format!("r{n}"),
                &format!(r#"{from}, {steps}, "dead_letter": "out", "record": false}}"#),
            )
            .await?;
        }
        let begun = Instant::now();
        for n in 0..BUSY {
            self.fill(&format!("in{n}"), MESSAGES / BUSY).await?;
        }
        for n in 0..BUSY {
            self.until_taken(&format!("r{n}"), (MESSAGES / BUSY) as u64).await?;
        }
        Ok(MESSAGES as f64 / begun.elapsed().as_secs_f64())
    }

    async fn one(self, steps: &str, record: bool) -> Result<f64, Failure> {
        self.queue("in").await?;
        self.queue("out").await?;
        self.fill("in", MESSAGES).await?;
        let begun = Instant::now();
        let json = format!(r#"{{"from": {{"queue": "in"}}, "steps": {steps}, "record": {record}}}"#);
        self.route("r", &json).await?;
        self.until_taken("r", MESSAGES as u64).await?;
        Ok(MESSAGES as f64 / begun.elapsed().as_secs_f64())
    }
}

/// An order with four lines; headers tell its number, and its number among so many cases.
fn message(n: usize) -> Result<Message, Failure> {
    let line = |sku: usize| format!(r#"{{"sku": "a{sku}", "price": {}}}"#, n + sku);
    let lines: Vec<String> = (0..4).map(line).collect();
    let body = format!(r#"{{"n": {n}, "lines": [{}]}}"#, lines.join(","));
    let now = Millis(1_700_000_000_000);
    let mut message = Message::new(MessageId::new(now, os::random()?), now, Bytes::from(body));
    message.headers.set("content-type", "application/json");
    message.headers.set("kind", "a");
    message.headers.set("n", n as i64);
    for count in COUNTS {
        message.headers.set(format!("c{count}"), (n % count).to_string().as_str());
    }
    Ok(message)
}
