//! How a settled file is written: front to back, once.

use std::{io, path::PathBuf, sync::Arc};

use waystation_base::{
    EntityId, Millis, Offset,
    disk::{DIRECT_ALIGN_BYTES, File},
};

use super::{
    Error, FileInfo, Store, io_error,
    layout::{
        BATCH_HEADER_BYTES, BatchHeader, Footer, HEADER_BYTES, IndexEntry, Owner, Run, Trailer, encode_header,
    },
};
use crate::{
    buffer,
    limits::{PAGE_BYTES, SETTLED_BATCH_BYTES_MAX, SETTLED_FOOTER_BYTES_MAX, SETTLED_INDEX_STEP_BYTES},
};

/// Writes one settled file. Nothing of it can be read before [`Writer::finish`]; dropped before, it leaves no file.
pub struct Writer {
    store: Arc<Store>,
    id: u32,
    path: PathBuf,
    file: Arc<dyn File>,
    buffer: Vec<u8>,
    lead: usize,
    /// The file offset of the buffer's first byte.
    at: u64,
    footer: Footer,
    /// Where the newest index entry, or the run, begins.
    indexed_at: u64,
    finished: bool,
}

impl Writer {
    const BUFFER_BYTES: usize = 1 << 20;
    /// Synced in steps, so that a commit of the journal beside never waits for many bytes.
    const SYNC_BYTES: u64 = 4 << 20;

    pub(super) fn new(store: Arc<Store>, id: u32, path: PathBuf, file: Arc<dyn File>) -> Writer {
        // It never grows, so it stays as aligned as it is now.
        let mut buffer = Vec::with_capacity(Self::BUFFER_BYTES + PAGE_BYTES);
        let lead = buffer::lead(&buffer, 0);
        buffer.resize(lead, 0);
        buffer.extend_from_slice(&encode_header(id));
        let (at, footer, indexed_at) = (0, Footer::default(), 0);
        Writer { store, id, path, file, buffer, lead, at, footer, indexed_at, finished: false }
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.at + (self.buffer.len() - self.lead) as u64
    }

    /// Begins the run of one log; its batches follow.
    pub fn begin_run(&mut self, entity: EntityId, log: u16) {
        self.drop_empty_run();
        self.indexed_at = self.bytes();
        self.footer.runs.push(Run {
            entity,
            log,
            first: Offset(0),
            last: Offset(0),
            batches: 0,
            file_offset: self.bytes(),
            bytes: 0,
            min_timestamp: Millis::NEVER,
            max_timestamp: Millis(0),
            index_first: self.footer.index.len() as u32,
            index_entries: 0,
        });
    }

    fn drop_empty_run(&mut self) {
        self.footer.runs.pop_if(|run| run.batches == 0);
    }

    /// Adds a batch to the run that was begun last.
    ///
    /// # Panics
    /// If no run was begun, or the batch does not come after the one before: mistakes of the caller.
    pub fn batch(
        &mut self,
        first: Offset,
        last: Offset,
        max_timestamp: Millis,
        payload: &[u8],
    ) -> Result<(), Error> {
        if payload.len() > SETTLED_BATCH_BYTES_MAX {
            return Err(Error::BatchTooLarge { bytes: payload.len() });
        }
        let at = self.bytes();
        let run = self.footer.runs.last_mut().expect("a batch belongs to a run");
        assert!(first <= last && (run.batches == 0 || first > run.last), "batches are in offset order");
        if at - self.indexed_at >= SETTLED_INDEX_STEP_BYTES {
            let max_timestamp_before = run.max_timestamp;
            self.footer.index.push(IndexEntry { first, file_offset: at, max_timestamp_before });
            run.index_entries += 1;
            self.indexed_at = at;
        }
        if run.batches == 0 {
            run.first = first;
        }
        run.last = last;
        run.batches += 1;
        run.bytes += (BATCH_HEADER_BYTES + payload.len()) as u64;
        run.min_timestamp = run.min_timestamp.min(max_timestamp);
        run.max_timestamp = run.max_timestamp.max(max_timestamp);
        let owner = Owner { file: self.id, entity: run.entity, log: run.log };
        let header = BatchHeader::of(owner, first, last, max_timestamp, payload);
        self.put(&header.encode()).and_then(|()| self.put(payload)).map_err(io_error("writing", &self.path))
    }

    /// Adds bytes, and writes the buffer whenever it is full.
    fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.lead + Self::BUFFER_BYTES - self.buffer.len();
            let (fits, rest) = bytes.split_at(room.min(bytes.len()));
            self.buffer.extend_from_slice(fits);
            bytes = rest;
            if fits.len() == room {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Writes the whole pages that are buffered.
    fn flush(&mut self) -> io::Result<()> {
        let whole = (self.buffer.len() - self.lead) / PAGE_BYTES * PAGE_BYTES;
        self.file.write_all_at(&self.buffer[self.lead..self.lead + whole], self.at)?;
        let before = self.at / Self::SYNC_BYTES;
        self.at += whole as u64;
        self.buffer.drain(self.lead..self.lead + whole);
        if self.at / Self::SYNC_BYTES > before { self.file.sync_data() } else { Ok(()) }
    }

    /// Writes what is buffered, the end of the file; it does not fill a page, and so goes by the page cache.
    fn flush_end(&mut self) -> io::Result<()> {
        self.flush()?;
        let end = self.store.disk().open(&self.path, false)?;
        end.write_all_at(&self.buffer[self.lead..], self.at)?;
        self.at = self.bytes();
        self.buffer.truncate(self.lead);
        end.sync_data()
    }

    /// Ends the file and makes it durable under its name.
    pub fn finish(mut self) -> Result<FileInfo, Error> {
        self.drop_empty_run();
        let footer = self.footer.encode();
        if footer.len() > SETTLED_FOOTER_BYTES_MAX {
            return Err(Error::TooManyRuns { runs: self.footer.runs.len() });
        }
        let trailer = Trailer {
            footer_offset: self.bytes(),
            footer_bytes: footer.len() as u32,
            footer_crc: crc32c::crc32c(&footer),
            file: self.id,
        };
        self.put(&footer)
            .and_then(|()| self.put(&trailer.encode()))
            .map_err(io_error("writing", &self.path))?;
        self.flush_end().map_err(io_error("writing and syncing the end of", &self.path))?;
        self.store.publish(self.id, &self.path)?;
        self.finished = true;
        let runs = std::mem::take(&mut self.footer.runs);
        Ok(FileInfo { id: self.id, bytes: self.at, runs })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.store.disk().remove(&self.path);
        }
    }
}

const _: () = assert!(HEADER_BYTES < PAGE_BYTES);
const _: () =
    assert!(Writer::BUFFER_BYTES.is_multiple_of(PAGE_BYTES) && PAGE_BYTES.is_multiple_of(DIRECT_ALIGN_BYTES));
