//! The disk as a trait, so that a simulated one can lose, tear and refuse what a real one might.
//!
//! The contract is the one of a POSIX file system: what was written is durable once [`File::sync_data`] has
//! returned, what was created, renamed or removed once [`Disk::sync_dir`] of its folder has; nothing before.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

/// What reads and writes past the page cache are aligned to: no file system in use asks for more.
pub const DIRECT_ALIGN_BYTES: usize = 4096;

/// A folder tree of files.
pub trait Disk: Send + Sync + 'static {
    /// Makes a folder and those above it; fine if it is there.
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;
    /// Opens a file for reading and writing; with `create`, makes it if it is not there.
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>>;
    /// Like [`Disk::open`], for bytes that nobody reads soon, or that are read once: they may go past the page cache. Memory,
    /// offset and length of each read and write are multiples of [`DIRECT_ALIGN_BYTES`].
    fn open_uncached(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        self.open(path, create)
    }
    /// Renames a file over whatever had the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// The files (not folders) of a folder, sorted by name; empty if there is no such folder.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes creations, renames and removals in a folder durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Bytes that may still be written to the file system of this folder.
    fn free_bytes(&self, dir: &Path) -> io::Result<u64>;
    /// Takes the lock file for this process or says who holds it. The lock ends with the returned guard.
    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Send + Sync>, LockError>;
}

/// Why a data directory could not be locked.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it; the text is what that process wrote about itself.
    #[error("{0}")]
    Held(String),
    /// The file system refused.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An open file. Reads and writes name their offset, so that one handle serves many threads.
pub trait File: Send + Sync {
    /// Reads into `buffer` from `offset`; fewer bytes than asked only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Writes some or all of `bytes` at `offset` and returns how many.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize>;
    /// Makes written bytes, and a changed length, durable.
    fn sync_data(&self) -> io::Result<()>;
    /// The length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Cuts or extends (with zeros) to `bytes`.
    fn set_len(&self, bytes: u64) -> io::Result<()>;

    /// Asks for the room of a file of `bytes`, so that one that cannot be had is known before it is written: where the file
    /// system can say so.
    fn reserve(&self, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    /// Says that `bytes` from `offset` on will be read soon, so that they can be fetched beside others meanwhile. A hint: nothing
    /// depends on what becomes of it.
    fn will_need(&self, _offset: u64, _bytes: u64) {}

    /// Writes all of `bytes` at `offset`, in as many calls as it takes.
    fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    bytes = &bytes[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Fills `buffer` from `offset`, or fails with `UnexpectedEof`.
    fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buffer = &mut buffer[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Appends `length` bytes from `offset` on to `buffer`, or fails with `UnexpectedEof` and what was read till then.
    fn append_exact_at(&self, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<()> {
        let before = buffer.len();
        buffer.resize(before + length, 0);
        self.read_exact_at(&mut buffer[before..], offset)
    }
}
