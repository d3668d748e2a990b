//! What does a change make of a call's record? Pure: the record and the change go in, the next record comes out.

use bytes::Bytes;
use waystation_base::Millis;
use waystation_broker::command::Outcome;

use crate::{
    Answer, AttemptEnd, Change, Error, Fault, Held, Progress, Record, State,
    record::cut,
    reply::{self, Reply},
};

/// The next record, and what goes with it into the same transaction.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Step {
    /// The record as it will be.
    pub record: Record,
    /// The body of its result.
    pub body: Bytes,
    /// The message on the operation's queue that is settled.
    pub settle: Option<(Held, Outcome)>,
}

/// Takes a step. The call is open; a change that does not apply to it is refused.
pub(crate) fn step(
    mut record: Record,
    change: &Change,
    max_attempts: u32,
    now: Millis,
) -> Result<Step, Error> {
    assert!(!record.state.is_finished(), "a finished call takes no step");
    let held = record.held;
    record.version += 1;
    record.changed = now;
    match change {
        Change::Begin { held, .. } => Ok(begin(record, *held, max_attempts, now)),
        Change::Progress { attempt, progress } => {
            check_attempt(&record, *attempt)?;
            report(record, progress, now)
        }
        Change::Complete { attempt, answer } => {
            check_attempt(&record, *attempt)?;
            Ok(answered(record, answer, now))
        }
        Change::Fail { attempt, error, retry, delay_ms } => {
            check_attempt(&record, *attempt)?;
            let retry = *retry && max_attempts > record.attempt;
            Ok(failed(record, error, retry, *delay_ms, now))
        }
        Change::Reply(delivery) => match reply::read(&delivery.message) {
            Reply::Progress(progress) => {
                record.attempt = record.attempt.max(1);
                report(record, &progress, now)
            }
            Reply::Answer(answer) => {
                record.attempt = record.attempt.max(1);
                Ok(answered(record, &answer, now))
            }
        },
        Change::Attempted { held, end, .. } => attempted(record, *held, end, max_attempts, now),
        Change::Cancel => {
            let fault = Fault::new(409, "call-cancelled", "the call was cancelled");
            Ok(finish(record, State::Cancelled, Err(fault), held, now))
        }
        Change::Expire => {
            let detail = "no worker gave an outcome before the call's time was over";
            let fault = Fault::new(504, "call-expired", detail);
            Ok(finish(record, State::Expired, Err(fault), held, now))
        }
        Change::Retry(_) => Err(Error::Open(record.state)),
        Change::Forget => Err(Error::Damaged("an open call is not forgotten".into())),
    }
}

/// The worker must be the one who has it now, if it says under which attempt it works.
fn check_attempt(record: &Record, attempt: Option<u32>) -> Result<(), Error> {
    match attempt {
        Some(attempt) if attempt != record.attempt => Err(Error::NotHeld(attempt)),
        _ => Ok(()),
    }
}

fn begin(mut record: Record, held: Held, max_attempts: u32, now: Millis) -> Step {
    if record.attempt >= max_attempts {
        // Workers took it and were not heard of again: whoever took it next might fare the same.
        let detail = format!("{} workers took the call and let their leases run out", record.attempt);
        record.last_error.get_or_insert_with(|| detail.clone());
        let fault = Fault::new(500, "call-attempts-used-up", &detail);
        return finish(record, State::Failed, Err(fault), Some(held), now);
    }
    record.state = State::Working;
    record.attempt += 1;
    record.held = Some(held);
    record.progress = None;
    record.started = record.started.or(Some(now));
    Step { record, body: Bytes::new(), settle: None }
}

/// An attempt was made by whoever holds the message. Whether he said that he began makes no difference.
fn attempted(
    mut record: Record,
    held: Held,
    end: &AttemptEnd,
    max_attempts: u32,
    now: Millis,
) -> Result<Step, Error> {
    match record.held {
        Some(present) if present == held => {}
        // The message went back to the queue meanwhile, and somebody else has begun with it.
        Some(present) if present.tag == held.tag && present.attempt > held.attempt => {
            return Err(Error::NotHeld(record.attempt));
        }
        _ => {
            record.attempt += 1;
            record.held = Some(held);
            record.started = record.started.or(Some(now));
        }
    }
    Ok(match end {
        AttemptEnd::Answered(answer) => {
            if answer.status >= 400 {
                record.last_error = Some(format!("the upstream answered {}", answer.status));
            }
            answered(record, answer, now)
        }
        AttemptEnd::Again { error, delay_ms } => {
            let retry = max_attempts > record.attempt;
            failed(record, error, retry, *delay_ms, now)
        }
        AttemptEnd::Broken(fault) => {
            record.last_error = Some(fault.detail.clone());
            finish(record, State::Failed, Err(fault.clone()), Some(held), now)
        }
    })
}

fn report(mut record: Record, progress: &Progress, now: Millis) -> Result<Step, Error> {
    record.state = State::Working;
    record.started = record.started.or(Some(now));
    let note = progress.note.as_deref().map(cut);
    record.progress = Some(Progress { percent: progress.percent.map(|percent| percent.min(100)), note });
    Ok(Step { record, body: Bytes::new(), settle: None })
}

fn answered(mut record: Record, answer: &Answer, now: Millis) -> Step {
    let held = record.held;
    if let Some(fault) = answer.fault() {
        return finish(record, State::Failed, Err(fault), held, now);
    }
    record.last_error = answer.error.clone().or(record.last_error);
    if let (Some(error), true) = (&answer.error, answer.body.is_empty()) {
        let fault = Fault::new(answer.status.max(400), "call-failed", error);
        return finish(record, State::Failed, Err(fault), held, now);
    }
    let is_failed = answer.status >= 400 || answer.error.is_some();
    let state = if is_failed { State::Failed } else { State::Succeeded };
    finish(record, state, Ok(answer), held, now)
}

fn failed(mut record: Record, error: &str, retry: bool, delay_ms: u64, now: Millis) -> Step {
    let held = record.held;
    record.last_error = Some(cut(error));
    if !retry {
        let fault = Fault::new(500, "call-failed", error);
        return finish(record, State::Failed, Err(fault), held, now);
    }
    record.state = State::Queued;
    record.held = None;
    record.progress = None;
    let settle = held.map(|held| (held, Outcome::Requeued { delay_ms }));
    Step { record, body: Bytes::new(), settle }
}

fn finish(
    mut record: Record,
    state: State,
    end: Result<&Answer, Fault>,
    held: Option<Held>,
    now: Millis,
) -> Step {
    record.state = state;
    record.finished = Some(now);
    record.held = None;
    record.progress = None;
    // A call that failed leaves its request in the queue's dead letters, if it has any.
    let error = record.last_error.clone().filter(|_| state == State::Failed);
    let outcome =
        if state == State::Failed { Outcome::Rejected { error, class: None } } else { Outcome::Accepted };
    let settle = held.map(|held| (held, outcome));
    let body = match end {
        Ok(answer) => {
            record.result = Some(answer.head());
            answer.body.clone()
        }
        Err(fault) => {
            record.fault = Some(fault);
            Bytes::new()
        }
    };
    Step { record, body, settle }
}

#[cfg(test)]
mod tests {
    use waystation_base::{Attempt, MessageId, Name, Tag};

    use super::*;
    use crate::CallId;

    const HELD: Held = Held { tag: Tag(9), attempt: Attempt(1) };

    fn begun() -> Change {
        Change::Begin { held: HELD, queue: Name::new("op").expect("a name") }
    }

    fn record() -> Record {
        crate::record::tests::record(CallId(MessageId::new(Millis(1), 7)))
    }

    fn working() -> Record {
        step(record(), &begun(), 3, Millis(5)).expect("begun").record
    }

    fn take(record: Record, change: Change) -> Step {
        step(record, &change, 3, Millis(9)).expect("taken")
    }

    fn complete(attempt: Option<u32>, status: u16, error: Option<&str>, body: &'static str) -> Change {
        let answer = Answer { status, error: error.map(str::to_owned), body: body.into(), headers: vec![] };
        Change::Complete { attempt, answer }
    }

    #[test]
    fn a_worker_begins_reports_and_completes() {
        let begun = working();
        assert_eq!((begun.state, begun.attempt, begun.started), (State::Working, 1, Some(Millis(5))));
        let progress = Progress { percent: Some(200), note: Some("x".into()) };
        let told = take(begun, Change::Progress { attempt: Some(1), progress }).record;
        assert_eq!(told.progress, Some(Progress { percent: Some(100), note: Some("x".into()) }));
        let done = take(told, complete(Some(1), 201, None, "ok"));
        assert_eq!(done.settle, Some((HELD, Outcome::Accepted)));
        assert_eq!((done.record.state, done.record.finished), (State::Succeeded, Some(Millis(9))));
        assert_eq!((done.record.version, done.record.held, &done.body[..]), (4, None, &b"ok"[..]));
        assert_eq!(done.record.result.map(|it| (it.status, it.bytes)), Some((201, 2)));
    }

    #[test]
    fn a_worker_of_an_earlier_attempt_is_refused() {
        let again = take(working(), begun()).record;
        assert_eq!(again.attempt, 2);
        let refused = step(again.clone(), &complete(Some(1), 200, None, ""), 3, Millis(9));
        assert_eq!(refused, Err(Error::NotHeld(1)));
        assert!(step(again, &complete(None, 200, None, ""), 3, Millis(9)).is_ok());
    }

    #[test]
    fn a_failure_is_tried_again_until_the_attempts_are_used_up() {
        let fail = |retry| Change::Fail { attempt: Some(1), error: "no".into(), retry, delay_ms: 7 };
        let again = take(working(), fail(true));
        assert_eq!((again.record.state, again.record.attempt), (State::Queued, 1));
        assert_eq!(again.settle, Some((HELD, Outcome::Requeued { delay_ms: 7 })));
        let last = step(working(), &fail(true), 1, Millis(9)).expect("taken");
        assert_eq!(last.record.state, State::Failed);
        assert_eq!(last.settle, Some((HELD, Outcome::Rejected { error: Some("no".into()), class: None })));
        let at_once = take(working(), fail(false)).record;
        assert_eq!(at_once.fault.map(|fault| (fault.status, fault.detail)), Some((500, "no".into())));
    }

    #[test]
    fn an_attempt_counts_once_whether_or_not_its_beginning_was_told() {
        let queue = Name::new("op").expect("a name");
        let attempted = |held, end| Change::Attempted { held, queue: queue.clone(), end };
        let answer = |status| Answer { status, body: "x".into(), ..Answer::default() };
        for (record, versions) in [(record(), 2), (working(), 3)] {
            let done = take(record.clone(), attempted(HELD, AttemptEnd::Answered(answer(200))));
            assert_eq!((done.record.state, done.record.attempt), (State::Succeeded, 1));
            assert_eq!((done.record.version, done.settle), (versions, Some((HELD, Outcome::Accepted))));
            let end = AttemptEnd::Again { error: "no".into(), delay_ms: 7 };
            let again = take(record.clone(), attempted(HELD, end.clone()));
            assert_eq!((again.record.state, again.record.attempt), (State::Queued, 1));
            assert_eq!(again.settle, Some((HELD, Outcome::Requeued { delay_ms: 7 })));
            let last = step(record.clone(), &attempted(HELD, end), 1, Millis(9)).expect("taken").record;
            assert_eq!((last.state, last.fault.map(|it| it.detail)), (State::Failed, Some("no".into())));
            let failed = take(record.clone(), attempted(HELD, AttemptEnd::Answered(answer(404))));
            assert_eq!(failed.record.result.map(|it| it.status), Some(404));
            assert!(matches!(failed.settle, Some((HELD, Outcome::Rejected { error: Some(_), .. }))));
            let fault = Fault::new(504, "call-upstream-timeout", "late");
            let broken = take(record, attempted(HELD, AttemptEnd::Broken(fault.clone())));
            assert_eq!((broken.record.state, broken.record.fault), (State::Failed, Some(fault)));
        }
        let earlier = Held { tag: HELD.tag, attempt: Attempt(0) };
        let change = attempted(earlier, AttemptEnd::Answered(answer(200)));
        assert_eq!(step(working(), &change, 3, Millis(9)), Err(Error::NotHeld(1)));
        // Somebody had it before under another lease, and lost it.
        let later = Held { tag: HELD.tag, attempt: Attempt(2) };
        let done = take(working(), attempted(later, AttemptEnd::Answered(answer(200))));
        assert_eq!((done.record.attempt, done.settle), (2, Some((later, Outcome::Accepted))));
    }

    #[test]
    fn a_call_whose_workers_never_come_back_fails_when_its_attempts_are_used_up() {
        let mut record = record();
        for attempt in 1..=3 {
            record = take(record, begun()).record;
            assert_eq!((record.state, record.attempt), (State::Working, attempt));
        }
        let end = take(record, begun());
        assert_eq!((end.record.state, end.record.attempt), (State::Failed, 3));
        assert_eq!(end.record.fault.map(|fault| fault.status), Some(500));
        assert!(matches!(end.settle, Some((HELD, Outcome::Rejected { error: Some(_), .. }))));
    }

    #[test]
    fn an_error_with_a_body_is_a_result_and_without_one_a_problem() {
        let with = take(record(), complete(None, 422, Some("no"), "{}")).record;
        assert_eq!((with.state, with.fault), (State::Failed, None));
        assert_eq!(with.result.map(|it| it.status), Some(422));
        let without = take(record(), complete(None, 422, Some("no"), "")).record;
        assert_eq!(without.result, None);
        assert_eq!(without.fault.map(|it| (it.status, it.detail)), Some((422, "no".into())));
        let plain = take(record(), complete(None, 404, None, "")).record;
        assert_eq!((plain.state, plain.result.map(|it| it.status)), (State::Failed, Some(404)));
        let wrong = take(record(), complete(None, 99, None, "x"));
        assert_eq!(wrong.record.fault.map(|it| it.status), Some(502));
        assert!(wrong.body.is_empty());
    }

    #[test]
    fn cancelling_and_expiring_take_the_message_from_the_worker_who_holds_it() {
        let cancelled = take(working(), Change::Cancel);
        assert_eq!(cancelled.settle, Some((HELD, Outcome::Accepted)));
        assert_eq!(cancelled.record.state, State::Cancelled);
        let expired = take(record(), Change::Expire);
        assert_eq!((expired.settle, expired.record.state), (None, State::Expired));
        assert_eq!(expired.record.fault.map(|fault| fault.status), Some(504));
    }
}
