//! Does a start read what it must and no more, and know everything afterwards? Through crashes, and when the index is of no use.

mod common;

use common::{Running, complete, op, start, topic, with_key};
use waystation_base::{Clock, Message, MessageId, Name, os::OsClock};
use waystation_calls::{
    Call, CallId, Calls, Change, Error, Filter, Operation, RetryAs,
    limits::Limits,
    names::{CALLS, INDEX},
};
use waystation_host::Broker;

/// Writes the index all the time.
fn eager() -> Limits {
    Limits { behind_bytes_min: 1, ..Limits::default() }
}

/// Writes it only at the end.
fn lazy() -> Limits {
    Limits::default()
}

fn read_at_start(calls: &Calls) -> usize {
    let figures = calls.figures();
    let line = figures.lines().find(|line| line.starts_with("waystation_calls_read_at_start "));
    line.and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a figure")
}

/// Everything that stands in memory and can be seen.
async fn seen(calls: &Calls) -> Vec<Call> {
    let page = calls.list(Filter { max: 10_000, ..Filter::default() }).await.expect("a page");
    let mut all = Vec::new();
    for seen in page.calls {
        all.push(calls.show(seen.id).await.expect("shown"));
    }
    all
}

async fn finished(running: &Running, count: usize, body: &str) -> Vec<CallId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        let id = running.call("op", "x").await;
        running.calls.change(id, complete(None, 200, body)).await.expect("completed");
        ids.push(id);
    }
    ids
}

async fn restart(running: Running, dir: &std::path::Path, limits: Limits, in_order: bool) -> Running {
    if in_order {
        running.end().await
    } else {
        running.crash().await
    }
    let running = Running::with(dir, limits);
    running.calls.ready().await;
    running
}

#[tokio::test]
async fn a_start_after_a_good_end_reads_no_record_whatever_the_size_of_results() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = Running::with(dir.path(), lazy());
    running.declare("op", Operation::default()).await;
    let first = running.call_with("op", with_key("x", "k")).await.expect("accepted");
    finished(&running, 40, &"r".repeat(100_000)).await;
    let before = seen(&running.calls).await;
    let running = restart(running, dir.path(), lazy(), true).await;
    assert_eq!(read_at_start(&running.calls), 0);
    assert_eq!(seen(&running.calls).await, before);
    // What a key stands for is known, and calls go on.
    let again = running.call_with("op", with_key("x", "k")).await.expect("found");
    assert!(again.is_replay && again.id == first.id);
    assert!(running.calls.change(first.id, complete(None, 200, "y")).await.is_ok());
    running.crash().await;
}

#[tokio::test]
async fn after_a_crash_a_start_reads_the_records_since_the_last_mark() {
    let dir = tempfile::tempdir().expect("a folder");
    let limits = Limits { behind_bytes_min: 10_000, ..Limits::default() };
    let mut running = Running::with(dir.path(), limits);
    running.declare("op", Operation::default()).await;
    let mut ids = Vec::new();
    for round in 0..3 {
        ids.extend(finished(&running, 100, "done").await);
        let before = seen(&running.calls).await;
        assert_eq!(before.len(), (round + 1) * 100);
        running = restart(running, dir.path(), limits, false).await;
        let read = read_at_start(&running.calls);
        // A record is reckoned with 512 bytes, a call's line in a page with 170. There may be twice as many bytes of records as there
        // would be of pages, and some more while those are on their way.
        let most = (2 * 10_000 + 2 * 170 * ids.len()) / 512 + 2;
        assert!(read <= most && most < 2 * ids.len(), "{read} records of {}", ids.len() * 2);
        assert_eq!(seen(&running.calls).await, before);
    }
    running.crash().await;
}

#[tokio::test]
async fn few_records_are_written_down_once_they_are_old() {
    let dir = tempfile::tempdir().expect("a folder");
    let limits = Limits { behind_ms_max: 1, ..Limits::default() };
    let running = Running::with(dir.path(), limits);
    running.declare("op", Operation::default()).await;
    finished(&running, 20, "done").await;
    let before = seen(&running.calls).await;
    let mark = || async {
        topic(&running.broker, INDEX)
            .await
            .iter()
            .any(|delivery| delivery.message.key.as_deref() == Some(b"mark"))
    };
    while !mark().await {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let running = restart(running, dir.path(), limits, false).await;
    assert!(read_at_start(&running.calls) < 40, "some are known by their pages");
    assert_eq!(seen(&running.calls).await, before);
    running.crash().await;
}

#[tokio::test]
async fn a_mark_that_says_more_than_there_is_is_not_believed() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = Running::with(dir.path(), lazy());
    running.declare("op", Operation::default()).await;
    finished(&running, 3, "done").await;
    let before = seen(&running.calls).await;
    write(&running.broker, b"mark".to_vec(), &[1, 200, 1]).await;
    let running = restart(running, dir.path(), lazy(), false).await;
    assert_eq!(seen(&running.calls).await, before);
    running.crash().await;
}

#[tokio::test]
async fn what_was_forgotten_is_still_known_as_gone() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = Running::with(dir.path(), eager());
    running.declare("op", Operation { retention_ms: 1, ..Operation::default() }).await;
    let ids = finished(&running, 3, "x").await;
    for id in &ids {
        while running.calls.see(*id).await != Err(Error::Gone) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
    let running = restart(running, dir.path(), eager(), true).await;
    assert_eq!(read_at_start(&running.calls), 0);
    for id in ids {
        assert_eq!(running.calls.see(id).await, Err(Error::Gone));
    }
    running.crash().await;
}

/// A message on the topic of the index, as another version might write it.
async fn write(broker: &Broker, key: Vec<u8>, body: &'static [u8]) {
    let id = MessageId::new(OsClock.now(), 1 << 70);
    let message = Message { key: Some(key.into()), ..Message::new(id, OsClock.now(), body) };
    broker.publish(Name::reserved(INDEX).expect("a name"), vec![message]).await.expect("published");
}

#[tokio::test]
async fn an_index_that_cannot_be_read_is_done_without() {
    for (key, body) in [(b"mark".to_vec(), &[9, 9, 9][..]), (vec![0; 8], &[1, 7][..]), (vec![0; 8], &[2][..])]
    {
        let dir = tempfile::tempdir().expect("a folder");
        let running = Running::with(dir.path(), eager());
        running.declare("op", Operation::default()).await;
        finished(&running, 20, "x").await;
        let before = seen(&running.calls).await;
        write(&running.broker, key, body).await;
        let running = restart(running, dir.path(), lazy(), false).await;
        assert_eq!(read_at_start(&running.calls), topic(&running.broker, CALLS).await.len());
        assert_eq!(seen(&running.calls).await, before);
        running.crash().await;
    }
}

#[tokio::test]
async fn whatever_happens_the_index_and_the_records_say_the_same() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut running = Running::with(dir.path(), eager());
    running.declare("op", Operation { max_attempts: 9, ..Operation::default() }).await;
    running.declare("other", Operation::default()).await;
    for round in 0..8 {
        let mut ids = Vec::new();
        for number in 0..12 {
            let name = if number % 2 == 0 { "op" } else { "other" };
            let correlation_id = (number % 3 == 0).then(|| format!("c{round}"));
            ids.push(running.call_with(name, waystation_calls::Start { correlation_id, ..start("x") }).await);
        }
        let ids: Vec<_> = ids.into_iter().map(|it| it.expect("accepted").id).collect();
        running.receive("op").await;
        let fail = Change::Fail { attempt: None, error: "no".into(), retry: false, delay_ms: 0 };
        running.calls.change(ids[1], fail).await.expect("failed");
        let retry = RetryAs { id: CallId(common::message("").id), now: OsClock.now() };
        running.calls.retry(ids[1], retry).await.expect("tried anew");
        running.calls.cancel(ids[2]).await.expect("cancelled");
        finished(&running, 3, "r").await;
        let before = seen(&running.calls).await;
        running = restart(running, dir.path(), eager(), round % 2 == 0).await;
        assert_eq!(seen(&running.calls).await, before, "round {round}");
        let filter = Filter { max: 99, correlation_id: Some(format!("c{round}")), ..Filter::default() };
        assert_eq!(running.calls.list(filter).await.expect("a page").calls.len(), 4, "round {round}");
        assert!(running.calls.operation(&op("other")).await.is_ok());
    }
    running.crash().await;
}
