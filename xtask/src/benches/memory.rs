//! How much memory does the real binary hold, idle and with a long backlog, and how soon is it back?

use super::Bench;

pub const BENCH: Bench = Bench {
    name: "memory",
    about: "resident memory idle and with 5 million waiting messages of 1 KiB; restart with them",
    package: "waystation-http",
    example: "memory_bench",
    drives_server: true,
    needs: None,
    peer: "the bytes that are stored: memory must not follow them",
    goal: "idle below 30 MB; with the backlog below 300 MB; restart to ready below 2 s",
};
