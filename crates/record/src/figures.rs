//! The record's figures in Prometheus' text format.

use std::fmt::Write;

use crate::{Record, Status};

/// Name, type, help, and how to read it.
const FIGURES: [(&str, &str, &str, fn(&Status) -> u64); 6] = [
    ("record_bytes", "gauge", "Bytes in record files.", |it| it.bytes),
    ("record_files", "gauge", "Record files.", |it| it.files),
    ("record_facts", "gauge", "Facts that are kept.", |it| it.facts),
    ("record_behind_bytes", "gauge", "Bytes of journal that are not recorded yet.", |it| it.behind_bytes),
    ("record_gaps", "gauge", "Stretches of the journal of which nothing is recorded.", |it| {
        it.gaps.len() as u64
    }),
    ("record_damaged_files", "gauge", "Record files that cannot be read.", |it| it.damage.len() as u64),
];

impl Record {
    /// The figures as they are now.
    pub fn figures(&self) -> String {
        let status = self.status();
        let mut text = String::new();
        for (name, kind, help, read) in FIGURES {
            let value = read(&status);
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
    }
}
