//! Do operations and pushes come out of a topology file as they went in, with their secrets kept and never shown?

mod common;

use common::{Server, Setup};
use serde_json::{Value, json};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";

const FILE: &str = r#"
[queues.orders]
dead_letter = "dead"
[queues.dead]

[operations.ship]
timeout_ms = 5000
callback_allow = ["https://127.0.0.1/*"]
callback_secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
[operations.ship.upstream]
url = "http://127.0.0.1:9/ship"
headers = { authorization = "Bearer hunter2" }
retry = { first_ms = 5 }
paused = true

[pushes.shop]
queue = "orders"
url = "http://127.0.0.1:9/hook"
secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
headers = { authorization = "Bearer hunter2" }
"#;

fn setup() -> Setup {
    let mut setup = Setup::new();
    let more = ["--amqp", "off", "--amqp-management", "off", "--webhook-allow", "127.0.0.1"];
    setup.arguments.extend(more.map(str::to_owned));
    setup.arguments.extend(["--upstream-allow", "127.0.0.1"].map(str::to_owned));
    setup
}

fn apply(server: &Server, file: &str, more: &[&str]) -> String {
    server.cli(&[&["apply", file], more].concat()).good()
}

fn steps(server: &Server, file: &str) -> Value {
    server.cli(&["apply", file, "--json"]).json()["steps_done"].clone()
}

fn assert_says(text: &str, lines: &[&str]) {
    let mut rest = text;
    for line in lines {
        let at = rest.find(line).unwrap_or_else(|| panic!("{text}\n  should say, in this order: {line}"));
        rest = &rest[at + line.len()..];
    }
}

#[test]
fn a_file_with_operations_and_pushes_is_planned_in_order_applied_and_applied_again_without_effect() {
    let setup = setup();
    let server = setup.start();
    let file = setup.file("topology.toml", FILE);
    common::run(&["topology", "check", &file]).good();
    let plan = apply(&server, &file, &["--dry-run"]);
    assert_says(
        &plan,
        &[
            "+ queue orders\n",
            "+ operation ship\n",
            "    timeout_ms: 5000\n",
            "    upstream.retry.first_ms: 5\n",
            "+ push shop\n",
            "    queue: orders\n",
            "4 to create, 0 to change, 0 to delete, 0 unchanged",
        ],
    );
    for of in ["operation list", "push list", "queue list"] {
        assert_eq!(server.json(of), json!([]), "a dry run changes nothing");
    }
    assert_eq!(server.cli(&["apply", &file, "--check"]).code, Some(10));
    assert_eq!(steps(&server, &file), 4);
    assert_eq!(steps(&server, &file), 0);
    assert_eq!(server.cli(&["apply", &file, "--check"]).code, Some(0));
    assert_eq!(server.json("operation show ship")["upstream"]["header_names"], json!(["authorization"]));
    assert_eq!(server.json("push show shop")["signatures"], json!(["v1"]));
}

#[test]
fn an_export_has_no_secrets_says_so_and_applied_leaves_those_that_are_there() {
    let setup = setup();
    let server = setup.start();
    apply(&server, &setup.file("topology.toml", FILE), &[]);
    for format in ["toml", "json"] {
        let exported = server.ok(&format!("topology export --format {format}"));
        assert!(!exported.contains("whsec_") && !exported.contains("hunter2"), "{exported}");
        for word in ["callback_secrets (v1)", "upstream.headers (authorization)", "secrets (v1)"] {
            assert!(exported.contains(word), "{exported}\n  should say: {word}");
        }
        let copy = setup.file("copy", &exported);
        assert_eq!(steps(&server, &copy), 0, "{exported}");
        let changed = setup.file("changed", exported.replace("5000", "6000"));
        assert_says(
            &apply(&server, &changed, &[]),
            &["~ operation ship\n    timeout_ms: 5000 -> 6000\n", "1 to change"],
        );
        let shown = server.json("operation show ship");
        assert_eq!(shown["callback_signatures"], json!(["v1"]));
        assert_eq!(shown["upstream"]["header_names"], json!(["authorization"]));
        apply(&server, &copy, &[]);
    }

    // Elsewhere there are no secrets to keep: nothing is changed until the file has one.
    let empty = self::setup();
    let elsewhere = empty.start();
    let exported = server.ok("topology export");
    let copy = setup.file("copy.toml", &exported);
    let refused = elsewhere.cli(&["apply", &copy]);
    assert_says(&refused.stdout, &["! push shop: ", "secrets", "waystation webhook secret"]);
    refused.bad(4, "cannot be applied");
    assert_eq!(elsewhere.json("operation list"), json!([]));
    let filled = exported.replace("[pushes.shop]\n", &format!("[pushes.shop]\nsecrets = [\"{OTHER}\"]\n"));
    apply(&elsewhere, &setup.file("filled.toml", filled), &[]);
    let without_words =
        |text: &str| text.lines().filter(|line| !line.starts_with('#')).collect::<Vec<_>>().join("\n");
    assert_eq!(without_words(&elsewhere.ok("topology export")), without_words(&exported));
}

#[test]
fn a_secret_that_differs_is_a_change_that_the_plan_names_and_does_not_show() {
    let setup = setup();
    let server = setup.start();
    apply(&server, &setup.file("topology.toml", FILE), &[]);
    let other = setup.file("other.toml", FILE.replace(SECRET, OTHER));
    let plan = apply(&server, &other, &["--dry-run"]);
    assert_says(
        &plan,
        &[
            "~ operation ship\n",
            "callback_secrets: (hidden)",
            "~ push shop\n",
            "secrets: (hidden)",
            "2 to change",
        ],
    );
    assert!(!plan.contains("whsec_") && !plan.contains("hunter2"), "{plan}");
    let told = server.cli(&["apply", &other, "--json"]).good();
    assert!(!told.contains("whsec_") && !told.contains("hunter2"), "{told}");
    assert_eq!(steps(&server, &other), 0);
}

#[test]
fn what_is_not_in_the_file_stays_unless_it_is_pruned_and_an_operation_keeps_its_queue() {
    let setup = setup();
    let server = setup.start();
    apply(&server, &setup.file("topology.toml", FILE), &[]);
    let old = setup.file("old.toml", "[queues.orders]\ndead_letter = \"dead\"\n[queues.dead]\n");
    assert_says(&apply(&server, &old, &[]), &["2 unchanged, 3 not in the file (kept"]);
    assert_eq!(server.json("push list").as_array().map(Vec::len), Some(1));
    let only = setup.file("only.toml", "[operations.ship]\ntimeout_ms = 5000\n");
    let plan = apply(&server, &only, &["--prune", "--dry-run"]);
    assert_says(
        &plan,
        &["- push shop (its messages stay", "~ operation ship\n", "- queue orders", "- queue dead"],
    );
    assert!(!plan.contains("queue ship"), "an operation that is wanted keeps its queue: {plan}");
    apply(&server, &only, &["--prune"]);
    assert_eq!(
        (server.json("push list"), server.json("queue list")[0]["name"].clone()),
        (json!([]), json!("ship"))
    );
    let plan = apply(&server, &setup.file("none.toml", ""), &["--prune"]);
    assert_says(&plan, &["- operation ship (its calls go on)", "- queue ship"]);
    assert_eq!(server.json("operation list"), json!([]));
}

#[test]
fn what_the_server_would_refuse_stands_in_the_plan_and_nothing_is_done() {
    let setup = setup();
    let server = setup.start();
    apply(&server, &setup.file("topology.toml", FILE), &[]);
    let refuse = |text: String, said: &[&str]| {
        let refused = server.cli(&["apply", &setup.file("refused.toml", text)]);
        assert_says(&refused.stdout, said);
        refused.bad(4, "cannot be applied");
    };
    // Headers do not go to another server unasked.
    let moved = FILE.replace("headers = { authorization = \"Bearer hunter2\" }\nretry", "retry");
    refuse(moved.replace(":9/ship", ":8/ship"), &["! operation ship: ", "headers", "another server"]);
    refuse(FILE.replace("127.0.0.1:9/hook", "10.0.0.1/hook"), &["! push shop: ", "url"]);
    let push = format!(
        "[pushes.p]\nqueue = 'none'\nurl = 'http://127.0.0.1:9/'\nsecrets = ['{SECRET}']\n[queues.new]\n"
    );
    refuse(push, &["! push p: its queue 'none' is neither declared here nor there"]);
    assert_eq!(server.json("queue list").as_array().map(Vec::len), Some(3), "no queue is made");
    let wrong = setup.file("wrong.toml", "[pushes.shop]\nqueue = 'orders'\nconcurency = 4\n");
    server.cli(&["apply", &wrong]).bad(2, "line 3, column 1");
    common::run(&["topology", "check", &wrong]).bad(2, "did you mean 'concurrency'?");
}

#[test]
fn a_plan_sees_what_the_declarations_of_a_file_say_to_each_other() {
    let setup = setup();
    let server = setup.start();
    let refuse = |text: &str, said: &str| {
        let refused = server.cli(&["apply", "--dry-run", &setup.file("refused.toml", text)]);
        assert_says(&refused.stdout, &[said]);
        refused.bad(4, "cannot be applied");
    };
    let file = |most: u32| {
        let text = format!(
            "[queues.q]\nmax_attempts = {most}\n[operations.a]\nqueue = 'q'\nmax_attempts = {most}\n"
        );
        setup.file("both.toml", text)
    };
    let short = "[queues.q]\nmax_attempts = 2\n[operations.a]\nqueue = 'q'\n";
    let gives_up = "! operation a: field 'max_attempts': the queue 'q' gives up after 2 attempts, before 5";
    refuse(short, gives_up);
    refuse(
        "[operations.a]\nintake = 'i'\n[operations.b]\nintake = 'i'\n",
        "! operation a: field 'intake': operation 'b' uses the queue 'i' already",
    );
    apply(&server, &file(5), &[]);
    refuse(short, gives_up);
    // The same for an operation that the file does not name, and without a file.
    refuse("[queues.q]\nmax_attempts = 2\n", gives_up);
    server.cli(&["queue", "change", "q", "--max-attempts", "4"]).bad(4, "operation 'a' tries 5 times");
    server.ok("queue change q --max-attempts 6");
    // Both may go down and up together.
    assert_eq!(steps(&server, &file(2)), 2);
    assert_eq!(steps(&server, &file(7)), 2);
}
