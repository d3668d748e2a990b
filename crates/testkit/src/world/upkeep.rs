//! Snapshots, settled files and trims while clients go on, and what a crash leaves of it all.

use std::ops::ControlFlow;

use waystation_base::{Millis, Position};
use waystation_broker::{
    Command, Effect, Kind, Shard,
    settle::{Leaving, Outcome, Plan},
    spec::Order,
};
use waystation_journal::{Epoch, Failure, Group, Journal, OpenError, Verify, snapshot};

use super::{
    World,
    node::{Log, Node},
};
use crate::{
    disk::{Crash, Faults},
    model::{Accounts, Cause, Ledger, Outlet, Rules, State, Written},
    storage::{Storage, dir},
};

/// Snapshots that are kept.
const SNAPSHOTS: usize = 2;

/// Of so many lives one is read again from its journal.
const JOURNALS_ONE_IN: u64 = 10;

/// Settling, step by step.
pub enum Job {
    /// It is known what to copy.
    Planned(Plan),
    /// It is copied, and the shard has not heard of it.
    Copied(Outcome, Vec<(waystation_broker::place::LogId, waystation_base::Offset)>),
}

impl World {
    /// Now and then a step of what keeps files small.
    pub(super) fn upkeep(&mut self) -> Result<(), Failure> {
        match self.random.below(24) {
            0 => self.snapshot(),
            1..=3 => self.begin_job(),
            4..=8 => {
                self.go_on_with_job();
                Ok(())
            }
            9 | 10 => self.trim(),
            11 => self.remove_files(),
            _ => Ok(()),
        }
    }

    /// Makes everything durable; false if the disk has no room for it.
    fn settle_down(&mut self) -> Result<bool, Failure> {
        self.node.append()?;
        self.node.sync()?;
        self.release();
        Ok(self.node.is_settled())
    }

    fn snapshot(&mut self) -> Result<(), Failure> {
        if !self.settle_down()? {
            return Ok(());
        }
        let position = self.node.storage.journal.end();
        let bytes = self.node.shard.snapshot();
        // One that cannot be written is tried again another time.
        if snapshot::write(&self.disk, dir("snapshots"), position, bytes.chunks(1000)).is_ok() {
            self.report.snapshots += 1;
        }
        Ok(())
    }

    fn begin_job(&mut self) -> Result<(), Failure> {
        if self.job.is_some() {
            return Ok(());
        }
        if !self.settle_down()? {
            return Ok(());
        }
        let leaving = if self.random.percent(60) {
            Leaving::Journal(self.node.storage.journal.end())
        } else {
            let files: Vec<u32> = self.node.shard.files().iter().map(|file| file.file).collect();
            let some = files.into_iter().filter(|_| self.random.percent(50)).collect::<Vec<_>>();
            if some.is_empty() {
                return Ok(());
            }
            Leaving::Files(some)
        };
        self.job = Some(Job::Planned(self.node.shard.plan(&leaving, self.now)));
        Ok(())
    }

    fn go_on_with_job(&mut self) {
        match self.job.take() {
            None => {}
            Some(Job::Planned(plan)) => {
                self.settled_files += 1;
                let copied = self.node.storage.settle(&plan, self.settled_files, &mut self.random);
                if let Ok((outcome, dropped)) = copied {
                    self.job = Some(Job::Copied(outcome, dropped));
                }
            }
            Some(Job::Copied(outcome, dropped)) => {
                self.report.settled += 1;
                self.command(Command::Settled(outcome));
                let position = self.book.written.last().expect("just written").position;
                for (log, offset) in dropped {
                    self.book.compacted.push((position, log, offset));
                    self.ledger.compact(log, offset);
                }
            }
        }
    }

    /// Reads what was asked for before what it would be read from goes.
    fn read_all(&mut self) {
        for at in self.node.readable_loads().into_iter().rev() {
            self.read(at);
        }
    }

    fn trim(&mut self) -> Result<(), Failure> {
        if self.job.is_some() {
            return Ok(());
        }
        if !self.settle_down()? {
            return Ok(());
        }
        // A failed removal leaves an older one, which is kept in mind.
        let _ = snapshot::remove_older(&self.disk, dir("snapshots"), SNAPSHOTS);
        let positions = snapshot::positions(&self.disk, dir("snapshots")).expect("a list");
        let Some(oldest) = positions.first().copied() else { return Ok(()) };
        if self.node.shard.has_live_in_journal_before(oldest) {
            return Ok(());
        }
        self.read_all();
        self.node.storage.journal.trim(oldest)
    }

    /// Removes settled files that nothing refers to.
    fn remove_files(&mut self) -> Result<(), Failure> {
        if self.job.is_some() {
            return Ok(());
        }
        if !self.settle_down()? {
            return Ok(());
        }
        self.read_all();
        let used: Vec<u32> = self.node.shard.files().iter().map(|file| file.file).collect();
        for file in self.node.storage.settled.files().expect("a list") {
            if !used.contains(&file) {
                // What cannot be removed now is removed another time.
                let _ = self.node.storage.settled.remove(file);
            }
        }
        Ok(())
    }

    /// The process ends and begins again.
    pub(super) fn crash(&mut self, crash: Crash) {
        self.report.crashes += 1;
        self.job = None;
        let durable = self.node.durable;
        let calm = self.random.one_in(2);
        self.disk.crash(crash);
        if calm {
            self.disk.set_faults(Faults::default());
        }
        if self.random.one_in(3) {
            self.now = self.now.plus(self.random.below(5000));
        }
        while !self.reopen(durable) {
            self.disk.set_faults(Faults::default());
        }
        self.set_faults();
    }

    /// Builds the state anew; false if the disk failed.
    fn reopen(&mut self, durable: Position) -> bool {
        let Ok(latest) = snapshot::latest(&self.disk, dir("snapshots")) else { return false };
        assert!(
            latest.damaged.is_empty(),
            "a snapshot was renamed before it was durable: {:?}",
            latest.damaged
        );
        let start = latest.snapshot.as_ref().map_or(Position(0), |snapshot| snapshot.position);
        let mut shard = match &latest.snapshot {
            Some(snapshot) => Shard::restore(&snapshot.load().expect("checked")).expect("a snapshot"),
            None => Shard::new(),
        };
        let mut entries: Vec<(Position, u8, Vec<u8>)> = Vec::new();
        let mut visitor = |entry: waystation_journal::Entry<'_>| {
            entries.push((entry.position, entry.kind, entry.payload.to_vec()));
            ControlFlow::Continue(())
        };
        let verify = if self.random.one_in(2) { Verify::All } else { Verify::From(start) };
        let opened = Storage::open(&self.disk, self.seed + self.epoch, verify, &mut visitor);
        let (storage, report) = match opened {
            Ok(opened) => opened,
            Err(OpenError::Io { .. } | OpenError::Failed(_)) => return false,
            Err(error) => panic!("the journal is not what was written: {error}"),
        };
        assert!(report.end >= durable, "the journal was durable up to {durable} and ends at {}", report.end);
        self.book.written.retain(|one| one.position < report.end);
        self.book.compacted.retain(|(position, ..)| *position < report.end);
        let scan = |position: Position| position < start;
        let mut reindex = |entry: waystation_journal::Entry<'_>| {
            if !scan(entry.position) {
                return ControlFlow::Break(());
            }
            shard.reindex(entry.position, entry.kind, entry.payload).expect("an entry");
            ControlFlow::Continue(())
        };
        storage.journal.scan(storage.journal.start(), &mut reindex).expect("the journal can be read");
        entries.retain(|(position, ..)| *position >= start);
        let kept = self.book.written.iter().filter(|one| one.position >= start);
        assert!(
            kept.map(|one| (one.position, one.kind, &one.payload))
                .eq(entries.iter().map(|e| (e.0, e.1, &e.2))),
            "the journal keeps its entries as they were written"
        );
        for (position, kind, payload) in &entries {
            shard.replay(*position, *kind, payload).expect("an entry");
        }
        self.epoch += 1;
        self.node = Node::new(shard, storage, Epoch(self.epoch));
        self.recover();
        true
    }

    fn recover(&mut self) {
        self.ledger = Ledger::of(&self.book);
        self.ledger.forget_run();
        let now = self.now;
        let mut first = replayed(&self.book.written);
        let (written, effects) = self.node.run(now, |shard, log, effects| shard.recovered(now, log, effects));
        self.tell("recovered", &written, &effects);
        for one in &written {
            self.ledger.enter(one, Cause::Recovery, &self.book);
        }
        self.ledger.condemn(&effects);
        for outlet in self.ledger.outlets.values() {
            let held = |state| matches!(state, State::Held { until, .. } if until == Millis::NEVER);
            let held = outlet.items.iter().find(|(_, item)| held(item.state));
            assert!(held.is_none(), "nobody is attached to '{}': {held:?}", outlet.name);
        }
        let same = written_by(
            &mut first,
            now,
            self.node.storage.journal.end(),
            self.node.storage.journal.align_bytes(),
        );
        assert_eq!(
            same.iter().map(|one| (one.kind, &one.payload)).collect::<Vec<_>>(),
            written.iter().map(|one| (one.kind, &one.payload)).collect::<Vec<_>>(),
            "recovery from a snapshot and from the first entry write the same"
        );
        self.take_over(written, effects, &Default::default());
        self.tick();
        tick_alone(&mut first, now);
        assert_same(&self.node.shard, &first, &self.ledger, now);
        self.check();
    }

    /// Asserts that the shard says of itself what the ledger says.
    pub(super) fn check(&self) {
        self.ledger.check_routing(&self.node.shard);
        for topic in self.ledger.topics.values() {
            let info = self.node.shard.topic(&topic.name).expect("a topic");
            assert_eq!(info.counters.published, topic.published, "published to '{}'", topic.name);
        }
        for (id, outlet) in &self.ledger.outlets {
            let place = || format!("'{}' ({id:?}) at {}", outlet.name, self.now);
            let held = outlet
                .items
                .values()
                .filter(|item| matches!(item.state, State::Held { .. } | State::Dying) || item.condemned);
            let held = held.count() as u64;
            outlet.check_accounts();
            let counters = match &outlet.rules {
                Rules::Queue(_) => {
                    let info = self.node.shard.queue(&outlet.name).unwrap_or_else(|| panic!("{}", place()));
                    let all = info.ready + info.in_flight + info.delayed;
                    assert_eq!(all, outlet.items.len() as u64, "messages of {}: {info:?}", place());
                    assert_eq!(info.in_flight, held, "in flight in {}", place());
                    let bytes: u64 = outlet.items.values().map(|item| u64::from(item.stored.bytes)).sum();
                    assert_eq!(info.bytes, bytes, "bytes of {}", place());
                    info.counters
                }
                Rules::Subscription(_) => {
                    let info = self.node.shard.subscription(&outlet.name, self.now);
                    let info = info.unwrap_or_else(|| panic!("{}", place()));
                    assert_eq!(info.in_flight, held, "in flight in {}", place());
                    let waiting = info.lag + info.in_flight + info.delayed;
                    let all = self.ledger.waiting(outlet);
                    assert!(all.contains(&waiting), "{waiting} of {all:?} wait in {}: {info:?}", place());
                    info.counters
                }
            };
            let mut expected = outlet.counters;
            (expected.filtered, expected.retired) = (counters.filtered, counters.retired);
            assert_eq!(counters, expected, "counters of {}", place());
        }
    }

    /// Asserts of some lives that every account holds after every entry of the journal, whoever wrote it.
    pub(super) fn check_journal(&self) {
        if !self.seed.is_multiple_of(JOURNALS_ONE_IN) {
            return;
        }
        let mut accounts = Accounts::default();
        let mut compacted = self.book.compacted.iter().peekable();
        for one in &self.book.written {
            accounts.enter(one.position, one.kind, &one.payload, &mut |_| ());
            while let Some((_, log, offset)) = compacted.next_if(|(position, ..)| *position <= one.position) {
                accounts.compact(*log, *offset);
            }
        }
    }

    /// Asserts of every message whether it is done.
    pub(super) fn check_each(&self) {
        for outlet in self.ledger.outlets.values() {
            let kind = if outlet.queue().is_some() { Kind::Queue } else { Kind::Subscription };
            let is_done = |tag| self.node.shard.is_done(kind, &outlet.name, tag);
            for tag in &outlet.done {
                assert_eq!(is_done(*tag), Some(true), "{tag:?} of '{}' is done", outlet.name);
            }
            for (tag, item) in outlet.items.iter().filter(|(_, item)| !item.loose) {
                assert_eq!(is_done(*tag), Some(false), "{tag:?} of '{}' is not: {item:?}", outlet.name);
            }
        }
    }
}

/// A shard that has read every entry from the very first.
fn replayed(written: &[Written]) -> Shard {
    let mut shard = Shard::new();
    for one in written {
        shard.replay(one.position, one.kind, &one.payload).expect("an entry");
    }
    shard
}

fn written_by(shard: &mut Shard, now: Millis, end: Position, align: usize) -> Vec<Written> {
    let mut group = Group::new(end, align);
    let mut log = Log::new(&mut group, now);
    let mut effects: Vec<Effect> = Vec::new();
    shard.recovered(now, &mut log, &mut effects);
    log.written
}

fn tick_alone(shard: &mut Shard, now: Millis) {
    let mut group = Group::new(Position(0), 64);
    let mut effects: Vec<Effect> = Vec::new();
    while shard.next_deadline().is_some_and(|at| at <= now) {
        shard.tick(now, &mut Log::new(&mut group, now), &mut effects);
    }
}

/// Asserts that two shards have the same state, whichever way they came to it. Of subscriptions only what is journalled: what a
/// filter passes over is found again by reading.
fn assert_same(one: &Shard, other: &Shard, ledger: &Ledger, now: Millis) {
    for outlet in ledger.outlets.values() {
        // What keeps messages back is not journalled: it is met in handing out.
        let of = |shard: &Shard| {
            let info = shard.queue(&outlet.name)?;
            Some(waystation_broker::view::QueueInfo { held_back: Vec::new(), ..info })
        };
        let (one, other) = (of(one), of(other));
        assert_eq!(one, other, "'{}' from the snapshot and from the first entry", outlet.name);
    }
    for id in ledger.subscriptions.values() {
        let name = &ledger.outlets[id].name;
        let loose = ledger.outlets[id].items.values().any(|item| item.loose);
        let info = |shard: &Shard| {
            let mut info = shard.subscription(name, now).expect("a subscription");
            (info.lag, info.lag_ms, info.counters.filtered) = (0, 0, 0);
            info.counters.retired = 0;
            info.held_back.clear();
            // What compaction took away is found out when it is read.
            info.delayed = if loose { 0 } else { info.delayed };
            info.sources.iter_mut().for_each(|source| source.position = 0);
            info
        };
        assert_eq!(info(one), info(other), "'{name}' from the snapshot and from the first entry");
    }
    let (one, other) = (without_subscriptions(one, ledger), without_subscriptions(other, ledger));
    if one != other {
        let at = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
        let part = |bytes: &[u8]| {
            let text = String::from_utf8_lossy(&bytes[at.saturating_sub(400)..at]).into_owned();
            (bytes[at..bytes.len().min(at + 60)].to_vec(), bytes[at.saturating_sub(30)..at].to_vec(), text)
        };
        panic!(
            "from the snapshot and from the first entry differ at byte {at}:\n{:?}\n{:?}",
            part(&one),
            part(&other)
        );
    }
}

fn without_subscriptions(shard: &Shard, ledger: &Ledger) -> Vec<u8> {
    let mut copy = Shard::restore(&shard.snapshot()).expect("a snapshot");
    // Nor of queues with an order by key, now or before: what waits behind keys may be ready, or be found again by reading.
    let by_key =
        |outlet: &Outlet| outlet.reordered || outlet.queue().is_some_and(|spec| spec.order == Order::Key);
    let reordered = ledger.outlets.iter().filter(|(_, outlet)| by_key(outlet)).map(|(id, _)| id);
    for id in ledger.subscriptions.values().chain(reordered) {
        let mut payload = Vec::new();
        waystation_base::varint::put(&mut payload, id.0.into());
        copy.replay(Position(0), waystation_broker::entry::kind::DELETE, &payload).expect("an entry");
    }
    copy.snapshot()
}
