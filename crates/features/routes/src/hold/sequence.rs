//! Which messages may leave in the order of their numbers? The state of a resequencer, as a fold over messages and time.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};

use smol_str::SmolStr;
use waystation_base::Millis;

/// How order is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// The number of the first message of each sequence.
    pub first: u64,
    /// Milliseconds that a message waits for those before it; then they are given up.
    pub timeout_ms: u64,
    /// Milliseconds after its last message for which a sequence is known; then it begins anew.
    pub remember_ms: u64,
    /// Messages held at a time; past it the oldest is let go.
    pub held_max: usize,
}

/// What a message says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Which sequence.
    pub key: SmolStr,
    /// When it was stored.
    pub at: Millis,
    /// Its number; or, of a marker, the number that comes next.
    pub number: u64,
    /// Not part of the sequence: it says how far that is.
    pub marker: bool,
}

/// What is to be done, in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act<T> {
    /// These leave in this order; `next` is what comes then: leave a marker that says so, and take away the old one.
    Release { key: SmolStr, items: Vec<T>, next: u64, missed: u64, marker: Option<T> },
    /// Its number was passed, or has come before.
    Late { key: SmolStr, item: T },
    /// This marker has done its service.
    Forget(T),
}

#[derive(Debug)]
struct Lane<T> {
    next: u64,
    waiting: BTreeMap<u64, (Millis, T)>,
    /// The newest that came back, and its number: less than `next` while what leaves is being stored.
    marker: Option<(u64, T)>,
    /// When something last left.
    active: Millis,
}

/// All sequences.
#[derive(Debug)]
pub struct Sequences<T> {
    rules: Rules,
    lanes: HashMap<SmolStr, Lane<T>>,
    /// Those that wait, by when they came.
    waits: BTreeSet<(Millis, SmolStr, u64)>,
    /// Sequences with nothing that waits, by when something last left.
    idle: BTreeSet<(Millis, SmolStr)>,
    held: usize,
    acts: VecDeque<Act<T>>,
}

impl<T> Sequences<T> {
    /// No sequence yet.
    pub fn new(rules: Rules) -> Sequences<T> {
        let (waits, idle) = (BTreeSet::new(), BTreeSet::new());
        Sequences { rules, lanes: HashMap::new(), waits, idle, held: 0, acts: VecDeque::new() }
    }

    /// Takes a message. After a crash, markers must be put in before all else: they say how far each sequence is.
    pub fn put(&mut self, facts: Facts, item: T) {
        let first = self.rules.first;
        let lane = self.lanes.entry(facts.key.clone()).or_insert_with(|| Lane {
            next: first,
            waiting: BTreeMap::new(),
            marker: None,
            active: facts.at,
        });
        self.held += 1;
        let is_behind = facts.number < lane.next;
        // Not by what comes next in memory: what leaves now may never be stored, and then the newest one must be there.
        let is_old = lane.marker.as_ref().is_some_and(|(newest, _)| facts.number < *newest);
        if facts.marker && is_old {
            self.held -= 1;
            self.acts.push_back(Act::Forget(item));
        } else if facts.marker {
            lane.next = lane.next.max(facts.number);
            self.idle.remove(&(lane.active, facts.key.clone()));
            lane.active = lane.active.max(facts.at);
            if lane.waiting.is_empty() {
                self.idle.insert((lane.active, facts.key.clone()));
            }
            if let Some((_, old)) = lane.marker.replace((facts.number, item)) {
                self.held -= 1;
                self.acts.push_back(Act::Forget(old));
            }
        } else if is_behind || lane.waiting.contains_key(&facts.number) {
            self.held -= 1;
            self.acts.push_back(Act::Late { key: facts.key.clone(), item });
        } else {
            self.idle.remove(&(lane.active, facts.key.clone()));
            self.waits.insert((facts.at, facts.key.clone(), facts.number));
            lane.waiting.insert(facts.number, (facts.at, item));
        }
        self.release(&facts.key, facts.at);
        while self.held > self.rules.held_max && self.give_up_oldest(facts.at) {}
    }

    /// Lets go what is next, and what follows it.
    fn release(&mut self, key: &SmolStr, now: Millis) {
        if let Some(next) = self.lanes.get(key).map(|lane| lane.next) {
            self.release_from(key.clone(), next, now);
        }
    }

    fn release_from(&mut self, key: SmolStr, from: u64, now: Millis) {
        let Some(lane) = self.lanes.get_mut(&key) else { return };
        let (mut items, mut number) = (Vec::new(), from);
        while let Some((at, item)) = lane.waiting.remove(&number) {
            self.waits.remove(&(at, key.clone(), number));
            items.push(item);
            number += 1;
        }
        if items.is_empty() {
            return;
        }
        let missed = from - lane.next;
        lane.next = number;
        lane.active = lane.active.max(now);
        if lane.waiting.is_empty() {
            self.idle.insert((lane.active, key.clone()));
        }
        let marker = lane.marker.take().map(|(_, marker)| marker);
        self.held -= items.len() + usize::from(marker.is_some());
        self.acts.push_back(Act::Release { key, items, next: number, missed, marker });
    }

    /// There is no room for what is held: gives up what the longest waiting message waits for.
    pub fn relieve(&mut self, now: Millis) {
        self.give_up_oldest(now);
    }

    /// What the longest waiting message waits for is given up; whether there was one.
    fn give_up_oldest(&mut self, now: Millis) -> bool {
        let Some((_, key, _)) = self.waits.first().cloned() else {
            return self.idle.first().cloned().is_some_and(|(_, key)| self.forget(&key));
        };
        let least =
            self.lanes.get(&key).and_then(|lane| lane.waiting.first_key_value().map(|(number, _)| *number));
        match least {
            Some(least) => self.release_from(key, least, now),
            None => return false,
        }
        true
    }

    fn forget(&mut self, key: &SmolStr) -> bool {
        let Some(lane) = self.lanes.remove(key) else { return false };
        self.idle.remove(&(lane.active, key.clone()));
        if let Some((_, marker)) = lane.marker {
            self.held -= 1;
            self.acts.push_back(Act::Forget(marker));
        }
        true
    }

    /// Takes note of the time.
    pub fn tick(&mut self, now: Millis) {
        let (timeout_ms, remember_ms) = (self.rules.timeout_ms, self.rules.remember_ms);
        while self.waits.first().is_some_and(|(at, _, _)| at.plus(timeout_ms) <= now)
            && self.give_up_oldest(now)
        {}
        while let Some((_, key)) = self.idle.first().filter(|(at, _)| at.plus(remember_ms) < now).cloned() {
            self.forget(&key);
        }
    }

    /// The next thing to do.
    pub fn next(&mut self) -> Option<Act<T>> {
        self.acts.pop_front()
    }

    /// When the time is to be told next.
    pub fn due(&self) -> Option<Millis> {
        let wait = self.waits.first().map(|(at, _, _)| at.plus(self.rules.timeout_ms));
        let forget = self.idle.first().map(|(at, _)| at.plus(self.rules.remember_ms).plus(1));
        wait.into_iter().chain(forget).min()
    }

    /// How many messages are held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held
    }
}

#[cfg(test)]
#[path = "sequence_tests.rs"]
mod tests;
