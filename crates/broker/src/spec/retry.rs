//! When is what failed tried again, and when is it given up?
//!
//! The policy knows nothing of messages: it is asked with the number of the attempt, an age and a number that stands for chance.
//! The same question has the same answer always, so that a restart or a simulation finds what was found before.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use waystation_base::limits::DELAY_MS_MAX;

use super::{Error, check_range, error};

/// Attempts that a policy may allow.
pub const ATTEMPTS_MAX: u32 = 10_000;
/// Times that an exponential pause may grow from one attempt to the next.
pub const FACTOR_MAX: u32 = 100;
/// Error classes of one policy.
pub const CLASSES_MAX: usize = 32;
/// Bytes of the name of an error class.
pub const CLASS_BYTES_MAX: usize = 64;

/// The class of a message whose consumer went away while it held it.
pub const CONSUMER_LOST: &str = "consumer_lost";
/// The class of a message whose lease ended before it was settled.
pub const LEASE_ENDED: &str = "lease_ended";

/// How pauses grow with the attempts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Backoff {
    /// Always the first pause.
    Constant,
    /// By the first pause with each attempt.
    Linear,
    /// `factor` times as long with each attempt.
    #[default]
    Exponential,
}

impl Backoff {
    /// Milliseconds to wait after attempt number `attempt` (1: the first) failed, at most `most_ms`.
    pub fn pause_ms(self, first_ms: u64, factor: u32, most_ms: u64, attempt: u32) -> u64 {
        let before = attempt.saturating_sub(1);
        let times = match self {
            Backoff::Constant => 1,
            Backoff::Linear => u64::from(attempt.max(1)),
            Backoff::Exponential => u64::from(factor).saturating_pow(before),
        };
        first_ms.saturating_mul(times).min(most_ms)
    }
}

/// A pause of which chance takes away up to so many percent, so that not all come back at once.
pub fn jittered_ms(pause_ms: u64, jitter_percent: u8, chance: u64) -> u64 {
    let most = u128::from(pause_ms) * u128::from(jitter_percent.min(100)) / 100;
    pause_ms - (u128::from(chance) % (most + 1)) as u64
}

/// How what failed is tried again. All fields have defaults; an unknown one is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct RetryPolicy {
    /// How pauses grow.
    pub backoff: Backoff,
    /// Milliseconds until the second attempt.
    pub first_ms: u64,
    /// With `exponential`: how many times as long each further pause is.
    pub factor: u32,
    /// Milliseconds that no pause passes.
    pub most_ms: u64,
    /// Percent of each pause that chance may take away.
    pub jitter_percent: u8,
    /// Attempts after which it is given up; none: no limit but `max_attempts`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    /// It is given up when the next attempt would come so many milliseconds after the message; none: no limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms_max: Option<u64>,
    /// What is different for errors of a class.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub classes: BTreeMap<String, ClassPolicy>,
}

impl Default for RetryPolicy {
    fn default() -> RetryPolicy {
        RetryPolicy {
            backoff: Backoff::default(),
            first_ms: 1_000,
            factor: 2,
            most_ms: 60 * 60 * 1000,
            jitter_percent: 50,
            attempts_max: None,
            age_ms_max: None,
            classes: BTreeMap::new(),
        }
    }
}

/// What is different for errors of a class; what is not said is as with all others. An unknown field is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct ClassPolicy {
    /// It will not get better: given up at once.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub give_up: bool,
    /// How pauses grow.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backoff: Option<Backoff>,
    /// Milliseconds until the second attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_ms: Option<u64>,
    /// With `exponential`: how many times as long each further pause is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub factor: Option<u32>,
    /// Milliseconds that no pause passes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub most_ms: Option<u64>,
    /// Percent of each pause that chance may take away.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jitter_percent: Option<u8>,
    /// Attempts, of whatever class, after which an error of this class is the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    /// It is given up when the next attempt would come so many milliseconds after the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms_max: Option<u64>,
}

/// A failed attempt, as far as it matters whether there is another one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failed<'a> {
    /// Its number; 1 is the first.
    pub attempt: u32,
    /// Milliseconds since the message came.
    pub age_ms: u64,
    /// The class of its error, if it has one.
    pub class: Option<&'a str>,
    /// Milliseconds to wait instead of the policy's pause.
    pub delay_ms: Option<u64>,
    /// Any number, the same when the same is asked again.
    pub chance: u64,
}

/// What becomes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is tried again after so many milliseconds.
    Again {
        /// How many.
        pause_ms: u64,
    },
    /// It is given up.
    GivenUp(Limit),
}

/// Why something is given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Its error is of a class that does not get better.
    Class,
    /// There were as many attempts as there may be.
    Attempts,
    /// The next attempt would come too late.
    Age,
}

impl RetryPolicy {
    /// A policy of which some fields are given, laid over one that stands for the others.
    pub fn over(
        silent: &RetryPolicy,
        given: serde_json::Map<String, serde_json::Value>,
    ) -> serde_json::Result<RetryPolicy> {
        let mut all = serde_json::to_value(silent)?;
        all.as_object_mut().expect("a policy has fields").extend(given);
        serde_json::from_value(all)
    }

    /// What becomes of a failed attempt.
    pub fn judge(&self, failed: &Failed<'_>) -> Verdict {
        let rule = self.rule(failed.class);
        if rule.give_up {
            return Verdict::GivenUp(Limit::Class);
        }
        if rule.attempts_max.is_some_and(|most| failed.attempt >= most) {
            return Verdict::GivenUp(Limit::Attempts);
        }
        let pause_ms = failed.delay_ms.unwrap_or_else(|| rule.pause_ms(failed.attempt, failed.chance));
        match rule.age_ms_max {
            Some(most) if failed.age_ms.saturating_add(pause_ms) >= most => Verdict::GivenUp(Limit::Age),
            _ => Verdict::Again { pause_ms },
        }
    }

    /// The policy for one class of errors: its own words go before the common ones.
    fn rule(&self, class: Option<&str>) -> Rule {
        let own = class.and_then(|class| self.classes.get(class));
        Rule {
            give_up: own.is_some_and(|own| own.give_up),
            backoff: own.and_then(|own| own.backoff).unwrap_or(self.backoff),
            first_ms: own.and_then(|own| own.first_ms).unwrap_or(self.first_ms),
            factor: own.and_then(|own| own.factor).unwrap_or(self.factor),
            most_ms: own.and_then(|own| own.most_ms).unwrap_or(self.most_ms),
            jitter_percent: own.and_then(|own| own.jitter_percent).unwrap_or(self.jitter_percent),
            attempts_max: own.and_then(|own| own.attempts_max).or(self.attempts_max),
            age_ms_max: own.and_then(|own| own.age_ms_max).or(self.age_ms_max),
        }
    }

    /// Checks each field against its limits, and those of the classes.
    pub fn check(&self) -> Result<(), Error> {
        self.rule(None).check()?;
        if self.classes.len() > CLASSES_MAX {
            let count = self.classes.len();
            return Err(error("retry.classes", format!("there may be {CLASSES_MAX}, these are {count}")));
        }
        self.classes.keys().try_for_each(|class| {
            let wrong = |error: Error| Error { reason: format!("class '{class}': {error}"), ..error };
            check_class(class)?;
            self.rule(Some(class)).check().map_err(wrong)
        })
    }
}

fn check_class(class: &str) -> Result<(), Error> {
    if class.is_empty() || class.len() > CLASS_BYTES_MAX {
        return Err(error("retry.classes", format!("a class has 1 to {CLASS_BYTES_MAX} bytes: '{class}'")));
    }
    Ok(())
}

/// What holds for one class.
struct Rule {
    give_up: bool,
    backoff: Backoff,
    first_ms: u64,
    factor: u32,
    most_ms: u64,
    jitter_percent: u8,
    attempts_max: Option<u32>,
    age_ms_max: Option<u64>,
}

impl Rule {
    fn pause_ms(&self, attempt: u32, chance: u64) -> u64 {
        let pause_ms = self.backoff.pause_ms(self.first_ms, self.factor, self.most_ms, attempt);
        jittered_ms(pause_ms, self.jitter_percent, chance)
    }

    fn check(&self) -> Result<(), Error> {
        check_range("retry.most_ms", Some(self.most_ms), 0, DELAY_MS_MAX)?;
        check_range("retry.first_ms", Some(self.first_ms), 0, self.most_ms)?;
        check_range("retry.factor", Some(self.factor.into()), 1, FACTOR_MAX.into())?;
        check_range("retry.jitter_percent", Some(self.jitter_percent.into()), 0, 100)?;
        check_range("retry.attempts_max", self.attempts_max.map(u64::from), 1, ATTEMPTS_MAX.into())?;
        check_range("retry.age_ms_max", self.age_ms_max, 1, DELAY_MS_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exact(backoff: Backoff) -> RetryPolicy {
        RetryPolicy { backoff, first_ms: 100, most_ms: 1_000, jitter_percent: 0, ..RetryPolicy::default() }
    }

    fn pauses(policy: &RetryPolicy, class: Option<&str>, attempts: &[u32]) -> Vec<u64> {
        let pause = |attempt: &u32| {
            let failed = Failed { attempt: *attempt, class, ..Failed::default() };
            let Verdict::Again { pause_ms } = policy.judge(&failed) else { panic!("{failed:?}") };
            pause_ms
        };
        attempts.iter().map(pause).collect()
    }

    #[test]
    fn pauses_stay_grow_by_steps_or_multiply_up_to_the_cap() {
        let attempts = [0, 1, 2, 3, 4, 5, 11, u32::MAX];
        let check = |policy: &RetryPolicy, expected: [u64; 8]| {
            assert_eq!(pauses(policy, None, &attempts), expected, "{policy:?}");
        };
        check(&exact(Backoff::Constant), [100; 8]);
        check(&exact(Backoff::Linear), [100, 100, 200, 300, 400, 500, 1_000, 1_000]);
        check(&exact(Backoff::Exponential), [100, 100, 200, 400, 800, 1_000, 1_000, 1_000]);
        let triple = RetryPolicy { factor: 3, ..exact(Backoff::Exponential) };
        check(&triple, [100, 100, 300, 900, 1_000, 1_000, 1_000, 1_000]);
    }

    #[test]
    fn chance_takes_up_to_the_jitter_and_the_same_chance_the_same() {
        for (percent, least) in [(0, 1_000), (50, 500), (100, 0)] {
            let all: Vec<u64> = (0..5_000).map(|chance| jittered_ms(1_000, percent, chance)).collect();
            assert_eq!((all.iter().min(), all.iter().max()), (Some(&least), Some(&1_000)), "{percent}");
        }
        assert_eq!(jittered_ms(u64::MAX, 100, u64::MAX), 0);
        assert_eq!(jittered_ms(7, 50, 12), jittered_ms(7, 50, 12));
    }

    #[test]
    fn it_is_given_up_by_attempts_by_age_or_by_class() {
        let mut policy = exact(Backoff::Constant);
        (policy.attempts_max, policy.age_ms_max) = (Some(3), Some(1_000));
        policy.classes.insert("bad".into(), ClassPolicy { give_up: true, ..ClassPolicy::default() });
        let check = |failed: Failed<'_>, expected: Verdict| {
            assert_eq!(policy.judge(&failed), expected, "{failed:?}");
        };
        let failed = Failed { attempt: 2, ..Failed::default() };
        check(Failed { age_ms: 899, ..failed }, Verdict::Again { pause_ms: 100 });
        check(Failed { age_ms: 900, ..failed }, Verdict::GivenUp(Limit::Age));
        check(Failed { age_ms: 900, delay_ms: Some(99), ..failed }, Verdict::Again { pause_ms: 99 });
        check(Failed { attempt: 3, ..failed }, Verdict::GivenUp(Limit::Attempts));
        check(Failed { attempt: 1, class: Some("bad"), ..failed }, Verdict::GivenUp(Limit::Class));
        check(Failed { class: Some("other"), ..failed }, Verdict::Again { pause_ms: 100 });
    }

    #[test]
    fn a_class_says_what_is_different_and_no_more() {
        let mut policy = exact(Backoff::Linear);
        policy.attempts_max = Some(3);
        let busy = ClassPolicy { first_ms: Some(7), attempts_max: Some(9), ..ClassPolicy::default() };
        policy.classes.insert("busy".into(), busy);
        assert_eq!(pauses(&policy, Some("busy"), &[1, 2, 8]), [7, 14, 56]);
        assert_eq!(pauses(&policy, None, &[1, 2]), [100, 200]);
    }

    #[test]
    fn each_field_is_checked_at_its_bound_and_past_it() {
        let check = |change: fn(&mut RetryPolicy), expected: Option<&str>| {
            let mut policy = RetryPolicy::default();
            change(&mut policy);
            assert_eq!(policy.check().err().map(|error| error.field), expected, "{policy:?}");
        };
        check(|_| (), None);
        check(|it| (it.first_ms, it.most_ms) = (0, 0), None);
        check(|it| it.first_ms = it.most_ms, None);
        check(|it| it.first_ms = it.most_ms + 1, Some("retry.first_ms"));
        check(|it| it.most_ms = DELAY_MS_MAX, None);
        check(|it| it.most_ms = DELAY_MS_MAX + 1, Some("retry.most_ms"));
        check(|it| it.factor = 0, Some("retry.factor"));
        check(|it| it.factor = FACTOR_MAX, None);
        check(|it| it.factor = FACTOR_MAX + 1, Some("retry.factor"));
        check(|it| it.jitter_percent = 100, None);
        check(|it| it.jitter_percent = 101, Some("retry.jitter_percent"));
        check(|it| it.attempts_max = Some(0), Some("retry.attempts_max"));
        check(|it| it.attempts_max = Some(ATTEMPTS_MAX), None);
        check(|it| it.attempts_max = Some(ATTEMPTS_MAX + 1), Some("retry.attempts_max"));
        check(|it| it.age_ms_max = Some(0), Some("retry.age_ms_max"));
        check(|it| it.age_ms_max = Some(DELAY_MS_MAX + 1), Some("retry.age_ms_max"));
    }

    #[test]
    fn classes_are_checked_by_number_name_and_field() {
        let check = |classes: Vec<(String, ClassPolicy)>, expected: Option<&str>| {
            let policy = RetryPolicy { classes: classes.into_iter().collect(), ..RetryPolicy::default() };
            assert_eq!(policy.check().err().map(|error| error.field), expected);
        };
        let many =
            |count: usize| (0..count).map(|n| (n.to_string(), ClassPolicy::default())).collect::<Vec<_>>();
        check(many(CLASSES_MAX), None);
        check(many(CLASSES_MAX + 1), Some("retry.classes"));
        check(vec![("x".repeat(CLASS_BYTES_MAX), ClassPolicy::default())], None);
        check(vec![("x".repeat(CLASS_BYTES_MAX + 1), ClassPolicy::default())], Some("retry.classes"));
        check(vec![(String::new(), ClassPolicy::default())], Some("retry.classes"));
        let over = ClassPolicy { first_ms: Some(DELAY_MS_MAX), ..ClassPolicy::default() };
        check(vec![("busy".into(), over)], Some("retry.first_ms"));
    }

    #[test]
    fn an_unknown_field_is_an_error_and_defaults_need_not_be_said() {
        let policy: RetryPolicy = serde_json::from_str("{}").expect("all defaults");
        assert_eq!(policy, RetryPolicy::default());
        for wrong in [r#"{"first": 1}"#, r#"{"classes": {"a": {"giveup": true}}}"#] {
            assert!(serde_json::from_str::<RetryPolicy>(wrong).is_err(), "{wrong}");
        }
    }
}
