//! What the bytes of a settled file mean.
//!
//! ```text
//! header   0   8   magic "WAYSETL\n"          (all numbers little-endian)
//!          8   4   version: 1
//!          12  4   file id
//!          16  4   CRC-32C of bytes 0..16
//!          20  12  zeros
//! then batch after batch, those of one run together and in offset order:
//!          0   4   bytes of the payload
//!          4   4   CRC-32C of: file id u32, entity u32, log u16, bytes 0..4 and 8..32, payload
//!          8   8   first offset
//!          16  8   last offset
//!          24  8   max timestamp, milliseconds
//!          32  ..  payload
//! footer   0   4   number of runs
//!          4   4   number of index entries
//!          8   ..  runs, 72 bytes each:
//!                  entity u32, log u16, zeros u16, batches u32, index entries u32, first index entry u32, zeros u32,
//!                  first offset u64, last offset u64, file offset u64, bytes u64, min timestamp u64, max timestamp u64
//!          ..  ..  index entries, 24 bytes each: first offset u64, file offset u64, max timestamp before u64
//! trailer  0   8   file offset of the footer     (the last 32 bytes of the file)
//!          8   4   bytes of the footer
//!          12  4   CRC-32C of the footer
//!          16  4   CRC-32C of bytes 0..16
//!          20  4   file id
//!          24  8   magic "WAYSETF\n"
//! ```
//!
//! The checksum of a batch covers whose it is: a batch of another run or file is never taken for it. Magic and version
//! keep their places in every later version.

use waystation_base::{EntityId, Millis, Offset};

pub use crate::layout::whole::{HEADER_BYTES, LayoutError};
use crate::{
    layout::{u16_at, u32_at, u64_at, whole::Form},
    limits::{SETTLED_BATCH_BYTES_MAX, SETTLED_FOOTER_BYTES_MAX},
};

pub const MAGIC: [u8; 8] = *b"WAYSETL\n";
pub const TRAILER_MAGIC: [u8; 8] = *b"WAYSETF\n";
/// The version that this code writes and reads.
pub const VERSION: u32 = 1;
/// What these files have in common with others.
pub const FORM: Form = Form { magic: MAGIC, version: VERSION, name: "settled" };
pub const BATCH_HEADER_BYTES: usize = 32;
pub const TRAILER_BYTES: usize = 32;
const FOOTER_HEAD_BYTES: usize = 8;
const RUN_BYTES: usize = 72;
const INDEX_ENTRY_BYTES: usize = 24;

/// The batches of one log within one settled file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Run {
    /// Whose log.
    pub entity: EntityId,
    /// Which of its logs.
    pub log: u16,
    /// The first offset of the first batch.
    pub first: Offset,
    /// The last offset of the last batch.
    pub last: Offset,
    /// Number of batches.
    pub batches: u32,
    /// Where in the file the first batch begins.
    pub file_offset: u64,
    /// Bytes of the batches with their headers.
    pub bytes: u64,
    /// The smallest of the batches' max timestamps.
    pub min_timestamp: Millis,
    /// The largest of the batches' max timestamps.
    pub max_timestamp: Millis,
    /// Which of the file's index entries are its own: the first.
    pub index_first: u32,
    /// And how many.
    pub index_entries: u32,
}

/// One entry of the sparse index: a batch that begins at this file offset.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexEntry {
    /// The first offset of the batch.
    pub first: Offset,
    /// Where it begins.
    pub file_offset: u64,
    /// The largest max timestamp of the run's batches before it.
    pub max_timestamp_before: Millis,
}

/// What stands before the payload of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Bytes of the payload.
    pub bytes: u32,
    /// Checksum of everything.
    pub crc: u32,
    /// First offset.
    pub first: Offset,
    /// Last offset.
    pub last: Offset,
    /// Largest timestamp.
    pub max_timestamp: Millis,
}

/// Whose batch it is: part of its checksum.
#[derive(Clone, Copy, Debug)]
pub struct Owner {
    /// The file's id.
    pub file: u32,
    /// The log's entity.
    pub entity: EntityId,
    /// The log.
    pub log: u16,
}

/// What the trailer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Trailer {
    /// Where the footer begins.
    pub footer_offset: u64,
    /// Its length.
    pub footer_bytes: u32,
    /// Its checksum.
    pub footer_crc: u32,
    /// The file's id.
    pub file: u32,
}

/// The runs and the index of a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// In the order in which they lie in the file.
    pub runs: Vec<Run>,
    /// Of all runs, in file order.
    pub index: Vec<IndexEntry>,
}

/// The header of a file.
pub fn encode_header(file: u32) -> [u8; HEADER_BYTES] {
    FORM.encode_header(file)
}

/// Reads the header of a file; gives its id.
pub fn decode_header(bytes: &[u8]) -> Result<u32, LayoutError> {
    FORM.decode_header(bytes)
}

impl BatchHeader {
    /// The header of a batch with this payload.
    pub fn of(
        owner: Owner,
        first: Offset,
        last: Offset,
        max_timestamp: Millis,
        payload: &[u8],
    ) -> BatchHeader {
        let mut header = BatchHeader { bytes: payload.len() as u32, crc: 0, first, last, max_timestamp };
        header.crc = header.checksum(owner, payload);
        header
    }

    /// The header's bytes.
    pub fn encode(&self) -> [u8; BATCH_HEADER_BYTES] {
        let mut bytes = [0; BATCH_HEADER_BYTES];
        bytes[..4].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.crc.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.last.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.max_timestamp.0.to_le_bytes());
        bytes
    }

    /// Reads a header; the checksum can be told only with the payload.
    pub fn decode(bytes: &[u8]) -> Result<BatchHeader, LayoutError> {
        let bytes = bytes.get(..BATCH_HEADER_BYTES).ok_or(LayoutError::TooShort)?;
        let header = BatchHeader {
            bytes: u32_at(bytes, 0),
            crc: u32_at(bytes, 4),
            first: Offset(u64_at(bytes, 8)),
            last: Offset(u64_at(bytes, 16)),
            max_timestamp: Millis(u64_at(bytes, 24)),
        };
        if header.bytes as usize > SETTLED_BATCH_BYTES_MAX || header.first > header.last {
            return Err(LayoutError::Contradiction);
        }
        Ok(header)
    }

    /// Whether the payload is the one that the header was made for.
    pub fn check(&self, owner: Owner, payload: &[u8]) -> Result<(), LayoutError> {
        if self.checksum(owner, payload) == self.crc { Ok(()) } else { Err(LayoutError::Checksum) }
    }

    fn checksum(&self, owner: Owner, payload: &[u8]) -> u32 {
        let mut bytes = [0; 38];
        bytes[..4].copy_from_slice(&owner.file.to_le_bytes());
        bytes[4..8].copy_from_slice(&owner.entity.0.to_le_bytes());
        bytes[8..10].copy_from_slice(&owner.log.to_le_bytes());
        bytes[10..14].copy_from_slice(&self.bytes.to_le_bytes());
        bytes[14..22].copy_from_slice(&self.first.0.to_le_bytes());
        bytes[22..30].copy_from_slice(&self.last.0.to_le_bytes());
        bytes[30..38].copy_from_slice(&self.max_timestamp.0.to_le_bytes());
        crc32c::crc32c_append(crc32c::crc32c(&bytes), payload)
    }
}

impl Trailer {
    /// The trailer's bytes.
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..8].copy_from_slice(&self.footer_offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.footer_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.footer_crc.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..16]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.file.to_le_bytes());
        bytes[24..32].copy_from_slice(&TRAILER_MAGIC);
        bytes
    }

    /// Reads the trailer of a file of `file_bytes`.
    pub fn decode(bytes: &[u8], file_bytes: u64) -> Result<Trailer, LayoutError> {
        let bytes = bytes.get(..TRAILER_BYTES).ok_or(LayoutError::TooShort)?;
        if bytes[24..32] != TRAILER_MAGIC {
            return Err(LayoutError::Magic(FORM.name));
        }
        if crc32c::crc32c(&bytes[..16]) != u32_at(bytes, 16) {
            return Err(LayoutError::Checksum);
        }
        let trailer = Trailer {
            footer_offset: u64_at(bytes, 0),
            footer_bytes: u32_at(bytes, 8),
            footer_crc: u32_at(bytes, 12),
            file: u32_at(bytes, 20),
        };
        let end = trailer.footer_offset.checked_add(u64::from(trailer.footer_bytes));
        let fits = trailer.footer_offset >= HEADER_BYTES as u64
            && trailer.footer_bytes as usize <= SETTLED_FOOTER_BYTES_MAX
            && end.and_then(|end| end.checked_add(TRAILER_BYTES as u64)) == Some(file_bytes);
        if fits { Ok(trailer) } else { Err(LayoutError::Contradiction) }
    }
}

impl Footer {
    /// The footer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let bytes = FOOTER_HEAD_BYTES + self.runs.len() * RUN_BYTES + self.index.len() * INDEX_ENTRY_BYTES;
        let mut out = Vec::with_capacity(bytes);
        out.extend_from_slice(&(self.runs.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.index.len() as u32).to_le_bytes());
        for run in &self.runs {
            out.extend_from_slice(&run.entity.0.to_le_bytes());
            out.extend_from_slice(&run.log.to_le_bytes());
            out.extend_from_slice(&[0; 2]);
            for number in [run.batches, run.index_entries, run.index_first, 0] {
                out.extend_from_slice(&number.to_le_bytes());
            }
            let (min, max) = (run.min_timestamp.0, run.max_timestamp.0);
            for number in [run.first.0, run.last.0, run.file_offset, run.bytes, min, max] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        for entry in &self.index {
            for number in [entry.first.0, entry.file_offset, entry.max_timestamp_before.0] {
                out.extend_from_slice(&number.to_le_bytes());
            }
        }
        out
    }

    /// Reads a footer that begins at `footer_offset` of its file, and checks that what it says can be.
    pub fn decode(bytes: &[u8], footer_offset: u64) -> Result<Footer, LayoutError> {
        if bytes.len() < FOOTER_HEAD_BYTES {
            return Err(LayoutError::TooShort);
        }
        let (runs, entries) = (u32_at(bytes, 0) as usize, u32_at(bytes, 4) as usize);
        let expected = (runs as u64) * RUN_BYTES as u64 + (entries as u64) * INDEX_ENTRY_BYTES as u64;
        if expected != (bytes.len() - FOOTER_HEAD_BYTES) as u64 {
            return Err(LayoutError::Contradiction);
        }
        let (run_bytes, index_bytes) = bytes[FOOTER_HEAD_BYTES..].split_at(runs * RUN_BYTES);
        let footer = Footer {
            runs: run_bytes.chunks_exact(RUN_BYTES).map(decode_run).collect(),
            index: index_bytes.chunks_exact(INDEX_ENTRY_BYTES).map(decode_entry).collect(),
        };
        if footer.runs.iter().all(|run| footer.holds(run, footer_offset)) {
            Ok(footer)
        } else {
            Err(LayoutError::Contradiction)
        }
    }

    fn holds(&self, run: &Run, footer_offset: u64) -> bool {
        let end = run.file_offset.checked_add(run.bytes);
        run.file_offset >= HEADER_BYTES as u64
            && end.is_some_and(|end| end <= footer_offset)
            && run.first <= run.last
            && run.index_of(&self.index).is_some_and(|entries| {
                entries
                    .iter()
                    .all(|entry| entry.file_offset >= run.file_offset && Some(entry.file_offset) < end)
            })
    }
}

impl Run {
    /// Its own entries of the file's index.
    pub(crate) fn index_of<'a>(&self, index: &'a [IndexEntry]) -> Option<&'a [IndexEntry]> {
        let first = self.index_first as usize;
        index.get(first..first.checked_add(self.index_entries as usize)?)
    }
}

fn decode_run(bytes: &[u8]) -> Run {
    Run {
        entity: EntityId(u32_at(bytes, 0)),
        log: u16_at(bytes, 4),
        batches: u32_at(bytes, 8),
        index_entries: u32_at(bytes, 12),
        index_first: u32_at(bytes, 16),
        first: Offset(u64_at(bytes, 24)),
        last: Offset(u64_at(bytes, 32)),
        file_offset: u64_at(bytes, 40),
        bytes: u64_at(bytes, 48),
        min_timestamp: Millis(u64_at(bytes, 56)),
        max_timestamp: Millis(u64_at(bytes, 64)),
    }
}

fn decode_entry(bytes: &[u8]) -> IndexEntry {
    IndexEntry {
        first: Offset(u64_at(bytes, 0)),
        file_offset: u64_at(bytes, 8),
        max_timestamp_before: Millis(u64_at(bytes, 16)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: Owner = Owner { file: 1, entity: EntityId(2), log: 3 };

    #[test]
    fn every_changed_byte_of_a_batch_is_noticed() {
        let payload = b"payload";
        let header = BatchHeader::of(OWNER, Offset(5), Offset(9), Millis(77), payload);
        let whole = [header.encode().as_slice(), payload].concat();
        for at in 0..whole.len() {
            let mut bytes = whole.clone();
            bytes[at] ^= 1;
            let result = BatchHeader::decode(&bytes).and_then(|header| {
                let end = BATCH_HEADER_BYTES + header.bytes as usize;
                let payload = bytes.get(BATCH_HEADER_BYTES..end).ok_or(LayoutError::TooShort)?;
                header.check(OWNER, payload)
            });
            assert!(result.is_err(), "byte {at}");
        }
        assert_eq!(header.check(Owner { log: 4, ..OWNER }, payload), Err(LayoutError::Checksum));
    }

    #[test]
    fn a_footer_comes_back_and_one_that_points_outside_is_refused() {
        let run = Run {
            entity: EntityId(1),
            log: 2,
            first: Offset(3),
            last: Offset(4),
            batches: 5,
            file_offset: 32,
            bytes: 100,
            min_timestamp: Millis(6),
            max_timestamp: Millis(7),
            index_first: 0,
            index_entries: 1,
        };
        let entry = IndexEntry { first: Offset(4), file_offset: 90, max_timestamp_before: Millis(6) };
        let footer = Footer { runs: vec![run], index: vec![entry] };
        assert_eq!(Footer::decode(&footer.encode(), 132), Ok(footer.clone()));
        assert_eq!(Footer::decode(&footer.encode(), 131), Err(LayoutError::Contradiction));
        let bad = Footer { runs: vec![Run { index_entries: 2, ..run }], ..footer.clone() };
        assert_eq!(Footer::decode(&bad.encode(), 132), Err(LayoutError::Contradiction));
        let bad = Footer { runs: vec![Run { bytes: u64::MAX, ..run }], ..footer.clone() };
        assert_eq!(Footer::decode(&bad.encode(), 132), Err(LayoutError::Contradiction));
        let encoded = footer.encode();
        for length in 0..encoded.len() {
            assert!(Footer::decode(&encoded[..length], 132).is_err());
        }
    }

    #[test]
    fn a_later_version_is_named() {
        let mut bytes = encode_header(7);
        assert_eq!(decode_header(&bytes), Ok(7));
        bytes[8] = 9;
        let crc = crc32c::crc32c(&bytes[..16]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode_header(&bytes), Err(LayoutError::Version { found: 9, read: VERSION }));
    }
}
