//! What keeps messages back though somebody would take them: rates, and how many may be under way at once.

use std::{collections::BTreeMap, sync::Arc};

use waystation_base::Millis;

use super::{Ctx, outlet::Outlet, tenants::SLOTS, timers::Timer};
use crate::{
    spec::{Fair, MessageRate},
    view::HeldBack,
};

/// The rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// How fast.
    pub rate: Option<MessageRate>,
    /// How many at once.
    pub concurrency: Option<u32>,
    /// Fair to whom.
    pub fair: Option<Arc<Fair>>,
}

impl Rules {
    /// The limits under these rules; none, so that nothing is to be looked at, if there are none.
    pub fn limits(self) -> Option<Box<Limits>> {
        let is_limited = self != Rules::default();
        is_limited.then(|| Box::new(Limits { rules: self, ..Limits::default() }))
    }
}

/// What is left of a rate: the generic cell rate algorithm (ITU-T I.371), in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bucket {
    /// When the next message would be due in an even flow.
    due_us: u64,
}

impl Bucket {
    /// The moment from which on one more may go.
    pub(super) fn opens_at(&self, rate: &MessageRate) -> Millis {
        let spare_us = interval_us(rate) * u64::from(rate.burst.unwrap_or(rate.messages).max(1) - 1);
        Millis(self.due_us.saturating_sub(spare_us).div_ceil(1_000))
    }

    /// Whether it is as if nothing had gone.
    pub(super) fn is_full(&self, now: Millis) -> bool {
        self.due_us <= now.0 * 1_000
    }

    /// Another rate holds from now on: what went by the one before keeps nothing back for longer than a burst of the new one would.
    pub(super) fn change(&mut self, rate: &MessageRate, now: Millis) {
        let burst = u64::from(rate.burst.unwrap_or(rate.messages).max(1));
        self.due_us = self.due_us.min(now.0 * 1_000 + interval_us(rate) * burst);
    }

    pub(super) fn take(&mut self, rate: &MessageRate, now: Millis) {
        self.due_us = self.due_us.max(now.0 * 1_000) + interval_us(rate);
    }
}

fn interval_us(rate: &MessageRate) -> u64 {
    (rate.per_ms * 1_000 / u64::from(rate.messages.max(1))).max(1)
}

/// Why messages stand ready and are not handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shut {
    /// The rate is used up for now.
    pub rate: bool,
    /// As many as may be are under way.
    pub concurrency: bool,
    /// The same of a tenant.
    pub tenant_rate: bool,
    /// The same of a tenant.
    pub tenant_concurrency: bool,
}

/// See the module. It lives in memory alone: a restart begins with full buckets.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    rules: Rules,
    bucket: Bucket,
    tenants: Vec<Bucket>,
    /// Messages under way, as of this round of handing out.
    held: u64,
    /// Messages of each tenant that this round hands out and settles at once: they are never under way.
    passing: BTreeMap<u8, u64>,
    /// The rules were changed since the last round.
    changed: bool,
    /// When the shard looks again.
    armed: Option<Millis>,
    /// What the last round met.
    pub shut: Shut,
}

impl Limits {
    /// Takes other rules; what is used up stays used up, as far as these rules go.
    pub fn change(&mut self, rules: Rules) {
        self.changed = true;
        self.rules = rules;
    }

    /// Rules that were changed hold from now on; gives the rate of each tenant if it may be another one than before.
    fn settle_change(&mut self, now: Millis) -> Option<&MessageRate> {
        if !std::mem::take(&mut self.changed) {
            return None;
        }
        if let Some(rate) = &self.rules.rate {
            self.bucket.change(rate, now);
        }
        let rate = self.rules.fair.as_ref()?.rate.as_ref()?;
        self.tenants.iter_mut().for_each(|bucket| bucket.change(rate, now));
        Some(rate)
    }

    /// Whether a message of any tenant may go now; else when to look again, if time helps.
    fn may_go(&mut self, now: Millis) -> Result<(), Option<Millis>> {
        if self.rules.concurrency.is_some_and(|most| self.held >= u64::from(most)) {
            self.shut.concurrency = true;
            return Err(None);
        }
        match self.rules.rate.as_ref().map(|rate| self.bucket.opens_at(rate)) {
            Some(at) if at > now => {
                self.shut.rate = true;
                Err(Some(at))
            }
            _ => Ok(()),
        }
    }

    /// The same for a message of the tenant in `slot`, of whom consumers hold so many.
    fn may_go_of(&mut self, slot: u8, held: impl FnOnce() -> u64, now: Millis) -> Result<(), Option<Millis>> {
        let Some(fair) = &self.rules.fair else { return Ok(()) };
        let passing = || self.passing.get(&slot).copied().unwrap_or_default();
        if fair.concurrency.is_some_and(|most| held().saturating_sub(passing()) >= u64::from(most)) {
            self.shut.tenant_concurrency = true;
            return Err(None);
        }
        let bucket = self.tenants.get(usize::from(slot)).copied().unwrap_or_default();
        match fair.rate.as_ref().map(|rate| bucket.opens_at(rate)) {
            Some(at) if at > now => {
                self.shut.tenant_rate = true;
                Err(Some(at))
            }
            _ => Ok(()),
        }
    }

    /// One of a tenant goes; `holds`: it will be held.
    fn goes(&mut self, slot: u8, holds: bool, now: Millis) {
        self.held += u64::from(holds);
        if !holds && self.rules.fair.is_some() {
            *self.passing.entry(slot).or_default() += 1;
        }
        if let Some(rate) = &self.rules.rate {
            self.bucket.take(rate, now);
        }
        if let Some(rate) = self.rules.fair.as_ref().and_then(|fair| fair.rate.as_ref()) {
            if self.tenants.is_empty() {
                self.tenants = vec![Bucket::default(); SLOTS];
            }
            self.tenants[usize::from(slot)].take(rate, now);
        }
    }

    /// To whom it is fair.
    pub(super) fn fair(&self) -> Option<Arc<Fair>> {
        self.rules.fair.clone()
    }

    /// When the shard is to look again: nothing if it does so sooner.
    pub(super) fn arm(&mut self, at: Option<Millis>) -> Option<Millis> {
        let at = at.filter(|at| self.armed.is_none_or(|armed| *at < armed))?;
        self.armed = Some(at);
        Some(at)
    }
}

impl Outlet {
    /// A round of handing out begins.
    pub fn begin_limits(&mut self, now: Millis) {
        let held = self.in_hands();
        if let Some(limits) = &mut self.limits {
            (limits.held, limits.shut) = (held, Shut::default());
            limits.passing.clear();
            limits.armed = limits.armed.filter(|at| *at > now);
            if let Some((rate, shares)) = limits.settle_change(now).zip(self.shares.as_mut()) {
                shares.change_rate(rate, now);
            }
        }
    }

    /// Whether a message may be handed out now, whoever it is of.
    pub fn is_open(&mut self, ctx: &mut Ctx<'_>) -> bool {
        let Some(limits) = &mut self.limits else { return true };
        let open = limits.may_go(ctx.now);
        self.is_good(open, ctx)
    }

    /// Whether a message of a tenant may.
    pub fn is_open_for(&mut self, slot: u8, ctx: &mut Ctx<'_>) -> bool {
        let Some(limits) = &mut self.limits else { return true };
        let cursors = &self.cursors;
        let open = limits.may_go_of(slot, || super::tenants::held(cursors, slot), ctx.now);
        self.is_good(open, ctx)
    }

    fn is_good(&mut self, open: Result<(), Option<Millis>>, ctx: &mut Ctx<'_>) -> bool {
        let Err(at) = open else { return true };
        if let Some(at) = self.limits.as_mut().and_then(|limits| limits.arm(at)) {
            ctx.timers.push((at, Timer::Expiry(self.id)));
        }
        false
    }

    /// Notes that a message is handed out.
    pub fn note_limits(&mut self, slot: u8, holds: bool, now: Millis) {
        if let Some(limits) = &mut self.limits {
            limits.goes(slot, holds, now);
        }
    }

    /// Why `ready` messages are not handed out.
    pub fn held_back(&self, ready: u64) -> Vec<HeldBack> {
        if ready == 0 {
            return Vec::new();
        }
        if self.consumers.len() == 0 {
            return vec![HeldBack::NoConsumer];
        }
        if !self.consumers.any_available() {
            return vec![HeldBack::Credit];
        }
        let shut = self.limits.as_ref().map(|limits| limits.shut).unwrap_or_default();
        let each = [
            (shut.rate, HeldBack::Rate),
            (shut.concurrency, HeldBack::Concurrency),
            (shut.tenant_rate, HeldBack::TenantRate),
            (shut.tenant_concurrency, HeldBack::TenantConcurrency),
            (self.waits_for_keys(), HeldBack::Key),
        ];
        let own = each.into_iter().filter(|(is_shut, _)| *is_shut).map(|(_, why)| why);
        own.chain(self.shut_by_vhost()).collect()
    }

    fn waits_for_keys(&self) -> bool {
        self.parked > 0 || self.cursors.values().any(|cursor| cursor.parked_count() > 0)
    }

    /// Takes other rules.
    pub fn change_limits(&mut self, rules: Rules) {
        match (&mut self.limits, rules == Rules::default()) {
            (limits, true) => *limits = None,
            (Some(limits), false) => limits.change(rules),
            (None, false) => self.limits = rules.limits(),
        }
        self.shares.iter_mut().for_each(|shares| shares.reopen());
    }
}
