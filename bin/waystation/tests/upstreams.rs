//! Does the real program make an ordinary synchronous service asynchronous: each call sent, tried again and answered, once?

mod common;
#[path = "common/service.rs"]
mod service;

use std::{
    collections::HashMap,
    sync::{Arc, Condvar, Mutex},
    time::Duration,
};

use common::{Server, Setup, until};
use serde_json::Value;
use service::{Asked, Do, Service, ok};

/// Pauses that a test can wait for.
const QUICK: &str = "--upstream-retry first=20ms,most=50ms --upstream-breaker-failures 1000";

fn setup() -> Setup {
    let mut setup = Setup::new();
    let more = ["--amqp", "off", "--amqp-management", "off", "--upstream-allow", "127.0.0.1"];
    setup.arguments.extend(more.map(str::to_owned));
    setup
}

fn declare(server: &Server, service: &Service, options: &str) {
    let url = service.url();
    server.ok(&format!("operation create op --upstream {url} {QUICK} {options}"));
}

fn call(server: &Server, body: &str) -> String {
    server.ok(&format!("call op {body} --detach")).trim().to_owned()
}

/// The call, when it has its outcome.
fn outcome(server: &Server, id: &str) -> Value {
    let mut call = Value::Null;
    until("the call ends", || {
        call = server.json(&format!("calls show {id}"));
        !matches!(call["state"].as_str(), Some("queued" | "working"))
    });
    call
}

fn upstream(server: &Server) -> Value {
    server.json("operation show op")["upstream"].clone()
}

#[test]
fn a_call_reaches_the_service_unchanged_and_its_answer_is_the_result() {
    let service = Service::new(|asked: &Asked| {
        Do::Answer(201, "content-type: text/x\r\nx-kept: yes\r\nx-not: no\r\n", format!("did {}", asked.body))
    });
    let setup = setup();
    let server = setup.start();
    declare(
        &server,
        &service,
        "--upstream-header authorization=hunter2 --upstream-method PUT --upstream-response-header x-kept --hand-on x-colour",
    );
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let answer = http(
        &server,
        &format!(
            "POST /v1/calls/op HTTP/1.1\r\nprefer: wait=30\r\ncontent-type: text/plain\r\ntraceparent: {trace}\r\n\
             tracestate: a=b\r\ncorrelation-id: mine\r\nx-colour: blue\r\nx-other: no\r\ncontent-length: 4\r\n"
        ),
        "work",
    );
    assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    assert!(answer.contains("x-kept: yes") && !answer.contains("x-not"), "{answer}");
    assert!(answer.ends_with("did work"), "{answer}");
    let asked = service.asked().pop().expect("a request");
    let id = server.json("calls list")[0]["id"].as_str().expect("an id").to_owned();
    assert_eq!((asked.line.as_str(), asked.body.as_str()), ("PUT /do", "work"));
    for (name, expected) in [
        ("idempotency-key", format!("\"{id}\"").as_str()),
        ("traceparent", trace),
        ("tracestate", "a=b"),
        ("correlation-id", "mine"),
        ("content-type", "text/plain"),
        ("authorization", "hunter2"),
        ("x-colour", "blue"),
        ("x-other", ""),
        ("ws-attempt", "1"),
        ("ws-operation", "op"),
    ] {
        assert_eq!(asked.header(name), expected, "{name}");
    }
    let shown = server.json("operation show op");
    assert_eq!(shown["upstream"]["header_names"], serde_json::json!(["authorization"]));
    let audited = server.ok("peek $audit");
    for text in [shown.to_string(), audited, server.log()] {
        assert!(!text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_final_answer_fails_the_call_with_it_and_others_are_tried_again_under_one_key() {
    let mut step = 0;
    let service = Service::new(move |asked: &Asked| {
        step += 1;
        match (asked.body.as_str(), step) {
            ("bad", _) => Do::Answer(422, "", "no".into()),
            (_, 2) => Do::Answer(503, "retry-after: 0\r\n", String::new()),
            (_, 3) => Do::Slowly(Duration::from_secs(60), 200, String::new()),
            (_, 4) => Do::Raw(b"nonsense\r\n\r\n".to_vec()),
            _ => ok("at last"),
        }
    });
    let setup = setup();
    let server = setup.start();
    declare(&server, &service, "--upstream-timeout 2s --max-attempts 5");
    let bad = call(&server, "bad");
    let failed = outcome(&server, &bad);
    assert_eq!((failed["state"].as_str(), failed["result"]["status"].as_u64()), (Some("failed"), Some(422)));
    let good = call(&server, "good");
    let done = outcome(&server, &good);
    assert_eq!((done["state"].as_str(), done["attempt"].as_u64()), (Some("succeeded"), Some(4)));
    let asked: Vec<_> = service.asked().into_iter().filter(|asked| asked.body == "good").collect();
    let told: Vec<_> =
        asked.iter().map(|it| (it.header("ws-attempt"), it.header("idempotency-key"))).collect();
    let key = format!("\"{good}\"");
    assert_eq!(told, ["1", "2", "3", "4"].map(|attempt| (attempt, key.as_str())));
    let counts = upstream(&server)["counts"].clone();
    assert_eq!(
        [&counts["attempts"], &counts["succeeded"], &counts["failed"], &counts["retried"]],
        [5, 1, 1, 3]
    );
}

#[test]
fn an_upstream_that_says_when_is_left_alone_until_then() {
    let mut is_first = true;
    let service = Service::new(move |_| match std::mem::take(&mut is_first) {
        true => Do::Answer(503, "retry-after: 3\r\n", String::new()),
        false => ok("later"),
    });
    let setup = setup();
    let server = setup.start();
    declare(&server, &service, "");
    let id = call(&server, "x");
    until("it is suspended", || upstream(&server)["state"] == "suspended");
    let seen = upstream(&server);
    assert!(seen["failures"][0]["next_ms"].as_u64() >= Some(3_000), "{seen}");
    assert_eq!(server.json(&format!("calls show {id}"))["last_error"], "the upstream answered 503");
    assert_eq!(outcome(&server, &id)["attempt"], 2);
    assert_eq!(service.asked().len(), 2);
    let metrics = http(&server, "GET /metrics HTTP/1.1\r\n", "");
    assert!(metrics.contains("waystation_upstream_retried_total{operation=\"op\"} 1"), "{metrics}");
}

#[test]
fn a_suspended_upstream_that_is_resumed_is_tried_at_once() {
    let mut is_first = true;
    let service = Service::new(move |_| match std::mem::take(&mut is_first) {
        true => Do::Answer(503, "retry-after: 600\r\n", String::new()),
        false => ok("well again"),
    });
    let setup = setup();
    let server = setup.start();
    declare(&server, &service, "");
    call(&server, "first");
    until("it is suspended", || upstream(&server)["state"] == "suspended");
    let second = call(&server, "second");
    server.ok("operation resume op");
    assert_eq!(outcome(&server, &second)["state"], "succeeded");
    assert_eq!((upstream(&server)["state"].as_str(), service.asked().len()), (Some("active"), 2));
}

#[test]
fn retries_that_are_used_up_end_with_the_last_answer_or_a_problem() {
    let service = Service::new(|asked: &Asked| match asked.body.as_str() {
        "busy" => Do::Answer(503, "content-type: text/plain\r\n", "still busy".into()),
        _ => Do::Slowly(Duration::from_secs(60), 200, String::new()),
    });
    let setup = setup();
    let server = setup.start();
    declare(&server, &service, "--upstream-timeout 2s --max-attempts 2");
    let busy = outcome(&server, &call(&server, "busy"));
    assert_eq!((busy["attempt"].as_u64(), busy["result"]["status"].as_u64()), (Some(2), Some(503)), "{busy}");
    let slow = outcome(&server, &call(&server, "slow"));
    assert_eq!(
        (slow["state"].as_str(), slow["problem"]["status"].as_u64()),
        (Some("failed"), Some(504)),
        "{slow}"
    );
    assert_eq!(slow["problem"]["type"], "urn:waystation:problem:call-upstream-timeout");
}

#[test]
fn a_call_that_is_cancelled_or_expires_is_not_sent_and_one_under_way_is_dropped() {
    let service = Service::new(|_| Do::Slowly(Duration::from_secs(30), 200, String::new()));
    let setup = setup();
    let server = setup.start();
    declare(&server, &service, "--upstream-concurrency 1");
    let (first, second) = (call(&server, "first"), call(&server, "second"));
    until("it is worked on", || server.json(&format!("calls show {first}"))["state"] == "working");
    assert_eq!(server.json(&format!("calls show {first}"))["attempt"], 1);
    let third = server.ok("call op third --detach --timeout 200ms").trim().to_owned();
    assert_eq!(outcome(&server, &third)["state"], "expired");
    server.ok(&format!("calls cancel {second}"));
    server.ok(&format!("calls cancel {first}"));
    until("the connection is dropped", || service.cut() == 1);
    let last = call(&server, "last");
    until("the way is free", || service.asked().len() == 2);
    let bodies: Vec<_> = service.asked().into_iter().map(|asked| asked.body).collect();
    assert_eq!(bodies, ["first", "last"]);
    server.ok(&format!("calls cancel {last}"));
    until("nothing is left", || upstream(&server)["requests"] == 0);
    assert_eq!(upstream(&server)["counts"]["dropped"], 2);
}

#[test]
fn an_upstream_that_fails_is_left_alone_and_goes_on_when_it_is_back() {
    let mut service = Service::new(|asked: &Asked| ok(asked.body.clone()));
    let setup = setup();
    let server = setup.start();
    let url = service.url();
    service.die();
    server.ok(&format!(
        "operation create op --upstream {url} --max-attempts 1000 --upstream-retry first=10ms,most=20ms \
         --upstream-breaker-failures 3 --upstream-breaker-pause 300ms --upstream-breaker-pause-max 300ms"
    ));
    let ids: Vec<_> = (0..5).map(|n| call(&server, &format!("n{n}"))).collect();
    until("it is suspended", || upstream(&server)["state"] == "suspended");
    let seen = upstream(&server);
    assert!(seen["reason"].as_str().expect("a reason").contains("no connection"), "{seen}");
    assert!(!seen["until"].is_null() && !seen["failures"][0]["cause"].is_null(), "{seen}");
    service.come_back();
    for id in &ids {
        assert_eq!(outcome(&server, id)["state"], "succeeded");
    }
    until("it goes on", || upstream(&server)["state"] == "active");
    assert_eq!(service.asked().len(), 5);
}

#[test]
fn concurrency_and_rate_are_kept() {
    let service = Service::new(|asked: &Asked| match asked.body.starts_with('n') {
        true => Do::Slowly(Duration::from_millis(500), 200, String::new()),
        false => ok(""),
    });
    let setup = setup();
    let server = setup.start();
    declare(&server, &service, "--upstream-concurrency 3 --body-bytes-max 1KiB --upstream-paused");
    let ids: Vec<_> = (0..10).map(|n| call(&server, &format!("n{n}"))).collect();
    server.ok("operation resume op");
    for id in &ids {
        assert_eq!(outcome(&server, id)["state"], "succeeded");
    }
    assert_eq!(service.most(), 3);
    // Two may go at once, and then one in an hour: the rest waits, for others too.
    let url = service.url();
    server.ok(&format!("operation create slow --upstream {url} --upstream-rate 1/h --upstream-burst 2"));
    let ids: Vec<_> =
        (0..4).map(|n| server.ok(&format!("call slow r{n} --detach")).trim().to_owned()).collect();
    until("two are done", || {
        ids.iter().filter(|id| server.json(&format!("calls show {id}"))["state"] == "succeeded").count() == 2
    });
    until("the rest is throttled", || server.json("operation show slow")["upstream"]["state"] == "throttled");
    let taken = http(
        &server,
        "POST /v1/operations/slow/receive?max=10&wait_ms=5000 HTTP/1.1\r\ncontent-length: 0\r\n",
        "",
    );
    assert!(taken.contains("\"attempt\":1"), "{taken}");
    assert_eq!(service.asked().iter().filter(|asked| asked.body.starts_with('r')).count(), 2);
}

#[test]
fn requests_wait_for_room_in_memory() {
    let service = Service::new(|_| Do::Slowly(Duration::from_millis(100), 200, String::new()));
    let setup = setup();
    let mut command = setup.command();
    command.env("WAYSTATION_UPSTREAMS_BUFFER_BYTES_MAX", (32u64 << 20).to_string());
    let server = setup.start_command(command);
    // Room for two of the largest answers, but not for their requests too.
    declare(&server, &service, "--upstream-concurrency 8 --upstream-response-bytes-max 16MiB");
    let ids: Vec<_> = (0..5).map(|n| call(&server, &format!("n{n}"))).collect();
    for id in &ids {
        assert_eq!(outcome(&server, id)["state"], "succeeded");
    }
    assert_eq!(service.most(), 1);
}

#[test]
fn a_paused_upstream_is_sent_nothing_and_a_change_waits_for_what_is_under_way() {
    let service = Service::new(|asked: &Asked| match asked.body.as_str() {
        "slow" => Do::Slowly(Duration::from_millis(500), 200, String::new()),
        _ => ok(""),
    });
    let setup = setup();
    let server = setup.start();
    declare(&server, &service, "--upstream-header authorization=hunter2");
    let slow = call(&server, "slow");
    until("it is under way", || !service.asked().is_empty());
    server.ok("operation pause op");
    let later = call(&server, "later");
    assert_eq!(outcome(&server, &slow)["state"], "succeeded");
    until("it is paused", || upstream(&server)["state"] == "paused");
    assert_eq!(server.json(&format!("calls show {later}"))["state"], "queued");
    server.ok("operation resume op");
    assert_eq!(outcome(&server, &later)["state"], "succeeded");
    let asked = service.asked();
    assert_eq!((asked.len(), asked[1].header("authorization")), (2, "hunter2"));
    assert!(!server.ok("operation show op").contains("hunter2"));
    server.ok("operation create op --change");
    server.cli(&["operation", "pause", "op"]).bad(4, "has no upstream");
}

#[test]
fn an_upstream_on_this_machine_is_refused_unless_it_is_allowed() {
    let mut setup = setup();
    setup.arguments.truncate(6);
    let server = setup.start();
    for url in ["http://127.0.0.1:9/", "https://localhost/", "http://169.254.169.254/latest"] {
        server.cli(&["operation", "create", "op", "--upstream", url]).bad(4, "upstreams.allow");
    }
}

#[test]
fn a_kill_in_the_middle_loses_no_call_and_each_ends_once() {
    let service =
        Service::new(|asked: &Asked| Do::Slowly(Duration::from_millis(150), 200, asked.body.clone()));
    let setup = setup();
    let mut server = setup.start();
    declare(&server, &service, "--max-attempts 100 --upstream-concurrency 4 --upstream-header x-key=k");
    let ids: Vec<_> = (0..12).map(|n| call(&server, &format!("n{n}"))).collect();
    for round in 1..=2 {
        until("some are under way", || service.asked().len() >= 4 * round);
        server.kill();
        server = setup.start();
    }
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(outcome(&server, id)["state"], "succeeded");
        assert_eq!(server.ok(&format!("calls result {id}")), format!("n{n}"));
    }
    // Each was sent at least once, and always under its own key.
    let mut keys: HashMap<String, String> = HashMap::new();
    for asked in service.asked() {
        let before = keys.insert(asked.body.clone(), asked.header("idempotency-key").to_owned());
        assert!(before.is_none_or(|before| before == asked.header("idempotency-key")));
        assert_eq!(asked.header("x-key"), "k", "it is known after a restart");
    }
    assert_eq!(keys.len(), 12);
    let finals = server.ok("peek $calls --count 1000").matches("\"finished\"").count();
    assert!(finals <= 12, "{finals} outcomes of 12 calls");
}

#[test]
fn all_three_kinds_of_worker_serve_one_operation_at_once() {
    // It is busy with its first call until the others have had theirs.
    let gate = Arc::new((Mutex::new(false), Condvar::new()));
    let service = Service::new({
        let gate = gate.clone();
        move |_| {
            let open = gate.0.lock().expect("sound");
            drop(gate.1.wait_while(open, |open| !*open).expect("sound"));
            ok("upstream")
        }
    });
    let setup = setup();
    let server = setup.start();
    declare(&server, &service, "--upstream-concurrency 1");
    let ids: Vec<_> = (0..12).map(|n| call(&server, &format!("n{n}"))).collect();
    // A puller, and a queue client that replies.
    let pulled = http(
        &server,
        "POST /v1/operations/op/receive?max=1&wait_ms=5000 HTTP/1.1\r\ncontent-length: 0\r\n",
        "",
    );
    let pulled: Value =
        serde_json::from_str(pulled.rsplit("\r\n\r\n").next().expect("a body")).expect("JSON");
    let id = pulled["calls"][0]["id"].as_str().expect("a call");
    let done = http(
        &server,
        &format!("POST /v1/calls/{id}/complete?attempt=1 HTTP/1.1\r\ncontent-length: 6\r\n"),
        "puller",
    );
    assert!(done.contains("succeeded"), "{done}");
    let taken = server.json("consume op --count 1 --batch 1 --wait 5s");
    let id = taken["correlation_id"].as_str().unwrap_or_else(|| panic!("{taken}")).to_owned();
    server.ok(&format!("publish $calls.replies client -H correlation-id={id}"));
    *gate.0.lock().expect("sound") = true;
    gate.1.notify_all();
    let mut by: HashMap<String, usize> = HashMap::new();
    for id in &ids {
        assert_eq!(outcome(&server, id)["state"], "succeeded");
        *by.entry(server.ok(&format!("calls result {id}"))).or_default() += 1;
    }
    assert_eq!((by["puller"], by["client"], by["upstream"]), (1, 1, 10));
    assert_eq!(service.asked().len(), 10);
}

/// One request over a connection of its own; its whole answer.
fn http(server: &Server, head: &str, body: &str) -> String {
    use std::io::{Read as _, Write as _};
    let address = server.url.strip_prefix("http://").expect("plain HTTP");
    let mut stream = std::net::TcpStream::connect(address).expect("connected");
    let text = format!("{head}host: {address}\r\nconnection: close\r\n\r\n{body}");
    stream.write_all(text.as_bytes()).expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
