//! What stands at the front of a journal file, and where in the file a position lies.
//!
//! A journal file is named after its base position (`<20 digits>.journal`) and laid out so that file offset and
//! position agree modulo the page size: what is aligned in one is aligned in the other.
//!
//! ```text
//! offset           size  (all numbers little-endian)
//! 0                8     magic "WAYJRNL\n"
//! 8                4     version: 1
//! 12               4     reserved: 0
//! 16               8     base position: the position of the first frame's first byte
//! 24               8     salt: random, fresh at each (re)use of the file; every frame repeats it
//! 32               8     epoch of the writer that began the file
//! 40               4     CRC-32C of bytes 0..40
//! 44 .. H          -     zeros, where H = 4096 + base % 4096
//! H + (p - base)         the byte at position p
//! ```
//!
//! Magic, version and CRC keep their places in every later version.

use waystation_base::Position;

use super::{u32_at, u64_at};
use crate::{
    contract::Epoch,
    limits::{PAGE_BYTES, POSITION_MAX},
};

/// The first bytes of every journal file.
pub const MAGIC: [u8; 8] = *b"WAYJRNL\n";
/// The version that this code writes and reads.
pub const VERSION: u32 = 1;
/// Bytes of the header that carry meaning.
pub const HEADER_BYTES: usize = 44;

/// What a journal file says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileHeader {
    /// Where its frames begin in the stream of positions.
    pub base: Position,
    /// The random number that its frames repeat.
    pub salt: u64,
    /// The epoch of the writer that began it.
    pub epoch: Epoch,
}

/// Why bytes are no header of a journal file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// There are too few bytes.
    #[error("the file is too short for a header")]
    TooShort,
    /// It does not begin like a journal file.
    #[error("the file does not begin like a journal file")]
    Magic,
    /// The checksum does not fit.
    #[error("the checksum of the file header does not fit")]
    Checksum,
    /// A later or foreign version.
    #[error("the file has format version {0}, and this program reads version {VERSION} only")]
    Version(u32),
    /// The base position cannot be.
    #[error("the base position {0} is out of range")]
    Base(Position),
}

impl FileHeader {
    /// The header's first [`HEADER_BYTES`] bytes.
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.base.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.salt.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.epoch.0.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..40]);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads a header from the front of a file.
    pub fn decode(bytes: &[u8]) -> Result<FileHeader, HeaderError> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(HeaderError::TooShort)?;
        if bytes[..8] != MAGIC {
            return Err(HeaderError::Magic);
        }
        if crc32c::crc32c(&bytes[..40]) != u32_at(bytes, 40) {
            return Err(HeaderError::Checksum);
        }
        match u32_at(bytes, 8) {
            VERSION => {}
            other => return Err(HeaderError::Version(other)),
        }
        let base = Position(u64_at(bytes, 16));
        if base.0 > POSITION_MAX {
            return Err(HeaderError::Base(base));
        }
        Ok(FileHeader { base, salt: u64_at(bytes, 24), epoch: Epoch(u64_at(bytes, 32)) })
    }
}

/// Bytes before the first frame of a file with this base.
pub fn header_bytes(base: Position) -> u64 {
    let page = PAGE_BYTES as u64;
    page + base.0 % page
}

/// The file offset of `position`, which is not before `base`.
pub fn offset_of(base: Position, position: Position) -> u64 {
    header_bytes(base) + (position.0 - base.0)
}

/// The position of a file offset behind the header.
pub fn position_of(base: Position, offset: u64) -> Position {
    Position(base.0 + (offset - header_bytes(base)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: FileHeader =
        FileHeader { base: Position(0x1_0203), salt: 0x1122_3344_5566_7788, epoch: Epoch(9) };

    #[test]
    fn a_file_header_has_these_bytes() {
        let mut golden = Vec::new();
        golden.extend_from_slice(b"WAYJRNL\n\x01\0\0\0\0\0\0\0");
        golden.extend_from_slice(&[0x03, 0x02, 0x01, 0, 0, 0, 0, 0]);
        golden.extend_from_slice(&[0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
        golden.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0]);
        let crc = crc32c::crc32c(&golden);
        golden.extend_from_slice(&crc.to_le_bytes());
        assert_eq!(HEADER.encode().as_slice(), golden);
        assert_eq!(FileHeader::decode(&golden), Ok(HEADER));
    }

    #[test]
    fn every_changed_byte_of_a_file_header_is_noticed() {
        for at in 0..HEADER_BYTES {
            let mut bytes = HEADER.encode();
            bytes[at] ^= 0x40;
            assert!(FileHeader::decode(&bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let mut bytes = HEADER.encode();
        bytes[8] = 2;
        let crc = crc32c::crc32c(&bytes[..40]);
        bytes[40..44].copy_from_slice(&crc.to_le_bytes());
        let error = FileHeader::decode(&bytes).expect_err("later");
        assert_eq!(error.to_string(), "the file has format version 2, and this program reads version 1 only");
    }

    #[test]
    fn offsets_and_positions_agree_within_a_page() {
        for base in [0, 64, 4096, 10_000] {
            for ahead in [0, 1, 4095, 70_000] {
                let position = Position(base + ahead);
                let offset = offset_of(Position(base), position);
                assert_eq!(offset % 4096, position.0 % 4096);
                assert!(offset >= 4096);
                assert_eq!(position_of(Position(base), offset), position);
            }
        }
    }
}
