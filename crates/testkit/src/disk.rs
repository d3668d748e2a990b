//! What a disk may do to those who trust it: a disk in memory that writes short, fails, fills up, and forgets in a crash
//! what was not synced.

use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use waystation_base::disk::{DIRECT_ALIGN_BYTES, Disk, File, LockError};

use crate::random::Random;

/// What is written as a whole or not at all.
pub const SECTOR_BYTES: usize = 512;

/// How often what goes wrong: once in so many operations, 0 for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// A write takes only some of its bytes.
    pub short_write_one_in: u64,
    /// A write fails.
    pub write_error_one_in: u64,
    /// A sync fails, and what it should have written may be lost (as Linux has it, later syncs say nothing).
    pub sync_error_one_in: u64,
    /// A creation, rename or removal fails.
    pub name_error_one_in: u64,
    /// Bytes of all files together, past which writes fail.
    pub capacity_bytes: Option<u64>,
}

/// How a run of the process ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crash {
    /// The process is killed: what it wrote is still there, synced or not.
    Kill,
    /// The power goes: of what was not synced, some sectors are there and some are not; so with names.
    Power,
}

#[derive(Debug, Default)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Sectors written since the last sync; in order, with repetitions.
    dirty: Vec<usize>,
}

/// A change of names that is not durable yet.
#[derive(Clone, Debug)]
enum Change {
    Put(PathBuf, Arc<Mutex<Inode>>),
    Move(PathBuf, PathBuf, Arc<Mutex<Inode>>),
    Remove(PathBuf),
}

impl Change {
    fn dir(&self) -> Option<&Path> {
        let (Change::Put(path, _) | Change::Move(path, ..) | Change::Remove(path)) = self;
        path.parent()
    }

    fn apply(self, names: &mut BTreeMap<PathBuf, Arc<Mutex<Inode>>>) {
        match self {
            Change::Put(path, inode) => {
                names.insert(path, inode);
            }
            Change::Move(from, to, inode) => {
                names.remove(&from);
                names.insert(to, inode);
            }
            Change::Remove(path) => {
                names.remove(&path);
            }
        }
    }
}

struct State {
    durable: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    current: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    changes: Vec<Change>,
    random: Random,
    faults: Faults,
    /// Operations that failed on purpose.
    failures: u64,
}

impl State {
    fn fails(&mut self, one_in: u64, what: &str) -> io::Result<()> {
        if self.random.one_in(one_in) {
            self.failures += 1;
            return Err(io::Error::other(format!("the simulated disk fails to {what}")));
        }
        Ok(())
    }

    fn used(&self) -> u64 {
        self.current.values().map(|inode| lock(inode).current.len() as u64).sum()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The disk. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

impl SimDisk {
    /// An empty disk that works as it should until told otherwise.
    pub fn new(seed: u64) -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State {
            durable: BTreeMap::new(),
            current: BTreeMap::new(),
            changes: Vec::new(),
            random: Random::new(seed),
            faults: Faults::default(),
            failures: 0,
        })))
    }

    /// Sets how often what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        lock(&self.0).faults = faults;
    }

    /// Operations that have failed on purpose so far.
    pub fn failures(&self) -> u64 {
        lock(&self.0).failures
    }

    /// Bytes of all files.
    pub fn used_bytes(&self) -> u64 {
        lock(&self.0).used()
    }

    fn open_aligned(&self, path: &Path, create: bool, align_bytes: usize) -> io::Result<Arc<dyn File>> {
        let mut state = lock(&self.0);
        let inode = match state.current.get(path) {
            Some(inode) => inode.clone(),
            None if create => {
                let one_in = state.faults.name_error_one_in;
                state.fails(one_in, "create a file")?;
                let inode = Arc::<Mutex<Inode>>::default();
                state.current.insert(path.to_owned(), inode.clone());
                state.changes.push(Change::Put(path.to_owned(), inode.clone()));
                inode
            }
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(SimFile { disk: self.clone(), inode, align_bytes }))
    }

    /// The process ends. Files that are still held open belong to the run that is over: they must not be used again.
    pub fn crash(&self, crash: Crash) {
        let mut state = lock(&self.0);
        let state = &mut *state;
        if crash == Crash::Kill {
            return;
        }
        let changes = std::mem::take(&mut state.changes);
        // A file system with a journal keeps changes up to some point; another one any of them.
        let point = state.random.below(changes.len() as u64 + 1) as usize;
        let in_order = state.random.one_in(2);
        for (index, change) in changes.into_iter().enumerate() {
            if if in_order { index < point } else { state.random.one_in(2) } {
                change.apply(&mut state.durable);
            }
        }
        state.current = state.durable.clone();
        for inode in state.current.values() {
            lock(inode).tear(&mut state.random);
        }
    }
}

impl Inode {
    fn tear(&mut self, random: &mut Random) {
        let mut length = if random.one_in(2) { self.current.len() } else { self.durable.len() };
        let share = random.below(5) * 25;
        let (current, durable) = (&self.current, &mut self.durable);
        let mut kept = Vec::new();
        self.dirty.sort_unstable();
        self.dirty.dedup();
        for sector in std::mem::take(&mut self.dirty) {
            let from = sector * SECTOR_BYTES;
            let to = (from + SECTOR_BYTES).min(current.len());
            if from < to && random.percent(share) {
                length = length.max(to);
                kept.push(from..to);
            }
        }
        durable.resize(length, 0);
        for range in kept {
            durable[range.clone()].copy_from_slice(&current[range]);
        }
        self.current = self.durable.clone();
    }

    fn sync(&mut self) {
        self.durable.resize(self.current.len(), 0);
        for sector in std::mem::take(&mut self.dirty) {
            let from = sector * SECTOR_BYTES;
            let to = (from + SECTOR_BYTES).min(self.current.len());
            if from < to {
                self.durable[from..to].copy_from_slice(&self.current[from..to]);
            }
        }
    }
}

impl Disk for SimDisk {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        self.open_aligned(path, create, 1)
    }

    fn open_uncached(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        self.open_aligned(path, create, DIRECT_ALIGN_BYTES)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        let one_in = state.faults.name_error_one_in;
        state.fails(one_in, "rename a file")?;
        let inode = state.current.get(from).cloned().ok_or(io::ErrorKind::NotFound)?;
        let change = Change::Move(from.to_owned(), to.to_owned(), inode);
        change.clone().apply(&mut state.current);
        state.changes.push(change);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        let one_in = state.faults.name_error_one_in;
        state.fails(one_in, "remove a file")?;
        state.current.remove(path).ok_or(io::ErrorKind::NotFound)?;
        state.changes.push(Change::Remove(path.to_owned()));
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(lock(&self.0).current.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = lock(&self.0);
        let one_in = state.faults.sync_error_one_in;
        state.fails(one_in, "sync a folder")?;
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.changes).into_iter().partition(|change| change.dir() == Some(dir));
        state.changes = rest;
        synced.into_iter().for_each(|change| change.apply(&mut state.durable));
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let state = lock(&self.0);
        Ok(state.faults.capacity_bytes.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }

    fn lock(&self, _: &Path, _: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        Ok(Box::new(()))
    }
}

struct SimFile {
    disk: SimDisk,
    inode: Arc<Mutex<Inode>>,
    /// Of what memory, offset and length of a read or write are multiples.
    align_bytes: usize,
}

impl SimFile {
    fn check_alignment(&self, bytes: &[u8], offset: u64) {
        let is_aligned = |n: u64| n.is_multiple_of(self.align_bytes as u64);
        let aligned = [bytes.as_ptr() as u64, offset, bytes.len() as u64].map(is_aligned);
        assert_eq!(aligned, [true; 3], "memory, offset and length past the page cache are aligned");
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.check_alignment(buffer, offset);
        let inode = lock(&self.inode);
        let rest = inode.current.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = lock(&self.disk.0);
        let faults = state.faults;
        state.fails(faults.write_error_one_in, "write")?;
        let mut length = bytes.len();
        let align_bytes = self.align_bytes;
        self.check_alignment(bytes, offset);
        if length > align_bytes && state.random.one_in(faults.short_write_one_in) {
            length = state.random.range(1, length as u64 - 1) as usize;
            length = (length / align_bytes * align_bytes).max(align_bytes);
        }
        let end = offset as usize + length;
        let growth = end.saturating_sub(lock(&self.inode).current.len()) as u64;
        if growth > 0 && faults.capacity_bytes.is_some_and(|capacity| state.used() + growth > capacity) {
            state.failures += 1;
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut inode = lock(&self.inode);
        if inode.current.len() < end {
            inode.current.resize(end, 0);
        }
        inode.current[offset as usize..end].copy_from_slice(&bytes[..length]);
        inode.dirty.extend(offset as usize / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        Ok(length)
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = lock(&self.disk.0);
        let one_in = state.faults.sync_error_one_in;
        let failed = state.fails(one_in, "sync a file");
        let mut inode = lock(&self.inode);
        if failed.is_err() {
            // The pages count as clean from now on; which of them were written nobody says.
            let mut left = std::mem::take(&mut inode.dirty);
            left.retain(|_| state.random.one_in(2));
            inode.dirty = left;
            let length = inode.current.len();
            inode.sync();
            debug_assert_eq!(inode.current.len(), length);
            return failed;
        }
        inode.sync();
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.inode).current.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        lock(&self.inode).current.resize(bytes as usize, 0);
        Ok(())
    }
}

#[cfg(test)]
mod tests;
