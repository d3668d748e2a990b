//! Does each call that the real program accepted end with exactly one outcome, though it is killed again and again?

mod common;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{PATIENCE, Server, Setup, until};
use futures_util::future::join_all;
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;

const KILLS: usize = 6;
const CALLERS: usize = 6;
const WORKERS: usize = 3;
/// Calls that are accepted in each run before its end: however slow the machine is, there is something that could be lost.
const ACCEPTED_PER_RUN: usize = 20;
/// Between two calls of a caller, so that looking at all of them afterwards does not take long.
const PAUSE: Duration = Duration::from_millis(20);
/// Short, so that work which was in hand at a kill is soon given to somebody else.
const LEASE_MS: u64 = 500;
/// A worker whose lease ran out asks for a longer one, up to this: on a slow machine too a call is completed some time.
const LEASE_MS_MAX: u64 = 30_000;
const CALLBACK: &str = "https://hooks.example.com/done";

/// What clients were told, over all runs of the server.
#[derive(Default)]
struct Told {
    /// Call by key: what was accepted.
    accepted: Mutex<HashMap<u64, String>>,
    /// Results that a worker was told are the outcome.
    completed: Mutex<HashMap<String, String>>,
    cancelled: Mutex<HashSet<String>>,
    keys: AtomicU64,
    results: AtomicU64,
    /// Answers that asked to come again later.
    later: AtomicU64,
}

impl Told {
    /// Calls that were accepted, and calls that were completed.
    fn counts(&self) -> (usize, usize) {
        (self.accepted.lock().expect("sound").len(), self.completed.lock().expect("sound").len())
    }
}

/// One run of the server, as its clients see it.
struct Run<'a> {
    client: &'a Client,
    url: String,
    told: &'a Told,
    stop: AtomicBool,
}

fn client() -> Client {
    waystation_net::tls::install_provider();
    let builder = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.build().expect("a client")
}

impl<'a> Run<'a> {
    fn new(client: &'a Client, url: &str, told: &'a Told) -> Run<'a> {
        Run { client, url: url.to_owned(), told, stop: AtomicBool::new(false) }
    }

    fn is_over(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }

    /// Calls until it is over. What has no answer by then is still `pending`, for the next run.
    async fn caller(&self, pending: &mut Option<u64>) {
        while !self.is_over() {
            let key = *pending.get_or_insert_with(|| self.told.keys.fetch_add(1, Ordering::Relaxed));
            if self.call(key).await {
                *pending = None;
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Calls once, under a key; says whether that was accepted. If not it is to be sent again, under the same key.
    async fn call(&self, key: u64) -> bool {
        let request = self
            .client
            .post(format!("{}/v1/calls/op", self.url))
            .header("idempotency-key", format!("\"{key}\""))
            .header("ws-callback-url", CALLBACK)
            .body(key.to_string());
        let Ok(answer) = request.send().await else { return false };
        if answer.status() != StatusCode::ACCEPTED {
            self.later(answer).await;
            return false;
        }
        let location = answer.headers()["location"].to_str().expect("text").to_owned();
        let id = location.rsplit('/').next().expect("an id").to_owned();
        let before = self.told.accepted.lock().expect("sound").insert(key, id.clone());
        assert!(before.is_none_or(|before| before == id), "key {key} gave two calls");
        if key.is_multiple_of(5) {
            self.cancel(&id).await;
        }
        true
    }

    /// The one refusal that is no fault: the server has no room now. Whoever hears it waits for as long as it says.
    async fn later(&self, answer: Response) {
        let status = answer.status();
        let after_s = answer.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let said = answer.text().await.unwrap_or_default();
        assert!(matches!(status.as_u16(), 429 | 503), "{status}: {said}");
        let after_s = after_s.unwrap_or_else(|| panic!("{status} says nothing of when: {said}"));
        self.told.later.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(after_s)).await;
    }

    async fn cancel(&self, id: &str) {
        let request = self.client.delete(format!("{}/v1/calls/{id}", self.url));
        let Ok(answer) = request.send().await else { return };
        let Ok(answer) = answer.json::<Value>().await else { return };
        if answer["cancelled"] == true {
            self.told.cancelled.lock().expect("sound").insert(id.to_owned());
        }
    }

    /// Works until it is over.
    async fn worker(&self) {
        let mut lease_ms = LEASE_MS;
        while !self.is_over() {
            for work in self.receive(lease_ms).await {
                if self.complete(&work).await == Completed::TooLate {
                    lease_ms = (lease_ms * 2).min(LEASE_MS_MAX);
                }
            }
        }
    }

    async fn receive(&self, lease_ms: u64) -> Vec<Value> {
        let path = format!("{}/v1/operations/op/receive?max=10&wait_ms=200&lease_ms={lease_ms}", self.url);
        match self.client.post(path).send().await {
            Ok(answer) if answer.status() == StatusCode::OK => {
                let Ok(page) = answer.json::<Value>().await else { return Vec::new() };
                page["calls"].as_array().unwrap_or_else(|| panic!("{page}")).clone()
            }
            Ok(answer) => {
                self.later(answer).await;
                Vec::new()
            }
            Err(_) => {
                tokio::time::sleep(PAUSE).await;
                Vec::new()
            }
        }
    }

    async fn complete(&self, work: &Value) -> Completed {
        let id = work["id"].as_str().expect("an id");
        let result = self.told.results.fetch_add(1, Ordering::Relaxed).to_string();
        let path = format!("{}/v1/calls/{id}/complete?attempt={}", self.url, work["attempt"]);
        let Ok(answer) = self.client.post(path).body(result.clone()).send().await else {
            return Completed::Unknown;
        };
        match answer.status() {
            StatusCode::OK => {
                let before = self.told.completed.lock().expect("sound").insert(id.to_owned(), result);
                assert_eq!(before, None, "two workers were told that theirs is the outcome of {id}");
                Completed::Told
            }
            StatusCode::CONFLICT => {
                let Ok(problem) = answer.json::<Value>().await else { return Completed::Unknown };
                match problem["type"] == "urn:waystation:problem:not-held" {
                    true => Completed::TooLate,
                    false => Completed::Unknown,
                }
            }
            _ => {
                self.later(answer).await;
                Completed::Unknown
            }
        }
    }
}

/// What a worker learnt of its result.
#[derive(PartialEq)]
enum Completed {
    /// It is the outcome.
    Told,
    /// Its lease had run out.
    TooLate,
    /// Somebody else was faster, or nobody answered.
    Unknown,
}

async fn get(client: &Client, url: String) -> Value {
    let answer = client.get(url).send().await.expect("an answer");
    assert_eq!(answer.status(), StatusCode::OK, "{answer:?}");
    answer.json().await.expect("JSON")
}

/// All messages of a topic or queue, looked at.
async fn messages(client: &Client, url: &str, path: &str) -> Vec<Value> {
    let (mut all, mut from) = (Vec::new(), String::new());
    loop {
        let page = get(client, format!("{url}/v1/{path}/messages?limit=1000{from}")).await;
        all.extend(page["messages"].as_array().unwrap_or_else(|| panic!("{page}")).iter().cloned());
        match page["next"].as_str() {
            Some(next) => from = format!("&from={next}"),
            None => return all,
        }
    }
}

#[tokio::test]
async fn each_accepted_call_has_exactly_one_outcome_though_the_server_is_killed_again_and_again() {
    let (setup, client, told) = (Setup::new(), client(), Told::default());
    let mut pending = [None; CALLERS];
    let mut server = setup.start();
    // A kill ends a lease, and so does a slow machine: neither shall use up a call's attempts.
    server.ok("operation create op --max-attempts 1000 --callback-allow https://hooks.example.com/*");
    for number in 0..KILLS {
        let run = Run::new(&client, &server.url, &told);
        // Not always at the same place between two calls.
        let then = PAUSE / KILLS as u32 * number as u32;
        busy(&run, &mut pending, then, || server.kill()).await;
        server = setup.start();
    }
    finish(&Run::new(&client, &server.url, &told), pending).await;
    let accepted = told.accepted.lock().expect("sound").clone();
    let distinct: HashSet<_> = accepted.values().collect();
    assert_eq!(distinct.len(), accepted.len(), "two keys have one call");
    check_states(&client, &server.url, &told, &accepted).await;
    check_records(&client, &server.url, &accepted).await;
    let completed = told.completed.lock().expect("sound").len();
    let later = told.later.load(Ordering::Relaxed);
    println!("{} calls, {completed} of them completed by a worker that heard so", accepted.len());
    println!("{KILLS} kills, {later} answers that said \"later\"");
}

/// Callers and workers at once until enough was accepted and something completed; a little later comes what ends the run.
async fn busy(run: &Run<'_>, pending: &mut [Option<u64>], then: Duration, end: impl FnOnce()) {
    let (accepted, completed) = run.told.counts();
    let ending = async {
        let is_enough = || {
            let now = run.told.counts();
            now.0 >= accepted + ACCEPTED_PER_RUN && now.1 > completed
        };
        let enough = async {
            while !is_enough() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        patiently("enough calls are accepted, and one completed", run.told, enough).await;
        tokio::time::sleep(then).await;
        end();
        run.stop.store(true, Ordering::Relaxed);
    };
    let callers = join_all(pending.iter_mut().map(|pending| run.caller(pending)));
    tokio::join!(callers, join_all((0..WORKERS).map(|_| run.worker())), ending);
}

/// Sends again what has no answer and what has one, and works until every call has its outcome.
async fn finish(run: &Run<'_>, pending: [Option<u64>; CALLERS]) {
    let open = async {
        let answered: Vec<_> = run.told.accepted.lock().expect("sound").keys().copied().collect();
        for key in pending.into_iter().flatten().chain(answered) {
            let accepted = async { while !run.call(key).await {} };
            patiently("it is accepted", run.told, accepted).await;
        }
        let all: Vec<_> = run.told.accepted.lock().expect("sound").values().cloned().collect();
        for id in all {
            let path = format!("{}/v1/calls/{id}?follow=false&wait=5", run.url);
            let ended = async { while get(run.client, path.clone()).await["finished"].is_null() {} };
            patiently("it has its outcome", run.told, ended).await;
        }
        run.stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(open, run.worker());
}

/// Waits for what must come, and gives up when for long nothing else has come either.
async fn patiently(what: &str, told: &Told, comes: impl Future<Output = ()>) {
    tokio::pin!(comes);
    let mut before = told.counts();
    while tokio::time::timeout(PATIENCE, &mut comes).await.is_err() {
        let now = told.counts();
        assert_ne!(now, before, "waited too long until {what}");
        before = now;
    }
}

async fn check_states(client: &Client, url: &str, told: &Told, accepted: &HashMap<u64, String>) {
    let (completed, cancelled) =
        (told.completed.lock().expect("sound").clone(), told.cancelled.lock().expect("sound").clone());
    for id in accepted.values() {
        let call = get(client, format!("{url}/v1/calls/{id}?follow=false")).await;
        let state = call["state"].as_str().expect("a state");
        assert!(matches!(state, "succeeded" | "cancelled"), "{call}");
        assert!(!cancelled.contains(id) || state == "cancelled", "a cancellation was told: {call}");
        if let Some(result) = completed.get(id) {
            assert_eq!(state, "succeeded", "a completion was told: {call}");
            let answer = client.get(format!("{url}/v1/calls/{id}/result")).send().await.expect("an answer");
            assert_eq!(&answer.text().await.expect("a body"), result, "{id}");
        }
    }
}

/// The records themselves: one final one for each call, and one callback.
async fn check_records(client: &Client, url: &str, accepted: &HashMap<u64, String>) {
    let mut finals: HashMap<String, usize> = HashMap::new();
    for message in messages(client, url, "topics/$calls").await {
        let body = STANDARD.decode(message["body_base64"].as_str().expect("bytes")).expect("base64");
        let line = body.split(|byte| *byte == b'\n').next().expect("a line");
        let record: Value = serde_json::from_slice(line).expect("a record");
        if !record["finished"].is_null() {
            *finals.entry(record["id"].as_str().expect("an id").to_owned()).or_default() += 1;
        }
    }
    let mut callbacks: HashMap<String, usize> = HashMap::new();
    for message in messages(client, url, "queues/$calls.callbacks").await {
        let id = message["headers"]["webhook-id"].as_str().expect("an id").to_owned();
        assert_eq!(message["headers"]["callback-url"], CALLBACK);
        *callbacks.entry(id).or_default() += 1;
    }
    for id in accepted.values() {
        assert_eq!((finals.get(id), callbacks.get(id)), (Some(&1), Some(&1)), "{id}");
    }
    assert_eq!(finals.len(), accepted.len(), "a call that nobody was told of");
}

/// The id of the only call.
fn the_call(server: &Server) -> String {
    let mut id = None;
    until("a call is accepted", || {
        let all = server.json("calls list");
        id = all[0]["id"].as_str().map(str::to_owned);
        id.is_some()
    });
    id.expect("a call")
}

#[test]
fn the_command_line_calls_waits_and_fails_as_the_call_does() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("operation create op --timeout 1m");
    server.cli(&["call", "nothing", "x"]).bad(3, "does not exist");
    std::thread::scope(|scope| {
        let called = scope.spawn(|| server.cli(&["call", "op", r#"{"n":1}"#]));
        let id = the_call(&server);
        let reply = format!("publish $calls.replies done -H call-status=200 -H correlation-id={id}");
        server.ok(&reply);
        assert_eq!(called.join().expect("it ends").good(), "done");
        assert!(server.ok(&format!("calls show {id}")).contains("succeeded"));
        assert_eq!(server.ok(&format!("calls result {id}")), "done");
    });
    let id = server.ok("call op x --detach").trim().to_owned();
    assert!(server.ok(&format!("calls cancel {id}")).contains("is cancelled; it was queued"));
    server.cli(&["calls", "cancel", &id]).bad(4, "");
    server.cli(&["calls", "result", &id]).bad(1, "cancelled");
    server.cli(&["call", "op", "x", "--wait", "50ms"]).bad(1, "has no result yet");
    assert_eq!(server.json("calls list --state queued").as_array().map(Vec::len), Some(1));
    assert!(server.ok("operation show op").contains("timeout_ms"));
    assert!(server.ok("operation list").contains("op"));
    server.ok("operation delete op");
}

#[test]
fn calls_that_failed_are_tried_anew_one_by_one_and_many_at_once() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("operation create op");
    let fail =
        |id: &str| server.ok(&format!("publish $calls.replies no -H call-error=no -H correlation-id={id}"));
    let call = |body: &str| server.ok(&format!("call op {body} --detach")).trim().to_owned();
    let (first, second, third) = (call("1"), call("2"), call("3"));
    server.cli(&["calls", "retry", &first]).bad_said(4, "the call is queued");
    for id in [&first, &second, &third] {
        fail(id);
        server.ok(&format!("calls show {id} --wait 10s"));
    }
    let retried = server.json(&format!("calls retry {first}"));
    let new = retried[0]["retried_as"].as_str().expect("a call").to_owned();
    assert!(server.ok(&format!("calls retry {first}")).contains(&format!("was retried before as {new}")));
    let shown = server.ok(&format!("calls show {new}"));
    assert!(shown.contains("queued") && shown.contains(&first), "{shown}");
    assert!(server.ok(&format!("calls show {first}")).contains(&new));
    // One was tried anew already; of the others nothing is done before somebody is sure.
    server.cli(&["calls", "retry", "--all"]).bad(2, "--yes does it");
    let preview = server.ok("calls retry --all --operation op --dry-run");
    assert!(preview.contains("would retry 2 calls") && preview.contains(&second), "{preview}");
    let done = server.ok("calls retry --all --operation op --yes");
    assert!(done.contains(&second) && done.contains(&third) && !done.contains(&first), "{done}");
    assert!(server.ok("calls retry --all --dry-run").contains("would retry 0 calls"));
    assert_eq!(server.json("calls list --state queued").as_array().map(Vec::len), Some(3));
}
