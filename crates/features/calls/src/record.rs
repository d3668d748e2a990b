//! What is written down of a call at each step: all there is to know, so that the latest record is enough.
//!
//! A record is one message on the topic [`crate::names::CALLS`], its key the call's sixteen bytes. The body is one line of JSON
//! ([`Record`]), a line feed, and the bytes of the result's body. A message without body says that the call is forgotten.

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use waystation_base::{Attempt, Message, MessageId, Millis, Name, Offset, Tag};

use crate::{CallId, Key, ReplyTo, limits::NOTE_BYTES_MAX};

/// Where a call stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = CallState))]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// It is durable and waits for a worker.
    Queued,
    /// A worker has it, or has had it and let it go.
    Working,
    /// It has a result.
    Succeeded,
    /// It has an error.
    Failed,
    /// It was cancelled.
    Cancelled,
    /// Its time was over.
    Expired,
}

impl State {
    /// All of them.
    pub const ALL: [State; 6] =
        [State::Queued, State::Working, State::Succeeded, State::Failed, State::Cancelled, State::Expired];

    /// Whether it is final.
    pub fn is_finished(self) -> bool {
        !matches!(self, State::Queued | State::Working)
    }

    /// In one word.
    pub fn word(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Working => "working",
            State::Succeeded => "succeeded",
            State::Failed => "failed",
            State::Cancelled => "cancelled",
            State::Expired => "expired",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// The message that a worker holds on the operation's queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// Its tag there.
    pub tag: Tag,
    /// Under which attempt it was handed out there.
    pub attempt: Attempt,
}

/// How far a worker is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = CallProgress))]
#[serde(default, deny_unknown_fields)]
pub struct Progress {
    /// Per cent, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// In the worker's words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

/// A result without its body.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResultHead {
    /// The HTTP status.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Bytes of its body.
    pub bytes: u64,
}

/// Why a call has no result: what its problem (RFC 9457) will say.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The HTTP status of the problem.
    pub status: u16,
    /// The kind of problem: `urn:waystation:problem:call-…`.
    pub kind: SmolStr,
    /// What happened.
    pub detail: String,
}

impl Fault {
    pub(crate) fn new(status: u16, kind: &str, detail: &str) -> Fault {
        let kind = format!("urn:waystation:problem:{kind}").into();
        Fault { status, kind, detail: cut(detail) }
    }
}

/// The beginning of a worker's text, which may have any length.
pub(crate) fn cut(text: &str) -> String {
    let end = (0..=NOTE_BYTES_MAX.min(text.len())).rev().find(|at| text.is_char_boundary(*at));
    text[..end.unwrap_or(0)].to_owned()
}

/// Numbers past 2^64 as text, which every reader of JSON takes.
mod hex {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub fn serialize<S: Serializer>(keys: &Option<crate::Key>, to: S) -> Result<S::Ok, S::Error> {
        match keys {
            Some(key) => to.serialize_str(&format!("{:032x}{:032x}", key.scope, key.request)),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<crate::Key>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        let half = |at: usize| {
            let digits = text.get(at..at + 32).ok_or_else(|| D::Error::custom("64 digits"))?;
            u128::from_str_radix(digits, 16).map_err(D::Error::custom)
        };
        Ok(Some(crate::Key { scope: half(0)?, request: half(32)? }))
    }
}

/// Everything about a call but its result's body.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Its id.
    pub id: CallId,
    /// What was called.
    pub operation: Name,
    /// The queue that its request went to, whatever the operation says by now.
    pub queue: Name,
    /// Where it stands.
    pub state: State,
    /// How many steps it has taken, the first included.
    pub version: u32,
    /// When it was accepted.
    pub created: Millis,
    /// When it took its latest step.
    pub changed: Millis,
    /// When it expires.
    pub deadline: Millis,
    /// For how long it is kept once it has finished.
    pub retention_ms: u64,
    /// Who called.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Its idempotency key.
    #[serde(default, with = "hex", skip_serializing_if = "Option::is_none")]
    pub key: Option<Key>,
    /// Where its outcome goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub callback: Option<String>,
    /// The caller's trace context.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// How often a worker has begun.
    #[serde(default)]
    pub attempt: u32,
    /// What the present worker holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held: Option<Held>,
    /// How far it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub progress: Option<Progress>,
    /// When a worker first began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Millis>,
    /// When it finished.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished: Option<Millis>,
    /// What the latest failed attempt said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Its result, without the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultHead>,
    /// Or its error.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
    /// Its request is kept, so that it can be tried anew: see [`crate::names::REQUESTS`].
    #[serde(default, skip_serializing_if = "is_not")]
    pub is_request_kept: bool,
    /// Where there, once it has taken a step.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Offset>,
    /// The caller's own correlation id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Where its outcome goes as a message, if it was started by one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply: Option<ReplyTo>,
    /// The call whose request it tries anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_of: Option<CallId>,
    /// The call that tries its request anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retried_as: Option<CallId>,
}

fn is_not(value: &bool) -> bool {
    !value
}

impl Record {
    /// When it is forgotten; none while it is open.
    pub fn forget_at(&self) -> Option<Millis> {
        self.finished.map(|at| at.plus(self.retention_ms))
    }

    /// The message that keeps it, with the result's body.
    pub(crate) fn message(&self, body: &[u8], now: Millis) -> Message {
        // A record has texts and numbers only, which JSON always takes.
        let mut text = serde_json::to_vec(self).unwrap_or_default();
        text.push(b'\n');
        text.extend_from_slice(body);
        Message { key: Some(key_of(self.id)), ..Message::new(MessageId(self.id.0.0), now, text) }
    }

    /// Reads what [`Record::message`] wrote.
    pub(crate) fn read(body: &Bytes) -> Result<(Record, Bytes), String> {
        let end = body.iter().position(|byte| *byte == b'\n').ok_or("there is no end of line")?;
        let record = serde_json::from_slice(&body[..end]).map_err(|error| error.to_string())?;
        Ok((record, body.slice(end + 1..)))
    }
}

/// The key of a call's records.
pub(crate) fn key_of(id: CallId) -> Bytes {
    Bytes::copy_from_slice(id.0.as_bytes())
}

/// The call that a record is about.
pub(crate) fn id_of(key: Option<&Bytes>) -> Option<CallId> {
    let bytes: [u8; 16] = key?.as_ref().try_into().ok()?;
    Some(CallId(MessageId::from_bytes(bytes)))
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A call that waits.
    pub(crate) fn record(id: CallId) -> Record {
        Record {
            id,
            operation: Name::new("op").expect("a name"),
            queue: Name::new("op").expect("a name"),
            state: State::Queued,
            version: 1,
            created: id.time(),
            changed: id.time(),
            deadline: Millis(1000),
            retention_ms: 50,
            caller: None,
            key: None,
            callback: None,
            traceparent: None,
            attempt: 0,
            held: None,
            progress: None,
            started: None,
            finished: None,
            last_error: None,
            result: None,
            fault: None,
            is_request_kept: true,
            request: None,
            correlation_id: None,
            reply: None,
            retry_of: None,
            retried_as: None,
        }
    }

    #[test]
    fn a_record_comes_back_with_its_body_whatever_that_holds() {
        let record = Record {
            state: State::Succeeded,
            version: 3,
            caller: Some("shop".into()),
            key: Some(Key { scope: u128::MAX, request: 1 }),
            attempt: 1,
            held: Some(Held { tag: Tag(9), attempt: Attempt(1) }),
            progress: Some(Progress { percent: Some(40), note: Some("line\nfeed".into()) }),
            started: Some(Millis(2)),
            finished: Some(Millis(4)),
            result: Some(ResultHead { status: 200, headers: vec![("a".into(), "b".into())], bytes: 4 }),
            retried_as: Some(CallId(MessageId::new(Millis(6), 8))),
            ..record(CallId(MessageId::new(Millis(5), 7)))
        };
        let message = record.message(b"a\nb\n", Millis(4));
        assert_eq!(id_of(message.key.as_ref()), Some(record.id));
        assert_eq!(Record::read(&message.body), Ok((record.clone(), Bytes::from_static(b"a\nb\n"))));
        assert_eq!(record.forget_at(), Some(Millis(54)));
        assert!(Record::read(&Bytes::from_static(b"{}")).is_err());
    }

    #[test]
    fn a_text_is_cut_at_its_bound_and_between_characters() {
        assert_eq!(cut(&"x".repeat(NOTE_BYTES_MAX)).len(), NOTE_BYTES_MAX);
        assert_eq!(cut(&"x".repeat(NOTE_BYTES_MAX + 1)).len(), NOTE_BYTES_MAX);
        assert_eq!(cut(&"ä".repeat(NOTE_BYTES_MAX)).len(), NOTE_BYTES_MAX);
        assert_eq!(cut(&format!("x{}", "ä".repeat(NOTE_BYTES_MAX))).len(), NOTE_BYTES_MAX - 1);
    }
}
