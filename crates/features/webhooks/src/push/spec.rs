//! How is a push declared?

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::{Name, limits::MESSAGE_BYTES_MAX};
use waystation_broker::{Source, spec::RetryPolicy};
pub use waystation_outbound::Hidden;

use crate::{
    breaker::Breaking,
    retry::{self, Invalid, PAUSE_MS_MAX, RETRY_AFTER_MS, Retry, check_range},
    sign::{SECRETS_MAX, Secret},
};

/// Requests of one push at a time.
pub const CONCURRENCY_MAX: u32 = 256;
/// Events of one batch.
pub const BATCH_MAX: u32 = 1_000;
/// Milliseconds that one request may take.
pub const TIMEOUT_MS_MAX: u64 = 10 * 60 * 1000;
/// Headers of one's own.
pub const HEADERS_MAX: usize = 32;
/// Bytes of one of their values.
pub const HEADER_BYTES_MAX: usize = 8 << 10;
/// Bytes of a request's body that may be allowed: a message in base 64 with its attributes.
pub const BODY_BYTES_MAX: usize = 2 * MESSAGE_BYTES_MAX;

/// What a request carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// A CloudEvent whose attributes are headers (`ce-…`); the body is the message's.
    #[default]
    Binary,
    /// A CloudEvent in JSON (`application/cloudevents+json`).
    Structured,
    /// Several of them (`application/cloudevents-batch+json`).
    Batch,
    /// The message's body with its content type, and nothing else of it.
    Raw,
}

/// A push: exactly one of `queue` and `subscription`, and `url`. An unknown field is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PushSpec {
    /// The queue that is delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<String>,
    /// The subscription that is delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<String>,
    /// The endpoint.
    pub url: String,
    /// What a request carries.
    pub format: Format,
    /// One request at a time, and the next message only when this one has arrived or was given up.
    pub ordered: bool,
    /// Requests at a time; of no meaning with `ordered`.
    pub concurrency: u32,
    /// Most events of one request, with the format `batch`.
    pub batch_max: u32,
    /// Milliseconds that one request may take, its answer included.
    pub timeout_ms: u64,
    /// Bytes of a request's body; a message that is larger is given up.
    pub body_bytes_max: usize,
    /// How failed deliveries are tried again. What is not said: exponential from 5 seconds to an hour, 16 attempts. Classes are
    /// `http_503` and so on, `http_5xx`, `http_4xx`, `http_3xx`, `http_later` (408, 425, 429), `timeout`, `connection`, `refused`, `unanswered`.
    #[serde(deserialize_with = "retry::read")]
    pub retry: RetryPolicy,
    /// Milliseconds up to which the receiver's `Retry-After` is honoured where it is longer than the policy's pause.
    pub retry_after_ms_max: u64,
    /// When the endpoint is left alone.
    pub breaker: Breaking,
    /// The queue or topic for messages that are given up; none: that of the queue or subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<String>,
    /// `whsec_…` and `whsk_…`, each of which signs; written, never shown. Left out in a change: they stay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>, write_only)]
    pub secrets: Vec<Hidden>,
    /// Headers of one's own, such as `authorization`; written, never shown. Left out in a change: they stay.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, write_only)]
    pub headers: Option<BTreeMap<String, Hidden>>,
}

impl Default for PushSpec {
    fn default() -> PushSpec {
        PushSpec {
            queue: None,
            subscription: None,
            url: String::new(),
            format: Format::default(),
            ordered: false,
            concurrency: 4,
            batch_max: 100,
            timeout_ms: 15_000,
            body_bytes_max: 1 << 20,
            retry: Retry::default().policy,
            retry_after_ms_max: RETRY_AFTER_MS,
            breaker: Breaking::default(),
            dead_letter: None,
            secrets: Vec::new(),
            headers: None,
        }
    }
}

fn invalid(field: &'static str, reason: impl ToString) -> Invalid {
    Invalid { field, reason: reason.to_string() }
}

fn wrong_secrets() -> Invalid {
    invalid("secrets", format!("give 1 to {SECRETS_MAX}; `waystation webhook secret` makes one"))
}

/// Headers that the sender or HTTP itself sets.
fn is_ours(name: &HeaderName) -> bool {
    let name = name.as_str();
    name.starts_with("webhook-")
        || name.starts_with("ce-")
        || matches!(
            name,
            "host"
                | "content-length"
                | "content-type"
                | "transfer-encoding"
                | "connection"
                | "te"
                | "upgrade"
                | "trailer"
                | "expect"
                | "keep-alive"
                | "proxy-connection"
                | "user-agent"
        )
}

impl PushSpec {
    /// What is delivered.
    pub fn source(&self) -> Result<Source, Invalid> {
        let name = |field, text: &str| Name::new(text).map_err(|error| invalid(field, error));
        match (&self.queue, &self.subscription) {
            (Some(queue), None) => Ok(Source::Queue(name("queue", queue)?)),
            (None, Some(subscription)) => Ok(Source::Subscription(name("subscription", subscription)?)),
            _ => Err(invalid("queue", "give either 'queue' or 'subscription'")),
        }
    }

    /// Where given-up messages go, if that is said.
    pub fn dead_letter(&self) -> Result<Option<Name>, Invalid> {
        let name = |text| Name::new(text).map_err(|error| invalid("dead_letter", error));
        self.dead_letter.as_ref().map(name).transpose()
    }

    /// Requests at a time.
    pub fn requests_max(&self) -> u32 {
        if self.ordered { 1 } else { self.concurrency }
    }

    /// Events of one request.
    pub fn events_max(&self) -> u32 {
        if self.format == Format::Batch { self.batch_max } else { 1 }
    }

    /// Reads the secrets.
    pub fn keys(&self) -> Result<Vec<Secret>, Invalid> {
        let read = |secret: &Hidden| Secret::parse(&secret.0).map_err(|error| invalid("secrets", error));
        self.secrets.iter().map(read).collect()
    }

    /// Reads the headers.
    pub fn header_map(&self) -> Result<HeaderMap, Invalid> {
        let mut map = HeaderMap::new();
        for (name, value) in self.headers.iter().flatten() {
            let wrong = |reason: &str| invalid("headers", format!("'{name}' {reason}"));
            let name = HeaderName::try_from(name).map_err(|_| wrong("is no header's name"))?;
            if is_ours(&name) {
                return Err(wrong("is set by the sender itself"));
            }
            if value.0.len() > HEADER_BYTES_MAX {
                return Err(wrong(&format!("may have {HEADER_BYTES_MAX} bytes")));
            }
            let mut value =
                HeaderValue::from_str(&value.0).map_err(|_| wrong("has a value that no header can have"))?;
            value.set_sensitive(true);
            map.insert(name, value);
        }
        Ok(map)
    }

    /// Checks each field against its limits; the URL is for the guard to check.
    pub fn check(&self) -> Result<(), Invalid> {
        self.check_said()?;
        if self.secrets.is_empty() {
            return Err(wrong_secrets());
        }
        Ok(())
    }

    /// The same for a declaration that may leave out its secrets, since the server has them.
    pub fn check_said(&self) -> Result<(), Invalid> {
        let source = self.source()?;
        if self
            .dead_letter()?
            .is_some_and(|dead_letter| matches!(&source, Source::Queue(queue) if *queue == dead_letter))
        {
            return Err(invalid("dead_letter", "cannot be the queue itself: messages would go round"));
        }
        check_range("concurrency", self.concurrency.into(), 1, CONCURRENCY_MAX.into())?;
        check_range("batch_max", self.batch_max.into(), 1, BATCH_MAX.into())?;
        check_range("timeout_ms", self.timeout_ms, 10, TIMEOUT_MS_MAX)?;
        check_range("body_bytes_max", self.body_bytes_max as u64, 1, BODY_BYTES_MAX as u64)?;
        if self.secrets.len() > SECRETS_MAX {
            return Err(wrong_secrets());
        }
        check_range("headers", self.headers.iter().flatten().count() as u64, 0, HEADERS_MAX as u64)?;
        retry::check(&self.retry)?;
        check_range("retry_after_ms_max", self.retry_after_ms_max, 0, PAUSE_MS_MAX)?;
        self.breaker.check()?;
        self.keys()?;
        self.header_map().map(|_| ())
    }

    /// As it may be shown: without secrets and headers.
    pub fn shown(&self) -> PushSpec {
        PushSpec { secrets: Vec::new(), headers: None, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn good() -> PushSpec {
        PushSpec {
            queue: Some("q".into()),
            url: "https://a.example/".into(),
            secrets: vec![Hidden(crate::sign::new_symmetric().expect("randomness"))],
            ..PushSpec::default()
        }
    }

    fn check(change: impl Fn(&mut PushSpec), field: Option<&str>) {
        let mut spec = good();
        change(&mut spec);
        assert_eq!(spec.check().err().map(|error| error.field), field, "{spec:?}");
    }

    #[test]
    fn each_field_is_checked_at_its_bound_and_past_it() {
        let header = |name: &str, value: String| Some(BTreeMap::from([(name.to_owned(), Hidden(value))]));
        check(|_| (), None);
        check(|it| it.subscription = Some("s".into()), Some("queue"));
        check(|it| it.queue = None, Some("queue"));
        check(|it| it.queue = Some("$audit".into()), Some("queue"));
        check(|it| it.dead_letter = Some("a b".into()), Some("dead_letter"));
        check(|it| it.dead_letter = Some("q".into()), Some("dead_letter"));
        check(|it| it.concurrency = CONCURRENCY_MAX, None);
        check(|it| it.concurrency = CONCURRENCY_MAX + 1, Some("concurrency"));
        check(|it| it.concurrency = 0, Some("concurrency"));
        check(|it| it.batch_max = BATCH_MAX + 1, Some("batch_max"));
        check(|it| it.timeout_ms = TIMEOUT_MS_MAX + 1, Some("timeout_ms"));
        check(|it| it.body_bytes_max = BODY_BYTES_MAX, None);
        check(|it| it.body_bytes_max = BODY_BYTES_MAX + 1, Some("body_bytes_max"));
        check(|it| it.retry_after_ms_max = PAUSE_MS_MAX, None);
        check(|it| it.retry_after_ms_max = PAUSE_MS_MAX + 1, Some("retry_after_ms_max"));
        check(|it| it.retry.first_ms = it.retry.most_ms + 1, Some("retry.first_ms"));
        check(|it| it.secrets.clear(), Some("secrets"));
        check(|it| it.secrets = vec![it.secrets[0].clone(); SECRETS_MAX], None);
        check(|it| it.secrets = vec![it.secrets[0].clone(); SECRETS_MAX + 1], Some("secrets"));
        check(|it| it.secrets[0] = Hidden("x".into()), Some("secrets"));
        check(|it| it.headers = header("authorization", "Bearer x".into()), None);
        check(|it| it.headers = header("x", "y".repeat(HEADER_BYTES_MAX)), None);
        check(|it| it.headers = header("x", "y".repeat(HEADER_BYTES_MAX + 1)), Some("headers"));
        check(|it| it.headers = header("x", "a\nb".into()), Some("headers"));
        for ours in ["Host", "webhook-id", "ce-id", "content-length", "a b"] {
            check(|it| it.headers = header(ours, "x".into()), Some("headers"));
        }
    }

    #[test]
    fn secrets_show_neither_in_debug_output_nor_in_what_is_shown() {
        let mut spec = good();
        spec.headers = Some(BTreeMap::from([("authorization".into(), Hidden("Bearer hunter2".into()))]));
        let secret = spec.secrets[0].0.clone();
        for text in [format!("{spec:?}"), serde_json::to_string(&spec.shown()).expect("JSON")] {
            assert!(!text.contains(&secret) && !text.contains("hunter2"), "{text}");
        }
    }
}
