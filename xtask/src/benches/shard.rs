//! How many small durable messages a second does one shard take, and what do many queues cost?

use super::Bench;

pub const BENCH: Bench = Bench {
    name: "shard",
    about: "100-byte messages through the shard with durable confirm, in process",
    package: "waystation-host",
    example: "shard_bench",
    drives_server: false,
    needs: None,
    peer: "the same messages into one queue, for the 10,000 queues",
    goal: "at least 500,000 a second on 2 cores; 10,000 queues at most 1.3 times the time of one",
};
