//! How are operations declared, shown, listed and removed?

use std::sync::Arc;

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use waystation_base::{Name, vhost};
use waystation_broker::Refusal;
use waystation_calls::Operation;
use waystation_webhooks::Secret;

use crate::{
    adapter::{
        declared::status,
        extract::{self, Named, Params, at_most},
        json, ok,
        params::{PageParams, TryPutParams},
    },
    api::{List, OperationDeclaration, OperationInfo, Problem, Removed},
    auth::{Caller, Permission},
    door::Door,
    failure::Failure,
    limits::PAGE_ENTITIES_MAX,
};

/// Whoever lets an operation feed a queue, or be fed by one, could publish there, read there, and make it.
async fn check_queues(
    door: &Door,
    caller: &Caller,
    name: &Name,
    operation: &Operation,
) -> Result<(), Failure> {
    let queue = operation.queue_name(name).map_err(|error| Failure::field("queue", error))?;
    let intake = operation.intake_name().map_err(|error| Failure::field("intake", error))?;
    for queue in std::iter::once(queue).chain(intake).filter(|queue| queue != name) {
        caller.require(Permission::Write, &queue)?;
        caller.require(Permission::Read, &queue)?;
        match door.broker.queue(queue.clone()).await {
            Ok(_) => {}
            Err(Refusal::NotFound { .. }) => caller.require(Permission::Configure, &queue)?,
            Err(refusal) => return Err(refusal.into()),
        }
    }
    // The server writes there with its own hand, whoever asks it to.
    let vhost = operation.intake.as_deref().map_or(vhost::DEFAULT.to_owned(), vhost::of);
    operation.reply_allow.iter().try_for_each(|pattern| {
        let pattern = match pattern.strip_suffix('*') {
            Some(beginning) => format!("{}*", vhost::join(&vhost, beginning)),
            None => vhost::join(&vhost, pattern),
        };
        caller.require_all(Permission::Write, &pattern)
    })
}

/// What will not go as somebody may think who declares an operation so.
async fn warnings(door: &Door, name: &Name) -> Vec<String> {
    let Ok(operation) = door.calls.operation(name).await else { return Vec::new() };
    let is_unsigned = operation.secrets().is_empty() && !door.callbacks.has_secrets();
    let unsigned = "its callbacks wait: there is no secret that signs them; give 'callback_secrets', or configure \
                    webhooks.callback_secrets";
    (operation.calls_back() && is_unsigned).then(|| unsigned.to_owned()).into_iter().collect()
}

/// Declare an operation, or find that it is there just so. Its queue is made if it is not there.
#[utoipa::path(put, path = "/v1/operations/{name}", tag = "operations", operation_id = "declare_operation",
    params(("name" = String, Path), TryPutParams), request_body = Operation, responses(
    (status = 201, description = "Created", body = OperationDeclaration, links(
        ("call" = (operation_id = "call", parameters(("id" = "$request.path.name")))),
        ("show" = (operation_id = "show_operation", parameters(("name" = "$request.path.name")))),
        ("receive" = (operation_id = "receive_calls", parameters(("name" = "$request.path.name")))),
        ("remove" = (operation_id = "delete_operation", parameters(("name" = "$request.path.name"))))
    )),
    (status = 200, description = "There already, or changed, or tried", body = OperationDeclaration, links(
        ("call" = (operation_id = "call", parameters(("id" = "$request.path.name")))),
        ("show" = (operation_id = "show_operation", parameters(("name" = "$request.path.name")))),
        ("receive" = (operation_id = "receive_calls", parameters(("name" = "$request.path.name")))),
        ("remove" = (operation_id = "delete_operation", parameters(("name" = "$request.path.name"))))
    )),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn put(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<TryPutParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    caller.require(Permission::Configure, &name)?;
    let _permit = door.begin_request()?;
    let operation: Operation = extract::json_or_defaults(&door, &headers, body).await?;
    check_queues(&door, &caller, &name, &operation).await?;
    door.calls.ready().await;
    for secret in operation.secrets() {
        Secret::parse(&secret.0).map_err(|error| Failure::field("callback_secrets", error))?;
    }
    if params.dry_run {
        let declared = door.calls.try_declare(name, operation, params.change).await?.into();
        return ok(&OperationDeclaration { declared, warnings: Vec::new() });
    }
    let broker = caller.broker(&door.broker);
    let declared = door.calls.declare(broker, name.clone(), operation, params.change).await?.into();
    let warnings = warnings(&door, &name).await;
    json(status(declared, false), &OperationDeclaration { declared, warnings })
}

/// What is shown of an operation: all but what is secret.
fn info(door: &Door, name: &Name, operation: &Operation) -> OperationInfo {
    let upstream = door.calls.upstream(name, operation);
    let secrets = operation.secrets().iter().filter_map(|secret| Secret::parse(&secret.0).ok());
    let callback_signatures = secrets.map(|secret| secret.version().to_owned()).collect();
    OperationInfo { name: name.to_string(), spec: operation.shown(), upstream, callback_signatures }
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
#[utoipa::path(get, path = "/v1/operations", tag = "operations", operation_id = "list_operations", params(PageParams),
    responses(
    (status = 200, description = "A page", body = List<OperationInfo>),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<PageParams>,
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
