//! How are messages that are done settled? Many in one transaction; if that is refused, one by one, so that only those meet the
//! refusal that cause it.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use waystation_base::{Chance, Clock, Message, Name};
use waystation_broker::{
    Source,
    command::{Outcome, Payload, Publish, Settle, Settlement, Target, Transaction},
    spec::RetryPolicy,
};
use waystation_host::Broker;

use super::{
    Done, Worker,
    decide::{Failing, Meaning, Verdict, decide, decide_refused, letter, meaning},
};
use crate::{
    Program,
    hold::{Entry, Full, NoRoom},
    ids::Ids,
    live::{Fate, Live, SOURCE},
    record::{self, Ending, Record, Sent},
    run::Output,
    spec::Destination,
    unstored::Unstored,
};

/// What settling needs.
pub(super) struct Settler {
    broker: Broker,
    clock: Arc<dyn Clock>,
    chance: Arc<dyn Chance>,
    route: Name,
    source: Source,
    dead_letter: Name,
    retry: RetryPolicy,
    record: bool,
    live: Arc<Live>,
    program: Arc<Program>,
    /// The route stops: nobody waits for room any more.
    is_ending: AtomicBool,
}

/// A transaction under construction.
#[derive(Default)]
struct Draft {
    /// By destination, in the order of the first message for each.
    outputs: Vec<(Destination, Vec<Message>)>,
    places: HashMap<Destination, usize>,
    records: Vec<Message>,
    settlements: Vec<Settlement>,
    fates: Vec<Fate>,
}

impl Settler {
    pub fn new(worker: &Worker) -> Settler {
        Settler {
            broker: worker.broker.clone(),
            clock: worker.tools.clock.clone(),
            chance: worker.tools.chance.clone(),
            route: worker.program.name.clone(),
            source: worker.source.clone(),
            dead_letter: worker.dead_letter.clone(),
            retry: worker.retry.clone(),
            record: worker.record,
            live: worker.live.clone(),
            program: worker.program.clone(),
            is_ending: AtomicBool::new(false),
        }
    }

    /// The route stops.
    pub fn end(&self) {
        self.is_ending.store(true, Relaxed);
    }

    /// Settles a batch, or says why nothing can be stored.
    pub async fn settle(&self, batch: Vec<Done>) -> Result<(), String> {
        let (now, chance) = (self.clock.now(), &*self.chance);
        let verdicts: Vec<Verdict> =
            batch.iter().map(|done| decide(done, &self.retry, now, chance)).collect();
        match self.commit(&batch, &verdicts).await {
            Ok(()) => return Ok(()),
            Err(Unstored::Refused(refusal)) if meaning(&refusal) == Meaning::Everything => {
                return Err(refusal.to_string());
            }
            Err(_) => {}
        }
        for (done, verdict) in batch.iter().zip(&verdicts) {
            self.settle_one(done, verdict).await?;
        }
        Ok(())
    }

    async fn settle_one(&self, done: &Done, verdict: &Verdict) -> Result<(), String> {
        let mut verdict = verdict.clone();
        // The outputs may be refused, then the dead letter; giving it back publishes nothing but a record.
        loop {
            let one = (std::slice::from_ref(done), std::slice::from_ref(&verdict));
            let refusal = match self.commit(one.0, one.1).await {
                Ok(()) => {
                    self.live.works(SOURCE);
                    return Ok(());
                }
                Err(Unstored::Refused(refusal)) => refusal,
                Err(unstored @ Unstored::NoRoom(_)) if self.is_ending.load(Relaxed) => {
                    return Err(unstored.why());
                }
                Err(Unstored::NoRoom(no_room)) => {
                    verdict = self.wait(verdict, no_room).await;
                    continue;
                }
            };
            verdict = match (meaning(&refusal), &verdict) {
                (Meaning::Everything, _) => return Err(refusal.to_string()),
                (Meaning::Lost, _) => return Ok(()),
                (_, Verdict::Send) => {
                    decide_refused(done, &self.retry, self.clock.now(), &*self.chance, &refusal)
                }
                (_, Verdict::Bury { error, .. }) => {
                    tracing::warn!(route = %self.route, dead_letter = %self.dead_letter, %refusal, "a failed message cannot be dead-lettered now; it is tried again");
                    Verdict::Again { delay_ms: self.retry.most_ms, error: format!("{error}; {refusal}") }
                }
                (_, Verdict::Again { .. }) => return Err(refusal.to_string()),
            };
        }
    }

    /// A step that holds messages has no room. That is no failure of the message, so it is no attempt: the source waits, and the route
    /// says why.
    async fn wait(&self, verdict: Verdict, no_room: NoRoom) -> Verdict {
        match &no_room.full {
            Full::Ever(why) => {
                Verdict::Bury { step: no_room.at.to_string(), error: why.clone(), class: None }
            }
            Full::Now(why) => {
                self.live.waits(SOURCE, format!("{}: {why}", no_room.at));
                no_room.freed().await;
                verdict
            }
        }
    }

    async fn commit(&self, batch: &[Done], verdicts: &[Verdict]) -> Result<(), Unstored> {
        let now = self.clock.now();
        let mut ids = Ids::draw(now, &*self.chance)?;
        let mut draft = Draft::default();
        for (done, verdict) in batch.iter().zip(verdicts) {
            self.draft(&mut draft, &mut ids, done, verdict);
        }
        let outputs = draft.outputs.iter().map(|(to, messages)| (to, messages));
        let entry = Entry::ask(self.program.holds.iter(), outputs).await?;
        let Draft { outputs, records, settlements, fates, .. } = draft;
        let publishes = outputs.into_iter().map(|(to, messages)| publish(to.target(), messages));
        let records = (!records.is_empty()).then(|| publish(Target::Address(record::topic()), records));
        let settlements = vec![Settle { source: self.source.clone(), settlements }];
        let transaction = Transaction { publishes: publishes.chain(records).collect(), settlements };
        self.broker.transact(transaction).await?;
        entry.stored();
        fates.into_iter().for_each(|fate| self.live.count(fate));
        Ok(())
    }

    /// Adds one message to the transaction.
    fn draft(&self, draft: &mut Draft, ids: &mut Ids, done: &Done, verdict: &Verdict) {
        let Done { delivery, evaluation } = done;
        let (mut sent, mut failed) = (Vec::new(), None);
        let (outcome, ending, fate) = match verdict {
            Verdict::Send => {
                for output in &evaluation.outputs {
                    let message = Message { id: ids.next(), ..output.message.clone() };
                    if self.record {
                        sent.push(Sent { to: output.to.to_string(), id: message.id.to_string() });
                    }
                    draft.send(&output.to, message);
                }
                let ending = if evaluation.outputs.is_empty() { Ending::Ended } else { Ending::Sent };
                (Outcome::Accepted, ending, fate(&evaluation.outputs))
            }
            Verdict::Bury { step, error, class } => {
                let (route, source, attempt) = (&self.route, &self.source, delivery.attempt);
                let failing = Failing { route, source, step, error, class: *class, attempt };
                let message = letter(delivery.message.clone(), &failing, &self.dead_letter, ids.now());
                tracing::info!(route = %self.route, message = %message.id, %step, %error, "a message failed");
                draft.send(&Destination::Address(self.dead_letter.clone()), message);
                failed = Some(error.clone());
                (Outcome::Accepted, Ending::DeadLettered, Fate::DeadLettered)
            }
            Verdict::Again { delay_ms, error } => {
                failed = Some(error.clone());
                (Outcome::Requeued { delay_ms: *delay_ms }, Ending::Retried, Fate::Retried)
            }
        };
        draft.settlements.push(delivery.settlement(outcome));
        draft.fates.push(fate);
        if self.record {
            let record = Record {
                route: self.route.as_str().into(),
                at: ids.now(),
                message: delivery.message.id.to_string(),
                address: delivery.address.to_string(),
                attempt: delivery.attempt.0,
                ending,
                error: failed,
                trail: evaluation.trail.clone(),
                sent,
            };
            draft.records.push(record.message(ids.next()));
        }
    }
}

impl Draft {
    fn send(&mut self, to: &Destination, message: Message) {
        match self.places.get(to) {
            Some(place) => self.outputs[*place].1.push(message),
            None => {
                self.places.insert(to.clone(), self.outputs.len());
                self.outputs.push((to.clone(), vec![message]));
            }
        }
    }
}

/// What goes to a queue of the route's own is held, and not sent yet.
fn fate(outputs: &[Output]) -> Fate {
    match outputs.iter().filter(|output| !output.to.name().is_reserved()).count() {
        0 if !outputs.is_empty() => Fate::Held,
        sent => Fate::Sent(sent),
    }
}

fn publish(to: Target, messages: Vec<Message>) -> Publish {
    Publish { to, partition: None, payload: Payload::Messages(messages) }
}
