//! What does a worker get, and what does it give back?

use bytes::Bytes;
use waystation_base::Millis;
use waystation_host::Delivery;

use crate::{
    CallId, Fault, ResultHead,
    limits::{RESULT_BYTES_MAX, RESULT_HEADER_BYTES_MAX, RESULT_HEADERS_MAX},
};

/// A call in a worker's hands.
#[derive(Clone, Debug)]
pub struct Work {
    /// The call.
    pub id: CallId,
    /// How often somebody has begun with it, this time included; complete it under this number.
    pub attempt: u32,
    /// Until when it is this worker's alone.
    pub held_until: Millis,
    /// The request: body and headers.
    pub delivery: Delivery,
}

/// What a worker gives back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status, 200 to 599; from 400 on the call has failed.
    pub status: u16,
    /// Header fields, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Bytes,
    /// Why it failed, in the worker's words; without a body it becomes a problem.
    pub error: Option<String>,
}

impl Answer {
    /// A success with a message's body and the headers that a result keeps.
    pub fn of(message: &waystation_base::Message) -> Answer {
        Answer {
            status: 200,
            headers: crate::reply::headers(message),
            body: message.body.clone(),
            error: None,
        }
    }

    /// Why it cannot be kept as it is; none: it can.
    pub fn fault(&self) -> Option<Fault> {
        let bytes: usize = self.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
        let detail = if !(200..=599).contains(&self.status) {
            format!("the worker's status {} does not lie between 200 and 599", self.status)
        } else if self.body.len() > RESULT_BYTES_MAX {
            format!("the result has {} bytes; {RESULT_BYTES_MAX} are kept", self.body.len())
        } else if self.headers.len() > RESULT_HEADERS_MAX || bytes > RESULT_HEADER_BYTES_MAX {
            format!(
                "the result has {} headers of {bytes} bytes; {RESULT_HEADERS_MAX} of {RESULT_HEADER_BYTES_MAX} are kept",
                self.headers.len()
            )
        } else {
            return None;
        };
        Some(Fault::new(502, "call-result-unusable", &detail))
    }

    /// The part without the body.
    pub(crate) fn head(&self) -> ResultHead {
        ResultHead { status: self.status, headers: self.headers.clone(), bytes: self.body.len() as u64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(change: impl FnOnce(&mut Answer), is_kept: bool) {
        let mut answer = Answer { status: 200, ..Answer::default() };
        change(&mut answer);
        assert_eq!(answer.fault().is_none(), is_kept);
    }

    #[test]
    fn each_bound_of_a_result_holds_at_it_and_past_it() {
        check(|_| (), true);
        check(|a| a.status = 199, false);
        check(|a| a.status = 599, true);
        check(|a| a.status = 600, false);
        check(|a| a.body = vec![0; RESULT_BYTES_MAX].into(), true);
        check(|a| a.body = vec![0; RESULT_BYTES_MAX + 1].into(), false);
        let field = || ("a".to_owned(), "b".to_owned());
        check(|a| a.headers = vec![field(); RESULT_HEADERS_MAX], true);
        check(|a| a.headers = vec![field(); RESULT_HEADERS_MAX + 1], false);
        check(|a| a.headers = vec![("a".into(), "b".repeat(RESULT_HEADER_BYTES_MAX - 1))], true);
        check(|a| a.headers = vec![("a".into(), "b".repeat(RESULT_HEADER_BYTES_MAX))], false);
    }
}
