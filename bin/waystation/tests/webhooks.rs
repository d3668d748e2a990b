//! Does a push deliver each message at least once, with one id, whatever its receiver and this server go through?

mod common;
#[path = "common/service.rs"]
mod service;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

use common::{Server, Setup, until};
use serde_json::{Value, json};
use service::{Asked, Do, Service, status};
use waystation_webhooks::sign::{Secret, signature};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

fn setup() -> Setup {
    let mut setup = Setup::new();
    let more = ["--amqp", "off", "--amqp-management", "off", "--webhook-allow", "127.0.0.1"];
    setup.arguments.extend(more.map(str::to_owned));
    setup
}

/// A server with a queue `work` whose dead letters go to `dead`, and a push of it.
fn pushing(setup: &Setup, receiver: &Service, options: &str) -> Server {
    let server = setup.start();
    server.ok("queue create dead");
    server.ok("queue create work --dead-letter dead");
    let url = receiver.url();
    server.ok(&format!(
        "push create p --queue work --url {url} --secret {SECRET} --timeout 2s --retry first=50ms,most=200ms \
         --breaker-failures 1000"
    ));
    if !options.is_empty() {
        server.ok(&format!("push change p {options}"));
    }
    server
}

fn publish(server: &Server, numbers: std::ops::Range<u32>) {
    let lines: String = numbers.map(|n| format!("{}\n", json!({"body": {"n": n}}))).collect();
    server.cli_with(&["publish", "work", "--ndjson", "-"], lines.as_bytes()).good();
}

fn number(seen: &Asked) -> u64 {
    serde_json::from_slice::<Value>(seen.body.as_bytes()).expect("JSON")["n"].as_u64().expect("a number")
}

fn show(server: &Server) -> Value {
    server.json("push show p")
}

fn metrics(server: &Server) -> String {
    let address = server.url.strip_prefix("http://").expect("plain HTTP");
    let mut stream = TcpStream::connect(address).expect("connected");
    let request = format!("GET /metrics HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("written");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    text
}

#[test]
fn a_suspended_push_that_is_resumed_tries_at_once() {
    let mut is_first = true;
    let receiver = Service::new(move |_| match std::mem::take(&mut is_first) {
        true => Do::Answer(503, "retry-after: 600\r\n", String::new()),
        false => status(204),
    });
    let setup = setup();
    let server = pushing(&setup, &receiver, "");
    publish(&server, 1..2);
    until("it is suspended", || show(&server)["state"] == "suspended");
    publish(&server, 2..3);
    server.ok("push resume p");
    until("the second is delivered", || show(&server)["counts"]["delivered"] == 1);
    assert_eq!(receiver.asked().iter().map(number).collect::<Vec<_>>(), [1, 2]);
}

fn is_empty(server: &Server) -> bool {
    let queue = server.json("queue show work");
    ["ready", "in_flight", "delayed"].iter().all(|what| queue[what] == 0)
}

#[test]
fn a_receiver_that_fails_in_every_way_gets_the_message_under_one_id_and_a_good_signature() {
    let mut step = 0;
    let receiver = Service::new(move |_| {
        step += 1;
        match step {
            1 => status(500),
            2 => Do::Silent(Duration::from_secs(60)),
            3 => Do::Raw(Vec::new()),
            4 => status(302),
            5 => Do::Answer(429, "retry-after: 1\r\n", String::new()),
            6 => status(404),
            _ => status(204),
        }
    });
    let setup = setup();
    let server = pushing(&setup, &receiver, "");
    publish(&server, 7..8);
    until("it has arrived", || show(&server)["counts"]["delivered"] == 1);
    let seen = receiver.asked();
    assert_eq!(seen.len(), 7, "{seen:?}");
    let keys = [Secret::parse(SECRET).expect("a secret")];
    for one in &seen {
        assert_eq!((one.id(), number(one)), (seen[0].id(), 7));
        let timestamp_s = one.header("webhook-timestamp").parse().expect("seconds");
        assert_eq!(
            one.header("webhook-signature"),
            signature(one.id(), timestamp_s, one.body.as_bytes(), &keys)
        );
    }
    // Without it the next one comes after at most 200 ms.
    assert!(seen[5].at - seen[4].at >= Duration::from_millis(500), "Retry-After is honoured");
    assert!(is_empty(&server));
    let info = show(&server);
    assert_eq!((&info["counts"]["retried"], &info["counts"]["attempts"]), (&6.into(), &7.into()));
    let endings: Vec<_> =
        info["attempts"].as_array().expect("a list").iter().map(|it| it["status"].clone()).collect();
    // The same is on record, and outlives the server.
    server.kill();
    let server = setup.start();
    let records = server.ok("peek $webhooks --count 100 --json");
    assert_eq!(records.lines().filter(|line| line.contains("\"push\":\"p\"")).count(), 7, "{records}");
    assert_eq!(
        endings,
        [json!(204), json!(404), json!(429), json!(302), Value::Null, Value::Null, json!(500)]
    );
}

#[test]
fn in_order_no_message_is_sent_before_the_one_ahead_has_arrived() {
    let mut count = 0;
    let receiver = Service::new(move |_| {
        count += 1;
        if count % 3 == 0 { status(503) } else { status(200) }
    });
    let setup = setup();
    let server = pushing(&setup, &receiver, "--ordered --retry first=1ms,most=5ms");
    publish(&server, 0..30);
    until("all have arrived", || show(&server)["counts"]["delivered"] == 30);
    let numbers: Vec<u64> = receiver.asked().iter().map(number).collect();
    let mut sorted = numbers.clone();
    sorted.sort_unstable();
    assert_eq!(numbers, sorted, "each is repeated until it has arrived, and then comes the next");
    assert!(numbers.len() >= 44, "{numbers:?}");
}

#[test]
fn an_endpoint_that_fails_is_left_alone_and_tried_by_one_request() {
    let receiver = Service::new(|_| status(500));
    let setup = setup();
    let server = pushing(&setup, &receiver, "--breaker-failures 3 --breaker-pause 3s --concurrency 1");
    publish(&server, 0..20);
    until("it is suspended", || show(&server)["state"] == "suspended");
    assert_eq!(receiver.asked().len(), 3);
    until("it was tried", || receiver.asked().len() == 4);
    let seen = receiver.asked();
    assert!(seen[3].at - seen[2].at >= Duration::from_secs(2), "not before its time");
    until("it is suspended again", || show(&server)["state"] == "suspended");
    receiver.set(|_| status(200));
    server.ok("push resume p");
    until("all have arrived", || show(&server)["counts"]["delivered"] == 20);
    assert_eq!(show(&server)["state"], "active");
    let metrics = metrics(&server);
    assert!(metrics.contains("waystation_push_delivered_total{push=\"p\"} 20"), "{metrics}");
}

#[test]
fn what_is_given_up_goes_to_the_dead_letters_with_its_cause() {
    let receiver = Service::new(|seen| if number(seen) == 1 { status(400) } else { status(200) });
    let setup = setup();
    let server = pushing(&setup, &receiver, "--retry attempts=3");
    publish(&server, 0..3);
    until("one is given up", || show(&server)["counts"]["dead_lettered"] == 1);
    until("the others have arrived", || show(&server)["counts"]["delivered"] == 2);
    let letter = server.json("peek dead");
    assert_eq!(letter["body"]["n"], 1, "{letter}");
    assert_eq!(letter["headers"]["ws-death-error"], "answered 400");
    assert_eq!(letter["headers"]["ws-death-attempts"], 3);
    assert_eq!(letter["headers"]["ws-death-class"], "http_400");
    // The push may have a place of its own for them, and may not try again at all.
    server.ok("queue create own");
    server.ok("push change p --dead-letter own --retry http_4xx.give_up");
    publish(&server, 1..2);
    until("it is in the other place", || server.json("queue show own")["ready"] == 1);
    let letter = server.json("peek own");
    assert_eq!(
        (&letter["headers"]["ws-death-error"], &letter["headers"]["ws-death-attempts"]),
        (&json!("answered 400"), &json!(1))
    );
    assert_eq!(receiver.asked().len(), 6);
    assert!(is_empty(&server));
}

#[test]
fn a_push_is_tried_again_by_the_policy_that_queues_have_with_what_differs_for_a_class() {
    let mut count = 0;
    let receiver = Service::new(move |_| {
        count += 1;
        status([429, 503, 503, 200][count.min(4) - 1_usize])
    });
    let setup = setup();
    let server = pushing(&setup, &receiver, "");
    server.ok("push change p --retry linear,first=100ms,most=1s,jitter=0,http_later.first=1ms");
    let policy = &show(&server)["spec"]["retry"].clone();
    assert_eq!((&policy["backoff"], &policy["attempts_max"]), (&json!("linear"), &json!(16)), "{policy}");
    publish(&server, 0..1);
    until("it has arrived", || show(&server)["counts"]["delivered"] == 1);
    assert_eq!(pauses(&server), [json!(1), json!(200), json!(300), json!(null)], "by class, then by steps");
    // What is wrong is told with its field.
    server.cli(&["push", "change", "p", "--retry", "first=2h,most=1h"]).bad(4, "retry.first_ms");
}

/// The pauses that followed the last attempts, oldest first.
fn pauses(server: &Server) -> Vec<Value> {
    let all = show(server)["attempts"].as_array().expect("attempts").clone();
    all.into_iter().rev().map(|attempt| attempt["next_ms"].clone()).collect()
}

#[test]
fn an_ordered_push_of_a_source_with_keys_waits_with_the_key_that_failed_alone() {
    let mut failures = 0;
    let receiver = Service::new(move |seen| {
        let is_first = number(seen) == 0;
        failures += u32::from(is_first);
        if is_first && failures <= 2 { status(503) } else { status(200) }
    });
    let setup = setup();
    let server = setup.start();
    server.ok("topic create events --partitions 1");
    server.ok("queue create dead");
    server.ok("subscription create work --topic events --mode ordered --dead-letter dead");
    // All are there before the first is tried: a pause may be over before the last has been published.
    for (n, key) in [(0, "a"), (1, "a"), (2, "b"), (3, "a"), (4, "b")] {
        let line = format!("{}\n", json!({"body": {"n": n}, "key": key}));
        server.cli_with(&["publish", "events", "--ndjson", "-"], line.as_bytes()).good();
    }
    let url = receiver.url();
    server.ok(&format!(
        "push create p --subscription work --url {url} --secret {SECRET} --ordered --breaker-failures 1000 \
         --retry constant,first=700ms,jitter=0"
    ));
    until("all have arrived", || show(&server)["counts"]["delivered"] == 5);
    let numbers: Vec<u64> = receiver.asked().iter().map(number).collect();
    assert_eq!(numbers, [0, 2, 4, 0, 0, 1, 3], "b goes on while a waits, and a keeps its order");
}

#[test]
fn gone_disables_the_push_and_loses_nothing_and_a_restart_does_not_ask_again() {
    let receiver = Service::new(|_| status(410));
    let setup = setup();
    let server = pushing(&setup, &receiver, "--concurrency 1");
    publish(&server, 0..2);
    until("it is disabled", || show(&server)["state"] == "disabled");
    until("they are back", || server.json("queue show work")["ready"] == 2);
    server.kill();
    let asked = receiver.asked().len();
    let server = setup.start();
    assert_eq!(show(&server)["state"], "disabled");
    assert_eq!(receiver.asked().len(), asked);
    receiver.set(|_| status(200));
    server.ok("push resume p");
    until("both have arrived", || show(&server)["counts"]["delivered"] == 2);
    server.ok("push pause p");
    server.kill();
    let server = setup.start();
    assert_eq!(show(&server)["state"], "paused", "a pause outlives a restart");
}

#[test]
fn every_message_arrives_with_one_id_over_kills_of_the_server_and_of_the_receiver() {
    const KILLS: u32 = 8;
    const MESSAGES: u32 = 40;
    let mut count = 0u32;
    let mut receiver = Service::new(move |_| {
        count += 1;
        match count % 10 {
            3 => status(500),
            5 => Do::Raw(Vec::new()),
            7 => Do::Silent(Duration::from_secs(60)),
            _ => status(200),
        }
    });
    let setup = setup();
    let mut server = pushing(&setup, &receiver, "--retry attempts=1000 --format structured");
    for kill in 0..KILLS {
        publish(&server, kill * MESSAGES..(kill + 1) * MESSAGES);
        let before = receiver.asked().len();
        until("some are on their way", || receiver.asked().len() > before + 5);
        if kill % 3 == 1 {
            receiver.die();
        }
        server.kill();
        if kill % 3 == 2 {
            receiver.die();
            receiver.come_back();
        }
        server = setup.start();
        if kill % 3 == 1 {
            receiver.come_back();
        }
    }
    until("all is done", || is_empty(&server));
    let mut ids: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for seen in receiver.asked() {
        let event: Value = serde_json::from_slice(seen.body.as_bytes()).expect("an event");
        let number = event["data"]["n"].as_u64().expect("a number");
        ids.entry(number).or_default().push(seen.id().to_owned());
    }
    assert_eq!(ids.len(), (KILLS * MESSAGES) as usize, "each has arrived");
    for (number, ids) in &ids {
        assert!(ids.iter().all(|id| id == &ids[0]), "message {number} came as {ids:?}");
    }
    let mut all: Vec<&String> = ids.values().map(|ids| &ids[0]).collect();
    all.sort();
    all.dedup();
    assert_eq!(all.len(), ids.len(), "no two share an id");
    assert_eq!(server.json("queue show dead")["ready"], 0);
}

#[test]
fn secrets_are_shown_nowhere() {
    let receiver = Service::new(|seen| match seen.header("authorization") {
        "Bearer hunter2" => status(200),
        _ => status(401),
    });
    let setup = setup();
    let server = pushing(&setup, &receiver, "--header x-other=1");
    server.cli(&["push", "change", "p", "--header", "authorization=Bearer hunter2"]).good();
    publish(&server, 0..1);
    until("it has arrived", || show(&server)["counts"]["delivered"] == 1);
    server.ok("push change p --format raw");
    let mut texts = vec![server.ok("push show p"), show(&server).to_string(), server.ok("push list --json")];
    texts.push(server.ok("peek $audit --count 100 --json"));
    assert!(texts[3].contains("push/p"), "{}", texts[3]);
    texts.push(server.log());
    for text in texts {
        assert!(
            !text.contains("hunter2") && !text.contains(SECRET) && !text.contains(&SECRET[6..]),
            "{text}"
        );
    }
    // And they are still there.
    publish(&server, 1..2);
    until("it has arrived too", || show(&server)["counts"]["delivered"] == 2);
    assert_eq!(receiver.asked().last().expect("one").body, r#"{"n":1}"#);
}

#[test]
fn what_cannot_be_a_push_is_refused_with_what_to_do() {
    let mut setup = Setup::new();
    setup.arguments.extend(["--amqp", "off", "--amqp-management", "off"].map(str::to_owned));
    let server = setup.start();
    server.ok("queue create dead");
    server.ok("queue create work --dead-letter dead");
    let create = |rest: &str| {
        let all = format!("push create p {rest}");
        server.cli(&all.split_whitespace().collect::<Vec<_>>())
    };
    for (url, said) in [
        ("http://127.0.0.1:9/", "a loopback address"),
        ("https://2130706433/", "a loopback address"),
        ("https://[::ffff:169.254.169.254]/", "link-local"),
        ("https://user:pw@a.example/", "may not carry a user"),
        ("http://a.example/", "must begin with https://"),
        ("ftp://a.example/", "must begin with https://"),
        ("nonsense", "is not a URL"),
    ] {
        create(&format!("--queue work --url {url}")).bad(4, said);
    }
    create("--queue absent --url https://a.example/").bad(3, "absent");
    create("--queue dead --url https://a.example/").bad(4, "needs a place");
    create("--queue work --url https://a.example/ --dead-letter absent").bad(3, "absent");
    create("--url https://a.example/").bad(4, "either 'queue' or 'subscription'");
    create("--queue work --url https://a.example/ --secret whsec_short").bad(4, "secrets");
    create("--queue work --url https://localhost:1/ --retry first=1h").good();
    create("--queue work --url https://a.example/").bad(4, "differs");
    // A name that leads inside is found out when it is resolved.
    publish(&server, 0..1);
    until("it was tried", || show(&server)["counts"]["attempts"] == 1);
    let cause = show(&server)["attempts"][0]["cause"].as_str().expect("a cause").to_owned();
    assert!(cause.contains("localhost leads to") && cause.contains("loopback"), "{cause}");
    server.ok("push delete p");
    server.cli(&["push", "show", "p"]).bad(3, "no push 'p'");
}

#[test]
fn a_subscription_is_pushed_and_a_receiver_is_tried_without_a_server() {
    let receiver = Service::new(|_| status(200));
    let setup = setup();
    let server = setup.start();
    server.ok("queue create dead");
    server.ok("topic create news --partitions 3");
    server.ok("subscription create board --topic news --dead-letter dead");
    let url = receiver.url();
    server.ok(&format!("push create p --subscription board --url {url} --format batch --secret {SECRET}"));
    let lines: String =
        (0..50).map(|n| format!("{}\n", json!({"key": n.to_string(), "body": {"n": n}}))).collect();
    server.cli_with(&["publish", "news", "--ndjson", "-"], lines.as_bytes()).good();
    until("all have arrived", || show(&server)["counts"]["delivered"] == 50);
    let events: usize = receiver
        .asked()
        .iter()
        .map(|seen| serde_json::from_slice::<Vec<Value>>(seen.body.as_bytes()).expect("a batch").len())
        .sum();
    assert_eq!(events, 50);
    assert_eq!(server.json("subscription show board")["lag"], 0);
    let tested = server.json("push test p");
    assert_eq!((&tested["delivered"], &tested["status"]), (&true.into(), &200.into()));
    let tested = common::run(&["webhook", "test", &url, "--secret", SECRET, "--json"]).json();
    assert_eq!(tested["delivered"], true);
    let last = receiver.asked().pop().expect("a request");
    assert_eq!(
        (last.header("ce-type"), last.id()),
        ("waystation.test", tested["webhook_id"].as_str().expect("an id"))
    );
    receiver.set(|_| status(500));
    common::run(&["webhook", "test", &url]).bad_said(4, "answered 500");
    let pair = common::run(&["webhook", "secret", "--asymmetric", "--json"]).json();
    let secret = Secret::parse(pair["secret"].as_str().expect("a secret")).expect("a secret");
    assert_eq!(secret.public().as_deref(), pair["public"].as_str());
}

#[test]
fn the_outcome_of_a_call_reaches_the_address_that_the_caller_named_over_a_crash_under_one_id() {
    let mut answers = vec![status(204), status(503), Do::Raw(Vec::new())];
    let receiver = Service::new(move |_| answers.pop().unwrap_or(status(204)));
    let mut setup = Setup::new();
    let config = setup.file(
        "callbacks.toml",
        format!("[webhooks]\nallow = [\"127.0.0.1\"]\ncallback_secrets = [\"{SECRET}\"]\n"),
    );
    let more = ["--amqp", "off", "--amqp-management", "off", "--config", &config];
    setup.arguments.extend(more.map(str::to_owned));
    let server = setup.start();
    let url = receiver.url();
    server.cli(&["operation", "create", "ship", "--callback-allow", &format!("{url}*")]).good();
    let id = server.cli(&["call", "ship", r#"{"order": 4711}"#, "--detach", "--callback", &url]).good();
    // A worker that is any client of the queue: it answers to where the message says.
    let message = server.json("consume ship -n 1");
    let expected = json!([{"order": 4711}, "$calls.replies", id.trim()]);
    assert_eq!(
        json!([message["body"], message["reply_to"], message["correlation_id"]]),
        expected,
        "{message}"
    );
    let correlation = format!("correlation-id={}", id.trim());
    server.cli(&["publish", "$calls.replies", r#"{"shipped": true}"#, "--header", &correlation]).good();
    until("it has tried", || !receiver.asked().is_empty());
    server.kill();
    let server = setup.start();
    until("it has arrived", || receiver.asked().len() >= 3);
    until("nothing is left to deliver", || server.json("queue show $calls.callbacks")["in_flight"] == 0);
    let keys = [Secret::parse(SECRET).expect("a secret")];
    for seen in receiver.asked() {
        let body: Value = serde_json::from_slice(seen.body.as_bytes()).expect("JSON");
        assert_eq!((seen.id(), &body["type"]), (id.trim(), &json!("call.succeeded")), "{body}");
        let timestamp_s = seen.header("webhook-timestamp").parse().expect("seconds");
        assert_eq!(
            seen.header("webhook-signature"),
            signature(seen.id(), timestamp_s, seen.body.as_bytes(), &keys)
        );
    }
}
