//! Does each change that a door asks for leave one record, and nothing else one?

use std::{future::Future, path::Path, sync::Arc};

use serde_json::{Value, json};
use waystation_base::{
    Name, Offset,
    os::{OsClock, OsDisk},
};
use waystation_broker::{
    Kind, SessionId,
    command::{Bind, Counted, Delete, Destination},
    spec::{QueueSpec, RouteKind, RouteSpec, Spec, SubscriptionSpec, TopicSpec},
};
use waystation_host::{
    Broker, Browse, Options, Target,
    audit::{Audit, Origin, TOPIC},
};

/// Runs `test` on `dir` and then ends all of a sudden.
async fn with<F: Future<Output = ()>>(dir: &Path, test: impl FnOnce(Broker) -> F) {
    let audit = Some(Audit { retention_ms: 1_000_000_000, retention_bytes: 1 << 20 });
    let options = Options { audit, ..Options::new(dir) };
    let (broker, driver, _) =
        waystation_host::open(options, Arc::new(OsDisk), Arc::new(OsClock)).expect("opened");
    let driver = tokio::spawn(driver.run(std::future::pending()));
    test(broker).await;
    driver.abort();
    assert!(driver.await.expect_err("cut off").is_cancelled());
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn shop(broker: &Broker) -> Broker {
    let client = Some(([10, 0, 0, 1], 5000).into());
    broker.with_origin(Origin { door: "test", who: Some("shop".to_owned()), client, ..Origin::default() })
}

async fn records(broker: &Broker) -> Vec<Value> {
    let target = Target::Topic(Name::reserved(TOPIC).expect("a name"));
    let browse = Browse { max: 1000, bytes_max: 1 << 20, ..Browse::default() };
    let page = broker.browse(target, browse).await.expect("there");
    page.messages.iter().map(|it| serde_json::from_slice(&it.message.body).expect("JSON")).collect()
}

fn delete(kind: Kind, of: &str) -> Delete {
    Delete {
        kind,
        name: name(of),
        if_unused: false,
        if_empty: false,
        counted: Counted::All,
        session: SessionId::default(),
    }
}

async fn change_everything(broker: &Broker) {
    let nobody = SessionId::default();
    let declare = async |of: &str, spec: Spec| {
        broker.declare(name(of), spec, true, nobody).await.expect("declared");
    };
    declare("q", Spec::Queue(QueueSpec::default())).await;
    declare("q", Spec::Queue(QueueSpec { lease_ms: 5, ..QueueSpec::default() })).await;
    declare("t", Spec::Topic(TopicSpec::default())).await;
    declare("s", Spec::Subscription(SubscriptionSpec::new("t"))).await;
    declare("r", Spec::Route(RouteSpec::new(RouteKind::Direct))).await;
    let bind = Bind {
        route: name("r"),
        to: Destination::Address(name("q")),
        key: "k".into(),
        arguments: serde_json::Map::new(),
    };
    broker.bind(bind.clone()).await.expect("bound");
    broker.unbind(bind).await.expect("unbound");
    broker.purge(name("q")).await.expect("purged");
    broker.seek(name("s"), vec![(name("t"), 0, Offset(0))]).await.expect("moved");
    let body = json!({"name": "u", "password_hash": "secret"}).to_string();
    broker.put_document(name("access/user/u"), Some(body.into())).await.expect("written");
    broker.put_document(name("access/user/u"), None).await.expect("removed");
    broker.delete(delete(Kind::Queue, "q")).await.expect("deleted");
}

#[tokio::test]
async fn each_kind_of_change_leaves_one_record_that_survives_a_crash() {
    let dir = tempfile::tempdir().expect("a folder");
    with(dir.path(), |broker| async move { change_everything(&shop(&broker)).await }).await;
    with(dir.path(), |broker| async move {
        let records = records(&broker).await;
        let told: Vec<String> = records
            .iter()
            .map(|it| format!("{} {} {}", it["action"], it["name"], it["result"]).replace('"', ""))
            .collect();
        let expected = [
            "declare q created",
            "declare q changed",
            "declare t created",
            "declare s created",
            "declare r created",
            "bind r created",
            "unbind r removed 1",
            "purge q removed 0",
            "seek s done",
            "write access/user/u done",
            "remove access/user/u done",
            "delete q removed 0",
        ];
        assert_eq!(told, expected);
        let change = &records[1];
        assert_eq!(
            (&change["before"]["lease_ms"], &change["after"]["lease_ms"]),
            (&json!(30_000), &json!(5))
        );
        let who = (&change["who"], &change["door"], &change["client"]);
        assert_eq!(who, (&json!("shop"), &json!("test"), &json!("10.0.0.1:5000")));
        assert!(!format!("{records:?}").contains("secret"), "no hash is shown");
    })
    .await;
}

#[tokio::test]
async fn what_changes_nothing_or_goes_with_a_session_leaves_no_record() {
    let dir = tempfile::tempdir().expect("a folder");
    with(dir.path(), |broker| async move {
        let named = shop(&broker);
        named
            .declare(name("q"), Spec::Queue(QueueSpec::default()), false, SessionId::default())
            .await
            .expect("new");
        named
            .declare(name("q"), Spec::Queue(QueueSpec::default()), false, SessionId::default())
            .await
            .expect("same");
        let fleeting = QueueSpec { exclusive: true, auto_delete: true, ..QueueSpec::default() };
        named.declare(name("mine"), Spec::Queue(fleeting), false, broker.session()).await.expect("mine");
        named.delete(delete(Kind::Queue, "none")).await.expect_err("not there");
        named.publish(name("q"), vec![]).await.expect("published");
        broker
            .declare(name("own"), Spec::Queue(QueueSpec::default()), false, SessionId::default())
            .await
            .expect("ours");
        assert_eq!(records(&broker).await.len(), 1);
        assert_eq!(broker.names(Kind::Topic, None, 10).await.expect("names"), [], "lists leave it out");
    })
    .await;
}
