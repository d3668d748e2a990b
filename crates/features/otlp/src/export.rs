//! How do spans get to a collector? By OTLP over HTTP in protobuf (OTLP 1.x §OTLP/HTTP), in batches, tried again as it asks, and never
//! at the cost of messages.

use std::{
    future::Future,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{ExportTraceServiceRequest, ExportTraceServiceResponse},
    common::v1::InstrumentationScope,
    resource::v1::Resource,
    trace::v1::{ResourceSpans, ScopeSpans, Span},
};
use prost::Message as _;
use tokio::sync::mpsc;
use url::Url;
use waystation_base::{Clock, Millis};
use waystation_outbound::{
    backoff::{pause_ms, retry_after_ms},
    exchange::{Answer, Client, Request},
    span::{Spans, Traced},
};

use crate::{outlet::Outlet, span::text, tracer::Tracer};

/// Spans that wait for the collector; those that come when there are as many are dropped, and counted.
pub const SPANS_WAITING_MAX: usize = 16_384;
/// Spans of one request.
const BATCH_SPANS_MAX: usize = 512;
/// Milliseconds for which spans gather.
const GATHER_MS: u64 = 1_000;
/// Tries of one batch, and the pauses between them in milliseconds.
const TRIES_MAX: u32 = 6;
const PAUSE_MS_FIRST: u64 = 1_000;
const PAUSE_MS_MOST: u64 = 30_000;
/// Bytes of an answer that are read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How long the last spans are sent for, when the server ends.
const LAST: Duration = Duration::from_secs(2);
/// Failures are told this often.
const TELL_EVERY_MS: u64 = 60_000;

/// Where spans go.
#[derive(Clone, Debug)]
pub struct Options {
    /// The collector's address, without the path of the signal: `http://127.0.0.1:4318`.
    pub endpoint: String,
    /// What each request carries: names and values.
    pub headers: Vec<(String, String)>,
    /// What this server is called in traces.
    pub service_name: String,
    /// Milliseconds for one request.
    pub timeout_ms: u64,
}

impl Options {
    /// Whether the address and the headers can be used.
    pub fn check(&self) -> Result<(), InvalidEndpoint> {
        url(&self.endpoint)?;
        headers(&self.headers).map(drop)
    }
}

/// An address or header that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEndpoint {
    /// Not an address.
    #[error("'{0}' is not the address of a collector, such as http://127.0.0.1:4318")]
    Url(String),
    /// Not a header.
    #[error("'{0}' is not a header's name and value")]
    Header(String),
}

/// What became of spans since the start.
#[derive(Debug, Default)]
pub struct Counts {
    exported: AtomicU64,
    dropped: AtomicU64,
    rejected: AtomicU64,
    forgotten: AtomicU64,
}

impl Counts {
    pub(crate) fn dropped(&self, spans: u64) {
        self.dropped.fetch_add(spans, Ordering::Relaxed);
    }

    pub(crate) fn forgotten(&self) {
        self.forgotten.fetch_add(1, Ordering::Relaxed);
    }

    /// The figures in Prometheus' text format. Names and meanings stand in `docs/metrics.md`.
    pub fn figures(&self) -> String {
        let figures = [
            ("exported", "Spans that the collector has taken.", &self.exported),
            ("dropped", "Spans dropped because the collector did not take them in time.", &self.dropped),
            ("rejected", "Spans that the collector refused.", &self.rejected),
            ("forgotten", "Messages no longer followed because too many were under way.", &self.forgotten),
        ];
        let lines = figures.map(|(name, help, value)| {
            let name = format!("waystation_otlp_{name}_total");
            let value = value.load(Ordering::Relaxed);
            format!("# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}\n")
        });
        lines.concat()
    }
}

/// Sends spans.
pub struct Exporter {
    client: Client,
    url: Url,
    headers: HeaderMap,
    options: Options,
    spans: mpsc::Receiver<Span>,
    outlet: Arc<Outlet>,
    counts: Arc<Counts>,
    clock: Arc<dyn Clock>,
    told_at: Option<Millis>,
}

/// What became of a batch.
enum Sent {
    Taken {
        rejected: u64,
    },
    /// To be tried again, after so many milliseconds if the collector says so.
    Later(String, Option<u64>),
    Refused(String),
}

/// All that it takes to export spans.
pub struct Export {
    /// Hears facts.
    pub tracer: Tracer,
    /// Hears of requests.
    pub requests: Spans,
    /// Sends what these two tell.
    pub exporter: Exporter,
    /// What became of it.
    pub counts: Arc<Counts>,
}

impl Export {
    /// An exporter, and those whose spans it sends.
    pub fn new(options: Options, client: Client, clock: Arc<dyn Clock>) -> Result<Export, InvalidEndpoint> {
        let (url, headers) = (url(&options.endpoint)?, headers(&options.headers)?);
        let (sender, spans) = mpsc::channel(SPANS_WAITING_MAX);
        let counts = Arc::new(Counts::default());
        let outlet = Arc::new(Outlet::new(sender, counts.clone(), clock.clone()));
        let tracer = Tracer::new(outlet.clone(), counts.clone());
        let requests = Spans::new(outlet.clone(), clock.clone());
        let (told_at, counted) = (None, counts.clone());
        let exporter = Exporter { client, url, headers, options, spans, outlet, counts, clock, told_at };
        Ok(Export { tracer, requests, exporter, counts: counted })
    }
}

impl Exporter {
    /// Sends until `stop`, and then what is left, for a short while.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = pin!(stop);
        // Outside of what may be left off: what was gathered goes out with the rest.
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                () = &mut stop => break,
                () = gather(&mut self.spans, &mut batch) => self.outlet.send_overdue(false),
            }
            if batch.is_empty() {
                continue;
            }
            tokio::select! {
                () = &mut stop => break,
                () = self.send(std::mem::take(&mut batch)) => {}
            }
        }
        // A collector that does not answer must not keep the server from ending.
        let _ = tokio::time::timeout(LAST, self.send_rest(batch)).await;
    }

    async fn send_rest(&mut self, mut batch: Vec<Span>) {
        self.outlet.send_overdue(true);
        loop {
            match self.spans.try_recv() {
                Ok(span) => batch.push(span),
                Err(_) if batch.is_empty() => return,
                Err(_) => return self.send(batch).await,
            }
            if batch.len() >= BATCH_SPANS_MAX {
                self.send(std::mem::take(&mut batch)).await;
            }
        }
    }

    /// Sends one batch, as often as need be.
    async fn send(&mut self, batch: Vec<Span>) {
        let count = batch.len() as u64;
        let body = self.request(batch).encode_to_vec();
        for attempt in 1..=TRIES_MAX {
            let (why, asked_ms) = match self.try_once(body.clone()).await {
                Sent::Taken { rejected } => {
                    self.counts.rejected.fetch_add(rejected, Ordering::Relaxed);
                    self.counts.exported.fetch_add(count.saturating_sub(rejected), Ordering::Relaxed);
                    return;
                }
                Sent::Refused(why) => {
                    self.counts.rejected.fetch_add(count, Ordering::Relaxed);
                    return self.tell(&why, count);
                }
                Sent::Later(why, asked_ms) => (why, asked_ms),
            };
            if attempt == TRIES_MAX {
                self.counts.dropped(count);
                return self.tell(&why, count);
            }
            let chance = self.clock.now().0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let own_ms = pause_ms(PAUSE_MS_FIRST, PAUSE_MS_MOST, attempt, chance);
            let pause_ms = asked_ms.map_or(own_ms, |asked| asked.min(PAUSE_MS_MOST));
            tokio::time::sleep(Duration::from_millis(pause_ms)).await;
        }
    }

    /// Says what goes wrong, but not each time.
    fn tell(&mut self, why: &str, spans: u64) {
        let now = self.clock.now();
        if self.told_at.is_none_or(|told| now.since(told) >= TELL_EVERY_MS) {
            self.told_at = Some(now);
            tracing::warn!(endpoint = self.options.endpoint, why, spans, "spans did not reach the collector");
        }
    }

    fn request(&self, spans: Vec<Span>) -> ExportTraceServiceRequest {
        let attributes = vec![
            text("service.name", self.options.service_name.as_str()),
            text("service.version", env!("CARGO_PKG_VERSION")),
        ];
        let scope = InstrumentationScope {
            name: "waystation".to_owned(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            ..InstrumentationScope::default()
        };
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans, ..ScopeSpans::default() }];
        let resource = Some(Resource { attributes, ..Resource::default() });
        let resource_spans = vec![ResourceSpans { resource, scope_spans, ..ResourceSpans::default() }];
        ExportTraceServiceRequest { resource_spans }
    }

    async fn try_once(&self, body: Vec<u8>) -> Sent {
        let request = Request {
            method: Method::POST,
            url: self.url.clone(),
            headers: self.headers.clone(),
            body: body.into(),
            timeout_ms: self.options.timeout_ms,
            answer_bytes_max: ANSWER_BYTES_MAX,
            traced: Traced::default(),
        };
        match self.client.exchange(request).await {
            Ok(answer) => self.judge(&answer),
            Err(failure) => Sent::Later(failure.to_string(), None),
        }
    }

    /// What an answer means (OTLP §OTLP/HTTP Response): 429, 502, 503 and 504 are tried again, other failures are not.
    fn judge(&self, answer: &Answer) -> Sent {
        let status = answer.status;
        if (200..300).contains(&status) {
            let partial = ExportTraceServiceResponse::decode(answer.body.as_ref()).unwrap_or_default();
            let rejected = partial.partial_success.map_or(0, |partial| partial.rejected_spans);
            return Sent::Taken { rejected: u64::try_from(rejected).unwrap_or(0) };
        }
        let why = format!("it answered {status}");
        if !matches!(status, 429 | 502 | 503 | 504) {
            return Sent::Refused(why);
        }
        let asked = answer.headers.get(header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        Sent::Later(why, asked.and_then(|text| retry_after_ms(text, self.clock.now())))
    }
}

/// Adds what comes within a while, to at most a batch.
async fn gather(spans: &mut mpsc::Receiver<Span>, batch: &mut Vec<Span>) {
    let end = tokio::time::Instant::now() + Duration::from_millis(GATHER_MS);
    while batch.len() < BATCH_SPANS_MAX {
        let room = BATCH_SPANS_MAX - batch.len();
        match tokio::time::timeout_at(end, spans.recv_many(batch, room)).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
}

/// The address of the signal (OTLP §OTLP/HTTP Request: `/v1/traces` below the endpoint).
fn url(endpoint: &str) -> Result<Url, InvalidEndpoint> {
    let invalid = || InvalidEndpoint::Url(endpoint.to_owned());
    let mut url = Url::parse(endpoint).map_err(|_| invalid())?;
    let is_http = matches!(url.scheme(), "http" | "https") && url.host().is_some();
    if !is_http || url.query().is_some() || url.fragment().is_some() {
        return Err(invalid());
    }
    let path = format!("{}/v1/traces", url.path().trim_end_matches('/'));
    url.set_path(&path);
    Ok(url)
}

fn headers(options: &[(String, String)]) -> Result<HeaderMap, InvalidEndpoint> {
    let mut headers = HeaderMap::new();
    for (name, value) in options {
        let invalid = || InvalidEndpoint::Header(name.clone());
        let mut value = HeaderValue::from_str(value).map_err(|_| invalid())?;
        value.set_sensitive(true);
        headers.append(HeaderName::from_bytes(name.as_bytes()).map_err(|_| invalid())?, value);
    }
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"));
    Ok(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signals_path_is_below_the_endpoint() {
        let check = |endpoint: &str| url(endpoint).map(String::from).ok();
        assert_eq!(check("http://127.0.0.1:4318").as_deref(), Some("http://127.0.0.1:4318/v1/traces"));
        assert_eq!(check("https://otel.example/a/").as_deref(), Some("https://otel.example/a/v1/traces"));
        for bad in ["", "127.0.0.1:4318", "grpc://127.0.0.1:4317", "http://", "http://a?x", "http://a/#x"] {
            assert_eq!(check(bad), None, "{bad}");
        }
    }

    #[test]
    fn headers_are_checked_and_the_content_type_is_ours() {
        let of = |name: &str, value: &str| headers(&[(name.to_owned(), value.to_owned())]);
        assert_eq!(
            of("content-type", "text/plain").expect("headers").get_all("content-type").iter().count(),
            1
        );
        assert!(of("authorization", "Bearer x").expect("headers")["authorization"].is_sensitive());
        assert!(of("a b", "x").is_err() && of("a", "x\n").is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_batch_is_what_comes_within_a_while_and_no_more_than_fits() {
        let (sender, mut spans) = mpsc::channel(SPANS_WAITING_MAX);
        for _ in 0..BATCH_SPANS_MAX + 1 {
            sender.try_send(Span::default()).expect("room");
        }
        for expected in [BATCH_SPANS_MAX, 1, 0] {
            let mut batch = Vec::new();
            gather(&mut spans, &mut batch).await;
            assert_eq!(batch.len(), expected);
        }
    }
}
