//! What became of each callback? The last attempt at each, by its `webhook-id`: kept in memory, and read back at the start from the
//! topic of attempts.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::{Name, Tag};
use waystation_broker::Refusal;
use waystation_host::{Broker, Browse, Target};

use super::record::{Record, TOPIC};
use crate::attempt::{Attempt, Ending};

/// Callbacks of which it is known what became of them; the one that was heard of first is forgotten first.
pub const KNOWN_MAX: usize = 50_000;
/// Bytes of what went wrong that are kept.
const CAUSE_BYTES_MAX: usize = 256;
/// Records that are read together, and bytes of them.
const PAGE: (usize, usize) = (1_000, 4 << 20);

/// Where a callback stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = CallbackStanding)]
pub enum Standing {
    /// It was not tried yet.
    #[default]
    Pending,
    /// It failed, and is tried again.
    Retrying,
    /// It arrived.
    Delivered,
    /// It was given up; it can be redriven.
    Dead,
}

/// What became of a callback. Moments are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Fate {
    /// Where it stands.
    pub state: Standing,
    /// Attempts so far; to wait for a suspended endpoint counts as one.
    pub attempts: u32,
    /// When the last one began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_attempt: Option<u64>,
    /// How it was answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What went wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// When it is tried again, not before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt: Option<u64>,
}

impl Fate {
    fn of(attempt: &Attempt) -> Fate {
        let state = match attempt.ending {
            Ending::Delivered => Standing::Delivered,
            Ending::DeadLettered => Standing::Dead,
            Ending::Retried | Ending::Kept | Ending::Disabled => Standing::Retrying,
        };
        let error = attempt.cause.as_ref().map(|cause| cause.chars().take(CAUSE_BYTES_MAX).collect());
        let next_attempt = attempt.next_ms.map(|ms| attempt.at.0 + attempt.took_ms + ms);
        let (attempts, status, last_attempt) = (attempt.attempt, attempt.status, Some(attempt.at.0));
        Fate { state, attempts, last_attempt, status, error, next_attempt }
    }
}

/// See the module.
#[derive(Debug, Default)]
pub struct Ledger(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    fates: HashMap<String, Fate>,
    order: VecDeque<String>,
    /// Something was forgotten.
    has_forgotten: bool,
}

impl Ledger {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of an attempt.
    pub fn note(&self, attempt: &Attempt) {
        self.set(&attempt.webhook_id, Fate::of(attempt));
    }

    /// It was put back to be tried anew.
    pub fn redriven(&self, id: &str) {
        self.set(id, Fate::default());
    }

    fn set(&self, id: &str, fate: Fate) {
        let mut inner = self.lock();
        if inner.fates.insert(id.to_owned(), fate).is_some() {
            return;
        }
        inner.order.push_back(id.to_owned());
        if inner.order.len() > KNOWN_MAX
            && let Some(oldest) = inner.order.pop_front()
        {
            inner.fates.remove(&oldest);
            inner.has_forgotten = true;
        }
    }

    /// What became of one; nothing if it may have been forgotten.
    pub fn fate(&self, id: &str) -> Option<Fate> {
        let inner = self.lock();
        let unknown = || (!inner.has_forgotten).then(Fate::default);
        inner.fates.get(id).cloned().or_else(unknown)
    }

    /// Reads what earlier runs put on record of the attempts of `push`.
    pub async fn read(&self, broker: &Broker, push: &str) -> Result<(), Refusal> {
        let Ok(topic) = Name::reserved(TOPIC) else { return Ok(()) };
        let mut from: Option<Tag> = None;
        loop {
            let browse = Browse { from, max: PAGE.0, bytes_max: PAGE.1, ..Browse::default() };
            let page = broker.browse(Target::Topic(topic.clone()), browse).await?;
            let keyed = |key: Option<&bytes::Bytes>| key.is_some_and(|key| key == push.as_bytes());
            for found in page.messages.iter().filter(|found| keyed(found.message.key.as_ref())) {
                if let Ok(record) = serde_json::from_slice::<Record>(&found.message.body) {
                    self.note(&record.attempt);
                }
            }
            match page.next {
                Some(next) => from = Some(next),
                None => return Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::Millis;

    use super::*;

    fn attempt(id: &str, ending: Ending) -> Attempt {
        let (webhook_id, cause) = (id.to_owned(), Some("no".to_owned()));
        Attempt {
            webhook_id,
            ending,
            attempt: 2,
            at: Millis(5),
            cause,
            next_ms: Some(9),
            ..Attempt::default()
        }
    }

    #[test]
    fn the_last_attempt_says_where_a_callback_stands() {
        let ledger = Ledger::default();
        assert_eq!(ledger.fate("a"), Some(Fate::default()));
        ledger.note(&attempt("a", Ending::Retried));
        let fate = ledger.fate("a").expect("known");
        assert_eq!((fate.state, fate.attempts, fate.next_attempt), (Standing::Retrying, 2, Some(14)));
        ledger.note(&attempt("a", Ending::DeadLettered));
        assert_eq!(ledger.fate("a").map(|fate| fate.state), Some(Standing::Dead));
        ledger.redriven("a");
        assert_eq!(ledger.fate("a").map(|fate| fate.state), Some(Standing::Pending));
    }

    #[test]
    fn past_the_bound_the_first_is_forgotten_and_nothing_is_said_of_what_may_have_been() {
        let ledger = Ledger::default();
        for number in 0..KNOWN_MAX {
            ledger.note(&attempt(&number.to_string(), Ending::Delivered));
        }
        assert!(ledger.fate("0").is_some() && ledger.fate("x").is_some());
        ledger.note(&attempt("last", Ending::Delivered));
        assert_eq!((ledger.fate("0"), ledger.fate("x")), (None, None));
        assert!(ledger.fate("1").is_some() && ledger.fate("last").is_some());
    }
}
