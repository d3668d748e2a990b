//! How a large file is written that nobody reads soon: front to back, past the page cache.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use waystation_base::disk::{DIRECT_ALIGN_BYTES, Disk, File};

use crate::{buffer, limits::PAGE_BYTES};

/// Bytes that are written at a time: a sync of the journal beside waits for what is being written, and four times as many are hardly
/// written faster.
const BUFFER_BYTES: usize = 256 << 10;
/// Synced in steps, so that a commit of the journal beside never waits for many bytes.
const SYNC_BYTES: u64 = 4 << 20;

/// A file that is written front to back.
pub(crate) struct Sequential {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn File>,
    /// From `lead` on it is as aligned as the file.
    buffer: Vec<u8>,
    lead: usize,
    /// The file offset of the buffer's first byte.
    at: u64,
}

impl Sequential {
    /// Creates the file, or empties it.
    pub(crate) fn create(disk: Arc<dyn Disk>, path: &Path) -> io::Result<Sequential> {
        let file = disk.open_uncached(path, true)?;
        file.set_len(0)?;
        // It never grows, so it stays as aligned as it is now.
        let mut buffer = Vec::with_capacity(BUFFER_BYTES + PAGE_BYTES);
        let lead = buffer::lead(&buffer, 0);
        buffer.resize(lead, 0);
        Ok(Sequential { disk, path: path.to_owned(), file, buffer, lead, at: 0 })
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.at + (self.buffer.len() - self.lead) as u64
    }

    /// Adds bytes, and writes the buffer whenever it is full.
    pub(crate) fn put(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let room = self.lead + BUFFER_BYTES - self.buffer.len();
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
        let before = self.at / SYNC_BYTES;
        self.at += whole as u64;
        self.buffer.drain(self.lead..self.lead + whole);
        if self.at / SYNC_BYTES > before { self.file.sync_data() } else { Ok(()) }
    }

    /// Writes what is buffered, the end of the file, which does not fill a page and so goes by the page cache; makes all of it
    /// durable, and returns its length.
    pub(crate) fn end(&mut self) -> io::Result<u64> {
        self.flush()?;
        let end = self.disk.open(&self.path, false)?;
        end.write_all_at(&self.buffer[self.lead..], self.at)?;
        self.at = self.bytes();
        self.buffer.truncate(self.lead);
        end.sync_data()?;
        Ok(self.at)
    }
}

const _: () =
    assert!(BUFFER_BYTES.is_multiple_of(PAGE_BYTES) && PAGE_BYTES.is_multiple_of(DIRECT_ALIGN_BYTES));

#[cfg(test)]
mod tests {
    use waystation_base::os::OsDisk;

    use super::*;

    #[test]
    fn what_is_put_in_pieces_is_read_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        for length in
            [0, 1, PAGE_BYTES, BUFFER_BYTES - 1, BUFFER_BYTES, BUFFER_BYTES + 1, 5 * BUFFER_BYTES + 77]
        {
            let path = dir.path().join(length.to_string());
            let bytes: Vec<u8> = (0..length).map(|n| (n / 7) as u8).collect();
            let mut file = Sequential::create(Arc::new(OsDisk), &path).expect("a file");
            for piece in bytes.chunks(60_001) {
                file.put(piece).expect("put");
            }
            assert_eq!((file.bytes(), file.end().expect("ended")), (length as u64, length as u64));
            assert!(std::fs::read(&path).expect("a file") == bytes, "{length}");
        }
    }
}
