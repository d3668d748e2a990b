//! Where is a message now? Told of each state that it can be in, and of its place in line as it then comes.

mod common;

use common::{World, queue, subscription};
use waystation_base::{Attempt, ClientId, EntityId, Offset};
use waystation_broker::{
    Command, Kind, Stand, Whereabout,
    command::Outcome,
    place::LogId,
    spec::{Fair, Order},
};

/// The log of a queue's messages of priority 0 that are published for later.
const DELAYED_LOG: u16 = 256;

fn world() -> World {
    let mut world = World::new();
    world.queue("q", |spec| spec.dead_letter = Some("dead".into()));
    world
}

fn log_of(world: &World, kind: Kind, name: &str, log: u16) -> LogId {
    let (entities, _) = world.shard.inventory();
    let found = entities.iter().find(|(_, have, called)| *have == kind && called.as_str() == name);
    LogId { entity: found.map_or(EntityId(0), |(id, ..)| *id), log }
}

fn whereabout(world: &World, log: LogId, offset: u64) -> Whereabout {
    world.shard.whereabouts(&[(log, Offset(offset))]).remove(0)
}

fn stand(world: &World, log: u16, offset: u64) -> Stand {
    let place = whereabout(world, log_of(world, Kind::Queue, "q", log), offset);
    place.outlets.into_iter().next().expect("a queue").stand
}

fn ahead(world: &World, log: u16, offset: u64) -> u64 {
    match stand(world, log, offset) {
        Stand::Ready { ahead, .. } => ahead,
        other => panic!("not ready: {other:?}"),
    }
}

#[test]
fn a_message_is_ready_held_returned_and_done() {
    let mut world = world();
    world.publish("q", &["a", "b", "c", "d"]);
    assert_eq!((ahead(&world, 0, 0), ahead(&world, 0, 3)), (0, 3));
    assert_eq!(stand(&world, 0, 4), Stand::Done, "it was never there");
    let consumer = world.attach_with(queue("q"), 2, |attach| attach.client = ClientId(7)).expect("attached");
    let handed = world.take(consumer);
    let held = Stand::Held { attempt: Attempt(1), client: Some(ClientId(7)), until: None };
    assert_eq!(stand(&world, 0, 0), held);
    assert_eq!(ahead(&world, 0, 3), 1, "c alone goes before");
    world.accept(queue("q"), &handed[0]);
    assert_eq!(stand(&world, 0, 0), Stand::Done);
    let more = world.take(consumer);
    assert_eq!(ahead(&world, 0, 3), 0);
    world.settle(queue("q"), &handed[1], Outcome::Requeued { delay_ms: 500 }).expect("settled");
    let Stand::Delayed { until, attempt } = stand(&world, 0, 1) else { panic!("not delayed") };
    assert_eq!((until, attempt), (world.now.plus(500), Attempt(1)));
    world.settle(queue("q"), &more[0], Outcome::Rejected { error: None, class: None }).expect("settled");
    assert!(matches!(stand(&world, 0, 2), Stand::Dying { .. }), "there are no dead letters to go to");
    assert!(!whereabout(&world, LogId { entity: EntityId(99), log: 0 }, 0).exists);
}

#[test]
fn the_place_in_line_is_the_order_in_which_messages_come() {
    let mut world = world();
    world.queue("p", |spec| spec.max_priority = 9);
    let priorities = [3, 0, 9, 0, 3];
    for (n, priority) in priorities.into_iter().enumerate() {
        world.publish_with("p", &format!("{n}"), |message| message.priority = priority).expect("published");
    }
    let place = |log: u16, offset: u64| {
        let log = log_of(&world, Kind::Queue, "p", log);
        match whereabout(&world, log, offset).outlets.remove(0).stand {
            Stand::Ready { ahead, .. } => ahead,
            other => panic!("not ready: {other:?}"),
        }
    };
    let places = [place(3, 0), place(0, 0), place(9, 0), place(0, 1), place(3, 1)];
    let mut expected = [0; 5];
    for (at, body) in world.drain("p").iter().enumerate() {
        expected[body.parse::<usize>().expect("a number")] = at as u64;
    }
    assert_eq!(places, expected);
}

#[test]
fn one_waits_behind_its_key_and_each_subscription_has_its_own_copy() {
    let mut world = World::new();
    world.queue("q", |spec| spec.order = Order::Key);
    for body in ["a", "b"] {
        world.publish_with("q", body, |message| message.key = Some("k".into())).expect("published");
    }
    let consumer = world.attach(queue("q"), 9);
    let handed = world.take(consumer);
    assert_eq!(handed.len(), 1);
    assert_eq!(stand(&world, 0, 1), Stand::BehindKey { holder: handed[0].tag });
    world.topic("t", |spec| spec.partitions = 1);
    world.subscribe("s1", "t", |_| ());
    world.subscribe("s2", "t", |_| ());
    world.publish("t", &["x"]);
    let reader = world.attach(subscription("s1"), 1);
    let taken = world.take(reader);
    world.accept(subscription("s1"), &taken[0]);
    let place = whereabout(&world, log_of(&world, Kind::Topic, "t", 0), 0);
    let mut stands: Vec<_> = place.outlets.iter().map(|it| (it.name.as_str(), it.stand.clone())).collect();
    stands.sort_by_key(|(name, _)| *name);
    let ready = Stand::Ready { ahead: 0, attempt: Attempt(0) };
    assert_eq!(stands, [("s1", Stand::Done), ("s2", ready)]);
    assert!(place.kept && place.exists);
}

#[test]
fn one_that_failed_says_how_often_in_its_tenants_line_too() {
    let mut world = World::new();
    world.topic("t", |spec| spec.partitions = 1);
    world.subscribe("s", "t", |spec| {
        spec.fair = Some(Box::new(Fair { header: "tenant".into(), ..Fair::default() }));
    });
    let consumer = world.attach(subscription("s"), 1);
    world.publish("t", &["x", "y"]);
    let handed = world.take(consumer);
    world.run(Command::Credit(consumer, 0)).expect("no credit");
    world.settle(subscription("s"), &handed[0], Outcome::Requeued { delay_ms: 0 }).expect("settled");
    let log = log_of(&world, Kind::Topic, "t", 0);
    let attempts: Vec<Stand> =
        (0..2).map(|offset| whereabout(&world, log, offset).outlets.remove(0).stand).collect();
    let is = |n: usize, attempt| matches!(attempts[n], Stand::Ready { attempt: Attempt(have), .. } if have == attempt);
    assert!(is(0, 1) && is(1, 0), "{attempts:?}");
}

#[test]
fn many_that_are_asked_for_together_stand_where_each_alone_stands() {
    let mut world = world();
    world.topic("t", |spec| spec.partitions = 1);
    world.subscribe("s1", "t", |_| ());
    world.subscribe("s2", "t", |_| ());
    let bodies: Vec<String> = (0..300).map(|n| n.to_string()).collect();
    let bodies: Vec<&str> = bodies.iter().map(String::as_str).collect();
    world.publish("q", &bodies);
    world.publish("t", &bodies);
    let due = |n: u64| 5_000 + 10 * (n % 7);
    for n in 0..300 {
        let at = world.now.plus(due(n));
        world.publish_with("q", "later", |message| message.deliver_at = Some(at)).expect("published");
    }
    for source in [queue("q"), subscription("s1")] {
        let consumer = world.attach(source.clone(), 200);
        for (n, handed) in world.take(consumer).into_iter().enumerate() {
            match n % 4 {
                0 => world.accept(source.clone(), &handed),
                // Each at its own time; some of them with those of others between.
                1 | 2 => {
                    let outcome = Outcome::Requeued { delay_ms: 1_000 + 7 * (n as u64 % 13) };
                    world.settle(source.clone(), &handed, outcome).expect("settled");
                }
                _ => {}
            }
        }
    }
    let (q, t) = (log_of(&world, Kind::Queue, "q", 0), log_of(&world, Kind::Topic, "t", 0));
    let later = LogId { log: DELAYED_LOG, ..q };
    let places: Vec<_> = (0..310).flat_map(|n| [t, q, later].map(|log| (log, Offset(n)))).collect();
    let together = world.shard.whereabouts(&places);
    let alone: Vec<_> = places.iter().map(|(log, offset)| whereabout(&world, *log, offset.0)).collect();
    assert_eq!(together, alone);
    let stands = together.iter().flat_map(|place| &place.outlets).map(|outlet| &outlet.stand);
    let delayed: Vec<_> = stands.filter(|stand| matches!(stand, Stand::Delayed { .. })).collect();
    assert!(delayed.len() >= 500, "{}", delayed.len());
    for n in 0..300 {
        let until = world.now.plus(due(n));
        assert_eq!(stand(&world, DELAYED_LOG, n), Stand::Delayed { until, attempt: Attempt(0) });
    }
    let until = world.now.plus(1_000 + 7);
    assert_eq!(stand(&world, 0, 1), Stand::Delayed { until, attempt: Attempt(1) });
}
