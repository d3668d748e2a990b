//! Does `trace` say of a message whether it stopped or only waits, is worked on, put off or held up, and of one that nothing took so?

#[path = "common/asking.rs"]
mod asking;
mod common;

use asking::{journey, settle};
use common::{Server, Setup};
use serde_json::{Value, json};

/// How a message stands that is somewhere once, and what is said of it.
#[track_caller]
fn standing(server: &Server, id: &str) -> (String, String, Value) {
    let journey = journey(server, &format!("id={id}"));
    let all = |member: &str| journey[member].as_array().cloned().unwrap_or_default();
    let (stops, under_way) = (all("stops"), all("under_way"));
    assert_eq!(stops.len() + under_way.len(), 1, "{journey:#}");
    let is_stop = !stops.is_empty();
    let stop = stops.into_iter().chain(under_way).next().expect("one");
    assert_eq!((stop["standing"] == "stopped", &stop["alarming"]), (is_stop, &json!(is_stop)), "{stop}");
    let text = |member: &str| stop[member].as_str().expect("a text").to_owned();
    (text("standing"), text("why"), journey["messages"][0].clone())
}

#[track_caller]
fn check(server: &Server, id: &str, expected: &str, said: &[&str], shown: &str) -> Value {
    let (standing, why, message) = standing(server, id);
    assert_eq!(standing, expected, "{why}");
    said.iter().for_each(|part| assert!(why.contains(part), "{part}: {why}"));
    let told = server.ok(&format!("trace {id}"));
    assert!(told.contains(shown), "{shown}:\n{told}");
    let is_stop = expected == "stopped";
    assert_eq!(
        (told.contains("it stopped here"), told.contains("it is on its way")),
        (is_stop, !is_stop),
        "{told}"
    );
    message
}

fn now(message: &Value) -> &Value {
    &message["stays"][0]["copies"][0]["now"]
}

#[test]
fn a_message_waits_is_worked_on_or_has_stopped_for_want_of_a_consumer() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create q");
    for n in 0..5 {
        server.ok(&format!("publish q x --id m-{n}"));
    }
    check(&server, "m-3", "stopped", &["nobody consumes from q"], "stopped (ready) at q");
    // Somebody asks now and then: that nobody does at this moment is no trouble.
    server.ok("consume q --no-ack -n 2 --lease 1h");
    let message = check(
        &server,
        "m-3",
        "waiting",
        &["1 message goes before it", "nobody asks at this moment", "in about"],
        "waiting at q",
    );
    let now = now(&message);
    assert_eq!((&now["ahead"], &now["consumers"]), (&json!(1), &json!(0)), "{message:#}");
    assert!(now["age_ms"].is_u64() && now["eta_ms"].is_u64() && now["rate"].is_number(), "{now:#}");
    check(&server, "m-2", "waiting", &["it is next in line"], "waiting at q");
    let message =
        check(&server, "m-1", "working", &["works on it (attempt 1)", "until 20"], "being worked on at q");
    assert_eq!(message["stays"][0]["copies"][0]["now"]["by"]["door"], "http");
    server.ok("queue purge q");
    check(&server, "m-3", "stopped", &["the queue was purged"], "stopped (purged) at q");
}

#[test]
fn a_message_is_delayed_by_its_sender_or_by_a_failure() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create q");
    server.ok("publish q x --id later --delay 1h");
    check(&server, "later", "delayed", &["its sender wants it delivered later", "until 20"], "delayed at q");
    server.ok("publish q x --id again");
    let failed = json!({"outcome": "requeue", "delay_ms": 3_600_000, "error": "no room"});
    settle(&server, "queues/q", &failed);
    let message = check(
        &server,
        "again",
        "delayed",
        &["to be tried again (attempt 1 failed", "no room", "until 20"],
        "delayed at q",
    );
    assert!(now(&message)["until"].is_u64());
}

#[test]
fn a_message_is_held_up_by_whoever_is_paused() {
    let mut setup = Setup::new();
    let config = setup.file("waystation.toml", "[webhooks]\nallow = [\"127.0.0.1\"]\n");
    setup.arguments.extend(["--config".into(), config]);
    let server = setup.start();
    server.ok("queue create q");
    server.ok("queue create dead");
    server.ok("push create shop --queue q --url http://127.0.0.1:9/ --dead-letter dead");
    server.ok("push pause shop");
    server.ok("publish q x --id m-1");
    let message =
        check(&server, "m-1", "paused", &["it waits for push shop, which is paused"], "paused at q");
    assert_eq!(now(&message)["paused"]["who"], "push shop");
    server.ok("topic create events");
    server.ok("publish events x --id e-1");
    check(&server, "e-1", "kept", &["no subscription reads it"], "kept at events");
}

#[test]
fn what_no_binding_takes_is_told_with_whom_and_where() {
    let mut setup = Setup::new();
    let config = setup.file(
        "waystation.toml",
        r##"
        [record]
        rules = [
            { address = "quiet", sample = 0 },
            { address = "#", business = { order = { jq = ".order" } } },
        ]
        "##,
    );
    setup.arguments.extend(["--config".into(), config]);
    let server = setup.start();
    server.ok("queue create eu");
    for route in ["orders", "quiet"] {
        server.ok(&format!("route create {route} --kind topic"));
        server.ok(&format!("route bind {route} --to eu --key order.eu.#"));
    }
    let publish = |route: &str, key: &str, id: &str| {
        let body = json!({"order": 4711}).to_string();
        let words = ["publish", route, &body, "--routing-key", key, "--id", id];
        server.cli(&words).good();
    };
    publish("orders", "order.us.1", "lost");
    publish("orders", "order.eu.1", "found");
    publish("quiet", "order.us.1", "unheard");
    let message = check(
        &server,
        "lost",
        "stopped",
        &["no binding of route orders takes it under the key 'order.us.1'", "its sender was told"],
        "published to route orders under 'order.us.1', by http",
    );
    let stay = &message["stays"][0];
    assert_eq!(
        (&stay["how"], &stay["kind"], &stay["address"]),
        (&json!("unrouted"), &json!("route"), &json!("orders"))
    );
    assert_eq!(
        (&stay["told"], &stay["by"]["door"], &stay["copies"]),
        (&json!(true), &json!("http"), &json!([]))
    );
    assert!(server.ok("trace lost").contains("matched none"), "{message:#}");
    assert_eq!(journey(&server, "business=order:4711")["messages"].as_array().map(Vec::len), Some(2));
    assert_eq!(journey(&server, "id=unheard")["messages"], json!([]));
    server.kill();
    let server = setup.start();
    check(&server, "lost", "stopped", &["no binding"], "matched none");
}

#[test]
fn a_flood_of_what_nothing_takes_does_not_fill_the_journal() {
    const FLOOD: usize = 1_000;
    let setup = Setup::new();
    let server = setup.start();
    server.ok("route create r --kind fanout");
    let journal_end = || server.json("status")["server"]["journal_end"].as_u64().expect("a position");
    let before = journal_end();
    let body = "x".repeat(10_000);
    let lines: String =
        (0..FLOOD).map(|n| format!("{{\"id\": \"m-{n}\", \"body\": \"{body}\"}}\n")).collect();
    server.cli_with(&["publish", "r", "--as", "route", "--ndjson", "-"], lines.as_bytes());
    check(&server, "m-0", "stopped", &["no binding of route r"], "matched none");
    assert_eq!(server.json("route show r")["unrouted"], FLOOD);
    let grown = journal_end() - before;
    assert!(grown < (FLOOD * body.len() / 10) as u64, "bodies are not in the journal: {grown} bytes");
}
