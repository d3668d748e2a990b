//! How other threads read the journal while its owner writes: the set of files, and a handle on it.

use std::{
    collections::VecDeque,
    io,
    ops::ControlFlow,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use waystation_base::Position;

use super::walk::{JournalFile, Stop, WalkError, Walker};
use crate::{
    buffer,
    contract::{ReadError, Visitor},
    limits::{CACHED_AFTER_READ_BYTES, GROUP_BYTES_MAX},
};

/// The chain of files and what of it may be read.
pub(crate) struct Files {
    pub(crate) chain: VecDeque<Arc<JournalFile>>,
    pub(crate) end: Position,
}

impl Files {
    pub(crate) fn start(&self) -> Position {
        self.chain.front().map_or(self.end, |file| file.base)
    }

    /// The file that holds `position`, and where its part of the journal ends.
    fn holding(&self, position: Position) -> Option<(Arc<JournalFile>, Position)> {
        let after = self.chain.partition_point(|file| file.base <= position);
        let at = after.checked_sub(1)?;
        let end = self.chain.get(after).map_or(self.end, |next| next.base);
        (position < end).then(|| (self.chain[at].clone(), end))
    }
}

/// What owner and readers share.
pub(crate) struct Shared {
    files: RwLock<Files>,
    /// Up to where the journal is to be kept in the page cache, because somebody reads it from there.
    pub(crate) cached_until: AtomicU64,
}

impl Shared {
    pub(crate) fn new(files: Files) -> Shared {
        Shared { files: RwLock::new(files), cached_until: AtomicU64::new(0) }
    }

    pub(crate) fn read<R>(&self, look: impl FnOnce(&Files) -> R) -> R {
        look(&self.files.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn write<R>(&self, change: impl FnOnce(&mut Files) -> R) -> R {
        change(&mut self.files.write().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether what is written from `position` on is likely to be read from the page cache: somebody who is not up to date
    /// has read not long ago.
    pub(crate) fn is_read_soon(&self, position: Position) -> bool {
        position.0 < self.cached_until.load(Ordering::Relaxed)
    }
}

/// Reads the journal from any thread, while it is being written and trimmed.
///
/// [`Reader::read_at`] returns bytes as they are: what they hold (a record batch) carries its own checksum, and
/// whoever reads it checks that. [`Reader::scan`] checks every group. So what recovery did not check because it
/// lies before the snapshot is checked when it is read.
#[derive(Clone)]
pub struct Reader {
    shared: Arc<Shared>,
    uncached: bool,
}

impl Reader {
    pub(crate) fn new(shared: Arc<Shared>) -> Reader {
        Reader { shared, uncached: false }
    }

    /// A reader of what nobody else reads soon: [`Reader::read_at`] goes past the page cache where it can.
    pub fn uncached(&self) -> Reader {
        Reader { uncached: true, ..self.clone() }
    }

    /// What is written next goes through the page cache: this reader is behind, and will come to it.
    fn note_reading(&self, end: Position) {
        if !self.uncached {
            self.shared.cached_until.store(end.0 + CACHED_AFTER_READ_BYTES, Ordering::Relaxed);
        }
    }

    /// The first position that can be read.
    pub fn start(&self) -> Position {
        self.shared.read(Files::start)
    }

    /// The end of what has been written, synced or not.
    pub fn end(&self) -> Position {
        self.shared.read(|files| files.end)
    }

    /// `length` bytes from `position` on, unchecked.
    pub fn read_at(&self, position: Position, length: usize) -> Result<Bytes, ReadError> {
        let file = self.locate(position, length)?;
        let offset = file.offset_of(position);
        let uncached = file.uncached.as_deref().filter(|_| self.uncached);
        // What is wrong is told by the second try.
        let pages = uncached.and_then(|file| buffer::read_pages(file, offset, length).ok());
        let bytes = match pages {
            Some(bytes) => bytes,
            None => {
                buffer::read(file.file.as_ref(), offset, length).map_err(|error| io_error(&file, error))?
            }
        };
        self.still_there(position)?;
        Ok(bytes)
    }

    fn locate(&self, position: Position, length: usize) -> Result<Arc<JournalFile>, ReadError> {
        self.shared.read(|files| {
            let out = || ReadError::OutOfRange { position, length, end: files.end };
            if position < files.start() {
                return Err(ReadError::Trimmed { position, start: files.start() });
            }
            let (file, end) = files.holding(position).ok_or_else(out)?;
            if length > GROUP_BYTES_MAX || position.0 + length as u64 > end.0 {
                return Err(out());
            }
            self.note_reading(files.end);
            Ok(file)
        })
    }

    /// A file is taken out of the set before it is written anew: what is still in it was not overwritten.
    fn still_there(&self, position: Position) -> Result<(), ReadError> {
        match self.start() {
            start if position < start => Err(ReadError::Trimmed { position, start }),
            _ => Ok(()),
        }
    }

    /// Gives `visitor` every entry of the groups that begin at `from` or later and before `to`, in bounded memory.
    ///
    /// Returns the position after the last group that was visited.
    pub fn scan(
        &self,
        from: Position,
        to: Position,
        visitor: &mut Visitor<'_>,
    ) -> Result<Position, ReadError> {
        let (start, end) = self.shared.read(|files| (files.start(), files.end));
        if from < start {
            return Err(ReadError::Trimmed { position: from, start });
        }
        if from > end {
            return Err(ReadError::OutOfRange { position: from, length: 0, end });
        }
        let to = to.min(end);
        let mut position = from;
        while position < to {
            let Some((file, file_end)) = self.shared.read(|files| files.holding(position)) else {
                self.still_there(position)?;
                return Ok(position);
            };
            let mut walker = Walker::new(&file);
            let first = first_group(&mut walker, &file, position, file_end);
            // A file that was trimmed meanwhile may be in use again, and shows other groups.
            self.still_there(position)?;
            let first = first?;
            let limit = file_end.min(to);
            match self.scan_file(&mut walker, &file, first, limit, visitor)? {
                Stop::End(next) => position = next.max(first),
                Stop::Broken(next) => return Ok(next),
                Stop::Bad(bad, why) => return Err(damaged(&file, bad, why.to_string())),
            }
        }
        Ok(position)
    }

    fn scan_file(
        &self,
        walker: &mut Walker<'_>,
        file: &JournalFile,
        first: Position,
        limit: Position,
        visitor: &mut Visitor<'_>,
    ) -> Result<Stop, ReadError> {
        let mut trimmed = None;
        // The last group may reach past `limit`, which is asked for by group starts.
        let mut position = first;
        while position < limit {
            let frame = match walker.frame(position) {
                Ok(frame) => frame,
                Err(WalkError::Io(error)) => return Err(io_error(file, error)),
                Err(WalkError::Frame(error)) => {
                    self.still_there(position)?;
                    return Ok(Stop::Bad(position, error));
                }
            };
            if let Err(error) = self.still_there(position) {
                trimmed = Some(error);
                break;
            }
            let end = frame.header.end();
            for entry in frame.entries() {
                match entry {
                    Ok(entry) if visitor(entry) == ControlFlow::Break(()) => return Ok(Stop::Broken(end)),
                    Ok(_) => {}
                    Err(error) => return Ok(Stop::Bad(position, error)),
                }
            }
            position = end;
        }
        trimmed.map_or(Ok(Stop::End(position)), Err)
    }
}

/// The first group of `file` that begins at `position` or later: mostly `position` itself.
fn first_group(
    walker: &mut Walker<'_>,
    file: &JournalFile,
    position: Position,
    end: Position,
) -> Result<Position, ReadError> {
    if position == file.base || walker.header(position).is_ok() {
        return Ok(position);
    }
    let mut at = file.base;
    while at < position && at < end {
        match walker.header_alone(at) {
            Ok(header) => at = header.end(),
            Err(WalkError::Io(error)) => return Err(io_error(file, error)),
            Err(WalkError::Frame(error)) => return Err(damaged(file, at, error.to_string())),
        }
    }
    Ok(at)
}

fn io_error(file: &JournalFile, error: io::Error) -> ReadError {
    ReadError::Io { place: file.place(), error }
}

fn damaged(file: &JournalFile, position: Position, why: String) -> ReadError {
    ReadError::Damaged { place: file.place(), offset: file.offset_of(position), position, why }
}
