//! Publishes that stand alone, many in one command: neighbours that go the same way are stored as one batch.

use smallvec::smallvec;
use waystation_base::{EntityId, Message, Millis, Offset, limits::DELAYED_MESSAGES_MAX};

use super::{Address, Ctx, Shard, publish::RECORD_OVERHEAD_BYTES, routes::Towards};
use crate::{
    Refusal,
    command::{Payload, Publish, Target},
    effect::Published,
};

/// Messages of one batch: it fits into the window of what stands ready.
const RUN_MESSAGES_MAX: usize = 256;
/// Bytes of one batch: whoever wants a message of it later reads it as a whole.
const RUN_BYTES_MAX: usize = 256 << 10;

type Results = Vec<Result<Published, Refusal>>;

/// Where publishes to the last target went: the next one mostly has the same.
struct Way {
    target: Target,
    route: Option<EntityId>,
    towards: Towards,
    /// All messages of that target go there, whatever their headers.
    always: bool,
    /// Neighbours may be stored as one batch.
    joins: bool,
    /// None of its queues has a limit.
    limitless: bool,
}

/// Messages that are to be stored as one batch in each of their places.
#[derive(Debug, Default)]
pub(super) struct Run {
    messages: Vec<Message>,
    /// What the batch will take at most.
    bytes: usize,
    /// Of the bodies alone: what length limits count.
    body_bytes: u64,
}

impl Run {
    fn takes(&self, message: &Message, size: usize, now: Millis) -> bool {
        let delayed = |message: &Message| message.deliver_at.is_some_and(|at| at > now);
        self.messages.first().is_none_or(|first| {
            self.messages.len() < RUN_MESSAGES_MAX
                && self.bytes + size <= RUN_BYTES_MAX
                && first.priority == message.priority
                && delayed(first) == delayed(message)
        })
    }
}

impl Way {
    /// What goes there may stand in one batch with what goes here.
    fn is_as(&self, other: &Way) -> bool {
        let is_told = |way: &Way| way.towards == Towards::Nothing && way.target.is_told();
        self.towards == other.towards && self.route == other.route && is_told(self) == is_told(other)
    }
}

impl Shard {
    /// Publishes one after the other; what becomes of each.
    pub(super) fn publish_each(&mut self, publishes: Vec<Publish>, ctx: &mut Ctx<'_>) -> Results {
        let mut results = Vec::with_capacity(publishes.len());
        let mut run = std::mem::take(&mut self.run);
        let mut way: Option<Way> = None;
        for publish in publishes {
            let Publish { to, partition: None, payload: Payload::One(mut message) } = publish else {
                self.store_run(way.as_ref(), &mut run, &mut results, ctx);
                let result = self.publish_alone(publish, ctx);
                results.push(result);
                continue;
            };
            if way.as_ref().is_none_or(|way| !way.always || way.target != to) {
                match self.way(to, &message) {
                    Ok(next) => {
                        if way.as_ref().is_none_or(|way| !way.is_as(&next)) {
                            self.store_run(way.as_ref(), &mut run, &mut results, ctx);
                        }
                        way = Some(next);
                    }
                    Err(refusal) => {
                        self.store_run(way.as_ref(), &mut run, &mut results, ctx);
                        results.push(Err(refusal));
                        continue;
                    }
                }
            }
            let Some(current) = &way else { continue };
            if let Some(route) = current.route {
                self.delay(route, &mut message, ctx.now);
            }
            // What a topic among the places refuses is stored in the others all the same.
            let waits = message.deliver_at.is_some_and(|at| at > ctx.now);
            if !current.joins || waits && current.towards.all().len() > 1 {
                self.store_run(way.as_ref(), &mut run, &mut results, ctx);
                let Some(current) = &way else { continue };
                let to = current.target.clone();
                let publish = Publish { to, partition: None, payload: Payload::One(message) };
                let result = self.publish_alone(publish, ctx);
                results.push(result);
                continue;
            }
            let checked = message.checked_size();
            let size = checked.as_ref().map_or(0, |bytes| *bytes) + RECORD_OVERHEAD_BYTES;
            if !run.takes(&message, size, ctx.now) {
                self.store_run(way.as_ref(), &mut run, &mut results, ctx);
            }
            let checked = checked.map_err(|error| Refusal::Message { index: 0, error });
            match checked.and_then(|_| self.check_join(current, &message, &run, ctx.now)) {
                Ok(()) => {
                    run.bytes += size;
                    run.body_bytes += message.body.len() as u64;
                    run.messages.push(message);
                }
                Err(refusal) => {
                    let place = current.towards.all().first().copied();
                    self.store_run(way.as_ref(), &mut run, &mut results, ctx);
                    if let (Refusal::Full { .. }, Some(Address::Queue(queue))) = (&refusal, place) {
                        self.dead_letter_refused(queue, message, ctx);
                    }
                    results.push(Err(refusal));
                }
            }
        }
        self.store_run(way.as_ref(), &mut run, &mut results, ctx);
        self.run = run;
        results
    }

    /// Where publishes to a target go.
    fn way(&mut self, target: Target, message: &Message) -> Result<Way, Refusal> {
        let (route, towards, always) = match &target {
            Target::Address(name) => {
                let address = self.addresses.get(name).ok_or_else(|| super::publish::not_found(name))?;
                (None, Towards::One(*address), true)
            }
            Target::Key { key, .. } => {
                let towards = self.addresses.get(key).map_or(Towards::Nothing, |it| Towards::One(*it));
                (None, towards, true)
            }
            Target::Route { route, keys, .. } => {
                let id = self.open_route(route, keys)?;
                let (towards, always) = self.towards(id, keys, &message.headers);
                (Some(id), towards, always)
            }
        };
        let places = towards.all();
        let limitless = places.iter().all(|place| match place {
            Address::Queue(id) => self.queues[id].plain,
            Address::Topic(_) => true,
        });
        let joins = places.iter().all(|place| match place {
            Address::Queue(id) => {
                let spec = &self.queues[id].spec;
                limitless || places.len() == 1 && spec.deduplication_ms.is_none() && spec.fair.is_none()
            }
            Address::Topic(id) => self.topics[id].logs.len() == 1,
        });
        Ok(Way { target, route, towards, always, joins, limitless })
    }

    /// Whether one more message, itself within its limits, fits behind those of the run.
    fn check_join(&self, way: &Way, message: &Message, run: &Run, now: Millis) -> Result<(), Refusal> {
        let delayed = message.deliver_at.is_some_and(|at| at > now);
        if way.limitless && !delayed {
            return Ok(());
        }
        let count = run.messages.len() + 1;
        for place in way.towards.all() {
            let queue = match place {
                Address::Queue(id) => &self.queues[id],
                Address::Topic(id) => {
                    self.check_undelayed(*id, std::slice::from_ref(message), now)?;
                    continue;
                }
            };
            queue.check_room(count as u64, run.body_bytes + message.body.len() as u64)?;
            if delayed && queue.outlet.delayed.len() + count > DELAYED_MESSAGES_MAX {
                let limit = DELAYED_MESSAGES_MAX as u64;
                return Err(Refusal::Limit { what: "delayed messages in one queue", limit });
            }
        }
        Ok(())
    }

    /// Stores what has gathered, and says so of each.
    fn store_run(&mut self, way: Option<&Way>, run: &mut Run, results: &mut Results, ctx: &mut Ctx<'_>) {
        let (Some(way), false) = (way, run.messages.is_empty()) else { return };
        let count = run.messages.len() as u64;
        let places = way.towards.all();
        if let [Address::Queue(id)] = places {
            self.queues[id].stamp_expiry(&mut run.messages, ctx.now);
        }
        let mut first = (0, Offset(0));
        for place in places {
            first = self.store_alike(*place, &run.messages, ctx);
        }
        if places.is_empty() {
            self.tell_unrouted(way.route, way.target.is_told(), &run.messages, ctx);
        }
        match way.route {
            None if !places.is_empty() => results.extend((0..count).map(|n| {
                let stretches = smallvec![(first.0, Offset(first.1.0 + n), 1)];
                Ok(Published { stretches, ..Published::default() })
            })),
            route => {
                let (copies, unrouted) = (places.len() as u32, u32::from(places.is_empty()));
                let published = Published { copies, unrouted, ..Published::default() };
                results.extend((0..count).map(|_| Ok(published.clone())));
                self.count_routed(route, count, count * u64::from(unrouted));
            }
        }
        run.messages.clear();
        (run.bytes, run.body_bytes) = (0, 0);
    }
}
