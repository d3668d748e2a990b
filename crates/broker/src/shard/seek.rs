//! Moving a subscription to another place in its topics. What came back to it by a redrive stays as it is: it was meant for once, some of it
//! may have been taken back to the dead letters, and what is passed over here could not be.

use waystation_base::{Name, Offset};

use super::{Address, Ctx, Shard, Subscription, cursor::Cursor, entry::Entry};
use crate::{Kind, Refusal, command::Seek, place::LogId};

impl Shard {
    pub(super) fn seek(&mut self, seek: &Seek, ctx: &mut Ctx<'_>) -> Result<(), Refusal> {
        let id = self.source(&crate::Source::Subscription(seek.subscription.clone()))?;
        let mut places = Vec::with_capacity(seek.to.len());
        for (topic, partition, offset) in &seek.to {
            let place = self.seek_place(id, topic, *partition, *offset)?;
            places.extend(topic.redriven_to().is_none().then_some(place));
        }
        let subscription = self.subscriptions.get_mut(&id).expect("found");
        for (number, offset) in places {
            subscription.apply_seek(number, offset);
            Entry::Seek(id, number, offset).append(ctx.log);
        }
        ctx.dirty.push((Kind::Subscription, id));
        Ok(())
    }

    /// The source's number, and the offset brought within what is kept.
    fn seek_place(
        &self,
        subscription: waystation_base::EntityId,
        topic: &Name,
        partition: u32,
        offset: Offset,
    ) -> Result<(u16, Offset), Refusal> {
        let missing =
            || Refusal::NotFound { kind: Kind::Topic, name: format!("{topic}' partition '{partition}") };
        let Some(Address::Topic(entity)) = self.addresses.get(topic) else { return Err(missing()) };
        let log =
            u16::try_from(partition).ok().map(|log| LogId { entity: *entity, log }).ok_or_else(missing)?;
        let sources = &self.subscriptions[&subscription].sources;
        let number = sources.iter().position(|source| *source == Some(log)).ok_or_else(missing)?;
        let kept = &self.topics[entity].logs[usize::from(log.log)];
        Ok((number as u16, Offset(offset.0.clamp(kept.base, kept.next))))
    }
}

impl Subscription {
    /// Work on a source begins anew at an offset; what consumers hold of it is not theirs any more.
    pub(super) fn apply_seek(&mut self, number: u16, offset: Offset) {
        let outlet = &mut self.outlet;
        let Some(old) = outlet.cursors.get(&number) else { return };
        let mut cursor = Cursor::starting_at(offset.0);
        cursor.generation = old.generation.wrapping_add(1);
        cursor.find_generation = old.find_generation.wrapping_add(1);
        cursor.owner = old.owner;
        let held: Vec<_> = old
            .flying
            .iter()
            .map(|(offset, flight)| {
                (super::cursor::tag(number, *offset), flight.consumer, flight.dying.is_some())
            })
            .collect();
        for (tag, consumer, dying) in held {
            outlet.dying -= usize::from(dying);
            if let Some(consumer) = consumer {
                outlet.consumers.let_go(consumer, tag);
            }
        }
        outlet.delayed.retain(|(_, tag), _| tag.log() != number);
        outlet.faults.forget_log(number);
        outlet.cursors.insert(number, Box::new(cursor));
        outlet.leave_lines(number, None);
    }
}
