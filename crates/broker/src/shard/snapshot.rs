//! The state as bytes, so that a restart need not read the journal from its beginning. Where messages are in the journal is
//! left out: the journal itself says so ([`Shard::reindex`]). So a snapshot grows with what is under way, not with what waits.
//!
//! ```text
//! version u8 = 6 | entity counter | journal settled to | topics | queues | subscriptions | routes | bindings | documents |
//!               queues with anything withdrawn: id, messages; each behind its count; numbers are varints;
//!               version 1 ends with the subscriptions, version 2 with the documents; 3 has no error classes and no faults, 4 no tenants,
//!               5 nothing behind them;
//!               queues with tenants: id, count of (slot | name behind its length)
//!               logs of ordered subscriptions with messages that failed: id | number | count of offsets
//! topic:        id | declaration | counters | partitions: base, next, runs
//! queue:        id | declaration | outlet | logs: number, base, next, runs | recent ids: until, 16 bytes
//! subscription: id | declaration | outlet | sources: 0, or 1 + topic + partition
//! route:        id | declaration
//! binding:      as in its journal entry, behind its length
//! document:     name | what it says, each behind its length
//! outlet:       counters | bytes | expiring | cursors: number, head, stretches, flights, returned | delayed |
//!               faults: tag, class and text, each behind its length
//! ```

use bytes::Bytes;
use waystation_base::{
    Attempt, EntityId, Millis, Position, Tag,
    limits::TENANTS_MAX,
    varint::{self, put, put_prefixed, take, take_bytes, take_prefixed},
};

use super::{
    Queue, Shard, Subscription, Topic,
    cursor::{Cursor, Dying, Flight, Reason, Returned, is_delayed},
    entry::{Declaration, Fault, put_bound, put_run, take_bound, take_run},
    log::Log,
    outlet::{Outlet, Waiting},
    ranges::Done,
};
use crate::{
    place::{LogId, Meta},
    spec::Spec,
    view::Counters,
};

const VERSION: u8 = 6;
/// The version before a message that failed held up only those of its key.
const VERSION_WITHOUT_FAILED: u8 = 5;
/// The version before tenants had lanes of their own.
const VERSION_WITHOUT_TENANTS: u8 = 4;
/// The version before failed messages had an error with a class.
const VERSION_WITHOUT_FAULTS: u8 = 3;
/// The version before messages could be withdrawn.
const VERSION_WITHOUT_WITHDRAWN: u8 = 2;
/// The version before there were routes.
const VERSION_WITHOUT_ROUTES: u8 = 1;

/// Why a snapshot cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Made by another version.
    #[error("snapshot version {0} is not supported, only {VERSION_WITHOUT_ROUTES} to {VERSION}")]
    Version(u8),
    /// Cut or malformed.
    #[error("snapshot is malformed: {0}")]
    Malformed(#[from] varint::Error),
    /// A declaration that is none.
    #[error("snapshot holds a bad declaration: {0}")]
    Json(#[from] serde_json::Error),
    /// A name that is none.
    #[error("snapshot holds a bad name: {0}")]
    Name(#[from] waystation_base::name::Error),
    /// A binding that is none.
    #[error("snapshot holds a bad binding: {0}")]
    Binding(#[from] super::ReplayError),
    /// A number that names nothing.
    #[error("snapshot names an unknown {0}")]
    Unknown(&'static str),
}

impl Shard {
    /// The state as bytes.
    pub fn snapshot(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put(&mut out, self.entities.into());
        put(&mut out, self.settled_to.0);
        put_sorted(&mut out, &self.topics, put_topic);
        put_sorted(&mut out, &self.queues, put_queue);
        put_sorted(&mut out, &self.subscriptions, put_subscription);
        put_sorted(&mut out, &self.routes, |out, route| {
            put_declaration(out, &route.name, Spec::Route(route.spec.clone()));
        });
        let bounds = self.bounds();
        put(&mut out, bounds.len() as u64);
        let mut bytes = Vec::new();
        for bound in &bounds {
            bytes.clear();
            put_bound(&mut bytes, bound);
            put_prefixed(&mut out, &bytes);
        }
        put(&mut out, self.documents.len() as u64);
        for (name, body) in &self.documents {
            put_prefixed(&mut out, name.as_str().as_bytes());
            put_prefixed(&mut out, body);
        }
        let withdrawn = self.queues.iter().map(|(id, queue)| (*id, queue.outlet.counters.withdrawn));
        let mut withdrawn: Vec<_> = withdrawn.filter(|(_, count)| *count > 0).collect();
        withdrawn.sort_unstable();
        put(&mut out, withdrawn.len() as u64);
        for (id, count) in withdrawn {
            put(&mut out, id.0.into());
            put(&mut out, count);
        }
        put_tenants(&mut out, self);
        put_failed(&mut out, self);
        out
    }

    /// The state from bytes. What is missing is made good by [`Shard::reindex`], [`Shard::replay`] and [`Shard::recovered`].
    pub fn restore(snapshot: &[u8]) -> Result<Shard, Error> {
        let mut rest = snapshot;
        let input = &mut rest;
        let version = take_bytes(input, 1)?[0];
        if !(VERSION_WITHOUT_ROUTES..=VERSION).contains(&version) {
            return Err(Error::Version(version));
        }
        let mut shard =
            Shard { entities: number(input)?, settled_to: Position(take(input)?), ..Shard::default() };
        for _ in 0..count(input)? {
            take_topic(input, &mut shard)?;
        }
        for _ in 0..count(input)? {
            take_queue(input, &mut shard, version)?;
        }
        for _ in 0..count(input)? {
            take_subscription(input, &mut shard, version)?;
        }
        if version >= VERSION_WITHOUT_WITHDRAWN {
            take_routes(input, &mut shard)?;
        }
        if version > VERSION_WITHOUT_WITHDRAWN {
            take_withdrawn(input, &mut shard)?;
        }
        if version > VERSION_WITHOUT_TENANTS {
            take_tenants(input, &mut shard)?;
        }
        if version > VERSION_WITHOUT_FAILED {
            take_failed(input, &mut shard)?;
        }
        Ok(shard)
    }
}

fn take_routes(input: &mut &[u8], shard: &mut Shard) -> Result<(), Error> {
    for _ in 0..count(input)? {
        take_declaration(input, shard)?;
    }
    for _ in 0..count(input)? {
        let bound = take_bound(&mut take_prefixed(input)?)?;
        shard.apply_bind(bound);
    }
    for _ in 0..count(input)? {
        let name = std::str::from_utf8(take_prefixed(input)?).map_err(|_| Error::Unknown("name"))?;
        let name = smol_str::SmolStr::new(name).try_into()?;
        shard.apply_document(name, Some(Bytes::copy_from_slice(take_prefixed(input)?)));
    }
    Ok(())
}

fn take_withdrawn(input: &mut &[u8], shard: &mut Shard) -> Result<(), Error> {
    for _ in 0..count(input)? {
        let id = EntityId(number(input)?);
        let queue = shard.queues.get_mut(&id).ok_or(Error::Unknown("queue"))?;
        queue.outlet.counters.withdrawn = take(input)?;
    }
    Ok(())
}

/// The tenants of each queue that has any.
fn put_tenants(out: &mut Vec<u8>, shard: &Shard) {
    let mut queues: Vec<_> =
        shard.queues.iter().filter(|(_, queue)| queue.tenants.iter().len() > 0).collect();
    queues.sort_unstable_by_key(|(id, _)| **id);
    put(out, queues.len() as u64);
    for (id, queue) in queues {
        put(out, id.0.into());
        put(out, queue.tenants.iter().len() as u64);
        for (slot, name) in queue.tenants.iter() {
            put(out, slot.into());
            put_text(out, Some(name));
        }
    }
}

fn take_tenants(input: &mut &[u8], shard: &mut Shard) -> Result<(), Error> {
    for _ in 0..count(input)? {
        let id = EntityId(number(input)?);
        let queue = shard.queues.get_mut(&id).ok_or(Error::Unknown("queue"))?;
        for _ in 0..count(input)? {
            let slot: u8 = number(input)?;
            let name = take_text(input)?.filter(|_| usize::from(slot) <= TENANTS_MAX);
            queue.tenants.apply(slot, name.ok_or(Error::Unknown("tenant"))?.into());
        }
        queue.outlet.is_fair = true;
    }
    Ok(())
}

/// What holds up others of its key, of ordered subscriptions.
fn put_failed(out: &mut Vec<u8>, shard: &Shard) {
    let cursors = shard.subscriptions.iter().flat_map(|(id, subscription)| {
        subscription.outlet.cursors.iter().map(move |(number, cursor)| (*id, *number, cursor.failed()))
    });
    let mut logs: Vec<_> = cursors.filter(|(.., failed)| !failed.is_empty()).collect();
    logs.sort_unstable();
    put(out, logs.len() as u64);
    for (id, number, failed) in logs {
        put(out, id.0.into());
        put(out, number.into());
        put(out, failed.len() as u64);
        failed.into_iter().for_each(|offset| put(out, offset));
    }
}

fn take_failed(input: &mut &[u8], shard: &mut Shard) -> Result<(), Error> {
    for _ in 0..count(input)? {
        let (id, log) = (EntityId(number(input)?), number::<u16>(input)?);
        let subscription = shard.subscriptions.get_mut(&id).ok_or(Error::Unknown("subscription"))?;
        let cursor = subscription.outlet.cursors.get_mut(&log).ok_or(Error::Unknown("source"))?;
        for _ in 0..count(input)? {
            cursor.hold_key(take(input)?, None);
        }
    }
    Ok(())
}

fn put_sorted<T>(out: &mut Vec<u8>, map: &super::HashMap<EntityId, T>, one: fn(&mut Vec<u8>, &T)) {
    let mut items: Vec<_> = map.iter().collect();
    items.sort_unstable_by_key(|(id, _)| **id);
    put(out, items.len() as u64);
    for (id, item) in items {
        put(out, id.0.into());
        one(out, item);
    }
}

fn number<T: TryFrom<u64>>(input: &mut &[u8]) -> Result<T, varint::Error> {
    T::try_from(take(input)?).map_err(|_| varint::Error::Overflow)
}

/// A count of things of a byte at least: past the input it is refused before anything is reserved.
fn count(input: &mut &[u8]) -> Result<usize, varint::Error> {
    number(input).and_then(|count| if count > input.len() { Err(varint::Error::Length) } else { Ok(count) })
}

fn put_declaration(out: &mut Vec<u8>, name: &waystation_base::Name, spec: Spec) {
    let declaration = Declaration { name: name.clone(), spec };
    put_prefixed(out, &serde_json::to_vec(&declaration).expect("a declaration has a JSON form"));
}

/// Reads an id and a declaration and makes what it says.
fn take_declaration(input: &mut &[u8], shard: &mut Shard) -> Result<EntityId, Error> {
    let id = EntityId(number(input)?);
    shard.apply_declare(id, serde_json::from_slice(take_prefixed(input)?)?);
    Ok(id)
}

fn put_counters(out: &mut Vec<u8>, counters: &Counters) {
    let c = counters;
    let values = [
        c.published,
        c.duplicates,
        c.delivered,
        c.redelivered,
        c.acknowledged,
        c.dead_lettered,
        c.expired,
        c.rejected,
        c.dropped,
        c.purged,
        c.filtered,
        c.retired,
    ];
    values.into_iter().for_each(|value| put(out, value));
}

fn take_counters(input: &mut &[u8]) -> Result<Counters, varint::Error> {
    Ok(Counters {
        published: take(input)?,
        duplicates: take(input)?,
        delivered: take(input)?,
        redelivered: take(input)?,
        acknowledged: take(input)?,
        dead_lettered: take(input)?,
        expired: take(input)?,
        rejected: take(input)?,
        dropped: take(input)?,
        purged: take(input)?,
        filtered: take(input)?,
        retired: take(input)?,
        withdrawn: 0,
    })
}

fn put_log(out: &mut Vec<u8>, log: &Log) {
    put(out, log.base);
    put(out, log.next);
    put(out, log.runs().count() as u64);
    log.runs().for_each(|run| put_run(out, run));
}

fn take_log(input: &mut &[u8]) -> Result<Log, varint::Error> {
    let (base, next) = (take(input)?, take(input)?);
    let runs = (0..count(input)?).map(|_| take_run(input)).collect::<Result<_, _>>()?;
    Ok(Log::restore(base, next, runs))
}

#[allow(clippy::borrowed_box)]
fn put_topic(out: &mut Vec<u8>, topic: &Box<Topic>) {
    put_declaration(out, &topic.name, Spec::Topic(topic.spec.clone()));
    put_counters(out, &topic.counters);
    put(out, topic.logs.len() as u64);
    topic.logs.iter().for_each(|log| put_log(out, log));
}

fn take_topic(input: &mut &[u8], shard: &mut Shard) -> Result<(), Error> {
    let id = take_declaration(input, shard)?;
    let topic = shard.topics.get_mut(&id).ok_or(Error::Unknown("topic"))?;
    topic.counters = take_counters(input)?;
    topic.logs = (0..count(input)?).map(|_| take_log(input)).collect::<Result<_, _>>()?;
    topic.grow();
    Ok(())
}

#[allow(clippy::borrowed_box)]
fn put_queue(out: &mut Vec<u8>, queue: &Box<Queue>) {
    put_declaration(out, &queue.outlet.name, Spec::Queue(queue.spec.clone()));
    put_outlet(out, &queue.outlet);
    put(out, queue.logs.iter().len() as u64);
    for (number, log) in queue.logs.iter() {
        put(out, number.into());
        put_log(out, log);
    }
    put(out, queue.recent.iter().len() as u64);
    for (until, id) in queue.recent.iter() {
        put(out, until.0);
        out.extend_from_slice(&id.to_le_bytes());
    }
}

fn take_queue(input: &mut &[u8], shard: &mut Shard, version: u8) -> Result<(), Error> {
    let id = take_declaration(input, shard)?;
    let queue = shard.queues.get_mut(&id).ok_or(Error::Unknown("queue"))?;
    take_outlet(input, &mut queue.outlet, version)?;
    for _ in 0..count(input)? {
        queue.logs.insert(number(input)?, take_log(input)?);
    }
    for _ in 0..count(input)? {
        let until = Millis(take(input)?);
        let id = u128::from_le_bytes(take_bytes(input, 16)?.try_into().expect("sixteen"));
        queue.recent.note(id, Millis(0), until);
    }
    Ok(())
}

#[allow(clippy::borrowed_box)]
fn put_subscription(out: &mut Vec<u8>, subscription: &Box<Subscription>) {
    put_declaration(out, &subscription.outlet.name, Spec::Subscription(subscription.spec.clone()));
    put_outlet(out, &subscription.outlet);
    put(out, subscription.sources.len() as u64);
    for source in &subscription.sources {
        match source {
            None => put(out, 0),
            Some(log) => {
                [1, u64::from(log.entity.0), log.log.into()].into_iter().for_each(|value| put(out, value))
            }
        }
    }
}

fn take_subscription(input: &mut &[u8], shard: &mut Shard, version: u8) -> Result<(), Error> {
    let id = take_declaration(input, shard)?;
    let subscription = shard.subscriptions.get_mut(&id).ok_or(Error::Unknown("subscription"))?;
    take_outlet(input, &mut subscription.outlet, version)?;
    for source in 0..count(input)? {
        if take(input)? == 0 {
            subscription.sources.push(None);
            continue;
        }
        let log = LogId { entity: EntityId(number(input)?), log: number(input)? };
        subscription.sources.push(Some(log));
        let topic = shard.topics.get_mut(&log.entity).ok_or(Error::Unknown("topic"))?;
        let readers = topic.readers.get_mut(usize::from(log.log)).ok_or(Error::Unknown("partition"))?;
        readers.push((id, source as u16));
    }
    Ok(())
}

fn put_outlet(out: &mut Vec<u8>, outlet: &Outlet) {
    put_counters(out, &outlet.counters);
    put(out, outlet.bytes);
    put(out, outlet.expiring.into());
    put(out, outlet.cursors.len() as u64);
    for (number, cursor) in &outlet.cursors {
        put(out, (*number).into());
        put_cursor(out, *number, cursor, outlet.policy.by_key, parked(outlet, *number));
    }
    put(out, outlet.delayed.len() as u64);
    for ((due, tag), waiting) in &outlet.delayed {
        for value in [due.0, tag.0, waiting.attempt.0.into(), waiting.bytes.into()] {
            put(out, value);
        }
    }
    put(out, outlet.faults.iter().len() as u64);
    for (tag, fault) in outlet.faults.iter() {
        put(out, tag.0);
        put_text(out, fault.class.as_deref());
        put_text(out, fault.text.as_deref());
    }
}

/// A text, or (empty) none.
fn put_text(out: &mut Vec<u8>, text: Option<&str>) {
    put_prefixed(out, text.unwrap_or_default().as_bytes());
}

fn take_text(input: &mut &[u8]) -> Result<Option<String>, varint::Error> {
    let text = String::from_utf8_lossy(take_prefixed(input)?).into_owned();
    Ok(Some(text).filter(|text| !text.is_empty()))
}

fn take_outlet(input: &mut &[u8], outlet: &mut Outlet, version: u8) -> Result<(), Error> {
    outlet.counters = take_counters(input)?;
    outlet.bytes = take(input)?;
    outlet.expiring = take(input)? != 0;
    for _ in 0..count(input)? {
        let log = number(input)?;
        let cursor = take_cursor(input, version)?;
        outlet.dying += cursor.flying.values().filter(|flight| flight.dying.is_some()).count();
        outlet.cursors.insert(log, Box::new(cursor));
    }
    for _ in 0..count(input)? {
        let key = (Millis(take(input)?), Tag(take(input)?));
        outlet.delayed.insert(key, Waiting { attempt: Attempt(number(input)?), bytes: number(input)? });
    }
    if version <= VERSION_WITHOUT_FAULTS {
        return Ok(());
    }
    for _ in 0..count(input)? {
        let tag = Tag(take(input)?);
        let (class, text) = (take_text(input)?, take_text(input)?);
        let fault = Fault::of(class.as_deref(), text.as_deref()).ok_or(Error::Unknown("fault"))?;
        outlet.faults.set(tag, fault);
    }
    Ok(())
}

/// Messages that wait behind keys and that the log alone would not bring back as they are.
fn parked(outlet: &Outlet, number: u16) -> Vec<(u64, u64, Attempt, u32)> {
    if let Some(shares) = &outlet.shares {
        let tried = shares.tried(number);
        return tried.map(|(rank, meta, attempt)| (rank, meta.offset.0, attempt, meta.bytes)).collect();
    }
    if outlet.parked == 0 {
        return Vec::new();
    }
    let all = outlet.keys.values().flat_map(|key| key.parked.values());
    let of_log =
        all.filter(|(meta, attempt)| meta.log.log == number && (is_delayed(number) || attempt.0 > 0));
    let rank = |meta: &Meta, attempt: Attempt| if attempt.0 == 0 { meta.timestamp.0 } else { 0 };
    of_log.map(|(meta, attempt)| (rank(meta, *attempt), meta.offset.0, *attempt, meta.bytes)).collect()
}

fn put_cursor(
    out: &mut Vec<u8>,
    number: u16,
    cursor: &Cursor,
    by_key: bool,
    parked: Vec<(u64, u64, Attempt, u32)>,
) {
    put(out, cursor.done.head());
    put(out, cursor.done.stretches() as u64);
    for (start, end) in cursor.done.above() {
        put(out, start);
        put(out, end);
    }
    // What expired or overflowed and is on its way to the dead letters waits again after a restart: the journal does not know
    // of it. It is found by its log, unless it has been handed out or waited for its time.
    let unknown = |flight: &Flight| {
        flight.dying.as_ref().is_some_and(|dying| matches!(dying.reason, Reason::Expired | Reason::Overflow))
    };
    let (waits, mut flights): (Vec<_>, Vec<_>) =
        cursor.flying.iter().partition(|(_, flight)| unknown(flight));
    let mut returned: Vec<(u64, u64, Attempt, u32)> =
        cursor.returned.iter().map(|((rank, offset), r)| (*rank, *offset, r.attempt, r.bytes)).collect();
    // One that has its key and was given to nobody is found by its log, too.
    returned.retain(|(rank, _, attempt, _)| !by_key || is_delayed(number) || *rank > 0 || attempt.0 > 0);
    for (offset, flight) in waits {
        if let Some(rank) = flight.dying.as_ref().and_then(|dying| dying.rank) {
            returned.push((rank, *offset, flight.attempt, flight.bytes));
        }
    }
    returned.extend(parked);
    let behind = cursor.parked().filter(|(_, attempt)| attempt.0 > 0);
    returned.extend(behind.map(|(meta, attempt)| (0, meta.offset.0, *attempt, meta.bytes)));
    returned.sort_unstable_by_key(|(rank, offset, ..)| (*rank, *offset));
    flights.sort_unstable_by_key(|(offset, _)| **offset);
    put(out, flights.len() as u64);
    for (offset, flight) in flights {
        put(out, *offset);
        put(out, if flight.held_until == Millis::NEVER { 0 } else { flight.held_until.0 });
        put(out, flight.attempt.0.into());
        put(out, flight.bytes.into());
        let dying = flight.dying.as_deref();
        put(out, dying.map_or(0, |dying| dying.reason as u64 + 1));
        if let Some(dying) = dying {
            put_text(out, dying.error.as_deref());
            put_text(out, dying.class.as_deref());
        }
    }
    put(out, returned.len() as u64);
    for (rank, offset, attempt, bytes) in returned {
        for value in [rank, offset, attempt.0.into(), bytes.into()] {
            put(out, value);
        }
    }
}

fn take_cursor(input: &mut &[u8], version: u8) -> Result<Cursor, Error> {
    let mut done = Done::up_to(take(input)?);
    for _ in 0..count(input)? {
        done.insert(take(input)?, take(input)?);
    }
    let mut cursor = Cursor::starting_at(0);
    cursor.done = done;
    for _ in 0..count(input)? {
        let (offset, until) = (take(input)?, take(input)?);
        let held_until = if until == 0 { Millis::NEVER } else { Millis(until) };
        let (attempt, bytes) = (Attempt(number(input)?), number(input)?);
        let dying = match take(input)? {
            0 => None,
            stored => {
                let reason = u8::try_from(stored - 1).ok().and_then(Reason::from_stored);
                let reason = reason.ok_or(Error::Unknown("reason"))?;
                let error = take_text(input)?;
                let class =
                    if version > VERSION_WITHOUT_FAULTS { take_text(input)?.map(Into::into) } else { None };
                Some(Box::new(Dying { reason, error, class, rank: None }))
            }
        };
        cursor.flying.insert(
            offset,
            Flight { consumer: None, held_until, attempt, bytes, meta: None, tenant: None, dying },
        );
    }
    for _ in 0..count(input)? {
        let (rank, offset) = (take(input)?, take(input)?);
        let returned = Returned { attempt: Attempt(number(input)?), bytes: number(input)?, meta: None };
        cursor.give_back(rank, offset, returned);
    }
    Ok(cursor)
}
