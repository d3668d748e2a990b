//! Asynchronous calls over HTTP: how operations are declared, calls started, followed, fetched, cancelled and worked on.

mod operations;
mod prefer;
mod respond;
mod retry;
mod show;
mod start;
mod work;

use std::sync::Arc;

use utoipa_axum::{router::OpenApiRouter, routes};
use waystation_calls::{CallId, Seen};

use crate::{
    auth::{Caller, Permission},
    door::Door,
    failure::{Failure, Kind},
};

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new()
        .routes(routes!(operations::put, operations::get, operations::delete))
        .routes(routes!(operations::list))
        .routes(routes!(work::receive))
        .routes(routes!(start::start, show::show, show::cancel))
        .routes(routes!(show::list))
        .routes(routes!(retry::retry))
        .routes(routes!(show::result))
        .routes(routes!(work::progress))
        .routes(routes!(work::complete))
        .routes(routes!(work::fail))
}

/// The id in a path. What is none names no call.
fn id(text: &str) -> Result<CallId, Failure> {
    text.parse().map_err(|_| Failure::new(Kind::NotFound, "there is no call with this id: it is no UUID"))
}

/// A call whose operation the caller may call, or work on.
async fn visible(door: &Door, caller: &Caller, id: CallId) -> Result<Seen, Failure> {
    let seen = door.calls.see(id).await?;
    caller.require_sight(&seen.operation)?;
    Ok(seen)
}

/// A call about which the caller may do this.
async fn allowed(door: &Door, caller: &Caller, id: CallId, permission: Permission) -> Result<Seen, Failure> {
    let seen = door.calls.see(id).await?;
    caller.require(permission, &seen.operation)?;
    Ok(seen)
}
