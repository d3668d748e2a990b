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
    /// Not the message's fault: no process for jq could be had. It may do better later.
    Worker,
    /// The same: a service did not answer as it should.
    Service,
    /// The same: a topic that a step reads or stores in could not be had.
    Unreachable,
    /// The same: what became of it could not be stored; what a retry policy calls that.
    Refused(&'static str),
}

/// What a retry policy calls what may do better later.
pub(crate) mod class {
    pub const FULL: &str = "full";
    pub const NOT_FOUND: &str = "not_found";
    pub const REFUSED: &str = "refused";
    pub const WORKER: &str = "worker";
    pub const SERVICE: &str = "service";
}

impl Fault {
    pub(crate) fn new(kind: FaultKind, reason: impl ToString) -> Fault {
        Fault { kind, reason: reason.to_string() }
    }

    /// Whether it may do better later, and what a retry policy calls it then.
    pub(crate) fn class(&self) -> Option<&'static str> {
        match self.kind {
            FaultKind::Worker => Some(class::WORKER),
            FaultKind::Service => Some(class::SERVICE),
            FaultKind::Unreachable => Some(class::REFUSED),
            FaultKind::Refused(class) => Some(class),
            _ => None,
        }
    }

    pub(crate) fn passes(&self) -> bool {
        self.class().is_some()
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
            Failure::Worker(_) => FaultKind::Worker,
            _ => FaultKind::Limit,
        };
        Fault::new(kind, failure)
    }
}
