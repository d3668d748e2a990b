//! What the queues, topics and documents of this crate are called.

use waystation_base::Name;

/// The compacted topic of all calls: the latest record of each, keyed by its id.
pub const CALLS: &str = "$calls";
/// The compacted topic of what stands in memory of the calls, so that a start need not read all records: see [`crate::page`].
pub const INDEX: &str = "$calls.index";
/// The compacted topic of the requests that may be tried anew, keyed by their calls' ids.
pub const REQUESTS: &str = "$calls.requests";
/// The queue for workers' replies; messages carry it as `reply-to`.
pub const REPLIES: &str = waystation_base::name::CALL_REPLIES;
/// The queue of callbacks that are to be delivered: see [`crate::outcome`].
pub const CALLBACKS: &str = "$calls.callbacks";
/// The topic of results that came too late, or for no call.
pub const LATE: &str = "$calls.late";
/// The topic of messages that were to become calls and could not.
pub const REFUSED: &str = "$calls.refused";
/// Operations are documents whose names begin so.
pub const OPERATION_PREFIX: &str = "$calls/operations/";

/// One of the names above.
pub(crate) fn own(text: &str) -> Name {
    Name::reserved(text).expect("a good name of our own")
}

/// The headers of workers' replies that say how it went.
pub mod header {
    /// The result's HTTP status, 200 to 599; without it 200, or 500 beside [`ERROR`]. From 400 on the call has failed.
    pub const STATUS: &str = "call-status";
    /// Why the call failed, in the worker's words.
    pub const ERROR: &str = "call-error";
    /// Per cent done, 0 to 100: the message is no result but tells of progress; its body is a note.
    pub const PROGRESS: &str = "call-progress";
    /// On a request's message: which operation it is for.
    pub const OPERATION: &str = "call-operation";
    /// On a request's message: until when an outcome is of use (milliseconds since 1970).
    pub const DEADLINE: &str = "call-deadline";
    /// On a request that is kept: its key (bytes), and its priority.
    pub const KEPT_KEY: &str = "call-kept-key";
    /// See [`KEPT_KEY`].
    pub const KEPT_PRIORITY: &str = "call-kept-priority";
    /// On a message that could not become a call: why.
    pub const REFUSED: &str = "call-refused";
    /// On a request: the caller's own correlation id, since `correlation-id` is the call's.
    pub const CALLER_CORRELATION_ID: &str = "caller-correlation-id";
    /// On a reply to whoever called by a message: the call, and its state.
    pub const ID: &str = "call-id";
    /// See [`ID`].
    pub const STATE: &str = "call-state";
    /// On a late result: the state that the call had, or `unknown`.
    pub const LATE_STATE: &str = "call-late-state";
    /// On a callback: where it goes.
    pub const CALLBACK_URL: &str = "callback-url";
    /// On a callback: the Standard Webhooks id, the same in every attempt: the call's id.
    pub const WEBHOOK_ID: &str = "webhook-id";
}
