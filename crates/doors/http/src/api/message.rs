//! What does a message look like in JSON, going in and coming out?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{Problem, TagText};

/// A message to publish: one line of `application/x-ndjson`. At most one of the bodies and one of the keys is given.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Line {
    /// What orders and partitions go by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A key that is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// The sender's own id of the message; what deduplication goes by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// Media type of the body. Without it: JSON for `body`, text for `body_text`, bytes for `body_base64`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// 0 (least, the default) to 255 (first).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<u8>,
    /// Milliseconds from now after which it is of no use any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// Milliseconds from now before which it is not delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Not delivered before this moment: milliseconds since 1970, or RFC 3339 text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub deliver_at: Option<serde_json::Value>,
    /// When its sender made it (now, if not given): milliseconds since 1970, or RFC 3339 text.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub timestamp: Option<serde_json::Value>,
    /// Ties a reply to its request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The address for replies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The kind of event or command, in the sender's words.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Everything else. Bytes are `{"$base64": "…"}`, moments `{"$time_ms": …}`.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub headers: BTreeMap<String, serde_json::Value>,
    /// Any JSON value; its text is the body, as it stands.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub body: Option<Box<RawValue>>,
    /// A body that is text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_text: Option<String>,
    /// Any body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

/// One event of a stream (WHATWG HTML, 9.2.6): as such a description has it, the schema of `text/event-stream` is that of each event.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
pub struct ServerSentEvent {
    /// What the stream goes on from, given as `Last-Event-ID`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What is told; `message` if nothing else is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
    /// JSON.
    pub data: String,
}

/// A message as it comes out: received, followed or looked at. Members that are empty are left out.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Received {
    /// Settle it by this.
    #[schema(value_type = String)]
    pub tag: TagText,
    /// How often it has been handed out, this time included; settle it by this.
    pub attempt: u32,
    /// Whether it was handed out before.
    pub redelivered: bool,
    /// When its lease ends, in milliseconds since 1970; none: it is not leased.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lease_until: Option<u64>,
    /// The queue, or the topic that it was published to.
    pub address: String,
    /// The topic's partition; the lane of a queue.
    pub partition: u32,
    /// Its offset there.
    pub offset: u64,
    /// Waystation's own id for it.
    pub uuid: String,
    /// When its sender made it, in milliseconds since 1970.
    pub timestamp: u64,
    /// The sender's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// What orders and partitions go by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// A key that is not text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key_base64: Option<String>,
    /// 0 (least) to 255 (first).
    #[serde(skip_serializing_if = "is_zero")]
    pub priority: u8,
    /// When it is of no use any more, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<u64>,
    /// Not delivered before, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliver_at: Option<u64>,
    /// Media type of the body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
    /// Ties a reply to its request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// The address for replies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// The kind of event or command, in the sender's words.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Everything else.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = Object)]
    pub headers: BTreeMap<String, serde_json::Value>,
    /// The body, if its type is JSON and it is valid.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub body: Option<Box<RawValue>>,
    /// The body, if its type is text and it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_text: Option<String>,
    /// The body, if it is neither.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_base64: Option<String>,
}

fn is_zero(priority: &u8) -> bool {
    *priority == 0
}

/// What was received.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct ReceivedPage {
    /// The messages; none if the wait ended without one.
    pub messages: Vec<Received>,
}

/// What was looked at.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct MessagePage {
    /// The messages; `attempt` says how often each was handed out so far.
    pub messages: Vec<Received>,
    /// Give this as `from` to go on; none: this is the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub next: Option<TagText>,
}

/// The publish is durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Accepted {
    /// Messages stored.
    pub accepted: u64,
    /// Messages not stored because one with their id was.
    pub duplicates: u64,
    /// By way of a route: copies stored in all its queues and topics; left out for a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub copies: Option<u64>,
    /// By way of a route: messages that no binding took; left out for a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unrouted: Option<u64>,
    /// Lines read from a stream.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lines: Option<u64>,
    /// Waystation's own id for the message, if one was sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uuid: Option<String>,
    /// Where the messages went; left out for a stream.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub places: Vec<Place>,
}

/// A stretch of messages that were stored one after the other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Place {
    /// The topic's partition; the lane of a queue.
    pub partition: u32,
    /// The offset of the first.
    pub offset: u64,
    /// How many.
    pub count: u64,
}

/// One line of a publish stream's answer, if it was asked for as `application/x-ndjson`. Counts are of the stream so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = PublishProgress)]
pub struct Progress {
    /// Messages stored.
    pub accepted: u64,
    /// Messages not stored because one with their id was.
    pub duplicates: u64,
    /// Lines whose messages are durable.
    pub lines: u64,
    /// Whether this is the last line and all went well.
    pub done: bool,
    /// Why the stream ended early; then this is the last line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<Problem>,
}
