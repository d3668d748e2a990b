//! What routes live in: a disk, a clock, clients and operators, and the ends of the process.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use waystation_base::Millis;
use waystation_broker::{
    Refusal,
    command::{Outcome, Payload, Publish, Settle, Target, Transaction},
};
use waystation_testkit::{
    disk::{Crash, Faults, SimDisk},
    random::Random,
};

use crate::{
    books::{Books, Figures, may_come_back},
    doc::{Doc, KINDS, VALUES},
    hold::Hold,
    node::{Node, name, sink},
    plan::{self, Plan},
};

/// The data directory.
pub const DATA: &str = "/data";
/// When a story begins: milliseconds since 1970.
const BEGIN: Millis = Millis(1_700_000_000_000);
/// Runs of the process in one story.
const RUNS: u64 = 5;
/// Sequences of numbered messages, for each route that wants such.
const LINES: u64 = 3;
/// Virtual milliseconds that a run lasts at most before it is cut.
const RUN_MS_MAX: u64 = 400;
/// Virtual milliseconds that the process is down at most.
const DOWN_MS_MAX: u64 = 300;
/// Dead letters that are looked at at a time: more than there are.
const LETTERS_MAX: u32 = 1_000;
/// Rounds in which everything must have come out at the end.
const ROUNDS_MAX: usize = 2_000;

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Did {
    published: u64,
    accepted: u64,
    brought_back: u64,
    paused: u64,
    crashes: u64,
    /// The disk failed.
    failures: u64,
    saw: Figures,
}

impl Did {
    fn all(&mut self) -> [&mut u64; 11] {
        let Did { published, accepted, brought_back, paused, crashes, failures, saw } = self;
        let Figures { moments, expired, whole, timed_out, late } = saw;
        [
            published,
            accepted,
            brought_back,
            paused,
            crashes,
            failures,
            moments,
            expired,
            whole,
            timed_out,
            late,
        ]
    }

    pub fn add(&mut self, mut other: Did) {
        for (sum, more) in self.all().into_iter().zip(other.all()) {
            *sum += *more;
        }
    }

    pub fn is_busy(mut self) -> bool {
        self.all().iter().all(|count| **count > 0)
    }
}

pub struct World {
    random: Random,
    disk: SimDisk,
    now: Millis,
    plan: Arc<Plan>,
    /// Nothing fails but what messages are to blame for.
    is_calm: bool,
    books: Books,
    /// Whether the broker said that it has each message.
    sent: BTreeMap<u64, bool>,
    /// Messages that were made.
    made: u64,
    /// Of each sequence of a route: its last number that was made, and messages that are sent later than those behind them.
    lines: BTreeMap<(usize, u64), u64>,
    kept_back: Vec<(usize, Doc)>,
    did: Did,
}

/// Lives through the story of a seed; gives what was done, and what the journal says.
pub fn live(seed: u64) -> (Did, Books) {
    let mut random = Random::new(seed);
    let (is_calm, plan) = (random.one_in(2), Arc::new(Plan::draw(&mut random)));
    let (disk, books) = (SimDisk::new(random.any()), Books::new(plan.clone(), is_calm));
    let mut world = World {
        random,
        disk,
        now: BEGIN,
        plan,
        is_calm,
        books,
        sent: BTreeMap::new(),
        made: 0,
        lines: BTreeMap::new(),
        kept_back: Vec::new(),
        did: Did::default(),
    };
    for run in 0..=RUNS {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime");
        runtime.block_on(world.run(run));
        // All ends where it waits.
        drop(runtime);
        world.crash();
    }
    world.end()
}

impl World {
    async fn run(&mut self, run: u64) {
        let node = Node::open(&self.disk, self.now, &mut self.random, self.is_calm || run == RUNS).await;
        if run == 0 {
            node.declare(&self.plan, self.is_calm).await;
        }
        if run == RUNS {
            self.finish(&node).await;
        } else {
            self.work(&node).await;
        }
        self.now = node.clock.now().plus(self.random.below(DOWN_MS_MAX));
    }

    /// Works until it is cut somewhere.
    async fn work(&mut self, node: &Node) {
        if self.random.one_in(4) {
            let faults = Faults { write_error_one_in: 200, sync_error_one_in: 120, ..Faults::default() };
            self.disk.set_faults(faults);
        }
        let cut = Duration::from_millis(self.random.range(1, RUN_MS_MAX));
        let acting = async { while self.act(node).await.is_ok() {} };
        // Whoever waits for an answer then never hears it.
        if tokio::time::timeout(cut, acting).await.is_ok() {
            self.did.failures += 1;
        }
    }

    /// The process or the power is gone; reads what is left.
    fn crash(&mut self) {
        self.disk.set_faults(Faults::default());
        self.disk.crash(if self.random.one_in(3) { Crash::Kill } else { Crash::Power });
        self.did.crashes += 1;
        self.books.read(&self.disk);
        for (n, surely) in &self.sent {
            assert!(self.books.has(*n) || !surely, "{n} was confirmed");
        }
    }

    /// Works off all that is there.
    async fn finish(&mut self, node: &Node) {
        for number in 0..self.plan.routes.len() {
            node.routes.set_paused(&name(&plan::name(number)), false, &node.broker).await.expect("it works");
        }
        let mut rounds = 0;
        loop {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "what is left never came out");
            for place in self.plan.sinks() {
                self.consume(node, &place, true).await.expect("consumed");
            }
            // In the order in which messages pass them: what one is done with is not overlooked on its way to the next.
            let mut waiting = 0;
            for number in 0..self.plan.routes.len() {
                waiting += node.waiting(&self.plan, number).await;
                self.bring_back(node, number).await.expect("brought back");
            }
            if waiting == 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // What is durable behind it makes all of it durable.
        node.broker.put_document(name("end"), Some("end".into())).await.expect("written");
    }

    fn end(mut self) -> (Did, Books) {
        self.books.check_end();
        self.did.saw = self.books.figures();
        (self.did, self.books)
    }

    async fn act(&mut self, node: &Node) -> Result<(), Refusal> {
        let number = self.random.below(self.plan.routes.len() as u64) as usize;
        match self.random.below(12) {
            0..=5 => self.publish(node, number).await,
            6..=9 => {
                let place = self.random.pick(&self.plan.sinks()).expect("a place").clone();
                self.consume(node, &place, false).await
            }
            10 => self.bring_back(node, number).await,
            _ => self.pause(node, number).await,
        }?;
        tokio::time::sleep(Duration::from_millis(self.random.below(6))).await;
        Ok(())
    }

    async fn publish(&mut self, node: &Node, number: usize) -> Result<(), Refusal> {
        let (mut messages, mut numbers) = (Vec::new(), Vec::new());
        let (to, takes_topic) = (plan::source(number), self.plan.routes[number].takes_topic);
        for doc in self.docs(number) {
            let (n, now) = (doc.n, node.clock.now());
            let mut message = doc.message(now);
            let waits = !takes_topic && self.random.one_in(5);
            message.deliver_at = waits.then(|| now.plus(self.random.range(1, 150)));
            message.key = self.random.maybe(70, |random| vec![b'a' + random.below(3) as u8].into());
            self.books.expect(&to, &doc);
            self.sent.insert(n, false);
            numbers.push(n);
            messages.push(message);
        }
        node.broker.publish(name(&to), messages).await?;
        self.did.published += numbers.len() as u64;
        self.sent.extend(numbers.into_iter().map(|n| (n, true)));
        Ok(())
    }

    /// What is published to a route's source.
    fn docs(&mut self, number: usize) -> Vec<Doc> {
        let count = self.random.range(1, 6);
        let is_numbered = self.plan.routes[number].hold().is_some_and(Hold::is_resequencer);
        let mut docs: Vec<Doc> = (0..count).map(|_| self.doc(number, is_numbered)).collect();
        if is_numbered {
            for at in 0..docs.len() {
                let other = self.random.below(docs.len() as u64) as usize;
                docs.swap(at, other);
            }
            let late =
                self.kept_back.iter().position(|(of, _)| *of == number).filter(|_| self.random.one_in(3));
            docs.extend(late.map(|at| self.kept_back.remove(at).1));
            if docs.len() > 1 && self.random.one_in(4) {
                self.kept_back.extend(docs.pop().map(|doc| (number, doc)));
            }
        }
        docs
    }

    fn doc(&mut self, number: usize, is_numbered: bool) -> Doc {
        let (n, a) = (self.made, self.random.below(VALUES));
        let kind = (*self.random.pick(&KINDS).expect("a kind")).to_owned();
        self.made += 1;
        let mut doc = Doc { n, a, way: String::new(), line: 0, number: 0, kind };
        if is_numbered {
            doc.line = self.random.below(LINES);
            let last = self.lines.entry((number, doc.line)).or_default();
            *last += 1;
            doc.number = *last;
        }
        doc
    }

    async fn consume(&mut self, node: &Node, place: &str, all: bool) -> Result<(), Refusal> {
        // Some leases are over before the messages are settled.
        let (lease, wait) = (Some(self.random.range(1, 40) * 40), Duration::from_millis(5));
        let taken = node.broker.receive(sink(place), 8, wait, lease, node.clock.now()).await?;
        let mut settlements = Vec::new();
        for delivery in &taken {
            let outcome = match self.random.below(10) {
                chance if all || chance < 7 => Outcome::Accepted,
                7 => Outcome::Requeued { delay_ms: self.random.below(30) },
                8 => Outcome::Lost,
                // Its lease ends.
                _ => continue,
            };
            settlements.push(delivery.settlement(outcome));
        }
        let count = settlements.len() as u64;
        match node.broker.settle(sink(place), settlements).await {
            Ok(()) => {
                self.did.accepted += count;
                Ok(())
            }
            Err(Refusal::Stopped(why)) => Err(Refusal::Stopped(why)),
            // Some lease was over before: then nothing of it was done.
            Err(_) => Ok(()),
        }
    }

    /// Brings dead letters back that failed for what may do better.
    async fn bring_back(&mut self, node: &Node, number: usize) -> Result<(), Refusal> {
        let source = sink(&plan::dead(number));
        let (wait, lease) = (Duration::from_millis(5), Some(30_000));
        let taken = node.broker.receive(source.clone(), LETTERS_MAX, wait, lease, node.clock.now()).await?;
        let (mut messages, mut settlements) = (Vec::new(), Vec::new());
        for delivery in taken {
            let comes_back = may_come_back(&delivery.message);
            settlements.push(delivery.settlement(if comes_back {
                Outcome::Accepted
            } else {
                Outcome::Released
            }));
            if comes_back {
                let mut message = delivery.message;
                message.headers.0.retain(|(name, _)| !name.starts_with("ws-death"));
                messages.push(message);
            }
        }
        let count = messages.len() as u64;
        let to = Target::Address(name(&plan::source(number)));
        let publish = Publish { to, partition: None, payload: Payload::Messages(messages) };
        let publishes = if count > 0 { vec![publish] } else { Vec::new() };
        let settlements = vec![Settle { source, settlements }];
        node.broker.transact(Transaction { publishes, settlements }).await?;
        self.did.brought_back += count;
        Ok(())
    }

    async fn pause(&mut self, node: &Node, number: usize) -> Result<(), Refusal> {
        // It mostly works.
        let is_paused = self.random.one_in(3);
        let paused = node.routes.set_paused(&name(&plan::name(number)), is_paused, &node.broker).await;
        self.did.paused += u64::from(matches!(paused, Ok(true)));
        Ok(())
    }
}
