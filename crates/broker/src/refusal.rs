//! Why the broker refuses a command, and what the caller can do about it.

use waystation_base::{Class, Name, message};

use crate::{Kind, spec};

/// A refusal. Nothing of the refused command has taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No such queue, topic, subscription or address.
    #[error("{kind} '{name}' does not exist")]
    NotFound {
        /// What was looked for.
        kind: Kind,
        /// By that name.
        name: String,
    },
    /// The name is taken by something of another kind, or declared otherwise.
    #[error("'{name}' exists as a {kind} and differs in '{field}'; change it explicitly or use another name")]
    Exists {
        /// What is there.
        kind: Kind,
        /// By that name.
        name: Name,
        /// What differs.
        field: String,
    },
    /// A declaration's field.
    #[error(transparent)]
    Spec(#[from] spec::Error),
    /// A message past its limits; its place in the publish.
    #[error("message {index}: {error}")]
    Message {
        /// Its place in the publish, from 0.
        index: usize,
        /// What is wrong with it.
        error: message::Error,
    },
    /// A queue at its length limit.
    #[error("queue '{name}' is full ({limit}); try again when it has been worked on")]
    Full {
        /// The queue.
        name: Name,
        /// Which limit, with its value.
        limit: String,
    },
    /// A named bound of the server.
    #[error("the limit of {limit} {what} is reached")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// As many queues and topics as the virtual host may have.
    #[error(
        "virtual host '{vhost}' may have {limit} queues and topics, and has them: delete some, or raise its max_queues"
    )]
    VhostFull {
        /// The virtual host.
        vhost: String,
        /// How many it may have.
        limit: u32,
    },
    /// The message is not held under that lease: settled already, or the lease ran out.
    #[error(
        "message {tag} is not leased under attempt {attempt}: its lease ran out or it was settled before"
    )]
    NotHeld {
        /// Which message.
        tag: waystation_base::Tag,
        /// The attempt that the caller named.
        attempt: waystation_base::Attempt,
    },
    /// The message does not wait, or not any more: somebody was given it, or it is done.
    #[error("message {tag} does not wait in the queue as it did: somebody was given it since, or it is done")]
    NotWaiting {
        /// Which message.
        tag: waystation_base::Tag,
    },
    /// A topic's messages are there for its readers as soon as they are stored, in that order.
    #[error("topic '{name}' cannot hold a message back until its time: a queue can")]
    Undelayable {
        /// The topic.
        name: Name,
    },
    /// A route that takes messages from other routes only.
    #[error("route '{name}' is internal: only other routes may bring messages to it")]
    Internal {
        /// The route.
        name: Name,
    },
    /// No such consumer any more.
    #[error("the consumer is not attached")]
    NotAttached,
    /// Somebody else has it for himself.
    #[error("{kind} '{name}' is exclusive to another session")]
    Exclusive {
        /// What.
        kind: Kind,
        /// By that name.
        name: Name,
    },
    /// A condition of a deletion does not hold.
    #[error("{kind} '{name}' is {state}")]
    InUse {
        /// What.
        kind: Kind,
        /// By that name.
        name: Name,
        /// `in use` or `not empty`.
        state: &'static str,
    },
    /// Too many things to do in one command.
    #[error("{what}: {count} is past the limit of {limit}")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// What was given.
        count: u64,
        /// The bound.
        limit: u64,
    },
    /// A record batch that cannot be stored.
    #[error("the record batch is refused: {0}")]
    Batch(String),
    /// The stored bytes could not be read.
    #[error("stored data cannot be read: {0}")]
    Damaged(String),
    /// The disk is nearly full.
    #[error("disk space is low: publishing is refused until space is free, consuming goes on")]
    DiskLow,
    /// The process uses nearly as much memory as it may.
    #[error("memory is low: publishing is refused until some is free, consuming goes on")]
    MemoryLow,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Draining,
    /// More requests wait than the server takes in.
    #[error("the server is overloaded; try again")]
    Busy,
    /// A write or sync failed: nothing is accepted any more.
    #[error("the server has stopped accepting writes: {0}")]
    Stopped(String),
}

impl Refusal {
    /// What the caller should do.
    pub fn class(&self) -> Class {
        match self {
            Refusal::Full { .. }
            | Refusal::DiskLow
            | Refusal::MemoryLow
            | Refusal::Draining
            | Refusal::Busy => Class::Retry,
            Refusal::Stopped(_) => Class::Stop,
            _ => Class::Reject,
        }
    }
}
