//! How bytes are kept page-aligned in memory without `unsafe`, and used again.
//!
//! Copies between a user buffer and the page cache are several times slower on some processors when both sides
//! differ slightly modulo the page size. So every large buffer is over-allocated by a page and used from the
//! byte on whose address agrees with the file offset.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use waystation_base::disk::File;

use crate::limits::PAGE_BYTES;

/// Bytes to skip in `bytes` so that its address agrees with `offset` modulo the page size.
pub(crate) fn lead(bytes: &[u8], offset: u64) -> usize {
    let address = bytes.as_ptr() as usize;
    (offset as usize).wrapping_sub(address) % PAGE_BYTES
}

/// A buffer for reads, as aligned as the file offset that it is filled from.
#[derive(Debug, Default)]
pub(crate) struct ReadBuffer {
    bytes: Vec<u8>,
}

impl ReadBuffer {
    /// `length` bytes to read into from `offset`; what they hold before is of no meaning.
    pub(crate) fn slice(&mut self, offset: u64, length: usize) -> (usize, &mut [u8]) {
        if self.bytes.len() < length + PAGE_BYTES {
            self.bytes = vec![0; length + PAGE_BYTES];
        }
        let lead = lead(&self.bytes, offset);
        (lead, &mut self.bytes[lead..lead + length])
    }

    /// The bytes of an earlier [`ReadBuffer::slice`].
    pub(crate) fn filled(&self, lead: usize, length: usize) -> &[u8] {
        &self.bytes[lead..lead + length]
    }
}

/// `length` bytes of a file from `offset` on, in memory as aligned as they are in the file.
pub(crate) fn read(file: &dyn File, offset: u64, length: usize) -> io::Result<Bytes> {
    let mut bytes = Vec::with_capacity(length + PAGE_BYTES);
    let lead = lead(&bytes, offset);
    bytes.resize(lead, 0);
    file.append_exact_at(&mut bytes, length, offset)?;
    Ok(Bytes::from(bytes).slice(lead..))
}

/// The same of a file past the page cache, in whole pages: it has to reach to the end of the last one.
pub(crate) fn read_pages(file: &dyn File, offset: u64, length: usize) -> io::Result<Bytes> {
    let skipped = offset as usize % PAGE_BYTES;
    let whole = (skipped + length).next_multiple_of(PAGE_BYTES);
    let mut bytes = Vec::with_capacity(whole + PAGE_BYTES);
    let lead = lead(&bytes, 0);
    bytes.resize(lead + whole, 0);
    file.read_exact_at(&mut bytes[lead..], offset - skipped as u64)?;
    Ok(Bytes::from(bytes).slice(lead + skipped..lead + skipped + length))
}

/// Write buffers that wait for their next use.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    free: Mutex<Free>,
}

#[derive(Debug, Default)]
struct Free {
    /// The one that came last is at the back.
    buffers: VecDeque<Vec<u8>>,
    /// Bytes of them.
    bytes: usize,
    /// What buffers have held lately: up at once, down slowly.
    typical_bytes: usize,
}

impl BufferPool {
    const BYTES_MAX: usize = 40 << 20;
    /// Buffers that are looked at for one that fits.
    const LOOKS_MAX: usize = 64;

    fn free(&self) -> MutexGuard<'_, Free> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An empty buffer with room for what buffers have held lately, and not for much more: one that is mostly empty
    /// would have to be copied to be kept.
    pub(crate) fn take(&self) -> Vec<u8> {
        let mut free = self.free();
        let wanted = free.typical_bytes + free.typical_bytes / 4;
        let newest = free.buffers.iter().enumerate().rev().take(Self::LOOKS_MAX);
        let fitting = newest
            .filter(|(_, buffer)| (wanted..=wanted + free.typical_bytes / 2).contains(&buffer.capacity()));
        let at = fitting.map(|(at, _)| at).next();
        let Some(buffer) = at.and_then(|at| free.buffers.remove(at)) else {
            return Vec::with_capacity(wanted);
        };
        free.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps a buffer for later; those that came first go when there are too many bytes.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut free = self.free();
        free.bytes += buffer.capacity();
        free.buffers.push_back(buffer);
        while free.bytes > Self::BYTES_MAX {
            let oldest = free.buffers.pop_front().expect("there are bytes, so there are buffers");
            free.bytes -= oldest.capacity();
        }
    }

    /// Notes that a buffer held so much.
    fn held(&self, bytes: usize) {
        let mut free = self.free();
        free.typical_bytes = bytes.max(free.typical_bytes - free.typical_bytes / 8);
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.free().buffers.is_empty()
    }

    /// Gives all memory back.
    pub(crate) fn clear(&self) {
        *self.free() = Free::default();
    }
}

/// A range of a buffer that goes back to its pool with the last reference to it.
struct Lent {
    buffer: Vec<u8>,
    from: usize,
    pool: Arc<BufferPool>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer[self.from..]
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.pool.give(std::mem::take(&mut self.buffer));
    }
}

/// The bytes of `buffer` from `from` on, to be kept as long as anybody likes.
///
/// A buffer that is mostly empty is copied and used again at once, so that what is kept costs what it holds.
pub(crate) fn share(buffer: Vec<u8>, from: usize, pool: &Arc<BufferPool>) -> Bytes {
    let used = buffer.len() - from;
    pool.held(buffer.len());
    if used < buffer.capacity() / 2 {
        let copy = Bytes::copy_from_slice(&buffer[from..]);
        pool.give(buffer);
        return copy;
    }
    Bytes::from_owner(Lent { buffer, from, pool: pool.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_buffer_agrees_with_the_file_offset() {
        let mut buffer = ReadBuffer::default();
        for offset in [0, 1, 4095, 4096, 123_456] {
            let (_, slice) = buffer.slice(offset, 10_000);
            assert_eq!(slice.as_ptr() as u64 % 4096, offset % 4096);
            assert_eq!(slice.len(), 10_000);
        }
    }

    /// A buffer of `capacity` that holds `used` bytes.
    fn buffer(capacity: usize, used: usize) -> Vec<u8> {
        let mut buffer = Vec::with_capacity(capacity);
        buffer.resize(used, 7);
        buffer
    }

    #[test]
    fn a_shared_buffer_comes_back_when_the_last_slice_goes() {
        let pool = Arc::new(BufferPool::default());
        let bytes = share(buffer(1250, 900), 100, &pool);
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert!(pool.is_empty());
        assert_eq!(slice.as_ref(), [7; 10]);
        drop(slice);
        assert!(!pool.is_empty());
        assert_eq!((pool.take().capacity(), pool.is_empty()), (1250, true));
    }

    #[test]
    fn a_mostly_empty_buffer_is_not_kept_by_what_it_held() {
        let pool = Arc::new(BufferPool::default());
        let bytes = share(buffer(10_000, 100), 0, &pool);
        assert_eq!(bytes.len(), 100);
        assert!(!pool.is_empty());
    }

    #[test]
    fn a_buffer_is_as_large_as_was_used_lately_and_not_much_larger() {
        let pool = Arc::new(BufferPool::default());
        drop(share(buffer(8000, 8000), 0, &pool));
        assert_eq!(pool.take().capacity(), 10_000, "8,000 would have to grow");
        drop(share(buffer(12_000, 8000), 0, &pool));
        assert_eq!(pool.take().capacity(), 12_000);
        for _ in 0..40 {
            drop(share(buffer(1000, 1000), 0, &pool));
        }
        assert_eq!(pool.take().capacity(), 1250);
    }

    #[test]
    fn the_oldest_buffers_go_when_there_are_too_many_bytes() {
        let pool = BufferPool::default();
        let whole = BufferPool::BYTES_MAX;
        pool.give(Vec::with_capacity(1));
        pool.give(Vec::with_capacity(whole - 1));
        let held = |pool: &BufferPool| {
            let free = pool.free();
            (free.buffers.len(), free.bytes)
        };
        assert_eq!(held(&pool), (2, whole));
        pool.give(Vec::with_capacity(1));
        assert_eq!(held(&pool), (2, whole));
        pool.give(Vec::with_capacity(whole + 1));
        assert!(pool.is_empty());
    }
}
