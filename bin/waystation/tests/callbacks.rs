//! Is a callback that was given up sent again when somebody says so, signed by its operation's own secrets, and shown with its call?

mod common;
#[path = "common/service.rs"]
mod service;

use common::{Server, Setup, until};
use serde_json::Value;
use service::{Service, status};
use waystation_webhooks::{Secret, sign::signature};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Calls, and lets a worker that is any client of the queue answer; gives the call's id.
fn call(server: &Server, url: &str) -> String {
    let id = server.ok(&format!("call ship x --detach --callback {url}")).trim().to_owned();
    server.ok(&format!("publish $calls.replies done -H correlation-id={id}"));
    id
}

fn show(server: &Server, id: &str) -> Value {
    server.json(&format!("calls show {id} --wait 10s"))
}

fn state(server: &Server, id: &str) -> Value {
    show(server, id)["callback_delivery"]["state"].clone()
}

#[test]
fn a_callback_that_was_given_up_is_redriven_under_its_id_and_its_call_shows_how_it_goes() {
    let receiver = Service::new(|_| status(410));
    let mut setup = Setup::new();
    let config = setup.file("callbacks.toml", "[webhooks]\nallow = [\"127.0.0.1\"]\n");
    let more = ["--amqp", "off", "--amqp-management", "off", "--config", &config];
    setup.arguments.extend(more.map(str::to_owned));
    let server = setup.start();
    let (url, allow) = (receiver.url(), format!("{}*", receiver.url()));
    let create = ["operation", "create", "ship", "--callback-allow", &allow];
    let warned = server.cli(&create);
    assert!(warned.stderr.contains("warning: operation ship: its callbacks wait"), "{warned:?}");
    let first = call(&server, &url);
    assert_eq!(state(&server, &first), "pending");
    assert!(receiver.asked().is_empty(), "nothing signs it");
    let signed = server.cli(&[&create[..], &["--change", "--callback-secret", SECRET]].concat());
    assert_eq!((signed.code, signed.stderr.as_str()), (Some(0), ""));
    assert!(!server.ok("operation show ship --json").contains(SECRET));
    let second = call(&server, &url);
    for id in [&first, &second] {
        until("it was given up", || state(&server, id) == "dead");
    }
    assert!(server.ok(&format!("calls show {first}")).contains("dead, "), "{}", show(&server, &first));
    server.cli(&["calls", "redrive", "--all"]).bad(2, "--yes does it");
    let preview = server.ok("calls redrive --all --dry-run");
    assert!(preview.contains("would redrive 2 callbacks") && preview.contains(&first), "{preview}");
    server.cli(&["calls", "redrive", "nothing"]).bad_said(3, "0 callbacks are sent again");
    let before = receiver.asked().len();
    receiver.set(|_| status(204));
    // What it knows of callbacks outlives the server.
    server.kill();
    let server = setup.start();
    assert_eq!(state(&server, &first), "dead");
    assert_eq!(server.ok(&format!("calls redrive {first}")).trim(), "1 callbacks are sent again");
    until("it has arrived", || state(&server, &first) == "delivered");
    assert_eq!(state(&server, &second), "dead");
    server.ok("calls redrive --all --operation ship --yes");
    until("it has arrived", || state(&server, &second) == "delivered");
    let keys = [Secret::parse(SECRET).expect("a secret")];
    let seen = receiver.asked();
    for (at, id) in [(before, &first), (before + 1, &second)] {
        let timestamp_s = seen[at].header("webhook-timestamp").parse().expect("seconds");
        assert_eq!(seen[at].id(), id);
        let expected = signature(id, timestamp_s, seen[at].body.as_bytes(), &keys);
        assert_eq!(seen[at].header("webhook-signature"), expected);
    }
}
