//! How does one signed request go out and its answer come in, within bounds of size and time, to where the guard lets it?

use std::{error::Error as _, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use url::Url;
use waystation_base::{Clock, Millis};

pub use waystation_outbound::client::{NoClient, endpoint};
use waystation_outbound::{
    backoff::retry_after_ms,
    class,
    client::{self, chain},
    span::{Spans, Traced},
};

use crate::{
    breaker::{Admission, Breakers, Breaking, Trial},
    guard::{Guard, Refusal},
    retry::Retry,
    sign::{Secret, signature},
    verdict::{Verdict, judge},
};

/// Bytes of an answer's body that are read; the connection is closed past it.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Bytes of it that are kept for people to see.
pub const EXCERPT_BYTES_MAX: usize = 1 << 10;

/// A request to be sent: by POST, signed when it goes out.
#[derive(Clone)]
pub struct Job {
    /// Where to, as [`Guard::target`] gave it.
    pub url: Url,
    /// The `webhook-id`: the same at every attempt.
    pub id: String,
    /// Headers beside those of the signature.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Each of them signs.
    pub secrets: Arc<[Secret]>,
    /// Milliseconds for the whole exchange.
    pub timeout_ms: u64,
    /// Bytes of body past which it is not sent.
    pub body_bytes_max: usize,
    /// When the endpoint is left alone.
    pub breaking: Breaking,
    /// How answers are judged.
    pub retry: Retry,
    /// For what it is made.
    pub traced: Traced,
}

impl Job {
    /// What the circuit breaker goes by: the URL without query and fragment.
    pub fn endpoint(&self) -> String {
        endpoint(&self.url)
    }
}

/// What was answered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// Milliseconds of `Retry-After`, with 429 and 503 and others that carry it.
    pub retry_after_ms: Option<u64>,
    /// The beginning of the body, as text.
    pub excerpt: String,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The target may not be asked at all.
    #[error("the URL {0}")]
    Target(Refusal),
    /// What its name leads to may not be asked, or it leads nowhere.
    #[error("{0}")]
    Refused(Refusal),
    /// The endpoint is suspended.
    #[error("the endpoint is suspended after failures")]
    Suspended,
    /// Too much to send.
    #[error("the request has {bytes} bytes, and {limit} are allowed")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
    /// Not within its time.
    #[error("no whole answer within the time limit")]
    Timeout,
    /// No connection, or one that broke.
    #[error("{0}")]
    Connection(String),
}

impl Failure {
    /// Its class: a name of [`class`].
    pub fn class(&self) -> &'static str {
        match self {
            Failure::Timeout => class::TIMEOUT,
            Failure::Connection(_) | Failure::Suspended => class::CONNECTION,
            Failure::Target(_) | Failure::Refused(_) | Failure::TooLarge { .. } => class::REFUSED,
        }
    }
}

/// One attempt and what follows from it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// What was answered, or why nothing was.
    pub result: Result<Answer, Failure>,
    /// What that means.
    pub verdict: Verdict,
    /// When it began.
    pub at: Millis,
    /// Milliseconds that it took.
    pub took_ms: u64,
    /// Until when the endpoint is left alone, if it is.
    pub suspended_until: Option<Millis>,
}

impl Sent {
    /// What went wrong, in words; nothing if it arrived.
    pub fn cause(&self) -> Option<String> {
        match (&self.result, self.verdict) {
            (_, Verdict::Done) => None,
            (Ok(answer), _) if answer.excerpt.is_empty() => Some(format!("answered {}", answer.status)),
            (Ok(answer), _) => {
                let line = answer.excerpt.lines().next().unwrap_or_default();
                Some(format!("answered {}: {}", answer.status, line.chars().take(200).collect::<String>()))
            }
            (Err(failure), _) => Some(failure.to_string()),
        }
    }

    /// The answer's status.
    pub fn status(&self) -> Option<u16> {
        self.result.as_ref().ok().map(|answer| answer.status)
    }
}

/// Sends. Clones share connections and circuit breakers.
#[derive(Clone)]
pub struct Sender {
    http: reqwest::Client,
    guard: Guard,
    breakers: Arc<Breakers>,
    clock: Arc<dyn Clock>,
    spans: Spans,
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({:?})", self.guard)
    }
}

impl Sender {
    /// A sender within these bounds. `authorities`: a PEM bundle of certificates to trust besides the system's.
    pub fn new(guard: Guard, clock: Arc<dyn Clock>, authorities: Option<&[u8]>) -> Result<Sender, NoClient> {
        let http = client::build(&guard, authorities)?;
        Ok(Sender { http, guard, breakers: Arc::default(), clock, spans: Spans::default() })
    }

    /// Whose requests are shown as spans.
    pub fn with_spans(self, spans: Spans) -> Sender {
        Sender { spans, ..self }
    }

    /// Where its requests may go.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Forgets that an endpoint failed.
    pub fn reset(&self, endpoint: &str) {
        self.breakers.reset(endpoint);
    }

    /// Makes one attempt, unless the endpoint is suspended.
    pub async fn send(&self, job: &Job) -> Sent {
        let (endpoint, at) = (job.endpoint(), self.clock.now());
        let admission = self.breakers.admit(&endpoint, at);
        if let Admission::Wait(until) = admission {
            let (result, verdict) = (Err(Failure::Suspended), Verdict::Again { retry_after_ms: None });
            return Sent { result, verdict, at, took_ms: 0, suspended_until: Some(until) };
        }
        let trial = Trial::new(&self.breakers, &endpoint, admission);
        let result = self.exchange(job, at).await;
        trial.over();
        let verdict = judge(&result, &job.retry);
        let now = self.clock.now();
        let suspended_until = match verdict {
            Verdict::Done => {
                self.breakers.succeeded(&endpoint);
                None
            }
            Verdict::Again { retry_after_ms } => {
                let asked = retry_after_ms.map(|ms| ms.min(job.retry.retry_after_ms_max));
                self.breakers.failed(&endpoint, &job.breaking, asked, now)
            }
            Verdict::Final | Verdict::Gone => match &result {
                // It answers, though not as one would like.
                Ok(answer) if answer.status < 500 => {
                    self.breakers.succeeded(&endpoint);
                    None
                }
                Err(Failure::Target(_) | Failure::TooLarge { .. }) => {
                    self.breakers.undecided(&endpoint);
                    None
                }
                _ => self.breakers.failed(&endpoint, &job.breaking, None, now),
            },
        };
        Sent { result, verdict, at, took_ms: now.since(at), suspended_until }
    }

    /// Makes one attempt whether or not the endpoint is suspended; a success ends the suspension.
    pub async fn probe(&self, job: &Job) -> Sent {
        let at = self.clock.now();
        let result = self.exchange(job, at).await;
        let verdict = judge(&result, &job.retry);
        if verdict == Verdict::Done {
            self.breakers.succeeded(&job.endpoint());
        }
        Sent { result, verdict, at, took_ms: self.clock.now().since(at), suspended_until: None }
    }

    async fn exchange(&self, job: &Job, now: Millis) -> Result<Answer, Failure> {
        if job.body.len() > job.body_bytes_max {
            return Err(Failure::TooLarge { bytes: job.body.len(), limit: job.body_bytes_max });
        }
        // Rules may have changed since the job was made.
        let url = self.guard.target(job.url.as_str()).map_err(Failure::Target)?;
        let timestamp_s = now.0 / 1_000;
        let mut headers = job.headers.clone();
        set(&mut headers, "webhook-id", &job.id);
        set(&mut headers, "webhook-timestamp", &timestamp_s.to_string());
        if !job.secrets.is_empty() {
            set(&mut headers, "webhook-signature", &signature(&job.id, timestamp_s, &job.body, &job.secrets));
        }
        let begun = self.spans.begin(job.traced.clone(), &Method::POST, &url, &mut headers);
        let result = self.post(url, headers, job).await;
        if let Some(begun) = begun {
            begun.end(result.as_ref().map(|answer| answer.status).map_err(Failure::class));
        }
        result
    }

    async fn post(&self, url: Url, headers: HeaderMap, job: &Job) -> Result<Answer, Failure> {
        let request = self.http.post(url).headers(headers).body(job.body.clone());
        let request = request.timeout(Duration::from_millis(job.timeout_ms));
        let mut response = request.send().await.map_err(failure)?;
        let status = response.status().as_u16();
        let retry_after =
            response.headers().get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after_ms = retry_after.and_then(|text| retry_after_ms(text, self.clock.now()));
        let excerpt = match read(&mut response).await {
            Ok(excerpt) => excerpt,
            // Whether it arrived, the status has said.
            Err(_) if (200..300).contains(&status) => String::new(),
            Err(error) => return Err(failure(error)),
        };
        Ok(Answer { status, retry_after_ms, excerpt })
    }
}

fn set(headers: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        headers.insert(HeaderName::from_static(name), value);
    }
}

/// Reads what there is up to the bound and gives its beginning.
async fn read(response: &mut reqwest::Response) -> Result<String, reqwest::Error> {
    let (mut kept, mut length) = (Vec::new(), 0);
    while let Some(part) = response.chunk().await? {
        let room = EXCERPT_BYTES_MAX.saturating_sub(kept.len());
        kept.extend_from_slice(&part[..part.len().min(room)]);
        length += part.len();
        if length > ANSWER_BYTES_MAX {
            break;
        }
    }
    Ok(String::from_utf8_lossy(&kept).into_owned())
}

fn failure(error: reqwest::Error) -> Failure {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(refusal) = inner.downcast_ref::<Refusal>() {
            return Failure::Refused(refusal.clone());
        }
        source = inner.source();
    }
    if error.is_timeout() { Failure::Timeout } else { Failure::Connection(chain(&error.without_url())) }
}

#[cfg(test)]
mod tests;
