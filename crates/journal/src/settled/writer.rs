//! How a settled file is written: front to back, once.

use std::{io, path::PathBuf, sync::Arc};

use waystation_base::{EntityId, Millis, Offset};

use super::{
    Error, FileInfo, Store, io_error,
    layout::{BATCH_HEADER_BYTES, BatchHeader, Footer, IndexEntry, Owner, Run, Trailer, encode_header},
};
use crate::{
    limits::{SETTLED_BATCH_BYTES_MAX, SETTLED_FOOTER_BYTES_MAX, SETTLED_INDEX_STEP_BYTES},
    sequential::Sequential,
};

/// Writes one settled file. Nothing of it can be read before [`Writer::finish`]; dropped before, it leaves no file.
pub struct Writer {
    store: Arc<Store>,
    id: u32,
    path: PathBuf,
    file: Sequential,
    footer: Footer,
    /// Where the newest index entry, or the run, begins.
    indexed_at: u64,
    finished: bool,
}

impl Writer {
    pub(super) fn new(store: Arc<Store>, id: u32, path: PathBuf) -> io::Result<Writer> {
        let mut file = Sequential::create(store.disk.clone(), &path)?;
        file.put(&encode_header(id))?;
        Ok(Writer { store, id, path, file, footer: Footer::default(), indexed_at: 0, finished: false })
    }

    /// Bytes so far.
    pub fn bytes(&self) -> u64 {
        self.file.bytes()
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
        self.file
            .put(&header.encode())
            .and_then(|()| self.file.put(payload))
            .map_err(io_error("writing", &self.path))
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
        self.file
            .put(&footer)
            .and_then(|()| self.file.put(&trailer.encode()))
            .map_err(io_error("writing", &self.path))?;
        let bytes = self.file.end().map_err(io_error("writing and syncing the end of", &self.path))?;
        self.store.publish(self.id, &self.path)?;
        self.finished = true;
        let runs = std::mem::take(&mut self.footer.runs);
        Ok(FileInfo { id: self.id, bytes, runs })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.finished {
            let _ = self.store.disk().remove(&self.path);
        }
    }
}
