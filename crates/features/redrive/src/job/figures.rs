//! What have redrives done since the server started, in numbers?

use std::{
    fmt::Write as _,
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    Redrives,
    record::{Redrive, State},
};

/// Messages that all redrives together have dealt with.
#[derive(Debug, Default)]
pub(super) struct Counts {
    moved: AtomicU64,
    left: AtomicU64,
    undone: AtomicU64,
}

impl Counts {
    /// Counts what a step came to, once it is durable.
    pub fn add(&self, before: &Redrive, after: &Redrive) {
        for (count, before, after) in [
            (&self.moved, before.moved, after.moved),
            (&self.left, before.left(), after.left()),
            (&self.undone, before.undone, after.undone),
        ] {
            count.fetch_add(after.saturating_sub(before), Ordering::Relaxed);
        }
    }
}

impl Redrives {
    /// In Prometheus' text format; names and meanings stand in `docs/metrics.md`.
    pub fn figures(&self) -> String {
        let name = "waystation_redrives";
        let mut text =
            format!("# HELP {name} Redrives that have not ended, by what they do.\n# TYPE {name} gauge\n");
        for (word, state) in
            [("running", State::Running), ("paused", State::Paused), ("undoing", State::Undoing)]
        {
            // A text takes everything.
            let _ = writeln!(text, "{name}{{state=\"{word}\"}} {}", self.count(state));
        }
        for (name, help, count) in [
            ("moved", "Messages moved.", &self.counts.moved),
            ("left", "Messages that were meant and could not be moved.", &self.counts.left),
            ("undone", "Messages brought back by undoing.", &self.counts.undone),
        ] {
            let (name, count) = (format!("waystation_redrive_{name}_total"), count.load(Ordering::Relaxed));
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {count}");
        }
        text
    }
}
