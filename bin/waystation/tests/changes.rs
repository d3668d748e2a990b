//! Do declarations come whole or not at all, though the client that makes them goes away in the middle?

mod common;
#[path = "common/routing.rs"]
mod routing;

use std::{io::Write, net::TcpStream, time::Duration};

use common::{Server, until};
use routing::{setup, with};
use serde_json::{Value, json};

/// Begins a request, and hangs up after a while without having read anything.
#[allow(clippy::disallowed_methods, reason = "a real client waits in real time")]
fn hang_up(server: &Server, method: &str, path: &str, body: &Value, after: Duration) {
    let address = server.url.strip_prefix("http://").expect("a URL");
    let mut stream = TcpStream::connect(address).expect("connected");
    let text = body.to_string();
    let length = text.len();
    let head = format!(
        "{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{text}").as_bytes()).expect("sent");
    std::thread::sleep(after);
}

/// Moments at which clients hang up: all through the time that a change takes.
fn moments() -> impl Iterator<Item = (usize, Duration)> {
    (0..40).map(|at| (at, Duration::from_micros(at as u64 * 200)))
}

#[test]
fn a_client_that_hangs_up_amid_a_change_stops_no_route() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [topics]
        a = {}
        b = {}
        [queues]
        out = {}
        [routes.r]
        from = { topic = "a" }
        steps = [{ to = "out" }]
        "#,
    );
    for (at, after) in moments() {
        let from = if at % 2 == 0 { "b" } else { "a" };
        let spec = json!({"from": {"topic": from}, "steps": [{"to": "out"}]});
        hang_up(&server, "PUT", "/v1/routes/r?change=true", &spec, after);
        until("the route works", || {
            let own = server.cli(&["subscription", "show", "$routes.r", "--json"]);
            own.code == Some(0) && own.json()["consumers"] == 1
        });
    }
    for action in ["pause", "resume"].into_iter().cycle().take(20) {
        hang_up(&server, "POST", &format!("/v1/routes/r/{action}"), &json!({}), Duration::from_millis(1));
    }
    server.ok("route resume r");
    let from = server.json("route show r")["spec"]["from"]["topic"].as_str().expect("a topic").to_owned();
    server.ok(&format!("publish {from} hello"));
    until("it takes what comes", || server.json("queue show out")["ready"] == 1);
}

#[test]
fn a_client_that_hangs_up_amid_a_change_stops_no_push() {
    let setup = setup();
    let server = with(
        &setup,
        r#"
        [queues]
        in = { dead_letter = "dead" }
        dead = {}
        [pushes.p]
        queue = "in"
        url = "https://hooks.example.com/a"
        secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
        "#,
    );
    for (at, after) in moments() {
        let spec = json!({"queue": "in", "url": format!("https://hooks.example.com/{at}")});
        hang_up(&server, "PUT", "/v1/pushes/p?change=true", &spec, after);
        until("the push works", || server.json("queue show in")["consumers"] == 1);
    }
}
