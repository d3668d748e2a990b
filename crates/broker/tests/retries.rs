//! What failed is tried again when the retry policy says so, and given up when it says so.

mod common;

use std::collections::BTreeMap;

use common::{World, name, queue, subscription};
use waystation_base::{
    Attempt, ConsumerId, Message, Offset,
    limits::ERROR_TEXT_BYTES_MAX,
    message::header::{DEATH_ATTEMPTS, DEATH_CLASS, DEATH_ERROR, DEATH_REASON},
    value::Value,
};
use waystation_broker::{
    Command, SessionId, Source,
    command::{Declare, Failure, Outcome, Seek},
    effect::Handed,
    spec::{
        Mode, Order, QueueSpec, RetryPolicy, Spec,
        retry::{Backoff, CONSUMER_LOST, ClassPolicy, LEASE_ENDED},
    },
    view::HeldBack,
};

fn policy(change: impl FnOnce(&mut RetryPolicy)) -> Option<Box<RetryPolicy>> {
    let mut policy =
        RetryPolicy { first_ms: 100, most_ms: 1_000, jitter_percent: 0, ..RetryPolicy::default() };
    change(&mut policy);
    Some(Box::new(policy))
}

fn class(name: &str, class: ClassPolicy) -> BTreeMap<String, ClassPolicy> {
    BTreeMap::from([(name.to_owned(), class)])
}

/// A queue `q` with a policy, and `dead` for what is given up.
fn world(change: impl FnOnce(&mut RetryPolicy)) -> World {
    world_with(change, |_| ())
}

fn world_with(retry: impl FnOnce(&mut RetryPolicy), change: impl FnOnce(&mut QueueSpec)) -> World {
    let mut w = World::new();
    w.queue("dead", |_| ());
    w.queue("q", |spec| {
        (spec.retry, spec.dead_letter) = (policy(retry), Some("dead".into()));
        change(spec);
    });
    w
}

fn failed(error: Option<&str>, class: Option<&str>) -> Outcome {
    let text = |text: Option<&str>| text.map(str::to_owned);
    Outcome::Failed(Failure { error: text(error), class: text(class), delay_ms: None })
}

fn one(w: &mut World) -> Handed {
    let handed = w.pull(queue("q"), 9, 60_000);
    assert_eq!(handed.len(), 1, "{handed:?}");
    handed[0]
}

/// Fails once, and returns the milliseconds until it is there again.
fn pause_after_failing(w: &mut World, outcome: Outcome) -> u64 {
    let handed = one(w);
    w.settle(queue("q"), &handed, outcome).expect("failed");
    let before = w.now;
    while w.queue_info("q").delayed > 0 {
        w.pass(1);
    }
    w.now.since(before)
}

fn dead(w: &mut World) -> Vec<Message> {
    w.drain_messages("dead")
}

fn told(message: &Message) -> (Option<&str>, Option<&str>, Option<&str>) {
    let text = |name| message.headers.text(name);
    (text(DEATH_REASON), text(DEATH_ERROR), text(DEATH_CLASS))
}

#[test]
fn pauses_grow_as_the_policy_says() {
    for (backoff, expected) in [
        (Backoff::Constant, [100, 100, 100, 100, 100]),
        (Backoff::Linear, [100, 200, 300, 400, 500]),
        (Backoff::Exponential, [100, 200, 400, 800, 1_000]),
    ] {
        let mut w = world(|it| it.backoff = backoff);
        w.publish("q", &["m"]);
        let pauses = expected.map(|_| pause_after_failing(&mut w, failed(None, None)));
        assert_eq!(pauses, expected, "{backoff:?}");
    }
}

#[test]
fn a_pause_of_ones_own_goes_before_the_policys() {
    let mut w = world(|_| ());
    w.publish("q", &["m"]);
    let own = |delay_ms| Outcome::Failed(Failure { delay_ms: Some(delay_ms), ..Failure::default() });
    assert_eq!(pause_after_failing(&mut w, own(7)), 7);
    assert_eq!(pause_after_failing(&mut w, own(0)), 0);
    assert_eq!(pause_after_failing(&mut w, Outcome::Requeued { delay_ms: 9 }), 9);
    assert_eq!(pause_after_failing(&mut w, failed(None, None)), 800, "of the fourth attempt");
}

#[test]
fn jitter_spreads_what_failed_together_and_is_the_same_after_a_restart() {
    let pauses = |restart: bool| {
        let mut w = world(|it| (it.first_ms, it.jitter_percent) = (1_000, 50));
        (0..50).for_each(|_| w.publish("q", &["m"]));
        let handed = w.pull(queue("q"), 50, 60_000);
        for one in &handed {
            w.settle(queue("q"), one, failed(None, None)).expect("failed");
        }
        if restart {
            w.restart();
        }
        let before = w.now;
        let mut pauses = Vec::new();
        while pauses.len() < 50 {
            w.pass(1);
            pauses.resize(50 - w.queue_info("q").delayed as usize, w.now.since(before));
        }
        pauses
    };
    let first = pauses(false);
    assert!(first[0] >= 500 && first[49] <= 1_000, "{first:?}");
    assert!(first.iter().collect::<std::collections::BTreeSet<_>>().len() > 25, "{first:?}");
    assert_eq!(pauses(true), first);
}

#[test]
fn what_waits_does_not_hold_up_others() {
    let mut w = world(|_| ());
    w.publish("q", &["bad", "1", "2"]);
    let consumer = w.attach(queue("q"), 1);
    let bad = w.take(consumer)[0];
    w.settle(queue("q"), &bad, failed(None, None)).expect("failed");
    for body in ["1", "2"] {
        let handed = w.take(consumer)[0];
        assert_eq!(w.body(&handed), body);
        w.accept(queue("q"), &handed);
    }
    w.pass(99);
    assert!(w.take(consumer).is_empty());
    w.pass(1);
    assert_eq!(w.bodies(consumer), ["bad"]);
}

#[test]
fn with_an_order_by_key_only_that_key_waits() {
    let mut w = world_with(|_| (), |spec| spec.order = Order::Key);
    for (body, key) in [("a1", "a"), ("b1", "b"), ("a2", "a"), ("b2", "b")] {
        w.publish_with("q", body, |message| message.key = Some(key.into())).expect("published");
    }
    let consumer = w.attach(queue("q"), 9);
    let first = w.take(consumer);
    assert_eq!(first.iter().map(|it| w.body(it)).collect::<Vec<_>>(), ["a1", "b1"]);
    w.settle(queue("q"), &first[0], failed(None, None)).expect("failed");
    w.accept(queue("q"), &first[1]);
    assert_eq!(w.bodies(consumer), ["b2"], "its own key waits, others go on");
    w.restart();
    let consumer = w.attach(queue("q"), 9);
    assert_eq!(w.bodies(consumer), ["b2"]);
    w.pass(100);
    assert_eq!(w.bodies(consumer), ["a1"]);
}

#[test]
fn an_ordered_subscription_keeps_its_order_through_a_pause() {
    let mut w = World::new();
    w.topic("t", |spec| spec.partitions = 1);
    w.subscribe("s", "t", |spec| (spec.mode, spec.retry) = (Mode::Ordered, policy(|_| ())));
    w.publish("t", &["1", "2"]);
    let consumer = w.attach(subscription("s"), 1);
    let first = w.take(consumer)[0];
    w.settle(subscription("s"), &first, failed(None, None)).expect("failed");
    w.pass(99);
    assert!(w.take(consumer).is_empty());
    w.pass(1);
    assert_eq!(w.bodies(consumer), ["1"]);
}

/// An ordered subscription `s` with messages `a1`, `b1`, `a2` and so on, each of the key that its letter names; `-` has none.
fn ordered_by_key(bodies: &[&str]) -> World {
    let mut w = World::new();
    w.topic("t", |_| ());
    w.queue("dead", |_| ());
    w.subscribe("s", "t", |spec| {
        (spec.mode, spec.retry) = (Mode::Ordered, policy(|it| it.backoff = Backoff::Constant));
        (spec.max_attempts, spec.dead_letter) = (Some(3), Some("dead".into()));
    });
    for body in bodies {
        let key = body[..1].to_owned();
        w.publish_with("t", body, |message| message.key = (key != "-").then(|| key.into()))
            .expect("published");
    }
    w
}

/// Takes the next message of `s`, which has that body, and says that it failed.
fn fail_next(w: &mut World, consumer: ConsumerId, body: &str) {
    let handed = w.take(consumer);
    assert_eq!(handed.iter().map(|it| w.body(it)).collect::<Vec<_>>(), [body]);
    w.settle(subscription("s"), &handed[0], failed(None, None)).expect("failed");
}

/// Accepts all that is handed out, as it comes.
fn work_off(w: &mut World, consumer: ConsumerId) -> Vec<String> {
    let mut bodies = Vec::new();
    loop {
        let handed = w.take(consumer);
        if handed.is_empty() {
            return bodies;
        }
        for one in handed {
            bodies.push(w.body(&one));
            w.accept(subscription("s"), &one);
        }
    }
}

#[test]
fn of_an_ordered_subscription_only_the_key_of_what_failed_waits() {
    for (last, snapshot) in [(false, false), (true, false), (true, true)] {
        let mut w = ordered_by_key(&["a1", "b1", "a2", "c1", "b2", "-1", "a3"]);
        let mut consumer = w.attach(subscription("s"), 1);
        fail_next(&mut w, consumer, "a1");
        assert_eq!(work_off(&mut w, consumer), ["b1", "c1", "b2", "-1"]);
        if last {
            if snapshot {
                w.restart_from_snapshot()
            } else {
                w.restart()
            }
            consumer = w.attach(subscription("s"), 1);
        }
        assert!(w.take(consumer).is_empty(), "a2 and a3 wait for a1");
        assert_eq!(
            (w.subscription_info("s").held_back, w.subscription_info("s").lag),
            (vec![HeldBack::Key], 2)
        );
        w.publish_with("t", "a4", |message| message.key = Some("a".into())).expect("published");
        w.publish_with("t", "b3", |message| message.key = Some("b".into())).expect("published");
        assert_eq!(work_off(&mut w, consumer), ["b3"]);
        w.pass(100);
        assert_eq!(work_off(&mut w, consumer), ["a1", "a2", "a3", "a4"]);
        assert_eq!((w.subscription_info("s").lag, w.subscription_info("s").counters.acknowledged), (0, 9));
    }
}

#[test]
fn what_failed_has_its_key_until_it_is_done_through_a_restart_in_mid_attempt() {
    for restart in [None, Some(World::restart as fn(&mut World)), Some(World::restart_from_snapshot)] {
        let mut w = ordered_by_key(&["a1", "a2", "b1"]);
        let mut consumer = w.attach(subscription("s"), 1);
        fail_next(&mut w, consumer, "a1");
        assert_eq!(work_off(&mut w, consumer), ["b1"]);
        w.run(Command::Credit(consumer, 9)).expect("more credit");
        w.pass(100);
        if let Some(restart) = restart {
            restart(&mut w);
            consumer = w.attach(subscription("s"), 9);
        }
        let again = w.take(consumer);
        assert_eq!(
            again.iter().map(|it| w.body(it)).collect::<Vec<_>>(),
            ["a1"],
            "alone, though there is credit"
        );
        w.settle(subscription("s"), &again[0], failed(None, None)).expect("failed");
        w.pass(100);
        if restart.is_none() {
            fail_next(&mut w, consumer, "a1");
        }
        // The third attempt was its last: it lies with the dead letters, or is done now.
        assert_eq!(work_off(&mut w, consumer).last().map(String::as_str), Some("a2"));
    }
}

#[test]
fn messages_without_a_key_keep_their_order_among_themselves() {
    let mut w = ordered_by_key(&["-1", "-2", "a1"]);
    let consumer = w.attach(subscription("s"), 1);
    fail_next(&mut w, consumer, "-1");
    assert_eq!(work_off(&mut w, consumer), ["a1"]);
    w.pass(100);
    assert_eq!(work_off(&mut w, consumer), ["-1", "-2"]);
}

#[test]
fn messages_of_a_key_that_failed_together_come_back_in_their_order() {
    let mut w = ordered_by_key(&["a1", "a2", "a3", "a4"]);
    let consumer = w.attach(subscription("s"), 3);
    let held = w.take(consumer);
    assert_eq!(held.len(), 3);
    let later = Outcome::Failed(Failure { delay_ms: Some(50), ..Failure::default() });
    w.settle(subscription("s"), &held[1], later).expect("failed");
    w.settle(subscription("s"), &held[0], failed(None, None)).expect("failed");
    w.settle(subscription("s"), &held[2], Outcome::Released).expect("released");
    w.pass(60);
    assert!(w.take(consumer).is_empty(), "a2 is due, and waits for a1");
    w.restart();
    let consumer = w.attach(subscription("s"), 3);
    assert!(w.take(consumer).is_empty());
    w.pass(40);
    assert_eq!(work_off(&mut w, consumer), ["a1", "a2", "a3", "a4"]);
}

#[test]
fn a_key_is_free_when_its_message_becomes_a_dead_letter_or_the_subscription_moves_on() {
    let mut w = ordered_by_key(&["a1", "a2"]);
    let consumer = w.attach(subscription("s"), 1);
    (0..3).for_each(|_| {
        fail_next(&mut w, consumer, "a1");
        w.pass(100);
    });
    assert_eq!((work_off(&mut w, consumer), w.drain("dead")), (vec!["a2".into()], vec!["a1".into()]));

    let mut w = ordered_by_key(&["a1", "a2", "a3"]);
    let consumer = w.attach(subscription("s"), 1);
    fail_next(&mut w, consumer, "a1");
    assert!(w.take(consumer).is_empty());
    let to = vec![(name("t"), 0, Offset(1))];
    w.run(Command::Seek(Seek { subscription: name("s"), to })).expect("moved");
    assert_eq!(work_off(&mut w, consumer), ["a2", "a3"]);
}

#[test]
fn another_mode_lets_what_waits_behind_a_key_go() {
    let mut w = ordered_by_key(&["a1", "a2"]);
    let consumer = w.attach(subscription("s"), 1);
    fail_next(&mut w, consumer, "a1");
    assert!(w.take(consumer).is_empty());
    let mut spec = w.subscription_info("s").spec;
    spec.mode = Mode::Competing;
    let declare = |spec| Declare {
        name: name("s"),
        spec: Spec::Subscription(spec),
        change: true,
        session: SessionId(0),
    };
    w.run(Command::Declare(declare(spec.clone()))).expect("changed");
    assert_eq!(work_off(&mut w, consumer), ["a2"]);
    w.publish_with("t", "a3", |message| message.key = Some("a".into())).expect("published");
    let held = w.take(consumer);
    spec.mode = Mode::Ordered;
    w.run(Command::Declare(declare(spec))).expect("changed");
    w.publish_with("t", "a4", |message| message.key = Some("a".into())).expect("published");
    w.accept(subscription("s"), &held[0]);
    assert!(w.take(consumer).is_empty(), "a4 waits for a1, which waits for its time");
    w.pass(100);
    assert_eq!(work_off(&mut w, consumer), ["a1", "a4"]);
}

#[test]
fn those_of_a_key_follow_each_other_where_what_is_handed_out_is_done_at_once() {
    let mut w = world_with(|_| (), |spec| spec.order = Order::Key);
    for body in ["a1", "a2", "a3"] {
        w.publish_with("q", body, |message| message.key = Some("a".into())).expect("published");
    }
    assert_eq!(w.drain("q"), ["a1", "a2", "a3"]);
}

#[test]
fn attempts_and_age_have_their_own_cause() {
    let mut w = world(|it| it.attempts_max = Some(2));
    w.publish("q", &["m"]);
    pause_after_failing(&mut w, failed(Some("first"), None));
    pause_after_failing(&mut w, failed(Some("second"), None));
    let letters = dead(&mut w);
    assert_eq!(told(&letters[0]), (Some("max_attempts"), Some("second"), None));
    assert_eq!(letters[0].headers.get(DEATH_ATTEMPTS).and_then(Value::as_i64), Some(2));

    let mut w = world(|it| it.age_ms_max = Some(300));
    w.publish("q", &["m"]);
    assert_eq!(pause_after_failing(&mut w, failed(None, None)), 100);
    pause_after_failing(&mut w, failed(Some("slow"), None));
    assert_eq!(told(&dead(&mut w)[0]), (Some("max_age"), Some("slow"), None));
    assert_eq!(w.now.since(waystation_base::Millis(1_000_000)), 100, "not tried when it would be too late");
    assert_eq!(w.queue_info("q").counters.dead_lettered, 1);
}

#[test]
fn age_counts_from_when_a_message_could_first_be_had() {
    let mut w = world(|it| it.age_ms_max = Some(300));
    let at = w.now.plus(10_000);
    w.publish_with("q", "later", |message| message.deliver_at = Some(at)).expect("published");
    w.pass(10_000);
    assert_eq!(pause_after_failing(&mut w, failed(None, None)), 100);
}

#[test]
fn the_smaller_limit_of_queue_and_policy_counts() {
    for (queue_max, policy_max) in [(Some(1), Some(5)), (Some(5), Some(1)), (None, Some(1)), (Some(1), None)]
    {
        let mut w = world_with(|it| it.attempts_max = policy_max, |spec| spec.max_attempts = queue_max);
        w.publish("q", &["m"]);
        pause_after_failing(&mut w, failed(None, None));
        assert_eq!(told(&dead(&mut w)[0]).0, Some("max_attempts"), "{queue_max:?} {policy_max:?}");
    }
}

#[test]
fn a_class_has_its_own_pauses_or_is_given_up_at_once() {
    let busy = ClassPolicy { first_ms: Some(700), ..ClassPolicy::default() };
    let mut w = world(|it| it.classes = class("busy", busy));
    w.publish("q", &["m"]);
    assert_eq!(pause_after_failing(&mut w, failed(None, Some("busy"))), 700);
    assert_eq!(pause_after_failing(&mut w, failed(None, Some("other"))), 200);

    let invalid = ClassPolicy { give_up: true, ..ClassPolicy::default() };
    let mut w = world(|it| it.classes = class("invalid", invalid));
    w.publish("q", &["m"]);
    pause_after_failing(&mut w, failed(Some("no such order"), Some("invalid")));
    assert_eq!(told(&dead(&mut w)[0]), (Some("rejected"), Some("no such order"), Some("invalid")));
}

#[test]
fn a_rejection_tells_its_class_too() {
    let mut w = world(|_| ());
    w.publish("q", &["m"]);
    let handed = one(&mut w);
    let outcome = Outcome::Rejected { error: Some("bad".into()), class: Some("invalid".into()) };
    w.settle(queue("q"), &handed, outcome).expect("rejected");
    assert_eq!(told(&dead(&mut w)[0]), (Some("rejected"), Some("bad"), Some("invalid")));
}

/// Two attempts that fail so; returns what the dead letter tells.
fn after(w: &mut World, first: Outcome, last: impl FnOnce(&mut World, &Handed)) -> (String, String) {
    w.publish("q", &["m"]);
    let handed = one(w);
    w.settle(queue("q"), &handed, first).expect("failed");
    w.pass(1_000);
    let handed = one(w);
    last(w, &handed);
    let letters = dead(w);
    let (_, error, class) = told(&letters[0]);
    (error.unwrap_or_default().into(), class.unwrap_or_default().into())
}

#[test]
fn the_last_error_stays_known_until_the_message_is_done() {
    let unspoken = |w: &mut World, handed: &Handed| {
        w.settle(queue("q"), handed, failed(None, None)).expect("failed");
    };
    let check = |restart: Option<fn(&mut World)>| {
        let mut w = world(|it| it.attempts_max = Some(2));
        let (error, class) =
            after(&mut w, failed(Some("disk full"), Some("busy")), |w, handed| match restart {
                None => unspoken(w, handed),
                Some(restart) => {
                    restart(w);
                    unspoken(w, handed);
                }
            });
        assert_eq!((error.as_str(), class.as_str()), ("disk full", "busy"));
    };
    check(None);
    check(Some(World::restart));
    check(Some(World::restart_from_snapshot));
}

#[test]
fn a_lease_that_ends_waits_as_the_policy_says_and_tells_so() {
    let mut w = world(|it| it.attempts_max = Some(2));
    let (error, class) = after(&mut w, failed(Some("slow"), None), |w, _| w.pass(60_000));
    assert_eq!(error, "its lease ended before it was settled; before that: slow");
    assert_eq!(class, LEASE_ENDED);

    let mut w = world(|_| ());
    w.publish("q", &["m"]);
    w.pull(queue("q"), 1, 50);
    w.pass(149);
    assert_eq!((w.queue_info("q").delayed, w.queue_info("q").ready), (1, 0));
    w.pass(1);
    assert_eq!(one(&mut w).attempt, Attempt(2));
}

#[test]
fn a_message_whose_consumer_goes_away_counts_an_attempt_and_is_there_at_once() {
    let mut w = world(|it| it.attempts_max = Some(2));
    w.publish("q", &["poison"]);
    for attempt in [1, 2] {
        let consumer = w.attach(queue("q"), 9);
        assert_eq!(w.take(consumer)[0].attempt, Attempt(attempt));
        w.run(Command::Detach(consumer)).expect("detached");
    }
    let letters = dead(&mut w);
    let told = told(&letters[0]);
    assert_eq!((told.0, told.2), (Some("max_attempts"), Some(CONSUMER_LOST)));
    assert_eq!(told.1, Some("its consumer went away while it held it"));
}

#[test]
fn the_policy_may_let_what_lost_its_consumer_wait() {
    let lost = ClassPolicy { first_ms: Some(300), ..ClassPolicy::default() };
    let mut w = world(|it| it.classes = class(CONSUMER_LOST, lost));
    w.publish("q", &["m"]);
    let consumer = w.attach(queue("q"), 9);
    w.run(Command::Detach(consumer)).expect("detached");
    assert_eq!(w.queue_info("q").delayed, 1);
    w.pass(300);
    assert_eq!(one(&mut w).attempt, Attempt(2));
}

#[test]
fn a_restart_counts_an_attempt_and_lets_nothing_wait() {
    let lost = ClassPolicy { first_ms: Some(300), give_up: true, ..ClassPolicy::default() };
    let mut w = world(|it| it.classes = class(CONSUMER_LOST, lost));
    w.publish("q", &["m"]);
    w.attach(queue("q"), 9);
    w.restart();
    assert_eq!(one(&mut w).attempt, Attempt(2));
}

#[test]
fn what_was_not_tried_is_there_at_once_and_counts_nothing() {
    let mut w = world(|it| it.attempts_max = Some(1));
    w.publish("q", &["m"]);
    let handed = one(&mut w);
    w.settle(queue("q"), &handed, Outcome::Released).expect("released");
    assert_eq!(one(&mut w).attempt, Attempt(1));
}

#[test]
fn delays_survive_restarts_to_the_millisecond() {
    for restart in [World::restart, World::restart_from_snapshot] {
        let mut w = world(|it| it.backoff = Backoff::Linear);
        (0..9).for_each(|_| w.publish("q", &["m"]));
        for (index, handed) in w.pull(queue("q"), 9, 60_000).iter().enumerate() {
            let delay_ms = Some(1_000 + 10 * index as u64);
            let outcome = Outcome::Failed(Failure { delay_ms, ..Failure::default() });
            w.settle(queue("q"), handed, outcome).expect("failed");
        }
        w.pass(500);
        restart(&mut w);
        let before = w.now;
        for index in 0..9 {
            let due = before.plus(500 + 10 * index);
            w.pass(due.since(w.now) - 1);
            assert_eq!(w.queue_info("q").ready, index);
            w.pass(1);
            assert_eq!(w.queue_info("q").ready, index + 1);
        }
    }
}

#[test]
fn a_subscription_has_a_policy_as_a_queue_has() {
    let mut w = World::new();
    w.queue("dead", |_| ());
    w.topic("t", |_| ());
    w.subscribe("s", "t", |spec| {
        (spec.retry, spec.dead_letter) = (policy(|it| it.attempts_max = Some(2)), Some("dead".into()));
    });
    w.publish("t", &["m"]);
    let consumer = w.attach(subscription("s"), 1);
    let source: Source = subscription("s");
    let handed = w.take(consumer)[0];
    w.settle(source.clone(), &handed, failed(Some("a"), None)).expect("failed");
    w.pass(100);
    let handed = w.take(consumer)[0];
    w.settle(source, &handed, failed(Some("b"), None)).expect("failed");
    assert_eq!(told(&dead(&mut w)[0]), (Some("max_attempts"), Some("b"), None));
}

#[test]
fn a_long_error_is_cut() {
    let mut w = world(|it| it.attempts_max = Some(1));
    w.publish("q", &["m"]);
    let text = "x".repeat(ERROR_TEXT_BYTES_MAX + 1);
    let handed = one(&mut w);
    w.settle(queue("q"), &handed, failed(Some(&text), None)).expect("failed");
    assert_eq!(told(&dead(&mut w)[0]).1, Some(&text[1..]));
}

#[test]
fn without_dead_letters_what_is_given_up_goes_and_is_counted() {
    let mut w = world_with(|it| it.attempts_max = Some(1), |spec| spec.dead_letter = None);
    w.publish("q", &["m"]);
    let handed = one(&mut w);
    w.settle(queue("q"), &handed, failed(Some("x"), None)).expect("failed");
    let info = w.queue_info("q");
    assert_eq!((info.ready + info.delayed + info.in_flight, info.counters.rejected), (0, 1));
}
