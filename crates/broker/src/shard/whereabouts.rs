//! Where a stored message is now: in whose hands, at which place of the line, or gone; and what there is at all.

use waystation_base::{Attempt, ClientId, EntityId, Millis, Name, Offset, Tag};

use super::{
    HashMap, HashSet, Shard,
    cursor::{Cursor, Reason, is_delayed, priority, tag},
    log::Log,
    outlet::{Logs, Outlet},
};
use crate::{Kind, place::LogId, spec::BusinessKeys, view::HeldBack};

/// What becomes of a message next, in a queue or for a subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stand {
    /// It waits for a consumer.
    Ready {
        /// About how many messages go before it.
        ahead: u64,
        /// How often it has been handed out.
        attempt: Attempt,
    },
    /// It waits until the one before it with the same key is done.
    BehindKey {
        /// The message that has the key.
        holder: Tag,
    },
    /// Somebody holds it.
    Held {
        /// How often it has been handed out.
        attempt: Attempt,
        /// Who, if that is an attached consumer that is known.
        client: Option<ClientId>,
        /// Until when, if under a lease.
        until: Option<Millis>,
    },
    /// It waits for its time.
    Delayed {
        /// Which comes then.
        until: Millis,
        /// How often it has been handed out.
        attempt: Attempt,
    },
    /// It is on its way to the dead letters.
    Dying {
        /// Why.
        reason: Reason,
    },
    /// It is done here, or was passed over.
    Done,
}

/// Where a message is for one queue or subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whereabouts {
    /// The queue or subscription.
    pub outlet: EntityId,
    /// Which of the two.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// What comes next.
    pub stand: Stand,
    /// Attached consumers and waiting pulls.
    pub consumers: u64,
    /// What keeps it from being handed out, if it stands ready.
    pub held_back: Vec<HeldBack>,
}

/// Where a message is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whereabout {
    /// The queue or topic is there, and not another one of the same name.
    pub exists: bool,
    /// A topic still keeps it.
    pub kept: bool,
    /// In the queue, or for each subscription that reads the topic.
    pub outlets: Vec<Whereabouts>,
}

/// Queues, topics, subscriptions and routes with their kinds and names.
pub type Entities = Vec<(EntityId, Kind, Name)>;
/// Which source of which subscription is which log.
pub type Sources = Vec<((EntityId, u16), LogId)>;

impl Shard {
    /// What there is, and what subscriptions read.
    pub fn inventory(&self) -> (Entities, Sources) {
        let queues = self.queues.iter().map(|(id, queue)| (*id, Kind::Queue, queue.outlet.name.clone()));
        let topics = self.topics.iter().map(|(id, topic)| (*id, Kind::Topic, topic.name.clone()));
        let subscriptions = self.subscriptions.iter();
        let subscriptions = subscriptions.map(|(id, it)| (*id, Kind::Subscription, it.outlet.name.clone()));
        let routes = self.route_names.iter().map(|(name, id)| (*id, Kind::Route, name.clone()));
        let sources = self.subscriptions.iter().flat_map(|(id, subscription)| {
            let numbered = (0..).zip(&subscription.sources);
            numbered.filter_map(move |(number, log)| Some(((*id, number), (*log)?)))
        });
        (queues.chain(topics).chain(subscriptions).chain(routes).collect(), sources.collect())
    }

    /// The business keys that queues, topics and routes declare.
    pub fn business_keys(&self) -> Vec<(EntityId, BusinessKeys)> {
        let queues = self.queues.iter().map(|(id, queue)| (*id, queue.spec.business.as_deref()));
        let topics = self.topics.iter().map(|(id, topic)| (*id, topic.spec.business.as_deref()));
        let routes = self.routes.iter().map(|(id, route)| (*id, route.spec.business.as_deref()));
        queues.chain(topics).chain(routes).filter_map(|(id, keys)| Some((id, keys?.clone()))).collect()
    }

    /// Where stored messages are now, in the order of the question. What an outlet has put off is looked through once for all of them.
    pub fn whereabouts(&self, places: &[(LogId, Offset)]) -> Vec<Whereabout> {
        let mut wanted: HashMap<EntityId, HashSet<Tag>> = HashMap::default();
        for (log, offset) in places {
            for (outlet, number) in self.readers(*log) {
                wanted.entry(outlet.id).or_default().insert(tag(number, offset.0));
            }
        }
        let mut put_off: HashMap<EntityId, PutOff> = HashMap::default();
        for (outlet, _) in places.iter().flat_map(|(log, _)| self.readers(*log)) {
            if let Some(wanted) = wanted.remove(&outlet.id) {
                put_off.insert(outlet.id, PutOff::of(outlet, wanted));
            }
        }
        places.iter().map(|(log, offset)| self.whereabout(*log, *offset, &put_off)).collect()
    }

    /// The outlets that a log's messages go to, and its number there.
    fn readers(&self, log: LogId) -> impl Iterator<Item = (&Outlet, u16)> {
        let queue = self.queues.get(&log.entity).map(|queue| (&queue.outlet, log.log));
        let topic = self.topics.get(&log.entity);
        let readers = topic.and_then(|topic| topic.readers.get(usize::from(log.log))).into_iter().flatten();
        let subscriptions =
            readers.filter_map(|(id, number)| Some((&self.subscriptions.get(id)?.outlet, *number)));
        queue.into_iter().chain(subscriptions)
    }

    fn whereabout(&self, log: LogId, offset: Offset, put_off: &HashMap<EntityId, PutOff>) -> Whereabout {
        let nothing = PutOff::default();
        let of_outlet = |outlet: &Outlet| put_off.get(&outlet.id).unwrap_or(&nothing);
        if let Some(queue) = self.queues.get(&log.entity) {
            let outlet = &queue.outlet;
            let stand = stand(outlet, log.log, offset.0, &queue.logs(), of_outlet(outlet));
            return Whereabout { exists: true, kept: false, outlets: vec![of(outlet, stand)] };
        }
        let Some(topic) = self.topics.get(&log.entity) else { return Whereabout::default() };
        let kept =
            topic.logs.get(usize::from(log.log)).is_some_and(|it| (it.base..it.next).contains(&offset.0));
        let readers = topic.readers.get(usize::from(log.log)).into_iter().flatten();
        let outlets = readers.filter_map(|(id, number)| {
            let subscription = self.subscriptions.get(id)?;
            let outlet = &subscription.outlet;
            let logs = subscription.logs(&self.topics);
            let stand = match kept {
                true => stand(outlet, *number, offset.0, &logs, of_outlet(outlet)),
                false => Stand::Done,
            };
            Some(of(outlet, stand))
        });
        Whereabout { exists: true, kept, outlets: outlets.collect() }
    }
}

/// Of the messages that are asked for, those of one outlet that wait for their time, and those in tenants' lines that were handed out.
#[derive(Default)]
struct PutOff {
    delayed: HashMap<Tag, (Millis, Attempt)>,
    tried: HashMap<Tag, Attempt>,
}

impl PutOff {
    fn of(outlet: &Outlet, mut wanted: HashSet<Tag>) -> PutOff {
        let tried = outlet.tried_in_lines(&wanted);
        wanted.retain(|tag| is_put_off(outlet, tag.log(), tag.offset().0));
        let count = wanted.len();
        let found = outlet.delayed.iter().filter(|((_, tag), _)| wanted.contains(tag));
        let found = found.map(|((until, tag), waiting)| (*tag, (*until, waiting.attempt)));
        PutOff { delayed: found.take(count).collect(), tried }
    }
}

/// Whether it may wait for its time: it is neither done nor held, and was given one.
fn is_put_off(outlet: &Outlet, number: u16, offset: u64) -> bool {
    let cursor = outlet.cursors.get(&number);
    let is_over = cursor.is_some_and(|it| it.done.contains(offset) || it.flying.contains_key(&offset));
    !is_over && (is_delayed(number) || cursor.is_some_and(|it| it.aside.contains(&offset)))
}

fn of(outlet: &Outlet, stand: Stand) -> Whereabouts {
    let consumers = outlet.consumers.len() as u64;
    let held_back = outlet.held_back(matches!(stand, Stand::Ready { .. }).into());
    Whereabouts {
        outlet: outlet.id,
        kind: outlet.kind,
        name: outlet.name.clone(),
        stand,
        consumers,
        held_back,
    }
}

fn stand(outlet: &Outlet, number: u16, offset: u64, logs: &dyn Logs, put_off: &PutOff) -> Stand {
    let Some(log) = logs.log(number) else { return Stand::Done };
    let cursor = outlet.cursors.get(&number).map(|cursor| &**cursor);
    if offset >= log.next || cursor.is_some_and(|cursor| cursor.done.contains(offset)) {
        return Stand::Done;
    }
    if let Some(flight) = cursor.and_then(|cursor| cursor.flying.get(&offset)) {
        let client = flight.consumer.and_then(|id| outlet.consumers.client_of(id)).filter(|it| it.0 != 0);
        let until = (flight.held_until != Millis::NEVER).then_some(flight.held_until);
        return match &flight.dying {
            Some(dying) => Stand::Dying { reason: dying.reason },
            None => Stand::Held { attempt: flight.attempt, client, until },
        };
    }
    if let Some((until, attempt)) = put_off.delayed.get(&tag(number, offset)) {
        return Stand::Delayed { until: *until, attempt: *attempt };
    }
    if outlet.parked > 0 {
        let behind = |key: &&super::keys::Key| {
            key.parked
                .values()
                .any(|(meta, _)| meta.log.log == log_of(logs, number) && meta.offset.0 == offset)
        };
        if let Some(key) = outlet.keys.values().find(behind) {
            return Stand::BehindKey { holder: key.holder };
        }
    }
    if let Some(holder) = cursor.and_then(|cursor| cursor.parked_behind(offset)) {
        return Stand::BehindKey { holder: tag(number, holder) };
    }
    let returned = cursor.and_then(|cursor| cursor.returned_of(offset));
    let attempt = match returned {
        Some(returned) => returned.attempt,
        None => put_off.tried.get(&tag(number, offset)).copied().unwrap_or_default(),
    };
    Stand::Ready { ahead: ahead(outlet, number, offset, logs), attempt }
}

fn log_of(logs: &dyn Logs, number: u16) -> u16 {
    logs.id(number).log
}

/// About how many messages are handed out before one that is ready.
fn ahead(outlet: &Outlet, number: u16, offset: u64, logs: &dyn Logs) -> u64 {
    let lane = priority(number);
    let others =
        outlet.cursors.iter().filter(|(other, _)| outlet.kind == Kind::Queue && priority(**other) > lane);
    let higher =
        others.filter_map(|(other, cursor)| Some(ready_below(Some(cursor), logs.log(*other)?, u64::MAX)));
    let higher: u64 = higher.sum();
    let Some(log) = logs.log(number) else { return higher };
    let cursor = outlet.cursors.get(&number).map(|cursor| &**cursor);
    if is_delayed(number) || cursor.is_some_and(|cursor| cursor.returned_of(offset).is_some()) {
        // What came back goes first, those of the same rank by their offsets.
        let before = cursor.map_or(0, |cursor| {
            let own = (cursor.rank(offset), offset);
            cursor.returned.range(..own).count() as u64
        });
        return higher + before;
    }
    let returned = cursor.map_or(0, |cursor| cursor.returned.range((0, offset)..).count() as u64);
    higher + returned + ready_below(cursor, log, offset)
}

/// Messages of a log below `offset` that are neither done, nor held, nor waiting for their time.
fn ready_below(cursor: Option<&Cursor>, log: &Log, offset: u64) -> u64 {
    let end = offset.min(log.next);
    let Some(cursor) = cursor else { return end.saturating_sub(log.base) };
    let first = cursor.done.head().max(log.base);
    if first >= end {
        return 0;
    }
    let alive: u64 = cursor.done.live(first, end - 1).iter().map(|(a, b)| b - a + 1).sum();
    let flying = cursor.flying.keys().filter(|offset| **offset < end).count() as u64;
    let aside = cursor.aside.iter().filter(|offset| **offset < end).count() as u64;
    alive.saturating_sub(flying + aside)
}
