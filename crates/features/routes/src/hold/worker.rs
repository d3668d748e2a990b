//! How does a step run that holds messages? It consumes its queue without settling, decides by what it holds and by the clock, and lets go
//! in transactions: what leaves, and the settlement of all that it is made of.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{sync::watch, time};
use waystation_base::{Millis, Name, os};
use waystation_broker::{Refusal, SessionId, Source, command::Hold};
use waystation_host::{Broker, Consumer, Event};

use super::{
    Plan,
    act::{Act, Part},
    combine::{Whole, combine, unheld},
    draft::{Draft, Held, to},
    groups::{self, Groups},
    plan::Rules,
    says::{MISSED, Role, Says},
    sequence::{self, Sequences},
};
use crate::{
    Fault, FaultKind, Program, RouteState, Tools,
    engine::{Meaning, letter_of, meaning},
    ids::Ids,
    limits::{BATCH_MESSAGES_MAX, HELD_BYTES_MAX},
    live::{Fate, Live},
    packet::Packet,
    record::{Ending, Record, Sent},
    run::{self, Evaluation, Say},
    spec::Late,
    trial::stored_at,
};

/// How long to wait before looking again for what is not there.
const AGAIN: Duration = Duration::from_secs(1);
/// How long to wait for a message that should come back at the beginning.
const BACK: Duration = Duration::from_secs(5);
/// How many deliveries may be held: more than what may wait and be held together.
const CREDIT: u32 = waystation_base::limits::CREDIT_MAX;

/// Runs one step of a route that holds messages.
pub(crate) struct Holder {
    pub broker: Broker,
    pub tools: Tools,
    pub program: Arc<Program>,
    pub plan: Plan,
    pub dead_letter: Name,
    pub record: bool,
    pub live: Arc<Live>,
}

/// What the step knows.
enum State {
    Groups(Groups<Held>),
    Sequences(Sequences<Held>),
}

impl Holder {
    /// Works until it is told to stop (or the teller is gone).
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let session = self.broker.session();
            let left = self.hold(session, &mut stop).await;
            // What it still held comes back.
            let _ = self.broker.close_session(session).await;
            let Err(why) = left else { return };
            tracing::warn!(route = %self.program.name, step = %self.plan.at, %why, "a step waits");
            self.live.set(RouteState::Waiting, Some(format!("{}: {why}", self.plan.at)));
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = time::sleep(AGAIN) => {}
            }
        }
    }

    fn sources(&self) -> Vec<Source> {
        std::iter::once(&self.plan.queue).chain(&self.plan.replies).cloned().map(Source::Queue).collect()
    }

    /// Works until it is told to stop, or says why it cannot.
    async fn hold(&self, session: SessionId, stop: &mut watch::Receiver<bool>) -> Result<(), String> {
        let mut turn = Turn::attach(self, session).await.map_err(|refusal| refusal.to_string())?;
        turn.rebuild().await?;
        self.live.set(RouteState::Active, None);
        turn.go(stop).await
    }
}

async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A teller that is gone says the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One time of being attached.
struct Turn<'a> {
    holder: &'a Holder,
    own: Consumer,
    replies: Option<Consumer>,
    /// How many messages should come back from each.
    back: [u64; 2],
    state: State,
    acts: VecDeque<Act<Held>>,
    held_bytes: usize,
}

impl<'a> Turn<'a> {
    async fn attach(holder: &'a Holder, session: SessionId) -> Result<Turn<'a>, Refusal> {
        let (mut back, mut consumers) = ([0; 2], Vec::new());
        for (index, source) in holder.sources().into_iter().enumerate() {
            let info = holder.broker.queue(source.name().clone()).await?;
            back[index] = info.ready + info.in_flight;
            consumers.push(holder.broker.consume(source, CREDIT, Hold::Attached, session).await?);
        }
        let mut consumers = consumers.into_iter();
        let Some(own) = consumers.next() else { unreachable!("a step has a queue") };
        let state = match holder.plan.rules {
            Rules::Groups(rules) => State::Groups(Groups::new(rules)),
            Rules::Sequences(rules) => State::Sequences(Sequences::new(rules)),
        };
        let replies = consumers.next();
        Ok(Turn { holder, own, replies, back, state, acts: VecDeque::new(), held_bytes: 0 })
    }

    fn now(&self) -> Millis {
        self.holder.tools.clock.now()
    }

    /// Takes what was held before, all of it before anything is decided: a marker may stand behind what it speaks of.
    async fn rebuild(&mut self) -> Result<(), String> {
        let mut held: Vec<(Held, Option<Says>)> = Vec::new();
        for (source, expected) in self.back.into_iter().enumerate() {
            // Replies that wait were not held by anybody; they come when they come.
            let Some(consumer) = (if source == 0 { Some(&mut self.own) } else { None }) else { continue };
            let mut came = 0;
            while came < expected {
                match time::timeout(BACK, consumer.next()).await {
                    Ok(Some(Event::Messages(messages))) => {
                        came += messages.len() as u64;
                        held.extend(messages.into_iter().map(|delivery| {
                            let says = Says::read(&delivery.message.headers);
                            (Held { source, delivery }, says)
                        }));
                    }
                    Ok(Some(Event::Unreadable(why))) => return Err(why),
                    Ok(Some(Event::Closed(_)) | None) => return Err("its queue is gone".to_owned()),
                    // Somebody took it away.
                    Err(_) => break,
                }
            }
        }
        let is_marker = |says: &Option<Says>| says.as_ref().is_some_and(|says| says.role == Role::Marker);
        let (markers, others): (Vec<_>, Vec<_>) = held.into_iter().partition(|(_, says)| is_marker(says));
        for (held, says) in markers.into_iter().chain(others) {
            self.put(held, says).await?;
        }
        self.work().await
    }

    async fn go(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), String> {
        loop {
            let due = match &self.state {
                State::Groups(groups) => groups.due(),
                State::Sequences(sequences) => sequences.due(),
            };
            let pause = due.map(|due| Duration::from_millis(due.0.saturating_sub(self.now().0)));
            let (source, event) = tokio::select! {
                () = stopped(stop) => return Ok(()),
                event = self.own.next() => (0, event),
                event = next_of(&mut self.replies) => (1, event),
                () = time::sleep(pause.unwrap_or_default()), if pause.is_some() => {
                    self.work().await?;
                    continue;
                }
            };
            match event {
                Some(Event::Messages(messages)) => {
                    for delivery in messages {
                        let says = match source {
                            0 => Says::read(&delivery.message.headers),
                            _ => reply_says(&delivery),
                        };
                        self.put(Held { source, delivery }, says).await?;
                    }
                }
                Some(Event::Unreadable(why)) => return Err(why),
                Some(Event::Closed(_)) | None => return Err("its queue is gone".to_owned()),
            }
            self.work().await?;
        }
    }

    /// Takes a message.
    async fn put(&mut self, held: Held, says: Option<Says>) -> Result<(), String> {
        let at = stored_at(held.delivery.message.id.as_bytes());
        let Some(says) = says else {
            // A reply that answers nothing, or what is no message of this step.
            self.acts.push_back(Act::Group(groups::Act::Late { key: "".into(), members: vec![held] }));
            return Ok(());
        };
        self.held_bytes += held.delivery.message.size();
        let number = says.number.unwrap_or_default();
        match &mut self.state {
            State::Groups(groups) => {
                let role = match says.role {
                    Role::Marker => groups::Role::Marker { until: Millis(number) },
                    Role::Opener => groups::Role::Opener { size: number },
                    role => groups::Role::Member { size: says.number, last: role == Role::Last },
                };
                groups.put(groups::Facts { key: says.key, at, role }, held);
                if self.held_bytes > HELD_BYTES_MAX {
                    groups.relieve();
                }
            }
            State::Sequences(sequences) => {
                let marker = says.role == Role::Marker;
                sequences.put(sequence::Facts { key: says.key, at, number, marker }, held);
                if self.held_bytes > HELD_BYTES_MAX {
                    sequences.relieve(at);
                }
            }
        }
        self.collect();
        Ok(())
    }

    /// Takes over what is to be done.
    fn collect(&mut self) {
        let now = self.now();
        match &mut self.state {
            State::Groups(groups) => {
                self.acts.extend(std::iter::from_fn(|| groups.next(now)).map(Act::Group))
            }
            State::Sequences(all) => self.acts.extend(std::iter::from_fn(|| all.next()).map(Act::Sequence)),
        }
    }

    /// Does what is to be done by now.
    async fn work(&mut self) -> Result<(), String> {
        let now = self.now();
        match &mut self.state {
            State::Groups(groups) => groups.tick(now),
            State::Sequences(sequences) => sequences.tick(now),
        }
        self.collect();
        while !self.acts.is_empty() {
            let (mut batch, mut count) = (Vec::new(), 0);
            while let Some(act) = self.acts.front() {
                count += act.all().count();
                if !batch.is_empty() && count > BATCH_MESSAGES_MAX {
                    break;
                }
                batch.extend(self.acts.pop_front());
            }
            let bytes: usize = batch.iter().flat_map(Act::all).map(|held| held.delivery.message.size()).sum();
            self.settle(batch).await?;
            self.held_bytes = self.held_bytes.saturating_sub(bytes);
        }
        Ok(())
    }

    /// Many in one transaction; if that is refused, one by one, so that only those meet the refusal that cause it.
    async fn settle(&self, batch: Vec<Act<Held>>) -> Result<(), String> {
        let mut parts = Vec::with_capacity(batch.len());
        for act in batch {
            let evaluations = self.holder.evaluate(&act).await?;
            parts.push(Part { act, evaluations });
        }
        match self.commit(&parts).await {
            Ok(()) => return Ok(()),
            Err(refusal) if !is_of_messages(&refusal) => return Err(refusal.to_string()),
            Err(_) => {}
        }
        for part in parts {
            self.settle_one(part).await?;
        }
        Ok(())
    }

    /// An act that is refused is cut in halves, again and again: there may be too much of it for one transaction, or for what it goes to. What
    /// cannot be cut and can never be stored is given up, and giving up may have to be cut in turn.
    async fn settle_one(&self, part: Part<Held>) -> Result<(), String> {
        let mut parts = vec![part];
        while let Some(part) = parts.pop() {
            let Err(refusal) = self.commit(std::slice::from_ref(&part)).await else { continue };
            if !is_of_messages(&refusal) {
                return Err(refusal.to_string());
            }
            // A failed group that finds no room now stays whole: half of it would be taken for a group.
            let is_group = matches!(part.act, Act::Group(groups::Act::Complete { .. }));
            let is_never = meaning(&refusal) == Meaning::Never;
            match if is_group && !is_never { Err(part) } else { part.halves() } {
                Ok([first, second]) => parts.extend([second, first]),
                Err(part) if is_never && !part.has_failed() => {
                    parts.push(part.failed(&self.holder.plan.at, &Fault::invalid(&refusal)));
                }
                Err(_) => return Err(refusal.to_string()),
            }
        }
        Ok(())
    }

    async fn commit(&self, parts: &[Part<Held>]) -> Result<(), Refusal> {
        let random = os::random().map_err(|error| Refusal::Stopped(format!("no randomness: {error}")))?;
        let now = self.now();
        let mut draft = Draft::new(Ids::new(now, random), now);
        for part in parts {
            self.holder.draft(&mut draft, &part.act, &part.evaluations);
        }
        let (transaction, fates) = draft.transaction(&self.holder.sources());
        self.holder.broker.transact(transaction).await?;
        fates.into_iter().for_each(|fate| self.holder.live.count(fate));
        Ok(())
    }
}

/// Whether it is refused for what it is, and not because nothing can be stored or because the step no longer holds it.
fn is_of_messages(refusal: &Refusal) -> bool {
    matches!(meaning(refusal), Meaning::Never | Meaning::Later)
}

async fn next_of(consumer: &mut Option<Consumer>) -> Option<Event> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}

/// A reply belongs to the request whose correlation id it has.
fn reply_says(delivery: &waystation_host::Delivery) -> Option<Says> {
    let key = delivery.message.headers.text(waystation_base::message::header::CORRELATION_ID)?;
    Some(Says { key: key.into(), role: Role::Member, number: None })
}

impl Holder {
    /// What the steps behind make of what is let go: one evaluation for each message that goes on.
    async fn evaluate(&self, act: &Act<Held>) -> Result<Vec<Evaluation>, String> {
        let mut evaluations = Vec::new();
        match act {
            Act::Group(groups::Act::Complete { key, end, opener, members, .. }) => {
                let opener = opener.as_ref().map(|held| &held.delivery);
                let members = members.iter().map(|held| &held.delivery).collect();
                let whole = Whole { key, end: *end, opener, members };
                let body = self.plan.body.as_ref();
                let combined = combine(&self.program, &self.tools, body, &self.plan.queue, &whole).await;
                evaluations.push(match combined {
                    Ok(packet) => self.rest(packet).await,
                    Err(fault) => run::failed(self.plan.at.clone(), fault),
                });
            }
            Act::Sequence(sequence::Act::Release { items, missed, .. }) => {
                for (index, held) in items.iter().enumerate() {
                    let mut message = unheld(&held.delivery);
                    if index == 0 && *missed > 0 {
                        message.headers.set(MISSED, *missed as i64);
                    }
                    evaluations.push(self.rest(Packet::new(self.plan.queue.clone(), message)).await);
                }
            }
            Act::Sequence(sequence::Act::Late { item, .. }) if self.plan.late == Late::Own => {
                let message = unheld(&item.delivery);
                evaluations.push(self.rest(Packet::new(self.plan.queue.clone(), message)).await);
            }
            _ => {}
        }
        let passing = evaluations
            .iter()
            .find_map(|it| it.fault.as_ref().filter(|(_, it)| it.kind == FaultKind::Passing));
        match passing {
            // Not the messages' fault: they stay, and it is tried again.
            Some((at, fault)) => Err(format!("{at}: {}", fault.reason)),
            None => Ok(evaluations),
        }
    }

    async fn rest(&self, packet: Packet) -> Evaluation {
        let steps = &self.program.steps[self.plan.step + 1..];
        run::evaluate_steps(&self.program, &self.tools, steps, packet, Say::why(self.record)).await
    }

    /// Adds an act to the transaction.
    fn draft(&self, draft: &mut Draft, act: &Act<Held>, evaluations: &[Evaluation]) {
        act.all().for_each(|held| draft.settle(held));
        match act {
            Act::Group(groups::Act::Complete { key, remember_until, .. }) => {
                let inputs: Vec<&Held> = act.all().collect();
                evaluations.iter().for_each(|it| self.draft_evaluation(draft, &inputs, it));
                if let Some(until) = remember_until {
                    self.draft_marker(draft, key, until.0);
                }
            }
            Act::Sequence(sequence::Act::Release { key, items, next, .. }) => {
                for (held, evaluation) in items.iter().zip(evaluations) {
                    self.draft_evaluation(draft, &[held], evaluation);
                }
                self.draft_marker(draft, key, *next);
            }
            Act::Group(groups::Act::Late { members, .. }) => self.draft_late(draft, members.iter()),
            Act::Sequence(sequence::Act::Late { item, .. }) => match evaluations.first() {
                Some(evaluation) => self.draft_evaluation(draft, &[item], evaluation),
                None => self.draft_late(draft, std::iter::once(item)),
            },
            Act::Group(groups::Act::Forget(_)) | Act::Sequence(sequence::Act::Forget(_)) => {}
        }
    }

    fn draft_marker(&self, draft: &mut Draft, key: &str, number: u64) {
        let mut marker = waystation_base::Message::new(draft.ids.next(), draft.now, bytes::Bytes::new());
        Says { key: key.into(), role: Role::Marker, number: Some(number) }.put(&mut marker.headers);
        draft.send(&to(&self.plan.queue), marker);
    }

    fn draft_late<'h>(&self, draft: &mut Draft, late: impl Iterator<Item = &'h Held>) {
        for held in late {
            tracing::debug!(route = %self.program.name, message = %held.delivery.message.id, "a message is late");
            draft.fates.push(Fate::Late);
            if self.plan.late != Late::Drop {
                let error = "it came after what it belonged to was complete";
                self.bury(draft, held, &self.plan.at, error);
            }
        }
    }

    fn bury(&self, draft: &mut Draft, held: &Held, step: &str, error: &str) {
        let source = self.sources()[held.source].name().clone();
        let (route, attempt) = (self.program.name.as_str(), held.delivery.attempt.0);
        let letter =
            letter_of(unheld(&held.delivery), attempt, route, source.as_str(), step, error, draft.now);
        draft.send(&to(&self.dead_letter), letter);
    }

    /// What was made of some messages: outputs, or a dead letter for each of them.
    fn draft_evaluation(&self, draft: &mut Draft, inputs: &[&Held], evaluation: &Evaluation) {
        let mut sent = Vec::new();
        let ending = match &evaluation.fault {
            None => {
                for output in &evaluation.outputs {
                    let id = draft.send(&output.to, output.message.clone());
                    sent.push(Sent { to: output.to.to_string(), id });
                }
                draft.fates.push(Fate::Released(evaluation.outputs.len()));
                if evaluation.outputs.is_empty() { Ending::Ended } else { Ending::Sent }
            }
            Some((step, fault)) => {
                for held in inputs {
                    self.bury(draft, held, step, &fault.reason);
                    draft.fates.push(Fate::Buried);
                }
                Ending::DeadLettered
            }
        };
        let Some(last) = inputs.last().filter(|_| self.record) else { return };
        draft.note(&Record {
            route: self.program.name.as_str().into(),
            at: draft.now,
            message: last.delivery.message.id.to_string(),
            address: last.delivery.address.to_string(),
            attempt: last.delivery.attempt.0,
            ending,
            error: evaluation.fault.as_ref().map(|(_, fault)| fault.reason.clone()),
            trail: evaluation.trail.clone(),
            sent,
        });
    }
}
