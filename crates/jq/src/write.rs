//! A result of jq as JSON: strictly, and never past a bound.

use jaq_json::{Num, Val};

/// Why a value is not written.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It would take the text past the bound.
    Size,
    /// JSON cannot hold it.
    NotJson(String),
}

/// Appends `value` as JSON, up to `bytes_max` bytes of `out` in all.
///
/// jaq's values are a superset of JSON (bytes, keys that are no strings, NaN): what has no equal in JSON is an error, since
/// whoever reads the result would see something else than was computed.
pub fn write(value: &Val, bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
    match value {
        Val::Null => put(b"null", bytes_max, out),
        Val::Bool(true) => put(b"true", bytes_max, out),
        Val::Bool(false) => put(b"false", bytes_max, out),
        Val::Num(number) => write_number(number, bytes_max, out),
        Val::TStr(text) => write_text(text, bytes_max, out),
        Val::BStr(_) => Err(Refusal::NotJson("bytes cannot be written as JSON: convert them to text".into())),
        Val::Arr(items) => {
            put(b"[", bytes_max, out)?;
            for (index, item) in items.iter().enumerate() {
                if index > 0 {
                    put(b",", bytes_max, out)?;
                }
                write(item, bytes_max, out)?;
            }
            put(b"]", bytes_max, out)
        }
        Val::Obj(items) => {
            put(b"{", bytes_max, out)?;
            for (index, (key, value)) in items.iter().enumerate() {
                if index > 0 {
                    put(b",", bytes_max, out)?;
                }
                let Val::TStr(key) = key else {
                    return Err(Refusal::NotJson("a key of an object is not text".into()));
                };
                write_text(key, bytes_max, out)?;
                put(b":", bytes_max, out)?;
                write(value, bytes_max, out)?;
            }
            put(b"}", bytes_max, out)
        }
    }
}

fn put(bytes: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
    if out.len() + bytes.len() > bytes_max {
        return Err(Refusal::Size);
    }
    out.extend_from_slice(bytes);
    Ok(())
}

fn write_number(number: &Num, bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
    if matches!(number, Num::Float(float) if !float.is_finite()) {
        return Err(Refusal::NotJson("the result is infinite or not a number".into()));
    }
    let text = number.to_string();
    // A number that came with a plus sign keeps its text.
    put(text.trim_start_matches('+').as_bytes(), bytes_max, out)
}

/// RFC 8259 §7: what must be escaped is, the rest stands as it is.
fn write_text(text: &[u8], bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let text = std::str::from_utf8(text).map_err(|_| Refusal::NotJson("a text is not UTF-8".into()))?;
    put(b"\"", bytes_max, out)?;
    let mut rest = text.as_bytes();
    while let Some(at) = rest.iter().position(|byte| matches!(byte, 0..0x20 | b'"' | b'\\')) {
        put(&rest[..at], bytes_max, out)?;
        escape(rest[at], bytes_max, out)?;
        rest = &rest[at + 1..];
    }
    put(rest, bytes_max, out)?;
    put(b"\"", bytes_max, out)
}

fn escape(byte: u8, bytes_max: usize, out: &mut Vec<u8>) -> Result<(), Refusal> {
    match byte {
        b'"' => put(b"\\\"", bytes_max, out),
        b'\\' => put(b"\\\\", bytes_max, out),
        b'\n' => put(b"\\n", bytes_max, out),
        b'\r' => put(b"\\r", bytes_max, out),
        b'\t' => put(b"\\t", bytes_max, out),
        other => put(format!("\\u{other:04x}").as_bytes(), bytes_max, out),
    }
}
