//! What is kept of each attempt?

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::Millis;

/// Attempts that one push remembers; the oldest is forgotten first.
pub const HISTORY_MAX: usize = 50;

/// How an attempt ended for its messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It arrived.
    #[default]
    Delivered,
    /// It is tried again.
    Retried,
    /// It was given up and went to the dead letters.
    DeadLettered,
    /// It would be given up, but there is nowhere for dead letters: it is tried again after the longest pause.
    Kept,
    /// The endpoint answered 410: the push is disabled, the message stays where it is.
    Disabled,
}

/// One attempt to deliver.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Attempt {
    /// When it began, in milliseconds since 1970.
    #[schema(value_type = u64)]
    pub at: Millis,
    /// Its `webhook-id`.
    pub webhook_id: String,
    /// Where to.
    pub endpoint: String,
    /// Which attempt it was, from 1.
    pub attempt: u32,
    /// Messages that went along.
    pub messages: u32,
    /// The answer's status; none if there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What went wrong, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// Milliseconds that it took.
    pub took_ms: u64,
    /// How it ended.
    pub ending: Ending,
    /// Milliseconds until the next attempt, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_ms: Option<u64>,
}

/// The last attempts, and how many there were.
#[derive(Debug, Default)]
pub struct History(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    attempts: VecDeque<Attempt>,
    counts: Counts,
}

/// Counted since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Counts {
    /// Requests sent.
    pub attempts: u64,
    /// Messages delivered.
    pub delivered: u64,
    /// Messages to be tried again, each time counted.
    pub retried: u64,
    /// Messages given up.
    pub dead_lettered: u64,
    /// When the last message was delivered, in milliseconds since 1970; 0: none was.
    #[schema(value_type = u64)]
    pub last_delivered: Millis,
    /// When the last attempt failed; 0: none did.
    #[schema(value_type = u64)]
    pub last_failed: Millis,
}

impl History {
    /// Remembers one.
    pub fn add(&self, attempt: Attempt) {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let counts = &mut inner.counts;
        counts.attempts += 1;
        let messages = u64::from(attempt.messages);
        match attempt.ending {
            Ending::Delivered => counts.delivered += messages,
            Ending::Retried | Ending::Kept => counts.retried += messages,
            Ending::DeadLettered => counts.dead_lettered += messages,
            Ending::Disabled => {}
        }
        match attempt.ending {
            Ending::Delivered => counts.last_delivered = attempt.at,
            _ => counts.last_failed = attempt.at,
        }
        if inner.attempts.len() == HISTORY_MAX {
            inner.attempts.pop_back();
        }
        inner.attempts.push_front(attempt);
    }

    /// The counts alone.
    pub fn counts(&self) -> Counts {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).counts
    }

    /// The last attempts, newest first, and the counts.
    pub fn show(&self) -> (Vec<Attempt>, Counts) {
        let inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        (inner.attempts.iter().cloned().collect(), inner.counts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempts_are_kept_and_all_are_counted() {
        let history = History::default();
        for number in 0..=HISTORY_MAX as u32 {
            history.add(Attempt { attempt: number, messages: 2, ..Attempt::default() });
        }
        history.add(Attempt { messages: 1, ending: Ending::Retried, at: Millis(9), ..Attempt::default() });
        let (attempts, counts) = history.show();
        assert_eq!(attempts.len(), HISTORY_MAX);
        assert_eq!((attempts[0].ending, attempts[1].attempt), (Ending::Retried, HISTORY_MAX as u32));
        assert_eq!((counts.delivered, counts.retried), (2 * (HISTORY_MAX as u64 + 1), 1));
        assert_eq!(counts.last_failed, Millis(9));
    }
}
