//! Limits that several consumers or queues share: what is handed out past them waits its turn, whatever it lies in.
//!
//! A credit pool bounds what consumers of one session hold together; a virtual host's pool bounds how many of its messages are held
//! ([`super::vhosts`]), and how fast they go. Who is turned away stands in the pool's line. Room is offered to the first in line, which
//! takes one message and goes to the end if it wants more, or passes: so none waits for ever beside a busy one.

use std::collections::VecDeque;

use waystation_base::{EntityId, Millis, limits::POOLS_PER_SESSION_MAX};

use super::{Ctx, HashMap, HashSet, Shard, limits::Bucket, timers::Timer, vhosts::VhostId};
use crate::{Kind, PoolId, Refusal, spec::MessageRate};

/// A queue or subscription.
type Place = (Kind, EntityId);

/// Whose limit a pool is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Key {
    /// Of consumers of a session.
    Session(PoolId),
    /// Of all queues and subscriptions of a virtual host.
    Vhost(VhostId),
}

impl From<PoolId> for Key {
    fn from(id: PoolId) -> Key {
        Key::Session(id)
    }
}

impl From<VhostId> for Key {
    fn from(id: VhostId) -> Key {
        Key::Vhost(id)
    }
}

/// All pools.
#[derive(Debug, Default)]
pub struct Pools {
    all: HashMap<Key, Pool>,
    /// To be looked at, for a pool has room for them.
    woken: Vec<Place>,
    /// What is offered to whom, until it has been looked at.
    offered: HashMap<Place, Vec<Key>>,
    /// When virtual hosts whose rate is used up have room again for those in their lines.
    alarms: Vec<(Millis, Timer)>,
}

#[derive(Debug, Default)]
struct Pool {
    /// How many messages may be held together.
    credit: Option<u32>,
    /// How fast they may go.
    rate: Option<MessageRate>,
    /// What is left of that.
    bucket: Bucket,
    /// When the line is looked at.
    armed: Option<Millis>,
    /// How many messages are held.
    held: u64,
    /// Who was turned away, in that order.
    line: VecDeque<Place>,
    in_line: HashSet<Place>,
}

/// Why there is no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    /// As many are held as may be, or others come first.
    Held,
    /// The rate is used up until then.
    Rate(Millis),
}

impl Pool {
    fn full(&self, now: Millis) -> Option<Full> {
        if self.credit.is_some_and(|credit| self.held >= u64::from(credit)) {
            return Some(Full::Held);
        }
        let opens_at = self.rate.as_ref().map(|rate| self.bucket.opens_at(rate));
        opens_at.filter(|at| *at > now).map(Full::Rate)
    }

    fn leave(&mut self, place: Place) {
        if !self.in_line.remove(&place) {
            return;
        }
        // It nearly always is the first.
        match self.line.front() == Some(&place) {
            true => drop(self.line.pop_front()),
            false => self.line.retain(|other| *other != place),
        }
    }
}

impl Pools {
    /// Whether there is such a pool: what its consumers hold is counted.
    pub fn has(&self, id: PoolId) -> bool {
        self.all.contains_key(&Key::Session(id))
    }

    /// Whether a consumer at `place` may be given one more now; if not, the place is looked at again when its turn comes.
    pub fn admits(&mut self, key: Option<impl Into<Key>>, place: Place, now: Millis) -> Result<(), Full> {
        let Some(key) = key.map(Into::into) else { return Ok(()) };
        let Some(pool) = self.all.get_mut(&key) else { return Ok(()) };
        let full = pool.full(now);
        if full.is_none() && pool.line.front().is_none_or(|first| *first == place) {
            return Ok(());
        }
        if pool.in_line.insert(place) {
            pool.line.push_back(place);
        }
        self.arm(key, now);
        Err(full.unwrap_or(Full::Held))
    }

    /// A consumer at `place` was given a message; it is `held` unless that settled it.
    pub fn take(&mut self, key: impl Into<Key>, place: Place, held: bool, now: Millis) {
        let key = key.into();
        let Some(pool) = self.all.get_mut(&key) else { return };
        pool.held += u64::from(held);
        if let Some(rate) = &pool.rate {
            pool.bucket.take(rate, now);
        }
        pool.leave(place);
        self.offer(key, now);
    }

    /// Messages were let go, each counted in its pool.
    pub fn give_back(&mut self, freed: Vec<PoolId>, now: Millis) {
        for id in freed {
            self.recount(id, 1, 0, now);
        }
    }

    /// Of what a pool holds, a part that was counted as so many is so many now.
    pub fn recount(&mut self, key: impl Into<Key>, before: u64, after: u64, now: Millis) {
        let key = key.into();
        let Some(pool) = self.all.get_mut(&key) else { return };
        pool.held = (pool.held + after).saturating_sub(before);
        if after < before {
            self.offer(key, now);
        }
    }

    /// Offers room to the first in line.
    fn offer(&mut self, key: Key, now: Millis) {
        let Some(pool) = self.all.get(&key) else { return };
        let Some(first) = pool.line.front() else { return };
        if pool.full(now).is_some() {
            return self.arm(key, now);
        }
        let offered = self.offered.entry(*first).or_default();
        if !offered.contains(&key) {
            offered.push(key);
            self.woken.push(*first);
        }
    }

    /// Sees to it that the line is looked at when the rate allows more.
    fn arm(&mut self, key: Key, now: Millis) {
        let Key::Vhost(id) = key else { return };
        let Some(pool) = self.all.get_mut(&key) else { return };
        if let Some(Full::Rate(at)) = pool.full(now)
            && pool.armed.is_none_or(|armed| armed <= now || at < armed)
        {
            pool.armed = Some(at);
            self.alarms.push((at, Timer::Vhost(id)));
        }
    }

    /// A time has come for which an alarm was set.
    pub fn rung(&mut self, id: VhostId, now: Millis) {
        if let Some(pool) = self.all.get_mut(&Key::Vhost(id)) {
            pool.armed = pool.armed.filter(|at| *at > now);
            self.offer(id.into(), now);
        }
    }

    /// A place was looked at: what was offered to it and not taken goes to the next in line.
    pub fn looked_at(&mut self, place: Place, now: Millis) {
        if self.offered.is_empty() {
            return;
        }
        for key in self.offered.remove(&place).unwrap_or_default() {
            let Some(pool) = self.all.get_mut(&key) else { continue };
            if pool.full(now).is_none() && pool.line.front() == Some(&place) {
                pool.leave(place);
            }
            self.offer(key, now);
        }
    }

    /// A queue or subscription has gone: it waits in no line any more.
    pub fn gone(&mut self, place: Place, now: Millis) {
        self.offered.remove(&place);
        let mut keys: Vec<Key> =
            self.all.iter().filter(|(_, pool)| pool.in_line.contains(&place)).map(|(key, _)| *key).collect();
        keys.sort_unstable();
        for key in keys {
            if let Some(pool) = self.all.get_mut(&key) {
                pool.leave(place);
                self.offer(key, now);
            }
        }
    }

    /// Who is to be looked at.
    pub fn take_woken(&mut self) -> Vec<Place> {
        std::mem::take(&mut self.woken)
    }

    /// Timers to be set.
    pub fn take_alarms(&mut self) -> Vec<(Millis, Timer)> {
        std::mem::take(&mut self.alarms)
    }

    fn set(&mut self, id: PoolId, credit: u32, held: u64, now: Millis) {
        self.limit(id, (Some(credit), None), held, now);
    }

    /// Sets a pool's limits; `held` is what is held by then if it is new.
    pub fn limit(
        &mut self,
        key: impl Into<Key>,
        (credit, rate): (Option<u32>, Option<MessageRate>),
        held: u64,
        now: Millis,
    ) {
        let key = key.into();
        let pool = self.all.entry(key).or_insert_with(|| Pool { held, ..Pool::default() });
        if let Some(rate) = rate.as_ref().filter(|rate| pool.rate.as_ref() != Some(*rate)) {
            pool.bucket.change(rate, now);
        }
        (pool.credit, pool.rate) = (credit, rate);
        self.offer(key, now);
    }

    /// Forgets a pool: nobody is turned away any more.
    pub fn forget(&mut self, key: impl Into<Key>) {
        if let Some(pool) = self.all.remove(&key.into()) {
            self.woken.extend(pool.line);
        }
    }

    /// What is held of a pool, and why there is no room in it.
    pub fn look(&self, key: impl Into<Key>, now: Millis) -> (u64, Option<Full>) {
        self.all.get(&key.into()).map_or((0, None), |pool| (pool.held, pool.full(now)))
    }
}

impl Shard {
    /// Sets what the consumers of a pool may hold together, those too that are attached already; nothing: no limit, and no pool.
    pub(super) fn pool(&mut self, id: PoolId, credit: Option<u32>, ctx: &mut Ctx<'_>) -> Result<(), Refusal> {
        match credit {
            Some(credit) => self.set_pool(id, credit, ctx.now)?,
            None => self.forget_pool(id),
        }
        self.follow_pools(ctx);
        Ok(())
    }

    /// Looks at whom pools have room for, now or later.
    pub(super) fn follow_pools(&mut self, ctx: &mut Ctx<'_>) {
        ctx.dirty.append(&mut self.pools.take_woken());
        ctx.timers.append(&mut self.pools.take_alarms());
    }

    fn set_pool(&mut self, id: PoolId, credit: u32, now: Millis) -> Result<(), Refusal> {
        if self.pools.has(id) {
            self.pools.set(id, credit, 0, now);
            return Ok(());
        }
        let session = self.sessions.entry(id.session).or_default();
        if session.pools.len() >= POOLS_PER_SESSION_MAX {
            let limit = POOLS_PER_SESSION_MAX as u64;
            return Err(Refusal::Limit { what: "credit pools of a session", limit });
        }
        session.pools.insert(id);
        let held = self.count_in_pool(id, true);
        self.pools.set(id, credit, held, now);
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

    const NOW: Millis = Millis(1_000);

    const ID: PoolId = PoolId { session: SessionId(1), number: 1 };

    fn place(id: u32) -> Place {
        (Kind::Queue, EntityId(id))
    }

    /// A pool of one, full, with these in line.
    fn full(places: &[u32]) -> Pools {
        let mut pools = Pools::default();
        pools.set(ID, 1, 0, NOW);
        assert!(pools.admits(Some(ID), place(places[0]), NOW).is_ok(), "there is room for one");
        pools.take(ID, place(places[0]), true, NOW);
        for id in places {
            assert!(pools.admits(Some(ID), place(*id), NOW).is_err(), "and for no more");
        }
        pools
    }

    /// Whoever is woken takes what it is offered and asks for more, so many times.
    fn takers(pools: &mut Pools, rounds: usize) -> Vec<u32> {
        let mut takers = Vec::new();
        for _ in 0..rounds {
            pools.give_back(vec![ID], NOW);
            for at in pools.take_woken() {
                if pools.admits(Some(ID), at, NOW).is_ok() {
                    pools.take(ID, at, true, NOW);
                    takers.push(at.1.0);
                }
                assert!(pools.admits(Some(ID), at, NOW).is_err());
                pools.looked_at(at, NOW);
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
        pools.give_back(vec![ID], NOW);
        assert!(pools.admits(Some(ID), place(2), NOW).is_err(), "it is offered to the first");
        assert!(pools.admits(Some(ID), place(1), NOW).is_ok());
    }

    #[test]
    fn who_wants_nothing_any_more_lets_the_next_have_it() {
        let mut pools = full(&[1, 2]);
        pools.give_back(vec![ID], NOW);
        assert_eq!(pools.take_woken(), [place(1)]);
        pools.looked_at(place(1), NOW);
        assert_eq!(pools.take_woken(), [place(2)]);
        assert!(pools.admits(Some(ID), place(2), NOW).is_ok());
    }

    #[test]
    fn who_has_gone_lets_the_next_have_it() {
        let mut pools = full(&[1, 2]);
        pools.give_back(vec![ID], NOW);
        pools.take_woken();
        pools.gone(place(1), NOW);
        assert_eq!(pools.take_woken(), [place(2)]);
    }

    #[test]
    fn nobody_is_offered_anything_while_more_is_held_than_a_smaller_limit_allows() {
        let mut pools = full(&[1, 2]);
        pools.set(ID, 2, 0, NOW);
        pools.take_woken();
        pools.take(ID, place(1), true, NOW);
        pools.set(ID, 1, 0, NOW);
        pools.give_back(vec![ID], NOW);
        assert!(pools.take_woken().is_empty());
        pools.give_back(vec![ID], NOW);
        assert_eq!(pools.take_woken(), [place(2)]);
    }

    #[test]
    fn a_pool_that_is_forgotten_lets_everybody_go_on() {
        let mut pools = full(&[1, 2]);
        pools.forget(ID);
        assert_eq!(pools.take_woken(), [place(1), place(2)]);
        assert!(pools.admits(Some(ID), place(1), NOW).is_ok());
        assert!(!pools.has(ID));
    }

    #[test]
    fn a_rate_lets_one_after_the_other_go_when_their_time_comes() {
        let (mut pools, id) = (Pools::default(), VhostId(1));
        let rate = MessageRate { messages: 1, per_ms: 100, burst: None };
        pools.limit(id, (None, Some(rate)), 0, NOW);
        assert_eq!(pools.admits(Some(id), place(1), NOW), Ok(()));
        pools.take(id, place(1), true, NOW);
        let at = NOW.plus(100);
        for who in [1, 2] {
            assert_eq!(pools.admits(Some(id), place(who), NOW), Err(Full::Rate(at)));
        }
        assert_eq!(pools.take_alarms(), [(at, Timer::Vhost(id))], "one alarm for all");
        pools.rung(id, at);
        assert_eq!(pools.take_woken(), [place(1)]);
        assert_eq!(pools.admits(Some(id), place(2), at), Err(Full::Held), "it is not its turn");
        pools.take(id, place(1), true, at);
        pools.looked_at(place(1), at);
        assert_eq!(pools.take_alarms(), [(at.plus(100), Timer::Vhost(id))]);
        pools.rung(id, at.plus(100));
        assert_eq!(pools.take_woken(), [place(2)]);
    }
}
