//! How does a delivered message look in JSON? Writes [`crate::api::Received`] without building it.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use serde::{Serialize, Serializer, ser::SerializeMap};
use waystation_base::{
    Millis, Value,
    message::header::{CONTENT_TYPE, CORRELATION_ID, MESSAGE_ID, REPLY_TO, TYPE},
};
use waystation_host::Delivery;

use super::{body, value::Written};

/// Headers that have members of their own, if they are text.
const OWN_MEMBERS: &[(&str, &str)] = &[
    (MESSAGE_ID, "id"),
    (CONTENT_TYPE, "content_type"),
    (CORRELATION_ID, "correlation_id"),
    (REPLY_TO, "reply_to"),
    (TYPE, "type"),
];

/// A message to be written.
pub struct Shown<'a>(pub &'a Delivery);

/// A moment that means something: neither never nor none.
pub fn real(at: Millis) -> Option<u64> {
    (at != Millis::NEVER && at != Millis(0)).then_some(at.0)
}

fn has_own_member(name: &str, value: &Value) -> bool {
    value.as_str().is_some() && OWN_MEMBERS.iter().any(|(header, _)| *header == name)
}

struct OtherHeaders<'a>(&'a Delivery);

impl OtherHeaders<'_> {
    fn iter(&self) -> impl Iterator<Item = &(smol_str::SmolStr, Value)> {
        self.0.message.headers.0.iter().filter(|(name, value)| !has_own_member(name, value))
    }
}

impl Serialize for OtherHeaders<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_map(self.iter().map(|(name, value)| (name, Written(value))))
    }
}

impl Serialize for Shown<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let Delivery { tag, attempt, held_until, address, partition, offset, message } = self.0;
        let mut map = to.serialize_map(None)?;
        map.serialize_entry("tag", &crate::api::TagText(*tag))?;
        map.serialize_entry("attempt", &attempt.0)?;
        map.serialize_entry("redelivered", &(attempt.0 > 1))?;
        put_some(&mut map, "lease_until", real(*held_until))?;
        map.serialize_entry("address", address.as_str())?;
        map.serialize_entry("partition", partition)?;
        map.serialize_entry("offset", offset)?;
        map.serialize_entry("uuid", &message.id.0)?;
        map.serialize_entry("timestamp", &message.timestamp)?;
        if let Some(key) = &message.key {
            match std::str::from_utf8(key) {
                Ok(text) => map.serialize_entry("key", text)?,
                Err(_) => map.serialize_entry("key_base64", &BASE64.encode(key))?,
            }
        }
        if message.priority != 0 {
            map.serialize_entry("priority", &message.priority)?;
        }
        put_some(&mut map, "expires_at", message.expires_at)?;
        put_some(&mut map, "deliver_at", message.deliver_at)?;
        for (header, member) in OWN_MEMBERS {
            put_some(&mut map, member, message.headers.text(header))?;
        }
        let others = OtherHeaders(self.0);
        if others.iter().next().is_some() {
            map.serialize_entry("headers", &others)?;
        }
        let content_type = message.headers.text(CONTENT_TYPE);
        body::show(content_type, &message.body).put(&mut map, "body", "body_text", "body_base64")?;
        map.end()
    }
}

fn put_some<M: SerializeMap>(
    map: &mut M,
    name: &'static str,
    value: Option<impl Serialize>,
) -> Result<(), M::Error> {
    value.map_or(Ok(()), |value| map.serialize_entry(name, &value))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waystation_base::{Attempt, Message, MessageId, Name, Offset, Tag};

    use super::*;
    use crate::api::Received;

    fn delivery() -> Delivery {
        Delivery {
            tag: Tag(u64::MAX),
            attempt: Attempt(2),
            held_until: Millis(9),
            address: Name::new("orders").expect("a name"),
            partition: 3,
            offset: Offset(4),
            message: Message::new(MessageId::new(Millis(1), 0), Millis(8), "{\"a\":\n1}"),
        }
    }

    #[test]
    fn what_is_shown_is_what_the_public_type_reads() {
        let mut delivery = delivery();
        delivery.message.key = Some("k".into());
        delivery.message.headers.set(CONTENT_TYPE, "application/json");
        delivery.message.headers.set(MESSAGE_ID, "a-1");
        delivery.message.headers.set("n", 7);
        let json = serde_json::to_string(&Shown(&delivery)).expect("written");
        assert!(!json.contains('\n'), "one line: {json}");
        let read: Received = serde_json::from_str(&json).expect("read");
        assert_eq!((read.tag.0, read.attempt, read.redelivered), (Tag(u64::MAX), 2, true));
        assert_eq!((read.lease_until, read.partition, read.offset), (Some(9), 3, 4));
        assert_eq!((read.key.as_deref(), read.id.as_deref()), (Some("k"), Some("a-1")));
        assert_eq!((read.headers.len(), read.body.expect("JSON").get()), (1, "{\"a\": 1}"));
    }

    #[test]
    fn what_is_not_text_is_shown_in_base_64_and_what_is_not_there_is_left_out() {
        let mut delivery = delivery();
        delivery.held_until = Millis::NEVER;
        delivery.message.key = Some(Bytes::from_static(&[255]));
        delivery.message.body = Bytes::from_static(&[254]);
        delivery.message.headers.set(TYPE, 7);
        let json = serde_json::to_value(Shown(&delivery)).expect("written");
        assert_eq!((&json["key_base64"], &json["body_base64"]), (&"/w==".into(), &"/g==".into()));
        assert_eq!(json["headers"], serde_json::json!({"type": 7}));
        assert!(json.get("lease_until").is_none() && json.get("content_type").is_none());
    }
}
