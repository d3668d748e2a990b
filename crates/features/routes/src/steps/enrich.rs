//! What does a service know that the message does not say? It is asked by HTTP, and its answer is merged in (content enricher).

use std::{
    collections::{HashMap, VecDeque},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value as Json, json};
use url::Url;
use waystation_base::{
    Millis,
    message::header::TRACEPARENT,
    trace::{Context, Parent},
};
use waystation_jq::Program;
use waystation_outbound::{
    breaker::{Admission, Breaking, Trial},
    client::endpoint,
    exchange::{Answer, Failure, Request},
    guard::Refusal,
    span::Traced,
};

use super::{Flow, hold::some_scalar, transform::one};
use crate::{
    Fault, FaultKind, Invalid, Verdict,
    limits::{ANSWER_BYTES_MAX, CACHE_BYTES_MAX, CACHE_ENTRIES_MAX, ENRICH_MS_MAX},
    packet::Packet,
    program::{invalid, jq, jq_with, place},
    run::Run,
    spec,
};

/// Asks and merges.
#[derive(Debug)]
pub(crate) struct Enrich {
    pub at: Arc<str>,
    url: Program,
    method: Option<Method>,
    headers: Option<Program>,
    body: Option<Program>,
    merge: Program,
    timeout_ms: u64,
    accept: Vec<u16>,
    cache: Option<Cache>,
}

impl Enrich {
    pub fn compile(at: &str, spec: &spec::Enrich) -> Result<Enrich, Invalid> {
        let program = |field: &str, text: &Option<String>| {
            text.as_ref().map(|text| jq(&format!("{at}.{field}"), text)).transpose()
        };
        if !(1..=ENRICH_MS_MAX).contains(&spec.timeout_ms) {
            let reason = format!("must lie between 1 and {ENRICH_MS_MAX}, is {}", spec.timeout_ms);
            return Err(invalid(format!("{at}.timeout_ms"), reason));
        }
        let method = spec.method.as_ref().map(|text| Method::from_bytes(text.as_bytes())).transpose();
        let cache = match &spec.cache {
            None => None,
            Some(cache) if (1..=CACHE_ENTRIES_MAX).contains(&cache.entries) && cache.ttl_ms > 0 => {
                Some(Cache { ttl_ms: cache.ttl_ms, entries: cache.entries, kept: Mutex::default() })
            }
            Some(_) => {
                let reason = format!("needs a 'ttl_ms' above 0 and 1 to {CACHE_ENTRIES_MAX} 'entries'");
                return Err(invalid(format!("{at}.cache"), reason));
            }
        };
        Ok(Enrich {
            at: place(at),
            url: jq(&format!("{at}.url"), &spec.url)?,
            method: method.map_err(|_| invalid(format!("{at}.method"), "is no method of HTTP"))?,
            headers: program("headers", &spec.headers)?,
            body: program("body", &spec.body)?,
            merge: jq_with(&format!("{at}.merge"), &spec.merge, &["response"])?,
            timeout_ms: spec.timeout_ms,
            accept: spec.accept.clone(),
            cache,
        })
    }

    pub async fn run(&self, run: &mut Run<'_>, mut packet: Packet) -> Result<Flow<'_>, Fault> {
        let request = self.request(run, &mut packet).await?;
        let key = self.cache.as_ref().map(|_| Key::of(&request));
        let now = run.tools.clock.now();
        let kept = self.cache.iter().zip(&key).find_map(|(cache, key)| cache.get(key, now));
        let said = match kept {
            Some(_) => "from the cache".to_owned(),
            None => format!("asked {}", endpoint(&request.url)),
        };
        let response = match kept {
            Some(response) => response,
            None => {
                let response = self.ask(run, request).await?;
                if let (Some(cache), Some(key)) = (&self.cache, key) {
                    cache.put(key, response.clone(), run.tools.clock.now());
                }
                response
            }
        };
        let body = packet.json().await?;
        let mut outputs = run.tools.jq_with(&self.merge, &packet, body, vec![response], run.limits).await?;
        match (outputs.pop(), outputs.is_empty()) {
            (Some(merged), true) => packet.set_json(merged),
            _ => return Err(Fault::invalid("the program for 'merge' must give one output")),
        }
        run.say(&self.at, Verdict::Changed, Some(said));
        Ok(Flow::On(packet))
    }

    async fn request(&self, run: &Run<'_>, packet: &mut Packet) -> Result<Request, Fault> {
        let text = some_scalar(run, &self.url, packet, "url").await?;
        let url =
            Url::parse(&text).map_err(|error| Fault::invalid(format!("'{text}' is no URL: {error}")))?;
        let body = match &self.body {
            Some(program) => one(run, program, packet, "body").await?,
            None => Bytes::new(),
        };
        let mut headers = HeaderMap::new();
        headers.insert(http::header::ACCEPT, HeaderValue::from_static("application/json"));
        if self.body.is_some() {
            headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        }
        let trace = packet.message.headers.text(TRACEPARENT);
        if let Some(value) = trace.and_then(|trace| HeaderValue::from_str(trace).ok()) {
            headers.insert(TRACEPARENT, value);
        }
        let context = trace.and_then(Context::parse).filter(|context| context.is_sampled);
        let parents = context.map(|context| Parent { context, delivery: context.parent_id });
        let traced = Traced { parents: parents.into_iter().collect(), attempt: 1 };
        if let Some(program) = &self.headers {
            set_headers(&mut headers, &one(run, program, packet, "headers").await?)?;
        }
        let usual = if self.body.is_some() { Method::POST } else { Method::GET };
        let method = self.method.clone().unwrap_or(usual);
        let (timeout_ms, answer_bytes_max) = (self.timeout_ms, ANSWER_BYTES_MAX);
        Ok(Request { method, url, headers, body, timeout_ms, answer_bytes_max, traced })
    }

    /// The answer as the program for `merge` sees it.
    async fn ask(&self, run: &Run<'_>, request: Request) -> Result<Bytes, Fault> {
        let Some(services) = &run.tools.services else {
            return Err(Fault::invalid("no service can be asked here"));
        };
        if run.is_trial() && !request.method.is_safe() {
            let reason =
                format!("a trial has no effect, and {} might have one: it was not asked", request.method);
            return Err(Fault::invalid(reason));
        }
        let now = run.tools.clock.now();
        // By host: what is asked for differs from message to message.
        let service = request.url.origin().ascii_serialization();
        let admission = services.breakers.admit(&service, now);
        if let Admission::Wait(until) = admission {
            let pause = until.0.saturating_sub(now.0);
            return Err(passing(format!(
                "{service} failed again and again, and is left alone for {pause} ms"
            )));
        }
        let trial = Trial::new(&services.breakers, &service, admission);
        let (is_well, outcome) = self.judge(services.client.exchange(request).await);
        if is_well {
            services.breakers.succeeded(&service);
        } else {
            services.breakers.failed(&service, &Breaking::default(), None, run.tools.clock.now());
        }
        trial.over();
        outcome
    }

    /// Whether the service is well, and what came of it.
    fn judge(&self, result: Result<Answer, Failure>) -> (bool, Result<Bytes, Fault>) {
        let answer = match result {
            Ok(answer) => answer,
            // Its name may be found again, like a connection.
            Err(failure @ Failure::Refused(Refusal::Unresolved(..))) => {
                return (false, Err(passing(failure)));
            }
            Err(failure @ (Failure::Refused(_) | Failure::TooLarge(_))) => {
                return (true, Err(Fault::invalid(failure)));
            }
            Err(failure) => return (false, Err(passing(failure))),
        };
        let status = answer.status;
        if (200..300).contains(&status) || self.accept.contains(&status) {
            return (true, shown(&answer));
        }
        let shown: String = String::from_utf8_lossy(&answer.body).chars().take(200).collect();
        let reason = format!("the service answered {status}: {shown}");
        match status {
            408 | 425 | 429 | 500..=599 => (status < 500, Err(passing(reason))),
            _ => (true, Err(Fault::invalid(reason))),
        }
    }
}

fn passing(reason: impl ToString) -> Fault {
    Fault::new(FaultKind::Service, reason)
}

fn set_headers(headers: &mut HeaderMap, json: &Bytes) -> Result<(), Fault> {
    let wrong = |reason: &str| Fault::invalid(format!("the program for 'headers' {reason}"));
    let fields: serde_json::Map<String, Json> =
        serde_json::from_slice(json).map_err(|_| wrong("must give an object"))?;
    for (name, value) in fields {
        let text = match value {
            Json::String(text) => text,
            Json::Number(number) => number.to_string(),
            _ => return Err(wrong(&format!("gives '{name}' what is no text"))),
        };
        let parsed = (HeaderName::from_bytes(name.as_bytes()), HeaderValue::from_str(&text));
        let (Ok(name), Ok(value)) = parsed else { return Err(wrong(&format!("gives '{name}' wrongly"))) };
        headers.insert(name, value);
    }
    Ok(())
}

/// `{status, headers, body}`.
fn shown(answer: &Answer) -> Result<Bytes, Fault> {
    let content_type = answer.headers.get(http::header::CONTENT_TYPE).and_then(|it| it.to_str().ok());
    let body = match content_type {
        _ if answer.body.is_empty() => Bytes::from_static(b"null"),
        // Bodies without a type are mostly JSON, as in messages.
        it => waystation_content::to_json(it, &answer.body)
            .map_err(|error| Fault::content(format!("the service's answer: {error}")))?,
    };
    let headers: serde_json::Map<String, Json> = answer
        .headers
        .iter()
        .filter_map(|(name, value)| Some((name.to_string(), json!(value.to_str().ok()?))))
        .collect();
    let head = format!("{{\"status\":{},\"headers\":{},\"body\":", answer.status, Json::Object(headers));
    Ok(Bytes::from([head.as_bytes(), &body[..], b"}"].concat()))
}

/// What tells requests apart.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Key(Method, String, Vec<(String, Vec<u8>)>, Bytes);

impl Key {
    fn of(request: &Request) -> Key {
        // A trace is of a message and says nothing of the answer.
        let counts = |name: &HeaderName| name.as_str() != "traceparent";
        let headers = request.headers.iter().filter(|(name, _)| counts(name));
        let mut headers: Vec<_> =
            headers.map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
        headers.sort();
        Key(request.method.clone(), request.url.to_string(), headers, request.body.clone())
    }

    /// Bytes of it.
    fn size(&self) -> usize {
        let Key(method, url, headers, body) = self;
        let headers: usize = headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        method.as_str().len() + url.len() + headers + body.len()
    }
}

/// Answers that are kept, bounded by number, bytes and time. In memory: after a restart services are asked again.
struct Cache {
    ttl_ms: u64,
    entries: usize,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    answers: HashMap<Key, (Millis, Bytes)>,
    /// By age.
    order: VecDeque<(Millis, Key)>,
    bytes: usize,
}

impl fmt::Debug for Cache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Cache({} ms, {})", self.ttl_ms, self.entries)
    }
}

impl Cache {
    fn kept(&self) -> std::sync::MutexGuard<'_, Kept> {
        // What a panic left behind is still a set of answers.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn get(&self, key: &Key, now: Millis) -> Option<Bytes> {
        self.kept().answers.get(key).filter(|(until, _)| *until > now).map(|(_, answer)| answer.clone())
    }

    fn put(&self, key: Key, answer: Bytes, now: Millis) {
        let mut kept = self.kept();
        let until = now.plus(self.ttl_ms);
        let key_bytes = key.size();
        kept.bytes += key_bytes + answer.len();
        if let Some((_, old)) = kept.answers.insert(key.clone(), (until, answer)) {
            kept.bytes -= key_bytes + old.len();
        }
        kept.order.push_back((until, key));
        while kept.answers.len() > self.entries
            || kept.bytes > CACHE_BYTES_MAX
            || kept.order.front().is_some_and(|(until, _)| *until <= now)
        {
            let Some((until, key)) = kept.order.pop_front() else { break };
            // One that was kept anew meanwhile stands further behind.
            if kept.answers.get(&key).is_some_and(|(at, _)| *at == until)
                && let Some((_, old)) = kept.answers.remove(&key)
            {
                kept.bytes -= key.size() + old.len();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(number: usize) -> Key {
        Key(Method::GET, number.to_string(), Vec::new(), Bytes::new())
    }

    #[test]
    fn answers_are_kept_for_a_time_and_bounded_by_number_and_bytes() {
        let cache = Cache { ttl_ms: 10, entries: 2, kept: Mutex::default() };
        let at = Millis;
        cache.put(key(1), "a".into(), at(0));
        assert_eq!(cache.get(&key(1), at(9)), Some("a".into()));
        assert_eq!(cache.get(&key(1), at(10)), None);
        cache.put(key(1), "b".into(), at(10));
        cache.put(key(2), "c".into(), at(11));
        assert_eq!(
            (cache.get(&key(1), at(11)), cache.get(&key(2), at(11))),
            (Some("b".into()), Some("c".into()))
        );
        cache.put(key(3), "d".into(), at(12));
        assert_eq!((cache.get(&key(1), at(12)), cache.get(&key(3), at(12))), (None, Some("d".into())));
        let big = |fill: u8| Bytes::from(vec![fill; CACHE_BYTES_MAX / 2 + 1]);
        cache.put(key(4), big(4), at(13));
        cache.put(key(5), big(5), at(13));
        assert_eq!(cache.get(&key(4), at(13)), None);
        assert!(cache.get(&key(5), at(13)).is_some());
        assert_eq!(cache.kept().bytes, CACHE_BYTES_MAX / 2 + 1 + key(5).size());
        cache.put(key(6), Bytes::new(), at(100));
        let kept = cache.kept();
        assert_eq!((kept.answers.len(), kept.order.len(), kept.bytes), (1, 1, key(6).size()));
    }

    #[test]
    fn what_tells_requests_apart_counts_against_the_bytes_of_the_cache() {
        let cache = Cache { ttl_ms: 10, entries: 9, kept: Mutex::default() };
        let asked = |fill: u8, bytes: usize| {
            let headers = vec![("h".to_owned(), b"v".to_vec())];
            Key(Method::GET, "u".to_owned(), headers, Bytes::from(vec![fill; bytes]))
        };
        // Of each: "GET", "u", "h" and "v" beside the body.
        let most = CACHE_BYTES_MAX / 2 - 6;
        for fill in [1, 2, 1] {
            cache.put(asked(fill, most), Bytes::new(), Millis(0));
        }
        let shown = |kept: &Kept| (kept.answers.len(), kept.bytes);
        assert_eq!(shown(&cache.kept()), (2, CACHE_BYTES_MAX));
        cache.put(key(1), Bytes::new(), Millis(0));
        assert!(
            cache.get(&asked(1, most), Millis(0)).is_some()
                != cache.get(&asked(2, most), Millis(0)).is_some()
        );
        assert!(cache.kept().bytes <= CACHE_BYTES_MAX);
    }

    #[test]
    fn a_service_whose_name_is_not_found_now_is_asked_again_and_one_out_of_bounds_is_not() {
        let spec =
            serde_json::from_value(json!({"url": "\"http://a\"", "merge": "."})).expect("a declaration");
        let enrich = Enrich::compile("steps[0].enrich", &spec).expect("a step");
        let judge = |refusal| {
            let (is_well, outcome) = enrich.judge(Err(Failure::Refused(refusal)));
            (is_well, outcome.expect_err("nothing was answered").kind)
        };
        assert_eq!(
            judge(Refusal::Unresolved("a".into(), "no such name".into())),
            (false, FaultKind::Service)
        );
        assert_eq!(judge(Refusal::UserInfo), (true, FaultKind::Invalid));
    }

    #[test]
    fn an_answer_is_shown_as_status_headers_and_body() {
        let mut answer = Answer { status: 200, body: "{\"a\":{}}".into(), ..Answer::default() };
        answer.headers.insert("content-type", HeaderValue::from_static("application/json"));
        let json: Json = serde_json::from_slice(&shown(&answer).expect("JSON")).expect("JSON");
        assert_eq!(
            json,
            json!({"status": 200, "headers": {"content-type": "application/json"}, "body": {"a": {}}})
        );
        let empty = Answer { status: 404, ..Answer::default() };
        let json: Json = serde_json::from_slice(&shown(&empty).expect("JSON")).expect("JSON");
        assert_eq!(json, json!({"status": 404, "headers": {}, "body": null}));
    }
}
