//! The program: command line, configuration, wiring. The one place that names every crate; it refuses to know how any of
//! it works.

mod args;
mod client;
mod commands;
mod config;
mod exit;
mod logs;
mod memory;
mod output;
mod topology;
mod units;

use std::{env, ffi::OsStr, process::ExitCode};

use clap::Parser;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let cli = match args::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let json = cli.json;
    match commands::run(cli) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if failure.exit != exit::Exit::Done {
                failure.tell(json);
            }
            failure.exit.into()
        }
    }
}

/// Tells what is wrong with the command line; help and version come this way too, and are no failure.
fn refuse(error: &clap::Error) -> ExitCode {
    let json = env::args_os().any(|argument| argument == OsStr::new("--json"));
    if json && error.use_stderr() {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ");
        exit::Failure::usage(message).advise("--help lists what can be said").tell(true);
    } else {
        // There is nobody left to tell that this failed.
        let _ = error.print();
    }
    if error.use_stderr() { exit::Exit::Usage.into() } else { exit::Exit::Done.into() }
}
