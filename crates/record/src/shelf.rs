//! The record files that there are: written, found, and removed by age and size.

use std::{
    ops::Range,
    sync::{Arc, Mutex, PoisonError},
};

use waystation_base::{Millis, Position};
use waystation_journal::record::{Error, Store, Table, layout::LayoutError};

use crate::{
    HashMap,
    block::put_key,
    fact::{Place, published_id},
    meta::{Client, Gap, Head, Meta, VERSION},
    recent::Recent,
    runs::Runs,
};

/// Bytes of a block past which the next one begins.
const BLOCK_BYTES: usize = 16 << 10;
/// Files whose footers and names are kept in memory.
const OPEN_FILES_MAX: usize = 256;

/// What is known of a file without opening it.
#[derive(Clone, Debug)]
pub(crate) struct Summary {
    pub(crate) id: u32,
    pub(crate) bytes: u64,
    pub(crate) from: Position,
    pub(crate) to: Position,
    pub(crate) first: Millis,
    pub(crate) last: Millis,
    pub(crate) facts: u64,
    pub(crate) messages: u64,
    pub(crate) gaps: Vec<Gap>,
}

impl Summary {
    pub(crate) fn of(id: u32, bytes: u64, meta: &Meta) -> Summary {
        let Meta { from, to, first, last, facts, messages, .. } = *meta;
        Summary { id, bytes, from, to, first, last, facts, messages, gaps: meta.gaps.clone() }
    }
}

/// A file, opened.
pub(crate) struct Opened {
    pub(crate) table: Table,
    pub(crate) meta: Meta,
}

impl Opened {
    /// The blocks that may tell of a message: also by the fact of one before it.
    pub(crate) fn blocks_of(&self, place: Place) -> Range<usize> {
        self.table.blocks_of(place.before(self.meta.more_max.into()).key(), place.key())
    }
}

#[derive(Default)]
struct Cache {
    files: HashMap<u32, (Arc<Opened>, u64)>,
    clock: u64,
}

/// See the module.
pub(crate) struct Shelf {
    store: Arc<Store>,
    cache: Mutex<Cache>,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OpenError {
    #[error(transparent)]
    File(#[from] Error),
    #[error("record file {0} cannot be understood: {1}")]
    Meta(u32, serde_json::Error),
    #[error("record file {0} is of format version {version}, and this program reads version {VERSION} only", version = .1.version)]
    Version(u32, Head),
}

impl OpenError {
    /// Whether the file is not there any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, OpenError::File(error) if error.is_gone())
    }

    /// What the file is about, if an earlier program wrote it in a form that this one does not read. A later one's is not outdated:
    /// that program may come back.
    pub(crate) fn outdated(&self) -> Option<Head> {
        match self {
            OpenError::Version(_, head) if head.version < VERSION => Some(*head),
            OpenError::File(Error::Damaged { why: LayoutError::Version { found, read }, .. })
                if found < read =>
            {
                Some(Head::default())
            }
            _ => None,
        }
    }
}

impl Shelf {
    pub(crate) fn new(store: Arc<Store>) -> Shelf {
        Shelf { store, cache: Mutex::default() }
    }

    fn cache<R>(&self, use_it: impl FnOnce(&mut Cache) -> R) -> R {
        use_it(&mut self.cache.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A file, from memory if it was used of late.
    pub(crate) fn open(&self, id: u32) -> Result<Arc<Opened>, OpenError> {
        let known = self.cache(|cache| {
            cache.clock += 1;
            let clock = cache.clock;
            cache.files.get_mut(&id).map(|(opened, used)| {
                *used = clock;
                opened.clone()
            })
        });
        if let Some(opened) = known {
            return Ok(opened);
        }
        let table = self.store.table(id)?;
        let unreadable = |error| OpenError::Meta(id, error);
        let head: Head = serde_json::from_slice(&table.meta).map_err(unreadable)?;
        if head.version != VERSION {
            return Err(OpenError::Version(id, head));
        }
        let meta: Meta = serde_json::from_slice(&table.meta).map_err(unreadable)?;
        let opened = Arc::new(Opened { table, meta });
        self.cache(|cache| {
            if cache.files.len() >= OPEN_FILES_MAX {
                let oldest = cache.files.iter().min_by_key(|(_, (_, used))| *used).map(|(id, _)| *id);
                oldest.and_then(|id| cache.files.remove(&id));
            }
            cache.files.insert(id, (opened.clone(), cache.clock));
        });
        Ok(opened)
    }

    /// What is known of a file.
    pub(crate) fn summary(&self, id: u32) -> Result<Summary, OpenError> {
        let opened = self.open(id)?;
        Ok(Summary::of(id, opened.table.bytes, &opened.meta))
    }

    /// Removes a file.
    pub(crate) fn remove(&self, id: u32) -> Result<(), Error> {
        self.cache(|cache| cache.files.remove(&id));
        self.store.remove(id)
    }

    /// Writes facts to a file of that number.
    pub(crate) fn write(
        &self,
        id: u32,
        recent: &Recent,
        known: Vec<(u32, Client)>,
    ) -> Result<Summary, Error> {
        let mut writer = self.store.create(id)?;
        let sorted = recent.sorted();
        let mut blocks = vec![0u32; sorted.len()];
        let mut payload = Vec::with_capacity(BLOCK_BYTES + 4096);
        let mut ids = Runs::reaching(1);
        let mut first: Option<Place> = None;
        let mut before = None;
        sorted.each(|place, fact, slot| {
            if payload.len() >= BLOCK_BYTES
                && let Some(first) = first.take()
            {
                writer.block(first.key(), &payload)?;
                payload.clear();
                before = None;
            }
            first.get_or_insert(place);
            put_key(&mut payload, before.unwrap_or(place), place);
            payload.extend_from_slice(fact);
            before = Some(place);
            let block = writer.next_block();
            blocks[slot as usize] = block;
            // Those that are told with it are of its run.
            if let Some((id, _)) = published_id(fact) {
                ids.add(id, block);
            }
            Ok(())
        })?;
        if let Some(first) = first {
            writer.block(first.key(), &payload)?;
        }
        let others = sorted.hashes().iter().map(|(hash, slot)| (*hash, blocks[*slot as usize]));
        let mut index: Vec<(u64, u32)> = ids.entries().iter().copied().chain(others).collect();
        let meta = recent.meta(known);
        let json = serde_json::to_vec(&meta).expect("what stands beside facts has a JSON form");
        let bytes = writer.finish(&mut index, &json)?;
        Ok(Summary::of(id, bytes, &meta))
    }
}

/// Files that an earlier program wrote in a form that this one does not read, together.
#[derive(Default)]
pub(crate) struct Outdated {
    /// Which.
    pub(crate) ids: Vec<u32>,
    about: Option<Head>,
}

impl Outdated {
    pub(crate) fn add(&mut self, id: u32, head: Head) {
        self.ids.push(id);
        let all = self.about.get_or_insert(head);
        (all.from, all.to) = (all.from.min(head.from), all.to.max(head.to));
        (all.first, all.last) = (all.first.min(head.first), all.last.max(head.last));
    }

    /// What is missing with them, if all that lies behind `recorded` is read off the journal anew.
    pub(crate) fn gap(&self, recorded: Position) -> Option<Gap> {
        let Head { version, from, to, first, last } = self.about?;
        let to = to.min(recorded);
        let why = format!("it was in files of format version {version}, which this program does not read");
        (from < to).then_some(Gap { from, to, after: first, before: last, why })
    }
}

/// The files, by the stretch of the journal that each covers; one whose stretch lies within another's was written anew and is
/// superfluous.
pub(crate) fn in_order(mut files: Vec<Summary>) -> (Vec<Summary>, Vec<u32>) {
    files.sort_by_key(|file| (file.from, std::cmp::Reverse(file.to), std::cmp::Reverse(file.id)));
    let (mut kept, mut superfluous): (Vec<Summary>, Vec<u32>) = (Vec::new(), Vec::new());
    for file in files {
        match kept.last() {
            Some(last) if file.to <= last.to => superfluous.push(file.id),
            _ => kept.push(file),
        }
    }
    (kept, superfluous)
}

/// The files, oldest first, that are too old or too many.
pub(crate) fn expired(files: &[Summary], now: Millis, age_ms: u64, bytes_max: u64) -> usize {
    let mut bytes: u64 = files.iter().map(|file| file.bytes).sum();
    let oldest = Millis(now.0.saturating_sub(age_ms));
    let goes = |file: &&Summary| {
        let goes = file.last < oldest || bytes > bytes_max;
        bytes -= file.bytes;
        goes
    };
    files.iter().take_while(goes).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(id: u32, from: u64, to: u64, last: u64) -> Summary {
        let (from, to) = (Position(from), Position(to));
        let meta = Meta { from, to, last: Millis(last), facts: 1, messages: 1, ..Meta::default() };
        Summary::of(id, 10, &meta)
    }

    #[test]
    fn a_file_that_another_one_covers_is_superfluous() {
        let (kept, superfluous) = in_order(vec![file(1, 0, 10, 1), file(3, 10, 30, 1), file(2, 10, 20, 1)]);
        assert_eq!(kept.iter().map(|file| file.id).collect::<Vec<_>>(), [1, 3]);
        assert_eq!(superfluous, [2]);
    }

    #[test]
    fn files_go_by_age_and_size_from_the_oldest() {
        let files = [file(1, 0, 10, 100), file(2, 10, 20, 200), file(3, 20, 30, 300)];
        assert_eq!(expired(&files, Millis(300), 1000, 30), 0);
        assert_eq!(expired(&files, Millis(300), 1000, 29), 1);
        assert_eq!(expired(&files, Millis(300), 1000, 0), 3);
        assert_eq!(expired(&files, Millis(300), 100, 1000), 1);
        assert_eq!(expired(&files, Millis(301), 100, 1000), 2);
    }
}
