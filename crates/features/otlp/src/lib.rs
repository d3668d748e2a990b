//! OpenTelemetry: what becomes of messages, as spans of the traces that their producers began, sent by OTLP over HTTP.
//!
//! - [`Tracer`] hears facts from the recorder, and makes a span of each wait and of each delivery of a message whose producer
//!   sent a sampled trace context.
//! - [`Exporter`] sends spans to a collector. It is bounded: what a collector does not take in time is dropped and counted.
//!
//! This crate refuses to know doors, and how facts are stored.

mod context;
mod export;
mod span;
mod tracer;

pub use export::{Counts, Exporter, InvalidEndpoint, Options, SPANS_WAITING_MAX};
pub use tracer::{MESSAGES_MAX, Tracer};

/// A map whose order does not matter.
type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;
