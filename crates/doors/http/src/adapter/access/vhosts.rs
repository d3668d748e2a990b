//! How are virtual hosts made, listed, shown, changed and removed with all that is in them?

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use utoipa_axum::{router::OpenApiRouter, routes};
use waystation_broker::view::VhostInfo;
use waystation_catalog::{Vhost as Kept, terms::QueueType};

use super::{PageParams, PutParams, absent, declared, difference, may_change, page};
use crate::{
    adapter::{
        extract::{self, Params},
        ok,
    },
    api::{Declaration, Declared, List, Problem, Removed, Vhost, VhostSpec, VhostState},
    auth::Caller,
    door::Door,
    failure::Failure,
};

fn show(it: Kept, states: &[VhostInfo]) -> Vhost {
    let Kept { name, description, tags, default_queue_type, limits } = it;
    let state = states.iter().find(|state| state.name == name);
    let state = state.map(|state| VhostState {
        queues: state.queues,
        held: state.held,
        held_back: state.held_back.into_iter().collect(),
    });
    Vhost { name, description, tags, default_queue_type, limits, state }
}

/// How virtual hosts with limits are now.
async fn states(door: &Door) -> Result<Vec<VhostInfo>, Failure> {
    Ok(door.broker.query(|view| view.vhosts()).await?)
}

/// Whether a caller may know of it.
fn sees(caller: &Caller, name: &str) -> bool {
    caller.0.tags().may_monitor() || caller.0.may_enter(name)
}

/// List the virtual hosts that the caller may know of, in order of names.
#[utoipa::path(get, path = "/v1/vhosts", tag = "access", operation_id = "list_vhosts", params(PageParams), responses(
    (status = 200, description = "A page", body = List<Vhost>),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn list(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<PageParams>,
) -> Result<Response, Failure> {
    let seen = door.catalog.vhosts().into_iter().filter(|it| sees(&caller, &it.name));
    let states = states(&door).await?;
    ok(&page(seen.map(|it| show(it, &states)), |vhost| &vhost.name, &params)?)
}

/// Show a virtual host.
#[utoipa::path(get, path = "/v1/vhosts/{name}", tag = "access", operation_id = "show_vhost",
    params(("name" = String, Path)), responses(
    (status = 200, description = "As it is now", body = Vhost),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn get(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    let found = door.catalog.vhost(&name).filter(|it| sees(&caller, &it.name));
    ok(&show(found.ok_or_else(|| absent("virtual host", &name))?, &states(&door).await?))
}

/// Make a virtual host with its standing routes, or find that it is there just so. Who makes it may do everything in it.
#[utoipa::path(put, path = "/v1/vhosts/{name}", tag = "access", operation_id = "declare_vhost",
    params(("name" = String, Path), PutParams), request_body = VhostSpec, responses(
    (status = 201, description = "Created", body = Declaration),
    (status = 200, description = "There already, or changed", body = Declaration),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn put(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(name): Path<String>,
    Params(params): Params<PutParams>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let _permit = door.begin_request()?;
    let VhostSpec { description, tags, default_queue_type, limits } =
        extract::json_or_defaults(&door, &headers, request).await?;
    if let Some(kind) = default_queue_type.as_deref().filter(|kind| QueueType::read(kind).is_none()) {
        let reason = format!("'{kind}' is none of classic, quorum and stream");
        return Err(Failure::field("default_queue_type", reason));
    }
    let wanted = Kept { name, description, tags, default_queue_type, limits };
    if let Some(have) = door.catalog.vhost(&wanted.name) {
        let differs = difference(&have, &wanted);
        if !may_change(&format!("virtual host '{}'", wanted.name), differs.as_deref(), params.change)? {
            return declared(Declared::Unchanged);
        }
    }
    let maker = caller.0.name().map(str::to_owned);
    let is_new = door.catalog.put_vhost(&caller.broker(&door.broker), wanted, maker).await?;
    declared(if is_new { Declared::Created } else { Declared::Changed })
}

/// Delete a virtual host with all that is in it; its connections end.
#[utoipa::path(delete, path = "/v1/vhosts/{name}", tag = "access", operation_id = "delete_vhost",
    params(("name" = String, Path)), responses(
    (status = 200, description = "Deleted", body = Removed),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn delete(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Response, Failure> {
    caller.require_administrator()?;
    let _permit = door.begin_request()?;
    door.catalog.delete_vhost(&caller.broker(&door.broker), &name).await?;
    ok(&Removed { removed: 1 })
}

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(get, put, delete))
}
