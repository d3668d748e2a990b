//! Tests of what is raised and resolved.

use waystation_broker::Kind as Sort;

use super::*;
use crate::rule::AlertSpec;

fn name(text: &str) -> Name {
    Name::new(text).expect("a name")
}

fn vital(text: &str) -> Vital {
    Vital {
        kind: Sort::Queue,
        name: name(text),
        waiting: 0,
        consumers: 0,
        oldest: None,
        arrived: 0,
        delivered: 0,
        is_grave: false,
    }
}

/// What each look at one thing, at a time in seconds, tells.
fn check(settings: &[AlertSpec], looks: &[(u64, Vital)], expected: &[(u64, Kind, State)]) {
    let settings = settings.iter().enumerate().map(|(n, spec)| (name(&format!("rule-{n}")), spec.clone()));
    let settings = Settings::new(settings.collect());
    let mut judge = Judge::default();
    let mut told = Vec::new();
    for (second, vital) in looks {
        let changes =
            judge.look(Millis(1_000_000_000 + second * 1000), std::slice::from_ref(vital), &settings);
        told.extend(changes.into_iter().map(|alert| (*second, alert.kind, alert.state)));
    }
    assert_eq!(told, expected);
}

fn grave(arrived: u64) -> Vital {
    Vital { is_grave: true, arrived, waiting: arrived, oldest: Some(Millis(1)), ..vital("orders.dead") }
}

#[test]
fn dead_letters_are_told_once_when_they_grow_and_once_when_they_have_stopped() {
    let mut looks = vec![(0, grave(1_000)), (5, grave(1_009)), (10, grave(1_010)), (15, grave(2_000))];
    looks.extend((4..200).map(|n| (n * 5, grave(2_000))));
    let resolved = 15 + 300 + 30 + 15;
    let told: Vec<_> =
        [(10, Kind::DeadLetters, State::Raised), (resolved, Kind::DeadLetters, State::Resolved)].into();
    let mut judge = Judge::default();
    let mut seen = Vec::new();
    for (second, vital) in &looks {
        let changes = judge.look(
            Millis(1_000_000_000 + second * 1000),
            std::slice::from_ref(vital),
            &Settings::default(),
        );
        seen.extend(changes.into_iter().map(|alert| (*second, alert.kind, alert.state)));
    }
    assert_eq!(seen[0], told[0]);
    assert_eq!(seen.len(), 2);
    assert_eq!((seen[1].1, seen[1].2), (told[1].1, told[1].2));
    assert!(seen[1].0 >= 300 + WELL_MS / 1000 && seen[1].0 <= resolved, "{seen:?}");
}

#[test]
fn what_lies_there_when_the_server_starts_and_what_comes_slowly_is_no_growth() {
    check(&[], &[(0, grave(5_000)), (5, grave(5_000)), (600, grave(5_009)), (1_200, grave(5_018))], &[]);
}

#[test]
fn a_consumer_is_missed_when_it_was_there_and_messages_wait_for_it() {
    let waiting = |consumers, delivered| Vital { waiting: 3, consumers, delivered, ..vital("orders") };
    let looks = [
        (0, waiting(1, 5)),
        (5, waiting(0, 5)),
        (60, waiting(0, 5)),
        (65, waiting(0, 5)),
        (70, waiting(0, 5)),
        (75, waiting(1, 5)),
        (80, waiting(0, 5)),
        (100, waiting(1, 5)),
        (129, waiting(1, 6)),
        (130, waiting(1, 7)),
    ];
    check(&[], &looks, &[(65, Kind::NoConsumer, State::Raised), (130, Kind::NoConsumer, State::Resolved)]);
    // Who asks now and then is no consumer for most of the time, and takes messages all the same.
    check(&[], &(0..40).map(|n| (n * 30, waiting(0, 5 + n))).collect::<Vec<_>>(), &[]);
    // Nobody ever was there: it may be meant so.
    check(&[], &[(0, waiting(0, 0)), (600, waiting(0, 0))], &[]);
    check(
        &[],
        &[
            (0, waiting(1, 5)),
            (5, Vital { waiting: 0, ..waiting(0, 5) }),
            (900, Vital { waiting: 0, ..waiting(0, 5) }),
        ],
        &[],
    );
}

#[test]
fn lag_is_told_by_the_settings_of_its_name_and_not_at_all_if_they_say_so() {
    let old = |now: u64, age: u64| Vital {
        waiting: 1,
        oldest: Some(Millis(1_000_000_000 + now * 1000 - age * 1000)),
        ..vital("orders")
    };
    let looks = [(0, old(0, 59)), (5, old(5, 60)), (10, old(10, 40)), (15, old(15, 29)), (45, old(45, 29))];
    let spec = |json: &str| serde_json::from_str::<AlertSpec>(json).expect("settings");
    let minute = spec(r#"{"on": "orders", "lag": {"age_ms": 60000}}"#);
    check(
        std::slice::from_ref(&minute),
        &looks,
        &[(5, Kind::Lag, State::Raised), (45, Kind::Lag, State::Resolved)],
    );
    check(&[], &looks, &[]);
    let off = AlertSpec { off: vec![Kind::Lag], ..minute };
    check(&[off], &looks, &[]);
}

#[test]
fn what_was_raised_before_a_restart_is_not_raised_again_and_is_resolved_when_it_is_gone() {
    let old = Vital { waiting: 1, oldest: Some(Millis(1)), ..vital("orders") };
    let now = Millis(1_000_000_000);
    let mut judge = Judge::default();
    let raised = judge.look(now, std::slice::from_ref(&old), &Settings::default());
    assert_eq!((raised.len(), raised[0].id.as_str()), (1, "lag/queue/orders"));
    assert_eq!(raised[0].runbook, "docs/runbooks/lag.md");
    let mut again = Judge::new(raised);
    assert!(again.look(now.plus(5_000), &[old], &Settings::default()).is_empty());
    let gone = again.look(now.plus(10_000), &[], &Settings::default());
    assert_eq!((gone.len(), gone[0].state, gone[0].resolved), (1, State::Resolved, Some(now.0 + 10_000)));
    assert_eq!(again.active().count(), 0);
}
