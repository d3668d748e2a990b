//! How large the parts of the journal may get, each bound named with its unit last.

/// The unit of buffers, file headers and, by default, group frames.
pub const PAGE_BYTES: usize = 4096;
/// Bytes that are written through the page cache after somebody has read who was not up to date: he will come to them.
pub const CACHED_AFTER_READ_BYTES: u64 = 64 << 20;
/// Group frames start at multiples of this and are as long; recovery looks for frames in these steps.
pub const FRAME_STEP_BYTES: usize = 64;
/// Bytes of one group frame: header, entries and padding.
pub const GROUP_BYTES_MAX: usize = 64 << 20;
/// An open group of this many bytes asks the caller to stop feeding for a while.
pub const GROUP_BYTES_SOFT: usize = 8 << 20;
/// An open group of this many bytes takes no further unit; the rest is room for one unit of full size.
pub const GROUP_BYTES_REFUSE: usize = 16 << 20;
/// Bytes of the entries that are appended as one unit.
pub const UNIT_BYTES_MAX: usize = 44 << 20;
/// Bytes of the payload of one entry.
pub const ENTRY_BYTES_MAX: usize = 40 << 20;
/// Bytes of all file positions that one data directory may ever use: far from where offsets would overflow.
pub const POSITION_MAX: u64 = 1 << 62;
/// Bytes of a snapshot's payload.
pub const SNAPSHOT_BYTES_MAX: u64 = 1 << 36;
/// Bytes of one batch in a settled file.
pub const SETTLED_BATCH_BYTES_MAX: usize = 40 << 20;
/// Bytes of the footer of one settled file.
pub const SETTLED_FOOTER_BYTES_MAX: usize = 256 << 20;
/// One index entry of a settled run covers at least this many bytes.
pub const SETTLED_INDEX_STEP_BYTES: u64 = 64 << 10;
/// Bytes of one block of a record file.
pub const RECORD_BLOCK_BYTES_MAX: usize = 4 << 20;
/// Bytes of the footer of one record file.
pub const RECORD_FOOTER_BYTES_MAX: usize = 64 << 20;
/// Bytes of what the writer of a record file puts beside the blocks.
pub const RECORD_META_BYTES_MAX: usize = 16 << 20;

// A unit of full size fits into a group that just did not refuse it, with header and padding.
const _: () = assert!(GROUP_BYTES_REFUSE + UNIT_BYTES_MAX + 2 * PAGE_BYTES <= GROUP_BYTES_MAX);
const _: () = assert!(ENTRY_BYTES_MAX + PAGE_BYTES <= UNIT_BYTES_MAX);
