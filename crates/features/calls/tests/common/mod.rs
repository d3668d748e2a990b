//! What the tests of calls share: a broker with its engine in this process, which can crash and come back.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{sync::oneshot, task::JoinHandle};
use waystation_base::{
    Clock, Message, MessageId, Millis, Name, Value,
    message::header as known,
    os::{OsClock, OsDisk},
};
use waystation_broker::{
    Source,
    command::{Hold, Outcome, Settlement},
};
use waystation_calls::{
    Answer, Call, CallId, Calls, Change, Error, Key, Operation, Start, Started, Work, limits::Limits,
    names::REPLIES,
};
use waystation_host::{Broker, Delivery, Failure, Options};

/// Long enough for anything that happens at all.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A broker with its engine.
pub struct Running {
    pub broker: Broker,
    pub calls: Calls,
    stop: oneshot::Sender<()>,
    engine: JoinHandle<Result<(), Error>>,
    driver: JoinHandle<Result<(), Failure>>,
}

impl Running {
    pub fn start(dir: &Path) -> Running {
        Running::with(dir, Limits::default())
    }

    /// Under other bounds.
    pub fn with(dir: &Path, limits: Limits) -> Running {
        let mut options = Options::new(dir);
        options.disk_reserve_bytes = 0;
        let clock: Arc<dyn Clock> = Arc::new(OsClock);
        let (broker, driver, _) =
            waystation_host::open(options, Arc::new(OsDisk), clock.clone()).expect("opened");
        let driver = tokio::spawn(driver.run(std::future::pending()));
        let (calls, engine) = Calls::with_limits(broker.clone(), clock, limits);
        let (stop, stopped) = oneshot::channel::<()>();
        let engine = tokio::spawn(engine.run(async { drop(stopped.await) }));
        Running { broker, calls, stop, engine, driver }
    }

    /// Ends without any farewell.
    pub async fn crash(self) {
        self.engine.abort();
        self.driver.abort();
        let _ = self.engine.await;
        let _ = self.driver.await;
    }

    /// Ends in good order, but for the broker: what it has told is durable.
    pub async fn end(self) {
        drop(self.stop);
        self.engine.await.expect("no panic").expect("a good end");
        self.driver.abort();
        let _ = self.driver.await;
    }

    pub async fn declare(&self, name: &str, operation: Operation) {
        let declared = self.calls.declare(self.broker.clone(), op(name), operation, false).await;
        declared.expect("declared");
    }

    pub async fn call(&self, name: &str, body: &str) -> CallId {
        self.calls.start(op(name), start(body)).await.expect("accepted").id
    }

    pub async fn call_with(&self, name: &str, start: Start) -> Result<Started, Error> {
        self.calls.start(op(name), start).await
    }

    pub async fn receive(&self, name: &str) -> Vec<Work> {
        let wait = Duration::from_secs(5);
        self.calls.receive(&op(name), 1, wait, Some(30_000), &OsClock).await.expect("received")
    }

    /// Takes one message of a queue as any queue client would, and settles it.
    pub async fn take(&self, queue: &str) -> Option<Delivery> {
        let name = if queue.starts_with('$') { Name::reserved(queue) } else { Name::new(queue) };
        let source = Source::Queue(name.expect("a name"));
        let wait = Duration::from_secs(5);
        let found = self.broker.receive(source.clone(), 1, wait, None, OsClock.now()).await;
        let delivery = found.expect("received").pop()?;
        self.broker.accept(source, &delivery).await.expect("accepted");
        Some(delivery)
    }

    /// Sends a reply as any queue client would.
    pub async fn reply(&self, id: CallId, headers: &[(&str, Value)], body: &str) {
        let mut message = message(body);
        message.headers.set(known::CORRELATION_ID, id.to_string());
        for (name, value) in headers {
            message.headers.set(*name, value.clone());
        }
        let address = Name::reserved(REPLIES).expect("a name");
        self.broker.publish(address, vec![message]).await.expect("published");
    }

    /// Waits until a call has its outcome.
    pub async fn outcome(&self, id: CallId) -> Call {
        assert!(self.calls.wait(id, None, PATIENCE).await.expect("a call"), "{id} never ended");
        self.calls.show(id).await.expect("shown")
    }
}

pub fn op(name: &str) -> Name {
    Name::new(name).expect("a name")
}

pub fn message(body: &str) -> Message {
    static IDS: AtomicU64 = AtomicU64::new(1);
    let random = u128::from(IDS.fetch_add(1, Ordering::Relaxed)) << 48;
    let now = OsClock.now();
    Message::new(MessageId::new(now, random), now, body.to_owned())
}

pub fn start(body: &str) -> Start {
    let Message { id, timestamp, body, .. } = message(body);
    Start { id: CallId(id), now: timestamp, body, ..Start::default() }
}

pub fn with_key(body: &str, key: &str) -> Start {
    let key = Key::new(key, "op", "me", "", body.as_bytes()).expect("a key");
    Start { idempotency: Some(key), ..start(body) }
}

pub fn complete(attempt: Option<u32>, status: u16, body: &str) -> Change {
    let answer = Answer { status, body: body.to_owned().into(), ..Answer::default() };
    Change::Complete { attempt, answer }
}

/// Everything on a topic of ours.
pub async fn topic(broker: &Broker, name: &str) -> Vec<Delivery> {
    let target = waystation_host::Target::Topic(Name::reserved(name).expect("a name"));
    let browse = waystation_host::Browse { max: 10_000, bytes_max: 64 << 20, ..Default::default() };
    broker.browse(target, browse).await.expect("browsed").messages
}

pub fn later(ms: u64) -> Millis {
    OsClock.now().plus(ms)
}

pub async fn consume(broker: &Broker, queue: &str) -> waystation_host::Consumer {
    let source = Source::Queue(op(queue));
    broker.consume(source, 100, Hold::Attached, Default::default()).await.expect("attached")
}

pub fn accepted(delivery: &Delivery) -> Settlement {
    delivery.settlement(Outcome::Accepted)
}
