//! When has a topic grown? One look at the topic for all its followers.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;
use waystation_base::Name;
use waystation_broker::view::PartitionInfo;

use crate::door::Door;

/// How often a followed topic is looked at.
const LOOK: Duration = Duration::from_millis(20);

/// The partitions of a topic, or `None` when it is gone.
pub(crate) type Seen = Option<Arc<[PartitionInfo]>>;

/// Topics that are followed, and who is to hear of each.
#[derive(Debug, Default)]
pub(crate) struct Tails(Mutex<HashMap<Name, watch::Sender<Seen>>>);

/// Hears of a topic's partitions from now on.
pub(crate) async fn watch(
    door: &Arc<Door>,
    topic: &Name,
) -> Result<watch::Receiver<Seen>, crate::failure::Failure> {
    if let Some(receiver) = door.tails.join(topic) {
        return Ok(receiver);
    }
    let partitions = door.broker.topic(topic.clone()).await?.partitions;
    let (receiver, is_first) = door.tails.open(topic, Some(partitions.into()));
    if is_first {
        tokio::spawn(look(door.clone(), topic.clone()));
    }
    Ok(receiver)
}

impl Tails {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Name, watch::Sender<Seen>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn join(&self, topic: &Name) -> Option<watch::Receiver<Seen>> {
        self.lock().get(topic).map(watch::Sender::subscribe)
    }

    fn open(&self, topic: &Name, seen: Seen) -> (watch::Receiver<Seen>, bool) {
        let mut topics = self.lock();
        let is_first = !topics.contains_key(topic);
        let sender = topics.entry(topic.clone()).or_insert_with(|| watch::Sender::new(seen));
        (sender.subscribe(), is_first)
    }

    /// Ends a topic that nobody follows, or that is gone; whether it has ended.
    fn end_if_over(&self, topic: &Name) -> bool {
        let mut topics = self.lock();
        let is_over = topics.get(topic).is_none_or(|sender| sender.is_closed() || sender.borrow().is_none());
        if is_over {
            topics.remove(topic);
        }
        is_over
    }

    fn tell(&self, topic: &Name, seen: Seen) {
        if let Some(sender) = self.lock().get(topic) {
            sender.send_if_modified(|before| {
                let is_new = *before != seen;
                *before = seen;
                is_new
            });
        }
    }
}

async fn look(door: Arc<Door>, topic: Name) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !door.tails.end_if_over(&topic) {
        ticks.tick().await;
        let info = door.broker.topic(topic.clone()).await.ok();
        door.tails.tell(&topic, info.map(|info| info.partitions.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn followers_share_one_look_and_the_last_one_ends_it() {
        let (tails, topic) = (Tails::default(), Name::new("t").expect("a name"));
        let (first, is_first) = tails.open(&topic, Some([].into()));
        assert!(is_first);
        let (second, is_first) = tails.open(&topic, Some([].into()));
        assert!(!is_first && !tails.end_if_over(&topic));
        tails.tell(&topic, Some([PartitionInfo { start_offset: 0, end_offset: 1, bytes: 9 }].into()));
        assert!(first.has_changed().expect("open"));
        drop((first, second));
        assert!(tails.end_if_over(&topic));
        assert!(tails.join(&topic).is_none());
    }

    #[test]
    fn a_topic_that_is_gone_ends_the_look() {
        let (tails, topic) = (Tails::default(), Name::new("t").expect("a name"));
        let (receiver, _) = tails.open(&topic, Some([].into()));
        tails.tell(&topic, None);
        assert!(receiver.borrow().is_none() && tails.end_if_over(&topic));
    }
}
