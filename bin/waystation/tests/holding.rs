//! What becomes of messages that a step of a route holds, when something fails: through the real program, and through its death?

mod common;
#[path = "common/routing.rs"]
mod routing;
#[path = "common/service.rs"]
mod service;

use std::sync::{Arc, Mutex};

use common::{Server, until};
use routing::{bodies, found, lying, publish, setup, taken, wait_for, with};
use serde_json::{Value, json};
use service::{Asked, Do, Service};
use waystation_base::{Clock, os::OsClock};

#[test]
fn what_a_step_held_and_gave_up_goes_back_to_the_routes_source_and_fails_again_saying_so() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        pairs = {}
        sums = {}
        [routes.add]
        from = { queue = "pairs" }
        steps = [{ aggregate = { key = ".k", size = 2, late = "own", body = "map(.n) | add | . + 0" } }, { validate = ". > 0" }, { to = "sums" }]
        "#,
    );
    let part = |n: i64| json!({"k": 1, "n": n});
    publish(&server, "pairs", &bodies(&[part(-1), part(-2)]));
    wait_for(&server, "add.dead", 2);
    for (letter, n) in lying(&server, "add.dead").iter().zip([-1, -2]) {
        assert_eq!(letter["body"], part(n));
        let headers = &letter["headers"];
        let says = |name: &str| headers[name].clone();
        assert_eq!(
            (says("ws-death-source"), says("ws-death-reason")),
            (json!("pairs"), json!("route_error"))
        );
        assert_eq!(
            (says("ws-death-route"), says("ws-death-step")),
            (json!("add"), json!("steps[1].validate"))
        );
        assert_eq!((says("ws-death-count"), says("ws-death-attempts")), (json!(1), json!(1)));
        let death = &headers["ws-deaths"][0];
        assert_eq!(
            (&death["queue"], &death["reason"], &death["count"]),
            (&json!("pairs"), &json!("route_error"), &json!(1))
        );
        assert_eq!(headers.get("ws-hold-key"), None, "{headers}");
    }
    server.ok("redrive start --all --from add.dead --yes");
    until("they have failed again", || {
        let letters = lying(&server, "add.dead");
        letters.len() == 2 && letters.iter().all(|it| it["headers"]["ws-death-count"] == 2)
    });
    for letter in lying(&server, "add.dead") {
        assert_eq!(letter["headers"]["ws-redrive-count"], 1, "{letter}");
        assert_eq!(letter["headers"]["ws-deaths"][0]["count"], 2, "{letter}");
    }
    // Mended, they come to what they were meant for.
    server.cli(&["redrive", "start", "--all", "--from", "add.dead", "--jq", ".n = 5", "--yes"]).good();
    wait_for(&server, "sums", 1);
    assert_eq!(found(&server, "sums"), [json!(10)]);
}

#[test]
fn what_went_round_too_often_can_be_brought_back() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        round = {}
        out = {}
        [routes.turn]
        from = { queue = "round" }
        limits = { hops = 3 }
        steps = [{ recipients = "if .stop then \"out\" else \"round\" end", allowed = ["*"] }]
        "#,
    );
    publish(&server, "round", &bodies(&[json!({"n": 1})]));
    wait_for(&server, "turn.dead", 1);
    let letter = lying(&server, "turn.dead").remove(0);
    assert_eq!(
        (&letter["headers"]["ws-death-step"], &letter["body"]),
        (&json!("limits.hops"), &json!({"n": 1}))
    );
    assert_eq!(letter["headers"]["ws-deaths"][0]["queue"], "round");
    server.cli(&["redrive", "start", "--all", "--from", "turn.dead", "--jq", ".stop = true", "--yes"]).good();
    wait_for(&server, "out", 1);
}

#[test]
fn the_replies_to_a_gather_are_for_it_alone() {
    let setup = setup();
    let gather = |name: &str, from: &str, replies: &str| {
        format!(
            "[routes.{name}]\nfrom = {{ queue = \"{from}\" }}\nsteps = [{{ gather = {{ to = \"ask\", replies = \"{replies}\" }} }}, {{ to = [] }}]\n"
        )
    };
    let topology = "[queues]\na = {}\nb = {}\nask = {}\nreplies = {}\nothers = {}\n".to_owned()
        + &gather("first", "a", "replies");
    let server = with(&setup, &topology);
    let refused = |text: &str, said: &str| {
        let ran = server.cli(&["apply", &setup.file("bad.toml", text)]);
        let all = format!("{}{}", ran.stdout, ran.stderr);
        assert!(ran.code != Some(0) && all.contains(said), "{text}: {all}\n  should say: {said}");
    };
    refused(
        &gather("second", "b", "replies"),
        "steps[0].gather.replies: route 'first' takes from the queue 'replies'",
    );
    refused(&gather("second", "b", "a"), "route 'first' takes from the queue 'a'");
    refused(&gather("second", "others", "others"), "this route itself takes from the queue 'others'");
    refused(
        "[routes.plain]\nfrom = { queue = \"replies\" }\nsteps = [{ to = [] }]\n",
        "from.queue: the replies in it are for the gather of route 'first'",
    );
    let twice = r#"
        [routes.twice]
        from = { queue = "b" }
        steps = [{ gather = { to = "ask", replies = "others" } }, { gather = { to = "ask", replies = "others" } }, { to = [] }]
        "#;
    refused(twice, "steps[1].gather.replies: steps[0].gather takes from the queue 'others'");
    // It may change itself, and another may have what it gave up.
    server.cli(&["apply", &setup.file("good.toml", gather("first", "a", "others"))]).good();
    server.cli(&["apply", &setup.file("good.toml", gather("second", "b", "replies"))]).good();
}

/// What lies in a queue, as the server counts it.
fn queue(server: &Server, name: &str) -> Value {
    server.json(&format!("queue show {name}"))
}

fn route(server: &Server, name: &str) -> Value {
    server.json(&format!("route show {name}"))
}

fn sorted(mut all: Vec<Value>, by: &str) -> Vec<Value> {
    all.sort_by_key(|it| it[by].as_u64());
    all
}

#[test]
fn a_group_whose_service_fails_is_tried_again_by_the_policy_and_given_up_while_others_go_on() {
    let failing = Service::new(|_: &Asked| Do::Answer(503, "", "not now".into()));
    let good = Service::new(|_: &Asked| Do::Answer(200, "content-type: application/json\r\n", "5".into()));
    let mut setup = setup();
    setup.arguments.extend(["--upstream-allow", "127.0.0.1"].map(str::to_owned));
    let server = with(
        &setup,
        r#"
        [queues]
        parts = {}
        wholes = {}
        [routes.join]
        from = { queue = "parts" }
        retry = { first_ms = 20, most_ms = 50, attempts_max = 3 }
        steps = [
          { aggregate = { key = ".k", size = 2 } },
          { enrich = { url = ".[0].url", merge = "{k: .[0].k, answer: $response.body}" } },
          { to = "wholes" },
        ]
        "#,
    );
    let part = |k: &str, url: &str, n: u64| json!({"k": k, "url": url, "n": n});
    let (bad, fine) = (failing.url(), good.url());
    publish(&server, "parts", &bodies(&[part("bad", &bad, 1), part("bad", &bad, 2)]));
    publish(&server, "parts", &bodies(&[part("good", &fine, 3), part("good", &fine, 4)]));
    wait_for(&server, "wholes", 1);
    assert_eq!(found(&server, "wholes"), [json!({"k": "good", "answer": 5})]);
    wait_for(&server, "join.dead", 2);
    let letters = lying(&server, "join.dead");
    for (letter, n) in letters.iter().zip([1, 2]) {
        assert_eq!(letter["body"], part("bad", &bad, n));
        let headers = &letter["headers"];
        assert_eq!(
            (&headers["ws-death-step"], &headers["ws-death-attempts"]),
            (&json!("steps[1].enrich"), &json!(3))
        );
        let error = headers["ws-death-error"].as_str().unwrap_or_default();
        assert!(error.starts_with("the service answered 503") && error.ends_with("(3 attempts)"), "{error}");
        assert_eq!(headers["ws-death-class"], "service");
    }
    assert_eq!((failing.asked().len(), route(&server, "join")["counts"]["retried"].as_u64()), (3, Some(2)));
    // Each try is on record.
    let last = letters[1]["headers"]["ws-deaths"][0].clone();
    assert_eq!(last["reason"], "route_error");
    let explained = server.ok("peek $routes --count 100 --json");
    assert_eq!(explained.matches(r#""ending":"retried""#).count(), 2, "{explained}");
    assert_eq!(route(&server, "join")["state"], "active");
}

#[test]
fn attempts_and_their_pauses_are_counted_on_through_kills() {
    let times = Arc::new(Mutex::new(Vec::new()));
    let asked_at = times.clone();
    let failing = Service::new(move |_: &Asked| {
        asked_at.lock().expect("times").push(OsClock.now().0);
        Do::Answer(503, "", "not now".into())
    });
    let mut setup = setup();
    setup.arguments.extend(["--upstream-allow", "127.0.0.1"].map(str::to_owned));
    // Long enough that a busy machine sees and kills between two of them.
    let topology = r#"
        [queues]
        parts = {}
        wholes = {}
        [routes.join]
        from = { queue = "parts" }
        retry = { first_ms = 2000, most_ms = 2000, attempts_max = 4 }
        steps = [
          { aggregate = { key = ".k", size = 2 } },
          { enrich = { url = '"URL"', merge = "." } },
          { to = "wholes" },
        ]
        "#;
    let mut server = with(&setup, &topology.replace("URL", &failing.url()));
    publish(&server, "parts", &bodies(&[json!({"k": 1, "n": 1}), json!({"k": 1, "n": 2})]));
    let mut nexts = Vec::new();
    for tries in 1..=3 {
        let mut next = None;
        until("it is noted that it was tried", || {
            let held = lying(&server, "$routes.join.aggregate");
            let notes: Vec<&Value> =
                held.iter().filter(|it| it["headers"]["ws-hold-role"] == "tried").collect();
            // The note before has left with the one that came after it.
            next = notes.first().and_then(|note| note["headers"]["ws-hold-next"].as_u64());
            notes.len() == 1 && notes[0]["headers"]["ws-hold-number"] == tries
        });
        nexts.extend(next);
        server.kill();
        server = setup.start();
    }
    wait_for(&server, "join.dead", 2);
    for letter in lying(&server, "join.dead") {
        let headers = &letter["headers"];
        let error = headers["ws-death-error"].as_str().unwrap_or_default();
        assert!(headers["ws-death-attempts"] == 4 && error.ends_with("(4 attempts)"), "{headers}");
    }
    let times = times.lock().expect("times").clone();
    assert_eq!((times.len(), nexts.len()), (4, 3));
    assert!(times[1..].iter().zip(&nexts).all(|(at, next)| at >= next), "{times:?} not before {nexts:?}");
    // What was noted has left with them.
    until("nothing but a marker is left", || {
        let left = lying(&server, "$routes.join.aggregate");
        left.len() == 1 && left[0]["headers"]["ws-hold-role"] == "marker"
    });
}

#[test]
fn a_sequence_waits_for_its_own_failing_message_alone_and_goes_on_without_it() {
    let service = Service::new(|asked: &Asked| match asked.line.ends_with("/2") {
        true => Do::Answer(500, "", String::new()),
        false => Do::Answer(200, "content-type: application/json\r\n", "1".into()),
    });
    let mut setup = setup();
    setup.arguments.extend(["--upstream-allow", "127.0.0.1"].map(str::to_owned));
    let topology = r#"
        [queues]
        mixed = {}
        ordered = {}
        [routes.order]
        from = { queue = "mixed" }
        retry = { first_ms = 10, most_ms = 20, attempts_max = 2 }
        steps = [
          { resequence = { key = ".of", number = ".n" } },
          { enrich = { url = '"URL/\(.n)"', merge = "." } },
          { to = "ordered" },
        ]
        "#;
    let server = with(&setup, &topology.replace("URL", &service.url()));
    let part = |of: &str, n: u64| json!({"of": of, "n": n});
    publish(
        &server,
        "mixed",
        &bodies(&[part("a", 3), part("a", 2), part("a", 4), part("a", 1), part("b", 1)]),
    );
    wait_for(&server, "ordered", 4);
    let of = |of: &str| found(&server, "ordered").into_iter().filter(|it| it["of"] == of).collect::<Vec<_>>();
    assert_eq!((of("a"), of("b")), (vec![part("a", 1), part("a", 3), part("a", 4)], vec![part("b", 1)]));
    assert_eq!(found(&server, "order.dead"), [part("a", 2)]);
    assert_eq!(lying(&server, "order.dead")[0]["headers"]["ws-death-attempts"], 2);
}

#[test]
fn what_a_step_let_go_waits_for_room_at_its_target_through_a_kill() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        parts = {}
        narrow = { max_messages = 1, overflow = "reject_publish" }
        wide = {}
        [routes.join]
        from = { queue = "parts" }
        retry = { first_ms = 20, most_ms = 100 }
        steps = [
          { aggregate = { key = ".k", size = 1, late = "own" } },
          { choose = [{ when = ".[0].narrow", to = "narrow" }], otherwise = "wide" },
        ]
        "#,
    );
    let part = |k: u64, narrow: bool| json!({"k": k, "narrow": narrow});
    publish(&server, "parts", &bodies(&[part(1, true), part(2, true), part(3, false), part(4, true)]));
    wait_for(&server, "wide", 1);
    wait_for(&server, "narrow", 1);
    server.kill();
    let server = setup.start();
    publish(&server, "parts", &bodies(&[part(5, false)]));
    wait_for(&server, "wide", 2);
    let mut taken: Vec<u64> = Vec::new();
    until("each has come once there was room", || {
        let got = server.ok("consume narrow --count 1 --wait 200ms --json");
        let message: Option<Value> = got.lines().next().map(|line| serde_json::from_str(line).expect("JSON"));
        taken.extend(message.and_then(|it| it["body"][0]["k"].as_u64()));
        taken.len() >= 3
    });
    taken.sort_unstable();
    assert_eq!(taken, [1, 2, 4]);
    assert!(found(&server, "join.dead").is_empty());
}

#[test]
fn a_table_that_is_gone_fails_what_a_step_lets_go_when_the_policy_says_so() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [topics]
        table = { compact = true }
        [queues]
        jobs = {}
        [routes.dispatch]
        from = { queue = "jobs" }
        retry = { first_ms = 10, most_ms = 10, attempts_max = 2 }
        steps = [
          { aggregate = { key = ".k", size = 1, late = "own" } },
          { table = { topic = "table", key = ".[0].k", allowed = ["team.*"] } },
        ]
        "#,
    );
    server.ok("topic delete table");
    publish(&server, "jobs", &bodies(&[json!({"k": "x"})]));
    wait_for(&server, "dispatch.dead", 1);
    let headers = lying(&server, "dispatch.dead")[0]["headers"].clone();
    let error = headers["ws-death-error"].as_str().unwrap_or_default();
    assert!(error.contains("the table table cannot be read") && error.ends_with("(2 attempts)"), "{headers}");
    assert_eq!(headers["ws-death-class"], "refused");
}

const ASK: &str = r#"
    [queues]
    requests = {}
    "bank.a" = {}
    "bank.b" = {}
    quotes = { max_attempts = 2 }
    best = {}
    [routes.ask]
    from = { queue = "requests" }
    [[routes.ask.steps]]
    gather = { to = ["bank.a", "bank.b"], replies = "quotes", timeout_ms = TIMEOUT, body = "{id: .request.id, rates: (.replies | map(.rate) | sort)}" }
    [[routes.ask.steps]]
    to = "best"
    "#;

/// A reply to what lies in a queue.
fn reply(server: &Server, to: &str, rate: u64) -> Value {
    let asked = lying(server, to).remove(0);
    json!({"body": {"rate": rate}, "correlation_id": asked["correlation_id"]})
}

#[test]
fn replies_that_came_in_time_count_though_the_time_passed_while_nothing_ran() {
    let setup = setup();
    let server = with(&setup, &ASK.replace("TIMEOUT", "4000"));
    publish(&server, "requests", &bodies(&[json!({"id": 1})]));
    taken(&server, "ask", 1);
    wait_for(&server, "bank.b", 1);
    publish(&server, "quotes", &[reply(&server, "bank.a", 4)]);
    until("one is held", || queue(&server, "quotes")["in_flight"] == 1);
    server.ok("route pause ask");
    publish(&server, "quotes", &[reply(&server, "bank.b", 5)]);
    server.kill();
    #[allow(clippy::disallowed_methods, reason = "the time passes while nothing runs")]
    std::thread::sleep(std::time::Duration::from_millis(4100));
    let server = setup.start();
    server.ok("route resume ask");
    wait_for(&server, "best", 1);
    let best = lying(&server, "best");
    assert_eq!(best[0]["body"], json!({"id": 1, "rates": [4, 5]}));
    assert_eq!(best[0]["headers"]["ws-aggregate-end"], "size");
}

#[test]
fn a_reply_that_is_held_is_given_back_as_not_tried() {
    let setup = setup();
    let server = with(&setup, &ASK.replace("TIMEOUT", "60000"));
    publish(&server, "requests", &bodies(&[json!({"id": 1})]));
    wait_for(&server, "bank.b", 1);
    publish(&server, "quotes", &[reply(&server, "bank.a", 4)]);
    for _ in 0..4 {
        until("it is held", || queue(&server, "quotes")["in_flight"] == 1);
        server.ok("route pause ask");
        assert_eq!(queue(&server, "quotes")["ready"], 1, "{}", queue(&server, "quotes"));
        server.ok("route resume ask");
    }
    publish(&server, "quotes", &[reply(&server, "bank.b", 5)]);
    wait_for(&server, "best", 1);
    assert_eq!(found(&server, "best"), [json!({"id": 1, "rates": [4, 5]})]);
}

#[test]
fn each_request_is_answered_once_through_many_kills() {
    const REQUESTS: u64 = 100;
    let setup = setup();
    let banks = r#"
        [routes.a]
        from = { queue = "bank.a" }
        steps = [{ transform = { body = "{rate: 1}" } }, { to = "quotes" }]
        [routes.b]
        from = { queue = "bank.b" }
        steps = [{ transform = { body = "{rate: 2}" } }, { to = "quotes" }]
        "#;
    let topology = ASK.replace("TIMEOUT", "60000").replace("{ max_attempts = 2 }", "{}") + banks;
    let mut server = with(&setup, &topology);
    for round in 0..4 {
        let ids: Vec<_> = (0..REQUESTS / 4).map(|n| json!({"id": round * REQUESTS / 4 + n})).collect();
        publish(&server, "requests", &bodies(&ids));
        for _ in 0..2 {
            server.kill();
            server = setup.start();
        }
    }
    wait_for(&server, "best", REQUESTS as usize);
    let expected: Vec<_> = (0..REQUESTS).map(|id| json!({"id": id, "rates": [1, 2]})).collect();
    assert_eq!(sorted(found(&server, "best"), "id"), expected);
    assert!(found(&server, "ask.dead").is_empty() && found(&server, "quotes").is_empty());
    assert!(found(&server, "$routes.ask.gather").is_empty());
}

#[test]
fn a_step_that_holds_as_much_as_it_may_lets_the_source_wait_and_says_why() {
    const HELD: u64 = 20_000;
    const COUNT: u64 = 100;
    let setup = setup();
    let topology = r#"
        [queues]
        in = {}
        out = { max_messages = 1, overflow = "reject_publish" }
        [routes.join]
        from = { queue = "in" }
        limits = { held_bytes = 20000 }
        retry = { first_ms = 20, most_ms = 50 }
        steps = [{ aggregate = { key = ".k", size = 1, late = "own", body = ".[0]" } }, { to = "out" }]
        "#;
    let mut server = with(&setup, topology);
    let part = |k: u64| json!({"k": k, "text": "x".repeat(1000)});
    publish(&server, "in", &bodies(&(0..COUNT).map(part).collect::<Vec<_>>()));
    for _ in 0..2 {
        until("the source waits", || {
            let info = route(&server, "join");
            let reason = info["reason"].as_str().unwrap_or_default();
            info["state"] == "waiting" && reason.contains("steps[0].aggregate: the step holds")
        });
        let held = queue(&server, "$routes.join.aggregate");
        let bytes = held["bytes"].as_u64().expect("bytes");
        assert!((HELD..=2 * HELD).contains(&bytes), "{held}");
        server.ok("route pause join");
        let (held, waits) = (lying(&server, "$routes.join.aggregate"), lying(&server, "in"));
        let parts = held.iter().filter(|it| it["headers"]["ws-hold-role"] != "tried").count();
        let notes = held.len() - parts;
        assert!(notes <= parts, "each is noted once: {notes} notes of {parts}");
        assert_eq!((parts + waits.len() + found(&server, "out").len()) as u64, COUNT);
        server.ok("route resume join");
        server.kill();
        server = setup.start();
    }
    // What could never be held is a dead letter.
    publish(&server, "in", &bodies(&[json!({"k": 0, "text": "x".repeat(2 * HELD as usize)})]));
    server.ok("queue change out --max-messages 100000");
    wait_for(&server, "out", COUNT as usize);
    wait_for(&server, "join.dead", 1);
    let dead = lying(&server, "join.dead");
    let error = dead[0]["headers"]["ws-death-error"].as_str().unwrap_or_default();
    assert!(error.contains("more than the step may hold"), "{error}");
    assert_eq!(sorted(found(&server, "out"), "k"), (0..COUNT).map(part).collect::<Vec<_>>());
    // Far more than it may hold goes through it.
    for round in 1..4 {
        publish(&server, "in", &bodies(&(0..COUNT).map(|k| part(round * COUNT + k)).collect::<Vec<_>>()));
        wait_for(&server, "out", ((round + 1) * COUNT) as usize);
    }
    until("it works", || route(&server, "join")["state"] == "active");
}

#[test]
fn what_is_more_than_one_transaction_may_be_is_buried_whole_and_once() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        parts = {}
        wholes = {}
        [routes.join]
        from = { queue = "parts" }
        steps = [{ aggregate = { key = "1", size = 5 } }, { to = "wholes" }]
        "#,
    );
    let part = |n: u64| json!({"n": n, "text": "x".repeat(6 << 20)});
    (1..=5).for_each(|n| publish(&server, "parts", &bodies(&[part(n)])));
    until("all are dead letters", || queue(&server, "join.dead")["ready"] == 5);
    let numbers: Vec<_> = found(&server, "join.dead").iter().map(|it| it["n"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5].map(Some));
    assert!(
        lying(&server, "join.dead")
            .iter()
            .all(|it| it["body"]["text"].as_str().map(str::len) == Some(6 << 20))
    );
    // Nothing but the mark that it was complete is left, and nothing comes again.
    let left = lying(&server, "$routes.join.aggregate");
    assert_eq!(left.len(), 1);
    server.kill();
    let server = setup.start();
    publish(&server, "parts", &bodies(&[json!({"n": 6})]));
    until("it is late", || queue(&server, "join.dead")["ready"] == 6);
    assert!(found(&server, "wholes").is_empty());
}

#[test]
fn what_is_more_than_one_transaction_may_be_is_released_whole_and_in_order() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        mixed = {}
        ordered = {}
        [routes.order]
        from = { queue = "mixed" }
        steps = [{ resequence = { number = ".n" } }, { to = "ordered" }]
        "#,
    );
    let part = |n: u64| json!({"n": n, "text": "x".repeat(6 << 20)});
    (2..=6).rev().for_each(|n| publish(&server, "mixed", &bodies(&[part(n)])));
    taken(&server, "order", 5);
    publish(&server, "mixed", &bodies(&[part(1)]));
    until("all have left", || queue(&server, "ordered")["ready"] == 6);
    let numbers: Vec<_> = found(&server, "ordered").iter().map(|it| it["n"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5, 6].map(Some));
    assert_eq!(lying(&server, "$routes.order.resequence").len(), 1);
}

#[test]
fn a_group_that_is_given_up_in_parts_is_not_taken_for_a_group_when_the_server_dies_between_them() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        parts = {}
        wholes = {}
        dead = { max_messages = 2, overflow = "reject_publish" }
        [routes.join]
        from = { queue = "parts" }
        dead_letter = "dead"
        retry = { first_ms = 10, most_ms = 50 }
        steps = [{ aggregate = { key = "1", size = 5 } }, { to = "wholes" }]
        "#,
    );
    let part = |n: u64| json!({"n": n, "text": "x".repeat(6 << 20)});
    (1..=5).for_each(|n| publish(&server, "parts", &bodies(&[part(n)])));
    until("some are dead letters", || queue(&server, "dead")["ready"] == 2);
    server.kill();
    let server = setup.start();
    server.ok("queue change dead --max-messages 100");
    until("all are dead letters", || queue(&server, "dead")["ready"] == 5);
    let numbers: Vec<_> = found(&server, "dead").iter().map(|it| it["n"].as_u64()).collect();
    assert_eq!(numbers, [1, 2, 3, 4, 5].map(Some));
    for letter in lying(&server, "dead") {
        assert_eq!(letter["headers"]["ws-death-error"], "what belongs together has more than 16777216 bytes");
        assert_eq!(letter["headers"]["ws-death-attempts"], 1);
        assert_eq!(letter["headers"].get("ws-hold-key"), None);
    }
    // Of what was noted nothing is left, but that the group was complete.
    until("nothing else is left", || {
        let left = lying(&server, "$routes.join.aggregate");
        left.len() == 1 && left[0]["headers"]["ws-hold-role"] == "marker"
    });
    assert!(found(&server, "wholes").is_empty());
}
