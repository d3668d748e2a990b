//! Does an upstream that is hostile, absent or elsewhere than it says harm nobody but its own calls?

mod common;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use common::{Running, op, topic};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::oneshot,
    task::JoinHandle,
};
use waystation_base::{Name, os::OsClock};
use waystation_broker::{
    Source,
    command::Hold,
    spec::{QueueSpec, RetryPolicy, Spec},
};
use waystation_calls::{
    Call, CallId, Error, Operation, State, Statuses, Upstream, UpstreamState,
    limits::{UPSTREAM_BUFFER_BYTES_MIN, UPSTREAMS_MAX},
    names::LATE,
};
use waystation_host::Broker;
use waystation_outbound::{
    Guard,
    breaker::Breaking,
    exchange::Client,
    guard::{Found, Lookup},
};

/// What the system would tell of names.
struct Names(Mutex<Vec<(&'static str, &'static str)>>);

impl Names {
    fn new(names: &[(&'static str, &'static str)]) -> Arc<Names> {
        Arc::new(Names(Mutex::new(names.to_vec())))
    }

    fn set(&self, name: &'static str, address: &'static str) {
        let mut names = self.0.lock().expect("sound");
        names.retain(|(it, _)| *it != name);
        names.push((name, address));
    }
}

impl Lookup for Names {
    fn lookup(&self, host: String) -> Found {
        let names = self.0.lock().expect("sound");
        let found = names.iter().find(|(name, _)| *name == host).map(|(_, address)| *address);
        let found = found.ok_or_else(|| io::Error::other("no such name"));
        let parsed = found.map(|it| vec![SocketAddr::new(it.parse().expect("an address"), 0)]);
        Box::pin(async move { parsed })
    }
}

/// A broker with its engine, and the workers of upstreams.
struct Serving {
    running: Running,
    end: oneshot::Sender<()>,
    workers: JoinHandle<()>,
}

impl Serving {
    fn start(dir: &TempDir, allow: &[&str], names: Arc<Names>) -> Serving {
        let running = Running::start(dir.path());
        let rules = allow.iter().map(|rule| rule.parse().expect("a rule")).collect();
        let client =
            Client::new(Guard::with_lookup("upstreams", rules, true, names), None).expect("a client");
        let upstreams = running.calls.upstreams(client, Arc::new(OsClock), UPSTREAM_BUFFER_BYTES_MIN);
        let (end, ended) = oneshot::channel::<()>();
        let workers = tokio::spawn(upstreams.serve(async { drop(ended.await) }));
        Serving { running, end, workers }
    }

    async fn stop(self) {
        drop(self.end);
        self.workers.await.expect("no panic");
        self.running.crash().await;
    }

    async fn declare(&self, name: &str, upstream: Upstream, attempts: u32) -> Result<(), Error> {
        let operation =
            Operation { upstream: Some(upstream), max_attempts: attempts, ..Operation::default() };
        self.redeclare(name, operation).await
    }

    async fn redeclare(&self, name: &str, operation: Operation) -> Result<(), Error> {
        let broker: Broker = self.running.broker.clone();
        self.running.calls.declare(broker, op(name), operation, true).await.map(|_| ())
    }

    async fn outcome(&self, body: &str) -> Call {
        let id = self.running.call("op", body).await;
        self.running.outcome(id).await
    }

    async fn is(&self, state: UpstreamState) {
        loop {
            let operation = self.running.calls.operation(&op("op")).await.expect("declared");
            let seen = self.running.calls.upstream(&op("op"), &operation).expect("an upstream");
            if seen.state == state {
                return;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// Answers every request with these bytes and closes; counts them.
async fn service(answer: impl Into<Vec<u8>>) -> (SocketAddr, Arc<AtomicUsize>) {
    let answer: Arc<Vec<u8>> = Arc::new(answer.into());
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let (address, asked) = (listener.local_addr().expect("bound"), Arc::new(AtomicUsize::new(0)));
    let count = asked.clone();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, answer.clone(), count.clone()));
        }
    });
    (address, asked)
}

async fn converse(mut stream: TcpStream, answer: Arc<Vec<u8>>, asked: Arc<AtomicUsize>) {
    let (mut text, mut part) = (Vec::new(), vec![0; 4096]);
    while !text.windows(4).any(|four| four == b"\r\n\r\n") {
        match stream.read(&mut part).await {
            Ok(length) if length > 0 => text.extend_from_slice(&part[..length]),
            _ => return,
        }
    }
    asked.fetch_add(1, Ordering::SeqCst);
    let _ = stream.write_all(&answer).await;
    // What it does not take is not to hold this up for ever.
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.shutdown()).await;
}

fn to(address: SocketAddr) -> Upstream {
    quick(&format!("http://{address}/do"))
}

fn quick(url: &str) -> Upstream {
    Upstream {
        url: url.into(),
        timeout_ms: 2_000,
        retry: RetryPolicy { first_ms: 1, most_ms: 2, ..RetryPolicy::default() },
        breaker: Breaking { failures: 1_000, ..Breaking::default() },
        ..Upstream::default()
    }
}

fn answer(head: &str, body: &str) -> String {
    format!("HTTP/1.1 {head}connection: close\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

#[tokio::test]
async fn answers_are_taken_up_to_their_bound_and_a_byte_more_fails_the_call() {
    let dir = TempDir::new().expect("a folder");
    let serving = Serving::start(&dir, &["127.0.0.1"], Names::new(&[]));
    for (body, length_is_told) in [("12345678", true), ("123456789", true), ("123456789", false)] {
        let whole = match length_is_told {
            true => answer("200 OK\r\n", body),
            false => format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{body}"),
        };
        let (address, asked) = service(whole).await;
        let upstream = Upstream { response_bytes_max: 8, ..to(address) };
        serving.declare("op", upstream, 5).await.expect("declared");
        let call = serving.outcome("x").await;
        if body.len() == 8 {
            assert_eq!((call.record.state, &call.body[..]), (State::Succeeded, body.as_bytes()));
        } else {
            let fault = call.record.fault.expect("a problem");
            assert_eq!((call.record.state, fault.status), (State::Failed, 502));
            assert!(
                fault.kind.ends_with("call-result-unusable") && fault.detail.contains("8 bytes"),
                "{fault:?}"
            );
        }
        assert_eq!(asked.load(Ordering::SeqCst), 1, "it is not tried again");
    }
    serving.stop().await;
}

#[tokio::test]
async fn a_hostile_answer_fails_its_call_within_its_bounds() {
    let dir = TempDir::new().expect("a folder");
    let serving = Serving::start(&dir, &["127.0.0.1"], Names::new(&[]));
    let many: String = (0..500).map(|n| format!("x-{n}: y\r\n")).collect();
    let huge = format!("x-huge: {}\r\n", "y".repeat(1 << 20));
    let flood = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{}", "x".repeat(4 << 20));
    for (what, bytes, kind) in [
        ("no HTTP", "220 smtp.example ESMTP\r\n\r\n".to_owned(), "call-upstream-broken"),
        ("nothing", String::new(), "call-upstream-broken"),
        ("a cut body", "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nx".to_owned(), "call-upstream-broken"),
        ("many headers", answer(&format!("200 OK\r\n{many}"), ""), "call-upstream-broken"),
        ("a huge header", answer(&format!("200 OK\r\n{huge}"), ""), "call-upstream-broken"),
        ("a flood", flood, "call-result-unusable"),
        ("a status past all", answer("700 x\r\n", ""), "call-result-unusable"),
    ] {
        let (address, asked) = service(bytes).await;
        serving.declare("op", to(address), 2).await.expect("declared");
        let call = serving.outcome("x").await;
        let fault = call.record.fault.unwrap_or_else(|| panic!("{what}: {:?}", call.seen));
        assert!(fault.kind.ends_with(kind), "{what}: {fault:?}");
        let expected = if kind.ends_with("broken") { 2 } else { 1 };
        assert_eq!(asked.load(Ordering::SeqCst), expected, "{what}");
    }
    serving.stop().await;
}

#[tokio::test]
async fn a_slow_trickle_ends_with_the_time_limit() {
    let dir = TempDir::new().expect("a folder");
    let serving = Serving::start(&dir, &["127.0.0.1"], Names::new(&[]));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100000\r\n\r\n").await;
                while stream.write_all(b"x").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
    });
    serving.declare("op", Upstream { timeout_ms: 100, ..to(address) }, 2).await.expect("declared");
    let fault = serving.outcome("x").await.record.fault.expect("a problem");
    assert_eq!((fault.status, fault.kind.ends_with("call-upstream-timeout")), (504, true), "{fault:?}");
    serving.stop().await;
}

#[tokio::test]
async fn a_redirect_is_an_answer_and_leads_nowhere() {
    let dir = TempDir::new().expect("a folder");
    let serving = Serving::start(&dir, &["127.0.0.1"], Names::new(&[]));
    let (address, asked) = service(answer("307 x\r\nlocation: http://169.254.169.254/latest\r\n", "")).await;
    serving.declare("op", to(address), 5).await.expect("declared");
    let record = serving.outcome("x").await.record;
    let result = record.result.expect("a result");
    assert_eq!((record.state, result.status, result.headers.len()), (State::Succeeded, 307, 0));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    serving.stop().await;
}

#[tokio::test]
async fn what_must_not_be_sent_twice_is_sent_once() {
    let dir = TempDir::new().expect("a folder");
    let serving = Serving::start(&dir, &["127.0.0.1"], Names::new(&[]));
    for (bytes, status) in [(String::new(), 502), (answer("503 x\r\n", "busy"), 503)] {
        let (address, asked) = service(bytes).await;
        let once = Upstream { retry_unanswered: false, retry_on: vec![Statuses::One(409)], ..to(address) };
        serving.declare("op", once, 5).await.expect("declared");
        let record = serving.outcome("x").await.record;
        let found = record.fault.map(|it| it.status).or(record.result.map(|it| it.status));
        assert_eq!((found, asked.load(Ordering::SeqCst)), (Some(status), 1));
    }
    serving.stop().await;
}

#[tokio::test]
async fn internal_addresses_are_denied_at_the_declaration_and_at_the_connection() {
    let dir = TempDir::new().expect("a folder");
    let names = Names::new(&[("inside.example", "127.0.0.1"), ("moving.example", "93.184.215.14")]);
    let serving = Serving::start(&dir, &["allowed.example"], names.clone());
    for url in [
        "http://127.0.0.1/",
        "http://127.1/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/meta-data",
        "http://10.1.2.3/",
        "http://inside.example/",
        "ftp://a.example/",
        "http://user:pass@a.example/",
        "not a URL",
        "",
    ] {
        let refused = serving.declare("op", quick(url), 1).await;
        let Err(Error::Spec(error)) = refused else { panic!("{url} gave {refused:?}") };
        assert_eq!(error.field, "upstream", "{url}");
        if url.contains("inside") || url.contains("10.") {
            assert!(error.reason.contains("upstreams.allow"), "{url}: {error}");
        }
    }
    // Nobody knows the name yet.
    serving.declare("op", quick("http://later.example/"), 1).await.expect("declared");
    serving.declare("op", quick("http://moving.example/"), 1).await.expect("declared");
    names.set("moving.example", "127.0.0.1");
    let fault = serving.outcome("x").await.record.fault.expect("a problem");
    assert!(fault.kind.ends_with("call-upstream-unreachable"), "{fault:?}");
    assert!(fault.detail.contains("moving.example leads to 127.0.0.1"), "{fault:?}");
    assert!(fault.detail.contains("upstreams.allow"), "{fault:?}");
    // The allowed name may be inside.
    let (address, asked) = service(answer("200 OK\r\n", "ok")).await;
    names.set("allowed.example", "127.0.0.1");
    let url = format!("http://allowed.example:{}/", address.port());
    serving.declare("op", quick(&url), 1).await.expect("declared");
    assert_eq!(serving.outcome("x").await.record.state, State::Succeeded);
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    serving.stop().await;
}

#[tokio::test]
async fn without_workers_an_upstream_is_refused() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    let operation = Operation { upstream: Some(quick("https://a.example/")), ..Operation::default() };
    let refused = running.calls.declare(running.broker.clone(), op("op"), operation, false).await;
    assert!(
        matches!(&refused, Err(Error::Spec(error)) if error.reason.contains("no upstreams")),
        "{refused:?}"
    );
    running.crash().await;
}

#[tokio::test]
async fn a_queue_with_an_upstream_belongs_to_one_operation() {
    let dir = TempDir::new().expect("a folder");
    let serving = Serving::start(&dir, &["127.0.0.1"], Names::new(&[]));
    let on =
        |queue: &str, upstream| Operation { queue: Some(queue.into()), upstream, ..Operation::default() };
    let upstream = || Some(quick("http://127.0.0.1:9/"));
    serving.redeclare("a", on("q", None)).await.expect("declared");
    serving.redeclare("b", on("q", None)).await.expect("declared");
    for (name, operation) in [("a", on("q", upstream())), ("c", on("q", upstream()))] {
        let refused = serving.redeclare(name, operation).await;
        assert!(matches!(&refused, Err(Error::Spec(error)) if error.field == "queue"), "{refused:?}");
    }
    serving.redeclare("c", on("own", upstream())).await.expect("declared");
    let refused = serving.redeclare("a", on("own", None)).await;
    assert!(matches!(&refused, Err(Error::Spec(error)) if error.field == "queue"), "{refused:?}");
    serving.stop().await;
}

#[tokio::test]
async fn only_so_many_operations_have_an_upstream() {
    let dir = TempDir::new().expect("a folder");
    let serving = Serving::start(&dir, &["127.0.0.1"], Names::new(&[]));
    let paused = || Upstream { paused: true, ..quick("http://127.0.0.1:9/") };
    for number in 0..UPSTREAMS_MAX {
        serving.declare(&format!("o{number}"), paused(), 1).await.expect("declared");
    }
    let refused = serving.declare("more", paused(), 1).await;
    assert!(matches!(refused, Err(Error::Limit { .. })), "{refused:?}");
    serving.redeclare("more", Operation::default()).await.expect("without one");
    serving.declare("o7", Upstream { timeout_ms: 77, ..paused() }, 1).await.expect("a change");
    serving.stop().await;
}

#[tokio::test]
async fn a_message_that_is_no_call_goes_to_the_dead_letters_and_a_finished_call_leaves() {
    let dir = TempDir::new().expect("a folder");
    let serving = Serving::start(&dir, &["127.0.0.1"], Names::new(&[]));
    let broker = &serving.running.broker;
    let spec = QueueSpec { dead_letter: Some("dead".into()), ..QueueSpec::default() };
    for (name, spec) in [("dead", QueueSpec::default()), ("op", spec)] {
        broker.declare(op(name), Spec::Queue(spec), false, Default::default()).await.expect("declared");
    }
    let (address, asked) = service(answer("200 OK\r\n", "ok")).await;
    let paused = Upstream { paused: true, ..to(address) };
    serving.declare("op", paused.clone(), 5).await.expect("declared");
    broker.publish(op("op"), vec![common::message("stray")]).await.expect("published");
    let id = serving.running.call("op", "x").await;
    serving.running.calls.cancel(id).await.expect("cancelled");
    serving.declare("op", Upstream { paused: false, ..paused }, 5).await.expect("declared");
    assert_eq!(&serving.running.take("dead").await.expect("a dead letter").message.body[..], b"stray");
    let good = serving.outcome("y").await;
    assert_eq!((good.record.state, asked.load(Ordering::SeqCst)), (State::Succeeded, 1));
    let queue = broker.queue(op("op")).await.expect("a queue");
    assert_eq!((queue.ready, queue.in_flight, queue.delayed), (0, 0, 0));
    serving.stop().await;
}

#[tokio::test]
async fn a_call_whose_attempts_others_used_up_is_not_sent() {
    let dir = TempDir::new().expect("a folder");
    let serving = Serving::start(&dir, &["127.0.0.1"], Names::new(&[]));
    let (address, asked) = service(answer("200 OK\r\n", "ok")).await;
    serving.declare("op", Upstream { paused: true, ..to(address) }, 1).await.expect("declared");
    let id = serving.running.call("op", "x").await;
    let short = Some(20);
    let wait = Duration::from_secs(5);
    let taken = serving.running.calls.receive(&op("op"), 1, wait, short, &OsClock).await.expect("received");
    assert_eq!(taken.len(), 1);
    serving.declare("op", to(address), 1).await.expect("declared");
    let record = serving.running.outcome(id).await.record;
    assert_eq!((record.state, record.attempt, asked.load(Ordering::SeqCst)), (State::Failed, 1, 0));
    serving.stop().await;
}

#[tokio::test]
async fn a_reply_while_the_request_is_under_way_is_the_outcome_and_closes_the_connection() {
    let dir = TempDir::new().expect("a folder");
    let serving = Serving::start(&dir, &["127.0.0.1"], Names::new(&[]));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    serving.declare("op", Upstream { timeout_ms: 60_000, ..to(address) }, 5).await.expect("declared");
    let id: CallId = serving.running.call("op", "x").await;
    let (mut stream, _) = listener.accept().await.expect("a connection");
    serving.running.reply(id, &[], "replied").await;
    assert_eq!(&serving.running.outcome(id).await.body[..], b"replied");
    // The end of the stream, after the request.
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(common::PATIENCE, stream.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "the connection is still there");
    serving.is(UpstreamState::Active).await;
    serving.stop().await;
}

#[tokio::test]
async fn an_answer_that_comes_when_the_call_has_ended_is_kept_as_late() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    running.declare("op", Operation::default()).await;
    let id = running.call("op", "x").await;
    let source = Source::Queue(op("op"));
    let mut consumer =
        running.broker.consume(source, 1, Hold::Attached, Default::default()).await.expect("attached");
    let Some(waystation_host::Event::Messages(messages)) = consumer.next().await else { panic!("a message") };
    let held = waystation_calls::Held { tag: messages[0].tag, attempt: messages[0].attempt };
    running.calls.cancel(id).await.expect("cancelled");
    let answer = waystation_calls::Answer { status: 200, body: "late".into(), ..Default::default() };
    let end = waystation_calls::AttemptEnd::Answered(answer);
    let change = waystation_calls::Change::Attempted { held, queue: op("op"), end };
    assert_eq!(running.calls.change(id, change).await.err(), Some(Error::Closed(State::Cancelled)));
    let late = topic(&running.broker, LATE).await;
    assert_eq!((late.len(), &late[0].message.body[..]), (1, &b"late"[..]));
    let queue = running.broker.queue(Name::new("op").expect("a name")).await.expect("a queue");
    assert_eq!((queue.ready, queue.in_flight), (0, 0));
    running.crash().await;
}

#[tokio::test]
async fn each_call_has_one_outcome_though_answers_replies_cancellations_and_a_crash_come_at_once() {
    let dir = TempDir::new().expect("a folder");
    let mut serving = Serving::start(&dir, &["127.0.0.1"], Names::new(&[]));
    let (address, _) = service(answer("200 OK\r\n", "answered")).await;
    serving.declare("op", Upstream { concurrency: 8, ..to(address) }, 100).await.expect("declared");
    let mut ids = Vec::new();
    for round in 0..3 {
        for number in 0..40 {
            let id = serving.running.call("op", "x").await;
            ids.push(id);
            if number % 4 > 1 {
                // Now and then the upstream is first.
                tokio::time::sleep(Duration::from_millis(number % 3)).await;
            }
            match number % 2 {
                0 => drop(serving.running.calls.cancel(id).await.expect("answered")),
                _ => serving.running.reply(id, &[], "replied").await,
            }
        }
        if round < 2 {
            serving.workers.abort();
            serving.running.crash().await;
            serving = Serving::start(&dir, &["127.0.0.1"], Names::new(&[]));
        }
    }
    for id in &ids {
        let call = serving.running.outcome(*id).await;
        let is_good = match call.record.state {
            State::Succeeded => matches!(&call.body[..], b"answered" | b"replied"),
            state => state == State::Cancelled,
        };
        assert!(is_good, "{:?} {:?}", call.record, call.body);
    }
    let mut finals = std::collections::HashMap::<String, usize>::new();
    for message in topic(&serving.running.broker, "$calls").await {
        let line = message.message.body.split(|byte| *byte == b'\n').next().expect("a line").to_vec();
        let record: serde_json::Value = serde_json::from_slice(&line).expect("a record");
        if !record["finished"].is_null() {
            *finals.entry(record["id"].as_str().expect("an id").to_owned()).or_default() += 1;
        }
    }
    assert!(ids.iter().all(|id| finals.get(&id.to_string()) == Some(&1)), "{finals:?}");
    serving.stop().await;
}
