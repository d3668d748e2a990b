//! How long does a client want to wait? `Prefer: respond-async` and `Prefer: wait=n` (RFC 7240 §4.1, §4.3).

use axum::http::HeaderMap;
use waystation_calls::limits::WAIT_MS_MAX;

/// What a client prefers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Prefer {
    /// Rather a `202` than an answer that takes its time.
    pub respond_async: bool,
    /// Seconds to wait for the result; at most what the server allows.
    pub wait_s: Option<u64>,
}

/// Reads all `Prefer` fields. What cannot be understood is no error: a preference may be ignored (§2).
pub(super) fn read(headers: &HeaderMap) -> Prefer {
    let mut prefer = Prefer::default();
    let fields = headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
    for preference in fields.flat_map(|field| field.split(',')) {
        // Parameters after a semicolon belong to no preference that is known here.
        let preference = preference.split(';').next().unwrap_or_default();
        let (name, value) = preference.split_once('=').unwrap_or((preference, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "respond-async" => prefer.respond_async = true,
            // Of several the first counts (§2).
            "wait" if prefer.wait_s.is_none() => {
                let seconds = value.trim().trim_matches('"').parse::<u64>().ok();
                prefer.wait_s = seconds.map(|seconds| seconds.min(WAIT_MS_MAX / 1000));
            }
            _ => {}
        }
    }
    prefer
}

impl Prefer {
    /// Milliseconds to wait, if the operation says so many by itself.
    pub fn wait_ms(self, default_ms: u64) -> u64 {
        match (self.wait_s, self.respond_async) {
            (Some(seconds), _) => seconds * 1000,
            (None, true) => 0,
            (None, false) => default_ms,
        }
    }

    /// What `Preference-Applied` says (§3): of an answer that has the result, the wait; else both.
    pub fn applied(self, has_result: bool) -> Option<String> {
        let wait = self.wait_s.map(|seconds| format!("wait={seconds}"));
        let respond_async = (self.respond_async && !has_result).then(|| "respond-async".to_owned());
        let parts: Vec<String> = respond_async.into_iter().chain(wait).collect();
        (!parts.is_empty()).then(|| parts.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn check(fields: &[&'static str], respond_async: bool, wait_s: Option<u64>) {
        let fields = fields.iter().map(|field| ("prefer", HeaderValue::from_static(field)));
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(name, value);
        }
        assert_eq!(read(&headers), Prefer { respond_async, wait_s }, "{headers:?}");
    }

    #[test]
    fn preferences_are_read_as_rfc_7240_writes_them() {
        check(&[], false, None);
        check(&["respond-async"], true, None);
        check(&["Respond-Async, wait=10"], true, Some(10));
        check(&["wait=10", "respond-async"], true, Some(10));
        check(&["wait=\"5\"; foo=bar, wait=9"], false, Some(5));
        check(&["wait = 7"], false, Some(7));
        check(&["handling=lenient, wait=soon"], false, None);
        check(&["wait=60"], false, Some(WAIT_MS_MAX / 1000));
        check(&["wait=61"], false, Some(WAIT_MS_MAX / 1000));
    }

    #[test]
    fn what_was_applied_is_said_and_what_was_not_is_not() {
        let both = Prefer { respond_async: true, wait_s: Some(3) };
        assert_eq!(both.applied(true).as_deref(), Some("wait=3"));
        assert_eq!(both.applied(false).as_deref(), Some("respond-async, wait=3"));
        assert_eq!(Prefer::default().applied(false), None);
        assert_eq!((both.wait_ms(9), Prefer::default().wait_ms(9)), (3000, 9));
        assert_eq!(Prefer { respond_async: true, wait_s: None }.wait_ms(9), 0);
    }
}
