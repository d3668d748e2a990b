//! jq: programs are compiled when they are declared, and run in child processes that may be killed.
//!
//! A program is somebody's text: it may never end, fill the memory or recurse until the stack is gone. So nothing is evaluated in
//! the server itself. A [`Pool`] has a few children of the same binary with rlimits; each takes documents by a pipe and answers them
//! in order; a child that overruns is killed, and only the document that it was at fails.
//!
//! This crate refuses to know messages, routes, and what a program is for.

mod eval;
mod fault;
mod frame;
mod library;
mod pool;
mod program;
mod worker;
mod write;

pub use fault::{Failure, Limits};
#[cfg(feature = "by-hand")]
pub use pool::Hand;
pub use pool::{Command, Pool};
pub use program::{Error, Program};
pub use worker::serve as serve_worker;

#[doc(hidden)]
pub mod fuzzing {
    //! What the fuzz targets and tests of the worker reach.

    pub use crate::frame::{answer, request};

    /// Evaluates `text` on `input` so many times in this process: what the benchmark compares children with.
    #[allow(clippy::missing_panics_doc, reason = "a program that measures gives what compiles")]
    pub fn evaluate_here(text: &str, input: &[u8], times: usize) {
        let filter = crate::program::compile(text, &[]).unwrap_or_else(|error| panic!("{error}"));
        for _ in 0..times {
            std::hint::black_box(crate::eval::evaluate(&filter, input, &[], 1 << 20, 100));
        }
    }
}
