//! Where the batches of one log are: its newest in the journal, older ones in settled files.

use std::collections::VecDeque;

use waystation_base::{Millis, Offset, Position};

use super::chunked::Chunked;
use crate::{
    place::{Place, Span},
    settle::{Leaving, Overlap, SettledRun},
};

/// One batch in the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hot {
    /// First offset.
    pub first: u64,
    /// Where the batch begins.
    pub position: u64,
    /// Latest timestamp in it, in milliseconds.
    pub timestamp: u64,
    /// Last offset less the first.
    pub span: u32,
    /// Bytes of the batch.
    pub bytes: u32,
}

impl Hot {
    fn last(&self) -> u64 {
        self.first + u64::from(self.span)
    }

    fn as_span(&self) -> Span {
        Span {
            first: Offset(self.first),
            last: Offset(self.last()),
            place: Place::Journal(Position(self.position)),
        }
    }
}

impl SettledRun {
    fn as_span(&self) -> Span {
        Span { first: self.first, last: self.last, place: Place::Settled(self.file) }
    }
}

/// The places of one log's messages. Offsets in `hot` and in `runs` ascend; all of `runs` lie below all of `hot`.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The lowest offset that is kept.
    pub base: u64,
    /// The offset that the next message will have.
    pub next: u64,
    hot: Chunked<Hot>,
    runs: VecDeque<SettledRun>,
}

impl Log {
    /// A log as a snapshot has it: what it keeps, where it goes on, and its settled stretches.
    pub fn restore(base: u64, next: u64, runs: Vec<SettledRun>) -> Log {
        Log { base, next, hot: Chunked::default(), runs: runs.into() }
    }

    /// Adds a batch at the end.
    pub fn append(&mut self, batch: Hot) {
        debug_assert!(batch.first >= self.next);
        self.next = batch.last() + 1;
        self.hot.push_back(batch);
    }

    /// Adds a batch that was there before the snapshot was taken; its offsets are below `next` already.
    pub fn reindex(&mut self, batch: Hot) {
        if batch.last() >= self.base && batch.last() < self.next {
            self.hot.push_back(batch);
        }
    }

    /// The settled stretches.
    pub fn runs(&self) -> impl Iterator<Item = &SettledRun> {
        self.runs.iter()
    }

    /// Bytes kept, as stored.
    pub fn bytes(&self) -> u64 {
        self.runs.iter().map(|run| run.bytes).sum::<u64>()
            + self.hot.iter().map(|hot| u64::from(hot.bytes)).sum::<u64>()
    }

    /// Lets go of everything below `base`.
    pub fn trim(&mut self, base: u64) {
        self.base = self.base.max(base);
        self.hot.drop_while(|hot| hot.last() < self.base);
        while self.runs.front().is_some_and(|run| run.last.0 < self.base) {
            self.runs.pop_front();
        }
    }

    /// Where offsets from `from` to `to` (exclusive) are, at most `max` stretches.
    pub fn spans(&self, from: u64, to: u64, max: usize) -> Vec<Span> {
        let run = self.runs.partition_point(|run| run.last.0 < from);
        let runs = self.runs.range(run..).map(SettledRun::as_span);
        let hot = self.hot.from(|hot| hot.last() < from).map(Hot::as_span);
        runs.chain(hot).take_while(|span| span.first.0 < to).take(max).collect()
    }

    /// The settled file that holds an offset.
    pub fn settled_file(&self, offset: u64) -> Option<u32> {
        let run = self.runs.get(self.runs.partition_point(|run| run.last.0 < offset))?;
        (run.first.0 <= offset).then_some(run.file)
    }

    /// About when the message at `offset`, or the next one that is there, was published.
    pub fn timestamp(&self, offset: u64) -> Option<Millis> {
        if let Some(run) = self.runs.get(self.runs.partition_point(|run| run.last.0 < offset)) {
            // Between the run's ends, by its share of the offsets.
            let length = (run.last.0 - run.first.0).max(1);
            let done = offset.saturating_sub(run.first.0);
            let time = u128::from(run.max_timestamp.since(run.min_timestamp)) * u128::from(done)
                / u128::from(length);
            return Some(run.min_timestamp.plus(time as u64));
        }
        self.hot.from(|hot| hot.last() < offset).next().map(|hot| Millis(hot.timestamp))
    }

    /// When the message at `offset` was published at the latest.
    pub fn came_by(&self, offset: u64) -> Option<Millis> {
        if let Some(run) = self.runs.get(self.runs.partition_point(|run| run.last.0 < offset)) {
            return Some(run.max_timestamp);
        }
        self.hot.from(|hot| hot.last() < offset).next().map(|hot| Millis(hot.timestamp))
    }

    /// Stretches that would be left behind: together where nothing lies between that stays, since what they become is one run, and runs
    /// must not lie within each other.
    pub fn leaving(&self, leaving: &Leaving) -> Vec<Vec<Span>> {
        let groups: Vec<Vec<Span>> = match leaving {
            Leaving::Journal(to) => {
                vec![self.hot.iter().take_while(|hot| hot.position < to.0).map(Hot::as_span).collect()]
            }
            Leaving::Files(files) => {
                let runs: Vec<&SettledRun> = self.runs.iter().collect();
                let leaves = |run: &SettledRun| files.contains(&run.file);
                let neighbours = runs.chunk_by(|one, next| leaves(one) == leaves(next));
                neighbours
                    .filter(|group| leaves(group[0]))
                    .map(|group| group.iter().map(|run| run.as_span()).collect())
                    .collect()
            }
        };
        groups.into_iter().filter(|group| !group.is_empty()).collect()
    }

    /// Whether any batch before a journal position is kept.
    pub fn has_hot_before(&self, position: Position) -> bool {
        self.hot.front().is_some_and(|hot| hot.position < position.0)
    }

    /// Whether new runs can take the place of what is left behind: no two stretches of a log may lie within each other, since of
    /// what lies within another nothing would be found.
    pub fn check_settle(&self, leaving: &Leaving, runs: &[SettledRun]) -> Result<(), Overlap> {
        let stays =
            |run: &&SettledRun| !matches!(leaving, Leaving::Files(files) if files.contains(&run.file));
        let leaves = |hot: &&Hot| matches!(leaving, Leaving::Journal(to) if hot.position < to.0);
        let new = runs.iter().filter(|run| run.last.0 >= self.base);
        let mut all: Vec<SettledRun> = self.runs.iter().filter(stays).chain(new).copied().collect();
        all.sort_by_key(|run| run.first);
        let hot = self.hot.iter().find(|hot| !leaves(hot)).map(|hot| Offset(hot.first));
        let nexts = all.iter().skip(1).map(|run| run.first).chain(hot);
        match all.iter().zip(nexts).find(|(run, next)| run.last >= *next) {
            Some((run, next)) => Err(Overlap { run: *run, next }),
            None => Ok(()),
        }
    }

    /// Puts new runs in the place of what was left behind, as [`Log::check_settle`] allows.
    pub fn settle(&mut self, leaving: &Leaving, runs: &[SettledRun]) {
        match leaving {
            Leaving::Journal(to) => self.hot.drop_while(|hot| hot.position < to.0),
            Leaving::Files(files) => self.runs.retain(|run| !files.contains(&run.file)),
        }
        for run in runs.iter().filter(|run| run.last.0 >= self.base) {
            let at = self.runs.partition_point(|have| have.first < run.first);
            self.runs.insert(at, *run);
        }
    }

    /// The offset up to which (exclusive) retention lets go, by age and size; only whole batches or runs go.
    pub fn expired(&self, older_than: Option<Millis>, bytes_max: Option<u64>) -> u64 {
        let mut excess = bytes_max.map_or(0, |max| self.bytes().saturating_sub(max));
        let mut base = self.base;
        let runs = self.runs.iter().map(|run| (run.last.0, run.max_timestamp, run.bytes));
        let hot = self.hot.iter().map(|hot| (hot.last(), Millis(hot.timestamp), u64::from(hot.bytes)));
        for (last, timestamp, bytes) in runs.chain(hot) {
            let old = older_than.is_some_and(|moment| timestamp < moment);
            if !old && excess < bytes.max(1) {
                break;
            }
            excess = excess.saturating_sub(bytes);
            base = last + 1;
        }
        base
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::EntityId;

    use super::*;
    use crate::place::LogId;

    fn log(batches: &[(u64, u32, u64)]) -> Log {
        let mut log = Log::default();
        for &(first, span, position) in batches {
            log.append(Hot { first, position, timestamp: position, span, bytes: 100 });
        }
        log
    }

    fn run(file: u32, first: u64, last: u64) -> SettledRun {
        let log = LogId { entity: EntityId(1), log: 0 };
        let (min_timestamp, max_timestamp) = (Millis(first * 10), Millis(last * 10));
        SettledRun {
            file,
            log,
            first: Offset(first),
            last: Offset(last),
            messages: last - first + 1,
            bytes: 50,
            min_timestamp,
            max_timestamp,
        }
    }

    fn firsts(spans: Vec<Span>) -> Vec<u64> {
        spans.iter().map(|span| span.first.0).collect()
    }

    #[test]
    fn spans_begin_with_the_one_that_holds_the_offset() {
        let mut log = log(&[(0, 9, 100), (10, 4, 200), (15, 0, 300)]);
        assert_eq!(firsts(log.spans(12, 99, 9)), [10, 15]);
        log.settle(&Leaving::Journal(Position(250)), &[run(1, 0, 14)]);
        assert_eq!(firsts(log.spans(12, 99, 9)), [0, 15]);
        assert_eq!(firsts(log.spans(0, 15, 9)), [0]);
        assert_eq!((log.settled_file(14), log.settled_file(15)), (Some(1), None));
        assert_eq!(log.timestamp(7), Some(Millis(70)));
    }

    #[test]
    fn compacted_files_give_way_to_the_new_one() {
        let mut log = log(&[(0, 9, 100)]);
        log.settle(&Leaving::Journal(Position(200)), &[run(1, 0, 4), run(2, 5, 9)]);
        log.settle(&Leaving::Files(vec![1]), &[run(3, 1, 4)]);
        assert_eq!(firsts(log.spans(0, 99, 9)), [1, 5]);
    }

    #[test]
    fn what_lies_on_both_sides_of_a_file_that_stays_becomes_two_runs() {
        let mut log = log(&[(0, 29, 100)]);
        let stay = [run(1, 0, 4), run(2, 5, 9), run(3, 10, 14), run(4, 15, 19), run(5, 20, 29)];
        log.settle(&Leaving::Journal(Position(200)), &stay);
        let groups = |files: &[u32]| -> Vec<Vec<u64>> {
            log.leaving(&Leaving::Files(files.to_vec())).into_iter().map(firsts).collect()
        };
        assert_eq!(groups(&[1, 3]), [[0], [10]]);
        assert_eq!(groups(&[1, 2, 4, 5]), [[0, 5], [15, 20]]);
        assert_eq!(groups(&[9]), Vec::<Vec<u64>>::new());
        assert_eq!(log.leaving(&Leaving::Journal(Position(200))), Vec::<Vec<Span>>::new());
        // Each message is found in its own file.
        log.settle(&Leaving::Files(vec![1, 3]), &[run(6, 0, 4), run(6, 10, 14)]);
        assert_eq!([2, 7, 12].map(|offset| log.settled_file(offset)), [Some(6), Some(2), Some(6)]);
    }

    #[test]
    fn runs_that_would_lie_within_others_are_refused() {
        let mut log = log(&[(0, 9, 100), (10, 9, 200), (20, 9, 300)]);
        let journal = Leaving::Journal(Position(250));
        let refused = |log: &Log, leaving: &Leaving, runs: &[SettledRun]| {
            log.check_settle(leaving, runs).err().map(|overlap| (overlap.run.first.0, overlap.next.0))
        };
        assert_eq!(refused(&log, &journal, &[run(1, 0, 19)]), None);
        assert_eq!(refused(&log, &journal, &[run(1, 0, 20)]), Some((0, 20)), "what stays in the journal");
        assert_eq!(refused(&log, &journal, &[run(1, 0, 10), run(1, 10, 19)]), Some((0, 10)));
        log.settle(&journal, &[run(1, 0, 4), run(2, 5, 9), run(3, 10, 19)]);
        let files = Leaving::Files(vec![1, 3]);
        assert_eq!(refused(&log, &files, &[run(4, 0, 4), run(4, 10, 19)]), None);
        assert_eq!(refused(&log, &files, &[run(4, 0, 19)]), Some((0, 5)), "around a file that stays");
        assert_eq!(refused(&log, &files, &[run(4, 9, 19)]), Some((5, 9)));
        // What retention has let go since is no matter.
        log.trim(10);
        assert_eq!(refused(&log, &files, &[run(4, 0, 9), run(4, 10, 19)]), None);
    }

    #[test]
    fn retention_lets_whole_batches_go() {
        let log = log(&[(0, 9, 100), (10, 4, 200), (15, 0, 300)]);
        assert_eq!(log.expired(Some(Millis(150)), None), 10);
        assert_eq!(log.expired(None, Some(250)), 0);
        assert_eq!(log.expired(None, Some(200)), 10);
        assert_eq!(log.expired(Some(Millis(1000)), None), 16);
    }

    #[test]
    fn reindexing_takes_only_what_is_kept() {
        let mut log = Log::restore(5, 20, Vec::new());
        for (first, position) in [(0, 1), (5, 2), (10, 3), (20, 4)] {
            log.reindex(Hot { first, position, timestamp: 0, span: 4, bytes: 9 });
        }
        assert_eq!(firsts(log.spans(0, 99, 9)), [5, 10]);
    }
}
