//! How is an upstream declared: the HTTP service that serves an operation's calls?

use std::{collections::BTreeMap, sync::LazyLock};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Deserializer, Serialize};
use waystation_broker::spec::{
    self, RetryPolicy,
    retry::{Failed, Verdict},
};
use waystation_outbound::{
    Guard, Hidden, Invalid, backoff::PAUSE_MS_MAX, breaker::Breaking, check_range, class::Classes, rate::Rate,
};

use crate::limits::{
    RESULT_BYTES_MAX, UPSTREAM_CONCURRENCY_MAX, UPSTREAM_HEADER_BYTES_MAX, UPSTREAM_HEADERS_MAX,
    UPSTREAM_STATUSES_MAX, UPSTREAM_TIMEOUT_MS_MAX,
};

/// The method of the requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "UPPERCASE")]
pub enum UpstreamMethod {
    /// `POST`.
    #[default]
    Post,
    /// `PUT`.
    Put,
    /// `PATCH`.
    Patch,
    /// `DELETE`.
    Delete,
    /// `GET`; the body goes along, if there is one.
    Get,
}

impl UpstreamMethod {
    /// As HTTP has it.
    pub fn method(self) -> Method {
        match self {
            UpstreamMethod::Post => Method::POST,
            UpstreamMethod::Put => Method::PUT,
            UpstreamMethod::Patch => Method::PATCH,
            UpstreamMethod::Delete => Method::DELETE,
            UpstreamMethod::Get => Method::GET,
        }
    }
}

/// Statuses of answers: one, like `503`, or a class, like `"5xx"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(untagged)]
pub enum Statuses {
    /// One status, 400 to 599.
    One(u16),
    /// `"4xx"` or `"5xx"`.
    Class(String),
}

impl Statuses {
    fn is_good(&self) -> bool {
        match self {
            Statuses::One(status) => (400..=599).contains(status),
            Statuses::Class(class) => class == "4xx" || class == "5xx",
        }
    }

    /// Whether a status is meant.
    pub fn contains(&self, status: u16) -> bool {
        match self {
            Statuses::One(one) => *one == status,
            Statuses::Class(class) => class.as_bytes().first() == Some(&(b'0' + (status / 100 % 10) as u8)),
        }
    }
}

/// What an upstream's retry policy is where it says nothing: how often is the operation's `max_attempts`.
static SILENT: LazyLock<RetryPolicy> =
    LazyLock::new(|| RetryPolicy { first_ms: 1_000, most_ms: 60_000, ..RetryPolicy::default() });

/// Answers that are tried again, unless an upstream says otherwise.
const RETRIED: [u16; 7] = [408, 425, 429, 500, 502, 503, 504];

/// A policy as an upstream declares it.
fn read_retry<'de, D: Deserializer<'de>>(from: D) -> Result<RetryPolicy, D::Error> {
    let given = serde_json::Map::deserialize(from)?;
    RetryPolicy::over(&SILENT, given).map_err(serde::de::Error::custom)
}

/// An attempt that failed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attempted<'a> {
    /// Its number; 1 is the first.
    pub attempt: u32,
    /// Milliseconds since the call began.
    pub age_ms: u64,
    /// What went wrong.
    pub classes: &'a Classes,
    /// The upstream's `Retry-After`.
    pub retry_after_ms: Option<u64>,
    /// Any number.
    pub chance: u64,
}

/// An HTTP service that serves an operation's calls: each becomes a request to `url`, and its answer the result. An unknown
/// field is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct Upstream {
    /// Where requests go: an absolute `http` or `https` URL.
    pub url: String,
    /// Their method.
    pub method: UpstreamMethod,
    /// Headers of one's own, such as `authorization`; written, never shown. Left out in a change: they stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>, write_only))]
    pub headers: Option<BTreeMap<String, Hidden>>,
    /// Milliseconds that one request may take, its answer included.
    pub timeout_ms: u64,
    /// Requests at a time.
    pub concurrency: u32,
    /// Requests in a time; none: as many as there are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<Rate>,
    /// Answers that are tried again: statuses like `503`, classes like `"5xx"`; all others are the call's result.
    pub retry_on: Vec<Statuses>,
    /// Whether a request is sent again that got no whole answer (time-out, broken connection), though it may have had its
    /// effect. A request that could not be sent is tried again in any case.
    pub retry_unanswered: bool,
    /// When they are tried again; how often, besides, is the operation's `max_attempts`. What is not said: exponential from a second
    /// to a minute. Classes are `http_503` and so on, `http_5xx`, `http_4xx`, `http_later` (408, 425, 429), `timeout`, `connection`,
    /// `refused`, `unanswered`; one that is given up makes the answer the call's result at once.
    #[serde(deserialize_with = "read_retry")]
    pub retry: RetryPolicy,
    /// Milliseconds up to which the upstream's `Retry-After` is honoured where it is longer than the policy's pause.
    pub retry_after_ms_max: u64,
    /// When the upstream is left alone.
    pub breaker: Breaking,
    /// Bytes of an answer's body; a larger one fails its call.
    pub response_bytes_max: u64,
    /// Headers of answers that the result keeps, besides those that describe its content; `*`: all that a result can keep.
    pub response_headers: Vec<String>,
    /// Sends nothing; calls wait in their queue.
    pub paused: bool,
}

impl Default for Upstream {
    fn default() -> Upstream {
        Upstream {
            url: String::new(),
            method: UpstreamMethod::default(),
            headers: None,
            timeout_ms: 60_000,
            concurrency: 16,
            rate: None,
            retry_on: RETRIED.map(Statuses::One).to_vec(),
            retry_unanswered: true,
            retry: SILENT.clone(),
            retry_after_ms_max: 60 * 60 * 1000,
            breaker: Breaking::default(),
            response_bytes_max: 1 << 20,
            response_headers: Vec::new(),
            paused: false,
        }
    }
}

fn invalid(field: &'static str, reason: impl ToString) -> Invalid {
    Invalid { field, reason: reason.to_string() }
}

/// Headers that the request gets from elsewhere: from us, from HTTP itself, or from the connection (RFC 9110 §7.6.1).
pub(super) fn is_ours(name: &str) -> bool {
    const OURS: [&str; 16] = [
        "connection",
        "content-length",
        "expect",
        "host",
        "idempotency-key",
        "keep-alive",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "ws-attempt",
        "ws-call-deadline",
        "ws-operation",
    ];
    OURS.contains(&name)
}

impl Upstream {
    /// Checks each field against its limits; where the URL leads is for the guard to check.
    pub fn check(&self) -> Result<(), Invalid> {
        check_range("timeout_ms", self.timeout_ms, 10, UPSTREAM_TIMEOUT_MS_MAX)?;
        check_range("concurrency", self.concurrency.into(), 1, UPSTREAM_CONCURRENCY_MAX.into())?;
        check_range("response_bytes_max", self.response_bytes_max, 0, RESULT_BYTES_MAX as u64)?;
        let (own, kept) = (self.headers.iter().flatten().count(), self.response_headers.len());
        check_range("headers", own as u64, 0, UPSTREAM_HEADERS_MAX as u64)?;
        check_range("response_headers", kept as u64, 0, UPSTREAM_HEADERS_MAX as u64)?;
        for name in self.response_headers.iter().filter(|name| *name != "*") {
            HeaderName::try_from(name)
                .map_err(|_| invalid("response_headers", format!("'{name}' is no header's name")))?;
        }
        self.rate.as_ref().map_or(Ok(()), Rate::check)?;
        check_range("retry_on", self.retry_on.len() as u64, 0, UPSTREAM_STATUSES_MAX as u64)?;
        if !self.retry_on.iter().all(Statuses::is_good) {
            return Err(invalid("retry_on", "takes statuses from 400 to 599, \"4xx\" and \"5xx\""));
        }
        self.retry.check().map_err(|spec::Error { field, reason }| Invalid { field, reason })?;
        check_range("retry_after_ms_max", self.retry_after_ms_max, 0, PAUSE_MS_MAX)?;
        self.breaker.check()?;
        self.header_map().map(|_| ())
    }

    /// Whether an answer is tried again.
    pub fn is_retried(&self, status: u16) -> bool {
        self.retry_on.iter().any(|statuses| statuses.contains(status))
    }

    /// Milliseconds to wait for the next attempt; none if the policy allows none.
    pub(super) fn pause_ms(&self, failed: &Attempted<'_>) -> Option<u64> {
        let class = Some(failed.classes.known(|class| self.retry.classes.contains_key(class)));
        let Attempted { attempt, age_ms, chance, .. } = *failed;
        let asked_ms = failed.retry_after_ms.unwrap_or(0).min(self.retry_after_ms_max);
        let judge = |delay_ms| match self.retry.judge(&Failed { attempt, age_ms, class, delay_ms, chance }) {
            Verdict::Again { pause_ms } => Some(pause_ms),
            Verdict::GivenUp(_) => None,
        };
        judge(None)
            .and_then(|pause_ms| if pause_ms >= asked_ms { Some(pause_ms) } else { judge(Some(asked_ms)) })
    }

    /// Checks where it leads, as far as that can be told before it is asked.
    pub async fn check_target(&self, guard: &Guard) -> Result<(), Invalid> {
        let url = guard.target(&self.url).map_err(|refusal| invalid("url", refusal))?;
        if let Some(host) = url.domain()
            && let Err(refusal @ waystation_outbound::guard::Refusal::Address { .. }) =
                guard.resolve(host).await
        {
            // A name that cannot be resolved now may be there when it is needed.
            return Err(invalid("url", refusal));
        }
        Ok(())
    }

    /// Reads the headers of one's own.
    pub fn header_map(&self) -> Result<HeaderMap, Invalid> {
        let mut map = HeaderMap::new();
        for (name, value) in self.headers.iter().flatten() {
            let wrong = |reason: &str| invalid("headers", format!("'{name}' {reason}"));
            let name = HeaderName::try_from(name).map_err(|_| wrong("is no header's name"))?;
            if is_ours(name.as_str()) {
                return Err(wrong("is set by Waystation itself"));
            }
            if value.0.len() > UPSTREAM_HEADER_BYTES_MAX {
                return Err(wrong(&format!("may have {UPSTREAM_HEADER_BYTES_MAX} bytes")));
            }
            let mut value =
                HeaderValue::from_str(&value.0).map_err(|_| wrong("has a value that no header can have"))?;
            value.set_sensitive(true);
            map.insert(name, value);
        }
        Ok(map)
    }

    /// Takes over the headers of an earlier declaration, if none are given. To another server they do not go unasked.
    pub fn inherit(&mut self, old: &Upstream) -> Result<(), Invalid> {
        if self.headers.is_some() || old.headers.is_none() {
            return Ok(());
        }
        let origin = |url: &str| url::Url::parse(url).ok().map(|url| url.origin());
        if origin(&self.url) != origin(&old.url) {
            let why = "the URL leads to another server: say anew which headers it gets ({} for none)";
            return Err(invalid("headers", why));
        }
        self.headers = old.headers.clone();
        Ok(())
    }

    /// As it may be shown: without its own headers.
    pub fn shown(&self) -> Upstream {
        Upstream { headers: None, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl Fn(&mut Upstream), field: Option<&str>) {
        let mut upstream = Upstream { url: "https://a.example/".into(), ..Upstream::default() };
        change(&mut upstream);
        assert_eq!(upstream.check().err().map(|error| error.field), field, "{upstream:?}");
    }

    #[test]
    fn each_field_is_checked_at_its_bound_and_past_it() {
        let header = |name: &str, value: String| Some(BTreeMap::from([(name.to_owned(), Hidden(value))]));
        let many = |n: usize| Some((0..n).map(|n| (format!("x-{n}"), Hidden("x".into()))).collect());
        check(|_| (), None);
        check(|it| it.timeout_ms = 9, Some("timeout_ms"));
        check(|it| it.timeout_ms = UPSTREAM_TIMEOUT_MS_MAX, None);
        check(|it| it.timeout_ms = UPSTREAM_TIMEOUT_MS_MAX + 1, Some("timeout_ms"));
        check(|it| it.concurrency = 0, Some("concurrency"));
        check(|it| it.concurrency = UPSTREAM_CONCURRENCY_MAX, None);
        check(|it| it.concurrency = UPSTREAM_CONCURRENCY_MAX + 1, Some("concurrency"));
        check(|it| it.response_bytes_max = RESULT_BYTES_MAX as u64, None);
        check(|it| it.response_bytes_max = RESULT_BYTES_MAX as u64 + 1, Some("response_bytes_max"));
        check(|it| it.headers = header("authorization", "Bearer x".into()), None);
        check(|it| it.headers = header("x", "y".repeat(UPSTREAM_HEADER_BYTES_MAX)), None);
        check(|it| it.headers = header("x", "y".repeat(UPSTREAM_HEADER_BYTES_MAX + 1)), Some("headers"));
        check(|it| it.headers = header("x", "a\nb".into()), Some("headers"));
        check(|it| it.headers = many(UPSTREAM_HEADERS_MAX), None);
        check(|it| it.headers = many(UPSTREAM_HEADERS_MAX + 1), Some("headers"));
        for ours in ["Host", "idempotency-key", "content-length", "ws-attempt", "a b"] {
            check(|it| it.headers = header(ours, "x".into()), Some("headers"));
        }
        check(|it| it.response_headers = vec!["*".into(), "location".into()], None);
        check(|it| it.response_headers = vec!["a b".into()], Some("response_headers"));
        check(
            |it| it.response_headers = vec!["x".into(); UPSTREAM_HEADERS_MAX + 1],
            Some("response_headers"),
        );
        check(|it| it.retry_on = vec![Statuses::One(599); UPSTREAM_STATUSES_MAX], None);
        check(|it| it.retry_on = vec![Statuses::One(599); UPSTREAM_STATUSES_MAX + 1], Some("retry_on"));
        for wrong in [
            Statuses::One(399),
            Statuses::One(600),
            Statuses::Class("2xx".into()),
            Statuses::Class("x".into()),
        ] {
            check(|it| it.retry_on = vec![wrong.clone()], Some("retry_on"));
        }
        check(|it| it.retry.first_ms = it.retry.most_ms + 1, Some("retry.first_ms"));
        check(|it| it.retry_after_ms_max = PAUSE_MS_MAX, None);
        check(|it| it.retry_after_ms_max = PAUSE_MS_MAX + 1, Some("retry_after_ms_max"));
        check(|it| it.rate = Some(Rate { requests: 0, ..Rate::default() }), Some("rate.requests"));
        check(|it| it.breaker.failures = 0, Some("breaker.failures"));
    }

    #[test]
    fn what_is_tried_again_is_declared_by_status_or_class() {
        let upstream = Upstream::default();
        for (status, again) in
            [(408, true), (429, true), (500, true), (503, true), (404, false), (501, false), (303, false)]
        {
            assert_eq!(upstream.is_retried(status), again, "{status}");
        }
        let upstream: Upstream = serde_json::from_str(r#"{"retry_on": ["5xx", 409]}"#).expect("read");
        for (status, again) in [(409, true), (408, false), (501, true), (599, true), (200, false)] {
            assert_eq!(upstream.is_retried(status), again, "{status}");
        }
    }

    #[test]
    fn when_it_is_tried_again_is_the_policys_word_for_the_class_of_the_failure() {
        let upstream: Upstream = serde_json::from_str(
            r#"{"retry_after_ms_max": 9000, "retry": {"backoff": "constant", "first_ms": 100, "jitter_percent": 0, "age_ms_max": 20000,
                "classes": {"http_5xx": {"attempts_max": 2}, "timeout": {"give_up": true}, "unanswered": {"first_ms": 7}}}}"#,
        )
        .expect("read");
        assert_eq!((upstream.check(), upstream.retry.most_ms), (Ok(()), 60_000));
        let check = |classes: Classes, attempt, age_ms, retry_after_ms, expected| {
            let failed = Attempted { attempt, age_ms, classes: &classes, retry_after_ms, chance: 0 };
            assert_eq!(upstream.pause_ms(&failed), expected, "{failed:?}");
        };
        check(Classes::of_status(429), 9, 0, None, Some(100));
        check(Classes::of_status(429), 9, 0, Some(50), Some(100));
        check(Classes::of_status(429), 9, 0, Some(60_000), Some(9_000));
        check(Classes::of_status(429), 9, 19_900, None, None);
        check(Classes::of_status(429), 9, 11_000, Some(60_000), None);
        check(Classes::of_status(503), 1, 0, None, Some(100));
        check(Classes::of_status(503), 2, 0, None, None);
        check(Classes::unanswered("connection"), 1, 0, None, Some(7));
        check(Classes::unanswered("timeout"), 1, 0, None, None);
    }

    #[test]
    fn headers_of_ones_own_stay_hidden_and_with_their_server() {
        let headers = Some(BTreeMap::from([("authorization".to_owned(), Hidden("Bearer hunter2".into()))]));
        let old = Upstream { url: "https://a.example/x".into(), headers, ..Upstream::default() };
        for text in [format!("{old:?}"), serde_json::to_string(&old.shown()).expect("JSON")] {
            assert!(!text.contains("hunter2"), "{text}");
        }
        let inherit = |url: &str, headers| {
            let mut new = Upstream { url: url.into(), headers, ..Upstream::default() };
            new.inherit(&old).map(|()| new.headers)
        };
        assert_eq!(inherit("https://a.example/y", None), Ok(old.headers.clone()));
        assert_eq!(inherit("https://b.example/x", Some(BTreeMap::new())), Ok(Some(BTreeMap::new())));
        for elsewhere in ["https://b.example/x", "http://a.example/x", "https://a.example:8443/x"] {
            assert_eq!(inherit(elsewhere, None).map_err(|error| error.field), Err("headers"), "{elsewhere}");
        }
    }
}
