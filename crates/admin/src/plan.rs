//! Which steps lead from the topology that is there to the one that is wanted, and in which order?

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde_json::Value;
use waystation_base::{Name, name};
use waystation_broker::{
    Kind,
    spec::{Spec, SubscriptionSpec, TopicSpec},
};

use crate::{
    bindings::{self, Binding},
    topology::Topology,
};

/// How to get from one topology to another.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Plan {
    /// What to do, in this order.
    pub steps: Vec<Step>,
    /// What cannot be done; with any of these the plan must not be carried out.
    pub conflicts: Vec<Note>,
    /// What will probably not work as meant.
    pub warnings: Vec<Note>,
    /// What is there as it is wanted.
    pub unchanged: Vec<Target>,
    /// What is there and not wanted, and stays because nothing is to be pruned.
    pub left: Vec<Target>,
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// With what.
    #[serde(flatten)]
    pub target: Target,
    /// What to do.
    #[serde(flatten)]
    pub action: Action,
}

/// What to do with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Make it.
    Create {
        /// As this.
        spec: Spec,
    },
    /// Make it what is wanted.
    Change {
        /// That is, this.
        spec: Spec,
        /// Where this differs from what is there.
        differences: Vec<Difference>,
    },
    /// Let the route hand on.
    Bind {
        /// By this.
        binding: Binding,
    },
    /// Let the route not hand on any more.
    Unbind {
        /// By this.
        binding: Binding,
    },
    /// Remove it with what it holds.
    Delete,
}

/// One field of a declaration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Its name.
    pub field: String,
    /// What is there.
    pub from: Value,
    /// What is wanted.
    pub to: Value,
}

/// A thing with a name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Target {
    /// What it is.
    pub kind: Kind,
    /// What it is called.
    pub name: Name,
}

/// Something to say about one declaration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Which.
    #[serde(flatten)]
    pub target: Target,
    /// What.
    pub text: String,
}

impl Plan {
    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.conflicts.is_empty()
    }
}

/// The plan that makes `current` what `wanted` says. What is there and not wanted stays, or goes with `prune`, except
/// for what belongs to sessions (exclusive, auto-delete, temporary) or to Waystation itself.
pub fn plan(current: &Topology, wanted: &Topology, prune: bool) -> Plan {
    let (have, want) = (current.specs(), wanted.specs());
    let mut plan = Plan { warnings: warnings(current, wanted), ..Plan::default() };
    plan.conflicts = without_topic(current, wanted, prune);
    let (mut creations, mut changes, mut deletions) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
    for ((kind, name), spec) in want.iter().map(|(key, spec)| (key.clone(), spec.clone())) {
        let target = Target { kind, name };
        if plan.conflicts.iter().any(|note| note.target == target) {
            continue;
        }
        match have.get(&(kind, target.name.clone())) {
            None => match taken(current, &target) {
                Some(text) => plan.conflicts.push(Note { target, text }),
                None => drop(creations.insert(target, spec)),
            },
            Some(old) => match (differences(old, &spec), obstacle(old, &spec)) {
                (differences, _) if differences.is_empty() => plan.unchanged.push(target),
                (_, Some(text)) => plan.conflicts.push(Note { target, text }),
                (differences, None) => drop(changes.insert(target, (spec, differences))),
            },
        }
    }
    for ((kind, name), spec) in have.iter().filter(|(key, _)| !want.contains_key(key)) {
        let target = Target { kind: *kind, name: name.clone() };
        match is_kept(name, spec) {
            true => {}
            false if prune => drop(deletions.insert(target, spec.clone())),
            false => plan.left.push(target),
        }
    }
    for target in in_order(creations.keys(), &want) {
        let spec = creations[&target].clone();
        plan.steps.push(Step { target, action: Action::Create { spec } });
    }
    for target in in_order(changes.keys(), &want) {
        let (spec, differences) = changes[&target].clone();
        plan.steps.push(Step { target, action: Action::Change { spec, differences } });
    }
    for target in in_order(deletions.keys(), &have).into_iter().rev() {
        plan.steps.push(Step { target, action: Action::Delete });
    }
    bindings::plan(current, wanted, prune, &mut plan);
    plan
}

/// What a file does not govern: it belongs to sessions, or to Waystation itself.
pub fn is_kept(name: &Name, spec: &Spec) -> bool {
    let passing = match spec {
        Spec::Queue(spec) => spec.exclusive || spec.auto_delete || !spec.durable,
        Spec::Topic(_) => false,
        Spec::Route(spec) => spec.auto_delete || !spec.durable || bindings::is_predeclared(name),
        Spec::Subscription(spec) => spec.temporary,
    };
    passing || name.is_reserved()
}

/// Fields that differ.
pub fn differences(from: &Spec, to: &Spec) -> Vec<Difference> {
    let (from, to) = (fields(from), fields(to));
    let changed = to.into_iter().filter_map(|(field, to)| {
        let from = from.get(&field).cloned().unwrap_or(Value::Null);
        (from != to).then_some(Difference { field, from, to })
    });
    changed.collect()
}

/// The fields that are not as they would be if nothing was said. A subscription's topic always counts as said.
pub fn said(spec: &Spec) -> Vec<(String, Value)> {
    let silent = match spec {
        Spec::Queue(_) => Spec::Queue(Default::default()),
        Spec::Topic(_) => Spec::Topic(Default::default()),
        Spec::Route(_) => Spec::Route(Default::default()),
        Spec::Subscription(_) => Spec::Subscription(SubscriptionSpec::new("")),
    };
    differences(&silent, spec).into_iter().map(|difference| (difference.field, difference.to)).collect()
}

fn fields(spec: &Spec) -> BTreeMap<String, Value> {
    let value = match spec {
        Spec::Queue(spec) => serde_json::to_value(spec),
        Spec::Topic(spec) => serde_json::to_value(spec),
        Spec::Route(spec) => serde_json::to_value(spec),
        Spec::Subscription(spec) => serde_json::to_value(spec),
    };
    match value {
        Ok(Value::Object(fields)) => fields.into_iter().collect(),
        other => unreachable!("a declaration is written as an object, not {other:?}"),
    }
}

/// Why a new name cannot be had.
fn taken(current: &Topology, target: &Target) -> Option<String> {
    let other = match target.kind {
        Kind::Subscription | Kind::Route => None,
        _ => current.address(target.name.as_str()),
    }?;
    Some(format!("the name is taken by a {other}: delete that first, or use another name"))
}

/// Why one declaration cannot become the other.
fn obstacle(from: &Spec, to: &Spec) -> Option<String> {
    match (from, to) {
        (Spec::Topic(TopicSpec { partitions: from, .. }), Spec::Topic(TopicSpec { partitions: to, .. }))
            if to < from =>
        {
            Some(format!("partitions may grow and not shrink: there are {from}, wanted are {to}"))
        }
        (Spec::Subscription(from), Spec::Subscription(to)) if from.topic != to.topic => {
            let (from, to) = (&from.topic, &to.topic);
            Some(format!(
                "it reads '{from}' and cannot come to read '{to}': delete it first, or use another name"
            ))
        }
        _ => None,
    }
}

/// Targets in an order in which what a declaration names comes before it; circles are broken by name.
fn in_order<'a>(
    targets: impl Iterator<Item = &'a Target>,
    specs: &BTreeMap<(Kind, Name), Spec>,
) -> Vec<Target> {
    let waiting: BTreeSet<Target> = targets.cloned().collect();
    let (mut seen, mut ordered) = (BTreeSet::new(), Vec::new());
    for first in &waiting {
        // A stack of our own: a chain of dead letters may be as long as the file.
        let mut path = vec![(first.clone(), false)];
        while let Some((target, done)) = path.pop() {
            if done {
                ordered.push(target);
            } else if seen.insert(target.clone()) {
                let named = names(&specs[&(target.kind, target.name.clone())]);
                path.push((target, true));
                let before = named.into_iter().flat_map(|name| {
                    [Kind::Queue, Kind::Topic].map(|kind| Target { kind, name: name.clone() })
                });
                path.extend(before.filter(|it| waiting.contains(it)).map(|it| (it, false)));
            }
        }
    }
    ordered
}

/// The addresses that a declaration names.
fn names(spec: &Spec) -> Vec<Name> {
    let (dead_letter, topic) = match spec {
        Spec::Queue(spec) => (spec.dead_letter.as_deref(), None),
        Spec::Topic(_) | Spec::Route(_) => (None, None),
        Spec::Subscription(spec) => (spec.dead_letter.as_deref(), Some(spec.topic.as_str())),
    };
    // A pattern names no topic.
    dead_letter.into_iter().chain(topic).filter_map(|name| Name::new(name).ok()).collect()
}

/// Subscriptions to topics that will not be there. A pattern may match nothing for now.
fn without_topic(current: &Topology, wanted: &Topology, prune: bool) -> Vec<Note> {
    let is_own = |name: &str| name::TOLD.contains(&name);
    let stays = |name: &str| {
        is_own(name) || wanted.topics.contains_key(name) || !prune && current.topics.contains_key(name)
    };
    let lacking =
        wanted.subscriptions.iter().filter(|(_, spec)| !name::is_pattern(&spec.topic) && !stays(&spec.topic));
    let note = |(name, spec): (&Name, &SubscriptionSpec)| Note {
        target: Target { kind: Kind::Subscription, name: name.clone() },
        text: format!("its topic '{}' is neither declared here nor there", spec.topic),
    };
    lacking.map(note).collect()
}

/// What declarations name and what will not be there: messages would stay where they are until it is, or be dropped.
fn warnings(current: &Topology, wanted: &Topology) -> Vec<Note> {
    let exists = |name: &str| wanted.address(name).or(current.address(name)).is_some();
    let is_route = |name: &str| wanted.routes.contains_key(name) || current.routes.contains_key(name);
    let mut notes = Vec::new();
    for ((kind, name), spec) in wanted.specs() {
        let (address, route) = match &spec {
            Spec::Queue(spec) => {
                // An empty one goes by name.
                let route = spec.dead_letter_route.as_deref().filter(|route| !route.is_empty());
                (spec.dead_letter.as_deref(), ("dead_letter_route", route))
            }
            Spec::Topic(_) => continue,
            Spec::Subscription(spec) => (spec.dead_letter.as_deref(), ("", None)),
            Spec::Route(spec) => (None, ("alternate", spec.alternate.as_deref())),
        };
        let missing = address.filter(|address| !exists(address)).map(|name| ("dead_letter", name));
        let field = route.0;
        let missing = missing.or(route.1.filter(|route| !is_route(route)).map(|name| (field, name)));
        if let Some((field, named)) = missing {
            let text = format!("its {field} '{named}' is neither declared here nor there");
            notes.push(Note { target: Target { kind, name }, text });
        }
    }
    notes
}
