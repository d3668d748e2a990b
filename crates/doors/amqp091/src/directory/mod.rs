//! Who may come in, and what may he touch?
//!
//! The door asks; whoever knows the users answers. All but the login is answered from memory.

mod known;
mod loopback;

use std::{fmt, future::Future, net::SocketAddr, pin::Pin, sync::Arc};

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

/// Users, virtual hosts and permissions.
pub trait Directory: Send + Sync {
    /// Lets somebody in, or not. May take the time that a slow hash takes.
    fn login<'a>(&'a self, proof: &'a Proof, peer: SocketAddr) -> Login<'a>;
    /// Whether there is such a virtual host.
    fn has_vhost(&self, vhost: &str) -> bool;
    /// Changes whenever an answer about an account or a virtual host may have changed.
    fn generation(&self) -> u64;
}
