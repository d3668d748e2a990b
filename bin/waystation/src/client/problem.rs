//! What does an answer that is no success mean for the one who typed the command?

use std::error::Error;

use reqwest::{Response, StatusCode};
use waystation_http::api::Problem;

use crate::exit::{Exit, Failure};

/// No answer, or one that broke off.
pub fn unreachable(base: &str, error: &reqwest::Error) -> Failure {
    if error.is_builder() {
        return Failure::usage(format!("'{base}' is not a server's address: {}", chain(error)));
    }
    let failure = Failure::new(Exit::Unreachable, format!("cannot talk to {base}: {}", chain(error)));
    match error.is_connect() {
        true => {
            failure.advise("is the server running? `waystation serve` starts one; --server names another")
        }
        false => failure.advise("the connection broke; whether the request took effect is not known"),
    }
}

/// An answer that is an error.
pub async fn refusal(response: Response) -> Failure {
    let status = response.status();
    let body = response.bytes().await.unwrap_or_default();
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) if !problem.detail.is_empty() || !problem.title.is_empty() => told(&problem, status),
        _ => {
            let text = String::from_utf8_lossy(&body);
            let said = text.lines().next().unwrap_or_default();
            Failure::new(exit(status), format!("the server answered {status} {said}").trim_end())
        }
    }
}

/// A problem as a failure.
pub fn told(problem: &Problem, status: StatusCode) -> Failure {
    let detail = if problem.detail.is_empty() { &problem.title } else { &problem.detail };
    let exit = match problem.kind.rsplit(':').next() {
        Some("stopped" | "disk-low" | "memory-low") => Exit::Storage,
        Some("damaged") => Exit::Damaged,
        _ => exit(status),
    };
    let failure = Failure::new(exit, detail);
    let wait = problem.retry_after_s.map(|seconds| format!("try again in {seconds} s"));
    let permission =
        problem.permission.as_ref().map(|permission| format!("the token lacks the permission {permission}"));
    let token = (status == StatusCode::UNAUTHORIZED)
        .then(|| "give a token by --token or WAYSTATION_TOKEN; `waystation token new` makes one".to_owned());
    match wait.or(permission).or(token) {
        Some(advice) => failure.advise(advice),
        None => failure,
    }
}

/// The exit code for a status.
pub fn exit(status: StatusCode) -> Exit {
    match status {
        StatusCode::NOT_FOUND => Exit::NotFound,
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Exit::Denied,
        status if status.is_client_error() => Exit::Refused,
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::BAD_GATEWAY | StatusCode::GATEWAY_TIMEOUT => {
            Exit::Unreachable
        }
        _ => Exit::Failure,
    }
}

/// What is at the bottom of an error: the outer ones say only where it was met.
pub fn chain(error: &dyn Error) -> String {
    let mut last = error;
    while let Some(cause) = last.source() {
        last = cause;
    }
    last.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(problem: Problem, status: u16, expected: (Exit, &str, Option<&str>)) {
        let failure = told(&problem, StatusCode::from_u16(status).expect("a status"));
        let told = (failure.exit, failure.message.as_str(), failure.advice.as_deref());
        assert_eq!(told, expected);
    }

    #[test]
    fn a_problem_is_told_with_what_to_do() {
        let problem = |detail: &str| Problem { detail: detail.into(), ..Problem::default() };
        check(problem("no such queue"), 404, (Exit::NotFound, "no such queue", None));
        check(problem("it differs"), 409, (Exit::Refused, "it differs", None));
        let full = Problem { retry_after_s: Some(2), ..problem("full") };
        check(full, 429, (Exit::Refused, "full", Some("try again in 2 s")));
        let forbidden = Problem { permission: Some("publish".into()), ..problem("no") };
        check(forbidden, 403, (Exit::Denied, "no", Some("the token lacks the permission publish")));
        let title = Problem { title: "stopped".into(), ..Problem::default() };
        check(title, 503, (Exit::Unreachable, "stopped", None));
        let stopped = Problem { kind: "urn:waystation:problem:stopped".into(), ..problem("no sync") };
        check(stopped, 503, (Exit::Storage, "no sync", None));
        for kind in ["disk-low", "memory-low"] {
            let kind = format!("urn:waystation:problem:{kind}");
            let low = Problem { kind, retry_after_s: Some(30), ..problem("low") };
            check(low, 503, (Exit::Storage, "low", Some("try again in 30 s")));
        }
        assert!(told(&problem("who"), StatusCode::UNAUTHORIZED).advice.expect("advice").contains("--token"));
    }
}
