//! How are pushes declared, looked at, paused, resumed, tried and deleted?

use std::sync::Arc;

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use utoipa_axum::{router::OpenApiRouter, routes};
use waystation_base::Name;
use waystation_webhooks::push::{self, PushInfo, PushSpec, Tested};

use super::{
    declared::{changed, declared},
    extract::{self, Named, Params, at_most},
    ok,
    params::{PageParams, TryPutParams},
};
use crate::{
    api::{Declaration, List, Problem, Removed},
    auth::{Caller, Permission},
    door::Door,
    failure::{Failure, Kind},
    limits::PAGE_ENTITIES_MAX,
};

impl From<push::Error> for Failure {
    fn from(error: push::Error) -> Failure {
        match error {
            push::Error::NotFound(_) => Failure::new(Kind::NotFound, error),
            push::Error::Differs(_) => Failure::new(Kind::Exists, error),
            push::Error::Invalid(invalid) => Failure::field(invalid.field, invalid.reason),
            push::Error::Limit => Failure::new(Kind::Limit, error),
            push::Error::Refused(refusal) => refusal.into(),
        }
    }
}

/// A push reads its source and writes its dead letters on behalf of whoever declares it.
fn check(caller: &Caller, name: &Name, spec: &PushSpec) -> Result<(), Failure> {
    caller.require(Permission::Configure, name)?;
    let source = spec.source().map_err(|invalid| Failure::field(invalid.field, invalid.reason))?;
    caller.require(Permission::Read, source.name())?;
    spec.dead_letter.as_ref().map_or(Ok(()), |address| caller.require_all(Permission::Write, address))
}

/// Declare a push: deliver a queue or subscription to an endpoint by signed webhooks.
#[utoipa::path(put, path = "/v1/pushes/{name}", tag = "pushes", operation_id = "put_pushes",
    params(("name" = String, Path), TryPutParams), request_body = PushSpec, responses(
    (status = 201, description = "Created", body = Declaration),
    (status = 200, description = "There just so, or changed, or tried", body = Declaration),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn put(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<TryPutParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let spec: PushSpec = extract::json(&door, &headers, body).await?;
    check(&caller, &name, &spec)?;
    let put = match params.dry_run {
        true => door.pushes.try_put(&name, spec, params.change).await?,
        false => door.pushes.put(name, spec, params.change, &caller.broker(&door.broker)).await?,
    };
    declared(put, params.dry_run)
}

/// Show a push as it is now, with its last attempts. Secrets and values of headers are never shown.
#[utoipa::path(get, path = "/v1/pushes/{name}", tag = "pushes", operation_id = "show_pushes",
    params(("name" = String, Path)), responses(
    (status = 200, description = "As it is now", body = PushInfo),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn get(State(door): State<Arc<Door>>, caller: Caller, Named(name): Named) -> Result<Response, Failure> {
    caller.require_sight(&name)?;
    let _permit = door.begin_request()?;
    ok(&door.pushes.get(&name).await?)
}

/// List pushes, in order of names.
#[utoipa::path(get, path = "/v1/pushes", tag = "pushes", operation_id = "list_pushes", params(PageParams), responses(
    (status = 200, description = "A page", body = List<PushInfo>),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let limit = at_most("limit", params.limit.unwrap_or(100), 1, PAGE_ENTITIES_MAX)?;
    let mut items = door.pushes.list(params.after.as_deref(), limit + 1, |name| caller.may_see(name)).await;
    let next = (items.len() > limit).then(|| items.swap_remove(limit)).and(items.last());
    let next = next.map(|last| last.name.to_string());
    ok(&List { items, next })
}

/// Delete a push. What it would have delivered stays in its queue or subscription.
#[utoipa::path(delete, path = "/v1/pushes/{name}", tag = "pushes", operation_id = "delete_pushes",
    params(("name" = String, Path)), responses(
    (status = 200, description = "Deleted; no message goes with it", body = Removed),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn delete(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Response, Failure> {
    caller.require(Permission::Configure, &name)?;
    let _permit = door.begin_request()?;
    door.pushes.delete(&name, &caller.broker(&door.broker)).await?;
    ok(&Removed { removed: 0 })
}

async fn set_paused(door: &Door, caller: &Caller, name: &Name, paused: bool) -> Result<Response, Failure> {
    caller.require(Permission::Configure, name)?;
    let _permit = door.begin_request()?;
    if !paused {
        // It reads on behalf of whoever lets it.
        check(caller, name, &door.pushes.spec(name).await?)?;
    }
    let is_new = door.pushes.set_paused(name, paused, &caller.broker(&door.broker)).await?;
    changed(is_new)
}

/// Let a push rest. What is under way ends first; the pause outlives restarts.
#[utoipa::path(post, path = "/v1/pushes/{name}/pause", tag = "pushes", operation_id = "pause_pushes",
    params(("name" = String, Path)), responses(
    (status = 200, description = "It rests", body = Declaration),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn pause(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Response, Failure> {
    set_paused(&door, &caller, &name, true).await
}

/// Let a push deliver again that rests, is suspended, or was disabled by 410 Gone.
#[utoipa::path(post, path = "/v1/pushes/{name}/resume", tag = "pushes", operation_id = "resume_pushes",
    params(("name" = String, Path)), responses(
    (status = 200, description = "It delivers", body = Declaration),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn resume(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Response, Failure> {
    set_paused(&door, &caller, &name, false).await
}

/// Send one event of the type `waystation.test` to the endpoint, whatever the push is doing, and say what was answered.
#[utoipa::path(post, path = "/v1/pushes/{name}/test", tag = "pushes", operation_id = "test_pushes",
    params(("name" = String, Path)), responses(
    (status = 200, description = "What it came to, good or bad", body = Tested),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn test(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Response, Failure> {
    caller.require(Permission::Configure, &name)?;
    let _permit = door.begin_wait()?;
    ok(&door.pushes.test(&name).await?)
}

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new()
        .routes(routes!(put, get, delete))
        .routes(routes!(list))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .routes(routes!(test))
}
