//! Do the client commands do what they say, against a real server?

mod common;

use common::{Server, Setup};
use serde_json::{Value, json};

fn bodies(lines: &str) -> Vec<&str> {
    lines.lines().collect()
}

#[test]
fn queues_are_made_listed_shown_changed_and_deleted() {
    let setup = Setup::new();
    let server = setup.start();
    let create = "queue create orders --max-attempts 5 --ttl 1h --dead-letter dead --lease 10s";
    assert!(server.ok(create).contains("is created"));
    assert!(server.ok(create).contains("is there just so"));
    let other = create.replace("-attempts 5", "-attempts 6");
    server.cli(&other.split(' ').collect::<Vec<_>>()).bad(4, "max_attempts");
    assert!(server.ok("queue change orders --max-attempts 6 --ttl none").contains("is changed"));
    let spec = &server.json("queue show orders")["spec"];
    assert_eq!(
        (&spec["max_attempts"], &spec["ttl_ms"], &spec["lease_ms"]),
        (&json!(6), &Value::Null, &json!(10_000))
    );
    server.ok("queue create dead");
    let listed = server.ok("queue list");
    assert!(listed.lines().count() == 3 && listed.starts_with("QUEUE"), "{listed}");
    assert_eq!(server.json("queue list d#").as_array().map(Vec::len), Some(0));
    assert_eq!(server.json("queue list dead").as_array().map(Vec::len), Some(1));
    server.ok("publish orders x --as queue");
    server.cli(&["queue", "delete", "orders", "--if-empty"]).bad(4, "not empty");
    assert!(server.ok("queue purge orders").contains("1 message went"));
    server.ok("queue delete orders --if-empty --if-unused");
    server.cli(&["queue", "delete", "orders"]).bad(3, "does not exist");
    server.ok("queue delete orders --if-exists");
    server.cli(&["queue", "show", "orders"]).bad(3, "does not exist");
    server.cli(&["publish", "orders", "x"]).bad(3, "there is no queue and no topic and no route 'orders'");
    server.cli(&["queue", "create", "a b"]).bad(4, "' '");
    server.cli(&["publish", "a b", "x"]).bad(2, "is not allowed in a name");
}

#[test]
fn routes_are_made_bound_published_to_and_kept_in_a_file() {
    let setup = Setup::new();
    let server = setup.start();
    server
        .ok("queue create eu --durable=false --max-priority 3 --dead-letter-route late --dead-letter-key k");
    server.ok("queue change eu --durable --max-priority 255 --dead-letter-route none --dead-letter-key none");
    server.ok("queue create all");
    assert!(server.ok("route create orders --kind topic --alternate rest").contains("is created"));
    server.ok("route create rest --kind fanout");
    let bind = "route bind orders --to eu --key order.eu.#";
    assert!(server.ok(bind).contains("is bound to eu by 'order.eu.#'"));
    assert!(server.ok(bind).contains("already"));
    server.ok("route bind orders --to-route rest --key order.#");
    server.cli(&["route", "bind", "orders", "--to", "none"]).bad(3, "'none' does not exist");
    assert!(server.ok("publish orders x --routing-key order.eu.1").contains("to route orders"));
    assert!(server.ok("publish orders lost --as route").contains("no binding"));
    assert_eq!(bodies(&server.ok("consume eu --wait 0s")), ["x"]);
    let shown = server.ok("route show orders");
    assert!(shown.contains("-> eu by 'order.eu.#'") && shown.contains("-> route rest by"), "{shown}");
    let listed = server.ok("route list");
    let has = |name: &str| listed.lines().any(|line| line.split_whitespace().next() == Some(name));
    assert!(has("orders") && has("rest"), "{listed}");

    let file = setup.path("topology.toml");
    let file = file.to_str().expect("a path");
    server.ok(&format!("topology export -o {file}"));
    assert!(server.ok(&format!("apply {file} --dry-run")).contains("0 to create"));
    server.ok("route unbind orders --to eu --key order.eu.#");
    server.ok("route delete rest");
    let plan = server.ok(&format!("apply {file} --dry-run"));
    assert!(plan.contains("+ route rest") && plan.contains("+ binding of route orders to eu"), "{plan}");
    server.ok(&format!("apply {file}"));
    assert_eq!(server.json("route show orders")["bindings"].as_array().map(Vec::len), Some(2));
    assert!(server.ok("route unbind orders --to eu --key none").contains("is not bound"));
}

#[test]
fn a_message_goes_through_with_all_that_was_said_of_it() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create orders/eu:1 --deduplication 1h");
    let publish = [
        "publish",
        "orders/eu:1",
        "{\"total\":  12.5}",
        "--key",
        "4711",
        "--header",
        "origin=shop=1",
        "--priority",
        "7",
        "--ttl",
        "1h",
        "--id",
        "a-1",
    ];
    assert!(server.cli(&publish).good().contains("published"));
    assert!(server.cli(&publish).good().contains("nothing was stored"));
    let peeked = server.ok("peek orders/eu:1");
    assert!(peeked.contains("4711") && peeked.contains("12.5"), "{peeked}");
    let message = server.json("consume orders/eu:1");
    assert_eq!(message["key"], "4711");
    assert_eq!(message["headers"]["origin"], "shop=1");
    assert_eq!(
        (&message["priority"], &message["id"], &message["attempt"]),
        (&json!(7), &json!("a-1"), &json!(1))
    );
    assert_eq!(message["content_type"], "application/json");
    assert_eq!(server.ok("consume orders/eu:1 --wait 0"), "");
}

#[test]
fn bodies_come_from_arguments_files_pipes_and_lines() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create q");
    server.ok("publish q one");
    server.cli_with(&["publish", "q"], b"two\nlines").good();
    let file = setup.file("body.bin", b"\xff\x00");
    server.ok(&format!("publish q --file {file}"));
    server.cli_with(&["publish", "q", "--lines", "-", "--key", "k"], b"three\n{\"four\": 4}\n").good();
    let ndjson = setup.file("messages.ndjson", "{\"body\": 5, \"key\": \"x\"}\n{\"body_text\": \"six\"}\n");
    server.ok(&format!("publish q --ndjson {ndjson}"));
    server.ok(&format!("publish q --ndjson {ndjson} --skip 1 --rate 1000"));
    server.ok("publish q again --count 3");
    let consumed = server.cli(&["consume", "q"]);
    assert_eq!(consumed.code, Some(0));
    let expected = [
        "one",
        "two",
        "lines",
        "\u{fffd}\0",
        "three",
        "{\"four\": 4}",
        "5",
        "six",
        "six",
        "again",
        "again",
        "again",
    ];
    assert_eq!(bodies(&consumed.stdout), expected);
}

#[test]
fn a_bad_line_is_named_and_what_came_before_is_told() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create q");
    let ndjson = setup.file("bad.ndjson", "{\"body\": 1}\n{\"bdy\": 2}\n{\"body\": 3}\n");
    let told = server.cli(&["publish", "q", "--ndjson", &ndjson]).bad(4, "bdy");
    assert!(told.contains("--skip"), "{told}");
    server.cli(&["publish", "q", "--ndjson", "/nowhere"]).bad(2, "/nowhere");
}

#[test]
fn what_is_not_acknowledged_comes_again() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create q --lease 100ms");
    server.ok("publish q x");
    assert_eq!(server.ok("consume q --no-ack -n 1"), "x\n");
    assert_eq!(server.json("consume q --wait 20s -n 1")["attempt"], 2);
}

#[test]
fn a_command_works_on_messages_and_a_failed_one_tries_again() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create q");
    server.ok("publish q good");
    server.ok("publish q bad");
    let consume = ["consume", "q", "--exec", "grep good", "--wait", "0"];
    assert_eq!(server.cli(&consume).good(), "good\n");
    let info = server.json("queue show q");
    assert_eq!((&info["counters"]["acknowledged"], &info["delayed"]), (&json!(1), &json!(1)), "{info}");
}

#[test]
fn a_subscription_gets_its_copy_and_can_be_moved() {
    let setup = Setup::new();
    let server = setup.start();
    server.cli(&["subscription", "create", "board", "--topic", "flights"]).bad(3, "flights");
    server.ok("topic create flights --partitions 1");
    server.ok("subscription create board --topic flights");
    server.ok(
        "subscription create late --topic flights --start earliest --filter {\"exact\":{\"late\":\"yes\"}}",
    );
    server.ok("publish flights one --header late=no");
    server.ok("publish flights two --header late=yes");
    assert_eq!(server.json("subscription show board")["lag"], 2);
    assert_eq!(server.ok("consume board"), "one\ntwo\n");
    assert_eq!(server.ok("consume late"), "two\n");
    server.ok("subscription seek board --to offset:1 --partition 0");
    assert_eq!(server.ok("consume board"), "two\n");
    server.ok("subscription seek board --to earliest");
    assert_eq!(server.ok("consume board --count 1"), "one\n");
    assert!(server.ok("peek flights").contains("two"));
    assert_eq!(server.ok("topic list").lines().count(), 2);
    assert!(server.ok("subscription list").contains("flights"));
    server.cli(&["topic", "change", "flights", "--partitions", "0"]).bad(4, "partitions");
    server.ok("subscription delete board");
    server.ok("topic delete flights");
}

const TOPOLOGY: &str = r#"
[queues.orders]
dead_letter = "orders.dead"
max_attempts = 3
[queues."orders.dead"]
[topics.flights]
partitions = 2
[subscriptions.board]
topic = "flights"
start = "earliest"
filter = { prefix = { type = "flight." } }
"#;

fn applied(server: &Server, file: &str, more: &[&str]) -> Value {
    let arguments = ["apply", file, "--json"].into_iter().chain(more.iter().copied());
    server.cli(&arguments.collect::<Vec<_>>()).json()
}

#[test]
fn a_topology_is_planned_applied_and_applied_again_without_effect() {
    let setup = Setup::new();
    let server = setup.start();
    let file = setup.file("topology.toml", TOPOLOGY);
    let plan = server.ok(&format!("apply {file} --dry-run"));
    assert!(plan.contains("+ queue orders\n    dead_letter: orders.dead"), "{plan}");
    assert_eq!(server.json("queue list").as_array().map(Vec::len), Some(0));
    assert_eq!(server.cli(&["apply", &file, "--check"]).code, Some(10));
    assert_eq!(applied(&server, &file, &[])["steps_done"], 4);
    assert_eq!(applied(&server, &file, &[])["steps_done"], 0);
    assert_eq!(server.cli(&["apply", &file, "--check"]).code, Some(0));
    let exported = server.ok("topology export");
    let copy = setup.file("copy.toml", &exported);
    assert_eq!(applied(&server, &copy, &[])["steps_done"], 0, "{exported}");
    assert!(server.ok("topology export --format json").starts_with('{'));

    let changed =
        setup.file("changed.toml", "[queues.orders]\nmax_attempts = 4\n[topics.flights]\npartitions = 3\n");
    let text = server.ok(&format!("apply {changed}"));
    for line in
        ["~ queue orders", "max_attempts: 3 -> 4", "dead_letter: orders.dead -> none", "partitions: 2 -> 3"]
    {
        assert!(text.contains(line), "{text}\n  should say: {line}");
    }
    assert_eq!(applied(&server, &changed, &["--prune"])["steps_done"], 2);
    assert_eq!(server.json("subscription list").as_array().map(Vec::len), Some(0));
    let bad = setup.file("bad.toml", "[topics.flights]\npartitions = 1\n");
    server.cli(&["apply", &bad]).bad(4, "cannot be applied");
    let wrong = setup.file("wrong.toml", "[queues.orders]\nmax_atempts = 4\n");
    server.cli(&["apply", &wrong]).bad(2, "line 2, column 1");
    common::run(&["topology", "check", &wrong]).bad(2, "did you mean 'max_attempts'?");
}

#[test]
fn the_status_shows_everything_at_a_glance() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create orders");
    server.ok("topic create flights");
    server.ok("subscription create board --topic flights");
    server.ok("publish orders x");
    let text = server.ok("status");
    for word in ["accepting", "QUEUE", "orders", "TOPIC", "flights", "SUBSCRIPTION", "board"] {
        assert!(text.contains(word), "{text}\n  should show: {word}");
    }
    assert_eq!(server.json("status")["queues"][0]["ready"], 1);
}

#[test]
fn every_change_can_be_read_in_the_audit_trail_also_after_a_kill() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create orders");
    server.ok("queue change orders --ttl 5s");
    server.kill();
    let server = setup.start();
    server.ok("queue delete orders");
    let told = server.ok("peek $audit --count 10 --json");
    let records: Vec<serde_json::Value> =
        told.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of_orders = records.iter().map(|record| &record["body"]).filter(|body| body["name"] == "orders");
    let (actions, results): (Vec<_>, Vec<_>) =
        of_orders.map(|body| (body["action"].as_str(), body["result"].as_str())).unzip();
    assert_eq!(actions, [Some("declare"), Some("declare"), Some("delete")], "{told}");
    assert_eq!(results[..2], [Some("created"), Some("changed")], "{told}");
    let refused = server.cli(&["publish", "$audit", "forged"]);
    assert_ne!(refused.code, Some(0), "{refused:?}");
}
