//! What benchmarks of a whole broker share: it runs, it is filled and emptied, and the process is weighed.
#![allow(dead_code, reason = "each benchmark uses a part of it")]

use std::{path::Path, process::ExitCode, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::oneshot, task::LocalSet};
use waystation_base::{
    Clock, Message, MessageId, Name,
    os::{OsClock, OsDisk},
};
use waystation_broker::{
    SessionId, Source,
    command::Outcome,
    spec::{QueueSpec, Spec},
};
use waystation_host::{Broker, Options, open};

/// Runs a benchmark on one thread, as the server does; whether what was promised is reached is the exit code.
pub fn run(measure: impl Future<Output = bool>) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    if LocalSet::new().block_on(&runtime, measure) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// A broker under way.
pub struct Running {
    pub broker: Broker,
    stop: oneshot::Sender<()>,
    driver: tokio::task::JoinHandle<Result<(), waystation_host::Failure>>,
}

impl Running {
    /// On what lies in a folder.
    pub fn on(dir: &Path, change: impl FnOnce(&mut Options)) -> Running {
        let mut options = Options::new(dir);
        change(&mut options);
        let (broker, driver, _) = open(options, Arc::new(OsDisk), Arc::new(OsClock)).expect("opened");
        let (stop, stopped) = oneshot::channel::<()>();
        let driver = tokio::task::spawn_local(driver.run(async { _ = stopped.await }));
        Running { broker, stop, driver }
    }

    /// On nothing.
    pub fn fresh(dir: &Path, change: impl FnOnce(&mut Options)) -> Running {
        let _ = std::fs::remove_dir_all(dir);
        Running::on(dir, change)
    }

    pub async fn declare(&self, name: Name, spec: QueueSpec) {
        self.broker.declare(name, Spec::Queue(spec), false, SessionId::default()).await.expect("declared");
    }

    pub async fn stop(self) {
        let _ = self.stop.send(());
        self.driver.await.expect("no panic").expect("stopped in good order");
    }

    /// Ends it as a crash does.
    pub async fn crash(self) {
        self.driver.abort();
        let _ = self.driver.await;
    }
}

/// The queue of benchmarks that need one.
pub fn queue() -> Name {
    Name::new("q").expect("a name")
}

/// Ids count up, as doors give them.
pub fn message(n: usize, body: &Bytes) -> Message {
    let now = OsClock.now();
    Message::new(MessageId::new(now, (n as u128) << 48), now, body.clone())
}

/// Publishes messages to the queue, a hundred at a time and many of those under way at once.
pub async fn publish(broker: &Broker, range: std::ops::Range<usize>, message: impl Fn(usize) -> Message) {
    const BATCH: usize = 100;
    let mut under_way = Vec::new();
    for from in range.clone().step_by(BATCH) {
        let messages: Vec<Message> = (from..(from + BATCH).min(range.end)).map(&message).collect();
        let broker = broker.clone();
        under_way.push(tokio::task::spawn_local(async move { broker.publish(queue(), messages).await }));
    }
    for published in under_way {
        published.await.expect("no panic").expect("published");
    }
}

/// Takes and acknowledges what the queue has.
pub async fn drain(broker: &Broker) {
    let source = Source::Queue(queue());
    loop {
        let taken = broker.receive(source.clone(), 1000, Duration::ZERO, None, OsClock.now()).await;
        let taken = taken.expect("received");
        if taken.is_empty() {
            return;
        }
        let settlements = taken.iter().map(|delivery| delivery.settlement(Outcome::Accepted)).collect();
        broker.settle(source.clone(), settlements).await.expect("settled");
    }
}

/// The value that so many of a hundred do not exceed.
pub fn percentile(values: &mut [f64], p: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * p / 100.0).round() as usize]
}

pub fn median(values: &mut [f64]) -> f64 {
    percentile(values, 50.0)
}

/// Processor seconds of this process so far, of all its threads (proc(5): `utime` and `stime` of `stat`).
pub fn cpu_seconds() -> f64 {
    let text = std::fs::read_to_string("/proc/self/stat").expect("Linux");
    let fields: Vec<&str> = text.rsplit(')').next().expect("a line").split_whitespace().collect();
    let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / 100.0
}

/// Bytes of memory that the process holds (proc(5): the second number of `statm` counts pages).
pub fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").expect("Linux");
    text.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
}
