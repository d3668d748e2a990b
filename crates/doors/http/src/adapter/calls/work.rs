//! How does a worker take calls by HTTP, and say how it goes?

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::{Path, State},
    http::HeaderMap,
    response::Response,
};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use waystation_base::limits::{DELAY_MS_MAX, LEASE_MS_MAX};
use waystation_calls::{
    Answer, CallId, Change, Progress, Work,
    limits::{RECEIVE_MAX, RESULT_BYTES_MAX, WAIT_MS_MAX},
};

use waystation_net::Permit;

use super::{allowed, id};
use crate::{
    adapter::{
        extract::{self, Named, Params, at_most},
        ok,
    },
    api::{FailureReport, Problem, ProgressReport, Received, Stepped},
    auth::{Caller, Permission},
    door::{Counts, Door},
    failure::Failure,
    incoming,
    wire::{headers as wire_headers, show::Shown},
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReceiveParams {
    /// Most calls: 1 to 100 (default 1).
    max: Option<u32>,
    /// Milliseconds to wait for the first one: up to 60000 (default 0).
    wait_ms: Option<u64>,
    /// Milliseconds of lease, instead of the queue's own.
    lease_ms: Option<u64>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct CompleteParams {
    /// The attempt under which the call was received; without it whoever has it.
    attempt: Option<u32>,
    /// The result's status: 200 to 599 (default 200); from 400 on the call has failed.
    status: Option<u16>,
}

/// Calls to work on.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "describes what Page writes")]
pub(super) struct ReceivedCalls {
    calls: Vec<ReceivedCall>,
}

/// A call to work on.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "describes what One writes")]
pub(super) struct ReceivedCall {
    /// The call's id.
    id: String,
    /// Complete it under this attempt.
    attempt: u32,
    /// Until when it is this worker's alone (milliseconds since 1970).
    lease_until: u64,
    /// The request.
    request: Received,
}

#[derive(Serialize)]
struct Page<'a> {
    calls: Vec<One<'a>>,
}

#[derive(Serialize)]
struct One<'a> {
    id: String,
    attempt: u32,
    lease_until: u64,
    request: Shown<'a>,
}

fn one(work: &Work) -> One<'_> {
    One {
        id: work.id.to_string(),
        attempt: work.attempt,
        lease_until: work.held_until.0,
        request: Shown(&work.delivery),
    }
}

/// Take calls of an operation under a lease, waiting for the first one.
#[utoipa::path(post, path = "/v1/operations/{name}/receive", tag = "operations", operation_id = "receive_calls",
    params(("name" = String, Path), ReceiveParams), responses(
    (status = 200, description = "What there was; cancelled and expired calls are passed over", body = ReceivedCalls),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn receive(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<ReceiveParams>,
) -> Result<Response, Failure> {
    caller.require(Permission::Read, &name)?;
    let max = at_most("max", params.max.unwrap_or(1), 1, RECEIVE_MAX)?;
    let wait_ms = at_most("wait_ms", params.wait_ms.unwrap_or(0), 0, WAIT_MS_MAX)?;
    let lease_ms = params.lease_ms.map(|ms| at_most("lease_ms", ms, 1, LEASE_MS_MAX)).transpose()?;
    let _permit = door.begin_wait()?;
    let wait = Duration::from_millis(wait_ms);
    let work = tokio::select! {
        biased;
        work = door.calls.receive(&name, max, wait, lease_ms, &*door.clock) => work?,
        // What is on its way to here comes back with its lease.
        () = door.drain.begun(), if wait_ms > 0 => Vec::new(),
    };
    Counts::add(&door.counts.delivered, work.len() as u64);
    ok(&Page { calls: work.iter().map(one).collect() })
}

/// The call that a worker speaks of, and room for what it says.
async fn of_worker(door: &Door, caller: &Caller, text: &str) -> Result<(CallId, Permit), Failure> {
    let id = id(text)?;
    allowed(door, caller, id, Permission::Read).await?;
    Ok((id, door.begin_request()?))
}

/// Tell how far the work on a call is, and prolong its lease.
#[utoipa::path(post, path = "/v1/calls/{id}/progress", tag = "calls", operation_id = "report_progress",
    params(("id" = String, Path)), request_body = ProgressReport, responses(
    (status = 200, description = "Durable", body = Stepped),
    (status = 409, description = "It has its outcome already, or somebody else works on it", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn progress(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let (id, _permit) = of_worker(&door, &caller, &text).await?;
    let ProgressReport { attempt, percent, note, lease_ms } = extract::json(&door, &headers, body).await?;
    let percent = percent.map(|percent| at_most("percent", percent, 0, 100)).transpose()?;
    let lease_ms = lease_ms.map(|ms| at_most("lease_ms", ms, 1, LEASE_MS_MAX)).transpose()?;
    let mut lease_until = None;
    if let Some(lease_ms) = lease_ms {
        lease_until = Some(door.calls.extend(id, attempt, lease_ms).await?.0);
    }
    let progress = Progress { percent, note };
    let changed = door.calls.change(id, Change::Progress { attempt, progress }).await?;
    ok(&Stepped { state: changed.state, lease_until })
}

/// Complete a call: body and headers of this request are its result.
///
/// Content type and coding and `Ws-Header-…` become the result's headers.
#[utoipa::path(post, path = "/v1/calls/{id}/complete", tag = "calls", operation_id = "complete_call",
    params(("id" = String, Path), CompleteParams), request_body(content((Vec<u8> = "application/octet-stream"))), responses(
    (status = 200, description = "Durable: this is the call's outcome", body = Stepped),
    (status = 409, description = "It has its outcome already, or somebody else works on it; the result is kept in `$calls.late`", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn complete(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(text): Path<String>,
    Params(params): Params<CompleteParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let (id, _permit) = of_worker(&door, &caller, &text).await?;
    let status = at_most("status", params.status.unwrap_or(200), 200, 599)?;
    let whole = incoming::whole(&door, &headers, body, "a result", RESULT_BYTES_MAX).await?;
    let message = wire_headers::message(&headers, whole.bytes.clone(), &mut door.stamp()?)?;
    let answer = Answer { status, ..waystation_calls::Answer::of(&message) };
    if let Some(fault) = answer.fault() {
        return Err(Failure::field("body", fault.detail));
    }
    let changed = door.calls.change(id, Change::Complete { attempt: params.attempt, answer }).await?;
    ok(&Stepped { state: changed.state, lease_until: None })
}

/// Report that the work on a call has failed: for good, or to be tried again.
#[utoipa::path(post, path = "/v1/calls/{id}/fail", tag = "calls", operation_id = "fail_call",
    params(("id" = String, Path)), request_body = FailureReport, responses(
    (status = 200, description = "Durable; the state says whether it is tried again", body = Stepped),
    (status = 409, description = "It has its outcome already, or somebody else works on it", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn fail(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(text): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let (id, _permit) = of_worker(&door, &caller, &text).await?;
    let FailureReport { attempt, error, retry, delay_ms } = extract::json(&door, &headers, body).await?;
    let delay_ms = at_most("delay_ms", delay_ms, 0, DELAY_MS_MAX)?;
    let changed = door.calls.change(id, Change::Fail { attempt, error, retry, delay_ms }).await?;
    ok(&Stepped { state: changed.state, lease_until: None })
}
