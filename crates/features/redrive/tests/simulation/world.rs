//! What redrives live in: a disk, a clock, a broker with its jobs, clients and operators, and their ends.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tokio::task::JoinHandle;
use waystation_base::{Clock, Message, MessageId, Millis, Name};
use waystation_broker::{
    Refusal, SessionId, Source,
    command::{Failure, Outcome},
    spec::{QueueSpec, RetryPolicy, Spec, SubscriptionSpec, TopicSpec},
};
use waystation_host::{Broker, Options, open_by_hand};
use waystation_redrive::{Redrives, job::Maker};
use waystation_testkit::{
    disk::{Crash, Faults, SimDisk},
    random::Random,
};

use crate::books::{Books, Place, number};

/// The data directory.
pub const DATA: &str = "/data";
/// Where consumers work.
pub const SOURCES: [&str; 2] = ["work", "readers"];
/// Where messages are.
pub const PLACES: [&str; 4] = ["work", "readers", "work.dead", "readers.dead"];
/// When a story begins: milliseconds since 1970.
const BEGIN_MS: u64 = 1_700_000_000_000;
/// Runs of the process in one story.
const RUNS: u64 = 6;
/// Virtual milliseconds that a run lasts at most before it is cut.
const RUN_MS_MAX: u64 = 600;
/// Rounds in which everything must have come out at the end.
const ROUNDS_MAX: usize = 2_000;

/// The runtime's own time, which stands still while anybody has something to do.
struct VirtualClock(tokio::time::Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Millis {
        Millis(BEGIN_MS + self.0.elapsed().as_millis() as u64)
    }
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Did {
    published: u64,
    accepted: u64,
    redriven: u64,
    undone: u64,
    crashes: u64,
    /// The disk failed.
    failures: u64,
    moments: u64,
}

impl Did {
    pub fn add(&mut self, other: &Did) {
        self.published += other.published;
        self.accepted += other.accepted;
        self.redriven += other.redriven;
        self.undone += other.undone;
        self.crashes += other.crashes;
        self.failures += other.failures;
        self.moments += other.moments;
    }

    pub fn is_busy(&self) -> bool {
        [self.published, self.accepted, self.redriven, self.undone, self.crashes, self.failures]
            .iter()
            .all(|count| *count > 0)
    }
}

/// One run of the process.
struct Run {
    broker: Broker,
    redrives: Redrives,
    tasks: Vec<JoinHandle<()>>,
}

pub struct World {
    random: Random,
    disk: SimDisk,
    clock: Arc<dyn Clock>,
    run: Option<Run>,
    books: Books,
    /// Whether the broker said that it has each message.
    sent: BTreeMap<u64, bool>,
    /// Whether it said so of what was acknowledged.
    accepted: BTreeMap<u64, bool>,
    did: Did,
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn source(text: &str) -> Source {
    match text {
        "readers" => Source::Subscription(name(text)),
        _ => Source::Queue(name(text)),
    }
}

fn retry() -> Option<Box<RetryPolicy>> {
    Some(Box::new(RetryPolicy { first_ms: 5, most_ms: 40, attempts_max: Some(3), ..RetryPolicy::default() }))
}

impl World {
    pub async fn new(seed: u64) -> World {
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock(tokio::time::Instant::now()));
        let mut random = Random::new(seed);
        let disk = SimDisk::new(random.any());
        let (books, sent, accepted) = (Books::default(), BTreeMap::new(), BTreeMap::new());
        let mut world = World { random, disk, clock, run: None, books, sent, accepted, did: Did::default() };
        world.begin();
        let work =
            QueueSpec { dead_letter: Some("work.dead".into()), retry: retry(), ..QueueSpec::default() };
        let dead_letter = Some("readers.dead".into());
        let readers = SubscriptionSpec { dead_letter, retry: retry(), ..SubscriptionSpec::new("news") };
        for (text, spec) in [
            ("work.dead", Spec::Queue(QueueSpec::default())),
            ("readers.dead", Spec::Queue(QueueSpec::default())),
            ("work", Spec::Queue(work)),
            ("news", Spec::Topic(TopicSpec::default())),
            ("readers", Spec::Subscription(readers)),
        ] {
            world.broker().declare(name(text), spec, false, SessionId::default()).await.expect("declared");
        }
        world
    }

    fn broker(&self) -> &Broker {
        &self.run.as_ref().expect("a run").broker
    }

    fn redrives(&self) -> &Redrives {
        &self.run.as_ref().expect("a run").redrives
    }

    fn begin(&mut self) {
        let mut options = Options::new(DATA);
        options.journal_file_bytes = 4 << 20;
        options.disk_reserve_bytes = 0;
        // All of the journal stays, so that it can be read after a crash.
        (options.hot_bytes, options.snapshot_bytes) = (1 << 40, 1 << 40);
        let opened = open_by_hand(options, Arc::new(self.disk.clone()), self.clock.clone());
        let (broker, driver, mut hand) = opened.expect("it opens after any crash");
        let (redrives, engine) = Redrives::new(broker.clone(), self.clock.clone(), None);
        let mut pace = Random::new(self.random.any());
        let tasks = vec![
            tokio::spawn(async move {
                // A driver that fails is found by those who hear nothing.
                let _ = driver.run(std::future::pending()).await;
            }),
            tokio::spawn(async move {
                let _ = engine.run(std::future::pending()).await;
            }),
            tokio::spawn(async move {
                loop {
                    tokio::time::sleep(Duration::from_millis(pace.below(3))).await;
                    // Now and then a sync is slow, and much comes together.
                    if !pace.one_in(4) {
                        hand.sync();
                    }
                    hand.read();
                }
            }),
        ];
        self.run = Some(Run { broker, redrives, tasks });
    }

    /// Ends the process where it stands, and reads what is left.
    async fn crash(&mut self) {
        let run = self.run.take().expect("a run");
        self.did.undone += run.redrives.list().iter().map(|one| one.undone).sum::<u64>();
        drop(run.redrives);
        for task in run.tasks {
            task.abort();
            let _ = task.await;
        }
        drop(run.broker);
        self.disk.set_faults(Faults::default());
        self.disk.crash(if self.random.one_in(3) { Crash::Kill } else { Crash::Power });
        self.did.crashes += 1;
        self.books.read(&self.disk);
        for (n, surely) in &self.sent {
            assert!(self.books.has(*n) || !surely, "{n} was confirmed");
        }
        for (n, surely) in &self.accepted {
            assert!(self.books.accepted(*n) || !surely, "{n} was acknowledged");
        }
    }

    /// Several runs, each of which is cut somewhere.
    pub async fn live(&mut self) {
        for _ in 0..RUNS {
            if self.random.one_in(4) {
                let faults = Faults { write_error_one_in: 200, sync_error_one_in: 120, ..Faults::default() };
                self.disk.set_faults(faults);
            }
            let cut = Duration::from_millis(self.random.range(1, RUN_MS_MAX));
            let acting = async { while self.act().await.is_ok() {} };
            // Whoever waits for an answer then never hears it.
            if tokio::time::timeout(cut, acting).await.is_ok() {
                self.did.failures += 1;
            }
            self.crash().await;
            self.begin();
        }
    }

    /// Works off all that is there; gives what was done, and the entries of the journal.
    pub async fn end(mut self) -> (Did, Vec<Place>) {
        let mut rounds = 0;
        while !self.is_finished().await {
            rounds += 1;
            assert!(rounds < ROUNDS_MAX, "what is left never came out");
            for place in SOURCES {
                self.consume(place, true).await.expect("consumed");
            }
            self.redrive(false).await.expect("redriven");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.crash().await;
        assert_eq!(self.books.left(), 0);
        self.did.moments = self.books.moments();
        (self.did, self.books.places)
    }

    async fn is_finished(&self) -> bool {
        for place in ["work", "work.dead", "readers.dead"] {
            let queue = self.broker().queue(name(place)).await.expect("a queue");
            if queue.ready + queue.in_flight + queue.delayed > 0 {
                return false;
            }
        }
        let readers = self.broker().subscription(name("readers")).await.expect("a subscription");
        readers.lag + readers.in_flight + readers.delayed == 0
    }

    async fn act(&mut self) -> Result<(), Refusal> {
        match self.random.below(10) {
            0..=2 => self.publish().await,
            3..=5 => self.consume("work", false).await,
            6 | 7 => self.consume("readers", false).await,
            _ => self.redrive(true).await,
        }?;
        tokio::time::sleep(Duration::from_millis(self.random.below(6))).await;
        Ok(())
    }

    async fn publish(&mut self) -> Result<(), Refusal> {
        let (mut messages, mut numbers) = (Vec::new(), Vec::new());
        let to = if self.random.one_in(3) { "news" } else { "work" };
        for _ in 0..self.random.range(1, 6) {
            let (n, now) = (self.sent.len() as u64, self.clock.now());
            let mut message = Message::new(MessageId::new(now, u128::from(n) << 64), now, n.to_string());
            let waits = to == "work" && self.random.one_in(5);
            message.deliver_at = waits.then(|| now.plus(self.random.range(1, 150)));
            self.sent.insert(n, false);
            numbers.push(n);
            messages.push(message);
        }
        self.broker().publish(name(to), messages).await?;
        self.did.published += numbers.len() as u64;
        self.sent.extend(numbers.into_iter().map(|n| (n, true)));
        Ok(())
    }

    async fn consume(&mut self, place: &str, all: bool) -> Result<(), Refusal> {
        // Some leases are over before the messages are settled.
        let (lease, wait) = (Some(self.random.range(1, 40) * 40), Duration::from_millis(5));
        let taken = self.broker().receive(source(place), 6, wait, lease, self.clock.now()).await?;
        let (mut settlements, mut accepted) = (Vec::new(), Vec::new());
        for delivery in &taken {
            let n = number(&delivery.message);
            assert_ne!(self.accepted.get(&n), Some(&true), "{n} came again after it was accepted");
            let outcome = match self.random.below(10) {
                chance if all || chance < 4 => {
                    self.accepted.insert(n, false);
                    accepted.push(n);
                    Outcome::Accepted
                }
                4 | 5 => Outcome::Rejected { error: Some("no".into()), class: None },
                6 => Outcome::Failed(Failure { error: Some("busy".into()), class: None, delay_ms: None }),
                7 => Outcome::Requeued { delay_ms: self.random.below(30) },
                8 => Outcome::Lost,
                // Its lease ends.
                _ => continue,
            };
            settlements.push(delivery.settlement(outcome));
        }
        match self.broker().settle(source(place), settlements).await {
            Ok(()) => {
                self.did.accepted += accepted.len() as u64;
                self.accepted.extend(accepted.into_iter().map(|n| (n, true)));
                Ok(())
            }
            Err(Refusal::Stopped(why)) => Err(Refusal::Stopped(why)),
            // Some lease was over before: then nothing of it was done.
            Err(_) => Ok(()),
        }
    }

    async fn redrive(&mut self, undoes: bool) -> Result<(), Refusal> {
        let known = self.redrives().list();
        if let Some(one) = self.random.pick(&known).filter(|_| undoes && self.random.one_in(3)) {
            // It may refuse, if it has been undone.
            let _ = self.redrives().undo(&one.id).await;
            return Ok(());
        }
        let spec = match self.random.one_in(2) {
            true => r#"{"from": ["work.dead"], "to": "work", "which": {"all": true}}"#,
            // Each to the subscription alone in which it failed.
            false => r#"{"from": ["readers.dead"], "which": {"all": true}}"#,
        };
        let spec: waystation_redrive::Spec = serde_json::from_str(spec).expect("a redrive");
        let queues =
            self.redrives().queues(&spec).await.map_err(|error| Refusal::Stopped(error.to_string()))?;
        // It may refuse: many are under way.
        if let Ok(begun) = self.redrives().begin(spec, queues, Maker::default()).await {
            self.did.redriven += 1;
            if undoes && self.random.one_in(3) {
                tokio::time::sleep(Duration::from_millis(self.random.below(15))).await;
                let _ = self.redrives().undo(&begun.id).await;
            }
        }
        Ok(())
    }
}
