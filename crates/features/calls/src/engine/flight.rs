//! How does a change become durable? The record is read, the next one written with what belongs to it, in one transaction.

use bytes::Bytes;
use waystation_base::{Message, MessageId, Millis, Name, Offset, Tag};
use waystation_broker::{
    Refusal, Source,
    command::{Outcome, Payload, Publish, Settle, Settlement, Transaction},
    effect::Published,
};
use waystation_host::{Broker, Browse, Delivery, Target};

use super::start::Begun;
use crate::{
    CallId, Change, Changed, Error, Held, Key, Operation, Record, Started, State,
    ask::Answering,
    names::{self, own},
    outcome,
    record::{self, key_of},
    reply_to, request,
    step::{Step, step},
};

/// What came of a flight.
pub(crate) enum Landed {
    /// A new call.
    Started { key: Option<Key>, result: Result<Begun, Error>, reply: Answering<Started> },
    /// A step of a call; no record: it is forgotten.
    Changed {
        id: CallId,
        result: Result<After, Error>,
        change: Box<Change>,
        reply: Option<Answering<Changed>>,
    },
    /// A message that has become a call, or has not.
    Admitted(Option<Begun>),
    /// Pages of the index, or a mark.
    Paged(Result<(), Refusal>),
    /// Something about no call in particular.
    Aside,
}

/// A call after a step.
pub(crate) enum After {
    /// It has this record, there.
    Is(Box<Record>, Offset, Changed),
    /// It has this record, there, and another call tries its request anew.
    Retried(Box<Record>, Offset, Begun),
    /// It is no more, which is written there.
    Forgotten(Offset, Changed),
    /// It is as it was: the change had nothing to do any more.
    Same(Changed),
}

/// Publishes to a topic or queue of ours.
pub(crate) fn publish(to: &str, message: Message) -> Publish {
    Publish { to: own(to).into(), partition: None, payload: Payload::One(message) }
}

/// Settles one message.
pub(crate) fn settle(queue: Name, tag: Tag, attempt: waystation_base::Attempt, outcome: Outcome) -> Settle {
    Settle { source: Source::Queue(queue), settlements: vec![Settlement { tag, attempt, outcome }] }
}

/// Where the publish at `place` of a transaction was stored.
pub(crate) fn stored_at(published: &[Published], place: usize) -> Result<Offset, Refusal> {
    let offset = published.get(place).and_then(|it| it.stretches.first()).map(|it| it.1);
    offset.ok_or_else(|| Refusal::Damaged("the record was not stored".into()))
}

/// Reads the record of a call at an offset, with its result's body.
pub(crate) async fn read(broker: &Broker, id: CallId, offset: Offset) -> Result<(Record, Bytes), Error> {
    let from = Some(Tag::new(0, offset));
    let browse = Browse { from, max: 1, bytes_max: 1, ..Browse::default() };
    let page = broker.browse(Target::Topic(own(names::CALLS)), browse).await?;
    let found = page.messages.into_iter().next();
    let found =
        found.filter(|found| found.offset == offset && record::id_of(found.message.key.as_ref()) == Some(id));
    let found = found.ok_or(Error::NoCall)?;
    Record::read(&found.message.body).map_err(Error::Damaged)
}

/// What a flight takes with it.
pub(super) struct Luggage {
    pub broker: Broker,
    pub id: CallId,
    pub offset: Offset,
    /// Where its request is kept, if that is known.
    pub request: Option<Offset>,
    /// As it is declared now; none: not any more.
    pub operation: Option<std::sync::Arc<Operation>>,
    pub now: Millis,
}

impl Luggage {
    /// Takes a step of an open call.
    pub async fn fly(&self, change: &Change) -> Result<After, Error> {
        let (mut record, _) = read(&self.broker, self.id, self.offset).await?;
        record.request = record.request.or(self.request);
        let before = record.state;
        let max_attempts = self.operation.as_ref().map_or(1, |operation| operation.max_attempts);
        let mut step = step(record, change, max_attempts, self.now)?;
        let changed =
            Changed { state: step.record.state, before, attempt: step.record.attempt, retried_as: None };
        let reply = match change {
            Change::Reply(delivery) => Some(&**delivery),
            _ => None,
        };
        let offset = self.settle_and_commit(&mut step, reply).await?;
        Ok(After::Is(Box::new(step.record), offset, changed))
    }

    /// Makes a step durable, with what belongs to it as far as that can be had.
    async fn settle_and_commit(&self, step: &mut Step, reply: Option<&Delivery>) -> Result<Offset, Refusal> {
        let mut answers = step.record.state.is_finished() && step.record.reply.is_some();
        if let (true, Some(reply)) = (answers, &mut step.record.reply) {
            reply.note(Ok(()));
        }
        loop {
            match self.commit(step, reply, answers).await {
                // The worker's lease ran out, or it was a queue client that settled by itself: the outcome counts all the same.
                Err(Refusal::NotHeld { .. }) if step.settle.is_some() => step.settle = None,
                // The queue of whoever called is gone or full: the outcome counts all the same, and can be fetched.
                Err(refusal) if answers => {
                    answers = false;
                    step.record.reply.iter_mut().for_each(|reply| reply.note(Err(&refusal)));
                }
                other => return other,
            }
        }
    }

    async fn commit(&self, step: &Step, reply: Option<&Delivery>, answers: bool) -> Result<Offset, Refusal> {
        let Step { record, body, settle: request } = step;
        let mut transaction = Transaction::default();
        transaction.publishes.push(publish(names::CALLS, record.message(body, self.now)));
        if record.state == State::Succeeded && record.is_request_kept {
            transaction.publishes.push(publish(names::REQUESTS, request::dropped(self.id, self.now)));
        }
        if record.state.is_finished()
            && let Some(message) = outcome::message(record, body, self.now)
        {
            transaction.publishes.push(publish(names::CALLBACKS, message));
        }
        if let Some((queue, message)) = reply_to::message(record, body, self.now).filter(|_| answers) {
            let payload = Payload::One(message);
            transaction.publishes.push(Publish { to: queue.into(), partition: None, payload });
        }
        if let Some((held, outcome)) = request {
            let Held { tag, attempt } = *held;
            transaction.settlements.push(settle(record.queue.clone(), tag, attempt, outcome.clone()));
        }
        if let Some(reply) = reply {
            let outcome = Outcome::Accepted;
            transaction.settlements.push(settle(own(names::REPLIES), reply.tag, reply.attempt, outcome));
        }
        let published = self.broker.transact(transaction).await?;
        stored_at(&published, 0)
    }

    /// Writes down that a call is forgotten.
    pub async fn forget(&self, state: State, attempt: u32) -> Result<After, Error> {
        let tombstone =
            Message { key: Some(key_of(self.id)), ..Message::new(MessageId(self.id.0.0), self.now, "") };
        let mut publishes = vec![publish(names::CALLS, tombstone)];
        if state != State::Succeeded {
            publishes.push(publish(names::REQUESTS, request::dropped(self.id, self.now)));
        }
        let published = self.broker.transact(Transaction { publishes, settlements: Vec::new() }).await?;
        let changed = Changed { state, before: state, attempt, retried_as: None };
        Ok(After::Forgotten(stored_at(&published, 0)?, changed))
    }

    /// Takes a request whose call has its outcome out of the queue: to the dead letters if the call has failed, wherever its message was
    /// when it did.
    pub async fn discard(&self, queue: Name, held: Held, state: State) -> Result<(), Error> {
        let outcome = match state {
            State::Failed => {
                let (record, _) = read(&self.broker, self.id, self.offset).await?;
                Outcome::Rejected { error: record.last_error, class: None }
            }
            _ => Outcome::Accepted,
        };
        let settlements = vec![settle(queue, held.tag, held.attempt, outcome)];
        let result = self.broker.transact(Transaction { publishes: Vec::new(), settlements }).await;
        match result {
            // Somebody else has it in hand.
            Ok(_) | Err(Refusal::NotHeld { .. }) => Ok(()),
            Err(refusal) => Err(refusal.into()),
        }
    }
}
