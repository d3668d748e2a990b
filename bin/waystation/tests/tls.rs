//! Does the server speak TLS, to those who trust it and whom it trusts, and take up new files while it runs?

mod common;

use std::{
    fs,
    path::{Path, PathBuf},
};

use common::{Server, Setup, run, until};

/// Certificates of one authority: `server`, `second` and `client`, each with its key.
fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crates/net/tests/data").join(name)
}

fn ca() -> String {
    data("ca.pem").display().to_string()
}

fn setup(more: &str) -> Setup {
    let mut setup = Setup::new();
    for name in ["server.pem", "server-key.pem"] {
        fs::copy(data(name), setup.path(name)).expect("a copy");
    }
    let config = format!(
        "[tls]\ncertificate = {:?}\nkey = {:?}\n{more}",
        setup.path("server.pem"),
        setup.path("server-key.pem")
    );
    let config = setup.file("config.toml", config);
    setup.arguments.extend(["--config".into(), config]);
    setup
}

fn trusting(server: &Server, words: &str) -> common::Ran {
    let ca = ca();
    let all = ["--ca", &ca].into_iter().chain(words.split_whitespace());
    server.cli(&all.collect::<Vec<_>>())
}

#[test]
fn a_client_that_trusts_the_authority_gets_in_and_others_learn_why_not() {
    let setup = setup("");
    let server = setup.start();
    assert!(server.url.starts_with("https://"), "{}", server.url);
    trusting(&server, "queue create q").good();
    trusting(&server, "publish q hello --count 1000").good();
    assert_eq!(trusting(&server, "consume q --count 1").good(), "hello\n");
    server.cli(&["status"]).bad(5, "certificate");
    let plain = server.url.replace("https", "http");
    run(&["--server", &plain, "status"]).bad(5, "");
}

#[test]
fn new_certificates_are_taken_up_and_bad_ones_are_not() {
    let setup = setup("");
    let server = setup.start();
    fs::copy(data("second.pem"), setup.path("server.pem")).expect("a copy");
    fs::copy(data("second-key.pem"), setup.path("server-key.pem")).expect("a copy");
    server.signal("HUP");
    until("it is read", || server.log().contains("the certificate is read anew"));
    trusting(&server, "status").good();
    fs::write(setup.path("server.pem"), "no certificate").expect("written");
    server.signal("HUP");
    until("it is refused", || server.log().contains("the certificate cannot be used"));
    trusting(&server, "status").good();
    server.terminate();
    setup.refused().bad(2, "server.pem");
}

#[test]
fn a_server_that_asks_for_certificates_lets_in_only_those_who_have_one() {
    let setup = setup(&format!("client_ca = {:?}\n", ca()));
    let server = setup.start();
    trusting(&server, "status").bad(5, "");
    let both =
        [data("client.pem"), data("client-key.pem")].map(|path| fs::read_to_string(path).expect("a file"));
    let cert = setup.file("both.pem", both.concat());
    trusting(&server, &format!("--cert {cert} status")).good();
}

#[test]
fn tokens_are_read_anew_while_the_server_runs() {
    let mut setup = Setup::new();
    let made = |name: &str| {
        let made = run(&["--json", "token", "new", name, "--configure", "#"]).json();
        let hash = made["entry"]["hash"].as_str().expect("a hash").to_owned();
        let entry = format!("[[auth.tokens]]\nname = '{name}'\nhash = '{hash}'\nconfigure = ['#']\n");
        (made["token"].as_str().expect("a token").to_owned(), entry)
    };
    let ((old, old_entry), (new, new_entry)) = (made("old"), made("new"));
    let head = "[auth]\nloopback_needs_token = true\n";
    let config = setup.file("config.toml", format!("{head}{old_entry}"));
    setup.arguments.extend(["--config".into(), config]);
    let server = setup.start();
    let with = |token: &str| server.cli(&["--token", token, "queue", "create", "q"]);
    with(&old).good();
    with(&new).bad(9, "");
    setup.file("config.toml", format!("{head}{new_entry}"));
    server.signal("HUP");
    until("they are read", || server.log().contains("the tokens are read anew"));
    with(&new).good();
    with(&old).bad(9, "");
    setup.file("config.toml", "[auth]\ntokns = []\n");
    server.signal("HUP");
    until("they are refused", || server.log().contains("the tokens cannot be used"));
    with(&new).good();
}
