//! Storing messages that were checked: as one entry for each log, in queues and in topics' partitions.

use std::collections::BTreeMap;

use bytes::Bytes;
use smallvec::smallvec;
use waystation_base::{
    Attempt, EntityId, Message, Millis, Name, Offset, Position,
    batch::{self, Encoder, Header},
    limits::WINDOW_MESSAGES_MAX,
    message::{
        Headers,
        header::{MESSAGE_ID, REDRIVE, REDRIVE_UNDONE},
    },
    partitioner::partition,
};

use super::{
    Address, Ctx, HashMap, Queue, Shard, Subscription, Topic,
    cursor::{is_delayed, tag},
    entry::{BODY_BYTES, Entry, kind, put_publish_head},
    log::Hot,
    outlet::Waiting,
};
use crate::{
    Append, Kind,
    command::Payload,
    effect::Published,
    place::{LogId, Meta, Place, key_hash},
};

/// A batch that has been written.
struct Stored {
    position: Position,
    bytes: u32,
    /// Of bodies alone.
    body_bytes: u32,
}

/// What is used again from batch to batch.
#[derive(Debug, Default)]
pub(super) struct Encoding {
    scratch: batch::Scratch,
    /// Where each record begins in the batch.
    places: Vec<u32>,
}

impl Encoding {
    /// What an encoder uses again.
    pub(super) fn scratch(&mut self) -> &mut batch::Scratch {
        &mut self.scratch
    }
}

impl Shard {
    /// Stores messages that were checked.
    pub(super) fn store(
        &mut self,
        address: Address,
        payload: Payload,
        partition: Option<u32>,
        ctx: &mut Ctx<'_>,
    ) -> Published {
        match (address, payload) {
            (Address::Queue(id), payload) => self.store_in_queue(id, into_messages(payload), ctx),
            (Address::Topic(id), Payload::Batch(batch)) => self.store_batch(id, &batch, partition, ctx),
            (Address::Topic(id), payload) => self.store_in_topic(id, into_messages(payload), partition, ctx),
        }
    }

    /// Stores messages of the same priority and delay in a queue that does not deduplicate, or in a topic with one partition:
    /// as one batch. Returns its log and the first offset.
    pub(super) fn store_alike(
        &mut self,
        address: Address,
        messages: &[Message],
        ctx: &mut Ctx<'_>,
    ) -> (u16, Offset) {
        let Shard { queues, topics, subscriptions, encoding, .. } = self;
        match address {
            Address::Queue(id) => {
                let queue = queues.get_mut(&id).expect("checked");
                let log = queue.log_for(&messages[0], &mut 0, ctx);
                let first = queue.put(log, &[], messages, encoding, ctx);
                if queue.wants_look() {
                    ctx.dirty.push((Kind::Queue, id));
                }
                (log, first)
            }
            Address::Topic(id) => {
                let topic = topics.get_mut(&id).expect("checked");
                (0, topic.put(0, messages, subscriptions, encoding, ctx))
            }
        }
    }

    fn store_in_queue(&mut self, id: EntityId, mut messages: Vec<Message>, ctx: &mut Ctx<'_>) -> Published {
        let Shard { queues, encoding, .. } = self;
        let queue = queues.get_mut(&id).expect("checked");
        let mut published = Published::default();
        let before = messages.len();
        let ids = queue.sift_duplicates(&mut messages, ctx.now);
        published.duplicates = (before - messages.len()) as u32;
        if published.duplicates > 0 {
            queue.outlet.counters.duplicates += u64::from(published.duplicates);
            Entry::Count(id, published.duplicates).append(ctx.log);
        }
        queue.stamp_expiry(&mut messages, ctx.now);
        if queue.spec.fair.is_some() {
            queue.put_by_tenant(messages, &ids, &mut published, encoding, ctx);
            return published;
        }
        let now = ctx.now;
        if messages.len() > 1 {
            messages.sort_by_key(|message| queue.log_of(message, now));
        }
        let mut ids = Some(ids);
        let (log_of, max) = (Queue::log_of_priority, queue.max_priority);
        for same in messages.chunk_by(|a, b| log_of(max, a, now) == log_of(max, b, now)) {
            let log = queue.log_of(&same[0], now);
            let first = queue.put(log, &ids.take().unwrap_or_default(), same, encoding, ctx);
            published.stretches.push((log, first, same.len() as u32));
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
        let Shard { topics, subscriptions, encoding, .. } = self;
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
            let log = partition_of(&same[0]) as u16;
            let first = topic.put(log, same, subscriptions, encoding, ctx);
            published.stretches.push((log, first, same.len() as u32));
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

/// A batch for a queue is taken apart: its messages come and go one by one.
pub(super) fn into_messages(payload: Payload) -> Vec<Message> {
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

/// Writes messages of one log as one entry with one batch.
fn write(
    Encoding { scratch, places }: &mut Encoding,
    out: &mut dyn Append,
    log: LogId,
    first: u64,
    (ids, now): (&[u128], Millis),
    messages: &[Message],
) -> Stored {
    places.clear();
    let (mut head, mut bytes, mut body_bytes) = (0, 0, 0);
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
        body_bytes = messages.iter().map(body_bytes_of).sum();
        let at = start + head;
        out[at - BODY_BYTES..at].copy_from_slice(&body_bytes.to_le_bytes());
    });
    Stored { position: Position(payload.0 + head as u64), bytes: bytes as u32, body_bytes }
}

/// Bytes of a message's body, which is bounded well below 4 GiB.
fn body_bytes_of(message: &Message) -> u32 {
    message.body.len() as u32
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
        bytes: body_bytes_of(message),
        timestamp: message.deliver_at.unwrap_or_default().max(message.timestamp),
        expires_at: message.expires_at.unwrap_or(Millis::NEVER),
        key_hash: key_hash(message.key.as_deref()),
        tenant: 0,
    })
}

/// A redrive, and its undoing, brings a message back that was here under the same id before. It does that once, in one step with
/// taking it away where it was: left out as a duplicate, the message would be lost.
fn comes_back(headers: &Headers) -> bool {
    headers.get(REDRIVE).or(headers.get(REDRIVE_UNDONE)).is_some()
}

impl Queue {
    /// Writes messages of one log as one batch; `ids` are those of it that deduplication goes by. Returns the first offset.
    fn put(
        &mut self,
        log: u16,
        ids: &[u128],
        messages: &[Message],
        encoding: &mut Encoding,
        ctx: &mut Ctx<'_>,
    ) -> Offset {
        let first = self.logs.get(log).map_or(0, |log| log.next);
        let log_id = LogId { entity: self.outlet.id, log };
        let stored = write(encoding, ctx.log, log_id, first, (ids, ctx.now), messages);
        self.stored(log, first, &stored, messages, &encoding.places, ctx);
        Offset(first)
    }

    /// Writes messages of each tenant, priority and delay as a batch of their own.
    fn put_by_tenant(
        &mut self,
        messages: Vec<Message>,
        ids: &[u128],
        published: &mut Published,
        encoding: &mut Encoding,
        ctx: &mut Ctx<'_>,
    ) {
        let mut taken = 0;
        let mut by_log: BTreeMap<u16, Vec<Message>> = BTreeMap::new();
        for message in messages {
            by_log.entry(self.log_for(&message, &mut taken, ctx)).or_default().push(message);
        }
        let mut ids = Some(ids);
        for (log, same) in by_log {
            let first = self.put(log, ids.take().unwrap_or_default(), &same, encoding, ctx);
            published.stretches.push((log, first, same.len() as u32));
        }
        if self.wants_look() {
            ctx.dirty.push((Kind::Queue, self.outlet.id));
        }
    }

    /// Lets messages expire when the queue says so, unless they do sooner.
    pub(super) fn stamp_expiry(&self, messages: &mut [Message], now: Millis) {
        if self.plain {
            return;
        }
        let Some(ttl) = self.spec.ttl_ms else { return };
        for message in messages {
            let start = message.deliver_at.unwrap_or(now).max(now);
            message.expires_at = Some(message.expires_at.unwrap_or(Millis::NEVER).min(start.plus(ttl)));
        }
    }

    /// Whether a publish may have made something ready, or too much.
    fn wants_look(&self) -> bool {
        self.outlet.consumers.len() > 0
            || self.outlet.expiring
            || (!self.plain && !self.spec.overflow.refuses())
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
            if self.recent.has(id, now) && !comes_back(&message.headers) {
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
        self.apply_stored(log, first, count, timestamp, stored.position, stored.bytes, stored.body_bytes);
        self.outlet.expiring |= messages.iter().any(|message| message.expires_at.is_some());
        let log_id = LogId { entity, log };
        let metas = metas(log_id, first, stored, messages, places);
        if is_delayed(log) {
            for (meta, message) in metas.zip(messages) {
                let due = message.deliver_at.unwrap_or_default();
                let waiting = Waiting { attempt: Attempt(0), bytes: meta.bytes };
                self.outlet.wait(due, tag(log, meta.offset.0), waiting);
            }
            self.outlet.arm_due(ctx);
        } else if self.outlet.consumers.len() > 0 || self.shortens() {
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
        body_bytes: u32,
    ) {
        self.lane(log).append(Hot {
            first,
            position: position.0,
            timestamp: timestamp.0,
            span: count - 1,
            bytes,
        });
        self.outlet.bytes += u64::from(body_bytes);
        self.outlet.counters.published += u64::from(count);
    }
}

impl Topic {
    /// Writes messages of one partition as one batch, and offers them to those who read it. Returns the first offset.
    fn put(
        &mut self,
        partition: u16,
        messages: &[Message],
        readers: &mut HashMap<EntityId, Box<Subscription>>,
        encoding: &mut Encoding,
        ctx: &mut Ctx<'_>,
    ) -> Offset {
        let log = LogId { entity: self.id, log: partition };
        let first = self.logs[usize::from(partition)].next;
        let stored = write(encoding, ctx.log, log, first, (&[], ctx.now), messages);
        self.stored(partition, first, messages.len() as u32, latest(messages), &stored);
        for (reader, number) in &self.readers[usize::from(partition)] {
            if let Some(subscription) = readers.get_mut(reader) {
                subscription.offer(*number, &self.name, log, first, &stored, messages, &encoding.places, ctx);
            }
        }
        Offset(first)
    }

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
        let filter = outlet.policy.filter.clone().filter(|_| topic.redriven_to().is_none());
        let since = outlet.policy.since;
        let Some(cursor) = outlet.cursors.get_mut(&number) else { return };
        if cursor.scan != first || cursor.window.len() + messages.len() > WINDOW_MESSAGES_MAX {
            return;
        }
        let tenant_by = outlet.policy.tenant_by.as_ref();
        for (mut meta, message) in metas(log, first, stored, messages, places).zip(messages) {
            meta.tenant = tenant_by.map_or(0, |by| by.of(topic.as_str(), message));
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
