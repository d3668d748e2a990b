//! What becomes of a message after its evaluation, or after its outputs were refused: sent, a dead letter, or tried again?

use waystation_base::{Attempt, Chance, Class, Message, Millis, Name};
use waystation_broker::{
    Refusal, Source,
    deaths::{self, Death},
    spec::retry::{self, Failed, RetryPolicy},
};

use super::Done;
use crate::{
    fault::class,
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
        /// What the retry policy that gave it up calls that.
        class: Option<&'static str>,
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
        Refusal::DiskLow | Refusal::MemoryLow | Refusal::Draining | Refusal::Busy => Meaning::Everything,
        other if other.class() == Class::Stop => Meaning::Everything,
        Refusal::Message { .. } | Refusal::TooLarge { .. } | Refusal::Undelayable { .. } => Meaning::Never,
        _ => Meaning::Later,
    }
}

/// What the retry policy calls a refusal of outputs.
pub(crate) fn class_of(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::Full { .. } => class::FULL,
        Refusal::NotFound { .. } => class::NOT_FOUND,
        _ => class::REFUSED,
    }
}

/// Decides by the evaluation.
pub(super) fn decide(done: &Done, retry: &RetryPolicy, now: Millis, chance: &dyn Chance) -> Verdict {
    let Some((step, fault)) = &done.evaluation.fault else { return Verdict::Send };
    match fault.class() {
        Some(class) => again_or_bury(done, retry, now, chance, (class, step, fault.reason.clone())),
        None => Verdict::Bury { step: step.to_string(), error: fault.reason.clone(), class: None },
    }
}

/// Decides when the outputs were refused.
pub(super) fn decide_refused(
    done: &Done,
    retry: &RetryPolicy,
    now: Millis,
    chance: &dyn Chance,
    refusal: &Refusal,
) -> Verdict {
    let class = class_of(refusal);
    match meaning(refusal) {
        Meaning::Never => Verdict::Bury { step: "to".to_owned(), error: refusal.to_string(), class: None },
        _ => again_or_bury(done, retry, now, chance, (class, "to", refusal.to_string())),
    }
}

fn again_or_bury(
    done: &Done,
    retry: &RetryPolicy,
    now: Millis,
    chance: &dyn Chance,
    (class, step, error): (&'static str, &str, String),
) -> Verdict {
    let (attempt, message) = (done.delivery.attempt.0, &done.delivery.message);
    let age_ms = now.since(stored_at(message.id.as_bytes()));
    let chance = chance.draw().unwrap_or_default() as u64;
    match retry.judge(&Failed { attempt, age_ms, class: Some(class), delay_ms: None, chance }) {
        retry::Verdict::Again { pause_ms } => Verdict::Again { delay_ms: pause_ms, error },
        retry::Verdict::GivenUp(_) => {
            let error = format!("{error} ({attempt} attempts)");
            Verdict::Bury { step: step.to_owned(), error, class: Some(class) }
        }
    }
}

/// Where something failed, and why.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Failing<'a> {
    /// The route.
    pub route: &'a Name,
    /// The queue or subscription that the route took it from.
    pub source: &'a Source,
    /// Which step.
    pub step: &'a str,
    /// Why.
    pub error: &'a str,
    /// What the retry policy that gave it up calls that.
    pub class: Option<&'a str>,
    /// How often it was tried.
    pub attempt: Attempt,
}

/// A dead letter: the message unchanged, with the headers that the broker gives its own, and with the step that failed.
pub(crate) fn letter(message: Message, failing: &Failing<'_>, dead_letter: &Name, now: Millis) -> Message {
    let mut message = message;
    let Failing { route, source, step, error, class, attempt } = *failing;
    let error = Some(clipped(error));
    deaths::write(&mut message, &Death { source, reason: DEATH_REASON, error, class, attempt, now });
    deaths::readdress(&mut message, "", Some(dead_letter.as_str()));
    message.headers.set(own::DEATH_ROUTE, route.as_str());
    message.headers.set(own::DEATH_STEP, step);
    message
}

pub(crate) fn clipped(error: &str) -> &str {
    let end = (0..=ERROR_BYTES_MAX.min(error.len())).rev().find(|at| error.is_char_boundary(*at));
    &error[..end.unwrap_or_default()]
}
