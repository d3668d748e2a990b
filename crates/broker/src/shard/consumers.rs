//! Who consumes, and whose turn it is.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, VecDeque},
};

use super::{HashMap, HashSet};
use waystation_base::{ClientId, ConsumerId, Tag};

use crate::{PoolId, command::Hold};

/// An attached consumer, or a waiting pull.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// How many messages it may hold.
    pub window: u32,
    /// What it holds.
    pub held: HashSet<Tag>,
    /// How it holds.
    pub hold: Hold,
    /// Higher goes first.
    pub priority: i32,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Who it is, for the journal.
    pub client: ClientId,
    /// A pull that has been given something.
    pub served: bool,
    /// With whom it shares its credit, and whether what it holds is counted there.
    pool: Option<(PoolId, bool)>,
    order: u64,
    queued: bool,
}

impl Consumer {
    fn available(&self) -> u32 {
        self.window.saturating_sub(self.held.len() as u32)
    }

    /// Where what it holds is counted.
    pub fn pool(&self) -> Option<PoolId> {
        self.pool.filter(|(_, counts)| *counts).map(|(pool, _)| pool)
    }

    /// Once for each message that it holds: where that is counted.
    fn pooled(&self) -> impl Iterator<Item = PoolId> + use<> {
        let (pool, held) = (self.pool(), self.held.len());
        pool.into_iter().flat_map(move |pool| std::iter::repeat_n(pool, held))
    }

    /// Whether it ends with its first delivery.
    pub fn is_pull(&self) -> bool {
        matches!(self.hold, Hold::Pull { .. } | Hold::Once)
    }
}

/// The consumers of one queue or subscription.
#[derive(Clone, Debug, Default)]
pub struct Consumers {
    all: HashMap<ConsumerId, Consumer>,
    /// Those that get nothing more and still hold something: they are not among the consumers any more.
    retired: HashMap<ConsumerId, Consumer>,
    /// Those of them that hold nothing any more.
    emptied: Vec<ConsumerId>,
    /// Where messages were counted that were let go, once for each.
    freed: Vec<PoolId>,
    /// Those that take one message at once and have not been looked at.
    gets: Vec<ConsumerId>,
    /// Those that may take more, by priority, each in turn. Entries may be stale.
    turns: BTreeMap<Reverse<i32>, VecDeque<ConsumerId>>,
    orders: u64,
    attached: usize,
}

impl Consumers {
    /// How many there are, waiting pulls included.
    pub fn len(&self) -> usize {
        self.all.len()
    }

    /// How many there are without pulls.
    pub fn attached(&self) -> usize {
        self.attached
    }

    /// One of them.
    pub fn get(&self, id: ConsumerId) -> Option<&Consumer> {
        self.all.get(&id)
    }

    /// One of them, to be changed.
    pub fn get_mut(&mut self, id: ConsumerId) -> Option<&mut Consumer> {
        self.all.get_mut(&id)
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (ConsumerId, &Consumer)> {
        self.all.iter().map(|(id, consumer)| (*id, consumer))
    }

    /// Whether one of them has it all for itself.
    pub fn exclusive(&self) -> bool {
        self.all.len() == 1 && self.all.values().any(|consumer| consumer.exclusive)
    }

    /// Adds one.
    pub fn add(&mut self, id: ConsumerId, window: u32, hold: Hold, priority: i32, exclusive: bool) {
        self.orders += 1;
        let consumer = Consumer {
            window,
            held: HashSet::default(),
            hold,
            priority,
            exclusive,
            client: ClientId(0),
            served: false,
            pool: None,
            order: self.orders,
            queued: false,
        };
        self.attached += usize::from(!consumer.is_pull());
        if hold == Hold::Once {
            self.gets.push(id);
        }
        self.all.insert(id, consumer);
        self.offer(id);
    }

    /// Notes who one is.
    pub fn introduce(&mut self, id: ConsumerId, client: ClientId) {
        if let Some(consumer) = self.all.get_mut(&id) {
            consumer.client = client;
        }
    }

    /// Who one is that gets messages or holds some.
    pub fn client_of(&self, id: ConsumerId) -> Option<ClientId> {
        self.all.get(&id).or_else(|| self.retired.get(&id)).map(|consumer| consumer.client)
    }

    /// Lets one share its credit.
    pub fn join(&mut self, id: ConsumerId, pool: PoolId, counts: bool) {
        if let Some(consumer) = self.all.get_mut(&id) {
            consumer.pool = Some((pool, counts));
        }
    }

    /// Counts in its pool what one holds, or not, if it is of that pool; gives how much that is.
    pub fn count_in_pool(&mut self, id: ConsumerId, of: PoolId, counts: bool) -> u64 {
        let one = self.all.get_mut(&id).or_else(|| self.retired.get_mut(&id));
        let Some(one) = one.filter(|one| one.pool.is_some_and(|(pool, _)| pool == of)) else { return 0 };
        one.pool = Some((of, counts));
        one.held.len() as u64
    }

    /// Where messages were counted that were let go since it was last asked.
    pub fn take_freed(&mut self) -> Vec<PoolId> {
        std::mem::take(&mut self.freed)
    }

    /// All that is counted, before they all go.
    pub fn take_pooled(&mut self) -> Vec<PoolId> {
        let mut freed = self.take_freed();
        freed.extend(self.all.values().chain(self.retired.values()).flat_map(Consumer::pooled));
        freed
    }

    /// Takes one away.
    pub fn remove(&mut self, id: ConsumerId) -> Option<Consumer> {
        let consumer = self.take(id)?;
        self.freed.extend(consumer.pooled());
        Some(consumer)
    }

    fn take(&mut self, id: ConsumerId) -> Option<Consumer> {
        let consumer = self.all.remove(&id)?;
        self.attached -= usize::from(!consumer.is_pull());
        if self.all.is_empty() {
            self.turns.clear();
        }
        Some(consumer)
    }

    /// Lets one get nothing more: it goes when it holds nothing any more. Returns what it was.
    pub fn retire(&mut self, id: ConsumerId) -> Option<&Consumer> {
        let consumer = self.take(id)?;
        if consumer.held.is_empty() {
            self.emptied.push(id);
        }
        Some(self.retired.entry(id).or_insert(consumer))
    }

    /// Whether one gets nothing more.
    pub fn is_retired(&self, id: ConsumerId) -> bool {
        self.retired.contains_key(&id)
    }

    /// Takes one away that gets nothing more.
    pub fn remove_retired(&mut self, id: ConsumerId) -> Option<Consumer> {
        let consumer = self.retired.remove(&id)?;
        self.freed.extend(consumer.pooled());
        Some(consumer)
    }

    /// Those that get nothing more, in no particular order.
    pub fn retired(&self) -> impl Iterator<Item = ConsumerId> {
        self.retired.keys().copied()
    }

    /// Takes away those that get nothing more and hold nothing any more.
    pub fn take_emptied(&mut self) -> Vec<ConsumerId> {
        let emptied = std::mem::take(&mut self.emptied);
        emptied.iter().for_each(|id| drop(self.retired.remove(id)));
        emptied
    }

    /// Those that take one message at once and have not got it.
    pub fn take_gets(&mut self) -> Vec<ConsumerId> {
        let mut gets = std::mem::take(&mut self.gets);
        gets.retain(|id| self.all.contains_key(id));
        gets
    }

    /// Puts one in line if it may take more.
    pub fn offer(&mut self, id: ConsumerId) {
        let Some(consumer) = self.all.get_mut(&id) else { return };
        if !consumer.queued && consumer.available() > 0 {
            consumer.queued = true;
            self.turns.entry(Reverse(consumer.priority)).or_default().push_back(id);
        }
    }

    /// Lets go of a message that one holds.
    pub fn let_go(&mut self, id: ConsumerId, tag: Tag) {
        if let Some(consumer) = self.all.get_mut(&id) {
            if consumer.held.remove(&tag) {
                self.freed.extend(consumer.pool());
            }
            self.offer(id);
        } else if let Some(consumer) = self.retired.get_mut(&id)
            && consumer.held.remove(&tag)
        {
            self.freed.extend(consumer.pool());
            if consumer.held.is_empty() {
                self.emptied.push(id);
            }
        }
    }

    /// The one that may have a queue for itself while others wait: the first come among those of the highest priority.
    pub fn active(&self) -> Option<ConsumerId> {
        let first = self.all.iter().filter(|(_, consumer)| !consumer.is_pull());
        first.min_by_key(|(_, consumer)| (Reverse(consumer.priority), consumer.order)).map(|(id, _)| *id)
    }

    /// Whose turn it is among those for whom `fits` holds; it keeps its turn until [`Consumers::given`].
    pub fn next(&mut self, mut fits: impl FnMut(ConsumerId, &Consumer) -> bool) -> Option<ConsumerId> {
        for line in self.turns.values_mut() {
            for _ in 0..line.len() {
                let id = *line.front()?;
                let Some(consumer) = self.all.get_mut(&id) else {
                    line.pop_front();
                    continue;
                };
                if consumer.available() == 0 {
                    consumer.queued = false;
                    line.pop_front();
                } else if fits(id, consumer) {
                    return Some(id);
                } else {
                    line.rotate_left(1);
                }
            }
        }
        None
    }

    /// Notes that a message went to the one whose turn it was. A pull keeps its turn until it is full.
    pub fn given(&mut self, id: ConsumerId, tag: Tag) {
        let consumer = self.all.get_mut(&id).expect("whose turn it was");
        match consumer.hold {
            Hold::None => consumer.window -= 1,
            _ => {
                consumer.held.insert(tag);
            }
        }
        consumer.served = true;
        let line = self.turns.get_mut(&Reverse(consumer.priority)).expect("its line");
        debug_assert_eq!(line.front(), Some(&id));
        if consumer.available() == 0 {
            line.pop_front();
            consumer.queued = false;
        } else if !consumer.is_pull() {
            line.rotate_left(1);
        }
    }

    /// Whether anybody may take more.
    pub fn any_available(&self) -> bool {
        self.turns
            .values()
            .flatten()
            .any(|id| self.all.get(id).is_some_and(|consumer| consumer.available() > 0))
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::Millis;

    use super::*;

    fn consumers(list: &[(u64, u32, i32)]) -> Consumers {
        let mut consumers = Consumers::default();
        for &(id, window, priority) in list {
            consumers.add(ConsumerId(id), window, Hold::Attached, priority, false);
        }
        consumers
    }

    fn turns(consumers: &mut Consumers, count: u64) -> Vec<u64> {
        let mut out = Vec::new();
        for n in 0..count {
            let Some(id) = consumers.next(|_, _| true) else { break };
            consumers.given(id, Tag(n));
            out.push(id.0);
        }
        out
    }

    #[test]
    fn equal_consumers_take_turns_until_their_windows_are_full() {
        assert_eq!(turns(&mut consumers(&[(1, 2, 0), (2, 1, 0), (3, 2, 0)]), 9), [1, 2, 3, 1, 3]);
    }

    #[test]
    fn a_higher_priority_goes_first_and_comes_back_when_it_lets_go() {
        let mut consumers = consumers(&[(1, 9, 0), (2, 1, 5)]);
        assert_eq!(turns(&mut consumers, 2), [2, 1]);
        consumers.let_go(ConsumerId(2), Tag(0));
        assert_eq!(turns(&mut consumers, 2), [2, 1]);
    }

    #[test]
    fn a_pull_is_filled_before_the_next_one_gets_anything() {
        let mut consumers = Consumers::default();
        let hold = Hold::Pull { lease_ms: None, until: Millis(9) };
        (1..3).for_each(|id| consumers.add(ConsumerId(id), 2, hold, 0, false));
        assert_eq!(turns(&mut consumers, 9), [1, 1, 2, 2]);
        assert_eq!(consumers.attached(), 0);
    }

    #[test]
    fn the_next_in_line_becomes_active_when_the_first_leaves() {
        let mut consumers = consumers(&[(1, 1, 0), (2, 1, 0)]);
        assert_eq!(consumers.active(), Some(ConsumerId(1)));
        consumers.remove(ConsumerId(1));
        assert_eq!(consumers.active(), Some(ConsumerId(2)));
        assert_eq!(turns(&mut consumers, 9), [2]);
    }
}
