//! Is what is due done in order for each key, and does one that waits hold up no other?

use super::*;
use crate::hold::groups;

impl Item for u32 {
    fn bytes(&self) -> usize {
        10
    }

    fn offset(&self) -> Option<u64> {
        Some((*self).into())
    }
}

fn late(key: &str, members: &[u32]) -> Act<u32> {
    Act::Group(groups::Act::Late { key: key.into(), members: members.to_vec() })
}

fn due() -> Due<u32> {
    Due::new(Weight { messages: 4, bytes: 100 })
}

fn now(due: &mut Due<u32>, at: u64) -> Option<(String, Vec<Act<u32>>)> {
    due.next(Millis(at)).map(|task| (task.key.to_string(), task.acts.into()))
}

fn of(messages: usize) -> Weight {
    Weight { messages, bytes: messages * 10 }
}

#[test]
fn acts_of_one_key_are_done_in_order_and_no_two_of_it_at_a_time() {
    let mut due = due();
    due.push(late("a", &[1]));
    due.push(late("b", &[2]));
    due.push(late("a", &[3]));
    assert_eq!(now(&mut due, 0), Some(("a".into(), vec![late("a", &[1]), late("a", &[3])])));
    due.push(late("a", &[4]));
    assert_eq!(now(&mut due, 0), Some(("b".into(), vec![late("b", &[2])])));
    assert_eq!(now(&mut due, 0), None, "the rest of a waits until its first are done");
    due.end(Task { key: "a".into(), acts: VecDeque::new(), tried: Tried::default() }, of(2), None);
    assert_eq!(now(&mut due, 0), Some(("a".into(), vec![late("a", &[4])])));
    assert_eq!(due.weight(), of(2));
}

#[test]
fn what_is_tried_again_waits_for_its_time_and_comes_before_what_came_later() {
    let mut due = due();
    due.push(late("a", &[1]));
    let task = due.next(Millis(0)).expect("due");
    due.push(late("a", &[2]));
    due.push(late("b", &[3]));
    let tried = Tried { times: 1, ..Tried::default() };
    due.end(Task { tried: tried.clone(), ..task }, Weight::default(), Some(Millis(50)));
    assert_eq!(due.at(), Some(Millis(50)));
    assert_eq!(now(&mut due, 49), Some(("b".into(), vec![late("b", &[3])])));
    assert_eq!(now(&mut due, 49), None);
    let again = due.next(Millis(50)).expect("due");
    assert_eq!((again.tried, Vec::from(again.acts)), (tried, vec![late("a", &[1]), late("a", &[2])]));
    assert_eq!(due.at(), None);
}

#[test]
fn a_task_has_so_many_messages_unless_one_act_alone_has_more() {
    let mut due = Due::new(of(10_000));
    let many: Vec<u32> = (0..BATCH_MESSAGES_MAX as u32 + 1).collect();
    due.push(late("a", &many));
    due.push(late("a", &many[1..]));
    due.push(late("a", &[1]));
    assert_eq!(now(&mut due, 0).map(|(_, acts)| acts), Some(vec![late("a", &many)]));
    due.end(Task { key: "a".into(), acts: VecDeque::new(), tried: Tried::default() }, of(many.len()), None);
    assert_eq!(now(&mut due, 0).map(|(_, acts)| acts), Some(vec![late("a", &many[1..])]));
}

#[test]
fn it_has_room_up_to_its_bounds_and_again_when_something_is_stored() {
    for (max, past) in [(of(4), 4), (Weight { messages: 100, bytes: 40 }, 4)] {
        let mut due = Due::new(max);
        (1..past).for_each(|n| due.push(late("a", &[n])));
        assert!(due.has_room());
        due.push(late("b", &[0]));
        assert!(!due.has_room());
        let Task { key, acts, tried } = due.next(Millis(0)).expect("due");
        due.end(Task { key: key.clone(), acts, tried }, Weight::default(), Some(Millis(1)));
        assert!(!due.has_room(), "what waits counts");
        let Task { tried, .. } = due.next(Millis(1)).expect("due");
        due.end(Task { key, acts: VecDeque::new(), tried }, of(1), None);
        assert!(due.has_room());
    }
}

fn recalled(of: u64, note: u32) -> Recalled<u32> {
    let tried = Tried { times: 2, since: Some(Millis(7)), notes: vec![note], ..Tried::default() };
    Recalled { tried, at: Millis(50), of }
}

#[test]
fn what_is_known_of_tries_before_is_of_the_act_that_was_tried_and_waits_for_its_time() {
    let mut due = due();
    due.recall("a".into(), recalled(2, 9));
    due.push(late("a", &[1]));
    due.push(late("a", &[2, 3]));
    let first = due.next(Millis(0)).expect("due");
    assert_eq!(first.tried, Tried::default(), "another one was tried");
    let rest = Task { acts: VecDeque::from([late("a", &[2, 3])]), ..first };
    due.end(rest, of(1), None);
    assert_eq!((now(&mut due, 49), due.at()), (None, Some(Millis(50))));
    let task = due.next(Millis(50)).expect("due");
    assert_eq!(task.tried, recalled(2, 9).tried);
    assert_eq!(due.weight(), of(3), "what is noted counts");
    due.end(Task { acts: VecDeque::new(), tried: Tried::default(), ..task }, of(3), None);
    assert_eq!((now(&mut due, 99), due.weight()), (None, of(0)));
}

#[test]
fn what_is_known_of_nothing_that_comes_leaves_when_its_key_is_done() {
    let mut due = due();
    due.recall("a".into(), recalled(2, 9));
    due.push(late("a", &[1]));
    let task = due.next(Millis(0)).expect("due");
    due.end(Task { acts: VecDeque::new(), ..task }, of(1), None);
    assert_eq!(now(&mut due, 0), Some(("a".into(), vec![Act::Done { key: "a".into(), note: 9 }])));
    assert_eq!(due.weight(), of(1));
}

#[test]
fn what_was_given_up_stays_so_whatever_is_known_of_its_tries() {
    let mut due = due();
    let fault = (std::sync::Arc::from("a step"), Fault::invalid("bad"));
    due.push(late("a", &[1]));
    due.tried("a", Tried { times: 1, given_up: Some(Arc::new(fault)), ..Tried::default() });
    due.recall("a".into(), recalled(1, 9));
    let task = due.next(Millis(0)).expect("at once");
    assert!(task.tried.given_up.is_some() && task.tried.times == 1 && task.tried.notes == [9]);
}
