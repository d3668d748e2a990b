//! Do all decoders keep their promises on inputs bent from well-formed ones? Seeded, so a failure can be run again.

use std::panic::{AssertUnwindSafe, catch_unwind};

use waystation_fuzz::{ALL, Target, mutate};

/// Enough to reach every error of these decoders, few enough for a second each.
const INPUTS: usize = 100_000;

fn seed() -> u64 {
    std::env::var("WAYSTATION_FUZZ_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1)
}

/// Runs one target and tells how to run the failing input again.
fn keeps_its_promise(target: &Target) {
    let (seeds, seed) = ((target.seeds)(), seed());
    let mut random = mutate::Random::new(seed);
    for number in 0..INPUTS {
        let bytes = mutate::input(&mut random, &seeds);
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes))).is_err() {
            panic!("{}: input {number} of seed {seed} (WAYSTATION_FUZZ_SEED={seed}): {bytes:?}", target.name);
        }
    }
}

#[test]
fn every_decoder_gives_a_value_or_an_error_for_any_bytes() {
    ALL.iter().for_each(keeps_its_promise);
}

#[test]
fn every_well_formed_input_is_taken_as_it_is() {
    for target in ALL {
        let seeds = (target.seeds)();
        assert!(!seeds.is_empty(), "{} has nothing to start from", target.name);
        let refused = seeds.iter().position(|bytes| !(target.run)(bytes));
        assert_eq!(refused, None, "{} starts from an input that it refuses", target.name);
    }
}

#[test]
fn no_two_decoders_share_a_name() {
    let mut names: Vec<_> = ALL.iter().map(|target| target.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), ALL.len());
}

#[test]
fn every_decoder_has_its_program_for_cargo_fuzz_and_no_other_is_there() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = std::fs::read_to_string(folder.join("Cargo.toml")).expect("fuzz/Cargo.toml");
    for target in ALL {
        let file = format!("fuzz_targets/{}.rs", target.name);
        let program =
            std::fs::read_to_string(folder.join(&file)).unwrap_or_else(|_| panic!("fuzz/{file} is missing"));
        assert!(program.contains(&format!("run(\"{}\"", target.name)), "fuzz/{file} runs another decoder");
        assert!(manifest.contains(&format!("path = \"{file}\"")), "fuzz/Cargo.toml does not name {file}");
    }
    let programs = std::fs::read_dir(folder.join("fuzz_targets")).expect("fuzz/fuzz_targets").count();
    assert_eq!(programs, ALL.len());
}
