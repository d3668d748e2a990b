//! What becomes of a gather's replies when the server died while its request was being given up in parts? The queues hold what it had
//! written by then; routes begin on them.

#[path = "lives/server.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod server;

use std::time::Duration;

use serde_json::json;
use server::{HOLD_ASK, Server, message, name};
use waystation_base::{Message, Offset, Tag, Value};
use waystation_host::Target;
use waystation_testkit::disk::{Crash, SimDisk};

/// Long enough for anything that happens at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// What the request and its replies have in common.
const KEY: &str = "ask.1";

fn held(number: u64, role: &str, said: u64, body: &serde_json::Value) -> Message {
    let mut held = message(number, body, None);
    held.headers.set("ws-hold-key", KEY);
    held.headers.set("ws-hold-role", role);
    held.headers.set("ws-hold-number", Value::U64(said));
    held
}

fn reply(number: u64) -> Message {
    let mut reply = message(number, &json!({"n": number, "reply": true}), None);
    reply.headers.set("correlation-id", KEY);
    reply
}

/// The request is in its place, and noted as given up with its first two replies; a third came later.
fn given_up() -> [(&'static str, Vec<Message>); 2] {
    let mut note = held(2, "given_up", 0, &json!({}));
    note.headers.set("ws-hold-step", "steps[0].gather");
    note.headers.set("ws-hold-error", "too large");
    note.headers.set("ws-hold-replies", Value::List(vec![Value::U64(Tag::new(0, Offset(1)).0)]));
    let opener = held(1, "opener", 3, &json!({"n": 1, "kind": "ask"}));
    [("quotes", vec![reply(10), reply(11), reply(12)]), (HOLD_ASK, vec![opener, note])]
}

#[test]
fn replies_of_a_request_that_was_given_up_in_parts_go_with_it_and_later_ones_are_late() {
    let disk = SimDisk::new(1);
    let mut server = Server::open(&disk);
    server.declare("http://127.0.0.1:1");
    server.crash(&disk, Crash::Kill);
    let mut server = Server::open(&disk);
    server.runtime.block_on(async {
        for (queue, messages) in given_up() {
            server.broker.publish(name(queue), messages).await.expect("published");
        }
    });
    server.begin_work();
    let letters = server.runtime.block_on(async {
        let all = async {
            loop {
                let letters = server.lying(Target::Queue(name("ask.dead"))).await;
                if letters.len() >= 4 && server.lying(Target::Queue(name(HOLD_ASK))).await.is_empty() {
                    return letters;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("all are dead letters")
    });
    let said = |n: u64| {
        let is_it = |letter: &&Message| letter.body == json!({"n": n, "reply": true}).to_string();
        let letter = letters.iter().find(is_it).unwrap_or_else(|| panic!("no letter of {n}"));
        letter.headers.text("ws-death-error").unwrap_or_default()
    };
    assert_eq!((said(10), said(11)), ("too large", "too large"));
    assert!(said(12).starts_with("it came after"), "{}", said(12));
    let request = letters.iter().find(|it| it.headers.text("ws-death-source") == Some("asks"));
    assert_eq!(request.and_then(|it| it.headers.text("ws-death-error")), Some("too large"));
    assert_eq!(letters.len(), 4);
}
