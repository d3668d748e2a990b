//! What is wrong now, and what no more? Decided from figures and the time alone.
//!
//! Something is raised as soon as its rule says so, and resolved only when it has been well for a while: what goes up and down around a
//! threshold is told once.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use waystation_base::{Millis, Name};
use waystation_broker::Vital;

use crate::{
    alert::{Alert, Kind, State, Thing},
    rule::{Settings, Terms},
};

/// For how long something must have been well before its alert is resolved.
pub(crate) const WELL_MS: u64 = 30_000;
/// Samples of a window.
const SAMPLES: u64 = 20;

/// What was seen of a queue or subscription before.
#[derive(Debug, Default)]
struct Seen {
    /// When how many had come, the oldest first.
    arrived: VecDeque<(Millis, u64)>,
    delivered: u64,
    /// Since when nobody consumed, nothing was handed out, and something waited.
    alone: Option<Millis>,
    /// Somebody consumed, or was handed something.
    was_used: bool,
}

/// What was found about one kind.
struct Finding {
    value: u64,
    threshold: u64,
    /// It is to be raised.
    bad: bool,
    /// It is well: not only a little below what is bad.
    good: bool,
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    seen: HashMap<(Thing, Name), Seen>,
    active: BTreeMap<String, Alert>,
    /// Since when something is well that was not.
    well: HashMap<String, Millis>,
}

impl Judge {
    /// One that knows what was raised before.
    pub fn new(active: impl IntoIterator<Item = Alert>) -> Judge {
        let active = active.into_iter().map(|alert| (alert.id.clone(), alert)).collect();
        Judge { active, ..Judge::default() }
    }

    /// What is raised now.
    pub fn active(&self) -> impl Iterator<Item = &Alert> {
        self.active.values()
    }

    /// Looks at all things; gives what was raised or resolved.
    pub fn look(&mut self, now: Millis, vitals: &[Vital], settings: &Settings) -> Vec<Alert> {
        let mut changes = Vec::new();
        let mut there = HashSet::new();
        for vital in vitals {
            let thing =
                if vital.kind == waystation_broker::Kind::Queue { Thing::Queue } else { Thing::Subscription };
            let terms = settings.of(&vital.name);
            let seen = self.seen.entry((thing, vital.name.clone())).or_default();
            let findings = seen.take_in(now, vital, &terms);
            for (kind, finding) in findings {
                let id = Alert::id_of(kind, thing, &vital.name);
                let finding = finding.filter(|_| !terms.off.contains(&kind));
                changes.extend(self.judge(now, &id, kind, thing, vital, finding, &terms));
                there.insert(id);
            }
        }
        let present: HashSet<(Thing, &Name)> = vitals
            .iter()
            .map(|vital| match vital.kind {
                waystation_broker::Kind::Queue => (Thing::Queue, &vital.name),
                _ => (Thing::Subscription, &vital.name),
            })
            .collect();
        self.seen.retain(|(thing, name), _| present.contains(&(*thing, name)));
        let gone: Vec<String> = self.active.keys().filter(|id| !there.contains(*id)).cloned().collect();
        for id in gone {
            changes.extend(self.resolve(now, &id, "it is gone"));
        }
        changes
    }

    fn judge(
        &mut self,
        now: Millis,
        id: &str,
        kind: Kind,
        thing: Thing,
        vital: &Vital,
        finding: Option<Finding>,
        terms: &Terms,
    ) -> Option<Alert> {
        let is_raised = self.active.contains_key(id);
        let Some(finding) = finding else {
            return if is_raised { self.resolve(now, id, "nothing is told of it any more") } else { None };
        };
        if is_raised {
            if !finding.good {
                self.well.remove(id);
                return None;
            }
            let since = *self.well.entry(id.to_owned()).or_insert(now);
            return if now.since(since) >= WELL_MS {
                self.resolve(now, id, "it is well again")
            } else {
                None
            };
        }
        if !finding.bad {
            return None;
        }
        let alert = Alert {
            id: id.to_owned(),
            kind,
            state: State::Raised,
            thing,
            name: vital.name.clone(),
            value: finding.value,
            threshold: finding.threshold,
            summary: summary(kind, thing, vital, &finding, terms),
            raised: now.0,
            resolved: None,
            runbook: kind.runbook().to_owned(),
            rule: terms.rule.clone(),
        };
        self.active.insert(id.to_owned(), alert.clone());
        Some(alert)
    }

    fn resolve(&mut self, now: Millis, id: &str, why: &str) -> Option<Alert> {
        self.well.remove(id);
        let mut alert = self.active.remove(id)?;
        (alert.state, alert.resolved) = (State::Resolved, Some(now.0));
        alert.summary = format!("{}; {why}", alert.summary);
        Some(alert)
    }
}

fn summary(kind: Kind, thing: Thing, vital: &Vital, finding: &Finding, terms: &Terms) -> String {
    let (name, value) = (&vital.name, finding.value);
    match kind {
        Kind::DeadLetters => {
            let seconds = terms.growth.within_ms / 1000;
            format!(
                "{value} dead letters came to {thing} '{name}' within {seconds} s; {} lie there",
                vital.waiting
            )
        }
        Kind::NoConsumer => {
            format!(
                "{} messages wait in {thing} '{name}', and for {} s nobody has consumed",
                vital.waiting,
                value / 1000
            )
        }
        Kind::Lag => {
            format!(
                "the oldest message of {thing} '{name}' is {} s old; {} wait",
                value / 1000,
                vital.waiting
            )
        }
    }
}

impl Seen {
    fn take_in(&mut self, now: Millis, vital: &Vital, terms: &Terms) -> [(Kind, Option<Finding>); 3] {
        // Dead letters lie where nobody consumes, for as long as it takes.
        let works = !vital.is_grave;
        [
            (Kind::DeadLetters, self.growth(now, vital, terms).filter(|_| vital.is_grave)),
            (Kind::NoConsumer, Some(self.absence(now, vital, terms)).filter(|_| works)),
            (Kind::Lag, Some(lag(now, vital, terms)).filter(|_| works)),
        ]
    }

    fn growth(&mut self, now: Millis, vital: &Vital, terms: &Terms) -> Option<Finding> {
        let window = terms.growth.within_ms;
        let begin = Millis(now.0.saturating_sub(window));
        if self.arrived.back().is_some_and(|(_, count)| *count > vital.arrived) {
            // It was deleted and made anew.
            self.arrived.clear();
        }
        while self.arrived.get(1).is_some_and(|(at, _)| *at <= begin) {
            self.arrived.pop_front();
        }
        let grew = vital.arrived - self.arrived.front().map_or(vital.arrived, |(_, count)| *count);
        let is_time = self.arrived.back().is_none_or(|(at, _)| now.since(*at) >= window / SAMPLES);
        if is_time {
            self.arrived.push_back((now, vital.arrived));
        }
        let threshold = terms.growth.messages;
        Some(Finding { value: grew, threshold, bad: grew >= threshold, good: grew < threshold.div_ceil(2) })
    }

    fn absence(&mut self, now: Millis, vital: &Vital, terms: &Terms) -> Finding {
        let moves = vital.delivered != self.delivered;
        self.was_used |= vital.consumers > 0 || vital.delivered > 0;
        self.delivered = vital.delivered;
        if vital.consumers > 0 || moves || vital.waiting == 0 {
            self.alone = None;
        } else {
            self.alone.get_or_insert(now);
        }
        let value = self.alone.map_or(0, |since| now.since(since));
        let threshold = terms.absence.for_ms;
        Finding { value, threshold, bad: self.was_used && value >= threshold, good: self.alone.is_none() }
    }
}

fn lag(now: Millis, vital: &Vital, terms: &Terms) -> Finding {
    let value = vital.oldest.map_or(0, |oldest| now.since(oldest));
    let threshold = terms.lag.age_ms;
    Finding { value, threshold, bad: value >= threshold, good: value < threshold / 2 }
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
