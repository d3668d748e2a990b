//! Do ten thousand messages of one tenant delay one of another, in queues and subscriptions of the real program? And do the limits of a
//! virtual host hold over all that is in it?

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

#[test]
fn the_limits_of_a_virtual_host_hold_over_all_its_queues_and_say_why_and_outlive_a_kill() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("vhost create shop --concurrency 2 --max-queues 2");
    for of in ["shop::a", "shop::b"] {
        server.ok(&format!("queue create {of} --lease 60s"));
        publish(&server, of, "t", 3);
    }
    let full = server.cli(&["queue", "create", "shop::c"]);
    full.bad(4, "virtual host 'shop' may have 2 queues and topics, and has them");
    let client = Client::of(&server);
    let taken = client.ask("/v1/queues/shop::a/receive?max=9", None);
    let taken = taken["messages"].as_array().expect("messages");
    assert_eq!(taken.len(), 2);
    let host = server.json("vhost list");
    let shop = host.as_array().expect("hosts").iter().find(|host| host["name"] == "shop").expect("it");
    assert_eq!(shop["state"], json!({"queues": 2, "held": 2, "held_back": ["vhost_concurrency"]}));
    std::thread::scope(|scope| {
        let waits =
            scope.spawn(|| Client::of(&server).ask("/v1/queues/shop::b/receive?max=1&wait_ms=60000", None));
        common::until("the reason is told", || {
            server.json("queue show shop::b")["held_back"] == json!(["vhost_concurrency"])
        });
        let done = json!({"tag": taken[0]["tag"], "attempt": taken[0]["attempt"], "outcome": "accept"});
        client.ask("/v1/queues/shop::a/settle", Some(json!({"settlements": [done]})));
        let came = waits.join().expect("answered");
        assert_eq!(came["messages"].as_array().map(Vec::len), Some(1), "there is room for it");
    });
    server.kill();
    let server = setup.start();
    let client = Client::of(&server);
    let none = client.ask("/v1/queues/shop::a/receive?max=9", None);
    assert_eq!(none["messages"], json!([]), "what is held under a lease counts after a restart");
    server.ok("vhost change shop --concurrency none --rate 1/m");
    assert_eq!(
        client.ask("/v1/queues/shop::b/receive?max=9", None)["messages"].as_array().map(Vec::len),
        Some(1)
    );
    assert_eq!(client.ask("/v1/queues/shop::a/receive?max=9", None)["messages"], json!([]));
    server.ok("vhost change shop --rate none");
    assert_eq!(
        client.ask("/v1/queues/shop::a/receive?max=9", None)["messages"].as_array().map(Vec::len),
        Some(1)
    );
}
