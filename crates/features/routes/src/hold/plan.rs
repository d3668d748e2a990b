//! What has to run beside a route for one of its steps: which queue holds its messages, and by which rules.

use std::sync::Arc;

use waystation_base::Name;
use waystation_broker::spec::{Overflow, QueueSpec};
use waystation_jq::Program;

use super::{due::Weight, groups, room::Room, sequence};
use crate::{
    limits::{HELD_DUE_MAX, HELD_TOTAL_MAX},
    spec::Late,
};

/// A step that holds messages.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the step stands.
    pub at: Arc<str>,
    /// Its number among the route's steps: what follows it is done with what it lets go.
    pub step: usize,
    /// The queue with what it holds.
    pub queue: Name,
    /// The queue that replies come to.
    pub replies: Option<Name>,
    /// What becomes of late ones.
    pub late: Late,
    /// Makes the body of an aggregate.
    pub body: Option<Program>,
    /// How it decides.
    pub rules: Rules,
    /// Bytes that it may hold, and as many again that it has let go.
    pub held_bytes: usize,
    /// What it holds now. Whoever adds to its queue asks before.
    pub room: Arc<Room>,
}

/// How it decides.
#[derive(Clone, Copy, Debug)]
pub enum Rules {
    /// As an aggregator.
    Groups(groups::Rules),
    /// As a resequencer.
    Sequences(sequence::Rules),
}

impl Plan {
    /// What its queue may hold in all.
    pub fn most(held_bytes: usize) -> Weight {
        Weight { messages: HELD_TOTAL_MAX, bytes: 2 * held_bytes }
    }

    /// What it may have let go before it takes more.
    pub fn due(&self) -> Weight {
        Weight { messages: HELD_DUE_MAX, bytes: self.held_bytes }
    }

    /// The queue's declaration: bounded as the step is. Nothing else would make a message leave than the step itself.
    pub fn declaration(&self) -> QueueSpec {
        let Weight { messages, bytes } = Plan::most(self.held_bytes);
        QueueSpec {
            max_messages: Some(messages as u64),
            max_bytes: Some(bytes as u64),
            overflow: Overflow::RejectPublish,
            max_attempts: None,
            ttl_ms: None,
            ..QueueSpec::default()
        }
    }
}
