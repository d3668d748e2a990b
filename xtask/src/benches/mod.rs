//! Which benchmarks are there? One file each; a new one is a file and a line in the table.

mod amqp;
mod calls;
mod delayed;
mod http;
mod journal;
mod jq;
mod memory;
mod record;
mod redrive;
mod routes;
mod shard;
mod trace;

use crate::tool::Tool;

pub const ALL: &[Bench] = &[
    journal::BENCH,
    shard::BENCH,
    http::BENCH,
    memory::BENCH,
    amqp::BENCH,
    calls::BENCH,
    jq::BENCH,
    record::BENCH,
    trace::BENCH,
    routes::BENCH,
    redrive::BENCH,
    delayed::BENCH,
];

/// A program that measures, and what its figures are held against.
pub struct Bench {
    pub name: &'static str,
    pub about: &'static str,
    /// The package and the example in it that measures.
    pub package: &'static str,
    pub example: &'static str,
    /// Whether it drives the real server, which must then be built too.
    pub drives_server: bool,
    /// What else must be installed; Debian's packages are fetched where that is allowed.
    pub needs: Option<Tool>,
    /// What the figures are compared with, in the same run.
    pub peer: &'static str,
    /// What is to be reached.
    pub goal: &'static str,
}
