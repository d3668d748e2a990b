//! How the messages of a journey stand that are not done: where one stopped and why, which somebody who was woken wants to read
//! first, and what the others wait for.

use waystation_base::Millis;
use waystation_broker::view::HeldBack;
use waystation_events::time::format as show;

use crate::journey::{Copy, Message, Now, Pause, Sender, Standing, Stay, Step, Stop};

/// How a copy stands, in words too.
type Stand = (Standing, String);

/// The stops of all messages, and those that are under way: of each those first that have lasted longest.
pub(crate) fn stops(messages: &[Message]) -> (Vec<Stop>, Vec<Stop>) {
    let mut all: Vec<Stop> = Vec::new();
    for message in messages {
        for (index, stay) in message.stays.iter().enumerate() {
            all.extend(of_stay(message, stay, index + 1 == message.stays.len()));
        }
    }
    all.sort_by_key(|stop| stop.since);
    all.into_iter().partition(|stop| stop.standing == Standing::Stopped)
}

fn of_stay(message: &Message, stay: &Stay, is_last: bool) -> Vec<Stop> {
    let stop = |at: &str, state: &str, since: u64, (standing, why): Stand| Stop {
        message: message.id.clone(),
        at: at.to_owned(),
        standing,
        state: state.to_owned(),
        since,
        why,
        alarming: standing == Standing::Stopped,
    };
    if let Some(unrouted) = unrouted(stay) {
        return vec![stop(&stay.address, "unrouted", stay.at, (Standing::Stopped, unrouted))];
    }
    if stay.copies.is_empty() {
        let nobody = stay.kept == Some(true) && is_last;
        let why = "it is kept in the topic, and no subscription reads it".to_owned();
        return Vec::from_iter(nobody.then(|| stop(&stay.address, "kept", stay.at, (Standing::Kept, why))));
    }
    let of_copy = |copy: &Copy| {
        let stand = stand(stay, copy, is_last)?;
        Some(stop(&copy.name, &copy.now.state, copy.now.since, stand))
    };
    stay.copies.iter().filter_map(of_copy).collect()
}

/// What is told of a message that nothing took.
fn unrouted(stay: &Stay) -> Option<String> {
    let told = stay.told?;
    let key = stay.routing_key.as_deref().unwrap_or_default();
    let why = match stay.kind.as_str() {
        "route" => format!("no binding of route {} takes it under the key '{key}'", stay.address),
        _ => match stay.route.as_deref().filter(|route| !route.is_empty()) {
            Some(route) => format!("there is no route {route}"),
            None => format!("there is no queue {}", stay.address),
        },
    };
    let fate = match (&stay.death, told) {
        (Some(_), _) => "as a dead letter it is lost",
        (None, true) => "its sender was told so, and it is not stored",
        (None, false) => "its sender did not ask to be told, and it was dropped",
    };
    Some(format!("{why}: {fate}"))
}

/// How a copy stands; nothing if it is done and all is well with it.
fn stand(stay: &Stay, copy: &Copy, is_last: bool) -> Option<Stand> {
    let Now { state, by, attempts, .. } = &copy.now;
    Some(match state.as_str() {
        "ready" | "behind_key" => waiting(stay, copy),
        "held" => {
            let whom = by.as_ref().map_or_else(|| "a consumer".to_owned(), name);
            let until =
                copy.now.until.map_or_else(String::new, |at| format!(", until {} at most", show(Millis(at))));
            (Standing::Working, format!("{whom} works on it (attempt {attempts}){until}"))
        }
        "delayed" => (Standing::Delayed, delayed(stay, copy)),
        "dying" => {
            let last = copy.steps.iter().rev().find(|step| step.what != "delivered");
            let reason = last.map_or("to be dead-lettered", |step| step.what.as_str());
            let why =
                format!("it is {reason} and cannot be moved to the dead letters now; that is tried again");
            (Standing::Stopped, why)
        }
        "rejected" | "expired" | "max_attempts" | "max_age" | "max_length" => {
            (Standing::Stopped, lost(copy, state))
        }
        "purged" | "deleted" if is_last => (Standing::Stopped, lost(copy, state)),
        "gone" if is_last => (Standing::Stopped, "it is gone, and the record does not tell how".to_owned()),
        // It goes on where the dead letters are.
        _ => return None,
    })
}

/// A copy that stands in line.
fn waiting(stay: &Stay, copy: &Copy) -> Stand {
    let Now { paused, consumers, rate, .. } = &copy.now;
    if let Some(pause) = paused {
        return (Standing::Paused, paused_by(pause));
    }
    // Whoever asks again and again is not there in between.
    let is_alone = *consumers == Some(0) && rate.is_none();
    match (&stay.death, is_alone) {
        (Some(death), true) => {
            let why = format!("it is a dead letter ({death}), and nobody consumes from {}", copy.name);
            (Standing::Stopped, why)
        }
        (None, true) => (Standing::Stopped, format!("it waits, and nobody consumes from {}", copy.name)),
        (Some(death), false) => (
            Standing::Waiting,
            format!("it is a dead letter ({death}) that waits for a consumer: {}", line(copy)),
        ),
        (None, false) => (Standing::Waiting, line(copy)),
    }
}

/// Its place in the line and how long that may take.
fn line(copy: &Copy) -> String {
    let Now { state, ahead, eta_ms, consumers, held_back, .. } = &copy.now;
    let mut text = match (state.as_str(), ahead.unwrap_or(0)) {
        ("behind_key", _) => "it waits behind an earlier message with the same key".to_owned(),
        (_, 0) => "it is next in line".to_owned(),
        (_, 1) => "1 message goes before it".to_owned(),
        (_, ahead) => format!("{ahead} messages go before it"),
    };
    text += &match consumers {
        Some(0) => ", and nobody asks at this moment".to_owned(),
        Some(1) => ", for 1 consumer".to_owned(),
        Some(count) => format!(", for {count} consumers"),
        None => String::new(),
    };
    text += &eta_ms.map_or_else(String::new, |ms| format!(", in about {:.1} s", ms as f64 / 1000.0));
    let why: Vec<&str> = held_back.iter().filter_map(|why| held(*why)).collect();
    if why.is_empty() { text } else { format!("{text}; {}", why.join(", ")) }
}

fn held(why: HeldBack) -> Option<&'static str> {
    Some(match why {
        HeldBack::NoConsumer => return None,
        HeldBack::Credit => "every consumer holds as many as it may, or has paused",
        HeldBack::Rate => "the rate is used up for now",
        HeldBack::Concurrency => "as many are held as may be",
        HeldBack::TenantRate => "the rate of a tenant is used up for now",
        HeldBack::TenantConcurrency => "a tenant has as many held as may be",
        HeldBack::Key => "an earlier message of their key is held or tried again",
        HeldBack::VhostRate => "the rate of the virtual host is used up for now",
        HeldBack::VhostConcurrency => "the virtual host has as many held as may be",
    })
}

fn paused_by(Pause { who, state, why, until }: &Pause) -> String {
    let why = why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    let until = until.map_or_else(String::new, |at| format!(", until {}", show(Millis(at))));
    format!("it waits for {who}, which is {state}{until}{why}")
}

/// Until when it is put off, and by what.
fn delayed(stay: &Stay, copy: &Copy) -> String {
    let until = copy.now.until.map_or_else(String::new, |at| format!(" until {}", show(Millis(at))));
    let put_off = copy.steps.iter().rev().find(|step| step.what == "delayed");
    let Some(step) = put_off else {
        return match stay.how.as_str() {
            "published" | "routed" => format!("its sender wants it delivered later: it waits{until}"),
            _ => format!("it waits{until}"),
        };
    };
    let failed =
        copy.steps.iter().rev().find(|step| step.what == "failed").and_then(|step| step.why.as_ref());
    let by = match (&step.by, &step.why) {
        (_, Some(why)) => format!(", because {why}"),
        (Some(by), None) => format!(", after {} gave it back", name(by)),
        (None, None) => String::new(),
    };
    let error = failed.map_or_else(String::new, |error| format!(": {error}"));
    format!("it waits{until} to be tried again (attempt {} failed{by}){error}", copy.now.attempts)
}

fn lost(copy: &Copy, state: &str) -> String {
    let step: Option<&Step> = copy.steps.iter().rev().find(|step| step.what == state);
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
        _ => format!("{what}, and {} has no dead-letter address that took it: it is lost", copy.name),
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
