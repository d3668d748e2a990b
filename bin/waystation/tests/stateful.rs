//! Do the patterns that look beyond one message do what their names say, through the real program, and through its death?

mod common;
#[path = "common/routing.rs"]
mod routing;
#[path = "common/service.rs"]
#[allow(dead_code, reason = "each test binary uses a part of it")]
mod service;

use common::{Server, until};
use routing::{bodies, found, lying, publish, setup, taken, with};
use serde_json::{Value, json};
use service::{Asked, Do, Service};

/// Waits until there are so many in a queue.
#[track_caller]
fn wait_for(server: &Server, queue: &str, count: usize) {
    until("they have come", || found(server, queue).len() >= count);
}

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
fn content_enricher_with_a_cache() {
    let service = Service::new(|asked: &Asked| match asked.line.as_str() {
        "GET /do/7" => Do::Answer(200, "content-type: application/json\r\n", r#"{"name":"Ada"}"#.into()),
        "GET /do/8" => Do::Answer(404, "", String::new()),
        _ => Do::Answer(400, "", "what?".into()),
    });
    let mut setup = setup();
    setup.arguments.extend(["--upstream-allow", "127.0.0.1"].map(str::to_owned));
    let topology = r#"
        [queues]
        orders = {}
        full = {}
        [routes.enrich]
        from = { queue = "orders" }
        order = "source"
        [[routes.enrich.steps]]
        enrich = { url = '"URL/\(.customer)"', merge = '. + {name: $response.body.name, status: $response.status}', accept = [404], cache = { ttl_ms = 60000 } }
        [[routes.enrich.steps]]
        to = "full"
        "#;
    let server = with(&setup, &topology.replace("URL", &service.url()));
    publish(&server, "orders", &bodies(&[json!({"customer": 7})]));
    wait_for(&server, "full", 1);
    publish(
        &server,
        "orders",
        &bodies(&[json!({"customer": 7, "n": 2}), json!({"customer": 8}), json!({"customer": 9})]),
    );
    wait_for(&server, "full", 3);
    wait_for(&server, "enrich.dead", 1);
    assert_eq!(
        found(&server, "full"),
        [
            json!({"customer": 7, "name": "Ada", "status": 200}),
            json!({"customer": 7, "n": 2, "name": "Ada", "status": 200}),
            json!({"customer": 8, "name": null, "status": 404}),
        ]
    );
    let dead = lying(&server, "enrich.dead");
    assert_eq!(dead[0]["body"], json!({"customer": 9}));
    assert_eq!(dead[0]["headers"]["ws-death-error"], "the service answered 400: what?");
    let mut asked: Vec<_> = service.asked().into_iter().map(|asked| asked.line).collect();
    asked.sort();
    assert_eq!(
        asked,
        ["GET /do/7", "GET /do/8", "GET /do/9"],
        "the second of customer 7 came from the cache"
    );
}

#[test]
fn content_enricher_tries_again_what_fails_for_now_and_reaches_nothing_inside() {
    let mut times = 0;
    let service = Service::new(move |_: &Asked| {
        times += 1;
        match times {
            1 | 2 => Do::Answer(503, "", String::new()),
            _ => Do::Answer(200, "content-type: application/json\r\n", "5".into()),
        }
    });
    let topology = |url: &str| {
        format!(
            r#"
            [queues]
            orders = {{}}
            full = {{}}
            [routes.enrich]
            from = {{ queue = "orders" }}
            retry = {{ first_ms = 10, most_ms = 20 }}
            steps = [
              {{ enrich = {{ url = '"{url}"', body = ".", merge = "[., $response.body]" }} }},
              {{ to = "full" }},
            ]
            "#
        )
    };
    let mut open = setup();
    open.arguments.extend(["--upstream-allow", "127.0.0.1"].map(str::to_owned));
    let server = with(&open, &topology(&service.url()));
    publish(&server, "orders", &bodies(&[json!(4)]));
    wait_for(&server, "full", 1);
    assert_eq!(found(&server, "full"), [json!([4, 5])]);
    let asked = service.asked();
    assert_eq!((asked.len(), asked[2].line.as_str(), asked[2].body.as_str()), (3, "POST /do", "4"));

    let closed = setup();
    let server = with(&closed, &topology(&service.url()));
    publish(&server, "orders", &bodies(&[json!(4)]));
    wait_for(&server, "enrich.dead", 1);
    let error = lying(&server, "enrich.dead")[0]["headers"]["ws-death-error"].clone();
    assert!(error.as_str().is_some_and(|it| it.contains("upstreams")), "{error}");
    assert_eq!(service.asked().len(), 3);
}

#[test]
fn an_answer_of_a_service_is_bounded() {
    let service = Service::new(|asked: &Asked| {
        let bytes: usize = asked.line.rsplit('/').next().and_then(|it| it.parse().ok()).unwrap_or_default();
        Do::Answer(200, "content-type: text/plain\r\n", "x".repeat(bytes))
    });
    let mut setup = setup();
    setup.arguments.extend(["--upstream-allow", "127.0.0.1"].map(str::to_owned));
    let topology = r#"
        [queues]
        asks = {}
        full = {}
        [routes.enrich]
        from = { queue = "asks" }
        steps = [
          { enrich = { url = '"URL/\(.)"', merge = "$response.body | length" } },
          { to = "full" },
        ]
        "#;
    let server = with(&setup, &topology.replace("URL", &service.url()));
    publish(&server, "asks", &bodies(&[json!(1 << 20), json!((1 << 20) + 1)]));
    wait_for(&server, "full", 1);
    wait_for(&server, "enrich.dead", 1);
    assert_eq!(found(&server, "full"), [json!(1 << 20)]);
    let dead = lying(&server, "enrich.dead");
    assert_eq!(dead[0]["headers"]["ws-death-error"], "the answer has more than 1048576 bytes");
}

#[test]
fn claim_check() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [topics]
        bodies = { retention_ms = 3600000 }
        [queues]
        letters = {}
        light = {}
        whole = {}
        [routes.check]
        from = { queue = "letters" }
        steps = [{ claim = { store = "bodies", above_bytes = 100, keep = "{id}" } }, { to = "light" }]
        [routes.redeem]
        from = { queue = "light" }
        steps = [{ redeem = "bodies" }, { to = "whole" }]
        "#,
    );
    server.ok("route pause redeem");
    let large = json!({"id": 1, "text": "x".repeat(1000)});
    let small = json!({"id": 2});
    publish(&server, "letters", &bodies(&[large.clone(), small.clone()]));
    wait_for(&server, "light", 2);
    assert_eq!(found(&server, "light"), [json!({"id": 1}), small.clone()]);
    assert_eq!(found(&server, "bodies"), std::slice::from_ref(&large));
    server.kill();
    let server = setup.start();
    server.ok("route resume redeem");
    wait_for(&server, "whole", 2);
    assert_eq!(found(&server, "whole"), [large, small]);
    assert_eq!(lying(&server, "whole")[0]["headers"].get("ws-claim"), None);
    // A ticket that somebody wrote himself opens nothing.
    let forged = json!({"body": 1, "headers": {"ws-claim": "0:0:0190163d-8694-739b-aea5-966c26f8ad91"}});
    publish(&server, "light", &[forged]);
    wait_for(&server, "redeem.dead", 1);
    assert_eq!(found(&server, "redeem.dead"), [json!(1)]);
}

#[test]
fn dynamic_router() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [topics]
        table = { compact = true }
        [queues]
        jobs = {}
        "team.red" = {}
        "team.blue" = {}
        rest = {}
        [routes.dispatch]
        from = { queue = "jobs" }
        steps = [{ table = { topic = "table", key = ".kind", allowed = ["team.*"] }, else = "rest" }]
        "#,
    );
    let entry = |kind: &str, to: Value| json!({"key": kind, "body": to});
    let job = |kind: &str, n: u64| json!({"kind": kind, "n": n});
    publish(
        &server,
        "table",
        &[entry("paint", json!("team.red")), entry("both", json!(["team.red", "team.blue"]))],
    );
    publish(&server, "jobs", &bodies(&[job("paint", 1), job("both", 2), job("dig", 3)]));
    taken(&server, "dispatch", 3);
    // The table changes while the route runs, and outlives the server.
    publish(
        &server,
        "table",
        &[entry("paint", json!("team.blue")), entry("both", json!([])), entry("dig", json!("payroll"))],
    );
    publish(&server, "jobs", &bodies(&[job("paint", 4)]));
    taken(&server, "dispatch", 4);
    server.kill();
    let server = setup.start();
    publish(&server, "jobs", &bodies(&[job("paint", 5), job("both", 6), job("dig", 7)]));
    taken(&server, "dispatch", 3);
    assert_eq!(found(&server, "team.red"), [job("paint", 1), job("both", 2)]);
    assert_eq!(found(&server, "team.blue"), [job("both", 2), job("paint", 4), job("paint", 5)]);
    assert_eq!(found(&server, "rest"), [job("dig", 3), job("both", 6)]);
    // What the declaration does not allow goes nowhere.
    assert_eq!(found(&server, "dispatch.dead"), [job("dig", 7)]);
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
