//! Which properties of a message do HTTP headers carry, in and out?

use axum::http::{HeaderMap, HeaderName, HeaderValue, header as http};
use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use waystation_base::{
    Message, Value,
    message::header::{
        BUSINESS_PREFIX, CAUSE, CONTENT_ENCODING, CONTENT_TYPE, CORRELATION_ID, MESSAGE_ID, REPLY_TO,
        TRACEPARENT, TRACESTATE, TYPE, stored_name,
    },
};
use waystation_host::Delivery;

use super::{Error, line, show, stamp::Stamp, time};

/// HTTP headers that are kept as text, and the message header that each becomes.
const TEXTS: &[(&str, &str)] = &[
    ("content-type", CONTENT_TYPE),
    ("content-encoding", CONTENT_ENCODING),
    ("ws-message-id", MESSAGE_ID),
    ("ws-type", TYPE),
    ("correlation-id", CORRELATION_ID),
    ("reply-to", REPLY_TO),
    ("traceparent", TRACEPARENT),
    ("tracestate", TRACESTATE),
    ("ws-cause", CAUSE),
];
/// Prefix of the sender's own headers.
const OWN_PREFIX: &str = "ws-header-";

fn text<'a>(headers: &'a HeaderMap, name: &'static str) -> Result<Option<&'a str>, Error> {
    let mut values = headers.get_all(name).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Error::field(name, "is given more than once"));
    }
    std::str::from_utf8(value.as_bytes()).map(Some).map_err(|_| Error::field(name, "is not UTF-8"))
}

fn number<T: std::str::FromStr>(headers: &HeaderMap, name: &'static str) -> Result<Option<T>, Error> {
    let parse = |text: &str| {
        let max = std::any::type_name::<T>();
        text.trim().parse().map_err(|_| Error::field(name, format!("{text:?} is not a whole number ({max})")))
    };
    text(headers, name)?.map(parse).transpose()
}

/// Makes a message of a body and the headers that it came with.
pub fn message(headers: &HeaderMap, body: Bytes, stamp: &mut Stamp) -> Result<Message, Error> {
    let mut message = stamp.message();
    message.body = body;
    apply(headers, &mut message, stamp)?;
    for (name, header) in TEXTS {
        if let Some(text) = text(headers, name)? {
            message.headers.set(*header, text);
        }
    }
    message.check()?;
    Ok(message)
}

/// Sets the properties that are not the body's own: all but the content type.
pub fn apply(headers: &HeaderMap, message: &mut Message, stamp: &Stamp) -> Result<(), Error> {
    let key = text(headers, "ws-key")?.map(|key| Bytes::copy_from_slice(key.as_bytes()));
    let key_base64 =
        text(headers, "ws-key-base64")?.map(|key| line::decode("ws-key-base64", key)).transpose()?;
    if key.is_some() && key_base64.is_some() {
        return Err(Error::field("ws-key-base64", "is given besides ws-key"));
    }
    message.key = key.or(key_base64).or(message.key.take());
    message.priority = number(headers, "ws-priority")?.unwrap_or(message.priority);
    let deliver_at = text(headers, "ws-deliver-at")?.map(|text| {
        let wrong = || Error::field("ws-deliver-at", "must be milliseconds since 1970 or an RFC 3339 time");
        time::parse_either(text).ok_or_else(wrong)
    });
    let (ttl, delay) = (number(headers, "ws-ttl-ms")?, number(headers, "ws-delay-ms")?);
    line::schedule(message, stamp.now(), ttl, delay, deliver_at.transpose()?)?;
    for (name, value) in headers {
        let own = name.as_str().strip_prefix(OWN_PREFIX);
        if let Some(kept) = own.or(Some(name.as_str()).filter(|name| name.starts_with(BUSINESS_PREFIX))) {
            let kept = stored_name(kept.into());
            let value = std::str::from_utf8(value.as_bytes())
                .map_err(|_| Error::field(name.as_str().to_owned(), "is not UTF-8"))?;
            message.headers.set(kept, value);
        }
    }
    Ok(())
}

/// The properties of a delivered message as HTTP headers. One that HTTP cannot carry is named in `Ws-Omitted`.
pub fn of(delivery: &Delivery) -> HeaderMap {
    let message = &delivery.message;
    let mut headers = HeaderMap::new();
    let mut omitted = Vec::new();
    let mut put = |name: &str, value: &[u8]| {
        match (HeaderName::try_from(name), HeaderValue::from_bytes(value)) {
            (Ok(name), Ok(value)) => drop(headers.append(name, value)),
            _ => omitted.push(name.to_owned()),
        };
    };
    put("ws-tag", delivery.tag.to_string().as_bytes());
    put("ws-attempt", delivery.attempt.to_string().as_bytes());
    put("ws-address", delivery.address.as_str().as_bytes());
    put("ws-partition", delivery.partition.to_string().as_bytes());
    put("ws-offset", delivery.offset.to_string().as_bytes());
    put("ws-uuid", message.id.to_string().as_bytes());
    put("ws-timestamp", message.timestamp.0.to_string().as_bytes());
    put("ws-priority", message.priority.to_string().as_bytes());
    let moments = [("ws-lease-until", Some(delivery.held_until)), ("ws-expires-at", message.expires_at)];
    for (name, at) in moments {
        if let Some(ms) = at.and_then(show::real) {
            put(name, ms.to_string().as_bytes());
        }
    }
    match message.key.as_deref().map(|key| (key, std::str::from_utf8(key))) {
        Some((key, Ok(_))) if HeaderValue::from_bytes(key).is_ok() => put("ws-key", key),
        Some((key, _)) => put("ws-key-base64", BASE64.encode(key).as_bytes()),
        None => {}
    }
    for (name, value) in &message.headers.0 {
        let known = TEXTS.iter().find(|(_, header)| header == name).map(|(http, _)| (*http).to_owned());
        let as_is = Some(name.to_string())
            .filter(|name| name.starts_with(BUSINESS_PREFIX) || name.starts_with("ce-"));
        put(&known.or(as_is).unwrap_or_else(|| format!("{OWN_PREFIX}{name}")), &plain(value));
    }
    add_cloud_event(delivery, &mut headers);
    if !omitted.is_empty() {
        let names: String = omitted.join(", ").chars().filter(char::is_ascii_graphic).take(1024).collect();
        headers.extend(
            HeaderValue::try_from(names).ok().map(|names| (HeaderName::from_static("ws-omitted"), names)),
        );
    }
    headers
}

fn plain(value: &Value) -> Vec<u8> {
    let mut text = Vec::new();
    match value {
        Value::List(_) | Value::Map(_) => {
            // A vector takes everything.
            let _ = serde_json::to_writer(&mut text, &super::value::Written(value));
        }
        value => value.put_plain(&mut text),
    }
    text
}

/// What came as a CloudEvent leaves as one too: the attributes that have another home are named again.
fn add_cloud_event(delivery: &Delivery, headers: &mut HeaderMap) {
    if !headers.contains_key("ce-specversion") {
        return;
    }
    for (from, to) in [("ws-message-id", "ce-id"), ("ws-type", "ce-type"), ("ws-key", "ce-partitionkey")] {
        if let Some(value) = headers.get(from).cloned() {
            headers.insert(HeaderName::from_static(to), value);
        }
    }
    if delivery.message.headers.text(CONTENT_TYPE).is_none() {
        headers.remove(http::CONTENT_TYPE);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use waystation_base::{Attempt, Millis, Name, Offset, Tag, limits::DELAY_MS_MAX};

    use super::*;

    const NOW: Millis = Millis(1_000_000);

    fn read(pairs: &[(&str, &[u8])]) -> Result<Message, Error> {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            let name = HeaderName::try_from(*name).expect("a name");
            headers.append(name, HeaderValue::from_bytes(value).expect("a value"));
        }
        message(&headers, Bytes::from_static(b"x"), &mut Stamp::with_random(NOW, 7))
    }

    fn refused(pairs: &[(&str, &[u8])], field: &str) {
        match read(pairs) {
            Err(Error::Field { field: found, .. }) => assert_eq!(found, field, "{pairs:?}"),
            other => panic!("{pairs:?} gave {other:?}"),
        }
    }

    #[test]
    fn properties_go_in_by_headers_and_come_out_by_the_same() {
        let pairs: &[(&str, &[u8])] = &[
            ("content-type", b"text/plain"),
            ("ws-key", "ä".as_bytes()),
            ("ws-message-id", b"a-1"),
            ("ws-priority", b"9"),
            ("ws-ttl-ms", b"5"),
            ("correlation-id", b"c"),
            ("ws-business-order", b"4711"),
            ("ws-header-colour", b"blue"),
            ("traceparent", b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
        ];
        let message = read(pairs).expect("good");
        assert_eq!(message.key.as_deref(), Some("ä".as_bytes()));
        assert_eq!((message.priority, message.expires_at), (9, Some(NOW.plus(5))));
        assert_eq!(message.headers.text("colour"), Some("blue"));
        assert_eq!(message.headers.text("ws-business-order"), Some("4711"));
        let out = of(&delivered(message));
        for (name, value) in pairs.iter().filter(|(name, _)| *name != "ws-ttl-ms") {
            assert_eq!(out.get(*name).map(HeaderValue::as_bytes), Some(*value), "{name}");
        }
    }

    fn delivered(message: Message) -> Delivery {
        let address = Name::new("orders").expect("a name");
        let (attempt, offset) = (Attempt(1), Offset(0));
        Delivery { tag: Tag(1), attempt, held_until: Millis::NEVER, address, partition: 0, offset, message }
    }

    #[test]
    fn a_header_that_is_wrong_is_named() {
        refused(&[("ws-priority", b"256")], "ws-priority");
        refused(&[("ws-priority", b"1"), ("ws-priority", b"2")], "ws-priority");
        refused(&[("ws-ttl-ms", b"soon")], "ws-ttl-ms");
        refused(&[("ws-delay-ms", (DELAY_MS_MAX + 1).to_string().as_bytes())], "delay_ms");
        refused(&[("ws-deliver-at", b"tomorrow")], "ws-deliver-at");
        refused(&[("ws-key", b"\xff")], "ws-key");
        refused(&[("ws-key-base64", b"*")], "ws-key-base64");
        refused(&[("ws-header-a", b"\xff")], "ws-header-a");
    }

    #[test]
    fn what_http_cannot_carry_is_named_and_not_sent() {
        let mut message = Message::default();
        message.headers.set("two\nlines", "x");
        message.headers.set("fine", "a\nb");
        message.headers.set("list", Value::List(vec![1.into()]));
        let out = of(&delivered(message));
        assert_eq!(out.get("ws-header-list").map(HeaderValue::as_bytes), Some(&b"[1]"[..]));
        let omitted = out.get("ws-omitted").expect("named").to_str().expect("text");
        assert_eq!(omitted, "ws-header-twolines,ws-header-fine");
    }

    proptest! {
        #[test]
        fn any_headers_give_a_message_or_a_precise_error(
            pairs in proptest::collection::vec((0usize..12, proptest::collection::vec(32u8..=255, 0..12)), 0..6),
        ) {
            let names = ["ws-key", "ws-key-base64", "ws-priority", "ws-ttl-ms", "ws-delay-ms", "ws-deliver-at",
                "content-type", "ws-header-x", "ws-business-y", "ws-header-", "tracestate", "ce-id"];
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                if let Ok(value) = HeaderValue::from_bytes(&value) {
                    headers.append(HeaderName::from_static(names[name]), value);
                }
            }
            if let Ok(message) = message(&headers, Bytes::new(), &mut Stamp::with_random(NOW, 7)) {
                of(&delivered(message));
            }
        }
    }
}
