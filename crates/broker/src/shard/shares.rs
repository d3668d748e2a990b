//! Whose turn it is among tenants: of subscriptions that are fair to them.
//!
//! A topic's messages lie in one order, whoever they are of. So the subscription reads ahead, up to [`FAIR_AHEAD_MAX`] messages,
//! and keeps a line for each tenant in memory; they take turns. What waits in a line is found by its log after a restart.

use std::collections::{BTreeMap, VecDeque};

use waystation_base::{Attempt, Millis, limits::FAIR_AHEAD_MAX};

use super::{
    Ctx, HashMap,
    cursor::{Cursor, Reason, Returned},
    dispatch::{Pick, Round, admits},
    limits::Bucket,
    outlet::{Finished, Logs, Outlet, Popped},
    timers::Timer,
};
use crate::{
    place::{Meta, Place},
    spec::{Fair, MessageRate},
};

/// Milliseconds for which it reads on when nobody consumes: who pulls one message after the other is back soon.
const READS_ON_MS: u64 = 60_000;

/// A message in its tenant's line.
#[derive(Clone, Copy, Debug)]
pub struct Waits {
    /// The number of its source.
    pub number: u16,
    /// The message.
    pub meta: Meta,
    /// How often it was handed out.
    pub attempt: Attempt,
    /// Its rank, if it came back.
    rank: Option<u64>,
}

impl Waits {
    /// Whether the log alone would not bring it back as it is.
    fn came_back(&self) -> bool {
        self.rank.is_some() || self.attempt.0 > 0
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    lines: BTreeMap<u64, VecDeque<Waits>>,
    /// Whose turn was last.
    last: u64,
    /// The source that is read ahead next: where there is room for few, it goes round.
    next_source: u16,
    /// Messages in all lines.
    count: usize,
    /// The same by source.
    by_source: HashMap<u16, usize>,
    /// Messages of each tenant that consumers hold, as far as it is known whose they are.
    held: HashMap<u64, u32>,
    buckets: HashMap<u64, Bucket>,
}

impl Shares {
    fn push(&mut self, waits: Waits) {
        self.count += 1;
        *self.by_source.entry(waits.number).or_default() += 1;
        let line = self.lines.entry(waits.meta.tenant).or_default();
        let Some(rank) = waits.rank else { return line.push_back(waits) };
        // One that came back takes its place among those that wait already: by its offset, or by when it was due.
        let is_behind = |other: &Waits| match rank {
            0 => other.meta.offset > waits.meta.offset,
            due => other.meta.timestamp.0 > due,
        };
        match line.iter().position(|other| other.number == waits.number && is_behind(other)) {
            Some(at) => line.insert(at, waits),
            None => line.push_back(waits),
        }
    }

    fn pop(&mut self, tenant: u64) -> Option<Waits> {
        let line = self.lines.get_mut(&tenant)?;
        let waits = line.pop_front();
        if line.is_empty() {
            self.lines.remove(&tenant);
        }
        if let Some(waits) = &waits {
            self.count -= 1;
            *self.by_source.entry(waits.number).or_default() -= 1;
        }
        waits
    }

    /// Takes out those for which `goes` says so.
    pub fn take(&mut self, goes: impl Fn(&Waits) -> bool) -> Vec<Waits> {
        let mut taken = Vec::new();
        for line in self.lines.values_mut() {
            line.retain(|waits| {
                let goes = goes(waits);
                taken.extend(goes.then_some(*waits));
                !goes
            });
        }
        self.lines.retain(|_, line| !line.is_empty());
        self.count -= taken.len();
        for waits in &taken {
            *self.by_source.entry(waits.number).or_default() -= 1;
        }
        taken
    }

    /// The tenant whose turn it is among those that may get more, and else when to look again, if time helps.
    fn turn(&self, fair: &Fair, now: Millis, shut: &mut (bool, bool)) -> Result<u64, Option<Millis>> {
        let mut again: Option<Millis> = None;
        let after = self.lines.range((self.last.wrapping_add(1))..).chain(self.lines.range(..=self.last));
        for tenant in after.map(|(tenant, _)| *tenant) {
            if fair.concurrency.is_some_and(|most| self.held.get(&tenant).copied().unwrap_or(0) >= most) {
                shut.1 = true;
                continue;
            }
            match fair.rate.as_ref().map(|rate| self.bucket(tenant).opens_at(rate)) {
                Some(at) if at > now => {
                    shut.0 = true;
                    again = Some(again.unwrap_or(at).min(at));
                }
                _ => return Ok(tenant),
            }
        }
        Err(again)
    }

    fn bucket(&self, tenant: u64) -> Bucket {
        self.buckets.get(&tenant).copied().unwrap_or_default()
    }

    fn goes(&mut self, tenant: u64, holds: bool, rate: Option<&MessageRate>, now: Millis) {
        self.last = tenant;
        if holds {
            *self.held.entry(tenant).or_default() += 1;
        }
        if let Some(rate) = rate {
            if self.buckets.len() > FAIR_AHEAD_MAX {
                self.buckets.retain(|_, bucket| bucket.opens_at(rate) > now);
            }
            self.buckets.entry(tenant).or_default().take(rate, now);
        }
    }

    /// A message of a tenant is in nobody's hands any more.
    pub fn let_go(&mut self, tenant: Option<u64>) {
        let Some(tenant) = tenant else { return };
        if let Some(held) = self.held.get_mut(&tenant) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.held.remove(&tenant);
            }
        }
    }

    /// How many of a source wait in lines.
    pub fn of_source(&self, number: u16) -> usize {
        self.by_source.get(&number).copied().unwrap_or_default()
    }

    /// Those of a source that came back: rank, message, attempts.
    pub fn tried(&self, number: u16) -> impl Iterator<Item = (u64, Meta, Attempt)> {
        let all = self.lines.values().flatten();
        all.filter(move |waits| waits.number == number && waits.came_back())
            .map(|waits| (waits.rank.unwrap_or_default(), waits.meta, waits.attempt))
    }

    /// Tells messages of a source where they are now.
    pub fn relocate(&mut self, number: u16, place: impl Fn(&Meta) -> Place) {
        for waits in self.lines.values_mut().flatten().filter(|waits| waits.number == number) {
            waits.meta.place = place(&waits.meta);
        }
    }

    fn count_held(&mut self, cursors: &BTreeMap<u16, Box<Cursor>>) {
        self.held.clear();
        let flights = cursors.values().flat_map(|cursor| cursor.flying.values());
        for tenant in flights.filter(|flight| flight.dying.is_none()).filter_map(|flight| flight.tenant) {
            *self.held.entry(tenant).or_default() += 1;
        }
    }
}

impl Outlet {
    /// It is fair to tenants from now on in this way, or (none) to nobody.
    pub fn share(&mut self, fair: Option<&Fair>) {
        let by = fair.and_then(Fair::tenant_by);
        if by == self.policy.tenant_by && by.is_some() == self.shares.is_some() {
            return;
        }
        self.unshare(|_| true);
        self.policy.tenant_by = by;
        // Whose each message is must be read again.
        self.cursors.values_mut().for_each(|cursor| cursor.forget_places());
        self.shares = self.policy.tenant_by.is_some().then(Box::default);
    }

    /// Takes messages out of their lines: those that came back stand with others that did, the rest is found by its log.
    pub fn unshare(&mut self, goes: impl Fn(&Waits) -> bool) {
        let Some(shares) = &mut self.shares else { return };
        for waits in shares.take(goes) {
            let Some(cursor) = self.cursors.get_mut(&waits.number).filter(|_| waits.came_back()) else {
                continue;
            };
            let Waits { meta, attempt, rank, .. } = waits;
            cursor.give_back(
                rank.unwrap_or_default(),
                meta.offset.0,
                Returned { attempt, bytes: meta.bytes, meta: None },
            );
        }
    }

    /// Messages of a source below `base` are not there any more, or (none) it begins anew.
    pub fn leave_lines(&mut self, number: u16, base: Option<u64>) {
        let Some(shares) = &mut self.shares else { return };
        shares.take(|waits| waits.number == number && base.is_none_or(|base| waits.meta.offset.0 < base));
        shares.count_held(&self.cursors);
    }

    /// What consumers hold is counted anew, as far as it is known whose it is.
    pub fn count_shares(&mut self) {
        if let Some(shares) = &mut self.shares {
            shares.count_held(&self.cursors);
        }
    }

    /// Hands out what stands ready of a subscription that is fair to tenants.
    pub(super) fn hand_by_turns(
        &mut self,
        before: Millis,
        logs: &dyn Logs,
        round: &mut Round,
        finished: &mut Finished,
        ctx: &mut Ctx<'_>,
    ) {
        if !self.reads_ahead(ctx.now) {
            return;
        }
        let place = (self.kind, self.id);
        loop {
            self.line_up(before, logs, finished, ctx);
            // One that came back must be known by its tenant before any later one of that tenant goes.
            // What cannot be read holds nobody else up.
            let is_finding =
                self.cursors.values().any(|cursor| !cursor.finding.is_empty() && !cursor.find_failed);
            if is_finding || !self.consumers.any_available() || !self.is_open(ctx) {
                return;
            }
            let next = self.consumers.next(|_, consumer| admits(ctx, consumer, place));
            let Some(consumer) = next else { return };
            let Some(next) = self.next_of_tenants(ctx) else { return };
            if next.meta.expires_at <= before {
                let how = (next.attempt, Some(0).filter(|_| next.attempt.0 > 0));
                self.discard(next.number, next.meta, how, Reason::Expired, logs, finished, ctx);
            } else {
                self.hand(next.number, next.meta, next.attempt, consumer, round, finished, ctx);
            }
        }
    }

    /// Whether it is of use to know what comes: not for consumers that are not there, or were not of late.
    fn reads_ahead(&self, now: Millis) -> bool {
        let has_lines = self.shares.as_ref().is_some_and(|shares| shares.count > 0);
        self.consumers.len() > 0 || has_lines && now.since(self.last_used) < READS_ON_MS
    }

    /// Puts what is next in each source in its tenant's line.
    fn line_up(&mut self, before: Millis, logs: &dyn Logs, finished: &mut Finished, ctx: &mut Ctx<'_>) {
        let next = self.shares.as_ref().map_or(0, |shares| shares.next_source);
        let sources = self.cursors.range(next..).chain(self.cursors.range(..next));
        for number in sources.map(|(number, _)| *number).collect::<Vec<_>>() {
            while self.shares.as_ref().is_some_and(|shares| shares.count < FAIR_AHEAD_MAX) {
                let Pick::Next { log, returned, .. } = self.look(number, logs, ctx) else { break };
                let rank = returned.and_then(|offset| Some(self.cursors.get(&log)?.rank(offset)));
                let popped = self.pop(log, returned, logs, finished, before, ctx);
                if let (Popped::Ready(meta, attempt), Some(shares)) = (popped, &mut self.shares) {
                    shares.push(Waits { number: log, meta, attempt, rank });
                    shares.next_source = number.wrapping_add(1);
                }
            }
        }
    }

    /// The next message of the tenant whose turn it is.
    fn next_of_tenants(&mut self, ctx: &mut Ctx<'_>) -> Option<Waits> {
        let fair = self.limits.as_ref()?.fair()?;
        let shares = self.shares.as_mut()?;
        let mut shut = (false, false);
        let turn = shares.turn(&fair, ctx.now, &mut shut);
        let limits = self.limits.as_mut()?;
        limits.shut.tenant_rate |= shut.0;
        limits.shut.tenant_concurrency |= shut.1;
        match turn {
            Ok(tenant) => {
                if !self.is_admitted(ctx) {
                    return None;
                }
                self.shares.as_mut()?.pop(tenant)
            }
            Err(at) => {
                if let Some(at) = limits.arm(at) {
                    ctx.timers.push((at, Timer::Expiry(self.id)));
                }
                None
            }
        }
    }

    /// Notes that a message of a tenant is handed out.
    pub(super) fn note_share(&mut self, meta: &Meta, holds: bool, now: Millis) {
        let Some(shares) = &mut self.shares else { return };
        let fair = self.limits.as_ref().and_then(|limits| limits.fair());
        shares.goes(meta.tenant, holds, fair.as_ref().and_then(|fair| fair.rate.as_ref()), now);
    }
}
