//! What the simulation found wrong once: each a small case of its own.

mod common;

use bytes::Bytes;
use common::{World, queue, subscription};
use waystation_base::{Message, Millis, message::header::MESSAGE_ID};
use waystation_broker::{
    Command,
    command::{Declare, Outcome},
    settle::Leaving,
    spec::{Mode, Order, Overflow, QueueSpec, Spec},
};

fn with_key(key: &'static str) -> impl FnOnce(&mut Message) {
    move |message| message.key = Some(Bytes::from_static(key.as_bytes()))
}

fn publish_of_key(w: &mut World, body: &str) {
    w.publish_with("q", body, with_key("k")).expect("published");
}

#[test]
fn an_ordered_subscription_waits_for_a_message_that_is_tried_again_later() {
    let mut w = World::new();
    w.topic("t", |_| ());
    w.subscribe("s", "t", |spec| spec.mode = Mode::Ordered);
    let a = w.attach(subscription("s"), 1);
    w.publish("t", &["1", "2"]);
    let first = w.take(a);
    w.settle(subscription("s"), &first[0], Outcome::Requeued { delay_ms: 100 }).expect("requeued");
    assert!(w.take(a).is_empty());
    w.pass(100);
    assert_eq!(w.bodies(a), ["1"]);
}

#[test]
fn a_key_is_free_when_the_message_that_was_to_have_it_next_expires() {
    let mut w = World::new();
    w.queue("q", |spec| spec.order = Order::Key);
    let a = w.attach(queue("q"), 10);
    publish_of_key(&mut w, "1");
    let expires_at = Some(w.now.plus(50));
    let short_lived = |message: &mut Message| {
        with_key("k")(message);
        message.expires_at = expires_at;
    };
    w.publish_with("q", "2", short_lived).expect("published");
    publish_of_key(&mut w, "3");
    let first = w.take(a);
    w.pass(60);
    w.accept(queue("q"), &first[0]);
    assert_eq!(w.bodies(a), ["3"]);
}

#[test]
fn among_messages_of_one_key_that_wait_the_higher_priority_goes_first() {
    let mut w = World::new();
    w.queue("q", |spec| spec.order = Order::Key);
    let a = w.attach(queue("q"), 10);
    publish_of_key(&mut w, "first");
    publish_of_key(&mut w, "low");
    let high = |message: &mut Message| {
        with_key("k")(message);
        message.priority = 9;
    };
    w.publish_with("q", "high", high).expect("published");
    let first = w.take(a);
    w.accept(queue("q"), &first[0]);
    assert_eq!(w.bodies(a), ["high"]);
}

#[test]
fn what_waits_behind_a_key_is_ready_when_keys_matter_no_more() {
    let mut w = World::new();
    w.queue("q", |spec| spec.order = Order::Key);
    let a = w.attach(queue("q"), 10);
    publish_of_key(&mut w, "1");
    publish_of_key(&mut w, "2");
    assert_eq!(w.bodies(a), ["1"]);
    let (name, spec) = (common::name("q"), Spec::Queue(QueueSpec::default()));
    w.run(Command::Declare(Declare { name, spec, change: true, session: Default::default() }))
        .expect("changed");
    assert_eq!(w.bodies(a), ["2"]);
}

#[test]
fn ids_are_remembered_from_when_they_were_seen_whatever_time_the_sender_wrote() {
    let mut w = World::new();
    w.queue("q", |spec| spec.deduplication_ms = Some(1_000));
    let publish = |w: &mut World| {
        let sent = |message: &mut Message| {
            message.timestamp = Millis(5);
            message.headers.set(MESSAGE_ID, "4711");
        };
        w.publish_with("q", "x", sent).expect("published").duplicates
    };
    assert_eq!(publish(&mut w), 0);
    w.restart();
    w.pass(999);
    assert_eq!(publish(&mut w), 1);
    w.pass(1);
    assert_eq!(publish(&mut w), 0);
}

#[test]
fn drop_head_drops_even_where_there_is_a_dead_letter_address() {
    let mut w = World::new();
    w.queue("dead", |_| ());
    w.queue("q", |spec| {
        spec.max_messages = Some(1);
        spec.overflow = Overflow::DropHead;
        spec.dead_letter = Some("dead".into());
    });
    w.publish("q", &["1", "2"]);
    assert_eq!((w.queue_info("q").counters.dropped, w.queue_info("dead").ready), (1, 0));
}

#[test]
fn a_queue_counts_the_same_bytes_wherever_its_messages_lie() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let messages: Vec<_> = (0..200u64)
        .map(|n| Message { timestamp: Millis(n * 1_000_000), ..w.message(&n.to_string()) })
        .collect();
    w.publish_messages("q", messages).expect("published");
    let before = w.queue_info("q").bytes;
    let leaving = Leaving::Journal(w.end());
    w.settle_all(1, leaving);
    let handed = w.pull(queue("q"), 100, 1_000);
    handed.iter().for_each(|handed| w.accept(queue("q"), handed));
    w.restart();
    assert!(w.queue_info("q").bytes < before);
    let handed = w.pull(queue("q"), 200, 1_000);
    handed.iter().for_each(|handed| w.accept(queue("q"), handed));
    assert_eq!((w.queue_info("q").ready, w.queue_info("q").bytes), (0, 0));
}

#[test]
fn a_message_that_became_due_and_expired_is_not_forgotten_by_a_snapshot() {
    let mut w = World::new();
    w.queue("q", |spec| {
        spec.dead_letter = Some("dead".into());
        spec.ttl_ms = Some(10);
    });
    let a = w.attach(queue("q"), 0);
    let due = Some(w.now.plus(5));
    w.publish_with("q", "1", |message| message.deliver_at = due).expect("published");
    w.pass(100);
    w.run(Command::Credit(a, 1)).expect("credit");
    assert!(!w.notices.is_empty(), "its dead-letter address is missing");
    w.restart_from_snapshot();
    w.queue("dead", |_| ());
    w.attach(queue("q"), 1);
    w.pass(2_000);
    assert_eq!(w.queue_info("dead").ready, 1);
}

#[test]
fn a_full_queue_can_be_its_own_dead_letter_address_but_not_overflow_into_itself() {
    let mut w = World::new();
    let own = |spec: &mut QueueSpec| {
        spec.max_messages = Some(1);
        spec.dead_letter = Some("q".into());
    };
    w.queue("q", own);
    w.publish("q", &["1"]);
    let handed = w.pull(queue("q"), 1, 1_000);
    w.settle(queue("q"), &handed[0], Outcome::Rejected { error: None, class: None }).expect("rejected");
    assert_eq!((w.queue_info("q").ready, w.queue_info("q").counters.dead_lettered), (1, 1));
    let mut spec = QueueSpec { overflow: Overflow::DeadLetterHead, ..QueueSpec::default() };
    own(&mut spec);
    assert!(w.declare("q", Spec::Queue(spec)).is_err());
}

#[test]
fn after_a_restart_the_keys_that_were_held_in_a_queue_are_looked_up_so_many_at_a_time() {
    // Messages of as many keys in somebody's hands: more than are looked up at once.
    const HELD: usize = 5_000;
    const LOOKED_UP_MAX: usize = 4_096;
    for restart in [World::restart as fn(&mut World), World::restart_from_snapshot] {
        let mut w = World::new();
        w.queue("q", |spec| spec.order = Order::Key);
        for turn in ["first", "second"] {
            let of_key = |n: usize| Message { key: Some(format!("k{n}").into()), ..w.message(turn) };
            let messages = (0..HELD).map(of_key).collect();
            w.publish_messages("q", messages).expect("published");
        }
        let mut held = Vec::new();
        while held.len() < HELD {
            let more = w.pull(queue("q"), HELD as u32, 60_000);
            assert!(!more.is_empty(), "{} were handed out", held.len());
            held.extend(more);
        }
        w.finds.clear();
        restart(&mut w);
        assert_eq!(w.finds, [LOOKED_UP_MAX, HELD - LOOKED_UP_MAX]);
        assert!(w.pull(queue("q"), 1, 60_000).is_empty(), "each key has somebody who works on it");
        w.accept(queue("q"), &held[HELD - 1]);
        let next = w.pull(queue("q"), 9, 60_000);
        assert_eq!(next.len(), 1);
        assert_eq!(
            (w.read(&next[0]).key, w.body(&next[0])),
            (Some(format!("k{}", HELD - 1).into()), "second".into())
        );
    }
}
