//! What is said of users, permissions, virtual hosts and policies?

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use utoipa::ToSchema;
use waystation_broker::{spec::VhostLimits, view::HeldBack};

use crate::wire::json::Object;

/// What a user shall be. Its password, or a hash of it, or neither: then only a certificate lets it in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UserSpec {
    /// The password; only a hash of it is kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
    /// Instead of the password: a hash of it, as a RabbitMQ's definitions hold it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// How that was made: `rabbit_password_hashing_sha256` (which it is unless said), `…_sha512` or `argon2id`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hashing_algorithm: Option<String>,
    /// `administrator`, `monitoring`, `policymaker`, `management`, `impersonator`; others mean nothing.
    pub tags: Vec<String>,
    /// How much it may have open at a time; not given: what it may now, and a new one as much as it likes.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "some_object")]
    pub limits: Option<UserLimits>,
}

/// How much a user may have open at a time, over all virtual hosts and the doors whose connections last; none: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UserLimits {
    /// Connections.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_connections: Option<u32>,
    /// Channels on all of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_channels: Option<u32>,
}

impl UserLimits {
    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == UserLimits::default()
    }
}

/// What of a user's limits shall change; what is not given stays, and null takes a limit away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UserLimitsChange {
    /// Connections.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub max_connections: Option<Option<u32>>,
    /// Channels on all of them.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[schema(value_type = Option<u32>)]
    pub max_channels: Option<Option<u32>>,
}

impl From<UserLimits> for UserLimitsChange {
    /// Whatever they are, they become these.
    fn from(all: UserLimits) -> UserLimitsChange {
        UserLimitsChange { max_connections: Some(all.max_connections), max_channels: Some(all.max_channels) }
    }
}

/// What of a user shall change; what is not given stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UserChange {
    /// The password; null takes it away, and then only a certificate lets the user in.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub password: Option<Option<String>>,
    /// Instead of the password: a hash of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_hash: Option<String>,
    /// How that was made.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hashing_algorithm: Option<String>,
    /// All its tags from now on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tags: Option<Vec<String>>,
    /// How much it may have open at a time.
    #[serde(skip_serializing_if = "Option::is_none", deserialize_with = "some_object")]
    pub limits: Option<UserLimitsChange>,
}

/// Tells null from what is not there.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(from).map(Some)
}

/// A user as it is now; its hash is not shown.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether a password lets it in.
    pub has_password: bool,
    /// How much it may have open at a time.
    #[serde(default, skip_serializing_if = "UserLimits::is_none")]
    pub limits: UserLimits,
}

/// What a user may do in a virtual host: regular expressions over names; an empty one allows nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PermissionSpec {
    /// What it may declare, change and delete.
    pub configure: String,
    /// What it may publish and bind to.
    pub write: String,
    /// What it may consume and bind from.
    pub read: String,
}

/// The same, with whom and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Permission {
    /// Whose.
    pub user: String,
    /// Where.
    pub vhost: String,
    /// What it may declare, change and delete.
    pub configure: String,
    /// What it may publish and bind to.
    pub write: String,
    /// What it may consume and bind from.
    pub read: String,
}

/// What narrows a topic exchange's routing keys for a user; `{username}` and `{vhost}` stand for what they say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TopicPermissionSpec {
    /// Routing keys that it may publish with.
    pub write: String,
    /// Routing keys that it may bind with.
    pub read: String,
}

/// The same, with whom, where and on what.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TopicPermission {
    /// Whose.
    pub user: String,
    /// Where.
    pub vhost: String,
    /// On which exchange.
    pub exchange: String,
    /// Routing keys that it may publish with.
    pub write: String,
    /// Routing keys that it may bind with.
    pub read: String,
}

/// What a virtual host shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VhostSpec {
    /// In words.
    pub description: String,
    /// Whatever it is to be found by.
    pub tags: Vec<String>,
    /// What AMQP's clients get that declare a queue without a type: `classic`, `quorum` or `stream`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub default_queue_type: Option<String>,
    /// What all that is in it may have together.
    #[serde(deserialize_with = "object")]
    pub limits: VhostLimits,
}

fn object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<T, D::Error> {
    Object::deserialize(from).map(|Object(value)| value)
}

fn some_object<'de, T: Deserialize<'de>, D: Deserializer<'de>>(from: D) -> Result<Option<T>, D::Error> {
    Option::<Object<T>>::deserialize(from).map(|given| given.map(|Object(value)| value))
}

/// The same, with its name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Vhost {
    /// Its name.
    pub name: String,
    /// In words.
    pub description: String,
    /// Whatever it is to be found by.
    pub tags: Vec<String>,
    /// What AMQP's clients get that declare a queue without a type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_queue_type: Option<String>,
    /// What all that is in it may have together.
    #[serde(default)]
    pub limits: VhostLimits,
    /// How it stands with them, if it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<VhostState>,
}

/// How a virtual host stands with its limits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct VhostState {
    /// Queues and topics in it.
    pub queues: u64,
    /// Messages that consumers hold.
    pub held: u64,
    /// Why no more can be handed out now.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub held_back: Vec<HeldBack>,
}

/// To what a policy applies.
pub const APPLY_TO: [&str; 6] = ["all", "queues", "classic_queues", "quorum_queues", "streams", "exchanges"];

fn all() -> String {
    APPLY_TO[0].to_owned()
}

/// What a policy shall be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicySpec {
    /// A regular expression over the names of queues, topics and routes.
    pub pattern: String,
    /// What they are: `all`, `queues`, `classic_queues`, `quorum_queues`, `streams` (topics) or `exchanges` (routes).
    #[serde(default = "all")]
    pub apply_to: String,
    /// What becomes of them, in RabbitMQ's words: `{"max-length": 5}`.
    #[schema(value_type = Object)]
    pub definition: Map<String, Value>,
    /// Of those that match, the one of the highest priority counts.
    #[serde(default)]
    pub priority: i64,
}

/// The same, with where and which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Policy {
    /// In which virtual host.
    pub vhost: String,
    /// Its name.
    pub name: String,
    /// A regular expression over names.
    pub pattern: String,
    /// What they are.
    pub apply_to: String,
    /// What becomes of them.
    #[schema(value_type = Object)]
    pub definition: Map<String, Value>,
    /// Of those that match, the one of the highest priority counts.
    pub priority: i64,
}

/// What importing definitions did, or with `dry_run` would do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Imported {
    /// Each object and what is done about it.
    pub steps: Vec<ImportStep>,
    /// Objects that are new.
    pub create: u64,
    /// Objects that become what the definitions say.
    pub change: u64,
    /// Objects that are there just so.
    pub keep: u64,
    /// Queues and exchanges that are there, otherwise, and stay as they are.
    pub differs: u64,
}

/// One object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ImportStep {
    /// Which.
    pub what: String,
    /// `create`, `change`, `keep` or `differs`.
    pub step: String,
}
