//! Do routes with their steps, timers, retries and redrives keep every message through lives full of lost power? Each life is drawn from a seed: clients,
//! consumers, operators and crashes around a broker with its features in this process, on a simulated disk that forgets what was not synced.
//! After each crash, before anything runs again, every message is looked for in every place: it must be in exactly one.
//!
//! Seeds draw what comes and when; threads and processes of jq run as they like, so that a seed does not replay step for step.
//!
//! - `LIVES_SEED=<n>` runs that seed alone, `LIVES_SEEDS=<n>` so many.

#[path = "lives/census.rs"]
mod census;
#[path = "lives/life.rs"]
mod life;
#[path = "lives/server.rs"]
mod server;
#[path = "common/service.rs"]
mod service;

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Seeds that an ordinary test run goes through.
const SEEDS: u64 = 6;

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, is {text:?}")))
}

#[test]
fn every_message_is_in_one_place_through_crashes_of_routes_timers_retries_and_redrives() {
    let seeds = match number("LIVES_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("LIVES_SEEDS").unwrap_or(SEEDS),
    };
    for seed in seeds {
        let lived = catch_unwind(AssertUnwindSafe(|| life::live(seed)));
        let did = lived.unwrap_or_else(|_| {
            panic!("seed {seed} failed; again: LIVES_SEED={seed} cargo test -p waystation --test lives")
        });
        println!("seed {seed}: {did:?}");
        assert!(did.is_busy(), "seed {seed} must do something: {did:?}");
    }
}
