//! On what does a step make its doing depend?

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, value::MapAccessDeserializer},
};
use utoipa::ToSchema;
use waystation_base::filter::Filter;

/// A condition on one message. A text alone is a jq program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RouteCondition)]
pub enum Condition {
    /// A jq program over the body as JSON: it holds if the first output is neither `false` nor `null`.
    Jq(String),
    /// A selector as JMS defines it, over headers and properties: it holds if it is true, and neither false nor unknown.
    Selector(String),
    /// A pattern of the address that the message was published to (`*` one word, `#` any number, words parted by dots).
    Address(String),
    /// A pattern of the routing key with which it was published.
    RoutingKey(String),
    /// A filter of CloudEvents: `exact`, `prefix`, `suffix`, `all`, `any`, `not` over headers.
    #[schema(value_type = Object)]
    Filter(Filter),
    /// Every part holds.
    #[schema(no_recursion)]
    All(Vec<Condition>),
    /// Some part holds.
    #[schema(no_recursion)]
    Any(Vec<Condition>),
    /// The part does not hold.
    #[schema(no_recursion)]
    Not(Box<Condition>),
}

/// The same in tables only, for the derived reader.
#[derive(Deserialize)]
#[serde(rename_all = "snake_case")]
enum Table {
    Jq(String),
    Selector(String),
    Address(String),
    RoutingKey(String),
    Filter(Filter),
    All(Vec<Condition>),
    Any(Vec<Condition>),
    Not(Box<Condition>),
}

impl std::convert::From<Table> for Condition {
    fn from(table: Table) -> Condition {
        match table {
            Table::Jq(text) => Condition::Jq(text),
            Table::Selector(text) => Condition::Selector(text),
            Table::Address(pattern) => Condition::Address(pattern),
            Table::RoutingKey(pattern) => Condition::RoutingKey(pattern),
            Table::Filter(filter) => Condition::Filter(filter),
            Table::All(parts) => Condition::All(parts),
            Table::Any(parts) => Condition::Any(parts),
            Table::Not(part) => Condition::Not(part),
        }
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Condition;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a jq program, or a table with one of 'jq', 'selector', 'address', 'routing_key', 'filter', 'all', 'any' and 'not'",
        )
    }

    fn visit_str<E>(self, text: &str) -> Result<Condition, E> {
        Ok(Condition::Jq(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Condition, A::Error> {
        Table::deserialize(MapAccessDeserializer::new(map)).map(Condition::from)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Condition, D::Error> {
        from.deserialize_any(Visitor)
    }
}
