//! The trace that a message belongs to: W3C trace context, `traceparent` (§3.2).

use xxhash_rust::xxh3::xxh3_64;

/// What stands in a `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Context {
    pub(crate) trace_id: [u8; 16],
    /// Whoever published.
    pub(crate) parent_id: [u8; 8],
    pub(crate) is_sampled: bool,
}

impl Context {
    /// Reads a `traceparent`; nothing if it is none. A later version is read as far as this one goes (§3.2.4).
    pub(crate) fn parse(text: &str) -> Option<Context> {
        let mut parts = text.split('-');
        let [version] = bytes(parts.next()?)?;
        let (trace_id, parent_id) = (bytes(parts.next()?)?, bytes(parts.next()?)?);
        let [flags] = bytes(parts.next()?)?;
        let is_whole = version != 0 || parts.next().is_none();
        let is_valid = version != 0xff && trace_id != [0; 16] && parent_id != [0; 8] && is_whole;
        is_valid.then_some(Context { trace_id, parent_id, is_sampled: flags & 1 == 1 })
    }
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

/// The id of a span, always the same for the same thing: a span that is sent again after a restart is known to be the same.
pub(crate) fn span_id(of: &[&[u8]]) -> [u8; 8] {
    let hash = xxh3_64(&of.concat());
    hash.max(1).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_by_its_specification() {
        let id = "4bf92f3577b34da6a3ce929d0e0e4736";
        let parsed = Context::parse(&format!("00-{id}-00f067aa0ba902b7-01")).expect("a context");
        assert_eq!((parsed.trace_id[0], parsed.parent_id[1], parsed.is_sampled), (0x4b, 0xf0, true));
        let is_sampled = |text: String| Context::parse(&text).map(|context| context.is_sampled);
        for (text, expected) in [
            (format!("00-{id}-00f067aa0ba902b7-00"), Some(false)),
            (format!("00-{id}-00f067aa0ba902b7-03"), Some(true)),
            (format!("cc-{id}-00f067aa0ba902b7-01-more"), Some(true)),
            (format!("00-{id}-00f067aa0ba902b7-01-more"), None),
            (format!("ff-{id}-00f067aa0ba902b7-01"), None),
            (format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)), None),
            (format!("00-{id}-0000000000000000-01"), None),
            (format!("00-{}-00f067aa0ba902b7-01", id.to_uppercase()), None),
            (format!("00-{id}-00f067aa0ba902b7"), None),
            (String::new(), None),
        ] {
            assert_eq!(is_sampled(text.clone()), expected, "{text}");
        }
    }
}
