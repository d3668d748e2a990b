//! What does an answer mean for the delivery: done, again, given up, or nobody wants it any more?

use waystation_outbound::class::Classes;

use crate::{
    retry::Retry,
    sender::{Answer, Failure},
};

/// See the module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// 2xx: it has arrived.
    Done,
    /// Try again, not before so many milliseconds if the receiver said so.
    Again {
        /// The receiver's `Retry-After`.
        retry_after_ms: Option<u64>,
    },
    /// Trying again is of no use.
    Final,
    /// 410: the endpoint wants nothing more, ever (Standard Webhooks, "Endpoint removal").
    Gone,
}

/// Judges one attempt.
pub fn judge(result: &Result<Answer, Failure>, retry: &Retry) -> Verdict {
    let retry_after_ms = match result {
        Err(Failure::TooLarge { .. } | Failure::Target(_)) => return Verdict::Final,
        Err(_) => None,
        Ok(answer) if (200..=299).contains(&answer.status) => return Verdict::Done,
        Ok(answer) if answer.status == 410 => return Verdict::Gone,
        Ok(answer) => answer.retry_after_ms,
    };
    if retry.gives_up(&classes(result)) { Verdict::Final } else { Verdict::Again { retry_after_ms } }
}

/// What kind of failure it is, for the retry policy.
pub fn classes(result: &Result<Answer, Failure>) -> Classes {
    match result {
        Ok(answer) => Classes::of_status(answer.status),
        Err(failure) => Classes::unanswered(failure.class()),
    }
}

#[cfg(test)]
mod tests {
    use waystation_broker::spec::retry::ClassPolicy;

    use super::*;

    fn answer(status: u16) -> Result<Answer, Failure> {
        Ok(Answer { status, retry_after_ms: Some(7), ..Answer::default() })
    }

    #[test]
    fn each_class_of_answer_has_its_meaning() {
        let again = Verdict::Again { retry_after_ms: Some(7) };
        let (retrying, mut final_) = (Retry::default(), Retry::default());
        for class in ["http_3xx", "http_4xx", "http_501"] {
            let give_up = ClassPolicy { give_up: true, ..ClassPolicy::default() };
            final_.policy.classes.insert(class.into(), give_up);
        }
        for (status, if_retry, if_final) in [
            (200, Verdict::Done, Verdict::Done),
            (204, Verdict::Done, Verdict::Done),
            (299, Verdict::Done, Verdict::Done),
            (302, again, Verdict::Final),
            (400, again, Verdict::Final),
            (404, again, Verdict::Final),
            (408, again, again),
            (410, Verdict::Gone, Verdict::Gone),
            (425, again, again),
            (429, again, again),
            (500, again, again),
            (501, again, Verdict::Final),
            (503, again, again),
            (599, again, again),
        ] {
            assert_eq!(judge(&answer(status), &retrying), if_retry, "{status}");
            assert_eq!(judge(&answer(status), &final_), if_final, "{status}");
        }
        let failed = Err(Failure::Timeout);
        assert_eq!(judge(&failed, &final_), Verdict::Again { retry_after_ms: None });
        assert_eq!(judge(&Err(Failure::TooLarge { bytes: 2, limit: 1 }), &retrying), Verdict::Final);
    }
}
