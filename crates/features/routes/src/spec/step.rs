//! How is a step declared? A table with one member that says what it does, and those that belong to that.

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{
        self, MapAccess, SeqAccess,
        value::{MapAccessDeserializer, SeqAccessDeserializer},
    },
};
use utoipa::ToSchema;

use super::{Aggregate, Claim, Condition, Enrich, Gather, Resequence, Table, Target, Targets};

/// A step: exactly one of the members up to `to`, and what belongs to it. An unknown member is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = RouteStep)]
pub struct Step {
    /// Lets pass what the condition holds for; the rest ends here, or goes to `else`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub filter: Option<Condition>,
    /// Lets pass what the condition holds for; the rest is invalid, and goes to `else` or the dead letters.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validate: Option<Condition>,
    /// Changes the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transform: Option<Transform>,
    /// A jq program each of whose outputs goes on as a message of its own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<String>,
    /// Sends a copy as it is here, and goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tap: Option<Targets>,
    /// The first case whose condition holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub choose: Option<Vec<Case>>,
    /// A jq program that gives the addresses to send to: the message ends here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients: Option<String>,
    /// Collects messages that belong together; one made of them goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub aggregate: Option<Aggregate>,
    /// Brings messages into the order of their numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resequence: Option<Resequence>,
    /// Asks several at once; one message of their replies goes on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gather: Option<Gather>,
    /// Asks an HTTP service and merges its answer in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enrich: Option<Enrich>,
    /// Puts a large body aside.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub claim: Option<Claim>,
    /// Fetches the body that `claim` put aside on this topic.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redeem: Option<String>,
    /// Sends by a table that is kept on a topic: the message ends here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub table: Option<Table>,
    /// Sends the message: it ends here. An empty list says that it shall go nowhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<Targets>,
    /// With `filter` and `validate`: where the rest goes. With `table`: where messages go that it says nothing of.
    #[serde(rename = "else", skip_serializing_if = "Option::is_none")]
    pub otherwise_to: Option<Targets>,
    /// With `choose`: for messages that no case holds for; none: they fail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub otherwise: Option<Branch>,
    /// With `recipients`: patterns of the addresses that it may give.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub allowed: Option<Vec<String>>,
}

/// How a message is changed: what is left out stays as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
#[schema(as = RouteTransform)]
pub struct Transform {
    /// A jq program that gives the new body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
    /// A jq program that gives an object of headers to set; null takes one away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub headers: Option<String>,
    /// A jq program that gives the new key; null takes it away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The media type that the body shall have from here on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub content_type: Option<String>,
}

/// One case of `choose`: with `to` the message ends there; with `steps` it goes on behind the choice, unless they end it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteCase)]
pub struct Case {
    /// Its condition.
    pub when: Condition,
    /// Where the message goes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Targets>,
    /// What is done with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(no_recursion)]
    pub steps: Option<Vec<Step>>,
}

/// What becomes of messages that no case holds for: targets, or a table with `steps`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = RouteBranch)]
pub enum Branch {
    /// They end there.
    To(Targets),
    /// This is done with them.
    Steps(Steps),
}

/// Steps of a branch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteBranchSteps)]
pub struct Steps {
    /// In order.
    #[schema(no_recursion)]
    pub steps: Vec<Step>,
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Branch;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a target, a list of targets, or a table with 'steps'")
    }

    fn visit_str<E>(self, text: &str) -> Result<Branch, E> {
        Ok(Branch::To(Targets(vec![Target::Address(text.to_owned())])))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Branch, A::Error> {
        Steps::deserialize(MapAccessDeserializer::new(map)).map(Branch::Steps)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Branch, A::Error> {
        Targets::deserialize(SeqAccessDeserializer::new(seq)).map(Branch::To)
    }
}

impl<'de> Deserialize<'de> for Branch {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Branch, D::Error> {
        from.deserialize_any(Visitor)
    }
}
