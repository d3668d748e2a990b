//! Do the patterns that look beyond one message do what their names say, through the real program, and through its death?

mod common;
#[path = "common/routing.rs"]
mod routing;

use common::{Server, until};
use routing::{bodies, found, lying, publish, setup, taken, wait_for, with};
use serde_json::{Value, json};

fn counts(server: &Server, route: &str) -> Value {
    server.json(&format!("route show {route}"))["counts"].clone()
}

#[test]
fn aggregator_by_a_count_found_in_the_message_through_a_kill() {
    let setup = setup();
    let topology = r#"
        [queues]
        lines = {}
        orders = {}
        [routes.collect]
        from = { queue = "lines" }
        steps = [
          { aggregate = { key = ".order", count = ".of", body = "{order: .[0].order, skus: map(.sku)}" } },
          { to = "orders" },
        ]
        "#;
    let server = with(&setup, topology);
    let line = |order: u64, sku: &str| json!({"order": order, "sku": sku, "of": 3});
    publish(&server, "lines", &bodies(&[line(1, "a"), line(2, "b"), line(1, "c")]));
    taken(&server, "collect", 3);
    assert_eq!((counts(&server, "collect")["held"].as_u64(), found(&server, "orders").len()), (Some(3), 0));
    // Two of three are held. The server dies; what it held is there again.
    server.kill();
    let server = setup.start();
    publish(&server, "lines", &bodies(&[line(2, "d"), line(1, "e"), line(2, "f")]));
    wait_for(&server, "orders", 2);
    let mut made = found(&server, "orders");
    made.sort_by_key(|it| it["order"].as_u64());
    assert_eq!(
        made,
        [json!({"order": 1, "skus": ["a", "c", "e"]}), json!({"order": 2, "skus": ["b", "d", "f"]})]
    );
    let headers = lying(&server, "orders")[0]["headers"].clone();
    assert_eq!((&headers["ws-aggregate-size"], &headers["ws-aggregate-end"]), (&json!(3), &json!("size")));
    assert_eq!(headers["ws-parents"].as_array().map(Vec::len), Some(3), "{headers}");
    // Nothing of it comes again.
    server.kill();
    let server = setup.start();
    publish(&server, "lines", &bodies(&[line(3, "x"), line(3, "y"), line(3, "z")]));
    wait_for(&server, "orders", 3);
    assert_eq!(found(&server, "orders").len(), 3);
}

#[test]
fn each_aggregate_is_made_once_through_many_kills() {
    const GROUPS: u64 = 200;
    let setup = setup();
    let mut server = with(
        &setup,
        r#"
        [queues]
        parts = {}
        wholes = {}
        [routes.join]
        from = { queue = "parts" }
        steps = [{ aggregate = { key = ".group", size = 3, body = "{group: .[0].group, parts: map(.part) | sort}" } }, { to = "wholes" }]
        "#,
    );
    // Each round brings a part of every group; the server dies while it works on it.
    for part in 0..3 {
        let round: Vec<_> = (0..GROUPS).map(|group| json!({"group": group, "part": part})).collect();
        publish(&server, "parts", &bodies(&round));
        for _ in 0..3 {
            server.kill();
            server = setup.start();
        }
    }
    wait_for(&server, "wholes", GROUPS as usize);
    let mut wholes = found(&server, "wholes");
    wholes.sort_by_key(|it| it["group"].as_u64());
    let expected: Vec<_> = (0..GROUPS).map(|group| json!({"group": group, "parts": [0, 1, 2]})).collect();
    assert_eq!(wholes, expected);
    // The queue holds nothing but the marks that the groups were complete.
    let left = lying(&server, "$routes.join.aggregate");
    assert_eq!(left.len(), GROUPS as usize);
    assert!(left.iter().all(|it| it["headers"]["ws-hold-role"] == "marker"));
    assert!(found(&server, "join.dead").is_empty() && found(&server, "parts").is_empty());
}

#[test]
fn aggregator_by_size_and_by_condition() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        readings = {}
        batches = {}
        events = {}
        sessions = {}
        [routes.batch]
        from = { queue = "readings" }
        steps = [{ aggregate = { key = ".sensor", size = 2, late = "own" } }, { to = "batches" }]
        [routes.session]
        from = { queue = "events" }
        steps = [
          { aggregate = { key = ".user", when = ".what == \"logout\"", body = "map(.what)" } },
          { to = "sessions" },
        ]
        "#,
    );
    let reading = |sensor: &str, value: u64| json!({"sensor": sensor, "value": value});
    publish(
        &server,
        "readings",
        &bodies(&[reading("s", 1), reading("t", 2), reading("s", 3), reading("s", 4), reading("s", 5)]),
    );
    wait_for(&server, "batches", 2);
    assert_eq!(
        found(&server, "batches"),
        [json!([reading("s", 1), reading("s", 3)]), json!([reading("s", 4), reading("s", 5)])]
    );
    let event = |user: u64, what: &str| json!({"user": user, "what": what});
    publish(
        &server,
        "events",
        &bodies(&[event(1, "login"), event(2, "login"), event(1, "buy"), event(1, "logout")]),
    );
    wait_for(&server, "sessions", 1);
    assert_eq!(found(&server, "sessions"), [json!(["login", "buy", "logout"])]);
}

#[test]
fn aggregator_whose_time_passes_while_the_server_is_down() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        answers = {}
        complete = {}
        incomplete = {}
        [routes.poll]
        from = { queue = "answers" }
        steps = [
          { aggregate = { key = ".poll", size = 3, timeout_ms = 1500, body = "map(.yes)" } },
          { filter = "$headers[\"ws-aggregate-end\"] == \"size\"", else = "incomplete" },
          { to = "complete" },
        ]
        "#,
    );
    publish(
        &server,
        "answers",
        &bodies(&[json!({"poll": 1, "yes": true}), json!({"poll": 1, "yes": false})]),
    );
    taken(&server, "poll", 2);
    server.kill();
    #[allow(clippy::disallowed_methods, reason = "the time passes while nothing runs")]
    std::thread::sleep(std::time::Duration::from_millis(1600));
    let server = setup.start();
    wait_for(&server, "incomplete", 1);
    assert_eq!(found(&server, "incomplete"), [json!([true, false])]);
    assert!(found(&server, "complete").is_empty());
}

#[test]
fn late_messages_go_by_policy() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        a = {}
        b = {}
        out = {}
        [routes.dropping]
        from = { queue = "a" }
        steps = [{ aggregate = { key = ".k", size = 2, late = "drop" } }, { to = "out" }]
        [routes.burying]
        from = { queue = "b" }
        steps = [{ aggregate = { key = ".k", size = 2, late = "dead_letter" } }, { to = "out" }]
        "#,
    );
    let three = bodies(&[json!({"k": 1, "n": 1}), json!({"k": 1, "n": 2}), json!({"k": 1, "n": 3})]);
    publish(&server, "a", &three);
    publish(&server, "b", &three);
    until("the late ones are counted", || {
        counts(&server, "dropping")["late"] == 1 && counts(&server, "burying")["late"] == 1
    });
    wait_for(&server, "out", 2);
    wait_for(&server, "burying.dead", 1);
    let dead = lying(&server, "burying.dead");
    assert_eq!(dead[0]["body"], json!({"k": 1, "n": 3}));
    assert!(
        dead[0]["headers"]["ws-death-error"]
            .as_str()
            .is_some_and(|it| it.contains("after what it belonged to"))
    );
    // That they were complete outlives the server.
    server.kill();
    let server = setup.start();
    publish(&server, "b", &bodies(&[json!({"k": 1, "n": 4})]));
    wait_for(&server, "burying.dead", 2);
    assert_eq!(found(&server, "out").len(), 2);
}

#[test]
fn resequencer_through_a_kill() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        mixed = {}
        ordered = {}
        [routes.order]
        from = { queue = "mixed" }
        steps = [{ resequence = { key = ".of", number = ".n" } }, { to = "ordered" }]
        "#,
    );
    let part = |of: &str, n: u64| json!({"of": of, "n": n});
    publish(&server, "mixed", &bodies(&[part("a", 3), part("b", 1), part("a", 1), part("a", 4)]));
    wait_for(&server, "ordered", 2);
    server.kill();
    let server = setup.start();
    publish(&server, "mixed", &bodies(&[part("b", 2), part("a", 2), part("a", 1)]));
    wait_for(&server, "ordered", 6);
    let numbers = |of: &str| {
        let all = found(&server, "ordered");
        all.iter()
            .filter(|it| it["of"] == of)
            .map(|it| it["n"].as_u64().unwrap_or_default())
            .collect::<Vec<_>>()
    };
    assert_eq!((numbers("a"), numbers("b")), (vec![1, 2, 3, 4], vec![1, 2]));
    // A number that was there is late.
    wait_for(&server, "order.dead", 1);
    assert_eq!(found(&server, "order.dead"), [part("a", 1)]);
}

#[test]
fn resequencer_gives_up_what_does_not_come() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        mixed = {}
        ordered = {}
        [routes.order]
        from = { queue = "mixed" }
        steps = [{ resequence = { number = ".n", timeout_ms = 300, late = "drop" } }, { to = "ordered" }]
        "#,
    );
    publish(&server, "mixed", &bodies(&[json!({"n": 1}), json!({"n": 3})]));
    wait_for(&server, "ordered", 2);
    let all = lying(&server, "ordered");
    assert_eq!((&all[0]["body"], &all[1]["body"]), (&json!({"n": 1}), &json!({"n": 3})));
    assert_eq!(all[1]["headers"]["ws-sequence-missed"], 1);
}

#[test]
fn what_is_put_together_is_bounded_and_its_parts_become_dead_letters_unchanged() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        parts = {}
        wholes = {}
        [routes.join]
        from = { queue = "parts" }
        steps = [{ aggregate = { key = "\"one\"", size = 3 } }, { to = "wholes" }]
        [routes.odd]
        from = { queue = "wholes" }
        steps = [{ aggregate = { key = ".k", size = 2 } }, { to = [] }]
        "#,
    );
    let part = |n: u64| json!({"n": n, "text": "x".repeat(6 << 20)});
    (1..=3).for_each(|n| publish(&server, "parts", &bodies(&[part(n)])));
    wait_for(&server, "join.dead", 3);
    let dead = lying(&server, "join.dead");
    let numbers: Vec<_> = dead.iter().map(|it| it["body"]["n"].as_u64()).collect();
    assert_eq!(numbers, [Some(1), Some(2), Some(3)]);
    let headers = &dead[0]["headers"];
    assert_eq!(headers["ws-death-error"], "what belongs together has more than 16777216 bytes");
    assert_eq!((headers.get("ws-hold-key"), &headers["ws-death-step"]), (None, &json!("steps[0].aggregate")));
    // What says to nothing where it belongs fails by itself.
    publish(&server, "wholes", &bodies(&[json!({"no": "key"})]));
    wait_for(&server, "odd.dead", 1);
    assert_eq!(lying(&server, "odd.dead")[0]["headers"]["ws-death-error"], "the program for 'key' gave null");
}

#[test]
fn scatter_gather_through_a_kill() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        requests = {}
        "bank.a" = {}
        "bank.b" = {}
        "bank.slow" = {}
        quotes = {}
        best = {}
        [routes.ask]
        from = { queue = "requests" }
        [[routes.ask.steps]]
        gather = { to = ["bank.a", "bank.b"], replies = "quotes", body = "{id: .request.id, rate: (.replies | map(.rate) | min)}" }
        [[routes.ask.steps]]
        to = "best"
        [routes.a]
        from = { queue = "bank.a" }
        steps = [{ transform = { body = "{rate: 5}" } }, { to = "quotes" }]
        [routes.b]
        from = { queue = "bank.b" }
        steps = [{ transform = { body = "{rate: 4}" } }, { to = "quotes" }]
        "#,
    );
    publish(
        &server,
        "requests",
        &[json!({"body": {"id": 1}, "correlation_id": "mine", "reply_to": "somewhere"})],
    );
    wait_for(&server, "best", 1);
    let best = lying(&server, "best");
    assert_eq!(best[0]["body"], json!({"id": 1, "rate": 4}));
    // It is the request's own again.
    assert_eq!(best[0]["correlation_id"], "mine", "{}", best[0]);
    // One bank has answered, the other has not, and the server dies.
    server.ok("route pause b");
    publish(&server, "requests", &bodies(&[json!({"id": 2})]));
    taken(&server, "a", 2);
    server.kill();
    let server = setup.start();
    server.ok("route resume b");
    wait_for(&server, "best", 2);
    assert_eq!(found(&server, "best")[1], json!({"id": 2, "rate": 4}));
}

#[test]
fn scatter_gather_goes_on_with_what_there_is_when_its_time_is_up() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        requests = {}
        "bank.a" = {}
        "bank.silent" = {}
        quotes = {}
        best = {}
        [routes.ask]
        from = { queue = "requests" }
        steps = [
          { gather = { to = ["bank.a", "bank.silent"], replies = "quotes", timeout_ms = 1000, late = "dead_letter" } },
          { to = "best" },
        ]
        [routes.a]
        from = { queue = "bank.a" }
        steps = [{ transform = { body = "{rate: 5}" } }, { to = "quotes" }]
        "#,
    );
    publish(&server, "requests", &bodies(&[json!({"id": 1})]));
    wait_for(&server, "best", 1);
    let best = lying(&server, "best");
    assert_eq!(best[0]["body"], json!([{"rate": 5}]));
    assert_eq!(best[0]["headers"]["ws-aggregate-end"], "timeout");
    // What answers nothing is late.
    publish(&server, "quotes", &[json!({"body": "stray"})]);
    wait_for(&server, "ask.dead", 1);
    assert_eq!(found(&server, "ask.dead"), [json!("stray")]);
}

#[test]
fn a_step_that_holds_messages_says_what_it_does_not_take() {
    let setup = setup();
    let server = with(&setup, "[queues]\nin = {}\nout = {}\n[topics]\nt = {}\n");
    let refused = |steps: &str, said: &str| {
        let file = setup.file(
            "bad.toml",
            format!("[routes.bad]\nfrom = {{ queue = \"in\" }}\nsteps = [{steps}, {{ to = \"out\" }}]\n"),
        );
        let ran = server.cli(&["apply", &file]);
        assert_ne!(ran.code, Some(0), "{steps}");
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(all.contains(said), "{steps}: {all}\n  should say: {said}");
    };
    refused("{ aggregate = { key = \".a |\" } }", "column 5");
    refused("{ aggregate = { key = \".a\", timeout_ms = 0 } }", "must lie between 1 and");
    refused("{ aggregate = { key = \".a\", size = 50001 } }", "must lie between 1 and 50000");
    refused("{ aggregate = { key = \".a\", late = \"whenever\" } }", "whenever");
    refused("{ resequence = { number = \"nosuch\" } }", "there is no function nosuch/0");
    refused("{ gather = { to = [], replies = \"in\" } }", "nobody to ask");
    refused("{ gather = { to = \"out\", replies = \"none\" } }", "none");
    refused(
        "{ gather = { to = \"out\", replies = \"in\", late = \"own\" } }",
        "cannot be a message of its own",
    );
    refused("{ enrich = { url = \".u\", merge = \"$answer\" } }", "there is no variable $answer");
    refused("{ enrich = { url = \".u\", merge = \".\", method = \"G T\" } }", "no method");
    refused("{ enrich = { url = \".u\", merge = \".\", cache = { ttl_ms = 0 } } }", "needs a 'ttl_ms'");
    refused("{ claim = { store = \"nosuch\" } }", "nosuch");
    refused("{ redeem = \"nosuch\" }", "nosuch");
    refused(
        "{ enrich = { url = \".u\", merge = \".\", timeout_ms = 60001 } }",
        "must lie between 1 and 60000",
    );
    refused(
        "{ enrich = { url = \".u\", merge = \".\", cache = { ttl_ms = 1, entries = 100001 } } }",
        "1 to 100000",
    );
    refused(
        "{ choose = [{ when = \".a\", steps = [{ aggregate = { key = \".a\" } }] }] }",
        "not in a branch",
    );
}
