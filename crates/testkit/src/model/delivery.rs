//! What may be handed out, to whom and in which order.

use std::collections::{BTreeMap, BTreeSet};

use waystation_base::{ConsumerId, EntityId, Millis, Tag};
use waystation_broker::{
    Effect,
    command::Hold,
    effect::Handed,
    entry::{Entry, Reason},
    place::key_hash,
    spec::VhostLimits,
};

use super::{
    Book, Cause, Consumer, Item, Ledger, Outlet, Rules, State, Written,
    ledger::{DELAYED_LOGS, tag},
};

/// A message handed out in one dispatch.
#[derive(Clone, Copy, Debug)]
struct Taken {
    attempt: u32,
    until: Millis,
}

impl Ledger {
    /// Asserts that what a flush wrote and handed out is right, and applies it.
    pub fn flush(&mut self, written: &[Written], effects: &[Effect], now: Millis, book: &Book) {
        let mut by_entity: BTreeMap<EntityId, Vec<&Written>> = BTreeMap::new();
        for one in written {
            let id = match entry(one) {
                Entry::Take(id, ..) | Entry::Done(id, ..) => id,
                other => panic!("handing out does not write {other:?}"),
            };
            by_entity.entry(id).or_default().push(one);
        }
        self.condemn(effects);
        let mut taken: BTreeMap<(EntityId, Tag), Taken> = BTreeMap::new();
        for (id, entries) in by_entity {
            let accepted = |one: &&Written| matches!(entry(one), Entry::Done(_, Reason::Accepted, ..));
            let takes = |one: &&Written| matches!(entry(one), Entry::Take(..));
            // Shortening comes before what it uncovers expires.
            let dropped = |one: &&Written| matches!(entry(one), Entry::Done(_, Reason::Overflow, ..));
            let first = entries.iter().filter(|one| dropped(one));
            let rest = entries.iter().filter(|one| !takes(one) && !accepted(one) && !dropped(one));
            for one in first.chain(rest) {
                self.enter(one, Cause::Flush, book);
            }
            let mut of_entity = BTreeMap::new();
            for one in entries.iter().filter(|one| takes(one)) {
                let Entry::Take(_, until, lines) = entry(one) else { unreachable!("filtered") };
                for line in lines {
                    let before = of_entity
                        .insert(tag(line.log, line.offset), Taken { attempt: line.attempt.0, until });
                    assert!(before.is_none(), "{line:?} was handed out twice at once");
                }
            }
            let at_once = entries.iter().filter(|one| accepted(one)).flat_map(|one| done(one)).collect();
            self.check_takes(id, &of_entity, &at_once, now);
            entries.iter().filter(|one| takes(one)).for_each(|one| self.apply(one));
            self.hand_out(id, effects);
            if !of_entity.is_empty() {
                self.check_concurrency(id, &of_entity, effects);
            }
            taken.extend(of_entity.into_iter().map(|(tag, taken)| ((id, tag), taken)));
            for one in entries.iter().filter(|one| accepted(one)) {
                self.enter(one, Cause::Flush, book);
            }
        }
        self.check_vhost(&taken);
        self.check_deliveries(effects, taken);
        self.close(effects);
    }

    /// No more messages are under way than may be, of all tenants and of each.
    fn check_concurrency(&self, id: EntityId, taken: &BTreeMap<Tag, Taken>, effects: &[Effect]) {
        let outlet = &self.outlets[&id];
        // What is accepted as it goes out is not under way.
        let passing = |tag: Tag| {
            effects.iter().any(|effect| match effect {
                Effect::Deliver { consumer, messages } => {
                    let who = self.consumers.get(consumer).filter(|who| who.entity == id);
                    who.is_some_and(|who| who.hold == Hold::None) && messages.iter().any(|one| one.tag == tag)
                }
                _ => false,
            })
        };
        let held = outlet.items.iter().filter(|(tag, item)| item.is_held() && !passing(**tag));
        let held: Vec<Tag> = held.map(|(tag, _)| *tag).collect();
        let (all, fair) = match &outlet.rules {
            Rules::Queue(spec) => (spec.concurrency, spec.fair.as_deref()),
            Rules::Subscription(spec) => (spec.concurrency, None),
        };
        let within = |most: Option<u32>, count: usize| most.is_none_or(|most| count <= most as usize);
        assert!(within(all, held.len()), "'{}' has {held:?} under way", outlet.name);
        let of = |tag: &Tag| tag.log() / (2 * DELAYED_LOGS);
        for tenant in taken.keys().map(of).collect::<BTreeSet<_>>() {
            let own = held.iter().filter(|tag| of(tag) == tenant).count();
            let most = fair.and_then(|fair| fair.concurrency);
            assert!(within(most, own), "tenant {tenant} of '{}': {held:?}", outlet.name);
        }
    }

    /// Messages of all queues and subscriptions that are under way.
    pub fn in_hands(&self) -> u64 {
        let items = self.outlets.values().flat_map(|outlet| outlet.items.values());
        items.filter(|item| item.is_held()).count() as u64
    }

    /// No more messages are under way together than the virtual host may have.
    fn check_vhost(&self, taken: &BTreeMap<(EntityId, Tag), Taken>) {
        let stays =
            |(id, tag): &(EntityId, Tag)| self.outlets[id].items.get(tag).is_some_and(super::Item::is_held);
        let Some(most) = self.vhost.concurrency.filter(|_| taken.keys().any(stays)) else { return };
        let held = self.in_hands();
        assert!(held <= most.into(), "the virtual host may hold {most} and holds {held}");
    }

    /// Messages that are asked for in order to be dead-lettered.
    pub fn condemn(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Load(load) = effect
                && let waystation_broker::place::Purpose::DeadLetter { entity, tag } = load.purpose
                && let Some(item) =
                    self.outlets.get_mut(&entity).and_then(|outlet| outlet.items.get_mut(&tag))
            {
                item.condemned = true;
            }
        }
    }

    /// Consumers that have ended.
    pub fn close(&mut self, effects: &[Effect]) {
        for effect in effects {
            if let Effect::Closed { consumer, .. } = effect {
                let gone = self.consumers.remove(consumer);
                let gone = gone.unwrap_or_else(|| panic!("{consumer:?} was not attached"));
                // What it holds it holds on, unless that is gone itself.
                self.retired.insert(*consumer, gone);
            }
        }
    }

    /// `at_once`: those that are done as they are handed out.
    fn check_takes(&self, id: EntityId, taken: &BTreeMap<Tag, Taken>, at_once: &BTreeSet<Tag>, now: Millis) {
        let outlet = &self.outlets[&id];
        for (tag, take) in taken {
            let item = outlet.items.get(tag);
            let place = format!("{tag:?} of '{}' at {now}: {item:?}", outlet.name);
            let Some(item) = item else { panic!("what is done is not handed out: {place}") };
            match item.state {
                State::Ready => {}
                State::Waiting(due) => assert!(due <= now, "too early: {place}"),
                State::Held { .. } => panic!("somebody holds it: {place}"),
                State::Dying => panic!("it is on its way to the dead letters: {place}"),
            }
            assert!(!item.condemned, "it is on its way to the dead letters: {place}");
            assert!(!item.unwanted, "the filter passes over it: {place}");
            // In the very moment in which its life ends somebody who is ready for it may still get it.
            let past = item.stored.message.expires_at.is_some_and(|at| at < now);
            assert!(!past, "it has expired: {place}");
            assert_eq!(take.attempt, item.attempts + 1, "attempts: {place}");
            assert!(take.until > now, "{place}");
        }
        self.check_order(outlet, taken, now);
        if outlet.by_key() && !outlet.reordered {
            check_keys(outlet, taken, at_once, now);
        }
        if outlet.ordered() && !outlet.reordered {
            check_line(outlet, taken, at_once);
        }
    }

    fn check_order(&self, outlet: &Outlet, taken: &BTreeMap<Tag, Taken>, now: Millis) {
        let priority = |tag: Tag| tag.log() % DELAYED_LOGS;
        let lowest = taken.keys().map(|tag| priority(*tag)).min();
        // A tenant whose limit is reached lets others go first, whatever their priority.
        let has_limits = outlet.queue().and_then(|spec| spec.fair.as_ref());
        let has_limits = has_limits.is_some_and(|fair| fair.rate.is_some() || fair.concurrency.is_some());
        let by_log = |log: u16| taken.keys().filter(move |tag| tag.log() == log);
        for (tag, item) in &outlet.items {
            if taken.contains_key(tag) || (outlet.by_key() && is_blocked(outlet, taken, *tag, item)) {
                continue;
            }
            if !item.is_available(now) || outlet.ordered() && failed_before(outlet, *tag).next().is_some() {
                continue;
            }
            if outlet.queue().is_some() && !has_limits && lowest.is_some_and(|lowest| priority(*tag) > lowest)
            {
                panic!(
                    "{taken:?} of '{}' at {now} overtake {tag:?} of higher priority: {item:?}",
                    outlet.name
                );
            }
            if item.ranked
                || outlet.reordered
                || outlet.by_key()
                || tag.log() & DELAYED_LOGS != 0 && outlet.queue().is_some()
                || outlet.ordered() && item.paused
            {
                continue;
            }
            let tenant = outlet.tenant(item);
            let later = by_log(tag.log()).find(|other| {
                let item = &outlet.items[other];
                *other > tag && !item.ranked && outlet.tenant(item) == tenant
            });
            assert!(later.is_none(), "{later:?} of '{}' at {now} overtakes {tag:?}: {item:?}", outlet.name);
        }
    }

    /// Notes who holds what.
    fn hand_out(&mut self, id: EntityId, effects: &[Effect]) {
        for effect in effects {
            let Effect::Deliver { consumer, messages } = effect else { continue };
            let Some(who) = self.consumers.get_mut(consumer).filter(|who| who.entity == id) else { continue };
            for handed in messages {
                let item = self.outlets.get_mut(&id).and_then(|outlet| outlet.items.get_mut(&handed.tag));
                if let Some(Item { state: State::Held { consumer: holder, .. }, .. }) = item
                    && !matches!(who.hold, Hold::Pull { .. })
                {
                    *holder = Some(*consumer);
                    who.held.insert(handed.tag);
                }
            }
        }
    }

    fn check_deliveries(&mut self, effects: &[Effect], mut taken: BTreeMap<(EntityId, Tag), Taken>) {
        let mut seen = BTreeSet::new();
        for effect in effects {
            let Effect::Deliver { consumer, messages } = effect else { continue };
            assert!(!messages.is_empty(), "a delivery is never empty");
            let who = self
                .consumers
                .get(consumer)
                .unwrap_or_else(|| panic!("{consumer:?} is not attached"))
                .clone();
            // Room in a pool or virtual host is handed on while handing out: the same queue is looked at again.
            // So is one where messages wait for each other: what is done at once lets the next one go.
            let outlet = &self.outlets[&who.entity];
            let again = who.pool.is_some_and(|pool| self.pools.contains_key(&pool))
                || self.vhost != VhostLimits::default()
                || outlet.by_key()
                || outlet.ordered();
            assert!(seen.insert(*consumer) || again, "one delivery for each consumer in a flush");
            for handed in messages {
                let take = taken.remove(&(who.entity, handed.tag));
                let take = take.unwrap_or_else(|| panic!("{handed:?} was handed out without an entry"));
                assert_eq!((take.attempt, take.until), (handed.attempt.0, handed.held_until));
                self.check_meta(who.entity, handed);
            }
            self.check_window(*consumer, messages);
            self.check_pool(&who);
            let outlet = &self.outlets[&who.entity];
            for pair in messages.windows(2) {
                let priority = |handed: &Handed| handed.tag.log() % DELAYED_LOGS;
                assert!(
                    outlet.queue().is_none() || outlet.by_key() || priority(&pair[0]) >= priority(&pair[1]),
                    "priority: {pair:?}"
                );
            }
        }
        for effect in effects {
            if let Effect::Deliver { consumer, messages } = effect {
                self.check_sharing(*consumer, messages);
            }
        }
        assert!(taken.is_empty(), "these were taken and handed to nobody: {taken:?}");
    }

    fn check_meta(&self, id: EntityId, handed: &Handed) {
        let outlet = &self.outlets[&id];
        // Delivered and accepted at once: it is done already.
        let Some(item) = outlet.items.get(&handed.tag) else { return };
        let (meta, message) = (&handed.meta, &item.stored.message);
        assert_eq!(meta.offset, handed.tag.offset());
        assert_eq!(meta.expires_at, message.expires_at.unwrap_or(Millis::NEVER));
        assert_eq!(meta.key_hash, key_hash(message.key.as_deref()));
        assert_eq!(meta.timestamp, message.timestamp.max(message.deliver_at.unwrap_or_default()));
        match outlet.sources.get(&handed.tag.log()) {
            Some(log) => assert_eq!(meta.log, *log),
            None => assert_eq!((meta.log.entity, meta.log.log), (id, handed.tag.log())),
        }
    }

    /// All that share a pool hold no more together than it allows.
    fn check_pool(&self, who: &Consumer) {
        let Some((id, credit)) = who.pool.and_then(|id| Some((id, *self.pools.get(&id)?))) else { return };
        let all = self.consumers.values().chain(self.retired.values());
        // What was in a queue that is gone is held by nobody.
        let there = |other: &&Consumer| self.outlets.contains_key(&other.entity);
        let held: usize =
            all.filter(there).filter(|other| other.pool == Some(id)).map(|other| other.held.len()).sum();
        assert!(held <= credit as usize, "{id:?} may hold {credit} and holds {held}: {who:?}");
    }

    fn check_window(&mut self, consumer: ConsumerId, messages: &[Handed]) {
        let who = self.consumers.get_mut(&consumer).expect("attached");
        match who.hold {
            Hold::Attached | Hold::Once => {
                assert!(who.held.len() <= who.window as usize, "{who:?} holds more than it may")
            }
            Hold::Pull { .. } => {
                assert!(messages.len() <= who.window as usize, "{who:?} gets more than it asked for")
            }
            Hold::None => {
                let left = who.window.checked_sub(messages.len() as u32);
                who.window = left.unwrap_or_else(|| panic!("{who:?} gets more than it may"));
            }
        }
    }

    /// Exclusive, single active, prior and ordered consumers.
    fn check_sharing(&self, consumer: ConsumerId, messages: &[Handed]) {
        let who = &self.consumers[&consumer];
        let outlet = &self.outlets[&who.entity];
        let others =
            || self.consumers.iter().filter(|(id, other)| other.entity == who.entity && **id != consumer);
        let single = outlet.queue().is_some_and(|spec| spec.single_active_consumer);
        for (id, other) in others() {
            assert!(!other.exclusive, "{other:?} has it for itself");
            let first = (std::cmp::Reverse(other.priority), other.order)
                < (std::cmp::Reverse(who.priority), who.order);
            assert!(
                !single || other.is_pull() || who.hold == Hold::Once || !first && !who.is_pull(),
                "{id:?} is the active one: {other:?}, {who:?}"
            );
            let free = match other.hold {
                // Whether its pool had room then is not known any more.
                Hold::Attached | Hold::None if other.pool.is_some() => false,
                Hold::Attached => other.held.len() < other.window as usize,
                Hold::None => other.window > 0,
                Hold::Pull { .. } | Hold::Once => false,
            };
            assert!(
                single || outlet.ordered() || !free || other.priority <= who.priority,
                "{other:?} goes before {who:?}"
            );
        }
        if !outlet.ordered() || outlet.reordered {
            return;
        }
        for handed in messages {
            for (tag, item) in outlet.of_log(handed.tag.log()) {
                let State::Held { consumer: holder, .. } = item.state else { continue };
                let own = holder == Some(consumer) || messages.iter().any(|handed| handed.tag == tag);
                assert!(own, "{tag:?} of '{}' is in another's hands: {item:?}, {who:?}", outlet.name);
            }
        }
    }
}

/// Messages on their way to the dead letters at a time: no more are sent there before these have arrived.
const DYING_MAX: usize = 256;

impl Outlet {
    /// Asserts that a queue that drops what is too much has dropped it, as far as nobody is working on it.
    pub fn check_length(&self, now: Millis) {
        let Some(spec) = self.queue().filter(|spec| !spec.overflow.refuses()) else { return };
        let dies = |item: &Item| item.condemned || item.state == State::Dying;
        let dying: Vec<_> = self.items.values().filter(|item| dies(item)).collect();
        let alive: Vec<_> = self.items.values().filter(|item| !item.is_in_hands()).collect();
        let bytes: u64 = alive.iter().map(|item| u64::from(item.stored.bytes)).sum();
        let long = spec.max_messages.is_some_and(|max| alive.len() as u64 > max);
        if (long || spec.max_bytes.is_some_and(|max| bytes > max)) && dying.len() < DYING_MAX {
            let idle = alive.iter().find(|item| item.is_available(now));
            assert!(
                idle.is_none(),
                "'{}' has {} messages, {bytes} bytes, and keeps {idle:?}",
                self.name,
                alive.len()
            );
        }
    }
}

fn entry(written: &Written) -> Entry<'_> {
    waystation_broker::entry::read(written.kind, &written.payload).expect("an entry")
}

/// Whether a message has to wait for another one of its key.
fn is_blocked(outlet: &Outlet, taken: &BTreeMap<Tag, Taken>, tag: Tag, item: &Item) -> bool {
    let key = item.stored.key_hash();
    let same = outlet.items.iter().filter(|(other, o)| **other != tag && o.stored.key_hash() == key);
    key != 0
        && same.into_iter().any(|(other, o)| {
            let holds = o.is_held() || o.state == State::Dying || o.condemned || o.touched;
            holds || taken.contains_key(other) || other.log() == tag.log() && *other < tag
        })
}

/// Of each key at most one message is in somebody's hands, and they go in order.
fn check_keys(outlet: &Outlet, taken: &BTreeMap<Tag, Taken>, at_once: &BTreeSet<Tag>, now: Millis) {
    for tag in taken.keys() {
        let key = outlet.items[tag].stored.key_hash();
        let same =
            outlet.items.iter().filter(|(other, o)| *other != tag && key != 0 && o.stored.key_hash() == key);
        for (other, o) in same.filter(|(other, _)| !at_once.contains(other) && !at_once.contains(tag)) {
            let place = format!("'{}': {tag:?} and {other:?} have the same key at {now}: {o:?}", outlet.name);
            assert!(!taken.contains_key(other), "both are handed out: {place}");
            assert!(!o.is_held() && o.state != State::Dying, "one is held: {place}");
            let earlier = other.log() == tag.log() && other < tag && other.log() & DELAYED_LOGS == 0;
            // One that was on its way to the dead letters waits again after a restart; who was given the key meanwhile keeps it.
            let overtaken = o.ranked && !o.touched && outlet.items[tag].touched;
            let over = o.condemned || o.stored.expired(now) || overtaken;
            assert!(!earlier || over, "an earlier one waits: {place}");
        }
    }
}

/// The messages that an entry says are done.
fn done(written: &Written) -> Vec<Tag> {
    let Entry::Done(_, _, _, stretches) = entry(written) else { return Vec::new() };
    let each = stretches
        .into_iter()
        .flat_map(|(log, start, count)| (start..start + count).map(move |o| tag(log, o)));
    each.collect()
}

/// Of an ordered subscription: earlier messages of the same key that failed and are not done. One that retention or compaction
/// took may have let go of its key, or not yet.
fn failed_before(outlet: &Outlet, tag: Tag) -> impl Iterator<Item = (Tag, &Item)> {
    let key = outlet.items[&tag].stored.key_hash();
    let earlier = outlet.of_log(tag.log()).take_while(move |(other, _)| *other < tag);
    earlier.filter(move |(_, o)| o.paused && o.stored.key_hash() == key)
}

/// Of an ordered subscription nothing goes before an earlier message of its key that is tried again.
fn check_line(outlet: &Outlet, taken: &BTreeMap<Tag, Taken>, at_once: &BTreeSet<Tag>) {
    for tag in taken.keys() {
        let holder = failed_before(outlet, *tag).find(|(other, o)| !o.loose && !at_once.contains(other));
        assert!(holder.is_none(), "{tag:?} of '{}' overtakes {holder:?}, which is tried again", outlet.name);
    }
}
