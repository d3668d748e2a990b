//! How many queues and connections a virtual host may have, and how many connections and channels a user.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::{Map, Value, json};
use waystation_access::{User, UserLimits};
use waystation_broker::spec::VhostLimits;
use waystation_catalog::Vhost;

use super::{
    desk::{Desk, Object, Who},
    failure::Failure,
    list::Ask,
};

type Answer = Result<Json<Value>, Failure>;
type Done = Result<StatusCode, Failure>;

/// The component of the parameter that definitions carry a virtual host's limits in.
pub(super) const COMPONENT: &str = "vhost-limits";
/// The name of that parameter.
const PARAMETER: &str = "limits";
const MAX_QUEUES: &str = "max-queues";
const MAX_CONNECTIONS: &str = "max-connections";
const MAX_CHANNELS: &str = "max-channels";

fn known(pairs: [(&str, Option<u32>); 2]) -> Map<String, Value> {
    pairs.into_iter().filter_map(|(name, most)| Some((name.to_owned(), most?.into()))).collect()
}

/// RabbitMQ's limits of a virtual host.
fn of_vhost(limits: &VhostLimits) -> Map<String, Value> {
    known([(MAX_QUEUES, limits.max_queues), (MAX_CONNECTIONS, limits.max_connections)])
}

/// A user's limits, as definitions show them too.
pub(super) fn of_user(limits: &UserLimits) -> Map<String, Value> {
    known([(MAX_CONNECTIONS, limits.max_connections), (MAX_CHANNELS, limits.max_channels)])
}

/// A virtual host's limits as a parameter, which is how definitions carry them.
pub(super) fn as_parameter(host: &Vhost) -> Option<Value> {
    let value = of_vhost(&host.limits);
    let shown = json!({"vhost": host.name, "component": COMPONENT, "name": PARAMETER, "value": value});
    (!value.is_empty()).then_some(shown)
}

fn bound(name: &str, value: &Value) -> Result<Option<u32>, Failure> {
    match value.as_i64() {
        Some(..0) => Ok(None),
        Some(most) if most <= u32::MAX.into() => Ok(Some(most as u32)),
        _ => {
            Err(Failure::bad_request(format!("{name} must be a whole number; a negative one means no limit")))
        }
    }
}

fn unknown(name: &str) -> Failure {
    Failure::bad_request(format!("Unrecognised limit: {name}"))
}

/// What sets one of a virtual host's limits.
pub(super) fn set_of_vhost(
    name: &str,
    value: &Value,
) -> Result<impl FnOnce(&mut VhostLimits) + Send + use<>, Failure> {
    let place: fn(&mut VhostLimits) -> &mut Option<u32> = match name {
        MAX_QUEUES => |limits| &mut limits.max_queues,
        MAX_CONNECTIONS => |limits| &mut limits.max_connections,
        _ => return Err(unknown(name)),
    };
    let most = bound(name, value)?;
    Ok(move |limits: &mut VhostLimits| *place(limits) = most)
}

/// What sets one of a user's limits.
pub(super) fn set_of_user(
    name: &str,
    value: &Value,
) -> Result<impl FnOnce(&mut UserLimits) + Send + use<>, Failure> {
    let place: fn(&mut UserLimits) -> &mut Option<u32> = match name {
        MAX_CONNECTIONS => |limits| &mut limits.max_connections,
        MAX_CHANNELS => |limits| &mut limits.max_channels,
        _ => return Err(unknown(name)),
    };
    let most = bound(name, value)?;
    Ok(move |limits: &mut UserLimits| *place(limits) = most)
}

/// What sets a virtual host's limits to those of RabbitMQ's that definitions have.
pub(super) fn set_all_of_vhost(
    value: &Map<String, Value>,
) -> Result<impl FnOnce(&mut VhostLimits) + Send + use<>, Failure> {
    let sets: Vec<_> =
        value.iter().map(|(name, most)| set_of_vhost(name, most)).collect::<Result<_, Failure>>()?;
    Ok(move |limits: &mut VhostLimits| {
        (limits.max_queues, limits.max_connections) = (None, None);
        sets.into_iter().for_each(|set| set(limits));
    })
}

fn show_vhosts(desk: &Desk, who: &Who, only: Option<&str>) -> Vec<Value> {
    let hosts = desk.catalog.vhosts();
    let meant = hosts.iter().filter(|it| who.sees(&it.name) && only.is_none_or(|only| only == it.name));
    let shown = meant.map(|it| (it, of_vhost(&it.limits))).filter(|(_, value)| !value.is_empty());
    shown.map(|(it, value)| json!({"vhost": it.name, "value": value})).collect()
}

pub(super) async fn vhosts(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    ask.apply(show_vhosts(&desk, &who, None)).map(Json)
}

pub(super) async fn vhost(State(desk): State<Arc<Desk>>, who: Who, Path(host): Path<String>) -> Answer {
    who.see(&desk, &host)?;
    Ok(Json(show_vhosts(&desk, &who, Some(&host)).into()))
}

async fn change_vhost(desk: &Desk, who: &Who, host: &str, name: &str, value: &Value) -> Done {
    who.require_administrator()?;
    let set = set_of_vhost(name, value)?;
    desk.catalog.vhost(host).ok_or_else(Failure::not_found)?;
    desk.catalog.change_limits(&who.broker, host, set).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn put_vhost(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, name)): Path<(String, String)>,
    body: Object,
) -> Done {
    body.require(&["value"])?;
    change_vhost(&desk, &who, &host, &name, &body.0["value"]).await
}

pub(super) async fn delete_vhost(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, name)): Path<(String, String)>,
) -> Done {
    change_vhost(&desk, &who, &host, &name, &json!(-1)).await
}

fn show_users(users: &[User]) -> Vec<Value> {
    let shown = users.iter().map(|it| (it, of_user(&it.limits))).filter(|(_, value)| !value.is_empty());
    shown.map(|(it, value)| json!({"user": it.name, "value": value})).collect()
}

pub(super) async fn users(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    who.require_monitor()?;
    ask.apply(show_users(&desk.access().users())).map(Json)
}

pub(super) async fn user(State(desk): State<Arc<Desk>>, who: Who, Path(name): Path<String>) -> Answer {
    who.require_monitor()?;
    let user = desk.access().user(&name).ok_or_else(Failure::not_found)?;
    Ok(Json(show_users(&[user]).into()))
}

async fn change_user(desk: &Desk, who: &Who, user: &str, name: &str, value: &Value) -> Done {
    who.require_administrator()?;
    let set = set_of_user(name, value)?;
    desk.access().user(user).ok_or_else(Failure::not_found)?;
    desk.access().change_limits(&who.broker, user, set).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn put_user(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((user, name)): Path<(String, String)>,
    body: Object,
) -> Done {
    body.require(&["value"])?;
    change_user(&desk, &who, &user, &name, &body.0["value"]).await
}

pub(super) async fn delete_user(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((user, name)): Path<(String, String)>,
) -> Done {
    change_user(&desk, &who, &user, &name, &json!(-1)).await
}
