//! With which exit code does the program end, and what does it say when something failed?

use std::{
    io::{self, Write},
    process::ExitCode,
};

use serde_json::json;

/// How a run ended. The numbers are documented in docs/cli.md and do not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// As asked.
    Done = 0,
    /// None of the other kinds of failure.
    Failure = 1,
    /// The command line, the configuration or an input file is wrong; nothing was done.
    Usage = 2,
    /// The named queue, topic or subscription does not exist.
    NotFound = 3,
    /// The server understood and refused: a conflict, a limit, something in use.
    Refused = 4,
    /// The server cannot be reached, or the connection broke.
    Unreachable = 5,
    /// Stored data is damaged.
    Damaged = 6,
    /// Another process uses the data directory.
    InUse = 7,
    /// A write or sync failed, or the disk is full: the server stopped rather than lose data.
    Storage = 8,
    /// The token is missing, unknown or without the permission.
    Denied = 9,
    /// `apply --check`: there would be something to do.
    Differs = 10,
    /// Ended by a second signal before everything was drained.
    Interrupted = 130,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> ExitCode {
        ExitCode::from(exit as u8)
    }
}

/// What went wrong and what can be done about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The kind.
    pub exit: Exit,
    /// The fact.
    pub message: String,
    /// What to do, if anything sensible can be said.
    pub advice: Option<String>,
}

impl Failure {
    /// A failure without advice.
    pub fn new(exit: Exit, message: impl ToString) -> Failure {
        Failure { exit, message: message.to_string(), advice: None }
    }

    /// Something wrong with what the caller gave.
    pub fn usage(message: impl ToString) -> Failure {
        Failure::new(Exit::Usage, message)
    }

    /// The same with advice.
    pub fn advise(mut self, advice: impl ToString) -> Failure {
        self.advice = Some(advice.to_string());
        self
    }

    /// The same, after what was being done.
    pub fn during(mut self, what: impl std::fmt::Display) -> Failure {
        self.message = format!("{what}: {}", self.message);
        self
    }

    /// Tells it on standard error, as text or as one line of JSON.
    pub fn tell(&self, as_json: bool) {
        let mut stderr = io::stderr().lock();
        // There is nobody left to tell that this failed.
        let _ = if as_json {
            let told = json!({"error": self.message, "advice": self.advice, "exit_code": self.exit as u8});
            writeln!(stderr, "{told}")
        } else {
            let advice = self.advice.as_ref().map(|advice| format!("\n  {advice}")).unwrap_or_default();
            writeln!(stderr, "waystation: {}{advice}", self.message)
        };
    }
}

/// Failures of standard output and files; a reader that went away is not one.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Failure {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::new(Exit::Done, "the reader of standard output has left"),
            _ => Failure::new(Exit::Failure, error),
        }
    }
}
