//! What does a file say of virtual hosts and users, and what makes them so? They are those that limits are of.
//!
//! Neither is ever deleted by a file: with a virtual host goes all that is in it, and with a user whoever logs in by it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use waystation_access::USER_NAME_BYTES_MAX;
use waystation_admin::topology::unique;
use waystation_base::vhost;
use waystation_catalog::{RECORD_NAME_BYTES_MAX, default_vhost, terms::QueueType};
use waystation_http::api::{User, UserLimits, Vhost, VhostSpec};

use super::{
    declaration::Wrong,
    fields,
    plan::{Action, Note, Step},
};

/// Whom limits are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Subject {
    /// A set of names.
    Vhost,
    /// Somebody who logs in.
    User,
}

impl Subject {
    /// The table of the file that holds these, and their path over HTTP.
    pub fn table(self) -> &'static str {
        match self {
            Subject::Vhost => "vhosts",
            Subject::User => "users",
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Subject::Vhost => "virtual host",
            Subject::User => "user",
        })
    }
}

/// One of them by name, which may be any text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Target {
    /// What it is.
    pub kind: Subject,
    /// What it is called.
    pub name: String,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// What a file says of a user. What lets it in and what it may do is not said in a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct UserFields {
    /// How much it may have open at a time.
    pub limits: UserLimits,
}

/// Virtual hosts and users by name. This is also their part of the file: tables `[vhosts.NAME]` and `[users.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Subjects {
    /// Virtual hosts.
    #[serde(deserialize_with = "unique")]
    pub vhosts: BTreeMap<String, VhostSpec>,
    /// Users.
    #[serde(deserialize_with = "unique")]
    pub users: BTreeMap<String, UserFields>,
}

/// A virtual host of which nothing is said.
fn silent(name: &str) -> VhostSpec {
    let description = if name == vhost::DEFAULT { default_vhost().description } else { String::new() };
    VhostSpec { description, ..VhostSpec::default() }
}

fn value(of: impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_else(|error| unreachable!("texts and numbers are JSON: {error}"))
}

fn check_name(name: &str, most: usize) -> Result<(), Wrong> {
    let told = || format!("a name has 1 to {most} bytes, this one has {}", name.len());
    if (1..=most).contains(&name.len()) { Ok(()) } else { Err((String::new(), told())) }
}

fn check_vhost(name: &str, spec: &VhostSpec) -> Result<(), Wrong> {
    check_name(name, RECORD_NAME_BYTES_MAX)?;
    if let Some(kind) = spec.default_queue_type.as_deref().filter(|kind| QueueType::read(kind).is_none()) {
        let reason = format!("'{kind}' is none of classic, quorum and stream");
        return Err(("default_queue_type".to_owned(), reason));
    }
    spec.limits.check().map_err(|error| (format!("limits.{}", error.field), error.reason))
}

impl Subjects {
    /// Checks each of them, and lets the virtual host that is always there have its description unless another is given.
    pub fn checked(mut self) -> Result<Subjects, (Target, Wrong)> {
        for (name, spec) in &self.vhosts {
            let target = || Target { kind: Subject::Vhost, name: name.clone() };
            check_vhost(name, spec).map_err(|wrong| (target(), wrong))?;
        }
        for name in self.users.keys() {
            let target = || Target { kind: Subject::User, name: name.clone() };
            check_name(name, USER_NAME_BYTES_MAX).map_err(|wrong| (target(), wrong))?;
        }
        if let Some(spec) = self.vhosts.get_mut(vhost::DEFAULT)
            && spec.description.is_empty()
        {
            spec.description = silent(vhost::DEFAULT).description;
        }
        Ok(self)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.vhosts.len() + self.users.len()
    }

    /// Puts in what a server shows.
    pub fn insert_vhost(&mut self, it: Vhost) {
        let Vhost { name, description, tags, default_queue_type, limits, .. } = it;
        self.vhosts.insert(name, VhostSpec { description, tags, default_queue_type, limits });
    }

    /// Puts in what a server shows.
    pub fn insert_user(&mut self, it: User) {
        self.users.insert(it.name, UserFields { limits: it.limits });
    }

    /// What an export has of them: a user without limits and the virtual host that is always there need no word.
    pub fn said(&self) -> Vec<(Target, Map<String, Value>)> {
        let is_there_anyhow = |target: &Target| target.kind == Subject::User || target.name == vhost::DEFAULT;
        let all = self.targets().map(|target| (self.said_of(&target), target));
        let needed = all.filter(|(said, target)| !said.is_empty() || !is_there_anyhow(target));
        needed.map(|(said, target)| (target, said)).collect()
    }

    /// What of one is not as it would be if nothing was said.
    fn said_of(&self, target: &Target) -> Map<String, Value> {
        let silent = match target.kind {
            Subject::Vhost => value(silent(&target.name)),
            Subject::User => value(UserFields::default()),
        };
        fields::said(&silent, &self.of(target).unwrap_or_default())
    }

    fn of(&self, target: &Target) -> Option<Value> {
        match target.kind {
            Subject::Vhost => self.vhosts.get(&target.name).map(value),
            Subject::User => self.users.get(&target.name).map(value),
        }
    }

    fn targets(&self) -> impl Iterator<Item = Target> + '_ {
        let all = |kind, name: &String| Target { kind, name: name.clone() };
        let vhosts = self.vhosts.keys().map(move |name| all(Subject::Vhost, name));
        vhosts.chain(self.users.keys().map(move |name| all(Subject::User, name)))
    }
}

/// What makes them what a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// What to do.
    pub steps: Vec<Step<Target>>,
    /// What will not work as it is.
    pub warnings: Vec<Note<Target>>,
    /// What cannot be done.
    pub conflicts: Vec<Note<Target>>,
    /// What is there as it is wanted.
    pub unchanged: Vec<Target>,
}

impl Changes {
    /// From what is there to what is wanted.
    pub fn new(current: &Subjects, wanted: &Subjects) -> Changes {
        let mut changes = Changes::default();
        for target in wanted.targets() {
            let spec = wanted.of(&target).unwrap_or_default();
            match current.of(&target) {
                Some(old) if old == spec => changes.unchanged.push(target),
                Some(old) => {
                    let differences = fields::differences(&old, &spec);
                    changes.steps.push(Step { target, action: Action::Change { spec, differences } });
                }
                None => {
                    changes.warnings.extend(let_in_by_nothing(&target));
                    let said = fields::differences(&Value::Null, &wanted.said_of(&target).into());
                    changes.steps.push(Step { target, action: Action::Create { spec, said } });
                }
            }
        }
        changes
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty() && self.conflicts.is_empty()
    }
}

fn let_in_by_nothing(target: &Target) -> Option<Note<Target>> {
    let name = &target.name;
    let text = format!("no password lets it in until `waystation user password {name}` gives it one");
    (target.kind == Subject::User).then(|| Note { target: target.clone(), text })
}

impl Step<Target> {
    /// Whether it lets a virtual host have fewer queues than it may have: that waits until the others are made and gone.
    pub fn lowers_queues(&self) -> bool {
        let Action::Change { differences, .. } = &self.action else { return false };
        let most = |value: &Value| value.as_u64().unwrap_or(u64::MAX);
        differences.iter().any(|it| it.field == "limits.max_queues" && most(&it.to) < most(&it.from))
    }

    /// What the server is sent: all of a virtual host, and of a user its limits.
    pub fn body(&self) -> Value {
        match (&self.action, self.target.kind) {
            (Action::Create { spec, .. }, _) | (Action::Change { spec, .. }, Subject::Vhost) => spec.clone(),
            (Action::Change { spec, .. }, Subject::User) => {
                let limit = |name: &str| spec["limits"].get(name).cloned().unwrap_or_default();
                json!({"limits": {"max_connections": limit("max_connections"), "max_channels": limit("max_channels")}})
            }
            (Action::Delete, _) => Value::Null,
        }
    }
}
