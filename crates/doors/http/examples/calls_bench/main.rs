//! How many calls a second does the real server accept, how late is the 202, how late the callback, and what do open calls weigh?
//!
//! `--dir DIR` where the data lies, `--server-binary PATH`, `--seconds N` of each run, `--open N` calls for the memory, `--rate N`
//! calls a second where callbacks are timed; `--quick` takes fewer of each and says so. Requests are built before; the client
//! shares the machine with the server.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "a benchmark measures real time and prints it"
)]

mod callbacks;
mod client;
mod load;
#[path = "../support/mod.rs"]
mod support;

use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

use support::{Arguments, Server, figure, quantile, sync_times};

/// Connections at once, as the goals name them.
const CONNECTIONS: [usize; 2] = [64, 1_024];
/// Connections over which the open calls come.
const OPEN_CONNECTIONS: usize = 64;
/// What is to be reached.
const RATE_GOAL: f64 = 10_000.0;
const LATE_GOAL_MS: f64 = 2.0;
const OPEN_GOAL: u64 = 1_000_000;
const OPEN_GOAL_MIB: f64 = 600e6 / (1 << 20) as f64;

/// What is measured, and how long.
struct Bench {
    dir: PathBuf,
    binary: PathBuf,
    time: Duration,
    open: u64,
    rate: u64,
}

fn main() {
    let arguments = Arguments::read();
    let quick = arguments.has("--quick");
    let (seconds, open) = if quick { (3, 100_000) } else { (15, OPEN_GOAL) };
    let bench = Bench {
        dir: arguments.dir(),
        binary: arguments.binary(),
        time: Duration::from_secs(arguments.number("--seconds", seconds)),
        open: arguments.number("--open", open),
        rate: arguments.number("--rate", 1_000),
    };
    if quick {
        println!("a short run (--quick): {} s each, {} open calls", bench.time.as_secs(), bench.open);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for connections in CONNECTIONS {
        let sync = sync_times(&bench.dir);
        runtime.block_on(bench.accept(connections, sync.p99_ms));
        runtime.block_on(bench.call_back(connections));
    }
    runtime.block_on(bench.weigh());
    sync_times(&bench.dir);
    // The next run starts with an empty folder anyway; a disk that is short of room is better off now.
    let _ = fs::remove_dir_all(&bench.dir);
}

impl Bench {
    /// A server with an empty folder of its own and the operation `op`.
    fn server(&self, what: &str, operation: &str) -> Server {
        let data = self.dir.join(what);
        fs::create_dir_all(&data).expect("a folder");
        fs::write(data.join("waystation.toml"), callbacks::CONFIG).expect("a file");
        let server = self.start(what);
        let declared = server.call("PUT", "/v1/operations/op", operation);
        assert!(declared.starts_with("HTTP/1.1 201"), "{declared}");
        server
    }

    /// A server on what is there; returns when it is ready.
    fn start(&self, what: &str) -> Server {
        let data = self.dir.join(what);
        let config = data.join("waystation.toml").display().to_string();
        let more = ["--config", &config, "--amqp", "off", "--amqp-management", "off"];
        Server::start_with(&self.binary, &data.join("data"), &more)
    }

    fn remove(&self, what: &str) {
        fs::remove_dir_all(self.dir.join(what)).expect("removed");
    }

    /// Half of the goal on a server that has just begun; then as many calls as go, half as many a second, and half of the goal once more, among
    /// all the calls that are open by then. The goal at p99 is the disk's own p99 and two milliseconds.
    async fn accept(&self, connections: usize, sync_p99_ms: f64) {
        let what = format!("accept_{connections}");
        let server = self.server(&what, "{}");
        let request = client::call("", &client::body());
        let goal = sync_p99_ms + LATE_GOAL_MS;
        let steady = async |name: &str, a_second: f64| {
            let name = format!("{name}_{connections}");
            let steady = load::steady(server.address, &request, connections, self.time, a_second).await;
            let steady = print(&name, steady);
            judge(&name, "ms to 202 at p99", steady.p99_ms, goal, steady.p99_ms <= goal);
        };
        steady("half_goal", RATE_GOAL / 2.0).await;
        let cpu = server.cpu_s();
        let most = load::most(server.address, &request, connections, self.time).await;
        let rate = print(&what, most);
        figure(
            &format!("{what}_server_cpu"),
            (server.cpu_s() - cpu) / (rate.count as f64) * 1e6,
            "s/million calls",
        );
        figure(&format!("{what}_memory"), server.memory_mib("VmRSS"), "MiB");
        judge(&what, "accepted a second", rate.a_second, RATE_GOAL, rate.a_second >= RATE_GOAL);
        steady("half_load", rate.a_second / 2.0).await;
        steady("half_goal_among_many", RATE_GOAL / 2.0).await;
        server.kill();
        self.remove(&what);
    }

    /// Calls at a steady rate, workers that complete them at once, a receiver of the callbacks.
    async fn call_back(&self, connections: usize) {
        let what = format!("callback_{connections}");
        let receiver = callbacks::Receiver::start().await;
        let server = self.server(&what, &receiver.operation());
        let cpu = server.cpu_s();
        let seen = receiver.measure(server.address, connections, self.time, self.rate).await;
        let mut late = seen.late_ms;
        let count = late.len() as f64;
        for (name, part) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)] {
            figure(&format!("{what}_at_{}_a_second_{name}", self.rate), quantile(&mut late, part), "ms");
        }
        figure(&format!("{what}_server_cpu"), (server.cpu_s() - cpu) / count * 1e6, "s/million calls");
        figure(&format!("{what}_memory"), server.memory_mib("VmRSS"), "MiB");
        figure(&format!("{what}_copies"), seen.copies as f64, "callbacks that came again");
        server.kill();
        self.remove(&what);
    }

    /// Calls that nobody works on, and a start with them after a kill.
    async fn weigh(&self) {
        let server = self.server("open", "{}");
        let request = client::call("", &client::body());
        let before = server.memory_mib("VmRSS");
        load::some(server.address, &request, OPEN_CONNECTIONS, self.open).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let after = server.memory_mib("VmRSS");
        figure("open_calls", self.open as f64, "calls");
        figure("open_memory_before", before, "MiB");
        figure("open_memory", after, "MiB");
        figure("open_memory_highest", server.memory_mib("VmHWM"), "MiB");
        figure("open_memory_each", (after - before) * (1 << 20) as f64 / self.open as f64, "bytes/call");
        if self.open >= OPEN_GOAL {
            judge("open", "MiB with a million open calls", after, OPEN_GOAL_MIB, after <= OPEN_GOAL_MIB);
        } else {
            println!(
                "  (the goal, {OPEN_GOAL_MIB:.0} MiB, is for {OPEN_GOAL} open calls: not measured in this run)"
            );
        }
        server.kill();
        let begun = Instant::now();
        let server = self.start("open");
        figure("open_start", begun.elapsed().as_secs_f64() * 1e3, "ms until it is ready again");
        load::some(server.address, &request, 1, 1).await;
        figure("open_start_accepts", begun.elapsed().as_secs_f64() * 1e3, "ms until it has accepted a call");
        figure("open_memory_after_start", server.memory_mib("VmRSS"), "MiB");
        server.kill();
        self.remove("open");
    }
}

/// What a run of calls came to.
struct Came {
    count: usize,
    a_second: f64,
    p99_ms: f64,
}

fn print(what: &str, run: load::Run) -> Came {
    let mut times = run.times_ms;
    let count = times.len();
    let a_second = count as f64 / run.took.as_secs_f64();
    figure(&format!("{what}_rate"), a_second, "calls/s");
    for (name, part) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        figure(&format!("{what}_{name}"), quantile(&mut times, part), "ms to 202");
    }
    Came { count, a_second, p99_ms: quantile(&mut times, 0.99) }
}

fn judge(what: &str, of: &str, value: f64, goal: f64, is_reached: bool) {
    let word = if is_reached { "reached" } else { "MISSED" };
    println!("  goal {what}: {value:.1} {of}, to reach {goal:.1}: {word}");
}
