//! What was tried with messages outside of the broker: requests of pushes and callbacks, read off the messages that put them on record.
//!
//! Who delivers by requests settles a message and publishes what came of the request to [`ATTEMPTS`] in one step of the journal. The
//! settlement tells that the message came or failed; this tells the answer of the receiver.

use serde::{Deserialize, Serialize};
use waystation_base::{Name, Tag};
use waystation_broker::Kind;

use crate::HashMap;

/// The topic of attempts.
pub const ATTEMPTS: &str = "$webhooks";

/// Which messages an attempt was about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Tried {
    /// The queue that they were taken from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub queue: Option<Name>,
    /// Or the subscription.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subscription: Option<Name>,
    /// Their tags.
    pub tags: Vec<u64>,
}

impl Tried {
    /// Where they were taken from.
    pub(crate) fn source(&self) -> Option<(Kind, &Name)> {
        let queue = self.queue.as_ref().map(|name| (Kind::Queue, name));
        queue.or_else(|| self.subscription.as_ref().map(|name| (Kind::Subscription, name)))
    }

    /// Log and offset of each there.
    pub(crate) fn places(&self) -> impl Iterator<Item = (u16, u64)> {
        self.tags.iter().map(|tag| (Tag(*tag).log(), Tag(*tag).offset().0))
    }
}

/// What an attempt says, as far as the record tells it.
#[derive(Deserialize)]
pub(crate) struct Said {
    /// When it began, in milliseconds since 1970.
    pub(crate) at: u64,
    /// Where to.
    #[serde(default)]
    pub(crate) endpoint: String,
    /// How it was answered.
    #[serde(default)]
    pub(crate) status: Option<u16>,
    /// What went wrong.
    #[serde(default)]
    pub(crate) cause: Option<String>,
    /// Milliseconds that it took.
    #[serde(default)]
    pub(crate) took_ms: u64,
    /// Which messages it was about; versions before did not say.
    #[serde(default)]
    pub(crate) tried: Option<Tried>,
}

/// Sources of attempts by name: what was looked up once.
#[derive(Default)]
pub(crate) struct Sources(HashMap<(Kind, Name), waystation_base::EntityId>);

impl Sources {
    /// The id of a queue or subscription.
    pub(crate) fn find(
        &mut self,
        (kind, name): (Kind, &Name),
        names: &HashMap<waystation_base::EntityId, (Kind, Name)>,
    ) -> Option<waystation_base::EntityId> {
        let wanted = (kind, name.clone());
        if let Some(id) = self.0.get(&wanted).filter(|id| names.get(*id) == Some(&wanted)) {
            return Some(*id);
        }
        let id = names.iter().find(|(_, it)| **it == wanted).map(|(id, _)| *id)?;
        self.0.insert(wanted, id);
        Some(id)
    }
}
