//! Do virtual hosts and users get the limits that a topology file gives them, and do the metrics show what they use of them?

#[path = "common/asking.rs"]
mod asking;
mod common;

use common::{Server, Setup};
use serde_json::{Value, json};

const FILE: &str = r#"
[vhosts.shop]
description = "the shop"
default_queue_type = "quorum"
[vhosts.shop.limits]
rate = { messages = 500, burst = 900 }
concurrency = 200
max_queues = 2
max_connections = 50

[vhosts."/"]
limits = { max_connections = 1000 }

[users.billing]
limits = { max_connections = 10, max_channels = 100 }

[queues."shop::orders"]
"#;

fn apply(server: &Server, file: &str, more: &[&str]) -> String {
    server.cli(&[&["apply", file], more].concat()).good()
}

fn steps(server: &Server, file: &str) -> Value {
    server.cli(&["apply", file, "--json"]).json()["steps_done"].clone()
}

/// What is left of a list that has one of this name.
fn named(list: &Value, name: &str) -> Value {
    let found = list.as_array().and_then(|all| all.iter().find(|it| it["name"] == name));
    found.unwrap_or_else(|| panic!("no {name} in {list}")).clone()
}

/// The samples of the metrics whose names begin so.
fn samples(server: &Server, begin: &str) -> Vec<String> {
    waystation_net::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let text = runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let response = client.get(format!("{}/metrics", server.url)).send().await.expect("an answer");
        response.text().await.expect("a text")
    });
    let found = text.lines().filter(|line| line.starts_with(begin));
    found.map(str::to_owned).collect()
}

#[test]
fn a_file_gives_limits_which_hold_and_applied_again_changes_nothing() {
    let setup = Setup::new();
    let server = setup.start();
    let file = setup.file("topology.toml", FILE);
    common::run(&["topology", "check", &file]).good();
    let plan = apply(&server, &file, &["--dry-run"]);
    assert_eq!(
        plan,
        "~ virtual host /\n    limits.max_connections: none -> 1000\n\
         + virtual host shop\n    default_queue_type: quorum\n    description: the shop\n    limits.concurrency: 200\n    \
         limits.max_connections: 50\n    limits.max_queues: 2\n    limits.rate.burst: 900\n    limits.rate.messages: 500\n    \
         limits.rate.per_ms: 1000\n\
         + user billing\n    limits.max_channels: 100\n    limits.max_connections: 10\n\
         + queue shop::orders\n\
         ? user billing: no password lets it in until `waystation user password billing` gives it one\n\
         3 to create, 1 to change, 0 to delete, 0 unchanged\n"
    );
    assert_eq!(server.json("vhost list").as_array().map(Vec::len), Some(1), "a dry run changes nothing");
    assert_eq!(server.cli(&["apply", &file, "--check"]).code, Some(10));
    assert_eq!(steps(&server, &file), 4);
    assert_eq!(steps(&server, &file), 0);
    assert_eq!(server.cli(&["apply", &file, "--check"]).code, Some(0));
    let shop = named(&server.json("vhost list"), "shop");
    let rate = json!({"messages": 500, "per_ms": 1000, "burst": 900});
    let limits = json!({"rate": rate, "concurrency": 200, "max_queues": 2, "max_connections": 50});
    assert_eq!((&shop["limits"], &shop["description"]), (&limits, &json!("the shop")));
    let billing = named(&server.json("user list"), "billing");
    let limits = json!({"max_connections": 10, "max_channels": 100});
    assert_eq!(billing, json!({"name": "billing", "tags": [], "has_password": false, "limits": limits}));
    server.ok("queue create shop::bills");
    server.cli(&["queue", "create", "shop::more"]).bad(4, "shop");

    // What is not said any more is not limited any more; who and what lets in a user is not the file's matter.
    server.cli_with(&["user", "password", "billing"], b"secret\n").good();
    server.ok("user change billing --tags management");
    let less = "[vhosts.shop]\nlimits = { max_queues = 3 }\n[users.billing]\nlimits = { max_channels = 7 }\n";
    let plan = apply(&server, &setup.file("less.toml", less), &["--prune"]);
    for line in [
        "~ virtual host shop\n    default_queue_type: quorum -> none\n    description: the shop -> \n",
        "    limits.concurrency: 200 -> none\n",
        "    limits.max_queues: 2 -> 3\n",
        "~ user billing\n    limits.max_channels: 100 -> 7\n    limits.max_connections: 10 -> none\n",
        "- queue shop::orders",
    ] {
        assert!(plan.contains(line), "{plan}\n  should say: {line}");
    }
    let billing = named(&server.json("user list"), "billing");
    assert_eq!(
        billing,
        json!({"name": "billing", "tags": ["management"], "has_password": true, "limits": {"max_channels": 7}})
    );
    // Neither goes because a file does not name it.
    apply(&server, &setup.file("none.toml", ""), &["--prune"]);
    assert_eq!(named(&server.json("vhost list"), "shop")["limits"], json!({"max_queues": 3}));
    assert_eq!(named(&server.json("vhost list"), "/")["limits"], json!({"max_connections": 1000}));
    assert_eq!(named(&server.json("user list"), "billing")["limits"], json!({"max_channels": 7}));
}

#[test]
fn an_export_holds_the_limits_and_makes_the_same_elsewhere() {
    let (setup, empty) = (Setup::new(), Setup::new());
    let (server, elsewhere) = (setup.start(), empty.start());
    assert_eq!(server.ok("topology export").trim(), "", "there is nothing to say of what is always there");
    apply(&server, &setup.file("topology.toml", FILE), &[]);
    server.ok("user add plain --no-password");
    server.ok("vhost create empty");
    for format in ["toml", "json"] {
        let exported = server.ok(&format!("topology export --format {format}"));
        assert!(!exported.contains("plain") && exported.contains("empty"), "{exported}");
        let copy = setup.file("copy", &exported);
        assert_eq!(steps(&server, &copy), 0, "{exported}");
        apply(&elsewhere, &copy, &[]);
        assert_eq!(elsewhere.ok(&format!("topology export --format {format}")), exported);
    }
}

#[test]
fn what_is_wrong_with_a_limit_is_told_with_its_place() {
    let setup = Setup::new();
    let check = |text: &str, said: &str| {
        common::run(&["topology", "check", &setup.file("wrong.toml", text)]).bad(2, said);
    };
    check("[vhost.a]", "did you mean 'vhosts'?");
    check("[vhosts.a]\n[vhosts.a.limits]\nmax_queue = 5", "line 3, column 1: unknown field `max_queue`");
    check("[vhosts.a]\n[vhosts.a.limits]\nmax_queue = 5", "did you mean 'max_queues'?");
    check(
        "[vhosts.a]\nlimits = { concurrency = 0 }",
        "line 2, column 12: virtual host 'a': field 'limits.concurrency'",
    );
    check(
        "[vhosts.a]\nlimits = { rate = { messages = 5, per_ms = 0 } }",
        "line 2, column 35: virtual host 'a': field 'limits.rate.per_ms'",
    );
    check("[vhosts.a]\nlimits = { max_queues = -1 }", "line 2, column 25: invalid value");
    check(
        "[vhosts.a]\ndefault_queue_type = 'lazy'",
        "line 2, column 1: virtual host 'a': field 'default_queue_type'",
    );
    check("[vhosts.'']", "virtual host '': a name has 1 to 255 bytes");
    check(&format!("[users.{}]", "u".repeat(256)), "a name has 1 to 255 bytes, this one has 256");
    check("[users.u]\npassword = 'p'", "line 2, column 1: unknown field `password`");
    check("[users.u]\nlimits = { max_connection = 1 }", "did you mean 'max_connections'?");
    check(r#"{"users": {"u": {}, "u": {}}}"#, "'u' is declared twice");
    common::run(&["topology", "check", &setup.file("long.toml", format!("[users.{}]", "u".repeat(255)))])
        .good();
}

#[test]
fn a_plan_sees_that_there_would_be_no_room_and_lowers_a_limit_last() {
    let setup = Setup::new();
    let server = setup.start();
    let file = |most: u32, queues: &[&str]| {
        let queues: String = queues.iter().map(|name| format!("[queues.'v::{name}']\n")).collect();
        setup.file("file.toml", format!("[vhosts.v]\nlimits.max_queues = {most}\n{queues}"))
    };
    let refused = server.cli(&["apply", &file(1, &["a", "b"])]);
    let said = "! virtual host v: it may have 1 queues and topics: with 2 more there would be 2\n";
    assert!(refused.stdout.contains(said), "{}", refused.stdout);
    refused.bad(4, "cannot be applied");
    assert_eq!(steps(&server, &file(2, &["a", "b"])), 3);
    // Beside what is there already, whoever said the limit.
    let more = setup.file("more.toml", "[topics.'v::t']\n");
    let refused = server.cli(&["apply", &more]);
    let said = "! virtual host v: it may have 2 queues and topics: with 1 more there would be 3\n";
    assert!(refused.stdout.contains(said), "{}", refused.stdout);
    refused.bad(4, "cannot be applied");
    // One comes, two go, and only then is there less room.
    assert_eq!(steps(&server, &file(3, &["a", "b"])), 1);
    let plan = apply(&server, &file(1, &["c"]), &["--prune"]);
    assert!(
        plan.starts_with("+ queue v::c\n- queue v::")
            && plan.contains("~ virtual host v\n    limits.max_queues: 3 -> 1\n"),
        "{plan}"
    );
    assert_eq!(server.json("queue list").as_array().map(Vec::len), Some(1));
}

#[test]
fn a_users_limits_are_given_and_changed_one_by_one() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("user add u --no-password --max-connections 5");
    server.ok("user change u --max-channels 9");
    let limits = |server: &Server| named(&server.json("user list"), "u")["limits"].clone();
    assert_eq!(limits(&server), json!({"max_connections": 5, "max_channels": 9}));
    assert!(server.ok("user show u").contains("limits    max_channels=9 max_connections=5"));
    assert!(server.ok("user change u --max-channels 9").contains("just so"));
    server.ok("user change u --max-connections none");
    assert_eq!(limits(&server), json!({"max_channels": 9}));
    server.cli(&["user", "change", "u"]).bad(2, "--max-channels");
    server.cli(&["user", "change", "u", "--max-channels", "-1"]).bad(2, "--max-channels");
    let again = server.cli(&["user", "add", "u", "--no-password", "--max-channels", "8"]);
    again.bad(4, "differs in 'limits'");
    drop(server.terminate());
    let server = setup.start();
    assert_eq!(limits(&server), json!({"max_channels": 9}), "after a restart");
}

#[test]
fn metrics_show_limits_and_what_is_used_of_them() {
    let setup = Setup::new();
    let server = setup.start();
    assert_eq!(samples(&server, "waystation_vhost_"), [""; 0]);
    apply(&server, &setup.file("topology.toml", FILE), &[]);
    server.ok("publish shop::orders a");
    server.ok("publish shop::orders b");
    let receive = "/v1/queues/shop::orders/receive?max=1&lease_ms=3600000";
    assert_eq!(asking::call(&server, "POST", receive, None).0, 200);
    assert_eq!(
        samples(&server, "waystation_vhost_"),
        [
            "waystation_vhost_queues{vhost=\"/\"} 0",
            "waystation_vhost_queues{vhost=\"shop\"} 1",
            "waystation_vhost_queues_limit{vhost=\"shop\"} 2",
            "waystation_vhost_connections{vhost=\"/\"} 0",
            "waystation_vhost_connections{vhost=\"shop\"} 0",
            "waystation_vhost_connections_limit{vhost=\"/\"} 1000",
            "waystation_vhost_connections_limit{vhost=\"shop\"} 50",
            "waystation_vhost_messages_in_flight{vhost=\"/\"} 0",
            "waystation_vhost_messages_in_flight{vhost=\"shop\"} 1",
            "waystation_vhost_messages_in_flight_limit{vhost=\"shop\"} 200",
            "waystation_vhost_rate_limit{vhost=\"shop\"} 500",
            "waystation_vhost_held_back{vhost=\"/\"} 0",
            "waystation_vhost_held_back{vhost=\"shop\"} 0",
        ]
    );
    assert_eq!(
        samples(&server, "waystation_user_"),
        [
            "waystation_user_connections{user=\"billing\"} 0",
            "waystation_user_connections_limit{user=\"billing\"} 10",
            "waystation_user_channels{user=\"billing\"} 0",
            "waystation_user_channels_limit{user=\"billing\"} 100",
        ]
    );
    server.ok("vhost change shop --concurrency 1 --rate none --max-queues none --max-connections none");
    let shop = samples(&server, "waystation_vhost_messages_in_flight_limit{vhost=\"shop\"} 1");
    assert_eq!(shop.len(), 1);
    assert_eq!(samples(&server, "waystation_vhost_held_back{vhost=\"shop\"} 1").len(), 1);
    server.ok("vhost change shop --concurrency none");
    assert_eq!(samples(&server, "waystation_vhost_queues{vhost=\"shop\"}"), [""; 0], "nothing limits it");
}

#[test]
fn definitions_that_a_limit_refuses_are_told_so() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("vhost create v --max-queues 1");
    let queue = |name: &str| json!({"name": name, "vhost": "v", "durable": true, "auto_delete": false, "arguments": {}});
    let definitions = json!({"queues": [queue("a"), queue("b"), queue("c")]});
    let (status, told) = asking::call(&server, "POST", "/v1/amqp/definitions", Some(&definitions));
    assert_eq!((status, &told["type"]), (409, &json!("urn:waystation:problem:limit")), "{told}");
    let detail = told["detail"].as_str().expect("a detail");
    assert!(
        detail.contains("2 objects were not imported")
            && detail.contains("virtual host 'v' may have 1 queues"),
        "{detail}"
    );
    assert_eq!(server.json("queue list").as_array().map(Vec::len), Some(1));
    let file = setup.file("definitions.json", definitions.to_string());
    server.cli(&["amqp", "import", &file]).bad(4, "2 objects were not imported");
}
