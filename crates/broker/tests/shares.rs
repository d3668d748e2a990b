//! What tenants hold and have waiting is counted to them: when it expires, after a restart, when it came back, and by a rule that comes
//! later. And not more is looked up at once than need be.

mod common;

use common::{World, fair, name, queue, send_to, subscribed, subscription};
use waystation_broker::{
    Command, SessionId,
    command::{Declare, Failure, Hold, Outcome, Payload, Publish, Settle, Settlement, Transaction},
    effect::Handed,
    spec::{Fair, Mode, Spec, TopicSpec},
    view::HeldBack,
};

#[test]
fn a_tenants_concurrency_does_not_stop_consumers_that_settle_at_once() {
    let mut w = World::new();
    w.queue("q", |spec| spec.fair = Some(Box::new(Fair { concurrency: Some(2), ..fair() })));
    send_to(&mut w, "q", "a", 5);
    let consumer = w.attach_with(queue("q"), 9, |attach| attach.hold = Hold::None).expect("attached");
    assert_eq!(w.bodies(consumer), ["a1", "a2", "a3", "a4", "a5"], "they are never under way");
    send_to(&mut w, "q", "a", 3);
    assert_eq!(w.bodies(consumer).len(), 3);
    let holder = w.attach(queue("q"), 9);
    w.run(Command::Detach(consumer)).expect("detached");
    send_to(&mut w, "q", "a", 3);
    assert_eq!(w.take(holder).len(), 2, "who holds them is kept to it");
}

#[test]
fn what_expires_in_a_tenants_line_goes_in_time_though_the_tenant_gets_nothing() {
    let mut w = subscribed(|spec| {
        spec.fair = Some(Box::new(Fair { concurrency: Some(1), ..fair() }));
        spec.dead_letter = Some("dead".to_owned());
    });
    send_to(&mut w, "t", "a", 2);
    let mut short = w.message("short");
    short.headers.set("tenant", "a");
    short.expires_at = Some(w.now.plus(500));
    w.publish_messages("t", vec![short]).expect("published");
    send_to(&mut w, "t", "a", 1);
    let consumer = w.attach(subscription("s"), 9);
    assert_eq!(w.take(consumer).len(), 1);
    w.pass(499);
    assert_eq!(w.queue_info("dead").ready, 0);
    w.pass(1);
    assert_eq!(w.drain("dead"), ["short"], "the tenant holds as many as it may all the while");
}

#[test]
fn what_is_held_under_a_lease_counts_to_its_tenant_after_a_restart() {
    for snapshot in [false, true] {
        let mut w = subscribed(|spec| {
            spec.fair = Some(Box::new(Fair { concurrency: Some(2), ..fair() }));
        });
        send_to(&mut w, "t", "a", 4);
        send_to(&mut w, "t", "b", 1);
        let s = subscription("s");
        let held = w.pull(s.clone(), 9, 60_000);
        assert_eq!(held.len(), 3);
        if snapshot {
            w.restart_from_snapshot()
        } else {
            w.restart()
        }
        let consumer = w.attach(s.clone(), 9);
        assert!(w.take(consumer).is_empty(), "two of a are held");
        assert_eq!(w.subscription_info("s").held_back, [HeldBack::TenantConcurrency]);
        let of_a = held.iter().find(|it| w.body(it) == "a1").copied().expect("a1");
        w.accept(s.clone(), &of_a);
        assert_eq!(w.bodies(consumer), ["a3"]);
        w.pass(60_000);
        assert_eq!(w.take(consumer).len(), 2, "one of a and the one of b, whose leases have ended");
    }
}

#[test]
fn a_rule_that_comes_later_counts_what_is_held_already() {
    let mut w = subscribed(|spec| spec.fair = None);
    send_to(&mut w, "t", "a", 3);
    let s = subscription("s");
    let consumer = w.attach(s.clone(), 2);
    let held = w.take(consumer);
    assert_eq!(held.len(), 2);
    let mut spec = w.subscription_info("s").spec;
    spec.fair = Some(Box::new(Fair { concurrency: Some(2), ..fair() }));
    let declare =
        Declare { name: name("s"), spec: Spec::Subscription(spec), change: true, session: SessionId(0) };
    w.run(Command::Declare(declare)).expect("changed");
    let other = w.attach(s.clone(), 9);
    assert!(w.take(other).is_empty());
    w.accept(s, &held[0]);
    assert_eq!(w.take(other).len() + w.take(consumer).len(), 1);
}

#[test]
fn a_dead_letter_that_came_back_counts_to_the_virtual_host_of_its_topic() {
    let by = Fair { virtual_host: true, concurrency: Some(1), ..Fair::default() };
    let mut w = World::new();
    w.topic("shop::t", |_| ());
    w.queue("dead", |_| ());
    w.subscribe("audit", "#", |spec| {
        spec.fair = Some(Box::new(by));
        spec.dead_letter = Some("dead".to_owned());
    });
    w.publish("shop::t", &["1", "2"]);
    let audit = subscription("audit");
    let consumer = w.attach(audit.clone(), 9);
    let first = w.take(consumer)[0];
    w.settle(audit.clone(), &first, Outcome::Rejected { error: None, class: None }).expect("rejected");
    assert_eq!(w.take(consumer).len(), 1, "the second is held");
    let letter = w.drain_messages("dead").pop().expect("a letter");
    assert_eq!(letter.headers.text("ws-death-topic"), Some("shop::t"));
    let back = TopicSpec::default();
    let to = name("audit").redriven().expect("a name");
    let declare = Declare { name: to.clone(), spec: Spec::Topic(back), change: false, session: SessionId(0) };
    w.run(Command::Declare(declare)).expect("declared");
    let publish = Publish { to: to.into(), partition: None, payload: Payload::Messages(vec![letter]) };
    w.each(vec![publish]).pop().expect("an answer").expect("published");
    assert!(w.take(consumer).is_empty(), "the virtual host has one under way");
    assert_eq!(w.subscription_info("audit").held_back, [HeldBack::TenantConcurrency]);
}

#[test]
fn after_a_restart_keys_of_what_failed_are_looked_up_so_many_at_a_time() {
    // Failed messages of as many keys: more than are looked up at once.
    const FAILED: usize = 5_000;
    const LOOKED_UP_MAX: usize = 4_096;
    let mut w = World::new();
    w.topic("t", |_| ());
    w.subscribe("s", "t", |spec| spec.mode = Mode::Ordered);
    let messages = (0..FAILED).map(|n| {
        let mut message = w.message("m");
        message.key = Some(format!("k{n}").into());
        message
    });
    let messages = messages.collect();
    w.publish_messages("t", messages).expect("published");
    let consumer = w.attach(subscription("s"), FAILED as u32);
    let mut handed = w.take(consumer);
    while handed.len() < FAILED {
        let more = w.take(consumer);
        assert!(!more.is_empty(), "{} were handed out", handed.len());
        handed.extend(more);
    }
    let failed = |one: &Handed| Settlement {
        tag: one.tag,
        attempt: one.attempt,
        outcome: Outcome::Failed(Failure { delay_ms: Some(60_000), ..Failure::default() }),
    };
    let settle = Settle { source: subscription("s"), settlements: handed.iter().map(failed).collect() };
    let transaction = Transaction { publishes: Vec::new(), settlements: vec![settle] };
    w.run(Command::Transact(transaction)).expect("failed");
    w.finds.clear();
    w.restart();
    let consumer = w.attach(subscription("s"), 1);
    assert!(w.take(consumer).is_empty());
    assert_eq!(w.finds.iter().sum::<usize>(), FAILED, "{:?}", w.finds);
    assert!(w.finds.iter().all(|count| *count <= LOOKED_UP_MAX), "{:?}", w.finds);
}
