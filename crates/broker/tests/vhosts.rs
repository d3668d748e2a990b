//! Limits of a virtual host over all its queues and subscriptions.

mod common;

use common::{World, name, queue, subscription};
use waystation_base::ConsumerId;
use waystation_broker::{
    Command, Kind, Refusal,
    command::{Hold, Outcome},
    effect::Closed,
    spec::{MessageRate, QueueSpec, Spec, TopicSpec, VhostLimits},
    view::HeldBack,
};

fn limit(world: &mut World, host: &str, limits: VhostLimits) {
    world.run(Command::LimitVhost { host: host.to_owned(), limits }).expect("limited");
}

fn concurrency(most: u32) -> VhostLimits {
    VhostLimits { concurrency: Some(most), ..VhostLimits::default() }
}

fn rate(messages: u32, per_ms: u64) -> VhostLimits {
    VhostLimits { rate: Some(MessageRate { messages, per_ms, burst: Some(1) }), ..VhostLimits::default() }
}

/// Two queues of `v` and one of another virtual host, with messages.
fn world() -> World {
    let mut world = World::new();
    for of in ["v::a", "v::b", "free"] {
        world.queue(of, |_| ());
        let body = of.rsplit(':').next().expect("a part");
        world.publish(of, &["1", "2", "3", "4"].map(|n| format!("{body}{n}")).each_ref().map(|s| s.as_str()));
    }
    world
}

fn ready(world: &World) -> [u64; 3] {
    ["v::a", "v::b", "free"].map(|of| world.queue_info(of).ready)
}

#[test]
fn what_a_virtual_host_may_not_hold_waits_and_says_why_while_others_go_on() {
    let mut w = world();
    limit(&mut w, "v", concurrency(3));
    let all = ["v::a", "v::b", "free"].map(|of| w.attach(queue(of), 10));
    assert_eq!(all.map(|consumer| w.take(consumer).len()), [3, 0, 4]);
    assert_eq!(ready(&w), [1, 4, 0]);
    for of in ["v::a", "v::b"] {
        assert_eq!(w.queue_info(of).held_back, [HeldBack::VhostConcurrency], "{of}");
    }
    let info = w.shard.vhosts(w.now);
    assert_eq!((info[0].name.as_str(), info[0].held, info[0].queues), ("v", 3, 2));
    assert_eq!(info[0].held_back, Some(HeldBack::VhostConcurrency));
}

#[test]
fn room_goes_around_among_its_queues_and_subscriptions() {
    let mut w = world();
    w.topic("v::t", |_| ());
    w.subscribe("v::s", "v::t", |_| ());
    w.publish("v::t", &["s1", "s2"]);
    limit(&mut w, "v", concurrency(1));
    let places = [queue("v::a"), queue("v::b"), subscription("v::s")];
    let consumers = places.clone().map(|of| w.attach(of, 10));
    let mut came = Vec::new();
    for _ in 0..8 {
        for (consumer, of) in consumers.iter().zip(&places) {
            for handed in w.take(*consumer) {
                came.push(w.body(&handed));
                w.accept(of.clone(), &handed);
            }
        }
    }
    came.truncate(8);
    // The first was turned away for its second message before the others came; from then on they take turns.
    assert_eq!(came, ["a1", "a2", "b1", "s1", "a3", "b2", "s2", "a4"]);
}

#[test]
fn a_rate_holds_over_all_its_queues_and_time_lets_the_next_one_go() {
    let mut w = world();
    limit(&mut w, "v", rate(10, 1_000));
    let consumers = ["v::a", "v::b"].map(|of| w.attach(queue(of), 10));
    let came = |w: &mut World| consumers.map(|consumer| w.take(consumer).len());
    assert_eq!(came(&mut w), [1, 0]);
    assert_eq!(w.queue_info("v::b").held_back, [HeldBack::VhostRate]);
    w.pass(99);
    assert_eq!(came(&mut w), [0, 0]);
    w.pass(1);
    assert_eq!(came(&mut w), [1, 0], "it has stood in line for longer");
    w.pass(100);
    assert_eq!(came(&mut w), [0, 1]);
    w.pass(100);
    assert_eq!(came(&mut w), [1, 0], "and so on in turn");
}

#[test]
fn who_gets_one_by_one_has_a_turn_beside_consumers_that_never_stop() {
    let mut w = world();
    w.topic("v::t", |_| ());
    w.subscribe("v::s", "v::t", |_| ());
    w.publish("v::t", &["s"; 50]);
    limit(&mut w, "v", rate(10, 1_000));
    let stream =
        w.attach_with(subscription("v::s"), 50, |attach| attach.hold = Hold::None).expect("attached");
    assert_eq!(w.take(stream).len(), 1);
    let mut came = Vec::new();
    for _ in 0..3 {
        let get = w.attach_with(queue("v::a"), 1, |attach| attach.hold = Hold::Once).expect("attached");
        (0..3).for_each(|_| w.pass(100));
        came.extend(w.bodies(get));
        assert!(w.closed.contains(&(get, Closed::PullEnded)));
    }
    assert_eq!(came, ["a1", "a2", "a3"], "in turn with the stream");
    assert_eq!(w.take(stream).len(), 6, "and all else goes to the stream");
}

#[test]
fn who_gets_one_waits_for_the_virtual_hosts_limit_so_long_and_no_longer() {
    let mut w = world();
    limit(&mut w, "v", concurrency(1));
    let holder = w.attach(queue("v::b"), 1);
    let held = w.take(holder);
    let get = |w: &mut World| w.attach_with(queue("v::a"), 1, |it| it.hold = Hold::Once).expect("attached");
    let first = get(&mut w);
    w.pass(1_999);
    assert!(!w.closed.contains(&(first, Closed::PullEnded)));
    w.pass(1);
    assert!(w.closed.contains(&(first, Closed::PullEnded)) && w.take(first).is_empty());
    let second = get(&mut w);
    w.accept(queue("v::b"), &held[0]);
    assert_eq!((w.bodies(second), w.take(holder).len()), (vec!["a1".to_owned()], 0), "it came first");
    let all = w.attach(queue("free"), 9);
    assert_eq!(w.take(all).len(), 4);
    let empty = w.attach_with(queue("free"), 1, |it| it.hold = Hold::Once).expect("attached");
    assert!(w.closed.contains(&(empty, Closed::PullEnded)), "where nothing limits it nobody waits");
}

#[test]
fn a_message_let_go_in_any_way_makes_room_for_another_queue() {
    let outcomes = [
        Outcome::Rejected { error: None, class: None },
        Outcome::Requeued { delay_ms: 60_000 },
        Outcome::Accepted,
    ];
    for outcome in outcomes {
        let mut w = world();
        limit(&mut w, "v", concurrency(1));
        let (a, b) = (w.attach(queue("v::a"), 1), w.attach(queue("v::b"), 1));
        let handed = w.take(a);
        w.run(Command::Cancel(a)).expect("cancelled");
        w.settle(queue("v::a"), &handed[0], outcome.clone()).expect("settled");
        assert_eq!(w.bodies(b), ["b1"], "after {outcome:?}");
    }
}

#[test]
fn a_lease_that_ends_and_a_queue_that_goes_make_room() {
    let mut w = world();
    limit(&mut w, "v", concurrency(2));
    let pull = w.attach_with(queue("v::a"), 1, |attach| {
        attach.hold = Hold::Pull { lease_ms: Some(500), until: waystation_base::Millis(u64::MAX / 2) };
    });
    assert_eq!(w.take(pull.expect("pulled")).len(), 1);
    let b = w.attach(queue("v::b"), 10);
    assert_eq!(w.take(b).len(), 1);
    w.pass(500);
    assert_eq!(w.take(b).len(), 1, "the lease is over");
    w.queue("v::c", |_| ());
    w.publish("v::c", &["c1"]);
    let c = w.attach(queue("v::c"), 1);
    assert!(w.take(c).is_empty());
    w.delete(Kind::Queue, "v::b").expect("deleted");
    assert_eq!(w.take(c).len(), 1, "what was held of it counts no more");
}

#[test]
fn limits_that_come_later_count_what_is_held_and_go_without_a_trace() {
    let mut w = world();
    let a = w.attach(queue("v::a"), 3);
    assert_eq!(w.take(a).len(), 3);
    limit(&mut w, "v", concurrency(3));
    let b = w.attach(queue("v::b"), 9);
    assert!(w.take(b).is_empty());
    limit(&mut w, "v", concurrency(4));
    assert_eq!(w.take(b).len(), 1);
    limit(&mut w, "v", VhostLimits::default());
    assert_eq!(w.take(b).len(), 3);
    assert!(w.shard.vhosts(w.now).is_empty());
}

#[test]
fn what_is_accepted_as_it_is_handed_out_counts_for_the_rate_alone() {
    let mut w = world();
    limit(&mut w, "v", VhostLimits { concurrency: Some(1), ..rate(2, 1_000) });
    let consumer = w.attach_with(queue("v::a"), 9, |attach| attach.hold = Hold::None).expect("attached");
    assert_eq!(w.take(consumer).len(), 1);
    for _ in 0..3 {
        w.pass(500);
        assert_eq!(w.take(consumer).len(), 1);
    }
    assert_eq!(w.shard.vhosts(w.now)[0].held, 0);
}

#[test]
fn fair_shares_of_a_virtual_host_wait_with_it() {
    let mut w = World::new();
    w.topic("v::t", |_| ());
    w.subscribe("v::s", "v::t", |spec| {
        spec.fair = Some(Box::new(waystation_broker::spec::Fair {
            header: "tenant".to_owned(),
            ..Default::default()
        }));
    });
    w.publish("v::t", &["1", "2"]);
    limit(&mut w, "v", concurrency(1));
    let consumer: ConsumerId = w.attach(subscription("v::s"), 9);
    let handed = w.take(consumer);
    assert_eq!(handed.len(), 1);
    assert_eq!(w.subscription_info("v::s").held_back, [HeldBack::VhostConcurrency]);
    w.accept(subscription("v::s"), &handed[0]);
    assert_eq!(w.bodies(consumer), ["2"]);
}

#[test]
fn queues_and_topics_stand_at_their_limit_and_are_refused_past_it() {
    let mut w = world();
    limit(&mut w, "v", VhostLimits { max_queues: Some(3), ..VhostLimits::default() });
    let declare = |w: &mut World, of: &str, spec: Spec| w.declare(of, spec);
    declare(&mut w, "v::t", Spec::Topic(TopicSpec::default())).expect("the third");
    let full = Err(Refusal::VhostFull { vhost: "v".to_owned(), limit: 3 });
    assert_eq!(declare(&mut w, "v::c", Spec::Queue(QueueSpec::default())), full);
    assert_eq!(declare(&mut w, "v::u", Spec::Topic(TopicSpec::default())), full);
    declare(&mut w, "v::a", Spec::Queue(QueueSpec::default())).expect("it is there already");
    declare(&mut w, "c", Spec::Queue(QueueSpec::default())).expect("elsewhere");
    w.delete(Kind::Queue, "v::a").expect("deleted");
    declare(&mut w, "v::c", Spec::Queue(QueueSpec::default())).expect("there is room");
    limit(&mut w, "v", VhostLimits { max_queues: Some(1), ..VhostLimits::default() });
    assert!(w.shard.queue(&name("v::b")).is_some(), "what is there stays");
}

#[test]
fn limits_are_checked() {
    let mut w = World::new();
    let limits =
        VhostLimits { rate: Some(MessageRate { messages: 0, per_ms: 1, burst: None }), ..concurrency(1) };
    for limits in [concurrency(0), limits] {
        let refused = w.run(Command::LimitVhost { host: "v".to_owned(), limits });
        assert!(matches!(refused, Err(Refusal::Spec(_))), "{refused:?}");
    }
}

#[test]
fn the_sources_of_a_subscription_take_turns_under_a_limit() {
    let mut w = World::new();
    w.topic("v::t", |spec| spec.partitions = 4);
    w.subscribe("v::s", "v::t", |_| ());
    for n in 0..40 {
        w.publish("v::t", &[n.to_string().as_str()]);
    }
    limit(&mut w, "v", concurrency(1));
    let consumer = w.attach(subscription("v::s"), 10);
    let mut of_source = [0; 4];
    for _ in 0..12 {
        for handed in w.take(consumer) {
            of_source[usize::from(handed.tag.log())] += 1;
            w.accept(subscription("v::s"), &handed);
        }
    }
    assert_eq!(of_source, [3; 4]);
}

#[test]
fn what_reads_a_stream_for_a_client_belongs_to_the_streams_virtual_host() {
    for is_limited_first in [true, false] {
        let mut w = World::new();
        w.topic("v::t", |_| ());
        if is_limited_first {
            limit(&mut w, "v", concurrency(1));
        }
        w.subscribe("$amqp/stream1", "v::t", |_| ());
        w.publish("v::t", &["1", "2", "3"]);
        if !is_limited_first {
            limit(&mut w, "v", concurrency(1));
        }
        let consumer = w.attach(subscription("$amqp/stream1"), 10);
        assert_eq!(w.take(consumer).len(), 1);
        assert_eq!(w.shard.vhosts(w.now)[0].held, 1);
    }
}

#[test]
fn a_rate_that_is_raised_holds_at_once() {
    let mut w = world();
    limit(&mut w, "v", rate(1, 3_600_000));
    let consumer = w.attach(queue("v::a"), 10);
    assert_eq!(w.take(consumer).len(), 1);
    limit(&mut w, "v", rate(100, 1_000));
    assert_eq!(w.take(consumer).len(), 0);
    w.pass(10);
    assert_eq!(w.take(consumer).len(), 1);
}
