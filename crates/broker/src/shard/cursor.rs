//! How far one log has been worked on: what is done, held, come back, and loaded ahead.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{HashMap, HashSet};
use smol_str::SmolStr;
use waystation_base::{Attempt, ConsumerId, Millis, Tag};

use super::{line::Line, ranges::Done};
use crate::place::Meta;

/// A message in somebody's hands.
#[derive(Clone, Debug)]
pub struct Flight {
    /// Who holds it; none: whoever knows its lease, or the shard itself while `dying`.
    pub consumer: Option<ConsumerId>,
    /// When it comes back by itself.
    pub held_until: Millis,
    /// How often it has been handed out.
    pub attempt: Attempt,
    /// Bytes of its record.
    pub bytes: u32,
    /// Where it is; none after a restart, until asked for.
    pub meta: Option<Meta>,
    /// Whose share it counts to, if it was handed out in this run.
    pub tenant: Option<u64>,
    /// It is on its way to the dead letters.
    pub dying: Option<Box<Dying>>,
}

/// Why a message goes to the dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dying {
    /// The reason.
    pub reason: Reason,
    /// The consumer's words.
    pub error: Option<String>,
    /// Which kind of error that is.
    pub class: Option<SmolStr>,
    /// Its rank among those that came back ([`Cursor::returned`]), should it wait again after a restart; none if it had not.
    pub rank: Option<u64>,
}

/// Why a message is done. The numbers are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// A consumer accepted it.
    #[default]
    Accepted = 0,
    /// A consumer rejected it.
    Rejected = 1,
    /// Its time was over.
    Expired = 2,
    /// It was handed out too often.
    Attempts = 3,
    /// The queue was full.
    Overflow = 4,
    /// Somebody purged the queue.
    Purged = 5,
    /// It was moved to the dead-letter address.
    DeadLettered = 6,
    /// A subscription's filter passed over it.
    Filtered = 7,
    /// It was moved elsewhere while it waited.
    Withdrawn = 8,
    /// The next attempt would have come too late.
    Age = 9,
}

impl Reason {
    /// From its stored number.
    pub fn from_stored(number: u8) -> Option<Reason> {
        use Reason::*;
        [Accepted, Rejected, Expired, Attempts, Overflow, Purged, DeadLettered, Filtered, Withdrawn, Age]
            .into_iter()
            .find(|reason| *reason as u8 == number)
    }

    /// As it stands in the `ws-death-reason` header.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Accepted => "accepted",
            Reason::Rejected => "rejected",
            Reason::Expired => "expired",
            Reason::Attempts => "max_attempts",
            Reason::Overflow => "max_length",
            Reason::Purged => "purged",
            Reason::DeadLettered => "dead_lettered",
            Reason::Filtered => "filtered",
            Reason::Withdrawn => "withdrawn",
            Reason::Age => "max_age",
        }
    }
}

/// A message that came back, or whose time has come.
#[derive(Clone, Copy, Debug)]
pub struct Returned {
    /// How often it has been handed out.
    pub attempt: Attempt,
    /// Bytes of its record.
    pub bytes: u32,
    /// Where it is; none until loaded.
    pub meta: Option<Meta>,
}

/// The state of work on one log.
#[derive(Clone, Debug, Default)]
pub struct Cursor {
    /// What is done.
    pub done: Done,
    /// The next offset to be loaded into the window.
    pub scan: u64,
    /// Messages loaded ahead, in order.
    pub window: VecDeque<Meta>,
    /// Messages that are ready again, by (rank, offset): rank 0 goes before the window, a higher one is the time from
    /// which the message was due, and takes its place among the window's by publish time.
    pub returned: BTreeMap<(u64, u64), Returned>,
    /// The rank of those in `returned` that have one other than 0.
    ranks: HashMap<u64, u64>,
    /// Messages in somebody's hands.
    pub flying: HashMap<u64, Flight>,
    /// Messages that wait for their time in [`super::outlet::Outlet::delayed`], other than those of a delayed log.
    pub aside: HashSet<u64>,
    /// Offsets at or above `scan` that are flying, returned or aside: after a restart the scan passes them again.
    pub skip: HashSet<u64>,
    /// A window load is under way.
    pub loading: bool,
    /// Messages that came back and are being looked up; the load is under way.
    pub finding: Vec<u64>,
    /// Queues with an order by key: messages that may have had a key before a restart, to be looked up before anything goes.
    pub holders: BTreeSet<u64>,
    /// The last load of messages that came back met damage.
    pub find_failed: bool,
    /// Makes an answer to an earlier load void.
    pub generation: u32,
    /// The same for loads of messages that came back.
    pub find_generation: u32,
    /// Ordered subscriptions: what waits behind a message of its key that failed.
    pub line: Option<Box<Line>>,
    /// Ordered subscriptions: who gets this partition.
    pub owner: Option<ConsumerId>,
}

impl Cursor {
    /// Everything below `head` is done, and work begins there.
    pub fn starting_at(head: u64) -> Cursor {
        Cursor { done: Done::up_to(head), scan: head, ..Cursor::default() }
    }

    /// Messages that are not done, of a log that ends at `next`.
    pub fn alive(&self, next: u64) -> u64 {
        next.saturating_sub(self.done.head()).saturating_sub(self.done.above_count())
    }

    /// Forgets what was loaded and scans from the head again, as after a restart.
    pub fn rescan(&mut self) {
        self.forget_line();
        self.scan = self.done.head();
        self.window.clear();
        self.loading = false;
        self.finding.clear();
        self.generation = self.generation.wrapping_add(1);
        self.find_generation = self.find_generation.wrapping_add(1);
        let returned = self.returned.keys().map(|(_, offset)| *offset);
        self.skip = returned.chain(self.flying.keys().copied()).chain(self.aside.iter().copied()).collect();
    }

    /// Forgets where messages are; nobody loses what he holds. What was loaded ahead is loaded again.
    pub fn forget_places(&mut self) {
        self.rescan();
        self.returned.values_mut().for_each(|returned| returned.meta = None);
        self.flying.values_mut().for_each(|flight| flight.meta = None);
    }

    /// Whether it is being looked up where messages are that came back, and that will be known.
    pub fn is_finding(&self) -> bool {
        !self.finding.is_empty() && !self.find_failed
    }

    /// Puts a message back; `rank` as in [`Cursor::returned`].
    pub fn give_back(&mut self, rank: u64, offset: u64, returned: Returned) {
        self.aside.remove(&offset);
        if rank != 0 {
            self.ranks.insert(offset, rank);
        }
        self.returned.insert((rank, offset), returned);
    }

    /// Takes a message out of those that came back.
    pub fn take_returned(&mut self, offset: u64) -> Option<Returned> {
        let rank = if self.ranks.is_empty() { None } else { self.ranks.remove(&offset) };
        self.returned.remove(&(rank.unwrap_or(0), offset))
    }

    /// The rank of a message that came back.
    pub fn rank(&self, offset: u64) -> u64 {
        self.ranks.get(&offset).copied().unwrap_or(0)
    }

    /// A message among those that came back.
    pub fn returned_mut(&mut self, offset: u64) -> Option<&mut Returned> {
        self.returned.get_mut(&(self.ranks.get(&offset).copied().unwrap_or(0), offset))
    }

    /// A message among those that came back, to be looked at.
    pub fn returned_of(&self, offset: u64) -> Option<&Returned> {
        self.returned.get(&(self.rank(offset), offset))
    }

    /// Whether a message is among those that came back.
    pub fn has_returned(&self, offset: u64) -> bool {
        self.returned.contains_key(&(self.ranks.get(&offset).copied().unwrap_or(0), offset))
    }

    /// Those of `count` offsets from `start` that are flying or came back.
    pub fn standing(&self, start: u64, count: u64) -> Vec<u64> {
        let within = start..start + count;
        if count <= (self.flying.len() + self.returned.len()) as u64 {
            return within
                .filter(|offset| self.flying.contains_key(offset) || self.has_returned(*offset))
                .collect();
        }
        let returned = self.returned.keys().map(|(_, offset)| *offset);
        let mut standing: Vec<u64> =
            self.flying.keys().copied().chain(returned).filter(|o| within.contains(o)).collect();
        standing.sort_unstable();
        standing
    }

    /// Every meta that is held, to be told of a new place.
    pub fn metas_mut(&mut self) -> impl Iterator<Item = &mut Meta> {
        let window = self.window.iter_mut();
        let returned = self.returned.values_mut().filter_map(|returned| returned.meta.as_mut());
        let flying = self.flying.values_mut().filter_map(|flight| flight.meta.as_mut());
        window.chain(returned).chain(flying).chain(Cursor::parked_mut(&mut self.line))
    }
}

/// The log of messages that were published with a delay, beside the one of the same priority.
pub const DELAYED_LOGS: u16 = 256;

/// The priority of a queue's log.
pub fn priority(log: u16) -> u8 {
    (log % DELAYED_LOGS) as u8
}

/// Whether a queue's log is one of delayed messages.
pub fn is_delayed(log: u16) -> bool {
    log & DELAYED_LOGS != 0
}

/// The tag of an offset in a log.
pub fn tag(log: u16, offset: u64) -> Tag {
    Tag::new(log, waystation_base::Offset(offset))
}
