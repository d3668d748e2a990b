//! One step of a redrive: dead letters that are meant, brought to where they go, in one transaction.

use std::collections::BTreeMap;

use smol_str::SmolStr;
use waystation_base::{Name, Tag};
use waystation_broker::{
    Kind, Refusal, SessionId, Source,
    command::{Outcome, Payload, Publish, Settle, Settlement, Transaction},
    spec::{Spec as Declaration, TopicSpec},
};
use waystation_host::{Browse, Delivery, Target};

use super::{
    edit::{Editor, Unchanged},
    outgoing,
    record::{ORIGINALS, own},
    spec::Spec,
    work::{Step, Work},
};
use crate::{
    letter::{Letter, OriginKind, SUBSCRIPTION},
    letters,
    limits::{BATCH_BYTES, BATCH_MESSAGES, TARGETS_MAX},
};

/// Steps in which a rate lets a second's messages go.
const STEPS_PER_SECOND: u32 = 10;

/// Somebody was given the message since it was looked at, or has settled it.
pub(super) const TAKEN: &str = "somebody was given it meanwhile";

/// Where a dead letter can be brought, and what that is called.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Goal {
    pub to: Name,
    pub shown: String,
}

/// What a letter is meant for, before it is known what is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Aim {
    pub name: Name,
    /// What failed there; none: the letter does not say, or the redrive names where to.
    pub kind: Option<OriginKind>,
}

impl Goal {
    fn address(name: &Name) -> Goal {
        Goal { to: name.clone(), shown: name.to_string() }
    }

    /// Where letters lie that went to what is called so.
    pub fn place(shown: &str) -> Option<Name> {
        let name = SmolStr::new(shown.strip_prefix(SUBSCRIPTION).unwrap_or(shown));
        let name = Name::try_from(name).ok()?;
        if shown.starts_with(SUBSCRIPTION) { name.redriven().ok() } else { Some(name) }
    }
}

/// Milliseconds for which what came back to a subscription is kept for it.
const REDRIVEN_MS: u64 = 30 * 24 * 60 * 60 * 1000;

/// What each aim comes to.
type Goals = BTreeMap<Aim, Result<Goal, String>>;

/// A dead letter on its way.
struct Going {
    delivery: Delivery,
    goal: Goal,
    message: waystation_base::Message,
}

/// Where a letter goes, or why it stays.
pub(super) fn aim(spec: &Spec, queue: &Name, letter: &Letter) -> Result<Aim, String> {
    let aim = match (&spec.to, &letter.origin) {
        (Some(to), _) => Aim { name: to.clone(), kind: None },
        (None, None) => {
            return Err("it does not say where it failed: name a queue or topic to bring it to".into());
        }
        (None, Some(origin)) => {
            let kind = letter.origin_kind;
            // A route with steps may have a subscription of its own.
            let name = match kind {
                Some(OriginKind::Subscription) => Name::try_from(SmolStr::new(origin)),
                _ => Name::new(origin),
            };
            let name = name.map_err(|error| format!("its origin '{origin}' is no name: {error}"))?;
            Aim { name, kind }
        }
    };
    if aim.name == *queue && aim.kind != Some(OriginKind::Subscription) {
        return Err("it would go where it is".into());
    }
    Ok(aim)
}

/// What a letter is brought to by what is there under the name that it is meant for; or why it stays.
pub(super) fn goal(
    to_origin: bool,
    aim: &Aim,
    address: Option<Kind>,
    is_subscription: bool,
) -> Result<Goal, String> {
    let name = &aim.name;
    match (aim.kind, address) {
        (Some(OriginKind::Subscription), _) if is_subscription => of_subscription(name),
        (Some(OriginKind::Subscription), _) => {
            Err(format!("the subscription '{name}' is not there any more: name a queue or topic"))
        }
        (Some(OriginKind::Queue), Some(Kind::Queue)) => Ok(Goal::address(name)),
        (Some(OriginKind::Queue), _) => {
            Err(format!("the queue '{name}' is not there any more: name a queue or topic"))
        }
        (None, Some(Kind::Topic)) if to_origin => Err(of_topic(name)),
        (None, Some(_)) => Ok(Goal::address(name)),
        (None, None) if to_origin && is_subscription => of_subscription(name),
        (None, None) => Err(no_address(name)),
    }
}

fn of_subscription(name: &Name) -> Result<Goal, String> {
    let to = name.redriven().map_err(|error| {
        format!("it failed in the subscription '{name}', whose name is too long to bring it back there ({error}): name a queue or topic")
    })?;
    Ok(Goal { to, shown: format!("{SUBSCRIPTION}{name}") })
}

/// Why nothing can be brought to a name.
pub(super) fn no_address(name: &Name) -> String {
    format!("there is no queue or topic '{name}'")
}

/// The goal, if whoever began the redrive may publish there; `may` as [`Goal::shown`] says it.
pub(super) fn allowed(may: Option<&[String]>, goal: Goal) -> Result<Goal, String> {
    match may.is_some_and(|may| !may.contains(&goal.shown)) {
        true => Err(format!("who began this may not publish to '{}'", goal.shown)),
        false => Ok(goal),
    }
}

/// Why nothing goes back to a topic that was not named.
pub(super) fn of_topic(name: &Name) -> String {
    format!(
        "it failed on its way from the topic '{name}', whose subscribers would all get it again: name that, or another, to bring it to"
    )
}

impl Work {
    pub(super) async fn forward_step(&mut self) -> Result<Step, Refusal> {
        let redrive = &self.record.redrive;
        let left = redrive.spec.max.map_or(u64::MAX, |max| max.saturating_sub(redrive.moved));
        let Some(queue) = self.record.walk.queue().cloned() else { return Ok(Step::Finished) };
        if left == 0 {
            return Ok(Step::Finished);
        }
        let by_rate = redrive.spec.rate.map_or(u32::MAX, |rate| rate.div_ceil(STEPS_PER_SECOND));
        let room = self
            .batch
            .min(BATCH_MESSAGES)
            .min(by_rate as usize)
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let page = match self.look(&queue, room).await {
            Err(Refusal::NotFound { kind: Kind::Queue, .. }) => {
                // It is gone with all that was in it.
                self.record.walk.go_on(None);
                return Ok(Step::Moved(0));
            }
            page => page?,
        };
        self.move_page(queue, page).await
    }

    /// Messages that are meant, at most `room`; how many were looked at; and where to go on.
    async fn look(&self, queue: &Name, room: usize) -> Result<(Vec<Delivery>, u64, Option<Tag>), Refusal> {
        let (redrive, walk) = (&self.record.redrive, &self.record.walk);
        let (deliveries, mut next) =
            match self.record.by_groups.then(|| redrive.spec.asked(vec![queue.clone()])).flatten() {
                Some(asked) => {
                    let (tags, more) = self.letters.places(queue.clone(), asked, walk.from(), room).await?;
                    let after = |tag: &Tag| Tag::new(tag.log(), tag.offset().next());
                    let (messages, rest) = letters::read(&self.broker, queue, &tags, BATCH_BYTES).await?;
                    (messages, rest.or_else(|| tags.last().filter(|_| more).map(after)))
                }
                None => {
                    let browse = Browse {
                        from: walk.from(),
                        max: BATCH_MESSAGES,
                        bytes_max: BATCH_BYTES,
                        ..Browse::default()
                    };
                    let page = self.broker.browse(Target::Queue(queue.clone()), browse).await?;
                    (page.messages, page.next)
                }
            };
        let (mut chosen, mut looked) = (Vec::new(), 0);
        for delivery in deliveries {
            if !walk.has(delivery.tag) {
                // Whatever comes after it in its log came later too.
                if next.is_none_or(|next| next.log() == delivery.tag.log()) {
                    next = Some(delivery.tag);
                }
                continue;
            }
            let letter = Letter::of(&delivery.message);
            if redrive.spec.which.has(queue.as_str(), &delivery.message, &letter) {
                if chosen.len() == room {
                    next = Some(delivery.tag);
                    break;
                }
                chosen.push(delivery);
            }
            looked += 1;
        }
        Ok((chosen, looked, next))
    }

    /// Moves what can be moved, notes what stays, and goes on.
    async fn move_page(
        &mut self,
        queue: Name,
        (chosen, looked, next): (Vec<Delivery>, u64, Option<Tag>),
    ) -> Result<Step, Refusal> {
        let mut record = self.record.clone();
        record.redrive.looked += looked;
        record.walk.go_on(next);
        if chosen.is_empty() {
            // Not worth a write: after a crash it is looked at again.
            self.record = record;
            return Ok(Step::Moved(0));
        }
        let goals = self.goals(&queue, &chosen).await?;
        self.set_up_goals(&goals).await?;
        let editor = match &self.editor {
            Ok(editor) => editor.clone(),
            Err(invalid) => return Ok(Step::Rest(invalid.to_string())),
        };
        let each = chosen.into_iter().map(|delivery| self.prepare(&queue, delivery, &goals, editor.as_ref()));
        let prepared = futures_util::future::join_all(each).await;
        let mut going = Vec::new();
        for one in prepared {
            match one {
                Ok(one) => going.push(one),
                Err(Unchanged::Never(reason)) => record.redrive.leave(&reason, 1),
                Err(Unchanged::Now(reason)) => return Ok(Step::Wait(reason)),
            }
        }
        loop {
            let mut moved = record.clone();
            moved.redrive.moved += going.len() as u64;
            for one in &going {
                *moved.redrive.targets.entry(one.goal.shown.clone()).or_default() += 1;
            }
            let transaction = self.transaction(&queue, &going);
            match self.commit(moved, transaction).await {
                Ok(_) => return Ok(Step::Moved(going.len())),
                Err(Refusal::NotWaiting { tag }) => {
                    going.retain(|one| one.delivery.tag != tag);
                    record.redrive.leave(TAKEN, 1);
                }
                Err(refusal) => return self.refused(refusal, record, &going),
            }
        }
    }

    /// What to do about a transaction that was refused as a whole.
    fn refused(
        &mut self,
        refusal: Refusal,
        mut record: super::record::Record,
        going: &[Going],
    ) -> Result<Step, Refusal> {
        let is_small = going.len() <= 1;
        match refusal {
            Refusal::Full { .. } | Refusal::TooLarge { .. } if !is_small => {
                // Fewer may find room.
                self.batch = (going.len() / 2).max(1);
                Ok(Step::Wait(refusal.to_string()))
            }
            Refusal::Full { .. } | Refusal::DiskLow | Refusal::MemoryLow | Refusal::Busy => {
                Ok(Step::Wait(refusal.to_string()))
            }
            Refusal::Draining | Refusal::Stopped(_) => Err(refusal),
            // An address went meanwhile: it is looked for again.
            Refusal::NotFound { .. } => Ok(Step::Wait(refusal.to_string())),
            Refusal::Limit { .. } => Ok(Step::Rest(refusal.to_string())),
            refusal if is_small => {
                record.redrive.leave(&format!("its target refuses it: {refusal}"), going.len() as u64);
                self.record = record;
                Ok(Step::Moved(0))
            }
            refusal => {
                self.batch = (going.len() / 2).max(1);
                Ok(Step::Wait(refusal.to_string()))
            }
        }
    }

    /// What the names stand for to which letters go.
    async fn goals(&self, queue: &Name, chosen: &[Delivery]) -> Result<Goals, Refusal> {
        let spec = &self.record.redrive.spec;
        let aims = chosen.iter().filter_map(|delivery| aim(spec, queue, &Letter::of(&delivery.message)).ok());
        let aims: std::collections::BTreeSet<Aim> = aims.collect();
        let (may, to_origin) = (self.record.may.clone(), spec.to.is_none());
        self.broker
            .query(move |view| {
                let of = |aim: &Aim| {
                    let is_subscription = view.subscription(&aim.name).is_some();
                    goal(to_origin, aim, view.address(aim.name.as_str()), is_subscription)
                        .and_then(|goal| allowed(may.as_deref(), goal))
                };
                aims.into_iter().map(|aim| (aim.clone(), of(&aim))).collect()
            })
            .await
    }

    /// Makes the topics by which letters come back to subscriptions, where they are not there yet.
    async fn set_up_goals(&self, goals: &Goals) -> Result<(), Refusal> {
        for goal in goals.values().flatten().filter(|goal| goal.to.redriven_to().is_some()) {
            let spec = TopicSpec { retention_ms: Some(REDRIVEN_MS), ..TopicSpec::default() };
            let spec = Declaration::Topic(spec);
            self.broker.declare(goal.to.clone(), spec, true, SessionId::default()).await?;
        }
        Ok(())
    }

    async fn prepare(
        &self,
        queue: &Name,
        delivery: Delivery,
        goals: &Goals,
        editor: Option<&Editor>,
    ) -> Result<Going, Unchanged> {
        let redrive = &self.record.redrive;
        let letter = Letter::of(&delivery.message);
        let aim = aim(&redrive.spec, queue, &letter).map_err(Unchanged::Never)?;
        let known = goals.get(&aim).cloned().unwrap_or_else(|| Err(no_address(&aim.name)));
        let goal = known.map_err(Unchanged::Never)?;
        if redrive.targets.len() >= TARGETS_MAX && !redrive.targets.contains_key(&goal.shown) {
            return Err(Unchanged::Never(format!("one redrive brings messages to {TARGETS_MAX} addresses")));
        }
        let mut message = outgoing::redriven(&delivery.message, queue, &redrive.id, self.now());
        if goal.to.redriven_to().is_some() {
            // It is kept for a while from now, however old it is.
            message.timestamp = self.now();
        }
        if let Some(editor) = editor {
            editor.apply(&letter, &mut message, &original(&redrive.id, &delivery)).await?;
        }
        let too_large = |error| Unchanged::Never(format!("it would be past a limit: {error}"));
        message.check().map_err(too_large)?;
        Ok(Going { delivery, goal, message })
    }

    fn transaction(&self, queue: &Name, going: &[Going]) -> Transaction {
        let redrive = &self.record.redrive;
        let mut by_target: BTreeMap<&Name, Vec<waystation_base::Message>> = BTreeMap::new();
        for one in going {
            by_target.entry(&one.goal.to).or_default().push(one.message.clone());
        }
        let publish = |to: Name, messages| Publish {
            to: to.into(),
            partition: None,
            payload: Payload::Messages(messages),
        };
        let mut publishes: Vec<Publish> =
            by_target.into_iter().map(|(to, messages)| publish(to.clone(), messages)).collect();
        if redrive.spec.edit.is_some() && !going.is_empty() {
            let kept = going
                .iter()
                .map(|one| outgoing::kept(&one.delivery.message, original(&redrive.id, &one.delivery)))
                .collect();
            publishes.push(publish(own(ORIGINALS), kept));
        }
        let settlements: Vec<Settlement> = going.iter().map(|one| withdrawn(&one.delivery)).collect();
        let settle = Settle { source: Source::Queue(queue.clone()), settlements };
        Transaction { publishes, settlements: vec![settle] }
    }
}

/// The id under which a letter is kept as it was.
fn original(redrive: &str, delivery: &Delivery) -> String {
    outgoing::original_key(redrive, &delivery.message, delivery.tag)
}

/// What takes a message away that was looked at and that nobody was given since.
pub(super) fn withdrawn(delivery: &Delivery) -> Settlement {
    let body_bytes = u32::try_from(delivery.message.body.len()).unwrap_or(u32::MAX);
    delivery.settlement(Outcome::Withdrawn { body_bytes })
}
