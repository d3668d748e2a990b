//! A broker with routes and redrives in this process, which can die.

use std::{sync::Arc, time::Duration};

use tokio::runtime::{Builder, Runtime};
use waystation_base::{Clock, Message, MessageId, Name, os::OsClock};
use waystation_broker::{
    SessionId,
    spec::{QueueSpec, RetryPolicy, Spec, SubscriptionSpec, TopicSpec},
};
use waystation_host::{Broker, Browse, Options, Target};
use waystation_jq::{Command, Limits, Pool};
use waystation_outbound::{exchange::Client, guard::Guard};
use waystation_redrive::Redrives;
use waystation_routes::{RouteSteps, Routes, Tools};
use waystation_testkit::disk::{Crash, Faults, SimDisk};

/// Takes what comes in, by its kind: fails it, sends it on, divides it, or tells it to all.
const SORT: &str = r#"{
    "from": {"queue": "in"},
    "steps": [
        {"transform": {"body": "if .kind == \"bad\" then error(\"no good\") else . end"}},
        {"choose": [
            {"when": ".kind == \"sum\"", "to": "left"},
            {"when": ".kind == \"work\"", "to": "right"},
            {"when": ".kind == \"news\"", "to": "news"},
            {"when": ".kind == \"line\"", "to": "numbered"},
            {"when": ".kind == \"ask\"", "to": "asks"},
            {"when": ".kind == \"look\"", "to": "lookups"}
        ], "otherwise": {"steps": []}},
        {"split": ".n as $n | range(3) | {n: $n, part: .}"},
        {"to": "parts"}
    ]}"#;
/// Puts three of a group together, or what there is after a while.
const SUM: &str = r#"{
    "from": {"queue": "left"},
    "steps": [
        {"aggregate": {"key": ".group", "size": 3, "timeout_ms": 120, "late": "own", "body": "map(.n)"}},
        {"to": "sums"}
    ]}"#;
/// Brings into order what has numbers, and asks a service about each, which often fails.
const LINE: &str = r#"{
    "from": {"queue": "numbered"},
    "retry": {"first_ms": 5, "most_ms": 20, "attempts_max": 3},
    "steps": [
        {"resequence": {"key": ".group", "number": ".seq", "timeout_ms": 150}},
        {"enrich": {"url": "\"URL/\\(.n)\"", "merge": ".", "timeout_ms": 2000}},
        {"to": "ordered"}
    ]}"#;
/// Asks a bank, and goes on with what it says.
const ASK: &str = r#"{
    "from": {"queue": "asks"},
    "steps": [
        {"gather": {"to": ["bank"], "replies": "quotes", "timeout_ms": 400, "late": "dead_letter",
            "body": "{n: .request.n, replies: (.replies | length)}"}},
        {"to": "answers"}
    ]}"#;
/// The bank.
const BANK: &str = r#"{
    "from": {"queue": "bank"},
    "steps": [{"transform": {"body": "{n: .n, reply: true}"}}, {"to": "quotes"}]}"#;
/// Asks the service.
const LOOK: &str = r#"{
    "from": {"queue": "lookups"},
    "retry": {"first_ms": 5, "most_ms": 20, "attempts_max": 3},
    "steps": [
        {"enrich": {"url": "\"URL/\\(.n)\"", "merge": ". + {found: $response.body}", "timeout_ms": 2000}},
        {"to": "found"}
    ]}"#;
/// The data directory.
pub const DATA: &str = "/waystation";
/// Where the aggregator holds its messages.
pub const HOLD: &str = "$routes.sum.aggregate";
/// Where the resequencer does.
pub const HOLD_LINE: &str = "$routes.line.resequence";
/// Where requests wait for their replies.
pub const HOLD_ASK: &str = "$routes.ask.gather";

pub fn name(text: &str) -> Name {
    if text.starts_with('$') { Name::reserved(text) } else { Name::new(text) }.expect("a name")
}

/// See the module.
pub struct Server {
    pub runtime: Runtime,
    pub broker: Broker,
    /// Once it works.
    pub features: Option<Features>,
}

/// What works on messages beside the broker.
pub struct Features {
    pub redrives: Redrives,
}

impl Server {
    /// Opens the broker, with nothing that works on messages yet.
    pub fn open(disk: &SimDisk) -> Server {
        let mut options = Options::new(DATA);
        options.disk_reserve_bytes = 0;
        // Small, so that it settles and takes snapshots; and larger than what comes between two crashes, which is read then.
        (options.journal_file_bytes, options.hot_bytes, options.snapshot_bytes) =
            (512 << 10, 2 << 20, 256 << 10);
        options.record = Some(waystation_record::Options::default());
        let clock: Arc<dyn Clock> = Arc::new(OsClock);
        let opened = waystation_host::open(options, Arc::new(disk.clone()), clock);
        let (broker, driver, _) = opened.expect("it opens after any crash");
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        // It ends with an error when the disk fails: those who ask hear of it.
        runtime.spawn(async { drop(driver.run(std::future::pending()).await) });
        Server { runtime, broker, features: None }
    }

    /// Declares queues and routes; `url`: of the service that some of them ask.
    pub fn declare(&mut self, url: &str) {
        let dying = |dead: &str| {
            let retry =
                RetryPolicy { first_ms: 5, most_ms: 40, attempts_max: Some(3), ..RetryPolicy::default() };
            (Some(dead.to_owned()), Some(Box::new(retry)))
        };
        let (dead_letter, retry) = dying("right.dead");
        let right = QueueSpec { dead_letter, retry, ..QueueSpec::default() };
        let (dead_letter, retry) = dying("readers.dead");
        let readers = SubscriptionSpec { dead_letter, retry, ..SubscriptionSpec::new("news") };
        let plain = [
            "in",
            "left",
            "sums",
            "parts",
            "right.dead",
            "readers.dead",
            "numbered",
            "ordered",
            "asks",
            "bank",
            "quotes",
            "answers",
            "lookups",
            "found",
        ];
        let mut all: Vec<(&str, Spec)> =
            plain.into_iter().map(|queue| (queue, Spec::Queue(QueueSpec::default()))).collect();
        all.push(("right", Spec::Queue(right)));
        all.push(("news", Spec::Topic(TopicSpec::default())));
        all.push(("readers", Spec::Subscription(readers)));
        self.runtime.block_on(async {
            for (named, spec) in all {
                self.broker.declare(name(named), spec, false, SessionId::default()).await.expect("declared");
            }
        });
        let routes = self.begin_work();
        self.runtime.block_on(async {
            let all =
                [("sort", SORT), ("sum", SUM), ("line", LINE), ("ask", ASK), ("bank", BANK), ("look", LOOK)];
            for (named, json) in all {
                let spec: RouteSteps = serde_json::from_str(&json.replace("URL", url)).expect("a route");
                routes.put(name(named), spec, false, &self.broker).await.expect("a route");
            }
        });
    }

    /// Lets routes and redrives go on where they were.
    pub fn begin_work(&mut self) -> Routes {
        let clock: Arc<dyn Clock> = Arc::new(OsClock);
        let broker = self.broker.clone();
        let (routes, redrives) = self.runtime.block_on(async {
            let command = Command {
                program: env!("CARGO_BIN_EXE_waystation").into(),
                arguments: vec!["jq-worker".into()],
            };
            let guard = Guard::new("upstreams", vec!["127.0.0.1".parse().expect("a rule")], true);
            let services = Client::new(guard, None).expect("a client");
            let tools =
                Tools::new(Pool::new(command, Limits::default()), clock.clone()).with_services(services);
            let routes = Routes::new(broker.clone(), tools);
            routes.load().await.expect("its routes");
            let (redrives, engine) = Redrives::new(broker, clock, None);
            tokio::spawn(engine.run(std::future::pending()));
            (routes, redrives)
        });
        self.features = Some(Features { redrives });
        routes
    }

    /// Ends in the middle of whatever it does; what was not synced may be lost.
    pub fn crash(self, disk: &SimDisk, crash: Crash) {
        drop(self.features);
        drop(self.broker);
        // All tasks are dropped where they wait, and the threads that write are waited for.
        drop(self.runtime);
        disk.set_faults(Faults::default());
        disk.crash(crash);
    }

    /// Everything that lies somewhere.
    pub async fn lying(&self, target: Target) -> Vec<Message> {
        let (mut messages, mut from) = (Vec::new(), None);
        loop {
            let browse = Browse { from, max: 1_000, bytes_max: 64 << 20, ..Browse::default() };
            let page = self.broker.browse(target.clone(), browse).await.expect("browsed");
            messages.extend(page.messages.into_iter().map(|delivery| delivery.message));
            from = page.next;
            if from.is_none() {
                return messages;
            }
        }
    }
}

/// A message with a body of JSON.
pub fn message(number: u64, body: &serde_json::Value, delay: Option<Duration>) -> Message {
    let now = OsClock.now();
    let mut message = Message::new(MessageId::new(now, u128::from(number) << 64), now, body.to_string());
    message.headers.set("content-type", "application/json");
    message.deliver_at = delay.map(|delay| now.plus(delay.as_millis() as u64));
    message
}
