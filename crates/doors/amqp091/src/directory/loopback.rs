//! A directory with one user: `guest`, password `guest`, from this machine only, who may do everything in `/`.

use std::{net::SocketAddr, sync::Arc};

use super::{Account, Action, Directory, Login, Proof, Refused};

/// The only user.
const GUEST: &str = "guest";
/// The only virtual host.
const VHOST: &str = "/";

/// See the head of this file.
#[derive(Debug, Default)]
pub struct Loopback;

#[derive(Debug)]
struct Guest;

impl Account for Guest {
    fn name(&self) -> &str {
        GUEST
    }

    fn tags(&self) -> Vec<String> {
        vec!["administrator".to_owned()]
    }

    fn may_enter(&self, vhost: &str) -> bool {
        vhost == VHOST
    }

    fn may(&self, _: Action, vhost: &str, _: &str) -> bool {
        vhost == VHOST
    }

    fn may_topic(&self, _: Action, vhost: &str, _: &str, _: &str) -> bool {
        vhost == VHOST
    }
}

impl Directory for Loopback {
    fn login<'a>(&'a self, proof: &'a Proof, peer: SocketAddr) -> Login<'a> {
        Box::pin(async move {
            let is_guest =
                matches!(proof, Proof::Password { user, password } if user == GUEST && password == GUEST);
            if !peer.ip().to_canonical().is_loopback() {
                return Err(Refused(format!("user '{GUEST}' can only connect via localhost")));
            }
            if !is_guest {
                return Err(Refused("invalid credentials".to_owned()));
            }
            Ok(Arc::new(Guest) as Arc<dyn Account>)
        })
    }

    fn has_vhost(&self, vhost: &str) -> bool {
        vhost == VHOST
    }

    fn generation(&self) -> u64 {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn check(user: &str, password: &str, peer: &str, expected: bool) {
        let proof = Proof::Password { user: user.into(), password: password.into() };
        let login = Loopback.login(&proof, peer.parse().expect("an address")).await;
        assert_eq!(login.is_ok(), expected, "{proof:?} from {peer}");
    }

    #[tokio::test]
    async fn guest_is_let_in_from_this_machine_only() {
        check("guest", "guest", "127.0.0.1:1", true).await;
        check("guest", "guest", "[::ffff:127.0.0.1]:1", true).await;
        check("guest", "guest", "10.0.0.1:1", false).await;
        check("guest", "wrong", "127.0.0.1:1", false).await;
        check("root", "guest", "127.0.0.1:1", false).await;
    }
}
