//! Record files: small things with a key each, in blocks by key, to be found by key or by hash.
//!
//! The record of what became of messages is kept in them. A file is written whole, once, and never changed; one that was not
//! finished has another name and is removed at the next start, so that there is no torn tail. What keys, hashes, blocks and the
//! writer's own bytes mean this crate does not know.

pub mod layout;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use waystation_base::disk::{Disk, File};

use self::layout::{
    Footer, HEADER_BYTES, INDEX_ENTRY_BYTES, LayoutError, PageRef, TRAILER_BYTES, Trailer, decode_header,
};
pub use self::writer::Writer;
use crate::{
    buffer,
    layout::{u32_at, u64_at},
};

/// Why a record file could not be written or read.
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
    /// A block, the footer or the writer's bytes are larger than the limits.
    #[error("{bytes} bytes are too many for {what} of a record file")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many.
        bytes: usize,
    },
}

impl Error {
    /// Whether the file is not there: it was removed by retention.
    pub fn is_gone(&self) -> bool {
        matches!(self, Error::Io { error, .. } if error.kind() == io::ErrorKind::NotFound)
    }
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::Io { what, path, error }
}

/// The record files of a folder.
pub struct Store {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
}

/// One record file with its footer.
pub struct Table {
    /// Its number.
    pub id: u32,
    /// Its length.
    pub bytes: u64,
    /// What its writer put beside the blocks.
    pub meta: Bytes,
    path: PathBuf,
    file: Arc<dyn File>,
    footer: Footer,
}

impl Store {
    /// Opens the folder, made if need be; removes what an interrupted write left.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Arc<Store>, Error> {
        disk.create_dir_all(dir).map_err(io_error("creating", dir))?;
        for path in disk.list(dir).map_err(io_error("listing", dir))? {
            if path.extension().is_some_and(|extension| extension == "writing") {
                disk.remove(&path).map_err(io_error("removing", &path))?;
            }
        }
        Ok(Arc::new(Store { disk, dir: dir.to_owned() }))
    }

    /// The path of a file.
    pub fn path_of(&self, id: u32) -> PathBuf {
        self.dir.join(format!("{id:010}.record"))
    }

    /// The numbers of all files that are there, ascending.
    pub fn files(&self) -> Result<Vec<u32>, Error> {
        let paths = self.disk.list(&self.dir).map_err(io_error("listing", &self.dir))?;
        let id = |path: &PathBuf| {
            let is_record = path.extension()?.to_str()? == "record";
            is_record.then(|| path.file_stem()?.to_str()?.parse().ok()).flatten()
        };
        let mut ids: Vec<u32> = paths.iter().filter_map(id).collect();
        ids.sort_unstable();
        Ok(ids)
    }

    /// The length of a file in bytes.
    pub fn length(&self, id: u32) -> Result<u64, Error> {
        let path = self.path_of(id);
        let file = self.disk.open(&path, false).map_err(io_error("opening", &path))?;
        file.len().map_err(io_error("measuring", &path))
    }

    /// Removes a file. Who still reads it may finish.
    pub fn remove(&self, id: u32) -> Result<(), Error> {
        let path = self.path_of(id);
        match self.disk.remove(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error("removing", &path)(error)),
            _ => Ok(()),
        }
    }

    /// Reads every byte of a file and checks it; returns how many blocks there are.
    pub fn verify(&self, id: u32) -> Result<u64, Error> {
        let table = self.table(id)?;
        for number in 0..table.footer.blocks.len() {
            table.block(number)?;
        }
        for page in &table.footer.pages {
            table.page(page)?;
        }
        Ok(table.footer.blocks.len() as u64)
    }

    /// Opens a file and reads its footer.
    pub fn table(&self, id: u32) -> Result<Table, Error> {
        let path = self.path_of(id);
        let file = self.disk.open(&path, false).map_err(io_error("opening", &path))?;
        let bytes = file.len().map_err(io_error("measuring", &path))?;
        let (footer, meta) = (Footer::default(), Bytes::new());
        let mut table = Table { id, bytes, meta, path, file, footer };
        if bytes < (HEADER_BYTES + TRAILER_BYTES) as u64 {
            return Err(table.damaged(0, LayoutError::TooShort));
        }
        let named = decode_header(&table.read(0, HEADER_BYTES)?).map_err(|why| table.damaged(0, why))?;
        let at = bytes - TRAILER_BYTES as u64;
        let trailer = Trailer::decode(&table.read(at, TRAILER_BYTES)?, bytes);
        let trailer = trailer.map_err(|why| table.damaged(at, why))?;
        if named != id || trailer.id != id {
            return Err(table.damaged(0, LayoutError::Contradiction));
        }
        let (meta_at, footer_at) = (trailer.meta_offset, trailer.footer_offset);
        table.meta = table.checked(meta_at, trailer.meta_bytes as usize, trailer.meta_crc)?;
        let footer = table.checked(footer_at, trailer.footer_bytes as usize, trailer.footer_crc)?;
        table.footer = Footer::decode(&footer, meta_at).map_err(|why| table.damaged(footer_at, why))?;
        Ok(table)
    }
}

impl Table {
    fn damaged(&self, offset: u64, why: LayoutError) -> Error {
        Error::Damaged { path: self.path.clone(), offset, why }
    }

    fn read(&self, offset: u64, length: usize) -> Result<Bytes, Error> {
        buffer::read(self.file.as_ref(), offset, length).map_err(io_error("reading", &self.path))
    }

    fn checked(&self, offset: u64, length: usize, crc: u32) -> Result<Bytes, Error> {
        let bytes = self.read(offset, length)?;
        match crc32c::crc32c(&bytes) == crc {
            true => Ok(bytes),
            false => Err(self.damaged(offset, LayoutError::Checksum)),
        }
    }

    /// How many blocks there are.
    pub fn blocks(&self) -> usize {
        self.footer.blocks.len()
    }

    /// The blocks that may hold keys from `first` to `last`.
    pub fn blocks_of(&self, first: u128, last: u128) -> Range<usize> {
        let blocks = &self.footer.blocks;
        let from = blocks.partition_point(|block| block.first < first).saturating_sub(1);
        from..blocks.partition_point(|block| block.first <= last)
    }

    /// A block and the key of the first thing in it.
    pub fn block(&self, number: usize) -> Result<(u128, Bytes), Error> {
        let contradiction = || self.damaged(0, LayoutError::Contradiction);
        let block = self.footer.blocks.get(number).ok_or_else(contradiction)?;
        Ok((block.first, self.checked(block.offset, block.bytes as usize, block.crc)?))
    }

    fn page(&self, page: &PageRef) -> Result<Bytes, Error> {
        self.checked(page.offset, page.entries as usize * INDEX_ENTRY_BYTES, page.crc)
    }

    /// The blocks, at most `max`, that hold something with this hash.
    pub fn find(&self, hash: u64, max: usize) -> Result<Vec<u32>, Error> {
        let pages = &self.footer.pages;
        let from = pages.partition_point(|page| page.first < hash).saturating_sub(1);
        let mut found = Vec::new();
        for page in pages[from..].iter().take_while(|page| page.first <= hash) {
            let bytes = self.page(page)?;
            let at = |entry: usize| u64_at(&bytes, entry * INDEX_ENTRY_BYTES);
            let entries = page.entries as usize;
            let (mut low, mut high) = (0, entries);
            while low < high {
                let middle = low.midpoint(high);
                if at(middle) < hash { low = middle + 1 } else { high = middle }
            }
            for entry in (low..entries).take_while(|entry| at(*entry) == hash) {
                found.push(u32_at(&bytes, entry * INDEX_ENTRY_BYTES + 8));
                if found.len() == max {
                    return Ok(found);
                }
            }
        }
        Ok(found)
    }
}
