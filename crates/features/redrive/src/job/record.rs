//! How does a redrive stand? Its record is a message on a compacted topic, and goes there in the same transaction as what it moves:
//! so after a crash it says exactly what was done.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::{Message, MessageId, Millis, Name, Offset, Tag, os};
use waystation_broker::{
    Extent, Refusal,
    command::{Payload, Publish},
};
use waystation_host::{Broker, Browse, Target};

use super::spec::Spec;
use crate::limits::REASONS_MAX;

/// The compacted topic of redrives, keyed by their ids.
pub const TOPIC: &str = "$redrives";
/// The topic that keeps messages as they were before a redrive edited them, keyed by redrive and message.
pub const ORIGINALS: &str = "$redrive.originals";
/// Records that are read at a time.
const PAGE: usize = 1_000;
/// Bytes of them.
const PAGE_BYTES: usize = 8 << 20;

/// What a redrive is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = RedriveState)]
pub enum State {
    /// It moves messages.
    #[default]
    Running,
    /// It rests until it is resumed.
    Paused,
    /// It has looked at everything that was there when it began.
    Completed,
    /// It was ended before; what it had moved stays where it is.
    Aborted,
    /// It brings back what nobody has taken yet.
    Undoing,
    /// It has brought that back.
    Undone,
}

impl State {
    /// Whether there is something to do.
    pub fn is_active(self) -> bool {
        matches!(self, State::Running | State::Undoing)
    }

    /// Whether nothing more happens by itself or by resuming.
    pub fn is_ended(self) -> bool {
        matches!(self, State::Completed | State::Aborted | State::Undone)
    }
}

/// A redrive as it stands.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Redrive {
    /// Its id; each message that it moves says it in the header `ws-redrive`.
    pub id: String,
    /// What it shall do.
    pub spec: Spec,
    /// What it is doing.
    pub state: State,
    /// Why it waits or rests, if not because somebody said so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who began it; none: somebody on the server's machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// When it was begun (milliseconds since 1970).
    pub created: u64,
    /// When it last moved anything, or was paused, resumed or ended.
    pub changed: u64,
    /// The queues that it takes from.
    #[schema(value_type = Vec<String>)]
    pub queues: Vec<Name>,
    /// Messages that are meant, as far as that showed at the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
    /// Messages that were looked at.
    pub looked: u64,
    /// Messages that were moved.
    pub moved: u64,
    /// Messages that are meant and stay where they are, by reason.
    pub left: BTreeMap<String, u64>,
    /// Where those went that were moved.
    pub targets: BTreeMap<String, u64>,
    /// Of those that were moved: how many undoing brought back.
    pub undone: u64,
}

impl Redrive {
    /// Counts messages that stay where they are.
    pub(super) fn leave(&mut self, reason: &str, count: u64) {
        let known = self.left.len() < REASONS_MAX || self.left.contains_key(reason);
        let reason = if known { reason } else { "for other reasons" };
        *self.left.entry(reason.to_owned()).or_default() += count;
    }

    /// How many stay where they are.
    pub fn left(&self) -> u64 {
        self.left.values().sum()
    }
}

/// Where a redrive is on its way through queues: each up to the end that it had at the beginning. The topic by which dead letters come
/// back to a subscription stands for what that subscription has of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Walk {
    /// Each queue with the end of each of its logs, in the order in which it is browsed.
    pub queues: Vec<(Name, Vec<(u16, u64)>)>,
    /// Which of them is next.
    pub at: usize,
    /// Where in it; none: at its beginning.
    pub next: Option<u64>,
}

impl Walk {
    /// The way through queues as they are now.
    pub fn through(queues: Vec<(Name, Vec<Extent>)>) -> Walk {
        let ends =
            |extents: Vec<Extent>| extents.into_iter().map(|extent| (extent.log, extent.next.0)).collect();
        Walk {
            queues: queues.into_iter().map(|(name, extents)| (name, ends(extents))).collect(),
            at: 0,
            next: None,
        }
    }

    /// The queue that is next.
    pub fn queue(&self) -> Option<&Name> {
        self.queues.get(self.at).map(|(name, _)| name)
    }

    /// Where in it: from its first log on, if that is not said.
    pub fn from(&self) -> Option<Tag> {
        let (_, ends) = self.queues.get(self.at)?;
        self.next.map(Tag).or_else(|| ends.first().map(|(log, _)| Tag::new(*log, Offset(0))))
    }

    /// Whether a message stood in the queue at the beginning.
    pub fn has(&self, tag: Tag) -> bool {
        let ends = self.queues.get(self.at).map(|(_, ends)| ends.as_slice()).unwrap_or_default();
        ends.iter().any(|(log, end)| *log == tag.log() && tag.offset().0 < *end)
    }

    /// Goes on at a place of the same queue; at none, or past what was there in its last log, with the next queue.
    pub fn go_on(&mut self, next: Option<Tag>) {
        let next = next.and_then(|next| self.within(next));
        match next {
            Some(next) => self.next = Some(next.0),
            None => (self.at, self.next) = (self.at + 1, None),
        }
    }

    /// The place itself, or the beginning of the next log if nothing that was there comes after it in its own.
    fn within(&self, next: Tag) -> Option<Tag> {
        if self.has(next) {
            return Some(next);
        }
        let (_, ends) = self.queues.get(self.at)?;
        let at = ends.iter().position(|(log, _)| *log == next.log())?;
        let next = ends[at + 1..].iter().find(|(_, end)| *end > 0);
        next.map(|(log, _)| Tag::new(*log, Offset(0)))
    }
}

/// What is stored of a redrive.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Record {
    pub redrive: Redrive,
    pub walk: Walk,
    /// Groups in memory say where the messages are that are meant.
    pub by_groups: bool,
    /// Where its maker may publish; none: everywhere.
    pub may: Option<Vec<String>>,
}

/// A name of ours.
pub(super) fn own(text: &str) -> Name {
    Name::reserved(text).unwrap_or_else(|error| unreachable!("a good name: {error}"))
}

/// A fresh id.
pub(super) fn fresh_id(now: Millis) -> Result<MessageId, Refusal> {
    let random = os::random().map_err(|error| Refusal::Stopped(format!("no randomness: {error}")))?;
    Ok(MessageId::new(now, random))
}

impl Record {
    /// What stores it.
    pub fn publish(&self, now: Millis) -> Result<Publish, Refusal> {
        let body = serde_json::to_vec(self).map_err(|error| Refusal::Stopped(error.to_string()))?;
        message(&self.redrive.id, body, now)
    }
}

/// What takes a redrive's record away.
pub(super) fn forget(id: &str, now: Millis) -> Result<Publish, Refusal> {
    message(id, Vec::new(), now)
}

fn message(id: &str, body: Vec<u8>, now: Millis) -> Result<Publish, Refusal> {
    let mut message = Message::new(fresh_id(now)?, now, body);
    message.key = Some(id.as_bytes().to_vec().into());
    Ok(Publish { to: own(TOPIC).into(), partition: None, payload: Payload::One(message) })
}

/// All redrives that there are, the oldest first.
pub(super) async fn read_all(broker: &Broker) -> Result<Vec<Record>, Refusal> {
    let mut records = BTreeMap::new();
    let mut from = None;
    loop {
        let browse = Browse { from, max: PAGE, bytes_max: PAGE_BYTES, ..Browse::default() };
        let page = match broker.browse(Target::Topic(own(TOPIC)), browse).await {
            // Nothing was ever redriven.
            Err(Refusal::NotFound { .. }) => return Ok(Vec::new()),
            page => page?,
        };
        for message in page.messages.into_iter().map(|delivery| delivery.message) {
            let Some(key) = message.key else { continue };
            if message.body.is_empty() {
                records.remove(&key);
                continue;
            }
            match serde_json::from_slice::<Record>(&message.body) {
                Ok(record) => drop(records.insert(key, record)),
                Err(error) => tracing::error!(%error, "the record of a redrive cannot be read"),
            }
        }
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    let mut records: Vec<Record> = records.into_values().collect();
    records.sort_by(|a, b| (a.redrive.created, &a.redrive.id).cmp(&(b.redrive.created, &b.redrive.id)));
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_goes_through_each_log_up_to_its_end_and_then_to_the_next_queue() {
        let extent = |log, next| Extent { log, next: Offset(next), live: Vec::new() };
        let name = |text: &str| Name::new(text).expect("a name");
        let mut walk = Walk::through(vec![
            (name("a"), vec![extent(9, 2), extent(3, 0), extent(0, 5)]),
            (name("b"), vec![extent(0, 1)]),
        ]);
        assert!(
            walk.has(Tag::new(9, Offset(1)))
                && !walk.has(Tag::new(9, Offset(2)))
                && !walk.has(Tag::new(7, Offset(0)))
        );
        walk.go_on(Some(Tag::new(9, Offset(1))));
        assert_eq!(walk.from(), Some(Tag::new(9, Offset(1))));
        walk.go_on(Some(Tag::new(9, Offset(2))));
        assert_eq!(walk.from(), Some(Tag::new(0, Offset(0))), "the empty log is passed over");
        walk.go_on(Some(Tag::new(0, Offset(5))));
        assert_eq!((walk.queue(), walk.from()), (Some(&name("b")), Some(Tag::new(0, Offset(0)))));
        walk.go_on(None);
        assert_eq!(walk.queue(), None);
    }

    #[test]
    fn reasons_past_the_bound_are_counted_together() {
        let mut redrive = Redrive::default();
        (0..REASONS_MAX + 2).for_each(|n| redrive.leave(&format!("reason {n}"), 1));
        redrive.leave("reason 0", 1);
        assert_eq!(
            (redrive.left.len(), redrive.left["for other reasons"], redrive.left["reason 0"]),
            (REASONS_MAX + 1, 2, 2)
        );
        assert_eq!(redrive.left(), REASONS_MAX as u64 + 3);
    }
}
