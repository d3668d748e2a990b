//! When the state is written down, which old messages are settled, and which files may then go.
//!
//! A part of the journal may go once nothing in it is alive, and once every snapshot that is kept was taken after that was
//! so: whichever of them a start has to use, it needs nothing of that part. A settled file may go once the state that does
//! not refer to it any more is durable, and all reads that were asked for before are done.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use waystation_base::{EntityId, Millis, Position};
use waystation_broker::{
    FileUse, Shard,
    settle::{Leaving, LogPlan, Outcome, Plan},
};
use waystation_journal::snapshot::KEEP;

use crate::{
    keeper::{Chore, Keeper},
    loader::Read,
    options::{
        JOB_BATCHES, JOB_BYTES, JOB_BYTES_CROWDED, JOB_BYTES_MIN, JOB_LOGS_FEW, LAG_MAX, LAG_WAIT_MS_MAX,
        Options, REST_PERCENT_MAX, SMALL_FILE_BYTES, SMALL_FILES_MAX,
    },
    settler,
};

/// Milliseconds until something is tried again that failed.
const RETRY_MS: u64 = 5_000;
/// Milliseconds from one look at the settled files to the next.
const FILES_LOOK_MS: u64 = 2_000;

/// Queues, topics and others that one look plans for: so a plan holds up nobody for long.
const PLAN_ENTITIES: usize = 1_000;

/// A plan for a part of the journal that is being made, some entities at each look.
struct Planning {
    from: Position,
    to: Position,
    next: EntityId,
    logs: Vec<LogPlan>,
}

/// Where the journal begins and ends.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Extent {
    pub(crate) start: Position,
    pub(crate) end: Position,
    pub(crate) durable: Position,
}

/// What is under way, and what waits for what.
pub(crate) struct Housekeeping {
    keeper: Keeper,
    hot_bytes: u64,
    snapshot_bytes: u64,
    /// The snapshots that are there, oldest first.
    snapshots: Vec<Position>,
    /// Where the newest snapshot was taken, written or not.
    taken_at: Position,
    snapshot_wanted: bool,
    snapshot_running: bool,
    copying: bool,
    planning: Option<Planning>,
    /// Everything alive before this position has been copied.
    settled_to: Position,
    /// Parts of the journal that go: up to where, and from which position on a snapshot does not need them.
    trims: VecDeque<(Position, Position)>,
    /// Settled files that are there, in use or not, with their lengths, without the one that is being written.
    files: BTreeMap<u32, u64>,
    /// Files that go, once the journal is durable up to a position.
    removals: VecDeque<(Position, Vec<u32>)>,
    next_file: u32,
    /// Journal that the next settling job leaves behind.
    job_bytes: u64,
    retry_at: Millis,
    look_at: Millis,
    /// Whether to look for a part of the journal that emptied by itself.
    trim_look: bool,
    pub(crate) snapshots_taken: u64,
    pub(crate) jobs_done: u64,
}

impl Housekeeping {
    pub(crate) fn new(
        keeper: Keeper,
        options: &Options,
        snapshots: Vec<Position>,
        files: BTreeMap<u32, u64>,
    ) -> Housekeeping {
        let next_file = files.keys().max().map_or(1, |newest| newest + 1);
        Housekeeping {
            keeper,
            hot_bytes: options.hot_bytes,
            snapshot_bytes: options.snapshot_bytes,
            taken_at: snapshots.last().copied().unwrap_or_default(),
            snapshots,
            snapshot_wanted: false,
            snapshot_running: false,
            copying: false,
            planning: None,
            settled_to: Position(0),
            trims: VecDeque::new(),
            files,
            removals: VecDeque::new(),
            next_file,
            job_bytes: JOB_BYTES_MIN,
            retry_at: Millis(0),
            look_at: Millis(0),
            trim_look: true,
            snapshots_taken: 0,
            jobs_done: 0,
        }
    }

    /// Whether the state is to be written down as soon as a commit group begins.
    pub(crate) fn wants_snapshot(&self) -> bool {
        self.snapshot_wanted && !self.snapshot_running
    }

    /// Asks for a snapshot now, however little has happened since the last one; says whether there is anything new.
    pub(crate) fn want_snapshot(&mut self, end: Position) -> bool {
        self.snapshot_wanted = end > self.taken_at;
        self.snapshot_wanted
    }

    /// Whether a snapshot is asked for or being written.
    pub(crate) fn is_writing_snapshot(&self) -> bool {
        self.snapshot_wanted || self.snapshot_running
    }

    /// Takes the state at the position where a commit group begins.
    pub(crate) fn take_snapshot(&mut self, position: Position, state: Vec<u8>) {
        self.taken_at = position;
        self.snapshot_wanted = false;
        self.snapshot_running = true;
        self.keeper.ask(Chore::Snapshot(position, state));
    }

    /// Notes that a snapshot was written, or why not.
    pub(crate) fn snapshot_done(&mut self, result: Result<Vec<Position>, String>, now: Millis) {
        self.snapshot_running = false;
        match result {
            Ok(snapshots) => {
                self.snapshots = snapshots;
                self.snapshots_taken += 1;
                self.trim_look = true;
            }
            Err(why) => {
                tracing::error!(
                    why,
                    "the state could not be written down; a restart takes longer until it is"
                );
                self.taken_at = self.snapshots.last().copied().unwrap_or_default();
                self.retry_at = now.plus(RETRY_MS);
            }
        }
    }

    /// Notes what a copying job has done; an outcome is to be given to the shard.
    pub(crate) fn copy_done(
        &mut self,
        result: Result<Outcome, settler::Error>,
        now: Millis,
    ) -> Option<Outcome> {
        self.copying = false;
        match result {
            Ok(outcome) => {
                let bytes = outcome.runs.iter().map(|run| run.bytes).sum();
                self.files.extend(outcome.runs.first().map(|run| (run.file, bytes)));
                self.jobs_done += 1;
                self.look_at = now;
                Some(outcome)
            }
            Err(settler::Error::Moved | settler::Error::Stopped) => None,
            Err(error) => {
                self.refused(&error, now);
                None
            }
        }
    }

    /// Notes that an outcome is of no use: nothing is left behind, and it is tried again later.
    pub(crate) fn refused(&mut self, error: &dyn std::error::Error, now: Millis) {
        tracing::error!(%error, "old messages could not be settled; they stay where they are");
        self.retry_at = now.plus(RETRY_MS);
    }

    /// Lets go of what was copied for an outcome that is of no use.
    pub(crate) fn discard(&mut self, outcome: &Outcome) {
        let files: BTreeSet<u32> = outcome.runs.iter().map(|run| run.file).collect();
        self.files.retain(|file, _| !files.contains(file));
        self.removals.push_back((Position(0), files.into_iter().collect()));
    }

    /// Notes that the shard has taken an outcome, in an entry before `position`.
    pub(crate) fn settled(&mut self, leaving: &Leaving, position: Position) {
        if let Leaving::Journal(to) = leaving {
            self.settled_to = self.settled_to.max(*to);
            self.trims.push_back((*to, position));
        }
    }

    /// Starts what is due; returns where the journal may now be trimmed.
    pub(crate) fn look(
        &mut self,
        shard: &Shard,
        extent: Extent,
        now: Millis,
        disk_low: bool,
    ) -> Option<Position> {
        if now >= self.retry_at {
            if !self.snapshot_running && extent.end.0 - self.taken_at.0 >= self.snapshot_bytes {
                self.snapshot_wanted = true;
            }
            self.settle_journal(shard, extent, now);
            if !self.copying && self.planning.is_none() && now >= self.look_at {
                self.look_at = now.plus(FILES_LOOK_MS);
                self.trim_look = true;
                self.look_at_files(shard, extent, now);
            }
        }
        self.trim(shard, disk_low)
    }

    /// When [`Housekeeping::look`] should be called again though nothing happens.
    pub(crate) fn next_look(&self, now: Millis) -> Option<Millis> {
        if self.retry_at > now {
            return Some(self.retry_at);
        }
        // Requests are taken in between.
        self.planning.is_some().then(|| now.plus(1))
    }

    fn settle_journal(&mut self, shard: &Shard, extent: Extent, now: Millis) {
        let from = self.settled_to.max(extent.start);
        let hot = extent.end.0.saturating_sub(from.0);
        self.keeper.set_rest(rest_percent(hot, self.hot_bytes));
        if self.planning.is_none() {
            if self.copying || hot <= self.hot_bytes {
                return;
            }
            let excess = hot - self.hot_bytes / 2;
            self.planning = Some(Planning::begin(from, self.job_bytes.min(excess), extent));
        }
        let Some(mut planning) = self.planning.take() else { return };
        let leaving = Leaving::Journal(planning.to);
        let next = shard.plan_part(&leaving, now, planning.next, PLAN_ENTITIES, &mut planning.logs);
        if let Some(next) = next {
            planning.next = next;
            self.planning = Some(planning);
            return;
        }
        let Planning { from, to, logs, .. } = planning;
        if logs.len() > JOB_LOGS_FEW && to.0 - from.0 > JOB_BYTES_CROWDED {
            self.planning = Some(Planning::begin(from, JOB_BYTES_CROWDED, extent));
            return;
        }
        let batches = logs.iter().map(|log| log.spans.len() as u64).sum::<u64>();
        self.job_bytes = next_job_bytes(to.0 - from.0, batches);
        if logs.is_empty() {
            self.settled(&leaving, to);
        } else {
            self.copy(Plan { leaving, logs });
        }
    }

    /// How long to wait before the next requests are taken, so that settling is not left behind without bound.
    pub(crate) fn lag_wait_ms(&self, extent: Extent) -> u64 {
        let hot = extent.end.0.saturating_sub(self.settled_to.max(extent.start).0);
        let limit = LAG_MAX.saturating_mul(self.hot_bytes);
        let excess = hot.saturating_sub(limit);
        // From one millisecond at the limit to the longest wait at twice the limit.
        if excess == 0 { 0 } else { (1 + LAG_WAIT_MS_MAX * excess / limit.max(1)).min(LAG_WAIT_MS_MAX) }
    }

    fn copy(&mut self, plan: Plan) {
        self.copying = true;
        self.keeper.ask(Chore::Settle(plan, self.next_file));
        self.next_file += 1;
    }

    /// Finds files that nothing refers to, and files that are worth being written anew.
    fn look_at_files(&mut self, shard: &Shard, extent: Extent, now: Millis) {
        if self.files.is_empty() {
            return;
        }
        let mut used = shard.files();
        for file in &mut used {
            // What the shard does not know any more still takes room.
            file.bytes = self.files.get(&file.file).copied().unwrap_or_default().max(file.bytes);
        }
        let in_use: BTreeSet<u32> = used.iter().map(|file| file.file).collect();
        let unused: Vec<u32> = self.files.keys().filter(|file| !in_use.contains(file)).copied().collect();
        if !unused.is_empty() {
            self.files.retain(|file, _| in_use.contains(file));
            self.removals.push_back((extent.end, unused));
        }
        let files = worth_compacting(&used);
        if !files.is_empty() {
            let plan = shard.plan(&Leaving::Files(files), now);
            self.copy(plan);
        }
    }

    fn trim(&mut self, shard: &Shard, disk_low: bool) -> Option<Position> {
        // The older snapshot is there in case the newer one is damaged; with the disk nearly full it goes without.
        let kept = if disk_low { self.snapshots.last() } else { self.snapshots.first() };
        let safe = *kept.filter(|_| disk_low || self.snapshots.len() >= KEEP)?;
        let mut to = None;
        while self.trims.front().is_some_and(|(_, needs)| *needs <= safe) {
            to = self.trims.pop_front().map(|(to, _)| to);
        }
        let look = std::mem::take(&mut self.trim_look);
        if look && safe > self.settled_to && !shard.has_live_in_journal_before(safe) {
            self.settled_to = safe;
            to = Some(safe);
        }
        to
    }

    /// The files that nobody reads any more, as far as the journal is durable on disk.
    pub(crate) fn removals(&mut self, synced: Position) -> Option<Read> {
        self.removals.front().filter(|(needs, _)| *needs <= synced)?;
        self.removals.pop_front().map(|(_, files)| Read::Remove(files))
    }

    /// Settled files that are there.
    pub(crate) fn files(&self) -> usize {
        self.files.len()
    }
}

impl Planning {
    /// For `bytes` of the journal, as far as it is durable.
    fn begin(from: Position, bytes: u64, extent: Extent) -> Planning {
        let to = Position(from.0 + bytes).min(extent.durable);
        Planning { from, to, next: EntityId(0), logs: Vec::new() }
    }
}

/// How long copying rests, in percent of its steps, with so much journal that is not settled: the less the more there is, and not at
/// all at twice what may be. So it goes as fast as the journal grows, and no faster.
fn rest_percent(hot: u64, hot_bytes: u64) -> u32 {
    let room = hot_bytes.saturating_mul(2).saturating_sub(hot).min(hot_bytes);
    (u128::from(room) * u128::from(REST_PERCENT_MAX) / u128::from(hot_bytes.max(1))) as u32
}

/// How much journal a job should leave behind when one of `bytes` had so many batches: the plan is made between two requests,
/// so it must be short.
fn next_job_bytes(bytes: u64, batches: u64) -> u64 {
    (u128::from(bytes) * u128::from(JOB_BATCHES) / u128::from(batches.max(1)))
        .clamp(JOB_BYTES_MIN.into(), JOB_BYTES.into()) as u64
}

/// Settled files that are worth being written anew: mostly dead ones; those whose topics are compacted by key, when the
/// smaller ones together have grown to half of the largest; small ones, when there are many.
fn worth_compacting(files: &[FileUse]) -> Vec<u32> {
    let thin = up_to_job(files.iter().filter(|file| file.live_bytes < file.bytes / 2));
    if !thin.is_empty() {
        return thin;
    }
    let by_key = || files.iter().filter(|file| file.compactable);
    let (all, largest) =
        by_key().fold((0, 0), |(all, largest), file| (all + file.bytes, file.bytes.max(largest)));
    // So each byte is written anew a number of times that grows with the logarithm of what is kept.
    if all > 0 && all - largest >= largest / 2 {
        return by_key().map(|file| file.file).collect();
    }
    let small = || files.iter().filter(|file| file.bytes < SMALL_FILE_BYTES);
    if small().count() > SMALL_FILES_MAX { up_to_job(small()) } else { Vec::new() }
}

/// Files with [`JOB_BYTES`] together, or one.
fn up_to_job<'a>(files: impl Iterator<Item = &'a FileUse>) -> Vec<u32> {
    let mut bytes = 0;
    let fits = |file: &&FileUse| {
        let first = bytes == 0;
        bytes += file.live_bytes.max(1);
        first || bytes <= JOB_BYTES
    };
    files.take_while(fits).map(|file| file.file).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(file: u32, bytes: u64, live_bytes: u64) -> FileUse {
        FileUse { file, bytes, live_bytes, compactable: false }
    }

    #[test]
    fn a_job_is_as_long_as_its_number_of_batches_allows() {
        assert_eq!(next_job_bytes(8 << 20, JOB_BATCHES / 2), 16 << 20);
        assert_eq!(next_job_bytes(64 << 20, 100 * JOB_BATCHES), JOB_BYTES_MIN);
        assert_eq!(next_job_bytes(4 << 20, 0), JOB_BYTES);
    }

    #[test]
    fn copying_rests_the_less_the_more_there_is() {
        assert_eq!(rest_percent(0, 100), REST_PERCENT_MAX);
        assert_eq!(rest_percent(100, 100), REST_PERCENT_MAX);
        assert_eq!(rest_percent(150, 100), REST_PERCENT_MAX / 2);
        assert_eq!((rest_percent(200, 100), rest_percent(201, 100)), (0, 0));
        assert_eq!(rest_percent(0, 0), 0);
    }

    #[test]
    fn thin_files_are_written_anew_and_full_ones_left() {
        let files = [file(1, 100 << 20, 60 << 20), file(2, 100 << 20, 40 << 20), file(3, 10, 0)];
        assert_eq!(worth_compacting(&files), [2, 3]);
        assert_eq!(worth_compacting(&files[..1]), Vec::<u32>::new());
    }

    #[test]
    fn one_job_does_not_take_more_than_job_bytes_unless_it_is_one_file() {
        let live = JOB_BYTES / 2 + 1;
        let files = [file(1, 4 * JOB_BYTES, live), file(2, 4 * JOB_BYTES, live)];
        assert_eq!(worth_compacting(&files), [1]);
        assert_eq!(worth_compacting(&[file(1, 10 * JOB_BYTES, 2 * JOB_BYTES)]), [1]);
    }

    #[test]
    fn topics_are_compacted_by_key_when_the_smaller_files_have_grown_to_half_of_the_largest() {
        let compactable = |number, bytes| FileUse { compactable: true, ..file(number, bytes, bytes) };
        let files = [compactable(1, 100 << 20), compactable(2, 30 << 20), compactable(3, 20 << 20)];
        assert_eq!(worth_compacting(&files[..2]), Vec::<u32>::new());
        assert_eq!(worth_compacting(&files), [1, 2, 3]);
    }

    #[test]
    fn small_files_are_put_together_when_there_are_more_than_small_files_max() {
        let files: Vec<_> = (0..=SMALL_FILES_MAX as u32).map(|n| file(n, 100, 100)).collect();
        assert_eq!(worth_compacting(&files[1..]), Vec::<u32>::new());
        assert_eq!(worth_compacting(&files).len(), SMALL_FILES_MAX + 1);
        let large = file(99, SMALL_FILE_BYTES, SMALL_FILE_BYTES);
        assert_eq!(worth_compacting(&[large; SMALL_FILES_MAX + 1]), Vec::<u32>::new());
    }
}
