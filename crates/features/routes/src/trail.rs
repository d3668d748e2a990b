//! What did each step say of a message?

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What one step said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = RouteSaid)]
pub struct Said {
    /// Which step: `steps[2].choose[1]`.
    #[schema(value_type = String)]
    pub step: Arc<str>,
    /// In one word.
    pub verdict: Verdict,
    /// Of a message that was split before: the number of the part, from 0, for each time.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub part: Vec<u32>,
    /// Why, or what it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// A step's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RouteVerdict)]
pub enum Verdict {
    /// Its condition holds.
    Matched,
    /// Its condition does not hold.
    NotMatched,
    /// It changed the message.
    Changed,
    /// It divided the message into parts.
    Split,
    /// It sent the message somewhere.
    Sent,
    /// The message ends there, as declared.
    Ended,
    /// The message waits there for others.
    Kept,
    /// The message failed there.
    Failed,
}
