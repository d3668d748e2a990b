//! One run of the broker's process: a shard, its journal, its open commit group and what it owes the world.

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use waystation_base::{ConsumerId, EntityId, Millis, Position};
use waystation_broker::{
    Append, Effect, Shard,
    place::{Load, Loaded, Place, Purpose},
};
use waystation_journal::{AppendError, Epoch, Failure, Group, Journal};

use crate::{
    model::{Stored, Written},
    storage::Storage,
};

/// An effect that waits until what it rests on is durable.
#[derive(Debug)]
pub struct Pending {
    /// The effect.
    pub effect: Effect,
    /// Everything before this position must be durable.
    pub needs: Position,
    /// The messages of a delivery, as the ledger knows them.
    pub messages: Vec<Arc<Stored>>,
}

/// See the module.
pub struct Node {
    /// The state machine.
    pub shard: Shard,
    /// Its files.
    pub storage: Storage,
    /// Everything before is durable.
    pub durable: Position,
    /// What the shard wants to read.
    pub loads: Vec<Load>,
    /// What was read for it and not given to it yet.
    pub answers: Vec<Loaded>,
    /// Effects in order.
    pub pending: Vec<Pending>,
    /// Requests so far.
    pub requests: u64,
    epoch: Epoch,
    group: Group,
    /// Groups for which the disk has no room, in order.
    full: VecDeque<Group>,
}

/// Where a shard writes: the open group, with a copy for the ledger.
pub struct Log<'a> {
    group: &'a mut Group,
    now: Millis,
    /// What was written.
    pub written: Vec<Written>,
}

impl<'a> Log<'a> {
    /// A log into a group.
    pub fn new(group: &'a mut Group, now: Millis) -> Log<'a> {
        Log { group, now, written: Vec::new() }
    }
}

impl Append for Log<'_> {
    fn append(&mut self, kind: u8, write: &mut dyn FnMut(&mut Vec<u8>)) -> Position {
        let mut payload = Vec::new();
        let position = self.group.push(kind, |out| {
            let start = out.len();
            write(out);
            payload = out[start..].to_vec();
        });
        self.written.push(Written { position, now: self.now, kind, payload });
        position
    }
}

impl Node {
    /// A process that has opened its files and built its state.
    pub fn new(shard: Shard, storage: Storage, epoch: Epoch) -> Node {
        let group = Group::new(storage.journal.end(), storage.journal.align_bytes());
        let durable = storage.journal.end();
        let (loads, answers, pending) = (Vec::new(), Vec::new(), Vec::new());
        Node {
            shard,
            storage,
            durable,
            loads,
            answers,
            pending,
            requests: 0,
            epoch,
            group,
            full: VecDeque::new(),
        }
    }

    /// Lets the shard do something; gives back what it wrote and wants.
    pub fn run(
        &mut self,
        now: Millis,
        work: impl FnOnce(&mut Shard, &mut Log<'_>, &mut Vec<Effect>),
    ) -> (Vec<Written>, Vec<Effect>) {
        let mut effects = Vec::new();
        let mut log = Log::new(&mut self.group, now);
        work(&mut self.shard, &mut log, &mut effects);
        (log.written, effects)
    }

    /// What an effect rests on: everything that is in the open group now.
    pub fn needs_now(&self) -> Position {
        Position(self.group.start().0 + u64::from(!self.group.is_empty()))
    }

    /// Whether all that was done is durable.
    pub fn is_settled(&self) -> bool {
        self.group.is_empty() && self.full.is_empty() && self.durable == self.storage.journal.end()
    }

    /// Whether the shard waits for something of a queue or subscription to be read.
    pub fn reads_for(&self, id: EntityId) -> bool {
        let of = |purpose: &Purpose| match purpose {
            Purpose::Window { entity, .. } | Purpose::Returned { entity, .. } => *entity == id,
            Purpose::DeadLetter { .. } => false,
        };
        self.loads.iter().any(|load| of(&load.purpose))
            || self.answers.iter().any(|loaded| of(&loaded.purpose))
    }

    /// Writes the open group, after those that wait for room.
    pub fn append(&mut self) -> Result<(), Failure> {
        if !self.group.is_empty() {
            let next = Group::new(self.group.end(), self.storage.journal.align_bytes());
            self.full.push_back(std::mem::replace(&mut self.group, next));
        }
        let journal = &mut self.storage.journal;
        while let Some(group) = self.full.front_mut() {
            match journal.append(group.start(), self.epoch, group) {
                Ok(()) => self.full.pop_front(),
                // It waits for room, and what comes now goes behind it.
                Err(AppendError::NoSpace { .. }) => return Ok(()),
                Err(AppendError::Failed(failure)) => return Err(failure),
                Err(other) => panic!("a group that the journal should take: {other}"),
            };
        }
        Ok(())
    }

    /// Makes what was written durable.
    pub fn sync(&mut self) -> Result<(), Failure> {
        let durable = self.storage.journal.sync()?;
        assert!(durable >= self.durable, "what is durable stays so");
        self.durable = durable;
        Ok(())
    }

    /// Loads whose batches are all in files by now.
    pub fn readable_loads(&self) -> Vec<usize> {
        let end = self.storage.journal.end();
        let readable = |load: &Load| {
            load.spans.iter().all(|span| match span.place {
                Place::Journal(position) => position < end,
                Place::Settled(_) => true,
            })
        };
        (0..self.loads.len()).filter(|at| readable(&self.loads[*at])).collect()
    }

    /// Takes out the effects that may be carried out now, in order.
    pub fn releasable(&mut self) -> Vec<Pending> {
        let mut blocked: BTreeSet<ConsumerId> = BTreeSet::new();
        let (mut ready, mut rest) = (Vec::new(), Vec::new());
        for pending in std::mem::take(&mut self.pending) {
            let consumer = match &pending.effect {
                Effect::Deliver { consumer, .. } | Effect::Closed { consumer, .. } => Some(*consumer),
                _ => None,
            };
            let waits = consumer.is_some_and(|consumer| blocked.contains(&consumer));
            if pending.needs <= self.durable && !waits {
                ready.push(pending);
            } else {
                blocked.extend(consumer);
                rest.push(pending);
            }
        }
        self.pending = rest;
        ready
    }
}
