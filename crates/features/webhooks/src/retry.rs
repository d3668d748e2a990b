//! When is a failed delivery tried again, and when is it given up?

use std::sync::LazyLock;

use serde::{Deserialize, Deserializer};
use waystation_broker::spec::{
    self, RetryPolicy,
    retry::{Failed, Limit, Verdict},
};
use waystation_outbound::class::Classes;
pub use waystation_outbound::{Invalid, backoff::PAUSE_MS_MAX, check_range};

/// Milliseconds up to which `Retry-After` is honoured, unless a push says otherwise.
pub const RETRY_AFTER_MS: u64 = 24 * 60 * 60 * 1000;

/// What a push's retry policy is where it says nothing.
static SILENT: LazyLock<RetryPolicy> = LazyLock::new(|| RetryPolicy {
    first_ms: 5_000,
    most_ms: 60 * 60 * 1000,
    attempts_max: Some(16),
    ..RetryPolicy::default()
});

/// How failed deliveries are tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    /// When, how often and for how long.
    pub policy: RetryPolicy,
    /// Milliseconds up to which the receiver's `Retry-After` is honoured.
    pub retry_after_ms_max: u64,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry { policy: SILENT.clone(), retry_after_ms_max: RETRY_AFTER_MS }
    }
}

/// A policy as a push declares it.
pub(crate) fn read<'de, D: Deserializer<'de>>(from: D) -> Result<RetryPolicy, D::Error> {
    let given = serde_json::Map::deserialize(from)?;
    RetryPolicy::over(&SILENT, given).map_err(serde::de::Error::custom)
}

/// Checks a policy that a push declares.
pub(crate) fn check(policy: &RetryPolicy) -> Result<(), Invalid> {
    policy.check().map_err(|spec::Error { field, reason }| Invalid { field, reason })
}

/// A failed attempt.
#[derive(Clone, Copy, Debug)]
pub struct Attempted<'a> {
    /// Its number; 1 is the first.
    pub attempt: u32,
    /// Milliseconds since the message was stored.
    pub age_ms: u64,
    /// What went wrong.
    pub classes: &'a Classes,
    /// The receiver's `Retry-After`.
    pub retry_after_ms: Option<u64>,
    /// Any number.
    pub chance: u64,
}

impl Retry {
    /// Whether what failed in this way will not get better.
    pub fn gives_up(&self, classes: &Classes) -> bool {
        let class = Some(classes.known(|class| self.policy.classes.contains_key(class)));
        let failed = Failed { attempt: 0, class, ..Failed::default() };
        self.policy.judge(&failed) == Verdict::GivenUp(Limit::Class)
    }

    /// Milliseconds to wait for the next attempt; none if this one was the last.
    pub fn pause_ms(&self, failed: &Attempted<'_>) -> Option<u64> {
        let class = Some(failed.classes.known(|class| self.policy.classes.contains_key(class)));
        let Attempted { attempt, age_ms, chance, .. } = *failed;
        let asked_ms = failed.retry_after_ms.unwrap_or(0).min(self.retry_after_ms_max);
        let judge = |delay_ms| self.policy.judge(&Failed { attempt, age_ms, class, delay_ms, chance });
        match judge(None) {
            Verdict::Again { pause_ms } if pause_ms >= asked_ms => Some(pause_ms),
            // The receiver wants more time than the policy takes: that may be past its age.
            Verdict::Again { .. } => match judge(Some(asked_ms)) {
                Verdict::Again { pause_ms } => Some(pause_ms),
                Verdict::GivenUp(_) => None,
            },
            Verdict::GivenUp(_) => None,
        }
    }

    /// The longest pause: what is kept for want of dead letters is tried again after it.
    pub fn most_ms(&self) -> u64 {
        self.policy.most_ms.max(1)
    }
}

#[cfg(test)]
mod tests {
    use waystation_broker::spec::retry::{Backoff, ClassPolicy};

    use super::*;

    fn failed(classes: &Classes, attempt: u32, age_ms: u64, retry_after_ms: Option<u64>) -> Attempted<'_> {
        Attempted { attempt, age_ms, classes, retry_after_ms, chance: 0 }
    }

    fn with(change: impl FnOnce(&mut RetryPolicy)) -> Retry {
        let mut retry = Retry { retry_after_ms_max: 5_000, ..Retry::default() };
        (retry.policy.first_ms, retry.policy.most_ms, retry.policy.jitter_percent) = (100, 1_000, 0);
        change(&mut retry.policy);
        retry
    }

    #[test]
    fn pauses_follow_the_policy_and_the_receivers_word_when_that_is_longer() {
        let down = Classes::of_status(503);
        let check = |retry: &Retry, attempt, retry_after, expected| {
            assert_eq!(retry.pause_ms(&failed(&down, attempt, 0, retry_after)), expected, "{attempt}");
        };
        let exponential = with(|_| ());
        for (attempt, pause) in [(1, 100), (2, 200), (4, 800), (5, 1_000), (15, 1_000)] {
            check(&exponential, attempt, None, Some(pause));
        }
        check(&exponential, 1, Some(50), Some(100));
        check(&exponential, 1, Some(3_000), Some(3_000));
        check(&exponential, 1, Some(9_000), Some(5_000));
        check(&with(|it| it.backoff = Backoff::Constant), 9, None, Some(100));
        check(&with(|it| it.backoff = Backoff::Linear), 3, None, Some(300));
    }

    #[test]
    fn a_delivery_is_given_up_by_attempts_by_age_and_by_class() {
        let (down, absent) = (Classes::of_status(503), Classes::of_status(404));
        let retry = with(|it| {
            (it.attempts_max, it.age_ms_max) = (Some(3), Some(1_000));
            it.classes.insert("http_4xx".into(), ClassPolicy { give_up: true, ..ClassPolicy::default() });
        });
        assert_eq!(retry.pause_ms(&failed(&down, 2, 0, None)), Some(200));
        assert_eq!(retry.pause_ms(&failed(&down, 3, 0, None)), None);
        assert_eq!(retry.pause_ms(&failed(&down, 1, 899, None)), Some(100));
        assert_eq!(retry.pause_ms(&failed(&down, 1, 900, None)), None);
        assert_eq!(retry.pause_ms(&failed(&down, 1, 0, Some(2_000))), None, "asked for past its age");
        assert_eq!(retry.pause_ms(&failed(&absent, 1, 0, None)), None);
        assert!(retry.gives_up(&absent) && !retry.gives_up(&down));
        assert!(!retry.gives_up(&Classes::of_status(429)));
    }

    #[test]
    fn what_a_push_does_not_say_is_as_pushes_have_it() {
        let read = |json: &str| {
            let mut from = serde_json::Deserializer::from_str(json);
            read(&mut from).map_err(|error| error.to_string())
        };
        let policy = read(r#"{"backoff": "linear", "first_ms": 7}"#).expect("a policy");
        let expected = RetryPolicy { backoff: Backoff::Linear, first_ms: 7, ..SILENT.clone() };
        assert_eq!(policy, expected);
        assert_eq!(read(r#"{"attempts_max": null}"#).expect("a policy").attempts_max, None);
        assert!(read(r#"{"client_errors": "final"}"#).expect_err("unknown").contains("client_errors"));
    }
}
