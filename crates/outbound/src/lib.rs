//! Requests that this server makes to others: where they may go, when an endpoint is left alone, how long to wait before another try.
//!
//! This crate refuses to know messages, queues, and what a request is for.

pub mod backoff;
pub mod breaker;
pub mod class;
pub mod client;
pub mod exchange;
pub mod guard;
mod hidden;
mod range;
pub mod rate;
pub mod span;
mod valve;

pub use guard::Guard;
pub use hidden::Hidden;
pub use range::{Invalid, check_range};
pub use valve::Valve;
