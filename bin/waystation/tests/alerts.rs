//! Are alerts raised by the real program, once, delivered like any message, and resolved?

mod common;

use common::{Setup, until};
use serde_json::Value;

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
