//! How soon is it told what became of a message, when the record holds millions; and what does such a record cost a start?
//!
//! Prints lines of `name value unit`, and ends with failure if what was promised is not reached. `--help` tells what can be said.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "measures time, and prints it")]

#[path = "../../../host/examples/support/mod.rs"]
mod support;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use bytes::Bytes;
use clap::Parser;
use support::{Running, drain, median, percentile, publish, queue};
use waystation_base::Message;
use waystation_broker::spec::QueueSpec;
use waystation_host::Broker;
use waystation_journeys::{MESSAGES, Pauses, Query, Role, find};
use waystation_record::Options as RecordOptions;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Messages published at a time before they are taken.
const PIECE: usize = 6_400;
const QUESTIONS: usize = 200;
const ANSWER_MS_MAX: f64 = 100.0;

#[derive(Parser)]
struct Arguments {
    /// Where the data lives
    #[arg(long, default_value_os_t = std::env::temp_dir().join("waystation-trace-bench"))]
    dir: PathBuf,
    /// How many the record holds when it is asked
    #[arg(long, default_value_t = 10_000_000)]
    kept: usize,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let code = support::run(measure(&arguments));
    let _ = std::fs::remove_dir_all(&arguments.dir);
    code
}

/// Starts a broker; gives milliseconds that it took, too.
fn start(dir: &Path, recorded: bool) -> (Running, f64) {
    let begun = Instant::now();
    let record = recorded.then(|| RecordOptions { retention_bytes: 1 << 40, ..RecordOptions::default() });
    let running = Running::on(dir, |options| options.record = record);
    (running, begun.elapsed().as_secs_f64() * 1000.0)
}

/// The nth message: found by its id, its correlation id and the business key `order`.
fn message(n: usize) -> Message {
    let mut message = support::message(n, &Bytes::from_static(b"sixteen bytes it"));
    message.headers.set("message-id", format!("m-{n}").as_str());
    message.headers.set("correlation-id", format!("c-{n}").as_str());
    message.headers.set("ws-business-order", format!("o-{n}").as_str());
    message
}

async fn fill(broker: &Broker, count: usize) {
    for base in (0..count).step_by(PIECE) {
        publish(broker, base..(base + PIECE).min(count), message).await;
        drain(broker).await;
    }
    while broker.record().is_some_and(|record| !record.catch_up()) {}
}

async fn measure(arguments: &Arguments) -> bool {
    let _ = std::fs::remove_dir_all(&arguments.dir);
    let (running, _) = start(&arguments.dir, true);
    running.declare(queue(), QueueSpec::default()).await;
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
            let (running, took) = start(&arguments.dir, recorded);
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
    let (half, most) = (median(&mut times), percentile(&mut times, 99.0));
    println!("question_{name}_p50 {half:.2} ms");
    println!("question_{name}_p99 {most:.2} ms");
    most <= ANSWER_MS_MAX
}
