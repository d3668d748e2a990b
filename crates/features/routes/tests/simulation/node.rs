//! One run of the process: a broker with its routes, and the hands that write for it and evaluate for it.

use std::{
    io,
    sync::{Arc, Mutex},
    time::Duration,
};

use waystation_base::{Chance, Clock, Message, Millis, Name};
use waystation_broker::{
    SessionId, Source,
    spec::{Overflow, QueueSpec, Spec, SubscriptionSpec, TopicSpec},
};
use waystation_host::{Broker, Browse, Options, Target, open_by_hand};
use waystation_jq::{Limits, Pool};
use waystation_routes::{RouteSteps, Routes, Tools};
use waystation_testkit::{disk::SimDisk, random::Random};

use crate::{
    books::may_come_back,
    plan::{self, Plan, STORE, TOPIC},
    world::DATA,
};

/// Messages that the small queue holds.
const SMALL_MAX: u64 = 6;
/// Messages of a queue that are looked at at a time.
const PAGE_MAX: usize = 1_000;
/// Milliseconds that messages live in the other one, where time is over for them.
const LIFE_MS: u64 = 200;

/// The runtime's own time, which stands still while anybody has something to do.
pub struct VirtualClock {
    began: tokio::time::Instant,
    at: Millis,
}

impl VirtualClock {
    /// It is `at` now.
    pub fn new(at: Millis) -> VirtualClock {
        VirtualClock { began: tokio::time::Instant::now(), at }
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Millis {
        self.at.plus(self.began.elapsed().as_millis() as u64)
    }
}

/// What a seed draws.
struct Drawn(Mutex<Random>);

impl Chance for Drawn {
    fn draw(&self) -> io::Result<u128> {
        let mut random = self.0.lock().expect("one thread");
        Ok(u128::from(random.any()) << 64 | u128::from(random.any()))
    }
}

/// See the module. It dies with its runtime.
pub struct Node {
    pub broker: Broker,
    pub routes: Routes,
    pub clock: Arc<dyn Clock>,
}

pub fn name(text: &str) -> Name {
    if text.starts_with('$') { Name::reserved(text) } else { Name::new(text) }.expect("a name")
}

/// Where consumers take from.
pub fn sink(text: &str) -> Source {
    match text {
        "readers" => Source::Subscription(name(text)),
        _ => Source::Queue(name(text)),
    }
}

impl Node {
    /// Opens what the disk has. `is_calm`: nothing fails but what messages are to blame for.
    pub async fn open(disk: &SimDisk, at: Millis, random: &mut Random, is_calm: bool) -> Node {
        let clock: Arc<dyn Clock> = Arc::new(VirtualClock::new(at));
        let mut options = Options::new(DATA);
        options.journal_file_bytes = 4 << 20;
        options.disk_reserve_bytes = 0;
        // All of the journal stays, so that it can be read after a crash.
        (options.hot_bytes, options.snapshot_bytes) = (1 << 40, 1 << 40);
        let opened = open_by_hand(options, Arc::new(disk.clone()), clock.clone());
        let (broker, driver, mut hand) = opened.expect("it opens after any crash");
        let (jq, mut evaluator) = Pool::by_hand(Limits::default());
        tokio::spawn(async move {
            // A driver that fails is found by those who hear nothing.
            let _ = driver.run(std::future::pending()).await;
        });
        let mut pace = Random::new(random.any());
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(pace.below(4))).await;
                // Now and then a sync is slow, and much comes together.
                if !pace.one_in(4) {
                    hand.sync();
                }
                hand.read();
                for _ in 0..pace.below(16) {
                    match !is_calm && pace.one_in(20) {
                        true => evaluator.fail(),
                        false => evaluator.evaluate(),
                    };
                }
            }
        });
        let chance = Arc::new(Drawn(Mutex::new(Random::new(random.any()))));
        let tools = Tools::new(jq, clock.clone()).simulated(chance);
        let routes = Routes::new(broker.clone(), tools);
        routes.load().await.expect("its routes");
        Node { broker, routes, clock }
    }

    /// Declares all that a plan names.
    pub async fn declare(&self, plan: &Plan, is_calm: bool) {
        let (max_messages, overflow) = ((!is_calm).then_some(SMALL_MAX), Overflow::RejectPublish);
        let small = QueueSpec { max_messages, overflow, ..QueueSpec::default() };
        let out = QueueSpec { ttl_ms: Some(LIFE_MS), ..QueueSpec::default() };
        let topic = || Spec::Topic(TopicSpec::default());
        self.make("small", Spec::Queue(small.clone())).await;
        self.make("out", Spec::Queue(out)).await;
        self.make(TOPIC, topic()).await;
        self.make(STORE, topic()).await;
        self.make("readers", Spec::Subscription(SubscriptionSpec::new(TOPIC))).await;
        for (number, _) in plan.holds() {
            self.make(&plan::whole(number), Spec::Queue(small.clone())).await;
        }
        for (number, route) in plan.routes.iter().enumerate() {
            let source = if route.takes_topic { topic() } else { Spec::Queue(QueueSpec::default()) };
            self.make(&plan::source(number), source).await;
        }
        for (number, route) in plan.routes.iter().enumerate() {
            let declaration = route.declaration(number);
            let spec: RouteSteps = serde_json::from_value(declaration.clone()).expect("a route");
            let put = self.routes.put(name(&plan::name(number)), spec, false, &self.broker).await;
            put.unwrap_or_else(|error| panic!("{error}: {declaration}"));
        }
    }

    async fn make(&self, text: &str, spec: Spec) {
        self.broker.declare(name(text), spec, false, SessionId::default()).await.expect("declared");
    }

    /// Messages that a route has not taken yet, is at, or holds, and then those that are to be brought back to it.
    pub async fn waiting(&self, plan: &Plan, number: usize) -> u64 {
        let waiting = match plan.routes[number].takes_topic {
            true => {
                let own = name(&format!("$routes.{}", plan::name(number)));
                let own = self.broker.subscription(own).await.expect("a subscription");
                own.lag + own.in_flight + own.delayed
            }
            false => {
                let queue = self.broker.queue(name(&plan::source(number))).await.expect("a queue");
                queue.ready + queue.in_flight + queue.delayed
            }
        };
        let waiting = match plan.routes[number].hold() {
            Some(hold) => {
                let queue = format!("$routes.{}.{}", plan::name(number), hold.word());
                let is_marker = |message: &Message| message.headers.text("ws-hold-role") == Some("marker");
                waiting + self.lying(&queue, |message| !is_marker(message)).await
            }
            None => waiting,
        };
        waiting + self.lying(&plan::dead(number), may_come_back).await
    }

    /// Messages in a queue that count.
    async fn lying(&self, queue: &str, counts: impl Fn(&Message) -> bool) -> u64 {
        let (mut count, mut from) = (0, None);
        loop {
            let browse = Browse { from, max: PAGE_MAX, bytes_max: 64 << 20, ..Browse::default() };
            let page = self.broker.browse(Target::Queue(name(queue)), browse).await.expect("browsed");
            count += page.messages.iter().filter(|delivery| counts(&delivery.message)).count() as u64;
            from = page.next;
            if from.is_none() {
                return count;
            }
        }
    }
}
