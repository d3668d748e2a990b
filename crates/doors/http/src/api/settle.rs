//! How are messages settled, and publishes and settlements made one?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Accepted, Line, TagText};

/// How work on a message went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// Done: the message leaves.
    #[default]
    Accept,
    /// Never again: to the dead-letter address, with the error text.
    Reject,
    /// Failed: again after `delay_ms`, or as the retry policy says; the attempt counts.
    Requeue,
    /// Not tried: again, and the attempt does not count.
    Release,
}

/// One message's outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Settlement {
    /// As it was delivered.
    #[schema(value_type = String)]
    pub tag: TagText,
    /// As it was delivered.
    pub attempt: u32,
    /// How it went.
    pub outcome: Outcome,
    /// With `reject` and `requeue`: why, kept with the dead letter; cut at 4096 bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// With `reject` and `requeue`: which kind of error that is, at most 64 bytes; the retry policy may have its own words for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// With `requeue`: milliseconds to wait before, instead of the retry policy's pause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
}

/// Outcomes of messages of one queue or subscription: all of them take effect, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SettleRequest {
    /// Which, and how it went.
    pub settlements: Vec<Settlement>,
}

/// The outcomes are durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Settled {
    /// How many.
    pub settled: u64,
}

/// A message that is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Held {
    /// As it was delivered.
    #[schema(value_type = String)]
    pub tag: TagText,
    /// As it was delivered.
    pub attempt: u32,
}

/// Prolongs leases.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExtendRequest {
    /// Of which messages: all of them, or none.
    pub held: Vec<Held>,
    /// Milliseconds from now.
    pub lease_ms: u64,
}

/// The leases are prolonged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Extended {
    /// Their new end, in milliseconds since 1970.
    pub lease_until: u64,
}

/// Publishes and settlements as one: all of it takes effect, or nothing.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TransactionRequest {
    /// What to publish, in order.
    pub publishes: Vec<TransactionPublish>,
    /// What to settle. One that is not held refuses everything.
    pub settlements: Vec<TransactionSettle>,
}

/// Messages for one address.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransactionPublish {
    /// A queue or topic.
    pub address: String,
    /// The partition of a topic; none: by key, or in turn.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partition: Option<u32>,
    /// The messages.
    pub messages: Vec<Line>,
}

/// Outcomes of messages of one queue or subscription; exactly one of the two is named.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransactionSettle {
    /// The queue.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The subscription.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    /// Which, and how it went.
    pub settlements: Vec<Settlement>,
}

/// The transaction is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Transacted {
    /// What became of each publish, in order.
    pub published: Vec<Accepted>,
    /// How many messages were settled.
    pub settled: u64,
}
