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

#[test]
fn a_marker_is_kept_until_a_newer_one_has_come_though_more_has_left_meanwhile() {
    let marker = |number| Facts { marker: true, ..item("a", number, 0) };
    let mut sequences = Sequences::new(rules());
    (1..=3).for_each(|number| sequences.put(item("a", number, 0), number as u32));
    assert_eq!(acts(&mut sequences), ["a [1] next 2", "a [2] next 3", "a [3] next 4"]);
    // The last release is not stored yet: what is newest in the queue says that 3 comes next.
    sequences.put(marker(2), 20);
    sequences.put(marker(3), 30);
    assert_eq!(acts(&mut sequences), ["forget 20"]);
    sequences.put(marker(2), 21);
    sequences.put(marker(4), 40);
    assert_eq!(acts(&mut sequences), ["forget 21", "forget 30"]);
}

#[derive(Clone, Debug)]
enum Step {
    /// A message is stored in the queue.
    Put(u8, u64),
    /// The next message of the queue comes.
    Take,
    /// What is to be done first for this key is stored.
    Store(&'static str),
    Wait(u64),
    /// Everything in memory is lost, and what is held comes again.
    Crash,
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0..2u8, 1..8u64).prop_map(|(key, number)| Step::Put(key, number)),
        8 => Just(Step::Take),
        6 => prop_oneof![Just("0"), Just("1"), Just("")].prop_map(Step::Store),
        2 => (1..80u64).prop_map(Step::Wait),
        1 => Just(Step::Crash),
    ]
}

/// A resequencer, its queue, and what is to be stored of what it lets go.
struct World {
    sequences: Sequences<u32>,
    queue: BTreeMap<u32, Facts>,
    /// The last message of the queue, and the last that has come.
    stored: u32,
    taken: u32,
    due: Vec<Act<u32>>,
    left: Vec<(SmolStr, u64)>,
    late: usize,
    now: u64,
}

impl World {
    fn new(rules: Rules) -> World {
        let (sequences, queue) = (Sequences::new(rules), BTreeMap::new());
        let (stored, taken, due, left, late, now) = (0, 0, Vec::new(), Vec::new(), 0, 0);
        World { sequences, queue, stored, taken, due, left, late, now }
    }

    fn append(&mut self, facts: Facts) {
        self.stored += 1;
        self.queue.insert(self.stored, facts);
    }

    fn settle(&mut self, item: u32) -> Facts {
        self.queue.remove(&item).expect("settled once")
    }

    fn take(&mut self) -> bool {
        let Some((&it, facts)) = self.queue.range(self.taken + 1..).next() else { return false };
        self.taken = it;
        self.sequences.put(facts.clone(), it);
        true
    }

    fn collect(&mut self) {
        self.sequences.tick(Millis(self.now));
        self.due.extend(std::iter::from_fn(|| self.sequences.next()));
        let weight = |act: &Act<u32>| match act {
            Act::Release { items, marker, .. } => items.len() + usize::from(marker.is_some()),
            Act::Late { .. } | Act::Forget(_) => 1,
        };
        let due: usize = self.due.iter().map(weight).sum();
        let to_come = self.queue.range(self.taken + 1..).count();
        assert_eq!(self.sequences.held() + due + to_come, self.queue.len());
    }

    /// A marker that is forgotten belongs to no key.
    fn store(&mut self, of: &str) -> bool {
        let is_of = |act: &Act<u32>| match act {
            Act::Release { key, .. } | Act::Late { key, .. } => key == of,
            Act::Forget(_) => of.is_empty(),
        };
        let Some(at) = self.due.iter().position(is_of) else { return false };
        match self.due.remove(at) {
            Act::Release { key, items, next: number, marker, .. } => {
                for item in items {
                    let facts = self.settle(item);
                    self.left.push((facts.key, facts.number));
                }
                marker.into_iter().for_each(|marker| drop(self.settle(marker)));
                self.append(Facts { key, at: Millis(self.now), number, marker: true });
            }
            Act::Late { item, .. } => {
                self.settle(item);
                self.late += 1;
            }
            Act::Forget(marker) => drop(self.settle(marker)),
        }
        true
    }

    fn crash(&mut self, rules: Rules) {
        (self.sequences, self.taken) = (Sequences::new(rules), self.stored);
        self.due.clear();
        let all = self.queue.clone().into_iter();
        let (markers, others): (Vec<_>, Vec<_>) = all.partition(|(_, facts)| facts.marker);
        markers.into_iter().chain(others).for_each(|(it, facts)| self.sequences.put(facts, it));
    }

    /// Until nothing is left to be done.
    fn finish(&mut self) {
        while self.take() || ["0", "1", ""].iter().any(|key| self.store(key)) {
            self.collect();
        }
    }
}

proptest! {
    #[test]
    fn order_holds_and_nothing_is_lost_whatever_is_lost_from_memory(steps in proptest::collection::vec(any_step(), 0..120)) {
        let rules = Rules { remember_ms: 1_000_000, held_max: 1_000, ..rules() };
        let (mut world, mut put) = (World::new(rules), 0);
        for step in steps {
            match step {
                Step::Put(key, number) => {
                    put += 1;
                    world.append(item(&key.to_string(), number, world.now));
                }
                Step::Take => _ = world.take(),
                Step::Store(key) => _ = world.store(key),
                Step::Wait(ms) => world.now += ms,
                Step::Crash => world.crash(rules),
            }
            world.collect();
        }
        world.finish();
        world.now += 10_000;
        world.collect();
        world.finish();
        prop_assert_eq!(world.left.len() + world.late, put);
        for key in ["0", "1"] {
            let numbers: Vec<_> = world.left.iter().filter(|(of, _)| of == key).map(|(_, number)| *number).collect();
            prop_assert!(numbers.is_sorted_by(|before, after| before < after), "{:?}", numbers);
        }
    }
}
