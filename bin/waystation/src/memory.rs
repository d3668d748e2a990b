//! How much memory does the server use, from when on is that too much, and how is some given back?
//!
//! The one place with unsafe code: the allocator's C function that gives memory back has no safe counterpart in its crate.
//! mimalloc keeps what is freed for a second and gives it back beside later allocations. While publishing is refused there may
//! be none, and memory that was freed long ago would keep publishing refused.

use std::{io, sync::Arc};

use waystation_base::{
    memory::Memory,
    os::{OsMemory, memory_bytes_max},
};
use waystation_host::MemoryBound;

use crate::config::Limits;

/// What of the memory that it may have the server uses at most before it refuses what is published, unless told otherwise.
const HIGH_PERCENT: u64 = 60;

#[allow(unsafe_code, reason = "declares a function of the allocator that any thread may call at any time")]
mod allocator {
    unsafe extern "C" {
        /// `mi_collect` of mimalloc.h: gives back what the calling thread keeps and what of all threads was freed more than a
        /// moment ago; with `force`, everything that can be, which takes longer.
        pub safe fn mi_collect(force: bool);
    }
}

/// The memory of this process, which mimalloc manages.
#[derive(Debug)]
struct ServerMemory;

impl Memory for ServerMemory {
    fn used_bytes(&self) -> io::Result<u64> {
        OsMemory.used_bytes()
    }

    fn give_back(&self) {
        allocator::mi_collect(false);
    }
}

/// The bound as configured.
pub fn bound(limits: &Limits) -> Arc<MemoryBound> {
    Arc::new(MemoryBound::new(Arc::new(ServerMemory), high_bytes(limits)))
}

/// Bytes from which on publishing is refused; 0: never.
pub fn high_bytes(limits: &Limits) -> u64 {
    limits.memory_high_bytes.unwrap_or_else(|| memory_bytes_max() / 100 * HIGH_PERCENT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_what_is_configured_or_a_part_of_what_there_is() {
        let limits = |memory_high_bytes| Limits { memory_high_bytes, ..Limits::default() };
        assert_eq!(high_bytes(&limits(Some(0))), 0);
        assert_eq!(high_bytes(&limits(Some(5))), 5);
        let most = memory_bytes_max();
        let part = high_bytes(&limits(None));
        assert!(most / 2 < part && part < most, "{part} of {most}");
    }

    #[test]
    fn what_was_freed_can_be_given_back_at_any_time() {
        let used = ServerMemory.used_bytes().expect("Linux");
        assert!(used > 0);
        drop(vec![1_u8; 8 << 20]);
        ServerMemory.give_back();
    }
}
