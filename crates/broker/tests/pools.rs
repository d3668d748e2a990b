//! Consumers that share their credit: together they hold no more than their pool allows.

mod common;

use common::{World, queue};
use waystation_base::{ConsumerId, limits::POOLS_PER_SESSION_MAX};
use waystation_broker::{
    Command, Kind, PoolId, Refusal, Reply, SessionId,
    command::{Hold, Outcome},
};

const SESSION: SessionId = SessionId(7);
const POOL: PoolId = PoolId { session: SESSION, number: 1 };

/// Two queues with messages.
fn world(a: &[&str], b: &[&str]) -> World {
    let mut world = World::new();
    world.queue("a", |_| ());
    world.queue("b", |_| ());
    world.publish("a", a);
    world.publish("b", b);
    world
}

fn limit(world: &mut World, credit: u32) {
    world.run(Command::Pool(POOL, Some(credit))).expect("limited");
}

fn consume(world: &mut World, of: &str) -> ConsumerId {
    let joined = world.attach_with(queue(of), 100, |attach| {
        attach.session = SESSION;
        attach.pool = Some(POOL);
    });
    joined.expect("attached")
}

fn ready(world: &World) -> (u64, u64) {
    (world.queue_info("a").ready, world.queue_info("b").ready)
}

#[test]
fn what_a_pool_may_not_hold_stays_ready_for_others() {
    let mut w = world(&["1", "2", "3"], &["4"]);
    limit(&mut w, 2);
    let (first, second) = (consume(&mut w, "a"), consume(&mut w, "b"));
    assert_eq!(w.bodies(first), ["1", "2"]);
    assert!(w.take(second).is_empty());
    assert_eq!(ready(&w), (1, 1));
    let bystander = w.attach(queue("a"), 9);
    assert_eq!(w.bodies(bystander), ["3"]);
}

#[test]
fn room_goes_around_among_those_who_wait() {
    let mut w = world(&["a1", "a2", "a3", "a4"], &["b1", "b2"]);
    limit(&mut w, 1);
    let both = [consume(&mut w, "a"), consume(&mut w, "b")];
    let mut came = Vec::new();
    for _ in 0..6 {
        for (consumer, of) in both.iter().zip(["a", "b"]) {
            for handed in w.take(*consumer) {
                came.push(w.body(&handed));
                w.accept(queue(of), &handed);
            }
        }
    }
    came.truncate(6);
    // The first was turned away for its second message before the other came; from then on they take turns.
    assert_eq!(came, ["a1", "a2", "b1", "a3", "b2", "a4"]);
}

#[test]
fn a_message_given_back_in_any_way_makes_room() {
    let outcomes = [
        Outcome::Rejected { error: None, class: None },
        Outcome::Requeued { delay_ms: 60_000 },
        Outcome::Accepted,
    ];
    for outcome in outcomes {
        let mut w = world(&["1", "2"], &[]);
        limit(&mut w, 1);
        let consumer = consume(&mut w, "a");
        let handed = w.take(consumer);
        assert_eq!(handed.len(), 1);
        w.settle(queue("a"), &handed[0], outcome.clone()).expect("settled");
        assert_eq!(w.bodies(consumer), ["2"], "after {outcome:?}");
    }
}

#[test]
fn a_limit_that_comes_later_counts_what_is_held_already() {
    let mut w = world(&["1", "2", "3", "4"], &[]);
    let consumer = w
        .attach_with(queue("a"), 2, |attach| (attach.session, attach.pool) = (SESSION, Some(POOL)))
        .expect("attached");
    let handed = w.take(consumer);
    assert_eq!(handed.len(), 2);
    limit(&mut w, 2);
    let other = consume(&mut w, "a");
    assert!(w.take(other).is_empty());
    w.accept(queue("a"), &handed[0]);
    assert_eq!(w.take(consumer).len() + w.take(other).len(), 1);
    limit(&mut w, 3);
    assert_eq!(w.take(consumer).len() + w.take(other).len(), 1);
}

#[test]
fn a_pool_of_nothing_gets_nothing_until_it_is_forgotten() {
    let mut w = world(&["1", "2"], &[]);
    limit(&mut w, 0);
    let consumer = consume(&mut w, "a");
    assert!(w.take(consumer).is_empty());
    w.run(Command::Pool(POOL, None)).expect("forgotten");
    assert_eq!(w.bodies(consumer), ["1", "2"]);
}

#[test]
fn what_a_cancelled_consumer_holds_counts_until_it_is_settled() {
    let mut w = world(&["1", "2", "3"], &[]);
    limit(&mut w, 2);
    let consumer = consume(&mut w, "a");
    let handed = w.take(consumer);
    w.run(Command::Cancel(consumer)).expect("cancelled");
    let next = consume(&mut w, "a");
    assert!(w.take(next).is_empty());
    w.accept(queue("a"), &handed[0]);
    assert_eq!(w.bodies(next), ["3"]);
}

#[test]
fn a_consumer_or_a_queue_that_goes_makes_room_elsewhere() {
    let mut w = world(&["1"], &["2", "3"]);
    limit(&mut w, 1);
    let first = consume(&mut w, "a");
    let second = consume(&mut w, "b");
    assert_eq!(w.take(first).len(), 1);
    w.run(Command::Detach(first)).expect("detached");
    let handed = w.take(second);
    assert_eq!(w.body(&handed[0]), "2");
    let third = consume(&mut w, "a");
    assert!(w.take(third).is_empty());
    w.delete(Kind::Queue, "b").expect("deleted");
    assert_eq!(w.bodies(third), ["1"]);
}

#[test]
fn who_holds_nothing_is_not_counted_and_waits_for_room_all_the_same() {
    let mut w = world(&["1", "2", "3"], &["4", "5"]);
    limit(&mut w, 1);
    let free = w.attach_with(queue("a"), 9, |attach| {
        (attach.session, attach.pool, attach.hold) = (SESSION, Some(POOL), Hold::None);
    });
    let free = free.expect("attached");
    assert_eq!(w.bodies(free), ["1", "2", "3"]);
    let consumer = consume(&mut w, "b");
    let handed = w.take(consumer);
    assert_eq!(handed.len(), 1);
    w.publish("a", &["6", "7"]);
    assert!(w.take(free).is_empty());
    limit(&mut w, 3);
    assert_eq!((w.take(free).len(), w.take(consumer).len()), (2, 1), "whose turn it is, without using it up");
}

#[test]
fn a_pull_shares_nothing() {
    let mut w = world(&["1", "2", "3"], &[]);
    limit(&mut w, 0);
    let hold = Hold::Pull { lease_ms: None, until: w.now };
    let pull = w.attach_with(queue("a"), 2, |attach| {
        (attach.session, attach.pool, attach.hold) = (SESSION, Some(POOL), hold);
    });
    assert_eq!(w.bodies(pull.expect("attached")), ["1", "2"]);
}

#[test]
fn a_session_may_have_pools_max_and_they_go_with_it() {
    let mut w = world(&[], &[]);
    let pool = |number| Command::Pool(PoolId { session: SESSION, number }, Some(1));
    for number in 0..POOLS_PER_SESSION_MAX as u64 {
        w.run(pool(number)).expect("limited");
    }
    let refused = w.run(pool(u64::MAX));
    assert!(matches!(refused, Err(Refusal::Limit { .. })), "{refused:?}");
    assert_eq!(w.run(pool(0)), Ok(Reply::Done), "one that is there may be changed");
    w.run(Command::CloseSession(SESSION)).expect("closed");
    assert_eq!(w.run(pool(u64::MAX)), Ok(Reply::Done));
}
