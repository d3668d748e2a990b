//! What do error texts have in common that tell of the same failure? What differs from message to message is replaced: numbers, ids,
//! hexadecimal, quoted texts, addresses, times. What is left names the group.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};
use sha2::{Digest, Sha256};

use crate::limits::ERROR_CHARS_MAX;

/// A number after one of these words says what kind of failure it is, and stays: `HTTP 503`.
const KEPT: &str =
    r"(?:http(?:/[\d.]+)?|status|code|errno|sqlstate)(?:\s+(?:code|status))?[\s:=]+\d[0-9a-z]{0,4}\b";

static VARYING: LazyLock<Regex> = LazyLock::new(|| {
    let quoted = r#""(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*'(?:\B|$)|`[^`]*`|“[^”]*”|«[^»]*»"#;
    let url = r"[a-z][a-z0-9+.-]*://[^\s<>\x22']+";
    let email = r"[\w.+-]+@[\w-]+(?:\.[\w-]+)+";
    let uuid = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}";
    let time = r"\d{4}-\d\d-\d\d(?:[t ]\d\d:\d\d(?::\d\d(?:[.,]\d+)?)?(?:z|[+-]\d\d:?\d\d)?)?|\d\d:\d\d:\d\d(?:[.,]\d+)?";
    let ipv4 = r"\b\d{1,3}(?:\.\d{1,3}){3}(?::\d+)?\b";
    let ipv6 = r"\[?(?:[0-9a-f]{0,4}:){3,7}[0-9a-f]{0,4}\]?(?::\d+)?";
    let hex = r"\b0x[0-9a-f]+\b|\b(?:[0-9a-f]*\d[0-9a-f]*){8,}\b";
    let id = r"\b[\w-]*\d[\w-]*\b";
    let all = format!(
        r"(?i)(?P<kept>\b{KEPT})|(?P<text>{quoted})|(?P<url>{url})|(?P<email>{email})|(?P<uuid>\b{uuid}\b)|(?P<time>\b(?:{time}))|(?P<ip>{ipv4}|{ipv6})|(?P<hex>{hex})|(?P<number>[-+]?\b\d+(?:[.,]\d+)*(?:e[-+]?\d+)?(?:ms|s|%|[kmgt]i?b)?\b)|(?P<id>{id})"
    );
    // A constant of this file, and every test here uses it.
    Regex::new(&all).unwrap_or_else(|error| unreachable!("a good pattern: {error}"))
});

/// An error text without what differs from message to message, and no longer than groups go by.
pub fn normalised(error: &str) -> String {
    let end = error.char_indices().nth(ERROR_CHARS_MAX).map_or(error.len(), |(at, _)| at);
    let plain = VARYING.replace_all(&error[..end], |found: &Captures<'_>| -> Cow<'static, str> {
        let is = |name: &str| found.name(name).is_some();
        Cow::Borrowed(match () {
            () if is("kept") => return Cow::Owned(found[0].to_owned()),
            () if is("text") => "<text>",
            () if is("url") => "<url>",
            () if is("email") || is("ip") => "<address>",
            () if is("time") => "<time>",
            () if is("hex") => "<hex>",
            () if is("number") => "<number>",
            () => "<id>",
        })
    });
    plain.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// The name of a group: the same for the same cause and normalised error, in every queue and after every restart.
pub fn group(cause: &str, normalised: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(cause.as_bytes());
    hash.update([0]);
    hash.update(normalised.as_bytes());
    hash.finalize()[..6].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(error: &str, expected: &str) {
        assert_eq!(normalised(error), expected, "{error}");
    }

    #[test]
    fn what_differs_from_message_to_message_is_replaced() {
        check("order 4711 is unknown", "order <number> is unknown");
        check("took 1500ms, 3.5 MB", "took <number>, <number> MB");
        check("no customer 'Müller'", "no customer <text>");
        check(r#"unexpected "x\"y" at line 7"#, "unexpected <text> at line <number>");
        check("can't parse it, don't retry", "can't parse it, don't retry");
        check("id 018bcfe6-2493-7000-8000-00000000d2a4 twice", "id <id> twice");
        check("at 0xdeadbeef and 5f2c9a17b3e04d11", "at <hex> and <hex>");
        check("connect to 10.0.0.7:5432 refused", "connect to <address> refused");
        check("connect to [fe80::1:2:3]:80 refused", "connect to <address> refused");
        check("mail to joe@example.com bounced", "mail to <address> bounced");
        check("GET https://api.example.com/v1/x?y=1 failed", "GET <url> failed");
        check("due 2026-11-27T18:00:00.123Z or 18:00:01", "due <time> or <time>");
        check("plane N14228 and order-77", "plane <id> and <id>");
        check("  two\n  lines ", "two lines");
        check("", "");
    }

    #[test]
    fn what_names_the_kind_of_failure_stays() {
        check("answered HTTP 503 after 30s", "answered HTTP 503 after <number>");
        check("status code: 404", "status code: 404");
        check("SQLSTATE 40P01 in 12", "SQLSTATE 40P01 in <number>");
    }

    #[test]
    fn texts_of_one_failure_have_one_group_and_of_another_cause_another() {
        let group_of = |cause, error| group(cause, &normalised(error));
        let first = group_of("rejected", "card 4711 of 'Ann' declined");
        assert_eq!(first, group_of("rejected", "card 4712 of 'Bob' declined"));
        assert_ne!(first, group_of("rejected", "card 4711 of 'Ann' expired"));
        assert_ne!(first, group_of("max_attempts", "card 4711 of 'Ann' declined"));
        assert_eq!(first.len(), 12);
        assert_eq!(group("rejected", ""), "6f25178fad6c", "it is kept in people's notes: it does not change");
    }

    #[test]
    fn an_error_is_looked_at_up_to_its_bound_and_no_further() {
        let text = |chars: usize| "é".repeat(chars);
        assert_eq!(normalised(&text(ERROR_CHARS_MAX)), text(ERROR_CHARS_MAX));
        assert_eq!(normalised(&text(ERROR_CHARS_MAX + 1)), text(ERROR_CHARS_MAX));
    }
}
