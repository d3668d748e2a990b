//! The journal entries of a shard: each a fact that the state is a fold of. Numbers are varints unless said otherwise.
//!
//! ```text
//! 1 declare:  entity | JSON of {name, spec}
//! 2 delete:   entity
//! 3 publish:  entity | log | 2 * count of ids + 1 if a message expires | if there are ids: time | ids (16 bytes each) |
//!             bytes of keys, values and headers together (u32, little-endian) | record batch
//! 4 take:     entity | held until (0: while attached) | (log | offset | attempt | bytes)*
//! 5 done:     entity | reason | bytes in all | (log | start | count)*
//! 6 return:   entity | (log | offset | attempt | bytes | due (0: now))*
//! 7 dying:    entity | reason | error text behind its length | (log | offset | attempt | bytes)
//! 8 extend:   entity | held until | (log | offset)*
//! 9 source:   subscription | source number | topic | partition | start offset
//! 10 seek:    subscription | source number | offset
//! 11 trim:    topic | partition | base
//! 12 settled: 0 and a journal position, or 1, a count and file numbers | runs*
//! 13 count:   entity | duplicates
//! 14 bind:    route | queue, topic or route | key behind its length | JSON of the arguments, or nothing
//! 15 unbind:  as 14
//! 16 document: name behind its length | 0, or 1 and what it says
//! 17 failed:  entity | error class behind its length | error text behind its length | (log | offset)*
//! 18 moment:  time | client (0: nobody) | step
//! 19 client:  client | door, address, user and own name, each behind its length
//! 20 hand:    as 4, with a client behind each message
//! 21 tenant: queue | slot | tenant's name
//! 22 unrouted: route (0: none, the routing key was to be a queue) | 1 if the sender is told | messages before that are not told of |
//!             record batch, without the bodies that are longer than UNROUTED_BODY_BYTES_MAX
//! ```
//!
//! 18, 19 and 22 change nothing: the first two tell when, by whom and in which step the entries behind them in the same group came about,
//! the last that nothing took messages. 4 was
//! written by versions that did not tell to whom messages were handed.

mod bound;
mod context;
pub mod kind;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use waystation_base::{
    Attempt, ClientId, EntityId, Millis, Name, Offset, Position,
    limits::TENANTS_MAX,
    name,
    varint::{self, put, put_prefixed, take, take_bytes, take_prefixed},
};

pub use super::{cursor::Reason, faults::Fault};
use crate::{
    Append,
    place::LogId,
    settle::{Leaving, Outcome, SettledRun},
    spec::Spec,
};
pub use bound::{Bound, put_bound, take_bound};
pub use context::{Client, Moment, Step};
pub use kind::kind_name;

/// Why an entry cannot be understood: the journal is of a later version, or damaged in a way that its checksums do not see.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No such kind in this version.
    #[error("journal entry kind {0} is unknown: it was written by a later version")]
    Kind(u8),
    /// Cut or malformed.
    #[error("journal entry is malformed: {0}")]
    Malformed(#[from] varint::Error),
    /// A number that names nothing.
    #[error("journal entry names an unknown {0}")]
    Unknown(&'static str),
    /// A declaration that is none.
    #[error("journal entry holds a bad declaration: {0}")]
    Json(#[from] serde_json::Error),
    /// A name that is none.
    #[error("journal entry holds a bad name: {0}")]
    Name(#[from] name::Error),
    /// A batch that is none.
    #[error("journal entry holds a bad record batch: {0}")]
    Batch(#[from] waystation_base::batch::Error),
}

/// The text of a declare entry.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Declaration {
    /// Its name.
    pub name: Name,
    /// What it shall be.
    pub spec: Spec,
}

/// One message in a take, return or dying entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    /// The log number.
    pub log: u16,
    /// The offset.
    pub offset: u64,
    /// Take: the attempt that this is. Return: the attempts so far.
    pub attempt: Attempt,
    /// Bytes of its record.
    pub bytes: u32,
    /// Return: when it is ready again; 0 for now.
    pub due: Millis,
    /// Take: who got it; 0: nobody who is known.
    pub client: ClientId,
}

/// Messages that nothing took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unrouted<'a> {
    /// The route that they were published to; 0: none, their routing key was to be a queue.
    pub route: EntityId,
    /// Their sender is told.
    pub told: bool,
    /// So many were taken by nothing since the last such entry of this route, and are not told of one by one.
    pub omitted: u64,
    /// A record batch; empty: they are only counted.
    pub batch: &'a [u8],
}

/// Bytes that the count of body bytes takes at the end of a publish entry's head.
pub const BODY_BYTES: usize = 4;

/// An entry taken apart.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "declarations are rare, and none is kept in this form")]
pub enum Entry<'a> {
    /// 1.
    Declare(EntityId, Declaration),
    /// 2.
    Delete(EntityId),
    /// 3.
    Publish(Publish<'a>),
    /// 4 and 20.
    Take(EntityId, Millis, Vec<Item>),
    /// 5.
    Done(EntityId, Reason, u64, Vec<(u16, u64, u64)>),
    /// 6.
    Return(EntityId, Vec<Item>),
    /// 7.
    Dying(EntityId, Reason, Option<String>, Item),
    /// 8.
    Extend(EntityId, Millis, Vec<(u16, u64)>),
    /// 9.
    Source(EntityId, u16, LogId, Offset),
    /// 10.
    Seek(EntityId, u16, Offset),
    /// 11.
    Trim(LogId, Offset),
    /// 12.
    Settled(Outcome),
    /// 13.
    Count(EntityId, u32),
    /// 14.
    Bind(Bound),
    /// 15.
    Unbind(Bound),
    /// 16.
    Document(Name, Option<&'a [u8]>),
    /// 17: what the consumer said of an attempt; what becomes of it follows.
    Failed(EntityId, Fault, Vec<(u16, u64)>),
    /// 18.
    Moment(Moment),
    /// 19.
    Client(Client<'a>),
    /// 21: the tenant whose messages lie in a slot's logs from now on.
    Tenant(EntityId, u8, SmolStr),
    /// 22.
    Unrouted(Unrouted<'a>),
}

/// A publish entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Where to.
    pub log: LogId,
    /// Hashes of message ids, 16 bytes each, of a queue that deduplicates.
    pub ids: &'a [u8],
    /// When the ids were seen; 0 without ids.
    pub seen: Millis,
    /// Whether a message in it has an expiry.
    pub expires: bool,
    /// Bytes of the messages' bodies together; 0 where nobody counts them.
    pub body_bytes: u32,
    /// Where in the payload the batch begins.
    pub batch_at: usize,
    /// The record batch.
    pub batch: &'a [u8],
}

/// Writes the head of a publish entry; its last [`BODY_BYTES`] bytes are filled in when they are known, and the batch follows
/// at once. `seen`: when the ids were.
pub fn put_publish_head(out: &mut Vec<u8>, log: LogId, ids: &[u128], seen: Millis, expires: bool) {
    put(out, log.entity.0.into());
    put(out, log.log.into());
    put(out, (ids.len() as u64) << 1 | u64::from(expires));
    if !ids.is_empty() {
        put(out, seen.0);
    }
    for id in ids {
        out.extend_from_slice(&id.to_le_bytes());
    }
    out.extend_from_slice(&[0; BODY_BYTES]);
}

fn put_item(out: &mut Vec<u8>, item: &Item) {
    put(out, item.log.into());
    put(out, item.offset);
    put(out, item.attempt.0.into());
    put(out, item.bytes.into());
}

impl Entry<'_> {
    /// Appends any entry but a publish, whose batch is encoded in place.
    pub fn append(&self, log: &mut dyn Append) {
        log.append(self.kind(), &mut |out| self.write(out));
    }

    fn kind(&self) -> u8 {
        match self {
            Entry::Declare(..) => kind::DECLARE,
            Entry::Delete(..) => kind::DELETE,
            Entry::Publish(..) => kind::PUBLISH,
            Entry::Take(..) => kind::HAND,
            Entry::Done(..) => kind::DONE,
            Entry::Return(..) => kind::RETURN,
            Entry::Dying(..) => kind::DYING,
            Entry::Extend(..) => kind::EXTEND,
            Entry::Source(..) => kind::SOURCE,
            Entry::Seek(..) => kind::SEEK,
            Entry::Trim(..) => kind::TRIM,
            Entry::Settled(..) => kind::SETTLED,
            Entry::Count(..) => kind::COUNT,
            Entry::Bind(..) => kind::BIND,
            Entry::Unbind(..) => kind::UNBIND,
            Entry::Document(..) => kind::DOCUMENT,
            Entry::Failed(..) => kind::FAILED,
            Entry::Moment(..) => kind::MOMENT,
            Entry::Client(..) => kind::CLIENT,
            Entry::Tenant(..) => kind::TENANT,
            Entry::Unrouted(..) => kind::UNROUTED,
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Entry::Declare(entity, declaration) => {
                put(out, entity.0.into());
                serde_json::to_writer(out, declaration).expect("a declaration has a JSON form");
            }
            Entry::Delete(entity) => put(out, entity.0.into()),
            Entry::Publish(_) => {
                unreachable!("a publish is written by put_publish_head and the batch encoder")
            }
            Entry::Take(entity, until, items) => {
                put(out, entity.0.into());
                put(out, if *until == Millis::NEVER { 0 } else { until.0 });
                for item in items {
                    put_item(out, item);
                    put(out, item.client.0.into());
                }
            }
            Entry::Done(entity, reason, bytes, stretches) => {
                put(out, entity.0.into());
                put(out, *reason as u64);
                put(out, *bytes);
                for (log, start, count) in stretches {
                    put(out, (*log).into());
                    put(out, *start);
                    put(out, *count);
                }
            }
            Entry::Return(entity, items) => {
                put(out, entity.0.into());
                for item in items {
                    put_item(out, item);
                    put(out, item.due.0);
                }
            }
            Entry::Dying(entity, reason, error, item) => {
                put(out, entity.0.into());
                put(out, *reason as u64);
                put_prefixed(out, error.as_deref().unwrap_or_default().as_bytes());
                put_item(out, item);
            }
            Entry::Extend(entity, until, held) => {
                put(out, entity.0.into());
                put(out, until.0);
                put_places(out, held);
            }
            Entry::Source(subscription, number, log, start) => {
                for value in
                    [subscription.0.into(), u64::from(*number), log.entity.0.into(), log.log.into(), start.0]
                {
                    put(out, value);
                }
            }
            Entry::Seek(subscription, number, offset) => {
                [subscription.0.into(), u64::from(*number), offset.0]
                    .into_iter()
                    .for_each(|value| put(out, value));
            }
            Entry::Trim(log, base) => {
                [log.entity.0.into(), u64::from(log.log), base.0]
                    .into_iter()
                    .for_each(|value| put(out, value));
            }
            Entry::Settled(outcome) => put_outcome(out, outcome),
            Entry::Count(entity, duplicates) => {
                put(out, entity.0.into());
                put(out, (*duplicates).into());
            }
            Entry::Bind(bound) | Entry::Unbind(bound) => put_bound(out, bound),
            Entry::Document(name, body) => {
                put_prefixed(out, name.as_str().as_bytes());
                out.push(body.is_some().into());
                out.extend_from_slice(body.unwrap_or_default());
            }
            Entry::Tenant(entity, slot, name) => {
                put(out, entity.0.into());
                put(out, (*slot).into());
                out.extend_from_slice(name.as_bytes());
            }
            Entry::Unrouted(Unrouted { route, told, omitted, batch }) => {
                put(out, route.0.into());
                put(out, u64::from(*told));
                put(out, *omitted);
                out.extend_from_slice(batch);
            }
            Entry::Failed(entity, fault, places) => {
                put(out, entity.0.into());
                put_prefixed(out, fault.class.as_deref().unwrap_or_default().as_bytes());
                put_prefixed(out, fault.text.as_deref().unwrap_or_default().as_bytes());
                put_places(out, places);
            }
            Entry::Moment(moment) => moment.put(out),
            Entry::Client(client) => client.put(out),
        }
    }
}

fn put_places(out: &mut Vec<u8>, places: &[(u16, u64)]) {
    for (log, offset) in places {
        put(out, (*log).into());
        put(out, *offset);
    }
}

fn text(bytes: &[u8]) -> Result<&str, Error> {
    std::str::from_utf8(bytes).map_err(|_| Error::Unknown("text"))
}

fn put_outcome(out: &mut Vec<u8>, outcome: &Outcome) {
    match &outcome.leaving {
        Leaving::Journal(to) => {
            put(out, 0);
            put(out, to.0);
        }
        Leaving::Files(files) => {
            put(out, 1);
            put(out, files.len() as u64);
            files.iter().for_each(|file| put(out, (*file).into()));
        }
    }
    outcome.runs.iter().for_each(|run| put_run(out, run));
}

/// Appends one run.
pub fn put_run(out: &mut Vec<u8>, run: &SettledRun) {
    for value in [run.file.into(), u64::from(run.log.entity.0), run.log.log.into(), run.first.0, run.last.0] {
        put(out, value);
    }
    for value in [run.messages, run.bytes, run.min_timestamp.0, run.max_timestamp.0] {
        put(out, value);
    }
}

fn number<T: TryFrom<u64>>(input: &mut &[u8]) -> Result<T, varint::Error> {
    T::try_from(take(input)?).map_err(|_| varint::Error::Overflow)
}

fn entity(input: &mut &[u8]) -> Result<EntityId, varint::Error> {
    number(input).map(EntityId)
}

fn reason(input: &mut &[u8]) -> Result<Reason, Error> {
    Reason::from_stored(number(input)?).ok_or(Error::Unknown("reason"))
}

fn item(input: &mut &[u8]) -> Result<Item, varint::Error> {
    Ok(Item {
        log: number(input)?,
        offset: take(input)?,
        attempt: Attempt(number(input)?),
        bytes: number(input)?,
        due: Millis(0),
        client: ClientId(0),
    })
}

fn slot(input: &mut &[u8]) -> Result<u8, Error> {
    number(input).ok().filter(|slot| usize::from(*slot) <= TENANTS_MAX).ok_or(Error::Unknown("slot"))
}

fn place(input: &mut &[u8]) -> Result<(u16, u64), varint::Error> {
    Ok((number(input)?, take(input)?))
}

/// Takes one run off the front of `input`.
pub fn take_run(input: &mut &[u8]) -> Result<SettledRun, varint::Error> {
    Ok(SettledRun {
        file: number(input)?,
        log: LogId { entity: entity(input)?, log: number(input)? },
        first: Offset(take(input)?),
        last: Offset(take(input)?),
        messages: take(input)?,
        bytes: take(input)?,
        min_timestamp: Millis(take(input)?),
        max_timestamp: Millis(take(input)?),
    })
}

/// Reads to the end of `input`.
fn all<T, E>(input: &mut &[u8], mut one: impl FnMut(&mut &[u8]) -> Result<T, E>) -> Result<Vec<T>, E> {
    let mut items = Vec::new();
    while !input.is_empty() {
        items.push(one(input)?);
    }
    Ok(items)
}

/// Takes an entry apart.
pub fn read(entry_kind: u8, payload: &[u8]) -> Result<Entry<'_>, Error> {
    let mut rest = payload;
    let input = &mut rest;
    Ok(match entry_kind {
        kind::DECLARE => Entry::Declare(entity(input)?, serde_json::from_slice(input)?),
        kind::DELETE => Entry::Delete(entity(input)?),
        kind::PUBLISH => {
            let log = LogId { entity: entity(input)?, log: number(input)? };
            let head: usize = number(input)?;
            let seen = if head >> 1 == 0 { Millis(0) } else { Millis(take(input)?) };
            let ids = take_bytes(input, (head >> 1).checked_mul(16).ok_or(varint::Error::Length)?)?;
            let expires = head & 1 == 1;
            let content = take_bytes(input, BODY_BYTES)?.try_into().expect("four bytes");
            let body_bytes = u32::from_le_bytes(content);
            let batch_at = payload.len() - input.len();
            Entry::Publish(Publish { log, ids, seen, expires, body_bytes, batch_at, batch: input })
        }
        kind::TAKE | kind::HAND => {
            let (entity, until) = (entity(input)?, take(input)?);
            let until = if until == 0 { Millis::NEVER } else { Millis(until) };
            let items = all(input, |input| {
                let item = item(input)?;
                let client = if entry_kind == kind::HAND { number(input)? } else { 0 };
                Ok::<_, varint::Error>(Item { client: ClientId(client), ..item })
            })?;
            Entry::Take(entity, until, items)
        }
        kind::DONE => Entry::Done(
            entity(input)?,
            reason(input)?,
            take(input)?,
            all(input, |input| Ok::<_, varint::Error>((number(input)?, take(input)?, take(input)?)))?,
        ),
        kind::RETURN => Entry::Return(
            entity(input)?,
            all(input, |input| {
                let item = item(input)?;
                Ok::<_, varint::Error>(Item { due: Millis(take(input)?), ..item })
            })?,
        ),
        kind::DYING => {
            let (entity, reason) = (entity(input)?, reason(input)?);
            let error = String::from_utf8_lossy(take_prefixed(input)?).into_owned();
            Entry::Dying(entity, reason, Some(error).filter(|error| !error.is_empty()), item(input)?)
        }
        kind::EXTEND => Entry::Extend(entity(input)?, Millis(take(input)?), all(input, place)?),
        kind::SOURCE => Entry::Source(
            entity(input)?,
            number(input)?,
            LogId { entity: entity(input)?, log: number(input)? },
            Offset(take(input)?),
        ),
        kind::SEEK => Entry::Seek(entity(input)?, number(input)?, Offset(take(input)?)),
        kind::TRIM => {
            Entry::Trim(LogId { entity: entity(input)?, log: number(input)? }, Offset(take(input)?))
        }
        kind::SETTLED => {
            let leaving = match take(input)? {
                0 => Leaving::Journal(Position(take(input)?)),
                1 => {
                    let count: usize = number(input)?;
                    if count > input.len() {
                        return Err(varint::Error::Length.into());
                    }
                    Leaving::Files((0..count).map(|_| number(input)).collect::<Result<_, _>>()?)
                }
                _ => return Err(Error::Unknown("kind of leaving")),
            };
            Entry::Settled(Outcome { leaving, runs: all(input, take_run)? })
        }
        kind::COUNT => Entry::Count(entity(input)?, number(input)?),
        kind::BIND => Entry::Bind(take_bound(input)?),
        kind::UNBIND => Entry::Unbind(take_bound(input)?),
        kind::DOCUMENT => {
            let name = SmolStr::new(text(take_prefixed(input)?)?).try_into()?;
            let body = match take_bytes(input, 1)? {
                [0] => None,
                _ => Some(*input),
            };
            Entry::Document(name, body)
        }
        kind::TENANT => {
            let (entity, slot) = (entity(input)?, slot(input)?);
            Entry::Tenant(entity, slot, text(std::mem::take(input))?.into())
        }
        kind::UNROUTED => Entry::Unrouted(Unrouted {
            route: entity(input)?,
            told: take(input)? != 0,
            omitted: take(input)?,
            batch: input,
        }),
        kind::FAILED => {
            let entity = entity(input)?;
            let (class, error) = (text(take_prefixed(input)?)?, text(take_prefixed(input)?)?);
            let fault = Fault::of(Some(class), Some(error)).unwrap_or_default();
            Entry::Failed(entity, fault, all(input, place)?)
        }
        kind::MOMENT => Entry::Moment(Moment::take(input)?),
        kind::CLIENT => Entry::Client(Client::take(input)?),
        other => return Err(Error::Kind(other)),
    })
}

#[cfg(test)]
mod tests;
