//! What a dead letter tells of its deaths: in headers, the newest first, and when they go round in a circle.
//!
//! The list of deaths has the form of RabbitMQ's `x-death`: an entry for each queue and reason, with a count.

use smol_str::SmolStr;
use waystation_base::{
    Attempt, Headers, Message, Millis, Name,
    message::header::{
        CC, DEATH_ATTEMPTS, DEATH_CLASS, DEATH_COUNT, DEATH_ERROR, DEATH_FIRST_REASON, DEATH_FIRST_ROUTE,
        DEATH_FIRST_SOURCE, DEATH_REASON, DEATH_SOURCE, DEATH_SOURCE_KIND, DEATH_TIME, DEATHS, EXPIRATION,
        ROUTE, ROUTING_KEY,
    },
    value::Value,
    vhost,
};

use crate::{Source, command::Keys};

/// Entries of the list of deaths; the oldest go when there are more.
const DEATHS_MAX: usize = 64;

/// One dead-lettering.
#[derive(Clone, Copy, Debug)]
pub struct Death<'a> {
    /// The queue or subscription.
    pub source: &'a Source,
    /// Why, in one word.
    pub reason: &'a str,
    /// The error in the words of whoever gave it up.
    pub error: Option<&'a str>,
    /// Which kind of error that is.
    pub class: Option<&'a str>,
    /// How often it had been handed out.
    pub attempt: Attempt,
    /// When.
    pub now: Millis,
}

/// Writes a death into the message's headers, and takes its expiry away. Returns the keys that it came by.
pub fn write(message: &mut Message, death: &Death<'_>) -> Keys {
    let keys = keys(&message.headers, death.source.name());
    let entry = entry(&message.headers, &keys, death);
    let headers = &mut message.headers;
    let count = headers.get(DEATH_COUNT).and_then(Value::as_i64).unwrap_or(0);
    if count == 0 {
        headers.set(DEATH_FIRST_SOURCE, death.source.name().as_str());
        headers.set(DEATH_FIRST_REASON, death.reason);
        let route = SmolStr::new(headers.text(ROUTE).unwrap_or_default());
        headers.set(DEATH_FIRST_ROUTE, Value::String(route));
    }
    headers.set(DEATH_COUNT, count + 1);
    headers.set(DEATH_REASON, death.reason);
    headers.set(DEATH_SOURCE, death.source.name().as_str());
    headers.set(DEATH_SOURCE_KIND, death.source.kind().to_string());
    headers.set(DEATH_TIME, Value::Timestamp(death.now));
    headers.set(DEATH_ATTEMPTS, i64::from(death.attempt.0));
    match death.error {
        Some(error) => headers.set(DEATH_ERROR, error),
        None => headers.remove(DEATH_ERROR),
    }
    match death.class {
        Some(class) => headers.set(DEATH_CLASS, class),
        None => headers.remove(DEATH_CLASS),
    }
    add(headers, entry, death);
    headers.remove(EXPIRATION);
    message.expires_at = None;
    message.deliver_at = None;
    keys
}

/// Notes where a dead letter goes: to that route, and under `key` if it has one of its own there.
pub fn readdress(message: &mut Message, route: &str, key: Option<&str>) {
    let headers = &mut message.headers;
    // One that never had a route needs none.
    if headers.get(ROUTE).is_none() && headers.get(ROUTING_KEY).is_none() && route.is_empty() {
        return;
    }
    headers.set(ROUTE, route);
    if let Some(key) = key {
        headers.set(ROUTING_KEY, key);
        headers.remove(CC);
    }
}

/// A message that came to its queue by the queue's name goes on to a route under that name as its clients say it: without the
/// virtual host, and without what a name of ours escapes.
pub(crate) fn name_plainly(message: &mut Message, keys: &mut Keys) {
    let by_name = message.headers.text(ROUTE).unwrap_or_default().is_empty();
    let Some(own) = keys.first_mut().filter(|_| by_name) else { return };
    let (_, plain) = vhost::split(own);
    if plain != *own {
        message.headers.set(ROUTING_KEY, plain.as_str());
        *own = plain.into();
    }
}

/// The keys that a message was published with; to a queue by its own name, that name.
fn keys(headers: &Headers, source: &Name) -> Keys {
    let own = headers.text(ROUTING_KEY).unwrap_or(source.as_str());
    let further = match headers.get(CC) {
        Some(Value::List(further)) => further.as_slice(),
        _ => &[],
    };
    let further = further.iter().filter_map(Value::as_str).map(SmolStr::new);
    std::iter::once(SmolStr::new(own)).chain(further).collect()
}

fn entry(headers: &Headers, keys: &Keys, death: &Death<'_>) -> Vec<(SmolStr, Value)> {
    let text = |text: &str| Value::String(SmolStr::new(text));
    let mut entry = vec![
        ("count".into(), Value::I64(1)),
        ("reason".into(), text(listed(death.reason))),
        ("queue".into(), text(death.source.name().as_str())),
        ("time".into(), Value::Timestamp(death.now)),
        ("exchange".into(), text(headers.text(ROUTE).unwrap_or_default())),
        ("routing-keys".into(), Value::List(keys.iter().cloned().map(Value::String).collect())),
    ];
    if let Some(expiration) = headers.get(EXPIRATION) {
        entry.push(("original-expiration".into(), expiration.clone()));
    }
    entry
}

/// Puts an entry in front, or counts up the one of the same queue and reason and puts that in front.
fn add(headers: &mut Headers, entry: Vec<(SmolStr, Value)>, death: &Death<'_>) {
    let mut deaths = match headers.get(DEATHS) {
        Some(Value::List(deaths)) => deaths.clone(),
        _ => Vec::new(),
    };
    let same = |have: &Value| {
        text_in(have, "queue") == Some(death.source.name().as_str())
            && text_in(have, "reason") == Some(listed(death.reason))
    };
    let front = match deaths.iter().position(same).map(|at| deaths.remove(at)) {
        Some(Value::Map(mut old)) => {
            let count = old.iter_mut().find(|(name, _)| name == "count").map(|(_, count)| count);
            if let Some(count) = count {
                *count = Value::I64(count.as_i64().unwrap_or(0) + 1);
            }
            old
        }
        _ => entry,
    };
    deaths.insert(0, Value::Map(front));
    deaths.truncate(DEATHS_MAX);
    headers.set(DEATHS, Value::List(deaths));
}

/// What RabbitMQ calls the reasons that nobody gives but the queue.
const LISTED: &[(&str, &str)] = &[
    ("expired", "expired"),
    ("max_length", "maxlen"),
    ("max_attempts", "delivery_limit"),
    ("max_age", "delivery_limit"),
];

/// The reason as it stands in the list of deaths.
fn listed(reason: &str) -> &str {
    LISTED.iter().find(|(ours, _)| *ours == reason).map_or(reason, |(_, theirs)| theirs)
}

fn text_in<'a>(death: &'a Value, field: &str) -> Option<&'a str> {
    let Value::Map(fields) = death else { return None };
    fields.iter().find(|(name, _)| name == field).and_then(|(_, value)| value.as_str())
}

/// Whether a dead letter has been in that queue before and would come there again without anybody's doing: nobody, consumer or
/// route, has given it up since.
pub(crate) fn is_cycle(headers: &Headers, queue: &Name, now: &str) -> bool {
    let Some(Value::List(deaths)) = headers.get(DEATHS) else { return false };
    let Some(at) = deaths.iter().position(|death| text_in(death, "queue") == Some(queue.as_str())) else {
        return false;
    };
    let by_itself = |reason: &str| LISTED.iter().any(|(_, theirs)| *theirs == reason);
    let given_up = |death: &Value| text_in(death, "reason").is_some_and(|reason| !by_itself(reason));
    by_itself(listed(now)) && !deaths[..=at].iter().any(given_up)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn die(message: &mut Message, queue: &str, reason: &str, now: u64) -> Keys {
        let source = &Source::Queue(Name::new(queue).expect("a name"));
        let (attempt, now) = (Attempt(1), Millis(now));
        write(message, &Death { source, reason, error: None, class: None, attempt, now })
    }

    fn deaths(message: &Message) -> Vec<(String, String, i64)> {
        let Some(Value::List(deaths)) = message.headers.get(DEATHS) else { return Vec::new() };
        let of = |death: &Value| {
            let Value::Map(fields) = death else { panic!("{death:?}") };
            assert_eq!(fields[0].0, "count");
            let text = |field| text_in(death, field).expect("a text").to_owned();
            (text("queue"), text("reason"), fields[0].1.as_i64().expect("a number"))
        };
        deaths.iter().map(of).collect()
    }

    #[test]
    fn deaths_are_counted_by_queue_and_reason_with_the_newest_first() {
        let mut message = Message::default();
        die(&mut message, "a", "expired", 1);
        die(&mut message, "b", "max_length", 2);
        die(&mut message, "a", "max_attempts", 3);
        die(&mut message, "a", "expired", 4);
        let expected = [("a", "expired", 2), ("a", "delivery_limit", 1), ("b", "maxlen", 1)];
        let expected = expected.map(|(queue, reason, count)| (queue.to_owned(), reason.to_owned(), count));
        assert_eq!(deaths(&message), expected);
        assert_eq!(message.headers.get(DEATH_COUNT), Some(&Value::I64(4)));
        assert_eq!(message.headers.text(DEATH_FIRST_REASON), Some("expired"));
    }

    #[test]
    fn a_message_tells_of_no_more_than_deaths_max() {
        let mut message = Message::default();
        (0..=DEATHS_MAX).for_each(|n| drop(die(&mut message, &format!("q{n}"), "expired", 1)));
        let deaths = deaths(&message);
        assert_eq!((deaths.len(), deaths[0].0.as_str()), (DEATHS_MAX, "q64"));
    }

    #[test]
    fn the_expiry_and_the_keys_that_it_had_are_told() {
        let mut message = Message { expires_at: Some(Millis(9)), ..Message::default() };
        message.headers.set(EXPIRATION, "60000");
        message.headers.set(ROUTE, "orders");
        message.headers.set(ROUTING_KEY, "eu.late");
        message.headers.set(CC, Value::List(vec!["copy".into()]));
        let keys = die(&mut message, "a", "expired", 1);
        assert_eq!(keys.as_slice(), ["eu.late", "copy"]);
        assert_eq!((message.expires_at, message.headers.get(EXPIRATION)), (None, None));
        let Some(Value::List(deaths)) = message.headers.get(DEATHS) else { panic!("no deaths") };
        assert_eq!(text_in(&deaths[0], "original-expiration"), Some("60000"));
        assert_eq!(text_in(&deaths[0], "exchange"), Some("orders"));
        assert_eq!(message.headers.text(DEATH_FIRST_ROUTE), Some("orders"));
        readdress(&mut message, "dead", Some("late"));
        assert_eq!(
            (message.headers.text(ROUTE), message.headers.text(ROUTING_KEY)),
            (Some("dead"), Some("late"))
        );
        assert_eq!(message.headers.get(CC), None);
        assert_eq!(die(&mut Message::default(), "a", "expired", 1).as_slice(), ["a"]);
    }

    #[test]
    fn only_a_circle_without_a_rejection_is_one() {
        let name = |text: &str| Name::new(text).expect("a name");
        let mut message = Message::default();
        die(&mut message, "a", "expired", 1);
        assert!(is_cycle(&message.headers, &name("a"), "expired"));
        assert!(!is_cycle(&message.headers, &name("b"), "expired"));
        die(&mut message, "b", "rejected", 2);
        assert!(!is_cycle(&message.headers, &name("a"), "rejected"));
        die(&mut message, "c", "expired", 3);
        assert!(!is_cycle(&message.headers, &name("a"), "expired"));
        assert!(is_cycle(&message.headers, &name("c"), "expired"));
        die(&mut message, "d", "route_error", 4);
        die(&mut message, "c", "max_length", 5);
        assert!(
            !is_cycle(&message.headers, &name("a"), "expired")
                && !is_cycle(&message.headers, &name("d"), "expired")
        );
        assert!(is_cycle(&message.headers, &name("c"), "max_age"));
    }
}
