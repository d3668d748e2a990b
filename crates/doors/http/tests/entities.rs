//! Are queues, topics and subscriptions declared, listed, changed and deleted as the interface promises?

mod common;

use common::Server;
use serde_json::json;

#[tokio::test]
async fn a_declaration_creates_once_and_differs_only_on_purpose() {
    let server = Server::start().await;
    let answer = server.put("/v1/queues/orders", r#"{"max_attempts":5}"#).await.expect(201);
    assert_eq!(answer.json(), json!({"declared": "created"}));
    let answer = server.put("/v1/queues/orders", r#"{"max_attempts":5}"#).await.expect(200);
    assert_eq!(answer.json(), json!({"declared": "unchanged"}));
    let problem = server.put("/v1/queues/orders", r#"{"max_attempts":6}"#).await.expect(409).json();
    assert_eq!(
        (&problem["field"], &problem["instance"]),
        (&json!("max_attempts"), &json!("/v1/queues/orders"))
    );
    assert_eq!(problem["type"], "urn:waystation:problem:exists");
    server.put("/v1/queues/orders?change=true", r#"{"max_attempts":6}"#).await.expect(200);
    server.call("PATCH", "/v1/queues/orders", "", r#"{"lease_ms":1000}"#).await.expect(200);
    let spec = &server.get("/v1/queues/orders").await.expect(200).json()["spec"];
    assert_eq!((&spec["max_attempts"], &spec["lease_ms"]), (&json!(6), &json!(1000)));
    server.call("PATCH", "/v1/queues/orders", "", r#"{"max_attempts":null}"#).await.expect(200);
    let spec = &server.get("/v1/queues/orders").await.expect(200).json()["spec"];
    assert_eq!((&spec["max_attempts"], &spec["lease_ms"]), (&json!(null), &json!(1000)));
    server.end().await;
}

#[tokio::test]
async fn what_cannot_be_declared_is_refused_with_the_rule() {
    let server = Server::start().await;
    for (path, body, status, part) in [
        ("/v1/queues/%24x", "{}", 422, "reserved"),
        ("/v1/queues/a%20b", "{}", 422, "character"),
        ("/v1/queues/%ff", "{}", 400, "UTF-8"),
        ("/v1/queues/q", r#"{"max_mesages":1}"#, 400, "max_mesages"),
        ("/v1/queues/q", "[]", 400, "an object"),
        ("/v1/queues/q", r#"{"lease_ms":0}"#, 422, "lease_ms"),
        ("/v1/queues/q", r#"{"exclusive":true}"#, 422, "exclusive"),
        ("/v1/queues/q?chang=true", "{}", 400, "chang"),
        ("/v1/queues/q?change=yes", "{}", 400, "change"),
        ("/v1/topics/t", r#"{"partitions":0}"#, 422, "partitions"),
        ("/v1/topics/t", r#"{"partitions":1"#, 400, "column"),
        ("/v1/subscriptions/s", "{}", 400, "topic"),
    ] {
        let answer = server.put(path, body).await.expect(status);
        assert_eq!(answer.header("content-type"), Some("application/problem+json"));
        assert!(answer.text().contains(part), "{path} {body}: {}", answer.text());
    }
    let answer = server.call("PUT", "/v1/queues/q", "content-type: text/csv\r\n", "{}").await;
    answer.expect(415);
    server.end().await;
}

#[tokio::test]
async fn lists_come_in_pages_in_order_of_names() {
    let server = Server::start().await;
    for name in ["b", "a%2Fb", "c"] {
        server.put(&format!("/v1/topics/{name}"), r#"{"partitions":2}"#).await.expect(201);
    }
    let page = server.get("/v1/topics?limit=2").await.expect(200).json();
    let names = |page: &serde_json::Value| {
        let items = page["items"].as_array().expect("items").clone();
        items.into_iter().map(|item| item["name"].as_str().expect("a name").to_owned()).collect::<Vec<_>>()
    };
    assert_eq!((names(&page), &page["next"]), (vec!["a/b".into(), "b".into()], &json!("b")));
    let page = server.get("/v1/topics?limit=2&after=b").await.expect(200).json();
    assert_eq!((names(&page), page.get("next")), (vec!["c".to_owned()], None));
    server.get("/v1/topics?limit=1000").await.expect(200);
    server.get("/v1/topics?limit=1001").await.expect(422);
    server.get("/v1/topics?limit=0").await.expect(422);
    server.end().await;
}

#[tokio::test]
async fn deletion_and_purge_say_how_many_messages_went_and_keep_their_conditions() {
    let server = Server::start().await;
    server.put("/v1/queues/q", "").await.expect(201);
    server.lines("/v1/queues/q/messages", "{}\n{}\n{}").await.expect(200);
    server.call("DELETE", "/v1/queues/q?if_empty=true", "", "").await.expect(409);
    assert_eq!(server.post("/v1/queues/q/purge", "").await.expect(200).json(), json!({"removed": 3}));
    server.lines("/v1/queues/q/messages", "{}").await.expect(200);
    let removed = server.call("DELETE", "/v1/queues/q", "", "").await.expect(200).json();
    assert_eq!(removed, json!({"removed": 1}));
    server.get("/v1/queues/q").await.expect(404);
    server.post("/v1/queues/q/purge", "").await.expect(404);
    server.put("/v1/topics/t", "").await.expect(201);
    server.put("/v1/subscriptions/s", r#"{"topic":"t"}"#).await.expect(201);
    server.call("DELETE", "/v1/topics/t?if_unused=true", "", "").await.expect(409);
    server.call("DELETE", "/v1/subscriptions/s", "", "").await.expect(200);
    server.call("DELETE", "/v1/topics/t?if_unused=true", "", "").await.expect(200);
    server.end().await;
}

#[tokio::test]
async fn wrong_paths_and_methods_are_problems_too() {
    let server = Server::start().await;
    let problem = server.get("/v2/queues").await.expect(404).json();
    assert_eq!(problem["instance"], "/v2/queues");
    let answer = server.call("DELETE", "/v1/queues", "", "").await.expect(405);
    assert!(answer.header("allow").is_some_and(|allow| allow.contains("GET")), "{}", answer.text());
    server.end().await;
}

#[tokio::test]
async fn health_figures_and_description_are_served() {
    let server = Server::start().await;
    server.put("/v1/queues/q", "").await.expect(201);
    server.lines("/v1/queues/q/messages", "{}\n{}").await.expect(200);
    server.get("/livez").await.expect(200);
    server.get("/readyz").await.expect(200);
    server.get("/").await.expect(200);
    let status = server.get("/v1/status").await.expect(200).json();
    // The queue, and the six routes that every virtual host has.
    assert_eq!((&status["entities"], &status["draining"]), (&json!(7), &json!(false)));
    let metrics = server.get("/metrics").await.expect(200).text();
    assert!(metrics.contains("waystation_queue_messages_ready{queue=\"q\"} 2"), "{metrics}");
    assert!(metrics.contains("waystation_queue_published_total{queue=\"q\"} 2"), "{metrics}");
    let description = server.get("/openapi.json").await.expect(200).json();
    assert!(description["paths"]["/v1/queues/{name}"]["put"].is_object());
    server.end().await;
}
