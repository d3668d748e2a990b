//! What can be asked of a shard.

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use smallvec::SmallVec;
use smol_str::SmolStr;
use waystation_base::{Attempt, ClientId, ConsumerId, Message, Millis, Name, Offset, Tag};

use crate::{
    Kind, PoolId, SessionId, Source,
    place::Loaded,
    settle,
    spec::{Arguments, Spec, VhostLimits},
};

/// Ties a reply to its command; given by the caller, unique while the command is under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestId(pub u64);

/// A change to the shard's state, or a step on the way to one.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "declarations are rare, and none is kept in this form")]
pub enum Command {
    /// Makes a queue, topic or subscription, or checks that it is there as described.
    Declare(Declare),
    /// Removes a queue, topic or subscription with what it holds.
    Delete(Delete),
    /// Drops every message of a queue that is not being worked on.
    Purge(Name),
    /// Publishes and settles in one journal entry: all of it or nothing.
    Transact(Transaction),
    /// Publishes one after the other, each for itself: one that is refused does not keep the others from being stored. All of
    /// them go into one commit group.
    PublishEach(Vec<Publish>),
    /// Lets a route hand on to a queue, topic or route.
    Bind(Bind),
    /// Takes a binding away.
    Unbind(Bind),
    /// Writes or deletes a small named document of a door: opaque, durable, held in memory.
    Document {
        /// Its name.
        name: Name,
        /// What it says; none deletes it.
        body: Option<Bytes>,
    },
    /// Begins to consume.
    Attach(Attach),
    /// Sets how many more messages a consumer may be given.
    Credit(ConsumerId, u32),
    /// Sets how many messages the consumers of a pool may hold together; nothing: no limit, and the pool is forgotten.
    Pool(PoolId, Option<u32>),
    /// Sets what a virtual host may have together; kept in memory alone, to be said again after a restart. No limits: nothing is
    /// counted there any more.
    LimitVhost {
        /// The virtual host.
        host: String,
        /// All its limits.
        limits: VhostLimits,
    },
    /// Ends consuming; what it held comes back.
    Detach(ConsumerId),
    /// The same for a consumer that met a message which cannot be read: what would go with its last consumer stays until
    /// another consumer has come and left, because the messages are still there.
    Strand(ConsumerId),
    /// Ends consuming; what it holds stays held until it is settled or its session closes.
    Cancel(ConsumerId),
    /// Ends all that belongs to a session.
    CloseSession(SessionId),
    /// Prolongs leases.
    Extend(Extend),
    /// Moves a subscription to another place.
    Seek(Seek),
    /// What [`crate::Effect::Load`] asked for.
    Loaded(Loaded),
    /// Messages have moved from the journal, or from other settled files, to a settled file.
    Settled(settle::Outcome),
}

/// See [`Command::Declare`].
#[derive(Clone, Debug)]
pub struct Declare {
    /// Its name.
    pub name: Name,
    /// What it shall be.
    pub spec: Spec,
    /// If it is there already and differs: change it, or else refuse.
    pub change: bool,
    /// Who declares; owns an exclusive queue.
    pub session: SessionId,
}

/// See [`Command::Delete`].
#[derive(Clone, Debug)]
pub struct Delete {
    /// What.
    pub kind: Kind,
    /// By that name.
    pub name: Name,
    /// Only without consumers (a topic: without subscriptions).
    pub if_unused: bool,
    /// Only without messages.
    pub if_empty: bool,
    /// Which messages count, for that and in the answer.
    pub counted: Counted,
    /// Who asks.
    pub session: SessionId,
}

/// Which messages count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counted {
    /// All, those too that somebody holds or that wait for their time.
    #[default]
    All,
    /// Those that stand ready.
    Ready,
}

/// See [`Command::Transact`].
#[derive(Clone, Debug, Default)]
pub struct Transaction {
    /// What to publish, in order.
    pub publishes: Vec<Publish>,
    /// What to settle. One that is not held refuses the whole transaction.
    pub settlements: Vec<Settle>,
}

/// Messages for one address, or for a route.
#[derive(Clone, Debug)]
pub struct Publish {
    /// Where they go.
    pub to: Target,
    /// The partition of a topic; none: by key, or in turn.
    pub partition: Option<u32>,
    /// What to store.
    pub payload: Payload,
}

/// Where a publish goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A queue or topic.
    Address(Name),
    /// Wherever a route hands it on.
    Route {
        /// The route.
        route: Name,
        /// The routing key, and further ones. No key counts as an empty one.
        keys: Keys,
        /// Its sender hears of it if nothing takes it.
        told: bool,
    },
    /// A queue or topic by a key that may be nobody's: then nothing takes it, which is no error.
    Key {
        /// What the queue or topic would be called.
        key: Name,
        /// Its sender hears of it if nothing takes it.
        told: bool,
    },
}

impl Target {
    /// Whether its sender hears of a message that nothing takes.
    pub fn is_told(&self) -> bool {
        matches!(self, Target::Route { told: true, .. } | Target::Key { told: true, .. })
    }
}

/// Routing keys: mostly one.
pub type Keys = SmallVec<[SmolStr; 1]>;

impl From<Name> for Target {
    fn from(address: Name) -> Target {
        Target::Address(address)
    }
}

/// See [`Command::Bind`]. Two bindings are the same when all of this is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bind {
    /// The route that hands on.
    pub route: Name,
    /// What it hands on to.
    pub to: Destination,
    /// What the route's kind makes of it.
    pub key: SmolStr,
    /// For a route by headers: what they must be.
    pub arguments: Arguments,
}

/// What a route hands on to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// A queue or topic.
    Address(Name),
    /// Another route.
    Route(Name),
}

impl Destination {
    /// Its name.
    pub fn name(&self) -> &Name {
        let (Destination::Address(name) | Destination::Route(name)) = self;
        name
    }
}

/// Messages as the door has them.
#[derive(Clone, Debug)]
pub enum Payload {
    /// One, without a list around it.
    One(Message),
    /// One by one.
    Messages(Vec<Message>),
    /// An uncompressed record batch of a producer that speaks the format, checked by the door; stored as it is.
    Batch(Bytes),
}

/// Outcomes for messages of one queue or subscription.
#[derive(Clone, Debug)]
pub struct Settle {
    /// Where the messages are.
    pub source: Source,
    /// Which, and how it went.
    pub settlements: Vec<Settlement>,
}

/// One message's outcome.
#[derive(Clone, Debug)]
pub struct Settlement {
    /// The message.
    pub tag: Tag,
    /// The attempt under which it was handed out; another one since makes this refused. Of one that is withdrawn: how often it
    /// was handed out so far.
    pub attempt: Attempt,
    /// How it went.
    pub outcome: Outcome,
}

/// How work on a message went (the words are AMQP 1.0's, §3.4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Done: the message leaves.
    Accepted,
    /// Never again: to the dead-letter address, with the consumer's error text if it gave one.
    Rejected {
        /// Why, in the consumer's words.
        error: Option<String>,
        /// Which kind of error that is.
        class: Option<String>,
    },
    /// Failed: again later, if the source's retry policy does not say otherwise; the attempt counts.
    Requeued {
        /// Milliseconds to wait before, whatever the policy's pause is.
        delay_ms: u64,
    },
    /// Failed: the source's retry policy says when it is tried again, and whether. The attempt counts.
    Failed(Failure),
    /// Whoever held it is gone: again at once, unless the retry policy says otherwise. The attempt counts: the message may be why.
    Lost,
    /// Not tried: again, and the attempt does not count.
    Released,
    /// Nobody holds it: it waits in a queue, or came back to a subscription by its own topic, handed out as often as the settlement's attempt says, and leaves without being
    /// handed out, because the same transaction puts it elsewhere. Refused if anything has become of it since.
    Withdrawn {
        /// Bytes of its body, as whoever looked at it found.
        body_bytes: u32,
    },
}

/// A failed attempt, as its consumer tells it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Failure {
    /// Why, in the consumer's words: kept for the dead letter that the message may become.
    pub error: Option<String>,
    /// Which kind of error that is: the retry policy may have its own words for it.
    pub class: Option<String>,
    /// Milliseconds to wait, instead of the policy's pause.
    pub delay_ms: Option<u64>,
}

/// See [`Command::Attach`].
#[derive(Clone, Debug)]
pub struct Attach {
    /// The new consumer's id; never used before in this run.
    pub consumer: ConsumerId,
    /// What to consume.
    pub source: Source,
    /// How many messages it may be given at first.
    pub credit: u32,
    /// With whom it shares its credit, if that pool has a limit: see [`Command::Pool`]. Who holds nothing is not counted, and
    /// waits for room all the same; a pull shares nothing.
    pub pool: Option<PoolId>,
    /// How it holds messages.
    pub hold: Hold,
    /// Higher goes first; equal ones take turns.
    pub priority: i32,
    /// Nobody else may consume.
    pub exclusive: bool,
    /// Whom it belongs to.
    pub session: SessionId,
    /// Who it is, for the journal; see [`crate::entry::Client`].
    pub client: ClientId,
}

/// For how long a consumer holds what it was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hold {
    /// As long as it is attached.
    Attached,
    /// For so many milliseconds each (none: the source's own `lease_ms`); the consumer is a single pull that ends with its
    /// first delivery or at `until`.
    Pull {
        /// Milliseconds of lease.
        lease_ms: Option<u64>,
        /// When to give up.
        until: Millis,
    },
    /// One message at once, or the consumer ends without any; it is held until it is settled or its session closes.
    Once,
    /// Delivered counts as accepted.
    None,
}

/// See [`Command::Extend`].
#[derive(Clone, Debug)]
pub struct Extend {
    /// Where the messages are.
    pub source: Source,
    /// Which, each with the attempt under which it is held.
    pub held: Vec<(Tag, Attempt)>,
    /// Milliseconds from now.
    pub lease_ms: u64,
}

/// See [`Command::Seek`].
#[derive(Clone, Debug)]
pub struct Seek {
    /// The subscription.
    pub subscription: Name,
    /// Where to go on: the offset for each of these topic partitions (topic, partition, next offset).
    pub to: Vec<(Name, u32, Offset)>,
}
