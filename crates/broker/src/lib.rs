//! The shard: queues, topics, subscriptions, routing, acknowledgements, retries, dead letters and timers as one deterministic
//! state machine. Commands and the time go in; journal entries and effects come out; the state is a fold over the entries.
//!
//! This crate refuses to know protocols, tasks, threads, clocks, randomness, files and sockets.

pub mod command;
pub mod deaths;
pub mod effect;
pub mod place;
pub mod refusal;
pub mod settle;
mod shard;
pub mod spec;
pub mod view;

use std::fmt;

use serde::{Deserialize, Serialize};
use waystation_base::{Name, Position};

pub use command::{Command, RequestId};
pub use effect::{Effect, Reply};
pub use refusal::Refusal;
pub use shard::{
    BrowseStep, BrowseTarget, Entities, Extent, FileUse, ReplayError, Shard, SnapshotError, Sources, Stand,
    Vital, Whereabout, Whereabouts, entry,
};

/// The four things that have names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Work that leaves when it is acknowledged.
    Queue,
    /// A partitioned log.
    Topic,
    /// A named position on topics.
    Subscription,
    /// Published to, stores nothing, hands on by its bindings.
    Route,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Queue => "queue",
            Kind::Topic => "topic",
            Kind::Subscription => "subscription",
            Kind::Route => "route",
        })
    }
}

/// What the names of documents begin with that claim a route's name for whoever keeps them: a document `route/NAME` and a route `NAME`
/// are not there together.
pub const ROUTE_CLAIM: &str = "route/";

/// What can be consumed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A queue.
    Queue(Name),
    /// A subscription.
    Subscription(Name),
}

impl Source {
    /// Its name.
    pub fn name(&self) -> &Name {
        let (Source::Queue(name) | Source::Subscription(name)) = self;
        name
    }

    /// Its kind.
    pub fn kind(&self) -> Kind {
        match self {
            Source::Queue(_) => Kind::Queue,
            Source::Subscription(_) => Kind::Subscription,
        }
    }
}

/// A connection or other owner of consumers and exclusive queues, within one run of the process. 0: nobody in particular.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub u64);

/// Consumers of one session that share their credit. Not used again once it has been forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PoolId {
    /// Whose.
    pub session: SessionId,
    /// Which of its pools.
    pub number: u64,
}

/// Where a shard writes its journal entries.
pub trait Append {
    /// Appends one entry: `write` adds the payload to the buffer, which may hold earlier entries. Returns the payload's position.
    fn append(&mut self, kind: u8, write: &mut dyn FnMut(&mut Vec<u8>)) -> Position;
}
