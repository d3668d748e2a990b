//! Which request do messages become?

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header::CONTENT_TYPE};
use ring::digest;
use url::Url;
use waystation_base::message::header;
use waystation_events::cloud::Event;
use waystation_host::Delivery;
use waystation_outbound::span::Traced;

use super::spec::{Format, PushSpec};
use crate::{
    breaker::Breaking,
    guard::{Guard, Refusal},
    retry::{Invalid, Retry},
    sender::Job,
    sign::Secret,
};

/// Turns messages into requests. It has to give the same request for the same messages each time: they are tried again.
pub trait Plan: Send + Sync + 'static {
    /// The request, or why these messages can never become one: then they are given up.
    fn job(&self, deliveries: &[Delivery]) -> Result<Job, String>;

    /// The `webhook-id` that their request has, or would have.
    fn id(&self, deliveries: &[Delivery]) -> String {
        webhook_id(deliveries)
    }

    /// Why these messages cannot be sent now, though they may be later. Only for plans of single messages.
    fn hold(&self, _: &[Delivery]) -> Option<String> {
        None
    }

    /// How these messages are tried again.
    fn retry(&self, deliveries: &[Delivery]) -> Retry;

    /// The one endpoint of all messages, if there is but one: then nothing is taken while it is suspended.
    fn endpoint(&self) -> Option<String> {
        None
    }
}

/// The plan of a push: one endpoint.
pub struct Endpoint {
    url: Url,
    format: Format,
    headers: HeaderMap,
    secrets: Arc<[Secret]>,
    timeout_ms: u64,
    body_bytes_max: usize,
    retry: Retry,
    breaking: Breaking,
}

/// A declaration that cannot be a plan.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// The URL is.
    #[error("the URL {0}")]
    Url(#[from] Refusal),
}

impl Endpoint {
    /// The plan of a declaration.
    pub fn new(spec: &PushSpec, guard: &Guard) -> Result<Endpoint, Error> {
        Ok(Endpoint {
            url: guard.target(&spec.url)?,
            format: spec.format,
            headers: spec.header_map()?,
            secrets: spec.keys()?.into(),
            timeout_ms: spec.timeout_ms,
            body_bytes_max: spec.body_bytes_max,
            retry: Retry { policy: spec.retry.clone(), retry_after_ms_max: spec.retry_after_ms_max },
            breaking: spec.breaker.clone(),
        })
    }

    fn content(&self, deliveries: &[Delivery], headers: &mut HeaderMap) -> Result<Bytes, String> {
        let json = |value: serde_json::Result<Vec<u8>>| {
            value.map(Bytes::from).map_err(|error| format!("cannot be written as JSON: {error}"))
        };
        let first = deliveries.first().ok_or("there is no message")?;
        match self.format {
            Format::Raw => {
                for (name, http) in
                    [(header::CONTENT_TYPE, "content-type"), (header::CONTENT_ENCODING, "content-encoding")]
                {
                    put(headers, http, first.message.headers.text(name));
                }
                Ok(first.message.body.clone())
            }
            Format::Binary => {
                for (name, value) in Event::of(first).headers() {
                    put(headers, &name, Some(&value));
                }
                put(headers, "content-encoding", first.message.headers.text(header::CONTENT_ENCODING));
                Ok(first.message.body.clone())
            }
            Format::Structured => {
                headers.insert(
                    CONTENT_TYPE,
                    HeaderValue::from_static("application/cloudevents+json; charset=utf-8"),
                );
                json(serde_json::to_vec(&Event::of(first)))
            }
            Format::Batch => {
                let kind = "application/cloudevents-batch+json; charset=utf-8";
                headers.insert(CONTENT_TYPE, HeaderValue::from_static(kind));
                json(serde_json::to_vec(&deliveries.iter().map(Event::of).collect::<Vec<_>>()))
            }
        }
    }
}

fn put(headers: &mut HeaderMap, name: &str, value: Option<&str>) {
    let Some(value) = value else { return };
    // What HTTP cannot carry is left out, as at the HTTP door.
    if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
        headers.insert(name, value);
    }
}

/// The `webhook-id`: the message's own id; of several messages a digest of their ids, so that the same batch has the same.
pub fn webhook_id(deliveries: &[Delivery]) -> String {
    match deliveries {
        [one] => format!("msg_{}", one.message.id),
        many => {
            let mut context = digest::Context::new(&digest::SHA256);
            many.iter().for_each(|delivery| context.update(delivery.message.id.as_bytes()));
            let hex: String =
                context.finish().as_ref()[..16].iter().map(|byte| format!("{byte:02x}")).collect();
            format!("batch_{hex}")
        }
    }
}

impl Plan for Endpoint {
    fn job(&self, deliveries: &[Delivery]) -> Result<Job, String> {
        let mut headers = self.headers.clone();
        if let [one] = deliveries {
            for name in [header::TRACEPARENT, header::TRACESTATE] {
                put(&mut headers, name, one.message.headers.text(name));
            }
        }
        let body = self.content(deliveries, &mut headers)?;
        Ok(Job {
            url: self.url.clone(),
            id: webhook_id(deliveries),
            headers,
            body,
            secrets: self.secrets.clone(),
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

    fn endpoint(&self) -> Option<String> {
        Some(crate::sender::endpoint(&self.url))
    }
}
