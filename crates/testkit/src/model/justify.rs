//! Why an entry may be written: each way in which a message leaves must have been asked for or declared.

use waystation_base::{
    EntityId, Message, Millis, Tag,
    message::header::{
        DEATH_ATTEMPTS, DEATH_COUNT, DEATH_ERROR, DEATH_REASON, DEATH_SOURCE, DEATH_SOURCE_KIND, ROUTE,
        ROUTING_KEY,
    },
    value::Value,
};
use waystation_broker::{
    Command, Kind, Source,
    command::{Outcome, Transaction},
    entry::{Entry, Fault, Item as Line, Reason},
    place::{LogId, Purpose},
    spec::{
        Overflow, QueueSpec,
        retry::{CONSUMER_LOST, LEASE_ENDED},
    },
};

use super::{
    Book, Cause, Item, Ledger, Outlet, State, Written,
    ledger::{messages, next_offset, tag},
    retry::{Ended, check_error, said},
    routing::told,
};

impl Ledger {
    /// Asserts that an entry other than a take may be written now, and applies it.
    pub fn enter(&mut self, written: &Written, cause: Cause<'_>, book: &Book) {
        let now = written.now;
        let entry = waystation_broker::entry::read(written.kind, &written.payload).expect("an entry");
        match &entry {
            Entry::Done(id, reason, bytes, stretches) => {
                let tags = stretches
                    .iter()
                    .flat_map(|(log, start, count)| (*start..start + count).map(|o| tag(*log, o)));
                let tags: Vec<Tag> = tags.collect();
                self.justify_done(*id, *reason, &tags, cause, now);
                self.check_bytes(*id, *bytes, &tags);
            }
            Entry::Return(id, lines) => self.justify_return(*id, lines, cause, now),
            Entry::Dying(id, reason, error, line) => {
                self.justify_dying(*id, *reason, error.as_deref(), line, cause, now);
            }
            Entry::Tenant(id, slot, name) => {
                let fair = self.outlets[id].queue().is_some_and(|spec| spec.fair.is_some());
                assert!(fair && *slot > 0, "{name} gets slot {slot}");
            }
            Entry::Failed(id, fault, places) => self.justify_failed(*id, fault, places, cause),
            Entry::Delete(id) => self.justify_delete(*id, cause),
            Entry::Trim(log, base) => self.justify_trim(*log, base.0, cause, now),
            Entry::Publish(publish) => {
                let next = self.next(publish.log);
                let first =
                    waystation_base::batch::Header::read(publish.batch).expect("a batch").base_offset.0;
                assert_eq!(first, next, "offsets of {:?} are dense", publish.log);
                assert!(next_offset(publish) > first);
                for (_, stored) in messages(publish) {
                    assert!((stored.number as usize) < book.sent.len(), "somebody sent it");
                }
            }
            Entry::Extend(..) => assert!(matches!(cause, Cause::Command(Command::Extend(_)))),
            Entry::Seek(..) => assert!(matches!(cause, Cause::Command(Command::Seek(_)))),
            Entry::Declare(..) | Entry::Source(..) => {
                assert!(matches!(cause, Cause::Command(Command::Declare(_))))
            }
            Entry::Bind(_) => assert!(matches!(cause, Cause::Command(Command::Bind(_)))),
            Entry::Unbind(_) => assert!(matches!(cause, Cause::Command(Command::Unbind(_)))),
            Entry::Document(..) => assert!(matches!(cause, Cause::Command(Command::Document { .. }))),
            Entry::Settled(_) => assert!(matches!(cause, Cause::Command(Command::Settled(_)))),
            Entry::Take(..) | Entry::Count(..) | Entry::Moment(_) | Entry::Client(_) | Entry::Unrouted(_) => {
            }
        }
        self.apply(written);
    }

    fn next(&self, log: LogId) -> u64 {
        match self.outlets.get(&log.entity) {
            Some(outlet) => outlet.next.get(&log.log).copied().unwrap_or(0),
            None => self.topics[&log.entity].next[usize::from(log.log)],
        }
    }

    fn check_bytes(&self, id: EntityId, bytes: u64, tags: &[Tag]) {
        let outlet = &self.outlets[&id];
        if outlet.queue().is_some() {
            let sum: u64 =
                tags.iter().filter_map(|tag| outlet.items.get(tag)).map(|i| u64::from(i.stored.bytes)).sum();
            assert_eq!(bytes, sum, "bytes of what is done in '{}': {tags:?}", outlet.name);
        }
    }

    fn justify_done(&self, id: EntityId, reason: Reason, tags: &[Tag], cause: Cause<'_>, now: Millis) {
        let outlet = &self.outlets[&id];
        for tag in tags {
            let found = outlet.items.get(tag);
            let place = format!("{tag:?} of '{}', {reason:?} at {now} by {cause:?}: {found:?}", outlet.name);
            let Some(item) = found else {
                assert!(
                    reason == Reason::Filtered
                        || outlet.kind() == Kind::Subscription && reason != Reason::Accepted,
                    "what is not there cannot be done: {place}"
                );
                continue;
            };
            let dying = item.state == State::Dying || item.condemned;
            match reason {
                Reason::Accepted => {
                    assert!(self.is_accepted(id, *tag, item, cause), "nobody accepted it: {place}")
                }
                Reason::Rejected | Reason::Attempts | Reason::Age => {
                    assert!(
                        !outlet.buries() || self.has_no_grave(outlet, item, reason, cause),
                        "it belongs to the dead letters: {place}"
                    );
                    let rejected =
                        self.outcome(id, *tag, cause).is_some_and(|o| matches!(o, Outcome::Rejected { .. }));
                    let ended = self.ended(id, *tag, item, cause, now);
                    let over = ended.and_then(|ended| outlet.fates(item, &ended, now).over);
                    let rejected = rejected && reason == Reason::Rejected;
                    assert!(dying || rejected || over == Some(reason), "nobody gave it up: {place}");
                }
                Reason::Expired => {
                    assert!(
                        !outlet.buries() || self.has_no_grave(outlet, item, reason, cause),
                        "it belongs to the dead letters: {place}"
                    );
                    assert!(item.stored.expired(now) && !item.is_held(), "it has not expired: {place}");
                }
                Reason::Overflow => {
                    let spec = outlet.queue().expect("only queues have a length");
                    assert!(dying || spec.overflow == Overflow::DropHead && !item.is_held(), "{place}");
                }
                Reason::Purged => {
                    assert!(
                        matches!(cause, Cause::Command(Command::Purge(name)) if *name == outlet.name),
                        "{place}"
                    );
                    assert!(!item.is_held() && item.state != State::Dying, "it is being worked on: {place}");
                }
                Reason::DeadLettered => {
                    assert!(dying && outlet.buries(), "{place}");
                    let Cause::Command(Command::Loaded(loaded)) = cause else { panic!("{place}") };
                    assert_eq!(loaded.purpose, Purpose::DeadLetter { entity: id, tag: *tag }, "{place}");
                }
                Reason::Withdrawn => {
                    let asked = matches!(self.outcome(id, *tag, cause), Some(Outcome::Withdrawn { .. }));
                    assert!(asked && !item.is_in_hands(), "nobody moved it elsewhere: {place}");
                }
                Reason::Filtered => assert!(item.loose, "it is there and wanted: {place}"),
            }
        }
        if reason == Reason::Overflow {
            self.justify_overflow(outlet, tags);
        }
    }

    /// Whether a dead letter has its route, and that leads nowhere.
    fn has_no_grave(&self, outlet: &Outlet, item: &Item, reason: Reason, cause: Cause<'_>) -> bool {
        let loaded = matches!(cause, Cause::Command(Command::Loaded(_)));
        let grave = || self.burial(outlet, &item.stored.message, told(reason));
        loaded && outlet.buries_by_route() && grave().is_empty()
    }

    fn justify_overflow(&self, outlet: &Outlet, tags: &[Tag]) {
        let spec = outlet.queue().expect("only queues have a length");
        if tags.iter().all(|tag| outlet.items[tag].condemned) {
            return;
        }
        // Dropping the last of them must have been necessary still. What a consumer holds does not count; what is on its way
        // to the dead letters may have been condemned later.
        let waiting = || outlet.items.iter().filter(|(tag, item)| tags.contains(tag) || !item.is_held());
        let left = waiting().count() as u64 - tags.len() as u64;
        let bytes =
            |items: &mut dyn Iterator<Item = &Item>| items.map(|i| u64::from(i.stored.bytes)).sum::<u64>();
        let gone = bytes(&mut tags.iter().map(|tag| &outlet.items[tag]));
        let bytes_left = bytes(&mut waiting().map(|(_, item)| item)) - gone;
        let largest = tags.iter().map(|tag| u64::from(outlet.items[tag].stored.bytes)).max().unwrap_or(0);
        let needed = spec.max_messages.is_some_and(|max| left + 1 > max)
            || spec.max_bytes.is_some_and(|max| bytes_left + largest > max);
        assert!(needed, "'{}' drops {tags:?} and has {left} messages, {bytes_left} bytes left", outlet.name);
    }

    /// The outcome that a transaction names for a message.
    pub(super) fn outcome<'a>(&self, id: EntityId, tag: Tag, cause: Cause<'a>) -> Option<&'a Outcome> {
        let Cause::Command(Command::Transact(Transaction { settlements, .. })) = cause else { return None };
        settlements
            .iter()
            .filter(|settle| self.source(&settle.source) == Some(id))
            .flat_map(|settle| &settle.settlements)
            .find(|settlement| settlement.tag == tag)
            .map(|settlement| &settlement.outcome)
    }

    fn is_accepted(&self, id: EntityId, tag: Tag, item: &Item, cause: Cause<'_>) -> bool {
        let settled = self.outcome(id, tag, cause) == Some(&Outcome::Accepted);
        item.is_held() && (settled || matches!(cause, Cause::Flush))
    }

    fn justify_return(&self, id: EntityId, lines: &[Line], cause: Cause<'_>, now: Millis) {
        let outlet = &self.outlets[&id];
        for line in lines {
            let tag = tag(line.log, line.offset);
            let item = outlet.items.get(&tag);
            let place = format!("{tag:?} of '{}' at {now} by {cause:?}: {item:?}", outlet.name);
            let Some(item) = item.filter(|item| item.is_held()) else {
                panic!("what nobody holds cannot come back: {place}");
            };
            let ended = self.ended(id, tag, item, cause, now);
            let ended = ended.unwrap_or_else(|| panic!("nobody gave it back: {place}"));
            let counts = !matches!(ended, Ended::Released);
            assert_eq!(line.attempt.0, item.attempts - u32::from(!counts), "attempts: {place}");
            let Some((least, most)) = outlet.fates(item, &ended, now).again else {
                panic!("it was tried for long enough to come back: {place}");
            };
            let pause_ms = if line.due == Millis(0) { 0 } else { line.due.since(now) };
            assert!((least..=most).contains(&pause_ms), "{pause_ms} ms, not {least} to {most}: {place}");
            assert!(pause_ms > 0 || line.due == Millis(0), "{place}");
        }
    }

    fn justify_dying(
        &self,
        id: EntityId,
        reason: Reason,
        error: Option<&str>,
        line: &Line,
        cause: Cause<'_>,
        now: Millis,
    ) {
        let outlet = &self.outlets[&id];
        let tag = tag(line.log, line.offset);
        let item = outlet.items.get(&tag).expect("it is there");
        let place = format!("{tag:?} of '{}', {reason:?} by {cause:?}: {item:?}", outlet.name);
        assert!(item.is_held() && outlet.buries(), "{place}");
        let outcome = self.outcome(id, tag, cause);
        let rejected = outcome.is_some_and(|outcome| matches!(outcome, Outcome::Rejected { .. }));
        let ended = self.ended(id, tag, item, cause, now);
        let over = ended.and_then(|ended| outlet.fates(item, &ended, now).over);
        assert!(rejected && reason == Reason::Rejected || over == Some(reason), "{place}");
        check_error(error, outcome, item.fault.as_ref());
    }

    /// Asserts that somebody said that of a message.
    fn justify_failed(&self, id: EntityId, fault: &Fault, places: &[(u16, u64)], cause: Cause<'_>) {
        for (log, offset) in places {
            let tag = tag(*log, *offset);
            let held = self.outlets[&id].items.get(&tag).is_some_and(Item::is_held);
            let of_policy =
                [CONSUMER_LOST, LEASE_ENDED].contains(&fault.class.as_deref().unwrap_or_default());
            let said = self.outcome(id, tag, cause).map(said);
            let said = said.and_then(|(class, error)| Fault::of(class, error));
            // A dead letter keeps the class of an earlier error if the last one has none.
            let before = self.outlets[&id].items.get(&tag).and_then(|item| item.fault.clone());
            let classes = [&said, &before].map(|fault| fault.as_ref().and_then(|fault| fault.class.clone()));
            let good = said.as_ref() == Some(fault) || of_policy || classes.contains(&fault.class);
            assert!(held && good, "nobody said {fault:?} of {tag:?} by {cause:?}");
        }
    }

    fn justify_delete(&self, id: EntityId, cause: Cause<'_>) {
        if let Some(route) = self.routes.get(&id) {
            let by_name = match cause {
                Cause::Command(Command::Delete(delete)) => {
                    delete.kind == Kind::Route && delete.name == route.name
                }
                Cause::Recovery => !route.spec.durable,
                _ => false,
            };
            let goes = route.spec.auto_delete && route.bindings.is_empty();
            return assert!(by_name || goes, "nobody deleted {route:?} by {cause:?}");
        }
        let outlet = self.outlets.get(&id);
        let temporary = outlet.is_some_and(Outlet::goes_with_last_consumer);
        let exclusive = outlet.and_then(Outlet::queue).is_some_and(|spec| spec.exclusive);
        let passing = outlet.and_then(Outlet::queue).is_some_and(|spec| !spec.durable);
        let good = match cause {
            Cause::Command(Command::Delete(delete)) => match outlet {
                Some(outlet) => outlet.name == delete.name && outlet.kind() == delete.kind,
                None => self.topics[&id].name == delete.name && delete.kind == Kind::Topic,
            },
            Cause::Command(Command::Detach(_) | Command::Cancel(_)) => temporary,
            Cause::Command(Command::CloseSession(_)) => temporary || exclusive,
            Cause::Tick => outlet.is_some_and(Outlet::goes_when_idle),
            Cause::Recovery => temporary || exclusive || passing,
            _ => false,
        };
        assert!(good, "nobody deleted {id:?} {:?} by {cause:?}", outlet.map(|outlet| &outlet.name));
    }

    fn justify_trim(&self, log: LogId, base: u64, cause: Cause<'_>, now: Millis) {
        assert!(matches!(cause, Cause::Tick), "only time trims topics");
        let topic = &self.topics[&log.entity];
        let kept = &topic.logs[usize::from(log.log)];
        if topic.spec.retention_bytes.is_some() {
            return;
        }
        let age = topic.spec.retention_ms.expect("a topic without retention keeps everything");
        for (offset, stored) in kept.range(..base) {
            let old = stored.message.timestamp.0 < now.0.saturating_sub(age);
            assert!(old, "offset {offset} of '{}' is not old at {now}: {stored:?}", topic.name);
        }
    }

    /// Asserts that a message that arrived as a dead letter is the one that left, and says why.
    pub fn check_dead_letter(
        &self,
        from: EntityId,
        tag: Tag,
        arrived: &Message,
        target: EntityId,
        now: Millis,
    ) {
        let outlet = &self.outlets[&from];
        let item = &outlet.items[&tag];
        let original = &item.stored.message;
        let count = |message: &Message| message.headers.get(DEATH_COUNT).and_then(Value::as_i64).unwrap_or(0);
        assert_eq!(count(arrived), count(original) + 1);
        assert_eq!(arrived.headers.text(DEATH_SOURCE), Some(outlet.name.as_str()));
        let kind = if outlet.queue().is_some() { "queue" } else { "subscription" };
        assert_eq!(arrived.headers.text(DEATH_SOURCE_KIND), Some(kind));
        let attempts = arrived.headers.get(DEATH_ATTEMPTS).and_then(Value::as_i64);
        assert_eq!(attempts, Some(i64::from(item.attempts)), "attempts of {item:?}");
        let why = arrived.headers.text(DEATH_REASON).expect("a reason");
        match why {
            "expired" => assert!(item.stored.expired(now), "{item:?} had not expired at {now}"),
            "max_length" => {
                let spec = outlet.queue().expect("only queues have a length");
                let dies = spec.overflow == Overflow::DeadLetterHead || outlet.relimited;
                assert!(dies, "{item:?} of a queue that drops");
            }
            "rejected" | "max_attempts" | "max_age" => {
                assert!(item.attempts > 0, "{item:?} was never handed out");
                assert_eq!(arrived.headers.text(DEATH_ERROR), item.error.as_deref(), "{item:?}");
            }
            other => panic!("a message does not die of {other}"),
        }
        let mut expected = plain(original);
        expected.expires_at = None;
        expected.deliver_at = None;
        if let Some(spec) = self.outlets.get(&target).and_then(Outlet::queue) {
            expected = as_stored(expected, spec, now);
        }
        assert_eq!(plain(arrived), expected);
    }

    /// Whom a transaction's settlements concern.
    pub fn settles(&self, source: &Source) -> Option<&Outlet> {
        self.source(source).and_then(|id| self.outlets.get(&id))
    }
}

/// A message without what dead-lettering adds.
fn plain(message: &Message) -> Message {
    let mut plain = message.clone();
    let added = |name: &str| name.starts_with("ws-death") || [ROUTE, ROUTING_KEY].contains(&name);
    plain.headers.0.retain(|(name, _)| !added(name));
    plain
}

/// A message as a queue stores it.
pub fn as_stored(mut message: Message, spec: &QueueSpec, now: Millis) -> Message {
    if let Some(ttl) = spec.ttl_ms {
        let start = message.deliver_at.unwrap_or(now).max(now);
        let end = start.plus(ttl);
        message.expires_at = Some(message.expires_at.map_or(end, |own| own.min(end)));
    }
    message
}

impl Outlet {
    fn goes_with_last_consumer(&self) -> bool {
        match &self.rules {
            super::Rules::Queue(spec) => spec.auto_delete,
            super::Rules::Subscription(spec) => spec.temporary,
        }
    }

    fn goes_when_idle(&self) -> bool {
        match &self.rules {
            super::Rules::Queue(spec) => spec.idle_expiry_ms.is_some(),
            super::Rules::Subscription(spec) => spec.idle_expiry_ms.is_some(),
        }
    }
}
