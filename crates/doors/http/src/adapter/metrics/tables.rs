//! Which figures has each queue, topic and subscription, and how are they read and written?

use std::fmt::Write as _;

use waystation_base::{Millis, Name};
use waystation_broker::{
    Kind as Thing,
    view::{Counters, WAIT_BOUNDS_MS, Waits},
};
use waystation_host::{Exemplar, View};

use super::text::{EXEMPLAR, Seconds, Text};
use crate::{door::Door, failure::Failure};

/// Queues, topics and subscriptions, of each kind, that have series of their own; the rest are summed up as `_other`.
pub const NAMED_MAX: usize = 1_000;
/// Things read off the state in one go, so that the broker is not kept from its work.
const CHUNK: usize = 128;
const OTHER: &str = "_other";

/// One thing's figures.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// In the order of its kind's [`Table`]; milliseconds where the name ends with `_seconds`.
    values: Vec<u64>,
    /// How long its messages waited, and one of them.
    waits: Option<(Waits, Option<Exemplar>)>,
}

/// The figures of one kind.
pub struct Table {
    thing: Thing,
    pub label: &'static str,
    /// Name, type and help of each figure.
    pub columns: &'static [(&'static str, &'static str, &'static str)],
    row: fn(&View<'_>, &Name, Millis) -> Option<Row>,
}

pub const COUNTERS: [(&str, &str); 13] = [
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

pub const QUEUES: Table = Table {
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

pub const TOPICS: Table = Table {
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

pub const SUBSCRIPTIONS: Table = Table {
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

impl Text {
    pub fn table(&mut self, table: &Table, rows: &[(String, Row)]) {
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
pub async fn rows(door: &Door, table: &Table) -> Result<Vec<(String, Row)>, Failure> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::metrics::text::{open_metrics, without_exemplars};

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
}
