//! How much each tenant of a subscription has used of its rate: remembered for as long as it matters, of so many tenants.

use waystation_base::Millis;

use super::{HashMap, limits::Bucket};
use crate::spec::MessageRate;

/// Tenants whose use is remembered; past them those are forgotten first whose buckets are full again soonest.
pub const BUCKETS_MAX: usize = 1 << 18;
/// Tenants that are remembered at most once they were too many: so that it is some time until they are again.
const KEPT_MAX: usize = BUCKETS_MAX / 4 * 3;
/// Tenants below which nobody looks for those that can be forgotten.
const SWEEP_MIN: usize = 1 << 10;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Buckets {
    of: HashMap<u64, Bucket>,
    /// How many there may be before full ones are looked for.
    sweep_at: usize,
    /// Counts, in tests, what would be slow if it were done too often.
    #[cfg(test)]
    sweeps: usize,
}

impl Buckets {
    /// The moment from which on one more message of a tenant may go.
    pub fn opens_at(&self, tenant: u64, rate: &MessageRate) -> Millis {
        self.of.get(&tenant).copied().unwrap_or_default().opens_at(rate)
    }

    /// A message of a tenant goes.
    pub fn take(&mut self, tenant: u64, rate: &MessageRate, now: Millis) {
        if self.of.len() >= self.sweep_at.clamp(SWEEP_MIN, BUCKETS_MAX) && !self.of.contains_key(&tenant) {
            self.sweep(now);
        }
        self.of.entry(tenant).or_default().take(rate, now);
    }

    /// Another rate holds for all.
    pub fn change(&mut self, rate: &MessageRate, now: Millis) {
        self.of.values_mut().for_each(|bucket| bucket.change(rate, now));
    }

    /// How many tenants are remembered.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.of.len()
    }

    /// Forgets full buckets, which are like none; and, if there were too many, of the others those that will be full first, down to
    /// [`KEPT_MAX`].
    fn sweep(&mut self, now: Millis) {
        #[cfg(test)]
        {
            self.sweeps += 1;
        }
        let were_too_many = self.of.len() >= BUCKETS_MAX;
        self.of.retain(|_, bucket| !bucket.is_full(now));
        let surplus = self.of.len().saturating_sub(KEPT_MAX);
        if were_too_many && surplus > 0 {
            let mut buckets: Vec<Bucket> = self.of.values().copied().collect();
            let (before, first_kept, _) = buckets.select_nth_unstable(surplus);
            let first_kept = *first_kept;
            // Many may be as full as the first that is kept: of these only as many go as have to.
            let mut equals = before.iter().filter(|bucket| **bucket == first_kept).count();
            self.of.retain(|_, bucket| {
                let is_equal = *bucket == first_kept && equals > 0;
                equals -= usize::from(is_equal);
                *bucket >= first_kept && !is_equal
            });
        }
        self.sweep_at = 2 * self.of.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hourly(burst: u32) -> MessageRate {
        MessageRate { messages: 1, per_ms: 3_600_000, burst: Some(burst) }
    }

    #[test]
    fn who_has_a_full_bucket_again_is_forgotten_and_nobody_else() {
        let (mut buckets, rate) =
            (Buckets::default(), MessageRate { messages: 1, per_ms: 10, burst: Some(2) });
        for tenant in 0..100_000 {
            // Each bucket is full again ten milliseconds later.
            buckets.take(tenant, &rate, Millis(1_000 + tenant));
            assert!(buckets.len() <= SWEEP_MIN, "{tenant}");
        }
        let now = Millis(1_000 + 99_999);
        assert!((99_990..100_000).all(|tenant| !buckets.of[&tenant].is_full(now)));
    }

    #[test]
    fn as_many_tenants_as_may_are_remembered_and_past_them_those_that_must_wait_longest() {
        let (mut buckets, rate) = (Buckets::default(), hourly(1));
        for tenant in 0..BUCKETS_MAX as u64 {
            buckets.take(tenant, &rate, Millis(1_000 + tenant));
        }
        let now = Millis(1_000 + BUCKETS_MAX as u64);
        assert_eq!(buckets.len(), BUCKETS_MAX);
        assert!((0..BUCKETS_MAX as u64).all(|tenant| buckets.opens_at(tenant, &rate) > now));
        buckets.take(u64::MAX, &rate, now);
        assert_eq!(buckets.len(), KEPT_MAX + 1);
        assert!(
            buckets.opens_at(u64::MAX, &rate) > now && buckets.opens_at(BUCKETS_MAX as u64 - 1, &rate) > now
        );
        assert!(buckets.opens_at(0, &rate) <= now, "who would have waited shortest begins anew");
    }

    #[test]
    fn of_tenants_that_came_at_once_no_more_are_forgotten_than_have_to() {
        let (mut buckets, rate) = (Buckets::default(), hourly(1));
        (0..=BUCKETS_MAX as u64).for_each(|tenant| buckets.take(tenant, &rate, Millis(1_000)));
        assert_eq!(buckets.len(), KEPT_MAX + 1);
    }

    #[test]
    fn they_are_looked_through_seldom_however_many_are_remembered_all_the_time() {
        for steady in [KEPT_MAX, KEPT_MAX + 1, BUCKETS_MAX - 1, BUCKETS_MAX, BUCKETS_MAX + 1] {
            // One more comes each millisecond, and has a full bucket again so many later.
            let rate = MessageRate { messages: 1, per_ms: steady as u64, burst: Some(1) };
            let mut buckets = Buckets::default();
            let count = 3 * BUCKETS_MAX;
            (0..count as u64).for_each(|tenant| buckets.take(tenant, &rate, Millis(1_000 + tenant)));
            assert!(buckets.sweeps <= 20 + count / (BUCKETS_MAX - KEPT_MAX), "{steady}: {}", buckets.sweeps);
            assert!(buckets.len() <= BUCKETS_MAX);
        }
    }

    #[test]
    fn a_raised_rate_holds_at_once() {
        let mut buckets = Buckets::default();
        (0..3).for_each(|_| buckets.take(7, &hourly(3), Millis(1_000)));
        assert!(buckets.opens_at(7, &hourly(3)) > Millis(3_000_000));
        let fast = MessageRate { messages: 10, per_ms: 1_000, burst: Some(1) };
        buckets.change(&fast, Millis(1_000));
        assert_eq!(buckets.opens_at(7, &fast), Millis(1_100));
    }
}
