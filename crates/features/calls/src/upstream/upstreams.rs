//! Which upstreams are served? A worker for each operation that has one, begun, changed and ended as it is declared.

use std::{
    collections::BTreeMap,
    fmt,
    future::Future,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    task::JoinSet,
};
use waystation_base::{Clock, Name};
use waystation_host::Broker;
use waystation_outbound::{breaker::Breakers, client::endpoint, exchange::Client};

use super::{
    live::{Live, UpstreamInfo, UpstreamState},
    turn::{Stop, Worker},
};
use crate::{Calls, Operation, limits::UPSTREAM_BUFFER_BYTES_MIN};

/// How long to wait before a worker that crashed begins anew.
const AGAIN: Duration = Duration::from_secs(3);
/// Bytes that one permit of the buffer stands for.
pub(super) const BUFFER_UNIT: u64 = 64 << 10;

/// What all workers share.
#[derive(Clone)]
pub(super) struct Outbound {
    pub client: Client,
    pub breakers: Arc<Breakers>,
    /// Permits for the bytes of requests and answers, each for [`BUFFER_UNIT`] of them.
    pub buffer: Arc<Semaphore>,
}

/// What handles of calls and the workers share.
#[derive(Default)]
pub(crate) struct Hub {
    client: OnceLock<Client>,
    lives: Mutex<BTreeMap<Name, Arc<Live>>>,
}

impl fmt::Debug for Hub {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Hub({:?})", self.client)
    }
}

impl Hub {
    fn lives(&self) -> MutexGuard<'_, BTreeMap<Name, Arc<Live>>> {
        // What a panic left behind is still the list of who is there.
        self.lives.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What makes the requests; none: this server has no upstreams.
    pub fn client(&self) -> Option<&Client> {
        self.client.get()
    }

    fn live(&self, name: &Name) -> Arc<Live> {
        self.lives().entry(name.clone()).or_default().clone()
    }

    /// Lets an upstream that is suspended be tried at once.
    pub fn wake(&self, name: &Name) {
        if let Some(live) = self.lives().get(name) {
            live.wake();
        }
    }

    /// How the upstream of an operation is now.
    pub fn show(&self, name: &Name, operation: &Operation) -> Option<UpstreamInfo> {
        let upstream = operation.upstream.as_ref()?;
        let now = self.lives().get(name).map(|live| live.show()).unwrap_or_default();
        let header_names = upstream.headers.iter().flatten().map(|(name, _)| name.clone()).collect();
        Some(UpstreamInfo { header_names, ..now })
    }

    /// Those that are there, by name, at most `max`.
    pub fn all(&self, max: usize) -> Vec<(Name, UpstreamInfo)> {
        self.lives().iter().take(max).map(|(name, live)| (name.clone(), live.show())).collect()
    }
}

/// The workers of all upstreams; nothing is sent before [`Upstreams::serve`].
pub struct Upstreams {
    calls: Calls,
    broker: Broker,
    clock: Arc<dyn Clock>,
    outbound: Outbound,
    running: BTreeMap<Name, Running>,
    tasks: JoinSet<Name>,
}

struct Running {
    operation: Arc<Operation>,
    stop: watch::Sender<Stop>,
}

impl Upstreams {
    pub(crate) fn new(
        calls: Calls,
        broker: Broker,
        clock: Arc<dyn Clock>,
        client: Client,
        buffer_bytes_max: u64,
    ) -> Upstreams {
        // Set once: whoever asks for a second set of workers gets those of the first client.
        let client = calls.hub().client.get_or_init(|| client).clone();
        let permits = buffer_bytes_max.max(UPSTREAM_BUFFER_BYTES_MIN).div_ceil(BUFFER_UNIT);
        let buffer = Arc::new(Semaphore::new((permits as usize).min(Semaphore::MAX_PERMITS)));
        let outbound = Outbound { client, breakers: Arc::default(), buffer };
        let (running, tasks) = (BTreeMap::new(), JoinSet::new());
        Upstreams { calls, broker, clock, outbound, running, tasks }
    }

    /// Serves what is declared until `end`; requests under way may end, for a while.
    pub async fn serve(mut self, end: impl Future<Output = ()>) {
        tokio::pin!(end);
        tokio::select! {
            () = &mut end => return,
            () = self.calls.ready() => {}
        }
        let mut operations = self.calls.watch_operations();
        loop {
            let declared = operations.borrow_and_update().clone();
            self.follow(&declared);
            tokio::select! {
                () = &mut end => break,
                changed = operations.changed() => if changed.is_err() { break },
                Some(ended) = self.tasks.join_next() => match ended {
                    Ok(name) => drop(self.running.remove(&name)),
                    Err(error) => tracing::error!(%error, "the watch over an upstream's worker crashed"),
                },
            }
        }
        for running in self.running.values() {
            running.stop.send_replace(Stop::Now);
        }
        while self.tasks.join_next().await.is_some() {}
    }

    /// Begins what is declared and does not run, and ends what runs and is declared otherwise.
    fn follow(&mut self, declared: &BTreeMap<Name, Arc<Operation>>) {
        for (name, running) in &self.running {
            let is_same = declared.get(name).is_some_and(|now| serves_alike(now, &running.operation));
            if !is_same && *running.stop.borrow() == Stop::Not {
                running.stop.send_replace(Stop::Drained);
            }
        }
        let has_upstream = |name: &Name| declared.get(name).is_some_and(|it| it.upstream.is_some());
        self.calls.hub().lives().retain(|name, _| has_upstream(name));
        for (name, operation) in declared {
            let Some(upstream) = &operation.upstream else { continue };
            if self.running.contains_key(name) {
                continue;
            }
            let live = self.calls.hub().live(name);
            match upstream.paused {
                true => live.set(UpstreamState::Paused, None, None),
                false => self.begin(name, operation, live),
            }
        }
    }

    fn begin(&mut self, name: &Name, operation: &Arc<Operation>, live: Arc<Live>) {
        let worker = match Worker::new(name, operation, live.clone()) {
            Ok(worker) => worker,
            Err(error) => {
                tracing::error!(operation = %name, %error, "an upstream cannot be served");
                return live.set(UpstreamState::Waiting, Some(error.to_string()), None);
            }
        };
        // Whoever declares or resumes it wants it to be tried at once.
        self.outbound.breakers.reset(&endpoint(worker.url()));
        let (stop, told) = watch::channel(Stop::Not);
        let (calls, broker, clock) = (self.calls.clone(), self.broker.clone(), self.clock.clone());
        let (outbound, ended) = (self.outbound.clone(), name.clone());
        self.tasks.spawn(async move {
            // A task of its own, so that its name is known even if it crashes.
            let served = tokio::spawn(worker.run(calls, broker, clock, outbound, told)).await;
            if let Err(error) = served {
                tracing::error!(operation = %ended, %error, "the worker of an upstream crashed; it begins anew");
                tokio::time::sleep(AGAIN).await;
            }
            ended
        });
        self.running.insert(name.clone(), Running { operation: operation.clone(), stop });
    }
}

/// Whether a worker of the one serves the other too.
fn serves_alike(one: &Operation, other: &Operation) -> bool {
    one.upstream == other.upstream && one.queue == other.queue && one.max_attempts == other.max_attempts
}
