//! Messages of tenants that wait in lines, and whose turn it is: a few steps for each message, however many wait, and in however many
//! lines.

use std::collections::{BTreeMap, BTreeSet};

use waystation_base::{Attempt, Millis};

use super::{HashMap, buckets::Buckets};
use crate::{
    place::{Meta, Place},
    spec::{Fair, MessageRate},
};

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
    pub rank: Option<u64>,
}

impl Waits {
    /// Whether the log alone would not bring it back as it is.
    pub fn came_back(&self) -> bool {
        self.rank.is_some() || self.attempt.0 > 0
    }

    /// Where it stands.
    fn place(&self) -> Standing {
        let rank = self.rank.unwrap_or_default();
        Standing { tenant: self.meta.tenant, number: self.number, rank, offset: self.meta.offset.0 }
    }
}

/// Where a message stands in its tenant's line.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Standing {
    tenant: u64,
    number: u16,
    rank: u64,
    offset: u64,
}

/// Messages of one tenant and one source.
#[derive(Clone, Debug, Default)]
struct Stretch {
    /// In the order of the log, those among them that came back to be tried at once.
    by_offset: BTreeMap<u64, Waits>,
    /// Those that came back when they were due.
    by_due: BTreeMap<(u64, u64), Waits>,
}

impl Stretch {
    fn insert(&mut self, waits: Waits) {
        match waits.place() {
            Standing { rank: 0, offset, .. } => self.by_offset.insert(offset, waits),
            Standing { rank, offset, .. } => self.by_due.insert((rank, offset), waits),
        };
    }

    fn remove(&mut self, at: Standing) -> Option<Waits> {
        match at.rank {
            0 => self.by_offset.remove(&at.offset),
            due => self.by_due.remove(&(due, at.offset)),
        }
    }

    /// The next one: what became due takes its place by when that was.
    fn first(&self) -> Option<Standing> {
        let first = self.by_offset.first_key_value().map(|(_, waits)| waits);
        let due = self.by_due.first_key_value().map(|(_, waits)| waits);
        let next = match (first, due) {
            (Some(first), Some(due)) if first.meta.timestamp.0 <= due.rank.unwrap_or_default() => first,
            (first, due) => due.or(first)?,
        };
        Some(next.place())
    }

    fn iter(&self) -> impl Iterator<Item = &Waits> {
        self.by_offset.values().chain(self.by_due.values())
    }

    fn is_empty(&self) -> bool {
        self.by_offset.is_empty() && self.by_due.is_empty()
    }
}

/// Whether a tenant may get more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Gate {
    /// As far as is known.
    #[default]
    Open,
    /// It holds as many as it may.
    Full,
    /// Its rate is used up until then.
    Late(Millis),
}

/// One tenant's messages. Its sources take turns.
#[derive(Clone, Debug, Default)]
struct Line {
    sources: BTreeMap<u16, Stretch>,
    last: u16,
    gate: Gate,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Lines {
    lines: BTreeMap<u64, Line>,
    /// Tenants by their gates.
    open: BTreeSet<u64>,
    full: BTreeSet<u64>,
    late: BTreeSet<(Millis, u64)>,
    /// Whose turn was last.
    last: u64,
    /// Messages in all lines.
    count: usize,
    /// The same by source.
    by_source: HashMap<u16, usize>,
    /// Those that expire, by when.
    expiries: BTreeSet<(Millis, Standing)>,
    /// Messages of each tenant that consumers hold, as far as it is known whose they are.
    held: HashMap<u64, u32>,
    buckets: Buckets,
    #[cfg(test)]
    pub steps: u64,
}

impl Lines {
    /// Counts, in tests, what would be slow if it were done too often.
    pub fn step(&mut self) {
        #[cfg(test)]
        {
            self.steps += 1;
        }
    }

    /// Messages in all lines.
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many of a source wait.
    pub fn of_source(&self, number: u16) -> usize {
        self.by_source.get(&number).copied().unwrap_or_default()
    }

    /// Puts a message in its tenant's line: one that came back among those that wait already.
    pub fn push(&mut self, waits: Waits) {
        self.step();
        self.count += 1;
        *self.by_source.entry(waits.number).or_default() += 1;
        if waits.meta.expires_at != Millis::NEVER {
            self.expiries.insert((waits.meta.expires_at, waits.place()));
        }
        let tenant = waits.meta.tenant;
        if !self.lines.contains_key(&tenant) {
            self.open.insert(tenant);
        }
        self.lines.entry(tenant).or_default().sources.entry(waits.number).or_default().insert(waits);
    }

    /// Takes out the next message of a tenant.
    pub fn pop(&mut self, tenant: u64) -> Option<Waits> {
        let line = self.lines.get_mut(&tenant)?;
        let after = line.last.checked_add(1).and_then(|from| line.sources.range(from..).next());
        let (number, stretch) = after.or_else(|| line.sources.first_key_value())?;
        line.last = *number;
        let at = stretch.first()?;
        self.remove(at)
    }

    fn remove(&mut self, at: Standing) -> Option<Waits> {
        self.step();
        let line = self.lines.get_mut(&at.tenant)?;
        let stretch = line.sources.get_mut(&at.number)?;
        let waits = stretch.remove(at)?;
        if stretch.is_empty() {
            line.sources.remove(&at.number);
        }
        if line.sources.is_empty() {
            self.file(at.tenant, Gate::Open);
            self.open.remove(&at.tenant);
            self.lines.remove(&at.tenant);
        }
        self.count -= 1;
        *self.by_source.entry(at.number).or_default() -= 1;
        self.expiries.remove(&(waits.meta.expires_at, at));
        Some(waits)
    }

    /// Takes out those for which `goes` says so.
    pub fn take(&mut self, goes: impl Fn(&Waits) -> bool) -> Vec<Waits> {
        let going: Vec<Standing> = self.iter().filter(|waits| goes(waits)).map(Waits::place).collect();
        going.into_iter().filter_map(|at| self.remove(at)).collect()
    }

    fn iter(&self) -> impl Iterator<Item = &Waits> {
        self.lines.values().flat_map(|line| line.sources.values()).flat_map(Stretch::iter)
    }

    /// Takes out one that has expired by then.
    pub fn expired(&mut self, by: Millis) -> Option<Waits> {
        let (_, at) = *self.expiries.first().filter(|(at, _)| *at <= by)?;
        self.remove(at)
    }

    /// When the next one expires.
    pub fn next_expiry(&self) -> Option<Millis> {
        self.expiries.first().map(|(at, _)| *at)
    }

    fn file(&mut self, tenant: u64, gate: Gate) {
        let Some(line) = self.lines.get_mut(&tenant) else { return };
        match std::mem::replace(&mut line.gate, gate) {
            Gate::Open => self.open.remove(&tenant),
            Gate::Full => self.full.remove(&tenant),
            Gate::Late(at) => self.late.remove(&(at, tenant)),
        };
        match gate {
            Gate::Open => self.open.insert(tenant),
            Gate::Full => self.full.insert(tenant),
            Gate::Late(at) => self.late.insert((at, tenant)),
        };
    }

    /// The tenant whose turn it is among those that may get more.
    pub fn turn(&mut self, fair: &Fair, now: Millis) -> Option<u64> {
        while let Some((_, tenant)) = self.late.first().filter(|(at, _)| *at <= now) {
            self.file(*tenant, Gate::Open);
        }
        loop {
            self.step();
            let after = self.last.checked_add(1).and_then(|from| self.open.range(from..).next());
            let tenant = *after.or_else(|| self.open.first())?;
            match self.gate(tenant, fair, now) {
                Gate::Open => return Some(tenant),
                gate => self.file(tenant, gate),
            }
        }
    }

    fn gate(&self, tenant: u64, fair: &Fair, now: Millis) -> Gate {
        if fair.concurrency.is_some_and(|most| self.held.get(&tenant).copied().unwrap_or(0) >= most) {
            return Gate::Full;
        }
        match fair.rate.as_ref().map(|rate| self.buckets.opens_at(tenant, rate)) {
            Some(at) if at > now => Gate::Late(at),
            _ => Gate::Open,
        }
    }

    /// Whether rates, and whether concurrency, keep tenants back that have something waiting.
    pub fn shut(&self) -> (bool, bool) {
        (!self.late.is_empty(), !self.full.is_empty())
    }

    /// When the next one may get more whose rate is used up.
    pub fn opens_at(&self) -> Option<Millis> {
        self.late.first().map(|(at, _)| *at)
    }

    /// Another rate holds for each tenant.
    pub fn change_rate(&mut self, rate: &MessageRate, now: Millis) {
        self.buckets.change(rate, now);
    }

    /// Other rules hold, or other counts: who may get more is found out anew.
    pub fn reopen(&mut self) {
        let late = std::mem::take(&mut self.late).into_iter().map(|(_, tenant)| tenant);
        for tenant in std::mem::take(&mut self.full).into_iter().chain(late) {
            if let Some(line) = self.lines.get_mut(&tenant) {
                line.gate = Gate::Open;
                self.open.insert(tenant);
            }
        }
    }

    /// A message of a tenant is handed out; `holds`: it will be held.
    pub fn goes(&mut self, tenant: u64, holds: bool, rate: Option<&MessageRate>, now: Millis) {
        self.last = tenant;
        if holds {
            self.hold(tenant);
        }
        if let Some(rate) = rate {
            self.buckets.take(tenant, rate, now);
        }
    }

    /// Somebody holds a message of a tenant.
    pub fn hold(&mut self, tenant: u64) {
        *self.held.entry(tenant).or_default() += 1;
    }

    /// A message of a tenant is in nobody's hands any more.
    pub fn let_go(&mut self, tenant: u64) {
        if let Some(held) = self.held.get_mut(&tenant) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.held.remove(&tenant);
            }
            if self.full.contains(&tenant) {
                self.file(tenant, Gate::Open);
            }
        }
    }

    /// These are all that are held.
    pub fn recount(&mut self, tenants: impl Iterator<Item = u64>) {
        self.held.clear();
        tenants.for_each(|tenant| self.hold(tenant));
        self.reopen();
    }

    /// Those of a source that came back: rank, message, attempts.
    pub fn tried(&self, number: u16) -> impl Iterator<Item = (u64, Meta, Attempt)> {
        let of_source = self.lines.values().filter_map(move |line| line.sources.get(&number));
        let tried = of_source.flat_map(Stretch::iter).filter(|waits| waits.came_back());
        tried.map(|waits| (waits.rank.unwrap_or_default(), waits.meta, waits.attempt))
    }

    /// Tells messages of a source where they are now.
    pub fn relocate(&mut self, number: u16, place: impl Fn(&Meta) -> Place) {
        for stretch in self.lines.values_mut().filter_map(|line| line.sources.get_mut(&number)) {
            for waits in stretch.by_offset.values_mut().chain(stretch.by_due.values_mut()) {
                waits.meta.place = place(&waits.meta);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::{EntityId, Offset, Position};

    use super::*;
    use crate::place::LogId;

    /// Tenants, and messages of one that came back.
    const MANY: u64 = 10_000;

    fn waits(tenant: u64, number: u16, offset: u64, rank: Option<u64>) -> Waits {
        let meta = Meta {
            log: LogId { entity: EntityId(1), log: number },
            offset: Offset(offset),
            place: Place::Journal(Position(0)),
            at: 0,
            bytes: 1,
            timestamp: Millis(1_000 + offset),
            expires_at: Millis::NEVER,
            key_hash: 0,
            tenant,
        };
        Waits { number, meta, attempt: Attempt(u32::from(rank.is_some())), rank }
    }

    fn order(lines: &mut Lines, tenant: u64) -> Vec<(u16, u64)> {
        std::iter::from_fn(|| lines.pop(tenant)).map(|it| (it.number, it.meta.offset.0)).collect()
    }

    #[test]
    fn what_came_back_takes_its_place_by_its_offset_or_by_when_it_was_due() {
        let mut lines = Lines::default();
        for (offset, rank) in
            [(5, None), (7, None), (2, Some(0)), (6, Some(0)), (1, Some(1_006)), (0, Some(9_000))]
        {
            lines.push(waits(1, 0, offset, rank));
        }
        assert_eq!(order(&mut lines, 1), [2, 5, 6, 1, 7, 0].map(|offset| (0, offset)));
        assert_eq!(lines.count(), 0);
    }

    #[test]
    fn the_sources_of_a_tenant_take_turns() {
        let mut lines = Lines::default();
        for (number, offset) in [(0, 0), (0, 1), (0, 2), (u16::MAX, 0), (4, 0), (4, 1)] {
            lines.push(waits(1, number, offset, None));
        }
        assert_eq!(order(&mut lines, 1), [(4, 0), (u16::MAX, 0), (0, 0), (4, 1), (0, 1), (0, 2)]);
    }

    #[test]
    fn a_message_costs_a_few_steps_however_many_came_back_or_belong_to_tenants_that_may_get_nothing() {
        let mut lines = Lines::default();
        let fair = Fair { concurrency: Some(1), ..Fair::default() };
        for tenant in 1..MANY {
            lines.push(waits(tenant, 0, tenant, None));
            lines.hold(tenant);
        }
        for offset in 0..MANY {
            lines.push(waits(MANY, 1, MANY - offset, Some(0)));
        }
        lines.steps = 0;
        for _ in 0..MANY {
            let tenant = lines.turn(&fair, Millis(5)).expect("the one that holds nothing");
            assert_eq!(lines.pop(tenant).map(|it| it.number), Some(1));
            lines.goes(tenant, true, None, Millis(5));
            lines.let_go(tenant);
        }
        assert_eq!(lines.turn(&fair, Millis(5)), None);
        assert_eq!(lines.shut(), (false, true));
        assert!(lines.steps <= 3 * MANY + 2, "{} steps", lines.steps);
        lines.let_go(77);
        assert_eq!(lines.turn(&fair, Millis(5)), Some(77));
    }

    #[test]
    fn a_tenant_whose_rate_is_used_up_comes_again_in_time() {
        let mut lines = Lines::default();
        let rate = MessageRate { messages: 1, per_ms: 100, burst: None };
        let fair = Fair { rate: Some(rate.clone()), ..Fair::default() };
        (0..2).for_each(|offset| lines.push(waits(1, 0, offset, None)));
        assert_eq!(lines.turn(&fair, Millis(1_000)), Some(1));
        lines.pop(1);
        lines.goes(1, false, Some(&rate), Millis(1_000));
        assert_eq!((lines.turn(&fair, Millis(1_099)), lines.opens_at()), (None, Some(Millis(1_100))));
        assert_eq!(lines.shut(), (true, false));
        assert_eq!(lines.turn(&fair, Millis(1_100)), Some(1));
        lines.goes(1, false, Some(&rate), Millis(1_100));
        assert_eq!(lines.turn(&fair, Millis(1_100)), None);
        lines.reopen();
        assert_eq!(lines.turn(&Fair::default(), Millis(1_100)), Some(1), "other rules");
    }

    #[test]
    fn what_expires_leaves_the_middle_of_its_line() {
        let mut lines = Lines::default();
        for offset in 0..5 {
            let mut waits = waits(offset % 2, 0, offset, None);
            waits.meta.expires_at = if offset == 2 { Millis(50) } else { Millis::NEVER };
            lines.push(waits);
        }
        assert_eq!((lines.next_expiry(), lines.expired(Millis(49)).is_none()), (Some(Millis(50)), true));
        assert_eq!(lines.expired(Millis(50)).map(|it| it.meta.offset.0), Some(2));
        assert_eq!((lines.next_expiry(), lines.count(), lines.of_source(0)), (None, 4, 4));
        assert_eq!(order(&mut lines, 0), [(0, 0), (0, 4)]);
    }
}
