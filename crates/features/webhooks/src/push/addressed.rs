//! How are messages delivered that carry their own address: callbacks of calls, each to the URL that its caller named?
//!
//! | header of the message | what |
//! |---|---|
//! | `callback-url` | where it goes |
//! | `webhook-id` | its id at the receiver; none: Waystation's id of the message |
//! | `call-operation` | which operation's secrets sign it, if that has any |
//! | `content-type`, `traceparent`, `tracestate` | go along |
//!
//! The body is sent as it is. Whoever puts messages there has checked that the address is one that he allows; the guard checks it
//! again, as it does for every request.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};
use waystation_base::message::header;
use waystation_host::Delivery;
use waystation_outbound::span::Traced;

use super::plan::{Plan, webhook_id};
use crate::{breaker::Breaking, guard::Guard, retry::Retry, sender::Job, sign::Secret};

/// The header with the address.
pub const URL: &str = "callback-url";
/// The header with the id.
pub const ID: &str = "webhook-id";
/// The header with the operation.
pub const OPERATION: &str = "call-operation";
/// Bytes of an id.
const ID_BYTES_MAX: usize = 256;
/// Headers that go along.
const ALONG: &[&str] =
    &[header::CONTENT_TYPE, header::CONTENT_ENCODING, header::TRACEPARENT, header::TRACESTATE];

/// Who knows the secrets of operations.
pub trait Signing: Send + Sync + 'static {
    /// Whether any operation has secrets.
    fn any(&self) -> bool;
    /// Those of one operation, as texts; none: it has none of its own.
    fn of(&self, operation: &str) -> Vec<String>;
}

/// See the module.
pub struct Addressed {
    /// Where messages may go.
    pub guard: Guard,
    /// Each of them signs what is signed by no secrets of its operation.
    pub secrets: Arc<[Secret]>,
    /// Who knows those.
    pub own: Option<Arc<dyn Signing>>,
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

impl Addressed {
    fn secrets_for(&self, delivery: &Delivery) -> Arc<[Secret]> {
        let operation = delivery.message.headers.text(OPERATION);
        let own = operation.zip(self.own.as_ref()).map(|(operation, own)| own.of(operation));
        // They were checked when the operation was declared.
        let own: Vec<Secret> = own.iter().flatten().filter_map(|text| Secret::parse(text).ok()).collect();
        if own.is_empty() { self.secrets.clone() } else { own.into() }
    }
}

impl Plan for Addressed {
    fn id(&self, deliveries: &[Delivery]) -> String {
        let own = deliveries.first().and_then(|delivery| delivery.message.headers.text(ID));
        own.filter(is_id).map_or_else(|| webhook_id(deliveries), str::to_owned)
    }

    fn hold(&self, deliveries: &[Delivery]) -> Option<String> {
        let is_unsigned = deliveries.iter().any(|delivery| self.secrets_for(delivery).is_empty());
        // Unsigned it would be worth nothing to whoever gets it.
        is_unsigned.then(|| "there is no secret that signs it".to_owned())
    }

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
        Ok(Job {
            url,
            id: self.id(deliveries),
            headers,
            body: delivery.message.body.clone(),
            secrets: self.secrets_for(delivery),
            timeout_ms: self.timeout_ms,
            body_bytes_max: self.body_bytes_max,
            breaking: self.breaking.clone(),
            retry: self.retry.clone(),
            traced: Traced::default(),
        })
    }

    fn retry(&self, _: &[Delivery]) -> Retry {
        self.retry.clone()
    }
}
