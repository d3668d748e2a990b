//! How what the shard wants done is carried out, each thing as soon as it may be.

use waystation_base::{ConsumerId, Position, Tag};
use waystation_broker::{
    BrowseTarget, Command, Effect, Kind,
    place::{Loaded, Place},
};

use super::{Deferred, Driver, MESSAGE_OVERHEAD_BYTES, Work};
use crate::{
    Target,
    browse::Browsing,
    cache::{Found, Memory},
    loader::{Answer, Read},
    options::LOADS_PER_TURN,
    scan::{Flow, LoadScan},
};

impl Driver {
    /// Carries out the effects of a unit that ends at `position`, each when it may be.
    pub(super) fn carry_out(&mut self, position: Position) {
        let mut effects = std::mem::take(&mut self.effects);
        for effect in effects.drain(..) {
            match effect {
                Effect::Reply { request, result } => {
                    if let Some(consumer) = self.replies.answer(request, result, position) {
                        self.consumers.remove(consumer);
                    }
                }
                Effect::Deliver { consumer, messages } => self.consumers.hand(consumer, messages),
                Effect::Closed { consumer, reason } => self.consumers.close(consumer, reason),
                Effect::Load(load) => self.loads.push_back(load),
                Effect::Notice(notice) => tracing::warn!(?notice, "the broker has something to say"),
            }
        }
        self.effects = effects;
        self.replies.release(self.parts.memory.durable);
        self.consumers.serve_fresh(&self.parts.memory, &self.parts.shard);
        self.follow_consumers();
    }

    /// Asks for the bodies that consumers need, and detaches those that were dropped.
    pub(super) fn follow_consumers(&mut self) {
        for read in self.consumers.reads.drain(..) {
            self.disk_reads += 1;
            self.parts.loader.ask(read);
        }
        for id in std::mem::take(&mut self.consumers.strand) {
            self.end(id, Command::Strand(id));
        }
        for id in std::mem::take(&mut self.consumers.detach) {
            self.detach(id);
        }
    }

    pub(super) fn detach(&mut self, id: ConsumerId) {
        self.end(id, Command::Detach(id));
    }

    fn end(&mut self, id: ConsumerId, command: Command) {
        if self.consumers.remove(id) {
            self.work.push_back(Work { request: None, command, bytes: 0, origin: None });
        }
    }

    /// Looks at consumers that were dropped or have room again.
    pub(super) fn hear_callers(&mut self) {
        let mut callers = std::mem::take(&mut self.callers);
        self.parts.shared.attention.take(&mut callers);
        for id in callers.drain(..) {
            self.consumers.serve_caller(id, &self.parts.memory, &self.parts.shard);
        }
        self.callers = callers;
        self.follow_consumers();
    }

    /// Answers loads from memory where that can be done, up to a bound; has others read.
    pub(super) fn serve_loads(&mut self) {
        for _ in 0..LOADS_PER_TURN {
            let Some(load) = self.loads.pop_front() else { return };
            let address = self.parts.shard.address_of(load.log).map(|name| name.to_string());
            self.load(LoadScan::new(load, address.unwrap_or_default()));
        }
    }

    pub(super) fn load(&mut self, mut scan: LoadScan) {
        match scan_memory(&mut scan, &self.parts.memory) {
            Scanned::Done => self.loaded(scan.finish()),
            Scanned::Enough => self.loaded(scan.stop(None)),
            // The rest is asked for again.
            Scanned::NotYet | Scanned::Cold if scan.has_part() => self.loaded(scan.stop(None)),
            Scanned::NotYet => self.deferred.push_back((self.end, Deferred::Load(scan))),
            Scanned::Cold => {
                self.disk_reads += 1;
                self.parts.loader.ask(Read::Load(scan));
            }
        }
    }

    pub(super) fn loaded(&mut self, loaded: Loaded) {
        let bodies = loaded.messages.iter().filter_map(|(_, message)| message.as_ref());
        let bytes = bodies.map(|message| message.size() + MESSAGE_OVERHEAD_BYTES).sum();
        self.work.push_back(Work { request: None, command: Command::Loaded(loaded), bytes, origin: None });
    }

    /// Begins or goes on with a page. What was published just now is waited for.
    pub(super) fn browse(&mut self, mut browsing: Box<Browsing>, from: Option<Tag>) {
        let (kind, name) = match &browsing.target {
            Target::Queue(name) => (Kind::Queue, name.clone()),
            Target::Topic(name) => (Kind::Topic, name.clone()),
            Target::Subscription(name) => (Kind::Subscription, name.clone()),
        };
        match self.parts.shard.browse(&BrowseTarget { kind, name }, from, browsing.browse.partition) {
            Ok(None) => browsing.end(),
            Ok(Some(step)) => {
                browsing.set_step(step);
                let until = self.end;
                if until <= self.parts.memory.durable {
                    self.parts.loader.ask(Read::Browse(browsing));
                } else {
                    self.deferred.push_back((until, Deferred::Browse(browsing)));
                }
            }
            Err(refusal) => browsing.refuse(refusal),
        }
    }

    /// Lets go of everything that waited for what is durable now.
    pub(super) fn release(&mut self) {
        let durable = self.parts.memory.durable;
        self.replies.release(durable);
        self.consumers.serve_durable(&self.parts.memory, &self.parts.shard);
        self.follow_consumers();
        while self.deferred.front().is_some_and(|(position, _)| *position <= durable) {
            match self.deferred.pop_front() {
                Some((_, Deferred::Load(scan))) => self.load(scan),
                Some((_, Deferred::Browse(browsing))) => self.parts.loader.ask(Read::Browse(browsing)),
                None => {}
            }
        }
    }

    pub(super) fn answer(&mut self, answer: Answer) {
        self.parts.loader.answered();
        match answer {
            Answer::Loaded(loaded) => self.loaded(loaded),
            Answer::Bodies(id, handed, messages, failed) => {
                let (memory, shard) = (&self.parts.memory, &self.parts.shard);
                self.consumers.bodies(id, handed, messages, failed, memory, shard);
                self.follow_consumers();
            }
            Answer::Browsed(mut browsing, result) => {
                match result.is_ok().then(|| browsing.next_step()).flatten() {
                    Some(from) => self.browse(browsing, Some(from)),
                    None => browsing.finish(result),
                }
            }
            Answer::Removed => {}
        }
    }
}

/// How far a load came in memory.
enum Scanned {
    Done,
    Enough,
    NotYet,
    Cold,
}

fn scan_memory(scan: &mut LoadScan, memory: &Memory) -> Scanned {
    let spans = std::mem::take(&mut scan.load.spans);
    let mut outcome = Scanned::Done;
    for span in &spans {
        while matches!(outcome, Scanned::Done) && scan.wants(span.first, span.last) {
            match memory.find(span.place, scan.load.log, scan.next().max(span.first)) {
                Found::NotYet => outcome = Scanned::NotYet,
                Found::Cold => outcome = Scanned::Cold,
                Found::Batch(batch, _) => match scan.batch(span.place, &batch) {
                    Ok(Flow::Enough) => outcome = Scanned::Enough,
                    // A settled run may have further batches.
                    Ok(Flow::More | Flow::From(_)) if matches!(span.place, Place::Settled(_)) => {}
                    Ok(Flow::More | Flow::From(_)) => break,
                    // The reading thread says what is wrong with it.
                    Err(_) => outcome = Scanned::Cold,
                },
            }
        }
        if !matches!(outcome, Scanned::Done) {
            break;
        }
        scan.passed(span.last);
    }
    scan.load.spans = spans;
    outcome
}
