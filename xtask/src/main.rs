//! Which chores does `cargo xtask` know? `test` runs every check, `bench` measures, `conformance` and `fuzz` dig.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command that talks to a terminal")]
#![allow(clippy::disallowed_methods, reason = "times its own stages; nothing is decided by it")]

mod bench;
mod benches;
mod built;
mod clients;
mod conformance;
mod fuzz;
mod machine;
mod python;
mod server;
mod stages;
mod test;
mod tool;

use std::{path::Path, process::ExitCode};

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "The chores of this repository", disable_version_flag = true)]
struct Arguments {
    #[command(subcommand)]
    chore: Chore,
}

#[derive(Subcommand)]
enum Chore {
    /// Run every check: format, lints, unit, property, simulation, real processes, the example, tidiness
    Test(test::Options),
    /// Measure, and print the figures with the machine, the disk, the peer and the ratio
    Bench(bench::Options),
    /// Run the test suites of other people's clients against the server, and compare with what RabbitMQ gets
    Conformance(conformance::Options),
    /// Look for inputs that break a decoder, by coverage where cargo-fuzz is installed, else at random
    Fuzz(fuzz::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap_or(Path::new("."));
    match arguments.chore {
        Chore::Test(options) => test::run(root, &options),
        Chore::Bench(options) => bench::run(root, &options),
        Chore::Conformance(options) => conformance::run(root, &options),
        Chore::Fuzz(options) => fuzz::run(root, &options),
    }
}
