//! The thread that follows the journal: groups in, facts in memory, and files when there are enough.

use std::{
    ops::ControlFlow,
    sync::{Arc, PoisonError},
    thread::JoinHandle,
};

use bytes::Bytes;
use waystation_base::{Millis, Position};
use waystation_journal::{Committer, ReadError, Reader, layout::frame::Frame, record::Store};

use crate::{
    feed::Feed,
    meta::Gap,
    observer::Observer,
    options::{Options, Sources},
    recent::Recent,
    record::{Inner, Record, State},
    shelf::{Outdated, Shelf, Summary, expired, in_order},
};

/// How much less than others the thread is given of the processor.
const NICE: i32 = 10;
/// Bytes of journal that are read at a time when groups are not in memory any more.
const SCAN_BYTES: u64 = 4 << 20;
/// Bytes of journal past which facts are written to a file, so that a restart reads no more than that again.
const SPAN_BYTES_MAX: u64 = 256 << 20;
/// Milliseconds for which facts gather before they are written only because the owner would like to let go of the journal: a file that is
/// not full is written anew later, whole.
const WANTED_MS: u64 = 1_000;
/// Milliseconds from one look at the age of files to the next.
const AGE_LOOK_MS: u64 = 60_000;

/// The running recorder. Dropping it ends its thread.
pub struct Recorder {
    feed: Arc<Feed>,
    thread: Option<JoinHandle<()>>,
}

struct Worker {
    inner: Arc<Inner>,
    feed: Arc<Feed>,
    options: Options,
    reader: Reader,
    committer: Arc<Committer>,
    clock: Arc<dyn waystation_base::Clock>,
    observer: Observer,
    position: Position,
    next_file: u32,
    /// Files of an earlier format, which go when the next file is written.
    outdated: Vec<u32>,
    aged_at: Millis,
    written_at: Millis,
    /// Writing a file failed; it is tried again after this time.
    retry_at: Millis,
}

/// Milliseconds until a file is tried again that could not be written.
const RETRY_MS: u64 = 5_000;

impl Recorder {
    /// Opens the record and starts its thread.
    pub fn start(options: Options, sources: Sources) -> std::io::Result<(Recorder, Record)> {
        let store = Store::open(sources.disk.clone(), &sources.dir).map_err(std::io::Error::other)?;
        let (worker, record) = Worker::open(options, sources, store).map_err(std::io::Error::other)?;
        let feed = worker.feed.clone();
        let work = move || {
            // Without the right to it the thread keeps its priority.
            let _ = rustix::process::nice(NICE);
            worker.run();
        };
        let thread = std::thread::Builder::new().name("recorder".to_owned()).spawn(work)?;
        Ok((Recorder { feed, thread: Some(thread) }, record))
    }

    /// Where the owner of the journal tells what is durable.
    pub fn feed(&self) -> &Feed {
        &self.feed
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.feed.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Worker {
    fn open(
        options: Options,
        sources: Sources,
        store: Arc<Store>,
    ) -> Result<(Worker, Record), waystation_journal::record::Error> {
        let Sources { clock, reader, committer, known, .. } = sources;
        let ids = store.files()?;
        let shelf = Shelf::new(store);
        let (mut files, mut damaged, mut outdated) = (Vec::new(), Vec::new(), Outdated::default());
        for id in &ids {
            match shelf.summary(*id) {
                Ok(summary) => files.push(summary),
                Err(error) => match error.outdated() {
                    Some(head) => outdated.add(*id, head),
                    None => {
                        tracing::error!(%error, "a record file cannot be read: what it tells is missing from the record");
                        damaged.push(error.to_string());
                    }
                },
            }
        }
        let (mut files, superfluous) = in_order(files);
        let end = reader.end();
        // Files are written about what is durable; one that reaches further was written before the journal was cut or salvaged.
        let beyond: Vec<u32> = files.iter().filter(|file| file.to > end).map(|file| file.id).collect();
        files.retain(|file| file.to <= end);
        for id in superfluous.into_iter().chain(beyond) {
            shelf.remove(id)?;
        }
        let newest = files.last().and_then(|file| shelf.open(file.id).ok());
        let clients = newest.map(|opened| opened.meta.known.clone()).unwrap_or_default();
        let position = files.last().map_or(reader.start(), |file| file.to);
        let feed = Feed::new(position, end);
        let mut recent = Recent::begin(position);
        if !outdated.ids.is_empty() {
            let (gap, files) = (outdated.gap(position), outdated.ids.len());
            let (from, to) = gap.iter().map(|gap| (gap.after.0, gap.before.0)).next().unwrap_or_default();
            tracing::warn!(
                files,
                from_ms = from,
                to_ms = to,
                "record files of an earlier format are not read, and go when the next one is written: what the journal does not hold any more is missing from the record"
            );
            recent.gaps.extend(gap);
        }
        let state = State { recent, files, unfinished: None, damaged, unreadable: 0, untold: 0 };
        let inner = Arc::new(Inner::new(feed.clone(), shelf, state));
        let observer = Observer::new(options.rules.clone(), known, clients, inner.rates.clone());
        let record = Record(inner.clone());
        let next_file = ids.last().map_or(1, |newest| newest + 1);
        let worker = Worker {
            inner,
            feed,
            options,
            reader,
            committer,
            clock,
            observer,
            position,
            next_file,
            outdated: outdated.ids,
            aged_at: Millis(0),
            written_at: Millis(0),
            retry_at: Millis(0),
        };
        Ok((worker, record))
    }

    fn run(mut self) {
        self.look_at_age();
        while self.feed.wait() {
            while !self.feed.is_stopping() && self.position < self.feed.durable_position() {
                if self.is_full() {
                    // The file could not be written. Memory is bounded: nothing more is taken in until it is.
                    self.feed.pause(RETRY_MS);
                    self.write_if_due();
                } else if !self.take_groups() {
                    break;
                } else {
                    self.write_if_due();
                }
            }
            self.write_if_due();
            self.look_at_age();
        }
        self.feed.ended();
    }

    /// Takes in what has gathered, or a piece of the journal; says whether it came further.
    fn take_groups(&mut self) -> bool {
        let tap = self.inner.tap.lock().unwrap_or_else(PoisonError::into_inner).take();
        if tap.is_some() {
            self.observer.tap = tap;
        }
        let before = self.position;
        for (start, bytes) in self.feed.take() {
            while self.position < start {
                if !self.scan(start) {
                    break;
                }
                self.write_if_due();
            }
            if self.position == start {
                self.take_group(&bytes);
            }
            if self.is_full() {
                self.write_if_due();
            }
            if self.is_full() {
                // It could not be written. The groups that are left are in the journal.
                break;
            }
        }
        if self.position == before {
            let durable = self.feed.durable_position();
            self.scan(durable);
        }
        self.position > before
    }

    fn take_group(&mut self, bytes: &Bytes) {
        let Ok(frame) = Frame::trusted(bytes) else { return };
        let mut state = self.inner.write();
        self.observer.begin_group();
        for entry in frame.entries().flatten() {
            self.observer.observe(&entry, &mut state.recent);
        }
        self.position = frame.header.end();
        state.recent.to = self.position;
        (state.unreadable, state.untold) = (self.observer.unreadable, self.observer.untold);
        self.inner.shown.note_memory(&state);
        drop(state);
        self.feed.set_position(self.position);
    }

    /// Reads a piece of the journal's files, towards `to`; says whether it came further.
    fn scan(&mut self, to: Position) -> bool {
        let until = Position(self.position.0 + SCAN_BYTES).min(to);
        let mut state = self.inner.write();
        let observer = &mut self.observer;
        let scanned = self.reader.scan(self.position, until, &mut |entry| {
            // Each group begins with a moment of its own.
            observer.observe(&entry, &mut state.recent);
            ControlFlow::Continue(())
        });
        let position = match scanned {
            Ok(position) => position,
            Err(error) => {
                drop(state);
                return self.skip(&error, to);
            }
        };
        state.recent.to = position;
        (state.unreadable, state.untold) = (observer.unreadable, observer.untold);
        self.inner.shown.note_memory(&state);
        drop(state);
        let further = position > self.position;
        self.position = position;
        self.feed.set_position(position);
        further
    }

    /// Passes over what cannot be read, and says so in the record.
    fn skip(&mut self, error: &ReadError, to: Position) -> bool {
        let next = match error {
            ReadError::Trimmed { start, .. } => *start,
            ReadError::Damaged { .. } => to,
            ReadError::OutOfRange { .. } | ReadError::Io { .. } => {
                tracing::error!(%error, "the recorder cannot read the journal; it tries again");
                return false;
            }
        };
        let why = match error {
            ReadError::Trimmed { .. } => {
                "the recorder was too far behind, and the journal went on without it".to_owned()
            }
            other => other.to_string(),
        };
        tracing::error!(from = self.position.0, to = next.0, %error, "the record has a gap");
        self.observer.begin_group();
        let (after, before) = (self.observer.time(), self.clock.now());
        let mut state = self.inner.write();
        state.recent.gaps.push(Gap { from: self.position, to: next, after, before, why });
        state.recent.to = next;
        self.inner.shown.note(&state);
        drop(state);
        self.position = next;
        self.feed.set_position(next);
        true
    }

    fn is_full(&self) -> bool {
        self.inner.read().recent.is_full()
    }

    fn write_if_due(&mut self) {
        let is_full = self.is_full();
        let span = self.position.0.saturating_sub(self.feed.checkpoint().0);
        let wanted = self.feed.wanted();
        let is_wanted = self.feed.checkpoint() < wanted && wanted <= self.position;
        let now = self.clock.now();
        // A clock that was set back must not stop it.
        let has_gathered = now.since(self.written_at) >= WANTED_MS || now < self.written_at;
        let is_due = is_full || span >= SPAN_BYTES_MAX || (is_wanted && has_gathered);
        if is_due && now >= self.retry_at {
            self.write(is_full);
        }
    }

    /// Writes what is in memory to a file. If that is not full, memory stays as it is, and the next file takes this one's place: so
    /// there are not many small ones.
    fn write(&mut self, is_full: bool) {
        if self.committer.sync_through(self.position).is_err() {
            // The journal takes nothing any more; what is not durable must not be told.
            self.retry_at = Millis::NEVER;
            return;
        }
        let known = self.observer.known_clients();
        let id = self.next_file;
        // Others read beside; nobody but this thread changes what is in memory.
        let written = self.inner.shelf.write(id, &self.inner.read().recent, known);
        match written {
            Ok(summary) => self.written(summary, is_full),
            Err(error) => {
                tracing::error!(%error, "the record could not be written; it stays in memory and is tried again");
                self.retry_at = self.clock.now().plus(RETRY_MS);
            }
        }
        self.retire();
    }

    fn written(&mut self, summary: Summary, is_full: bool) {
        self.next_file = summary.id + 1;
        self.written_at = self.clock.now();
        let mut state = self.inner.write();
        let replaced = state.unfinished.take();
        state.files.retain(|file| Some(file.id) != replaced);
        state.unfinished = (!is_full).then_some(summary.id);
        state.files.push(summary);
        if is_full {
            state.recent.restart(self.position);
            self.observer.begin_memory();
        }
        self.inner.shown.note(&state);
        drop(state);
        if let Some(replaced) = replaced
            && let Err(error) = self.inner.shelf.remove(replaced)
        {
            tracing::warn!(%error, "a record file that was written anew could not be removed");
        }
        self.feed.set_checkpoint(self.position);
        self.remove_outdated();
    }

    /// Removes files of an earlier format: not before the file is written that says what is missing with them.
    fn remove_outdated(&mut self) {
        for id in std::mem::take(&mut self.outdated) {
            if let Err(error) = self.inner.shelf.remove(id) {
                tracing::warn!(%error, "a record file of an earlier format could not be removed");
            }
        }
    }

    fn look_at_age(&mut self) {
        let now = self.clock.now();
        if now.since(self.aged_at) >= AGE_LOOK_MS || now < self.aged_at {
            self.aged_at = now;
            self.retire();
            self.inner.write().recent.shrink();
        }
    }

    /// Removes files that are too old or too many.
    fn retire(&mut self) {
        let Options { retention_ms, retention_bytes, .. } = self.options;
        let now = self.clock.now();
        let gone: Vec<u32> = {
            let state = &mut *self.inner.write();
            let unfinished = state.unfinished;
            // What is in memory too is not old.
            let finished = state.files.iter().take_while(|file| Some(file.id) != unfinished).count();
            let count = expired(&state.files, now, retention_ms, retention_bytes).min(finished);
            let gone = state.files.drain(..count).map(|file| file.id).collect();
            self.inner.shown.note(state);
            gone
        };
        for id in gone {
            if let Err(error) = self.inner.shelf.remove(id) {
                tracing::warn!(%error, "a record file past its retention could not be removed");
            }
        }
    }
}
