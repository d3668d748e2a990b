//! What outlives the journal file that it was in: batches in files of runs, to be read by offset or time.
//!
//! A settled file holds the runs of many logs, so that settling costs one sync whatever the number of queues (see
//! `docs/decisions/0001-settled-files-hold-many-logs.md`). It is written once and never changed; compaction writes a new
//! one. Which files are in use the caller knows: [`Store::files`] lists all that are there.

pub mod layout;
mod writer;

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use waystation_base::{
    Millis, Offset,
    disk::{Disk, File},
};

use self::layout::{
    BATCH_HEADER_BYTES, BatchHeader, Footer, HEADER_BYTES, IndexEntry, LayoutError, Owner, TRAILER_BYTES,
    Trailer,
};
pub use self::{layout::Run, writer::Writer};
use crate::{
    buffer,
    limits::{SETTLED_BATCH_BYTES_MAX, SETTLED_INDEX_STEP_BYTES},
};

/// What is in a settled file.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct FileInfo {
    /// Its number.
    pub id: u32,
    /// Its length.
    pub bytes: u64,
    /// Its runs, in the order in which they were written.
    pub runs: Vec<Run>,
}

/// A batch as it was stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredBatch {
    /// First offset.
    pub first: Offset,
    /// Last offset.
    pub last: Offset,
    /// Largest timestamp in it.
    pub max_timestamp: Millis,
    /// Its bytes.
    pub bytes: Bytes,
}

/// Why settled files could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused.
    #[error("{what} {} failed: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// What is there is not what was written.
    #[error("{} is damaged at offset {offset}: {why}", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What does not fit.
        why: LayoutError,
    },
    /// A batch is larger than the limit.
    #[error("a batch of {bytes} bytes is larger than the limit of {SETTLED_BATCH_BYTES_MAX}")]
    BatchTooLarge {
        /// Its bytes.
        bytes: usize,
    },
    /// The footer would be larger than the limit.
    #[error("{runs} runs are too many for one settled file")]
    TooManyRuns {
        /// How many.
        runs: usize,
    },
}

impl Error {
    /// Whether the disk is full: then settling is tried again when there is room.
    pub fn is_full(&self) -> bool {
        matches!(self, Error::Io { error, .. } if error.kind() == io::ErrorKind::StorageFull)
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::Io { what, path, error }
}

/// The settled files of a folder.
pub struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    cache: Mutex<Cache>,
}

/// An open file with its index.
struct OpenFile {
    path: PathBuf,
    file: Arc<dyn File>,
    index: Vec<IndexEntry>,
}

/// The files that were read last.
#[derive(Default)]
struct Cache {
    files: HashMap<u32, (Arc<OpenFile>, u64)>,
    clock: u64,
}

/// Files that are held open with their indexes.
pub const OPEN_FILES_MAX: usize = 64;

impl Store {
    /// Opens the folder, made if need be; removes what an interrupted write left.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Arc<Store>, Error> {
        disk.create_dir_all(dir).map_err(io_error("creating", dir))?;
        for path in disk.list(dir).map_err(io_error("listing", dir))? {
            if path.extension().is_some_and(|extension| extension == "writing") {
                disk.remove(&path).map_err(io_error("removing", &path))?;
            }
        }
        Ok(Arc::new(Store { disk, dir: dir.to_owned(), cache: Mutex::default() }))
    }

    fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    fn path_of(&self, id: u32) -> PathBuf {
        self.dir.join(format!("{id:010}.settled"))
    }

    /// Begins a new file. Its id must not be in use.
    pub fn create(self: &Arc<Store>, id: u32) -> Result<Writer, Error> {
        let path = self.path_of(id).with_extension("writing");
        // What settles was left unread for long: it shall not push out of the page cache what is read.
        Writer::new(self.clone(), id, path.clone()).map_err(io_error("creating", &path))
    }

    fn publish(&self, id: u32, writing: &Path) -> Result<(), Error> {
        self.forget(id);
        self.disk.rename(writing, &self.path_of(id)).map_err(io_error("renaming", writing))?;
        self.disk.sync_dir(&self.dir).map_err(io_error("syncing", &self.dir))
    }

    /// The ids of all files that are there, in use or not.
    pub fn files(&self) -> Result<Vec<u32>, Error> {
        let paths = self.disk.list(&self.dir).map_err(io_error("listing", &self.dir))?;
        let id = |path: &PathBuf| {
            let settled = path.extension()?.to_str()? == "settled";
            settled.then(|| path.file_stem()?.to_str()?.parse().ok()).flatten()
        };
        Ok(paths.iter().filter_map(id).collect())
    }

    /// What is in a file, from its footer.
    pub fn info(&self, id: u32) -> Result<FileInfo, Error> {
        let (open, bytes, footer) = self.load(id)?;
        let info = FileInfo { id, bytes, runs: footer.runs };
        self.remember(id, Arc::new(OpenFile { index: footer.index, ..open }));
        Ok(info)
    }

    /// The length of a file in bytes.
    pub fn length(&self, id: u32) -> Result<u64, Error> {
        let path = self.path_of(id);
        let file = self.disk.open(&path, false).map_err(io_error("opening", &path))?;
        file.len().map_err(io_error("measuring", &path))
    }

    /// Removes a file. Who still reads it may finish.
    pub fn remove(&self, id: u32) -> Result<(), Error> {
        self.forget(id);
        let path = self.path_of(id);
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("removing", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Batches of `run` in file `id`, beginning with the one that holds `from` or, if none does, the next.
    ///
    /// At least one batch if there is any, then more while they have at most `bytes_max` bytes together. Checked.
    pub fn read(
        &self,
        id: u32,
        run: &Run,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<StoredBatch>, Error> {
        if from > run.last {
            return Ok(Vec::new());
        }
        let open = self.get(id)?;
        let mut cursor = Cursor::new(&open, id, run);
        cursor.seek_offset(from);
        let mut batches = Vec::new();
        let mut bytes = 0;
        while let Some(header) = cursor.header(bytes_max - bytes)? {
            if header.last < from {
                cursor.skip(&header);
                continue;
            }
            bytes += header.bytes as usize;
            if !batches.is_empty() && bytes > bytes_max {
                break;
            }
            let payload = cursor.payload(&header)?;
            let BatchHeader { first, last, max_timestamp, .. } = header;
            batches.push(StoredBatch { first, last, max_timestamp, bytes: payload });
            if bytes >= bytes_max {
                break;
            }
        }
        Ok(batches)
    }

    /// Has what a [`Store::read`] from each of `offsets`, in order, goes through fetched meanwhile, all at once.
    pub fn will_need(
        &self,
        id: u32,
        run: &Run,
        offsets: impl IntoIterator<Item = Offset>,
    ) -> Result<(), Error> {
        let open = self.get(id)?;
        let index = run.index_of(&open.index).unwrap_or_default();
        let mut told = None;
        for from in offsets {
            let after = index.partition_point(|entry| entry.first <= from);
            if told.replace(after) == Some(after) {
                continue;
            }
            let begin = after.checked_sub(1).map_or(run.file_offset, |at| index[at].file_offset);
            let end = index.get(after).map_or(run.file_offset + run.bytes, |entry| entry.file_offset);
            open.file.will_need(begin, end.saturating_sub(begin));
        }
        Ok(())
    }

    /// The first offset of the first batch of `run` that has a timestamp of `timestamp` or later.
    pub fn find_time(&self, id: u32, run: &Run, timestamp: Millis) -> Result<Option<Offset>, Error> {
        if timestamp > run.max_timestamp {
            return Ok(None);
        }
        let open = self.get(id)?;
        let mut cursor = Cursor::new(&open, id, run);
        cursor.seek_time(timestamp);
        while let Some(header) = cursor.header(SETTLED_INDEX_STEP_BYTES as usize)? {
            if header.max_timestamp >= timestamp {
                cursor.payload(&header)?;
                return Ok(Some(header.first));
            }
            cursor.skip(&header);
        }
        Ok(None)
    }

    /// Reads every batch of a file and checks it; returns how many there are.
    pub fn verify(&self, id: u32) -> Result<u64, Error> {
        let (open, _, footer) = self.load(id)?;
        let mut batches = 0;
        for run in &footer.runs {
            let mut cursor = Cursor::new(&open, id, run);
            let mut seen = 0;
            while let Some(header) = cursor.header(1 << 20)? {
                cursor.payload(&header)?;
                seen += 1;
            }
            if seen != run.batches {
                return Err(open.damaged(run.file_offset, LayoutError::Contradiction));
            }
            batches += u64::from(seen);
        }
        Ok(batches)
    }

    fn get(&self, id: u32) -> Result<Arc<OpenFile>, Error> {
        if let Some(open) = self.cache(|cache| cache.get(id)) {
            return Ok(open);
        }
        let (open, _, footer) = self.load(id)?;
        let open = Arc::new(OpenFile { index: footer.index, ..open });
        self.remember(id, open.clone());
        Ok(open)
    }

    fn load(&self, id: u32) -> Result<(OpenFile, u64, Footer), Error> {
        let path = self.path_of(id);
        let file = self.disk.open(&path, false).map_err(io_error("opening", &path))?;
        let bytes = file.len().map_err(io_error("measuring", &path))?;
        let open = OpenFile { path, file, index: Vec::new() };
        if bytes < (HEADER_BYTES + TRAILER_BYTES) as u64 {
            return Err(open.damaged(0, LayoutError::TooShort));
        }
        let header = open.read(0, HEADER_BYTES)?;
        let named = layout::decode_header(&header).map_err(|why| open.damaged(0, why))?;
        let trailer_at = bytes - TRAILER_BYTES as u64;
        let trailer = Trailer::decode(&open.read(trailer_at, TRAILER_BYTES)?, bytes)
            .map_err(|why| open.damaged(trailer_at, why))?;
        if named != id || trailer.file != id {
            return Err(open.damaged(0, LayoutError::Contradiction));
        }
        let footer = open.read(trailer.footer_offset, trailer.footer_bytes as usize)?;
        if crc32c::crc32c(&footer) != trailer.footer_crc {
            return Err(open.damaged(trailer.footer_offset, LayoutError::Checksum));
        }
        let footer = Footer::decode(&footer, trailer.footer_offset)
            .map_err(|why| open.damaged(trailer.footer_offset, why))?;
        Ok((open, bytes, footer))
    }

    fn cache<R>(&self, use_it: impl FnOnce(&mut Cache) -> R) -> R {
        use_it(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn remember(&self, id: u32, open: Arc<OpenFile>) {
        self.cache(|cache| cache.put(id, open));
    }

    fn forget(&self, id: u32) {
        self.cache(|cache| cache.files.remove(&id));
    }
}

impl Cache {
    fn get(&mut self, id: u32) -> Option<Arc<OpenFile>> {
        self.clock += 1;
        let (open, used) = self.files.get_mut(&id)?;
        *used = self.clock;
        Some(open.clone())
    }

    fn put(&mut self, id: u32, open: Arc<OpenFile>) {
        self.clock += 1;
        self.files.insert(id, (open, self.clock));
        if self.files.len() > OPEN_FILES_MAX {
            let oldest = self.files.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
            oldest.map(|id| self.files.remove(&id));
        }
    }
}

impl OpenFile {
    fn damaged(&self, offset: u64, why: LayoutError) -> Error {
        Error::Damaged { path: self.path.clone(), offset, why }
    }

    fn read(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        buffer::read(self.file.as_ref(), offset, length).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => self.damaged(offset, LayoutError::TooShort),
            _ => io_error("reading", &self.path)(error),
        })
    }
}

/// A place in a run, and a window of bytes that were read from there.
struct Cursor<'a> {
    open: &'a OpenFile,
    run: &'a Run,
    owner: Owner,
    at: u64,
    end: u64,
    window: Bytes,
    window_at: u64,
}

impl<'a> Cursor<'a> {
    /// More than this is not read ahead of what is asked for.
    const AHEAD_BYTES_MAX: usize = 4 << 20;

    fn new(open: &'a OpenFile, id: u32, run: &'a Run) -> Cursor<'a> {
        let owner = Owner { file: id, entity: run.entity, log: run.log };
        let (at, end) = (run.file_offset, run.file_offset.saturating_add(run.bytes));
        Cursor { open, run, owner, at, end, window: Bytes::new(), window_at: 0 }
    }

    fn index(&self) -> &'a [IndexEntry] {
        self.run.index_of(&self.open.index).unwrap_or_default()
    }

    fn seek_offset(&mut self, from: Offset) {
        let index = self.index();
        let after = index.partition_point(|entry| entry.first <= from);
        self.seek(after.checked_sub(1).map(|at| index[at]));
    }

    fn seek_time(&mut self, timestamp: Millis) {
        let index = self.index();
        let after = index.partition_point(|entry| entry.max_timestamp_before < timestamp);
        self.seek(after.checked_sub(1).map(|at| index[at]));
    }

    fn seek(&mut self, entry: Option<IndexEntry>) {
        self.at = entry.map_or(self.run.file_offset, |entry| entry.file_offset);
    }

    /// The header of the next batch; `wanted` bytes of payloads are likely to be asked for. For a few bytes what lies between the
    /// last entry of the index and them is not read along.
    fn header(&mut self, wanted: usize) -> Result<Option<BatchHeader>, Error> {
        if self.at >= self.end {
            return Ok(None);
        }
        let step = SETTLED_INDEX_STEP_BYTES as usize;
        let ahead = if wanted < step { wanted } else { wanted.min(Self::AHEAD_BYTES_MAX) + step };
        let bytes = self.slice(self.at, BATCH_HEADER_BYTES, ahead)?;
        let header = BatchHeader::decode(&bytes).map_err(|why| self.open.damaged(self.at, why))?;
        if self.at + (BATCH_HEADER_BYTES as u64) + u64::from(header.bytes) > self.end {
            return Err(self.open.damaged(self.at, LayoutError::Contradiction));
        }
        Ok(Some(header))
    }

    /// The payload of the batch whose header was just read, checked; goes on to the next batch.
    fn payload(&mut self, header: &BatchHeader) -> Result<Bytes, Error> {
        let length = header.bytes as usize;
        let payload = self.slice(self.at + BATCH_HEADER_BYTES as u64, length, length)?;
        header.check(self.owner, &payload).map_err(|why| self.open.damaged(self.at, why))?;
        self.skip(header);
        Ok(payload)
    }

    fn skip(&mut self, header: &BatchHeader) {
        self.at += BATCH_HEADER_BYTES as u64 + u64::from(header.bytes);
    }

    /// `length` bytes from `offset`; if they must be read, `ahead` bytes are read if there are as many.
    fn slice(&mut self, offset: u64, length: usize, ahead: usize) -> Result<Bytes, Error> {
        if offset + length as u64 > self.end {
            return Err(self.open.damaged(offset, LayoutError::Contradiction));
        }
        let window_end = self.window_at + self.window.len() as u64;
        if offset < self.window_at || offset + length as u64 > window_end {
            let ahead = (ahead.max(length) as u64).min(self.end - offset) as usize;
            self.window = self.open.read(offset, ahead)?;
            self.window_at = offset;
        }
        let from = (offset - self.window_at) as usize;
        Ok(self.window.slice(from..from + length))
    }
}

#[cfg(test)]
mod tests;
