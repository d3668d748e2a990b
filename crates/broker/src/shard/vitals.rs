//! How are all queues and subscriptions? The few figures by which one sees at a glance whether something is wrong.

use waystation_base::{Millis, Name};

use super::{Shard, cursor::is_delayed, outlet::Logs};
use crate::Kind;

/// One queue or subscription.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vital {
    /// Which of the two.
    pub kind: Kind,
    /// Its name.
    pub name: Name,
    /// Messages that wait for a consumer, without those that wait for their time.
    pub waiting: u64,
    /// Attached consumers and waiting pulls.
    pub consumers: u64,
    /// When the oldest message that is not done was published.
    pub oldest: Option<Millis>,
    /// Messages stored since it was declared; of a subscription none.
    pub arrived: u64,
    /// Messages handed out since then.
    pub delivered: u64,
    /// Dead letters go there.
    pub is_grave: bool,
}

impl Shard {
    /// All of them but Waystation's own, by name.
    pub fn vitals(&self) -> Vec<Vital> {
        let graves = self.graves();
        let queues = self.queues.values().map(|queue| {
            let logs = queue.logs.iter().filter(|(number, _)| !is_delayed(*number));
            let oldest = logs.filter_map(|(number, log)| {
                log.timestamp(queue.outlet.cursors.get(&number).map_or(log.base, |cursor| cursor.done.head()))
            });
            let outlet = &queue.outlet;
            let busy = outlet.in_flight() + outlet.delayed.len() as u64;
            Vital {
                kind: Kind::Queue,
                name: outlet.name.clone(),
                waiting: queue.alive().saturating_sub(busy),
                consumers: outlet.consumers.len() as u64,
                oldest: oldest.min(),
                arrived: outlet.counters.published,
                delivered: outlet.counters.delivered,
                is_grave: graves.contains(&outlet.name),
            }
        });
        let subscriptions = self.subscriptions.values().map(|subscription| {
            let (outlet, logs) = (&subscription.outlet, subscription.logs(&self.topics));
            let behind = outlet.cursors.iter().filter_map(|(number, cursor)| {
                let log = logs.log(*number)?;
                (cursor.alive(log.next) > 0).then(|| log.timestamp(cursor.done.head())).flatten()
            });
            let busy = outlet.in_flight() + outlet.delayed.len() as u64;
            Vital {
                kind: Kind::Subscription,
                name: outlet.name.clone(),
                waiting: outlet.alive(&logs).saturating_sub(busy),
                consumers: outlet.consumers.len() as u64,
                oldest: behind.min(),
                arrived: 0,
                delivered: outlet.counters.delivered,
                is_grave: false,
            }
        });
        let mut vitals: Vec<Vital> =
            queues.chain(subscriptions).filter(|vital| !vital.name.is_reserved()).collect();
        vitals.sort_unstable_by(|a, b| (&a.name, a.kind).cmp(&(&b.name, b.kind)));
        vitals
    }
}
