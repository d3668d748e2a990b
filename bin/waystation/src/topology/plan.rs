//! Which steps lead from what a server has to what a file says, operations, pushes and routes with steps included?

use std::collections::BTreeSet;

use serde::Serialize;
use serde_json::{Value, json};
use waystation_admin::{
    self as admin,
    plan::Difference,
    render::{self, Counts},
};
use waystation_base::Name;
use waystation_broker::{Kind, Source, spec::Spec};
use waystation_calls::Operation;
use waystation_routes::spec::{Destination, Needs};

use super::{
    declaration::{Declaration, Feature},
    fields,
    file::File,
};

/// An operation, a push or a route with steps by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// What it is.
    pub kind: Feature,
    /// What it is called.
    pub name: Name,
}

/// What to do with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "action", rename_all = "snake_case")]
pub enum Action {
    /// Make it.
    Create {
        /// As this, and what is secret.
        spec: Value,
        /// Where this is not as if nothing was said.
        #[serde(skip)]
        said: Vec<Difference>,
    },
    /// Make it what is wanted.
    Change {
        /// That is, this, and what is secret.
        spec: Value,
        /// Where this differs from what is there.
        differences: Vec<Difference>,
    },
    /// Remove it.
    Delete,
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

impl Step {
    /// Whether an operation is to try less often than it does.
    fn lowers_attempts(&self) -> bool {
        let Action::Change { differences, .. } = &self.action else { return false };
        let lowers = |it: &Difference| {
            it.field == "max_attempts" && it.to.as_u64() < it.from.as_u64() && it.to.is_u64()
        };
        self.target.kind == Feature::Operation && differences.iter().any(lowers)
    }
}

/// Something that stands against a declaration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Which.
    #[serde(flatten)]
    pub target: Target,
    /// What.
    pub text: String,
}

/// How to get from one to the other.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Queues, topics, subscriptions, routes.
    pub topology: admin::Plan,
    /// What goes first, so that others may have its queues.
    pub removals: Vec<Step>,
    /// Operations, then pushes, then routes with steps.
    pub steps: Vec<Step>,
    /// What cannot be done.
    pub conflicts: Vec<Note>,
    /// What is there as it is wanted.
    pub unchanged: Vec<Target>,
    /// What is there and not wanted, and stays.
    pub left: Vec<Target>,
}

/// A step of either kind.
#[derive(Clone, Copy, Debug)]
pub enum Each<'a> {
    /// Of the topology.
    Topology(&'a admin::Step),
    /// Of a feature.
    Feature(&'a Step),
}

impl Each<'_> {
    /// With what.
    pub fn target(&self) -> String {
        match self {
            Each::Topology(step) => render::target(&step.target),
            Each::Feature(step) => format!("{} {}", step.target.kind, step.target.name),
        }
    }
}

impl Plan {
    /// The plan that makes `current` what `wanted` says; what the server says of each step is not in it yet.
    pub fn new(current: &File, wanted: &File, prune: bool) -> Plan {
        let topology = admin::plan(&current.topology, &with_queues(current, wanted), prune);
        let mut plan = Plan { topology, ..Plan::default() };
        for ((kind, name), declaration) in &wanted.features {
            let target = Target { kind: *kind, name: name.clone() };
            let spec = declaration.shown();
            let against = missing(declaration, current, wanted, prune);
            if let Some(text) = against.or_else(|| refused(name, declaration, current, wanted, prune)) {
                plan.conflicts.push(Note { target, text });
                continue;
            }
            let action = match current.features.get(&(*kind, name.clone())) {
                None => Action::Create {
                    spec,
                    said: fields::differences(&Value::Null, &Value::Object(declaration.said())),
                },
                Some(old) => Action::Change { differences: fields::differences(&old.shown(), &spec), spec },
            };
            match &action {
                // Whether what is secret differs, only the server knows.
                Action::Change { differences, .. }
                    if differences.is_empty() && declaration.secret_fields().is_empty() =>
                {
                    plan.unchanged.push(target)
                }
                _ => plan.steps.push(Step { target, action }),
            }
        }
        if !prune {
            plan.conflicts.extend(left_short(current, wanted));
        }
        for (kind, name) in current.features.keys().rev().filter(|key| !wanted.features.contains_key(key)) {
            let target = Target { kind: *kind, name: name.clone() };
            match prune {
                true => plan.removals.push(Step { target, action: Action::Delete }),
                false => plan.left.push(target),
            }
        }
        plan
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.topology.is_empty()
            && self.removals.is_empty()
            && self.steps.is_empty()
            && self.conflicts.is_empty()
    }

    /// Whether it can be carried out.
    pub fn is_possible(&self) -> bool {
        self.topology.conflicts.is_empty() && self.conflicts.is_empty()
    }

    /// All steps in order: what is declared comes after what it names, and what is named goes after what names it.
    pub fn in_order(&self) -> Vec<Each<'_>> {
        let deletes = |step: &&admin::Step| step.action == admin::Action::Delete;
        let made = self.topology.steps.iter().filter(|step| !deletes(step)).map(Each::Topology);
        let gone = self.topology.steps.iter().filter(deletes).map(Each::Topology);
        // Its queue may then come to give up earlier too.
        let lowered = self.steps.iter().filter(|step| step.lowers_attempts()).map(Each::Feature);
        let features = self.steps.iter().filter(|step| !step.lowers_attempts());
        let features = self.removals.iter().chain(features).map(Each::Feature);
        lowered.chain(made).chain(features).chain(gone).collect()
    }

    /// As lines of text.
    pub fn text(&self) -> String {
        let mut text: String = self.in_order().into_iter().map(one).collect();
        text += &render::notes(&self.topology);
        for Note { target, text: why } in &self.conflicts {
            text += &format!("! {} {}: {why}\n", target.kind, target.name);
        }
        format!("{text}{}\n", self.counts())
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::of(&self.topology);
        let creations = self.steps.iter().filter(|it| matches!(it.action, Action::Create { .. })).count();
        counts.create += creations;
        counts.change += self.steps.len() - creations;
        counts.delete += self.removals.len();
        counts.unchanged += self.unchanged.len();
        counts.left += self.left.len();
        counts.conflicts += self.conflicts.len();
        counts
    }

    /// As JSON, all kinds together.
    pub fn json(&self) -> Value {
        let steps: Vec<Value> = self
            .in_order()
            .into_iter()
            .map(|each| match each {
                Each::Topology(step) => json!(step),
                Each::Feature(step) => json!(step),
            })
            .collect();
        let topology = &self.topology;
        json!({
            "steps": steps,
            "conflicts": both(&topology.conflicts, &self.conflicts),
            "warnings": topology.warnings,
            "unchanged": both(&topology.unchanged, &self.unchanged),
            "left": both(&topology.left, &self.left),
        })
    }
}

fn both(one: &[impl Serialize], other: &[impl Serialize]) -> Vec<Value> {
    one.iter().map(|it| json!(it)).chain(other.iter().map(|it| json!(it))).collect()
}

fn one(each: Each<'_>) -> String {
    let (sign, lines): (_, Vec<String>) = match each {
        Each::Topology(step) => return render::steps([step]),
        Each::Feature(Step { action: Action::Delete, target }) => {
            let stays = match target.kind {
                Feature::Operation => "its calls go on",
                Feature::Push | Feature::Route => "its messages stay where they are",
                Feature::Alert => "others or the defaults hold",
            };
            return format!("- {} ({stays})\n", each.target());
        }
        Each::Feature(Step { action: Action::Create { said, .. }, .. }) => {
            let line = |it: &Difference| format!("    {}: {}\n", it.field, render::value(&it.to));
            ("+", said.iter().map(line).collect())
        }
        Each::Feature(Step { action: Action::Change { differences, .. }, .. }) => {
            let line = |it: &Difference| {
                format!("    {}: {} -> {}\n", it.field, render::value(&it.from), render::value(&it.to))
            };
            ("~", differences.iter().map(line).collect())
        }
    };
    format!("{sign} {}\n{}", each.target(), lines.concat())
}

/// Queues that operations and routes make for themselves.
fn queues(file: &File) -> BTreeSet<Name> {
    let made = |((_, name), declaration): (&(Feature, Name), &Declaration)| match declaration {
        Declaration::Operation(spec) => [spec.queue_name(name).ok(), spec.intake_name().ok().flatten()],
        Declaration::Route(spec) => {
            [spec.dead_letter(name).ok().filter(|_| spec.dead_letter.is_none()), None]
        }
        Declaration::Push(_) | Declaration::Alert(_) => [None, None],
    };
    file.features.iter().flat_map(made).flatten().collect()
}

/// What is wanted, with the queues that its operations feed: they are not pruned, for they would be made again.
fn with_queues(current: &File, wanted: &File) -> admin::Topology {
    let mut topology = wanted.topology.clone();
    for name in queues(wanted) {
        if let (Some(spec), false) = (current.topology.queues.get(&name), topology.queues.contains_key(&name))
        {
            topology.insert(name, Spec::Queue(spec.clone()));
        }
    }
    topology
}

/// What a push or route names and would not find.
fn missing(declaration: &Declaration, current: &File, wanted: &File, prune: bool) -> Option<String> {
    let is_there = |kind: Kind, name: &Name| {
        let stays = |file: &File| match kind {
            Kind::Queue => file.topology.queues.contains_key(name) || queues(file).contains(name),
            _ => file.topology.spec(kind, name).is_some(),
        };
        stays(wanted) || !prune && stays(current)
    };
    let (what, name) = needed(declaration)
        .into_iter()
        .find(|(kinds, name)| kinds.iter().all(|kind| !is_there(*kind, name)))?;
    let what: Vec<String> = what.iter().map(Kind::to_string).collect();
    Some(format!("its {} '{name}' is neither declared here nor there", what.join(" or ")))
}

fn operation(it: (&(Feature, Name), &Declaration)) -> Option<(Name, Operation)> {
    match it {
        ((_, name), Declaration::Operation(spec)) => Some((name.clone(), (**spec).clone())),
        _ => None,
    }
}

/// How often a queue hands a message out once the file is applied.
fn attempts(queue: &Name, current: &File, wanted: &File) -> Option<u32> {
    let queues = [&wanted.topology.queues, &current.topology.queues];
    queues.into_iter().find_map(|queues| queues.get(queue))?.max_attempts
}

/// Why the server would refuse it beside what else the file says, which is not there yet when it is asked.
fn refused(
    name: &Name,
    declaration: &Declaration,
    current: &File,
    wanted: &File,
    prune: bool,
) -> Option<String> {
    let Declaration::Operation(spec) = declaration else { return None };
    let stays = |key: &(Feature, Name)| !prune && !wanted.features.contains_key(key);
    let left = current.features.iter().filter(|(key, _)| stays(key));
    let all: Vec<_> = wanted.features.iter().chain(left).filter_map(operation).collect();
    let beside = spec.check_beside(name, all.iter().map(|(name, it)| (name, it)));
    let queue =
        || spec.queue_name(name).map_or(Ok(()), |it| spec.check_queue(&it, attempts(&it, current, wanted)));
    beside.and_then(|()| queue()).err().map(|error| error.to_string())
}

/// Operations that stay as they are, and whose queue would come to give up before they do.
fn left_short(current: &File, wanted: &File) -> Vec<Note> {
    let left = current.features.iter().filter(|(key, _)| !wanted.features.contains_key(*key));
    let short = |(name, spec): (Name, Operation)| {
        let queue = spec.queue_name(&name).ok().filter(|queue| wanted.topology.queues.contains_key(queue))?;
        let error = spec.check_queue(&queue, attempts(&queue, current, wanted)).err()?;
        Some(Note { target: Target { kind: Feature::Operation, name }, text: error.to_string() })
    };
    left.filter_map(operation).filter_map(short).collect()
}

/// What has to be there for it: something of one of these kinds, by this name.
fn needed(declaration: &Declaration) -> Vec<(&'static [Kind], Name)> {
    const ADDRESS: &[Kind] = &[Kind::Queue, Kind::Topic];
    let source = |source: Source| match source {
        Source::Queue(name) => (&[Kind::Queue][..], name),
        Source::Subscription(name) => (&[Kind::Subscription][..], name),
    };
    match declaration {
        Declaration::Operation(_) | Declaration::Alert(_) => Vec::new(),
        Declaration::Push(spec) => spec.source().ok().map(source).into_iter().collect(),
        Declaration::Route(spec) => {
            let named = |kinds: &'static [Kind], text: &Option<String>| {
                text.as_ref().and_then(|text| Name::new(text).ok()).map(|name| (kinds, name))
            };
            let from = [
                named(&[Kind::Queue], &spec.from.queue),
                named(&[Kind::Topic], &spec.from.topic),
                named(&[Kind::Subscription], &spec.from.subscription),
                named(ADDRESS, &spec.dead_letter),
            ];
            let targets = spec.sends().targets.into_iter().map(|target| match target {
                Destination::Address(name) => (ADDRESS, name),
                Destination::Route(name, _) => (&[Kind::Route][..], name),
            });
            let needs = spec.sends().needs.into_iter().map(|needs| match needs {
                Needs::Replies(name) => (&[Kind::Queue][..], name),
                Needs::Store(name) | Needs::Reads(name) => (&[Kind::Topic][..], name),
            });
            from.into_iter().flatten().chain(targets).chain(needs).collect()
        }
    }
}
