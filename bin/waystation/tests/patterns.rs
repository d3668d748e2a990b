//! Does each pattern of "Enterprise Integration Patterns" do what its name says, with the topology that the documentation shows?

mod common;
#[path = "common/routing.rs"]
mod routing;

use routing::{bodies, found, lying, publish, setup, taken, with};
use serde_json::{Value, json};

#[test]
fn content_based_router() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        orders = {}
        eu = {}
        big = {}
        rest = {}
        [routes.sales]
        from = { queue = "orders" }
        [[routes.sales.steps]]
        choose = [
          { when = { jq = ".total >= 1000" }, to = "big" },
          { when = { selector = "region = 'eu'" }, to = "eu" },
        ]
        otherwise = "rest"
        "#,
    );
    let message = |n: u64, region: &str, total: u64| json!({"body": {"n": n, "total": total}, "headers": {"region": region}});
    publish(&server, "orders", &[message(1, "eu", 5), message(2, "us", 5), message(3, "eu", 1000)]);
    taken(&server, "sales", 3);
    assert_eq!(found(&server, "eu"), [json!({"n": 1, "total": 5})]);
    assert_eq!(found(&server, "rest"), [json!({"n": 2, "total": 5})]);
    assert_eq!(found(&server, "big"), [json!({"n": 3, "total": 1000})]);
    assert!(found(&server, "orders").is_empty());
}

#[test]
fn message_filter() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [topics.flights]
        [queues.late]
        [routes.delays]
        from = { topic = "flights" }
        steps = [
          { filter = { selector = "delay > 60 AND carrier IN ('UA', 'AA')" } },
          { to = "late" },
        ]
        "#,
    );
    let message = |n: u64, carrier: &str, delay: u64| json!({"body": n, "headers": {"carrier": carrier, "delay": delay}});
    let all = [message(1, "UA", 61), message(2, "UA", 60), message(3, "DL", 100), message(4, "AA", 90)];
    publish(&server, "flights", &all);
    taken(&server, "delays", 4);
    assert_eq!(found(&server, "late"), [json!(1), json!(4)]);
    assert_eq!(server.json("route show delays")["counts"]["ended"], 2);
}

#[test]
fn recipient_list() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        notices = {}
        "team.red" = {}
        "team.blue" = {}
        payroll = {}
        [routes.spread]
        from = { queue = "notices" }
        steps = [{ recipients = ".to[] | \"team.\" + .", allowed = ["team.*"] }]
        [routes.open]
        from = { queue = "anything" }
        steps = [{ recipients = ".to", allowed = ["team.*"] }]
        [queues.anything]
        "#,
    );
    publish(&server, "notices", &bodies(&[json!({"to": ["red", "blue", "red"]}), json!({"to": ["blue"]})]));
    publish(&server, "anything", &bodies(&[json!({"to": "payroll"}), json!({"to": ["team.red"]})]));
    taken(&server, "spread", 2);
    taken(&server, "open", 2);
    assert_eq!(found(&server, "team.blue").len(), 2);
    assert_eq!(found(&server, "team.red").len(), 2, "one by each route");
    // Whom the declaration does not allow gets nothing, and the message is kept with the reason.
    assert!(found(&server, "payroll").is_empty());
    let dead = lying(&server, "open.dead");
    assert_eq!(dead[0]["headers"]["ws-death-step"], "steps[0].recipients");
    let error = dead[0]["headers"]["ws-death-error"].as_str().expect("a reason");
    assert!(error.contains("'payroll'") && error.contains("allowed"), "{error}");
}

#[test]
fn splitter() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        orders = {}
        lines = {}
        [routes.divide]
        from = { queue = "orders" }
        steps = [
          { split = ".id as $order | .lines[] | {order: $order, sku, count}" },
          { transform = { key = ".sku" } },
          { to = "lines" },
        ]
        "#,
    );
    let order = json!({"id": 7, "lines": [{"sku": "a", "count": 1}, {"sku": "b", "count": 2}]});
    publish(&server, "orders", &[json!({"id": "order-7", "body": order})]);
    publish(&server, "orders", &bodies(&[json!({"id": 8, "lines": []})]));
    taken(&server, "divide", 2);
    let lines = lying(&server, "lines");
    assert_eq!(lines.len(), 2);
    for (index, (line, sku)) in lines.iter().zip(["a", "b"]).enumerate() {
        assert_eq!((&line["body"]["order"], &line["body"]["sku"]), (&json!(7), &json!(sku)));
        assert_eq!((&line["key"], &line["id"]), (&json!(sku), &json!(format!("order-7.{index}"))));
        let headers = &line["headers"];
        assert_eq!((&headers["ws-sequence-index"], &headers["ws-sequence-size"]), (&json!(index), &json!(2)));
        assert_eq!(headers["ws-sequence-id"], headers["ws-cause"], "the id of the whole");
    }
}

#[test]
fn a_splitter_within_a_splitter_is_bounded_and_so_is_what_its_steps_say() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        in = {}
        out = {}
        [routes.divide]
        from = { queue = "in" }
        steps = [
          { split = "range(.)" },
          { split = "range(40)" },
          { filter = { jq = "false" }, else = [] },
          { to = "out" },
        ]
        limits = { outputs = 1600 }
        "#,
    );
    // 1,600 parts, of each of which the filter says two words; then 1,640.
    publish(&server, "in", &bodies(&[json!(40), json!(41), json!(1)]));
    taken(&server, "divide", 3);
    assert!(found(&server, "out").is_empty());
    let records = lying(&server, "$routes");
    let trails: Vec<&Vec<Value>> =
        records.iter().map(|record| record["body"]["trail"].as_array().expect("a trail")).collect();
    let last = trails[0].last().expect("a word");
    assert_eq!((trails[0].len(), &last["verdict"]), (1001, &json!("left_out")));
    assert_eq!(last["detail"], "2241 more", "of 1 + 40 + 2 * 1600");
    assert!(trails[2].len() == 82 && trails[2].iter().all(|said| said["verdict"] != "left_out"));
    let dead = lying(&server, "divide.dead");
    assert_eq!((dead.len(), &dead[0]["body"]), (1, &json!(41)));
    let error = dead[0]["headers"]["ws-death-error"].as_str().expect("a reason");
    assert!(error.contains("more than 1600 parts") && error.contains("limits.outputs"), "{error}");
    let failed = trails[1].last().expect("a word");
    assert_eq!((&failed["verdict"], &failed["step"]), (&json!("failed"), &json!("steps[1].split")));
}

#[test]
fn wire_tap() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        payments = {}
        booked = {}
        [topics.audit]
        [routes.book]
        from = { queue = "payments" }
        steps = [
          { tap = "audit" },
          { transform = { body = "del(.card)" } },
          { to = "booked" },
        ]
        "#,
    );
    publish(&server, "payments", &bodies(&[json!({"n": 1, "card": "4111"})]));
    taken(&server, "book", 1);
    assert_eq!(found(&server, "audit"), [json!({"n": 1, "card": "4111"})], "as it was at the tap");
    assert_eq!(found(&server, "booked"), [json!({"n": 1})]);
}

#[test]
fn publish_subscribe_channel() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        mail = {}
        stock = {}
        [topics."shop.eu.orders"]
        [topics."shop.us.orders"]
        [routes.mailing]
        from = { pattern = "shop.*.orders" }
        steps = [{ to = "mail" }]
        [routes.stocking]
        from = { pattern = "shop.eu.#" }
        steps = [{ transform = { body = "{id, from: $address}" } }, { to = "stock" }]
        "#,
    );
    publish(&server, "shop.eu.orders", &bodies(&[json!({"id": 1})]));
    publish(&server, "shop.us.orders", &bodies(&[json!({"id": 2})]));
    taken(&server, "mailing", 2);
    taken(&server, "stocking", 1);
    assert_eq!(found(&server, "mail").len(), 2, "each route has its own copy");
    assert_eq!(found(&server, "stock"), [json!({"id": 1, "from": "shop.eu.orders"})]);
}

#[test]
fn invalid_message_channel() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        orders = {}
        good = {}
        "orders.invalid" = {}
        [routes.check]
        from = { queue = "orders" }
        steps = [
          { validate = "(.id | type) == \"number\"", else = "orders.invalid" },
          { validate = "(.lines | length) > 0" },
          { to = "good" },
        ]
        "#,
    );
    let all = [
        json!({"id": 1, "lines": [1]}),
        json!({"id": "x"}),
        json!({"id": 3, "lines": []}),
        json!({"id": 4, "lines": [1]}),
    ];
    publish(&server, "orders", &bodies(&all));
    publish(&server, "orders", &[json!({"body_text": "{\"id\": ", "content_type": "application/json"})]);
    taken(&server, "check", 5);
    assert_eq!(found(&server, "good"), [all[0].clone(), all[3].clone()]);
    assert_eq!(found(&server, "orders.invalid"), [all[1].clone()]);
    // What is invalid with no other place is among the dead letters, with the reason; so is what is no JSON at all.
    let dead = lying(&server, "check.dead");
    assert_eq!(dead.len(), 2, "{dead:?}");
    let step = |at: usize| dead[at]["headers"]["ws-death-step"].clone();
    assert_eq!((step(0), step(1)), (json!("steps[1].validate"), json!("steps[0].validate")));
    assert_eq!(dead[0]["body"], all[2], "unchanged");
    assert_eq!(dead[1]["body_text"], "{\"id\": ", "unchanged");
    assert_eq!(dead[0]["headers"]["ws-death-reason"], "route_error");
}

#[test]
fn normaliser() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        inbox = {}
        orders = {}
        [routes.normal]
        from = { queue = "inbox" }
        [[routes.normal.steps]]
        choose = [
          { when = { filter = { prefix = { content-type = "application/xml" } } }, steps = [
            { transform = { body = "{id: (.order[\"@id\"] | tonumber), total: (.order.total | tonumber)}" } },
          ] },
          { when = { filter = { prefix = { content-type = "application/x-www-form-urlencoded" } } }, steps = [
            { transform = { body = "{id: (.id | tonumber), total: (.total | tonumber)}" } },
          ] },
        ]
        otherwise = { steps = [] }
        [[routes.normal.steps]]
        transform = { content_type = "application/json" }
        [[routes.normal.steps]]
        to = "orders"
        "#,
    );
    publish(
        &server,
        "inbox",
        &[
            json!({"body_text": "<order id=\"1\"><total>10</total></order>", "content_type": "application/xml"}),
            json!({"body_text": "id=2&total=20", "content_type": "application/x-www-form-urlencoded"}),
            json!({"body": {"id": 3, "total": 30}}),
        ],
    );
    taken(&server, "normal", 3);
    let orders = lying(&server, "orders");
    let seen: Vec<Value> = orders.iter().map(|it| it["body"].clone()).collect();
    let order = |id: u64| json!({"id": id, "total": id * 10});
    assert_eq!(seen, [order(1), order(2), order(3)], "{orders:?}");
    assert!(orders.iter().all(|it| it["content_type"] == "application/json"));
}
