//! How bytes are kept page-aligned in memory without `unsafe`, and used again.
//!
//! Copies between a user buffer and the page cache are several times slower on some processors when both sides
//! differ slightly modulo the page size. So every large buffer is over-allocated by a page and used from the
//! byte on whose address agrees with the file offset.

use std::sync::{Arc, Mutex, PoisonError};

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

/// Write buffers that wait for their next use.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    free: Mutex<Vec<Vec<u8>>>,
}

impl BufferPool {
    const BYTES_MAX: usize = 40 << 20;

    /// An empty buffer, with room if there is one.
    pub(crate) fn take(&self) -> Vec<u8> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).pop().unwrap_or_default()
    }

    /// Keeps a buffer for later, unless enough are kept.
    pub(crate) fn give(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut free = self.free.lock().unwrap_or_else(PoisonError::into_inner);
        let held: usize = free.iter().map(Vec::capacity).sum();
        if held + buffer.capacity() <= Self::BYTES_MAX {
            free.push(buffer);
        }
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).is_empty()
    }

    /// Gives all memory back.
    pub(crate) fn clear(&self) {
        self.free.lock().unwrap_or_else(PoisonError::into_inner).clear();
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
pub(crate) fn share(buffer: Vec<u8>, from: usize, pool: &Arc<BufferPool>) -> bytes::Bytes {
    let used = buffer.len() - from;
    if used < buffer.capacity() / 2 {
        let copy = bytes::Bytes::copy_from_slice(&buffer[from..]);
        pool.give(buffer);
        return copy;
    }
    bytes::Bytes::from_owner(Lent { buffer, from, pool: pool.clone() })
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

    #[test]
    fn a_shared_buffer_comes_back_when_the_last_slice_goes() {
        let pool = Arc::new(BufferPool::default());
        let mut buffer = Vec::with_capacity(1000);
        buffer.resize(900, 7);
        let bytes = share(buffer, 100, &pool);
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert_eq!(pool.take().capacity(), 0);
        assert_eq!(slice.as_ref(), [7; 10]);
        drop(slice);
        assert_eq!(pool.take().capacity(), 1000);
    }

    #[test]
    fn a_mostly_empty_buffer_is_not_kept_by_what_it_held() {
        let pool = Arc::new(BufferPool::default());
        let mut buffer = Vec::with_capacity(10_000);
        buffer.resize(100, 7);
        let bytes = share(buffer, 0, &pool);
        assert_eq!(bytes.len(), 100);
        assert_eq!(pool.take().capacity(), 10_000);
    }
}
