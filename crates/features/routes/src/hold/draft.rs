//! A transaction of a step that holds messages: what leaves, what is settled for it, and what is noted.

use std::collections::BTreeMap;

use waystation_base::{Attempt, Headers, Message, Millis, Name, Tag};
use waystation_broker::{
    Source,
    command::{Outcome, Payload, Publish, Settle, Settlement, Target, Transaction},
};
use waystation_host::Delivery;

use super::{
    Holder,
    act::{Act, Part},
    combine::unheld,
    due::{Item, Task, Tried, Weight},
    groups,
    says::{GivenUp, Role, Says, Tries},
    sequence,
};
use crate::{
    engine::{Failing, letter},
    ids::Ids,
    live::Fate,
    record::{self, Ending, Record, Sent},
    run::Evaluation,
    spec::{Destination, Late},
};

/// The number of the step's own queue among its sources.
pub const OWN: usize = 0;
/// The number of the queue for replies among its sources.
pub const REPLIES: usize = 1;

/// A held message: from which of the step's sources, and as it was delivered.
#[derive(Debug)]
pub struct Held {
    pub source: usize,
    pub delivery: Delivery,
}

/// By what a held message is known.
pub type HeldId = (usize, Tag, Attempt);

impl Held {
    /// A message that was stored in the step's own queue just now, and that the step holds without having been handed it.
    pub fn stored(queue: &Name, tag: Tag, message: Message) -> Held {
        let (address, offset) = (queue.clone(), tag.offset());
        let (attempt, held_until, partition) = (Attempt(1), Millis(0), 0);
        let delivery = Delivery { tag, attempt, held_until, address, partition, offset, message };
        Held { source: OWN, delivery }
    }

    pub fn id(&self) -> HeldId {
        (self.source, self.delivery.tag, self.delivery.attempt)
    }

    pub fn weight(&self) -> Weight {
        Weight::of_item(self)
    }
}

impl Item for Held {
    fn bytes(&self) -> usize {
        self.delivery.message.size()
    }

    fn offset(&self) -> Option<u64> {
        (self.source == OWN).then_some(self.delivery.tag.offset().0)
    }
}

/// What is to be done in one transaction.
pub struct Draft {
    ids: Ids,
    now: Millis,
    outputs: BTreeMap<Destination, Vec<Message>>,
    records: Vec<Message>,
    settlements: [Vec<Settlement>; 2],
    fates: Vec<Fate>,
    /// What it adds to the step's own queue.
    pub markers: Weight,
}

impl Draft {
    pub fn new(ids: Ids, now: Millis) -> Draft {
        let (outputs, records, settlements) = (BTreeMap::new(), Vec::new(), [Vec::new(), Vec::new()]);
        let (fates, markers) = (Vec::new(), Weight::default());
        Draft { ids, now, outputs, records, settlements, fates, markers }
    }

    /// Adds a message, with an id of its own; gives that.
    fn send(&mut self, to: &Destination, message: Message) -> String {
        let message = Message { id: self.ids.next(), ..message };
        let id = message.id.to_string();
        self.outputs.entry(to.clone()).or_default().push(message);
        id
    }

    /// It is done with.
    fn settle(&mut self, held: &Held) {
        self.settlements[held.source].push(held.delivery.settlement(Outcome::Accepted));
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.outputs.is_empty()
    }

    /// What goes to an address: its number among what is published, and the messages.
    pub fn output_to(&self, name: &Name) -> Option<(usize, Vec<Message>)> {
        let at = self.outputs.keys().position(|destination| *destination == to(name))?;
        Some((at, self.outputs.get(&to(name))?.clone()))
    }

    /// What is to be published, by where it goes.
    pub fn outputs(&self) -> impl Iterator<Item = (&Destination, &Vec<Message>)> + Clone {
        self.outputs.iter()
    }

    /// The transaction; `sources` as the held ones number them.
    pub fn transaction(self, sources: &[Source]) -> (Transaction, Vec<Fate>) {
        let publish =
            |to: Target, messages| Publish { to, partition: None, payload: Payload::Messages(messages) };
        let outputs = self.outputs.into_iter().map(|(to, messages)| publish(to.target(), messages));
        let records =
            (!self.records.is_empty()).then(|| publish(Target::Address(record::topic()), self.records));
        let settlements = sources.iter().cloned().zip(self.settlements).filter(|(_, all)| !all.is_empty());
        let settlements = settlements.map(|(source, settlements)| Settle { source, settlements }).collect();
        (Transaction { publishes: outputs.chain(records).collect(), settlements }, self.fates)
    }
}

/// A destination that is an address.
fn to(name: &Name) -> Destination {
    Destination::Address(name.clone())
}

impl Holder {
    /// Adds an act to the transaction.
    pub(super) fn draft(&self, draft: &mut Draft, part: &Part<Held>) {
        let Part { act, evaluations, tried } = part;
        // With what gives it up there was no further attempt.
        let attempt = Attempt((tried.times + u32::from(tried.given_up.is_none())).max(1));
        act.all().chain(&tried.notes).for_each(|held| draft.settle(held));
        match act {
            Act::Group(groups::Act::Complete { key, remember_until, .. }) => {
                let inputs: Vec<&Held> = act.all().collect();
                evaluations.iter().for_each(|it| self.draft_evaluation(draft, &inputs, it, attempt));
                if let Some(until) = remember_until {
                    self.draft_marker(draft, key, until.0);
                }
            }
            Act::Sequence(sequence::Act::Release { key, items, next, .. }) => {
                for (index, (held, evaluation)) in items.iter().zip(evaluations).enumerate() {
                    // How it was tried is said of the first.
                    let attempt = if index == 0 { attempt } else { Attempt(1) };
                    self.draft_evaluation(draft, &[held], evaluation, attempt);
                }
                self.draft_marker(draft, key, *next);
            }
            Act::Group(groups::Act::Late { members, .. }) => self.draft_late(draft, members.iter()),
            Act::Sequence(sequence::Act::Late { item, .. }) => match evaluations.first() {
                Some(evaluation) => self.draft_evaluation(draft, &[item], evaluation, attempt),
                None => self.draft_late(draft, std::iter::once(item)),
            },
            Act::Group(groups::Act::Forget(_))
            | Act::Sequence(sequence::Act::Forget(_))
            | Act::Done { .. } => {}
        }
    }

    /// Notes how what is left was tried, so that a restart does not count anew; what was noted before leaves.
    pub(super) fn draft_tries(&self, draft: &mut Draft, left: &Task<Held>, next: Millis) {
        let Some(of) = left.first_offset() else { return };
        let Tried { times, since, notes, .. } = &left.tried;
        let (key, since) = (left.key.clone(), since.unwrap_or(draft.now));
        let note = Tries { key, times: *times, since, next, of };
        self.draft_own(draft, |headers| note.put(headers));
        notes.iter().for_each(|held| draft.settle(held));
    }

    /// Notes that an act is to be tried again.
    pub(super) fn draft_retry(
        &self,
        draft: &mut Draft,
        act: &Act<Held>,
        evaluation: &Evaluation,
        attempt: u32,
    ) {
        let first = act.is_release().then(|| act.all().next()).flatten();
        let Some(held) = first.or_else(|| act.all().last()) else { return };
        self.note(draft, held, (Ending::Retried, Attempt(attempt)), evaluation, Vec::new());
    }

    fn draft_marker(&self, draft: &mut Draft, key: &str, number: u64) {
        let says = Says { key: key.into(), role: Role::Marker, number: Some(number) };
        self.draft_own(draft, |headers| says.put(headers));
    }

    /// Adds a message without body to the step's own queue.
    fn draft_own(&self, draft: &mut Draft, put: impl FnOnce(&mut Headers)) {
        let mut message = Message::new(draft.ids.next(), draft.now, bytes::Bytes::new());
        put(&mut message.headers);
        draft.markers.add(Weight { messages: 1, bytes: message.size() });
        draft.send(&to(&self.plan.queue), message);
    }

    /// Notes that an act is given up which takes more than one transaction: should the server die between them, the rest is not taken for
    /// a group.
    pub(super) fn draft_note(&self, draft: &mut Draft, act: &Act<Held>, step: &str, error: &str) {
        let last = act.all().filter_map(Item::offset).max().unwrap_or_default();
        let mut replies: BTreeMap<u16, Tag> = BTreeMap::new();
        for tag in act.all().filter(|held| held.source == REPLIES).map(|held| held.delivery.tag) {
            let last = replies.entry(tag.log()).or_insert(tag);
            *last = (*last).max(tag);
        }
        let replies = replies.into_values().collect();
        let note = GivenUp { key: act.key(), last, replies, step, error };
        self.draft_own(draft, |headers| note.put(headers));
    }

    fn draft_late<'h>(&self, draft: &mut Draft, late: impl Iterator<Item = &'h Held>) {
        for held in late {
            tracing::debug!(route = %self.program.name, message = %held.delivery.message.id, "a message is late");
            draft.fates.push(Fate::Late);
            if self.plan.late != Late::Drop {
                let error = "it came after what it belonged to was complete";
                self.bury(draft, held, (&self.plan.at, error, None), Attempt(1));
            }
        }
    }

    fn bury(
        &self,
        draft: &mut Draft,
        held: &Held,
        (step, error, class): (&str, &str, Option<&str>),
        attempt: Attempt,
    ) {
        // A reply never was in the route's source.
        let source = match (held.source, &self.plan.replies) {
            (REPLIES, Some(replies)) => Source::Queue(replies.clone()),
            _ => self.source.clone(),
        };
        let failing = Failing { route: &self.program.name, source: &source, step, error, class, attempt };
        let letter = letter(unheld(&held.delivery), &failing, &self.dead_letter, draft.now);
        draft.send(&to(&self.dead_letter), letter);
    }

    /// What was made of some messages: outputs, or a dead letter for each of them.
    fn draft_evaluation(
        &self,
        draft: &mut Draft,
        inputs: &[&Held],
        evaluation: &Evaluation,
        attempt: Attempt,
    ) {
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
                    self.bury(draft, held, (step, &fault.reason, fault.class()), attempt);
                    draft.fates.push(Fate::Buried);
                }
                Ending::DeadLettered
            }
        };
        if let Some(last) = inputs.last() {
            self.note(draft, last, (ending, attempt), evaluation, sent);
        }
    }

    fn note(
        &self,
        draft: &mut Draft,
        held: &Held,
        (ending, attempt): (Ending, Attempt),
        evaluation: &Evaluation,
        sent: Vec<Sent>,
    ) {
        if !self.record {
            return;
        }
        let record = Record {
            route: self.program.name.as_str().into(),
            at: draft.now,
            message: held.delivery.message.id.to_string(),
            address: held.delivery.address.to_string(),
            attempt: attempt.0,
            ending,
            error: evaluation.fault.as_ref().map(|(_, fault)| fault.reason.clone()),
            trail: evaluation.trail.clone(),
            sent,
        };
        let id = draft.ids.next();
        draft.records.push(record.message(id));
    }
}
