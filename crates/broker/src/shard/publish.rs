//! Publishing, alone or as part of a transaction: all of it is checked before any of it is stored.

use smallvec::SmallVec;
use waystation_base::{
    EntityId, Message, Millis, Name,
    batch::{self, Header},
    limits::{
        BATCH_BYTES_MAX, DELAY_MS_MAX, DELAYED_MESSAGES_MAX, PUBLISH_MESSAGES_MAX, ROUTING_KEY_BYTES_MAX,
        ROUTING_KEYS_MAX,
    },
    value::Value,
};

use super::{Address, Ctx, Queue, Shard, routes::Towards, store::into_messages};
use crate::{
    Kind, Refusal,
    command::{Keys, Payload, Publish, Target, Transaction},
    effect::Published,
    spec::Overflow,
};

/// What a record adds to its message at most: lengths, deltas, and the `ws` header.
pub(super) const RECORD_OVERHEAD_BYTES: usize = 80;
/// Bytes of messages in one publish, as [`Message::size`] counts them: the batch they make is within its own bound.
const PUBLISH_BYTES_MAX: usize = BATCH_BYTES_MAX / 4 * 3;

/// A publish for which it is known where its messages go.
pub(super) struct Routed {
    /// The route that it went to.
    route: Option<EntityId>,
    /// Its sender hears of what nothing takes.
    told: bool,
    /// Messages that go to the same places stand together.
    parts: SmallVec<[Part; 1]>,
    partition: Option<u32>,
}

struct Part {
    towards: Towards,
    payload: Payload,
    messages: u64,
    /// Of the bodies; 0 where no queue counts them.
    bytes: u64,
}

/// What comes to which queue by the publishes of one command that were checked so far.
pub(super) type Planned = Vec<(EntityId, u64, u64)>;

impl Shard {
    pub(super) fn transact(
        &mut self,
        transaction: Transaction,
        ctx: &mut Ctx<'_>,
    ) -> Result<Vec<Published>, Refusal> {
        let Transaction { publishes, settlements } = transaction;
        let mut checked = Vec::with_capacity(publishes.len());
        let mut planned = Planned::new();
        for publish in publishes {
            let routed = self.route_publish(publish, ctx.now)?;
            self.check_routed(&routed, &mut planned, ctx.now)?;
            checked.push(routed);
        }
        self.check_settlements(&settlements)?;
        for settle in settlements {
            self.settle(settle, ctx);
        }
        Ok(checked.into_iter().map(|routed| self.store_routed(routed, ctx)).collect())
    }

    /// A publish that stands alone: what one queue refuses is stored in the others all the same.
    pub(super) fn publish_alone(
        &mut self,
        publish: Publish,
        ctx: &mut Ctx<'_>,
    ) -> Result<Published, Refusal> {
        let mut routed = self.route_publish(publish, ctx.now)?;
        let refused = self.sift_refused(&mut routed, ctx.now);
        let Some(Refused { refusal, buried }) = refused else { return Ok(self.store_routed(routed, ctx)) };
        if routed.goes_anywhere() {
            self.store_routed(routed, ctx);
        }
        for (queue, payload) in buried {
            into_messages(payload).into_iter().for_each(|m| self.dead_letter_refused(queue, m, ctx));
        }
        Err(refusal)
    }

    /// Finds out where a publish of a client goes.
    fn route_publish(&mut self, publish: Publish, now: Millis) -> Result<Routed, Refusal> {
        let Publish { to, partition, payload } = publish;
        let messages = check_payload(&payload)?;
        let told = to.is_told();
        match to {
            Target::Address(name) => {
                let address = *self.addresses.get(&name).ok_or_else(|| not_found(&name))?;
                let bytes = if matches!(address, Address::Queue(_)) { body_bytes(&payload) } else { 0 };
                let part = Part { towards: Towards::One(address), payload, messages, bytes };
                Ok(Routed { route: None, told, parts: SmallVec::from_buf([part]), partition })
            }
            Target::Key { key, .. } => {
                let address = self.addresses.get(&key).copied();
                let is_queue = matches!(address, Some(Address::Queue(_)));
                let bytes = if is_queue { body_bytes(&payload) } else { 0 };
                let towards = address.map_or(Towards::Nothing, Towards::One);
                let part = Part { towards, payload, messages, bytes };
                Ok(Routed { route: None, told, parts: SmallVec::from_buf([part]), partition })
            }
            Target::Route { route, keys, .. } => {
                let id = self.open_route(&route, &keys)?;
                Ok(Routed { told, ..self.route_messages(id, &keys, into_messages(payload), now) })
            }
        }
    }

    /// The route that a client may publish to under these keys.
    pub(super) fn open_route(&self, name: &Name, keys: &Keys) -> Result<EntityId, Refusal> {
        let id = self.route_id(name)?;
        if self.routes[&id].spec.internal {
            return Err(Refusal::Internal { name: name.clone() });
        }
        check_keys(keys)?;
        Ok(id)
    }

    /// Finds out where messages go that are published to a route.
    pub(super) fn route_messages(
        &mut self,
        id: EntityId,
        keys: &Keys,
        messages: Vec<Message>,
        now: Millis,
    ) -> Routed {
        let mut parts: SmallVec<[Part; 1]> = SmallVec::new();
        for mut message in messages {
            self.delay(id, &mut message, now);
            let (towards, _) = self.towards(id, keys, &message.headers);
            let bytes = message.body.len() as u64;
            match parts.last_mut() {
                Some(Part { towards: last, payload: Payload::Messages(alike), messages, bytes: sum })
                    if *last == towards =>
                {
                    alike.push(message);
                    *messages += 1;
                    *sum += bytes;
                }
                _ => parts.push(Part {
                    towards,
                    payload: Payload::Messages(vec![message]),
                    messages: 1,
                    bytes,
                }),
            }
        }
        Routed { route: Some(id), told: false, parts, partition: None }
    }

    /// Sets a message's time if its route delays. Afterwards the header holds the delay with a minus: it was waited for.
    pub(super) fn delay(&self, route: EntityId, message: &mut Message, now: Millis) {
        let Some(name) = self.routes.get(&route).and_then(|route| route.spec.delay_header.as_deref()) else {
            return;
        };
        let delay_ms = message.headers.get(name).and_then(Value::as_i64).unwrap_or_default();
        if delay_ms > 0 && delay_ms as u64 <= DELAY_MS_MAX {
            message.deliver_at = message.deliver_at.max(Some(now.plus(delay_ms as u64)));
            message.headers.set(name, -delay_ms);
        }
    }

    /// Whether every place takes what goes there; `planned` holds what earlier publishes of the same command bring.
    fn check_routed(&self, routed: &Routed, planned: &mut Planned, now: Millis) -> Result<(), Refusal> {
        routed
            .places()
            .try_for_each(|(part, address)| self.check_place(address, part, routed.partition, planned, now))
    }

    fn check_place(
        &self,
        address: Address,
        part: &Part,
        partition: Option<u32>,
        planned: &mut Planned,
        now: Millis,
    ) -> Result<(), Refusal> {
        match address {
            Address::Topic(id) => {
                self.check_undelayed(id, of_payload(&part.payload), now)?;
                self.check_partition(id, partition)
            }
            Address::Queue(id) => {
                let queue = &self.queues[&id];
                let before = planned.iter().filter(|(queue, ..)| *queue == id);
                let before =
                    before.fold((0, 0), |sum, (_, messages, bytes)| (sum.0 + messages, sum.1 + bytes));
                queue.check_room(before.0 + part.messages, before.1 + part.bytes)?;
                check_delayed(queue, &part.payload, now)?;
                planned.push((id, part.messages, part.bytes));
                Ok(())
            }
        }
    }

    /// A topic is read in the order in which it was written, so that nothing in it can wait for its time.
    pub(super) fn check_undelayed(
        &self,
        topic: EntityId,
        messages: &[Message],
        now: Millis,
    ) -> Result<(), Refusal> {
        let is_delayed = messages.iter().any(|message| message.deliver_at.is_some_and(|at| at > now));
        if is_delayed { Err(Refusal::Undelayable { name: self.topics[&topic].name.clone() }) } else { Ok(()) }
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

    /// Whether a dead letter is taken wherever it goes. In its own queue there is room: it makes some as it leaves.
    pub(super) fn check_burial(&self, routed: &Routed, own: EntityId, now: Millis) -> Result<(), Refusal> {
        for (part, address) in routed.places() {
            match self.check_place(address, part, None, &mut Planned::new(), now) {
                Err(Refusal::Full { .. }) if address == Address::Queue(own) => {}
                other => other?,
            }
        }
        Ok(())
    }

    /// Takes out the places that do not take what goes there.
    fn sift_refused(&self, routed: &mut Routed, now: Millis) -> Option<Refused> {
        let mut refused: Option<Refused> = None;
        // What one part brings to a queue takes the room of the next.
        let mut planned = Planned::new();
        let partition = routed.partition;
        routed.parts.retain(|part| {
            let mut places: SmallVec<[Address; 8]> = SmallVec::from_slice(part.towards.all());
            places.retain(|address| {
                let Err(refusal) = self.check_place(*address, part, partition, &mut planned, now) else {
                    return true;
                };
                let full = matches!(refusal, Refusal::Full { .. });
                let refused = refused.get_or_insert_with(|| Refused { refusal, buried: Vec::new() });
                if let Address::Queue(id) = address
                    && full
                    && self.queues[id].spec.overflow == Overflow::DeadLetterPublish
                {
                    refused.buried.push((*id, part.payload.clone()));
                }
                false
            });
            // One that every place refuses is not one that nothing takes.
            let stays = !places.is_empty() || part.towards == Towards::Nothing;
            if places.len() < part.towards.all().len() {
                part.towards = Towards::of(places);
            }
            stays
        });
        refused
    }

    /// Stores what was checked.
    pub(super) fn store_routed(&mut self, routed: Routed, ctx: &mut Ctx<'_>) -> Published {
        let Routed { route, told, parts, partition } = routed;
        let mut published = Published::default();
        for Part { towards, payload, messages, .. } in parts {
            let count = messages as u32;
            if towards == Towards::Nothing {
                published.unrouted += count;
                self.tell_unrouted(route, told, of_payload(&payload), ctx);
            }
            let mut payload = Some(payload);
            for (left, address) in (0..towards.all().len()).rev().zip(towards.all()) {
                let payload = if left == 0 { payload.take() } else { payload.clone() };
                let payload = payload.expect("kept until the last place");
                let stored = self.store(*address, payload, partition, ctx);
                published.duplicates += stored.duplicates;
                match route {
                    Some(_) => published.copies += count - stored.duplicates,
                    None => published.stretches.extend(stored.stretches),
                }
            }
            self.count_routed(route, messages, if towards == Towards::Nothing { messages } else { 0 });
        }
        published
    }

    /// Counts messages published to a route, and how many of them nothing took.
    pub(super) fn count_routed(&mut self, route: Option<EntityId>, messages: u64, unrouted: u64) {
        if let Some(route) = route.and_then(|id| self.routes.get_mut(&id)) {
            route.published += messages;
            route.unrouted += unrouted;
        }
    }
}

/// A refusal, and what is to be dead-lettered for it.
struct Refused {
    refusal: Refusal,
    buried: Vec<(EntityId, Payload)>,
}

impl Routed {
    /// A message that goes to these places by their names.
    pub(super) fn to(places: SmallVec<[Address; 8]>, message: Message) -> Routed {
        let bytes = message.body.len() as u64;
        let (towards, payload) = (Towards::of(places), Payload::One(message));
        let part = Part { towards, payload, messages: 1, bytes };
        Routed { route: None, told: false, parts: SmallVec::from_buf([part]), partition: None }
    }

    /// Each place with what goes there.
    fn places(&self) -> impl Iterator<Item = (&Part, Address)> {
        self.parts.iter().flat_map(|part| part.towards.all().iter().map(move |address| (part, *address)))
    }

    /// Whether anything goes anywhere.
    pub(super) fn goes_anywhere(&self) -> bool {
        self.places().next().is_some()
    }

    /// Takes out the places for which `is_out` holds.
    pub(super) fn keep_out(&mut self, is_out: impl Fn(Address) -> bool) {
        for part in &mut self.parts {
            let places = part.towards.all().iter().copied();
            part.towards = Towards::of(places.filter(|address| !is_out(*address)).collect());
        }
    }
}

pub(super) fn not_found(address: &Name) -> Refusal {
    Refusal::NotFound { kind: Kind::Queue, name: address.to_string() }
}

fn too_large<T>(what: &'static str, count: usize, limit: usize) -> Result<T, Refusal> {
    Err(Refusal::TooLarge { what, count: count as u64, limit: limit as u64 })
}

fn check_keys(keys: &Keys) -> Result<(), Refusal> {
    if keys.len() > ROUTING_KEYS_MAX {
        return too_large("routing keys of one publish", keys.len(), ROUTING_KEYS_MAX);
    }
    match keys.iter().find(|key| key.len() > ROUTING_KEY_BYTES_MAX) {
        Some(key) => too_large("bytes of a routing key", key.len(), ROUTING_KEY_BYTES_MAX),
        None => Ok(()),
    }
}

/// Checks each message's limits; returns how many there are.
fn check_payload(payload: &Payload) -> Result<u64, Refusal> {
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
    Ok(count as u64)
}

/// Bytes of the bodies: what a queue's `max_bytes` counts.
fn body_bytes(payload: &Payload) -> u64 {
    match payload {
        Payload::One(message) => message.body.len() as u64,
        Payload::Messages(messages) => messages.iter().map(|message| message.body.len() as u64).sum(),
        Payload::Batch(batch) => {
            let records = batch::records(batch).into_iter().flatten();
            records.map(|record| record.map_or(0, |record| record.body_bytes() as u64)).sum()
        }
    }
}

/// The messages of a payload. A batch comes as its client made it, and holds nothing that waits.
fn of_payload(payload: &Payload) -> &[Message] {
    match payload {
        Payload::One(message) => std::slice::from_ref(message),
        Payload::Messages(messages) => messages,
        Payload::Batch(_) => &[],
    }
}

fn check_delayed(queue: &Queue, payload: &Payload, now: Millis) -> Result<(), Refusal> {
    let messages = of_payload(payload);
    let more = messages.iter().filter(|message| message.deliver_at.is_some_and(|at| at > now)).count();
    if more > 0 && queue.outlet.delayed.len() + more > DELAYED_MESSAGES_MAX {
        return Err(Refusal::Limit {
            what: "delayed messages in one queue",
            limit: DELAYED_MESSAGES_MAX as u64,
        });
    }
    Ok(())
}

impl Queue {
    /// Whether so much more fits in, for a queue that refuses what does not. What consumers hold does not count.
    pub(super) fn check_room(&self, messages: u64, bytes: u64) -> Result<(), Refusal> {
        let full = |limit| Err(Refusal::Full { name: self.outlet.name.clone(), limit });
        if self.plain || !self.spec.overflow.refuses() {
            return Ok(());
        }
        if let Some(max) = self.spec.max_messages
            && self.alive() + messages > max
            && self.alive() - self.outlet.in_flight() + messages > max
        {
            return full(format!("max_messages {max}"));
        }
        match self.spec.max_bytes {
            Some(max) if self.outlet.bytes + bytes > max && self.outlet.waiting_bytes() + bytes > max => {
                full(format!("max_bytes {max}"))
            }
            _ => Ok(()),
        }
    }
}
