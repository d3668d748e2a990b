//! Do the commands about users, permissions, virtual hosts, policies and definitions do what they say, against a real server?

mod common;

use common::{Server, Setup};
use serde_json::{Value, json};

/// A server whose AMQP doors take any free port.
fn server(setup: &Setup) -> Server {
    setup.start()
}

#[test]
fn a_user_is_added_with_a_password_that_no_argument_holds() {
    let setup = Setup::new();
    let server = server(&setup);
    let add = ["user", "add", "shop", "--tags", "management,monitoring"];
    assert!(server.cli_with(&add, b"secret\n").good().contains("user shop is created"));
    assert!(server.cli_with(&add, b"secret\n").good().contains("just so"));
    server.cli_with(&add, b"other\n").bad(4, "differs in 'password'");
    server.cli_with(&["user", "add", "empty"], b"\n").bad(2, "holds no password");
    let file = setup.file("password", "second\n");
    assert!(server.ok(&format!("user password shop --password-file {file}")).contains("is changed"));
    server.cli_with(&["user", "password", "shop"], b"third").good();
    server.ok("user add certified --no-password");
    server.cli(&["user", "password", "none", "--no-password"]).bad(3, "user 'none' does not exist");
    assert!(server.ok("user change shop --tags none").contains("is changed"));
    let listed = server.ok("user list");
    assert!(listed.starts_with("USER") && listed.contains("certified"), "{listed}");
    assert_eq!(
        server.json("user list")[2],
        json!({"name": "shop", "tags": [], "has_password": true}),
        "after certified and guest"
    );
    assert!(server.ok("permission grant shop --configure ^orders --read .*").contains("is created"));
    server.ok("permission grant-topic shop amq.topic --write ^a");
    let shown = server.json("user show shop");
    assert_eq!(shown["permissions"][0]["configure"], "^orders");
    assert_eq!(shown["topic_permissions"][0]["write"], "^a");
    assert!(server.ok("user show shop").contains("^orders"));
    assert_eq!(server.json("permission list --user shop").as_array().map(Vec::len), Some(1));
    assert!(server.ok("permission list-topics").contains("amq.topic"));
    server.ok("permission revoke-topic shop amq.topic");
    server.ok("permission revoke shop");
    server.cli(&["permission", "revoke", "shop"]).bad(3, "does not exist");
    server.cli(&["permission", "grant", "shop", "--read", "("]).bad(4, "read");
    server.ok("user delete shop");
    server.cli(&["user", "delete", "shop"]).bad(3, "user 'shop' does not exist");
    server.ok("user delete shop --if-exists");
}

#[test]
fn virtual_hosts_and_policies_are_set_listed_and_removed() {
    let setup = Setup::new();
    let server = server(&setup);
    assert!(server.ok("vhost create shop --default-queue-type quorum").contains("is created"));
    assert!(server.ok("vhost create shop --default-queue-type quorum").contains("just so"));
    server.cli(&["vhost", "create", "shop"]).bad(4, "default_queue_type");
    server.ok("vhost change shop --tags a,b --default-queue-type none");
    let shop = json!({"name": "shop", "description": "", "tags": ["a", "b"], "limits": {}});
    assert_eq!(server.json("vhost list")[1], shop);
    server.ok("queue create shop::q.1");
    let set = ["policy", "set", "short", "--vhost", "shop", "--pattern", "^q", "--definition"];
    let set = |definition: &str| {
        let mut all = set.to_vec();
        all.push(definition);
        server.cli(&all)
    };
    assert!(set(r#"{"max-length": 5}"#).good().contains("is created"));
    assert!(set(r#"{"max-length": 4}"#).good().contains("is changed"));
    assert!(set(r#"{"max-length": 4}"#).good().contains("just so"));
    set(r#"{"max-lenght": 4}"#).bad(4, "max-lenght");
    server.ok("queue create shop::q.2");
    for queue in ["q.1", "q.2"] {
        let shown = server.json(&format!("queue show shop::{queue}"));
        let limits = (&shown["spec"]["max_messages"], &shown["effective"]["max_messages"]);
        assert_eq!(limits, (&Value::Null, &json!(4)), "{queue}");
    }
    assert!(server.ok("topology export").contains("[queues.\"shop::q.1\"]"));
    assert!(!server.ok("topology export").contains("max_messages"), "what a policy says is not declared");
    let file = setup.path("topology.toml").display().to_string();
    server.ok(&format!("topology export -o {file}"));
    server.ok(&format!("apply {file} --check"));
    assert!(server.ok("policy list --vhost shop").contains("{\"max-length\":4}"));
    assert_eq!(server.json("policy list --operator"), json!([]));
    server.ok("policy delete short --vhost shop");
    server.cli(&["policy", "delete", "short", "--vhost", "shop"]).bad(3, "does not exist");
    server.ok("vhost delete shop");
    server.cli(&["queue", "show", "shop::q.1"]).bad(3, "does not exist");
    server.cli(&["vhost", "delete", "/"]).bad(4, "cannot be deleted");
}

/// Definitions as a RabbitMQ writes them.
fn definitions() -> Value {
    json!({
        "rabbit_version": "3.10.8",
        "users": [
            {"name": "boss", "password": "secret", "tags": ["administrator"]},
            {"name": "hashed", "password_hash": "kI3GCqW5JLMJa4iX1lo7X4D6XbYqlLgxIs30+P6tENUV2POR",
                "hashing_algorithm": "rabbit_password_hashing_sha256", "tags": ""},
        ],
        "vhosts": [{"name": "/"}, {"name": "shop"}],
        "permissions": [{"user": "hashed", "vhost": "shop", "configure": "", "write": "^x", "read": ".*"}],
        "topic_permissions": [
            {"user": "hashed", "vhost": "shop", "exchange": "x.topic", "write": "^{username}", "read": ".*"},
        ],
        "parameters": [{
            "component": "operator_policy", "name": "op", "vhost": "shop",
            "value": {"pattern": "^q", "definition": {"max-length": 4}, "priority": 2, "apply-to": "queues"},
        }],
        "global_parameters": [{"name": "mine", "value": {"a": [1, {"b": 2}]}}],
        "policies": [{"vhost": "shop", "name": "dlx", "pattern": "^q\\.work$", "apply-to": "queues", "priority": 0,
            "definition": {"dead-letter-exchange": "x.direct", "dead-letter-routing-key": "dead"}}],
        "queues": [
            {"name": "q.work", "vhost": "shop", "durable": true, "auto_delete": false,
                "arguments": {"x-max-priority": 5}},
            {"name": "q.dead", "vhost": "shop", "durable": true, "auto_delete": false, "arguments": {}},
            {"name": "q.quorum", "vhost": "shop", "durable": true, "auto_delete": false,
                "arguments": {"x-queue-type": "quorum", "x-delivery-limit": 3}},
            {"name": "s.log", "vhost": "shop", "durable": true, "auto_delete": false,
                "arguments": {"x-queue-type": "stream", "x-max-age": "7D"}},
        ],
        "exchanges": [
            {"name": "x.direct", "vhost": "shop", "type": "direct", "durable": true, "auto_delete": false,
                "internal": false, "arguments": {}},
            {"name": "x.topic", "vhost": "shop", "type": "topic", "durable": true, "auto_delete": false,
                "internal": false, "arguments": {"alternate-exchange": "x.rest"}},
            {"name": "x.rest", "vhost": "shop", "type": "fanout", "durable": true, "auto_delete": false,
                "internal": true, "arguments": {}},
        ],
        "bindings": [
            {"source": "x.direct", "vhost": "shop", "destination": "q.dead", "destination_type": "queue",
                "routing_key": "dead", "arguments": {}},
            {"source": "x.topic", "vhost": "shop", "destination": "x.direct", "destination_type": "exchange",
                "routing_key": "to.#", "arguments": {}},
            {"source": "x.topic", "vhost": "shop", "destination": "q.work", "destination_type": "queue",
                "routing_key": "work.*", "arguments": {}},
            {"source": "x.rest", "vhost": "shop", "destination": "s.log", "destination_type": "queue",
                "routing_key": "", "arguments": {"note": "x"}},
        ],
    })
}

/// The objects of a section, in an order of their own.
fn section(definitions: &Value, name: &str) -> Vec<String> {
    let mut all: Vec<String> =
        definitions[name].as_array().expect(name).iter().map(Value::to_string).collect();
    all.sort();
    all
}

#[test]
fn definitions_are_imported_route_and_come_out_as_they_went_in() {
    let setup = Setup::new();
    let server = server(&setup);
    let file = setup.file("definitions.json", definitions().to_string());
    let plan = server.ok(&format!("amqp import {file} --dry-run"));
    assert!(plan.contains("+ queue 'q.work' in vhost 'shop'"), "{plan}");
    server.cli(&["vhost", "delete", "shop"]).bad(3, "does not exist");
    let done = server.json(&format!("amqp import {file}"));
    assert_eq!((&done["change"], &done["differs"]), (&json!(0), &json!(0)), "{done}");
    assert!(done["create"].as_u64().is_some_and(|count| count >= 18), "{done}");
    assert!(server.ok(&format!("amqp import {file}")).starts_with("0 created, 0 changed"));

    let exported = setup.path("exported.json");
    server.ok(&format!("amqp export -o {}", exported.display()));
    let text = std::fs::read_to_string(&exported).expect("written");
    let exported: Value = serde_json::from_str(&text).expect("JSON");
    let wanted = definitions();
    for name in ["queues", "exchanges", "bindings", "policies", "parameters", "topic_permissions"] {
        assert_eq!(section(&exported, name), section(&wanted, name), "{name}");
    }
    let one = server.json("amqp export --vhost shop");
    assert!(one["users"].is_null() && one["queues"][0]["vhost"].is_null());

    // What came in routes: by pattern, to an exchange behind it, to the alternate, and to dead letters by policy.
    for key in ["work.1", "to.dead", "dead", "other"] {
        server.ok(&format!("publish shop::x.topic m --routing-key {key}"));
    }
    let ready = |queue: &str| server.json(&format!("queue show shop::{queue}"))["ready"].clone();
    assert_eq!((ready("q.work"), ready("q.dead")), (json!(1), json!(0)));
    server.ok("publish shop::x.direct m --routing-key dead");
    assert_eq!(ready("q.dead"), json!(1));
    let log = server.json("topic show shop::s.log");
    assert_eq!(log["partitions"][0]["end_offset"], json!(2), "what no binding took: dead and other");
    let work = server.json("queue show shop::q.work");
    assert_eq!(
        (&work["effective"]["dead_letter_route"], &work["effective"]["max_messages"]),
        (&json!("shop::x.direct"), &json!(4))
    );
}

#[test]
fn what_is_there_otherwise_stays_and_is_told_and_what_is_wrong_imports_nothing() {
    let setup = Setup::new();
    let server = server(&setup);
    let import = |what: Value| {
        let file = setup.file("definitions.json", what.to_string());
        server.cli(&["amqp", "import", &file])
    };
    server.ok("queue create q --durable=false");
    let queue = json!({"name": "q", "vhost": "/", "durable": true, "auto_delete": false, "arguments": {}});
    import(json!({"queues": [queue]})).bad(4, "1 are there otherwise");
    let policy = json!({"vhost": "/", "name": "p", "pattern": "(", "definition": {"max-length": 1}});
    import(json!({"queues": [{"name": "new", "vhost": "/", "durable": true, "arguments": {}}], "policies": [policy]}))
        .bad(4, "nothing was imported");
    server.cli(&["queue", "show", "new"]).bad(3, "does not exist");
    let file = setup.file("broken.json", "{");
    server.cli(&["amqp", "import", &file]).bad(2, "EOF");
    server.cli(&["amqp", "import", "/nowhere.json"]).bad(2, "nowhere.json");
    server.cli(&["amqp", "export", "--vhost", "none"]).bad(3, "virtual host 'none'");
    server.cli_with(&["amqp", "import", "-"], b"{}").good();
}
