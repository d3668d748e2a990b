//! One life: what clients and operators do until the power goes, again and again, and what must be true then.

use std::{collections::BTreeMap, time::Duration};

use serde_json::json;
use waystation_base::{Clock, os::OsClock};
use waystation_broker::{
    Source,
    command::{Failure, Outcome},
};
use waystation_host::Delivery;
use waystation_redrive::job::Maker;
use waystation_testkit::{
    disk::{Crash, Faults, SimDisk},
    random::Random,
};

use crate::{
    books::{Books, Written},
    census::Census,
    kind::{Kind, Known, check},
    server::{HOLD, HOLD_ASK, HOLD_LINE, Server, message, name},
    service::{Asked, Do, Service},
};

/// Crashes in a life, at least.
const CRASHES: u64 = 8;
/// Crashes in one that has not done everything by then, as on a machine that is busy.
const CRASHES_MAX: u64 = 60;
/// Long enough for anything that happens at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// Groups that sums are made for.
const GROUPS: u64 = 3;

/// What a life did.
#[derive(Clone, Copy, Debug, Default)]
pub struct Did {
    pub published: u64,
    pub accepted: u64,
    pub crashes: u64,
    /// The disk failed, so that the broker stopped.
    pub failures: u64,
    pub redriven: u64,
    pub combined: u64,
    /// What a redrive had brought back and was taken away again.
    pub undone: u64,
    pub ordered: u64,
    pub answered: u64,
    pub found: u64,
    /// Entries of the journal after which every account was looked at.
    pub entries: u64,
    /// Moments at which no step was half done, and every message was in one place.
    pub moments: u64,
}

impl Did {
    /// Clients, consumers and operators did something.
    pub fn works(&self) -> bool {
        [self.published, self.accepted, self.redriven, self.undone].iter().all(|count| *count > 0)
    }

    /// What it is about was done.
    pub fn is_busy(&self) -> bool {
        let made = [self.combined, self.ordered, self.answered, self.found];
        self.works() && made.iter().all(|count| *count > 0)
    }
}

struct Life {
    random: Random,
    disk: SimDisk,
    sent: BTreeMap<u64, (Kind, Known)>,
    /// What consumers acknowledged of work and news.
    accepted: BTreeMap<u64, Known>,
    /// The next number of each group.
    numbers: [u64; GROUPS as usize],
    did: Did,
}

/// Lives through one; panics where something is not as it should be.
/// Returns what it did and what the journal kept of it.
pub fn live(seed: u64) -> (Did, Vec<Written>) {
    let mut random = Random::new(seed);
    let disk = SimDisk::new(random.any());
    let (sent, accepted, numbers) = (BTreeMap::new(), BTreeMap::new(), [1; GROUPS as usize]);
    let mut life = Life { random, disk, sent, accepted, numbers, did: Did::default() };
    let mut books = Books::default();
    let service = failing_service();
    let mut server = Server::open(&life.disk);
    server.declare(&service.url());
    while life.did.crashes < CRASHES || !life.did.works() && life.did.crashes < CRASHES_MAX {
        life.work(&server);
        life.did.undone = life.did.undone.max(undone(&server));
        let crash = if life.random.one_in(3) { Crash::Kill } else { Crash::Power };
        server.crash(&life.disk, crash);
        books.read(&life.disk);
        life.check_books(&books);
        life.did.crashes += 1;
        server = Server::open(&life.disk);
        life.check(&Census::take(&server), false);
        server.begin_work();
    }
    life.finish(&server);
    life.did.undone = undone(&server);
    server.crash(&life.disk, Crash::Power);
    books.read(&life.disk);
    life.check_books(&books);
    let server = Server::open(&life.disk);
    let census = Census::take(&server);
    life.check(&census, true);
    life.did.combined = census.of("sums") as u64;
    life.did.ordered = census.of("ordered") as u64;
    life.did.answered = census.of("replies") as u64;
    life.did.found = census.of("found") as u64;
    (life.did.entries, life.did.moments) = books.looks();
    (life.did, books.written)
}

/// How much of what redrives brought back was taken away again.
fn undone(server: &Server) -> u64 {
    let redrives = &server.features.as_ref().expect("it works").redrives;
    redrives.list().iter().map(|one| one.undone).sum()
}

/// A service that cannot answer each third request.
fn failing_service() -> Service {
    let mut requests = 0;
    Service::new(move |_: &Asked| {
        requests += 1;
        match requests % 3 {
            0 => Do::Answer(503, "", "not now".into()),
            _ => Do::Answer(200, "content-type: application/json\r\n", "true".into()),
        }
    })
}

impl Life {
    /// Does this and that until the power goes.
    fn work(&mut self, server: &Server) {
        if self.random.one_in(3) {
            let faults = Faults { write_error_one_in: 60, sync_error_one_in: 40, ..Faults::default() };
            self.disk.set_faults(faults);
        }
        // By acts, not by time: a busy machine does as much until the power goes.
        let acts = self.random.range(2, 60);
        let cut = Duration::from_micros(self.random.below(20_000));
        server.runtime.block_on(async {
            for _ in 0..acts {
                if self.act(server).await.is_err() {
                    self.did.failures += 1;
                    // Nothing is accepted any more until it is started again.
                    return;
                }
            }
            // Whoever waits for an answer then never hears it.
            let _ = tokio::time::timeout(cut, async { while self.act(server).await.is_ok() {} }).await;
        });
    }

    async fn act(&mut self, server: &Server) -> Result<(), ()> {
        match self.random.below(10) {
            0..=4 => self.publish(server).await,
            5..=7 => self.consume(server, Source::Queue(name("right"))).await,
            8 => self.consume(server, Source::Subscription(name("readers"))).await,
            _ => self.redrive(server).await,
        }?;
        tokio::time::sleep(Duration::from_micros(self.random.below(4_000))).await;
        Ok(())
    }

    async fn publish(&mut self, server: &Server) -> Result<(), ()> {
        let (mut messages, mut numbers) = (Vec::new(), Vec::new());
        for _ in 0..self.random.range(1, 6) {
            let n = self.sent.len() as u64;
            let (kind, text) = *self.random.pick(&Kind::ALL).expect("some");
            self.sent.insert(n, (kind, Known::Perhaps));
            let group = n % GROUPS;
            let next = &mut self.numbers[group as usize];
            let seq = *next;
            *next += u64::from(kind == Kind::Line);
            let body = json!({"n": n, "kind": text, "group": group, "seq": seq});
            let delay = self.random.maybe(20, |random| Duration::from_millis(random.range(1, 150)));
            messages.push(message(n, &body, delay));
            numbers.push((n, kind));
        }
        server.broker.publish(name("in"), messages).await.map_err(drop)?;
        self.did.published += numbers.len() as u64;
        self.sent.extend(numbers.into_iter().map(|(n, kind)| (n, (kind, Known::Surely))));
        Ok(())
    }

    async fn consume(&mut self, server: &Server, source: Source) -> Result<(), ()> {
        // Some are over before they are settled.
        let (lease, wait) = (Some(self.random.range(1, 40) * 40), Duration::from_millis(5));
        let taken =
            server.broker.receive(source.clone(), 6, wait, lease, OsClock.now()).await.map_err(drop)?;
        let (mut settlements, mut accepted) = (Vec::new(), Vec::new());
        for delivery in &taken {
            let n = number(delivery);
            assert_ne!(self.accepted.get(&n), Some(&Known::Surely), "{n} came again after it was accepted");
            let outcome = match self.random.below(10) {
                0..=3 => {
                    self.accepted.insert(n, Known::Perhaps);
                    accepted.push(n);
                    Outcome::Accepted
                }
                4 => Outcome::Rejected { error: Some("no".into()), class: None },
                5 | 6 => Outcome::Failed(Failure { error: Some("busy".into()), class: None, delay_ms: None }),
                7 => Outcome::Requeued { delay_ms: self.random.below(30) },
                8 => Outcome::Lost,
                // Its lease ends.
                _ => continue,
            };
            settlements.push(delivery.settlement(outcome));
        }
        match server.broker.settle(source, settlements).await {
            Ok(()) => {
                self.did.accepted += accepted.len() as u64;
                self.accepted.extend(accepted.into_iter().map(|n| (n, Known::Surely)));
                Ok(())
            }
            // Some lease was over before: then nothing of it was done, or all of it.
            Err(waystation_broker::Refusal::Stopped(_)) => Err(()),
            Err(_) => Ok(()),
        }
    }

    async fn redrive(&mut self, server: &Server) -> Result<(), ()> {
        let redrives = &server.features.as_ref().expect("it works").redrives;
        let known = redrives.list();
        if let Some(one) = self.random.pick(&known).filter(|_| self.random.one_in(3)) {
            // What was brought back and not taken yet goes back; it may refuse, if it has not ended.
            let _ = redrives.undo(&one.id).await;
            return Ok(());
        }
        let spec = match self.random.one_in(2) {
            true => r#"{"from": ["right.dead"], "to": "right", "which": {"all": true}}"#,
            // Each to the subscription alone in which it failed.
            false => r#"{"from": ["readers.dead"], "which": {"all": true}}"#,
        };
        let spec: waystation_redrive::Spec = serde_json::from_str(spec).expect("a redrive");
        let Ok(queues) = redrives.queues(&spec).await else { return Err(()) };
        // It may refuse: many are running.
        if let Ok(begun) = redrives.begin(spec, queues, Maker::default()).await {
            self.did.redriven += 1;
            if self.random.one_in(3) {
                // Somebody thinks better of it, before all is taken.
                tokio::time::sleep(Duration::from_millis(self.random.below(15))).await;
                let _ = redrives.undo(&begun.id).await;
            }
        }
        Ok(())
    }

    /// Works off all that is there.
    fn finish(&mut self, server: &Server) {
        server.runtime.block_on(async {
            let finishing = async {
                while !self.is_finished(server).await {
                    for source in [Source::Queue(name("right")), Source::Subscription(name("readers"))] {
                        self.accept_all(server, source).await;
                    }
                    if has_dead_letters(server).await {
                        let _ = self.redrive(server).await;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            if tokio::time::timeout(PATIENCE, finishing).await.is_err() {
                panic!("what is left never came out");
            }
        });
    }

    async fn is_finished(&self, server: &Server) -> bool {
        let broker = &server.broker;
        for queue in [
            "in",
            "left",
            "right",
            "right.dead",
            "readers.dead",
            "numbered",
            "asks",
            "bank",
            "quotes",
            "lookups",
        ] {
            let queue = broker.queue(name(queue)).await.expect("a queue");
            if queue.ready + queue.in_flight + queue.delayed > 0 {
                return false;
            }
        }
        let readers = broker.subscription(name("readers")).await.expect("a subscription");
        let is_marker =
            |message: &waystation_base::Message| message.headers.text("ws-hold-role") == Some("marker");
        for hold in [HOLD, HOLD_LINE, HOLD_ASK] {
            // What was noted of tries has left with what it spoke of.
            let held = server.lying(waystation_host::Target::Queue(name(hold))).await;
            if !held.iter().all(is_marker) {
                return false;
            }
        }
        readers.lag + readers.in_flight + readers.delayed == 0
    }

    async fn accept_all(&mut self, server: &Server, source: Source) {
        let taken =
            server.broker.receive(source.clone(), 50, Duration::from_millis(1), Some(30_000), OsClock.now());
        let taken = taken.await.expect("received");
        for delivery in &taken {
            let n = number(delivery);
            assert_ne!(self.accepted.get(&n), Some(&Known::Surely), "{n} came again after it was accepted");
            self.accepted.insert(n, Known::Surely);
        }
        let settlements = taken.iter().map(|delivery| delivery.settlement(Outcome::Accepted)).collect();
        server.broker.settle(source, settlements).await.expect("accepted");
    }

    /// Every message is in one place, and in one only, and those with numbers left in the order of these: what came late is a dead letter.
    fn check(&self, census: &Census, is_end: bool) {
        census.check_order();
        for (n, (kind, sent)) in &self.sent {
            check(*n, *kind, *sent, self.accepted.get(n).copied(), census);
            if is_end {
                let places = ["in", "left", HOLD, "right", "right.dead", "readers", "readers.dead"];
                let left = census.sum(*n, &places)
                    + census.sum(*n, &["numbered", HOLD_LINE, "asks", HOLD_ASK, "bank", "quotes", "lookups"]);
                assert_eq!(left, 0, "{n} is in {}", census.places(*n));
            }
        }
    }

    /// The journal has what clients were told that it has, and nothing that nobody sent.
    fn check_books(&self, books: &Books) {
        for (n, (_, sent)) in &self.sent {
            assert!(books.has(*n) || *sent == Known::Perhaps, "{n} was confirmed");
        }
        for (n, accepted) in &self.accepted {
            assert!(books.accepted(*n) || *accepted == Known::Perhaps, "{n} was acknowledged");
        }
    }
}

async fn has_dead_letters(server: &Server) -> bool {
    for queue in ["right.dead", "readers.dead"] {
        if server.broker.queue(name(queue)).await.expect("a queue").ready > 0 {
            return true;
        }
    }
    false
}

fn number(delivery: &Delivery) -> u64 {
    let body: serde_json::Value = serde_json::from_slice(&delivery.message.body).expect("JSON");
    body["n"].as_u64().expect("a number")
}
