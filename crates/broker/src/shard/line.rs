//! Which messages of one log wait behind an earlier one of their key that is tried again: of ordered subscriptions.
//!
//! A message that came back with a pause has its key until it is done. What has no key is, together, of one key.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;
use waystation_base::{Attempt, limits::PARKED_MESSAGES_MAX};

use super::{
    HashMap,
    cursor::{Cursor, Returned},
    outlet::Outlet,
};
use crate::place::Meta;

/// The messages of one log that failed, and those behind them.
#[derive(Clone, Debug, Default)]
pub struct Line {
    /// Messages that failed and are not done, with the hash of their key.
    failed: BTreeMap<u64, u64>,
    /// Those of them whose key must be looked up: until that is known nothing may go.
    unknown: BTreeSet<u64>,
    /// By the hash of the key.
    keys: HashMap<u64, Behind>,
    parked: usize,
}

/// One key.
#[derive(Clone, Debug, Default)]
struct Behind {
    /// Messages that failed, in order; the first has the key.
    failed: SmallVec<[u64; 2]>,
    /// Those that wait for it, with their attempts so far.
    parked: BTreeMap<u64, (Meta, Attempt)>,
}

impl Line {
    fn is_empty(&self) -> bool {
        self.failed.is_empty() && self.unknown.is_empty()
    }

    /// A message came back with a pause; its key's hash, if that is known.
    fn fails(&mut self, offset: u64, hash: Option<u64>) {
        if self.failed.contains_key(&offset) {
            return;
        }
        let Some(hash) = hash else {
            self.unknown.insert(offset);
            return;
        };
        self.unknown.remove(&offset);
        self.failed.insert(offset, hash);
        let failed = &mut self.keys.entry(hash).or_default().failed;
        if let Err(at) = failed.binary_search(&offset) {
            failed.insert(at, offset);
        }
    }

    /// Who has the key that a message would have to wait for.
    fn holder(&self, offset: u64, hash: u64) -> Option<u64> {
        self.keys.get(&hash)?.failed.first().copied().filter(|holder| *holder < offset)
    }

    fn park(&mut self, meta: Meta, attempt: Attempt) {
        let behind = self.keys.entry(meta.key_hash).or_default();
        self.parked += usize::from(behind.parked.insert(meta.offset.0, (meta, attempt)).is_none());
    }

    /// These messages hold up nobody any more. Returns those that may go.
    fn let_go(&mut self, offsets: &[u64]) -> Vec<(Meta, Attempt)> {
        let mut free = Vec::new();
        for offset in offsets {
            self.unknown.remove(offset);
            let Some(hash) = self.failed.remove(offset) else { continue };
            let Some(behind) = self.keys.get_mut(&hash) else { continue };
            behind.failed.retain(|failed| failed != offset);
            let held_up = match behind.failed.first() {
                Some(next) => behind.parked.split_off(&(next + 1)),
                None => BTreeMap::new(),
            };
            free.extend(std::mem::replace(&mut behind.parked, held_up).into_values());
            if behind.failed.is_empty() {
                self.keys.remove(&hash);
            }
        }
        self.parked -= free.len();
        free
    }

    /// Those that failed within `start..end`.
    fn failed_within(&self, start: u64, end: u64) -> Vec<u64> {
        let known = self.failed.range(start..end).map(|(offset, _)| *offset);
        known.chain(self.unknown.range(start..end).copied()).collect()
    }

    /// Takes a message out that waits behind another one.
    fn unpark(&mut self, offset: u64) {
        let taken = self.keys.values_mut().any(|behind| behind.parked.remove(&offset).is_some());
        self.parked -= usize::from(taken);
    }

    fn parked(&self) -> impl Iterator<Item = &(Meta, Attempt)> {
        self.keys.values().flat_map(|behind| behind.parked.values())
    }
}

impl Cursor {
    /// A message came back with a pause: those of its key behind it wait until it is done.
    pub fn hold_key(&mut self, offset: u64, hash: Option<u64>) {
        self.line.get_or_insert_default().fails(offset, hash);
    }

    /// Whether a message has to wait for an earlier one of its key; which one that is.
    pub fn behind(&self, meta: &Meta) -> Option<u64> {
        self.line.as_ref()?.holder(meta.offset.0, meta.key_hash)
    }

    /// Puts a message behind the one that has its key.
    pub fn park(&mut self, meta: Meta, attempt: Attempt) {
        self.line.get_or_insert_default().park(meta, attempt);
    }

    /// A message does not wait behind another one any more, if it did: it leaves.
    pub fn unpark(&mut self, offset: u64) {
        if let Some(line) = self.line.as_mut().filter(|line| line.parked > 0) {
            line.unpark(offset);
        }
    }

    /// Room for more that wait behind others.
    pub fn may_park(&self) -> bool {
        self.parked_count() < PARKED_MESSAGES_MAX
    }

    /// How many wait behind others.
    pub fn parked_count(&self) -> usize {
        self.line.as_ref().map_or(0, |line| line.parked)
    }

    /// Those that wait behind others.
    pub fn parked(&self) -> impl Iterator<Item = &(Meta, Attempt)> {
        self.line.iter().flat_map(|line| line.parked())
    }

    /// The same, to be told of a new place.
    pub fn parked_mut(line: &mut Option<Box<Line>>) -> impl Iterator<Item = &mut Meta> {
        let keys = line.iter_mut().flat_map(|line| line.keys.values_mut());
        keys.flat_map(|behind| behind.parked.values_mut()).map(|(meta, _)| meta)
    }

    /// For whom a message that waits behind another one waits.
    pub fn parked_behind(&self, offset: u64) -> Option<u64> {
        let keys = self.line.iter().flat_map(|line| line.keys.values());
        let own = keys.into_iter().find(|behind| behind.parked.contains_key(&offset))?;
        own.failed.first().copied()
    }

    /// Messages that failed and whose key must be looked up before anything goes.
    pub fn keyless(&self) -> impl Iterator<Item = u64> {
        self.line.iter().flat_map(|line| line.unknown.iter().copied())
    }

    /// What a lookup found of a message that failed; nothing if it is not there any more.
    pub fn learn_key(&mut self, offset: u64, hash: Option<u64>) {
        let Some(line) = self.line.as_mut().filter(|line| line.unknown.contains(&offset)) else { return };
        match hash {
            Some(hash) => line.fails(offset, Some(hash)),
            None => self.release_keys(offset, offset + 1),
        }
    }

    /// Messages of `start..end` are done: what waited for them may go.
    pub fn release_keys(&mut self, start: u64, end: u64) {
        let Some(line) = &mut self.line else { return };
        let failed = line.failed_within(start, end);
        if failed.is_empty() {
            return;
        }
        let free = line.let_go(&failed);
        if line.is_empty() {
            self.line = None;
        }
        for (meta, attempt) in free {
            self.give_back(0, meta.offset.0, Returned { attempt, bytes: meta.bytes, meta: Some(meta) });
        }
    }

    /// Nothing waits behind another one any more; those that were handed out before stand with those that came back, others are
    /// found by their log again.
    pub fn forget_line(&mut self) {
        let Some(line) = &mut self.line else { return };
        line.parked = 0;
        let parked: Vec<_> = line
            .keys
            .values_mut()
            .flat_map(|behind| std::mem::take(&mut behind.parked).into_values())
            .collect();
        for (meta, attempt) in parked.into_iter().filter(|(_, attempt)| attempt.0 > 0) {
            self.give_back(0, meta.offset.0, Returned { attempt, bytes: meta.bytes, meta: Some(meta) });
        }
    }

    /// Messages below `base` are not there any more, other than those in somebody's hands.
    pub fn trim_line(&mut self, base: u64) {
        let Some(line) = &mut self.line else { return };
        for behind in line.keys.values_mut() {
            let kept = behind.parked.split_off(&base);
            line.parked -= behind.parked.len();
            behind.parked = kept;
        }
        let flying = &self.flying;
        let gone: Vec<u64> =
            line.failed_within(0, base).into_iter().filter(|offset| !flying.contains_key(offset)).collect();
        gone.into_iter().for_each(|offset| self.release_keys(offset, offset + 1));
    }

    /// Messages that failed and are not done, in order: what a snapshot keeps.
    pub fn failed(&self) -> Vec<u64> {
        self.line.as_ref().map_or_else(Vec::new, |line| line.failed_within(0, u64::MAX))
    }
}

impl Outlet {
    /// Each partition goes in order from now on, or no more.
    pub fn order_by_partition(&mut self, ordered: bool) {
        if ordered == self.policy.ordered {
            return;
        }
        self.policy.ordered = ordered;
        for cursor in self.cursors.values_mut() {
            cursor.release_keys(0, u64::MAX);
            if ordered {
                let aside: Vec<u64> = cursor.aside.iter().copied().collect();
                aside.into_iter().for_each(|offset| cursor.hold_key(offset, None));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::{EntityId, Millis, Offset, Position};

    use super::*;
    use crate::place::{LogId, Place};

    fn meta(offset: u64, key_hash: u64) -> Meta {
        Meta {
            log: LogId { entity: EntityId(1), log: 0 },
            offset: Offset(offset),
            place: Place::Journal(Position(0)),
            at: 0,
            bytes: 1,
            timestamp: Millis(0),
            expires_at: Millis::NEVER,
            key_hash,
            tenant: 0,
        }
    }

    fn ready(cursor: &Cursor) -> Vec<u64> {
        cursor.returned.keys().map(|(_, offset)| *offset).collect()
    }

    #[test]
    fn those_of_a_key_go_up_to_the_next_one_that_failed() {
        let mut cursor = Cursor::default();
        cursor.hold_key(5, Some(1));
        cursor.hold_key(2, Some(1));
        assert_eq!(cursor.behind(&meta(1, 1)), None, "it came before them");
        assert_eq!(cursor.behind(&meta(2, 1)), None, "it has the key");
        assert_eq!(cursor.behind(&meta(3, 2)), None, "it has another key");
        for offset in [3, 5, 6] {
            assert_eq!(cursor.behind(&meta(offset, 1)), Some(2));
            cursor.park(meta(offset, 1), Attempt(0));
        }
        assert_eq!((cursor.parked_count(), cursor.parked_behind(6)), (3, Some(2)));
        cursor.release_keys(2, 3);
        assert_eq!((ready(&cursor), cursor.parked_count()), (vec![3, 5], 1));
        cursor.release_keys(5, 6);
        assert_eq!((ready(&cursor), cursor.line.is_none()), (vec![3, 5, 6], true));
    }

    #[test]
    fn one_whose_key_was_not_known_has_it_when_it_is() {
        let mut cursor = Cursor::default();
        cursor.hold_key(2, None);
        cursor.hold_key(4, None);
        assert_eq!(cursor.keyless().collect::<Vec<_>>(), [2, 4]);
        cursor.learn_key(2, Some(7));
        cursor.learn_key(4, None);
        assert_eq!((cursor.keyless().count(), cursor.failed()), (0, vec![2]));
        assert_eq!(cursor.behind(&meta(3, 7)), Some(2));
    }

    #[test]
    fn parked_messages_max_wait_and_no_more() {
        let mut cursor = Cursor::default();
        cursor.hold_key(0, Some(1));
        (1..PARKED_MESSAGES_MAX as u64).for_each(|offset| cursor.park(meta(offset, 1), Attempt(0)));
        assert!(cursor.may_park());
        cursor.park(meta(PARKED_MESSAGES_MAX as u64, 1), Attempt(0));
        assert!(!cursor.may_park());
    }

    #[test]
    fn what_retention_took_holds_up_nobody() {
        let mut cursor = Cursor::default();
        cursor.hold_key(1, Some(1));
        for offset in [2, 8] {
            cursor.park(meta(offset, 1), Attempt(0));
        }
        cursor.trim_line(5);
        assert_eq!((ready(&cursor), cursor.line.is_none()), (vec![8], true));
    }
}
