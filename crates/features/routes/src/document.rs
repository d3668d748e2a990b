//! How is a route kept? One document `route/<name>`.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use waystation_base::Millis;

use crate::{packet::to_json, spec::RouteSteps};

/// What the names of these documents begin with.
pub use waystation_broker::ROUTE_CLAIM as PREFIX;

/// A route as it is stored, in JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Document {
    /// Its declaration.
    pub route: RouteSteps,
    /// Somebody wants it to rest.
    pub is_paused: bool,
    /// Since when it is so.
    pub since: Millis,
}

impl Document {
    /// The bytes that are stored.
    pub fn bytes(&self) -> Bytes {
        to_json(self)
    }
}
