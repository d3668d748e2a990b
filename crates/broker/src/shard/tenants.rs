//! Which tenant's messages lie in which lanes, and whose turn it is: of queues that are fair to tenants.
//!
//! Each tenant with messages in the queue has a slot, and each slot logs of its own, so that what one tenant has waiting is never in
//! another's way. Slot 0 is for messages without a tenant, and for the tenants past [`TENANTS_MAX`].

use std::collections::BTreeMap;

use smol_str::SmolStr;
use waystation_base::{Message, limits::TENANTS_MAX};

use super::{
    Ctx, HashMap, Queue,
    cursor::{Cursor, DELAYED_LOGS, priority},
    dispatch::Pick,
    entry::Entry,
    outlet::{Logs, Outlet},
};
use crate::place::tenant_of;

/// Slots: one for each tenant, and the common one.
pub const SLOTS: usize = TENANTS_MAX + 1;
/// Logs of one slot: one for each priority, and one beside it for delayed messages.
const LOGS_PER_SLOT: u16 = 2 * DELAYED_LOGS;

const _: () = assert!(SLOTS * LOGS_PER_SLOT as usize == 1 << 16, "every log of a queue has a number");

/// The slot of a log.
pub fn slot(log: u16) -> u8 {
    (log / LOGS_PER_SLOT) as u8
}

/// The first log of a slot.
fn base(slot: u8) -> u16 {
    u16::from(slot) * LOGS_PER_SLOT
}

/// Messages of a slot that consumers hold.
pub fn held(cursors: &BTreeMap<u16, Box<Cursor>>, slot: u8) -> u64 {
    let of_slot = cursors.range(base(slot)..=base(slot) + (LOGS_PER_SLOT - 1));
    of_slot.map(|(_, cursor)| cursor.flying.len() as u64).sum()
}

/// Who has which slot.
#[derive(Clone, Debug, Default)]
pub struct Tenants {
    by_name: HashMap<SmolStr, u8>,
    names: BTreeMap<u8, SmolStr>,
    /// Where the next free slot is looked for.
    next: u8,
}

impl Tenants {
    /// A tenant has a slot, now or after a restart.
    pub fn apply(&mut self, slot: u8, name: SmolStr) {
        if let Some(before) = self.names.insert(slot, name.clone()) {
            self.by_name.remove(&before);
        }
        self.by_name.insert(name, slot);
        self.next = slot;
    }

    /// All of them by slot.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (u8, &SmolStr)> {
        self.names.iter().map(|(slot, name)| (*slot, name))
    }

    /// A slot that nobody has, or whose tenant has nothing in the queue any more.
    fn free(&self, is_empty: impl Fn(u8) -> bool) -> Option<u8> {
        let after = |step: usize| ((usize::from(self.next) + step) % TENANTS_MAX) as u8 + 1;
        (0..TENANTS_MAX).map(after).find(|slot| !self.names.contains_key(slot) || is_empty(*slot))
    }
}

impl Queue {
    /// The number of the log that a message goes to, its tenant's slot counted; `taken` has the slots that the same step uses.
    pub(super) fn log_for(&mut self, message: &Message, taken: &mut u128, ctx: &mut Ctx<'_>) -> u16 {
        let plain = self.log_of(message, ctx.now);
        let Some(fair) = &self.spec.fair else { return plain };
        let Some(name) = tenant_of(message, &fair.header) else { return plain };
        let slot = match self.tenants.by_name.get(&name) {
            Some(slot) => *slot,
            None => self.give_slot(name, *taken, ctx),
        };
        *taken |= 1 << slot;
        base(slot) + plain
    }

    fn give_slot(&mut self, name: SmolStr, taken: u128, ctx: &mut Ctx<'_>) -> u8 {
        let is_empty = |slot: u8| {
            let logs = base(slot)..=base(slot) + (LOGS_PER_SLOT - 1);
            let mut cursors = self.outlet.cursors.range(logs);
            taken & (1 << slot) == 0
                && cursors.all(|(n, cursor)| self.logs.get(*n).is_none_or(|log| cursor.alive(log.next) == 0))
        };
        let Some(slot) = self.tenants.free(is_empty) else { return 0 };
        Entry::Tenant(self.outlet.id, slot, name.clone()).append(ctx.log);
        self.tenants.apply(slot, name);
        slot
    }
}

/// Whose turn it is among the slots of one priority.
#[derive(Clone, Copy, Debug, Default)]
pub struct Turn {
    /// Slots that may have something.
    ready: u128,
    /// Who comes first.
    next: u8,
}

impl Outlet {
    /// A round of handing out begins: any lane may have something.
    pub fn begin_turns(&mut self) {
        self.turns.values_mut().for_each(|turn| turn.ready = 0);
        for number in self.cursors.keys() {
            self.turns.entry(priority(*number)).or_default().ready |= 1 << slot(*number);
        }
    }

    /// Something came back to a lane in the middle of a round.
    pub fn stir(&mut self, log: u16) {
        if self.is_fair {
            self.turns.entry(priority(log)).or_default().ready |= 1 << slot(log);
        }
    }

    /// A message was handed out: the next tenant's turn comes.
    pub fn turn_on(&mut self, log: u16) {
        if let Some(turn) = self.turns.get_mut(&priority(log)) {
            turn.next = (slot(log) + 1) % SLOTS as u8;
        }
    }

    /// Strict priority, and within each priority the tenants in turn.
    pub(super) fn pick_in_turn(&mut self, logs: &dyn Logs, ctx: &mut Ctx<'_>) -> Pick {
        let mut lanes: Vec<u8> =
            self.turns.iter().filter(|(_, turn)| turn.ready != 0).map(|(p, _)| *p).collect();
        lanes.reverse();
        for lane in lanes {
            let pick = self.pick_of_tenants(lane, logs, ctx);
            if pick != Pick::Empty {
                return pick;
            }
        }
        Pick::Empty
    }

    fn pick_of_tenants(&mut self, lane: u8, logs: &dyn Logs, ctx: &mut Ctx<'_>) -> Pick {
        let mut waits = false;
        let mut left = self.turns[&lane];
        while left.ready != 0 {
            let ahead = left.ready.rotate_right(left.next.into()).trailing_zeros();
            let slot = ((u32::from(left.next) + ahead) % SLOTS as u32) as u8;
            left.ready &= !(1 << slot);
            let pick = if self.is_open_for(slot, ctx) {
                self.pick_of_logs(base(slot) + u16::from(lane), logs, ctx)
            } else {
                Pick::Empty
            };
            match pick {
                Pick::Next { .. } => return pick,
                Pick::Wait => waits = true,
                // Nothing within this round, unless something comes back.
                Pick::Empty => self.turns.entry(lane).or_default().ready &= !(1 << slot),
            }
        }
        if waits { Pick::Wait } else { Pick::Empty }
    }

    /// What to drop of a priority when the queue is too long: of the tenant that has most.
    pub(super) fn pick_to_drop(&mut self, lane: u8, logs: &dyn Logs, ctx: &mut Ctx<'_>) -> Pick {
        let mut waiting = [0; SLOTS];
        for (number, cursor) in self.cursors.iter().filter(|(number, _)| priority(**number) == lane) {
            let alive = logs.log(*number).map_or(0, |log| cursor.alive(log.next));
            waiting[usize::from(slot(*number))] += alive.saturating_sub(cursor.flying.len() as u64);
        }
        while let Some((most, count)) = waiting.iter().enumerate().max_by_key(|(_, count)| **count) {
            if *count == 0 {
                break;
            }
            let pick = self.pick_of_logs(base(most as u8) + u16::from(lane), logs, ctx);
            if pick != Pick::Empty {
                return pick;
            }
            waiting[most] = 0;
        }
        Pick::Empty
    }
}
