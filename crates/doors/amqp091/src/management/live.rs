//! Connections, channels and consumers: shown as they are now; a connection can be closed.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::{HeaderMap, StatusCode},
};
use serde_json::Value;

use super::{
    desk::{Desk, Who},
    failure::Failure,
    list::Ask,
    show,
};
use crate::registry::{ChannelInfo, ConnectionInfo};

type Answer = Result<Json<Value>, Failure>;

/// What is told to a client that is closed from here without a reason.
const REASON: &str = "Closed via management plugin";

/// Monitors see all; others what they have open themselves.
fn is_shown(who: &Who, user: &str) -> bool {
    who.tags().may_monitor() || who.caller.name() == Some(user)
}

fn connections_where(
    desk: &Desk,
    who: &Who,
    is_meant: impl Fn(&ConnectionInfo) -> bool,
) -> Vec<ConnectionInfo> {
    let mut all = desk.registry.connections();
    all.retain(|it| is_shown(who, &it.user) && is_meant(it));
    all
}

fn channels_where(desk: &Desk, who: &Who, is_meant: impl Fn(&ChannelInfo) -> bool) -> Vec<Value> {
    let all = desk.registry.channels();
    all.iter().filter(|it| is_shown(who, &it.user) && is_meant(it)).map(show::channel).collect()
}

pub(super) async fn connections(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    ask.apply(connections_where(&desk, &who, |_| true).iter().map(show::connection).collect()).map(Json)
}

pub(super) async fn connections_in(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(host): Path<String>,
) -> Answer {
    who.see(&desk, &host)?;
    let found = connections_where(&desk, &who, |it| it.vhost == host);
    ask.apply(found.iter().map(show::connection).collect()).map(Json)
}

pub(super) async fn connections_by(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(user): Path<String>,
) -> Answer {
    let found = connections_where(&desk, &who, |it| it.user == user);
    ask.apply(found.iter().map(show::connection).collect()).map(Json)
}

fn find(desk: &Desk, who: &Who, name: &str) -> Result<ConnectionInfo, Failure> {
    let found = desk.registry.connections().into_iter().find(|it| it.name == name);
    let info = found.ok_or_else(Failure::not_found)?;
    if is_shown(who, &info.user) { Ok(info) } else { Err(Failure::not_authorised("User not authorised")) }
}

pub(super) async fn connection(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(name): Path<String>,
) -> Answer {
    Ok(Json(ask.one(show::connection(&find(&desk, &who, &name)?))))
}

fn reason(headers: &HeaderMap) -> String {
    let given = headers.get("x-reason").and_then(|value| value.to_str().ok());
    given.unwrap_or(REASON).to_owned()
}

/// Others' connections are an administrator's to close.
fn may_close(who: &Who, info: &ConnectionInfo) -> Result<(), Failure> {
    if who.caller.name() == Some(info.user.as_str()) { Ok(()) } else { who.require_administrator() }
}

pub(super) async fn close(
    State(desk): State<Arc<Desk>>,
    who: Who,
    headers: HeaderMap,
    Path(name): Path<String>,
) -> Result<StatusCode, Failure> {
    may_close(&who, &find(&desk, &who, &name)?)?;
    // One that has gone since is closed too.
    desk.registry.close(&name, &reason(&headers));
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn close_by(
    State(desk): State<Arc<Desk>>,
    who: Who,
    headers: HeaderMap,
    Path(user): Path<String>,
) -> Result<StatusCode, Failure> {
    if who.caller.name() != Some(user.as_str()) {
        who.require_administrator()?;
    }
    desk.registry.close_where(|it| it.user == user, &reason(&headers));
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn channels(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    ask.apply(channels_where(&desk, &who, |_| true)).map(Json)
}

pub(super) async fn channels_in(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(host): Path<String>,
) -> Answer {
    who.see(&desk, &host)?;
    ask.apply(channels_where(&desk, &who, |it| it.vhost == host)).map(Json)
}

pub(super) async fn channels_of(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(name): Path<String>,
) -> Answer {
    find(&desk, &who, &name)?;
    ask.apply(channels_where(&desk, &who, |it| it.connection == name)).map(Json)
}

pub(super) async fn channel(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(name): Path<String>,
) -> Answer {
    let found = channels_where(&desk, &who, |it| format!("{} ({})", it.connection, it.number) == name);
    let mut shown = found.into_iter().next().ok_or_else(Failure::not_found)?;
    let consumers = desk.registry.consumers();
    let mine = consumers.iter().map(show::consumer).filter(|it| it["channel_details"]["name"] == *name);
    shown["consumer_details"] = mine.collect();
    Ok(Json(ask.one(shown)))
}

fn consumers_where(desk: &Desk, who: &Who, host: Option<&str>) -> Vec<Value> {
    let all = desk.registry.consumers();
    let seen = all.iter().filter(|it| who.sees(&it.vhost) && host.is_none_or(|host| it.vhost == host));
    seen.map(show::consumer).collect()
}

pub(super) async fn consumers(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    ask.apply(consumers_where(&desk, &who, None)).map(Json)
}

pub(super) async fn consumers_in(
    State(desk): State<Arc<Desk>>,
    who: Who,
    ask: Ask,
    Path(host): Path<String>,
) -> Answer {
    who.see(&desk, &host)?;
    ask.apply(consumers_where(&desk, &who, Some(&host))).map(Json)
}
