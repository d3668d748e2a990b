//! How is each attempt put on record: a message in the topic [`TOPIC`], in the step that settles what was tried?

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waystation_base::{Message, MessageId, Millis, Name, message::header, os};
use waystation_broker::{
    Refusal, SessionId,
    command::{Payload, Publish, Target},
    spec::{Spec, TopicSpec},
};
use waystation_host::Broker;
use waystation_record::Tried;

use crate::attempt::Attempt;

/// The topic that holds the records.
pub const TOPIC: &str = waystation_record::ATTEMPTS;
/// Milliseconds for which they are kept.
const RETENTION_MS: u64 = 7 * 24 * 60 * 60 * 1000;
/// Bytes of them past which the oldest go.
const RETENTION_BYTES: u64 = 64 << 20;

/// A record, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whose attempt it was.
    pub push: String,
    /// The attempt.
    #[serde(flatten)]
    pub attempt: Attempt,
    /// The messages that it was about: the record of what became of each tells it with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried: Option<Tried>,
}

/// Makes the topic.
pub async fn declare(broker: &Broker) -> Result<(), Refusal> {
    let Ok(name) = Name::reserved(TOPIC) else { return Ok(()) };
    let spec = TopicSpec {
        retention_ms: Some(RETENTION_MS),
        retention_bytes: Some(RETENTION_BYTES),
        ..TopicSpec::default()
    };
    broker.declare(name, Spec::Topic(spec), true, SessionId::default()).await.map(|_| ())
}

/// What puts an attempt on record; nothing if the system gives no randomness.
pub(super) fn publish(push: &str, attempt: &Attempt, tried: Tried, now: Millis) -> Option<Publish> {
    let record = Record { push: push.to_owned(), attempt: attempt.clone(), tried: Some(tried) };
    let body = Bytes::from(serde_json::to_vec(&record).ok()?);
    let mut message = Message::new(MessageId::new(now, os::random().ok()?), now, body);
    message.key = Some(Bytes::copy_from_slice(push.as_bytes()));
    message.headers.set(header::CONTENT_TYPE, "application/json");
    let to = Target::Address(Name::reserved(TOPIC).ok()?);
    Some(Publish { to, partition: None, payload: Payload::One(message) })
}
