//! Does the record tell what became of messages: from files and from memory, after a crash, and does it say what it lacks?

mod common;

use std::{cell::Cell, fs, path::Path, sync::Arc};

use common::*;
use waystation_base::{Message, MessageId, Millis, os::OsDisk};
use waystation_broker::entry::Reason;
use waystation_host::{Broker, Options};
use waystation_journal::record::Store;
use waystation_record::{Gap, Happening, Mention, Options as RecordOptions, Record, Sought, What};

/// Bounds so small that the journal is trimmed soon, and files of the record are written for it.
fn small(dir: &Path, record: Option<RecordOptions>) -> Options {
    Options {
        journal_file_bytes: 256 << 10,
        hot_bytes: 512 << 10,
        snapshot_bytes: 256 << 10,
        cache_bytes: 128 << 10,
        record,
        ..Options::new(dir)
    }
}

fn recorded(dir: &Path) -> Options {
    small(dir, Some(RecordOptions::default()))
}

/// Publishes so many messages of a kilobyte and returns their ids.
async fn publish_many(broker: &Broker, count: usize) -> Vec<MessageId> {
    publish_to(broker, "q", count).await
}

async fn publish_to(broker: &Broker, address: &str, count: usize) -> Vec<MessageId> {
    let mut ids = Vec::new();
    for _ in (0..count).step_by(50) {
        let messages: Vec<_> = (0..50).map(|_| message("x".repeat(1000))).collect();
        ids.extend(messages.iter().map(|message| message.id));
        broker.publish(name(address), messages).await.expect("published");
    }
    ids
}

/// Waits until the record knows all that is durable: for minutes, if the machine is busy.
fn catch_up(record: &Record) {
    assert!((0..60).any(|_| record.catch_up()));
}

/// What happened to a message after it was stored, in words.
fn told(record: &Record, id: MessageId) -> Vec<&'static str> {
    catch_up(record);
    let found = record.mentions(&[Sought::id(id)], 9, |published| published.id == id);
    assert_eq!((found.found.len(), found.more, found.damage.len()), (1, false, 0), "{found:?}");
    let mention = &found.found[0];
    assert_eq!(mention.address.as_ref().map(|(_, name)| name.as_str()), Some("q"));
    let (mut lives, damage) = record.lives(&[(mention.place, mention.at)]);
    assert_eq!(damage, Vec::<String>::new());
    let events = lives.remove(&mention.place).expect("asked for");
    let word = |what: &Happening| match what {
        Happening::Fact(What::Published(_)) => "published",
        Happening::Fact(What::Handed { .. }) => "handed",
        Happening::Fact(What::Returned { .. }) => "returned",
        Happening::Fact(What::Done { reason: Reason::Accepted, .. }) => "accepted",
        other => panic!("{other:?}"),
    };
    events.iter().map(|event| word(&event.what)).collect()
}

/// Waits until the journal begins behind a position; returns how many messages were published meanwhile. A broker that has nothing
/// to do takes no snapshot, and what the last one does not cover is not trimmed: so there is something to do.
async fn until_trimmed(broker: &Broker, past: u64) -> u64 {
    if broker.queue(name("beside")).await.is_err() {
        declare_queue(broker, "beside").await;
    }
    let published = Cell::new(0);
    until("trimming", || async {
        let is_trimmed = broker.overview().await.expect("there").journal_start.0 > past;
        if !is_trimmed {
            published.set(published.get() + publish_to(broker, "beside", 50).await.len() as u64);
        }
        is_trimmed
    })
    .await;
    published.get()
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let all = fs::read_dir(dir.join("record")).expect("a folder").flatten();
    all.map(|entry| entry.path()).collect()
}

/// A folder that a broker has left in good order, with messages in the queue `q` of which files of the record tell; and their ids.
async fn with_files() -> (tempfile::TempDir, Vec<MessageId>) {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(recorded(dir.path()));
    declare_queue(&running.broker, "q").await;
    let ids = publish_many(&running.broker, 3000).await;
    until_trimmed(&running.broker, 1 << 20).await;
    running.stop().await;
    (dir, ids)
}

#[tokio::test]
async fn facts_are_found_in_files_and_in_memory_and_after_crash_and_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(recorded(dir.path()));
    let broker = running.broker.clone();
    declare_queue(&broker, "q").await;
    let ids = publish_many(&broker, 3000).await;
    let taken = receive(&broker, queue("q"), 100).await;
    accept(&broker, queue("q"), &taken[..50]).await;
    let others = until_trimmed(&broker, 1 << 20).await;
    let record = broker.record().expect("there is one").clone();
    let check = |record: &Record| {
        assert_eq!(told(record, ids[0]), ["published", "handed", "accepted"]);
        assert_eq!(told(record, ids[99]), ["published", "handed"]);
        assert_eq!(told(record, ids[2999]), ["published"]);
        let status = record.status();
        assert!(status.gaps.is_empty() && status.damage.is_empty() && status.unreadable == 0, "{status:?}");
        assert_eq!(status.messages, 3000 + others);
    };
    check(&record);
    assert!(!files(dir.path()).is_empty(), "the journal went, so there is a file");
    drop((broker, record));
    // A folder that is copied while somebody writes there is none that a crash could leave: its parts are of different moments.
    running.abort().await;
    for _ in ["after the crash", "after the good end"] {
        let running = start(recorded(dir.path()));
        let record = running.broker.record().expect("there is one").clone();
        check(&record);
        running.stop().await;
    }
}

#[tokio::test]
async fn each_of_the_ids_that_count_up_is_found_however_far_apart_their_messages_are() {
    const QUEUES: usize = 40;
    // So that each queue's facts fill a block of a file at least.
    const BESIDE: usize = 700;
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(recorded(dir.path()));
    let broker = &running.broker;
    let id = |n: usize| MessageId::new(Millis(1_000), (n as u128) << 48);
    for n in 0..QUEUES {
        let queue = format!("q{n}");
        declare_queue(broker, &queue).await;
        publish(broker, &queue, (0..BESIDE).map(|n| n.to_string())).await;
        let one = Message { id: id(n), ..message("one of a run") };
        broker.publish(name(&queue), vec![one]).await.expect("published");
    }
    let check = |record: &Record| {
        catch_up(record);
        for n in 0..QUEUES {
            let found = record.mentions(&[Sought::id(id(n))], 1, |published| published.id == id(n));
            let address = |mention: &Mention| mention.address.as_ref().map(|(_, name)| name.to_string());
            let addresses: Vec<_> = found.found.iter().filter_map(address).collect();
            assert_eq!((addresses, found.more), (vec![format!("q{n}")], false));
        }
    };
    check(broker.record().expect("there is one"));
    until_trimmed(broker, 1 << 20).await;
    running.stop().await;
    // What is in a file is not in memory after a restart.
    let running = start(recorded(dir.path()));
    check(running.broker.record().expect("there is one"));
    running.stop().await;
}

#[tokio::test]
async fn what_the_recorder_did_not_see_is_a_gap_that_is_told() {
    let (dir, before) = with_files().await;
    let running = start(small(dir.path(), None));
    let start_before = running.broker.overview().await.expect("there").journal_end.0;
    publish_many(&running.broker, 4000).await;
    until_trimmed(&running.broker, start_before).await;
    running.stop().await;
    let running = start(recorded(dir.path()));
    let after = publish_many(&running.broker, 50).await;
    let record = running.broker.record().expect("there is one").clone();
    assert_eq!(told(&record, after[0]), ["published"]);
    assert_eq!(told(&record, before[0]), ["published"]);
    let gaps = record.status().gaps;
    assert_eq!(gaps.len(), 1, "{gaps:?}");
    assert!(gaps[0].from < gaps[0].to && gaps[0].after <= gaps[0].before);
    running.stop().await;
    let running = start(recorded(dir.path()));
    let record = running.broker.record().expect("there is one").clone();
    catch_up(&record);
    let stretches = |gaps: &[Gap]| gaps.iter().map(|gap| (gap.from, gap.to)).collect::<Vec<_>>();
    assert_eq!(stretches(&record.status().gaps), stretches(&gaps));
    running.stop().await;
}

#[tokio::test]
async fn a_damaged_file_is_told_and_stops_nothing() {
    let (dir, _) = with_files().await;
    let path = files(dir.path()).pop().expect("a file");
    let mut bytes = fs::read(&path).expect("a file");
    let last = bytes.len() - 60;
    bytes[last] ^= 1;
    fs::write(&path, bytes).expect("written");
    let running = start(recorded(dir.path()));
    let after = publish_many(&running.broker, 50).await;
    let record = running.broker.record().expect("there is one").clone();
    assert_eq!(told(&record, after[0]), ["published"]);
    let damage = record.status().damage;
    assert!(damage.len() == 1 && damage[0].contains("is damaged at offset"), "{damage:?}");
    assert_eq!(receive(&running.broker, queue("q"), 10).await.len(), 10);
    running.stop().await;
}

#[tokio::test]
async fn messages_that_are_told_of_together_are_found_each_with_what_became_of_it() {
    const COUNT: usize = 700;
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(recorded(dir.path()));
    let broker = &running.broker;
    declare_queue(broker, "q").await;
    let id = |n: usize| MessageId::new(Millis(1_000), (n as u128 + 200) << 48);
    let one = |n: usize| Message { id: id(n), ..message("x".repeat(n % 40)) };
    for from in (0..COUNT).step_by(350) {
        broker.publish(name("q"), (from..from + 350).map(one).collect()).await.expect("published");
    }
    let mut taken = Vec::new();
    while taken.len() < COUNT {
        taken.extend(receive(broker, queue("q"), 100).await);
    }
    let accepted: Vec<_> = taken.iter().step_by(3).cloned().collect();
    accept(broker, queue("q"), &accepted).await;
    let check = |record: &Record| {
        for n in 0..COUNT {
            let became: &[&str] =
                if n % 3 == 0 { &["published", "handed", "accepted"] } else { &["published", "handed"] };
            assert_eq!(told(record, id(n)), became, "{n}");
            let found = record.mentions(&[Sought::id(id(n))], 1, |published| published.id == id(n));
            assert_eq!(found.found[0].published.bytes as usize, n % 40);
        }
        let found = record.mentions(&[Sought::id(id(COUNT))], 1, |published| published.id == id(COUNT));
        assert_eq!(found.found.len(), 0, "there is no message behind the last");
    };
    check(broker.record().expect("there is one"));
    until_trimmed(broker, 1 << 20).await;
    running.stop().await;
    // What is in a file is not in memory after a restart.
    let running = start(recorded(dir.path()));
    check(running.broker.record().expect("there is one"));
    running.stop().await;
}

/// Makes each record file one of another format version, as far as those go that begin alike in all versions.
fn rewrite(dir: &Path, version: u32) -> Vec<std::path::PathBuf> {
    let store = Store::open(Arc::new(OsDisk), &dir.join("record")).expect("a store");
    for id in store.files().expect("listed") {
        let meta = store.table(id).expect("a file").meta;
        let mut meta: serde_json::Value = serde_json::from_slice(&meta).expect("json");
        (meta["version"], meta["clients"]) = (version.into(), "in another form".into());
        let writer = store.create(id).expect("begun");
        writer.finish(&mut Vec::new(), meta.to_string().as_bytes()).expect("written");
    }
    files(dir)
}

#[tokio::test]
async fn files_of_an_earlier_format_go_and_what_is_missing_with_them_is_told() {
    let (dir, _) = with_files().await;
    let earlier = rewrite(dir.path(), 1);
    assert!(!earlier.is_empty());
    let running = start(recorded(dir.path()));
    let after = publish_many(&running.broker, 50).await;
    let record = running.broker.record().expect("there is one").clone();
    assert_eq!(told(&record, after[0]), ["published"]);
    let status = record.status();
    assert_eq!(status.damage, Vec::<String>::new());
    let [gap] = &status.gaps[..] else { panic!("{:?}", status.gaps) };
    assert!(gap.from < gap.to && gap.after <= gap.before && gap.after > Millis(0), "{gap:?}");
    assert!(gap.why.contains("format version 1"), "{gap:?}");
    let there = running.broker.overview().await.expect("there").journal_end.0;
    until_trimmed(&running.broker, there).await;
    until("the files to go", || async { earlier.iter().all(|path| !path.exists()) }).await;
    running.stop().await;
    let running = start(recorded(dir.path()));
    let record = running.broker.record().expect("there is one").clone();
    assert_eq!(record.status().gaps, status.gaps, "it is told after a restart too");
    assert_eq!(told(&record, after[0]), ["published"]);
    running.stop().await;
}

#[tokio::test]
async fn files_of_a_later_format_stay_and_are_told() {
    let (dir, _) = with_files().await;
    let later = rewrite(dir.path(), 1_000);
    let running = start(recorded(dir.path()));
    let there = running.broker.overview().await.expect("there").journal_end.0;
    until_trimmed(&running.broker, there).await;
    let damage = running.broker.record().expect("there is one").status().damage;
    assert_eq!(damage.len(), later.len());
    assert!(damage.iter().all(|told| told.contains("is of format version 1000")), "{damage:?}");
    assert!(later.iter().all(|path| path.exists()), "whoever goes back to that program finds them");
    running.stop().await;
}
