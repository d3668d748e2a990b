//! OpenTelemetry: what becomes of messages, as spans of the traces that their producers began, sent by OTLP over HTTP.
//!
//! - [`Tracer`] hears facts from the recorder, and makes a span of each wait and of each delivery of a message whose producer
//!   sent a sampled trace context.
//! - Requests that are made for messages are spans below their deliveries, as `waystation_outbound::span` tells of them.
//! - [`Exporter`] sends spans to a collector. It is bounded: what a collector does not take in time is dropped and counted.
//!
//! This crate refuses to know doors, and how facts are stored.

mod export;
mod outlet;
mod span;
mod tracer;

pub use export::{Counts, Export, Exporter, InvalidEndpoint, Options, SPANS_WAITING_MAX};
pub use outlet::REQUESTS_WAITING_MAX;
pub use tracer::{MESSAGES_MAX, Tracer};

/// A map whose order does not matter.
type HashMap<K, V> = hashbrown::HashMap<K, V, foldhash::fast::RandomState>;
