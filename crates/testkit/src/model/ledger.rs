//! What an entry changes.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use waystation_base::{EntityId, Millis, Offset, Tag, batch, message::header::MESSAGE_ID};
use waystation_broker::{
    Kind,
    entry::{self, Declaration, Entry, Item as Line, Publish, Reason},
    place::LogId,
    spec::{Spec, Start},
};

use super::{Book, Item, Ledger, Outlet, Rules, State, Stored, Topic, Written, routing::Route};

/// The messages of a publish entry by offset.
pub fn messages(publish: &Publish<'_>) -> Vec<(u64, Stored)> {
    let batch = Bytes::copy_from_slice(publish.batch);
    batch::check_crc(&batch).expect("a whole batch");
    let records = batch::records(&batch).expect("a batch");
    records
        .map(|record| {
            let record = record.expect("a record");
            let message = record.message(&batch).expect("a message");
            let number = Book::number(&message).unwrap_or(Stored::NO_NUMBER);
            (record.offset.0, Stored { number, message, bytes: record.body_bytes() as u32 })
        })
        .collect()
}

/// The offset after a publish entry's batch.
pub fn next_offset(publish: &Publish<'_>) -> u64 {
    batch::Header::read(publish.batch).expect("a batch").last_offset().0 + 1
}

impl Ledger {
    /// Applies an entry without asking why it was written.
    pub fn apply(&mut self, written: &Written) {
        match entry::read(written.kind, &written.payload).expect("an entry") {
            Entry::Declare(id, declaration) => self.declare(id, declaration),
            Entry::Delete(id) => self.delete(id),
            Entry::Publish(publish) => self.publish(&publish, written.now),
            Entry::Take(id, until, lines) => self.take(id, until, &lines),
            Entry::Done(id, reason, _, stretches) => self.done(id, reason, &stretches),
            Entry::Return(id, lines) => self.give_back(id, &lines),
            Entry::Dying(id, _, error, line) => {
                self.let_go(id, tag(line.log, line.offset));
                if let Some(item) = self.item(id, line.log, line.offset) {
                    item.state = State::Dying;
                    item.error = error;
                }
            }
            Entry::Extend(id, end, places) => {
                for (log, offset) in places {
                    if let Some(Item { state: State::Held { until, .. }, .. }) = self.item(id, log, offset)
                        && *until != Millis::NEVER
                    {
                        *until = end;
                    }
                }
            }
            Entry::Source(id, number, log, start) => {
                let outlet = self.outlets.get_mut(&id).expect("a subscription");
                outlet.sources.insert(number, log);
                self.read_from(id, number, start.0);
            }
            Entry::Seek(id, number, offset) => {
                self.let_go_of_log(id, number);
                self.read_from(id, number, offset.0);
            }
            Entry::Trim(log, base) => self.trim(log, base.0),
            Entry::Settled(_) | Entry::Tenant(..) => {}
            Entry::Bind(bound) => self.bind(bound),
            Entry::Unbind(bound) => self.unbind(&bound),
            Entry::Failed(id, fault, places) => {
                for (log, offset) in places {
                    if let Some(item) = self.item(id, log, offset) {
                        item.fault = Some(fault.clone());
                    }
                }
            }
            Entry::Document(name, Some(body)) => drop(self.documents.insert(name, body.to_vec())),
            Entry::Document(name, None) => drop(self.documents.remove(&name)),
            Entry::Moment(_) | Entry::Client(_) | Entry::Unrouted(_) => {}
            Entry::Count(id, duplicates) => {
                self.outlets.get_mut(&id).expect("a queue").counters.duplicates += u64::from(duplicates);
            }
        }
    }

    fn item(&mut self, id: EntityId, log: u16, offset: u64) -> Option<&mut Item> {
        self.outlets.get_mut(&id)?.items.get_mut(&tag(log, offset))
    }

    fn declare(&mut self, id: EntityId, declaration: Declaration) {
        let Declaration { name, spec } = declaration;
        let rules = match spec {
            Spec::Topic(spec) => {
                self.addresses.insert(name.clone(), id);
                let topic = self.topics.entry(id).or_insert_with(|| Topic {
                    name,
                    spec: spec.clone(),
                    logs: Vec::new(),
                    next: Vec::new(),
                    published: 0,
                });
                topic.logs.resize_with(topic.logs.len().max(spec.partitions as usize), BTreeMap::new);
                topic.next.resize(topic.logs.len(), 0);
                topic.spec = spec;
                return;
            }
            Spec::Route(spec) => {
                self.route_names.insert(name.clone(), id);
                let new = || Route { name, spec: spec.clone(), bindings: Vec::new() };
                self.routes.entry(id).or_insert_with(new).spec = spec.clone();
                return;
            }
            Spec::Queue(spec) => {
                self.addresses.insert(name.clone(), id);
                Rules::Queue(spec)
            }
            Spec::Subscription(spec) => {
                self.subscriptions.insert(name.clone(), id);
                Rules::Subscription(spec)
            }
        };
        match self.outlets.get_mut(&id) {
            Some(outlet) => outlet.change(rules),
            None => {
                self.outlets.insert(id, Outlet::new(name, rules));
            }
        }
    }

    fn delete(&mut self, id: EntityId) {
        if let Some(outlet) = self.outlets.remove(&id) {
            match outlet.kind() {
                Kind::Subscription => self.subscriptions.remove(&outlet.name),
                _ => self.addresses.remove(&outlet.name),
            };
        }
        if let Some(topic) = self.topics.remove(&id) {
            self.addresses.remove(&topic.name);
            let readers: Vec<(EntityId, u16)> = self
                .outlets
                .iter()
                .flat_map(|(reader, outlet)| {
                    outlet.sources.iter().map(|(number, log)| (*reader, *number, *log))
                })
                .filter(|(.., log)| log.entity == id)
                .map(|(reader, number, _)| (reader, number))
                .collect();
            for (reader, number) in readers {
                self.let_go_of_log(reader, number);
                let outlet = self.outlets.get_mut(&reader).expect("a reader");
                outlet.sources.remove(&number);
                outlet.accounts.remove(&number);
                outlet.items.retain(|tag, _| tag.log() != number);
                outlet.done.retain(|tag| tag.log() != number);
            }
        }
        self.owners.remove(&id);
        self.forget_routing(id);
    }

    fn publish(&mut self, publish: &Publish<'_>, now: Millis) {
        let LogId { entity, log } = publish.log;
        let messages = messages(publish);
        if let Some(outlet) = self.outlets.get_mut(&entity) {
            outlet.next.insert(log, next_offset(publish));
            outlet.counters.published += messages.len() as u64;
            let window = outlet.queue().and_then(|spec| spec.deduplication_ms);
            for (offset, stored) in messages {
                if let Some((window, id)) = window.zip(stored.message.headers.text(MESSAGE_ID)) {
                    outlet.recent.insert(id.to_owned(), now.plus(window));
                }
                let state = match stored.message.deliver_at {
                    Some(at) if log & DELAYED_LOGS != 0 => State::Waiting(at),
                    _ => State::Ready,
                };
                outlet.items.insert(tag(log, offset), Item::new(Arc::new(stored), state));
            }
            return;
        }
        let topic = self.topics.get_mut(&entity).expect("a queue or topic");
        topic.next[usize::from(log)] = next_offset(publish);
        topic.published += messages.len() as u64;
        for (offset, stored) in messages {
            let stored = Arc::new(stored);
            topic.logs[usize::from(log)].insert(offset, stored.clone());
            let name = topic.name.as_str();
            for outlet in self.outlets.values_mut() {
                let numbers = outlet.sources.iter().filter(|(_, source)| **source == publish.log);
                for number in numbers.map(|(number, _)| *number).collect::<Vec<_>>() {
                    outlet.offer(name, number, offset, &stored);
                }
            }
        }
    }

    fn take(&mut self, id: EntityId, until: Millis, lines: &[Line]) {
        let Some(outlet) = self.outlets.get_mut(&id) else { return };
        let is_queue = outlet.queue().is_some();
        for line in lines {
            outlet.counters.delivered += 1;
            outlet.counters.redelivered += u64::from(line.attempt.0 > 1);
            if let Some(item) = outlet.items.get_mut(&tag(line.log, line.offset)) {
                item.state = State::Held { until, consumer: None };
                item.attempts = line.attempt.0;
                (item.touched, item.known) = (true, is_queue);
            }
        }
    }

    fn done(&mut self, id: EntityId, reason: Reason, stretches: &[(u16, u64, u64)]) {
        for (log, start, count) in stretches {
            for offset in *start..start + count {
                self.let_go(id, tag(*log, offset));
            }
        }
        let Some(outlet) = self.outlets.get_mut(&id) else { return };
        for (log, start, count) in stretches {
            for offset in *start..start + count {
                let was_there = outlet.items.remove(&tag(*log, offset)).is_some();
                outlet.accounts.entry(*log).or_default().done += u64::from(was_there);
                outlet.done.insert(tag(*log, offset));
            }
            *match reason {
                Reason::Accepted => &mut outlet.counters.acknowledged,
                Reason::Rejected | Reason::Attempts | Reason::Age => &mut outlet.counters.rejected,
                Reason::Expired => &mut outlet.counters.expired,
                Reason::Overflow => &mut outlet.counters.dropped,
                Reason::Purged => &mut outlet.counters.purged,
                Reason::DeadLettered => &mut outlet.counters.dead_lettered,
                Reason::Filtered => &mut outlet.counters.filtered,
                Reason::Withdrawn => &mut outlet.counters.withdrawn,
            } += count;
        }
    }

    fn give_back(&mut self, id: EntityId, lines: &[Line]) {
        for line in lines {
            self.let_go(id, tag(line.log, line.offset));
            if let Some(item) = self.item(id, line.log, line.offset) {
                item.attempts = line.attempt.0;
                item.ranked = line.due != Millis(0);
                item.paused |= item.ranked;
                item.state = if item.ranked { State::Waiting(line.due) } else { State::Ready };
            }
        }
    }

    fn let_go_of_log(&mut self, id: EntityId, number: u16) {
        let Some(outlet) = self.outlets.get(&id) else { return };
        for tag in outlet.of_log(number).map(|(tag, _)| tag).collect::<Vec<_>>() {
            self.let_go(id, tag);
        }
    }

    /// Nobody holds a message any more.
    fn let_go(&mut self, id: EntityId, tag: Tag) {
        let item = self.outlets.get(&id).and_then(|outlet| outlet.items.get(&tag));
        if let Some(Item { state: State::Held { consumer: Some(consumer), .. }, .. }) = item {
            if let Some(who) = self.consumers.get_mut(consumer) {
                who.held.remove(&tag);
            }
            if let Some(who) = self.retired.get_mut(consumer) {
                who.held.remove(&tag);
            }
        }
    }

    /// A subscription reads a log from an offset on.
    fn read_from(&mut self, id: EntityId, number: u16, start: u64) {
        let Ledger { outlets, topics, .. } = self;
        let outlet = outlets.get_mut(&id).expect("a subscription");
        outlet.items.retain(|tag, _| tag.log() != number);
        outlet.done.retain(|tag| tag.log() != number);
        outlet.accounts.remove(&number);
        let Some(log) = outlet.sources.get(&number).copied() else { return };
        let Some(topic) = topics.get(&log.entity) else { return };
        for (offset, stored) in topic.logs[usize::from(log.log)].range(start..) {
            outlet.offer(topic.name.as_str(), number, *offset, stored);
        }
    }

    fn trim(&mut self, log: LogId, base: u64) {
        let topic = self.topics.get_mut(&log.entity).expect("a topic");
        let kept = topic.logs[usize::from(log.log)].split_off(&base);
        topic.logs[usize::from(log.log)] = kept;
        for outlet in self.outlets.values_mut() {
            let numbers = outlet.sources.iter().filter(|(_, source)| **source == log);
            for number in numbers.map(|(number, _)| *number).collect::<Vec<_>>() {
                let retired = &mut outlet.accounts.entry(number).or_default().retired;
                outlet.items.retain(|tag, item| {
                    let below = tag.log() == number && tag.offset().0 < base;
                    let held = item.is_held() || item.state == State::Dying || item.condemned;
                    item.loose |= below;
                    *retired += u64::from(below && !held);
                    !below || held
                });
            }
        }
    }
}

/// Logs whose number has this bit hold delayed messages.
pub const DELAYED_LOGS: u16 = 256;

/// The tag of an offset in a log.
pub fn tag(log: u16, offset: u64) -> Tag {
    Tag::new(log, Offset(offset))
}

impl Outlet {
    fn new(name: waystation_base::Name, rules: Rules) -> Outlet {
        Outlet {
            name,
            rules,
            items: BTreeMap::new(),
            done: Default::default(),
            sources: BTreeMap::new(),
            accounts: BTreeMap::new(),
            next: BTreeMap::new(),
            recent: BTreeMap::new(),
            counters: Default::default(),
            reordered: false,
            relimited: false,
        }
    }

    fn change(&mut self, rules: Rules) {
        let (by_key, ordered) = (self.by_key(), self.ordered());
        if let (Rules::Subscription(old), Rules::Subscription(new)) = (&self.rules, &rules)
            && (&old.filter, old.start) != (&new.filter, new.start)
        {
            // What stands ready already may be judged by the old filter.
            for item in self.items.values_mut() {
                (item.loose, item.unwanted) = (true, false);
            }
        }
        if let (Rules::Subscription(old), Rules::Subscription(new)) = (&self.rules, &rules)
            && old.fair != new.fair
        {
            self.reordered |= !self.items.is_empty();
        }
        let overflow = self.queue().map(|spec| spec.overflow);
        self.rules = rules;
        self.relimited |= overflow != self.queue().map(|spec| spec.overflow);
        self.reordered |= !self.items.is_empty() && (by_key, ordered) != (self.by_key(), self.ordered());
    }

    /// A message is there to be read; the filter decides.
    fn offer(&mut self, topic: &str, number: u16, offset: u64, stored: &Arc<Stored>) {
        let Rules::Subscription(spec) = &self.rules else { return };
        let wanted = spec.filter.as_ref().is_none_or(|filter| filter.matches(topic, &stored.message));
        let timestamp = stored.message.timestamp.max(stored.message.deliver_at.unwrap_or_default());
        let since = if let Start::Time(ms) = spec.start { Millis(ms) } else { Millis(0) };
        let unwanted = !wanted || timestamp < since;
        let item = Item { loose: unwanted, unwanted, ..Item::new(stored.clone(), State::Ready) };
        let is_new = self.items.insert(tag(number, offset), item).is_none();
        self.accounts.entry(number).or_default().offered += u64::from(is_new);
    }

    /// Asserts that each message published here since it began waits, is done, or went by retention.
    pub fn check_accounts(&self) {
        if self.queue().is_some() {
            let c = &self.counters;
            let gone = c.acknowledged + c.expired + c.rejected + c.dropped + c.purged + c.dead_lettered;
            let gone = gone + c.withdrawn + c.filtered;
            let waiting = self.items.len() as u64;
            assert_eq!(c.published, gone + waiting, "the account of '{}': {c:?}", self.name);
        }
        for (number, account) in self.accounts.iter().filter(|(number, _)| self.sources.contains_key(number))
        {
            let waiting = self.of_log(*number).count() as u64;
            let gone = account.done + account.retired;
            assert_eq!(account.offered, gone + waiting, "the account of '{}': {account:?}", self.name);
        }
    }
}
