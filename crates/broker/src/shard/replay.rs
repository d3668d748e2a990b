//! After a restart: the entries of the journal are applied again, then what only lived in memory is made good.

use bytes::Bytes;
use waystation_base::{
    Attempt, EntityId, Millis, Position,
    batch::{self, Header},
};

use super::{
    Ctx, ReplayError, Shard,
    cursor::{Dying, is_delayed, tag},
    entry::{self, Entry, Publish},
    log::Hot,
    outlet::{Logs, Outlet, Waiting},
};
use crate::{Append, Effect, Kind};

impl Shard {
    /// Takes from an entry before the snapshot only where messages are stored.
    pub fn reindex(&mut self, position: Position, kind: u8, payload: &[u8]) -> Result<(), ReplayError> {
        if kind != entry::kind::PUBLISH {
            return Ok(());
        }
        let Entry::Publish(publish) = entry::read(kind, payload)? else { return Ok(()) };
        let header = Header::read(publish.batch)?;
        let position = position.0 + publish.batch_at as u64;
        if position < self.settled_to.0 {
            return Ok(());
        }
        let batch = Hot {
            first: header.base_offset.0,
            position,
            timestamp: header.max_timestamp.0,
            span: header.last_offset_delta,
            bytes: header.bytes as u32,
        };
        let log = match self.queues.get_mut(&publish.log.entity) {
            Some(queue) => queue.logs.get_mut(publish.log.log),
            None => self
                .topics
                .get_mut(&publish.log.entity)
                .and_then(|t| t.logs.get_mut(usize::from(publish.log.log))),
        };
        if let Some(log) = log {
            log.reindex(batch);
        }
        Ok(())
    }

    /// Applies an entry after the snapshot.
    pub fn replay(&mut self, position: Position, kind: u8, payload: &[u8]) -> Result<(), ReplayError> {
        match entry::read(kind, payload)? {
            Entry::Declare(id, declaration) => self.apply_declare(id, declaration),
            Entry::Delete(id) => drop(self.apply_delete(id)),
            Entry::Publish(publish) => self.replay_publish(position, &publish)?,
            Entry::Take(id, until, items) => {
                self.replay_outlet(id, |outlet| outlet.apply_take(until, &items))
            }
            Entry::Done(id, reason, bytes, stretches) => {
                self.replay_outlet(id, |outlet| outlet.apply_done(reason, bytes, &stretches));
                if let Some(queue) = self.queues.get_mut(&id) {
                    queue.trim();
                }
            }
            Entry::Return(id, items) => self.replay_outlet(id, |outlet| outlet.apply_return(&items)),
            Entry::Dying(id, reason, error, item) => self.replay_outlet(id, |outlet| {
                let class = outlet.faults.take(tag(item.log, item.offset)).and_then(|fault| fault.class);
                let cursor = outlet.cursors.get_mut(&item.log);
                if let Some(flight) = cursor.and_then(|cursor| cursor.flying.get_mut(&item.offset)) {
                    flight.dying = Some(Box::new(Dying { reason, error, class, rank: None }));
                    flight.held_until = Millis::NEVER;
                    outlet.dying += 1;
                }
            }),
            Entry::Extend(id, until, held) => {
                self.replay_outlet(id, |outlet| outlet.apply_extend(until, &held))
            }
            Entry::Source(id, number, log, start) => self.apply_source(id, number, log, start),
            Entry::Seek(id, number, offset) => {
                if let Some(subscription) = self.subscriptions.get_mut(&id) {
                    subscription.apply_seek(number, offset);
                }
            }
            Entry::Trim(log, base) => self.apply_trim(log, base, None),
            Entry::Settled(outcome) => self.apply_settled(&outcome),
            Entry::Count(id, duplicates) => {
                self.replay_outlet(id, |outlet| outlet.counters.duplicates += u64::from(duplicates));
            }
            Entry::Bind(bound) => self.apply_bind(bound),
            Entry::Unbind(bound) => self.apply_unbind(&bound),
            Entry::Tenant(id, slot, name) => {
                if let Some(queue) = self.queues.get_mut(&id) {
                    queue.tenants.apply(slot, name);
                }
            }
            Entry::Failed(id, fault, places) => {
                self.replay_outlet(id, |outlet| outlet.apply_fault(&fault, &places));
            }
            Entry::Document(name, body) => self.apply_document(name, body.map(Bytes::copy_from_slice)),
            Entry::Moment(_) | Entry::Client(_) | Entry::Unrouted(_) => {}
        }
        Ok(())
    }

    fn replay_outlet(&mut self, id: EntityId, apply: impl FnOnce(&mut Outlet)) {
        if let Some(outlet) = self.outlet_mut(id) {
            apply(outlet);
        }
    }

    fn replay_publish(&mut self, position: Position, publish: &Publish<'_>) -> Result<(), ReplayError> {
        let header = Header::read(publish.batch)?;
        let (log, first, bytes) = (publish.log.log, header.base_offset.0, header.bytes as u32);
        let position = Position(position.0 + publish.batch_at as u64);
        let span = header.last_offset_delta + 1;
        if let Some(topic) = self.topics.get_mut(&publish.log.entity) {
            topic.apply_stored(log, first, span, header.count, header.max_timestamp, position, bytes);
        }
        let Some(queue) = self.queues.get_mut(&publish.log.entity) else { return Ok(()) };
        queue.apply_stored(log, first, span, header.max_timestamp, position, bytes, publish.body_bytes);
        queue.outlet.expiring |= publish.expires;
        if let Some(window) = queue.spec.deduplication_ms {
            for id in publish.ids.as_chunks::<16>().0 {
                queue.recent.note(u128::from_le_bytes(*id), publish.seen, publish.seen.plus(window));
            }
        }
        if is_delayed(log) {
            for record in batch::records(publish.batch)? {
                let record = record?;
                let due = record.system()?.deliver_at.unwrap_or_default();
                let waiting = Waiting { attempt: Attempt(0), bytes: record.body_bytes() as u32 };
                queue.outlet.wait(due, tag(log, record.offset.0), waiting);
            }
        }
        Ok(())
    }

    /// Makes good what only lived in memory: nobody is attached any more, timers run again. To be called once, after the last
    /// entry.
    pub fn recovered(&mut self, now: Millis, log: &mut dyn Append, effects: &mut Vec<Effect>) {
        let mut ctx = Ctx::new(now, log, effects);
        let mut topics: Vec<EntityId> = self.topics.keys().copied().collect();
        topics.sort_unstable();
        for id in topics {
            self.arm(id, &mut ctx);
        }
        let queues = self.queues.keys().map(|id| (Kind::Queue, *id));
        let mut outlets: Vec<_> =
            queues.chain(self.subscriptions.keys().map(|id| (Kind::Subscription, *id))).collect();
        outlets.sort_unstable();
        for (kind, id) in outlets {
            self.recover_outlet(kind, id, &mut ctx);
        }
        let passing = self.routes.values().filter(|route| !route.spec.durable).map(|route| route.id);
        let mut passing: Vec<EntityId> = passing.collect();
        passing.sort_unstable();
        for id in passing {
            self.remove(Kind::Route, id, &mut ctx);
        }
        self.close(ctx);
    }

    fn recover_outlet(&mut self, kind: Kind, id: EntityId, ctx: &mut Ctx<'_>) {
        let passing = self.queues.get(&id).is_some_and(|queue| queue.spec.exclusive || !queue.spec.durable);
        let temporary = self.subscriptions.get(&id).is_some_and(|subscription| subscription.spec.temporary);
        if passing || temporary {
            // Whoever it was for is not connected any more.
            return self.remove(kind, id, ctx);
        }
        if let Some(outlet) = self.outlet_mut(id) {
            outlet.prune();
            outlet.last_used = ctx.now;
            outlet.arm_due(ctx);
        }
        self.pass_over_trimmed(id);
        self.release_attached(kind, id, ctx);
        self.with_outlet(kind, id, |outlet, logs| {
            outlet.cursors.values_mut().for_each(|cursor| cursor.rescan());
            for (number, offset) in outlet.dying_messages() {
                outlet.load_dying(number, offset, logs, ctx);
            }
            outlet.forget_whose();
            for number in outlet.keyless_logs() {
                outlet.find(number, logs, ctx);
            }
            if outlet.policy.by_key {
                outlet.note_holders();
                outlet.finds_holders(logs, ctx);
            }
        });
        self.arm(id, ctx);
        ctx.dirty.push((kind, id));
    }
}

impl Shard {
    /// What retention took while it was on its way to the dead letters is alive in a snapshot of that time, and nowhere else.
    fn pass_over_trimmed(&mut self, id: EntityId) {
        let Shard { subscriptions, topics, .. } = self;
        let Some(subscription) = subscriptions.get_mut(&id) else { return };
        for number in 0..subscription.sources.len() as u16 {
            let base = subscription.logs(topics).log(number).map(|log| log.base);
            if let Some(base) = base {
                subscription.apply_overrun(number, base);
            }
        }
    }
}

impl Outlet {
    /// Of a message that a restart has met in several states the latest one holds.
    fn prune(&mut self) {
        let mut latest = super::HashMap::default();
        for (due, tag) in self.delayed.keys() {
            latest.insert(*tag, *due);
        }
        let cursors = &mut self.cursors;
        self.delayed.retain(|(due, tag), _| {
            let offset = tag.offset().0;
            let elsewhere = cursors.get(&tag.log()).is_some_and(|cursor| {
                cursor.done.contains(offset)
                    || cursor.flying.contains_key(&offset)
                    || cursor.has_returned(offset)
            });
            latest[tag] == *due && !elsewhere
        });
        cursors.values_mut().for_each(|cursor| cursor.aside.clear());
        for (_, tag) in self.delayed.keys().filter(|(_, tag)| !is_delayed(tag.log())) {
            let cursor = cursors.entry(tag.log()).or_default();
            cursor.aside.insert(tag.offset().0);
            if self.policy.ordered {
                // A snapshot of an earlier version does not say so.
                cursor.hold_key(tag.offset().0, None);
            }
        }
    }

    fn dying_messages(&self) -> Vec<(u16, u64)> {
        let each = self.cursors.iter().flat_map(|(number, cursor)| {
            let dying = cursor.flying.iter().filter(|(_, flight)| flight.dying.is_some());
            dying.map(|(offset, _)| (*number, *offset))
        });
        let mut messages: Vec<_> = each.collect();
        messages.sort_unstable();
        messages
    }

    /// Logs of ordered subscriptions with messages that failed: what comes behind one of its key waits.
    fn keyless_logs(&self) -> Vec<u16> {
        let lacking = self.cursors.iter().filter(|(_, cursor)| cursor.keyless().next().is_some());
        lacking.filter(|_| self.policy.ordered).map(|(number, _)| *number).collect()
    }

    /// Messages that may hold a key: those that were handed out before.
    fn note_holders(&mut self) {
        for (number, cursor) in &mut self.cursors {
            let returned = cursor.returned.iter().filter(|(_, returned)| returned.attempt.0 > 0);
            let returned = returned.map(|((_, offset), _)| *offset);
            cursor.holders = returned.chain(cursor.flying.keys().copied()).collect();
            let failed = self.delayed.iter().filter(|((_, t), w)| t.log() == *number && w.attempt.0 > 0);
            cursor.holders.extend(failed.map(|((_, tag), _)| tag.offset().0));
        }
    }
}
