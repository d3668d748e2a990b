//! Is everything that was acknowledged there after a stop, a crash, a failed sync or a full disk?

mod common;

use std::sync::{Arc, atomic::Ordering};

use common::*;
use waystation_broker::{Refusal, SessionId, command::Hold};
use waystation_host::{Event, Mode, OpenError, Options, open};

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_stop() {
    for mode in [Mode::Sync, Mode::Interval(20), Mode::Os] {
        let dir = tempfile::tempdir().expect("a folder");
        let options = Options { mode, ..Options::new(dir.path()) };
        let running = start(options.clone());
        declare_queue(&running.broker, "q").await;
        publish(&running.broker, "q", (0..100).map(|n| n.to_string())).await;
        for delivery in receive(&running.broker, queue("q"), 30).await {
            running.broker.accept(queue("q"), &delivery).await.expect("accepted");
        }
        running.stop().await;
        let running = start(options);
        assert!(running.recovery.snapshot.is_some());
        assert_eq!(running.recovery.replayed, 0, "the snapshot of the stop has it all");
        let left: Vec<_> = (30..100).map(|n| n.to_string()).collect();
        assert_eq!(drain(&running.broker, queue("q")).await, left);
        running.stop().await;
    }
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_crash() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path().join("first")));
    declare_queue(&running.broker, "q").await;
    publish(&running.broker, "q", (0..100).map(|n| n.to_string())).await;
    let held = receive(&running.broker, queue("q"), 30).await;
    for delivery in &held[..20] {
        running.broker.accept(queue("q"), delivery).await.expect("accepted");
    }
    copy_dir(&dir.path().join("first"), &dir.path().join("second"));
    running.abort().await;
    let running = start(Options::new(dir.path().join("second")));
    assert!(running.recovery.replayed > 0);
    // Ten of the messages are under a lease that goes on.
    let info = running.broker.queue(name("q")).await.expect("there");
    assert_eq!((info.ready, info.in_flight), (70, 10));
    for delivery in &held[20..] {
        running.broker.accept(queue("q"), delivery).await.expect("accepted");
    }
    let left: Vec<_> = (30..100).map(|n| n.to_string()).collect();
    assert_eq!(drain(&running.broker, queue("q")).await, left);
    running.stop().await;
}

#[tokio::test]
async fn a_data_directory_in_use_is_refused_with_its_owner() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let disk = Arc::new(waystation_base::os::OsDisk);
    let refused = open(Options::new(dir.path()), disk, Arc::new(waystation_base::os::OsClock));
    let Err(OpenError::DataDir(error)) = refused else { panic!("opened twice") };
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");
    running.stop().await;
    start(Options::new(dir.path())).stop().await;
}

#[tokio::test]
async fn after_a_failed_sync_everybody_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = FaultyDisk::default();
    let running = start_on(Arc::new(disk.clone()), Options::new(dir.path()));
    let broker = running.broker.clone();
    declare_queue(&broker, "q").await;
    publish(&broker, "q", ["kept".to_owned()]).await;
    let mut consumer =
        broker.consume(queue("q"), 10, Hold::Attached, SessionId::default()).await.expect("attached");
    assert!(matches!(consumer.next().await, Some(Event::Messages(_))));
    disk.no_sync.store(true, Ordering::Relaxed);
    let refused = broker.publish(name("q"), vec![message("lost")]).await;
    let Err(Refusal::Stopped(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("the disk is on fire"), "{why}");
    assert!(consumer.next().await.is_none(), "nothing is delivered any more");
    let refused = broker.publish(name("q"), vec![message("lost")]).await;
    assert_eq!(refused, Err(Refusal::Stopped(why.clone())));
    assert_eq!(broker.overview().await.err(), Some(Refusal::Stopped(why)));
    let failure = running.ended().await.expect_err("failed");
    assert!(failure.to_string().contains("the disk is on fire"));
    disk.no_sync.store(false, Ordering::Relaxed);
    let running = start(Options::new(dir.path()));
    assert!(drain(&running.broker, queue("q")).await.contains(&"kept".to_owned()));
    running.stop().await;
}

#[tokio::test]
async fn while_the_disk_is_nearly_full_publishing_is_refused_and_consuming_goes_on() {
    let dir = tempfile::tempdir().expect("a folder");
    let disk = FaultyDisk::default();
    let running = start_on(Arc::new(disk.clone()), Options::new(dir.path()));
    let broker = &running.broker;
    declare_queue(broker, "q").await;
    publish(broker, "q", ["a".to_owned(), "b".to_owned()]).await;
    disk.free_bytes.store(Options::new("").disk_reserve_bytes - 1, Ordering::Relaxed);
    until("the refusal", || async { broker.overview().await.expect("there").disk_low }).await;
    assert_eq!(broker.publish(name("q"), vec![message("c")]).await, Err(Refusal::DiskLow));
    assert_eq!(drain(broker, queue("q")).await, ["a", "b"]);
    disk.free_bytes.store(Options::new("").disk_reserve_bytes, Ordering::Relaxed);
    until("the recovery", || async { !broker.overview().await.expect("there").disk_low }).await;
    publish(broker, "q", ["d".to_owned()]).await;
    running.stop().await;
}

#[tokio::test]
async fn while_draining_new_requests_are_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = running.broker.clone();
    declare_queue(&broker, "q").await;
    let consumer =
        broker.consume(queue("q"), 10, Hold::Attached, SessionId::default()).await.expect("attached");
    running.stop().await;
    assert_eq!(broker.publish(name("q"), vec![message("c")]).await, Err(Refusal::Draining));
    let mut consumer = consumer;
    assert!(consumer.next().await.is_none());
}
