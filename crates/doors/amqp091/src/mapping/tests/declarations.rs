//! Declarations: what the arguments ask for, and how wrong ones are refused.

use waystation_base::value::Value;
use waystation_broker::spec::{Overflow, QueueSpec, RetryPolicy, RouteKind, Spec, retry::Backoff};

use crate::{
    mapping::{
        ExchangeAsk, QueueAsk, QueueType, check_same_exchange, check_same_queue, exchange_type, from_json,
        queue_spec, queue_type, route_spec, to_json,
    },
    wire::Table,
};

fn table(entries: &[(&str, Value)]) -> Table {
    entries.iter().map(|(name, value)| ((*name).into(), value.clone())).collect()
}

fn ask(arguments: &Table) -> QueueAsk<'_> {
    QueueAsk { vhost: "/", name: "q", durable: true, exclusive: false, auto_delete: false, arguments }
}

fn queue(entries: &[(&str, Value)]) -> QueueSpec {
    match queue_spec(&ask(&table(entries))).expect("a queue") {
        Spec::Queue(spec) => {
            spec.check().expect("within the broker's limits");
            spec
        }
        other => panic!("not a queue: {other:?}"),
    }
}

#[test]
fn queue_arguments_become_fields() {
    let spec = queue(&[
        ("x-message-ttl", Value::I32(60_000)),
        ("x-expires", Value::I64(5)),
        ("x-max-length", Value::U8(10)),
        ("x-max-priority", Value::I16(9)),
        ("x-single-active-consumer", Value::Bool(true)),
        ("x-dead-letter-exchange", Value::from("late")),
        ("x-dead-letter-routing-key", Value::from("k")),
        ("x-queue-mode", Value::from("lazy")),
        ("mine", Value::from("kept")),
    ]);
    assert_eq!((spec.ttl_ms, spec.idle_expiry_ms, spec.max_messages), (Some(60_000), Some(5), Some(10)));
    assert_eq!((spec.max_priority, spec.single_active_consumer, spec.durable), (9, true, true));
    assert_eq!(spec.dead_letter_route.as_deref(), Some("late"));
    assert_eq!(spec.dead_letter_key.as_deref(), Some("k"));
    assert_eq!(spec.overflow, Overflow::DeadLetterHead);
    assert_eq!(spec.arguments["mine"], "kept");
    let plain = queue(&[]);
    assert_eq!((plain.max_priority, plain.overflow), (0, Overflow::RejectPublish));
}

#[test]
fn the_default_exchange_takes_dead_letters_to_a_queue_in_the_same_virtual_host() {
    let check = |vhost: &str, key: Option<&str>, expected: (Option<&str>, Option<&str>, Option<&str>)| {
        let mut arguments = table(&[("x-dead-letter-exchange", Value::from(""))]);
        arguments.0.extend(key.map(|key| ("x-dead-letter-routing-key".into(), Value::from(key))));
        let Ok(Spec::Queue(spec)) = queue_spec(&QueueAsk { vhost, ..ask(&arguments) }) else {
            panic!("a queue");
        };
        spec.check().expect("within the broker's limits");
        let found = [&spec.dead_letter, &spec.dead_letter_route, &spec.dead_letter_key].map(Option::as_deref);
        assert_eq!((found[0], found[1], found[2]), expected);
    };
    check("/", Some("retry"), (None, Some(""), Some("retry")));
    check("/", None, (None, Some(""), None));
    check("shop", Some("retry"), (None, Some(""), Some("shop::retry")));
    // The broker cannot know that keys are names in this virtual host.
    check("shop", None, (Some("shop::q"), None, None));
}

#[test]
fn overflow_follows_limit_and_dead_letters() {
    let limit = ("x-max-length", Value::I32(1));
    let letters = ("x-dead-letter-exchange", Value::from("late"));
    let how = |text: &str| ("x-overflow", Value::from(text));
    for (arguments, expected) in [
        (vec![limit.clone()], Overflow::DropHead),
        (vec![limit.clone(), letters.clone()], Overflow::DeadLetterHead),
        (vec![limit.clone(), how("drop-head")], Overflow::DropHead),
        (vec![limit.clone(), how("reject-publish"), letters.clone()], Overflow::RejectPublish),
        (vec![limit.clone(), how("reject-publish-dlx"), letters.clone()], Overflow::DeadLetterPublish),
        (vec![limit, how("reject-publish-dlx")], Overflow::RejectPublish),
        (vec![how("drop-head"), letters], Overflow::RejectPublish),
    ] {
        assert_eq!(queue(&arguments).overflow, expected, "{arguments:?}");
    }
}

#[test]
fn quorum_queues_count_deliveries_and_streams_are_topics() {
    let quorum = queue(&[("x-queue-type", Value::from("quorum")), ("x-delivery-limit", Value::I32(2))]);
    assert_eq!(quorum.max_attempts, Some(3));
    assert_eq!((&quorum.retry, queue_type(&Spec::Queue(quorum.clone()))), (&None, QueueType::Quorum));
    let arguments = table(&[
        ("x-queue-type", Value::from("stream")),
        ("x-max-age", Value::from("7D")),
        ("x-max-length-bytes", Value::I64(1 << 40)),
        ("x-stream-max-segment-size-bytes", Value::I32(1_000_000)),
    ]);
    let spec = queue_spec(&ask(&arguments)).expect("a stream");
    let Spec::Topic(topic) = &spec else { panic!("a topic") };
    assert_eq!((topic.retention_ms, topic.retention_bytes), (Some(7 * 86_400_000), Some(1 << 40)));
    assert_eq!(queue_type(&spec), QueueType::Stream);
}

#[test]
fn delayed_retries_of_quorum_queues_are_a_linear_policy() {
    let retry = |entries: &[(&str, Value)]| {
        let quorum = [("x-queue-type", Value::from("quorum"))];
        queue(&[&quorum[..], entries].concat()).retry.map(|retry| *retry)
    };
    let kind = |kind: &str| ("x-delayed-retry-type", Value::from(kind));
    let (min, max) = (("x-delayed-retry-min", Value::I32(1000)), ("x-delayed-retry-max", Value::I32(30_000)));
    let expected = RetryPolicy {
        backoff: Backoff::Linear,
        first_ms: 1000,
        most_ms: 30_000,
        jitter_percent: 0,
        ..RetryPolicy::default()
    };
    for on in ["all", "failed", "returned"] {
        assert_eq!(retry(&[kind(on), min.clone(), max.clone()]), Some(expected.clone()));
    }
    let endless = RetryPolicy { most_ms: waystation_base::limits::DELAY_MS_MAX, ..expected };
    assert_eq!(retry(&[kind("all"), min.clone()]), Some(endless));
    assert_eq!(retry(&[kind("disabled"), min.clone(), max]), None);
    assert_eq!(retry(&[kind("all")]), None);
    for (key, value, why) in [
        ("x-delayed-retry-type", Value::from("some"), "invalid_delayed_retry_type"),
        ("x-delayed-retry-min", Value::I32(0), "{value_zero,0}"),
        ("x-delayed-retry-max", Value::I64(1 << 40), "{value_too_large,1099511627776}"),
    ] {
        let arguments = table(&[("x-queue-type", Value::from("quorum")), (key, value)]);
        let refused = queue_spec(&ask(&arguments)).expect_err("wrong");
        assert!(refused.to_string().ends_with(why), "{refused}");
    }
    let most = table(&[
        ("x-queue-type", Value::from("quorum")),
        ("x-delayed-retry-min", Value::I32(9)),
        ("x-delayed-retry-max", Value::I32(8)),
    ]);
    assert!(queue_spec(&ask(&most)).is_err(), "no pause is longer than the most");
}

#[test]
fn wrong_queue_arguments_are_refused_in_the_words_that_clients_know() {
    let check = |entries: &[(&str, Value)], expected: &str| {
        let refused = queue_spec(&ask(&table(entries))).expect_err("wrong");
        assert_eq!(refused.to_string(), format!("PRECONDITION_FAILED - {expected}"));
    };
    let arg = |key: &str, why: &str| format!("invalid arg '{key}' for queue 'q' in vhost '/': {why}");
    for (key, value, why) in [
        ("x-message-ttl", Value::I32(-1), "{value_negative,-1}"),
        ("x-message-ttl", Value::from("soon"), "\"expected integer, got longstr\""),
        ("x-message-ttl", Value::I64(1 << 40), "{value_too_large,1099511627776}"),
        ("x-expires", Value::I32(0), "{value_zero,0}"),
        ("x-max-length", Value::I32(-5), "{value_negative,-5}"),
        ("x-max-length", Value::F64(5.0), "\"expected integer, got double\""),
        ("x-max-priority", Value::I32(256), "{max_value_exceeded,256}"),
        ("x-overflow", Value::from("explode"), "invalid_overflow"),
        ("x-overflow", Value::I32(5), "{unacceptable_type,signedint}"),
        ("x-dead-letter-routing-key", Value::from("k"), "routing_key_but_no_dlx_defined"),
        ("x-queue-mode", Value::from("warp"), "\"unsupported queue mode 'warp'\""),
        ("x-queue-version", Value::I32(3), "\"unsupported queue version '3'\""),
        ("x-single-active-consumer", Value::from("yes"), "{unacceptable_type,longstr}"),
        ("x-queue-type", Value::from("weird"), "\"unsupported queue type 'weird'\""),
    ] {
        check(&[(key, value)], &arg(key, why));
    }
    let of_type =
        "invalid arg 'x-delivery-limit' for queue 'q' in vhost '/' of queue type rabbit_classic_queue";
    check(&[("x-delivery-limit", Value::I32(-1))], of_type);
    let dlx = "invalid type 'signedint' for arg 'x-dead-letter-exchange' in queue 'q' in vhost '/'";
    check(&[("x-dead-letter-exchange", Value::I32(5))], dlx);
    let age = [("x-queue-type", Value::from("stream")), ("x-max-age", Value::from("0D"))];
    check(&age, &arg("x-max-age", "invalid_max_age"));
}

#[test]
fn quorum_queues_and_streams_must_be_durable_and_shared() {
    let arguments = table(&[("x-queue-type", Value::from("quorum"))]);
    for (change, property) in [
        (QueueAsk { durable: false, ..ask(&arguments) }, "non-durable"),
        (QueueAsk { exclusive: true, ..ask(&arguments) }, "exclusive-owner"),
        (QueueAsk { auto_delete: true, ..ask(&arguments) }, "auto-delete"),
    ] {
        let expected = format!("invalid property '{property}' for queue 'q' in vhost '/'");
        assert_eq!(queue_spec(&change).expect_err("wrong").text, expected);
    }
}

fn exchange<'a>(kind: &'a str, arguments: &'a Table) -> ExchangeAsk<'a> {
    let (vhost, name) = ("shop", "x");
    ExchangeAsk { vhost, name, kind, durable: true, auto_delete: false, internal: false, arguments }
}

#[test]
fn exchanges_become_routes() {
    let arguments = table(&[("alternate-exchange", Value::from("rest"))]);
    let spec = route_spec(&exchange("topic", &arguments)).expect("a route");
    assert_eq!((spec.kind, spec.alternate.as_deref()), (RouteKind::Topic, Some("shop::rest")));
    let arguments = table(&[("x-delayed-type", Value::from("direct"))]);
    let delayed = route_spec(&exchange("x-delayed-message", &arguments)).expect("a route");
    assert_eq!((delayed.kind, delayed.delay_header.as_deref()), (RouteKind::Direct, Some("x-delay")));
    assert_eq!(exchange_type(&delayed), "x-delayed-message");
    let none = Table::default();
    let refused = |kind| route_spec(&exchange(kind, &none)).expect_err("wrong").to_string();
    assert_eq!(refused("x-random"), "COMMAND_INVALID - unknown exchange type 'x-random'");
    let text = "PRECONDITION_FAILED - Invalid argument, 'x-delayed-type' must be an existing exchange type";
    assert_eq!(refused("x-delayed-message"), text);
    let wrong = table(&[("alternate-exchange", Value::Bool(true))]);
    let text = "invalid type 'bool' for arg 'alternate-exchange' in exchange 'x' in vhost 'shop'";
    assert_eq!(route_spec(&exchange("direct", &wrong)).expect_err("wrong").text, text);
}

#[test]
fn a_queue_declared_otherwise_is_told_what_differs() {
    let arguments = table(&[("x-max-length", Value::I32(5)), ("x-overflow", Value::from("drop-head"))]);
    let current = queue_spec(&ask(&arguments)).expect("a queue");
    let check = |asked: QueueAsk<'_>, expected: Option<&str>| {
        let found = check_same_queue(&asked, &current).map_err(|refused| refused.text).err();
        let text = |differs| format!("inequivalent arg {differs}");
        assert_eq!(found, expected.map(text));
    };
    check(ask(&arguments), None);
    let wider = table(&[
        ("x-overflow", Value::from("drop-head")),
        ("x-max-length", Value::I64(5)),
        ("x-queue-type", Value::from("classic")),
        ("mine", Value::Null),
    ]);
    check(ask(&wider), None);
    let here = "for queue 'q' in vhost '/': received";
    check(
        QueueAsk { durable: false, ..ask(&arguments) },
        Some(&format!("'durable' {here} 'false' but current is 'true'")),
    );
    check(
        QueueAsk { auto_delete: true, ..ask(&arguments) },
        Some(&format!("'auto_delete' {here} 'true' but current is 'false'")),
    );
    let other = table(&[("x-max-length", Value::I32(6)), ("x-overflow", Value::from("drop-head"))]);
    check(ask(&other), Some(&format!("'x-max-length' {here} '6' but current is '5'")));
    let less = table(&[("x-max-length", Value::I32(5))]);
    let text = format!("'x-overflow' {here} none but current is the value 'drop-head' of type 'longstr'");
    check(ask(&less), Some(&text));
    let more = table(&[
        ("x-max-length", Value::I32(5)),
        ("x-overflow", Value::from("drop-head")),
        ("x-expires", Value::I32(9)),
    ]);
    check(
        ask(&more),
        Some(&format!("'x-expires' {here} the value '9' of type 'signedint' but current is none")),
    );
}

#[test]
fn a_stream_is_not_a_queue_of_another_type() {
    let stream = table(&[("x-queue-type", Value::from("stream"))]);
    let current = queue_spec(&ask(&stream)).expect("a stream");
    assert_eq!(check_same_queue(&ask(&stream), &current), Ok(()));
    let differs = check_same_queue(&ask(&Table::default()), &current).expect_err("another type");
    let expected = "inequivalent arg 'x-queue-type' for queue 'q' in vhost '/': received none but current is the value \
                    'stream' of type 'longstr'";
    assert_eq!(differs.text, expected);
}

#[test]
fn an_exchange_declared_otherwise_is_told_what_differs() {
    let arguments = table(&[("alternate-exchange", Value::from("rest"))]);
    let current = route_spec(&exchange("topic", &arguments)).expect("a route");
    let check = |asked: ExchangeAsk<'_>, expected: &str| {
        let found = check_same_exchange(&asked, &current).expect_err("differs").text;
        assert_eq!(found, format!("inequivalent arg {expected}"));
    };
    assert_eq!(check_same_exchange(&exchange("topic", &arguments), &current), Ok(()));
    let here = "for exchange 'x' in vhost 'shop': received";
    check(exchange("direct", &arguments), &format!("'type' {here} 'direct' but current is 'topic'"));
    let internal = ExchangeAsk { internal: true, ..exchange("topic", &arguments) };
    check(internal, &format!("'internal' {here} 'true' but current is 'false'"));
    let none = Table::default();
    let text = "none but current is the value 'rest' of type 'longstr'";
    check(exchange("topic", &none), &format!("'alternate-exchange' {here} {text}"));
}

#[test]
fn arguments_are_kept_as_json() {
    let table = table(&[
        ("a", Value::I32(5)),
        ("b", Value::I64(1 << 40)),
        ("c", Value::List(vec![Value::Bool(true), Value::Null, Value::F64(0.5)])),
        ("d", Value::Map(vec![("e".into(), Value::from("f"))])),
    ]);
    assert_eq!(from_json(&to_json(&table)), table);
}
