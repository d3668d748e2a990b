//! Is every acknowledged message accounted for when the server is killed again and again in the middle of the work?

mod common;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use common::{Setup, until};
use serde_json::{Value, json};

const KILLS: u64 = 22;
/// Messages whose publish is answered between two kills.
const MESSAGES_PER_KILL: u64 = 300;
const BATCH: u64 = 20;
const LEASE_MS: u64 = 1_500;

/// What is known from answers alone.
#[derive(Default)]
struct Account {
    acknowledged: BTreeSet<u64>,
    delivered: BTreeSet<u64>,
    settled: BTreeSet<u64>,
    deliveries: u64,
    /// Delivered although its acknowledgement had been confirmed.
    returned: Vec<u64>,
    /// Marked as delivered before.
    redelivered: u64,
}

/// What the parties share.
struct Scene {
    url: Mutex<String>,
    account: Mutex<Account>,
    over: AtomicBool,
    published: AtomicU64,
}

impl Scene {
    fn request(&self, client: &reqwest::Client, path: &str) -> reqwest::RequestBuilder {
        let url = self.url.lock().expect("not poisoned").clone();
        client.post(format!("{url}{path}"))
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn client() -> reqwest::Client {
    waystation_net::tls::install_provider();
    reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(20)).build().expect("a client")
}

/// The JSON of an answer that is a success.
async fn answer(request: reqwest::RequestBuilder) -> Option<Value> {
    let response = request.send().await.ok()?;
    if response.status().is_success() { response.json().await.ok() } else { None }
}

fn publish(scene: &Scene) {
    let client = client();
    runtime().block_on(async {
        let mut next = 0;
        while !scene.over.load(Ordering::Relaxed) {
            let numbers: Vec<u64> = (next..next + BATCH).collect();
            let lines = |n: &u64| format!("{}\n", json!({"id": format!("m-{n}"), "body": {"n": n}}));
            let body: String = numbers.iter().map(lines).collect();
            // Repeated until it is answered: the ids keep a message that was stored already from being stored twice.
            loop {
                let request = scene.request(&client, "/v1/queues/jobs/messages");
                let request = request.header("content-type", "application/x-ndjson").body(body.clone());
                if answer(request).await.is_some() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            scene.account.lock().expect("not poisoned").acknowledged.extend(numbers);
            next += BATCH;
            scene.published.store(next, Ordering::Relaxed);
        }
    });
}

fn consume(scene: &Scene, done: &AtomicBool) {
    let client = client();
    let receive = format!("/v1/queues/jobs/receive?max=50&wait_ms=200&lease_ms={LEASE_MS}");
    runtime().block_on(async {
        while !done.load(Ordering::Relaxed) {
            let Some(page) = answer(scene.request(&client, &receive)).await else {
                tokio::time::sleep(Duration::from_millis(5)).await;
                continue;
            };
            let messages = page["messages"].as_array().cloned().unwrap_or_default();
            let numbers: Vec<u64> =
                messages.iter().filter_map(|message| message["body"]["n"].as_u64()).collect();
            note(&mut scene.account.lock().expect("not poisoned"), &messages, &numbers);
            for (message, number) in messages.iter().zip(numbers) {
                let settlement =
                    json!({"tag": message["tag"], "attempt": message["attempt"], "outcome": "accept"});
                let request = scene.request(&client, "/v1/queues/jobs/settle");
                // Without an answer it is in doubt and may come again.
                if answer(request.json(&json!({"settlements": [settlement]}))).await.is_some() {
                    scene.account.lock().expect("not poisoned").settled.insert(number);
                }
            }
        }
    });
}

fn note(account: &mut Account, messages: &[Value], numbers: &[u64]) {
    account.deliveries += messages.len() as u64;
    account.redelivered += messages.iter().filter(|message| message["redelivered"] == true).count() as u64;
    for number in numbers {
        if account.settled.contains(number) {
            account.returned.push(*number);
        }
        account.delivered.insert(*number);
    }
}

#[test]
fn nothing_acknowledged_is_lost_over_many_kills_under_load() {
    let setup = Setup::new();
    let mut server = setup.start();
    server.ok("queue create jobs --deduplication 1h");
    let scene = Arc::new(Scene {
        url: Mutex::new(server.url.clone()),
        account: Mutex::default(),
        over: AtomicBool::new(false),
        published: AtomicU64::new(0),
    });
    let done = Arc::new(AtomicBool::new(false));
    let publisher = thread::spawn({
        let scene = scene.clone();
        move || publish(&scene)
    });
    let consumers: Vec<_> = (0..2)
        .map(|_| {
            let (scene, done) = (scene.clone(), done.clone());
            thread::spawn(move || consume(&scene, &done))
        })
        .collect();
    for kill in 1..=KILLS {
        until("more is published", || scene.published.load(Ordering::Relaxed) >= kill * MESSAGES_PER_KILL);
        server.kill();
        server = setup.start();
        scene.url.lock().expect("not poisoned").clone_from(&server.url);
    }
    scene.over.store(true, Ordering::Relaxed);
    publisher.join().expect("the publisher ends");
    until("all is worked on", || {
        let info = server.json("queue show jobs");
        info["ready"] == 0 && info["in_flight"] == 0 && info["delayed"] == 0
    });
    done.store(true, Ordering::Relaxed);
    for consumer in consumers {
        consumer.join().expect("a consumer ends");
    }
    let account = scene.account.lock().expect("not poisoned");
    let lost: Vec<_> = account.acknowledged.difference(&account.delivered).collect();
    println!(
        "{KILLS} kills: {} acknowledged, {} delivered in {} deliveries, {} marked redelivered, {} settled, {} lost",
        account.acknowledged.len(),
        account.delivered.len(),
        account.deliveries,
        account.redelivered,
        account.settled.len(),
        lost.len()
    );
    assert!(lost.is_empty(), "lost: {lost:?}");
    assert!(account.returned.is_empty(), "came back after their acknowledgement: {:?}", account.returned);
    assert!(account.acknowledged.len() as u64 >= KILLS * MESSAGES_PER_KILL);
    let info = server.json("queue show jobs");
    let strangers = account.delivered.difference(&account.acknowledged).count();
    assert_eq!(strangers, 0, "delivered what nobody published");
    assert_eq!(
        info["counters"]["published"],
        json!(account.acknowledged.len()),
        "stored twice or not at all"
    );
}
