//! How is a call looked at, waited for, followed, fetched, cancelled and listed?

use std::{sync::Arc, time::Duration};

use axum::{
    extract::{Path, State},
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Deserialize;
use tokio::sync::watch;
use utoipa::IntoParams;
use waystation_calls::{
    Call, CallId, Filter, Finished, Seen,
    limits::{PAGE_CALLS_MAX, WAIT_MS_MAX},
};

use super::{
    id,
    respond::{self, put},
    visible,
};
use crate::{
    adapter::{
        events::{Feed, heartbeat},
        extract::{self, Params, at_most},
        ok,
    },
    api::{self, Cancellation, List, Problem, media},
    auth::{Caller, Permission},
    door::Door,
    failure::{Failure, Kind},
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ShowParams {
    /// Seconds to wait for the outcome, or with `If-None-Match` for the next step: up to 60 (default 0).
    wait: Option<u64>,
    /// `false`: the call itself also when it has finished, instead of the result.
    #[serde(default = "yes")]
    follow: bool,
}

fn yes() -> bool {
    true
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ListParams {
    /// Of this operation only.
    operation: Option<String>,
    /// In this state only.
    state: Option<waystation_calls::State>,
    /// With this correlation id of its caller only: of a message's `correlation-id`, or a request's `Correlation-Id`.
    correlation_id: Option<String>,
    /// `true`: only those that were tried anew by another call; `false`: only those that were not.
    retried: Option<bool>,
    /// Go on where an earlier page said `next`.
    after: Option<String>,
    /// Most calls on the page: 1 to 1000 (default 100). A page may be shorter and there still be a next one.
    limit: Option<usize>,
}

/// The version that a client has, by `If-None-Match`.
fn known(headers: &HeaderMap) -> Option<u32> {
    let text = headers.get(header::IF_NONE_MATCH)?.to_str().ok()?;
    text.trim().trim_start_matches("W/").trim_matches('"').parse().ok()
}

/// Show a call: poll, long-poll (`?wait=`), or follow (`Accept: text/event-stream`).
///
/// While it is open: `200` with its state, and `Retry-After`. When it has finished: `303` to its result, or the result itself,
/// as the operation declares; `?follow=false` shows the call all the same. `410` once its retention is over.
/// As events: each step the call as `data`, its version as `id`; `Last-Event-ID` leaves out what is known. The last event
/// ends the stream, and who comes back after it gets `204`.
#[utoipa::path(get, path = "/v1/calls/{id}", tag = "calls", operation_id = "show_call",
    params(("id" = String, Path), ShowParams,
        ("if-none-match" = Option<String>, Header, description = "`304` if it has taken no step since"),
        ("last-event-id" = Option<String>, Header, description = "The version that a follower knows")),
    responses(
    (status = 200, description = "The call, or its result", content((api::Call = "application/json"), (api::ServerSentEvent = "text/event-stream"))),
    (status = 204, description = "Followers: nothing will come any more"),
    (status = 303, description = "It has finished; `Location` is its result", body = api::Call),
    (status = 304, description = "It has taken no step"),
    (status = "default", description = "Refused, or a result that is no success, as the worker gave it", content((Problem = "application/problem+json"), (Vec<u8> = "*/*"))),
))]
pub(super) async fn show(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(text): Path<String>,
    Params(params): Params<ShowParams>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let id = id(&text)?;
    let seen = visible(&door, &caller, id).await?;
    let wait_s = at_most("wait", params.wait.unwrap_or(0), 0, WAIT_MS_MAX / 1000)?;
    if extract::accepts(&headers, media::EVENTS) {
        return follow(door, id, &headers).await;
    }
    let known = known(&headers);
    if wait_s > 0 && !seen.state.is_finished() {
        let _permit = door.begin_wait()?;
        let wait = Duration::from_secs(wait_s);
        tokio::select! {
            biased;
            ended = door.calls.wait(id, known, wait) => drop(ended?),
            () = door.drain.begun() => {}
        }
    }
    let call = door.calls.show(id).await?;
    if known == Some(call.record.version) {
        let mut response = StatusCode::NOT_MODIFIED.into_response();
        put(&mut response, "etag", &respond::etag(call.record.version));
        return Ok(response);
    }
    if call.record.state.is_finished() && params.follow {
        return finished(&door, call).await;
    }
    respond::resource(StatusCode::OK, &whole(&door, &call))
}

/// A call as plain data, and how its callback goes.
fn whole(door: &Door, call: &Call) -> api::Call {
    let record = &call.record;
    let is_called_back = record.callback.is_some() && record.state.is_finished();
    let callback_delivery = is_called_back.then(|| door.callbacks.fate(&record.id.to_string())).flatten();
    api::Call { callback_delivery, ..respond::shown(call, door.clock.now()) }
}

/// What the call resource answers at the end.
async fn finished(door: &Door, call: Call) -> Result<Response, Failure> {
    let version = call.record.version;
    let operation = door.calls.operation(&call.record.operation).await;
    if operation.is_ok_and(|operation| operation.finished == Finished::Inline) {
        let mut response = respond::result(call);
        put(&mut response, "etag", &respond::etag(version));
        return Ok(response);
    }
    let mut response = respond::resource(StatusCode::SEE_OTHER, &respond::shown(&call, door.clock.now()))?;
    put(&mut response, "location", &format!("{}/result", respond::path(call.record.id)));
    Ok(response)
}

async fn follow(door: Arc<Door>, id: CallId, headers: &HeaderMap) -> Result<Response, Failure> {
    let last = headers.get("last-event-id").and_then(|value| value.to_str().ok()?.trim().parse::<u32>().ok());
    let permit = door.begin_wait()?;
    // Watched before it is looked at, so that no step is missed between.
    let steps = door.calls.watch(id).await?;
    let seen = door.calls.see(id).await?;
    if seen.state.is_finished() && last.is_some_and(|last| last >= seen.version) {
        return Ok(StatusCode::NO_CONTENT.into_response());
    }
    let (feed, response) = Feed::open();
    tokio::spawn(async move {
        let _permit = permit;
        if let Err(failure) = tell(&door, id, steps, last, &feed).await {
            feed.fail(failure).await;
        }
    });
    Ok(response)
}

/// Writes the call as it is now and after each step, until it has ended. Steps that come faster than the client reads are one.
async fn tell(
    door: &Door,
    id: CallId,
    mut steps: watch::Receiver<u32>,
    last: Option<u32>,
    feed: &Feed,
) -> Result<(), Failure> {
    let (mut beats, mut told) = (heartbeat(), last);
    let mut is_open = feed.begin().await;
    while is_open {
        steps.borrow_and_update();
        let call = door.calls.show(id).await?;
        if told.is_none_or(|told| told < call.record.version) {
            told = Some(call.record.version);
            is_open = feed.write(event(&call, door)?).await;
        }
        if call.record.state.is_finished() {
            return Ok(());
        }
        is_open = is_open && step(door, &mut steps, &mut beats, feed).await;
    }
    Ok(())
}

fn event(call: &Call, door: &Door) -> Result<String, Failure> {
    let shown = respond::shown(call, door.clock.now());
    let data = serde_json::to_string(&shown).map_err(Failure::internal)?;
    Ok(format!("id: {}\nevent: {}\ndata: {data}\n\n", call.record.version, call.record.state))
}

/// Waits for a step; whether there is still somebody who wants to hear of it.
async fn step(
    door: &Door,
    steps: &mut watch::Receiver<u32>,
    beats: &mut tokio::time::Interval,
    feed: &Feed,
) -> bool {
    loop {
        tokio::select! {
            biased;
            () = feed.closed() => return false,
            () = door.drain.begun() => return false,
            // The end closes the channel, and is looked at as well.
            _ = steps.changed() => return true,
            _ = beats.tick() => if !feed.beat().await {
                return false;
            },
        }
    }
}

/// Fetch the result of a finished call: status, headers and body as the worker gave them, or the problem.
#[utoipa::path(get, path = "/v1/calls/{id}/result", tag = "calls", operation_id = "call_result",
    params(("id" = String, Path)), responses(
    (status = 200, description = "The result, with the worker's own status and headers"),
    (status = 409, description = "It has no outcome yet", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "Refused, or a result that is no success, as the worker gave it", content((Problem = "application/problem+json"), (Vec<u8> = "*/*"))),
))]
pub(super) async fn result(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let id = id(&text)?;
    visible(&door, &caller, id).await?;
    let call = door.calls.show(id).await?;
    if !call.record.state.is_finished() {
        let detail =
            format!("the call is {}; GET /v1/calls/{id}?wait=30 waits for its outcome", call.record.state);
        return Err(Failure::new(Kind::NotReady, detail));
    }
    Ok(respond::result(call))
}

/// Cancel a call, and hear whether that still could be done.
#[utoipa::path(delete, path = "/v1/calls/{id}", tag = "calls", operation_id = "cancel_call",
    params(("id" = String, Path)), responses(
    (status = 200, description = "Cancelled by this request, or `cancelled` is false: it had its outcome", body = Cancellation),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn cancel(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Path(text): Path<String>,
) -> Result<Response, Failure> {
    let id = id(&text)?;
    super::allowed(&door, &caller, id, Permission::Write).await?;
    let _permit = door.begin_request()?;
    let cancelled = door.calls.cancel(id).await?;
    let waystation_calls::Cancelled { is_cancelled, state, before } = cancelled;
    ok(&Cancellation { cancelled: is_cancelled, state, before })
}

/// List calls, newest first.
#[utoipa::path(get, path = "/v1/calls", tag = "calls", operation_id = "list_calls", params(ListParams), responses(
    (status = 200, description = "A page", body = List<api::Call>),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn list(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Params(params): Params<ListParams>,
) -> Result<Response, Failure> {
    let max = at_most("limit", params.limit.unwrap_or(100), 1, PAGE_CALLS_MAX)?;
    let operation = params.operation.as_deref().map(|name| extract::name("operation", name)).transpose()?;
    let no_id = |_| Failure::field("after", "must be the id of a call, as `next` gave it");
    let before = params.after.map(|text| text.parse()).transpose().map_err(no_id)?;
    let _permit = door.begin_request()?;
    door.calls.ready().await;
    let ListParams { state, correlation_id, retried: is_retried, .. } = params;
    let filter = Filter { operation, state, correlation_id: correlation_id.clone(), is_retried, before, max };
    let page = door.calls.list(filter).await?;
    let now = door.clock.now();
    let seen = page.calls.into_iter().filter(|seen| caller.may_see(&seen.operation));
    let items = seen.map(|seen| api::Call { correlation_id: correlation_id.clone(), ..brief(&seen, now) });
    let items = items.collect();
    ok(&List::<api::Call> { items, next: page.next.map(|id| id.to_string()) })
}

/// What is known of a call without reading its record.
fn brief(seen: &Seen, now: waystation_base::Millis) -> api::Call {
    let is_finished = seen.state.is_finished();
    api::Call {
        id: seen.id.to_string(),
        operation: seen.operation.to_string(),
        state: Some(seen.state),
        version: seen.version,
        created: seen.id.time().0,
        age_ms: now.since(seen.id.time()),
        deadline: Some(seen.due.0).filter(|_| !is_finished),
        forget_at: Some(seen.due.0).filter(|_| is_finished),
        attempt: seen.attempt,
        links: respond::links(seen.id, is_finished),
        ..api::Call::default()
    }
}
