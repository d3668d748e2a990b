//! Where do spans go on their way to the exporter? Requests wait for the delivery that they were made for: if that becomes a span it
//! is their parent, and if it does not, by a sample or after a restart, whoever published is.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind};
use tokio::sync::mpsc;
use waystation_base::{
    Clock, Millis,
    trace::{Parent, SpanId},
};
use waystation_outbound::span::{ClientSpan, Take};

use crate::{
    HashMap,
    export::Counts,
    span::{Draft, number, text},
};

/// Requests that wait for their delivery; a further one does not wait.
pub const REQUESTS_WAITING_MAX: usize = 8_192;
/// Milliseconds for which one waits: an attempt is settled as soon as it has ended.
const WAIT_MS: u64 = 5_000;

/// See the module.
pub(crate) struct Outlet {
    spans: mpsc::Sender<Span>,
    counts: Arc<Counts>,
    clock: Arc<dyn Clock>,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    /// By delivery: until when, and the span as a child of it.
    spans: HashMap<SpanId, Vec<(Millis, Child)>>,
    count: usize,
}

struct Child {
    span: Span,
    publisher: SpanId,
}

impl Outlet {
    pub(crate) fn new(spans: mpsc::Sender<Span>, counts: Arc<Counts>, clock: Arc<dyn Clock>) -> Outlet {
        Outlet { spans, counts, clock, waiting: Mutex::default() }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // What a panic left behind is still the spans that wait.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn send(&self, span: Span) {
        if self.spans.try_send(span).is_err() {
            self.counts.dropped(1);
        }
    }

    /// Sends the span of a delivery, and of the requests that were made for it.
    pub(crate) fn send_delivery(&self, id: SpanId, span: Span) {
        let mut waiting = self.waiting();
        let children = waiting.spans.remove(&id).unwrap_or_default();
        waiting.count -= children.len();
        drop(waiting);
        self.send(span);
        children.into_iter().for_each(|(_, child)| self.send(child.span));
    }

    /// Sends the requests that have waited long enough; with `all` each that waits.
    pub(crate) fn send_overdue(&self, all: bool) {
        let now = self.clock.now();
        let mut overdue = Vec::new();
        let mut waiting = self.waiting();
        for children in waiting.spans.values_mut() {
            overdue.extend(children.extract_if(.., |(until, _)| all || *until <= now));
        }
        waiting.spans.retain(|_, children| !children.is_empty());
        waiting.count -= overdue.len();
        drop(waiting);
        overdue.into_iter().for_each(|(_, child)| self.send_alone(child));
    }

    /// Without the delivery between them.
    fn send_alone(&self, Child { mut span, publisher }: Child) {
        span.parent_span_id = publisher.to_vec();
        self.send(span);
    }
}

impl Take for Outlet {
    fn take(&self, request: ClientSpan) {
        let Some(parent) = request.traced.parents.first().copied() else { return };
        let child = Child { span: span(parent, &request), publisher: parent.context.parent_id };
        let mut waiting = self.waiting();
        if parent.delivery == child.publisher || waiting.count >= REQUESTS_WAITING_MAX {
            drop(waiting);
            return self.send_alone(child);
        }
        let until = self.clock.now().plus(WAIT_MS);
        waiting.spans.entry(parent.delivery).or_default().push((until, child));
        waiting.count += 1;
    }
}

/// A request by the semantic conventions for HTTP client spans.
fn span(parent: Parent, request: &ClientSpan) -> Span {
    let ClientSpan { id, traced, method, url, from, to, result } = request;
    let mut attributes = vec![
        text("http.request.method", method.as_str()),
        text("url.full", url.as_str()),
        text("server.address", url.host_str().unwrap_or_default()),
    ];
    attributes.extend(url.port_or_known_default().map(|port| number("server.port", port.into())));
    if traced.attempt > 1 {
        attributes.push(number("http.request.resend_count", (traced.attempt - 1).into()));
    }
    let error = match result {
        Ok(status) => {
            attributes.push(number("http.response.status_code", (*status).into()));
            (*status >= 400).then(|| status.to_string())
        }
        Err(class) => Some(class.clone()),
    };
    attributes.extend(error.iter().map(|error| text("error.type", error.as_str())));
    let others = traced.parents.iter().skip(1);
    let links = others.map(|parent| (parent.context.trace_id, parent.delivery)).collect();
    let draft = Draft {
        context: parent.context.of(parent.delivery),
        id: *id,
        name: method.to_string(),
        kind: SpanKind::Client,
        from: *from,
        to: *to,
        attributes,
        // What an answer means stands in its status; the description is for what has none.
        error: error.map(|error| if result.is_ok() { String::new() } else { error }),
        links,
    };
    draft.span()
}

#[cfg(test)]
mod tests {
    use http::Method;
    use opentelemetry_proto::tonic::{common::v1::any_value::Value, trace::v1::status::StatusCode};
    use url::Url;
    use waystation_base::{os::OsClock, trace::Context};
    use waystation_outbound::span::Traced;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const PUBLISHER: SpanId = [9; 8];

    fn outlet() -> (Outlet, mpsc::Receiver<Span>) {
        let (sender, spans) = mpsc::channel(2 * REQUESTS_WAITING_MAX);
        (Outlet::new(sender, Arc::default(), Arc::new(OsClock)), spans)
    }

    fn request(deliveries: &[SpanId], result: Result<u16, &str>) -> ClientSpan {
        let context = Context::parse(&format!("00-{TRACE}-0909090909090909-01")).expect("a context");
        let parents = deliveries.iter().map(|delivery| Parent { context, delivery: *delivery }).collect();
        ClientSpan {
            id: [3; 8],
            traced: Traced { parents, attempt: 2 },
            method: Method::POST,
            url: Url::parse("http://127.0.0.1:81/hook").expect("a URL"),
            from: Millis(5),
            to: Millis(9),
            result: result.map_err(str::to_owned),
        }
    }

    fn parents(spans: &mut mpsc::Receiver<Span>) -> Vec<Vec<u8>> {
        std::iter::from_fn(|| spans.try_recv().ok()).map(|span| span.parent_span_id).collect()
    }

    #[test]
    fn a_request_comes_after_the_delivery_that_is_its_parent() {
        let (outlet, mut spans) = outlet();
        outlet.take(request(&[[1; 8]], Ok(200)));
        outlet.send_overdue(false);
        assert!(spans.try_recv().is_err(), "it waits");
        outlet.send_delivery([2; 8], Span::default());
        outlet.send_delivery([1; 8], Span::default());
        assert_eq!(parents(&mut spans), [vec![], vec![], vec![1; 8]]);
        outlet.send_overdue(true);
        assert!(spans.try_recv().is_err(), "it goes once");
    }

    #[test]
    fn a_request_whose_delivery_is_not_shown_belongs_to_whoever_published() {
        let (outlet, mut spans) = outlet();
        outlet.take(request(&[[1; 8]], Ok(200)));
        outlet.send_overdue(true);
        // What was made below the publisher has nothing to wait for.
        outlet.take(request(&[PUBLISHER], Ok(200)));
        assert_eq!(parents(&mut spans), [PUBLISHER.to_vec(), PUBLISHER.to_vec()]);
    }

    #[test]
    fn no_more_wait_than_may() {
        let (outlet, mut spans) = outlet();
        for delivery in 0..REQUESTS_WAITING_MAX as u64 {
            outlet.take(request(&[(delivery + 1).to_be_bytes()], Ok(200)));
        }
        assert!(spans.try_recv().is_err());
        outlet.take(request(&[[1; 8]], Ok(200)));
        assert_eq!(parents(&mut spans), [PUBLISHER.to_vec()]);
    }

    #[test]
    fn attributes_are_those_of_the_conventions() {
        let told = |result| {
            let request = request(&[[1; 8], [2; 8]], result);
            let span = span(request.traced.parents[0], &request);
            let text = |value: Option<Value>| match value {
                Some(Value::StringValue(text)) => text,
                Some(Value::IntValue(number)) => number.to_string(),
                other => panic!("{other:?}"),
            };
            let attributes = span
                .attributes
                .iter()
                .map(|it| (it.key.clone(), text(it.value.clone().and_then(|value| value.value))));
            (attributes.collect::<Vec<_>>(), span)
        };
        let (attributes, span) = told(Ok(503));
        let expected = [
            ("http.request.method", "POST"),
            ("url.full", "http://127.0.0.1:81/hook"),
            ("server.address", "127.0.0.1"),
            ("server.port", "81"),
            ("http.request.resend_count", "1"),
            ("http.response.status_code", "503"),
            ("error.type", "503"),
        ];
        assert_eq!(attributes, expected.map(|(key, value)| (key.to_owned(), value.to_owned())));
        assert_eq!((span.name.as_str(), span.kind), ("POST", SpanKind::Client.into()));
        assert_eq!(span.links.iter().map(|link| link.span_id.clone()).collect::<Vec<_>>(), [vec![2; 8]]);
        assert_eq!(span.status.expect("a status").code, i32::from(StatusCode::Error));
        let (attributes, span) = told(Err("timeout"));
        assert_eq!(attributes.last(), Some(&("error.type".to_owned(), "timeout".to_owned())));
        assert_eq!(span.status.expect("a status").message, "timeout");
        let (attributes, span) = told(Ok(204));
        assert!(!attributes.iter().any(|(key, _)| key == "error.type"), "{attributes:?}");
        assert_eq!(span.status.expect("a status").code, i32::from(StatusCode::Unset));
    }
}
