//! Who delivers the callbacks of calls: one pusher over their queue, for as long as the server runs?

use std::{sync::Arc, time::Duration};

use tokio::sync::watch;
use waystation_base::{Clock, Name};
use waystation_broker::{
    Refusal, SessionId, Source,
    spec::{QueueSpec, Spec},
};
use waystation_host::Broker;

use super::{
    addressed::{Addressed, Signing},
    ledger::{Fate, Ledger},
    live::Live,
    plan::Plan,
    pusher::{Options, Pusher},
    record,
    redrive::{self, Redriven, Which},
};
use crate::{breaker::Breaking, retry::Retry, sender::Sender, sign::Secret};

/// The queue of callbacks. Calls declare it with their first operation, just so, and it is declared here as well: who attached to
/// what is not there yet would leave the first callbacks waiting until he tries again.
pub const QUEUE: &str = "$calls.callbacks";
/// The queue of those that were given up, from where they can be taken and published again.
pub const DEAD: &str = "$calls.callbacks.dead";
/// Callbacks on their way at a time.
const REQUESTS_MAX: u32 = 32;
/// Milliseconds that one may take.
const TIMEOUT_MS: u64 = 15_000;
/// Bytes of one: the outcome of a call with its body.
const BODY_BYTES_MAX: usize = 8 << 20;
/// Milliseconds after which one is given up: three days.
const AGE_MS_MAX: u64 = 3 * 24 * 60 * 60 * 1000;

/// How often it is looked whether there is a secret by now.
const LOOK: Duration = Duration::from_secs(1);

/// How callbacks are tried again: by age, because waiting for a suspended endpoint counts as attempts.
pub fn retry() -> Retry {
    let mut retry = Retry::default();
    (retry.policy.attempts_max, retry.policy.age_ms_max) = (None, Some(AGE_MS_MAX));
    retry
}

/// The callbacks of one server. Clones are cheap.
#[derive(Clone)]
pub struct Callbacks {
    broker: Broker,
    clock: Arc<dyn Clock>,
    sender: Sender,
    secrets: Arc<[Secret]>,
    own: Option<Arc<dyn Signing>>,
    ledger: Arc<Ledger>,
}

impl Callbacks {
    /// Signed by the secrets of their operations, else by `secrets`; what neither sign waits.
    pub fn new(
        broker: Broker,
        clock: Arc<dyn Clock>,
        sender: Sender,
        secrets: Arc<[Secret]>,
        own: Option<Arc<dyn Signing>>,
    ) -> Callbacks {
        Callbacks { broker, clock, sender, secrets, own, ledger: Arc::default() }
    }

    /// Whether the server has secrets for operations that have none of their own.
    pub fn has_secrets(&self) -> bool {
        !self.secrets.is_empty()
    }

    /// What became of a callback; nothing if that may have been forgotten.
    pub fn fate(&self, id: &str) -> Option<Fate> {
        self.ledger.fate(id)
    }

    /// Those that were given up.
    pub async fn dead(&self, which: &Which, may: impl Fn(&str) -> bool) -> Result<Redriven, Refusal> {
        redrive::look(&self.broker, which, may).await
    }

    /// Sends them again.
    pub async fn redrive(&self, which: &Which, may: impl Fn(&str) -> bool) -> Result<Redriven, Refusal> {
        redrive::redrive(&self.broker, &*self.clock, &self.ledger, which, may).await
    }

    /// Delivers what stands in [`QUEUE`] until `end`. It and the address for what is given up are declared first.
    pub async fn serve(self, end: impl Future<Output = ()>) -> Result<(), Refusal> {
        tokio::pin!(end);
        let (Ok(queue), Ok(dead)) = (Name::reserved(QUEUE), Name::reserved(DEAD)) else { return Ok(()) };
        record::declare(&self.broker).await?;
        for name in [&queue, &dead] {
            let spec = Spec::Queue(QueueSpec::default());
            self.broker.declare(name.clone(), spec, true, SessionId::default()).await?;
        }
        self.ledger.read(&self.broker, QUEUE).await?;
        while !self.has_secrets() && !self.own.as_ref().is_some_and(|own| own.any()) {
            // What nothing signs stays in its queue.
            tokio::select! {
                () = &mut end => return Ok(()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
        let plan = Addressed {
            guard: self.sender.guard().clone(),
            secrets: self.secrets.clone(),
            own: self.own.clone(),
            timeout_ms: TIMEOUT_MS,
            body_bytes_max: BODY_BYTES_MAX,
            retry: retry(),
            breaking: Breaking::default(),
        };
        let live = Live::noted(self.ledger.clone());
        let source = Source::Queue(queue);
        let pusher = pusher(self.broker, self.clock, self.sender, Arc::new(plan), source, dead, live);
        let (stop, told) = watch::channel(false);
        let stopping = async {
            end.await;
            stop.send_replace(true);
        };
        tokio::join!(pusher.run(told), stopping);
        Ok(())
    }
}

fn pusher(
    broker: Broker,
    clock: Arc<dyn Clock>,
    sender: Sender,
    plan: Arc<dyn Plan>,
    source: Source,
    dead: Name,
    live: Live,
) -> Pusher {
    let options = Options {
        name: source.name().to_string(),
        source,
        ordered: false,
        requests_max: REQUESTS_MAX,
        events_max: 1,
        dead_letter: Some(dead),
    };
    Pusher { broker, clock, sender, plan, options, live: Arc::new(live) }
}
