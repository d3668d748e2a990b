//! Who delivers the callbacks of calls: one pusher over their queue, for as long as the server runs?

use std::sync::Arc;

use tokio::sync::watch;
use waystation_base::{Clock, Name};
use waystation_broker::{
    Refusal, SessionId, Source,
    spec::{QueueSpec, Spec},
};
use waystation_host::Broker;

use super::{
    addressed::Addressed,
    live::Live,
    plan::Plan,
    pusher::{Options, Pusher},
    record,
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

/// How callbacks are tried again: by age, because waiting for a suspended endpoint counts as attempts.
pub fn retry() -> Retry {
    Retry { attempts_max: crate::retry::ATTEMPTS_MAX, age_ms_max: Some(AGE_MS_MAX), ..Retry::default() }
}

/// Delivers what stands in [`QUEUE`] until `end`. It and the address for what is given up are declared first.
pub async fn serve(
    broker: Broker,
    clock: Arc<dyn Clock>,
    sender: Sender,
    secrets: Arc<[Secret]>,
    end: impl Future<Output = ()>,
) -> Result<(), Refusal> {
    let (Ok(queue), Ok(dead)) = (Name::reserved(QUEUE), Name::reserved(DEAD)) else { return Ok(()) };
    record::declare(&broker).await?;
    for name in [&queue, &dead] {
        broker.declare(name.clone(), Spec::Queue(QueueSpec::default()), true, SessionId::default()).await?;
    }
    let plan = Addressed {
        guard: sender.guard().clone(),
        secrets,
        timeout_ms: TIMEOUT_MS,
        body_bytes_max: BODY_BYTES_MAX,
        retry: retry(),
        breaking: Breaking::default(),
    };
    let pusher = pusher(broker, clock, sender, Arc::new(plan), Source::Queue(queue), dead);
    let (stop, told) = watch::channel(false);
    let stopping = async {
        end.await;
        stop.send_replace(true);
    };
    tokio::join!(pusher.run(told), stopping);
    Ok(())
}

fn pusher(
    broker: Broker,
    clock: Arc<dyn Clock>,
    sender: Sender,
    plan: Arc<dyn Plan>,
    source: Source,
    dead: Name,
) -> Pusher {
    let options = Options {
        name: source.name().to_string(),
        source,
        ordered: false,
        requests_max: REQUESTS_MAX,
        events_max: 1,
        dead_letter: Some(dead),
    };
    Pusher { broker, clock, sender, plan, options, live: Arc::<Live>::default() }
}
