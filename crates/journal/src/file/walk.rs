//! How the frames of one journal file are read in order, and looked for where the order is broken.

use std::{io, ops::ControlFlow, path::PathBuf, sync::Arc};

use waystation_base::{Position, disk::File};

use crate::{
    buffer::ReadBuffer,
    contract::Epoch,
    layout::{
        file_header::{offset_of, position_of},
        frame::{Frame, FrameError, FrameHeader, HEADER_BYTES, MAGIC},
    },
    limits::FRAME_STEP_BYTES,
};

/// A journal file that is part of the chain.
pub(crate) struct JournalFile {
    pub(crate) path: PathBuf,
    pub(crate) base: Position,
    pub(crate) salt: u64,
    pub(crate) epoch: Epoch,
    /// Length of the file when it was opened or prepared: what is written within needs no new blocks.
    pub(crate) prepared_bytes: u64,
    pub(crate) file: Arc<dyn File>,
    /// The same file past the page cache; none where the file system has no such way, and of a file that was there at the start
    /// or is not written in whole pages.
    pub(crate) uncached: Option<Arc<dyn File>>,
}

impl JournalFile {
    /// Bytes of frames that fit into what is prepared.
    pub(crate) fn capacity(&self) -> u64 {
        self.prepared_bytes.saturating_sub(offset_of(self.base, self.base))
    }

    pub(crate) fn offset_of(&self, position: Position) -> u64 {
        offset_of(self.base, position)
    }

    pub(crate) fn place(&self) -> String {
        self.path.display().to_string()
    }
}

/// Why the next frame could not be had.
#[derive(Debug)]
pub(crate) enum WalkError {
    Io(io::Error),
    Frame(FrameError),
}

impl From<FrameError> for WalkError {
    fn from(error: FrameError) -> WalkError {
        WalkError::Frame(error)
    }
}

impl From<io::Error> for WalkError {
    fn from(error: io::Error) -> WalkError {
        WalkError::Io(error)
    }
}

/// How a walk over frames ended.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It came to the end that was set.
    End(Position),
    /// The visitor broke off; the frame before this position was the last one.
    Broken(Position),
    /// There is no good frame at this position.
    Bad(Position, FrameError),
}

/// A frame that was found by looking for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) header: FrameHeader,
    /// Whether its entries are whole, too.
    pub(crate) whole: bool,
}

/// Reads one file through a window of bounded size.
pub(crate) struct Walker<'a> {
    file: &'a JournalFile,
    buffer: ReadBuffer,
    lead: usize,
    at: u64,
    filled: usize,
}

impl<'a> Walker<'a> {
    /// Read at once; large enough for the device, small enough for the processor's cache.
    const WINDOW_BYTES: usize = 1 << 20;

    pub(crate) fn new(file: &'a JournalFile) -> Walker<'a> {
        Walker { file, buffer: ReadBuffer::default(), lead: 0, at: 0, filled: 0 }
    }

    /// `length` bytes from `offset`, or fewer where the file ends.
    pub(crate) fn window(&mut self, offset: u64, length: usize) -> io::Result<&[u8]> {
        let inside = offset >= self.at && offset + length as u64 <= self.at + self.filled as u64;
        if !inside {
            self.fill(offset, length.max(Self::WINDOW_BYTES))?;
        }
        let from = (offset - self.at) as usize;
        let to = self.filled.min(from + length);
        Ok(&self.buffer.filled(self.lead, self.filled)[from..to])
    }

    fn fill(&mut self, offset: u64, length: usize) -> io::Result<()> {
        self.filled = 0;
        self.at = offset;
        let (lead, slice) = self.buffer.slice(offset, length);
        let mut filled = 0;
        while filled < length {
            match self.file.file.read_at(&mut slice[filled..], offset + filled as u64) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.lead = lead;
        self.filled = filled;
        Ok(())
    }

    /// The header of the frame at `position`.
    pub(crate) fn header(&mut self, position: Position) -> Result<FrameHeader, WalkError> {
        let (offset, salt) = (self.file.offset_of(position), self.file.salt);
        Ok(FrameHeader::decode_at(self.window(offset, HEADER_BYTES)?, position, salt)?)
    }

    /// The header of the frame at `position`, read alone: for going from frame to frame past large entries.
    pub(crate) fn header_alone(&mut self, position: Position) -> Result<FrameHeader, WalkError> {
        let mut bytes = [0; HEADER_BYTES];
        self.file.file.read_exact_at(&mut bytes, self.file.offset_of(position))?;
        Ok(FrameHeader::decode_at(&bytes, position, self.file.salt)?)
    }

    /// The frame at `position`, checked.
    pub(crate) fn frame(&mut self, position: Position) -> Result<Frame<'_>, WalkError> {
        let header = self.header(position)?;
        let offset = self.file.offset_of(position);
        Ok(Frame::with_header(header, self.window(offset, header.length as usize)?)?)
    }

    /// Visits frame after frame from `from` until `limit`, a bad one, or `Break`.
    pub(crate) fn walk(
        &mut self,
        from: Position,
        limit: Option<Position>,
        visit: &mut dyn FnMut(&Frame<'_>) -> Result<ControlFlow<()>, FrameError>,
    ) -> io::Result<Stop> {
        let mut position = from;
        while limit.is_none_or(|limit| position < limit) {
            let frame = match self.frame(position) {
                Ok(frame) => frame,
                Err(WalkError::Io(error)) => return Err(error),
                Err(WalkError::Frame(error)) => return Ok(Stop::Bad(position, error)),
            };
            if limit.is_some_and(|limit| frame.header.end() > limit) {
                return Ok(Stop::Bad(position, FrameError::Place(position)));
            }
            let end = frame.header.end();
            match visit(&frame) {
                Ok(ControlFlow::Continue(())) => position = end,
                Ok(ControlFlow::Break(())) => return Ok(Stop::Broken(end)),
                Err(error) => return Ok(Stop::Bad(position, error)),
            }
        }
        Ok(Stop::End(position))
    }

    /// Every frame that can be found behind `position`, in order: those that stand where they say, with the file's
    /// salt and a header that is whole.
    pub(crate) fn find_after(
        &mut self,
        position: Position,
        found: &mut dyn FnMut(Found) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let step = FRAME_STEP_BYTES as u64;
        let base = self.file.base;
        let mut offset = self.file.offset_of(position) + step;
        loop {
            let window = self.window(offset, Self::WINDOW_BYTES)?;
            let Some(ahead) = next_magic(window) else { return Ok(()) };
            let hit = ahead < window.len();
            offset += ahead as u64;
            if !hit {
                continue;
            }
            let position = position_of(base, offset);
            match self.header(position) {
                Err(WalkError::Io(error)) => return Err(error),
                Err(WalkError::Frame(_)) => offset += step,
                Ok(header) => {
                    let whole = self.is_whole(position)?;
                    offset += if whole { u64::from(header.length) } else { step };
                    if found(Found { header, whole }) == ControlFlow::Break(()) {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn is_whole(&mut self, position: Position) -> io::Result<bool> {
        match self.frame(position) {
            Ok(_) => Ok(true),
            Err(WalkError::Frame(_)) => Ok(false),
            Err(WalkError::Io(error)) => Err(error),
        }
    }
}

/// Bytes to the next frame magic at a step boundary, or past all complete steps; `None` if there is no step left.
fn next_magic(window: &[u8]) -> Option<usize> {
    if window.len() < FRAME_STEP_BYTES {
        return None;
    }
    let mut steps = window.chunks_exact(FRAME_STEP_BYTES);
    let count = steps.len();
    Some(steps.position(|step| step.starts_with(&MAGIC)).unwrap_or(count) * FRAME_STEP_BYTES)
}
