//! Who sends a request, and what does it lack? The headers of a request to a caller of `waystation_access`.

mod basic;
mod origin;

use std::net::SocketAddr;

use axum::http::{HeaderMap, header};
use waystation_access::{Access, Action, LoginError, TOKEN_BYTES_MAX};
use waystation_base::Name;
use waystation_host::{Broker, audit::Origin};

pub(crate) use origin::check as check_origin;
pub(crate) use waystation_access::Action as Permission;

use crate::failure::{Failure, Kind};

/// Who sent a request, and from where.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub waystation_access::Caller, pub Option<SocketAddr>);

/// What an action is called towards HTTP's clients.
fn name(action: Action) -> &'static str {
    match action {
        Action::Write => "publish",
        Action::Read => "consume",
        Action::Configure => "configure",
    }
}

impl Caller {
    /// The broker, acting on the caller's behalf.
    pub fn broker(&self, broker: &Broker) -> Broker {
        let who = self.0.name().map(str::to_owned);
        broker.with_origin(Origin { door: "http", who, client: self.1, ..Origin::default() })
    }

    /// Refuses what is not allowed, naming what is missing.
    pub fn require(&self, permission: Permission, name: &Name) -> Result<(), Failure> {
        self.require_all(permission, name.as_str())
    }

    /// The same for every name that a pattern stands for.
    pub fn require_all(&self, permission: Permission, pattern: &str) -> Result<(), Failure> {
        if self.0.may_all(permission, pattern) {
            return Ok(());
        }
        let (who, what) = (self.0.describe(), name(permission));
        let detail = format!("{who} lacks the permission {what} on '{pattern}'");
        let missing = format!("{what}:{pattern}");
        Err(Failure::new(Kind::Forbidden, detail).with(|problem| problem.permission = Some(missing)))
    }

    /// Refuses whoever may not do everything.
    pub fn require_administrator(&self) -> Result<(), Failure> {
        self.require_tag(self.0.tags().is_administrator(), "administrator")
    }

    /// Refuses whoever may not set policies.
    pub fn require_policymaker(&self) -> Result<(), Failure> {
        self.require_tag(self.0.tags().may_make_policy(), "policymaker")
    }

    fn require_tag(&self, has: bool, tag: &str) -> Result<(), Failure> {
        if has {
            return Ok(());
        }
        let detail = format!("{} lacks the tag {tag}", self.0.describe());
        Err(Failure::new(Kind::Forbidden, detail).with(|problem| problem.permission = Some(tag.to_owned())))
    }

    /// Whether anything at all is allowed on a name, so that it may be seen.
    pub fn may_see(&self, name: &Name) -> bool {
        self.0.may_see(name.as_str())
    }

    /// [`Caller::may_see`], or a refusal.
    pub fn require_sight(&self, name: &Name) -> Result<(), Failure> {
        if self.may_see(name) { Ok(()) } else { self.require(Permission::Configure, name) }
    }
}

/// Tells who sends these headers; nothing if they name nobody.
pub(crate) async fn caller(
    access: &Access,
    headers: &HeaderMap,
    peer: Option<SocketAddr>,
) -> Result<Option<Caller>, Failure> {
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let wrong = || {
        let detail = "Authorization must be 'Bearer' and one token, or 'Basic' and a user with password";
        Failure::new(Kind::Unauthenticated, detail)
    };
    let (scheme, proof) = value.to_str().ok().and_then(|text| text.split_once(' ')).ok_or_else(wrong)?;
    let proof = proof.trim();
    let caller = if scheme.eq_ignore_ascii_case("bearer") && (1..=TOKEN_BYTES_MAX).contains(&proof.len()) {
        access.bearer(proof).await.map_err(|error| refused(error, "the token is not valid"))?
    } else if scheme.eq_ignore_ascii_case("basic") {
        let (user, password) = basic::decode(proof).ok_or_else(wrong)?;
        let is_loopback = peer.is_some_and(|peer| peer.ip().to_canonical().is_loopback());
        let login = access.login(&user, &password, is_loopback).await;
        login.map_err(|error| refused(error, "user and password do not fit together"))?
    } else {
        return Err(wrong());
    };
    Ok(Some(Caller(caller, peer)))
}

fn refused(error: LoginError, unknown: &str) -> Failure {
    match error {
        LoginError::Refused => Failure::new(Kind::Unauthenticated, unknown),
        LoginError::LoopbackOnly => Failure::new(Kind::Unauthenticated, error),
        LoginError::Busy => Failure::new(Kind::Busy, error),
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use waystation_access::{TokenEntry, new_token};

    use super::*;

    const HERE: Option<SocketAddr> =
        Some(SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 1));

    fn headers(text: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(text).expect("a value"))])
    }

    fn entry(hash: String) -> TokenEntry {
        TokenEntry {
            name: "shop".into(),
            hash,
            publish: vec!["orders.#".into()],
            consume: vec![],
            configure: vec![],
        }
    }

    async fn status(access: &Access, text: &str) -> Result<bool, u16> {
        let caller = caller(access, &headers(text), HERE).await;
        caller.map(|caller| caller.is_some()).map_err(|failure| failure.0.status)
    }

    #[tokio::test]
    async fn the_right_token_is_known_and_any_other_is_not() {
        let made = new_token("shop").expect("randomness");
        let access = Access::new(vec![entry(made.hash)]).expect("good");
        assert!(caller(&access, &HeaderMap::new(), HERE).await.expect("no token").is_none());
        let right = format!("bearer {}", made.token);
        assert_eq!(status(&access, &right).await, Ok(true));
        // From memory now.
        assert_eq!(status(&access, &right).await, Ok(true));
        assert_eq!(status(&access, &format!("{right}x")).await, Err(401));
        assert_eq!(status(&access, "Bearer wst.other.x").await, Err(401));
        assert_eq!(status(&access, "Basic x").await, Err(401));
        assert_eq!(status(&access, "Digest x").await, Err(401));
        assert_eq!(status(&access, "Bearer").await, Err(401));
        assert_eq!(status(&access, &format!("Bearer {}", "x".repeat(TOKEN_BYTES_MAX + 1))).await, Err(401));
        access.replace_tokens(vec![]).expect("none is fine");
        assert_eq!(status(&access, &right).await, Err(401), "revoked at once");
    }

    #[tokio::test]
    async fn a_user_comes_with_its_password() {
        let access = Access::new(vec![]).expect("good");
        // guest:guest, guest:wrong
        assert_eq!(status(&access, "Basic Z3Vlc3Q6Z3Vlc3Q=").await, Ok(true));
        assert_eq!(status(&access, "basic Z3Vlc3Q6d3Jvbmc=").await, Err(401));
    }

    #[tokio::test]
    async fn a_refusal_names_the_missing_permission() {
        let made = new_token("shop").expect("randomness");
        let access = Access::new(vec![entry(made.hash)]).expect("good");
        let shop = caller(&access, &headers(&format!("Bearer {}", made.token)), HERE).await;
        let shop = shop.expect("right").expect("somebody");
        let orders = Name::new("orders.eu").expect("a name");
        assert!(shop.require(Permission::Write, &orders).is_ok());
        let Failure(problem) = shop.require(Permission::Read, &orders).expect_err("not granted");
        assert_eq!((problem.status, problem.permission.as_deref()), (403, Some("consume:orders.eu")));
        assert!(shop.may_see(&orders));
        assert!(shop.require_sight(&Name::new("bills").expect("a name")).is_err());
        assert!(Caller(access.local(), HERE).require(Permission::Configure, &orders).is_ok());
    }
}
