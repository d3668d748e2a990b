//! How is a route with steps declared?

mod condition;
mod sends;
mod source;
mod stateful;
mod step;
mod target;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::Name;
use waystation_broker::spec::RetryPolicy;

pub use condition::Condition;
pub use sends::{Needs, Sends};
pub use source::{From, Taken};
pub use stateful::{Aggregate, Cache, Claim, Enrich, Gather, Late, Resequence, Table};
pub use step::{Branch, Case, Step, Steps, Transform};
pub use target::{Destination, Target, Targets};

use crate::{
    Invalid,
    limits::{
        HELD_BYTES, HELD_BYTES_MAX, HOPS_MAX, OUTPUT_BYTES_MAX, OUTPUTS_MAX, SPEC_BYTES_MAX, TIME_MS_MAX,
    },
};

/// The word by which a route is told to be of this kind.
pub const KIND: &str = "steps";

/// The one kind of these routes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RouteStepsKind)]
pub enum Kind {
    /// It takes messages from its source and does its steps with each.
    #[default]
    Steps,
}

/// Whether messages overtake each other on the way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RouteOrder)]
pub enum Order {
    /// What leaves is in the order of the source, except for what failed and was tried again.
    #[default]
    Source,
    /// Messages with the same key keep their order; others may overtake.
    Key,
    /// What is done first leaves first.
    None,
}

/// How far a message may go in one route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = RouteLimits)]
pub struct Limits {
    /// Milliseconds for each jq program.
    pub time_ms: u64,
    /// Bytes of all outputs of one message together.
    pub output_bytes: usize,
    /// Outputs of one message.
    pub outputs: u32,
    /// Routes that a message may pass one after the other: what it came from counts.
    pub hops: u32,
    /// Bytes that each step which holds messages may hold; as many again may have been let go and wait to be stored.
    pub held_bytes: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { time_ms: 1_000, output_bytes: 8 << 20, outputs: 1_000, hops: 32, held_bytes: HELD_BYTES }
    }
}

/// A route that takes messages from its source by itself. `from` and `steps` are required; an unknown field is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RouteSteps {
    /// `steps`.
    #[serde(default)]
    pub kind: Kind,
    /// Where it takes messages from.
    pub from: From,
    /// What it does with each, in order.
    pub steps: Vec<Step>,
    /// Whether messages overtake each other.
    #[serde(default)]
    pub order: Order,
    /// The queue or topic for messages that fail; none: the queue `NAME.dead`, which is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    /// How a message is tried again whose outputs cannot be stored now; not said: 16 attempts, from 100 ms doubled up to a minute.
    #[serde(default = "retry")]
    pub retry: RetryPolicy,
    /// How far a message may go.
    #[serde(default)]
    pub limits: Limits,
    /// It may be part of a cycle of routes; the limit of hops ends what goes round.
    #[serde(default)]
    pub cycle: bool,
    /// Keep a record of what each message met, by which `route explain` tells of it.
    #[serde(default = "yes")]
    pub record: bool,
}

/// How it is tried again unless that is said.
fn retry() -> RetryPolicy {
    RetryPolicy { first_ms: 100, most_ms: 60_000, attempts_max: Some(16), ..RetryPolicy::default() }
}

fn yes() -> bool {
    true
}

fn invalid(field: impl Into<String>, reason: impl ToString) -> Invalid {
    Invalid { field: field.into(), reason: reason.to_string() }
}

fn check_range(field: &str, value: u64, min: u64, max: u64) -> Result<(), Invalid> {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(invalid(field, format!("must lie between {min} and {max}, is {value}"))),
    }
}

impl RouteSteps {
    /// A declaration in which nothing is said.
    pub fn silent() -> RouteSteps {
        RouteSteps {
            kind: Kind::Steps,
            from: From::default(),
            steps: Vec::new(),
            order: Order::default(),
            dead_letter: None,
            retry: retry(),
            limits: Limits::default(),
            cycle: false,
            record: true,
        }
    }

    /// Where failing messages go.
    pub fn dead_letter(&self, route: &Name) -> Result<Name, Invalid> {
        let own = || format!("{route}.dead");
        Name::new(self.dead_letter.clone().unwrap_or_else(own)).map_err(|error| invalid("dead_letter", error))
    }

    /// Checks what is not checked by compiling the steps.
    pub fn check(&self, route: &Name) -> Result<(), Invalid> {
        let bytes = serde_json::to_vec(self).map_or(usize::MAX, |text| text.len());
        check_range("steps", bytes as u64, 0, SPEC_BYTES_MAX as u64).map_err(|_| {
            invalid("steps", format!("the declaration has {bytes} bytes, {SPEC_BYTES_MAX} are allowed"))
        })?;
        let source = self.from.taken(route)?;
        let dead_letter = self.dead_letter(route)?;
        if matches!(&source, Taken::Queue(queue) if *queue == dead_letter) {
            return Err(invalid(
                "dead_letter",
                "cannot be the source itself: failing messages would go round",
            ));
        }
        self.retry.check().map_err(|error| invalid(error.field, error.reason))?;
        check_range("limits.time_ms", self.limits.time_ms, 1, TIME_MS_MAX)?;
        check_range("limits.output_bytes", self.limits.output_bytes as u64, 1, OUTPUT_BYTES_MAX as u64)?;
        check_range("limits.outputs", self.limits.outputs.into(), 1, OUTPUTS_MAX.into())?;
        check_range("limits.hops", self.limits.hops.into(), 1, HOPS_MAX.into())?;
        check_range("limits.held_bytes", self.limits.held_bytes as u64, 1, HELD_BYTES_MAX as u64)
    }
}

#[cfg(test)]
mod tests;
