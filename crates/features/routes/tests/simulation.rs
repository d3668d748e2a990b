//! Does each message come to what its routes promise, once, wherever the process or the power goes? Routes and broker as they are, on a
//! simulated disk, under a virtual clock and with one thread, which also evaluates jq: which routes there are, what clients and operators do,
//! how long a sync takes, what fails, and where it is cut is drawn from a seed. After each crash the journal is read entry by entry: the account of
//! every address holds after each of them, and at each moment at which no step is half done every message comes to what a model of the
//! routes says, as it lies then.
//! A failure prints the seed; `ROUTES_SEED=n` lives through that one, `ROUTES_SEEDS=n` through so many.

#[path = "simulation/books.rs"]
mod books;
#[path = "simulation/doc.rs"]
mod doc;
#[path = "simulation/hold.rs"]
mod hold;
#[path = "simulation/holds.rs"]
mod holds;
#[path = "simulation/node.rs"]
mod node;
#[path = "simulation/order.rs"]
mod order;
#[path = "simulation/plan.rs"]
mod plan;
#[path = "simulation/step.rs"]
mod step;
#[path = "simulation/world.rs"]
mod world;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use waystation_broker::{
    Kind,
    entry::{self, Entry, Reason},
};
use waystation_testkit::seeds;

use books::{Books, Written};
use plan::{Place, Plan};
use world::{Did, live};

/// Stories of one test run.
const SEEDS: u64 = 40;
/// Of them, those that are lived through twice.
const TWICE: u64 = 6;

/// The story whose journal somebody tampers with.
const TAMPERED: u64 = 1;

#[test]
fn every_message_comes_to_what_its_routes_promise_wherever_they_are_cut_and_a_seed_tells_the_same_story_twice()
 {
    let seeds = seeds::chosen("ROUTES", SEEDS);
    let mut all = Did::default();
    for seed in seeds.clone() {
        let lived = catch_unwind(AssertUnwindSafe(|| {
            let first = live(seed);
            if seed - seeds.start < TWICE {
                let second = live(seed);
                let at = first.1.written.iter().zip(&second.1.written).position(|(one, other)| one != other);
                assert!(at.is_none(), "the second time it differs from entry {at:?} on");
                assert_eq!(first.1.written.len(), second.1.written.len());
                assert_eq!(first.0, second.0);
            }
            first.0
        }));
        all.add(lived.unwrap_or_else(|_| {
            panic!("seed {seed} failed; again: ROUTES_SEED={seed} cargo test -p waystation-routes --test simulation")
        }));
    }
    println!("{all:?}");
    if seeds.end - seeds.start >= SEEDS {
        assert!(all.is_busy(), "what never happens is not tested: {all:?}");
    }
}

/// What somebody might do to a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// An entry is left out.
    Dropped,
    /// An entry is there twice.
    Doubled,
}

fn read_with(mut books: Books, written: &[Written], at: usize, fault: Fault) {
    for (index, entry) in written.iter().enumerate() {
        let times = match fault {
            Fault::Dropped if index == at => 0,
            Fault::Doubled if index == at => 2,
            _ => 1,
        };
        (0..times).for_each(|_| books.enter(entry));
    }
    books.end_step();
    books.check_end();
}

/// Of each place that counts: where in the journal the first publish is, and where messages are first done there, and why. What consumers
/// take at the end of the way goes nowhere else, so that the journal alone cannot know whether they did.
fn first_of_each(written: &[Written]) -> Vec<(String, usize)> {
    let (mut names, mut seen, mut found) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    for (at, (_, kind, payload)) in written.iter().enumerate() {
        let (id, what) = match entry::read(*kind, payload).expect("an entry") {
            Entry::Declare(id, declared) => {
                names.insert(id, declared.name.to_string());
                continue;
            }
            Entry::Publish(publish) => (publish.log.entity, "publish".to_owned()),
            Entry::Done(id, reason, ..) if reason != Reason::Filtered => (id, format!("{reason:?}")),
            _ => continue,
        };
        let name = &names[&id];
        let counts = match Plan::place(Kind::Queue, name) {
            Place::Other => false,
            Place::Sink | Place::Whole(_) => what == "publish",
            _ => true,
        };
        if counts && seen.insert((id, what.clone())) {
            found.push((format!("{what} in '{name}'"), at));
        }
    }
    found
}

#[test]
fn a_message_that_a_journal_loses_or_doubles_is_found() {
    let (_, books) = live(TAMPERED);
    read_with(books.anew(), &books.written, usize::MAX, Fault::Dropped);
    let faulty = first_of_each(&books.written);
    println!("{faulty:?}");
    for (what, at) in faulty {
        for fault in [Fault::Dropped, Fault::Doubled] {
            let read = catch_unwind(AssertUnwindSafe(|| read_with(books.anew(), &books.written, at, fault)));
            assert!(read.is_err(), "{what} at entry {at} is {fault:?}, and nobody finds it");
        }
    }
}
