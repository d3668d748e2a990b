//! How is what happens told while the server runs?

use std::io::{self, IsTerminal};

use tracing_subscriber::EnvFilter;

use crate::{
    config::{Log, LogFormat},
    exit::Failure,
};

/// Starts to log to standard error. Once in a process.
pub fn start(log: &Log) -> Result<(), Failure> {
    let filter: EnvFilter =
        log.filter.parse().map_err(|error| Failure::usage(format!("log.filter: {error}")))?;
    let colours =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    // A log that cannot be written (its disk is full, its reader is gone) is no reason to stop serving.
    let builder = tracing_subscriber::fmt().log_internal_errors(false);
    let builder = builder.with_env_filter(filter).with_writer(io::stderr).with_ansi(colours);
    let started = match log.format {
        LogFormat::Human => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().flatten_event(true).try_init(),
    };
    started.map_err(|error| Failure::usage(format!("logging cannot be started: {error}")))
}
