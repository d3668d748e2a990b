//! What a queue and a subscription have in common: cursors over logs, consumers, and the rules by which messages come and go.

use std::{collections::BTreeMap, sync::Arc};

use smol_str::SmolStr;
use waystation_base::{Attempt, ClientId, EntityId, Millis, Name, Offset, Tag, filter::Filter};

use super::{
    Ctx, HashMap,
    consumers::Consumers,
    cursor::{Cursor, Dying, Flight, Reason, tag},
    entry::{Entry, Item},
    faults::{Fault, Faults},
    keys::Key,
    limits::Limits,
    log::Log,
    shares::Shares,
    tenants::Turn,
    vhosts::Member,
};
use crate::{
    Effect, Kind, Source,
    place::{Load, LogId, Meta, Purpose, TenantBy},
    spec::RetryPolicy,
    view::{Counters, Waits},
};

/// Messages on their way to the dead letters at a time; more expire or overflow when these are gone.
const DYING_MAX: usize = 256;

/// The logs behind a queue's lanes or a subscription's sources.
pub trait Logs {
    /// The log with a number.
    fn log(&self, number: u16) -> Option<&Log>;
    /// Its full name.
    fn id(&self, number: u16) -> LogId;
    /// Whether what is in it was meant for this outlet before, and comes back: no filter keeps it out.
    fn comes_back(&self, _number: u16) -> bool {
        false
    }
}

/// Where dead letters go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DeadLetters {
    /// To a queue or topic.
    Address(Name),
    /// To the queues and topics that the keys name.
    ByKey(Option<SmolStr>),
    /// To a route, under this key or those that the message came by.
    Route(Name, Option<SmolStr>),
}

/// The rules.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Milliseconds of a pull's lease, unless it names its own.
    pub lease_ms: u64,
    /// Deliveries after which a message that comes back goes to the dead letters.
    pub max_attempts: Option<u32>,
    /// When a message that failed is tried again, and when that is given up.
    pub retry: Option<Arc<RetryPolicy>>,
    /// Where those go that are given up.
    pub dead_letter: Option<DeadLetters>,
    /// What is too much for the length limit is dropped, whatever `dead_letter` says.
    pub drops_overflow: bool,
    /// One message of a key at a time.
    pub by_key: bool,
    /// One consumer at a time.
    pub single_active: bool,
    /// A subscription that gives each log to one consumer.
    pub ordered: bool,
    /// Only messages for which this holds.
    pub filter: Option<Arc<Filter>>,
    /// Only messages from this time on.
    pub since: Option<Millis>,
    /// What names the tenant of a subscription's message.
    pub tenant_by: Option<TenantBy>,
}

/// A message that waits for its time.
#[derive(Clone, Copy, Debug)]
pub struct Waiting {
    /// How often it has been handed out.
    pub attempt: Attempt,
    /// Bytes of its record.
    pub bytes: u32,
}

/// See the module. What a publish touches comes first.
#[derive(Clone, Debug)]
#[repr(C)]
pub struct Outlet {
    /// The queue or subscription.
    pub id: EntityId,
    /// Which of the two.
    pub kind: Kind,
    /// Some message has an expiry.
    pub expiring: bool,
    /// It stands in the shard's list of what to look at.
    pub dirty: bool,
    /// Its idle expiry has been announced.
    pub warned: bool,
    /// A consumer met a message that cannot be read, and none has come since.
    pub stranded: bool,
    /// It is too long, and what has to go must be loaded first.
    pub overfull: bool,
    /// Bytes of records that are not done (queues).
    pub bytes: u64,
    /// What became of messages.
    pub counters: Counters,
    /// How long messages waited.
    pub waits: Waits,
    /// Who consumes.
    pub consumers: Consumers,
    /// Work on each log.
    pub cursors: BTreeMap<u16, Box<Cursor>>,
    /// Messages that wait for their time.
    pub delayed: BTreeMap<(Millis, Tag), Waiting>,
    /// When the shard looks for those that have become due.
    pub armed: Millis,
    /// When the shard looks for what has expired.
    pub expiry_at: Millis,
    /// What consumers said of messages that failed.
    pub faults: Faults,
    /// What keeps messages back though somebody would take them.
    pub limits: Option<Box<Limits>>,
    /// Its part in its virtual host, if that has limits.
    pub member: Option<Member>,
    /// Tenants have lanes of their own.
    pub is_fair: bool,
    /// The lines of tenants, of a subscription that is fair to them.
    pub shares: Option<Box<Shares>>,
    /// Whose turn it is among them, by priority.
    pub turns: BTreeMap<u8, Turn>,
    /// Its name.
    pub name: Name,
    /// The rules.
    pub policy: Policy,
    /// Keys that are being worked on.
    pub keys: HashMap<u64, Key>,
    /// Messages parked behind keys.
    pub parked: usize,
    /// Messages on their way to the dead letters.
    pub dying: usize,
    /// When it was last used.
    pub last_used: Millis,
    /// Which log to look at first, to be fair among a subscription's sources.
    pub turn: u16,
}

/// Messages that are done for the same reason, gathered to one entry.
#[derive(Debug, Default)]
pub struct Finished(Vec<(u8, u16, u64, u32)>);

impl Finished {
    /// Adds one.
    pub fn add(&mut self, reason: Reason, log: u16, offset: u64, bytes: u32) {
        self.0.push((reason as u8, log, offset, bytes));
    }

    /// Writes the entries and gives each to `apply`.
    pub fn write(
        mut self,
        entity: EntityId,
        ctx: &mut Ctx<'_>,
        mut apply: impl FnMut(Reason, u64, &[(u16, u64, u64)]),
    ) {
        self.0.sort_unstable();
        for same in self.0.chunk_by(|a, b| a.0 == b.0) {
            let reason = Reason::from_stored(same[0].0).expect("made from a reason");
            let mut stretches: Vec<(u16, u64, u64)> = Vec::new();
            let mut bytes = 0;
            for &(_, log, offset, size) in same {
                bytes += u64::from(size);
                match stretches.last_mut() {
                    Some((l, start, count)) if *l == log && *start + *count == offset => *count += 1,
                    _ => stretches.push((log, offset, 1)),
                }
            }
            apply(reason, bytes, &stretches);
            Entry::Done(entity, reason, bytes, stretches).append(ctx.log);
        }
    }
}

impl Outlet {
    /// An outlet that has seen nothing.
    pub fn new(id: EntityId, kind: Kind, name: Name, policy: Policy) -> Outlet {
        Outlet {
            id,
            kind,
            name,
            policy,
            cursors: BTreeMap::new(),
            consumers: Consumers::default(),
            delayed: BTreeMap::new(),
            armed: Millis::NEVER,
            expiry_at: Millis::NEVER,
            limits: None,
            member: None,
            is_fair: false,
            shares: None,
            turns: BTreeMap::new(),
            faults: Faults::default(),
            keys: HashMap::default(),
            parked: 0,
            bytes: 0,
            counters: Counters::default(),
            waits: Waits::default(),
            expiring: false,
            dying: 0,
            dirty: false,
            last_used: Millis(0),
            warned: false,
            stranded: false,
            overfull: false,
            turn: 0,
        }
    }

    /// What consumers know it by.
    pub fn source(&self) -> Source {
        match self.kind {
            Kind::Subscription => Source::Subscription(self.name.clone()),
            _ => Source::Queue(self.name.clone()),
        }
    }

    /// Whether messages may still turn up for those who wait: there is dispatching to do, or a load under way.
    pub fn is_looking(&self) -> bool {
        self.dirty || self.cursors.values().any(|cursor| cursor.loading || !cursor.finding.is_empty())
    }

    /// Messages in consumers' hands, or on their way to the dead letters.
    pub fn in_flight(&self) -> u64 {
        self.cursors.values().map(|cursor| cursor.flying.len() as u64).sum()
    }

    /// The message that a consumer holds, if under that attempt.
    pub fn held(&self, tag: Tag, attempt: Attempt) -> Option<&Flight> {
        let flight = self.cursors.get(&tag.log())?.flying.get(&tag.offset().0)?;
        (flight.attempt == attempt && flight.dying.is_none()).then_some(flight)
    }

    /// Messages are done, now or after a restart.
    pub fn apply_done(&mut self, reason: Reason, bytes: u64, stretches: &[(u16, u64, u64)]) {
        let mut count = 0;
        for &(log, start, length) in stretches {
            count += length;
            self.faults.forget(log, start, length);
            let Some(cursor) = self.cursors.get_mut(&log) else { continue };
            if length == 1 {
                cursor.done.add(start)
            } else {
                cursor.done.insert(start, start + length)
            }
            cursor.release_keys(start, start + length);
            if cursor.flying.is_empty() && cursor.returned.is_empty() {
                continue;
            }
            for offset in cursor.standing(start, length) {
                self.landed(log, offset);
            }
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        *match reason {
            Reason::Accepted => &mut self.counters.acknowledged,
            Reason::Rejected | Reason::Attempts | Reason::Age => &mut self.counters.rejected,
            Reason::Expired => &mut self.counters.expired,
            Reason::Overflow => &mut self.counters.dropped,
            Reason::Purged => &mut self.counters.purged,
            Reason::DeadLettered => &mut self.counters.dead_lettered,
            Reason::Filtered => &mut self.counters.filtered,
            Reason::Withdrawn => &mut self.counters.withdrawn,
        } += count;
        if reason == Reason::Purged {
            self.forget_done_delayed();
        }
    }

    fn forget_done_delayed(&mut self) {
        let cursors = &self.cursors;
        self.delayed
            .retain(|(_, tag), _| cursors.get(&tag.log()).is_some_and(|c| !c.done.contains(tag.offset().0)));
    }

    /// A message is done: nobody holds it, its key is free.
    fn landed(&mut self, log: u16, offset: u64) {
        let Some(cursor) = self.cursors.get_mut(&log) else { return };
        cursor.take_returned(offset);
        let Some(flight) = cursor.flying.remove(&offset) else { return };
        self.dying -= usize::from(flight.dying.is_some());
        if let (Some(shares), None) = (&mut self.shares, &flight.dying) {
            shares.let_go(flight.tenant);
        }
        if let Some(consumer) = flight.consumer {
            self.consumers.let_go(consumer, tag(log, offset));
        }
        if self.policy.by_key {
            self.free_key(tag(log, offset), flight.meta);
        }
    }

    /// Messages were handed out (or a restart reads that they were).
    pub fn apply_take(&mut self, held_until: Millis, items: &[Item]) {
        for item in items {
            let cursor = self.cursors.entry(item.log).or_default();
            cursor.take_returned(item.offset);
            let flight = Flight {
                consumer: None,
                held_until,
                attempt: item.attempt,
                bytes: item.bytes,
                meta: None,
                tenant: None,
                dying: None,
            };
            cursor.flying.insert(item.offset, flight);
            self.count_delivery(item.attempt);
        }
    }

    fn count_delivery(&mut self, attempt: Attempt) {
        self.counters.delivered += 1;
        self.counters.redelivered += u64::from(attempt.0 > 1);
    }

    /// Sends a held message to the dead letters; without such an address it is done.
    pub fn condemn(
        &mut self,
        log: u16,
        offset: u64,
        dying: Dying,
        logs: &dyn Logs,
        finished: &mut Finished,
        ctx: &mut Ctx<'_>,
    ) {
        let cursor = self.cursors.get_mut(&log).expect("of a held message");
        let flight = cursor.flying.get_mut(&offset).expect("held");
        if self.policy.dead_letter.is_none() {
            finished.add(dying.reason, log, offset, flight.bytes);
            return;
        }
        let item = Item {
            log,
            offset,
            attempt: flight.attempt,
            bytes: flight.bytes,
            due: Millis(0),
            client: ClientId(0),
        };
        if let Some(fault) = Fault::of(dying.class.as_deref(), None) {
            // A dying entry has room for the text alone.
            Entry::Failed(self.id, fault, vec![(log, offset)]).append(ctx.log);
        }
        Entry::Dying(self.id, dying.reason, dying.error.clone(), item).append(ctx.log);
        let consumer = flight.consumer.take();
        if let Some(shares) = &mut self.shares {
            shares.let_go(flight.tenant);
        }
        flight.dying = Some(Box::new(dying));
        flight.held_until = Millis::NEVER;
        self.dying += 1;
        if let Some(consumer) = consumer {
            self.consumers.let_go(consumer, tag(log, offset));
        }
        self.load_dying(log, offset, logs, ctx);
    }

    /// Asks for the body of a message that goes to the dead letters.
    pub fn load_dying(&self, log: u16, offset: u64, logs: &dyn Logs, ctx: &mut Ctx<'_>) {
        let purpose = Purpose::DeadLetter { entity: self.id, tag: tag(log, offset) };
        let spans = logs.log(log).map_or_else(Vec::new, |l| l.spans(offset, offset + 1, 1));
        ctx.effects.push(Effect::Load(Load {
            purpose,
            log: logs.id(log),
            from: Offset(offset),
            to: Offset(offset + 1),
            only: Some(vec![Offset(offset)]),
            filter: None,
            tenant_by: None,
            messages_max: 1,
            spans,
        }));
    }

    /// A message that nobody holds is over: expired, or the queue is too long.
    pub(super) fn discard(
        &mut self,
        log: u16,
        meta: Meta,
        (attempt, rank): (Attempt, Option<u64>),
        reason: Reason,
        logs: &dyn Logs,
        finished: &mut Finished,
        ctx: &mut Ctx<'_>,
    ) {
        let drops = reason == Reason::Overflow && self.policy.drops_overflow;
        if drops || self.policy.dead_letter.is_none() {
            finished.add(reason, log, meta.offset.0, meta.bytes);
            return;
        }
        let flight = Flight {
            consumer: None,
            held_until: Millis::NEVER,
            attempt,
            bytes: meta.bytes,
            meta: Some(meta),
            tenant: None,
            dying: Some(Box::new(Dying { reason, rank, ..Dying::default() })),
        };
        let cursor = self.cursors.entry(log).or_default();
        cursor.flying.insert(meta.offset.0, flight);
        self.dying += 1;
        self.load_dying(log, meta.offset.0, logs, ctx);
    }

    /// Writes down and applies what is done; says whether anything was.
    pub fn finish(&mut self, finished: Finished, ctx: &mut Ctx<'_>) -> bool {
        let any = !finished.0.is_empty();
        if any {
            finished
                .write(self.id, ctx, |reason, bytes, stretches| self.apply_done(reason, bytes, stretches));
        }
        any
    }

    /// Room for more that expire or overflow.
    pub(super) fn may_discard(&self) -> bool {
        self.dying < DYING_MAX
    }

    /// Takes a message that is next in line off its line, if it is to be discarded (`Some(None)`) or waits behind its key;
    /// otherwise it is to be handed out.
    pub(super) fn pop(
        &mut self,
        log: u16,
        returned: Option<u64>,
        logs: &dyn Logs,
        finished: &mut Finished,
        expired_by: Millis,
        ctx: &mut Ctx<'_>,
    ) -> Popped {
        let cursor = self.cursors.get_mut(&log).expect("picked");
        let rank = returned.map(|offset| cursor.rank(offset));
        let (meta, attempt) = match returned {
            Some(offset) => {
                let returned = cursor.take_returned(offset).expect("picked");
                (returned.meta.expect("loaded"), returned.attempt)
            }
            None => (cursor.window.pop_front().expect("picked"), Attempt(0)),
        };
        if meta.expires_at <= expired_by {
            if self.policy.by_key {
                // It may have been given the key when the one before it was done.
                self.free_key(tag(log, meta.offset.0), Some(meta));
            }
            self.discard(log, meta, (attempt, rank), Reason::Expired, logs, finished, ctx);
            if let (None, Some(cursor)) = (&self.policy.dead_letter, self.cursors.get_mut(&log)) {
                // It is done with this step, and those behind it may go in this step.
                cursor.release_keys(meta.offset.0, meta.offset.0 + 1);
            }
            return Popped::Gone;
        }
        if self.policy.ordered && cursor.behind(&meta).is_some() {
            cursor.park(meta, attempt);
            return Popped::Gone;
        }
        if !self.take_key(log, meta, attempt) {
            return Popped::Gone;
        }
        Popped::Ready(meta, attempt)
    }

    /// Discards the message that is next in line because the queue is too long. Returns its size.
    pub(super) fn evict(
        &mut self,
        log: u16,
        returned: Option<u64>,
        logs: &dyn Logs,
        finished: &mut Finished,
        ctx: &mut Ctx<'_>,
    ) -> Option<u32> {
        if !self.may_discard() {
            return None;
        }
        let cursor = self.cursors.get_mut(&log)?;
        let rank = returned.map(|offset| cursor.rank(offset));
        let (meta, attempt) = match returned {
            Some(offset) => {
                cursor.take_returned(offset).and_then(|r| r.meta.map(|meta| (meta, r.attempt)))?
            }
            None => (cursor.window.pop_front()?, Attempt(0)),
        };
        if self.policy.by_key {
            self.free_key(tag(log, meta.offset.0), Some(meta));
        }
        self.discard(log, meta, (attempt, rank), Reason::Overflow, logs, finished, ctx);
        Some(meta.bytes)
    }

    /// Bytes of what waits: without what consumers hold, and what is on its way to the dead letters.
    pub(super) fn waiting_bytes(&self) -> u64 {
        let flights = self.cursors.values().flat_map(|cursor| cursor.flying.values());
        self.bytes.saturating_sub(flights.map(|flight| u64::from(flight.bytes)).sum())
    }

    /// Whether the message that is next in line in a log has expired by then and may be discarded.
    pub(super) fn head_expired(&self, log: u16, returned: Option<u64>, by: Millis) -> bool {
        let Some(cursor) = self.cursors.get(&log) else { return false };
        let meta = match returned {
            Some(_) => cursor.returned.first_key_value().and_then(|(_, returned)| returned.meta.as_ref()),
            None => cursor.window.front(),
        };
        self.may_discard() && meta.is_some_and(|meta| meta.expires_at <= by)
    }
}

/// What became of the message that was next in line.
pub(super) enum Popped {
    /// It is to be handed out; the attempts before this one.
    Ready(Meta, Attempt),
    /// It expired, or waits behind its key.
    Gone,
}
