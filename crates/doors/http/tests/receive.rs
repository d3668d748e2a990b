//! Do messages come out as the interface promises: received, settled, looked at, followed?

mod common;

use common::{Server, parse, unchunk, until};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

async fn with_queue() -> Server {
    let server = Server::start().await;
    server.put("/v1/queues/q", r#"{"dead_letter":"dead"}"#).await.expect(201);
    server.put("/v1/queues/dead", "").await.expect(201);
    server
}

fn settle(message: &Value, outcome: &str) -> String {
    let settlement = json!({"tag": message["tag"], "attempt": message["attempt"], "outcome": outcome});
    json!({"settlements": [settlement]}).to_string()
}

#[tokio::test]
async fn a_long_poll_gets_what_is_published_while_it_waits() {
    let server = with_queue().await;
    let waiting = server.post("/v1/queues/q/receive?wait_ms=60000", "");
    let publishing = async {
        let waits = async || server.get("/v1/queues/q").await.json()["consumers"] == json!(1);
        until("the poll waits", waits).await;
        server.post("/v1/queues/q/messages", "x").await.expect(200)
    };
    let (answer, _) = tokio::join!(waiting, publishing);
    assert_eq!(answer.expect(200).json()["messages"].as_array().map(Vec::len), Some(1));
    assert!(server.receive("/v1/queues/q/receive?wait_ms=0").await.is_empty());
    server.end().await;
}

#[tokio::test]
async fn a_client_that_goes_while_it_waits_leaves_nothing_behind() {
    let server = with_queue().await;
    let mut stream = server.connect().await;
    let head = "POST /v1/queues/q/receive?wait_ms=60000 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("written");
    let consumers = async |count: u64| server.get("/v1/queues/q").await.json()["consumers"] == json!(count);
    until("it waits", || consumers(1)).await;
    drop(stream);
    until("it is detached", || consumers(0)).await;
    server.post("/v1/queues/q/messages", "x").await.expect(200);
    let message = server.receive("/v1/queues/q/receive").await.remove(0);
    assert_eq!(message["attempt"], json!(1), "nobody else had it");
    server.end().await;
}

#[tokio::test]
async fn messages_are_settled_once_and_all_or_none() {
    let server = with_queue().await;
    server
        .lines("/v1/queues/q/messages", "{\"body\":1}\n{\"body\":2}\n{\"body\":3}\n{\"body\":4}")
        .await
        .expect(200);
    let messages = server.receive("/v1/queues/q/receive?max=4&lease_ms=60000").await;
    let path = "/v1/queues/q/settle";
    assert_eq!(
        server.post(path, settle(&messages[0], "accept")).await.expect(200).json(),
        json!({"settled": 1})
    );
    let problem = server.post(path, settle(&messages[0], "accept")).await.expect(409).json();
    assert_eq!(problem["type"], "urn:waystation:problem:not-held");
    let both = json!({"settlements": [
        {"tag": messages[1]["tag"], "attempt": 1, "outcome": "accept"},
        {"tag": messages[0]["tag"], "attempt": 1, "outcome": "accept"},
    ]});
    server.post(path, both.to_string()).await.expect(409);
    assert_eq!(server.get("/v1/queues/q").await.json()["in_flight"], json!(3), "none of them");
    let until_ms = server
        .post(
            "/v1/queues/q/extend",
            json!({"held": [{"tag": messages[1]["tag"], "attempt": 1}], "lease_ms": 900_000}).to_string(),
        )
        .await
        .expect(200)
        .json()["lease_until"]
        .as_u64();
    assert!(until_ms > messages[1]["lease_until"].as_u64());
    server.post(path, settle(&messages[1], "requeue")).await.expect(200);
    server.post(path, settle(&messages[2], "release")).await.expect(200);
    let again = server.receive("/v1/queues/q/receive?max=4&lease_ms=60000").await;
    let shown: Vec<_> = again.iter().map(|m| (m["body"].clone(), m["attempt"].clone())).collect();
    assert!(shown.contains(&(json!(2), json!(2))) && shown.contains(&(json!(3), json!(1))), "{shown:?}");
    let rejection = json!({"settlements": [
        {"tag": messages[3]["tag"], "attempt": 1, "outcome": "reject", "error": "no such flight"},
    ]});
    server.post(path, rejection.to_string()).await.expect(200);
    let dead = server.receive("/v1/queues/dead/receive").await.remove(0);
    assert_eq!((&dead["body"], &dead["headers"]["ws-death-error"]), (&json!(4), &json!("no such flight")));
    server.end().await;
}

#[tokio::test]
async fn one_message_may_be_received_as_it_is() {
    let server = with_queue().await;
    server.post("/v1/queues/q/receive-one", "").await.expect(204);
    let head = "content-type: image/png\r\nws-key: k\r\nws-header-a: b\r\n";
    server.call("POST", "/v1/queues/q/messages", head, [0, 255, 10]).await.expect(200);
    let answer = server.post("/v1/queues/q/receive-one", "").await.expect(200);
    assert_eq!((answer.header("content-type"), &answer.body[..]), (Some("image/png"), &[0, 255, 10][..]));
    assert_eq!((answer.header("ws-key"), answer.header("ws-header-a")), (Some("k"), Some("b")));
    let message = json!({"tag": answer.header("ws-tag"), "attempt": 1});
    server.post("/v1/queues/q/settle", settle(&message, "accept")).await.expect(200);
    server.end().await;
}

#[tokio::test]
async fn parameters_hold_at_their_bounds_and_are_refused_past_them() {
    let server = with_queue().await;
    for (query, status) in [
        ("max=10000", 200),
        ("max=10001", 422),
        ("max=0", 422),
        ("max=-1", 400),
        ("wait_ms=60001", 422),
        ("lease_ms=0", 422),
        ("lease_ms=43200000", 200),
        ("lease_ms=43200001", 422),
        ("leas_ms=1", 400),
    ] {
        server.post(&format!("/v1/queues/q/receive?{query}"), "").await.expect(status);
    }
    server.post("/v1/queues/none/receive", "").await.expect(404);
    server.end().await;
}

#[tokio::test]
async fn browsing_takes_nothing_and_goes_on_page_by_page() {
    let server = with_queue().await;
    let lines: String = (0..5).map(|n| format!("{{\"key\":\"k{n}\",\"body\":{n}}}\n")).collect();
    server.lines("/v1/queues/q/messages", &lines).await.expect(200);
    let page = server.get("/v1/queues/q/messages?limit=3").await.expect(200).json();
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(3));
    let next = page["next"].as_str().expect("more");
    let page = server.get(&format!("/v1/queues/q/messages?limit=3&from={next}")).await.expect(200).json();
    assert_eq!((&page["messages"][0]["body"], &page["messages"][1]["body"]), (&json!(3), &json!(4)));
    assert_eq!(server.get("/v1/queues/q").await.json()["ready"], json!(5));
    let filter = "%7B%22exact%22:%7B%22key%22:%22k2%22%7D%7D";
    let page = server.get(&format!("/v1/queues/q/messages?filter={filter}")).await.expect(200).json();
    assert_eq!(page["messages"].as_array().map(Vec::len), Some(1));
    server.get("/v1/queues/q/messages?filter=%7B%22exact%22:%7B%7D%7D").await.expect(422);
    server.get("/v1/queues/q/messages?partition=0").await.expect(422);
    let answer =
        server.call("GET", "/v1/queues/q/messages?limit=2", "accept: application/x-ndjson\r\n", "").await;
    assert!(answer.header("ws-next").is_some());
    assert_eq!(String::from_utf8_lossy(&answer.expect(200).body).lines().count(), 2);
    server.end().await;
}

#[tokio::test]
async fn a_topic_is_read_by_offset_and_time_and_a_subscription_is_moved() {
    let server = Server::start().await;
    server.put("/v1/topics/t", "").await.expect(201);
    server.put("/v1/subscriptions/s", r#"{"topic":"t"}"#).await.expect(201);
    let lines: String =
        (0..4).map(|n| format!("{{\"timestamp\":{},\"body\":{n}}}\n", 1000 * (n + 1))).collect();
    server.lines("/v1/topics/t/messages", &lines).await.expect(200);
    let page = server.get("/v1/topics/t/messages?time=2500").await.expect(200).json();
    assert_eq!(page["messages"][0]["body"], json!(2));
    server.get("/v1/topics/t/messages?time=noon").await.expect(422);
    let lag = async || server.get("/v1/subscriptions/s").await.json()["lag"].clone();
    assert_eq!(lag().await, json!(4));
    let moved =
        server.post("/v1/subscriptions/s/seek", r#"{"start":{"time":2500}}"#).await.expect(200).json();
    assert_eq!(moved, json!([{"topic": "t", "partition": 0, "offset": 2}]));
    assert_eq!(lag().await, json!(2));
    let message = server.receive("/v1/subscriptions/s/receive").await.remove(0);
    assert_eq!((&message["body"], &message["address"]), (&json!(2), &json!("t")));
    server.post("/v1/subscriptions/s/settle", settle(&message, "accept")).await.expect(200);
    for start in [r#"{"start":"latest"}"#, r#"{"start":"earliest"}"#, r#"{"start":{"offset":1}}"#] {
        server.post("/v1/subscriptions/s/seek", start).await.expect(200);
    }
    assert_eq!(lag().await, json!(3));
    let position = r#"{"positions":[{"topic":"t","partition":0,"offset":3}]}"#;
    server.post("/v1/subscriptions/s/seek", position).await.expect(200);
    assert_eq!(lag().await, json!(1));
    server.post("/v1/subscriptions/s/seek", "{}").await.expect(422);
    server.end().await;
}

/// A stream of events being read.
struct Events {
    stream: TcpStream,
    bytes: Vec<u8>,
}

impl Events {
    async fn open(server: &Server, path: &str, head: &str) -> Events {
        let mut stream = server.connect().await;
        let head =
            format!("GET {path} HTTP/1.1\r\nhost: localhost\r\naccept: text/event-stream\r\n{head}\r\n");
        stream.write_all(head.as_bytes()).await.expect("written");
        let mut events = Events { stream, bytes: Vec::new() };
        events.read_until(|text| text.contains("retry:")).await;
        events
    }

    async fn read_until(&mut self, holds: impl Fn(&str) -> bool) -> String {
        loop {
            let text = String::from_utf8_lossy(&self.bytes).into_owned();
            if text.contains("\r\n\r\n") {
                let body = String::from_utf8(unchunk(&parse_body(&self.bytes))).expect("text");
                if holds(&body) {
                    assert_eq!(parse(&self.bytes).status, 200, "{text}");
                    return body;
                }
            }
            let read = tokio::time::timeout(common::PATIENCE, self.stream.read_buf(&mut self.bytes)).await;
            let read = read.unwrap_or_else(|_| panic!("never came: {text}")).expect("read");
            assert!(read > 0, "ended: {text}");
        }
    }

    /// The first `count` events: id and message.
    async fn take(&mut self, count: usize) -> Vec<(String, Value)> {
        let body =
            self.read_until(|text| text.matches("\ndata: ").count() >= count && text.ends_with("\n\n")).await;
        let event = |text: &str| {
            let id = text.strip_prefix("id: ")?.lines().next()?.to_owned();
            let data = text.split_once("\ndata: ")?.1;
            Some((id, serde_json::from_str(data).expect("JSON")))
        };
        body.split("\n\n").filter_map(event).collect()
    }
}

fn parse_body(bytes: &[u8]) -> Vec<u8> {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    bytes[end + 4..].to_vec()
}

#[tokio::test]
async fn a_topic_is_followed_and_taken_up_again_without_a_gap() {
    let server = Server::start().await;
    server.put("/v1/topics/t", r#"{"partitions":3}"#).await.expect(201);
    let publish = async |from: usize, to: usize| {
        let lines: String = (from..to).map(|n| format!("{{\"key\":\"k{n}\",\"body\":{n}}}\n")).collect();
        server.lines("/v1/topics/t/messages", &lines).await.expect(200);
    };
    publish(0, 5).await;
    let mut events = Events::open(&server, "/v1/topics/t/events?from=earliest", "").await;
    publish(5, 10).await;
    let first = events.take(10).await;
    drop(events);
    let bodies = |events: &[(String, Value)]| {
        let mut bodies: Vec<_> =
            events.iter().map(|(_, message)| message["body"].as_u64().expect("a number")).collect();
        bodies.sort_unstable();
        bodies
    };
    assert_eq!(bodies(&first), (0..10).collect::<Vec<_>>());
    // Taken up after the fourth: the other six come again, and what is new.
    publish(10, 12).await;
    let head = format!("last-event-id: {}\r\n", first[3].0);
    let mut events = Events::open(&server, "/v1/topics/t/events", &head).await;
    let mut all = first[..4].to_vec();
    all.extend(events.take(8).await);
    assert_eq!(bodies(&all), (0..12).collect::<Vec<_>>());
    server.get("/v1/topics/t/events?from=noon").await.expect(422);
    server.get("/v1/topics/t/events?partition=3").await.expect(422);
    server.get("/v1/topics/none/events").await.expect(404);
    drop(events);
    server.end().await;
}

#[tokio::test]
async fn a_queue_is_followed_and_what_is_written_is_accepted() {
    let server = with_queue().await;
    server.lines("/v1/queues/q/messages", "{\"body\":1}\n{\"body\":2}\n").await.expect(200);
    let mut events = Events::open(&server, "/v1/queues/q/events?window=1", "").await;
    assert_eq!(events.take(2).await[1].1["body"], json!(2));
    let info = async || server.get("/v1/queues/q").await.json();
    until("both are acknowledged", async || info().await["counters"]["acknowledged"] == json!(2)).await;
    server.end().await;
}

#[tokio::test]
async fn a_queue_is_followed_and_settled_by_hand_and_the_rest_comes_back() {
    let server = with_queue().await;
    server.lines("/v1/queues/q/messages", "{\"body\":1}\n{\"body\":2}\n").await.expect(200);
    let mut events = Events::open(&server, "/v1/queues/q/events?ack=manual&window=2", "").await;
    let messages = events.take(2).await;
    server.post("/v1/queues/q/settle", settle(&messages[0].1, "accept")).await.expect(200);
    drop(events);
    until("the other one is back", async || server.get("/v1/queues/q").await.json()["ready"] == json!(1))
        .await;
    let message = server.receive("/v1/queues/q/receive").await.remove(0);
    assert_eq!((&message["body"], &message["redelivered"]), (&json!(2), &json!(true)));
    server.end().await;
}

#[tokio::test]
async fn a_drain_ends_long_polls_and_followers_and_refuses_what_is_new() {
    let server = with_queue().await;
    let mut events = Events::open(&server, "/v1/queues/q/events", "").await;
    let polling = server.post("/v1/queues/q/receive?wait_ms=60000", "");
    let draining = async {
        until("both wait", async || server.get("/v1/queues/q").await.json()["consumers"] == json!(2)).await;
        server.drain.begin();
    };
    let (answer, ()) = tokio::join!(polling, draining);
    assert_eq!(answer.expect(200).json(), json!({"messages": []}));
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(common::PATIENCE, events.stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "the stream ends");
    server.end().await;
}
