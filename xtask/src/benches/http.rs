//! How many messages a second go through the HTTP door of the real binary, and how late are they?

use super::Bench;

pub const BENCH: Bench = Bench {
    name: "http",
    about: "bulk NDJSON, single publishes over 64 connections, publish to delivery",
    package: "waystation-http",
    example: "http_bench",
    drives_server: true,
    needs: None,
    peer: "the disk's own sync time (above), and the same requests without durability where the program shows them",
    goal: "bulk at least 150,000 a second durable; single at least 10,000 a second; p99 within one sync plus 3 ms",
};
