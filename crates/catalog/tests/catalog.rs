//! Do virtual hosts and policies hold what they say, at once and over a restart?

use std::{
    future::Future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use serde_json::{Value, json};
use tokio::sync::oneshot;
use waystation_access::Access;
use waystation_base::{
    Name,
    os::{OsClock, OsDisk},
};
use waystation_broker::{
    Kind, Refusal, SessionId,
    spec::{Overflow, QueueSpec, Spec, VhostLimits},
};
use waystation_catalog::{
    ApplyTo, Catalog, Error, Parameter, Policy, RECORD_NAME_BYTES_MAX, Rank, VHOSTS_MAX, Vhost,
};
use waystation_host::{Broker, Options};
use waystation_testkit::disk::{Crash, Faults, SimDisk};

/// Runs `test` against a broker on `dir`, and ends it in good order.
async fn with<F: Future<Output = ()>>(dir: &Path, test: impl FnOnce(Broker, Catalog) -> F) {
    let (broker, driver, _) =
        waystation_host::open(Options::new(dir), Arc::new(OsDisk), Arc::new(OsClock)).expect("opened");
    let (stop, stopped) = oneshot::channel::<()>();
    let driver = tokio::spawn(driver.run(async { drop(stopped.await) }));
    let catalog = Catalog::new(Access::new(vec![]).expect("no tokens"));
    catalog.load(&broker).await.expect("loaded");
    test(broker, catalog).await;
    drop(stop);
    driver.await.expect("joined").expect("ended well");
}

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

async fn declare(broker: &Broker, queue: &str, spec: QueueSpec) {
    let declared = broker.declare(name(queue), Spec::Queue(spec), false, SessionId::default()).await;
    declared.expect("declared");
}

fn vhost(name: &str) -> Vhost {
    Vhost { name: name.to_owned(), ..Vhost::default() }
}

fn policy(host: &str, name: &str, definition: Value) -> Policy {
    let Value::Object(definition) = definition else { panic!("an object") };
    let (vhost, name, pattern) = (host.to_owned(), name.to_owned(), "^q".to_owned());
    Policy { vhost, name, pattern, apply_to: ApplyTo::Queues, definition, priority: 0 }
}

#[tokio::test]
async fn a_virtual_host_comes_with_its_exchanges_and_goes_with_all_that_is_in_it() {
    let dir = tempfile::tempdir().expect("a folder");
    with(dir.path(), |broker, catalog| async move {
        assert!(broker.route(name("amq.topic")).await.is_ok(), "the default one");
        assert_eq!(catalog.put_vhost(&broker, vhost("shop"), Some("guest".into())).await, Ok(true));
        assert_eq!(catalog.put_vhost(&broker, vhost("shop"), None).await, Ok(false));
        assert!(broker.route(name("shop::amq.direct")).await.is_ok());
        declare(&broker, "shop::q", QueueSpec::default()).await;
        declare(&broker, "q", QueueSpec::default()).await;
        let set = policy("shop", "p", json!({"max-length": 5}));
        assert_eq!(catalog.put_policy(&broker, Rank::User, set).await, Ok(true));
        assert_eq!(catalog.access().permissions().len(), 2, "who made it may work in it");
    })
    .await;
    with(dir.path(), |broker, catalog| async move {
        assert_eq!(catalog.vhosts().len(), 2);
        catalog.delete_vhost(&broker, "shop").await.expect("deleted");
        assert_eq!(catalog.delete_vhost(&broker, "shop").await, Err(Error::NoVhost("shop".into())));
        assert_eq!(catalog.delete_vhost(&broker, "/").await, Err(Error::DefaultVhost));
        assert!(matches!(broker.queue(name("shop::q")).await, Err(Refusal::NotFound { .. })));
        assert!(matches!(broker.route(name("shop::amq.direct")).await, Err(Refusal::NotFound { .. })));
        assert!(broker.queue(name("q")).await.is_ok());
        assert!(catalog.policies(Rank::User).is_empty());
        assert!(broker.documents("amqp/".to_owned()).await.expect("asked").is_empty());
        assert_eq!(catalog.access().permissions().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn a_policy_changes_what_is_there_and_gives_it_back() {
    let dir = tempfile::tempdir().expect("a folder");
    with(dir.path(), |broker, catalog| async move {
        let declared =
            QueueSpec { max_messages: Some(10), overflow: Overflow::DropHead, ..QueueSpec::default() };
        declare(&broker, "q", declared.clone()).await;
        declare(&broker, "other", declared.clone()).await;
        let nowhere = policy("none", "p", json!({"max-length": 5}));
        assert_eq!(
            catalog.put_policy(&broker, Rank::User, nowhere).await,
            Err(Error::NoVhost("none".into()))
        );
        let set = policy("/", "p", json!({"max-length": 5, "message-ttl": 60_000}));
        assert_eq!(catalog.put_policy(&broker, Rank::User, set.clone()).await, Ok(true));
        assert_eq!(catalog.put_policy(&broker, Rank::User, set).await, Ok(false));
        let limit = policy("/", "limit", json!({"max-length": 3}));
        assert_eq!(catalog.put_policy(&broker, Rank::Operator, limit).await, Ok(true));
        let spec = broker.queue(name("q")).await.expect("there").spec;
        assert_eq!((spec.max_messages, spec.ttl_ms), (Some(3), Some(60_000)));
        assert_eq!(broker.queue(name("other")).await.expect("there").spec, declared);
    })
    .await;
    with(dir.path(), |broker, catalog| async move {
        assert_eq!(catalog.delete_policy(&broker, Rank::Operator, "/", "limit").await, Ok(true));
        let spec = broker.queue(name("q")).await.expect("there").spec;
        assert_eq!((spec.max_messages, spec.ttl_ms), (Some(5), Some(60_000)));
        assert_eq!(catalog.delete_policy(&broker, Rank::User, "/", "p").await, Ok(true));
        assert_eq!(catalog.delete_policy(&broker, Rank::User, "/", "p").await, Ok(false));
        let spec = broker.queue(name("q")).await.expect("there").spec;
        assert_eq!((spec.max_messages, spec.ttl_ms), (Some(10), None));
    })
    .await;
}

#[tokio::test]
async fn names_hold_at_their_bound_and_are_refused_past_it() {
    const { assert!(VHOSTS_MAX > 1) };
    let dir = tempfile::tempdir().expect("a folder");
    with(dir.path(), |broker, catalog| async move {
        let put = async |length: usize| catalog.put_vhost(&broker, vhost(&"v".repeat(length)), None).await;
        assert_eq!(put(RECORD_NAME_BYTES_MAX).await, Ok(true));
        let past = RECORD_NAME_BYTES_MAX + 1;
        assert_eq!(put(past).await, Err(Error::Name(past)));
        assert_eq!(put(0).await, Err(Error::Name(0)));
    })
    .await;
}

#[tokio::test]
async fn a_policy_reaches_what_is_declared_after_it_whichever_door_declares_it() {
    let dir = tempfile::tempdir().expect("a folder");
    with(dir.path(), |broker, catalog| async move {
        let set = policy("/", "p", json!({"max-length": 5, "overflow": "reject-publish"}));
        assert_eq!(catalog.put_policy(&broker, Rank::User, set).await, Ok(true));
        declare(&broker, "q", QueueSpec::default()).await;
        assert_eq!(broker.queue(name("q")).await.expect("there").spec.max_messages, Some(5));
        declare(&broker, "q", QueueSpec::default()).await;
        let other = QueueSpec { ttl_ms: Some(9), ..QueueSpec::default() };
        let refused =
            broker.declare(name("q"), Spec::Queue(other.clone()), false, SessionId::default()).await;
        assert!(matches!(refused, Err(Refusal::Exists { field, .. }) if field == "ttl_ms"));
        let changed = broker.declare(name("q"), Spec::Queue(other), true, SessionId::default()).await;
        assert!(changed.is_ok());
        let spec = broker.queue(name("q")).await.expect("there").spec;
        assert_eq!((spec.max_messages, spec.ttl_ms), (Some(5), Some(9)));
        assert_eq!(catalog.delete_policy(&broker, Rank::User, "/", "p").await, Ok(true));
        let spec = broker.queue(name("q")).await.expect("there").spec;
        assert_eq!((spec.max_messages, spec.ttl_ms, spec.arguments.len()), (None, Some(9), 0));
    })
    .await;
}

#[tokio::test]
async fn limits_that_are_changed_at_the_same_time_are_all_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    with(dir.path(), async |broker, catalog| {
        let queues = catalog.change_limits(&broker, "/", |limits| limits.max_queues = Some(7));
        let connections = catalog.change_limits(&broker, "/", |limits| limits.max_connections = Some(9));
        assert_eq!(tokio::join!(queues, connections), (Ok(()), Ok(())));
        let limits = catalog.vhost("/").expect("there").limits;
        assert_eq!((limits.max_queues, limits.max_connections), (Some(7), Some(9)));
        let missing = catalog.change_limits(&broker, "none", |_| ()).await;
        assert_eq!(missing, Err(Error::NoVhost("none".into())));
    })
    .await;
}

/// A broker on a disk that fails, until `test` ends; how the broker ends is of no matter.
async fn on<F: Future<Output = ()>>(disk: &SimDisk, test: impl FnOnce(Broker, Catalog) -> F) {
    let options = Options {
        journal_file_bytes: 256 << 10,
        hot_bytes: 512 << 10,
        snapshot_bytes: 256 << 10,
        cache_bytes: 128 << 10,
        ..Options::new("/data")
    };
    let (broker, driver, _) =
        waystation_host::open(options, Arc::new(disk.clone()), Arc::new(OsClock)).expect("opened");
    let (stop, stopped) = oneshot::channel::<()>();
    let driver = tokio::spawn(driver.run(async { drop(stopped.await) }));
    let catalog = Catalog::new(Access::new(vec![]).expect("no tokens"));
    catalog.load(&broker).await.expect("loaded");
    test(broker, catalog).await;
    drop(stop);
    let _ = driver.await.expect("joined");
}

#[tokio::test]
async fn a_deletion_that_fails_on_the_way_is_completed_by_another_one() {
    let (mut failed, mut halfway) = (0, 0);
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let broken = disk.clone();
        let deleted = Arc::new(AtomicBool::new(false));
        let done = deleted.clone();
        on(&disk, |broker, catalog| async move {
            let limits = VhostLimits { max_queues: Some(9), ..VhostLimits::default() };
            let shop = Vhost { limits, ..vhost("shop") };
            catalog.put_vhost(&broker, shop, Some("guest".into())).await.expect("new");
            for number in 0..4 {
                declare(&broker, &format!("shop::q{number}"), QueueSpec::default()).await;
                let set = policy("shop", &format!("p{number}"), json!({"max-length": 5}));
                catalog.put_policy(&broker, Rank::User, set).await.expect("set");
                let (vhost, component, name) = ("shop".to_owned(), "c".to_owned(), format!("n{number}"));
                let parameter = Parameter { vhost, component, name, value: json!({}) };
                catalog.put_parameter(&broker, parameter).await.expect("set");
            }
            broken.set_faults(Faults { sync_error_one_in: 10, ..Faults::default() });
            let result = catalog.delete_vhost(&broker, "shop").await;
            done.store(result.is_ok(), Ordering::Relaxed);
            assert_eq!(catalog.has_vhost("shop"), result.is_err(), "what is not gone is there");
            broken.set_faults(Faults::default());
        })
        .await;
        disk.crash(Crash::Kill);
        let deleted = deleted.load(Ordering::Relaxed);
        failed += u32::from(!deleted);
        let left = Arc::new(AtomicU32::new(0));
        let counted = left.clone();
        on(&disk, |broker, catalog| async move {
            counted.store(catalog.policies(Rank::User).len() as u32, Ordering::Relaxed);
            match catalog.delete_vhost(&broker, "shop").await {
                Ok(()) => assert!(!deleted, "what is deleted stays so"),
                // The last write may have been the one that failed after all was written.
                gone => assert_eq!(gone, Err(Error::NoVhost("shop".into()))),
            }
            assert!(catalog.policies(Rank::User).is_empty() && catalog.parameters().is_empty());
            assert!(catalog.access().permissions().iter().all(|it| it.vhost != "shop"));
            assert!(broker.query(|view| view.vhosts()).await.expect("asked").is_empty(), "no limits");
            let kinds = [Kind::Queue, Kind::Route];
            let names =
                broker.query(move |view| kinds.map(|kind| view.names(kind, None, 100)).concat()).await;
            assert!(names.expect("asked").iter().all(|name| !name.as_str().starts_with("shop::")));
        })
        .await;
        halfway += u32::from((1..4).contains(&left.load(Ordering::Relaxed)));
    }
    assert!(failed > 0 && halfway > 0, "{failed} failed, {halfway} with some policies gone");
}
