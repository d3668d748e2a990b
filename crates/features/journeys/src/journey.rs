//! What a journey looks like: the words of the HTTP interface and of the command line. Times are milliseconds since 1970.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use waystation_broker::view::HeldBack;

/// The messages that belong together, and what became of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Journey {
    /// Where it stopped, and why: it ended badly, or nobody comes for it. Read this first.
    pub stops: Vec<Stop>,
    /// Where it is on its way: it waits in line, is worked on, put off, or held up by somebody who paused. Empty, as `stops`: all
    /// of it is done.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub under_way: Vec<Stop>,
    /// The messages, by the time at which each was first stored.
    pub messages: Vec<Message>,
    /// There are more messages than were asked for: these are the newest.
    #[serde(skip_serializing_if = "is_false")]
    pub more: bool,
    /// Places that the asker may not read and that are left out.
    #[serde(skip_serializing_if = "is_zero")]
    pub hidden: u64,
    /// How far the record can be relied on.
    pub record: RecordState,
}

/// How a message stands that is not done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(as = MessageStanding))]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It goes no further by itself: a dead letter, lost, or nobody consumes what it waits for.
    #[default]
    Stopped,
    /// Whoever should take it is paused, suspended or disabled.
    Paused,
    /// It waits in line.
    Waiting,
    /// Somebody holds it.
    Working,
    /// It waits for its time.
    Delayed,
    /// A topic keeps it, and no subscription reads that topic.
    Kept,
}

/// A message that is not done, or ended badly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Stop {
    /// Which message.
    pub message: String,
    /// In which queue, for which subscription, or at which route.
    pub at: String,
    /// How it stands.
    pub standing: Standing,
    /// `ready`, `held`, `delayed`, `behind_key`, `dying`, `kept`, `unrouted`, `rejected`, `expired`, `max_attempts`, `max_age`,
    /// `max_length`, `purged`, `deleted`…
    pub state: String,
    /// Since when.
    pub since: u64,
    /// In words: what it waits for and how long that may take, or why it ended.
    pub why: String,
    /// Whether somebody should look at it: it stopped.
    pub alarming: bool,
}

/// One message, in all the places that it came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Message {
    /// Waystation's id; of a batch of another maker, its place.
    pub id: String,
    /// Whether it is what was asked for; the others are there because of it.
    #[serde(skip_serializing_if = "is_false")]
    pub asked: bool,
    /// The message of this answer that it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<String>,
    /// The sender's own id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// What it came from, as its sender says.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// What ties it to others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub correlation_id: Option<String>,
    /// Its trace (W3C Trace Context).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// The call that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub call: Option<String>,
    /// The operation that it calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The kind of event or command, in the sender's words.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Business keys.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub business: BTreeMap<String, String>,
    /// Where it came to, in order of time.
    pub stays: Vec<Stay>,
}

/// Who did something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Sender {
    /// By which door.
    pub door: String,
    /// From where.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// As whom.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// What it calls itself.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A message in one queue or topic.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Stay {
    /// The queue's or topic's name.
    pub address: String,
    /// `queue` or `topic`; `route`, if it was published there and nothing took it.
    pub kind: String,
    /// The topic's partition; the lane of a queue.
    pub partition: u16,
    /// The offset there.
    pub offset: u64,
    /// When it was stored, or published and not stored.
    pub at: u64,
    /// By whom; none: by the broker itself, or not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Sender>,
    /// How it came here: `published`, `routed`, `dead_lettered`, `redriven` or `stepped`; `unrouted`: nothing took it, and
    /// it is not stored.
    pub how: String,
    /// The route that it was published to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// Under which key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub routing_key: Option<String>,
    /// Why and from where, of a dead letter.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub death: Option<String>,
    /// The redrive that brought it here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redrive: Option<String>,
    /// Nothing took it: whether its sender was told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub told: Option<bool>,
    /// The URL that it is to be delivered to, of a callback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub callback_url: Option<String>,
    /// Bytes of its body.
    pub bytes: u32,
    /// Milliseconds for which it was not to be delivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    /// Milliseconds of its life.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_ms: Option<u64>,
    /// In the queue, or for each subscription of the topic.
    pub copies: Vec<Copy>,
    /// A topic: whether it still keeps the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kept: Option<bool>,
}

/// What became of a message in a queue, or for one subscription.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Copy {
    /// The queue or subscription.
    pub name: String,
    /// `queue` or `subscription`.
    pub kind: String,
    /// Milliseconds from storing until it was first handed out, if it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub waited_ms: Option<u64>,
    /// Milliseconds from storing until it was done here, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lasted_ms: Option<u64>,
    /// What happened, in order.
    pub steps: Vec<Step>,
    /// Where it is now.
    pub now: Now,
}

/// One thing that happened.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Step {
    /// When.
    pub at: u64,
    /// `delivered`, `called` (sent to an endpoint: a push or a callback), `acknowledged`, `failed`, `rejected`, `returned`, `delayed`, `extended`, `dead_lettered`, `expired`, `max_attempts`,
    /// `max_length`, `purged`, `withdrawn`, `filtered`, `passed`, `retired` or `deleted`.
    pub what: String,
    /// Which attempt it was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempt: Option<u32>,
    /// Who; none: the broker itself, or not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Sender>,
    /// In words, where that adds something: a consumer's error, why it came back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Milliseconds: of the lease, until the next attempt, or that a request took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ms: Option<u64>,
    /// Called: whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub to: Option<String>,
    /// Called: how it was answered; none: it was not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
}

/// Where a message is now.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Now {
    /// `ready`, `held`, `delayed`, `behind_key`, `dying`, or how it ended: `acknowledged`, `dead_lettered`, `rejected`, `expired`,
    /// `max_attempts`, `max_length`, `purged`, `withdrawn` (moved elsewhere by a redrive), `filtered`, `passed`, `retired`, `deleted`,
    /// `gone`.
    pub state: String,
    /// Since when.
    pub since: u64,
    /// Milliseconds since it was stored, while it is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// Ready: about how many messages go before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ahead: Option<u64>,
    /// Ready: milliseconds until it will be handed out, at the rate of late; none: not to be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub eta_ms: Option<u64>,
    /// Messages a second that were handed out here of late.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<f64>,
    /// Attached consumers and waiting pulls, while it is here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consumers: Option<u64>,
    /// Ready: what keeps messages from being handed out here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub held_back: Vec<HeldBack>,
    /// Whoever should take it and does not for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<Pause>,
    /// Held: until when, under a lease. Delayed: until when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
    /// Who holds it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<Sender>,
    /// How often it has been handed out.
    pub attempts: u32,
}

/// Somebody of Waystation's own who takes messages from a queue or subscription, and does not for now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Pause {
    /// Who: a push, a route or an upstream, with its name.
    pub who: String,
    /// `paused`, `suspended`, `disabled` or `waiting`.
    pub state: String,
    /// Why, if that needs saying.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Until when, if that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<u64>,
}

/// How far the record can be relied on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct RecordState {
    /// Nothing older is kept; none: nothing is recorded yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// Bytes of journal that are not recorded yet: what happened last may be missing.
    #[serde(skip_serializing_if = "is_zero")]
    pub behind_bytes: u64,
    /// What is missing.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub lacks: Vec<Lack>,
}

/// Something that is missing in the record.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(default)]
pub struct Lack {
    /// It lies between this time …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// … and this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<u64>,
    /// Why.
    pub why: String,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}
