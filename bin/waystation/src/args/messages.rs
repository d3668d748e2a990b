//! What can be said to the commands that move and show messages?

use std::path::PathBuf;

use clap::Args;

use crate::units;

/// Publish messages.
#[derive(Debug, Args)]
pub struct Publish {
    /// The queue, topic or route
    pub address: String,
    /// The body; without it and without a file, standard input is the body
    #[arg(conflicts_with_all = ["file", "ndjson", "lines"])]
    pub body: Option<String>,
    /// A file whose content is the body; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ndjson", "lines"])]
    pub file: Option<PathBuf>,
    /// A file of many messages, one JSON object a line: {"body": …, "key": …, "headers": {…}}; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with = "lines")]
    #[arg(conflicts_with_all = ["key", "header", "priority", "delay", "ttl", "id", "content_type", "count"])]
    pub ndjson: Option<PathBuf>,
    /// A file of many messages, each line one body; `-` is standard input
    #[arg(long, value_name = "FILE", conflicts_with_all = ["id", "count"])]
    pub lines: Option<PathBuf>,
    /// Go on after so many messages of the file, which an earlier run has published
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    pub skip: u64,
    /// Most messages a second
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub rate: Option<u64>,
    /// Publish the message so many times
    #[arg(long, value_name = "N", default_value_t = 1, hide_default_value = true)]
    pub count: u64,
    /// What orders and partitions go by
    #[arg(long)]
    pub key: Option<String>,
    /// Topics: this partition, instead of by key or in turn
    #[arg(long, value_name = "N")]
    pub partition: Option<u32>,
    /// Routes: what its bindings go by
    #[arg(long, value_name = "KEY", conflicts_with = "partition")]
    pub routing_key: Option<String>,
    /// A header; may be given several times
    #[arg(long, short = 'H', value_name = "NAME=VALUE", value_parser = header)]
    pub header: Vec<(String, String)>,
    /// 0 (least) to 255 (first)
    #[arg(long)]
    pub priority: Option<u8>,
    /// Not to be delivered before
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub delay: Option<u64>,
    /// Of no use after
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub ttl: Option<u64>,
    /// The sender's id of the message, by which repetitions are known
    #[arg(long)]
    pub id: Option<String>,
    /// Media type of the body [default: application/json if it is JSON]
    #[arg(long, value_name = "TYPE")]
    pub content_type: Option<String>,
    /// Whether the address is a queue, a topic or a route, instead of asking the server
    #[arg(long = "as", value_name = "KIND", value_parser = ["queue", "topic", "route"])]
    pub kind: Option<String>,
}

pub fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err(format!("'{text}' is not a header; write it like NAME=VALUE")),
    }
}

/// Take messages.
#[derive(Debug, Args)]
pub struct Consume {
    /// The queue or subscription
    pub source: String,
    /// Most messages to take
    #[arg(long, short = 'n', value_name = "N")]
    pub count: Option<u64>,
    /// Wait for more instead of ending when there are none
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// How long to wait for a first message before ending
    #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = units::duration_ms)]
    pub wait: u64,
    /// For how long a message belongs to this command [default: as the source says]
    #[arg(long, value_name = "DURATION", value_parser = units::duration_ms)]
    pub lease: Option<u64>,
    /// Do not acknowledge: the messages come again when their lease has run out
    #[arg(long)]
    pub no_ack: bool,
    /// Run this command for each message, the body on its standard input; it is acknowledged if the command succeeds, and
    /// tried again later if not
    #[arg(long, value_name = "COMMAND", conflicts_with = "no_ack")]
    pub exec: Option<String>,
    /// Messages to take with one request
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub batch: u32,
    /// Whether the source is a queue or a subscription, instead of asking the server
    #[arg(long = "as", value_name = "KIND", value_parser = ["queue", "subscription"])]
    pub kind: Option<String>,
}

/// Look at messages.
#[derive(Debug, Args)]
pub struct Peek {
    /// The queue, topic or subscription
    pub name: String,
    /// Most messages to show
    #[arg(long, short = 'n', value_name = "N", default_value_t = 10)]
    pub count: u64,
    /// Begin here: the position that an earlier peek ended with
    #[arg(long, value_name = "POSITION")]
    pub from: Option<String>,
    /// Topics: begin at this time
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub from_time: Option<waystation_base::Millis>,
    /// Topics: this partition only
    #[arg(long, value_name = "N")]
    pub partition: Option<u32>,
    /// Only messages for which this holds, as JSON: {"exact": {"type": "flight.late"}}
    #[arg(long, value_name = "JSON")]
    pub filter: Option<String>,
    /// Whether it is a queue, topic or subscription, instead of asking the server
    #[arg(long = "as", value_name = "KIND", value_parser = ["queue", "topic", "subscription"])]
    pub kind: Option<String>,
}

/// Tell what became of a message.
#[derive(Debug, Args)]
pub struct Trace {
    /// An id of any kind, or the value of a business key: `order:4711` for that key alone
    pub id: String,
    /// Look for it as this only
    #[arg(long = "as", value_name = "KIND", value_parser = ["message", "correlation", "trace", "call", "business"])]
    pub role: Option<String>,
    /// Most messages to tell of
    #[arg(long, short = 'n', value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u64).range(1..=1000))]
    pub count: u64,
    /// Write a graph instead of a tree: for Graphviz, or for Mermaid
    #[arg(long, value_name = "FORM", value_parser = ["dot", "mermaid"], conflicts_with = "json")]
    pub graph: Option<String>,
}

/// Show how the server is.
#[derive(Debug, Args)]
pub struct Status {
    /// Show it again and again
    #[arg(long, short = 'w', value_name = "DURATION", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "2s", value_parser = units::duration_ms)]
    pub watch: Option<u64>,
}
