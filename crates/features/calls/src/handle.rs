//! How doors and workers talk to the engine: a cheap handle whose calls answer when what they did is durable.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use waystation_base::{Clock, Millis, Name};
use waystation_broker::{
    Refusal, Source,
    command::{Outcome, Settlement},
    effect::Declared,
};
use waystation_host::{Broker, Delivery};
use waystation_outbound::{Invalid, exchange::Client};

use crate::{
    Began, CallId, Cancelled, Change, Changed, Engine, Error, Filter, Held, ListPage, Operation, Record,
    RetryAs, Seen, Start, Started, State, Upstream, UpstreamInfo, Upstreams, Work,
    ask::{Answering, Ask},
    engine::{Operations, read},
    limits::{Limits, RECEIVE_MAX},
    operation::upstream_error,
    upstream::{self, Hub},
};

/// How long a name may take to be resolved when an upstream is declared.
const RESOLVE: Duration = Duration::from_secs(3);
/// How often a record is looked for anew that has moved on meanwhile.
const READS_MAX: usize = 8;

/// The calls, for doors. Clones are cheap and talk to the same engine.
#[derive(Clone, Debug)]
pub struct Calls {
    broker: Broker,
    asks: mpsc::Sender<Ask>,
    operations: watch::Receiver<Operations>,
    shared: Arc<Shared>,
    hub: Arc<Hub>,
}

/// What handles and the engine share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    pub figures: Figures,
    ready: watch::Sender<bool>,
}

impl Shared {
    /// The calls are read back.
    pub fn set_ready(&self) {
        self.ready.send_replace(true);
    }
}

/// What is counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Figures {
    states: [AtomicU64; 6],
    late: AtomicU64,
    read_at_start: AtomicU64,
}

impl Figures {
    pub fn count(&self, state: State) {
        self.states[state as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub fn late(&self) {
        self.late.fetch_add(1, Ordering::Relaxed);
    }

    pub fn read_at_start(&self, records: u64) {
        self.read_at_start.store(records, Ordering::Relaxed);
    }
}

/// A call with all that is known of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// As it stands in memory.
    pub seen: Seen,
    /// As it is written down.
    pub record: Record,
    /// The body of its result.
    pub body: Bytes,
}

impl Calls {
    /// A handle, and the engine that it talks to.
    pub fn new(broker: Broker, clock: Arc<dyn Clock>) -> (Calls, Engine) {
        Calls::with_limits(broker, clock, Limits::default())
    }

    /// The same under other bounds.
    pub fn with_limits(broker: Broker, clock: Arc<dyn Clock>, limits: Limits) -> (Calls, Engine) {
        let broker = broker.as_part("calls", None);
        let (asks, inbox) = mpsc::channel(limits.asks_max);
        let (all, operations) = watch::channel(Operations::default());
        let shared = Arc::new(Shared::default());
        let engine = Engine::new(broker.clone(), limits, clock, inbox, shared.clone(), all);
        (Calls { broker, asks, operations, shared, hub: Arc::default() }, engine)
    }

    /// The workers of upstreams, which send by this client. Without them operations with an upstream are refused.
    /// `buffer_bytes_max`: bytes of requests and answers together that they hold at a time.
    pub fn upstreams(&self, client: Client, clock: Arc<dyn Clock>, buffer_bytes_max: u64) -> Upstreams {
        Upstreams::new(self.clone(), self.broker.clone(), clock, client, buffer_bytes_max)
    }

    pub(crate) fn hub(&self) -> &Hub {
        &self.hub
    }

    pub(crate) fn watch_operations(&self) -> watch::Receiver<Operations> {
        self.operations.clone()
    }

    /// How the upstream of an operation is now, if it has one.
    pub fn upstream(&self, name: &Name, operation: &Operation) -> Option<UpstreamInfo> {
        self.hub.show(name, operation)
    }

    async fn ask<T>(&self, ask: impl FnOnce(Answering<T>) -> Ask) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(ask(reply)).await.map_err(|_| Error::Ended)?;
        answer.await.map_err(|_| Error::Ended)?
    }

    /// Waits until the calls of earlier runs are read back, or the engine has ended.
    pub async fn ready(&self) {
        let mut ready = self.shared.ready.subscribe();
        tokio::select! {
            biased;
            // The sender lives in `self`.
            _ = ready.wait_for(|ready| *ready) => {}
            () = self.asks.closed() => {}
        }
    }

    /// Declares an operation, on behalf of whom `broker` acts for. Whoever declares one anew that is there so has seen that its upstream
    /// is suspended, and wants it to be tried.
    pub async fn declare(
        &self,
        broker: Broker,
        name: Name,
        operation: Operation,
        change: bool,
    ) -> Result<Declared, Error> {
        if let Some(upstream) = &operation.upstream {
            self.check_target(upstream).await.map_err(upstream_error)?;
        }
        let (operation, asked) = (Box::new(operation), name.clone());
        let declared = self.ask(|reply| Ask::Declare { broker, name, operation, change, reply }).await?;
        if declared == Declared::Unchanged {
            self.hub.wake(&asked);
        }
        Ok(declared)
    }

    /// What [`Calls::declare`] would come to; nothing is changed. The fields are checked, and not what they name: that may come
    /// into being before the declaration does.
    pub async fn try_declare(
        &self,
        name: Name,
        operation: Operation,
        change: bool,
    ) -> Result<Declared, Error> {
        if let Some(upstream) = &operation.upstream {
            self.check_target(upstream).await.map_err(upstream_error)?;
        }
        let operation = Box::new(operation);
        self.ask(|reply| Ask::TryDeclare { name, operation, change, reply }).await
    }

    /// Checks where an upstream leads. A name that is not resolved in time is checked when it is needed.
    async fn check_target(&self, upstream: &Upstream) -> Result<(), Invalid> {
        let client = self
            .hub
            .client()
            .ok_or_else(|| Invalid { field: "url", reason: "this server calls no upstreams".to_owned() })?;
        let checked = tokio::time::timeout(RESOLVE, upstream.check_target(client.guard())).await;
        checked.unwrap_or(Ok(()))
    }

    /// Removes an operation; its calls go on.
    pub async fn remove(&self, broker: Broker, name: Name) -> Result<(), Error> {
        self.ask(|reply| Ask::Remove { broker, name, reply }).await
    }

    /// An operation as it is declared.
    pub async fn operation(&self, name: &Name) -> Result<Arc<Operation>, Error> {
        self.ready().await;
        let found = self.operations.borrow().get(name).cloned();
        found.ok_or_else(|| Error::NoOperation(name.to_string()))
    }

    /// What signs the callbacks of an operation, if it has secrets of its own.
    pub fn callback_secrets(&self, operation: &str) -> Vec<String> {
        let operations = self.operations.borrow();
        let found = Name::new(operation).ok().and_then(|name| operations.get(&name).cloned());
        let texts = |operation: Arc<Operation>| operation.secrets().iter().map(|it| it.0.clone()).collect();
        found.map_or_else(Vec::new, texts)
    }

    /// Whether any operation has secrets of its own.
    pub fn has_callback_secrets(&self) -> bool {
        self.operations.borrow().values().any(|operation| !operation.secrets().is_empty())
    }

    /// All operations, by name.
    pub async fn operations(&self) -> Operations {
        self.ready().await;
        self.operations.borrow().clone()
    }

    /// Starts a call, or finds the one with the same idempotency key. When this returns it is durable.
    pub async fn start(&self, operation: Name, start: Start) -> Result<Started, Error> {
        self.ask(|reply| Ask::Start { operation, start: Box::new(start), reply }).await
    }

    /// A call as it stands.
    pub async fn see(&self, id: CallId) -> Result<Seen, Error> {
        self.ask(|reply| Ask::See { id, reply }).await
    }

    /// A call with all that is known of it.
    pub async fn show(&self, id: CallId) -> Result<Call, Error> {
        for _ in 0..READS_MAX {
            let seen = self.see(id).await?;
            match read(&self.broker, id, seen.offset).await {
                Ok((record, body)) => return Ok(Call { seen, record, body }),
                // It has moved on, and its old record is gone.
                Err(Error::NoCall) => {}
                Err(error) => return Err(error),
            }
        }
        Err(Error::Damaged("its record is not where it should be".into()))
    }

    /// Hears of each step of a call from now on: versions, the latest only. It ends when the call has.
    pub async fn watch(&self, id: CallId) -> Result<watch::Receiver<u32>, Error> {
        self.ask(|reply| Ask::Watch { id, reply }).await
    }

    /// Waits until a call has its outcome, or has taken a step past `version`; at most so long. Says whether it has.
    pub async fn wait(&self, id: CallId, past: Option<u32>, wait: Duration) -> Result<bool, Error> {
        let mut steps = self.watch(id).await?;
        let end = Instant::now() + wait;
        let has_come = async {
            loop {
                if past.is_some_and(|past| *steps.borrow_and_update() > past)
                    || steps.changed().await.is_err()
                {
                    return;
                }
            }
        };
        Ok(tokio::time::timeout_at(end, has_come).await.is_ok())
    }

    /// A call as it stands, without its place, and each step from now on; the steps end when the call has.
    pub(crate) async fn attend(&self, id: CallId) -> Result<(Seen, watch::Receiver<u32>), Error> {
        self.ask(|reply| Ask::Attend { id, reply }).await
    }

    /// A page of calls, newest first.
    pub async fn list(&self, filter: Filter) -> Result<ListPage, Error> {
        self.ask(|reply| Ask::List { filter, reply }).await
    }

    /// Lets a call take a step.
    pub async fn change(&self, id: CallId, change: Change) -> Result<Changed, Error> {
        self.ask(|reply| Ask::Change { id, change, reply: Some(reply) }).await
    }

    /// Cancels a call, and says whether that still could be done.
    pub async fn cancel(&self, id: CallId) -> Result<Cancelled, Error> {
        let Changed { state, before, .. } = self.change(id, Change::Cancel).await?;
        let is_cancelled = state == State::Cancelled && before != State::Cancelled;
        Ok(Cancelled { is_cancelled, state, before })
    }

    /// Tries the request of a call anew that ended badly, by a call of its own with the id of `retry`; one that was tried anew
    /// before says by which.
    pub async fn retry(&self, id: CallId, retry: RetryAs) -> Result<Started, Error> {
        let Changed { retried_as, .. } = self.change(id, Change::Retry(retry)).await?;
        retried_as.ok_or_else(|| Error::Damaged("nothing was said of the new call".into()))
    }

    /// Takes calls of an operation to work on them, waiting for the first. What has its outcome already is passed over.
    pub async fn receive(
        &self,
        operation: &Name,
        max: u32,
        wait: Duration,
        lease_ms: Option<u64>,
        clock: &dyn Clock,
    ) -> Result<Vec<Work>, Error> {
        let queue = self.operation(operation).await?.queue_name(operation);
        let queue = queue.map_err(|error| Error::Damaged(error.to_string()))?;
        let end = clock.now().plus(wait.as_millis() as u64);
        loop {
            let now = clock.now();
            let left = end.duration_since(now);
            let source = Source::Queue(queue.clone());
            let taken = self.broker.receive(source, max.clamp(1, RECEIVE_MAX), left, lease_ms, now).await?;
            if taken.is_empty() {
                return Ok(Vec::new());
            }
            let mut work = Vec::new();
            for delivery in taken {
                match self.begin(&queue, delivery).await {
                    Ok(begun) => work.extend(begun),
                    // What it holds already is not lost over this; the rest comes back with its lease.
                    Err(_) if !work.is_empty() => return Ok(work),
                    Err(error) => return Err(error),
                }
            }
            if !work.is_empty() || now >= end {
                return Ok(work);
            }
        }
    }

    /// Notes that a worker has received a call. A message that belongs to no call goes to the queue's dead letters.
    async fn begin(&self, queue: &Name, delivery: Delivery) -> Result<Option<Work>, Error> {
        let id = CallId(delivery.message.id);
        let held = Held { tag: delivery.tag, attempt: delivery.attempt };
        match self.began(id, held, queue.clone()).await {
            Ok(Began::Yours(attempt)) => {
                let held_until = delivery.held_until;
                Ok(Some(Work { id, attempt, held_until, delivery }))
            }
            Ok(Began::Closed) => Ok(None),
            Err(error @ (Error::NoCall | Error::Gone)) => {
                let outcome = Outcome::Rejected { error: Some(error.to_string()), class: None };
                let settlement = Settlement { tag: held.tag, attempt: held.attempt, outcome };
                match self.broker.settle(Source::Queue(queue.clone()), vec![settlement]).await {
                    // Its lease has run out meanwhile: it comes back, and whoever has it then settles it.
                    Ok(()) | Err(Refusal::NotHeld { .. }) => Ok(None),
                    Err(refusal) => Err(refusal.into()),
                }
            }
            Err(error) => Err(error),
        }
    }

    async fn began(&self, id: CallId, held: Held, queue: Name) -> Result<Began, Error> {
        match self.change(id, Change::Begin { held, queue }).await {
            Ok(Changed { state, attempt, .. }) if !state.is_finished() => Ok(Began::Yours(attempt)),
            Ok(_) => Ok(Began::Closed),
            Err(error) => Err(error),
        }
    }

    /// Prolongs a worker's lease on a call to so many milliseconds from now; gives its new end.
    pub async fn extend(&self, id: CallId, attempt: Option<u32>, lease_ms: u64) -> Result<Millis, Error> {
        let Record { state, held, queue, attempt: present, .. } = self.show(id).await?.record;
        if state.is_finished() {
            return Err(Error::Closed(state));
        }
        let held = held.filter(|_| attempt.is_none_or(|attempt| attempt == present));
        let Held { tag, attempt } = held.ok_or(Error::NotHeld(attempt.unwrap_or(present)))?;
        Ok(self.broker.extend(Source::Queue(queue), vec![(tag, attempt)], lease_ms).await?)
    }

    /// Figures in Prometheus' text format.
    pub fn figures(&self) -> String {
        use std::fmt::Write as _;
        let figures = &self.shared.figures;
        let mut text = String::from(
            "# HELP waystation_calls_total Calls that have come into this state since the start.\n# TYPE waystation_calls_total counter\n",
        );
        for state in State::ALL {
            let count = figures.states[state as usize].load(Ordering::Relaxed);
            // A text takes everything.
            let _ = writeln!(text, "waystation_calls_total{{state=\"{state}\"}} {count}");
        }
        let late = figures.late.load(Ordering::Relaxed);
        text += "# HELP waystation_calls_late_results_total Results that came too late or for no call.\n# TYPE waystation_calls_late_results_total counter\n";
        let _ = writeln!(text, "waystation_calls_late_results_total {late}");
        let read = figures.read_at_start.load(Ordering::Relaxed);
        text += "# HELP waystation_calls_read_at_start Records of calls that the last start read besides the pages of their index.\n# TYPE waystation_calls_read_at_start gauge\n";
        let _ = writeln!(text, "waystation_calls_read_at_start {read}");
        upstream::figures(&mut text, &self.hub);
        text
    }
}
