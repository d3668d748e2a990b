//! Moving a message to the dead letters: it leaves its queue and arrives there in one step.

use waystation_base::{
    EntityId, Message, Millis, Tag,
    message::header::{
        DEATH_ATTEMPTS, DEATH_COUNT, DEATH_ERROR, DEATH_FIRST_REASON, DEATH_FIRST_SOURCE, DEATH_REASON,
        DEATH_SOURCE, DEATH_TIME,
    },
    value::Value,
};

use super::{
    Address, Ctx, Shard,
    cursor::{Dying, Flight, Reason},
    outlet::Finished,
    timers::Timer,
};
use crate::{
    Effect, Kind, Refusal,
    command::{Payload, Publish, Target},
    effect::Notice,
    place::Loaded,
};

/// Milliseconds until dead-lettering that could not be done is tried again.
const RETRY_MS: u64 = 1_000;

impl Shard {
    /// The body of a message that goes to the dead letters is there.
    pub(super) fn dead_letter(&mut self, entity: EntityId, tag: Tag, loaded: Loaded, ctx: &mut Ctx<'_>) {
        let Some(outlet) = self.outlet_mut(entity) else { return };
        let (kind, name, target) = (outlet.kind, outlet.name.clone(), outlet.policy.dead_letter.clone());
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
        let message = loaded.messages.into_iter().find_map(|(_, message)| message);
        let stuck = match (message, target) {
            (Some(message), Some(target)) => {
                let message = bury(message, name.as_str(), &dying, &flight, ctx.now);
                let publish = Publish {
                    to: Target::Address(target.clone()),
                    partition: None,
                    payload: Payload::Messages(vec![message]),
                };
                let own = self.addresses.get(&target).copied().filter(|a| *a == Address::Queue(entity));
                let checked = self.check_publish(&publish, &mut Vec::new(), ctx.now);
                // In its own queue there is room: it makes some as it leaves.
                let checked = match (checked, own) {
                    (Err(Refusal::Full { .. }), Some(own)) => Ok(own),
                    (checked, _) => checked,
                };
                match checked {
                    Ok(address) => {
                        self.store(publish, address, ctx);
                        self.done_dying(kind, entity, tag, &flight, Reason::DeadLettered, ctx);
                        return;
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
        ctx.effects.push(Effect::Notice(Notice::DeadLetterStuck { name, reason: stuck.to_string() }));
        ctx.timers.push((ctx.now.plus(RETRY_MS), Timer::DeadLetter(entity, tag)));
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

/// The message as it lies in the dead letters: unchanged but for the headers that say why, and without its expiry.
fn bury(mut message: Message, source: &str, dying: &Dying, flight: &Flight, now: Millis) -> Message {
    let headers = &mut message.headers;
    let count = headers.get(DEATH_COUNT).and_then(Value::as_i64).unwrap_or(0);
    if count == 0 {
        headers.set(DEATH_FIRST_SOURCE, source);
        headers.set(DEATH_FIRST_REASON, dying.reason.as_str());
    }
    headers.set(DEATH_COUNT, count + 1);
    headers.set(DEATH_REASON, dying.reason.as_str());
    headers.set(DEATH_SOURCE, source);
    headers.set(DEATH_TIME, Value::Timestamp(now));
    headers.set(DEATH_ATTEMPTS, i64::from(flight.attempt.0));
    match &dying.error {
        Some(error) => headers.set(DEATH_ERROR, error.as_str()),
        None => headers.remove(DEATH_ERROR),
    }
    message.expires_at = None;
    message.deliver_at = None;
    message
}
