//! Facts that are not in a file yet: in the order in which they came, sorted only when they are written or asked for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use waystation_base::{EntityId, MessageId, Millis, Name, Offset, Position, batch::Error};
use waystation_broker::{Kind, place::LogId};

use crate::{
    HashMap, alike,
    fact::{Fact, Place, published_id},
    meta::{Client, Extent, Gap, Meta, Stretch, VERSION},
    publish::{Before, Stored, Wanted, hash_of_id},
    rules::Terms,
    runs::Runs,
};

/// Facts past which they are written to a file.
pub(crate) const FACTS_MAX: usize = 1 << 19;
/// Bytes of facts past which they are written to a file.
pub(crate) const ARENA_BYTES_MAX: usize = 8 << 20;
/// Stretches past which they are written to a file.
const STRETCHES_MAX: usize = 1 << 14;
/// Clients past which facts are written to a file.
const CLIENTS_MAX: usize = 1 << 14;

/// Where a fact is.
#[derive(Clone, Copy, Debug)]
struct Slot {
    offset: u64,
    /// The number of its log here.
    log: u32,
    /// Where in the arena it begins.
    at: u32,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    base: Millis,
    arena: Vec<u8>,
    slots: Vec<Slot>,
    logs: Vec<LogId>,
    numbers: HashMap<LogId, u32>,
    last_log: Option<(LogId, u32)>,
    /// What publishes can be found by beside their ids, with the slot.
    hashes: Vec<(u64, u32)>,
    /// The ids of publishes, with the slot.
    ids: Runs,
    clients: Vec<Arc<Client>>,
    client_numbers: HashMap<Arc<Client>, u32>,
    pub(crate) names: BTreeMap<EntityId, (Kind, Name)>,
    pub(crate) stretches: Vec<Stretch>,
    pub(crate) gaps: Vec<Gap>,
    pub(crate) from: Position,
    pub(crate) to: Position,
    first: Millis,
    last: Millis,
    messages: u64,
    /// Messages that are told of by the fact of another one.
    alike: u64,
}

impl Recent {
    /// Nothing yet, from a position on.
    pub(crate) fn begin(from: Position) -> Recent {
        Recent { from, to: from, ..Recent::default() }
    }

    /// Begins again from a position on, in the same memory: getting it anew costs more than what is written to it.
    pub(crate) fn restart(&mut self, from: Position) {
        let Recent { mut arena, mut slots, mut hashes, mut ids, .. } = std::mem::take(self);
        arena.clear();
        slots.clear();
        hashes.clear();
        ids.clear();
        *self = Recent { arena, slots, hashes, ids, ..Recent::begin(from) };
    }

    /// Gives memory back that is not used.
    pub(crate) fn shrink(&mut self) {
        self.arena.shrink_to_fit();
        self.slots.shrink_to_fit();
        self.hashes.shrink_to_fit();
        self.ids.shrink();
    }

    /// Whether it is time for a file of its own.
    pub(crate) fn is_full(&self) -> bool {
        self.slots.len() >= FACTS_MAX
            || self.arena.len() >= ARENA_BYTES_MAX
            || self.stretches.len() >= STRETCHES_MAX
            || self.clients.len() >= CLIENTS_MAX
    }

    pub(crate) fn facts(&self) -> u64 {
        self.slots.len() as u64 + self.alike
    }

    #[cfg(test)]
    pub(crate) fn slots(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn messages(&self) -> u64 {
        self.messages
    }

    /// The times of the first and the last fact.
    pub(crate) fn times(&self) -> Option<(Millis, Millis)> {
        (self.last > Millis(0)).then_some((self.first, self.last))
    }

    /// The number of a client here.
    pub(crate) fn client(&mut self, client: &Arc<Client>) -> u32 {
        if let Some(number) = self.client_numbers.get(client) {
            return *number;
        }
        self.clients.push(client.clone());
        let number = self.clients.len() as u32;
        self.client_numbers.insert(client.clone(), number);
        number
    }

    fn note_time(&mut self, at: Millis) {
        if self.last == Millis(0) {
            (self.base, self.first) = (at, at);
        }
        self.first = self.first.min(at);
        self.last = self.last.max(at);
    }

    fn log_number(&mut self, log: LogId) -> u32 {
        if let Some((_, number)) = self.last_log.filter(|(last, _)| *last == log) {
            return number;
        }
        let next = self.logs.len() as u32;
        let number = *self.numbers.entry(log).or_insert(next);
        if number == next {
            self.logs.push(log);
        }
        self.last_log = Some((log, number));
        number
    }

    /// Adds a fact.
    pub(crate) fn push(&mut self, place: Place, fact: &Fact) {
        self.note_time(fact.at);
        let (log, at) = (self.log_number(place.log), self.arena.len() as u32);
        fact.put(&mut self.arena, self.base);
        self.slots.push(Slot { offset: place.offset.0, log, at });
    }

    /// Adds that a message was stored, with what it can be found by. `before` is what was added last, if it was of the same batch.
    pub(crate) fn publish<'a>(
        &mut self,
        place: Place,
        stored: &Stored<'_, 'a>,
        terms: &Terms,
        before: &mut Before<'a>,
    ) -> Result<(), Error> {
        self.note_time(stored.at);
        let (log, at, slot) = (self.log_number(place.log), self.arena.len(), self.slots.len() as u32);
        let found = self.hashes.len();
        let hashes = &mut self.hashes;
        let (id, hash) = (|id| self.ids.add(id, slot), |hash| hashes.push((hash, slot)));
        match stored.put(terms, self.base, &mut self.arena, before, id, hash) {
            Ok(true) => self.slots.push(Slot { offset: place.offset.0, log, at: at as u32 }),
            Ok(false) => self.alike += 1,
            Err(error) => {
                self.arena.truncate(at);
                self.hashes.truncate(found);
                return Err(error);
            }
        }
        self.messages += 1;
        Ok(())
    }

    /// The fact that was added last.
    pub(crate) fn last(&self) -> Option<Fact> {
        self.facts_of(self.slots.last()?).last()
    }

    /// Adds a stretch.
    pub(crate) fn sweep(&mut self, stretch: Stretch) {
        self.note_time(stretch.at);
        self.stretches.push(stretch);
    }

    fn place(&self, slot: &Slot) -> Place {
        Place { log: self.logs[slot.log as usize], offset: Offset(slot.offset) }
    }

    fn facts_of(&self, slot: &Slot) -> impl Iterator<Item = Fact> + use<'_> {
        Fact::take(&mut &self.arena[slot.at as usize..], self.base).into_iter().flatten()
    }

    /// The id of the message that a slot tells of, and how many more it tells of.
    fn ids_of(&self, slot: u32) -> Option<(MessageId, u8)> {
        published_id(&self.arena[self.slots[slot as usize].at as usize..])
    }

    /// How many messages a slot tells of besides its own.
    fn more_of(&self, slot: u32) -> u8 {
        self.ids_of(slot).map_or(0, |(_, more)| more)
    }

    /// The client of a number.
    pub(crate) fn client_of(&self, number: u32) -> Option<&Arc<Client>> {
        self.clients.get((number as usize).checked_sub(1)?)
    }

    /// Publishes that are meant: at most `max` by their ids and as many by something else, the newest first. One of them may come more
    /// than once.
    pub(crate) fn find(&self, wanted: &Wanted, max: usize) -> Vec<(Place, Fact)> {
        let slots = self.slots.len() as u32;
        let runs = self.ids.find(&wanted.runs).flat_map(|run| (run.start..run.end.min(slots)).rev());
        let meant = |(slot, (first, more)): (u32, (MessageId, u8))| {
            let is_meant = |(_, id): &(u8, MessageId)| wanted.has(hash_of_id(*id));
            alike::ids(first, more).rev().filter(is_meant).map(move |(steps, _)| (slot, steps))
        };
        let may_be = |(_, (first, _)): &(u32, (MessageId, u8))| wanted.may_have(*first);
        let own = runs.filter_map(|slot| Some((slot, self.ids_of(slot)?))).filter(may_be).flat_map(meant);
        let others = self.hashes.iter().rev().filter(|(hash, _)| wanted.has(*hash)).map(|(_, slot)| *slot);
        let all = |slot| (0..=self.more_of(slot)).rev().map(move |steps| (slot, steps));
        let found = own.take(max).chain(others.flat_map(all).take(max));
        let told = |(slot, steps): (u32, u8)| {
            let slot = &self.slots[slot as usize];
            Some((self.place(slot).after(steps.into()), self.facts_of(slot).nth(steps.into())?))
        };
        found.filter_map(told).collect()
    }

    /// All facts about messages, in the order in which they came.
    pub(crate) fn life(&self, places: &[Place], mut tell: impl FnMut(Place, Fact)) {
        let wanted: BTreeSet<(u32, u64)> = places
            .iter()
            .filter_map(|place| Some((*self.numbers.get(&place.log)?, place.offset.0)))
            .collect();
        if wanted.is_empty() {
            return;
        }
        for (index, slot) in self.slots.iter().enumerate() {
            let last = slot.offset + u64::from(self.more_of(index as u32));
            let mut facts = None;
            for (_, offset) in wanted.range((slot.log, slot.offset)..=(slot.log, last)) {
                let facts = facts.get_or_insert_with(|| (slot.offset..).zip(self.facts_of(slot)));
                if let Some((_, fact)) = facts.find(|(at, _)| at == offset) {
                    tell(self.place(slot).after(offset - slot.offset), fact);
                }
            }
        }
    }

    /// The facts by place and, for one place, in the order in which they came: as bytes, with what they can be found by.
    pub(crate) fn sorted(&self) -> Sorted<'_> {
        let mut order: Vec<u32> = (0..self.logs.len() as u32).collect();
        order.sort_unstable_by_key(|number| self.logs[*number as usize]);
        let mut ranks = vec![0u32; order.len()];
        order.iter().enumerate().for_each(|(rank, number)| ranks[*number as usize] = rank as u32);
        let mut slots: Vec<u32> = (0..self.slots.len() as u32).collect();
        // As they come when one queue is published to; telling so costs little.
        if order.len() > 1 || !self.slots.is_sorted_by_key(|slot| slot.offset) {
            slots.sort_unstable_by_key(|index| {
                let slot = &self.slots[*index as usize];
                (ranks[slot.log as usize], slot.offset, slot.at)
            });
        }
        Sorted { recent: self, slots }
    }

    /// What stands beside the facts in a file.
    pub(crate) fn meta(&self, known: Vec<(u32, Client)>) -> Meta {
        let mut extents: BTreeMap<LogId, (u64, u64)> = BTreeMap::new();
        let mut of_log: Vec<Option<(u64, u64)>> = vec![None; self.logs.len()];
        let mut more_max = 0;
        for (index, slot) in self.slots.iter().enumerate() {
            let more = self.more_of(index as u32);
            more_max = more_max.max(more);
            let extent = of_log[slot.log as usize].get_or_insert((slot.offset, slot.offset));
            *extent = (extent.0.min(slot.offset), extent.1.max(slot.offset + u64::from(more)));
        }
        for (log, extent) in self.logs.iter().zip(of_log) {
            extent.and_then(|extent| extents.insert(*log, extent));
        }
        let extent = |(log, (first, last)): (LogId, (u64, u64))| Extent::of(log, Offset(first), Offset(last));
        let name = |(id, (kind, name)): (&EntityId, &(Kind, Name))| (*id, *kind, name.clone());
        Meta {
            version: VERSION,
            base: self.base,
            from: self.from,
            to: self.to,
            first: self.first,
            last: self.last,
            facts: self.facts(),
            messages: self.messages,
            more_max,
            extents: extents.into_iter().map(extent).collect(),
            names: self.names.iter().map(name).collect(),
            clients: self.clients.iter().map(|client| Client::clone(client)).collect(),
            stretches: self.stretches.clone(),
            gaps: self.gaps.clone(),
            known,
        }
    }
}

/// See [`Recent::sorted`].
pub(crate) struct Sorted<'a> {
    recent: &'a Recent,
    slots: Vec<u32>,
}

impl Sorted<'_> {
    /// Gives each fact with its place and its slot.
    pub(crate) fn each<E>(&self, mut tell: impl FnMut(Place, &[u8], u32) -> Result<(), E>) -> Result<(), E> {
        let recent = self.recent;
        for index in &self.slots {
            let slot = &recent.slots[*index as usize];
            let end =
                recent.slots.get(*index as usize + 1).map_or(recent.arena.len(), |next| next.at as usize);
            tell(recent.place(slot), &recent.arena[slot.at as usize..end], *index)?;
        }
        Ok(())
    }

    /// What publishes can be found by beside their ids, with the slots.
    pub(crate) fn hashes(&self) -> &[(u64, u32)] {
        &self.recent.hashes
    }

    /// How many slots there are.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }
}
