//! An ordinary synchronous HTTP service, or a receiver of webhooks, that does as it is told: answers, fails, is slow or silent, speaks garbage,
//! dies and comes back.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{
    collections::BTreeMap,
    hash::{BuildHasher, RandomState},
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

/// One request.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Method and path.
    pub line: String,
    pub headers: BTreeMap<String, String>,
    pub body: String,
    pub at: Instant,
}

impl Asked {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// Its `webhook-id`.
    pub fn id(&self) -> &str {
        self.header("webhook-id")
    }
}

/// What is done with a request.
#[derive(Clone, Debug)]
pub enum Do {
    /// Status, further header lines, body.
    Answer(u16, &'static str, String),
    /// The same after so long.
    Slowly(Duration, u16, String),
    /// No answer for so long, and the end.
    Silent(Duration),
    /// These bytes, and the end.
    Raw(Vec<u8>),
}

pub fn ok(body: impl Into<String>) -> Do {
    Do::Answer(200, "content-type: text/plain\r\n", body.into())
}

/// An answer without a body.
pub fn status(status: u16) -> Do {
    Do::Answer(status, "", String::new())
}

type Script = Box<dyn FnMut(&Asked) -> Do + Send>;

struct Shared {
    asked: Mutex<Vec<Asked>>,
    script: Mutex<Script>,
    over: AtomicBool,
    now: AtomicUsize,
    most: AtomicUsize,
    cut: AtomicUsize,
}

/// See the module. It dies when it is dropped.
pub struct Service {
    pub address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Service {
    /// One that answers as the script says.
    pub fn new(script: impl FnMut(&Asked) -> Do + Send + 'static) -> Service {
        Service::at(Ipv4Addr::LOCALHOST.into(), script)
    }

    /// The same at another address of this machine.
    pub fn at(address: IpAddr, script: impl FnMut(&Asked) -> Do + Send + 'static) -> Service {
        let listener = ports().find_map(|port| TcpListener::bind((address, port)).ok()).expect("a port");
        let shared = Shared {
            asked: Mutex::default(),
            script: Mutex::new(Box::new(script)),
            over: AtomicBool::new(false),
            now: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            cut: AtomicUsize::new(0),
        };
        Service::listen(listener, Arc::new(shared))
    }

    fn listen(listener: TcpListener, shared: Arc<Shared>) -> Service {
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
        Service { address, shared, thread: Some(thread) }
    }

    pub fn url(&self) -> String {
        format!("http://{}/do", self.address)
    }

    /// What came so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.all().clone()
    }

    fn all(&self) -> MutexGuard<'_, Vec<Asked>> {
        self.shared.asked.lock().expect("not poisoned")
    }

    pub fn set(&self, script: impl FnMut(&Asked) -> Do + Send + 'static) {
        *self.shared.script.lock().expect("not poisoned") = Box::new(script);
    }

    /// Most requests at a time so far.
    pub fn most(&self) -> usize {
        self.shared.most.load(Ordering::SeqCst)
    }

    /// Connections that were closed while it was busy with their request.
    pub fn cut(&self) -> usize {
        self.shared.cut.load(Ordering::SeqCst)
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
        *self = Service::listen(listener, self.shared.clone());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.die();
        }
    }
}

/// Ports in no order, below those that systems give to clients (Linux `ip_local_port_range`, 32768 and up): nobody is given that of
/// a service that died and is to come back.
fn ports() -> impl Iterator<Item = u16> {
    let (first, count) = (20_000, 12_768);
    let begin = RandomState::new().hash_one("port") % count;
    (begin..begin + count).map(move |n| first + (n % count) as u16)
}

/// Answers the requests of one connection.
fn converse(mut stream: TcpStream, shared: &Shared) {
    while let Some(asked) = request(&mut stream) {
        if shared.over.load(Ordering::Relaxed) {
            return;
        }
        let now = shared.now.fetch_add(1, Ordering::SeqCst) + 1;
        shared.most.fetch_max(now, Ordering::SeqCst);
        shared.asked.lock().expect("not poisoned").push(asked.clone());
        let what = (shared.script.lock().expect("not poisoned"))(&asked);
        let goes_on = answer(&mut stream, what, shared);
        shared.now.fetch_sub(1, Ordering::SeqCst);
        if !goes_on {
            return;
        }
    }
}

/// Answers, and says whether the connection goes on.
fn answer(stream: &mut TcpStream, what: Do, shared: &Shared) -> bool {
    let mut whole = |status: u16, lines: &str, body: &str| {
        let head = format!("HTTP/1.1 {status} x\r\n{lines}content-length: {}\r\n\r\n", body.len());
        stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_ok()
    };
    match what {
        Do::Answer(status, lines, body) => whole(status, lines, &body),
        Do::Slowly(time, status, body) => {
            if is_cut_within(stream, time) {
                shared.cut.fetch_add(1, Ordering::SeqCst);
                return false;
            }
            let head = format!("HTTP/1.1 {status} x\r\ncontent-length: {}\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_ok()
        }
        Do::Silent(time) => {
            is_cut_within(stream, time);
            false
        }
        Do::Raw(bytes) => {
            let _ = stream.write_all(&bytes);
            false
        }
    }
}

/// Whether the other side closes the connection within so long.
fn is_cut_within(stream: &mut TcpStream, time: Duration) -> bool {
    stream.set_read_timeout(Some(time)).expect("a time");
    let read = stream.read(&mut [0]);
    stream.set_read_timeout(None).expect("no time");
    match read {
        Ok(count) => count == 0,
        Err(error) => !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
    }
}

#[allow(clippy::disallowed_methods, reason = "arrivals are measured in real time")]
fn request(stream: &mut TcpStream) -> Option<Asked> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte).ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let line = head.lines().next()?.trim_end_matches(" HTTP/1.1").to_owned();
    let pairs = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> =
        pairs.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    let body = String::from_utf8_lossy(&body).into_owned();
    Some(Asked { line, headers, body, at: Instant::now() })
}
