//! Does a large file go through in constant memory, on both sides?

mod common;

use std::{
    fs::File,
    io::{BufWriter, Write},
    process::Stdio,
};

use common::{Memory, Setup, program};

const MIB: u64 = 1 << 20;
/// Bytes of the file: far more than either side may hold.
const FILE_BYTES: u64 = 100 * MIB;
/// Bytes that the client may hold.
const CLIENT_BYTES_MAX: u64 = 40 * MIB;
/// Bytes that the server may hold: its cache of 32 MiB, and what is under way.
const SERVER_BYTES_MAX: u64 = 200 * MIB;

/// Writes a file of messages of about a kilobyte and gives their number.
fn write(path: &std::path::Path) -> u64 {
    let mut file = BufWriter::new(File::create(path).expect("a file"));
    let (mut lines, mut bytes) = (0, 0);
    while bytes < FILE_BYTES {
        let line = format!(
            "{{\"key\":\"k{}\",\"body\":{{\"n\":{lines},\"pad\":\"{}\"}}}}\n",
            lines % 1000,
            "x".repeat(960)
        );
        file.write_all(line.as_bytes()).expect("written");
        bytes += line.len() as u64;
        lines += 1;
    }
    file.flush().expect("written");
    lines
}

#[test]
fn a_hundred_megabytes_of_ndjson_go_through_in_constant_memory() {
    let setup = Setup::new();
    let path = setup.path("large.ndjson");
    let lines = write(&path);
    let server = setup.start();
    server.ok("topic create flights --partitions 2");
    let mut command = program();
    command
        .env("WAYSTATION_SERVER", &server.url)
        .args(["publish", "flights", "--json", "--ndjson"])
        .arg(&path);
    let mut publisher = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut most = 0;
    common::until("it is published", || {
        most = most.max(Memory::of(publisher.id()).resident_most);
        publisher.try_wait().expect("it is ours").is_some()
    });
    let output = publisher.wait_with_output().expect("it has ended");
    let accepted: serde_json::Value = serde_json::from_slice(&output.stdout).expect("json");
    assert_eq!(accepted["accepted"], lines);
    let topic = server.json("topic show flights");
    assert_eq!(topic["counters"]["published"], lines);
    let server_most = server.memory().resident_most;
    println!("{lines} messages: client {} MiB, server {} MiB at most", most / MIB, server_most / MIB);
    assert!(most > 0 && most < CLIENT_BYTES_MAX, "the client held {most} bytes");
    assert!(server_most < SERVER_BYTES_MAX, "the server held {server_most} bytes");
}

#[test]
fn a_large_queue_is_consumed_in_constant_memory() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create work");
    let body = "x".repeat(1000);
    server.cli(&["publish", "work", &body, "--count", "60000"]).good();
    let mut command = program();
    command.env("WAYSTATION_SERVER", &server.url).args(["consume", "work", "--batch", "500"]);
    let mut consumer = command.stdout(Stdio::piped()).spawn().expect("it runs");
    let mut stdout = consumer.stdout.take().expect("it is piped");
    let pid = consumer.id();
    let (mut read, mut buffer, mut most) = (0, vec![0; 1 << 16], 0);
    loop {
        let bytes = std::io::Read::read(&mut stdout, &mut buffer).expect("it writes");
        if bytes == 0 {
            break;
        }
        read += bytes;
        most = most.max(Memory::of(pid).resident_most);
    }
    assert!(consumer.wait().expect("it ends").success());
    assert_eq!(read, 60_000 * 1001);
    assert!(most > 0 && most < CLIENT_BYTES_MAX, "the client held {most} bytes");
    assert_eq!(server.json("queue show work")["counters"]["acknowledged"], 60_000);
}
