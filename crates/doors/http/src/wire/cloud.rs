//! How does a CloudEvent (1.0.2) become a message: binary, structured and batched?
//!
//! `id`, `type`, `datacontenttype`, `partitionkey` and the trace context become the message's own properties; every
//! other attribute is kept as a header `ce-…`, so that the event comes back as it came.

use std::{borrow::Cow, fmt};

use axum::http::HeaderMap;
use bytes::Bytes;
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess},
};
use serde_json::value::RawValue;
use smol_str::SmolStr;
use waystation_base::{
    Message, Value,
    message::header::{CONTENT_TYPE, MESSAGE_ID, TRACEPARENT, TRACESTATE, TYPE},
};
use waystation_events::cloud::{PARTITION_KEY, PREFIX};

use super::{Error, body, headers, line, stamp::Stamp, time, value::Read};
use crate::api::media;

/// The one version that is understood.
const VERSION: &str = "1.0";
/// Attributes that are texts, and not empty.
const TEXTS: &[&str] = &[
    "specversion",
    "id",
    "source",
    "type",
    "time",
    "subject",
    "datacontenttype",
    "dataschema",
    "partitionkey",
    "traceparent",
    "tracestate",
];
/// Events of one batch.
pub const EVENTS_MAX: usize = 10_000;

/// Whether HTTP headers say that this is an event in binary mode.
pub fn is_binary(headers: &HeaderMap) -> bool {
    headers.contains_key("ce-specversion")
}

/// Reads an event in binary mode (HTTP protocol binding §3.1).
pub fn binary(http: &HeaderMap, body: Bytes, stamp: &mut Stamp) -> Result<Message, Error> {
    let mut event = Event::new(headers::message(http, body, stamp)?);
    for (name, value) in http {
        if let Some(attribute) = name.as_str().strip_prefix(PREFIX) {
            let text = std::str::from_utf8(value.as_bytes())
                .map_err(|_| Error::field(name.as_str().to_owned(), "is not UTF-8"))?;
            event.set(attribute, Value::from(&*percent_decoded(text)))?;
        }
    }
    event.finish()
}

/// HTTP protocol binding §3.1.3.2: a value may hold percent-encoded bytes.
fn percent_decoded(text: &str) -> Cow<'_, str> {
    if !text.contains('%') {
        return Cow::Borrowed(text);
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).filter(|_| *first == b'%').and_then(|two| std::str::from_utf8(two).ok());
        match hex.and_then(|hex| u8::from_str_radix(hex, 16).ok()) {
            Some(byte) => (out.push(byte), rest = &tail[2..]).1,
            None => (out.push(*first), rest = tail).1,
        }
    }
    String::from_utf8(out).map_or(Cow::Borrowed(text), Cow::Owned)
}

/// Reads an event in structured mode (JSON event format §3).
pub fn structured(owner: &Bytes, stamp: &mut Stamp) -> Result<Message, Error> {
    let parsed: Structured<'_> = serde_json::from_slice(owner)?;
    parsed.into_message(owner, stamp)
}

/// Reads a batch of events (JSON event format §4); the error tells which one is wrong.
pub fn batch(owner: &Bytes, stamp: &mut Stamp) -> Result<Vec<Message>, (usize, Error)> {
    let parsed: Vec<Structured<'_>> = serde_json::from_slice(owner).map_err(|error| (0, error.into()))?;
    if parsed.len() > EVENTS_MAX {
        return Err((EVENTS_MAX, Error::field("events", format!("a batch may have {EVENTS_MAX}"))));
    }
    let read = |(index, event): (usize, Structured<'_>)| {
        event.into_message(owner, stamp).map_err(|error| (index, error))
    };
    parsed.into_iter().enumerate().map(read).collect()
}

/// An event on the way to a message.
struct Event {
    message: Message,
    version: bool,
    source: bool,
}

impl Event {
    fn new(message: Message) -> Event {
        Event { message, version: false, source: false }
    }

    fn set(&mut self, name: &str, value: Value) -> Result<(), Error> {
        let wrong = |reason: &str| Error::field(name.to_owned(), reason);
        let is_name = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
        if name.is_empty() || !is_name {
            return Err(wrong("an attribute's name has lower-case letters and digits only"));
        }
        if matches!(value, Value::Null) {
            return Ok(());
        }
        if !matches!(value, Value::String(_) | Value::Bool(_) | Value::I64(_)) {
            return Err(wrong("an attribute is a text, a truth value or a whole number"));
        }
        let text = value.as_str();
        if TEXTS.contains(&name) && text.is_none_or(str::is_empty) {
            return Err(wrong("must be a text that is not empty"));
        }
        let home = match (name, text) {
            ("specversion", Some(text)) if text != VERSION => return Err(wrong("must be 1.0")),
            ("id", _) => MESSAGE_ID.into(),
            ("type", _) => TYPE.into(),
            ("datacontenttype", _) => CONTENT_TYPE.into(),
            ("traceparent", _) => TRACEPARENT.into(),
            ("tracestate", _) => TRACESTATE.into(),
            (PARTITION_KEY, Some(text)) => {
                self.message.key = Some(Bytes::copy_from_slice(text.as_bytes()));
                return Ok(());
            }
            ("time", Some(text)) => {
                let at = time::parse(text).ok_or_else(|| wrong("must be an RFC 3339 time"))?;
                self.message.timestamp = at;
                SmolStr::new("ce-time")
            }
            _ => format!("{PREFIX}{name}").into(),
        };
        self.message.headers.set(home, value);
        self.version |= name == "specversion";
        self.source |= name == "source";
        Ok(())
    }

    fn finish(self) -> Result<Message, Error> {
        let headers = &self.message.headers;
        let required = [
            ("specversion", self.version),
            ("id", headers.get(MESSAGE_ID).is_some()),
            ("source", self.source),
            ("type", headers.get(TYPE).is_some()),
        ];
        if let Some((name, _)) = required.iter().find(|(_, given)| !given) {
            return Err(Error::field(*name, "is required in a CloudEvent"));
        }
        self.message.check()?;
        Ok(self.message)
    }
}

/// An event in JSON, borrowed from the input.
#[derive(Default)]
struct Structured<'a> {
    attributes: Vec<(Cow<'a, str>, Value)>,
    data: Option<&'a RawValue>,
    data_base64: Option<String>,
}

impl<'de: 'a, 'a> Deserialize<'de> for Structured<'a> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Structured<'a>, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Structured<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a CloudEvent")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Structured<'de>, A::Error> {
                let mut event = Structured::default();
                while let Some(name) = map.next_key::<Cow<'de, str>>()? {
                    match &*name {
                        "data" if event.data.is_none() => event.data = Some(map.next_value()?),
                        "data_base64" if event.data_base64.is_none() => {
                            event.data_base64 = map.next_value()?
                        }
                        _ if name.starts_with("data_") || name == "data" => {
                            return Err(de::Error::custom(format!("{name:?} is unknown or given twice")));
                        }
                        _ if event.attributes.len() >= waystation_base::limits::HEADERS_MAX => {
                            let have = event.attributes.len() + 1;
                            return Err(de::Error::custom(waystation_base::message::Error::TooManyHeaders(
                                have,
                            )));
                        }
                        _ => event.attributes.push((name, map.next_value::<Read>()?.0)),
                    }
                }
                Ok(event)
            }
        }
        from.deserialize_map(Visitor)
    }
}

impl Structured<'_> {
    fn into_message(self, owner: &Bytes, stamp: &mut Stamp) -> Result<Message, Error> {
        let mut event = Event::new(stamp.message());
        for (name, value) in self.attributes {
            event.set(&name, value)?;
        }
        let headers = &mut event.message.headers;
        let is_json =
            headers.text(CONTENT_TYPE).is_none_or(|kind| body::kind(Some(kind)) == body::Kind::Json);
        event.message.body = match (self.data, self.data_base64) {
            (Some(_), Some(_)) => return Err(Error::field("data_base64", "is given besides data")),
            (None, Some(text)) => line::decode("data_base64", &text)?,
            (None, None) => Bytes::new(),
            // JSON event format §3.1.1: text that is not JSON stands in a JSON string.
            (Some(raw), None) if !is_json && raw.get().starts_with('"') => {
                Bytes::from(serde_json::from_str::<String>(raw.get())?)
            }
            (Some(raw), None) => {
                if headers.get(CONTENT_TYPE).is_none() {
                    headers.set(CONTENT_TYPE, media::JSON);
                }
                owner.slice_ref(raw.get().as_bytes())
            }
        };
        event.finish()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};
    use proptest::prelude::*;
    use waystation_base::Millis;

    use super::*;

    fn stamp() -> Stamp {
        Stamp::with_random(Millis(1_000_000), 7)
    }

    fn read(json: &str) -> Result<Message, Error> {
        structured(&Bytes::copy_from_slice(json.as_bytes()), &mut stamp())
    }

    fn refused(json: &str, part: &str) {
        let error = read(json).expect_err(json).to_string();
        assert!(error.contains(part), "{json}: {error}");
    }

    #[test]
    fn a_structured_event_becomes_a_message() {
        let message = read(
            r#"{"specversion":"1.0","id":"a-1","source":"/s","type":"t","time":"1970-01-01T00:00:01.5Z","subject":"x",
                "partitionkey":"k","urgent":true,"level":3,"data":{"a":1}}"#,
        )
        .expect("good");
        assert_eq!((message.key.as_deref(), message.timestamp), (Some(&b"k"[..]), Millis(1500)));
        assert_eq!(&message.body[..], br#"{"a":1}"#);
        assert_eq!(message.headers.text(MESSAGE_ID), Some("a-1"));
        assert_eq!(message.headers.text(CONTENT_TYPE), Some("application/json"));
        assert_eq!(message.headers.get("ce-urgent"), Some(&Value::Bool(true)));
        assert_eq!(message.headers.get("ce-level"), Some(&Value::I64(3)));
    }

    #[test]
    fn data_may_be_text_or_bytes() {
        let base = r#""specversion":"1.0","id":"1","source":"s","type":"t""#;
        let body = |rest: &str| read(&format!("{{{base},{rest}}}")).expect(rest).body;
        assert_eq!(&body(r#""datacontenttype":"text/plain","data":"h\u00e4""#)[..], "hä".as_bytes());
        assert_eq!(&body(r#""data":"x""#)[..], b"\"x\"");
        assert_eq!(&body(r#""data_base64":"AP8=""#)[..], [0, 255]);
    }

    #[test]
    fn what_is_missing_or_wrong_is_named() {
        refused("[]", "a CloudEvent");
        refused(r#"{"specversion":"1.0","id":"1","source":"s"}"#, "type");
        refused(r#"{"specversion":"0.3"}"#, "must be 1.0");
        refused(r#"{"specversion":"1.0","id":""}"#, "id");
        refused(r#"{"specversion":"1.0","id":5}"#, "id");
        refused(r#"{"Big":"x"}"#, "lower-case");
        refused(r#"{"list":[1]}"#, "whole number");
        refused(r#"{"time":"noon"}"#, "RFC 3339");
        refused(
            r#"{"specversion":"1.0","id":"1","source":"s","type":"t","data":1,"data_base64":""}"#,
            "besides",
        );
    }

    #[test]
    fn a_batch_names_the_event_that_is_wrong() {
        let good = r#"{"specversion":"1.0","id":"1","source":"s","type":"t"}"#;
        let read = |json: String| batch(&Bytes::from(json), &mut stamp());
        assert_eq!(read(format!("[{good},{good}]")).expect("good").len(), 2);
        let (index, _) = read(format!("[{good},{{}}]")).expect_err("the second is empty");
        assert_eq!(index, 1);
        assert_eq!(
            read(format!("[{}]", vec![good; EVENTS_MAX].join(","))).expect("at the bound").len(),
            EVENTS_MAX
        );
        assert!(read(format!("[{}]", vec![good; EVENTS_MAX + 1].join(","))).is_err());
    }

    #[test]
    fn a_binary_event_carries_its_attributes_in_headers() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("ce-specversion", "1.0"),
            ("ce-id", "a"),
            ("ce-source", "s"),
            ("ce-type", "t"),
            ("ce-note", "5%25 %C3%A4%zz"),
        ] {
            headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        assert!(is_binary(&headers));
        let message = binary(&headers, Bytes::from_static(b"x"), &mut stamp()).expect("good");
        assert_eq!(message.headers.text("ce-note"), Some("5% ä%zz"));
        assert_eq!(message.headers.text(TYPE), Some("t"));
        headers.remove("ce-id");
        assert!(binary(&headers, Bytes::new(), &mut stamp()).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_events_or_a_precise_error(bytes: Vec<u8>) {
            let owner = Bytes::from(bytes);
            let _ = structured(&owner, &mut stamp());
            let _ = batch(&owner, &mut stamp());
        }

        #[test]
        fn a_good_event_with_one_byte_changed_is_an_event_or_an_error(at in 0usize..80, byte: u8) {
            let mut event = br#"{"specversion":"1.0","id":"1","source":"s","type":"t","x":true,"data":{"a":[1]}}"#.to_vec();
            event[at] = byte;
            let _ = structured(&Bytes::from(event), &mut stamp());
        }
    }
}
