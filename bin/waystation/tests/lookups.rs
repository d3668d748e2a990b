//! Do the steps that look something up do so, through the real program: at an HTTP service, at a body put aside, in a table on a topic?

mod common;
#[path = "common/routing.rs"]
mod routing;
#[path = "common/service.rs"]
mod service;

use routing::{bodies, found, lying, publish, setup, taken, wait_for, with};
use serde_json::{Value, json};
use service::{Asked, Do, Service};

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
