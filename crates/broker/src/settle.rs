//! How live messages leave an old journal file, or thinly filled settled files, for a new settled file: the plan and its outcome.

use waystation_base::{Millis, Offset, Position};

use crate::place::{LogId, Span};

/// What is to be left behind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Leaving {
    /// The journal up to this position (exclusive).
    Journal(Position),
    /// These settled files.
    Files(Vec<u32>),
}

/// What to copy, log by log, each in order of offset.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What will be free afterwards.
    pub leaving: Leaving,
    /// Logs that have anything alive there, each in order of offset.
    pub logs: Vec<LogPlan>,
}

/// One log's part of a plan: what becomes one run. There are several of a log if there is something between that stays.
#[derive(Clone, Debug)]
pub struct LogPlan {
    /// Which log.
    pub log: LogId,
    /// Where its batches are.
    pub spans: Vec<Span>,
    /// First and last offset of each live stretch: other records need not be copied.
    pub live: Vec<(Offset, Offset)>,
    /// Of records with the same key only the latest need be copied; tombstones older than this moment need not.
    pub compact: Option<Millis>,
    /// Batches of a topic are copied as they stand; those of a queue may be packed anew.
    pub verbatim: bool,
}

/// The outcome of a plan: the runs of one new settled file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// What is free now.
    pub leaving: Leaving,
    /// The new file's runs; empty if nothing was alive (then there is no new file).
    pub runs: Vec<SettledRun>,
}

/// An outcome that cannot be taken over: messages would not be found where it says. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "in log {} of entity {} the offsets {} to {} of settled file {} lie within what begins at {}, so some would not be found",
    run.log.log, run.log.entity.0, run.first.0, run.last.0, run.file, next.0
)]
pub struct Overlap {
    /// What lies within other.
    pub run: SettledRun,
    /// Where what follows begins.
    pub next: Offset,
}

/// A stretch of one log in a settled file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SettledRun {
    /// The file.
    pub file: u32,
    /// The log.
    pub log: LogId,
    /// First offset.
    pub first: Offset,
    /// Last offset.
    pub last: Offset,
    /// Messages.
    pub messages: u64,
    /// Bytes in the file.
    pub bytes: u64,
    /// Earliest timestamp.
    pub min_timestamp: Millis,
    /// Latest timestamp.
    pub max_timestamp: Millis,
}
