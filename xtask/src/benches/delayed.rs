//! How exact are a million retry delays, and what does each cost in memory?

use super::Bench;

pub const BENCH: Bench = Bench {
    name: "delayed",
    about: "a million messages that failed and wait, due over a minute: restart with them, then how late each comes",
    package: "waystation-host",
    example: "delayed_bench",
    drives_server: false,
    needs: None,
    peer: "the moment that each was given",
    goal: "none early, twice or missing; p99 within 50 ms",
};
