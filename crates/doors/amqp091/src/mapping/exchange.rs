//! What does `exchange.declare` ask for? A route, refused in RabbitMQ's words where wrong.

use waystation_base::{value::Value, vhost};
use waystation_broker::spec::{RouteKind, RouteSpec};

use super::{
    Invalid,
    types::{to_json, type_name},
};
use crate::wire::{ReplyCode, Table};

/// A declaration as the client put it.
#[derive(Clone, Copy, Debug)]
pub struct ExchangeAsk<'a> {
    /// Its virtual host.
    pub vhost: &'a str,
    /// Its name.
    pub name: &'a str,
    /// Its type: `direct` and so on.
    pub kind: &'a str,
    /// There after a restart.
    pub durable: bool,
    /// Goes when its last binding has gone.
    pub auto_delete: bool,
    /// Not for clients to publish to.
    pub internal: bool,
    /// `alternate-exchange`, `x-delayed-type` and any others.
    pub arguments: &'a Table,
}

/// The type of exchanges that hold a message back for as long as its `x-delay` says.
const DELAYED: &str = "x-delayed-message";
const DELAYED_TYPE: &str = "x-delayed-type";
const DELAY_HEADER: &str = "x-delay";
const ALTERNATE: &str = "alternate-exchange";

fn kind_of(text: &str) -> Option<RouteKind> {
    Some(match text {
        "direct" => RouteKind::Direct,
        "fanout" => RouteKind::Fanout,
        "topic" => RouteKind::Topic,
        "headers" => RouteKind::Headers,
        _ => return None,
    })
}

/// The type of a route that is there, as AMQP names it.
pub fn exchange_type(spec: &RouteSpec) -> &'static str {
    if spec.delay_header.is_some() {
        return DELAYED;
    }
    match spec.kind {
        RouteKind::Direct => "direct",
        RouteKind::Fanout => "fanout",
        RouteKind::Topic => "topic",
        RouteKind::Headers => "headers",
    }
}

/// The route that is asked for.
pub fn route_spec(ask: &ExchangeAsk<'_>) -> Result<RouteSpec, Invalid> {
    let delayed = ask.kind == DELAYED;
    let kind = if delayed { delayed_kind(ask)? } else { plain_kind(ask)? };
    let alternate = match ask.arguments.get(ALTERNATE) {
        None => None,
        Some(Value::String(name)) => Some(vhost::join(ask.vhost, name)),
        Some(other) => {
            let (found, name, vhost) = (type_name(other), ask.name, ask.vhost);
            return Err(Invalid::precondition(format!(
                "invalid type '{found}' for arg '{ALTERNATE}' in exchange '{name}' in vhost '{vhost}'"
            )));
        }
    };
    Ok(RouteSpec {
        kind,
        durable: ask.durable,
        auto_delete: ask.auto_delete,
        internal: ask.internal,
        alternate: alternate.filter(|name| !name.is_empty()),
        delay_header: delayed.then(|| DELAY_HEADER.to_owned()),
        business: None,
        arguments: to_json(ask.arguments),
    })
}

fn plain_kind(ask: &ExchangeAsk<'_>) -> Result<RouteKind, Invalid> {
    kind_of(ask.kind).ok_or_else(|| Invalid {
        code: ReplyCode::CommandInvalid,
        text: format!("unknown exchange type '{}'", ask.kind),
    })
}

fn delayed_kind(ask: &ExchangeAsk<'_>) -> Result<RouteKind, Invalid> {
    let kind = ask.arguments.get(DELAYED_TYPE).and_then(Value::as_str).and_then(kind_of);
    kind.ok_or_else(|| {
        let text = format!("Invalid argument, '{DELAYED_TYPE}' must be an existing exchange type");
        Invalid::precondition(text)
    })
}
