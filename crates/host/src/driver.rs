//! The loop that owns the shard: which request, event or time is next, and what one commit unit takes.
//!
//! One turn takes what has arrived, feeds it to the shard in commit units, and carries out the effects: refusals and closings
//! at once, answers when the unit is durable, deliveries when the messages themselves are. While too much waits for the
//! disk no requests are taken, so that pressure falls on those who send them.

mod effects;
mod sizes;
mod upkeep;

use std::{collections::VecDeque, future::Future, pin::pin, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use waystation_base::{Clock, ConsumerId, Millis, Position, disk::Disk};
use waystation_broker::{
    Command, Effect, Refusal, RequestId, Shard, command::Transaction, entry::Step, place::Load,
};
use waystation_journal::{
    Committer, DataDir, Event as JournalEvent, Failure, Reader, Refused, Space, limits::GROUP_BYTES_SOFT,
};
use waystation_record::Recorder;

use crate::{
    Alarms, Options, Overview, Request, View,
    audit::{self, Origin},
    browse::Browsing,
    cache::Memory,
    consumers::Consumers,
    handle::Shared,
    keeper::Done,
    loader::{Answer, Loader},
    log::{Log, Noted},
    options::{REQUEST_BYTES_MAX, ROOM_BYTES_LAST, ROOM_BYTES_MIN, UNIT_BYTES_MAX, UNIT_REQUESTS_MAX},
    replies::Replies,
    scan::LoadScan,
    snapshots::{Extent, Housekeeping},
};

/// Bytes that storing adds to a message at most, without its headers: for telling whether a request fits.
const MESSAGE_OVERHEAD_BYTES: usize = 64;
/// How often free space and memory are looked at.
const ROOM_LOOK_MS: u64 = 500;
/// The longest sleep: a clock that was set is noticed after it.
const SLEEP_MS_MAX: u64 = 10_000;

/// Something for the shard to do.
struct Work {
    request: Option<RequestId>,
    command: Command,
    bytes: usize,
    /// On whose behalf, for the trail of changes and for the record.
    origin: Option<Arc<Origin>>,
}

/// What waits for a position to be durable.
enum Deferred {
    Load(LoadScan),
    Browse(Box<Browsing>),
}

/// What the driver is made of. Dropped in this order: who sends to others ends before those who listen to him are gone,
/// and the lock on the data directory goes last.
pub(crate) struct Parts {
    pub(crate) options: Options,
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) shard: Shard,
    pub(crate) shared: Arc<Shared>,
    pub(crate) requests: mpsc::Receiver<Request>,
    pub(crate) journal_events: mpsc::Receiver<JournalEvent>,
    pub(crate) answers: mpsc::Receiver<Answer>,
    pub(crate) done: mpsc::Receiver<Done>,
    pub(crate) reader: Reader,
    pub(crate) memory: Memory,
    pub(crate) loader: Loader,
    pub(crate) house: Housekeeping,
    pub(crate) recorder: Option<Recorder>,
    /// The journal before is of no use any more, but for the record.
    pub(crate) trimmable: Position,
    pub(crate) committer: Arc<Committer>,
    pub(crate) dir: DataDir,
}

/// Whether requests are still taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Open,
    /// No new ones; what was taken is finished.
    Draining,
    /// The last snapshot is being written.
    Closing,
}

/// Owns the shard. Run it on the runtime that the doors run on.
pub struct Driver {
    parts: Parts,
    phase: Phase,
    inbox: Vec<Request>,
    work: VecDeque<Work>,
    queries: Vec<Box<dyn FnOnce(&View<'_>) + Send>>,
    effects: Vec<Effect>,
    loads: VecDeque<Load>,
    replies: Replies,
    consumers: Consumers,
    deferred: VecDeque<(Position, Deferred)>,
    callers: Vec<ConsumerId>,
    /// The end of what was given to the committer.
    end: Position,
    space: Space,
    free_bytes: u64,
    /// None: it is to be looked at once.
    room_looked_at: Option<Millis>,
    memory_used_bytes: u64,
    alarms: Alarms,
    /// Settling lags behind: no requests are taken until then.
    slowed_until: Option<Millis>,
    /// Too much waits for the disk: the shard is left alone.
    busy: bool,
    /// All handles were dropped.
    abandoned: bool,
    groups: u64,
    group_bytes: u64,
    disk_reads: u64,
    /// The topic of the records is there, as configured.
    audited: bool,
    /// What the open commit group tells of when and by whom.
    noted: Noted,
    /// Where the journal was trimmed to last.
    trimmed: Position,
}

impl Driver {
    /// A driver that has the effects of the start to carry out; their entries end at `end`.
    pub(crate) fn begin(parts: Parts, effects: Vec<Effect>, end: Position) -> Driver {
        let mut driver = Driver {
            parts,
            phase: Phase::Open,
            inbox: Vec::new(),
            work: VecDeque::new(),
            queries: Vec::new(),
            effects,
            loads: VecDeque::new(),
            replies: Replies::default(),
            consumers: Consumers::default(),
            deferred: VecDeque::new(),
            callers: Vec::new(),
            end,
            space: Space::Enough,
            free_bytes: u64::MAX,
            room_looked_at: None,
            memory_used_bytes: 0,
            alarms: Alarms::default(),
            busy: false,
            abandoned: false,
            slowed_until: None,
            groups: 0,
            group_bytes: 0,
            disk_reads: 0,
            audited: false,
            noted: Noted::default(),
            trimmed: Position(0),
        };
        driver.carry_out(end);
        driver
    }

    /// Runs until `stop` is ready and everything is written down, or until writing fails.
    pub async fn run(mut self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        match self.drive(stop).await {
            Ok(()) => self.close(),
            Err(failure) => Err(self.fail(failure)),
        }
    }

    async fn drive(&mut self, stop: impl Future<Output = ()>) -> Result<(), Failure> {
        let mut stop = pin!(stop);
        let mut sleep = pin!(tokio::time::sleep(Duration::ZERO));
        let mut slept_for = None;
        let mut journal_events = Vec::new();
        loop {
            let wake = self.wake_at();
            if wake != slept_for {
                slept_for = wake;
                sleep.as_mut().reset(tokio::time::Instant::now() + self.until(wake));
            }
            let open = self.phase == Phase::Open;
            let slowed = self.slowed_until.is_some();
            // With no room left requests are taken all the same: to be refused, which is better than silence.
            let ready = self.is_starved() || (!self.busy && self.work.is_empty());
            let takes = open && ready && !self.abandoned && !slowed;
            let Parts { requests, journal_events: journal, answers, done, shared, .. } = &mut self.parts;
            tokio::select! {
                biased;
                count = journal.recv_many(&mut journal_events, 64) => if count == 0 {
                    return Err(died("the journal's thread"));
                },
                Some(answer) = answers.recv() => self.answer(answer),
                Some(done) = done.recv() => self.done(done),
                () = shared.attention.called() => {}
                () = &mut stop, if open => self.drain(),
                () = &mut sleep, if wake.is_some() => slept_for = None,
                count = requests.recv_many(&mut self.inbox, UNIT_REQUESTS_MAX), if takes => self.abandoned = count == 0,
            }
            for event in journal_events.drain(..) {
                self.journal_event(event)?;
            }
            self.turn()?;
            if self.begins_to_close() {
                self.turn()?;
            }
            if self.is_finished() {
                return Ok(());
            }
        }
    }

    /// Everything that can be done now.
    fn turn(&mut self) -> Result<(), Failure> {
        let now = self.parts.clock.now();
        self.consumers.now = now;
        self.look_for_room(now);
        self.hear_callers();
        self.slow_down(now);
        self.take_inbox();
        loop {
            self.unit(now)?;
            self.serve_loads();
            if self.work.is_empty() || self.busy {
                break;
            }
        }
        self.run_queries(now);
        self.keep_house(now);
        Ok(())
    }

    /// After requests were taken, puts the next taking off if settling lags behind.
    fn slow_down(&mut self, now: Millis) {
        if !self.inbox.is_empty() {
            let wait_ms = self.parts.house.lag_wait_ms(self.extent());
            self.slowed_until = (wait_ms > 0).then(|| now.plus(wait_ms));
        } else if self.slowed_until.is_some_and(|until| until <= now) {
            self.slowed_until = None;
        }
    }

    /// Notes what is asked, or refuses it.
    fn take_inbox(&mut self) {
        let mut inbox = std::mem::take(&mut self.inbox);
        for request in inbox.drain(..) {
            self.take(request);
        }
        self.inbox = inbox;
    }

    fn take(&mut self, request: Request) {
        match request {
            Request::Command(command, origin, reply) => match self.admit(&command) {
                Ok(bytes) => {
                    let request = Some(self.replies.open(reply, None));
                    self.work.push_back(Work { request, command, bytes, origin });
                }
                // A caller that gave up needs no answer.
                Err(refusal) => _ = reply.send(Err(refusal)),
            },
            Request::Attach(attach, outbox, origin, reply) => {
                // Its caller gave up, and has called for attention before it was here: it would stay for ever.
                if outbox.is_gone() {
                    return;
                }
                if self.is_starved() {
                    // A caller that gave up needs no answer.
                    _ = reply.send(Err(Refusal::DiskLow));
                    return;
                }
                let id = attach.consumer;
                self.consumers.attach(id, attach.source.clone(), outbox);
                let request = Some(self.replies.open(reply, Some(id)));
                self.work.push_back(Work { request, command: Command::Attach(attach), bytes: 0, origin });
            }
            Request::Browse(target, browse, reply) => {
                let browsing = Box::new(Browsing::new(target, browse, reply));
                let from = browsing.browse.from;
                self.browse(browsing, from);
            }
            Request::Query(query) => self.queries.push(query),
        }
    }

    /// How large a command is, or why it is refused before the shard sees it.
    fn admit(&self, command: &Command) -> Result<usize, Refusal> {
        let bytes = match command {
            Command::Transact(transaction) => sizes::transaction_bytes(transaction),
            Command::PublishEach(publishes) => publishes.iter().map(sizes::publish_bytes).sum(),
            Command::Document { body, .. } => body.as_ref().map_or(0, |body| body.len()),
            _ => 0,
        };
        if bytes > REQUEST_BYTES_MAX {
            let (count, limit) = (bytes as u64, REQUEST_BYTES_MAX as u64);
            return Err(Refusal::TooLarge { what: "bytes in one request", count, limit });
        }
        let publishes = match command {
            Command::Transact(Transaction { publishes, .. }) => !publishes.is_empty(),
            Command::PublishEach(_) => true,
            _ => false,
        };
        let no_room = !self.has_room(ROOM_BYTES_MIN + bytes as u64);
        let refusal = match no_room {
            true => Some(Refusal::DiskLow),
            false => self.alarms.refusal().filter(|_| publishes),
        };
        refusal.map_or(Ok(bytes), Err)
    }

    /// Whether the journal can still take so many bytes.
    fn has_room(&self, bytes: u64) -> bool {
        match self.space {
            Space::Enough => true,
            Space::Low { room_bytes } => room_bytes >= bytes,
        }
    }

    /// Whether there is no room for anything more, not even for what makes room.
    fn is_starved(&self) -> bool {
        !self.has_room(ROOM_BYTES_LAST + self.parts.committer.open_bytes() as u64)
    }

    /// Feeds one commit unit to the shard and carries out what it says.
    fn unit(&mut self, now: Millis) -> Result<(), Failure> {
        // What room there is goes with every group; who went by what it was a while ago would write past it, and that ends the server.
        self.space = self.parts.committer.space();
        let due = self.parts.shard.next_deadline().is_some_and(|deadline| deadline <= now);
        let bytes = self.work.front().map_or(0, |work| work.bytes);
        let open_bytes = self.parts.committer.open_bytes();
        let needs = ROOM_BYTES_LAST + (open_bytes + bytes) as u64;
        self.busy = open_bytes >= GROUP_BYTES_SOFT || !self.has_room(needs);
        if self.busy || self.work.is_empty() && !due && !self.parts.house.wants_snapshot() {
            return Ok(());
        }
        // With little room each request is weighed for itself.
        let bytes_max = if self.space == Space::Enough { UNIT_BYTES_MAX } else { 0 };
        let Driver {
            parts: Parts { options, shard, committer, house, shared, .. },
            work,
            effects,
            audited,
            noted,
            ..
        } = self;
        let mut settled = Vec::new();
        let taken = committer.with_group(|group| {
            if group.is_empty() && house.wants_snapshot() {
                house.take_snapshot(group.start(), shard.snapshot());
            }
            let mut log = Log::new(group, noted, now);
            let (mut requests, mut bytes) = (0, 0);
            while let Some(mut next) = work.pop_front() {
                shared.overlay.lay(&mut next.command);
                log.begin(&mut next.command, next.origin.as_ref());
                if let Command::Settled(outcome) = &next.command {
                    match shard.check_settled(outcome) {
                        Ok(()) => settled.push(outcome.leaving.clone()),
                        Err(overlap) => {
                            house.refused(&overlap, now);
                            house.discard(outcome);
                        }
                    }
                }
                bytes += next.bytes;
                requests += 1;
                let trail = options.audit.zip(next.origin.as_ref().filter(|origin| !origin.inner));
                let draft = trail.and_then(|(audit, origin)| {
                    Some((audit, audit::draft(shard, &next.command, origin, now)?))
                });
                let said = effects.len();
                shard.handle(now, next.request, next.command, &mut log, effects);
                if let Some((audit, draft)) = draft {
                    let commands = draft.commands(&effects[said..], next.request, now, audit, !*audited);
                    *audited |= !commands.is_empty();
                    commands
                        .into_iter()
                        .for_each(|command| shard.handle(now, None, command, &mut log, effects));
                }
                let following = work.front().map_or(0, |work| work.bytes);
                if requests == UNIT_REQUESTS_MAX || bytes + following > bytes_max {
                    break;
                }
            }
            if due {
                log.step(Step::Timer);
                shard.tick(now, &mut log, effects);
            }
            log.step(Step::Dispatch);
            shard.flush(now, &mut log, effects);
            if group.is_empty() { group.start() } else { group.end() }
        });
        let end = taken.map_err(fatal)?;
        self.end = end;
        settled.iter().for_each(|leaving| self.parts.house.settled(leaving, end));
        self.carry_out(end);
        Ok(())
    }

    fn journal_event(&mut self, event: JournalEvent) -> Result<(), Failure> {
        match event {
            JournalEvent::Durable { start, end, bytes } => {
                self.groups += 1;
                self.group_bytes += bytes.len() as u64;
                if let Some(recorder) = &self.parts.recorder {
                    recorder.feed().durable(start, end, bytes.clone());
                }
                self.parts.memory.tail.add(start, bytes);
                self.parts.memory.durable = end;
                self.release();
            }
            JournalEvent::Synced { .. } => {}
            // Those who publish are told before they have filled what is left.
            JournalEvent::Space(_) => self.room_looked_at = None,
            JournalEvent::Failed(failure) => return Err(failure),
        }
        Ok(())
    }

    fn extent(&self) -> Extent {
        let Parts { reader, memory, .. } = &self.parts;
        Extent { start: reader.start(), end: self.end, durable: memory.durable }
    }

    fn run_queries(&mut self, now: Millis) {
        if self.queries.is_empty() {
            return;
        }
        let overview = self.overview();
        let exemplars = &self.consumers.exemplars;
        let view = View { shard: &self.parts.shard, now, overview: &overview, exemplars };
        self.queries.drain(..).for_each(|query| query(&view));
    }

    fn overview(&self) -> Overview {
        let extent = self.extent();
        let files = self.parts.shard.files();
        Overview {
            stopped: None,
            alarms: self.alarms,
            journal_end: extent.end,
            journal_durable: extent.durable,
            journal_start: extent.start,
            settled_bytes: files.iter().map(|file| file.bytes).sum(),
            settled_files: self.parts.house.files() as u64,
            cache_bytes: self.parts.memory.bytes() as u64,
            groups: self.groups,
            group_bytes: self.group_bytes,
            disk_free_bytes: self.free_bytes,
            memory_used_bytes: self.memory_used_bytes,
            memory_high_bytes: self.parts.options.memory.as_ref().map_or(0, |bound| bound.high_bytes()),
            entities: self.parts.shard.entities() as u64,
            consumers: self.consumers.len() as u64,
            delivered: self.consumers.delivered,
            disk_reads: self.disk_reads,
            snapshots: self.parts.house.snapshots_taken,
            settle_jobs: self.parts.house.jobs_done,
        }
    }

    /// When the next turn is due though nothing happens.
    fn wake_at(&self) -> Option<Millis> {
        let now = self.parts.clock.now();
        let low = self.room_looked_at.filter(|_| self.alarms.any()).map(|at| at.plus(ROOM_LOOK_MS));
        let house = self.parts.house.next_look(now);
        // While too much waits for the disk, its events wake.
        let timer = self.parts.shard.next_deadline().filter(|_| !self.busy);
        let more = (!self.loads.is_empty() && !self.busy).then_some(now);
        [low, house, timer, more, self.slowed_until].into_iter().flatten().min()
    }

    fn until(&self, wake: Option<Millis>) -> Duration {
        let ms = wake.map_or(SLEEP_MS_MAX, |at| at.since(self.parts.clock.now()));
        Duration::from_millis(ms.min(SLEEP_MS_MAX))
    }

    /// Takes no more requests; those that are waiting are still carried out.
    fn drain(&mut self) {
        self.phase = Phase::Draining;
        self.parts.requests.close();
        while let Ok(request) = self.parts.requests.try_recv() {
            self.inbox.push(request);
        }
    }

    /// Whether everything that was taken is carried out and durable.
    fn is_quiet(&self) -> bool {
        self.work.is_empty() && self.replies.is_empty() && self.end <= self.parts.memory.durable
    }

    /// Asks for the last snapshot once what was taken is finished; says whether it did just now.
    fn begins_to_close(&mut self) -> bool {
        if self.phase != Phase::Draining || !self.is_quiet() {
            return false;
        }
        self.phase = Phase::Closing;
        self.consumers.clear();
        self.parts.house.want_snapshot(self.end)
    }

    fn is_finished(&self) -> bool {
        self.phase == Phase::Closing && self.is_quiet() && !self.parts.house.is_writing_snapshot()
    }

    /// Ends all threads in good order.
    fn close(self) -> Result<(), Failure> {
        let Parts { answers, done, journal_events, committer, loader, house, recorder, dir, .. } = self.parts;
        drop((answers, done, journal_events));
        drop((loader, house, recorder));
        // Keeper and recorder had the other handles.
        let result = Arc::try_unwrap(committer).map_or(Ok(Position(0)), Committer::flush_and_stop);
        drop(dir);
        result.map(|_| ())
    }

    /// Tells everybody that nothing is accepted any more.
    fn fail(mut self, failure: Failure) -> Failure {
        tracing::error!(%failure, "writing has failed: nothing is accepted any more");
        let why = failure.to_string();
        let refusal = Refusal::Stopped(why.clone());
        // Set before the requests are closed, so that whoever finds them closed finds the reason.
        let _ = self.parts.shared.failure.set(why);
        self.parts.requests.close();
        self.inbox.clear();
        self.replies.refuse_all(&refusal);
        self.consumers.clear();
        while let Ok(request) = self.parts.requests.try_recv() {
            match request {
                Request::Command(_, _, reply) | Request::Attach(_, _, _, reply) => {
                    _ = reply.send(Err(refusal.clone()))
                }
                Request::Browse(_, _, reply) => _ = reply.send(Err(refusal.clone())),
                // Dropped: its caller reads the reason off the handle.
                Request::Query(_) => {}
            }
        }
        for (_, deferred) in self.deferred.drain(..) {
            if let Deferred::Browse(browsing) = deferred {
                browsing.refuse(refusal.clone());
            }
        }
        // The journal's thread has ended; the others end as soon as nobody listens.
        let _ = self.close();
        failure
    }
}

fn died(what: &str) -> Failure {
    Failure { what: "running", place: what.to_owned(), why: "it ended by itself".to_owned() }
}

/// An entry was not taken after the shard had acted on it: state and journal differ, so this run is over.
fn fatal(refused: Refused) -> Failure {
    match refused {
        Refused::Failed(failure) => failure,
        other => Failure { what: "appending to", place: "the journal".to_owned(), why: other.to_string() },
    }
}
