//! How a command is to be answered, and what it must have stored.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use waystation_base::{
    Attempt, ConsumerId, EntityId, Message, Millis, Tag, batch, message::header::DEATH_REASON,
};
use waystation_broker::{
    Command, Effect, Refusal, Reply, Source,
    command::{Attach, Destination, Hold, Outcome, Payload, Publish, Settlement, Transaction},
    entry::Entry,
    place::Purpose,
};

use super::{Book, Cause, Consumer, Ledger, State, Written, ledger::messages};

/// Milliseconds for which a pull may outlive its time.
const PULL_GRACE_MS: u64 = 1_000;

/// What comes to each queue by the publishes of one command so far.
pub(super) type Coming = BTreeMap<EntityId, Come>;

/// See [`Coming`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Come {
    messages: u64,
    bytes: u64,
    /// Some of it may not have been stored.
    pub(super) unsure: bool,
}

/// What the ledger knows of a command's answer beforehand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
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
                let results: Vec<_> = published.iter().cloned().map(Ok).collect();
                self.check_published(&transaction.publishes, &results, written, now, book);
            }
            (Command::PublishEach(publishes), Some(Ok(Reply::PublishedEach(results)))) => {
                self.check_published(publishes, results, written, now, book);
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
            Command::Detach(consumer) | Command::Strand(consumer) | Command::Credit(consumer, _) => {
                Answer::of(self.consumers.contains_key(consumer))
            }
            Command::Purge(queue) => Answer::of(self.source(&Source::Queue(queue.clone())).is_some()),
            Command::Extend(extend) => {
                let held = |(tag, attempt): &(Tag, Attempt)| self.is_held(&extend.source, *tag, *attempt);
                Answer::of(self.source(&extend.source).is_some() && extend.held.iter().all(held))
            }
            Command::CloseSession(_) | Command::Loaded(_) | Command::Settled(_) => Answer::Yes,
            Command::Declare(_) | Command::Delete(_) | Command::Seek(_) => Answer::Either,
            Command::PublishEach(_) | Command::Document { .. } => Answer::Yes,
            Command::Bind(bind) | Command::Unbind(bind) => {
                let to = match &bind.to {
                    Destination::Address(name) => self.addresses.contains_key(name),
                    Destination::Route(name) => self.route_names.contains_key(name),
                };
                Answer::of(to && self.route_names.contains_key(&bind.route))
            }
            Command::Cancel(consumer) => Answer::of(self.consumers.contains_key(consumer)),
            Command::Pool(..) | Command::LimitVhost { .. } => Answer::Yes,
        }
    }

    fn is_held(&self, source: &Source, tag: Tag, attempt: Attempt) -> bool {
        let item = self.settles(source).and_then(|outlet| outlet.items.get(&tag));
        item.is_some_and(|item| item.is_held() && item.attempts == attempt.0)
    }

    fn is_waiting(&self, source: &Source, tag: Tag, attempt: Attempt) -> bool {
        let queue = self.settles(source).filter(|outlet| outlet.queue().is_some());
        let item = queue.and_then(|queue| queue.items.get(&tag));
        item.is_some_and(|item| !item.is_in_hands() && item.attempts == attempt.0)
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
            let is_so = |one: &Settlement| match one.outcome {
                Outcome::Withdrawn { .. } => self.is_waiting(&settle.source, one.tag, one.attempt),
                _ => self.is_held(&settle.source, one.tag, one.attempt),
            };
            self.source(&settle.source).is_some() && settle.settlements.iter().all(is_so)
        });
        let mut coming = Coming::new();
        let room = transaction
            .publishes
            .iter()
            .fold(Answer::Yes, |answer, publish| answer.and(self.has_room(publish, &mut coming, now)));
        Answer::of(held).and(room)
    }

    /// Whether a publish is taken everywhere.
    pub(super) fn has_room(&self, publish: &Publish, coming: &mut Coming, now: Millis) -> Answer {
        let mut each: BTreeMap<EntityId, Vec<Message>> = BTreeMap::new();
        for message in payload_messages(&publish.payload) {
            let Some(places) = self.destinations(&publish.to, &message) else { return Answer::No };
            places.into_iter().for_each(|place| each.entry(place).or_default().push(message.clone()));
        }
        each.into_iter().fold(Answer::Yes, |answer, (place, messages)| {
            answer.and(self.has_room_in(place, &messages, publish, coming.entry(place).or_default(), now))
        })
    }

    fn has_room_in(
        &self,
        id: EntityId,
        messages: &[Message],
        publish: &Publish,
        sum: &mut Come,
        now: Millis,
    ) -> Answer {
        if let Some(topic) = self.topics.get(&id) {
            let waits = messages.iter().any(|message| message.deliver_at.is_some_and(|at| at > now));
            let exists = publish.partition.is_none_or(|partition| (partition as usize) < topic.logs.len());
            return Answer::of(exists && !waits);
        }
        let outlet = &self.outlets[&id];
        let spec = outlet.queue().expect("an address is a queue or a topic");
        sum.messages += messages.len() as u64;
        sum.bytes += messages.iter().map(|message| message.body.len() as u64).sum::<u64>();
        if !spec.overflow.refuses() {
            return Answer::Yes;
        }
        let waiting = || outlet.items.values().filter(|item| !item.is_in_hands());
        let full = spec.max_messages.is_some_and(|max| waiting().count() as u64 + sum.messages > max);
        let bytes: u64 = waiting().map(|item| u64::from(item.stored.bytes)).sum();
        // Duplicates take no room of what comes later in the same command, if each publish is stored before the next is judged.
        let unsure = spec.deduplication_ms.is_some() && sum.messages > messages.len() as u64;
        let limited = spec.max_messages.is_some() || spec.max_bytes.is_some();
        match spec.max_bytes {
            _ if sum.unsure && limited => Answer::Either,
            _ if full && unsure => Answer::Either,
            _ if full => Answer::No,
            Some(max) if bytes + sum.bytes > max && !unsure => Answer::No,
            Some(max) if bytes + sum.bytes > max => Answer::Either,
            _ => Answer::Yes,
        }
    }

    /// A dead letter arrives as it left, in the same step: at its address, or everywhere that the route leads.
    fn check_moved(&self, purpose: Purpose, written: &[Written], now: Millis) {
        let publishes: Vec<_> = written.iter().filter(|one| is_publish(one)).collect();
        let Purpose::DeadLetter { entity: from, tag } = purpose else {
            assert!(publishes.is_empty(), "loading publishes nothing");
            return;
        };
        let mut arrived_in = BTreeSet::new();
        let mut reason = None;
        for one in publishes {
            let Entry::Publish(publish) = entry(one) else { continue };
            let arrived = messages(&publish);
            assert_eq!(arrived.len(), 1, "one message is moved");
            let message = &arrived[0].1.message;
            self.check_dead_letter(from, tag, message, publish.log.entity, now);
            reason = message.headers.text(DEATH_REASON).map(str::to_owned);
            assert!(arrived_in.insert(publish.log.entity), "each place has it once");
            let gone = written.iter().any(|one| matches!(entry(one), Entry::Done(id, ..) if id == from));
            assert!(gone, "it arrived in one step with leaving");
        }
        let duplicates = written.iter().filter(|one| matches!(entry(one), Entry::Count(..)));
        let duplicates: Vec<EntityId> = duplicates
            .map(|one| match entry(one) {
                Entry::Count(id, _) => id,
                _ => unreachable!("filtered"),
            })
            .collect();
        // It may be gone by now.
        let Some(outlet) = self.outlets.get(&from) else { return };
        if let Some(reason) = reason.filter(|_| outlet.buries_by_route()) {
            let reason = match reason.as_str() {
                "max_length" => "maxlen",
                "max_attempts" | "max_age" => "delivery_limit",
                other => other,
            };
            let mut expected = self.burial(outlet, &outlet.items[&tag].stored.message, reason);
            expected.retain(|id| !duplicates.contains(id));
            assert_eq!(arrived_in, expected, "where a dead letter of '{}' goes", outlet.name);
        }
    }

    fn note(&mut self, command: &Command, result: Option<&Result<Reply, Refusal>>) {
        if !matches!(result, Some(Ok(_))) {
            return;
        }
        match command {
            Command::Attach(attach) => self.attached(attach),
            Command::Detach(consumer) | Command::Strand(consumer) => {
                self.consumers.remove(consumer);
            }
            Command::Cancel(consumer) => assert!(!self.consumers.contains_key(consumer), "it has ended"),
            Command::Credit(consumer, credit) => {
                if let Some(consumer) = self.consumers.get_mut(consumer) {
                    consumer.window = *credit;
                }
            }
            Command::Pool(pool, Some(credit)) => _ = self.pools.insert(*pool, *credit),
            Command::Pool(pool, None) => _ = self.pools.remove(pool),
            Command::LimitVhost { limits, .. } => self.vhost = limits.clone(),
            Command::CloseSession(session) => {
                self.pools.retain(|pool, _| pool.session != *session);
                self.consumers.retain(|_, consumer| consumer.session != *session);
                self.retired.retain(|_, consumer| consumer.session != *session);
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
            pool: attach.pool.filter(|_| matches!(attach.hold, Hold::Attached | Hold::None)),
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

pub(super) fn is_publish(written: &Written) -> bool {
    written.kind == waystation_broker::entry::kind::PUBLISH
}

pub(super) fn entry(written: &Written) -> Entry<'_> {
    waystation_broker::entry::read(written.kind, &written.payload).expect("an entry")
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
