//! What is asked about dead letters, and what is answered.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::Name;

use crate::letter::{Origin, OriginKind};

/// Dead letters of one cause whose errors differ in nothing but numbers, ids and the like.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Group {
    /// Its name: the same in every queue and after every restart.
    pub id: String,
    /// Why they are there.
    pub cause: String,
    /// What their errors have in common, with what differs replaced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// One error as it stood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sample: Option<String>,
    /// How many there are now.
    pub messages: u64,
    /// When the first of them was given up (milliseconds since 1970).
    pub first: u64,
    /// When the last of them was given up.
    pub last: u64,
    /// How many lie in which queue.
    pub queues: BTreeMap<String, u64>,
    /// How many failed in which queue, or in which `subscription NAME`; an empty name: they do not say.
    pub origins: BTreeMap<String, u64>,
    /// The same, with what those are.
    #[serde(skip)]
    pub places: BTreeMap<Option<Origin>, u64>,
}

impl Group {
    /// Counts letters that failed there.
    pub(crate) fn count_origin(&mut self, place: Option<&Origin>, count: u64) {
        let shown = place.map(Origin::to_string).unwrap_or_default();
        *self.origins.entry(shown).or_default() += count;
        *self.places.entry(place.cloned()).or_default() += count;
    }
}

/// The groups of dead letters, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Groups {
    /// As many as were asked for.
    pub groups: Vec<Group>,
    /// There are more groups.
    pub more: bool,
    /// Messages in the queues that were asked about, of all groups.
    pub messages: u64,
    /// Those of them that belong to more groups than are told apart.
    pub other: u64,
    /// Those of them that have not been looked at yet, or are more than can be.
    pub unread: u64,
}

/// What is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// In these queues only; none: in all where dead letters go.
    pub queues: Option<Vec<Name>>,
    /// Of this group only.
    pub group: Option<String>,
    /// Of this cause only.
    pub cause: Option<String>,
    /// That failed here only.
    pub origin: Option<String>,
    /// In queues, or in subscriptions only.
    pub origin_kind: Option<OriginKind>,
}

impl Asked {
    /// Whether a queue is asked about.
    pub(crate) fn has_queue(&self, name: &Name) -> bool {
        self.queues.as_ref().is_none_or(|queues| queues.contains(name))
    }
}
