//! How is a call tried anew that ended badly?

use std::sync::Arc;

use axum::{
    extract::{Path, State},
    http::StatusCode,
    response::Response,
};
use waystation_calls::{CallId, RetryAs, Started};

use super::{
    allowed, id,
    respond::{self, put},
};
use crate::{
    api::{self, Problem},
    auth::{Caller, Permission},
    door::Door,
    failure::Failure,
};

/// Try the request of a call anew that failed, expired or was cancelled.
///
/// That is a call of its own, with the same body, headers, priority and callback, under what the operation says now; each of
/// both shows the other (`retry_of`, `retried_as`). The earlier one keeps its outcome. A call is tried anew once: whoever asks
/// again has the same answer, marked `Idempotency-Replayed: true`; if the new call fails too, that one can be tried anew.
#[utoipa::path(post, path = "/v1/calls/{id}/retry", tag = "calls", operation_id = "retry_call",
    params(("id" = String, Path)), responses(
    (status = 202, description = "Durable, and answered later; `Location` is the new call", body = api::Call, links(
        ("show" = (operation_id = "show_call", parameters(("id" = "$response.body#/id")))),
        ("cancel" = (operation_id = "cancel_call", parameters(("id" = "$response.body#/id")))),
        ("result" = (operation_id = "call_result", parameters(("id" = "$response.body#/id")))),
        ("complete" = (operation_id = "complete_call", parameters(("id" = "$response.body#/id")))),
        ("fail" = (operation_id = "fail_call", parameters(("id" = "$response.body#/id")))),
        ("progress" = (operation_id = "report_progress", parameters(("id" = "$response.body#/id")))),
        ("retry" = (operation_id = "retry_call", parameters(("id" = "$response.body#/id"))))
    )),
    (status = 409, description = "It has no outcome yet, or has succeeded, or its request is not kept", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn retry(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let id = id(&text)?;
    allowed(&door, &caller, id, Permission::Write).await?;
    let _permit = door.begin_request()?;
    let stamped = door.stamp()?.message();
    let retry = RetryAs { id: CallId(stamped.id), now: stamped.timestamp };
    let Started { id, is_replay } = door.calls.retry(id, retry).await?;
    let shown = respond::shown(&door.calls.show(id).await?, door.clock.now());
    let mut response = respond::resource(StatusCode::ACCEPTED, &shown)?;
    put(&mut response, "location", &respond::path(id));
    if is_replay {
        put(&mut response, "idempotency-replayed", "true");
    }
    Ok(response)
}
