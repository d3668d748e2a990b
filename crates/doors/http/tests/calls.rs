//! Is an operation called over HTTP as docs/calls.md promises: accepted, followed, answered, cancelled, once for each key?

mod common;

use common::{Answer, PATIENCE, Server, until};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use waystation_access::{TokenEntry, new_token};
use waystation_http::Limits;

async fn server(operation: &str) -> Server {
    let server = Server::start().await;
    server.put("/v1/operations/op", operation).await.expect(201);
    server
}

/// Starts a call and gives its path.
async fn call(server: &Server, head: &str, body: &str) -> String {
    let answer = server.call("POST", "/v1/calls/op", head, body).await.expect(202);
    answer.header("location").expect("a location").to_owned()
}

async fn receive(server: &Server) -> Value {
    let page = server.post("/v1/operations/op/receive?wait_ms=5000", "").await.expect(200).json();
    page["calls"][0].clone()
}

#[tokio::test]
async fn a_call_is_accepted_worked_on_and_followed_to_its_result() {
    let server = server("").await;
    let accepted =
        server.call("POST", "/v1/calls/op", "content-type: text/plain\r\n", "hello").await.expect(202);
    let path = accepted.header("location").expect("a location").to_owned();
    assert_eq!((accepted.header("retry-after"), accepted.header("etag")), (Some("1"), Some("\"1\"")));
    let shown = accepted.json();
    assert_eq!((&shown["state"], &shown["links"]["self"]), (&json!("queued"), &json!(path)));
    let queued = server.get(&path).await.expect(200).json();
    assert_eq!(
        (&queued["state"], &queued["place"], &queued["attempt"]),
        (&json!("queued"), &json!(1), &json!(0))
    );
    server.get(&format!("{path}/result")).await.expect(409);
    let work = receive(&server).await;
    let request = &work["request"];
    assert_eq!((&request["body_text"], &request["content_type"]), (&json!("hello"), &json!("text/plain")));
    assert_eq!((&request["reply_to"], &request["correlation_id"]), (&json!("$calls.replies"), &work["id"]));
    let progress = r#"{"attempt":1,"percent":40,"note":"half","lease_ms":60000}"#;
    let stepped = server.post(&format!("{path}/progress"), progress).await.expect(200).json();
    assert!(stepped["lease_until"].as_u64() > work["lease_until"].as_u64(), "{stepped}");
    let working = server.get(&path).await.expect(200).json();
    assert_eq!(
        (&working["state"], &working["progress"]),
        (&json!("working"), &json!({"percent": 40, "note": "half"}))
    );
    let head = "content-type: application/json\r\nws-header-x-a: b\r\n";
    let done = server.call("POST", &format!("{path}/complete?attempt=1&status=201"), head, "[1]").await;
    assert_eq!(done.expect(200).json(), json!({"state": "succeeded"}));
    let finished = server.get(&path).await.expect(303);
    assert_eq!(finished.header("location"), Some(format!("{path}/result").as_str()));
    let result = server.get(&format!("{path}/result")).await.expect(201);
    assert_eq!((result.header("content-type"), result.header("x-a")), (Some("application/json"), Some("b")));
    assert_eq!(&result.body, b"[1]");
    let shown = server.get(&format!("{path}?follow=false")).await.expect(200).json();
    assert_eq!((&shown["state"], &shown["result"]["status"]), (&json!("succeeded"), &json!(201)));
    let again = server.post(&format!("{path}/complete"), "x").await.expect(409);
    assert!(again.text().contains("call-closed"), "{}", again.text());
    server.end().await;
}

#[tokio::test]
async fn whoever_prefers_to_wait_has_the_result_as_a_plain_answer_or_202() {
    let server = server("").await;
    let soon = "prefer: wait=20, respond-async\r\n";
    let (answer, ()) = tokio::join!(server.call("POST", "/v1/calls/op", soon, "x"), async {
        let work = receive(&server).await;
        let path = format!("/v1/calls/{}/complete?status=418", work["id"].as_str().expect("an id"));
        server.call("POST", &path, "content-type: text/plain\r\n", "teapot").await.expect(200);
    });
    let answer = answer.expect(418);
    assert_eq!((answer.header("preference-applied"), &answer.body[..]), (Some("wait=20"), &b"teapot"[..]));
    assert_eq!(answer.header("ws-call-state"), Some("failed"));
    let late =
        server.call("POST", "/v1/calls/op", "prefer: respond-async, wait=1\r\n", "x").await.expect(202);
    assert_eq!(late.header("preference-applied"), Some("respond-async, wait=1"));
    let plain = server.post("/v1/calls/op", "x").await.expect(202);
    assert_eq!(plain.header("preference-applied"), None);
    server.end().await;
}

#[tokio::test]
async fn a_long_poll_ends_with_the_outcome_and_with_an_etag_at_the_next_step() {
    let server = server(r#"{"finished":"inline"}"#).await;
    let path = call(&server, "", "x").await;
    let known = "if-none-match: \"1\"\r\n";
    server.call("GET", &path, known, "").await.expect(304);
    let (step, work) = tokio::join!(
        async { server.call("GET", &format!("{path}?wait=20"), known, "").await.expect(200).json() },
        receive(&server)
    );
    assert_eq!((&step["state"], &step["version"]), (&json!("working"), &json!(2)));
    let poll = format!("{path}?wait=20");
    let (end, ()) = tokio::join!(server.get(&poll), async {
        let path = format!("/v1/calls/{}/fail", work["id"].as_str().expect("an id"));
        server.post(&path, r#"{"attempt":1,"error":"no stock"}"#).await.expect(200);
    });
    let problem = end.expect(500);
    assert_eq!(problem.header("content-type"), Some("application/problem+json"));
    let problem = problem.json();
    assert_eq!((&problem["detail"], &problem["instance"]), (&json!("no stock"), &json!(path)));
    server.get(&format!("{path}?wait=61")).await.expect(422);
    server.get(&format!("{path}?wait=60")).await.expect(500);
    server.end().await;
}

#[tokio::test]
async fn a_follower_hears_each_state_and_comes_back_where_it_was() {
    let server = server("").await;
    let path = call(&server, "", "x").await;
    let mut stream = server.connect().await;
    let head = format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\nconnection: close\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).await.expect("written");
    let mut text = String::new();
    read_until(&mut stream, &mut text, "event: queued").await;
    let work = receive(&server).await;
    read_until(&mut stream, &mut text, "event: working").await;
    let complete = format!("{path}/complete?attempt={}", work["attempt"]);
    server.post(&complete, "done").await.expect(200);
    read_until(&mut stream, &mut text, "event: succeeded").await;
    // The end of the stream.
    let rest = common::answer_text(&mut stream).await;
    assert!((text.clone() + &rest).contains("id: 3\n"), "{text}{rest}");
    let events = |last: &str| format!("accept: text/event-stream\r\nlast-event-id: {last}\r\n");
    server.call("GET", &path, &events("3"), "").await.expect(204);
    let rest = server.call("GET", &path, &events("2"), "").await.expect(200).text();
    assert!(rest.contains("event: succeeded") && !rest.contains("event: working"), "{rest}");
    server.end().await;
}

async fn read_until(stream: &mut tokio::net::TcpStream, text: &mut String, part: &str) {
    let mut buffer = [0; 4096];
    while !text.contains(part) {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("in time");
        let read = read.expect("read");
        assert!(read > 0, "{part} never came: {text}");
        text.push_str(&String::from_utf8_lossy(&buffer[..read]));
    }
}

#[tokio::test]
async fn one_key_is_one_call_and_another_body_under_it_is_refused() {
    let server = server("").await;
    let key = "idempotency-key: \"4711\"\r\n";
    let (one, two) = tokio::join!(
        server.call("POST", "/v1/calls/op", key, "x"),
        server.call("POST", "/v1/calls/op", key, "x")
    );
    let (one, two) = (one.expect(202), two.expect(202));
    assert_eq!(one.header("location"), two.header("location"));
    let marks = [&one, &two].map(|it| it.header("idempotency-replayed").is_some());
    assert!(marks[0] != marks[1], "{marks:?}");
    let other = server.call("POST", "/v1/calls/op", key, "y").await.expect(422).json();
    assert_eq!(other["field"], "idempotency-key");
    let work = receive(&server).await;
    let path = format!("/v1/calls/{}/complete", work["id"].as_str().expect("an id"));
    server.post(&path, "done").await.expect(200);
    let head = format!("{key}prefer: wait=5\r\n");
    let replay = server.call("POST", "/v1/calls/op", &head, "x").await.expect(200);
    assert_eq!((replay.header("idempotency-replayed"), &replay.body[..]), (Some("true"), &b"done"[..]));
    assert_eq!(server.get("/v1/queues/op").await.expect(200).json()["ready"], 0);
    let long = |bytes: usize| format!("idempotency-key: {}\r\n", "k".repeat(bytes));
    server.call("POST", "/v1/calls/op", &long(255), "x").await.expect(202);
    server.call("POST", "/v1/calls/op", &long(256), "x").await.expect(422);
    server.end().await;
}

#[tokio::test]
async fn a_cancelled_call_says_whether_it_still_could_be_and_a_forgotten_one_is_gone() {
    let server = server(r#"{"retention_ms":300}"#).await;
    let path = call(&server, "", "x").await;
    let cancelled = server.call("DELETE", &path, "", "").await.expect(200).json();
    assert_eq!(cancelled, json!({"cancelled": true, "state": "cancelled", "before": "queued"}));
    let again = server.call("DELETE", &path, "", "").await.expect(200).json();
    assert_eq!(again, json!({"cancelled": false, "state": "cancelled", "before": "cancelled"}));
    until("the call is forgotten", async || server.get(&path).await.status == 410).await;
    server.get("/v1/calls/0198c0de-0000-7000-8000-000000000000").await.expect(404);
    server.get("/v1/calls/nonsense").await.expect(404);
    server.end().await;
}

#[tokio::test]
async fn a_reply_published_by_http_completes_a_call_and_nothing_else_of_ours_is_written_to() {
    let server = server("").await;
    let path = call(&server, "", "x").await;
    let id = path.rsplit('/').next().expect("an id");
    let head = format!("correlation-id: {id}\r\nws-header-call-status: 202\r\n");
    server.call("POST", "/v1/queues/$calls.replies/messages", &head, "ok").await.expect(200);
    let result = server.get(&format!("{path}?wait=20")).await.expect(303);
    assert_eq!(result.json()["result"]["status"], 202);
    server.post("/v1/queues/$calls.callbacks/messages", "x").await.expect(422);
    server.call("DELETE", "/v1/queues/$calls.replies", "", "").await.expect(422);
    server.post("/v1/topics/$calls/messages", "x").await.expect(422);
    server.end().await;
}

#[tokio::test]
async fn bounds_and_wrong_words_are_refused_with_what_to_mend() {
    let server = server(r#"{"body_bytes_max":4}"#).await;
    server.post("/v1/calls/op", "1234").await.expect(202);
    server.post("/v1/calls/op", "12345").await.expect(413);
    server.post("/v1/calls/other", "").await.expect(404);
    let refused = |answer: Answer, part: &str| assert!(answer.text().contains(part), "{}", answer.text());
    let callback = server.call("POST", "/v1/calls/op", "ws-callback-url: http://127.0.0.1/\r\n", "").await;
    refused(callback.expect(422), "callback_allow");
    refused(server.call("POST", "/v1/calls/op", "ws-delay-ms: 5\r\n", "").await.expect(422), "delayed");
    refused(server.put("/v1/operations/x", r#"{"timeout":1}"#).await.expect(400), "timeout");
    refused(server.put("/v1/operations/x", r#"{"timeout_ms":0}"#).await.expect(422), "timeout_ms");
    refused(server.put("/v1/operations/op", "{}").await.expect(409), "differs");
    server.put("/v1/operations/op?change=true", "{}").await.expect(200);
    server.post("/v1/operations/op/receive?max=101", "").await.expect(422);
    server.post("/v1/operations/op/receive?max=100", "").await.expect(200);
    let page = server.get("/v1/calls?state=queued").await.expect(200).json();
    assert_eq!(page["items"].as_array().map(Vec::len), Some(0));
    let page = server.get("/v1/calls?operation=op&limit=1000").await.expect(200).json();
    assert_eq!(
        (page["items"].as_array().map(Vec::len), &page["items"][0]["state"]),
        (Some(1), &json!("working"))
    );
    server.get("/v1/calls?limit=1001").await.expect(422);
    server.get("/v1/calls?state=lost").await.expect(400);
    let said = server.get("/v1/calls?after=nothing").await.expect(422).json();
    assert_eq!(said["field"], "after");
    assert_eq!(server.get("/v1/operations").await.expect(200).json()["items"][0]["name"], "op");
    server.call("DELETE", "/v1/operations/op", "", "").await.expect(200);
    server.get("/v1/operations/op").await.expect(404);
    server.end().await;
}

#[tokio::test]
async fn who_may_call_may_not_work_and_the_other_way_round() {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let entry = |name: &str, publish: &[&str], consume: &[&str], configure: &[&str]| {
        let new = new_token(name).expect("a token");
        let hash = new.hash.clone();
        let (publish, consume, configure) = (names(publish), names(consume), names(configure));
        (new.token, TokenEntry { name: name.into(), hash, publish, consume, configure })
    };
    let (caller, may_call) = entry("caller", &["op"], &[], &[]);
    let (worker, may_work) = entry("worker", &[], &["op"], &[]);
    let (admin, may_all) = entry("admin", &["#"], &["#"], &["#"]);
    let tokens = vec![may_call, may_work, may_all];
    let server = Server::with(Limits::default(), tokens).await;
    let by = |token: &str| format!("authorization: Bearer {token}\r\n");
    server.call("PUT", "/v1/operations/op", &by(&caller), "").await.expect(403);
    server.call("PUT", "/v1/operations/op", &by(&admin), "").await.expect(201);
    server.call("POST", "/v1/calls/op", &by(&worker), "x").await.expect(403);
    let accepted = server.call("POST", "/v1/calls/op", &by(&caller), "x").await.expect(202);
    let path = accepted.header("location").expect("a location").to_owned();
    server.call("POST", "/v1/operations/op/receive", &by(&caller), "").await.expect(403);
    server.call("POST", &format!("{path}/complete"), &by(&caller), "").await.expect(403);
    server.call("DELETE", &path, &by(&worker), "").await.expect(403);
    server.call("GET", &path, &by(&worker), "").await.expect(200);
    server.call("POST", "/v1/operations/op/receive", &by(&worker), "").await.expect(200);
    server.call("POST", &format!("{path}/complete"), &by(&worker), "ok").await.expect(200);
    server.call("GET", &path, &by(&caller), "").await.expect(303);
    server.end().await;
}

#[tokio::test]
async fn a_failed_call_is_tried_anew_once_and_both_calls_show_it() {
    let server = server("").await;
    let path = call(&server, "content-type: text/plain\r\n", "hello").await;
    let early = server.post(&format!("{path}/retry"), "").await.expect(409);
    assert!(early.text().contains("not-ready"), "{}", early.text());
    server.post(&format!("{path}/fail"), r#"{"error":"no stock"}"#).await.expect(200);
    let shown = server.get(&format!("{path}?follow=false")).await.expect(200).json();
    let link = shown["links"]["retry"].as_str().expect("a link").to_owned();
    let again = server.post(&link, "").await.expect(202);
    let new = again.header("location").expect("a location").to_owned();
    let id = |path: &str| path.rsplit('/').next().expect("an id").to_owned();
    assert_eq!((&again.json()["state"], &again.json()["retry_of"]), (&json!("queued"), &json!(id(&path))));
    let later = server.post(&link, "").await.expect(202);
    assert_eq!((later.header("location"), later.header("idempotency-replayed")), (Some(&*new), Some("true")));
    let shown = server.get(&format!("{path}?follow=false")).await.expect(200).json();
    assert_eq!((&shown["state"], &shown["retried_as"]), (&json!("failed"), &json!(id(&new))));
    assert!(shown["links"]["retry"].is_null(), "{shown}");
    let list = server.get("/v1/calls?retried=false").await.expect(200).json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(1), "{list}");
    // The request that is kept is the same but for what belongs to the call.
    assert_eq!(receive(&server).await["request"]["body_text"], "hello");
    server.post(&format!("{new}/complete"), "done").await.expect(200);
    let refused = server.post(&format!("{new}/retry"), "").await.expect(409);
    assert!(refused.text().contains("has succeeded"), "{}", refused.text());
    server.post("/v1/calls/nonsense/retry", "").await.expect(404);
    server.end().await;
}

#[tokio::test]
async fn secrets_of_an_operation_are_written_and_never_shown_and_without_any_it_is_warned() {
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let server = Server::start().await;
    let put = async |body: String| server.put("/v1/operations/op?change=true", &body).await;
    let allow = r#""callback_allow": ["https://a.example.com/*"]"#;
    let warned = put(format!("{{{allow}}}")).await.expect(201).json();
    assert!(warned["warnings"][0].as_str().is_some_and(|it| it.contains("callback_secrets")), "{warned}");
    let bad = put(format!(r#"{{{allow}, "callback_secrets": ["hunter2"]}}"#)).await.expect(422);
    assert!(!bad.text().contains("hunter2") && bad.text().contains("callback_secrets"), "{}", bad.text());
    let signed = put(format!(r#"{{{allow}, "callback_secrets": ["{SECRET}"]}}"#)).await.expect(200).json();
    assert_eq!(signed, json!({"declared": "changed"}));
    let shown = server.get("/v1/operations/op").await.expect(200);
    assert!(!shown.text().contains(SECRET), "{}", shown.text());
    assert_eq!(shown.json()["callback_signatures"], json!(["v1"]));
    // Left out they stay; an empty list takes them away.
    let kept = put(format!(r#"{{{allow}, "timeout_ms": 5000}}"#)).await.expect(200).json();
    assert_eq!(kept, json!({"declared": "changed"}));
    assert_eq!(put(format!(r#"{{{allow}, "timeout_ms": 5000}}"#)).await.json()["declared"], "unchanged");
    let gone = put(format!(r#"{{{allow}, "callback_secrets": []}}"#)).await.expect(200).json();
    assert!(gone["warnings"][0].is_string(), "{gone}");
    server.end().await;
}

#[tokio::test]
async fn callbacks_are_redriven_only_where_it_is_said_which() {
    let server = server("").await;
    let none = server.get("/v1/callbacks/dead").await.expect(200).json();
    assert_eq!(none, json!({"callbacks": [], "more": false}));
    let redrive = |body: &'static str| server.post("/v1/callbacks/redrive", body);
    assert!(redrive("{}").await.expect(422).text().contains("give 'ids'"));
    redrive(r#"{"every": true}"#).await.expect(400);
    for body in [r#"{"all": true}"#, r#"{"ids": ["x"]}"#, r#"{"operation": "op", "dry_run": true}"#] {
        assert_eq!(redrive(body).await.expect(200).json()["callbacks"], json!([]), "{body}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_message_on_an_intake_is_found_by_its_correlation_id() {
    let server = server(r#"{"intake":"op.requests"}"#).await;
    let head = "correlation-id: mine 1\r\ncontent-type: text/plain\r\n";
    server.call("POST", "/v1/queues/op.requests/messages", head, "hello").await.expect(200);
    until("the message is a call", || async {
        let found = server.get("/v1/calls?correlation_id=mine%201").await.expect(200).json();
        found["items"][0]["correlation_id"] == "mine 1"
    })
    .await;
    let work = receive(&server).await;
    assert_eq!((&work["request"]["body_text"], &work["attempt"]), (&json!("hello"), &json!(1)));
    let path = call(&server, "correlation-id: other\r\n", "by HTTP").await;
    let found = server.get("/v1/calls?correlation_id=other").await.expect(200).json();
    assert!(path.ends_with(found["items"][0]["id"].as_str().expect("an id")), "{found}");
    let wrong = server.put("/v1/operations/other", r#"{"intake":"op.requests"}"#).await.expect(422);
    assert!(wrong.text().contains("an intake has one operation"), "{}", wrong.text());
    server.end().await;
}
