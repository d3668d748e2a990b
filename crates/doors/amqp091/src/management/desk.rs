//! What do all requests share, and how is one carried from its head to its handler?

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{FromRequest, FromRequestParts, Request},
    http::{HeaderMap, Method, header, request::Parts},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use serde_json::{Map, Value};
use tokio::time::timeout;
use waystation_access::{Access, Action, Caller, GUEST, LoginError, Tags};
use waystation_base::{Clock, Millis};
use waystation_catalog::Catalog;
use waystation_host::{Broker, audit::Origin};
use waystation_net::Permits;

use super::failure::Failure;

use crate::Registry;

/// Bytes of a request's body.
pub const BODY_BYTES_MAX: usize = 32 << 20;
/// Bytes of all bodies held at a time.
pub const BUFFERED_BYTES_MAX: usize = 64 << 20;
/// How long the next part of a body may take.
const BODY_TIME: Duration = Duration::from_secs(30);
/// Unit in which buffered bytes are counted.
const UNIT: usize = 1024;

/// A listener as `overview` and the health checks name it.
#[derive(Clone, Debug)]
pub struct Endpoint {
    /// `amqp`, `amqp/ssl`, `http` and so on.
    pub protocol: &'static str,
    /// Where it listens.
    pub address: SocketAddr,
}

/// The state behind all requests.
pub(super) struct Desk {
    pub broker: Broker,
    pub catalog: Catalog,
    pub registry: Arc<Registry>,
    pub clock: Arc<dyn Clock>,
    pub started: Millis,
    pub version: &'static str,
    pub endpoints: Vec<Endpoint>,
    pub buffered: Permits,
}

/// What this server is called among nodes.
pub(super) const NODE: &str = "waystation@localhost";

impl Desk {
    pub fn access(&self) -> &Access {
        self.catalog.access()
    }
}

/// Where a request came from.
#[derive(Clone, Copy, Debug)]
pub(super) struct Peer(pub SocketAddr);

/// A user whom management lets in, with a broker that knows on whose behalf it acts.
pub(super) struct Who {
    pub caller: Caller,
    pub broker: Broker,
    /// Something is to be made: what is missing for that is then named.
    pub makes: bool,
}

impl Who {
    pub fn name(&self) -> String {
        self.caller.name().unwrap_or_default().to_owned()
    }

    pub fn tags(&self) -> Tags {
        self.caller.tags()
    }

    pub fn require_administrator(&self) -> Result<(), Failure> {
        require(self.tags().is_administrator(), "Not administrator user")
    }

    pub fn require_monitor(&self) -> Result<(), Failure> {
        require(self.tags().may_monitor(), "Not monitor user")
    }

    pub fn require_policymaker(&self) -> Result<(), Failure> {
        require(self.tags().may_make_policy(), "Not policymaker user")
    }

    /// Refuses what the user's permissions do not allow.
    pub fn require(&self, action: Action, host: &str, name: &str) -> Result<(), Failure> {
        if self.caller.may(action, host, name) { Ok(()) } else { Err(Failure::access_refused()) }
    }

    /// Whether things in a virtual host are shown to it.
    pub fn sees(&self, host: &str) -> bool {
        self.tags().may_monitor() || self.caller.may_enter(host)
    }

    /// Refuses a virtual host that is not there or not shown.
    pub fn see(&self, desk: &Desk, host: &str) -> Result<(), Failure> {
        self.visit(desk, host, self.sees(host))
    }

    /// Refuses a virtual host that is not there or that it may not work in.
    pub fn enter(&self, desk: &Desk, host: &str) -> Result<(), Failure> {
        self.visit(desk, host, self.caller.may_enter(host))
    }

    fn visit(&self, desk: &Desk, host: &str, allowed: bool) -> Result<(), Failure> {
        if desk.catalog.vhost(host).is_none() {
            let missing = || Failure::missing("vhost_not_found");
            return Err(if self.makes { missing() } else { Failure::not_found() });
        }
        require(allowed, "User not authorised to access virtual host")
    }
}

fn require(allowed: bool, otherwise: &str) -> Result<(), Failure> {
    if allowed { Ok(()) } else { Err(Failure::not_authorised(otherwise)) }
}

impl FromRequestParts<Arc<Desk>> for Who {
    type Rejection = Failure;

    async fn from_request_parts(parts: &mut Parts, desk: &Arc<Desk>) -> Result<Who, Failure> {
        let peer = parts.extensions.get::<Peer>().copied();
        let is_loopback = peer.is_some_and(|Peer(peer)| peer.ip().to_canonical().is_loopback());
        let proof = credentials(&parts.headers).ok_or_else(|| Failure::login_failed("Login failed"))?;
        let login = desk.access().login(&proof.0, &proof.1, is_loopback).await;
        let caller = login.map_err(|error| match error {
            LoginError::Refused => Failure::login_failed("Login failed"),
            LoginError::LoopbackOnly => Failure::login_failed("User can only log in via localhost"),
            LoginError::Busy => Failure::busy(error.to_string()),
        })?;
        // Everybody knows the guest's password: a web page in a browser on this machine could send it too.
        if caller.name() == Some(GUEST) && parts.method != Method::GET && is_foreign(&parts.headers) {
            return Err(Failure::not_authorised(
                "the browser says that another web page caused this request",
            ));
        }
        if !caller.tags().may_manage() {
            return Err(Failure::not_authorised("Not management user"));
        }
        let client = peer.map(|Peer(peer)| peer);
        let origin =
            Origin { door: "management", who: caller.name().map(str::to_owned), client, ..Origin::default() };
        let makes = matches!(parts.method, Method::PUT | Method::POST);
        Ok(Who { caller, broker: desk.broker.with_origin(origin), makes })
    }
}

/// Whether a browser says that another page caused a request.
fn is_foreign(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site").map(|value| value.as_bytes());
    let place = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = place(header::ORIGIN).map(|origin| origin.split_once("://").map(|(_, place)| place));
    !matches!(site, None | Some(b"same-origin" | b"none"))
        || origin.is_some_and(|it| it != place(header::HOST))
}

/// User and password (RFC 7617).
fn credentials(headers: &HeaderMap) -> Option<(String, String)> {
    let (scheme, proof) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(proof.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.to_owned()))
}

/// A body that is a JSON object; none at all counts as an empty one.
#[derive(Clone, Debug, Default)]
pub(super) struct Object(pub Map<String, Value>);

impl FromRequest<Arc<Desk>> for Object {
    type Rejection = Failure;

    async fn from_request(request: Request, desk: &Arc<Desk>) -> Result<Object, Failure> {
        let bytes = whole(desk, request.into_body()).await?;
        if bytes.is_empty() {
            return Ok(Object::default());
        }
        serde_json::from_slice(&bytes).map(Object).map_err(|_| Failure::bad_request("not_json"))
    }
}

/// Reads a body within its own bound and within what all bodies may hold.
async fn whole(desk: &Desk, mut body: Body) -> Result<Bytes, Failure> {
    let busy = || Failure::busy("request bodies fill the memory that is set aside for them");
    let mut room = desk.buffered.take_many(1).ok_or_else(busy)?;
    let mut all = BytesMut::new();
    loop {
        let frame = timeout(BODY_TIME, body.frame()).await;
        let frame = frame.map_err(|_| Failure::bad_request("the body does not come"))?;
        let Some(frame) = frame else { return Ok(all.freeze()) };
        let frame = frame.map_err(|error| Failure::bad_request(format!("the body is cut: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        if all.len() + data.len() > BODY_BYTES_MAX {
            return Err(Failure::too_large(BODY_BYTES_MAX));
        }
        all.extend_from_slice(&data);
        let units = all.len().div_ceil(UNIT);
        if units > room.count() && !room.grow(units - room.count()) {
            return Err(busy());
        }
    }
}

impl Object {
    /// Refuses a body that lacks members, naming all of them in RabbitMQ's way.
    pub fn require(&self, names: &[&str]) -> Result<(), Failure> {
        let missing: Vec<String> = names
            .iter()
            .filter(|name| !self.0.contains_key(**name))
            .map(|name| format!("{{key_missing,{name}}}"))
            .collect();
        if missing.is_empty() {
            Ok(())
        } else {
            Err(Failure::bad_request(format!("[{}]", missing.join(","))))
        }
    }

    /// A truth value, which may be given as text.
    pub fn flag(&self, name: &str) -> Result<bool, Failure> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(false),
            Some(Value::Bool(value)) => Ok(*value),
            Some(Value::String(text)) if text == "true" => Ok(true),
            Some(Value::String(text)) if text == "false" => Ok(false),
            Some(other) => Err(Failure::bad_request(serde_json::json!(["not_boolean", other]))),
        }
    }

    /// A text; none if it is not there.
    pub fn text(&self, name: &str) -> Result<Option<&str>, Failure> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(Failure::bad_request(serde_json::json!(["not_a_string", other]))),
        }
    }

    /// A whole number, which may be given as text.
    pub fn number(&self, name: &str) -> Result<Option<i64>, Failure> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => {
                let parsed = value.as_i64().or_else(|| value.as_str().and_then(|text| text.parse().ok()));
                parsed
                    .map(Some)
                    .ok_or_else(|| Failure::bad_request(serde_json::json!(["not_integer", value])))
            }
        }
    }

    /// An object; an empty one if it is not there, or is the empty list that PHP makes of it.
    pub fn object(&self, name: &str) -> Result<Map<String, Value>, Failure> {
        match self.0.get(name) {
            None | Some(Value::Null) => Ok(Map::new()),
            Some(Value::Object(map)) => Ok(map.clone()),
            Some(Value::Array(list)) if list.is_empty() => Ok(Map::new()),
            Some(other) => Err(Failure::bad_request(serde_json::json!(["not_a_json_object", other]))),
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[tokio::test]
    async fn a_body_holds_at_its_bound_and_is_refused_past_it() {
        const { assert!(BUFFERED_BYTES_MAX >= BODY_BYTES_MAX) };
        let object = |value: Value| match value {
            Value::Object(map) => Object(map),
            _ => panic!("an object"),
        };
        let body = object(serde_json::json!({"a": "true", "b": 5, "c": "7", "d": [], "e": "x"}));
        assert_eq!((body.flag("a"), body.flag("none")), (Ok(true), Ok(false)));
        assert_eq!(
            (body.number("b"), body.number("c"), body.number("none")),
            (Ok(Some(5)), Ok(Some(7)), Ok(None))
        );
        assert!(body.number("e").is_err() && body.flag("e").is_err() && body.object("e").is_err());
        assert_eq!(body.object("d"), Ok(Map::new()));
        let missing = body.require(&["a", "x", "y"]).expect_err("missing");
        assert_eq!(missing.reason, "[{key_missing,x},{key_missing,y}]");
    }

    #[test]
    fn a_foreign_web_page_is_told_by_its_headers() {
        let check = |pairs: &[(&'static str, &'static str)]| {
            let pair = |(name, value): &(&'static str, &'static str)| {
                (header::HeaderName::from_static(name), HeaderValue::from_static(value))
            };
            is_foreign(&pairs.iter().map(pair).collect())
        };
        assert!(!check(&[]));
        assert!(!check(&[("origin", "http://localhost:15672"), ("host", "localhost:15672")]));
        assert!(check(&[("origin", "http://evil.example"), ("host", "localhost:15672")]));
        assert!(check(&[("sec-fetch-site", "cross-site")]));
    }
}
