//! Which input breaks a decoder? Bends inputs for a while: `hunt TARGET SECONDS SEED` (what `cargo xtask fuzz` runs
//! where cargo-fuzz is missing). A panic prints the input's number; the same seed comes to it again.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command that talks to a terminal")]
#![allow(clippy::disallowed_methods, reason = "the time only says when to stop")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use waystation_fuzz::{ALL, mutate};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [name, seconds, seed] = &arguments[..] else { return usage() };
    let (Some(target), Ok(seconds), Ok(seed)) =
        (ALL.iter().find(|target| target.name == name), seconds.parse(), seed.parse())
    else {
        return usage();
    };
    let seeds = (target.seeds)();
    let mut random = mutate::Random::new(seed);
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut number = 0u64;
    while number & 0xff != 0 || Instant::now() < end {
        let bytes = mutate::input(&mut random, &seeds);
        if catch_unwind(AssertUnwindSafe(|| (target.run)(&bytes))).is_err() {
            eprintln!("{name}: input {number} of seed {seed} breaks it: {bytes:?}");
            return ExitCode::FAILURE;
        }
        number += 1;
    }
    println!("{name}: {number} inputs of seed {seed}, none breaks it");
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    let names: Vec<_> = ALL.iter().map(|target| target.name).collect();
    eprintln!("usage: hunt TARGET SECONDS SEED; targets: {}", names.join(", "));
    ExitCode::from(2)
}
