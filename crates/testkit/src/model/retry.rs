//! What an attempt that failed may come to, reckoned by the declaration and apart from the shard.

use waystation_base::{EntityId, Millis, Tag, limits::ERROR_TEXT_BYTES_MAX};
use waystation_broker::{
    Command,
    command::{Failure, Outcome},
    entry::{Fault, Reason},
    spec::{
        RetryPolicy,
        retry::{Backoff, CONSUMER_LOST, LEASE_ENDED},
    },
};

use super::{Cause, Item, Ledger, Outlet, Rules, State};

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(super) enum Ended {
    /// It was none.
    Released,
    /// The consumer said so.
    Failed(Failure),
    /// Its lease was over.
    LeaseOver,
    /// Its consumer went away.
    Lost,
    /// The server ended.
    Restarted,
}

/// What may become of a message then.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fates {
    /// Milliseconds until it is there again: the least and the most. None if it cannot be.
    pub(super) again: Option<(u64, u64)>,
    /// It may be given up for this reason.
    pub(super) over: Option<Reason>,
}

impl Ledger {
    /// How the attempt at a message ended, if it did.
    pub(super) fn ended(
        &self,
        id: EntityId,
        tag: Tag,
        item: &Item,
        cause: Cause<'_>,
        now: Millis,
    ) -> Option<Ended> {
        let State::Held { until, consumer } = item.state else { return None };
        let who = || consumer.and_then(|id| self.consumers.get(&id).or_else(|| self.retired.get(&id)));
        match cause {
            Cause::Command(Command::Transact(_)) => match self.outcome(id, tag, cause)? {
                &Outcome::Requeued { delay_ms } => {
                    Some(Ended::Failed(Failure { delay_ms: Some(delay_ms), ..Failure::default() }))
                }
                Outcome::Failed(failure) => Some(Ended::Failed(failure.clone())),
                Outcome::Lost => Some(Ended::Lost),
                Outcome::Released => Some(Ended::Released),
                Outcome::Accepted | Outcome::Rejected { .. } | Outcome::Withdrawn { .. } => None,
            },
            Cause::Command(Command::Detach(gone) | Command::Strand(gone)) => {
                (consumer == Some(*gone)).then_some(Ended::Lost)
            }
            Cause::Command(Command::CloseSession(session)) => {
                who().filter(|who| who.session == *session).map(|_| Ended::Lost)
            }
            Cause::Tick => (until <= now).then_some(Ended::LeaseOver),
            Cause::Recovery => (until == Millis::NEVER).then_some(Ended::Restarted),
            _ => None,
        }
    }
}

impl Outlet {
    fn retry(&self) -> Option<&RetryPolicy> {
        match &self.rules {
            Rules::Queue(spec) => spec.retry.as_deref(),
            Rules::Subscription(spec) => spec.retry.as_deref(),
        }
    }

    /// What may become of a message whose attempt ended so.
    pub(super) fn fates(&self, item: &Item, ended: &Ended, now: Millis) -> Fates {
        let again = |ms: u64| Fates { again: Some((ms, ms)), over: None };
        let over = |reason| Fates { again: None, over: Some(reason) };
        if let Ended::Released = ended {
            return again(0);
        }
        let exhausted = self.max_attempts().is_some_and(|most| item.attempts >= most);
        let (class, own) = match ended {
            Ended::Failed(failure) => (failure.class.as_deref(), failure.delay_ms),
            Ended::LeaseOver => (Some(LEASE_ENDED), None),
            Ended::Lost => (Some(CONSUMER_LOST), None),
            _ => (None, Some(0)),
        };
        let Some(policy) = self.retry() else {
            return if exhausted { over(Reason::Attempts) } else { again(own.unwrap_or(0)) };
        };
        let known = class.and_then(|class| policy.classes.get(class)).cloned();
        let has_class = known.is_some();
        let rule = known.unwrap_or_default();
        if rule.give_up {
            return over(Reason::Rejected);
        }
        let most = rule.attempts_max.or(policy.attempts_max);
        if exhausted || most.is_some_and(|most| item.attempts >= most) {
            return over(Reason::Attempts);
        }
        let own = if matches!(ended, Ended::Lost) && !has_class { Some(0) } else { own };
        let (least, longest) = own.map_or_else(|| pauses(policy, &rule, item.attempts), |own| (own, own));
        let Some(age_max) = rule.age_ms_max.or(policy.age_ms_max) else {
            return Fates { again: Some((least, longest)), over: None };
        };
        let message = &item.stored.message;
        let age = now.since(message.timestamp.max(message.deliver_at.unwrap_or_default()));
        Fates {
            // Of what was handed out before a restart the shard knows the age by its batch alone, which may be younger.
            again: (!item.known || age + least < age_max).then_some((least, longest)),
            over: (age + longest >= age_max).then_some(Reason::Age),
        }
    }
}

/// The shortest and the longest pause after an attempt.
fn pauses(
    policy: &RetryPolicy,
    class: &waystation_broker::spec::retry::ClassPolicy,
    attempt: u32,
) -> (u64, u64) {
    let first = class.first_ms.unwrap_or(policy.first_ms);
    let factor = u64::from(class.factor.unwrap_or(policy.factor));
    let grown = match class.backoff.unwrap_or(policy.backoff) {
        Backoff::Constant => first,
        Backoff::Linear => first * u64::from(attempt),
        Backoff::Exponential => (1..attempt).fold(first, |pause, _| pause.saturating_mul(factor)),
    };
    let longest = grown.min(class.most_ms.unwrap_or(policy.most_ms));
    let jitter = u64::from(class.jitter_percent.unwrap_or(policy.jitter_percent));
    (longest - longest * jitter / 100, longest)
}

/// What a consumer says of an attempt with its outcome.
pub(super) fn said(outcome: &Outcome) -> (Option<&str>, Option<&str>) {
    match outcome {
        Outcome::Failed(failure) => (failure.class.as_deref(), failure.error.as_deref()),
        Outcome::Rejected { error, class } => (class.as_deref(), error.as_deref()),
        _ => (None, None),
    }
}

/// Asserts that a dead letter will tell the error that its consumer gave, or that an earlier one gave.
pub(super) fn check_error(told: Option<&str>, outcome: Option<&Outcome>, before: Option<&Fault>) {
    let now = outcome.and_then(|outcome| said(outcome).1);
    if let Some(now) = now {
        assert_eq!(told, Some(&now[..now.len().min(ERROR_TEXT_BYTES_MAX)]));
        return;
    }
    let Some(before) = before.and_then(|fault| fault.text.as_deref()) else { return };
    match outcome {
        Some(outcome) if !matches!(outcome, Outcome::Lost) => assert_eq!(told, Some(before)),
        // What happened, and before that.
        _ => assert!(told.is_some_and(|told| told.ends_with(before)), "{told:?}, before that {before:?}"),
    }
}
