//! Large files that are removed go piece by piece.
//!
//! A file system frees a file in one go, and whoever syncs another one meanwhile waits for that: with ext4 mounted so that
//! freed blocks are discarded, half a gigabyte held up a sync of 4 KiB for 30 to 55 ms, and piece by piece for 2 ms. So a removed
//! file is held open and cut shorter a piece at a time, by one thread for the whole process.
//!
//! As unlink(2) has it, who has the file open may read on: cutting begins when no [`Handle`] of this process has it open any
//! more. A file with a further name (link(2)) is left whole.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt,
    path::Path,
    sync::{LazyLock, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

/// What is cut off at once.
const PIECE_BYTES: u64 = 4 << 20;
/// The rest after each piece.
const REST: Duration = Duration::from_millis(2);
/// Removed files that wait to be cut; who removes more waits.
const QUEUE_MAX: usize = 256;
/// How often it is looked whether a removed file is still open.
const LOOK: Duration = Duration::from_millis(50);

/// What a file is whatever its name: device and inode.
type Inode = (u64, u64);

/// How many handles have which file open.
static OPEN: Mutex<BTreeMap<Inode, usize>> = Mutex::new(BTreeMap::new());

/// The way to the thread that cuts; none where it could not be started.
static CUTTER: LazyLock<Option<mpsc::SyncSender<Removed>>> = LazyLock::new(|| {
    let (sender, queue) = mpsc::sync_channel(QUEUE_MAX);
    let thread = std::thread::Builder::new().name("remover".to_owned());
    thread.spawn(move || cut_all(&queue)).ok().map(|_| sender)
});

fn handles() -> MutexGuard<'static, BTreeMap<Inode, usize>> {
    OPEN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// An open file that stays whole for as long as this lives, removed or not.
pub(super) struct Handle {
    file: fs::File,
    inode: Inode,
}

impl Handle {
    pub(super) fn open(options: &fs::OpenOptions, path: &Path) -> io::Result<Handle> {
        // Between the opening and the counting nobody is to find that the file is not open.
        let mut handles = handles();
        let file = options.open(path)?;
        let inode = inode(&file.metadata()?);
        *handles.entry(inode).or_default() += 1;
        Ok(Handle { file, inode })
    }
}

impl std::ops::Deref for Handle {
    type Target = fs::File;

    fn deref(&self) -> &fs::File {
        &self.file
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        let mut handles = handles();
        if let Some(count) = handles.get_mut(&self.inode) {
            *count -= 1;
            if *count == 0 {
                handles.remove(&self.inode);
            }
        }
    }
}

fn inode(metadata: &fs::Metadata) -> Inode {
    (metadata.dev(), metadata.ino())
}

/// Removes the name of a file at once, and what it holds piece by piece.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let large = Removed::open(path);
    fs::remove_file(path)?;
    if let (Some(removed), Some(cutter)) = (large, &*CUTTER) {
        // A thread that has ended leaves it to the file system, as everywhere else.
        let _ = cutter.send(removed);
    }
    Ok(())
}

/// A file without a name.
struct Removed {
    file: fs::File,
    inode: Inode,
    bytes: u64,
}

impl Removed {
    /// A file that is to be removed, if it is large.
    fn open(path: &Path) -> Option<Removed> {
        let is_large = |metadata: &fs::Metadata| metadata.is_file() && metadata.len() > PIECE_BYTES;
        fs::symlink_metadata(path).ok().filter(is_large)?;
        let file = fs::File::options().write(true).open(path).ok()?;
        let metadata = file.metadata().ok().filter(is_large)?;
        Some(Removed { file, inode: inode(&metadata), bytes: metadata.len() })
    }

    fn is_open(&self) -> bool {
        handles().contains_key(&self.inode)
    }

    /// Leaves what cannot be cut, or has another name, to the file system.
    #[allow(
        clippy::disallowed_methods,
        reason = "paces a thread that does nothing else; nothing depends on it"
    )]
    fn cut(self) {
        let mut rest = self.bytes;
        while rest > 0 && self.file.metadata().is_ok_and(|metadata| metadata.nlink() == 0) {
            rest = rest.saturating_sub(PIECE_BYTES);
            if self.file.set_len(rest).is_err() {
                return;
            }
            std::thread::sleep(REST);
        }
    }
}

fn cut_all(queue: &mpsc::Receiver<Removed>) {
    let mut waiting: Vec<Removed> = Vec::new();
    loop {
        let next = match waiting.is_empty() {
            true => queue.recv().map_err(|_| mpsc::RecvTimeoutError::Disconnected),
            false => queue.recv_timeout(LOOK),
        };
        match next {
            Ok(removed) => waiting.push(removed),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => return,
        }
        let (open, closed) = waiting.into_iter().partition(Removed::is_open);
        waiting = open;
        closed.into_iter().for_each(Removed::cut);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn large(dir: &Path) -> std::path::PathBuf {
        let path = dir.join("large");
        let file = fs::File::create(&path).expect("a file");
        file.set_len(2 * PIECE_BYTES + 1).expect("some MiB");
        file.write_all_at(b"end", 2 * PIECE_BYTES - 2).expect("written");
        path
    }

    fn wait_until_empty(file: &fs::File) {
        while file.metadata().expect("open").len() > 0 {
            std::thread::yield_now();
        }
    }

    #[test]
    fn who_has_a_removed_file_open_reads_on_and_then_its_room_is_given_back() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = large(dir.path());
        let watched = fs::File::open(&path).expect("there");
        let options = fs::File::options().read(true).clone();
        let (first, second) =
            (Handle::open(&options, &path).expect("there"), Handle::open(&options, &path).expect("there"));
        remove(&path).expect("removed");
        assert_eq!(fs::metadata(&path).expect_err("it is gone").kind(), io::ErrorKind::NotFound);
        drop(first);
        // Another file that nobody reads goes meanwhile: the thread has looked at both.
        let other = large(dir.path());
        let watched_other = fs::File::open(&other).expect("there");
        remove(&other).expect("removed");
        wait_until_empty(&watched_other);
        let mut read = [0; 3];
        second.read_exact_at(&mut read, 2 * PIECE_BYTES - 2).expect("whole");
        assert_eq!(&read, b"end");
        drop(second);
        wait_until_empty(&watched);
    }

    #[test]
    fn a_file_with_another_name_stays_whole() {
        let dir = tempfile::tempdir().expect("a folder");
        let (path, kept) = (large(dir.path()), dir.path().join("kept"));
        fs::hard_link(&path, &kept).expect("a second name");
        let removed = Removed::open(&path).expect("large");
        fs::remove_file(&path).expect("removed");
        removed.cut();
        assert_eq!(fs::metadata(&kept).expect("there").len(), 2 * PIECE_BYTES + 1);
    }

    #[test]
    fn what_fits_into_one_piece_and_what_is_not_a_file_is_removed_at_once() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("small");
        fs::File::create(&path).expect("a file").set_len(PIECE_BYTES).expect("one piece");
        assert!(Removed::open(&path).is_none());
        remove(&path).expect("removed");
        assert_eq!(remove(&path).expect_err("gone").kind(), io::ErrorKind::NotFound);
        assert!(Removed::open(dir.path()).is_none());
    }
}
