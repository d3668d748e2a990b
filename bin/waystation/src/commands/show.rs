//! How do queues, topics, subscriptions and routes look to people?

use serde_json::Value;
use waystation_base::{Millis, os::OsClock, time::Clock};
use waystation_broker::view::{QueueInfo, RouteInfo, SubscriptionInfo, TopicInfo};
use waystation_routes::RouteStepsInfo;

use crate::{
    client::Info,
    output,
    units::{show_count, show_duration, show_size, show_time},
};

/// A table of things of one kind.
pub fn table(infos: &[Info]) -> String {
    let columns: &[&str] = match infos.first() {
        None => return String::new(),
        Some(Info::Queue(_)) => {
            &["queue", ">ready", ">in flight", ">delayed", ">size", ">consumers", ">oldest"]
        }
        Some(Info::Topic(_)) => &["topic", ">partitions", ">messages", ">size", ">subscriptions"],
        Some(Info::Subscription(_)) => {
            &["subscription", "topic", ">lag", ">behind", ">in flight", ">delayed", ">consumers"]
        }
        Some(Info::Route(_) | Info::Steps(_)) => {
            &["route", "kind", "from", ">bindings", ">published", ">unrouted", ">dead"]
        }
    };
    output::table(columns, infos.iter().map(row).collect())
}

fn row(info: &Info) -> Vec<String> {
    match info {
        Info::Queue(info) => queue_row(info),
        Info::Topic(info) => topic_row(info),
        Info::Subscription(info) => subscription_row(info),
        Info::Route(info) => route_row(info),
        Info::Steps(info) => steps_row(info),
    }
}

fn queue_row(info: &QueueInfo) -> Vec<String> {
    let mut row = vec![info.name.to_string()];
    row.extend([info.ready, info.in_flight, info.delayed].map(show_count));
    row.push(show_size(info.bytes));
    row.push(show_count(info.consumers));
    row.push(info.oldest.map(age).unwrap_or_default());
    row
}

fn topic_row(info: &TopicInfo) -> Vec<String> {
    let messages = info.partitions.iter().map(|it| it.end_offset.saturating_sub(it.start_offset)).sum();
    let bytes = info.partitions.iter().map(|it| it.bytes).sum();
    vec![
        info.name.to_string(),
        info.partitions.len().to_string(),
        show_count(messages),
        show_size(bytes),
        info.subscriptions.len().to_string(),
    ]
}

fn subscription_row(info: &SubscriptionInfo) -> Vec<String> {
    let mut row = vec![info.name.to_string(), info.spec.topic.clone(), show_count(info.lag)];
    row.push(if info.lag == 0 { String::new() } else { show_duration(info.lag_ms) });
    row.extend([info.in_flight, info.delayed, info.consumers].map(show_count));
    row
}

fn route_row(info: &RouteInfo) -> Vec<String> {
    let kind = serde_json::to_value(info.spec.kind).unwrap_or_default();
    let mut row = vec![info.name.to_string(), kind.as_str().unwrap_or_default().to_owned(), String::new()];
    row.extend([info.bindings, info.published, info.unrouted].map(show_count));
    row.push(String::new());
    row
}

fn steps_row(info: &RouteStepsInfo) -> Vec<String> {
    // Not all may see how it is declared.
    let from = info.spec.as_ref().and_then(|spec| {
        let from = &spec.from;
        [&from.queue, &from.topic, &from.subscription, &from.pattern].into_iter().flatten().next()
    });
    let mut row = vec![info.name.to_string(), "steps".to_owned(), from.cloned().unwrap_or_default()];
    row.extend([String::new(), show_count(info.counts.taken), String::new()]);
    row.push(show_count(info.counts.dead_lettered));
    row
}

/// How long ago that was.
pub fn age(time: Millis) -> String {
    show_duration(OsClock.now().0.saturating_sub(time.0))
}

/// Everything that is known of one thing, a line each: how it is, how it is declared, what was counted. What is none, and
/// counters that are zero, are left out.
pub fn details(info: &Info) -> String {
    let value = serde_json::to_value(info).unwrap_or_default();
    let mut now = value.clone();
    let (mut declared, mut counted) = (Vec::new(), Vec::new());
    for (name, rows) in [("spec", &mut declared), ("counters", &mut counted)] {
        put(rows, name, &value[name]);
        now[name] = Value::Null;
    }
    now["name"] = Value::Null;
    let mut rows = vec![(info.kind().to_string(), info.name().to_string())];
    put(&mut rows, "", &now);
    let all = [rows, declared, counted];
    let width = all.iter().flatten().map(|(name, _)| name.len()).max().unwrap_or_default();
    let part = |rows: &Vec<(String, String)>| {
        let lines: Vec<String> = rows.iter().map(|(name, value)| format!("{name:width$}  {value}")).collect();
        lines.join("\n")
    };
    all.iter().filter(|rows| !rows.is_empty()).map(part).collect::<Vec<_>>().join("\n\n")
}

fn put(rows: &mut Vec<(String, String)>, path: &str, value: &Value) {
    match value {
        Value::Object(members) if path != "filter" && path != "start" => {
            for (name, value) in members {
                let skipped = matches!(value, Value::Null) || path == "counters" && *value == 0;
                let name = match path {
                    "" | "spec" | "counters" => name.clone(),
                    _ => format!("{path}.{name}"),
                };
                if !skipped {
                    put(rows, &name, value);
                }
            }
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            for (at, item) in items.iter().enumerate() {
                rows.push((format!("{path}[{at}]"), compact(item)));
            }
        }
        Value::Null => {}
        value => rows.push((path.to_owned(), human(path, value))),
    }
}

/// The members of an object on one line.
fn compact(item: &Value) -> String {
    let Value::Object(members) = item else { return item.to_string() };
    let parts: Vec<String> =
        members.iter().map(|(name, value)| format!("{name} {}", human(name, value))).collect();
    parts.join(", ")
}

/// A value as its unit says, which stands at the end of its name.
fn human(name: &str, value: &Value) -> String {
    match (name, value, value.as_u64()) {
        (_, _, Some(number)) if name.ends_with("_ms") => show_duration(number),
        (_, _, Some(number)) if name.ends_with("bytes") => show_size(number),
        ("oldest" | "since", _, Some(number)) => show_time(Millis(number)),
        (_, _, Some(number)) => show_count(number),
        (_, Value::String(text), _) => text.clone(),
        (_, Value::Array(items), _) => {
            items.iter().map(|item| human("", item)).collect::<Vec<_>>().join(", ")
        }
        (_, value, _) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::Name;
    use waystation_broker::{spec::QueueSpec, view::Counters};

    use super::*;

    #[test]
    fn details_show_units_and_leave_out_what_is_not_there() {
        let spec = QueueSpec { max_bytes: Some(1 << 20), ..QueueSpec::default() };
        let info = Info::Queue(QueueInfo {
            name: Name::new("orders").expect("a name"),
            spec,
            effective: None,
            ready: 12_345,
            in_flight: 0,
            delayed: 0,
            bytes: 2048,
            consumers: 1,
            held_back: Vec::new(),
            full: None,
            oldest: Some(Millis(0)),
            counters: Counters { published: 7, ..Counters::default() },
            owner: None,
            active: None,
        });
        let text = details(&info);
        let line = |name: &str| {
            let line = text.lines().find(|line| line.split_whitespace().next() == Some(name));
            line.map(|line| line[name.len()..].trim().to_owned())
        };
        assert_eq!(line("ready").as_deref(), Some("12,345"), "{text}");
        assert_eq!(line("max_bytes").as_deref(), Some("1.0 MiB"));
        assert_eq!(line("lease_ms").as_deref(), Some("30s"));
        assert_eq!(line("oldest").as_deref(), Some("1970-01-01T00:00:00.000Z"));
        assert_eq!(line("published").as_deref(), Some("7"));
        assert_eq!((line("ttl_ms"), line("delivered")), (None, None));
    }

    #[test]
    fn what_a_kind_does_not_have_is_no_line_and_times_are_written_as_such() {
        let mut rows = Vec::new();
        put(&mut rows, "counters", &Value::Null);
        put(&mut rows, "", &serde_json::json!({"since": 0, "reason": null}));
        assert_eq!(rows, [("since".to_owned(), "1970-01-01T00:00:00.000Z".to_owned())]);
    }
}
