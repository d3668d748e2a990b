//! What is kept of virtual hosts, policies and parameters: documents in the broker, in RabbitMQ's words.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use waystation_base::vhost;
use waystation_broker::spec::VhostLimits;

/// A virtual host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Vhost {
    /// Its name.
    pub name: String,
    /// In words.
    pub description: String,
    /// Whatever the operator wants to find it by.
    pub tags: Vec<String>,
    /// `x-queue-type` of queues declared without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_queue_type: Option<String>,
    /// What all that is in it may have together.
    #[serde(skip_serializing_if = "is_unlimited")]
    pub limits: VhostLimits,
}

fn is_unlimited(limits: &VhostLimits) -> bool {
    *limits == VhostLimits::default()
}

/// What a policy is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApplyTo {
    /// Queues and exchanges.
    #[default]
    All,
    /// Queues of every type.
    Queues,
    /// Classic queues.
    ClassicQueues,
    /// Quorum queues.
    QuorumQueues,
    /// Streams.
    Streams,
    /// Exchanges.
    Exchanges,
}

impl ApplyTo {
    /// As RabbitMQ writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            ApplyTo::All => "all",
            ApplyTo::Queues => "queues",
            ApplyTo::ClassicQueues => "classic_queues",
            ApplyTo::QuorumQueues => "quorum_queues",
            ApplyTo::Streams => "streams",
            ApplyTo::Exchanges => "exchanges",
        }
    }

    /// By its name.
    pub fn named(text: &str) -> Option<ApplyTo> {
        use ApplyTo::{All, ClassicQueues, Exchanges, Queues, QuorumQueues, Streams};
        [All, Queues, ClassicQueues, QuorumQueues, Streams, Exchanges]
            .into_iter()
            .find(|it| it.as_str() == text)
    }
}

/// Whose policy it is: an operator's is above that of a policymaker, and may only narrow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rank {
    /// Set by policymakers.
    User,
    /// Set by administrators.
    Operator,
}

/// A policy: what queues or exchanges become whose names match.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// In which virtual host.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// A regular expression over their names.
    pub pattern: String,
    /// What they are.
    #[serde(rename = "apply-to", default)]
    pub apply_to: ApplyTo,
    /// What becomes of them.
    pub definition: Map<String, Value>,
    /// The highest that matches counts.
    #[serde(default)]
    pub priority: i64,
}

/// A parameter of a component, kept for its tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// In which virtual host.
    pub vhost: String,
    /// Of which component.
    pub component: String,
    /// Its name.
    pub name: String,
    /// What it says.
    pub value: Value,
}

/// A parameter of the whole server, kept for its tools.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GlobalParameter {
    /// Its name.
    pub name: String,
    /// What it says.
    pub value: Value,
}

/// What the names of these documents begin with.
pub(super) const PREFIX: &str = "amqp/";

fn document(kind: &str, parts: &[&str]) -> String {
    let mut name = format!("{PREFIX}{kind}");
    for part in parts {
        name.push('/');
        // A single '%' is what no text is escaped to.
        name += &if part.is_empty() { "%".to_owned() } else { vhost::escape(part).replace('/', "%2F") };
    }
    name
}

pub(super) fn vhost_document(name: &str) -> String {
    document("vhost", &[name])
}

pub(super) fn policy_document(rank: Rank, host: &str, name: &str) -> String {
    let kind = match rank {
        Rank::User => "policy",
        Rank::Operator => "operator-policy",
    };
    document(kind, &[host, name])
}

pub(super) fn parameter_document(host: &str, component: &str, name: &str) -> String {
    document("parameter", &[host, component, name])
}

pub(super) fn global_document(name: &str) -> String {
    document("global-parameter", &[name])
}
