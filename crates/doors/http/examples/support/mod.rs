//! What do the benchmarks share: the real server as a process, its figures from the system, and how figures are printed.
#![allow(dead_code, reason = "each benchmark uses its own part")]
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark measures real time and prints it"
)]

use std::{
    fs::{self, File},
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// What can be said on the command line.
pub struct Arguments(Vec<String>);

impl Arguments {
    pub fn read() -> Arguments {
        Arguments(std::env::args().skip(1).collect())
    }

    pub fn text(&self, name: &str) -> Option<&str> {
        let at = self.0.iter().position(|argument| argument == name)?;
        self.0.get(at + 1).map(String::as_str)
    }

    pub fn number(&self, name: &str, default: u64) -> u64 {
        self.text(name)
            .map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} needs a number")))
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.iter().any(|argument| argument == name)
    }

    /// `--dir`, made and emptied of an earlier run's data.
    pub fn dir(&self) -> PathBuf {
        let dir = PathBuf::from(self.text("--dir").unwrap_or("target/bench/http")).join("data");
        match fs::remove_dir_all(&dir) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => panic!("{}: {error}", dir.display()),
            _ => fs::create_dir_all(&dir).expect("the folder of the data"),
        }
        dir
    }

    pub fn binary(&self) -> PathBuf {
        PathBuf::from(self.text("--server-binary").unwrap_or("target/release/waystation"))
    }
}

/// One figure on one line.
pub fn figure(name: &str, value: f64, unit: &str) {
    println!("{name} {value:.3} {unit}");
}

/// The real server.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// From start to the line that says it is ready.
    pub started_in: Duration,
}

impl Server {
    pub fn start(binary: &Path, data: &Path) -> Server {
        Server::start_with(binary, data, &[])
    }

    /// The same with more arguments of `serve`.
    pub fn start_with(binary: &Path, data: &Path, more: &[&str]) -> Server {
        let begun = Instant::now();
        let mut child = Command::new(binary)
            .arg("serve")
            .arg("--data")
            .arg(data)
            .args(["--http", "127.0.0.1:0", "--log", "warn"])
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", binary.display()));
        let mut line = String::new();
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        out.read_line(&mut line).expect("a line");
        let (_, rest) = line.split_once("http://").unwrap_or_else(|| panic!("not ready: {line:?}"));
        let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).unwrap_or(rest.len());
        let address = rest[..end].parse().expect("an address");
        let mut server = Server { child, address, started_in: begun.elapsed() };
        assert!(server.call("GET", "/readyz", "").starts_with("HTTP/1.1 200"), "not ready");
        server.started_in = begun.elapsed();
        server
    }

    /// One small request.
    pub fn call(&self, method: &str, path: &str, body: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("connected");
        let length = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        stream.write_all(head.as_bytes()).expect("written");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    }

    /// A figure of `/v1/queues/{queue}`.
    pub fn queue_figure(&self, queue: &str, figure: &str) -> u64 {
        let text = self.call("GET", &format!("/v1/queues/{queue}"), "");
        let name = format!("\"{figure}\":");
        let (_, rest) = text.split_once(&name).unwrap_or_else(|| panic!("no {figure} in {text}"));
        rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
    }

    /// Seconds of processor that the server has used.
    pub fn cpu_s(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.child.id())).expect("a process");
        let (_, rest) = stat.rsplit_once(')').expect("a name in brackets");
        let ticks = |field: usize| {
            rest.split_whitespace().nth(field).and_then(|n| n.parse::<u64>().ok()).expect("ticks")
        };
        // Fields 14 and 15 of proc(5), in hundredths of a second.
        (ticks(11) + ticks(12)) as f64 / 100.0
    }

    /// A size of `/proc/PID/status` in MiB: `VmRSS`, `VmHWM`.
    pub fn memory_mib(&self, name: &str) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("a process");
        let line = status.lines().find(|line| line.starts_with(name)).expect("a size");
        let kib: f64 = line.split_whitespace().nth(1).and_then(|n| n.parse().ok()).expect("a number");
        kib / 1024.0
    }

    /// Ends it as a power cut of the process would.
    pub fn kill(mut self) {
        self.child.kill().expect("killed");
        self.child.wait().expect("gone");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Gone already is fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends `count` lines to a queue in one request, in blocks of `block` lines, and gives back how long it took.
pub fn bulk(address: SocketAddr, queue: &str, block: &str, blocks: u64, lines: u64) -> Duration {
    let mut stream = TcpStream::connect(address).expect("connected");
    let length = block.len() as u64 * blocks;
    let head = format!(
        "POST /v1/queues/{queue}/messages HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/x-ndjson\r\ncontent-length: {length}\r\n\r\n"
    );
    let begun = Instant::now();
    stream.write_all(head.as_bytes()).expect("written");
    for _ in 0..blocks {
        stream.write_all(block.as_bytes()).expect("written");
    }
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("an answer");
    let took = begun.elapsed();
    assert!(text.contains(&format!("\"accepted\":{lines},")), "{text}");
    took
}

/// What one sync of a page in a file that is written already takes on this disk, without anything of ours: milliseconds. The
/// syncs stand [`PROBE_PAUSE`] apart, as those of a busy server do: one after the other they would miss what the disk does now and then.
pub struct SyncTimes {
    pub p50_ms: f64,
    pub p99_ms: f64,
}

const PROBES: u64 = 1_500;
const PROBE_PAUSE: Duration = Duration::from_millis(1);

/// Measures it and prints it.
pub fn sync_times(dir: &Path) -> SyncTimes {
    let path = dir.join("sync-probe");
    let file = File::create(&path).expect("a file");
    file.write_all_at(&vec![1; 4 << 20], 0).expect("written");
    file.sync_all().expect("synced");
    let mut times: Vec<f64> = (0..PROBES)
        .map(|n| {
            std::thread::sleep(PROBE_PAUSE);
            file.write_all_at(&[n as u8; 4096], (n * 4096) % (4 << 20)).expect("written");
            let begun = Instant::now();
            file.sync_data().expect("synced");
            begun.elapsed().as_secs_f64() * 1000.0
        })
        .collect();
    drop(file);
    fs::remove_file(path).expect("removed");
    let sync = SyncTimes { p50_ms: quantile(&mut times, 0.5), p99_ms: quantile(&mut times, 0.99) };
    figure("disk_sync_p50", sync.p50_ms, "ms");
    figure("disk_sync_p99", sync.p99_ms, "ms");
    sync
}

/// The value below which that part of the values lies.
pub fn quantile(values: &mut [f64], part: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let at = ((values.len() as f64 - 1.0) * part).round().max(0.0) as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}
