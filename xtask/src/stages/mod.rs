//! Which stages does the test run have? One file each; a new stage is a file and a line in the table.

mod amqp;
pub mod calls;
mod deny;
mod documents;
mod flights;
mod format;
mod gridlock;
mod lint;
mod orders;
mod programs;
mod scenarios;
mod telemetry;
mod webhooks;

use std::{cell::OnceCell, fs, path::Path, path::PathBuf};

use crate::{
    built::{self, Built},
    tool::{self, Tool},
};

/// In the order in which they run: the cheap ones that fail often come first.
pub const ALL: &[Stage] = &[
    format::STAGE,
    lint::STAGE,
    deny::STAGE,
    programs::BUILD,
    programs::TIDY,
    programs::UNIT,
    documents::STAGE,
    programs::SIMULATION,
    programs::PROCESS,
    flights::STAGE,
    amqp::STAGE,
    webhooks::STAGE,
    calls::STAGE,
    gridlock::STAGE,
    orders::STAGE,
    telemetry::STAGE,
];

/// One line of the test run.
pub struct Stage {
    pub name: &'static str,
    pub about: &'static str,
    /// Left out by `--quick`.
    pub slow: bool,
    pub needs: &'static [Tool],
    /// A missing tool skips the stage instead of failing it.
    pub optional: bool,
    pub run: fn(&Context) -> Outcome,
}

/// What a stage came to.
#[derive(Debug, Default)]
pub struct Outcome {
    pub passed: u64,
    pub failed: u64,
    /// Said beside the counts.
    pub note: String,
    /// Printed below when something failed: the end of what the programs said.
    pub details: String,
}

impl Outcome {
    /// A single check that held or did not.
    pub fn check(success: bool, details: String) -> Outcome {
        Outcome { passed: success.into(), failed: (!success).into(), note: String::new(), details }
    }

    /// Adds what one of several programs found.
    pub fn add(&mut self, name: &str, one: Outcome) {
        self.passed += one.passed;
        self.failed += one.failed;
        if one.failed > 0 {
            self.details.push_str(&format!("--- {name}: {}\n{}\n", one.note, one.details));
        }
    }

    /// The stage could not run at all.
    pub fn failure(note: impl Into<String>, details: impl Into<String>) -> Outcome {
        Outcome { passed: 0, failed: 1, note: note.into(), details: details.into() }
    }
}

/// What the stages of one run share.
pub struct Context {
    pub root: PathBuf,
    logs: PathBuf,
    built: OnceCell<Result<Built, String>>,
}

impl Context {
    pub fn new(root: &Path) -> std::io::Result<Context> {
        let logs = tool::target_dir(root).join("xtask");
        fs::create_dir_all(&logs)?;
        Ok(Context { root: root.to_owned(), logs, built: OnceCell::new() })
    }

    /// A folder of our own below cargo's target folder.
    pub fn scratch(&self) -> &Path {
        &self.logs
    }

    /// The log of one stage, emptied.
    pub fn log(&self, stage: &str) -> PathBuf {
        let path = self.logs.join(format!("{stage}.log"));
        // What cannot be emptied is appended to: the log then holds more than this run.
        let _ = fs::remove_file(&path);
        path
    }

    /// The one build, made at first use.
    pub fn built(&self) -> &Result<Built, String> {
        self.built.get_or_init(|| built::build(&self.root, &self.log("build")))
    }

    /// The server that was built; without it a stage can only say so.
    pub fn server(&self) -> Result<PathBuf, Outcome> {
        let server = self.built().as_ref().ok().and_then(|built| built.server.clone());
        server.ok_or_else(|| Outcome::failure("no waystation binary was built", ""))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_stages_share_a_name() {
        let mut names: Vec<_> = ALL.iter().map(|stage| stage.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }
}
