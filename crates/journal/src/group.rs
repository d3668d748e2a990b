//! How entries are gathered in memory until they are written as one frame.

use bytes::Bytes;
use std::sync::Arc;
use waystation_base::Position;

use crate::{
    buffer::{self, BufferPool},
    contract::Epoch,
    layout::frame::{ENTRY_HEADER_BYTES, Frame, FrameHeader, HEADER_BYTES},
    limits::{ENTRY_BYTES_MAX, FRAME_STEP_BYTES, GROUP_BYTES_MAX, PAGE_BYTES},
};

/// An open commit group: a frame in the making, laid out in memory as it will be on disk.
///
/// Its start is known from the beginning, so every entry knows its position when it is pushed.
#[derive(Debug)]
pub struct Group {
    /// `lead` unused bytes, so that the frame agrees with its position modulo the page size; then the frame.
    buffer: Vec<u8>,
    lead: usize,
    start: Position,
    align_bytes: usize,
    entries: u32,
    too_large: bool,
    /// Bytes of the entries, once the group is sealed and takes no more.
    entry_bytes: Option<usize>,
    /// The CRC-32C of the bytes from the first entry up to `summed`.
    crc: u32,
    summed: usize,
}

/// A place in an open group to come back to.
#[derive(Clone, Copy, Debug)]
pub struct Mark {
    length: usize,
    entries: u32,
    too_large: bool,
}

impl Mark {
    /// Bytes of the group at the mark, its header included.
    pub fn length(&self) -> usize {
        self.length
    }
}

impl Group {
    const BUFFER_BYTES_MIN: usize = 16 << 10;
    /// The checksum goes over pieces of this size while they are still in the processor's cache.
    const SUM_BYTES: usize = 32 << 10;

    /// An empty group that begins at `start` and whose frame will be padded to a multiple of `align_bytes`.
    ///
    /// # Panics
    /// If `align_bytes` is not a power of two from [`FRAME_STEP_BYTES`] to [`PAGE_BYTES`], or `start` is not
    /// a multiple of [`FRAME_STEP_BYTES`].
    pub fn new(start: Position, align_bytes: usize) -> Group {
        Group::with_buffer(start, align_bytes, Vec::new())
    }

    /// Like [`Group::new`], in memory that was used before.
    pub(crate) fn with_buffer(start: Position, align_bytes: usize, mut buffer: Vec<u8>) -> Group {
        assert!(align_bytes.is_power_of_two() && (FRAME_STEP_BYTES..=PAGE_BYTES).contains(&align_bytes));
        assert!(start.0.is_multiple_of(FRAME_STEP_BYTES as u64), "frames start at multiples of the step");
        buffer.clear();
        buffer.reserve(Self::BUFFER_BYTES_MIN);
        let lead = buffer::lead(&buffer, start.0);
        buffer.resize(lead + HEADER_BYTES, 0);
        let (crc, summed) = (0, HEADER_BYTES);
        Group {
            buffer,
            lead,
            start,
            align_bytes,
            entries: 0,
            too_large: false,
            entry_bytes: None,
            crc,
            summed,
        }
    }

    /// The position of the frame's first byte.
    pub fn start(&self) -> Position {
        self.start
    }

    /// The position that the payload of the next entry will have.
    pub fn position(&self) -> Position {
        Position(self.start.0 + (self.len() + ENTRY_HEADER_BYTES) as u64)
    }

    /// The position after the frame as it would be written now, padding included.
    pub fn end(&self) -> Position {
        Position(self.start.0 + self.len().next_multiple_of(self.align_bytes) as u64)
    }

    /// Bytes so far, the header included.
    pub fn len(&self) -> usize {
        self.buffer.len() - self.lead
    }

    /// Whether no entry has been pushed.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Entries so far.
    pub fn entries(&self) -> u32 {
        self.entries
    }

    /// Whether an entry or the group has outgrown its limit; such a group must not be written.
    pub fn is_too_large(&self) -> bool {
        self.too_large
    }

    /// Appends one entry, whose payload `write` adds to the buffer's end, and returns the payload's position.
    ///
    /// # Panics
    /// If `write` takes bytes away that were there before.
    #[inline]
    pub fn push(&mut self, kind: u8, write: impl FnOnce(&mut Vec<u8>)) -> Position {
        debug_assert!(self.entry_bytes.is_none(), "a sealed group takes no more entries");
        let head = self.buffer.len();
        let payload = head + ENTRY_HEADER_BYTES;
        self.buffer.extend_from_slice(&[0, 0, 0, 0, kind]);
        write(&mut self.buffer);
        assert!(self.buffer.len() >= payload, "a payload only adds bytes");
        let length = self.buffer.len() - payload;
        self.buffer[head..head + 4].copy_from_slice(&(length as u32).to_le_bytes());
        self.entries += 1;
        self.too_large |= length > ENTRY_BYTES_MAX || self.len() > GROUP_BYTES_MAX - PAGE_BYTES;
        Position(self.start.0 + (payload - self.lead) as u64)
    }

    /// Where the group stands now.
    pub fn mark(&self) -> Mark {
        Mark { length: self.len(), entries: self.entries, too_large: self.too_large }
    }

    /// Continues the checksum over what is there to stay, if it is worth it: so that little is left to do when the
    /// disk waits for the group.
    pub(crate) fn sum(&mut self) {
        if self.len() - self.summed >= Self::SUM_BYTES {
            self.sum_up();
        }
    }

    fn sum_up(&mut self) {
        self.crc = crc32c::crc32c_append(self.crc, &self.buffer[self.lead + self.summed..]);
        self.summed = self.len();
    }

    /// Takes back every entry since `mark`.
    pub fn roll_back(&mut self, mark: Mark) {
        assert!(mark.length >= self.summed, "what was summed stays");
        self.buffer.truncate(self.lead + mark.length);
        self.entries = mark.entries;
        self.too_large = mark.too_large;
    }

    /// Pads the frame and writes its header and checksums: done by the journal on append, and again if that is.
    pub(crate) fn seal(&mut self, synced_through: Position, epoch: Epoch, salt: u64) {
        assert!(!self.too_large, "a group is sealed within its limits");
        let entry_bytes = *self.entry_bytes.get_or_insert(self.buffer.len() - self.lead - HEADER_BYTES);
        let length = self.len().next_multiple_of(self.align_bytes);
        self.buffer.resize(self.lead + length, 0);
        self.align();
        self.sum_up();
        let header = FrameHeader {
            void: false,
            length: length as u32,
            entries: self.entries,
            entry_bytes: entry_bytes as u32,
            start: self.start,
            synced_through,
            epoch,
            salt,
        };
        header.seal_with(self.crc, &mut self.buffer[self.lead..]);
    }

    /// Moves the frame if the buffer was moved while it grew: rare, because buffers are used again.
    fn align(&mut self) {
        let lead = buffer::lead(&self.buffer, self.start.0);
        if lead == self.lead {
            return;
        }
        let length = self.len();
        let mut moved = Vec::with_capacity(self.buffer.capacity() + PAGE_BYTES);
        let lead = buffer::lead(&moved, self.start.0);
        moved.resize(lead, 0);
        moved.extend_from_slice(&self.buffer[self.lead..]);
        debug_assert_eq!(moved.len(), lead + length);
        self.buffer = moved;
        self.lead = lead;
    }

    /// The whole frame, once sealed.
    pub(crate) fn frame(&self) -> &[u8] {
        assert!(self.entry_bytes.is_some(), "only a sealed group has a frame");
        &self.buffer[self.lead..]
    }

    /// The whole frame as bytes that can be kept; the memory goes back to the pool when they are dropped.
    pub(crate) fn into_bytes(self, pool: &Arc<BufferPool>) -> Bytes {
        buffer::share(self.buffer, self.lead, pool)
    }

    /// The entries of a whole frame as the committer hands it out, for those who keep groups.
    pub fn parse(frame: &[u8]) -> Result<Frame<'_>, crate::layout::frame::FrameError> {
        Frame::decode(frame)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layout::frame::FrameError;

    fn sealed(start: u64, align_bytes: usize) -> Group {
        let mut group = Group::new(Position(start), align_bytes);
        group.push(7, |b| b.extend_from_slice(b"hello"));
        group.push(9, |_| {});
        group.seal(Position(64), Epoch(3), 0x0102_0304_0506_0708);
        group
    }

    #[test]
    fn a_frame_has_these_bytes() {
        let mut golden = Vec::new();
        golden.extend_from_slice(b"WAYGROUP\x01\0\0\0");
        golden.extend_from_slice(&[128, 0, 0, 0, 2, 0, 0, 0, 15, 0, 0, 0]);
        golden.extend_from_slice(&[128, 0, 0, 0, 0, 0, 0, 0, 64, 0, 0, 0, 0, 0, 0, 0]);
        golden.extend_from_slice(&[3, 0, 0, 0, 0, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1]);
        golden.extend_from_slice(&[233, 130, 170, 71, 74, 42, 115, 11]);
        golden.extend_from_slice(b"\x05\0\0\0\x07hello\0\0\0\0\x09");
        golden.resize(128, 0);
        let group = sealed(128, 64);
        assert_eq!(group.frame(), golden);
    }

    #[test]
    fn every_changed_byte_of_a_frame_is_noticed() {
        let group = sealed(128, 64);
        for at in 0..group.frame().len() {
            let mut bytes = group.frame().to_vec();
            bytes[at] ^= 0x10;
            assert!(Frame::decode(&bytes).is_err(), "byte {at}");
        }
    }

    #[test]
    fn a_frame_cut_anywhere_is_too_short() {
        let group = sealed(128, 64);
        for length in 0..group.frame().len() {
            assert_eq!(Frame::decode(&group.frame()[..length]).expect_err("cut"), FrameError::TooShort);
        }
    }

    #[test]
    fn entries_come_back_with_their_positions() {
        let mut group = Group::new(Position(4096), 4096);
        assert!(group.is_empty());
        let expected = group.position();
        let first = group.push(7, |b| b.extend_from_slice(b"hello"));
        assert_eq!(first, expected);
        let second = group.push(8, |b| b.extend_from_slice(b"world"));
        assert_eq!((first, second), (Position(4096 + 69), Position(4096 + 79)));
        assert_eq!(group.end(), Position(8192));
        group.seal(Position(0), Epoch(0), 1);
        let frame = Frame::decode(group.frame()).expect("whole");
        let entries: Vec<_> = frame.entries().map(|e| e.expect("whole")).collect();
        assert_eq!(entries.len(), 2);
        assert_eq!((entries[0].position, entries[0].kind, entries[0].payload), (first, 7, &b"hello"[..]));
        assert_eq!((entries[1].position, entries[1].kind, entries[1].payload), (second, 8, &b"world"[..]));
        let at = (second.0 - 4096) as usize;
        assert_eq!(&group.frame()[at..at + 5], b"world");
    }

    #[test]
    fn a_frame_lies_in_memory_as_on_disk_even_after_it_grew() {
        for start in [0u64, 64, 4096 + 640] {
            let mut group = Group::new(Position(start), 64);
            for _ in 0..100 {
                group.push(1, |b| b.extend_from_slice(&[5; 10_000]));
            }
            group.seal(Position(0), Epoch(0), 1);
            assert_eq!(group.frame().as_ptr() as u64 % 4096, start % 4096);
            assert_eq!(Frame::decode(group.frame()).expect("whole").entries().count(), 100);
        }
    }

    #[test]
    fn a_rolled_back_group_is_as_before() {
        let mut group = Group::new(Position(0), 64);
        group.push(1, |b| b.push(1));
        let (mark, length) = (group.mark(), group.len());
        group.push(2, |b| b.resize(b.len() + ENTRY_BYTES_MAX + 1, 0));
        assert!(group.is_too_large());
        group.roll_back(mark);
        assert!(!group.is_too_large());
        assert_eq!((group.entries(), group.len()), (1, length));
    }

    #[test]
    fn an_entry_at_its_limit_fits_and_one_past_it_does_not() {
        let mut group = Group::new(Position(0), 64);
        let mark = group.mark();
        group.push(1, |b| b.resize(b.len() + ENTRY_BYTES_MAX, 0));
        assert!(!group.is_too_large());
        group.roll_back(mark);
        group.push(1, |b| b.resize(b.len() + ENTRY_BYTES_MAX + 1, 0));
        assert!(group.is_too_large());
    }
}
