//! What a message is, whatever the door it came through.

use bytes::Bytes;
use smol_str::SmolStr;

use crate::{
    ids::MessageId,
    limits::{HEADER_NAME_BYTES_MAX, HEADERS_MAX, KEY_BYTES_MAX, MESSAGE_BYTES_MAX, VALUE_DEPTH_MAX},
    time::Millis,
    value::Value,
};

/// Names of headers with a meaning that every door knows. All else is the sender's own.
pub mod header {
    use smol_str::{SmolStr, format_smolstr};

    /// Media type of the body (RFC 9110 §8.3).
    pub const CONTENT_TYPE: &str = "content-type";
    /// Coding of the body (RFC 9110 §8.4).
    pub const CONTENT_ENCODING: &str = "content-encoding";
    /// Ties a reply to its request.
    pub const CORRELATION_ID: &str = "correlation-id";
    /// The address for replies.
    pub const REPLY_TO: &str = "reply-to";
    /// The sender's own id of the message; what deduplication goes by.
    pub const MESSAGE_ID: &str = "message-id";
    /// The kind of event or command, in the sender's words.
    pub const TYPE: &str = "type";
    /// The id of the message or call that this one came from.
    pub const CAUSE: &str = "ws-cause";
    /// W3C trace context: who called.
    pub const TRACEPARENT: &str = "traceparent";
    /// W3C trace context: vendors' part.
    pub const TRACESTATE: &str = "tracestate";
    /// Prefix of declared business keys: `ws-business-order: 4711`.
    pub const BUSINESS_PREFIX: &str = "ws-business-";
    /// Why a message was dead-lettered.
    pub const DEATH_REASON: &str = "ws-death-reason";
    /// The queue or subscription that dead-lettered it last.
    pub const DEATH_SOURCE: &str = "ws-death-source";
    /// Which of the two that is: `queue` or `subscription`.
    pub const DEATH_SOURCE_KIND: &str = "ws-death-source-kind";
    /// How often it was dead-lettered in all.
    pub const DEATH_COUNT: &str = "ws-death-count";
    /// When it was dead-lettered last.
    pub const DEATH_TIME: &str = "ws-death-time";
    /// How often it had been delivered there.
    pub const DEATH_ATTEMPTS: &str = "ws-death-attempts";
    /// The error text that the consumer gave, or what happened to it.
    pub const DEATH_ERROR: &str = "ws-death-error";
    /// The class of that error.
    pub const DEATH_CLASS: &str = "ws-death-class";
    /// The queue or subscription where it was dead-lettered first.
    pub const DEATH_FIRST_SOURCE: &str = "ws-death-first-source";
    /// The topic whose message it was, if a subscription dead-lettered it.
    pub const DEATH_TOPIC: &str = "ws-death-topic";
    /// The first reason.
    pub const DEATH_FIRST_REASON: &str = "ws-death-first-reason";
    /// The route that it had been published to when it was dead-lettered first.
    pub const DEATH_FIRST_ROUTE: &str = "ws-death-first-exchange";
    /// Every dead-lettering so far, newest first: a list of maps.
    pub const DEATHS: &str = "ws-deaths";
    /// The redrive that put it where it is: one that fails again says so.
    pub const REDRIVE: &str = "ws-redrive";
    /// How often it was redriven in all.
    pub const REDRIVE_COUNT: &str = "ws-redrive-count";
    /// When it was redriven last.
    pub const REDRIVE_TIME: &str = "ws-redrive-time";
    /// Where a redrive took it from: a list of the queue, and of the route and routing key that it had there.
    pub const REDRIVE_FROM: &str = "ws-redrive-from";
    /// The id under which the redrive keeps what this message was before it was edited.
    pub const REDRIVE_ORIGINAL: &str = "ws-redrive-original";
    /// The redrive that took it away and, undone, put it back.
    pub const REDRIVE_UNDONE: &str = "ws-redrive-undone";
    /// The route that it was published to; empty or not there: a queue or topic by its own name.
    pub const ROUTE: &str = "ws-exchange";
    /// The key under which it was published.
    pub const ROUTING_KEY: &str = "ws-routing-key";
    /// Further routing keys: a list of texts.
    pub const CC: &str = "CC";
    /// The expiry as its sender wrote it.
    pub const EXPIRATION: &str = "ws-expiration";
    /// Of a part of a message that a route split: of which message, which number, of how many.
    pub const SEQUENCE_PREFIX: &str = "ws-sequence-";
    /// The ticket for a body that a route put aside, and of which type that is.
    pub const CLAIM_PREFIX: &str = "ws-claim";
    /// The user that published it, as a door has checked.
    pub const USER_ID: &str = "user-id";
    /// Stands before the name of a sender's own header that would else be taken for one with a meaning ([`stored_name`]).
    pub const ESCAPED_PREFIX: &str = "ws-amqp-header-";

    /// Whether a header that begins with `ws-` is every sender's to set: cause, business keys, and what a route gives to those who
    /// take its parts, so that they can hand it on.
    pub fn is_shared(name: &str) -> bool {
        name == CAUSE
            || name.strip_prefix(BUSINESS_PREFIX).is_some_and(|key| !key.is_empty())
            || name.starts_with(SEQUENCE_PREFIX)
            || name.starts_with(CLAIM_PREFIX)
    }

    /// Whether what stands under that name is Waystation's own word, which senders cannot give.
    pub fn is_reserved(name: &str) -> bool {
        name == USER_ID || (name.starts_with("ws-") && !is_shared(name))
    }

    /// The name under which a sender's own header is stored: a reserved one is kept apart, so that nobody takes it for
    /// Waystation's word. One that was kept apart before, and is handed on, stays as it is.
    pub fn stored_name(name: SmolStr) -> SmolStr {
        match is_reserved(&name) && !name.starts_with(ESCAPED_PREFIX) {
            true => format_smolstr!("{ESCAPED_PREFIX}{name}"),
            false => name,
        }
    }

    /// Whether a sender's own header of that name is stored behind [`ESCAPED_PREFIX`] by a door that has properties beside headers:
    /// what is reserved, and what would be taken for a property.
    pub fn is_escaped(name: &str) -> bool {
        const PROPERTIES: [&str; 7] =
            [CONTENT_TYPE, CONTENT_ENCODING, CORRELATION_ID, REPLY_TO, MESSAGE_ID, TYPE, "app-id"];
        PROPERTIES.contains(&name) || is_reserved(name)
    }
}

/// One message.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    /// Waystation's id for it.
    pub id: MessageId,
    /// When its sender made it, or else when a door accepted it.
    pub timestamp: Millis,
    /// What orders and partitions go by.
    pub key: Option<Bytes>,
    /// The payload: bytes, meaning as `content-type` says.
    pub body: Bytes,
    /// 0 (least) to 255 (first).
    pub priority: u8,
    /// When it is of no use any more.
    pub expires_at: Option<Millis>,
    /// Not to be delivered before.
    pub deliver_at: Option<Millis>,
    /// Everything else, in the sender's order.
    pub headers: Headers,
}

/// Named, typed values in order; names are compared as they stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Headers(pub Vec<(SmolStr, Value)>);

impl Headers {
    /// The first value of that name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(have, _)| have == name).map(|(_, value)| value)
    }

    /// The first value of that name, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }

    /// Puts a value in the place of all of that name, or at the end.
    pub fn set(&mut self, name: impl Into<SmolStr>, value: impl Into<Value>) {
        let name = name.into();
        let mut value = Some(value.into());
        self.0.retain_mut(|(have, old)| *have != name || value.take().map(|value| *old = value).is_some());
        self.0.extend(value.map(|value| (name, value)));
    }

    /// Takes all of that name away.
    pub fn remove(&mut self, name: &str) {
        self.0.retain(|(have, _)| have != name);
    }
}

/// Why a message was refused; each names the limit and what was found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Past [`MESSAGE_BYTES_MAX`].
    #[error("a message may have {MESSAGE_BYTES_MAX} bytes with key and headers, this one has {0}")]
    TooLarge(usize),
    /// Past [`KEY_BYTES_MAX`].
    #[error("a message key may have {KEY_BYTES_MAX} bytes, this one has {0}")]
    KeyTooLong(usize),
    /// Past [`HEADERS_MAX`].
    #[error("a message may have {HEADERS_MAX} headers, this one has {0}")]
    TooManyHeaders(usize),
    /// Empty or past [`HEADER_NAME_BYTES_MAX`].
    #[error("a header name must have 1 to {HEADER_NAME_BYTES_MAX} bytes, this one has {0}")]
    HeaderName(usize),
    /// Past [`VALUE_DEPTH_MAX`].
    #[error("the value of header {0:?} is nested deeper than {VALUE_DEPTH_MAX}")]
    HeaderDepth(String),
}

impl Message {
    /// A message with a body and nothing else.
    pub fn new(id: MessageId, timestamp: Millis, body: impl Into<Bytes>) -> Message {
        Message { id, timestamp, body: body.into(), ..Message::default() }
    }

    /// Bytes of body, key and headers together: what they take when stored, or a little more.
    pub fn size(&self) -> usize {
        let headers: usize =
            self.headers.0.iter().map(|(name, value)| 6 + name.len() + value_size(value)).sum();
        self.body.len() + self.key.as_ref().map_or(0, Bytes::len) + headers
    }

    /// Checks all limits of one message.
    pub fn check(&self) -> Result<(), Error> {
        self.checked_size().map(|_| ())
    }

    /// The same; returns [`Message::size`].
    pub fn checked_size(&self) -> Result<usize, Error> {
        let key = self.key.as_ref().map_or(0, Bytes::len);
        if key > KEY_BYTES_MAX {
            return Err(Error::KeyTooLong(key));
        }
        if self.headers.0.len() > HEADERS_MAX {
            return Err(Error::TooManyHeaders(self.headers.0.len()));
        }
        for (name, value) in &self.headers.0 {
            if name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX {
                return Err(Error::HeaderName(name.len()));
            }
            if value.depth() > VALUE_DEPTH_MAX {
                return Err(Error::HeaderDepth(name.to_string()));
            }
        }
        let size = self.size();
        if size > MESSAGE_BYTES_MAX { Err(Error::TooLarge(size)) } else { Ok(size) }
    }
}

fn value_size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Bytes(bytes) | Value::RawText(bytes) => bytes.len(),
        Value::List(items) => 4 + items.iter().map(|item| 4 + value_size(item)).sum::<usize>(),
        Value::Map(items) => {
            2 + items.iter().map(|(name, item)| 4 + name.len() + value_size(item)).sum::<usize>()
        }
        _ => 8,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Message), expected: Result<(), Error>) {
        let mut message = Message::default();
        change(&mut message);
        assert_eq!(message.check(), expected);
    }

    #[test]
    fn each_limit_holds_at_the_bound_and_refuses_past_it() {
        check(|m| m.body = vec![0; MESSAGE_BYTES_MAX].into(), Ok(()));
        check(
            |m| m.body = vec![0; MESSAGE_BYTES_MAX + 1].into(),
            Err(Error::TooLarge(MESSAGE_BYTES_MAX + 1)),
        );
        check(|m| m.key = Some(vec![0; KEY_BYTES_MAX].into()), Ok(()));
        check(|m| m.key = Some(vec![0; KEY_BYTES_MAX + 1].into()), Err(Error::KeyTooLong(KEY_BYTES_MAX + 1)));
        let header = |n: usize| (SmolStr::new("n".repeat(n)), Value::Null);
        check(|m| m.headers.0 = vec![header(1); HEADERS_MAX], Ok(()));
        check(
            |m| m.headers.0 = vec![header(1); HEADERS_MAX + 1],
            Err(Error::TooManyHeaders(HEADERS_MAX + 1)),
        );
        check(|m| m.headers.0 = vec![header(HEADER_NAME_BYTES_MAX)], Ok(()));
        check(|m| m.headers.0 = vec![header(HEADER_NAME_BYTES_MAX + 1)], Err(Error::HeaderName(256)));
        check(|m| m.headers.0 = vec![header(0)], Err(Error::HeaderName(0)));
    }

    #[test]
    fn what_is_waystations_own_word_is_kept_apart_and_all_else_is_the_senders() {
        for own in ["ws-redrive", "ws-death-reason", "ws-deaths", "ws-exchange", "ws-business-", "user-id"] {
            assert_eq!(header::stored_name(own.into()), format!("ws-amqp-header-{own}"));
            assert!(header::is_reserved(own) && header::is_escaped(own), "{own}");
        }
        let shared = ["ws-cause", "ws-business-order", "ws-sequence-id", "ws-claim", "ws-claim-type"];
        for name in shared.into_iter().chain(["colour", "x-death", "ws-amqp-header-ws-redrive"]) {
            assert_eq!(header::stored_name(name.into()), name);
        }
        assert!(header::is_escaped("content-type") && !header::is_reserved("content-type"));
    }

    #[test]
    fn set_replaces_every_value_of_a_name_and_keeps_its_place() {
        let mut headers =
            Headers(vec![("a".into(), 1.into()), ("b".into(), 2.into()), ("a".into(), 3.into())]);
        headers.set("a", 4);
        headers.set("c", 5);
        assert_eq!(
            headers,
            Headers(vec![("a".into(), 4.into()), ("b".into(), 2.into()), ("c".into(), 5.into())])
        );
    }
}
