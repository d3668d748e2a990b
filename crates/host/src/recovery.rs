//! How a broker comes to life: lock, snapshot, journal, settled files, threads.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    path::Path,
    sync::{Arc, Mutex},
};

use tokio::sync::mpsc::{self, error::TrySendError};
use waystation_base::{Clock, Position, disk::Disk};
use waystation_broker::{ReplayError, Shard, entry::Step};
use waystation_journal::{
    Committer, DataDir, Entry, Epoch, FileJournal, Journal, Preparation, ReadError, Reader, RecoveryReport,
    Verify, settled::Store, snapshot,
};
use waystation_record::{Known, Record, Recorder, Sources};

use crate::{
    Broker, Driver, OpenError, Options,
    cache::{BlockCache, Memory, TailCache},
    driver::Parts,
    keeper::{Keeper, Tools},
    loader::{Files, Loader, Reading},
    log::{Log, Noted},
    options::JOURNAL_EVENTS_MAX,
    snapshots::Housekeeping,
};

/// What was found at a start.
#[derive(Clone, Debug, Default)]
pub struct Recovery {
    /// The journal.
    pub journal: RecoveryReport,
    /// The position of the snapshot that was used.
    pub snapshot: Option<Position>,
    /// Snapshots that could not be used, each with the reason.
    pub damaged_snapshots: Vec<String>,
    /// Entries that were replayed after the snapshot.
    pub replayed: u64,
    /// Settled files that nothing refers to, removed.
    pub orphans: usize,
}

/// Opens the data directory and brings its state back. Nothing moves until the driver runs.
pub fn open(
    options: Options,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
) -> Result<(Broker, Driver, Recovery), OpenError> {
    let (broker, driver, recovery, _) = open_as(options, disk, clock, By::Threads)?;
    Ok((broker, driver, recovery))
}

/// The same without threads that write the journal and read it: that happens when the [`Hand`] says so. With a clock and a disk that are
/// simulated, on a runtime with one thread, everything that follows is then decided by who holds the hand. Let it take no snapshots and settle nothing.
pub fn open_by_hand(
    options: Options,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
) -> Result<(Broker, Driver, Hand), OpenError> {
    let (broker, driver, _, hand) = open_as(options, disk, clock, By::Hand)?;
    // It is there when it was asked for.
    hand.map(|hand| (broker, driver, hand))
        .ok_or_else(|| io("handing over the steps")(std::io::ErrorKind::Unsupported.into()))
}

/// Who writes the journal and reads it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Threads,
    Hand,
}

/// What the threads of a broker would do, step by step.
pub struct Hand {
    journal: waystation_journal::Hand,
    reading: Reading,
}

impl Hand {
    /// Writes and syncs what waits to be durable, if anything does.
    pub fn sync(&mut self) -> bool {
        self.journal.step()
    }

    /// Reads the next thing that is asked for, if there is one.
    pub fn read(&mut self) -> bool {
        self.reading.step()
    }
}

fn open_as(
    options: Options,
    disk: Arc<dyn Disk>,
    clock: Arc<dyn Clock>,
    by: By,
) -> Result<(Broker, Driver, Recovery, Option<Hand>), OpenError> {
    let now = clock.now();
    let dir = DataDir::open(disk.clone(), &options.dir, &options.owner)?;
    let mut recovery = Recovery::default();
    let (mut shard, from) = restore(disk.as_ref(), &dir.snapshots(), &mut recovery)?;
    shard.set_tells_unrouted(options.record.is_some());
    let journal_options = waystation_journal::Options {
        file_bytes: options.journal_file_bytes,
        first_file_bytes: options.journal_file_bytes.min(4 << 20),
        preparation: if by == By::Hand { Preparation::Inline } else { Preparation::Background },
        ..waystation_journal::Options::default()
    };
    let (journal, report) =
        FileJournal::open(disk.clone(), &dir.journal(), journal_options, Verify::From(from))?;
    recovery.journal = report;
    let reader = journal.reader();
    scan(&reader, reader.start(), from, &mut |entry| {
        shard.reindex(entry.position, entry.kind, entry.payload)
    })?;
    let mut replayed = 0;
    scan(&reader, from, reader.end(), &mut |entry| {
        replayed += 1;
        shard.replay(entry.position, entry.kind, entry.payload)
    })?;
    recovery.replayed = replayed;
    let store = Store::open(disk.clone(), &dir.settled())?;
    let files = settle_accounts(&shard, &store, &dir, &mut recovery)?;

    let (events, journal_events) = mpsc::channel(JOURNAL_EVENTS_MAX);
    let durable = journal.end();
    let epoch = Epoch(journal.epoch().0 + 1);
    let (committer, journal_hand) = match by {
        By::Threads => {
            let committer = Committer::spawn(journal, options.mode, epoch, move |event| {
                // A driver that has ended wants to hear nothing.
                let _ = events.blocking_send(event);
            });
            (committer.map_err(io("starting the journal's thread"))?, None)
        }
        By::Hand => {
            let (committer, hand) = Committer::by_hand(journal, options.mode, epoch, move |event| {
                let told = events.try_send(event);
                debug_assert!(
                    !matches!(told, Err(TrySendError::Full(_))),
                    "more steps than the driver has heard of"
                );
            });
            (committer, Some(hand))
        }
    };
    let committer = Arc::new(committer);
    let mut effects = Vec::new();
    let end = committer.with_group(|group| {
        let mut noted = Noted::default();
        let mut log = Log::new(group, &mut noted, now);
        log.step(Step::Start);
        shard.recovered(now, &mut log, &mut effects);
        if group.is_empty() { group.start() } else { group.end() }
    })?;

    let blocks: Arc<Mutex<BlockCache>> = Arc::default();
    let files_of =
        |blocks: &Arc<Mutex<BlockCache>>| Files::new(reader.clone(), store.clone(), blocks.clone());
    // What is settled is read once, and by nobody else: consumers are past it, or far behind.
    let files_to_settle = Files::new(reader.uncached(), store.clone(), Arc::default());
    let (loader, answers, reading) = match by {
        By::Threads => {
            let (loader, answers) =
                Loader::start(files_of(&blocks)).map_err(io("starting the reading thread"))?;
            (loader, answers, None)
        }
        By::Hand => {
            let (loader, answers, reading) = Loader::by_hand(files_of(&blocks));
            (loader, answers, Some(reading))
        }
    };
    let hand = journal_hand.zip(reading).map(|(journal, reading)| Hand { journal, reading });
    let tools = Tools {
        disk: disk.clone(),
        snapshots: dir.snapshots(),
        committer: committer.clone(),
        store: store.clone(),
        // What is copied is not wanted again soon: it has a cache of its own.
        files: files_to_settle,
    };
    let (keeper, done) = Keeper::start(tools).map_err(io("starting the keeping thread"))?;
    let snapshots = snapshot::positions(disk.as_ref(), &dir.snapshots())?;
    let house = Housekeeping::new(keeper, &options, snapshots, files);
    let (recorder, record) = record(&options, &shard, &dir, &disk, &clock, &reader, &committer)?;
    let (broker, shared, requests) = Broker::new(options.requests_max, record);
    let memory = Memory { tail: TailCache::new(options.cache_bytes), blocks, durable };
    let parts = Parts {
        dir,
        options,
        disk,
        clock,
        shard,
        shared,
        requests,
        journal_events,
        answers,
        done,
        committer,
        reader,
        memory,
        loader,
        house,
        recorder,
        trimmable: Position(0),
    };
    Ok((broker, Driver::begin(parts, effects, end), recovery, hand))
}

/// Starts the recorder, if there is to be a record. It knows what there is now, and reads what the journal tells since its last
/// file.
fn record(
    options: &Options,
    shard: &Shard,
    dir: &DataDir,
    disk: &Arc<dyn Disk>,
    clock: &Arc<dyn Clock>,
    reader: &Reader,
    committer: &Arc<Committer>,
) -> Result<(Option<Recorder>, Option<Record>), OpenError> {
    let Some(record) = options.record.clone() else { return Ok((None, None)) };
    let (entities, sources) = shard.inventory();
    let business = shard.business_keys();
    let sources = Sources {
        disk: disk.clone(),
        dir: dir.record(),
        clock: clock.clone(),
        reader: reader.clone(),
        committer: committer.clone(),
        known: Known { entities, business, sources },
    };
    let (recorder, record) = Recorder::start(record, sources).map_err(io("opening the record"))?;
    Ok((Some(recorder), Some(record)))
}

fn io(what: &'static str) -> impl FnOnce(std::io::Error) -> OpenError {
    move |error| OpenError::Io { what, error }
}

/// The state of the newest snapshot, and from where on the journal is to be replayed.
fn restore(disk: &dyn Disk, dir: &Path, recovery: &mut Recovery) -> Result<(Shard, Position), OpenError> {
    let latest = snapshot::latest(disk, dir)?;
    for (path, why) in &latest.damaged {
        tracing::error!(path = %path.display(), %why, "a snapshot is damaged; an older one takes its place");
        recovery.damaged_snapshots.push(format!("{}: {why}", path.display()));
    }
    let Some(found) = latest.snapshot else { return Ok((Shard::new(), Position(0))) };
    let state = found.load().map_err(io("reading the snapshot"))?;
    let shard =
        Shard::restore(&state).map_err(|error| OpenError::State { path: found.path.clone(), error })?;
    recovery.snapshot = Some(found.position);
    Ok((shard, found.position))
}

fn scan(
    reader: &Reader,
    from: Position,
    to: Position,
    visit: &mut dyn FnMut(&Entry<'_>) -> Result<(), ReplayError>,
) -> Result<(), OpenError> {
    let mut failed = None;
    if from >= to {
        return Ok(());
    }
    let scanned: Result<Position, ReadError> = reader.scan(from, to, &mut |entry| match visit(&entry) {
        Ok(()) => ControlFlow::Continue(()),
        Err(error) => {
            failed = Some(OpenError::Replay { position: entry.position, error });
            ControlFlow::Break(())
        }
    });
    scanned?;
    failed.map_or(Ok(()), Err)
}

/// Compares the settled files that are there with those that hold messages; returns what stays.
fn settle_accounts(
    shard: &Shard,
    store: &Store,
    dir: &DataDir,
    recovery: &mut Recovery,
) -> Result<BTreeMap<u32, u64>, OpenError> {
    let there = store.files()?;
    let used = shard.files();
    if let Some(missing) = used.iter().find(|file| !there.contains(&file.file)) {
        let (file, bytes) = (missing.file, missing.live_bytes);
        return Err(OpenError::Missing { file, bytes, dir: dir.settled() });
    }
    let (kept, orphans): (Vec<u32>, Vec<u32>) =
        there.into_iter().partition(|file| used.iter().any(|used| used.file == *file));
    for file in &orphans {
        store.remove(*file)?;
    }
    recovery.orphans = orphans.len();
    kept.into_iter().map(|file| Ok((file, store.length(file)?))).collect()
}
