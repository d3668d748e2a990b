//! Which dead letter belongs to which group: 12 bytes for each, so that groups are counted without reading a message.
//!
//! A letter is noted when it has been read once, and leaves when its queue says that it is done. A **cell** is what letters have in
//! common: cause, error pattern and origin; groups are cells of all origins together.

use std::collections::{BTreeMap, HashMap, VecDeque};

use waystation_base::{Name, Offset, Tag};
use waystation_broker::Extent;

use crate::{
    fingerprint,
    groups::{Asked, Group, Groups},
    letter::{Letter, Origin},
    limits::{CELLS_MAX, LETTERS_MAX},
};

/// The number of a cell; the two highest stand for something else.
type CellId = u32;
/// Nothing is there any more.
const GONE: CellId = u32::MAX;
/// There were too many cells when it was noted.
const OTHER: CellId = u32::MAX - 1;

/// Bounds, smaller in tests.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    pub letters_max: usize,
    pub cells_max: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { letters_max: LETTERS_MAX, cells_max: CELLS_MAX }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    cause: String,
    pattern: String,
    origin: Option<Origin>,
}

#[derive(Debug)]
struct Cell {
    key: Key,
    group: String,
    /// One error as it stood.
    sample: Option<String>,
}

impl Cell {
    /// Whether its letters failed where it is asked about.
    fn is_of(&self, asked: &Asked) -> bool {
        let place = self.key.origin.as_ref();
        asked.origin.as_ref().is_none_or(|name| place.is_some_and(|place| place.name == *name))
            && (asked.origin_kind.is_none() || asked.origin_kind == place.and_then(|place| place.kind))
    }
}

/// Letters of one log from `base` on; those before it are done.
#[derive(Debug, Default)]
struct Log {
    base: u64,
    cells: VecDeque<CellId>,
    times: VecDeque<u64>,
}

#[derive(Debug, Default)]
struct Queue {
    logs: BTreeMap<u16, Log>,
    /// In the order in which the queue is browsed, as last seen.
    extents: Vec<Extent>,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Index {
    bounds: Bounds,
    cells: Vec<Option<Cell>>,
    by_key: HashMap<Key, CellId>,
    free: Vec<CellId>,
    /// Cells were looked through for unused ones since letters last left.
    is_swept: bool,
    queues: BTreeMap<Name, Queue>,
    letters: usize,
}

impl Log {
    fn end(&self) -> u64 {
        self.base + self.cells.len() as u64
    }

    fn push(&mut self, cell: CellId, time: u64) {
        self.cells.push_back(cell);
        self.times.push_back(time);
    }

    /// Forgets what is not alive any more; says how many entries went.
    fn keep(&mut self, live: &[(Offset, Offset)], next: u64) -> usize {
        let before = self.cells.len();
        let head = live.first().map_or(next, |(first, _)| first.0);
        if head >= self.end() {
            (self.base, self.cells, self.times) = (head, VecDeque::new(), VecDeque::new());
            return before;
        }
        let gone = head.saturating_sub(self.base) as usize;
        self.cells.drain(..gone);
        self.times.drain(..gone);
        self.base = self.base.max(head);
        let mut at = self.base;
        for (first, last) in live {
            self.erase(at, first.0);
            at = last.0 + 1;
        }
        self.erase(at, self.end());
        before - self.cells.len()
    }

    fn erase(&mut self, from: u64, to: u64) {
        let end = self.end();
        for offset in from..to.min(end) {
            self.cells[(offset - self.base) as usize] = GONE;
        }
    }
}

impl Index {
    pub(crate) fn new(bounds: Bounds) -> Index {
        Index { bounds, ..Index::default() }
    }

    /// The queues that are known.
    pub(crate) fn queues(&self) -> impl Iterator<Item = &Name> {
        self.queues.keys()
    }

    /// Takes in what a queue has now; none: it is gone. Returns the logs in which there is something new, and where it begins.
    pub(crate) fn see(&mut self, queue: &Name, extents: Option<Vec<Extent>>) -> Vec<(u16, Offset, Offset)> {
        let Some(extents) = extents else {
            if let Some(gone) = self.queues.remove(queue) {
                self.letters -= gone.logs.values().map(|log| log.cells.len()).sum::<usize>();
                self.is_swept = false;
            }
            return Vec::new();
        };
        let known = self.queues.entry(queue.clone()).or_default();
        if known.extents != extents {
            for extent in &extents {
                let log = known.logs.entry(extent.log).or_default();
                let gone = log.keep(&extent.live, extent.next.0);
                self.letters -= gone;
                self.is_swept &= gone == 0;
            }
            known.extents = extents;
        }
        let Queue { logs, extents } = known;
        let news = extents.iter().map(|extent| {
            let end = logs.get(&extent.log).map_or(0, Log::end);
            (extent.log, Offset(end), extent.next)
        });
        news.filter(|(_, end, next)| end < next).collect()
    }

    /// Notes a letter that was read. Says no if there is no room for more.
    pub(crate) fn note(&mut self, queue: &Name, tag: Tag, letter: &Letter) -> bool {
        let known = self.queues.get(queue).and_then(|queue| queue.logs.get(&tag.log()));
        let end = known.map_or(0, Log::end);
        let offset = tag.offset().0;
        if offset < end {
            return true;
        }
        let grows = (offset - end + 1) as usize;
        if self.letters + grows > self.bounds.letters_max {
            return false;
        }
        let cell = self.cell(letter);
        let log = self.queues.entry(queue.clone()).or_default().logs.entry(tag.log()).or_default();
        while log.end() < offset {
            log.push(GONE, 0);
        }
        log.push(cell, letter.time);
        self.letters += grows;
        true
    }

    /// Nothing that is there stands in a log before `to` beyond what was noted.
    pub(crate) fn pass(&mut self, queue: &Name, log: u16, to: Offset) {
        let known = self.queues.get_mut(queue).and_then(|queue| queue.logs.get_mut(&log));
        let Some(log) = known.filter(|log| log.end() < to.0) else { return };
        let grows = (to.0 - log.end()) as usize;
        if self.letters + grows <= self.bounds.letters_max {
            (0..grows).for_each(|_| log.push(GONE, 0));
            self.letters += grows;
        }
    }

    fn cell(&mut self, letter: &Letter) -> CellId {
        let key = Key { cause: letter.cause.clone(), pattern: letter.pattern(), origin: letter.place() };
        if let Some(id) = self.by_key.get(&key) {
            return *id;
        }
        if self.free.is_empty() && self.cells.len() >= self.bounds.cells_max {
            self.sweep();
        }
        let id = match self.free.pop() {
            Some(id) => id,
            None if self.cells.len() < self.bounds.cells_max => {
                self.cells.push(None);
                self.cells.len() as CellId - 1
            }
            None => return OTHER,
        };
        let group = fingerprint::group(&key.cause, &key.pattern);
        let sample =
            letter.error.as_ref().map(|error| error.chars().take(crate::limits::ERROR_CHARS_MAX).collect());
        self.cells[id as usize] = Some(Cell { key: key.clone(), group, sample });
        self.by_key.insert(key, id);
        id
    }

    /// Frees cells that no letter has any more.
    fn sweep(&mut self) {
        if std::mem::replace(&mut self.is_swept, true) {
            return;
        }
        let mut used = vec![false; self.cells.len()];
        let logs = self.queues.values().flat_map(|queue| queue.logs.values());
        for id in logs.flat_map(|log| &log.cells) {
            if let Some(used) = used.get_mut(*id as usize) {
                *used = true;
            }
        }
        for (id, _) in used.iter().enumerate().filter(|(_, used)| !**used) {
            if let Some(cell) = self.cells[id].take() {
                self.by_key.remove(&cell.key);
                self.free.push(id as CellId);
            }
        }
    }

    fn wants(&self, id: CellId, asked: &Asked) -> bool {
        let cell = self.cells.get(id as usize).and_then(Option::as_ref);
        cell.is_some_and(|cell| {
            let is =
                |wanted: &Option<String>, have: &str| wanted.as_ref().is_none_or(|wanted| wanted == have);
            is(&asked.group, &cell.group) && is(&asked.cause, &cell.key.cause) && cell.is_of(asked)
        })
    }

    /// The groups of these queues.
    pub(crate) fn groups(&self, asked: &Asked, max: usize) -> Groups {
        let mut groups: BTreeMap<&str, Group> = BTreeMap::new();
        let mut all = Groups::default();
        for (name, queue) in self.queues.iter().filter(|(name, _)| asked.has_queue(name)) {
            let (mut counts, mut other) = (vec![(0, u64::MAX, 0); self.cells.len()], 0_u64);
            for log in queue.logs.values() {
                for (id, time) in log.cells.iter().zip(&log.times).filter(|(id, _)| **id != GONE) {
                    match counts.get_mut(*id as usize) {
                        Some((count, first, last)) => {
                            (*count, *first, *last) = (*count + 1, (*first).min(*time), (*last).max(*time));
                        }
                        None => other += 1,
                    }
                }
            }
            let seen: u64 = other + counts.iter().map(|(count, ..): &(u64, u64, u64)| count).sum::<u64>();
            let alive: u64 = queue.extents.iter().flat_map(|e| &e.live).map(|(a, b)| b.0 - a.0 + 1).sum();
            all.messages += alive;
            all.unread += alive.saturating_sub(seen);
            all.other += other;
            let found = (0..).zip(counts).filter(|(id, (count, ..))| *count > 0 && self.wants(*id, asked));
            for (id, (count, first, last)) in found {
                let Some(Some(cell)) = self.cells.get(id as usize) else { continue };
                let group = groups.entry(&cell.group).or_insert_with(|| Group {
                    id: cell.group.clone(),
                    cause: cell.key.cause.clone(),
                    error: Some(cell.key.pattern.clone()).filter(|pattern| !pattern.is_empty()),
                    sample: cell.sample.clone(),
                    first: u64::MAX,
                    ..Group::default()
                });
                group.messages += count;
                (group.first, group.last) = (group.first.min(first), group.last.max(last));
                *group.queues.entry(name.to_string()).or_default() += count;
                group.count_origin(cell.key.origin.as_ref(), count);
            }
        }
        all.groups = groups.into_values().collect();
        all.groups.sort_by(|a, b| b.messages.cmp(&a.messages).then_with(|| a.id.cmp(&b.id)));
        all.more = all.groups.len() > max;
        all.groups.truncate(max);
        all
    }

    /// Letters of a queue that are asked for, in the order in which it is browsed, from `from` on; and whether there are more.
    pub(crate) fn members(
        &self,
        queue: &Name,
        asked: &Asked,
        from: Option<Tag>,
        max: usize,
    ) -> (Vec<Tag>, bool) {
        let Some(known) = self.queues.get(queue) else { return (Vec::new(), false) };
        let numbers: Vec<u16> = known.extents.iter().map(|extent| extent.log).collect();
        let begin = from.and_then(|from| numbers.iter().position(|log| *log == from.log())).unwrap_or(0);
        let mut tags = Vec::new();
        for number in &numbers[begin..] {
            let Some(log) = known.logs.get(number) else { continue };
            let start = from
                .filter(|from| from.log() == *number)
                .map_or(log.base, |from| from.offset().0.max(log.base));
            for (at, id) in log.cells.iter().enumerate().skip((start - log.base) as usize) {
                if self.wants(*id, asked) {
                    if tags.len() == max {
                        return (tags, true);
                    }
                    tags.push(Tag::new(*number, Offset(log.base + at as u64)));
                }
            }
        }
        (tags, false)
    }
}

#[cfg(test)]
#[path = "index_tests.rs"]
mod tests;
