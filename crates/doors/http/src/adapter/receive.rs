//! How are messages taken under a lease, with a wait for the first one?

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;
use waystation_base::{Message, limits::LEASE_MS_MAX};
use waystation_broker::Source;
use waystation_host::Delivery;

use super::{
    extract::{self, Named, Params, at_most},
    ok,
};
use crate::{
    api::{Problem, ReceivedPage, media},
    auth::{Caller, Permission},
    door::{Counts, Door},
    failure::Failure,
    limits::{PAGE_MESSAGES_MAX, WAIT_MS_MAX},
    wire::{cloud_out, headers, show::Shown},
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct ReceiveParams {
    /// Most messages: 1 to 10000 (default 1).
    max: Option<u32>,
    /// Milliseconds to wait for the first one: up to 60000 (default 0).
    wait_ms: Option<u64>,
    /// Milliseconds of lease, instead of the queue's or subscription's own.
    lease_ms: Option<u64>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct OneParams {
    /// Milliseconds to wait: up to 60000 (default 0).
    wait_ms: Option<u64>,
    /// Milliseconds of lease, instead of the queue's or subscription's own.
    lease_ms: Option<u64>,
}

/// Takes messages; a client that goes while it waits leaves nothing behind.
async fn take(
    door: &Door,
    caller: &Caller,
    source: Source,
    params: ReceiveParams,
) -> Result<Vec<Delivery>, Failure> {
    caller.require(Permission::Read, source.name())?;
    let max = at_most("max", params.max.unwrap_or(1), 1, PAGE_MESSAGES_MAX)?;
    let wait_ms = at_most("wait_ms", params.wait_ms.unwrap_or(0), 0, WAIT_MS_MAX)?;
    let lease_ms = params.lease_ms.map(|ms| at_most("lease_ms", ms, 1, LEASE_MS_MAX)).transpose()?;
    let _permit = door.begin_wait()?;
    let wait = Duration::from_millis(wait_ms);
    let broker = caller.broker(&door.broker);
    let taking = broker.receive(source, max, wait, lease_ms, door.clock.now());
    let messages = tokio::select! {
        biased;
        messages = taking => messages?,
        // A message on its way to a pull that ends here comes back with its lease.
        () = door.drain.begun(), if wait_ms > 0 => Vec::new(),
    };
    Counts::add(&door.counts.delivered, messages.len() as u64);
    Ok(messages)
}

#[derive(Serialize)]
struct Page<'a> {
    messages: Vec<Shown<'a>>,
}

async fn receive(
    door: Arc<Door>,
    caller: Caller,
    source: Source,
    params: ReceiveParams,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    let messages = take(&door, &caller, source, params).await?;
    if extract::accepts(&headers, media::CLOUD_EVENTS) {
        return events(&messages);
    }
    ok(&Page { messages: messages.iter().map(Shown).collect() })
}

/// Messages as a batch of CloudEvents.
pub(super) fn events(messages: &[Delivery]) -> Result<Response, Failure> {
    let events: Vec<_> = messages.iter().map(cloud_out::Event::held).collect();
    let text = serde_json::to_vec(&events).map_err(Failure::internal)?;
    Ok(([(header::CONTENT_TYPE, media::CLOUD_EVENTS)], text).into_response())
}

async fn receive_one(
    door: Arc<Door>,
    caller: Caller,
    source: Source,
    params: OneParams,
) -> Result<Response, Failure> {
    let OneParams { wait_ms, lease_ms } = params;
    let mut messages =
        take(&door, &caller, source, ReceiveParams { max: Some(1), wait_ms, lease_ms }).await?;
    let Some(delivery) = messages.pop() else { return Ok(StatusCode::NO_CONTENT.into_response()) };
    let headers = headers::of(&delivery);
    let Message { body, .. } = delivery.message;
    let mut response = Response::new(Body::from(body));
    *response.headers_mut() = headers;
    Ok(response)
}

/// Take messages of a queue under a lease, waiting for the first one.
#[utoipa::path(post, path = "/v1/queues/{name}/receive", tag = "queues",
    params(("name" = String, Path), ReceiveParams), responses(
    (status = 200, description = "What there was; `Accept: application/cloudevents-batch+json` gives events", body = ReceivedPage),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn from_queue(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<ReceiveParams>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    receive(door, caller, Source::Queue(name), params, headers).await
}

/// Take messages of a subscription under a lease, waiting for the first one.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/receive", tag = "subscriptions",
    params(("name" = String, Path), ReceiveParams), responses(
    (status = 200, description = "What there was; `Accept: application/cloudevents-batch+json` gives events", body = ReceivedPage),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn from_subscription(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<ReceiveParams>,
    headers: HeaderMap,
) -> Result<Response, Failure> {
    receive(door, caller, Source::Subscription(name), params, headers).await
}

/// Take one message of a queue: its body is the answer's body, its properties are headers.
#[utoipa::path(post, path = "/v1/queues/{name}/receive-one", tag = "queues",
    params(("name" = String, Path), OneParams), responses(
    (status = 200, description = "The message", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 204, description = "There was none"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn one_from_queue(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<OneParams>,
) -> Result<Response, Failure> {
    receive_one(door, caller, Source::Queue(name), params).await
}

/// Take one message of a subscription: its body is the answer's body, its properties are headers.
#[utoipa::path(post, path = "/v1/subscriptions/{name}/receive-one", tag = "subscriptions",
    params(("name" = String, Path), OneParams), responses(
    (status = 200, description = "The message", body = Vec<u8>, content_type = "application/octet-stream"),
    (status = 204, description = "There was none"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn one_from_subscription(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<OneParams>,
) -> Result<Response, Failure> {
    receive_one(door, caller, Source::Subscription(name), params).await
}
