//! What becomes of a message after its evaluation, or after its outputs were refused: sent, a dead letter, or tried again?

use waystation_base::Class;
use waystation_base::{Message, Millis, Value, message::header, os};
use waystation_broker::{
    Refusal,
    spec::retry::{self, Failed, RetryPolicy},
};
use waystation_host::Delivery;

use super::Done;
use crate::{
    FaultKind,
    limits::ERROR_BYTES_MAX,
    names::{DEATH_REASON, header as own},
    trial::stored_at,
};

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Its outputs are published.
    Send,
    /// It is given up, for this reason, at this step.
    Bury {
        /// Which step.
        step: String,
        /// Why.
        error: String,
    },
    /// It comes again after so many milliseconds.
    Again {
        /// The pause.
        delay_ms: u64,
        /// Why.
        error: String,
    },
}

/// What a refusal means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Meaning {
    /// Nothing can be stored now: the route waits.
    Everything,
    /// The message is no longer held: somebody else has it, or it is gone.
    Lost,
    /// This message can never be stored so.
    Never,
    /// It may be taken later.
    Later,
}

/// What a refusal of one message's transaction means.
pub(crate) fn meaning(refusal: &Refusal) -> Meaning {
    match refusal {
        Refusal::NotHeld { .. } | Refusal::NotAttached => Meaning::Lost,
        Refusal::DiskLow | Refusal::Draining | Refusal::Busy => Meaning::Everything,
        other if other.class() == Class::Stop => Meaning::Everything,
        Refusal::Message { .. } | Refusal::TooLarge { .. } | Refusal::Undelayable { .. } => Meaning::Never,
        _ => Meaning::Later,
    }
}

/// What the retry policy calls the failures that it is asked about.
mod class {
    pub const FULL: &str = "full";
    pub const NOT_FOUND: &str = "not_found";
    pub const REFUSED: &str = "refused";
    pub const WORKER: &str = "worker";
}

/// Decides by the evaluation.
pub(super) fn decide(done: &Done, retry: &RetryPolicy, now: Millis) -> Verdict {
    match &done.evaluation.fault {
        None => Verdict::Send,
        Some((step, fault)) if fault.kind == FaultKind::Passing => {
            again_or_bury(done, retry, now, (class::WORKER, step, fault.reason.clone()))
        }
        Some((step, fault)) => Verdict::Bury { step: step.to_string(), error: fault.reason.clone() },
    }
}

/// Decides when the outputs were refused.
pub(super) fn decide_refused(done: &Done, retry: &RetryPolicy, now: Millis, refusal: &Refusal) -> Verdict {
    let class = match refusal {
        Refusal::Full { .. } => class::FULL,
        Refusal::NotFound { .. } => class::NOT_FOUND,
        _ => class::REFUSED,
    };
    match meaning(refusal) {
        Meaning::Never => Verdict::Bury { step: "to".to_owned(), error: refusal.to_string() },
        _ => again_or_bury(done, retry, now, (class, "to", refusal.to_string())),
    }
}

fn again_or_bury(
    done: &Done,
    retry: &RetryPolicy,
    now: Millis,
    (class, step, error): (&str, &str, String),
) -> Verdict {
    let (attempt, message) = (done.delivery.attempt.0, &done.delivery.message);
    let age_ms = now.since(stored_at(message.id.as_bytes()));
    let chance = os::random().unwrap_or_default() as u64;
    match retry.judge(&Failed { attempt, age_ms, class: Some(class), delay_ms: None, chance }) {
        retry::Verdict::Again { pause_ms } => Verdict::Again { delay_ms: pause_ms, error },
        retry::Verdict::GivenUp(_) => {
            Verdict::Bury { step: step.to_owned(), error: format!("{error} ({attempt} attempts)") }
        }
    }
}

/// A dead letter: the message unchanged, with headers that say what happened.
pub(super) fn letter(
    delivery: &Delivery,
    route: &str,
    source: &str,
    step: &str,
    error: &str,
    now: Millis,
) -> Message {
    letter_of(delivery.message.clone(), delivery.attempt.0, route, source, step, error, now)
}

/// The same of a message that was delivered so often.
pub(crate) fn letter_of(
    message: Message,
    attempt: u32,
    route: &str,
    source: &str,
    step: &str,
    error: &str,
    now: Millis,
) -> Message {
    let mut message = Message { deliver_at: None, expires_at: None, ..message };
    let headers = &mut message.headers;
    let count = headers.get(header::DEATH_COUNT).and_then(Value::as_i64).unwrap_or(0);
    headers.set(header::DEATH_REASON, DEATH_REASON);
    headers.set(header::DEATH_SOURCE, source);
    headers.set(header::DEATH_COUNT, count + 1);
    headers.set(header::DEATH_TIME, Value::Timestamp(now));
    headers.set(header::DEATH_ATTEMPTS, i64::from(attempt));
    headers.set(header::DEATH_ERROR, clipped(error));
    headers.set(own::DEATH_ROUTE, route);
    headers.set(own::DEATH_STEP, step);
    if headers.get(header::DEATH_FIRST_SOURCE).is_none() {
        headers.set(header::DEATH_FIRST_SOURCE, source);
        headers.set(header::DEATH_FIRST_REASON, DEATH_REASON);
    }
    message
}

fn clipped(error: &str) -> &str {
    let end = (0..=ERROR_BYTES_MAX.min(error.len())).rev().find(|at| error.is_char_boundary(*at));
    &error[..end.unwrap_or_default()]
}
