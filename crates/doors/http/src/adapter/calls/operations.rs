//! How are operations declared, shown, listed and removed?

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use serde::Deserialize;
use utoipa::IntoParams;
use waystation_base::Name;
use waystation_broker::{Refusal, effect};
use waystation_calls::Operation;

use crate::{
    adapter::{
        extract::{self, Named, Params, at_most},
        json, ok,
    },
    api::{Declaration, Declared, List, OperationInfo, Problem, Removed},
    auth::{Caller, Permission},
    door::Door,
    failure::Failure,
    incoming,
    limits::{CONTROL_BYTES_MAX, PAGE_ENTITIES_MAX},
    wire,
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PutParams {
    /// If it is there and differs: change it, instead of refusing.
    #[serde(default)]
    change: bool,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Names after this one.
    after: Option<String>,
    /// Most items on the page: 1 to 1000 (default 100).
    limit: Option<usize>,
}

/// Whoever lets an operation feed a queue could publish there, read there, and make it.
async fn check_queue(
    door: &Door,
    caller: &Caller,
    name: &Name,
    operation: &Operation,
) -> Result<(), Failure> {
    let queue = operation.queue_name(name).map_err(|error| Failure::field("queue", error))?;
    if queue == *name {
        return Ok(());
    }
    caller.require(Permission::Write, &queue)?;
    caller.require(Permission::Read, &queue)?;
    match door.broker.queue(queue.clone()).await {
        Ok(_) => Ok(()),
        Err(Refusal::NotFound { .. }) => caller.require(Permission::Configure, &queue),
        Err(refusal) => Err(refusal.into()),
    }
}

/// Declare an operation, or find that it is there just so. Its queue is made if it is not there.
#[utoipa::path(put, path = "/v1/operations/{name}", tag = "operations", operation_id = "declare_operation",
    params(("name" = String, Path), PutParams), request_body = Operation, responses(
    (status = 201, description = "Created", body = Declaration),
    (status = 200, description = "There already, or changed", body = Declaration),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn put(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<PutParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    caller.require(Permission::Configure, &name)?;
    let _permit = door.begin_request()?;
    extract::require_json(&headers)?;
    let body = incoming::whole(&door, &headers, body, "the body", CONTROL_BYTES_MAX).await?;
    let text = if body.bytes.is_empty() { &b"{}"[..] } else { &body.bytes };
    let operation: Operation = wire::json::parse(text)?;
    check_queue(&door, &caller, &name, &operation).await?;
    door.calls.ready().await;
    let declared = door.calls.declare(caller.broker(&door.broker), name, operation, params.change).await?;
    let (status, declared) = match declared {
        effect::Declared::Created => (StatusCode::CREATED, Declared::Created),
        effect::Declared::Changed => (StatusCode::OK, Declared::Changed),
        effect::Declared::Unchanged => (StatusCode::OK, Declared::Unchanged),
    };
    json(status, &Declaration { declared })
}

/// What is shown of an operation: all but the headers that its upstream gets by declaration.
fn info(door: &Door, name: &Name, operation: &Operation) -> OperationInfo {
    let upstream = door.calls.upstream(name, operation);
    OperationInfo { name: name.to_string(), spec: operation.shown(), upstream }
}

/// Show an operation.
#[utoipa::path(get, path = "/v1/operations/{name}", tag = "operations", operation_id = "show_operation",
    params(("name" = String, Path)), responses(
    (status = 200, description = "As it is declared", body = OperationInfo),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn get(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Response, Failure> {
    caller.require_sight(&name)?;
    let spec = door.calls.operation(&name).await?;
    ok(&info(&door, &name, &spec))
}

/// Remove an operation. Its calls go on, and its queue stays.
#[utoipa::path(delete, path = "/v1/operations/{name}", tag = "operations", operation_id = "delete_operation",
    params(("name" = String, Path)), responses(
    (status = 200, description = "Removed", body = Removed),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn delete(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
) -> Result<Response, Failure> {
    caller.require(Permission::Configure, &name)?;
    let _permit = door.begin_request()?;
    door.calls.ready().await;
    door.calls.remove(caller.broker(&door.broker), name).await?;
    ok(&Removed { removed: 0 })
}

/// List operations, in order of names.
#[utoipa::path(get, path = "/v1/operations", tag = "operations", operation_id = "list_operations", params(ListParams),
    responses(
    (status = 200, description = "A page", body = List<OperationInfo>),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Response, Failure> {
    let limit = at_most("limit", params.limit.unwrap_or(100), 1, PAGE_ENTITIES_MAX)?;
    let all = door.calls.operations().await;
    let after = params.after.unwrap_or_default();
    let page: Vec<_> = all.iter().filter(|(name, _)| name.as_str() > after.as_str()).take(limit).collect();
    let next = page.last().filter(|_| page.len() == limit).map(|(name, _)| name.to_string());
    let seen = page.into_iter().filter(|(name, _)| caller.may_see(name));
    let items = seen.map(|(name, spec)| info(&door, name, spec)).collect();
    ok(&List::<OperationInfo> { items, next })
}
