//! Does a request to a server without tokens come from this machine's own programs, or from a web page in a browser here?
//!
//! A page can make the browser call any address (CSRF), and can make its own name resolve to loopback (DNS rebinding). The
//! browser tells: `Host` is then not a name of this machine, or `Origin` and `Sec-Fetch-Site` speak of a foreign page.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::{HeaderMap, header};

use crate::failure::{Failure, Kind};

/// Refuses what a foreign web page may have caused.
pub(crate) fn check(headers: &HeaderMap) -> Result<(), Failure> {
    let refused = |detail: &str| Err(Failure::new(Kind::ForeignOrigin, detail));
    // HTTP/1.0 programs send no Host; browsers always do.
    let host = headers.get(header::HOST).map(|value| value.to_str().unwrap_or_default());
    if host.is_some_and(|host| !is_loopback(host)) {
        return refused(
            "Host must be localhost or a loopback address on a server without tokens; use a token to come by another name",
        );
    }
    if let Some(origin) = headers.get(header::ORIGIN) {
        let origin = origin.to_str().unwrap_or_default();
        let place = origin.split_once("://").map(|(_, place)| place);
        if place.is_none() || place != host {
            return refused("Origin must be this server itself; use a token to call from another web page");
        }
    }
    match headers.get("sec-fetch-site").map(|value| value.as_bytes()) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => refused("the browser says that another web page caused this request"),
    }
}

/// Whether `host[:port]` names this machine.
fn is_loopback(host: &str) -> bool {
    if let Some(rest) = host.strip_prefix('[') {
        let address = rest.split_once(']').and_then(|(address, _)| address.parse::<Ipv6Addr>().ok());
        return address.is_some_and(|address| address.to_canonical().is_loopback());
    }
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_address = name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_address || name.eq_ignore_ascii_case("localhost")
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn allowed(pairs: &[(&'static str, &'static str)]) -> bool {
        let pair = |(name, value): &(&'static str, &'static str)| {
            (HeaderName::from_static(name), HeaderValue::from_static(value))
        };
        check(&pairs.iter().map(pair).collect()).is_ok()
    }

    #[test]
    fn programs_of_this_machine_get_in() {
        assert!(allowed(&[]));
        assert!(allowed(&[("host", "localhost:8080")]));
        assert!(allowed(&[("host", "127.0.0.1:8080")]));
        assert!(allowed(&[("host", "[::1]:8080")]));
        assert!(allowed(&[("host", "LOCALHOST")]));
        assert!(allowed(&[("host", "localhost:8080"), ("sec-fetch-site", "none")]));
        assert!(allowed(&[("host", "localhost:8080"), ("origin", "http://localhost:8080")]));
    }

    #[test]
    fn foreign_web_pages_do_not() {
        assert!(!allowed(&[("host", "evil.example:8080")]));
        assert!(!allowed(&[("host", "127.0.0.1.evil.example")]));
        assert!(!allowed(&[("host", "localhost.evil.example")]));
        assert!(!allowed(&[("host", "[::2]:8080")]));
        assert!(!allowed(&[("host", "")]));
        assert!(!allowed(&[("host", "localhost:8080"), ("origin", "https://evil.example")]));
        assert!(!allowed(&[("host", "localhost:8080"), ("origin", "http://localhost:3000")]));
        assert!(!allowed(&[("host", "localhost:8080"), ("origin", "null")]));
        assert!(!allowed(&[("host", "localhost:8080"), ("sec-fetch-site", "cross-site")]));
        assert!(!allowed(&[("host", "localhost:8080"), ("sec-fetch-site", "same-site")]));
    }
}
