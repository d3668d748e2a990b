//! How are users permitted to do things in virtual hosts, and on the routing keys of topic exchanges?

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use waystation_access as access;

use super::{absent, declared};
use crate::{
    adapter::{
        extract::{self, Params},
        ok,
    },
    api::{
        Declaration, Declared, List, Permission, PermissionSpec, Problem, Removed, TopicPermission,
        TopicPermissionSpec,
    },
    auth::Caller,
    door::Door,
    failure::Failure,
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct OfParams {
    /// Only this user's.
    user: Option<String>,
    /// Only those in this virtual host.
    vhost: Option<String>,
}

impl OfParams {
    fn means(&self, user: &str, vhost: &str) -> bool {
        self.user.as_deref().is_none_or(|it| it == user) && self.vhost.as_deref().is_none_or(|it| it == vhost)
    }
}

fn show(it: access::Permission) -> Permission {
    let access::Permission { user, vhost, configure, write, read } = it;
    Permission { user, vhost, configure, write, read }
}

fn show_topic(it: access::TopicPermission) -> TopicPermission {
    let access::TopicPermission { user, vhost, exchange, write, read } = it;
    TopicPermission { user, vhost, exchange, write, read }
}

/// What a grant did to what was there before.
fn outcome<T: PartialEq>(before: Option<&T>, now: &T) -> Declared {
    match before {
        None => Declared::Created,
        Some(before) if before == now => Declared::Unchanged,
        Some(_) => Declared::Changed,
    }
}

/// List permissions, by virtual host and user.
#[utoipa::path(get, path = "/v1/permissions", tag = "access", operation_id = "list_permissions",
    params(OfParams), responses(
    (status = 200, description = "All of them", body = List<Permission>),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<OfParams>,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let all = door.access().permissions().into_iter().filter(|it| params.means(&it.user, &it.vhost));
    ok(&List { items: all.map(show).collect(), next: None })
}

/// Say what a user may do in a virtual host.
#[utoipa::path(put, path = "/v1/permissions/{vhost}/{user}", tag = "access", operation_id = "grant_permission",
    params(("vhost" = String, Path), ("user" = String, Path)), request_body = PermissionSpec, responses(
    (status = 201, description = "It might do nothing there before", body = Declaration),
    (status = 200, description = "Changed, or so already", body = Declaration),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn put(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path((vhost, user)): Path<(String, String)>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let _permit = door.begin_request()?;
    let PermissionSpec { configure, write, read } =
        extract::json_or_defaults(&door, &headers, request).await?;
    door.catalog.vhost(&vhost).ok_or_else(|| absent("virtual host", &vhost))?;
    let permission = access::Permission { user, vhost, configure, write, read };
    let all = door.access().permissions();
    let before = all.iter().find(|it| it.user == permission.user && it.vhost == permission.vhost);
    let outcome = outcome(before, &permission);
    if outcome != Declared::Unchanged {
        door.access().put_permission(&caller.broker(&door.broker), permission).await?;
    }
    declared(outcome)
}

/// Take a user's permissions in a virtual host away.
#[utoipa::path(delete, path = "/v1/permissions/{vhost}/{user}", tag = "access", operation_id = "revoke_permission",
    params(("vhost" = String, Path), ("user" = String, Path)), responses(
    (status = 200, description = "Gone", body = Removed),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn delete(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path((vhost, user)): Path<(String, String)>,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let _permit = door.begin_request()?;
    match door.access().delete_permission(&caller.broker(&door.broker), &vhost, &user).await? {
        true => ok(&Removed { removed: 1 }),
        false => Err(absent("a permission of this user in virtual host", &vhost)),
    }
}

/// List topic permissions, by virtual host, user and exchange.
#[utoipa::path(get, path = "/v1/topic-permissions", tag = "access", operation_id = "list_topic_permissions",
    params(OfParams), responses(
    (status = 200, description = "All of them", body = List<TopicPermission>),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn list_topics(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<OfParams>,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let all = door.access().topic_permissions().into_iter().filter(|it| params.means(&it.user, &it.vhost));
    ok(&List { items: all.map(show_topic).collect(), next: None })
}

/// Narrow the routing keys of a topic exchange for a user.
#[utoipa::path(put, path = "/v1/topic-permissions/{vhost}/{user}/{exchange}", tag = "access",
    operation_id = "grant_topic_permission", request_body = TopicPermissionSpec,
    params(("vhost" = String, Path), ("user" = String, Path), ("exchange" = String, Path)), responses(
    (status = 201, description = "There was none before", body = Declaration),
    (status = 200, description = "Changed, or so already", body = Declaration),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn put_topic(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path((vhost, user, exchange)): Path<(String, String, String)>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let _permit = door.begin_request()?;
    let TopicPermissionSpec { write, read } = extract::json_or_defaults(&door, &headers, request).await?;
    door.catalog.vhost(&vhost).ok_or_else(|| absent("virtual host", &vhost))?;
    let permission = access::TopicPermission { user, vhost, exchange, write, read };
    let all = door.access().topic_permissions();
    let before = all.iter().find(|it| {
        it.user == permission.user && it.vhost == permission.vhost && it.exchange == permission.exchange
    });
    let outcome = outcome(before, &permission);
    if outcome != Declared::Unchanged {
        door.access().put_topic_permission(&caller.broker(&door.broker), permission).await?;
    }
    declared(outcome)
}

/// Take a user's topic permissions on an exchange away.
#[utoipa::path(delete, path = "/v1/topic-permissions/{vhost}/{user}/{exchange}", tag = "access",
    operation_id = "revoke_topic_permission",
    params(("vhost" = String, Path), ("user" = String, Path), ("exchange" = String, Path)), responses(
    (status = 200, description = "Gone", body = Removed),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn delete_topic(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path((vhost, user, exchange)): Path<(String, String, String)>,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let _permit = door.begin_request()?;
    let broker = caller.broker(&door.broker);
    match door.access().delete_topic_permissions(&broker, &vhost, &user, Some(&exchange)).await? {
        0 => Err(absent("a topic permission of this user on exchange", &exchange)),
        gone => ok(&Removed { removed: gone as u64 }),
    }
}

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(put, delete))
        .routes(routes!(list_topics))
        .routes(routes!(put_topic, delete_topic))
}
