//! Moving messages elsewhere that wait in a queue: whichever way they wait, in one step with arriving there, or not at all.

mod common;

use common::{World, name, queue, subscription};
use waystation_base::{
    Attempt, Message, MessageId, Offset, Tag,
    limits::{ACKED_RANGES_MAX, WITHDRAWN_RANGES_MAX},
    message::header::{MESSAGE_ID, REDRIVE, REDRIVE_UNDONE},
};
use waystation_broker::{
    Command, Extent, Refusal, Reply, SessionId, Source,
    command::{Declare, Outcome, Payload, Publish, Seek, Settle, Settlement, Transaction},
    spec::{Fair, Mode, Order, RouteKind, Spec, SubscriptionSpec, TopicSpec},
};

const DELAYED: u16 = 256;

fn tag(log: u16, offset: u64) -> Tag {
    Tag::new(log, Offset(offset))
}

fn withdrawn(tag: Tag, attempt: u32) -> Settlement {
    Settlement { tag, attempt: Attempt(attempt), outcome: Outcome::Withdrawn { body_bytes: 1 } }
}

/// Moves messages of `from` to the queue `to`, where they arrive as `bodies`.
fn carry(w: &mut World, from: Source, which: Vec<Settlement>, bodies: &[&str]) -> Result<Reply, Refusal> {
    let messages = bodies.iter().map(|body| w.message(body)).collect();
    let publish = Publish { to: name("to").into(), partition: None, payload: Payload::Messages(messages) };
    let settle = Settle { source: from, settlements: which };
    w.run(Command::Transact(Transaction { publishes: vec![publish], settlements: vec![settle] }))
}

fn world(bodies: &[&str]) -> World {
    let mut w = World::new();
    w.queue("q", |_| ());
    w.queue("to", |_| ());
    w.publish("q", bodies);
    w
}

#[test]
fn what_is_moved_arrives_elsewhere_and_the_rest_stays_in_order_through_restarts() {
    let mut w = world(&["a", "b", "c", "d"]);
    carry(&mut w, queue("q"), vec![withdrawn(tag(0, 1), 0), withdrawn(tag(0, 3), 0)], &["b", "d"])
        .expect("moved");
    let check = |w: &World| {
        let info = w.queue_info("q");
        assert_eq!(
            (info.ready, info.bytes, info.counters.withdrawn, info.counters.acknowledged),
            (2, 2, 2, 0)
        );
        assert_eq!(w.queue_info("to").ready, 2);
    };
    check(&w);
    w.restart();
    check(&w);
    w.restart_from_snapshot();
    check(&w);
    assert_eq!((w.drain("q"), w.drain("to")), (vec!["a".into(), "c".into()], vec!["b".into(), "d".into()]));
}

#[test]
fn messages_that_are_loaded_ahead_or_came_back_are_not_handed_out_any_more() {
    let mut w = world(&["a", "b", "c", "d"]);
    let consumer = w.attach(queue("q"), 1);
    let first = w.take(consumer);
    // "b" to "d" stand in the window; "a" is in somebody's hands.
    carry(&mut w, queue("q"), vec![withdrawn(tag(0, 2), 0)], &["c"]).expect("moved");
    w.run(Command::Credit(consumer, 0)).expect("no credit");
    w.settle(queue("q"), &first[0], Outcome::Requeued { delay_ms: 0 }).expect("requeued");
    carry(&mut w, queue("q"), vec![withdrawn(tag(0, 0), 1)], &["a"]).expect("moved");
    w.run(Command::Credit(consumer, 9)).expect("credit");
    assert_eq!(w.bodies(consumer), ["b", "d"]);
}

#[test]
fn who_has_seen_something_else_moves_nothing() {
    let mut w = world(&["a", "b"]);
    w.topic("t", |_| ());
    w.subscribe("s", "t", |_| ());
    w.publish("t", &["x"]);
    let consumer = w.attach(queue("q"), 1);
    let held = w.take(consumer);
    let b = withdrawn(tag(0, 1), 0);
    for (source, wrong) in [
        (queue("q"), withdrawn(held[0].tag, 0)),
        (queue("q"), withdrawn(held[0].tag, 1)),
        (queue("q"), withdrawn(tag(0, 1), 1)),
        (queue("q"), withdrawn(tag(0, 2), 0)),
        (queue("q"), withdrawn(tag(7, 0), 0)),
        (subscription("s"), withdrawn(tag(0, 0), 0)),
    ] {
        let which = if source == queue("q") { vec![b.clone(), wrong.clone()] } else { vec![wrong.clone()] };
        let refused = carry(&mut w, source, which, &["b", "?"]);
        assert_eq!(refused, Err(Refusal::NotWaiting { tag: wrong.tag }));
    }
    w.accept(queue("q"), &held[0]);
    w.take(consumer);
    let gone = carry(&mut w, queue("q"), vec![withdrawn(held[0].tag, 1)], &["a"]);
    assert_eq!(gone, Err(Refusal::NotWaiting { tag: held[0].tag }));
    assert_eq!((w.queue_info("to").ready, w.queue_info("q").counters.withdrawn), (0, 0));
}

/// A subscription to which messages came back, all of one key.
fn came_back(bodies: &[&str], change: impl FnOnce(&mut SubscriptionSpec)) -> World {
    let mut w = World::new();
    w.queue("to", |_| ());
    w.topic("t", |_| ());
    w.subscribe("s", "t", change);
    w.publish("t", &["its topic's"]);
    let topic = name("s").redriven().expect("a name");
    let (spec, session) = (Spec::Topic(TopicSpec::default()), SessionId(0));
    w.run(Command::Declare(Declare { name: topic.clone(), spec, change: true, session })).expect("declared");
    let mut messages: Vec<Message> = bodies.iter().map(|body| w.message(body)).collect();
    for message in &mut messages {
        message.key = Some("k".into());
        message.headers.set("tenant", "one");
    }
    let publish = Publish { to: topic.into(), partition: None, payload: Payload::Messages(messages) };
    w.run(Command::Transact(Transaction { publishes: vec![publish], settlements: vec![] }))
        .expect("published");
    w
}

/// The source of a subscription by which messages came back to it.
const BACK: u16 = 1;

/// Messages wait in every way that there is, and are moved from there; a restart finds the same.
#[track_caller]
fn check_moved_from_a_subscription(change: impl Fn(&mut SubscriptionSpec)) {
    let mut w = came_back(&["a", "b", "c", "d"], change);
    let consumer = w.attach(subscription("s"), 2);
    let held = w.take(consumer);
    assert!(held.iter().any(|handed| handed.tag == tag(BACK, 0)), "one that came back");
    w.run(Command::Credit(consumer, 0)).expect("no credit");
    for handed in &held {
        w.settle(subscription("s"), handed, Outcome::Requeued { delay_ms: 0 }).expect("requeued");
    }
    let wrong = carry(&mut w, subscription("s"), vec![withdrawn(tag(BACK, 0), 0)], &["a"]);
    assert_eq!(wrong, Err(Refusal::NotWaiting { tag: tag(BACK, 0) }), "it was handed out once");
    let foreign = carry(&mut w, subscription("s"), vec![withdrawn(tag(0, 0), 1)], &["its topic's"]);
    assert_eq!(foreign, Err(Refusal::NotWaiting { tag: tag(0, 0) }), "others may read it");
    let which = vec![withdrawn(tag(BACK, 0), 1), withdrawn(tag(BACK, 1), 0), withdrawn(tag(BACK, 3), 0)];
    carry(&mut w, subscription("s"), which, &["a", "b", "d"]).expect("moved");
    assert_eq!(w.subscription_info("s").counters.withdrawn, 3);
    w.run(Command::Credit(consumer, 9)).expect("credit");
    let mut left = w.take(consumer);
    left.sort_by_key(|handed| handed.tag.log());
    assert_eq!(left.iter().map(|handed| w.body(handed)).collect::<Vec<_>>(), ["its topic's", "c"]);
    left.iter().for_each(|handed| w.accept(subscription("s"), handed));
    w.restart();
    assert_eq!(w.subscription_info("s").counters.withdrawn, 3);
    let again = carry(&mut w, subscription("s"), vec![withdrawn(tag(BACK, 1), 0)], &["b"]);
    assert_eq!(again, Err(Refusal::NotWaiting { tag: tag(BACK, 1) }), "it is there no more");
    assert_eq!((w.drain("to"), w.subscription_info("s").lag), (vec!["a".into(), "b".into(), "d".into()], 0));
}

#[test]
fn what_came_back_to_a_subscription_can_be_moved_and_nothing_else_of_it() {
    check_moved_from_a_subscription(|_| ());
    check_moved_from_a_subscription(|spec| {
        spec.fair = Some(Box::new(Fair { header: "tenant".into(), ..Fair::default() }));
    });
}

#[test]
fn a_seek_hands_out_nothing_again_that_came_back_and_was_moved_or_done_and_passes_over_nothing_of_it() {
    for restart in [None, Some(World::restart as fn(&mut World)), Some(World::restart_from_snapshot)] {
        let mut w = came_back(&["a", "b", "c"], |_| ());
        let consumer = w.attach(subscription("s"), 9);
        let first = w.take(consumer);
        let of_topic: Vec<_> = first.iter().filter(|handed| handed.tag == tag(0, 0)).collect();
        w.accept(subscription("s"), of_topic[0]);
        w.run(Command::Detach(consumer)).expect("detached");
        let taken_back = vec![withdrawn(tag(BACK, 0), 1), withdrawn(tag(BACK, 2), 1)];
        carry(&mut w, subscription("s"), taken_back, &["a", "c"]).expect("moved");
        let seek = |w: &mut World, offset| {
            let redriven = name("s").redriven().expect("a name");
            let to = vec![(name("t"), 0, Offset(offset)), (redriven, 0, Offset(offset))];
            w.run(Command::Seek(Seek { subscription: name("s"), to })).expect("moved");
        };
        seek(&mut w, 9);
        assert_eq!(w.subscription_info("s").lag, 1, "what came back waits still");
        seek(&mut w, 0);
        restart.into_iter().for_each(|restart| restart(&mut w));
        let consumer = w.attach(subscription("s"), 9);
        let mut bodies = w.bodies(consumer);
        bodies.sort();
        assert_eq!(bodies, ["b", "its topic's"]);
    }
}

#[test]
fn one_that_waits_behind_its_key_in_an_ordered_subscription_can_be_moved() {
    let mut w = came_back(&["a", "b", "c"], |spec| spec.mode = Mode::Ordered);
    let consumer = w.attach(subscription("s"), 9);
    let held: Vec<_> = w.take(consumer).into_iter().filter(|handed| handed.tag.log() == BACK).collect();
    for handed in held.iter().rev() {
        w.settle(subscription("s"), handed, Outcome::Requeued { delay_ms: 100 }).expect("requeued");
    }
    w.pass(150);
    let first = w.take(consumer);
    assert_eq!(first.iter().map(|handed| handed.tag).collect::<Vec<_>>(), [tag(BACK, 0)]);
    carry(&mut w, subscription("s"), vec![withdrawn(tag(BACK, 1), 1)], &["b"]).expect("moved");
    w.accept(subscription("s"), &first[0]);
    assert_eq!(w.bodies(consumer), ["c"]);
}

#[test]
fn one_that_is_named_twice_is_moved_once() {
    let mut w = world(&["a", "b"]);
    let once =
        Settle { source: queue("q"), settlements: vec![withdrawn(tag(0, 0), 0), withdrawn(tag(0, 0), 0)] };
    let twice = Settle { source: queue("q"), settlements: vec![withdrawn(tag(0, 0), 0)] };
    let transaction = Transaction { publishes: Vec::new(), settlements: vec![once, twice] };
    w.run(Command::Transact(transaction)).expect("moved");
    let info = w.queue_info("q");
    assert_eq!((info.ready, info.bytes, info.counters.withdrawn), (1, 1, 1));
}

#[test]
fn messages_that_wait_for_their_time_can_be_moved() {
    let mut w = world(&["a"]);
    let at = w.now.plus(500);
    w.publish_with("q", "b", |message| message.deliver_at = Some(at)).expect("published");
    let consumer = w.attach(queue("q"), 9);
    let held = w.take(consumer);
    w.settle(queue("q"), &held[0], Outcome::Requeued { delay_ms: 100 }).expect("requeued");
    let seen_before = carry(&mut w, queue("q"), vec![withdrawn(tag(0, 0), 0)], &["a"]);
    assert_eq!(seen_before, Err(Refusal::NotWaiting { tag: tag(0, 0) }));
    carry(&mut w, queue("q"), vec![withdrawn(tag(0, 0), 1), withdrawn(tag(DELAYED, 0), 0)], &["a", "b"])
        .expect("moved");
    let info = w.queue_info("q");
    assert_eq!((info.ready, info.delayed, info.bytes), (0, 0, 0));
    w.restart();
    let consumer = w.attach(queue("q"), 9);
    w.pass(1_000);
    assert!(w.take(consumer).is_empty());
    assert_eq!(w.queue_info("q").delayed, 0);
}

#[test]
fn the_next_message_of_a_key_is_free_when_the_one_before_it_is_moved_and_one_behind_it_can_be() {
    let mut w = World::new();
    w.queue("q", |spec| spec.order = Order::Key);
    w.queue("to", |_| ());
    for body in ["1", "2", "3"] {
        w.publish_with("q", body, |message| message.key = Some("k".into())).expect("published");
    }
    let consumer = w.attach(queue("q"), 9);
    let first = w.take(consumer);
    assert_eq!(first.len(), 1);
    carry(&mut w, queue("q"), vec![withdrawn(tag(0, 1), 0)], &["2"]).expect("moved from behind its key");
    w.settle(queue("q"), &first[0], Outcome::Requeued { delay_ms: 100 }).expect("requeued");
    assert!(w.take(consumer).is_empty());
    carry(&mut w, queue("q"), vec![withdrawn(tag(0, 0), 1)], &["1"]).expect("moved with its key");
    assert_eq!(w.bodies(consumer), ["3"]);
}

#[test]
fn a_redriven_message_is_no_duplicate_of_itself_and_one_published_anew_is() {
    let mut w = World::new();
    w.queue("q", |spec| spec.deduplication_ms = Some(60_000));
    let mut send = |header: Option<(&'static str, &str)>| {
        w.publish_with("q", "x", |message| {
            message.headers.set(MESSAGE_ID, "1");
            header.into_iter().for_each(|(name, value)| message.headers.set(name, value));
        })
        .expect("published");
        w.queue_info("q").ready
    };
    assert_eq!((send(None), send(None)), (1, 1));
    assert_eq!((send(Some((REDRIVE, "r1"))), send(Some((REDRIVE_UNDONE, "r1"))), send(None)), (2, 3, 3));
}

#[test]
fn graves_are_what_dead_letters_are_said_to_go_to_and_extents_tell_what_is_left_there() {
    let mut w = World::new();
    for queue in ["a.dead", "b.dead", "c.dead", "d.dead", "other"] {
        w.queue(queue, |_| ());
    }
    w.topic("t.dead", |_| ());
    w.topic("t", |_| ());
    w.route("dlx", RouteKind::Fanout, |_| ());
    w.route("inner", RouteKind::Topic, |_| ());
    w.bind("dlx", ">inner", "", "").expect("bound");
    w.bind("inner", "b.dead", "#", "").expect("bound");
    w.bind("inner", ">dlx", "x", "").expect("bound in a circle");
    w.queue("a", |spec| spec.dead_letter = Some("a.dead".into()));
    w.queue("b", |spec| spec.dead_letter_route = Some("dlx".into()));
    w.queue("c", |spec| {
        spec.dead_letter_route = Some("".into());
        spec.dead_letter_key = Some("c.dead".into());
    });
    w.queue("e", |spec| spec.dead_letter = Some("t.dead".into()));
    w.subscribe("s", "t", |spec| spec.dead_letter = Some("d.dead".into()));
    let graves: Vec<String> = w.shard.graves().iter().map(ToString::to_string).collect();
    assert_eq!(graves, ["a.dead", "b.dead", "c.dead", "d.dead"]);

    w.publish("other", &["1", "2", "3"]);
    w.publish_with("other", "high", |message| message.priority = 9).expect("published");
    let gone = Settle { source: queue("other"), settlements: vec![withdrawn(tag(0, 1), 0)] };
    w.run(Command::Transact(Transaction { publishes: vec![], settlements: vec![gone] })).expect("moved");
    let extent = |log, next, live: &[(u64, u64)]| Extent {
        log,
        next: Offset(next),
        live: live.iter().map(|(a, b)| (Offset(*a), Offset(*b))).collect(),
    };
    let extents = w.shard.extents(&name("other"));
    assert_eq!(extents, Some(vec![extent(9, 1, &[(0, 0)]), extent(0, 3, &[(0, 0), (2, 2)])]));
    assert_eq!((w.shard.extents(&name("t")), w.shard.extents(&name("nothing"))), (None, None));
}

#[test]
fn gaps_past_the_bound_are_refused_and_consuming_goes_on_behind_many_of_them() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let count = 2 * WITHDRAWN_RANGES_MAX as u64 + 4;
    let messages: Vec<Message> =
        (0..50_000).map(|_| Message::new(MessageId::default(), w.now, "x")).collect();
    for at in (0..count).step_by(messages.len()) {
        let few = messages[..messages.len().min((count - at) as usize)].to_vec();
        w.run(Command::Transact(Transaction {
            publishes: vec![Publish {
                to: name("q").into(),
                partition: None,
                payload: Payload::Messages(few),
            }],
            settlements: Vec::new(),
        }))
        .expect("published");
    }
    let withdraw = |w: &mut World, offsets: &mut dyn Iterator<Item = u64>| {
        let settlements = offsets.map(|offset| withdrawn(tag(0, offset), 0)).collect();
        let settle = Settle { source: queue("q"), settlements };
        w.run(Command::Transact(Transaction { publishes: Vec::new(), settlements: vec![settle] }))
    };
    let bound = WITHDRAWN_RANGES_MAX as u64;
    for at in (0..bound).step_by(10_000) {
        withdraw(&mut w, &mut (at..(at + 10_000).min(bound)).map(|n| 2 * n + 1)).expect("moved");
    }
    let refused = withdraw(&mut w, &mut std::iter::once(2 * bound + 1));
    assert!(matches!(refused, Err(Refusal::Limit { limit, .. }) if limit == bound), "{refused:?}");
    const { assert!(WITHDRAWN_RANGES_MAX > ACKED_RANGES_MAX) };
    let consumer = w.attach(queue("q"), 2);
    for _ in 0..3 {
        let handed = w.take(consumer);
        assert_eq!(handed.len(), 1, "one after the other while there are many gaps");
        w.accept(queue("q"), &handed[0]);
    }
    withdraw(&mut w, &mut std::iter::once(2 * bound + 1)).expect("there is room for one again");
}
