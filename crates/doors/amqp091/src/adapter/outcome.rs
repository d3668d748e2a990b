//! What does the broker's refusal mean in AMQP's words?

use smol_str::SmolStr;
use waystation_broker::{Kind, Refusal};

use crate::{
    mapping::{Invalid, names},
    session::{Failure, Resource},
    wire::ReplyCode,
};

impl From<Invalid> for Failure {
    fn from(invalid: Invalid) -> Failure {
        Failure::new(invalid.code, invalid.text)
    }
}

/// A refusal of something that was asked of the broker in a virtual host.
pub(super) fn failure(refusal: &Refusal, vhost: &SmolStr) -> Failure {
    let resource = |kind: Kind, name: &str| {
        let name = names::amqp_name(name);
        match kind {
            Kind::Route => Resource::exchange(vhost, &name),
            _ => Resource::queue(vhost, &name),
        }
    };
    match refusal {
        Refusal::NotFound { kind, name } => Failure::not_found(&resource(*kind, name)),
        Refusal::Exclusive { kind, name } => Failure::locked(&resource(*kind, name.as_str())),
        Refusal::InUse { kind, name, state } => {
            Failure::precondition(format!("{} {state}", resource(*kind, name.as_str())))
        }
        Refusal::Internal { name } => {
            let exchange = resource(Kind::Route, name.as_str());
            Failure::access(format!("cannot publish to internal {exchange}"))
        }
        Refusal::VhostFull { vhost, limit } => Failure::precondition(format!(
            "cannot declare queue: queue limit in vhost '{vhost}' ({limit}) is reached"
        )),
        Refusal::Draining => Failure::new(ReplyCode::ConnectionForced, "the server is shutting down"),
        Refusal::Stopped(_) => Failure::new(ReplyCode::InternalError, refusal.to_string()),
        Refusal::Damaged(_) => Failure::new(ReplyCode::InternalError, refusal.to_string()),
        Refusal::Busy => Failure::new(ReplyCode::ResourceError, refusal.to_string()),
        other => Failure::precondition(other.to_string()),
    }
}
