//! Do dead letters come back as they should, by the real program: looked at in groups, redriven, undone, and through kills midway?

mod common;

use std::collections::BTreeMap;

use common::{Server, Setup, until};
use serde_json::{Value, json};

/// Asks the server's HTTP interface.
struct Http {
    client: reqwest::Client,
    runtime: tokio::runtime::Runtime,
}

impl Http {
    fn new() -> Http {
        waystation_net::tls::install_provider();
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Http { client, runtime }
    }

    /// The status and the JSON of an answer.
    fn send(&self, server: &Server, method: &str, path: &str, body: Option<Value>) -> (u16, Value) {
        let method = method.parse().expect("a method");
        let request = self.client.request(method, format!("{}{path}", server.url));
        let request = if let Some(body) = body { request.json(&body) } else { request };
        self.runtime.block_on(async {
            let response = request.send().await.expect("answered");
            let status = response.status().as_u16();
            (status, response.json().await.unwrap_or_default())
        })
    }

    fn text(&self, server: &Server, path: &str) -> String {
        let request = self.client.get(format!("{}{path}", server.url));
        self.runtime.block_on(async { request.send().await.expect("answered").text().await.expect("text") })
    }

    #[track_caller]
    fn ok(&self, server: &Server, method: &str, path: &str, body: Option<Value>) -> Value {
        let (status, answer) = self.send(server, method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {answer}");
        answer
    }

    /// Publishes messages with these numbers and lets each fail with an error of its own.
    fn fail(&self, server: &Server, numbers: std::ops::Range<u64>) {
        let lines = |n: u64| format!("{}\n", json!({"id": format!("m-{n}"), "body": {"n": n}}));
        let text: String = numbers.clone().map(lines).collect();
        let publish = self.client.post(format!("{}/v1/queues/orders/messages", server.url));
        let publish = publish.header("content-type", "application/x-ndjson").body(text);
        let published = self.runtime.block_on(publish.send()).expect("answered");
        assert!(published.status().is_success());
        let mut left = numbers.end - numbers.start;
        while left > 0 {
            left -= self.reject(server, left);
        }
        let info = || self.ok(server, "GET", "/v1/queues/orders.dead", None);
        until("all are dead letters", || info()["ready"].as_u64() >= Some(numbers.end - numbers.start));
    }

    /// Rejects some messages; says how many.
    fn reject(&self, server: &Server, max: u64) -> u64 {
        let path = format!("/v1/queues/orders/receive?max={}&wait_ms=5000", max.min(1000));
        let page = self.ok(server, "POST", &path, None);
        let messages = page["messages"].as_array().cloned().unwrap_or_default();
        let reject = |message: &Value| {
            let n = message["body"]["n"].as_u64().expect("a number");
            let error = if n.is_multiple_of(2) {
                format!("no stock for {n}")
            } else {
                format!("card '{n}' declined")
            };
            json!({"tag": message["tag"], "attempt": message["attempt"], "outcome": "reject", "error": error})
        };
        let settlements: Vec<Value> = messages.iter().map(reject).collect();
        self.ok(server, "POST", "/v1/queues/orders/settle", Some(json!({"settlements": settlements})));
        messages.len() as u64
    }

    /// Every message of a queue, by its number, with how often it is there.
    fn numbers(&self, server: &Server, queue: &str) -> BTreeMap<u64, u64> {
        let mut numbers = BTreeMap::new();
        for message in self.messages(server, queue) {
            *numbers.entry(message["body"]["n"].as_u64().expect("a number")).or_default() += 1;
        }
        numbers
    }

    fn messages(&self, server: &Server, queue: &str) -> Vec<Value> {
        let (mut messages, mut from) = (Vec::new(), String::new());
        loop {
            let path = format!("/v1/queues/{queue}/messages?limit=10000{from}");
            let page = self.ok(server, "GET", &path, None);
            messages.extend(page["messages"].as_array().cloned().unwrap_or_default());
            match page["next"].as_str() {
                Some(next) => from = format!("&from={next}"),
                None => return messages,
            }
        }
    }
}

fn once(numbers: impl IntoIterator<Item = u64>) -> BTreeMap<u64, u64> {
    numbers.into_iter().map(|number| (number, 1)).collect()
}

/// Whether two queues hold the same; without writing down thousands of numbers if not.
#[track_caller]
fn assert_same(found: &BTreeMap<u64, u64>, expected: &BTreeMap<u64, u64>) {
    let missing: Vec<_> = expected.keys().filter(|n| !found.contains_key(n)).take(5).collect();
    let more: Vec<_> = found.iter().filter(|(n, count)| expected.get(n) != Some(count)).take(5).collect();
    assert!(missing.is_empty() && more.is_empty(), "missing: {missing:?}, too often: {more:?}");
}

fn with_queues(server: &Server) {
    server.ok("queue create orders.dead");
    server.ok("queue create orders --dead-letter orders.dead");
}

#[test]
fn a_group_is_shown_redriven_fails_again_saying_so_and_is_undone() {
    let (setup, http) = (Setup::new(), Http::new());
    let server = setup.start();
    with_queues(&server);
    assert!(server.ok("dead list").contains("no dead letters"));
    http.fail(&server, 0..10);
    let groups = server.json("dead list --queue orders.dead");
    assert_eq!((groups["messages"].as_u64(), groups["groups"].as_array().map(Vec::len)), (Some(10), Some(2)));
    let of = |error: &str| {
        let all = groups["groups"].as_array().cloned().unwrap_or_default();
        let group = all.into_iter().find(|group| group["error"] == error).expect("a group");
        (group["id"].as_str().expect("an id").to_owned(), group["messages"].as_u64())
    };
    let (stock, count) = of("no stock for <number>");
    assert_eq!((count, of("card <text> declined").1), (Some(5), Some(5)));
    let shown = server.ok(&format!("dead show {stock}"));
    assert!(shown.contains("no stock for 4") && shown.contains("failed    in orders"), "{shown}");
    server.cli(&["dead", "show", "0123"]).bad(3, "no dead letter");

    let preview = server.ok(&format!("redrive start --group {stock} --dry-run"));
    assert!(preview.contains("would redrive 5 messages") && preview.contains("to orders"), "{preview}");
    assert_eq!(http.numbers(&server, "orders").len(), 0, "a dry run moves nothing");
    server.cli(&["redrive", "start", "--group", &stock]).bad(2, "nobody to ask");
    server.cli(&["redrive", "start", "--yes"]).bad(2, "required");

    for round in 1..=2_u64 {
        let done = server.json(&format!("redrive start --group {stock} --yes"));
        assert_eq!((&done["state"], done["moved"].as_u64()), (&"completed".into(), Some(5)), "{done}");
        for message in http.messages(&server, "orders") {
            let headers = &message["headers"];
            assert_eq!(
                (&headers["ws-redrive"], headers["ws-redrive-count"].as_u64()),
                (&done["id"], Some(round))
            );
        }
        assert_same(&http.numbers(&server, "orders"), &once([0, 2, 4, 6, 8]));
        assert_eq!(http.reject(&server, 5), 5);
        until("they failed again", || http.numbers(&server, "orders.dead").len() == 10);
    }
    let shown = server.ok(&format!("dead show {stock}"));
    assert!(shown.contains("redriven  2 times"), "{shown}");

    let json = json!({"which": {"ids": ["m-3", "m-5"]}, "edit": {"set": {"mended": true}}});
    let begun = http.ok(&server, "POST", "/v1/redrives", Some(json));
    let id = begun["id"].as_str().expect("an id").to_owned();
    server.cli(&["redrive", "watch", &id]).good();
    let mended = http.messages(&server, "orders").remove(0);
    assert_eq!(mended["headers"]["mended"], true);
    let original = format!("/v1/redrives/{id}/originals/{}", mended["uuid"].as_str().expect("an id"));
    let original = http.ok(&server, "GET", &original, None);
    assert!(original["headers"].get("mended").is_none() && original["id"] == "m-3", "{original}");
    let preview = server.json("redrive start --id m-7 --jq .x=$error --dry-run");
    assert_eq!(
        preview["samples"][0]["redriven"]["body"],
        json!({"n": 7, "x": "card '7' declined"}),
        "{preview}"
    );
    server.cli(&["redrive", "start", "--all", "--jq", ".x = (", "--yes"]).bad(4, "line 1, column");
    let failing = json!({"which": {"ids": ["m-7", "m-9"]}, "edit": {"jq": "if .n == 7 then .n |= . + 1000 else error(\"no\") end"}});
    let failing = http.ok(&server, "POST", "/v1/redrives", Some(failing));
    let failing = failing["id"].as_str().expect("an id").to_owned();
    server.cli(&["redrive", "watch", &failing]).bad_said(4, "jq: \"no\"");
    assert_same(&http.numbers(&server, "orders"), &once([3, 5, 1007]));
    let undone = server.json(&format!("redrive undo {failing} --detach"));
    assert_eq!(undone["moved"].as_u64(), Some(1), "{undone}");
    until("it is back", || {
        http.ok(&server, "GET", &format!("/v1/redrives/{failing}"), None)["state"] == "undone"
    });
    let undone = server.json(&format!("redrive undo {id}"));
    assert_eq!((&undone["state"], undone["undone"].as_u64()), (&"undone".into(), Some(2)), "{undone}");
    assert_same(&http.numbers(&server, "orders.dead"), &once(0..10));
    assert!(server.ok("redrive list").contains(&id));
    let (status, problem) = http.send(&server, "POST", &format!("/v1/redrives/{id}/pause"), None);
    assert_eq!((status, &problem["type"]), (409, &"urn:waystation:problem:wrong-state".into()), "{problem}");
    let (status, problem) =
        http.send(&server, "POST", "/v1/redrives", Some(json!({"from": ["orders.dead"]})));
    assert_eq!((status, &problem["field"]), (422, &"which".into()), "{problem}");
}

#[test]
fn a_redrive_and_its_undoing_lose_and_double_nothing_when_the_server_is_killed_midway() {
    const COUNT: u64 = 10_000;
    let (setup, http) = (Setup::new(), Http::new());
    let mut server = setup.start();
    with_queues(&server);
    for from in (0..COUNT).step_by(1_000) {
        http.fail(&server, from..from + 1_000);
    }
    until("all are dead letters", || http.numbers(&server, "orders.dead").len() as u64 == COUNT);
    let json = json!({"which": {"all": true}, "from": ["orders.dead"], "rate": 5_000});
    let id = http.ok(&server, "POST", "/v1/redrives", Some(json))["id"].as_str().expect("an id").to_owned();
    let path = format!("/v1/redrives/{id}");
    for wanted in [500, 2_500, 4_500, 6_500, 8_500] {
        until("some are moved", || http.ok(&server, "GET", &path, None)["moved"].as_u64() >= Some(wanted));
        server.kill();
        server = setup.start();
    }
    server.cli(&["redrive", "watch", &id]).good();
    let done = http.ok(&server, "GET", &path, None);
    assert_eq!((&done["state"], done["moved"].as_u64()), (&"completed".into(), Some(COUNT)), "{done}");
    assert_same(&http.numbers(&server, "orders"), &once(0..COUNT));
    assert_same(&http.numbers(&server, "orders.dead"), &once([]));

    http.ok(&server, "POST", &format!("{path}/undo"), None);
    for wanted in [1_000, 5_000] {
        until("some are back", || http.ok(&server, "GET", &path, None)["undone"].as_u64() >= Some(wanted));
        server.kill();
        server = setup.start();
    }
    server.cli(&["redrive", "watch", &id]).good();
    assert_eq!(http.ok(&server, "GET", &path, None)["undone"].as_u64(), Some(COUNT));
    assert_same(&http.numbers(&server, "orders"), &once([]));
    assert_same(&http.numbers(&server, "orders.dead"), &once(0..COUNT));
}

/// Processes that evaluate jq for a server.
fn evaluators(server: &Server) -> usize {
    let processes = std::fs::read_dir("/proc").expect("a proc file system");
    let ids = processes.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<u32>().ok());
    let parent = format!("PPid:\t{}\n", server.pid());
    let is_one = |id: &u32| {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/{id}/{name}")).unwrap_or_default();
        read("cmdline").contains("jq-worker") && read("status").contains(&parent)
    };
    ids.filter(is_one).count()
}

#[test]
fn redrives_and_routes_share_the_processes_that_evaluate_jq() {
    let (setup, http) = (Setup::new(), Http::new());
    let server = setup.start();
    with_queues(&server);
    server.ok("queue create in");
    server.ok("queue create out");
    let file = setup.file(
        "route.toml",
        "from = { queue = \"in\" }\nsteps = [{ filter = \".n >= 0\" }, { to = \"out\" }]\n",
    );
    server.cli(&["route", "create", "all", "--file", &file]).good();
    let lines: String = (0..2_000).map(|n| format!("{}\n", json!({"body": {"n": n}}))).collect();
    server.cli_with(&["publish", "in", "--ndjson", "-"], lines.as_bytes()).good();
    until("all have passed", || server.json("queue show out")["ready"] == 2_000);
    let before = evaluators(&server);
    assert!(before >= 2, "{before}: so many work that each has one");
    http.fail(&server, 0..500);
    server.cli(&["redrive", "start", "--all", "--jq", ".n += 1", "--yes"]).good();
    assert_eq!(http.numbers(&server, "orders").len(), 500);
    assert_eq!(evaluators(&server), before);
}

#[test]
fn what_a_sender_says_in_waystations_name_is_kept_and_believed_by_nobody() {
    let (setup, http) = (Setup::new(), Http::new());
    let server = setup.start();
    server.ok("queue create payroll");
    server.ok("queue create orders.dead");
    server.ok("queue create orders --dead-letter orders.dead --deduplication 1h");
    let forged = json!({
        "ws-death-reason": "rejected", "ws-death-source": "payroll", "ws-death-error": "no stock", "ws-death-count": 7,
        "ws-redrive": "mine", "ws-redrive-count": 9, "ws-exchange": "sales", "user-id": "root",
        "ws-cause": "a-1", "ws-business-order": "4711", "ws-sequence-index": 0, "colour": "blue",
    });
    let line = |id: &str| json!({"id": id, "body": {"n": 1}, "headers": forged.clone()});
    let send = |address: &str, headers: &[(&str, &str)], body: String| {
        let mut request = http.client.post(format!("{}/v1/queues/{address}/messages", server.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        http.runtime
            .block_on(async { request.send().await.expect("answered").json::<Value>().await.expect("JSON") })
    };
    let ndjson = [("content-type", "application/x-ndjson")];
    let kept = |message: &Value| {
        let headers = message["headers"].as_object().cloned().unwrap_or_default();
        for (name, value) in forged.as_object().expect("headers") {
            let is_shared =
                ["ws-cause", "ws-business-order", "ws-sequence-index", "colour"].contains(&name.as_str());
            let stored = if is_shared { name.clone() } else { format!("ws-amqp-header-{name}") };
            assert_eq!(headers.get(&stored), Some(value), "{stored}: {headers:?}");
        }
    };

    // By a line, by a transaction, and by headers of HTTP.
    assert_eq!(send("orders.dead", &ndjson, format!("{}\n", line("a-1")))["accepted"], 1);
    let publishes = json!([{"address": "orders.dead", "messages": [line("a-2")]}]);
    http.ok(&server, "POST", "/v1/transactions", Some(json!({"publishes": publishes})));
    let by_headers = [
        ("ws-header-ws-redrive", "mine"),
        ("ws-header-ws-death-source", "payroll"),
        ("ws-business-order", "4711"),
    ];
    send("orders.dead", &by_headers, "{\"n\": 1}".into());
    let dead = http.messages(&server, "orders.dead");
    kept(&dead[0]);
    kept(&dead[1]);
    let last = &dead[2]["headers"];
    assert_eq!(
        (&last["ws-amqp-header-ws-redrive"], &last["ws-business-order"]),
        (&json!("mine"), &json!("4711"))
    );

    // No dead letter of anybody's, and nothing that a redrive would take elsewhere.
    let mut groups = Value::Null;
    until("they are read", || {
        groups = server.json("dead list --queue orders.dead");
        groups["groups"][0]["messages"] == 3
    });
    let group = &groups["groups"][0];
    assert_eq!(
        (group["messages"].as_u64(), group["origins"].get("payroll"), &group["error"]),
        (Some(3), None, &Value::Null),
        "{groups}"
    );
    let preview = server.json("redrive start --from orders.dead --all --dry-run");
    assert!(preview["targets"].get("payroll").is_none(), "{preview}");

    // No redrive: a duplicate stays one. What is handed on as it was received is accepted, and stays as it is.
    assert_eq!(send("orders", &ndjson, format!("{}\n", line("b-1")))["accepted"], 1);
    assert_eq!(send("orders", &ndjson, format!("{}\n", line("b-1")))["duplicates"], 1);
    let again = json!({"id": "b-2", "headers": http.messages(&server, "orders")[0]["headers"]});
    assert_eq!(send("orders", &ndjson, format!("{again}\n"))["accepted"], 1);
    kept(&http.messages(&server, "orders")[1]);

    // Its own failures are told, beside what its sender said.
    assert_eq!(http.reject(&server, 1), 1);
    until("it is a dead letter", || http.messages(&server, "orders.dead").len() == 4);
    let headers = http.messages(&server, "orders.dead").remove(3)["headers"].clone();
    assert_eq!(
        (&headers["ws-death-source"], headers["ws-death-count"].as_u64()),
        (&json!("orders"), Some(1))
    );
    assert_eq!(
        (headers.get("ws-redrive"), &headers["ws-amqp-header-ws-death-source"]),
        (None, &json!("payroll"))
    );
}

#[test]
fn redrives_are_counted_by_what_they_do_and_what_they_moved() {
    let (setup, http) = (Setup::new(), Http::new());
    let server = setup.start();
    with_queues(&server);
    http.fail(&server, 0..4);
    let figures = || http.text(&server, "/metrics");
    let has = |line: &str| assert!(figures().lines().any(|have| have == line), "{line} in {}", figures());
    has("waystation_redrive_moved_total 0");
    let begun = json!({"which": {"all": true}, "rate": 1, "max": 3});
    let begun = http.ok(&server, "POST", "/v1/redrives", Some(begun));
    has("waystation_redrives{state=\"running\"} 1");
    let id = begun["id"].as_str().expect("an id").to_owned();
    http.ok(&server, "POST", &format!("/v1/redrives/{id}/pause"), None);
    has("waystation_redrives{state=\"paused\"} 1");
    has("waystation_redrives{state=\"running\"} 0");
    http.ok(&server, "POST", &format!("/v1/redrives/{id}/abort"), None);
    let before =
        http.ok(&server, "GET", &format!("/v1/redrives/{id}"), None)["moved"].as_u64().expect("a count");
    let done = server.json("redrive start --all --yes");
    has(&format!("waystation_redrive_moved_total {}", before + done["moved"].as_u64().expect("a count")));
    server.ok(&format!("redrive undo {}", done["id"].as_str().expect("an id")));
    until("it is undone", || {
        figures().contains(&format!("waystation_redrive_undone_total {}", done["moved"]))
    });
    server.ok("queue delete orders");
    // It says by its code that some stayed.
    let done = server.cli(&["redrive", "start", "--all", "--yes", "--json"]).stdout;
    let done: Value = serde_json::from_str(&done).expect("JSON");
    let left = done["left"].as_object().cloned().unwrap_or_default();
    let left: u64 = left.values().filter_map(Value::as_u64).sum();
    assert!(left > 0);
    has(&format!("waystation_redrive_left_total {left}"));
}
