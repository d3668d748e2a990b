//! The embedded journal: files of one machine.
//!
//! One file is written at a time. When it is used up the next spare becomes part of the journal: its header is
//! written and synced, then it gets its name, then the folder is synced; only then groups go into it. Groups are
//! padded to pages by default, so that no byte that was ever acknowledged is written again, not even with itself:
//! a sector that is torn by a power cut holds nothing that matters.

pub(crate) mod pool;
pub(crate) mod reader;
pub(crate) mod recover;
pub(crate) mod walk;

use std::{
    io,
    ops::ControlFlow,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use waystation_base::{
    Position,
    disk::{DIRECT_ALIGN_BYTES, Disk, File},
};

use self::{
    pool::Pool,
    reader::{Files, Shared},
    walk::JournalFile,
};
pub use self::{
    pool::Preparation,
    reader::Reader,
    recover::{Damage, OpenError, RecoveryReport, Verify},
};
use crate::{
    contract::{AppendError, Epoch, Failure, Journal, ReadError, Space, Visitor},
    group::Group,
    layout::file_header::{FileHeader, header_bytes},
    limits::PAGE_BYTES,
    memory::check_append,
};

/// How the files are kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Bytes of a journal file when there is much to write.
    pub file_bytes: u64,
    /// Bytes of the very first file; each next one is twice as large, up to `file_bytes`.
    pub first_file_bytes: u64,
    /// To what multiple groups are padded: a power of two from 64 to 4096.
    pub align_bytes: usize,
    /// When files are prepared.
    pub preparation: Preparation,
    /// Trimmed files that are kept to be used again.
    pub spare_files_max: usize,
    /// Free bytes of the file system that preparing a file must leave to others.
    pub free_bytes_min: u64,
    /// From what the salts of files are made; random, but for tests.
    pub salt_seed: u64,
}

impl Default for Options {
    fn default() -> Options {
        Options {
            file_bytes: 64 << 20,
            first_file_bytes: 4 << 20,
            align_bytes: PAGE_BYTES,
            preparation: Preparation::Background,
            spare_files_max: 4,
            free_bytes_min: 64 << 20,
            salt_seed: waystation_base::os::random().map_or(0x57A7_1094, |random| random as u64),
        }
    }
}

/// A journal in the files of one folder.
pub struct FileJournal {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    options: Options,
    shared: Arc<Shared>,
    pool: Pool,
    current: Arc<JournalFile>,
    end: Position,
    synced: Position,
    epoch: Epoch,
    /// Whether a group was appended since the journal was opened or closed.
    open: bool,
    /// Whether the last append found no room.
    full: bool,
    failed: Option<Failure>,
}

impl FileJournal {
    /// Opens the journal of a folder, or begins one there.
    ///
    /// Nobody else may use the folder: see [`crate::DataDir`].
    pub fn open(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        verify: Verify,
    ) -> Result<(FileJournal, RecoveryReport), OpenError> {
        FileJournal::open_and_replay(disk, dir, options, verify, &mut |_| ControlFlow::Continue(()))
    }

    /// Like [`FileJournal::open`], and gives `visitor` every entry from the verified position on, in the one pass that
    /// also checks them. If an error is returned, what the visitor saw is to be thrown away.
    pub fn open_and_replay(
        disk: Arc<dyn Disk>,
        dir: &Path,
        options: Options,
        verify: Verify,
        visitor: &mut Visitor<'_>,
    ) -> Result<(FileJournal, RecoveryReport), OpenError> {
        disk.create_dir_all(dir).map_err(OpenError::io("creating", dir))?;
        let recovered = recover::recover(disk.as_ref(), dir, verify, visitor)?;
        let mut report = recovered.report;
        let pool = Pool::new(
            disk.clone(),
            dir,
            recovered.spares,
            options.preparation,
            options.spare_files_max,
            options.free_bytes_min,
        )
        .map_err(OpenError::io("starting the thread for files of", dir))?;
        let mut chain = recovered.chain;
        if chain.is_empty() {
            if !pool.is_ready() {
                pool.prepare_now(options.first_file_bytes.min(options.file_bytes) + PAGE_BYTES as u64);
            }
            let file = begin(disk.as_ref(), dir, &pool, &options, Position(0), Epoch(0))?;
            chain.push(Arc::new(file));
            report.files = 1;
        }
        let current = chain.last().expect("there is one now").clone();
        let end = report.end;
        let shared = Arc::new(Shared::new(Files { chain: chain.into(), end }));
        let dir = dir.to_owned();
        let (synced, epoch) = (end, recovered.epoch);
        let journal = FileJournal {
            disk,
            dir,
            options,
            shared,
            pool,
            current,
            end,
            synced,
            epoch,
            open: false,
            full: false,
            failed: None,
        };
        Ok((journal, report))
    }

    /// A handle for reading from other threads.
    pub fn reader(&self) -> Reader {
        Reader::new(self.shared.clone())
    }

    /// The newest epoch that was seen.
    pub fn epoch(&self) -> Epoch {
        self.epoch
    }

    /// Everything before this position is durable.
    pub fn synced(&self) -> Position {
        self.synced
    }

    fn used(&self) -> u64 {
        self.end.0 - self.current.base.0
    }

    fn next_file_bytes(&self) -> u64 {
        next_file_bytes(&self.options, self.current.prepared_bytes)
    }

    /// A group that does not fit into what is prepared goes into the next file, if that is ready. If it is not, the
    /// file grows: slower, but nobody waits.
    fn wants_next_file(&self, group_bytes: u64) -> bool {
        let fits = self.used() + group_bytes <= self.current.capacity();
        let grown_far = self.used() >= 4 * self.current.capacity().max(self.options.file_bytes);
        let prepares = self.options.preparation != Preparation::None;
        let full = self.used() >= self.options.file_bytes;
        self.used() > 0 && !fits && (self.pool.is_ready() || grown_far || (!prepares && full))
    }

    fn rotate(&mut self, epoch: Epoch) -> Result<(), Failure> {
        self.sync_current()?;
        let begun = begin(self.disk.as_ref(), &self.dir, &self.pool, &self.options, self.end, epoch)?;
        let file = Arc::new(begun);
        self.current = file.clone();
        self.shared.write(|files| files.chain.push_back(file));
        Ok(())
    }

    fn sync_current(&mut self) -> Result<(), Failure> {
        if self.synced < self.end {
            let file = &self.current;
            file.file.sync_data().map_err(|error| Failure::new("syncing", &file.path, &error))?;
            self.synced = self.end;
        }
        Ok(())
    }

    fn write(&mut self, epoch: Epoch, group: &mut Group) -> Result<(), AppendError> {
        let bytes = group.end().0 - group.start().0;
        if self.wants_next_file(bytes) {
            self.rotate(epoch)?;
        }
        group.seal(self.synced, epoch, self.current.salt);
        let file = &self.current;
        let at = file.offset_of(self.end);
        let written = match self.way_to(at, bytes).write_all_at(group.frame(), at) {
            // open(2): some file systems refuse what goes past the page cache only when it comes.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                file.file.write_all_at(group.frame(), at)
            }
            written => written,
        };
        match written {
            Ok(()) => self.full = false,
            // A file that cannot grow is no doubt about what is in it: what was written of the group lies behind the
            // end, and is written over.
            Err(error) if error.kind() == io::ErrorKind::StorageFull => {
                self.full = true;
                return Err(AppendError::NoSpace { bytes: group.len(), why: error.to_string() });
            }
            Err(error) => return Err(Failure::new("writing", &file.path, &error).into()),
        }
        self.end = group.end();
        self.epoch = epoch;
        self.open = true;
        self.shared.write(|files| files.end = self.end);
        if self.used() * 4 >= self.current.capacity() {
            self.pool.ask(self.next_file_bytes());
        }
        Ok(())
    }

    /// How a group of so many bytes is written there in the current file: past the page cache, unless somebody reads what was
    /// written lately, or the file has to grow.
    fn way_to(&self, offset: u64, bytes: u64) -> &dyn File {
        let file = &self.current;
        let uncached = file.uncached.as_ref().filter(|_| {
            offset.is_multiple_of(DIRECT_ALIGN_BYTES as u64)
                && offset + bytes <= file.prepared_bytes
                && !self.shared.is_read_soon(self.end)
        });
        uncached.unwrap_or(&file.file).as_ref()
    }

    /// Remembers a failure for good, also beyond this process while the page cache that is in doubt lives.
    fn fail(&mut self, failure: Failure) -> Failure {
        let _ = self.disk.open(&self.dir.join(recover::FAILURE_MARK), true);
        self.failed = Some(failure.clone());
        failure
    }

    fn check(&self) -> Result<(), Failure> {
        self.failed.clone().map_or(Ok(()), Err)
    }
}

fn next_file_bytes(options: &Options, current_bytes: u64) -> u64 {
    (current_bytes.saturating_mul(2)).clamp(options.first_file_bytes, options.file_bytes.max(4096))
        + PAGE_BYTES as u64
}

/// Makes the next spare, or a new file, the part of the journal that begins at `base`.
fn begin(
    disk: &dyn Disk,
    dir: &Path,
    pool: &Pool,
    options: &Options,
    base: Position,
    epoch: Epoch,
) -> Result<JournalFile, Failure> {
    let path = dir.join(recover::file_name(base));
    let (from, file, bytes) = match pool.take() {
        Some(spare) => (spare.path, spare.file, spare.bytes),
        None => {
            let from = dir.join(format!("{}.preparing", recover::file_name(base)));
            let file = disk.open(&from, true).map_err(|error| Failure::new("creating", &from, &error))?;
            (from, file, 0)
        }
    };
    // A file that is used again has its old salt in place of its header: mixed in, it keeps the new one fresh even
    // where a test fixes the seed.
    let mut page = vec![0; header_bytes(base) as usize];
    let _ = file.read_at(&mut page, 0);
    let old_salt = FileHeader::decode(&page).map_or(0, |header| header.salt);
    let salt = mix(options.salt_seed ^ mix(base.0) ^ old_salt);
    page.fill(0);
    let header = FileHeader { base, salt, epoch }.encode();
    page[..header.len()].copy_from_slice(&header);
    file.write_all_at(&page, 0).map_err(|error| Failure::new("writing", &from, &error))?;
    // Where it cannot be had, the page cache does.
    let in_pages = options.align_bytes.is_multiple_of(DIRECT_ALIGN_BYTES);
    let uncached = if in_pages { disk.open_uncached(&from, false).ok() } else { None };
    file.sync_data().map_err(|error| Failure::new("syncing", &from, &error))?;
    disk.rename(&from, &path).map_err(|error| Failure::new("renaming", &from, &error))?;
    disk.sync_dir(dir).map_err(|error| Failure::new("syncing", dir, &error))?;
    let prepared_bytes = bytes.max(page.len() as u64);
    Ok(JournalFile { path, base, salt, epoch, prepared_bytes, file, uncached })
}

/// SplitMix64's last step: every bit of the input changes half of the output's.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    x ^ (x >> 31)
}

impl Journal for FileJournal {
    fn append(&mut self, expected: Position, epoch: Epoch, group: &mut Group) -> Result<(), AppendError> {
        self.check()?;
        check_append(expected, self.end, epoch, self.epoch, group)?;
        self.write(epoch, group).map_err(|error| match error {
            AppendError::Failed(failure) => AppendError::Failed(self.fail(failure)),
            other => other,
        })
    }

    fn sync(&mut self) -> Result<Position, Failure> {
        self.check()?;
        self.sync_current().map_err(|failure| self.fail(failure))?;
        Ok(self.synced)
    }

    fn read(&self, position: Position, length: usize) -> Result<Bytes, ReadError> {
        self.reader().read_at(position, length)
    }

    fn scan(&self, from: Position, visitor: &mut Visitor<'_>) -> Result<Position, ReadError> {
        self.reader().scan(from, self.end, visitor)
    }

    fn trim(&mut self, before: Position) -> Result<(), Failure> {
        let before = before.min(self.synced);
        loop {
            let gone = self.shared.write(|files| match files.chain.get(1) {
                Some(next) if next.base <= before => files.chain.pop_front(),
                _ => None,
            });
            let Some(file) = gone else { return Ok(()) };
            self.pool.retire(file.path.clone(), file.file.clone());
        }
    }

    fn start(&self) -> Position {
        self.shared.read(Files::start)
    }

    fn end(&self) -> Position {
        self.end
    }

    fn align_bytes(&self) -> usize {
        self.options.align_bytes
    }

    fn space(&self) -> Space {
        let spare_bytes = match self.pool.shortage() {
            Some((_, spare_bytes)) => spare_bytes,
            None if self.full => 0,
            None => return Space::Enough,
        };
        self.pool.retry();
        let left = self.current.capacity().saturating_sub(self.used());
        Space::Low { room_bytes: left + spare_bytes }
    }

    /// Ends with an empty group that vouches for the one before: so damage to that one is not taken for a torn end.
    fn close(&mut self) -> Result<Position, Failure> {
        self.sync()?;
        if self.open {
            let mut group = Group::new(self.end, self.options.align_bytes);
            match self.append(self.end, self.epoch, &mut group) {
                Ok(()) => {}
                // All is durable; a full disk may do without the voucher.
                Err(AppendError::NoSpace { .. }) => return Ok(self.synced),
                Err(AppendError::Failed(failure)) => return Err(failure),
                Err(other) => return Err(Failure::refused(&other)),
            }
            self.sync()?;
            self.open = false;
        }
        Ok(self.synced)
    }
}

#[cfg(test)]
mod tests;
