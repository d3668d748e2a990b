//! Do routes with steps keep their promises: nothing lost or doubled, order kept, hostile programs harmless, cycles found, and a
//! trial without effect?

mod common;
#[path = "common/routing.rs"]
mod routing;

use common::until;
use routing::{apply, bodies, found, lying, publish, setup, taken, with};
use serde_json::{Value, json};

const PLAIN: &str = r#"
    [queues]
    in = {}
    out = {}
    [routes.r]
    from = { queue = "in" }
    steps = [{ transform = { body = "{n: (.n * 2)}", headers = "{doubled: true, gone: null}" } }, { to = "out" }]
"#;

#[test]
fn messages_keep_their_order_and_say_where_they_came_from() {
    let setup = setup();
    let server = with(&setup, PLAIN);
    let messages: Vec<Value> =
        (0..500).map(|n| json!({"body": {"n": n}, "correlation_id": "c", "headers": {"gone": 1, "traceparent": "00-1-2-01"}})).collect();
    publish(&server, "in", &messages);
    taken(&server, "r", 500);
    let out = lying(&server, "out");
    let numbers: Vec<Value> = out.iter().map(|it| it["body"]["n"].clone()).collect();
    assert_eq!(numbers, (0..500).map(|n| json!(n * 2)).collect::<Vec<_>>());
    let headers = &out[0]["headers"];
    assert_eq!((&headers["ws-route"], &headers["ws-hops"]), (&json!("r"), &json!(1)));
    assert_eq!((&headers["doubled"], &headers["traceparent"]), (&json!(true), &json!("00-1-2-01")));
    assert_eq!((headers.get("gone"), &out[0]["correlation_id"]), (None, &json!("c")));
    assert_ne!(headers["ws-cause"], out[0]["uuid"], "the input's id");
}

#[test]
fn a_kill_amid_the_work_neither_loses_nor_doubles_a_message() {
    let setup = setup();
    let server = with(&setup, PLAIN);
    let messages = bodies(&(0..3000).map(|n| json!({"n": n})).collect::<Vec<_>>());
    publish(&server, "in", &messages);
    until("it is at work", || server.json("queue show out")["ready"] != 0);
    server.kill();
    let server = setup.start();
    until("all is through", || {
        server.json("queue show in")["ready"] == 0 && server.json("queue show in")["in_flight"] == 0
    });
    let mut numbers: Vec<i64> = Vec::new();
    while numbers.len() < 3000 {
        let text = server.ok("consume out --count 1000 --json");
        let more = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        let before = numbers.len();
        numbers.extend(more.map(|it| it["body"]["n"].as_i64().expect("a number")));
        assert!(numbers.len() > before, "{} came out", numbers.len());
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..3000).map(|n| n * 2).collect::<Vec<_>>());
    assert!(server.ok("consume out --wait 100ms --json").is_empty(), "none twice");
}

#[test]
fn what_fails_or_never_ends_goes_to_the_dead_letters_and_what_is_behind_it_goes_on() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        in = {}
        out = {}
        lost = {}
        [routes.r]
        from = { queue = "in" }
        steps = [
          { transform = { body = "if .do == \"loop\" then last(repeat(1)) elif .do == \"fail\" then error(\"no\") elif .do == \"grow\" then [range(10000000)] elif .do == \"many\" then .n, .n elif .do == \"deep\" then reduce range(1000000) as $i (0; [.]) else .n end" } },
          { to = "out" },
        ]
        dead_letter = "lost"
        limits = { time_ms = 300, output_bytes = 10000 }
        "#,
    );
    let doing = |(n, what): (usize, &&str)| json!({"n": n, "do": what});
    let does = ["", "loop", "", "fail", "", "grow", "", "many", "", "deep", ""];
    let all: Vec<Value> = does.iter().enumerate().map(doing).collect();
    publish(&server, "in", &bodies(&all));
    taken(&server, "r", 11);
    assert_eq!(found(&server, "out"), [0, 2, 4, 6, 8, 10].map(|n| json!(n)));
    let lost = lying(&server, "lost");
    let mut bodies: Vec<Value> = lost.iter().map(|it| it["body"].clone()).collect();
    bodies.sort_by_key(|it| it["n"].as_u64());
    assert_eq!(bodies, [1, 3, 5, 7, 9].map(|n: usize| all[n].clone()), "the inputs, unchanged");
    for one in &lost {
        let headers = &one["headers"];
        assert_eq!(headers["ws-death-step"], "steps[0].transform");
        assert_eq!((&headers["ws-death-route"], &headers["ws-death-source"]), (&json!("r"), &json!("in")));
        assert!(headers["ws-death-error"].as_str().is_some_and(|error| !error.is_empty()), "{one}");
    }
}

#[test]
fn a_full_target_holds_its_own_messages_back_and_no_others() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        in = {}
        wide = {}
        narrow = { max_messages = 1 }
        [routes.r]
        from = { queue = "in" }
        steps = [{ recipients = ".to", allowed = ["wide", "narrow", "gone"] }]
        retry = { backoff = "constant", first_ms = 20 }
        [queues.strict]
        [routes.s]
        from = { queue = "strict" }
        steps = [{ recipients = ".to", allowed = ["gone"] }]
        retry = { attempts_max = 3, first_ms = 1, most_ms = 1 }
        "#,
    );
    let to = |to: &str| json!({"to": to});
    publish(&server, "in", &bodies(&[to("narrow"), to("narrow"), to("wide"), to("wide")]));
    until("the others are through", || found(&server, "wide").len() == 2);
    until("it is tried again", || server.json("route show r")["counts"]["retried"].as_u64() > Some(0));
    server.ok("consume narrow --count 1");
    until("there is room", || server.json("route show r")["counts"]["taken"] == 4);
    assert_eq!((found(&server, "narrow").len(), found(&server, "r.dead").len()), (1, 0));
    // What cannot be stored is given up after its attempts.
    publish(&server, "strict", &bodies(&[to("gone")]));
    until("it is given up", || found(&server, "s.dead").len() == 1);
    let error = lying(&server, "s.dead")[0]["headers"]["ws-death-error"].as_str().map(str::to_owned);
    assert!(
        error.is_some_and(|error| error.contains("'gone' does not exist") && error.contains("3 attempts"))
    );
}

#[test]
fn errors_of_a_declaration_point_at_the_column_and_nothing_is_changed() {
    let setup = setup();
    let server = setup.start();
    let check = |steps: &str, says: &[&str]| {
        let text = format!(
            "[queues.in]\n[queues.out]\n[routes.r]\nfrom = {{ queue = 'in' }}\nsteps = [\n{steps}\n]\n"
        );
        let file = setup.file("bad.toml", text);
        let said = server.cli(&["apply", &file]).bad(2, "");
        for part in says {
            assert!(said.contains(part), "{said}\n  should say: {part}");
        }
    };
    check("  { filter = '.a >' },\n  { to = 'out' }", &["line 6, column 5", "steps[0].filter.jq", "column"]);
    check("  { to = 'out' },\n  { to = 'out' }", &["line 7", "steps[1]", "no message comes here"]);
    check("  { filter = { selector = \"a = \" } }, { to = 'out' }", &["steps[0].filter.selector", "column"]);
    check("  { fliter = '.a' }", &["unknown field `fliter`", "did you mean 'filter'?"]);
    check("  { tap = 'out' }", &["end with 'to'"]);
    check("  { split = '.a', to = 'out' }", &["'split' and 'to'"]);
    check("  { to = 'out', allowed = ['x'] }", &["steps[0].allowed", "belongs to recipients"]);
    check("  { recipients = '.a' }", &["steps[0].allowed"]);
    check("  { to = 'a b' }", &["steps[0].to", "character ' '"]);
    check("  { filter = '$nothing' }, { to = 'out' }", &["steps[0].filter.jq", "column 1"]);
    assert_eq!(server.json("queue list"), json!([]));
}

#[test]
fn cycles_are_found_at_declaration_and_hops_end_those_that_messages_make() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        a = {}
        b = {}
        [routes.ab]
        from = { queue = "a" }
        steps = [{ to = "b" }]
        [routes.around]
        kind = "fanout"
        bindings = [{ to = "a" }]
        "#,
    );
    let back = |to: &str, more: &str| {
        format!("from = {{ queue = 'b' }}\nsteps = [{{ filter = '.again' }}, {{ to = {to} }}]\n{more}")
    };
    for to in ["'a'", "{ route = 'around' }"] {
        let file = setup.file("back.toml", back(to, ""));
        let said = server.cli(&["route", "create", "ba", "--file", &file]).bad(4, "go round");
        assert!(said.contains("route ba -> ") && said.contains("a -> route ab -> b"), "{said}");
    }
    let file = setup.file("back.toml", back("'a'", "cycle = true\nlimits = { hops = 9 }"));
    server.ok(&format!("route create ba --file {file}"));
    publish(&server, "a", &bodies(&[json!({"again": true}), json!({"again": false})]));
    until("it is stopped", || found(&server, "ba.dead").len() == 1);
    let dead = lying(&server, "ba.dead").remove(0);
    assert_eq!((&dead["body"], &dead["headers"]["ws-hops"]), (&json!({"again": true}), &json!(9)));
    assert!(
        dead["headers"]["ws-death-error"].as_str().is_some_and(|it| it.contains("limits.hops")),
        "{dead}"
    );
}

#[test]
fn a_subscription_is_shared_with_others_and_keys_keep_their_order() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [topics.orders]
        partitions = 3
        [subscriptions.work]
        topic = "orders"
        start = "earliest"
        [queues]
        odd = {}
        even = {}
        [routes.r]
        from = { subscription = "work" }
        order = "key"
        steps = [{ choose = [{ when = ".n % 2 == 0", to = "even" }], otherwise = "odd" }]
        "#,
    );
    let message = |n: u64| json!({"body": {"n": n}, "key": format!("k{}", n % 7)});
    publish(&server, "orders", &(0..700).map(message).collect::<Vec<_>>());
    taken(&server, "r", 700);
    assert_eq!(server.json("subscription show work")["lag"], 0);
    for (queue, parity) in [("even", 0), ("odd", 1)] {
        let all = lying(&server, queue);
        assert_eq!(all.len(), 350);
        for key in (0..7).map(|key| json!(format!("k{key}"))) {
            let numbers = all.iter().filter(|it| it["key"] == key).map(|it| it["body"]["n"].as_u64());
            let numbers: Vec<u64> = numbers.map(|n| n.expect("a number")).collect();
            assert!(numbers.is_sorted() && numbers.iter().all(|n| n % 2 == parity), "{key}: {numbers:?}");
        }
    }
    server.cli(&["publish", "r", "x", "--as", "route"]).bad(3, "it takes messages from 'work'");
}

#[test]
fn a_trial_shows_result_and_reason_and_has_no_effect() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [topics.orders]
        [queues]
        eu = {}
        rest = {}
        [routes.sales]
        from = { topic = "orders" }
        steps = [
          { filter = ".total > 0" },
          { choose = [ { when = { selector = "region = 'eu'" }, to = "eu" } ], otherwise = "rest" },
        ]
        "#,
    );
    let trial =
        server.cli(&["route", "test", "sales", "--body", "{\"total\": 5}", "--header", "region=us"]).good();
    for part in [
        "would be sent",
        "jq .total > 0 gave true",
        "selector region = 'eu' does not hold",
        "-> rest  {\"total\": 5}",
    ] {
        assert!(trial.contains(part), "{trial}\n  should say: {part}");
    }
    let trial = server.cli(&["route", "test", "sales", "--body", "{\"total\": \"x\" | }"]).good();
    assert!(trial.contains("would be dead-lettered") && trial.contains("steps[0].filter"), "{trial}");
    assert!(found(&server, "rest").is_empty() && found(&server, "sales.dead").is_empty());

    let message = |n: u64, region: &str| json!({"body": {"total": n}, "headers": {"region": region}});
    publish(&server, "orders", &[message(1, "eu"), message(2, "us"), message(3, "eu"), message(0, "eu")]);
    taken(&server, "sales", 4);
    let changed = setup.file(
        "changed.toml",
        "from = { topic = 'orders' }\nsteps = [{ filter = '.total > 1' }, { choose = [{ when = { selector = \"region = 'eu'\" }, to = 'eu' }], otherwise = 'rest' }]",
    );
    let told = server.json(&format!("route test sales --file {changed} --last 100"));
    assert_eq!((told["tried"].as_array().map(Vec::len), &told["different"]), (Some(4), &json!(1)));
    let told = server.json(&format!("route test sales --file {changed} --last 100 --differences"));
    let only = &told["tried"][0];
    assert_eq!((&only["message"]["body"], &only["ending"]), (&json!({"total": 1}), &json!("ended")));
    assert_eq!(
        (&only["present"]["ending"], &only["present"]["outputs"][0]["to"]),
        (&json!("sent"), &json!("eu"))
    );
    // Only the last two.
    assert_eq!(server.json("route test sales --last 2")["tried"][0]["message"]["body"]["total"], 3);
    assert_eq!(found(&server, "eu").len(), 2, "nothing was published");
    server.ok(&format!("route change sales --file {changed}"));
    publish(&server, "orders", &[message(1, "eu"), message(2, "eu")]);
    taken(&server, "sales", 6);
    assert_eq!(found(&server, "eu").len(), 3);
}

#[test]
fn a_trial_of_a_route_with_bindings_says_which_take_a_message_and_which_do_not() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        paid = {}
        rest = {}
        [routes.orders]
        kind = "topic"
        alternate = "others"
        bindings = [{ to = "paid", key = "order.*.paid" }, { to = "rest", key = "order.*.open" }]
        [routes.others]
        kind = "fanout"
        "#,
    );
    let trial = server.ok("route test orders --body x --routing-key order.7.paid");
    for part in
        ["bindings[0]  matched      to paid by 'order.*.paid'", "bindings[1]  not matched", "-> paid  x"]
    {
        assert!(trial.contains(part), "{trial}\n  should say: {part}");
    }
    let trial = server.ok("route test orders --body x --routing-key bill");
    assert!(trial.contains("-> route others"), "{trial}");
    let trial = server.ok("route test others --body x");
    assert!(trial.contains("would end there") && trial.contains("there is none"), "{trial}");
    assert!(found(&server, "paid").is_empty());
}

#[test]
fn an_explanation_says_why_a_message_went_where_it_went() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        in = {}
        eu = {}
        rest = {}
        [routes.sales]
        from = { queue = "in" }
        steps = [
          { choose = [ { when = { selector = "region = 'eu'" }, to = "eu" }, { when = ".total > 9", to = "rest" } ] },
        ]
        "#,
    );
    let message = |n: u64| json!({"body": {"total": n}, "headers": {"region": "us"}});
    publish(&server, "in", &[message(10), message(1)]);
    taken(&server, "sales", 2);
    let out = lying(&server, "rest").remove(0);
    let cause = out["headers"]["ws-cause"].as_str().expect("an id").to_owned();
    for id in [cause.as_str(), out["uuid"].as_str().expect("an id")] {
        let told = server.ok(&format!("route explain {id}"));
        for part in
            ["route sales", "selector region = 'eu' does not hold", "jq .total > 9 gave true", "-> rest"]
        {
            assert!(told.contains(part), "{told}\n  should say: {part}");
        }
    }
    let dead = lying(&server, "sales.dead").remove(0);
    let told = server.ok(&format!("route explain {}", dead["uuid"].as_str().expect("an id")));
    assert!(told.contains("dead-lettered") && told.contains("none of the 2 cases holds"), "{told}");
    server.cli(&["route", "explain", "0190163d-8694-739b-aea5-966c26f8ad91"]).bad(3, "no record");
    server.cli(&["route", "explain", "x"]).bad(3, "no message's id");
}

#[test]
fn a_route_is_paused_changed_exported_and_deleted_like_everything_else() {
    let setup = setup();
    let server = with(&setup, PLAIN);
    server.ok("route pause r");
    publish(&server, "in", &bodies(&[json!({"n": 1})]));
    assert_eq!(server.json("route show r")["state"], "paused");
    server.kill();
    let server = setup.start();
    assert_eq!((&server.json("route show r")["state"], found(&server, "out").len()), (&json!("paused"), 0));
    server.ok("route resume r");
    taken(&server, "r", 1);
    let exported = server.ok("topology export");
    let copy = setup.file("copy.toml", &exported);
    assert_eq!(server.cli(&["apply", &copy, "--json"]).json()["steps_done"], 0, "{exported}");
    let list = server.json("route list");
    let r = list.as_array().expect("a list").iter().find(|it| it["name"] == "r").expect("it is listed");
    assert_eq!(r["spec"]["kind"], "steps");
    // One name space for both kinds.
    server.cli(&["route", "create", "r", "--kind", "fanout"]).bad(4, "one with steps");
    server.ok("route create x --kind fanout");
    let file = setup.file("x.toml", "from = { queue = 'in' }\nsteps = [{ to = 'out' }]");
    server.cli(&["route", "create", "x", "--file", &file]).bad(4, "one with bindings");
    server.cli(&["route", "create", "r", "--file", &file]).bad(4, "differs");
    apply(&setup, &server, &PLAIN.replace("* 2", "* 3"));
    publish(&server, "in", &bodies(&[json!({"n": 1})]));
    until("the change works", || found(&server, "out").last() == Some(&json!({"n": 3})));
    server.ok("route delete r");
    publish(&server, "in", &bodies(&[json!({"n": 5})]));
    assert_eq!(found(&server, "in"), [json!({"n": 5})]);
    server.cli(&["route", "show", "r"]).bad(3, "route 'r'");
}

#[test]
fn pauses_and_changes_cost_what_a_route_holds_no_attempt() {
    let setup = setup();
    let topology = r#"
        [queues]
        dead = {}
        out = {}
        in = { dead_letter = "dead", max_attempts = 2 }
        [routes.r]
        from = { queue = "in" }
        steps = [{ transform = { body = "reduce range(20000) as $i (.; .i = $i)" } }, { to = "out" }]
    "#;
    let server = with(&setup, topology);
    server.ok("route pause r");
    publish(&server, "in", &bodies(&(0..600).map(|n| json!({"n": n})).collect::<Vec<_>>()));
    for round in 0..6 {
        server.ok("route resume r");
        until("it holds messages", || server.json("queue show in")["in_flight"] != 0);
        match round % 2 {
            0 => server.ok("route pause r"),
            _ => {
                apply(&setup, &server, &topology.replace("20000", &format!("2000{round}")));
                server.ok("route pause r")
            }
        };
        let queue = server.json("queue show in");
        assert!(queue["in_flight"] == 0 && queue["ready"] != 0, "{queue}");
    }
    apply(&setup, &server, &topology.replace("20000", "1"));
    server.ok("route resume r");
    until("all is through", || {
        server.json("queue show in")["ready"] == 0 && server.json("queue show in")["in_flight"] == 0
    });
    let mut numbers: Vec<i64> =
        found(&server, "out").iter().map(|it| it["n"].as_i64().expect("a number")).collect();
    numbers.sort_unstable();
    assert_eq!((numbers, found(&server, "dead").len()), ((0..600).collect(), 0));
    assert_eq!(found(&server, "r.dead").len(), 0);
}

#[test]
fn others_are_answered_while_a_body_of_many_megabytes_is_read() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        in = {}
        [routes.r]
        from = { queue = "in" }
        steps = [{ filter = ".a" }, { to = "in.rest" }]
        [queues."in.rest"]
        "#,
    );
    // It shows at its end that it is none, so that no program sees it.
    let mut xml = String::from("<a>");
    while xml.len() < (16 << 20) - 1_024 {
        xml.push_str("<b c=\"d\">e</b>");
    }
    let file = setup.file("large.xml", &xml);
    server.cli(&["publish", "in", "--file", &file, "--content-type", "application/xml"]).good();
    let mut answered = 0;
    until("it is a dead letter", || {
        answered += u32::from(server.json("queue show in")["in_flight"] == 1);
        server.json("queue show r.dead")["ready"] == 1
    });
    let error = lying(&server, "r.dead")[0]["headers"]["ws-death-error"].clone();
    assert!(error.as_str().is_some_and(|error| error.contains("XML")), "{error}");
    assert!(answered >= 5, "{answered} were answered while it was read");
}
