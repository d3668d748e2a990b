//! Why can something not be done with a redrive?

use waystation_broker::Refusal;

use super::record::State;
use crate::{limits::ACTIVE_MAX, which::Invalid};

/// A refusal. Nothing of what was asked has taken effect.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// No such redrive.
    #[error("redrive '{0}' does not exist, or is no longer kept")]
    NotFound(String),
    /// It is in no state for that.
    #[error("redrive '{id}' is {state:?} and cannot be {what}")]
    State {
        /// Which.
        id: String,
        /// What it is doing.
        state: State,
        /// What was asked.
        what: &'static str,
    },
    /// A field.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Too many at a time.
    #[error("{ACTIVE_MAX} redrives are under way or rest: wait for one, or abort one")]
    Busy,
    /// The broker's.
    #[error(transparent)]
    Refused(#[from] Refusal),
}
