//! Where stored messages are read and copied: what a host does for its shard, written down in the plainest way.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
};

use bytes::Bytes;
use waystation_base::{
    Offset,
    batch::{self, Encoder, Header, Record, Scratch},
};
use waystation_broker::{
    place::{Load, Loaded, LogId, Meta, Place, Purpose},
    settle::{LogPlan, Outcome, Plan, SettledRun},
};
use waystation_journal::{
    FileJournal, Journal, OpenError, Options, Preparation, RecoveryReport, Verify, Visitor, settled,
};

use crate::{disk::SimDisk, random::Random};

/// Bytes of a simulated journal file: small, so that files come and go.
const FILE_BYTES: u64 = 32 << 10;

/// The journal and the settled files of one data directory.
pub struct Storage {
    /// The disk under it.
    pub disk: SimDisk,
    /// The journal.
    pub journal: FileJournal,
    /// The settled files.
    pub settled: Arc<settled::Store>,
}

/// A folder of the simulated data directory.
pub fn dir(name: &str) -> &Path {
    Path::new(match name {
        "journal" => "/data/journal",
        "settled" => "/data/settled",
        _ => "/data/snapshots",
    })
}

impl Storage {
    /// Opens what is on the disk; `visitor` gets the entries from the verified position on.
    pub fn open(
        disk: &SimDisk,
        seed: u64,
        verify: Verify,
        visitor: &mut Visitor<'_>,
    ) -> Result<(Storage, RecoveryReport), OpenError> {
        let options = Options {
            file_bytes: FILE_BYTES,
            first_file_bytes: FILE_BYTES / 4,
            align_bytes: if seed.is_multiple_of(2) { 64 } else { 4096 },
            preparation: if seed.is_multiple_of(3) { Preparation::None } else { Preparation::Inline },
            spare_files_max: 2,
            free_bytes_min: 0,
            salt_seed: seed,
        };
        let shared: Arc<SimDisk> = Arc::new(disk.clone());
        let (journal, report) =
            FileJournal::open_and_replay(shared.clone(), dir("journal"), options, verify, visitor)?;
        let settled =
            settled::Store::open(shared, dir("settled")).expect("opening the settled files does not fail");
        Ok((Storage { disk: disk.clone(), journal, settled }, report))
    }

    /// The batches of a span from an offset on, each with its place.
    fn batches(
        &self,
        log: LogId,
        span: &waystation_broker::place::Span,
        from: Offset,
    ) -> Result<Vec<Bytes>, String> {
        match span.place {
            Place::Journal(position) => {
                let head = self.journal.read(position, batch::HEADER_BYTES).map_err(|e| e.to_string())?;
                let bytes = match Header::read(&head) {
                    Ok(header) => header.bytes,
                    Err(batch::Error::Truncated { need, .. }) => need,
                    Err(error) => return Err(format!("{span:?}: {error}")),
                };
                let batch = self.journal.read(position, bytes).map_err(|e| e.to_string())?;
                batch::check_crc(&batch).map_err(|error| format!("{span:?}: {error}"))?;
                Ok(vec![batch])
            }
            Place::Settled(file) => {
                let info = self.settled.info(file).map_err(|error| error.to_string())?;
                let run = info
                    .runs
                    .iter()
                    .find(|run| {
                        run.entity == log.entity
                            && run.log == log.log
                            && run.first <= span.first
                            && span.first <= run.last
                    })
                    .ok_or_else(|| format!("{log:?} {span:?}: the file has no such run"))?;
                let mut batches = Vec::new();
                let mut at = from.max(run.first);
                while at <= run.last {
                    let more = self.settled.read(file, run, at, 4096).map_err(|error| error.to_string())?;
                    let Some(last) = more.last() else { break };
                    at = last.last.next();
                    batches.extend(more.into_iter().map(|batch| batch.bytes));
                }
                Ok(batches)
            }
        }
    }

    /// One stored message.
    pub fn message(&self, meta: &Meta) -> Result<waystation_base::Message, String> {
        let span =
            waystation_broker::place::Span { first: meta.offset, last: meta.offset, place: meta.place };
        let batches = self.batches(meta.log, &span, meta.offset)?;
        for batch in &batches {
            for record in batch::records(batch).map_err(|error| error.to_string())? {
                let record = record.map_err(|error| error.to_string())?;
                if record.offset == meta.offset {
                    return record.message(batch).map_err(|error| error.to_string());
                }
            }
        }
        Err(format!("no message at {meta:?}"))
    }

    /// Answers a load. Stops sooner than it must now and then.
    pub fn load(&self, load: &Load, address: &str, random: &mut Random) -> Loaded {
        let stop = if random.one_in(3) { random.range(1, 40) } else { u64::MAX };
        let mut loaded =
            Loaded { purpose: load.purpose, messages: Vec::new(), next: load.from, damaged: None };
        let mut seen = 0;
        let with_body = matches!(load.purpose, Purpose::DeadLetter { .. });
        for span in &load.spans {
            let batches = match self.batches(load.log, span, load.from) {
                Ok(batches) => batches,
                Err(error) => {
                    loaded.damaged = Some(error);
                    return loaded;
                }
            };
            for batch in &batches {
                for record in batch::records(batch).expect("a batch") {
                    let record = record.expect("a record");
                    if record.offset < load.from || record.offset >= load.to {
                        continue;
                    }
                    loaded.next = record.offset.next();
                    if load.only.as_ref().is_some_and(|only| only.binary_search(&record.offset).is_err()) {
                        continue;
                    }
                    seen += 1;
                    let message = record.message(batch).expect("a message");
                    if load.filter.as_ref().is_none_or(|filter| filter.matches(address, &message)) {
                        let mut meta = Meta::of(load.log, span.place, &record).expect("a meta");
                        meta.tenant = load.tenant_by.as_ref().map_or(0, |by| by.of(address, &message));
                        loaded.messages.push((meta, with_body.then_some(message)));
                    }
                    if loaded.messages.len() >= load.messages_max || (load.only.is_none() && seen >= stop) {
                        return loaded;
                    }
                }
            }
            loaded.next = loaded.next.max(Offset((span.last.0 + 1).min(load.to.0)));
        }
        if load.spans.is_empty() {
            loaded.next = load.to;
        }
        loaded
    }

    /// Carries out a plan: the outcome, and the messages that compaction left out.
    pub fn settle(
        &self,
        plan: &Plan,
        file: u32,
        random: &mut Random,
    ) -> Result<(Outcome, Vec<(LogId, Offset)>), String> {
        let mut outcome = Outcome { leaving: plan.leaving.clone(), runs: Vec::new() };
        let mut dropped = Vec::new();
        if plan.logs.is_empty() {
            return Ok((outcome, dropped));
        }
        let mut writer = self.settled.create(file).map_err(|error| error.to_string())?;
        let mut counts = BTreeMap::new();
        for log in &plan.logs {
            let superseded = self.superseded(log)?;
            dropped.extend(superseded.iter().map(|offset| (log.log, *offset)));
            writer.begin_run(log.log.entity, log.log.log);
            for span in &log.spans {
                for batch in self.batches(log.log, span, span.first)? {
                    for (first, last, max_timestamp, bytes, count) in copies(log, &batch, &superseded, random)
                    {
                        writer
                            .batch(first, last, max_timestamp, &bytes)
                            .map_err(|error| error.to_string())?;
                        counts.insert((log.log, first), count);
                    }
                }
            }
        }
        let info = writer.finish().map_err(|error| error.to_string())?;
        outcome.runs = info
            .runs
            .iter()
            .map(|run| {
                let log = LogId { entity: run.entity, log: run.log };
                let messages =
                    counts.range((log, run.first)..=(log, run.last)).map(|(_, count)| *count).sum();
                let (first, last, bytes) = (run.first, run.last, run.bytes);
                let (min_timestamp, max_timestamp) = (run.min_timestamp, run.max_timestamp);
                SettledRun { file, log, first, last, messages, bytes, min_timestamp, max_timestamp }
            })
            .collect();
        Ok((outcome, dropped))
    }

    /// Offsets of a compacted log that a later message with the same key makes unnecessary.
    fn superseded(&self, log: &LogPlan) -> Result<BTreeSet<Offset>, String> {
        let mut superseded = BTreeSet::new();
        let Some(tombstones_before) = log.compact else { return Ok(superseded) };
        let mut latest = BTreeMap::new();
        for span in &log.spans {
            for batch in self.batches(log.log, span, span.first)? {
                for record in batch::records(&batch).expect("a batch") {
                    let record = record.expect("a record");
                    let Some(key) = record.key.filter(|_| is_live(log, record.offset)) else { continue };
                    superseded.extend(latest.insert(key.to_vec(), record.offset));
                    let tombstone = record.value.is_none_or(<[u8]>::is_empty);
                    if tombstone && record.timestamp < tombstones_before {
                        superseded.insert(record.offset);
                    }
                }
            }
        }
        Ok(superseded)
    }
}

fn is_live(log: &LogPlan, offset: Offset) -> bool {
    log.live.iter().any(|(first, last)| (*first..=*last).contains(&offset))
}

type Copy = (Offset, Offset, waystation_base::Millis, Vec<u8>, u64);

/// What is to be kept of a batch, as one or more batches.
fn copies(log: &LogPlan, batch: &Bytes, superseded: &BTreeSet<Offset>, random: &mut Random) -> Vec<Copy> {
    let header = Header::read(batch).expect("a batch");
    if log.verbatim && superseded.is_empty() {
        let (first, last) = (header.base_offset, header.last_offset());
        let live = log.live.iter().any(|(from, to)| *from <= last && first <= *to);
        let copy = (first, last, header.max_timestamp, batch[..header.bytes].to_vec(), header.count.into());
        return if live { vec![copy] } else { Vec::new() };
    }
    let records: Vec<Record<'_>> = batch::records(batch)
        .expect("a batch")
        .map(|record| record.expect("a record"))
        .filter(|record| is_live(log, record.offset) && !superseded.contains(&record.offset))
        .collect();
    let mut copies = Vec::new();
    let mut scratch = Scratch::default();
    for some in records.chunks(random.range(1, 9) as usize) {
        let mut out = Vec::new();
        let mut encoder = Encoder::new(&mut out, &mut scratch, some[0].offset, some[0].timestamp);
        for record in some {
            encoder.push_record(record);
        }
        encoder.finish();
        let max = some.iter().map(|record| record.timestamp).max().unwrap_or_default();
        copies.push((some[0].offset, some[some.len() - 1].offset, max, out, some.len() as u64));
    }
    copies
}
