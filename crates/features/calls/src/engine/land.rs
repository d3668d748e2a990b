//! How does a change begin, and what follows when it is durable?

use waystation_base::Name;
use waystation_broker::command::Transaction;

use super::{
    AGAIN_MS, Engine,
    flight::{After, Landed, Luggage, publish},
    late,
};
use crate::{
    Answer, AttemptEnd, CallId, Change, Changed, Error, Held, State, ask::Answering, index::Entry, names,
};

impl Engine {
    /// Begins a change of a call that has no flight.
    pub(super) fn begin(&mut self, id: CallId, change: Change, reply: Option<Answering<Changed>>) {
        let entry = match self.index.get(id) {
            Ok(entry) => entry.clone(),
            Err(error) => return self.missing(error, change, reply),
        };
        let luggage = self.luggage(id, &entry);
        if !entry.state.is_finished() {
            return match change {
                Change::Retry(_) => drop(reply.map(|reply| reply.send(Err(Error::Open(entry.state))))),
                change => self.fly(luggage, change, reply),
            };
        }
        let (state, attempt) = (entry.state, entry.attempt);
        let same = Changed { state, before: state, attempt, retried_as: None };
        match change {
            Change::Reply(delivery) => self.keep_late(*delivery, entry.state.word()),
            Change::Complete { answer, .. } => self.refuse_late(luggage, answer, entry.state, reply),
            Change::Fail { error, .. } => {
                let answer = Answer { status: 500, error: Some(error), ..Answer::default() };
                self.refuse_late(luggage, answer, entry.state, reply);
            }
            Change::Progress { .. } => {
                reply.map(|reply| reply.send(Err(Error::Closed(entry.state))));
            }
            Change::Cancel | Change::Expire => {
                reply.map(|reply| reply.send(Ok(same)));
            }
            Change::Begin { held, queue } => {
                self.busy.entry(id).or_default();
                self.launch(async move {
                    let result =
                        luggage.discard(queue.clone(), held, state).await.map(|()| After::Same(same));
                    let change = Box::new(Change::Begin { held, queue });
                    Landed::Changed { id, result, change, reply }
                });
            }
            Change::Attempted { held, queue, end } => {
                self.refuse_attempted(luggage, (queue, held), end, same, reply);
            }
            Change::Retry(retry) => self.retry(luggage, state, retry, reply),
            Change::Forget => {
                self.busy.entry(id).or_default();
                self.launch(async move {
                    let result = luggage.forget(entry.state, entry.attempt).await;
                    Landed::Changed { id, result, change: Box::new(Change::Forget), reply }
                });
            }
        }
    }

    fn fly(&mut self, luggage: Luggage, change: Change, reply: Option<Answering<Changed>>) {
        let id = luggage.id;
        self.busy.entry(id).or_default();
        self.launch(async move {
            let result = luggage.fly(&change).await;
            Landed::Changed { id, result, change: Box::new(change), reply }
        });
    }

    fn luggage(&self, id: CallId, entry: &Entry) -> Luggage {
        let name = self.index.operation_of(entry);
        let operation = self.operations.borrow().get(&name).cloned();
        Luggage {
            broker: self.broker.clone(),
            id,
            offset: entry.offset,
            request: entry.request,
            operation,
            now: self.now(),
        }
    }

    /// A change of a call that is not there.
    fn missing(&mut self, error: Error, change: Change, reply: Option<Answering<Changed>>) {
        match change {
            Change::Reply(delivery) => {
                let state = if error == Error::Gone { "forgotten" } else { "unknown" };
                self.keep_late(*delivery, state);
            }
            _ => drop(reply.map(|reply| reply.send(Err(error)))),
        }
    }

    /// A worker's result for a call that has its outcome: it is kept, and then the worker is told.
    fn refuse_late(
        &mut self,
        luggage: Luggage,
        answer: Answer,
        state: State,
        reply: Option<Answering<Changed>>,
    ) {
        self.shared.figures.late();
        let message = late::message(luggage.id, &answer, state.word(), luggage.now);
        self.launch(async move {
            let publishes = vec![publish(names::LATE, message)];
            let kept = luggage.broker.transact(Transaction { publishes, settlements: Vec::new() }).await;
            let told = kept.map_or_else(|refusal| Err(refusal.into()), |_| Err(Error::Closed(state)));
            reply.map(|reply| reply.send(told));
            Landed::Aside
        });
    }

    /// The same for an attempt of this server's own: its request leaves the queue too.
    fn refuse_attempted(
        &mut self,
        luggage: Luggage,
        (queue, held): (Name, Held),
        end: AttemptEnd,
        same: Changed,
        reply: Option<Answering<Changed>>,
    ) {
        let message = match end {
            AttemptEnd::Answered(answer) => {
                self.shared.figures.late();
                Some(late::message(luggage.id, &answer, same.state.word(), luggage.now))
            }
            // There is nothing to keep.
            AttemptEnd::Again { .. } | AttemptEnd::Broken(_) => None,
        };
        self.launch(async move {
            let keep = async {
                if let Some(message) = message {
                    let publishes = vec![publish(names::LATE, message)];
                    luggage.broker.transact(Transaction { publishes, settlements: Vec::new() }).await?;
                }
                luggage.discard(queue, held, same.state).await
            };
            let kept: Result<(), Error> = keep.await;
            reply.map(|reply| reply.send(kept.and(Err(Error::Closed(same.state)))));
            Landed::Aside
        });
    }

    /// Something has become durable, or was refused.
    pub(super) fn land(&mut self, landed: Landed) {
        match landed {
            Landed::Started { key, result, reply } => self.started(key, result, reply),
            Landed::Changed { id, result, change, reply } => {
                if matches!(*change, Change::Retry(_)) {
                    self.new -= 1;
                }
                match result {
                    Ok(after) => {
                        let changed = self.apply(id, after);
                        reply.map(|reply| reply.send(Ok(changed)));
                    }
                    Err(error) => self.failed(id, error, *change, reply),
                }
                for reply in self.attending.remove(&id).unwrap_or_default() {
                    self.attend(id, reply);
                }
                self.go_on(id);
            }
            Landed::Admitted(begun) => {
                self.new -= 1;
                if let Some(begun) = begun {
                    self.take_over(&begun);
                }
            }
            Landed::Paged(result) => self.paged(result),
            Landed::Aside => {}
        }
    }

    fn apply(&mut self, id: CallId, after: After) -> Changed {
        match after {
            After::Is(record, offset, changed) => {
                self.index.put(&record, offset);
                if let Some(watcher) = self.watchers.get(&id) {
                    watcher.send_replace(record.version);
                }
                if record.state.is_finished() {
                    self.watchers.remove(&id);
                }
                if changed.state != changed.before {
                    self.shared.figures.count(changed.state);
                }
                changed
            }
            After::Retried(record, offset, begun) => {
                self.index.put(&record, offset);
                let (state, attempt) = (record.state, record.attempt);
                let retried_as = Some(self.take_over(&begun));
                Changed { state, before: state, attempt, retried_as }
            }
            After::Forgotten(offset, changed) => {
                self.index.forget(id, offset);
                self.watchers.remove(&id);
                changed
            }
            After::Same(changed) => changed,
        }
    }

    /// A change was refused: whoever asked hears why; what nobody asked for is tried again.
    fn failed(&mut self, id: CallId, error: Error, change: Change, reply: Option<Answering<Changed>>) {
        match change {
            Change::Expire | Change::Forget if error == Error::NoCall => {
                tracing::error!(%id, "the record of a call is not there: nothing is known of it any more");
                self.index.lose(id);
            }
            Change::Expire | Change::Forget => {
                tracing::warn!(%id, %error, "a call cannot be ended now; it is tried again");
                let at = self.now().plus(AGAIN_MS);
                self.index.try_again(id, at);
            }
            Change::Reply(delivery) => {
                tracing::warn!(%id, %error, "a reply cannot be taken now; it is tried again");
                let broker = self.broker.clone();
                self.launch(async move {
                    late::put_back(&broker, &delivery).await;
                    Landed::Aside
                });
            }
            _ => drop(reply.map(|reply| reply.send(Err(error)))),
        }
    }

    /// The next change that waits for a call has its turn.
    fn go_on(&mut self, id: CallId) {
        loop {
            let Some(waiting) = self.busy.get_mut(&id) else { return };
            let Some(next) = waiting.pop_front() else {
                self.busy.remove(&id);
                return;
            };
            let rest = self.busy.remove(&id).unwrap_or_default();
            self.begin(id, next.change, next.reply);
            if rest.is_empty() {
                return;
            }
            // What it began, if anything, comes before what is left.
            let is_flying = self.busy.contains_key(&id);
            self.busy.insert(id, rest);
            if is_flying {
                return;
            }
        }
    }
}
