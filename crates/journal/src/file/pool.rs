//! Where the next journal file comes from: prepared ahead or used again, beside the publish path.
//!
//! A file is prepared by writing zeros and syncing them, because a sync of bytes that fall into written blocks is
//! two times faster than one that must also note new blocks. Names in the journal's folder:
//!
//! ```text
//! <n>.preparing   zeros are being written; removed at the next start
//! <n>.spare       ready: zeros, or the bytes of an earlier use
//! ```

use std::{
    collections::VecDeque,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::JoinHandle,
    time::Duration,
};

use waystation_base::disk::{DIRECT_ALIGN_BYTES, Disk, File};

use crate::limits::PAGE_BYTES;

/// A file that is ready to become part of the journal.
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) bytes: u64,
}

/// When files are prepared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preparation {
    /// Ahead, by a thread of their own.
    Background,
    /// Ahead, by the thread that appends: for tests that want one thread.
    Inline,
    /// Not at all: files grow as they are written.
    None,
}

#[derive(Default)]
struct State {
    spares: Vec<Spare>,
    retired: VecDeque<(PathBuf, Arc<dyn File>)>,
    /// The length of the file that is asked for.
    wanted: Option<u64>,
    /// Why the last attempt to prepare a file failed.
    low: Option<String>,
    next_number: u64,
    stop: bool,
}

struct Inner {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    spares_max: usize,
    free_bytes_min: u64,
    state: Mutex<State>,
    changed: Condvar,
}

/// The spare files, and the thread that makes them.
pub(crate) struct Pool {
    inner: Arc<Inner>,
    preparation: Preparation,
    thread: Option<JoinHandle<()>>,
}

impl Pool {
    /// A pool that begins with `spares`, each a file with a number as its name.
    pub(crate) fn new(
        disk: Arc<dyn Disk>,
        dir: &Path,
        spares: Vec<Spare>,
        preparation: Preparation,
        spares_max: usize,
        free_bytes_min: u64,
    ) -> io::Result<Pool> {
        let next_number = spares.iter().filter_map(|spare| number_of(&spare.path)).max().map_or(0, |n| n + 1);
        let state = State { spares, next_number, ..State::default() };
        let (state, changed) = (Mutex::new(state), Condvar::new());
        let inner = Arc::new(Inner { disk, dir: dir.to_owned(), spares_max, free_bytes_min, state, changed });
        let thread = match preparation {
            Preparation::Background => {
                let inner = inner.clone();
                let name = "journal-files".to_owned();
                Some(std::thread::Builder::new().name(name).spawn(move || inner.run())?)
            }
            Preparation::Inline | Preparation::None => None,
        };
        Ok(Pool { inner, preparation, thread })
    }

    /// The largest spare, if there is one.
    pub(crate) fn take(&self) -> Option<Spare> {
        let mut state = self.inner.state();
        let largest = (0..state.spares.len()).max_by_key(|at| state.spares[*at].bytes)?;
        Some(state.spares.swap_remove(largest))
    }

    /// Whether there is a spare.
    pub(crate) fn is_ready(&self) -> bool {
        !self.inner.state().spares.is_empty()
    }

    /// Asks for a spare of `bytes`, unless there is one.
    pub(crate) fn ask(&self, bytes: u64) {
        if self.preparation == Preparation::None {
            return;
        }
        let mut state = self.inner.state();
        if !state.spares.is_empty() || state.wanted.is_some() {
            return;
        }
        state.wanted = Some(bytes);
        self.started(state);
    }

    /// Makes the very first file at once, if it can be made; there is nobody yet who could be kept waiting.
    pub(crate) fn prepare_now(&self, bytes: u64) {
        if self.preparation == Preparation::None {
            return;
        }
        let number = self.inner.state().new_number();
        match self.inner.prepare(bytes, number) {
            Ok(Some(spare)) => self.inner.state().spares.push(spare),
            Ok(None) => {}
            Err(why) => self.inner.state().low = Some(why),
        }
    }

    /// Hands over a file that is no longer part of the journal.
    pub(crate) fn retire(&self, path: PathBuf, file: Arc<dyn File>) {
        let mut state = self.inner.state();
        state.retired.push_back((path, file));
        self.started(state);
    }

    fn started(&self, state: MutexGuard<'_, State>) {
        if self.thread.is_some() {
            self.inner.changed.notify_one();
            return;
        }
        let mut state = state;
        while state.has_work() {
            let (next, done) = self.inner.work(state);
            state = next;
            if !done {
                break;
            }
        }
    }

    /// Why no file could be prepared when one was last tried, and the bytes that the spares hold.
    pub(crate) fn shortage(&self) -> Option<(String, u64)> {
        let state = self.inner.state();
        let bytes = state.spares.iter().map(|spare| spare.bytes).sum();
        state.low.clone().map(|why| (why, bytes))
    }

    /// Tries again at once what failed for lack of space.
    pub(crate) fn retry(&self) {
        if self.thread.is_none() {
            let state = self.inner.state();
            if state.has_work() {
                self.started(state);
            }
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.inner.state().stop = true;
        self.inner.changed.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    fn has_work(&self) -> bool {
        !self.retired.is_empty() || self.wanted.is_some()
    }

    fn new_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number - 1
    }
}

impl Inner {
    const RETRY: Duration = Duration::from_millis(500);
    const STEP_BYTES: usize = 1 << 20;
    /// Zeros are synced in steps of this size, so that a commit beside never waits for many.
    const SYNC_BYTES: u64 = 4 << 20;

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self) {
        let mut state = self.state();
        while !state.stop {
            if !state.has_work() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
                continue;
            }
            let (next, done) = self.work(state);
            state = next;
            if !done && !state.stop {
                let waited = self.changed.wait_timeout(state, Self::RETRY);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
            }
        }
    }

    /// Does one piece of work; says whether it succeeded.
    fn work<'a>(&'a self, mut state: MutexGuard<'a, State>) -> (MutexGuard<'a, State>, bool) {
        let mut retiring = true;
        if let Some((path, file)) = state.retired.pop_front() {
            let keep = state.spares.len() < self.spares_max;
            let number = state.new_number();
            drop(state);
            let recycled = self.recycle(&path, &file, keep, number);
            state = self.state();
            match recycled {
                Ok(spare) => {
                    if let Some(spare) = spare {
                        state.spares.push(spare);
                        state.wanted = None;
                        state.low = None;
                    }
                    return (state, true);
                }
                // It is tried again before any later file goes.
                Err(_) => {
                    state.retired.push_front((path, file));
                    retiring = false;
                }
            }
        }
        let Some(bytes) = state.wanted else { return (state, retiring) };
        let number = state.new_number();
        drop(state);
        let made = self.prepare(bytes, number);
        state = self.state();
        let done = made.is_ok() && retiring;
        match made {
            Ok(Some(spare)) => {
                state.spares.push(spare);
                state.wanted = None;
                state.low = None;
            }
            Ok(None) => {}
            Err(why) => state.low = Some(why),
        }
        (state, done)
    }

    /// Files go one by one, each durably before the next, so that no crash leaves a gap in the chain.
    fn recycle(
        &self,
        path: &Path,
        file: &Arc<dyn File>,
        keep: bool,
        number: u64,
    ) -> io::Result<Option<Spare>> {
        let spare_path = self.dir.join(format!("{number}.spare"));
        let moved = if keep { self.disk.rename(path, &spare_path) } else { self.disk.remove(path) };
        let again = match moved {
            // It was moved before, but not durably.
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            moved => moved.map(|()| false)?,
        };
        self.disk.sync_dir(&self.dir)?;
        let keep = keep && !again;
        Ok(file.len().ok().filter(|_| keep).map(|bytes| Spare {
            path: spare_path,
            file: file.clone(),
            bytes,
        }))
    }

    fn prepare(&self, bytes: u64, number: u64) -> Result<Option<Spare>, String> {
        let bytes = bytes.next_multiple_of(DIRECT_ALIGN_BYTES as u64);
        let free = self.disk.free_bytes(&self.dir).map_err(|error| error.to_string())?;
        if free < bytes.saturating_add(self.free_bytes_min) {
            return Err(format!("{free} bytes are free in {}", self.dir.display()));
        }
        let path = self.dir.join(format!("{number}.preparing"));
        let made = self.write_zeros(&path, bytes, || self.state().stop);
        match made {
            Ok(Some(file)) => {
                let ready = self.dir.join(format!("{number}.spare"));
                self.disk.rename(&path, &ready).map_err(|error| error.to_string())?;
                Ok(Some(Spare { path: ready, file, bytes }))
            }
            Ok(None) => {
                let _ = self.disk.remove(&path);
                Ok(None)
            }
            Err(error) => {
                let _ = self.disk.remove(&path);
                Err(format!("writing {} failed: {error}", path.display()))
            }
        }
    }

    fn write_zeros(
        &self,
        path: &Path,
        bytes: u64,
        stopped: impl Fn() -> bool,
    ) -> io::Result<Option<Arc<dyn File>>> {
        // Nobody reads zeros: in the page cache they would cost a copy and push out what is read.
        let file = self.disk.open_uncached(path, true)?;
        // Whether there is room is known at once, and not when the file before is nearly full.
        file.reserve(bytes)?;
        let zeros = vec![0; Self::STEP_BYTES + PAGE_BYTES];
        let lead = crate::buffer::lead(&zeros, 0);
        let mut at = 0;
        while at < bytes {
            if stopped() {
                return Ok(None);
            }
            let step = (bytes - at).min(Self::STEP_BYTES as u64);
            file.write_all_at(&zeros[lead..lead + step as usize], at)?;
            at += step;
            if at.is_multiple_of(Self::SYNC_BYTES) || at == bytes {
                file.sync_data()?;
            }
        }
        self.disk.open(path, false).map(Some)
    }
}

/// The number in the name of a spare file.
fn number_of(path: &Path) -> Option<u64> {
    path.file_stem()?.to_str()?.parse().ok()
}
