//! How does a message leave as a CloudEvent (1.0.2): structured and batched in JSON, or binary in headers? One that did not come
//! as an event becomes one: its source is `urn:waystation:` with the address.

use std::borrow::Cow;

use serde::{Serialize, Serializer, ser::SerializeMap};
use smol_str::SmolStr;
use waystation_base::{
    Value,
    message::header::{CONTENT_TYPE, CORRELATION_ID, MESSAGE_ID, REPLY_TO, TRACEPARENT, TRACESTATE, TYPE},
};
use waystation_host::Delivery;

use crate::{body, time, value::Written};

/// Prefix of attributes in HTTP headers and in stored headers.
pub const PREFIX: &str = "ce-";
/// The attribute of the partitioning extension.
pub const PARTITION_KEY: &str = "partitionkey";
/// The type of a message whose sender named none.
pub const DEFAULT_TYPE: &str = "waystation.message";
/// Attributes that are written from other properties of the message.
const WRITTEN: &[&str] = &["ce-specversion", "ce-source", "ce-time", "ce-id", "ce-type", "ce-partitionkey"];

/// A message to be written as an event.
pub struct Event<'a> {
    delivery: &'a Delivery,
    is_held: bool,
}

/// An attribute's value.
#[derive(Debug)]
pub enum Attribute<'a> {
    /// A text that we know to be one.
    Text(Cow<'a, str>),
    /// What came with the event.
    Value(&'a Value),
}

impl Serialize for Attribute<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Attribute::Text(text) => to.serialize_str(text),
            Attribute::Value(value) => Written(value).serialize(to),
        }
    }
}

impl<'a> Event<'a> {
    /// For somebody who settles it: tag and attempt are attributes.
    pub fn held(delivery: &'a Delivery) -> Event<'a> {
        Event { delivery, is_held: true }
    }

    /// For somebody who has no business with them. Two attempts give the same bytes.
    pub fn of(delivery: &'a Delivery) -> Event<'a> {
        Event { delivery, is_held: false }
    }

    /// Every attribute, `datacontenttype` among them, without those of [`Event::held`].
    pub fn attributes(&self) -> Vec<(&'a str, Attribute<'a>)> {
        let Delivery { address, message, .. } = self.delivery;
        let text = |name: &str| message.headers.text(name).filter(|text| !text.is_empty());
        let or = |name: &str, other: &dyn Fn() -> String| {
            Attribute::Text(text(name).map_or_else(|| other().into(), Cow::Borrowed))
        };
        let mut all = vec![
            ("specversion", Attribute::Text("1.0".into())),
            ("id", or(MESSAGE_ID, &|| message.id.to_string())),
            ("source", or("ce-source", &|| format!("urn:waystation:{address}"))),
            ("type", or(TYPE, &|| DEFAULT_TYPE.to_owned())),
            ("time", or("ce-time", &|| time::format(message.timestamp))),
        ];
        let key = message.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
        let named = [
            ("datacontenttype", text(CONTENT_TYPE)),
            (PARTITION_KEY, key.filter(|key| !key.is_empty())),
            ("correlationid", text(CORRELATION_ID)),
            ("replyto", text(REPLY_TO)),
            ("traceparent", text(TRACEPARENT)),
            ("tracestate", text(TRACESTATE)),
        ];
        let given = named.iter().filter_map(|(name, text)| Some((*name, Attribute::Text((*text)?.into()))));
        all.extend(given);
        let taken = |name: &str| named.iter().any(|(have, text)| *have == name && text.is_some());
        let others = message.headers.0.iter().filter_map(attribute).filter(|(name, _)| !taken(name));
        all.extend(others.map(|(name, value)| (name, Attribute::Value(value))));
        all
    }

    /// The event in binary mode (HTTP protocol binding §3.1): `ce-…` and `content-type`, to stand beside the body as it is.
    pub fn headers(&self) -> Vec<(String, String)> {
        let header = |(name, value): (&str, Attribute<'_>)| match name {
            "datacontenttype" => ("content-type".to_owned(), plain(&value)),
            name => (format!("{PREFIX}{name}"), percent_encoded(&plain(&value))),
        };
        self.attributes().into_iter().map(header).collect()
    }
}

/// The canonical text of an attribute (CloudEvents §3.1).
fn plain(value: &Attribute<'_>) -> String {
    match value {
        Attribute::Text(text) => text.to_string(),
        Attribute::Value(value) => {
            let mut text = Vec::new();
            value.put_plain(&mut text);
            String::from_utf8_lossy(&text).into_owned()
        }
    }
}

/// HTTP protocol binding §3.1.3.2: blanks, quotes, percent signs and all that is not printable ASCII are percent-encoded.
fn percent_encoded(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b' ' | b'"' | b'%' => out += &format!("%{byte:02X}"),
            0x21..=0x7e => out.push(byte.into()),
            _ => out += &format!("%{byte:02X}"),
        }
    }
    out
}

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Delivery { tag, attempt, message, .. } = self.delivery;
        let mut map = to.serialize_map(None)?;
        for (name, value) in self.attributes() {
            map.serialize_entry(name, &value)?;
        }
        if self.is_held {
            map.serialize_entry("wstag", &tag.to_string())?;
            map.serialize_entry("wsattempt", &attempt.0)?;
        }
        if !message.body.is_empty() {
            let kind = message.headers.text(CONTENT_TYPE);
            body::show(kind, &message.body).put(&mut map, "data", "data", "data_base64")?;
        }
        map.end()
    }
}

/// A header that came as an attribute and has no other home.
fn attribute((name, value): &(SmolStr, Value)) -> Option<(&str, &Value)> {
    let attribute = name.strip_prefix(PREFIX).filter(|_| !WRITTEN.contains(&name.as_str()))?;
    // CloudEvents §3.1: anything else is no attribute, wherever it came from.
    let is_name = !attribute.is_empty()
        && attribute.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let is_value = matches!(value, Value::String(_) | Value::Bool(_)) || value.as_i64().is_some();
    (is_name && is_value).then_some((attribute, value))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;
    use waystation_base::{Attempt, Message, MessageId, Millis, Name, Offset, Tag};

    use super::*;

    fn delivery(message: Message) -> Delivery {
        let address = Name::new("orders").expect("a name");
        let (attempt, offset) = (Attempt(1), Offset(0));
        Delivery { tag: Tag(5), attempt, held_until: Millis::NEVER, address, partition: 0, offset, message }
    }

    #[test]
    fn what_was_no_event_becomes_one() {
        let message = Message::new(MessageId::new(Millis(1000), 7), Millis(1000), Bytes::from_static(&[255]));
        let id = message.id.to_string();
        let delivery = delivery(message);
        let mut expected = json!({
            "specversion": "1.0", "id": id, "source": "urn:waystation:orders", "type": DEFAULT_TYPE,
            "time": "1970-01-01T00:00:01.000Z", "wstag": "5", "wsattempt": 1, "data_base64": "/w==",
        });
        assert_eq!(serde_json::to_value(Event::held(&delivery)).expect("written"), expected);
        let members = expected.as_object_mut().expect("an object");
        members.remove("wstag");
        members.remove("wsattempt");
        assert_eq!(serde_json::to_value(Event::of(&delivery)).expect("written"), expected);
    }

    #[test]
    fn in_binary_mode_attributes_are_headers_in_printable_ascii() {
        let mut message = Message::new(MessageId::new(Millis(1000), 7), Millis(1000), "x");
        message.headers.set(CONTENT_TYPE, "text/plain; charset=\"utf-8\"");
        message.headers.set(MESSAGE_ID, "a 1");
        message.headers.set("ce-subject", "5% ä\"");
        message.headers.set("ce-urgent", Value::Bool(true));
        message.headers.set("ce-Not-A-Name", "x");
        message.headers.set("own", "x");
        let delivery = delivery(message);
        let headers = Event::of(&delivery).headers();
        let value = |name: &str| headers.iter().find(|(have, _)| have == name).map(|(_, it)| it.as_str());
        assert_eq!(value("content-type"), Some("text/plain; charset=\"utf-8\""));
        assert_eq!(value("ce-id"), Some("a%201"));
        assert_eq!(value("ce-subject"), Some("5%25%20%C3%A4%22"));
        assert_eq!(value("ce-urgent"), Some("true"));
        assert_eq!(headers.len(), 8, "{headers:?}");
    }
}
