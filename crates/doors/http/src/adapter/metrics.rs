//! What does Prometheus see? Names and meanings stand in `docs/metrics.md`.

use std::{
    fmt::{Display, Write as _},
    sync::{Arc, atomic::Ordering},
};

use axum::{
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use waystation_base::{Millis, Name};
use waystation_broker::{Kind as Thing, view::Counters};
use waystation_host::{Overview, View};
use waystation_webhooks::push::Figures;

use crate::{api::Problem, auth::Caller, door::Door, failure::Failure};

/// Queues, topics and subscriptions, of each kind, that have series of their own; the rest are summed up as `_other`.
pub const NAMED_MAX: usize = 1_000;
/// Things read off the state in one go, so that the broker is not kept from its work.
const CHUNK: usize = 128;
const OTHER: &str = "_other";
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// One thing's figures, in the order of its kind's [`Table`].
type Row = Vec<u64>;

/// The figures of one kind.
struct Table {
    thing: Thing,
    label: &'static str,
    /// Name, type and help of each figure.
    columns: &'static [(&'static str, &'static str, &'static str)],
    row: fn(&View<'_>, &Name, Millis) -> Option<Row>,
}

const COUNTERS: [(&str, &str); 12] = [
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
    ("filtered", "Messages passed over by a filter."),
    ("retired", "Messages gone by retention."),
];

fn counters(counters: &Counters) -> [u64; 12] {
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
        ("oldest_age_ms", "gauge", "Age of the oldest message that waits or is held."),
    ],
    row: |view, name, now| {
        let info = view.queue(name)?;
        let age = info.oldest.map_or(0, |oldest| now.since(oldest));
        let own = [info.ready, info.in_flight, info.delayed, info.bytes, info.consumers, age];
        Some(own.into_iter().chain(counters(&info.counters)).collect())
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
        Some(own.into_iter().chain(counters(&info.counters)).collect())
    },
};

const SUBSCRIPTIONS: Table = Table {
    thing: Thing::Subscription,
    label: "subscription",
    columns: &[
        ("lag", "gauge", "Messages published and not acknowledged, without those in flight."),
        ("lag_ms", "gauge", "Age of the oldest of them."),
        ("messages_in_flight", "gauge", "Messages that consumers hold."),
        ("messages_delayed", "gauge", "Messages that wait for a retry."),
        ("consumers", "gauge", "Attached consumers and waiting pulls."),
    ],
    row: |view, name, _| {
        let info = view.subscription(name)?;
        let own = [info.lag, info.lag_ms, info.in_flight, info.delayed, info.consumers];
        Some(own.into_iter().chain(counters(&info.counters)).collect())
    },
};

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
                self.sample(&name, Some((label, thing)), row[at]);
            }
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
                add(other.get_or_insert_with(|| vec![0; row.len()]), &row);
            }
        }
        if is_last {
            rows.extend(other.map(|row| (OTHER.to_owned(), row)));
            return Ok(rows);
        }
    }
}

fn add(sum: &mut [u64], row: &[u64]) {
    sum.iter_mut().zip(row).for_each(|(sum, value)| *sum = sum.saturating_add(*value));
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

/// Figures in Prometheus' text format.
#[utoipa::path(get, path = "/metrics", tag = "server", responses(
    (status = 200, description = "Figures", body = String, content_type = "text/plain"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn metrics(State(door): State<Arc<Door>>, _caller: Caller) -> Result<Response, Failure> {
    let mut text = Text::default();
    of_the_door(&mut text, &door);
    of_the_server(&mut text, &door, &door.broker.overview().await?);
    for table in [QUEUES, TOPICS, SUBSCRIPTIONS] {
        let rows = rows(&door, &table).await?;
        text.table(&table, &rows);
    }
    of_pushes(&mut text, &door.pushes.figures(NAMED_MAX).await);
    door.figures.iter().for_each(|figures| text.0 += &figures());
    Ok(([(header::CONTENT_TYPE, FORMAT)], text.0).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_written_family_by_family() {
        let mut text = Text::default();
        let row: Row = (0..TOPICS.columns.len() as u64 + 12).collect();
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
        assert_eq!(*lines.last().expect("lines"), "waystation_topic_retired_total{topic=\"_other\"} 15");
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
        for (name, ..) in PUSHES {
            assert!(documented.contains(&format!("`waystation_{name}`")), "{name}");
        }
        for (name, _) in COUNTERS {
            assert!(documented.contains(&format!("`{name}`")), "{name}");
        }
    }
}
