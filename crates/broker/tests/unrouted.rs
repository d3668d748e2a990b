//! Is the journal told of what nothing took: by whom it was meant for, whether its sender hears of it, and not without bound?

mod common;

use bytes::Bytes;
use common::*;
use waystation_base::{
    EntityId,
    batch::{self, Record},
    limits::{UNROUTED_BODY_BYTES_MAX, UNROUTED_TOLD_MAX},
};
use waystation_broker::{
    Refusal,
    command::{Payload, Publish, Target},
    effect::Published,
    entry::{self, Entry},
    spec::RouteKind,
};

fn world() -> World {
    let mut world = World::new();
    world.shard.set_tells_unrouted(true);
    world.route("r", RouteKind::Direct, |_| ());
    world.queue("q", |_| ());
    world.bind("r", "q", "good", "").expect("bound");
    world
}

fn to_route(key: &str, told: bool) -> Target {
    Target::Route { route: name("r"), keys: [key.into()].into_iter().collect(), told }
}

fn to_key(key: &str, told: bool) -> Target {
    Target::Key { key: name(key), told }
}

fn publish(world: &mut World, targets: Vec<Target>, body: &str) -> Vec<Result<Published, Refusal>> {
    let publish = |to| Publish { to, partition: None, payload: Payload::One(world.message(body)) };
    let publishes = targets.into_iter().map(publish).collect();
    world.each(publishes)
}

/// Of each entry about such messages: the route, whether the sender is told, how many were left out, and the bodies.
fn told(world: &World) -> Vec<(EntityId, bool, u64, Vec<String>)> {
    let entries =
        world.journal.list.iter().map(|(_, kind, payload)| entry::read(*kind, payload).expect("an entry"));
    let unrouted = entries.filter_map(|entry| match entry {
        Entry::Unrouted(unrouted) => Some(unrouted),
        _ => None,
    });
    let told = unrouted.map(|it| {
        let batch = Bytes::copy_from_slice(it.batch);
        let body = |record: Result<Record<'_>, _>| {
            let message = record.expect("a record").message(&batch).expect("a message");
            String::from_utf8(message.body.to_vec()).expect("text")
        };
        let records = (!batch.is_empty()).then(|| batch::records(&batch).expect("a batch"));
        let bodies = records.into_iter().flatten().map(body).collect();
        (it.route, it.told, it.omitted, bodies)
    });
    told.collect()
}

#[test]
fn what_no_binding_takes_is_told_and_what_one_takes_is_not() {
    let mut world = world();
    let targets =
        vec![to_route("good", true), to_route("bad", true), to_route("bad", true), to_route("bad", false)];
    let results = publish(&mut world, targets, "x");
    let unrouted: Vec<u32> = results.iter().map(|it| it.as_ref().expect("taken").unrouted).collect();
    assert_eq!(unrouted, [0, 1, 1, 1]);
    let told = told(&world);
    assert_eq!(told.iter().map(|it| (it.1, it.3.len())).collect::<Vec<_>>(), [(true, 2), (false, 1)]);
    assert_eq!(told[0].0, told[1].0);
    assert_ne!(told[0].0, EntityId(0));
    assert_eq!(world.drain("q"), ["x"]);
}

#[test]
fn a_key_that_is_no_queue_is_no_error() {
    let mut world = world();
    let targets = vec![to_key("q", false), to_key("none", false), to_key("q", true)];
    let results = publish(&mut world, targets, "x");
    let unrouted: Vec<u32> = results.iter().map(|it| it.as_ref().expect("no error").unrouted).collect();
    assert_eq!(unrouted, [0, 1, 0]);
    assert_eq!(results[0].as_ref().expect("taken").stretches.len(), 1);
    assert_eq!(told(&world), [(EntityId(0), false, 0, vec!["x".to_owned()])]);
    assert_eq!(world.drain("q"), ["x", "x"]);
}

#[test]
fn long_bodies_are_left_out_and_so_are_more_messages_than_unrouted_told_max() {
    let mut world = world();
    let body = |bytes| "x".repeat(bytes);
    publish(&mut world, vec![to_route("bad", true)], &body(UNROUTED_BODY_BYTES_MAX));
    publish(&mut world, vec![to_route("bad", true)], &body(UNROUTED_BODY_BYTES_MAX + 1));
    let bodies = |world: &World| told(world).into_iter().flat_map(|it| it.3).collect::<Vec<_>>();
    assert_eq!(bodies(&world), [body(UNROUTED_BODY_BYTES_MAX), String::new()]);
    for _ in 0..UNROUTED_TOLD_MAX {
        publish(&mut world, vec![to_route("bad", true)], "y");
    }
    assert_eq!(bodies(&world).len(), UNROUTED_TOLD_MAX);
    world.now = world.now.plus(1000);
    publish(&mut world, vec![to_route("bad", true)], "z");
    let told = told(&world);
    assert_eq!(told.last().map(|it| (it.2, it.3.clone())), Some((2, vec!["z".to_owned()])));
}

#[test]
fn nobody_who_does_not_keep_a_record_is_told() {
    let mut world = world();
    world.shard.set_tells_unrouted(false);
    publish(&mut world, vec![to_route("bad", true)], "x");
    assert_eq!(told(&world), []);
}

#[test]
fn what_a_full_queue_refuses_is_not_told_as_taken_by_nothing() {
    let mut world = world();
    world.queue("full", |spec| {
        spec.max_messages = Some(1);
        spec.overflow = waystation_broker::spec::Overflow::RejectPublish;
    });
    world.bind("r", "full", "narrow", "").expect("bound");
    publish(&mut world, vec![to_route("narrow", true)], "x");
    let refused = publish(&mut world, vec![to_route("narrow", true)], "y");
    assert!(matches!(refused[0], Err(Refusal::Full { .. })), "{refused:?}");
    assert_eq!(told(&world), []);
}

#[test]
fn the_rest_of_a_flood_is_told_of_when_its_second_is_over_though_nothing_follows() {
    for target in [to_route("bad", true), to_key("none", true)] {
        let mut world = world();
        for _ in 0..UNROUTED_TOLD_MAX + 7 {
            publish(&mut world, vec![target.clone()], "y");
        }
        let rests = |world: &World| told(world).into_iter().filter(|it| it.3.is_empty()).collect::<Vec<_>>();
        world.pass(999);
        assert_eq!(rests(&world), []);
        world.pass(1);
        let rests_now = rests(&world);
        assert_eq!(rests_now.iter().map(|it| it.2).collect::<Vec<_>>(), [7]);
        assert_eq!(rests_now[0].0, told(&world)[0].0, "of the same route");
        world.pass(5_000);
        assert_eq!(rests(&world).len(), 1, "once");
        // Neither a restart nor the end of the route is in its way.
        world.restart();
        world.pass(1);
    }
}
