//! How many calls does the real binary accept, how late are the 202 and the callback, and what does an open call weigh?

use super::Bench;

pub const BENCH: Bench = Bench {
    name: "calls",
    about: "calls at 64 and 1,024 connections: accepted a second, POST to 202, work done to callback received; memory of open calls",
    package: "waystation-http",
    example: "calls_bench",
    drives_server: true,
    needs: None,
    peer: "none: nobody offers the whole in one program that could be installed here; the floor is the disk's own sync time of the same run",
    goal: "10,000 accepted a second on 2 cores; 202 at p99 within one sync plus 2 ms under half load; a million open calls within 600 MB",
};
