//! Which offsets of a log are done: everything below a head, and stretches above it.

use std::collections::BTreeMap;

/// A set of offsets that grows from below. Stretches above the head are disjoint and do not touch each other or the head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Done {
    head: u64,
    /// Start to end (exclusive).
    above: BTreeMap<u64, u64>,
    above_count: u64,
}

impl Done {
    /// Everything below `head` is done.
    pub fn up_to(head: u64) -> Done {
        Done { head, ..Done::default() }
    }

    /// The lowest offset that is not done.
    pub fn head(&self) -> u64 {
        self.head
    }

    /// How many offsets above the head are done.
    pub fn above_count(&self) -> u64 {
        self.above_count
    }

    /// How many stretches there are above the head.
    pub fn stretches(&self) -> usize {
        self.above.len()
    }

    /// The stretches above the head: start and end (exclusive), in order.
    pub fn above(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.above.iter().map(|(start, end)| (*start, *end))
    }

    /// Whether an offset is done.
    pub fn contains(&self, offset: u64) -> bool {
        offset < self.head || self.above.range(..=offset).next_back().is_some_and(|(_, end)| offset < *end)
    }

    /// Adds one offset.
    pub fn add(&mut self, offset: u64) {
        if offset == self.head && self.above.is_empty() {
            self.head += 1;
        } else {
            self.insert(offset, offset + 1);
        }
    }

    /// Adds the offsets from `start` to `end` (exclusive).
    pub fn insert(&mut self, mut start: u64, mut end: u64) {
        start = start.max(self.head);
        if start >= end {
            return;
        }
        // Take in every stretch that overlaps or touches.
        while let Some((&s, &e)) = self.above.range(..=end).next_back().filter(|(_, e)| **e >= start) {
            self.above.remove(&s);
            self.above_count -= e - s;
            start = start.min(s);
            end = end.max(e);
        }
        if start == self.head {
            self.head = end;
        } else {
            self.above.insert(start, end);
            self.above_count += end - start;
        }
    }

    /// The stretches that are not done within `first..=last`.
    pub fn live(&self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let mut live = Vec::new();
        let mut at = first.max(self.head);
        let begin = self.above.range(..=at).next_back().map_or(at, |(start, _)| *start);
        for (&start, &end) in self.above.range(begin..) {
            if start > last || at > last {
                break;
            }
            if start > at {
                live.push((at, start - 1));
            }
            at = at.max(end);
        }
        if at <= last {
            live.push((at, last));
        }
        live
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn it_holds_what_a_plain_set_holds(
            head in 0u64..20, adds in proptest::collection::vec((0u64..60, 1u64..8), 0..40), first in 0u64..70, len in 0u64..30,
        ) {
            let mut done = Done::up_to(head);
            let mut model: BTreeSet<u64> = (0..head).collect();
            for (start, count) in adds {
                if count == 1 { done.add(start) } else { done.insert(start, start + count) }
                model.extend(start..start + count);
                prop_assert_eq!(done.head(), (0..).find(|n| !model.contains(n)).expect("some"));
                prop_assert_eq!(done.above_count(), model.iter().filter(|n| **n > done.head()).count() as u64);
                let mut last = done.head();
                for (start, end) in done.above() {
                    prop_assert!(start > last && end > start);
                    last = end;
                }
            }
            for n in 0..80 {
                prop_assert_eq!(done.contains(n), model.contains(&n), "{}", n);
            }
            let live: Vec<u64> = done.live(first, first + len).into_iter().flat_map(|(a, b)| a..=b).collect();
            let expected: Vec<u64> = (first..=first + len).filter(|n| !model.contains(n)).collect();
            prop_assert_eq!(live, expected);
        }
    }
}
