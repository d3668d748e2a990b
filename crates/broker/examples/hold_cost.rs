//! For how long the state machine is held by what it does as a whole: a snapshot, a plan for settling, taking over its outcome.
//! Prints `name value unit` lines. Run: `cargo run --release -p waystation-broker --example hold_cost`.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::time::Instant;

use bytes::Bytes;
use waystation_base::{Message, MessageId, Millis, Name, Position};
use waystation_broker::{
    Append, Command, SessionId, Shard,
    command::{Declare, Payload, Publish},
    settle::{Leaving, Outcome, SettledRun},
    spec::{QueueSpec, Spec},
};

const QUEUES: usize = 10_000;
const EACH: usize = 20;
const NOW: Millis = Millis(1_000_000);

/// A journal that forgets.
struct Sink(Vec<u8>, u64);

impl Append for Sink {
    fn append(&mut self, _kind: u8, write: &mut dyn FnMut(&mut Vec<u8>)) -> Position {
        if self.0.len() > 1 << 20 {
            self.1 += self.0.len() as u64;
            self.0.clear();
        }
        let position = Position(self.1 + self.0.len() as u64);
        write(&mut self.0);
        position
    }
}

fn main() {
    let (mut shard, mut sink, mut effects) = (Shard::new(), Sink(Vec::new(), 0), Vec::new());
    let names: Vec<Name> = (0..QUEUES).map(|n| Name::new(format!("queue-{n}")).expect("a name")).collect();
    for (n, name) in names.iter().enumerate() {
        // Half of them say something of themselves.
        let spec = QueueSpec { max_attempts: (n % 2 == 0).then_some(5), ..QueueSpec::default() };
        let (spec, session) = (Spec::Queue(spec), SessionId(0));
        let declare = Declare { name: name.clone(), spec, change: false, session };
        shard.handle(NOW, None, Command::Declare(declare), &mut sink, &mut effects);
    }
    let body = Bytes::from(vec![7; 100]);
    for n in 0..QUEUES * EACH {
        let message = Message::new(MessageId::new(NOW, n as u128), NOW, body.clone());
        let to = names[n % QUEUES].clone().into();
        let publish = Publish { to, partition: None, payload: Payload::One(message) };
        shard.handle(NOW, None, Command::PublishEach(vec![publish]), &mut sink, &mut effects);
        effects.clear();
    }
    let end = Position(sink.1 + sink.0.len() as u64);
    measure("snapshot_10000_queues", || drop(shard.snapshot()));
    let leaving = Leaving::Journal(Position(end.0 / 2));
    measure("plan_10000_queues", || drop(shard.plan(&leaving, NOW)));
    let plan = shard.plan(&leaving, NOW);
    let run = |log: &waystation_broker::settle::LogPlan| SettledRun {
        file: 1,
        log: log.log,
        first: log.live[0].0,
        last: log.live[log.live.len() - 1].1,
        messages: 1,
        bytes: 100,
        min_timestamp: NOW,
        max_timestamp: NOW,
    };
    let runs: Vec<SettledRun> = plan.logs.iter().map(run).collect();
    println!("logs_in_plan {} logs", runs.len());
    let outcome = Outcome { leaving, runs };
    let start = Instant::now();
    shard.handle(NOW, None, Command::Settled(outcome), &mut sink, &mut effects);
    println!("apply_10000_queues {:.1} ms", start.elapsed().as_secs_f64() * 1e3);
}

/// Milliseconds, the least of nine: the machine may have other things to do.
fn measure(label: &str, mut once: impl FnMut()) {
    let mut time = || {
        let start = Instant::now();
        once();
        start.elapsed().as_secs_f64() * 1e3
    };
    let least = (0..9).map(|_| time()).fold(f64::MAX, f64::min);
    println!("{label} {least:.1} ms");
}
