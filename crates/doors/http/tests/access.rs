//! Are users, permissions, virtual hosts and policies set as the interface promises, and do they hold at once?

mod common;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{Answer, Server};
use serde_json::{Value, json};

fn basic(who: &str) -> String {
    format!("authorization: Basic {}\r\n", STANDARD.encode(who))
}

async fn declared(server: &Server, path: &str, body: Value, status: u16, what: &str) {
    let answer = server.put(path, &body.to_string()).await.expect(status).json();
    assert_eq!(answer, json!({"declared": what}), "{path}");
}

async fn delete(server: &Server, path: &str) -> Answer {
    server.call("DELETE", path, "", "").await
}

async fn items(server: &Server, path: &str) -> Vec<Value> {
    let list = server.get(path).await.expect(200).json();
    list["items"].as_array().expect("a list").clone()
}

#[tokio::test]
async fn a_user_is_made_let_in_changed_and_removed() {
    let server = Server::start().await;
    let spec = json!({"password": "secret", "tags": ["management"]});
    declared(&server, "/v1/users/shop", spec.clone(), 201, "created").await;
    declared(&server, "/v1/users/shop", spec, 200, "unchanged").await;
    let other = json!({"password": "other", "tags": ["management"]});
    let problem = server.put("/v1/users/shop", &other.to_string()).await.expect(409).json();
    assert_eq!(problem["field"], "password");
    declared(&server, "/v1/users/shop?change=true", other, 200, "changed").await;
    assert_eq!(
        server.get("/v1/users/shop").await.expect(200).json(),
        json!({"name": "shop", "tags": ["management"], "has_password": true})
    );
    server.call("GET", "/v1/vhosts", &basic("shop:secret"), "").await.expect(401);
    server.call("GET", "/v1/vhosts", &basic("shop:other"), "").await.expect(200);
    let change = |body: &'static str| server.call("PATCH", "/v1/users/shop", "", body);
    change(r#"{"password": "third"}"#).await.expect(200);
    server.call("GET", "/v1/vhosts", &basic("shop:third"), "").await.expect(200);
    change(r#"{"password": null, "tags": []}"#).await.expect(200);
    server.call("GET", "/v1/vhosts", &basic("shop:third"), "").await.expect(401);
    assert_eq!(
        server.get("/v1/users/shop").await.expect(200).json(),
        json!({"name": "shop", "tags": [], "has_password": false})
    );
    assert_eq!(items(&server, "/v1/users?limit=1").await[0]["name"], "guest");
    assert_eq!(items(&server, "/v1/users?after=guest").await[0]["name"], "shop");
    delete(&server, "/v1/users/shop").await.expect(200);
    delete(&server, "/v1/users/shop").await.expect(404);
    server.end().await;
}

#[tokio::test]
async fn what_cannot_be_a_user_is_refused_with_the_member() {
    let server = Server::start().await;
    for (body, field) in [
        (r#"{"password": ""}"#.to_owned(), "password"),
        (
            format!(r#"{{"password": "{}"}}"#, "x".repeat(waystation_access::PASSWORD_BYTES_MAX + 1)),
            "password",
        ),
        (r#"{"password": "a", "password_hash": "b"}"#.to_owned(), "password_hash"),
        (r#"{"password_hash": "b"}"#.to_owned(), "password_hash"),
        (r#"{"password_hash": "b", "hashing_algorithm": "md5"}"#.to_owned(), "hashing_algorithm"),
    ] {
        let problem = server.put("/v1/users/a", &body).await.expect(422).json();
        assert_eq!(problem["field"], field, "{body}");
    }
    server.put("/v1/users/a", r#"{"passwort": "x"}"#).await.expect(400);
    let long = "x".repeat(waystation_access::USER_NAME_BYTES_MAX + 1);
    assert_eq!(server.put(&format!("/v1/users/{long}"), "").await.expect(422).json()["field"], "name");
    server.call("PATCH", "/v1/users/a", "", "{}").await.expect(404);
    server.end().await;
}

#[tokio::test]
async fn permissions_hold_at_once_and_are_for_administrators_to_give() {
    let server = Server::start().await;
    server.put("/v1/users/boss", r#"{"password": "b", "tags": ["administrator"]}"#).await.expect(201);
    server.put("/v1/users/shop", r#"{"password": "s"}"#).await.expect(201);
    let shop = basic("shop:s");
    let queue = |name: &'static str| server.call("PUT", name, &shop, "");
    queue("/v1/queues/orders").await.expect(403);
    let grant = json!({"configure": "^orders", "write": "", "read": ".*"});
    declared(&server, "/v1/permissions/%2F/shop", grant.clone(), 201, "created").await;
    declared(&server, "/v1/permissions/%2F/shop", grant, 200, "unchanged").await;
    queue("/v1/queues/orders").await.expect(201);
    queue("/v1/queues/other").await.expect(403);
    for path in ["/v1/users", "/v1/permissions", "/v1/topic-permissions", "/v1/amqp/definitions"] {
        let problem = server.call("GET", path, &shop, "").await.expect(403).json();
        assert_eq!(problem["permission"], "administrator", "{path}");
    }
    let problem = server.call("PUT", "/v1/policies/%2F/p", &shop, "{}").await.expect(403).json();
    assert_eq!(problem["permission"], "policymaker");
    assert_eq!(
        items(&server, "/v1/permissions?user=shop&vhost=%2F").await,
        [json!({"user": "shop", "vhost": "/", "configure": "^orders", "write": "", "read": ".*"})]
    );
    let wrong = server.put("/v1/permissions/%2F/shop", r#"{"read": "("}"#).await.expect(422).json();
    assert_eq!(wrong["field"], "read");
    server.put("/v1/permissions/none/shop", "{}").await.expect(404);
    server.put("/v1/permissions/%2F/none", "{}").await.expect(404);
    let topic = json!({"write": "^a", "read": ".*"});
    declared(&server, "/v1/topic-permissions/%2F/shop/amq.topic", topic, 201, "created").await;
    assert_eq!(items(&server, "/v1/topic-permissions?user=shop").await[0]["exchange"], "amq.topic");
    delete(&server, "/v1/topic-permissions/%2F/shop/amq.topic").await.expect(200);
    delete(&server, "/v1/topic-permissions/%2F/shop/amq.topic").await.expect(404);
    delete(&server, "/v1/permissions/%2F/shop").await.expect(200);
    delete(&server, "/v1/permissions/%2F/shop").await.expect(404);
    queue("/v1/queues/orders").await.expect(403);
    delete(&server, "/v1/users/boss").await.expect(409);
    server.end().await;
}

#[tokio::test]
async fn a_virtual_host_comes_with_its_routes_and_goes_with_what_is_in_it() {
    let server = Server::start().await;
    let spec = json!({"description": "the shop", "default_queue_type": "quorum"});
    declared(&server, "/v1/vhosts/shop", spec.clone(), 201, "created").await;
    declared(&server, "/v1/vhosts/shop", spec, 200, "unchanged").await;
    let problem = server.put("/v1/vhosts/shop", "{}").await.expect(409).json();
    assert!(problem["field"] == "description" || problem["field"] == "default_queue_type", "{problem}");
    declared(&server, "/v1/vhosts/shop?change=true", json!({"tags": ["x"]}), 200, "changed").await;
    server.put("/v1/vhosts/bad", r#"{"default_queue_type": "other"}"#).await.expect(422);
    let names: Vec<Value> =
        items(&server, "/v1/vhosts").await.iter().map(|vhost| vhost["name"].clone()).collect();
    assert_eq!(names, ["/", "shop"]);
    server.get("/v1/routes/shop::amq.topic").await.expect(200);
    server.put("/v1/queues/shop::q", "").await.expect(201);
    delete(&server, "/v1/vhosts/shop").await.expect(200);
    server.get("/v1/queues/shop::q").await.expect(404);
    server.get("/v1/vhosts/shop").await.expect(404);
    delete(&server, "/v1/vhosts/%2F").await.expect(409);
    server.end().await;
}

#[tokio::test]
async fn a_policy_reaches_a_queue_declared_before_or_after_it_and_leaves_its_declaration_alone() {
    let server = Server::start().await;
    server.put("/v1/queues/q.before", "").await.expect(201);
    let policy = json!({"pattern": "^q", "definition": {"max-length": 5, "message-ttl": 60000}});
    declared(&server, "/v1/policies/%2F/p", policy.clone(), 201, "created").await;
    declared(&server, "/v1/policies/%2F/p", policy, 200, "unchanged").await;
    server.put("/v1/queues/q.after", r#"{"ttl_ms": 5}"#).await.expect(201);
    server.put("/v1/queues/q.after", r#"{"ttl_ms": 5}"#).await.expect(200);
    let see = async |queue: &str| {
        let info = server.get(&format!("/v1/queues/{queue}")).await.expect(200).json();
        let of = |spec: &Value| (spec["max_messages"].clone(), spec["ttl_ms"].clone());
        assert_eq!(info["spec"]["arguments"], json!({}));
        (of(&info["spec"]), of(&info["effective"]))
    };
    let none = Value::Null;
    assert_eq!(see("q.before").await, ((none.clone(), none.clone()), (json!(5), json!(60000))));
    assert_eq!(see("q.after").await, ((none.clone(), json!(5)), (json!(5), json!(5))));
    // A change of one member leaves the declaration of the others, and the policy over it.
    server.call("PATCH", "/v1/queues/q.after", "", r#"{"ttl_ms": null}"#).await.expect(200);
    assert_eq!(see("q.after").await, ((none.clone(), none.clone()), (json!(5), json!(60000))));
    let narrower = json!({"pattern": "^q", "definition": {"max-length": 3}, "apply_to": "queues"});
    declared(&server, "/v1/operator-policies/%2F/p", narrower, 201, "created").await;
    assert_eq!(see("q.after").await.1.0, json!(3));
    assert_eq!(items(&server, "/v1/operator-policies?vhost=%2F").await[0]["apply_to"], "queues");
    for path in ["/v1/operator-policies/%2F/p", "/v1/policies/%2F/p"] {
        delete(&server, path).await.expect(200);
        delete(&server, path).await.expect(404);
    }
    assert_eq!(server.get("/v1/queues/q.after").await.expect(200).json()["effective"], Value::Null);
    server.end().await;
}

#[tokio::test]
async fn what_cannot_be_a_policy_is_refused_with_the_member() {
    let server = Server::start().await;
    for (body, status, field) in [
        (json!({"pattern": "^q", "definition": {}}), 422, "definition"),
        (json!({"pattern": "^q", "definition": {"nope": 1}}), 422, "definition"),
        (json!({"pattern": "(", "definition": {"max-length": 1}}), 422, "definition"),
        (json!({"pattern": "q", "definition": {"max-length": 1}, "apply_to": "x"}), 422, "apply_to"),
        (json!({"definition": {"max-length": 1}}), 400, ""),
    ] {
        let problem = server.put("/v1/policies/%2F/p", &body.to_string()).await.expect(status).json();
        assert_eq!(problem["field"].as_str().unwrap_or_default(), field, "{body}");
    }
    let policy = json!({"pattern": "^q", "definition": {"max-length": 1}}).to_string();
    server.put("/v1/policies/none/p", &policy).await.expect(404);
    server.end().await;
}

#[tokio::test]
async fn a_topic_refuses_a_delay_and_says_so() {
    let server = Server::start().await;
    server.put("/v1/topics/t", "").await.expect(201);
    server.put("/v1/queues/q", "").await.expect(201);
    let problem =
        server.call("POST", "/v1/topics/t/messages", "ws-delay-ms: 1000\r\n", "x").await.expect(422).json();
    assert_eq!(problem["field"], "deliver_at");
    let lines = "{\"body\":1}\n{\"body\":2,\"delay_ms\":60000}\n";
    let problem = server.lines("/v1/topics/t/messages", lines).await.expect(422).json();
    assert_eq!((&problem["field"], &problem["accepted"]), (&json!("deliver_at"), &json!(0)));
    server.call("POST", "/v1/queues/q/messages", "ws-delay-ms: 1000\r\n", "x").await.expect(200);
    server.call("POST", "/v1/topics/t/messages", "ws-delay-ms: 0\r\n", "x").await.expect(200);
    server.end().await;
}
