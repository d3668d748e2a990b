//! Which test programs belong to which stage, and how many tests passed in each?
//!
//! The package decides: xtask's own tests are tidiness, those under testkit's `tests/` are simulations, those under
//! the binary's `tests/` start real processes, everything else is a unit or property test.

use std::process::Command;

use super::{Context, Outcome, Stage};
use crate::{
    built::TestProgram,
    tool::{self, C_COMPILER, Ran},
};

const NONE: Stage = Stage {
    name: "",
    about: "",
    slow: false,
    needs: &[C_COMPILER],
    optional: false,
    run: |_| Outcome::default(),
};

pub const BUILD: Stage =
    Stage { name: "build", about: "every crate and every test, once, dev profile", run: build, ..NONE };
pub const TIDY: Stage = Stage {
    name: "tidy",
    about: "dependency direction, file heads and sizes, links, forbidden words",
    run: |context| run(context, "tidy"),
    ..NONE
};
pub const UNIT: Stage = Stage {
    name: "unit",
    about: "unit and property tests of all crates",
    run: |context| run(context, "unit"),
    ..NONE
};
pub const SIMULATION: Stage = Stage {
    name: "simulation",
    about: "seeded simulations: faulty disk, time under control, crashes",
    run: |context| run(context, "simulation"),
    slow: true,
    ..NONE
};
pub const PROCESS: Stage = Stage {
    name: "process",
    about: "real processes: the binary started, used, killed, restarted",
    run: |context| run(context, "process"),
    slow: true,
    ..NONE
};

fn build(context: &Context) -> Outcome {
    match context.built() {
        Ok(built) => Outcome { note: format!("{} test programs", built.tests.len()), ..Outcome::default() },
        Err(said) => Outcome::failure("does not compile", said.clone()),
    }
}

/// The stage that a test program belongs to.
fn stage_of(program: &TestProgram) -> &'static str {
    match (program.package.as_str(), program.is_integration) {
        ("xtask", _) => "tidy",
        ("waystation-testkit", true) => "simulation",
        ("waystation", true) => "process",
        _ => "unit",
    }
}

fn run(context: &Context, stage: &'static str) -> Outcome {
    let Ok(built) = context.built() else { return Outcome::failure("not built", "") };
    let log = context.log(stage);
    let programs: Vec<_> = built.tests.iter().filter(|program| stage_of(program) == stage).collect();
    if programs.is_empty() {
        return Outcome::failure("no test program belongs to it", "");
    }
    let mut sum = Outcome::default();
    for program in programs {
        let mut command = Command::new(&program.executable);
        // What cargo sets for a test that it runs itself.
        command.current_dir(&program.package_dir).env("CARGO_MANIFEST_DIR", &program.package_dir);
        if stage == "tidy" {
            // Its failures are lists of files, not places in the code.
            command.env("RUST_BACKTRACE", "0");
        }
        let one = match tool::run_logged(&mut command, &log) {
            Ok(ran) => count(&ran),
            Err(error) => Outcome::failure("", format!("{}: {error}", program.executable.display())),
        };
        sum.passed += one.passed;
        sum.failed += one.failed;
        if one.failed > 0 {
            sum.details.push_str(&format!("--- {} {}\n{}\n", program.package, program.target, one.details));
        }
    }
    sum
}

/// Adds up the `test result:` lines. A program that fails without one (a crash, an exit) counts as one failure.
pub fn count(ran: &Ran) -> Outcome {
    let (mut passed, mut failed) = (0, 0);
    for line in ran.output.lines().filter(|line| line.trim_start().starts_with("test result:")) {
        passed += number_before(line, " passed");
        failed += number_before(line, " failed");
    }
    if !ran.success && failed == 0 {
        failed = 1;
    }
    let details = if failed > 0 { failures(&ran.output) } else { String::new() };
    Outcome { passed, failed, note: String::new(), details }
}

fn number_before(line: &str, word: &str) -> u64 {
    let Some((before, _)) = line.split_once(word) else { return 0 };
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// From the first `failures:` on, which is where the harness prints what the failed tests said.
fn failures(output: &str) -> String {
    let from = output.find("\nfailures:").unwrap_or(0);
    tool::tail(&output[from..], 80)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(success: bool, output: &str) -> (u64, u64) {
        let outcome = count(&Ran { success, output: output.to_owned() });
        (outcome.passed, outcome.failed)
    }

    #[test]
    fn the_results_of_several_programs_add_up() {
        let output = "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out\n\
                      test result: FAILED. 10 passed; 2 failed; 0 ignored\n";
        assert_eq!(counted(false, output), (13, 2));
    }

    #[test]
    fn a_program_that_dies_without_a_result_is_one_failure() {
        assert_eq!(counted(false, "running 3 tests\nabort"), (0, 1));
        assert_eq!(counted(false, "test result: ok. 3 passed; 0 failed;"), (3, 1));
    }

    #[test]
    fn a_test_that_prints_the_words_is_not_counted() {
        assert_eq!(counted(true, "it said: test result: ok. 9 passed; 9 failed;"), (0, 0));
    }
}
