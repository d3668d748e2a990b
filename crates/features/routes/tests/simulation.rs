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

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Did, live};

/// Stories of one test run.
const SEEDS: u64 = 40;
/// Of them, those that are lived through twice.
const TWICE: u64 = 6;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name} must be a number, is {text:?}")))
}

#[test]
fn every_message_comes_to_what_its_routes_promise_wherever_they_are_cut_and_a_seed_tells_the_same_story_twice()
 {
    let seeds = match number("ROUTES_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("ROUTES_SEEDS").unwrap_or(SEEDS),
    };
    let mut all = Did::default();
    for seed in seeds.clone() {
        let lived = catch_unwind(AssertUnwindSafe(|| {
            let first = live(seed);
            if seed - seeds.start < TWICE {
                let second = live(seed);
                let at = first.1.iter().zip(&second.1).position(|(one, other)| one != other);
                assert!(at.is_none(), "the second time it differs from entry {at:?} on");
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
