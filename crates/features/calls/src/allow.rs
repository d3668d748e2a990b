//! Which addresses may a callback go to? Patterns of URLs, matched part by part and never as one text.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use url::{Host, Url};

use crate::limits::CALLBACK_URL_BYTES_MAX;

/// A pattern of URLs: `https://hooks.example.com/orders/*`, `https://*.example.com/*`, `http://127.0.0.1:9000/*`.
///
/// Scheme and port are equal; a host that begins with `*.` stands for every name below that domain; a path that ends in `*`
/// for everything that begins so. Everything else stands for itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern {
    text: String,
    scheme: String,
    /// Without a leading `*.`.
    host: String,
    is_below: bool,
    port: u16,
    /// Without a trailing `*`.
    path: String,
    is_open: bool,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is no pattern of addresses: {reason}; write it like https://*.example.com/hooks/*")]
pub struct PatternError {
    text: String,
    reason: &'static str,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Pattern, PatternError> {
        let wrong = |reason| PatternError { text: text.chars().take(100).collect(), reason };
        if text.len() > CALLBACK_URL_BYTES_MAX {
            return Err(wrong("it is too long"));
        }
        let (scheme, rest) = text.split_once("://").ok_or_else(|| wrong("it has no scheme"))?;
        let is_below = rest.starts_with("*.");
        let plain = format!("{scheme}://{}", rest.strip_prefix("*.").unwrap_or(rest));
        let url = Url::parse(&plain).map_err(|_| wrong("it is no URL"))?;
        check_parts(&url).map_err(wrong)?;
        let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
            return Err(wrong("it has no host"));
        };
        if is_below && !matches!(url.host(), Some(Host::Domain(_))) {
            return Err(wrong("only a domain has names below it"));
        }
        let path = url.path().strip_suffix('*').unwrap_or(url.path()).to_owned();
        if host.contains('*') || path.contains('*') {
            return Err(wrong("a '*' stands at the beginning of the host or at the end of the path"));
        }
        let is_open = url.path().ends_with('*');
        let (scheme, host) = (url.scheme().to_owned(), host.to_owned());
        Ok(Pattern { text: text.to_owned(), scheme, host, is_below, port, path, is_open })
    }
}

fn check_parts(url: &Url) -> Result<(), &'static str> {
    if !matches!(url.scheme(), "http" | "https") {
        return Err("the scheme must be http or https");
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err("it may not hold a user or password");
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("it may not hold a query or fragment");
    }
    Ok(())
}

impl Pattern {
    /// Whether it stands for this address.
    fn covers(&self, url: &Url) -> bool {
        let Some(host) = url.host_str() else { return false };
        let host_fits = if self.is_below {
            host.strip_suffix(self.host.as_str()).is_some_and(|rest| rest.len() > 1 && rest.ends_with('.'))
        } else {
            host == self.host
        };
        let path_fits =
            if self.is_open { url.path().starts_with(&self.path) } else { url.path() == self.path };
        host_fits
            && path_fits
            && url.scheme() == self.scheme
            && url.port_or_known_default() == Some(self.port)
    }
}

/// Checks a callback's address against the patterns; gives it in normal form.
pub(crate) fn check(text: &str, patterns: &[Pattern]) -> Result<String, String> {
    if text.len() > CALLBACK_URL_BYTES_MAX {
        return Err(format!("an address may have {CALLBACK_URL_BYTES_MAX} bytes"));
    }
    let url = Url::parse(text).map_err(|error| format!("the address is no URL: {error}"))?;
    if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
        return Err("the address may not hold a user, password or fragment".into());
    }
    if patterns.iter().any(|pattern| pattern.covers(&url)) {
        return Ok(url.into());
    }
    Err(match patterns.is_empty() {
        true => "the operation allows none; its field callback_allow lists patterns of addresses".into(),
        false => "the address matches none of the operation's patterns (callback_allow)".into(),
    })
}

impl TryFrom<String> for Pattern {
    type Error = PatternError;

    fn try_from(text: String) -> Result<Pattern, PatternError> {
        text.parse()
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> String {
        pattern.text
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn covers(pattern: &str, url: &str, expected: bool) {
        let patterns = [pattern.parse::<Pattern>().expect("a pattern")];
        assert_eq!(check(url, &patterns).is_ok(), expected, "{pattern} {url}");
    }

    #[test]
    fn an_address_is_matched_part_by_part() {
        covers("https://a.example.com/x", "https://a.example.com/x", true);
        covers("https://a.example.com/x", "https://A.EXAMPLE.com:443/x", true);
        covers("https://a.example.com/x", "http://a.example.com/x", false);
        covers("https://a.example.com/x", "https://a.example.com:8443/x", false);
        covers("https://a.example.com/x", "https://a.example.com/x/y", false);
        covers("https://a.example.com/x/*", "https://a.example.com/x/y?z=1", true);
        covers("https://a.example.com/x/*", "https://a.example.com/x/../y", false);
        covers("https://*.example.com/*", "https://a.b.example.com/", true);
        covers("https://*.example.com/*", "https://example.com/", false);
        covers("https://*.example.com/*", "https://evilexample.com/", false);
        covers("https://*.example.com/*", "https://evil.com/.example.com/", false);
        covers("https://a.example.com/*", "https://a.example.com@evil.com/", false);
        covers("https://a.example.com/*", "https://u:p@a.example.com/", false);
        covers("http://127.0.0.1:9000/*", "http://127.0.0.1:9000/hook", true);
        covers("http://127.0.0.1:9000/*", "http://[::ffff:127.0.0.1]:9000/hook", false);
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for (text, part) in [
            ("example.com", "scheme"),
            ("ftp://example.com/*", "http"),
            ("https://*/x", "'*'"),
            ("https://a*.example.com/", "'*'"),
            ("https://a.example.com/*/b", "'*'"),
            ("https://u@a.example.com/", "user"),
            ("https://a.example.com/?q", "query"),
            ("https://*.127.0.0.1/", "domain"),
        ] {
            let error = text.parse::<Pattern>().expect_err(text).to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let long = |bytes: usize| format!("https://a.example.com/{}", "x".repeat(bytes - 22));
        assert!(long(CALLBACK_URL_BYTES_MAX).parse::<Pattern>().is_ok());
        assert!(long(CALLBACK_URL_BYTES_MAX + 1).parse::<Pattern>().is_err());
        assert!(check(&long(CALLBACK_URL_BYTES_MAX + 1), &[]).expect_err("long").contains("bytes"));
    }

    #[test]
    fn without_patterns_nothing_is_allowed() {
        assert!(check("https://a.example.com/", &[]).expect_err("none").contains("callback_allow"));
    }
}
