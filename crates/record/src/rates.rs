//! How fast messages are handed out, by queue or subscription: over the last ten to twenty seconds.

use waystation_base::{EntityId, Millis};

use crate::HashMap;

/// Milliseconds of one window.
const WINDOW_MS: u64 = 10_000;

#[derive(Clone, Copy, Debug, Default)]
struct Rate {
    began: Millis,
    now: u64,
    before: u64,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Rates(HashMap<EntityId, Rate>);

impl Rates {
    /// Notes messages that were handed out for the first time.
    pub(crate) fn add(&mut self, outlet: EntityId, at: Millis, count: u64) {
        let rate = self.0.entry(outlet).or_insert(Rate { began: at, ..Rate::default() });
        rate.turn(at);
        rate.now += count;
    }

    /// Forgets what is gone.
    pub(crate) fn remove(&mut self, outlet: EntityId) {
        self.0.remove(&outlet);
    }

    /// Messages a second of late; none if nothing was handed out.
    pub(crate) fn per_second(&self, outlet: EntityId, now: Millis) -> Option<f64> {
        let mut rate = *self.0.get(&outlet)?;
        rate.turn(now);
        let count = rate.now + rate.before;
        let span_ms = WINDOW_MS * u64::from(rate.before > 0) + now.since(rate.began).max(1_000);
        (count > 0).then(|| count as f64 * 1000.0 / span_ms as f64)
    }
}

impl Rate {
    fn turn(&mut self, at: Millis) {
        let passed = at.since(self.began) / WINDOW_MS;
        if passed > 0 {
            self.before = if passed == 1 { self.now } else { 0 };
            self.now = 0;
            self.began = self.began.plus(passed * WINDOW_MS);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_last_windows_and_fades() {
        let (mut rates, queue) = (Rates::default(), EntityId(1));
        (0..200).for_each(|n| rates.add(queue, Millis(n * 100), 5));
        let rate = rates.per_second(queue, Millis(20_000)).expect("a rate");
        assert!((40.0..=60.0).contains(&rate), "{rate}");
        assert_eq!(rates.per_second(queue, Millis(60_000)), None);
        assert_eq!(rates.per_second(EntityId(2), Millis(0)), None);
        rates.remove(queue);
        assert_eq!(rates.per_second(queue, Millis(20_000)), None);
    }
}
