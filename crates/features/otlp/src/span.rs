//! How a span is written: names and attributes by the semantic conventions for messaging.

use opentelemetry_proto::tonic::{
    common::v1::{AnyValue, KeyValue, any_value},
    trace::v1::{Span, Status, span::Link, span::SpanKind, status::StatusCode},
};
use waystation_base::{
    Millis,
    trace::{Context, SpanId, TraceId},
};

/// What a span is about.
pub(crate) struct Draft {
    /// The trace, and the parent in it.
    pub(crate) context: Context,
    pub(crate) id: SpanId,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) from: Millis,
    pub(crate) to: Millis,
    pub(crate) attributes: Vec<KeyValue>,
    /// What went wrong.
    pub(crate) error: Option<String>,
    /// Spans of other messages that this one came from.
    pub(crate) links: Vec<(TraceId, SpanId)>,
}

impl Draft {
    pub(crate) fn span(self) -> Span {
        let nanos = |at: Millis| at.0.saturating_mul(1_000_000);
        let (code, message) = match self.error {
            Some(message) => (StatusCode::Error, message),
            None => (StatusCode::Unset, String::new()),
        };
        let link = |(trace_id, span_id): (TraceId, SpanId)| Link {
            trace_id: trace_id.to_vec(),
            span_id: span_id.to_vec(),
            ..Link::default()
        };
        Span {
            trace_id: self.context.trace_id.to_vec(),
            span_id: self.id.to_vec(),
            parent_span_id: self.context.parent_id.to_vec(),
            name: self.name,
            kind: self.kind.into(),
            start_time_unix_nano: nanos(self.from.min(self.to)),
            end_time_unix_nano: nanos(self.to),
            attributes: self.attributes,
            links: self.links.into_iter().map(link).collect(),
            status: Some(Status { message, code: code.into() }),
            ..Span::default()
        }
    }
}

/// An attribute that is text.
pub(crate) fn text(key: &str, value: impl Into<String>) -> KeyValue {
    attribute(key, any_value::Value::StringValue(value.into()))
}

/// An attribute that is a number.
pub(crate) fn number(key: &str, value: u64) -> KeyValue {
    attribute(key, any_value::Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)))
}

fn attribute(key: &str, value: any_value::Value) -> KeyValue {
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}
