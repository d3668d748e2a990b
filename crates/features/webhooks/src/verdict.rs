//! What does an answer mean for the delivery: done, again, given up, or nobody wants it any more?

use crate::{
    retry::{ClientErrors, Retry},
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
    let answer = match result {
        Err(Failure::TooLarge { .. } | Failure::Target(_)) => return Verdict::Final,
        Err(_) => return Verdict::Again { retry_after_ms: None },
        Ok(answer) => answer,
    };
    let again = Verdict::Again { retry_after_ms: answer.retry_after_ms };
    match answer.status {
        200..=299 => Verdict::Done,
        410 => Verdict::Gone,
        // RFC 9110 §15.5.9, RFC 8470 §5.2, RFC 6585 §4: these say themselves that another try may succeed.
        408 | 425 | 429 => again,
        300..=499 if retry.client_errors == ClientErrors::Final => Verdict::Final,
        _ => again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Result<Answer, Failure> {
        Ok(Answer { status, retry_after_ms: Some(7), ..Answer::default() })
    }

    #[test]
    fn each_class_of_answer_has_its_meaning() {
        let again = Verdict::Again { retry_after_ms: Some(7) };
        let (retrying, final_) =
            (Retry::default(), Retry { client_errors: ClientErrors::Final, ..Retry::default() });
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
