//! What does the record cost, and how soon does it answer?

use super::Bench;

pub const BENCH: Bench = Bench {
    name: "record",
    about: "publishing with and without the record, and questions to one of ten million messages, in process",
    package: "waystation-host",
    example: "record_bench",
    drives_server: false,
    needs: None,
    peer: "the same messages without record",
    goal: "publishing takes at most a tenth longer; an answer 100 ms at most",
};
