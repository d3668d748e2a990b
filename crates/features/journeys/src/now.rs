//! Where a message is now: what the shard says, and where it says nothing any more, what the record does.

use waystation_base::{EntityId, Millis};
use waystation_broker::{Stand, Whereabouts};
use waystation_record::{Client, Record};

use crate::{
    journey::{Now, Sender, Step},
    steps,
};

/// What the shard and the record say of one copy.
pub(crate) struct Told<'a> {
    /// When the message was stored.
    pub(crate) stored: Millis,
    /// What happened to the copy.
    pub(crate) steps: &'a [Step],
    /// How it ended, if it did: the place in `steps`.
    pub(crate) ended: Option<usize>,
    /// The time.
    pub(crate) now: Millis,
}

/// Where a copy is that the shard knows of.
pub(crate) fn standing(there: &Whereabouts, told: &Told<'_>, record: &Record) -> Now {
    let consumers = Some(there.consumers);
    let age_ms = Some(told.now.since(told.stored));
    let since = told.steps.last().map_or(told.stored.0, |step| step.at);
    let here = Now { since, age_ms, consumers, attempts: attempts(told.steps), ..Now::default() };
    let named = |state: &str| Now { state: state.to_owned(), ..here.clone() };
    match &there.stand {
        Stand::Ready { ahead, attempt } => {
            let rate = record.rate(there.outlet, told.now);
            let eta_ms = rate.map(|rate| ((*ahead + 1) as f64 * 1000.0 / rate) as u64);
            Now {
                ahead: Some(*ahead),
                eta_ms,
                rate,
                held_back: there.held_back.clone(),
                attempts: here.attempts.max(attempt.0),
                ..named("ready")
            }
        }
        Stand::BehindKey { .. } => named("behind_key"),
        Stand::Held { attempt, until, .. } => {
            let by =
                told.steps.iter().rev().find(|step| step.what == "delivered").and_then(|it| it.by.clone());
            Now { until: until.map(|until| until.0), by, attempts: attempt.0, ..named("held") }
        }
        Stand::Delayed { until, .. } => Now { until: Some(until.0), ..named("delayed") },
        Stand::Dying { reason } => {
            let _ = reason;
            named("dying")
        }
        Stand::Done => over(told),
    }
}

/// How a copy ended.
pub(crate) fn over(told: &Told<'_>) -> Now {
    let attempts = attempts(told.steps);
    match told.ended.and_then(|at| told.steps.get(at)) {
        Some(step) => Now { state: step.what.clone(), since: step.at, attempts, ..Now::default() },
        None => {
            let since = told.steps.last().map_or(told.stored.0, |step| step.at);
            Now { state: "gone".to_owned(), since, attempts, ..Now::default() }
        }
    }
}

fn attempts(steps: &[Step]) -> u32 {
    steps.iter().filter_map(|step| step.attempt).max().unwrap_or(0)
}

/// Of an event: whose copy it is about.
pub(crate) type CopyKey = Option<EntityId>;

pub(crate) fn by(client: Option<&Client>) -> Option<Sender> {
    client.map(steps::sender)
}
