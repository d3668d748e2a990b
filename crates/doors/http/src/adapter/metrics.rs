//! What does Prometheus see? Names and meanings stand in `docs/metrics.md`.

use std::{
    collections::HashMap,
    fmt::{self, Display, Write as _},
    sync::{Arc, atomic::Ordering},
};

use axum::{
    extract::State,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use waystation_base::{Millis, Name};
use waystation_broker::{
    Kind as Thing,
    view::{Counters, WAIT_BOUNDS_MS, Waits},
};
use waystation_host::{Exemplar, Overview, View};
use waystation_routes::{Counts as RouteCounts, RouteState};
use waystation_webhooks::push::Figures;

use crate::{api::Problem, auth::Caller, door::Door, failure::Failure};

/// Queues, topics and subscriptions, of each kind, that have series of their own; the rest are summed up as `_other`.
pub const NAMED_MAX: usize = 1_000;
/// Things read off the state in one go, so that the broker is not kept from its work.
const CHUNK: usize = 128;
const OTHER: &str = "_other";
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_FORMAT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// What stands between a sample and its example.
const EXEMPLAR: &str = " # ";

/// One thing's figures.
#[derive(Clone, Debug, Default)]
struct Row {
    /// In the order of its kind's [`Table`]; milliseconds where the name ends with `_seconds`.
    values: Vec<u64>,
    /// How long its messages waited, and one of them.
    waits: Option<(Waits, Option<Exemplar>)>,
}

/// The figures of one kind.
struct Table {
    thing: Thing,
    label: &'static str,
    /// Name, type and help of each figure.
    columns: &'static [(&'static str, &'static str, &'static str)],
    row: fn(&View<'_>, &Name, Millis) -> Option<Row>,
}

const COUNTERS: [(&str, &str); 13] = [
    ("published", "Messages stored."),
    ("duplicates", "Messages not stored because one with their id was."),
    ("delivered", "Messages handed to consumers, each attempt counted."),
    ("redelivered", "Messages handed out again."),
    ("acknowledged", "Messages accepted by a consumer."),
    ("dead_lettered", "Messages moved to the dead-letter address."),
    ("expired", "Messages gone by expiry."),
    ("rejected", "Messages gone by rejection or too many attempts."),
    ("dropped", "Messages gone by the length limit."),
    ("purged", "Messages gone by purge."),
    ("withdrawn", "Messages moved elsewhere by an operator, as by a redrive."),
    ("filtered", "Messages passed over by a filter."),
    ("retired", "Messages gone by retention."),
];

fn counters(counters: &Counters) -> [u64; 13] {
    let Counters {
        published,
        duplicates,
        delivered,
        redelivered,
        acknowledged,
        dead_lettered,
        expired,
        rejected,
        dropped,
        purged,
        withdrawn,
        filtered,
        retired,
    } = *counters;
    [
        published,
        duplicates,
        delivered,
        redelivered,
        acknowledged,
        dead_lettered,
        expired,
        rejected,
        dropped,
        purged,
        withdrawn,
        filtered,
        retired,
    ]
}

const QUEUES: Table = Table {
    thing: Thing::Queue,
    label: "queue",
    columns: &[
        ("messages_ready", "gauge", "Messages that wait for a consumer."),
        ("messages_in_flight", "gauge", "Messages that consumers hold."),
        ("messages_delayed", "gauge", "Messages that wait for their time."),
        ("bytes", "gauge", "Bytes of all messages."),
        ("consumers", "gauge", "Attached consumers and waiting pulls."),
        ("oldest_age_seconds", "gauge", "Age of the oldest message that waits or is held."),
        ("full", "gauge", "1 while it refuses what is published, being at a length limit."),
    ],
    row: |view, name, now| {
        let info = view.queue(name)?;
        let age = info.oldest.map_or(0, |oldest| now.since(oldest));
        let full = u64::from(info.full.is_some());
        let own = [info.ready, info.in_flight, info.delayed, info.bytes, info.consumers, age, full];
        Some(Row::new(&own, &info.counters, view.waits(Thing::Queue, name)))
    },
};

const TOPICS: Table = Table {
    thing: Thing::Topic,
    label: "topic",
    columns: &[
        ("partitions", "gauge", "Partitions."),
        ("messages", "gauge", "Offsets from the oldest kept to the end, over all partitions."),
        ("bytes", "gauge", "Bytes kept."),
        ("subscriptions", "gauge", "Subscriptions that read it."),
    ],
    row: |view, name, _| {
        let info = view.topic(name)?;
        let kept = info.partitions.iter().map(|part| part.end_offset.saturating_sub(part.start_offset)).sum();
        let bytes = info.partitions.iter().map(|part| part.bytes).sum();
        let own = [info.partitions.len() as u64, kept, bytes, info.subscriptions.len() as u64];
        Some(Row::new(&own, &info.counters, None))
    },
};

const SUBSCRIPTIONS: Table = Table {
    thing: Thing::Subscription,
    label: "subscription",
    columns: &[
        ("lag", "gauge", "Messages published and not acknowledged, without those in flight."),
        ("lag_seconds", "gauge", "Age of the oldest of them."),
        ("messages_in_flight", "gauge", "Messages that consumers hold."),
        ("messages_delayed", "gauge", "Messages that wait for a retry."),
        ("consumers", "gauge", "Attached consumers and waiting pulls."),
    ],
    row: |view, name, _| {
        let info = view.subscription(name)?;
        let own = [info.lag, info.lag_ms, info.in_flight, info.delayed, info.consumers];
        Some(Row::new(&own, &info.counters, view.waits(Thing::Subscription, name)))
    },
};

impl Row {
    fn new(own: &[u64], counted: &Counters, waits: Option<(Waits, Option<Exemplar>)>) -> Row {
        Row { values: own.iter().copied().chain(counters(counted)).collect(), waits }
    }

    /// Sums up; an example is of one thing only.
    fn add(&mut self, other: &Row) {
        self.values.resize(other.values.len(), 0);
        self.values.iter_mut().zip(&other.values).for_each(|(sum, value)| *sum = sum.saturating_add(*value));
        let Some((more, _)) = &other.waits else { return };
        let (waits, _) = self.waits.get_or_insert_default();
        waits.buckets.iter_mut().zip(more.buckets).for_each(|(sum, value)| *sum += value);
        waits.sum_ms = waits.sum_ms.saturating_add(more.sum_ms);
    }
}

/// Milliseconds, written as seconds.
struct Seconds(u64);

impl Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0 as f64 / 1000.0)
    }
}

/// Writes the text format.
#[derive(Default)]
struct Text(String);

impl Text {
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to a String does not fail.
        let _ = write!(self.0, "# HELP waystation_{name} {help}\n# TYPE waystation_{name} {kind}\n");
    }

    fn sample(&mut self, name: &str, label: Option<(&str, &str)>, value: impl Display) {
        // Names hold no character that a label value must escape; see `base::Name`.
        let _ = match label {
            None => writeln!(self.0, "waystation_{name} {value}"),
            Some((label, text)) => writeln!(self.0, "waystation_{name}{{{label}=\"{text}\"}} {value}"),
        };
    }

    fn single(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, None, value);
    }

    fn table(&mut self, table: &Table, rows: &[(String, Row)]) {
        let label = table.label;
        let own = table.columns.iter().map(|(name, kind, help)| (format!("{label}_{name}"), *kind, *help));
        let counted = COUNTERS.iter().map(|(name, help)| (format!("{label}_{name}_total"), "counter", *help));
        for (at, (name, kind, help)) in own.chain(counted).enumerate() {
            self.family(&name, kind, help);
            for (thing, row) in rows {
                match name.ends_with("_seconds") {
                    true => self.sample(&name, Some((label, thing)), Seconds(row.values[at])),
                    false => self.sample(&name, Some((label, thing)), row.values[at]),
                }
            }
        }
        if rows.iter().any(|(_, row)| row.waits.is_some()) {
            self.waits(label, rows);
        }
    }

    fn waits(&mut self, label: &str, rows: &[(String, Row)]) {
        let name = format!("{label}_wait_seconds");
        self.family(
            &name,
            "histogram",
            "How long messages waited until they were handed out for the first time.",
        );
        for (thing, row) in rows {
            let Some((waits, exemplar)) = &row.waits else { continue };
            let mut below = 0;
            for (at, count) in waits.buckets.iter().enumerate() {
                below += count;
                let bound =
                    WAIT_BOUNDS_MS.get(at).map_or("+Inf".to_owned(), |bound| Seconds(*bound).to_string());
                let _ =
                    write!(self.0, "waystation_{name}_bucket{{{label}=\"{thing}\",le=\"{bound}\"}} {below}");
                if let Some(one) = exemplar.as_ref().filter(|one| Waits::bucket(one.wait_ms) == at) {
                    let (id, value, at) = (&one.trace_id, Seconds(one.wait_ms), Seconds(one.at.0));
                    let _ = write!(self.0, "{EXEMPLAR}{{trace_id=\"{id}\"}} {value} {at}");
                }
                self.0.push('\n');
            }
            self.sample(&format!("{name}_sum"), Some((label, thing)), Seconds(waits.sum_ms));
            self.sample(&format!("{name}_count"), Some((label, thing)), below);
        }
    }
}

/// Everything of a kind: the first names by themselves, the rest in one sum.
async fn rows(door: &Door, table: &Table) -> Result<Vec<(String, Row)>, Failure> {
    let mut rows = Vec::new();
    let mut other: Option<Row> = None;
    let mut after = None;
    loop {
        let (thing, read, now, from) = (table.thing, table.row, door.clock.now(), after.take());
        let chunk: Vec<(String, Option<Row>)> = door
            .broker
            .query(move |view| {
                let names = view.names(thing, from.as_deref(), CHUNK);
                names.into_iter().map(|name| (name.to_string(), read(view, &name, now))).collect()
            })
            .await?;
        let is_last = chunk.len() < CHUNK;
        after = chunk.last().map(|(name, _)| name.clone());
        for (name, row) in chunk {
            let Some(row) = row else { continue };
            if rows.len() < NAMED_MAX {
                rows.push((name, row));
            } else {
                other.get_or_insert_default().add(&row);
            }
        }
        if is_last {
            rows.extend(other.map(|row| (OTHER.to_owned(), row)));
            return Ok(rows);
        }
    }
}

fn of_the_door(text: &mut Text, door: &Door) {
    let counts = &door.counts;
    let get = |counter: &std::sync::atomic::AtomicU64| counter.load(Ordering::Relaxed);
    text.family("http_requests_total", "counter", "Requests answered, by class of status.");
    for (class, counter) in counts.answered.iter().enumerate() {
        text.sample("http_requests_total", Some(("class", &format!("{}xx", class + 1))), get(counter));
    }
    text.single("http_connections", "gauge", "Open connections.", door.connections.held());
    text.single("http_connections_total", "counter", "Connections accepted.", get(&counts.connections));
    let help = "Connections turned away at the limit.";
    text.single("http_connections_refused_total", "counter", help, get(&counts.turned_away));
    text.single("http_requests_active", "gauge", "Short requests being worked on.", door.requests.held());
    text.single("http_waits_active", "gauge", "Long polls and followers.", door.waits.held());
    let buffered = door.buffered.held() * crate::door::BUFFER_UNIT;
    text.single("http_buffered_bytes", "gauge", "Bytes of large request bodies in memory.", buffered);
    text.single(
        "http_received_bytes_total",
        "counter",
        "Bytes of request bodies.",
        get(&counts.received_bytes),
    );
    text.single(
        "http_published_total",
        "counter",
        "Messages stored through this door.",
        get(&counts.published),
    );
    text.single(
        "http_delivered_total",
        "counter",
        "Messages handed out through this door.",
        get(&counts.delivered),
    );
    text.single("http_settled_total", "counter", "Messages settled through this door.", get(&counts.settled));
}

fn of_the_server(text: &mut Text, door: &Door, overview: &Overview) {
    let uptime_s = door.clock.now().since(door.started) / 1000;
    text.single("uptime_seconds", "gauge", "Seconds since the server was started.", uptime_s);
    let stopped = u8::from(overview.stopped.is_some());
    text.single("stopped", "gauge", "1 if nothing is accepted any more.", stopped);
    text.single("draining", "gauge", "1 while the server shuts down.", u8::from(door.drain.has_begun()));
    text.single(
        "disk_low",
        "gauge",
        "1 if publishing is refused for want of space.",
        u8::from(overview.disk_low),
    );
    text.single("disk_free_bytes", "gauge", "Bytes of the file system still free.", overview.disk_free_bytes);
    let end = overview.journal_end.0;
    text.single("journal_end_bytes", "counter", "Bytes written to the journal since its beginning.", end);
    let durable = overview.journal_durable.0;
    text.single("journal_durable_bytes", "counter", "Bytes of the journal that are durable.", durable);
    let held = end.saturating_sub(overview.journal_start.0);
    text.single("journal_bytes", "gauge", "Bytes of kept journal files.", held);
    text.single("journal_groups_total", "counter", "Commit groups synced since the start.", overview.groups);
    text.single("settled_bytes", "gauge", "Bytes in settled files.", overview.settled_bytes);
    text.single("settled_files", "gauge", "Settled files.", overview.settled_files);
    text.single("cache_bytes", "gauge", "Bytes of the tail cache in use.", overview.cache_bytes);
    text.single("entities", "gauge", "Queues, topics and subscriptions.", overview.entities);
}

/// Figures of pushes: name, type, help, and how to read it.
const PUSHES: [(&str, &str, &str, fn(&Figures) -> u64); 6] = [
    ("push_active", "gauge", "1: it delivers; 0: suspended, waiting, paused or disabled.", |it| {
        it.is_active.into()
    }),
    ("push_requests", "gauge", "Requests under way.", |it| it.requests.into()),
    ("push_attempts_total", "counter", "Requests sent.", |it| it.counts.attempts),
    ("push_delivered_total", "counter", "Messages delivered.", |it| it.counts.delivered),
    ("push_retried_total", "counter", "Messages to be tried again.", |it| it.counts.retried),
    ("push_dead_lettered_total", "counter", "Messages given up.", |it| it.counts.dead_lettered),
];

fn of_pushes(text: &mut Text, rows: &[(Name, Figures)]) {
    for (name, kind, help, read) in PUSHES {
        text.family(name, kind, help);
        for (push, figures) in rows {
            text.sample(name, Some(("push", push.as_str())), read(figures));
        }
    }
}

/// Figures of routes with steps: name, type, help, and how to read it.
const ROUTES: [(&str, &str, &str, fn(&RouteFigures) -> u64); 8] = [
    ("route_active", "gauge", "1: it works; 0: waiting or paused.", |it| (it.1 == RouteState::Active).into()),
    ("route_taken_total", "counter", "Messages taken and done with.", |it| it.2.taken),
    ("route_sent_total", "counter", "Messages sent, each copy counted.", |it| it.2.sent),
    ("route_ended_total", "counter", "Messages taken that ended in the route.", |it| it.2.ended),
    ("route_dead_lettered_total", "counter", "Messages taken that failed.", |it| it.2.dead_lettered),
    ("route_retried_total", "counter", "Messages given back to be tried again.", |it| it.2.retried),
    ("route_held_total", "counter", "Messages taken that a step held.", |it| it.2.held),
    ("route_late_total", "counter", "Messages that came to such a step too late.", |it| it.2.late),
];

/// A route with steps in numbers.
type RouteFigures = (Name, RouteState, RouteCounts);

fn of_routes(text: &mut Text, rows: &[RouteFigures]) {
    for (name, kind, help, read) in ROUTES {
        text.family(name, kind, help);
        for row in rows {
            text.sample(name, Some(("route", row.0.as_str())), read(row));
        }
    }
}

/// The same in the form that OpenMetrics 1.0 asks for: counters are families without `_total`, examples are kept, and the
/// end is told. A counter that cannot be such a family, for want of `_total` or because a gauge has its name, is of an unknown type.
fn open_metrics(text: &str) -> String {
    let mut open = String::with_capacity(text.len());
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types: HashMap<&str, &str> = types.collect();
    let is_counter = |name: &str| types.get(name) == Some(&"counter");
    let family = |name: &str| {
        name.strip_suffix("_total").filter(|family| !types.contains_key(family)).map(str::to_owned)
    };
    for line in text.lines() {
        let mut words = line.splitn(4, ' ');
        match (words.next(), words.next(), words.next(), words.next()) {
            (Some("#"), Some(what @ ("HELP" | "TYPE")), Some(name), Some(rest)) if is_counter(name) => {
                let _ = match family(name) {
                    Some(family) => writeln!(open, "# {what} {family} {rest}"),
                    None if what == "TYPE" => writeln!(open, "# TYPE {name} unknown"),
                    None => writeln!(open, "{line}"),
                };
            }
            _ => _ = writeln!(open, "{line}"),
        }
    }
    open + "# EOF\n"
}

/// The same for those who do not know examples.
fn without_exemplars(text: &str) -> String {
    let lines = text.lines().map(|line| line.split_once(EXEMPLAR).map_or(line, |(sample, _)| sample));
    lines.flat_map(|line| [line, "\n"]).collect()
}

/// Whether a scraper takes OpenMetrics; Prometheus names it first.
fn takes_open_metrics(headers: &HeaderMap) -> bool {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .any(|accept| accept.to_str().is_ok_and(|accept| accept.contains("application/openmetrics-text")))
}

/// Figures in Prometheus' text format, or as OpenMetrics with examples of traces if that is asked for.
#[utoipa::path(get, path = "/metrics", tag = "server", responses(
    (status = 200, description = "Figures", body = String, content_type = "text/plain"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn metrics(
    State(door): State<Arc<Door>>,
    headers: HeaderMap,
    _caller: Caller,
) -> Result<Response, Failure> {
    let mut text = Text::default();
    of_the_door(&mut text, &door);
    of_the_server(&mut text, &door, &door.broker.overview().await?);
    for table in [QUEUES, TOPICS, SUBSCRIPTIONS] {
        let rows = rows(&door, &table).await?;
        text.table(&table, &rows);
    }
    of_pushes(&mut text, &door.pushes.figures(NAMED_MAX).await);
    of_routes(&mut text, &door.routes.figures(NAMED_MAX).await);
    door.figures.iter().for_each(|figures| text.0 += &figures());
    let (format, text) = match takes_open_metrics(&headers) {
        true => (OPEN_FORMAT, open_metrics(&text.0)),
        false => (FORMAT, without_exemplars(&text.0)),
    };
    Ok(([(header::CONTENT_TYPE, format)], text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_written_family_by_family() {
        let mut text = Text::default();
        let values = (0..(TOPICS.columns.len() + COUNTERS.len()) as u64).collect();
        let row = Row { values, waits: None };
        text.table(&TOPICS, &[("a.b".into(), row.clone()), (OTHER.into(), row)]);
        let lines: Vec<_> = text.0.lines().collect();
        assert_eq!(lines[1], "# TYPE waystation_topic_partitions gauge");
        assert_eq!(
            lines[2..4],
            [
                "waystation_topic_partitions{topic=\"a.b\"} 0",
                "waystation_topic_partitions{topic=\"_other\"} 0"
            ]
        );
        assert_eq!(*lines.last().expect("lines"), "waystation_topic_retired_total{topic=\"_other\"} 16");
    }

    fn waiting() -> Text {
        let mut text = Text::default();
        let mut waits = Waits { sum_ms: 1_250, ..Waits::default() };
        (waits.buckets[0], waits.buckets[7], waits.buckets[13]) = (3, 1, 1);
        let example = Exemplar { trace_id: "4bf9".into(), wait_ms: 700, at: Millis(1_500) };
        let row = Row {
            values: vec![7; SUBSCRIPTIONS.columns.len() + COUNTERS.len()],
            waits: Some((waits, Some(example))),
        };
        text.table(&SUBSCRIPTIONS, &[("s".into(), row)]);
        text
    }

    #[test]
    fn waits_are_a_histogram_whose_buckets_add_up() {
        let text = without_exemplars(&waiting().0);
        for expected in [
            "waystation_subscription_lag_seconds{subscription=\"s\"} 0.007\n",
            "# TYPE waystation_subscription_wait_seconds histogram\n",
            "_wait_seconds_bucket{subscription=\"s\",le=\"0.001\"} 3\n",
            "_wait_seconds_bucket{subscription=\"s\",le=\"1\"} 4\n",
            "_wait_seconds_bucket{subscription=\"s\",le=\"86400\"} 4\n",
            "_wait_seconds_bucket{subscription=\"s\",le=\"+Inf\"} 5\n",
            "_wait_seconds_sum{subscription=\"s\"} 1.25\n",
            "_wait_seconds_count{subscription=\"s\"} 5\n",
        ] {
            assert!(text.contains(expected), "{expected} in {text}");
        }
        let mut sum = Row::default();
        let (row, _) =
            (Row { values: vec![1, 2], waits: Some((Waits { sum_ms: 5, ..Waits::default() }, None)) }, ());
        sum.add(&row);
        sum.add(&row);
        assert_eq!((sum.values, sum.waits.map(|(waits, _)| waits.sum_ms)), (vec![2, 4], Some(10)));
    }

    #[test]
    fn open_metrics_names_counters_as_it_wants_them_and_keeps_the_example() {
        let mut text = waiting();
        text.single("journal_end_bytes", "counter", "Bytes.", 5);
        text.single("http_connections", "gauge", "Open.", 1);
        text.single("http_connections_total", "counter", "Accepted.", 2);
        let open = open_metrics(&text.0);
        for expected in [
            "# TYPE waystation_subscription_published counter\n",
            "\nwaystation_subscription_published_total{subscription=\"s\"} 7\n",
            "# TYPE waystation_journal_end_bytes unknown\n",
            "# TYPE waystation_http_connections_total unknown\nwaystation_http_connections_total 2\n",
            "le=\"1\"} 4 # {trace_id=\"4bf9\"} 0.7 1.5\n",
        ] {
            assert!(open.contains(expected), "{expected} in {open}");
        }
        assert!(open.ends_with("# EOF\n") && open.matches(" # {").count() == 1, "{open}");
    }

    #[test]
    fn every_figure_is_documented() {
        let documented = include_str!("../../../../../docs/metrics.md");
        for table in [QUEUES, TOPICS, SUBSCRIPTIONS] {
            for (name, _, _) in table.columns {
                let name = format!("`waystation_{}_{name}`", table.label);
                assert!(documented.contains(&name), "{name}");
            }
        }
        for kind in ["queue", "subscription"] {
            assert!(documented.contains(&format!("`waystation_{kind}_wait_seconds`")), "{kind}");
        }
        for (name, ..) in PUSHES {
            assert!(documented.contains(&format!("`waystation_{name}`")), "{name}");
        }
        for (name, ..) in ROUTES {
            assert!(documented.contains(&format!("`waystation_{name}`")), "{name}");
        }
        for (name, _) in COUNTERS {
            assert!(documented.contains(&format!("`{name}`")), "{name}");
        }
    }
}
