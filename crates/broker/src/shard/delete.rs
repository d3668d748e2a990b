//! Removing queues, topics, subscriptions and routes, and emptying queues.

use waystation_base::{EntityId, Name};

use super::{
    Address, Ctx, Shard,
    cursor::{Reason, is_delayed},
    entry::Entry,
};
use crate::{
    Effect, Kind, Refusal, Source,
    command::{Counted, Delete},
    effect::Closed,
};

impl Shard {
    pub(super) fn delete(&mut self, delete: &Delete, ctx: &mut Ctx<'_>) -> Result<u64, Refusal> {
        let Delete { kind, name, if_unused, if_empty, counted, session } = delete;
        let id = self.find(*kind, name).filter(|id| self.spec(*id).is_some_and(|spec| spec.kind() == *kind));
        let id = id.ok_or_else(|| Refusal::NotFound { kind: *kind, name: name.to_string() })?;
        if self.queues.get(&id).and_then(|queue| queue.owner).is_some_and(|owner| owner != *session) {
            return Err(Refusal::Exclusive { kind: *kind, name: name.clone() });
        }
        let in_use = |state| Err(Refusal::InUse { kind: *kind, name: name.clone(), state });
        if *if_unused && self.is_used(id) {
            return in_use("in use");
        }
        let messages = self.messages(id, *counted);
        if *if_empty && messages > 0 {
            return in_use("not empty");
        }
        self.remove(*kind, id, ctx);
        Ok(messages)
    }

    fn is_used(&self, id: EntityId) -> bool {
        if let Some(route) = self.routes.get(&id) {
            return route.bindings() > 0;
        }
        if let Some(topic) = self.topics.get(&id) {
            return topic.readers.iter().any(|readers| !readers.is_empty());
        }
        self.outlet(id).is_some_and(|outlet| outlet.consumers.len() > 0)
    }

    fn outlet(&self, id: EntityId) -> Option<&super::outlet::Outlet> {
        let queue = self.queues.get(&id).map(|queue| &queue.outlet);
        queue.or_else(|| self.subscriptions.get(&id).map(|subscription| &subscription.outlet))
    }

    /// Messages that something holds, or that a subscription has not acknowledged.
    fn messages(&self, id: EntityId, counted: Counted) -> u64 {
        let all = self.all_messages(id);
        match (counted, self.outlet(id)) {
            (Counted::All, _) | (_, None) => all,
            (Counted::Ready, Some(outlet)) => {
                all.saturating_sub(outlet.in_flight() + outlet.delayed.len() as u64)
            }
        }
    }

    fn all_messages(&self, id: EntityId) -> u64 {
        if let Some(topic) = self.topics.get(&id) {
            return topic.logs.iter().map(|log| log.next - log.base).sum();
        }
        if let Some(queue) = self.queues.get(&id) {
            return queue.alive();
        }
        let subscription = self.subscriptions.get(&id);
        subscription.map_or(0, |subscription| subscription.outlet.alive(&subscription.logs(&self.topics)))
    }

    /// Removes something with all that it holds.
    pub(super) fn remove(&mut self, kind: Kind, id: EntityId, ctx: &mut Ctx<'_>) {
        if let Some(outlet) = self.outlet_mut(id) {
            let mut consumers: Vec<_> = outlet.consumers.iter().map(|(consumer, _)| consumer).collect();
            consumers.sort_unstable();
            ctx.gone.extend(outlet.consumers.retired());
            let freed = outlet.consumers.take_pooled();
            for consumer in consumers {
                ctx.gone.push(consumer);
                ctx.effects.push(Effect::Closed { consumer, reason: Closed::SourceDeleted });
            }
            self.pools.give_back(freed, ctx.now);
            self.pools.gone((kind, id), ctx.now);
        } else if !matches!(kind, Kind::Topic | Kind::Route) {
            return;
        }
        self.leave_vhost(id, ctx.now);
        self.follow_pools(ctx);
        if let Some(topic) = self.topics.get(&id) {
            // What is held of it is held no more.
            let readers = topic.readers.iter().flatten();
            ctx.dirty.extend(readers.map(|(reader, _)| (Kind::Subscription, *reader)));
        }
        let redriven = self.redriven_of(id);
        let unbound = self.apply_delete(id);
        Entry::Delete(id).append(ctx.log);
        if let Some(topic) = redriven {
            self.remove(Kind::Topic, topic, ctx);
        }
        for route in unbound {
            self.remove_if_unbound(route, ctx);
        }
    }

    /// The topic by which dead letters come back to a subscription, which goes with it.
    fn redriven_of(&self, id: EntityId) -> Option<EntityId> {
        let name = self.subscriptions.get(&id)?.outlet.name.redriven().ok()?;
        self.addresses.get(&name).map(|address| address.id())
    }

    /// Forgets something with all bindings to and of it, now or after a restart. Returns the routes that led to it.
    pub(super) fn apply_delete(&mut self, id: EntityId) -> Vec<EntityId> {
        let unbound = self.forget_bindings_to(id);
        if let Some(route) = self.routes.remove(&id) {
            self.route_names.remove(&route.name);
            self.forget_bindings_of(id, &route);
        }
        if let Some(queue) = self.queues.remove(&id) {
            self.addresses.remove(&queue.outlet.name);
        }
        if let Some(topic) = self.topics.remove(&id) {
            self.addresses.remove(&topic.name);
            for (reader, number) in topic.readers.into_iter().flatten() {
                if let Some(subscription) = self.subscriptions.get_mut(&reader) {
                    subscription.apply_seek(number, waystation_base::Offset(0));
                    subscription.outlet.cursors.remove(&number);
                    subscription.sources[usize::from(number)] = None;
                }
            }
        }
        if let Some(subscription) = self.subscriptions.remove(&id) {
            self.subscription_names.remove(&subscription.outlet.name);
            for log in subscription.sources.into_iter().flatten() {
                if let Some(topic) = self.topics.get_mut(&log.entity) {
                    topic.readers[usize::from(log.log)].retain(|(reader, _)| *reader != id);
                }
            }
        }
        unbound
    }

    /// Drops every message of a queue that nobody holds, delayed ones too.
    pub(super) fn purge(&mut self, name: &Name, ctx: &mut Ctx<'_>) -> Result<u64, Refusal> {
        let id = self.source(&Source::Queue(name.clone()))?;
        let queue = self.queues.get_mut(&id).expect("found");
        let mut stretches = Vec::new();
        let mut held_bytes = 0;
        for (number, log) in queue.logs.iter() {
            let Some(cursor) = queue.outlet.cursors.get_mut(&number) else { continue };
            let mut held: Vec<u64> = cursor.flying.keys().copied().collect();
            held.sort_unstable();
            held_bytes += cursor.flying.values().map(|flight| u64::from(flight.bytes)).sum::<u64>();
            let mut at = cursor.done.head();
            for end in held.into_iter().chain([log.next]) {
                let gaps = if at < end { cursor.done.live(at, end - 1) } else { Vec::new() };
                stretches.extend(gaps.into_iter().map(|(first, last)| (number, first, last - first + 1)));
                at = end + 1;
            }
            cursor.window.clear();
            cursor.loading = false;
            cursor.generation = cursor.generation.wrapping_add(1);
            cursor.scan = if is_delayed(number) { 0 } else { log.next };
            cursor.skip.clear();
            cursor.aside.clear();
        }
        let messages = stretches.iter().map(|(.., count)| count).sum();
        if messages > 0 {
            let bytes = queue.outlet.bytes.saturating_sub(held_bytes);
            queue.outlet.forget_parked();
            queue.outlet.apply_done(Reason::Purged, bytes, &stretches);
            Entry::Done(id, Reason::Purged, bytes, stretches).append(ctx.log);
            queue.trim();
        }
        ctx.dirty.push((Kind::Queue, id));
        Ok(messages)
    }

    /// Queues, topics, subscriptions and routes together.
    pub fn entities(&self) -> usize {
        self.queues.len() + self.topics.len() + self.subscriptions.len() + self.routes.len()
    }

    /// The name of the queue or topic that a log belongs to.
    pub fn address_of(&self, log: crate::place::LogId) -> Option<Name> {
        match self.queues.get(&log.entity) {
            Some(queue) => Some(queue.outlet.name.clone()),
            None => self.topics.get(&log.entity).map(|topic| topic.name.clone()),
        }
    }

    /// What a name that can be published to stands for.
    pub fn address(&self, name: &str) -> Option<Kind> {
        self.addresses.get(name).map(|address| match address {
            Address::Queue(_) => Kind::Queue,
            Address::Topic(_) => Kind::Topic,
        })
    }
}
