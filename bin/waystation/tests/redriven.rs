//! Does a dead letter of a subscription come back to that subscription, and to no other reader of its topic, by the real program?

#[path = "common/asking.rs"]
mod asking;
mod common;

use asking::{call, journey, settle, texts};
use common::{Server, Setup, until};
use serde_json::{Value, json};

/// A topic that two read; what one rejects goes to a queue.
fn two_readers(filter: &str) -> (Setup, Server) {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("topic create events");
    server.ok("queue create dead");
    let create =
        ["subscription", "create", "a", "--topic", "events", "--dead-letter", "dead", "--filter", filter];
    server.cli(&create).good();
    server.ok("subscription create b --topic events");
    (setup, server)
}

/// What a subscription has for whoever asks now, unsettled.
fn waiting(server: &Server, subscription: &str) -> Vec<Value> {
    let path = format!("/v1/subscriptions/{subscription}/receive?max=10&lease_ms=1");
    let (status, page) = call(server, "POST", &path, None);
    assert_eq!(status, 200, "{page}");
    page["messages"].as_array().cloned().unwrap_or_default()
}

#[track_caller]
fn redrive_all(server: &Server) -> Value {
    let (status, begun) =
        call(server, "POST", "/v1/redrives", Some(&json!({"from": ["dead"], "which": {"all": true}})));
    assert_eq!(status, 202, "{begun}");
    let path = format!("/v1/redrives/{}", begun["id"].as_str().expect("an id"));
    until("it is done", || call(server, "GET", &path, None).1["state"] == "completed");
    call(server, "GET", &path, None).1
}

fn reject(server: &Server) {
    settle(server, "subscriptions/a", &json!({"outcome": "reject", "error": "no stock"}));
    until("it is a dead letter", || server.json("queue show dead")["ready"] == 1);
}

#[test]
fn it_comes_back_to_its_subscription_only_through_a_kill_and_again() {
    let (setup, server) = two_readers(r#"{"exact": {"colour": "blue"}}"#);
    server.ok("publish events x --id m-1 --header colour=blue");
    settle(&server, "subscriptions/b", &json!({"outcome": "accept"}));
    reject(&server);
    let preview = json!({"from": ["dead"], "which": {"all": true}});
    let (_, preview) = call(&server, "POST", "/v1/redrives?dry_run=true", Some(&preview));
    assert_eq!(preview["targets"], json!({"subscription a": 1}), "{preview:#}");
    // By now its filter wants something else: the message was its own all the same.
    server.cli(&["subscription", "change", "a", "--filter", r#"{"exact": {"colour": "red"}}"#]).good();
    let done = redrive_all(&server);
    assert_eq!((&done["moved"], &done["targets"]), (&json!(1), &json!({"subscription a": 1})), "{done:#}");
    server.kill();
    let server = setup.start();
    assert_eq!(waiting(&server, "b"), Vec::<Value>::new());
    assert_eq!(server.json("topic show events")["partitions"][0]["end_offset"], 1);
    reject(&server);
    redrive_all(&server);
    let (_, page) = call(&server, "POST", "/v1/subscriptions/a/receive?wait_ms=20000", None);
    let message = &page["messages"][0];
    assert_eq!(
        (&message["id"], &message["headers"]["ws-redrive-count"]),
        (&json!("m-1"), &json!(2)),
        "{page:#}"
    );
    let done =
        json!({"settlements": [{"tag": message["tag"], "attempt": message["attempt"], "outcome": "accept"}]});
    assert_eq!(call(&server, "POST", "/v1/subscriptions/a/settle", Some(&done)).0, 200);
    assert_eq!((waiting(&server, "a"), waiting(&server, "b")), (Vec::new(), Vec::new()));
    let told = journey(&server, "id=m-1");
    let stays = &told["messages"][0]["stays"];
    assert_eq!(
        texts(stays, "how"),
        ["published", "dead_lettered", "redriven", "dead_lettered", "redriven"],
        "{told:#}"
    );
    let last = &stays[4]["copies"];
    assert_eq!(texts(last, "name"), ["a"], "{told:#}");
    assert_eq!((&last[0]["now"]["state"], &told["stops"]), (&json!("acknowledged"), &json!([])), "{told:#}");
}

#[test]
fn an_undo_takes_back_what_its_subscription_was_not_given_yet_through_a_kill() {
    let (setup, server) = two_readers(r#"{"exact": {"colour": "blue"}}"#);
    for id in ["m-1", "m-2"] {
        server.ok(&format!("publish events x --id {id} --header colour=blue"));
        settle(&server, "subscriptions/b", &json!({"outcome": "accept"}));
    }
    let letters = || server.json("queue show dead")["ready"].as_u64();
    for count in 1..=2 {
        settle(&server, "subscriptions/a", &json!({"outcome": "reject", "error": "no stock"}));
        until("it is a dead letter", || letters() == Some(count));
    }
    let before = call(&server, "GET", "/v1/queues/dead/messages", None).1["messages"].clone();
    let done = redrive_all(&server);
    assert_eq!(done["moved"], 2, "{done:#}");
    // One is given to somebody and stays with him.
    let (_, page) = call(&server, "POST", "/v1/subscriptions/a/receive?wait_ms=20000&max=1", None);
    assert_eq!(page["messages"][0]["id"], "m-1", "{page:#}");
    server.kill();
    let server = setup.start();
    let path = format!("/v1/redrives/{}", done["id"].as_str().expect("an id"));
    assert_eq!(call(&server, "POST", &format!("{path}/undo"), None).0, 200);
    until("it is undone", || call(&server, "GET", &path, None).1["state"] == "undone");
    let undone = call(&server, "GET", &path, None).1;
    assert_eq!((&undone["moved"], &undone["undone"]), (&json!(2), &json!(1)), "{undone:#}");
    server.kill();
    let server = setup.start();
    let mut back = call(&server, "GET", "/v1/queues/dead/messages", None).1["messages"].clone();
    let headers = back[0]["headers"].as_object_mut().expect("headers");
    assert_eq!(headers.remove("ws-redrive-undone"), Some(done["id"].clone()));
    for field in ["id", "uuid", "headers", "time", "body_text"] {
        assert_eq!(back[0][field], before[1][field], "{field}: {back:#}");
    }
    assert_eq!(back.as_array().map(Vec::len), Some(1), "{back:#}");
    assert_eq!(waiting(&server, "b"), Vec::<Value>::new());
    let told = journey(&server, "id=m-2");
    assert_eq!(
        texts(&told["messages"][0]["stays"], "how"),
        ["published", "dead_lettered", "redriven", "dead_lettered"],
        "{told:#}"
    );
}

#[test]
fn a_queue_and_a_subscription_of_one_name_each_get_their_own_back() {
    let (_setup, server) = two_readers(r#"{"exact": {"colour": "blue"}}"#);
    server.ok("queue create a --dead-letter dead");
    server.ok("publish a queued --id m-queue");
    server.ok("publish events read --id m-topic --header colour=blue");
    let letters = || server.json("queue show dead")["ready"].as_u64();
    for (count, source) in [(1, "queues/a"), (2, "subscriptions/a")] {
        settle(&server, source, &json!({"outcome": "reject", "error": "no stock"}));
        until("it is a dead letter", || letters() == Some(count));
    }
    let groups = server.json("dead list");
    let group = &groups["groups"][0];
    assert_eq!(group["origins"], json!({"a": 1, "subscription a": 1}), "{groups:#}");
    let shown = server
        .json(&format!("dead show {} --origin-kind subscription", group["id"].as_str().expect("an id")));
    let letter = &shown["items"][0];
    assert_eq!(
        (&letter["letter"]["origin"], &letter["letter"]["origin_kind"], &letter["message"]["id"]),
        (&json!("a"), &json!("subscription"), &json!("m-topic")),
        "{shown:#}"
    );
    assert_eq!(letter["message"]["headers"]["ws-death-source-kind"], "subscription");
    assert_eq!(shown["items"].as_array().map(Vec::len), Some(1));
    let preview = server.ok("redrive start --origin a --origin-kind subscription --dry-run");
    assert!(
        preview.contains("would redrive 1 message") && preview.contains("to subscription a"),
        "{preview}"
    );
    let done = redrive_all(&server);
    assert_eq!(done["targets"], json!({"a": 1, "subscription a": 1}), "{done:#}");
    for (source, id) in [("queues/a", "m-queue"), ("subscriptions/a", "m-topic")] {
        let (_, page) = call(&server, "POST", &format!("/v1/{source}/receive?wait_ms=20000"), None);
        assert_eq!(texts(&page["messages"], "id"), [id], "{page:#}");
        let message = &page["messages"][0];
        let reject = json!({"tag": message["tag"], "attempt": message["attempt"], "outcome": "reject"});
        call(&server, "POST", &format!("/v1/{source}/settle"), Some(&json!({"settlements": [reject]})));
    }
    until("both failed again", || letters() == Some(2));
    server.ok("subscription delete a");
    let done = redrive_all(&server);
    assert_eq!(
        done["targets"],
        json!({"a": 1}),
        "what failed in the subscription is not the queue's: {done:#}"
    );
    let left: Vec<&String> = done["left"].as_object().expect("reasons").keys().collect();
    assert!(left.len() == 1 && left[0].contains("the subscription 'a' is not there any more"), "{done:#}");
}

#[test]
fn what_failed_in_a_route_comes_back_to_it_from_its_topic_too() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("topic create orders");
    server.ok("queue create out");
    server.ok("queue create dead");
    let route = |body: &str| {
        json!({"from": {"topic": "orders"}, "dead_letter": "dead",
            "steps": [{"transform": {"body": body}}, {"to": "out"}]})
    };
    assert_eq!(call(&server, "PUT", "/v1/routes/r", Some(&route("error(\"no\")"))).0, 201);
    server.ok("publish orders {} --id m-1");
    until("it failed", || server.json("queue show dead")["ready"] == 1);
    assert_eq!(call(&server, "PUT", "/v1/routes/r?change=true", Some(&route("{mended: true}"))).0, 200);
    let done = redrive_all(&server);
    assert_eq!(done["targets"], json!({"subscription $routes.r": 1}), "{done:#}");
    until("it went on", || server.json("queue show out")["ready"] == 1);
    assert_eq!(
        server.json("topic show orders")["partitions"][0]["end_offset"],
        1,
        "nobody else has it again"
    );
}

#[test]
fn what_comes_back_goes_with_its_subscription() {
    let (_setup, server) = two_readers(r#"{"exact": {"colour": "blue"}}"#);
    server.ok("publish events x --header colour=blue");
    reject(&server);
    redrive_all(&server);
    server.ok("subscription delete a");
    server.ok("subscription create a --topic events --start latest");
    assert_eq!(waiting(&server, "a"), Vec::<Value>::new());
}
