//! What a queue, topic, subscription or route is declared to be. These are the words of the topology file and of the HTTP API.

pub mod business;
mod laid;
pub mod path;
pub mod quality;
pub mod retry;
mod route;

use serde::{Deserialize, Serialize};
use waystation_base::{
    Name,
    filter::{self, Filter},
    limits::{DELAY_MS_MAX, LEASE_MS_MAX, PARTITIONS_MAX, ROUTING_KEY_BYTES_MAX},
    name,
};

pub use business::{BusinessKeys, KeyFrom};
pub use laid::BEFORE;
pub use quality::{Fair, MessageRate, VhostLimits};
pub use retry::RetryPolicy;
pub use route::{Arguments, RouteKind, RouteSpec, check_arguments};

/// A declaration of any kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Spec {
    /// Work that leaves when it is acknowledged.
    Queue(QueueSpec),
    /// A partitioned log with retention.
    Topic(TopicSpec),
    /// A named position on one or more topics.
    Subscription(SubscriptionSpec),
    /// Published to, stores nothing, hands on by its bindings.
    Route(RouteSpec),
}

impl Spec {
    /// The business keys that it declares.
    pub fn business(&self) -> Option<&BusinessKeys> {
        match self {
            Spec::Queue(spec) => spec.business.as_deref(),
            Spec::Topic(spec) => spec.business.as_deref(),
            Spec::Route(spec) => spec.business.as_deref(),
            Spec::Subscription(_) => None,
        }
    }
}

/// What a publish meets when a queue is at its length limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Overflow {
    /// The publish is refused; try again later.
    #[default]
    RejectPublish,
    /// The oldest messages are dropped, and counted.
    DropHead,
    /// The oldest messages go to the dead-letter address.
    DeadLetterHead,
    /// The publish is refused, and its messages go to the dead-letter address.
    DeadLetterPublish,
}

impl Overflow {
    /// Whether a full queue refuses what comes; else older messages make room.
    pub fn refuses(self) -> bool {
        matches!(self, Overflow::RejectPublish | Overflow::DeadLetterPublish)
    }
}

/// In which order a queue's messages are handed out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// First in, first out; several consumers may work on neighbours at once.
    #[default]
    Fifo,
    /// Besides, messages with the same key are worked on one after the other.
    Key,
}

/// A queue. All fields have defaults; an unknown one is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct QueueSpec {
    /// Most messages that may wait; those that consumers hold do not count; 0: only what a consumer is ready for; none: no limit.
    pub max_messages: Option<u64>,
    /// Most bytes of their bodies together, as RabbitMQ counts them; none: no limit.
    pub max_bytes: Option<u64>,
    /// What happens at the limit.
    pub overflow: Overflow,
    /// Milliseconds after which a message expires unread (0: at once, unless a consumer is ready for it); a message's own earlier expiry wins.
    pub ttl_ms: Option<u64>,
    /// The queue or topic for rejected, expired and exhausted messages; none: they are dropped, and counted.
    pub dead_letter: Option<String>,
    /// Instead of a queue or topic: the route for them; empty: the queues and topics that the routing keys name. What is not
    /// there drops them, and they are counted.
    pub dead_letter_route: Option<String>,
    /// The routing key with which they go there; none: the keys that the message was published with.
    pub dead_letter_key: Option<String>,
    /// Deliveries after which a message that comes back is dead-lettered; none: no limit.
    pub max_attempts: Option<u32>,
    /// When a message that failed is tried again, and when that is given up; none: at once.
    pub retry: Option<Box<RetryPolicy>>,
    /// How fast messages are handed out; none: as fast as they are taken.
    pub rate: Option<MessageRate>,
    /// Messages that consumers may hold together; none: no limit.
    pub concurrency: Option<u32>,
    /// To whom handing out is fair; none: first in, first out.
    pub fair: Option<Box<Fair>>,
    /// Milliseconds for which a pulled message belongs to its consumer, unless the pull names its own.
    pub lease_ms: u64,
    /// The order of delivery.
    pub order: Order,
    /// Milliseconds within which a second message with the same `message-id` is not stored; none: no deduplication.
    pub deduplication_ms: Option<u64>,
    /// One consumer at a time gets messages; the next takes over when it leaves.
    pub single_active_consumer: bool,
    /// Messages of a higher priority are handed out as if they had this one; 0: first in, first out.
    pub max_priority: u8,
    /// Whether it is there after a restart, with its messages.
    pub durable: bool,
    /// Only the session that declared it may use it; it goes with that session.
    pub exclusive: bool,
    /// It goes when its last consumer has left.
    pub auto_delete: bool,
    /// Milliseconds without consumer, pull or declaration after which it goes; none: never.
    pub idle_expiry_ms: Option<u64>,
    /// Business keys by their names: what messages are found by, each as `{"header": NAME}` or `{"jq": PATH}`.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub business: Option<Box<BusinessKeys>>,
    /// What the declaring door was given; kept, not interpreted.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub arguments: Arguments,
}

impl Default for QueueSpec {
    fn default() -> QueueSpec {
        QueueSpec {
            max_messages: None,
            max_bytes: None,
            overflow: Overflow::default(),
            ttl_ms: None,
            dead_letter: None,
            dead_letter_route: None,
            dead_letter_key: None,
            max_attempts: None,
            retry: None,
            rate: None,
            concurrency: None,
            fair: None,
            lease_ms: 30_000,
            order: Order::default(),
            deduplication_ms: None,
            single_active_consumer: false,
            max_priority: u8::MAX,
            durable: true,
            exclusive: false,
            auto_delete: false,
            idle_expiry_ms: None,
            business: None,
            arguments: Arguments::new(),
        }
    }
}

/// A topic. All fields have defaults; an unknown one is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default, deny_unknown_fields)]
pub struct TopicSpec {
    /// Logs that the topic is divided into; messages with a key go by the key, others in turn. It may grow, not shrink.
    pub partitions: u32,
    /// Milliseconds after which messages go; none: kept.
    pub retention_ms: Option<u64>,
    /// Bytes of each partition past which the oldest messages go; none: no limit.
    pub retention_bytes: Option<u64>,
    /// Of messages with the same key only the latest need be kept.
    pub compact: bool,
    /// Milliseconds for which a message without body (a deletion) is kept on a compacted topic.
    pub tombstone_retention_ms: u64,
    /// Business keys by their names: what messages are found by, each as `{"header": NAME}` or `{"jq": PATH}`.
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub business: Option<Box<BusinessKeys>>,
    /// What the declaring door was given; kept, not interpreted.
    #[cfg_attr(feature = "openapi", schema(value_type = Object))]
    pub arguments: Arguments,
}

impl Default for TopicSpec {
    fn default() -> TopicSpec {
        TopicSpec {
            partitions: 1,
            retention_ms: None,
            retention_bytes: None,
            compact: false,
            tombstone_retention_ms: 24 * 60 * 60 * 1000,
            business: None,
            arguments: Arguments::new(),
        }
    }
}

/// How a subscription's messages are shared out among its consumers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Any message to any consumer, acknowledged one by one.
    #[default]
    Competing,
    /// Each partition in order to one consumer at a time.
    Ordered,
}

/// Where a new subscription begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum Start {
    /// With what is published from now on.
    #[default]
    Latest,
    /// With the oldest message still kept.
    Earliest,
    /// With this offset of every partition.
    Offset(u64),
    /// With the first message at or after this time (milliseconds since 1970).
    Time(u64),
}

/// A subscription. `topic` is required; an unknown field is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(deny_unknown_fields)]
pub struct SubscriptionSpec {
    /// A topic's name, or a pattern of names (`*` one word, `#` any number of words, words parted by dots).
    pub topic: String,
    /// How messages are shared out.
    #[serde(default)]
    pub mode: Mode,
    /// Only messages for which this holds; others count as acknowledged.
    #[serde(default)]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<Object>))]
    pub filter: Option<Filter>,
    /// Where it begins; a topic that comes to match a pattern later is read from its beginning.
    #[serde(default)]
    pub start: Start,
    /// It goes when its last consumer has left.
    #[serde(default)]
    pub temporary: bool,
    /// Milliseconds without consumer or pull after which it goes, with a warning at nine tenths; none: never.
    #[serde(default)]
    pub idle_expiry_ms: Option<u64>,
    /// Milliseconds for which a pulled message belongs to its consumer, unless the pull names its own.
    #[serde(default = "lease_default")]
    pub lease_ms: u64,
    /// The queue or topic for rejected and exhausted messages; none: they are dropped, and counted.
    #[serde(default)]
    pub dead_letter: Option<String>,
    /// Deliveries after which a message that comes back is dead-lettered; none: no limit.
    #[serde(default)]
    pub max_attempts: Option<u32>,
    /// When a message that failed is tried again, and when that is given up; none: at once.
    #[serde(default)]
    pub retry: Option<Box<RetryPolicy>>,
    /// How fast messages are handed out; none: as fast as they are taken.
    #[serde(default)]
    pub rate: Option<MessageRate>,
    /// Messages that consumers may hold together; none: no limit.
    #[serde(default)]
    pub concurrency: Option<u32>,
    /// To whom handing out is fair, with the mode `competing`; none: in the order of each partition.
    #[serde(default)]
    pub fair: Option<Box<Fair>>,
}

fn lease_default() -> u64 {
    QueueSpec::default().lease_ms
}

impl SubscriptionSpec {
    /// A subscription to a topic or pattern, with defaults for all else.
    pub fn new(topic: impl Into<String>) -> SubscriptionSpec {
        SubscriptionSpec {
            topic: topic.into(),
            mode: Mode::default(),
            filter: None,
            start: Start::default(),
            temporary: false,
            idle_expiry_ms: None,
            lease_ms: lease_default(),
            dead_letter: None,
            max_attempts: None,
            retry: None,
            rate: None,
            concurrency: None,
            fair: None,
        }
    }
}

/// Which field of a declaration is wrong, and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("field '{field}': {reason}")]
pub struct Error {
    /// The field's name.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

fn error(field: &'static str, reason: impl ToString) -> Error {
    Error { field, reason: reason.to_string() }
}

fn check_range(field: &'static str, value: Option<u64>, min: u64, max: u64) -> Result<(), Error> {
    match value {
        Some(value) if !(min..=max).contains(&value) => {
            Err(error(field, format!("must lie between {min} and {max}, is {value}")))
        }
        _ => Ok(()),
    }
}

fn check_address(field: &'static str, address: Option<&str>) -> Result<(), Error> {
    address.map(Name::new).transpose().map(|_| ()).map_err(|reason| error(field, reason))
}

impl Spec {
    /// Checks each field against its limits.
    pub fn check(&self) -> Result<(), Error> {
        match self {
            Spec::Queue(spec) => spec.check(),
            Spec::Topic(spec) => spec.check(),
            Spec::Subscription(spec) => spec.check(),
            Spec::Route(spec) => spec.check(),
        }
    }

    /// The kind in one word.
    pub fn kind(&self) -> crate::Kind {
        match self {
            Spec::Queue(_) => crate::Kind::Queue,
            Spec::Topic(_) => crate::Kind::Topic,
            Spec::Subscription(_) => crate::Kind::Subscription,
            Spec::Route(_) => crate::Kind::Route,
        }
    }
}

impl QueueSpec {
    /// Checks each field against its limits.
    pub fn check(&self) -> Result<(), Error> {
        check_range("ttl_ms", self.ttl_ms, 0, DELAY_MS_MAX)?;
        check_range("max_attempts", self.max_attempts.map(u64::from), 1, u32::MAX.into())?;
        self.retry.as_ref().map_or(Ok(()), |retry| retry.check())?;
        self.rate.as_ref().map_or(Ok(()), MessageRate::check)?;
        quality::check_concurrency("concurrency", self.concurrency)?;
        self.fair.as_deref().map_or(Ok(()), Fair::check)?;
        if self.fair.as_ref().is_some_and(|fair| fair.virtual_host) {
            let why = "a queue belongs to one virtual host, and is in no other's way: name a header";
            return Err(error("fair.virtual_host", why));
        }
        check_range("lease_ms", Some(self.lease_ms), 1, LEASE_MS_MAX)?;
        check_range("deduplication_ms", self.deduplication_ms, 1, DELAY_MS_MAX)?;
        check_range("idle_expiry_ms", self.idle_expiry_ms, 1, DELAY_MS_MAX)?;
        check_address("dead_letter", self.dead_letter.as_deref())?;
        check_address(
            "dead_letter_route",
            self.dead_letter_route.as_deref().filter(|name| !name.is_empty()),
        )?;
        if self.dead_letter.is_some() && self.dead_letter_route.is_some() {
            return Err(error("dead_letter_route", "cannot be had together with dead_letter"));
        }
        check_range(
            "dead_letter_key",
            self.dead_letter_key.as_ref().map(|key| key.len() as u64),
            0,
            ROUTING_KEY_BYTES_MAX as u64,
        )?;
        let buries = matches!(self.overflow, Overflow::DeadLetterHead | Overflow::DeadLetterPublish);
        if buries && !self.has_dead_letters() {
            return Err(error("overflow", "this one needs a dead_letter address or dead_letter_route"));
        }
        if self.overflow != Overflow::RejectPublish && self.max_messages.is_none() && self.max_bytes.is_none()
        {
            return Err(error("overflow", "has no meaning without max_messages or max_bytes"));
        }
        business::check(self.business.as_deref())?;
        check_arguments(&self.arguments)
    }

    /// Whether it says where dead letters go.
    pub fn has_dead_letters(&self) -> bool {
        self.dead_letter.is_some() || self.dead_letter_route.is_some()
    }
}

impl TopicSpec {
    /// Checks each field against its limits.
    pub fn check(&self) -> Result<(), Error> {
        check_range("partitions", Some(self.partitions.into()), 1, PARTITIONS_MAX.into())?;
        check_range("retention_ms", self.retention_ms, 1, DELAY_MS_MAX)?;
        check_range("retention_bytes", self.retention_bytes, 1, u64::MAX)?;
        check_range("tombstone_retention_ms", Some(self.tombstone_retention_ms), 0, DELAY_MS_MAX)?;
        business::check(self.business.as_deref())?;
        check_arguments(&self.arguments)
    }
}

impl SubscriptionSpec {
    /// Checks each field against its limits.
    pub fn check(&self) -> Result<(), Error> {
        if name::is_pattern(&self.topic) {
            let words = self.topic.split('.').filter(|word| !matches!(*word, "*" | "#"));
            words.map(Name::new).collect::<Result<Vec<_>, _>>().map_err(|reason| error("topic", reason))?;
        } else if !name::TOLD.contains(&self.topic.as_str()) {
            check_address("topic", Some(&self.topic))?;
        }
        check_range("idle_expiry_ms", self.idle_expiry_ms, 1, DELAY_MS_MAX)?;
        check_range("lease_ms", Some(self.lease_ms), 1, LEASE_MS_MAX)?;
        check_range("max_attempts", self.max_attempts.map(u64::from), 1, u32::MAX.into())?;
        self.retry.as_ref().map_or(Ok(()), |retry| retry.check())?;
        self.rate.as_ref().map_or(Ok(()), MessageRate::check)?;
        quality::check_concurrency("concurrency", self.concurrency)?;
        self.fair.as_deref().map_or(Ok(()), Fair::check)?;
        if self.fair.is_some() && self.mode == Mode::Ordered {
            return Err(error(
                "fair",
                "tenants cannot take turns in a partition that is handed out in order",
            ));
        }
        check_address("dead_letter", self.dead_letter.as_deref())?;
        self.filter
            .as_ref()
            .map_or(Ok(()), Filter::check)
            .map_err(|reason: filter::Error| error("filter", reason))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spec: Spec, field: Option<&str>) {
        assert_eq!(spec.check().map_err(|error| error.field).err(), field, "{spec:?}");
    }

    #[test]
    fn each_field_is_checked_at_its_bound_and_past_it() {
        let queue = |change: fn(&mut QueueSpec)| {
            let mut spec = QueueSpec::default();
            change(&mut spec);
            Spec::Queue(spec)
        };
        check(queue(|_| ()), None);
        check(queue(|s| (s.max_messages, s.max_bytes, s.ttl_ms) = (Some(0), Some(0), Some(0))), None);
        check(queue(|s| s.lease_ms = LEASE_MS_MAX), None);
        check(queue(|s| s.lease_ms = LEASE_MS_MAX + 1), Some("lease_ms"));
        check(queue(|s| s.ttl_ms = Some(DELAY_MS_MAX)), None);
        check(queue(|s| s.ttl_ms = Some(DELAY_MS_MAX + 1)), Some("ttl_ms"));
        check(queue(|s| s.dead_letter = Some("a b".into())), Some("dead_letter"));
        check(queue(|s| s.overflow = Overflow::DropHead), Some("overflow"));
        let topic = |partitions| Spec::Topic(TopicSpec { partitions, ..TopicSpec::default() });
        check(topic(PARTITIONS_MAX), None);
        check(topic(PARTITIONS_MAX + 1), Some("partitions"));
        check(topic(0), Some("partitions"));
        let subscription = |topic: &str| Spec::Subscription(SubscriptionSpec::new(topic));
        check(subscription("orders.*.#"), None);
        check(subscription("orders.*.ä"), Some("topic"));
        check(subscription(""), Some("topic"));
    }

    #[test]
    fn an_unknown_field_is_an_error() {
        let error = serde_json::from_str::<QueueSpec>(r#"{"max_mesages": 5}"#).expect_err("unknown");
        assert!(error.to_string().contains("max_mesages"), "{error}");
    }
}
