//! The process's memory as a trait, so that a test can say how much of it is in use.

use std::{fmt, io};

/// How much memory the process uses, and how it uses less.
pub trait Memory: fmt::Debug + Send + Sync + 'static {
    /// Bytes of memory that the process has now (resident, in the system's words). Asked often: it must be cheap.
    fn used_bytes(&self) -> io::Result<u64>;
    /// Gives back to the system what was freed and is only kept for later, as far as that is cheap.
    fn give_back(&self) {}
}
