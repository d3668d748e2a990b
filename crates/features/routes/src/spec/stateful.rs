//! How are the steps declared that look beyond one message: at others, at a service, at what was put aside?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Condition, Targets};

/// What becomes of a message that comes after what it belonged to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Late {
    /// It is the first of an aggregate of its own; behind a resequencer: it goes on out of order.
    Own,
    /// It goes, and is counted.
    Drop,
    /// It becomes a dead letter.
    #[default]
    DeadLetter,
}

/// Collects messages that belong together, and goes on with one message made of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Aggregate {
    /// A jq program that says to what a message belongs: a text, a number or a truth value.
    pub key: String,
    /// So many make it complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// A jq program that finds in a message how many there are; null: this one does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<String>,
    /// The message for which it holds makes it complete.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<Condition>,
    /// Milliseconds after its first message it is complete with what it has.
    #[serde(default = "minute")]
    pub timeout_ms: u64,
    /// What becomes of messages that come when it is complete.
    #[serde(default)]
    pub late: Late,
    /// Milliseconds for which it is known that it was complete; after that its key begins another one.
    #[serde(default = "hour")]
    pub remember_ms: u64,
    /// A jq program over the list of bodies that gives the body; none: the list itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Brings messages into the order of their numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Resequence {
    /// A jq program that gives a message's number.
    pub number: String,
    /// A jq program that says to which sequence it belongs; none: all are one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The number of the first message.
    #[serde(default = "one")]
    pub first: u64,
    /// Milliseconds that a message waits for those before it; then they are given up.
    #[serde(default = "minute")]
    pub timeout_ms: u64,
    /// What becomes of a message whose number was passed, or came before.
    #[serde(default)]
    pub late: Late,
    /// Milliseconds after its last message for which it is known how far a sequence is.
    #[serde(default = "day")]
    pub remember_ms: u64,
}

/// Asks several at once, collects their replies by correlation id, and goes on with one message made of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Gather {
    /// Whom it asks.
    pub to: Targets,
    /// The queue for their replies: `reply-to` of the requests.
    pub replies: String,
    /// So many replies are enough; none: one from each.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Milliseconds after which it goes on with what there is.
    #[serde(default = "minute")]
    pub timeout_ms: u64,
    /// What becomes of replies that come later, or answer nothing (`own` is not possible).
    #[serde(default = "drop")]
    pub late: Late,
    /// A jq program over `{request, replies}` that gives the body; none: the list of replies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}

/// Asks an HTTP service, and merges its answer into the message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Enrich {
    /// A jq program that gives the URL.
    pub url: String,
    /// `GET`, or `POST` if there is a body; another method by its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// A jq program that gives an object of headers for the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<String>,
    /// A jq program that gives the body of the request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A jq program that gives the message's new body; `$response` has `status`, `headers` and `body`.
    pub merge: String,
    /// Milliseconds for the whole exchange.
    #[serde(default = "five_seconds")]
    pub timeout_ms: u64,
    /// Statuses that count as an answer besides those from 200 to 299.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept: Vec<u16>,
    /// Keeps answers for a while.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<Cache>,
}

/// How answers are kept: by method, URL, headers and body of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Cache {
    /// Milliseconds for which an answer holds.
    pub ttl_ms: u64,
    /// Answers kept at a time; past it the oldest goes.
    #[serde(default = "thousand")]
    pub entries: usize,
}

/// Puts a large body aside (claim check), to be fetched again by `redeem`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The topic that keeps bodies, for as long as its retention says.
    pub store: String,
    /// Only bodies of more bytes.
    #[serde(default)]
    pub above_bytes: usize,
    /// A jq program that gives what stays in the message; none: null.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keep: Option<String>,
}

/// Sends by a table that is kept on a topic (dynamic router): the message ends here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Table {
    /// The topic, best a compacted one: each message says by its key where messages go for which `key` gives that; its body is an
    /// address or a list of them, or empty to take the entry away.
    pub topic: String,
    /// A jq program that gives the key to look up.
    pub key: String,
    /// Patterns of the addresses that the table may give.
    pub allowed: Vec<String>,
}

fn one() -> u64 {
    1
}

fn minute() -> u64 {
    60_000
}

fn hour() -> u64 {
    60 * 60 * 1000
}

fn day() -> u64 {
    24 * 60 * 60 * 1000
}

fn five_seconds() -> u64 {
    5_000
}

fn thousand() -> usize {
    1_000
}

fn drop() -> Late {
    Late::Drop
}
