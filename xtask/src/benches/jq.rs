//! How many documents a second go through a jq program, and what does it cost that a child evaluates it?

use super::Bench;

pub const BENCH: Bench = Bench {
    name: "jq",
    about: "a filter and a reshaping of 360-byte documents, in one process and through the children that protect the server",
    package: "waystation-jq",
    example: "routes_jq_bench",
    drives_server: true,
    needs: None,
    peer: "the same programs in the measuring process, without protection",
    goal: "at least 25,000 filtered documents a second through one child",
};
