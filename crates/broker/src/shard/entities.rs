//! Queues, topics and subscriptions as the shard holds them.

use std::{collections::VecDeque, sync::Arc};

use smol_str::SmolStr;
use waystation_base::{EntityId, Message, Millis, Name, limits::DEDUPLICATION_IDS_MAX};

use super::{
    Ctx, HashMap,
    cursor::DELAYED_LOGS,
    dispatch::Length,
    lanes::Lanes,
    limits::Rules,
    log::Log,
    outlet::{DeadLetters, Logs, Outlet, Policy},
    tenants::Tenants,
};
use crate::{
    Kind, SessionId,
    place::LogId,
    spec::{Mode, Order, Overflow, QueueSpec, Start, SubscriptionSpec, TopicSpec},
    view::Counters,
};

/// What a name that can be published to stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Address {
    /// A queue.
    Queue(EntityId),
    /// A topic.
    Topic(EntityId),
}

impl Address {
    /// Its id.
    pub fn id(&self) -> EntityId {
        let (Address::Queue(id) | Address::Topic(id)) = self;
        *id
    }
}

/// A queue: a log for each priority in use, and one beside it for delayed messages. What a publish touches comes first: with
/// ten thousand queues each line of memory that it touches is one that is not in the cache.
#[derive(Debug)]
#[repr(C)]
pub struct Queue {
    /// Publishing need not look at the declaration: no limit, no expiry, no deduplication.
    pub(super) plain: bool,
    /// Messages of a higher priority lie in its lane.
    pub(super) max_priority: u8,
    /// Its logs by number.
    pub(super) logs: Lanes,
    /// Consumers and progress.
    pub(super) outlet: Outlet,
    /// How it is declared.
    pub(super) spec: QueueSpec,
    /// Message ids seen of late.
    pub(super) recent: Recent,
    /// Whom it belongs to, if it is exclusive.
    pub(super) owner: Option<SessionId>,
    /// Tenants that have lanes of their own.
    pub(super) tenants: Tenants,
}

/// Message ids seen of late.
#[derive(Clone, Debug, Default)]
pub struct Recent {
    ids: HashMap<u128, Millis>,
    order: VecDeque<(Millis, u128)>,
}

impl Recent {
    /// Whether an id was seen within the window that ends now.
    pub fn has(&self, id: u128, now: Millis) -> bool {
        self.ids.get(&id).is_some_and(|until| *until > now)
    }

    /// Notes an id until a time, and forgets what is over.
    pub fn note(&mut self, id: u128, now: Millis, until: Millis) {
        while self.order.front().is_some_and(|(old, _)| *old <= now)
            || self.order.len() >= DEDUPLICATION_IDS_MAX
        {
            let Some((until, id)) = self.order.pop_front() else { break };
            if self.ids.get(&id) == Some(&until) {
                self.ids.remove(&id);
            }
        }
        self.ids.insert(id, until);
        self.order.push_back((until, id));
    }

    /// All of them with their ends, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (Millis, u128)> + '_ {
        self.order.iter().copied()
    }
}

/// A queue's own logs.
pub(super) struct QueueLogs<'a>(EntityId, &'a Lanes);

impl Logs for QueueLogs<'_> {
    fn log(&self, number: u16) -> Option<&Log> {
        self.1.get(number)
    }

    fn id(&self, number: u16) -> LogId {
        LogId { entity: self.0, log: number }
    }
}

impl Queue {
    /// An empty queue.
    pub fn new(id: EntityId, name: Name, spec: QueueSpec) -> Queue {
        let mut outlet = Outlet::new(id, Kind::Queue, name, queue_policy(&spec));
        outlet.change_limits(queue_rules(&spec));
        outlet.is_fair = spec.fair.is_some();
        Queue {
            plain: is_plain(&spec),
            max_priority: spec.max_priority,
            spec,
            outlet,
            logs: Lanes::default(),
            recent: Recent::default(),
            owner: None,
            tenants: Tenants::default(),
        }
    }

    /// Changes its declaration.
    pub fn change(&mut self, spec: QueueSpec) {
        let policy = queue_policy(&spec);
        self.outlet.order_by_key(policy.by_key);
        self.outlet.policy = policy;
        self.outlet.change_limits(queue_rules(&spec));
        self.outlet.is_fair |= spec.fair.is_some();
        self.plain = is_plain(&spec);
        self.max_priority = spec.max_priority;
        self.spec = spec;
    }

    /// The number of the log that a message goes to.
    pub(super) fn log_of(&self, message: &Message, now: Millis) -> u16 {
        Queue::log_of_priority(self.max_priority, message, now)
    }

    /// The same for any queue with that highest priority.
    pub(super) fn log_of_priority(max_priority: u8, message: &Message, now: Millis) -> u16 {
        let delayed = message.deliver_at.is_some_and(|at| at > now);
        u16::from(message.priority.min(max_priority)) + if delayed { DELAYED_LOGS } else { 0 }
    }

    /// The outlet, to be changed, and the logs to read.
    pub(super) fn parts(&mut self) -> (&mut Outlet, QueueLogs<'_>) {
        let logs = QueueLogs(self.outlet.id, &self.logs);
        (&mut self.outlet, logs)
    }

    /// The logs to read.
    pub(super) fn logs(&self) -> QueueLogs<'_> {
        QueueLogs(self.outlet.id, &self.logs)
    }

    /// Messages that are not done.
    pub fn alive(&self) -> u64 {
        self.outlet.alive(&self.logs())
    }

    /// Whether older messages make room when there are too many: those at the head must be known then.
    pub(super) fn shortens(&self) -> bool {
        let limited = self.spec.max_messages.is_some() || self.spec.max_bytes.is_some();
        !self.plain && limited && !self.spec.overflow.refuses()
    }

    pub(super) fn dispatch(&mut self, ctx: &mut Ctx<'_>) {
        let length = if self.shortens() {
            Length { messages: self.spec.max_messages, bytes: self.spec.max_bytes }
        } else {
            Length::default()
        };
        let (outlet, logs) = self.parts();
        outlet.dispatch(length, &logs, ctx);
        self.trim();
    }

    /// Lets go of what is done.
    pub fn trim(&mut self) {
        for (number, log) in self.logs.iter_mut() {
            if let Some(cursor) = self.outlet.cursors.get(&number) {
                log.trim(cursor.done.head());
            }
        }
    }

    /// The log with a number, made with its cursor if it is not there.
    pub fn lane(&mut self, number: u16) -> &mut Log {
        if self.logs.get(number).is_none() {
            self.logs.insert(number, Log::default());
            self.outlet.cursors.entry(number).or_default();
            self.outlet.is_fair |= super::tenants::slot(number) > 0;
        }
        self.logs.get_mut(number).expect("just made")
    }
}

fn is_plain(spec: &QueueSpec) -> bool {
    let limits = [spec.max_messages, spec.max_bytes, spec.ttl_ms, spec.deduplication_ms];
    limits.iter().all(Option::is_none) && spec.fair.is_none()
}

fn queue_rules(spec: &QueueSpec) -> Rules {
    Rules { rate: spec.rate.clone(), concurrency: spec.concurrency, fair: spec.fair.clone().map(Arc::from) }
}

fn subscription_rules(spec: &SubscriptionSpec) -> Rules {
    Rules { rate: spec.rate.clone(), concurrency: spec.concurrency, fair: spec.fair.clone().map(Arc::from) }
}

fn queue_policy(spec: &QueueSpec) -> Policy {
    Policy {
        lease_ms: spec.lease_ms,
        max_attempts: spec.max_attempts,
        retry: spec.retry.as_deref().cloned().map(Arc::new),
        dead_letter: queue_dead_letters(spec),
        drops_overflow: spec.overflow == Overflow::DropHead,
        by_key: spec.order == Order::Key,
        single_active: spec.single_active_consumer,
        ..Policy::default()
    }
}

fn address(name: Option<&str>) -> Option<Name> {
    name.and_then(|name| Name::new(name).ok())
}

fn queue_dead_letters(spec: &QueueSpec) -> Option<DeadLetters> {
    let key = spec.dead_letter_key.as_deref().map(SmolStr::new);
    match spec.dead_letter_route.as_deref() {
        Some("") => Some(DeadLetters::ByKey(key)),
        Some(route) => Name::new(route).ok().map(|route| DeadLetters::Route(route, key)),
        None => address(spec.dead_letter.as_deref()).map(DeadLetters::Address),
    }
}

/// A topic: a log for each partition.
#[derive(Debug)]
pub struct Topic {
    /// Its id.
    pub(super) id: EntityId,
    /// Its name.
    pub(super) name: Name,
    /// How it is declared.
    pub(super) spec: TopicSpec,
    /// Its partitions.
    pub(super) logs: Vec<Log>,
    /// Subscriptions that read a partition, with the number of the source there.
    pub(super) readers: Vec<Vec<(EntityId, u16)>>,
    /// What became of messages.
    pub(super) counters: Counters,
    /// Where the next publish without key goes.
    pub(super) turn: u32,
}

impl Topic {
    /// An empty topic.
    pub fn new(id: EntityId, name: Name, spec: TopicSpec) -> Topic {
        let mut topic = Topic {
            id,
            name,
            spec,
            logs: Vec::new(),
            readers: Vec::new(),
            counters: Counters::default(),
            turn: 0,
        };
        topic.grow();
        topic
    }

    /// Makes the partitions that the declaration names.
    pub fn grow(&mut self) {
        let partitions = self.logs.len().max(self.spec.partitions as usize);
        self.logs.resize_with(partitions, Log::default);
        self.readers.resize_with(partitions, Vec::new);
    }

    /// How long to wait between two looks at retention; none if it keeps everything.
    pub fn retention_interval_ms(&self) -> Option<u64> {
        if self.spec.retention_ms.is_none() && self.spec.retention_bytes.is_none() {
            return None;
        }
        Some(self.spec.retention_ms.map_or(10_000, |ms| (ms / 10).clamp(100, 30_000)))
    }
}

/// A subscription: work on partitions of one or more topics.
#[derive(Debug)]
pub struct Subscription {
    /// How it is declared.
    pub(super) spec: SubscriptionSpec,
    /// Consumers and progress.
    pub(super) outlet: Outlet,
    /// What it reads, by number; none where a topic is gone.
    pub(super) sources: Vec<Option<LogId>>,
}

/// A subscription's logs: partitions of topics.
pub(super) struct SourceLogs<'a>(&'a [Option<LogId>], &'a HashMap<EntityId, Box<Topic>>);

impl Logs for SourceLogs<'_> {
    fn log(&self, number: u16) -> Option<&Log> {
        let source = self.0.get(usize::from(number)).copied().flatten()?;
        self.1.get(&source.entity)?.logs.get(usize::from(source.log))
    }

    fn id(&self, number: u16) -> LogId {
        let nothing = LogId { entity: EntityId(0), log: number };
        self.0.get(usize::from(number)).copied().flatten().unwrap_or(nothing)
    }

    fn comes_back(&self, number: u16) -> bool {
        self.1.get(&self.id(number).entity).is_some_and(|topic| topic.name.redriven_to().is_some())
    }
}

impl Subscription {
    /// A subscription that reads nothing yet.
    pub fn new(id: EntityId, name: Name, spec: SubscriptionSpec) -> Subscription {
        let mut outlet = Outlet::new(id, Kind::Subscription, name, subscription_policy(&spec));
        outlet.change_limits(subscription_rules(&spec));
        outlet.share(spec.fair.as_deref());
        Subscription { spec, outlet, sources: Vec::new() }
    }

    /// Changes its declaration.
    pub fn change(&mut self, spec: SubscriptionSpec) {
        let tenant_by = self.outlet.policy.tenant_by.take();
        let policy = subscription_policy(&spec);
        self.outlet.order_by_partition(policy.ordered);
        self.outlet.policy = Policy { tenant_by, ..policy };
        self.outlet.share(spec.fair.as_deref());
        self.outlet.change_limits(subscription_rules(&spec));
        self.spec = spec;
    }

    /// The outlet, to be changed, and the logs to read.
    pub(super) fn parts<'a>(
        &'a mut self,
        topics: &'a HashMap<EntityId, Box<Topic>>,
    ) -> (&'a mut Outlet, SourceLogs<'a>) {
        (&mut self.outlet, SourceLogs(&self.sources, topics))
    }

    /// The logs to read.
    pub(super) fn logs<'a>(&'a self, topics: &'a HashMap<EntityId, Box<Topic>>) -> SourceLogs<'a> {
        SourceLogs(&self.sources, topics)
    }

    pub(super) fn dispatch(&mut self, topics: &HashMap<EntityId, Box<Topic>>, ctx: &mut Ctx<'_>) {
        let (outlet, logs) = self.parts(topics);
        outlet.dispatch(Length::default(), &logs, ctx);
    }
}

fn subscription_policy(spec: &SubscriptionSpec) -> Policy {
    Policy {
        lease_ms: spec.lease_ms,
        max_attempts: spec.max_attempts,
        retry: spec.retry.as_deref().cloned().map(Arc::new),
        dead_letter: address(spec.dead_letter.as_deref()).map(DeadLetters::Address),
        ordered: spec.mode == Mode::Ordered,
        filter: spec.filter.clone().map(Arc::new),
        since: if let Start::Time(ms) = spec.start { Some(Millis(ms)) } else { None },
        ..Policy::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recent_ids_are_forgotten_after_their_time_and_past_deduplication_ids_max() {
        let mut recent = Recent::default();
        recent.note(1, Millis(0), Millis(10));
        assert!(recent.has(1, Millis(9)) && !recent.has(1, Millis(10)));
        (2..DEDUPLICATION_IDS_MAX as u128 + 1).for_each(|id| recent.note(id, Millis(0), Millis(10)));
        assert!(recent.has(1, Millis(0)));
        recent.note(0, Millis(0), Millis(10));
        assert!(!recent.has(1, Millis(0)) && recent.has(2, Millis(0)));
    }
}
