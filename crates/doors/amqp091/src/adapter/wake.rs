//! Which consumers have something new? Only those are looked at, however many there are.

use std::{
    sync::{Arc, Mutex, PoisonError},
    task::{Wake, Waker},
};

use futures_util::task::AtomicWaker;

use crate::session::ConsumerKey;

/// Consumers that were woken since the last look.
#[derive(Debug, Default)]
pub(super) struct Woken {
    keys: Mutex<Vec<ConsumerKey>>,
    /// The connection's task.
    task: AtomicWaker,
}

#[derive(Debug)]
struct OfConsumer {
    key: ConsumerKey,
    woken: Arc<Woken>,
}

impl Wake for OfConsumer {
    fn wake(self: Arc<Self>) {
        self.woken.keys.lock().unwrap_or_else(PoisonError::into_inner).push(self.key);
        self.woken.task.wake();
    }
}

impl Woken {
    /// What wakes the connection's task for the sake of this consumer.
    pub fn waker(self: &Arc<Woken>, key: ConsumerKey) -> Waker {
        Arc::new(OfConsumer { key, woken: self.clone() }).into()
    }

    /// Moves who was woken to the end of `into`; the task is woken when there is another one.
    pub fn take(&self, task: &Waker, into: &mut impl Extend<ConsumerKey>) {
        self.task.register(task);
        into.extend(self.keys.lock().unwrap_or_else(PoisonError::into_inner).drain(..));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_woken_is_told_once_for_each_time() {
        let woken = Arc::new(Woken::default());
        let wakers = [1, 2].map(|key| woken.waker(ConsumerKey(key)));
        let mut keys = Vec::new();
        woken.take(Waker::noop(), &mut keys);
        assert_eq!(keys, []);
        wakers[1].wake_by_ref();
        woken.take(Waker::noop(), &mut keys);
        woken.take(Waker::noop(), &mut keys);
        assert_eq!(keys, [ConsumerKey(2)]);
    }
}
