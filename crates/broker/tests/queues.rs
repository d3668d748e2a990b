//! What a queue does, clause by clause.

mod common;

use common::{World, name, queue};
use waystation_base::{
    Attempt, ClientId, ConsumerId, Value,
    message::header::{DEATH_ATTEMPTS, DEATH_COUNT, DEATH_ERROR, DEATH_REASON, DEATH_SOURCE, MESSAGE_ID},
};
use waystation_broker::{
    Command, Kind, Refusal, Reply, SessionId,
    command::{Attach, Declare, Extend, Hold, Outcome, Payload, Publish, Transaction},
    effect::Closed,
    spec::{Order, Overflow, QueueSpec, Spec},
};

const REQUEUE: Outcome = Outcome::Requeued { delay_ms: 0 };

#[test]
fn competing_consumers_share_messages_within_their_windows() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let (a, b) = (w.attach(queue("q"), 2), w.attach(queue("q"), 1));
    w.publish("q", &["1", "2", "3", "4", "5"]);
    assert_eq!((w.queue_info("q").ready, w.queue_info("q").in_flight), (2, 3));
    let (first, second) = (w.take(a), w.take(b));
    assert_eq!((first.len(), second.len()), (2, 1));
    w.accept(queue("q"), &second[0]);
    assert_eq!(w.bodies(b), ["4"]);
    w.accept(queue("q"), &first[1]);
    assert_eq!(w.bodies(a), ["5"]);
}

#[test]
fn a_backlog_is_loaded_and_handed_out_in_order() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let bodies: Vec<String> = (0..1000).map(|n| n.to_string()).collect();
    w.publish("q", &bodies.iter().map(String::as_str).collect::<Vec<_>>());
    let a = w.attach(queue("q"), 400);
    let mut seen = Vec::new();
    loop {
        let handed = w.take(a);
        if handed.is_empty() {
            break;
        }
        for h in &handed {
            seen.push(w.body(h));
            w.accept(queue("q"), h);
        }
    }
    assert!(seen == bodies, "{} of them came", seen.len());
    assert_eq!(w.queue_info("q").bytes, 0);
    assert_eq!(w.queue_info("q").counters.acknowledged, 1000);
}

#[test]
fn requeued_messages_keep_their_order_and_count_attempts() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let a = w.attach(queue("q"), 3);
    w.publish("q", &["1", "2", "3", "4"]);
    let handed = w.take(a);
    w.settle(queue("q"), &handed[1], REQUEUE).expect("requeued");
    let again = w.take(a);
    assert_eq!((w.body(&again[0]), again[0].attempt), ("2".into(), Attempt(2)));
    w.run(Command::Detach(a)).expect("detached");
    let b = w.attach(queue("q"), 9);
    let handed = w.take(b);
    let order: Vec<_> = handed.iter().map(|h| (w.body(h), h.attempt.0)).collect();
    assert_eq!(order, [("1".into(), 2), ("2".into(), 3), ("3".into(), 2), ("4".into(), 1)]);
}

#[test]
fn a_release_does_not_count_the_attempt() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let a = w.attach(queue("q"), 1);
    w.publish("q", &["1"]);
    let handed = w.take(a);
    w.settle(queue("q"), &handed[0], Outcome::Released).expect("released");
    assert_eq!(w.take(a)[0].attempt, Attempt(1));
}

#[test]
fn a_lease_runs_out_and_the_old_receipt_is_void() {
    let mut w = World::new();
    w.queue("q", |_| ());
    w.publish("q", &["1"]);
    let first = w.pull(queue("q"), 5, 1_000);
    assert_eq!(w.pull(queue("q"), 5, 1_000).len(), 0);
    w.pass(999);
    assert_eq!(w.pull(queue("q"), 5, 1_000).len(), 0);
    w.pass(1);
    let second = w.pull(queue("q"), 5, 1_000);
    assert_eq!(second[0].attempt, Attempt(2));
    let refused = w.settle(queue("q"), &first[0], Outcome::Accepted);
    assert_eq!(refused, Err(Refusal::NotHeld { tag: first[0].tag, attempt: Attempt(1) }));
    w.accept(queue("q"), &second[0]);
    assert_eq!(w.queue_info("q").counters.acknowledged, 1);
}

#[test]
fn an_extended_lease_lasts_longer() {
    let mut w = World::new();
    w.queue("q", |_| ());
    w.publish("q", &["1"]);
    let held = w.pull(queue("q"), 1, 1_000);
    let extend = Extend { source: queue("q"), held: vec![(held[0].tag, held[0].attempt)], lease_ms: 5_000 };
    assert_eq!(w.run(Command::Extend(extend)), Ok(Reply::Extended(w.now.plus(5_000))));
    w.pass(4_999);
    assert_eq!(w.queue_info("q").in_flight, 1);
    w.pass(1);
    assert_eq!(w.queue_info("q").ready, 1);
}

#[test]
fn a_waiting_pull_is_served_by_the_next_publish_and_ends_by_its_time() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let hold = Hold::Pull { lease_ms: None, until: w.now.plus(100) };
    let a = w.attach_with(queue("q"), 5, |attach| attach.hold = hold).expect("attached");
    let b = w.attach_with(queue("q"), 5, |attach| attach.hold = hold).expect("attached");
    w.publish("q", &["1"]);
    assert_eq!(w.bodies(a), ["1"]);
    assert_eq!(w.closed, [(a, Closed::PullEnded)]);
    w.pass(100);
    assert_eq!(w.closed, [(a, Closed::PullEnded), (b, Closed::PullEnded)]);
    assert_eq!(w.queue_info("q").consumers, 0);
}

#[test]
fn a_pull_that_does_not_wait_gets_what_is_there_even_if_time_is_looked_at_first() {
    let mut w = World::new();
    w.queue("q", |_| ());
    w.publish("q", &["1"]);
    let hold = Hold::Pull { lease_ms: None, until: w.now };
    let (consumer, credit, session) = (ConsumerId(77), 5, SessionId(0));
    let attach = Attach {
        consumer,
        source: queue("q"),
        credit,
        pool: None,
        hold,
        priority: 0,
        exclusive: false,
        session,
        client: ClientId(0),
    };
    let mut effects = Vec::new();
    w.shard.handle(w.now, None, Command::Attach(attach), &mut w.journal, &mut effects);
    w.shard.tick(w.now, &mut w.journal, &mut effects);
    w.carry_on(effects);
    w.pass(10);
    assert_eq!(w.bodies(consumer), ["1"]);
    assert_eq!(w.closed, [(consumer, Closed::PullEnded)]);
    assert!(w.pull(queue("q"), 5, 1_000).is_empty(), "and one with nothing to get ends");
}

#[test]
fn a_higher_priority_goes_first() {
    let mut w = World::new();
    w.queue("q", |_| ());
    for (body, priority) in [("a", 0), ("b", 9), ("c", 255), ("d", 9), ("e", 0)] {
        w.publish_with("q", body, |m| m.priority = priority).expect("published");
    }
    let a = w.attach(queue("q"), 9);
    assert_eq!(w.bodies(a), ["c", "b", "d", "a", "e"]);
}

#[test]
fn messages_expire_by_the_queues_time_or_their_own() {
    let mut w = World::new();
    w.queue("q", |spec| spec.ttl_ms = Some(1_000));
    w.publish("q", &["1"]);
    let soon = w.now.plus(10);
    w.publish_with("q", "2", |m| m.expires_at = Some(soon)).expect("published");
    w.pass(999);
    assert_eq!(w.queue_info("q").ready, 2);
    w.pass(1);
    assert_eq!((w.queue_info("q").ready, w.queue_info("q").counters.expired), (0, 2));
    assert_eq!(w.queue_info("q").bytes, 0);
}

#[test]
fn expired_messages_go_to_the_dead_letters() {
    let mut w = World::new();
    w.queue("dead", |_| ());
    w.queue("q", |spec| (spec.ttl_ms, spec.dead_letter) = (Some(10), Some("dead".into())));
    w.publish("q", &["1"]);
    w.pass(10);
    assert_eq!((w.queue_info("q").ready, w.queue_info("q").in_flight), (0, 0));
    let a = w.attach(queue("dead"), 1);
    let handed = w.take(a);
    let message = w.read(&handed[0]);
    assert_eq!(message.headers.text(DEATH_REASON), Some("expired"));
    assert_eq!((message.headers.text(DEATH_SOURCE), message.expires_at), (Some("q"), None));
    assert_eq!(w.queue_info("q").counters.dead_lettered, 1);
}

#[test]
fn a_rejected_message_takes_its_history_to_the_dead_letters() {
    let mut w = World::new();
    w.queue("dead", |_| ());
    w.queue("q", |spec| spec.dead_letter = Some("dead".into()));
    w.publish("q", &["1"]);
    let a = w.attach(queue("q"), 1);
    let handed = w.take(a);
    let outcome = Outcome::Rejected { error: Some("no such flight".into()), class: None };
    w.settle(queue("q"), &handed[0], outcome).expect("rejected");
    let dead = w.attach(queue("dead"), 1);
    let handed = w.take(dead);
    let message = w.read(&handed[0]);
    assert_eq!(message.headers.text(DEATH_REASON), Some("rejected"));
    assert_eq!(message.headers.text(DEATH_ERROR), Some("no such flight"));
    assert_eq!(message.headers.get(DEATH_COUNT), Some(&Value::I64(1)));
    assert_eq!(message.headers.get(DEATH_ATTEMPTS), Some(&Value::I64(1)));
    assert_eq!(&message.body[..], b"1");
}

#[test]
fn without_dead_letter_address_a_rejected_message_is_counted_and_gone() {
    let mut w = World::new();
    w.queue("q", |_| ());
    w.publish("q", &["1"]);
    let handed = w.pull(queue("q"), 1, 1_000);
    w.settle(queue("q"), &handed[0], Outcome::Rejected { error: None, class: None }).expect("rejected");
    assert_eq!((w.queue_info("q").counters.rejected, w.queue_info("q").ready), (1, 0));
}

#[test]
fn a_message_is_dead_lettered_after_its_last_attempt() {
    let mut w = World::new();
    w.queue("dead", |_| ());
    w.queue("q", |spec| (spec.max_attempts, spec.dead_letter) = (Some(3), Some("dead".into())));
    w.publish("q", &["1"]);
    for attempt in 1..=3 {
        let handed = w.pull(queue("q"), 1, 1_000);
        assert_eq!(handed[0].attempt, Attempt(attempt));
        w.pass(1_000);
    }
    assert_eq!(w.pull(queue("q"), 1, 1_000).len(), 0);
    assert_eq!(w.queue_info("dead").ready, 1);
}

#[test]
fn a_dead_letter_address_that_is_missing_holds_the_message_and_says_so() {
    let mut w = World::new();
    w.queue("q", |spec| spec.dead_letter = Some("dead".into()));
    w.publish("q", &["1"]);
    let handed = w.pull(queue("q"), 1, 1_000);
    w.settle(queue("q"), &handed[0], Outcome::Rejected { error: None, class: None }).expect("rejected");
    assert_eq!(w.notices.len(), 1);
    w.restart();
    assert_eq!(w.queue_info("q").in_flight, 1);
    w.queue("dead", |_| ());
    w.pass(1_000);
    assert_eq!((w.queue_info("q").in_flight, w.queue_info("dead").ready), (0, 1));
}

#[test]
fn a_delayed_message_comes_at_its_time_and_by_its_priority() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let a = w.attach(queue("q"), 9);
    let later = w.now.plus(500);
    w.publish_with("q", "late", |m| m.deliver_at = Some(later)).expect("published");
    w.publish("q", &["now"]);
    assert_eq!(w.bodies(a), ["now"]);
    assert_eq!(w.queue_info("q").delayed, 1);
    w.pass(499);
    assert!(w.bodies(a).is_empty());
    w.pass(1);
    assert_eq!(w.bodies(a), ["late"]);
}

#[test]
fn a_message_that_became_due_takes_its_place_by_time() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let due = w.now.plus(100);
    w.publish_with("q", "due", |m| m.deliver_at = Some(due)).expect("published");
    w.publish("q", &["before"]);
    w.pass(200);
    w.publish("q", &["after"]);
    let a = w.attach(queue("q"), 9);
    assert_eq!(w.bodies(a), ["before", "due", "after"]);
}

#[test]
fn a_retry_waits_and_does_not_hold_up_others() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let a = w.attach(queue("q"), 1);
    w.publish("q", &["1", "2"]);
    let handed = w.take(a);
    w.settle(queue("q"), &handed[0], Outcome::Requeued { delay_ms: 300 }).expect("requeued");
    assert_eq!(w.queue_info("q").delayed, 1);
    let second = w.take(a);
    assert_eq!(w.body(&second[0]), "2");
    w.accept(queue("q"), &second[0]);
    w.pass(300);
    let again = w.take(a);
    assert_eq!((w.body(&again[0]), again[0].attempt), ("1".into(), Attempt(2)));
}

#[test]
fn a_full_queue_refuses_or_drops_or_dead_letters() {
    let mut w = World::new();
    w.queue("dead", |_| ());
    w.queue("refuse", |spec| spec.max_messages = Some(2));
    w.queue("drop", |spec| (spec.max_messages, spec.overflow) = (Some(2), Overflow::DropHead));
    w.queue("bury", |spec| {
        (spec.max_messages, spec.overflow) = (Some(2), Overflow::DeadLetterHead);
        spec.dead_letter = Some("dead".into());
    });
    w.publish("refuse", &["1", "2"]);
    let full = w.publish_with("refuse", "3", |_| ());
    assert_eq!(full, Err(Refusal::Full { name: name("refuse"), limit: "max_messages 2".into() }));
    w.publish("drop", &["1", "2", "3", "4"]);
    w.publish("bury", &["1", "2", "3", "4"]);
    let (a, b, c) = (w.attach(queue("drop"), 9), w.attach(queue("bury"), 9), w.attach(queue("dead"), 9));
    assert_eq!(
        (w.bodies(a), w.bodies(b), w.bodies(c)),
        (vec!["3".into(), "4".into()], vec!["3".into(), "4".into()], vec!["1".into(), "2".into()])
    );
    assert_eq!(w.queue_info("drop").counters.dropped, 2);
}

#[test]
fn bytes_are_limited_too() {
    let mut w = World::new();
    w.queue("q", |spec| spec.max_bytes = Some(1_000));
    let big = "x".repeat(400);
    w.publish("q", &[&big, &big]);
    assert!(matches!(w.publish_with("q", &big, |_| ()), Err(Refusal::Full { .. })));
    let handed = w.pull(queue("q"), 2, 1_000);
    handed.iter().for_each(|h| w.accept(queue("q"), h));
    w.publish("q", &[&big]);
}

#[test]
fn messages_of_one_key_go_one_after_the_other_while_others_go_in_parallel() {
    let mut w = World::new();
    w.queue("q", |spec| spec.order = Order::Key);
    let a = w.attach(queue("q"), 9);
    for (body, key) in [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a"), ("free", "")] {
        w.publish_with("q", body, |m| m.key = (!key.is_empty()).then(|| key.into())).expect("published");
    }
    let first = w.take(a);
    let bodies: Vec<_> = first.iter().map(|h| w.body(h)).collect();
    assert_eq!(bodies, ["a1", "b1", "free"]);
    // A failed one comes again before its successors.
    w.settle(queue("q"), &first[0], Outcome::Requeued { delay_ms: 50 }).expect("requeued");
    assert!(w.take(a).is_empty());
    w.pass(50);
    let again = w.take(a);
    assert_eq!(w.body(&again[0]), "a1");
    w.accept(queue("q"), &again[0]);
    let next = w.take(a);
    assert_eq!((next.len(), w.body(&next[0])), (1, "a2".into()));
    w.restart();
    let b = w.attach(queue("q"), 9);
    let handed = w.take(b);
    let bodies: Vec<_> = handed.iter().map(|h| w.body(h)).collect();
    assert_eq!(bodies, ["a2", "b1", "free"]);
}

#[test]
fn a_second_message_with_the_same_id_is_not_stored_within_the_window() {
    let mut w = World::new();
    w.queue("q", |spec| spec.deduplication_ms = Some(1_000));
    let publish =
        |w: &mut World| w.publish_with("q", "x", |m| m.headers.set(MESSAGE_ID, "4711")).expect("published");
    assert_eq!(publish(&mut w).duplicates, 0);
    assert_eq!(publish(&mut w).duplicates, 1);
    w.restart();
    assert_eq!(publish(&mut w).duplicates, 1);
    w.restart_from_snapshot();
    assert_eq!(publish(&mut w).duplicates, 1);
    w.pass(1_000);
    assert_eq!(publish(&mut w).duplicates, 0);
    let counters = w.queue_info("q").counters;
    assert_eq!((counters.published, counters.duplicates), (2, 3));
}

#[test]
fn one_consumer_at_a_time_is_active_and_the_next_takes_over() {
    let mut w = World::new();
    w.queue("q", |spec| spec.single_active_consumer = true);
    let (a, b) = (w.attach(queue("q"), 1), w.attach(queue("q"), 1));
    w.publish("q", &["1", "2"]);
    assert_eq!((w.bodies(a).len(), w.bodies(b).len()), (1, 0));
    w.run(Command::Detach(a)).expect("detached");
    assert_eq!(w.bodies(b), ["1"]);
}

#[test]
fn an_exclusive_queue_belongs_to_its_session_and_goes_with_it() {
    let mut w = World::new();
    let spec = Spec::Queue(QueueSpec { exclusive: true, ..QueueSpec::default() });
    let declare = Declare { name: name("q"), spec, change: false, session: SessionId(7) };
    w.run(Command::Declare(declare.clone())).expect("declared");
    let other = w.run(Command::Declare(Declare { session: SessionId(8), ..declare }));
    assert_eq!(other, Err(Refusal::Exclusive { kind: Kind::Queue, name: name("q") }));
    assert!(w.attach_with(queue("q"), 1, |attach| attach.session = SessionId(8)).is_err());
    w.attach_with(queue("q"), 1, |attach| attach.session = SessionId(7)).expect("attached");
    w.run(Command::CloseSession(SessionId(7))).expect("closed");
    assert!(w.shard.queue(&name("q")).is_none());
}

#[test]
fn an_auto_delete_queue_goes_with_its_last_consumer() {
    let mut w = World::new();
    w.queue("q", |spec| spec.auto_delete = true);
    w.pull(queue("q"), 1, 1_000);
    let (a, b) = (w.attach(queue("q"), 1), w.attach(queue("q"), 1));
    w.run(Command::Detach(a)).expect("detached");
    assert!(w.shard.queue(&name("q")).is_some());
    w.run(Command::Detach(b)).expect("detached");
    assert!(w.shard.queue(&name("q")).is_none());
}

#[test]
fn an_idle_queue_warns_and_goes() {
    let mut w = World::new();
    w.queue("q", |spec| spec.idle_expiry_ms = Some(1_000));
    w.pass(500);
    w.pull(queue("q"), 1, 1_000);
    w.pass(899);
    assert!(w.notices.is_empty());
    w.pass(1);
    assert_eq!(w.notices.len(), 1);
    w.pass(100);
    assert!(w.shard.queue(&name("q")).is_none());
}

#[test]
fn purge_drops_what_nobody_holds() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let later = w.now.plus(500);
    w.publish("q", &["1", "2", "3"]);
    w.publish_with("q", "late", |m| m.deliver_at = Some(later)).expect("published");
    let held = w.pull(queue("q"), 1, 10_000);
    assert_eq!(w.run(Command::Purge(name("q"))), Ok(Reply::Removed(3)));
    let info = w.queue_info("q");
    assert_eq!((info.ready, info.in_flight, info.delayed, info.counters.purged), (0, 1, 0, 3));
    w.publish("q", &["4"]);
    w.restart();
    let info = w.queue_info("q");
    assert_eq!((info.ready, info.in_flight, info.delayed), (1, 1, 0));
    w.accept(queue("q"), &held[0]);
    let a = w.attach(queue("q"), 9);
    assert_eq!(w.bodies(a), ["4"]);
}

#[test]
fn a_transaction_publishes_and_settles_as_one_or_not_at_all() {
    let mut w = World::new();
    w.queue("in", |_| ());
    w.queue("out", |_| ());
    w.queue("full", |spec| spec.max_messages = Some(1));
    w.publish("full", &["0"]);
    w.publish("in", &["1"]);
    let held = w.pull(queue("in"), 1, 1_000);
    let transaction = |w: &mut World, targets: &[&str]| {
        let publishes = targets.iter().map(|target| {
            let payload = Payload::Messages(vec![w.message("x")]);
            Publish { to: name(target).into(), partition: None, payload }
        });
        let publishes = publishes.collect();
        let settlement = waystation_broker::command::Settlement {
            tag: held[0].tag,
            attempt: held[0].attempt,
            outcome: Outcome::Accepted,
        };
        let settle =
            waystation_broker::command::Settle { source: queue("in"), settlements: vec![settlement] };
        w.run(Command::Transact(Transaction { publishes, settlements: vec![settle] }))
    };
    assert!(transaction(&mut w, &["out", "full"]).is_err());
    assert_eq!((w.queue_info("out").ready, w.queue_info("in").in_flight), (0, 1));
    assert!(transaction(&mut w, &["out", "out"]).is_ok());
    assert_eq!((w.queue_info("out").ready, w.queue_info("in").in_flight), (2, 0));
    assert!(transaction(&mut w, &["out"]).is_err());
    assert_eq!(w.queue_info("out").ready, 2);
}

#[test]
fn a_refused_length_counts_all_of_a_transaction() {
    let mut w = World::new();
    w.queue("q", |spec| spec.max_messages = Some(3));
    let payload = Payload::Messages(vec![w.message("x"), w.message("y")]);
    let publish = Publish { to: name("q").into(), partition: None, payload };
    let twice = Transaction { publishes: vec![publish.clone(), publish], settlements: vec![] };
    assert!(matches!(w.run(Command::Transact(twice)), Err(Refusal::Full { .. })));
    assert_eq!(w.queue_info("q").ready, 0);
}

#[test]
fn after_a_restart_everything_unacknowledged_is_there_with_its_attempts() {
    for snapshot in [false, true] {
        let mut w = World::new();
        w.queue("q", |_| ());
        let later = w.now.plus(5_000);
        w.publish("q", &["1", "2", "3", "4", "5"]);
        w.publish_with("q", "late", |m| m.deliver_at = Some(later)).expect("published");
        let leased = w.pull(queue("q"), 1, 2_000);
        let a = w.attach(queue("q"), 3);
        let handed = w.take(a);
        w.accept(queue("q"), &handed[1]);
        if snapshot {
            w.restart_from_snapshot()
        } else {
            w.restart()
        }
        let b = w.attach(queue("q"), 9);
        let handed = w.take(b);
        let seen: Vec<_> = handed.iter().map(|h| (w.body(h), h.attempt.0)).collect();
        assert_eq!(seen, [("2".into(), 2), ("4".into(), 2), ("5".into(), 2)], "snapshot: {snapshot}");
        w.accept(queue("q"), &leased[0]);
        w.pass(5_000);
        assert_eq!(w.bodies(b), ["late"]);
        let counters = w.queue_info("q").counters;
        assert_eq!((counters.published, counters.acknowledged), (6, 2));
    }
}

#[test]
fn a_million_delayed_messages_are_normal() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let start = w.now;
    for chunk in 0..20u64 {
        let messages = (0..50_000u64).map(|n| {
            let mut message = w.message("x");
            message.deliver_at = Some(start.plus(1_000 + (n * 20 + chunk) % 1_000_000));
            message
        });
        let messages = messages.collect();
        w.publish_messages("q", messages).expect("published");
    }
    assert_eq!(w.queue_info("q").delayed, 1_000_000);
    w.pass(1_100);
    let info = w.queue_info("q");
    assert_eq!(info.delayed + info.ready, 1_000_000);
    assert_eq!(info.ready, 101);
    assert_eq!(w.pull(queue("q"), 500, 1_000).len(), 101);
}
