//! Who is let in by the door, and what the door asks about: users and tokens of [`waystation_access`], virtual hosts of the
//! catalog.

use std::{net::SocketAddr, sync::Arc};

use waystation_access::{Action as Access, Caller, Gone, LoginError};
use waystation_broker::spec::Spec;
use waystation_catalog::Catalog;

use super::{Account, Action, Bounds, Directory, Login, Proof, Refused, declared_timeout_ms};
use crate::Registry;

/// A user or token that was let in.
#[derive(Debug)]
struct Known(Caller);

fn action(action: Action) -> Access {
    match action {
        Action::Configure => Access::Configure,
        Action::Write => Access::Write,
        Action::Read => Access::Read,
    }
}

impl Account for Known {
    fn name(&self) -> &str {
        self.0.name().unwrap_or_default()
    }

    fn tags(&self) -> Vec<String> {
        self.0.tags().0
    }

    fn may_enter(&self, vhost: &str) -> bool {
        self.0.may_enter(vhost)
    }

    fn may(&self, what: Action, vhost: &str, name: &str) -> bool {
        self.0.may(action(what), vhost, name)
    }

    fn may_publish_to(&self, vhost: &str, queue: &str) -> bool {
        self.0.may_publish(vhost, "", queue)
    }

    fn may_topic(&self, what: Action, vhost: &str, exchange: &str, routing_key: &str) -> bool {
        self.0.may_topic(action(what), vhost, exchange, routing_key)
    }
}

fn refused(error: LoginError) -> Refused {
    Refused(error.to_string())
}

impl Directory for Catalog {
    fn login<'a>(&'a self, proof: &'a Proof, peer: SocketAddr) -> Login<'a> {
        let is_loopback = peer.ip().to_canonical().is_loopback();
        Box::pin(async move {
            let caller = match proof {
                Proof::Password { user, password } => {
                    self.access().login(user, password, is_loopback).await.map_err(refused)?
                }
                Proof::Certificate { common_name } => {
                    self.access().login_certificate(common_name, is_loopback).map_err(refused)?
                }
            };
            Ok(Arc::new(Known(caller)) as Arc<dyn Account>)
        })
    }

    fn has_vhost(&self, vhost: &str) -> bool {
        Catalog::has_vhost(self, vhost)
    }

    fn consumer_timeout_ms(&self, vhost: &str, queue: &str, spec: &Spec) -> Option<u64> {
        let policies = self.effective(vhost, queue, spec).definition;
        let policy = policies.get("consumer-timeout").and_then(serde_json::Value::as_u64);
        declared_timeout_ms(spec).into_iter().chain(policy).min()
    }

    fn bounds_of_vhost(&self, vhost: &str) -> Bounds {
        let connections = self.vhost(vhost).and_then(|host| host.limits.max_connections);
        Bounds { connections, channels: None }
    }

    fn bounds_of_user(&self, user: &str) -> Bounds {
        let limits = self.access().user(user).map(|user| user.limits).unwrap_or_default();
        Bounds { connections: limits.max_connections, channels: limits.max_channels }
    }

    fn generation(&self) -> u64 {
        Catalog::generation(self)
    }
}

/// From now on connections end when their user or virtual host is gone, whichever door deletes it.
pub fn close_gone(catalog: &Catalog, registry: Arc<Registry>) {
    catalog.access().on_gone(move |gone| {
        match gone {
            Gone::User(user) => registry.close_where(|it| it.user == user, "user is deleted"),
            Gone::Vhost(vhost) => {
                registry.close_where(|it| it.vhost == vhost, &format!("vhost '{vhost}' is deleted"))
            }
        };
    });
}
