//! Are pushes declared, shown, changed, listed, paused and removed over HTTP, by those who may, and with errors that say what to mend?

mod common;

use common::{Answer, Server};
use serde_json::{Value, json};
use waystation_access::{TokenEntry, new_token};
use waystation_http::Limits;

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

async fn ask(server: &Server, method: &str, path: &str, body: Option<Value>, token: &str) -> Answer {
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let who = if token.is_empty() { String::new() } else { format!("authorization: Bearer {token}\r\n") };
    let head = format!("content-type: application/json\r\n{who}");
    server.call(method, path, &head, body).await
}

fn spec() -> Value {
    json!({"queue": "work", "url": "https://a.example/hook", "secrets": [SECRET], "headers": {"authorization": "Bearer hunter2"}})
}

async fn server(tokens: Vec<TokenEntry>) -> Server {
    Server::with(Limits::default(), tokens).await
}

#[tokio::test]
async fn a_push_is_declared_shown_without_secrets_changed_paused_and_removed() {
    let server = server(vec![]).await;
    for (queue, body) in [("dead", json!({})), ("work", json!({"dead_letter": "dead"}))] {
        ask(&server, "PUT", &format!("/v1/queues/{queue}"), Some(body), "").await.expect(201);
    }
    let path = "/v1/pushes/p";
    ask(&server, "GET", path, None, "").await.expect(404);
    ask(&server, "PUT", path, Some(spec()), "").await.expect(201);
    let again = ask(&server, "PUT", path, Some(spec()), "").await.expect(200);
    assert_eq!(again.json()["declared"], "unchanged");
    let shown = ask(&server, "GET", path, None, "").await.expect(200);
    assert!(!shown.text().contains(SECRET) && !shown.text().contains("hunter2"), "{}", shown.text());
    assert_eq!(shown.json()["header_names"], json!(["authorization"]));
    // Without secrets and headers, those that are there stay.
    let changed = json!({"queue": "work", "url": "https://a.example/hook", "format": "structured"});
    ask(&server, "PUT", path, Some(changed.clone()), "").await.expect(409);
    let answer = ask(&server, "PUT", "/v1/pushes/p?change=true", Some(changed.clone()), "").await.expect(200);
    assert_eq!(answer.json()["declared"], "changed");
    let shown = ask(&server, "GET", path, None, "").await.json();
    assert_eq!((&shown["signatures"], &shown["header_names"]), (&json!(["v1"]), &json!(["authorization"])));
    ask(&server, "POST", "/v1/pushes/p/pause", None, "").await.expect(200);
    assert_eq!(ask(&server, "GET", path, None, "").await.json()["state"], "paused");
    let answer = ask(&server, "PUT", "/v1/pushes/p?change=true", Some(spec()), "").await.expect(200);
    assert_eq!(answer.json()["declared"], "changed");
    assert_eq!(
        ask(&server, "GET", path, None, "").await.json()["state"],
        "paused",
        "a change does not wake it"
    );
    ask(&server, "PUT", "/v1/pushes/q", Some(spec()), "").await.expect(201);
    let page = ask(&server, "GET", "/v1/pushes?limit=1", None, "").await.expect(200).json();
    assert_eq!((&page["items"][0]["name"], &page["next"]), (&json!("p"), &json!("p")));
    let page = ask(&server, "GET", "/v1/pushes?after=p", None, "").await.expect(200).json();
    assert_eq!((&page["items"][0]["name"], page.get("next")), (&json!("q"), None));
    ask(&server, "DELETE", path, None, "").await.expect(200);
    ask(&server, "DELETE", path, None, "").await.expect(404);
    for (field, value) in [
        ("url", json!("http://169.254.169.254/latest/meta-data")),
        ("secrets", json!(["hunter2"])),
        ("concurrency", json!(0)),
        ("headers", json!({"host": "x"})),
    ] {
        let mut wrong = spec();
        wrong[field] = value;
        let problem = ask(&server, "PUT", path, Some(wrong), "").await.expect(422);
        assert_eq!(problem.json()["field"], field);
        assert!(!problem.text().contains("hunter2"), "{}", problem.text());
    }
    ask(&server, "PUT", path, Some(json!({"queue": "work", "colour": 1})), "").await.expect(400);
    server.end().await;
}

#[tokio::test]
async fn a_push_is_for_those_who_may_configure_it_and_consume_what_it_delivers() {
    let entry = |name: &str, consume: &str, configure: &str| {
        let made = new_token(name).expect("randomness");
        let entry = TokenEntry {
            name: name.into(),
            hash: made.hash,
            publish: vec![],
            consume: vec![consume.into()],
            configure: vec![configure.into()],
        };
        (made.token, entry)
    };
    let (all, everything) = entry("all", "#", "#");
    let (reader, reads) = entry("reader", "work", "other");
    let (maker, makes) = entry("maker", "other", "p");
    let server = server(vec![everything, reads, makes]).await;
    for (queue, body) in [("dead", json!({})), ("work", json!({}))] {
        ask(&server, "PUT", &format!("/v1/queues/{queue}"), Some(body), &all).await.expect(201);
    }
    let path = "/v1/pushes/p";
    let mut spec = spec();
    let missing = |answer: Answer| answer.expect(403).json()["permission"].clone();
    assert_eq!(missing(ask(&server, "PUT", path, Some(spec.clone()), &reader).await), "configure:p");
    assert_eq!(missing(ask(&server, "PUT", path, Some(spec.clone()), &maker).await), "consume:work");
    spec["dead_letter"] = json!("dead");
    assert_eq!(missing(ask(&server, "PUT", path, Some(spec.clone()), &all).await), "publish:dead");
    ask(&server, "GET", path, None, &reader).await.expect(403);
    ask(&server, "POST", "/v1/pushes/p/test", None, &reader).await.expect(403);
    ask(&server, "DELETE", path, None, &reader).await.expect(403);
    server.end().await;
}

#[tokio::test]
async fn a_dry_run_says_what_would_be_done_and_does_nothing() {
    let server = server(vec![]).await;
    let operation = |n: u64| json!({"timeout_ms": n});
    for (path, one, other) in [
        // Its queue need not be there yet.
        ("/v1/pushes/p", spec(), json!({"queue": "work", "url": "https://a.example/hook", "format": "raw"})),
        ("/v1/operations/o", operation(5), operation(6)),
    ] {
        let dry = async |query: &str, body: &Value| {
            ask(&server, "PUT", &format!("{path}?dry_run=true{query}"), Some(body.clone()), "").await
        };
        assert_eq!(dry("", &one).await.expect(200).json()["declared"], "created");
        ask(&server, "GET", path, None, "").await.expect(404);
        ask(&server, "PUT", "/v1/queues/work", Some(json!({"dead_letter": "dead"})), "").await;
        ask(&server, "PUT", path, Some(one.clone()), "").await.expect(201);
        assert_eq!(dry("", &one).await.expect(200).json()["declared"], "unchanged");
        dry("", &other).await.expect(409);
        assert_eq!(dry("&change=true", &other).await.expect(200).json()["declared"], "changed");
        let again = ask(&server, "PUT", path, Some(one), "").await.expect(200);
        assert_eq!(again.json()["declared"], "unchanged", "nothing was changed");
    }
    let without = json!({"queue": "work", "url": "https://a.example/hook"});
    let refused = ask(&server, "PUT", "/v1/pushes/new?dry_run=true", Some(without), "").await.expect(422);
    assert!(refused.text().contains("waystation webhook secret"), "{}", refused.text());
}
