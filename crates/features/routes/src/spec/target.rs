//! Where does a step send messages?

use std::fmt;

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{self, MapAccess, SeqAccess, value::MapAccessDeserializer},
};
use smol_str::SmolStr;
use utoipa::ToSchema;
use waystation_base::{Name, limits::ROUTING_KEY_BYTES_MAX};
use waystation_broker::command;

use super::invalid;
use crate::{Invalid, limits::TARGETS_MAX};

/// A queue or topic by its name, or a route with bindings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = RouteTarget)]
pub enum Target {
    /// A queue or topic.
    Address(String),
    /// A route with bindings.
    Route(Route),
}

/// A route with bindings as a target.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = RouteTargetByKey)]
pub struct Route {
    /// Its name.
    pub route: String,
    /// The routing key; none: that of the message, or else empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// One target, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
#[serde(transparent)]
#[schema(as = RouteTargets)]
pub struct Targets(pub Vec<Target>);

/// A target, checked.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Destination {
    /// A queue or topic.
    Address(Name),
    /// A route with bindings, and the routing key if it is said.
    Route(Name, Option<SmolStr>),
}

impl Destination {
    /// The same for a message that was published with this routing key: a key that is not said is the message's.
    pub fn for_key(&self, own: Option<&str>) -> Destination {
        match self {
            Destination::Route(route, None) => {
                Destination::Route(route.clone(), Some(own.unwrap_or_default().into()))
            }
            said => said.clone(),
        }
    }

    /// What the broker calls it.
    pub fn target(&self) -> command::Target {
        match self {
            Destination::Address(name) => command::Target::Address(name.clone()),
            Destination::Route(name, key) => command::Target::Route {
                route: name.clone(),
                keys: std::iter::once(key.clone().unwrap_or_default()).collect(),
                told: false,
            },
        }
    }

    /// Its name.
    pub fn name(&self) -> &Name {
        let (Destination::Address(name) | Destination::Route(name, _)) = self;
        name
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Destination::Address(name) => write!(f, "{name}"),
            Destination::Route(name, None) => write!(f, "route {name}"),
            Destination::Route(name, Some(key)) => write!(f, "route {name} by '{key}'"),
        }
    }
}

impl Target {
    /// Checks it.
    pub fn check(&self, field: &str) -> Result<Destination, Invalid> {
        let name = |text: &str| Name::new(text).map_err(|error| invalid(field, error));
        match self {
            Target::Address(text) => Ok(Destination::Address(name(text)?)),
            Target::Route(Route { route, key }) => {
                if key.as_ref().is_some_and(|key| key.len() > ROUTING_KEY_BYTES_MAX) {
                    return Err(invalid(
                        field,
                        format!("a routing key may have {ROUTING_KEY_BYTES_MAX} bytes"),
                    ));
                }
                Ok(Destination::Route(name(route)?, key.as_deref().map(SmolStr::new)))
            }
        }
    }
}

impl Targets {
    /// Checks all of them.
    pub fn check(&self, field: &str) -> Result<Vec<Destination>, Invalid> {
        if self.0.len() > TARGETS_MAX {
            return Err(invalid(field, format!("may have {TARGETS_MAX} targets, has {}", self.0.len())));
        }
        self.0.iter().map(|target| target.check(field)).collect()
    }
}

struct OneVisitor;

impl<'de> de::Visitor<'de> for OneVisitor {
    type Value = Target;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a queue or topic, or a table with 'route' and 'key'")
    }

    fn visit_str<E>(self, text: &str) -> Result<Target, E> {
        Ok(Target::Address(text.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Target, A::Error> {
        Route::deserialize(MapAccessDeserializer::new(map)).map(Target::Route)
    }
}

impl<'de> Deserialize<'de> for Target {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Target, D::Error> {
        from.deserialize_any(OneVisitor)
    }
}

struct Visitor;

impl<'de> de::Visitor<'de> for Visitor {
    type Value = Targets;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "a target or a list of targets: names of queues and topics, tables with 'route' and 'key'",
        )
    }

    fn visit_str<E>(self, text: &str) -> Result<Targets, E> {
        Ok(Targets(vec![Target::Address(text.to_owned())]))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Targets, A::Error> {
        Ok(Targets(vec![OneVisitor.visit_map(map)?]))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Targets, A::Error> {
        let mut targets = Vec::new();
        while let Some(target) = seq.next_element()? {
            targets.push(target);
        }
        Ok(Targets(targets))
    }
}

impl<'de> Deserialize<'de> for Targets {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Targets, D::Error> {
        from.deserialize_any(Visitor)
    }
}
