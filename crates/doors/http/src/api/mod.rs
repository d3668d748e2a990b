//! What is said over the HTTP interface, as plain data: the same types for the server, the command line and the description.

mod access;
mod call;
mod entity;
mod message;
mod problem;
mod redrive;
mod route;
mod settle;
mod tag;

pub use access::{
    APPLY_TO, ImportStep, Imported, Permission, PermissionSpec, Policy, PolicySpec, TopicPermission,
    TopicPermissionSpec, User, UserChange, UserLimits, UserLimitsChange, UserSpec, Vhost, VhostSpec,
    VhostState,
};
pub use call::{
    Call, CallReply, CallResult, Cancellation, FailureReport, OperationDeclaration, OperationInfo,
    ProgressReport, Stepped,
};
pub use entity::{
    Binding, Bindings, Declaration, Declared, List, Removed, SeekPosition, SeekRequest, SeekStart, Status,
};
pub use message::{Accepted, Line, MessagePage, Place, Progress, Received, ReceivedPage, ServerSentEvent};
pub use problem::Problem;
pub use redrive::{DeadLetter, DeadLetterPage, RedrivePreview, RedriveSample};
pub use route::{AnyRoute, Made, MadeOutput, RouteDeclaration, Trial, TrialRequest, TriedMessage};
pub use settle::{
    ExtendRequest, Extended, Held, Outcome, SettleRequest, Settled, Settlement, Transacted,
    TransactionPublish, TransactionRequest, TransactionSettle,
};
pub use tag::TagText;

/// Media types of the interface.
pub mod media {
    /// JSON (RFC 8259).
    pub const JSON: &str = "application/json";
    /// One JSON value a line.
    pub const NDJSON: &str = "application/x-ndjson";
    /// An error (RFC 9457).
    pub const PROBLEM: &str = "application/problem+json";
    /// One CloudEvent.
    pub const CLOUD_EVENT: &str = "application/cloudevents+json";
    /// An array of CloudEvents.
    pub const CLOUD_EVENTS: &str = "application/cloudevents-batch+json";
    /// Server-sent events.
    pub const EVENTS: &str = "text/event-stream";
    /// Bytes without a meaning of their own.
    pub const BYTES: &str = "application/octet-stream";
    /// Text.
    pub const TEXT: &str = "text/plain; charset=utf-8";
}
