//! Are groups completed when they shall be, and once; and does it make no difference to begin again from what is held?

use proptest::prelude::*;

use super::*;

fn rules() -> Rules {
    Rules { size: Some(3), timeout_ms: 100, remember_ms: None, needs_opener: false, held_max: 100 }
}

fn member(key: &str, at: u64) -> Facts {
    Facts { key: key.into(), at: Millis(at), role: Role::Member { size: None, last: false } }
}

/// What is to be done, each act as a word.
fn acts(groups: &mut Groups<u32>, now: u64) -> Vec<String> {
    std::iter::from_fn(|| groups.next(Millis(now)))
        .map(|act| match act {
            Act::Complete { key, end, opener, members, remember_until } => {
                let opener = opener.map_or(String::new(), |it| format!("{it}>"));
                let until = remember_until.map_or(String::new(), |it| format!(" until {}", it.0));
                format!("{key} {} {opener}{members:?}{until}", end.word())
            }
            Act::Late { key, members } => format!("{key} late {members:?}"),
            Act::Forget(marker) => format!("forget {marker}"),
        })
        .collect()
}

#[test]
fn a_group_is_complete_by_its_size() {
    let mut groups = Groups::new(rules());
    for (key, item) in [("a", 1), ("b", 2), ("a", 3), ("a", 4), ("b", 5)] {
        groups.put(member(key, 0), item);
    }
    assert_eq!(acts(&mut groups, 0), ["a size [1, 3, 4]"]);
    assert_eq!(groups.held(), 2);
}

#[test]
fn a_message_may_say_how_many_there_are_or_that_it_is_the_last() {
    let mut groups = Groups::new(Rules { size: None, ..rules() });
    let says = |size, last| Facts { role: Role::Member { size, last }, ..member("a", 0) };
    groups.put(says(Some(2), false), 1);
    groups.put(says(None, false), 2);
    groups.put(says(None, false), 3);
    groups.put(says(None, true), 4);
    groups.put(says(Some(1), false), 5);
    assert_eq!(acts(&mut groups, 0), ["a size [1, 2]", "a condition [3, 4]", "a size [5]"]);
}

#[test]
fn a_group_is_complete_when_its_time_is_up_counted_from_its_first_message() {
    let mut groups = Groups::new(rules());
    groups.put(member("a", 10), 1);
    groups.put(member("b", 20), 2);
    groups.put(member("a", 90), 3);
    assert_eq!(groups.due(), Some(Millis(110)));
    groups.tick(Millis(109));
    assert_eq!(acts(&mut groups, 109), [""; 0]);
    groups.tick(Millis(110));
    assert_eq!(acts(&mut groups, 110), ["a timeout [1, 3]"]);
    groups.tick(Millis(500));
    assert_eq!(acts(&mut groups, 500), ["b timeout [2]"]);
    assert_eq!(groups.due(), None);
}

#[test]
fn late_messages_begin_another_group_or_are_told_apart_for_as_long_as_the_group_is_remembered() {
    let mut own = Groups::new(Rules { size: Some(1), ..rules() });
    own.put(member("a", 0), 1);
    own.put(member("a", 1), 2);
    assert_eq!(acts(&mut own, 1), ["a size [1]", "a size [2]"]);

    let mut groups = Groups::new(Rules { size: Some(1), remember_ms: Some(50), ..rules() });
    groups.put(member("a", 0), 1);
    assert_eq!(acts(&mut groups, 10), ["a size [1] until 60"]);
    groups.put(member("a", 11), 2);
    groups.put(Facts { role: Role::Marker { until: Millis(60) }, ..member("a", 10) }, 3);
    groups.put(member("a", 60), 4);
    assert_eq!(acts(&mut groups, 60), ["a late [2]", "a late [4]"]);
    groups.tick(Millis(61));
    assert_eq!(acts(&mut groups, 61), ["forget 3"]);
    groups.put(member("a", 61), 5);
    assert_eq!(acts(&mut groups, 61), ["a size [5] until 111"]);
}

fn marker(until: u64) -> Facts {
    Facts { role: Role::Marker { until: Millis(until) }, ..member("a", 0) }
}

#[test]
fn a_key_is_known_for_as_long_as_its_longest_marker_says_in_whatever_order_they_come() {
    for order in [[(60, 1), (90, 2)], [(90, 2), (60, 1)]] {
        let mut groups = Groups::new(Rules { remember_ms: Some(50), ..rules() });
        order.into_iter().for_each(|(until, item)| groups.put(marker(until), item));
        groups.tick(Millis(61));
        groups.put(member("a", 80), 3);
        assert_eq!(acts(&mut groups, 80), ["forget 1", "a late [3]"], "{order:?}");
        assert_eq!((groups.held(), groups.due()), (1, Some(Millis(91))), "{order:?}");
        groups.tick(Millis(91));
        assert_eq!(acts(&mut groups, 91), ["forget 2"], "{order:?}");
        assert_eq!((groups.held(), groups.due()), (0, None), "{order:?}");
    }
}

#[test]
fn a_marker_that_comes_after_the_next_completion_does_not_shorten_what_that_one_says() {
    let mut groups = Groups::new(Rules { remember_ms: Some(50), ..rules() });
    groups.was_complete(&"a".into(), Millis(10));
    groups.was_complete(&"a".into(), Millis(40));
    groups.put(marker(60), 1);
    groups.tick(Millis(61));
    groups.put(member("a", 70), 2);
    assert_eq!(acts(&mut groups, 70), ["a late [2]"]);
    groups.put(marker(90), 3);
    groups.tick(Millis(91));
    assert_eq!(acts(&mut groups, 91), ["forget 1", "forget 3"]);
    assert_eq!((groups.held(), groups.due()), (0, None));
}

#[test]
fn members_wait_for_what_opens_their_group_and_are_late_if_it_does_not_come() {
    let mut groups = Groups::new(Rules { size: None, needs_opener: true, ..rules() });
    let opener = |key: &str, size| Facts { role: Role::Opener { size }, ..member(key, 0) };
    groups.put(member("a", 0), 1);
    groups.put(member("a", 0), 2);
    assert_eq!(acts(&mut groups, 0), [""; 0]);
    groups.put(opener("a", 2), 3);
    assert_eq!(acts(&mut groups, 0), ["a size 3>[1, 2]"]);
    groups.put(member("a", 0), 4);
    groups.put(opener("b", 2), 5);
    groups.put(member("b", 0), 6);
    groups.put(opener("c", 0), 7);
    groups.tick(Millis(100));
    assert_eq!(acts(&mut groups, 100), ["c size 7>[]", "a late [4]", "b timeout 5>[6]"]);
    assert_eq!(groups.held(), 0);
}

#[test]
fn what_is_held_is_bounded_at_held_max_by_completing_the_oldest_group() {
    let mut groups = Groups::new(Rules { held_max: 3, ..rules() });
    for (item, key) in ["a", "b", "c"].into_iter().enumerate() {
        groups.put(member(key, item as u64), item as u32);
    }
    assert_eq!(acts(&mut groups, 3), [""; 0]);
    groups.put(member("d", 3), 3);
    assert_eq!(acts(&mut groups, 3), ["a full [0]"]);
    let mut markers = Groups::new(Rules { held_max: 1, remember_ms: Some(9), ..rules() });
    for (item, until) in [(1, 9), (2, 5)] {
        markers
            .put(Facts { role: Role::Marker { until: Millis(until) }, ..member(&item.to_string(), 0) }, item);
    }
    assert_eq!(acts(&mut markers, 0), ["forget 2"]);
}

#[test]
fn a_group_is_completed_as_it_is_when_there_is_no_room_for_its_bytes() {
    let mut groups = Groups::new(rules());
    groups.put(member("a", 0), 1);
    groups.put(member("b", 1), 2);
    groups.relieve();
    assert_eq!(acts(&mut groups, 1), ["a full [1]"]);
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8),
    Wait(u64),
    /// Everything in memory is lost, and what is held comes again.
    Crash,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![6 => (0..4u8).prop_map(Step::Put), 2 => (1..80u64).prop_map(Step::Wait), 1 => Just(Step::Crash)]
}

/// A queue with what is held, as the broker keeps it: by item.
type Queue = std::collections::BTreeMap<u32, Facts>;

fn drain(groups: &mut Groups<u32>, queue: &mut Queue, next: &mut u32, now: u64, done: &mut Vec<u32>) {
    while let Some(act) = groups.next(Millis(now)) {
        let (gone, marker) = match act {
            Act::Complete { key, members, opener, remember_until, .. } => {
                assert!(members.len() <= 3);
                let marker =
                    remember_until.map(|until| Facts { key, at: Millis(now), role: Role::Marker { until } });
                done.extend(&members);
                (members.into_iter().chain(opener).collect(), marker)
            }
            Act::Late { members, .. } => {
                done.extend(&members);
                (members, None)
            }
            Act::Forget(marker) => (vec![marker], None),
        };
        for item in gone {
            assert!(queue.remove(&item).is_some(), "{item} was settled twice");
        }
        if let Some(facts) = marker {
            *next += 1;
            queue.insert(*next, facts.clone());
            groups.put(facts, *next);
        }
    }
    assert_eq!(groups.held(), queue.len());
}

proptest! {
    #[test]
    fn each_message_leaves_once_whatever_is_lost_between(
        steps in proptest::collection::vec(any_step(), 0..60), remember in proptest::option::of(1..200u64)
    ) {
        let rules = Rules { remember_ms: remember, held_max: 12, ..rules() };
        let (mut groups, mut queue) = (Groups::new(rules), Queue::new());
        let (mut next, mut now, mut put, mut done) = (0, 0, Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Put(key) => {
                    next += 1;
                    put.push(next);
                    let facts = member(&key.to_string(), now);
                    queue.insert(next, facts.clone());
                    groups.put(facts, next);
                }
                Step::Wait(ms) => now += ms,
                Step::Crash => {
                    groups = Groups::new(rules);
                    let is_marker = |facts: &Facts| matches!(facts.role, Role::Marker { .. });
                    let (markers, others): (Vec<_>, Vec<_>) = queue.clone().into_iter().partition(|(_, facts)| is_marker(facts));
                    markers.into_iter().chain(others).for_each(|(item, facts)| groups.put(facts, item));
                }
            }
            groups.tick(Millis(now));
            drain(&mut groups, &mut queue, &mut next, now, &mut done);
        }
        now += 1_000;
        groups.tick(Millis(now));
        drain(&mut groups, &mut queue, &mut next, now, &mut done);
        now += 1_000;
        groups.tick(Millis(now));
        drain(&mut groups, &mut queue, &mut next, now, &mut done);
        done.sort_unstable();
        prop_assert_eq!(done, put);
        prop_assert!(queue.is_empty() && groups.due().is_none(), "{:?}", queue);
    }
}
