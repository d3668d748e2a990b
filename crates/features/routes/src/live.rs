//! How is a route now, as those see it who ask?

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a route is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RouteState {
    /// It takes what comes.
    #[default]
    Active,
    /// Its source is not there, or nothing can be stored; it looks again every few seconds.
    Waiting,
    /// Somebody paused it.
    Paused,
}

/// Messages since the server started, by what became of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = RouteCounts)]
pub struct Counts {
    /// Taken from the source and done with.
    pub taken: u64,
    /// Sent by it, each copy counted.
    pub sent: u64,
    /// Of those taken: ended in the route as declared, without anything sent.
    pub ended: u64,
    /// Of those taken: became dead letters.
    pub dead_lettered: u64,
    /// Given back to be tried again.
    pub retried: u64,
    /// Of those taken: held by a step until others come or time passes.
    pub held: u64,
    /// Came to such a step after what they belonged to.
    pub late: u64,
}

/// Shared between the engine and those who ask.
#[derive(Debug, Default)]
pub(crate) struct Live {
    now: Mutex<Now>,
    taken: AtomicU64,
    sent: AtomicU64,
    ended: AtomicU64,
    dead_lettered: AtomicU64,
    retried: AtomicU64,
    held: AtomicU64,
    late: AtomicU64,
}

/// What a route is doing.
#[derive(Debug, Default)]
struct Now {
    is_paused: bool,
    /// Its parts that wait, and why: the route itself, and steps that hold messages.
    waits: BTreeMap<String, String>,
}

/// The part of a route that takes from its source.
pub(crate) const SOURCE: &str = "";

/// What became of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// So many messages were sent; none: it ended.
    Sent(usize),
    /// It is a dead letter.
    DeadLettered,
    /// It comes again.
    Retried,
    /// A step holds it.
    Held,
    /// A step that held messages let go one that so many were made of.
    Released(usize),
    /// A step that held it gave it up.
    Buried,
    /// It came too late for such a step.
    Late,
}

impl Live {
    /// How it is, and why.
    pub fn now(&self) -> (RouteState, Option<String>) {
        let now = self.lock();
        let why = |(part, why): (&String, &String)| match part.as_str() {
            SOURCE => why.clone(),
            step => format!("{step}: {why}"),
        };
        match (now.is_paused, now.waits.first_key_value()) {
            (true, _) => (RouteState::Paused, None),
            (false, None) => (RouteState::Active, None),
            (false, Some(first)) => (RouteState::Waiting, Some(why(first))),
        }
    }

    /// It begins anew, or rests.
    pub fn begin(&self, is_paused: bool) {
        *self.lock() = Now { is_paused, waits: BTreeMap::new() };
    }

    /// A part of it waits.
    pub fn waits(&self, part: &str, why: String) {
        self.lock().waits.insert(part.to_owned(), why);
    }

    /// A part of it works.
    pub fn works(&self, part: &str) {
        self.lock().waits.remove(part);
    }

    fn lock(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn count(&self, fate: Fate) {
        let (counter, by) = match fate {
            Fate::Sent(0) => (&self.ended, 1),
            Fate::Sent(copies) | Fate::Released(copies) => (&self.sent, copies as u64),
            Fate::DeadLettered | Fate::Buried => (&self.dead_lettered, 1),
            Fate::Held => (&self.held, 1),
            Fate::Late => (&self.late, 1),
            Fate::Retried => (&self.retried, 1),
        };
        counter.fetch_add(by, Relaxed);
        // What a step lets go was taken when it came.
        if matches!(fate, Fate::Sent(_) | Fate::DeadLettered | Fate::Held) {
            self.taken.fetch_add(1, Relaxed);
        }
    }

    pub fn counts(&self) -> Counts {
        Counts {
            taken: self.taken.load(Relaxed),
            sent: self.sent.load(Relaxed),
            ended: self.ended.load(Relaxed),
            dead_lettered: self.dead_lettered.load(Relaxed),
            retried: self.retried.load(Relaxed),
            held: self.held.load(Relaxed),
            late: self.late.load(Relaxed),
        }
    }
}
