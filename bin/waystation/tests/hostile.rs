//! What does the real program say to bad calls: oversized, slow, malformed, of wrong types, to nowhere, to call back inside, replayed?

mod common;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    time::Duration,
};

use common::{PATIENCE, Server, Setup, until};
use serde_json::{Value, json};

const OFF: [&str; 4] = ["--amqp", "off", "--amqp-management", "off"];
/// Bytes that the operation `small` allows.
const SMALL: usize = 1_000;

fn setup(config: &str) -> Setup {
    let mut setup = Setup::new();
    let config = setup.file("waystation.toml", config);
    setup.arguments.extend(OFF.map(str::to_owned));
    setup.arguments.extend(["--config".to_owned(), config]);
    setup
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

fn connect(server: &Server) -> TcpStream {
    let stream = TcpStream::connect(server.url.strip_prefix("http://").expect("plain HTTP"));
    let stream = stream.expect("connected");
    stream.set_read_timeout(Some(PATIENCE)).expect("set");
    stream
}

/// Sends these very bytes, and reads what comes back until the server closes.
fn raw(server: &Server, bytes: &[u8]) -> Answer {
    let mut stream = connect(server);
    // A server that has refused already need not take the rest.
    let _ = stream.write_all(bytes);
    answer(&mut stream)
}

fn answer(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset after the answer is as good as an end.
    let _ = stream.read_to_end(&mut bytes);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer in {text:?}"));
    let status = head.split(' ').nth(1).and_then(|word| word.parse().ok()).expect("a status");
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

/// A request; `headers` end in CRLF each.
fn ask(server: &Server, line: &str, headers: &str, body: &str) -> Answer {
    let length = body.len();
    let head = format!(
        "{line} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n"
    );
    raw(server, format!("{head}{body}").as_bytes())
}

fn declare(server: &Server, name: &str, spec: &Value) {
    let declared = ask(
        server,
        &format!("PUT /v1/operations/{name}"),
        "content-type: application/json\r\n",
        &spec.to_string(),
    );
    assert_eq!(declared.status, 201, "{declared:?}");
}

fn accepted(server: &Server, name: &str, headers: &str, body: &str) -> String {
    let answer = ask(server, &format!("POST /v1/calls/{name}"), headers, body);
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.json()["id"].as_str().expect("an id").to_owned()
}

/// Each with the status that it gets and what the problem says of it.
#[test]
fn a_bad_call_is_refused_with_what_to_mend_and_harms_nothing() {
    let setup = setup("");
    let server = setup.start();
    declare(
        &server,
        "small",
        &json!({"body_bytes_max": SMALL, "callback_allow": ["https://hooks.example.com/*"]}),
    );
    let id = accepted(&server, "small", "", "x");
    let json_ = "content-type: application/json\r\n";
    let large = "x".repeat(SMALL + 1);
    let long_key = format!("idempotency-key: \"{}\"\r\n", "k".repeat(256));
    let long_url = format!("ws-callback-url: https://hooks.example.com/{}\r\n", "x".repeat(2_048));
    let call = |what: &str| format!("POST /v1/calls/{id}/{what}");
    let (progress, complete, fail) = (call("progress"), call("complete?attempt=x"), call("fail"));
    let (late, odd_status) = (call("complete?attempt=9"), call("complete?status=199"));
    let (wait, nowhere) = (format!("GET /v1/calls/{id}?wait=61"), format!("GET /v1/calls/{id}/results"));
    let cases: &[(&str, &str, &str, u16, &str)] = &[
        // Oversized.
        ("POST /v1/calls/small", "", &large, 413, "may have 1000 bytes"),
        ("POST /v1/calls/small", &long_key, "x", 422, "idempotency"),
        ("POST /v1/calls/small", &long_url, "x", 422, "2048 bytes"),
        // Unknown.
        ("POST /v1/calls/unknown", "", "x", 404, "unknown"),
        ("POST /v1/calls/..%2f..%2fetc", "", "x", 422, "name"),
        ("POST /v1/calls/$calls", "", "x", 422, "reserved"),
        ("GET /v1/calls/nothing", "", "", 404, "no UUID"),
        ("GET /v1/calls/01a20000-0000-7000-8000-000000000000", "", "", 404, "no call"),
        (&nowhere, "", "", 404, "nothing is served"),
        ("PATCH /v1/calls/small", "", "", 405, "Allow"),
        ("GET /v1/calls?colour=red", "", "", 400, "colour"),
        // Of wrong types.
        (&wait, "", "", 422, "between 0 and 60"),
        (&complete, "", "x", 400, "attempt"),
        (&odd_status, "", "x", 422, "between 200 and 599"),
        (&late, "", "x", 409, "attempt"),
        (&progress, json_, r#"{"percent": 101}"#, 422, "between 0 and 100"),
        (&progress, json_, r#"{"percent": "half"}"#, 400, "column"),
        (&progress, json_, r#"{"percents": 1}"#, 400, "percents"),
        (&progress, "content-type: application/xml\r\n", "<x/>", 415, "application/json"),
        (&fail, json_, r#"{"error": 5}"#, 400, "column"),
        (&fail, json_, r#"{"error": "x", "retry": true"#, 400, "column"),
        ("PUT /v1/operations/x", json_, r#"{"timeout_ms": "1d"}"#, 400, "column"),
        ("PUT /v1/operations/x", json_, r#"{"callback_allow": ["https://*/x"]}"#, 400, "pattern"),
        ("PUT /v1/operations/x", json_, "\u{0}", 400, "column"),
        // Callbacks to where nobody allowed them.
        ("POST /v1/calls/small", "ws-callback-url: https://evil.example/\r\n", "x", 422, "callback_allow"),
        (
            "POST /v1/calls/small",
            "ws-callback-url: http://hooks.example.com/\r\n",
            "x",
            422,
            "callback_allow",
        ),
        (
            "POST /v1/calls/small",
            "ws-callback-url: https://hooks.example.com@evil.example/\r\n",
            "x",
            422,
            "user",
        ),
        (
            "POST /v1/calls/small",
            "ws-callback-url: https://hooks.example.com.evil.example/\r\n",
            "x",
            422,
            "callback_allow",
        ),
        ("POST /v1/calls/small", "ws-callback-url: https://hooks.example.com/#x\r\n", "x", 422, "fragment"),
        ("POST /v1/calls/small", "ws-callback-url: nonsense\r\n", "x", 422, "no URL"),
        ("POST /v1/calls/small", "ws-callback-url: \r\n", "x", 422, "URL"),
    ];
    for (line, headers, body, status, said) in cases {
        let answer = ask(&server, line, headers, body);
        assert_eq!(answer.status, *status, "{line} {headers}{body}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
        let problem = answer.json();
        assert_eq!(problem["status"], *status, "{answer:?}");
        assert!(
            problem["detail"].as_str().is_some_and(|it| it.contains(said)),
            "{line}: {problem}\n  should say: {said}"
        );
    }
    let calls = server.json("calls list");
    assert_eq!(calls.as_array().map(Vec::len), Some(1), "none of them became a call: {calls}");
    assert_eq!(calls[0]["state"], "queued", "{calls}");
}

#[test]
fn what_is_no_http_is_refused_or_cut_and_the_next_request_is_served() {
    let setup = setup("");
    let server = setup.start();
    declare(&server, "small", &json!({"body_bytes_max": SMALL}));
    let post = "POST /v1/calls/small HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let chunk = format!("{:x}\r\n{}\r\n", SMALL + 1, "x".repeat(SMALL + 1));
    let long = "x".repeat(64 << 10);
    let cases = [
        // Past the bound in pieces whose sum nobody announced.
        (format!("{post}transfer-encoding: chunked\r\n\r\n{chunk}0\r\n\r\n"), 413),
        (format!("{post}transfer-encoding: chunked\r\n\r\nzz\r\nx\r\n0\r\n\r\n"), 400),
        (format!("{post}content-length: many\r\n\r\nx"), 400),
        (format!("{post}content-length: -1\r\n\r\nx"), 400),
        (format!("{post}content-length: 99999999999999999999\r\n\r\nx"), 400),
        (format!("{post}content-length: 1\r\ncontent-length: 2\r\n\r\nx"), 400),
        // The library takes the length for a head that is too large; it is refused.
        (format!("{post}content-length: 18446744073709551614\r\n\r\nx"), 431),
        (format!("{post}x-long: {long}\r\n\r\n"), 431),
        (format!("{post}x y: z\r\n\r\n"), 400),
        (format!("POST /v1/calls/{long} HTTP/1.1\r\nhost: localhost\r\n\r\n"), 431),
        ("\u{16}\u{3}\u{1}\r\n\r\n".to_owned(), 400),
        ("POST /v1/calls/small HTTP/9.9\r\nhost: localhost\r\n\r\n".to_owned(), 400),
    ];
    for (bytes, status) in cases {
        let start: String = bytes.chars().take(120).collect();
        let answer = raw(&server, bytes.as_bytes());
        assert_eq!(answer.status, status, "{start:?}: {answer:?}");
    }
    // A body that ends before its end is no call.
    let mut cut = connect(&server);
    cut.write_all(format!("{post}content-length: 9\r\n\r\nx").as_bytes()).expect("written");
    cut.shutdown(std::net::Shutdown::Write).expect("shut");
    // The server may answer it, or be gone.
    let _ = cut.read_to_end(&mut Vec::new());
    assert_eq!(server.json("calls list").as_array().map(Vec::len), Some(0));
    accepted(&server, "small", "", &"x".repeat(SMALL));
}

#[test]
fn callers_that_let_their_bodies_drip_are_cut_off_and_do_not_keep_others_out() {
    const SLOW: usize = 8;
    let setup = setup(&format!("[http]\nbody_ms = 300\nrequests_max = {SLOW}\n"));
    let server = setup.start();
    declare(&server, "op", &json!({}));
    let head = "POST /v1/calls/op HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: 100000\r\n\r\n";
    let drip = |mut stream: TcpStream| {
        stream.write_all(head.as_bytes()).expect("written");
        let mut reader = stream.try_clone().expect("cloned");
        let dripping = std::thread::spawn(move || {
            // Each byte comes well before the time for the next part of a body is over.
            while stream.write_all(b"x").is_ok() {
                pause(Duration::from_millis(50));
            }
        });
        let answer = answer(&mut reader);
        dripping.join().expect("no panic");
        answer
    };
    let slow: Vec<_> = (0..SLOW).map(|_| connect(&server)).collect();
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let threads: Vec<_> = slow.into_iter().map(|stream| scope.spawn(move || drip(stream))).collect();
        // All places are taken for a while, and come free although nobody has ended.
        until("a call of another is accepted", || ask(&server, "POST /v1/calls/op", "", "x").status == 202);
        threads.into_iter().map(|thread| thread.join().expect("no panic")).collect()
    });
    for answer in answers {
        assert!(answer.status == 408 || answer.status == 429, "{answer:?}");
    }
}

#[allow(clippy::disallowed_methods, reason = "a slow client is slow in real time")]
fn pause(time: Duration) {
    std::thread::sleep(time);
}

/// The operation allows each of them by name: what stands between is the guard alone.
#[test]
fn a_callback_to_an_internal_address_is_never_sent_however_it_is_written() {
    let setup = setup(
        "[webhooks]\nplain_http = true\ncallback_secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n",
    );
    let server = setup.start();
    let canary = TcpListener::bind("127.0.0.1:0").expect("a port");
    canary.set_nonblocking(true).expect("set");
    let port = canary.local_addr().expect("bound").port();
    let hosts = [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0x7f.1",
        "0177.0.0.1",
        "017700000001",
        "127.0.0.1.",
        "0",
        "[::1]",
        "[::]",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[::127.0.0.1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "10.0.0.1",
        "172.16.0.1",
        "192.168.0.1",
        "100.64.0.1",
        "169.254.169.254",
        "2852039166",
        "[fe80::1]",
        "[fd00::1]",
        "１２７.0.0.1",
    ];
    let urls: Vec<String> = hosts.iter().map(|host| format!("http://{host}:{port}/hook")).collect();
    // A name that leads inside is found out when it is resolved, which is tried again: names change.
    let names = ["localhost", "LOCALHOST", "localhost."].map(|name| format!("http://{name}:{port}/hook"));
    let all: Vec<&String> = urls.iter().chain(&names).collect();
    declare(&server, "op", &json!({"callback_allow": all}));
    for url in &all {
        let id = accepted(&server, "op", &format!("ws-callback-url: {url}\r\n"), "x");
        let done = ask(&server, &format!("POST /v1/calls/{id}/complete"), "", "done");
        assert_eq!(done.status, 200, "{done:?}");
    }
    until("each address is buried", || {
        server.json("queue show $calls.callbacks.dead")["ready"] == urls.len()
    });
    let dead = server.ok(&format!("peek $calls.callbacks.dead --count {} --json", urls.len()));
    for letter in dead.lines() {
        let letter: Value = serde_json::from_str(letter).expect("JSON");
        let cause = letter["headers"]["ws-death-error"].as_str().expect("a cause");
        assert!(cause.contains("leads to") && cause.contains("webhooks.allow"), "{letter}");
    }
    until("each name was tried", || {
        let records = server.ok("peek $webhooks --count 1000 --json");
        records.lines().filter(|line| line.contains("leads to") && line.contains("loopback")).count()
            >= names.len()
    });
    let refused = canary.accept().expect_err("nobody came");
    assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn a_replayed_key_is_the_same_call_at_once_afterwards_and_after_a_crash() {
    let setup = setup("");
    let server = setup.start();
    declare(&server, "op", &json!({}));
    declare(&server, "other", &json!({}));
    let key = "idempotency-key: \"4711\"\r\n";
    let ids: Vec<String> = std::thread::scope(|scope| {
        let twins: Vec<_> = (0..32).map(|_| scope.spawn(|| accepted(&server, "op", key, "order"))).collect();
        twins.into_iter().map(|twin| twin.join().expect("no panic")).collect()
    });
    assert!(ids.iter().all(|id| *id == ids[0]), "one call: {ids:?}");
    let replay = |server: &Server| ask(server, "POST /v1/calls/op", key, "order");
    assert_eq!(replay(&server).header("idempotency-replayed"), Some("true"));
    for (headers, body) in
        [(key.to_owned(), "other"), (format!("{key}content-type: text/plain\r\n"), "order")]
    {
        let refused = ask(&server, "POST /v1/calls/op", &headers, body);
        assert_eq!(
            (refused.status, &refused.json()["field"]),
            (422, &json!("idempotency-key")),
            "{refused:?}"
        );
    }
    assert_ne!(accepted(&server, "other", key, "order"), ids[0], "a key belongs to its operation");
    let done = ask(&server, &format!("POST /v1/calls/{}/complete", ids[0]), "", "done");
    assert_eq!(done.status, 200, "{done:?}");
    server.kill();
    let server = setup.start();
    let again = ask(&server, "POST /v1/calls/op", &format!("{key}prefer: wait=5\r\n"), "order");
    assert_eq!((again.status, again.body.as_str()), (200, "done"), "the outcome of the first: {again:?}");
    assert_eq!(
        (again.header("ws-call"), again.header("idempotency-replayed")),
        (Some(ids[0].as_str()), Some("true"))
    );
    assert_eq!(server.json("queue show op")["ready"].as_u64(), Some(1), "one message for all of them");
}
