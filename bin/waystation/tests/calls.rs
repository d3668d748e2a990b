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
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};

const KILLS: usize = 6;
const CALLERS: u64 = 6;
const WORKERS: usize = 3;
/// Between two calls of a caller, so that looking at all of them afterwards does not take long.
const PAUSE: Duration = Duration::from_millis(20);
const CALLBACK: &str = "https://hooks.example.com/done";

/// What clients were told, over all runs of the server.
#[derive(Default)]
struct Told {
    /// Call by key: what was accepted.
    accepted: Mutex<HashMap<u64, String>>,
    /// Requests whose answer never came: the next run sees them again, under the same key.
    open: Mutex<HashSet<u64>>,
    /// Results that a worker was told are the outcome.
    completed: Mutex<HashMap<String, String>>,
    cancelled: Mutex<HashSet<String>>,
    keys: AtomicU64,
    results: AtomicU64,
}

fn client() -> Client {
    waystation_net::tls::install_provider();
    let builder = Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    builder.build().expect("a client")
}

/// Calls until the server is gone.
async fn caller(client: &Client, url: &str, told: &Told, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let again = told.open.lock().expect("sound").iter().next().copied();
        let key = again.unwrap_or_else(|| told.keys.fetch_add(1, Ordering::Relaxed));
        told.open.lock().expect("sound").remove(&key);
        let request = client
            .post(format!("{url}/v1/calls/op"))
            .header("idempotency-key", format!("\"{key}\""))
            .header("ws-callback-url", CALLBACK)
            .body(key.to_string());
        let Ok(answer) = request.send().await else {
            told.open.lock().expect("sound").insert(key);
            return;
        };
        assert_eq!(answer.status(), StatusCode::ACCEPTED);
        let location = answer.headers()["location"].to_str().expect("text").to_owned();
        let id = location.rsplit('/').next().expect("an id").to_owned();
        if key % 5 == 0 {
            cancel(client, url, told, &id).await;
        }
        let before = told.accepted.lock().expect("sound").insert(key, id.clone());
        assert!(before.is_none_or(|before| before == id), "key {key} gave two calls");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn cancel(client: &Client, url: &str, told: &Told, id: &str) {
    let Ok(answer) = client.delete(format!("{url}/v1/calls/{id}")).send().await else { return };
    let Ok(answer) = answer.json::<Value>().await else { return };
    if answer["cancelled"] == true {
        told.cancelled.lock().expect("sound").insert(id.to_owned());
    }
}

/// Works until the server is gone, or told to stop.
async fn worker(client: &Client, url: &str, told: &Told, stop: &AtomicBool) {
    while !stop.load(Ordering::Relaxed) {
        let receive = format!("{url}/v1/operations/op/receive?max=10&wait_ms=200&lease_ms=500");
        let Ok(answer) = client.post(receive).send().await else { return };
        let Ok(page) = answer.json::<Value>().await else { return };
        for work in page["calls"].as_array().expect("calls") {
            let id = work["id"].as_str().expect("an id");
            let result = told.results.fetch_add(1, Ordering::Relaxed).to_string();
            let path = format!("{url}/v1/calls/{id}/complete?attempt={}", work["attempt"]);
            let Ok(answer) = client.post(path).body(result.clone()).send().await else { return };
            if answer.status() == StatusCode::OK {
                let before = told.completed.lock().expect("sound").insert(id.to_owned(), result);
                assert_eq!(before, None, "two workers were told that theirs is the outcome of {id}");
            } else {
                assert_eq!(answer.status(), StatusCode::CONFLICT);
            }
        }
    }
}

async fn get(client: &Client, url: String) -> Value {
    client.get(url).send().await.expect("an answer").json().await.expect("JSON")
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
    let mut server = setup.start();
    // A kill ends a lease, and so does a slow machine: neither shall use up a call's attempts.
    server.ok("operation create op --max-attempts 1000 --callback-allow https://hooks.example.com/*");
    for _ in 0..KILLS {
        let url = server.url.clone();
        run(&client, &url, &told, Duration::from_millis(500), || server.kill()).await;
        server = setup.start();
    }
    let url = server.url.clone();
    finish(&client, &url, &told).await;
    let accepted = told.accepted.lock().expect("sound").clone();
    assert!(accepted.len() > 50, "only {} calls were accepted", accepted.len());
    let distinct: HashSet<_> = accepted.values().collect();
    assert_eq!(distinct.len(), accepted.len(), "two keys have one call");
    check_states(&client, &url, &told, &accepted).await;
    check_records(&client, &url, &accepted).await;
    let told = told.completed.lock().expect("sound").len();
    println!("{} calls, {told} of them completed by a worker that heard so, {KILLS} kills", accepted.len());
}

/// Callers and workers at once for a while, then what ends them.
async fn run(client: &Client, url: &str, told: &Told, time: Duration, end: impl FnOnce()) {
    let stop = AtomicBool::new(false);
    let callers = (0..CALLERS).map(|_| caller(client, url, told, &stop));
    let workers = (0..WORKERS).map(|_| worker(client, url, told, &stop));
    let timer = async {
        tokio::time::sleep(time).await;
        end();
        stop.store(true, Ordering::Relaxed);
    };
    tokio::join!(futures_util::future::join_all(callers), futures_util::future::join_all(workers), timer);
}

/// Sends again what was not answered, and works until every call has its outcome.
async fn finish(client: &Client, url: &str, told: &Told) {
    let stop = AtomicBool::new(false);
    let open = async {
        loop {
            let queued = get(client, format!("{url}/v1/calls?limit=1&state=queued")).await;
            let working = get(client, format!("{url}/v1/calls?limit=1&state=working")).await;
            let is_done = [&queued, &working].iter().all(|page| page["items"] == json!([]));
            if is_done && told.open.lock().expect("sound").is_empty() {
                return stop.store(true, Ordering::Relaxed);
            }
            if !told.open.lock().expect("sound").is_empty() {
                let once = AtomicBool::new(false);
                let again = caller(client, url, told, &once);
                let _ = tokio::time::timeout(Duration::from_millis(1), again).await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let all = async { tokio::join!(open, worker(client, url, told, &stop)) };
    tokio::time::timeout(PATIENCE, all).await.expect("every call ends");
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
    assert!(finals.len() >= accepted.len());
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
