//! What became of a message, and why: is it told as it was, by the real program, through kills and restarts?

#[path = "common/asking.rs"]
mod asking;
mod common;

use asking::{call, journey, settle, steps, texts};
use common::{Server, Setup};
use serde_json::{Value, json};

/// A message that is published, rejected with a reason, and lies in the dead letters.
fn bury(server: &Server, id: &str) {
    server.ok(&format!("publish orders {{}} --id {id} --header correlation-id=c-{id}"));
    settle(server, "queues/orders", &json!({"outcome": "requeue"}));
    settle(server, "queues/orders", &json!({"outcome": "reject", "error": "no such customer"}));
    common::until("it is buried", || server.json("queue show orders.dead")["ready"] != 0);
}

fn buried() -> (Setup, Server) {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create orders --dead-letter orders.dead");
    server.ok("queue create orders.dead");
    bury(&server, "4711");
    (setup, server)
}

#[track_caller]
fn is_told(journey: &Value) {
    let message = &journey["messages"][0];
    assert_eq!(message["message_id"], "4711", "{journey:#}");
    assert_eq!(texts(&message["stays"], "address"), ["orders", "orders.dead"]);
    assert_eq!(texts(&message["stays"], "how"), ["published", "dead_lettered"]);
    assert_eq!(steps(message, 0), ["delivered", "returned", "delivered", "rejected", "dead_lettered"]);
    assert_eq!(message["stays"][0]["by"]["door"], "http");
    let rejected = &message["stays"][0]["copies"][0]["steps"][3];
    assert_eq!((&rejected["why"], &rejected["by"]["door"]), (&json!("no such customer"), &json!("http")));
    let now = &message["stays"][1]["copies"][0]["now"];
    assert_eq!((&now["state"], &now["ahead"], &now["consumers"]), (&json!("ready"), &json!(0), &json!(0)));
    let stop = &journey["stops"][0];
    assert_eq!((&stop["at"], &stop["standing"]), (&json!("orders.dead"), &json!("stopped")), "{journey:#}");
    assert_eq!(journey["record"].get("lacks"), None, "{journey:#}");
}

#[test]
fn a_rejected_message_is_found_by_its_ids_with_why_it_stopped() {
    let (_setup, server) = buried();
    let journey_by_id = journey(&server, "id=4711");
    is_told(&journey_by_id);
    let uuid = journey_by_id["messages"][0]["id"].as_str().expect("an id").to_owned();
    for query in ["message_id=4711", &format!("id={uuid}"), "correlation_id=c-4711", "id=c-4711"] {
        is_told(&journey(&server, query));
    }
    assert_eq!(journey(&server, "id=4712")["messages"], json!([]));
    assert_eq!(call(&server, "GET", "/v1/journeys", None).0, 422);
    let told = server.ok("trace 4711");
    for part in ["it stopped here", "orders.dead", "no such customer", "nobody consumes", "+", "rejected"] {
        assert!(told.contains(part), "{part}:\n{told}");
    }
    server.cli(&["trace", "4712"]).bad(3, "the record knows nothing of '4712'");
    assert!(told.contains("stopped (ready) at orders.dead"), "{told}");
    let dot = server.ok("trace 4711 --graph dot");
    assert!(dot.starts_with("digraph") && dot.contains("m0_0 -> m0_1;"), "{dot}");
    let mermaid = server.ok("trace 4711 --graph mermaid");
    assert!(mermaid.starts_with("flowchart") && mermaid.contains("m0_0 --> m0_1"), "{mermaid}");
}

#[test]
fn facts_are_complete_after_a_kill_and_after_a_good_end() {
    let (setup, server) = buried();
    server.kill();
    let server = setup.start();
    is_told(&journey(&server, "id=4711"));
    assert!(server.terminate().0.success());
    let server = setup.start();
    is_told(&journey(&server, "id=4711"));
    settle(&server, "queues/orders.dead", &json!({"outcome": "accept"}));
    let done = journey(&server, "id=4711");
    assert_eq!(steps(&done["messages"][0], 1), ["delivered", "acknowledged"]);
    assert_eq!(done["stops"], json!([]));
    assert!(server.ok("trace 4711").contains("all of it is done"));
}

#[test]
fn what_a_message_led_to_is_told_with_it_from_either_end() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create orders");
    server.ok("queue create invoices");
    server.ok("topic create events");
    server.ok("subscription create ledger --topic events");
    server.ok("publish orders {} --id order-1");
    let root = journey(&server, "id=order-1")["messages"][0]["id"].as_str().expect("an id").to_owned();
    server.ok(&format!("publish invoices {{}} --id invoice-1 --header ws-cause={root}"));
    server.ok("publish events {} --id event-1 --header ws-cause=invoice-1");
    settle(&server, "subscriptions/ledger", &json!({"outcome": "accept"}));
    for id in ["order-1", "invoice-1", "event-1"] {
        let journey = journey(&server, &format!("id={id}"));
        let messages = &journey["messages"];
        assert_eq!(texts(messages, "message_id"), ["order-1", "invoice-1", "event-1"], "{journey:#}");
        assert_eq!(messages[1]["parent"], messages[0]["id"]);
        assert_eq!(messages[2]["parent"], messages[1]["id"]);
        let copy = &messages[2]["stays"][0]["copies"][0];
        assert_eq!((&copy["name"], &copy["now"]["state"]), (&json!("ledger"), &json!("acknowledged")));
        assert_eq!(messages[2]["stays"][0]["kept"], true);
    }
}

#[test]
fn the_place_in_the_queue_is_told_and_who_holds_a_message() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create q");
    for n in 0..5 {
        server.ok(&format!("publish q x --id m-{n}"));
    }
    server.ok("publish q x --id later --delay 1h");
    let now = |id: &str| {
        journey(&server, &format!("id={id}"))["messages"][0]["stays"][0]["copies"][0]["now"].clone()
    };
    assert_eq!((&now("m-4")["state"], &now("m-4")["ahead"]), (&json!("ready"), &json!(4)));
    assert_eq!(now("later")["state"], "delayed");
    server.ok("consume q --no-ack -n 2 --lease 1h");
    let held = now("m-1");
    assert_eq!(
        (&held["state"], &held["by"]["door"], &held["attempts"]),
        (&json!("held"), &json!("http"), &json!(1))
    );
    assert!(held["until"].is_u64());
    assert_eq!(now("m-4")["ahead"], 2);
    server.ok("queue purge q");
    assert_eq!(now("m-4")["state"], "purged");
    server.ok("queue delete q");
    assert_eq!(now("m-1")["state"], "deleted");
}

#[test]
fn a_message_is_found_by_its_trace_and_not_by_another_kind_of_id() {
    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create q");
    let parent = |n: u32| format!("traceparent=00-{TRACE}-{n:016x}-01");
    server.ok(&format!("publish q x --id m-1 --header {}", parent(1)));
    server.ok(&format!("publish q x --id m-2 --header {}", parent(2)));
    server.ok(
        "publish q x --id m-3 --header traceparent=00-00000000000000000000000000000001-0000000000000001-01",
    );
    for query in
        [format!("trace_id={TRACE}"), format!("id={TRACE}"), format!("trace_id={}", TRACE.to_uppercase())]
    {
        let journey = journey(&server, &query);
        assert_eq!(texts(&journey["messages"], "message_id"), ["m-1", "m-2"], "{query}: {journey:#}");
        assert_eq!(texts(&journey["messages"], "trace_id"), [TRACE, TRACE]);
    }
    let told = server.ok(&format!("trace {TRACE} --as trace"));
    assert!(told.contains("m-1") && told.contains("m-2") && !told.contains("m-3"), "{told}");
    server.cli(&["trace", TRACE, "--as", "message"]).bad(3, "the record knows nothing of");
    // By one message its whole trace is told.
    assert_eq!(texts(&journey(&server, "message_id=m-2")["messages"], "message_id"), ["m-1", "m-2"]);
}

#[test]
fn a_call_is_found_by_its_id_from_the_request_to_the_answer() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("operation create ship");
    let (status, accepted) = call(&server, "POST", "/v1/calls/ship", Some(&json!({"order": 4711})));
    assert_eq!(status, 202, "{accepted}");
    let id = accepted["id"].as_str().expect("an id").to_owned();
    let waiting = journey(&server, &format!("call={id}"));
    assert_eq!(texts(&waiting["stops"], "at"), ["ship"], "{waiting:#}");
    assert_eq!(waiting["messages"][0]["operation"], "ship");
    let (_, page) = call(&server, "POST", "/v1/operations/ship/receive?wait_ms=20000", None);
    let attempt = &page["calls"][0]["attempt"];
    assert_eq!(texts(&journey(&server, &format!("call={id}"))["under_way"], "standing"), ["working"]);
    // What the service sends on its way belongs to the call by its cause.
    server.ok("queue create labels");
    server.ok(&format!("publish labels x --id label-1 --header ws-cause={id}"));
    let (status, told) = call(
        &server,
        "POST",
        &format!("/v1/calls/{id}/complete?attempt={attempt}"),
        Some(&json!({"sent": true})),
    );
    assert_eq!(status, 200, "{told} {page}");
    for query in [format!("call={id}"), format!("id={id}"), "message_id=label-1".to_owned()] {
        let told = journey(&server, &query);
        let addresses: Vec<&str> = told["messages"]
            .as_array()
            .expect("messages")
            .iter()
            .filter_map(|it| it["stays"][0]["address"].as_str())
            .collect();
        assert!(addresses.contains(&"ship") && addresses.contains(&"labels"), "{query}: {told:#}");
    }
    let told = server.ok(&format!("trace {id} --as call"));
    assert!(told.contains("call of ship") && told.contains("label-1"), "{told}");
}

#[test]
fn business_keys_samples_and_permissions_are_as_configured() {
    let mut setup = Setup::new();
    let token = token();
    let config = setup.file(
        "waystation.toml",
        format!(
            r##"
            [auth]
            tokens = [{{ name = "shop", hash = '{}', publish = ["#"], consume = ["open"], configure = [] }}]
            [record]
            rules = [
                {{ address = "quiet", sample = 0 }},
                {{ address = "#", business = {{ order = {{ jq = ".order.id" }}, customer = {{ header = "x-customer" }} }} }},
            ]
            "##,
            token.1
        ),
    );
    setup.arguments.extend(["--config".into(), config]);
    let server = setup.start();
    for queue in ["open", "closed", "quiet"] {
        server.ok(&format!("queue create {queue}"));
        let body = json!({"order": {"id": 4711}}).to_string();
        server.cli(&["publish", queue, &body, "--header", "x-customer=c-9"]).good();
    }
    let found = journey(&server, "business=order:4711");
    assert_eq!(found["messages"].as_array().map(Vec::len), Some(2), "{found:#}");
    assert_eq!(found["messages"][0]["business"], json!({"order": "4711", "customer": "c-9"}));
    assert_eq!(journey(&server, "id=c-9")["messages"].as_array().map(Vec::len), Some(2));
    assert_eq!(journey(&server, "business=customer:4711")["messages"], json!([]));
    server.ok("trace order:4711");
    let told = server.cli(&["trace", "4711", "--json", "--token", &token.0]).json();
    assert_eq!(
        (told["messages"].as_array().map(Vec::len), &told["hidden"]),
        (Some(1), &json!(1)),
        "{told:#}"
    );
    assert_eq!(told["messages"][0]["stays"][0]["address"], "open");
}

#[test]
fn business_keys_are_declared_with_queues_and_topics_and_changed_while_they_live() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create orders --business order=.order.id --business customer=header:x-customer");
    server.ok("topic create events --business order=.id");
    let publish = |server: &Server, address: &str, body: Value, id: &str| {
        let words = ["publish", address, &body.to_string(), "--id", id, "--header", "x-customer=c-9"];
        server.cli(&words).good();
    };
    let found = |server: &Server, query: &str| {
        let mut ids = texts(&journey(server, &format!("business={query}"))["messages"], "message_id");
        ids.sort();
        ids
    };
    publish(&server, "orders", json!({"order": {"id": 4711}}), "m-1");
    publish(&server, "events", json!({"id": 4711}), "e-1");
    assert_eq!(found(&server, "order:4711"), ["e-1", "m-1"]);
    assert_eq!(found(&server, "customer:c-9"), ["m-1"]);
    let shown = server.ok("queue show orders");
    assert!(shown.contains(".order.id") && shown.contains("x-customer"), "{shown}");

    // They are in the file of the topology, which changes nothing when it is applied.
    let file = setup.path("topology.toml").display().to_string();
    server.ok(&format!("topology export -o {file}"));
    let plan = server.ok(&format!("apply {file} --dry-run"));
    assert!(plan.contains("0 to create") && plan.contains("0 to change"), "{plan}");
    let text = std::fs::read_to_string(&file).expect("a file").replace(".order.id", ".order.number");
    let file = setup.file("changed.toml", text);
    let plan = server.ok(&format!("apply {file} --dry-run"));
    assert!(plan.contains(".order.number") && plan.contains("1 to change"), "{plan}");
    server.ok(&format!("apply {file}"));
    publish(&server, "orders", json!({"order": {"id": 1, "number": 4712}}), "m-2");
    assert_eq!((found(&server, "order:4712"), found(&server, "order:1")), (vec!["m-2".to_owned()], vec![]));

    // What was declared is known after a restart, and from then on what is changed.
    server.kill();
    let server = setup.start();
    publish(&server, "orders", json!({"order": {"number": 4713}}), "m-3");
    assert_eq!(found(&server, "order:4713"), ["m-3"]);
    server.ok("queue change orders --business none");
    publish(&server, "orders", json!({"order": {"number": 4714}}), "m-4");
    assert_eq!(found(&server, "order:4714"), Vec::<String>::new());
    let wrong = ["queue", "change", "orders", "--business", "a:b=.x"];
    server.cli(&wrong).bad(4, "is no name for a business key");
}

#[test]
fn business_keys_of_a_policy_hold_for_exchanges_queues_and_topics_and_go_with_it() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create plain");
    server.ok("queue create own --business shop=header:x-shop");
    server.ok("route create sales --kind topic");
    server.ok("route bind sales --to plain --key #");
    server.ok("queue create apart");
    let set = |pattern: &str, definition: &str| {
        let of = format!("p{}", pattern.len());
        server.cli(&["policy", "set", &of, "--pattern", pattern, "--definition", definition])
    };
    set("^sales$", r#"{"business-keys": {"order": {"jq": ".order"}}}"#).good();
    set("^(own|apart)$", r#"{"business-keys": {"order": {"jq": ".id"}, "shop": {"header": "other"}}}"#)
        .good();
    server.ok("route create late --kind fanout");
    set("^late$", r#"{"business-keys": {"order": {"jq": "not a path"}}}"#).bad(4, "business keys");
    server.ok(r#"publish sales {"order":1} --routing-key a"#);
    server.ok(r#"publish own {"id":2} --header x-shop=s7"#);
    server.ok(r#"publish plain {"order":3}"#);
    let found =
        |query: &str| journey(&server, &format!("business={query}"))["messages"].as_array().map(Vec::len);
    assert_eq!(found("order:1"), Some(1), "what was published to the exchange, in the queue that took it");
    assert_eq!(found("order:2"), Some(1));
    assert_eq!(found("shop:s7"), Some(1), "what is declared goes before the policy");
    assert_eq!(found("order:3"), Some(0), "the policy is about the exchange");
    let shown = server.json("queue show apart");
    assert_eq!(
        (&shown["spec"]["business"], &shown["effective"]["business"]["order"]),
        (&Value::Null, &json!({"jq": ".id"}))
    );
    server.ok("policy delete p7");
    server.ok(r#"publish sales {"order":4} --routing-key a"#);
    assert_eq!((found("order:4"), found("order:1")), (Some(0), Some(1)));
}

/// A token and its hash.
fn token() -> (String, String) {
    let made = common::run(&["token", "new", "shop", "--json"]).json();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    (text(&made["token"]), text(&made["entry"]["hash"]))
}

#[test]
fn every_answer_before_a_kill_is_in_the_record_after_it() {
    const KILLS: usize = 4;
    const MESSAGES: usize = 60;
    let setup = Setup::new();
    let mut server = setup.start();
    server.ok("queue create q");
    let mut acknowledged = Vec::new();
    for round in 0..KILLS {
        let lines: String =
            (0..MESSAGES).map(|n| format!("{{\"id\": \"m-{round}-{n}\", \"body\": {n}}}\n")).collect();
        server.cli_with(&["publish", "q", "--ndjson", "-"], lines.as_bytes()).good();
        let taken = server.ok(&format!("consume q -n {} --batch 7 --json", MESSAGES / 2));
        let id =
            |line: &str| serde_json::from_str::<Value>(line).expect("JSON")["id"].as_str().map(str::to_owned);
        acknowledged.extend(taken.lines().filter_map(id));
        server.kill();
        server = setup.start();
    }
    assert_eq!(acknowledged.len(), KILLS * MESSAGES / 2);
    for (round, n) in (0..KILLS).flat_map(|round| (0..MESSAGES).map(move |n| (round, n))) {
        let id = format!("m-{round}-{n}");
        let journey = journey(&server, &format!("message_id={id}"));
        let messages = journey["messages"].as_array().expect("messages");
        assert_eq!(messages.len(), 1, "{id}: {journey:#}");
        let state = &messages[0]["stays"][0]["copies"][0]["now"]["state"];
        let expected = if acknowledged.contains(&id) { "acknowledged" } else { "ready" };
        assert_eq!(state, expected, "{id}: {journey:#}");
        assert_eq!(journey["record"].get("lacks"), None);
    }
}
