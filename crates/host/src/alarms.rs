//! Why is publishing refused: too little room on the disk, too much memory in use?

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use waystation_base::memory::Memory;
use waystation_broker::Refusal;

/// How far memory in use must fall below its bound, in percent of that, before publishing goes on: so that what one message
/// takes does not decide each time.
const EASE_PERCENT: u64 = 5;

/// What there is too little of. While there is, publishing is refused, and what makes room goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Alarms {
    /// The disk is nearly full.
    pub disk: bool,
    /// The process uses nearly as much memory as it may.
    pub memory: bool,
}

impl Alarms {
    /// Whether publishing is refused.
    pub fn any(self) -> bool {
        self.disk || self.memory
    }

    /// What a publisher is refused with; the disk goes first, for with none left the server ends.
    pub fn refusal(self) -> Option<Refusal> {
        match self {
            Alarms { disk: true, .. } => Some(Refusal::DiskLow),
            Alarms { memory: true, .. } => Some(Refusal::MemoryLow),
            _ => None,
        }
    }

    /// What an operator is told; none if nothing is wrong.
    pub fn told(self) -> Option<&'static str> {
        match (self.memory, self.disk) {
            (false, false) => None,
            (false, true) => Some("disk space is low: publishing is refused"),
            (true, false) => Some("memory is low: publishing is refused"),
            (true, true) => Some("memory and disk space are low: publishing is refused"),
        }
    }
}

/// How much memory may be in use before publishing is refused.
#[derive(Debug)]
pub struct MemoryBound {
    memory: Arc<dyn Memory>,
    high_bytes: AtomicU64,
}

impl MemoryBound {
    /// From `high_bytes` on publishing is refused; 0: never.
    pub fn new(memory: Arc<dyn Memory>, high_bytes: u64) -> MemoryBound {
        MemoryBound { memory, high_bytes: AtomicU64::new(high_bytes) }
    }

    /// The bound; 0: there is none.
    pub fn high_bytes(&self) -> u64 {
        self.high_bytes.load(Ordering::Relaxed)
    }

    /// Sets the bound: it holds from the next look on.
    pub fn set_high_bytes(&self, high_bytes: u64) {
        self.high_bytes.store(high_bytes, Ordering::Relaxed);
    }

    /// Bytes in use, and whether that is too much; `was_high` says whether it was at the look before. A system that does not
    /// say is taken to have enough.
    pub(crate) fn look(&self, was_high: bool) -> (u64, bool) {
        if was_high {
            self.memory.give_back();
        }
        let used_bytes = self.memory.used_bytes().unwrap_or(0);
        (used_bytes, is_high(used_bytes, self.high_bytes(), was_high))
    }
}

fn is_high(used_bytes: u64, high_bytes: u64, was_high: bool) -> bool {
    let ease_bytes = if was_high { high_bytes / 100 * EASE_PERCENT } else { 0 };
    high_bytes > 0 && used_bytes >= high_bytes - ease_bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_high_from_its_bound_on_until_it_is_well_below() {
        let check = |used_bytes, was_high, expected| {
            assert_eq!(is_high(used_bytes, 1000, was_high), expected, "{used_bytes} {was_high}");
        };
        check(999, false, false);
        check(1000, false, true);
        check(u64::MAX, false, true);
        check(1000, true, true);
        check(950, true, true);
        check(949, true, false);
        check(0, true, false);
    }

    #[test]
    fn without_a_bound_no_memory_is_too_much_and_the_largest_bound_can_be_reached() {
        assert!(!is_high(u64::MAX, 0, false));
        assert!(!is_high(u64::MAX, 0, true));
        assert!(is_high(u64::MAX, u64::MAX, false));
        assert!(is_high(u64::MAX, u64::MAX, true));
        assert!(is_high(1, 1, false));
        assert!(!is_high(0, 1, true));
    }

    #[test]
    fn what_is_told_names_all_that_is_low_and_the_refusal_the_worst() {
        let check = |disk, memory, told, refusal| {
            let alarms = Alarms { disk, memory };
            assert_eq!((alarms.told(), alarms.refusal()), (told, refusal));
            assert_eq!(alarms.any(), told.is_some());
        };
        check(false, false, None, None);
        check(true, false, Some("disk space is low: publishing is refused"), Some(Refusal::DiskLow));
        check(false, true, Some("memory is low: publishing is refused"), Some(Refusal::MemoryLow));
        let both = "memory and disk space are low: publishing is refused";
        check(true, true, Some(both), Some(Refusal::DiskLow));
    }
}
