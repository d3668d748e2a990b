//! How much memory does the real server hold, idle and with a long backlog, and how soon is it back with it?
//!
//! `--dir DIR` where the data lies, `--server-binary PATH`, `--messages N` (default 5 million) of 1 KiB.
#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a benchmark measures real time and prints it"
)]

mod support;

use std::time::Duration;

use support::{Arguments, Server, bulk, figure, sync_times};

const BLOCK_LINES: u64 = 1_000;

fn main() {
    let arguments = Arguments::read();
    let (dir, binary) = (arguments.dir(), arguments.binary());
    let messages = arguments.number("--messages", 5_000_000);
    sync_times(&dir);
    let server = Server::start(&binary, &dir);
    figure("start_empty", server.started_in.as_secs_f64() * 1000.0, "ms");
    std::thread::sleep(Duration::from_secs(1));
    figure("memory_idle", server.memory_mib("VmRSS"), "MiB");
    server.call("PUT", "/v1/queues/backlog", "");
    let line = format!("{{\"body_text\":\"{}\"}}\n", "x".repeat(1024));
    let block = line.repeat(BLOCK_LINES as usize);
    let blocks = messages / BLOCK_LINES;
    let cpu = server.cpu_s();
    let took = bulk(server.address, "backlog", &block, blocks, blocks * BLOCK_LINES);
    let sent = (blocks * BLOCK_LINES) as f64;
    figure("load_rate", sent / took.as_secs_f64(), "messages/s");
    figure("load_server_cpu", (server.cpu_s() - cpu) / sent * 1e6, "us/message");
    figure("memory_loaded", server.memory_mib("VmRSS"), "MiB");
    figure("memory_highest", server.memory_mib("VmHWM"), "MiB");
    assert_eq!(server.queue_figure("backlog", "ready"), blocks * BLOCK_LINES);
    server.kill();
    for start in 1..=3 {
        let server = Server::start(&binary, &dir);
        figure(&format!("restart_{start}_to_ready"), server.started_in.as_secs_f64() * 1000.0, "ms");
        assert_eq!(server.queue_figure("backlog", "ready"), blocks * BLOCK_LINES);
        let text = server.call("GET", "/v1/queues/backlog/messages?limit=10", "");
        assert!(text.contains("\"messages\":[{"), "{text}");
        figure(&format!("memory_restarted_{start}"), server.memory_mib("VmRSS"), "MiB");
        server.kill();
    }
}
