//! How do operations and calls look over HTTP?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_calls::{Operation, Progress, Replied, State, UpstreamInfo};
use waystation_webhooks::push::Fate;

use super::{Declared, Problem};

/// An operation as it is declared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationInfo {
    /// Its name.
    pub name: String,
    /// How it is declared.
    pub spec: Operation,
    /// How its upstream is now, if it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub upstream: Option<UpstreamInfo>,
    /// Which signature each of its own secrets makes on its callbacks: `v1` or `v1a`.
    #[serde(default)]
    pub callback_signatures: Vec<String>,
}

/// The declaration of an operation is durable.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct OperationDeclaration {
    /// What it did.
    pub declared: Declared,
    /// What will not go as somebody may think.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A call. Moments are milliseconds since 1970.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Call {
    /// Its id.
    pub id: String,
    /// What was called.
    pub operation: String,
    /// Where it stands.
    pub state: Option<State>,
    /// How many steps it has taken; the ETag says the same.
    pub version: u32,
    /// When it was accepted.
    pub created: u64,
    /// Milliseconds since then.
    pub age_ms: u64,
    /// When it took its latest step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub changed: Option<u64>,
    /// When it expires, if it has no outcome until then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<u64>,
    /// While it is queued: its place among the operation's calls that wait, 1 for the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<u64>,
    /// How often a worker has begun.
    pub attempt: u32,
    /// How far the worker is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// What the latest failed attempt said.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When a worker first began.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// When it finished.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub finished: Option<u64>,
    /// When it is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forget_at: Option<u64>,
    /// Where its outcome is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// How that goes, once the call has finished; left out when that is forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_delivery: Option<Fate>,
    /// Its result, without the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<CallResult>,
    /// Why it has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
    /// The caller's own correlation id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Where its outcome goes as a message, if a message started it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply: Option<CallReply>,
    /// The call whose request it tries anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<String>,
    /// The call that tries its request anew.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retried_as: Option<String>,
    /// Paths of what belongs to it.
    pub links: BTreeMap<String, String>,
}

/// Where the outcome of a call goes that was started by a message.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallReply {
    /// What the caller wrote as `reply-to`.
    pub to: String,
    /// Whether it has gone there.
    pub state: Replied,
    /// Why it could not go there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A result without its body.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallResult {
    /// The HTTP status that the worker gave.
    pub status: u16,
    /// Header fields.
    pub headers: BTreeMap<String, String>,
    /// Bytes of the body.
    pub bytes: u64,
}

/// What a cancellation came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Cancellation {
    /// Whether this request cancelled the call.
    pub cancelled: bool,
    /// Where the call stands now.
    pub state: State,
    /// Where it stood before.
    pub before: State,
}

/// A worker's call took a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Stepped {
    /// Where the call stands now.
    pub state: State,
    /// The new end of the lease, if it was prolonged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<u64>,
}

/// How far a worker is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ProgressReport {
    /// The attempt under which the call was received.
    pub attempt: Option<u32>,
    /// Per cent, 0 to 100.
    pub percent: Option<u8>,
    /// In the worker's words.
    pub note: Option<String>,
    /// Prolong the lease to so many milliseconds from now.
    pub lease_ms: Option<u64>,
}

/// A worker has failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct FailureReport {
    /// The attempt under which the call was received.
    pub attempt: Option<u32>,
    /// Why, in the worker's words.
    pub error: String,
    /// Whether trying again may help: the call goes back to the queue while the operation's `max_attempts` are not used up.
    pub retry: bool,
    /// Milliseconds to wait before.
    pub delay_ms: u64,
}
