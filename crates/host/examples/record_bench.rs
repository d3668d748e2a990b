//! What does the record cost those who publish, and how soon does it answer when it holds millions of messages?
//!
//! Prints lines of `name value unit`, and ends with failure if what was promised is not reached. `--help` tells what can be said.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "measures time, and prints it")]

mod support;

use std::{path::PathBuf, process::ExitCode, time::Instant};

use bytes::Bytes;
use clap::Parser;
use support::{Running, cpu_seconds, drain, median, message, percentile, publish, queue};
use waystation_base::MessageId;
use waystation_broker::spec::QueueSpec;
use waystation_host::Broker;
use waystation_record::{Options as RecordOptions, Record, Sought};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
/// Messages published at a time before the queue is looked at again.
const PIECE: usize = 6_400;
const QUESTIONS: usize = 200;
/// The most that the record may add to the processor time of publishing.
const COST_MAX: f64 = 1.10;
const ANSWER_MS_MAX: f64 = 100.0;

#[derive(Parser)]
struct Arguments {
    /// Where the data lives
    #[arg(long, default_value_os_t = std::env::temp_dir().join("waystation-record-bench"))]
    dir: PathBuf,
    /// How many are published in each round of the comparison with and without record
    #[arg(long, default_value_t = 1_000_000)]
    messages: usize,
    /// How many the record holds when it is asked
    #[arg(long, default_value_t = 10_000_000)]
    kept: usize,
    /// How large a body is
    #[arg(long, default_value_t = 100)]
    bytes: usize,
    /// Run one part
    #[arg(long, value_parser = ["cost", "query"])]
    only: Option<String>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let code = support::run(async {
        let runs = |part: &str| arguments.only.as_deref().is_none_or(|only| only == part);
        let mut content = true;
        if runs("cost") {
            content &= cost(&arguments).await;
        }
        if runs("query") {
            content &= query(&arguments).await;
        }
        content
    });
    let _ = std::fs::remove_dir_all(&arguments.dir);
    code
}

async fn fresh(arguments: &Arguments, record: Option<RecordOptions>) -> Running {
    let running = Running::fresh(&arguments.dir, |options| options.record = record);
    running.declare(queue(), QueueSpec::default()).await;
    running
}

/// Publishes, takes and acknowledges messages in pieces; returns seconds until all is durable, processor seconds until it is also
/// recorded, and the first id of each piece.
async fn work(broker: &Broker, count: usize, bytes: usize, consume: bool) -> (f64, f64, Vec<MessageId>) {
    let body = Bytes::from(vec![b'x'; bytes]);
    let (begun, used) = (Instant::now(), cpu_seconds());
    let mut ids = Vec::new();
    for base in (0..count).step_by(PIECE) {
        let made = std::cell::Cell::new(None);
        publish(broker, base..(base + PIECE).min(count), |n| {
            let message = message(n, &body);
            made.set(made.get().or(Some(message.id)));
            message
        })
        .await;
        ids.extend(made.get());
        if consume {
            drain(broker).await;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    // What the recorder does later belongs to the cost too.
    while broker.record().is_some_and(|record| !record.catch_up()) {}
    (seconds, cpu_seconds() - used, ids)
}

/// The same work with and without record, in turn.
async fn cost(arguments: &Arguments) -> bool {
    let (mut seconds, mut processor) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..2 * ROUNDS {
        let on = round % 2;
        let running = fresh(arguments, (on == 1).then(RecordOptions::default)).await;
        let (wall, used, _) = work(&running.broker, arguments.messages, arguments.bytes, false).await;
        running.stop().await;
        seconds[on].push(wall);
        processor[on].push(used);
    }
    let [off, with] = seconds.map(|mut times| median(&mut times));
    let [off_cpu, with_cpu] = processor.map(|mut times| median(&mut times));
    let per = |seconds: f64| seconds * 1e9 / arguments.messages as f64;
    println!("publish_without_record {:.0} messages/s", arguments.messages as f64 / off);
    println!("publish_with_record {:.0} messages/s", arguments.messages as f64 / with);
    println!("publish_time_ratio {:.3} times", with / off);
    println!("publish_processor_without_record {:.0} ns/message", per(off_cpu));
    println!("publish_processor_with_record {:.0} ns/message", per(with_cpu));
    println!("publish_processor_ratio {:.3} times", with_cpu / off_cpu);
    with / off <= COST_MAX
}

/// Questions to a record that holds many messages, each published, taken and acknowledged.
async fn query(arguments: &Arguments) -> bool {
    let options = RecordOptions { retention_bytes: 1 << 40, ..RecordOptions::default() };
    let running = fresh(arguments, Some(options)).await;
    let (.., ids) = work(&running.broker, arguments.kept, 16, true).await;
    let record = running.broker.record().expect("there is one").clone();
    while !record.catch_up() {}
    let status = record.status();
    println!("record_messages {} messages", status.messages);
    println!("record_files {} files", status.files);
    println!("record_bytes_per_message {:.1} bytes", status.bytes as f64 / status.messages.max(1) as f64);
    let mut times: Vec<f64> =
        (0..QUESTIONS).map(|n| ask(&record, ids[n * (ids.len() - 1) / QUESTIONS])).collect();
    let (half, most) = (median(&mut times), percentile(&mut times, 99.0));
    println!("question_p50 {half:.2} ms");
    println!("question_p99 {most:.2} ms");
    running.stop().await;
    most <= ANSWER_MS_MAX
}

/// Looks for one message and its life; returns milliseconds.
fn ask(record: &Record, id: MessageId) -> f64 {
    let begun = Instant::now();
    let found = record.mentions(&[Sought::id(id)], 200, |published| published.id == id);
    assert_eq!(found.found.len(), 1, "each message is found");
    let (lives, _) = record.lives(&[(found.found[0].place, found.found[0].at)]);
    let events = lives.values().map(Vec::len).sum::<usize>();
    assert_eq!(events, 3, "published, handed, done");
    begun.elapsed().as_secs_f64() * 1000.0
}
