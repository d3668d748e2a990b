//! Numbers as a selector writes them: the literals of Java, which JMS 2.0 §3.8.1.1 refers to (JLS §3.10.1 and §3.10.2).

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// Up to 2^63, which only a minus sign brings into range.
    Exact(u64),
    /// With a point, an exponent or a suffix of floats.
    Approximate(f64),
}

/// The most that a minus sign brings into range.
pub const EXACT_MAX: u64 = 1 << 63;

/// Reads `text`, which a lexer took as one number: digits, letters, points and the signs of exponents.
pub fn parse(text: &str) -> Result<Number, String> {
    let lower = text.to_ascii_lowercase();
    if let Some(digits) = lower.strip_prefix("0x") {
        return exact(digits, 16, text);
    }
    if let Some(digits) = lower.strip_prefix("0b") {
        return exact(digits, 2, text);
    }
    let is_float = lower.contains(['.', 'e']) || lower.ends_with(['f', 'd']);
    if is_float {
        return float(lower.strip_suffix(['f', 'd']).unwrap_or(&lower), text);
    }
    match lower.strip_prefix('0') {
        Some(octal) if !octal.is_empty() && octal != "l" => exact(octal, 8, text),
        _ => exact(&lower, 10, text),
    }
}

fn exact(digits: &str, radix: u32, text: &str) -> Result<Number, String> {
    let digits = plain(digits.strip_suffix('l').unwrap_or(digits), text)?;
    let number = u64::from_str_radix(&digits, radix).map_err(|error| match error.kind() {
        std::num::IntErrorKind::PosOverflow => format!("{text} does not fit into 64 bits"),
        _ => format!("{text} is no number"),
    })?;
    // In hexadecimal, octal and binary Java writes the bits of a negative number (JLS §3.10.1); in a selector that would surprise.
    if number > EXACT_MAX {
        return Err(format!("{text} does not fit into 64 bits"));
    }
    Ok(Number::Exact(number))
}

fn float(digits: &str, text: &str) -> Result<Number, String> {
    let digits = plain(digits, text)?;
    // Rust reads what Java does, and words besides.
    let is_word = digits.contains(|it: char| it.is_ascii_alphabetic() && it != 'e');
    let number = digits.parse::<f64>().ok().filter(|number| number.is_finite() && !is_word);
    number.map(Number::Approximate).ok_or_else(|| format!("{text} is no number"))
}

/// Without the underscores that may stand between digits.
fn plain(digits: &str, text: &str) -> Result<String, String> {
    let part = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    let bytes = digits.as_bytes();
    for (at, _) in bytes.iter().enumerate().filter(|(_, byte)| **byte == b'_') {
        if at == 0 || !part(bytes.get(at - 1)) || !part(bytes.get(at + 1)) {
            return Err(format!("{text} is no number"));
        }
    }
    Ok(digits.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_those_of_java() {
        let exact = |text: &str, number: u64| assert_eq!(parse(text), Ok(Number::Exact(number)), "{text}");
        exact("57", 57);
        exact("0", 0);
        exact("0L", 0);
        exact("57L", 57);
        exact("0x1F", 31);
        exact("0x1fL", 31);
        exact("0b101", 5);
        exact("017", 15);
        exact("1_000", 1000);
        exact("9223372036854775808", EXACT_MAX);
        let float =
            |text: &str, number: f64| assert_eq!(parse(text), Ok(Number::Approximate(number)), "{text}");
        float("7E3", 7000.0);
        float("57.9e-2", 0.579);
        float("7.", 7.0);
        float(".5", 0.5);
        float("6.2f", 6.2);
        float("3D", 3.0);
        float("1e+2", 100.0);
        for text in [
            "9223372036854775809",
            "18446744073709551616",
            "08",
            "0x",
            "0xg",
            "1e",
            "1e999",
            "1_",
            "12ab",
            "1.2.3",
            "1L2",
            "nan",
            ".",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
