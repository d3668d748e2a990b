//! Is everything that was acknowledged there after a stop, a crash, a failed sync or a full disk?

mod common;

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use common::*;
use waystation_base::{Clock, os::OsClock};
use waystation_broker::{
    Kind, Refusal, SessionId,
    command::{Counted, Delete, Hold},
    spec::{QueueSpec, Spec},
};
use waystation_host::{Alarms, Event, MemoryBound, Mode, OpenError, Options, open};

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
    until("the refusal", || async { broker.overview().await.expect("there").alarms.disk }).await;
    assert_eq!(broker.publish(name("q"), vec![message("c")]).await, Err(Refusal::DiskLow));
    assert_eq!(drain(broker, queue("q")).await, ["a", "b"]);
    disk.free_bytes.store(Options::new("").disk_reserve_bytes, Ordering::Relaxed);
    until("the recovery", || async { !broker.overview().await.expect("there").alarms.disk }).await;
    publish(broker, "q", ["d".to_owned()]).await;
    running.stop().await;
}

#[tokio::test]
async fn while_memory_is_nearly_used_up_publishing_is_refused_and_what_frees_some_goes_on() {
    const HIGH: u64 = 1_000_000;
    let dir = tempfile::tempdir().expect("a folder");
    let memory = Arc::new(SaidMemory::default());
    let bound = Arc::new(MemoryBound::new(memory.clone(), HIGH));
    let running = start(Options { memory: Some(bound.clone()), ..Options::new(dir.path()) });
    let broker = &running.broker;
    let alarms = async |alarms: Alarms| {
        until("the alarm", || async { broker.overview().await.expect("there").alarms == alarms }).await;
    };
    let (on, off) = (Alarms { memory: true, disk: false }, Alarms::default());
    for queue in ["q", "purged", "deleted"] {
        declare_queue(broker, queue).await;
        publish(broker, queue, ["a".to_owned(), "b".to_owned()]).await;
    }
    memory.used_bytes.store(HIGH, Ordering::Relaxed);
    alarms(on).await;
    let overview = broker.overview().await.expect("there");
    assert_eq!((overview.memory_used_bytes, overview.memory_high_bytes), (HIGH, HIGH));
    assert_eq!(broker.publish(name("q"), vec![message("c")]).await, Err(Refusal::MemoryLow));
    assert_eq!(drain(broker, queue("q")).await, ["a", "b"]);
    assert_eq!(broker.purge(name("purged")).await, Ok(2));
    let delete = Delete {
        kind: Kind::Queue,
        name: name("deleted"),
        if_unused: false,
        if_empty: false,
        counted: Counted::All,
        session: SessionId::default(),
    };
    assert_eq!(broker.delete(delete).await, Ok(2));
    until("memory is asked for", || async { memory.asked.load(Ordering::Relaxed) > 0 }).await;
    // A little less is not enough; it is looked at a few times meanwhile.
    memory.used_bytes.store(HIGH - HIGH / 20, Ordering::Relaxed);
    let asked = memory.asked.load(Ordering::Relaxed);
    until("it is looked at", || async { memory.asked.load(Ordering::Relaxed) > asked + 1 }).await;
    assert_eq!(broker.publish(name("q"), vec![message("c")]).await, Err(Refusal::MemoryLow));
    memory.used_bytes.store(HIGH - HIGH / 20 - 1, Ordering::Relaxed);
    alarms(off).await;
    publish(broker, "q", ["d".to_owned()]).await;
    // A bound that is set later holds too, and so does that there is none.
    bound.set_high_bytes(1);
    alarms(on).await;
    bound.set_high_bytes(0);
    alarms(off).await;
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

/// A broker that keeps nothing in memory, with a queue `q` of these messages, on a disk that can be spoilt.
async fn on_a_disk_to_be_spoilt(dir: &tempfile::TempDir, texts: Vec<String>) -> (Running, FaultyDisk) {
    let disk = FaultyDisk::default();
    let options = Options { cache_bytes: 0, ..Options::new(dir.path()) };
    let running = start_on(Arc::new(disk.clone()), options);
    declare_queue(&running.broker, "q").await;
    for text in texts {
        publish(&running.broker, "q", [text]).await;
    }
    // The last group stays in memory however small that is.
    declare_queue(&running.broker, "other").await;
    (running, disk)
}

#[tokio::test]
async fn what_cannot_be_read_behind_a_message_keeps_nobody_from_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let texts: Vec<String> = (0..20).map(|n| format!("{n:-<10000}")).collect();
    let (running, disk) = on_a_disk_to_be_spoilt(&dir, texts.clone()).await;
    // Behind some messages and before others; reads that follow on one another reach ever further ahead.
    disk.unreadable_from.store(100_000, Ordering::Relaxed);
    let mut readable = Vec::new();
    while let [one] = &running
        .broker
        .receive(queue("q"), 1, Duration::from_millis(500), None, OsClock.now())
        .await
        .expect("received")[..]
    {
        readable.push(String::from_utf8(one.message.body.to_vec()).expect("text"));
    }
    assert!((6..10).contains(&readable.len()), "{} of {}", readable.len(), texts.len());
    assert_eq!(readable, texts[..readable.len()]);
    disk.unreadable_from.store(0, Ordering::Relaxed);
    let rest = running.broker.receive(queue("q"), 100, Duration::from_secs(60), None, OsClock.now()).await;
    assert!(!rest.expect("received").is_empty());
    running.stop().await;
}

#[tokio::test]
async fn messages_that_cannot_be_found_on_the_disk_are_handed_out_once_it_is_mended() {
    let dir = tempfile::tempdir().expect("a folder");
    let (running, disk) = on_a_disk_to_be_spoilt(&dir, vec!["x".repeat(10_000)]).await;
    let broker = &running.broker;
    disk.bad_reads.store(true, Ordering::Relaxed);
    let nothing = broker.receive(queue("q"), 1, Duration::ZERO, None, OsClock.now()).await;
    assert_eq!(nothing, Ok(Vec::new()));
    // Nobody else is held up.
    publish(broker, "other", ["more".to_owned()]).await;
    assert_eq!(drain(broker, queue("other")).await, ["more"]);
    disk.bad_reads.store(false, Ordering::Relaxed);
    let mended = broker.receive(queue("q"), 1, Duration::from_secs(60), None, OsClock.now()).await;
    assert_eq!(mended.expect("received").len(), 1);
    running.stop().await;
}

#[tokio::test]
async fn a_body_that_cannot_be_read_ends_its_consumer_with_the_reason_and_is_kept() {
    let dir = tempfile::tempdir().expect("a folder");
    let (running, disk) =
        on_a_disk_to_be_spoilt(&dir, ["a", "b", "c"].map(|n| n.repeat(10_000)).into()).await;
    let broker = &running.broker;
    // Where all of them are is known after this, and reading others drives their bodies out of memory.
    let first = receive(broker, queue("q"), 1).await;
    for _ in 0..100 {
        publish(broker, "other", ["x".repeat(100_000)]).await;
    }
    assert_eq!(drain(broker, queue("other")).await.len(), 100);
    disk.bad_reads.store(true, Ordering::Relaxed);
    let mut consumer =
        broker.consume(queue("q"), 100, Hold::Attached, SessionId::default()).await.expect("attached");
    let Some(Event::Unreadable(why)) = consumer.next().await else { panic!("it was read") };
    assert!(why.contains("position") || why.contains("offset"), "{why}");
    assert!(consumer.next().await.is_none());
    until("what it held comes back", || async { broker.queue(name("q")).await.expect("there").ready == 2 })
        .await;
    disk.bad_reads.store(false, Ordering::Relaxed);
    accept(broker, queue("q"), &first).await;
    assert_eq!(drain(broker, queue("q")).await.len(), 2);
    running.stop().await;
}

#[tokio::test]
async fn a_queue_that_goes_with_its_last_consumer_outlives_one_that_met_an_unreadable_message() {
    let dir = tempfile::tempdir().expect("a folder");
    let (running, disk) =
        on_a_disk_to_be_spoilt(&dir, ["a", "b", "c"].map(|n| n.repeat(10_000)).into()).await;
    let broker = &running.broker;
    let first = receive(broker, queue("q"), 1).await;
    let passing = QueueSpec { auto_delete: true, ..QueueSpec::default() };
    broker.declare(name("q"), Spec::Queue(passing), true, SessionId::default()).await.expect("changed");
    for _ in 0..100 {
        publish(broker, "other", ["x".repeat(100_000)]).await;
    }
    assert_eq!(drain(broker, queue("other")).await.len(), 100);
    disk.bad_reads.store(true, Ordering::Relaxed);
    let session = broker.session();
    let mut consumer = broker.consume(queue("q"), 100, Hold::Attached, session).await.expect("attached");
    let Some(Event::Unreadable(_)) = consumer.next().await else { panic!("it was read") };
    broker.close_session(session).await.expect("closed");
    assert_eq!(broker.queue(name("q")).await.expect("kept").ready, 2);
    disk.bad_reads.store(false, Ordering::Relaxed);
    accept(broker, queue("q"), &first).await;
    // A pull leaves no consumer behind, and so takes nothing with it.
    let second = receive(broker, queue("q"), 1).await;
    accept(broker, queue("q"), &second).await;
    let mut consumer =
        broker.consume(queue("q"), 100, Hold::Attached, SessionId::default()).await.expect("attached");
    let Some(Event::Messages(read)) = consumer.next().await else { panic!("it cannot be read") };
    assert_eq!(read.len(), 1);
    drop(consumer);
    until("it goes with the next one that leaves", || async { broker.queue(name("q")).await.is_err() }).await;
    running.stop().await;
}
