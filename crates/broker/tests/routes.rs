//! Does a route hand on what it should, where it should, once?

mod common;

use common::{World, bind_of, name};
use waystation_base::{
    Headers,
    limits::{BINDINGS_MAX, ROUTING_KEY_BYTES_MAX, ROUTING_KEYS_MAX},
    value::Value,
};
use waystation_broker::{
    Command, Kind, Refusal, Reply,
    command::{Destination, Payload, Publish, Target, Transaction},
    effect::Declared,
    entry,
    spec::RouteKind,
    view::BindingFilter,
};

/// A world with a route of a kind and queues, each bound by a key.
fn world(kind: RouteKind, queues: &[(&str, &str)]) -> World {
    let mut world = World::new();
    world.route("r", kind, |_| ());
    for (queue, key) in queues {
        if world.shard.queue(&name(queue)).is_none() {
            world.queue(queue, |_| ());
        }
        world.bind("r", queue, key, "").expect("bound");
    }
    world
}

fn check(kind: RouteKind, queues: &[(&str, &str)], keys: &str, expected: &[&str]) {
    let mut world = world(kind, queues);
    // Asked one by one, bindings say the same.
    let asked: Vec<_> = keys.split(' ').map(Into::into).collect();
    let bindings = world.shard.bindings(&BindingFilter::Of(name("r")));
    let takers = bindings.iter().filter(|binding| binding.takes(kind, &asked, &Headers::default()));
    let mut takers: Vec<&str> = takers.map(|binding| binding.to.name().as_str()).collect();
    takers.sort_unstable();
    takers.dedup();
    assert_eq!(takers, expected, "{keys}");
    // The second time it is remembered.
    for turn in ["looked up", "remembered"] {
        let published = world.send("r", keys, turn, |_| ()).expect("published");
        assert_eq!(published.copies as usize, expected.len(), "{keys}, {turn}");
        assert_eq!(published.unrouted, u32::from(expected.is_empty()));
        let names: std::collections::BTreeSet<&str> = queues.iter().map(|(queue, _)| *queue).collect();
        for queue in names {
            let got = if expected.contains(&queue) { vec![turn] } else { vec![] };
            assert_eq!(world.drain(queue), got, "{queue} by {keys}, {turn}");
        }
    }
}

#[test]
fn a_direct_route_goes_by_equal_keys() {
    let queues = [("a", "x"), ("b", "x"), ("c", "y"), ("d", "")];
    check(RouteKind::Direct, &queues, "x", &["a", "b"]);
    check(RouteKind::Direct, &queues, "y", &["c"]);
    check(RouteKind::Direct, &queues, "", &["d"]);
    check(RouteKind::Direct, &queues, "z", &[]);
}

#[test]
fn a_fanout_route_goes_everywhere_whatever_the_key() {
    check(RouteKind::Fanout, &[("a", "x"), ("b", "")], "z", &["a", "b"]);
    check(RouteKind::Fanout, &[], "z", &[]);
}

#[test]
fn a_topic_route_goes_by_patterns() {
    let queues = [("a", "orders.*"), ("b", "orders.#"), ("c", "#"), ("d", "orders.eu")];
    check(RouteKind::Topic, &queues, "orders.eu", &["a", "b", "c", "d"]);
    check(RouteKind::Topic, &queues, "orders.eu.late", &["b", "c"]);
    check(RouteKind::Topic, &queues, "flights", &["c"]);
}

#[test]
fn each_place_gets_a_message_once_however_many_bindings_and_keys_match() {
    check(RouteKind::Topic, &[("a", "x.*"), ("a", "*.y"), ("a", "#")], "x.y", &["a"]);
    check(RouteKind::Direct, &[("a", "x"), ("a", "y"), ("b", "y")], "x y x", &["a", "b"]);
    check(RouteKind::Fanout, &[("a", "1"), ("a", "2")], "", &["a"]);
}

#[test]
fn a_headers_route_goes_by_each_messages_own_headers() {
    let mut world = World::new();
    world.route("r", RouteKind::Headers, |_| ());
    for (queue, arguments) in [
        ("all", r#"{"region": "eu", "size": 3}"#),
        ("any", r#"{"x-match": "any", "region": "eu", "size": 4}"#),
    ] {
        world.queue(queue, |_| ());
        world.bind("r", queue, "", arguments).expect("bound");
    }
    let send = |world: &mut World, region: &str, size: i32| {
        let set = |message: &mut waystation_base::Message| {
            message.headers.set("region", region);
            message.headers.set("size", Value::I32(size));
        };
        world.send("r", "", region, set).expect("published").copies
    };
    assert_eq!(send(&mut world, "eu", 3), 2);
    assert_eq!(send(&mut world, "us", 4), 1);
    assert_eq!(send(&mut world, "us", 3), 0);
    assert_eq!(
        (world.drain("all"), world.drain("any")),
        (vec!["eu".to_owned()], vec!["eu".into(), "us".into()])
    );
    let refused = world.bind("r", "all", "", r#"{"x-match": "some"}"#);
    assert!(matches!(refused, Err(Refusal::Spec(_))), "{refused:?}");
}

#[test]
fn a_message_follows_routes_to_routes_and_does_not_go_round() {
    let mut world = world(RouteKind::Fanout, &[("a", "")]);
    world.route("inner", RouteKind::Topic, |_| ());
    world.queue("b", |_| ());
    world.bind("r", ">inner", "", "").expect("bound");
    world.bind("inner", "b", "x.#", "").expect("bound");
    world.bind("inner", "a", "x.#", "").expect("bound");
    world.bind("inner", ">r", "#", "").expect("bound");
    assert_eq!(world.send("r", "x.y", "1", |_| ()).expect("published").copies, 2);
    assert_eq!(world.send("r", "z", "2", |_| ()).expect("published").copies, 1);
    assert_eq!((world.drain("a"), world.drain("b")), (vec!["1".to_owned(), "2".into()], vec!["1".into()]));
    // What the inner route hands on has changed: what was remembered of the outer one does not hold any more.
    world.unbind("inner", "b", "x.#", "").expect("unbound");
    world.send("r", "x.y", "3", |_| ()).expect("published");
    assert_eq!((world.drain("a"), world.drain("b")), (vec!["3".to_owned()], vec![]));
}

#[test]
fn what_no_binding_matches_goes_to_the_alternate_route() {
    let mut world = World::new();
    world.route("rest", RouteKind::Fanout, |_| ());
    world.route("r", RouteKind::Direct, |spec| spec.alternate = Some("rest".into()));
    world.route("lost", RouteKind::Direct, |spec| spec.alternate = Some("nowhere".into()));
    ["a", "b"].iter().for_each(|queue| world.queue(queue, |_| ()));
    world.bind("r", "a", "x", "").expect("bound");
    world.bind("rest", "b", "", "").expect("bound");
    world.send("r", "x", "1", |_| ()).expect("published");
    assert_eq!(world.send("r", "y", "2", |_| ()).expect("published").unrouted, 0);
    assert_eq!((world.drain("a"), world.drain("b")), (vec!["1".to_owned()], vec!["2".into()]));
    assert_eq!(world.send("lost", "y", "3", |_| ()).expect("published").unrouted, 1);
    // It comes to be later.
    world.route("nowhere", RouteKind::Fanout, |_| ());
    world.bind("nowhere", "a", "", "").expect("bound");
    assert_eq!(world.send("lost", "y", "4", |_| ()).expect("published").unrouted, 0);
    assert_eq!(world.drain("a"), ["4"]);
}

#[test]
fn a_route_leads_to_topics_too_and_has_a_name_of_its_own() {
    let mut world = World::new();
    world.topic("log", |spec| spec.partitions = 3);
    world.route("log", RouteKind::Fanout, |_| ());
    world.bind("log", "log", "", "").expect("bound");
    for n in 0..9 {
        world.send("log", "", &n.to_string(), |_| ()).expect("published");
    }
    let info = world.shard.topic(&name("log")).expect("a topic");
    assert_eq!(info.partitions.iter().map(|partition| partition.end_offset).sum::<u64>(), 9);
    assert_eq!(world.shard.route(&name("log")).map(|route| (route.published, route.unrouted)), Some((9, 0)));
}

#[test]
fn binding_twice_changes_nothing_and_other_arguments_make_another_binding() {
    let mut world = world(RouteKind::Direct, &[("a", "x")]);
    assert_eq!(world.bind("r", "a", "x", ""), Ok(Reply::Declared(Declared::Unchanged)));
    assert_eq!(world.bind("r", "a", "x", r#"{"n": 1}"#), Ok(Reply::Declared(Declared::Created)));
    assert_eq!(world.shard.route(&name("r")).expect("a route").bindings, 2);
    assert_eq!(world.unbind("r", "a", "x", ""), Ok(Reply::Removed(1)));
    assert_eq!(world.unbind("r", "a", "x", ""), Ok(Reply::Removed(0)));
    assert_eq!(world.send("r", "x", "1", |_| ()).expect("published").copies, 1);
    assert_eq!(world.unbind("r", "a", "x", r#"{"n": 1}"#), Ok(Reply::Removed(1)));
    assert_eq!(world.send("r", "x", "2", |_| ()).expect("published").unrouted, 1);
}

#[test]
fn what_is_not_there_is_refused_by_its_name_and_kind() {
    let mut world = world(RouteKind::Direct, &[("a", "x")]);
    let missing = |kind, name: &str| Err(Refusal::NotFound { kind, name: name.into() });
    assert_eq!(world.bind("none", "a", "", ""), missing(Kind::Route, "none"));
    assert_eq!(world.bind("r", "none", "", ""), missing(Kind::Queue, "none"));
    assert_eq!(world.bind("r", ">none", "", ""), missing(Kind::Route, "none"));
    assert_eq!(world.send("none", "", "", |_| ()).map(drop), missing(Kind::Route, "none").map(drop));
    world.route("inside", RouteKind::Fanout, |spec| spec.internal = true);
    world.bind("r", ">inside", "y", "").expect("bound");
    world.bind("inside", "a", "", "").expect("bound");
    assert_eq!(world.send("inside", "", "", |_| ()), Err(Refusal::Internal { name: name("inside") }));
    assert_eq!(world.send("r", "y", "1", |_| ()).expect("published").copies, 1);
}

#[test]
fn deleting_one_end_removes_the_binding_and_a_passing_route_goes_with_its_last_one() {
    let mut world = World::new();
    world.route("outer", RouteKind::Fanout, |spec| spec.auto_delete = true);
    world.route("inner", RouteKind::Fanout, |spec| spec.auto_delete = true);
    ["a", "b"].iter().for_each(|queue| world.queue(queue, |_| ()));
    world.bind("outer", ">inner", "", "").expect("bound");
    world.bind("inner", "a", "", "").expect("bound");
    world.bind("inner", "b", "1", "").expect("bound");
    world.bind("inner", "b", "2", "").expect("bound");
    let routes = |world: &World| world.shard.names(Kind::Route, None, 9).len();
    world.delete(Kind::Queue, "b").expect("deleted");
    assert_eq!((routes(&world), world.shard.bindings(&BindingFilter::All).len()), (2, 2));
    // A new queue of that name is another one.
    world.queue("b", |_| ());
    assert_eq!(world.send("outer", "", "1", |_| ()).expect("published").copies, 1);
    // The last binding takes the inner route with it, and that one the outer.
    world.delete(Kind::Queue, "a").expect("deleted");
    assert_eq!((routes(&world), world.shard.bindings(&BindingFilter::All).len()), (0, 0));
    world.restart();
    assert_eq!(routes(&world), 0);
}

#[test]
fn a_route_in_use_can_be_kept_from_being_deleted() {
    let mut world = world(RouteKind::Direct, &[("a", "x")]);
    let delete = |if_unused| {
        let session = waystation_broker::SessionId(0);
        let (kind, name) = (Kind::Route, name("r"));
        Command::Delete(waystation_broker::command::Delete {
            kind,
            name,
            if_unused,
            if_empty: false,
            counted: waystation_broker::command::Counted::All,
            session,
        })
    };
    assert!(matches!(world.run(delete(true)), Err(Refusal::InUse { .. })));
    assert_eq!(world.run(delete(false)), Ok(Reply::Removed(0)));
    assert_eq!(world.shard.bindings(&BindingFilter::All), []);
}

#[test]
fn routes_and_bindings_are_there_after_a_restart_unless_they_are_to_pass() {
    let mut world = world(RouteKind::Topic, &[("a", "x.#"), ("b", "*.y")]);
    world.route("inner", RouteKind::Headers, |_| ());
    world.bind("inner", "a", "k", r#"{"x-match": "any", "n": 1}"#).expect("bound");
    world.bind("r", ">inner", "#", "").expect("bound");
    world.route("passing", RouteKind::Fanout, |spec| spec.durable = false);
    world.bind("passing", "a", "", "").expect("bound");
    world.bind("r", ">passing", "#", "").expect("bound");
    world.queue("passing", |spec| spec.durable = false);
    world.bind("inner", "passing", "", "").expect("bound");
    let kept = |world: &World| {
        let mut all = world.shard.bindings(&BindingFilter::All);
        all.retain(|binding| binding.route.as_str() != "passing" && binding.to.name().as_str() != "passing");
        all
    };
    let before = kept(&world);
    assert_eq!(before.len(), 4);
    for restart in [World::restart, World::restart_from_snapshot, World::restart] {
        restart(&mut world);
        assert_eq!(world.shard.bindings(&BindingFilter::All), before);
        assert_eq!(world.shard.route(&name("passing")), None);
        assert!(world.shard.queue(&name("passing")).is_none());
        let send = world.send("r", "x.y", "1", |m| m.headers.set("n", 1)).expect("published");
        assert_eq!(send.copies, 2);
    }
    world.unbind("r", "b", "*.y", "").expect("unbound");
    world.restart();
    assert_eq!(world.send("r", "x.y", "1", |_| ()).expect("published").copies, 1);
}

#[test]
fn bindings_are_seen_by_either_end() {
    let mut world = world(RouteKind::Direct, &[("a", "2"), ("b", "1"), ("a", "1")]);
    world.route("other", RouteKind::Fanout, |_| ());
    world.bind("other", "a", "", "").expect("bound");
    world.bind("r", ">other", "3", "").expect("bound");
    let seen = |filter| {
        let all = world.shard.bindings(&filter);
        let text = |b: &waystation_broker::view::Binding| format!("{}-{}>{}", b.route, b.key, b.to.name());
        all.iter().map(text).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(seen(BindingFilter::All), "other->a r-2>a r-1>b r-1>a r-3>other");
    assert_eq!(seen(BindingFilter::Of(name("r"))), "r-2>a r-1>b r-1>a r-3>other");
    assert_eq!(seen(BindingFilter::To(Destination::Address(name("a")))), "other->a r-2>a r-1>a");
    assert_eq!(seen(BindingFilter::To(Destination::Route(name("other")))), "r-3>other");
    assert_eq!(seen(BindingFilter::Of(name("none"))), "");
}

#[test]
fn a_transaction_by_a_route_takes_effect_everywhere_or_nowhere() {
    let mut world = world(RouteKind::Fanout, &[("a", ""), ("b", "")]);
    world.queue("full", |spec| spec.max_messages = Some(1));
    world.bind("r", "full", "", "").expect("bound");
    let transact = |world: &mut World, bodies: [&str; 2]| {
        let messages = bodies.map(|body| world.message(body)).to_vec();
        let to = Target::Route { route: name("r"), keys: Default::default(), told: false };
        let publishes = vec![Publish { to, partition: None, payload: Payload::Messages(messages) }];
        world.run(Command::Transact(Transaction { publishes, settlements: vec![] }))
    };
    assert!(matches!(transact(&mut world, ["1", "2"]), Err(Refusal::Full { .. })));
    assert_eq!((world.drain("a"), world.drain("full")), (vec![], vec![]));
    world.unbind("r", "full", "", "").expect("unbound");
    transact(&mut world, ["3", "4"]).expect("committed");
    assert_eq!(
        (world.drain("a"), world.drain("b")),
        (vec!["3".to_owned(), "4".into()], vec!["3".into(), "4".into()])
    );
}

#[test]
fn what_stands_alone_is_stored_where_there_is_room_and_refused_for_the_rest() {
    let mut world = world(RouteKind::Fanout, &[("a", "")]);
    world.queue("full", |spec| spec.max_messages = Some(1));
    world.bind("r", "full", "", "").expect("bound");
    let results: Vec<_> = ["1", "2"].map(|body| world.send("r", "", body, |_| ())).into_iter().collect();
    assert_eq!(results[0].as_ref().map(|published| published.copies), Ok(2));
    assert!(matches!(results[1], Err(Refusal::Full { .. })));
    assert_eq!((world.drain("a"), world.drain("full")), (vec!["1".to_owned(), "2".into()], vec!["1".into()]));
}

fn publish(world: &mut World, to: &str, body: &str) -> Publish {
    let payload = Payload::One(world.message(body));
    let to = match to.strip_prefix('>') {
        Some(route) => {
            let keys = ["k".into()].into_iter().collect();
            Target::Route { route: name(route), keys, told: false }
        }
        None => Target::Address(name(to)),
    };
    Publish { to, partition: None, payload }
}

#[test]
fn each_publish_is_answered_in_its_place_whatever_became_of_its_neighbours() {
    let mut world = world(RouteKind::Direct, &[("a", "k")]);
    world.queue("small", |spec| spec.max_messages = Some(2));
    world.topic("log", |_| ());
    let to = [">r", "a", "none", "small", "small", "small", "log", "log", ">none", ">r", "small"];
    let publishes = to.iter().enumerate().map(|(n, to)| publish(&mut world, to, &n.to_string())).collect();
    let results = world.each(publishes);
    let said: Vec<String> = results
        .iter()
        .map(|result| match result {
            Ok(published) if published.copies > 0 => "routed".into(),
            Ok(published) => published.stretches.iter().map(|(_, first, n)| format!("{first}+{n}")).collect(),
            Err(Refusal::NotFound { kind, .. }) => format!("no {kind}"),
            Err(Refusal::Full { .. }) => "full".into(),
            Err(other) => other.to_string(),
        })
        .collect();
    let expected =
        ["routed", "1+1", "no queue", "0+1", "1+1", "full", "0+1", "1+1", "no route", "routed", "full"];
    assert_eq!(said, expected);
    assert_eq!(
        (world.drain("a"), world.drain("small")),
        (vec!["0".to_owned(), "1".into(), "9".into()], vec!["3".into(), "4".into()])
    );
    world.restart();
    assert_eq!(world.offsets("log").1.0, 2);
}

#[test]
fn neighbours_that_go_the_same_way_share_one_entry_in_each_place() {
    let mut world = world(RouteKind::Fanout, &[("a", ""), ("b", "")]);
    let entries = |world: &World| {
        world.journal.list.iter().filter(|(_, kind, _)| *kind == entry::kind::PUBLISH).count()
    };
    let publishes = (0..100).map(|n| publish(&mut world, ">r", &n.to_string())).collect();
    let results = world.each(publishes);
    assert!(results.iter().all(|result| result.as_ref().is_ok_and(|published| published.copies == 2)));
    assert_eq!(entries(&world), 2);
    let bodies: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!((world.drain("a"), world.drain("b")), (bodies.clone(), bodies));
    // Another priority is another log.
    let mut publishes: Vec<_> = (0..4).map(|n| publish(&mut world, "a", &n.to_string())).collect();
    if let Payload::One(message) = &mut publishes[2].payload {
        message.priority = 5;
    }
    world.each(publishes);
    assert_eq!(entries(&world), 5);
    assert_eq!(world.drain("a"), ["2", "0", "1", "3"]);
}

#[test]
fn many_large_neighbours_make_several_entries() {
    let mut world = World::new();
    world.queue("a", |_| ());
    let large = "x".repeat(100_000);
    let publishes = (0..7).map(|_| publish(&mut world, "a", &large)).collect();
    assert!(world.each(publishes).iter().all(Result::is_ok));
    let of = |(_, kind, payload): &(_, u8, Vec<u8>)| (*kind == entry::kind::PUBLISH).then_some(payload.len());
    let sizes: Vec<usize> = world.journal.list.iter().filter_map(of).collect();
    assert_eq!(sizes.len(), 4);
    assert!(sizes.iter().all(|size| *size < 300_000), "{sizes:?}");
}

#[test]
fn a_time_to_live_and_deduplication_hold_by_way_of_a_route() {
    let mut world = World::new();
    world.route("r", RouteKind::Fanout, |_| ());
    world.queue("brief", |spec| spec.ttl_ms = Some(50));
    world.queue("once", |spec| spec.deduplication_ms = Some(1000));
    world.queue("plain", |_| ());
    ["brief", "once", "plain"].iter().for_each(|queue| drop(world.bind("r", queue, "", "").expect("bound")));
    let copies: Vec<u32> = ["1", "2"]
        .map(|body| {
            world.send("r", "", body, |m| m.headers.set("message-id", "same")).expect("published").copies
        })
        .into();
    assert_eq!(copies, [3, 2]);
    world.pass(50);
    assert_eq!(world.drain("brief"), Vec::<String>::new());
    assert_eq!((world.drain("once"), world.drain("plain").len()), (vec!["1".to_owned()], 2));
}

#[test]
fn a_route_that_delays_holds_a_message_back_and_says_that_it_did() {
    let mut world = World::new();
    world.route("later", RouteKind::Direct, |spec| spec.delay_header = Some("x-delay".into()));
    world.queue("a", |_| ());
    world.bind("later", "a", "k", "").expect("bound");
    world.send("later", "k", "1", |m| m.headers.set("x-delay", Value::I32(500))).expect("published");
    world.send("later", "k", "2", |m| m.headers.set("x-delay", Value::I32(-500))).expect("published");
    world.send("later", "k", "3", |_| ()).expect("published");
    assert_eq!(world.drain("a"), ["2", "3"]);
    world.pass(499);
    assert_eq!(world.queue_info("a").delayed, 1);
    world.pass(1);
    let messages = world.drain_messages("a");
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].headers.get("x-delay").and_then(Value::as_i64), Some(-500));
}

#[test]
fn priorities_past_max_priority_are_one_and_kept_as_they_were_sent() {
    let mut world = World::new();
    world.queue("two", |spec| spec.max_priority = 1);
    world.queue("plain", |spec| spec.max_priority = 0);
    for queue in ["two", "plain"] {
        for (body, priority) in [("a", 0), ("b", 9), ("c", 1), ("d", 255)] {
            world.publish_with(queue, body, |message| message.priority = priority).expect("published");
        }
    }
    let messages = world.drain_messages("two");
    let of = |m: &waystation_base::Message| (m.body[0], m.priority);
    assert_eq!(messages.iter().map(of).collect::<Vec<_>>(), [(b'b', 9), (b'c', 1), (b'd', 255), (b'a', 0)]);
    assert_eq!(world.drain("plain"), ["a", "b", "c", "d"]);
}

#[test]
fn keys_may_be_as_long_and_as_many_as_their_limits() {
    let mut world = world(RouteKind::Direct, &[("a", "x")]);
    let longest = "k".repeat(ROUTING_KEY_BYTES_MAX);
    world.bind("r", "a", &longest, "").expect("bound");
    assert_eq!(world.send("r", &longest, "1", |_| ()).expect("published").copies, 1);
    let longer = longest + "k";
    assert!(matches!(world.bind("r", "a", &longer, ""), Err(Refusal::TooLarge { .. })));
    assert!(matches!(world.send("r", &longer, "1", |_| ()), Err(Refusal::TooLarge { .. })));
    let many = vec!["x"; ROUTING_KEYS_MAX];
    assert_eq!(world.send("r", &many.join(" "), "1", |_| ()).expect("published").copies, 1);
    assert!(matches!(world.send("r", &(many.join(" ") + " x"), "1", |_| ()), Err(Refusal::TooLarge { .. })));
}

#[test]
fn there_may_be_bindings_max_bindings() {
    let mut world = world(RouteKind::Direct, &[("a", "x")]);
    let mut effects = Vec::new();
    for n in 1..BINDINGS_MAX {
        let bind = Command::Bind(bind_of("r", "a", &n.to_string(), ""));
        world.shard.handle(world.now, None, bind, &mut world.journal, &mut effects);
    }
    assert_eq!(world.shard.route(&name("r")).map(|route| route.bindings), Some(BINDINGS_MAX as u64));
    let refused = world.bind("r", "a", "one more", "");
    assert!(matches!(refused, Err(Refusal::Limit { what: "bindings", .. })), "{refused:?}");
    world.unbind("r", "a", "7", "").expect("unbound");
    world.bind("r", "a", "one more", "").expect("bound");
}
