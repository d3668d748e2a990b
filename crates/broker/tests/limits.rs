//! What happens at each bound of the shard, and one past it.

mod common;

use common::{World, name, queue, subscription};
use waystation_base::limits::{
    ACKED_RANGES_MAX, CONSUMERS_MAX, CREDIT_MAX, DELAYED_MESSAGES_MAX, ENTITIES_MAX, LEASE_MS_MAX,
    MESSAGE_BYTES_MAX, PARKED_MESSAGES_MAX, PARTITIONS_MAX, PUBLISH_MESSAGES_MAX, RETRIES_WAITING_MAX,
    SUBSCRIPTION_LOGS_MAX, WINDOW_MESSAGES_MAX,
};
use waystation_broker::{
    Command, Effect, Kind, Refusal,
    command::{Extend, Failure, Outcome, Payload, Publish, Settle, Settlement, Transaction},
    spec::{Order, Overflow, QueueSpec, RetryPolicy, Spec, SubscriptionSpec},
};

#[test]
fn a_publish_may_have_publish_messages_max_messages() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let messages = vec![w.message(""); PUBLISH_MESSAGES_MAX];
    assert!(w.publish_messages("q", messages.clone()).is_ok());
    let one_more = vec![w.message("")];
    let refused = w.publish_messages("q", [messages, one_more].concat());
    assert!(matches!(refused, Err(Refusal::TooLarge { what: "messages in one publish", .. })), "{refused:?}");
    assert_eq!(w.queue_info("q").ready, PUBLISH_MESSAGES_MAX as u64);
}

#[test]
fn a_publish_whose_messages_are_too_much_together_is_refused() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let message = w.message(&"x".repeat(MESSAGE_BYTES_MAX));
    assert!(w.publish_messages("q", vec![message.clone()]).is_ok());
    let refused = w.publish_messages("q", vec![message.clone(), message]);
    assert!(matches!(refused, Err(Refusal::TooLarge { what: "bytes in one publish", .. })), "{refused:?}");
}

#[test]
fn there_may_be_entities_max_queues() {
    let mut w = World::new();
    for n in 0..ENTITIES_MAX {
        w.queue(&format!("q{n}"), |_| ());
    }
    let refused = w.declare("more", Spec::Queue(QueueSpec::default()));
    assert!(matches!(refused, Err(Refusal::Limit { limit, .. }) if limit == ENTITIES_MAX as u64));
}

#[test]
fn a_subscription_may_read_subscription_logs_max_partitions() {
    let mut w = World::new();
    let whole = SUBSCRIPTION_LOGS_MAX / PARTITIONS_MAX as usize;
    for n in 0..whole {
        w.topic(&format!("t.{n}"), |spec| spec.partitions = PARTITIONS_MAX);
    }
    let rest = (SUBSCRIPTION_LOGS_MAX % PARTITIONS_MAX as usize) as u32;
    w.topic("t.rest", |spec| spec.partitions = rest);
    w.subscribe("fits", "t.*", |_| ());
    assert_eq!(w.subscription_info("fits").sources.len(), SUBSCRIPTION_LOGS_MAX);
    w.topic("t.more", |_| ());
    assert_eq!(w.subscription_info("fits").sources.len(), SUBSCRIPTION_LOGS_MAX);
    let refused = w.declare("more", Spec::Subscription(SubscriptionSpec::new("t.*")));
    assert!(matches!(refused, Err(Refusal::Limit { .. })), "{refused:?}");
}

#[test]
fn a_queue_may_have_consumers_max_consumers_of_credit_max_credit() {
    let mut w = World::new();
    w.queue("q", |_| ());
    for _ in 0..CONSUMERS_MAX {
        w.attach(queue("q"), CREDIT_MAX);
    }
    let refused = w.attach_with(queue("q"), 1, |_| ());
    assert!(matches!(refused, Err(Refusal::Limit { .. })), "{refused:?}");
    w.queue("other", |_| ());
    let refused = w.attach_with(queue("other"), CREDIT_MAX + 1, |_| ());
    assert!(matches!(refused, Err(Refusal::TooLarge { what: "credit", .. })), "{refused:?}");
}

#[test]
fn past_the_window_messages_stay_where_they_are_and_come_in_order() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let a = w.attach(queue("q"), 1);
    let count = WINDOW_MESSAGES_MAX * 2 + 1;
    for n in 0..count {
        w.publish("q", &[&n.to_string()]);
    }
    for n in 0..count {
        let handed = w.take(a);
        assert_eq!((handed.len(), w.body(&handed[0])), (1, n.to_string()));
        w.accept(queue("q"), &handed[0]);
    }
    assert!(w.take(a).is_empty());
}

#[test]
fn behind_a_busy_key_parked_messages_max_wait_and_others_come_when_it_is_free() {
    let mut w = World::new();
    w.queue("q", |spec| spec.order = Order::Key);
    let a = w.attach(queue("q"), 10);
    let mut messages = vec![w.message("busy"); PARKED_MESSAGES_MAX + 1];
    messages.iter_mut().for_each(|message| message.key = Some("busy".into()));
    let mut other = w.message("other");
    other.key = Some("other".into());
    messages.push(other.clone());
    w.publish_messages("q", messages).expect("published");
    let handed = w.take(a);
    let bodies: Vec<_> = handed.iter().map(|handed| w.body(handed)).collect();
    assert_eq!(bodies, ["busy", "other"], "one of them is held, {PARKED_MESSAGES_MAX} wait behind it");
    w.accept(queue("q"), &handed[1]);
    let mut more = vec![w.message("busy"); 2];
    more.iter_mut().for_each(|message| message.key = Some("busy".into()));
    more.push(other);
    w.publish_messages("q", more).expect("published");
    assert!(w.take(a).is_empty(), "past the bound nothing further is looked at");
    w.accept(queue("q"), &handed[0]);
    let next = w.take(a);
    w.accept(queue("q"), &next[0]);
    let bodies: Vec<_> = next.iter().chain(&w.take(a)).map(|handed| w.body(handed)).collect();
    assert!(bodies.contains(&"busy".to_string()));
    w.run(Command::Detach(a)).expect("detached");
    let info = w.queue_info("q");
    assert_eq!(info.ready + info.counters.acknowledged, PARKED_MESSAGES_MAX as u64 + 5);
}

#[test]
fn past_delayed_messages_max_a_delayed_publish_is_refused_and_a_plain_one_is_not() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let mut message = w.message("");
    message.deliver_at = Some(w.now.plus(1_000));
    let chunk = DELAYED_MESSAGES_MAX / 40;
    for _ in 0..40 {
        w.publish_messages("q", vec![message.clone(); chunk]).expect("published");
    }
    assert_eq!(w.queue_info("q").delayed, DELAYED_MESSAGES_MAX as u64);
    assert!(matches!(w.publish_messages("q", vec![message]), Err(Refusal::Limit { .. })));
    w.publish("q", &["plain"]);
}

#[test]
fn while_retries_waiting_max_messages_wait_to_be_tried_again_nothing_new_of_their_log_is_handed_out() {
    let mut w = World::new();
    w.queue("q", |spec| {
        spec.retry =
            Some(Box::new(RetryPolicy { first_ms: 60_000, jitter_percent: 0, ..RetryPolicy::default() }));
    });
    let consumer = w.attach(queue("q"), CREDIT_MAX);
    let message = w.message("");
    let mut failed = 0;
    while failed < RETRIES_WAITING_MAX {
        let count = (RETRIES_WAITING_MAX - failed).min(PUBLISH_MESSAGES_MAX).min(CREDIT_MAX as usize);
        w.publish_messages("q", vec![message.clone(); count]).expect("published");
        let handed = w.take(consumer);
        assert_eq!(handed.len(), count);
        let settlements = handed.iter().map(|one| Settlement {
            tag: one.tag,
            attempt: one.attempt,
            outcome: Outcome::Failed(Failure::default()),
        });
        let settle = Settle { source: queue("q"), settlements: settlements.collect() };
        w.run(Command::Transact(Transaction { publishes: vec![], settlements: vec![settle] }))
            .expect("failed");
        failed += count;
    }
    assert_eq!(w.queue_info("q").delayed, RETRIES_WAITING_MAX as u64);
    w.publish("q", &["new"]);
    assert!(w.take(consumer).is_empty(), "it would be one too many");
    w.pass(60_000);
    assert_eq!(w.take(consumer).len(), CREDIT_MAX as usize, "their time has come");
}

#[test]
fn with_acked_ranges_max_gaps_nothing_new_is_handed_out_until_older_ones_are_settled() {
    let mut w = World::new();
    w.queue("q", |_| ());
    let a = w.attach(queue("q"), CREDIT_MAX);
    let b = w.attach(queue("q"), CREDIT_MAX);
    let count = ACKED_RANGES_MAX * 3;
    let mut sent = 0;
    while sent < count {
        let more = (count - sent).min(PUBLISH_MESSAGES_MAX);
        let messages = vec![w.message(""); more];
        w.publish_messages("q", messages).expect("published");
        sent += more;
    }
    let mut held = Vec::new();
    let mut stalled = false;
    while !stalled {
        let mut handed: Vec<_> = [a, b].into_iter().flat_map(|consumer| w.take(consumer)).collect();
        stalled = handed.is_empty();
        handed.sort_by_key(|handed| handed.tag);
        for handed in handed {
            if handed.tag.offset().0 % 2 == 1 { w.accept(queue("q"), &handed) } else { held.push(handed) }
        }
    }
    let info = w.queue_info("q");
    assert!(info.ready > 0, "{info:?}");
    // Past the bound go only those that were in flight when it was reached.
    let flight = 2 * CREDIT_MAX as usize;
    assert!(
        (ACKED_RANGES_MAX..ACKED_RANGES_MAX + flight).contains(&(info.counters.acknowledged as usize)),
        "{info:?}"
    );
    held.sort_by_key(|handed| handed.tag);
    let settled = held.iter().position(|handed| {
        w.accept(queue("q"), handed);
        w.queue_info("q").ready < info.ready
    });
    assert!(settled.is_some_and(|count| count < held.len() - 1), "settling the oldest lets it go on");
}

#[test]
fn a_lease_may_be_extended_to_lease_ms_max() {
    let mut w = World::new();
    w.topic("t", |_| ());
    w.subscribe("s", "t", |_| ());
    w.publish("t", &["1"]);
    let held = w.pull(subscription("s"), 1, 1_000);
    let extend = |lease_ms| {
        Command::Extend(Extend {
            source: subscription("s"),
            held: vec![(held[0].tag, held[0].attempt)],
            lease_ms,
        })
    };
    assert!(w.run(extend(LEASE_MS_MAX)).is_ok());
    assert!(matches!(w.run(extend(LEASE_MS_MAX + 1)), Err(Refusal::TooLarge { what: "lease_ms", .. })));
}

#[test]
fn a_plan_made_in_parts_is_the_one_made_at_once() {
    let mut world = World::new();
    for n in 0..10 {
        let queue = format!("q{n}");
        world.queue(&queue, |_| ());
        world.publish(&queue, &["a", "b"]);
        if n % 3 == 0 {
            world.delete(Kind::Queue, &queue).expect("deleted");
        }
    }
    let leaving = waystation_broker::settle::Leaving::Journal(world.end());
    let whole = world.shard.plan(&leaving, world.now);
    assert_eq!(whole.logs.len(), 6);
    for count in 1..4 {
        let (mut logs, mut next, mut parts) = (Vec::new(), Some(waystation_base::EntityId(0)), 0);
        while let Some(from) = next {
            next = world.shard.plan_part(&leaving, world.now, from, count, &mut logs);
            parts += 1;
        }
        assert!(parts >= 6 / count, "{parts} parts of {count}");
        assert_eq!(format!("{logs:?}"), format!("{:?}", whole.logs));
    }
}

#[test]
fn without_consumers_too_a_queue_is_no_longer_than_its_limit_once_publishing_is_answered() {
    let mut w = World::new();
    w.queue("q", |spec| (spec.max_messages, spec.overflow) = (Some(10), Overflow::DropHead));
    let publishes: Vec<_> = (0..60).map(|n| w.message(&n.to_string())).collect();
    let mut effects = Vec::new();
    for message in publishes {
        let (to, payload) = (name("q").into(), Payload::One(message));
        let publish = Command::PublishEach(vec![Publish { to, partition: None, payload }]);
        w.shard.handle(w.now, None, publish, &mut w.journal, &mut effects);
    }
    w.shard.flush(w.now, &mut w.journal, &mut effects);
    let loads = effects.iter().filter(|effect| matches!(effect, Effect::Load(_))).count();
    // Nothing that would first have to be read has been.
    assert_eq!((w.queue_info("q").ready, loads), (10, 0));
    w.carry_on(effects);
    assert_eq!(w.drain("q"), (50..60).map(|n| n.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_long_queue_without_consumers_reads_its_oldest_before_they_must_go() {
    let mut w = World::new();
    let max = WINDOW_MESSAGES_MAX * 2;
    w.queue("q", |spec| (spec.max_messages, spec.overflow) = (Some(max as u64), Overflow::DropHead));
    for n in 0..max + 1 {
        w.publish("q", &[&n.to_string()]);
    }
    for n in max + 1..max * 2 {
        // Not even what is asked for is answered before the count is looked at.
        let (to, payload) = (name("q").into(), Payload::One(w.message(&n.to_string())));
        let publish = Command::PublishEach(vec![Publish { to, partition: None, payload }]);
        let mut effects = Vec::new();
        w.shard.handle(w.now, None, publish, &mut w.journal, &mut effects);
        w.shard.flush(w.now, &mut w.journal, &mut effects);
        assert_eq!(w.queue_info("q").ready, max as u64, "after {n}");
        w.carry_on(effects);
    }
}
