//! What would a redrive do? Counted and shown by samples, and nothing is moved.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::Name;
use waystation_broker::Refusal;
use waystation_host::{Broker, Browse, Delivery, Target};

use super::{
    edit::{Editor, Unchanged},
    forward::{Goal, aim, allowed, goal},
    outgoing,
    spec::Spec,
};
use crate::{
    groups::Group,
    letter::{Letter, Origin},
    letters::Letters,
    limits::{LOOK_BYTES, LOOK_MESSAGES, PAGE_MAX, PREVIEW_LOOK_MAX, SAMPLES},
};

/// What a redrive would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Preview {
    /// Messages that are meant.
    pub messages: u64,
    /// There may be more: not all were looked at.
    pub more: bool,
    /// Where they would go.
    pub targets: BTreeMap<String, u64>,
    /// How many would stay where they are, by reason.
    pub left: BTreeMap<String, u64>,
    /// The groups that they belong to, the largest first.
    pub groups: Vec<Group>,
}

/// One message that is meant.
#[derive(Clone, Debug)]
pub struct Sample {
    /// As it is.
    pub now: Delivery,
    /// Where it would go, or why it would stay.
    pub to: Result<String, String>,
    /// As it would be there.
    pub then: waystation_base::Message,
}

/// Counts by origin: what becomes of a letter depends on nothing else.
#[derive(Debug, Default)]
struct Count {
    messages: u64,
    more: bool,
    by_origin: BTreeMap<(Name, Option<Origin>), u64>,
    groups: Vec<Group>,
    samples: Vec<Delivery>,
}

/// Looks at what is meant in these queues.
pub(super) async fn preview(
    broker: &Broker,
    letters: &Letters,
    spec: &Spec,
    editor: Option<&Editor>,
    queues: &[Name],
    may: Option<&[String]>,
) -> Result<(Preview, Vec<Sample>), Refusal> {
    let count = match by_groups(letters, spec, queues).await? {
        Some(count) => count,
        None => by_reading(broker, spec, queues).await?,
    };
    let mut preview =
        Preview { messages: count.messages, more: count.more, groups: count.groups, ..Preview::default() };
    for ((queue, place), messages) in count.by_origin {
        let (origin, origin_kind) = place.map_or((None, None), |place| (Some(place.name), place.kind));
        let letter = Letter { origin, origin_kind, ..Letter::default() };
        match goes(broker, spec, &queue, &letter, may).await? {
            Ok(goal) => *preview.targets.entry(goal.shown).or_default() += messages,
            Err(reason) => *preview.left.entry(reason).or_default() += messages,
        }
    }
    let mut samples = Vec::new();
    for now in count.samples {
        let letter = Letter::of(&now.message);
        let goal = goes(broker, spec, &now.address, &letter, may).await?;
        let mut to = goal.map(|goal| goal.shown);
        let mut then = outgoing::redriven(&now.message, &now.address, "preview", now.message.timestamp);
        if let Some(editor) = editor
            && let Err(Unchanged::Never(reason) | Unchanged::Now(reason)) =
                editor.apply(&letter, &mut then, "preview/").await
        {
            to = Err(reason);
        }
        samples.push(Sample { now, to, then });
    }
    Ok((preview, samples))
}

/// Where a letter goes as things are, or why it stays.
async fn goes(
    broker: &Broker,
    spec: &Spec,
    queue: &Name,
    letter: &Letter,
    may: Option<&[String]>,
) -> Result<Result<Goal, String>, Refusal> {
    let aim = match aim(spec, queue, letter) {
        Ok(aim) => aim,
        Err(reason) => return Ok(Err(reason)),
    };
    let name = aim.name.clone();
    let state = broker.query(move |view| (view.address(name.as_str()), view.subscription(&name).is_some()));
    let (address, is_subscription) = state.await?;
    let goal = goal(spec.to.is_none(), &aim, address, is_subscription);
    Ok(goal.and_then(|goal| allowed(may, goal)))
}

/// From what is in memory, if that answers it and is complete.
async fn by_groups(letters: &Letters, spec: &Spec, queues: &[Name]) -> Result<Option<Count>, Refusal> {
    let Some(asked) = spec.asked(queues.to_vec()) else { return Ok(None) };
    let groups = letters.groups(asked.clone(), PAGE_MAX).await?;
    if groups.unread > 0 || groups.other > 0 || groups.more {
        return Ok(None);
    }
    let mut by_origin = BTreeMap::new();
    for queue in queues {
        let mut of_queue = asked.clone();
        of_queue.queues = Some(vec![queue.clone()]);
        for group in letters.groups(of_queue, PAGE_MAX).await?.groups {
            for (place, messages) in group.places {
                *by_origin.entry((queue.clone(), place)).or_default() += messages;
            }
        }
    }
    let samples = letters.members(&asked, None, SAMPLES, LOOK_BYTES).await?.messages;
    let messages = groups.groups.iter().map(|group| group.messages).sum();
    Ok(Some(Count { messages, more: false, by_origin, groups: groups.groups, samples }))
}

/// By reading every message, up to a bound.
async fn by_reading(broker: &Broker, spec: &Spec, queues: &[Name]) -> Result<Count, Refusal> {
    let (mut count, mut looked) = (Count::default(), 0);
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for queue in queues {
        let mut from = None;
        loop {
            let browse = Browse { from, max: LOOK_MESSAGES, bytes_max: LOOK_BYTES, ..Browse::default() };
            let page = broker.browse(Target::Queue(queue.clone()), browse).await?;
            looked += page.messages.len();
            for delivery in page.messages {
                let letter = Letter::of(&delivery.message);
                if !spec.which.has(queue.as_str(), &delivery.message, &letter) {
                    continue;
                }
                count.messages += 1;
                add_to_group(&mut groups, queue, &letter);
                *count.by_origin.entry((queue.clone(), letter.place())).or_default() += 1;
                if count.samples.len() < SAMPLES {
                    count.samples.push(delivery);
                }
            }
            from = page.next;
            if from.is_none() {
                break;
            }
            if looked >= PREVIEW_LOOK_MAX {
                count.more = true;
                break;
            }
        }
    }
    count.groups = groups.into_values().collect();
    count.groups.sort_by_key(|group| std::cmp::Reverse(group.messages));
    Ok(count)
}

fn add_to_group(groups: &mut BTreeMap<String, Group>, queue: &Name, letter: &Letter) {
    let id = letter.group();
    if groups.len() >= PAGE_MAX && !groups.contains_key(&id) {
        return;
    }
    let group = groups.entry(id.clone()).or_insert_with(|| Group {
        id,
        cause: letter.cause.clone(),
        error: Some(letter.pattern()).filter(|pattern| !pattern.is_empty()),
        sample: letter.error.clone(),
        first: u64::MAX,
        ..Group::default()
    });
    group.messages += 1;
    (group.first, group.last) = (group.first.min(letter.time), group.last.max(letter.time));
    *group.queues.entry(queue.to_string()).or_default() += 1;
    group.count_origin(letter.place().as_ref(), 1);
}
