//! What calls live in: a disk, a clock, a broker with its engine, and their ends.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::task::JoinHandle;
use waystation_base::{Clock, MessageId, Millis, Name};
use waystation_broker::{
    SessionId,
    spec::{QueueSpec, Spec},
};
use waystation_calls::{CallId, Calls, Operation, State, limits::Limits};
use waystation_host::{Broker, Options, open_by_hand};
use waystation_testkit::{
    disk::{Crash, SimDisk},
    random::Random,
};

use crate::actors;

/// When a story begins: milliseconds since 1970.
const BEGIN_MS: u64 = 1_700_000_000_000;
/// Runs of the process in one story.
const LIVES_MAX: u64 = 4;
/// Who acts at a time in one run.
const ACTORS_MAX: u64 = 14;
/// Virtual milliseconds that one run lasts at most before it is cut.
const LIFE_MS_MAX: u64 = 80;
/// The operations.
pub const OPERATIONS: [&str; 2] = ["op", "short"];

/// The runtime's own time, which stands still while anybody has something to do.
struct VirtualClock(tokio::time::Instant);

impl Clock for VirtualClock {
    fn now(&self) -> Millis {
        Millis(BEGIN_MS + self.0.elapsed().as_millis() as u64)
    }
}

/// Where requests of calls go that have failed.
pub const DEAD: &str = "dead";

/// What somebody was told.
#[derive(Default)]
pub struct Told {
    /// Calls that were accepted: they must be there for ever.
    pub accepted: Vec<CallId>,
    /// Whose outcome somebody was told is his, and what it was.
    pub outcomes: HashMap<CallId, Vec<(State, String)>>,
    /// What a look at a finished call showed.
    pub seen: HashMap<CallId, Vec<(State, String)>>,
    /// By which call an idempotency key was answered.
    pub keys: HashMap<u8, Vec<CallId>>,
    /// Requests that were answered with an earlier call.
    pub replayed: u64,
}

/// One run of the process.
pub struct Life {
    pub broker: Broker,
    pub calls: Calls,
    pub clock: Arc<dyn Clock>,
    tasks: Vec<JoinHandle<()>>,
}

pub struct World {
    pub seed: u64,
    pub random: Random,
    pub told: Arc<Mutex<Told>>,
    pub life: Option<Life>,
    pub crashes: u64,
    pub read_at_start: u64,
    disk: SimDisk,
    clock: Arc<dyn Clock>,
    ids: Arc<Mutex<Random>>,
}

pub fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

/// Ids that the seed decides.
#[derive(Clone)]
pub struct Ids(Arc<Mutex<Random>>, Arc<dyn Clock>);

impl Ids {
    pub fn next(&self) -> CallId {
        let mut random = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let any = u128::from(random.any()) << 64 | u128::from(random.any());
        CallId(MessageId::new(self.1.now(), any))
    }
}

fn operation(name: &str) -> Operation {
    let allow = vec!["https://a.example.com/*".parse().expect("a pattern")];
    let callback = Some("https://a.example.com/x".to_owned());
    let base = Operation { callback_allow: allow, callback, max_attempts: 3, ..Operation::default() };
    match name {
        "op" => Operation { timeout_ms: 60, ..base },
        // Forgotten before the story is over.
        _ => Operation { timeout_ms: 20, retention_ms: 15, ..base },
    }
}

impl World {
    pub async fn new(seed: u64) -> World {
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock(tokio::time::Instant::now()));
        let mut random = Random::new(seed);
        let ids = Arc::new(Mutex::new(Random::new(random.any())));
        let disk = SimDisk::new(random.any());
        let mut world = World {
            seed,
            random,
            told: Arc::default(),
            life: None,
            crashes: 0,
            read_at_start: 0,
            disk,
            clock,
            ids,
        };
        world.begin().await;
        let life = world.life();
        for text in [DEAD].into_iter().chain(OPERATIONS) {
            let dead_letter = (text != DEAD).then(|| DEAD.to_owned());
            let queue = Spec::Queue(QueueSpec { dead_letter, ..QueueSpec::default() });
            life.broker.declare(name(text), queue, false, SessionId::default()).await.expect("declared");
        }
        for text in OPERATIONS {
            let declared = life.calls.declare(life.broker.clone(), name(text), operation(text), false).await;
            declared.expect("declared");
        }
        world
    }

    pub fn life(&self) -> &Life {
        self.life.as_ref().expect("a run")
    }

    pub fn ids(&self) -> Ids {
        Ids(self.ids.clone(), self.clock.clone())
    }

    /// Starts the process and waits until it knows its calls.
    async fn begin(&mut self) {
        let mut options = Options::new("/data");
        options.journal_file_bytes = 4 << 20;
        options.disk_reserve_bytes = 0;
        // All records stay, so that the end can be told from them.
        (options.hot_bytes, options.snapshot_bytes) = (1 << 40, 1 << 40);
        let disk = Arc::new(self.disk.clone());
        let (broker, driver, mut hand) =
            open_by_hand(options, disk, self.clock.clone()).unwrap_or_else(|error| panic!("{self}: {error}"));
        let limits = Limits { behind_bytes_min: self.random.range(1, 8_000), ..Limits::default() };
        let (calls, engine) = Calls::with_limits(broker.clone(), self.clock.clone(), limits);
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
        calls.ready().await;
        let figures = calls.figures();
        let line = figures.lines().find_map(|line| line.strip_prefix("waystation_calls_read_at_start "));
        self.read_at_start += line.and_then(|text| text.parse::<u64>().ok()).expect("a figure");
        self.life = Some(Life { broker, calls, clock: self.clock.clone(), tasks });
    }

    /// Ends the process where it stands.
    async fn crash(&mut self) {
        let life = self.life.take().expect("a run");
        for task in life.tasks {
            task.abort();
            let _ = task.await;
        }
        let crash = if self.random.one_in(2) { Crash::Power } else { Crash::Kill };
        self.disk.crash(crash);
        self.crashes += 1;
    }

    /// Several runs, all but the last of which are cut somewhere.
    pub async fn live(&mut self) {
        let lives = self.random.range(1, LIVES_MAX);
        for run in 0..lives {
            let acting: Vec<_> = (0..self.random.range(2, ACTORS_MAX))
                .map(|_| {
                    let random = Random::new(self.random.any());
                    tokio::spawn(actors::Actor::new(self, random).act())
                })
                .collect();
            if run + 1 < lives {
                tokio::time::sleep(Duration::from_millis(self.random.range(1, LIFE_MS_MAX))).await;
                acting.iter().for_each(JoinHandle::abort);
            }
            for actor in acting {
                let ended = actor.await;
                assert!(!ended.is_err_and(|error| error.is_panic()), "{self}: an actor has failed");
            }
            if run + 1 < lives {
                self.crash().await;
                self.begin().await;
            }
        }
    }

    /// Crashes once more and starts anew.
    pub async fn restart(&mut self) {
        self.crash().await;
        self.begin().await;
    }
}

impl std::fmt::Display for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "seed {}", self.seed)
    }
}
