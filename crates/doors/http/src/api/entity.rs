//! How are queues, topics, subscriptions and routes declared, listed, moved and removed, and how is the server?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_broker::{command::Destination, spec::Arguments, view};

/// What a declaration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Declared {
    /// It is new.
    Created,
    /// It was there and is changed.
    Changed,
    /// It was there just so.
    Unchanged,
}

/// The declaration is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Declaration {
    /// What it did.
    pub declared: Declared,
}

/// A page of a list, in order of names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct List<T> {
    /// What is on the page.
    pub items: Vec<T>,
    /// Give this as `after` to get the next page; none: this is the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The purge or deletion is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Removed {
    /// Messages that went with it; of an unbinding: bindings.
    pub removed: u64,
}

/// What a route hands on to: `to` a queue or topic, or `to_route`. Two bindings are the same when all of this is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Binding {
    /// A queue or topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Another route.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to_route: Option<String>,
    /// What the route's kind makes of it: the key to be equal to, or a pattern.
    pub key: String,
    /// For a route by headers: what they must be, and `x-match`.
    #[serde(skip_serializing_if = "Arguments::is_empty")]
    #[schema(value_type = Object)]
    pub arguments: Arguments,
}

impl From<view::Binding> for Binding {
    fn from(binding: view::Binding) -> Binding {
        let (to, to_route) = match binding.to {
            Destination::Address(name) => (Some(name.to_string()), None),
            Destination::Route(name) => (None, Some(name.to_string())),
        };
        Binding { to, to_route, key: binding.key.to_string(), arguments: binding.arguments }
    }
}

/// Bindings of one route.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Bindings {
    /// All of them, in the order in which they were made.
    pub items: Vec<Binding>,
}

/// Moves a subscription; exactly one of the two is given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SeekRequest {
    /// All partitions that it reads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub start: Option<SeekStart>,
    /// These partitions; the others stay where they are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub positions: Option<Vec<SeekPosition>>,
}

/// Where every partition goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum SeekStart {
    /// With what is published from now on.
    Latest,
    /// With the oldest message still kept.
    Earliest,
    /// With this offset.
    Offset(u64),
    /// With the first message at or after this time (milliseconds since 1970).
    Time(u64),
}

/// Where one partition goes on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SeekPosition {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: u32,
    /// The offset of the next message to be delivered.
    pub offset: u64,
}

/// The server as it is now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Status {
    /// The program's version.
    pub version: String,
    /// Why nothing is accepted any more, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Whether it is shutting down.
    pub draining: bool,
    /// Whether publishing is refused for want of disk space.
    pub disk_low: bool,
    /// Whether publishing is refused because the server uses nearly as much memory as it may.
    pub memory_low: bool,
    /// Seconds since it was started.
    pub uptime_s: u64,
    /// Queues, topics and subscriptions.
    pub entities: u64,
    /// Open connections of this door.
    pub connections: u64,
    /// The end of the journal, in bytes since its beginning.
    pub journal_end: u64,
    /// How far it is durable.
    pub journal_durable: u64,
    /// Where the oldest kept journal file begins.
    pub journal_start: u64,
    /// Bytes in settled files.
    pub settled_bytes: u64,
    /// Settled files.
    pub settled_files: u64,
    /// Bytes of the tail cache in use.
    pub cache_bytes: u64,
    /// Commit groups synced so far.
    pub groups: u64,
    /// Bytes of the file system still free.
    pub disk_free_bytes: u64,
    /// Bytes of memory that the server has.
    pub memory_used_bytes: u64,
    /// Bytes of memory from which on publishing is refused; 0: there is no such bound.
    pub memory_high_bytes: u64,
}
