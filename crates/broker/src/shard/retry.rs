//! Messages that come back from whoever held them: to be tried again, now or after a pause, or to be given up.

use smol_str::SmolStr;
use waystation_base::{Attempt, ClientId, EntityId, Millis, Tag};

use super::{
    Ctx,
    cursor::{Dying, Flight, Reason, Returned, is_delayed, tag},
    entry::{Entry, Item},
    faults::{Fault, cut},
    outlet::{Finished, Logs, Outlet, Waiting},
    timers::Timer,
};
use crate::{
    Kind,
    command::Failure,
    spec::retry::{CONSUMER_LOST, Failed, LEASE_ENDED, Limit, Verdict},
};

/// Why messages come back.
#[derive(Clone, Copy, Debug)]
pub enum Why<'a> {
    /// They were not tried: the attempt does not count.
    Released,
    /// Their consumer says that they failed.
    Failed(&'a Failure),
    /// They were held for as long as they may be.
    LeaseEnded,
    /// Their consumer went away while it held them: it may be that one of them was the cause.
    ConsumerLost,
    /// The server ended while a consumer held them.
    Restarted,
}

impl Why<'_> {
    fn class(&self) -> Option<&str> {
        match self {
            Why::Failed(failure) => failure.class.as_deref().filter(|class| !class.is_empty()),
            Why::LeaseEnded => Some(LEASE_ENDED),
            Why::ConsumerLost => Some(CONSUMER_LOST),
            Why::Released | Why::Restarted => None,
        }
    }

    /// What the consumer said, if it said anything.
    fn fault(&self) -> Option<Fault> {
        let Why::Failed(failure) = self else { return None };
        Fault::of(failure.class.as_deref(), failure.error.as_deref())
    }

    /// What a dead letter tells of it, unless the consumer said something.
    fn text(&self) -> Option<&'static str> {
        match self {
            Why::LeaseEnded => Some("its lease ended before it was settled"),
            Why::ConsumerLost => Some("its consumer went away while it held it"),
            Why::Restarted => Some("the server ended while a consumer held it"),
            Why::Released | Why::Failed(_) => None,
        }
    }
}

/// What becomes of one message.
enum Fate {
    /// It is ready again at that time; 0: now.
    Again(Millis),
    /// It is given up.
    Over(Reason),
}

impl Outlet {
    /// Gives messages back that are held: each is ready again, waits, or goes to the dead letters.
    pub fn bring_back(&mut self, tags: &[Tag], why: Why<'_>, logs: &dyn Logs, ctx: &mut Ctx<'_>) {
        let mut items = Vec::with_capacity(tags.len());
        let mut finished = Finished::default();
        let mut over = Vec::new();
        for tag in tags {
            let (log, offset) = (tag.log(), tag.offset().0);
            let Some(flight) = self.cursors.get(&log).and_then(|cursor| cursor.flying.get(&offset)) else {
                continue;
            };
            if flight.dying.is_some() {
                continue;
            }
            match self.fate(*tag, flight, why, logs, ctx.now) {
                Fate::Over(reason) => over.push((*tag, reason)),
                Fate::Again(due) => {
                    let counts = u32::from(matches!(why, Why::Released));
                    let attempt = Attempt(flight.attempt.0 - counts);
                    items.push(Item { log, offset, attempt, bytes: flight.bytes, due, client: ClientId(0) });
                }
            }
        }
        if let Some(fault) = why.fault() {
            self.note_fault(fault, items.iter().map(|item| tag(item.log, item.offset)), ctx);
        }
        for (tag, reason) in over {
            let dying = self.dying_of(tag, reason, why);
            self.condemn(tag.log(), tag.offset().0, dying, logs, &mut finished, ctx);
        }
        self.finish(finished, ctx);
        if !items.is_empty() {
            self.apply_return(&items);
            self.forget_trimmed(&items, logs);
            Entry::Return(self.id, items).append(ctx.log);
            self.arm_due(ctx);
        }
    }

    fn fate(&self, tag: Tag, flight: &Flight, why: Why<'_>, logs: &dyn Logs, now: Millis) -> Fate {
        if let Why::Released = why {
            return Fate::Again(Millis(0));
        }
        let attempt = flight.attempt.0;
        let exhausted = self.policy.max_attempts.is_some_and(|most| attempt >= most);
        let delay_ms = match why {
            Why::Failed(failure) => failure.delay_ms,
            _ => None,
        };
        let again = |ms: u64| Fate::Again(if ms == 0 { Millis(0) } else { now.plus(ms) });
        let Some(policy) = &self.policy.retry else {
            return if exhausted { Fate::Over(Reason::Attempts) } else { again(delay_ms.unwrap_or(0)) };
        };
        // Who went away failed at one message, if at any; the others need not wait for it, unless the policy says so.
        let at_once = match why {
            Why::Restarted => true,
            Why::ConsumerLost => !policy.classes.contains_key(CONSUMER_LOST),
            _ => false,
        };
        let failed = Failed {
            attempt,
            age_ms: now.since(self.came_at(tag, flight, logs).unwrap_or(now)),
            class: why.class(),
            delay_ms: if at_once { Some(0) } else { delay_ms },
            chance: chance(self.id, tag, flight.attempt),
        };
        match policy.judge(&failed) {
            Verdict::GivenUp(Limit::Class) => Fate::Over(Reason::Rejected),
            Verdict::GivenUp(Limit::Attempts) => Fate::Over(Reason::Attempts),
            _ if exhausted => Fate::Over(Reason::Attempts),
            Verdict::GivenUp(Limit::Age) => Fate::Over(Reason::Age),
            Verdict::Again { pause_ms } => again(pause_ms),
        }
    }

    /// When a message came, or could first be had: at the latest, where nothing but its batch is known.
    fn came_at(&self, tag: Tag, flight: &Flight, logs: &dyn Logs) -> Option<Millis> {
        if let Some(meta) = flight.meta {
            return Some(meta.timestamp);
        }
        // Its batch does not know for when it was meant.
        let delayed = self.kind == Kind::Queue && is_delayed(tag.log());
        logs.log(tag.log()).filter(|_| !delayed)?.came_by(tag.offset().0)
    }

    /// What a dead letter is to tell: what was said now, or else what happened, or else what was said before.
    pub fn dying_of(&mut self, tag: Tag, reason: Reason, why: Why<'_>) -> Dying {
        let before = self.faults.take(tag);
        let now = why.fault();
        let text = |fault: &Option<Fault>| fault.as_ref().and_then(|fault| fault.text.clone());
        let error = match (text(&now), why.text(), text(&before)) {
            (Some(said), ..) => Some(said.to_string()),
            (None, Some(happened), Some(before)) => Some(format!("{happened}; before that: {before}")),
            (None, Some(happened), None) => Some(happened.to_owned()),
            (None, None, before) => before.map(|before| before.to_string()),
        };
        let class = why.class().map(SmolStr::new).or_else(|| before.and_then(|fault| fault.class));
        Dying { reason, error: error.map(|text| cut(&text).to_owned()), class, rank: None }
    }

    /// Retention may have removed a message while it was held: where it was, nothing is any more.
    fn forget_trimmed(&mut self, items: &[Item], logs: &dyn Logs) {
        if self.kind != Kind::Subscription {
            return;
        }
        for item in items {
            if logs.log(item.log).is_none_or(|log| item.offset >= log.base) {
                continue;
            }
            let returned =
                self.cursors.get_mut(&item.log).and_then(|cursor| cursor.returned_mut(item.offset));
            if let Some(returned) = returned {
                returned.meta = None;
            }
        }
    }

    /// Messages came back, now or after a restart.
    pub fn apply_return(&mut self, items: &[Item]) {
        for item in items {
            let Some(cursor) = self.cursors.get_mut(&item.log) else { continue };
            let flight = cursor.flying.remove(&item.offset);
            let meta = flight.as_ref().and_then(|flight| flight.meta);
            if let Some(shares) = &mut self.shares {
                shares.let_go(flight.as_ref().and_then(|flight| flight.tenant));
            }
            if self.policy.ordered && item.due != Millis(0) {
                cursor.hold_key(item.offset, meta.map(|meta| meta.key_hash));
            }
            let (attempt, bytes) = (item.attempt, item.bytes);
            if item.due == Millis(0) {
                cursor.give_back(0, item.offset, Returned { attempt, bytes, meta });
            } else {
                self.wait(item.due, tag(item.log, item.offset), Waiting { attempt, bytes });
            }
            if let Some(consumer) = flight.and_then(|flight| flight.consumer) {
                self.consumers.let_go(consumer, tag(item.log, item.offset));
            }
        }
    }

    /// Sets a message aside until its time.
    pub fn wait(&mut self, due: Millis, tag: Tag, waiting: Waiting) {
        self.delayed.insert((due, tag), waiting);
        if !is_delayed(tag.log()) {
            self.cursors.entry(tag.log()).or_default().aside.insert(tag.offset().0);
        }
    }

    /// Sees to it that the shard looks here when the next message becomes due. One timer is enough, however many wait.
    pub fn arm_due(&mut self, ctx: &mut Ctx<'_>) {
        let Some(((due, _), _)) = self.delayed.first_key_value() else { return };
        if *due < self.armed {
            self.armed = *due;
            ctx.timers.push((*due, Timer::Due(self.id)));
        }
    }

    /// Messages whose time has come are ready.
    pub fn due(&mut self, ctx: &mut Ctx<'_>) {
        while let Some(entry) = self.delayed.first_entry() {
            let (due, tag) = *entry.key();
            if due > ctx.now {
                break;
            }
            let Waiting { attempt, bytes } = entry.remove();
            let cursor = self.cursors.entry(tag.log()).or_default();
            let rank = if self.policy.ordered { 0 } else { due.0.max(1) };
            cursor.give_back(rank, tag.offset().0, Returned { attempt, bytes, meta: None });
        }
        if self.armed <= ctx.now {
            self.armed = Millis::NEVER;
        }
        self.arm_due(ctx);
    }
}

/// What stands for chance: the same for the same attempt at the same message, whenever that is asked.
fn chance(entity: EntityId, tag: Tag, attempt: Attempt) -> u64 {
    let mut bytes = [0; 16];
    bytes[..4].copy_from_slice(&entity.0.to_le_bytes());
    bytes[4..12].copy_from_slice(&tag.0.to_le_bytes());
    bytes[12..].copy_from_slice(&attempt.0.to_le_bytes());
    xxhash_rust::xxh3::xxh3_64(&bytes)
}
