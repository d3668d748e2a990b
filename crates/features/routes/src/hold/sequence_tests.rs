//! Do messages leave in the order of their numbers, each once, whatever order they come in and whatever is lost between?

use proptest::prelude::*;

use super::*;

fn rules() -> Rules {
    Rules { first: 1, timeout_ms: 100, remember_ms: 1_000, held_max: 100 }
}

fn item(key: &str, number: u64, at: u64) -> Facts {
    Facts { key: key.into(), at: Millis(at), number, marker: false }
}

fn acts(sequences: &mut Sequences<u32>) -> Vec<String> {
    std::iter::from_fn(|| sequences.next())
        .map(|act| match act {
            Act::Release { key, items, next, missed, marker } => {
                let marker = marker.map_or(String::new(), |it| format!(" instead of {it}"));
                let missed = if missed == 0 { String::new() } else { format!(" missed {missed}") };
                format!("{key} {items:?} next {next}{missed}{marker}")
            }
            Act::Late { key, item } => format!("{key} late {item}"),
            Act::Forget(marker) => format!("forget {marker}"),
        })
        .collect()
}

#[test]
fn messages_leave_in_the_order_of_their_numbers() {
    let mut sequences = Sequences::new(rules());
    for (key, number, it) in
        [("a", 3, 30), ("a", 1, 10), ("b", 1, 11), ("a", 2, 20), ("a", 2, 21), ("a", 1, 12)]
    {
        sequences.put(item(key, number, 0), it);
    }
    assert_eq!(
        acts(&mut sequences),
        ["a [10] next 2", "b [11] next 2", "a [20, 30] next 4", "a late 21", "a late 12"]
    );
    sequences.put(item("c", 2, 0), 1);
    sequences.put(item("c", 2, 0), 2);
    assert_eq!(acts(&mut sequences), ["c late 2"], "a number that waits already");
}

#[test]
fn what_is_missing_is_given_up_after_a_time() {
    let mut sequences = Sequences::new(rules());
    sequences.put(item("a", 3, 10), 3);
    sequences.put(item("a", 6, 20), 6);
    assert_eq!(sequences.due(), Some(Millis(110)));
    sequences.tick(Millis(109));
    assert_eq!(acts(&mut sequences), [""; 0]);
    sequences.tick(Millis(110));
    assert_eq!(acts(&mut sequences), ["a [3] next 4 missed 2"]);
    sequences.put(item("a", 2, 111), 2);
    sequences.put(item("a", 4, 112), 4);
    assert_eq!(acts(&mut sequences), ["a late 2", "a [4] next 5"]);
    sequences.tick(Millis(120));
    assert_eq!(acts(&mut sequences), ["a [6] next 7 missed 1"]);
}

#[test]
fn a_marker_says_how_far_a_sequence_is_and_goes_when_that_is_long_ago() {
    let mut sequences = Sequences::new(rules());
    sequences.put(Facts { marker: true, ..item("a", 5, 0) }, 50);
    sequences.put(item("a", 4, 1), 4);
    sequences.put(item("a", 5, 2), 5);
    assert_eq!(acts(&mut sequences), ["a late 4", "a [5] next 6 instead of 50"]);
    sequences.put(Facts { marker: true, ..item("a", 6, 2) }, 60);
    sequences.tick(Millis(1_002));
    assert_eq!(acts(&mut sequences), [""; 0]);
    sequences.tick(Millis(1_003));
    assert_eq!(acts(&mut sequences), ["forget 60"]);
    sequences.put(item("a", 1, 1_003), 1);
    assert_eq!(acts(&mut sequences), ["a [1] next 2"]);
}

#[test]
fn what_is_held_is_bounded_at_held_max_by_giving_up_what_is_waited_for() {
    let mut sequences = Sequences::new(Rules { held_max: 2, ..rules() });
    sequences.put(item("a", 9, 0), 9);
    sequences.put(item("b", 9, 1), 19);
    assert_eq!(acts(&mut sequences), [""; 0]);
    sequences.put(item("c", 9, 2), 29);
    assert_eq!(acts(&mut sequences), ["a [9] next 10 missed 8"]);
}

#[test]
fn what_is_waited_for_is_given_up_when_there_is_no_room_for_bytes() {
    let mut sequences = Sequences::new(rules());
    sequences.put(item("a", 3, 0), 3);
    sequences.put(item("b", 2, 1), 12);
    sequences.relieve(Millis(1));
    assert_eq!(acts(&mut sequences), ["a [3] next 4 missed 2"]);
}

#[derive(Clone, Debug)]
enum Step {
    Put(u8, u64),
    Wait(u64),
    /// Everything in memory is lost, and what is held comes again.
    Crash,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2u8, 1..8u64).prop_map(|(key, number)| Step::Put(key, number)),
        2 => (1..80u64).prop_map(Step::Wait),
        1 => Just(Step::Crash),
    ]
}

type Queue = BTreeMap<u32, Facts>;

fn drain(
    sequences: &mut Sequences<u32>,
    queue: &mut Queue,
    next: &mut u32,
    now: u64,
    left: &mut Vec<(SmolStr, u64)>,
) -> usize {
    let mut late = 0;
    while let Some(act) = sequences.next() {
        match act {
            Act::Release { key, items, next: number, marker, .. } => {
                for item in &items {
                    let facts = queue.remove(item).expect("settled once");
                    left.push((facts.key, facts.number));
                }
                if let Some(marker) = marker {
                    queue.remove(&marker).expect("settled once");
                }
                *next += 1;
                let facts = Facts { key, at: Millis(now), number, marker: true };
                queue.insert(*next, facts.clone());
                sequences.put(facts, *next);
            }
            Act::Late { item, .. } => {
                queue.remove(&item).expect("settled once");
                late += 1;
            }
            Act::Forget(marker) => drop(queue.remove(&marker).expect("settled once")),
        }
    }
    assert_eq!(sequences.held(), queue.len());
    late
}

proptest! {
    #[test]
    fn order_holds_and_nothing_is_lost_whatever_is_lost_from_memory(steps in proptest::collection::vec(any_step(), 0..60)) {
        let rules = Rules { remember_ms: 1_000_000, held_max: 1_000, ..rules() };
        let (mut sequences, mut queue) = (Sequences::new(rules), Queue::new());
        let (mut next, mut now, mut put, mut late, mut left) = (0, 0, 0, 0, Vec::new());
        for step in steps {
            match step {
                Step::Put(key, number) => {
                    next += 1;
                    put += 1;
                    let facts = item(&key.to_string(), number, now);
                    queue.insert(next, facts.clone());
                    sequences.put(facts, next);
                }
                Step::Wait(ms) => now += ms,
                Step::Crash => {
                    sequences = Sequences::new(rules);
                    let (markers, others): (Vec<_>, Vec<_>) = queue.clone().into_iter().partition(|(_, facts)| facts.marker);
                    markers.into_iter().chain(others).for_each(|(it, facts)| sequences.put(facts, it));
                }
            }
            sequences.tick(Millis(now));
            late += drain(&mut sequences, &mut queue, &mut next, now, &mut left);
        }
        now += 10_000;
        sequences.tick(Millis(now));
        late += drain(&mut sequences, &mut queue, &mut next, now, &mut left);
        prop_assert_eq!(left.len() + late, put);
        for key in ["0", "1"] {
            let numbers: Vec<_> = left.iter().filter(|(of, _)| of == key).map(|(_, number)| *number).collect();
            prop_assert!(numbers.is_sorted_by(|before, after| before < after), "{:?}", numbers);
        }
    }
}
