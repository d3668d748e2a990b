//! What becomes of messages after an attempt: accepted, given back with a pause, or given up with the cause?

use std::sync::Arc;

use waystation_base::{Clock, Message, Millis, Name, os};
use waystation_broker::{
    Refusal, Source,
    command::{self as broker, Outcome, Payload, Publish, Settle, Target, Transaction},
    deaths::{self, Death},
    spec::{Mode, Order},
};
use waystation_host::{Broker, Delivery};
use waystation_outbound::span::Traced;
use waystation_record::Tried;

use super::{
    live::Live,
    plan::Plan,
    pusher::{Options, Pusher, stored_at},
    record,
};
use crate::{
    attempt::{Attempt, Ending},
    retry::Attempted,
    sender::{Failure, Job, Sender, Sent, endpoint},
    verdict::{Verdict, classes},
};

/// Bytes of a cause in the headers of a dead letter.
const CAUSE_BYTES_MAX: usize = 1_000;

/// Milliseconds after which what is held back is looked at again.
const HOLD_MS: u64 = 60_000;

/// How an attempt ended, for the turn.
#[derive(Debug)]
pub enum Step {
    /// Delivered, or given up: the way is free.
    Arrived,
    /// Not delivered; nothing is to be taken before `hold_until`.
    Again {
        /// When to go on; none: at once, with other messages.
        hold_until: Option<Millis>,
    },
    /// The one endpoint wants nothing more.
    Gone,
    /// The broker refused to settle.
    Refused(String),
}

/// What attempts share.
pub struct Settler {
    broker: Broker,
    clock: Arc<dyn Clock>,
    sender: Sender,
    plan: Arc<dyn Plan>,
    options: Options,
    live: Arc<Live>,
    /// The source has an address for dead letters.
    has_dead_letters: bool,
    /// Deliveries after which the source itself buries a message.
    attempts_max: Option<u32>,
    /// What fails has to stay first: nothing is sent before its pause is over.
    stays_first: bool,
}

impl Settler {
    /// Looks at the source.
    pub async fn new(pusher: &Pusher) -> Result<Settler, Refusal> {
        let (has_dead_letters, attempts_max, orders_keys) = match pusher.options.source.clone() {
            Source::Queue(name) => {
                let spec = pusher.broker.queue(name).await?.spec;
                (spec.has_dead_letters(), spec.max_attempts, spec.order == Order::Key)
            }
            Source::Subscription(name) => {
                let spec = pusher.broker.subscription(name).await?.spec;
                (spec.dead_letter.is_some(), spec.max_attempts, spec.mode == Mode::Ordered)
            }
        };
        Ok(Settler {
            broker: pusher.broker.clone(),
            clock: pusher.clock.clone(),
            sender: pusher.sender.clone(),
            plan: pusher.plan.clone(),
            options: pusher.options.clone(),
            live: pusher.live.clone(),
            has_dead_letters,
            attempts_max,
            stays_first: pusher.options.ordered && !orders_keys,
        })
    }

    /// Sends messages as one request and settles them; as several, if they are too large together.
    pub async fn attempt(&self, deliveries: Vec<Delivery>) -> Step {
        let mut waiting = vec![deliveries];
        let mut last = Step::Arrived;
        while let Some(mut chunk) = waiting.pop() {
            if let Some(why) = self.plan.hold(&chunk) {
                tracing::info!(push = %self.options.name, %why, "a message is held back");
                return match self.give_back(&chunk, Outcome::Requeued { delay_ms: HOLD_MS }).await {
                    Ok(()) => Step::Again { hold_until: None },
                    Err(refusal) => Step::Refused(refusal.to_string()),
                };
            }
            let job = match self.plan.job(&chunk) {
                Ok(job) => Job { traced: self.traced(&chunk), ..job },
                Err(cause) => {
                    let note = self.note(&chunk, self.plan.id(&chunk), None, Some(cause));
                    last = self.give_up(&chunk, None, note).await;
                    continue;
                }
            };
            if job.body.len() > job.body_bytes_max && chunk.len() > 1 {
                let rest = chunk.split_off(chunk.len() / 2);
                waiting.push(rest);
                waiting.push(chunk);
                continue;
            }
            let sent = self.sender.send(&job).await;
            let note = self.note(&chunk, job.id, Some(&sent), sent.cause());
            last = self.settle(&chunk, sent, Attempt { endpoint: endpoint(&job.url), ..note }).await;
            if !matches!(last, Step::Arrived) {
                // What has not been tried goes back; its turn comes after this one's.
                for chunk in waiting.drain(..) {
                    if let Err(refusal) = self.give_back(&chunk, Outcome::Released).await {
                        return Step::Refused(refusal.to_string());
                    }
                }
            }
        }
        last
    }

    fn traced(&self, chunk: &[Delivery]) -> Traced {
        let parents = chunk.iter().filter_map(|delivery| delivery.parent(&self.options.source)).collect();
        Traced { parents, attempt: highest_attempt(chunk) }
    }

    fn note(
        &self,
        chunk: &[Delivery],
        webhook_id: String,
        sent: Option<&Sent>,
        cause: Option<String>,
    ) -> Attempt {
        Attempt {
            at: sent.map_or_else(|| self.clock.now(), |sent| sent.at),
            webhook_id,
            attempt: highest_attempt(chunk),
            messages: chunk.len() as u32,
            status: sent.and_then(Sent::status),
            cause,
            took_ms: sent.map_or(0, |sent| sent.took_ms),
            ..Attempt::default()
        }
    }

    async fn settle(&self, chunk: &[Delivery], sent: Sent, note: Attempt) -> Step {
        if sent.result == Err(Failure::Suspended) {
            return self.wait(chunk, sent.suspended_until).await;
        }
        match sent.verdict {
            Verdict::Done => {
                let note = Attempt { ending: Ending::Delivered, ..note };
                self.end(chunk, Outcome::Accepted, note, Step::Arrived).await
            }
            Verdict::Gone if self.plan.endpoint().is_some() => {
                let note = Attempt { ending: Ending::Disabled, ..note };
                self.end(chunk, Outcome::Released, note, Step::Gone).await
            }
            Verdict::Gone | Verdict::Final => {
                self.give_up(chunk, Some(classes(&sent.result).own()), note).await
            }
            Verdict::Again { .. } => self.again(chunk, &sent, note).await,
        }
    }

    /// The endpoint is suspended: nothing was sent.
    async fn wait(&self, chunk: &[Delivery], until: Option<Millis>) -> Step {
        let now = self.clock.now();
        let until = until.unwrap_or(now);
        let (outcome, hold_until) = match self.plan.endpoint() {
            Some(_) => (Outcome::Released, Some(until)),
            None => (Outcome::Requeued { delay_ms: until.since(now).max(1) }, None),
        };
        match self.give_back(chunk, outcome).await {
            Ok(()) => Step::Again { hold_until },
            Err(refusal) => Step::Refused(refusal.to_string()),
        }
    }

    /// Gives back what may be tried again, and gives up what was tried often enough.
    async fn again(&self, chunk: &[Delivery], sent: &Sent, note: Attempt) -> Step {
        let (now, retry) = (self.clock.now(), self.plan.retry(chunk));
        let (classes, chance) = (classes(&sent.result), os::random().unwrap_or_default() as u64);
        let retry_after_ms = match sent.verdict {
            Verdict::Again { retry_after_ms } => retry_after_ms,
            _ => None,
        };
        let pause_ms = |delivery: &Delivery| {
            let (attempt, age_ms) = (delivery.attempt.0, now.since(stored_at(delivery)));
            let is_last = self.attempts_max.is_some_and(|most| attempt >= most);
            let failed = Attempted { attempt, age_ms, classes: &classes, retry_after_ms, chance };
            retry.pause_ms(&failed).filter(|_| !is_last)
        };
        // What was sent together comes together again, after the longest of its pauses.
        let next_ms = chunk.iter().filter_map(pause_ms).max();
        let (rest, over): (Vec<Delivery>, Vec<Delivery>) =
            chunk.iter().cloned().partition(|delivery| pause_ms(delivery).is_some());
        let is_one = self.plan.endpoint().is_some();
        if !over.is_empty() {
            let note = Attempt { messages: over.len() as u32, ..note.clone() };
            let step = self.give_up(&over, Some(classes.own()), note).await;
            if rest.is_empty() || matches!(step, Step::Refused(_)) {
                return match step {
                    Step::Arrived if is_one && sent.suspended_until.is_some() => {
                        Step::Again { hold_until: sent.suspended_until }
                    }
                    step => step,
                };
            }
        }
        let next_ms = next_ms.unwrap_or_default();
        // In order, the pause is the pusher's: the message has to stay first. A source that orders by key keeps back that key alone.
        let delay_ms = if self.stays_first { 0 } else { next_ms };
        let suspended = sent.suspended_until.filter(|_| is_one);
        let hold_until = if self.stays_first { suspended.max(Some(now.plus(next_ms))) } else { suspended };
        let failure = broker::Failure {
            error: note.cause.as_deref().map(cut),
            class: Some(classes.own().to_owned()),
            delay_ms: Some(delay_ms),
        };
        let messages = rest.len() as u32;
        let note = Attempt { ending: Ending::Retried, next_ms: Some(next_ms), messages, ..note };
        self.end(&rest, Outcome::Failed(failure), note, Step::Again { hold_until }).await
    }

    /// To the dead letters, or, where there are none, back for a long time: nothing is dropped.
    async fn give_up(&self, chunk: &[Delivery], class: Option<&str>, note: Attempt) -> Step {
        let cause = note.cause.as_deref().map(cut).unwrap_or_default();
        let buried = Attempt { ending: Ending::DeadLettered, ..note.clone() };
        let settled = match &self.options.dead_letter {
            Some(address) => {
                let letters = vec![self.letters(chunk, address, &cause, class)];
                self.settle_all(chunk, &Outcome::Accepted, letters, &buried).await
            }
            None if self.has_dead_letters => {
                let rejected = Outcome::Rejected { error: Some(cause), class: class.map(str::to_owned) };
                self.settle_all(chunk, &rejected, Vec::new(), &buried).await
            }
            None => Err(Refusal::Stopped("there is no address for dead letters".into())),
        };
        if settled.is_ok() {
            self.tell(buried);
            return Step::Arrived;
        }
        let next_ms = self.plan.retry(chunk).most_ms();
        let delay_ms = if self.stays_first { 0 } else { next_ms };
        let hold_until = self.stays_first.then(|| self.clock.now().plus(next_ms));
        let note = Attempt { ending: Ending::Kept, next_ms: Some(next_ms), ..note };
        self.end(chunk, Outcome::Requeued { delay_ms }, note, Step::Again { hold_until }).await
    }

    /// Messages on their way to the push's own address for dead letters.
    fn letters(&self, chunk: &[Delivery], address: &Name, cause: &str, class: Option<&str>) -> Publish {
        let now = self.clock.now();
        let source = &self.options.source;
        let letter = |delivery| letter(delivery, source, address, (cause, class), now);
        let letters = chunk.iter().map(letter).collect();
        Publish { to: Target::Address(address.clone()), partition: None, payload: Payload::Messages(letters) }
    }

    fn outcomes(&self, chunk: &[Delivery], outcome: &Outcome) -> Settle {
        let one = |delivery: &Delivery| delivery.settlement(outcome.clone());
        Settle { source: self.options.source.clone(), settlements: chunk.iter().map(one).collect() }
    }

    /// What an attempt was about.
    fn tried(&self, chunk: &[Delivery]) -> Tried {
        let tags = chunk.iter().map(|delivery| delivery.tag.0).collect();
        match self.options.source.clone() {
            Source::Queue(queue) => Tried { queue: Some(queue), tags, ..Tried::default() },
            Source::Subscription(it) => Tried { subscription: Some(it), tags, ..Tried::default() },
        }
    }

    /// Settles what was not tried.
    async fn give_back(&self, chunk: &[Delivery], outcome: Outcome) -> Result<(), Refusal> {
        let Settle { source, settlements } = self.outcomes(chunk, &outcome);
        self.broker.settle(source, settlements).await
    }

    /// Settles, publishes and puts the attempt on record in one step; without the record, if that is what is refused.
    async fn settle_all(
        &self,
        chunk: &[Delivery],
        outcome: &Outcome,
        publishes: Vec<Publish>,
        note: &Attempt,
    ) -> Result<(), Refusal> {
        let settlements = vec![self.outcomes(chunk, outcome)];
        if let Some(record) = record::publish(&self.options.name, note, self.tried(chunk), self.clock.now()) {
            let publishes = publishes.iter().cloned().chain([record]).collect();
            let all = Transaction { publishes, settlements: settlements.clone() };
            if self.broker.transact(all).await.is_ok() {
                return Ok(());
            }
        }
        self.broker.transact(Transaction { publishes, settlements }).await.map(|_| ())
    }

    /// Settles after an attempt and tells the turn.
    async fn end(&self, chunk: &[Delivery], outcome: Outcome, note: Attempt, step: Step) -> Step {
        let settled = self.settle_all(chunk, &outcome, Vec::new(), &note).await;
        self.tell(note);
        match settled {
            Ok(()) => step,
            Err(refusal) => Step::Refused(refusal.to_string()),
        }
    }

    /// Keeps the attempt to be seen, and logs what failed.
    fn tell(&self, note: Attempt) {
        if note.ending != Ending::Delivered {
            tracing::info!(
                push = %self.options.name,
                endpoint = %note.endpoint,
                webhook_id = %note.webhook_id,
                attempt = note.attempt,
                status = note.status,
                ending = ?note.ending,
                next_ms = note.next_ms,
                "a webhook was not delivered"
            );
        }
        if let Some(ledger) = &self.live.ledger {
            ledger.note(&note);
        }
        self.live.history.add(note);
    }
}

/// As much of a cause as a dead letter tells.
fn cut(cause: &str) -> String {
    cause.chars().take(CAUSE_BYTES_MAX).collect()
}

/// A dead letter with the headers that the broker gives its own.
fn letter(
    delivery: &Delivery,
    source: &Source,
    dead_letter: &Name,
    (cause, class): (&str, Option<&str>),
    now: Millis,
) -> Message {
    let mut message = delivery.message.clone();
    let attempt = delivery.attempt;
    let death = Death { source, reason: "rejected", error: Some(cause), class, attempt, now };
    deaths::write(&mut message, &death);
    deaths::readdress(&mut message, "", Some(dead_letter.as_str()));
    message
}

fn highest_attempt(chunk: &[Delivery]) -> u32 {
    chunk.iter().map(|delivery| delivery.attempt.0).max().unwrap_or_default()
}
