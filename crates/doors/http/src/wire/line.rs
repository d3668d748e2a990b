//! What does one line of NDJSON say? The hot path of bulk publishing: the body is not copied, only shared.

use std::{borrow::Cow, fmt};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde::{Deserialize, Deserializer, de};
use serde_json::value::RawValue;
use waystation_base::{
    Message, Millis,
    limits::DELAY_MS_MAX,
    message::header::{CONTENT_TYPE, CORRELATION_ID, MESSAGE_ID, REPLY_TO, TYPE},
};

use super::{Error, json, stamp::Stamp, time, value::ReadHeaders};
use crate::api::media;

/// Text that is copied only where JSON escapes made it differ from the input.
struct Text<'a>(Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Text<'a>, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Text<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        from.deserialize_str(Visitor)
    }
}

/// A moment: a number of milliseconds, or RFC 3339.
struct Moment(Millis);

impl<'de> Deserialize<'de> for Moment {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Moment, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Moment;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("milliseconds since 1970 or an RFC 3339 time")
            }

            fn visit_u64<E>(self, ms: u64) -> Result<Moment, E> {
                Ok(Moment(Millis(ms)))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Moment, E> {
                let at = time::parse(text);
                at.map(Moment).ok_or_else(|| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        from.deserialize_any(Visitor)
    }
}

/// A body of `null` is a body too, so it must not become "none".
fn present<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// [`crate::api::Line`], borrowed from the input.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parsed<'a> {
    #[serde(borrow, default)]
    key: Option<Text<'a>>,
    #[serde(borrow, default)]
    key_base64: Option<Text<'a>>,
    #[serde(borrow, default)]
    id: Option<Text<'a>>,
    #[serde(borrow, default)]
    content_type: Option<Text<'a>>,
    #[serde(default)]
    priority: Option<u8>,
    #[serde(default)]
    ttl_ms: Option<u64>,
    #[serde(default)]
    delay_ms: Option<u64>,
    #[serde(default)]
    deliver_at: Option<Moment>,
    #[serde(default)]
    timestamp: Option<Moment>,
    #[serde(borrow, default)]
    correlation_id: Option<Text<'a>>,
    #[serde(borrow, default)]
    reply_to: Option<Text<'a>>,
    #[serde(borrow, default, rename = "type")]
    kind: Option<Text<'a>>,
    #[serde(default)]
    headers: ReadHeaders,
    #[serde(borrow, default, deserialize_with = "present")]
    body: Option<&'a RawValue>,
    #[serde(borrow, default)]
    body_text: Option<Text<'a>>,
    #[serde(borrow, default)]
    body_base64: Option<Text<'a>>,
}

/// Reads a line, which must lie within `owner`: the message shares its memory.
pub fn parse(owner: &Bytes, line: &[u8], stamp: &mut Stamp) -> Result<Message, Error> {
    let parsed: Parsed<'_> = json::parse(line)?;
    parsed.into_message(owner, stamp)
}

impl Parsed<'_> {
    /// Makes the message. What is borrowed must lie within `owner`.
    pub(crate) fn into_message(self, owner: &Bytes, stamp: &mut Stamp) -> Result<Message, Error> {
        let mut message = stamp.message();
        let share = |text: Text<'_>| match text.0 {
            Cow::Borrowed(text) => owner.slice_ref(text.as_bytes()),
            Cow::Owned(text) => Bytes::from(text),
        };
        message.key = match (self.key, self.key_base64) {
            (Some(_), Some(_)) => return Err(Error::field("key_base64", "is given besides key")),
            (Some(key), None) => Some(share(key)),
            (None, Some(key)) => Some(decode("key_base64", &key.0)?),
            (None, None) => None,
        };
        message.headers = self.headers.0;
        let (body, default_type) = match (self.body, self.body_text, self.body_base64) {
            (None, None, None) => (Bytes::new(), None),
            (Some(raw), None, None) => (owner.slice_ref(raw.get().as_bytes()), Some(media::JSON)),
            (None, Some(text), None) => (share(text), Some(media::TEXT)),
            (None, None, Some(text)) => (decode("body_base64", &text.0)?, None),
            _ => {
                return Err(Error::field("body", "only one of body, body_text and body_base64 may be given"));
            }
        };
        message.body = body;
        let given = self.content_type.as_ref().map(|text| &*text.0);
        let has_header = message.headers.get(CONTENT_TYPE).is_some();
        let content_type = given.or(default_type.filter(|_| !has_header));
        let texts = [
            (CONTENT_TYPE, content_type),
            (MESSAGE_ID, self.id.as_ref().map(|text| &*text.0)),
            (CORRELATION_ID, self.correlation_id.as_ref().map(|text| &*text.0)),
            (REPLY_TO, self.reply_to.as_ref().map(|text| &*text.0)),
            (TYPE, self.kind.as_ref().map(|text| &*text.0)),
        ];
        for (name, text) in texts {
            if let Some(text) = text {
                message.headers.set(name, text);
            }
        }
        message.priority = self.priority.unwrap_or(0);
        message.timestamp = self.timestamp.map_or(message.timestamp, |at| at.0);
        let deliver_at = self.deliver_at.map(|at| at.0);
        schedule(&mut message, stamp.now(), self.ttl_ms, self.delay_ms, deliver_at)?;
        message.check()?;
        Ok(message)
    }
}

/// Reads base 64 (RFC 4648 §4, padded).
pub fn decode(field: &'static str, text: &str) -> Result<Bytes, Error> {
    BASE64
        .decode(text)
        .map(Bytes::from)
        .map_err(|error| Error::field(field, format!("is not base 64: {error}")))
}

/// Sets when a message expires and when it may be delivered, within limits.
pub fn schedule(
    message: &mut Message,
    now: Millis,
    ttl_ms: Option<u64>,
    delay_ms: Option<u64>,
    deliver_at: Option<Millis>,
) -> Result<(), Error> {
    let check = |field: &'static str, ms: Option<u64>, min: u64| match ms {
        Some(ms) if !(min..=DELAY_MS_MAX).contains(&ms) => Err(Error::field(
            field,
            format!("must lie between {min} and {DELAY_MS_MAX} milliseconds, is {ms}"),
        )),
        _ => Ok(()),
    };
    check("ttl_ms", ttl_ms, 1)?;
    check("delay_ms", delay_ms, 0)?;
    check("deliver_at", deliver_at.map(|at| at.since(now)), 0)?;
    if delay_ms.is_some() && deliver_at.is_some() {
        return Err(Error::field("deliver_at", "is given besides delay_ms"));
    }
    message.expires_at = ttl_ms.map(|ms| now.plus(ms));
    message.deliver_at = deliver_at.or(delay_ms.filter(|ms| *ms > 0).map(|ms| now.plus(ms)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: Millis = Millis(1_000_000);

    fn read(line: &str) -> Result<Message, Error> {
        let owner = Bytes::copy_from_slice(line.as_bytes());
        parse(&owner, &owner, &mut Stamp::with_random(NOW, 7))
    }

    fn refused(line: &str, part: &str) {
        let error = read(line).expect_err(line).to_string();
        assert!(error.contains(part), "{line}: {error}");
    }

    #[test]
    fn a_full_line_becomes_a_message() {
        let message = read(
            r#"{"key":"k\n","id":"a-1","priority":9,"ttl_ms":5,"delay_ms":6,"correlation_id":"c","reply_to":"r",
                "type":"t","headers":{"n":7,"s":"x"},"timestamp":"1970-01-01T00:00:01Z","body": {"a" : [1, 2]}}"#,
        )
        .expect("good");
        assert_eq!(message.key.as_deref(), Some(&b"k\n"[..]));
        assert_eq!(&message.body[..], br#"{"a" : [1, 2]}"#);
        assert_eq!((message.priority, message.timestamp), (9, Millis(1000)));
        assert_eq!((message.expires_at, message.deliver_at), (Some(NOW.plus(5)), Some(NOW.plus(6))));
        let names: Vec<_> = message.headers.0.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["n", "s", "content-type", "message-id", "correlation-id", "reply-to", "type"]);
        assert_eq!(message.headers.text(CONTENT_TYPE), Some("application/json"));
    }

    #[test]
    fn bodies_may_be_json_text_bytes_or_absent() {
        let body = |line: &str| {
            let message = read(line).expect(line);
            (message.body.to_vec(), message.headers.text(CONTENT_TYPE).map(str::to_owned))
        };
        assert_eq!(body(r#"{"body":null}"#), (b"null".to_vec(), Some("application/json".into())));
        assert_eq!(body(r#"{"body_text":"\u00e4"}"#), ("ä".into(), Some(media::TEXT.into())));
        assert_eq!(body(r#"{"body_base64":"AP8="}"#), (vec![0, 255], None));
        assert_eq!(body(r#"{"body":1,"content_type":"x/y"}"#), (b"1".to_vec(), Some("x/y".into())));
        assert_eq!(
            body(r#"{"body":1,"headers":{"content-type":"h/h"}}"#),
            (b"1".to_vec(), Some("h/h".into()))
        );
        assert_eq!(body("{}"), (vec![], None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        refused("", "EOF");
        refused("[]", "an object");
        refused(r#"{"kee":1}"#, "kee");
        refused(r#"{"key":1}"#, "a string");
        refused(r#"{"priority":256}"#, "256");
        refused(r#"{"body":1,"body":2}"#, "duplicate field");
        refused(r#"{"body":1,"body_text":"x"}"#, "only one of");
        refused(r#"{"body_base64":"*"}"#, "base 64");
        refused(r#"{"key":"a","key_base64":"YQ=="}"#, "besides key");
        refused(r#"{"deliver_at":"tomorrow"}"#, "RFC 3339");
        refused(r#"{"delay_ms":1,"deliver_at":1}"#, "besides delay_ms");
        refused(r#"{"headers":{"":1}}"#, "header name");
        let error = read(r#"{"body": tru }"#).expect_err("not JSON");
        assert!(matches!(error, Error::Json { line: 1, column: 13, .. }), "{error:?}");
    }

    #[test]
    fn times_hold_at_delay_ms_max_and_are_refused_past_it() {
        let max = DELAY_MS_MAX;
        for field in ["ttl_ms", "delay_ms"] {
            assert!(read(&format!(r#"{{"{field}":{max}}}"#)).is_ok(), "{field}");
            refused(&format!(r#"{{"{field}":{}}}"#, max + 1), field);
        }
        refused(r#"{"ttl_ms":0}"#, "ttl_ms");
        assert!(read(&format!(r#"{{"deliver_at":{}}}"#, NOW.0 + max)).is_ok());
        refused(&format!(r#"{{"deliver_at":{}}}"#, NOW.0 + max + 1), "deliver_at");
    }

    #[test]
    fn what_a_client_writes_by_the_public_type_is_understood() {
        let line = crate::api::Line {
            key: Some("k".into()),
            kind: Some("t".into()),
            body: Some(RawValue::from_string("[1]".into()).expect("JSON")),
            ..Default::default()
        };
        let message = read(&serde_json::to_string(&line).expect("written")).expect("read");
        assert_eq!((&message.body[..], message.headers.text(TYPE)), (&b"[1]"[..], Some("t")));
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_message_or_a_precise_error(bytes: Vec<u8>) {
            let owner = Bytes::from(bytes);
            let _ = parse(&owner, &owner, &mut Stamp::with_random(NOW, 7));
        }

        #[test]
        fn a_good_line_with_one_byte_changed_is_a_message_or_an_error(at in 0usize..70, byte: u8) {
            let mut line = br#"{"key":"k","headers":{"a":[1,{"$base64":"AA=="}]},"body":{"x":"y"}}     "#.to_vec();
            line[at] = byte;
            let owner = Bytes::from(line);
            let _ = parse(&owner, &owner, &mut Stamp::with_random(NOW, 7));
        }
    }
}
