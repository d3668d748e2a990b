//! Who is let in by the door, and what the door asks about: users and tokens of [`waystation_access`], virtual hosts and
//! policies of the catalog.

use std::{net::SocketAddr, sync::Arc};

use waystation_access::{Action as Access, Caller, LoginError};
use waystation_broker::spec::{QueueSpec, RouteSpec, TopicSpec};

use super::Catalog;
use crate::directory::{Account, Action, Directory, Login, Proof, Refused};

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
        self.book().vhosts.contains_key(vhost)
    }

    fn generation(&self) -> u64 {
        self.changes()
    }

    fn queue(&self, vhost: &str, name: &str, declared: QueueSpec) -> QueueSpec {
        self.book().queue(vhost, name, declared)
    }

    fn route(&self, vhost: &str, name: &str, declared: RouteSpec) -> RouteSpec {
        self.book().route(vhost, name, declared)
    }

    fn topic(&self, vhost: &str, name: &str, declared: TopicSpec) -> TopicSpec {
        self.book().topic(vhost, name, declared)
    }
}
