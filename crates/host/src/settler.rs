//! How live messages are copied out of old journal files or thin settled files into one new settled file.

use std::{collections::HashMap, ops::RangeInclusive};

use bytes::Bytes;
use waystation_base::{
    Millis, Offset, Position,
    batch::{self, Encoder, Record, Scratch},
};
use waystation_broker::{
    place::{LogId, Place},
    settle::{LogPlan, Outcome, Plan, SettledRun},
};
use waystation_journal::settled::{self, Store, Writer};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    loader::{Files, Unread},
    options::JOB_LOGS_FEW,
    scan::{Flow, LOAD_BYTES_MAX},
};

/// Messages of queues are packed into batches of about this size.
const PACKED_BYTES: usize = 64 << 10;
/// Batches of queues of which all messages are alive stay as they are if they have so many bytes: more would be read again
/// for each of their messages.
const WHOLE_BYTES: RangeInclusive<usize> = (PACKED_BYTES / 4)..=(4 * PACKED_BYTES);
/// Offsets of one packed batch lie within this, as its format demands.
const PACKED_OFFSETS_MAX: u64 = i32::MAX as u64;
/// Keys that one compaction remembers; records with further keys are all kept.
const COMPACTION_KEYS_MAX: usize = 1 << 20;
/// Batches from which on the part of the journal that holds them is read at one go.
const CROWD_BATCHES_MIN: usize = 1_000;
/// Bytes that are gone through before the job looks around: so few that whoever publishes on the same core hardly waits.
const STEP_BYTES: usize = 128 << 10;

/// Why nothing was settled. Nothing has changed; it is tried again.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// What is to be copied cannot be read.
    #[error("{0}")]
    Damaged(String),
    /// What is to be copied has moved meanwhile.
    #[error("the messages have moved meanwhile")]
    Moved,
    /// The new file cannot be written.
    #[error(transparent)]
    Settled(#[from] settled::Error),
    /// The job was told to stop.
    #[error("the server is shutting down")]
    Stopped,
}

impl From<Unread> for Error {
    fn from(unread: Unread) -> Error {
        match unread {
            Unread::Moved => Error::Moved,
            Unread::Damaged(why) => Error::Damaged(why),
        }
    }
}

/// Copies what a plan names into settled file `id`. `pause` is called after each step and may end the job.
pub(crate) fn copy(
    plan: Plan,
    id: u32,
    files: &mut Files,
    store: &std::sync::Arc<Store>,
    pause: &mut dyn FnMut() -> bool,
) -> Result<Outcome, Error> {
    let mut copier = Copier {
        file: id,
        writer: store.create(id)?,
        runs: Vec::new(),
        packed: Packed::default(),
        pace: Pace { pause, bytes: 0 },
    };
    if let Some((from, to)) = crowded_region(&plan).filter(|_| plan.logs.len() > JOB_LOGS_FEW) {
        files.read_region(from, to)?;
    }
    let copied = plan.logs.iter().try_for_each(|log| copier.log(log, files));
    files.forget_region();
    copied?;
    let Copier { writer, runs, .. } = copier;
    let mut outcome = Outcome { leaving: plan.leaving, runs };
    if outcome.runs.is_empty() {
        return Ok(outcome);
    }
    let info = writer.finish()?;
    for (run, stored) in outcome.runs.iter_mut().zip(info.runs) {
        run.bytes = stored.bytes;
    }
    Ok(outcome)
}

/// The part of the journal that holds everything to be copied, if that is much: then it is read at one go, because the
/// batches of many logs lie there in no order.
fn crowded_region(plan: &Plan) -> Option<(Position, Position)> {
    let spans = plan.logs.iter().flat_map(|log| &log.spans);
    let positions = spans.filter_map(|span| match span.place {
        Place::Journal(position) => Some(position),
        Place::Settled(_) => None,
    });
    let (mut from, mut to, mut count) = (Position(u64::MAX), Position(0), 0);
    for position in positions {
        (from, to, count) = (from.min(position), to.max(position), count + 1);
    }
    (count >= CROWD_BATCHES_MIN).then_some((from, to))
}

struct Copier<'a> {
    file: u32,
    writer: Writer,
    runs: Vec<SettledRun>,
    packed: Packed,
    pace: Pace<'a>,
}

/// When a job looks around.
struct Pace<'a> {
    pause: &'a mut dyn FnMut() -> bool,
    /// Bytes that were gone through since.
    bytes: usize,
}

impl Pace<'_> {
    /// Pauses if a step's bytes were gone through, copied or not: reading takes the disk from others too.
    fn went_through(&mut self, bytes: usize) -> Result<(), Error> {
        self.bytes += bytes;
        if self.bytes < STEP_BYTES {
            return Ok(());
        }
        self.bytes = 0;
        if (self.pause)() { Ok(()) } else { Err(Error::Stopped) }
    }
}

impl Copier<'_> {
    fn log(&mut self, plan: &LogPlan, files: &mut Files) -> Result<(), Error> {
        let latest = match plan.compact {
            Some(_) => Some(latest_of_keys(plan, files, &mut self.pace)?),
            None => None,
        };
        let choice = Choice { plan, latest };
        self.writer.begin_run(plan.log.entity, plan.log.log);
        self.packed.begin();
        let mut run = None;
        for span in &plan.spans {
            let mut failed = None;
            files.visit(plan.log, span, span.first, LOAD_BYTES_MAX, |_, batch| {
                let result = self.batch(&choice, batch, &mut run)?;
                failed = result.and_then(|()| self.pace.went_through(batch.len())).err();
                Ok(if failed.is_some() { Flow::Enough } else { Flow::More })
            })?;
            failed.map_or(Ok(()), Err)?;
        }
        self.write_packed(plan.log, &mut run)?;
        self.runs.extend(run);
        Ok(())
    }

    /// Copies what is chosen of one batch.
    fn batch(
        &mut self,
        choice: &Choice<'_>,
        batch: &Bytes,
        run: &mut Option<SettledRun>,
    ) -> Result<Result<(), Error>, batch::Error> {
        let header = batch::Header::read(batch)?;
        if choice.takes_whole(&header) {
            if !choice.overlaps(header.base_offset, header.last_offset()) {
                return Ok(Ok(()));
            }
            if let Err(error) = self.write_packed(choice.plan.log, run) {
                return Ok(Err(error));
            }
            let times = (header.base_timestamp, header.max_timestamp);
            let written = self.write(choice.plan.log, batch, header, times, u64::from(header.count), run);
            return Ok(written);
        }
        for record in batch::records(batch)? {
            let record = record?;
            if !choice.keeps(&record)? {
                continue;
            }
            if self.packed.is_full(&record)
                && let Err(error) = self.write_packed(choice.plan.log, run)
            {
                return Ok(Err(error));
            }
            self.packed.push(batch, &record);
        }
        Ok(Ok(()))
    }

    fn write_packed(&mut self, log: LogId, run: &mut Option<SettledRun>) -> Result<(), Error> {
        let Some((bytes, count, times)) = self.packed.take() else { return Ok(()) };
        let header = batch::Header::read(&bytes).expect("a batch that was just packed");
        let result = self.write(log, &bytes, header, times, count, run);
        self.packed.give_back(bytes);
        result
    }

    fn write(
        &mut self,
        log: LogId,
        bytes: &[u8],
        header: batch::Header,
        (min_timestamp, max_timestamp): (Millis, Millis),
        messages: u64,
        run: &mut Option<SettledRun>,
    ) -> Result<(), Error> {
        let (first, last) = (header.base_offset, header.last_offset());
        self.writer.batch(first, last, header.max_timestamp, bytes)?;
        let file = self.file;
        let run = run.get_or_insert(SettledRun {
            file,
            log,
            first,
            last,
            messages: 0,
            bytes: 0,
            min_timestamp,
            max_timestamp,
        });
        run.last = last;
        run.messages += messages;
        run.min_timestamp = run.min_timestamp.min(min_timestamp);
        run.max_timestamp = run.max_timestamp.max(max_timestamp);
        Ok(())
    }
}

/// Which records of a log are copied.
struct Choice<'a> {
    plan: &'a LogPlan,
    /// Compaction: the offset of the latest record of each key.
    latest: Option<HashMap<u128, Offset>>,
}

impl Choice<'_> {
    /// Whether the batch is copied as it is, if at all: unpacking and packing it again would change nothing that matters.
    fn takes_whole(&self, header: &batch::Header) -> bool {
        let (first, last) = (header.base_offset, header.last_offset());
        let lives = || self.stretch_at(last).is_some_and(|(start, _)| *start <= first);
        self.latest.is_none() && (self.plan.verbatim || (WHOLE_BYTES.contains(&header.bytes) && lives()))
    }

    fn overlaps(&self, first: Offset, last: Offset) -> bool {
        self.stretch_at(first).is_some_and(|(start, _)| *start <= last)
    }

    /// The live stretch that holds `offset`, or the next one.
    fn stretch_at(&self, offset: Offset) -> Option<&(Offset, Offset)> {
        let live = &self.plan.live;
        live.get(live.partition_point(|(_, end)| *end < offset))
    }

    fn keeps(&self, record: &Record<'_>) -> Result<bool, batch::Error> {
        if !self.overlaps(record.offset, record.offset) {
            return Ok(false);
        }
        let (Some(latest), Some(tombstones_before)) = (&self.latest, self.plan.compact) else {
            return Ok(true);
        };
        let Some(key) = record.key else { return Ok(true) };
        if latest.get(&xxh3_128(key)).is_some_and(|offset| *offset > record.offset) {
            return Ok(false);
        }
        let is_tombstone = record.value.is_none_or(<[u8]>::is_empty);
        Ok(!(is_tombstone && record.timestamp < tombstones_before))
    }
}

/// The first pass of a compaction.
fn latest_of_keys(
    plan: &LogPlan,
    files: &mut Files,
    pace: &mut Pace<'_>,
) -> Result<HashMap<u128, Offset>, Error> {
    let mut latest = HashMap::new();
    for span in &plan.spans {
        let mut stopped = None;
        files.visit(plan.log, span, span.first, LOAD_BYTES_MAX, |_: Place, batch| {
            for record in batch::records(batch)? {
                let record = record?;
                let Some(key) = record.key else { continue };
                let key = xxh3_128(key);
                if latest.len() < COMPACTION_KEYS_MAX || latest.contains_key(&key) {
                    latest.insert(key, record.offset);
                }
            }
            stopped = pace.went_through(batch.len()).err();
            Ok(if stopped.is_some() { Flow::Enough } else { Flow::More })
        })?;
        stopped.map_or(Ok(()), Err)?;
    }
    Ok(latest)
}

/// Records that wait to become one batch.
#[derive(Default)]
struct Packed {
    /// The records, each with the batch that it lies in.
    records: Vec<(Bytes, u32, Offset)>,
    bytes: usize,
    out: Vec<u8>,
    scratch: Scratch,
}

impl Packed {
    fn begin(&mut self) {
        self.records.clear();
        self.bytes = 0;
    }

    fn is_full(&self, record: &Record<'_>) -> bool {
        let Some((.., first)) = self.records.first() else { return false };
        self.bytes + record.bytes > PACKED_BYTES || record.offset.0 - first.0 >= PACKED_OFFSETS_MAX
    }

    fn push(&mut self, batch: &Bytes, record: &Record<'_>) {
        self.bytes += record.bytes;
        self.records.push((batch.clone(), record.at, record.offset));
    }

    /// The batch with its number of records and its earliest and latest timestamp; none if it would be empty.
    fn take(&mut self) -> Option<(Vec<u8>, u64, (Millis, Millis))> {
        let (.., base) = *self.records.first()?;
        let mut out = std::mem::take(&mut self.out);
        out.clear();
        let records =
            || self.records.iter().map(|(batch, at, _)| Record::read(batch, *at).expect("read before"));
        let min = records().map(|record| record.timestamp).min()?;
        let max = records().map(|record| record.timestamp).max()?;
        let mut encoder = Encoder::new(&mut out, &mut self.scratch, base, min);
        for record in records() {
            encoder.push_record(&record);
        }
        encoder.finish();
        let count = self.records.len() as u64;
        self.begin();
        Some((out, count, (min, max)))
    }

    fn give_back(&mut self, out: Vec<u8>) {
        self.out = out;
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::EntityId;

    use super::*;

    /// Whether a batch of a queue with offsets from 10 to 19 is copied as it is.
    fn taken_whole(bytes: usize, live: &[(u64, u64)]) -> bool {
        let (mut out, mut scratch) = (Vec::new(), Scratch::default());
        let mut encoder = Encoder::new(&mut out, &mut scratch, Offset(10), Millis(1));
        for offset in [10, 19] {
            encoder.push(Offset(offset), &waystation_base::Message::default());
        }
        encoder.finish();
        let header = batch::Header { bytes, ..batch::Header::read(&out).expect("a batch") };
        let live = live.iter().map(|(first, last)| (Offset(*first), Offset(*last))).collect();
        let log = LogId { entity: EntityId(1), log: 0 };
        let plan = LogPlan { log, spans: Vec::new(), live, compact: None, verbatim: false };
        Choice { plan: &plan, latest: None }.takes_whole(&header)
    }

    #[test]
    fn a_batch_of_a_queue_stays_as_it_is_only_if_all_of_it_lives_and_its_size_is_right() {
        let (least, most) = (*WHOLE_BYTES.start(), *WHOLE_BYTES.end());
        for live in [&[(10, 19)][..], &[(0, 3), (9, 25)]] {
            assert!(taken_whole(least, live) && taken_whole(most, live));
            assert!(!taken_whole(least - 1, live) && !taken_whole(most + 1, live));
        }
        for live in [&[][..], &[(10, 18)], &[(11, 19)], &[(10, 14), (16, 19)], &[(20, 30)]] {
            assert!(!taken_whole(least, live), "{live:?}");
        }
    }

    fn scanned(batch: &Bytes) -> Vec<u64> {
        batch::records(batch).expect("records").map(|record| record.expect("a record").offset.0).collect()
    }

    #[test]
    fn records_are_packed_with_their_own_offsets() {
        let (mut out, mut scratch) = (Vec::new(), Scratch::default());
        let mut encoder = Encoder::new(&mut out, &mut scratch, Offset(7), Millis(50));
        for offset in [7, 9, 1000] {
            let message =
                waystation_base::Message { timestamp: Millis(60 - offset % 10), ..Default::default() };
            encoder.push(Offset(offset), &message);
        }
        encoder.finish();
        let batch = Bytes::from(out);
        let mut packed = Packed::default();
        for record in batch::records(&batch).expect("records") {
            packed.push(&batch, &record.expect("a record"));
        }
        let (bytes, count, times) = packed.take().expect("three");
        assert_eq!((count, times), (3, (Millis(51), Millis(60))));
        let bytes = Bytes::from(bytes);
        assert!(crate::scan::checked_batch(&bytes).is_ok());
        assert_eq!(scanned(&bytes), [7, 9, 1000]);
        assert!(packed.take().is_none());
    }
    #[test]
    fn a_job_looks_around_after_each_step_and_ends_when_it_is_told_to() {
        let mut left = 2;
        let mut pause = || {
            left -= 1;
            left > 0
        };
        let mut pace = Pace { pause: &mut pause, bytes: 0 };
        assert!(pace.went_through(STEP_BYTES - 1).is_ok());
        assert!(pace.went_through(1).is_ok());
        assert!(pace.went_through(STEP_BYTES - 1).is_ok());
        assert!(matches!(pace.went_through(STEP_BYTES), Err(Error::Stopped)));
        assert_eq!(left, 0);
    }
}
