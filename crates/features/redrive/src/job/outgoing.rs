//! What does a dead letter become on its way back, and what does it become again when that is undone?

use bytes::Bytes;
use smol_str::SmolStr;
use waystation_base::{
    Message, Millis, Name, Tag, Value,
    message::header::{
        CC, DEATH_SOURCE, DEATHS, REDRIVE, REDRIVE_COUNT, REDRIVE_FROM, REDRIVE_ORIGINAL, REDRIVE_TIME,
        REDRIVE_UNDONE, ROUTE, ROUTING_KEY,
    },
};

use super::spec::Edit;

/// A dead letter as it goes back: the message that failed, with its deaths, and with who brought it back and how often that was
/// done. It has the route and key under which it came to where it failed.
pub(super) fn redriven(letter: &Message, from: &Name, redrive: &str, now: Millis) -> Message {
    let mut message = letter.clone();
    let headers = &mut message.headers;
    let text = |name: &str| Value::String(SmolStr::new(headers.text(name).unwrap_or_default()));
    let from = Value::String(SmolStr::new(from.as_str()));
    let place = vec![from, text(ROUTE), text(ROUTING_KEY), Value::Timestamp(letter.timestamp)];
    let count = headers.get(REDRIVE_COUNT).and_then(Value::as_i64).unwrap_or(0);
    if let Some((route, keys)) = came_by(headers.get(DEATHS), headers.text(DEATH_SOURCE)) {
        readdress(&mut message, route, keys);
    }
    let headers = &mut message.headers;
    headers.remove(REDRIVE_UNDONE);
    headers.set(REDRIVE, redrive);
    headers.set(REDRIVE_COUNT, count.saturating_add(1));
    headers.set(REDRIVE_TIME, Value::Timestamp(now));
    headers.set(REDRIVE_FROM, Value::List(place));
    // It could not be had before: how old it is where it goes, and whether it has been tried for too long, counts from now.
    (message.expires_at, message.deliver_at) = (None, Some(now));
    message
}

/// Changes a message that goes back. What it was is kept under the id that this sets.
pub(super) fn edited(message: &mut Message, edit: &Edit, original: &str) {
    edit.apply(message);
    message.headers.set(REDRIVE_ORIGINAL, original);
}

/// What the ids begin with under which a message is kept as it was.
pub(super) fn original_prefix(redrive: &str, message: &str) -> String {
    format!("{redrive}/{message}/")
}

/// The id under which a message is kept as it was. Copies of one message have the same id: the place tells them apart.
pub(super) fn original_key(redrive: &str, message: &Message, tag: Tag) -> String {
    format!("{}{tag}", original_prefix(redrive, &message.id.to_string()))
}

/// A dead letter as it is kept: under a key of its own, with the key that it has.
pub(super) fn kept(letter: &Message, original: String) -> Message {
    let mut kept = Message { key: Some(original.into()), ..letter.clone() };
    (kept.expires_at, kept.deliver_at) = (None, None);
    if let Some(key) = &letter.key {
        kept.headers.set(KEPT_KEY, Value::Bytes(key.clone()));
    }
    kept
}

/// On a kept message: its own key.
const KEPT_KEY: &str = "ws-redrive-key";

/// A kept message as it was.
pub(super) fn unkept(mut kept: Message) -> Message {
    kept.key = match kept.headers.get(KEPT_KEY) {
        Some(Value::Bytes(key)) => Some(Bytes::clone(key)),
        _ => None,
    };
    kept.headers.remove(KEPT_KEY);
    kept
}

/// The queue that a message was taken from.
pub(super) fn taken_from(message: &Message) -> Option<Name> {
    let Some(Value::List(place)) = message.headers.get(REDRIVE_FROM) else { return None };
    place.first().and_then(Value::as_str).and_then(|name| Name::new(name).ok())
}

/// A redriven message as the dead letter that it was.
pub(super) fn undone(message: &Message, redrive: &str) -> Message {
    let mut letter = message.clone();
    let headers = &mut letter.headers;
    if let Some(Value::List(place)) = headers.get(REDRIVE_FROM).cloned()
        && let [_, Value::String(route), Value::String(key), rest @ ..] = place.as_slice()
    {
        if headers.get(ROUTE).is_some() || headers.get(ROUTING_KEY).is_some() {
            headers.set(ROUTE, Value::String(route.clone()));
            headers.set(ROUTING_KEY, Value::String(key.clone()));
        }
        if let Some(Value::Timestamp(before)) = rest.first() {
            letter.timestamp = *before;
        }
    }
    let headers = &mut letter.headers;
    let count = headers.get(REDRIVE_COUNT).and_then(Value::as_i64).unwrap_or(1) - 1;
    match count {
        1.. => headers.set(REDRIVE_COUNT, count),
        _ => headers.remove(REDRIVE_COUNT),
    }
    for name in [REDRIVE, REDRIVE_TIME, REDRIVE_FROM, REDRIVE_ORIGINAL] {
        headers.remove(name);
    }
    headers.set(REDRIVE_UNDONE, redrive);
    (letter.expires_at, letter.deliver_at) = (None, None);
    letter
}

/// The route and the keys by which a message came to where it died last, if that is told: not every death is in the list.
fn came_by(deaths: Option<&Value>, source: Option<&str>) -> Option<(SmolStr, Vec<Value>)> {
    let Some(Value::List(deaths)) = deaths else { return None };
    let Some(Value::Map(last)) = deaths.first() else { return None };
    let field = |name: &str| last.iter().find(|(have, _)| have == name).map(|(_, value)| value);
    if field("queue").and_then(Value::as_str) != source {
        return None;
    }
    match (field("exchange")?, field("routing-keys")?) {
        (Value::String(route), Value::List(keys)) => Some((route.clone(), keys.clone())),
        _ => None,
    }
}

fn readdress(message: &mut Message, route: SmolStr, keys: Vec<Value>) {
    let headers = &mut message.headers;
    // One that never had a route needs none.
    if headers.get(ROUTE).is_none() && headers.get(ROUTING_KEY).is_none() {
        return;
    }
    headers.set(ROUTE, Value::String(route));
    let mut keys = keys.into_iter();
    if let Some(own) = keys.next() {
        headers.set(ROUTING_KEY, own);
    }
    let further: Vec<Value> = keys.collect();
    if !further.is_empty() {
        headers.set(CC, Value::List(further));
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::MessageId;

    use super::*;

    fn letter() -> Message {
        let mut letter = Message::new(MessageId::new(Millis(1), 7), Millis(1), "body");
        letter.key = Some("k".into());
        letter.headers.set("type", "order");
        letter.headers.set(DEATH_SOURCE, "q");
        letter.headers.set(ROUTE, "dlx");
        letter.headers.set(ROUTING_KEY, "dead");
        let text = |text: &str| Value::String(SmolStr::new(text));
        let death = vec![
            (SmolStr::new("queue"), text("q")),
            (SmolStr::new("exchange"), text("orders")),
            (SmolStr::new("routing-keys"), Value::List(vec![text("eu"), text("cc")])),
        ];
        letter.headers.set(DEATHS, Value::List(vec![Value::Map(death)]));
        letter
    }

    fn from() -> Name {
        Name::new("orders.dead").expect("a name")
    }

    #[test]
    fn a_redriven_message_says_so_and_how_often_and_has_its_first_route_again() {
        let once = redriven(&letter(), &from(), "r1", Millis(5));
        let twice = redriven(&once, &from(), "r2", Millis(6));
        for (message, redrive, count) in [(&once, "r1", 1), (&twice, "r2", 2)] {
            assert_eq!(message.headers.text(REDRIVE), Some(redrive));
            assert_eq!(message.headers.get(REDRIVE_COUNT).and_then(Value::as_i64), Some(count));
            assert_eq!(
                (message.headers.text(ROUTE), message.headers.text(ROUTING_KEY)),
                (Some("orders"), Some("eu"))
            );
            assert_eq!(taken_from(message), Some(from()));
        }
        assert_eq!((once.id, &once.body, &once.key), (letter().id, &letter().body, &letter().key));
    }

    #[test]
    fn a_death_that_is_not_the_last_one_tells_no_route() {
        let mut letter = letter();
        letter.headers.set(DEATH_SOURCE, "another");
        let back = redriven(&letter, &from(), "r1", Millis(5));
        assert_eq!((back.headers.text(ROUTE), back.headers.text(ROUTING_KEY)), (Some("dlx"), Some("dead")));
    }

    #[test]
    fn undone_it_is_the_dead_letter_that_it_was_but_for_a_note() {
        let mut back = redriven(&letter(), &from(), "r1", Millis(5));
        // As where it comes back to a subscription.
        back.timestamp = Millis(5);
        let mut back = undone(&back, "r1");
        assert_eq!(back.headers.text(REDRIVE_UNDONE), Some("r1"));
        back.headers.remove(REDRIVE_UNDONE);
        back.headers.remove(CC);
        assert_eq!(back, letter());
        let again =
            undone(&redriven(&redriven(&letter(), &from(), "r1", Millis(5)), &from(), "r2", Millis(6)), "r2");
        assert_eq!(again.headers.get(REDRIVE_COUNT).and_then(Value::as_i64), Some(1));
    }

    #[test]
    fn an_edited_message_is_kept_as_it_was() {
        let mut message = redriven(&letter(), &from(), "r1", Millis(5));
        let edit: Edit =
            serde_json::from_str(r#"{"set": {"type": "bill"}, "remove": ["x"]}"#).expect("an edit");
        let key = original_key("r1", &message, Tag(7));
        edited(&mut message, &edit, &key);
        assert_eq!(message.headers.text("type"), Some("bill"));
        let kept = kept(&letter(), key);
        assert_eq!(message.headers.text(REDRIVE_ORIGINAL).map(str::as_bytes), kept.key.as_deref());
        assert_eq!(unkept(kept), letter());
    }
}
