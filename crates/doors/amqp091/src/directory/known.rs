//! Who is let in by the door, and what the door asks about: users and tokens of [`waystation_access`], virtual hosts of the
//! catalog.

use std::{net::SocketAddr, sync::Arc};

use waystation_access::{Action as Access, Caller, Gone, LoginError};
use waystation_catalog::Catalog;

use super::{Account, Action, Directory, Login, Proof, Refused};
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
