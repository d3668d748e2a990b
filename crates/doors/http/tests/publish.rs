//! Do messages go in as the interface promises: one, many, events, all or nothing, and with precise errors?

mod common;

use common::Server;
use serde_json::{Value, json};
use waystation_base::limits::MESSAGE_BYTES_MAX;

async fn with_queue(name: &str) -> Server {
    let server = Server::start().await;
    server.put(&format!("/v1/queues/{name}"), "").await.expect(201);
    server
}

#[tokio::test]
async fn a_body_of_any_type_is_one_message_and_its_properties_are_headers() {
    let server = with_queue("q").await;
    let head = "content-type: text/plain\r\nws-key: k\r\nws-message-id: a-1\r\nws-priority: 3\r\nws-header-colour: blue\r\n\
                correlation-id: c\r\nws-business-order: 4711\r\n";
    let accepted = server.call("POST", "/v1/queues/q/messages", head, "hello").await.expect(200).json();
    assert_eq!((&accepted["accepted"], &accepted["duplicates"]), (&json!(1), &json!(0)));
    let message = &server.receive("/v1/queues/q/receive?lease_ms=60000").await[0];
    assert_eq!(message["uuid"], accepted["uuid"]);
    for (member, value) in [
        ("body_text", json!("hello")),
        ("content_type", json!("text/plain")),
        ("key", json!("k")),
        ("id", json!("a-1")),
        ("priority", json!(3)),
        ("correlation_id", json!("c")),
        ("headers", json!({"colour": "blue", "ws-business-order": "4711"})),
        ("attempt", json!(1)),
        ("redelivered", json!(false)),
        ("address", json!("q")),
    ] {
        assert_eq!(message[member], value, "{member}");
    }
    assert!(message["lease_until"].is_u64() && message["tag"].is_string());
    server.end().await;
}

#[tokio::test]
async fn a_message_holds_at_its_limit_and_is_refused_past_it() {
    let server = with_queue("q").await;
    server.post("/v1/queues/q/messages", vec![b'x'; MESSAGE_BYTES_MAX - 64]).await.expect(200);
    let problem =
        server.post("/v1/queues/q/messages", vec![b'x'; MESSAGE_BYTES_MAX + 1]).await.expect(413).json();
    assert_eq!(problem["limit"], json!(MESSAGE_BYTES_MAX));
    // Without a length said before.
    let chunk = format!("{:x}\r\n{}\r\n", 1 << 20, "x".repeat(1 << 20));
    let mut stream = server.connect().await;
    let head = "POST /v1/queues/q/messages HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n";
    use tokio::io::AsyncWriteExt;
    stream.write_all(head.as_bytes()).await.expect("written");
    for _ in 0..=MESSAGE_BYTES_MAX >> 20 {
        // The server answers before the end.
        let _ = stream.write_all(chunk.as_bytes()).await;
    }
    common::answer(&mut stream).await.expect(413);
    server.end().await;
}

#[tokio::test]
async fn lines_are_published_in_order_and_counted() {
    let server = with_queue("q").await;
    let lines: String = (0..20_000).map(|n| format!("{{\"body\":{n}}}\n")).collect();
    let accepted = server.lines("/v1/queues/q/messages", lines).await.expect(200).json();
    assert_eq!(accepted, json!({"accepted": 20_000, "duplicates": 0, "lines": 20_000}));
    let mut next = 0;
    while next < 20_000 {
        let messages = server.receive("/v1/queues/q/receive?max=10000").await;
        assert!(!messages.is_empty(), "{next} so far");
        for message in messages {
            assert_eq!(message["body"], json!(next));
            next += 1;
        }
    }
    server.end().await;
}

#[tokio::test]
async fn a_wrong_line_is_named_and_what_stood_before_it_stays() {
    let server = with_queue("q").await;
    let problem = server
        .lines("/v1/queues/q/messages", "{}\n\n{\"body\":1}\n{\"body\":}\n{}\n")
        .await
        .expect(400)
        .json();
    assert_eq!(
        (&problem["line"], &problem["column"], &problem["accepted"]),
        (&json!(4), &json!(9), &json!(2))
    );
    let problem = server.lines("/v1/queues/q/messages", "{}\n{\"ttl_ms\":0}").await.expect(422).json();
    assert_eq!(
        (&problem["line"], &problem["field"], &problem["accepted"]),
        (&json!(2), &json!("ttl_ms"), &json!(1))
    );
    assert_eq!(server.get("/v1/queues/q").await.json()["ready"], json!(3));
    let problem = server.lines("/v1/queues/q/messages?atomic=true", "{}\n{]").await.expect(400).json();
    assert_eq!(problem["line"], json!(2));
    assert_eq!(server.get("/v1/queues/q").await.json()["ready"], json!(3), "an atomic stream has no part");
    let accepted = server.lines("/v1/queues/q/messages?atomic=true", "{}\n{}").await.expect(200).json();
    assert_eq!(accepted["accepted"], json!(2));
    server.end().await;
}

#[tokio::test]
async fn duplicates_are_counted_apart() {
    let server = Server::start().await;
    server.put("/v1/queues/q", r#"{"deduplication_ms":60000}"#).await.expect(201);
    let accepted =
        server.lines("/v1/queues/q/messages", "{\"id\":\"a\"}\n{\"id\":\"b\"}\n{\"id\":\"a\"}").await;
    assert_eq!(accepted.expect(200).json(), json!({"accepted": 2, "duplicates": 1, "lines": 3}));
    server.end().await;
}

#[tokio::test]
async fn a_full_queue_refuses_with_a_time_to_come_back_and_without_gaps() {
    let server = Server::start().await;
    server.put("/v1/queues/q", r#"{"max_messages":10}"#).await.expect(201);
    server.lines("/v1/queues/q/messages", "{}\n".repeat(10)).await.expect(200);
    let answer = server.lines("/v1/queues/q/messages", "{}\n{}").await.expect(429);
    assert!(answer.header("retry-after").is_some());
    let problem = answer.json();
    assert_eq!((&problem["line"], &problem["accepted"]), (&json!(1), &json!(0)));
    server.end().await;
}

#[tokio::test]
async fn progress_is_told_batch_by_batch_if_asked_for() {
    let server = with_queue("q").await;
    let head = "content-type: application/x-ndjson\r\naccept: application/x-ndjson\r\n";
    let tell = async |lines: &str| {
        let answer = server.call("POST", "/v1/queues/q/messages", head, lines).await.expect(200);
        let text = String::from_utf8(answer.body).expect("text");
        let last = text.lines().last().expect("a line");
        serde_json::from_str::<Value>(last).expect("JSON")
    };
    let last = tell(&"{}\n".repeat(9000)).await;
    assert_eq!(last, json!({"accepted": 9000, "duplicates": 0, "lines": 9000, "done": true}));
    let last = tell("{}\n{]\n").await;
    assert_eq!(
        (&last["accepted"], &last["done"], &last["problem"]["line"]),
        (&json!(1), &json!(false), &json!(2))
    );
    server.end().await;
}

#[tokio::test]
async fn cloud_events_go_in_by_three_modes_and_come_out_as_events() {
    let server = with_queue("q").await;
    let event = |id: &str| {
        json!({"specversion": "1.0", "id": id, "source": "/s", "type": "t", "subject": "x", "data": {"a": 1},
            "datacontenttype": "application/json", "time": "2018-04-05T17:31:00Z"})
    };
    let path = "/v1/queues/q/messages";
    let structured = "content-type: application/cloudevents+json\r\n";
    server.call("POST", path, structured, event("1").to_string()).await.expect(200);
    let batch = "content-type: application/cloudevents-batch+json\r\n";
    server.call("POST", path, batch, json!([event("2"), event("3")]).to_string()).await.expect(200);
    let binary = "content-type: application/json\r\nce-specversion: 1.0\r\nce-id: 4\r\nce-source: /s\r\nce-type: t\r\n\
                  ce-subject: x\r\nce-time: 2018-04-05T17:31:00Z\r\n";
    server.call("POST", path, binary, r#"{"a":1}"#).await.expect(200);
    let accept = "accept: application/cloudevents-batch+json\r\n";
    let answer = server.call("POST", "/v1/queues/q/receive?max=10", accept, "").await.expect(200);
    assert_eq!(answer.header("content-type"), Some("application/cloudevents-batch+json"));
    let mut events = answer.json();
    for (at, found) in events.as_array_mut().expect("events").iter_mut().enumerate() {
        let found = found.as_object_mut().expect("an event");
        assert!(found.remove("wstag").is_some() && found.remove("wsattempt").is_some());
        assert_eq!(json!(found), event(&(at + 1).to_string()));
    }
    let problem =
        server.call("POST", path, batch, json!([event("5"), {}]).to_string()).await.expect(422).json();
    assert_eq!(problem["index"], json!(1));
    assert_eq!(
        server.get("/v1/queues/q").await.json()["ready"],
        json!(0),
        "nothing of a batch that is wrong"
    );
    server.end().await;
}

#[tokio::test]
async fn a_path_reaches_its_own_kind_only() {
    let server = with_queue("q").await;
    server.put("/v1/topics/t", r#"{"partitions":2}"#).await.expect(201);
    server.post("/v1/topics/q/messages", "x").await.expect(404);
    server.post("/v1/queues/t/messages", "x").await.expect(404);
    server.post("/v1/queues/none/messages", "x").await.expect(404);
    server.post("/v1/queues/q/messages?partition=0", "x").await.expect(422);
    let accepted = server.post("/v1/topics/t/messages?partition=1", "x").await.expect(200).json();
    assert_eq!(accepted["places"], json!([{"partition": 1, "offset": 0, "count": 1}]));
    let refused = server.post("/v1/topics/t/messages?partition=2", "x").await;
    assert!((400..500).contains(&refused.status), "{}", refused.text());
    server.call("DELETE", "/v1/queues/q", "", "").await.expect(200);
    server.post("/v1/queues/q/messages", "x").await.expect(404);
    server.end().await;
}

#[tokio::test]
async fn a_transaction_takes_effect_as_a_whole() {
    let server = with_queue("q").await;
    server.put("/v1/topics/t", "").await.expect(201);
    server.lines("/v1/queues/q/messages", "{}").await.expect(200);
    let message = server.receive("/v1/queues/q/receive").await.remove(0);
    let asked = |attempt: u64| {
        let settlement = json!({"tag": message["tag"], "attempt": attempt, "outcome": "accept"});
        json!({
            "publishes": [{"address": "t", "messages": [{"body": {"n": 1}}, {"body_text": "x"}]}],
            "settlements": [{"queue": "q", "settlements": [settlement]}],
        })
        .to_string()
    };
    server.post("/v1/transactions", asked(7)).await.expect(409);
    let ends = async || server.get("/v1/topics/t").await.json()["partitions"][0]["end_offset"].clone();
    assert_eq!(ends().await, json!(0), "nothing has happened");
    let done = server.post("/v1/transactions", asked(1)).await.expect(200).json();
    assert_eq!((&done["settled"], &done["published"][0]["accepted"]), (&json!(1), &json!(2)));
    assert_eq!(ends().await, json!(2));
    let wrong = r#"{"publishes":[{"address":"t","messages":[{},{"priority":1,"body":1,"body_text":""}]}]}"#;
    let problem = server.post("/v1/transactions", wrong).await.expect(422).json();
    assert_eq!(problem["index"], json!(1));
    server.end().await;
}
