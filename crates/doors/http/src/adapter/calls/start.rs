//! How is a call started, and when is the answer the result itself?

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode},
    response::Response,
};
use waystation_base::{Message, Millis, Value, message::header};
use waystation_calls::{CallId, Key, Operation, Start, Started, limits::KEY_BYTES_MAX};

use super::{
    prefer::{self, Prefer},
    respond::{self, put},
};
use crate::{
    adapter::extract::Named,
    api::{self, Problem},
    auth::{Caller, Permission},
    door::Door,
    failure::Failure,
    incoming,
    wire::{self, headers as wire_headers},
};

/// The header that names the caller's address for the outcome.
const CALLBACK: &str = "ws-callback-url";
const KEY: &str = "idempotency-key";

/// Call an operation.
///
/// The request becomes a durable message on the operation's queue, and a call. `Prefer: wait=n` waits for the result, which
/// then is the answer; else, and with `Prefer: respond-async`, the answer is `202`. `Idempotency-Key` makes it one call however
/// often it is sent. `Ws-Callback-Url` names where the outcome goes. `Ws-Ttl-Ms` shortens the operation's time-out.
/// Content type and coding, trace context, `Ws-Header-…` and the operation's `headers` reach the worker.
#[utoipa::path(post, path = "/v1/calls/{id}", tag = "calls", operation_id = "call",
    params(
        ("id" = String, Path, description = "The operation's name"),
        ("prefer" = Option<String>, Header, description = "`respond-async`, `wait=seconds`"),
        ("idempotency-key" = Option<String>, Header, description = "1 to 255 bytes"),
        ("ws-callback-url" = Option<String>, Header, description = "Where the outcome goes; the operation must allow it"),
    ),
    request_body(content((Vec<u8> = "application/octet-stream"))),
    responses(
    (status = 202, description = "Durable, and answered later; `Location` is the call", body = api::Call, links(
        ("show" = (operation_id = "show_call", parameters(("id" = "$response.body#/id")))),
        ("cancel" = (operation_id = "cancel_call", parameters(("id" = "$response.body#/id")))),
        ("result" = (operation_id = "call_result", parameters(("id" = "$response.body#/id")))),
        ("complete" = (operation_id = "complete_call", parameters(("id" = "$response.body#/id")))),
        ("fail" = (operation_id = "fail_call", parameters(("id" = "$response.body#/id")))),
        ("progress" = (operation_id = "report_progress", parameters(("id" = "$response.body#/id")))),
        ("retry" = (operation_id = "retry_call", parameters(("id" = "$response.body#/id"))))
    )),
    (status = 200, description = "The result, with the status and headers that the worker gave, came within the wait"),
    (status = 422, description = "Among others: the idempotency key came with another body", body = Problem, content_type = "application/problem+json"),
    (status = "default", description = "Refused, or a result that is no success, as the worker gave it", content((Problem = "application/problem+json"), (Vec<u8> = "*/*"))),
))]
pub(super) async fn start(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    caller.require(Permission::Write, &name)?;
    let permit = door.begin_request()?;
    let operation = door.calls.operation(&name).await?;
    let limit = usize::try_from(operation.body_bytes_max).unwrap_or(usize::MAX);
    let body = incoming::whole(&door, &headers, body, "the body of a call to this operation", limit).await?;
    let prefer = prefer::read(&headers);
    let mut start = read(&door, &headers, body.bytes.clone(), &operation)?;
    start.caller = caller.0.name().map(str::to_owned);
    start.idempotency = key(&headers, name.as_str(), &start)?;
    let created = start.now;
    let started = door.calls.start(name.clone(), start).await?;
    drop((permit, body));
    let wait = Duration::from_millis(prefer.wait_ms(operation.default_wait_ms));
    if !wait.is_zero() && has_ended(&door, started.id, wait).await? {
        let mut response = respond::result(door.calls.show(started.id).await?);
        tell(&mut response, prefer, started, true);
        return Ok(response);
    }
    let shown = match started.is_replay || !wait.is_zero() {
        true => respond::shown(&door.calls.show(started.id).await?, door.clock.now()),
        false => fresh(started.id, name.as_str(), created),
    };
    let mut response = respond::resource(StatusCode::ACCEPTED, &shown)?;
    put(&mut response, "location", &respond::path(started.id));
    tell(&mut response, prefer, started, false);
    Ok(response)
}

fn tell(response: &mut Response, prefer: Prefer, started: Started, has_result: bool) {
    if let Some(applied) = prefer.applied(has_result) {
        put(response, "preference-applied", &applied);
    }
    if started.is_replay {
        put(response, "idempotency-replayed", "true");
    }
}

/// Waits for the outcome; not past the beginning of the server's end.
async fn has_ended(door: &Door, id: CallId, wait: Duration) -> Result<bool, Failure> {
    // With no room to wait, or while the server shuts down, the answer comes at once.
    let Ok(_permit) = door.begin_wait() else { return Ok(false) };
    tokio::select! {
        biased;
        ended = door.calls.wait(id, None, wait) => Ok(ended?),
        () = door.drain.begun() => Ok(false),
    }
}

/// A call that was accepted just now, without looking it up.
fn fresh(id: CallId, operation: &str, created: Millis) -> api::Call {
    api::Call {
        id: id.to_string(),
        operation: operation.to_owned(),
        state: Some(waystation_calls::State::Queued),
        version: 1,
        created: created.0,
        links: respond::links(id, false),
        ..api::Call::default()
    }
}

/// Makes of body and headers what the worker will see.
fn read(
    door: &Door,
    headers: &HeaderMap,
    body: bytes::Bytes,
    operation: &Operation,
) -> Result<Start, Failure> {
    let mut stamp = door.stamp()?;
    let mut message: Message = wire_headers::message(headers, body, &mut stamp)?;
    if message.deliver_at.is_some() {
        return Err(Failure::field("ws-delay-ms", "a call cannot be delayed"));
    }
    let correlation_id = message.headers.text(header::CORRELATION_ID).map(str::to_owned);
    for name in [header::CORRELATION_ID, header::REPLY_TO, header::MESSAGE_ID] {
        message.headers.remove(name);
    }
    for name in &operation.headers {
        if let Some(value) = text(headers, name)? {
            message.headers.set(header::stored_name(name.to_ascii_lowercase().into()), Value::from(value));
        }
    }
    let timeout_ms = message.expires_at.map(|at| at.since(message.timestamp));
    let callback = text(headers, CALLBACK)?.map(str::to_owned);
    Ok(Start {
        id: CallId(message.id),
        now: message.timestamp,
        body: message.body,
        headers: message.headers.0,
        key: message.key,
        priority: message.priority,
        callback,
        timeout_ms,
        correlation_id,
        ..Start::default()
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, wire::Error> {
    let Some(value) = headers.get(name) else { return Ok(None) };
    std::str::from_utf8(value.as_bytes())
        .map(Some)
        .map_err(|_| wire::Error::field(name.to_owned(), "is not UTF-8"))
}

fn key(headers: &HeaderMap, operation: &str, start: &Start) -> Result<Option<Key>, Failure> {
    let Some(value) = text(headers, KEY)? else { return Ok(None) };
    if headers.get_all(KEY).iter().count() > 1 || value.len() > 2 * KEY_BYTES_MAX + 2 {
        return Err(Failure::field(KEY, "must be given once, with at most 255 bytes"));
    }
    let content_type = start.headers.iter().find(|(name, _)| name == header::CONTENT_TYPE);
    let content_type = content_type.and_then(|(_, value)| value.as_str()).unwrap_or_default();
    let caller = start.caller.as_deref().unwrap_or_default();
    Ok(Some(Key::new(value, operation, caller, content_type, &start.body)?))
}
