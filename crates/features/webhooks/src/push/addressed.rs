//! How are messages delivered that carry their own address: callbacks of calls, each to the URL that its caller named?
//!
//! | header of the message | what |
//! |---|---|
//! | `callback-url` | where it goes |
//! | `webhook-id` | its id at the receiver; none: Waystation's id of the message |
//! | `content-type`, `traceparent`, `tracestate` | go along |
//!
//! The body is sent as it is. Whoever puts messages there has checked that the address is one that he allows; the guard checks it
//! again, as it does for every request.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use waystation_base::message::header;
use waystation_host::Delivery;

use super::plan::{Plan, webhook_id};
use crate::{breaker::Breaking, guard::Guard, retry::Retry, sender::Job, sign::Secret};

/// The header with the address.
pub const URL: &str = "callback-url";
/// The header with the id.
pub const ID: &str = "webhook-id";
/// Bytes of an id.
const ID_BYTES_MAX: usize = 256;
/// Headers that go along.
const ALONG: &[&str] =
    &[header::CONTENT_TYPE, header::CONTENT_ENCODING, header::TRACEPARENT, header::TRACESTATE];

/// See the module.
pub struct Addressed {
    /// Where messages may go.
    pub guard: Guard,
    /// Each of them signs.
    pub secrets: Arc<[Secret]>,
    /// Milliseconds for the whole exchange.
    pub timeout_ms: u64,
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// How failures are tried again. A suspension counts as attempts: give messages up by age.
    pub retry: Retry,
    /// When an endpoint is left alone.
    pub breaking: Breaking,
}

fn is_id(text: &&str) -> bool {
    // Standard Webhooks parts what is signed by dots.
    (1..=ID_BYTES_MAX).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'.')
}

impl Plan for Addressed {
    fn job(&self, deliveries: &[Delivery]) -> Result<Job, String> {
        let [delivery] = deliveries else { return Err("one message at a time has an address".to_owned()) };
        let known = &delivery.message.headers;
        let url = known.text(URL).ok_or_else(|| format!("the message has no header '{URL}'"))?;
        let url = self.guard.target(url).map_err(|refusal| format!("the URL {refusal}"))?;
        let mut headers = HeaderMap::new();
        for name in ALONG {
            let value = known.text(name).and_then(|text| HeaderValue::from_str(text).ok());
            headers.extend(value.map(|value| (HeaderName::from_static(name), value)));
        }
        let id = known.text(ID).filter(is_id).map(str::to_owned);
        Ok(Job {
            url,
            id: id.unwrap_or_else(|| webhook_id(deliveries)),
            headers,
            body: delivery.message.body.clone(),
            secrets: self.secrets.clone(),
            timeout_ms: self.timeout_ms,
            body_bytes_max: self.body_bytes_max,
            breaking: self.breaking.clone(),
            retry: self.retry.clone(),
        })
    }

    fn retry(&self, _: &[Delivery]) -> Retry {
        self.retry.clone()
    }
}
