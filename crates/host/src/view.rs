//! What can be read off between two commands.

use std::collections::BTreeSet;

use bytes::Bytes;
use waystation_base::{Millis, Name, Offset};
use waystation_broker::{
    Extent, Kind, Shard, Vital, Whereabout,
    place::LogId,
    view::{Binding, BindingFilter, QueueInfo, RouteInfo, SubscriptionInfo, TopicInfo, VhostInfo, Waits},
};

use crate::{
    Overview,
    exemplars::{Exemplar, Exemplars},
};

/// Names of Waystation's own at a time, which lists leave out.
const RESERVED_MAX: usize = 8;

/// The state as it is between two commands. It may be ahead of what is durable by what is being synced.
pub struct View<'a> {
    pub(crate) shard: &'a Shard,
    pub(crate) now: Millis,
    pub(crate) overview: &'a Overview,
    pub(crate) exemplars: &'a Exemplars,
}

impl View<'_> {
    /// A queue.
    pub fn queue(&self, name: &Name) -> Option<QueueInfo> {
        self.shard.queue(name)
    }

    /// A topic.
    pub fn topic(&self, name: &Name) -> Option<TopicInfo> {
        self.shard.topic(name)
    }

    /// A subscription.
    pub fn subscription(&self, name: &Name) -> Option<SubscriptionInfo> {
        self.shard.subscription(name, self.now)
    }

    /// How long messages of a queue or subscription waited until they were handed out, and an example with a trace.
    pub fn waits(&self, kind: Kind, name: &Name) -> Option<(Waits, Option<Exemplar>)> {
        Some((self.shard.waits(kind, name)?, self.exemplars.get(kind, name).cloned()))
    }

    /// A route.
    pub fn route(&self, name: &Name) -> Option<RouteInfo> {
        self.shard.route(name)
    }

    /// Bindings, by route and in the order in which they were made.
    pub fn bindings(&self, filter: &BindingFilter) -> Vec<Binding> {
        self.shard.bindings(filter)
    }

    /// Queues that dead letters go to, as far as declarations tell.
    pub fn graves(&self) -> BTreeSet<Name> {
        self.shard.graves()
    }

    /// All queues and subscriptions but Waystation's own, at a glance.
    pub fn vitals(&self) -> Vec<Vital> {
        self.shard.vitals()
    }

    /// What is in a queue's logs, in the order in which it is browsed; by the name of the topic by which dead letters come back to a
    /// subscription: what that has of it.
    pub fn extents(&self, queue: &Name) -> Option<Vec<Extent>> {
        self.shard.extents(queue)
    }

    /// What a name stands for that can be published to.
    pub fn address(&self, name: &str) -> Option<Kind> {
        self.shard.address(name)
    }

    /// Documents whose names begin so, by name.
    pub fn documents(&self, prefix: &str) -> Vec<(Name, Bytes)> {
        self.shard.documents(prefix)
    }

    /// Names of a kind after `after`, in order, at most `max`.
    pub fn names(&self, kind: Kind, after: Option<&str>, max: usize) -> Vec<Name> {
        let names = self.shard.names(kind, after, max.saturating_add(RESERVED_MAX));
        names.into_iter().filter(|name| !name.is_reserved()).take(max).collect()
    }

    /// Virtual hosts that have limits, by name.
    pub fn vhosts(&self) -> Vec<VhostInfo> {
        self.shard.vhosts(self.now)
    }

    /// Where stored messages are, in the order of the question.
    pub fn whereabouts(&self, places: &[(LogId, Offset)]) -> Vec<Whereabout> {
        self.shard.whereabouts(places)
    }

    /// The time.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// The whole.
    pub fn overview(&self) -> Overview {
        self.overview.clone()
    }
}
