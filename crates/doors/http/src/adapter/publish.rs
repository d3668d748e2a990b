//! How do messages come in: one as it is, many by NDJSON, events by CloudEvents?

use std::sync::Arc;

use axum::{body::Body, extract::State, http::HeaderMap, response::Response};
use serde::Deserialize;
use smol_str::SmolStr;
use utoipa::IntoParams;
use waystation_base::{Message, Name, limits::MESSAGE_BYTES_MAX, message::header, value::Value};
use waystation_broker::{
    Kind as Thing,
    command::{Payload, Publish, Target, Transaction},
    effect::Published,
};
use waystation_host::Broker;

use super::{
    extract::{self, Named, Params},
    kinds, ok, stream,
};
use crate::{
    api::{Accepted, Place, Problem, media},
    auth::{Caller, Permission},
    door::{Counts, Door},
    failure::{Failure, Kind},
    incoming,
    limits::TRANSACTION_BYTES_MAX,
    wire::{
        self, cloud, headers, line,
        lines::{self, LINE_BYTES_MAX, Lines},
    },
};

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PublishParams {
    /// Topics: this partition, instead of by key or in turn.
    pub partition: Option<u32>,
    /// NDJSON: all lines or none. The body must then fit in memory (32 MiB).
    #[serde(default)]
    pub atomic: bool,
}

/// What a body is, by its content type and headers.
enum Form {
    Lines,
    Event,
    Events,
    BinaryEvent,
    Plain,
}

fn form(headers: &HeaderMap) -> Form {
    match extract::content_type(headers).as_str() {
        media::NDJSON | "application/ndjson" | "application/jsonl" | "application/x-jsonlines" => Form::Lines,
        media::CLOUD_EVENT => Form::Event,
        media::CLOUD_EVENTS => Form::Events,
        _ if cloud::is_binary(headers) => Form::BinaryEvent,
        _ => Form::Plain,
    }
}

/// Where a publish goes.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub name: Name,
    pub partition: Option<u32>,
    /// It is a route, and this the routing key.
    pub key: Option<SmolStr>,
    /// The broker, acting on the caller's behalf.
    pub broker: Broker,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct RouteParams {
    /// The routing key of all messages (default: an empty one).
    #[serde(default)]
    pub key: String,
    /// NDJSON: all lines or none. The body must then fit in memory (32 MiB).
    #[serde(default)]
    pub atomic: bool,
}

async fn publish(
    door: Arc<Door>,
    caller: Caller,
    thing: Thing,
    address: Address,
    atomic: bool,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    caller.require(Permission::Write, &address.name)?;
    let permit = door.begin_request()?;
    kinds::require(&door, &address.name, thing).await?;
    match form(&headers) {
        Form::Lines if !atomic => stream::publish(door, permit, address, &headers, body).await,
        _ if atomic && !matches!(form(&headers), Form::Lines) => Err(Failure::field(
            "atomic",
            "applies to application/x-ndjson only; everything else is atomic anyway",
        )),
        form => whole(&door, form, address, &headers, body).await,
    }
}

/// Publishes a body that is read as a whole, as one command.
async fn whole(
    door: &Door,
    form: Form,
    address: Address,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let (what, limit) = match form {
        Form::Plain | Form::BinaryEvent => ("a message's body", MESSAGE_BYTES_MAX),
        Form::Event => ("an event", LINE_BYTES_MAX),
        Form::Events | Form::Lines => ("the body of one transaction", TRANSACTION_BYTES_MAX),
    };
    let whole = incoming::whole(door, headers, body, what, limit).await?;
    let bytes = whole.bytes.clone();
    let mut stamp = door.stamp()?;
    let one = |message: Result<Message, wire::Error>| Ok::<_, Failure>(vec![message?]);
    let messages = match form {
        Form::Plain => one(headers::message(headers, bytes, &mut stamp))?,
        Form::BinaryEvent => one(cloud::binary(headers, bytes, &mut stamp))?,
        Form::Event => one(event(headers, &bytes, &mut stamp))?,
        Form::Events => cloud::batch(&bytes, &mut stamp).map_err(at_index)?,
        Form::Lines => all_lines(bytes, &mut stamp)?,
    };
    let uuid = messages.first().filter(|_| messages.len() == 1).map(|message| message.id.to_string());
    let lines = matches!(form, Form::Lines).then_some(messages.len() as u64);
    let count = messages.len() as u64;
    let published = send(door, &address, messages).await?;
    let mut accepted = Accepted { uuid, lines, ..accepted(&published) };
    if address.key.is_some() {
        accepted.accepted = count;
        accepted.copies = Some(published.copies.into());
        accepted.unrouted = Some(published.unrouted.into());
    }
    ok(&accepted)
}

fn event(
    headers: &HeaderMap,
    body: &bytes::Bytes,
    stamp: &mut wire::stamp::Stamp,
) -> Result<Message, wire::Error> {
    let mut message = cloud::structured(body, stamp)?;
    headers::apply(headers, &mut message, stamp)?;
    message.check()?;
    Ok(message)
}

/// Names the message that is wrong among several.
pub(super) fn at_index((index, error): (usize, wire::Error)) -> Failure {
    Failure::from(error).with(|problem| problem.index = Some(index as u64))
}

fn all_lines(body: bytes::Bytes, stamp: &mut wire::stamp::Stamp) -> Result<Vec<Message>, Failure> {
    let mut lines = Lines::default();
    let mut messages = Vec::new();
    let mut number = 0;
    lines.push(body);
    loop {
        let next = lines.next_line().map_err(|error| at_line(error, number + 1))?;
        let is_last = next.is_none();
        let Some(text) = next.or_else(|| lines.finish()) else { return Ok(messages) };
        number += 1;
        if !lines::is_blank(&text) {
            messages.push(line::parse(&text, &text, stamp).map_err(|error| at_line(error, number))?);
        }
        if is_last {
            return Ok(messages);
        }
    }
}

/// Names the line of the body that is wrong.
pub(super) fn at_line(error: wire::Error, line: u64) -> Failure {
    let column = if let wire::Error::Json { column, .. } = &error { Some(*column) } else { None };
    let place = column.map_or(String::new(), |column| format!(", column {column}"));
    let detail = format!("line {line}{place}: {error}");
    Failure::from(error).with(|problem| {
        problem.detail = detail;
        problem.line = Some(line);
        problem.column = column;
    })
}

/// Publishes messages as one command and waits until they are durable.
pub(super) async fn send(
    door: &Door,
    address: &Address,
    mut messages: Vec<Message>,
) -> Result<Published, Failure> {
    if messages.is_empty() {
        return Ok(Published::default());
    }
    let count = messages.len() as u64;
    let name = address.name.clone();
    let to = match &address.key {
        None => Target::Address(name),
        Some(key) => {
            for message in &mut messages {
                message.headers.set(header::ROUTE, name.as_str());
                message.headers.set(header::ROUTING_KEY, Value::String(key.clone()));
            }
            Target::Route { route: name, keys: [key.clone()].into_iter().collect(), told: true }
        }
    };
    let publish = Publish { to, partition: address.partition, payload: Payload::Messages(messages) };
    let transaction = Transaction { publishes: vec![publish], settlements: Vec::new() };
    let published = address.broker.transact(transaction).await.inspect_err(|refusal| {
        // It may be something else by now.
        if matches!(refusal, waystation_broker::Refusal::NotFound { .. }) {
            door.kinds.forget(&address.name);
        }
    })?;
    let mut published = published.into_iter().next().unwrap_or_default();
    if address.key.is_some() {
        // They are of single copies, and the message is taken all the same.
        published.duplicates = 0;
    }
    Counts::add(&door.counts.published, count - u64::from(published.duplicates).min(count));
    Ok(published)
}

/// What a publish's outcome looks like.
pub(super) fn accepted(published: &Published) -> Accepted {
    let place = |(partition, offset, count): &(u16, waystation_base::Offset, u32)| Place {
        partition: (*partition).into(),
        offset: offset.0,
        count: (*count).into(),
    };
    let places: Vec<_> = published.stretches.iter().map(place).collect();
    Accepted {
        accepted: places.iter().map(|place| place.count).sum(),
        duplicates: published.duplicates.into(),
        places,
        ..Accepted::default()
    }
}

/// Publish to a queue.
///
/// Any content type: the body is one message, its properties are headers. `application/x-ndjson`: a message a line,
/// streamed. CloudEvents: binary, structured and batched.
#[utoipa::path(post, path = "/v1/queues/{name}/messages", tag = "queues",
    params(("name" = String, Path), PublishParams),
    request_body(content((String = "application/x-ndjson"), (String = "application/cloudevents+json"),
        (String = "application/cloudevents-batch+json"), (Vec<u8> = "application/octet-stream"))),
    responses(
    (status = 200, description = "Durable", body = Accepted),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn to_queue(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<PublishParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    if params.partition.is_some() {
        return Err(Failure::field("partition", "a queue has none"));
    }
    let address = Address { name, partition: None, key: None, broker: caller.broker(&door.broker) };
    publish(door, caller, Thing::Queue, address, params.atomic, headers, body).await
}

/// Publish to a topic; as to a queue.
#[utoipa::path(post, path = "/v1/topics/{name}/messages", tag = "topics",
    params(("name" = String, Path), PublishParams),
    request_body(content((String = "application/x-ndjson"), (String = "application/cloudevents+json"),
        (String = "application/cloudevents-batch+json"), (Vec<u8> = "application/octet-stream"))),
    responses(
    (status = 200, description = "Durable", body = Accepted),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn to_topic(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<PublishParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let address =
        Address { name, partition: params.partition, key: None, broker: caller.broker(&door.broker) };
    publish(door, caller, Thing::Topic, address, params.atomic, headers, body).await
}

/// Publish to a route, under a routing key; as to a queue. All that the route leads to takes the messages, or nothing does.
#[utoipa::path(post, path = "/v1/routes/{name}/messages", tag = "routes",
    params(("name" = String, Path), RouteParams),
    request_body(content((String = "application/x-ndjson"), (String = "application/cloudevents+json"),
        (String = "application/cloudevents-batch+json"), (Vec<u8> = "application/octet-stream"))),
    responses(
    (status = 200, description = "Durable", body = Accepted),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn to_route(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<RouteParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    if let Ok(spec) = door.routes.spec(&name).await {
        caller.require(Permission::Write, &name)?;
        let from = spec.from.taken(&name)?;
        let detail =
            format!("route '{name}' has steps: it takes messages from '{}', publish there", from.read());
        return Err(Failure::new(Kind::NotFound, detail));
    }
    let address =
        Address { name, partition: None, key: Some(params.key.into()), broker: caller.broker(&door.broker) };
    publish(door, caller, Thing::Route, address, params.atomic, headers, body).await
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use waystation_base::Millis;

    use super::*;
    use crate::wire::stamp::Stamp;

    fn read(text: &str) -> Result<usize, (Option<u64>, Option<u64>)> {
        let lines = all_lines(Bytes::copy_from_slice(text.as_bytes()), &mut Stamp::with_random(Millis(1), 7));
        lines.map(|messages| messages.len()).map_err(|failure| (failure.0.line, failure.0.column))
    }

    #[test]
    fn all_lines_are_read_blank_ones_are_passed_and_a_wrong_one_is_named() {
        assert_eq!(read(""), Ok(0));
        assert_eq!(read("{}\n\r\n{}\n"), Ok(2));
        assert_eq!(read("{}\n\n{}"), Ok(2));
        assert_eq!(read("{}\n\n{]"), Err((Some(3), Some(2))));
        assert_eq!(read("{}\n{\"ttl_ms\":0}"), Err((Some(2), None)));
    }
}
