//! In which order may messages that are done leave? Evaluations end in any order; this lets go what the route's order allows.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;

use crate::spec::Order;

/// Holds back what must wait for others.
pub(super) struct Sequence<T> {
    order: Order,
    next: u64,
    /// Those under way, per lane, oldest first. All are in one lane, or each key has its own.
    lanes: HashMap<Option<Bytes>, VecDeque<u64>>,
    done: HashMap<u64, T>,
}

impl<T> Sequence<T> {
    pub fn new(order: Order) -> Sequence<T> {
        Sequence { order, next: 0, lanes: HashMap::new(), done: HashMap::new() }
    }

    /// The lane of a message; none: it waits for nobody.
    fn lane(&self, key: Option<&Bytes>) -> Option<Option<Bytes>> {
        match (self.order, key) {
            (Order::Source, _) => Some(None),
            (Order::Key, Some(key)) => Some(Some(key.clone())),
            (Order::Key, None) | (Order::None, _) => None,
        }
    }

    /// A message is begun; gives its number.
    pub fn begin(&mut self, key: Option<&Bytes>) -> u64 {
        let number = self.next;
        self.next += 1;
        if let Some(lane) = self.lane(key) {
            self.lanes.entry(lane).or_default().push_back(number);
        }
        number
    }

    /// A message is done; gives, in order, what may leave now.
    pub fn end(&mut self, number: u64, key: Option<&Bytes>, value: T) -> Vec<T> {
        let Some(lane) = self.lane(key) else { return vec![value] };
        self.done.insert(number, value);
        let mut free = Vec::new();
        let Some(waiting) = self.lanes.get_mut(&lane) else { return free };
        while let Some(value) = waiting.front().and_then(|first| self.done.remove(first)) {
            waiting.pop_front();
            free.push(value);
        }
        if waiting.is_empty() {
            self.lanes.remove(&lane);
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(order: Order, ended: &[usize], expected: &[&[usize]]) {
        // Messages 0 and 2 have one key, 1 and 3 another, 4 has none.
        let keys = [Some("a"), Some("b"), Some("a"), Some("b"), None].map(|key| key.map(Bytes::from));
        let mut sequence = Sequence::new(order);
        let numbers: Vec<u64> = keys.iter().map(|key| sequence.begin(key.as_ref())).collect();
        let left: Vec<Vec<usize>> =
            ended.iter().map(|it| sequence.end(numbers[*it], keys[*it].as_ref(), *it)).collect();
        assert_eq!(left, expected, "{order:?}");
        assert!(sequence.lanes.is_empty() && sequence.done.is_empty());
    }

    #[test]
    fn messages_leave_in_the_order_of_the_source_or_of_their_key_or_as_they_are_done() {
        check(Order::Source, &[4, 2, 0, 1, 3], &[&[], &[], &[0], &[1, 2], &[3, 4]]);
        check(Order::Key, &[4, 2, 0, 3, 1], &[&[4], &[], &[0, 2], &[], &[1, 3]]);
        check(Order::None, &[4, 2, 0, 3, 1], &[&[4], &[2], &[0], &[3], &[1]]);
    }
}
