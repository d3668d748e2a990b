//! What can be seen from outside.

use waystation_base::{Millis, Name, Tag};

use super::{Address, Shard, cursor::is_delayed, outlet::Logs};
use crate::{
    Kind, Refusal,
    view::{PartitionInfo, QueueInfo, SourceInfo, SubscriptionInfo, TopicInfo, Waits},
};

impl Shard {
    /// A queue as it is now.
    pub fn queue(&self, name: &Name) -> Option<QueueInfo> {
        let Address::Queue(id) = self.addresses.get(name)? else { return None };
        let queue = self.queues.get(id)?;
        let (in_flight, delayed) = (queue.outlet.in_flight(), queue.outlet.delayed.len() as u64);
        let oldest =
            queue.logs.iter().filter(|(number, _)| !is_delayed(*number)).filter_map(|(number, log)| {
                log.timestamp(queue.outlet.cursors.get(&number).map_or(log.base, |cursor| cursor.done.head()))
            });
        let ready = queue.alive().saturating_sub(in_flight + delayed);
        Some(QueueInfo {
            name: name.clone(),
            spec: queue.spec.clone(),
            effective: None,
            ready,
            held_back: queue.outlet.held_back(ready),
            in_flight,
            delayed,
            bytes: queue.outlet.bytes,
            consumers: queue.outlet.consumers.len() as u64,
            full: match queue.check_room(1, 1) {
                Err(Refusal::Full { limit, .. }) => Some(limit),
                _ => None,
            },
            oldest: oldest.min(),
            counters: queue.outlet.counters,
            owner: queue.owner,
            active: queue.outlet.policy.single_active.then(|| queue.outlet.consumers.active()).flatten(),
        })
    }

    /// A topic as it is now.
    pub fn topic(&self, name: &Name) -> Option<TopicInfo> {
        let Address::Topic(id) = self.addresses.get(name)? else { return None };
        let topic = self.topics.get(id)?;
        let partitions = topic.logs.iter();
        let partitions = partitions.map(|log| PartitionInfo {
            start_offset: log.base,
            end_offset: log.next,
            bytes: log.bytes(),
        });
        let readers = topic.readers.iter().flatten().filter_map(|(reader, _)| self.subscriptions.get(reader));
        let mut subscriptions: Vec<Name> =
            readers.map(|subscription| subscription.outlet.name.clone()).collect();
        subscriptions.sort_unstable();
        subscriptions.dedup();
        Some(TopicInfo {
            name: name.clone(),
            spec: topic.spec.clone(),
            effective: None,
            partitions: partitions.collect(),
            subscriptions,
            counters: topic.counters,
        })
    }

    /// A subscription as it is now.
    pub fn subscription(&self, name: &Name, now: Millis) -> Option<SubscriptionInfo> {
        let subscription = self.subscriptions.get(self.subscription_names.get(name)?)?;
        let (outlet, logs) = (&subscription.outlet, subscription.logs(&self.topics));
        let (in_flight, delayed) = (outlet.in_flight(), outlet.delayed.len() as u64);
        let mut sources = Vec::new();
        let mut oldest: Option<Millis> = None;
        for (number, cursor) in &outlet.cursors {
            let Some(log) = logs.log(*number) else { continue };
            let id = logs.id(*number);
            let Some(topic) = self.topics.get(&id.entity) else { continue };
            if cursor.alive(log.next) > 0 {
                oldest = oldest.into_iter().chain(log.timestamp(cursor.done.head())).min();
            }
            sources.push(SourceInfo {
                topic: topic.name.clone(),
                partition: id.log.into(),
                position: cursor.done.head(),
                end_offset: log.next,
            });
        }
        let lag = outlet.alive(&logs).saturating_sub(in_flight + delayed);
        Some(SubscriptionInfo {
            name: name.clone(),
            spec: subscription.spec.clone(),
            sources,
            lag,
            held_back: outlet.held_back(lag),
            lag_ms: oldest.map_or(0, |oldest| now.since(oldest)),
            in_flight,
            delayed,
            consumers: outlet.consumers.len() as u64,
            counters: outlet.counters,
        })
    }

    /// How long messages of a queue or subscription waited.
    pub fn waits(&self, kind: Kind, name: &Name) -> Option<Waits> {
        let id = self.find(kind, name)?;
        match kind {
            Kind::Queue => self.queues.get(&id).map(|queue| queue.outlet.waits),
            _ => self.subscriptions.get(&id).map(|subscription| subscription.outlet.waits),
        }
    }

    /// Names of a kind after `after`, in order, at most `max`.
    pub fn names(&self, kind: Kind, after: Option<&str>, max: usize) -> Vec<Name> {
        let addresses = self.addresses.iter().filter(|(_, address)| match address {
            Address::Queue(_) => kind == Kind::Queue,
            Address::Topic(_) => kind == Kind::Topic,
        });
        let subscriptions = self.subscription_names.keys().filter(|_| kind == Kind::Subscription);
        let routes = self.route_names.keys().filter(|_| kind == Kind::Route);
        let names = addresses.map(|(name, _)| name).chain(subscriptions).chain(routes);
        let mut names: Vec<&Name> =
            names.filter(|name| after.is_none_or(|after| name.as_str() > after)).collect();
        names.sort_unstable();
        names.truncate(max);
        names.into_iter().cloned().collect()
    }

    /// Messages of a queue or subscription that are not done: for checks and tests.
    pub fn alive(&self, kind: Kind, name: &Name) -> Option<u64> {
        let id = self.find(kind, name)?;
        match kind {
            Kind::Queue => self.queues.get(&id).map(|queue| queue.alive()),
            _ => self.subscriptions.get(&id).map(|it| it.outlet.alive(&it.logs(&self.topics))),
        }
    }

    /// Whether a message of a queue or subscription is done: for checks and tests.
    pub fn is_done(&self, kind: Kind, name: &Name, tag: Tag) -> Option<bool> {
        let id = self.find(kind, name)?;
        let outlet = match kind {
            Kind::Queue => &self.queues.get(&id)?.outlet,
            _ => &self.subscriptions.get(&id)?.outlet,
        };
        Some(outlet.cursors.get(&tag.log()).is_some_and(|cursor| cursor.done.contains(tag.offset().0)))
    }
}
