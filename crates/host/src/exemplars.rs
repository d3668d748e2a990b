//! One message of each queue and subscription whose trace can be looked up: an example of how long they wait.

use hashbrown::HashMap;
use waystation_base::{Millis, Name, message::header::TRACEPARENT, trace::trace_id};
use waystation_broker::{Kind, Source, effect::Handed};

use crate::Delivery;

/// Queues and subscriptions that have one.
const EXEMPLARS_MAX: usize = 2_000;
/// Milliseconds for which one stands.
const RENEW_MS: u64 = 1_000;

/// A message that was handed out for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exemplar {
    /// The trace that it belongs to (W3C trace context, `trace-id`).
    pub trace_id: String,
    /// Milliseconds that it had waited.
    pub wait_ms: u64,
    /// When it was handed out.
    pub at: Millis,
}

/// The latest ones.
#[derive(Debug, Default)]
pub(crate) struct Exemplars(HashMap<(Kind, Name), Exemplar>);

impl Exemplars {
    /// Looks at the first message of an event.
    pub(crate) fn look(&mut self, source: &Source, delivery: &Delivery, handed: &Handed, now: Millis) {
        if delivery.attempt.0 != 1 {
            return;
        }
        let Some(trace_id) = delivery.message.headers.text(TRACEPARENT).and_then(trace_id) else { return };
        let key = (source.kind(), source.name().clone());
        match self.0.get(&key) {
            Some(have) if now.since(have.at) < RENEW_MS => return,
            // Those that are still in use come again within a second.
            None if self.0.len() >= EXEMPLARS_MAX => self.0.clear(),
            _ => {}
        }
        let wait_ms = now.since(handed.meta.timestamp);
        self.0.insert(key, Exemplar { trace_id: trace_id.to_owned(), wait_ms, at: now });
    }

    pub(crate) fn get(&self, kind: Kind, name: &Name) -> Option<&Exemplar> {
        self.0.get(&(kind, name.clone()))
    }
}
