//! How a record file looks on disk.
//!
//! ```text
//! header   magic "WAYRECD\n" | version u32: 1 | id u32 | CRC-32C of the 16 bytes before u32 | zeros up to 32
//! blocks   payloads, one behind the other
//! index    pages of entries: hash u64 | block u32, ascending; a page has at most INDEX_PAGE_ENTRIES
//! meta     bytes of the writer
//! footer   number of blocks u32 | number of pages u32 |
//!          per block: first key u128 | file offset u64 | bytes u32 | CRC-32C u32
//!          per page:  first hash u64 | file offset u64 | entries u32 | CRC-32C u32
//! trailer  footer offset u64 | footer bytes u32 | footer CRC-32C u32 | meta offset u64 | meta bytes u32 |
//!          meta CRC-32C u32 | id u32 | CRC-32C of the 36 bytes before u32 | magic "WAYRECF\n"
//! ```
//! All numbers are little-endian. Blocks ascend by their first keys; what keys and hashes mean the writer knows.

pub use crate::layout::whole::{HEADER_BYTES, LayoutError};
use crate::{
    layout::{u32_at, u64_at, whole::Form},
    limits::{RECORD_BLOCK_BYTES_MAX, RECORD_FOOTER_BYTES_MAX, RECORD_META_BYTES_MAX},
};

pub const MAGIC: [u8; 8] = *b"WAYRECD\n";
pub const TRAILER_MAGIC: [u8; 8] = *b"WAYRECF\n";
/// The version that this code writes and reads.
pub const VERSION: u32 = 1;
/// What these files have in common with others.
pub const FORM: Form = Form { magic: MAGIC, version: VERSION, name: "record" };
pub const TRAILER_BYTES: usize = 48;
/// Entries of one page of the index, but for the last: as many as fill 4 KiB.
pub const INDEX_PAGE_ENTRIES: usize = 341;
pub const INDEX_ENTRY_BYTES: usize = 12;
const FOOTER_HEAD_BYTES: usize = 8;
const BLOCK_REF_BYTES: usize = 32;
const PAGE_REF_BYTES: usize = 24;

/// Where a block is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockRef {
    /// The key of the first thing in it.
    pub first: u128,
    /// Where in the file it begins.
    pub offset: u64,
    /// Its length.
    pub bytes: u32,
    /// Its checksum.
    pub crc: u32,
}

/// Where a page of the index is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageRef {
    /// The first hash in it.
    pub first: u64,
    /// Where in the file it begins.
    pub offset: u64,
    /// Its entries.
    pub entries: u32,
    /// Its checksum.
    pub crc: u32,
}

/// Where blocks and pages are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Footer {
    /// By first key.
    pub blocks: Vec<BlockRef>,
    /// By first hash.
    pub pages: Vec<PageRef>,
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
    /// Where the writer's bytes begin.
    pub meta_offset: u64,
    /// Their length.
    pub meta_bytes: u32,
    /// Their checksum.
    pub meta_crc: u32,
    /// The file's id.
    pub id: u32,
}

/// The header of a file.
pub fn encode_header(id: u32) -> [u8; HEADER_BYTES] {
    FORM.encode_header(id)
}

/// Reads the header of a file; gives its id.
pub fn decode_header(bytes: &[u8]) -> Result<u32, LayoutError> {
    FORM.decode_header(bytes)
}

impl Trailer {
    /// The trailer's bytes.
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        bytes[..8].copy_from_slice(&self.footer_offset.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.footer_bytes.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.footer_crc.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.meta_offset.to_le_bytes());
        bytes[24..28].copy_from_slice(&self.meta_bytes.to_le_bytes());
        bytes[28..32].copy_from_slice(&self.meta_crc.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.id.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..36]);
        bytes[36..40].copy_from_slice(&crc.to_le_bytes());
        bytes[40..48].copy_from_slice(&TRAILER_MAGIC);
        bytes
    }

    /// Reads the trailer of a file of `file_bytes`.
    pub fn decode(bytes: &[u8], file_bytes: u64) -> Result<Trailer, LayoutError> {
        let bytes = bytes.get(..TRAILER_BYTES).ok_or(LayoutError::TooShort)?;
        if bytes[40..48] != TRAILER_MAGIC {
            return Err(LayoutError::Magic(FORM.name));
        }
        if crc32c::crc32c(&bytes[..36]) != u32_at(bytes, 36) {
            return Err(LayoutError::Checksum);
        }
        let trailer = Trailer {
            footer_offset: u64_at(bytes, 0),
            footer_bytes: u32_at(bytes, 8),
            footer_crc: u32_at(bytes, 12),
            meta_offset: u64_at(bytes, 16),
            meta_bytes: u32_at(bytes, 24),
            meta_crc: u32_at(bytes, 28),
            id: u32_at(bytes, 32),
        };
        let end = |offset: u64, bytes: u32| offset.checked_add(u64::from(bytes));
        let footer_end = end(trailer.footer_offset, trailer.footer_bytes);
        let fits = trailer.meta_offset >= HEADER_BYTES as u64
            && trailer.meta_bytes as usize <= RECORD_META_BYTES_MAX
            && trailer.footer_bytes as usize <= RECORD_FOOTER_BYTES_MAX
            && end(trailer.meta_offset, trailer.meta_bytes) == Some(trailer.footer_offset)
            && footer_end.and_then(|end| end.checked_add(TRAILER_BYTES as u64)) == Some(file_bytes);
        if fits { Ok(trailer) } else { Err(LayoutError::Contradiction) }
    }
}

impl Footer {
    /// The footer's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let bytes =
            FOOTER_HEAD_BYTES + self.blocks.len() * BLOCK_REF_BYTES + self.pages.len() * PAGE_REF_BYTES;
        let mut out = Vec::with_capacity(bytes);
        out.extend_from_slice(&(self.blocks.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.pages.len() as u32).to_le_bytes());
        for block in &self.blocks {
            out.extend_from_slice(&block.first.to_le_bytes());
            out.extend_from_slice(&block.offset.to_le_bytes());
            out.extend_from_slice(&block.bytes.to_le_bytes());
            out.extend_from_slice(&block.crc.to_le_bytes());
        }
        for page in &self.pages {
            out.extend_from_slice(&page.first.to_le_bytes());
            out.extend_from_slice(&page.offset.to_le_bytes());
            out.extend_from_slice(&page.entries.to_le_bytes());
            out.extend_from_slice(&page.crc.to_le_bytes());
        }
        out
    }

    /// Reads a footer of a file whose blocks and pages end at `end`, and checks that what it says can be.
    pub fn decode(bytes: &[u8], end: u64) -> Result<Footer, LayoutError> {
        if bytes.len() < FOOTER_HEAD_BYTES {
            return Err(LayoutError::TooShort);
        }
        let (blocks, pages) = (u32_at(bytes, 0) as usize, u32_at(bytes, 4) as usize);
        let expected = blocks as u64 * BLOCK_REF_BYTES as u64 + pages as u64 * PAGE_REF_BYTES as u64;
        if expected != (bytes.len() - FOOTER_HEAD_BYTES) as u64 {
            return Err(LayoutError::Contradiction);
        }
        let (block_bytes, page_bytes) = bytes[FOOTER_HEAD_BYTES..].split_at(blocks * BLOCK_REF_BYTES);
        let footer = Footer {
            blocks: block_bytes.chunks_exact(BLOCK_REF_BYTES).map(decode_block).collect(),
            pages: page_bytes.chunks_exact(PAGE_REF_BYTES).map(decode_page).collect(),
        };
        if footer.holds(end) { Ok(footer) } else { Err(LayoutError::Contradiction) }
    }

    fn holds(&self, end: u64) -> bool {
        let within = |offset: u64, bytes: u64| {
            offset >= HEADER_BYTES as u64 && offset.checked_add(bytes).is_some_and(|to| to <= end)
        };
        let block = |block: &BlockRef| {
            block.bytes as usize <= RECORD_BLOCK_BYTES_MAX && within(block.offset, block.bytes.into())
        };
        let page = |page: &PageRef| {
            page.entries as usize <= INDEX_PAGE_ENTRIES
                && within(page.offset, u64::from(page.entries) * INDEX_ENTRY_BYTES as u64)
        };
        self.blocks.iter().all(block)
            && self.pages.iter().all(page)
            && self.blocks.is_sorted_by_key(|block| block.first)
            && self.pages.is_sorted_by_key(|page| page.first)
    }
}

fn decode_block(bytes: &[u8]) -> BlockRef {
    let first = u128::from(u64_at(bytes, 0)) | u128::from(u64_at(bytes, 8)) << 64;
    BlockRef { first, offset: u64_at(bytes, 16), bytes: u32_at(bytes, 24), crc: u32_at(bytes, 28) }
}

fn decode_page(bytes: &[u8]) -> PageRef {
    PageRef {
        first: u64_at(bytes, 0),
        offset: u64_at(bytes, 8),
        entries: u32_at(bytes, 16),
        crc: u32_at(bytes, 20),
    }
}
