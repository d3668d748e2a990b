//! How soon is it told what became of a message, when the record holds millions; and what does such a record cost a start?
//!
//! Prints lines of `name value unit`. `--dir DIR` says where the data lives; `--kept N` how many messages the record holds when it is
//! asked. Ends with failure if what was promised is not reached.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "measures time, and prints it")]

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tokio::{sync::oneshot, task::LocalSet};
use waystation_base::{
    Clock, Message, MessageId, Name,
    os::{OsClock, OsDisk},
};
use waystation_broker::{
    SessionId, Source,
    command::{Outcome, Settlement},
    spec::{QueueSpec, Spec},
};
use waystation_host::{Broker, Options, open};
use waystation_journeys::{MESSAGES, Pauses, Query, Role, find};
use waystation_record::Options as RecordOptions;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 100;
const UNDER_WAY: usize = 64;
const QUESTIONS: usize = 200;
const ANSWER_MS_MAX: f64 = 100.0;

struct Arguments {
    dir: PathBuf,
    kept: usize,
}

fn arguments() -> Arguments {
    let dir = std::env::temp_dir().join("waystation-trace-bench");
    let mut parsed = Arguments { dir, kept: 10_000_000 };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        let value = given.next().unwrap_or_else(|| panic!("{flag} needs a value"));
        match flag.as_str() {
            "--dir" => parsed.dir = value.into(),
            "--kept" => parsed.kept = value.parse().unwrap_or_else(|_| panic!("{flag} needs a number")),
            other => panic!("unknown flag {other}"),
        }
    }
    parsed
}

fn main() -> ExitCode {
    let arguments = arguments();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let is_soon = LocalSet::new().block_on(&runtime, measure(&arguments));
    let _ = std::fs::remove_dir_all(&arguments.dir);
    if is_soon { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Running {
    broker: Broker,
    stop: oneshot::Sender<()>,
    driver: tokio::task::JoinHandle<Result<(), waystation_host::Failure>>,
}

impl Running {
    /// Starts a broker; gives milliseconds that it took, too.
    fn start(dir: &Path, recorded: bool) -> (Running, f64) {
        let begun = Instant::now();
        let record = recorded.then(|| RecordOptions { retention_bytes: 1 << 40, ..RecordOptions::default() });
        let options = Options { record, ..Options::new(dir) };
        let (broker, driver, _) = open(options, Arc::new(OsDisk), Arc::new(OsClock)).expect("opened");
        let took = begun.elapsed().as_secs_f64() * 1000.0;
        let (stop, stopped) = oneshot::channel::<()>();
        let driver = tokio::task::spawn_local(driver.run(async { _ = stopped.await }));
        (Running { broker, stop, driver }, took)
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.driver.await.expect("no panic").expect("stopped in good order");
    }
}

fn queue() -> Name {
    Name::new("q").expect("a name")
}

/// The nth message: found by its id, its correlation id and the business key `order`.
fn message(n: usize) -> Message {
    let now = OsClock.now();
    let body = Bytes::from_static(b"sixteen bytes it");
    let mut message = Message::new(MessageId::new(now, (n as u128) << 64), now, body);
    message.headers.set("message-id", format!("m-{n}").as_str());
    message.headers.set("correlation-id", format!("c-{n}").as_str());
    message.headers.set("ws-business-order", format!("o-{n}").as_str());
    message
}

async fn fill(broker: &Broker, count: usize) {
    for base in (0..count).step_by(BATCH * UNDER_WAY) {
        let end = (base + BATCH * UNDER_WAY).min(count);
        let mut under_way = Vec::new();
        for from in (base..end).step_by(BATCH) {
            let messages: Vec<Message> = (from..(from + BATCH).min(end)).map(message).collect();
            let broker = broker.clone();
            under_way.push(tokio::task::spawn_local(async move { broker.publish(queue(), messages).await }));
        }
        for published in under_way {
            published.await.expect("no panic").expect("published");
        }
        drain(broker).await;
    }
    while broker.record().is_some_and(|record| !record.catch_up()) {}
}

async fn drain(broker: &Broker) {
    let source = Source::Queue(queue());
    loop {
        let taken = broker.receive(source.clone(), 1000, Duration::ZERO, None, OsClock.now()).await;
        let taken = taken.expect("received");
        if taken.is_empty() {
            return;
        }
        let settlements = taken.iter().map(|delivery| Settlement {
            tag: delivery.tag,
            attempt: delivery.attempt,
            outcome: Outcome::Accepted,
        });
        broker.settle(source.clone(), settlements.collect()).await.expect("settled");
    }
}

async fn measure(arguments: &Arguments) -> bool {
    let _ = std::fs::remove_dir_all(&arguments.dir);
    let (running, _) = Running::start(&arguments.dir, true);
    let spec = Spec::Queue(QueueSpec::default());
    running.broker.declare(queue(), spec, false, SessionId::default()).await.expect("declared");
    fill(&running.broker, arguments.kept).await;
    let status = running.broker.record().expect("there is one").status();
    println!("record_messages {} messages", status.messages);
    println!("record_files {} files", status.files);
    println!("record_bytes_per_message {:.1} bytes", status.bytes as f64 / status.messages.max(1) as f64);
    let mut is_soon = true;
    for (name, role, prefix) in
        [("id", Role::Message, "m"), ("correlation", Role::Correlation, "c"), ("key", Role::Business, "o")]
    {
        is_soon &= ask_all(&running.broker, name, role, prefix, arguments.kept).await;
    }
    running.stop().await;
    // In turn, so that what the page cache holds is the same for both.
    for _ in 0..2 {
        for (name, recorded) in [("start_without_record", false), ("start_with_record", true)] {
            let (running, took) = Running::start(&arguments.dir, recorded);
            println!("{name} {took:.1} ms");
            running.stop().await;
        }
    }
    is_soon
}

/// Questions over the whole time of the record; whether the slowest of a hundred are soon enough.
async fn ask_all(broker: &Broker, name: &str, role: Role, prefix: &str, kept: usize) -> bool {
    let mut times = Vec::new();
    for n in 0..QUESTIONS {
        let text = format!("{prefix}-{}", n * (kept - 1) / (QUESTIONS - 1));
        let query = Query { role, key: None, text, messages_max: MESSAGES };
        let begun = Instant::now();
        let journey = find(broker, query, |_| true, &Pauses::new()).await.expect("told");
        times.push(begun.elapsed().as_secs_f64() * 1000.0);
        assert_eq!(journey.messages.len(), 1, "each message is found, and no other");
        assert_eq!(journey.messages[0].stays[0].copies[0].steps.len(), 2, "delivered, acknowledged");
    }
    times.sort_by(f64::total_cmp);
    let (half, most) = (times[QUESTIONS / 2], times[QUESTIONS * 99 / 100]);
    println!("question_{name}_p50 {half:.2} ms");
    println!("question_{name}_p99 {most:.2} ms");
    most <= ANSWER_MS_MAX
}
