//! How do people write and read durations, sizes, counts and times?

use waystation_base::Millis;

const MS_PER: &[(&str, u64)] = &[
    ("ms", 1),
    ("s", 1_000),
    ("m", 60_000),
    ("min", 60_000),
    ("h", 3_600_000),
    ("d", 86_400_000),
    ("w", 604_800_000),
];

const BYTES_PER: &[(&str, u64)] = &[
    ("", 1),
    ("B", 1),
    ("kB", 1_000),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
    ("TiB", 1 << 40),
];

/// Milliseconds of `30s`, `250ms`, `1h30m`, `7d`.
pub fn duration_ms(text: &str) -> Result<u64, String> {
    let fail = || format!("'{text}' is not a duration; write it like 250ms, 30s, 5m, 1h30m or 7d");
    if text == "0" {
        return Ok(0);
    }
    let (mut rest, mut total) = (text, 0u64);
    while !rest.is_empty() {
        let (number, unit, after) = number_and_unit(rest).ok_or_else(fail)?;
        let per = MS_PER.iter().find(|(name, _)| *name == unit).ok_or_else(fail)?.1;
        let part = number.checked_mul(per).ok_or_else(fail)?;
        total = total.checked_add(part).ok_or_else(fail)?;
        rest = after;
    }
    if text.is_empty() { Err(fail()) } else { Ok(total) }
}

/// Bytes of `512`, `64MiB`, `10GB`.
pub fn size_bytes(text: &str) -> Result<u64, String> {
    let fail = || format!("'{text}' is not a size; write it like 4096, 64KiB, 10MB or 1GiB");
    let (number, unit, after) = number_and_unit(text).ok_or_else(fail)?;
    let per = BYTES_PER.iter().find(|(name, _)| *name == unit).ok_or_else(fail)?.1;
    if after.is_empty() { number.checked_mul(per).ok_or_else(fail) } else { Err(fail()) }
}

fn number_and_unit(text: &str) -> Option<(u64, &str, &str)> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let letters = text[digits..].find(|c: char| !c.is_ascii_alphabetic()).map_or(text.len(), |n| digits + n);
    Some((text[..digits].parse().ok()?, &text[digits..letters], &text[letters..]))
}

/// Two units at most: `1h 30m`, `12.3s`, `250ms`.
pub fn show_duration(ms: u64) -> String {
    let (seconds, minutes, hours) = (ms / 1000, ms / 60_000, ms / 3_600_000);
    match ms {
        0..1_000 => format!("{ms}ms"),
        1_000..60_000 if ms.is_multiple_of(1000) => format!("{seconds}s"),
        1_000..60_000 => format!("{seconds}.{}s", ms % 1000 / 100),
        60_000..3_600_000 => pair(minutes, "m", seconds % 60, "s"),
        3_600_000..86_400_000 => pair(hours, "h", minutes % 60, "m"),
        _ => pair(hours / 24, "d", hours % 24, "h"),
    }
}

fn pair(large: u64, large_unit: &str, small: u64, small_unit: &str) -> String {
    match small {
        0 => format!("{large}{large_unit}"),
        _ => format!("{large}{large_unit} {small}{small_unit}"),
    }
}

/// `1.5 MiB`.
pub fn show_size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let (mut value, mut unit) = (bytes as f64, 0);
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 { format!("{bytes} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

/// `1,234,567`.
pub fn show_count(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 message`, `2,000 messages`.
pub fn show_messages(count: u64) -> String {
    format!("{} message{}", show_count(count), if count == 1 { "" } else { "s" })
}

/// RFC 3339 in UTC, to the millisecond.
pub fn show_time(time: Millis) -> String {
    let (days, ms) = ((time.0 / 86_400_000) as i64, time.0 % 86_400_000);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1000 % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", ms % 1000)
}

/// RFC 3339 (`2026-01-31T12:00:00Z`, with or without fraction or offset), a plain date, or milliseconds since 1970.
pub fn time(text: &str) -> Result<Millis, String> {
    let fail = || {
        format!("'{text}' is not a time; write it like 2026-01-31T12:00:00Z, or as milliseconds since 1970")
    };
    if let Ok(ms) = text.parse() {
        return Ok(Millis(ms));
    }
    parse_time(text).ok_or_else(fail)
}

fn parse_time(text: &str) -> Option<Millis> {
    if !text.is_ascii() {
        return None;
    }
    let field = |from: usize, to: usize| text.get(from..to)?.parse::<i64>().ok();
    let (year, month, day) = (field(0, 4)?, field(5, 7)?, field(8, 10)?);
    let separated = text.get(4..5)? == "-" && text.get(7..8)? == "-";
    if !separated || !(1..=12).contains(&month) || !(1..=month_days(year, month)).contains(&day) {
        return None;
    }
    let days = days(year, month, day);
    let of_day = match text.get(10..)? {
        "" => 0,
        clock => clock_ms(clock)?,
    };
    u64::try_from(days * 86_400_000 + of_day).ok().map(Millis)
}

/// Milliseconds of `T12:34:56.789+02:00`, the offset taken off.
fn clock_ms(text: &str) -> Option<i64> {
    let field = |from: usize, to: usize, max: i64| {
        text.get(from..to)?.parse::<i64>().ok().filter(|value| (0..=max).contains(value))
    };
    let marks = (text.get(0..1)?, text.get(3..4)?, text.get(6..7)?);
    if !matches!(marks, ("T" | "t" | " ", ":", ":")) {
        return None;
    }
    let seconds = field(1, 3, 23)? * 3600 + field(4, 6, 59)? * 60 + field(7, 9, 59)?;
    let zone_at = text[9..].find(['Z', 'z', '+', '-'])? + 9;
    let fraction = match &text[9..zone_at] {
        "" => 0,
        fraction => format!("{:0<3.3}", fraction.strip_prefix('.')?).parse::<i64>().ok()?,
    };
    let offset = match &text[zone_at..] {
        "Z" | "z" => 0,
        zone if zone.len() == 6 && &zone[3..4] == ":" => {
            let minutes = field(zone_at + 1, zone_at + 3, 23)? * 60 + field(zone_at + 4, zone_at + 6, 59)?;
            if zone.starts_with('-') { -minutes } else { minutes }
        }
        _ => return None,
    };
    Some(seconds * 1000 + fraction - offset * 60_000)
}

fn month_days(year: i64, month: i64) -> i64 {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Days from 1970-01-01 to a date of the Gregorian calendar; years begin in March so that the leap day is last.
fn days(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

/// The other way round.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read() {
        for (text, ms) in
            [("0", 0), ("250ms", 250), ("30s", 30_000), ("1h30m", 5_400_000), ("7d", 604_800_000)]
        {
            assert_eq!(duration_ms(text), Ok(ms), "{text}");
        }
        for text in [
            "",
            "5",
            "s",
            "5 s",
            "-1s",
            "5y",
            "1.5s",
            "99999999999999999999s",
            "18446744073709551615w",
            "5s5",
        ] {
            assert!(duration_ms(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("512", 512), ("64KiB", 65_536), ("10MB", 10_000_000), ("1GiB", 1 << 30)] {
            assert_eq!(size_bytes(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "5mib", "5MiB3", "18446744073709551615TiB", "1.5GB"] {
            assert!(size_bytes(text).is_err(), "{text}");
        }
    }

    #[test]
    fn times_are_read_and_shown() {
        for (text, shown) in [
            ("0", "1970-01-01T00:00:00.000Z"),
            ("2024-02-29", "2024-02-29T00:00:00.000Z"),
            ("2026-01-31T12:34:56Z", "2026-01-31T12:34:56.000Z"),
            ("2026-01-31T12:34:56.7891+02:00", "2026-01-31T10:34:56.789Z"),
            ("2000-03-01 00:30:00-01:30", "2000-03-01T02:00:00.000Z"),
            ("1999-12-31T23:59:59.5Z", "1999-12-31T23:59:59.500Z"),
        ] {
            assert_eq!(time(text).map(show_time).as_deref(), Ok(shown), "{text}");
        }
        for text in [
            "",
            "yesterday",
            "2023-02-29",
            "2026-13-01",
            "2026-01-31T25:00:00Z",
            "1969-12-31",
            "2026-01-31T12:00:00",
            "2026-01-31Tä2:00:00Z",
        ] {
            assert!(time(text).is_err(), "{text}");
        }
    }

    #[test]
    fn every_day_of_four_centuries_is_read_as_it_is_shown() {
        for day in (0..146_097).step_by(17) {
            let at = Millis(day * 86_400_000);
            assert_eq!(time(&show_time(at)), Ok(at));
        }
    }

    #[test]
    fn amounts_are_shown_in_two_units_at_most() {
        assert_eq!([0, 999, 1_000, 12_345].map(show_duration), ["0ms", "999ms", "1s", "12.3s"]);
        assert_eq!([60_000, 5_430_000, 90_000_000].map(show_duration), ["1m", "1h 30m", "1d 1h"]);
        assert_eq!([5, 1536, 1 << 40].map(show_size), ["5 B", "1.5 KiB", "1.0 TiB"]);
        assert_eq!([0, 999, 1000, 1234567].map(show_count), ["0", "999", "1,000", "1,234,567"]);
        assert_eq!([1, 2000].map(show_messages), ["1 message", "2,000 messages"]);
    }
}
