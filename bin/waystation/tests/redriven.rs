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
fn what_comes_back_goes_with_its_subscription() {
    let (_setup, server) = two_readers(r#"{"exact": {"colour": "blue"}}"#);
    server.ok("publish events x --header colour=blue");
    reject(&server);
    redrive_all(&server);
    server.ok("subscription delete a");
    server.ok("subscription create a --topic events --start latest");
    assert_eq!(waiting(&server, "a"), Vec::<Value>::new());
}
