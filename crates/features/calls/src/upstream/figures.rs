//! How are upstreams in numbers?

use std::fmt::Write as _;

use super::{Hub, UpstreamInfo, UpstreamState};

/// Upstreams that have figures of their own.
const NAMED_MAX: usize = 1_000;

/// Name, type, help, and how to read it.
const FIGURES: [(&str, &str, &str, fn(&UpstreamInfo) -> u64); 8] = [
    (
        "active",
        "gauge",
        "1: it sends what comes; 0: suspended, throttled, draining, waiting or paused.",
        |it| (it.state == UpstreamState::Active).into(),
    ),
    ("requests", "gauge", "Requests under way.", |it| it.requests.into()),
    ("attempts_total", "counter", "Requests that came to an end.", |it| it.counts.attempts),
    ("succeeded_total", "counter", "Calls that succeeded by an answer.", |it| it.counts.succeeded),
    ("failed_total", "counter", "Calls that failed, by an answer or for want of one.", |it| it.counts.failed),
    ("retried_total", "counter", "Attempts after which the call was to be tried again.", |it| {
        it.counts.retried
    }),
    ("dropped_total", "counter", "Requests dropped because the call had ended meanwhile.", |it| {
        it.counts.dropped
    }),
    ("took_ms_total", "counter", "Milliseconds that requests took, together.", |it| it.counts.took_ms),
];

/// Writes the figures of all upstreams in Prometheus' text format.
pub(crate) fn figures(text: &mut String, hub: &Hub) {
    let rows = hub.all(NAMED_MAX);
    for (name, kind, help, read) in FIGURES {
        *text +=
            &format!("# HELP waystation_upstream_{name} {help}\n# TYPE waystation_upstream_{name} {kind}\n");
        for (operation, info) in &rows {
            // A text takes everything, and a name has nothing that would have to be escaped.
            let _ = writeln!(text, "waystation_upstream_{name}{{operation=\"{operation}\"}} {}", read(info));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_documented() {
        let documented = include_str!("../../../../../docs/metrics.md");
        for (name, ..) in FIGURES {
            assert!(documented.contains(&format!("`waystation_upstream_{name}`")), "{name}");
        }
    }
}
