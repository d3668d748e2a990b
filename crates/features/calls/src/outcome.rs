//! What a callback message holds: one message on the queue [`crate::names::CALLBACKS`] for each finished call that has an
//! address to be called back at, published in the transaction in which the call finishes.
//!
//! | part | what |
//! |---|---|
//! | header `callback-url` | where it goes; it matched a pattern of the operation when the call was accepted |
//! | header `webhook-id` | the call's id: the same in every attempt, as Standard Webhooks wants it |
//! | header `message-id`, `correlation-id`, `ws-cause` | the call's id too |
//! | header `type` | `call.succeeded`, `call.failed`, `call.cancelled` or `call.expired` |
//! | header `content-type` | `application/json` |
//! | header `call-operation` | the operation |
//! | header `traceparent` | the caller's, if it sent one |
//! | body | `{"type", "timestamp", "data"}`, the shape that Standard Webhooks recommends; `data` is [`document`] |
//!
//! Whoever delivers accepts the message when the receiver has taken it, and releases, requeues or rejects it otherwise.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde_json::{Map, Value, json};
use waystation_base::{Message, MessageId, Millis, message::header as known};

use crate::{
    Record,
    limits::CALLBACK_BODY_BYTES_MAX,
    names::header::{CALLBACK_URL, OPERATION, WEBHOOK_ID},
};

/// A call as plain data: `id`, `operation`, `state`, moments in milliseconds since 1970, `attempt`, `progress`, `result` (`status`,
/// `headers`, `bytes`), `problem` (RFC 9457).
pub fn document(record: &Record) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |name: &str, value: Value| {
        if !value.is_null() {
            map.insert(name.to_owned(), value);
        }
    };
    put("id", record.id.to_string().into());
    put("operation", record.operation.as_str().into());
    put("state", record.state.word().into());
    put("version", record.version.into());
    put("created", record.created.0.into());
    put("changed", record.changed.0.into());
    put("deadline", record.deadline.0.into());
    put("started", json!(record.started));
    put("finished", json!(record.finished));
    put("forget_at", json!(record.forget_at()));
    put("attempt", record.attempt.into());
    put("progress", json!(record.progress));
    put("last_error", json!(record.last_error));
    if let Some(result) = &record.result {
        let headers: Map<_, _> = result.headers.iter().map(|(n, v)| (n.clone(), v.clone().into())).collect();
        put("result", json!({"status": result.status, "headers": headers, "bytes": result.bytes}));
    }
    if let Some(fault) = &record.fault {
        put("problem", problem(record, fault));
    }
    map
}

/// The problem (RFC 9457) of a call without a result.
pub fn problem(record: &Record, fault: &crate::Fault) -> Value {
    let title =
        format!("The call has {}", if record.state == crate::State::Failed { "failed" } else { "no result" });
    let instance = format!("/v1/calls/{}", record.id);
    json!({
        "type": fault.kind, "title": title, "status": fault.status, "detail": fault.detail, "instance": instance,
    })
}

/// The body where it fits: `body` for JSON, else `body_text` or `body_base64`. Past the bound it is to be fetched.
fn put_body(result: &mut Map<String, Value>, body: &Bytes) {
    let content_type =
        result.get("headers").and_then(|it| it.get("content-type")?.as_str().map(str::to_owned));
    let is_json = content_type.is_some_and(|it| {
        let essence = it.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
        essence == "application/json" || essence.ends_with("+json")
    });
    if body.is_empty() || body.len() > CALLBACK_BODY_BYTES_MAX {
        return;
    }
    let parsed = is_json.then(|| serde_json::from_slice::<Value>(body).ok()).flatten();
    let (name, value) = match (parsed, std::str::from_utf8(body)) {
        (Some(value), _) => ("body", value),
        (None, Ok(text)) => ("body_text", text.into()),
        (None, Err(_)) => ("body_base64", BASE64.encode(body).into()),
    };
    result.insert(name.to_owned(), value);
}

/// The message that asks for a finished call's callback; none if nobody wants one.
pub(crate) fn message(record: &Record, body: &Bytes, now: Millis) -> Option<Message> {
    let url = record.callback.as_deref()?;
    let kind = format!("call.{}", record.state);
    let mut data = document(record);
    data.insert("href".into(), format!("/v1/calls/{}", record.id).into());
    if let Some(result) = data.get_mut("result").and_then(Value::as_object_mut) {
        put_body(result, body);
    }
    let text = json!({"type": kind, "timestamp": now.0, "data": data}).to_string();
    let id = record.id.to_string();
    let mut message = Message::new(MessageId(record.id.0.0), now, text);
    for (name, value) in [
        (known::CONTENT_TYPE, "application/json"),
        (known::MESSAGE_ID, &id),
        (known::CORRELATION_ID, &id),
        (known::CAUSE, &id),
        (known::TYPE, &kind),
        (WEBHOOK_ID, &id),
        (CALLBACK_URL, url),
        (OPERATION, record.operation.as_str()),
    ] {
        message.headers.set(name, value);
    }
    if let Some(trace) = &record.traceparent {
        message.headers.set(known::TRACEPARENT, trace.as_str());
    }
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(content_type: &str, body: &[u8]) -> Value {
        let mut result = Map::new();
        result.insert("headers".into(), json!({"content-type": content_type}));
        put_body(&mut result, &Bytes::copy_from_slice(body));
        result.remove("headers");
        Value::Object(result)
    }

    #[test]
    fn a_body_is_shown_as_what_it_is_and_left_out_past_the_bound() {
        assert_eq!(shown("application/json; charset=utf-8", b"[1]"), json!({"body": [1]}));
        assert_eq!(shown("application/problem+json", b"{}"), json!({"body": {}}));
        assert_eq!(shown("application/json", b"[1"), json!({"body_text": "[1"}));
        assert_eq!(shown("image/png", b"\xff"), json!({"body_base64": "/w=="}));
        let body = |bytes| shown("text/plain", &vec![b'x'; bytes]);
        assert!(body(CALLBACK_BODY_BYTES_MAX)["body_text"].is_string());
        assert_eq!(body(CALLBACK_BODY_BYTES_MAX + 1), json!({}));
    }
}
