//! How messages reach consumers: each has a queue of its own, so that a slow one holds up nobody else.
//!
//! A parcel waits in its consumer's queue, as places and not as bodies, until its messages are durable and the consumer
//! has room; then the bodies are taken from memory or asked of the reading thread. The queue is bounded by the
//! consumer's credit.

use std::collections::VecDeque;

use hashbrown::HashMap;
use waystation_base::{ConsumerId, Message, Millis, Name};
use waystation_broker::{
    Shard, Source,
    effect::{Closed, Handed},
    place::Place,
};

use crate::{
    Delivery, Event,
    cache::{Found, Memory},
    exemplars::Exemplars,
    loader::{Read, Unread},
    mailbox::{Outbox, Room},
    scan::Opened,
};

/// Messages of one event.
const EVENT_MESSAGES_MAX: usize = 256;
/// Bytes of records of one event; it has one message at least.
const EVENT_BYTES_MAX: usize = 256 << 10;

/// One attached consumer.
struct Slot {
    source: Source,
    outbox: Outbox,
    queue: VecDeque<Handed>,
    closed: Option<Closed>,
    /// It is on the list of those that wait for durability.
    waits: bool,
    /// Bodies are being read for it.
    reads: bool,
}

/// What became of a consumer that was looked at.
#[derive(Debug, PartialEq, Eq)]
enum Outcome {
    /// It has all there is, or waits for something that will come.
    Settled,
    /// It has heard that it has ended, or never will.
    Ended,
    /// It was dropped and is to be detached.
    Gone,
    /// A message cannot be read.
    Unreadable(String),
}

/// All attached consumers.
#[derive(Default)]
pub(crate) struct Consumers {
    slots: HashMap<ConsumerId, Slot, foldhash::fast::FixedState>,
    /// Those that wait for the next group to be durable.
    undurable: Vec<ConsumerId>,
    /// Those that have something new.
    fresh: Vec<ConsumerId>,
    /// What the reading thread is to be asked.
    pub(crate) reads: Vec<Read>,
    /// Those that are to be detached.
    pub(crate) detach: Vec<ConsumerId>,
    /// Those among whose messages is one that cannot be read.
    pub(crate) strand: Vec<ConsumerId>,
    /// Messages put into mailboxes.
    pub(crate) delivered: u64,
    /// Examples of messages that were handed out.
    pub(crate) exemplars: Exemplars,
    /// The time of this turn.
    pub(crate) now: Millis,
}

impl Consumers {
    pub(crate) fn attach(&mut self, id: ConsumerId, source: Source, outbox: Outbox) {
        let (queue, closed) = (VecDeque::new(), None);
        self.slots.insert(id, Slot { source, outbox, queue, closed, waits: false, reads: false });
    }

    /// Forgets a consumer; says whether it was there.
    pub(crate) fn remove(&mut self, id: ConsumerId) -> bool {
        self.slots.remove(&id).is_some()
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Takes a parcel for a consumer.
    pub(crate) fn hand(&mut self, id: ConsumerId, messages: Vec<Handed>) {
        // One that was detached meanwhile has given them back already.
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.queue.extend(messages);
            self.fresh.push(id);
        }
    }

    /// Ends a consumer, after what it was handed.
    pub(crate) fn close(&mut self, id: ConsumerId, reason: Closed) {
        if let Some(slot) = self.slots.get_mut(&id) {
            slot.closed = Some(reason);
            self.fresh.push(id);
        }
    }

    /// Looks at those that have something new.
    pub(crate) fn serve_fresh(&mut self, memory: &Memory, shard: &Shard) {
        let mut fresh = std::mem::take(&mut self.fresh);
        fresh.drain(..).for_each(|id| self.serve(id, memory, shard));
        self.fresh = fresh;
    }

    /// Looks at those that waited for a group to be durable.
    pub(crate) fn serve_durable(&mut self, memory: &Memory, shard: &Shard) {
        for id in std::mem::take(&mut self.undurable) {
            if let Some(slot) = self.slots.get_mut(&id) {
                slot.waits = false;
                self.serve(id, memory, shard);
            }
        }
    }

    /// Looks at one that called: it was dropped, or has room again.
    pub(crate) fn serve_caller(&mut self, id: ConsumerId, memory: &Memory, shard: &Shard) {
        match self.slots.get(&id) {
            Some(slot) if slot.outbox.is_gone() => self.detach.push(id),
            Some(_) => self.serve(id, memory, shard),
            None => {}
        }
    }

    /// Gives a consumer what it may have by now.
    pub(crate) fn serve(&mut self, id: ConsumerId, memory: &Memory, shard: &Shard) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        let mut names = Names { shard, last: None };
        let outcome = loop {
            match slot.step(memory, &mut names, &mut self.exemplars, self.now) {
                Step::Put(messages) => self.delivered += messages as u64,
                Step::Read(handed) => {
                    self.reads.push(Read::Bodies(id, handed));
                    break Outcome::Settled;
                }
                Step::NotYet => {
                    if !std::mem::replace(&mut slot.waits, true) {
                        self.undurable.push(id);
                    }
                    break Outcome::Settled;
                }
                Step::End(outcome) => break outcome,
            }
        };
        self.conclude(id, outcome);
    }

    /// Takes bodies that were read.
    pub(crate) fn bodies(
        &mut self,
        id: ConsumerId,
        handed: Vec<Handed>,
        messages: Vec<Message>,
        failed: Option<Unread>,
        memory: &Memory,
        shard: &Shard,
    ) {
        let Some(slot) = self.slots.get_mut(&id) else { return };
        slot.reads = false;
        let mut names = Names { shard, last: None };
        let read = messages.len();
        let bytes = handed.iter().take(read).map(|one| one.meta.bytes as usize).sum();
        let deliveries: Vec<_> = handed
            .iter()
            .zip(messages)
            .map(|(one, message)| names.delivery(one, message, &slot.source))
            .collect();
        if !deliveries.is_empty() {
            self.delivered += deliveries.len() as u64;
            slot.outbox.put(Event::Messages(deliveries), bytes);
        }
        // The rest goes back to the front; what has moved is looked for where it is now.
        for one in handed[read..].iter().rev() {
            slot.queue.push_front(*one);
        }
        match failed {
            None => self.serve(id, memory, shard),
            Some(Unread::Moved) if slot.relocate(shard) => self.serve(id, memory, shard),
            Some(Unread::Moved) => {
                let why = "a message is not where the index says".to_owned();
                self.conclude(id, Outcome::Unreadable(why));
            }
            Some(Unread::Damaged(why)) => self.conclude(id, Outcome::Unreadable(why)),
        }
    }

    fn conclude(&mut self, id: ConsumerId, outcome: Outcome) {
        match outcome {
            Outcome::Settled => {}
            Outcome::Ended => {
                self.slots.remove(&id);
            }
            Outcome::Gone => self.detach.push(id),
            Outcome::Unreadable(why) => {
                if let Some(slot) = self.slots.get(&id) {
                    let source = slot.source.name();
                    tracing::error!(%source, why, "a message cannot be read; its consumer is detached");
                    slot.outbox.put(Event::Unreadable(why), 0);
                }
                self.strand.push(id);
            }
        }
    }

    /// Drops all of them: they read what they were given and then end.
    pub(crate) fn clear(&mut self) {
        self.slots.clear();
        self.undurable.clear();
        self.fresh.clear();
    }
}

enum Step {
    /// An event with so many messages was put.
    Put(usize),
    /// The bodies of these must be read; they have left the queue.
    Read(Vec<Handed>),
    /// The next message is not durable.
    NotYet,
    End(Outcome),
}

impl Slot {
    fn step(
        &mut self,
        memory: &Memory,
        names: &mut Names<'_>,
        exemplars: &mut Exemplars,
        now: Millis,
    ) -> Step {
        if self.reads || self.queue.is_empty() && self.closed.is_none() {
            return Step::End(Outcome::Settled);
        }
        match self.outbox.room() {
            Room::Free => {}
            Room::Full => return Step::End(Outcome::Settled),
            Room::Gone => return Step::End(Outcome::Gone),
        }
        if self.queue.is_empty() {
            if let Some(reason) = self.closed {
                self.outbox.put(Event::Closed(reason), 0);
            }
            return Step::End(Outcome::Ended);
        }
        self.put_event(memory, names, exemplars, now)
    }

    /// Puts one event with the messages at the front that are in memory.
    fn put_event(
        &mut self,
        memory: &Memory,
        names: &mut Names<'_>,
        exemplars: &mut Exemplars,
        now: Millis,
    ) -> Step {
        let mut deliveries = Vec::with_capacity(self.queue.len().min(EVENT_MESSAGES_MAX));
        let mut bytes = 0;
        let mut stop = None;
        let mut opened: Option<Opened> = None;
        while let Some(handed) = self.queue.front() {
            if deliveries.len() == EVENT_MESSAGES_MAX || bytes >= EVENT_BYTES_MAX {
                break;
            }
            let meta = &handed.meta;
            if !opened.as_ref().is_some_and(|opened| opened.holds(meta)) {
                let (batch, kept) = match memory.find(meta.place, meta.log, meta.offset) {
                    Found::Batch(batch, kept) => (batch, kept),
                    Found::NotYet => {
                        stop = Some(true);
                        break;
                    }
                    Found::Cold => {
                        stop = Some(false);
                        break;
                    }
                };
                opened = Opened::new(batch, kept, self.queue.iter()).ok();
            }
            match opened.as_mut().and_then(|opened| opened.message(meta).ok()?) {
                Some(message) => {
                    let delivery = names.delivery(handed, message, &self.source);
                    if deliveries.is_empty() {
                        exemplars.look(&self.source, &delivery, handed, now);
                    }
                    deliveries.push(delivery);
                }
                None => {
                    // The reading thread finds out why.
                    stop = Some(false);
                    break;
                }
            }
            bytes += meta.bytes as usize;
            self.queue.pop_front();
        }
        if !deliveries.is_empty() {
            let count = deliveries.len();
            self.outbox.put(Event::Messages(deliveries), bytes);
            return Step::Put(count);
        }
        match stop {
            Some(true) => Step::NotYet,
            _ => self.read(memory),
        }
    }

    /// Takes an event's worth of messages off the queue to have their bodies read.
    fn read(&mut self, memory: &Memory) -> Step {
        self.reads = true;
        let mut bytes = 0;
        let mut count = 0;
        for handed in &self.queue {
            let undurable =
                matches!(handed.meta.place, Place::Journal(position) if position >= memory.durable);
            if undurable || count == EVENT_MESSAGES_MAX || bytes >= EVENT_BYTES_MAX {
                break;
            }
            bytes += handed.meta.bytes as usize;
            count += 1;
        }
        Step::Read(self.queue.drain(..count).collect())
    }

    /// Asks the shard where the first message of the queue is by now; says whether that is elsewhere than thought.
    fn relocate(&mut self, shard: &Shard) -> bool {
        let target =
            waystation_broker::BrowseTarget { kind: self.source.kind(), name: self.source.name().clone() };
        let Some(first) = self.queue.front_mut() else { return false };
        let Ok(Some(step)) = shard.browse(&target, Some(first.tag), None) else { return false };
        let offset = first.meta.offset;
        let span = step.spans.iter().find(|span| (span.first..=span.last).contains(&offset));
        let place = span.filter(|_| step.log == first.meta.log).map(|span| span.place);
        match place {
            Some(place @ Place::Settled(_)) if place != first.meta.place => {
                first.meta.place = place;
                true
            }
            _ => false,
        }
    }
}

/// Names of logs, the last one kept because the next message mostly has the same.
struct Names<'a> {
    shard: &'a Shard,
    last: Option<(waystation_broker::place::LogId, Name)>,
}

impl Names<'_> {
    fn delivery(&mut self, handed: &Handed, message: Message, source: &Source) -> Delivery {
        let log = handed.meta.log;
        let name = match &self.last {
            Some((last, name)) if *last == log => name.clone(),
            _ => {
                // A topic that is gone by now has no name; its last messages are on their way nevertheless.
                let name = self.shard.address_of(log).unwrap_or_else(|| source.name().clone());
                self.last = Some((log, name.clone()));
                name
            }
        };
        Delivery {
            tag: handed.tag,
            attempt: handed.attempt,
            held_until: handed.held_until,
            address: name,
            partition: log.log,
            offset: handed.meta.offset,
            message,
        }
    }
}
