//! No tenant's messages are in another's way; rates and limits of what is under way hold, and it is said what keeps messages back.

mod common;

use common::{World, fair, name, queue, send_to, subscribed, subscription};
use waystation_base::{
    Attempt, ConsumerId,
    limits::{FAIR_AHEAD_MAX, TENANTS_MAX},
};
use waystation_broker::{
    Command, PoolId, SessionId, Source,
    command::{Attach, Declare, Failure, Hold, Outcome},
    settle::Leaving,
    spec::{Fair, MessageRate, Mode, Order, Overflow, QueueSpec, Spec, SubscriptionSpec},
    view::HeldBack,
};

fn rate(messages: u32, per_ms: u64, burst: u32) -> Option<MessageRate> {
    Some(MessageRate { messages, per_ms, burst: Some(burst) })
}

fn world(change: impl FnOnce(&mut QueueSpec)) -> World {
    let mut w = World::new();
    w.queue("q", |spec| {
        spec.fair = Some(Box::new(fair()));
        change(spec);
    });
    w
}

/// Messages `a1`, `a2`… of the tenant `a`, and so on; without a name: of none.
fn send(w: &mut World, tenant: &str, count: usize) {
    let messages = (1..=count).map(|n| {
        let mut message = w.message(&format!("{tenant}{n}"));
        if !tenant.is_empty() {
            message.headers.set("tenant", tenant);
        }
        message
    });
    let messages = messages.collect();
    w.publish_messages("q", messages).expect("published");
}

/// Takes messages one after the other and accepts each.
fn work(w: &mut World, consumer: ConsumerId, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let handed = w.take(consumer);
        assert!(!handed.is_empty(), "after {bodies:?}");
        for one in handed {
            bodies.push(w.body(&one));
            w.accept(queue("q"), &one);
        }
    }
    bodies
}

#[test]
fn ten_thousand_messages_of_one_tenant_do_not_delay_one_of_another() {
    let mut w = world(|_| ());
    send(&mut w, "hog", 10_000);
    send(&mut w, "small", 1);
    let consumer = w.attach(queue("q"), 1);
    assert_eq!(work(&mut w, consumer, 2), ["hog1", "small1"]);
    // One that comes in the middle of the work waits for one message at most.
    send(&mut w, "late", 1);
    let next = work(&mut w, consumer, 3);
    assert!(next[..2].contains(&"late1".to_owned()), "{next:?}");
}

#[test]
fn tenants_take_turns_and_each_has_its_messages_in_order() {
    let mut w = world(|_| ());
    for tenant in ["a", "b", ""] {
        send(&mut w, tenant, 3);
    }
    let consumer = w.attach(queue("q"), 1);
    let bodies = work(&mut w, consumer, 9);
    for round in bodies.chunks(3) {
        let mut firsts: Vec<_> = round.iter().map(|body| &body[..body.len() - 1]).collect();
        firsts.sort_unstable();
        assert_eq!(firsts, ["", "a", "b"], "{bodies:?}");
    }
    for tenant in ["a", "b", ""] {
        let own: Vec<_> = bodies.iter().filter(|body| body[..body.len() - 1] == *tenant).collect();
        assert!(own.is_sorted(), "{own:?}");
    }
}

#[test]
fn shares_stay_equal_over_restarts_and_lanes_stay_the_tenants_own() {
    for restart in [World::restart, World::restart_from_snapshot] {
        let mut w = world(|_| ());
        send(&mut w, "a", 50);
        send(&mut w, "b", 2);
        restart(&mut w);
        send(&mut w, "b", 2);
        let consumer = w.attach(queue("q"), 1);
        let bodies = work(&mut w, consumer, 8);
        let of_b: Vec<_> = bodies.iter().filter(|body| body.starts_with('b')).collect();
        assert_eq!(of_b, ["b1", "b2", "b1", "b2"], "{bodies:?}");
        assert_eq!(work(&mut w, consumer, 46).len(), 46);
    }
}

#[test]
fn a_higher_priority_goes_first_whoever_it_is_of() {
    let mut w = world(|_| ());
    send(&mut w, "a", 2);
    let mut urgent = w.message("urgent");
    urgent.priority = 5;
    urgent.headers.set("tenant", "b");
    w.publish_messages("q", vec![urgent]).expect("published");
    let consumer = w.attach(queue("q"), 1);
    assert_eq!(work(&mut w, consumer, 3), ["urgent", "a1", "a2"]);
}

#[test]
fn what_failed_or_was_delayed_stays_with_its_tenant() {
    let mut w = world(|_| ());
    send(&mut w, "a", 1);
    let due = w.now.plus(100);
    w.publish_with("q", "b-later", |message| {
        message.deliver_at = Some(due);
        message.headers.set("tenant", "b");
    })
    .expect("published");
    let consumer = w.attach(queue("q"), 1);
    let handed = w.take(consumer)[0];
    let outcome = Outcome::Failed(Failure { delay_ms: Some(100), ..Failure::default() });
    w.settle(queue("q"), &handed, outcome).expect("failed");
    send(&mut w, "a", 100);
    let first = w.take(consumer)[0];
    w.pass(100);
    w.accept(queue("q"), &first);
    let next = work(&mut w, consumer, 3);
    assert!(next.contains(&"b-later".to_owned()), "{next:?}");
    assert_eq!(work(&mut w, consumer, 97).len(), 97);
}

#[test]
fn order_by_key_holds_among_tenants() {
    let mut w = world(|spec| spec.order = Order::Key);
    for (tenant, body) in [("a", "a1"), ("a", "a2"), ("b", "b1")] {
        w.publish_with("q", body, |message| {
            message.key = Some(tenant.into());
            message.headers.set("tenant", tenant);
        })
        .expect("published");
    }
    let consumer = w.attach(queue("q"), 9);
    let handed = w.take(consumer);
    assert_eq!(handed.iter().map(|one| w.body(one)).collect::<Vec<_>>(), ["a1", "b1"]);
    w.accept(queue("q"), &handed[0]);
    assert_eq!(w.bodies(consumer), ["a2"]);
}

#[test]
fn past_tenants_max_tenants_share_a_lane_until_another_s_is_empty() {
    let mut w = world(|_| ());
    for tenant in 0..TENANTS_MAX {
        send(&mut w, &format!("t{tenant}-"), 2);
    }
    send(&mut w, "more-", 1);
    let consumer = w.attach(queue("q"), 1);
    let all = work(&mut w, consumer, TENANTS_MAX + 1);
    assert_eq!(all.iter().filter(|body| body.ends_with("-1")).count(), TENANTS_MAX + 1, "each once: {all:?}");
    assert_eq!(work(&mut w, consumer, TENANTS_MAX).len(), TENANTS_MAX);
    // All lanes are empty: a new tenant has one of its own, and the common one is not in its way.
    send(&mut w, "", 100);
    send(&mut w, "new", 1);
    let next = work(&mut w, consumer, 3);
    assert!(next.contains(&"new1".to_owned()), "{next:?}");
}

#[test]
fn a_queue_that_is_too_long_drops_of_the_tenant_that_has_most() {
    let mut w = world(|spec| (spec.max_messages, spec.overflow) = (Some(5), Overflow::DropHead));
    send(&mut w, "small", 2);
    send(&mut w, "hog", 20);
    let consumer = w.attach(queue("q"), 1);
    let mut bodies = work(&mut w, consumer, 5);
    bodies.sort_unstable();
    assert_eq!(bodies, ["hog18", "hog19", "hog20", "small1", "small2"]);
}

#[test]
fn taking_fairness_away_leaves_nothing_behind() {
    let mut w = world(|_| ());
    send(&mut w, "a", 2);
    let spec = waystation_broker::spec::Spec::Queue(QueueSpec::default());
    let (name, session) = (common::name("q"), waystation_broker::SessionId(0));
    w.run(Command::Declare(waystation_broker::command::Declare { name, spec, change: true, session }))
        .expect("changed");
    send(&mut w, "b", 2);
    let consumer = w.attach(queue("q"), 1);
    let mut bodies = work(&mut w, consumer, 4);
    bodies.sort_unstable();
    assert_eq!(bodies, ["a1", "a2", "b1", "b2"]);
}

#[test]
fn a_rate_lets_a_burst_go_and_then_an_even_flow() {
    let mut w = World::new();
    w.queue("q", |spec| spec.rate = rate(10, 1_000, 3));
    let consumer = w.attach(queue("q"), 100);
    w.publish("q", &["m"; 8]);
    assert_eq!(w.take(consumer).len(), 3);
    assert_eq!(w.queue_info("q").held_back, [HeldBack::Rate]);
    w.pass(99);
    assert_eq!(w.take(consumer).len(), 0);
    w.pass(1);
    assert_eq!(w.take(consumer).len(), 1);
    w.pass(400);
    assert_eq!(w.take(consumer).len(), 4);
    assert!(w.queue_info("q").held_back.is_empty());
    w.pass(10_000);
    w.publish("q", &["m"; 8]);
    assert_eq!(w.take(consumer).len(), 3, "a quiet time saves up no more than the burst");
}

#[test]
fn concurrency_counts_what_all_consumers_hold() {
    let mut w = World::new();
    w.queue("q", |spec| spec.concurrency = Some(3));
    w.publish("q", &["m"; 9]);
    let consumer = w.attach(queue("q"), 2);
    let pulled = w.pull(queue("q"), 9, 1_000);
    assert_eq!(pulled.len(), 1);
    assert_eq!(w.take(consumer).len(), 2);
    let another = w.attach(queue("q"), 9);
    assert_eq!(w.queue_info("q").held_back, [HeldBack::Concurrency]);
    w.accept(queue("q"), &pulled[0]);
    assert_eq!(w.take(another).len(), 1);
    // What is accepted as it is handed out is never under way.
    let free = w.attach_with(queue("q"), 100, |attach| attach.hold = Hold::None).expect("attached");
    assert!(w.take(free).is_empty());
    w.run(Command::Detach(consumer)).expect("detached");
    assert_eq!((w.take(another).len(), w.take(free).len()), (2, 1), "in turn, until three are held");
}

#[test]
fn a_subscription_has_limits_as_a_queue_has() {
    let mut w = World::new();
    w.topic("t", |_| ());
    w.subscribe("s", "t", |spec| (spec.rate, spec.concurrency) = (rate(1, 100, 2), Some(3)));
    let consumer = w.attach(subscription("s"), 100);
    w.publish("t", &["m"; 9]);
    let first = w.take(consumer);
    assert_eq!(first.len(), 2);
    assert_eq!(w.subscription_info("s").held_back, [HeldBack::Rate]);
    w.pass(1_000);
    assert_eq!(w.take(consumer).len(), 1);
    assert_eq!(w.subscription_info("s").held_back, [HeldBack::Concurrency]);
    w.accept(subscription("s"), &first[0]);
    assert_eq!(w.take(consumer).len(), 1);
}

#[test]
fn a_tenant_has_limits_that_do_not_touch_others() {
    let mut w = world(|spec| {
        spec.fair = Some(Box::new(Fair { concurrency: Some(2), rate: rate(1, 100, 3), ..fair() }));
    });
    send(&mut w, "a", 9);
    send(&mut w, "b", 1);
    let consumer = w.attach(queue("q"), 100);
    let handed = w.take(consumer);
    let bodies: Vec<_> = handed.iter().map(|one| w.body(one)).collect();
    assert_eq!(bodies.iter().filter(|body| body.starts_with('a')).count(), 2, "{bodies:?}");
    assert!(bodies.contains(&"b1".to_owned()));
    assert_eq!(w.queue_info("q").held_back, [HeldBack::TenantConcurrency]);
    for one in &handed {
        w.accept(queue("q"), one);
    }
    assert_eq!(w.bodies(consumer), ["a3"], "the burst of three is used up");
    assert_eq!(w.queue_info("q").held_back, [HeldBack::TenantRate]);
    w.pass(100);
    assert_eq!(w.bodies(consumer), ["a4"]);
}

#[test]
fn it_is_said_what_keeps_messages_back() {
    let mut w = World::new();
    w.queue("q", |_| ());
    assert!(w.queue_info("q").held_back.is_empty(), "nothing waits");
    w.publish("q", &["1", "2"]);
    assert_eq!(w.queue_info("q").held_back, [HeldBack::NoConsumer]);
    let consumer = w.attach(queue("q"), 1);
    assert_eq!(w.queue_info("q").held_back, [HeldBack::Credit]);
    assert_eq!(w.take(consumer)[0].attempt, Attempt(1));
    w.run(Command::Credit(consumer, 5)).expect("more credit");
    assert!(w.queue_info("q").held_back.is_empty());
}

/// Takes messages of `s` one after the other and accepts each.
fn work_at(w: &mut World, source: &Source, consumer: ConsumerId, count: usize) -> Vec<String> {
    let mut bodies = Vec::new();
    while bodies.len() < count {
        let handed = w.take(consumer);
        assert!(!handed.is_empty(), "after {bodies:?}");
        for one in handed {
            bodies.push(w.body(&one));
            w.accept(source.clone(), &one);
        }
    }
    bodies
}

#[test]
fn in_a_subscription_too_ten_thousand_messages_of_one_tenant_do_not_delay_one_of_another() {
    for restart in [false, true] {
        let mut w = subscribed(|_| ());
        send_to(&mut w, "t", "a", 10_000);
        send_to(&mut w, "t", "b", 2);
        if restart {
            w.restart_from_snapshot();
        }
        let s = subscription("s");
        let consumer = w.attach(s.clone(), 1);
        let first = work_at(&mut w, &s, consumer, 6);
        assert!(first[..3].contains(&"b1".to_owned()) && first[..5].contains(&"b2".to_owned()), "{first:?}");
        send_to(&mut w, "t", "c", 1);
        assert!(work_at(&mut w, &s, consumer, 2).contains(&"c1".to_owned()));
        let rest = work_at(&mut w, &s, consumer, 9_995);
        let own = |body: &String| body.strip_prefix('a').and_then(|n| n.parse::<u32>().ok());
        let numbers: Vec<u32> = rest.iter().filter_map(own).collect();
        assert!(numbers.is_sorted(), "each tenant's in their order");
        assert_eq!(
            (w.subscription_info("s").lag, w.subscription_info("s").counters.acknowledged),
            (0, 10_003)
        );
    }
}

#[test]
fn a_subscription_looks_fair_ahead_max_messages_ahead_and_no_further() {
    for (of_a, within) in [(FAIR_AHEAD_MAX - 1, true), (FAIR_AHEAD_MAX + 20, false)] {
        let mut w = subscribed(|_| ());
        for from in (0..of_a).step_by(1_000) {
            send_to(&mut w, "t", "a", 1_000.min(of_a - from));
        }
        send_to(&mut w, "t", "b", 1);
        let s = subscription("s");
        let consumer = w.attach(s.clone(), 1);
        let first = work_at(&mut w, &s, consumer, 10);
        assert_eq!(first.contains(&"b1".to_owned()), within, "{of_a}: {first:?}");
        assert!(within || work_at(&mut w, &s, consumer, 20).contains(&"b1".to_owned()), "as others are done");
    }
}

#[test]
fn a_topic_with_more_than_is_looked_ahead_does_not_shut_out_another_one() {
    let mut w = World::new();
    w.topic("t.a", |_| ());
    w.topic("t.b", |_| ());
    w.subscribe("s", "t.*", |spec| spec.fair = Some(Box::new(fair())));
    for _ in 0..(FAIR_AHEAD_MAX / 1_000 + 3) {
        send_to(&mut w, "t.a", "a", 1_000);
    }
    let s = subscription("s");
    let consumer = w.attach(s.clone(), 1);
    work_at(&mut w, &s, consumer, 3);
    send_to(&mut w, "t.b", "b", 1);
    let next = work_at(&mut w, &s, consumer, 10);
    assert!(next.contains(&"b1".to_owned()), "{next:?}");
}

#[test]
fn what_a_tenant_holds_counts_on_when_its_messages_move_to_other_files() {
    let mut w = subscribed(|spec| spec.fair = Some(Box::new(Fair { concurrency: Some(2), ..fair() })));
    send_to(&mut w, "t", "a", 6);
    let s = subscription("s");
    let consumer = w.attach(s.clone(), 9);
    let held = w.take(consumer);
    assert_eq!(held.len(), 2);
    let end = w.end();
    w.settle_all(1, Leaving::Journal(end));
    w.settle_all(2, Leaving::Files(vec![1]));
    assert!(w.take(consumer).is_empty(), "two are held");
    w.accept(s, &held[0]);
    assert_eq!(w.bodies(consumer), ["a3"]);
}

#[test]
fn a_tenant_whose_messages_are_done_at_once_is_never_at_its_limit() {
    let mut w = subscribed(|spec| spec.fair = Some(Box::new(Fair { concurrency: Some(5), ..fair() })));
    send_to(&mut w, "t", "a", 50);
    let free = w.attach_with(subscription("s"), 100, |attach| attach.hold = Hold::None).expect("attached");
    assert_eq!(w.take(free).len(), 50);
}

#[test]
fn the_virtual_host_of_a_topic_may_name_the_tenant() {
    let mut w = World::new();
    for topic in ["shop::events", "bank::events", "events"] {
        w.topic(topic, |_| ());
    }
    w.subscribe("s", "#", |spec| {
        spec.fair = Some(Box::new(Fair { virtual_host: true, ..Fair::default() }));
    });
    w.publish("shop::events", &["s1", "s2", "s3", "s4", "s5", "s6"]);
    w.publish("events", &["e1"]);
    w.publish("bank::events", &["b1"]);
    let s = subscription("s");
    let consumer = w.attach(s.clone(), 1);
    let first = work_at(&mut w, &s, consumer, 4);
    assert!(["e1", "b1"].iter().all(|body| first.contains(&(*body).to_owned())), "{first:?}");
    assert_eq!(work_at(&mut w, &s, consumer, 4).last().map(String::as_str), Some("s6"));
}

#[test]
fn ten_thousand_messages_of_one_virtual_host_do_not_delay_one_of_another_at_the_same_worker() {
    let mut w = World::new();
    for queue in ["shop::jobs", "bank::jobs"] {
        w.queue(queue, |_| ());
    }
    send_to(&mut w, "shop::jobs", "a", 10_000);
    send_to(&mut w, "bank::jobs", "b", 2);
    // One worker for both, that holds one message at a time.
    let session = SessionId(7);
    let pool = PoolId { session, number: 0 };
    w.run(Command::Pool(pool, Some(1))).expect("a pool");
    let join = |attach: &mut Attach| (attach.session, attach.pool) = (session, Some(pool));
    let shop = w.attach_with(queue("shop::jobs"), 9, join).expect("attached");
    let bank = w.attach_with(queue("bank::jobs"), 9, join).expect("attached");
    let mut seen = Vec::new();
    while seen.len() < 6 {
        for (consumer, source) in [(shop, queue("shop::jobs")), (bank, queue("bank::jobs"))] {
            for one in w.take(consumer) {
                seen.push(w.body(&one));
                w.accept(source.clone(), &one);
            }
        }
    }
    assert!(seen[..3].contains(&"b1".to_owned()) && seen[..5].contains(&"b2".to_owned()), "{seen:?}");
}

#[test]
fn a_tenants_limits_hold_in_a_subscription_and_others_go_on() {
    let mut w = subscribed(|spec| {
        spec.fair = Some(Box::new(Fair { concurrency: Some(2), ..fair() }));
    });
    send_to(&mut w, "t", "a", 5);
    send_to(&mut w, "t", "b", 1);
    let s = subscription("s");
    let consumer = w.attach(s.clone(), 9);
    let held = w.take(consumer);
    let bodies: Vec<_> = held.iter().map(|it| w.body(it)).collect();
    assert_eq!(bodies.len(), 3, "{bodies:?}");
    assert_eq!(w.subscription_info("s").held_back, [HeldBack::TenantConcurrency]);
    let of_a = held.iter().find(|it| w.body(it) == "a1").copied().expect("a1");
    w.accept(s.clone(), &of_a);
    assert_eq!(w.bodies(consumer), ["a3"]);
    w.run(Command::Detach(consumer)).expect("detached");
    let consumer = w.attach(s, 9);
    assert_eq!(w.take(consumer).len(), 3, "what came back counts no more");

    let mut w = subscribed(|spec| {
        spec.fair = Some(Box::new(Fair { rate: rate(1, 100, 1), ..fair() }));
    });
    send_to(&mut w, "t", "a", 3);
    send_to(&mut w, "t", "b", 1);
    let consumer = w.attach(subscription("s"), 9);
    let mut first = w.bodies(consumer);
    first.sort();
    assert_eq!(
        (first, w.subscription_info("s").held_back),
        (vec!["a1".into(), "b1".into()], vec![HeldBack::TenantRate])
    );
    w.pass(99);
    assert!(w.take(consumer).is_empty());
    w.pass(1);
    assert_eq!(w.bodies(consumer), ["a2"]);
}

#[test]
fn what_failed_keeps_its_attempts_in_its_tenants_line_through_restart_and_change() {
    for snapshot in [false, true] {
        let mut w = subscribed(|spec| (spec.max_attempts, spec.dead_letter) = (Some(2), Some("dead".into())));
        send_to(&mut w, "t", "a", 3);
        let s = subscription("s");
        let consumer = w.attach(s.clone(), 1);
        let first = w.take(consumer)[0];
        let failed = Outcome::Failed(Failure { delay_ms: Some(50), ..Failure::default() });
        w.settle(s.clone(), &first, failed).expect("failed");
        w.pass(50);
        if snapshot {
            w.restart_from_snapshot()
        } else {
            w.restart()
        }
        w.pass(1);
        let mut spec = w.subscription_info("s").spec;
        spec.fair = None;
        change(&mut w, "s", Spec::Subscription(spec.clone()));
        spec.fair = Some(Box::new(Fair { header: "other".into(), ..Fair::default() }));
        change(&mut w, "s", Spec::Subscription(spec));
        let consumer = w.attach(s, 9);
        let mut seen: Vec<_> = w.take(consumer).iter().map(|it| (w.body(it), it.attempt)).collect();
        seen.sort();
        let expected = [("a1", 2), ("a2", 2), ("a3", 1)];
        let expected: Vec<_> = expected.iter().map(|(body, n)| ((*body).to_owned(), Attempt(*n))).collect();
        assert_eq!(seen, expected);
    }
}

/// Declares what is there anew.
fn change(w: &mut World, text: &str, spec: Spec) {
    w.run(Command::Declare(Declare { name: name(text), spec, change: true, session: SessionId(0) }))
        .expect("changed");
}

#[test]
fn a_rate_that_is_raised_holds_at_once_of_a_queue_of_its_tenants_and_of_a_subscriptions() {
    let (slow, fast) = (rate(1, 3_600_000, 1), rate(100, 1_000, 1));
    let of_each = |rate| Some(Box::new(Fair { rate, ..fair() }));
    for of_tenants in [false, true] {
        let mut w = World::new();
        let limit = |spec: &mut QueueSpec, rate| match of_tenants {
            true => spec.fair = of_each(rate),
            false => spec.rate = rate,
        };
        w.queue("q", |spec| limit(spec, slow.clone()));
        send(&mut w, "a", 3);
        let consumer = w.attach(queue("q"), 10);
        assert_eq!(w.take(consumer).len(), 1);
        let mut spec = w.queue_info("q").spec;
        limit(&mut spec, fast.clone());
        change(&mut w, "q", Spec::Queue(spec));
        assert_eq!(w.take(consumer).len(), 0);
        w.pass(10);
        assert_eq!(w.take(consumer).len(), 1, "of tenants: {of_tenants}");
    }
    for of_tenants in [false, true] {
        let limit = |spec: &mut SubscriptionSpec, rate| match of_tenants {
            true => spec.fair = of_each(rate),
            false => spec.rate = rate,
        };
        let mut w = subscribed(|spec| limit(spec, slow.clone()));
        send_to(&mut w, "t", "a", 3);
        let consumer = w.attach(subscription("s"), 10);
        assert_eq!(w.take(consumer).len(), 1);
        let mut spec = w.subscription_info("s").spec;
        limit(&mut spec, fast.clone());
        change(&mut w, "s", Spec::Subscription(spec));
        assert_eq!(w.take(consumer).len(), 0);
        w.pass(10);
        assert_eq!(w.take(consumer).len(), 1, "of tenants: {of_tenants}");
    }
}

#[test]
fn a_subscription_in_order_cannot_be_fair_and_a_queue_not_to_virtual_hosts() {
    let refused = |spec: Spec, field: &str| {
        let error = spec.check().expect_err("refused");
        assert_eq!(error.field, field);
    };
    let ordered =
        SubscriptionSpec { mode: Mode::Ordered, fair: Some(Box::new(fair())), ..SubscriptionSpec::new("t") };
    refused(Spec::Subscription(ordered), "fair");
    let host = Fair { virtual_host: true, ..Fair::default() };
    refused(
        Spec::Queue(QueueSpec { fair: Some(Box::new(host)), ..QueueSpec::default() }),
        "fair.virtual_host",
    );
    let both = Fair { virtual_host: true, ..fair() };
    let both = SubscriptionSpec { fair: Some(Box::new(both)), ..SubscriptionSpec::new("t") };
    refused(Spec::Subscription(both), "fair.header");
}
