//! How late is a callback? Callers at a steady rate, workers that complete what they receive at once, and a receiver of callbacks.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

use crate::{
    client::{self, Client, field, whole},
    load,
};

/// Lets the server call back to this machine, signed as always.
pub const CONFIG: &str =
    "[webhooks]\nallow = [\"127.0.0.1\"]\ncallback_secrets = [\"whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\"]\n";
/// Connections of workers; each completes one call after the other.
const WORKERS: usize = 16;
/// How long the last callbacks may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Default)]
struct Book {
    /// When the worker of a call began to say that it is done.
    done: HashMap<String, Instant>,
    late_ms: Vec<f64>,
    copies: u64,
}

impl Book {
    fn came(&mut self, id: &str) {
        match self.done.remove(id) {
            Some(at) => self.late_ms.push(at.elapsed().as_secs_f64() * 1000.0),
            None => self.copies += 1,
        }
    }
}

/// What was measured.
pub struct Seen {
    pub late_ms: Vec<f64>,
    pub copies: u64,
}

/// Listens for callbacks.
pub struct Receiver {
    address: SocketAddr,
    book: Arc<Mutex<Book>>,
}

impl Receiver {
    pub async fn start() -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let receiver = Receiver { address: listener.local_addr().expect("bound"), book: Arc::default() };
        let book = receiver.book.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(take(stream, book.clone()));
            }
        });
        receiver
    }

    /// An operation whose outcomes come here.
    pub fn operation(&self) -> String {
        let url = format!("http://{}/", self.address);
        json!({"callback": format!("{url}done"), "callback_allow": [format!("{url}*")]}).to_string()
    }

    /// Runs callers and workers, and waits for every callback.
    pub async fn measure(
        &self,
        server: SocketAddr,
        connections: usize,
        time: Duration,
        a_second: u64,
    ) -> Seen {
        let over = Arc::new(AtomicBool::new(false));
        let mut workers = JoinSet::new();
        for _ in 0..WORKERS {
            workers.spawn(work(server, self.book.clone(), over.clone()));
        }
        let request = client::call("", &client::body());
        let called = load::steady(server, &request, connections, time, a_second as f64).await;
        let until = Instant::now() + PATIENCE;
        while self.book.lock().expect("whole").late_ms.len() < called.times_ms.len() {
            assert!(Instant::now() < until, "callbacks are missing after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        over.store(true, Ordering::Relaxed);
        while let Some(done) = workers.join_next().await {
            done.expect("a good end");
        }
        let mut book = self.book.lock().expect("whole");
        Seen { late_ms: std::mem::take(&mut book.late_ms), copies: book.copies }
    }
}

/// Takes the requests of one connection.
async fn take(mut stream: TcpStream, book: Arc<Mutex<Book>>) {
    let mut bytes = Vec::with_capacity(4096);
    while stream.read_buf(&mut bytes).await.is_ok_and(|count| count > 0) {
        while let Some((head, length)) = whole(&bytes) {
            let id = field(&bytes[..head], b"webhook-id: ").expect("an id");
            book.lock().expect("whole").came(std::str::from_utf8(id).expect("text"));
            bytes.drain(..length);
            if stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n").await.is_err() {
                return;
            }
        }
    }
}

/// Receives and completes until it is over.
async fn work(server: SocketAddr, book: Arc<Mutex<Book>>, over: Arc<AtomicBool>) {
    let mut client = Client::connect(server).await;
    let receive = client::post("/v1/operations/op/receive?max=10&wait_ms=500", "", "");
    while !over.load(Ordering::Relaxed) {
        let page: Value = serde_json::from_slice(client.ask(&receive, "200").await).expect("JSON");
        for call in page["calls"].as_array().expect("calls") {
            let id = call["id"].as_str().expect("an id").to_owned();
            let path = format!("/v1/calls/{id}/complete?attempt={}", call["attempt"]);
            let complete = client::post(&path, "content-type: application/json\r\n", "{\"shipped\":true}");
            book.lock().expect("whole").done.insert(id, Instant::now());
            client.ask(&complete, "200").await;
        }
    }
}
