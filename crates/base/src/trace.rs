//! The trace that a message or request belongs to: W3C Trace Context, `traceparent` (§3.2), and the ids of our own spans in it.

use std::fmt;

use xxhash_rust::xxh3::xxh3_64;

use crate::{Offset, ids::MessageId};

/// A trace: one number for all spans of it.
pub type TraceId = [u8; 16];
/// A span in it.
pub type SpanId = [u8; 8];

/// What stands in a `traceparent`; its text is that of version 00.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// The trace.
    pub trace_id: TraceId,
    /// Whoever sent it.
    pub parent_id: SpanId,
    /// Whether it is recorded by whoever sent it.
    pub is_sampled: bool,
}

impl Context {
    /// Reads a `traceparent`; nothing if it is none. A later version is read as far as this one goes (§3.2.4).
    pub fn parse(text: &str) -> Option<Context> {
        let mut parts = text.split('-');
        let [version] = bytes(parts.next()?)?;
        let (trace_id, parent_id) = (bytes(parts.next()?)?, bytes(parts.next()?)?);
        let [flags] = bytes(parts.next()?)?;
        let is_whole = version != 0 || parts.next().is_none();
        let is_valid = version != 0xff && trace_id != [0; 16] && parent_id != [0; 8] && is_whole;
        is_valid.then_some(Context { trace_id, parent_id, is_sampled: flags & 1 == 1 })
    }

    /// The same trace, as a span of ours sends it on.
    pub fn of(self, span: SpanId) -> Context {
        Context { parent_id: span, ..self }
    }
}

impl fmt::Display for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (trace, parent) = (u128::from_be_bytes(self.trace_id), u64::from_be_bytes(self.parent_id));
        write!(f, "00-{trace:032x}-{parent:016x}-{:02x}", u8::from(self.is_sampled))
    }
}

/// What a span is made below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// What the message carries: its trace, and whoever published.
    pub context: Context,
    /// The span of its delivery; that of whoever published where that is not known.
    pub delivery: SpanId,
}

/// Lower-case hexadecimal digits, exactly as many as fill the array.
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (to, pair) in out.iter_mut().zip(digits.chunks_exact(2)) {
        *to = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

/// The trace's id in a `traceparent`, as text; none if it is not one.
pub fn trace_id(traceparent: &str) -> Option<&str> {
    let id = traceparent.split('-').nth(1)?;
    bytes::<16>(id).filter(|id| *id != [0; 16]).map(|_| id)
}

/// The id of a span, always the same for the same thing: a span that is sent again after a restart is known to be the same.
pub fn span_id(of: &[&[u8]]) -> SpanId {
    let hash = xxh3_64(&of.concat());
    hash.max(1).to_be_bytes()
}

/// The span of one delivery: whoever has it and whoever reads of it in the record call it the same.
pub fn delivery_span(message: MessageId, address: &str, offset: Offset, copy: &str, attempt: u32) -> SpanId {
    let (offset, attempt) = (offset.0.to_be_bytes(), attempt.to_be_bytes());
    span_id(&[b"deliver", message.as_bytes(), &offset, &attempt, address.as_bytes(), b"\0", copy.as_bytes()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn a_traceparent_is_read_by_its_specification() {
        let parsed = Context::parse(&format!("00-{ID}-00f067aa0ba902b7-01")).expect("a context");
        assert_eq!((parsed.trace_id[0], parsed.parent_id[1], parsed.is_sampled), (0x4b, 0xf0, true));
        let is_sampled = |text: String| Context::parse(&text).map(|context| context.is_sampled);
        for (text, expected) in [
            (format!("00-{ID}-00f067aa0ba902b7-00"), Some(false)),
            (format!("00-{ID}-00f067aa0ba902b7-03"), Some(true)),
            (format!("cc-{ID}-00f067aa0ba902b7-01-more"), Some(true)),
            (format!("00-{ID}-00f067aa0ba902b7-01-more"), None),
            (format!("ff-{ID}-00f067aa0ba902b7-01"), None),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None),
            (format!("00-{ID}-0000000000000000-01"), None),
            (format!("00-{}-00f067aa0ba902b7-01", ID.to_uppercase()), None),
            (format!("00-{ID}-00f067aa0ba902b7"), None),
            (String::new(), None),
        ] {
            assert_eq!(is_sampled(text.clone()), expected, "{text}");
        }
    }

    #[test]
    fn what_is_sent_on_is_the_same_trace_from_another_span() {
        let context = Context::parse(&format!("cc-{ID}-00f067aa0ba902b7-03-more")).expect("a context");
        assert_eq!(context.to_string(), format!("00-{ID}-00f067aa0ba902b7-01"));
        let ours = context.of(7u64.to_be_bytes());
        assert_eq!(ours.to_string(), format!("00-{ID}-0000000000000007-01"));
        assert_eq!(Context::parse(&ours.to_string()), Some(ours));
    }

    #[test]
    fn only_a_valid_trace_id_is_one() {
        assert_eq!(trace_id(&format!("00-{ID}-00f067aa0ba902b7-01")), Some(ID));
        for bad in
            ["", "00", "00-", &format!("00-{ID}0-x"), &"00-".repeat(9), &format!("00-{}-1", "0".repeat(32))]
        {
            assert_eq!(trace_id(bad), None, "{bad}");
        }
        assert_eq!(trace_id("00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01"), None);
    }
}
