//! What can be seen of queues, topics, subscriptions, routes and bindings.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use waystation_base::{ConsumerId, Millis, Name};

use crate::{
    SessionId,
    command::Destination,
    spec::{Arguments, QueueSpec, RouteSpec, SubscriptionSpec, TopicSpec, VhostLimits},
};

/// Messages since the thing was declared, by what became of them. Counted in the journal: a restart does not reset them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Counters {
    /// Stored.
    pub published: u64,
    /// Not stored because one with their `message-id` was.
    pub duplicates: u64,
    /// Handed to consumers, each attempt counted.
    pub delivered: u64,
    /// Handed out again after an earlier attempt.
    pub redelivered: u64,
    /// Accepted by a consumer.
    pub acknowledged: u64,
    /// Moved to the dead-letter address.
    pub dead_lettered: u64,
    /// Gone by expiry, without dead-letter address.
    pub expired: u64,
    /// Gone by rejection or too many attempts, without dead-letter address.
    pub rejected: u64,
    /// Gone by the length limit, without dead-letter address.
    pub dropped: u64,
    /// Gone by purge.
    pub purged: u64,
    /// Moved elsewhere by an operator, as by a redrive, without being handed out.
    pub withdrawn: u64,
    /// Subscriptions: passed over by the filter. Never handed out.
    pub filtered: u64,
    /// Gone by retention; subscriptions: before they were read.
    pub retired: u64,
}

/// Upper bounds of [`Waits`]' buckets in milliseconds; the last bucket has none.
pub const WAIT_BOUNDS_MS: [u64; 13] =
    [1, 5, 10, 25, 50, 100, 250, 1_000, 5_000, 30_000, 300_000, 3_600_000, 86_400_000];

/// How long messages waited until they were handed out for the first time, since the server started: from when they were stored, or
/// from when they were due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waits {
    /// Messages in each bucket: up to its bound, and above the one before.
    pub buckets: [u64; WAIT_BOUNDS_MS.len() + 1],
    /// Milliseconds together.
    pub sum_ms: u64,
}

impl Waits {
    /// Notes one message.
    pub(crate) fn note(&mut self, wait_ms: u64) {
        self.buckets[Waits::bucket(wait_ms)] += 1;
        self.sum_ms = self.sum_ms.saturating_add(wait_ms);
    }

    /// In which bucket such a wait is.
    pub fn bucket(wait_ms: u64) -> usize {
        WAIT_BOUNDS_MS.iter().position(|bound| wait_ms <= *bound).unwrap_or(WAIT_BOUNDS_MS.len())
    }

    /// Messages.
    pub fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// What keeps messages that stand ready from being handed out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum HeldBack {
    /// Nobody consumes.
    NoConsumer,
    /// Every consumer holds as many as he may, or has paused.
    Credit,
    /// The rate is used up for now.
    Rate,
    /// As many messages as may be are held already.
    Concurrency,
    /// The rate of a tenant is used up for now.
    TenantRate,
    /// A tenant has as many messages held as may be.
    TenantConcurrency,
    /// An earlier message of their key is held, or is tried again.
    Key,
    /// The rate of the virtual host is used up for now.
    VhostRate,
    /// As many messages of the virtual host are held as may be, or others of it come first.
    VhostConcurrency,
}

/// A virtual host that has limits, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VhostInfo {
    /// Its name.
    pub name: String,
    /// They.
    pub limits: VhostLimits,
    /// Queues and topics in it.
    pub queues: u64,
    /// Messages that consumers hold.
    pub held: u64,
    /// Why no more can be handed out now.
    pub held_back: Option<HeldBack>,
}

/// A queue as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct QueueInfo {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: Name,
    /// How it is declared.
    pub spec: QueueSpec,
    /// What policies make of it, where they do: a door that tells the two apart fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Box<QueueSpec>>,
    /// Messages that wait for a consumer.
    pub ready: u64,
    /// Messages that consumers hold.
    pub in_flight: u64,
    /// Messages that wait for their time.
    pub delayed: u64,
    /// Bytes of the bodies of all of them.
    pub bytes: u64,
    /// Attached consumers and waiting pulls.
    pub consumers: u64,
    /// Why messages that stand ready are not handed out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_back: Vec<HeldBack>,
    /// The limit for which it refuses what is published, while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub full: Option<String>,
    /// When the oldest message that waits or is held was published; none if there is none.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<u64>))]
    pub oldest: Option<Millis>,
    /// What became of messages so far.
    pub counters: Counters,
    /// The session that it belongs to, if it is exclusive.
    #[serde(skip)]
    pub owner: Option<SessionId>,
    /// The consumer that gets its messages, if only one at a time does.
    #[serde(skip)]
    pub active: Option<ConsumerId>,
}

/// A route as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RouteInfo {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: Name,
    /// How it is declared.
    pub spec: RouteSpec,
    /// What policies make of it, where they do: a door that tells the two apart fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Box<RouteSpec>>,
    /// Bindings by which it hands on.
    pub bindings: u64,
    /// Messages published to it since the server started.
    pub published: u64,
    /// Those of them that nothing took, since the server started.
    pub unrouted: u64,
}

/// A binding: what a route hands on to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binding {
    /// The route that hands on.
    pub route: Name,
    /// What it hands on to.
    pub to: Destination,
    /// What the route's kind makes of it.
    pub key: SmolStr,
    /// For a route by headers: what they must be.
    pub arguments: Arguments,
}

/// Which bindings to see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BindingFilter {
    /// All of them.
    All,
    /// Those by which this route hands on.
    Of(Name),
    /// Those that lead to this.
    To(Destination),
}

/// A topic as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct TopicInfo {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: Name,
    /// How it is declared.
    pub spec: TopicSpec,
    /// What policies make of it, where they do: a door that tells the two apart fills it in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effective: Option<Box<TopicSpec>>,
    /// Its partitions, from 0.
    pub partitions: Vec<PartitionInfo>,
    /// Names of subscriptions that read it.
    #[cfg_attr(feature = "openapi", schema(value_type = Vec<String>))]
    pub subscriptions: Vec<Name>,
    /// What became of messages so far.
    pub counters: Counters,
}

/// One partition of a topic.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PartitionInfo {
    /// The oldest offset still kept.
    pub start_offset: u64,
    /// The offset that the next message will have.
    pub end_offset: u64,
    /// Bytes kept.
    pub bytes: u64,
}

/// A subscription as it is now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SubscriptionInfo {
    /// Its name.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub name: Name,
    /// How it is declared.
    pub spec: SubscriptionSpec,
    /// The partitions that it reads.
    pub sources: Vec<SourceInfo>,
    /// Messages published that it has not acknowledged, without those in flight or that wait for a retry.
    pub lag: u64,
    /// Milliseconds since the oldest of them was published.
    pub lag_ms: u64,
    /// Messages that consumers hold.
    pub in_flight: u64,
    /// Messages that wait for a retry.
    pub delayed: u64,
    /// Attached consumers and waiting pulls.
    pub consumers: u64,
    /// Why messages that it has not acknowledged are not handed out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_back: Vec<HeldBack>,
    /// What became of messages so far.
    pub counters: Counters,
}

/// One partition that a subscription reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SourceInfo {
    /// The topic.
    #[cfg_attr(feature = "openapi", schema(value_type = String))]
    pub topic: Name,
    /// The partition.
    pub partition: u32,
    /// Everything below this offset is acknowledged.
    pub position: u64,
    /// The offset that the next message will have.
    pub end_offset: u64,
}
