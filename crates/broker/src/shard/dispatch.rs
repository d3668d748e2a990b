//! Handing out: which message is next, to whom it goes, and what must be loaded first.

use std::collections::BTreeMap;

use waystation_base::{
    Attempt, ConsumerId, EntityId, Millis, Offset,
    limits::{ACKED_RANGES_MAX, RETRIES_WAITING_MAX},
};

use super::{
    Ctx,
    consumers::Consumer,
    cursor::{Cursor, DELAYED_LOGS, Flight, Reason, is_delayed, priority, tag},
    entry::{Entry, Item},
    log::Log,
    outlet::{Finished, Logs, Outlet, Popped},
    tenants::slot,
    timers::Timer,
};
use crate::{
    Effect, Kind,
    command::Hold,
    effect::{Closed, Handed},
    place::{Load, Meta, Purpose},
};

/// Messages asked for in one load.
const LOAD_MESSAGES_MAX: usize = 256;
/// A window with fewer messages is filled again before it is empty.
const WINDOW_LOW: usize = 64;
/// Stretches of a log named in one load.
const LOAD_SPANS_MAX: usize = 256;

/// Messages that came back and are looked up in one load: what lies in one batch is read but once.
pub(super) const FIND_MESSAGES_MAX: usize = 4_096;

/// Milliseconds for which one who does not wait still waits for messages that are being read.
pub(super) const LOOK_MS_MAX: u64 = 1_000;

/// Milliseconds for which one who takes one message at once waits for the queue's turn in its virtual host's line. Beside consumers
/// that take whatever room there is, whoever asks again and again would else get nothing for ever.
pub(super) const TURN_MS_MAX: u64 = 2_000;

/// What is next in line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Pick {
    /// This message: of those that came back, or else the window's first. `rank` orders it among others of its priority.
    Next { log: u16, returned: Option<u64>, rank: u64 },
    /// It must be loaded first; that is under way.
    Wait,
    /// There is nothing.
    Empty,
}

/// A queue's length limits.
#[derive(Clone, Copy, Debug, Default)]
pub struct Length {
    /// Messages.
    pub messages: Option<u64>,
    /// Bytes.
    pub bytes: Option<u64>,
}

impl Length {
    fn is_limited(self) -> bool {
        self.messages.is_some() || self.bytes.is_some()
    }
}

impl Outlet {
    /// Hands out all that can be.
    pub fn dispatch(&mut self, length: Length, logs: &dyn Logs, ctx: &mut Ctx<'_>) {
        self.begin_in_vhost(ctx);
        if self.policy.by_key && self.finds_holders(logs, ctx) {
            // A message that came back must be known by its key before any other one of that key goes.
            return;
        }
        if self.limits.is_some() {
            self.begin_limits(ctx.now);
        }
        if self.is_fair {
            self.begin_turns();
        }
        ctx.gone.extend(self.consumers.take_emptied());
        ctx.pools.give_back(self.consumers.take_freed(), ctx.now);
        let mut finished = Finished::default();
        // What has a life of no length lives as long as this step: whoever waits for it gets it. Not where messages wait for each
        // other: there one that goes lets others go first.
        let is_strict = self.policy.by_key;
        let before = Millis(ctx.now.0.saturating_sub(u64::from(!is_strict)));
        // What has expired makes room: nothing is dropped for it.
        self.expire(before, logs, &mut finished, ctx);
        if self.overfull || is_strict && length.is_limited() {
            self.shorten(length, logs, &mut finished, ctx);
        }
        let mut round = Round::default();
        if self.shares.is_some() {
            self.hand_by_turns(before, logs, &mut round, &mut finished, ctx);
        }
        while let Some((log, returned, consumer)) = self.next_pair(logs, ctx) {
            if let Popped::Ready(meta, attempt) = self.pop(log, returned, logs, &mut finished, before, ctx) {
                self.hand(log, meta, attempt, consumer, &mut round, &mut finished, ctx);
            }
        }
        // Before anything handed out may be done.
        self.close_round(round, ctx);
        // Who has room for a message gets it before the queue is found to be too long, as with RabbitMQ.
        if !is_strict {
            self.expire(ctx.now, logs, &mut finished, ctx);
        }
        if !is_strict && length.is_limited() {
            self.shorten(length, logs, &mut finished, ctx);
        }
        self.end_gets(ctx);
        if self.finish(finished, ctx) && (self.policy.by_key || self.policy.ordered) {
            // What is done at once may have let go of a key.
            ctx.dirty.push((self.kind, self.id));
        }
        ctx.pools.give_back(self.consumers.take_freed(), ctx.now);
        if self.consumers.len() > 0 || length.is_limited() {
            self.read_ahead(logs, ctx);
        }
    }

    /// Which message goes to whom now.
    fn next_pair(&mut self, logs: &dyn Logs, ctx: &mut Ctx<'_>) -> Option<(u16, Option<u64>, ConsumerId)> {
        if self.shares.is_some() || !self.consumers.any_available() || !self.is_open(ctx) {
            return None;
        }
        let pair = self.pair(logs, ctx)?;
        self.is_admitted(ctx).then_some(pair)
    }

    fn pair(&mut self, logs: &dyn Logs, ctx: &mut Ctx<'_>) -> Option<(u16, Option<u64>, ConsumerId)> {
        if self.kind == Kind::Subscription {
            return self.next_pair_of_sources(logs, ctx);
        }
        let Pick::Next { log, returned, .. } = self.pick_lane(logs, ctx) else { return None };
        let active = if self.policy.single_active { self.consumers.active() } else { None };
        // One message at once is for whoever asks.
        let fits = |id, hold| hold == Hold::Once || active.is_none_or(|active| active == id);
        let place = (self.kind, self.id);
        let consumer =
            self.consumers.next(|id, consumer| fits(id, consumer.hold) && admits(ctx, consumer, place))?;
        Some((log, returned, consumer))
    }

    /// Strict priority: the first message of the highest lane that has any.
    fn pick_lane(&mut self, logs: &dyn Logs, ctx: &mut Ctx<'_>) -> Pick {
        if self.is_fair {
            return self.pick_in_turn(logs, ctx);
        }
        for lane in self.lanes() {
            let pick = self.pick_of_logs(lane.into(), logs, ctx);
            if pick != Pick::Empty {
                return pick;
            }
        }
        Pick::Empty
    }

    /// Priorities that there are, highest first.
    fn lanes(&self) -> Vec<u8> {
        let mut lanes: Vec<u8> = self.cursors.keys().map(|log| priority(*log)).collect();
        lanes.sort_unstable_by(|a, b| b.cmp(a));
        lanes.dedup();
        lanes
    }

    /// Of one priority: what was published plainly and what became due, by time.
    pub(super) fn pick_of_logs(&mut self, plain: u16, logs: &dyn Logs, ctx: &mut Ctx<'_>) -> Pick {
        let delayed = plain + DELAYED_LOGS;
        let plain = self.look(plain, logs, ctx);
        match (plain, self.look(delayed, logs, ctx)) {
            (plain, Pick::Empty) => plain,
            (Pick::Empty, delayed) => delayed,
            (Pick::Wait, _) | (_, Pick::Wait) => Pick::Wait,
            (Pick::Next { rank: a, .. }, Pick::Next { rank: b, .. }) if a <= b => plain,
            (_, delayed) => delayed,
        }
    }

    fn next_pair_of_sources(
        &mut self,
        logs: &dyn Logs,
        ctx: &mut Ctx<'_>,
    ) -> Option<(u16, Option<u64>, ConsumerId)> {
        let numbers: Vec<u16> =
            self.cursors.range(self.turn..).chain(self.cursors.range(..self.turn)).map(|c| *c.0).collect();
        for number in numbers {
            let Pick::Next { log, returned, .. } = self.look(number, logs, ctx) else { continue };
            if let Some(consumer) = self.consumer_of_source(log, ctx) {
                return Some((log, returned, consumer));
            }
        }
        None
    }

    /// Who may get a source's next message: in an ordered subscription its owner, who changes only when nothing is held.
    fn consumer_of_source(&mut self, log: u16, ctx: &mut Ctx<'_>) -> Option<ConsumerId> {
        let place = (self.kind, self.id);
        let mut admits = |consumer: &Consumer| admits(ctx, consumer, place);
        if !self.policy.ordered {
            return self.consumers.next(|_, consumer| admits(consumer));
        }
        let cursor = self.cursors.get_mut(&log)?;
        if let Some(owner) = cursor.owner.filter(|owner| self.consumers.get(*owner).is_some()) {
            return self.consumers.next(|id, consumer| id == owner && admits(consumer));
        }
        cursor.owner = None;
        if cursor.flying.is_empty() {
            cursor.owner = self.consumers.next(|_, consumer| admits(consumer));
        }
        cursor.owner
    }

    /// What is next in one log.
    pub(super) fn look(&mut self, number: u16, logs: &dyn Logs, ctx: &mut Ctx<'_>) -> Pick {
        let Some((log, cursor)) = logs.log(number).zip(self.cursors.get(&number)) else { return Pick::Empty };
        if cursor.keyless().next().is_some() {
            self.find(number, logs, ctx);
            return Pick::Wait;
        }
        let may_park = self.may_park() && cursor.may_park();
        let stays = |meta: &Meta| !may_park && (cursor.behind(meta).is_some() || self.is_busy(number, meta));
        let next = |returned, rank| Pick::Next { log: number, returned, rank };
        let ahead = !is_delayed(number) && cursor.scan < log.next;
        let front = cursor.window.front();
        // In order of offsets: after a restart what was behind a key is found by its log again.
        let is_later = |offset: u64| match front {
            Some(meta) => meta.offset.0 < offset,
            None => ahead && cursor.scan < offset,
        };
        let returned = cursor.returned.first_key_value();
        let returned = returned.filter(|((_, offset), _)| !self.policy.ordered || !is_later(*offset));
        if let Some((&(rank, offset), returned)) = returned {
            let Some(meta) = &returned.meta else {
                self.find(number, logs, ctx);
                return Pick::Wait;
            };
            if cursor.behind(meta).is_some() && !may_park {
                return Pick::Empty;
            }
            match front {
                Some(meta) if meta.timestamp.0 < rank => return next(None, meta.timestamp.0),
                None if ahead && rank != 0 => {}
                _ => return next(Some(offset), rank),
            }
        }
        // What waits to be tried again has its own limit: it does not keep others from being handed out.
        let lined_up = self.shares.as_ref().map_or(0, |shares| shares.of_source(number));
        let waiting = cursor.aside.len() + cursor.parked_count() + lined_up;
        if waiting >= RETRIES_WAITING_MAX {
            return Pick::Empty;
        }
        // With nothing in anybody's hands the next message is the oldest one: what is done grows together from it.
        if cursor.done.stretches() >= ACKED_RANGES_MAX + waiting && !cursor.flying.is_empty() {
            return Pick::Empty;
        }
        if let Some(meta) = front {
            return if stays(meta) { Pick::Empty } else { next(None, meta.timestamp.0) };
        }
        if ahead && may_park {
            self.fill(number, logs, ctx);
            return Pick::Wait;
        }
        Pick::Empty
    }

    /// Asks for the next messages of a log.
    fn fill(&mut self, number: u16, logs: &dyn Logs, ctx: &mut Ctx<'_>) {
        let Some((log, cursor)) = logs.log(number).zip(self.cursors.get_mut(&number)) else { return };
        if cursor.loading {
            return;
        }
        cursor.loading = true;
        cursor.scan = cursor.scan.max(cursor.done.head());
        let spans = log.spans(cursor.scan, log.next, LOAD_SPANS_MAX);
        // The answer speaks for every offset below `to`: no further than the stretches that are named.
        let to =
            spans.last().filter(|_| spans.len() == LOAD_SPANS_MAX).map_or(log.next, |span| span.last.0 + 1);
        ctx.effects.push(Effect::Load(Load {
            purpose: Purpose::Window { entity: self.id, log: number, generation: cursor.generation },
            log: logs.id(number),
            from: Offset(cursor.scan),
            to: Offset(to),
            only: None,
            filter: self.policy.filter.clone().filter(|_| !logs.comes_back(number)),
            tenant_by: self.policy.tenant_by.clone(),
            messages_max: LOAD_MESSAGES_MAX,
            spans,
        }));
    }

    /// Asks where messages are that came back.
    pub(super) fn find(&mut self, number: u16, logs: &dyn Logs, ctx: &mut Ctx<'_>) {
        let Some((log, cursor)) = logs.log(number).zip(self.cursors.get(&number)) else { return };
        let lost = cursor.returned.iter().filter(|(_, returned)| returned.meta.is_none());
        let lost = cursor.keyless().chain(lost.map(|((_, offset), _)| *offset));
        let lost = lost.take(FIND_MESSAGES_MAX).collect();
        self.find_offsets(number, lost, log, logs, ctx);
    }

    /// Asks for the keys that were held before a restart; says whether an answer is to be waited for, to this or to what came back.
    pub(super) fn finds_holders(&mut self, logs: &dyn Logs, ctx: &mut Ctx<'_>) -> bool {
        let unknown = self.cursors.iter().filter(|(_, cursor)| !cursor.holders.is_empty());
        let some = |cursor: &Cursor| cursor.holders.iter().copied().take(FIND_MESSAGES_MAX).collect();
        let asks: Vec<(u16, Vec<u64>)> = unknown.map(|(number, cursor)| (*number, some(cursor))).collect();
        for (number, offsets) in asks {
            if let Some(log) = logs.log(number) {
                self.find_offsets(number, offsets, log, logs, ctx);
            }
        }
        self.cursors.values().any(|cursor| !cursor.finding.is_empty())
    }

    /// Asks where these messages are.
    pub fn find_offsets(
        &mut self,
        number: u16,
        mut lost: Vec<u64>,
        log: &Log,
        logs: &dyn Logs,
        ctx: &mut Ctx<'_>,
    ) {
        let Some(cursor) = self.cursors.get_mut(&number) else { return };
        lost.sort_unstable();
        lost.dedup();
        let (true, Some(&from), Some(&to)) = (cursor.finding.is_empty(), lost.first(), lost.last()) else {
            return;
        };
        cursor.finding = lost.clone();
        let mut spans: Vec<_> = lost.iter().flat_map(|offset| log.spans(*offset, offset + 1, 1)).collect();
        spans.dedup();
        ctx.effects.push(Effect::Load(Load {
            purpose: Purpose::Returned { entity: self.id, log: number, generation: cursor.find_generation },
            log: logs.id(number),
            from: Offset(from),
            to: Offset(to + 1),
            messages_max: lost.len(),
            only: Some(lost.into_iter().map(Offset).collect()),
            filter: None,
            tenant_by: self.policy.tenant_by.clone(),
            spans,
        }));
    }

    /// Drops the oldest messages, lowest priority first, while the queue is too long.
    fn shorten(&mut self, length: Length, logs: &dyn Logs, finished: &mut Finished, ctx: &mut Ctx<'_>) {
        // What is done must not count any more, now or later.
        self.finish(std::mem::take(finished), ctx);
        self.overfull = false;
        // What is in somebody's hands does not count.
        let mut messages = self.alive(logs).saturating_sub(self.in_flight());
        let mut bytes =
            if length.bytes.is_some_and(|max| self.bytes > max) { self.waiting_bytes() } else { self.bytes };
        let mut lanes = self.lanes();
        let mut uncovered = false;
        while length.messages.is_some_and(|max| messages > max) || length.bytes.is_some_and(|max| bytes > max)
        {
            let Some(lane) = lanes.last() else {
                if std::mem::take(&mut uncovered) {
                    // What was dropped may have let go of a key: there may be more in a lane that was empty.
                    lanes = self.lanes();
                    continue;
                }
                let Some(size) = self.evict_parked(logs, finished, ctx) else { break };
                messages -= 1;
                bytes = bytes.saturating_sub(size.into());
                continue;
            };
            let pick = if self.is_fair {
                self.pick_to_drop(*lane, logs, ctx)
            } else {
                self.pick_of_logs(u16::from(*lane), logs, ctx)
            };
            match pick {
                Pick::Empty => {
                    lanes.pop();
                }
                Pick::Wait => {
                    self.overfull = true;
                    break;
                }
                Pick::Next { log, returned, .. } => {
                    let Some(size) = self.evict(log, returned, logs, finished, ctx) else { break };
                    uncovered = self.policy.by_key;
                    messages -= 1;
                    bytes = bytes.saturating_sub(size.into());
                }
            }
        }
        self.finish(std::mem::take(finished), ctx);
    }

    /// Messages that are not done.
    pub fn alive(&self, logs: &dyn Logs) -> u64 {
        self.cursors
            .iter()
            .map(|(number, cursor)| logs.log(*number).map_or(0, |log| cursor.alive(log.next)))
            .sum()
    }

    /// Discards messages at the heads that have expired by then, and sees to it that the next one will be in time.
    fn expire(&mut self, by: Millis, logs: &dyn Logs, finished: &mut Finished, ctx: &mut Ctx<'_>) {
        if !self.expiring {
            return;
        }
        for number in self.cursors.keys().copied().collect::<Vec<_>>() {
            while let Pick::Next { log, returned, .. } = self.look(number, logs, ctx) {
                if !self.head_expired(log, returned, by) {
                    break;
                }
                self.pop(log, returned, logs, finished, by, ctx);
            }
        }
        self.expire_lines(by, logs, finished, ctx);
        let in_lines = self.shares.as_ref().and_then(|shares| shares.next_expiry());
        let heads = self.cursors.values().flat_map(|cursor| {
            let returned = cursor.returned.first_key_value().and_then(|(_, returned)| returned.meta.as_ref());
            cursor.window.front().into_iter().chain(returned).map(|meta| meta.expires_at)
        });
        let next = heads.chain(in_lines).min();
        if self.expiry_at <= ctx.now {
            self.expiry_at = Millis::NEVER;
        }
        // One timer is enough, however often this is looked at until then.
        if let Some(at) = next.filter(|at| *at > ctx.now && *at < self.expiry_at) {
            self.expiry_at = at;
            ctx.timers.push((at, Timer::Expiry(self.id)));
        }
    }

    /// Gives one message to one consumer.
    pub(super) fn hand(
        &mut self,
        log: u16,
        meta: Meta,
        attempts: Attempt,
        consumer: ConsumerId,
        round: &mut Round,
        finished: &mut Finished,
        ctx: &mut Ctx<'_>,
    ) {
        let tag = tag(log, meta.offset.0);
        let attempt = Attempt(attempts.0 + 1);
        let picked = self.consumers.get(consumer).expect("picked");
        let (hold, pool, client) = (picked.hold, picked.pool(), picked.client);
        self.note_limits(if self.is_fair { slot(log) } else { 0 }, hold != Hold::None, ctx.now);
        if self.is_fair {
            self.turn_on(log);
        }
        // The next source has its turn once this one's message has gone, and not when it was only looked at.
        self.turn = log.wrapping_add(1);
        // What is done at once is never under way.
        let holds = hold != Hold::None;
        self.note_share(&meta, holds, ctx.now);
        self.note_in_vhost(holds, ctx);
        let (holder, held_until) = match hold {
            Hold::Attached | Hold::Once | Hold::None => (Some(consumer), Millis::NEVER),
            Hold::Pull { lease_ms, .. } => (None, ctx.now.plus(lease_ms.unwrap_or(self.policy.lease_ms))),
        };
        self.consumers.given(consumer, tag);
        if let Some(pool) = pool.filter(|_| hold == Hold::Attached) {
            ctx.pools.take(pool, (self.kind, self.id), true, ctx.now);
        }
        let flight = Flight {
            consumer: holder,
            held_until,
            attempt,
            bytes: meta.bytes,
            meta: Some(meta),
            tenant: holds.then_some(meta.tenant),
            dying: None,
        };
        self.cursors.entry(log).or_default().flying.insert(meta.offset.0, flight);
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(attempt.0 > 1);
        if attempt.0 == 1 {
            self.waits.note(ctx.now.since(meta.timestamp));
        }
        if held_until != Millis::NEVER {
            ctx.timers.push((held_until, Timer::Lease(self.id, tag, attempt)));
        }
        if hold == Hold::None {
            finished.add(Reason::Accepted, log, meta.offset.0, meta.bytes);
        }
        let item = Item { log, offset: meta.offset.0, attempt, bytes: meta.bytes, due: Millis(0), client };
        round.takes.entry(held_until).or_default().push(item);
        round.handed.entry(consumer).or_default().push(Handed { tag, attempt, held_until, meta });
    }

    fn close_round(&mut self, round: Round, ctx: &mut Ctx<'_>) {
        for (held_until, items) in round.takes {
            Entry::Take(self.id, held_until, items).append(ctx.log);
        }
        for (consumer, messages) in round.handed {
            ctx.effects.push(Effect::Deliver { consumer, messages });
            match self.consumers.get(consumer).map(|consumer| consumer.hold) {
                Some(Hold::Once) => {
                    // It holds its message on.
                    self.consumers.retire(consumer);
                }
                Some(Hold::Pull { .. }) => {
                    self.consumers.remove(consumer);
                    ctx.gone.push(consumer);
                }
                _ => continue,
            }
            ctx.effects.push(Effect::Closed { consumer, reason: Closed::PullEnded });
        }
    }

    /// Those that take one message at once go without if there is none; what must first be read is waited for, and the turn that the
    /// virtual host gives.
    fn end_gets(&mut self, ctx: &mut Ctx<'_>) {
        let looking = self.is_looking();
        let wait_ms = if self.shut_by_vhost().is_some() || looking && self.takes_turns() {
            Some(TURN_MS_MAX)
        } else {
            looking.then_some(LOOK_MS_MAX)
        };
        for consumer in self.consumers.take_gets() {
            if let Some(wait_ms) = wait_ms {
                ctx.timers.push((ctx.now.plus(wait_ms), Timer::Pull(self.id, consumer)));
            } else {
                self.consumers.remove(consumer);
                ctx.gone.push(consumer);
                ctx.effects.push(Effect::Closed { consumer, reason: Closed::PullEnded });
            }
        }
    }

    /// Loads what will be wanted soon.
    fn read_ahead(&mut self, logs: &dyn Logs, ctx: &mut Ctx<'_>) {
        if !self.may_park() {
            return;
        }
        let low = |cursor: &super::cursor::Cursor| cursor.window.len() < WINDOW_LOW && !cursor.loading;
        let ends = |number: u16| logs.log(number).map_or(0, |log| log.next);
        let wanted: Vec<u16> = self
            .cursors
            .iter()
            .filter(|(number, cursor)| !is_delayed(**number) && low(cursor) && cursor.scan < ends(**number))
            .map(|(number, _)| *number)
            .collect();
        wanted.into_iter().for_each(|number| self.fill(number, logs, ctx));
    }
}

/// Whether the consumer's pool has room for one more message.
pub(super) fn admits(ctx: &mut Ctx<'_>, consumer: &Consumer, place: (Kind, EntityId)) -> bool {
    ctx.pools.admits(consumer.pool(), place, ctx.now).is_ok()
}

/// What one dispatch hands out.
#[derive(Default)]
pub(super) struct Round {
    takes: BTreeMap<Millis, Vec<Item>>,
    handed: BTreeMap<ConsumerId, Vec<Handed>>,
}
