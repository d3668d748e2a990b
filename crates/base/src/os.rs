//! The real clock, disk, memory and source of randomness.

mod memory;
mod removal;

use std::{
    fs, io,
    num::NonZeroU64,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::{
    buffer::spare_capacity,
    fs::{Advice, FallocateFlags, OFlags},
    io::Errno,
};

pub use self::memory::{OsMemory, memory_bytes_max};
use self::removal::Handle;
use crate::{
    chance::Chance,
    disk::{Disk, File, LockError},
    time::{Clock, Millis},
};

/// The system's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsClock;

impl Clock for OsClock {
    #[allow(clippy::disallowed_methods, reason = "this is the clock that everything else is given")]
    fn now(&self) -> Millis {
        // A clock before 1970 is answered with 0 rather than with a panic.
        Millis(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_millis() as u64))
    }
}

/// Sixteen random bytes as a number, from the operating system.
pub fn random() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(io::Error::other)?;
    Ok(u128::from_le_bytes(bytes))
}

/// The operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsChance;

impl Chance for OsChance {
    fn draw(&self) -> io::Result<u128> {
        random()
    }
}

/// The operating system's file system.
#[derive(Clone, Copy, Debug, Default)]
pub struct OsDisk;

impl Disk for OsDisk {
    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir_all(dir)
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let options = fs::File::options().read(true).write(true).create(create).truncate(false).clone();
        Ok(Arc::new(OsFile(Handle::open(&options, path)?)))
    }

    fn open_uncached(&self, path: &Path, create: bool) -> io::Result<Arc<dyn File>> {
        let direct = OFlags::DIRECT.bits().cast_signed();
        let mut options = fs::File::options();
        options.read(true).write(true).create(create).truncate(false).custom_flags(direct);
        match Handle::open(&options, path) {
            Ok(file) => Ok(Arc::new(OsFile(file))),
            // open(2): the file system has no direct writes.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => self.open(path, create),
            Err(error) => Err(error),
        }
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        removal::remove(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        let entries = match fs::read_dir(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other?,
        };
        let mut files = Vec::new();
        for entry in entries {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                files.push(entry.path());
            }
        }
        files.sort();
        Ok(files)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path, owner: &str) -> Result<Box<dyn Send + Sync>, LockError> {
        let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(path)?;
        if !flock_in_time(&file)? {
            return Err(LockError::Held(fs::read_to_string(path).unwrap_or_default().trim().to_owned()));
        }
        file.set_len(0)?;
        file.write_all_at(owner.as_bytes(), 0)?;
        Ok(Box::new(file))
    }
}

/// How long a lock is waited for. A process that was killed may leave it with a child of its own that has not begun its
/// program yet (flock(2): a lock belongs to the open file, which fork(2) shares); who starts anew at once is not to fail for it.
const LOCK_WAIT: Duration = Duration::from_secs(1);
/// How often it is tried meanwhile.
const LOCK_TRIES: u32 = 50;

/// Locks a file for this process; false if another one has it all the time.
#[allow(
    clippy::disallowed_methods,
    reason = "flock(2) knows no time limit, and nothing runs yet that could be told to stop"
)]
fn flock_in_time(file: &fs::File) -> io::Result<bool> {
    for _ in 0..LOCK_TRIES {
        match rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => std::thread::sleep(LOCK_WAIT / LOCK_TRIES),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(false)
}

struct OsFile(Handle);

impl File for OsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        self.0.write_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.0.set_len(bytes)
    }

    fn reserve(&self, bytes: u64) -> io::Result<()> {
        match rustix::fs::fallocate(&*self.0, FallocateFlags::empty(), 0, bytes) {
            Err(Errno::OPNOTSUPP) => Ok(()),
            result => Ok(result?),
        }
    }

    fn will_need(&self, offset: u64, bytes: u64) {
        let _ = rustix::fs::fadvise(&*self.0, offset, NonZeroU64::new(bytes), Advice::WillNeed);
    }

    /// Into memory that nobody has filled with zeros first. What is read beyond `length`, where the buffer has room, is cut off.
    fn append_exact_at(&self, buffer: &mut Vec<u8>, length: usize, offset: u64) -> io::Result<()> {
        let before = buffer.len();
        buffer.reserve(length);
        while buffer.len() < before + length {
            let at = offset + (buffer.len() - before) as u64;
            match rustix::io::pread(&*self.0, spare_capacity(buffer), at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        buffer.truncate(before + length);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DIRECT_ALIGN_BYTES;

    /// Also where the folder is in memory, which has no direct writes.
    #[test]
    fn what_is_written_past_the_page_cache_is_read_by_another_handle() {
        for place in [std::env::temp_dir(), PathBuf::from("/dev/shm")] {
            let Ok(dir) = tempfile::tempdir_in(&place) else { continue };
            let path = dir.path().join("file");
            let memory = vec![7; 3 * DIRECT_ALIGN_BYTES];
            let lead = memory.as_ptr().align_offset(DIRECT_ALIGN_BYTES);
            let written = &memory[lead..lead + DIRECT_ALIGN_BYTES];
            let file = OsDisk.open_uncached(&path, true).expect("a file");
            file.write_all_at(written, DIRECT_ALIGN_BYTES as u64).expect("written");
            file.sync_data().expect("synced");
            let mut read = vec![1; 2 * DIRECT_ALIGN_BYTES];
            OsDisk.open(&path, false).expect("there").read_exact_at(&mut read, 0).expect("whole");
            assert_eq!((&read[..DIRECT_ALIGN_BYTES], &read[DIRECT_ALIGN_BYTES..]), (&[0; 4096][..], written));
        }
    }

    #[test]
    fn room_for_a_file_is_had_or_refused_before_it_is_written() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = OsDisk.open(&dir.path().join("file"), true).expect("a file");
        file.reserve(1 << 20).expect("a MiB");
        assert_eq!(file.len().expect("a length"), 1 << 20);
        assert!(file.reserve(1 << 62).is_err(), "no file system has that much");
    }

    /// As a child does that was begun just before its parent was killed.
    #[test]
    #[allow(clippy::disallowed_methods, reason = "the other thread is to be waiting by then")]
    fn a_lock_that_is_let_go_a_moment_later_is_had() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("LOCK");
        let first = OsDisk.lock(&path, "the first").expect("free");
        let waits = std::thread::spawn({
            let path = path.clone();
            move || OsDisk.lock(&path, "the second").map(drop).map_err(|error| error.to_string())
        });
        std::thread::sleep(LOCK_WAIT / 10);
        assert!(!waits.is_finished(), "it waits");
        drop(first);
        assert_eq!(waits.join().expect("no panic"), Ok(()));
        assert_eq!(fs::read_to_string(&path).expect("a text"), "the second");
    }

    #[test]
    fn what_is_read_comes_after_what_is_there_and_its_end_is_an_error() {
        let dir = tempfile::tempdir().expect("a folder");
        let file = OsDisk.open(&dir.path().join("file"), true).expect("a file");
        file.write_all_at(b"0123456789", 0).expect("written");
        let mut buffer = Vec::with_capacity(100);
        buffer.push(b'>');
        file.append_exact_at(&mut buffer, 4, 3).expect("read");
        assert_eq!(buffer, b">3456");
        file.append_exact_at(&mut buffer, 3, 7).expect("read up to the end");
        assert_eq!(buffer, b">3456789");
        let error = file.append_exact_at(&mut buffer, 4, 7).expect_err("one past the end");
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn a_second_lock_names_the_first_owner() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("LOCK");
        let first = OsDisk.lock(&path, "pid 1").expect("free");
        let Err(LockError::Held(owner)) = OsDisk.lock(&path, "pid 2") else { panic!("locked twice") };
        assert_eq!(owner, "pid 1");
        drop(first);
        assert!(OsDisk.lock(&path, "pid 2").is_ok());
    }
}
