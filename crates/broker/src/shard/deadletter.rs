//! Moving a message to the dead letters: it leaves its queue and arrives there in one step.

use smallvec::{SmallVec, smallvec};
use smol_str::SmolStr;
use waystation_base::{Attempt, EntityId, Message, Millis, Name, Tag, message::header::DEATH_TOPIC};

use super::{
    Address, Ctx, Shard,
    cursor::{Dying, Flight, Reason},
    outlet::{DeadLetters, Finished},
    publish::Routed,
    timers::Timer,
};
use crate::{
    Effect, Kind, Refusal, Source,
    command::Keys,
    deaths::{self, Death},
    effect::Notice,
    place::Loaded,
    spec::Overflow,
};

/// Milliseconds until dead-lettering that could not be done is tried again.
const RETRY_MS: u64 = 1_000;

fn death<'a>(source: &'a Source, dying: &'a Dying, attempt: Attempt, now: Millis) -> Death<'a> {
    let (error, class) = (dying.error.as_deref(), dying.class.as_deref());
    Death { source, reason: dying.reason.as_str(), error, class, attempt, now }
}

impl Shard {
    /// The body of a message that goes to the dead letters is there.
    pub(super) fn dead_letter(&mut self, entity: EntityId, tag: Tag, loaded: Loaded, ctx: &mut Ctx<'_>) {
        let Some(outlet) = self.outlet_mut(entity) else { return };
        let (kind, source, target) = (outlet.kind, outlet.source(), outlet.policy.dead_letter.clone());
        let flight =
            outlet.cursors.get(&tag.log()).and_then(|cursor| cursor.flying.get(&tag.offset().0)).cloned();
        let Some((flight, dying)) =
            flight.and_then(|flight| flight.dying.clone().map(|dying| (flight, dying)))
        else {
            return;
        };
        if kind == Kind::Subscription && loaded.messages.is_empty() && loaded.damaged.is_none() {
            // A topic's retention has removed it meanwhile.
            return self.done_dying(kind, entity, tag, &flight, Reason::Filtered, ctx);
        }
        let topic = loaded.messages.first().and_then(|(meta, _)| self.topics.get(&meta.log.entity));
        // One that had come back is still of the topic that it was of at first.
        let topic = topic.filter(|topic| topic.name.redriven_to().is_none()).map(|topic| topic.name.clone());
        let mut message = loaded.messages.into_iter().find_map(|(_, message)| message);
        if let Some((topic, message)) = topic.zip(message.as_mut()) {
            message.headers.set(DEATH_TOPIC, topic.as_str());
        }
        let stuck = match (message, target) {
            (Some(message), Some(target)) => {
                let death = death(&source, &dying, flight.attempt, ctx.now);
                match self.bury(entity, message, &death, &target, ctx) {
                    Ok(arrived) => {
                        // What nothing takes goes as its reason says.
                        let reason = if arrived { Reason::DeadLettered } else { dying.reason };
                        return self.done_dying(kind, entity, tag, &flight, reason, ctx);
                    }
                    Err(refusal) => refusal,
                }
            }
            // The address was taken away meanwhile: it goes as its reason says.
            (_, None) => return self.done_dying(kind, entity, tag, &flight, dying.reason, ctx),
            (None, Some(_)) => {
                Refusal::Damaged(loaded.damaged.unwrap_or_else(|| "the message is not there".into()))
            }
        };
        ctx.effects.push(Effect::Notice(Notice::DeadLetterStuck {
            name: source.name().clone(),
            reason: stuck.to_string(),
        }));
        ctx.timers.push((ctx.now.plus(RETRY_MS), Timer::DeadLetter(entity, tag)));
    }

    /// Stores a message where dead letters go; says whether anything took it. It arrives everywhere or, refused, nowhere.
    fn bury(
        &mut self,
        entity: EntityId,
        mut message: Message,
        death: &Death<'_>,
        target: &DeadLetters,
        ctx: &mut Ctx<'_>,
    ) -> Result<bool, Refusal> {
        let mut keys = deaths::write(&mut message, death);
        if let DeadLetters::Route(_, None) = target {
            deaths::name_plainly(&mut message, &mut keys);
        }
        let told = message.headers.clone();
        let mut routed = self.route_dead_letter(message, keys, target, ctx)?;
        if !matches!(target, DeadLetters::Address(_)) {
            routed.keep_out(|address| {
                self.name_of(address).is_some_and(|place| deaths::is_cycle(&told, place, death.reason))
            });
        }
        self.check_burial(&routed, entity, ctx.now)?;
        let arrives = routed.goes_anywhere();
        // A part for which there was no place from the beginning is told of as it is stored.
        self.store_routed(routed, ctx);
        Ok(arrives)
    }

    fn route_dead_letter(
        &mut self,
        mut message: Message,
        keys: Keys,
        target: &DeadLetters,
        ctx: &Ctx<'_>,
    ) -> Result<Routed, Refusal> {
        let (route, key) = match target {
            DeadLetters::Address(name) => {
                let address = *self.addresses.get(name).ok_or_else(|| super::publish::not_found(name))?;
                deaths::readdress(&mut message, "", Some(name.as_str()));
                return Ok(Routed::to(smallvec![address], message));
            }
            DeadLetters::ByKey(key) => ("", key.clone()),
            DeadLetters::Route(route, key) => (route.as_str(), key.clone()),
        };
        let keys = key.clone().map_or(keys, |key| Keys::from_iter([key]));
        deaths::readdress(&mut message, route, key.as_deref());
        if let DeadLetters::ByKey(_) = target {
            return Ok(Routed::to(self.addresses_of(&keys), message));
        }
        match self.route_names.get(route) {
            Some(id) => Ok(self.route_messages(*id, &keys, vec![message], ctx.now)),
            None => Ok(Routed::to(smallvec![], message)),
        }
    }

    fn addresses_of(&self, keys: &[SmolStr]) -> SmallVec<[Address; 8]> {
        keys.iter().filter_map(|key| self.addresses.get(key.as_str()).copied()).collect()
    }

    fn name_of(&self, address: Address) -> Option<&Name> {
        match address {
            Address::Queue(id) => self.queues.get(&id).map(|queue| &queue.outlet.name),
            Address::Topic(id) => self.topics.get(&id).map(|topic| &topic.name),
        }
    }

    /// A message that a full queue refuses, and that goes to the dead letters so that it is not lost.
    pub(super) fn dead_letter_refused(&mut self, queue: EntityId, message: Message, ctx: &mut Ctx<'_>) {
        let Some(queue) = self.queues.get(&queue).filter(|q| q.spec.overflow == Overflow::DeadLetterPublish)
        else {
            return;
        };
        let Some(target) = queue.outlet.policy.dead_letter.clone() else { return };
        let (id, source) = (queue.outlet.id, queue.outlet.source());
        let dying = Dying { reason: Reason::Overflow, ..Dying::default() };
        let death = death(&source, &dying, Attempt(0), ctx.now);
        // Its sender hears of the refusal in any case, and still has it.
        if let Err(refusal) = self.bury(id, message, &death, &target, ctx) {
            let (name, reason) = (source.name().clone(), refusal.to_string());
            ctx.effects.push(Effect::Notice(Notice::DeadLetterStuck { name, reason }));
        }
    }

    fn done_dying(
        &mut self,
        kind: Kind,
        entity: EntityId,
        tag: Tag,
        flight: &Flight,
        reason: Reason,
        ctx: &mut Ctx<'_>,
    ) {
        self.with_outlet(kind, entity, |outlet, _| {
            let mut finished = Finished::default();
            finished.add(reason, tag.log(), tag.offset().0, flight.bytes);
            outlet.finish(finished, ctx);
        });
        ctx.dirty.push((kind, entity));
    }

    /// Asks again for the body of a message that could not be moved.
    pub(super) fn retry_dead_letter(&mut self, entity: EntityId, tag: Tag, ctx: &mut Ctx<'_>) {
        let kind = if self.queues.contains_key(&entity) { Kind::Queue } else { Kind::Subscription };
        self.with_outlet(kind, entity, |outlet, logs| {
            let flight = outlet.cursors.get(&tag.log()).and_then(|cursor| cursor.flying.get(&tag.offset().0));
            if flight.is_some_and(|flight| flight.dying.is_some()) {
                outlet.load_dying(tag.log(), tag.offset().0, logs, ctx);
            }
        });
    }
}
