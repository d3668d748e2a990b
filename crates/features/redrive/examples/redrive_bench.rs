//! How soon are a million dead letters known in groups, how soon is it answered then, and how many messages a second does a redrive move?
//!
//! `--dir DIR` where the data lies, `--messages N` (default 1 million) of 200 bytes, half of them of each of two groups, one after the other.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a benchmark measures real time and prints it"
)]

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use waystation_base::{
    Clock, Message, MessageId, Name,
    message::header,
    os::{OsClock, OsDisk},
};
use waystation_broker::spec::{QueueSpec, Spec as Declaration};
use waystation_host::{Broker, Options};
use waystation_redrive::{
    Redrives, Spec,
    groups::Asked,
    job::{Maker, State},
};

const BODY_BYTES: usize = 200;
const BATCH: u64 = 5_000;
/// Times that groups are asked for.
const ASKED: usize = 20;

fn argument(name: &str) -> Option<String> {
    let mut all = std::env::args().skip_while(|said| said != name);
    all.nth(1)
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("{name:32} {value:>14.1} {unit}");
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn letter(number: u64, now: waystation_base::Millis) -> Message {
    let mut message =
        Message::new(MessageId::new(now, u128::from(number) << 64), now, "x".repeat(BODY_BYTES));
    let error = if number.is_multiple_of(2) {
        format!("no stock for {number}")
    } else {
        format!("card '{number}' declined")
    };
    message.headers.set(header::DEATH_REASON, "rejected");
    message.headers.set(header::DEATH_SOURCE, "orders");
    message.headers.set(header::DEATH_ERROR, error);
    message
}

async fn fill(broker: &Broker, count: u64) {
    for text in ["orders", "orders.dead"] {
        let dead_letter = (text == "orders").then(|| "orders.dead".into());
        let spec = QueueSpec { dead_letter, ..QueueSpec::default() };
        broker.declare(name(text), Declaration::Queue(spec), false, Default::default()).await.unwrap();
    }
    for from in (0..count).step_by(BATCH as usize) {
        let now = OsClock.now();
        let few = (from..(from + BATCH).min(count)).map(|number| letter(number, now)).collect();
        broker.publish(name("orders.dead"), few).await.unwrap();
    }
}

/// Runs a redrive to its end; gives messages a second.
async fn redrive(redrives: &Redrives, which: &str) -> f64 {
    let spec: Spec = serde_json::from_str(&format!(r#"{{"which": {which}}}"#)).unwrap();
    let begun = Instant::now();
    let redrive = redrives.begin(spec, vec![name("orders.dead")], Maker::default()).await.unwrap();
    let moved = until(redrives, &redrive.id, State::Completed).await;
    moved as f64 / begun.elapsed().as_secs_f64()
}

async fn until(redrives: &Redrives, id: &str, state: State) -> u64 {
    loop {
        let redrive = redrives.get(id).unwrap();
        if redrive.state == state {
            return redrive.moved;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

async fn measure(dir: PathBuf, count: u64) {
    let mut options = Options::new(&dir);
    options.disk_reserve_bytes = 0;
    let clock: Arc<dyn Clock> = Arc::new(OsClock);
    let (broker, driver, _) = waystation_host::open(options, Arc::new(OsDisk), clock.clone()).unwrap();
    tokio::spawn(driver.run(std::future::pending()));
    fill(&broker, count).await;
    let (redrives, engine) = Redrives::new(broker.clone(), clock, None);
    tokio::spawn(engine.run(std::future::pending()));
    let begun = Instant::now();
    let groups = redrives.letters().groups(Asked::default(), 100).await.unwrap();
    figure("groups_first", begun.elapsed().as_secs_f64() * 1e3, "ms");
    assert_eq!((groups.messages, groups.unread, groups.groups.len()), (count, 0, 2));
    let mut times = Vec::new();
    for _ in 0..ASKED {
        let begun = Instant::now();
        redrives.letters().groups(Asked::default(), 100).await.unwrap();
        times.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    figure("groups_then_median", median(times), "ms");
    let group = &groups.groups[0].id;
    figure(
        "redrive_of_a_group",
        redrive(&redrives, &format!(r#"{{"group": "{group}"}}"#)).await,
        "messages/s",
    );
    figure("redrive_of_the_rest", redrive(&redrives, r#"{"all": true}"#).await, "messages/s");
    let last = redrives.list().remove(0).id;
    let begun = Instant::now();
    redrives.undo(&last).await.unwrap();
    let moved = until(&redrives, &last, State::Undone).await;
    figure("undo", moved as f64 / begun.elapsed().as_secs_f64(), "messages/s");
}

fn main() {
    let dir = PathBuf::from(argument("--dir").unwrap_or_else(|| "redrive-bench".into()));
    let count = argument("--messages").and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    let data = dir.join("data");
    let _ = std::fs::remove_dir_all(&data);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(measure(data.clone(), count));
    runtime.shutdown_background();
    let _ = std::fs::remove_dir_all(&data);
}
