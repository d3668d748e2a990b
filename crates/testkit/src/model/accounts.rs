//! Whether every message that was published is done or lies somewhere, for every address and after every entry of a journal: as the
//! entries say, which the ledger reads, and as the state machine has it, which reads the same entries.

use std::{collections::BTreeMap, sync::Arc};

use waystation_base::{EntityId, MessageId, Millis, Name, Offset, Position, Tag};
use waystation_broker::{
    Kind, Shard,
    entry::{self, Entry, Publish, Reason},
    place::LogId,
};

use super::{
    Ledger, Outlet, Stored, Written,
    ledger::{messages, tag},
};

/// A message in a place.
#[derive(Clone, Debug)]
pub struct Lying {
    /// What kind of place.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// The message.
    pub stored: Arc<Stored>,
}

/// What an entry says of messages.
#[derive(Clone, Debug)]
pub enum Change {
    /// It lies there now.
    Comes(Lying),
    /// It lies there no more.
    Goes(Lying, Reason),
    /// All before is whole: no step is half done.
    Moment,
}

/// See the module.
#[derive(Debug, Default)]
pub struct Accounts {
    ledger: Ledger,
    shard: Shard,
    now: Millis,
    /// Messages of the present step that were moved elsewhere, with from where, and how often each arrived.
    moved: BTreeMap<MessageId, (Name, u32)>,
    arrived: BTreeMap<MessageId, u32>,
    /// Entries so far.
    entries: u64,
}

impl Accounts {
    /// Entries so far.
    pub fn entries(&self) -> u64 {
        self.entries
    }

    /// Takes the next entry, and tells what it changes; panics where the account of some address does not hold.
    pub fn enter(&mut self, position: Position, kind: u8, payload: &[u8], tell: &mut dyn FnMut(Change)) {
        let entry = entry::read(kind, payload).expect("an entry");
        self.entries += 1;
        if let Entry::Moment(moment) = &entry {
            self.end_step(position);
            tell(Change::Moment);
            self.now = moment.at;
        }
        let (mut going, mut coming) = (Vec::new(), Vec::new());
        match &entry {
            Entry::Publish(publish) => self.check_new(publish, position),
            Entry::Done(id, reason, _, stretches) => going = self.going(*id, *reason, stretches, position),
            _ => {}
        }
        self.ledger.apply(&Written { position, now: self.now, kind, payload: payload.to_vec() });
        self.shard.replay(position, kind, payload).expect("an entry");
        if let Entry::Publish(publish) = &entry {
            coming = self.coming(publish);
        }
        self.check_all(position);
        self.check_each(&entry, position);
        going.into_iter().for_each(|(lying, reason)| tell(Change::Goes(lying, reason)));
        coming.into_iter().for_each(|lying| tell(Change::Comes(lying)));
    }

    /// Compaction leaves a message out of a topic.
    pub fn compact(&mut self, log: LogId, offset: Offset) {
        self.ledger.compact(log, offset);
    }

    /// Asserts at the end of what there is that no step is half done.
    pub fn end(&mut self, position: Position, tell: &mut dyn FnMut(Change)) {
        self.end_step(position);
        tell(Change::Moment);
    }

    /// What was moved has arrived, once.
    fn end_step(&mut self, position: Position) {
        for (id, (from, count)) in std::mem::take(&mut self.moved) {
            let arrived = self.arrived.get(&id).copied().unwrap_or_default();
            assert_eq!(
                arrived, count,
                "{id} was moved from '{from}' before {position}, and so often it arrived"
            );
        }
        self.arrived.clear();
    }

    /// A log grows message by message, and an offset is used once.
    fn check_new(&self, publish: &Publish<'_>, position: Position) {
        let Some(outlet) = self.ledger.outlets.get(&publish.log.entity) else { return };
        let mut next = outlet.next.get(&publish.log.log).copied().unwrap_or_default();
        for (offset, stored) in messages(publish) {
            let place =
                || format!("{} at offset {offset} of '{}', at {position}", stored.message.id, outlet.name);
            assert!(offset >= next, "{} is published twice", place());
            assert!(offset == next, "messages before {} are missing from offset {next} on", place());
            next = offset + 1;
        }
    }

    fn going(
        &mut self,
        id: EntityId,
        reason: Reason,
        stretches: &[(u16, u64, u64)],
        position: Position,
    ) -> Vec<(Lying, Reason)> {
        let Some(outlet) = self.ledger.outlets.get(&id) else { return Vec::new() };
        let mut going = Vec::new();
        for tag in tags(stretches) {
            let Some(item) = outlet.items.get(&tag) else {
                // What retention took, or a filter passed over, is not there either; but nothing is done twice.
                let is_new = outlet.queue().is_none() && !outlet.done.contains(&tag);
                assert!(
                    reason == Reason::Filtered || is_new && reason != Reason::Accepted,
                    "{tag:?} of '{}' is done at {position} ({reason:?}) and was not there",
                    outlet.name
                );
                continue;
            };
            let is_plain = !outlet.buries_by_route();
            if reason == Reason::Withdrawn || reason == Reason::DeadLettered && is_plain {
                let id = item.stored.message.id;
                self.moved.entry(id).or_insert_with(|| (outlet.name.clone(), 0)).1 += 1;
            }
            going.push((lying(outlet, &item.stored), reason));
        }
        going
    }

    fn coming(&mut self, publish: &Publish<'_>) -> Vec<Lying> {
        let mut coming = Vec::new();
        for (offset, stored) in messages(publish) {
            *self.arrived.entry(stored.message.id).or_default() += 1;
            let stored = Arc::new(stored);
            if let Some(queue) = self.ledger.outlets.get(&publish.log.entity) {
                coming.push(lying(queue, &stored));
            }
            if let Some(topic) = self.ledger.topics.get(&publish.log.entity) {
                coming.push(Lying { kind: Kind::Topic, name: topic.name.clone(), stored: stored.clone() });
            }
            for outlet in self.ledger.outlets.values() {
                let numbers = outlet.sources.iter().filter(|(_, source)| **source == publish.log);
                let has = |number: &u16| outlet.items.contains_key(&tag(*number, offset));
                coming.extend(numbers.filter(|(number, _)| has(number)).map(|_| lying(outlet, &stored)));
            }
        }
        coming
    }

    /// Every address: published = done + lying, and the state machine has as many lying there.
    fn check_all(&self, position: Position) {
        for outlet in self.ledger.outlets.values() {
            outlet.check_accounts();
            let alive = self.shard.alive(outlet.kind(), &outlet.name);
            let expected = self.ledger.waiting(outlet);
            assert!(
                alive.is_some_and(|alive| expected.contains(&alive)),
                "{alive:?} messages lie in '{}' after {position}, and {expected:?} should",
                outlet.name
            );
        }
        for topic in self.ledger.topics.values() {
            let published = self.shard.topic(&topic.name).map(|info| info.counters.published);
            assert_eq!(published, Some(topic.published), "published to '{}' by {position}", topic.name);
        }
    }

    /// The messages that the entry speaks of: done for the state machine where they are for the ledger.
    fn check_each(&self, entry: &Entry<'_>, position: Position) {
        let (id, tags): (EntityId, Vec<Tag>) = match entry {
            Entry::Publish(publish) => {
                let offsets = messages(publish).into_iter().map(|(offset, _)| tag(publish.log.log, offset));
                (publish.log.entity, offsets.collect())
            }
            Entry::Done(id, _, _, stretches) => (*id, tags(stretches).collect()),
            Entry::Take(id, _, items) | Entry::Return(id, items) => {
                (*id, items.iter().map(|item| tag(item.log, item.offset)).collect())
            }
            Entry::Dying(id, _, _, item) => (*id, vec![tag(item.log, item.offset)]),
            _ => return,
        };
        let Some(outlet) = self.ledger.outlets.get(&id) else { return };
        for tag in tags {
            let is_done = self.shard.is_done(outlet.kind(), &outlet.name, tag);
            let lies = outlet.items.contains_key(&tag);
            assert_eq!(is_done, Some(!lies), "whether {tag:?} of '{}' is done after {position}", outlet.name);
        }
    }
}

fn tags(stretches: &[(u16, u64, u64)]) -> impl Iterator<Item = Tag> {
    let each = stretches.iter().map(|(log, start, count)| (*log, *start..start + count));
    each.flat_map(|(log, offsets)| offsets.map(move |offset| Tag::new(log, Offset(offset))))
}

fn lying(outlet: &Outlet, stored: &Arc<Stored>) -> Lying {
    Lying { kind: outlet.kind(), name: outlet.name.clone(), stored: stored.clone() }
}
