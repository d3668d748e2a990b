//! Beginning and ending to consume, credit, and what belongs to a session.

use waystation_base::{
    ConsumerId, EntityId, Tag,
    limits::{CONSUMERS_MAX, CREDIT_MAX},
};

use super::{Ctx, Shard, cursor::tag, outlet::Outlet, retry::Why, timers::Timer};
use crate::{
    Effect, Kind, Refusal, SessionId, Source,
    command::{Attach, Hold},
    effect::Closed,
};

impl Shard {
    /// The id of what is to be consumed.
    pub(super) fn source(&self, source: &Source) -> Result<EntityId, Refusal> {
        let id = match source {
            Source::Queue(name) => match self.addresses.get(name) {
                Some(super::Address::Queue(id)) => Some(*id),
                _ => None,
            },
            Source::Subscription(name) => self.subscription_names.get(name).copied(),
        };
        id.ok_or_else(|| Refusal::NotFound { kind: source.kind(), name: source.name().to_string() })
    }

    pub(super) fn attach(&mut self, attach: Attach, ctx: &mut Ctx<'_>) -> Result<(), Refusal> {
        let Attach { consumer, source, credit, pool, hold, priority, exclusive, session, client } = attach;
        let id = self.source(&source)?;
        if credit > CREDIT_MAX {
            return Err(Refusal::TooLarge { what: "credit", count: credit.into(), limit: CREDIT_MAX.into() });
        }
        if let Some(queue) = self.queues.get(&id)
            && queue.owner.is_some_and(|owner| owner != session)
        {
            return Err(Refusal::Exclusive { kind: Kind::Queue, name: source.name().clone() });
        }
        let counts = pool.is_some_and(|pool| self.pools.has(pool));
        let outlet = self.outlet_mut(id).expect("found");
        if outlet.consumers.exclusive() || (exclusive && outlet.consumers.len() > 0) {
            return Err(Refusal::Exclusive { kind: source.kind(), name: source.name().clone() });
        }
        if outlet.consumers.len() >= CONSUMERS_MAX {
            return Err(Refusal::Limit { what: "consumers of one source", limit: CONSUMERS_MAX as u64 });
        }
        outlet.consumers.add(consumer, credit, hold, priority, exclusive);
        outlet.consumers.introduce(consumer, client);
        if let Some(pool) = pool.filter(|_| matches!(hold, Hold::Attached | Hold::None)) {
            outlet.consumers.join(consumer, pool, counts);
        }
        outlet.last_used = ctx.now;
        outlet.warned = false;
        outlet.stranded &= matches!(hold, Hold::Pull { .. } | Hold::Once);
        if let Hold::Pull { until, .. } = hold {
            ctx.timers.push((until, Timer::Pull(id, consumer)));
        }
        ctx.dirty.push((source.kind(), id));
        self.consumers.insert(consumer, (source.kind(), id, session));
        if session != SessionId::default() {
            self.sessions.entry(session).or_default().consumers.insert(consumer);
        }
        Ok(())
    }

    pub(super) fn credit(
        &mut self,
        consumer: ConsumerId,
        credit: u32,
        ctx: &mut Ctx<'_>,
    ) -> Result<(), Refusal> {
        let (kind, id, _) = *self.consumers.get(&consumer).ok_or(Refusal::NotAttached)?;
        let outlet = self.outlet_mut(id).ok_or(Refusal::NotAttached)?;
        let window = &mut outlet.consumers.get_mut(consumer).ok_or(Refusal::NotAttached)?.window;
        *window = credit.min(CREDIT_MAX);
        outlet.consumers.offer(consumer);
        ctx.dirty.push((kind, id));
        Ok(())
    }

    pub(super) fn detach(&mut self, consumer: ConsumerId, ctx: &mut Ctx<'_>) -> Result<(), Refusal> {
        let (kind, id, _) = *self.consumers.get(&consumer).ok_or(Refusal::NotAttached)?;
        let Some(outlet) = self.outlet_mut(id) else { return Ok(()) };
        let gone = outlet.consumers.remove(consumer).ok_or(Refusal::NotAttached)?;
        outlet.last_used = ctx.now;
        ctx.gone.push(consumer);
        let mut held: Vec<Tag> = gone.held.iter().copied().collect();
        held.sort_unstable();
        if !gone.is_pull() {
            self.bring_back(kind, id, &held, Why::ConsumerLost, ctx);
            self.remove_if_unused(kind, id, ctx);
        }
        ctx.dirty.push((kind, id));
        Ok(())
    }

    /// Ends a consumer that met a message which cannot be read. That takes nothing with it: see [`crate::Command::Strand`].
    pub(super) fn strand(&mut self, consumer: ConsumerId, ctx: &mut Ctx<'_>) -> Result<(), Refusal> {
        let (_, id, _) = *self.consumers.get(&consumer).ok_or(Refusal::NotAttached)?;
        if let Some(outlet) = self.outlet_mut(id) {
            outlet.stranded = true;
        }
        self.detach(consumer, ctx)
    }

    /// Lets a consumer get nothing more; what it holds it holds on.
    pub(super) fn cancel(&mut self, consumer: ConsumerId, ctx: &mut Ctx<'_>) -> Result<(), Refusal> {
        let (kind, id, _) = *self.consumers.get(&consumer).ok_or(Refusal::NotAttached)?;
        let outlet = self.outlet_mut(id).ok_or(Refusal::NotAttached)?;
        let is_pull = outlet.consumers.retire(consumer).ok_or(Refusal::NotAttached)?.is_pull();
        outlet.last_used = ctx.now;
        ctx.effects.push(Effect::Closed { consumer, reason: Closed::Cancelled });
        ctx.dirty.push((kind, id));
        if !is_pull {
            self.remove_if_unused(kind, id, ctx);
        }
        Ok(())
    }

    /// Gives back what is held by a consumer that gets nothing more.
    fn end_retired(&mut self, consumer: ConsumerId, ctx: &mut Ctx<'_>) {
        let Some((kind, id, _)) = self.consumers.get(&consumer).copied() else { return };
        let outlet = self.outlet_mut(id).filter(|outlet| outlet.consumers.is_retired(consumer));
        let Some(gone) = outlet.and_then(|outlet| outlet.consumers.remove_retired(consumer)) else { return };
        let mut held: Vec<Tag> = gone.held.iter().copied().collect();
        held.sort_unstable();
        self.bring_back(kind, id, &held, Why::ConsumerLost, ctx);
        ctx.gone.push(consumer);
        ctx.dirty.push((kind, id));
    }

    /// Gives messages back that are held.
    pub(super) fn bring_back(
        &mut self,
        kind: Kind,
        id: EntityId,
        held: &[Tag],
        why: Why<'_>,
        ctx: &mut Ctx<'_>,
    ) {
        self.with_outlet(kind, id, |outlet, logs| outlet.bring_back(held, why, logs, ctx));
    }

    /// Lets `change` work on a queue's or subscription's outlet beside its logs.
    pub(super) fn with_outlet<T>(
        &mut self,
        kind: Kind,
        id: EntityId,
        change: impl FnOnce(&mut Outlet, &dyn super::outlet::Logs) -> T,
    ) -> Option<T> {
        match kind {
            Kind::Queue => {
                let (outlet, logs) = self.queues.get_mut(&id)?.parts();
                Some(change(outlet, &logs))
            }
            Kind::Subscription => {
                let (outlet, logs) = self.subscriptions.get_mut(&id)?.parts(&self.topics);
                Some(change(outlet, &logs))
            }
            Kind::Topic | Kind::Route => None,
        }
    }

    /// A queue or subscription that goes with its last consumer.
    fn remove_if_unused(&mut self, kind: Kind, id: EntityId, ctx: &mut Ctx<'_>) {
        let goes = match kind {
            Kind::Queue => self.queues.get(&id).is_some_and(|queue| queue.spec.auto_delete),
            _ => self.subscriptions.get(&id).is_some_and(|subscription| subscription.spec.temporary),
        };
        let is_used = |outlet: &mut Outlet| outlet.stranded || outlet.consumers.attached() > 0;
        let used = self.outlet_mut(id).is_some_and(is_used);
        if goes && !used {
            self.remove(kind, id, ctx);
        }
    }

    pub(super) fn close_session(&mut self, session: SessionId, ctx: &mut Ctx<'_>) {
        let Some(gone) = self.sessions.remove(&session) else { return };
        let mut consumers: Vec<ConsumerId> = gone.consumers.into_iter().collect();
        consumers.sort_unstable();
        for consumer in consumers {
            self.end_retired(consumer, ctx);
            // One that has ended meanwhile needs no detaching.
            let _ = self.detach(consumer, ctx);
        }
        for pool in gone.pools {
            self.pools.forget(pool);
        }
        self.follow_pools(ctx);
        let mut queues: Vec<EntityId> = gone.queues.into_iter().collect();
        queues.sort_unstable();
        for queue in queues {
            self.remove(Kind::Queue, queue, ctx);
        }
    }

    /// After a restart nobody is attached: what consumers held is ready again. Leases of pulls go on.
    pub(super) fn release_attached(&mut self, kind: Kind, id: EntityId, ctx: &mut Ctx<'_>) {
        let Some(outlet) = self.outlet_mut(id) else { return };
        let mut held = Vec::new();
        for (log, cursor) in &outlet.cursors {
            for (offset, flight) in cursor.flying.iter().filter(|(_, flight)| flight.dying.is_none()) {
                if flight.held_until == waystation_base::Millis::NEVER {
                    held.push(tag(*log, *offset));
                } else {
                    ctx.timers
                        .push((flight.held_until, Timer::Lease(id, tag(*log, *offset), flight.attempt)));
                }
            }
        }
        held.sort_unstable();
        self.bring_back(kind, id, &held, Why::Restarted, ctx);
    }
}
