//! Do routes with their steps, timers, retries and redrives keep every message through lives full of lost power? Each life is drawn from a seed: clients,
//! consumers, operators and crashes around a broker with its features in this process, on a simulated disk that forgets what was not synced.
//! After each crash, before anything runs again, every message is looked for in every place: it must be in exactly one. And the journal is
//! read entry by entry: after each, published = done + lying there for every address; at each moment at which no step is half done, every
//! message is in one place.
//!
//! Seeds draw what comes and when; threads and processes of jq run as they like, so that a seed does not replay step for step.
//! (Where it does: `crates/features/routes/tests/simulation.rs`.)
//!
//! - `LIVES_SEED=<n>` runs that seed alone, `LIVES_SEEDS=<n>` so many.

#[path = "lives/books.rs"]
mod books;
#[path = "lives/census.rs"]
mod census;
#[path = "lives/kind.rs"]
mod kind;
#[path = "lives/life.rs"]
mod life;
#[path = "lives/server.rs"]
mod server;
#[path = "common/service.rs"]
mod service;

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
};

use waystation_broker::entry::{self, Entry, Reason};
use waystation_testkit::seeds;

use books::{Books, Written};

/// Seeds that an ordinary test run goes through.
const SEEDS: u64 = 6;

#[test]
fn every_message_is_in_one_place_through_crashes_of_routes_timers_retries_and_redrives() {
    let seeds = seeds::chosen("LIVES", SEEDS);
    for seed in seeds {
        let lived = catch_unwind(AssertUnwindSafe(|| life::live(seed)));
        let (did, _) = lived.unwrap_or_else(|_| {
            panic!("seed {seed} failed; again: LIVES_SEED={seed} cargo test -p waystation --test lives")
        });
        println!("seed {seed}: {did:?}");
        assert!(did.is_busy(), "seed {seed} must do something: {did:?}");
    }
}

/// What somebody might do to a journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// An entry is left out: what it published is lost, or what it says is done is there twice when it has arrived elsewhere.
    Dropped,
    /// An entry is there twice.
    Doubled,
}

fn read_with(written: &[Written], at: usize, fault: Fault) -> Books {
    let mut books = Books::default();
    for (index, entry) in written.iter().enumerate() {
        let times = match fault {
            Fault::Dropped if index == at => 0,
            Fault::Doubled if index == at => 2,
            _ => 1,
        };
        (0..times).for_each(|_| books.enter(entry));
    }
    books.end_step();
    books
}

/// Of each queue and topic: where in the journal the first publish is, and where it first says for what reason messages are done. What
/// consumers acknowledge goes nowhere else, so that the journal alone cannot know whether they did.
fn first_of_each(written: &[Written]) -> Vec<(String, usize)> {
    let (mut names, mut seen, mut found) = (BTreeMap::new(), BTreeSet::new(), Vec::new());
    for (at, (_, kind, payload)) in written.iter().enumerate() {
        let (id, what) = match entry::read(*kind, payload).expect("an entry") {
            Entry::Declare(id, declared) => {
                names.insert(id, declared.name.to_string());
                continue;
            }
            Entry::Publish(publish) => (publish.log.entity, "publish".to_owned()),
            Entry::Done(id, reason, ..) => (id, format!("{reason:?}")),
            _ => continue,
        };
        // What a filter passes over was not there for the ledger either.
        if what == format!("{:?}", Reason::Filtered) {
            continue;
        }
        let name = &names[&id];
        let by_consumer =
            what == format!("{:?}", Reason::Accepted) && books::CONSUMED.contains(&name.as_str());
        if census::is_place(name) && !by_consumer && seen.insert((id, what.clone())) {
            found.push((format!("{what} in '{name}'"), at));
        }
    }
    found
}

#[test]
fn a_message_that_a_journal_loses_or_doubles_is_found() {
    let (_, written) = life::live(0);
    read_with(&written, usize::MAX, Fault::Dropped);
    let faulty = first_of_each(&written);
    for wanted in
        ["publish in 'sums'", "Accepted in 'in'", "DeadLettered in 'right'", "Withdrawn in 'right.dead'"]
    {
        assert!(faulty.iter().any(|(what, _)| what == wanted), "{wanted} is in {faulty:?}");
    }
    for (what, at) in faulty {
        for fault in [Fault::Dropped, Fault::Doubled] {
            let read = catch_unwind(AssertUnwindSafe(|| read_with(&written, at, fault)));
            assert!(read.is_err(), "{what} at entry {at} is {fault:?}, and nobody finds it");
        }
    }
}
