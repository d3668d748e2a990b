//! No tenant's messages are in another's way; rates and limits of what is under way hold, and it is said what keeps messages back.

mod common;

use common::{World, queue, subscription};
use waystation_base::{Attempt, ConsumerId, limits::TENANTS_MAX};
use waystation_broker::{
    Command,
    command::{Failure, Hold, Outcome},
    spec::{Fair, MessageRate, Order, Overflow, QueueSpec},
    view::HeldBack,
};

fn fair() -> Fair {
    Fair { header: "tenant".into(), concurrency: None, rate: None }
}

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
