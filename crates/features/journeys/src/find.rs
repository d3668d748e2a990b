//! How a journey is put together.

use std::collections::BTreeMap;

use waystation_base::{EntityId, Millis, Name, Position, trace::trace_id};
use waystation_broker::{Kind, Refusal, Whereabout, Whereabouts, entry};
use waystation_host::Broker;
use waystation_record::{Attribute, Event, Fate, Mention, Place, Published, Record, Status};

use crate::{
    cascade::{self, Cascade, is_named},
    journey::{Copy, Journey, Lack, Message, Pause, RecordState, Stay, Step},
    now::{self, CopyKey, Told},
    query::Query,
    steps, stops,
};

/// Messages whose whereabouts are asked for at a time: whoever asks must not hold up the shard.
const PLACES_PER_QUERY: usize = 50;

/// Who takes messages from a queue or subscription and does not for now, by its kind and name.
pub type Pauses = BTreeMap<(Kind, String), Pause>;

/// Why a journey cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nothing is recorded.
    #[error("the record is off; it is switched on by record.enabled = true in the server's configuration")]
    Off,
    /// The shard does not answer.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The task that reads the record ended.
    #[error("reading the record failed: {0}")]
    Failed(#[from] tokio::task::JoinError),
}

/// What the record says.
struct Found {
    cascade: Cascade,
    lives: BTreeMap<Place, Vec<Event>>,
    damage: Vec<String>,
    status: Status,
    record: Record,
}

/// The messages that are meant, all that belongs to them, and what became of each. Addresses for which `may_read` does not hold are
/// left out, and counted.
pub async fn find(
    broker: &Broker,
    query: Query,
    may_read: impl Fn(&Name) -> bool,
    pauses: &Pauses,
) -> Result<Journey, Error> {
    let record = broker.record().ok_or(Error::Off)?.clone();
    // What the shard has done is told even if it is not durable yet: it will be in a moment.
    let end = broker.query(|view| view.overview().journal_end).await?;
    let mut found = tokio::task::spawn_blocking(move || look(record, &query, end)).await?;
    found.cascade.mentions.iter_mut().for_each(name_by_key);
    let before = found.cascade.mentions.len();
    let unnamed = Name::new("unnamed").expect("a good name");
    found
        .cascade
        .mentions
        .retain(|mention| may_read(mention.address.as_ref().map_or(&unnamed, |(_, name)| name)));
    let hidden = (before - found.cascade.mentions.len()) as u64;
    let places: Vec<Place> = found.cascade.mentions.iter().map(|mention| mention.place).collect();
    let (there, at) = whereabouts(broker, &places).await?;
    Ok(assemble(found, &there, at, hidden, pauses))
}

/// What nothing took under a key that was to be a queue has no place but that name.
fn name_by_key(mention: &mut Mention) {
    let key = mention.published.attribute(Attribute::RoutingKey);
    if mention.address.is_none() && mention.published.fate != Fate::Stored {
        mention.address = key.and_then(|key| Some((Kind::Queue, Name::new(key).ok()?)));
    }
}

async fn whereabouts(
    broker: &Broker,
    places: &[Place],
) -> Result<(BTreeMap<Place, Whereabout>, Millis), Refusal> {
    let mut there = BTreeMap::new();
    for places in places.chunks(PLACES_PER_QUERY) {
        let wanted: Vec<_> = places.iter().map(|place| (place.log, place.offset)).collect();
        let found = broker.query(move |view| view.whereabouts(&wanted)).await?;
        there.extend(places.iter().copied().zip(found));
    }
    // The time of the last answer: nothing that is told lies after it.
    let at = broker.query(|view| view.now()).await?;
    Ok((there, at))
}

fn look(record: Record, query: &Query, end: Position) -> Found {
    record.catch_up_to(end);
    let cascade = cascade::gather(&record, query);
    let places: Vec<(Place, Millis)> =
        cascade.mentions.iter().map(|mention| (mention.place, mention.at)).collect();
    let (lives, damage) = record.lives(&places);
    let status = record.status();
    Found { cascade, lives, damage, status, record }
}

fn assemble(
    found: Found,
    there: &BTreeMap<Place, Whereabout>,
    at: Millis,
    hidden: u64,
    pauses: &Pauses,
) -> Journey {
    let Found { cascade, lives, damage, status, record } = found;
    let nowhere = Whereabout::default();
    let mut messages: Vec<Message> = Vec::new();
    for mention in &cascade.mentions {
        let events = lives.get(&mention.place).map_or(&[][..], Vec::as_slice);
        let place = there.get(&mention.place).unwrap_or(&nowhere);
        let stay = stay(mention, events, place, at, &record);
        let id = id_of(mention);
        let asked = cascade.asked.contains(&mention.place);
        match messages.iter_mut().find(|message| message.id == id) {
            Some(message) => {
                message.stays.push(stay);
                message.asked |= asked;
            }
            None => messages.push(Message {
                parent: parent(mention, &cascade.mentions),
                asked,
                stays: vec![stay],
                ..described(id, &mention.published)
            }),
        }
    }
    let copies = messages.iter_mut().flat_map(|message| &mut message.stays).flat_map(|stay| &mut stay.copies);
    copies.for_each(|copy| note_pause(copy, pauses));
    let (stops, under_way) = stops::stops(&messages);
    let record = record_state(status, cascade.damage.into_iter().chain(damage).collect());
    Journey { stops, under_way, messages, more: cascade.more, hidden, record }
}

/// Notes who should take a message that stands ready, and does not for now.
fn note_pause(copy: &mut Copy, pauses: &Pauses) {
    if !matches!(copy.now.state.as_str(), "ready" | "behind_key") {
        return;
    }
    let kind = if copy.kind == "subscription" { Kind::Subscription } else { Kind::Queue };
    copy.now.paused = pauses.get(&(kind, copy.name.clone())).cloned();
}

/// A message's id; one of another maker has none, and is named by its place.
fn id_of(mention: &Mention) -> String {
    let Place { log, offset } = mention.place;
    match mention.published.id.0.is_nil() {
        true => format!("{}/{}/{}", log.entity, log.log, offset),
        false => mention.published.id.to_string(),
    }
}

fn parent(mention: &Mention, mentions: &[Mention]) -> Option<String> {
    let cause = mention.published.attribute(Attribute::Cause)?;
    let parent = mentions.iter().find(|other| is_named(&other.published, cause))?;
    Some(id_of(parent)).filter(|id| *id != id_of(mention))
}

fn described(id: String, published: &Published) -> Message {
    let text = |kind| published.attribute(kind).map(str::to_owned);
    let business = published.attributes.iter().filter(|(kind, _)| *kind == Attribute::Business);
    let business = business.filter_map(|(_, text)| text.split_once('='));
    Message {
        id,
        message_id: text(Attribute::MessageId),
        cause: text(Attribute::Cause),
        correlation_id: text(Attribute::CorrelationId),
        trace_id: published.attribute(Attribute::Traceparent).and_then(trace_id).map(str::to_owned),
        call: text(Attribute::Call),
        operation: text(Attribute::Operation),
        kind: text(Attribute::Type),
        business: business.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
        ..Message::default()
    }
}

fn how(published: &Published) -> &'static str {
    let has = |kind| published.attribute(kind).is_some();
    match published.step {
        _ if published.fate != Fate::Stored => "unrouted",
        entry::Step::Request if has(Attribute::Redrive) => "redriven",
        entry::Step::Request if has(Attribute::StepRoute) => "stepped",
        entry::Step::Request if has(Attribute::DeathReason) => "dead_lettered",
        entry::Step::Request if has(Attribute::Route) => "routed",
        entry::Step::Request => "published",
        _ if has(Attribute::DeathReason) => "dead_lettered",
        _ => "published",
    }
}

fn stay(mention: &Mention, events: &[Event], there: &Whereabout, at: Millis, record: &Record) -> Stay {
    let Mention { place, address, published, .. } = mention;
    let text = |kind| published.attribute(kind).map(str::to_owned);
    let (kind, name) = match address {
        Some((kind, name)) => (kind.to_string(), name.to_string()),
        None => ("queue".to_owned(), format!("#{}", place.log.entity)),
    };
    let is_topic = matches!(address, Some((Kind::Topic, _)));
    let how = how(published);
    let is_unrouted = published.fate != Fate::Stored;
    let is_death = how == "dead_lettered" || is_unrouted && published.step != entry::Step::Request;
    let death = text(Attribute::DeathReason).filter(|_| is_death).map(|reason| {
        text(Attribute::DeathSource).map_or_else(|| reason.clone(), |source| format!("{reason} in {source}"))
    });
    Stay {
        address: name.clone(),
        kind: kind.clone(),
        partition: place.log.log,
        offset: place.offset.0,
        at: mention.at.0,
        by: if is_death { None } else { now::by(mention.client.as_ref()) },
        how: how.to_owned(),
        route: text(Attribute::Route),
        routing_key: text(Attribute::RoutingKey),
        death,
        redrive: text(Attribute::Redrive),
        callback_url: text(Attribute::CallbackUrl),
        bytes: published.bytes,
        delay_ms: published.delay_ms,
        ttl_ms: published.life_ms,
        told: is_unrouted.then_some(published.fate == Fate::Told),
        copies: match is_unrouted {
            true => Vec::new(),
            false => copies(mention, events, there, at, record, (is_topic, &name)),
        },
        kept: is_topic.then_some(there.kept),
    }
}

fn copies(
    mention: &Mention,
    events: &[Event],
    there: &Whereabout,
    at: Millis,
    record: &Record,
    (is_topic, address): (bool, &str),
) -> Vec<Copy> {
    let mut names: BTreeMap<CopyKey, String> = BTreeMap::new();
    if !is_topic {
        names.insert(None, address.to_owned());
    }
    for (id, name) in events.iter().filter_map(|event| event.subscription.as_ref()) {
        let name = name.as_ref().map_or_else(|| format!("#{id}"), ToString::to_string);
        names.insert(Some(*id), name);
    }
    let live = |key: &CopyKey| -> Option<&Whereabouts> {
        let id: EntityId = key.unwrap_or(mention.place.log.entity);
        there.outlets.iter().find(|it| it.outlet == id)
    };
    if is_topic {
        names.extend(there.outlets.iter().map(|it| (Some(it.outlet), it.name.to_string())));
    }
    let copy = |(key, name): (CopyKey, String)| copy(mention, key, name, events, live(&key), at, record);
    names.into_iter().filter_map(copy).collect()
}

fn copy(
    mention: &Mention,
    key: CopyKey,
    name: String,
    events: &[Event],
    live: Option<&Whereabouts>,
    at: Millis,
    record: &Record,
) -> Option<Copy> {
    let own = |event: &&Event| match (key, &event.subscription) {
        (Some(id), Some((of, _))) => id == *of,
        (None, None) => true,
        // What befalls a topic befalls every subscription's copy.
        (Some(_), None) => steps::ends(event),
        (None, Some(_)) => false,
    };
    let mut ended = None;
    let mut told: Vec<Step> = Vec::new();
    for event in events.iter().filter(own) {
        // What sweeps away what has ended does not end it again.
        let is_sweep = matches!(event.what, waystation_record::Happening::Swept(_));
        if is_sweep && ended.is_some() {
            continue;
        }
        let Some(step) = steps::step(event) else { continue };
        told.push(step);
        ended = if steps::ends(event) { Some(told.len() - 1) } else { ended.filter(|_| is_sweep) };
    }
    if live.is_none() && told.is_empty() && key.is_some() {
        return None;
    }
    let facts = Told { stored: mention.at, steps: &told, ended, now: at };
    let now = live.map_or_else(|| now::over(&facts), |there| now::standing(there, &facts, record));
    let first = told.iter().find(|step| step.what == "delivered");
    let is_over = now.age_ms.is_none();
    Some(Copy {
        name,
        kind: if key.is_some() { "subscription" } else { "queue" }.to_owned(),
        waited_ms: first.map(|step| step.at.saturating_sub(mention.at.0)),
        lasted_ms: is_over.then(|| now.since.saturating_sub(mention.at.0)),
        steps: told,
        now,
    })
}

fn record_state(status: Status, mut damage: Vec<String>) -> RecordState {
    damage.extend(status.damage);
    damage.sort_unstable();
    damage.dedup();
    let gap = |gap: waystation_record::Gap| Lack {
        after: Some(gap.after.0).filter(|at| *at > 0),
        before: Some(gap.before.0),
        why: gap.why,
    };
    let lacks = status.gaps.into_iter().map(gap);
    let damaged = damage.into_iter().map(|why| Lack { after: None, before: None, why });
    let mut lacks: Vec<Lack> = lacks.chain(damaged).collect();
    if status.unreadable > 0 {
        let why = format!("{} entries or messages could not be read by the recorder", status.unreadable);
        lacks.push(Lack { after: None, before: None, why });
    }
    if status.untold > 0 {
        let why = format!(
            "{} messages that nothing took were too many in a second to be told of one by one",
            status.untold
        );
        lacks.push(Lack { after: None, before: None, why });
    }
    RecordState { from: status.from.map(|from| from.0), behind_bytes: status.behind_bytes, lacks }
}
