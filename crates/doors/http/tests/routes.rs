//! Are routes declared, bound, published to and seen as the interface promises?

mod common;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::Server;
use serde_json::{Value, json};

async fn ready(server: &Server, queue: &str) -> Value {
    server.get(&format!("/v1/queues/{queue}")).await.expect(200).json()["ready"].clone()
}

#[tokio::test]
async fn a_route_is_declared_bound_seen_and_unbound() {
    let server = Server::start().await;
    server.put("/v1/queues/q", "").await.expect(201);
    server.put("/v1/routes/r", r#"{"kind":"topic","alternate":"rest"}"#).await.expect(201);
    server.put("/v1/routes/rest", r#"{"kind":"fanout"}"#).await.expect(201);
    let problem =
        server.put("/v1/routes/r", r#"{"kind":"direct","alternate":"rest"}"#).await.expect(409).json();
    assert_eq!(problem["field"], "kind");
    server.call("PATCH", "/v1/routes/r", "", r#"{"alternate":null}"#).await.expect(200);
    let bind = r#"{"to":"q","key":"orders.#"}"#;
    let answer = server.post("/v1/routes/r/bind", bind).await.expect(201);
    assert_eq!(answer.json(), json!({"declared": "created"}));
    let answer = server.post("/v1/routes/r/bind", bind).await.expect(200);
    assert_eq!(answer.json(), json!({"declared": "unchanged"}));
    server.post("/v1/routes/r/bind", r#"{"to_route":"rest","arguments":{"n":1}}"#).await.expect(201);
    let bindings = server.get("/v1/routes/r/bindings").await.expect(200).json();
    let expected =
        json!([{"to": "q", "key": "orders.#"}, {"to_route": "rest", "key": "", "arguments": {"n": 1}}]);
    assert_eq!(bindings["items"], expected);
    let shown = server.get("/v1/routes/r").await.expect(200).json();
    assert_eq!((&shown["bindings"], &shown["spec"]["alternate"]), (&json!(2), &json!(null)));
    let list = server.get("/v1/routes").await.expect(200).json();
    let own = |item: &&Value| item["name"].as_str().is_some_and(|name| !name.starts_with("amq."));
    assert_eq!(list["items"].as_array().map(|items| items.iter().filter(own).count()), Some(2));
    server.call("DELETE", "/v1/routes/r?if_unused=true", "", "").await.expect(409);
    for removed in [1, 0] {
        let answer = server.post("/v1/routes/r/unbind", bind).await.expect(200);
        assert_eq!(answer.json(), json!({"removed": removed}));
    }
    server.call("DELETE", "/v1/routes/r", "", "").await.expect(200);
    server.get("/v1/routes/r").await.expect(404);
    server.get("/v1/routes/r/bindings").await.expect(404);
    server.end().await;
}

#[tokio::test]
async fn how_a_route_with_steps_is_declared_is_shown_to_those_who_may_configure_it() {
    let server = Server::start().await;
    server.put("/v1/queues/in", "").await.expect(201);
    let steps = json!([{"transform": {"headers": r#"{token: "hunter2"}"#}}, {"to": "in"}]);
    let spec = json!({"from": {"queue": "in"}, "steps": steps, "cycle": true}).to_string();
    server.put("/v1/routes/mine", &spec).await.expect(201);
    server.put("/v1/routes/other", &spec).await.expect(201);
    let user = json!({"password": "p", "tags": ["management"]}).to_string();
    server.put("/v1/users/shop", &user).await.expect(201);
    let rights = json!({"configure": "^mine$", "write": "", "read": ".*"}).to_string();
    server.put("/v1/permissions/%2F/shop", &rights).await.expect(201);
    let shop = format!("authorization: Basic {}\r\n", STANDARD.encode("shop:p"));
    let get = async |path: &str| server.call("GET", path, &shop, "").await.expect(200);
    for path in ["/v1/routes/other", "/v1/routes?after=mine"] {
        let answer = get(path).await;
        assert!(
            answer.text().contains("other.dead") && !answer.text().contains("hunter2"),
            "{}",
            answer.text()
        );
    }
    for path in ["/v1/routes/mine", "/v1/routes"] {
        assert_eq!(get(path).await.text().matches("hunter2").count(), 1, "{path}");
    }
    assert!(server.get("/v1/routes/other").await.expect(200).text().contains("hunter2"));
    server.end().await;
}

#[tokio::test]
async fn what_cannot_be_bound_is_refused_with_the_rule() {
    let server = Server::start().await;
    server.put("/v1/queues/q", "").await.expect(201);
    server.put("/v1/routes/r", r#"{"kind":"headers"}"#).await.expect(201);
    for (path, body, status, part) in [
        ("/v1/routes/r/bind", "{}", 422, "either 'to'"),
        ("/v1/routes/r/bind", r#"{"to":"q","to_route":"r"}"#, 422, "either 'to'"),
        ("/v1/routes/r/bind", r#"{"to":"none"}"#, 404, "none"),
        ("/v1/routes/r/bind", r#"{"to_route":"none"}"#, 404, "route 'none'"),
        ("/v1/routes/none/bind", r#"{"to":"q"}"#, 404, "route 'none'"),
        ("/v1/routes/r/bind", r#"{"to":"q","kex":"k"}"#, 400, "kex"),
        ("/v1/routes/r/bind", r#"{"to":"q","arguments":{"x-match":"some"}}"#, 422, "x-match"),
        ("/v1/routes/none/messages", "x", 404, "route 'none'"),
    ] {
        let answer = server.post(path, body).await.expect(status);
        assert!(answer.text().contains(part), "{path} {body}: {}", answer.text());
    }
    server.end().await;
}

#[tokio::test]
async fn messages_go_where_the_route_leads_under_their_key() {
    let server = Server::start().await;
    for queue in ["eu", "all"] {
        server.put(&format!("/v1/queues/{queue}"), "").await.expect(201);
    }
    server.put("/v1/routes/orders", r#"{"kind":"topic"}"#).await.expect(201);
    server.post("/v1/routes/orders/bind", r##"{"to":"all","key":"order.#"}"##).await.expect(201);
    server.post("/v1/routes/orders/bind", r#"{"to":"eu","key":"order.eu"}"#).await.expect(201);
    let answer = server.post("/v1/routes/orders/messages?key=order.eu", "one").await.expect(200).json();
    assert_eq!(
        (&answer["accepted"], &answer["copies"], &answer["unrouted"]),
        (&json!(1), &json!(2), &json!(0))
    );
    let answer = server.post("/v1/routes/orders/messages", "lost").await.expect(200).json();
    assert_eq!(
        (&answer["accepted"], &answer["copies"], &answer["unrouted"]),
        (&json!(1), &json!(0), &json!(1))
    );
    let lines = "{\"body\":1}\n{\"body\":2}\n";
    let answer = server.lines("/v1/routes/orders/messages?key=order.us", lines).await.expect(200).json();
    assert_eq!((&answer["accepted"], &answer["lines"]), (&json!(2), &json!(2)));
    assert_eq!((ready(&server, "eu").await, ready(&server, "all").await), (json!(1), json!(3)));
    let taken = server.post("/v1/queues/eu/receive", "").await.expect(200).json();
    let headers = &taken["messages"][0]["headers"];
    assert_eq!((&headers["ws-exchange"], &headers["ws-routing-key"]), (&json!("orders"), &json!("order.eu")));
    server.put("/v1/routes/inside", r#"{"internal":true}"#).await.expect(201);
    let refused = server.post("/v1/routes/inside/messages", "x").await;
    assert!(refused.text().contains("only other routes"), "{}", refused.text());
    server.end().await;
}

#[tokio::test]
async fn all_that_a_route_leads_to_takes_a_message_or_nothing_does() {
    let server = Server::start().await;
    server.put("/v1/queues/small", r#"{"max_messages":1}"#).await.expect(201);
    server.put("/v1/queues/large", "").await.expect(201);
    server.put("/v1/routes/r", r#"{"kind":"fanout"}"#).await.expect(201);
    for queue in ["small", "large"] {
        server.post("/v1/routes/r/bind", format!(r#"{{"to":"{queue}"}}"#)).await.expect(201);
    }
    server.post("/v1/routes/r/messages", "1").await.expect(200);
    server.post("/v1/routes/r/messages", "2").await.expect(429);
    assert_eq!((ready(&server, "small").await, ready(&server, "large").await), (json!(1), json!(1)));
    server.end().await;
}
