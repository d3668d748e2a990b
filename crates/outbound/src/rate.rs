//! When may the next request go out, if only so many may in a time? The generic cell rate algorithm (ITU-T I.371): one moment in
//! memory stands for the whole bucket.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::Millis;

use crate::range::{Invalid, check_range};

/// Requests of a rate.
pub const REQUESTS_MAX: u32 = 1_000_000;
/// Milliseconds of its time.
pub const PER_MS_MAX: u64 = 24 * 60 * 60 * 1000;

/// So many requests in so long a time. An unknown field is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Rate {
    /// Requests.
    pub requests: u32,
    /// Milliseconds in which so many may go out.
    pub per_ms: u64,
    /// Requests that may go out at once after a quiet time; none: as many as `requests`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u32>,
}

impl Default for Rate {
    fn default() -> Rate {
        Rate { requests: 1, per_ms: 1_000, burst: None }
    }
}

impl Rate {
    /// Checks each field against its limits.
    pub fn check(&self) -> Result<(), Invalid> {
        check_range("rate.requests", self.requests.into(), 1, REQUESTS_MAX.into())?;
        check_range("rate.per_ms", self.per_ms, 1, PER_MS_MAX)?;
        check_range("rate.burst", self.burst.unwrap_or(1).into(), 1, REQUESTS_MAX.into())
    }

    /// Nanoseconds between two requests of an even flow.
    fn interval_ns(&self) -> u64 {
        self.per_ms.saturating_mul(1_000_000) / u64::from(self.requests.max(1))
    }
}

/// What is left of a rate.
#[derive(Clone, Debug)]
pub struct Bucket {
    rate: Rate,
    /// When a request would be due in an even flow, in nanoseconds since 1970.
    due_ns: u64,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate) -> Bucket {
        Bucket { rate, due_ns: 0 }
    }

    /// The moment from which a request may go out.
    pub fn ready_at(&self) -> Millis {
        let burst = u64::from(self.rate.burst.unwrap_or(self.rate.requests).max(1));
        let ahead_ns = self.rate.interval_ns().saturating_mul(burst - 1);
        Millis(self.due_ns.saturating_sub(ahead_ns).div_ceil(1_000_000))
    }

    /// Takes leave for one request, or tells when to ask again.
    pub fn take(&mut self, now: Millis) -> Result<(), Millis> {
        let at = self.ready_at();
        if now < at {
            return Err(at);
        }
        let now_ns = now.0.saturating_mul(1_000_000);
        self.due_ns = self.due_ns.max(now_ns).saturating_add(self.rate.interval_ns());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Requests that go out if one is asked for at each millisecond.
    fn count(rate: &Rate, from: u64, to: u64, bucket: &mut Bucket) -> usize {
        assert_eq!(rate.check(), Ok(()));
        (from..to).filter(|ms| (0..3).any(|_| bucket.take(Millis(*ms)).is_ok())).count()
    }

    #[test]
    fn a_burst_goes_at_once_and_the_rest_evenly() {
        let rate = Rate { requests: 10, per_ms: 1_000, burst: Some(4) };
        let mut bucket = Bucket::new(rate.clone());
        let now = Millis(1_000_000);
        for _ in 0..4 {
            assert_eq!(bucket.take(now), Ok(()));
        }
        assert_eq!(bucket.take(now), Err(now.plus(100)));
        assert_eq!(bucket.take(now.plus(99)), Err(now.plus(100)));
        assert_eq!(bucket.take(now.plus(100)), Ok(()));
        assert_eq!(bucket.ready_at(), now.plus(200));
        // 9 more in the rest of the second, and never more than the burst after a quiet time.
        assert_eq!(count(&rate, now.0 + 101, now.0 + 1_001, &mut bucket), 9);
        let later = now.plus(1_000_000);
        assert_eq!((0..100).filter(|_| bucket.take(later).is_ok()).count(), 4);
    }

    #[test]
    fn rates_below_and_above_one_in_a_millisecond_are_kept() {
        for (requests, per_ms, time, most) in
            [(1, 60_000, 180_000, 3), (3, 1_000, 10_000, 30), (7, 3, 3_000, 3_000)]
        {
            let rate = Rate { requests, per_ms, burst: Some(1) };
            let mut bucket = Bucket::new(rate.clone());
            let sent = count(&rate, 5, 5 + time, &mut bucket);
            assert!(sent <= most && sent + 1 >= most, "{sent} in {time} ms by {rate:?}");
        }
    }

    #[test]
    fn fields_are_checked_at_their_bounds_and_past_them() {
        let check = |change: fn(&mut Rate), expected: Option<&str>| {
            let mut rate = Rate::default();
            change(&mut rate);
            assert_eq!(rate.check().err().map(|error| error.field), expected, "{rate:?}");
        };
        check(|_| (), None);
        check(|it| it.requests = 0, Some("rate.requests"));
        check(|it| it.requests = REQUESTS_MAX, None);
        check(|it| it.requests = REQUESTS_MAX + 1, Some("rate.requests"));
        check(|it| it.per_ms = 0, Some("rate.per_ms"));
        check(|it| it.per_ms = PER_MS_MAX, None);
        check(|it| it.per_ms = PER_MS_MAX + 1, Some("rate.per_ms"));
        check(|it| it.burst = Some(0), Some("rate.burst"));
        check(|it| it.burst = Some(REQUESTS_MAX + 1), Some("rate.burst"));
    }
}
