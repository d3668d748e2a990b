//! What does an exchange mean for its call: is it the outcome, or is there to be another try? Pure.

use waystation_base::Millis;
use waystation_outbound::{
    backoff,
    class::Classes,
    exchange::{Answer, Failure},
};

use super::{request, spec::Upstream};
use crate::{AttemptEnd, Fault};

/// See the module.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is the outcome.
    Final(AttemptEnd),
    /// Try again, not before so many milliseconds if the upstream said so.
    Again { retry_after_ms: Option<u64> },
}

/// Judges one exchange.
pub(super) fn judge(result: &Result<Answer, Failure>, upstream: &Upstream, now: Millis) -> Verdict {
    match result {
        Ok(answer) if upstream.is_retried(answer.status) => {
            Verdict::Again { retry_after_ms: retry_after_ms(answer, now) }
        }
        Ok(_) | Err(Failure::TooLarge(_)) => Verdict::Final(last(result, upstream)),
        Err(Failure::Timeout(_) | Failure::Broken(_)) if !upstream.retry_unanswered => {
            Verdict::Final(last(result, upstream))
        }
        Err(_) => Verdict::Again { retry_after_ms: None },
    }
}

/// What a call ends with for which there is no other try.
pub(super) fn last(result: &Result<Answer, Failure>, upstream: &Upstream) -> AttemptEnd {
    let (status, kind, failure) = match result {
        Ok(answer) => {
            return AttemptEnd::Answered(request::result(answer.clone(), &upstream.response_headers));
        }
        Err(failure @ Failure::Timeout(_)) => (504, "call-upstream-timeout", failure),
        Err(failure @ Failure::TooLarge(_)) => (502, "call-result-unusable", failure),
        Err(failure @ (Failure::Refused(_) | Failure::NotConnected(_))) => {
            (502, "call-upstream-unreachable", failure)
        }
        Err(failure @ Failure::Broken(_)) => (502, "call-upstream-broken", failure),
    };
    AttemptEnd::Broken(Fault::new(status, kind, &format!("the upstream: {failure}")))
}

/// Whether it speaks against the upstream. One that answers more than can be taken is there all the same.
pub(super) fn is_failing(result: &Result<Answer, Failure>, upstream: &Upstream) -> bool {
    match result {
        Ok(answer) => upstream.is_retried(answer.status),
        Err(Failure::TooLarge(_)) => false,
        Err(_) => true,
    }
}

/// Milliseconds of the answer's `Retry-After`.
pub(super) fn retry_after_ms(answer: &Answer, now: Millis) -> Option<u64> {
    let value = answer.headers.get(http::header::RETRY_AFTER)?.to_str().ok()?;
    backoff::retry_after_ms(value, now)
}

/// What kind of failure it is, for the retry policy.
pub(super) fn classes(result: &Result<Answer, Failure>) -> Classes {
    match result {
        Ok(answer) => Classes::of_status(answer.status),
        Err(failure) => Classes::unanswered(failure.class()),
    }
}

/// What an exchange came to, in words.
pub(super) fn cause(result: &Result<Answer, Failure>) -> String {
    match result {
        Ok(answer) => format!("the upstream answered {}", answer.status),
        Err(failure) => format!("the upstream: {failure}"),
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn answer(status: u16) -> Result<Answer, Failure> {
        let headers = HeaderMap::from_iter([(http::header::RETRY_AFTER, HeaderValue::from_static("7"))]);
        Ok(Answer { status, headers, body: "x".into() })
    }

    #[test]
    fn each_kind_of_answer_and_failure_has_its_meaning() {
        let upstream = Upstream::default();
        let careful = Upstream { retry_unanswered: false, ..upstream.clone() };
        let again = |retry_after_ms| Verdict::Again { retry_after_ms };
        for status in [200, 204, 303, 404, 410, 501] {
            let verdict = judge(&answer(status), &upstream, Millis(0));
            let Verdict::Final(AttemptEnd::Answered(result)) = verdict else {
                panic!("{status}: {verdict:?}")
            };
            assert_eq!((result.status, &result.body[..]), (status, &b"x"[..]));
            assert!(!is_failing(&answer(status), &upstream));
        }
        for status in [408, 425, 429, 500, 502, 503, 504] {
            assert_eq!(judge(&answer(status), &upstream, Millis(0)), again(Some(7_000)), "{status}");
            assert!(is_failing(&answer(status), &upstream));
        }
        for (failure, is_sent, status) in [
            (Failure::NotConnected("no".into()), false, 502),
            (Failure::Timeout(5), true, 504),
            (Failure::Broken("cut".into()), true, 502),
        ] {
            let result = Err(failure);
            assert_eq!(judge(&result, &upstream, Millis(0)), again(None));
            let is_final =
                matches!(judge(&result, &careful, Millis(0)), Verdict::Final(AttemptEnd::Broken(_)));
            assert_eq!(is_final, is_sent, "{result:?}");
            let AttemptEnd::Broken(fault) = last(&result, &upstream) else { panic!("{result:?}") };
            assert_eq!(fault.status, status);
            assert!(is_failing(&result, &upstream));
        }
        let large = Err(Failure::TooLarge(8));
        assert!(matches!(judge(&large, &upstream, Millis(0)), Verdict::Final(AttemptEnd::Broken(_))));
        assert!(!is_failing(&large, &upstream));
    }
}
