//! Do messages stay where they can be found when they leave the journal, and does what is not needed any more go?

mod common;

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use common::*;
use waystation_base::Clock;
use waystation_broker::{
    Source,
    command::{Failure, Outcome},
    spec::{Start, SubscriptionSpec, TopicSpec},
};
use waystation_host::{Browse, Delivery, Options, Target};

/// Bounds so small that messages settle at once.
fn small(dir: &Path) -> Options {
    Options {
        journal_file_bytes: 256 << 10,
        hot_bytes: 512 << 10,
        snapshot_bytes: 256 << 10,
        cache_bytes: 128 << 10,
        ..Options::new(dir)
    }
}

fn body(n: usize) -> String {
    format!("{n} {}", "x".repeat(1000))
}

fn number(delivery: &Delivery) -> usize {
    text(delivery).split(' ').next().and_then(|number| number.parse().ok()).expect("a number")
}

fn files(dir: &Path, folder: &str) -> usize {
    std::fs::read_dir(dir.join(folder)).expect("a folder").count()
}

async fn publish_many(broker: &waystation_host::Broker, address: &str, range: std::ops::Range<usize>) {
    for n in range.step_by(50) {
        publish(broker, address, (n..n + 50).map(body)).await;
    }
}

#[tokio::test]
async fn settled_messages_are_received_in_order_also_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(small(dir.path()));
    let broker = &running.broker;
    declare_queue(broker, "q").await;
    publish_many(broker, "q", 0..5000).await;
    until("settling", || async {
        let overview = broker.overview().await.expect("there");
        overview.settled_files > 0 && overview.journal_start.0 > 0
    })
    .await;
    let first = receive(broker, queue("q"), 100).await;
    assert_eq!(first.iter().map(text).collect::<Vec<_>>(), (0..100).map(body).collect::<Vec<_>>());
    accept(broker, queue("q"), &first).await;
    running.stop().await;
    let running = start(small(dir.path()));
    let rest: Vec<_> = (100..5000).map(body).collect();
    assert_eq!(drain(&running.broker, queue("q")).await, rest);
    running.stop().await;
}

#[tokio::test]
async fn a_queue_that_drains_leaves_neither_settled_files_nor_a_long_journal() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(small(dir.path()));
    let broker = &running.broker;
    declare_queue(broker, "q").await;
    for round in 0..40 {
        publish_many(broker, "q", round * 200..(round + 1) * 200).await;
        let got = receive(broker, queue("q"), 200).await;
        assert_eq!(got.len(), 200);
        accept(broker, queue("q"), &got).await;
    }
    until("trimming", || async {
        let overview = broker.overview().await.expect("there");
        publish(broker, "q", [body(1)]).await;
        drain_one(broker).await;
        overview.journal_end.0 - overview.journal_start.0 < 3 << 20 && overview.settled_files == 0
    })
    .await;
    running.stop().await;
    assert_eq!(files(dir.path(), "settled"), 0);
}

async fn drain_one(broker: &waystation_host::Broker) {
    let some = receive(broker, queue("q"), 10).await;
    accept(broker, queue("q"), &some).await;
}

#[tokio::test]
async fn files_of_settled_messages_that_are_done_go() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(small(dir.path()));
    let broker = &running.broker;
    declare_queue(broker, "q").await;
    publish_many(broker, "q", 0..3000).await;
    until("settling", || async { broker.overview().await.expect("there").settled_files > 0 }).await;
    assert_eq!(drain(broker, queue("q")).await.len(), 3000);
    until("removal", || async {
        publish(broker, "q", [body(1)]).await;
        drain_one(broker).await;
        files(dir.path(), "settled") == 0
    })
    .await;
    running.stop().await;
}

#[tokio::test]
async fn a_settled_topic_is_read_from_its_beginning_and_from_a_time() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(small(dir.path()));
    let broker = &running.broker;
    declare_topic(broker, "t", TopicSpec::default()).await;
    publish_many(broker, "t", 0..2000).await;
    let middle = waystation_base::os::OsClock.now().plus(1);
    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    publish_many(broker, "t", 2000..4000).await;
    until("settling", || async {
        let overview = broker.overview().await.expect("there");
        overview.settled_files > 0 && overview.journal_start.0 > 0
    })
    .await;
    let spec = SubscriptionSpec { start: Start::Earliest, ..SubscriptionSpec::new("t") };
    declare_subscription(broker, "s", spec).await;
    let all = drain(broker, Source::Subscription(name("s"))).await;
    assert_eq!(all, (0..4000).map(body).collect::<Vec<_>>());
    let browse = Browse { from_time: Some(middle), max: 5, bytes_max: 1 << 20, ..Browse::default() };
    let page = broker.browse(Target::Topic(name("t")), browse).await.expect("a page");
    assert_eq!(
        page.messages.iter().map(text).collect::<Vec<_>>(),
        (2000..2005).map(body).collect::<Vec<_>>()
    );
    running.stop().await;
}

#[tokio::test]
async fn a_crash_while_settling_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let first = dir.path().join("0");
    let running = start(small(&first));
    declare_queue(&running.broker, "q").await;
    for n in 0..5 {
        let from = n * 600;
        publish_many(&running.broker, "q", from..from + 600).await;
        let copy = dir.path().join(format!("copy{n}"));
        copy_dir(&first, &copy);
        let crashed = start(small(&copy));
        let all: Vec<_> = (0..from + 600).map(body).collect();
        assert_eq!(drain(&crashed.broker, queue("q")).await, all, "copy {n}");
        crashed.stop().await;
    }
    running.stop().await;
}

#[tokio::test]
async fn a_topic_compacted_by_key_keeps_the_latest_of_each_key() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(small(dir.path()));
    let broker = &running.broker;
    declare_topic(broker, "t", TopicSpec { compact: true, ..TopicSpec::default() }).await;
    for n in (0..6000usize).step_by(50) {
        let keyed = (n..n + 50).map(|n| {
            let mut one = message(body(n));
            one.key = Some((n % 10).to_string().into());
            one
        });
        broker.publish(name("t"), keyed.collect()).await.expect("published");
    }
    until("compaction", || async {
        publish(broker, "t", [body(9999)]).await;
        let browse = Browse { max: 1, bytes_max: 1, ..Browse::default() };
        let first = broker.browse(Target::Topic(name("t")), browse).await.expect("a page").messages;
        !first.iter().map(text).any(|text| text == body(0))
    })
    .await;
    let spec = SubscriptionSpec { start: Start::Earliest, ..SubscriptionSpec::new("t") };
    declare_subscription(broker, "s", spec).await;
    let all = drain(broker, Source::Subscription(name("s"))).await;
    for key in 0..10 {
        assert!(all.contains(&body(5990 + key)), "the latest message with key {key}");
    }
    assert!(!all.contains(&body(0)));
    let numbers: Vec<usize> =
        all.iter().filter_map(|text| text.split(' ').next()?.parse().ok()).filter(|n| *n < 6000).collect();
    assert!(numbers.is_sorted());
    running.stop().await;
}

/// One message of each tenth batch is due, and all of them at once: no more is read for it than the batches and what leads to them.
#[tokio::test]
async fn messages_that_lie_far_apart_are_read_batch_by_batch() {
    const DUE: usize = 10;
    const HOUR_MS: u64 = 3_600_000;
    let (dir, disk) = (tempfile::tempdir().expect("a folder"), FaultyDisk::default());
    let running = start_on(Arc::new(disk.clone()), small(dir.path()));
    let broker = &running.broker;
    declare_queue(broker, "q").await;
    declare_topic(broker, "other", TopicSpec::default()).await;
    publish_many(broker, "q", 0..500 * DUE).await;
    let mut failed = 0;
    while failed < 500 * DUE {
        let got = receive(broker, queue("q"), 500).await;
        let fail = |delivery: &Delivery| {
            let delay_ms = Some(if number(delivery) % 500 == 25 { HOUR_MS } else { 100 * HOUR_MS });
            delivery.settlement(Outcome::Failed(Failure { delay_ms, ..Failure::default() }))
        };
        broker.settle(queue("q"), got.iter().map(fail).collect()).await.expect("failed");
        failed += got.len();
    }
    until("settling", || async {
        let overview = broker.overview().await.expect("there");
        publish(broker, "other", [body(1)]).await;
        overview.journal_start.0 > 5 << 20
    })
    .await;
    running.stop().await;
    let clock = Arc::new(AheadClock::default());
    let running = start_by(clock.clone(), Arc::new(disk.clone()), small(dir.path()));
    // After a restart the log is passed once, for what does not wait.
    publish(&running.broker, "q", [body(7)]).await;
    assert_eq!(drain(&running.broker, queue("q")).await, [body(7)]);
    let before = disk.read_bytes.load(Ordering::Relaxed);
    clock.0.store(2 * HOUR_MS, Ordering::Relaxed);
    let mut numbers = Vec::new();
    while numbers.len() < DUE {
        let got = receive(&running.broker, queue("q"), 100).await;
        numbers.extend(got.iter().map(number));
    }
    numbers.sort_unstable();
    assert_eq!(numbers, (0..DUE).map(|n| 500 * n + 25).collect::<Vec<_>>());
    let each = (disk.read_bytes.load(Ordering::Relaxed) - before) / DUE as u64;
    assert!(each < 128 << 10, "{each} bytes were read for a message of a batch of 51 kB");
    running.stop().await;
}
