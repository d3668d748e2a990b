//! Which messages belong together, and when are they complete? The state of an aggregator, as a fold over messages and time: nothing
//! is known but what was put in, so that putting the same in again after a crash comes to the same.

use std::collections::{BTreeSet, HashMap, VecDeque};

use smol_str::SmolStr;
use waystation_base::Millis;

/// When a group is complete, and what becomes of those that come after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// So many messages complete it, if the messages do not say themselves.
    pub size: Option<u64>,
    /// Milliseconds after its first message it is complete, whatever it has.
    pub timeout_ms: u64,
    /// Milliseconds for which it is known that a group was completed; none: late messages begin another one.
    pub remember_ms: Option<u64>,
    /// A group is opened by a message of its own kind; what comes before that waits for it.
    pub needs_opener: bool,
    /// Messages held at a time; past it the oldest group is completed as it is.
    pub held_max: usize,
}

/// What a message says of its group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Facts {
    /// Which.
    pub key: SmolStr,
    /// When it was stored.
    pub at: Millis,
    /// What it is.
    pub role: Role,
}

/// What a message is for its group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Part of it.
    Member {
        /// So many make it complete, it says.
        size: Option<u64>,
        /// It is complete with this one, it says.
        last: bool,
    },
    /// What its members answer to: so many of them make it complete.
    Opener {
        /// How many.
        size: u64,
    },
    /// Not part of it: says that it was completed, and until when that is to be known.
    Marker {
        /// Until when.
        until: Millis,
    },
}

/// Why a group is complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It has as many as it shall have.
    Size,
    /// A message said so.
    Condition,
    /// Its time is up.
    Timeout,
    /// There was no room for more.
    Full,
}

impl End {
    /// For headers.
    pub fn word(self) -> &'static str {
        match self {
            End::Size => "size",
            End::Condition => "condition",
            End::Timeout => "timeout",
            End::Full => "full",
        }
    }
}

/// What is to be done, in one step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act<T> {
    /// These make a whole, in this order; the opener, if there is one, is told apart. `remember_until`: leave a marker.
    Complete { key: SmolStr, end: End, opener: Option<T>, members: Vec<T>, remember_until: Option<Millis> },
    /// These came after their group, or never had one.
    Late { key: SmolStr, members: Vec<T> },
    /// This marker has done its service.
    Forget(T),
}

#[derive(Debug)]
struct Group<T> {
    began: Millis,
    number: u64,
    opener: Option<T>,
    members: Vec<T>,
    size: Option<u64>,
    last: bool,
}

/// A completed group that is still known.
#[derive(Debug)]
struct Known<T> {
    until: Millis,
    marker: Option<T>,
}

/// All groups.
#[derive(Debug)]
pub struct Groups<T> {
    rules: Rules,
    open: HashMap<SmolStr, Group<T>>,
    known: HashMap<SmolStr, Known<T>>,
    /// Open groups by their deadline; the number tells those of one moment apart.
    deadlines: BTreeSet<(Millis, u64, SmolStr)>,
    /// Known ones by the time when they are to be forgotten.
    forgets: BTreeSet<(Millis, SmolStr)>,
    next: u64,
    held: usize,
    acts: VecDeque<Act<T>>,
}

impl<T> Groups<T> {
    /// No group yet.
    pub fn new(rules: Rules) -> Groups<T> {
        Groups {
            rules,
            open: HashMap::new(),
            known: HashMap::new(),
            deadlines: BTreeSet::new(),
            forgets: BTreeSet::new(),
            next: 0,
            held: 0,
            acts: VecDeque::new(),
        }
    }

    /// Takes a message. After a crash, markers must be put in before all else: they say what the rest is late for.
    pub fn put(&mut self, facts: Facts, item: T) {
        match facts.role {
            Role::Marker { until } => self.put_marker(facts.key, until, item),
            Role::Opener { size } => {
                let group = self.group(&facts);
                group.size = Some(size);
                group.opener = Some(item);
                self.held += 1;
                self.look(&facts.key);
            }
            Role::Member { size, last } => {
                if self.known.get(&facts.key).is_some_and(|known| facts.at <= known.until) {
                    self.acts.push_back(Act::Late { key: facts.key, members: vec![item] });
                    return;
                }
                let group = self.group(&facts);
                group.members.push(item);
                group.size = size.or(group.size);
                group.last |= last;
                self.held += 1;
                self.look(&facts.key);
            }
        }
        while self.held > self.rules.held_max && self.complete_oldest(End::Full) {}
    }

    /// A second completion of the same key leaves a second marker; they may come in any order, and the one that holds longest is right.
    fn put_marker(&mut self, key: SmolStr, until: Millis, item: T) {
        self.held += 1;
        let Some(known) = self.known.get_mut(&key) else {
            self.forgets.insert((until, key.clone()));
            self.known.insert(key, Known { until, marker: Some(item) });
            return;
        };
        let superseded = if until < known.until && known.marker.is_some() {
            Some(item)
        } else {
            // One that is still to come takes this one's place: until then nothing but this one is stored.
            known.marker.replace(item)
        };
        if until > known.until {
            self.forgets.remove(&(known.until, key.clone()));
            known.until = until;
            self.forgets.insert((until, key));
        }
        self.forget(superseded);
    }

    fn group(&mut self, facts: &Facts) -> &mut Group<T> {
        let (next, deadlines, timeout_ms) = (&mut self.next, &mut self.deadlines, self.rules.timeout_ms);
        self.open.entry(facts.key.clone()).or_insert_with(|| {
            *next += 1;
            deadlines.insert((facts.at.plus(timeout_ms), *next, facts.key.clone()));
            let size = None;
            Group { began: facts.at, number: *next, opener: None, members: Vec::new(), size, last: false }
        })
    }

    /// Completes a group if it has what it needs.
    fn look(&mut self, key: &SmolStr) {
        let Some(group) = self.open.get(key) else { return };
        if self.rules.needs_opener && group.opener.is_none() {
            return;
        }
        let enough = group.size.or(self.rules.size).is_some_and(|size| group.members.len() as u64 >= size);
        match (group.last, enough) {
            (true, _) => self.complete(key, End::Condition),
            (false, true) => self.complete(key, End::Size),
            _ => {}
        }
    }

    fn complete(&mut self, key: &SmolStr, end: End) {
        let Some(group) = self.open.remove(key) else { return };
        self.deadlines.remove(&(group.began.plus(self.rules.timeout_ms), group.number, key.clone()));
        self.held -= group.members.len() + usize::from(group.opener.is_some());
        if self.rules.needs_opener && group.opener.is_none() {
            self.acts.push_back(Act::Late { key: key.clone(), members: group.members });
            return;
        }
        self.acts.push_back(Act::Complete {
            key: key.clone(),
            end,
            opener: group.opener,
            members: group.members,
            remember_until: None,
        });
    }

    /// Completes the group that began first; whether there was one.
    fn complete_oldest(&mut self, end: End) -> bool {
        let oldest = self.deadlines.first().map(|(_, _, key)| key.clone());
        match oldest {
            Some(key) => self.complete(&key, end),
            None => match self.forgets.pop_first() {
                // Nothing but markers: the one that has the least time left goes.
                Some((_, key)) => {
                    let known = self.known.remove(&key);
                    self.forget(known.and_then(|known| known.marker));
                }
                None => return false,
            },
        }
        true
    }

    fn forget(&mut self, marker: Option<T>) {
        if let Some(marker) = marker {
            self.held -= 1;
            self.acts.push_back(Act::Forget(marker));
        }
    }

    /// Takes note of the time.
    pub fn tick(&mut self, now: Millis) {
        while let Some((_, _, key)) = self.deadlines.first().filter(|(at, _, _)| *at <= now).cloned() {
            self.complete(&key, End::Timeout);
        }
        while let Some((_, key)) = self.forgets.first().filter(|(at, _)| *at < now).cloned() {
            self.forgets.pop_first();
            let known = self.known.remove(&key);
            self.forget(known.and_then(|known| known.marker));
        }
    }

    /// There is no room for what is held: completes the oldest group as it is.
    pub fn relieve(&mut self) {
        self.complete_oldest(End::Full);
    }

    /// The next thing to do. A group that is completed is known as such from now on, for messages stored until `remember_ms` from `now`.
    pub fn next(&mut self, now: Millis) -> Option<Act<T>> {
        let mut act = self.acts.pop_front()?;
        if let Act::Complete { key, remember_until, .. } = &mut act {
            *remember_until = self.was_complete(key, now);
        }
        Some(act)
    }

    /// A group of this key was completed before: until when that is known from now on, if it is.
    pub fn was_complete(&mut self, key: &SmolStr, now: Millis) -> Option<Millis> {
        let until = now.plus(self.rules.remember_ms?);
        let old = self.known.insert(key.clone(), Known { until, marker: None });
        if let Some(old) = old {
            self.forgets.remove(&(old.until, key.clone()));
            self.forget(old.marker);
        }
        self.forgets.insert((until, key.clone()));
        Some(until)
    }

    /// When the time is to be told next.
    pub fn due(&self) -> Option<Millis> {
        let deadline = self.deadlines.first().map(|(at, _, _)| *at);
        let forget = self.forgets.first().map(|(at, _)| at.plus(1));
        deadline.into_iter().chain(forget).min()
    }

    /// How many messages are held.
    #[cfg(test)]
    pub fn held(&self) -> usize {
        self.held
    }
}

#[cfg(test)]
#[path = "groups_tests.rs"]
mod tests;
