//! What a publish by a route costs in the state machine alone: no disk, no tasks. Keys that come again, keys that do not,
//! messages that go to many queues, and the same queue by its name for comparison.
//! Prints `name value unit` lines. Run: `cargo run --release -p waystation-broker --example route_cost`.
#![allow(clippy::print_stdout, clippy::disallowed_methods)]

use std::time::Instant;

use bytes::Bytes;
use waystation_base::{Message, MessageId, Millis, Name, Position};
use waystation_broker::{
    Append, Command, RequestId, SessionId, Shard,
    command::{Bind, Declare, Destination, Payload, Publish, Target},
    spec::{QueueSpec, RouteKind, RouteSpec, Spec},
};

const MESSAGES: usize = 1_000_000;
const BATCH: usize = 64;
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

struct World {
    shard: Shard,
    sink: Sink,
}

impl World {
    fn run(&mut self, command: Command) {
        self.shard.handle(NOW, None, command, &mut self.sink, &mut Vec::new());
    }

    fn declare(&mut self, name: &str, spec: Spec) {
        let declare = Declare { name: self::name(name), spec, change: false, session: SessionId(0) };
        self.run(Command::Declare(declare));
    }
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// A world with queues `q0`, `q1` and so on, each bound to the route `r` by `key`.
fn world(kind: RouteKind, queues: usize, key: impl Fn(usize) -> String) -> World {
    let mut world = World { shard: Shard::new(), sink: Sink(Vec::new(), 0) };
    world.declare("r", Spec::Route(RouteSpec::new(kind)));
    for n in 0..queues {
        let queue = format!("q{n}");
        world.declare(&queue, Spec::Queue(QueueSpec::default()));
        let to = Destination::Address(name(&queue));
        let bind = Bind { route: name("r"), to, key: key(n).into(), arguments: Default::default() };
        world.run(Command::Bind(bind));
    }
    world
}

fn by_route(key: String) -> Target {
    Target::Route { route: name("r"), keys: [key.into()].into_iter().collect(), told: false }
}

/// Nanoseconds for each message, the middle one of five runs.
fn measure(label: &str, world: impl Fn() -> World, target: impl Fn(usize) -> Target) {
    let mut times: Vec<f64> = (0..5).map(|_| once(&mut world(), &target)).collect();
    times.sort_by(f64::total_cmp);
    println!("{label} {:.0} ns/message", times[2] * 1e9 / MESSAGES as f64);
}

fn once(world: &mut World, target: &impl Fn(usize) -> Target) -> f64 {
    let body = Bytes::from(vec![7; 100]);
    let mut effects = Vec::new();
    let mut spent = 0.0;
    for base in (0..MESSAGES).step_by(BATCH) {
        let publish = |n: usize| {
            let message = Message::new(MessageId::new(NOW, n as u128), NOW, body.clone());
            Publish { to: target(n), partition: None, payload: Payload::One(message) }
        };
        let publishes: Vec<Publish> = (base..base + BATCH).map(publish).collect();
        effects.clear();
        let start = Instant::now();
        let command = Command::PublishEach(publishes);
        world.shard.handle(NOW, Some(RequestId(1)), command, &mut world.sink, &mut effects);
        world.shard.flush(NOW, &mut world.sink, &mut effects);
        spent += start.elapsed().as_secs_f64();
    }
    spent
}

fn main() {
    let same = |_| "k".to_owned();
    let each = |n: usize| format!("k{n}");
    let one = |kind| move || world(kind, 1, same);
    measure("by_name_1_queue", one(RouteKind::Direct), |_| name("q0").into());
    measure("by_direct_1_queue", one(RouteKind::Direct), |_| by_route("k".into()));
    measure("by_topic_1_queue", one(RouteKind::Topic), |_| by_route("k".into()));
    let many = || world(RouteKind::Direct, 10_000, each);
    measure("by_name_10000_queues_in_turn", many, |n| name(&format!("q{}", n % 10_000)).into());
    measure("by_direct_1000_of_10000_keys_in_turn", many, |n| by_route(format!("k{}", n % 1_000)));
    measure("by_direct_10000_keys_in_turn", many, |n| by_route(format!("k{}", n % 10_000)));
    let patterns = || world(RouteKind::Topic, 1_000, |n| format!("a.k{n}.#"));
    measure("by_topic_1000_patterns_1000_keys", patterns, |n| by_route(format!("a.k{}.x", n % 1_000)));
    measure("by_topic_1000_patterns_new_keys", patterns, |n| by_route(format!("a.k{}.{n}", n % 1_000)));
    let fanout = || world(RouteKind::Fanout, 10, same);
    measure("by_fanout_to_10_queues", fanout, |_| by_route(String::new()));
}
