//! Messages by hand: published to an exchange, got from a queue. For trying things out, not for traffic.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::{Bytes, BytesMut};
use serde_json::{Map, Value, json};
use waystation_access::Action;
use waystation_base::{MessageId, os};
use waystation_broker::{
    Kind, Refusal, Source,
    command::{Outcome, Payload, Publish, Settlement, Target},
};
use waystation_host::Delivery;

use super::{
    desk::{Desk, Object, Who},
    failure::Failure,
    gather::{self, Found},
    objects::exchange_name,
};
use crate::{
    mapping::{Extras, Outgoing, from_json, json as value_json, names, read_message},
    wire::{Properties, Text},
};

/// Messages got by one request.
pub const GET_COUNT_MAX: i64 = 10_000;
/// Bytes of them, after which no further one is got.
const GET_BYTES_MAX: usize = 32 << 20;

/// The texts among the properties.
type TextOf = fn(&mut Properties) -> &mut Option<Text>;
const TEXTS: &[(&str, TextOf)] = &[
    ("content_type", |it| &mut it.content_type),
    ("content_encoding", |it| &mut it.content_encoding),
    ("correlation_id", |it| &mut it.correlation_id),
    ("reply_to", |it| &mut it.reply_to),
    ("expiration", |it| &mut it.expiration),
    ("message_id", |it| &mut it.message_id),
    ("type", |it| &mut it.kind),
    ("user_id", |it| &mut it.user_id),
    ("app_id", |it| &mut it.app_id),
    ("cluster_id", |it| &mut it.cluster_id),
];
/// Bytes of a text property: a short string's length is one byte.
const TEXT_BYTES_MAX: usize = 255;

fn properties_of(body: &Object) -> Result<Properties, Failure> {
    let given = Object(body.object("properties")?);
    let mut properties = Properties::default();
    for (name, place) in TEXTS {
        let Some(text) = given.text(name)? else { continue };
        if text.len() > TEXT_BYTES_MAX {
            return Err(Failure::bad_request(format!("{name} may have {TEXT_BYTES_MAX} bytes")));
        }
        *place(&mut properties) = Some(Text::from(text));
    }
    let byte = |name: &str| -> Result<Option<u8>, Failure> {
        let number = given.number(name)?;
        let wrong = |_| Failure::bad_request(format!("{name} must lie between 0 and 255"));
        number.map(u8::try_from).transpose().map_err(wrong)
    };
    properties.delivery_mode = byte("delivery_mode")?;
    properties.priority = byte("priority")?;
    let wrong = |_| Failure::bad_request("timestamp must not be negative");
    properties.timestamp = given.number("timestamp")?.map(u64::try_from).transpose().map_err(wrong)?;
    if given.0.contains_key("headers") {
        properties.headers = Some(from_json(&given.object("headers")?));
    }
    Ok(properties)
}

fn payload_of(body: &Object) -> Result<Bytes, Failure> {
    let payload = body.text("payload")?.unwrap_or_default();
    match body.text("payload_encoding")? {
        Some("string") => Ok(Bytes::copy_from_slice(payload.as_bytes())),
        Some("base64") => {
            let decoded = STANDARD.decode(payload);
            decoded.map(Bytes::from).map_err(|_| Failure::bad_request(json!(["not_base64", payload])))
        }
        other => Err(Failure::bad_request(json!(["unsupported_encoding", other]))),
    }
}

pub(super) async fn publish(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, exchange)): Path<(String, String)>,
    body: Object,
) -> Result<Json<Value>, Failure> {
    who.enter(&desk, &host)?;
    let exchange = exchange_name(&exchange);
    body.require(&["payload", "payload_encoding", "properties", "routing_key"])?;
    let key = body.text("routing_key")?.unwrap_or_default();
    if !who.caller.may_publish(&host, exchange, key) {
        return Err(Failure::access_refused());
    }
    let properties = properties_of(&body)?;
    check_user(&who, &properties)?;
    let absent =
        || Failure::bad_request(format!("404 NOT_FOUND - no exchange '{exchange}' in vhost '{host}'"));
    let route = match exchange {
        "" => None,
        exchange => {
            let info = gather::exchange(&who.broker, &host, exchange).await.map_err(|_| absent())?;
            let is_topic = info.spec.kind == waystation_broker::spec::RouteKind::Topic;
            if is_topic && !who.caller.may_topic(Action::Write, &host, exchange, key) {
                return Err(Failure::access_refused());
            }
            Some(info.name)
        }
    };
    let mut encoded = BytesMut::new();
    properties.write(&mut encoded);
    let now = desk.clock.now();
    let id = MessageId::new(now, os::random().map_err(Failure::internal)?);
    let name = route.as_ref().map(|route| route.as_str().into()).unwrap_or_default();
    let incoming = read_message(&encoded, name, key.into(), payload_of(&body)?, id, now)?;
    let mut keys = vec![key.into()];
    keys.extend(incoming.copies);
    let payload = |message| Payload::Messages(vec![message]);
    let publishes = match route {
        Some(route) => {
            let to = Target::Route { route, keys: keys.into_iter().collect(), told: true };
            vec![Publish { to, partition: None, payload: payload(incoming.message) }]
        }
        None => {
            let address = |key: &smol_str::SmolStr| names::name(&host, key).ok();
            let publish = |key| Publish {
                to: Target::Key { key, told: true },
                partition: None,
                payload: payload(incoming.message.clone()),
            };
            keys.iter().filter_map(address).map(publish).collect()
        }
    };
    let mut routed = false;
    for result in who.broker.publish_each(publishes).await? {
        match result {
            Ok(published) => routed |= published.unrouted == 0,
            Err(Refusal::NotFound { kind: Kind::Route, .. }) => return Err(absent()),
            // A full queue refuses; the message counts as not taken.
            Err(Refusal::Full { .. }) => routed = true,
            Err(refusal) => return Err(refusal.into()),
        }
    }
    Ok(Json(json!({"routed": routed})))
}

/// A message may name only its own user as its publisher.
fn check_user(who: &Who, properties: &Properties) -> Result<(), Failure> {
    let Some(user) = properties.user_id.as_ref().and_then(Text::as_str) else { return Ok(()) };
    if user == who.name() || who.tags().may_impersonate() {
        return Ok(());
    }
    let own = who.name();
    let reason = format!(
        "406 PRECONDITION_FAILED - user_id property set to '{user}' but authenticated user was '{own}'"
    );
    Err(Failure::bad_request(reason))
}

/// What becomes of a message that was shown.
fn outcome(mode: &str) -> Result<Outcome, Failure> {
    match mode {
        "ack_requeue_true" | "reject_requeue_true" => Ok(Outcome::Requeued { delay_ms: 0 }),
        "ack_requeue_false" => Ok(Outcome::Accepted),
        "reject_requeue_false" => Ok(Outcome::Rejected { error: None, class: None }),
        _ => Err(Failure::bad_request("Unsupported ackmode")),
    }
}

pub(super) async fn get(
    State(desk): State<Arc<Desk>>,
    who: Who,
    Path((host, name)): Path<(String, String)>,
    body: Object,
) -> Result<Json<Value>, Failure> {
    who.enter(&desk, &host)?;
    body.require(&["ackmode", "count", "encoding"])?;
    let outcome = outcome(body.text("ackmode")?.unwrap_or_default())?;
    let count = body.number("count")?.unwrap_or(1).clamp(0, GET_COUNT_MAX);
    let truncate = body.number("truncate")?.and_then(|bytes| usize::try_from(bytes).ok());
    let as_base64 = match body.text("encoding")? {
        Some("auto") => false,
        Some("base64") => true,
        _ => return Err(Failure::bad_request("Unsupported encoding. Please use auto or base64.")),
    };
    let absent = || Failure::missing(format!("NOT_FOUND - no queue '{name}' in vhost '{host}'"));
    let found = gather::queue(&who.broker, &host, &name).await.map_err(|_| absent())?;
    who.require(Action::Read, &host, &name)?;
    let Found::Queue(info) = found else {
        let reason = format!("540 basic.get not supported by stream queues queue '{name}' in vhost '{host}'");
        return Err(Failure::bad_request(reason));
    };
    let source = Source::Queue(info.name.clone());
    let session = who.broker.session();
    let mut got = Vec::new();
    let mut bytes = 0;
    let result = loop {
        if got.len() as i64 >= count || bytes >= GET_BYTES_MAX {
            break Ok(());
        }
        match who.broker.get_once(source.clone(), session).await {
            Ok(Some(delivery)) => {
                bytes += delivery.message.size();
                got.push(delivery);
            }
            Ok(None) => break Ok(()),
            Err(refusal) => break Err(refusal),
        }
    };
    let settlement =
        |it: &Delivery| Settlement { tag: it.tag, attempt: it.attempt, outcome: outcome.clone() };
    let settled = match (&result, got.is_empty()) {
        (Ok(()), false) => who.broker.settle(source, got.iter().map(settlement).collect()).await,
        _ => Ok(()),
    };
    // What could not be settled comes back by this.
    who.broker.close_session(session).await?;
    result?;
    settled?;
    let left = |at: usize| info.ready.saturating_sub(at as u64 + 1);
    let shown = got.iter().enumerate().map(|(at, it)| show(it, left(at), truncate, as_base64));
    Ok(Json(shown.collect()))
}

fn show(delivery: &Delivery, left: u64, truncate: Option<usize>, as_base64: bool) -> Value {
    let message = &delivery.message;
    let outgoing = Outgoing::new(message, delivery.address.as_str(), Extras::default());
    let mut encoded = BytesMut::new();
    outgoing.write_properties(&mut encoded);
    let body = &message.body[..truncate.unwrap_or(usize::MAX).min(message.body.len())];
    let (payload, encoding) = match std::str::from_utf8(body) {
        Ok(text) if !as_base64 => (text.to_owned(), "string"),
        _ => (STANDARD.encode(body), "base64"),
    };
    json!({
        "payload_bytes": message.body.len(),
        "redelivered": delivery.attempt.0 > 1,
        "exchange": outgoing.exchange(),
        "routing_key": outgoing.routing_key(),
        "message_count": left,
        "properties": show_properties(Properties::read(&encoded).unwrap_or_default()),
        "payload": payload,
        "payload_encoding": encoding,
    })
}

fn show_properties(mut properties: Properties) -> Value {
    let mut shown = Map::new();
    for (name, place) in TEXTS {
        if let Some(text) = place(&mut properties).take() {
            shown.insert((*name).to_owned(), String::from_utf8_lossy(text.as_bytes()).into());
        }
    }
    let numbers = [
        ("delivery_mode", properties.delivery_mode.map(u64::from)),
        ("priority", properties.priority.map(u64::from)),
        ("timestamp", properties.timestamp),
    ];
    for (name, number) in numbers {
        shown.extend(number.map(|number| (name.to_owned(), number.into())));
    }
    if let Some(headers) = properties.headers {
        let headers = headers.0.iter().map(|(name, value)| (name.to_string(), value_json(value)));
        shown.insert("headers".to_owned(), Value::Object(headers.collect()));
    }
    // No properties at all are an empty list, as RabbitMQ's encoder has it.
    if shown.is_empty() { json!([]) } else { Value::Object(shown) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn object(value: Value) -> Object {
        let Value::Object(map) = value else { panic!("an object") };
        Object(map)
    }

    #[test]
    fn properties_come_back_as_they_were_given() {
        let given = json!({
            "delivery_mode": 2, "headers": {"h": 1, "l": [1, "x"], "m": {"a": true}}, "content_type": "text/plain",
            "priority": 3, "expiration": "100000", "message_id": "m", "timestamp": 1_700_000_000, "type": "t",
            "app_id": "a", "user_id": "guest", "cluster_id": "c", "correlation_id": "co", "reply_to": "r",
            "content_encoding": "e"
        });
        let properties = properties_of(&object(json!({"properties": given}))).expect("good");
        assert_eq!(show_properties(properties), given);
        assert_eq!(show_properties(Properties::default()), json!([]));
    }

    #[test]
    fn properties_hold_at_their_bounds_and_are_refused_past_them() {
        let check = |properties: Value| properties_of(&object(json!({"properties": properties}))).is_ok();
        assert!(check(json!([])));
        assert!(check(json!({"message_id": "x".repeat(TEXT_BYTES_MAX)})));
        assert!(!check(json!({"message_id": "x".repeat(TEXT_BYTES_MAX + 1)})));
        assert!(check(json!({"priority": 255})) && !check(json!({"priority": 256})));
        assert!(!check(json!({"timestamp": -1})));
        assert!(!check(json!({"headers": "x"})));
    }

    #[test]
    fn a_payload_is_text_or_base64() {
        let check = |body: Value| payload_of(&object(body)).map_err(|failure| failure.reason);
        assert_eq!(check(json!({"payload": "ä", "payload_encoding": "string"})), Ok(Bytes::from("ä")));
        assert_eq!(
            check(json!({"payload": "//8=", "payload_encoding": "base64"})),
            Ok(Bytes::from(vec![255, 255]))
        );
        assert_eq!(
            check(json!({"payload": "@@", "payload_encoding": "base64"})),
            Err(json!(["not_base64", "@@"]))
        );
    }
}
