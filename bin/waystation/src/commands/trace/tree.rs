//! A journey as a tree: first where it stopped, then what led to what.

use waystation_journeys::{Copy, Journey, Message, Now, Sender, Standing, Stay, Step, Stop};

use super::paint::{Paint, moment, span};
use crate::units::{show_count, show_size};

/// The whole.
pub fn tell(journey: &Journey, paint: Paint) -> String {
    let mut lines = head(journey, paint);
    let is_root = |message: &&Message| message.parent.is_none();
    for root in journey.messages.iter().filter(is_root) {
        lines.push(String::new());
        branch(journey, root, "", "", paint, &mut lines);
    }
    let ends = foot(journey, paint);
    if !ends.is_empty() {
        lines.push(String::new());
        lines.extend(ends);
    }
    lines.join("\n")
}

fn head(journey: &Journey, paint: Paint) -> Vec<String> {
    let count = journey.messages.len();
    let messages = if count == 1 { "1 message".to_owned() } else { format!("{count} messages") };
    let mut lines = match (journey.stops.is_empty(), journey.under_way.is_empty()) {
        (true, true) => return vec![paint.good(&format!("{messages}, all of it is done"))],
        (true, false) => vec![paint.waiting(&format!("{messages}; it is on its way:"))],
        (false, _) => vec![paint.bad(&format!("{messages}; it stopped here:"))],
    };
    lines.extend(journey.stops.iter().map(|stop| stood(stop, paint)));
    if !journey.stops.is_empty() && !journey.under_way.is_empty() {
        lines.push(paint.waiting("and is on its way here:"));
    }
    lines.extend(journey.under_way.iter().map(|stop| stood(stop, paint)));
    lines
}

/// How something stands, in a word.
fn standing(stop: &Stop, paint: Paint) -> String {
    match stop.standing {
        Standing::Stopped => paint.bad(&format!("stopped ({})", stop.state.replace('_', " "))),
        Standing::Paused => paint.waiting("paused"),
        Standing::Waiting => paint.waiting("waiting"),
        Standing::Working => paint.waiting("being worked on"),
        Standing::Delayed => paint.waiting("delayed"),
        Standing::Kept => paint.waiting("kept"),
    }
}

fn stood(stop: &Stop, paint: Paint) -> String {
    let state = standing(stop, paint);
    let at = paint.bold(&stop.at);
    let (since, why) = (paint.faint(&format!("since {}", moment(stop.since))), paint.plain(&stop.why));
    format!("  {state} at {at} {since}\n    {why}\n    {}", paint.faint(&format!("message {}", stop.message)))
}

/// A message and what came of it. `first` stands before its first line, `rest` before the others.
fn branch(
    journey: &Journey,
    message: &Message,
    first: &str,
    rest: &str,
    paint: Paint,
    out: &mut Vec<String>,
) {
    out.push(format!("{first}{}", title(message, paint)));
    let children: Vec<&Message> =
        journey.messages.iter().filter(|it| it.parent.as_ref() == Some(&message.id)).collect();
    let bar = if children.is_empty() { "  " } else { "│ " };
    for stay in &message.stays {
        stay_lines(stay, paint).into_iter().for_each(|line| out.push(format!("{rest}{bar}{line}")));
    }
    for (at, child) in children.iter().enumerate() {
        let is_last = at + 1 == children.len();
        let (branch_first, branch_rest) = if is_last { ("└─", "  ") } else { ("├─", "│ ") };
        let (first, rest) = (format!("{rest}{branch_first}"), format!("{rest}{branch_rest}"));
        branch(journey, child, &first, &rest, paint, out);
    }
}

fn title(message: &Message, paint: Paint) -> String {
    let what = match (&message.operation, &message.kind) {
        (Some(operation), _) => format!("call of {operation}"),
        (None, Some(kind)) => kind.clone(),
        (None, None) => "message".to_owned(),
    };
    let mut parts = vec![match message.asked {
        true => paint.bold(&format!("● {what}")),
        false => paint.plain(&format!("○ {what}")),
    }];
    parts.push(paint.plain(&message.id));
    let named = |name: &str, value: &Option<String>| value.as_ref().map(|value| format!("{name} {value}"));
    let texts = [
        named("id", &message.message_id.clone().filter(|id| *id != message.id)),
        named("correlation", &message.correlation_id.clone().filter(|id| *id != message.id)),
        named("trace", &message.trace_id),
    ];
    let business = message.business.iter().map(|(key, value)| format!("{key}:{value}"));
    parts.extend(texts.into_iter().flatten().chain(business).map(|text| paint.faint(&text)));
    if let (None, Some(cause)) = (&message.parent, &message.cause) {
        parts.push(paint.faint(&format!("came from {cause}, of which nothing is recorded")));
    }
    parts.join("  ")
}

/// Somebody, in a few words.
fn who(sender: &Sender) -> String {
    let Sender { door, address, user, name } = sender;
    let mut text = format!("by {door}");
    for (word, value) in [(" as ", user), (" from ", address)] {
        if !value.is_empty() {
            text += word;
            text += value;
        }
    }
    if name.is_empty() { text } else { format!("{text} ({name})") }
}

fn stay_lines(stay: &Stay, paint: Paint) -> Vec<String> {
    let how = if stay.how == "unrouted" { "published".into() } else { stay.how.replace('_', " ") };
    let mut came = format!("{} {how} to {} {}", moment(stay.at), stay.kind, stay.address);
    let route = stay.route.as_ref().filter(|route| !route.is_empty());
    if stay.kind == "route" {
        came += &stay.routing_key.as_ref().map_or_else(String::new, |key| format!(" under '{key}'"));
    } else if let Some(route) = route {
        came += &format!(" by route {route}");
        came += &stay.routing_key.as_ref().map_or_else(String::new, |key| format!(" under '{key}'"));
    }
    came += &stay.death.as_ref().map_or_else(String::new, |death| format!(" ({death})"));
    came += &stay.redrive.as_ref().map_or_else(String::new, |redrive| format!(" by redrive {redrive}"));
    came += &stay.by.as_ref().map_or_else(String::new, |by| format!(", {}", who(by)));
    came += &format!(", {}", show_size(stay.bytes.into()));
    came += &stay.delay_ms.map_or_else(String::new, |ms| format!(", not before {}", span(ms)));
    came += &stay.ttl_ms.map_or_else(String::new, |ms| format!(", of no use after {}", span(ms)));
    came += &stay.callback_url.as_ref().map_or_else(String::new, |url| format!(", for {url}"));
    let mut lines = vec![paint.plain(&came)];
    for copy in &stay.copies {
        if copy.kind == "subscription" {
            lines.push(format!("  {}", paint.plain(&format!("subscription {}", copy.name))));
        }
        let mut before = stay.at;
        for step in &copy.steps {
            lines.push(format!("    {}", step_line(step, before, paint)));
            before = step.at;
        }
        lines.extend(now_line(copy, paint).map(|line| format!("    {line}")));
    }
    if let Some(told) = stay.told {
        let fate = if told { "its sender was told" } else { "dropped" };
        lines.push(format!("    {}", paint.bad(&format!("matched none: {fate}"))));
    } else if stay.copies.is_empty() && stay.kind == "topic" {
        let kept = if stay.kept == Some(true) { "kept" } else { "gone by retention" };
        lines.push(format!("    {}", paint.faint(&format!("{kept}; no subscription reads it"))));
    }
    lines
}

fn step_line(step: &Step, before: u64, paint: Paint) -> String {
    let after = paint.faint(&format!("+{}", span(step.at.saturating_sub(before))));
    let what = match step.what.as_str() {
        "delivered" | "extended" | "returned" | "called" => paint.plain(&step.what),
        "delayed" => paint.waiting("put off"),
        "max_attempts" => paint.bad("given up (max_attempts)"),
        "max_length" => paint.bad("dropped (max_length)"),
        "dead_lettered" => paint.bad("dead lettered"),
        other => paint.state(other),
    };
    let mut more = String::new();
    if step.what == "delivered" {
        more += &step.attempt.map_or_else(String::new, |attempt| format!(" (attempt {attempt})"));
        more += &step.ms.map_or_else(String::new, |ms| format!(" for {}", span(ms)));
    } else if step.what == "delayed" {
        more += &step.ms.map_or_else(String::new, |ms| format!(" for {}", span(ms)));
    }
    if step.what == "called" {
        more += &step.to.as_ref().map_or_else(String::new, |to| format!(" {to}"));
        more +=
            &step.status.map_or_else(|| ", no answer".to_owned(), |status| format!(", answered {status}"));
        more += &step.ms.map_or_else(String::new, |ms| format!(" after {}", span(ms)));
    } else {
        more += &step.by.as_ref().map_or_else(String::new, |by| format!(" {}", who(by)));
    }
    more += &step.why.as_ref().map_or_else(String::new, |why| format!(": {why}"));
    format!("{after} {what}{}", paint.plain(&more))
}

/// Where it is, if it is still here.
fn now_line(copy: &Copy, paint: Paint) -> Option<String> {
    let now = &copy.now;
    let Now { state, ahead, eta_ms, consumers, until, .. } = now;
    let age_ms = now.age_ms?;
    let mut text = format!(" now, age {}", span(age_ms));
    text += &ahead.map_or_else(String::new, |ahead| match ahead {
        0 => ", next in line".to_owned(),
        ahead => format!(", {} go before it", show_count(ahead)),
    });
    text += &eta_ms.map_or_else(String::new, |ms| format!(", delivery in about {}", span(ms)));
    text +=
        &now.paused.as_ref().map_or_else(String::new, |pause| format!(", {} is {}", pause.who, pause.state));
    text += &until.map_or_else(String::new, |until| format!(", until {}", moment(until)));
    text += &consumers.map_or_else(String::new, |count| match count {
        0 => ", no consumer".to_owned(),
        1 => ", 1 consumer".to_owned(),
        count => format!(", {} consumers", show_count(count)),
    });
    Some(format!("{}{}", paint.state(state), paint.plain(&text)))
}

fn foot(journey: &Journey, paint: Paint) -> Vec<String> {
    let mut lines = Vec::new();
    if journey.more {
        lines.push("there are more messages: -n asks for more of them".to_owned());
    }
    if journey.hidden > 0 {
        lines.push(format!("{} places are hidden: this token may not consume there", journey.hidden));
    }
    if journey.record.behind_bytes > 0 {
        let behind = show_size(journey.record.behind_bytes);
        lines.push(format!("the recorder is {behind} of journal behind: what happened last may be missing"));
    }
    for lack in &journey.record.lacks {
        let time = match (lack.after, lack.before) {
            (Some(after), Some(before)) => format!("between {} and {}: ", moment(after), moment(before)),
            (None, Some(before)) => format!("before {}: ", moment(before)),
            _ => String::new(),
        };
        lines.push(format!("the record lacks something: {time}{}", lack.why));
    }
    lines.iter().map(|line| paint.waiting(line)).collect()
}
