//! How exact are a million retry delays, what does each waiting message cost in memory, and do they outlive a restart?
//!
//! Publishes messages to a queue, fails each so that all are due spread over a minute, stops and opens the data again, and then takes
//! what comes: lateness is the time from when a message was due to when its consumer has it. Fails if one comes early, twice or not at
//! all, or if the 99th percentile is later than 50 ms. `--help` tells what can be said.
#![allow(clippy::disallowed_methods, clippy::print_stdout, reason = "measures time, and prints it")]

mod support;

use std::{
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use bytes::Bytes;
use clap::Parser;
use support::{Running, message, queue, resident};
use tokio::task::JoinSet;
use waystation_base::{Clock, Millis, limits::CREDIT_MAX, os::OsClock};
use waystation_broker::{
    SessionId, Source,
    command::{Failure, Hold, Outcome, Settlement},
    spec::{QueueSpec, RetryPolicy},
};
use waystation_host::{Consumer, Delivery, Event};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BODY_BYTES: usize = 100;
/// Messages settled together.
const SETTLED: usize = 1_000;
/// What was promised of the 99th percentile.
const LATE_MS_MAX: u64 = 50;

#[derive(Parser)]
struct Arguments {
    /// Where the data lives
    #[arg(long, default_value_os_t = std::env::temp_dir().join("waystation-delayed-bench"))]
    dir: PathBuf,
    /// How many wait
    #[arg(long, default_value_t = 1_000_000)]
    messages: usize,
    /// How many are published, and so stored, together: of a batch all is read for one message
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Seconds over which they are due
    #[arg(long, default_value_t = 60)]
    spread: u64,
    /// Seconds until the first is due
    #[arg(long, default_value_t = 40)]
    lead: u64,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    support::run(measure(&arguments))
}

async fn consume(running: &Running) -> Consumer {
    let source = Source::Queue(queue());
    running.broker.consume(source, CREDIT_MAX, Hold::Attached, SessionId::default()).await.expect("attached")
}

async fn settle(running: &Running, settlements: Vec<Settlement>) {
    running.broker.settle(Source::Queue(queue()), settlements).await.expect("settled");
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("{name:28} {value:>14.1} {unit}");
}

/// The number that a message bears.
fn number(delivery: &Delivery) -> usize {
    let bytes: [u8; 8] = delivery.message.body[..8].try_into().expect("eight bytes");
    u64::from_le_bytes(bytes) as usize
}

async fn measure(arguments: &Arguments) -> bool {
    let dir = arguments.dir.join("delayed");
    let running = Running::fresh(&dir, |_| ());
    publish(&running, arguments).await;
    let before = resident();
    let begun = Instant::now();
    let due = fail(&running, arguments).await;
    figure("failed", arguments.messages as f64 / begun.elapsed().as_secs_f64(), "messages/s");
    figure(
        "memory_of_one_that_waits",
        resident().saturating_sub(before) as f64 / arguments.messages as f64,
        "bytes",
    );
    running.stop().await;
    let begun = Instant::now();
    let running = Running::on(&dir, |_| ());
    let info = running.broker.queue(queue()).await.expect("there");
    figure("restart", begun.elapsed().as_secs_f64() * 1e3, "ms");
    figure("waiting_after_restart", info.delayed as f64, "messages");
    figure("resident_after_restart", resident() as f64 / (1 << 20) as f64, "MiB");
    let first = due.iter().min().copied().unwrap_or_default();
    assert!(OsClock.now() < first, "some are due already: give more --lead");
    let content = receive(&running, &due).await;
    running.stop().await;
    let _ = std::fs::remove_dir_all(&dir);
    content
}

async fn publish(running: &Running, arguments: &Arguments) {
    let retry = Some(Box::new(RetryPolicy::default()));
    running.declare(queue(), QueueSpec { retry, ..QueueSpec::default() }).await;
    let batch = arguments.batch as usize;
    for from in (0..arguments.messages).step_by(batch) {
        let one = |n: usize| {
            let body = [&(n as u64).to_le_bytes()[..], &[b'.'; BODY_BYTES - 8]].concat();
            message(n, &Bytes::from(body))
        };
        let few = (from..(from + batch).min(arguments.messages)).map(one).collect();
        running.broker.publish(queue(), few).await.expect("published");
    }
}

/// Fails every message with a pause of its own; gives when each is due, which is not before.
async fn fail(running: &Running, arguments: &Arguments) -> Vec<Millis> {
    let mut consumer = consume(running).await;
    let first = OsClock.now().plus(arguments.lead * 1_000);
    let mut due = vec![Millis(0); arguments.messages];
    let mut left = arguments.messages;
    while left > 0 {
        let Some(Event::Messages(deliveries)) = consumer.next().await else { panic!("the consumer ended") };
        left -= deliveries.len();
        for chunk in deliveries.chunks(SETTLED) {
            let now = OsClock.now();
            let one = |delivery: &Delivery| {
                // Knuth's multiplier: neighbours are due at times far apart.
                let spread = number(delivery) as u64 * 2_654_435_761 % (arguments.spread * 1_000).max(1);
                let delay_ms = first.plus(spread).since(now);
                due[number(delivery)] = now.plus(delay_ms);
                let failure = Failure { delay_ms: Some(delay_ms), ..Failure::default() };
                delivery.settlement(Outcome::Failed(failure))
            };
            let settlements = chunk.iter().map(one).collect();
            settle(running, settlements).await;
        }
    }
    due
}

/// Takes everything as it comes, and says how late it was.
async fn receive(running: &Running, due: &[Millis]) -> bool {
    let mut consumer = consume(running).await;
    let mut late: Vec<u64> = Vec::with_capacity(due.len());
    let mut seen = vec![false; due.len()];
    let (mut early, mut twice) = (0, 0);
    let mut settled = JoinSet::new();
    while late.len() < due.len() {
        let next = tokio::time::timeout(Duration::from_secs(120), consumer.next()).await;
        let Ok(Some(Event::Messages(deliveries))) = next else { break };
        let now = OsClock.now();
        for delivery in &deliveries {
            let due = due[number(delivery)];
            early += u64::from(now < due);
            twice += u64::from(std::mem::replace(&mut seen[number(delivery)], true));
            late.push(now.since(due));
        }
        // Beside what comes next, as consumers do.
        let settlements = deliveries.iter().map(|delivery| delivery.settlement(Outcome::Accepted)).collect();
        let broker = running.broker.clone();
        settled.spawn_local(async move { broker.settle(Source::Queue(queue()), settlements).await });
        while let Some(done) = settled.try_join_next() {
            done.expect("no panic").expect("settled");
        }
    }
    while let Some(done) = settled.join_next().await {
        done.expect("no panic").expect("settled");
    }
    let missing = seen.iter().filter(|seen| !**seen).count();
    late.sort_unstable();
    let at = |share: f64| late.get(((late.len() as f64 * share) as usize).min(late.len().saturating_sub(1)));
    let at = |share: f64| at(share).copied().unwrap_or_default();
    for (name, share) in [("late_p50", 0.5), ("late_p99", 0.99), ("late_p999", 0.999), ("late_max", 1.0)] {
        figure(name, at(share) as f64, "ms");
    }
    figure("early", early as f64, "messages");
    figure("missing", missing as f64, "messages");
    figure("twice", twice as f64, "messages");
    missing == 0 && early == 0 && twice == 0 && at(0.99) <= LATE_MS_MAX
}
