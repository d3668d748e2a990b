//! How cold messages are read: a thread that reads journal and settled files for the driver, in the order of its requests.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread::JoinHandle,
};

use bytes::Bytes;
use tokio::sync::mpsc as tokio_mpsc;
use waystation_base::{ConsumerId, Message, Offset, Position, batch};
use waystation_broker::{
    effect::Handed,
    place::{Load, Loaded, LogId, Meta, Place, Span},
};
use waystation_journal::{
    ReadError, Reader,
    settled::{self, Run, Store, StoredBatch},
};

use crate::{
    browse::Browsing,
    cache::{Block, BlockCache},
    options::READS_MAX,
    scan::{self, Flow, LOAD_BYTES_MAX, LoadScan, Opened},
};

/// Bytes of a settled file that are read at once, where one read follows on another.
pub(crate) const READ_BYTES: usize = 256 << 10;
/// Bytes that are read anywhere else; one batch at least.
const READ_BYTES_FIRST: usize = 4 << 10;
/// Bytes of the journal that are read at once where many are: of a region that is read beforehand, and where one read follows
/// on another.
pub(crate) const PIECE_BYTES: usize = 1 << 20;
/// Settled runs whose places are kept in memory.
const RUNS_MAX: usize = 100_000;

/// Why stored bytes could not be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// They have moved: ask again where they are.
    Moved,
    /// They cannot be read; the text says where and why.
    Damaged(String),
}

impl From<ReadError> for Unread {
    fn from(error: ReadError) -> Unread {
        match error {
            ReadError::Trimmed { .. } => Unread::Moved,
            other => Unread::Damaged(other.to_string()),
        }
    }
}

impl From<settled::Error> for Unread {
    fn from(error: settled::Error) -> Unread {
        match error {
            settled::Error::Io { error, .. } if error.kind() == std::io::ErrorKind::NotFound => Unread::Moved,
            other => Unread::Damaged(other.to_string()),
        }
    }
}

/// Reads stored batches, through a cache of what was read last.
pub(crate) struct Files {
    journal: Reader,
    store: Arc<Store>,
    blocks: Arc<Mutex<BlockCache>>,
    /// The runs of settled files, sorted by log and offset.
    runs: HashMap<u32, Vec<Run>>,
    runs_count: usize,
    /// Where the last read of the journal ended, and how much it took.
    last_read: (Position, usize),
    /// Where the last read of a settled file ended.
    last_settled: Option<(u32, LogId, Offset)>,
    /// A part of the journal in pieces, in order, read beforehand because many batches of it are wanted.
    region: Vec<(Position, Bytes)>,
}

impl Files {
    pub(crate) fn new(journal: Reader, store: Arc<Store>, blocks: Arc<Mutex<BlockCache>>) -> Files {
        Files {
            journal,
            store,
            blocks,
            runs: HashMap::new(),
            runs_count: 0,
            last_read: (Position(0), 0),
            last_settled: None,
            region: Vec::new(),
        }
    }

    /// Reads the journal from `from` to `to` at one go, to find many batches of it in any order.
    pub(crate) fn read_region(&mut self, from: Position, to: Position) -> Result<(), Unread> {
        self.region.clear();
        let mut at = from;
        while at < to {
            let mut length = PIECE_BYTES.min((to.0 - at.0) as usize);
            // At the end of a file a piece ends too.
            let piece = loop {
                match self.journal.read_at(at, length) {
                    Err(ReadError::OutOfRange { .. }) if length > 1 => length /= 2,
                    result => break result?,
                }
            };
            at = Position(at.0 + piece.len() as u64);
            self.region.push((Position(at.0 - piece.len() as u64), piece));
        }
        Ok(())
    }

    /// Lets go of what [`Files::read_region`] read.
    pub(crate) fn forget_region(&mut self) {
        self.region = Vec::new();
    }

    /// The whole batch at a position of the region.
    fn in_region(&self, position: Position) -> Option<Bytes> {
        let at = self.region.partition_point(|(start, _)| *start <= position).checked_sub(1)?;
        let (start, piece) = &self.region[at];
        let rest = piece.get((position.0 - start.0) as usize..)?;
        // One that goes on in the next piece is read for itself.
        batch::Header::read(rest).is_ok().then(|| piece.slice_ref(rest))
    }

    fn blocks<R>(&self, use_them: impl FnOnce(&mut BlockCache) -> R) -> R {
        use_them(&mut self.blocks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The batch that begins at a journal position, checked.
    pub(crate) fn journal_batch(&mut self, position: Position, log: LogId) -> Result<Bytes, Unread> {
        let place = Place::Journal(position);
        let in_region = self.in_region(position);
        let found = in_region
            .or_else(|| self.blocks(|blocks| blocks.find(place, log, Offset(0))).map(|(bytes, _)| bytes));
        let bytes = match found {
            Some(bytes) => bytes,
            None => self.read_journal(position)?,
        };
        scan::checked_batch(&bytes).map_err(|error| self.damaged(position, log, &error))
    }

    fn damaged(&self, position: Position, log: LogId, error: &batch::Error) -> Unread {
        let log = scan::log_name(log);
        Unread::Damaged(format!("the batch of {log} at journal position {position}: {error}"))
    }

    /// Bytes from `position` on that hold at least the batch there; what follows is read along.
    fn read_journal(&mut self, position: Position) -> Result<Bytes, Unread> {
        // Reads that follow on each other grow; one far away from the last begins small again.
        let (end, before) = self.last_read;
        let before = before.min(PIECE_BYTES);
        let follows =
            position.0 >= end.0.saturating_sub(before as u64) && position.0 <= end.0 + before as u64;
        let length =
            if follows { (4 * before).clamp(READ_BYTES_FIRST, PIECE_BYTES) } else { READ_BYTES_FIRST };
        // Near the end of a file there may be less than that; what cannot be read may lie behind the batch; and a batch may be
        // longer.
        let first = match self.journal.read_at(position, length) {
            Err(ReadError::OutOfRange { .. } | ReadError::Io { .. }) => {
                self.journal.read_at(position, batch::HEADER_BYTES)?
            }
            read => read?,
        };
        let bytes = match batch::Header::read(&first) {
            Ok(_) => first,
            Err(batch::Error::Truncated { need, .. }) => self.journal.read_at(position, need)?,
            Err(error) => return Err(Unread::Damaged(format!("journal position {position}: {error}"))),
        };
        self.last_read = (Position(position.0 + bytes.len() as u64), bytes.len());
        self.blocks(|blocks| blocks.add(Block::Journal(position, bytes.clone())));
        Ok(bytes)
    }

    /// Batches of a log in a settled file from `from` on; none if there are none.
    pub(crate) fn settled_batches(
        &mut self,
        file: u32,
        log: LogId,
        from: Offset,
        bytes_max: usize,
    ) -> Result<Vec<StoredBatch>, Unread> {
        let Some(run) = self.run(file, log, from)? else { return Ok(Vec::new()) };
        let batches = self.store.read(file, &run, from, bytes_max)?;
        self.last_settled = batches.last().map(|batch| (file, log, batch.last.next()));
        self.blocks(|blocks| {
            for StoredBatch { first, last, bytes, .. } in batches.iter().rev() {
                blocks.add(Block::Settled(file, log, *first, *last, bytes.clone()));
            }
        });
        Ok(batches)
    }

    /// The first offset of a log in a settled file, from `from` on, whose batch reaches `time`.
    pub(crate) fn settled_time(
        &mut self,
        file: u32,
        log: LogId,
        from: Offset,
        time: waystation_base::Millis,
    ) -> Result<Option<Offset>, Unread> {
        let Some(run) = self.run(file, log, from)? else { return Ok(None) };
        Ok(self.store.find_time(file, &run, time)?.map(|found| found.max(from)))
    }

    /// The run of a log in a file that holds `from`, or the next one.
    fn run(&mut self, file: u32, log: LogId, from: Offset) -> Result<Option<Run>, Unread> {
        if !self.runs.contains_key(&file) {
            let mut runs = self.store.info(file)?.runs;
            runs.sort_by_key(|run| (run.entity, run.log, run.first));
            if self.runs_count + runs.len() > RUNS_MAX {
                self.runs.clear();
                self.runs_count = 0;
            }
            self.runs_count += runs.len();
            self.runs.insert(file, runs);
        }
        let runs = &self.runs[&file];
        let at = runs.partition_point(|run| (run.entity, run.log, run.last) < (log.entity, log.log, from));
        Ok(runs.get(at).filter(|run| (run.entity, run.log) == (log.entity, log.log)).cloned())
    }

    /// Forgets a file and removes it.
    fn remove(&mut self, file: u32) {
        if let Some(runs) = self.runs.remove(&file) {
            self.runs_count -= runs.len();
        }
        if let Err(error) = self.store.remove(file) {
            tracing::warn!(%error, "a settled file that is not needed any more stays");
        }
    }

    /// Gives `visit` the batches of a span from `from` on until it has enough. Of a settled file `bytes` are read at once, and
    /// more where one read follows on another; one batch at least.
    pub(crate) fn visit(
        &mut self,
        log: LogId,
        span: &Span,
        from: Offset,
        bytes: usize,
        mut visit: impl FnMut(Place, &Bytes) -> Result<Flow, batch::Error>,
    ) -> Result<Flow, Unread> {
        let damaged = |error| Unread::Damaged(format!("{}, {:?}: {error}", scan::log_name(log), span.place));
        let file = match span.place {
            Place::Journal(position) => {
                let batch = self.journal_batch(position, log)?;
                return visit(span.place, &batch).map_err(damaged);
            }
            Place::Settled(file) => file,
        };
        let (mut from, mut ahead) = (from.max(span.first), bytes);
        while from <= span.last {
            let batches = self.settled_batches(file, log, from, ahead)?;
            let Some(end) = batches.last().map(|last| last.last.next()) else { break };
            for batch in batches.iter().filter(|batch| batch.first <= span.last) {
                if batch.last < from {
                    continue;
                }
                from = match visit(span.place, &batch.bytes).map_err(damaged)? {
                    Flow::More => batch.last.next(),
                    Flow::From(next) => next.max(batch.last.next()),
                    Flow::Enough => return Ok(Flow::Enough),
                };
            }
            from = from.max(end);
            ahead = if from == end { (4 * ahead).min(bytes.max(READ_BYTES)) } else { bytes };
        }
        Ok(Flow::More)
    }

    /// Has what is listed and settled fetched from the disk side by side; it is then read one after the other.
    fn fetch(&mut self, load: &Load, only: &[Offset]) -> Result<(), Unread> {
        for span in &load.spans {
            let Place::Settled(file) = span.place else { continue };
            let Some(run) = self.run(file, load.log, span.first)? else { continue };
            let from = only.partition_point(|offset| *offset < span.first);
            let listed = only[from..].iter().copied().take_while(|offset| *offset <= span.last);
            self.store.will_need(file, &run, listed)?;
        }
        Ok(())
    }

    fn load(&mut self, mut scan: LoadScan) -> Loaded {
        let only = scan.load.only.as_deref().filter(|only| only.len() > 1);
        // What is wrong is told by the reading itself.
        let _ = only.map(|only| self.fetch(&scan.load, only));
        let spans = std::mem::take(&mut scan.load.spans);
        let mut outcome = Ok(Flow::More);
        for span in &spans {
            if scan.wants(span.first, span.last) {
                let (log, next) = (scan.load.log, scan.next());
                // What is listed may lie far apart.
                let bytes = if scan.may_stop_early() { LOAD_BYTES_MAX } else { READ_BYTES_FIRST };
                outcome = self.visit(log, span, next, bytes, |place, batch| scan.batch(place, batch));
            }
            match outcome {
                Ok(Flow::More | Flow::From(_)) => scan.passed(span.last),
                Ok(Flow::Enough) | Err(_) => break,
            }
        }
        scan.load.spans = spans;
        match outcome {
            Ok(Flow::More | Flow::From(_)) => scan.finish(),
            Ok(Flow::Enough) => scan.stop(None),
            Err(Unread::Moved) if scan.may_stop_early() => scan.stop(None),
            Err(Unread::Moved) => scan.stop(Some("messages moved while they were looked for".to_owned())),
            // What was found before the damage goes first; the damage is met again.
            Err(Unread::Damaged(_)) if scan.has_part() => scan.stop(None),
            Err(Unread::Damaged(why)) => scan.stop(Some(why)),
        }
    }

    /// Reads messages, up to the first that cannot be read.
    fn bodies(&mut self, handed: &[Handed], messages: &mut Vec<Message>) -> Result<(), Unread> {
        let mut opened: Option<Opened> = None;
        for (at, one) in handed.iter().enumerate() {
            let meta = &one.meta;
            let damaged = |error| {
                let log = scan::log_name(meta.log);
                Unread::Damaged(format!("offset {} of {log}, {:?}: {error}", meta.offset, meta.place))
            };
            let opened = match &mut opened {
                Some(opened) if opened.holds(meta) => opened,
                other => {
                    let batch = self.batch_of(meta)?;
                    let kept_bytes =
                        if let Place::Journal(_) = meta.place { PIECE_BYTES } else { READ_BYTES };
                    let new = Opened::new(batch, kept_bytes, handed[at..].iter()).map_err(damaged)?;
                    other.insert(new)
                }
            };
            let Some(message) = opened.message(meta).map_err(damaged)? else {
                let (log, place) = (scan::log_name(meta.log), meta.place);
                return Err(Unread::Damaged(format!("offset {} of {log} is not in {place:?}", meta.offset)));
            };
            messages.push(message);
        }
        Ok(())
    }

    /// The batch that holds a message, checked.
    fn batch_of(&mut self, meta: &Meta) -> Result<Bytes, Unread> {
        let file = match meta.place {
            Place::Journal(position) => return self.journal_batch(position, meta.log),
            Place::Settled(file) => file,
        };
        let found = self.blocks(|blocks| blocks.find(meta.place, meta.log, meta.offset));
        if let Some((batch, _)) = found {
            return Ok(batch);
        }
        let follows = self.last_settled == Some((file, meta.log, meta.offset));
        let bytes = if follows { READ_BYTES } else { READ_BYTES_FIRST };
        let batches = self.settled_batches(file, meta.log, meta.offset, bytes)?;
        batches.first().map(|batch| batch.bytes.clone()).ok_or(Unread::Moved)
    }
}

/// What the driver asks of the reading thread.
pub(crate) enum Read {
    /// Messages for the shard.
    Load(LoadScan),
    /// Bodies of messages that are handed to a consumer.
    Bodies(ConsumerId, Vec<Handed>),
    /// A page of a log.
    Browse(Box<Browsing>),
    /// Removes settled files, once everything that was asked before has been read.
    Remove(Vec<u32>),
}

/// What the reading thread says.
pub(crate) enum Answer {
    /// To [`Read::Load`].
    Loaded(Loaded),
    /// To [`Read::Bodies`], for each message that was asked for up to the first that could not be read.
    Bodies(ConsumerId, Vec<Handed>, Vec<Message>, Option<Unread>),
    /// To [`Read::Browse`].
    Browsed(Box<Browsing>, Result<(), Unread>),
    /// To [`Read::Remove`].
    Removed,
}

/// The way to the reading thread, which ends when this is dropped.
pub(crate) struct Loader {
    queue: Option<mpsc::SyncSender<Read>>,
    /// What did not fit into the queue: one for each window and consumer at most.
    waiting: VecDeque<Read>,
    under_way: usize,
    thread: Option<JoinHandle<()>>,
}

impl Loader {
    /// Starts the thread; its answers arrive at the returned receiver.
    pub(crate) fn start(files: Files) -> std::io::Result<(Loader, tokio_mpsc::Receiver<Answer>)> {
        let (mut loader, answers, reading) = Loader::by_hand(files);
        let thread = std::thread::Builder::new().name("reader".to_owned()).spawn(move || reading.run())?;
        loader.thread = Some(thread);
        Ok((loader, answers))
    }

    /// The same without a thread: what is asked for is read when [`Reading::step`] is called.
    pub(crate) fn by_hand(files: Files) -> (Loader, tokio_mpsc::Receiver<Answer>, Reading) {
        let (queue, reads) = mpsc::sync_channel(READS_MAX);
        let (sender, answers) = tokio_mpsc::channel(2 * READS_MAX);
        let loader = Loader { queue: Some(queue), waiting: VecDeque::new(), under_way: 0, thread: None };
        (loader, answers, Reading { reads, sender, files })
    }

    /// Asks for something.
    pub(crate) fn ask(&mut self, read: Read) {
        self.under_way += 1;
        self.waiting.push_back(read);
        self.feed();
    }

    /// Notes that an answer has come.
    pub(crate) fn answered(&mut self) {
        self.under_way -= 1;
        self.feed();
    }

    fn feed(&mut self) {
        let Some(queue) = &self.queue else { return };
        while let Some(read) = self.waiting.pop_front() {
            match queue.try_send(read) {
                Ok(()) => {}
                // The thread ends only with the process that it belongs to.
                Err(mpsc::TrySendError::Full(read) | mpsc::TrySendError::Disconnected(read)) => {
                    self.waiting.push_front(read);
                    return;
                }
            }
        }
    }
}

/// What the reading thread does.
pub(crate) struct Reading {
    reads: mpsc::Receiver<Read>,
    sender: tokio_mpsc::Sender<Answer>,
    files: Files,
}

impl Reading {
    fn run(mut self) {
        while let Ok(read) = self.reads.recv() {
            if self.sender.blocking_send(answer(&mut self.files, read)).is_err() {
                return;
            }
        }
    }

    /// Reads the next thing that is asked for; says whether there was one, and room for the answer.
    pub(crate) fn step(&mut self) -> bool {
        let Ok(permit) = self.sender.try_reserve() else { return false };
        let Ok(read) = self.reads.try_recv() else { return false };
        permit.send(answer(&mut self.files, read));
        true
    }
}

/// Ends the thread after what it is at. Its answers must not be waited for any more, nor be listened to.
impl Drop for Loader {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(files: &mut Files, read: Read) -> Answer {
    match read {
        Read::Load(scan) => Answer::Loaded(files.load(scan)),
        Read::Bodies(consumer, handed) => {
            let mut messages = Vec::with_capacity(handed.len());
            let failed = files.bodies(&handed, &mut messages).err();
            Answer::Bodies(consumer, handed, messages, failed)
        }
        Read::Browse(mut browsing) => {
            let result = browsing.read(files);
            Answer::Browsed(browsing, result)
        }
        Read::Remove(ids) => {
            ids.into_iter().for_each(|id| files.remove(id));
            Answer::Removed
        }
    }
}
