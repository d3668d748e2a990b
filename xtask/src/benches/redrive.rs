//! How soon are a million dead letters known in groups, and how many a second does a redrive move?

use super::Bench;

pub const BENCH: Bench = Bench {
    name: "redrive",
    about: "a million dead letters of two groups: grouped the first time and then, one group redriven, the rest redriven and undone",
    package: "waystation-redrive",
    example: "redrive_bench",
    drives_server: false,
    needs: None,
    peer: "none: others move by a shovel, which neither chooses nor is atomic",
    goal: "groups within 100 ms once they are read; 20,000 messages a second moved, each step durable",
};
