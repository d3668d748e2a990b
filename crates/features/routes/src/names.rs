//! What are things called that a route has for itself, and what does it write into messages?

use waystation_base::Name;

use crate::Invalid;

/// Headers that a route writes.
pub mod header {
    /// The route that a message left last.
    pub const ROUTE: &str = "ws-route";
    /// Routes that it and what it came from have passed.
    pub const HOPS: &str = "ws-hops";
    /// Of a part: the id of the message that was split.
    pub const SEQUENCE_ID: &str = "ws-sequence-id";
    /// Of a part: its number, from 0.
    pub const SEQUENCE_INDEX: &str = "ws-sequence-index";
    /// Of a part: how many there are.
    pub const SEQUENCE_SIZE: &str = "ws-sequence-size";
    /// Of a dead letter: the step that failed.
    pub const DEATH_STEP: &str = "ws-death-step";
    /// Of a dead letter: the route.
    pub const DEATH_ROUTE: &str = "ws-death-route";
}

/// Why a message is among a route's dead letters, as [`waystation_base::message::header::DEATH_REASON`] says it.
pub const DEATH_REASON: &str = "route_error";

/// The subscription of a route's own.
pub fn subscription(route: &Name) -> Result<Name, Invalid> {
    reserved(route, "$routes.")
}

/// The document of a route.
pub fn document(route: &Name) -> Result<Name, Invalid> {
    let name = Name::new(format!("{}{route}", crate::document::PREFIX));
    name.map_err(|error| Invalid { field: "name".to_owned(), reason: error.to_string() })
}

fn reserved(route: &Name, prefix: &str) -> Result<Name, Invalid> {
    let name = Name::reserved(format!("{prefix}{route}"));
    name.map_err(|error| Invalid { field: "name".to_owned(), reason: error.to_string() })
}
