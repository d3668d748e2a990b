//! What does the record cost those who publish, and how soon does it answer when it holds millions of messages?
//!
//! Prints lines of `name value unit`. `--dir DIR` says where the data lives; `--messages N` how many are published in each round of
//! the comparison with and without record; `--kept N` how many the record holds when it is asked; `--bytes N` how large a body is;
//! `--only cost` or `--only query` runs one part. Ends with failure if what was promised is not reached.
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
use waystation_record::{Options as RecordOptions, Record, Sought};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 5;
const BATCH: usize = 100;
const QUESTIONS: usize = 200;
/// The most that the record may add to the processor time of publishing.
const COST_MAX: f64 = 1.10;
const ANSWER_MS_MAX: f64 = 100.0;

struct Arguments {
    dir: PathBuf,
    messages: usize,
    kept: usize,
    bytes: usize,
    only: Option<String>,
}

fn arguments() -> Arguments {
    let dir = std::env::temp_dir().join("waystation-record-bench");
    let mut parsed = Arguments { dir, messages: 1_000_000, kept: 10_000_000, bytes: 100, only: None };
    let mut given = std::env::args().skip(1);
    while let Some(flag) = given.next() {
        let value = given.next().unwrap_or_else(|| panic!("{flag} needs a value"));
        let number = || value.parse().unwrap_or_else(|_| panic!("{flag} needs a number"));
        match flag.as_str() {
            "--dir" => parsed.dir = value.clone().into(),
            "--messages" => parsed.messages = number(),
            "--kept" => parsed.kept = number(),
            "--bytes" => parsed.bytes = number(),
            "--only" => parsed.only = Some(value.clone()),
            other => panic!("unknown flag {other}"),
        }
    }
    parsed
}

fn main() -> ExitCode {
    let arguments = arguments();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let content = LocalSet::new().block_on(&runtime, async {
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
    if content { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

struct Running {
    broker: Broker,
    stop: oneshot::Sender<()>,
    driver: tokio::task::JoinHandle<Result<(), waystation_host::Failure>>,
}

impl Running {
    async fn fresh(dir: &Path, record: Option<RecordOptions>) -> Running {
        let _ = std::fs::remove_dir_all(dir);
        let options = Options { record, ..Options::new(dir) };
        let (broker, driver, _) = open(options, Arc::new(OsDisk), Arc::new(OsClock)).expect("opened");
        let (stop, stopped) = oneshot::channel::<()>();
        let driver = tokio::task::spawn_local(driver.run(async { _ = stopped.await }));
        let spec = Spec::Queue(QueueSpec::default());
        broker.declare(queue(), spec, false, SessionId::default()).await.expect("declared");
        Running { broker, stop, driver }
    }

    async fn stop(self) {
        let _ = self.stop.send(());
        self.driver.await.expect("no panic").expect("stopped in good order");
    }
}

fn queue() -> Name {
    Name::new("q").expect("a name")
}

fn message(n: usize, body: &Bytes) -> Message {
    let now = OsClock.now();
    // Ids count up, as doors give them.
    Message::new(MessageId::new(now, (n as u128) << 48), now, body.clone())
}

/// Processor seconds of this process so far: of all its threads.
fn cpu() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = text.rsplit(')').next().expect("a line").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / 100.0
}

/// Publishes, takes and acknowledges messages in pieces; returns seconds until all is durable, processor seconds until it is also
/// recorded, and the first id of each piece.
async fn work(broker: &Broker, count: usize, bytes: usize, consume: bool) -> (f64, f64, Vec<MessageId>) {
    let body = Bytes::from(vec![b'x'; bytes]);
    let (begun, used) = (Instant::now(), cpu());
    let mut ids = Vec::new();
    for base in (0..count).step_by(BATCH * 64) {
        let mut under_way = Vec::new();
        for from in (base..(base + BATCH * 64).min(count)).step_by(BATCH) {
            let messages: Vec<Message> = (from..from + BATCH).map(|n| message(n, &body)).collect();
            ids.extend(messages.first().map(|message| message.id));
            let broker = broker.clone();
            under_way.push(tokio::task::spawn_local(async move { broker.publish(queue(), messages).await }));
        }
        for published in under_way {
            published.await.expect("no panic").expect("published");
        }
        if consume {
            drain(broker).await;
        }
    }
    let seconds = begun.elapsed().as_secs_f64();
    // What the recorder does later belongs to the cost too.
    while broker.record().is_some_and(|record| !record.catch_up()) {}
    (seconds, cpu() - used, ids)
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

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The same work with and without record, in turn.
async fn cost(arguments: &Arguments) -> bool {
    let (mut seconds, mut processor) = ([Vec::new(), Vec::new()], [Vec::new(), Vec::new()]);
    for round in 0..2 * ROUNDS {
        let on = round % 2;
        let running = Running::fresh(&arguments.dir, (on == 1).then(RecordOptions::default)).await;
        let (wall, used, _) = work(&running.broker, arguments.messages, arguments.bytes, false).await;
        running.stop().await;
        seconds[on].push(wall);
        processor[on].push(used);
    }
    let [off, with] = seconds.map(median);
    let [off_cpu, with_cpu] = processor.map(median);
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
    let running = Running::fresh(&arguments.dir, Some(options)).await;
    let (.., ids) = work(&running.broker, arguments.kept, 16, true).await;
    let record = running.broker.record().expect("there is one").clone();
    while !record.catch_up() {}
    let status = record.status();
    println!("record_messages {} messages", status.messages);
    println!("record_files {} files", status.files);
    println!("record_bytes_per_message {:.1} bytes", status.bytes as f64 / status.messages.max(1) as f64);
    let mut times: Vec<f64> =
        (0..QUESTIONS).map(|n| ask(&record, ids[n * (ids.len() - 1) / QUESTIONS])).collect();
    times.sort_by(f64::total_cmp);
    let (half, most) = (times[QUESTIONS / 2], times[QUESTIONS * 99 / 100]);
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
