//! Do dead letters find their way by routes, tell what befell them, and not go round for ever?

mod common;

use common::{World, name, queue};
use waystation_base::{
    Message,
    message::header::{CC, DEATH_COUNT, DEATH_FIRST_ROUTE, DEATHS, EXPIRATION, ROUTE, ROUTING_KEY},
    value::Value,
};
use waystation_broker::{
    Refusal,
    command::Outcome,
    spec::{Overflow, QueueSpec, RouteKind},
};

/// A queue `work` whose dead letters go by the route `dead`, a topic route, to `late` (`#.late`) and `all` (`#`).
fn world(change: impl FnOnce(&mut QueueSpec)) -> World {
    let mut world = World::new();
    world.route("dead", RouteKind::Topic, |_| ());
    ["late", "all"].iter().for_each(|queue| world.queue(queue, |_| ()));
    world.bind("dead", "late", "#.late", "").expect("bound");
    world.bind("dead", "all", "#", "").expect("bound");
    world.queue("work", |spec| {
        spec.dead_letter_route = Some("dead".into());
        change(spec);
    });
    world
}

fn publish(world: &mut World, key: &str, change: impl FnOnce(&mut Message)) {
    let sent = world.publish_with("work", "m", |message| {
        message.headers.set(ROUTE, "orders");
        message.headers.set(ROUTING_KEY, key);
        change(message);
    });
    sent.expect("published");
}

fn reject(world: &mut World, from: &str) {
    let handed = world.pull(queue(from), 1, 1000);
    world.settle(queue(from), &handed[0], Outcome::Rejected { error: None, class: None }).expect("rejected");
}

fn text(value: &Value, field: &str) -> String {
    let Value::Map(fields) = value else { panic!("{value:?}") };
    let value = fields.iter().find(|(name, _)| name == field).map(|(_, value)| value);
    match value {
        Some(Value::String(text)) => text.to_string(),
        Some(Value::I64(n)) => n.to_string(),
        Some(Value::List(items)) => items.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(","),
        other => format!("{other:?}"),
    }
}

/// Each death as `queue reason count exchange keys`.
fn deaths(message: &Message) -> Vec<String> {
    let Some(Value::List(deaths)) = message.headers.get(DEATHS) else { return Vec::new() };
    let fields = ["queue", "reason", "count", "exchange", "routing-keys"];
    deaths.iter().map(|death| fields.map(|field| text(death, field)).join(" ")).collect()
}

#[test]
fn a_dead_letter_goes_by_the_keys_that_it_came_by_or_by_the_queues_own() {
    let mut world_ = world(|_| ());
    publish(&mut world_, "eu.late", |_| ());
    publish(&mut world_, "eu.early", |_| ());
    publish(&mut world_, "eu", |message| message.headers.set(CC, Value::List(vec!["copy.late".into()])));
    (0..3).for_each(|_| reject(&mut world_, "work"));
    assert_eq!((world_.drain("late").len(), world_.drain("all").len()), (2, 3));

    let mut world = world(|spec| spec.dead_letter_key = Some("own.late".into()));
    publish(&mut world, "eu", |message| message.headers.set(CC, Value::List(vec!["copy".into()])));
    reject(&mut world, "work");
    let message = world.drain_messages("late").remove(0);
    assert_eq!(message.headers.text(ROUTE), Some("dead"));
    assert_eq!(message.headers.text(ROUTING_KEY), Some("own.late"));
    assert_eq!(message.headers.get(CC), None);
    assert_eq!(deaths(&message), ["work rejected 1 orders eu,copy"]);
    assert_eq!(message.headers.text(DEATH_FIRST_ROUTE), Some("orders"));
    assert_eq!(world.queue_info("work").counters.dead_lettered, 1);
}

#[test]
fn a_message_without_a_key_goes_by_the_name_of_its_queue() {
    let mut world = world(|_| ());
    world.bind("dead", "late", "work", "").expect("bound");
    world.publish("work", &["m"]);
    reject(&mut world, "work");
    let message = world.drain_messages("late").remove(0);
    assert_eq!(deaths(&message), ["work rejected 1  work"]);
    assert_eq!(message.headers.text(ROUTE), Some("dead"));
}

#[test]
fn each_way_to_die_has_its_reason() {
    let mut expired = world(|spec| spec.ttl_ms = Some(10));
    publish(&mut expired, "k", |message| message.headers.set(EXPIRATION, "99"));
    expired.attach(queue("work"), 0);
    expired.pass(10);
    let message = expired.drain_messages("all").remove(0);
    assert_eq!((deaths(&message), message.expires_at), (vec!["work expired 1 orders k".to_owned()], None));
    let Some(Value::List(list)) = message.headers.get(DEATHS) else { panic!("{message:?}") };
    assert_eq!(text(&list[0], "original-expiration"), "99");
    assert_eq!(message.headers.get(EXPIRATION), None);

    let mut attempts = world(|spec| spec.max_attempts = Some(1));
    publish(&mut attempts, "k", |_| ());
    let handed = attempts.pull(queue("work"), 1, 1000);
    attempts.settle(queue("work"), &handed[0], Outcome::Requeued { delay_ms: 0 }).expect("requeued");
    assert_eq!(deaths(&attempts.drain_messages("all")[0]), ["work delivery_limit 1 orders k"]);

    let long =
        |overflow| move |spec: &mut QueueSpec| (spec.max_messages, spec.overflow) = (Some(1), overflow);
    let mut head = world(long(Overflow::DeadLetterHead));
    publish(&mut head, "first", |_| ());
    publish(&mut head, "second", |_| ());
    assert_eq!(deaths(&head.drain_messages("all")[0]), ["work maxlen 1 orders first"]);

    let mut refused = world(long(Overflow::DeadLetterPublish));
    publish(&mut refused, "first", |_| ());
    let again = refused.message("again");
    let to = name("work").into();
    let payload = waystation_broker::command::Payload::One(again);
    let publish = waystation_broker::command::Publish { to, partition: None, payload };
    let results = refused.each(vec![publish]);
    assert!(matches!(results[..], [Err(Refusal::Full { .. })]), "{results:?}");
    assert_eq!(deaths(&refused.drain_messages("all")[0]), ["work maxlen 1  work"]);
    assert_eq!(refused.drain("work"), ["m"]);
}

#[test]
fn a_route_that_is_not_there_or_leads_nowhere_drops_and_counts() {
    for missing in [true, false] {
        let mut world = World::new();
        if !missing {
            world.route("dead", RouteKind::Direct, |_| ());
        }
        world.queue("work", |spec| spec.dead_letter_route = Some("dead".into()));
        publish(&mut world, "k", |_| ());
        reject(&mut world, "work");
        let counters = world.queue_info("work").counters;
        assert_eq!((counters.rejected, counters.dead_lettered), (1, 0));
        assert_eq!(world.notices, []);
    }
}

#[test]
fn what_came_by_the_queues_name_goes_on_under_it_without_its_virtual_host() {
    let mut world = world(|_| ());
    let full = "shop::work%20q";
    world.queue(full, |spec| spec.dead_letter_route = Some("dead".into()));
    let check = |world: &mut World, change: &dyn Fn(&mut Message), expected: &str| {
        world.publish_with(full, "m", change).expect("published");
        reject(world, full);
        let message = world.drain_messages("all").remove(0);
        assert_eq!(message.headers.text(ROUTING_KEY), Some(expected));
        deaths(&message)
    };
    let by_name = |m: &mut Message| {
        m.headers.set(ROUTE, "");
        m.headers.set(ROUTING_KEY, full);
    };
    // What befell it stays told in names of ours; a door translates them.
    let told = ["shop::work%20q rejected 1  shop::work%20q"];
    assert_eq!(check(&mut world, &|_| (), "work q"), told);
    assert_eq!(check(&mut world, &by_name, "work q"), told);
    // Under a route it is a key of its client's, whatever it looks like.
    let by_route = |m: &mut Message| {
        m.headers.set(ROUTE, "orders");
        m.headers.set(ROUTING_KEY, full);
    };
    check(&mut world, &by_route, full);
}

#[test]
fn by_name_each_key_is_a_queue_and_what_is_not_there_drops() {
    let mut world = World::new();
    world.queue("late", |_| ());
    world.queue("work", |spec| {
        spec.dead_letter_route = Some(String::new());
        spec.dead_letter_key = Some("late".into());
    });
    publish(&mut world, "k", |_| ());
    reject(&mut world, "work");
    let message = world.drain_messages("late").remove(0);
    assert_eq!((message.headers.text(ROUTE), message.headers.text(ROUTING_KEY)), (Some(""), Some("late")));
    world.delete(waystation_broker::Kind::Queue, "late").expect("deleted");
    publish(&mut world, "k", |_| ());
    reject(&mut world, "work");
    assert_eq!(world.queue_info("work").counters.rejected, 1);
}

#[test]
fn a_circle_goes_on_only_as_long_as_consumers_reject() {
    let mut world = World::new();
    world.route("dead", RouteKind::Direct, |_| ());
    world.queue("wait", |spec| {
        spec.ttl_ms = Some(10);
        spec.dead_letter_route = Some("dead".into());
        spec.dead_letter_key = Some("work".into());
    });
    world.queue("work", |spec| {
        spec.dead_letter_route = Some("dead".into());
        spec.dead_letter_key = Some("wait".into());
    });
    ["work", "wait"].iter().for_each(|queue| drop(world.bind("dead", queue, queue, "").expect("bound")));
    world.attach(queue("wait"), 0);
    world.publish("work", &["m"]);
    for turn in 1..4 {
        reject(&mut world, "work");
        assert_eq!(world.queue_info("wait").ready, 1, "turn {turn}");
        world.pass(10);
        let info = world.queue_info("work");
        assert_eq!(info.ready, 1, "a rejection lies between: turn {turn}");
    }
    let message = world.drain_messages("work").remove(0);
    assert_eq!(deaths(&message), ["wait expired 3 dead wait", "work rejected 3  work"]);
    assert_eq!(message.headers.get(DEATH_COUNT), Some(&Value::I64(6)));

    // Nobody rejects: it goes round once and is gone.
    world.queue("self", |spec| {
        spec.ttl_ms = Some(10);
        spec.dead_letter_route = Some("dead".into());
        spec.dead_letter_key = Some("self".into());
    });
    world.bind("dead", "self", "self", "").expect("bound");
    world.attach(queue("self"), 0);
    world.publish("self", &["m"]);
    world.pass(10);
    let counters = world.queue_info("self").counters;
    assert_eq!((counters.published, counters.expired, counters.dead_lettered), (1, 1, 0));
}

#[test]
fn a_full_queue_behind_the_route_holds_the_dead_letter_back_until_there_is_room() {
    let mut world = World::new();
    world.route("dead", RouteKind::Fanout, |_| ());
    world.queue("small", |spec| spec.max_messages = Some(1));
    world.queue("large", |_| ());
    ["small", "large"].iter().for_each(|queue| drop(world.bind("dead", queue, "", "").expect("bound")));
    world.queue("work", |spec| spec.dead_letter_route = Some("dead".into()));
    world.publish("small", &["x"]);
    publish(&mut world, "k", |_| ());
    reject(&mut world, "work");
    assert_eq!((world.queue_info("large").ready, world.queue_info("work").in_flight), (0, 1));
    assert_eq!(world.notices.len(), 1);
    world.drain("small");
    world.pass(1000);
    assert_eq!((world.drain("small"), world.drain("large")), (vec!["m".to_owned()], vec!["m".into()]));
    assert_eq!(world.queue_info("work").in_flight, 0);
}

#[test]
fn a_dead_letter_by_a_route_survives_a_restart_on_its_way() {
    for restart in [World::restart, World::restart_from_snapshot] {
        let mut world = world(|_| ());
        publish(&mut world, "eu.late", |_| ());
        let handed = world.pull(queue("work"), 1, 1000);
        // The answer to the load is lost with the process.
        let rejected = waystation_broker::command::Settlement {
            tag: handed[0].tag,
            attempt: handed[0].attempt,
            outcome: Outcome::Rejected { error: None, class: None },
        };
        let settle =
            waystation_broker::command::Settle { source: queue("work"), settlements: vec![rejected] };
        let transaction =
            waystation_broker::command::Transaction { publishes: vec![], settlements: vec![settle] };
        let command = waystation_broker::Command::Transact(transaction);
        world.shard.handle(world.now, None, command, &mut world.journal, &mut Vec::new());
        restart(&mut world);
        assert_eq!((world.drain("late").len(), world.drain("all").len()), (1, 1));
        assert_eq!(world.queue_info("work").in_flight, 0);
    }
}

#[test]
fn what_consumers_hold_does_not_count_against_the_length() {
    let mut world = World::new();
    world.queue("head", |spec| (spec.max_messages, spec.overflow) = (Some(1), Overflow::DropHead));
    world.queue("refusing", |spec| spec.max_messages = Some(1));
    for queue_name in ["head", "refusing"] {
        world.publish(queue_name, &["a"]);
        assert_eq!(world.pull(queue(queue_name), 1, 60_000).len(), 1);
        world.publish(queue_name, &["b"]);
        assert_eq!(world.queue_info(queue_name).ready, 1, "{queue_name}");
    }
    assert!(matches!(world.publish_with("refusing", "c", |_| ()), Err(Refusal::Full { .. })));
    world.publish("head", &["c"]);
    assert_eq!((world.drain("head"), world.queue_info("head").counters.dropped), (vec!["c".to_owned()], 1));
}
