//! Whose turn it is among tenants: of subscriptions that are fair to them.
//!
//! A topic's messages lie in one order, whoever they are of. So the subscription reads ahead, up to [`FAIR_AHEAD_MAX`] messages,
//! and keeps a line for each tenant in memory ([`super::lines`]); they take turns. What waits in a line is found by its log after a
//! restart.

use std::collections::{BTreeMap, BTreeSet};

use waystation_base::{Millis, limits::FAIR_AHEAD_MAX};

use super::{
    Ctx,
    cursor::{Cursor, Reason, Returned},
    dispatch::{FIND_MESSAGES_MAX, Pick, Round, admits},
    lines::{Lines, Waits},
    outlet::{Finished, Logs, Outlet, Popped},
    timers::Timer,
};
use crate::{
    place::{Meta, Place},
    spec::{Fair, MessageRate},
};

/// Milliseconds for which it reads on when nobody consumes: who pulls one message after the other is back soon.
const READS_ON_MS: u64 = 60_000;

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Shares {
    lines: Lines,
    /// The source that is read ahead next: they go round.
    next_source: u16,
    /// Messages that consumers hold and of whom it is not known whose they are, by source.
    nobodys: BTreeMap<u16, BTreeSet<u64>>,
}

impl Shares {
    /// A message of a tenant is in nobody's hands any more.
    pub fn let_go(&mut self, tenant: Option<u64>) {
        tenant.into_iter().for_each(|tenant| self.lines.let_go(tenant));
    }

    /// How many of a source wait in lines.
    pub fn of_source(&self, number: u16) -> usize {
        self.lines.of_source(number)
    }

    /// Those of a source that came back: rank, message, attempts.
    pub fn tried(&self, number: u16) -> impl Iterator<Item = (u64, Meta, waystation_base::Attempt)> {
        self.lines.tried(number)
    }

    /// Takes out those for which `goes` says so.
    pub fn take(&mut self, goes: impl Fn(&Waits) -> bool) -> Vec<Waits> {
        self.lines.take(goes)
    }

    /// Tells messages of a source where they are now.
    pub fn relocate(&mut self, number: u16, place: impl Fn(&Meta) -> Place) {
        self.lines.relocate(number, place);
    }

    /// When the next message in a line expires.
    pub fn next_expiry(&self) -> Option<Millis> {
        self.lines.next_expiry()
    }

    /// Another rate holds for each tenant.
    pub fn change_rate(&mut self, rate: &MessageRate, now: Millis) {
        self.lines.change_rate(rate, now);
    }

    /// Other rules hold.
    pub fn reopen(&mut self) {
        self.lines.reopen();
    }

    /// Whose a message is that somebody may hold is known now, or will not be.
    pub fn learn(&mut self, number: u16, offset: u64, tenant: Option<u64>) -> Option<u64> {
        let asked = self.nobodys.get_mut(&number)?;
        let was_asked = asked.remove(&offset);
        if asked.is_empty() {
            self.nobodys.remove(&number);
        }
        let tenant = tenant.filter(|_| was_asked)?;
        self.lines.hold(tenant);
        Some(tenant)
    }

    fn count_held(&mut self, cursors: &BTreeMap<u16, Box<Cursor>>) {
        let flights = cursors.values().flat_map(|cursor| cursor.flying.values());
        self.lines
            .recount(flights.filter(|flight| flight.dying.is_none()).filter_map(|flight| flight.tenant));
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
        self.forget_whose();
    }

    /// Whose the messages are that consumers hold is to be found out.
    pub fn forget_whose(&mut self) {
        let Some(shares) = &mut self.shares else { return };
        for (number, cursor) in &mut self.cursors {
            let held = cursor.flying.iter_mut().filter(|(_, flight)| flight.dying.is_none());
            let offsets: BTreeSet<u64> = held
                .map(|(offset, flight)| {
                    flight.tenant = None;
                    *offset
                })
                .collect();
            if !offsets.is_empty() {
                shares.nobodys.insert(*number, offsets);
            }
        }
        shares.count_held(&self.cursors);
    }

    /// Asks whose messages are that consumers hold; says whether an answer is to be waited for.
    fn finds_whose(&mut self, logs: &dyn Logs, ctx: &mut Ctx<'_>) -> bool {
        let unknown = self.shares.iter().flat_map(|shares| &shares.nobodys);
        let asks =
            unknown.map(|(number, of)| (*number, of.iter().copied().take(FIND_MESSAGES_MAX).collect()));
        for (number, offsets) in asks.collect::<Vec<(u16, Vec<u64>)>>() {
            match logs.log(number).filter(|_| self.cursors.contains_key(&number)) {
                Some(log) => self.find_offsets(number, offsets, log, logs, ctx),
                // The topic is gone, and with it what was held.
                None => drop(self.shares.as_mut().map(|shares| shares.nobodys.remove(&number))),
            }
        }
        // What cannot be read holds nobody else up.
        self.cursors.values().any(|cursor| cursor.is_finding())
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
        if base.is_none() {
            shares.nobodys.remove(&number);
        }
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
        // One that came back must be known by its tenant before any later one of that tenant goes, and one that is held before
        // that tenant gets more.
        let mut finds = self.finds_whose(logs, ctx);
        let mut ready: BTreeSet<u16> = self.cursors.keys().copied().collect();
        loop {
            finds |= self.line_up(&mut ready, before, logs, finished, ctx);
            if finds || !self.consumers.any_available() || !self.is_open(ctx) {
                return;
            }
            let next = self.consumers.next(|_, consumer| admits(ctx, consumer, place));
            let Some(consumer) = next else { return };
            let Some(next) = self.next_of_tenants(ctx) else { return };
            // There may be room for another one of it.
            ready.insert(next.number);
            if next.meta.expires_at <= before {
                self.expire_waiting(next, logs, finished, ctx);
            } else {
                self.hand(next.number, next.meta, next.attempt, consumer, round, finished, ctx);
            }
        }
    }

    /// Whether it is of use to know what comes: not for consumers that are not there, or were not of late.
    fn reads_ahead(&self, now: Millis) -> bool {
        let has_lines = self.shares.as_ref().is_some_and(|shares| shares.lines.count() > 0);
        self.consumers.len() > 0 || has_lines && now.since(self.last_used) < READS_ON_MS
    }

    /// Puts what is next in each source that may have something in its tenant's line, one of each in turn. Says whether it had to ask
    /// where messages are that came back.
    fn line_up(
        &mut self,
        ready: &mut BTreeSet<u16>,
        before: Millis,
        logs: &dyn Logs,
        finished: &mut Finished,
        ctx: &mut Ctx<'_>,
    ) -> bool {
        let mut finds = false;
        while let Some(shares) = self.shares.as_mut().filter(|shares| shares.lines.count() < FAIR_AHEAD_MAX) {
            shares.lines.step();
            let next = ready.range(shares.next_source..).next().or_else(|| ready.first());
            let Some(number) = next.copied() else { break };
            shares.next_source = number.wrapping_add(1);
            let Pick::Next { log, returned, .. } = self.look(number, logs, ctx) else {
                ready.remove(&number);
                finds |= self.cursors.get(&number).is_some_and(|cursor| cursor.is_finding());
                continue;
            };
            let rank = returned.and_then(|offset| Some(self.cursors.get(&log)?.rank(offset)));
            let popped = self.pop(log, returned, logs, finished, before, ctx);
            if let (Popped::Ready(meta, attempt), Some(shares)) = (popped, &mut self.shares) {
                self.expiring |= meta.expires_at != Millis::NEVER;
                shares.lines.push(Waits { number: log, meta, attempt, rank });
            }
        }
        finds
    }

    /// The next message of the tenant whose turn it is.
    fn next_of_tenants(&mut self, ctx: &mut Ctx<'_>) -> Option<Waits> {
        let limits = self.limits.as_mut()?;
        let fair = limits.fair()?;
        let lines = &mut self.shares.as_mut()?.lines;
        let turn = lines.turn(&fair, ctx.now);
        let (late, full) = lines.shut();
        limits.shut.tenant_rate |= late;
        limits.shut.tenant_concurrency |= full;
        match turn {
            Some(tenant) => {
                if !self.is_admitted(ctx) {
                    return None;
                }
                self.shares.as_mut()?.lines.pop(tenant)
            }
            None => {
                if let Some(at) = limits.arm(lines.opens_at()) {
                    ctx.timers.push((at, Timer::Expiry(self.id)));
                }
                None
            }
        }
    }

    /// Discards what has expired by then, wherever in its tenant's line it stands.
    pub(super) fn expire_lines(
        &mut self,
        by: Millis,
        logs: &dyn Logs,
        finished: &mut Finished,
        ctx: &mut Ctx<'_>,
    ) {
        while self.may_discard()
            && let Some(waits) = self.shares.as_mut().and_then(|shares| shares.lines.expired(by))
        {
            self.expire_waiting(waits, logs, finished, ctx);
        }
    }

    fn expire_waiting(&mut self, waits: Waits, logs: &dyn Logs, finished: &mut Finished, ctx: &mut Ctx<'_>) {
        let Waits { number, meta, attempt, rank } = waits;
        self.discard(number, meta, (attempt, rank), Reason::Expired, logs, finished, ctx);
    }

    /// Notes that a message of a tenant is handed out.
    pub(super) fn note_share(&mut self, meta: &Meta, holds: bool, now: Millis) {
        let Some(shares) = &mut self.shares else { return };
        let fair = self.limits.as_ref().and_then(|limits| limits.fair());
        shares.lines.goes(meta.tenant, holds, fair.as_ref().and_then(|fair| fair.rate.as_ref()), now);
    }
}
