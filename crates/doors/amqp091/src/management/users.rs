//! Users and their permissions: shown, made, changed, removed.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
    http::StatusCode,
};
use serde_json::{Value, json};
use waystation_access::{
    Algorithm, Credential, LimitsChange, Permission, Tags, TopicPermission, User, UserChange, UserLimits,
};

use super::{
    desk::{Desk, Object, Who},
    failure::Failure,
    limits,
    list::Ask,
};

type Answer = Result<Json<Value>, Failure>;
type Done = Result<StatusCode, Failure>;

fn created(is_new: bool) -> StatusCode {
    if is_new { StatusCode::CREATED } else { StatusCode::NO_CONTENT }
}

/// A user as the API and definitions show it.
pub(super) fn show(user: &User) -> Value {
    json!({
        "name": user.name,
        "password_hash": user.password_hash,
        "hashing_algorithm": user.hashing_algorithm.name(),
        "tags": user.tags.0,
        "limits": limits::of_user(&user.limits),
    })
}

/// A permission as the API and definitions show it.
pub(super) fn show_permission(it: &Permission) -> Value {
    json!({"user": it.user, "vhost": it.vhost, "configure": it.configure, "write": it.write, "read": it.read})
}

/// A topic permission as the API and definitions show it.
pub(super) fn show_topic(it: &TopicPermission) -> Value {
    json!({"user": it.user, "vhost": it.vhost, "exchange": it.exchange, "write": it.write, "read": it.read})
}

/// What a body makes of a user.
pub(super) fn change_of(name: &str, body: &Object) -> Result<UserChange, Failure> {
    let tags = match body.0.get("tags") {
        None | Some(Value::Null) => return Err(Failure::bad_request("tags_not_present")),
        Some(Value::String(text)) => Tags::parse(text),
        Some(Value::Array(tags)) => Tags(tags.iter().filter_map(Value::as_str).map(str::to_owned).collect()),
        Some(other) => return Err(Failure::bad_request(json!(["invalid_tags", other]))),
    };
    let credential = match (body.text("password")?, body.text("password_hash")?) {
        (Some(""), _) | (None, Some("")) => Credential::Nothing,
        (Some(password), _) => Credential::Password(password.to_owned()),
        (None, Some(hash)) => Credential::Hash(algorithm(body)?, hash.to_owned()),
        (None, None) => Credential::Nothing,
    };
    let limits = match body.object("limits")? {
        given if given.is_empty() => LimitsChange::default(),
        given => {
            let mut limits = UserLimits::default();
            for (name, value) in &given {
                limits::set_of_user(name, value)?(&mut limits);
            }
            limits.into()
        }
    };
    let change = UserChange { name: name.to_owned(), credential, tags: Some(tags), limits };
    change.check()?;
    Ok(change)
}

fn algorithm(body: &Object) -> Result<Algorithm, Failure> {
    let Some(name) = body.text("hashing_algorithm")? else { return Ok(Algorithm::default()) };
    Algorithm::named(name)
        .ok_or_else(|| Failure::bad_request(format!("hashing_algorithm '{name}' is not supported")))
}

pub(super) async fn users(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    who.require_administrator()?;
    ask.apply(desk.access().users().iter().map(show).collect()).map(Json)
}

pub(super) async fn without_permissions(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    who.require_administrator()?;
    let permissions = desk.access().permissions();
    let lacks = |user: &&User| permissions.iter().all(|it| it.user != user.name);
    ask.apply(desk.access().users().iter().filter(lacks).map(show).collect()).map(Json)
}

pub(super) async fn whoami(who: Who) -> Json<Value> {
    Json(json!({"name": who.name(), "tags": who.tags().0}))
}

pub(super) async fn user(State(desk): State<Arc<Desk>>, who: Who, Path(name): Path<String>) -> Answer {
    who.require_administrator()?;
    desk.access().user(&name).map(|user| Json(show(&user))).ok_or_else(Failure::not_found)
}

pub(super) async fn put(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path(name): Path<String>,
    body: Object,
) -> Done {
    who.require_administrator()?;
    let change = change_of(&name, &body)?;
    Ok(created(desk.access().put_user_as(&who.broker, &who.caller, change).await?))
}

pub(super) async fn delete(State(desk): State<Arc<Desk>>, who: Who, Path(name): Path<String>) -> Done {
    who.require_administrator()?;
    desk.access().user(&name).ok_or_else(Failure::not_found)?;
    desk.access().delete_users(&who.broker, &[&name]).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn bulk_delete(State(desk): State<Arc<Desk>>, who: Who, body: Object) -> Done {
    who.require_administrator()?;
    body.require(&["users"])?;
    let Some(Value::Array(names)) = body.0.get("users") else {
        return Err(Failure::bad_request(json!(["not_a_list", body.0.get("users")])));
    };
    let names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
    if let Some(unknown) = names.iter().find(|name| desk.access().user(name).is_none()) {
        return Err(Failure::bad_request(json!(["no_such_user", unknown])));
    }
    desk.access().delete_users(&who.broker, &names).await?;
    Ok(StatusCode::NO_CONTENT)
}

pub(super) async fn permissions(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    who.require_administrator()?;
    ask.apply(desk.access().permissions().iter().map(show_permission).collect()).map(Json)
}

pub(super) async fn topic_permissions(State(desk): State<Arc<Desk>>, who: Who, ask: Ask) -> Answer {
    who.require_administrator()?;
    ask.apply(desk.access().topic_permissions().iter().map(show_topic).collect()).map(Json)
}

pub(super) async fn permissions_of_user(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path(name): Path<String>,
) -> Answer {
    who.require_administrator()?;
    desk.access().user(&name).ok_or_else(Failure::not_found)?;
    let all = desk.access().permissions();
    Ok(Json(all.iter().filter(|it| it.user == name).map(show_permission).collect()))
}

pub(super) async fn topic_permissions_of_user(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path(name): Path<String>,
) -> Answer {
    who.require_administrator()?;
    desk.access().user(&name).ok_or_else(Failure::not_found)?;
    let all = desk.access().topic_permissions();
    Ok(Json(all.iter().filter(|it| it.user == name).map(show_topic).collect()))
}

pub(super) async fn permissions_of_host(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path(host): Path<String>,
) -> Answer {
    who.require_administrator()?;
    desk.catalog.vhost(&host).ok_or_else(Failure::not_found)?;
    let all = desk.access().permissions();
    Ok(Json(all.iter().filter(|it| it.vhost == host).map(show_permission).collect()))
}

pub(super) async fn topic_permissions_of_host(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path(host): Path<String>,
) -> Answer {
    who.require_administrator()?;
    desk.catalog.vhost(&host).ok_or_else(Failure::not_found)?;
    let all = desk.access().topic_permissions();
    Ok(Json(all.iter().filter(|it| it.vhost == host).map(show_topic).collect()))
}

fn find(desk: &Desk, host: &str, user: &str) -> Result<Permission, Failure> {
    let all = desk.access().permissions();
    all.into_iter().find(|it| it.vhost == host && it.user == user).ok_or_else(Failure::not_found)
}

pub(super) async fn permission(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, user)): Path<(String, String)>,
) -> Answer {
    who.require_administrator()?;
    find(&desk, &host, &user).map(|it| Json(show_permission(&it)))
}

/// A permission as a body describes it.
pub(super) fn permission_of(host: &str, user: &str, body: &Object) -> Result<Permission, Failure> {
    body.require(&["configure", "write", "read"])?;
    let text = |name: &str| body.text(name).map(|text| text.unwrap_or_default().to_owned());
    let (configure, write, read) = (text("configure")?, text("write")?, text("read")?);
    let permission = Permission { user: user.to_owned(), vhost: host.to_owned(), configure, write, read };
    permission.check()?;
    Ok(permission)
}

pub(super) async fn put_permission(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, user)): Path<(String, String)>,
    body: Object,
) -> Done {
    who.require_administrator()?;
    let permission = permission_of(&host, &user, &body)?;
    desk.catalog.vhost(&host).ok_or_else(|| Failure::bad_request("vhost_or_user_not_found"))?;
    Ok(created(desk.access().put_permission(&who.broker, permission).await?))
}

pub(super) async fn delete_permission(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, user)): Path<(String, String)>,
) -> Done {
    who.require_administrator()?;
    let was_there = desk.access().delete_permission(&who.broker, &host, &user).await?;
    if was_there { Ok(StatusCode::NO_CONTENT) } else { Err(Failure::not_found()) }
}

pub(super) async fn topic_permissions_of(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, user)): Path<(String, String)>,
) -> Answer {
    who.require_administrator()?;
    let all = desk.access().topic_permissions();
    let of: Vec<Value> =
        all.iter().filter(|it| it.vhost == host && it.user == user).map(show_topic).collect();
    if of.is_empty() { Err(Failure::not_found()) } else { Ok(Json(of.into())) }
}

/// A topic permission as a body describes it.
pub(super) fn topic_of(host: &str, user: &str, body: &Object) -> Result<TopicPermission, Failure> {
    body.require(&["exchange", "write", "read"])?;
    let text = |name: &str| body.text(name).map(|text| text.unwrap_or_default().to_owned());
    let (exchange, write, read) = (text("exchange")?, text("write")?, text("read")?);
    let permission = TopicPermission { user: user.to_owned(), vhost: host.to_owned(), exchange, write, read };
    permission.check()?;
    Ok(permission)
}

pub(super) async fn put_topic_permission(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, user)): Path<(String, String)>,
    body: Object,
) -> Done {
    who.require_administrator()?;
    let permission = topic_of(&host, &user, &body)?;
    desk.catalog.vhost(&host).ok_or_else(|| Failure::bad_request("vhost_or_user_not_found"))?;
    Ok(created(desk.access().put_topic_permission(&who.broker, permission).await?))
}

async fn clear_topics(desk: &Desk, who: &Who, host: &str, user: &str, exchange: Option<&str>) -> Done {
    who.require_administrator()?;
    let gone = desk.access().delete_topic_permissions(&who.broker, host, user, exchange).await?;
    if gone > 0 { Ok(StatusCode::NO_CONTENT) } else { Err(Failure::not_found()) }
}

pub(super) async fn delete_topic_permissions(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, user)): Path<(String, String)>,
) -> Done {
    clear_topics(&desk, &who, &host, &user, None).await
}

pub(super) async fn delete_topic_permission(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, user, exchange)): Path<(String, String, String)>,
) -> Done {
    clear_topics(&desk, &who, &host, &user, Some(&exchange)).await
}
