//! How does a call begin? Its first record and its request's message are one transaction.

use std::sync::Arc;

use waystation_base::{Millis, Name};
use waystation_broker::command::{Payload, Publish, Transaction};

use super::{Engine, flight::Landed};
use crate::{
    Error, Operation, Record, Start, Started, State,
    ask::{self, Answering},
    limits::{CALLS_MAX, TWINS_MAX},
    names::{self, own},
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
                self.flights.push(Box::pin(async move {
                    let result = broker.transact(transaction).await;
                    let result = result.map_err(Error::from).and_then(|published| {
                        let offset = published.first().and_then(|it| it.stretches.first()).map(|it| it.1);
                        offset.ok_or_else(|| Error::Damaged("the record was not stored".into()))
                    });
                    Landed::Started { record: Box::new(record), result, reply }
                }));
            }
            Err(error) => drop(reply.send(Err(error))),
        }
    }

    fn prepare(&self, name: &Name, start: &Start) -> Result<(Record, Transaction), Error> {
        let operation = self.operations.borrow().get(name).cloned();
        let operation = operation.ok_or_else(|| Error::NoOperation(name.to_string()))?;
        if self.index.len() + self.new >= CALLS_MAX {
            return Err(Error::Limit { what: "calls", limit: CALLS_MAX as u64 });
        }
        if start.body.len() as u64 > operation.body_bytes_max {
            return Err(Error::TooLarge { limit: operation.body_bytes_max });
        }
        let callback = callback(&operation, start)?;
        let timeout_ms = start.timeout_ms.unwrap_or(u64::MAX).clamp(1, operation.timeout_ms);
        let deadline = start.now.plus(timeout_ms);
        // It was checked when the operation was declared.
        let queue = operation.queue_name(name).map_err(|error| Error::Damaged(error.to_string()))?;
        let record = first(name, queue.clone(), &operation, start, callback, deadline);
        let publish =
            |to: Name, message| Publish { to: to.into(), partition: None, payload: Payload::One(message) };
        let request = ask::request(name, start, deadline);
        let publishes =
            vec![publish(own(names::CALLS), record.message(&[], start.now)), publish(queue, request)];
        Ok((record, Transaction { publishes, settlements: Vec::new() }))
    }

    /// A call is durable, or refused; those with its key hear the same, or one of them is the next to try.
    pub(super) fn started(
        &mut self,
        record: &Record,
        result: Result<waystation_base::Offset, Error>,
        reply: Answering<Started>,
    ) {
        self.new -= 1;
        let answer = result.map(|offset| {
            self.index.put(record, offset);
            self.shared.figures.count(State::Queued);
            Started { id: record.id, is_replay: false }
        });
        let _ = reply.send(answer);
        let twins = record.key.and_then(|key| self.starting.remove(&key.scope));
        for (name, start, reply) in twins.unwrap_or_default() {
            self.start(name, start, reply);
        }
    }
}

fn callback(operation: &Arc<Operation>, start: &Start) -> Result<Option<String>, Error> {
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
    }
}
