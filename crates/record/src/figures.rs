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
