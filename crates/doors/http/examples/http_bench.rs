//! How many messages a second go through the HTTP door of the real server, durably, and how late are they?
//!
//! `--dir DIR` where the data lies, `--server-binary PATH`, `--messages N` of the bulk runs, `--seconds N` of the others.
//! Requests are built before; the client shares the machine with the server.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark measures real time and prints it"
)]

mod support;

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use support::{Arguments, Server, bulk, figure, quantile, sync_times};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const CONNECTIONS: usize = 64;
const BLOCK_LINES: u64 = 10_000;
/// Publishes a second where lateness is measured.
const RATE: u64 = 1_000;
const PUBLISHERS: u64 = 4;

fn main() {
    let arguments = Arguments::read();
    let dir = arguments.dir();
    sync_times(&dir);
    let server = Server::start(&arguments.binary(), &dir);
    figure("idle_memory", server.memory_mib("VmRSS"), "MiB");
    let messages = arguments.number("--messages", 2_000_000);
    for (name, connections) in [("bulk", 1), ("bulk_2_connections", 2)] {
        measure_bulk(&server, name, messages, connections);
    }
    let time = Duration::from_secs(arguments.number("--seconds", 10));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(measure_single(&server, time));
    runtime.block_on(measure_lateness(&server, time));
}

/// Lines with a key and a body of 100 bytes.
fn block() -> String {
    let line = |n: u64| {
        let body = format!("{{\"n\":\"{n:08}\",\"text\":\"{}\"}}", "x".repeat(74));
        assert_eq!(body.len(), 100, "the body that the figures speak of");
        format!("{{\"key\":\"N{n:05}\",\"body\":{body}}}\n")
    };
    (0..BLOCK_LINES).map(line).collect()
}

fn measure_bulk(server: &Server, name: &str, messages: u64, connections: u64) {
    server.call("PUT", &format!("/v1/queues/{name}"), "");
    let block = block();
    let blocks = messages / BLOCK_LINES / connections;
    let (cpu, begun) = (server.cpu_s(), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..connections {
            scope.spawn(|| bulk(server.address, name, &block, blocks, blocks * BLOCK_LINES));
        }
    });
    let took = begun.elapsed().as_secs_f64();
    let sent = (blocks * BLOCK_LINES * connections) as f64;
    figure(&format!("{name}_rate"), sent / took, "messages/s");
    figure(&format!("{name}_server_cpu"), (server.cpu_s() - cpu) / sent * 1e6, "us/message");
    server.call("POST", &format!("/v1/queues/{name}/purge"), "");
}

/// A connection that sends one request after the other.
struct Client {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr) -> Client {
        let stream = TcpStream::connect(address).await.expect("connected");
        stream.set_nodelay(true).expect("set");
        Client { stream, buffer: Vec::with_capacity(4096) }
    }

    /// Sends a request and reads its answer, which must be a good one.
    async fn call(&mut self, request: &[u8]) {
        self.stream.write_all(request).await.expect("written");
        self.buffer.clear();
        loop {
            assert!(self.stream.read_buf(&mut self.buffer).await.expect("read") > 0, "the server closed");
            if let Some(length) = whole(&self.buffer) {
                assert!(
                    self.buffer.starts_with(b"HTTP/1.1 200"),
                    "{}",
                    String::from_utf8_lossy(&self.buffer)
                );
                assert_eq!(self.buffer.len(), length, "one answer at a time");
                return;
            }
        }
    }
}

/// The length of a whole answer, when it is there.
fn whole(bytes: &[u8]) -> Option<usize> {
    const LENGTH: &[u8] = b"content-length: ";
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let at = bytes[..end].windows(LENGTH.len()).position(|part| part == LENGTH)? + LENGTH.len();
    let digits = bytes[at..].iter().take_while(|byte| byte.is_ascii_digit());
    let length = digits.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'));
    (bytes.len() >= end + length).then_some(end + length)
}

fn publish(queue: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /v1/queues/{queue}/messages HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

async fn measure_single(server: &Server, time: Duration) {
    server.call("PUT", "/v1/queues/single", "");
    let request: Arc<[u8]> = publish("single", &format!("{{\"text\":\"{}\"}}", "x".repeat(89))).into();
    let times = Arc::new(Mutex::new(Vec::new()));
    let (cpu, begun) = (server.cpu_s(), Instant::now());
    let mut clients = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (request, times, address) = (request.clone(), times.clone(), server.address);
        clients.spawn(async move {
            let mut client = Client::connect(address).await;
            let mut own = Vec::new();
            while begun.elapsed() < time {
                let sent = Instant::now();
                client.call(&request).await;
                own.push(sent.elapsed().as_secs_f64() * 1000.0);
            }
            times.lock().expect("whole").extend(own);
        });
    }
    while let Some(done) = clients.join_next().await {
        done.expect("a good end");
    }
    let took = begun.elapsed().as_secs_f64();
    let mut times = std::mem::take(&mut *times.lock().expect("whole"));
    let count = times.len() as f64;
    figure("single_64_connections_rate", count / took, "messages/s");
    figure("single_64_connections_p50", quantile(&mut times, 0.5), "ms");
    figure("single_64_connections_p99", quantile(&mut times, 0.99), "ms");
    figure("single_server_cpu", (server.cpu_s() - cpu) / count * 1e6, "us/message");
}

/// Follows a queue and notes how old each message is when it comes.
async fn follow(address: SocketAddr, origin: Instant, count: usize) -> Vec<f64> {
    const MARK: &[u8] = b"\"sent_us\":";
    let mut stream = TcpStream::connect(address).await.expect("connected");
    let head = "GET /v1/queues/late/events?window=1000 HTTP/1.1\r\nhost: localhost\r\n\r\n";
    stream.write_all(head.as_bytes()).await.expect("written");
    let (mut bytes, mut late) = (Vec::new(), Vec::with_capacity(count));
    while late.len() < count {
        assert!(stream.read_buf(&mut bytes).await.expect("read") > 0, "the server closed");
        let now_us = origin.elapsed().as_micros() as u64;
        let mut done = 0;
        while let Some(at) = bytes[done..].windows(MARK.len()).position(|part| part == MARK) {
            let from = done + at + MARK.len();
            let digits = bytes[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
            if from + digits == bytes.len() {
                break;
            }
            let text = std::str::from_utf8(&bytes[from..from + digits]).expect("digits");
            late.push(now_us.saturating_sub(text.parse().expect("a number")) as f64 / 1000.0);
            done = from + digits;
        }
        // A mark may be cut in two.
        let keep = done.max(bytes.len().saturating_sub(MARK.len() + 20));
        bytes.drain(..keep);
    }
    late
}

async fn measure_lateness(server: &Server, time: Duration) {
    server.call("PUT", "/v1/queues/late", "");
    let origin = Instant::now();
    let count = RATE * time.as_secs();
    let follower = tokio::spawn(follow(server.address, origin, count as usize));
    while server.queue_figure("late", "consumers") == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let cpu = server.cpu_s();
    let mut publishers = tokio::task::JoinSet::new();
    for publisher in 0..PUBLISHERS {
        let address = server.address;
        publishers.spawn(async move {
            let mut client = Client::connect(address).await;
            tokio::time::sleep(Duration::from_micros(publisher * 1_000_000 / RATE)).await;
            let mut ticks = tokio::time::interval(Duration::from_micros(PUBLISHERS * 1_000_000 / RATE));
            for _ in 0..count / PUBLISHERS {
                ticks.tick().await;
                let sent_us = origin.elapsed().as_micros();
                client.call(&publish("late", &format!("{{\"sent_us\":{sent_us}}}"))).await;
            }
        });
    }
    while let Some(done) = publishers.join_next().await {
        done.expect("a good end");
    }
    let mut late = follower.await.expect("a good end");
    for (name, part) in [("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
        figure(&format!("delivery_at_{RATE}_a_second_{name}"), quantile(&mut late, part), "ms");
    }
    figure("delivery_server_cpu", (server.cpu_s() - cpu) / count as f64 * 1e6, "us/message");
}
