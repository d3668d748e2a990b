//! What does an alert say?

use std::fmt;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::Name;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Dead letters grow.
    DeadLetters,
    /// Messages wait, and nobody consumes.
    NoConsumer,
    /// The oldest message waits too long.
    Lag,
}

impl Kind {
    /// All of them.
    pub const ALL: [Kind; 3] = [Kind::DeadLetters, Kind::NoConsumer, Kind::Lag];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::DeadLetters => "dead_letters",
            Kind::NoConsumer => "no_consumer",
            Kind::Lag => "lag",
        }
    }

    /// The page that says what to do, in the documentation that comes with the server.
    pub fn runbook(self) -> &'static str {
        match self {
            Kind::DeadLetters => "docs/runbooks/dead-letter-growth.md",
            Kind::NoConsumer => "docs/runbooks/consumer-loss.md",
            Kind::Lag => "docs/runbooks/lag.md",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Whether it still is so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = AlertState)]
pub enum State {
    /// It is so.
    #[default]
    Raised,
    /// It is over.
    Resolved,
}

/// What is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    /// A queue.
    Queue,
    /// A subscription.
    Subscription,
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Thing::Queue => "queue",
            Thing::Subscription => "subscription",
        })
    }
}

/// An alert: the body of a message on the topic `$alerts`, whose key is its id.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Alert {
    /// The same each time it is raised: `kind/thing/name`.
    pub id: String,
    /// What is wrong.
    pub kind: Kind,
    /// Whether it still is so.
    pub state: State,
    /// With a queue, or with a subscription.
    pub thing: Thing,
    /// By that name.
    #[schema(value_type = String)]
    pub name: Name,
    /// What was found: messages that came, or milliseconds.
    pub value: u64,
    /// From what on it is told.
    pub threshold: u64,
    /// In one sentence.
    pub summary: String,
    /// When it was raised (milliseconds since 1970).
    pub raised: u64,
    /// When it was resolved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resolved: Option<u64>,
    /// The page that says what to do.
    pub runbook: String,
    /// The settings by which it is told; none: the defaults.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub rule: Option<Name>,
}

impl Alert {
    /// The id of what may be wrong with something.
    pub fn id_of(kind: Kind, thing: Thing, name: &Name) -> String {
        format!("{kind}/{thing}/{name}")
    }
}
