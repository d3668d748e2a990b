//! Which messages belong together: what was asked for, what it came from, and what came of it.

use std::collections::HashSet;

use waystation_base::trace::trace_id;
use waystation_record::{Attribute, Mention, Place, Published, Record, Sought};

use crate::query::{Query, is_same};

/// How far causes are followed, up and down.
const DEPTH_MAX: usize = 64;

/// What was found.
#[derive(Default)]
pub(crate) struct Cascade {
    /// Where messages were stored, in order of time.
    pub(crate) mentions: Vec<Mention>,
    /// Those that were asked for.
    pub(crate) asked: HashSet<Place>,
    pub(crate) more: bool,
    pub(crate) damage: Vec<String>,
}

/// Looks for a query's messages and all that belongs to them.
pub(crate) fn gather(record: &Record, query: &Query) -> Cascade {
    let mut cascade = Cascade::default();
    let max = query.messages_max;
    cascade.look(record, &[query.sought()], max, |published| query.means(published));
    cascade.asked = cascade.mentions.iter().map(|mention| mention.place).collect();
    cascade.kin(record, max);
    cascade.causes(record, max);
    cascade.effects(record, max);
    cascade.mentions.sort_by_key(|mention| (mention.at, mention.place));
    cascade
}

impl Cascade {
    /// Adds what is found; returns what is new.
    fn look(
        &mut self,
        record: &Record,
        sought: &[Sought],
        max: usize,
        wanted: impl Fn(&Published) -> bool,
    ) -> Vec<Mention> {
        if sought.is_empty() || self.mentions.len() >= max {
            self.more |= !sought.is_empty();
            return Vec::new();
        }
        let known: HashSet<Place> = self.mentions.iter().map(|mention| mention.place).collect();
        let mut found = record.mentions(sought, max, wanted);
        self.more |= found.more;
        for damage in found.damage {
            if !self.damage.contains(&damage) {
                self.damage.push(damage);
            }
        }
        found.found.retain(|mention| !known.contains(&mention.place));
        let room = max - self.mentions.len();
        self.more |= found.found.len() > room;
        found.found.truncate(room);
        self.mentions.extend(found.found.iter().cloned());
        found.found
    }

    /// Messages with the correlation ids and traces of those that were asked for.
    fn kin(&mut self, record: &Record, max: usize) {
        let mut texts: Vec<String> = Vec::new();
        for Mention { published, .. } in &self.mentions {
            let correlation = published.attribute(Attribute::CorrelationId);
            let trace = published.attribute(Attribute::Traceparent).and_then(trace_id);
            texts.extend(correlation.into_iter().chain(trace).map(str::to_owned));
        }
        texts.sort_unstable();
        texts.dedup();
        let sought: Vec<_> = texts.iter().map(|text| Sought::text(text)).collect();
        let is_kin = |published: &Published| {
            let correlation = published.attribute(Attribute::CorrelationId);
            let trace = published.attribute(Attribute::Traceparent).and_then(trace_id);
            let mut own = correlation.into_iter().chain(trace);
            own.any(|own| texts.iter().any(|text| is_same(own, text)))
        };
        self.look(record, &sought, max, is_kin);
    }

    /// What messages came from.
    fn causes(&mut self, record: &Record, max: usize) {
        let mut level = self.mentions.clone();
        let mut seen: HashSet<String> = HashSet::new();
        for _ in 0..DEPTH_MAX {
            let causes = level.iter().filter_map(|mention| mention.published.attribute(Attribute::Cause));
            let causes: Vec<String> =
                causes.map(str::to_owned).filter(|it| seen.insert(it.clone())).collect();
            let sought: Vec<_> = causes.iter().map(|cause| Sought::text(cause)).collect();
            let is_cause = |published: &Published| causes.iter().any(|cause| is_named(published, cause));
            level = self.look(record, &sought, max, is_cause);
            if level.is_empty() {
                return;
            }
        }
    }

    /// What came of messages; and the other places that each of them came to.
    fn effects(&mut self, record: &Record, max: usize) {
        let mut level = self.mentions.clone();
        for _ in 0..DEPTH_MAX {
            let mut sought = Vec::new();
            for Mention { published, .. } in &level {
                sought.push(Sought::id(published.id));
                sought.extend(published.attribute(Attribute::MessageId).map(Sought::text));
            }
            sought.sort_unstable();
            sought.dedup();
            let of: Vec<&Published> = level.iter().map(|mention| &mention.published).collect();
            let ids: HashSet<_> = of.iter().map(|published| published.id).collect();
            let belongs = |published: &Published| {
                let cause = published.attribute(Attribute::Cause);
                let is_same_message = !published.id.0.is_nil() && ids.contains(&published.id);
                is_same_message || cause.is_some_and(|cause| of.iter().any(|it| is_named(it, cause)))
            };
            level = self.look(record, &sought, max, belongs);
            if level.is_empty() {
                return;
            }
        }
    }
}

/// Whether a message is what a text names.
pub(crate) fn is_named(published: &Published, text: &str) -> bool {
    is_same(&published.id.to_string(), text)
        || published.attribute(Attribute::MessageId).is_some_and(|id| is_same(id, text))
}
