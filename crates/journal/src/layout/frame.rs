//! How one commit group looks on disk.
//!
//! ```text
//! offset  size  (all numbers little-endian)
//! 0       8     magic "WAYGROUP"
//! 8       2     version: 1
//! 10      2     flags: bit 0 = void (no entries; stands where salvage gave bytes up)
//! 12      4     length: bytes of the whole frame, this header and the padding included; a multiple of 64
//! 16      4     number of entries
//! 20      4     bytes of the entries
//! 24      8     start: the position of this frame's first byte
//! 32      8     synced_through: every byte before this position was durable when the frame was written
//! 40      8     epoch of the writer
//! 48      8     salt of the file that the frame was written to
//! 56      4     CRC-32C of bytes 0..56
//! 60      4     CRC-32C of bytes 0..60 and 64..length
//! 64      ...   entries, each:  u32 bytes of the payload | u8 kind | payload
//! ...           zeros up to `length`
//! ```
//!
//! A frame is taken for one only if it stands where it says, with its file's salt: what an earlier use of a
//! recycled file left behind is never mistaken for it. Magic, version and the header's CRC keep their places in
//! every later version.

use waystation_base::Position;

use super::{checksum, u16_at, u32_at, u64_at};
use crate::{
    contract::{Entry, Epoch},
    limits::{ENTRY_BYTES_MAX, FRAME_STEP_BYTES, GROUP_BYTES_MAX},
};

/// The first bytes of every frame.
pub const MAGIC: [u8; 8] = *b"WAYGROUP";
/// The version that this code writes and reads.
pub const VERSION: u16 = 1;
/// Bytes before the first entry.
pub const HEADER_BYTES: usize = 64;
/// Bytes before the payload of an entry.
pub const ENTRY_HEADER_BYTES: usize = 5;
const FLAG_VOID: u16 = 1;

/// What a frame says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameHeader {
    /// Whether it stands where salvage gave bytes up.
    pub void: bool,
    /// Bytes of the frame with header and padding.
    pub length: u32,
    /// Number of entries.
    pub entries: u32,
    /// Bytes of the entries.
    pub entry_bytes: u32,
    /// Where it begins.
    pub start: Position,
    /// Everything before was durable when it was written.
    pub synced_through: Position,
    /// Who wrote it.
    pub epoch: Epoch,
    /// The salt of its file.
    pub salt: u64,
}

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// There are fewer bytes than a header, or than the header says.
    #[error("the file ends inside of the group")]
    TooShort,
    /// It does not begin like a group.
    #[error("no group begins here")]
    Magic,
    /// The header's checksum does not fit.
    #[error("the checksum of the group's header does not fit")]
    HeaderChecksum,
    /// A later or foreign version.
    #[error("the group has format version {0}, and this program reads version {VERSION} only")]
    Version(u16),
    /// The lengths contradict each other or a limit.
    #[error("the group says that it has {length} bytes with {entry_bytes} bytes of entries, which cannot be")]
    Length {
        /// Bytes of the frame.
        length: u32,
        /// Bytes of the entries.
        entry_bytes: u32,
    },
    /// It belongs to another place or to an earlier use of the file.
    #[error("the group belongs to position {0} or to an earlier use of the file")]
    Place(Position),
    /// The checksum over everything does not fit.
    #[error("the checksum of the group does not fit")]
    Checksum,
    /// The entries do not fill the place that they are said to fill.
    #[error("the entries of the group do not add up")]
    Entries,
}

impl FrameHeader {
    /// The position after the frame.
    pub fn end(&self) -> Position {
        Position(self.start.0 + u64::from(self.length))
    }

    /// Reads and checks a header, lengths included, but not the entries.
    pub fn decode(bytes: &[u8]) -> Result<FrameHeader, FrameError> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(FrameError::TooShort)?;
        if bytes[..8] != MAGIC {
            return Err(FrameError::Magic);
        }
        if crc32c::crc32c(&bytes[..56]) != u32_at(bytes, 56) {
            return Err(FrameError::HeaderChecksum);
        }
        match u16_at(bytes, 8) {
            VERSION => {}
            other => return Err(FrameError::Version(other)),
        }
        let header = FrameHeader {
            void: u16_at(bytes, 10) & FLAG_VOID != 0,
            length: u32_at(bytes, 12),
            entries: u32_at(bytes, 16),
            entry_bytes: u32_at(bytes, 20),
            start: Position(u64_at(bytes, 24)),
            synced_through: Position(u64_at(bytes, 32)),
            epoch: Epoch(u64_at(bytes, 40)),
            salt: u64_at(bytes, 48),
        };
        header.check_lengths()?;
        Ok(header)
    }

    fn check_lengths(&self) -> Result<(), FrameError> {
        let (length, entry_bytes) = (self.length as usize, self.entry_bytes as usize);
        let fits = length <= GROUP_BYTES_MAX
            && length.is_multiple_of(FRAME_STEP_BYTES)
            && length >= HEADER_BYTES
            && entry_bytes <= length - HEADER_BYTES
            && (self.entries as usize).saturating_mul(ENTRY_HEADER_BYTES) <= entry_bytes
            && self.start.0 <= crate::limits::POSITION_MAX;
        if fits {
            Ok(())
        } else {
            Err(FrameError::Length { length: self.length, entry_bytes: self.entry_bytes })
        }
    }

    /// Like [`FrameHeader::decode`], and the frame must belong to `start` in a file with `salt`.
    pub fn decode_at(bytes: &[u8], start: Position, salt: u64) -> Result<FrameHeader, FrameError> {
        let header = FrameHeader::decode(bytes)?;
        if header.start != start || header.salt != salt {
            return Err(FrameError::Place(header.start));
        }
        Ok(header)
    }

    /// Writes header and checksums to the front of a whole frame; `length` and the slice's length agree.
    pub fn seal(&self, frame: &mut [u8]) {
        let body_crc = crc32c::crc32c(&frame[HEADER_BYTES..]);
        self.seal_with(body_crc, frame);
    }

    /// Like [`FrameHeader::seal`], where the CRC-32C of everything behind the header is known already.
    pub(crate) fn seal_with(&self, body_crc: u32, frame: &mut [u8]) {
        assert_eq!(frame.len(), self.length as usize, "a frame is sealed with its length");
        frame[..8].copy_from_slice(&MAGIC);
        frame[8..10].copy_from_slice(&VERSION.to_le_bytes());
        frame[10..12].copy_from_slice(&if self.void { FLAG_VOID } else { 0 }.to_le_bytes());
        frame[12..16].copy_from_slice(&self.length.to_le_bytes());
        frame[16..20].copy_from_slice(&self.entries.to_le_bytes());
        frame[20..24].copy_from_slice(&self.entry_bytes.to_le_bytes());
        frame[24..32].copy_from_slice(&self.start.0.to_le_bytes());
        frame[32..40].copy_from_slice(&self.synced_through.0.to_le_bytes());
        frame[40..48].copy_from_slice(&self.epoch.0.to_le_bytes());
        frame[48..56].copy_from_slice(&self.salt.to_le_bytes());
        let header_crc = crc32c::crc32c(&frame[..56]);
        frame[56..60].copy_from_slice(&header_crc.to_le_bytes());
        let body_bytes = self.length - HEADER_BYTES as u32;
        let crc = checksum::combine(crc32c::crc32c(&frame[..60]), body_crc, body_bytes);
        frame[60..64].copy_from_slice(&crc.to_le_bytes());
    }
}

fn frame_crc(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[..60]), &frame[HEADER_BYTES..])
}

/// A frame whose checksums fit.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// Its header.
    pub header: FrameHeader,
    bytes: &'a [u8],
}

impl<'a> Frame<'a> {
    /// Checks everything that can be checked of a frame at the front of `bytes`.
    pub fn decode(bytes: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let header = FrameHeader::decode(bytes)?;
        Frame::with_header(header, bytes)
    }

    /// Checks the frame's bytes, of which the header is known already.
    pub fn with_header(header: FrameHeader, bytes: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let bytes = bytes.get(..header.length as usize).ok_or(FrameError::TooShort)?;
        if frame_crc(bytes) != u32_at(bytes, 60) {
            return Err(FrameError::Checksum);
        }
        Ok(Frame { header, bytes })
    }

    /// A frame that this process has itself just sealed: its checksum over all is taken to fit.
    pub fn trusted(bytes: &'a [u8]) -> Result<Frame<'a>, FrameError> {
        let header = FrameHeader::decode(bytes)?;
        let bytes = bytes.get(..header.length as usize).ok_or(FrameError::TooShort)?;
        Ok(Frame { header, bytes })
    }

    /// The entries, in order. An error is the last item.
    pub fn entries(&self) -> Entries<'a> {
        Entries {
            rest: &self.bytes[HEADER_BYTES..HEADER_BYTES + self.header.entry_bytes as usize],
            position: self.header.start.0 + HEADER_BYTES as u64,
            left: self.header.entries,
        }
    }
}

/// The entries of a frame.
#[derive(Clone, Debug)]
pub struct Entries<'a> {
    rest: &'a [u8],
    position: u64,
    left: u32,
}

impl<'a> Iterator for Entries<'a> {
    type Item = Result<Entry<'a>, FrameError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.rest.is_empty() {
                return None;
            }
            self.rest = &[];
            return Some(Err(FrameError::Entries));
        }
        self.left -= 1;
        let Some((head, rest)) = self.rest.split_at_checked(ENTRY_HEADER_BYTES) else {
            return self.fail();
        };
        let length = u32_at(head, 0) as usize;
        if length > ENTRY_BYTES_MAX || length > rest.len() {
            return self.fail();
        }
        let (payload, rest) = rest.split_at(length);
        let position = self.position + ENTRY_HEADER_BYTES as u64;
        self.rest = rest;
        self.position = position + length as u64;
        Some(Ok(Entry { position: Position(position), kind: head[4], payload }))
    }
}

impl<'a> Entries<'a> {
    fn fail(&mut self) -> Option<Result<Entry<'a>, FrameError>> {
        self.rest = &[];
        self.left = 0;
        Some(Err(FrameError::Entries))
    }
}
