//! Upstreams: an existing HTTP service serves an operation's calls, unchanged.
//!
//! Each has a worker, which takes calls from the operation's queue like any other consumer. What fails goes back to the queue with
//! its pause; a suspended upstream shuts the worker's window. So attempts and pauses survive a crash, and nothing waits in memory.

mod attempt;
mod figures;
mod live;
mod request;
mod spec;
mod turn;
mod upstreams;
mod verdict;

pub(crate) use figures::figures;
pub use live::{UpstreamCounts, UpstreamFailure, UpstreamInfo, UpstreamState};
pub use spec::{Statuses, Upstream, UpstreamMethod};
pub(crate) use upstreams::Hub;
pub use upstreams::Upstreams;
