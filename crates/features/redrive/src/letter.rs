//! What does a dead letter say of its death?

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::{Message, Millis, Value, message::header};

use crate::fingerprint;

/// The cause of a message that says none: somebody published it where dead letters lie.
pub const NO_CAUSE: &str = "none";

/// What it was that a letter failed in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum OriginKind {
    /// A queue.
    Queue,
    /// A subscription, which may have the name of a queue.
    Subscription,
}

impl OriginKind {
    /// From the word that a letter has for it.
    fn read(word: &str) -> Option<OriginKind> {
        match word {
            "queue" => Some(OriginKind::Queue),
            "subscription" => Some(OriginKind::Subscription),
            _ => None,
        }
    }
}

/// Where a letter failed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Origin {
    /// By name.
    pub name: String,
    /// Which of those that may have that name; older letters do not say.
    pub kind: Option<OriginKind>,
}

/// Stands before the name of a subscription, where queues and topics may be meant as well.
pub(crate) const SUBSCRIPTION: &str = "subscription ";

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let before = if self.kind == Some(OriginKind::Subscription) { SUBSCRIPTION } else { "" };
        write!(f, "{before}{}", self.name)
    }
}

/// What a dead letter says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Letter {
    /// Why it is there: `rejected`, `expired`, `max_attempts`, `max_length`, or what else put it there says; `none`: nothing says.
    pub cause: String,
    /// The queue or subscription where it failed.
    pub origin: Option<String>,
    /// Which of the two, if it says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_kind: Option<OriginKind>,
    /// The error, in the words of whoever gave it up.
    pub error: Option<String>,
    /// When it was given up (milliseconds since 1970).
    pub time: u64,
    /// How often it had been handed out there.
    pub attempts: u64,
    /// How often it was dead-lettered in all.
    pub deaths: u64,
    /// How often it was redriven.
    pub redriven: u64,
    /// The redrive that put it back last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redrive: Option<String>,
}

impl Letter {
    /// Reads a message.
    pub fn of(message: &Message) -> Letter {
        let headers = &message.headers;
        let text = |name: &str| headers.text(name).map(str::to_owned);
        let number =
            |name: &str| headers.get(name).and_then(Value::as_i64).unwrap_or_default().unsigned_abs();
        let Millis(time) = match headers.get(header::DEATH_TIME) {
            Some(Value::Timestamp(at)) => *at,
            _ => message.timestamp,
        };
        Letter {
            cause: text(header::DEATH_REASON).unwrap_or_else(|| NO_CAUSE.to_owned()),
            origin: text(header::DEATH_SOURCE),
            origin_kind: headers.text(header::DEATH_SOURCE_KIND).and_then(OriginKind::read),
            error: text(header::DEATH_ERROR),
            time,
            attempts: number(header::DEATH_ATTEMPTS),
            deaths: number(header::DEATH_COUNT),
            redriven: number(header::REDRIVE_COUNT),
            redrive: text(header::REDRIVE),
        }
    }

    /// The error without what differs from message to message; empty without error.
    pub fn pattern(&self) -> String {
        self.error.as_deref().map(fingerprint::normalised).unwrap_or_default()
    }

    /// Where it failed.
    pub fn place(&self) -> Option<Origin> {
        self.origin.clone().map(|name| Origin { name, kind: self.origin_kind })
    }

    /// The group that it belongs to.
    pub fn group(&self) -> String {
        fingerprint::group(&self.cause, &self.pattern())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_says_what_its_headers_say_and_without_them_that_nothing_is_said() {
        let mut message = Message { timestamp: Millis(5), ..Message::default() };
        let plain = Letter::of(&message);
        assert_eq!((plain.cause.as_str(), plain.origin, plain.time), (NO_CAUSE, None, 5));
        let headers = &mut message.headers;
        headers.set(header::DEATH_REASON, "rejected");
        headers.set(header::DEATH_SOURCE, "orders");
        headers.set(header::DEATH_ERROR, "no stock for 7");
        headers.set(header::DEATH_TIME, Value::Timestamp(Millis(9)));
        headers.set(header::DEATH_ATTEMPTS, 3);
        headers.set(header::REDRIVE_COUNT, 2);
        let letter = Letter::of(&message);
        assert_eq!((letter.cause.as_str(), letter.origin.as_deref()), ("rejected", Some("orders")));
        assert_eq!((letter.time, letter.attempts, letter.redriven), (9, 3, 2));
        assert_eq!(letter.place().expect("a place").to_string(), "orders", "which kind is not said");
        for (word, shown) in
            [("queue", "orders"), ("subscription", "subscription orders"), ("other", "orders")]
        {
            message.headers.set(header::DEATH_SOURCE_KIND, word);
            let place = Letter::of(&message).place().expect("a place");
            assert_eq!(place.to_string(), shown);
            assert_eq!(place.kind.is_some(), word != "other");
        }
        assert_eq!(letter.pattern(), "no stock for <number>");
        assert_eq!(letter.group(), fingerprint::group("rejected", "no stock for <number>"));
    }
}
