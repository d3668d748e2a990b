//! How are routes declared, listed, changed and deleted? Two kinds have one name space: those with bindings are the broker's, those
//! with steps take messages by themselves.

use std::sync::Arc;

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use serde::{Deserialize, de::IgnoredAny};
use utoipa_axum::{router::OpenApiRouter, routes};
use waystation_base::Name;
use waystation_broker::Kind as Thing;
use waystation_routes::{self as steps, RouteSteps, RouteStepsInfo, spec::Needs};

use super::{
    declared::{changed, declared},
    entities::{self, DeleteParams, Route},
    extract::{self, Named, Params, at_most},
    ok,
    params::{PageParams, PutParams, TryPutParams},
};
use crate::{
    api::{AnyRoute, Declaration, List, Problem, Removed},
    auth::{Caller, Permission},
    door::Door,
    failure::{Failure, Kind},
    limits::PAGE_ENTITIES_MAX,
    wire,
};

impl From<steps::Invalid> for Failure {
    fn from(invalid: steps::Invalid) -> Failure {
        Failure::field(invalid.field, invalid.reason)
    }
}

impl From<steps::Error> for Failure {
    fn from(error: steps::Error) -> Failure {
        match error {
            steps::Error::NotFound(_) | steps::Error::Unknown(_) => Failure::new(Kind::NotFound, error),
            steps::Error::Differs(_) | steps::Error::Taken(_) => Failure::new(Kind::Exists, error),
            steps::Error::Invalid(invalid) => invalid.into(),
            steps::Error::Limit => Failure::new(Kind::Limit, error),
            steps::Error::Refused(refusal) => refusal.into(),
        }
    }
}

/// Which kind a declaration is of.
#[derive(Deserialize)]
struct Probe<'a> {
    #[serde(borrow, default)]
    kind: Option<&'a str>,
    #[serde(default)]
    from: Option<IgnoredAny>,
    #[serde(default)]
    steps: Option<IgnoredAny>,
}

fn has_steps(body: &[u8]) -> bool {
    // What cannot be read so is told by the reader of the whole.
    serde_json::from_slice(body).is_ok_and(|Probe { kind, from, steps }| {
        kind == Some(steps::spec::KIND) || from.is_some() || steps.is_some()
    })
}

/// A route reads its source and writes its targets on behalf of whoever declares it.
pub(super) fn check(caller: &Caller, name: &Name, spec: &RouteSteps) -> Result<(), Failure> {
    caller.require(Permission::Configure, name)?;
    caller.require_all(Permission::Read, spec.from.taken(name)?.read())?;
    let sends = spec.sends();
    sends.targets.iter().try_for_each(|target| caller.require(Permission::Write, target.name()))?;
    sends.allowed.iter().try_for_each(|pattern| caller.require_all(Permission::Write, pattern))?;
    sends.needs.iter().try_for_each(|needs| match needs {
        Needs::Replies(name) | Needs::Reads(name) => caller.require(Permission::Read, name),
        Needs::Store(name) => {
            caller.require(Permission::Read, name).and_then(|()| caller.require(Permission::Write, name))
        }
    })?;
    let dead_letter = spec.dead_letter(name)?;
    // A queue that is not named is made.
    let permission = if spec.dead_letter.is_some() { Permission::Write } else { Permission::Configure };
    caller.require(permission, &dead_letter)
}

/// Make a route, or find that it is there just so. With `from` and `steps` it is one that takes messages by itself.
#[utoipa::path(put, path = "/v1/routes/{name}", tag = "routes", operation_id = "declare_routes",
    params(("name" = String, Path), TryPutParams), request_body = crate::api::RouteDeclaration, responses(
    (status = 201, description = "Created", body = Declaration),
    (status = 200, description = "There already, or changed, or tried", body = Declaration),
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
    caller.require(Permission::Configure, &name)?;
    let _permit = door.begin_request()?;
    let body = extract::body(&door, &headers, body).await?;
    if !has_steps(&body.bytes) {
        if params.dry_run {
            return Err(Failure::field("dry_run", "applies to routes with steps only"));
        }
        refuse_taken(&door, &name).await?;
        let params = PutParams { change: params.change };
        return entities::put_whole::<Route>(&door, &caller, name, params, &body.bytes).await;
    }
    let spec: RouteSteps = wire::json::parse_owned(&body.bytes)?;
    check(&caller, &name, &spec)?;
    let put = match params.dry_run {
        true => door.routes.try_put(&name, spec, params.change).await?,
        false => door.routes.put(name, spec, params.change, &caller.broker(&door.broker)).await?,
    };
    declared(put, params.dry_run)
}

/// Refuses a name that a route with steps has.
async fn refuse_taken(door: &Door, name: &Name) -> Result<(), Failure> {
    let detail = format!("route '{name}' is there as one with steps; delete it first, or use another name");
    if door.routes.has(name).await { Err(Failure::new(Kind::Exists, detail)) } else { Ok(()) }
}

/// Change the members that are given; null takes one back to its default.
#[utoipa::path(patch, path = "/v1/routes/{name}", tag = "routes", operation_id = "change_routes",
    params(("name" = String, Path)), request_body = crate::api::RouteDeclaration, responses(
    (status = 200, description = "Changed, or so already", body = Declaration),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn patch(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    if !door.routes.has(&name).await {
        return entities::patch::<Route>(door, caller, name, headers, body).await;
    }
    caller.require(Permission::Configure, &name)?;
    let _permit = door.begin_request()?;
    let changes: serde_json::Map<String, serde_json::Value> = extract::json(&door, &headers, body).await?;
    let old = door.routes.spec(&name).await?;
    let mut members = serde_json::to_value(old).map_err(Failure::internal)?;
    entities::merge(&mut members, changes);
    let spec: RouteSteps = serde_json::from_value(members).map_err(|error| Failure::field("body", error))?;
    check(&caller, &name, &spec)?;
    declared(door.routes.put(name, spec, true, &caller.broker(&door.broker)).await?, false)
}

/// What the caller may see of a route: programs of steps may hold secrets, such as a token for a service.
fn shown(caller: &Caller, info: RouteStepsInfo) -> RouteStepsInfo {
    let may_configure = caller.require(Permission::Configure, &info.name).is_ok();
    RouteStepsInfo { spec: info.spec.filter(|_| may_configure), ..info }
}

/// Show a route as it is now. How one with steps is declared is shown to whoever may configure it.
#[utoipa::path(get, path = "/v1/routes/{name}", tag = "routes", operation_id = "show_routes",
    params(("name" = String, Path)), responses(
    (status = 200, description = "As it is now", body = AnyRoute),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn get(State(door): State<Arc<Door>>, caller: Caller, Named(name): Named) -> Result<Response, Failure> {
    caller.require_sight(&name)?;
    match door.routes.get(&name).await {
        Ok(info) => ok(&shown(&caller, info)),
        Err(_) => entities::get::<Route>(door, caller, name).await,
    }
}

/// List routes of both kinds, in order of names. How those with steps are declared is shown to whoever may configure them.
#[utoipa::path(get, path = "/v1/routes", tag = "routes", operation_id = "list_routes", params(PageParams), responses(
    (status = 200, description = "A page", body = List<AnyRoute>),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Response, Failure> {
    let limit = at_most("limit", params.limit.unwrap_or(100), 1, PAGE_ENTITIES_MAX)?;
    let _permit = door.begin_request()?;
    let after = params.after.clone();
    let names = door.broker.query(move |view| {
        let names = view.names(Thing::Route, after.as_deref(), limit);
        names.into_iter().map(|name| (entities::route_info(view, &name), name)).collect::<Vec<_>>()
    });
    let bound = names.await?;
    let with_steps = door.routes.list(params.after.as_deref(), limit, |_| true).await;
    // Each list is whole only up to its own last name, if it is full.
    let ends = [
        bound.last().filter(|_| bound.len() == limit).map(|(_, name)| name.clone()),
        with_steps.last().filter(|_| with_steps.len() == limit).map(|info| info.name.clone()),
    ];
    let mut next = ends.into_iter().flatten().min();
    let bound = bound.into_iter().filter_map(|(info, _)| Some(AnyRoute::Bindings(Box::new(info?))));
    let mut items: Vec<AnyRoute> = bound
        .chain(with_steps.into_iter().map(|info| AnyRoute::Steps(Box::new(shown(&caller, info)))))
        .collect();
    items.sort_by(|one, other| one.name().cmp(other.name()));
    items.retain(|item| next.as_ref().is_none_or(|next| item.name() <= next));
    if items.len() > limit {
        items.truncate(limit);
        next = items.last().map(|item| item.name().clone());
    }
    items.retain(|item| caller.may_see(item.name()));
    ok(&List { items, next: next.map(|name| name.to_string()) })
}

/// Delete a route with its bindings, or with its own subscription. Messages that it has not taken stay where they are.
#[utoipa::path(delete, path = "/v1/routes/{name}", tag = "routes", operation_id = "delete_routes",
    params(("name" = String, Path), DeleteParams), responses(
    (status = 200, description = "Deleted", body = Removed),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn delete(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<DeleteParams>,
) -> Result<Response, Failure> {
    if !door.routes.has(&name).await {
        return entities::delete::<Route>(door, caller, name, params).await;
    }
    caller.require(Permission::Configure, &name)?;
    let _permit = door.begin_request()?;
    door.routes.delete(&name, &caller.broker(&door.broker)).await?;
    ok(&Removed { removed: 0 })
}

async fn set_paused(door: &Door, caller: &Caller, name: &Name, paused: bool) -> Result<Response, Failure> {
    caller.require(Permission::Configure, name)?;
    let _permit = door.begin_request()?;
    if !paused {
        // It reads and writes on behalf of whoever lets it.
        check(caller, name, &door.routes.spec(name).await?)?;
    }
    let is_new = door.routes.set_paused(name, paused, &caller.broker(&door.broker)).await?;
    changed(is_new)
}

/// Let a route with steps rest. What it holds is finished or comes back; the pause outlives restarts.
#[utoipa::path(post, path = "/v1/routes/{name}/pause", tag = "routes", operation_id = "pause_routes",
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

/// Let a route with steps work again.
#[utoipa::path(post, path = "/v1/routes/{name}/resume", tag = "routes", operation_id = "resume_routes",
    params(("name" = String, Path)), responses(
    (status = 200, description = "It works", body = Declaration),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn resume(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Response, Failure> {
    set_paused(&door, &caller, &name, false).await
}

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new()
        .routes(routes!(put, patch, get, delete))
        .routes(routes!(list))
        .routes(routes!(pause))
        .routes(routes!(resume))
        .merge(super::trials::routes())
}
