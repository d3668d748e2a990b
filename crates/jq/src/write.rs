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
    if is_json_number(text.as_bytes()) {
        return put(text.as_bytes(), bytes_max, out);
    }
    // jq reads more than JSON does (`.5`, `+1`, `01.5`) and keeps it as written.
    match text.parse::<f64>() {
        Ok(float) if float.is_finite() => put(format!("{float:?}").as_bytes(), bytes_max, out),
        _ => Err(Refusal::NotJson(format!("{text} is not a number of JSON"))),
    }
}

/// RFC 8259 §6: `-? (0 | [1-9][0-9]*) (. [0-9]+)? ([eE] [+-]? [0-9]+)?`.
fn is_json_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut rest = text.strip_prefix(b"-").unwrap_or(text);
    let whole = digits(rest);
    if whole == 0 || (whole > 1 && rest[0] == b'0') {
        return false;
    }
    rest = &rest[whole..];
    if let Some(fraction) = rest.strip_prefix(b".") {
        let count = digits(fraction);
        if count == 0 {
            return false;
        }
        rest = &fraction[count..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        let exponent = exponent.strip_prefix(b"+").or(exponent.strip_prefix(b"-")).unwrap_or(exponent);
        let count = digits(exponent);
        return count > 0 && count == exponent.len();
    }
    rest.is_empty()
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

#[cfg(test)]
mod tests {
    use jaq_json::read::parse_single;

    use super::*;

    fn written(text: &str) -> Result<String, Refusal> {
        let mut out = Vec::new();
        write(&parse_single(text.as_bytes()).expect("a value of jq"), 100, &mut out)?;
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn numbers_are_those_of_json_with_their_digits_kept() {
        for (given, expected) in [
            ("1.10", "1.10"),
            ("-0.5e+7", "-0.5e+7"),
            ("123456789012345678901234567890", "123456789012345678901234567890"),
            ("1e400", "1e400"),
            ("+1", "1"),
            ("01", "1"),
            ("01.5", "1.5"),
            ("-0", "0"),
        ] {
            assert_eq!(written(given).as_deref(), Ok(expected), "{given}");
        }
        assert!(matches!(written("NaN"), Err(Refusal::NotJson(_))));
        assert!(matches!(written("-Infinity"), Err(Refusal::NotJson(_))));
    }

    #[test]
    fn text_is_escaped_where_it_must_be_and_nothing_else_is_json() {
        assert_eq!(written(r#"["\u0001\"\\/ä\n"]"#).as_deref(), Ok(r#"["\u0001\"\\/ä\n"]"#));
        assert!(matches!(written("b\"x\""), Err(Refusal::NotJson(_))));
        assert!(matches!(written("{1: 2}"), Err(Refusal::NotJson(_))));
        assert!(written("\"\u{fffd}\"").is_ok());
    }

    #[test]
    fn nothing_is_written_past_the_bound() {
        let text = |length: usize| written(&format!("\"{}\"", "x".repeat(length - 2)));
        assert_eq!(text(100).map(|it| it.len()), Ok(100));
        assert_eq!(text(101), Err(Refusal::Size));
    }
}
