//! Why is something about a call refused?

use waystation_broker::Refusal;

use crate::{SpecError, State};

/// A refusal; nothing has taken effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The broker refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// A declaration's field.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// No operation of that name.
    #[error("operation '{0}' does not exist; PUT /v1/operations/{0} declares it")]
    NoOperation(String),
    /// An operation that is there and differs.
    #[error("operation '{0}' exists and differs; change it explicitly or use another name")]
    Differs(String),
    /// No call of that id was ever known, or it is long gone.
    #[error("there is no call with this id")]
    NoCall,
    /// Its retention is over.
    #[error("the call was forgotten when its retention was over")]
    Gone,
    /// It has its outcome already.
    #[error("the call is {0} already; what came late is kept in the topic $calls.late")]
    Closed(State),
    /// It has no outcome yet that could be tried anew.
    #[error("the call is {0}: only a call that failed, expired or was cancelled is tried anew")]
    Open(State),
    /// It is done.
    #[error("the call has succeeded; only one that failed, expired or was cancelled is tried anew")]
    Succeeded,
    /// There is nothing to try anew.
    #[error(
        "the call's request is not kept: the operation says 'keep_requests = false', or the call is older than that field"
    )]
    NoRequest,
    /// Somebody else works on it by now.
    #[error("the call is not in your hands under attempt {0}: the lease ran out and another worker has it")]
    NotHeld(u32),
    /// An idempotency key that came with another request.
    #[error(
        "the idempotency key was used with another body or content type; use a fresh key for a fresh request"
    )]
    KeyReused,
    /// An idempotency key that cannot be one.
    #[error("idempotency key: {0}")]
    BadKey(&'static str),
    /// A callback's address that is not allowed.
    #[error("callback: {0}")]
    Callback(String),
    /// An address for the outcome that is not allowed.
    #[error("reply-to {0}")]
    ReplyTo(String),
    /// A request's body past what the operation allows.
    #[error("the body of a call to this operation may have {limit} bytes")]
    TooLarge {
        /// The bound.
        limit: u64,
    },
    /// A named bound.
    #[error("the limit of {limit} {what} is reached")]
    Limit {
        /// What is counted.
        what: &'static str,
        /// The bound.
        limit: u64,
    },
    /// The stored record cannot be understood.
    #[error("the call's record cannot be read: {0}")]
    Damaged(String),
    /// The engine has ended.
    #[error("the server is shutting down")]
    Ended,
}
