//! What do tests of routes have in common: a topology applied, messages sent, and what lies where afterwards?

#![allow(dead_code, reason = "each test binary uses a part of it")]

use serde_json::{Value, json};

use super::common::{Server, Setup, until};

/// A server without doors that a test of routes needs not.
pub fn setup() -> Setup {
    let mut setup = Setup::new();
    setup.arguments.extend(["--amqp", "off", "--amqp-management", "off"].map(str::to_owned));
    setup
}

/// A server with this topology.
#[track_caller]
pub fn with(setup: &Setup, topology: &str) -> Server {
    let server = setup.start();
    apply(setup, &server, topology);
    server
}

#[track_caller]
pub fn apply(setup: &Setup, server: &Server, topology: &str) {
    let file = setup.file("topology.toml", topology);
    server.cli(&["apply", &file]).good();
}

/// Publishes messages, each a JSON object as `publish --ndjson` takes it.
#[track_caller]
pub fn publish(server: &Server, address: &str, messages: &[Value]) {
    let lines: String = messages.iter().map(|message| format!("{message}\n")).collect();
    server.cli_with(&["publish", address, "--ndjson", "-"], lines.as_bytes()).good();
}

/// Messages with these bodies.
pub fn bodies(all: &[Value]) -> Vec<Value> {
    all.iter().map(|body| json!({"body": body})).collect()
}

/// What lies in a queue or topic, in order.
#[track_caller]
pub fn lying(server: &Server, address: &str) -> Vec<Value> {
    let text = server.ok(&format!("peek {address} --count 1000 --json"));
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

/// The bodies of what lies there.
#[track_caller]
pub fn found(server: &Server, address: &str) -> Vec<Value> {
    lying(server, address).into_iter().map(|message| message["body"].clone()).collect()
}

/// Waits until there are so many in a queue.
#[track_caller]
pub fn wait_for(server: &Server, queue: &str, count: usize) {
    until("they have come", || found(server, queue).len() >= count);
}

/// Waits until a route has done with so many messages.
#[track_caller]
pub fn taken(server: &Server, route: &str, count: u64) {
    until("the route has taken them", || {
        server.json(&format!("route show {route}"))["counts"]["taken"] == count
    });
}
