//! How much may a step hold, and has it room for more? The route asks before it puts messages on the step's queue, so that what the step
//! reads again when it starts is bounded, and what comes to it waits at the route's source.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Mutex as Turns, MutexGuard, Notify},
    time,
};
use waystation_base::{Message, Name};

use super::{Plan, due::Weight};
use crate::spec::Destination;

/// How long nobody is told that there is room.
const AGAIN: Duration = Duration::from_millis(100);

/// What lies in a step's queue, and how much may.
#[derive(Debug)]
pub struct Room {
    max: Weight,
    held: Mutex<Weight>,
    /// While the step reads what it holds, or the route adds to it, the other waits: both count.
    counting: Turns<()>,
    freed: Notify,
}

/// Why there is no room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Full {
    /// For now.
    Now(String),
    /// It would not fit if there were nothing else.
    Ever(String),
}

impl Room {
    /// Nothing is held.
    pub fn new(max: Weight) -> Room {
        Room { max, held: Mutex::default(), counting: Turns::new(()), freed: Notify::new() }
    }

    /// Nobody else counts meanwhile.
    pub async fn counting(&self) -> MutexGuard<'_, ()> {
        self.counting.lock().await
    }

    /// So much is there.
    pub fn set(&self, held: Weight) {
        *self.held() = held;
        self.freed.notify_waiters();
    }

    /// So much came.
    pub fn add(&self, more: Weight) {
        self.held().add(more);
    }

    /// So much left.
    pub fn take(&self, less: Weight) {
        self.held().take(less);
        self.freed.notify_waiters();
    }

    /// Whether so much more fits.
    pub fn check(&self, more: Weight) -> Result<(), Full> {
        let fits = |held: Weight| {
            held.messages + more.messages <= self.max.messages && held.bytes + more.bytes <= self.max.bytes
        };
        let Weight { messages, bytes } = self.max;
        if !fits(Weight::default()) {
            return Err(Full::Ever(format!(
                "{} messages with {} bytes are more than the step may hold: {messages} messages with {bytes} bytes, twice 'limits.held_bytes'",
                more.messages, more.bytes
            )));
        }
        let held = *self.held();
        if fits(held) {
            return Ok(());
        }
        Err(Full::Now(format!(
            "the step holds {} messages with {} bytes and may hold {messages} with {bytes}; the source waits until some of them have left",
            held.messages, held.bytes
        )))
    }

    /// Returns when something has left since [`Room::check`]; may return without reason.
    pub async fn freed(&self) {
        // What leaves between the two is missed, so nobody waits for long.
        let _ = time::timeout(AGAIN, self.freed.notified()).await;
    }

    fn held(&self) -> std::sync::MutexGuard<'_, Weight> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A step that has no room.
#[derive(Clone, Debug)]
pub struct NoRoom {
    /// Where the step stands.
    pub at: Arc<str>,
    /// Why.
    pub full: Full,
    room: Arc<Room>,
}

impl NoRoom {
    /// Returns when it is worth asking again.
    pub async fn freed(&self) {
        self.room.freed().await;
    }
}

/// What is being added to steps' queues: nobody else adds anything meanwhile.
pub struct Entry<'a>(Vec<(&'a Room, Weight, MutexGuard<'a, ()>)>);

impl<'a> Entry<'a> {
    /// Asks each of these steps whether there is room for what of the outputs goes to it.
    pub async fn ask<'m>(
        plans: impl Iterator<Item = &'a Plan>,
        outputs: impl Iterator<Item = (&'m Destination, &'m Vec<Message>)> + Clone,
    ) -> Result<Entry<'a>, NoRoom> {
        let mut entered = Vec::new();
        for plan in plans {
            let more = weight_to(&plan.queue, outputs.clone());
            if more.messages > 0 {
                let turn = plan.room.counting().await;
                let no_room = |full| NoRoom { at: plan.at.clone(), full, room: plan.room.clone() };
                plan.room.check(more).map_err(no_room)?;
                entered.push((&*plan.room, more, turn));
            }
        }
        Ok(Entry(entered))
    }

    /// It has been stored.
    pub fn stored(self) {
        self.0.into_iter().for_each(|(room, more, _)| room.add(more));
    }
}

fn weight_to<'m>(queue: &Name, outputs: impl Iterator<Item = (&'m Destination, &'m Vec<Message>)>) -> Weight {
    let mut weight = Weight::default();
    for (_, messages) in outputs.filter(|(to, _)| matches!(to, Destination::Address(name) if name == queue)) {
        messages.iter().for_each(|it| weight.add(Weight { messages: 1, bytes: it.size() }));
    }
    weight
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(messages: usize, bytes: usize) -> Weight {
        Weight { messages, bytes }
    }

    #[test]
    fn it_has_room_up_to_its_bounds_and_past_them_says_how_much_it_holds() {
        let room = Room::new(of(3, 100));
        room.set(of(2, 60));
        assert_eq!(room.check(of(1, 40)), Ok(()));
        for past in [of(2, 40), of(1, 41)] {
            let full = room.check(past);
            assert!(
                matches!(&full, Err(Full::Now(why)) if why.contains("holds 2 messages with 60 bytes")),
                "{full:?}"
            );
        }
        room.add(of(1, 40));
        assert!(room.check(of(1, 0)).is_err());
        room.take(of(1, 60));
        assert_eq!(room.check(of(1, 60)), Ok(()));
    }

    #[test]
    fn what_can_never_fit_is_told_from_what_cannot_now() {
        let room = Room::new(of(3, 100));
        assert_eq!(room.check(of(3, 100)), Ok(()));
        for past in [of(4, 1), of(1, 101)] {
            assert!(matches!(room.check(past), Err(Full::Ever(_))), "{past:?}");
        }
    }
}
