//! A receiver of webhooks that does as it is told: answers, fails, is silent, breaks the connection, dies and comes back.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// One request.
#[derive(Clone, Debug)]
pub struct Seen {
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
    pub at: Instant,
}

impl Seen {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Its `webhook-id`.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// What is done with a request.
#[derive(Clone, Copy, Debug)]
pub enum Do {
    Answer(u16),
    /// With `Retry-After` in seconds.
    Later(u16, u32),
    /// No answer for so long.
    Silent(Duration),
    HangUp,
}

type Script = Box<dyn FnMut(&Seen) -> Do + Send>;

struct Shared {
    seen: Mutex<Vec<Seen>>,
    script: Mutex<Script>,
    over: AtomicBool,
}

/// See the module. It dies when it is dropped.
pub struct Receiver {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Receiver {
    /// One that answers as the script says.
    pub fn new(script: impl FnMut(&Seen) -> Do + Send + 'static) -> Receiver {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let shared = Shared {
            seen: Mutex::default(),
            script: Mutex::new(Box::new(script)),
            over: AtomicBool::new(false),
        };
        Receiver::listen(listener, Arc::new(shared))
    }

    fn listen(listener: TcpListener, shared: Arc<Shared>) -> Receiver {
        let address = listener.local_addr().expect("bound");
        let thread = thread::spawn({
            let shared = shared.clone();
            move || {
                while let Ok((stream, _)) = listener.accept() {
                    if shared.over.load(Ordering::Relaxed) {
                        break;
                    }
                    let shared = shared.clone();
                    thread::spawn(move || converse(stream, &shared));
                }
            }
        });
        Receiver { address, shared, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    /// What came so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.all().clone()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Seen>> {
        self.shared.seen.lock().expect("not poisoned")
    }

    pub fn set(&self, script: impl FnMut(&Seen) -> Do + Send + 'static) {
        *self.shared.script.lock().expect("not poisoned") = Box::new(script);
    }

    /// Nobody listens any more.
    pub fn die(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the one that accepts.
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            thread.join().expect("no panic");
        }
    }

    /// Listens again where it did.
    pub fn come_back(&mut self) {
        self.shared.over.store(false, Ordering::Relaxed);
        let listener = TcpListener::bind(self.address).expect("its port");
        *self = Receiver::listen(listener, self.shared.clone());
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.die();
        }
    }
}

/// Answers the requests of one connection.
fn converse(mut stream: TcpStream, shared: &Shared) {
    while let Some(seen) = request(&mut stream) {
        if shared.over.load(Ordering::Relaxed) {
            return;
        }
        let what = (shared.script.lock().expect("not poisoned"))(&seen);
        shared.seen.lock().expect("not poisoned").push(seen);
        let answer = match what {
            Do::Answer(status) => format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n"),
            Do::Later(status, seconds) => {
                format!("HTTP/1.1 {status} x\r\nretry-after: {seconds}\r\ncontent-length: 0\r\n\r\n")
            }
            Do::HangUp => return,
            Do::Silent(time) => {
                pause(time);
                return;
            }
        };
        if stream.write_all(answer.as_bytes()).is_err() {
            return;
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "a receiver is silent in real time")]
fn pause(time: Duration) {
    thread::sleep(time);
}

#[allow(clippy::disallowed_methods, reason = "arrivals are measured in real time")]
fn request(stream: &mut TcpStream) -> Option<Seen> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let pairs = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> =
        pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Seen { headers, body, at: Instant::now() })
}
