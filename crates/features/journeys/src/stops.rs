//! Where a journey stopped, and why: what somebody who was woken wants to read first.

use crate::journey::{Copy, Message, Now, Sender, Stay, Stop};

/// Milliseconds for which a message may wait or be held before that is alarming, where nothing else says how long is long.
const LONG_MS: u64 = 60_000;

/// The stops of all messages: alarming ones first, then those that have lasted longest.
pub(crate) fn stops(messages: &[Message], now: u64) -> Vec<Stop> {
    let mut stops: Vec<Stop> = Vec::new();
    for message in messages {
        for (index, stay) in message.stays.iter().enumerate() {
            let is_last = index + 1 == message.stays.len();
            stops.extend(of_stay(message, stay, is_last, now));
        }
    }
    stops.sort_by_key(|stop| (!stop.alarming, stop.since));
    stops
}

fn of_stay(message: &Message, stay: &Stay, is_last: bool, now: u64) -> Vec<Stop> {
    let stop = |at: &str, state: &str, since: u64, why: String, alarming: bool| Stop {
        message: message.id.clone(),
        at: at.to_owned(),
        state: state.to_owned(),
        since,
        why,
        alarming,
    };
    if stay.copies.is_empty() {
        let nobody = stay.kept == Some(true) && is_last;
        let why = "it is kept in the topic, and no subscription reads it".to_owned();
        return Vec::from_iter(nobody.then(|| stop(&stay.address, "kept", stay.at, why, false)));
    }
    let mut stops = Vec::new();
    for copy in &stay.copies {
        if let Some((why, alarming)) = why(stay, copy, is_last, now) {
            stops.push(stop(&copy.name, &copy.now.state, copy.now.since, why, alarming));
        }
    }
    stops
}

/// Why a copy is not done, or ended badly; nothing if all is well with it.
fn why(stay: &Stay, copy: &Copy, is_last: bool, now: u64) -> Option<(String, bool)> {
    let Now { state, since, consumers, .. } = &copy.now;
    let waited = now.saturating_sub(*since);
    let buried = stay.death.as_ref().map(|death| format!("a dead letter ({death}): "));
    let buried = buried.as_deref().unwrap_or_default();
    let nobody = *consumers == Some(0);
    Some(match state.as_str() {
        "ready" if nobody => (format!("{buried}it waits, and nobody consumes from {}", copy.name), true),
        "ready" => {
            let ahead = copy.now.ahead.unwrap_or(0);
            let place =
                if ahead == 0 { "it is next".to_owned() } else { format!("{ahead} messages go before it") };
            (format!("{buried}it waits for a consumer: {place}"), waited > LONG_MS || stay.death.is_some())
        }
        "behind_key" => ("it waits behind an earlier message with the same key".to_owned(), waited > LONG_MS),
        "held" => {
            let whom = copy.now.by.as_ref().map_or_else(|| "a consumer".to_owned(), name);
            (format!("{whom} holds it (attempt {})", copy.now.attempts), waited > LONG_MS)
        }
        "delayed" if copy.now.attempts > 0 => (
            format!("it failed {} times and waits to be tried again", copy.now.attempts),
            copy.now.attempts > 2,
        ),
        "delayed" => ("it waits for the time at which it is to be delivered".to_owned(), false),
        "dying" => {
            let last = copy.steps.iter().rev().find(|step| step.what != "delivered");
            let reason = last.map_or("", |step| step.what.as_str());
            (format!("it is {reason} and cannot be moved to the dead letters now; that is tried again"), true)
        }
        "rejected" | "expired" | "max_attempts" | "max_age" | "max_length" => (lost(copy, state), true),
        "purged" | "deleted" if is_last => (lost(copy, state), true),
        "gone" if is_last => ("it is gone, and the record does not tell how".to_owned(), true),
        // It goes on where the dead letters are.
        _ => return None,
    })
}

fn lost(copy: &Copy, state: &str) -> String {
    let step = copy.steps.iter().rev().find(|step| step.what == state);
    let by =
        step.and_then(|step| step.by.as_ref()).map_or_else(String::new, |by| format!(" by {}", name(by)));
    let error = step.and_then(|step| step.why.as_ref()).map_or_else(String::new, |why| format!(": {why}"));
    let what = match state {
        "rejected" => format!("it was rejected{by}{error}"),
        "expired" => "its time was over before anybody took it".to_owned(),
        "max_attempts" => format!("it failed {} times", copy.now.attempts),
        "max_age" => "it could not be done within the time that the retry policy gives".to_owned(),
        "max_length" => "the queue was full and it had to make room".to_owned(),
        "purged" => format!("the queue was purged{by}"),
        _ => format!("{} was deleted{by}", copy.name),
    };
    match state {
        "purged" | "deleted" => what,
        _ => format!("{what}, and {} has no dead-letter address: it is lost", copy.name),
    }
}

/// Who somebody is, in a few words.
pub(crate) fn name(sender: &Sender) -> String {
    let Sender { door, address, user, name } = sender;
    let who = match (name.as_str(), user.as_str()) {
        ("", "") => format!("a client by {door}"),
        ("", user) => user.to_owned(),
        (name, "") => name.to_owned(),
        (name, user) => format!("{name} as {user}"),
    };
    if address.is_empty() { who } else { format!("{who} ({address})") }
}
