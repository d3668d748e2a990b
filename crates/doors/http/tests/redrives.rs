//! Who may see dead letters, and what may he redrive? And what is said to bad requests?

mod common;

use common::{Answer, Server, until};
use serde_json::{Value, json};
use waystation_access::{TokenEntry, new_token};

/// A token that may do this, with the header that shows it.
fn token(name: &str, publish: &[&str], consume: &[&str]) -> (TokenEntry, String) {
    let made = new_token(name).expect("randomness");
    let patterns = |all: &[&str]| all.iter().map(|one| (*one).to_owned()).collect();
    let entry = TokenEntry {
        name: name.into(),
        hash: made.hash,
        publish: patterns(publish),
        consume: patterns(consume),
        configure: Vec::new(),
    };
    (entry, format!("authorization: Bearer {}\r\n", made.token))
}

async fn ask(server: &Server, method: &str, path: &str, who: &str, body: &Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    server.call(method, path, &format!("{who}content-type: application/json\r\n"), body).await
}

/// A dead letter of each of two queues, both in `dead`.
async fn prepare(server: &Server, all: &str) {
    ask(server, "PUT", "/v1/queues/dead", all, &json!({})).await.expect(201);
    for queue in ["eu", "us"] {
        let spec = json!({"dead_letter": "dead"});
        ask(server, "PUT", &format!("/v1/queues/{queue}"), all, &spec).await.expect(201);
        ask(server, "POST", &format!("/v1/queues/{queue}/messages"), all, &json!({"n": 1})).await;
        let path = format!("/v1/queues/{queue}/receive?wait_ms=5000");
        let page = ask(server, "POST", &path, all, &Value::Null).await.expect(200).json();
        let message = &page["messages"][0];
        let reject =
            json!({"tag": message["tag"], "attempt": message["attempt"], "outcome": "reject", "error": "no"});
        let settle = json!({"settlements": [reject]});
        ask(server, "POST", &format!("/v1/queues/{queue}/settle"), all, &settle).await.expect(200);
    }
    until("both are dead", async || {
        let info = ask(server, "GET", "/v1/queues/dead", all, &Value::Null).await.expect(200).json();
        info["ready"] == 2
    })
    .await;
}

#[tokio::test]
async fn who_may_not_consume_sees_nothing_and_who_may_not_publish_brings_nothing_there() {
    let (all, as_all) = token("all", &["#"], &["#"]);
    let (eu, as_eu) = token("eu", &["eu"], &["dead"]);
    let (none, as_none) = token("none", &["#"], &["other"]);
    let (maker, as_maker) = token("maker", &["#"], &["#"]);
    let maker = TokenEntry { configure: vec!["#".to_owned()], ..maker };
    let server = Server::with(waystation_http::Limits::default(), vec![all, eu, none, maker]).await;
    prepare(&server, &as_maker).await;

    let groups = ask(&server, "GET", "/v1/dead-letters", &as_eu, &Value::Null).await.expect(200).json();
    assert_eq!(
        (&groups["messages"], &groups["groups"][0]["origins"]),
        (&json!(2), &json!({"eu": 1, "us": 1}))
    );
    let group = groups["groups"][0]["id"].as_str().expect("an id").to_owned();
    let hidden = ask(&server, "GET", "/v1/dead-letters", &as_none, &Value::Null).await.expect(200).json();
    assert_eq!(hidden["messages"], 0);
    ask(&server, "GET", "/v1/dead-letters?queue=dead", &as_none, &Value::Null).await.expect(403);
    ask(&server, "GET", &format!("/v1/dead-letters/{group}"), &as_none, &Value::Null).await.expect(404);
    let everything = json!({"from": ["dead"], "which": {"all": true}});
    ask(&server, "POST", "/v1/redrives", &as_none, &everything).await.expect(403);
    let elsewhere = json!({"from": ["dead"], "which": {"all": true}, "to": "us"});
    let problem = ask(&server, "POST", "/v1/redrives", &as_eu, &elsewhere).await.expect(403).json();
    assert_eq!(problem["permission"], "publish:us");

    let preview =
        ask(&server, "POST", "/v1/redrives?dry_run=true", &as_eu, &everything).await.expect(200).json();
    assert_eq!((&preview["messages"], &preview["targets"]), (&json!(2), &json!({"eu": 1})));
    let begun = ask(&server, "POST", "/v1/redrives", &as_eu, &everything).await.expect(202);
    let path = begun.header("location").expect("a place").to_owned();
    until("it has ended", async || {
        ask(&server, "GET", &path, &as_all, &Value::Null).await.expect(200).json()["state"] == "completed"
    })
    .await;
    let done = ask(&server, "GET", &path, &as_eu, &Value::Null).await.expect(200).json();
    assert_eq!((&done["moved"], &done["targets"], &done["by"]), (&json!(1), &json!({"eu": 1}), &json!("eu")));
    let left: Vec<&String> = done["left"].as_object().expect("reasons").keys().collect();
    assert!(left.len() == 1 && left[0].contains("may not publish to 'us'"), "{done}");
    for (method, path) in [("GET", path.clone()), ("POST", format!("{path}/undo"))] {
        ask(&server, method, &path, &as_none, &Value::Null).await.expect(403);
    }
    let listed = ask(&server, "GET", "/v1/redrives", &as_none, &Value::Null).await.expect(200).json();
    assert_eq!(listed["items"], json!([]));
    server.end().await;
}

#[tokio::test]
async fn who_may_publish_to_a_queue_brings_nothing_to_a_subscription_of_its_name() {
    let (all, as_all) = token("all", &["#"], &["#"]);
    let (eu, as_eu) = token("eu", &["eu"], &["dead"]);
    let (reader, as_reader) = token("reader", &["events"], &["dead"]);
    let all = TokenEntry { configure: vec!["#".to_owned()], ..all };
    let server = Server::with(waystation_http::Limits::default(), vec![all, eu, reader]).await;
    prepare(&server, &as_all).await;
    ask(&server, "PUT", "/v1/topics/events", &as_all, &json!({})).await.expect(201);
    let spec = json!({"topic": "events", "dead_letter": "dead"});
    ask(&server, "PUT", "/v1/subscriptions/eu", &as_all, &spec).await.expect(201);
    ask(&server, "POST", "/v1/topics/events/messages", &as_all, &json!({"n": 1})).await;
    let path = "/v1/subscriptions/eu/receive?wait_ms=5000";
    let page = ask(&server, "POST", path, &as_all, &Value::Null).await.expect(200).json();
    let message = &page["messages"][0];
    let reject = json!({"tag": message["tag"], "attempt": message["attempt"], "outcome": "reject"});
    let settle = json!({"settlements": [reject]});
    ask(&server, "POST", "/v1/subscriptions/eu/settle", &as_all, &settle).await.expect(200);
    until("all are dead", async || {
        let info = ask(&server, "GET", "/v1/queues/dead", &as_all, &Value::Null).await.expect(200).json();
        info["ready"] == 3
    })
    .await;
    let everything = json!({"from": ["dead"], "which": {"all": true}});
    for (who, targets) in [
        (&as_all, json!({"eu": 1, "us": 1, "subscription eu": 1})),
        (&as_eu, json!({"eu": 1})),
        (&as_reader, json!({"subscription eu": 1})),
    ] {
        let preview = ask(&server, "POST", "/v1/redrives?dry_run=true", who, &everything).await;
        let preview = preview.expect(200).json();
        assert_eq!(preview["targets"], targets, "{preview:#}");
    }
    server.end().await;
}

#[tokio::test]
async fn what_cannot_be_meant_is_refused_with_its_field() {
    let server = Server::start().await;
    server.put("/v1/queues/dead", "").await.expect(201);
    for (body, status, field) in [
        (r#"{"from": ["dead"]}"#, 422, Some("which")),
        (r#"{"from": ["dead"], "which": {"all": true}, "to": "dead"}"#, 422, Some("to")),
        (r#"{"from": ["dead"], "which": {"all": true}, "rate": 0}"#, 422, Some("rate")),
        (r#"{"from": ["dead"], "which": {"filter": {"all": []}}}"#, 422, Some("which.filter")),
        (r#"{"from": ["dead"], "which": {"all": true}, "edit": {"jq": "("}}"#, 422, Some("edit.jq")),
        (r#"{"from": ["gone"], "which": {"all": true}}"#, 404, None),
        (r#"{"form": ["dead"]}"#, 400, None),
        ("[", 400, None),
    ] {
        let problem = server.post("/v1/redrives", body).await.expect(status).json();
        assert_eq!(problem["field"].as_str(), field, "{body}: {problem}");
    }
    for (path, status) in [
        ("/v1/dead-letters?limit=0", 422),
        ("/v1/dead-letters?limit=1001", 422),
        ("/v1/dead-letters?limit=1000", 200),
        ("/v1/dead-letters?queue=gone", 404),
        ("/v1/dead-letters/x?after=y", 422),
        ("/v1/dead-letters/x?after=1@$x", 422),
        ("/v1/redrives/x", 404),
        ("/v1/redrives/x/originals/y", 404),
        ("/v1/alert-rules/x", 404),
        ("/v1/alerts", 200),
    ] {
        server.get(path).await.expect(status);
    }
    server.put("/v1/alert-rules/r", r#"{"on": "a", "lag": {"age_ms": 1}}"#).await.expect(422);
    server.put("/v1/alert-rules/r?dry_run=true", r#"{"on": "a"}"#).await.expect(200);
    server.put("/v1/alert-rules/r", r#"{"on": "a"}"#).await.expect(201);
    server.put("/v1/alert-rules/r", r#"{"on": "b"}"#).await.expect(409);
    server.put("/v1/alert-rules/r?change=true", r#"{"on": "b"}"#).await.expect(200);
    assert_eq!(server.get("/v1/alert-rules/r").await.expect(200).json()["spec"], json!({"on": "b"}));
    server.call("DELETE", "/v1/alert-rules/r", "", "").await.expect(200);
    server.end().await;
}
