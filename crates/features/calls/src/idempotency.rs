//! When are two requests one? By the header `Idempotency-Key` (draft-ietf-httpapi-idempotency-key-header), within an operation
//! and a caller.

use sha2::{Digest, Sha256};

use crate::{Error, limits::KEY_BYTES_MAX};

/// A key as it is remembered, and the mark of the request that it came with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Of operation, caller and key.
    pub scope: u128,
    /// Of the request's content type and body.
    pub request: u128,
}

/// The first half of a SHA-256 over the parts, each with its length before it.
fn digest(parts: &[&[u8]]) -> u128 {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digest = hash.finalize();
    digest.iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// The mark of a correlation id.
pub(crate) fn mark(correlation_id: &str) -> u128 {
    digest(&[correlation_id.as_bytes()])
}

impl Key {
    /// Reads the header's value, which the draft wants to be a quoted string (RFC 8941 §3.3.3); a bare one is taken as well.
    pub fn new(
        value: &str,
        operation: &str,
        caller: &str,
        content_type: &str,
        body: &[u8],
    ) -> Result<Key, Error> {
        let text = unquoted(value.trim())?;
        if text.is_empty() {
            return Err(Error::BadKey("is empty"));
        }
        if text.len() > KEY_BYTES_MAX {
            return Err(Error::BadKey("may have 255 bytes"));
        }
        let scope = digest(&[operation.as_bytes(), caller.as_bytes(), text.as_bytes()]);
        Ok(Key { scope, request: digest(&[content_type.as_bytes(), body]) })
    }
}

fn unquoted(text: &str) -> Result<String, Error> {
    let Some(rest) = text.strip_prefix('"') else { return Ok(text.to_owned()) };
    let (mut out, mut chars) = (String::new(), rest.chars());
    while let Some(next) = chars.next() {
        match next {
            '"' if chars.as_str().is_empty() => return Ok(out),
            '"' => break,
            '\\' => out.extend(chars.next()),
            other => out.push(other),
        }
    }
    Err(Error::BadKey("is not a quoted string"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(value: &str) -> Result<Key, Error> {
        Key::new(value, "op", "me", "text/plain", b"body")
    }

    #[test]
    fn a_quoted_key_and_a_bare_one_are_the_same() {
        assert_eq!(key("\"a-1\""), key("a-1"));
        assert_eq!(key(r#""a\"b""#), key("a\"b"));
        assert_ne!(key("a-1"), key("a-2"));
        let other = Key::new("a-1", "op", "you", "text/plain", b"body").expect("a key");
        assert_ne!(key("a-1").expect("a key").scope, other.scope);
        assert_eq!(key("a-1").expect("a key").request, other.request);
    }

    #[test]
    fn a_key_is_bounded_and_whole() {
        assert!(key(&"k".repeat(KEY_BYTES_MAX)).is_ok());
        for wrong in ["", "\"\"", "\"a", "\"a\"b\"", &"k".repeat(KEY_BYTES_MAX + 1)] {
            assert!(matches!(key(wrong), Err(Error::BadKey(_))), "{wrong}");
        }
    }
}
