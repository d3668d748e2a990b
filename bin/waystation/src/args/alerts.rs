//! What can be said of alerts?

use clap::{Args, Subcommand, ValueEnum};

use crate::units;

/// What can be done with alerts.
#[derive(Debug, Subcommand)]
pub enum AlertsCommand {
    /// List what is wrong now, each with the page that says what to do
    List,
    /// List the rules
    Rules,
    /// Set other bounds for some queues and subscriptions
    Set(SetRule),
    /// Take a rule away
    Unset {
        /// Its name
        name: String,
    },
}

/// A rule.
#[derive(Debug, Args)]
pub struct SetRule {
    /// Its name
    pub name: String,
    /// The queue or subscription, or a pattern of names
    #[arg(long, value_name = "PATTERN")]
    pub on: String,
    /// So many dead letters…
    #[arg(long, value_name = "MESSAGES")]
    pub dead_letters: Option<u64>,
    /// …within so long a time [default: 5m]
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub within: Option<u64>,
    /// Nobody consumes for so long
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub no_consumer: Option<u64>,
    /// The oldest message is so old
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub lag: Option<u64>,
    /// Tell nothing of this; may be given several times
    #[arg(long, value_name = "KIND")]
    pub off: Vec<Kind>,
}

/// What may be wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Kind {
    DeadLetters,
    NoConsumer,
    Lag,
}
