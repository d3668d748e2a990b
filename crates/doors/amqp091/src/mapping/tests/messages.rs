//! Messages: in and out again, and what other doors see of them.

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use smol_str::SmolStr;
use waystation_base::{
    Message, MessageId, Millis, Offset,
    batch::{Encoder, Record, Scratch},
    limits::DELAY_MS_MAX,
    message::header,
    value::Value,
};

use crate::{
    mapping::{Extras, Incoming, Invalid, Outgoing, read_message},
    wire::{Properties, Table, Text},
};

const NOW: Millis = Millis(1_700_000_000_123);

fn read(properties: &Properties) -> Result<Incoming, Invalid> {
    let mut bytes = BytesMut::new();
    properties.write(&mut bytes);
    let id = MessageId::new(NOW, 7);
    read_message(&bytes, "exchange".into(), "key".into(), Bytes::from_static(b"body"), id, NOW)
}

fn written(message: &Message, extras: Extras) -> Properties {
    let mut bytes = BytesMut::new();
    Outgoing::new(message, "source", extras).write_properties(&mut bytes);
    Properties::read(&bytes).expect("well-formed")
}

/// As it comes back from the journal.
fn stored(message: &Message) -> Message {
    let (mut bytes, mut scratch) = (Vec::new(), Scratch::default());
    let mut encoder = Encoder::new(&mut bytes, &mut scratch, Offset(5), message.timestamp);
    let at = encoder.push(Offset(5), message);
    encoder.finish();
    let batch = Bytes::from(bytes);
    Record::read(&batch, at).expect("a record").message(&batch).expect("a message")
}

fn entry(name: &str, value: impl Into<Value>) -> (SmolStr, Value) {
    (name.into(), value.into())
}

fn any_text() -> impl Strategy<Value = Option<Text>> {
    proptest::option::of(proptest::collection::vec(any::<u8>(), 0..40).prop_map(|bytes| Text::new(&bytes)))
}

fn any_headers() -> impl Strategy<Value = Table> {
    let name = prop_oneof![
        Just("content-type"),
        Just("type"),
        Just("ws-exchange"),
        Just("ws-business-order"),
        Just("ws-cause"),
        Just("ws-amqp-header-x"),
        Just("ws-"),
        Just(""),
        Just("x-delay"),
        Just("x-delivery-count"),
        Just("ä"),
    ];
    let value = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::Bool),
        any::<i8>().prop_map(Value::I8),
        any::<u32>().prop_map(Value::U32),
        any::<i64>().prop_map(Value::I64),
        (0..u64::MAX / 1000).prop_map(|seconds| Value::Timestamp(Millis(seconds * 1000))),
        ".{0,40}".prop_map(Value::from),
        proptest::collection::vec(any::<u8>(), 0..9).prop_map(|bytes| Value::Bytes(bytes.into())),
        Just(Value::List(vec![Value::I16(4), Value::Map(vec![entry("a", "b")])])),
    ];
    proptest::collection::vec((name.prop_map(SmolStr::new), value), 0..8).prop_map(Table)
}

prop_compose! {
    fn any_properties()(
        texts in proptest::array::uniform9(any_text()),
        headers in proptest::option::of(any_headers()),
        delivery_mode: Option<u8>,
        priority: Option<u8>,
        expiration in proptest::option::of(0..DELAY_MS_MAX),
        timestamp: Option<u64>,
    ) -> Properties {
        let [content_type, content_encoding, correlation_id, reply_to, message_id, kind, user_id, app_id, cluster_id] = texts;
        let expiration = expiration.map(|ms| Text::from(&*ms.to_string()));
        Properties {
            content_type, content_encoding, headers, delivery_mode, priority, correlation_id, reply_to, expiration,
            message_id, timestamp, kind, user_id, app_id, cluster_id,
        }
    }
}

proptest! {
    #[test]
    fn a_message_comes_back_from_the_journal_as_it_was_sent(properties in any_properties()) {
        let message = stored(&read(&properties).expect("a message").message);
        prop_assert_eq!(written(&message, Extras::default()), properties);
        let outgoing = Outgoing::new(&message, "source", Extras::default());
        prop_assert_eq!((&*outgoing.exchange(), &*outgoing.routing_key()), ("exchange", "key"));
        prop_assert_eq!(&message.body[..], b"body");
    }
}

#[test]
fn other_doors_see_the_properties_under_their_own_names() {
    let properties = Properties {
        content_type: Some("text/plain".into()),
        priority: Some(7),
        correlation_id: Some(Text::new(b"\xff")),
        expiration: Some("1500".into()),
        timestamp: Some(1_600_000_000),
        kind: Some("order".into()),
        headers: Some(Table(vec![entry("traceparent", "00-1"), entry("ws-business-order", "4711")])),
        ..Properties::default()
    };
    let message = read(&properties).expect("a message").message;
    assert_eq!(message.headers.text(header::CONTENT_TYPE), Some("text/plain"));
    assert_eq!(
        message.headers.get(header::CORRELATION_ID),
        Some(&Value::RawText(Bytes::from_static(b"\xff")))
    );
    assert_eq!(message.headers.text(header::TYPE), Some("order"));
    assert_eq!(message.headers.text("traceparent"), Some("00-1"));
    assert_eq!(message.headers.text("ws-business-order"), Some("4711"));
    assert_eq!((message.priority, message.timestamp), (7, Millis(1_600_000_000_000)));
    assert_eq!(message.expires_at, Some(NOW.plus(1500)));
}

#[test]
fn a_message_from_another_door_shows_all_it_has() {
    let mut message = Message::new(MessageId::default(), NOW, "body");
    message.expires_at = Some(NOW.plus(50));
    message.headers.set(header::CONTENT_TYPE, "text/plain");
    message.headers.set(header::MESSAGE_ID, "x".repeat(256));
    message.headers.set("color", "red");
    message.headers.set("ws-secret", "not shown");
    let properties = written(&message, Extras::default());
    let expected = Properties {
        content_type: Some("text/plain".into()),
        delivery_mode: Some(2),
        expiration: Some("50".into()),
        timestamp: Some(NOW.0 / 1000),
        // Too long for a property: an entry under the same name.
        headers: Some(Table(vec![entry("message-id", "x".repeat(256)), entry("color", "red")])),
        ..Properties::default()
    };
    assert_eq!(properties, expected);
    let outgoing = Outgoing::new(&message, "shop::orders", Extras::default());
    assert_eq!((&*outgoing.exchange(), &*outgoing.routing_key()), ("", "orders"));
}

#[test]
fn a_delivery_adds_counts_and_history_in_the_words_of_amqp() {
    let sent = Properties {
        headers: Some(Table(vec![
            entry("x-delivery-count", "mine"),
            entry("x-death", "mine"),
            entry("a", 1i64),
        ])),
        ..Properties::default()
    };
    let mut message = read(&sent).expect("a message").message;
    let death = |exchange: &str, name: &dyn Fn(&str) -> String| {
        let is_default = exchange.is_empty();
        let key = if is_default { name("b") } else { "a::b".to_owned() };
        let exchange = if is_default { String::new() } else { name(exchange) };
        let keys = entry("routing-keys", Value::List(vec![Value::from(key)]));
        Value::Map(vec![
            entry("count", 2i64),
            entry("queue", name("late")),
            entry("exchange", exchange),
            keys,
        ])
    };
    let ours = |name: &str| format!("shop::{name}");
    message.headers.set(header::DEATHS, Value::List(vec![death("ex", &ours), death("", &ours)]));
    message.headers.set(header::DEATH_FIRST_SOURCE, "shop::first");
    message.headers.set(header::DEATH_FIRST_REASON, "max_length");
    message.headers.set(header::DEATH_REASON, "max_length");
    let extras = Extras { delivery_count: Some(3), stream_offset: Some(9) };
    let expected = vec![
        entry("a", 1i64),
        entry("x-death", Value::List(vec![death("ex", &str::to_owned), death("", &str::to_owned)])),
        entry("x-first-death-queue", "first"),
        entry("x-first-death-reason", "maxlen"),
        entry("x-delivery-count", 3i64),
        entry("x-stream-offset", 9i64),
    ];
    assert_eq!(written(&message, extras).headers, Some(Table(expected)));
    let none = written(&message, Extras { delivery_count: Some(0), stream_offset: None }).headers;
    assert_eq!(none.expect("headers").get("x-delivery-count"), Some(&Value::from("mine")));
}

#[test]
fn copies_are_noted_and_blind_copies_are_not_stored() {
    let list = |keys: &[&str]| Value::List(keys.iter().map(|key| Value::from(*key)).collect());
    let with = |entries| Properties { headers: Some(Table(entries)), ..Properties::default() };
    let incoming =
        read(&with(vec![entry("CC", list(&["a", "b"])), entry("BCC", list(&["c"]))])).expect("keys");
    assert_eq!(incoming.copies[..], ["a", "b", "c"]);
    assert_eq!(incoming.message.headers.get("CC"), Some(&list(&["a", "b"])));
    assert_eq!(incoming.message.headers.get("BCC"), None);
    let refused = read(&with(vec![entry("CC", "a")])).expect_err("no list");
    let text = "PRECONDITION_FAILED - invalid message: {unacceptable_type_in_header,\"CC\",longstr}";
    assert_eq!(refused.to_string(), text);
}

#[test]
fn an_expiration_must_be_a_whole_number_of_milliseconds() {
    let check = |text: &str, expected: Result<u64, &str>| {
        let properties = Properties { expiration: Some(text.into()), ..Properties::default() };
        let found = read(&properties).map(|incoming| incoming.message.expires_at.expect("a time").0 - NOW.0);
        let expected =
            expected.map_err(|why| format!("PRECONDITION_FAILED - invalid expiration '{text}': {why}"));
        assert_eq!(found.map_err(|refused| refused.to_string()), expected);
    };
    check("1500", Ok(1500));
    check("+5", Ok(5));
    check("0", Ok(0));
    check("soon", Err("no_integer"));
    check("", Err("no_integer"));
    check("-5", Err("{value_negative,-5}"));
    check("5s", Err("{leftover_string,\"s\"}"));
    check(&DELAY_MS_MAX.to_string(), Ok(DELAY_MS_MAX));
    check("315360000001", Err("{value_too_large,315360000001}"));
    check(&"9".repeat(60), Err(&format!("{{value_too_large,{}}}", "9".repeat(60))));
}

#[test]
fn malformed_properties_are_refused_as_syntax_errors() {
    let check = |bytes: &[u8], expected: &str| {
        let refused = read_message(bytes, "".into(), "".into(), Bytes::new(), MessageId::default(), NOW);
        assert_eq!(refused.expect_err("malformed").to_string(), expected);
    };
    check(b"", "SYNTAX_ERROR - arguments end too early");
    check(b"\x80\0\x05a", "SYNTAX_ERROR - arguments end too early");
    check(b"\0\0\0", "SYNTAX_ERROR - 1 bytes behind the last argument");
    check(b"\x20\0\0\0\0\x03\x01a?", "SYNTAX_ERROR - table field type '?' is unknown");
}
