//! How are the callbacks of calls looked at that were given up, and sent again?

use std::{collections::HashSet, sync::Arc};

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use waystation_base::Name;
use waystation_webhooks::push::redrive::{LOOK_MAX, Redriven, Which};

use super::{
    extract::{self, Params},
    ok,
};
use crate::{
    api::Problem,
    auth::{Caller, Permission},
    door::Door,
    failure::Failure,
};

pub(super) fn routes() -> OpenApiRouter<Arc<Door>> {
    OpenApiRouter::new().routes(routes!(dead)).routes(routes!(redrive))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct DeadParams {
    /// Of this operation only.
    operation: Option<String>,
}

/// Which callbacks to send again: `ids`, those of an `operation`, or `all` of them.
#[derive(Clone, Debug, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
struct RedriveRequest {
    /// These only: the calls' ids.
    ids: Option<Vec<String>>,
    /// Of this operation only.
    operation: Option<String>,
    /// All of them.
    all: bool,
    /// Only say which those would be.
    dry_run: bool,
}

fn may(caller: &Caller, permission: Permission, operation: &str) -> bool {
    Name::new(operation).is_ok_and(|name| caller.require(permission, &name).is_ok())
}

/// List callbacks that were given up, oldest first.
///
/// Up to 10,000 are looked at; `more` says that there are more. Those of operations that the caller may call are shown.
#[utoipa::path(get, path = "/v1/callbacks/dead", tag = "calls", operation_id = "list_dead_callbacks", params(DeadParams),
    responses(
    (status = 200, description = "Those that were given up", body = Redriven),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn dead(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<DeadParams>,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let which = Which { ids: None, operation: params.operation };
    ok(&door.callbacks.dead(&which, |operation| may(&caller, Permission::Write, operation)).await?)
}

/// Send callbacks again that were given up, under the ids that they had.
///
/// Up to 10,000 are looked at in one request; `more` says to ask again. It takes the permission to call their operations; those of
/// other operations stay.
#[utoipa::path(post, path = "/v1/callbacks/redrive", tag = "calls", operation_id = "redrive_callbacks",
    request_body = RedriveRequest, responses(
    (status = 200, description = "They stand on the queue of callbacks again", body = Redriven),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
async fn redrive(
    State(door): State<Arc<Door>>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let _permit = door.begin_request()?;
    let RedriveRequest { ids, operation, all, dry_run } = extract::json(&door, &headers, body).await?;
    if !all && ids.is_none() && operation.is_none() {
        return Err(Failure::field("all", "give 'ids', an 'operation', or 'all': true"));
    }
    if ids.as_ref().is_some_and(|ids| ids.len() > LOOK_MAX) {
        return Err(Failure::field("ids", format!("may have {LOOK_MAX} entries")));
    }
    let which = Which { ids: ids.map(HashSet::from_iter), operation };
    let may = |operation: &str| may(&caller, Permission::Write, operation);
    ok(&match dry_run {
        true => door.callbacks.dead(&which, may).await?,
        false => door.callbacks.redrive(&which, may).await?,
    })
}
