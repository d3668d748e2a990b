//! Publishing, alone or as part of a transaction: all of it is checked before any of it is stored.

use bytes::Bytes;
use smallvec::smallvec;
use waystation_base::{
    Attempt, EntityId, Message, Millis, Name, Offset, Position,
    batch::{self, Encoder, Header},
    limits::{BATCH_BYTES_MAX, DELAYED_MESSAGES_MAX, PUBLISH_MESSAGES_MAX, WINDOW_MESSAGES_MAX},
    message::header::MESSAGE_ID,
    partitioner::partition,
};

use super::{
    Address, Ctx, Queue, Shard, Subscription, Topic,
    cursor::{DELAYED_LOGS, tag},
    entry::{CONTENT_BYTES, Entry, kind, put_publish_head},
    log::Hot,
    outlet::Waiting,
    timers::Timer,
};
use crate::{
    Append, Kind, Refusal,
    command::{Payload, Publish, Target, Transaction},
    effect::Published,
    place::{LogId, Meta, Place, key_hash},
    spec::Overflow,
};

/// What a record adds to its message at most: lengths, deltas, and the `ws` header.
const RECORD_OVERHEAD_BYTES: usize = 80;
/// Bytes of messages in one publish, as [`Message::size`] counts them: the batch they make is within its own bound.
const PUBLISH_BYTES_MAX: usize = BATCH_BYTES_MAX / 4 * 3;

/// A batch that has been written.
struct Stored {
    position: Position,
    bytes: u32,
    /// Of keys, values and headers together.
    content_bytes: u32,
}

impl Shard {
    pub(super) fn transact(
        &mut self,
        transaction: Transaction,
        ctx: &mut Ctx<'_>,
    ) -> Result<Vec<Published>, Refusal> {
        let Transaction { publishes, settlements } = transaction;
        let mut checked = Vec::with_capacity(publishes.len());
        let mut planned: Vec<(EntityId, u64, u64)> = Vec::new();
        for publish in &publishes {
            checked.push(self.check_publish(publish, &mut planned, ctx.now)?);
        }
        self.check_settlements(&settlements)?;
        for settle in settlements {
            self.settle(settle, ctx);
        }
        let publishes = publishes.into_iter().zip(checked);
        Ok(publishes.map(|(publish, address)| self.store(publish, address, ctx)).collect())
    }

    /// Publishes that stand alone.
    pub(super) fn publish_each(
        &mut self,
        publishes: Vec<Publish>,
        ctx: &mut Ctx<'_>,
    ) -> Vec<Result<Published, Refusal>> {
        let mut planned = Vec::new();
        let each = publishes.into_iter().map(|publish| {
            planned.clear();
            let address = self.check_publish(&publish, &mut planned, ctx.now)?;
            Ok(self.store(publish, address, ctx))
        });
        each.collect()
    }

    /// Checks a publish; `planned` holds what earlier ones of the same transaction bring to which queue.
    pub(super) fn check_publish(
        &self,
        publish: &Publish,
        planned: &mut Vec<(EntityId, u64, u64)>,
        now: Millis,
    ) -> Result<Address, Refusal> {
        let Target::Address(to) = &publish.to else { return Err(super::not_yet()) };
        let address = self.addresses.get(to).copied().ok_or_else(|| not_found(to))?;
        let (messages, bytes) = check_payload(&publish.payload)?;
        match address {
            Address::Topic(id) => self.check_partition(id, publish.partition)?,
            Address::Queue(id) => {
                let queue = &self.queues[&id];
                let before = planned.iter().filter(|(queue, ..)| *queue == id);
                let before =
                    before.fold((0, 0), |sum, (_, messages, bytes)| (sum.0 + messages, sum.1 + bytes));
                queue.check_room(before.0 + messages, before.1 + bytes)?;
                check_delayed(queue, &publish.payload, now)?;
                planned.push((id, messages, bytes));
            }
        }
        Ok(address)
    }

    fn check_partition(&self, topic: EntityId, partition: Option<u32>) -> Result<(), Refusal> {
        let topic = &self.topics[&topic];
        match partition {
            Some(partition) if partition as usize >= topic.logs.len() => Err(Refusal::NotFound {
                kind: Kind::Topic,
                name: format!("{}' partition '{partition}", topic.name),
            }),
            _ => Ok(()),
        }
    }

    /// Stores what was checked.
    pub(super) fn store(&mut self, publish: Publish, address: Address, ctx: &mut Ctx<'_>) -> Published {
        match (address, publish.payload) {
            (Address::Queue(id), payload) => self.store_in_queue(id, into_messages(payload), ctx),
            (Address::Topic(id), Payload::One(message)) => {
                self.store_in_topic(id, vec![message], publish.partition, ctx)
            }
            (Address::Topic(id), Payload::Messages(messages)) => {
                self.store_in_topic(id, messages, publish.partition, ctx)
            }
            (Address::Topic(id), Payload::Batch(batch)) => {
                self.store_batch(id, &batch, publish.partition, ctx)
            }
        }
    }

    fn store_in_queue(&mut self, id: EntityId, mut messages: Vec<Message>, ctx: &mut Ctx<'_>) -> Published {
        let Shard { queues, scratch, places, .. } = self;
        let queue = queues.get_mut(&id).expect("checked");
        let mut published = Published::default();
        let before = messages.len();
        let ids = queue.sift_duplicates(&mut messages, ctx.now);
        published.duplicates = (before - messages.len()) as u32;
        if published.duplicates > 0 {
            queue.outlet.counters.duplicates += u64::from(published.duplicates);
            Entry::Count(id, published.duplicates).append(ctx.log);
        }
        if !queue.plain
            && let Some(ttl) = queue.spec.ttl_ms
        {
            for message in &mut messages {
                let start = message.deliver_at.unwrap_or(ctx.now).max(ctx.now);
                message.expires_at = Some(message.expires_at.unwrap_or(Millis::NEVER).min(start.plus(ttl)));
            }
        }
        let now = ctx.now;
        let log_of = |message: &Message| {
            let delayed = message.deliver_at.is_some_and(|at| at > now);
            u16::from(message.priority) + if delayed { DELAYED_LOGS } else { 0 }
        };
        if messages.len() > 1 {
            messages.sort_by_key(log_of);
        }
        let mut ids = Some(ids);
        for same in messages.chunk_by(|a, b| log_of(a) == log_of(b)) {
            let log = LogId { entity: id, log: log_of(&same[0]) };
            let first = queue.logs.get(log.log).map_or(0, |log| log.next);
            let ids = ids.take().unwrap_or_default();
            places.clear();
            let stored = store(scratch, ctx.log, log, first, (&ids, ctx.now), same, places);
            queue.stored(log.log, first, &stored, same, places, ctx);
            published.stretches.push((log.log, Offset(first), same.len() as u32));
        }
        if queue.wants_look() {
            ctx.dirty.push((Kind::Queue, id));
        }
        published
    }

    fn store_in_topic(
        &mut self,
        id: EntityId,
        mut messages: Vec<Message>,
        fixed: Option<u32>,
        ctx: &mut Ctx<'_>,
    ) -> Published {
        let Shard { topics, subscriptions, scratch, places, .. } = self;
        let topic = topics.get_mut(&id).expect("checked");
        let partitions = topic.logs.len() as u32;
        let turn = topic.turn % partitions;
        topic.turn = turn + 1;
        let partition_of = |message: &Message| match (fixed, &message.key) {
            (Some(fixed), _) => fixed,
            (None, Some(key)) => partition(key, partitions),
            (None, None) => turn,
        };
        if messages.len() > 1 && partitions > 1 {
            messages.sort_by_cached_key(partition_of);
        }
        let mut published = Published::default();
        for same in messages.chunk_by(|a, b| partition_of(a) == partition_of(b)) {
            let log = LogId { entity: id, log: partition_of(&same[0]) as u16 };
            let first = topic.logs[usize::from(log.log)].next;
            places.clear();
            let stored = store(scratch, ctx.log, log, first, (&[], ctx.now), same, places);
            topic.stored(log.log, first, same.len() as u32, latest(same), &stored);
            for (reader, number) in &topic.readers[usize::from(log.log)] {
                if let Some(subscription) = subscriptions.get_mut(reader) {
                    subscription.offer(*number, &topic.name, log, first, &stored, same, places, ctx);
                }
            }
            published.stretches.push((log.log, Offset(first), same.len() as u32));
        }
        published
    }

    fn store_batch(
        &mut self,
        id: EntityId,
        batch: &Bytes,
        fixed: Option<u32>,
        ctx: &mut Ctx<'_>,
    ) -> Published {
        let topic = self.topics.get_mut(&id).expect("checked");
        let header = Header::read(batch).expect("checked by the door and again with the publish");
        let partition = fixed.unwrap_or(0);
        let log = LogId { entity: id, log: partition as u16 };
        let first = topic.logs[partition as usize].next;
        let count = header.last_offset_delta + 1;
        let mut head = 0;
        let payload = ctx.log.append(kind::PUBLISH, &mut |out| {
            let start = out.len();
            put_publish_head(out, log, &[], Millis(0), false);
            head = out.len() - start;
            let at = out.len();
            out.extend_from_slice(&batch[..header.bytes]);
            batch::rebase(&mut out[at..], Offset(first), 0);
        });
        let position = Position(payload.0 + head as u64);
        let bytes = header.bytes as u32;
        topic.apply_stored(log.log, first, count, header.count, header.max_timestamp, position, bytes);
        let readers = &topic.readers[partition as usize];
        ctx.dirty.extend(readers.iter().map(|(reader, _)| (Kind::Subscription, *reader)));
        Published { stretches: smallvec![(log.log, Offset(first), count)], ..Published::default() }
    }
}

pub(super) fn not_found(address: &Name) -> Refusal {
    Refusal::NotFound { kind: Kind::Queue, name: address.to_string() }
}

/// Checks each message's limits; returns how many there are and their bytes.
fn check_payload(payload: &Payload) -> Result<(u64, u64), Refusal> {
    let too_large = |what, count: usize, limit: usize| {
        Err(Refusal::TooLarge { what, count: count as u64, limit: limit as u64 })
    };
    let (count, bytes) = match payload {
        Payload::Batch(batch) => {
            let header = Header::read(batch).map_err(|error| Refusal::Batch(error.to_string()))?;
            if header.count == 0 || header.count > header.last_offset_delta + 1 {
                return Err(Refusal::Batch("its record count does not fit its offsets".into()));
            }
            (header.count as usize, header.bytes)
        }
        Payload::One(message) => {
            message.check().map_err(|error| Refusal::Message { index: 0, error })?;
            (1, message.size() + RECORD_OVERHEAD_BYTES)
        }
        Payload::Messages(messages) => {
            let mut bytes = 0;
            for (index, message) in messages.iter().enumerate() {
                message.check().map_err(|error| Refusal::Message { index, error })?;
                bytes += message.size() + RECORD_OVERHEAD_BYTES;
            }
            (messages.len(), bytes)
        }
    };
    if count > PUBLISH_MESSAGES_MAX {
        return too_large("messages in one publish", count, PUBLISH_MESSAGES_MAX);
    }
    if bytes > PUBLISH_BYTES_MAX {
        return too_large("bytes in one publish", bytes, PUBLISH_BYTES_MAX);
    }
    Ok((count as u64, bytes as u64))
}

fn check_delayed(queue: &Queue, payload: &Payload, now: Millis) -> Result<(), Refusal> {
    let messages = match payload {
        Payload::One(message) => std::slice::from_ref(message),
        Payload::Messages(messages) => messages,
        Payload::Batch(_) => return Ok(()),
    };
    let more = messages.iter().filter(|message| message.deliver_at.is_some_and(|at| at > now)).count();
    if more > 0 && queue.outlet.delayed.len() + more > DELAYED_MESSAGES_MAX {
        return Err(Refusal::Limit {
            what: "delayed messages in one queue",
            limit: DELAYED_MESSAGES_MAX as u64,
        });
    }
    Ok(())
}

/// A batch for a queue is taken apart: its messages come and go one by one.
fn into_messages(payload: Payload) -> Vec<Message> {
    match payload {
        Payload::One(message) => vec![message],
        Payload::Messages(messages) => messages,
        Payload::Batch(batch) => batch::records(&batch)
            .into_iter()
            .flatten()
            .filter_map(|record| record.ok()?.message(&batch).ok())
            .collect(),
    }
}

fn latest(messages: &[Message]) -> Millis {
    messages.iter().map(|message| message.timestamp).max().unwrap_or_default()
}

/// Writes messages of one log as one entry with one batch; `places` gets where each record begins in the batch.
fn store(
    scratch: &mut batch::Scratch,
    out: &mut dyn Append,
    log: LogId,
    first: u64,
    (ids, now): (&[u128], Millis),
    messages: &[Message],
    places: &mut Vec<u32>,
) -> Stored {
    let (mut head, mut bytes, mut content_bytes) = (0, 0, 0);
    let expires = messages.iter().any(|message| message.expires_at.is_some());
    let payload = out.append(kind::PUBLISH, &mut |out| {
        let start = out.len();
        put_publish_head(out, log, ids, now, expires);
        head = out.len() - start;
        let mut encoder = Encoder::new(out, scratch, Offset(first), messages[0].timestamp);
        for (offset, message) in (first..).zip(messages) {
            places.push(encoder.push(Offset(offset), message));
        }
        bytes = encoder.len();
        encoder.finish();
        let contents =
            messages.iter().enumerate().map(|(index, _)| content(index, messages, places, bytes as u32));
        content_bytes = contents.sum();
        let at = start + head;
        out[at - CONTENT_BYTES..at].copy_from_slice(&content_bytes.to_le_bytes());
    });
    Stored { position: Position(payload.0 + head as u64), bytes: bytes as u32, content_bytes }
}

/// Bytes of key, value and headers of the message at `index`, of a batch with so many bytes.
fn content(index: usize, messages: &[Message], places: &[u32], batch_bytes: u32) -> u32 {
    let end = places.get(index + 1).copied().unwrap_or(batch_bytes);
    let delta = messages[index].timestamp.0.wrapping_sub(messages[0].timestamp.0) as i64;
    batch::content_bytes((end - places[index]) as usize, delta, index as u64) as u32
}

/// What is to be kept of each message just stored.
fn metas<'a>(
    log: LogId,
    first: u64,
    stored: &'a Stored,
    messages: &'a [Message],
    places: &'a [u32],
) -> impl Iterator<Item = Meta> + 'a {
    messages.iter().enumerate().map(move |(index, message)| Meta {
        log,
        offset: Offset(first + index as u64),
        place: Place::Journal(stored.position),
        at: places[index],
        bytes: content(index, messages, places, stored.bytes),
        timestamp: message.deliver_at.unwrap_or_default().max(message.timestamp),
        expires_at: message.expires_at.unwrap_or(Millis::NEVER),
        key_hash: key_hash(message.key.as_deref()),
    })
}

impl Queue {
    /// Whether so much more fits in, for a queue that refuses what does not.
    pub(super) fn check_room(&self, messages: u64, bytes: u64) -> Result<(), Refusal> {
        let full = |limit| Err(Refusal::Full { name: self.outlet.name.clone(), limit });
        if self.plain || self.spec.overflow != Overflow::RejectPublish {
            return Ok(());
        }
        if let Some(max) = self.spec.max_messages
            && self.alive() + messages > max
        {
            return full(format!("max_messages {max}"));
        }
        match self.spec.max_bytes {
            Some(max) if self.outlet.bytes + bytes > max => full(format!("max_bytes {max}")),
            _ => Ok(()),
        }
    }

    /// Whether a publish may have made something ready, or too much.
    fn wants_look(&self) -> bool {
        self.outlet.consumers.len() > 0
            || self.outlet.expiring
            || (!self.plain && self.spec.overflow != Overflow::RejectPublish)
    }

    /// Takes out messages whose id was seen of late; returns the ids of the others.
    fn sift_duplicates(&mut self, messages: &mut Vec<Message>, now: Millis) -> Vec<u128> {
        if self.plain {
            return Vec::new();
        }
        let Some(window) = self.spec.deduplication_ms else { return Vec::new() };
        let mut ids = Vec::new();
        messages.retain(|message| {
            let Some(id) = message.headers.text(MESSAGE_ID) else { return true };
            let id = xxhash_rust::xxh3::xxh3_128(id.as_bytes());
            if self.recent.has(id, now) {
                return false;
            }
            self.recent.note(id, now, now.plus(window));
            ids.push(id);
            true
        });
        ids
    }

    fn stored(
        &mut self,
        log: u16,
        first: u64,
        stored: &Stored,
        messages: &[Message],
        places: &[u32],
        ctx: &mut Ctx<'_>,
    ) {
        let entity = self.outlet.id;
        let count = messages.len() as u32;
        let timestamp = latest(messages);
        self.apply_stored(log, first, count, timestamp, stored.position, stored.bytes, stored.content_bytes);
        self.outlet.expiring |= messages.iter().any(|message| message.expires_at.is_some());
        let log_id = LogId { entity, log };
        let metas = metas(log_id, first, stored, messages, places);
        if log >= DELAYED_LOGS {
            for (meta, message) in metas.zip(messages) {
                let due = message.deliver_at.unwrap_or_default();
                let waiting = Waiting { attempt: Attempt(0), bytes: meta.bytes };
                self.outlet.wait(due, tag(log, meta.offset.0), waiting);
                if self.outlet.delayed.first_key_value().is_some_and(|((first, _), _)| *first == due) {
                    ctx.timers.push((due, Timer::Due(entity)));
                }
            }
        } else if self.outlet.consumers.len() > 0 {
            let cursor = self.outlet.cursors.entry(log).or_default();
            if cursor.scan == first && cursor.window.len() + messages.len() <= WINDOW_MESSAGES_MAX {
                cursor.window.extend(metas);
                cursor.scan = first + u64::from(count);
            }
        }
    }

    /// Notes a stored batch, now or after a restart.
    pub(super) fn apply_stored(
        &mut self,
        log: u16,
        first: u64,
        count: u32,
        timestamp: Millis,
        position: Position,
        bytes: u32,
        content_bytes: u32,
    ) {
        self.lane(log).append(Hot {
            first,
            position: position.0,
            timestamp: timestamp.0,
            span: count - 1,
            bytes,
        });
        self.outlet.bytes += u64::from(content_bytes);
        self.outlet.counters.published += u64::from(count);
    }
}

impl Topic {
    fn stored(&mut self, partition: u16, first: u64, count: u32, timestamp: Millis, stored: &Stored) {
        self.apply_stored(partition, first, count, count, timestamp, stored.position, stored.bytes);
    }

    /// Notes a stored batch, now or after a restart; `span` counts offsets, `count` messages.
    pub(super) fn apply_stored(
        &mut self,
        partition: u16,
        first: u64,
        span: u32,
        count: u32,
        timestamp: Millis,
        position: Position,
        bytes: u32,
    ) {
        if let Some(log) = self.logs.get_mut(usize::from(partition)) {
            log.append(Hot { first, position: position.0, timestamp: timestamp.0, span: span - 1, bytes });
            self.counters.published += u64::from(count);
        }
    }
}

impl Subscription {
    /// A topic has new messages: one that has read all before them and has consumers takes them as they are.
    #[allow(clippy::too_many_arguments)]
    fn offer(
        &mut self,
        number: u16,
        topic: &Name,
        log: LogId,
        first: u64,
        stored: &Stored,
        messages: &[Message],
        places: &[u32],
        ctx: &mut Ctx<'_>,
    ) {
        let outlet = &mut self.outlet;
        if outlet.consumers.len() == 0 {
            return;
        }
        ctx.dirty.push((Kind::Subscription, outlet.id));
        let (filter, since) = (outlet.policy.filter.clone(), outlet.policy.since);
        let Some(cursor) = outlet.cursors.get_mut(&number) else { return };
        if cursor.scan != first || cursor.window.len() + messages.len() > WINDOW_MESSAGES_MAX {
            return;
        }
        for (meta, message) in metas(log, first, stored, messages, places).zip(messages) {
            let wanted = filter.as_ref().is_none_or(|filter| filter.matches(topic.as_str(), message));
            if wanted && since.is_none_or(|since| meta.timestamp >= since) {
                outlet.expiring |= meta.expires_at != Millis::NEVER;
                cursor.window.push_back(meta);
            } else {
                cursor.done.add(meta.offset.0);
            }
        }
        cursor.scan = first + messages.len() as u64;
    }
}
