//! Is a caller called back with the outcome of its call, signed, though the server dies before it could be?

mod common;
#[path = "common/receiver.rs"]
mod receiver;

use common::{Setup, until};
use receiver::{Do, Receiver};
use serde_json::{Value, json};
use waystation_webhooks::sign::{Secret, signature};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

#[test]
fn the_outcome_of_a_call_reaches_the_address_that_the_caller_named_over_a_crash_under_one_id() {
    let mut answers = vec![Do::Answer(204), Do::Answer(503), Do::HangUp];
    let receiver = Receiver::new(move |_| answers.pop().unwrap_or(Do::Answer(204)));
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
    let about = &message["headers"];
    assert_eq!(
        (&message["body"], &about["reply-to"]),
        (&json!({"order": 4711}), &json!("$calls.replies")),
        "{message}"
    );
    let correlation = format!("correlation-id={}", id.trim());
    server.cli(&["publish", "$calls.replies", r#"{"shipped": true}"#, "--header", &correlation]).good();
    until("it has tried", || !receiver.seen().is_empty());
    server.kill();
    let server = setup.start();
    until("it has arrived", || receiver.seen().len() >= 3);
    until("nothing is left to deliver", || server.json("queue show $calls.callbacks")["in_flight"] == 0);
    let keys = [Secret::parse(SECRET).expect("a secret")];
    for seen in receiver.seen() {
        let body: Value = serde_json::from_slice(&seen.body).expect("JSON");
        assert_eq!((seen.id(), &body["type"]), (id.trim(), &json!("call.succeeded")), "{body}");
        let timestamp_s = seen.header("webhook-timestamp").parse().expect("seconds");
        assert_eq!(seen.header("webhook-signature"), signature(seen.id(), timestamp_s, &seen.body, &keys));
    }
}
