//! How events reach a consumer: a queue bounded by bytes and events between the driver and the consumer's task.
//!
//! The driver never waits here. It asks whether there is room; if not, the consumer calls for its attention when half of
//! the room is free again. It is also called when a consumer is dropped, so that no request must be sent from a destructor.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use tokio::sync::Notify;
use waystation_base::ConsumerId;

use crate::Event;

/// Events that may wait for one consumer's task.
pub(crate) const EVENTS_MAX: usize = 64;
/// Bytes of messages that may wait for one consumer's task; one event fits however large it is.
pub(crate) const EVENTS_BYTES_MAX: usize = 1 << 20;

/// Consumers that the driver should look at: one was dropped, or has room again. Each is in it twice at most.
#[derive(Debug, Default)]
pub(crate) struct Attention {
    consumers: Mutex<Vec<ConsumerId>>,
    wake: Notify,
}

impl Attention {
    fn call(&self, consumer: ConsumerId) {
        self.consumers.lock().unwrap_or_else(PoisonError::into_inner).push(consumer);
        self.wake.notify_one();
    }

    /// Waits until somebody has called; may return without reason.
    pub(crate) async fn called(&self) {
        self.wake.notified().await;
    }

    /// Moves who has called to the end of `into`.
    pub(crate) fn take(&self, into: &mut Vec<ConsumerId>) {
        into.append(&mut self.consumers.lock().unwrap_or_else(PoisonError::into_inner));
    }
}

#[derive(Default)]
struct State {
    events: VecDeque<(Event, usize)>,
    bytes: usize,
    waker: Option<Waker>,
    /// The driver was refused and waits to be called.
    room_wanted: bool,
    /// Nothing more will come.
    ended: bool,
    /// Nobody reads any more.
    dropped: bool,
}

impl State {
    fn has_room(&self) -> bool {
        self.events.is_empty() || self.events.len() < EVENTS_MAX && self.bytes < EVENTS_BYTES_MAX
    }

    fn is_half_empty(&self) -> bool {
        self.events.len() <= EVENTS_MAX / 2 && self.bytes <= EVENTS_BYTES_MAX / 2
    }
}

struct Shared {
    consumer: ConsumerId,
    attention: Arc<Attention>,
    state: Mutex<State>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The driver's end. Dropping it lets the consumer read what is there and then end.
pub(crate) struct Outbox(Arc<Shared>);

/// The consumer's end. Dropping it calls for the driver's attention.
pub(crate) struct Inbox(Arc<Shared>);

/// Whether an event can be put.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Room {
    /// It can.
    Free,
    /// Not now; the consumer will call.
    Full,
    /// Never again: the consumer was dropped.
    Gone,
}

/// Makes the two ends.
pub(crate) fn mailbox(consumer: ConsumerId, attention: Arc<Attention>) -> (Outbox, Inbox) {
    let shared = Arc::new(Shared { consumer, attention, state: Mutex::default() });
    (Outbox(shared.clone()), Inbox(shared))
}

impl Outbox {
    /// Looks for room, and if there is none has the consumer call when there is.
    pub(crate) fn room(&self) -> Room {
        let mut state = self.0.state();
        if state.dropped {
            return Room::Gone;
        }
        state.room_wanted = !state.has_room();
        if state.room_wanted { Room::Full } else { Room::Free }
    }

    /// Whether the consumer was dropped.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.state().dropped
    }

    /// Puts an event whose messages have `bytes`, room or not: ask before.
    pub(crate) fn put(&self, event: Event, bytes: usize) {
        let mut state = self.0.state();
        if state.dropped {
            return;
        }
        state.events.push_back((event, bytes));
        state.bytes += bytes;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for Outbox {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.ended = true;
        let waker = state.waker.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Inbox {
    /// The next event; none when no more will come.
    pub(crate) fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut state = self.0.state();
        let Some((event, bytes)) = state.events.pop_front() else {
            if state.ended {
                return Poll::Ready(None);
            }
            state.waker = Some(context.waker().clone());
            return Poll::Pending;
        };
        state.bytes -= bytes;
        let call = state.room_wanted && state.is_half_empty();
        if call {
            state.room_wanted = false;
        }
        drop(state);
        if call {
            self.0.attention.call(self.0.consumer);
        }
        Poll::Ready(Some(event))
    }
}

impl Drop for Inbox {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.dropped = true;
        let events = std::mem::take(&mut state.events);
        let ended = state.ended;
        drop(state);
        drop(events);
        // Gone before the call, so that whoever is called sees it.
        if !ended {
            self.0.attention.call(self.0.consumer);
        }
    }
}

impl std::fmt::Debug for Inbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Inbox").field("consumer", &self.0.consumer).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use waystation_broker::effect::Closed;

    use super::*;

    fn event() -> Event {
        Event::Closed(Closed::PullEnded)
    }

    fn called(attention: &Attention) -> Vec<ConsumerId> {
        let mut consumers = Vec::new();
        attention.take(&mut consumers);
        consumers
    }

    fn next(inbox: &mut Inbox) -> Poll<Option<Event>> {
        inbox.poll_next(&mut Context::from_waker(Waker::noop()))
    }

    #[test]
    fn a_full_mailbox_calls_once_when_half_of_it_is_free() {
        let attention = Arc::new(Attention::default());
        let (outbox, mut inbox) = mailbox(ConsumerId(7), attention.clone());
        for _ in 0..EVENTS_MAX {
            assert_eq!(outbox.room(), Room::Free);
            outbox.put(event(), 1);
        }
        assert_eq!(outbox.room(), Room::Full);
        for _ in 0..EVENTS_MAX / 2 - 1 {
            assert!(next(&mut inbox).is_ready());
        }
        assert_eq!(called(&attention), []);
        assert!(next(&mut inbox).is_ready());
        assert_eq!(called(&attention), [ConsumerId(7)]);
        assert!(next(&mut inbox).is_ready());
        assert_eq!(called(&attention), []);
    }

    #[test]
    fn one_event_fits_however_large_it_is_and_a_second_one_does_not() {
        let (outbox, mut inbox) = mailbox(ConsumerId(7), Arc::default());
        outbox.put(event(), EVENTS_BYTES_MAX - 1);
        assert_eq!(outbox.room(), Room::Free);
        outbox.put(event(), 1);
        assert_eq!(outbox.room(), Room::Full);
        assert!(next(&mut inbox).is_ready());
        outbox.put(event(), 10 * EVENTS_BYTES_MAX);
        assert_eq!(outbox.room(), Room::Full);
    }

    #[test]
    fn a_dropped_consumer_calls_and_is_seen_to_be_gone() {
        let attention = Arc::new(Attention::default());
        let (outbox, inbox) = mailbox(ConsumerId(7), attention.clone());
        drop(inbox);
        assert_eq!(called(&attention), [ConsumerId(7)]);
        assert_eq!(outbox.room(), Room::Gone);
        outbox.put(event(), 1);
    }

    #[test]
    fn what_was_put_before_the_end_is_read_before_the_end() {
        let attention = Arc::new(Attention::default());
        let (outbox, mut inbox) = mailbox(ConsumerId(7), attention.clone());
        assert!(next(&mut inbox).is_pending());
        outbox.put(event(), 1);
        drop(outbox);
        assert!(matches!(next(&mut inbox), Poll::Ready(Some(_))));
        assert!(matches!(next(&mut inbox), Poll::Ready(None)));
        drop(inbox);
        assert_eq!(called(&attention), [], "an ended consumer has nothing to say");
    }
}
