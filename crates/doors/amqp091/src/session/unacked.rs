//! What has been delivered on a channel and not yet acknowledged, in order of delivery tag?

use std::collections::VecDeque;

/// The server's name for a delivery on one channel, from 1 (AMQP 0-9-1 §1.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DeliveryTag(pub u64);

/// An acknowledgement of something that is not outstanding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown delivery tag {}", .0.0)]
pub struct UnknownTag(pub DeliveryTag);

/// Deliveries by tag. Looking one up takes the logarithm of how many there are; taking the oldest takes no search.
#[derive(Clone, Debug)]
pub struct Unacked<T> {
    /// In order of tag; taken ones are holes until they come to the front or are too many.
    entries: VecDeque<(DeliveryTag, Option<T>)>,
    held: usize,
}

impl<T> Default for Unacked<T> {
    fn default() -> Unacked<T> {
        Unacked { entries: VecDeque::new(), held: 0 }
    }
}

/// Holes that are left alone.
const HOLES_MIN: usize = 64;

impl<T> Unacked<T> {
    /// How many are outstanding.
    pub fn len(&self) -> usize {
        self.held
    }

    /// Notes a delivery; tags only grow.
    pub fn push(&mut self, tag: DeliveryTag, held: T) {
        debug_assert!(self.entries.back().is_none_or(|(last, _)| *last < tag));
        self.entries.push_back((tag, Some(held)));
        self.held += 1;
    }

    /// Takes one delivery, or with `multiple` all up to and with it, oldest first; tag 0 with `multiple` means all.
    pub fn take(
        &mut self,
        tag: DeliveryTag,
        multiple: bool,
        into: &mut Vec<(DeliveryTag, T)>,
    ) -> Result<(), UnknownTag> {
        if multiple && tag.0 == 0 {
            into.extend(self.take_all());
            return Ok(());
        }
        let found = self.entries.binary_search_by_key(&tag, |(tag, _)| *tag);
        let at = found.ok().filter(|at| self.entries[*at].1.is_some()).ok_or(UnknownTag(tag))?;
        if multiple {
            let before = into.len();
            into.extend(self.entries.drain(..=at).filter_map(|(tag, held)| Some((tag, held?))));
            self.held -= into.len() - before;
        } else {
            into.extend(self.entries[at].1.take().map(|held| (tag, held)));
            self.held -= 1;
        }
        self.tidy();
        Ok(())
    }

    /// Takes everything, oldest first.
    pub fn take_all(&mut self) -> Vec<(DeliveryTag, T)> {
        self.held = 0;
        std::mem::take(&mut self.entries).into_iter().filter_map(|(tag, held)| Some((tag, held?))).collect()
    }

    /// Puts back what was taken, in any order.
    pub fn restore(&mut self, taken: impl IntoIterator<Item = (DeliveryTag, T)>) {
        let mut all = self.take_all();
        all.extend(taken);
        all.sort_by_key(|(tag, _)| *tag);
        self.held = all.len();
        self.entries = all.into_iter().map(|(tag, held)| (tag, Some(held))).collect();
    }

    /// What is outstanding from a tag on, oldest first; what lies before costs nothing.
    pub fn iter_from(&self, tag: DeliveryTag) -> impl Iterator<Item = (DeliveryTag, &T)> {
        let from = self.entries.partition_point(|(at, _)| *at < tag);
        self.entries.range(from..).filter_map(|(tag, held)| Some((*tag, held.as_ref()?)))
    }

    fn tidy(&mut self) {
        while self.entries.front().is_some_and(|(_, held)| held.is_none()) {
            self.entries.pop_front();
        }
        let holes = self.entries.len() - self.held;
        if holes > HOLES_MIN && holes > self.held {
            self.entries.retain(|(_, held)| held.is_some());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Deliver {
            gap: u64,
        },
        Take {
            tag: u64,
            multiple: bool,
        },
        TakeAll,
        /// What a rolled back transaction had acknowledged comes back.
        TakeAndRestore {
            tag: u64,
            multiple: bool,
        },
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (1..4u64).prop_map(|gap| Step::Deliver { gap }),
            4 => (0..60u64, any::<bool>()).prop_map(|(tag, multiple)| Step::Take { tag, multiple }),
            1 => Just(Step::TakeAll),
            1 => (0..60u64, any::<bool>()).prop_map(|(tag, multiple)| Step::TakeAndRestore { tag, multiple }),
        ];
        proptest::collection::vec(step, 0..200)
    }

    /// What [`Unacked::take`] should do, done plainly.
    fn model_take(
        model: &mut BTreeMap<u64, u64>,
        tag: u64,
        multiple: bool,
    ) -> Option<Vec<(DeliveryTag, u64)>> {
        if multiple && tag == 0 {
            return Some(model_all(model));
        }
        model.get(&tag)?;
        let tags: Vec<u64> =
            model.range(..=tag).map(|(tag, _)| *tag).filter(|at| multiple || *at == tag).collect();
        Some(tags.iter().filter_map(|tag| Some((DeliveryTag(*tag), model.remove(tag)?))).collect())
    }

    fn model_all(model: &mut BTreeMap<u64, u64>) -> Vec<(DeliveryTag, u64)> {
        std::mem::take(model).into_iter().map(|(tag, held)| (DeliveryTag(tag), held)).collect()
    }

    proptest! {
        #[test]
        fn it_takes_what_a_sorted_map_takes(steps in steps()) {
            let (mut unacked, mut model, mut next) = (Unacked::default(), BTreeMap::new(), 0);
            for step in steps {
                match step {
                    Step::Deliver { gap } => {
                        next += gap;
                        unacked.push(DeliveryTag(next), next * 10);
                        model.insert(next, next * 10);
                    }
                    Step::Take { tag, multiple } => {
                        let mut taken = Vec::new();
                        let result = unacked.take(DeliveryTag(tag), multiple, &mut taken);
                        match model_take(&mut model, tag, multiple) {
                            Some(expected) => prop_assert_eq!((result, taken), (Ok(()), expected)),
                            None => prop_assert_eq!(result, Err(UnknownTag(DeliveryTag(tag)))),
                        }
                    }
                    Step::TakeAndRestore { tag, multiple } => {
                        let mut taken = Vec::new();
                        let _ = unacked.take(DeliveryTag(tag), multiple, &mut taken);
                        taken.reverse();
                        unacked.restore(taken);
                    }
                    Step::TakeAll => {
                        prop_assert_eq!(unacked.take_all(), model_all(&mut model));
                    }
                }
                prop_assert_eq!(unacked.len(), model.len());
                for from in [0, next / 2, next + 1] {
                    let kept: Vec<u64> = unacked.iter_from(DeliveryTag(from)).map(|(tag, _)| tag.0).collect();
                    prop_assert_eq!(kept, model.range(from..).map(|(tag, _)| *tag).collect::<Vec<_>>());
                }
            }
        }
    }

    #[test]
    fn a_tag_is_taken_once() {
        let mut unacked = Unacked::default();
        unacked.push(DeliveryTag(1), ());
        assert_eq!(unacked.take(DeliveryTag(1), false, &mut Vec::new()), Ok(()));
        let again = unacked.take(DeliveryTag(1), false, &mut Vec::new()).expect_err("taken");
        assert_eq!(again.to_string(), "unknown delivery tag 1");
    }

    #[test]
    fn holes_behind_an_old_delivery_do_not_pile_up() {
        let mut unacked = Unacked::default();
        for tag in 1..10_000 {
            unacked.push(DeliveryTag(tag), ());
            if tag > 1 {
                unacked.take(DeliveryTag(tag), false, &mut Vec::new()).expect("there");
            }
        }
        assert!(unacked.entries.len() <= HOLES_MIN + 2, "{}", unacked.entries.len());
    }
}
