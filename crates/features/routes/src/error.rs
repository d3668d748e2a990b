//! Why can a route not be had so?

use waystation_base::Name;
use waystation_broker::Refusal;

use crate::limits::ROUTES_MAX;

/// A field that is wrong: a path such as `steps[2].transform.body`, and what is wrong with it, with the column if it is a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field '{field}': {reason}")]
pub struct Invalid {
    /// Which.
    pub field: String,
    /// What is wrong.
    pub reason: String,
}

/// Why a route cannot be had so.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none of that name.
    #[error("there is no route with steps '{0}'")]
    NotFound(Name),
    /// It is there and differs.
    #[error("route '{0}' is there and differs; with change=true it is changed")]
    Differs(Name),
    /// A route with bindings has that name.
    #[error("route '{0}' is there as one with bindings; delete it first, or use another name")]
    Taken(Name),
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Too many.
    #[error("there may be {ROUTES_MAX} routes with steps")]
    Limit,
    /// No record tells of the message.
    #[error("{0}")]
    Unknown(String),
    /// The broker refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}
