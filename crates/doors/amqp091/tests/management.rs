//! Does the management interface answer as RabbitMQ's does? The expected bodies were taken from RabbitMQ 3.10.

use std::{io, net::SocketAddr, sync::Arc};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
};
use waystation_access::Access;
use waystation_amqp091::management::{BODY_BYTES_MAX, Endpoint, GET_COUNT_MAX, OBJECTS_MAX, Options, serve};
use waystation_base::{
    memory::Memory,
    os::{OsClock, OsDisk},
};
use waystation_catalog::Catalog;
use waystation_host::MemoryBound;
use waystation_net::{Drain, Listener};

struct Server {
    address: SocketAddr,
    drain: Drain,
    serving: tokio::task::JoinHandle<()>,
    stop: oneshot::Sender<()>,
    driver: tokio::task::JoinHandle<Result<(), waystation_journal::Failure>>,
    _dir: tempfile::TempDir,
}

impl Server {
    async fn start() -> Server {
        Server::with(|_| ()).await
    }

    async fn with(change: impl FnOnce(&mut waystation_host::Options)) -> Server {
        let dir = tempfile::tempdir().expect("a folder");
        let mut options = waystation_host::Options::new(dir.path());
        change(&mut options);
        let opened = waystation_host::open(options, Arc::new(OsDisk), Arc::new(OsClock));
        let (broker, driver, _) = opened.expect("opened");
        let (stop, stopped) = oneshot::channel::<()>();
        let driver = tokio::spawn(driver.run(async { drop(stopped.await) }));
        let catalog = Catalog::new(Access::new(vec![]).expect("no tokens"));
        catalog.load(&broker).await.expect("loaded");
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), None).await.expect("bound");
        let address = listener.address().expect("an address");
        let drain = Drain::default();
        let options = Options {
            broker,
            catalog,
            registry: Arc::default(),
            clock: Arc::new(OsClock),
            drain: drain.clone(),
            version: "0",
            endpoints: vec![Endpoint { protocol: "http", address }],
        };
        let serving = tokio::spawn(serve(listener, options));
        Server { address, drain, serving, stop, driver, _dir: dir }
    }

    async fn end(self) {
        self.drain.begin();
        self.serving.await.expect("ended");
        drop(self.stop);
        self.driver.await.expect("joined").expect("ended well");
    }

    /// Sends a request as `user:password`; status and body, which is null if empty.
    async fn ask(&self, who: &str, method: &str, path: &str, body: &str) -> (u16, Value) {
        let mut stream = TcpStream::connect(self.address).await.expect("connected");
        let proof = STANDARD.encode(who);
        let head = format!(
            "{method} /api/{path} HTTP/1.1\r\nhost: localhost\r\nauthorization: Basic {proof}\r\ncontent-length: {}\r\n\
             content-type: application/json\r\nconnection: close\r\n\r\n",
            body.len()
        );
        stream.write_all(head.as_bytes()).await.expect("sent");
        // The server may answer, and close, before it has read a body that is too large.
        let _ = stream.write_all(body.as_bytes()).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.get(9..12).and_then(|digits| digits.parse().ok()).unwrap_or_default();
        let body = text.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        (status, serde_json::from_str(body).unwrap_or(Value::Null))
    }

    async fn guest(&self, method: &str, path: &str, body: Value) -> (u16, Value) {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        self.ask("guest:guest", method, path, &body).await
    }

    async fn put(&self, path: &str, body: Value) -> u16 {
        self.guest("PUT", path, body).await.0
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.guest("GET", path, Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }
}

fn refused(error: &str, reason: impl Into<Value>) -> Value {
    json!({"error": error, "reason": reason.into()})
}

#[tokio::test]
async fn queues_are_declared_shown_and_refused_in_rabbitmqs_words() {
    let server = Server::start().await;
    let queue = json!({"durable": true, "arguments": {"x-max-length": 5}});
    assert_eq!(server.put("queues/%2F/q1", queue.clone()).await, 201);
    assert_eq!(server.put("queues/%2F/q1", queue).await, 204);
    let reason =
        "inequivalent arg 'durable' for queue 'q1' in vhost '/': received 'false' but current is 'true'";
    let other = json!({"durable": false, "arguments": {"x-max-length": 5}});
    let answer = server.guest("PUT", "queues/%2F/q1", other).await;
    assert_eq!(answer, (400, refused("bad_request", reason)));
    let not_found = (404, refused("Object Not Found", "Not Found"));
    assert_eq!(server.guest("GET", "queues/%2F/none", Value::Null).await, not_found);
    assert_eq!(server.guest("DELETE", "queues/%2F/none", Value::Null).await, not_found);
    let answer = server.guest("PUT", "queues/none/q", json!({})).await;
    assert_eq!(answer, (404, refused("not_found", "vhost_not_found")));
    let answer = server.guest("PUT", "queues/%2F/amq.x", json!({})).await;
    assert_eq!(answer, (401, refused("not_authorised", "Access refused.")));
    assert_eq!(
        server.ask("guest:guest", "PUT", "queues/%2F/q2", "{bad").await.1,
        refused("bad_request", "not_json")
    );
    let shown = server.get("queues/%2F/q1").await;
    assert_eq!((&shown["type"], &shown["arguments"]), (&json!("classic"), &json!({"x-max-length": 5})));
    assert_eq!(server.get("queues?columns=name").await, json!([{"name": "q1"}]));
    assert_eq!(server.guest("DELETE", "queues/%2F/q1", Value::Null).await.0, 204);
    assert_eq!(server.get("queues").await, json!([]));
    server.end().await;
}

#[tokio::test]
async fn messages_go_by_an_exchange_and_its_binding_to_a_queue_and_are_got_from_it() {
    let server = Server::start().await;
    assert_eq!(server.put("queues/%2F/q1", json!({"durable": true})).await, 201);
    assert_eq!(server.put("exchanges/%2F/e1", json!({"type": "topic"})).await, 201);
    let bound = server.guest("POST", "bindings/%2F/e/e1/q/q1", json!({"routing_key": "a.*"})).await;
    assert_eq!(bound.0, 201);
    let publish = |key: &str| json!({"properties": {"priority": 3}, "routing_key": key, "payload": "hello", "payload_encoding": "string"});
    let path = "exchanges/%2F/e1/publish";
    assert_eq!(server.guest("POST", path, publish("a.b")).await, (200, json!({"routed": true})));
    assert_eq!(server.guest("POST", path, publish("b")).await, (200, json!({"routed": false})));
    let get =
        json!({"count": GET_COUNT_MAX + 1, "ackmode": "ack_requeue_true", "encoding": "auto", "truncate": 3});
    let expected = json!([{
        "exchange": "e1", "routing_key": "a.b", "payload": "hel", "payload_bytes": 5, "payload_encoding": "string",
        "message_count": 0, "properties": {"priority": 3}, "redelivered": false
    }]);
    assert_eq!(server.guest("POST", "queues/%2F/q1/get", get.clone()).await, (200, expected));
    let again = server.guest("POST", "queues/%2F/q1/get", get).await.1;
    assert_eq!(again[0]["redelivered"], true, "it was put back");
    assert_eq!(server.guest("DELETE", "bindings/%2F/e/e1/q/q1/a.*", Value::Null).await.0, 204);
    assert_eq!(server.guest("POST", path, publish("a.b")).await.1, json!({"routed": false}));
    assert_eq!(server.guest("DELETE", "queues/%2F/q1/contents", Value::Null).await.0, 204);
    assert_eq!(server.get("queues/%2F/q1").await["messages"], 0);
    assert_eq!(server.get("aliveness-test/%2F").await, json!({"status": "ok"}));
    server.end().await;
}

#[tokio::test]
async fn users_see_and_do_what_their_tags_and_permissions_allow() {
    let server = Server::start().await;
    assert_eq!(server.put("vhosts/shop", json!({"tags": "a,b"})).await, 201);
    let answer = server.guest("PUT", "users/u1", json!({"password": "p1"})).await;
    assert_eq!(answer, (400, refused("bad_request", "tags_not_present")));
    assert_eq!(server.put("users/u1", json!({"password": "p1", "tags": "management"})).await, 201);
    assert_eq!(server.put("users/u2", json!({"password": "p2", "tags": ""})).await, 201);
    let all = json!({"configure": ".*", "write": ".*", "read": ".*"});
    assert_eq!(server.put("permissions/shop/u1", all.clone()).await, 201);
    let nobody = server.guest("PUT", "permissions/shop/none", all).await;
    assert_eq!(nobody, (400, refused("bad_request", "vhost_or_user_not_found")));
    let ask = async |who: &str, path: &str| server.ask(who, "GET", path, "").await;
    let not = |reason: &str| (401, refused("not_authorised", reason));
    assert_eq!(ask("u1:p1", "users").await, not("Not administrator user"));
    assert_eq!(ask("u1:p1", "nodes").await, not("Not monitor user"));
    assert_eq!(ask("u1:p1", "queues/%2F").await, not("User not authorised to access virtual host"));
    assert_eq!(ask("u1:p1", "vhosts?columns=name").await, (200, json!([{"name": "shop"}])));
    assert_eq!(ask("u2:p2", "overview").await, not("Not management user"));
    assert_eq!(ask("u1:wrong", "overview").await, (401, refused("not_authorized", "Login failed")));
    assert_eq!(server.ask("u1:p1", "PUT", "queues/shop/q", "{}").await.0, 201);
    let last = server.guest("DELETE", "users/guest", Value::Null).await;
    assert_eq!(last, (400, refused("bad_request", "the last administrator cannot be deleted")));
    server.end().await;
}

#[tokio::test]
async fn definitions_come_over_whole_and_a_second_time_change_nothing() {
    let server = Server::start().await;
    let definitions = json!({
        "rabbit_version": "3.10.8",
        "users": [{
            "name": "shop", "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
            "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ["management"], "limits": {}
        }],
        "vhosts": [{"name": "/"}, {"name": "v"}],
        "permissions": [{"user": "shop", "vhost": "v", "configure": ".*", "write": ".*", "read": ".*"}],
        "topic_permissions": [{"user": "shop", "vhost": "v", "exchange": "amq.topic", "write": "^a", "read": ".*"}],
        "parameters": [{
            "component": "operator_policy", "vhost": "v", "name": "op",
            "value": {"pattern": "^q", "definition": {"max-length": 100}, "priority": 1, "apply-to": "queues"}
        }],
        "global_parameters": [{"name": "cluster_name", "value": "here"}],
        "policies": [{
            "vhost": "v", "name": "p", "pattern": "^q", "apply-to": "queues", "definition": {"message-ttl": 60000}, "priority": 0
        }],
        "queues": [{"name": "q", "vhost": "v", "durable": true, "auto_delete": false, "arguments": {"x-queue-type": "quorum"}}],
        "exchanges": [{
            "name": "e", "vhost": "v", "type": "headers", "durable": true, "auto_delete": false, "internal": false, "arguments": {}
        }],
        "bindings": [{
            "source": "e", "vhost": "v", "destination": "q", "destination_type": "queue", "routing_key": "",
            "arguments": {"x-match": "all", "kind": "a"}
        }]
    });
    let plan = server.guest("POST", "definitions?dry_run=true", definitions.clone()).await;
    assert_eq!((plan.0, &plan.1["create"]), (200, &json!(10)), "{}", plan.1);
    assert_eq!(server.get("queues").await, json!([]), "nothing was done");
    assert_eq!(server.guest("POST", "definitions", definitions.clone()).await, (204, Value::Null));
    assert_eq!(server.ask("shop:test12", "GET", "whoami", "").await.0, 200);
    let queue = server.get("queues/v/q").await;
    assert_eq!((&queue["policy"], &queue["operator_policy"]), (&json!("p"), &json!("op")));
    let plan = server.guest("POST", "definitions?dry_run=true", definitions.clone()).await.1;
    assert_eq!((&plan["create"], &plan["change"]), (&json!(0), &json!(0)), "{plan}");
    let exported = server.get("definitions").await;
    for section in ["topic_permissions", "parameters", "policies", "queues", "exchanges", "bindings"] {
        assert_eq!(exported[section], definitions[section], "{section}");
    }
    server.end().await;
}

#[tokio::test]
async fn definitions_with_mistakes_are_refused_whole_with_each_mistake() {
    const { assert!(OBJECTS_MAX > 0) };
    let server = Server::start().await;
    let definitions = json!({
        "queues": [
            {"name": "good", "vhost": "/", "durable": true, "arguments": {}},
            {"name": "bad", "vhost": "/", "durable": true, "arguments": {"x-max-length": -1}},
            {"name": "q", "vhost": "none", "durable": true, "arguments": {}}
        ],
        "policies": [{"vhost": "/", "name": "p", "pattern": "(", "definition": {"max-length": 1}}]
    });
    let (status, body) = server.guest("POST", "definitions", definitions).await;
    let reason = body["reason"].as_str().unwrap_or_default();
    assert_eq!(status, 400);
    for part in [
        "3 of the objects",
        "queue 'bad' in vhost '/'",
        "value_negative",
        "vhost 'none' does not exist",
        "policy 'p'",
    ] {
        assert!(reason.contains(part), "{reason}\n  should say {part}");
    }
    assert_eq!(server.get("queues").await, json!([]), "nothing half");
    server.end().await;
}

#[tokio::test]
async fn a_body_past_its_bound_is_refused() {
    let server = Server::start().await;
    let body = format!("\"{}\"", "x".repeat(BODY_BYTES_MAX));
    let (status, _) = server.ask("guest:guest", "PUT", "queues/%2F/q", &body).await;
    assert!(status == 413 || status == 0, "{status}: or the connection was cut");
    server.end().await;
}

#[tokio::test]
async fn limits_of_virtual_hosts_and_users_are_set_shown_exported_imported_and_taken_away() {
    let server = Server::start().await;
    assert_eq!(server.get("vhost-limits").await, json!([]));
    let (made, _) = server.guest("PUT", "vhosts/shop", json!({})).await;
    assert_eq!(made, 201);
    for (path, value, expected) in [
        ("vhost-limits/shop/max-queues", json!(1), 204),
        ("vhost-limits/shop/max-connections", json!(7), 204),
        ("vhost-limits/shop/max-sheep", json!(7), 400),
        ("vhost-limits/shop/max-queues", json!("many"), 400),
        ("vhost-limits/nowhere/max-queues", json!(1), 404),
        ("user-limits/nobody/max-channels", json!(1), 404),
    ] {
        let (status, answer) = server.guest("PUT", path, json!({"value": value})).await;
        assert_eq!(status, expected, "{path}: {answer}");
    }
    let both = json!([{"vhost": "shop", "value": {"max-connections": 7, "max-queues": 1}}]);
    assert_eq!(server.get("vhost-limits").await, both);
    assert_eq!(server.get("vhost-limits/shop").await, both);
    assert_eq!(server.guest("PUT", "queues/shop/a", json!({})).await.0, 201);
    let (status, refused) = server.guest("PUT", "queues/shop/b", json!({})).await;
    assert_eq!(status, 400, "{refused}");
    let user = json!({"password": "x", "tags": "", "limits": {"max-channels": 3}});
    assert_eq!(server.guest("PUT", "users/clerk", user).await.0, 201);
    assert_eq!(server.guest("PUT", "user-limits/clerk/max-connections", json!({"value": 2})).await.0, 204);
    let of_clerk = json!([{"user": "clerk", "value": {"max-channels": 3, "max-connections": 2}}]);
    assert_eq!(server.get("user-limits").await, of_clerk);
    let definitions = server.get("definitions").await;
    let limits = json!({"vhost": "shop", "component": "vhost-limits", "name": "limits",
        "value": {"max-connections": 7, "max-queues": 1}});
    assert!(definitions["parameters"].as_array().expect("parameters").contains(&limits), "{definitions}");
    for path in [
        "vhost-limits/shop/max-queues",
        "vhost-limits/shop/max-connections",
        "user-limits/clerk/max-channels",
    ] {
        assert_eq!(server.guest("DELETE", path, Value::Null).await.0, 204, "{path}");
    }
    assert_eq!(server.get("vhost-limits").await, json!([]));
    assert_eq!(server.guest("POST", "definitions", definitions).await.0, 204);
    assert_eq!(server.get("vhost-limits").await, both, "as they were exported");
    assert_eq!(server.get("user-limits").await, of_clerk);
    server.end().await;
}

/// A process that uses just so much memory.
#[derive(Debug)]
struct Just(u64);

impl Memory for Just {
    fn used_bytes(&self) -> io::Result<u64> {
        Ok(self.0)
    }
}

#[tokio::test]
async fn each_alarm_is_shown_at_the_node_and_fails_the_checks_until_it_is_over() {
    const USED: u64 = 1 << 20;
    let memory = Arc::new(MemoryBound::new(Arc::new(Just(USED)), 2 * USED));
    let bound = memory.clone();
    let server = Server::with(|options| {
        options.memory = Some(bound);
        options.disk_reserve_bytes = 0;
    })
    .await;
    let node = async || {
        let node = server.get("nodes/waystation@localhost").await;
        ["mem_used", "mem_limit", "mem_alarm", "disk_free_alarm"].map(|key| node[key].clone())
    };
    assert_eq!(node().await, [json!(USED), json!(2 * USED), json!(false), json!(false)]);
    const CHECKS: [&str; 3] = ["health/checks/alarms", "health/checks/local-alarms", "healthchecks/node"];
    for check in CHECKS {
        assert_eq!(server.get(check).await["status"], "ok");
    }
    memory.set_high_bytes(USED);
    // It is looked at again with the requests that come half a second later.
    while node().await[2] == false {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(node().await, [json!(USED), json!(USED), json!(true), json!(false)]);
    for check in CHECKS {
        let (status, body) = server.guest("GET", check, Value::Null).await;
        assert_eq!((status, &body["status"]), (503, &json!("failed")), "{check}");
        assert_eq!(body["alarms"], json!([{"resource": "memory", "node": "waystation@localhost"}]));
    }
    memory.set_high_bytes(0);
    while node().await[2] == true {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    assert_eq!(node().await, [json!(USED), json!(0), json!(false), json!(false)]);
    assert_eq!(server.get(CHECKS[0]).await["status"], "ok");
    server.end().await;
}
