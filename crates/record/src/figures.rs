//! The record's figures in Prometheus' text format: asked for without a look at the state, which the recorder may hold.

use std::{
    fmt::Write,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use crate::{Record, record::State};

/// What the recorder shows of itself as it goes on.
#[derive(Debug, Default)]
pub(crate) struct Shown {
    bytes: AtomicU64,
    files: AtomicU64,
    facts_in_files: AtomicU64,
    facts_in_memory: AtomicU64,
    gaps: AtomicU64,
    damaged: AtomicU64,
    unrouted_untold: AtomicU64,
}

impl Shown {
    /// Shows how files and memory are: to be called when files have changed, and after a gap.
    pub(crate) fn note(&self, state: &State) {
        let in_memory = |file: &&crate::shelf::Summary| state.unfinished != Some(file.id);
        let files = || state.files.iter().filter(in_memory);
        self.bytes.store(state.files.iter().map(|file| file.bytes).sum(), Relaxed);
        self.files.store(state.files.len() as u64, Relaxed);
        self.facts_in_files.store(files().map(|file| file.facts).sum(), Relaxed);
        let gaps = files().map(|file| file.gaps.len()).sum::<usize>() + state.recent.gaps.len();
        self.gaps.store(gaps as u64, Relaxed);
        self.damaged.store(state.damaged.len() as u64, Relaxed);
        self.note_memory(state);
    }

    /// Shows what memory holds.
    pub(crate) fn note_memory(&self, state: &State) {
        self.facts_in_memory.store(state.recent.facts(), Relaxed);
        self.unrouted_untold.store(state.untold, Relaxed);
    }
}

/// Name, type, help, and how to read it.
const FIGURES: [(&str, &str, &str, fn(&Record) -> u64); 7] = [
    ("record_bytes", "gauge", "Bytes in record files.", |it| it.0.shown.bytes.load(Relaxed)),
    ("record_files", "gauge", "Record files.", |it| it.0.shown.files.load(Relaxed)),
    ("record_facts", "gauge", "Facts that are kept.", |it| {
        it.0.shown.facts_in_files.load(Relaxed) + it.0.shown.facts_in_memory.load(Relaxed)
    }),
    ("record_behind_bytes", "gauge", "Bytes of journal that are not recorded yet.", |it| {
        it.0.feed.durable_position().0.saturating_sub(it.0.feed.position().0)
    }),
    ("record_gaps", "gauge", "Stretches of the journal of which nothing is recorded.", |it| {
        it.0.shown.gaps.load(Relaxed)
    }),
    ("record_damaged_files", "gauge", "Record files that cannot be read.", |it| {
        it.0.shown.damaged.load(Relaxed)
    }),
    (
        "record_unrouted_untold",
        "gauge",
        "Messages that nothing took and that were too many to be told of one by one, since the server started.",
        |it| it.0.shown.unrouted_untold.load(Relaxed),
    ),
];

impl Record {
    /// The figures as they are now. It waits for nobody.
    pub fn figures(&self) -> String {
        let mut text = String::new();
        for (name, kind, help, read) in FIGURES {
            let value = read(self);
            // A string takes everything.
            let _ = writeln!(
                text,
                "# HELP waystation_{name} {help}\n# TYPE waystation_{name} {kind}\nwaystation_{name} {value}"
            );
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waystation_base::{Millis, Position, os::OsDisk};
    use waystation_journal::record::Store;

    use crate::{
        Gap, Record,
        feed::Feed,
        meta::Meta,
        recent::Recent,
        record::{Inner, State},
        shelf::{Shelf, Summary},
    };

    fn gap(from: u64, to: u64) -> Gap {
        let (from, to) = (Position(from), Position(to));
        Gap { from, to, after: Millis(1), before: Millis(2), why: "it was off".into() }
    }

    #[test]
    fn gaps_in_files_and_in_memory_are_counted_without_a_look_into_a_file() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(Arc::new(OsDisk), dir.path()).expect("a store");
        // There are no such files: whoever opened one would find nothing.
        let file = |id, gaps: &[Gap]| Summary::of(id, 10, &Meta { gaps: gaps.to_vec(), ..Meta::default() });
        let files = vec![file(1, &[]), file(2, &[gap(0, 5), gap(7, 9)])];
        let mut recent = Recent::begin(Position(10));
        recent.gaps.push(gap(12, 20));
        let state = State { recent, files, unfinished: None, damaged: Vec::new(), unreadable: 0, untold: 0 };
        let feed = Feed::new(Position(20), Position(20));
        let record = Record(Arc::new(Inner::new(feed, Shelf::new(store), state)));
        assert_eq!(record.status().gaps, [gap(0, 5), gap(7, 9), gap(12, 20)]);
        let figures = record.figures();
        assert!(figures.contains("waystation_record_gaps 3\n"), "{figures}");
        // The recorder has the state for itself while it reads the journal.
        let held = record.0.write();
        assert_eq!(record.figures(), figures);
        drop(held);
    }
}
