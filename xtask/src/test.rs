//! How does `cargo xtask test` go: each stage to its end, a line for each, a summary, the sum as the last line.

use std::{
    io::Write,
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use crate::stages::{self, Context, Outcome, Stage};

#[derive(clap::Args)]
pub struct Options {
    /// Run only these stages (may be given several times)
    #[arg(long, value_name = "STAGE")]
    only: Vec<String>,
    /// Leave out the slow stages
    #[arg(long)]
    quick: bool,
    /// List the stages and stop
    #[arg(long)]
    list: bool,
}

/// A stage that has run, or why it did not.
enum Ended {
    Ran(Outcome),
    Skipped(String),
}

pub fn run(root: &Path, options: &Options) -> ExitCode {
    if options.list {
        stages::ALL.iter().for_each(|stage| println!("{:11} {}", stage.name, stage.about));
        return ExitCode::SUCCESS;
    }
    if let Some(unknown) = options.only.iter().find(|name| !stages::ALL.iter().any(|s| s.name == **name)) {
        eprintln!("no stage is called {unknown:?}; `cargo xtask test --list` shows them");
        return ExitCode::from(2);
    }
    let context = match Context::new(root) {
        Ok(context) => context,
        Err(error) => {
            eprintln!("the logs have no place: {error}");
            return ExitCode::from(2);
        }
    };
    let ended: Vec<_> = chosen(options).map(|stage| (stage, attend(&context, stage))).collect();
    summarise(&context, &ended)
}

fn chosen(options: &Options) -> impl Iterator<Item = &'static Stage> + '_ {
    stages::ALL.iter().filter(|stage| match options.only.is_empty() {
        true => !(options.quick && stage.slow),
        false => options.only.iter().any(|name| name == stage.name),
    })
}

/// Runs one stage and prints its line.
fn attend(context: &Context, stage: &Stage) -> Ended {
    print!("{:11} ", stage.name);
    let _ = std::io::stdout().flush();
    let begun = Instant::now();
    let ended = match stage.needs.iter().find(|tool| !tool.is_there()) {
        Some(tool) => {
            let sentence = format!("needs {}: {}", tool.name, tool.install);
            if stage.optional { Ended::Skipped(sentence) } else { Ended::Ran(Outcome::failure(sentence, "")) }
        }
        None => Ended::Ran((stage.run)(context)),
    };
    println!("{}", line(&ended, begun.elapsed()));
    if let Ended::Ran(outcome) = &ended
        && outcome.failed > 0
        && !outcome.details.is_empty()
    {
        println!("{}\n", outcome.details.trim_end());
    }
    ended
}

fn line(ended: &Ended, took: Duration) -> String {
    let seconds = took.as_secs_f64();
    match ended {
        Ended::Skipped(why) => format!("skipped  {why}"),
        Ended::Ran(outcome) => {
            let word = if outcome.failed == 0 { "ok" } else { "FAILED" };
            let counts = format!("{} passed, {} failed", outcome.passed, outcome.failed);
            format!("{word:8} {counts:28} {seconds:7.1} s  {}", outcome.note).trim_end().to_owned()
        }
    }
}

/// Names what failed and was skipped; the sum is the very last line, for whoever reads only that.
fn summarise(context: &Context, ended: &[(&Stage, Ended)]) -> ExitCode {
    let (mut passed, mut failed) = (0, 0);
    println!();
    for (stage, end) in ended {
        match end {
            Ended::Skipped(why) => println!("skipped: {} ({why})", stage.name),
            Ended::Ran(outcome) => {
                passed += outcome.passed;
                failed += outcome.failed;
                if outcome.failed > 0 {
                    let log = context.scratch().join(format!("{}.log", stage.name));
                    println!("failed: {} (everything it said: {})", stage.name, log.display());
                }
            }
        }
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_that_failed_says_so_with_its_counts_and_duration() {
        let ended = Ended::Ran(Outcome { passed: 3, failed: 1, ..Outcome::default() });
        let line = line(&ended, Duration::from_millis(1500));
        assert!(line.starts_with("FAILED   3 passed, 1 failed"), "{line}");
        assert!(line.ends_with("1.5 s"), "{line}");
    }

    #[test]
    fn quick_leaves_out_exactly_the_slow_stages() {
        let options = Options { only: Vec::new(), quick: true, list: false };
        assert!(chosen(&options).all(|stage| !stage.slow));
        assert_eq!(chosen(&options).count(), stages::ALL.iter().filter(|stage| !stage.slow).count());
    }

    #[test]
    fn a_stage_asked_for_by_name_runs_even_when_it_is_slow() {
        let options = Options { only: vec!["process".into()], quick: true, list: false };
        assert_eq!(chosen(&options).map(|stage| stage.name).collect::<Vec<_>>(), ["process"]);
    }
}
