//! What has a step let go that is not stored yet? In order for each key, with what waits for its next try: others go on meanwhile.

use std::{
    collections::{BTreeSet, HashMap, VecDeque},
    sync::Arc,
};

use smol_str::SmolStr;
use waystation_base::Millis;

use super::act::Act;
use crate::{Fault, limits::BATCH_MESSAGES_MAX};

/// How something was tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tried<T> {
    /// How often, in vain.
    pub times: u32,
    /// Since when.
    pub since: Option<Millis>,
    /// It is not tried any more: what fails it, and where.
    pub given_up: Option<Arc<(Arc<str>, Fault)>>,
    /// That is noted in the step's queue, since it takes more than one transaction.
    pub is_noted: bool,
    /// What the step's queue says of the tries before: it leaves with what it speaks of, or when something newer is said.
    pub notes: Vec<T>,
}

impl<T> Default for Tried<T> {
    fn default() -> Tried<T> {
        Tried { times: 0, since: None, given_up: None, is_noted: false, notes: Vec::new() }
    }
}

impl<T> Tried<T> {
    /// The same of another part of it: what is noted leaves with the first.
    pub fn of_rest(&self) -> Tried<T> {
        let Tried { times, since, is_noted, .. } = *self;
        Tried { times, since, is_noted, given_up: self.given_up.clone(), notes: Vec::new() }
    }
}

/// What was noted of tries before the server died, or the route rested.
#[derive(Debug)]
pub struct Recalled<T> {
    /// How it was tried.
    pub tried: Tried<T>,
    /// When it was to be tried next.
    pub at: Millis,
    /// The offset of a message of it.
    pub of: u64,
}

/// How much is held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Messages.
    pub messages: usize,
    /// Bytes of them.
    pub bytes: usize,
}

/// What is held.
pub trait Item {
    /// Bytes of it.
    fn bytes(&self) -> usize;
    /// Its offset, if it lies in the step's own queue.
    fn offset(&self) -> Option<u64>;
}

impl Weight {
    /// Of all that an act settles.
    pub fn of<T: Item>(act: &Act<T>) -> Weight {
        let mut sum = Weight::default();
        act.all().for_each(|item| sum.add(Weight::of_item(item)));
        sum
    }

    /// Of one message.
    pub fn of_item<T: Item>(item: &T) -> Weight {
        Weight { messages: 1, bytes: item.bytes() }
    }

    /// Both together.
    pub fn add(&mut self, more: Weight) {
        self.messages += more.messages;
        self.bytes += more.bytes;
    }

    /// What is left without it.
    pub fn take(&mut self, less: Weight) {
        self.messages = self.messages.saturating_sub(less.messages);
        self.bytes = self.bytes.saturating_sub(less.bytes);
    }
}

/// Acts of one key that are to be done now, in order; how the first of them was tried.
#[derive(Debug)]
pub struct Task<T> {
    /// Whose.
    pub key: SmolStr,
    /// Which.
    pub acts: VecDeque<Act<T>>,
    /// Of the first.
    pub tried: Tried<T>,
}

impl<T: Item> Task<T> {
    /// The offset of its first message in the step's queue.
    pub fn first_offset(&self) -> Option<u64> {
        self.acts.front()?.all().find_map(Item::offset)
    }
}

#[derive(Debug)]
struct Lane<T> {
    acts: VecDeque<Act<T>>,
    tried: Tried<T>,
}

/// All of it.
#[derive(Debug)]
pub struct Due<T> {
    lanes: HashMap<SmolStr, Lane<T>>,
    /// Keys that can be worked on.
    free: VecDeque<SmolStr>,
    /// Keys that wait for their next try.
    waits: BTreeSet<(Millis, SmolStr)>,
    /// What is known of tries before, until what was tried is first of its key.
    recalled: HashMap<SmolStr, Recalled<T>>,
    weight: Weight,
    max: Weight,
}

impl<T: Item> Due<T> {
    /// Nothing yet; it has room for so much.
    pub fn new(max: Weight) -> Due<T> {
        let (lanes, free, waits) = (HashMap::new(), VecDeque::new(), BTreeSet::new());
        Due { lanes, free, waits, recalled: HashMap::new(), weight: Weight::default(), max }
    }

    /// How much it is.
    pub fn weight(&self) -> Weight {
        self.weight
    }

    /// Whether the step may take more messages, which may come to more of this.
    pub fn has_room(&self) -> bool {
        self.weight.messages < self.max.messages && self.weight.bytes < self.max.bytes
    }

    /// Takes an act, to be done after all others of its key.
    pub fn push(&mut self, act: Act<T>) {
        self.weight.add(Weight::of(&act));
        let key = act.key();
        let (free, tried) = (&mut self.free, Tried::default());
        let lane = self.lanes.entry(key.clone()).or_insert_with(|| {
            free.push_back(key);
            Lane { acts: VecDeque::new(), tried }
        });
        lane.acts.push_back(act);
    }

    /// How the first act of a key was tried, as far as that is known from before.
    pub fn tried(&mut self, key: &str, tried: Tried<T>) {
        if let Some(lane) = self.lanes.get_mut(key) {
            lane.tried = tried;
        }
    }

    /// How something of a key was tried that is to come.
    pub fn recall(&mut self, key: SmolStr, recalled: Recalled<T>) {
        recalled.tried.notes.iter().for_each(|note| self.weight.add(Weight::of_item(note)));
        self.recalled.insert(key, recalled);
    }

    /// So much was noted of tries.
    pub fn noted(&mut self, notes: Weight) {
        self.weight.add(notes);
    }

    /// Takes over what is known of tries of the first act of a key; gives when it is to be tried next.
    fn remember(&mut self, key: &SmolStr) -> Option<Millis> {
        let (lane, recalled) = (self.lanes.get_mut(key)?, self.recalled.get(key)?);
        lane.acts.front()?.all().find(|item| item.offset() == Some(recalled.of))?;
        let Recalled { mut tried, at, .. } = self.recalled.remove(key)?;
        lane.tried.notes.append(&mut tried.notes);
        if lane.tried.given_up.is_some() {
            return None;
        }
        (lane.tried.times, lane.tried.since) = (tried.times, tried.since);
        Some(at)
    }

    /// What is to be done next: nothing else of its key until [`Due::end`].
    pub fn next(&mut self, now: Millis) -> Option<Task<T>> {
        while let Some((_, key)) = self.waits.first().filter(|(at, _)| *at <= now).cloned() {
            self.waits.pop_first();
            self.free.push_back(key);
        }
        let key = loop {
            let key = self.free.pop_front()?;
            match self.remember(&key).filter(|at| *at > now) {
                Some(at) => drop(self.waits.insert((at, key))),
                None => break key,
            }
        };
        let lane = self.lanes.get_mut(&key)?;
        let (mut acts, mut messages) = (VecDeque::new(), 0);
        while let Some(act) = lane.acts.front() {
            messages += Weight::of(act).messages;
            if !acts.is_empty() && messages > BATCH_MESSAGES_MAX {
                break;
            }
            acts.extend(lane.acts.pop_front());
        }
        Some(Task { key, acts, tried: std::mem::take(&mut lane.tried) })
    }

    /// A task has ended, and so much of it is stored. What is left comes first of its key, when that is its time.
    pub fn end(&mut self, left: Task<T>, stored: Weight, at: Option<Millis>) {
        self.weight.take(stored);
        let Task { key, acts, tried } = left;
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        acts.into_iter().rev().for_each(|act| lane.acts.push_front(act));
        lane.tried = tried;
        match at {
            _ if lane.acts.is_empty() => self.close(&key),
            Some(at) => drop(self.waits.insert((at, key))),
            None => self.free.push_back(key),
        }
    }

    /// Nothing of a key is left to be done; what was known of other tries of it has done its service.
    fn close(&mut self, key: &SmolStr) {
        self.lanes.remove(key);
        let notes = self.recalled.remove(key).map(|recalled| recalled.tried.notes);
        for note in notes.into_iter().flatten() {
            self.weight.take(Weight::of_item(&note));
            self.push(Act::Done { key: key.clone(), note });
        }
    }

    /// When something is to be tried again that waits for it.
    pub fn at(&self) -> Option<Millis> {
        self.waits.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
#[path = "due_tests.rs"]
mod tests;
