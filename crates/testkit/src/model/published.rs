//! What publishes must have stored, and how each is to be answered.

use std::collections::{BTreeMap, VecDeque};

use waystation_base::{EntityId, Message, Millis, message::header::MESSAGE_ID, partitioner::partition};
use waystation_broker::{
    Refusal,
    command::{Publish, Target},
    effect::Published,
    entry::Entry,
    place::LogId,
};

use super::{
    Book, Ledger, Stored, Written,
    answer::{Answer, Coming, entry, is_publish, payload_messages},
    justify::as_stored,
    ledger::{DELAYED_LOGS, messages},
};

/// What was stored in each log, in order.
type Logs = BTreeMap<LogId, VecDeque<Stored>>;
type Recent = BTreeMap<EntityId, BTreeMap<String, Millis>>;

/// What came of one publish.
#[derive(Default)]
struct Sum {
    stored: u32,
    duplicates: u32,
    missing: u32,
    unrouted: u32,
}

impl Ledger {
    /// Each message is stored once in each of its places, as it was sent and in order, less the duplicates; what is refused is
    /// missing where there was no room.
    pub(super) fn check_published(
        &self,
        publishes: &[Publish],
        results: &[Result<Published, Refusal>],
        written: &[Written],
        now: Millis,
        book: &Book,
    ) {
        let mut logs = Logs::new();
        for one in written.iter().filter(|one| is_publish(one)) {
            let Entry::Publish(publish) = entry(one) else { continue };
            let stored = messages(&publish).into_iter().map(|(_, stored)| stored);
            logs.entry(publish.log).or_default().extend(stored);
        }
        let (mut recent, mut coming) = (Recent::new(), Coming::new());
        assert_eq!(publishes.len(), results.len(), "one answer for each publish");
        for (publish, result) in publishes.iter().zip(results) {
            let mut sum = Sum::default();
            for message in payload_messages(&publish.payload) {
                assert!(Book::number(&message).is_some_and(|number| (number as usize) < book.sent.len()));
                let places = self.destinations(&publish.to, &message).unwrap_or_default();
                sum.unrouted += u32::from(places.is_empty());
                for place in places {
                    self.check_stored_in(place, &message, publish, &mut sum, &mut logs, &mut recent, now);
                }
            }
            self.check_result(publish, result, &sum, &mut coming, now);
        }
        let left: Vec<_> = logs.into_iter().filter(|(_, stored)| !stored.is_empty()).collect();
        assert!(left.is_empty(), "more was stored than was sent: {left:?}");
    }

    fn check_stored_in(
        &self,
        place: EntityId,
        message: &Message,
        publish: &Publish,
        sum: &mut Sum,
        logs: &mut Logs,
        recent: &mut Recent,
        now: Millis,
    ) {
        let spec = self.outlets.get(&place).and_then(super::Outlet::queue);
        let expected = spec.map_or_else(|| message.clone(), |spec| as_stored(message.clone(), spec, now));
        let number = Book::number(message);
        let fixed = publish.partition.map(|partition| partition as u16);
        let log_of = self.log_of(place, message, now).filter(|_| !is_batch_of_topic(publish, spec.is_none()));
        let log = match (spec, fixed) {
            (None, Some(partition)) => Some(partition),
            _ => log_of,
        };
        let next = logs.iter_mut().find(|(id, stored)| {
            id.entity == place
                // A queue's tenants have the same lanes over again.
                && log.is_none_or(|log| id.log == log || spec.is_some() && id.log % (2 * DELAYED_LOGS) == log)
                && stored.front().is_some_and(|first| Some(first.number) == number)
        });
        let known = recent.entry(place).or_insert_with(|| {
            self.outlets.get(&place).map(|outlet| outlet.recent.clone()).unwrap_or_default()
        });
        let window = spec.and_then(|spec| spec.deduplication_ms);
        let id = message.headers.text(MESSAGE_ID).filter(|_| window.is_some());
        let seen = id.is_some_and(|id| known.get(id).is_some_and(|until| *until > now));
        match next {
            Some((_, stored)) => {
                assert!(!seen, "{message:?} was seen before and is stored again");
                let stored = stored.pop_front().expect("the first");
                assert_eq!(stored.message, expected, "it is stored as it was sent");
                sum.stored += 1;
                if let Some((id, window)) = id.zip(window) {
                    known.insert(id.to_owned(), now.plus(window));
                }
            }
            None if seen => sum.duplicates += 1,
            None => sum.missing += 1,
        }
    }

    fn check_result(
        &self,
        publish: &Publish,
        result: &Result<Published, Refusal>,
        sum: &Sum,
        coming: &mut Coming,
        now: Millis,
    ) {
        let before = coming.clone();
        let answer = self.has_room(publish, coming, now);
        let place = format!("{publish:?} at {now}, answered with {result:?}");
        match result {
            Ok(published) => {
                assert!(answer != Answer::No, "there was no room for {place}");
                assert_eq!((sum.missing, sum.duplicates), (0, published.duplicates), "{place}");
                if let Target::Route { .. } = publish.to {
                    assert_eq!((published.copies, published.unrouted), (sum.stored, sum.unrouted), "{place}");
                } else {
                    let count: u32 = published.stretches.iter().map(|(.., count)| count).sum();
                    // A batch of its own may have offsets that are not used.
                    let gaps = matches!(publish.payload, waystation_broker::command::Payload::Batch(_));
                    assert!(count == sum.stored || gaps && count > sum.stored, "{place}");
                }
            }
            Err(_) => {
                assert!(answer != Answer::Yes, "there was room for {place}");
                let nothing = sum.stored == 0 || matches!(publish.to, Target::Route { .. });
                assert!(nothing, "a refused publish is not stored: {place}");
                // What was stored of it all the same comes from now on; what was not does not.
                *coming = before;
                self.note_stored(publish, sum, coming, now);
            }
        }
    }

    /// Which of a publish's places took it, though it was refused, is not known here: what follows may go either way.
    fn note_stored(&self, publish: &Publish, sum: &Sum, coming: &mut Coming, _: Millis) {
        if sum.stored == 0 {
            return;
        }
        for message in payload_messages(&publish.payload) {
            for place in self.destinations(&publish.to, &message).unwrap_or_default() {
                coming.entry(place).or_default().unsure = true;
            }
        }
    }

    /// The log of a queue or, for a message with a key, of a topic.
    pub(super) fn log_of(&self, id: EntityId, message: &Message, now: Millis) -> Option<u16> {
        match self.topics.get(&id) {
            Some(topic) => message.key.as_deref().map(|key| partition(key, topic.logs.len() as u32) as u16),
            None => {
                let delayed = message.deliver_at.is_some_and(|at| at > now);
                let most = self.outlets[&id].queue().map_or(u8::MAX, |spec| spec.max_priority);
                Some(u16::from(message.priority.min(most)) + if delayed { DELAYED_LOGS } else { 0 })
            }
        }
    }
}

/// A batch goes to one partition of a topic, whatever its keys.
fn is_batch_of_topic(publish: &Publish, topic: bool) -> bool {
    let by_name = matches!(publish.to, Target::Address(_));
    topic && by_name && matches!(publish.payload, waystation_broker::command::Payload::Batch(_))
}
