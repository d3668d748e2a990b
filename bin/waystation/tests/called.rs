//! Does the record tell what receivers of pushes and callbacks answered, each attempt by itself, through a kill?

#[path = "common/asking.rs"]
mod asking;
mod common;
#[path = "common/service.rs"]
mod service;

use asking::journey;
use common::{Server, Setup, until};
use serde_json::{Value, json};
use service::{Do, Service, status};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// A server that may call this machine, and signs callbacks.
fn setup() -> Setup {
    let mut setup = Setup::new();
    let text = format!("[webhooks]\nallow = [\"127.0.0.1\"]\ncallback_secrets = [\"{SECRET}\"]\n");
    let config = setup.file("waystation.toml", text);
    setup
        .arguments
        .extend(["--amqp", "off", "--amqp-management", "off", "--config", &config].map(str::to_owned));
    setup
}

/// What happened to a copy, in words, and what receivers answered.
fn told(copy: &Value) -> (Vec<&str>, Vec<&Value>) {
    let steps = copy["steps"].as_array().expect("steps");
    let words = steps.iter().map(|step| step["what"].as_str().expect("a word")).collect();
    let called = steps.iter().filter(|step| step["what"] == "called");
    (words, called.map(|step| &step["status"]).collect())
}

/// The copy of a message in the stay at this address.
#[track_caller]
fn copy_at(journey: &Value, address: &str) -> Value {
    let messages = journey["messages"].as_array().expect("messages");
    let mut stays = messages.iter().flat_map(|message| message["stays"].as_array().expect("stays"));
    stays.find(|stay| stay["address"] == address).unwrap_or_else(|| panic!("{address}: {journey:#}"))["copies"][0].clone()
}

fn create_push(server: &Server, of: &str, receiver: &Service) {
    server.ok(&format!(
        "push create shop --{of} --url {} --secret {SECRET} --retry constant,first=50ms --dead-letter dead",
        receiver.url()
    ));
}

#[test]
fn each_attempt_of_a_push_is_told_with_the_answer() {
    let mut answers = vec![status(204), Do::Raw(Vec::new()), status(503)];
    let receiver = Service::new(move |_| answers.pop().unwrap_or(status(204)));
    let setup = setup();
    let server = setup.start();
    server.ok("queue create work");
    server.ok("queue create dead");
    create_push(&server, "queue work", &receiver);
    server.ok("publish work x --id m-1");
    until("it has arrived", || receiver.asked().len() == 3);
    until("it is settled", || journey(&server, "id=m-1")["under_way"] == Value::Null);
    server.kill();
    let server = setup.start();
    let journey = journey(&server, "id=m-1");
    let copy = copy_at(&journey, "work");
    let (words, statuses) = told(&copy);
    let attempt = ["delivered", "called", "failed", "delayed"];
    let expected = [&attempt[..], &attempt, &["delivered", "called", "acknowledged"]].concat();
    assert_eq!((words, statuses), (expected, vec![&json!(503), &Value::Null, &json!(204)]), "{journey:#}");
    let shown = server.ok("trace m-1");
    assert!(shown.contains("called http://127.0.0.1") && shown.contains("answered 503"), "{shown}");
    assert!(shown.contains("no answer"), "{shown}");
}

#[test]
fn a_push_of_a_subscription_is_told_with_its_copy() {
    let receiver = Service::new(|_| status(202));
    let setup = setup();
    let server = setup.start();
    server.ok("topic create events");
    server.ok("queue create dead");
    server.ok("subscription create board --topic events");
    create_push(&server, "subscription board", &receiver);
    server.ok("publish events x --id e-1");
    until("it is settled", || {
        let copy = copy_at(&journey(&server, "id=e-1"), "events");
        copy["now"]["state"] == "acknowledged"
    });
    let copy = copy_at(&journey(&server, "id=e-1"), "events");
    assert_eq!(told(&copy), (vec!["delivered", "called", "acknowledged"], vec![&json!(202)]), "{copy:#}");
}

#[test]
fn a_callback_is_told_with_its_call_and_how_the_caller_answered() {
    let mut answers = vec![status(204), status(500)];
    let receiver = Service::new(move |_| answers.pop().unwrap_or(status(204)));
    let setup = setup();
    let server = setup.start();
    let url = receiver.url();
    server.cli(&["operation", "create", "ship", "--callback-allow", &format!("{url}*")]).good();
    let id = server.cli(&["call", "ship", "x", "--detach", "--callback", &url]).good().trim().to_owned();
    server.ok("consume ship -n 1");
    server.ok(&format!("publish $calls.replies done --header correlation-id={id}"));
    until("it has arrived", || receiver.asked().len() >= 2);
    let copy = || copy_at(&journey(&server, &format!("call={id}")), "$calls.callbacks");
    until("it is settled", || copy()["now"]["state"] == "acknowledged");
    let copy = copy();
    let (words, statuses) = told(&copy);
    let expected = ["delivered", "called", "failed", "delayed", "delivered", "called", "acknowledged"];
    assert_eq!(words, expected, "{copy:#}");
    assert_eq!(statuses, [&json!(500), &json!(204)]);
    let shown = server.ok(&format!("trace {id} --as call"));
    assert!(shown.contains("answered 500") && shown.contains("answered 204"), "{shown}");
}
