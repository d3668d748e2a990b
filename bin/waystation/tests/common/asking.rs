//! How do tests ask for journeys, and settle what they are about?

#![allow(dead_code, reason = "each test binary uses a part of it")]

use serde_json::{Value, json};

use super::common::Server;

/// Answers a request of the HTTP interface.
pub fn call(server: &Server, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
    waystation_net::tls::install_provider();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let client = reqwest::Client::builder().no_proxy().build().expect("a client");
        let method = method.parse().expect("a method");
        let mut request = client.request(method, format!("{}{path}", server.url));
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.expect("an answer");
        let status = response.status().as_u16();
        (status, serde_json::from_slice(&response.bytes().await.expect("a body")).unwrap_or_default())
    })
}

pub fn journey(server: &Server, query: &str) -> Value {
    let (status, journey) = call(server, "GET", &format!("/v1/journeys?{query}"), None);
    assert_eq!(status, 200, "{journey}");
    journey
}

/// Takes one message and settles it.
pub fn settle(server: &Server, source: &str, outcome: &Value) {
    let (_, page) = call(server, "POST", &format!("/v1/{source}/receive?wait_ms=20000"), None);
    let message = &page["messages"][0];
    let mut settlement = json!({"tag": message["tag"], "attempt": message["attempt"]});
    settlement.as_object_mut().expect("an object").extend(outcome.as_object().expect("an outcome").clone());
    let (status, told) =
        call(server, "POST", &format!("/v1/{source}/settle"), Some(&json!({"settlements": [settlement]})));
    assert_eq!(status, 200, "{told}");
}

/// What happened in a message's nth place.
pub fn steps(message: &Value, stay: usize) -> Vec<String> {
    let copies = message["stays"][stay]["copies"].as_array().expect("copies");
    let steps = copies.iter().flat_map(|copy| copy["steps"].as_array().expect("steps"));
    steps.map(|step| step["what"].as_str().expect("a word").to_owned()).collect()
}

pub fn texts(values: &Value, member: &str) -> Vec<String> {
    let all = values.as_array().expect("an array").iter();
    all.map(|value| value[member].as_str().unwrap_or_default().to_owned()).collect()
}
