//! How long to wait before another try: longer each time, not all at once, and not before the receiver's word?

use std::time::{Duration, UNIX_EPOCH};

use waystation_base::Millis;

/// Milliseconds of the longest pause that may be asked for.
pub const PAUSE_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;

/// Milliseconds to wait after attempt number `attempt` (1: the first) failed: `first_ms`, and twice as long each further time up
/// to `most_ms`, less up to half by chance. `chance` is any number.
pub fn pause_ms(first_ms: u64, most_ms: u64, attempt: u32, chance: u64) -> u64 {
    let doubled = 1u64.checked_shl(attempt.saturating_sub(1)).unwrap_or(u64::MAX);
    let longest = first_ms.saturating_mul(doubled).min(most_ms);
    // Half of it for certain, so that nobody hammers; the rest by chance, so that not all come at once.
    longest - chance % (longest / 2 + 1)
}

/// Reads `Retry-After` (RFC 9110 §10.2.3): seconds, or an HTTP date.
pub fn retry_after_ms(text: &str, now: Millis) -> Option<u64> {
    let text = text.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // More digits than a number holds is long enough to be capped by whoever asks.
        return Some(text.parse::<u64>().unwrap_or(u64::MAX).saturating_mul(1_000));
    }
    let at = httpdate::parse_http_date(text).ok()?.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Some(Millis(at.as_millis() as u64).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = Millis(784_111_777_000);
        for (text, expected) in [
            ("0", Some(0)),
            ("120", Some(120_000)),
            (" 3 ", Some(3_000)),
            ("99999999999999999999", Some(u64::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
            ("Sun, 06 Nov 1994 08:50:37 GMT", Some(60_000)),
            ("Sunday, 06-Nov-94 08:50:37 GMT", Some(60_000)),
            ("Sun Nov  6 08:50:37 1994", Some(60_000)),
            ("Thu, 01 Jan 1970 00:00:00 GMT", Some(0)),
            ("", None),
            ("-1", None),
            ("1.5", None),
            ("soon", None),
        ] {
            assert_eq!(retry_after_ms(text, now), expected, "{text:?}");
        }
    }
}
