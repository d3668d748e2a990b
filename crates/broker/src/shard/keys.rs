//! Which message of a key may be worked on, and which wait behind it: of queues with an order by key.

use std::{cmp::Reverse, collections::BTreeMap};

use waystation_base::{Attempt, Tag, limits::PARKED_MESSAGES_MAX};

use super::{
    Ctx,
    cursor::{Cursor, Reason, Returned, is_delayed, priority, tag},
    outlet::{Finished, Logs, Outlet},
};
use crate::place::Meta;

/// A key that is being worked on.
#[derive(Clone, Debug)]
pub struct Key {
    /// The message that has it, until it is done.
    pub holder: Tag,
    /// Those that came after it: by priority, each in turn, with their attempts so far.
    pub parked: BTreeMap<(Reverse<u8>, i64), (Meta, Attempt)>,
}

impl Key {
    /// A key that a message has.
    pub fn held_by(holder: Tag) -> Key {
        Key { holder, parked: BTreeMap::new() }
    }

    /// Puts a message in line, behind others of its priority or (`first`) before them.
    fn park(&mut self, meta: Meta, attempt: Attempt, first: bool) {
        let priority = Reverse(priority(meta.log.log));
        let mut same =
            self.parked.range((priority, i64::MIN)..=(priority, i64::MAX)).map(|((_, turn), _)| *turn);
        let turn =
            if first { same.next().map_or(0, |t| t - 1) } else { same.next_back().map_or(0, |t| t + 1) };
        self.parked.insert((priority, turn), (meta, attempt));
    }
}

impl Outlet {
    /// Keys are held by what is in flight only, and nothing waits behind them.
    pub fn forget_parked(&mut self) {
        let cursors = &self.cursors;
        self.keys.retain(|_, key| {
            key.parked.clear();
            cursors
                .get(&key.holder.log())
                .is_some_and(|cursor| cursor.flying.contains_key(&key.holder.offset().0))
        });
        self.parked = 0;
    }

    /// Keys matter from now on, or no more: who has something in hands has its key, or what waits behind keys is ready.
    pub fn order_by_key(&mut self, by_key: bool) {
        if by_key == self.policy.by_key {
            return;
        }
        self.policy.by_key = by_key;
        for (_, key) in std::mem::take(&mut self.keys) {
            for (meta, attempt) in key.parked.into_values() {
                let returned = Returned { attempt, bytes: meta.bytes, meta: Some(meta) };
                self.cursors.entry(meta.log.log).or_default().give_back(0, meta.offset.0, returned);
            }
        }
        self.parked = 0;
        if by_key {
            for (log, cursor) in &self.cursors {
                for (offset, hash) in cursor.flying.iter().filter_map(|(o, f)| Some((*o, f.meta?.key_hash))) {
                    let holder = tag(*log, offset);
                    self.keys.entry(hash).or_insert_with(|| Key::held_by(holder));
                }
            }
            self.keys.remove(&0);
        }
    }

    /// The next message of a key, if there is one, is ready.
    pub fn free_key(&mut self, holder: Tag, meta: Option<Meta>) {
        let hash = match meta {
            Some(meta) => Some(meta.key_hash),
            None => self.keys.iter().find(|(_, key)| key.holder == holder).map(|(hash, _)| *hash),
        };
        let Some(hash) = hash.filter(|hash| *hash != 0) else { return };
        let Some(key) = self.keys.get_mut(&hash).filter(|key| key.holder == holder) else { return };
        match key.parked.pop_first() {
            None => {
                self.keys.remove(&hash);
            }
            Some((_, (next, attempt))) => {
                self.parked -= 1;
                key.holder = tag(next.log.log, next.offset.0);
                let cursor = self.cursors.entry(next.log.log).or_default();
                let returned = Returned { attempt, bytes: next.bytes, meta: Some(next) };
                cursor.give_back(0, next.offset.0, returned);
                self.stir(next.log.log);
            }
        }
    }

    /// Whether another message has the key of this one.
    pub(super) fn is_busy(&self, log: u16, meta: &Meta) -> bool {
        let key = self.keys.get(&meta.key_hash).filter(|_| self.policy.by_key);
        key.is_some_and(|key| key.holder != tag(log, meta.offset.0))
    }

    /// Whether a message may be handed out as far as its key goes; if so it has the key, or else it waits behind it.
    pub(super) fn take_key(&mut self, log: u16, meta: Meta, attempt: Attempt) -> bool {
        if !self.policy.by_key || meta.key_hash == 0 {
            return true;
        }
        let holder = tag(log, meta.offset.0);
        let key = self.keys.entry(meta.key_hash).or_insert_with(|| Key::held_by(holder));
        if key.holder == holder {
            return true;
        }
        self.parked += 1;
        if let Some((other, attempt)) = take_idle(&mut self.cursors, key.holder, priority(log)) {
            key.park(other, attempt, true);
            key.holder = holder;
            return true;
        }
        key.park(meta, attempt, false);
        false
    }

    /// Room for more behind busy keys.
    pub fn may_park(&self) -> bool {
        self.parked < PARKED_MESSAGES_MAX
    }

    /// Discards the message of lowest priority that came first among those that wait behind keys. Returns its size.
    pub(super) fn evict_parked(
        &mut self,
        logs: &dyn Logs,
        finished: &mut Finished,
        ctx: &mut Ctx<'_>,
    ) -> Option<u32> {
        if !self.may_discard() || self.parked == 0 {
            return None;
        }
        let each = self.keys.iter().filter_map(|(hash, key)| {
            let lowest = key.parked.last_key_value()?.0.0;
            let (at, (meta, _)) = key.parked.range((lowest, i64::MIN)..).next()?;
            Some((Reverse(lowest), tag(meta.log.log, meta.offset.0), *hash, *at))
        });
        let (_, _, hash, at) = each.min_by_key(|(lowest, tag, ..)| (Reverse(*lowest), *tag))?;
        let (meta, attempt) = self.keys.get_mut(&hash)?.parked.remove(&at)?;
        self.parked -= 1;
        let rank = match attempt.0 {
            0 => is_delayed(meta.log.log).then_some(meta.timestamp.0),
            _ => Some(0),
        };
        self.discard(meta.log.log, meta, (attempt, rank), Reason::Overflow, logs, finished, ctx);
        Some(meta.bytes)
    }
}

/// Takes a message of lower priority that has a key, and that nobody was given yet, off its line.
fn take_idle(cursors: &mut BTreeMap<u16, Box<Cursor>>, holder: Tag, above: u8) -> Option<(Meta, Attempt)> {
    let (log, offset) = (holder.log(), holder.offset().0);
    let cursor = cursors.get_mut(&log).filter(|_| priority(log) < above)?;
    let meta = cursor.returned_mut(offset).filter(|returned| returned.attempt == Attempt(0))?.meta?;
    cursor.take_returned(offset).map(|returned| (meta, returned.attempt))
}
