//! Whether the broker's heart keeps its promises in many simulated lives.
//!
//! - `WAYSTATION_SIM_SEED=<n>` runs that seed alone.
//! - `WAYSTATION_SIM_TELL=1` tells on the standard error what happens in it.
//! - `WAYSTATION_SIM_SEEDS=<n>` runs so many seeds, from `WAYSTATION_SIM_FIRST` on: a longer soak.

use std::panic::{AssertUnwindSafe, catch_unwind};

use waystation_testkit::{
    seeds::number,
    world::{Options, Report, run},
};

/// Seeds that an ordinary test run goes through.
const SEEDS: u64 = 600;

/// Some lives are calm, some are short, and some have a bad disk.
fn options(seed: u64) -> Options {
    Options {
        steps: [60, 150, 400][(seed % 3) as usize],
        faults: seed % 4 == 3,
        crash_one_in: [0, 15, 40, 100][(seed / 3 % 4) as usize],
        tell: number("WAYSTATION_SIM_TELL").is_some(),
    }
}

fn live(seed: u64) -> Report {
    catch_unwind(AssertUnwindSafe(|| run(seed, options(seed)))).unwrap_or_else(|_| {
        panic!(
            "seed {seed} failed; to run it again: \
             WAYSTATION_SIM_SEED={seed} cargo test -p waystation-testkit --test simulation"
        )
    })
}

#[test]
fn every_seed_keeps_every_promise() {
    if let Some(seed) = number("WAYSTATION_SIM_SEED") {
        println!("seed {seed}: {:?}", live(seed));
        return;
    }
    let first = number("WAYSTATION_SIM_FIRST").unwrap_or(0);
    let seeds = number("WAYSTATION_SIM_SEEDS").unwrap_or(SEEDS);
    let mut sum = Report::default();
    for seed in first..first + seeds {
        let report = live(seed);
        sum.commands += report.commands;
        sum.stored += report.stored;
        sum.delivered += report.delivered;
        sum.crashes += report.crashes;
        sum.failures += report.failures;
        sum.snapshots += report.snapshots;
        sum.settled += report.settled;
    }
    println!("{seeds} seeds: {sum:?}");
    let busy = [sum.stored, sum.delivered, sum.crashes, sum.failures, sum.snapshots, sum.settled];
    assert!(seeds < 50 || busy.iter().all(|count| *count > 0), "the simulation must do something: {sum:?}");
}
