//! Does each call have one outcome whatever the races? Engine and broker as they are, on a simulated disk, under a virtual clock and with
//! one thread: what comes, how long a sync takes, and at which step the process or the power goes is drawn from a seed.
//! A failure prints the seed; `CALLS_SEED=n` lives through that one, `CALLS_SEEDS=n` through so many.

#[path = "simulation/actors.rs"]
mod actors;
#[path = "simulation/check.rs"]
mod check;
#[path = "simulation/world.rs"]
mod world;

use waystation_testkit::seeds;

use world::World;

/// Stories of one test run.
const SEEDS: u64 = 200;

/// Lives through a story; gives what the journal says at its end.
fn story(seed: u64) -> check::Account {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let mut world = World::new(seed).await;
        world.live().await;
        check::check(world).await
    })
}

#[test]
fn each_call_has_one_outcome_and_one_callback_whatever_comes_at_once_and_wherever_it_is_cut() {
    let seeds = seeds::chosen("CALLS", SEEDS);
    let mut all = check::Account::default();
    for seed in seeds.clone() {
        println!("seed {seed}");
        all.add(&story(seed));
    }
    println!("{all:?}");
    if seeds.end - seeds.start >= SEEDS {
        // What never happens is not tested.
        all.outcomes
            .iter()
            .for_each(|(state, count)| assert!(*count > 0, "no call ever was {state}: {all:?}"));
        let happened =
            [all.crashes, all.late, all.replayed, all.retried, all.forgotten, all.read_at_start, all.pages];
        assert!(happened.iter().all(|count| *count > 0), "{all:?}");
    }
}

#[test]
fn a_seed_lived_through_twice_is_the_same_story() {
    for seed in [3, 4, 5] {
        assert_eq!(story(seed), story(seed), "seed {seed}");
    }
}
