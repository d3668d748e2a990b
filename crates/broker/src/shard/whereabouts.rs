//! Where a stored message is now: in whose hands, at which place of the line, or gone; and what there is at all.

use waystation_base::{Attempt, ClientId, EntityId, Millis, Name, Offset, Tag};

use super::{
    Shard,
    cursor::{Cursor, Reason, is_delayed, priority, tag},
    log::Log,
    outlet::{Logs, Outlet},
};
use crate::{Kind, place::LogId};

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

    /// Where a stored message is now.
    pub fn whereabouts(&self, log: LogId, offset: Offset) -> Whereabout {
        if let Some(queue) = self.queues.get(&log.entity) {
            let stand = stand(&queue.outlet, log.log, offset.0, &queue.logs());
            return Whereabout { exists: true, kept: false, outlets: vec![of(&queue.outlet, stand)] };
        }
        let Some(topic) = self.topics.get(&log.entity) else { return Whereabout::default() };
        let kept =
            topic.logs.get(usize::from(log.log)).is_some_and(|it| (it.base..it.next).contains(&offset.0));
        let readers = topic.readers.get(usize::from(log.log)).into_iter().flatten();
        let outlets = readers.filter_map(|(id, number)| {
            let subscription = self.subscriptions.get(id)?;
            let logs = subscription.logs(&self.topics);
            let stand = match kept {
                true => stand(&subscription.outlet, *number, offset.0, &logs),
                false => Stand::Done,
            };
            Some(of(&subscription.outlet, stand))
        });
        Whereabout { exists: true, kept, outlets: outlets.collect() }
    }
}

fn of(outlet: &Outlet, stand: Stand) -> Whereabouts {
    let consumers = outlet.consumers.len() as u64;
    Whereabouts { outlet: outlet.id, kind: outlet.kind, name: outlet.name.clone(), stand, consumers }
}

fn stand(outlet: &Outlet, number: u16, offset: u64, logs: &dyn Logs) -> Stand {
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
    let tag = tag(number, offset);
    if is_delayed(number) || cursor.is_some_and(|cursor| cursor.aside.contains(&offset)) {
        // By a look at each: asked for by people, about few messages.
        let waiting = outlet.delayed.iter().find(|((_, waiting), _)| *waiting == tag);
        if let Some(((until, _), waiting)) = waiting {
            return Stand::Delayed { until: *until, attempt: waiting.attempt };
        }
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
    let returned = cursor.and_then(|cursor| cursor.returned_of(offset));
    let attempt = returned.map_or(Attempt(0), |returned| returned.attempt);
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
