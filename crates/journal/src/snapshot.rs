//! The state at one position of the journal, in one file: so that a start reads a snapshot and little journal.
//!
//! `snapshots/<20-digit position>.snapshot`, made under a name that ends in `.writing`, synced, then renamed:
//!
//! ```text
//! offset  size  (all numbers little-endian)
//! 0       8     magic "WAYSNAP\n"
//! 8       4     version: 1
//! 12      4     CRC-32C of the payload
//! 16      8     position: the state after every entry before it, and none after
//! 24      8     bytes of the payload
//! 32      4     CRC-32C of bytes 0..32
//! 36      ...   the payload, up to the end of the file
//! ```
//!
//! Magic, version and the header's CRC keep their places in every later version.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use waystation_base::{
    Position,
    disk::{Disk, File},
};

use crate::{
    buffer,
    layout::{u32_at, u64_at},
    limits::{PAGE_BYTES, SNAPSHOT_BYTES_MAX},
};

/// The first bytes of every snapshot.
pub const MAGIC: [u8; 8] = *b"WAYSNAP\n";
/// The version that this code writes and reads.
pub const VERSION: u32 = 1;
/// Bytes before the payload.
pub const HEADER_BYTES: usize = 36;
/// Snapshots that are worth keeping: the newest, and one in case it is damaged.
pub const KEEP: usize = 2;

const BUFFER_BYTES: usize = 1 << 20;

/// What a snapshot says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// Where in the journal the state is taken.
    pub position: Position,
    /// Bytes of the payload.
    pub bytes: u64,
    /// CRC-32C of the payload.
    pub crc: u32,
}

/// Why a snapshot cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// There are too few bytes.
    #[error("the file is shorter than a snapshot")]
    TooShort,
    /// It does not begin like a snapshot.
    #[error("the file does not begin like a snapshot")]
    Magic,
    /// The header's or payload's checksum does not fit.
    #[error("the checksum does not fit")]
    Checksum,
    /// A later or foreign version.
    #[error("the snapshot has format version {0}, and this program reads version {VERSION} only")]
    Version(u32),
    /// Its length contradicts the file or the limit.
    #[error("the snapshot says that it has {0} bytes, which cannot be")]
    Length(u64),
    /// It is named after another position.
    #[error("the snapshot is of position {0}, other than its name says")]
    Position(Position),
}

impl Header {
    /// The header's bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.position.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.bytes.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header from the front of a snapshot.
    pub fn decode(bytes: &[u8]) -> Result<Header, HeaderError> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(HeaderError::TooShort)?;
        if bytes[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        if crc32c::crc32c(&bytes[..32]) != u32_at(bytes, 32) {
            return Err(HeaderError::Checksum);
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            other => return Err(HeaderError::Version(other)),
        }
        let header = Header {
            position: Position(u64_at(bytes, 16)),
            bytes: u64_at(bytes, 24),
            crc: u32_at(bytes, 12),
        };
        if header.bytes > SNAPSHOT_BYTES_MAX {
            return Err(HeaderError::Length(header.bytes));
        }
        Ok(header)
    }
}

/// Why a snapshot could not be written, found or removed.
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
    /// The newest snapshot is of another version: an older one in its place would undo what it knows.
    #[error("{} cannot be read: {why}", path.display())]
    Unknown {
        /// Which file.
        path: PathBuf,
        /// What it is.
        why: HeaderError,
    },
    /// The state is larger than the limit.
    #[error("a snapshot of more than {SNAPSHOT_BYTES_MAX} bytes is not possible")]
    TooLarge,
}

fn io_error(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    let path = path.to_owned();
    move |error| Error::Io { what, path, error }
}

fn path_of(dir: &Path, position: Position) -> PathBuf {
    dir.join(format!("{:020}.snapshot", position.0))
}

/// The snapshots of a folder by position, whole or not, oldest first.
pub fn positions(disk: &dyn Disk, dir: &Path) -> Result<Vec<Position>, Error> {
    let files = disk.list(dir).map_err(io_error("listing", dir))?;
    Ok(files.iter().filter_map(|path| position_of(path)).collect())
}

fn position_of(path: &Path) -> Option<Position> {
    if path.extension()?.to_str()? != "snapshot" {
        return None;
    }
    path.file_stem()?.to_str()?.parse().ok().map(Position)
}

/// Writes the state at `position`, given in pieces; durable when this returns. Returns the bytes of the payload.
///
/// The journal must be durable through `position` before.
pub fn write<C: AsRef<[u8]>>(
    disk: &dyn Disk,
    dir: &Path,
    position: Position,
    pieces: impl IntoIterator<Item = C>,
) -> Result<u64, Error> {
    disk.create_dir_all(dir).map_err(io_error("creating", dir))?;
    let path = path_of(dir, position);
    let writing = path.with_extension("writing");
    let file = disk.open(&writing, true).map_err(io_error("creating", &writing))?;
    file.set_len(0).map_err(io_error("emptying", &writing))?;
    let mut writer =
        PayloadWriter { file: file.as_ref(), pending: Vec::new(), at: HEADER_BYTES as u64, crc: 0 };
    let written = pieces.into_iter().try_for_each(|piece| writer.add(piece.as_ref()));
    let bytes = writer.at + writer.pending.len() as u64 - HEADER_BYTES as u64;
    if bytes > SNAPSHOT_BYTES_MAX {
        let _ = disk.remove(&writing);
        return Err(Error::TooLarge);
    }
    written.and_then(|()| writer.flush()).map_err(io_error("writing", &writing))?;
    let header = Header { position, bytes, crc: writer.crc };
    file.write_all_at(&header.encode(), 0).map_err(io_error("writing", &writing))?;
    file.sync_data().map_err(io_error("syncing", &writing))?;
    disk.rename(&writing, &path).map_err(io_error("renaming", &writing))?;
    disk.sync_dir(dir).map_err(io_error("syncing", dir))?;
    Ok(bytes)
}

struct PayloadWriter<'a> {
    file: &'a dyn File,
    pending: Vec<u8>,
    at: u64,
    crc: u32,
}

impl PayloadWriter<'_> {
    /// Synced in steps, so that a commit beside never waits for many bytes.
    const SYNC_BYTES: u64 = 4 << 20;

    fn add(&mut self, piece: &[u8]) -> io::Result<()> {
        self.pending.extend_from_slice(piece);
        if self.at + self.pending.len() as u64 > SNAPSHOT_BYTES_MAX + HEADER_BYTES as u64 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if self.pending.len() >= BUFFER_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.crc = crc32c::crc32c_append(self.crc, &self.pending);
        self.file.write_all_at(&self.pending, self.at)?;
        let before = self.at / Self::SYNC_BYTES;
        self.at += self.pending.len() as u64;
        self.pending.clear();
        if self.at / Self::SYNC_BYTES > before { self.file.sync_data() } else { Ok(()) }
    }
}

/// A snapshot whose every byte was checked.
pub struct Snapshot {
    /// Where in the journal the state is taken.
    pub position: Position,
    /// Bytes of the payload.
    pub bytes: u64,
    /// Which file it is.
    pub path: PathBuf,
    file: Arc<dyn File>,
}

/// The newest snapshot that can be used, and those that ought to have been newer.
#[derive(Default)]
pub struct Latest {
    /// The snapshot; none if there is none.
    pub snapshot: Option<Snapshot>,
    /// Newer ones that are damaged, with the reason: to be told loudly.
    pub damaged: Vec<(PathBuf, HeaderError)>,
}

/// Finds the newest snapshot whose checksums fit.
pub fn latest(disk: &dyn Disk, dir: &Path) -> Result<Latest, Error> {
    let mut latest = Latest::default();
    for position in positions(disk, dir)?.into_iter().rev() {
        let path = path_of(dir, position);
        let file = disk.open(&path, false).map_err(io_error("opening", &path))?;
        match check(file.as_ref(), position).map_err(io_error("reading", &path))? {
            Ok(header) => {
                latest.snapshot = Some(Snapshot { position, bytes: header.bytes, path, file });
                return Ok(latest);
            }
            Err(why @ HeaderError::Version(_)) => return Err(Error::Unknown { path, why }),
            Err(why) => latest.damaged.push((path, why)),
        }
    }
    Ok(latest)
}

fn check(file: &dyn File, position: Position) -> io::Result<Result<Header, HeaderError>> {
    let length = file.len()?;
    let mut front = vec![0; (length as usize).min(HEADER_BYTES)];
    file.read_exact_at(&mut front, 0)?;
    let header = match Header::decode(&front) {
        Ok(header) => header,
        Err(error) => return Ok(Err(error)),
    };
    if header.position != position {
        return Ok(Err(HeaderError::Position(header.position)));
    }
    if header.bytes != length - HEADER_BYTES as u64 {
        return Ok(Err(HeaderError::Length(header.bytes)));
    }
    let mut crc = 0;
    let mut buffer = vec![0; BUFFER_BYTES + PAGE_BYTES];
    let mut at = HEADER_BYTES as u64;
    while at < length {
        let step = (length - at).min(BUFFER_BYTES as u64) as usize;
        let lead = buffer::lead(&buffer, at);
        let piece = &mut buffer[lead..lead + step];
        file.read_exact_at(piece, at)?;
        crc = crc32c::crc32c_append(crc, piece);
        at += step as u64;
    }
    Ok(if crc == header.crc { Ok(header) } else { Err(HeaderError::Checksum) })
}

impl Snapshot {
    /// The whole payload.
    pub fn load(&self) -> io::Result<Vec<u8>> {
        let mut payload = vec![0; self.bytes as usize];
        self.file.read_exact_at(&mut payload, HEADER_BYTES as u64)?;
        Ok(payload)
    }

    /// The payload from its beginning, in bounded memory.
    pub fn reader(&self) -> impl io::Read + '_ {
        io::BufReader::with_capacity(BUFFER_BYTES, PayloadReader { snapshot: self, at: 0 })
    }
}

struct PayloadReader<'a> {
    snapshot: &'a Snapshot,
    at: u64,
}

impl io::Read for PayloadReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = buffer.len().min((self.snapshot.bytes - self.at) as usize);
        if length == 0 {
            return Ok(0);
        }
        let n = self.snapshot.file.read_at(&mut buffer[..length], HEADER_BYTES as u64 + self.at)?;
        self.at += n as u64;
        Ok(n)
    }
}

/// Removes all but the newest `keep` snapshots, and what an interrupted write left.
///
/// Returns the position of the oldest that is left: the journal is needed from there on.
pub fn remove_older(disk: &dyn Disk, dir: &Path, keep: usize) -> Result<Option<Position>, Error> {
    for path in disk.list(dir).map_err(io_error("listing", dir))? {
        if path.extension().is_some_and(|extension| extension == "writing") {
            disk.remove(&path).map_err(io_error("removing", &path))?;
        }
    }
    let positions = positions(disk, dir)?;
    let (old, kept) = positions.split_at(positions.len().saturating_sub(keep));
    for position in old {
        let path = path_of(dir, *position);
        disk.remove(&path).map_err(io_error("removing", &path))?;
    }
    disk.sync_dir(dir).map_err(io_error("syncing", dir))?;
    Ok(kept.first().copied())
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use waystation_base::os::OsDisk;

    use super::*;
    use crate::test_disk::{Random, Tear, TestDisk};

    fn put(dir: &Path, position: u64, payload: &[u8]) {
        write(&OsDisk, dir, Position(position), payload.chunks(1000)).expect("written");
    }

    #[test]
    fn a_header_has_these_bytes() {
        let header = Header { position: Position(0x0102), bytes: 5, crc: 0x0A0B_0C0D };
        let mut golden =
            b"WAYSNAP\n\x01\0\0\0\x0d\x0c\x0b\x0a\x02\x01\0\0\0\0\0\0\x05\0\0\0\0\0\0\0".to_vec();
        golden.extend_from_slice(&crc32c::crc32c(&golden).to_le_bytes());
        assert_eq!(header.encode().as_slice(), golden);
        assert_eq!(Header::decode(&golden), Ok(header));
    }

    #[test]
    fn the_newest_snapshot_is_found_and_two_are_kept() {
        let dir = tempfile::tempdir().expect("a folder");
        for n in 1..=4u64 {
            put(dir.path(), n * 100, &vec![n as u8; 3_000_000]);
        }
        std::fs::write(dir.path().join("00000000000000000500.writing"), b"half").expect("written");
        assert_eq!(remove_older(&OsDisk, dir.path(), KEEP).expect("removed"), Some(Position(300)));
        assert_eq!(positions(&OsDisk, dir.path()).expect("listed"), [Position(300), Position(400)]);
        let latest = latest(&OsDisk, dir.path()).expect("found");
        assert!(latest.damaged.is_empty());
        let snapshot = latest.snapshot.expect("there is one");
        assert_eq!(snapshot.position, Position(400));
        assert_eq!(snapshot.load().expect("read"), vec![4; 3_000_000]);
        let mut streamed = Vec::new();
        snapshot.reader().read_to_end(&mut streamed).expect("read");
        assert_eq!(streamed, vec![4; 3_000_000]);
    }

    #[test]
    fn a_damaged_snapshot_is_named_and_the_one_before_is_used() {
        let dir = tempfile::tempdir().expect("a folder");
        put(dir.path(), 100, b"old");
        put(dir.path(), 200, b"new and longer");
        let newest = path_of(dir.path(), Position(200));
        let whole = std::fs::read(&newest).expect("read");
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 4;
            std::fs::write(&newest, &bytes).expect("written");
            let latest = latest(&OsDisk, dir.path()).expect("found");
            assert_eq!(latest.snapshot.expect("the old one").position, Position(100), "byte {at}");
            assert_eq!(latest.damaged.len(), 1);
        }
        for length in 0..whole.len() {
            std::fs::write(&newest, &whole[..length]).expect("written");
            let latest = latest(&OsDisk, dir.path()).expect("found");
            assert_eq!(latest.snapshot.expect("the old one").position, Position(100), "length {length}");
        }
    }

    #[test]
    fn a_snapshot_of_a_later_version_is_refused_rather_than_passed_over() {
        let dir = tempfile::tempdir().expect("a folder");
        put(dir.path(), 100, b"old");
        put(dir.path(), 200, b"new");
        let newest = path_of(dir.path(), Position(200));
        let mut bytes = std::fs::read(&newest).expect("read");
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
        std::fs::write(&newest, &bytes).expect("written");
        let Err(error) = latest(&OsDisk, dir.path()) else { panic!("passed over") };
        assert!(error.to_string().contains("format version 2"), "{error}");
    }

    #[test]
    fn a_power_cut_at_any_moment_leaves_the_old_snapshot_or_the_new_one() {
        let payload = |n: u8| vec![n; 2_500_000];
        for fail_in in 0..12 {
            for seed in 1..8 {
                let disk = TestDisk::default();
                let dir = Path::new("/snapshots");
                write(&disk, dir, Position(1), [payload(1)]).expect("written");
                disk.fail_in(Some(fail_in));
                let written = write(&disk, dir, Position(2), payload(2).chunks(100_000)).is_ok();
                disk.crash(&mut Random(seed), Tear::Garbage);
                let latest = latest(&disk, dir).expect("found");
                assert!(latest.damaged.is_empty());
                let snapshot = latest.snapshot.expect("the old one at least");
                assert!(!written || snapshot.position == Position(2));
                assert_eq!(snapshot.load().expect("read"), payload(snapshot.position.0 as u8));
                remove_older(&disk, dir, KEEP).expect("removed");
                assert!(disk.names().iter().all(|name| name.ends_with(".snapshot")));
            }
        }
    }

    #[test]
    fn an_empty_folder_has_no_snapshot() {
        let dir = tempfile::tempdir().expect("a folder");
        assert!(latest(&OsDisk, &dir.path().join("none")).expect("looked").snapshot.is_none());
    }
}
