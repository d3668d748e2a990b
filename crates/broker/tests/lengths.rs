//! What does a queue's length count, and who gets a message before it is looked at?

mod common;

use common::{World, queue};
use waystation_broker::{
    Kind, Refusal,
    spec::{Overflow, QueueSpec},
};

#[test]
fn a_limit_of_bytes_counts_bodies_and_neither_keys_nor_headers() {
    let mut w = World::new();
    w.queue("q", |spec| spec.max_bytes = Some(1_000));
    let heavy = |m: &mut waystation_base::Message| {
        m.key = Some(vec![b'k'; 500].into());
        m.headers.0.push(("filler".into(), "x".repeat(2_000).into()));
    };
    w.publish_with("q", &"x".repeat(400), heavy).expect("far below the bound");
    w.publish_with("q", &"x".repeat(600), heavy).expect("at the bound");
    assert!(matches!(w.publish_with("q", "x", heavy), Err(Refusal::Full { .. })));
    w.publish_with("q", "", heavy).expect("no byte more");
    assert_eq!(w.queue_info("q").bytes, 1_000);
}

#[test]
fn who_is_ready_for_messages_gets_them_however_short_the_queue_or_their_life() {
    let mut w = World::new();
    w.queue("q", |spec| (spec.max_messages, spec.overflow) = (Some(1), Overflow::DropHead));
    let a = w.attach(queue("q"), 3);
    w.publish("q", &["1", "2", "3", "4", "5", "6"]);
    assert_eq!(w.bodies(a), ["1", "2", "3"]);
    let info = w.queue_info("q");
    assert_eq!((info.ready, info.counters.dropped), (1, 2));
    for change in [
        (|spec| spec.ttl_ms = Some(0)) as fn(&mut QueueSpec),
        |spec| (spec.max_messages, spec.overflow) = (Some(0), Overflow::DropHead),
        |spec| (spec.max_bytes, spec.overflow) = (Some(0), Overflow::DropHead),
    ] {
        w.queue("nothing", change);
        w.publish("nothing", &["lost"]);
        assert_eq!(w.queue_info("nothing").ready, 0);
        let b = w.attach(queue("nothing"), 1);
        w.publish("nothing", &["taken", "lost too"]);
        assert_eq!(w.bodies(b), ["taken"]);
        assert_eq!(w.queue_info("nothing").ready, 0);
        w.delete(Kind::Queue, "nothing").expect("deleted");
    }
}
