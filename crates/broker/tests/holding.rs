//! Who holds messages on: consumers that were cancelled, and those who took one message at once.

mod common;

use common::{World, name, queue};
use waystation_base::{Attempt, ConsumerId};
use waystation_broker::{
    Command, Kind, Refusal, Reply, SessionId,
    command::{Counted, Declare, Delete, Hold, Outcome},
    effect::Closed,
    spec::{QueueSpec, Spec},
};

const SESSION: SessionId = SessionId(7);

fn world(bodies: &[&str]) -> World {
    let mut world = World::new();
    world.queue("q", |_| ());
    world.publish("q", bodies);
    world
}

fn consume(world: &mut World, credit: u32) -> ConsumerId {
    world.attach_with(queue("q"), credit, |attach| attach.session = SESSION).expect("attached")
}

/// Takes one message at once.
fn get(world: &mut World) -> Result<(ConsumerId, Option<String>), Refusal> {
    let id = world.attach_with(queue("q"), 1, |attach| {
        attach.hold = Hold::Once;
        attach.session = SESSION;
    })?;
    assert!(world.closed.contains(&(id, Closed::PullEnded)), "it ends at once");
    let bodies = world.bodies(id);
    assert!(bodies.len() <= 1);
    Ok((id, bodies.into_iter().next()))
}

#[test]
fn a_cancelled_consumer_gets_nothing_more_and_holds_what_it_has() {
    let mut world = world(&["a", "b", "c"]);
    let consumer = consume(&mut world, 2);
    let handed = world.take(consumer);
    world.run(Command::Cancel(consumer)).expect("cancelled");
    assert_eq!(world.closed, [(consumer, Closed::Cancelled)]);
    world.accept(queue("q"), &handed[0]);
    assert!(world.take(consumer).is_empty(), "room again, but cancelled");
    let info = world.queue_info("q");
    assert_eq!((info.ready, info.in_flight, info.consumers), (1, 1, 0));
    for again in [Command::Cancel(consumer), Command::Detach(consumer), Command::Credit(consumer, 9)] {
        assert_eq!(world.run(again), Err(Refusal::NotAttached));
    }
    assert_eq!(world.queue_info("q").in_flight, 1);
    world.run(Command::CloseSession(SESSION)).expect("closed");
    assert_eq!(world.queue_info("q").ready, 2);
    let next = world.attach(queue("q"), 9);
    assert_eq!(
        world.take(next).iter().map(|handed| handed.attempt).collect::<Vec<_>>(),
        [Attempt(2), Attempt(1)]
    );
}

#[test]
fn a_cancelled_consumer_counts_no_more_for_what_goes_by_consumers() {
    let mut world = world(&["a", "b"]);
    let alone = world.attach_with(queue("q"), 1, |attach| attach.exclusive = true).expect("attached");
    assert!(matches!(get(&mut world), Err(Refusal::Exclusive { .. })));
    world.run(Command::Cancel(alone)).expect("cancelled");
    let next = world.attach_with(queue("q"), 1, |attach| attach.exclusive = true).expect("attached");
    assert_eq!(world.bodies(next), ["b"]);
    world.run(Command::Cancel(next)).expect("cancelled");

    world.queue("brief", |spec| spec.auto_delete = true);
    world.publish("brief", &["x"]);
    let last = world.attach(queue("brief"), 1);
    world.run(Command::Cancel(last)).expect("cancelled");
    assert!(world.shard.queue(&name("brief")).is_none());

    world.queue("single", |spec| spec.single_active_consumer = true);
    let first = world.attach(queue("single"), 1);
    let second = world.attach(queue("single"), 1);
    assert_eq!(world.queue_info("single").active, Some(first));
    world.publish("single", &["x", "y"]);
    world.run(Command::Cancel(first)).expect("cancelled");
    assert_eq!(
        (world.bodies(second), world.queue_info("single").active),
        (vec!["y".to_owned()], Some(second))
    );
}

#[test]
fn one_message_is_taken_at_once_and_held_until_it_is_settled() {
    let mut world = world(&["a", "b"]);
    let (_, first) = get(&mut world).expect("attached");
    assert_eq!((first.as_deref(), world.queue_info("q").in_flight), (Some("a"), 1));
    world.pass(24 * 60 * 60 * 1000);
    let (id, second) = get(&mut world).expect("attached");
    assert_eq!(second.as_deref(), Some("b"), "the first is held without a lease");
    assert_eq!(get(&mut world).expect("attached").1, None, "there is no third");
    assert_eq!(world.queue_info("q").consumers, 0);
    assert_eq!(world.run(Command::Detach(id)), Err(Refusal::NotAttached));
    let tag = waystation_base::Tag::new(0, waystation_base::Offset(0));
    world.settle_tag(queue("q"), tag, Attempt(1), Outcome::Released).expect("given back");
    assert_eq!(get(&mut world).expect("attached").1.as_deref(), Some("a"));
    world.run(Command::CloseSession(SESSION)).expect("closed");
    assert_eq!(world.queue_info("q").ready, 2);
}

#[test]
fn what_was_taken_at_once_is_ready_again_after_a_restart() {
    for restart in [World::restart, World::restart_from_snapshot] {
        let mut world = world(&["a", "b"]);
        get(&mut world).expect("attached");
        restart(&mut world);
        assert_eq!(get(&mut world).expect("attached").1.as_deref(), Some("a"));
        assert_eq!(get(&mut world).expect("attached").1.as_deref(), Some("b"));
        assert_eq!(get(&mut world).expect("attached").1, None);
    }
}

#[test]
fn taking_one_message_does_not_count_as_consuming() {
    let mut world = world(&[]);
    world.queue("q2", |spec| spec.auto_delete = true);
    world.publish("q2", &["a"]);
    let id = world.attach_with(queue("q2"), 1, |attach| attach.hold = Hold::Once).expect("attached");
    assert_eq!(world.bodies(id), ["a"]);
    assert!(world.shard.queue(&name("q2")).is_some());
    // Nor does it wait behind the one who is active.
    world.queue("single", |spec| spec.single_active_consumer = true);
    world.attach(queue("single"), 0);
    world.publish("single", &["x"]);
    let id = world.attach_with(queue("single"), 1, |attach| attach.hold = Hold::Once).expect("attached");
    assert_eq!(world.bodies(id), ["x"]);
}

#[test]
fn a_queue_tells_whose_it_is() {
    let mut world = World::new();
    let spec = Spec::Queue(QueueSpec { exclusive: true, ..QueueSpec::default() });
    world
        .run(Command::Declare(Declare { name: name("own"), spec, change: false, session: SESSION }))
        .expect("declared");
    assert_eq!(world.queue_info("own").owner, Some(SESSION));
    world.run(Command::CloseSession(SESSION)).expect("closed");
    assert_eq!(world.shard.names(Kind::Queue, None, 9), []);
}

#[test]
fn arguments_alone_never_make_a_declaration_differ() {
    let mut world = World::new();
    let spec = |n: i32, ttl_ms: Option<u64>| {
        let arguments = [("x-n".to_owned(), n.into())].into_iter().collect();
        Spec::Queue(QueueSpec { arguments, ttl_ms, ..QueueSpec::default() })
    };
    world.declare("q", spec(1, None)).expect("declared");
    world.declare("q", spec(2, None)).expect("just so");
    assert_eq!(world.queue_info("q").spec.arguments["x-n"], 1, "they are as they were first given");
    let differs = world.declare("q", spec(2, Some(5)));
    assert!(matches!(&differs, Err(Refusal::Exists { field, .. }) if field == "ttl_ms"), "{differs:?}");
}

#[test]
fn a_queue_is_empty_of_what_stands_ready_while_somebody_holds_the_rest() {
    let mut world = world(&["a", "b"]);
    let consumer = consume(&mut world, 2);
    let handed = world.take(consumer);
    let delete = |counted| {
        let (kind, name, session) = (Kind::Queue, name("q"), SESSION);
        Command::Delete(Delete { kind, name, if_unused: false, if_empty: true, counted, session })
    };
    let in_use = |refused| matches!(refused, Err(Refusal::InUse { state: "not empty", .. }));
    assert!(in_use(world.run(delete(Counted::All))));
    world.settle(queue("q"), &handed[0], Outcome::Requeued { delay_ms: 60_000 }).expect("waits");
    world.run(Command::Cancel(consumer)).expect("cancelled");
    world.publish("q", &["c"]);
    assert!(in_use(world.run(delete(Counted::Ready))), "one stands ready");
    assert_eq!(world.drain("q"), ["c"]);
    assert_eq!(
        world.run(delete(Counted::Ready)),
        Ok(Reply::Removed(0)),
        "one is held, one waits for its time"
    );
}
