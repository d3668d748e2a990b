//! Exchanges and queues: shown, declared, deleted, purged.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::{Map, Value, json};
use waystation_access::Action;
use waystation_base::vhost;
use waystation_broker::{
    Kind, Refusal, SessionId,
    command::{Counted, Delete},
    spec::{RouteKind, RouteSpec, Spec},
};

use super::{
    desk::{Desk, Object, Who},
    failure::Failure,
    gather::{self, Found},
    list::Ask,
    show,
};
use crate::mapping::{
    ExchangeAsk, Invalid, QueueAsk, check_same_exchange, check_same_queue, from_json, queue_spec, route_spec,
};

type Answer = Result<Json<Value>, Failure>;

/// What the default exchange is called in paths.
const DEFAULT_EXCHANGE: &str = "amq.default";

/// An exchange's name as a path has it.
pub(super) fn exchange_name(path: &str) -> &str {
    if path == DEFAULT_EXCHANGE { "" } else { path }
}

/// Nobody may make or remove what begins so.
fn is_reserved(name: &str) -> bool {
    name.is_empty() || name.starts_with("amq.")
}

fn show_found(desk: &Desk, found: &Found, consumers: &[crate::registry::ConsumerInfo]) -> Value {
    match found {
        Found::Queue(info) => show::queue(&desk.catalog, info, consumers),
        Found::Stream(info) => show::stream(&desk.catalog, info, consumers),
    }
}

/// What is left of a queue's figures for `disable_stats`.
fn bare(shown: Value, totals: bool) -> Value {
    const KEPT: &[&str] = &[
        "name",
        "vhost",
        "type",
        "durable",
        "auto_delete",
        "exclusive",
        "arguments",
        "node",
        "state",
        "policy",
        "leader",
        "members",
        "online",
    ];
    const TOTALS: &[&str] = &["messages", "messages_ready", "messages_unacknowledged"];
    let Value::Object(map) = shown else { return shown };
    let keep = |name: &str| KEPT.contains(&name) || (totals && TOTALS.contains(&name));
    Value::Object(map.into_iter().filter(|(name, _)| keep(name)).collect())
}

async fn list_queues(desk: &Desk, who: &Who, ask: &Ask, host: Option<&str>) -> Answer {
    let consumers = desk.registry.consumers();
    let found = gather::queues(&who.broker, host).await?;
    let seen = found.iter().filter(|it| who.sees(&vhost::of(it.name().as_str())));
    let shown = seen.map(|it| show_found(desk, it, &consumers));
    let items: Vec<Value> = match ask.is_true("disable_stats") {
        true => shown.map(|it| bare(it, ask.is_true("enable_queue_totals"))).collect(),
        false => shown.collect(),
    };
    ask.apply(items).map(Json)
}

pub(super) async fn queues(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    list_queues(&desk, &who, &ask, None).await
}

pub(super) async fn queues_of(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(host): Path<String>,
) -> Answer {
    who.see(&desk, &host)?;
    list_queues(&desk, &who, &ask, Some(&host)).await
}

pub(super) async fn queue(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path((host, name)): Path<(String, String)>,
) -> Answer {
    who.see(&desk, &host)?;
    let found = gather::queue(&who.broker, &host, &name).await?;
    let consumers: Vec<_> =
        desk.registry.consumers().into_iter().filter(|it| it.vhost == host && it.queue == name).collect();
    let mut shown = show_found(&desk, &found, &consumers);
    shown["consumer_details"] = consumers.iter().map(show::consumer).collect();
    Ok(Json(ask.one(shown)))
}

/// A queue or stream as a request body describes it.
pub(super) fn queue_of(host: &str, name: &str, body: &Object) -> Result<Spec, Failure> {
    with_ask(host, name, body, queue_spec)
}

fn with_ask<T>(
    host: &str,
    name: &str,
    body: &Object,
    work: impl FnOnce(&QueueAsk<'_>) -> Result<T, Invalid>,
) -> Result<T, Failure> {
    let arguments = from_json(&body.object("arguments")?);
    let ask = QueueAsk {
        vhost: host,
        name,
        durable: body.flag("durable")?,
        exclusive: false,
        auto_delete: body.flag("auto_delete")?,
        arguments: &arguments,
    };
    Ok(work(&ask)?)
}

/// Whether a queue or stream that is there is what a body describes.
pub(super) fn check_queue(host: &str, name: &str, body: &Object, current: &Spec) -> Result<(), Failure> {
    with_ask(host, name, body, |ask| check_same_queue(ask, current))
}

/// Whether an exchange that is there is what a body describes.
pub(super) fn check_exchange(
    host: &str,
    name: &str,
    body: &Object,
    current: &RouteSpec,
) -> Result<(), Failure> {
    with_exchange(host, name, body, |ask| check_same_exchange(ask, current))
}

/// Declares a queue, or finds it there just so; says whether it is new.
pub(super) async fn declare_queue(who: &Who, host: &str, name: &str, body: &Object) -> Result<bool, Failure> {
    let address = gather::address(host, name)?;
    let spec = queue_of(host, name, body)?;
    match gather::queue(&who.broker, host, name).await {
        Ok(found) => {
            let current = match found {
                Found::Queue(info) => Spec::Queue(info.spec),
                Found::Stream(info) => Spec::Topic(info.spec),
            };
            check_queue(host, name, body, &current)?;
            Ok(false)
        }
        Err(_) => {
            who.broker.declare(address, spec, false, SessionId::default()).await?;
            Ok(true)
        }
    }
}

fn created(is_new: bool) -> StatusCode {
    if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT }
}

pub(super) async fn put_queue(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, name)): Path<(String, String)>,
    mut body: Object,
) -> Result<StatusCode, Failure> {
    who.enter(&desk, &host)?;
    who.require(Action::Configure, &host, &name)?;
    let is_there = gather::queue(&who.broker, &host, &name).await.is_ok();
    if is_reserved(&name) && !is_there {
        return Err(Failure::access_refused());
    }
    use_default_type(&desk, &host, &mut body);
    declare_queue(&who, &host, &name, &body).await.map(created)
}

/// A queue without a type gets the one that its virtual host says.
fn use_default_type(desk: &Desk, host: &str, body: &mut Object) {
    let Some(kind) = desk.catalog.vhost(host).and_then(|host| host.default_queue_type) else { return };
    let arguments = body.0.entry("arguments").or_insert_with(|| Value::Object(Map::new()));
    if let Value::Object(arguments) = arguments {
        arguments.entry("x-queue-type").or_insert_with(|| kind.into());
    }
}

pub(super) async fn delete_queue(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path((host, name)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    who.enter(&desk, &host)?;
    let found = gather::queue(&who.broker, &host, &name).await?;
    who.require(Action::Configure, &host, &name)?;
    let (kind, session) = match &found {
        Found::Queue(info) => (Kind::Queue, info.owner.unwrap_or_default()),
        Found::Stream(_) => (Kind::Topic, SessionId::default()),
    };
    let (if_unused, if_empty) = (ask.is_true("if-unused"), ask.is_true("if-empty"));
    let delete =
        Delete { kind, name: found.name().clone(), if_unused, if_empty, counted: Counted::Ready, session };
    who.broker.delete(delete).await.map_err(|refusal| in_use(refusal, "queue", &host, &name))?;
    Ok(StatusCode::NO_CONTENT)
}

fn in_use(refusal: Refusal, what: &str, host: &str, name: &str) -> Failure {
    match refusal {
        Refusal::InUse { state, .. } => {
            let state =
                if state.contains("empty") || state.contains("message") { "not empty" } else { "in use" };
            Failure::bad_request(format!("{what} '{name}' in vhost '{host}' {state}"))
        }
        other => other.into(),
    }
}

pub(super) async fn purge(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, name)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    who.enter(&desk, &host)?;
    let found = gather::queue(&who.broker, &host, &name).await?;
    who.require(Action::Read, &host, &name)?;
    match found {
        Found::Queue(info) => who.broker.purge(info.name).await?,
        Found::Stream(_) => {
            return Err(Failure::bad_request(format!(
                "540 queue.purge not supported by stream queues queue '{name}' in vhost '{host}'"
            )));
        }
    };
    Ok(StatusCode::NO_CONTENT)
}

/// `sync` and `cancel_sync` are about mirrors, which are not there: done.
pub(super) async fn queue_action(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, name)): Path<(String, String)>,
    body: Object,
) -> Result<StatusCode, Failure> {
    who.enter(&desk, &host)?;
    gather::queue(&who.broker, &host, &name).await?;
    match body.text("action")? {
        Some("sync" | "cancel_sync") => Ok(StatusCode::NO_CONTENT),
        Some(other) => Err(Failure::bad_request(json!(["unknown", other]))),
        None => Err(Failure::bad_request("[{key_missing,action}]")),
    }
}

async fn list_exchanges(desk: &Desk, who: &Who, ask: &Ask, host: Option<&str>) -> Answer {
    let found = gather::exchanges(&who.broker, host).await?;
    let mut items = Vec::new();
    let hosts = desk.catalog.vhosts();
    for it in hosts.iter().filter(|it| host.is_none_or(|host| host == it.name) && who.sees(&it.name)) {
        items.push(show::default_exchange(&it.name));
    }
    let seen = found.iter().filter(|it| who.sees(&vhost::of(it.name.as_str())));
    items.extend(seen.map(|it| show::exchange(&desk.catalog, it)));
    let place =
        |item: &Value| (item["vhost"].as_str().map(str::to_owned), item["name"].as_str().map(str::to_owned));
    items.sort_by_cached_key(place);
    ask.apply(items).map(Json)
}

pub(super) async fn exchanges(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    list_exchanges(&desk, &who, &ask, None).await
}

pub(super) async fn exchanges_of(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(host): Path<String>,
) -> Answer {
    who.see(&desk, &host)?;
    list_exchanges(&desk, &who, &ask, Some(&host)).await
}

pub(super) async fn exchange(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path((host, name)): Path<(String, String)>,
) -> Answer {
    who.see(&desk, &host)?;
    let shown = match exchange_name(&name) {
        "" => show::default_exchange(&host),
        name => show::exchange(&desk.catalog, &gather::exchange(&who.broker, &host, name).await?),
    };
    Ok(Json(ask.one(shown)))
}

/// An exchange as a request body describes it; without a type it is a direct one.
pub(super) fn exchange_of(host: &str, name: &str, body: &Object) -> Result<RouteSpec, Failure> {
    with_exchange(host, name, body, route_spec)
}

fn with_exchange<T>(
    host: &str,
    name: &str,
    body: &Object,
    work: impl FnOnce(&ExchangeAsk<'_>) -> Result<T, Invalid>,
) -> Result<T, Failure> {
    let arguments = from_json(&body.object("arguments")?);
    let ask = ExchangeAsk {
        vhost: host,
        name,
        kind: body.text("type")?.unwrap_or("direct"),
        durable: body.flag("durable")?,
        auto_delete: body.flag("auto_delete")?,
        internal: body.flag("internal")?,
        arguments: &arguments,
    };
    Ok(work(&ask)?)
}

/// Declares an exchange, or finds it there just so; says whether it is new.
pub(super) async fn declare_exchange(
    who: &Who,
    host: &str,
    name: &str,
    body: &Object,
) -> Result<bool, Failure> {
    let address = gather::address(host, name)?;
    let spec = exchange_of(host, name, body)?;
    if let Ok(info) = gather::exchange(&who.broker, host, name).await {
        check_exchange(host, name, body, &info.spec)?;
        return Ok(false);
    }
    who.broker.declare(address, Spec::Route(spec), false, SessionId::default()).await?;
    Ok(true)
}

pub(super) async fn put_exchange(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, name)): Path<(String, String)>,
    body: Object,
) -> Result<StatusCode, Failure> {
    who.enter(&desk, &host)?;
    let name = exchange_name(&name);
    who.require(Action::Configure, &host, name)?;
    if is_reserved(name) && (name.is_empty() || gather::exchange(&who.broker, &host, name).await.is_err()) {
        return Err(Failure::access_refused());
    }
    declare_exchange(&who, &host, name, &body).await.map(created)
}

pub(super) async fn delete_exchange(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path((host, name)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    who.enter(&desk, &host)?;
    let name = exchange_name(&name);
    if is_reserved(name) {
        return Err(Failure::access_refused());
    }
    let info = gather::exchange(&who.broker, &host, name).await?;
    who.require(Action::Configure, &host, name)?;
    let if_unused = ask.is_true("if-unused");
    let session = SessionId::default();
    let delete = Delete {
        kind: Kind::Route,
        name: info.name,
        if_unused,
        if_empty: false,
        counted: Counted::All,
        session,
    };
    who.broker.delete(delete).await.map_err(|refusal| in_use(refusal, "exchange", &host, name))?;
    Ok(StatusCode::NO_CONTENT)
}

/// The kinds of exchanges, as `overview` and `nodes` list them.
pub(super) fn exchange_types() -> Value {
    let kinds = [RouteKind::Direct, RouteKind::Fanout, RouteKind::Headers, RouteKind::Topic];
    let types = kinds.map(|kind| crate::mapping::exchange_type(&RouteSpec::new(kind)));
    types
        .iter()
        .chain(&["x-delayed-message"])
        .map(|name| json!({"name": name, "description": "", "enabled": true}))
        .collect()
}
