//! A whole life of the broker's heart, decided by a seed: clients, time, crashes and a bad disk around one shard, and a ledger
//! that looks at everything that happens.

mod clients;
mod drain;
mod node;
mod specs;
mod upkeep;

use std::{collections::BTreeMap, sync::Arc};

use waystation_base::{ConsumerId, EntityId, Millis, Position, Tag};
use waystation_broker::{
    Command, Effect, RequestId, Shard, Source,
    effect::Handed,
    place::{Place, Purpose},
};
use waystation_journal::{Epoch, Failure, Verify};
use xxhash_rust::xxh3::Xxh3;

use self::{
    clients::{Clients, Holding},
    node::{Node, Pending},
    upkeep::Job,
};
use crate::{
    disk::{Crash, Faults, SimDisk},
    model::{Book, Cause, Ledger, Stored, Written},
    random::Random,
    storage::Storage,
};

/// Looks at timers in one moment: more would be a timer that sets itself again at once.
const TICKS_MAX: usize = 1000;
/// When a simulation begins: milliseconds since 1970.
const START: Millis = Millis(1_700_000_000_000);

/// How long a simulation is and how much goes wrong in it.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Steps, each with a few commands.
    pub steps: u64,
    /// Whether the disk fails now and then.
    pub faults: bool,
    /// Steps from one crash to the next, on average; 0: none.
    pub crash_one_in: u64,
    /// Whether to tell on the standard error what happens.
    pub tell: bool,
}

/// What a simulation did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Commands of clients.
    pub commands: u64,
    /// Messages that were stored.
    pub stored: u64,
    /// Messages that consumers were given.
    pub delivered: u64,
    /// Crashes.
    pub crashes: u64,
    /// Writes and syncs that failed.
    pub failures: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Settled files.
    pub settled: u64,
    /// A hash of all entries and effects in order.
    pub trace: u64,
}

/// See the module.
pub struct World {
    seed: u64,
    options: Options,
    random: Random,
    now: Millis,
    disk: SimDisk,
    node: Node,
    ledger: Ledger,
    book: Book,
    clients: Clients,
    job: Option<Job>,
    settled_files: u32,
    report: Report,
    trace: Xxh3,
    epoch: u64,
    /// What each consumer ever consumed; a pull has ended when its delivery goes out.
    attached: BTreeMap<ConsumerId, (EntityId, Source)>,
}

/// Lives through a simulation; panics where something is not as it should be.
pub fn run(seed: u64, options: Options) -> Report {
    let mut world = World::new(seed, options);
    for _ in 0..options.steps {
        world.step();
    }
    world.drain();
    world.report.failures = world.disk.failures();
    world.report.trace = world.trace.digest();
    world.report
}

impl World {
    fn new(seed: u64, options: Options) -> World {
        let mut random = Random::new(seed);
        let disk = SimDisk::new(random.any());
        let mut nothing = |_: waystation_journal::Entry<'_>| std::ops::ControlFlow::Continue(());
        let (storage, _) = Storage::open(&disk, seed, Verify::All, &mut nothing).expect("a new journal");
        let node = Node::new(Shard::new(), storage, Epoch(1));
        let mut world = World {
            seed,
            options,
            random,
            now: START,
            disk,
            node,
            ledger: Ledger::default(),
            book: Book::default(),
            clients: Clients::default(),
            job: None,
            settled_files: 0,
            report: Report::default(),
            trace: Xxh3::new(),
            epoch: 1,
            attached: BTreeMap::new(),
        };
        world.set_faults();
        world
    }

    fn set_faults(&mut self) {
        if self.options.faults && self.random.percent(15) {
            let room = self.random.below(60_000);
            let capacity_bytes = Some(self.disk.used_bytes() + room);
            self.disk.set_faults(Faults { short_write_one_in: 10, capacity_bytes, ..Faults::default() });
            return;
        }
        let faults = match self.options.faults && self.random.percent(40) {
            true => Faults {
                short_write_one_in: 5,
                write_error_one_in: 300,
                sync_error_one_in: 150,
                name_error_one_in: 60,
                capacity_bytes: None,
            },
            false => Faults { short_write_one_in: 10, ..Faults::default() },
        };
        self.disk.set_faults(faults);
    }

    fn step(&mut self) {
        if self.options.faults && self.random.one_in(40) {
            self.set_faults();
        }
        self.pass_time();
        for _ in 0..self.random.range(1, 4) {
            let command = self.clients.next(&mut self.random, &self.ledger, &mut self.book, self.now);
            self.report.commands += 1;
            self.command(command);
        }
        self.answer(50);
        self.flush();
        self.check();
        let written = self.write();
        let crashes = self.random.one_in(self.options.crash_one_in);
        if crashes || written.and_then(|()| self.upkeep()).is_err() {
            let crash = if self.random.one_in(3) { Crash::Kill } else { Crash::Power };
            self.crash(crash);
        }
    }

    fn pass_time(&mut self) {
        let ms = match self.random.below(100) {
            0..=39 => 0,
            40..=79 => self.random.below(20),
            80..=97 => self.random.below(500),
            _ => self.random.below(10_000),
        };
        self.now = self.now.plus(ms);
        self.tick();
    }

    fn tick(&mut self) {
        for _ in 0..TICKS_MAX {
            if self.node.shard.next_deadline().is_none_or(|at| at > self.now) {
                self.ledger.check_time(self.now);
                return;
            }
            let now = self.now;
            let (written, effects) = self.node.run(now, |shard, log, effects| shard.tick(now, log, effects));
            self.tell("tick", &written, &effects);
            for one in &written {
                self.ledger.enter(one, Cause::Tick, &self.book);
            }
            self.ledger.condemn(&effects);
            self.ledger.close(&effects);
            self.take_over(written, effects, &BTreeMap::new());
        }
        panic!("timers are due again and again at {}", self.now);
    }

    #[allow(clippy::print_stderr, reason = "asked for, to see how a seed came to fail")]
    fn tell(&self, what: &str, written: &[Written], effects: &[Effect]) {
        if !self.options.tell || written.is_empty() && effects.is_empty() && what.is_empty() {
            return;
        }
        eprintln!("--- {} {what}", self.now);
        for one in written {
            let entry = waystation_broker::entry::read(one.kind, &one.payload).expect("an entry");
            match entry {
                waystation_broker::entry::Entry::Publish(publish) => {
                    let records = waystation_base::batch::records(publish.batch).expect("a batch");
                    let offsets: Vec<u64> =
                        records.map(|record| record.expect("a record").offset.0).collect();
                    eprintln!("    {} publish {:?} {offsets:?}", one.position, publish.log);
                }
                entry => eprintln!("    {} {entry:?}", one.position),
            }
        }
        effects.iter().for_each(|effect| eprintln!("    > {effect:?}"));
    }

    fn command(&mut self, command: Command) {
        let now = self.now;
        self.node.requests += 1;
        let request = Some(RequestId(self.node.requests));
        let asked = command.clone();
        let (written, effects) =
            self.node.run(now, |shard, log, effects| shard.handle(now, request, asked, log, effects));
        self.tell(&format!("{command:?}"), &written, &effects);
        self.ledger.carried_out(&command, &written, &effects, now, &self.book);
        if let Command::Attach(attach) = &command
            && let Some(who) = self.ledger.consumers.get(&attach.consumer)
        {
            self.attached.insert(attach.consumer, (who.entity, who.source.clone()));
        }
        self.take_over(written, effects, &BTreeMap::new());
    }

    fn flush(&mut self) {
        let now = self.now;
        let (written, effects) = self.node.run(now, |shard, log, effects| shard.flush(now, log, effects));
        self.tell(if written.is_empty() { "" } else { "flush" }, &written, &effects);
        let messages = self.handed(&effects);
        self.ledger.flush(&written, &effects, now, &self.book);
        self.take_over(written, effects, &messages);
        if let Some(vhost) = self.node.shard.vhosts(self.now).first() {
            assert_eq!(vhost.held, self.ledger.in_hands(), "under way in the virtual host at {}", self.now);
        }
        for (id, outlet) in &self.ledger.outlets {
            if !self.node.reads_for(*id) {
                outlet.check_length(now);
            }
        }
    }

    /// The messages that are handed out, as the ledger knows them before it hears of it.
    fn handed(&self, effects: &[Effect]) -> BTreeMap<(EntityId, Tag), Arc<Stored>> {
        let mut messages = BTreeMap::new();
        for effect in effects {
            let Effect::Deliver { consumer, messages: handed } = effect else { continue };
            let Some(who) = self.ledger.consumers.get(consumer) else { continue };
            let Some(outlet) = self.ledger.outlets.get(&who.entity) else { continue };
            for Handed { tag, .. } in handed {
                if let Some(item) = outlet.items.get(tag) {
                    messages.insert((who.entity, *tag), item.stored.clone());
                }
            }
        }
        messages
    }

    /// Keeps what the shard wrote and wants.
    fn take_over(
        &mut self,
        written: Vec<Written>,
        effects: Vec<Effect>,
        handed: &BTreeMap<(EntityId, Tag), Arc<Stored>>,
    ) {
        for one in &written {
            self.trace.update(&[one.kind]);
            self.trace.update(&one.position.0.to_le_bytes());
            self.trace.update(&one.payload);
        }
        self.book.written.extend(written);
        for effect in effects {
            self.trace.update(format!("{effect:?}").as_bytes());
            match effect {
                Effect::Load(load) => {
                    if let Purpose::DeadLetter { entity, tag } = load.purpose {
                        self.book.condemned.insert((entity, tag));
                    }
                    self.node.loads.push(load);
                }
                Effect::Notice(notice) => {
                    let damaged = matches!(notice, waystation_broker::effect::Notice::Damaged { .. });
                    assert!(!damaged, "nothing is damaged here: {notice:?}");
                }
                Effect::Reply { result: Err(_), .. } => {}
                effect => self.hold_back(effect, handed),
            }
        }
    }

    fn hold_back(&mut self, effect: Effect, handed: &BTreeMap<(EntityId, Tag), Arc<Stored>>) {
        let mut pending = Pending { needs: self.node.needs_now(), effect, messages: Vec::new() };
        if let Effect::Deliver { consumer, messages } = &pending.effect {
            let (entity, _) = self.attached[consumer];
            pending.messages = messages.iter().map(|one| handed[&(entity, one.tag)].clone()).collect();
            let places = messages.iter().map(|one| match one.meta.place {
                Place::Journal(position) => Position(position.0 + 1),
                Place::Settled(_) => Position(0),
            });
            pending.needs = places.max().unwrap_or_default();
        }
        self.node.pending.push(pending);
    }

    /// Appends and syncs at moments that chance picks.
    fn write(&mut self) -> Result<(), Failure> {
        if self.random.percent(70) {
            self.node.append()?;
        }
        if self.random.percent(60) {
            self.node.sync()?;
        }
        self.release();
        Ok(())
    }

    /// Carries out the effects whose entries are durable.
    fn release(&mut self) {
        for Pending { effect, messages, .. } in self.node.releasable() {
            let Effect::Deliver { consumer, messages: handed } = effect else { continue };
            for (one, stored) in handed.iter().zip(&messages) {
                self.report.delivered += 1;
                let read = self.node.storage.message(&one.meta);
                let read = read.unwrap_or_else(|error| panic!("{one:?} for {consumer:?}: {error}"));
                assert_eq!(read, stored.message, "what {consumer:?} gets is what was stored");
            }
            let (_, source) = &self.attached[&consumer];
            self.clients.holdings.extend(handed.iter().map(|one| Holding {
                source: source.clone(),
                tag: one.tag,
                attempt: one.attempt,
            }));
        }
    }

    /// Reads what the shard asked for, and gives it the answers; each in so many of a hundred cases.
    fn answer(&mut self, percent: u64) {
        for at in self.node.readable_loads().into_iter().rev() {
            if self.random.percent(percent) {
                self.read(at);
            }
        }
        let mut at = 0;
        while at < self.node.answers.len() {
            if self.random.percent(percent) {
                let loaded = self.node.answers.remove(at);
                self.command(Command::Loaded(loaded));
            } else {
                at += 1;
            }
        }
    }

    fn read(&mut self, at: usize) {
        let load = self.node.loads.remove(at);
        // Without its log nobody waits for the answer.
        let Some(address) = self.node.shard.address_of(load.log) else { return };
        let loaded = self.node.storage.load(&load, address.as_str(), &mut self.random);
        assert!(loaded.damaged.is_none(), "{load:?}: {:?}", loaded.damaged);
        self.node.answers.push(loaded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_run_twice_gives_the_same_trace() {
        let options = Options { steps: 120, faults: true, crash_one_in: 30, tell: false };
        for seed in 0..3 {
            assert_eq!(run(seed, options), run(seed, options), "seed {seed}");
        }
        assert_ne!(run(1, options).trace, run(2, options).trace);
    }
}
