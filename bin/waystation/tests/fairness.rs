//! Do ten thousand messages of one tenant delay one of another, in queues and subscriptions of the real program?

mod common;

use common::{Server, Setup};
use serde_json::{Value, json};

/// Messages that one tenant has waiting.
const MANY: usize = 10_000;
/// Of those so many may come before another tenant's: while what lies between is still being read.
const FEW: usize = 500;

/// Asks one server again and again.
struct Client<'a> {
    server: &'a Server,
    runtime: tokio::runtime::Runtime,
    http: reqwest::Client,
}

impl Client<'_> {
    fn of(server: &Server) -> Client<'_> {
        waystation_net::tls::install_provider();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let http = reqwest::Client::builder().no_proxy().build().expect("a client");
        Client { server, runtime, http }
    }

    fn ask(&self, path: &str, body: Option<Value>) -> Value {
        let request = self.http.post(format!("{}{path}", self.server.url));
        let request = if let Some(body) = body { request.json(&body) } else { request };
        self.runtime.block_on(async {
            let response = request.send().await.expect("answered");
            let status = response.status();
            let answer: Value = response.json().await.unwrap_or_default();
            assert!(status.is_success(), "{path}: {status} {answer}");
            answer
        })
    }

    /// Takes messages of a source one at a time, and accepts each, until one has this body; gives how many came before it.
    fn before(&self, source: &str, body: &str) -> usize {
        for before in 0..MANY {
            let page = self.ask(&format!("/v1/{source}/receive?max=1&wait_ms=20000"), None);
            let message = &page["messages"][0];
            let done = json!({"tag": message["tag"], "attempt": message["attempt"], "outcome": "accept"});
            self.ask(&format!("/v1/{source}/settle"), Some(json!({"settlements": [done]})));
            if message["body"] == body {
                return before;
            }
        }
        panic!("{body} came last")
    }
}

fn publish(server: &Server, address: &str, tenant: &str, count: usize) {
    let line = |n| format!("{}\n", json!({"body": format!("{tenant}{n}"), "headers": {"tenant": tenant}}));
    let lines: String = (0..count).map(line).collect();
    server.cli_with(&["publish", address, "--ndjson", "-"], lines.as_bytes()).good();
}

#[test]
fn a_queue_that_is_fair_by_a_header_delays_another_tenant_by_one_message() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create jobs --fair tenant");
    publish(&server, "jobs", "a", MANY);
    publish(&server, "jobs", "b", 1);
    let before = Client::of(&server).before("queues/jobs", "b0");
    assert!(before <= 1, "{before}");
}

#[test]
fn a_subscription_that_is_fair_by_a_header_delays_another_tenant_by_what_is_read_meanwhile() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("topic create events --partitions 1");
    server.ok("subscription create mail --topic events --fair tenant,concurrency=5");
    publish(&server, "events", "a", MANY);
    publish(&server, "events", "b", 1);
    let client = Client::of(&server);
    let before = client.before("subscriptions/mail", "b0");
    assert!(before < FEW, "{before}");
    // Of what comes later, too, and after a kill.
    publish(&server, "events", "c", 1);
    assert!(client.before("subscriptions/mail", "c0") < FEW);
    publish(&server, "events", "d", 1);
    server.kill();
    let server = setup.start();
    assert!(Client::of(&server).before("subscriptions/mail", "d0") < FEW);
}

#[test]
fn the_virtual_host_of_a_topic_may_name_the_tenant() {
    let setup = Setup::new();
    let server = setup.start();
    for topic in ["shop::events", "bank::events"] {
        server.ok(&format!("topic create {topic} --partitions 1"));
    }
    server.ok("subscription create audit --topic # --fair @virtual_host");
    publish(&server, "shop::events", "a", MANY);
    publish(&server, "bank::events", "b", 1);
    let before = Client::of(&server).before("subscriptions/audit", "b0");
    assert!(before < FEW, "{before}");
    // Queues of their own are in nobody's way.
    for queue in ["shop::jobs", "bank::jobs"] {
        server.ok(&format!("queue create {queue}"));
    }
    publish(&server, "shop::jobs", "a", MANY);
    publish(&server, "bank::jobs", "b", 1);
    assert_eq!(Client::of(&server).before("queues/bank::jobs", "b0"), 0);
    server.cli(&["queue", "create", "mine", "--fair", "@virtual_host"]).bad(4, "fair.virtual_host");
}
