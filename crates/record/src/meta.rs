//! What stands beside the facts of a record file: from where to where it goes, names, clients, and what swept many messages at once.

use serde::{Deserialize, Serialize};
use waystation_base::{EntityId, Millis, Name, Offset, Position};
use waystation_broker::{Kind, entry::Reason, place::LogId};

use crate::fact::Place;

/// Who did something.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Client {
    /// By which door.
    pub door: String,
    /// From where; empty: not known.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub address: String,
    /// As whom; empty: somebody who needed no proof.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// What it calls itself.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub name: String,
}

/// A stretch of the journal of which nothing is recorded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gap {
    /// Where it begins.
    pub from: Position,
    /// Where it ends.
    pub to: Position,
    /// It lies between this time…
    pub after: Millis,
    /// … and this.
    pub before: Millis,
    /// Why.
    pub why: String,
}

/// Why many messages went at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Sweep {
    /// They were done, for this reason by its number.
    Done(u8),
    /// A topic's retention let them go.
    Retention,
    /// The queue, topic or subscription was deleted.
    Deleted,
    /// The subscription was moved: what it reads next.
    Moved,
}

impl Sweep {
    /// Why they were done.
    pub fn reason(self) -> Option<Reason> {
        match self {
            Sweep::Done(number) => Reason::from_stored(number),
            _ => None,
        }
    }
}

/// Messages that went at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stretch {
    /// The queue or topic.
    pub entity: EntityId,
    /// The log; none: all of them.
    pub log: Option<u16>,
    /// The first offset.
    pub first: Offset,
    /// The last one.
    pub last: Offset,
    /// A subscription's copies only.
    pub subscription: Option<EntityId>,
    /// When.
    pub at: Millis,
    /// By whom, by number.
    pub client: u32,
    /// Why.
    pub sweep: Sweep,
}

impl Stretch {
    /// Whether it holds a message.
    pub fn holds(&self, place: Place) -> bool {
        self.entity == place.log.entity
            && self.log.is_none_or(|log| log == place.log.log)
            && (self.first..=self.last).contains(&place.offset)
    }
}

/// The offsets of one log that facts are about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// The log's queue or topic.
    pub entity: EntityId,
    /// The log.
    pub log: u16,
    /// The lowest.
    pub first: Offset,
    /// The highest.
    pub last: Offset,
}

impl Extent {
    /// Of a log.
    pub fn of(log: LogId, first: Offset, last: Offset) -> Extent {
        Extent { entity: log.entity, log: log.log, first, last }
    }
}

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Meta {
    /// The version of what stands here and in the blocks.
    pub version: u32,
    /// What times are counted from.
    pub base: Millis,
    /// The journal from here …
    pub from: Position,
    /// … to here is in it.
    pub to: Position,
    /// The time of the first fact.
    pub first: Millis,
    /// The time of the last one.
    pub last: Millis,
    /// Facts in it.
    pub facts: u64,
    /// Messages that were published in it.
    pub messages: u64,
    /// Messages at most that one fact tells of besides its own: what is told of a message may stand by the key of one so far before.
    pub more_max: u8,
    /// By log.
    pub extents: Vec<Extent>,
    /// What is named in it.
    pub names: Vec<(EntityId, Kind, Name)>,
    /// By number from 1.
    pub clients: Vec<Client>,
    /// What went at once.
    pub stretches: Vec<Stretch>,
    /// What is missing.
    pub gaps: Vec<Gap>,
    /// The clients that the journal behind `to` may name, by their numbers there.
    pub known: Vec<(u32, Client)>,
}

/// The version of [`Meta`] that this code writes and reads.
pub const VERSION: u32 = 3;

/// What every version says, and is read first: the rest may have another form.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Head {
    /// The version of the rest.
    pub version: u32,
    /// The journal from here …
    pub from: Position,
    /// … to here is in it.
    pub to: Position,
    /// The time of the first fact.
    pub first: Millis,
    /// The time of the last one.
    pub last: Millis,
}

impl Meta {
    /// What is named in it.
    pub fn name(&self, id: EntityId) -> Option<(Kind, &Name)> {
        let at = self.names.binary_search_by_key(&id, |(id, ..)| *id).ok()?;
        Some((self.names[at].1, &self.names[at].2))
    }

    /// A client by its number here.
    pub fn client(&self, number: u32) -> Option<&Client> {
        self.clients.get((number as usize).checked_sub(1)?)
    }

    /// Whether facts about a message may be in it.
    pub fn may_hold(&self, place: Place) -> bool {
        let key = |extent: &Extent| (extent.entity, extent.log);
        let at = self.extents.binary_search_by_key(&(place.log.entity, place.log.log), key);
        at.is_ok_and(|at| (self.extents[at].first..=self.extents[at].last).contains(&place.offset))
    }
}
