//! Ids that count up from one another, as doors give them, are found together: so that a thousand messages that come at once
//! cost a few entries of the index.

use std::ops::Range;

use waystation_base::MessageId;
use xxhash_rust::xxh3::xxh3_64;

/// What all ids of a run have in common: all but the last byte, which counts up.
fn common(id: MessageId) -> u128 {
    id.0.as_u128() >> 8
}

/// What the ids of a run are found by.
pub(crate) fn hash_of_run(id: MessageId) -> u64 {
    xxh3_64(&common(id).to_le_bytes())
}

/// Where runs begin, in the order in which ids were added.
#[derive(Debug)]
pub(crate) struct Runs {
    /// Hashes with the number from which on their ids are.
    entries: Vec<(u64, u32)>,
    last: Option<(u128, u32)>,
    /// How many numbers an entry is good for.
    reach: u32,
}

/// Numbers for which an entry is good, unless told otherwise.
const REACH: u32 = 256;

impl Default for Runs {
    fn default() -> Runs {
        Runs::reaching(REACH)
    }
}

impl Runs {
    /// No ids. Those of an entry are found by `reach` numbers, from its own on.
    pub(crate) fn reaching(reach: u32) -> Runs {
        Runs { entries: Vec::new(), last: None, reach }
    }

    /// Adds an id with its number, which is no smaller than those before.
    #[inline]
    pub(crate) fn add(&mut self, id: MessageId, number: u32) {
        let common = common(id);
        if self.last.is_none_or(|(last, from)| last != common || number - from >= self.reach) {
            self.last = Some((common, number));
            self.entries.push((hash_of_run(id), number));
        }
    }

    /// Where ids of these runs, which are sorted, may be by their numbers: the newest first, and each number once for a run.
    pub(crate) fn find(&self, wanted: &[u64]) -> impl Iterator<Item = Range<u32>> {
        let mut before = vec![u32::MAX; wanted.len()];
        self.entries.iter().rev().filter_map(move |(hash, from)| {
            let before = &mut before[wanted.binary_search(hash).ok()?];
            let to = from.saturating_add(self.reach).min(*before);
            *before = *from;
            Some(*from..to)
        })
    }

    /// All entries.
    pub(crate) fn entries(&self) -> &[(u64, u32)] {
        &self.entries
    }

    /// Forgets the ids, and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.entries.clear();
        self.last = None;
    }

    /// Gives memory back that is not used.
    pub(crate) fn shrink(&mut self) {
        self.entries.shrink_to_fit();
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::Millis;

    use super::*;

    /// One in the last byte of an id.
    const ONE: u128 = 1 << 48;

    fn id(ms: u64, count: u128) -> MessageId {
        MessageId::new(Millis(ms), count * ONE)
    }

    fn found(runs: &Runs, id: MessageId) -> Vec<(u32, u32)> {
        runs.find(&[hash_of_run(id)]).map(|run| (run.start, run.end)).collect()
    }

    #[test]
    fn ids_that_count_up_are_one_entry_until_their_last_byte_is_full() {
        let mut runs = Runs::reaching(1_000);
        (0..512).for_each(|n| runs.add(id(1, n), n as u32));
        runs.add(id(2, 511), 512);
        let begins: Vec<u32> = runs.entries().iter().map(|(_, number)| *number).collect();
        assert_eq!(begins, [0, 256, 512]);
        assert_eq!(found(&runs, id(1, 300)), [(256, 1_256)]);
        assert_eq!(found(&runs, id(3, 0)), []);
    }

    #[test]
    fn an_entry_is_good_for_its_reach_and_no_further() {
        let mut runs = Runs::reaching(10);
        for number in [3, 12, 13] {
            runs.add(id(1, 7), number);
        }
        assert_eq!(found(&runs, id(1, 9)), [(13, 23), (3, 13)]);
    }

    #[test]
    fn runs_that_take_turns_are_all_found() {
        let mut runs = Runs::reaching(256);
        (0..100).for_each(|n| runs.add(id(u64::from(n % 2), n.into()), n));
        for n in 0..100u32 {
            let found = found(&runs, id(u64::from(n % 2), n.into()));
            assert_eq!(found.iter().filter(|(from, to)| (*from..*to).contains(&n)).count(), 1, "{n}");
        }
    }
}
