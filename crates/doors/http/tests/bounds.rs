//! Do the door's bounds hold: slow, silent, too many, too large, foreign and unknown callers?

mod common;

use std::{io, sync::Arc, time::Duration};

use common::{Server, answer, until};
use proptest::prelude::*;
use serde_json::json;
use tokio::io::AsyncWriteExt;
use waystation_access::{TokenEntry, new_token};
use waystation_base::memory::Memory;
use waystation_host::MemoryBound;
use waystation_http::Limits;

fn limits(change: impl FnOnce(&mut Limits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits);
    limits
}

/// A process that uses just so much memory.
#[derive(Debug)]
struct Just(u64);

impl Memory for Just {
    fn used_bytes(&self) -> io::Result<u64> {
        Ok(self.0)
    }
}

#[tokio::test]
async fn with_memory_nearly_used_up_publishing_is_answered_with_503_and_when_to_come_back() {
    const USED: u64 = 1 << 20;
    let memory = Arc::new(MemoryBound::new(Arc::new(Just(USED)), 0));
    let server = Server::within(memory.clone()).await;
    server.put("/v1/queues/q", "").await.expect(201);
    server.post("/v1/queues/q/messages", "a").await.expect(200);
    memory.set_high_bytes(USED);
    let status = async || server.get("/v1/status").await.expect(200).json();
    until("the alarm", || async { status().await["memory_low"] == true }).await;
    let shown = status().await;
    let figures = (&shown["memory_used_bytes"], &shown["memory_high_bytes"], &shown["disk_low"]);
    assert_eq!(figures, (&json!(USED), &json!(USED), &json!(false)));
    let refused = server.post("/v1/queues/q/messages", "b").await.expect(503);
    assert!(refused.header("retry-after").is_some(), "{}", refused.text());
    let problem = refused.json();
    assert_eq!(problem["type"], "urn:waystation:problem:memory-low");
    assert!(problem["detail"].as_str().is_some_and(|it| it.contains("memory is low")), "{problem}");
    let ready = server.get("/readyz").await.expect(200).text();
    assert!(ready.ends_with("\r\nok, but memory is low: publishing is refused\n"), "{ready}");
    let metrics = server.get("/metrics").await.expect(200).text();
    for line in ["low 1", &format!("used_bytes {USED}"), &format!("high_bytes {USED}")] {
        assert!(metrics.contains(&format!("\nwaystation_memory_{line}\n")), "{metrics}");
    }
    assert_eq!(server.receive("/v1/queues/q/receive").await.len(), 1, "consuming goes on");
    memory.set_high_bytes(2 * USED);
    until("its end", || async { status().await["memory_low"] == false }).await;
    server.post("/v1/queues/q/messages", "b").await.expect(200);
    server.end().await;
}

#[tokio::test]
async fn a_head_that_trickles_is_answered_with_408_and_harms_nobody() {
    let server = Server::with(limits(|limits| limits.head_ms = 50), vec![]).await;
    let mut slow = server.connect().await;
    slow.write_all(b"GET /livez HTTP/1.1\r\nhos").await.expect("written");
    server.get("/livez").await.expect(200);
    let late = answer(&mut slow).await.expect(408);
    assert!(late.text().contains("urn:waystation:problem:timeout"), "{}", late.text());
    server.end().await;
}

#[tokio::test]
async fn a_body_that_stops_is_answered_with_408_and_its_whole_lines_are_kept() {
    let server = Server::with(limits(|limits| limits.body_ms = 50), vec![]).await;
    server.put("/v1/queues/q", "").await.expect(201);
    for (kind, body, ready) in [("text/plain", "abc", 0), ("application/x-ndjson", "{}\n{\"bo", 1)] {
        let mut slow = server.connect().await;
        let head = format!(
            "POST /v1/queues/q/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: {kind}\r\ncontent-length: 99\r\n\r\n{body}"
        );
        slow.write_all(head.as_bytes()).await.expect("written");
        answer(&mut slow).await.expect(408);
        assert_eq!(server.get("/v1/queues/q").await.json()["ready"], ready, "{kind}");
    }
    server.end().await;
}

/// Sends the body of a call in parts, with a pause before each; gives the status.
async fn in_parts(server: &Server, part: &str, count: usize, pause: Duration) -> u16 {
    let mut slow = server.connect().await;
    let length = part.len() * count;
    let head = format!(
        "POST /v1/calls/op HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n"
    );
    slow.write_all(head.as_bytes()).await.expect("written");
    let (mut reader, mut writer) = slow.split();
    let write = async {
        for _ in 0..count {
            tokio::time::sleep(pause).await;
            // Who has been answered is not listened to any more.
            if writer.write_all(part.as_bytes()).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    tokio::select! {
        answer = answer(&mut reader) => answer.status,
        () = write => 0,
    }
}

#[tokio::test]
async fn a_body_that_drips_is_answered_with_408_and_one_that_is_only_long_is_not() {
    let server = Server::with(limits(|limits| limits.body_ms = 200), vec![]).await;
    server.put("/v1/operations/op", "").await.expect(201);
    let pause = Duration::from_millis(40);
    assert_eq!(in_parts(&server, "x", 1000, pause).await, 408);
    assert_eq!(in_parts(&server, &"x".repeat(4096), 25, pause).await, 202);
    server.end().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_without_a_word() {
    let server = Server::with(limits(|limits| limits.idle_ms = 50), vec![]).await;
    let mut idle = server.connect().await;
    let mut bytes = Vec::new();
    use tokio::io::AsyncReadExt;
    tokio::time::timeout(common::PATIENCE, idle.read_to_end(&mut bytes))
        .await
        .expect("an end")
        .expect("a good one");
    assert!(bytes.is_empty(), "{}", String::from_utf8_lossy(&bytes));
    server.end().await;
}

#[tokio::test]
async fn one_connection_past_the_bound_is_turned_away() {
    let server = Server::with(limits(|limits| limits.connections_max = 2), vec![]).await;
    let (_first, mut second) = (server.connect().await, server.connect().await);
    second.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n").await.expect("written");
    let mut third = server.connect().await;
    let turned = answer(&mut third).await.expect(503);
    assert!(turned.header("retry-after").is_some());
    drop(second);
    common::until("there is room again", async || {
        let mut stream = server.connect().await;
        let _ =
            stream.write_all(b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await;
        answer(&mut stream).await.status == 200
    })
    .await;
    server.end().await;
}

#[tokio::test]
async fn one_wait_past_the_bound_is_told_to_come_back() {
    let server = Server::with(limits(|limits| limits.waits_max = 1), vec![]).await;
    server.put("/v1/queues/q", "").await.expect(201);
    let first = server.post("/v1/queues/q/receive?wait_ms=60000", "");
    let then = async {
        let waits = async || server.get("/v1/queues/q").await.json()["consumers"] == 1;
        common::until("the first waits", waits).await;
        let second = server.post("/v1/queues/q/receive?wait_ms=1", "").await.expect(429);
        assert!(second.header("retry-after").is_some());
        server.post("/v1/queues/q/messages", "x").await.expect(200);
    };
    let (first, ()) = tokio::join!(first, then);
    first.expect(200);
    server.end().await;
}

#[tokio::test]
async fn bodies_past_what_is_set_aside_for_them_are_refused_for_now() {
    let server = Server::with(limits(|limits| limits.buffered_bytes_max = 256 << 10), vec![]).await;
    server.put("/v1/queues/q", "").await.expect(201);
    server.post("/v1/queues/q/messages", vec![b'x'; 256 << 10]).await.expect(200);
    let refused = server.post("/v1/queues/q/messages", vec![b'x'; (256 << 10) + 1]).await.expect(503);
    assert!(refused.header("retry-after").is_some());
    // Streams need no more than a part of it, however long.
    let lines =
        "{\"body_text\":\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\"}\n".repeat(20_000);
    server.lines("/v1/queues/q/messages", lines).await.expect(200);
    server.end().await;
}

#[tokio::test]
async fn a_head_past_its_bound_is_answered_with_431() {
    let server = Server::start().await;
    let head = |bytes: usize| format!("x-long: {}\r\n", "x".repeat(bytes));
    server.call("GET", "/livez", &head(32 << 10), "").await.expect(200);
    server.call("GET", "/livez", &head(65 << 10), "").await.expect(431);
    server.call("GET", "/livez", &"x: y\r\n".repeat(301), "").await.expect(431);
    server.end().await;
}

#[tokio::test]
async fn several_requests_may_share_a_connection_and_come_at_once() {
    let server = Server::start().await;
    let mut stream = server.connect().await;
    let one = "GET /livez HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let last = "GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(format!("{one}{one}{last}").as_bytes()).await.expect("written");
    let all = answer(&mut stream).await;
    assert_eq!(all.text().matches("HTTP/1.1 200 OK").count(), 3, "{}", all.text());
    server.end().await;
}

#[tokio::test]
async fn foreign_web_pages_are_kept_out_of_a_server_without_tokens() {
    let server = Server::start().await;
    let evil = "GET /v1/queues HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n";
    let mut stream = server.connect().await;
    stream.write_all(evil.as_bytes()).await.expect("written");
    answer(&mut stream).await.expect(403);
    server.call("POST", "/v1/queues/q/purge", "origin: https://evil.example\r\n", "").await.expect(403);
    server.call("GET", "/v1/queues", "sec-fetch-site: cross-site\r\n", "").await.expect(403);
    server.end().await;
}

#[tokio::test]
async fn tokens_open_what_they_are_for_and_nothing_else() {
    let made = new_token("shop").expect("randomness");
    let entry = TokenEntry {
        name: "shop".into(),
        hash: made.hash,
        publish: vec!["orders.#".into()],
        consume: vec!["mine.*".into()],
        configure: vec!["mine.*".into()],
    };
    let server = Server::with(Limits::default(), vec![entry]).await;
    let bearer = format!("authorization: Bearer {}\r\n", made.token);
    let call = async |method: &str, path: &str, body: &str| server.call(method, path, &bearer, body).await;
    let unknown = server.get("/v1/queues").await.expect(401);
    assert!(unknown.header("www-authenticate").is_some_and(|challenge| challenge.starts_with("Bearer")));
    server.get("/readyz").await.expect(200);
    server.get("/metrics").await.expect(401);
    call("GET", "/metrics", "").await.expect(200);
    call("PUT", "/v1/queues/mine.a", "").await.expect(201);
    let problem = call("PUT", "/v1/queues/orders.a", "").await.expect(403).json();
    assert_eq!(problem["permission"], "configure:orders.a");
    // A name of one's own must not be a way to others' messages.
    call("PUT", "/v1/subscriptions/mine.s", r#"{"topic":"orders.#"}"#).await.expect(403);
    call("PUT", "/v1/queues/mine.b", r#"{"dead_letter":"bills"}"#).await.expect(403);
    call("PUT", "/v1/queues/mine.b", r#"{"dead_letter":"orders.dead"}"#).await.expect(201);
    call("POST", "/v1/queues/mine.a/messages", "x").await.expect(403);
    call("POST", "/v1/queues/orders.a/messages", "x").await.expect(404);
    call("POST", "/v1/queues/mine.a/receive", "").await.expect(200);
    call("POST", "/v1/queues/orders.a/receive", "").await.expect(403);
    call("GET", "/v1/queues/other", "").await.expect(403);
    let transaction = r#"{"publishes":[{"address":"bills","messages":[{}]}]}"#;
    call("POST", "/v1/transactions", transaction).await.expect(403);
    let list = call("GET", "/v1/queues", "").await.expect(200).json();
    assert_eq!(list["items"].as_array().map(Vec::len), Some(2));
    server.access.replace_tokens(vec![]).expect("none");
    call("GET", "/v1/queues", "").await.expect(401);
    server.end().await;
}

/// Something for every path, so that bytes reach every reader.
const TARGETS: &[(&str, &str, &str)] = &[
    ("PUT", "/v1/queues/x", ""),
    ("PATCH", "/v1/queues/q", ""),
    ("PUT", "/v1/subscriptions/x", ""),
    ("POST", "/v1/queues/q/messages", "content-type: application/x-ndjson\r\n"),
    ("POST", "/v1/queues/q/messages?atomic=true", "content-type: application/x-ndjson\r\n"),
    ("POST", "/v1/queues/q/messages", "content-type: application/cloudevents+json\r\n"),
    ("POST", "/v1/queues/q/messages", "content-type: application/cloudevents-batch+json\r\n"),
    ("POST", "/v1/queues/q/settle", ""),
    ("POST", "/v1/queues/q/extend", ""),
    ("POST", "/v1/subscriptions/s/seek", ""),
    ("POST", "/v1/transactions", ""),
];

/// Pieces that lead further into the readers than mere noise does.
const PIECES: &[&str] = &[
    "{",
    "}",
    "[",
    "]",
    ":",
    ",",
    "\"",
    "\n",
    "null",
    "1",
    "-1",
    "1e400",
    "\"tag\"",
    "\"attempt\"",
    "\"settlements\"",
    "\"body\"",
    "\"headers\"",
    "\"publishes\"",
    "\"messages\"",
    "\"specversion\"",
    "\"1.0\"",
    "\"lease_ms\"",
    "\"topic\"",
    "\"t\"",
    "\"filter\"",
    "\"not\"",
    "\"exact\"",
    "\"outcome\"",
    "\"accept\"",
    "\\u0000",
    "\u{e4}",
    "18446744073709551615",
];

#[test]
fn any_bytes_anywhere_get_an_answer_that_blames_the_caller() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let server = runtime.block_on(async {
        let server = Server::start().await;
        server.put("/v1/queues/q", "").await.expect(201);
        server.put("/v1/topics/t", "").await.expect(201);
        server.put("/v1/subscriptions/s", r#"{"topic":"t"}"#).await.expect(201);
        server
    });
    let noise = proptest::collection::vec(any::<u8>(), 0..200);
    let words = proptest::collection::vec(proptest::sample::select(PIECES), 0..30)
        .prop_map(|all| all.concat().into_bytes());
    let body = prop_oneof![noise, words];
    let query = "[a-z_]{0,8}(=[-0-9a-z%&=]{0,12})?";
    let config = ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(at in 0..TARGETS.len(), body in body, query in query, name in "[ -~]{0,12}")| {
        let (method, path, head) = TARGETS[at];
        runtime.block_on(async {
            let answer = server.call(method, path, head, &body).await;
            prop_assert!(answer.status < 500, "{method} {path}: {}", answer.text());
            let separator = if path.contains('?') { '&' } else { '?' };
            let answer = server.call(method, &format!("{path}{separator}{query}"), head, "").await;
            prop_assert!(answer.status < 500, "{method} {path} {query}: {}", answer.text());
            let encoded: String = name.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let answer = server.get(&format!("/v1/queues/{encoded}/messages?from={encoded}")).await;
            prop_assert!(answer.status < 500, "{name}: {}", answer.text());
            Ok(())
        })?;
    });
    runtime.block_on(async {
        server.get("/readyz").await.expect(200);
        server.end().await;
    });
}
