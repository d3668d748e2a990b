//! How is the request of a call that ended badly tried anew? By a call of its own: both are written down in one transaction, and
//! each knows the other. The earlier call keeps its outcome.

use std::sync::Arc;

use super::{
    Engine,
    flight::{After, Landed, Luggage, publish, read, stored_at},
    start::{begin, prepare},
};
use crate::{
    Change, Changed, Error, RetryAs, Started, State,
    ask::Answering,
    names,
    request::{self, Older},
};

impl Engine {
    /// Begins to try a finished call anew. While that is under way further changes to the call wait, so it is done once.
    pub(super) fn retry(
        &mut self,
        luggage: Luggage,
        state: State,
        retry: RetryAs,
        reply: Option<Answering<Changed>>,
    ) {
        let refusal = if state == State::Succeeded { Err(Error::Succeeded) } else { self.check_room() };
        if let Err(error) = refusal {
            reply.map(|reply| reply.send(Err(error)));
            return;
        }
        let (id, older) = (luggage.id, self.older.clone());
        self.new += 1;
        self.busy.entry(id).or_default();
        self.launch(async move {
            let result = again(&luggage, &older, retry).await;
            Landed::Changed { id, result, change: Box::new(Change::Retry(retry)), reply }
        });
    }
}

async fn again(luggage: &Luggage, older: &Arc<Older>, retry: RetryAs) -> Result<After, Error> {
    let Luggage { broker, id, offset, request, operation, .. } = luggage;
    let (mut record, body) = read(broker, *id, *offset).await?;
    if let Some(id) = record.retried_as {
        let retried_as = Some(Started { id, is_replay: true });
        let (state, attempt) = (record.state, record.attempt);
        return Ok(After::Same(Changed { state, before: state, attempt, retried_as }));
    }
    if !record.is_request_kept {
        return Err(Error::NoRequest);
    }
    record.request = record.request.or(*request);
    let operation = operation.as_ref().ok_or_else(|| Error::NoOperation(record.operation.to_string()))?;
    let start = request::find(broker, older, &record, retry).await?;
    let (new, mut transaction) = prepare(&record.operation, operation, &start, Some(*id))?;
    record.retried_as = Some(retry.id);
    record.version += 1;
    record.changed = retry.now;
    let place = transaction.publishes.len();
    transaction.publishes.push(publish(names::CALLS, record.message(&body, retry.now)));
    let (begun, published) = begin(broker, new, transaction).await?;
    Ok(After::Retried(Box::new(record), stored_at(&published, place)?, begun))
}
