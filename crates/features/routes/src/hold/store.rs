//! How is what a step lets go stored? Many acts in one transaction; if that is refused, one by one, so that only those meet the refusal that
//! cause it, and those are tried again as the route's policy says.

use std::{collections::VecDeque, sync::Arc};

use waystation_base::{Millis, Offset, Tag};
use waystation_broker::{
    Refusal,
    effect::Published,
    spec::retry::{Failed, Verdict},
};

use super::{
    Entry, Holder,
    act::{Act, Part},
    draft::{Draft, Held, HeldId, OWN},
    due::{Task, Tried, Weight},
    evaluate::Evaluated,
    groups,
};
use crate::{
    Fault, FaultKind,
    engine::{Meaning, class_of, clipped, meaning},
    ids::Ids,
    live::Fate,
    run,
    unstored::Unstored,
};

/// Milliseconds until it is tried again when nothing can be stored.
const AGAIN_MS: u64 = 1_000;
/// Milliseconds until it is tried again when a further step has no room.
const ROOM_MS: u64 = 200;

/// What came of acts of one key.
pub struct Stored {
    /// What is left of them.
    pub left: Task<Held>,
    /// How much is stored.
    pub stored: Weight,
    /// So much of it was in the step's own queue.
    pub own: Weight,
    /// So much was noted of tries.
    pub noted: Weight,
    /// What is not held any more.
    pub settled: Vec<HeldId>,
    /// When what is left is to be tried again.
    pub at: Option<Millis>,
    /// Nothing at all can be stored, and why.
    pub nothing: Option<String>,
    /// What failed for now, and where, if it is to be tried again for that.
    failed: Option<(Arc<str>, Fault)>,
}

/// Why a step lets go of nothing more until it has begun anew.
pub struct Lost(pub String);

/// What keeps something from being stored.
enum Stop {
    /// It may be had later.
    Later { step: Arc<str>, class: &'static str, fault: Fault },
    /// It is given up, and that cannot be stored now.
    Burial(String),
    /// A further step holds as much as it may.
    NoRoom(String),
    /// Nothing can.
    Nothing(String),
}

impl Holder {
    /// Stores what can be stored.
    pub(super) async fn store(&self, batch: Vec<Evaluated>) -> Result<Vec<Stored>, Lost> {
        let parts: Vec<&Part<Held>> = batch.iter().flat_map(|one| &one.parts).collect();
        let is_stored = match self.commit(&parts).await {
            Ok(()) => true,
            Err(unstored) if unstored.meaning() == Meaning::Lost => return Err(Lost(unstored.why())),
            Err(_) => false,
        };
        let mut all = Vec::with_capacity(batch.len());
        for one in batch {
            all.push(self.store_one(one, is_stored).await?);
        }
        self.note_retries(&mut all).await;
        Ok(all)
    }

    async fn store_one(&self, evaluated: Evaluated, is_stored: bool) -> Result<Stored, Lost> {
        let Evaluated { key, parts, mut left, mut tried, fault } = evaluated;
        let mut stored = Stored {
            left: Task { key, acts: VecDeque::new(), tried: Tried::default() },
            stored: Weight::default(),
            own: Weight::default(),
            noted: Weight::default(),
            settled: Vec::new(),
            at: None,
            nothing: None,
            failed: None,
        };
        let mut stop = fault.and_then(|(step, fault)| {
            let class = fault.class()?;
            Some(Stop::Later { step, class, fault })
        });
        let mut parts = VecDeque::from(parts);
        while let Some(part) = parts.pop_front() {
            if is_stored {
                stored.note(&part);
                continue;
            }
            if let Some((mut part, why)) = self.store_part(part, &mut stored).await? {
                tried = std::mem::take(&mut part.tried);
                if let Stop::Burial(_) = why {
                    tried.given_up = part.fault().cloned().map(Arc::new).or(tried.given_up);
                }
                stop = Some(why);
                parts.push_front(part);
                break;
            }
        }
        parts.into_iter().rev().for_each(|part| left.push_front(part.act));
        stored.left.acts = left;
        stored.left.tried = tried;
        if let Some(stop) = stop {
            self.judge(&mut stored, stop);
        }
        Ok(stored)
    }

    /// A part that is refused is cut in halves, again and again: there may be too much of it for one transaction, or for what it goes to. What
    /// cannot be cut and can never be stored is given up, and giving up may have to be cut in turn. What is left is whole again.
    async fn store_part(
        &self,
        part: Part<Held>,
        stored: &mut Stored,
    ) -> Result<Option<(Part<Held>, Stop)>, Lost> {
        let mut parts = vec![part];
        while let Some(part) = parts.pop() {
            let Err(unstored) = self.commit(&[&part]).await else {
                stored.note(&part);
                continue;
            };
            let meaning = unstored.meaning();
            // A failed group that finds no room now stays whole: half of it would be taken for a group.
            let is_group = matches!(part.act, Act::Group(groups::Act::Complete { .. }));
            let may_cut = meaning == Meaning::Never || meaning == Meaning::Later && !is_group;
            let part = match self.noted(part, is_group && meaning == Meaning::Never).await {
                Ok(part) => part,
                Err((part, why)) => return Ok(Some((joined(part, parts), why))),
            };
            let part = match if may_cut { part.halves() } else { Err(Box::new(part)) } {
                Ok([first, second]) => {
                    parts.extend([second, first]);
                    continue;
                }
                Err(part) if meaning == Meaning::Never && !part.has_failed() => {
                    parts.push(part.failed(&self.plan.at, &Fault::invalid(unstored.why())));
                    continue;
                }
                Err(part) => *part,
            };
            let why = unstored.why();
            let stop = match (meaning, unstored) {
                (Meaning::Lost, _) => return Err(Lost(why)),
                (Meaning::Everything, _) => Stop::Nothing(why),
                (_, Unstored::Refused(_)) if part.has_failed() => Stop::Burial(why),
                (_, Unstored::Refused(refusal)) => {
                    let (step, class) = (self.plan.at.clone(), class_of(&refusal));
                    Stop::Later { step, class, fault: Fault::new(FaultKind::Refused(class), why) }
                }
                (_, Unstored::NoRoom(_)) => Stop::NoRoom(why),
            };
            return Ok(Some((joined(part, parts), stop)));
        }
        Ok(None)
    }

    /// A failed group that is to be cut is noted as given up before.
    async fn noted(&self, mut part: Part<Held>, is_cut: bool) -> Result<Part<Held>, (Part<Held>, Stop)> {
        let Some((step, fault)) = part.fault().filter(|_| is_cut && !part.tried.is_noted).cloned() else {
            return Ok(part);
        };
        let noted = async {
            let mut draft = self.begin()?;
            self.draft_note(&mut draft, &part.act, &step, clipped(&fault.reason));
            self.transact(draft).await
        };
        match noted.await {
            Ok(_) => {
                part.tried = Tried { given_up: Some(Arc::new((step, fault))), is_noted: true, ..part.tried };
                Ok(part)
            }
            Err(refusal) if meaning(&refusal) == Meaning::Everything => {
                Err((part, Stop::Nothing(refusal.to_string())))
            }
            Err(refusal) => Err((part, Stop::Burial(refusal.to_string()))),
        }
    }

    /// When it is tried again, or that it is given up.
    fn judge(&self, stored: &mut Stored, stop: Stop) {
        let now = self.tools.clock.now();
        let tried = &mut stored.left.tried;
        let (step, class, fault) = match stop {
            Stop::Nothing(why) => {
                stored.at = Some(now.plus(AGAIN_MS));
                stored.nothing = Some(why);
                return;
            }
            Stop::NoRoom(why) => {
                tracing::debug!(route = %self.program.name, step = %self.plan.at, %why, "what a step lets go waits");
                stored.at = Some(now.plus(ROOM_MS));
                return;
            }
            Stop::Burial(why) => {
                tracing::warn!(route = %self.program.name, step = %self.plan.at, dead_letter = %self.dead_letter, %why, "what a step gave up cannot be dead-lettered now; it is tried again");
                stored.at = Some(now.plus(self.retry.most_ms));
                return;
            }
            Stop::Later { step, class, fault } => (step, class, fault),
        };
        tried.times += 1;
        let since = *tried.since.get_or_insert(now);
        let chance = self.tools.chance.draw().unwrap_or_default() as u64;
        let (attempt, age_ms) = (tried.times, now.since(since));
        let failed = Failed { attempt, age_ms, class: Some(class), delay_ms: None, chance };
        match self.retry.judge(&failed) {
            Verdict::Again { pause_ms } => {
                stored.at = Some(now.plus(pause_ms));
                self.live.count(Fate::Retried);
                stored.failed = Some((step, fault));
            }
            Verdict::GivenUp(_) => {
                let reason = format!("{} ({attempt} attempts)", fault.reason);
                tried.given_up = Some(Arc::new((step, Fault { reason, ..fault })));
            }
        }
    }

    /// Notes how often something was tried that is to be tried again, and puts on record why it did not go on. What cannot be noted is no
    /// loss to messages: after a restart it is tried once more.
    async fn note_retries(&self, all: &mut [Stored]) {
        let Ok(mut draft) = self.begin() else { return };
        for Stored { left, failed, at, .. } in &*all {
            if let (Some(act), Some((step, fault))) = (left.acts.front(), failed) {
                let evaluation = run::failed(step.clone(), fault.clone());
                self.draft_retry(&mut draft, act, &evaluation, left.tried.times);
                self.draft_tries(&mut draft, left, at.unwrap_or_default());
            }
        }
        if draft.is_empty() {
            return;
        }
        let notes = draft.output_to(&self.plan.queue);
        let Ok(published) = self.transact(draft).await else { return };
        let Some((at, notes)) = notes else { return };
        let notes = published.get(at).into_iter().flat_map(tags).zip(notes);
        let noted = all.iter_mut().filter(|one| one.failed.is_some() && one.left.first_offset().is_some());
        for (one, (tag, note)) in noted.zip(notes) {
            one.replace_note(Held::stored(&self.plan.queue, tag, note));
        }
    }

    fn begin(&self) -> Result<Draft, Refusal> {
        let now = self.tools.clock.now();
        Ok(Draft::new(Ids::draw(now, &*self.tools.chance)?, now))
    }

    async fn commit(&self, parts: &[&Part<Held>]) -> Result<(), Unstored> {
        if parts.is_empty() {
            return Ok(());
        }
        let mut draft = self.begin()?;
        parts.iter().for_each(|part| self.draft(&mut draft, part));
        // What goes on may come to a further step that holds messages.
        let others = self.program.holds.iter().filter(|plan| plan.queue != self.plan.queue);
        let entry = Entry::ask(others, draft.outputs()).await?;
        self.transact(draft).await?;
        entry.stored();
        Ok(())
    }

    async fn transact(&self, draft: Draft) -> Result<Vec<Published>, Refusal> {
        let markers = draft.markers;
        let (transaction, fates) = draft.transaction(&self.sources());
        let published = self.broker.transact(transaction).await?;
        self.plan.room.add(markers);
        fates.into_iter().for_each(|fate| self.live.count(fate));
        Ok(published)
    }
}

/// Where the messages of one publish are, in their order.
fn tags(published: &Published) -> impl Iterator<Item = Tag> {
    let stretches = published.stretches.iter();
    stretches.flat_map(|(log, first, count)| {
        (0..u64::from(*count)).map(move |n| Tag::new(*log, Offset(first.0 + n)))
    })
}

/// What was cut and is not stored, as one.
fn joined(part: Part<Held>, rest: Vec<Part<Held>>) -> Part<Held> {
    rest.into_iter().rev().fold(part, |first, next| Part { act: first.act.join(next.act), ..first })
}

impl Stored {
    fn note(&mut self, part: &Part<Held>) {
        part.act.all().chain(&part.tried.notes).for_each(|held| self.note_one(held));
    }

    fn note_one(&mut self, held: &Held) {
        self.stored.add(held.weight());
        if held.source == OWN {
            self.own.add(held.weight());
        }
        self.settled.push(held.id());
    }

    /// What was noted before has left for something newer.
    fn replace_note(&mut self, note: Held) {
        self.noted.add(note.weight());
        let before = std::mem::replace(&mut self.left.tried.notes, vec![note]);
        before.iter().for_each(|note| self.note_one(note));
    }
}
