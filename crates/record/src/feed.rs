//! What the journal's owner tells the recorder, and what he hears of it: he never waits.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use waystation_base::Position;

/// Bytes of commit groups that wait for the recorder in memory; what comes when there are so many is read off the journal's files,
/// which costs more.
pub const FEED_BYTES_MAX: usize = 32 << 20;
/// Milliseconds for which the recorder lets groups gather.
const GATHER_MS: u64 = 50;

#[derive(Default)]
struct State {
    groups: VecDeque<(Position, Bytes)>,
    bytes: usize,
    durable: Position,
    /// The owner would like to let go of the journal before this.
    wanted: Position,
    /// The recorder waits until something comes.
    sleeping: bool,
    /// Somebody waits until the recorder has come so far.
    asked: Position,
    stopping: bool,
    ended: bool,
}

/// See the module.
#[derive(Default)]
pub struct Feed {
    state: Mutex<State>,
    wake: Condvar,
    progress: Condvar,
    /// Everything before is in memory or in files of the record.
    position: AtomicU64,
    /// Everything before is in files of the record.
    checkpoint: AtomicU64,
}

impl Feed {
    pub(crate) fn new(position: Position, durable: Position) -> Arc<Feed> {
        let feed = Feed::default();
        feed.position.store(position.0, Ordering::Release);
        feed.checkpoint.store(position.0, Ordering::Release);
        feed.state().durable = durable;
        Arc::new(feed)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A group is durable: it begins at `start` and ends at `end`, and these are its bytes.
    pub fn durable(&self, start: Position, end: Position, group: Bytes) {
        let mut state = self.state();
        state.durable = end;
        if state.bytes + group.len() <= FEED_BYTES_MAX {
            state.bytes += group.len();
            state.groups.push_back((start, group));
        }
        let sleeping = std::mem::take(&mut state.sleeping);
        drop(state);
        if sleeping {
            self.wake.notify_one();
        }
    }

    /// The journal before `to` is of no use any more to its owner; returns before where it may go. `lag_bytes`: what may be kept for
    /// the recorder at most, of a journal that ends at `end`.
    pub fn release(&self, to: Position, end: Position, lag_bytes: u64) -> Position {
        let checkpoint = self.checkpoint();
        if to <= checkpoint || end.0.saturating_sub(checkpoint.0) > lag_bytes {
            return to;
        }
        let mut state = self.state();
        if state.wanted < to {
            state.wanted = to;
            state.sleeping = false;
            drop(state);
            self.wake.notify_one();
        }
        checkpoint
    }

    /// Everything before is in memory or in files of the record.
    pub fn position(&self) -> Position {
        Position(self.position.load(Ordering::Acquire))
    }

    /// Everything before is in files of the record: what is kept of the journal begins here, after a restart too.
    pub fn checkpoint(&self) -> Position {
        Position(self.checkpoint.load(Ordering::Acquire))
    }

    /// How far the journal is durable.
    pub(crate) fn durable_position(&self) -> Position {
        self.state().durable
    }

    pub(crate) fn wanted(&self) -> Position {
        self.state().wanted
    }

    pub(crate) fn set_position(&self, position: Position) {
        self.position.store(position.0, Ordering::Release);
        drop(self.state());
        self.progress.notify_all();
    }

    pub(crate) fn set_checkpoint(&self, position: Position) {
        self.checkpoint.store(position.0, Ordering::Release);
    }

    /// Takes the groups that have gathered.
    pub(crate) fn take(&self) -> VecDeque<(Position, Bytes)> {
        let mut state = self.state();
        state.bytes = 0;
        std::mem::take(&mut state.groups)
    }

    /// Waits for something to do; false: it is time to end.
    pub(crate) fn wait(&self) -> bool {
        let mut state = self.state();
        let mut gathered = false;
        loop {
            if state.stopping {
                return false;
            }
            let position = self.position();
            if state.durable.min(state.asked) > position {
                return true;
            }
            if state.durable <= position && (state.wanted <= self.checkpoint() || state.wanted > position) {
                state.sleeping = true;
                state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            if gathered {
                return true;
            }
            gathered = true;
            let gather = Duration::from_millis(GATHER_MS);
            state = self.wake.wait_timeout(state, gather).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits for so long, or until it is time to end.
    pub(crate) fn pause(&self, ms: u64) {
        let state = self.state();
        let pause = Duration::from_millis(ms);
        drop(self.wake.wait_timeout_while(state, pause, |state| !state.stopping));
    }

    /// Waits until everything before `position`, and all that is durable now, has been taken in, but not longer than `patience`;
    /// says whether it was.
    pub fn catch_up(&self, position: Position, patience: Duration) -> bool {
        let mut state = self.state();
        let position = position.max(state.durable);
        if self.position() >= position {
            return true;
        }
        state.asked = state.asked.max(position);
        self.wake.notify_one();
        let behind = |state: &mut State| self.position() < position && !state.ended;
        drop(self.progress.wait_timeout_while(state, patience, behind));
        self.position() >= position
    }

    pub(crate) fn stop(&self) {
        self.state().stopping = true;
        self.wake.notify_one();
    }

    pub(crate) fn ended(&self) {
        self.state().ended = true;
        self.progress.notify_all();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.state().stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_kept_for_the_recorder_up_to_a_limit() {
        let feed = Feed::new(Position(100), Position(100));
        assert_eq!(feed.release(Position(90), Position(1000), 500), Position(90));
        assert_eq!(feed.release(Position(200), Position(600), 500), Position(100));
        assert_eq!(feed.release(Position(200), Position(601), 500), Position(200));
        feed.set_checkpoint(Position(300));
        assert_eq!(feed.release(Position(200), Position(800), 500), Position(200));
    }

    #[test]
    fn what_waits_in_memory_is_bounded() {
        let feed = Feed::new(Position(0), Position(0));
        let full = Bytes::from(vec![0; FEED_BYTES_MAX]);
        feed.durable(Position(0), Position(10), full.clone());
        feed.durable(Position(10), Position(20), Bytes::new());
        assert_eq!(feed.take().len(), 2);
        feed.durable(Position(20), Position(30), full);
        feed.durable(Position(30), Position(40), Bytes::from_static(b"x"));
        let kept = feed.take();
        assert_eq!((kept.len(), kept[0].0, feed.durable_position()), (1, Position(20), Position(40)));
        feed.durable(Position(40), Position(50), Bytes::from_static(b"x"));
        assert_eq!(feed.take().len(), 1);
    }
}
