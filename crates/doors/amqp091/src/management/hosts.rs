//! Virtual hosts: shown, made, changed, removed.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::{Value, json};
use waystation_catalog::Vhost;

use super::{
    desk::{Desk, NODE, Object, Who},
    failure::Failure,
    gather::{self, Found},
    list::Ask,
};
use crate::mapping::QueueType;

type Answer = Result<Json<Value>, Failure>;

fn show(host: &Vhost) -> Value {
    json!({
        "name": host.name,
        "description": host.description,
        "tags": host.tags,
        "default_queue_type": host.default_queue_type.as_deref().unwrap_or("undefined"),
        "metadata": {"description": host.description, "tags": host.tags},
        "tracing": false,
        "cluster_state": {NODE: "running"},
    })
}

async fn with_totals(who: &Who, host: &Vhost) -> Result<Value, Failure> {
    let mut shown = show(host);
    let (mut ready, mut held) = (0, 0);
    for found in gather::queues(&who.broker, Some(&host.name)).await? {
        match found {
            Found::Queue(info) => (ready, held) = (ready + info.ready, held + info.in_flight),
            Found::Stream(info) => {
                ready += info.partitions.iter().map(|it| it.end_offset - it.start_offset).sum::<u64>();
            }
        }
    }
    shown["messages"] = (ready + held).into();
    shown["messages_ready"] = ready.into();
    shown["messages_unacknowledged"] = held.into();
    Ok(shown)
}

pub(super) async fn vhosts(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    let mut items = Vec::new();
    for host in desk.catalog.vhosts().iter().filter(|host| who.sees(&host.name)) {
        items.push(show(host));
    }
    ask.apply(items).map(Json)
}

pub(super) async fn vhost(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(name): Path<String>,
) -> Answer {
    let host = desk.catalog.vhost(&name).ok_or_else(Failure::not_found)?;
    who.see(&desk, &name)?;
    Ok(Json(ask.one(with_totals(&who, &host).await?)))
}

/// A virtual host as a body describes it, on top of what it is.
pub(super) fn vhost_of(desk: &Desk, name: &str, body: &Object) -> Result<Vhost, Failure> {
    let mut host = desk.catalog.vhost(name).unwrap_or_default();
    host.name = name.to_owned();
    let metadata = Object(body.object("metadata")?);
    for body in [&metadata, body] {
        if let Some(description) = body.text("description")? {
            host.description = description.to_owned();
        }
        match body.0.get("tags") {
            Some(Value::String(text)) => {
                host.tags =
                    text.split(',').map(str::trim).filter(|tag| !tag.is_empty()).map(str::to_owned).collect();
            }
            Some(Value::Array(tags)) => {
                host.tags = tags.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            }
            _ => {}
        }
        match body.text("default_queue_type")? {
            None | Some("undefined") => {}
            Some(kind) if QueueType::read(kind).is_some() => host.default_queue_type = Some(kind.to_owned()),
            Some(kind) => return Err(Failure::bad_request(format!("unsupported queue type '{kind}'"))),
        }
    }
    Ok(host)
}

pub(super) async fn put(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path(name): Path<String>,
    body: Object,
) -> Result<StatusCode, Failure> {
    who.require_administrator()?;
    let host = vhost_of(&desk, &name, &body)?;
    let is_new = desk.catalog.put_vhost(&who.broker, host, Some(who.name())).await?;
    Ok(if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT })
}

pub(super) async fn delete(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    who.require_administrator()?;
    if desk.catalog.vhost(&name).is_none() {
        return Err(Failure::not_found());
    }
    desk.catalog.delete_vhost(&who.broker, &name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Everything runs where it is: there is nothing to start.
pub(super) async fn start(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((name, _node)): Path<(String, String)>,
) -> Result<StatusCode, Failure> {
    who.require_administrator()?;
    desk.catalog.vhost(&name).map(|_| StatusCode::NO_CONTENT).ok_or_else(Failure::not_found)
}
