//! What one evaluation may use, and how it may fail.

use std::time::Duration;

/// What a document may use.
#[derive(Clone, Debug)]
pub struct Limits {
    /// How long one document may take.
    pub time: Duration,
    /// How much memory a child may have, what it needs to run at all included.
    pub memory_bytes: usize,
    /// How long all results of one document may be together.
    pub output_bytes: usize,
    /// How many results one document may have.
    pub outputs: usize,
    /// How many children work at once.
    pub workers: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            time: Duration::from_secs(1),
            memory_bytes: 256 << 20,
            output_bytes: 16 << 20,
            outputs: 10_000,
            workers: 2,
        }
    }
}

/// Why a document has no results.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The program says so: an error of jq, or a result that JSON cannot hold.
    #[error("jq: {0}")]
    Error(String),
    /// It took too long.
    #[error("jq: did not end within {} ms", .0.as_millis())]
    Time(Duration),
    /// It used too much memory, or recursed too deeply.
    #[error("jq: used more than {} MiB of memory, or recursed too deeply", .0 >> 20)]
    Memory(usize),
    /// Its results are too long.
    #[error("jq: results longer than {0} bytes")]
    Size(usize),
    /// It has too many results.
    #[error("jq: more than {0} results")]
    Outputs(usize),
    /// No child could be started or kept: not the document's fault.
    #[error("jq: cannot run a worker process: {0}")]
    Worker(String),
}
