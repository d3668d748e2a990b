//! Where dead letters lie: which queues they go to, and what of a queue's messages is still there.

use std::collections::BTreeSet;

use waystation_base::{EntityId, Name, Offset};

use super::{
    Address, HashSet, Shard,
    cursor::{is_delayed, priority},
    log::Log,
    outlet::{DeadLetters, Logs, Outlet},
};
use crate::command::Destination;

/// One log of a queue: where it ends, and what in it is not done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The number of the log in tags.
    pub log: u16,
    /// The offset that the next message will have.
    pub next: Offset,
    /// First and last offset of each stretch that is not done, in order.
    pub live: Vec<(Offset, Offset)>,
}

impl Shard {
    /// Queues that dead letters go to as queues and subscriptions are declared now: by name, or by a route whatever its keys. One that
    /// they reach by the key of each message is not known beforehand.
    pub fn graves(&self) -> BTreeSet<Name> {
        let queues = self.queues.values().map(|queue| &queue.outlet);
        let outlets = queues.chain(self.subscriptions.values().map(|subscription| &subscription.outlet));
        let (mut graves, mut routes) = (BTreeSet::new(), HashSet::default());
        for target in outlets.filter_map(|outlet| outlet.policy.dead_letter.as_ref()) {
            match target {
                DeadLetters::Address(name) => self.add_grave(name, &mut graves),
                DeadLetters::ByKey(Some(key)) => {
                    if let Some((name, _)) = self.addresses.get_key_value(key.as_str()) {
                        self.add_grave(name, &mut graves);
                    }
                }
                DeadLetters::ByKey(None) => {}
                DeadLetters::Route(route, _) => {
                    if let Some(id) = self.route_names.get(route.as_str()) {
                        self.add_graves_of_route(*id, &mut routes, &mut graves);
                    }
                }
            }
        }
        graves
    }

    fn add_grave(&self, name: &Name, graves: &mut BTreeSet<Name>) {
        if matches!(self.addresses.get(name), Some(Address::Queue(_))) {
            graves.insert(name.clone());
        }
    }

    fn add_graves_of_route(&self, id: EntityId, seen: &mut HashSet<EntityId>, graves: &mut BTreeSet<Name>) {
        let mut next = vec![id];
        while let Some(id) = next.pop() {
            if !seen.insert(id) {
                continue;
            }
            let Some(route) = self.routes.get(&id) else { continue };
            for binding in self.bindings(&crate::view::BindingFilter::Of(route.name.clone())) {
                match &binding.to {
                    Destination::Address(name) => self.add_grave(name, graves),
                    Destination::Route(name) => next.extend(self.route_names.get(name.as_str())),
                }
            }
        }
    }

    /// What is in a queue's logs, in the order in which it is browsed. By the name of the topic by which dead letters come back to a
    /// subscription ([`Name::redriven`]): what that subscription has of it, in its own numbers.
    pub fn extents(&self, name: &Name) -> Option<Vec<Extent>> {
        if let Some(subscription) = name.redriven_to() {
            return self.extents_that_came_back(subscription);
        }
        let Some(Address::Queue(id)) = self.addresses.get(name) else { return None };
        let queue = self.queues.get(id)?;
        let extents = queue.logs.iter().map(|(number, log)| extent(&queue.outlet, number, log));
        let mut extents: Vec<Extent> = extents.collect();
        extents.sort_by_key(|extent| (std::cmp::Reverse(priority(extent.log)), is_delayed(extent.log)));
        Some(extents)
    }

    fn extents_that_came_back(&self, subscription: &str) -> Option<Vec<Extent>> {
        let subscription = self.subscriptions.get(self.subscription_names.get(subscription)?)?;
        let (outlet, logs) = (&subscription.outlet, subscription.logs(&self.topics));
        let numbers = outlet.cursors.keys().copied().filter(|number| logs.comes_back(*number));
        Some(numbers.filter_map(|number| Some(extent(outlet, number, logs.log(number)?))).collect())
    }
}

fn extent(outlet: &Outlet, number: u16, log: &Log) -> Extent {
    let last = log.next.saturating_sub(1);
    let live = match outlet.cursors.get(&number) {
        _ if log.next <= log.base => Vec::new(),
        Some(cursor) => cursor.done.live(log.base, last),
        None => vec![(log.base, last)],
    };
    let live = live.into_iter().map(|(first, last)| (Offset(first), Offset(last))).collect();
    Extent { log: number, next: Offset(log.next), live }
}
