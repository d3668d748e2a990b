//! How soon is it told what became of a message, by each way to ask?

use super::Bench;

pub const BENCH: Bench = Bench {
    name: "trace",
    about: "what `trace` asks for, by message id, correlation id and business key, of ten million messages, and a start with their record, in process",
    package: "waystation-journeys",
    example: "trace_bench",
    drives_server: false,
    needs: None,
    peer: "a start without record",
    goal: "an answer in 100 ms at most (p99), by each of them",
};
