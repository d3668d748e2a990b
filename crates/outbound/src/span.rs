//! Who hears of requests that are made for messages, so that they can be shown in the traces these belong to?
//!
//! A request carries the context of its own span (W3C Trace Context), so what its receiver does is shown below it.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderMap, HeaderValue, Method};
use url::Url;
use waystation_base::{
    Clock, Millis,
    message::header::TRACEPARENT,
    trace::{Context, Parent, SpanId, span_id},
};

/// Other messages of one request that its span links to.
pub const LINKS_MAX: usize = 128;

/// For what a request is made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traced {
    /// What its span is made below; of several the first, the others are linked to. None: it makes no span.
    pub parents: Vec<Parent>,
    /// Which try it is, from 1.
    pub attempt: u32,
}

/// A request that has ended, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientSpan {
    /// Its own id.
    pub id: SpanId,
    /// For what it was made.
    pub traced: Traced,
    /// How.
    pub method: Method,
    /// Where to, without credentials, query and fragment: keys may stand there.
    pub url: Url,
    /// When it began.
    pub from: Millis,
    /// When it ended.
    pub to: Millis,
    /// The answer's status, or the class of what happened instead.
    pub result: Result<u16, String>,
}

/// Takes spans; must not wait for anything.
pub trait Take: Send + Sync {
    /// Takes one.
    fn take(&self, span: ClientSpan);
}

/// Makes spans of requests, if anybody takes them.
#[derive(Clone, Default)]
pub struct Spans(Option<(Arc<dyn Take>, Arc<dyn Clock>)>);

impl fmt::Debug for Spans {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Spans").field(&self.0.is_some()).finish()
    }
}

impl Spans {
    /// For whoever takes them.
    pub fn new(taker: Arc<dyn Take>, clock: Arc<dyn Clock>) -> Spans {
        Spans(Some((taker, clock)))
    }

    /// Begins the span of a request and puts its context into the headers; nothing if nobody asks for it.
    pub fn begin(
        &self,
        mut traced: Traced,
        method: &Method,
        url: &Url,
        headers: &mut HeaderMap,
    ) -> Option<Begun> {
        let (taker, clock) = self.0.clone()?;
        let Parent { context, delivery } = *traced.parents.first()?;
        traced.parents.truncate(LINKS_MAX + 1);
        let from = clock.now();
        // Requests of one delivery, or of several that have no span of their own, may begin in one millisecond.
        static REQUESTS: AtomicU64 = AtomicU64::new(0);
        let count = REQUESTS.fetch_add(1, Ordering::Relaxed);
        let id = span_id(&[b"request", &delivery, &count.to_be_bytes(), &from.0.to_be_bytes()]);
        if let Ok(value) = HeaderValue::from_str(&Context { parent_id: id, ..context }.to_string()) {
            headers.insert(TRACEPARENT, value);
        }
        let (method, url) = (method.clone(), bare(url));
        // What nobody waits for to the end is cancelled.
        let result = Err("cancelled".to_owned());
        let span = ClientSpan { id, traced, method, url, from, to: from, result };
        Some(Begun { span: Some(span), taker, clock })
    }
}

/// A request under way. Dropped it is told as cancelled.
pub struct Begun {
    span: Option<ClientSpan>,
    taker: Arc<dyn Take>,
    clock: Arc<dyn Clock>,
}

impl Begun {
    /// It was answered, or not: then the class of what happened.
    pub fn end(mut self, result: Result<u16, &str>) {
        if let Some(span) = &mut self.span {
            span.result = result.map_err(str::to_owned);
        }
    }
}

impl Drop for Begun {
    fn drop(&mut self) {
        if let Some(span) = self.span.take() {
            self.taker.take(ClientSpan { to: self.clock.now(), ..span });
        }
    }
}

/// The URL without what may be secret.
fn bare(url: &Url) -> Url {
    let mut url = url.clone();
    url.set_query(None);
    url.set_fragment(None);
    // Refused only where there is no host, and so nothing to hide.
    let _ = url.set_username("").and_then(|()| url.set_password(None));
    url
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use waystation_base::os::OsClock;

    use super::*;

    #[derive(Default)]
    struct Kept(Mutex<Vec<ClientSpan>>);

    impl Take for Kept {
        fn take(&self, span: ClientSpan) {
            self.0.lock().expect("not poisoned").push(span);
        }
    }

    const CAME: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn parent(delivery: u64) -> Parent {
        Parent { context: Context::parse(CAME).expect("a context"), delivery: delivery.to_be_bytes() }
    }

    fn begin(spans: &Spans, parents: Vec<Parent>, headers: &mut HeaderMap) -> Option<Begun> {
        let url = Url::parse("https://me:secret@shop.example:8443/a?key=secret#x").expect("a URL");
        spans.begin(Traced { parents, attempt: 2 }, &Method::PUT, &url, headers)
    }

    #[test]
    fn a_request_carries_the_context_of_its_own_span_and_shows_no_secrets() {
        let kept = Arc::new(Kept::default());
        let spans = Spans::new(kept.clone(), Arc::new(OsClock));
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(CAME));
        begin(&spans, vec![parent(7)], &mut headers).expect("a span").end(Ok(503));
        drop(begin(&spans, vec![parent(7)], &mut HeaderMap::new()));
        let kept = kept.0.lock().expect("not poisoned").clone();
        let sent = headers[TRACEPARENT].to_str().ok().and_then(Context::parse).expect("a context");
        assert_eq!(sent, Context { parent_id: kept[0].id, ..parent(7).context });
        assert_eq!(kept[0].url.as_str(), "https://shop.example:8443/a");
        assert_eq!((&kept[0].method, &kept[0].result, kept[0].traced.attempt), (&Method::PUT, &Ok(503), 2));
        assert_eq!(kept[1].result, Err("cancelled".to_owned()));
    }

    #[test]
    fn without_anybody_who_takes_spans_or_a_trace_nothing_is_changed() {
        let spans = Spans::new(Arc::new(Kept::default()), Arc::new(OsClock));
        let mut headers = HeaderMap::new();
        assert!(begin(&spans, vec![], &mut headers).is_none());
        assert!(begin(&Spans::default(), vec![parent(1)], &mut headers).is_none());
        assert!(headers.is_empty());
    }

    #[test]
    fn links_are_bounded() {
        let kept = Arc::new(Kept::default());
        let spans = Spans::new(kept.clone(), Arc::new(OsClock));
        for count in [LINKS_MAX + 1, LINKS_MAX + 2] {
            begin(&spans, vec![parent(1); count], &mut HeaderMap::new()).expect("a span").end(Ok(200));
        }
        let kept = kept.0.lock().expect("not poisoned");
        assert!(kept.iter().all(|span| span.traced.parents.len() == LINKS_MAX + 1));
    }
}
