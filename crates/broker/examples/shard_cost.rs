//! What a publish, and a publish with delivery and acknowledgement, cost in the state machine alone: no disk, no tasks.
//! Prints `name value unit` lines. Run: `cargo run --release -p waystation-broker --example shard_cost`.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::time::Instant;

use bytes::Bytes;
use waystation_base::{ClientId, ConsumerId, Message, MessageId, Millis, Name, Position};
use waystation_broker::{
    Append, Command, Effect, RequestId, SessionId, Shard, Source,
    command::{Attach, Declare, Hold, Outcome, Payload, Publish, Settle, Settlement, Transaction},
    spec::{QueueSpec, Spec},
};

const MESSAGES: usize = 1_000_000;
const BATCH: usize = 64;

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
    for queues in [1, 10_000] {
        for consume in [false, true] {
            let label = if consume { "publish_deliver_accept" } else { "publish" };
            let mut times: Vec<f64> = (0..5).map(|_| run(queues, consume)).collect();
            times.sort_by(f64::total_cmp);
            println!("{label}_{queues}_queues {:.0} ns/message", times[2] * 1e9 / MESSAGES as f64);
        }
    }
}

fn run(queues: usize, consume: bool) -> f64 {
    let (mut shard, mut sink, mut effects) = (Shard::new(), Sink(Vec::new(), 0), Vec::new());
    let now = Millis(1_000_000);
    let names: Vec<Name> = (0..queues).map(|n| Name::new(format!("queue-{n}")).expect("a name")).collect();
    for (n, name) in names.iter().enumerate() {
        let declare = Declare {
            name: name.clone(),
            spec: Spec::Queue(QueueSpec::default()),
            change: false,
            session: SessionId(0),
        };
        shard.handle(now, None, Command::Declare(declare), &mut sink, &mut effects);
        if consume {
            let source = Source::Queue(name.clone());
            let session = SessionId(0);
            let attach = Attach {
                consumer: ConsumerId(n as u64),
                source,
                credit: 1_000,
                pool: None,
                hold: Hold::Attached,
                priority: 0,
                exclusive: false,
                session,
                client: ClientId(0),
            };
            shard.handle(now, None, Command::Attach(attach), &mut sink, &mut effects);
        }
    }
    let body = Bytes::from(vec![7; 100]);
    let start = Instant::now();
    for base in (0..MESSAGES).step_by(BATCH) {
        effects.clear();
        for n in base..base + BATCH {
            let message = Message::new(MessageId::new(now, n as u128), now, body.clone());
            let publish = Publish {
                to: names[n % queues].clone().into(),
                partition: None,
                payload: Payload::Messages(vec![message]),
            };
            let command = Command::Transact(Transaction { publishes: vec![publish], settlements: vec![] });
            shard.handle(now, Some(RequestId(n as u64)), command, &mut sink, &mut effects);
        }
        shard.flush(now, &mut sink, &mut effects);
        for effect in std::mem::take(&mut effects) {
            if let Effect::Deliver { consumer, messages } = effect {
                let outcome = |m: &waystation_broker::effect::Handed| Settlement {
                    tag: m.tag,
                    attempt: m.attempt,
                    outcome: Outcome::Accepted,
                };
                let settlements = messages.iter().map(outcome).collect();
                let settle =
                    Settle { source: Source::Queue(names[consumer.0 as usize].clone()), settlements };
                let command = Command::Transact(Transaction { publishes: vec![], settlements: vec![settle] });
                shard.handle(now, None, command, &mut sink, &mut effects);
            }
        }
        shard.flush(now, &mut sink, &mut effects);
    }
    start.elapsed().as_secs_f64()
}
