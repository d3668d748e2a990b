//! Which deliveries of a channel must be settled first, lest their time is over?

use std::collections::BTreeMap;

use super::{DeliveryTag, Held, Timeout, Unacked};

/// For each length of time-outs a delivery before which none with that length is unsettled. Of one length the older end first, so
/// that nobody has to look at all of them.
#[derive(Debug, Default)]
pub struct Timed(BTreeMap<u64, DeliveryTag>);

impl Timed {
    /// Notes what is delivered, or delivered before and unsettled again.
    pub fn note(&mut self, tag: DeliveryTag, held: &Held) {
        if let Some(timeout) = held.timeout {
            let from = self.0.entry(timeout.after_ms).or_insert(tag);
            *from = tag.min(*from);
        }
    }

    /// Of each length the time-out of the oldest delivery that is not settled. Each look begins where the last one ended: a delivery is
    /// passed over once for each length, however often anybody looks.
    pub fn oldest(&mut self, unacked: &Unacked<Held>) -> Vec<Timeout> {
        let mut oldest = Vec::new();
        self.0.retain(|after_ms, from| {
            let mut timed = unacked.iter_from(*from).filter_map(|(tag, held)| Some((tag, held.timeout?)));
            let found = timed.find(|(_, timeout)| timeout.after_ms == *after_ms);
            if let Some((tag, timeout)) = found {
                *from = tag;
                oldest.push(timeout);
            }
            found.is_some()
        });
        oldest
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waystation_base::{Attempt, Millis, Name, Offset, Tag};
    use waystation_broker::Source;

    use super::*;

    #[derive(Default)]
    struct Deliveries {
        timed: Timed,
        unacked: Unacked<Held>,
        last: u64,
    }

    impl Deliveries {
        /// Delivers at a time that is the delivery's tag.
        fn deliver(&mut self, after_ms: Option<u64>) {
            self.last += 1;
            let held = Held {
                source: Arc::new(Source::Queue(Name::new("q").expect("a name"))),
                tag: Tag::new(0, Offset(self.last)),
                attempt: Attempt(1),
                consumer: None,
                timeout: after_ms.map(|after_ms| Timeout { at: Millis(self.last).plus(after_ms), after_ms }),
            };
            self.timed.note(DeliveryTag(self.last), &held);
            self.unacked.push(DeliveryTag(self.last), held);
        }

        fn settle(&mut self, tag: u64, multiple: bool) -> Vec<(DeliveryTag, Held)> {
            let mut taken = Vec::new();
            self.unacked.take(DeliveryTag(tag), multiple, &mut taken).expect("there");
            taken
        }

        fn restore(&mut self, taken: Vec<(DeliveryTag, Held)>) {
            taken.iter().for_each(|(tag, held)| self.timed.note(*tag, held));
            self.unacked.restore(taken);
        }

        fn due(&mut self) -> Vec<(u64, u64)> {
            let oldest = self.timed.oldest(&self.unacked);
            oldest.into_iter().map(|it| (it.after_ms, it.at.0)).collect()
        }
    }

    #[test]
    fn the_oldest_unsettled_delivery_of_each_length_is_told() {
        let mut it = Deliveries::default();
        assert_eq!(it.due(), []);
        [None, Some(50), Some(10), Some(50), None].into_iter().for_each(|after_ms| it.deliver(after_ms));
        assert_eq!(it.due(), [(10, 13), (50, 52)]);
        it.settle(2, false);
        assert_eq!(it.due(), [(10, 13), (50, 54)]);
        it.settle(4, true);
        assert_eq!(it.due(), []);
        it.deliver(Some(10));
        assert_eq!(it.due(), [(10, 16)]);
    }

    #[test]
    fn what_a_transaction_gives_back_is_told_again() {
        let mut it = Deliveries::default();
        (0..3).for_each(|_| it.deliver(Some(10)));
        let mut taken = it.settle(2, true);
        assert_eq!(it.due(), [(10, 13)]);
        taken.reverse();
        it.restore(taken);
        assert_eq!(it.due(), [(10, 11)]);
    }

    #[test]
    fn a_look_begins_where_the_last_one_ended() {
        let mut it = Deliveries::default();
        (0..1_000).for_each(|_| it.deliver(None));
        (0..1_000).for_each(|_| it.deliver(Some(50)));
        assert_eq!(it.timed.0[&50], DeliveryTag(1_001), "those before have no time-out");
        (1_001..1_500).for_each(|tag| drop(it.settle(tag, false)));
        assert_eq!(it.due(), [(50, 1_550)]);
        assert_eq!(it.timed.0[&50], DeliveryTag(1_500));
    }
}
