//! Why does a message fail in a route?

use waystation_jq::Failure;

/// What went wrong with one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// What kind of failure it is.
    pub kind: FaultKind,
    /// In words.
    pub reason: String,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FaultKind {
    /// The body cannot be read as its content type says, or not be written so.
    Content,
    /// A program gave an error.
    Program,
    /// A program ran past a limit.
    Limit,
    /// The message is not as a step demands.
    Invalid,
    /// Nothing says where it is to go.
    NoRoute,
    /// It has passed too many routes.
    Hops,
    /// Not the message's fault: it may do better later.
    Passing,
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, reason: impl ToString) -> Fault {
        Fault { kind, reason: reason.to_string() }
    }

    pub(crate) fn content(reason: impl ToString) -> Fault {
        Fault::new(FaultKind::Content, reason)
    }

    pub(crate) fn invalid(reason: impl ToString) -> Fault {
        Fault::new(FaultKind::Invalid, reason)
    }

    pub(crate) fn limit(reason: impl ToString) -> Fault {
        Fault::new(FaultKind::Limit, reason)
    }
}

impl From<Failure> for Fault {
    fn from(failure: Failure) -> Fault {
        let kind = match &failure {
            Failure::Error(_) => FaultKind::Program,
            Failure::Worker(_) => FaultKind::Passing,
            _ => FaultKind::Limit,
        };
        Fault::new(kind, failure)
    }
}
