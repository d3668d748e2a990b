//! What topics and subscriptions do, clause by clause.

mod common;

use common::{World, name, subscription};
use waystation_base::{
    Attempt, Message, Millis, Offset, filter::Filter, limits::PARTITIONS_MAX, partitioner::partition,
};
use waystation_broker::{
    Command, Kind, Refusal,
    command::{Declare, Outcome, Payload, Publish, Seek, Target},
    effect::Notice,
    settle::Leaving,
    spec::{Mode, RouteKind, Spec, Start, SubscriptionSpec, TopicSpec},
};

#[test]
fn each_subscription_gets_its_own_copy_even_of_what_came_while_it_was_away() {
    let mut w = World::new();
    w.topic("t", |_| ());
    w.publish("t", &["0"]);
    w.subscribe("a", "t", |_| ());
    w.subscribe("b", "t", |spec| spec.start = Start::Earliest);
    let a = w.attach(subscription("a"), 9);
    w.publish("t", &["1", "2"]);
    assert_eq!(w.bodies(a), ["1", "2"]);
    assert_eq!((w.subscription_info("a").lag, w.subscription_info("b").lag), (0, 3));
    w.pass(5_000);
    assert_eq!(w.subscription_info("b").lag_ms, 5_000);
    let b = w.attach(subscription("b"), 9);
    assert_eq!(w.bodies(b), ["0", "1", "2"]);
}

#[test]
fn messages_with_a_key_go_where_kafkas_partitioner_puts_them() {
    let mut w = World::new();
    w.topic("t", |spec| spec.partitions = 5);
    for key in ["N14228", "N24211", "N619AA"] {
        let published = w.publish_with("t", "x", |m| m.key = Some(key.into())).expect("published");
        assert_eq!(u32::from(published.stretches[0].0), partition(key.as_bytes(), 5));
    }
    let messages = (0..100).map(|n: u32| {
        let mut message = w.message("x");
        message.key = Some(n.to_string().into());
        message
    });
    let messages = messages.collect();
    let published = w.publish_messages("t", messages).expect("published");
    assert_eq!(published.stretches.iter().map(|stretch| stretch.2).sum::<u32>(), 100);
    assert_eq!(published.stretches.len(), 5);
}

#[test]
fn messages_without_a_key_take_turns() {
    let mut w = World::new();
    w.topic("t", |spec| spec.partitions = 3);
    let turns = (0..4).map(|_| w.publish_with("t", "x", |_| ()).expect("published").stretches[0].0);
    assert_eq!(turns.collect::<Vec<_>>(), [0, 1, 2, 0]);
}

#[test]
fn individual_acknowledgements_survive_a_restart() {
    for snapshot in [false, true] {
        let mut w = World::new();
        w.topic("t", |_| ());
        w.subscribe("s", "t", |_| ());
        let a = w.attach(subscription("s"), 9);
        w.publish("t", &["1", "2", "3", "4"]);
        let handed = w.take(a);
        w.accept(subscription("s"), &handed[1]);
        w.accept(subscription("s"), &handed[3]);
        if snapshot {
            w.restart_from_snapshot()
        } else {
            w.restart()
        }
        let b = w.attach(subscription("s"), 9);
        let handed = w.take(b);
        let seen: Vec<_> = handed.iter().map(|h| (w.body(h), h.attempt)).collect();
        assert_eq!(seen, [("1".into(), Attempt(2)), ("3".into(), Attempt(2))]);
    }
}

#[test]
fn a_filter_passes_over_what_it_does_not_want() {
    let filter: Filter = serde_json::from_str(r#"{"exact":{"type":"late"}}"#).expect("a filter");
    let mut w = World::new();
    w.topic("t", |_| ());
    w.subscribe("s", "t", |spec| spec.filter = Some(filter));
    let publish = |w: &mut World, body: &str, kind: &str| {
        w.publish_with("t", body, |m| m.headers.set("type", kind)).expect("published");
    };
    publish(&mut w, "1", "early");
    publish(&mut w, "2", "late");
    let a = w.attach(subscription("s"), 9);
    publish(&mut w, "3", "early");
    publish(&mut w, "4", "late");
    assert_eq!(w.bodies(a), ["2", "4"]);
    assert_eq!(w.subscription_info("s").sources[0].position, 1);
}

#[test]
fn a_pattern_reads_topics_that_are_there_and_those_to_come() {
    let mut w = World::new();
    w.topic("orders.eu", |_| ());
    w.publish("orders.eu", &["old"]);
    w.subscribe("s", "orders.*", |_| ());
    w.topic("orders.us", |_| ());
    w.topic("other", |_| ());
    let a = w.attach(subscription("s"), 9);
    w.publish("orders.us", &["us"]);
    w.publish("orders.eu", &["eu"]);
    w.publish("other", &["other"]);
    assert_eq!(w.bodies(a), ["us", "eu"]);
    w.delete(Kind::Topic, "orders.us").expect("deleted");
    w.publish("orders.eu", &["eu2"]);
    assert_eq!(w.bodies(a), ["eu2"]);
    w.restart();
    assert_eq!(w.subscription_info("s").sources.len(), 1);
}

#[test]
fn a_subscription_to_a_topic_that_is_not_there_is_refused() {
    let mut w = World::new();
    let spec = Spec::Subscription(waystation_broker::spec::SubscriptionSpec::new("nothing"));
    assert_eq!(w.declare("s", spec), Err(Refusal::NotFound { kind: Kind::Topic, name: "nothing".into() }));
}

#[test]
fn an_ordered_subscription_gives_each_partition_to_one_consumer_in_order() {
    let mut w = World::new();
    w.topic("t", |spec| spec.partitions = 2);
    w.subscribe("s", "t", |spec| spec.mode = Mode::Ordered);
    let (a, b) = (w.attach(subscription("s"), 100), w.attach(subscription("s"), 100));
    for n in 0..20 {
        w.publish("t", &[&n.to_string()]);
    }
    let (of_a, of_b) = (w.take(a), w.take(b));
    for handed in [&of_a, &of_b] {
        assert_eq!(handed.len(), 10);
        assert!(
            handed.windows(2).all(|pair| pair[0].meta.log == pair[1].meta.log && pair[0].tag < pair[1].tag)
        );
    }
    assert_ne!(of_a[0].meta.log, of_b[0].meta.log);
    w.run(Command::Detach(a)).expect("detached");
    let again = w.take(b);
    assert_eq!(again.len(), 10);
    assert!(again.iter().all(|h| h.meta.log == of_a[0].meta.log && h.attempt == Attempt(2)));
}

#[test]
fn ordered_pulls_wait_until_the_partition_is_free() {
    let mut w = World::new();
    w.topic("t", |_| ());
    w.subscribe("s", "t", |spec| spec.mode = Mode::Ordered);
    w.publish("t", &["1", "2", "3"]);
    let first = w.pull(subscription("s"), 2, 1_000);
    assert_eq!(first.len(), 2);
    assert!(w.pull(subscription("s"), 2, 1_000).is_empty());
    first.iter().for_each(|handed| w.accept(subscription("s"), handed));
    let second = w.pull(subscription("s"), 2, 1_000);
    assert_eq!(w.body(&second[0]), "3");
}

#[test]
fn a_seek_goes_back_and_forth_and_voids_what_is_held() {
    let mut w = World::new();
    w.topic("t", |_| ());
    w.subscribe("s", "t", |_| ());
    let a = w.attach(subscription("s"), 9);
    w.publish("t", &["1", "2", "3"]);
    let handed = w.take(a);
    w.accept(subscription("s"), &handed[0]);
    let seek = |offset| Seek { subscription: name("s"), to: vec![(name("t"), 0, Offset(offset))] };
    w.run(Command::Seek(seek(0))).expect("moved");
    assert_eq!(w.bodies(a), ["1", "2", "3"]);
    w.run(Command::Seek(seek(99))).expect("moved");
    assert!(w.bodies(a).is_empty());
    assert_eq!(w.subscription_info("s").lag, 0);
    assert!(w.settle(subscription("s"), &handed[1], Outcome::Accepted).is_err());
    w.restart();
    assert_eq!(w.subscription_info("s").lag, 0);
}

#[test]
fn a_temporary_subscription_goes_with_its_consumer_and_with_the_server() {
    let mut w = World::new();
    w.topic("t", |_| ());
    w.subscribe("s", "t", |spec| spec.temporary = true);
    let a = w.attach(subscription("s"), 9);
    w.run(Command::Detach(a)).expect("detached");
    assert!(w.shard.subscription(&name("s"), w.now).is_none());
    w.subscribe("s", "t", |spec| spec.temporary = true);
    w.restart();
    assert!(w.shard.subscription(&name("s"), w.now).is_none());
    assert!(w.shard.topic(&name("t")).expect("a topic").subscriptions.is_empty());
}

#[test]
fn retention_by_age_lets_old_messages_go_and_tells_who_missed_them() {
    let mut w = World::new();
    w.topic("t", |spec| spec.retention_ms = Some(10_000));
    w.subscribe("s", "t", |_| ());
    w.publish("t", &["1", "2"]);
    w.pass(8_000);
    w.publish("t", &["3"]);
    w.pass(4_000);
    assert_eq!(w.offsets("t"), (Offset(2), Offset(3)));
    assert_eq!(w.notices, [Notice::Overrun { subscription: name("s"), messages: 2 }]);
    w.restart();
    let a = w.attach(subscription("s"), 9);
    assert_eq!(w.bodies(a), ["3"]);
}

#[test]
fn retention_by_size_keeps_the_newest() {
    let mut w = World::new();
    w.topic("t", |spec| spec.retention_bytes = Some(2_000));
    let body = "x".repeat(400);
    (0..20).for_each(|_| w.publish("t", &[&body]));
    w.pass(20_000);
    let (start, end) = w.offsets("t");
    assert!(end.0 == 20 && (15..=17).contains(&start.0), "{start}");
}

#[test]
fn a_start_by_time_passes_over_what_was_before() {
    let mut w = World::new();
    w.topic("t", |_| ());
    w.publish("t", &["1"]);
    w.pass(1_000);
    let time = w.now.0;
    w.publish("t", &["2"]);
    w.subscribe("s", "t", |spec| spec.start = Start::Time(time));
    let a = w.attach(subscription("s"), 9);
    assert_eq!(w.bodies(a), ["2"]);
}

#[test]
fn partitions_may_grow_not_shrink_and_subscriptions_follow() {
    let mut w = World::new();
    w.topic("t", |spec| spec.partitions = 2);
    w.subscribe("s", "t", |_| ());
    let change = |partitions| {
        let spec = Spec::Topic(TopicSpec { partitions, ..TopicSpec::default() });
        let session = waystation_broker::SessionId(0);
        Command::Declare(Declare { name: name("t"), spec, change: true, session })
    };
    assert!(matches!(w.run(change(1)), Err(Refusal::Exists { .. })));
    assert!(matches!(w.run(change(PARTITIONS_MAX + 1)), Err(Refusal::Spec(_))));
    w.run(change(4)).expect("grown");
    assert_eq!(w.subscription_info("s").sources.len(), 4);
    w.restart_from_snapshot();
    assert_eq!(w.subscription_info("s").sources.len(), 4);
}

#[test]
fn a_settled_topic_is_read_on_by_its_subscriptions() {
    let mut w = World::new();
    w.topic("t", |_| ());
    w.subscribe("s", "t", |_| ());
    w.publish("t", &["1", "2", "3"]);
    let handed = w.pull(subscription("s"), 1, 1_000);
    let end = w.end();
    w.settle_all(1, Leaving::Journal(end));
    w.publish("t", &["4"]);
    w.accept(subscription("s"), &handed[0]);
    w.restart_from_snapshot();
    let a = w.attach(subscription("s"), 9);
    assert_eq!(w.bodies(a), ["2", "3", "4"]);
    assert_eq!(w.offsets("t"), (Offset(0), Offset(4)));
}

#[test]
fn a_deletion_is_kept_by_a_compaction_that_leaves_older_messages_out() {
    let mut w = World::new();
    w.topic("t", |spec| (spec.compact, spec.tombstone_retention_ms) = (true, 0));
    w.publish("t", &["1"]);
    let end = w.end();
    w.settle_all(1, Leaving::Journal(end));
    w.publish("t", &["2"]);
    let end = w.end();
    w.settle_all(2, Leaving::Journal(end));
    let moment = |w: &World, files: &[u32]| {
        w.shard.plan(&Leaving::Files(files.to_vec()), w.now).logs[0].compact.expect("compacted")
    };
    assert_eq!(moment(&w, &[1, 2]), w.now);
    assert_eq!(moment(&w, &[2]), waystation_base::Millis(0));
}

#[test]
fn a_topic_refuses_what_is_to_wait_for_its_time() {
    let mut w = World::new();
    w.topic("t", |_| ());
    w.queue("q", |_| ());
    let later = |m: &mut Message| m.deliver_at = Some(Millis::NEVER);
    let refused = Err(Refusal::Undelayable { name: name("t") });
    assert_eq!(w.publish_with("t", "1", later).map(drop), refused.clone());
    // A time that has come delays nothing.
    w.publish_with("t", "2", |m| m.deliver_at = Some(Millis(0))).expect("published");
    let mut one = |body: &str, change: fn(&mut Message)| {
        let mut message = w.message(body);
        change(&mut message);
        let (to, payload) = (Target::Address(name("t")), Payload::One(message));
        Publish { to, partition: None, payload }
    };
    let publishes = vec![one("3", |_| ()), one("4", later), one("5", |_| ())];
    let results: Vec<bool> = w.each(publishes).into_iter().map(|result| result.is_ok()).collect();
    assert_eq!(results, [true, false, true]);
    // By a route that delays, what is stored elsewhere is stored all the same.
    w.route("r", RouteKind::Fanout, |spec| spec.delay_header = Some("x-delay".into()));
    ["t", "q"].iter().for_each(|to| drop(w.bind("r", to, "", "").expect("bound")));
    let delay = |m: &mut Message| m.headers.set("x-delay", 500);
    assert_eq!(w.send("r", "", "6", delay).map(drop), refused);
    assert_eq!((w.queue_info("q").delayed, w.offsets("t").1), (1, Offset(3)));
}

#[test]
fn no_pattern_stands_for_waystations_own_topics_and_those_that_tell_something_are_read_by_name() {
    let mut w = World::new();
    let own = |text: &str| waystation_base::Name::reserved(text).expect("a name");
    let declare = |w: &mut World, name, spec| {
        let session = waystation_broker::SessionId(0);
        w.run(Command::Declare(waystation_broker::command::Declare { name, spec, change: false, session }))
    };
    declare(&mut w, own("$audit"), Spec::Topic(TopicSpec::default())).expect("declared");
    w.subscribe("all", "#", |_| ());
    w.subscribe("named", "$audit", |_| ());
    for name in ["$alerts", "$calls"] {
        declare(&mut w, own(name), Spec::Topic(TopicSpec::default())).expect("declared");
    }
    assert_eq!(w.subscription_info("all").sources.len(), 0);
    assert_eq!(w.subscription_info("named").sources.len(), 1);
    let refused = w.declare("calls", Spec::Subscription(SubscriptionSpec::new("$calls")));
    assert!(matches!(refused, Err(Refusal::Spec(_))), "{refused:?}");
}
