//! How does one request go out and its whole answer come in, within bounds of size and time, to where the guard lets it?

use std::{error::Error as _, fmt, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Method};
use url::Url;

use crate::{
    class,
    client::{self, NoClient, chain},
    guard::{Guard, Refusal},
    span::{Spans, Traced},
};

/// A request to be sent.
#[derive(Clone, Debug)]
pub struct Request {
    /// How.
    pub method: Method,
    /// Where to.
    pub url: Url,
    /// What it carries beside the body.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    /// Milliseconds for the whole exchange, the answer's body included.
    pub timeout_ms: u64,
    /// Bytes of the answer's body past which it is given up.
    pub answer_bytes_max: usize,
    /// For what it is made.
    pub traced: Traced,
}

/// What was answered. Redirects are answers like any other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// All its headers.
    pub headers: HeaderMap,
    /// The whole body, as it came.
    pub body: Bytes,
}

/// Why there is no whole answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The guard does not let it go there, or its name leads nowhere. Nothing was sent.
    #[error("{0}")]
    Refused(Refusal),
    /// There was no connection: nothing was sent.
    #[error("no connection: {0}")]
    NotConnected(String),
    /// It was sent, and no whole answer came within the time.
    #[error("no whole answer within {0} ms")]
    Timeout(u64),
    /// It was sent, and the connection broke or said what is no HTTP.
    #[error("no whole answer: {0}")]
    Broken(String),
    /// It answered more than is taken.
    #[error("the answer has more than {0} bytes")]
    TooLarge(usize),
}

impl Failure {
    /// Its class: a name of [`class`].
    pub fn class(&self) -> &'static str {
        match self {
            Failure::Refused(_) | Failure::TooLarge(_) => class::REFUSED,
            Failure::NotConnected(_) | Failure::Broken(_) => class::CONNECTION,
            Failure::Timeout(_) => class::TIMEOUT,
        }
    }
}

/// Makes requests within a guard. Clones share connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    guard: Guard,
    spans: Spans,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({:?})", self.guard)
    }
}

impl Client {
    /// A client within these bounds. `authorities`: a PEM bundle of certificates to trust besides the system's.
    pub fn new(guard: Guard, authorities: Option<&[u8]>) -> Result<Client, NoClient> {
        Ok(Client { http: client::build(&guard, authorities)?, guard, spans: Spans::default() })
    }

    /// Whose requests are shown as spans.
    pub fn with_spans(self, spans: Spans) -> Client {
        Client { spans, ..self }
    }

    /// Where its requests may go.
    pub fn guard(&self) -> &Guard {
        &self.guard
    }

    /// Sends a request and takes its whole answer. Dropped on the way it closes the connection.
    pub async fn exchange(&self, mut request: Request) -> Result<Answer, Failure> {
        let traced = std::mem::take(&mut request.traced);
        let begun = self.spans.begin(traced, &request.method, &request.url, &mut request.headers);
        let result = self.send(request).await;
        if let Some(begun) = begun {
            begun.end(result.as_ref().map(|answer| answer.status).map_err(Failure::class));
        }
        result
    }

    async fn send(&self, request: Request) -> Result<Answer, Failure> {
        let Request { method, url, headers, body, timeout_ms, answer_bytes_max, .. } = request;
        // An address in the URL is no name that the resolver would be asked for.
        let url = self.guard.target(url.as_str()).map_err(Failure::Refused)?;
        let sent = self.http.request(method, url).headers(headers).body(body);
        let sent = sent.timeout(Duration::from_millis(timeout_ms)).send().await;
        let mut response = sent.map_err(|error| failure(error, timeout_ms))?;
        let length = response.content_length().unwrap_or(0);
        if length > answer_bytes_max as u64 {
            return Err(Failure::TooLarge(answer_bytes_max));
        }
        let mut body = BytesMut::with_capacity(length as usize);
        while let Some(part) = response.chunk().await.map_err(|error| failure(error, timeout_ms))? {
            if body.len() + part.len() > answer_bytes_max {
                return Err(Failure::TooLarge(answer_bytes_max));
            }
            body.extend_from_slice(&part);
        }
        let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
        Ok(Answer { status, headers, body: body.freeze() })
    }
}

fn failure(error: reqwest::Error, timeout_ms: u64) -> Failure {
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(refusal) = inner.downcast_ref::<Refusal>() {
            return Failure::Refused(refusal.clone());
        }
        source = inner.source();
    }
    match (error.is_connect(), error.is_timeout()) {
        (true, _) => Failure::NotConnected(chain(&error.without_url())),
        (false, true) => Failure::Timeout(timeout_ms),
        (false, false) => Failure::Broken(chain(&error.without_url())),
    }
}
