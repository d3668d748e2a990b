//! Webhooks: signed requests to other people's servers that never reach our own network, and push subscriptions, which deliver
//! a queue or subscription by them.
//!
//! This crate refuses to know doors, the journal and the command line. What it retries it gives back to the queue.

pub mod attempt;
pub mod push;
pub mod retry;
pub mod sender;
pub mod sign;
pub mod verdict;

pub use push::{Plan, Pusher, Pushes};
pub use sender::{Job, Sender};
pub use sign::Secret;
pub use waystation_outbound::{Guard, breaker, guard};
