//! What becomes of one call that was taken for an upstream: sent, and its answer or failure made durable, or let go if it has ended?

use std::{pin::pin, sync::Arc, time::Duration};

use tokio::{
    sync::{SemaphorePermit, watch},
    time,
};
use waystation_base::{Clock, Millis, os};
use waystation_broker::{Refusal, Source, command::Outcome};
use waystation_host::{Broker, Delivery};
use waystation_outbound::{
    breaker::{Admission, Trial},
    client::endpoint,
    exchange::{Answer, Failure, Request},
    span::Traced,
};

use super::{
    live::UpstreamFailure,
    request::{self, About},
    spec::Attempted,
    turn::Worker,
    upstreams::{BUFFER_UNIT, Outbound},
    verdict::{self, Verdict, cause, classes, judge, last},
};
use crate::{AttemptEnd, CallId, Calls, Change, Error, Held, Seen};

/// How long a request may take before it is written down that the call is worked on: what is answered sooner needs no such step.
const BEGIN: Duration = Duration::from_millis(100);
/// How long to wait before trying again to write down what is known.
const AGAIN: Duration = Duration::from_secs(1);
/// Milliseconds after which a call is looked at again that is about to expire.
const ASIDE_MS: u64 = 1_000;
/// Milliseconds for which a call is held until the rate lets it go.
const PACED_MS: u64 = 1_000;
/// Milliseconds after which a call is looked at again that belongs to another operation.
const FOREIGN_MS: u64 = 60_000;

/// How an attempt ended, for the turn.
#[derive(Debug)]
pub(super) enum Step {
    /// The way is free.
    Done,
    /// Nothing is to be taken before this.
    Shut {
        /// Until when.
        until: Millis,
        /// Because the rate lets nothing go; else because the upstream is left alone.
        by_rate: bool,
        /// Why, if that needs saying.
        why: Option<String>,
    },
    /// The broker refused to settle.
    Refused(String),
}

/// What the attempts of one worker share.
pub(super) struct Desk {
    pub worker: Worker,
    pub calls: Calls,
    pub broker: Broker,
    pub clock: Arc<dyn Clock>,
    pub outbound: Outbound,
}

/// What came of sending.
enum Sent<'a> {
    /// An answer, or none.
    Ended(Box<Exchange<'a>>),
    /// Nothing may be sent until then, by the rate or because the upstream is left alone; nothing was.
    Wait { until: Millis, by_rate: bool },
    /// The call was ended by the engine itself.
    Closed,
}

struct Exchange<'a> {
    /// It holds its answer until that is written down.
    _room: Option<SemaphorePermit<'a>>,
    result: Result<Answer, Failure>,
    at: Millis,
    took_ms: u64,
    suspended_until: Option<Millis>,
}

impl Desk {
    /// Makes one attempt at a call, if it still waits for one.
    pub async fn attempt(&self, delivery: Delivery) -> Step {
        let id = CallId(delivery.message.id);
        let (seen, steps) = match self.calls.attend(id).await {
            Ok(found) => found,
            Err(error @ (Error::NoCall | Error::Gone)) => {
                return self
                    .settle(&delivery, Outcome::Rejected { error: Some(error.to_string()), class: None })
                    .await;
            }
            Err(error) => return Step::Refused(error.to_string()),
        };
        let now = self.clock.now();
        if seen.state.is_finished() {
            return self.settle(&delivery, Outcome::Accepted).await;
        }
        if seen.operation != self.worker.name {
            let (operation, queue) = (&seen.operation, &self.worker.queue);
            tracing::warn!(%id, %operation, %queue, "a call of another operation is not sent to this one's upstream");
            return self.settle(&delivery, Outcome::Requeued { delay_ms: FOREIGN_MS }).await;
        }
        if seen.due <= now {
            return self.settle(&delivery, Outcome::Requeued { delay_ms: ASIDE_MS }).await;
        }
        if seen.attempt >= self.worker.max_attempts {
            // They were used up by workers who were not heard of again: the engine ends it.
            return self.begin(id, &delivery).await;
        }
        let sent = {
            let send = pin!(self.send(&seen, &delivery));
            tokio::select! {
                biased;
                sent = send => sent,
                () = ended(steps) => Sent::Closed,
            }
        };
        match sent {
            Sent::Ended(exchange) => self.conclude(&seen, &delivery, *exchange).await,
            Sent::Closed => {
                self.worker.live.count(|counts| counts.dropped += 1, None);
                self.settle(&delivery, Outcome::Accepted).await
            }
            Sent::Wait { until, by_rate } => match self.settle(&delivery, Outcome::Released).await {
                Step::Done => Step::Shut { until, by_rate, why: None },
                step => step,
            },
        }
    }

    fn held(delivery: &Delivery) -> Held {
        Held { tag: delivery.tag, attempt: delivery.attempt }
    }

    async fn begin(&self, id: CallId, delivery: &Delivery) -> Step {
        let change = Change::Begin { held: Desk::held(delivery), queue: self.worker.queue.clone() };
        match self.calls.change(id, change).await {
            Ok(_) | Err(Error::NoCall | Error::Gone | Error::Closed(_)) => Step::Done,
            Err(error) => Step::Refused(error.to_string()),
        }
    }

    /// Settles without an attempt. If the message was settled meanwhile, that is as good.
    async fn settle(&self, delivery: &Delivery, outcome: Outcome) -> Step {
        let source = Source::Queue(self.worker.queue.clone());
        match self.broker.settle(source, vec![delivery.settlement(outcome)]).await {
            Ok(()) | Err(Refusal::NotHeld { .. }) => Step::Done,
            Err(refusal) => Step::Refused(refusal.to_string()),
        }
    }

    /// Waits for room, for the rate and for the breaker, and sends.
    async fn send(&self, seen: &Seen, delivery: &Delivery) -> Sent<'_> {
        let room = self.room(delivery.message.body.len() as u64).await;
        if let Err(until) = self.pace().await {
            return Sent::Wait { until, by_rate: true };
        }
        let endpoint = endpoint(&self.worker.url);
        let at = self.clock.now();
        let admission = self.outbound.breakers.admit(&endpoint, at);
        if let Admission::Wait(until) = admission {
            return Sent::Wait { until, by_rate: false };
        }
        let trial = Trial::new(&self.outbound.breakers, &endpoint, admission);
        let Some(result) = self.exchange(seen, delivery, at).await else { return Sent::Closed };
        trial.over();
        let now = self.clock.now();
        let suspended_until = self.note(&endpoint, &result, now);
        Sent::Ended(Box::new(Exchange { _room: room, result, at, took_ms: now.since(at), suspended_until }))
    }

    /// Room in memory for a request and the largest answer.
    async fn room(&self, body_bytes: u64) -> Option<SemaphorePermit<'_>> {
        let bytes = body_bytes + self.worker.upstream.response_bytes_max;
        let units = bytes.div_ceil(BUFFER_UNIT).max(1) as u32;
        // It is closed never.
        self.outbound.buffer.acquire_many(units).await.ok()
    }

    /// Waits until the rate lets one request go; not for long, for others may have the call meanwhile.
    async fn pace(&self) -> Result<(), Millis> {
        let Some(bucket) = &self.worker.bucket else { return Ok(()) };
        loop {
            let now = self.clock.now();
            let taken = bucket.lock().await.take(now);
            match taken {
                Ok(()) => return Ok(()),
                Err(at) if at > now.plus(PACED_MS) => return Err(at),
                Err(at) => time::sleep(Duration::from_millis(at.since(now))).await,
            }
        }
    }

    /// Sends, and has it written down that the call is worked on if that takes long. None: the call has ended meanwhile.
    async fn exchange(
        &self,
        seen: &Seen,
        delivery: &Delivery,
        now: Millis,
    ) -> Option<Result<Answer, Failure>> {
        let (upstream, operation) = (&self.worker.upstream, self.worker.name.as_str());
        let source = Source::Queue(self.worker.queue.clone());
        let about = About { id: seen.id, operation, attempt: seen.attempt + 1, due: seen.due };
        let request = Request {
            method: upstream.method.method(),
            url: self.worker.url.clone(),
            headers: request::headers(&delivery.message, &self.worker.headers, &about),
            body: delivery.message.body.clone(),
            timeout_ms: upstream.timeout_ms.min(seen.due.since(now)).max(1),
            answer_bytes_max: upstream.response_bytes_max as usize,
            traced: Traced {
                parents: delivery.parent(&source).into_iter().collect(),
                attempt: about.attempt,
            },
        };
        let _under_way = self.worker.live.request();
        let mut exchange = pin!(self.outbound.client.exchange(request));
        let mut beginning = pin!(async {
            time::sleep(BEGIN).await;
            let change = Change::Begin { held: Desk::held(delivery), queue: self.worker.queue.clone() };
            self.calls.change(seen.id, change).await
        });
        let mut has_begun = false;
        loop {
            tokio::select! {
                biased;
                result = &mut exchange => return Some(result),
                begun = &mut beginning, if !has_begun => {
                    has_begun = true;
                    // What cannot be written down now is tried again with the outcome.
                    if begun.is_ok_and(|changed| changed.state.is_finished()) {
                        return None;
                    }
                }
            }
        }
    }

    /// Tells the breaker. Gives until when the upstream is left alone, if it is.
    fn note(&self, endpoint: &str, result: &Result<Answer, Failure>, now: Millis) -> Option<Millis> {
        let (breakers, upstream) = (&self.outbound.breakers, &self.worker.upstream);
        if !verdict::is_failing(result, upstream) {
            breakers.succeeded(endpoint);
            return None;
        }
        let asked = result.as_ref().ok().and_then(|answer| verdict::retry_after_ms(answer, now));
        let asked = asked.map(|ms| ms.min(upstream.retry_after_ms_max));
        breakers.failed(endpoint, &upstream.breaker, asked, now)
    }

    /// Makes durable what came of an exchange.
    async fn conclude(&self, seen: &Seen, delivery: &Delivery, exchange: Exchange<'_>) -> Step {
        let (attempt, upstream) = (seen.attempt + 1, &self.worker.upstream);
        let now = self.clock.now();
        let (end, next_ms) = match judge(&exchange.result, upstream, now) {
            Verdict::Final(end) => (end, None),
            Verdict::Again { retry_after_ms } => {
                let (classes, chance) = (classes(&exchange.result), os::random().unwrap_or_default() as u64);
                let age_ms = now.since(seen.id.time());
                let failed = Attempted { attempt, age_ms, classes: &classes, retry_after_ms, chance };
                let pause_ms = upstream.pause_ms(&failed).filter(|_| attempt < self.worker.max_attempts);
                match pause_ms {
                    Some(delay_ms) => {
                        (AttemptEnd::Again { error: cause(&exchange.result), delay_ms }, Some(delay_ms))
                    }
                    None => (last(&exchange.result, upstream), None),
                }
            }
        };
        self.tell(seen, attempt, &exchange, &end, next_ms);
        let step = self.write(seen.id, delivery, end).await;
        match (step, exchange.suspended_until) {
            (Step::Done, Some(until)) => {
                Step::Shut { until, by_rate: false, why: Some(cause(&exchange.result)) }
            }
            (step, _) => step,
        }
    }

    /// Writes down the end of an attempt. The upstream has done its part: while it cannot be written it is not sent again.
    async fn write(&self, id: CallId, delivery: &Delivery, end: AttemptEnd) -> Step {
        let (held, queue) = (Desk::held(delivery), &self.worker.queue);
        loop {
            let change = Change::Attempted { held, queue: queue.clone(), end: end.clone() };
            match self.calls.change(id, change).await {
                Ok(_) | Err(Error::Closed(_) | Error::NotHeld(_) | Error::NoCall | Error::Gone) => {
                    return Step::Done;
                }
                Err(error @ (Error::Ended | Error::Refused(Refusal::Stopped(_)))) => {
                    return Step::Refused(error.to_string());
                }
                Err(error) => {
                    tracing::warn!(%id, %error, "what came of a call cannot be written down now; it is tried again");
                    time::sleep(AGAIN).await;
                }
            }
        }
    }

    /// Counts an exchange, and logs what failed.
    fn tell(
        &self,
        seen: &Seen,
        attempt: u32,
        exchange: &Exchange<'_>,
        end: &AttemptEnd,
        next_ms: Option<u64>,
    ) {
        let is_good = matches!(end, AttemptEnd::Answered(answer) if answer.status < 400);
        let cause = cause(&exchange.result);
        let (at, took_ms) = (exchange.at, exchange.took_ms);
        if !is_good {
            let (id, operation) = (seen.id, &self.worker.name);
            tracing::info!(%id, %operation, attempt, %cause, next_ms, "an upstream's attempt did not succeed");
        }
        let failure = UpstreamFailure { at, call: seen.id.to_string(), attempt, cause, took_ms, next_ms };
        let note = |counts: &mut super::UpstreamCounts| {
            counts.attempts += 1;
            counts.took_ms += took_ms;
            match (is_good, next_ms) {
                (true, _) => counts.succeeded += 1,
                (false, Some(_)) => counts.retried += 1,
                (false, None) => counts.failed += 1,
            }
        };
        self.worker.live.count(note, (!is_good).then_some(failure));
    }
}

/// Resolves when a call has its outcome.
async fn ended(mut steps: watch::Receiver<u32>) {
    while steps.changed().await.is_ok() {}
}
