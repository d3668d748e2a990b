//! What has to run beside a route for one of its steps: which queue holds its messages, and by which rules.

use std::sync::Arc;

use waystation_base::Name;
use waystation_broker::spec::{Overflow, QueueSpec};
use waystation_jq::Program;

use super::{groups, sequence};
use crate::{limits::HELD_WAITING_MAX, spec::Late};

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
    /// The queue's declaration: what waits is bounded, so that a step that cannot go on holds up what comes to it. Nothing else would
    /// make a message leave than the step itself.
    pub fn declaration() -> QueueSpec {
        QueueSpec {
            max_messages: Some(HELD_WAITING_MAX),
            overflow: Overflow::RejectPublish,
            max_attempts: None,
            ttl_ms: None,
            ..QueueSpec::default()
        }
    }
}
