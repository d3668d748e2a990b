//! What clients declare and send: every option, in every combination that chance brings.

use std::collections::BTreeMap;

use bytes::{BufMut, Bytes, BytesMut};
use waystation_base::{
    Message, MessageId, Millis, Name, Offset,
    batch::{Encoder, Scratch},
    filter::Filter,
    message::header::MESSAGE_ID,
};
use waystation_broker::{
    command::{Bind, Destination, Target},
    spec::{
        Arguments, Fair, MessageRate, Mode, Order, Overflow, QueueSpec, RetryPolicy, RouteKind, RouteSpec,
        Spec, Start, SubscriptionSpec, TopicSpec, VhostLimits,
        retry::{Backoff, CONSUMER_LOST, ClassPolicy, LEASE_ENDED},
    },
};

use crate::random::Random;

/// Names of queues.
pub const QUEUES: [&str; 5] = ["q0", "q1", "q2", "q3", "dead"];
/// Names of topics.
pub const TOPICS: [&str; 3] = ["t.a", "t.b", "u.a"];
/// Names of subscriptions.
pub const SUBSCRIPTIONS: [&str; 4] = ["s0", "s1", "s2", "s3"];
/// Names of routes: one is also a queue's.
pub const ROUTES: [&str; 4] = ["r0", "r1", "r2", "q0"];
/// Keys of messages.
const KEYS: [&str; 6] = ["", "a", "b", "a.b", "a.b.c", "q1"];
/// Keys of bindings.
const BINDING_KEYS: [&str; 8] = ["", "a", "b", "#", "a.*", "a.#", "*.b", "q1"];
/// Classes of errors.
pub const ERROR_CLASSES: [&str; 2] = ["busy", "invalid"];
/// What subscriptions may name, besides single topics.
const PATTERNS: [&str; 3] = ["t.*", "#", "*.a"];

/// A checked name.
pub fn name(text: &str) -> Name {
    Name::new(text).expect("a name of the simulation")
}

fn one<'a>(random: &mut Random, of: &[&'a str]) -> &'a str {
    random.pick(of).copied().expect("not empty")
}

fn dead_letter(random: &mut Random) -> Option<String> {
    random.maybe(50, |random| {
        let address = if random.percent(60) {
            "dead"
        } else if random.percent(70) {
            one(random, &QUEUES)
        } else {
            one(random, &TOPICS)
        };
        address.to_owned()
    })
}

/// A random queue.
pub fn queue(random: &mut Random) -> QueueSpec {
    let mut spec = QueueSpec {
        ttl_ms: random.maybe(20, |random| random.range(20, 3000)),
        dead_letter: dead_letter(random),
        dead_letter_key: random.maybe(30, |random| one(random, &KEYS).to_owned()),
        max_priority: random.maybe(20, |random| random.below(3) as u8).unwrap_or(u8::MAX),
        durable: !random.one_in(12),
        max_attempts: random.maybe(30, |random| random.range(1, 4) as u32),
        retry: random.maybe(50, retry),
        rate: random.maybe(12, rate),
        concurrency: random.maybe(15, |random| random.range(1, 8) as u32),
        fair: random.maybe(30, fair).map(Box::new),
        lease_ms: random.range(10, 2000),
        order: if random.percent(30) { Order::Key } else { Order::Fifo },
        deduplication_ms: random.maybe(25, |random| random.range(10, 3000)),
        single_active_consumer: random.percent(15),
        exclusive: random.percent(5),
        auto_delete: random.percent(5),
        idle_expiry_ms: random.maybe(5, |random| random.range(1000, 20_000)),
        ..QueueSpec::default()
    };
    if spec.dead_letter.is_none() && random.percent(40) {
        let route = random.percent(85).then(|| one(random, &ROUTES));
        spec.dead_letter_route = Some(route.unwrap_or_default().to_owned());
    }
    if random.percent(35) {
        spec.max_messages = random.maybe(80, |random| random.range(1, 30));
        spec.max_bytes = random.maybe(40, |random| random.range(4000, 9000));
        let limited = spec.max_messages.is_some() || spec.max_bytes.is_some();
        spec.overflow = match random.below(3) {
            0 if limited => Overflow::DropHead,
            // Two queues that overflow into each other would do so for ever.
            1 if limited && spec.dead_letter.as_deref() == Some("dead") => Overflow::DeadLetterHead,
            _ => Overflow::RejectPublish,
        };
    }
    spec
}

fn rate(random: &mut Random) -> MessageRate {
    MessageRate {
        messages: random.range(1, 40) as u32,
        per_ms: random.range(1, 400),
        burst: random.maybe(50, |random| random.range(1, 10) as u32),
    }
}

fn fair(random: &mut Random) -> Fair {
    Fair {
        header: one(random, &["type", MESSAGE_ID]).to_owned(),
        concurrency: random.maybe(25, |random| random.range(1, 4) as u32),
        rate: random.maybe(15, rate),
        ..Fair::default()
    }
}

/// What the virtual host may have together in which all is, or nothing.
pub fn vhost(random: &mut Random) -> VhostLimits {
    VhostLimits {
        rate: random.maybe(30, rate),
        concurrency: random.maybe(60, |random| random.range(2, 12) as u32),
        ..VhostLimits::default()
    }
}

/// A random retry policy.
fn retry(random: &mut Random) -> Box<RetryPolicy> {
    let kinds = [Backoff::Constant, Backoff::Linear, Backoff::Exponential];
    let mut policy = RetryPolicy {
        backoff: kinds[random.below(3) as usize],
        first_ms: random.below(600),
        factor: random.range(1, 3) as u32,
        most_ms: random.range(600, 2500),
        jitter_percent: [0, 50, 100][random.below(3) as usize],
        attempts_max: random.maybe(40, |random| random.range(1, 5) as u32),
        age_ms_max: random.maybe(30, |random| random.range(100, 6000)),
        classes: BTreeMap::new(),
    };
    for class in ERROR_CLASSES.into_iter().chain([CONSUMER_LOST, LEASE_ENDED]) {
        if random.percent(20) {
            let own = ClassPolicy {
                give_up: random.percent(30),
                first_ms: random.maybe(50, |random| random.below(600)),
                jitter_percent: random.maybe(30, |random| random.below(101) as u8),
                attempts_max: random.maybe(30, |random| random.range(1, 5) as u32),
                age_ms_max: random.maybe(20, |random| random.range(100, 6000)),
                ..ClassPolicy::default()
            };
            policy.classes.insert(class.to_owned(), own);
        }
    }
    Box::new(policy)
}

/// A random topic.
pub fn topic(random: &mut Random) -> TopicSpec {
    TopicSpec {
        partitions: random.range(1, 3) as u32,
        retention_ms: random.maybe(20, |random| random.range(500, 20_000)),
        retention_bytes: random.maybe(10, |random| random.range(1000, 10_000)),
        compact: random.percent(25),
        tombstone_retention_ms: random.range(0, 3000),
        business: None,
        arguments: Default::default(),
    }
}

/// A random route.
pub fn route(random: &mut Random) -> RouteSpec {
    let kinds = [RouteKind::Direct, RouteKind::Fanout, RouteKind::Topic, RouteKind::Headers];
    RouteSpec {
        durable: !random.one_in(10),
        auto_delete: random.one_in(6),
        internal: random.one_in(12),
        alternate: random.maybe(40, |random| one(random, &ROUTES).to_owned()),
        ..RouteSpec::new(kinds[random.below(4) as usize])
    }
}

/// Some route with no key, one or several.
pub fn by_route(random: &mut Random) -> Target {
    let count = [1, 1, 1, 0, 2, 3][random.below(6) as usize];
    let keys = (0..count).map(|_| one(random, &KEYS).into()).collect();
    Target::Route { route: name(one(random, &ROUTES)), keys, told: false }
}

/// A random binding.
pub fn bind(random: &mut Random) -> Bind {
    let to = match random.below(10) {
        0..=5 => Destination::Address(name(one(random, &QUEUES))),
        6 | 7 => Destination::Address(name(one(random, &TOPICS))),
        _ => Destination::Route(name(one(random, &ROUTES))),
    };
    let mut arguments = Arguments::new();
    if random.percent(35) {
        arguments.insert("x-match".into(), one(random, &["all", "any"]).into());
        let wanted = random.maybe(80, |random| one(random, &["a", "b", "c"]));
        arguments.insert("type".into(), wanted.map_or(serde_json::Value::Null, Into::into));
        if random.percent(30) {
            arguments.insert(MESSAGE_ID.into(), serde_json::Value::Null);
        }
    }
    Bind { route: name(one(random, &ROUTES)), to, key: one(random, &BINDING_KEYS).into(), arguments }
}

/// A random subscription.
pub fn subscription(random: &mut Random, now: Millis) -> SubscriptionSpec {
    let topic = if random.percent(30) { one(random, &PATTERNS) } else { one(random, &TOPICS) };
    let mode = if random.percent(40) { Mode::Ordered } else { Mode::Competing };
    SubscriptionSpec {
        fair: random.maybe(25, fair).filter(|_| mode == Mode::Competing).map(Box::new),
        mode,
        filter: random.maybe(30, filter),
        start: match random.below(5) {
            0 | 1 => Start::Earliest,
            2 => Start::Offset(random.below(30)),
            3 => Start::Time(now.0.saturating_sub(random.below(3000))),
            _ => Start::Latest,
        },
        temporary: random.percent(5),
        idle_expiry_ms: random.maybe(5, |random| random.range(1000, 20_000)),
        lease_ms: random.range(10, 2000),
        dead_letter: dead_letter(random),
        max_attempts: random.maybe(30, |random| random.range(1, 4) as u32),
        retry: random.maybe(50, retry),
        rate: random.maybe(12, rate),
        concurrency: random.maybe(15, |random| random.range(1, 8) as u32),
        ..SubscriptionSpec::new(topic)
    }
}

fn filter(random: &mut Random) -> Filter {
    let exact = |name: &str, text: &str| Filter::Exact(BTreeMap::from([(name.to_owned(), text.to_owned())]));
    match random.below(4) {
        0 => exact("type", "a"),
        1 => Filter::Not(Box::new(exact("type", "b"))),
        2 => Filter::Prefix(BTreeMap::from([("key".to_owned(), "k1".to_owned())])),
        _ => Filter::Any(vec![exact("type", "c"), exact("topic", "t.a")]),
    }
}

/// A random declaration with its name.
pub fn declaration(random: &mut Random, now: Millis) -> (Name, Spec) {
    match random.below(13) {
        10.. => (name(one(random, &ROUTES)), Spec::Route(route(random))),
        0..=4 => {
            let (name, mut spec) = (name(one(random, &QUEUES)), queue(random));
            if name.as_str() == "dead" {
                (spec.max_messages, spec.max_bytes, spec.overflow) = (None, None, Overflow::RejectPublish);
            }
            (name, Spec::Queue(spec))
        }
        5..=6 => (name(one(random, &TOPICS)), Spec::Topic(topic(random))),
        _ => (name(one(random, &SUBSCRIPTIONS)), Spec::Subscription(subscription(random, now))),
    }
}

/// A random message with a number; `delays` says whether it may ask for a delay.
pub fn message(random: &mut Random, number: u64, now: Millis, delays: bool) -> Message {
    let mut body = BytesMut::new();
    body.put_u64(number);
    let filler = if random.one_in(20) { random.below(3000) } else { random.below(60) };
    body.put_bytes(b'.', filler as usize);
    let sent_before = if random.one_in(5) { random.below(4000) } else { 0 };
    let mut message = Message::new(
        MessageId::new(now, u128::from(random.any())),
        Millis(now.0 - sent_before),
        body.freeze(),
    );
    message.key = random.maybe(60, |random| Bytes::from(format!("k{}", random.below(6))));
    if random.percent(30) {
        message.priority = [0, 1, 9, 255][random.below(4) as usize];
    }
    message.expires_at = random.maybe(15, |random| now.plus(random.range(1, 3000)));
    if delays && random.percent(15) {
        message.deliver_at = Some(Millis(now.0 + random.below(2500)));
    }
    if random.percent(50) {
        message.headers.set("type", one(random, &["a", "b", "c"]));
    }
    if random.percent(40) {
        message.headers.set(MESSAGE_ID, format!("id-{}", random.below(12)).as_str());
    }
    if random.percent(10) {
        message.headers.set("n", random.any() as i64);
    }
    message
}

/// Messages as a batch of a producer that speaks the format, now and then with offsets that are not used.
pub fn batch(random: &mut Random, messages: &[Message]) -> Bytes {
    let mut out = Vec::new();
    let mut scratch = Scratch::default();
    let mut encoder = Encoder::new(&mut out, &mut scratch, Offset(0), messages[0].timestamp);
    let step = if random.one_in(4) { 2 } else { 1 };
    for (index, message) in messages.iter().enumerate() {
        encoder.push(Offset(index as u64 * step), message);
    }
    encoder.finish();
    out.into()
}
