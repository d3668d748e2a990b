//! How does the AMQP door compare with RabbitMQ: throughput, processor time, latency, memory? The same client against both, in
//! turn, broker and client on a core each.
//!
//! `cargo xtask bench amqp -- [--quick] [--rounds N] [--seconds N] [--only NAME]`; `--alone` leaves
//! RabbitMQ out, `--address HOST:PORT [--queue-type KIND]` measures any broker that runs already.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark measures real time and prints it"
)]

mod brokers;
mod connection;
mod load;
mod scenarios;
mod stats;

use std::{error::Error, path::PathBuf, process::Command};

/// The core of the brokers, and that of this program.
const BROKER_CORE: usize = 0;
const CLIENT_CORE: usize = 1;

/// What can be said on the command line.
pub struct Arguments(Vec<String>);

impl Arguments {
    pub fn text(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|argument| argument == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name)
            .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} needs a number")))
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|argument| argument == name)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments(std::env::args().skip(1).collect());
    let pid = std::process::id().to_string();
    let pinned = Command::new("taskset").args(["-a", "-c", "-p", &CLIENT_CORE.to_string(), &pid]).output()?;
    if !pinned.status.success() {
        return Err(String::from_utf8_lossy(&pinned.stderr).into());
    }
    let dir =
        brokers::fresh(PathBuf::from(arguments.text("--dir").unwrap_or("target/bench/amqp")).join("data"))?;
    println!(
        "broker on core {BROKER_CORE}, client on core {CLIENT_CORE}; 1 publisher, acknowledged one by one\n"
    );
    scenarios::run(&arguments, &dir)
}
