//! Who may come in, and what may he touch?
//!
//! The door asks; whoever knows the users answers. All but the login is answered from memory.

mod known;
mod loopback;

use std::{fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc};

use waystation_broker::spec::Spec;

pub use known::close_gone;
pub use loopback::Loopback;

/// What a client proves itself with.
#[derive(Clone, PartialEq, Eq)]
pub enum Proof {
    /// `PLAIN` and `AMQPLAIN`.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// `EXTERNAL`: the common name of the certificate that TLS has checked.
    Certificate {
        /// The name.
        common_name: String,
    },
}

impl fmt::Debug for Proof {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Proof::Password { user, .. } => write!(f, "password of {user:?}"),
            Proof::Certificate { common_name } => write!(f, "certificate of {common_name:?}"),
        }
    }
}

/// What is to be done with a thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Declare or delete it.
    Configure,
    /// Put something into it.
    Write,
    /// Take something out of it.
    Read,
}

/// A user who has proved himself.
pub trait Account: Send + Sync {
    /// His name.
    fn name(&self) -> &str;
    /// His tags, such as `administrator`.
    fn tags(&self) -> Vec<String>;
    /// Whether he may open a virtual host.
    fn may_enter(&self, vhost: &str) -> bool;
    /// Whether he may do this with the queue or exchange of that name.
    fn may(&self, action: Action, vhost: &str, name: &str) -> bool;
    /// Whether he may publish to a queue by way of the default exchange; beside [`Account::may`] on that exchange.
    fn may_publish_to(&self, _vhost: &str, _queue: &str) -> bool {
        true
    }
    /// Whether he may publish or bind with this routing key at a topic exchange.
    fn may_topic(&self, action: Action, vhost: &str, exchange: &str, routing_key: &str) -> bool;
}

/// Why somebody is not let in; for the log, as the client is told nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// A login under way.
pub type Login<'a> = Pin<Box<dyn Future<Output = Result<Arc<dyn Account>, Refused>> + Send + 'a>>;

/// What a queue's declaration says of it.
fn declared_timeout_ms(spec: &Spec) -> Option<u64> {
    let Spec::Queue(spec) = spec else { return None };
    spec.arguments.get("x-consumer-timeout").and_then(serde_json::Value::as_u64)
}

/// How much may be open at a time; none: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Connections.
    pub connections: Option<u32>,
    /// Channels on all of them.
    pub channels: Option<u32>,
}

/// Users, virtual hosts and permissions.
pub trait Directory: Send + Sync {
    /// Lets somebody in, or not. May take the time that a slow hash takes.
    fn login<'a>(&'a self, proof: &'a Proof, peer: SocketAddr) -> Login<'a>;
    /// Whether there is such a virtual host.
    fn has_vhost(&self, vhost: &str) -> bool;
    /// Milliseconds within which what a queue delivers is to be settled; none: for ever. As declared, unless policies say less.
    fn consumer_timeout_ms(&self, _vhost: &str, _queue: &str, spec: &Spec) -> Option<u64> {
        declared_timeout_ms(spec)
    }
    /// How much may be open in a virtual host.
    fn bounds_of_vhost(&self, _vhost: &str) -> Bounds {
        Bounds::default()
    }
    /// How much a user may have open.
    fn bounds_of_user(&self, _user: &str) -> Bounds {
        Bounds::default()
    }
    /// Changes whenever an answer about an account or a virtual host may have changed.
    fn generation(&self) -> u64;
}
