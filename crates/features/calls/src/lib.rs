//! Asynchronous calls: a request becomes a durable message and a call with an address; a worker answers later; the call ends
//! with exactly one outcome, which is there to be fetched.
//!
//! One task, the [`Engine`], owns all calls and decides every race. What it decides is a record on the compacted topic
//! [`names::CALLS`], keyed by the call's id, written in one transaction with the message that it publishes or settles; nothing is
//! told before that is durable. In memory stands a small entry for each call. The entries are written down now and then as pages
//! ([`page`]); at start pages are read, and the records since.
//!
//! An operation may have an upstream, an HTTP service that serves its calls: a worker of our own, which takes them from the queue
//! like any other.
//!
//! This crate refuses to know the doors, the journal, and how a callback is delivered: that is asked for by a message on
//! [`names::CALLBACKS`], which [`outcome`] describes.

mod allow;
mod ask;
mod beside;
mod engine;
mod error;
mod handle;
mod id;
mod idempotency;
mod index;
pub mod limits;
pub mod names;
mod operation;
pub mod outcome;
pub mod page;
mod record;
mod reply;
mod reply_to;
mod request;
mod step;
mod stored;
mod upstream;
mod work;

pub use allow::{Pattern, PatternError};
pub use ask::{
    AttemptEnd, Began, Cancelled, Change, Changed, Filter, ListPage, RetryAs, Seen, Start, Started,
};
pub use engine::Engine;
pub use error::Error;
pub use handle::{Call, Calls};
pub use id::CallId;
pub use idempotency::Key;
pub use operation::{Finished, Operation, SpecError};
pub use record::{Fault, Held, Progress, Record, ResultHead, State};
pub use reply_to::{Replied, ReplyTo};
pub use upstream::{
    Statuses, Upstream, UpstreamCounts, UpstreamFailure, UpstreamInfo, UpstreamMethod, UpstreamState,
    Upstreams,
};
pub use work::{Answer, Work};
