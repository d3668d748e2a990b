//! Moving messages to settled files: what must be copied, and taking over where they are then.

use std::collections::BTreeMap;

use waystation_base::{EntityId, Millis, Offset, Position};

use super::{
    Shard, Topic,
    entities::Queue,
    outlet::{Logs, Outlet},
    ranges::Done,
};
use crate::{
    Kind,
    place::{LogId, Place, Span},
    settle::{Leaving, LogPlan, Outcome, Overlap, Plan, SettledRun},
};

/// How much of a settled file is still wanted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileUse {
    /// The file.
    pub file: u32,
    /// Bytes of the runs in it that are known.
    pub bytes: u64,
    /// About how many bytes of them are alive.
    pub live_bytes: u64,
    /// It holds runs of a topic of which only the latest message of each key need be kept, beside other runs of that topic.
    pub compactable: bool,
}

/// Ids of things that are gone which take as long to pass over as one that is there takes to plan for.
const GONE_PER_ENTITY: usize = 64;

impl Shard {
    /// What must be copied before `leaving` can be left behind.
    pub fn plan(&self, leaving: &Leaving, now: Millis) -> Plan {
        let mut logs = Vec::new();
        let mut next = Some(EntityId(0));
        while let Some(from) = next {
            next = self.plan_part(leaving, now, from, usize::MAX, &mut logs);
        }
        Plan { leaving: leaving.clone(), logs }
    }

    /// The part of a plan for `count` entities from `from` on, added to `logs` in order; returns where the next part begins, if
    /// there is one. Between two parts the shard may go on: what is done meanwhile is copied for nothing, and nothing that is
    /// published meanwhile lies in what is left behind.
    pub fn plan_part(
        &self,
        leaving: &Leaving,
        now: Millis,
        from: EntityId,
        count: usize,
        logs: &mut Vec<LogPlan>,
    ) -> Option<EntityId> {
        // Ids of what is gone cost little.
        let mut left = count.saturating_mul(GONE_PER_ENTITY);
        for id in (from.0..=self.entities).map(EntityId) {
            if left == 0 {
                return Some(id);
            }
            let mut cost = GONE_PER_ENTITY;
            match (self.queues.get(&id), self.topics.get(&id)) {
                (Some(queue), _) => plan_queue(queue, leaving, logs),
                (None, Some(topic)) => plan_topic(topic, leaving, now, logs),
                (None, None) => cost = 1,
            }
            left = left.saturating_sub(cost);
        }
        None
    }

    /// Whether it can be taken over that messages have moved.
    pub fn check_settled(&self, outcome: &Outcome) -> Result<(), Overlap> {
        let runs = ByLog::of(outcome);
        runs.0.chunk_by(|one, next| one.log == next.log).try_for_each(|runs| match self.log(runs[0].log) {
            Some(log) => log.check_settle(&outcome.leaving, runs),
            None => Ok(()),
        })
    }

    /// Takes over that messages have moved, now or after a restart.
    pub(super) fn apply_settled(&mut self, outcome: &Outcome) {
        if let Leaving::Journal(to) = outcome.leaving {
            self.settled_to = self.settled_to.max(to);
        }
        let runs = ByLog::of(outcome);
        for (id, queue) in &mut self.queues {
            for (number, log) in queue.logs.iter_mut() {
                log.settle(&outcome.leaving, runs.get(LogId { entity: *id, log: number }));
            }
        }
        for (id, topic) in &mut self.topics {
            for (partition, log) in topic.logs.iter_mut().enumerate() {
                log.settle(&outcome.leaving, runs.get(LogId { entity: *id, log: partition as u16 }));
            }
        }
        let mut looked_for = Vec::new();
        for queue in self.queues.values_mut() {
            let (outlet, logs) = queue.parts();
            outlet.relocate(&outcome.leaving, &logs);
        }
        for (id, subscription) in &mut self.subscriptions {
            let (outlet, logs) = subscription.parts(&self.topics);
            outlet.relocate(&outcome.leaving, &logs);
            looked_for.push((Kind::Subscription, *id));
        }
        looked_for.sort_unstable();
        looked_for.into_iter().for_each(|(kind, id)| self.mark(kind, id));
    }

    /// Whether any log has a batch in the journal before a position.
    pub fn has_live_in_journal_before(&self, position: Position) -> bool {
        let queues = self.queues.values().flat_map(|queue| queue.logs.iter().map(|(_, log)| log));
        let topics = self.topics.values().flat_map(|topic| topic.logs.iter());
        queues.chain(topics).any(|log| log.has_hot_before(position))
    }

    /// The settled files that are referred to, by number.
    pub fn files(&self) -> Vec<FileUse> {
        let mut files = BTreeMap::new();
        for queue in self.queues.values() {
            queue.use_files(&mut files);
        }
        for topic in self.topics.values() {
            for log in &topic.logs {
                let several = topic.spec.compact && log.runs().count() > 1;
                for run in log.runs() {
                    let file = entry(&mut files, run);
                    file.live_bytes += run.bytes;
                    file.compactable |= several;
                }
            }
        }
        files.into_values().collect()
    }
}

/// The runs of an outcome, those of one log together and in their order.
struct ByLog(Vec<SettledRun>);

impl ByLog {
    fn of(outcome: &Outcome) -> ByLog {
        let mut runs = outcome.runs.clone();
        runs.sort_by_key(|run| run.log);
        ByLog(runs)
    }

    fn get(&self, log: LogId) -> &[SettledRun] {
        let from = self.0.partition_point(|run| run.log < log);
        let count = self.0[from..].iter().take_while(|run| run.log == log).count();
        &self.0[from..from + count]
    }
}

fn entry<'a>(files: &'a mut BTreeMap<u32, FileUse>, run: &SettledRun) -> &'a mut FileUse {
    let file = files.entry(run.file).or_default();
    file.file = run.file;
    file.bytes += run.bytes;
    file
}

impl Queue {
    fn use_files(&self, files: &mut BTreeMap<u32, FileUse>) {
        for (number, log) in self.logs.iter() {
            let nothing = Done::default();
            let done = self.outlet.cursors.get(&number).map_or(&nothing, |cursor| &cursor.done);
            for run in log.runs() {
                let live = done
                    .live(run.first.0, run.last.0)
                    .iter()
                    .map(|(first, last)| last - first + 1)
                    .sum::<u64>();
                let share = u128::from(live.min(run.messages)) * u128::from(run.bytes)
                    / u128::from(run.messages.max(1));
                entry(files, run).live_bytes += share as u64;
            }
        }
    }
}

impl Topic {
    /// Whether files that are left behind are compacted by key on the way.
    fn compacts(&self, leaving: &Leaving) -> bool {
        self.spec.compact && matches!(leaving, Leaving::Files(_))
    }
}

fn plan_queue(queue: &Queue, leaving: &Leaving, logs: &mut Vec<LogPlan>) {
    for (number, log) in queue.logs.iter() {
        let done = queue.outlet.cursors.get(&number).map(|cursor| &cursor.done);
        let live = |span: &Span| match done {
            Some(done) => done.live(span.first.0, span.last.0),
            None => vec![(span.first.0, span.last.0)],
        };
        let plans = log.leaving(leaving).into_iter();
        logs.extend(plans.filter_map(|spans| log_plan(queue.logs().id(number), spans, live, None, false)));
    }
}

fn plan_topic(topic: &Topic, leaving: &Leaving, now: Millis, logs: &mut Vec<LogPlan>) {
    let compact =
        topic.compacts(leaving).then(|| Millis(now.0.saturating_sub(topic.spec.tombstone_retention_ms)));
    for (partition, log) in topic.logs.iter().enumerate() {
        let live = |span: &Span| vec![(span.first.0.max(log.base), span.last.0)];
        let log_id = LogId { entity: topic.id, log: partition as u16 };
        let oldest = log.runs().next().map(|run| run.first);
        for spans in log.leaving(leaving) {
            // A deletion may go only where what it deletes goes too: with the oldest run.
            let is_oldest = spans.first().map(|span| span.first) == oldest;
            let compact = compact.map(|tombstones| if is_oldest { tombstones } else { Millis(0) });
            logs.extend(log_plan(log_id, spans, live, compact, true));
        }
    }
}

fn log_plan(
    log: LogId,
    spans: Vec<Span>,
    live: impl Fn(&Span) -> Vec<(u64, u64)>,
    compact: Option<Millis>,
    verbatim: bool,
) -> Option<LogPlan> {
    let mut stretches: Vec<(Offset, Offset)> = Vec::new();
    for (first, last) in spans.iter().flat_map(live).filter(|(first, last)| first <= last) {
        match stretches.last_mut() {
            Some((_, end)) if end.0 + 1 >= first => *end = Offset(last),
            _ => stretches.push((Offset(first), Offset(last))),
        }
    }
    (!stretches.is_empty()).then_some(LogPlan { log, spans, live: stretches, compact, verbatim })
}

impl Outlet {
    /// Tells metas in memory where their messages are now.
    fn relocate(&mut self, leaving: &Leaving, logs: &dyn Logs) {
        let compacted = self.kind == Kind::Subscription && matches!(leaving, Leaving::Files(_));
        let left = |place: &Place| match (leaving, place) {
            (Leaving::Journal(to), Place::Journal(position)) => position < to,
            (Leaving::Files(files), Place::Settled(file)) => files.contains(file),
            _ => false,
        };
        let mut forgotten = Vec::new();
        for (number, cursor) in &mut self.cursors {
            let Some(log) = logs.log(*number) else { continue };
            let asked = cursor.loading || !cursor.finding.is_empty();
            if compacted
                && (asked || cursor.metas_mut().any(|meta| left(&meta.place)) || self.shares.is_some())
            {
                // Some of them may not be there any more: they are looked for again.
                forgotten.push(*number);
                continue;
            }
            for meta in cursor.metas_mut().filter(|meta| left(&meta.place)) {
                meta.place = log.settled_file(meta.offset.0).map_or(meta.place, Place::Settled);
            }
            if let Some(shares) = &mut self.shares {
                shares.relocate(*number, |meta| match log.settled_file(meta.offset.0) {
                    Some(file) if left(&meta.place) => Place::Settled(file),
                    _ => meta.place,
                });
            }
        }
        self.unshare(|waits| forgotten.contains(&waits.number));
        for number in &forgotten {
            if let Some(cursor) = self.cursors.get_mut(number) {
                cursor.forget_places();
            }
        }
        if !forgotten.is_empty() {
            self.count_shares();
        }
        let parked = self.keys.values_mut().flat_map(|key| key.parked.values_mut()).map(|(meta, _)| meta);
        for meta in parked.filter(|meta| left(&meta.place)) {
            // A queue's parked messages: their log has the number of their lane.
            let file = logs.log(meta.log.log).and_then(|log| log.settled_file(meta.offset.0));
            meta.place = file.map_or(meta.place, Place::Settled);
        }
    }
}
