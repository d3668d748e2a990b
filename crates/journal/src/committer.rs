//! How many writers share one sync: the thread that owns the journal, and the open group before it.
//!
//! Entries of all writers go into one open group in memory. The thread takes it as soon as it is free, writes it,
//! syncs once, tells that it is durable, and at once takes what has arrived meanwhile. So a lone writer waits for one
//! sync and for no timer, and many writers share one.

use std::{
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use bytes::Bytes;
use waystation_base::Position;

use crate::{
    buffer::BufferPool,
    contract::{AppendError, Epoch, Failure, Journal, Space},
    group::{Group, Mark},
    limits::{GROUP_BYTES_REFUSE, GROUP_BYTES_SOFT, UNIT_BYTES_MAX},
};

/// When a group is made durable, and with it what an acknowledgement is worth.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Each group is synced before anybody hears of it: acknowledged means durable.
    #[default]
    Sync,
    /// Groups are released when they are written and synced at most this many milliseconds later. What was
    /// acknowledged within that time is at risk when the machine loses power, not when the process dies.
    Interval(u64),
    /// Groups are released when they are written; the operating system syncs them when it likes, usually within
    /// half a minute, and at most one journal file waits. All that is at risk when the machine loses power.
    Os,
}

/// What the committer tells its owner, from its own thread and in order.
#[derive(Clone, Debug)]
pub enum Event {
    /// A group may be acknowledged: it is durable, or written in the weaker modes.
    Durable {
        /// Where it begins.
        start: Position,
        /// The position after it.
        end: Position,
        /// The whole frame: the byte at position `p` is at `p - start`.
        bytes: Bytes,
    },
    /// Everything before `through` is on the disk. Told in the weaker modes only.
    Synced {
        /// The position before which all is durable.
        through: Position,
    },
    /// There is no more room ahead, or there is again. While it is low, refuse what fills the journal.
    Space(Space),
    /// Writing ended for good; nothing that was not told durable is.
    Failed(Failure),
}

/// Why entries were not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Writing ended for good.
    #[error(transparent)]
    Failed(#[from] Failure),
    /// The disk is slower than the callers; try again when a group has become durable.
    #[error("{open_bytes} bytes wait to be written, and no more can wait")]
    Busy {
        /// Bytes of the open group.
        open_bytes: usize,
    },
    /// The unit or one of its entries is larger than the limits.
    #[error("the entries have {bytes} bytes together, and one unit can have {UNIT_BYTES_MAX} at most")]
    TooLarge {
        /// Bytes of the unit.
        bytes: usize,
    },
    /// The disk is full.
    #[error("the disk is full: {room_bytes} bytes are left for what makes room")]
    NoSpace {
        /// Bytes that can still be written.
        room_bytes: u64,
    },
    /// The committer was stopped.
    #[error("the journal is being closed")]
    Stopped,
}

struct State {
    open: Group,
    /// Whether the thread waits and must be woken.
    sleeping: bool,
    stopping: bool,
    /// The thread has ended.
    ended: bool,
    failed: Option<Failure>,
    trim: Option<Position>,
    sync_wanted: Position,
    space: Space,
}

struct Inner {
    state: Mutex<State>,
    work: Condvar,
    progress: Condvar,
    durable: AtomicU64,
    synced: AtomicU64,
    buffers: Arc<BufferPool>,
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self, mut state: MutexGuard<'_, State>) {
        let sleeping = std::mem::take(&mut state.sleeping);
        drop(state);
        if sleeping {
            self.work.notify_one();
        }
    }
}

/// The way into the journal for everybody but its thread.
pub struct Committer {
    inner: Arc<Inner>,
    thread: Option<JoinHandle<()>>,
}

impl Committer {
    /// Starts the thread that owns `journal` and writes as `epoch`.
    ///
    /// `notify` is called by that thread with no lock held; what it does delays the next group.
    pub fn spawn(
        journal: impl Journal + 'static,
        mode: Mode,
        epoch: Epoch,
        notify: impl FnMut(Event) + Send + 'static,
    ) -> std::io::Result<Committer> {
        let (mut committer, mut owner) = Committer::make(journal, mode, epoch, notify);
        let thread = std::thread::Builder::new().name("journal".to_owned()).spawn(move || owner.run())?;
        committer.thread = Some(thread);
        Ok(committer)
    }

    /// The same without a thread: nothing is written but by the [`Hand`]. For whoever decides what happens when.
    pub fn by_hand(
        journal: impl Journal + 'static,
        mode: Mode,
        epoch: Epoch,
        notify: impl FnMut(Event) + Send + 'static,
    ) -> (Committer, Hand) {
        let (committer, mut owner) = Committer::make(journal, mode, epoch, notify);
        (committer, Hand(Box::new(move || owner.step())))
    }

    fn make<J: Journal, N: FnMut(Event)>(
        journal: J,
        mode: Mode,
        epoch: Epoch,
        notify: N,
    ) -> (Committer, Owner<J, N>) {
        let end = journal.end();
        let open = Group::new(end, journal.align_bytes());
        let state = State {
            open,
            sleeping: false,
            stopping: false,
            ended: false,
            failed: None,
            trim: None,
            sync_wanted: Position(0),
            space: Space::Enough,
        };
        let inner = Arc::new(Inner {
            state: Mutex::new(state),
            work: Condvar::new(),
            progress: Condvar::new(),
            durable: AtomicU64::new(end.0),
            synced: AtomicU64::new(end.0),
            buffers: Arc::default(),
        });
        let synced = end;
        let owner =
            Owner { inner: inner.clone(), journal, mode, epoch, notify, synced, synced_at: monotonic() };
        (Committer { inner, thread: None }, owner)
    }

    /// Appends the entries that `unit` pushes: all of them together or, on a refusal or panic, none.
    ///
    /// They are durable when [`Committer::durable`] has passed the group that they are in, which
    /// [`Event::Durable`] tells.
    pub fn with_group<R>(&self, unit: impl FnOnce(&mut Group) -> R) -> Result<R, Refused> {
        let mut state = self.inner.state();
        state.admit()?;
        let mut open = Unit { mark: state.open.mark(), state: &mut state, kept: false };
        let result = unit(&mut open.state.open);
        open.check()?;
        open.kept = true;
        drop(open);
        state.open.sum();
        if !state.open.is_empty() {
            self.inner.wake(state);
        }
        Ok(result)
    }

    /// Everything before this position may be acknowledged.
    pub fn durable(&self) -> Position {
        Position(self.inner.durable.load(Ordering::Acquire))
    }

    /// Everything before this position is on the disk: the same as [`Committer::durable`] in [`Mode::Sync`].
    pub fn synced(&self) -> Position {
        Position(self.inner.synced.load(Ordering::Acquire))
    }

    /// Bytes that wait for the thread.
    pub fn open_bytes(&self) -> usize {
        self.inner.state().open.len()
    }

    /// Whether so much waits that the caller should stop feeding until a group has become durable.
    pub fn is_busy(&self) -> bool {
        self.open_bytes() >= GROUP_BYTES_SOFT
    }

    /// Whether there is room ahead, as of the last group.
    pub fn space(&self) -> Space {
        self.inner.state().space
    }

    /// Allows everything before `before` to be forgotten; done by the thread, soon.
    pub fn trim(&self, before: Position) {
        let mut state = self.inner.state();
        state.trim = state.trim.max(Some(before));
        self.inner.wake(state);
    }

    /// Waits until everything before `position` is on the disk, whatever the mode: before a snapshot of that
    /// position is written.
    pub fn sync_through(&self, position: Position) -> Result<(), Refused> {
        let mut state = self.inner.state();
        state.sync_wanted = state.sync_wanted.max(position);
        self.inner.wake(state);
        let mut state = self.inner.state();
        while self.synced() < position {
            state.alive()?;
            state = self.inner.progress.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Writes and syncs what waits, closes the journal in good order and ends the thread.
    pub fn flush_and_stop(mut self) -> Result<Position, Failure> {
        self.stop();
        let state = self.inner.state();
        state.failed.clone().map_or_else(|| Ok(self.synced()), Err)
    }

    fn stop(&mut self) {
        let mut state = self.inner.state();
        state.stopping = true;
        self.inner.wake(state);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.stop();
    }
}

impl State {
    fn alive(&self) -> Result<(), Refused> {
        if let Some(failure) = &self.failed {
            return Err(Refused::Failed(failure.clone()));
        }
        if self.ended { Err(Refused::Stopped) } else { Ok(()) }
    }

    fn admit(&self) -> Result<(), Refused> {
        self.alive()?;
        if self.stopping {
            return Err(Refused::Stopped);
        }
        if self.open.len() >= GROUP_BYTES_REFUSE {
            return Err(Refused::Busy { open_bytes: self.open.len() });
        }
        Ok(())
    }
}

/// Entries that are being added; taken back unless they are kept.
struct Unit<'a, 'b> {
    state: &'a mut MutexGuard<'b, State>,
    mark: Mark,
    kept: bool,
}

impl Unit<'_, '_> {
    fn check(&self) -> Result<(), Refused> {
        let group = &self.state.open;
        let bytes = group.len() - self.mark.length();
        if group.is_too_large() || bytes > UNIT_BYTES_MAX {
            return Err(Refused::TooLarge { bytes });
        }
        match self.state.space {
            Space::Low { room_bytes } if group.end().0 - group.start().0 > room_bytes => {
                Err(Refused::NoSpace { room_bytes })
            }
            _ => Ok(()),
        }
    }
}

impl Drop for Unit<'_, '_> {
    fn drop(&mut self) {
        if !self.kept {
            self.state.open.roll_back(self.mark);
        }
    }
}

/// Does what the thread of a [`Committer::by_hand`] would do, step by step.
pub struct Hand(Box<dyn FnMut() -> bool + Send>);

impl Hand {
    /// Carries out the next thing, and says whether there was one: writes and syncs a group, say, and tells of it.
    pub fn step(&mut self) -> bool {
        (self.0)()
    }
}

#[allow(clippy::disallowed_methods, reason = "paces syncs; nothing that is written depends on it")]
fn monotonic() -> Instant {
    Instant::now()
}

/// The thread's side.
struct Owner<J, N> {
    inner: Arc<Inner>,
    journal: J,
    mode: Mode,
    epoch: Epoch,
    notify: N,
    synced: Position,
    synced_at: Instant,
}

enum Job {
    Commit(Group),
    Sync,
    Trim(Position),
    LookForSpace,
    Close,
}

impl<J: Journal, N: FnMut(Event)> Owner<J, N> {
    /// How often a full disk is looked at.
    const SPACE_POLL: Duration = Duration::from_millis(200);
    /// After this much quiet the write buffers are given back.
    const QUIET: Duration = Duration::from_secs(1);

    fn run(&mut self) {
        let outcome = self.work();
        self.ended(outcome);
    }

    fn ended(&mut self, outcome: Result<(), Failure>) {
        let mut state = self.inner.state();
        state.ended = true;
        state.failed = outcome.as_ref().err().cloned();
        drop(state);
        self.inner.progress.notify_all();
        if let Err(failure) = outcome {
            (self.notify)(Event::Failed(failure));
        }
    }

    fn work(&mut self) -> Result<(), Failure> {
        loop {
            let job = self.next();
            if self.carry_out(job)? {
                return Ok(());
            }
        }
    }

    /// Does what is next, if anything is; says whether it was.
    fn step(&mut self) -> bool {
        let mut state = self.inner.state();
        let job = if state.alive().is_ok() { self.take(&mut state) } else { None };
        drop(state);
        let Some(job) = job else { return false };
        let outcome = self.carry_out(job);
        if !matches!(outcome, Ok(false)) {
            self.ended(outcome.map(|_| ()));
        }
        true
    }

    /// Says whether this was the last.
    fn carry_out(&mut self, job: Job) -> Result<bool, Failure> {
        match job {
            Job::Commit(group) => self.commit(group)?,
            Job::Sync => self.sync()?,
            Job::Trim(before) => self.journal.trim(before)?,
            Job::LookForSpace => {}
            Job::Close => {
                let synced = self.journal.close()?;
                self.inner.synced.store(synced.0, Ordering::Release);
                return Ok(true);
            }
        }
        self.look_for_space();
        Ok(false)
    }

    fn next(&self) -> Job {
        let mut state = self.inner.state();
        loop {
            if let Some(job) = self.take(&mut state) {
                return job;
            }
            state.sleeping = true;
            let Some(patience) = self.patience(&state) else {
                state = self.inner.work.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let (woken, timeout) =
                self.inner.work.wait_timeout(state, patience).unwrap_or_else(PoisonError::into_inner);
            state = woken;
            state.sleeping = false;
            if timeout.timed_out() && state.space != Space::Enough {
                return Job::LookForSpace;
            }
            if timeout.timed_out() && patience == Self::QUIET {
                self.inner.buffers.clear();
            }
        }
    }

    /// The next thing to do, if there is one.
    fn take(&self, state: &mut State) -> Option<Job> {
        if let Some(before) = state.trim.take() {
            return Some(Job::Trim(before));
        }
        if self.is_sync_due(state) {
            return Some(Job::Sync);
        }
        if !state.open.is_empty() {
            if let Space::Low { room_bytes } = &mut state.space {
                *room_bytes = room_bytes.saturating_sub(state.open.end().0 - state.open.start().0);
            }
            let next =
                Group::with_buffer(state.open.end(), self.journal.align_bytes(), self.inner.buffers.take());
            return Some(Job::Commit(std::mem::replace(&mut state.open, next)));
        }
        state.stopping.then_some(Job::Close)
    }

    fn is_sync_due(&self, state: &State) -> bool {
        let behind = self.synced < self.journal.end();
        let wanted = state.sync_wanted > self.synced
            && (state.open.is_empty() || state.sync_wanted <= self.journal.end());
        let elapsed = match self.mode {
            Mode::Interval(ms) => self.synced_at.elapsed() >= Duration::from_millis(ms),
            Mode::Sync | Mode::Os => false,
        };
        behind && (wanted || elapsed)
    }

    /// How long to wait for work at most.
    fn patience(&self, state: &State) -> Option<Duration> {
        let sync = match self.mode {
            Mode::Interval(ms) if self.synced < self.journal.end() => {
                Some(Duration::from_millis(ms).saturating_sub(self.synced_at.elapsed()))
            }
            _ => None,
        };
        let space = (state.space != Space::Enough).then_some(Self::SPACE_POLL);
        let quiet = (!self.inner.buffers.is_empty()).then_some(Self::QUIET);
        [sync, space, quiet].into_iter().flatten().min()
    }

    fn commit(&mut self, mut group: Group) -> Result<(), Failure> {
        loop {
            match self.journal.append(group.start(), self.epoch, &mut group) {
                Ok(()) => break,
                Err(error @ AppendError::NoSpace { .. }) => self.wait_for_space(&error)?,
                Err(AppendError::Failed(failure)) => return Err(failure),
                Err(other) => return Err(Failure::refused(&other)),
            }
        }
        let (start, end) = (group.start(), group.end());
        if self.mode == Mode::Sync {
            self.sync()?;
        }
        self.inner.durable.store(end.0, Ordering::Release);
        let bytes = group.into_bytes(&self.inner.buffers);
        (self.notify)(Event::Durable { start, end, bytes });
        Ok(())
    }

    /// Holds a group for which there is no room until there may be some. Nobody has been told that it is durable; it
    /// is given up only if the committer is stopped.
    fn wait_for_space(&mut self, error: &AppendError) -> Result<(), Failure> {
        self.look_for_space();
        let mut state = self.inner.state();
        if state.stopping {
            return Err(Failure::refused(error));
        }
        state.sleeping = true;
        let (mut state, _) =
            self.inner.work.wait_timeout(state, Self::SPACE_POLL).unwrap_or_else(PoisonError::into_inner);
        state.sleeping = false;
        let trim = state.trim.take();
        drop(state);
        trim.map_or(Ok(()), |before| self.journal.trim(before))
    }

    fn sync(&mut self) -> Result<(), Failure> {
        self.synced = self.journal.sync()?;
        self.synced_at = monotonic();
        self.inner.synced.store(self.synced.0, Ordering::Release);
        // A waiter looks at `synced` under the lock: with the lock taken here it either sees it or is woken.
        drop(self.inner.state());
        self.inner.progress.notify_all();
        if self.mode != Mode::Sync {
            (self.notify)(Event::Synced { through: self.synced });
        }
        Ok(())
    }

    fn look_for_space(&mut self) {
        let space = self.journal.space();
        let mut state = self.inner.state();
        let before = std::mem::replace(&mut state.space, space);
        drop(state);
        if (before == Space::Enough) != (space == Space::Enough) {
            (self.notify)(Event::Space(space));
        }
    }
}

#[cfg(test)]
mod tests;
