//! Are alerts raised by the real program, once, delivered like any message, and resolved?

mod common;
#[path = "common/service.rs"]
mod service;

use common::{Setup, until};
use serde_json::Value;
use service::{Asked, Service, status};
use waystation_webhooks::sign::{Secret, signature};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// The alerts on the topic: each kind with its state.
fn told(server: &common::Server) -> Vec<(String, String)> {
    let lines = server.cli(&["peek", "oncall", "-n", "100", "--json"]).good();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let read = |line: &str| {
        let message: Value = serde_json::from_str(line).expect("JSON");
        (text(&message["body"]["id"]), text(&message["body"]["state"]))
    };
    lines.lines().map(read).collect()
}

#[test]
fn dead_letters_that_grow_are_told_once_even_over_a_restart_with_the_page_that_helps() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("subscription create oncall --topic $alerts");
    server.ok("queue create orders.dead");
    server.ok("queue create orders --dead-letter orders.dead --ttl 1ms");
    server.ok("alerts set few --on orders.* --dead-letters 3 --within 1h");
    assert!(server.ok("alerts list").contains("nothing is wrong"));
    assert!(server.ok("alerts rules").contains("orders.*"));
    // It counts from when it first looks.
    until("they are told", || {
        server.ok("publish orders x --count 5");
        server.json("alerts list").as_array().is_some_and(|all| !all.is_empty())
    });
    let alert = server.json("alerts list")[0].clone();
    assert_eq!((&alert["id"], &alert["rule"]), (&"dead_letters/queue/orders.dead".into(), &"few".into()));
    let runbook = alert["runbook"].as_str().expect("a page");
    let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../");
    assert!(std::path::Path::new(page).join(runbook).is_file(), "{runbook} is there to be read");
    until("it is on the topic", || !told(&server).is_empty());
    assert_eq!(told(&server), [("dead_letters/queue/orders.dead".to_owned(), "raised".to_owned())]);

    server.kill();
    let server = setup.start();
    until("it is known again", || server.ok("alerts list").contains(runbook));
    server.ok("queue delete orders");
    server.ok("queue delete orders.dead");
    until("it is resolved", || told(&server).len() == 2);
    assert_eq!(told(&server)[1].1, "resolved");
    assert!(server.ok("alerts list").contains("nothing is wrong"));
    server.ok("alerts unset few");
    server.cli(&["alerts", "unset", "few"]).bad(3, "no alert rule");
    server.cli(&["alerts", "set", "few", "--on", "a", "--lag", "1ms"]).bad(4, "lag.age_ms");
}

#[test]
fn a_push_of_the_alerts_tells_them_to_an_endpoint_signed_as_events_until_they_are_taken() {
    let mut asked = 0;
    let receiver = Service::new(move |_| {
        asked += 1;
        if asked == 1 { status(503) } else { status(204) }
    });
    let mut setup = Setup::new();
    setup.arguments.extend(["--webhook-allow", "127.0.0.1"].map(str::to_owned));
    let server = setup.start();
    server.ok("queue create oncall.dead");
    server.ok("subscription create oncall --topic $alerts --dead-letter oncall.dead");
    let push = format!("push create pager --subscription oncall --url {} --secret {SECRET}", receiver.url());
    server.ok(&format!("{push} --retry first=10ms,most=50ms"));
    server.ok("queue create orders");
    server.ok("alerts set slow --on orders --lag 5s");
    server.ok("publish orders x");
    let states = || -> Vec<Value> {
        let read = |seen: &Asked| {
            serde_json::from_slice::<Value>(seen.body.as_bytes()).expect("JSON")["state"].clone()
        };
        receiver.asked().iter().map(read).collect()
    };
    until("it is told, and told again after the 503", || states().len() >= 2);
    server.ok("consume orders");
    until("it is told that it is over", || states().iter().any(|state| state == "resolved"));
    assert_eq!(states(), ["raised", "raised", "resolved"]);
    let seen = receiver.asked();
    assert_eq!((seen[0].id(), seen[0].id() != seen[2].id()), (seen[1].id(), true));
    let keys = [Secret::parse(SECRET).expect("a secret")];
    for (one, kind) in seen.iter().zip(["raised", "raised", "resolved"]) {
        assert_eq!(one.header("ce-type"), format!("waystation.alert.{kind}"));
        let timestamp_s = one.header("webhook-timestamp").parse().expect("seconds");
        assert_eq!(
            one.header("webhook-signature"),
            signature(one.id(), timestamp_s, one.body.as_bytes(), &keys)
        );
        let alert: Value = serde_json::from_slice(one.body.as_bytes()).expect("JSON");
        assert_eq!((&alert["id"], &alert["rule"]), (&"lag/queue/orders".into(), &"slow".into()));
        assert!(alert["runbook"].as_str().is_some_and(|page| page.starts_with("docs/runbooks/")), "{alert}");
    }
    until("all are acknowledged", || server.json("subscription show oncall")["lag"] == 0);
    assert_eq!(server.json("queue show oncall.dead")["ready"], 0);
}
