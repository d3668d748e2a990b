//! Which steps lead from what a server has to what a file says, operations, pushes and routes with steps included?

use std::{collections::BTreeSet, fmt};

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
    room,
    subjects::{self, Changes},
};

/// An operation, a push or a route with steps by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// What it is.
    pub kind: Feature,
    /// What it is called.
    pub name: Name,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
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
pub struct Step<T = Target> {
    /// With what.
    #[serde(flatten)]
    pub target: T,
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

/// Something that stands against a declaration, or that should be known about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Note<T = Target> {
    /// Which.
    #[serde(flatten)]
    pub target: T,
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
    /// Virtual hosts and users.
    pub subjects: Changes,
}

/// A step of one of the kinds.
#[derive(Clone, Copy, Debug)]
pub enum Each<'a> {
    /// Of the topology.
    Topology(&'a admin::Step),
    /// Of a feature.
    Feature(&'a Step),
    /// Of a virtual host or user.
    Subject(&'a Step<subjects::Target>),
}

impl Each<'_> {
    /// With what.
    pub fn target(&self) -> String {
        match self {
            Each::Topology(step) => render::target(&step.target),
            Each::Feature(step) => step.target.to_string(),
            Each::Subject(step) => step.target.to_string(),
        }
    }
}

impl Plan {
    /// The plan that makes `current` what `wanted` says; what the server says of each step is not in it yet.
    pub fn new(current: &File, wanted: &File, prune: bool) -> Plan {
        let topology = admin::plan(&current.topology, &with_queues(current, wanted), prune);
        let mut subjects = Changes::new(&current.subjects, &wanted.subjects);
        subjects.conflicts = room::lacking(&topology, &subjects, current, wanted);
        let mut plan = Plan { topology, subjects, ..Plan::default() };
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
            && self.subjects.is_empty()
    }

    /// Whether it can be carried out.
    pub fn is_possible(&self) -> bool {
        let subjects = &self.subjects.conflicts;
        self.topology.conflicts.is_empty() && self.conflicts.is_empty() && subjects.is_empty()
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
        let subject = |last: bool| {
            self.subjects.steps.iter().filter(move |step| step.lowers_queues() == last).map(Each::Subject)
        };
        subject(false).chain(lowered).chain(made).chain(features).chain(gone).chain(subject(true)).collect()
    }

    /// As lines of text.
    pub fn text(&self) -> String {
        let mut text: String = self.in_order().into_iter().map(one).collect();
        text += &render::notes(&self.topology);
        text += &notes('!', &self.conflicts);
        text += &notes('!', &self.subjects.conflicts);
        text += &notes('?', &self.subjects.warnings);
        format!("{text}{}\n", self.counts())
    }

    fn counts(&self) -> Counts {
        let mut counts = Counts::of(&self.topology);
        let actions = self.steps.iter().map(|it| &it.action);
        let actions = actions.chain(self.subjects.steps.iter().map(|it| &it.action));
        let (creations, changes): (Vec<_>, Vec<_>) =
            actions.partition(|it| matches!(it, Action::Create { .. }));
        counts.create += creations.len();
        counts.change += changes.len();
        counts.delete += self.removals.len();
        counts.unchanged += self.unchanged.len() + self.subjects.unchanged.len();
        counts.left += self.left.len();
        counts.conflicts += self.conflicts.len() + self.subjects.conflicts.len();
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
                Each::Subject(step) => json!(step),
            })
            .collect();
        let Plan { topology, subjects, .. } = self;
        let mut conflicts = values(&topology.conflicts);
        conflicts.extend(values(&self.conflicts));
        conflicts.extend(values(&subjects.conflicts));
        let mut unchanged = values(&topology.unchanged);
        unchanged.extend(values(&self.unchanged));
        unchanged.extend(values(&subjects.unchanged));
        let warnings = [values(&topology.warnings), values(&subjects.warnings)].concat();
        let left = [values(&topology.left), values(&self.left)].concat();
        json!({
            "steps": steps,
            "conflicts": conflicts,
            "warnings": warnings,
            "unchanged": unchanged,
            "left": left,
        })
    }
}

fn values(of: &[impl Serialize]) -> Vec<Value> {
    of.iter().map(|it| json!(it)).collect()
}

fn notes<T: fmt::Display>(sign: char, notes: &[Note<T>]) -> String {
    notes.iter().map(|Note { target, text }| format!("{sign} {target}: {text}\n")).collect()
}

fn one(each: Each<'_>) -> String {
    let (action, stays) = match each {
        Each::Topology(step) => return render::steps([step]),
        Each::Subject(step) => (&step.action, ""),
        Each::Feature(step) => (
            &step.action,
            match step.target.kind {
                Feature::Operation => "its calls go on",
                Feature::Push | Feature::Route => "its messages stay where they are",
                Feature::Alert => "others or the defaults hold",
            },
        ),
    };
    let (sign, lines): (_, Vec<String>) = match action {
        Action::Delete => return format!("- {} ({stays})\n", each.target()),
        Action::Create { said, .. } => {
            let line = |it: &Difference| format!("    {}: {}\n", it.field, render::value(&it.to));
            ("+", said.iter().map(line).collect())
        }
        Action::Change { differences, .. } => {
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
