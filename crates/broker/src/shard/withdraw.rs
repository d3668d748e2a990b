//! Messages that leave a queue, or what came back to a subscription, though nobody was given them: whoever has looked at them moves
//! them elsewhere in one step.

use waystation_base::{Attempt, EntityId, Tag, limits::WITHDRAWN_RANGES_MAX};

use super::{
    HashMap, HashSet, Shard,
    cursor::{Reason, is_delayed, tag},
    outlet::{Finished, Logs, Outlet},
};
use crate::{Kind, Refusal, Source};

impl Shard {
    /// Whether messages wait and were handed out just so often.
    pub(super) fn check_withdrawn(
        &self,
        source: &Source,
        id: EntityId,
        messages: &[(Tag, Attempt)],
    ) -> Result<(), Refusal> {
        if source.kind() == Kind::Queue {
            let queue = &self.queues[&id];
            return queue.outlet.check_waiting(&queue.logs(), messages);
        }
        let subscription = &self.subscriptions[&id];
        let logs = subscription.logs(&self.topics);
        // What belongs to a topic that others read cannot be moved away from there; what came back to this one alone can.
        match messages.iter().find(|(tag, _)| !logs.comes_back(tag.log())) {
            Some((tag, _)) => Err(Refusal::NotWaiting { tag: *tag }),
            None => subscription.outlet.check_waiting(&logs, messages),
        }
    }
}

impl Outlet {
    fn check_waiting(&self, logs: &dyn Logs, messages: &[(Tag, Attempt)]) -> Result<(), Refusal> {
        let tags = messages.iter().map(|(tag, _)| *tag).collect();
        let aside = self.attempts_aside(&tags);
        for (tag, attempt) in messages {
            if self.attempts_waiting(*tag, logs, &aside) != Some(*attempt) {
                return Err(Refusal::NotWaiting { tag: *tag });
            }
            let stretches = self.cursors.get(&tag.log()).map_or(0, |cursor| cursor.done.stretches());
            if stretches + messages.len() > WITHDRAWN_RANGES_MAX {
                let what = "gaps between waiting messages of one queue";
                return Err(Refusal::Limit { what, limit: WITHDRAWN_RANGES_MAX as u64 });
            }
        }
        Ok(())
    }

    /// How often a message was handed out that waits; nothing if it does not wait.
    fn attempts_waiting(&self, tag: Tag, logs: &dyn Logs, aside: &HashMap<Tag, Attempt>) -> Option<Attempt> {
        let (log, offset) = (logs.log(tag.log())?, tag.offset().0);
        if offset < log.base || offset >= log.next {
            return None;
        }
        let Some(cursor) = self.cursors.get(&tag.log()) else { return Some(Attempt(0)) };
        if cursor.done.contains(offset) || cursor.flying.contains_key(&offset) {
            return None;
        }
        if cursor.has_returned(offset) {
            let rank = cursor.rank(offset);
            return cursor.returned.get(&(rank, offset)).map(|returned| returned.attempt);
        }
        Some(aside.get(&tag).copied().unwrap_or_default())
    }

    /// Of those messages: which wait for their time, behind a key or in a tenant's line, and how often they were handed out.
    fn attempts_aside(&self, tags: &HashSet<Tag>) -> HashMap<Tag, Attempt> {
        let mut found = HashMap::default();
        if self.any_delayed(tags) {
            let delayed = self.delayed.iter().filter(|((_, tag), _)| tags.contains(tag));
            found.extend(delayed.map(|((_, tag), waiting)| (*tag, waiting.attempt)));
        }
        if self.parked > 0 {
            let parked = self.keys.values().flat_map(|key| key.parked.values());
            let parked = parked.map(|(meta, attempt)| (tag(meta.log.log, meta.offset.0), *attempt));
            found.extend(parked.filter(|(tag, _)| tags.contains(tag)));
        }
        found.extend(self.tried_in_lines(tags));
        found
    }

    /// Of those messages: which stand in lines of a subscription's, and how often they were handed out, where they were.
    pub(super) fn tried_in_lines(&self, tags: &HashSet<Tag>) -> HashMap<Tag, Attempt> {
        let logs: HashSet<u16> = tags.iter().map(|tag| tag.log()).collect();
        let all = logs
            .into_iter()
            .flat_map(|log| self.lined_up(log).map(move |(offset, attempt)| (tag(log, offset), attempt)));
        all.filter(|(tag, attempt)| attempt.0 > 0 && tags.contains(tag)).collect()
    }

    /// Messages of one log that stand in a line of a subscription's: behind another one of their key, or in their tenant's; and how
    /// often they were handed out. Of those in tenants' lines only the ones that were.
    pub(super) fn lined_up(&self, log: u16) -> impl Iterator<Item = (u64, Attempt)> {
        let parked = self.cursors.get(&log).into_iter().flat_map(|cursor| cursor.parked());
        let parked = parked.map(|(meta, attempt)| (meta.offset.0, *attempt));
        let shares = self.shares.iter().flat_map(move |shares| shares.tried(log));
        parked.chain(shares.map(|(_, meta, attempt)| (meta.offset.0, attempt)))
    }

    /// Looking for a message among the delayed ones takes a walk over all of them.
    fn any_delayed(&self, tags: &HashSet<Tag>) -> bool {
        let aside = |tag: &Tag| {
            self.cursors.get(&tag.log()).is_some_and(|cursor| cursor.aside.contains(&tag.offset().0))
        };
        !self.delayed.is_empty() && tags.iter().any(|tag| is_delayed(tag.log()) || aside(tag))
    }

    /// Takes messages that wait off wherever they wait, each with the bytes of its body.
    pub(super) fn withdraw(&mut self, messages: &[(Tag, u32)], finished: &mut Finished) {
        if messages.is_empty() {
            return;
        }
        let tags: HashSet<Tag> = messages.iter().map(|(tag, _)| *tag).collect();
        self.withdraw_delayed(&tags);
        self.withdraw_parked(&tags);
        if let Some(shares) = &mut self.shares {
            shares.take(|waits| tags.contains(&tag(waits.number, waits.meta.offset.0)));
        }
        for (tag, body_bytes) in messages {
            let (log, offset) = (tag.log(), tag.offset().0);
            let cursor = self.cursors.entry(log).or_default();
            // One that the same transaction has named before.
            if cursor.done.contains(offset) {
                continue;
            }
            finished.add(Reason::Withdrawn, log, offset, *body_bytes);
            cursor.skip.remove(&offset);
            cursor.unpark(offset);
            if let Ok(at) = cursor.window.binary_search_by_key(&offset, |meta| meta.offset.0) {
                cursor.window.remove(at);
            }
            if let Some(returned) = cursor.take_returned(offset)
                && self.policy.by_key
            {
                self.free_key(*tag, returned.meta);
            }
        }
    }

    fn withdraw_delayed(&mut self, tags: &HashSet<Tag>) {
        if !self.any_delayed(tags) {
            return;
        }
        let gone: Vec<_> = self.delayed.keys().filter(|(_, tag)| tags.contains(tag)).copied().collect();
        for key in gone {
            self.delayed.remove(&key);
            let tag = key.1;
            if let Some(cursor) = self.cursors.get_mut(&tag.log()) {
                cursor.aside.remove(&tag.offset().0);
            }
            if self.policy.by_key {
                // One that is to be tried again has its key meanwhile.
                self.free_key(tag, None);
            }
        }
    }

    fn withdraw_parked(&mut self, tags: &HashSet<Tag>) {
        if self.parked == 0 {
            return;
        }
        let parked = &mut self.parked;
        for key in self.keys.values_mut() {
            let before = key.parked.len();
            key.parked.retain(|_, (meta, _)| !tags.contains(&tag(meta.log.log, meta.offset.0)));
            *parked -= before - key.parked.len();
        }
    }
}
