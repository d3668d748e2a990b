//! Which dead letters are meant?

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::{Message, filter::Filter, message::header};

use crate::{
    letter::{Letter, OriginKind},
    limits::IDS_MAX,
};

/// A choice among dead letters: all that is said must hold. An unknown field is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Which {
    /// All of them; may be said instead of anything else, so that nothing is chosen by leaving out.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
    /// Of this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// Of this cause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// That failed in this queue or subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// That failed in a queue, or in a subscription: the two may have one name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origin_kind: Option<OriginKind>,
    /// Whose error has this text in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// That were given up at or after this time (milliseconds since 1970).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// That were given up before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// For which this holds, as for subscriptions (CloudEvents' filter dialects).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub filter: Option<Filter>,
    /// With one of these ids: Waystation's, or the sender's `message-id`.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    pub ids: BTreeSet<String>,
}

/// What is wrong with a choice.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

impl Invalid {
    /// A field, and what is wrong with it.
    pub fn new(field: &'static str, reason: impl Into<String>) -> Invalid {
        Invalid { field, reason: reason.into() }
    }
}

impl Which {
    /// Checks that it says something, within its bounds.
    pub fn check(&self) -> Result<(), Invalid> {
        if self.ids.len() > IDS_MAX {
            let reason =
                format!("may have {IDS_MAX} entries, has {}; choose by group or filter", self.ids.len());
            return Err(Invalid::new("which.ids", reason));
        }
        if let Some(filter) = &self.filter {
            filter.check().map_err(|error| Invalid::new("which.filter", error.to_string()))?;
        }
        let says_nothing = *self == Which::default();
        match says_nothing {
            true => Err(Invalid::new(
                "which",
                "give group, cause, origin, origin_kind, error, after, before, filter, ids, or all: true",
            )),
            false => Ok(()),
        }
    }

    /// Whether a message of a queue is meant.
    pub fn has(&self, queue: &str, message: &Message, letter: &Letter) -> bool {
        self.has_letter(letter)
            && self.filter.as_ref().is_none_or(|filter| filter.matches(queue, message))
            && (self.ids.is_empty() || self.has_id(message))
    }

    fn has_letter(&self, letter: &Letter) -> bool {
        let is = |wanted: &Option<String>, have: Option<&str>| {
            wanted.as_ref().is_none_or(|w| have == Some(w.as_str()))
        };
        is(&self.cause, Some(&letter.cause))
            && is(&self.origin, letter.origin.as_deref())
            && (self.origin_kind.is_none() || self.origin_kind == letter.origin_kind)
            && self.after.is_none_or(|after| letter.time >= after)
            && self.before.is_none_or(|before| letter.time < before)
            && self
                .error
                .as_ref()
                .is_none_or(|text| letter.error.as_ref().is_some_and(|error| error.contains(text)))
            && self.group.as_ref().is_none_or(|group| letter.group() == *group)
    }

    fn has_id(&self, message: &Message) -> bool {
        self.ids.contains(&message.id.to_string())
            || message.headers.text(header::MESSAGE_ID).is_some_and(|id| self.ids.contains(id))
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::{MessageId, Millis, Value};

    use super::*;

    fn check(json: &str, expected: bool) {
        let mut message = Message::new(MessageId::new(Millis(7), 1), Millis(7), "x");
        for (name, value) in [
            (header::DEATH_REASON, "rejected"),
            (header::DEATH_SOURCE, "orders"),
            (header::DEATH_SOURCE_KIND, "queue"),
            (header::DEATH_ERROR, "no stock for 7"),
            (header::MESSAGE_ID, "m-1"),
        ] {
            message.headers.set(name, value);
        }
        message.headers.set(header::DEATH_TIME, Value::Timestamp(Millis(1_000)));
        let which: Which = serde_json::from_str(json).expect("a choice");
        which.check().expect("good");
        assert_eq!(which.has("orders.dead", &message, &Letter::of(&message)), expected, "{json}");
    }

    #[test]
    fn all_that_is_said_must_hold() {
        check(r#"{"all": true}"#, true);
        check(r#"{"cause": "rejected", "origin": "orders", "error": "stock"}"#, true);
        check(r#"{"cause": "rejected", "origin": "bills"}"#, false);
        check(r#"{"cause": "expired"}"#, false);
        check(r#"{"origin": "orders", "origin_kind": "queue"}"#, true);
        check(r#"{"origin": "orders", "origin_kind": "subscription"}"#, false);
        check(r#"{"error": "Stock"}"#, false);
        check(r#"{"after": 1000, "before": 1001}"#, true);
        check(r#"{"after": 1001}"#, false);
        check(r#"{"before": 1000}"#, false);
        check(r#"{"ids": ["m-1", "other"]}"#, true);
        check(r#"{"ids": ["m-2"]}"#, false);
        check(r#"{"filter": {"exact": {"message-id": "m-1", "topic": "orders.dead"}}}"#, true);
        check(r#"{"filter": {"exact": {"message-id": "m-2"}}}"#, false);
        let group = crate::fingerprint::group("rejected", "no stock for <number>");
        check(&format!(r#"{{"group": "{group}"}}"#), true);
        check(r#"{"group": "0123"}"#, false);
    }

    #[test]
    fn a_choice_of_nothing_and_ids_past_the_bound_are_refused() {
        assert_eq!(Which::default().check().expect_err("nothing").field, "which");
        let ids =
            |count: usize| Which { ids: (0..count).map(|n| n.to_string()).collect(), ..Which::default() };
        assert_eq!(ids(IDS_MAX).check(), Ok(()));
        assert_eq!(ids(IDS_MAX + 1).check().expect_err("too many").field, "which.ids");
    }
}
