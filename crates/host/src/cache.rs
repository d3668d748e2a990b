//! What of the stored bytes is still in memory: the newest commit groups, and what was read last.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use waystation_base::{Offset, Position, batch};
use waystation_broker::place::{LogId, Place};

use crate::{loader::PIECE_BYTES, scan};

/// The newest durable commit groups, in order of position, without gaps.
#[derive(Debug)]
pub(crate) struct TailCache {
    groups: VecDeque<(Position, Bytes)>,
    bytes: usize,
    bytes_max: usize,
}

impl TailCache {
    pub(crate) fn new(bytes_max: usize) -> TailCache {
        TailCache { groups: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Adds the group that begins at `start`; the oldest ones go when there are too many bytes.
    pub(crate) fn add(&mut self, start: Position, group: Bytes) {
        self.bytes += group.len();
        self.groups.push_back((start, group));
        while self.bytes > self.bytes_max {
            let Some((_, oldest)) = self.groups.pop_front() else { break };
            self.bytes -= oldest.len();
        }
    }

    /// The rest of the group that holds `position`, from there on, and the bytes of the whole group.
    pub(crate) fn from(&self, position: Position) -> Option<(Bytes, usize)> {
        let at = self.groups.partition_point(|(start, _)| *start <= position).checked_sub(1)?;
        let (start, group) = &self.groups[at];
        let from = (position.0 - start.0) as usize;
        (from < group.len()).then(|| (group.slice(from..), group.len()))
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Everything that is still in memory, and how far the journal is durable.
pub(crate) struct Memory {
    pub(crate) tail: TailCache,
    pub(crate) blocks: Arc<Mutex<BlockCache>>,
    pub(crate) durable: Position,
}

/// Whether a batch is in memory.
#[derive(Debug)]
pub(crate) enum Found {
    /// It is: its bytes, and those of the memory that they keep.
    Batch(Bytes, usize),
    /// It is on its way to the disk and will be in memory then.
    NotYet,
    /// It must be read.
    Cold,
}

impl Memory {
    /// Looks for the batch of a log that holds `offset`.
    pub(crate) fn find(&self, place: Place, log: LogId, offset: Offset) -> Found {
        if let Place::Journal(position) = place {
            if position >= self.durable {
                return Found::NotYet;
            }
            if let Some((bytes, kept)) = self.tail.from(position) {
                return whole(bytes, kept);
            }
        }
        let blocks = self.blocks.lock().unwrap_or_else(PoisonError::into_inner);
        let found = blocks.find(place, log, offset);
        drop(blocks);
        found.map_or(Found::Cold, |(bytes, kept)| whole(bytes, kept))
    }

    /// Bytes in use.
    pub(crate) fn bytes(&self) -> usize {
        self.tail.bytes() + self.blocks.lock().unwrap_or_else(PoisonError::into_inner).bytes()
    }
}

fn whole(bytes: Bytes, kept: usize) -> Found {
    scan::batch_at_front(&bytes).map_or(Found::Cold, |batch| Found::Batch(batch, kept))
}

/// A stretch of bytes that was read from disk.
#[derive(Clone, Debug)]
pub(crate) enum Block {
    /// The journal from a position on, not checked.
    Journal(Position, Bytes),
    /// One checked batch of a settled file.
    Settled(u32, LogId, Offset, Offset, Bytes),
}

impl Block {
    fn len(&self) -> usize {
        let (Block::Journal(_, bytes) | Block::Settled(.., bytes)) = self;
        bytes.len()
    }
}

/// The blocks that were read last: a load looks at a message, and the delivery that follows wants its body.
#[derive(Debug, Default)]
pub(crate) struct BlockCache {
    /// By where they begin, with the number of the read.
    journal: BTreeMap<Position, (u64, Bytes)>,
    /// By file, log and first offset; with the last offset.
    settled: BTreeMap<(u32, LogId, Offset), (u64, Offset, Bytes)>,
    /// The numbers of reads, oldest first. What was read again has a later number than here.
    order: VecDeque<(u64, Key)>,
    reads: u64,
    bytes: usize,
}

/// Where a block begins.
#[derive(Clone, Copy, Debug)]
enum Key {
    Journal(Position),
    Settled(u32, LogId, Offset),
}

/// Blocks that are kept.
const BLOCKS_MAX: usize = 1_024;
/// Bytes of them; one at least is kept.
const BLOCKS_BYTES_MAX: usize = 8 << 20;

impl BlockCache {
    pub(crate) fn add(&mut self, block: Block) {
        self.reads += 1;
        self.bytes += block.len();
        let (key, before) = match block {
            Block::Journal(start, bytes) => {
                let before = self.journal.insert(start, (self.reads, bytes));
                (Key::Journal(start), before.map(|(_, bytes)| bytes))
            }
            Block::Settled(file, log, first, last, bytes) => {
                let before = self.settled.insert((file, log, first), (self.reads, last, bytes));
                (Key::Settled(file, log, first), before.map(|(.., bytes)| bytes))
            }
        };
        self.bytes -= before.map_or(0, |bytes| bytes.len());
        self.order.push_back((self.reads, key));
        while self.order.len() > 1 && (self.order.len() > BLOCKS_MAX || self.bytes > BLOCKS_BYTES_MAX) {
            self.let_go_of_oldest();
        }
    }

    fn let_go_of_oldest(&mut self) {
        let Some((read, key)) = self.order.pop_front() else { return };
        let bytes = match key {
            Key::Journal(start) if self.journal.get(&start).is_some_and(|block| block.0 == read) => {
                self.journal.remove(&start).map(|(_, bytes)| bytes)
            }
            Key::Settled(file, log, first)
                if self.settled.get(&(file, log, first)).is_some_and(|block| block.0 == read) =>
            {
                self.settled.remove(&(file, log, first)).map(|(.., bytes)| bytes)
            }
            _ => None,
        };
        self.bytes -= bytes.map_or(0, |bytes| bytes.len());
    }

    /// Bytes from the place of a log's batch on that holds `offset`, and the bytes of the whole block.
    pub(crate) fn find(&self, place: Place, log: LogId, offset: Offset) -> Option<(Bytes, usize)> {
        match place {
            Place::Journal(position) => {
                // A block may end in the middle of a batch: another one may have it whole.
                let from = Position(position.0.saturating_sub(PIECE_BYTES as u64));
                self.journal.range(from..=position).rev().find_map(|(start, (_, bytes))| {
                    let rest = bytes.get((position.0 - start.0) as usize..)?;
                    let whole = batch::Header::read(rest).is_ok();
                    whole.then(|| (bytes.slice_ref(rest), bytes.len()))
                })
            }
            Place::Settled(file) => {
                let (key, (_, last, bytes)) = self.settled.range(..=(file, log, offset)).next_back()?;
                let holds = (key.0, key.1) == (file, log) && offset <= *last;
                holds.then(|| (bytes.clone(), bytes.len()))
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::{EntityId, Message, Millis};

    use super::*;

    fn batch() -> Vec<u8> {
        let (mut out, mut scratch) = (Vec::new(), batch::Scratch::default());
        let mut encoder = batch::Encoder::new(&mut out, &mut scratch, Offset(0), Millis(1));
        encoder.push(Offset(0), &Message::default());
        encoder.finish();
        out
    }

    #[test]
    fn the_newest_groups_are_found_by_any_position_in_them() {
        let mut cache = TailCache::new(300);
        for n in 0..5u64 {
            cache.add(Position(n * 100), Bytes::from(vec![n as u8; 100]));
        }
        assert_eq!(cache.bytes(), 300);
        assert_eq!(cache.from(Position(199)), None);
        assert_eq!(cache.from(Position(500)), None);
        for position in [200, 299, 300, 499] {
            let (bytes, whole) = cache.from(Position(position)).expect("kept");
            assert_eq!((bytes[0], bytes.len()), ((position / 100) as u8, 100 - position as usize % 100));
            assert_eq!(whole, 100);
        }
    }

    #[test]
    fn a_group_larger_than_the_cache_is_not_kept() {
        let mut cache = TailCache::new(50);
        cache.add(Position(0), Bytes::from(vec![1; 51]));
        assert_eq!((cache.bytes(), cache.from(Position(0))), (0, None));
    }

    #[test]
    fn blocks_are_found_by_place_log_and_offset_until_there_are_too_many() {
        let log = LogId { entity: EntityId(1), log: 2 };
        let mut cache = BlockCache::default();
        cache.add(Block::Settled(3, log, Offset(10), Offset(19), Bytes::from_static(b"batch")));
        let batch = batch();
        let block: Vec<u8> = [b"abc", &batch[..], b"def"].concat();
        cache.add(Block::Journal(Position(1000), Bytes::from(block.clone())));
        cache.add(Block::Journal(Position(990), Bytes::from([b"0123456789abc", &batch[..10]].concat())));
        let find = |cache: &BlockCache, place, log, offset| {
            cache.find(place, log, Offset(offset)).map(|found| found.0)
        };
        assert_eq!(find(&cache, Place::Settled(3), log, 19).as_deref(), Some(&b"batch"[..]));
        assert_eq!(find(&cache, Place::Settled(3), log, 20), None);
        assert_eq!(find(&cache, Place::Settled(4), log, 15), None);
        assert_eq!(find(&cache, Place::Settled(3), LogId { entity: EntityId(1), log: 3 }, 15), None);
        assert_eq!(find(&cache, Place::Journal(Position(1003)), log, 0).as_deref(), Some(&block[3..]));
        assert_eq!(find(&cache, Place::Journal(Position(1004)), log, 0), None);
        for n in 0..BLOCKS_MAX as u64 {
            cache.add(Block::Journal(Position(5000 + n), Bytes::from_static(b"x")));
        }
        assert_eq!(find(&cache, Place::Settled(3), log, 15), None);
        cache.add(Block::Journal(Position(9000), Bytes::from(vec![0; BLOCKS_BYTES_MAX + 1])));
        assert_eq!(cache.bytes(), BLOCKS_BYTES_MAX + 1);
    }

    #[test]
    fn a_block_that_is_read_again_is_kept_from_then_on_and_counted_once() {
        let log = LogId { entity: EntityId(1), log: 2 };
        let mut cache = BlockCache::default();
        let settled = || Block::Settled(3, log, Offset(10), Offset(19), Bytes::from_static(b"batch"));
        cache.add(settled());
        (1..BLOCKS_MAX as u64).for_each(|n| cache.add(Block::Journal(Position(n), Bytes::from_static(b"x"))));
        cache.add(settled());
        assert_eq!(cache.bytes(), 5 + BLOCKS_MAX - 1);
        cache.add(Block::Journal(Position(1), Bytes::from_static(b"yy")));
        assert!(cache.find(Place::Settled(3), log, Offset(10)).is_some());
        assert_eq!(cache.bytes(), 5 + BLOCKS_MAX - 1 - 1 + 2);
    }
}
