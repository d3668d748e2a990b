//! How near does the journal come to the bare disk?

use super::Bench;

pub const BENCH: Bench = Bench {
    name: "journal",
    about: "appends with group commit, 64 KiB entries",
    package: "waystation-journal",
    example: "journal_bench",
    drives_server: false,
    needs: None,
    peer: "a bare sequential write with fdatasync at the same grouping, same disk, same run",
    goal: "at least 90 % of the peer's bytes a second",
};
