//! How are programs run that try the server out and say what they found: a line for each scenario, or a summary at the end?

use std::{path::Path, process::Command};

use super::Outcome;
use crate::tool::{self, Ran};

/// Runs a program that prints a line for each scenario.
pub fn run(command: &mut Command, log: &Path) -> Outcome {
    match tool::run_logged(command, log) {
        Ok(ran) => count(&ran),
        Err(error) => Outcome::failure("the client does not start", error.to_string()),
    }
}

/// Runs an example, which is one check and says in its last line what it saw.
pub fn run_example(command: &mut Command, log: &Path) -> Outcome {
    match tool::run_logged(command, log) {
        Ok(ran) => Outcome {
            note: ran.output.lines().last().unwrap_or_default().to_owned(),
            ..Outcome::check(ran.success, tool::tail(&ran.output, 60))
        },
        Err(error) => Outcome::failure("the example does not start", error.to_string()),
    }
}

/// Counts the lines of the scenarios. A client that ends badly without a failed one counts as a failure itself.
fn count(ran: &Ran) -> Outcome {
    let of = |word: &str| ran.output.lines().filter(|line| line.starts_with(word)).collect::<Vec<_>>();
    let (passed, failed) = (of("ok "), of("FAILED "));
    let mut outcome =
        Outcome { passed: passed.len() as u64, failed: failed.len() as u64, ..Outcome::default() };
    outcome.details = failed.join("\n");
    if outcome.failed == 0 && (!ran.success || outcome.passed == 0) {
        outcome.failed = 1;
        outcome.details = tool::tail(&ran.output, 30);
    }
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(success: bool, output: &str) -> (u64, u64) {
        let outcome = count(&Ran { success, output: output.to_owned() });
        (outcome.passed, outcome.failed)
    }

    #[test]
    fn each_scenario_is_a_test_and_a_skipped_one_is_none() {
        let output = "ok         0.1 s  a\nskipped    0.0 s  b: why\nFAILED     0.1 s  c: what\n1 passed, 1 failed, 1 skipped\n";
        assert_eq!(counted(false, output), (1, 1));
    }

    #[test]
    fn a_client_that_dies_or_runs_nothing_is_a_failure() {
        assert_eq!(counted(false, "ok         0.1 s  a\nSegmentation fault\n"), (1, 1));
        assert_eq!(counted(true, "0 passed, 0 failed, 0 skipped\n"), (0, 1));
    }
}
