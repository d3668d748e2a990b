//! Looking at messages without consuming them: which stretch to read next.

use waystation_base::{Attempt, Name, Offset, Tag};

use super::{
    Shard,
    cursor::{Cursor, is_delayed, priority, tag},
    log::Log,
    outlet::{Logs, Outlet},
};
use crate::{
    Kind, Refusal,
    place::{LogId, Span},
};

/// Stretches of a log named in one step.
const SPANS_MAX: usize = 64;

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BrowseTarget {
    /// Which kind of thing.
    pub kind: Kind,
    /// By that name.
    pub name: Name,
}

/// One stretch to read.
#[derive(Clone, Debug)]
pub struct BrowseStep {
    /// The queue or topic that the messages were published to.
    pub address: Name,
    /// The number of the log in tags.
    pub tag_log: u16,
    /// The log.
    pub log: LogId,
    /// Where to begin.
    pub from: Offset,
    /// Where to end (exclusive).
    pub to: Offset,
    /// Where the batches are.
    pub spans: Vec<Span>,
    /// First and last offset of each stretch of messages that are there.
    pub live: Vec<(Offset, Offset)>,
    /// How often messages were handed out, where they were; by offset.
    pub attempts: Vec<(Offset, Attempt)>,
    /// Where to go on; none at the end.
    pub next: Option<Tag>,
}

impl Shard {
    /// The stretch that begins at `from`, or at the beginning. `partition` keeps to one partition of a topic.
    pub fn browse(
        &self,
        target: &BrowseTarget,
        from: Option<Tag>,
        partition: Option<u32>,
    ) -> Result<Option<BrowseStep>, Refusal> {
        let missing = || Refusal::NotFound { kind: target.kind, name: target.name.to_string() };
        let id = self.find(target.kind, &target.name).ok_or_else(missing)?;
        let step = match target.kind {
            Kind::Queue => {
                let queue = self.queues.get(&id).ok_or_else(missing)?;
                let mut numbers: Vec<u16> = queue.logs.iter().map(|(number, _)| number).collect();
                numbers.sort_by_key(|log| (std::cmp::Reverse(priority(*log)), is_delayed(*log)));
                step(&numbers, from, |n| Some((queue.logs().id(n), queue.logs.get(n)?)), Some(&queue.outlet))
            }
            Kind::Topic => {
                let topic = self.topics.get(&id).ok_or_else(missing)?;
                let all = 0..topic.logs.len() as u16;
                let numbers: Vec<u16> =
                    all.filter(|n| partition.is_none_or(|only| only == u32::from(*n))).collect();
                let log = |n: u16| Some((LogId { entity: id, log: n }, topic.logs.get(usize::from(n))?));
                step(&numbers, from, log, None)
            }
            // It stores nothing.
            Kind::Route => return Ok(None),
            Kind::Subscription => {
                let subscription = self.subscriptions.get(&id).ok_or_else(missing)?;
                let logs = subscription.logs(&self.topics);
                let numbers: Vec<u16> = subscription.outlet.cursors.keys().copied().collect();
                step(&numbers, from, |n| Some((logs.id(n), logs.log(n)?)), Some(&subscription.outlet))
            }
        };
        Ok(step.and_then(|step| Some(BrowseStep { address: self.address_of(step.log)?, ..step })))
    }
}

/// The next stretch of the logs with these numbers, in this order. Its address is filled in by the caller.
fn step<'a>(
    numbers: &[u16],
    from: Option<Tag>,
    log: impl Fn(u16) -> Option<(LogId, &'a Log)>,
    outlet: Option<&Outlet>,
) -> Option<BrowseStep> {
    let begin = match from {
        None => 0,
        Some(tag) => numbers.iter().position(|number| *number == tag.log())?,
    };
    for (index, &number) in numbers.iter().enumerate().skip(begin) {
        let Some((log_id, log)) = log(number) else { continue };
        let cursor = outlet.and_then(|outlet| outlet.cursors.get(&number)).map(|cursor| &**cursor);
        let start = cursor.map_or(0, |cursor| cursor.done.head()).max(log.base);
        let from = from.filter(|tag| tag.log() == number).map_or(start, |tag| tag.offset().0.max(start));
        let spans = log.spans(from, log.next, SPANS_MAX);
        let Some(end) = spans.last().map(|span| span.last.0 + 1) else { continue };
        let after = numbers.get(index + 1).map(|number| tag(*number, 0));
        return Some(BrowseStep {
            address: Name::new("unknown").expect("a good name"),
            tag_log: number,
            log: log_id,
            from: Offset(from),
            to: Offset(end),
            spans,
            live: live(cursor, from, end - 1),
            attempts: outlet.map_or_else(Vec::new, |outlet| attempts(outlet, number, from, end)),
            next: if end < log.next { Some(tag(number, end)) } else { after },
        });
    }
    None
}

fn live(cursor: Option<&Cursor>, first: u64, last: u64) -> Vec<(Offset, Offset)> {
    match cursor {
        None => vec![(Offset(first), Offset(last))],
        Some(cursor) => {
            cursor.done.live(first, last).into_iter().map(|(a, b)| (Offset(a), Offset(b))).collect()
        }
    }
}

fn attempts(outlet: &Outlet, number: u16, from: u64, to: u64) -> Vec<(Offset, Attempt)> {
    let Some(cursor) = outlet.cursors.get(&number) else { return Vec::new() };
    let flying = cursor.flying.iter().map(|(offset, flight)| (*offset, flight.attempt));
    let returned = cursor.returned.iter().map(|((_, offset), returned)| (*offset, returned.attempt));
    let all = flying.chain(returned).chain(outlet.lined_up(number));
    let within = all.filter(|(offset, attempt)| (from..to).contains(offset) && attempt.0 > 0);
    let mut attempts: Vec<_> = within.map(|(offset, attempt)| (Offset(offset), attempt)).collect();
    attempts.sort_unstable();
    attempts
}
