//! When is a failed delivery tried again, and when is it given up?

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
pub use waystation_outbound::{Invalid, backoff::PAUSE_MS_MAX, check_range};

/// Attempts that may be asked for.
pub const ATTEMPTS_MAX: u32 = 10_000;

/// What becomes of an answer 3xx or 4xx that has no meaning of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientErrors {
    /// It is tried again like any failure.
    #[default]
    Retry,
    /// It will not get better: given up at once.
    Final,
}

/// How failed deliveries are tried again. An unknown field is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// Attempts after which a message is given up; the source's own `max_attempts` counts too.
    pub attempts_max: u32,
    /// Milliseconds since it was stored after which it is given up; none: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms_max: Option<u64>,
    /// Milliseconds until the second attempt; each further pause is twice as long, less up to half by chance.
    pub first_ms: u64,
    /// Milliseconds that no pause passes, except at the receiver's word.
    pub most_ms: u64,
    /// Milliseconds up to which the receiver's `Retry-After` is honoured.
    pub retry_after_ms_max: u64,
    /// What becomes of answers 3xx and 4xx other than 408, 410, 425 and 429.
    pub client_errors: ClientErrors,
}

impl Default for Retry {
    fn default() -> Retry {
        Retry {
            attempts_max: 16,
            age_ms_max: None,
            first_ms: 5_000,
            most_ms: 60 * 60 * 1000,
            retry_after_ms_max: 24 * 60 * 60 * 1000,
            client_errors: ClientErrors::Retry,
        }
    }
}

impl Retry {
    /// Checks each field against its limits.
    pub fn check(&self) -> Result<(), Invalid> {
        check_range("retry.attempts_max", self.attempts_max.into(), 1, ATTEMPTS_MAX.into())?;
        check_range("retry.age_ms_max", self.age_ms_max.unwrap_or(1), 1, u64::MAX)?;
        check_range("retry.first_ms", self.first_ms, 1, PAUSE_MS_MAX)?;
        check_range("retry.most_ms", self.most_ms, self.first_ms, PAUSE_MS_MAX)?;
        check_range("retry.retry_after_ms_max", self.retry_after_ms_max, 0, PAUSE_MS_MAX)
    }

    /// Milliseconds to wait after attempt number `attempt` (1: the first) failed. `chance` is any number.
    pub fn pause_ms(&self, attempt: u32, retry_after_ms: Option<u64>, chance: u64) -> u64 {
        let pause = waystation_outbound::backoff::pause_ms(self.first_ms, self.most_ms, attempt, chance);
        pause.max(retry_after_ms.unwrap_or(0).min(self.retry_after_ms_max))
    }

    /// Whether attempt number `attempt` of a message of that age was the last.
    pub fn is_over(&self, attempt: u32, age_ms: u64, source_max: Option<u32>) -> bool {
        attempt >= source_max.unwrap_or(u32::MAX).min(self.attempts_max)
            || self.age_ms_max.is_some_and(|most| age_ms >= most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_chance_takes_at_most_half() {
        let retry = Retry { first_ms: 100, most_ms: 1_000, ..Retry::default() };
        for (attempt, longest) in [(1, 100), (2, 200), (4, 800), (5, 1_000), (64, 1_000), (u32::MAX, 1_000)] {
            assert_eq!(retry.pause_ms(attempt, None, 0), longest, "attempt {attempt}");
            let pauses: Vec<u64> = (0..2_000).map(|chance| retry.pause_ms(attempt, None, chance)).collect();
            assert_eq!(pauses.iter().min(), Some(&(longest - longest / 2)));
            assert_eq!(pauses.iter().max(), Some(&longest));
        }
    }

    #[test]
    fn the_receivers_word_prolongs_a_pause_within_the_cap() {
        let retry = Retry { first_ms: 100, most_ms: 1_000, retry_after_ms_max: 5_000, ..Retry::default() };
        assert_eq!(retry.pause_ms(1, Some(10), 0), 100);
        assert_eq!(retry.pause_ms(1, Some(5_000), 0), 5_000);
        assert_eq!(retry.pause_ms(1, Some(5_001), 0), 5_000);
    }

    #[test]
    fn a_message_is_given_up_by_attempts_or_by_age() {
        let retry = Retry { attempts_max: 3, age_ms_max: Some(1_000), ..Retry::default() };
        assert!(!retry.is_over(2, 999, None));
        assert!(retry.is_over(3, 0, None));
        assert!(retry.is_over(2, 1_000, None));
        assert!(retry.is_over(2, 0, Some(2)));
    }

    #[test]
    fn fields_are_checked_at_their_bounds_and_past_them() {
        let check = |change: fn(&mut Retry), expected: Option<&str>| {
            let mut retry = Retry::default();
            change(&mut retry);
            assert_eq!(retry.check().err().map(|error| error.field), expected, "{retry:?}");
        };
        check(|_| (), None);
        check(|it| it.attempts_max = 0, Some("retry.attempts_max"));
        check(|it| it.attempts_max = ATTEMPTS_MAX, None);
        check(|it| it.attempts_max = ATTEMPTS_MAX + 1, Some("retry.attempts_max"));
        check(|it| it.first_ms = it.most_ms, None);
        check(|it| it.first_ms = it.most_ms + 1, Some("retry.most_ms"));
        check(|it| it.most_ms = PAUSE_MS_MAX + 1, Some("retry.most_ms"));
        check(|it| it.retry_after_ms_max = PAUSE_MS_MAX + 1, Some("retry.retry_after_ms_max"));
    }
}
