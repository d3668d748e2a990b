//! A disk in memory for this crate's tests: it loses and tears what was not synced, fails on demand and fills up.

use std::{
    collections::BTreeMap,
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
};

use waystation_base::disk::{Disk, File, LockError};

const SECTOR_BYTES: usize = 512;

/// A small generator of repeatable numbers.
#[derive(Clone)]
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

#[derive(Default)]
struct Inode {
    durable: Vec<u8>,
    current: Vec<u8>,
    /// Sectors that differ, or may.
    dirty: Vec<usize>,
}

#[derive(Default)]
struct State {
    durable: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    current: BTreeMap<PathBuf, Arc<Mutex<Inode>>>,
    /// Operations until one fails.
    fail_in: Option<u64>,
    capacity: Option<u64>,
    operations: u64,
    /// Stretches of files that were read, and that were said to be needed, since they were last asked for.
    reads: Vec<Range<u64>>,
    needs: Vec<Range<u64>>,
}

impl State {
    fn used(&self) -> u64 {
        self.current.values().map(|inode| inode.lock().expect("no panic").current.len() as u64).sum()
    }

    fn step(&mut self) -> io::Result<()> {
        self.operations += 1;
        match &mut self.fail_in {
            Some(0) => Err(io::Error::other("the disk was told to fail")),
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// What happens to a sector that was written and not synced.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Tear {
    /// It is there or not.
    OldOrNew,
    /// Or it is garbage.
    Garbage,
}

#[derive(Clone, Default)]
pub(crate) struct TestDisk(Arc<Mutex<State>>);

impl TestDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("no panic")
    }

    /// The power goes: what was not synced is lost in part.
    pub(crate) fn crash(&self, random: &mut Random, tear: Tear) {
        let mut state = self.state();
        state.fail_in = None;
        // Of names that changed since the folder was synced, the old or the new ones are there.
        if random.one_in(2) {
            state.durable = state.current.clone();
        }
        state.current = state.durable.clone();
        for inode in state.current.values() {
            let mut inode = inode.lock().expect("no panic");
            let inode = &mut *inode;
            let keep = random.below(4);
            for sector in std::mem::take(&mut inode.dirty) {
                let from = sector * SECTOR_BYTES;
                let to = (from + SECTOR_BYTES).min(inode.current.len());
                if from >= to {
                    continue;
                }
                if inode.durable.len() < to {
                    inode.durable.resize(to, 0);
                }
                let kept = keep == 3 || (keep > 0 && random.one_in(2));
                if kept {
                    inode.durable[from..to].copy_from_slice(&inode.current[from..to]);
                } else if tear == Tear::Garbage && random.one_in(4) {
                    inode.durable[from..to].iter_mut().for_each(|byte| *byte = random.next() as u8);
                }
            }
            inode.current = inode.durable.clone();
        }
    }

    pub(crate) fn fail_in(&self, operations: Option<u64>) {
        self.state().fail_in = operations;
    }

    pub(crate) fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// Stretches that were read, and that were said to be needed, since this was last asked.
    pub(crate) fn take_reads(&self) -> (Vec<Range<u64>>, Vec<Range<u64>>) {
        let mut state = self.state();
        (std::mem::take(&mut state.reads), std::mem::take(&mut state.needs))
    }

    /// Writes, syncs and changes of names so far.
    pub(crate) fn operations(&self) -> u64 {
        self.state().operations
    }

    pub(crate) fn used(&self) -> u64 {
        self.state().used()
    }

    pub(crate) fn names(&self) -> Vec<String> {
        let name = |path: &PathBuf| path.file_name().expect("a name").to_string_lossy().into_owned();
        self.state().current.keys().map(name).collect()
    }

    pub(crate) fn bytes(&self, path: &Path) -> Vec<u8> {
        self.state().current[path].lock().expect("no panic").current.clone()
    }

    pub(crate) fn set_bytes(&self, path: &Path, bytes: &[u8]) {
        let inode = Inode { durable: bytes.to_vec(), current: bytes.to_vec(), dirty: Vec::new() };
        let inode = Arc::new(Mutex::new(inode));
        let mut state = self.state();
        state.current.insert(path.to_owned(), inode.clone());
        state.durable.insert(path.to_owned(), inode);
    }

    /// A copy that shares nothing with this one.
    pub(crate) fn fork(&self) -> TestDisk {
        let fork = TestDisk::default();
        let paths: Vec<_> = self.state().current.keys().cloned().collect();
        for path in paths {
            fork.set_bytes(&path, &self.bytes(&path));
        }
        fork
    }
}

struct TestFile {
    disk: TestDisk,
    inode: Arc<Mutex<Inode>>,
}

impl TestFile {
    fn inode(&self) -> MutexGuard<'_, Inode> {
        self.inode.lock().expect("no panic")
    }
}

impl Disk for TestDisk {
    fn create_dir_all(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let mut state = self.state();
        let inode = match state.current.get(path) {
            Some(inode) => inode.clone(),
            None if create => state.current.entry(path.to_owned()).or_default().clone(),
            None => return Err(io::ErrorKind::NotFound.into()),
        };
        Ok(Arc::new(TestFile { disk: self.clone(), inode }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        let inode = state.current.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.current.insert(to.to_owned(), inode);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.current.remove(path).map(|_| ()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Ok(self.state().current.keys().filter(|path| path.parent() == Some(dir)).cloned().collect())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.step()?;
        state.durable = state.current.clone();
        Ok(())
    }

    fn free_bytes(&self, _: &Path) -> io::Result<u64> {
        let state = self.state();
        Ok(state.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(state.used())))
    }

    fn lock(&self, _: &Path, _: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        Ok(Box::new(()))
    }
}

impl File for TestFile {
    fn will_need(&self, offset: u64, bytes: u64) {
        self.disk.state().needs.push(offset..offset + bytes);
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.state().reads.push(offset..offset + buffer.len() as u64);
        let inode = self.inode();
        let rest = inode.current.get(offset as usize..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        buffer[..length].copy_from_slice(&rest[..length]);
        Ok(length)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        state.step()?;
        let end = offset as usize + bytes.len();
        let growth = end.saturating_sub(self.inode().current.len()) as u64;
        if state.capacity.is_some_and(|capacity| state.used() + growth > capacity) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let mut inode = self.inode();
        if inode.current.len() < end {
            inode.current.resize(end, 0);
        }
        inode.current[offset as usize..end].copy_from_slice(bytes);
        inode.dirty.extend(offset as usize / SECTOR_BYTES..end.div_ceil(SECTOR_BYTES));
        Ok(bytes.len())
    }

    fn sync_data(&self) -> io::Result<()> {
        let result = self.disk.state().step();
        let mut inode = self.inode();
        let inode = &mut *inode;
        if let Err(error) = result {
            // As Linux has it: the pages are clean from now on, and what is in them was not written.
            inode.dirty.clear();
            return Err(error);
        }
        inode.durable.resize(inode.current.len(), 0);
        for sector in std::mem::take(&mut inode.dirty) {
            let from = sector * SECTOR_BYTES;
            let to = (from + SECTOR_BYTES).min(inode.current.len());
            if from < to {
                inode.durable[from..to].copy_from_slice(&inode.current[from..to]);
            }
        }
        Ok(())
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.inode().current.len() as u64)
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.inode().current.resize(bytes as usize, 0);
        Ok(())
    }
}
