//! Is what failed tried again as the policy says, by the real program: through kills, with errors that consumers tell, and when a
//! consumer dies of its message?

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpStream,
};

use common::{Server, Setup, until};
use serde_json::{Value, json};

fn ask(server: &Server, method: &str, path: &str, body: Option<Value>) -> Value {
    waystation_net::tls::install_provider();
    let client = reqwest::Client::builder().no_proxy().build().expect("a client");
    let request = client.request(method.parse().expect("a method"), format!("{}{path}", server.url));
    let request = if let Some(body) = body { request.json(&body) } else { request };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let response = request.send().await.expect("answered");
        let status = response.status();
        let answer: Value = response.json().await.unwrap_or_default();
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    })
}

fn receive(server: &Server) -> Vec<Value> {
    let page = ask(server, "POST", "/v1/queues/jobs/receive?max=9&wait_ms=20000", None);
    page["messages"].as_array().cloned().unwrap_or_default()
}

fn settle(server: &Server, message: &Value, outcome: Value) {
    settle_of(server, "queues/jobs", message, outcome);
}

fn settle_of(server: &Server, source: &str, message: &Value, outcome: Value) {
    let mut settlement = json!({"tag": message["tag"], "attempt": message["attempt"]});
    settlement.as_object_mut().expect("an object").extend(outcome.as_object().expect("one too").clone());
    ask(server, "POST", &format!("/v1/{source}/settle"), Some(json!({"settlements": [settlement]})));
}

fn count(server: &Server, queue: &str, what: &str) -> u64 {
    ask(server, "GET", &format!("/v1/queues/{queue}"), None)[what].as_u64().expect("a number")
}

/// What the one dead letter tells: reason, error, class, attempts.
fn told(server: &Server) -> [Value; 4] {
    until("it is a dead letter", || count(server, "dead", "ready") == 1);
    let page = ask(server, "GET", "/v1/queues/dead/messages?limit=9", None);
    let headers = page["messages"][0]["headers"].clone();
    ["reason", "error", "class", "attempts"].map(|what| headers[format!("ws-death-{what}")].clone())
}

fn queues(server: &Server, retry: &str) {
    server.ok("queue create dead");
    server.ok(&format!("queue create jobs --dead-letter dead --retry {retry}"));
    ask(server, "POST", "/v1/queues/jobs/messages", Some(json!({"job": 1})));
}

/// Opens a stream, reads until a message has come, and breaks the connection off.
fn die_of_it(server: &Server) {
    let host = server.url.strip_prefix("http://").expect("plain HTTP");
    let mut stream = TcpStream::connect(host).expect("connected");
    write!(
        stream,
        "GET /v1/queues/jobs/events?ack=manual HTTP/1.1\r\nhost: {host}\r\naccept: text/event-stream\r\n\r\n"
    )
    .expect("written");
    let mut lines = BufReader::new(&stream).lines();
    while !lines.next().expect("the stream goes on").expect("text").starts_with("data:") {}
}

#[test]
fn a_message_that_kills_its_consumers_ends_with_the_dead_letters() {
    let setup = Setup::new();
    let server = setup.start();
    queues(&server, "attempts=3");
    for attempt in 1..=3 {
        assert_eq!(count(&server, "dead", "ready"), 0, "before attempt {attempt}");
        die_of_it(&server);
        until("the server knows", || count(&server, "jobs", "in_flight") == 0);
    }
    let lost = "its consumer went away while it held it";
    assert_eq!(told(&server), [json!("max_attempts"), json!(lost), json!("consumer_lost"), json!(3)]);
}

#[test]
fn pauses_go_on_through_kills() {
    let setup = Setup::new();
    let server = setup.start();
    queues(&server, "first=1h,most=1h,attempts=3");
    settle(&server, &receive(&server)[0], json!({"outcome": "requeue", "error": "busy"}));
    assert_eq!(count(&server, "jobs", "delayed"), 1);
    server.kill();
    let server = setup.start();
    assert_eq!((count(&server, "jobs", "delayed"), count(&server, "jobs", "ready")), (1, 0));
    // One with a pause of its own comes in time, after another kill.
    ask(&server, "POST", "/v1/queues/jobs/messages", Some(json!({"job": 2})));
    settle(&server, &receive(&server)[0], json!({"outcome": "requeue", "delay_ms": 500}));
    server.kill();
    let server = setup.start();
    let again = receive(&server);
    assert_eq!((again.len(), &again[0]["body"]["job"], &again[0]["attempt"]), (1, &json!(2), &json!(2)));
    assert_eq!(count(&server, "jobs", "delayed"), 1);
}

/// The bodies of all that an ordered subscription hands out now, each accepted as it comes.
fn work_off(server: &Server) -> Vec<Value> {
    let mut bodies = Vec::new();
    loop {
        let page = ask(server, "POST", "/v1/subscriptions/steps/receive?max=1&wait_ms=0", None);
        let Some(message) = page["messages"].get(0).cloned() else { return bodies };
        bodies.push(message["body"].clone());
        settle_of(server, "subscriptions/steps", &message, json!({"outcome": "accept"}));
    }
}

#[test]
fn an_ordered_subscription_waits_with_the_key_that_failed_alone_through_a_kill() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("topic create events --partitions 1");
    server.ok("subscription create steps --topic events --mode ordered --retry constant,first=3s,jitter=0");
    for (body, key) in [("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b"), ("none", "")] {
        let key = Some(key).filter(|key| !key.is_empty());
        let line = format!("{}\n", json!({"body": body, "key": key}));
        server.cli_with(&["publish", "events", "--ndjson", "-"], line.as_bytes()).good();
    }
    let page = ask(&server, "POST", "/v1/subscriptions/steps/receive?max=1&wait_ms=9000", None);
    let first = page["messages"][0].clone();
    assert_eq!(first["body"], "a1");
    settle_of(&server, "subscriptions/steps", &first, json!({"outcome": "requeue", "error": "busy"}));
    assert_eq!(work_off(&server), ["b1", "b2", "none"]);
    server.kill();
    let server = setup.start();
    assert_eq!(work_off(&server), json!([]).as_array().cloned().expect("an array"), "a2 waits for a1");
    let mut rest = Vec::new();
    until("a1 is tried again", || {
        rest.extend(work_off(&server));
        rest.len() >= 2
    });
    assert_eq!(rest, ["a1", "a2"]);
}

#[test]
fn the_last_error_is_told_and_a_class_may_be_given_up_at_once() {
    let setup = Setup::new();
    let server = setup.start();
    queues(&server, "first=0ms,invalid.give_up");
    settle(&server, &receive(&server)[0], json!({"outcome": "requeue", "error": "no room", "class": "busy"}));
    server.kill();
    let server = setup.start();
    settle(&server, &receive(&server)[0], json!({"outcome": "requeue", "class": "invalid"}));
    assert_eq!(told(&server), [json!("rejected"), json!("no room"), json!("invalid"), json!(2)]);
}

#[test]
fn a_command_that_fails_tells_its_exit_status_as_the_class() {
    let setup = Setup::new();
    let server = setup.start();
    queues(&server, "exit_65.give_up");
    let consumed = server.cli(&["consume", "jobs", "-n", "1", "--exec", "exit 65"]);
    consumed.good();
    let [reason, error, class, attempts] = told(&server);
    assert_eq!((reason, class, attempts), (json!("rejected"), json!("exit_65"), json!(1)));
    assert!(error.as_str().is_some_and(|error| error.contains("65")), "{error}");
}

#[test]
fn a_change_of_one_part_leaves_the_others_and_none_takes_it_away() {
    let setup = Setup::new();
    let server = setup.start();
    queues(&server, "linear,first=1s,attempts=5,busy.first=2s");
    server.ok("queue change jobs --retry first=3s,invalid.give_up");
    let spec = |what: &str| ask(&server, "GET", "/v1/queues/jobs", None)["spec"][what].clone();
    let retry = spec("retry");
    assert_eq!((&retry["backoff"], &retry["first_ms"]), (&json!("linear"), &json!(3_000)));
    assert_eq!(retry["attempts_max"], 5);
    assert_eq!(retry["classes"], json!({"busy": {"first_ms": 2_000}, "invalid": {"give_up": true}}));
    let wrong = server.cli(&["queue", "change", "jobs", "--retry", "first=2h"]);
    wrong.bad(4, "retry.first_ms");
    server.ok("queue change jobs --retry none");
    assert_eq!(spec("retry"), Value::Null);
}
