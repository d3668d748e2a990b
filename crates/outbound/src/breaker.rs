//! When is an endpoint left alone for a while? After failures in a row it is suspended; then one request tries it, and its success
//! opens the way again. Only endpoints that fail are remembered.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::Millis;

use crate::{
    backoff::PAUSE_MS_MAX,
    range::{Invalid, check_range},
};

/// Failing endpoints that are remembered; a further one is not suspended.
pub const ENDPOINTS_MAX: usize = 10_000;
/// Milliseconds after which a trial that was never heard of again counts as failed.
const TRIAL_MS: u64 = 5 * 60 * 1000;
/// Milliseconds to wait while another request tries the endpoint.
const TRIAL_WAIT_MS: u64 = 1_000;

/// When an endpoint is suspended, and for how long. An unknown field is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Breaking {
    /// Failures in a row after which it is suspended.
    pub failures: u32,
    /// Milliseconds of the first suspension; each further one is twice as long.
    pub pause_ms: u64,
    /// Milliseconds that no suspension passes, except at the receiver's word.
    pub pause_ms_max: u64,
}

impl Default for Breaking {
    fn default() -> Breaking {
        Breaking { failures: 5, pause_ms: 5_000, pause_ms_max: 5 * 60 * 1000 }
    }
}

impl Breaking {
    /// Checks each field against its limits.
    pub fn check(&self) -> Result<(), Invalid> {
        check_range("breaker.failures", self.failures.into(), 1, 1_000_000)?;
        check_range("breaker.pause_ms", self.pause_ms, 1, PAUSE_MS_MAX)?;
        check_range("breaker.pause_ms_max", self.pause_ms_max, self.pause_ms, PAUSE_MS_MAX)
    }
}

/// Whether a request may go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Admission {
    /// As it likes.
    Free,
    /// As the one that tries a suspended endpoint.
    Trial,
    /// Not before this.
    Wait(Millis),
}

#[derive(Clone, Copy, Debug, Default)]
struct Failing {
    failures: u32,
    suspensions: u32,
    until: Option<Millis>,
    trial_until: Option<Millis>,
}

/// All endpoints of one sender.
#[derive(Debug, Default)]
pub struct Breakers(Mutex<HashMap<String, Failing>>);

impl Breakers {
    fn all(&self) -> MutexGuard<'_, HashMap<String, Failing>> {
        // What a panic left behind is still a picture of who fails.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks for one request.
    pub fn admit(&self, endpoint: &str, now: Millis) -> Admission {
        let mut all = self.all();
        let Some(failing) = all.get_mut(endpoint) else { return Admission::Free };
        match (failing.until, failing.trial_until) {
            (None, _) => Admission::Free,
            (Some(until), _) if now < until => Admission::Wait(until),
            (_, Some(until)) if now < until => Admission::Wait(now.plus(TRIAL_WAIT_MS)),
            _ => {
                failing.trial_until = Some(now.plus(TRIAL_MS));
                Admission::Trial
            }
        }
    }

    /// It answered well.
    pub fn succeeded(&self, endpoint: &str) {
        self.all().remove(endpoint);
    }

    /// A trial ended without saying anything about the endpoint.
    pub fn undecided(&self, endpoint: &str) {
        if let Some(failing) = self.all().get_mut(endpoint) {
            failing.trial_until = None;
        }
    }

    /// It failed; `retry_after_ms`: it asks to be left alone for so long. Gives until when it is suspended, if it is.
    pub fn failed(
        &self,
        endpoint: &str,
        breaking: &Breaking,
        retry_after_ms: Option<u64>,
        now: Millis,
    ) -> Option<Millis> {
        let mut all = self.all();
        if all.len() >= ENDPOINTS_MAX && !all.contains_key(endpoint) {
            return None;
        }
        let failing = all.entry(endpoint.to_owned()).or_default();
        failing.failures = failing.failures.saturating_add(1);
        let was_trial = failing.trial_until.take().is_some();
        // What was under way when it was suspended says nothing new.
        let is_suspended = failing.until.is_some_and(|until| until > now);
        let is_enough = !is_suspended && failing.failures.is_multiple_of(breaking.failures.max(1));
        if was_trial || is_enough {
            let doubled = 1u64.checked_shl(failing.suspensions).unwrap_or(u64::MAX);
            let pause = breaking.pause_ms.saturating_mul(doubled).min(breaking.pause_ms_max);
            failing.suspensions = failing.suspensions.saturating_add(1);
            failing.until = failing.until.max(Some(now.plus(pause)));
        }
        if let Some(ms) = retry_after_ms {
            failing.until = failing.until.max(Some(now.plus(ms)));
        }
        failing.until.filter(|until| *until > now)
    }

    /// Forgets an endpoint, because somebody says that it is well again.
    pub fn reset(&self, endpoint: &str) {
        self.succeeded(endpoint);
    }
}

/// Takes a trial back if its attempt is dropped on the way.
pub struct Trial<'a> {
    breakers: &'a Breakers,
    endpoint: &'a str,
    is_open: bool,
}

impl<'a> Trial<'a> {
    /// Watches over an attempt that was admitted so.
    pub fn new(breakers: &'a Breakers, endpoint: &'a str, admission: Admission) -> Trial<'a> {
        Trial { breakers, endpoint, is_open: admission == Admission::Trial }
    }

    /// The attempt has ended and is judged elsewhere.
    pub fn over(mut self) {
        self.is_open = false;
    }
}

impl Drop for Trial<'_> {
    fn drop(&mut self) {
        if self.is_open {
            self.breakers.undecided(self.endpoint);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const E: &str = "https://a.example/hook";

    fn breaking() -> Breaking {
        Breaking { failures: 3, pause_ms: 100, pause_ms_max: 300 }
    }

    #[test]
    fn an_endpoint_is_suspended_tried_once_and_resumed() {
        let (all, it) = (Breakers::default(), breaking());
        assert_eq!(all.admit(E, Millis(0)), Admission::Free);
        assert_eq!(all.failed(E, &it, None, Millis(0)), None);
        assert_eq!(all.failed(E, &it, None, Millis(1)), None);
        assert_eq!(all.admit(E, Millis(2)), Admission::Free);
        assert_eq!(all.failed(E, &it, None, Millis(2)), Some(Millis(102)));
        assert_eq!(all.admit(E, Millis(101)), Admission::Wait(Millis(102)));
        assert_eq!(all.admit("https://b.example/", Millis(101)), Admission::Free);
        assert_eq!(all.admit(E, Millis(102)), Admission::Trial);
        assert_eq!(all.admit(E, Millis(102)), Admission::Wait(Millis(102 + TRIAL_WAIT_MS)));
        all.succeeded(E);
        assert_eq!(all.admit(E, Millis(103)), Admission::Free);
    }

    #[test]
    fn requests_that_were_under_way_when_it_was_suspended_do_not_prolong_that() {
        let (all, it) = (Breakers::default(), breaking());
        for _ in 0..100 {
            all.failed(E, &it, None, Millis(0));
        }
        assert_eq!(all.admit(E, Millis(99)), Admission::Wait(Millis(100)));
        assert_eq!(all.admit(E, Millis(100)), Admission::Trial);
        assert_eq!(all.failed(E, &it, None, Millis(100)), Some(Millis(300)));
    }

    #[test]
    fn a_trial_that_fails_prolongs_the_suspension_up_to_its_bound() {
        let (all, it) = (Breakers::default(), breaking());
        for _ in 0..3 {
            all.failed(E, &it, None, Millis(0));
        }
        let mut now = Millis(100);
        for pause in [200, 300, 300] {
            assert_eq!(all.admit(E, now), Admission::Trial);
            assert_eq!(all.failed(E, &it, None, now), Some(now.plus(pause)));
            now = now.plus(pause);
        }
        assert_eq!(all.admit(E, now), Admission::Trial);
        all.undecided(E);
        assert_eq!(all.admit(E, now), Admission::Trial);
        // A trial that never ends is over some day.
        assert_eq!(all.admit(E, now.plus(TRIAL_MS)), Admission::Trial);
    }

    #[test]
    fn the_receivers_word_suspends_at_once() {
        let (all, it) = (Breakers::default(), breaking());
        assert_eq!(all.failed(E, &it, Some(5_000), Millis(0)), Some(Millis(5_000)));
        assert_eq!(all.admit(E, Millis(4_999)), Admission::Wait(Millis(5_000)));
        assert_eq!(all.admit(E, Millis(5_000)), Admission::Trial);
    }

    #[test]
    fn only_so_many_failing_endpoints_are_remembered() {
        let (all, it) = (Breakers::default(), Breaking { failures: 1, ..breaking() });
        for number in 0..ENDPOINTS_MAX {
            assert!(all.failed(&number.to_string(), &it, None, Millis(0)).is_some());
        }
        assert_eq!(all.failed("one more", &it, None, Millis(0)), None);
        assert!(all.failed("7", &it, None, Millis(0)).is_some());
    }
}
