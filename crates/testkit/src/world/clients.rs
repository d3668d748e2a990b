//! What clients do: random commands, and what they know of what they hold.

use waystation_base::{Attempt, ClientId, ConsumerId, Message, Millis, Offset, Tag};
use waystation_broker::{
    Command, Kind, PoolId, SessionId, Source,
    command::{
        Attach, Bind, Counted, Declare, Delete, Destination, Extend, Failure, Hold, Outcome, Payload,
        Publish, Seek, Settle, Settlement, Target, Transaction,
    },
};

use super::specs::{self, ERROR_CLASSES, QUEUES, ROUTES, SUBSCRIPTIONS, TOPICS, name};
use crate::{
    model::{Book, Ledger},
    random::Random,
};

/// A message that a client was given and has not settled for good.
#[derive(Clone, Debug)]
pub struct Holding {
    /// Where it is from.
    pub source: Source,
    /// Its name there.
    pub tag: Tag,
    /// Under which attempt.
    pub attempt: Attempt,
}

/// The clients of a world.
#[derive(Debug, Default)]
pub struct Clients {
    /// What they hold, or believe to hold.
    pub holdings: Vec<Holding>,
    consumers: u64,
    /// Pools that consumers have joined and that were not limited yet.
    pools: Vec<PoolId>,
}

fn source(random: &mut Random) -> Source {
    if random.percent(65) {
        Source::Queue(name(random.pick(&QUEUES).expect("some")))
    } else {
        Source::Subscription(name(random.pick(&SUBSCRIPTIONS).expect("some")))
    }
}

fn session(random: &mut Random) -> SessionId {
    SessionId(random.below(4))
}

impl Clients {
    /// The next thing that some client does.
    pub fn next(&mut self, random: &mut Random, ledger: &Ledger, book: &mut Book, now: Millis) -> Command {
        match random.below(120) {
            0..=7 => declare(random, now),
            8 => delete(random),
            9 => Command::Purge(name(random.pick(&QUEUES).expect("some"))),
            10..=49 => Command::Transact(Transaction {
                publishes: self.publishes(random, ledger, book, now),
                settlements: Vec::new(),
            }),
            50..=74 => Command::Transact(self.settle(random, ledger, book, now)),
            75..=86 => {
                let mut attach = self.attach(random, now, None);
                attach.pool = self.pool_of(random, ledger, attach.session);
                Command::Attach(attach)
            }
            87..=90 => with_consumer(random, ledger, |random, consumer| {
                Command::Credit(consumer, random.below(12) as u32)
            }),
            91 | 92 => with_consumer(random, ledger, |_, consumer| Command::Detach(consumer)),
            93 => with_consumer(random, ledger, |_, consumer| Command::Strand(consumer)),
            94 => Command::CloseSession(SessionId(random.range(1, 3))),
            95..=97 => self.extend(random),
            98 | 99 => seek(random, ledger),
            100..=109 => Command::PublishEach(each(random, ledger, book, now)),
            110..=113 => Command::Bind(bind(random, ledger, false)),
            114 => Command::Unbind(bind(random, ledger, true)),
            115 | 116 => cancel(random, ledger),
            117 => self.pool(random, ledger),
            118 => limit_vhost(random),
            _ => document(random),
        }
    }

    fn publishes(
        &mut self,
        random: &mut Random,
        ledger: &Ledger,
        book: &mut Book,
        now: Millis,
    ) -> Vec<Publish> {
        let count = if random.percent(80) { 1 } else { random.range(2, 4) };
        (0..count).map(|_| publish(random, ledger, book, now)).collect()
    }

    fn settle(&mut self, random: &mut Random, ledger: &Ledger, book: &mut Book, now: Millis) -> Transaction {
        let mut settlements: Vec<Settle> = Vec::new();
        for _ in 0..random.range(1, 6) {
            if self.holdings.is_empty() {
                break;
            }
            let at = random.below(self.holdings.len() as u64) as usize;
            // Now and then a client settles the same thing twice.
            let holding =
                if random.one_in(12) { self.holdings[at].clone() } else { self.holdings.swap_remove(at) };
            let outcome = match random.below(15) {
                0 => Outcome::Rejected { error: error(random), class: class(random) },
                1 | 2 => Outcome::Requeued { delay_ms: 0 },
                3 => Outcome::Requeued { delay_ms: random.range(1, 1500) },
                4 => Outcome::Released,
                5 => Outcome::Lost,
                6..=8 => Outcome::Failed(Failure {
                    error: error(random),
                    class: class(random),
                    delay_ms: random.maybe(20, |random| random.below(1500)),
                }),
                _ => Outcome::Accepted,
            };
            let settlement = Settlement { tag: holding.tag, attempt: holding.attempt, outcome };
            match settlements.iter_mut().find(|settle| settle.source == holding.source) {
                Some(settle) => settle.settlements.push(settlement),
                None => settlements.push(Settle { source: holding.source, settlements: vec![settlement] }),
            }
        }
        if random.one_in(4) {
            settlements.extend(withdraw(random, ledger));
        }
        let publishes = if random.one_in(6) { self.publishes(random, ledger, book, now) } else { Vec::new() };
        Transaction { publishes, settlements }
    }

    /// A consumer of something, or of `of`.
    pub fn attach(&mut self, random: &mut Random, now: Millis, of: Option<Source>) -> Attach {
        self.consumers += 1;
        let hold = match random.below(10) {
            _ if of.is_some() => Hold::Attached,
            0..=4 => Hold::Attached,
            5 => Hold::None,
            6 => Hold::Once,
            _ => Hold::Pull {
                lease_ms: random.maybe(50, |random| random.range(1, 2000)),
                until: now.plus(random.range(1, 1500)),
            },
        };
        Attach {
            consumer: ConsumerId(self.consumers),
            credit: if of.is_some() { 20 } else { random.below(12) as u32 },
            pool: None,
            session: if hold == Hold::Once { SessionId(random.range(1, 3)) } else { session(random) },
            priority: if of.is_none() && random.one_in(4) { random.below(3) as i32 - 1 } else { 0 },
            exclusive: of.is_none() && random.one_in(25),
            source: of.unwrap_or_else(|| source(random)),
            hold,
            client: ClientId(0),
        }
    }

    /// A pool of a session: one that is limited, or one that may be later.
    fn pool_of(&mut self, random: &mut Random, ledger: &Ledger, session: SessionId) -> Option<PoolId> {
        if session == SessionId(0) || random.one_in(2) {
            return None;
        }
        let known: Vec<PoolId> =
            ledger.pools.keys().chain(&self.pools).filter(|pool| pool.session == session).copied().collect();
        if random.one_in(3) || known.is_empty() {
            let pool = PoolId { session, number: self.consumers };
            self.pools.push(pool);
            return Some(pool);
        }
        random.pick(&known).copied()
    }

    /// Limits what the consumers of a pool may hold together, or forgets the pool.
    fn pool(&mut self, random: &mut Random, ledger: &Ledger) -> Command {
        let limited: Vec<PoolId> = ledger.pools.keys().copied().collect();
        if let Some(pool) = random.pick(&limited).filter(|_| random.one_in(2)) {
            let credit = random.maybe(75, |random| random.below(8) as u32);
            return Command::Pool(*pool, credit);
        }
        // What is forgotten is not used again.
        let new = (!self.pools.is_empty())
            .then(|| self.pools.swap_remove(random.below(self.pools.len() as u64) as usize));
        let new = new.unwrap_or(PoolId { session: SessionId(1), number: u64::MAX - self.consumers });
        Command::Pool(new, Some(random.below(8) as u32))
    }

    fn extend(&mut self, random: &mut Random) -> Command {
        let Some(first) = random.pick(&self.holdings).cloned() else {
            return Command::Extend(Extend { source: source(random), held: Vec::new(), lease_ms: 5 });
        };
        let more = random.pick(&self.holdings).filter(|other| other.source == first.source).cloned();
        let mut held = vec![(first.tag, first.attempt)];
        held.extend(more.filter(|more| more.tag != first.tag).map(|more| (more.tag, more.attempt)));
        Command::Extend(Extend { source: first.source, held, lease_ms: random.range(1, 3000) })
    }
}

/// All is in one virtual host.
pub fn limit_vhost(random: &mut Random) -> Command {
    Command::LimitVhost { host: "/".to_owned(), limits: super::specs::vhost(random) }
}

/// An operator moves messages elsewhere that wait in a queue, as he saw them a while ago.
fn withdraw(random: &mut Random, ledger: &Ledger) -> Option<Settle> {
    let queue = name(random.pick(&QUEUES).expect("some"));
    let source = Source::Queue(queue);
    let outlet = ledger.source(&source).and_then(|id| ledger.outlets.get(&id))?;
    let items: Vec<_> = outlet.items.iter().collect();
    let mut settlements = Vec::new();
    for _ in 0..random.range(1, 6) {
        let (tag, item) = *random.pick(&items)?;
        let handed = item.is_in_hands() && !random.one_in(8);
        if handed || settlements.iter().any(|settlement: &Settlement| settlement.tag == *tag) {
            continue;
        }
        let attempt = Attempt(item.attempts + u32::from(random.one_in(20)));
        let outcome = Outcome::Withdrawn { body_bytes: item.stored.bytes };
        settlements.push(Settlement { tag: *tag, attempt, outcome });
    }
    Some(Settle { source, settlements })
}

fn error(random: &mut Random) -> Option<String> {
    random.maybe(50, |random| format!("no good {}", random.below(3)))
}

fn class(random: &mut Random) -> Option<String> {
    random.maybe(50, |random| random.pick(&ERROR_CLASSES).expect("some").to_string())
}

fn declare(random: &mut Random, now: Millis) -> Command {
    let (name, spec) = specs::declaration(random, now);
    Command::Declare(Declare { name, spec, change: random.percent(50), session: session(random) })
}

fn delete(random: &mut Random) -> Command {
    let (kind, name_of) = match random.below(5) {
        0 => (Kind::Topic, random.pick(&TOPICS)),
        4 => (Kind::Route, random.pick(&ROUTES)),
        1 => (Kind::Subscription, random.pick(&SUBSCRIPTIONS)),
        _ => (Kind::Queue, random.pick(&QUEUES)),
    };
    let (if_unused, if_empty) = (random.percent(40), random.percent(40));
    Command::Delete(Delete {
        kind,
        name: name(name_of.expect("some")),
        if_unused,
        if_empty,
        counted: if random.one_in(2) { Counted::Ready } else { Counted::All },
        session: session(random),
    })
}

fn with_consumer(
    random: &mut Random,
    ledger: &Ledger,
    command: impl FnOnce(&mut Random, ConsumerId) -> Command,
) -> Command {
    let consumers: Vec<ConsumerId> = ledger.consumers.keys().copied().collect();
    let consumer = random.pick(&consumers).copied().unwrap_or(ConsumerId(0));
    command(random, consumer)
}

fn publish(random: &mut Random, ledger: &Ledger, book: &mut Book, now: Millis) -> Publish {
    if random.percent(25) {
        let count = if random.percent(60) { 1 } else { random.range(2, 6) };
        let messages = (0..count).map(|_| message(random, book, now, false)).collect();
        return Publish {
            to: specs::by_route(random),
            partition: None,
            payload: Payload::Messages(messages),
        };
    }
    let to_topic = random.percent(35);
    let address = if to_topic { random.pick(&TOPICS) } else { random.pick(&QUEUES) };
    let address = name(address.expect("some"));
    let count = if random.percent(60) { 1 } else { random.range(2, 12) };
    let batch = random.one_in(8);
    // Topics refuse them; a batch is taken as it comes.
    let delays = !to_topic || !batch && random.one_in(10);
    let messages: Vec<_> = (0..count).map(|_| message(random, book, now, delays)).collect();
    let partitions =
        ledger.addresses.get(&address).and_then(|id| ledger.topics.get(id)).map(|t| t.logs.len());
    let partition = partitions.filter(|_| random.one_in(4)).map(|most| random.below(most as u64 + 1) as u32);
    let payload =
        if batch { Payload::Batch(specs::batch(random, &messages)) } else { Payload::Messages(messages) };
    Publish { to: Target::Address(address), partition, payload }
}

/// A message that is new to the world.
fn message(random: &mut Random, book: &mut Book, now: Millis, delays: bool) -> Message {
    let number = book.sent.len() as u64;
    book.sent.push(specs::message(random, number, now, delays));
    book.sent[number as usize].clone()
}

/// Publishes that stand alone: mostly of one message, and several to the same target one after the other.
fn each(random: &mut Random, ledger: &Ledger, book: &mut Book, now: Millis) -> Vec<Publish> {
    let mut all = Vec::new();
    for _ in 0..random.range(1, 4) {
        if random.one_in(6) {
            all.push(publish(random, ledger, book, now));
            continue;
        }
        let to = match random.below(10) {
            0..=5 => specs::by_route(random),
            6 => Target::Address(name(random.pick(&TOPICS).expect("some"))),
            _ => Target::Address(name(random.pick(&QUEUES).expect("some"))),
        };
        for _ in 0..random.range(1, 6) {
            let delays = matches!(to, Target::Address(_)) && random.one_in(3);
            let payload = Payload::One(message(random, book, now, delays));
            all.push(Publish { to: to.clone(), partition: None, payload });
        }
    }
    all
}

/// A binding: any, or one that is there.
fn bind(random: &mut Random, ledger: &Ledger, there: bool) -> Bind {
    let known: Vec<_> = ledger.routes.values().flat_map(|route| &route.bindings).collect();
    if there && let Some(bound) = random.pick(&known) {
        let to = match (ledger.outlets.get(&bound.to), ledger.topics.get(&bound.to)) {
            (Some(queue), _) => Destination::Address(queue.name.clone()),
            (_, Some(topic)) => Destination::Address(topic.name.clone()),
            _ => Destination::Route(ledger.routes[&bound.to].name.clone()),
        };
        let route = ledger.routes[&bound.route].name.clone();
        return Bind { route, to, key: bound.key.clone(), arguments: bound.arguments.clone() };
    }
    specs::bind(random)
}

/// Cancels a consumer that belongs to somebody: else nobody would ever give back what it holds.
fn cancel(random: &mut Random, ledger: &Ledger) -> Command {
    let owned = ledger.consumers.iter().filter(|(_, consumer)| consumer.session != SessionId(0));
    let owned: Vec<ConsumerId> = owned.map(|(id, _)| *id).collect();
    Command::Cancel(random.pick(&owned).copied().unwrap_or(ConsumerId(0)))
}

fn document(random: &mut Random) -> Command {
    let name = name(random.pick(&["a", "a/b", "a/c", "d"]).expect("some"));
    let body = random.maybe(75, |random| bytes::Bytes::from(format!("{}", random.below(4))));
    Command::Document { name, body }
}

fn seek(random: &mut Random, ledger: &Ledger) -> Command {
    let subscription = name(random.pick(&SUBSCRIPTIONS).expect("some"));
    let sources = ledger.subscriptions.get(&subscription).and_then(|id| ledger.outlets.get(id));
    let logs: Vec<_> = sources.into_iter().flat_map(|outlet| outlet.sources.values()).copied().collect();
    let to = random.pick(&logs).and_then(|log| {
        let topic = ledger.topics.get(&log.entity)?;
        let next = topic.next.get(usize::from(log.log))?;
        Some((topic.name.clone(), u32::from(log.log), Offset(random.below(next + 3))))
    });
    Command::Seek(Seek { subscription, to: to.into_iter().collect() })
}
