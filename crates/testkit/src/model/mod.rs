//! What must be true of the queues, topics and subscriptions: a ledger of every journal entry, kept apart from the shard.
//!
//! The ledger reads the entries as the shard writes them. It knows why each may be written ([`justify`]), what may be handed
//! out ([`delivery`]) and how a command is to be answered ([`answer`]). After a crash it is made anew from the entries that the
//! journal kept, so that it always knows exactly what has happened.

mod accounts;
mod answer;
mod delivery;
mod justify;
mod ledger;
mod published;
mod retry;
mod routing;

pub use accounts::{Accounts, Change, Lying};

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
    sync::Arc,
};

use waystation_base::{ConsumerId, EntityId, Message, Millis, Name, Offset, Position, Tag};
use waystation_broker::{
    Kind, PoolId, SessionId, Source,
    command::{Command, Hold},
    entry::Fault,
    place::{LogId, key_hash},
    spec::{Mode, Order, QueueSpec, SubscriptionSpec, TopicSpec, VhostLimits},
    view::Counters,
};

/// A message as it was stored.
#[derive(Clone, Debug)]
pub struct Stored {
    /// The number that its body begins with.
    pub number: u64,
    /// All of it.
    pub message: Message,
    /// Bytes of its body.
    pub bytes: u32,
}

impl Stored {
    /// The number of one that was not made by the simulation.
    pub const NO_NUMBER: u64 = u64::MAX;

    fn expired(&self, now: Millis) -> bool {
        self.message.expires_at.is_some_and(|at| at <= now)
    }

    /// The hash of its key; 0 if it has none.
    pub fn key_hash(&self) -> u64 {
        key_hash(self.message.key.as_deref())
    }
}

/// Where a message is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It waits for a consumer.
    Ready,
    /// It waits for its time.
    Waiting(Millis),
    /// It is in somebody's hands.
    Held { until: Millis, consumer: Option<ConsumerId> },
    /// It is on its way to the dead letters.
    Dying,
}

/// A message of a queue or subscription that is not done.
#[derive(Clone, Debug)]
pub struct Item {
    /// What it is.
    pub stored: Arc<Stored>,
    /// Where it is.
    pub state: State,
    /// How often it was handed out.
    pub attempts: u32,
    /// It has been in somebody's hands: it keeps its key until it is done.
    pub touched: bool,
    /// It came back with a pause at some time: in an ordered subscription it has its key until it is done.
    pub paused: bool,
    /// It came back with a delay: its place among others goes by time.
    pub ranked: bool,
    /// It was asked for in order to be dead-lettered.
    pub condemned: bool,
    /// Retention, compaction or a changed declaration allow it to go without being handed out.
    pub loose: bool,
    /// A subscription's filter passes over it.
    pub unwanted: bool,
    /// It was handed out in this run: the shard knows all of it.
    pub known: bool,
    /// What a consumer said of it last.
    pub fault: Option<Fault>,
    /// What its dead letter will tell.
    pub error: Option<String>,
}

impl Item {
    fn new(stored: Arc<Stored>, state: State) -> Item {
        Item {
            stored,
            state,
            attempts: 0,
            touched: false,
            paused: false,
            ranked: false,
            condemned: false,
            loose: false,
            unwanted: false,
            known: false,
            fault: None,
            error: None,
        }
    }

    fn is_available(&self, now: Millis) -> bool {
        let ready =
            matches!(self.state, State::Ready) || matches!(self.state, State::Waiting(due) if due <= now);
        ready && !self.condemned && !self.loose && !self.stored.expired(now)
    }

    fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    /// A consumer has it, or it is on its way to the dead letters.
    pub fn is_in_hands(&self) -> bool {
        self.is_held() || self.condemned || self.state == State::Dying
    }
}

/// Messages that one source has brought to a subscription since it began or was moved: each waits, is done, or went by retention.
#[derive(Clone, Copy, Debug, Default)]
pub struct Account {
    /// Published since.
    pub offered: u64,
    /// Done, by a consumer or a policy, or passed over by the filter.
    pub done: u64,
    /// Gone by retention before they were read.
    pub retired: u64,
}

/// How a queue or subscription is declared.
#[derive(Clone, Debug)]
pub enum Rules {
    /// A queue.
    Queue(QueueSpec),
    /// A subscription.
    Subscription(SubscriptionSpec),
}

/// A queue or subscription.
#[derive(Clone, Debug)]
pub struct Outlet {
    /// Its name.
    pub name: Name,
    /// How it is declared.
    pub rules: Rules,
    /// What is not done.
    pub items: BTreeMap<Tag, Item>,
    /// What is done, by a consumer or a policy.
    pub done: BTreeSet<Tag>,
    /// Subscriptions: which log has which number.
    pub sources: BTreeMap<u16, LogId>,
    /// Subscriptions: what became of what each source has brought since it began.
    pub accounts: BTreeMap<u16, Account>,
    /// Queues: the next offset of each log.
    pub next: BTreeMap<u16, u64>,
    /// Until when message ids are remembered.
    pub recent: BTreeMap<String, Millis>,
    /// What became of messages.
    pub counters: Counters,
    /// Its order was changed while messages were there.
    pub reordered: bool,
    /// So was what happens at its length limit.
    pub relimited: bool,
}

impl Outlet {
    fn kind(&self) -> Kind {
        match self.rules {
            Rules::Queue(_) => Kind::Queue,
            Rules::Subscription(_) => Kind::Subscription,
        }
    }

    /// The queue's declaration, if it is one.
    pub fn queue(&self) -> Option<&QueueSpec> {
        match &self.rules {
            Rules::Queue(spec) => Some(spec),
            Rules::Subscription(_) => None,
        }
    }

    fn by_key(&self) -> bool {
        self.queue().is_some_and(|spec| spec.order == Order::Key)
    }

    fn ordered(&self) -> bool {
        matches!(&self.rules, Rules::Subscription(spec) if spec.mode == Mode::Ordered)
    }

    /// Whose a message is, of a subscription that is fair to tenants.
    fn tenant(&self, item: &Item) -> u64 {
        let Rules::Subscription(spec) = &self.rules else { return 0 };
        let by = spec.fair.as_ref().and_then(|fair| fair.tenant_by());
        by.map_or(0, |by| by.of("", &item.stored.message))
    }

    /// Whether it says where dead letters go.
    fn buries(&self) -> bool {
        match &self.rules {
            Rules::Queue(spec) => spec.has_dead_letters(),
            Rules::Subscription(spec) => spec.dead_letter.is_some(),
        }
    }

    fn buries_by_route(&self) -> bool {
        self.queue().is_some_and(|spec| spec.dead_letter_route.is_some())
    }

    fn max_attempts(&self) -> Option<u32> {
        match &self.rules {
            Rules::Queue(spec) => spec.max_attempts,
            Rules::Subscription(spec) => spec.max_attempts,
        }
    }

    /// Items of one log in order of offset.
    fn of_log(&self, log: u16) -> impl Iterator<Item = (Tag, &Item)> {
        let range = Tag::new(log, Offset(0))..=Tag::new(log, Offset((1 << 48) - 1));
        self.items.range(range).map(|(tag, item)| (*tag, item))
    }
}

/// A topic.
#[derive(Clone, Debug)]
pub struct Topic {
    /// Its name.
    pub name: Name,
    /// How it is declared.
    pub spec: TopicSpec,
    /// What each partition keeps.
    pub logs: Vec<BTreeMap<u64, Arc<Stored>>>,
    /// The next offset of each partition.
    pub next: Vec<u64>,
    /// Messages stored.
    pub published: u64,
}

/// An attached consumer.
#[derive(Clone, Debug)]
pub struct Consumer {
    /// What it consumes.
    pub entity: EntityId,
    /// The same by name.
    pub source: Source,
    /// How many it may hold (or, without holding, be given).
    pub window: u32,
    /// With whom it shares its credit.
    pub pool: Option<PoolId>,
    /// How it holds.
    pub hold: Hold,
    /// Higher goes first.
    pub priority: i32,
    /// Whom it belongs to.
    pub session: SessionId,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// What it holds.
    pub held: BTreeSet<Tag>,
    /// Who came first has a lower one.
    pub order: u64,
}

impl Consumer {
    fn is_pull(&self) -> bool {
        matches!(self.hold, Hold::Pull { .. } | Hold::Once)
    }
}

/// A journal entry as it was written.
#[derive(Clone, Debug)]
pub struct Written {
    /// Where its payload begins.
    pub position: Position,
    /// When it was written.
    pub now: Millis,
    /// Its kind.
    pub kind: u8,
    /// Its payload.
    pub payload: Vec<u8>,
}

/// What made the shard write an entry.
#[derive(Clone, Copy, Debug)]
pub enum Cause<'a> {
    /// A command.
    Command(&'a Command),
    /// The time.
    Tick,
    /// Handing out.
    Flush,
    /// A restart.
    Recovery,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// Queues and subscriptions.
    pub outlets: BTreeMap<EntityId, Outlet>,
    /// Topics.
    pub topics: BTreeMap<EntityId, Topic>,
    /// What can be published to.
    pub addresses: BTreeMap<Name, EntityId>,
    /// Subscriptions by name.
    pub subscriptions: BTreeMap<Name, EntityId>,
    /// Who consumes.
    pub consumers: BTreeMap<ConsumerId, Consumer>,
    /// Exclusive queues of this run and whose they are.
    pub owners: BTreeMap<EntityId, SessionId>,
    /// Consumers that get nothing more and still hold something.
    pub retired: BTreeMap<ConsumerId, Consumer>,
    /// Pools of credit that are limited, and how many messages their consumers may hold together.
    pub pools: BTreeMap<PoolId, u32>,
    /// What the virtual host may have together in which all is.
    pub vhost: VhostLimits,
    /// Routes.
    pub routes: BTreeMap<EntityId, routing::Route>,
    /// Routes by name.
    pub route_names: BTreeMap<Name, EntityId>,
    /// Logs of which compaction left messages out.
    pub compacted: BTreeSet<LogId>,
    /// Documents.
    pub documents: BTreeMap<Name, Vec<u8>>,
    consumer_order: u64,
}

/// What outlives a crash: every message that a client made, and every entry that the journal kept.
#[derive(Clone, Debug, Default)]
pub struct Book {
    /// Messages by number, as their clients made them.
    pub sent: Vec<Message>,
    /// Entries in order.
    pub written: Vec<Written>,
    /// What compaction left out, with the position of the entry that says so.
    pub compacted: Vec<(Position, LogId, Offset)>,
    /// What was ever on its way to the dead letters: after a restart it may wait again, behind what had come back before.
    pub condemned: BTreeSet<(EntityId, Tag)>,
}

impl Book {
    /// What a message says of itself: its number among all that were sent.
    pub fn number(message: &Message) -> Option<u64> {
        message.body.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
    }
}

impl Ledger {
    /// The ledger of a book: what all its entries come to.
    pub fn of(book: &Book) -> Ledger {
        let mut ledger = Ledger::default();
        let mut compacted = book.compacted.iter().peekable();
        for written in &book.written {
            ledger.apply(written);
            while let Some((_, log, offset)) =
                compacted.next_if(|(position, ..)| *position <= written.position)
            {
                ledger.compact(*log, *offset);
            }
        }
        for outlet in ledger.outlets.values_mut() {
            outlet.items.values_mut().for_each(|item| item.known = false);
        }
        for (id, tag) in &book.condemned {
            if let Some(item) = ledger.outlets.get_mut(id).and_then(|outlet| outlet.items.get_mut(tag)) {
                item.ranked = true;
            }
        }
        ledger
    }

    /// The queue or subscription of a source.
    pub fn source(&self, source: &Source) -> Option<EntityId> {
        match source {
            Source::Queue(name) => {
                self.addresses.get(name).copied().filter(|id| self.outlets.contains_key(id))
            }
            Source::Subscription(name) => self.subscriptions.get(name).copied(),
        }
    }

    /// Compaction leaves a message out of a topic: subscriptions may see it or not.
    pub fn compact(&mut self, log: LogId, offset: Offset) {
        if let Some(topic) = self.topics.get_mut(&log.entity) {
            topic.logs[usize::from(log.log)].remove(&offset.0);
        }
        self.compacted.insert(log);
        self.loosen(log, offset.0);
    }

    fn loosen(&mut self, log: LogId, offset: u64) {
        for outlet in self.outlets.values_mut() {
            let numbers =
                outlet.sources.iter().filter(|(_, source)| **source == log).map(|(number, _)| *number);
            for number in numbers.collect::<Vec<_>>() {
                if let Some(item) = outlet.items.get_mut(&Tag::new(number, Offset(offset))) {
                    item.loose = true;
                }
            }
        }
    }

    /// Whether a log has offsets without a message: by compaction, or because its batches came so.
    pub fn has_gaps(&self, log: LogId) -> bool {
        let offsets = |topic: &Topic| topic.next.iter().sum::<u64>();
        let topic = self.topics.get(&log.entity);
        self.compacted.contains(&log) || topic.is_none_or(|topic| topic.published != offsets(topic))
    }

    /// How many messages wait in a queue or subscription. Of a subscription, what a filter passes over, or retention or compaction took,
    /// counts until it is met.
    pub fn waiting(&self, outlet: &Outlet) -> RangeInclusive<u64> {
        let all = outlet.items.len() as u64;
        if outlet.queue().is_some() {
            return all..=all;
        }
        let sure = outlet.items.values().filter(|item| !item.loose).count() as u64;
        sure..=if outlet.sources.values().any(|log| self.has_gaps(*log)) { u64::MAX } else { all }
    }

    /// Nobody is attached any more: the process is a new one.
    pub fn forget_run(&mut self) {
        self.consumers.clear();
        self.pools.clear();
        self.vhost = VhostLimits::default();
        self.retired.clear();
        self.owners.clear();
    }
}
