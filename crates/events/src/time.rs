//! How is a moment written: milliseconds since 1970, or RFC 3339 text.

use waystation_base::Millis;

/// Milliseconds of a day.
const DAY_MS: i64 = 24 * 60 * 60 * 1000;

/// Reads RFC 3339 §5.6, down to milliseconds; a leap second counts as the second before. Nothing before 1970.
pub fn parse(text: &str) -> Option<Millis> {
    let bytes = text.as_bytes();
    let digits = |from: usize, to: usize| {
        let part = bytes.get(from..to)?;
        part.iter()
            .all(u8::is_ascii_digit)
            .then(|| part.iter().fold(0i64, |n, d| n * 10 + i64::from(d - b'0')))
    };
    let is = |at: usize, allowed: &[u8]| bytes.get(at).filter(|found| allowed.contains(found)).map(drop);
    let (year, month, day) = (digits(0, 4)?, digits(5, 7)?, digits(8, 10)?);
    let (hour, minute, second) = (digits(11, 13)?, digits(14, 16)?, digits(17, 19)?);
    is(4, b"-").and(is(7, b"-")).and(is(10, b"Tt ")).and(is(13, b":")).and(is(16, b":"))?;
    let fits = (1..=12).contains(&month) && (1..=days_in(year, month)).contains(&day);
    if !fits || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let (millis, at) = fraction(bytes, 19)?;
    let offset_ms = offset(bytes, at, digits)? * 60_000;
    let time_ms = ((hour * 60 + minute) * 60 + second.min(59)) * 1000 + millis;
    let whole = days_from_civil(year, month, day) * DAY_MS + time_ms - offset_ms;
    u64::try_from(whole).ok().map(Millis)
}

/// Milliseconds of `.123…`, if it stands there, and where it ends.
fn fraction(bytes: &[u8], at: usize) -> Option<(i64, usize)> {
    if bytes.get(at) != Some(&b'.') {
        return Some((0, at));
    }
    let digits: Vec<_> = bytes[at + 1..].iter().take_while(|byte| byte.is_ascii_digit()).collect();
    let millis = (0..3).fold(0, |n, i| n * 10 + digits.get(i).map_or(0, |digit| i64::from(**digit - b'0')));
    (!digits.is_empty()).then_some((millis, at + 1 + digits.len()))
}

/// Minutes east of Greenwich, which must end the text.
fn offset(bytes: &[u8], at: usize, digits: impl Fn(usize, usize) -> Option<i64>) -> Option<i64> {
    let sign = match bytes.get(at)? {
        b'Z' | b'z' => return (bytes.len() == at + 1).then_some(0),
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = (digits(at + 1, at + 3)?, digits(at + 4, at + 6)?);
    let is_whole = bytes.len() == at + 6 && bytes[at + 3] == b':' && hours <= 23 && minutes <= 59;
    is_whole.then_some(sign * (hours * 60 + minutes))
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01, counting years from March so that the leap day ends one.
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// Writes RFC 3339 in UTC with milliseconds.
pub fn format(at: Millis) -> String {
    // What no calendar of four digits holds is written as its last moment.
    let ms = at.0.min(253_402_300_799_999) as i64;
    let (days, time) = (ms.div_euclid(DAY_MS) + 719_468, ms.rem_euclid(DAY_MS));
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 { shifted + 3 } else { shifted - 9 };
    let year = era * 400 + year_of_era + i64::from(month <= 2);
    let (hour, minute) = (time / 3_600_000, time / 60_000 % 60);
    let (second, millis) = (time / 1000 % 60, time % 1000);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{millis:03}Z")
}

/// Reads a moment from a parameter or header: a whole number of milliseconds, or RFC 3339.
pub fn parse_either(text: &str) -> Option<Millis> {
    text.parse().ok().map(Millis).or_else(|| parse(text))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(text: &str, expected: Option<u64>) {
        assert_eq!(parse(text), expected.map(Millis), "{text}");
    }

    #[test]
    fn moments_are_read_from_rfc_3339() {
        check("1970-01-01T00:00:00Z", Some(0));
        check("2018-04-05T17:31:00Z", Some(1_522_949_460_000));
        check("2018-04-05T19:31:00.5+02:00", Some(1_522_949_460_500));
        check("2018-04-05t12:31:00.123456789-05:00", Some(1_522_949_460_123));
        check("2024-02-29T00:00:00Z", Some(1_709_164_800_000));
        check("2016-12-31T23:59:60Z", Some(1_483_228_799_000));
        for bad in [
            "",
            "2018-04-05",
            "2018-04-05T17:31:00",
            "2023-02-29T00:00:00Z",
            "2018-13-05T17:31:00Z",
            "2018-04-05T24:00:00Z",
            "2018-04-05T17:31:00.Z",
            "2018-04-05T17:31:00Zx",
            "2018-04-05T17:31:00+02",
            "2018-04-05T17:31:00+24:00",
            "1969-12-31T23:59:59Z",
            "2018-04-05T17:31:0äZ",
        ] {
            check(bad, None);
        }
    }

    proptest! {
        #[test]
        fn a_written_moment_is_read_again(ms in 0u64..253_402_300_800_000) {
            prop_assert_eq!(parse(&format(Millis(ms))), Some(Millis(ms)));
        }

        #[test]
        fn any_text_gives_a_moment_or_nothing(text: String) {
            let _ = parse_either(&text);
        }
    }
}
