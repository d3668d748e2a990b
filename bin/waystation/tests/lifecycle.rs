//! Does the server start, refuse and end as it should?

mod common;

use std::{process::Stdio, time::Duration};

use common::{Setup, program, run, until};

#[test]
fn a_server_says_where_it_is_and_ends_well_when_asked_to() {
    let setup = Setup::new();
    let server = setup.start();
    assert!(server.url.starts_with("http://127.0.0.1:"), "{}", server.url);
    assert!(server.ok("status").contains("accepting"));
    server.ok("queue create orders");
    server.ok("publish orders hello");
    let (status, log) = server.terminate();
    assert!(status.success(), "{status}: {log}");
    let server = setup.start();
    assert_eq!(server.ok("consume orders"), "hello\n");
    server.signal("INT");
    assert!(server.end().0.success());
}

#[test]
fn a_second_server_on_the_same_folder_refuses_and_names_the_first() {
    let setup = Setup::new();
    let server = setup.start();
    let refused = setup.refused();
    refused.bad(7, &server.pid().to_string());
    let verify = run(&["journal", "verify", &setup.data().display().to_string()]);
    verify.bad(7, &server.pid().to_string());
    server.kill();
    // The lock went with the process.
    setup.start();
}

#[test]
fn a_request_under_way_is_answered_before_the_server_ends() {
    let setup = Setup::new();
    let server = setup.start();
    server.ok("queue create orders");
    let mut command = program();
    command.env("WAYSTATION_SERVER", &server.url).args(["consume", "orders", "--wait", "30s"]);
    let mut consumer = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it runs");
    until("the consumer waits", || server.json("queue show orders")["consumers"] == 1);
    let (status, log) = server.terminate();
    assert!(status.success(), "{status}: {log}");
    // It has its answer, or learns that the server goes; it does not hang.
    common::wait(&mut consumer);
}

#[test]
fn what_is_configured_and_cannot_be_is_told_before_the_server_is_ready() {
    let check = |config: &str, said: &str| {
        let mut setup = Setup::new();
        setup.arguments.extend(["--config".into(), setup.file("waystation.toml", config)]);
        let refused = setup.refused();
        assert!(!refused.stdout.contains("ready"), "{refused:?}");
        refused.bad(2, said);
    };
    let endpoint = "[otlp]\nendpoint = \"http://127.0.0.1:4318\"\n";
    check(
        &format!("{endpoint}[record]\nenabled = false\n"),
        "otlp.endpoint: needs the record, and record.enabled is false",
    );
    check(&format!("{endpoint}ca = \"/nowhere/ca.pem\"\n"), "/nowhere/ca.pem");
}

#[test]
fn other_machines_are_not_let_in_without_tokens() {
    let mut setup = Setup::new();
    setup.arguments = vec!["--http".into(), "0.0.0.0:0".into()];
    setup.refused().bad(2, "no token is configured");
}

#[test]
fn a_wrong_configuration_is_refused_with_line_column_and_the_near_word() {
    let mut setup = Setup::new();
    let config = setup.file("config.toml", "[http]\nadress = \"127.0.0.1:0\"\n");
    setup.arguments = vec!["--config".into(), config.clone()];
    let told = setup.refused().bad(2, "line 2, column 1: unknown field `adress`");
    assert!(told.contains("did you mean 'address'?"), "{told}");
    run(&["config", "check", &config]).bad(2, "line 2, column 1");
    run(&["config", "check", "/nowhere/at/all"]).bad(3, "does not exist");
    let default = run(&["config", "print"]).good();
    let printed = setup.file("default.toml", default);
    run(&["config", "check", &printed]).good();
}

#[test]
fn the_environment_configures_the_server_and_flags_go_before_it() {
    let mut setup = Setup::new();
    let config = setup.file("config.toml", "[http]\naddress = \"127.0.0.1:1\"\n");
    setup.arguments = vec!["--config".into(), config];
    let refused = setup.command().env("WAYSTATION_HTTP_ADDRES", "127.0.0.1:0").output().expect("it runs");
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(refused.status.code() == Some(2) && told.contains("WAYSTATION_HTTP_ADDRESS?"), "{told}");
    setup.arguments.extend(["--http".into(), "127.0.0.1:0".into()]);
    assert!(setup.start().ok("status").contains("accepting"));
}

#[test]
fn an_address_in_use_is_told() {
    let setup = Setup::new();
    let server = setup.start();
    let mut other = Setup::new();
    other.arguments = vec!["--http".into(), server.url.trim_start_matches("http://").to_owned()];
    other.refused().bad(1, "in use");
}

#[test]
fn without_a_server_a_client_says_so() {
    let nobody = ["--server", "http://127.0.0.1:1", "status"];
    run(&nobody).bad(5, "`waystation serve` starts one");
    let told = run(&["--server", "http://127.0.0.1:1", "--json", "status"]).bad(5, "\"exit_code\":5");
    assert!(serde_json::from_str::<serde_json::Value>(&told).is_ok(), "{told}");
}

#[test]
fn usage_errors_have_their_code() {
    run(&["queue", "make", "x"]).bad(2, "unrecognized subcommand");
    run(&["--json", "queue", "make"]).bad(2, "\"exit_code\":2");
    assert!(run(&["--help"]).good().contains("Exit codes"));
    assert!(run(&["completions", "bash"]).good().contains("waystation"));
    assert_eq!(run(&["version", "--json"]).json()["version"], env!("CARGO_PKG_VERSION"));
}

#[test]
fn tokens_let_in_those_who_have_them() {
    let mut setup = Setup::new();
    let made =
        run(&["--json", "token", "new", "shop", "--publish", "orders.#", "--configure", "orders.#"]).json();
    let secret = made["token"].as_str().expect("a token").to_owned();
    let hash = made["entry"]["hash"].as_str().expect("a hash");
    let config = setup.file(
        "config.toml",
        format!("[auth]\nloopback_needs_token = true\n[[auth.tokens]]\nname = 'shop'\nhash = '{hash}'\npublish = ['orders.#']\nconfigure = ['orders.#']\n"),
    );
    setup.arguments.extend(["--config".into(), config]);
    let server = setup.start();
    server.cli(&["queue", "create", "orders.eu"]).bad(9, "--token");
    server.cli(&["--token", "wrong", "queue", "create", "orders.eu"]).bad(9, "");
    let with = |words: &str| {
        let all = ["--token", &secret].into_iter().chain(words.split_whitespace());
        server.cli(&all.collect::<Vec<_>>())
    };
    with("queue create orders.eu").good();
    with("publish orders.eu hello").good();
    with("consume orders.eu --wait 0").bad(9, "consume");
    with("queue create others").bad(9, "configure");
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    let mut setup = Setup::new();
    let config = setup.file("config.toml", "[http]\ndrain_ms = 3600000\n");
    setup.arguments.extend(["--config".into(), config]);
    let server = setup.start();
    server.ok("queue create orders");
    // A connection that never sends its request holds the drain up.
    let address = server.url.trim_start_matches("http://").to_owned();
    let mut held = std::net::TcpStream::connect(&address).expect("it listens");
    std::io::Write::write_all(
        &mut held,
        b"POST /v1/queues/orders/messages HTTP/1.1\r\nContent-Length: 100\r\nHost: x\r\n\r\nx",
    )
    .expect("it is taken");
    held.set_read_timeout(Some(Duration::from_secs(60))).expect("a time");
    until("it is connected", || server.json("status")["server"]["connections"].as_u64() >= Some(1));
    server.signal("TERM");
    until("it drains", || server.log().contains("draining"));
    server.signal("TERM");
    assert_eq!(server.end().0.code(), Some(130));
}
