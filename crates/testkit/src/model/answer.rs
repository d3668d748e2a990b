//! How a command is to be answered, and what it must have stored.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;
use waystation_base::{
    Attempt, ConsumerId, EntityId, Message, Millis, Tag, batch, message::header::MESSAGE_ID,
    partitioner::partition,
};
use waystation_broker::{
    Command, Effect, Refusal, Reply, Source,
    command::{Attach, Payload, Publish, Target, Transaction},
    effect::Published,
    entry::Entry,
    place::Purpose,
};

use super::{
    Book, Cause, Consumer, Ledger, State, Written,
    justify::as_stored,
    ledger::{DELAYED_LOGS, messages},
};

/// Milliseconds for which a pull may outlive its time.
const PULL_GRACE_MS: u64 = 1_000;

/// What the ledger knows of a command's answer beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    Yes,
    No,
    Either,
}

impl Answer {
    fn of(yes: bool) -> Answer {
        if yes { Answer::Yes } else { Answer::No }
    }

    fn and(self, other: Answer) -> Answer {
        match (self, other) {
            (Answer::No, _) | (_, Answer::No) => Answer::No,
            (Answer::Yes, Answer::Yes) => Answer::Yes,
            _ => Answer::Either,
        }
    }
}

impl Ledger {
    /// Asserts that a command was carried out as it should, and applies what it wrote.
    pub fn carried_out(
        &mut self,
        command: &Command,
        written: &[Written],
        effects: &[Effect],
        now: Millis,
        book: &Book,
    ) {
        let expected = self.expected(command, now);
        let result = effects.iter().find_map(|effect| match effect {
            Effect::Reply { result, .. } => Some(result),
            _ => None,
        });
        if let Some(result) = result {
            let good = match expected {
                Answer::Yes => result.is_ok(),
                Answer::No => result.is_err(),
                Answer::Either => true,
            };
            assert!(good, "{command:?} at {now} was answered with {result:?}");
            assert!(result.is_ok() || written.is_empty(), "a refused {command:?} wrote {written:?}");
        }
        match (command, result) {
            (Command::Transact(transaction), Some(Ok(Reply::Committed(published)))) => {
                self.check_stored(transaction, published, written, now, book);
            }
            (Command::Loaded(loaded), _) => self.check_moved(loaded.purpose, written, now),
            _ => assert!(!written.iter().any(is_publish), "only a transaction publishes, not {command:?}"),
        }
        for one in written {
            self.enter(one, Cause::Command(command), book);
        }
        self.condemn(effects);
        self.close(effects);
        self.note(command, result);
    }

    fn expected(&self, command: &Command, now: Millis) -> Answer {
        match command {
            Command::Transact(transaction) => self.expected_of(transaction, now),
            Command::Attach(attach) => self.may_attach(attach),
            Command::Detach(consumer) | Command::Credit(consumer, _) => {
                Answer::of(self.consumers.contains_key(consumer))
            }
            Command::Purge(queue) => Answer::of(self.source(&Source::Queue(queue.clone())).is_some()),
            Command::Extend(extend) => {
                let held = |(tag, attempt): &(Tag, Attempt)| self.is_held(&extend.source, *tag, *attempt);
                Answer::of(self.source(&extend.source).is_some() && extend.held.iter().all(held))
            }
            Command::CloseSession(_) | Command::Loaded(_) | Command::Settled(_) => Answer::Yes,
            Command::Declare(_) | Command::Delete(_) | Command::Seek(_) => Answer::Either,
            // These are not among what the simulated clients do.
            Command::PublishEach(_) | Command::Bind(_) | Command::Unbind(_) => Answer::Either,
            Command::Document { .. } | Command::Cancel(_) => Answer::Either,
        }
    }

    fn is_held(&self, source: &Source, tag: Tag, attempt: Attempt) -> bool {
        let item = self.settles(source).and_then(|outlet| outlet.items.get(&tag));
        item.is_some_and(|item| item.is_held() && item.attempts == attempt.0)
    }

    fn may_attach(&self, attach: &Attach) -> Answer {
        let Some(id) = self.source(&attach.source) else { return Answer::No };
        let others: Vec<&Consumer> = self.consumers.values().filter(|other| other.entity == id).collect();
        let owned = self.owners.get(&id).is_none_or(|owner| *owner == attach.session);
        let free = others.iter().all(|other| !other.exclusive) && (!attach.exclusive || others.is_empty());
        Answer::of(owned && free)
    }

    fn expected_of(&self, transaction: &Transaction, now: Millis) -> Answer {
        let held = transaction.settlements.iter().all(|settle| {
            self.source(&settle.source).is_some()
                && settle.settlements.iter().all(|one| self.is_held(&settle.source, one.tag, one.attempt))
        });
        let mut coming: BTreeMap<EntityId, (u64, u64)> = BTreeMap::new();
        let room = transaction
            .publishes
            .iter()
            .fold(Answer::Yes, |answer, publish| answer.and(self.has_room(publish, &mut coming, now)));
        Answer::of(held).and(room)
    }

    fn has_room(&self, publish: &Publish, coming: &mut BTreeMap<EntityId, (u64, u64)>, _: Millis) -> Answer {
        let Some(id) = self.addresses.get(address_of(publish)) else { return Answer::No };
        if let Some(topic) = self.topics.get(id) {
            return Answer::of(
                publish.partition.is_none_or(|partition| (partition as usize) < topic.logs.len()),
            );
        }
        let outlet = &self.outlets[id];
        let spec = outlet.queue().expect("an address is a queue or a topic");
        let messages = payload_messages(&publish.payload);
        let sum = coming.entry(*id).or_default();
        sum.0 += messages.len() as u64;
        sum.1 += messages.iter().map(|message| message.size() as u64).sum::<u64>();
        if !spec.overflow.refuses() {
            return Answer::Yes;
        }
        let waiting = || outlet.items.values().filter(|item| !item.is_in_hands());
        let full = spec.max_messages.is_some_and(|max| waiting().count() as u64 + sum.0 > max);
        let bytes: u64 = waiting().map(|item| u64::from(item.stored.bytes)).sum();
        match spec.max_bytes {
            _ if full => Answer::No,
            Some(max) if bytes + sum.1 > max => Answer::No,
            // Between what a message has and what a record takes at most the shard may go either way.
            Some(max) if bytes + sum.1 + 128 * sum.0 > max => Answer::Either,
            _ => Answer::Yes,
        }
    }

    /// What a transaction stored is what its client made, in order, less the duplicates.
    fn check_stored(
        &self,
        transaction: &Transaction,
        published: &[Published],
        written: &[Written],
        now: Millis,
        book: &Book,
    ) {
        let entries: Vec<Entry<'_>> = written.iter().filter(|one| is_publish(one)).map(entry).collect();
        let mut entries: VecDeque<_> = entries.into();
        let mut recent: BTreeMap<EntityId, BTreeMap<String, Millis>> = BTreeMap::new();
        assert_eq!(published.len(), transaction.publishes.len(), "one answer for each publish");
        for (publish, published) in transaction.publishes.iter().zip(published) {
            let id = self.addresses[address_of(publish)];
            let mut sent = payload_messages(&publish.payload);
            if let Some(spec) = self.outlets.get(&id).and_then(super::Outlet::queue) {
                let recent = recent.entry(id).or_insert_with(|| self.outlets[&id].recent.clone());
                let before = sent.len();
                if let Some(window) = spec.deduplication_ms {
                    sent.retain(|message| is_new(message, recent, now, window));
                }
                assert_eq!(
                    published.duplicates as usize,
                    before - sent.len(),
                    "duplicates at {now}: {recent:?}"
                );
                sent = sent.into_iter().map(|message| as_stored(message, spec, now)).collect();
            }
            for (log, first, count) in &published.stretches {
                let Some(Entry::Publish(entry)) = entries.pop_front() else { panic!("nothing was stored") };
                assert_eq!((entry.log.entity, entry.log.log), (id, *log));
                let stored = messages(&entry);
                let header = batch::Header::read(entry.batch).expect("a batch");
                assert_eq!((header.base_offset, header.last_offset_delta + 1), (*first, *count));
                for (_, stored) in stored {
                    let at = sent.iter().position(|message| Book::number(message) == Some(stored.number));
                    let at = at.unwrap_or_else(|| panic!("{stored:?} was not sent, or twice"));
                    let message = sent.remove(at);
                    assert_eq!(stored.message, message, "it is stored as it was sent");
                    self.check_log(id, *log, &message, publish, now);
                    let earlier = sent[..at]
                        .iter()
                        .find(|other| self.log_of(id, other, now) == self.log_of(id, &message, now));
                    let keyless = self.topics.contains_key(&id) && message.key.is_none();
                    assert!(earlier.is_none() || keyless, "{earlier:?} was sent before {message:?}");
                    assert!((stored.number as usize) < book.sent.len());
                }
            }
            assert!(sent.is_empty(), "these were not stored: {sent:?}");
        }
        assert!(entries.is_empty(), "more was stored than was sent");
    }

    /// The log of a queue or, for a message with a key, of a topic.
    fn log_of(&self, id: EntityId, message: &Message, now: Millis) -> Option<u16> {
        match self.topics.get(&id) {
            Some(topic) => message.key.as_deref().map(|key| partition(key, topic.logs.len() as u32) as u16),
            None => {
                let delayed = message.deliver_at.is_some_and(|at| at > now);
                Some(u16::from(message.priority) + if delayed { DELAYED_LOGS } else { 0 })
            }
        }
    }

    fn check_log(&self, id: EntityId, log: u16, message: &Message, publish: &Publish, now: Millis) {
        if let Some(partition) = publish.partition.filter(|_| self.topics.contains_key(&id)) {
            assert_eq!(u32::from(log), partition);
        } else if matches!(publish.payload, Payload::Messages(_))
            && let Some(expected) = self.log_of(id, message, now)
        {
            assert_eq!(log, expected, "the log of {message:?}");
        }
    }

    /// A dead letter arrives as it left, in the same step.
    fn check_moved(&self, purpose: Purpose, written: &[Written], now: Millis) {
        let publishes: Vec<_> = written.iter().filter(|one| is_publish(one)).collect();
        let Purpose::DeadLetter { entity: from, tag } = purpose else {
            assert!(publishes.is_empty(), "loading publishes nothing");
            return;
        };
        for one in publishes {
            let Entry::Publish(publish) = entry(one) else { continue };
            let arrived = messages(&publish);
            assert_eq!(arrived.len(), 1, "one message is moved");
            self.check_dead_letter(from, tag, &arrived[0].1.message, publish.log.entity, now);
            let gone = written.iter().any(|one| matches!(entry(one), Entry::Done(id, ..) if id == from));
            assert!(gone, "it arrived in one step with leaving");
        }
    }

    fn note(&mut self, command: &Command, result: Option<&Result<Reply, Refusal>>) {
        if !matches!(result, Some(Ok(_))) {
            return;
        }
        match command {
            Command::Attach(attach) => self.attached(attach),
            Command::Detach(consumer) => {
                self.consumers.remove(consumer);
            }
            Command::Credit(consumer, credit) => {
                if let Some(consumer) = self.consumers.get_mut(consumer) {
                    consumer.window = *credit;
                }
            }
            Command::CloseSession(session) => {
                self.consumers.retain(|_, consumer| consumer.session != *session)
            }
            Command::Declare(declare) => {
                if let Some(id) = self.addresses.get(&declare.name)
                    && self.outlets.get(id).and_then(super::Outlet::queue).is_some_and(|spec| spec.exclusive)
                {
                    self.owners.entry(*id).or_insert(declare.session);
                }
            }
            _ => {}
        }
    }

    fn attached(&mut self, attach: &Attach) {
        self.consumer_order += 1;
        let consumer = Consumer {
            entity: self.source(&attach.source).expect("it was attached to"),
            source: attach.source.clone(),
            window: attach.credit,
            hold: attach.hold,
            priority: attach.priority,
            session: attach.session,
            exclusive: attach.exclusive,
            held: Default::default(),
            order: self.consumer_order,
        };
        self.consumers.insert(attach.consumer, consumer);
    }

    /// What the time has brought: nothing that is over goes on.
    pub fn check_time(&self, now: Millis) {
        for (id, consumer) in &self.consumers {
            if let waystation_broker::command::Hold::Pull { until, .. } = consumer.hold {
                // It may wait a little longer for what is being read.
                assert!(
                    until.plus(PULL_GRACE_MS) > now,
                    "pull {id:?} of {consumer:?} should have ended at {until}, it is {now}"
                );
            }
        }
        for outlet in self.outlets.values() {
            for (tag, item) in &outlet.items {
                if let State::Held { until, .. } = item.state {
                    assert!(
                        until > now,
                        "the lease of {tag:?} of '{}' is over at {now}: {item:?}",
                        outlet.name
                    );
                }
            }
        }
    }

    /// Whether anybody with that id consumes.
    pub fn is_attached(&self, consumer: ConsumerId) -> bool {
        self.consumers.contains_key(&consumer)
    }
}

/// The queue or topic that a publish names.
fn address_of(publish: &Publish) -> &waystation_base::Name {
    match &publish.to {
        Target::Address(name) | Target::Route { route: name, .. } => name,
    }
}

fn is_publish(written: &Written) -> bool {
    written.kind == waystation_broker::entry::kind::PUBLISH
}

fn entry(written: &Written) -> Entry<'_> {
    waystation_broker::entry::read(written.kind, &written.payload).expect("an entry")
}

fn is_new(message: &Message, recent: &mut BTreeMap<String, Millis>, now: Millis, window: u64) -> bool {
    let Some(id) = message.headers.text(MESSAGE_ID) else { return true };
    if recent.get(id).is_some_and(|until| *until > now) {
        return false;
    }
    recent.insert(id.to_owned(), now.plus(window));
    true
}

/// The messages of a payload, one by one.
pub fn payload_messages(payload: &Payload) -> Vec<Message> {
    match payload {
        Payload::One(message) => vec![message.clone()],
        Payload::Messages(messages) => messages.clone(),
        Payload::Batch(bytes) => batch_messages(bytes),
    }
}

fn batch_messages(bytes: &Bytes) -> Vec<Message> {
    let records = batch::records(bytes).expect("a batch");
    records.map(|record| record.expect("a record").message(bytes).expect("a message")).collect()
}
