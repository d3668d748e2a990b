//! What does an upstream get of a call, and what does a result keep of its answer?

use http::{HeaderMap, HeaderName, HeaderValue};
use waystation_base::{Message, Millis, message::header as known};
use waystation_outbound::exchange;

use super::spec::is_ours;
use crate::{Answer, CallId, names::header as call, reply};

/// Under what name a request's message keeps the caller's own correlation id.
const CALLER_CORRELATION_ID: &str = "caller-correlation-id";
/// What of an answer describes its content, and is kept in any case.
const CONTENT: [&str; 4] = ["content-type", "content-encoding", "content-language", "content-disposition"];

/// What one attempt tells the upstream about itself.
pub(super) struct About<'a> {
    pub id: CallId,
    pub operation: &'a str,
    pub attempt: u32,
    pub due: Millis,
}

fn put(headers: &mut HeaderMap, name: &str, value: &str) {
    // What HTTP cannot carry is left out, as at the HTTP door.
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// The headers of a request: the caller's that were handed on, over them the declared ones, over them ours.
pub(super) fn headers(message: &Message, declared: &HeaderMap, about: &About<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in reply::headers(message) {
        let is_of_the_call =
            [CALLER_CORRELATION_ID, call::OPERATION, call::DEADLINE].contains(&name.as_str());
        if !is_of_the_call && !is_ours(&name) {
            put(&mut headers, &name, &value);
        }
    }
    let named = |name: &str| message.headers.text(name);
    let business = message.headers.0.iter().filter(|(name, _)| name.starts_with(known::BUSINESS_PREFIX));
    for (name, value) in business.filter_map(|(name, value)| Some((name, value.as_str()?))) {
        put(&mut headers, name, value);
    }
    for (name, value) in [
        ("correlation-id", named(CALLER_CORRELATION_ID)),
        ("traceparent", named(known::TRACEPARENT)),
        ("tracestate", named(known::TRACESTATE)),
    ] {
        value.inspect(|value| put(&mut headers, name, value));
    }
    headers.extend(declared.clone());
    // A string of structured fields (RFC 8941 §3.3.3), as the draft of the header has it.
    put(&mut headers, "idempotency-key", &format!("\"{}\"", about.id));
    put(&mut headers, "ws-attempt", &about.attempt.to_string());
    put(&mut headers, "ws-operation", about.operation);
    put(&mut headers, "ws-call-deadline", &about.due.0.to_string());
    headers
}

/// The answer as a call's result. `kept`: names of headers to keep besides those of its content; `*`: all that can be.
pub(super) fn result(answer: exchange::Answer, kept: &[String]) -> Answer {
    let exchange::Answer { status, headers, body } = answer;
    let nominated = nominated(&headers);
    let is_kept = |name: &str| {
        let is_asked_for = CONTENT.contains(&name)
            || kept.iter().any(|it| it == "*" && name != "set-cookie" || it.eq_ignore_ascii_case(name));
        is_asked_for && reply::is_field_name(name) && !is_ours(name) && !nominated.iter().any(|it| it == name)
    };
    let fields = headers.iter().filter(|(name, _)| is_kept(name.as_str()));
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    let headers = fields.filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?))).collect();
    Answer { status, headers, body, error: None }
}

/// Headers that belong to the connection because `Connection` names them (RFC 9110 §7.6.1).
fn nominated(headers: &HeaderMap) -> Vec<String> {
    let lists = headers.get_all(http::header::CONNECTION).iter().filter_map(|value| value.to_str().ok());
    lists.flat_map(|list| list.split(',')).map(|name| name.trim().to_ascii_lowercase()).collect()
}

#[cfg(test)]
mod tests {
    use waystation_base::{MessageId, Value};

    use super::*;

    fn about() -> About<'static> {
        About { id: CallId(MessageId::new(Millis(1), 7)), operation: "ship", attempt: 2, due: Millis(99) }
    }

    fn sent(fields: &[(&str, &str)], declared: &[(&'static str, &'static str)]) -> Vec<(String, String)> {
        let mut message = Message::default();
        for (name, value) in fields {
            message.headers.set(*name, Value::from(*value));
        }
        let mut own = HeaderMap::new();
        for (name, value) in declared {
            own.insert(*name, HeaderValue::from_static(value));
        }
        let headers = headers(&message, &own, &about());
        let mut all: Vec<_> = headers
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_str().expect("text").to_owned()))
            .filter(|(name, _)| !matches!(name.as_str(), "ws-operation" | "ws-call-deadline"))
            .collect();
        all.sort();
        all
    }

    #[test]
    fn the_callers_headers_go_along_under_the_declared_ones_and_ours() {
        let id = about().id;
        let found = sent(
            &[
                ("content-type", "application/json"),
                ("traceparent", "00-a-b-01"),
                ("tracestate", "x=y"),
                ("caller-correlation-id", "mine"),
                ("correlation-id", "the call's"),
                ("reply-to", "$calls.replies"),
                ("call-operation", "ship"),
                ("x-colour", "blue"),
                ("authorization", "caller"),
                ("host", "evil.example"),
                ("transfer-encoding", "chunked"),
                ("idempotency-key", "evil"),
                ("ws-business-order", "7"),
                ("ws-routing-key", "r"),
                ("bad name", "x"),
            ],
            &[("authorization", "declared")],
        );
        let expected = [
            ("authorization", "declared"),
            ("content-type", "application/json"),
            ("correlation-id", "mine"),
            ("idempotency-key", &format!("\"{id}\"")),
            ("traceparent", "00-a-b-01"),
            ("tracestate", "x=y"),
            ("ws-attempt", "2"),
            ("ws-business-order", "7"),
            ("x-colour", "blue"),
        ];
        assert_eq!(found, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
    }

    #[test]
    fn a_result_keeps_what_describes_its_content_and_what_was_asked_for() {
        let mut headers = HeaderMap::new();
        for (name, value) in [
            ("content-type", "text/plain"),
            ("content-length", "4"),
            ("location", "http://169.254.169.254/"),
            ("connection", "close, x-hop"),
            ("x-hop", "1"),
            ("x-end", "2"),
            ("set-cookie", "a=b"),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let names = |kept: &[&str]| {
            let answer = exchange::Answer { status: 201, headers: headers.clone(), body: "body".into() };
            let kept: Vec<_> = kept.iter().map(|name| (*name).to_owned()).collect();
            let mut names: Vec<_> = result(answer, &kept).headers.into_iter().map(|(name, _)| name).collect();
            names.sort();
            names
        };
        assert_eq!(names(&[]), ["content-type"]);
        assert_eq!(names(&["Location", "x-hop"]), ["content-type", "location"]);
        assert_eq!(names(&["*"]), ["content-type", "location", "x-end"]);
        assert_eq!(names(&["*", "set-cookie"]).len(), 4);
    }
}
