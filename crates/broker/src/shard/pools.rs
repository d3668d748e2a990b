//! Credit that consumers share: together they hold no more than their pool allows, whatever they consume.
//!
//! Who is turned away stands in the pool's line. Room is offered to the first in line, which takes one message and goes to the
//! end if it wants more, or passes: so none waits for ever beside a busy one.

use std::collections::VecDeque;

use waystation_base::{EntityId, limits::POOLS_PER_SESSION_MAX};

use super::{Ctx, HashMap, HashSet, Shard};
use crate::{Kind, PoolId, Refusal};

/// A queue or subscription.
type Place = (Kind, EntityId);

/// All pools.
#[derive(Debug, Default)]
pub struct Pools {
    all: HashMap<PoolId, Pool>,
    /// To be looked at, for a pool has room for them.
    woken: Vec<Place>,
    /// What is offered to whom, until it has been looked at.
    offered: HashMap<Place, Vec<PoolId>>,
}

#[derive(Debug, Default)]
struct Pool {
    /// How many messages its consumers may hold together.
    credit: u32,
    /// How many they do.
    held: u64,
    /// Whose consumers were turned away, in that order.
    line: VecDeque<Place>,
    in_line: HashSet<Place>,
}

impl Pool {
    fn has_room(&self) -> bool {
        self.held < u64::from(self.credit)
    }

    fn leave(&mut self, place: Place) {
        if self.in_line.remove(&place) {
            self.line.retain(|other| *other != place);
        }
    }
}

impl Pools {
    /// Whether there is such a pool: what its consumers hold is counted.
    pub fn has(&self, id: PoolId) -> bool {
        self.all.contains_key(&id)
    }

    /// Whether a consumer at `place` may be given one more now; if not, the place is looked at again when its turn comes.
    pub fn admits(&mut self, id: Option<PoolId>, place: Place) -> bool {
        let Some(pool) = id.and_then(|id| self.all.get_mut(&id)) else { return true };
        if pool.has_room() && pool.line.front().is_none_or(|first| *first == place) {
            return true;
        }
        if pool.in_line.insert(place) {
            pool.line.push_back(place);
        }
        false
    }

    /// A consumer at `place` was given a message.
    pub fn take(&mut self, id: PoolId, place: Place) {
        if let Some(pool) = self.all.get_mut(&id) {
            pool.held += 1;
            pool.leave(place);
            self.offer(id);
        }
    }

    /// Messages were let go, each counted in its pool.
    pub fn give_back(&mut self, freed: Vec<PoolId>) {
        for id in freed {
            if let Some(pool) = self.all.get_mut(&id) {
                pool.held = pool.held.saturating_sub(1);
                self.offer(id);
            }
        }
    }

    /// Offers room to the first in line.
    fn offer(&mut self, id: PoolId) {
        let Some(pool) = self.all.get(&id).filter(|pool| pool.has_room()) else { return };
        let Some(first) = pool.line.front() else { return };
        let offered = self.offered.entry(*first).or_default();
        if !offered.contains(&id) {
            offered.push(id);
            self.woken.push(*first);
        }
    }

    /// A place was looked at: what was offered to it and not taken goes to the next in line.
    pub fn looked_at(&mut self, place: Place) {
        if self.offered.is_empty() {
            return;
        }
        for id in self.offered.remove(&place).unwrap_or_default() {
            let Some(pool) = self.all.get_mut(&id) else { continue };
            if pool.has_room() && pool.line.front() == Some(&place) {
                pool.leave(place);
            }
            self.offer(id);
        }
    }

    /// A queue or subscription has gone: it waits in no line any more.
    pub fn gone(&mut self, place: Place) {
        self.offered.remove(&place);
        let mut ids: Vec<PoolId> =
            self.all.iter().filter(|(_, pool)| pool.in_line.contains(&place)).map(|(id, _)| *id).collect();
        ids.sort_unstable();
        for id in ids {
            if let Some(pool) = self.all.get_mut(&id) {
                pool.leave(place);
                self.offer(id);
            }
        }
    }

    /// Who is to be looked at.
    pub fn take_woken(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.woken)
    }

    fn set(&mut self, id: PoolId, credit: u32, held: u64) {
        let pool = self.all.entry(id).or_insert_with(|| Pool { held, ..Pool::default() });
        pool.credit = credit;
        self.offer(id);
    }

    /// Forgets a pool: nobody is turned away any more.
    pub fn forget(&mut self, id: PoolId) {
        if let Some(pool) = self.all.remove(&id) {
            self.woken.extend(pool.line);
        }
    }
}

impl Shard {
    /// Sets what the consumers of a pool may hold together, those too that are attached already; nothing: no limit, and no pool.
    pub(super) fn pool(&mut self, id: PoolId, credit: Option<u32>, ctx: &mut Ctx<'_>) -> Result<(), Refusal> {
        match credit {
            Some(credit) => self.set_pool(id, credit)?,
            None => self.forget_pool(id),
        }
        ctx.dirty.append(&mut self.pools.take_woken());
        Ok(())
    }

    fn set_pool(&mut self, id: PoolId, credit: u32) -> Result<(), Refusal> {
        if self.pools.has(id) {
            self.pools.set(id, credit, 0);
            return Ok(());
        }
        let session = self.sessions.entry(id.session).or_default();
        if session.pools.len() >= POOLS_PER_SESSION_MAX {
            let limit = POOLS_PER_SESSION_MAX as u64;
            return Err(Refusal::Limit { what: "credit pools of a session", limit });
        }
        session.pools.insert(id);
        let held = self.count_in_pool(id, true);
        self.pools.set(id, credit, held);
        Ok(())
    }

    fn forget_pool(&mut self, id: PoolId) {
        self.count_in_pool(id, false);
        if let Some(session) = self.sessions.get_mut(&id.session) {
            session.pools.remove(&id);
        }
        self.pools.forget(id);
    }

    /// Lets the consumers of a pool count what they hold, or not; gives what they hold.
    fn count_in_pool(&mut self, id: PoolId, counts: bool) -> u64 {
        let consumers = self.sessions.get(&id.session).map(|session| session.consumers.iter().copied());
        let consumers: Vec<_> = consumers.into_iter().flatten().collect();
        let mut held = 0;
        for consumer in consumers {
            let Some((_, source, _)) = self.consumers.get(&consumer).copied() else { continue };
            if let Some(outlet) = self.outlet_mut(source) {
                held += outlet.consumers.count_in_pool(consumer, id, counts);
            }
        }
        held
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SessionId;

    const ID: PoolId = PoolId { session: SessionId(1), number: 1 };

    fn place(id: u32) -> Place {
        (Kind::Queue, EntityId(id))
    }

    /// A pool of one, full, with these in line.
    fn full(places: &[u32]) -> Pools {
        let mut pools = Pools::default();
        pools.set(ID, 1, 0);
        assert!(pools.admits(Some(ID), place(places[0])), "there is room for one");
        pools.take(ID, place(places[0]));
        for id in places {
            assert!(!pools.admits(Some(ID), place(*id)), "and for no more");
        }
        pools
    }

    /// Whoever is woken takes what it is offered and asks for more, so many times.
    fn takers(pools: &mut Pools, rounds: usize) -> Vec<u32> {
        let mut takers = Vec::new();
        for _ in 0..rounds {
            pools.give_back(vec![ID]);
            for at in pools.take_woken() {
                if pools.admits(Some(ID), at) {
                    pools.take(ID, at);
                    takers.push(at.1.0);
                }
                assert!(!pools.admits(Some(ID), at));
                pools.looked_at(at);
            }
        }
        takers
    }

    #[test]
    fn those_who_want_more_take_turns() {
        assert_eq!(takers(&mut full(&[1, 2, 3]), 7), [1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn who_is_not_first_in_line_waits_though_there_is_room() {
        let mut pools = full(&[1, 2]);
        pools.give_back(vec![ID]);
        assert!(!pools.admits(Some(ID), place(2)), "it is offered to the first");
        assert!(pools.admits(Some(ID), place(1)));
    }

    #[test]
    fn who_wants_nothing_any_more_lets_the_next_have_it() {
        let mut pools = full(&[1, 2]);
        pools.give_back(vec![ID]);
        assert_eq!(pools.take_woken(), [place(1)]);
        pools.looked_at(place(1));
        assert_eq!(pools.take_woken(), [place(2)]);
        assert!(pools.admits(Some(ID), place(2)));
    }

    #[test]
    fn who_has_gone_lets_the_next_have_it() {
        let mut pools = full(&[1, 2]);
        pools.give_back(vec![ID]);
        pools.take_woken();
        pools.gone(place(1));
        assert_eq!(pools.take_woken(), [place(2)]);
    }

    #[test]
    fn nobody_is_offered_anything_while_more_is_held_than_a_smaller_limit_allows() {
        let mut pools = full(&[1, 2]);
        pools.set(ID, 2, 0);
        pools.take_woken();
        pools.take(ID, place(1));
        pools.set(ID, 1, 0);
        pools.give_back(vec![ID]);
        assert!(pools.take_woken().is_empty());
        pools.give_back(vec![ID]);
        assert_eq!(pools.take_woken(), [place(2)]);
    }

    #[test]
    fn a_pool_that_is_forgotten_lets_everybody_go_on() {
        let mut pools = full(&[1, 2]);
        pools.forget(ID);
        assert_eq!(pools.take_woken(), [place(1), place(2)]);
        assert!(pools.admits(Some(ID), place(1)));
        assert!(!pools.has(ID));
    }
}
