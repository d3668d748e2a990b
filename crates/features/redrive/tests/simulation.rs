//! Is every message in one place at every moment, while redrives bring dead letters back and take them away again, and does a seed that is
//! lived through twice give the same story? Jobs and broker as they are, on a simulated disk, under a virtual clock and with one thread: what
//! clients and operators do, how long a sync takes, and at which step the process or the power goes is drawn from a seed.
//! A failure prints the seed; `REDRIVES_SEED=n` lives through that one, `REDRIVES_SEEDS=n` through so many.

#[path = "simulation/books.rs"]
mod books;
#[path = "simulation/world.rs"]
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use waystation_testkit::seeds;

use world::{Did, World};

/// Stories of one test run.
const SEEDS: u64 = 60;

/// Lives through a story; gives what was done in it, and where in the journal which entry is.
fn story(seed: u64) -> (Did, Vec<books::Place>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let mut world = World::new(seed).await;
        world.live().await;
        world.end().await
    })
}

#[test]
fn every_message_is_in_one_place_at_every_moment_whatever_is_redriven_and_undone_and_wherever_it_is_cut() {
    let seeds = seeds::chosen("REDRIVES", SEEDS);
    let mut all = Did::default();
    for seed in seeds.clone() {
        let lived = catch_unwind(AssertUnwindSafe(|| story(seed)));
        let (did, _) = lived.unwrap_or_else(|_| {
            panic!("seed {seed} failed; again: REDRIVES_SEED={seed} cargo test -p waystation-redrive --test simulation")
        });
        all.add(&did);
    }
    println!("{all:?}");
    if seeds.end - seeds.start >= SEEDS {
        assert!(all.is_busy(), "what never happens is not tested: {all:?}");
    }
}

#[test]
fn a_seed_lived_through_twice_is_the_same_story() {
    for seed in 0..8 {
        let (first, second) = (story(seed), story(seed));
        let at = first.1.iter().zip(&second.1).position(|(one, other)| one != other);
        assert!(at.is_none(), "seed {seed} differs from entry {at:?} on");
        assert_eq!(first, second, "seed {seed}");
    }
}
