//! How does a call begin? Its first record and its request's message are one transaction.

use waystation_base::{Millis, Name, Offset};
use waystation_broker::{
    command::{Payload, Publish, Transaction},
    effect::Published,
};
use waystation_host::Broker;

use super::{
    Engine,
    flight::{Landed, publish, stored_at},
};
use crate::{
    CallId, Error, Key, Operation, Record, Start, Started, State,
    ask::Answering,
    limits::{CORRELATION_BYTES_MAX, TWINS_MAX},
    names, request,
};

impl Engine {
    /// Starts a call, unless one with its idempotency key was.
    pub(super) fn start(&mut self, name: Name, start: Box<Start>, reply: Answering<Started>) {
        let key = start.idempotency;
        if let Some((request, id)) = key.and_then(|key| self.index.by_key(key.scope)) {
            let is_same = key.is_some_and(|key| key.request == request);
            let answer = Started { id, is_replay: true };
            let _ = reply.send(if is_same { Ok(answer) } else { Err(Error::KeyReused) });
            return;
        }
        if let Some(twins) = key.and_then(|key| self.starting.get_mut(&key.scope)) {
            if twins.len() >= TWINS_MAX {
                let limit = TWINS_MAX as u64;
                let what = "requests at once with one idempotency key";
                let _ = reply.send(Err(Error::Limit { what, limit }));
            } else {
                twins.push((name, start, reply));
            }
            return;
        }
        match self.prepare(&name, &start) {
            Ok((record, transaction)) => {
                if let Some(key) = key {
                    self.starting.insert(key.scope, Vec::new());
                }
                self.new += 1;
                let broker = self.broker.clone();
                self.launch(async move {
                    let result = begin(&broker, record, transaction).await.map(|(begun, _)| begun);
                    Landed::Started { key, result, reply }
                });
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn prepare(&self, name: &Name, start: &Start) -> Result<(Record, Transaction), Error> {
        let operation = self.operations.borrow().get(name).cloned();
        let operation = operation.ok_or_else(|| Error::NoOperation(name.to_string()))?;
        self.check_room()?;
        prepare(name, &operation, start, None)
    }

    /// Whether one more call may be kept.
    pub(super) fn check_room(&self) -> Result<(), Error> {
        let limit = self.limits.calls_max;
        if self.index.len() + self.new >= limit {
            return Err(Error::Limit { what: "calls", limit: limit as u64 });
        }
        Ok(())
    }

    /// A call is durable, or refused; those with its key hear the same, or one of them is the next to try.
    pub(super) fn started(
        &mut self,
        key: Option<Key>,
        result: Result<Begun, Error>,
        reply: Answering<Started>,
    ) {
        self.new -= 1;
        let _ = reply.send(result.map(|begun| self.take_over(&begun)));
        let twins = key.and_then(|key| self.starting.remove(&key.scope));
        for (name, start, reply) in twins.unwrap_or_default() {
            self.start(name, start, reply);
        }
    }

    /// A new call is there.
    pub(super) fn take_over(&mut self, begun: &Begun) -> Started {
        self.index.put(&begun.record, begun.offset);
        self.shared.figures.count(State::Queued);
        Started { id: begun.record.id, is_replay: false }
    }
}

/// A call that is durable.
pub(crate) struct Begun {
    /// Its first record, which knows where its request is kept.
    pub record: Box<Record>,
    /// Where that is.
    pub offset: Offset,
}

/// The first record of a call, and what makes it one: record, request, and the request to keep, in this order.
pub(super) fn prepare(
    name: &Name,
    operation: &Operation,
    start: &Start,
    retry_of: Option<CallId>,
) -> Result<(Record, Transaction), Error> {
    if start.body.len() as u64 > operation.body_bytes_max {
        return Err(Error::TooLarge { limit: operation.body_bytes_max });
    }
    let callback = callback(operation, start)?;
    let timeout_ms = start.timeout_ms.unwrap_or(u64::MAX).clamp(1, operation.timeout_ms);
    let deadline = start.now.plus(timeout_ms);
    // It was checked when the operation was declared.
    let queue = operation.queue_name(name).map_err(|error| Error::Damaged(error.to_string()))?;
    let record = Record { retry_of, ..first(name, queue.clone(), operation, start, callback, deadline) };
    let message = Payload::One(request::request(name, start, deadline));
    let to_queue = Publish { to: queue.into(), partition: None, payload: message };
    let mut publishes = vec![publish(names::CALLS, record.message(&[], start.now)), to_queue];
    if operation.keep_requests {
        publishes.push(publish(names::REQUESTS, request::kept(start)));
    }
    Ok((record, Transaction { publishes, settlements: Vec::new() }))
}

/// Makes what [`prepare`] prepared durable; further publishes come behind its own.
pub(super) async fn begin(
    broker: &Broker,
    mut record: Record,
    transaction: Transaction,
) -> Result<(Begun, Vec<Published>), Error> {
    let published = broker.transact(transaction).await?;
    let offset = stored_at(&published, 0)?;
    record.request = stored_at(&published, 2).ok().filter(|_| record.is_request_kept);
    Ok((Begun { record: Box::new(record), offset }, published))
}

fn callback(operation: &Operation, start: &Start) -> Result<Option<String>, Error> {
    let url = start.callback.as_deref().or(operation.callback.as_deref());
    url.map(|url| operation.check_callback(url).map_err(Error::Callback)).transpose()
}

fn first(
    name: &Name,
    queue: Name,
    operation: &Operation,
    start: &Start,
    callback: Option<String>,
    deadline: Millis,
) -> Record {
    use waystation_base::message::header::TRACEPARENT;
    let trace = start.headers.iter().find(|(name, _)| name == TRACEPARENT);
    Record {
        id: start.id,
        operation: name.clone(),
        queue,
        state: State::Queued,
        version: 1,
        created: start.now,
        changed: start.now,
        deadline,
        retention_ms: operation.retention_ms,
        caller: start.caller.clone(),
        key: start.idempotency,
        callback,
        traceparent: trace.and_then(|(_, value)| value.as_str()).map(str::to_owned),
        attempt: 0,
        held: None,
        progress: None,
        started: None,
        finished: None,
        last_error: None,
        result: None,
        fault: None,
        is_request_kept: operation.keep_requests,
        request: None,
        correlation_id: start.correlation_id.clone().filter(|id| id.len() <= CORRELATION_BYTES_MAX),
        reply: start.reply.clone(),
        retry_of: None,
        retried_as: None,
    }
}
