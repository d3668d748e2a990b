//! How is it put on record what a message met in a route? A message in the topic [`TOPIC`], in the step that settles it.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use utoipa::ToSchema;
use waystation_base::{Message, MessageId, Millis, Name, message::header};
use waystation_broker::{
    Refusal, SessionId,
    spec::{Spec, TopicSpec},
};
use waystation_host::Broker;

use crate::{packet::to_json, trail::Said};

/// The topic that holds the records.
pub const TOPIC: &str = "$routes";
/// Milliseconds for which they are kept.
const RETENTION_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Bytes of them past which the oldest go.
const RETENTION_BYTES: u64 = 256 << 20;

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RouteEnding)]
pub enum Ending {
    /// It was sent on.
    Sent,
    /// It ended in the route, as declared.
    Ended,
    /// It failed, and is among the dead letters.
    DeadLettered,
    /// It failed, and is tried again.
    Retried,
}

/// A message that was sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = RouteSent)]
pub struct Sent {
    /// Where to.
    pub to: String,
    /// Its id there.
    pub id: String,
}

/// A record, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[schema(as = RouteRecord)]
pub struct Record {
    /// The route.
    #[schema(value_type = String)]
    pub route: SmolStr,
    /// When it was settled, in milliseconds since 1970.
    #[schema(value_type = u64)]
    pub at: Millis,
    /// The message's id.
    pub message: String,
    /// The address that it came from.
    pub address: String,
    /// Which attempt it was.
    pub attempt: u32,
    /// What became of it.
    pub ending: Ending,
    /// Why, if it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What each step said.
    pub trail: Vec<Said>,
    /// What was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sent: Vec<Sent>,
}

/// The topic's name.
pub fn topic() -> Name {
    Name::reserved(TOPIC).unwrap_or_else(|error| unreachable!("a good name: {error}"))
}

/// Makes the topic.
pub async fn declare(broker: &Broker) -> Result<(), Refusal> {
    let spec = TopicSpec {
        retention_ms: Some(RETENTION_MS),
        retention_bytes: Some(RETENTION_BYTES),
        ..TopicSpec::default()
    };
    broker.declare(topic(), Spec::Topic(spec), true, SessionId::default()).await.map(|_| ())
}

impl Record {
    /// The message that keeps it.
    pub fn message(&self, id: MessageId) -> Message {
        let mut message = Message::new(id, self.at, to_json(self));
        message.key = Some(Bytes::copy_from_slice(self.route.as_bytes()));
        message.headers.set(header::CONTENT_TYPE, "application/json");
        message
    }
}
