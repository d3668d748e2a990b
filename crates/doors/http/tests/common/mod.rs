//! A broker with its HTTP door in this process, and a client that says exactly what it is told to say.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use serde_json::Value;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
};
use waystation_access::{Access, TokenEntry};
use waystation_alerts::Alerts;
use waystation_base::os::{OsClock, OsDisk};
use waystation_calls::Calls;
use waystation_catalog::Catalog;
use waystation_http::{Limits, Open, Options, serve};
use waystation_net::{Drain, Listener, Tls};
use waystation_redrive::Redrives;
use waystation_routes::{Routes, Tools};
use waystation_webhooks::{Guard, Pushes, Sender, push::Callbacks};

/// Long enough for anything that happens at all.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server; it ends with [`Server::end`].
pub struct Server {
    pub address: SocketAddr,
    pub drain: Drain,
    pub access: Access,
    door: JoinHandle<Result<(), waystation_http::Error>>,
    stop: oneshot::Sender<()>,
    engine: JoinHandle<Result<(), waystation_calls::Error>>,
    driver: JoinHandle<Result<(), waystation_host::Failure>>,
    _dir: TempDir,
}

/// What was answered.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    pub fn text(&self) -> String {
        format!("{}\r\n\r\n{}", self.head, String::from_utf8_lossy(&self.body))
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        let line =
            |line: &'_ str| line.split_once(':').is_some_and(|(have, _)| have.eq_ignore_ascii_case(name));
        self.head
            .lines()
            .find(|text| line(text))
            .and_then(|line| line.split_once(':'))
            .map(|(_, value)| value.trim())
    }

    /// Takes the answer if it has this status.
    #[track_caller]
    pub fn expect(self, status: u16) -> Answer {
        assert_eq!(self.status, status, "{}", self.text());
        self
    }
}

/// Deliveries that may reach this machine.
pub fn pushes(broker: &waystation_host::Broker, clock: Arc<OsClock>) -> Pushes {
    Pushes::new(broker.clone(), clock.clone(), sender(clock))
}

/// Callbacks that nothing signs but the secrets of their operations.
pub fn callbacks(broker: &waystation_host::Broker, clock: Arc<OsClock>) -> Callbacks {
    Callbacks::new(broker.clone(), clock.clone(), sender(clock), Arc::new([]), None)
}

/// Routes whose jq programs find no process to run in.
pub fn routes(broker: &waystation_host::Broker, clock: Arc<OsClock>) -> Routes {
    let command = waystation_jq::Command { program: "/none".into(), arguments: Vec::new() };
    let jq = waystation_jq::Pool::new(command, waystation_jq::Limits::default());
    Routes::new(broker.clone(), Tools::new(jq, clock))
}

fn sender(clock: Arc<OsClock>) -> Sender {
    let guard = Guard::new("webhooks", vec!["127.0.0.0/8".parse().expect("a network")], true);
    Sender::new(guard, clock, None).expect("a client")
}

impl Server {
    pub async fn start() -> Server {
        Server::with(Limits::default(), vec![]).await
    }

    /// With these bounds; with tokens, callers need one.
    pub async fn with(limits: Limits, tokens: Vec<TokenEntry>) -> Server {
        Server::all(limits, tokens, None, None).await
    }

    /// With TLS.
    pub async fn over(tls: Option<Tls>) -> Server {
        Server::all(Limits::default(), vec![], tls, None).await
    }

    /// With a bound of memory.
    pub async fn within(memory: Arc<waystation_host::MemoryBound>) -> Server {
        Server::all(Limits::default(), vec![], None, Some(memory)).await
    }

    async fn all(
        limits: Limits,
        tokens: Vec<TokenEntry>,
        tls: Option<Tls>,
        memory: Option<Arc<waystation_host::MemoryBound>>,
    ) -> Server {
        let dir = tempfile::tempdir().expect("a folder");
        let mut options = waystation_host::Options::new(dir.path());
        options.disk_reserve_bytes = 0;
        options.memory = memory;
        let clock = Arc::new(OsClock);
        let (broker, driver, _) =
            waystation_host::open(options, Arc::new(OsDisk), clock.clone()).expect("an empty folder opens");
        let (stop, stopped) = oneshot::channel::<()>();
        let driver = tokio::spawn(driver.run(async { drop(stopped.await) }));
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), tls).await.expect("any port");
        let address = listener.address().expect("bound");
        let (loopback_needs_token, drain) = (!tokens.is_empty(), Drain::default());
        let access = Access::new(tokens).expect("good tokens");
        let pushes = pushes(&broker, clock.clone());
        let (calls, engine) = Calls::new(broker.clone(), clock.clone());
        let callbacks = callbacks(&broker, clock.clone());
        let routes = routes(&broker, clock.clone());
        let engine = tokio::spawn(engine.run(std::future::pending()));
        let (redrives, redriving) = Redrives::new(broker.clone(), clock.clone(), None);
        tokio::spawn(redriving.run(std::future::pending()));
        let (alerts, _telling) = Alerts::new(broker.clone(), clock.clone());
        let options = Options {
            broker,
            calls,
            catalog: Catalog::new(access.clone()),
            definitions: None,
            loopback_needs_token,
            limits,
            clock,
            drain: drain.clone(),
            figures: Vec::new(),
            open: Arc::new(Open::default),
            pushes,
            callbacks,
            redrives,
            routes,
            alerts,
        };
        let door = tokio::spawn(serve(vec![listener], options));
        Server { address, drain, access, door, stop, engine, driver, _dir: dir }
    }

    /// Drains the door and stops the broker.
    pub async fn end(self) {
        self.drain.begin();
        self.door.await.expect("no panic").expect("a good end");
        // Nobody can ask any more.
        self.engine.await.expect("no panic").expect("a good end");
        drop(self.stop);
        self.driver.await.expect("no panic").expect("a good end");
    }

    pub async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.expect("connected")
    }

    /// One request on a connection of its own. `head` holds further headers, each with its line end.
    pub async fn call(&self, method: &str, path: &str, head: &str, body: impl AsRef<[u8]>) -> Answer {
        let body = body.as_ref();
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n{head}\r\n"
        );
        let mut stream = self.connect().await;
        stream.write_all(head.as_bytes()).await.expect("written");
        // The server may have answered before it has read everything.
        let _ = stream.write_all(body).await;
        answer(&mut stream).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call("GET", path, "", "").await
    }

    pub async fn post(&self, path: &str, body: impl AsRef<[u8]>) -> Answer {
        self.call("POST", path, "", body).await
    }

    pub async fn put(&self, path: &str, body: &str) -> Answer {
        self.call("PUT", path, "", body).await
    }

    pub async fn lines(&self, path: &str, lines: impl AsRef<[u8]>) -> Answer {
        self.call("POST", path, "content-type: application/x-ndjson\r\n", lines).await
    }

    /// Receives and gives the messages back.
    pub async fn receive(&self, path: &str) -> Vec<Value> {
        let answer = self.post(path, "").await.expect(200).json();
        answer["messages"].as_array().expect("messages").clone()
    }
}

/// Reads to the end of the connection.
pub async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an end");
    // A reset after the answer is as good as an end.
    let _ = read;
    parse(&bytes)
}

/// The same as text, without taking it apart.
pub async fn answer_text(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("an end");
    let _ = read;
    String::from_utf8_lossy(&bytes).into_owned()
}

pub fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap_or_else(|| {
        panic!("no head in {:?}", String::from_utf8_lossy(bytes));
    });
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let body = &bytes[end + 4..];
    let is_chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Answer { status, body: if is_chunked { unchunk(body) } else { body.to_vec() }, head }
}

/// Takes the chunks apart; a cut at the end is left out.
pub fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size =
            std::str::from_utf8(&rest[..end]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
        let from = end + 2;
        match size {
            Some(size) if size > 0 && rest.len() >= from + size + 2 => {
                body.extend_from_slice(&rest[from..from + size]);
                rest = &rest[from + size + 2..];
            }
            _ => break,
        }
    }
    body
}

/// Asks until it holds.
pub async fn until<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let wait = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}
