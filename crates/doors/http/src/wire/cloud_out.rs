//! Does an event that came in leave as it came? The way out is [`waystation_events::cloud`], shared with the sender of webhooks.

pub use waystation_events::cloud::Event;

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;
    use waystation_base::{Attempt, Message, Millis, Name, Offset, Tag};
    use waystation_host::Delivery;

    use super::*;
    use crate::wire::{cloud, stamp::Stamp};

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
        serde_json::to_value(Event::held(&delivery)).expect("written")
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
}
