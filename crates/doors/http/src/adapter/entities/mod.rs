//! How are queues, topics, subscriptions and routes declared, listed, looked at, changed, purged and deleted?

mod kinds;

use std::sync::Arc;

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use waystation_base::Name;
use waystation_broker::{
    Kind as Thing, Refusal, SessionId,
    command::{Counted, Delete},
    spec::{QueueSpec, Spec, SubscriptionSpec, TopicSpec},
    view::{QueueInfo, RouteInfo, SubscriptionInfo, TopicInfo},
};
use waystation_host::View;

pub(super) use self::kinds::{Entity, Route};
use self::kinds::{Queue, Subscription, Topic};
use super::{
    declared::declared,
    extract::{self, Named, Params, at_most},
    ok,
    params::{PageParams, PutParams},
};
use crate::{
    api::{Declaration, List, Problem, Removed},
    auth::{Caller, Permission},
    door::Door,
    failure::Failure,
    limits::PAGE_ENTITIES_MAX,
    wire,
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct DeleteParams {
    /// Only without consumers; a topic: without subscriptions; a route: without bindings.
    #[serde(default)]
    if_unused: bool,
    /// Only without messages.
    #[serde(default)]
    if_empty: bool,
}

pub(super) async fn info_of<E: Entity>(door: &Door, name: &Name) -> Result<E::Info, Failure> {
    let asked = name.clone();
    let info = door.broker.query(move |view| E::info(view, &asked)).await?;
    let absent = || Refusal::NotFound { kind: E::THING, name: name.to_string() }.into();
    info.ok_or_else(absent)
}

async fn declare<E: Entity>(
    door: &Door,
    caller: &Caller,
    name: Name,
    spec: E::Spec,
    change: bool,
) -> Result<Response, Failure> {
    E::check(caller, &spec)?;
    let spec = E::spec(spec);
    spec.check().map_err(Refusal::from)?;
    if let Spec::Queue(queue) = &spec {
        check_operations(door, &name, queue).await?;
    }
    let done = caller.broker(&door.broker).declare(name, spec, change, SessionId::default()).await?;
    declared(done, false)
}

/// A queue may not come to give up requests before the operations do whose they are.
async fn check_operations(door: &Door, name: &Name, queue: &QueueSpec) -> Result<(), Failure> {
    if queue.max_attempts.is_none() {
        return Ok(());
    }
    let all = door.calls.operations().await;
    let theirs =
        all.iter().filter(|(operation, spec)| spec.queue_name(operation).is_ok_and(|it| it == *name));
    for (operation, spec) in theirs {
        spec.check_queue(name, queue.max_attempts).map_err(|error| {
            let (most, wanted) = (queue.max_attempts.unwrap_or_default(), spec.max_attempts);
            let reason = format!(
                "operation '{operation}' tries {wanted} times, and its calls would not hear of a queue that gives up after {most}: set \
                 this to {wanted} at least, or the operation's max_attempts lower first"
            );
            Failure::field(error.field, reason)
        })?;
    }
    Ok(())
}

pub(super) async fn put<E: Entity>(
    door: Arc<Door>,
    caller: Caller,
    name: Name,
    params: PutParams,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    caller.require(Permission::Configure, &name)?;
    let _permit = door.begin_request()?;
    let body = extract::body(&door, &headers, body).await?;
    put_whole::<E>(&door, &caller, name, params, &body.bytes).await
}

/// The same for a body that has been read.
pub(super) async fn put_whole<E: Entity>(
    door: &Door,
    caller: &Caller,
    name: Name,
    params: PutParams,
    body: &[u8],
) -> Result<Response, Failure> {
    // A PUT without a body asks for all defaults.
    let text = if body.is_empty() { &b"{}"[..] } else { body };
    let spec: E::Spec = wire::json::parse_owned(text)?;
    declare::<E>(door, caller, name, spec, params.change).await
}

/// Members that are changed as a whole: what is left of the old one would say something else.
const WHOLE: [&str; 2] = ["filter", "arguments"];

/// Merges members into a declaration (RFC 7396).
pub(super) fn merge(spec: &mut serde_json::Value, changes: serde_json::Map<String, serde_json::Value>) {
    use serde_json::Value;
    let Some(members) = spec.as_object_mut() else { return };
    for (member, value) in changes {
        match value {
            Value::Null => drop(members.remove(&member)),
            Value::Object(inner) if !WHOLE.contains(&member.as_str()) => {
                let place = members.entry(member).or_insert(Value::Null);
                if !place.is_object() {
                    *place = Value::Object(serde_json::Map::new());
                }
                merge(place, inner);
            }
            mut value => {
                wire::json::make_whole(&mut value);
                members.insert(member, value);
            }
        }
    }
}

/// A route as it is shown.
pub(super) fn route_info(view: &View<'_>, name: &Name) -> Option<RouteInfo> {
    Route::info(view, name)
}

/// Merges members into the present declaration (RFC 7396): null takes a member back to its default.
pub(super) async fn patch<E: Entity>(
    door: Arc<Door>,
    caller: Caller,
    name: Name,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    caller.require(Permission::Configure, &name)?;
    let _permit = door.begin_request()?;
    let body = extract::body(&door, &headers, body).await?;
    let changes: serde_json::Map<String, serde_json::Value> = wire::json::parse_owned(&body.bytes)?;
    let info = info_of::<E>(&door, &name).await?;
    let mut spec = serde_json::to_value(E::spec_of(&info)).map_err(Failure::internal)?;
    merge(&mut spec, changes);
    let spec = serde_json::from_value(spec).map_err(|error| Failure::field("body", error))?;
    declare::<E>(&door, &caller, name, spec, true).await
}

pub(super) async fn get<E: Entity>(door: Arc<Door>, caller: Caller, name: Name) -> Result<Response, Failure> {
    caller.require_sight(&name)?;
    ok(&info_of::<E>(&door, &name).await?)
}

async fn list<E: Entity>(door: Arc<Door>, caller: Caller, params: PageParams) -> Result<Response, Failure> {
    let limit = at_most("limit", params.limit.unwrap_or(100), 1, PAGE_ENTITIES_MAX)?;
    let _permit = door.begin_request()?;
    let after = params.after;
    let page = door.broker.query(move |view| {
        let names = view.names(E::THING, after.as_deref(), limit);
        let next = names.last().filter(|_| names.len() == limit).map(Name::to_string);
        let seen = names.into_iter().filter(|name| caller.may_see(name));
        List { items: seen.filter_map(|name| E::info(view, &name)).collect(), next }
    });
    ok(&page.await?)
}

pub(super) async fn delete<E: Entity>(
    door: Arc<Door>,
    caller: Caller,
    name: Name,
    params: DeleteParams,
) -> Result<Response, Failure> {
    caller.require(Permission::Configure, &name)?;
    let _permit = door.begin_request()?;
    let DeleteParams { if_unused, if_empty } = params;
    door.kinds.forget(&name);
    let delete = Delete {
        kind: E::THING,
        name,
        if_unused,
        if_empty,
        counted: Counted::All,
        session: SessionId::default(),
    };
    ok(&Removed { removed: caller.broker(&door.broker).delete(delete).await? })
}

/// Drops every message of a queue that no consumer holds.
#[utoipa::path(post, path = "/v1/queues/{name}/purge", tag = "queues", params(("name" = String, Path)), responses(
    (status = 200, description = "Purged", body = Removed),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn purge(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Response, Failure> {
    caller.require(Permission::Configure, &name)?;
    let _permit = door.begin_request()?;
    super::kinds::require(&door, &name, Thing::Queue).await?;
    ok(&Removed { removed: caller.broker(&door.broker).purge(name).await? })
}

/// The routes of one kind, with their descriptions.
macro_rules! entity {
    ($module:ident, $entity:ident, $spec:ty, $info:ty, $tag:literal, $one:literal, $all:literal) => {
        mod $module {
            use super::*;

            /// Make it, or find that it is there just so.
            #[utoipa::path(
                put, path = $one, tag = $tag, operation_id = concat!("declare_", $tag),
                params(("name" = String, Path), PutParams), request_body = $spec,
                responses(
                    (status = 201, description = "Created", body = Declaration),
                    (status = 200, description = "There already, or changed", body = Declaration),
                    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
                ),
            )]
            pub async fn put(
                State(door): State<Arc<Door>>,
                caller: Caller,
                Named(name): Named,
                Params(params): Params<PutParams>,
                headers: HeaderMap,
                body: Body,
            ) -> Result<Response, Failure> {
                super::put::<$entity>(door, caller, name, params, headers, body).await
            }

            /// Change the members that are given; null takes one back to its default.
            #[utoipa::path(
                patch, path = $one, tag = $tag, operation_id = concat!("change_", $tag),
                params(("name" = String, Path)), request_body = $spec,
                responses(
                    (status = 200, description = "Changed, or so already", body = Declaration),
                    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
                ),
            )]
            pub async fn patch(
                State(door): State<Arc<Door>>,
                caller: Caller,
                Named(name): Named,
                headers: HeaderMap,
                body: Body,
            ) -> Result<Response, Failure> {
                super::patch::<$entity>(door, caller, name, headers, body).await
            }

            /// Show it as it is now.
            #[utoipa::path(
                get, path = $one, tag = $tag, operation_id = concat!("show_", $tag),
                params(("name" = String, Path)),
                responses(
                    (status = 200, description = "As it is now", body = $info),
                    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
                ),
            )]
            pub async fn get(
                State(door): State<Arc<Door>>,
                caller: Caller,
                Named(name): Named,
            ) -> Result<Response, Failure> {
                super::get::<$entity>(door, caller, name).await
            }

            /// Delete it with what it holds.
            #[utoipa::path(
                delete, path = $one, tag = $tag, operation_id = concat!("delete_", $tag),
                params(("name" = String, Path), DeleteParams),
                responses(
                    (status = 200, description = "Deleted", body = Removed),
                    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
                ),
            )]
            pub async fn delete(
                State(door): State<Arc<Door>>,
                caller: Caller,
                Named(name): Named,
                Params(params): Params<DeleteParams>,
            ) -> Result<Response, Failure> {
                super::delete::<$entity>(door, caller, name, params).await
            }

            /// List them, in order of names.
            #[utoipa::path(
                get, path = $all, tag = $tag, operation_id = concat!("list_", $tag),
                params(PageParams),
                responses(
                    (status = 200, description = "A page", body = List<$info>),
                    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
                ),
            )]
            pub async fn list(
                State(door): State<Arc<Door>>,
                caller: Caller,
                Params(params): Params<PageParams>,
            ) -> Result<Response, Failure> {
                super::list::<$entity>(door, caller, params).await
            }
        }
    };
}

entity!(queues, Queue, QueueSpec, QueueInfo, "queues", "/v1/queues/{name}", "/v1/queues");
entity!(topics, Topic, TopicSpec, TopicInfo, "topics", "/v1/topics/{name}", "/v1/topics");
entity!(
    subscriptions,
    Subscription,
    SubscriptionSpec,
    SubscriptionInfo,
    "subscriptions",
    "/v1/subscriptions/{name}",
    "/v1/subscriptions"
);

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new()
        .routes(routes!(queues::put, queues::patch, queues::get, queues::delete))
        .routes(routes!(queues::list))
        .routes(routes!(topics::put, topics::patch, topics::get, topics::delete))
        .routes(routes!(topics::list))
        .routes(routes!(subscriptions::put, subscriptions::patch, subscriptions::get, subscriptions::delete))
        .routes(routes!(subscriptions::list))
        .routes(routes!(purge))
}
