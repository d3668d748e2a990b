//! What has moved to settled files is found there, through restarts too; what cannot be taken over changes nothing.

mod common;

use common::{World, queue};
use waystation_base::{Millis, Offset};
use waystation_broker::{
    Command, Refusal,
    settle::{Leaving, Outcome as Settled, SettledRun},
};

#[test]
fn settled_messages_are_found_in_their_new_place() {
    let mut w = World::new();
    w.queue("q", |_| ());
    w.queue("dead", |_| ());
    w.publish("q", &["1", "2", "3", "4"]);
    let handed = w.pull(queue("q"), 2, 1_000);
    w.accept(queue("q"), &handed[0]);
    let end = w.end();
    w.settle_all(1, Leaving::Journal(end));
    assert!(!w.shard.has_live_in_journal_before(end));
    w.publish("q", &["5"]);
    w.pass(1_000);
    let a = w.attach(queue("q"), 2);
    assert_eq!(w.bodies(a), ["2", "3"]);
    let files = w.shard.files();
    assert_eq!((files.len(), files[0].file, files[0].live_bytes <= files[0].bytes), (1, 1, true));
    w.settle_all(2, Leaving::Files(vec![1]));
    w.restart_from_snapshot();
    let b = w.attach(queue("q"), 9);
    assert_eq!(w.bodies(b), ["2", "3", "4", "5"]);
}

#[test]
fn what_was_settled_in_part_comes_once_after_a_restart_that_still_finds_it_in_the_journal() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let messages = (0..10).map(|n| w.message(&n.to_string())).collect();
    w.publish_messages("q", messages).expect("published");
    let handed = w.pull(queue("q"), 10, 1_000);
    handed[5..].iter().for_each(|handed| w.accept(queue("q"), handed));
    let end = w.end();
    w.settle_all(1, Leaving::Journal(end));
    w.restart_from_snapshot();
    w.pass(1_000);
    let a = w.attach(queue("q"), 20);
    assert_eq!(w.bodies(a), ["0", "1", "2", "3", "4"]);
    w.restart_from_snapshot();
    assert_eq!(w.queue_info("q").ready, 5);
    let b = w.attach(queue("q"), 20);
    assert_eq!(w.bodies(b), ["0", "1", "2", "3", "4"]);
}

#[test]
fn an_outcome_whose_runs_lie_within_others_changes_nothing() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let messages = (0..3).map(|n| w.message(&n.to_string())).collect();
    w.publish_messages("q", messages).expect("published");
    let end = w.end();
    w.settle_all(1, Leaving::Journal(end));
    let before = w.end();
    let file = w.shard.files()[0];
    let log = w.shard.plan(&Leaving::Files(vec![1]), Millis(0)).logs[0].log;
    let (first, last, messages, bytes) = (Offset(1), Offset(7), 7, file.bytes);
    let (min_timestamp, max_timestamp) = (Millis(0), Millis(0));
    let run = SettledRun { file: 3, log, first, last, messages, bytes, min_timestamp, max_timestamp };
    let outcome = Settled { leaving: Leaving::Files(vec![]), runs: vec![run] };
    let refused = w.run(Command::Settled(outcome));
    assert!(matches!(&refused, Err(Refusal::Damaged(why)) if why.contains("settled file 1")), "{refused:?}");
    assert_eq!((w.end(), w.shard.files()), (before, vec![file]));
    let a = w.attach(queue("q"), 9);
    assert_eq!(w.bodies(a), ["0", "1", "2"]);
}
