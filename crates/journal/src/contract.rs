//! What any journal owes those above it, whatever it is made of.
//!
//! An implementation may be files of one machine or a replicated log of many; nothing above may assume which.
//! [`crate::conformance::check`] judges an implementation by this text.

use std::{io, ops::ControlFlow, path::Path};

use bytes::Bytes;
use waystation_base::Position;

use crate::{group::Group, limits::FRAME_STEP_BYTES};

/// The reign of one writer: a later one has a higher number, and shuts the earlier ones out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl std::fmt::Display for Epoch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// One entry as it is read back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The position of the payload's first byte.
    pub position: Position,
    /// What the writer called it.
    pub kind: u8,
    /// What the writer wrote.
    pub payload: &'a [u8],
}

/// Who is given the entries of a scan; `Break` ends it.
pub type Visitor<'a> = dyn FnMut(Entry<'_>) -> ControlFlow<()> + 'a;

/// The endless stream of commit groups.
///
/// - Positions count the bytes of group frames from the first one ever; a group begins where the one before ended.
/// - One owner appends. Its epoch is at least that of every group before; an append with a lower one is refused
///   and changes nothing.
/// - A group is atomic: after a crash either all of its entries are read or none.
/// - What was appended before a `sync` that returned `Ok` is read after any crash. What was appended after the last
///   one may be there or not, but never a group without all those before it.
/// - After a failed append or sync every further append and sync fails with the same [`Failure`]; it is never
///   tried again, because nobody knows what is on the disk.
pub trait Journal: Send {
    /// Writes a group at the end, where it must begin. Durable after the next [`Journal::sync`].
    fn append(&mut self, expected: Position, epoch: Epoch, group: &mut Group) -> Result<(), AppendError>;

    /// Makes all that was appended durable; returns the position before which everything is.
    fn sync(&mut self) -> Result<Position, Failure>;

    /// `length` bytes from `position` on, which lie within one group. They are not checked: what they hold is.
    fn read(&self, position: Position, length: usize) -> Result<Bytes, ReadError>;

    /// Gives `visitor` every entry of the groups that begin at `from` or later, checked; returns the position after
    /// the last group that was visited.
    fn scan(&self, from: Position, visitor: &mut Visitor<'_>) -> Result<Position, ReadError>;

    /// Allows everything before `before` to be forgotten. Some of it may stay readable.
    fn trim(&mut self, before: Position) -> Result<(), Failure>;

    /// The first position that can be read.
    fn start(&self) -> Position;

    /// Where the next group begins.
    fn end(&self) -> Position;

    /// To what multiple groups should be padded.
    fn align_bytes(&self) -> usize {
        FRAME_STEP_BYTES
    }

    /// Whether there is room to go on.
    fn space(&self) -> Space {
        Space::Enough
    }

    /// Ends writing in good order: all is durable, and known to be when the journal is opened again.
    fn close(&mut self) -> Result<Position, Failure> {
        self.sync()
    }
}

/// Whether a journal has room ahead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Space {
    /// It has.
    Enough,
    /// No more can be had: this many bytes are left for what makes room, such as acknowledgements.
    Low {
        /// Bytes that can still be written.
        room_bytes: u64,
    },
}

/// Why writing ended for good.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {place} failed: {why}; the journal takes no more writes until it is opened again")]
pub struct Failure {
    /// What was tried.
    pub what: &'static str,
    /// On what.
    pub place: String,
    /// What the system said.
    pub why: String,
}

impl Failure {
    /// A failed operation on a file.
    pub fn new(what: &'static str, path: &Path, error: &io::Error) -> Failure {
        Failure { what, place: path.display().to_string(), why: error.to_string() }
    }
}

impl Failure {
    /// A refusal that only a mistake of the owner explains, such as a second owner.
    pub(crate) fn refused(error: &AppendError) -> Failure {
        Failure { what: "appending to", place: "the journal".to_owned(), why: error.to_string() }
    }
}

/// Why a group was not appended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// It does not begin where the journal ends.
    #[error("the group begins at {start} and is expected at {expected}, but the journal ends at {end}")]
    NotAtEnd {
        /// Where the caller expected the end.
        expected: Position,
        /// Where the group begins.
        start: Position,
        /// Where the journal ends.
        end: Position,
    },
    /// A later owner has written.
    #[error("epoch {epoch} is over: the journal has entries of epoch {current}")]
    Fenced {
        /// The caller's.
        epoch: Epoch,
        /// The newest.
        current: Epoch,
    },
    /// An entry or the group is larger than the limits allow.
    #[error("the group of {bytes} bytes or one of its entries is too large")]
    TooLarge {
        /// Bytes of the group.
        bytes: usize,
    },
    /// There is no room for it. Nothing has failed: the same group may be appended again when there is room.
    #[error("there is no room for a group of {bytes} bytes: {why}")]
    NoSpace {
        /// Bytes of the group.
        bytes: usize,
        /// What the system said.
        why: String,
    },
    /// Writing failed, now or before.
    #[error(transparent)]
    Failed(#[from] Failure),
}

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It was trimmed.
    #[error("position {position} was trimmed: the journal begins at {start}")]
    Trimmed {
        /// What was asked for.
        position: Position,
        /// The first that is there.
        start: Position,
    },
    /// It has not been written, or reaches past what has been.
    #[error(
        "{length} bytes from position {position} are not within one group of the journal, which ends at {end}"
    )]
    OutOfRange {
        /// What was asked for.
        position: Position,
        /// How many bytes.
        length: usize,
        /// Where the journal ends.
        end: Position,
    },
    /// What is there is not what was written.
    #[error("{place} is damaged at offset {offset} (position {position}): {why}")]
    Damaged {
        /// Which file.
        place: String,
        /// Where in the file.
        offset: u64,
        /// Where in the journal.
        position: Position,
        /// What does not fit.
        why: String,
    },
    /// The system refused.
    #[error("reading {place} failed: {error}")]
    Io {
        /// Which file.
        place: String,
        /// What the system said.
        error: io::Error,
    },
}
