//! How does a call, and how does its result, look as a response?

use std::collections::BTreeMap;

use axum::{
    body::Body,
    http::{HeaderName, HeaderValue, StatusCode, header},
    response::Response,
};
use waystation_base::Millis;
use waystation_calls::{Call, CallId, Record, ReplyTo, State, outcome};

use crate::{
    api::{self, CallReply, CallResult, Problem, media},
    failure::Failure,
};

/// Fields that say something about the connection, the framing or this server, and are not the worker's to set.
const OURS: [&str; 9] = [
    "connection",
    "content-length",
    "date",
    "keep-alive",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "content-security-policy",
];

/// Where a call is.
pub(super) fn path(id: CallId) -> String {
    format!("/v1/calls/{id}")
}

pub(super) fn links(id: CallId, is_finished: bool) -> BTreeMap<String, String> {
    let path = path(id);
    let result = is_finished.then(|| ("result".to_owned(), format!("{path}/result")));
    let cancel = (!is_finished).then(|| ("cancel".to_owned(), path.clone()));
    let events = ("events".to_owned(), path.clone());
    [("self".to_owned(), path), events].into_iter().chain(result).chain(cancel).collect()
}

/// A call as plain data.
pub(super) fn shown(call: &Call, now: Millis) -> api::Call {
    let record = &call.record;
    let result = record.result.as_ref().map(|result| CallResult {
        status: result.status,
        headers: result.headers.iter().cloned().collect(),
        bytes: result.bytes,
    });
    let is_finished = record.state.is_finished();
    api::Call {
        id: record.id.to_string(),
        operation: record.operation.to_string(),
        state: Some(record.state),
        version: record.version,
        created: record.created.0,
        age_ms: now.since(record.created),
        changed: Some(record.changed.0),
        deadline: Some(record.deadline.0).filter(|_| !is_finished),
        place: call.seen.place.filter(|_| call.seen.version == record.version),
        attempt: record.attempt,
        progress: record.progress.clone(),
        last_error: record.last_error.clone(),
        started: record.started.map(|at| at.0),
        finished: record.finished.map(|at| at.0),
        forget_at: record.forget_at().map(|at| at.0),
        callback: record.callback.clone(),
        callback_delivery: None,
        result,
        problem: problem(call),
        correlation_id: record.correlation_id.clone(),
        reply: record.reply.clone().map(|ReplyTo { to, state, error, .. }| CallReply { to, state, error }),
        retry_of: record.retry_of.map(|id| id.to_string()),
        retried_as: record.retried_as.map(|id| id.to_string()),
        links: links(record.id, is_finished).into_iter().chain(retries(record)).collect(),
    }
}

/// Where it can be tried anew, and where that was done.
fn retries(record: &Record) -> impl Iterator<Item = (String, String)> {
    let is_bad = record.state.is_finished() && record.state != State::Succeeded;
    let can = is_bad && record.is_request_kept && record.retried_as.is_none();
    let retry = can.then(|| ("retry".to_owned(), format!("{}/retry", path(record.id))));
    let to = |name: &str, id: Option<CallId>| id.map(|id| (name.to_owned(), path(id)));
    let others = [to("retried_as", record.retried_as), to("retry_of", record.retry_of)];
    retry.into_iter().chain(others.into_iter().flatten())
}

/// Why a call has no result.
fn problem(call: &Call) -> Option<Problem> {
    let fault = call.record.fault.as_ref()?;
    serde_json::from_value(outcome::problem(&call.record, fault)).ok()
}

/// Seconds after which to ask again: a quarter of its age, so that a quick call is seen soon and a long one costs little.
pub(super) fn retry_after_s(age_ms: u64) -> u64 {
    (age_ms / 4000).clamp(1, 60)
}

pub(super) fn etag(version: u32) -> String {
    format!("\"{version}\"")
}

pub(super) fn put(response: &mut Response, name: &'static str, value: &str) {
    // What is put here has neither line ends nor control characters.
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(HeaderName::from_static(name), value);
    }
}

/// The call itself, with what a client needs to come back for more.
pub(super) fn resource(status: StatusCode, shown: &api::Call) -> Result<Response, Failure> {
    let mut response = crate::adapter::json(status, shown)?;
    put(&mut response, "etag", &etag(shown.version));
    put(&mut response, "cache-control", "no-cache");
    if shown.finished.is_none() {
        put(&mut response, "retry-after", &retry_after_s(shown.age_ms).to_string());
    }
    Ok(response)
}

/// The result, as the worker gave it: status, headers and body; without one the problem.
pub(super) fn result(call: Call) -> Response {
    let (id, state) = (call.record.id, call.record.state);
    let mut response = match (&call.record.result, problem(&call)) {
        (Some(head), _) => {
            let status = StatusCode::from_u16(head.status).unwrap_or(StatusCode::OK);
            let headers = head.headers.clone();
            // RFC 9110 §15.3.5, §15.3.6, §15.4.5: these have no content.
            let is_bare = matches!(head.status, 204 | 205 | 304);
            let mut response =
                Response::new(Body::from(if is_bare { Default::default() } else { call.body }));
            *response.status_mut() = status;
            for (name, value) in headers.iter().filter(|(name, _)| !OURS.contains(&name.as_str())) {
                // What HTTP cannot carry was sorted out when the result was taken, or is left out here.
                if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::from_str(value)) {
                    response.headers_mut().append(name, value);
                }
            }
            response
        }
        (None, problem) => {
            let problem = problem.unwrap_or_default();
            let mut response = Response::new(Body::from(crate::failure::to_json(&problem)));
            *response.status_mut() =
                StatusCode::from_u16(problem.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media::PROBLEM));
            response
        }
    };
    put(&mut response, "content-location", &format!("{}/result", path(id)));
    put(&mut response, "ws-call", &id.to_string());
    put(&mut response, "ws-call-state", state.word());
    // A worker's page is not this server's: a browser must not run it in its name.
    put(&mut response, "content-security-policy", "sandbox");
    put(&mut response, "x-content-type-options", "nosniff");
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_asked_to_come_back_less_often_the_longer_it_takes() {
        let after = [0, 3_999, 8_000, 40_000, 240_000, 1 << 40].map(retry_after_s);
        assert_eq!(after, [1, 1, 2, 10, 60, 60]);
    }
}
