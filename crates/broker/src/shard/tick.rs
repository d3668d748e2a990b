//! What time brings about: leases and pulls that end, messages that become due or expire, idle things that go, retention.

use std::cmp::Reverse;

use waystation_base::{ConsumerId, EntityId, Millis, Offset};

use super::{Ctx, Shard, dispatch::LOOK_MS_MAX, entry::Entry, retry::Why, timers::Timer};
use crate::{
    Append, Effect, Kind,
    command::Hold,
    effect::{Closed, Notice},
    place::LogId,
};

/// Timers handled in one tick: others wait for the next, which is at once.
const TIMERS_MAX: usize = 10_000;

impl Shard {
    /// When [`Shard::tick`] is to be called next.
    pub fn next_deadline(&self) -> Option<Millis> {
        self.timers.peek().map(|Reverse((at, _))| *at)
    }

    /// Carries out what is due.
    pub fn tick(&mut self, now: Millis, log: &mut dyn Append, effects: &mut Vec<Effect>) {
        for _ in 0..TIMERS_MAX {
            let Some(Reverse((at, _))) = self.timers.peek() else { break };
            if *at > now {
                break;
            }
            let Some(Reverse((_, timer))) = self.timers.pop() else { break };
            let mut ctx = Ctx::new(now, log, effects);
            self.fire(timer, &mut ctx);
            self.close(ctx);
        }
    }

    fn fire(&mut self, timer: Timer, ctx: &mut Ctx<'_>) {
        match timer {
            Timer::Lease(id, tag, attempt) => {
                let Some(outlet) = self.outlet_mut(id) else { return };
                let over = outlet.held(tag, attempt).is_some_and(|flight| flight.held_until <= ctx.now);
                if over {
                    let kind = outlet.kind;
                    self.bring_back(kind, id, &[tag], Why::LeaseEnded, ctx);
                    ctx.dirty.push((kind, id));
                }
            }
            Timer::Pull(id, consumer) => self.end_pull(id, consumer, ctx),
            Timer::Due(id) => {
                let Some(outlet) = self.outlet_mut(id) else { return };
                outlet.due(ctx);
                ctx.dirty.push((outlet.kind, id));
            }
            Timer::Expiry(id) => {
                if let Some(outlet) = self.outlet_mut(id) {
                    ctx.dirty.push((outlet.kind, id));
                }
            }
            Timer::Idle(id) => self.check_idle(id, ctx),
            Timer::DeadLetter(id, tag) => self.retry_dead_letter(id, tag, ctx),
            Timer::Reread(id, log, window, find) => {
                if let Some(outlet) = self.outlet_mut(id) {
                    outlet.reread(log, (window, find));
                    ctx.dirty.push((outlet.kind, id));
                }
            }
            Timer::Retention(id) => self.retire(id, ctx),
            Timer::Untold(route) => self.tell_the_rest(route, ctx),
            Timer::Vhost(id) => {
                self.pools.rung(id, ctx.now);
                self.follow_pools(ctx);
            }
        }
    }

    fn end_pull(&mut self, id: EntityId, consumer: ConsumerId, ctx: &mut Ctx<'_>) {
        let Some(outlet) = self.outlet_mut(id) else { return };
        let until = match outlet.consumers.get(consumer).map(|pull| pull.hold) {
            Some(Hold::Pull { until, .. }) => until,
            Some(Hold::Once) => Millis(0),
            _ => return,
        };
        // A pull that does not wait gets what is there, and what is there may first have to be read.
        if outlet.is_looking() && ctx.now.since(until) < LOOK_MS_MAX {
            ctx.timers.push((ctx.now.plus(1), Timer::Pull(id, consumer)));
        } else if outlet.consumers.remove(consumer).is_some() {
            outlet.last_used = ctx.now;
            ctx.gone.push(consumer);
            ctx.effects.push(Effect::Closed { consumer, reason: Closed::PullEnded });
        }
    }

    fn check_idle(&mut self, id: EntityId, ctx: &mut Ctx<'_>) {
        let Some(idle) = self.idle_expiry_ms(id) else { return };
        let Some(outlet) = self.outlet_mut(id) else { return };
        if outlet.consumers.len() > 0 {
            outlet.last_used = ctx.now;
            outlet.warned = false;
        }
        let (kind, name) = (outlet.kind, outlet.name.clone());
        let (warn_at, at) = (outlet.last_used.plus(idle / 10 * 9), outlet.last_used.plus(idle));
        if ctx.now >= at {
            ctx.effects.push(Effect::Notice(Notice::IdleGone { kind, name }));
            self.remove(kind, id, ctx);
        } else if ctx.now >= warn_at {
            if !std::mem::replace(&mut outlet.warned, true) {
                ctx.effects.push(Effect::Notice(Notice::IdleSoon { kind, name, at }));
            }
            ctx.timers.push((at, Timer::Idle(id)));
        } else {
            ctx.timers.push((warn_at, Timer::Idle(id)));
        }
    }

    /// Lets a topic's old messages go.
    fn retire(&mut self, id: EntityId, ctx: &mut Ctx<'_>) {
        let Some(topic) = self.topics.get(&id) else { return };
        let Some(interval) = topic.retention_interval_ms() else { return };
        ctx.timers.push((ctx.now.plus(interval), Timer::Retention(id)));
        let older_than = topic.spec.retention_ms.map(|ms| Millis(ctx.now.0.saturating_sub(ms)));
        let bytes = topic.spec.retention_bytes;
        let logs = topic
            .logs
            .iter()
            .enumerate()
            .map(|(partition, log)| (partition, log.base, log.expired(older_than, bytes)));
        for (partition, base, to) in logs.filter(|(_, base, to)| to > base).collect::<Vec<_>>() {
            let log = LogId { entity: id, log: partition as u16 };
            debug_assert!(to > base);
            self.apply_trim(log, Offset(to), Some(ctx));
            Entry::Trim(log, Offset(to)).append(ctx.log);
        }
    }

    /// A partition begins later, now (with `ctx`) or after a restart. Subscriptions that had not read so far go on there.
    pub(super) fn apply_trim(&mut self, log: LogId, base: Offset, mut ctx: Option<&mut Ctx<'_>>) {
        let Some(topic) = self.topics.get_mut(&log.entity) else { return };
        let Some(kept) = topic.logs.get_mut(usize::from(log.log)) else { return };
        topic.counters.retired += base.0.saturating_sub(kept.base);
        kept.trim(base.0);
        for (reader, number) in &topic.readers[usize::from(log.log)] {
            let Some(subscription) = self.subscriptions.get_mut(reader) else { continue };
            let missed = subscription.apply_overrun(*number, base.0);
            if let Some(ctx) = ctx.as_deref_mut().filter(|_| missed > 0) {
                let subscription = subscription.outlet.name.clone();
                ctx.effects.push(Effect::Notice(Notice::Overrun { subscription, messages: missed }));
                ctx.dirty.push((Kind::Subscription, *reader));
            }
        }
    }
}

impl super::Subscription {
    /// Messages below `base` are not there any more: what had not been read of them will not be. Returns how many.
    pub(super) fn apply_overrun(&mut self, number: u16, base: u64) -> u64 {
        let outlet = &mut self.outlet;
        let Some(cursor) = outlet.cursors.get_mut(&number) else { return 0 };
        // What is in a consumer's hands may still be settled.
        let unread: u64 = if cursor.done.head() < base {
            cursor
                .done
                .live(cursor.done.head(), base - 1)
                .into_iter()
                .map(|(first, last)| last - first + 1)
                .sum()
        } else {
            0
        };
        let held = cursor.flying.keys().filter(|offset| **offset < base).count() as u64;
        cursor.window.retain(|meta| meta.offset.0 >= base);
        let gone: Vec<u64> =
            cursor.returned.keys().map(|(_, offset)| *offset).filter(|offset| *offset < base).collect();
        gone.into_iter().for_each(|offset| {
            cursor.take_returned(offset);
        });
        let mut at = cursor.done.head();
        let mut flying: Vec<u64> = cursor.flying.keys().copied().filter(|offset| *offset < base).collect();
        flying.sort_unstable();
        for end in flying.into_iter().chain([base]) {
            cursor.done.insert(at, end);
            at = end + 1;
        }
        cursor.scan = cursor.scan.max(base);
        cursor.aside.retain(|offset| *offset >= base);
        cursor.trim_line(base);
        outlet.delayed.retain(|(_, tag), _| tag.log() != number || tag.offset().0 >= base);
        outlet.leave_lines(number, Some(base));
        let missed = unread.saturating_sub(held);
        outlet.counters.retired += missed;
        missed
    }
}
