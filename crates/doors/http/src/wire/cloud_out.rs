//! How does a message leave as a CloudEvent (JSON event format)? One that did not come as an event becomes one: its
//! source is `urn:waystation:` with the address.

use serde::{Serialize, Serializer, ser::SerializeMap};
use smol_str::SmolStr;
use waystation_base::{
    Value,
    message::header::{CONTENT_TYPE, CORRELATION_ID, MESSAGE_ID, REPLY_TO, TRACEPARENT, TRACESTATE, TYPE},
};
use waystation_host::Delivery;

use super::{body, cloud, time, value::Written};

/// The type of a message whose sender named none.
pub const DEFAULT_TYPE: &str = "waystation.message";
/// Attributes that are written from other properties of the message.
const WRITTEN: &[&str] = &["ce-specversion", "ce-source", "ce-time", "ce-id", "ce-type", "ce-partitionkey"];

/// A message to be written as an event.
pub struct Event<'a>(pub &'a Delivery);

impl Serialize for Event<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Delivery { tag, attempt, address, message, .. } = self.0;
        let text = |name: &str| message.headers.text(name);
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("specversion", "1.0")?;
        match text(MESSAGE_ID) {
            Some(id) => map.serialize_entry("id", id)?,
            None => map.serialize_entry("id", &message.id.0)?,
        }
        match text("ce-source") {
            Some(source) => map.serialize_entry("source", source)?,
            None => map.serialize_entry("source", &format_args!("urn:waystation:{address}"))?,
        }
        map.serialize_entry("type", text(TYPE).unwrap_or(DEFAULT_TYPE))?;
        match text("ce-time") {
            Some(at) => map.serialize_entry("time", at)?,
            None => map.serialize_entry("time", &time::format(message.timestamp))?,
        }
        let key = message.key.as_deref().and_then(|key| std::str::from_utf8(key).ok());
        let named = [
            ("datacontenttype", text(CONTENT_TYPE)),
            (cloud::PARTITION_KEY, key),
            ("correlationid", text(CORRELATION_ID)),
            ("replyto", text(REPLY_TO)),
            ("traceparent", text(TRACEPARENT)),
            ("tracestate", text(TRACESTATE)),
        ];
        for (name, text) in named {
            if let Some(text) = text {
                map.serialize_entry(name, text)?;
            }
        }
        let taken = |name: &str| named.iter().any(|(have, text)| *have == name && text.is_some());
        for (name, value) in message.headers.0.iter().filter_map(attribute) {
            if !taken(name) {
                map.serialize_entry(name, &Written(value))?;
            }
        }
        map.serialize_entry("wstag", &crate::api::TagText(*tag))?;
        map.serialize_entry("wsattempt", &attempt.0)?;
        if !message.body.is_empty() {
            body::show(text(CONTENT_TYPE), &message.body).put(&mut map, "data", "data", "data_base64")?;
        }
        map.end()
    }
}

/// A header that came as an attribute and has no other home.
fn attribute((name, value): &(SmolStr, Value)) -> Option<(&str, &Value)> {
    let attribute = name.strip_prefix(cloud::PREFIX).filter(|_| !WRITTEN.contains(&name.as_str()))?;
    Some((attribute, value))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;
    use waystation_base::{Attempt, Message, Millis, Name, Offset, Tag};

    use super::*;
    use crate::wire::stamp::Stamp;

    fn written(message: Message) -> serde_json::Value {
        let address = Name::new("orders").expect("a name");
        let (attempt, offset) = (Attempt(1), Offset(0));
        let delivery = Delivery {
            tag: Tag(5),
            attempt,
            held_until: Millis::NEVER,
            address,
            partition: 0,
            offset,
            message,
        };
        serde_json::to_value(Event(&delivery)).expect("written")
    }

    #[test]
    fn an_event_leaves_as_it_came() {
        let event = json!({
            "specversion": "1.0", "id": "a-1", "source": "/s", "type": "t", "time": "2018-04-05T17:31:00.123456789Z",
            "subject": "x", "partitionkey": "k", "dataschema": "urn:x", "urgent": true, "level": 3,
            "datacontenttype": "application/json", "data": {"a": [1, null]},
        });
        let mut stamp = Stamp::with_random(Millis(1), 7);
        let message = cloud::structured(&Bytes::from(event.to_string()), &mut stamp).expect("good");
        let mut out = written(message);
        let members = out.as_object_mut().expect("an object");
        assert_eq!(members.remove("wstag"), Some("5".into()));
        assert_eq!(members.remove("wsattempt"), Some(1.into()));
        assert_eq!(out, event);
    }

    #[test]
    fn what_was_no_event_becomes_one() {
        let mut stamp = Stamp::with_random(Millis(1000), 7);
        let mut message = stamp.message();
        message.body = Bytes::from_static(&[255]);
        let id = message.id.to_string();
        let out = written(message);
        let expected = json!({
            "specversion": "1.0", "id": id, "source": "urn:waystation:orders", "type": DEFAULT_TYPE,
            "time": "1970-01-01T00:00:01.000Z", "wstag": "5", "wsattempt": 1, "data_base64": "/w==",
        });
        assert_eq!(out, expected);
    }
}
