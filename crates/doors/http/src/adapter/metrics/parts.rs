//! Which figures have the door, the server, pushes and routes with steps?

use std::sync::atomic::Ordering;

use waystation_base::Name;
use waystation_host::Overview;
use waystation_routes::{Counts as RouteCounts, RouteState};
use waystation_webhooks::push::Figures;

use super::text::Text;
use crate::door::Door;

pub fn of_the_door(text: &mut Text, door: &Door) {
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

pub fn of_the_server(text: &mut Text, door: &Door, overview: &Overview) {
    let uptime_s = door.clock.now().since(door.started) / 1000;
    text.single("uptime_seconds", "gauge", "Seconds since the server was started.", uptime_s);
    let stopped = u8::from(overview.stopped.is_some());
    text.single("stopped", "gauge", "1 if nothing is accepted any more.", stopped);
    text.single("draining", "gauge", "1 while the server shuts down.", u8::from(door.drain.has_begun()));
    let disk_low = u8::from(overview.alarms.disk);
    text.single("disk_low", "gauge", "1 if publishing is refused for want of space.", disk_low);
    text.single("disk_free_bytes", "gauge", "Bytes of the file system still free.", overview.disk_free_bytes);
    let memory_low = u8::from(overview.alarms.memory);
    text.single("memory_low", "gauge", "1 if publishing is refused for want of memory.", memory_low);
    text.single("memory_used_bytes", "gauge", "Bytes of memory that it has.", overview.memory_used_bytes);
    let help = "Bytes of memory from which on publishing is refused; 0: there is no such bound.";
    text.single("memory_high_bytes", "gauge", help, overview.memory_high_bytes);
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
pub const PUSHES: [(&str, &str, &str, fn(&Figures) -> u64); 6] = [
    ("push_active", "gauge", "1: it delivers; 0: suspended, waiting, paused or disabled.", |it| {
        it.is_active.into()
    }),
    ("push_requests", "gauge", "Requests under way.", |it| it.requests.into()),
    ("push_attempts_total", "counter", "Requests sent.", |it| it.counts.attempts),
    ("push_delivered_total", "counter", "Messages delivered.", |it| it.counts.delivered),
    ("push_retried_total", "counter", "Messages to be tried again.", |it| it.counts.retried),
    ("push_dead_lettered_total", "counter", "Messages given up.", |it| it.counts.dead_lettered),
];

pub fn of_pushes(text: &mut Text, rows: &[(Name, Figures)]) {
    for (name, kind, help, read) in PUSHES {
        text.family(name, kind, help);
        for (push, figures) in rows {
            text.sample(name, Some(("push", push.as_str())), read(figures));
        }
    }
}

/// Figures of routes with steps: name, type, help, and how to read it.
pub const ROUTES: [(&str, &str, &str, fn(&RouteFigures) -> u64); 8] = [
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
pub type RouteFigures = (Name, RouteState, RouteCounts);

pub fn of_routes(text: &mut Text, rows: &[RouteFigures]) {
    for (name, kind, help, read) in ROUTES {
        text.family(name, kind, help);
        for row in rows {
            text.sample(name, Some(("route", row.0.as_str())), read(row));
        }
    }
}
