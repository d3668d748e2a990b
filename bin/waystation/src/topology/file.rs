//! How is a topology file read and written that declares operations, pushes, routes with steps, virtual hosts and users too?

use std::{collections::BTreeMap, fmt};

use serde::Deserialize;
use serde_json::{Map, Value, json};
use waystation_admin::{
    Topology,
    document::{self, Error, Format},
    export::{self, Unwritable},
    topology::unique,
};
use waystation_alerts::AlertSpec;
use waystation_base::Name;
use waystation_broker::spec::{QueueSpec, SubscriptionSpec, TopicSpec};
use waystation_calls::Operation;
use waystation_http::api::VhostSpec;
use waystation_webhooks::push::PushSpec;

use super::{
    declaration::{Declaration, Feature, Wrong},
    route::{Fields, Kind},
    subjects::{Subjects, UserFields},
};

/// Operations, pushes, routes with steps.
pub type Declarations = BTreeMap<(Feature, Name), Declaration>;

/// What a file says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct File {
    /// Queues, topics, subscriptions, routes.
    pub topology: Topology,
    /// What is offered above them.
    pub features: Declarations,
    /// Per declaration, what a server has and does not show.
    pub left_out: BTreeMap<(Feature, Name), Vec<String>>,
    /// Virtual hosts and users.
    pub subjects: Subjects,
}

/// The same as it is written. One table for each kind, so that each error has its place.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Document {
    #[serde(deserialize_with = "unique")]
    queues: BTreeMap<Name, QueueSpec>,
    #[serde(deserialize_with = "unique")]
    topics: BTreeMap<Name, TopicSpec>,
    #[serde(deserialize_with = "unique")]
    subscriptions: BTreeMap<Name, SubscriptionSpec>,
    #[serde(deserialize_with = "unique")]
    routes: BTreeMap<Name, Fields>,
    #[serde(deserialize_with = "unique")]
    operations: BTreeMap<Name, Operation>,
    #[serde(deserialize_with = "unique")]
    pushes: BTreeMap<Name, PushSpec>,
    #[serde(deserialize_with = "unique")]
    alerts: BTreeMap<Name, AlertSpec>,
    #[serde(deserialize_with = "unique")]
    vhosts: BTreeMap<String, VhostSpec>,
    #[serde(deserialize_with = "unique")]
    users: BTreeMap<String, UserFields>,
    /// What an export says of what it does not have; for people.
    #[serde(rename = "left_out")]
    _left_out: Map<String, Value>,
}

impl File {
    /// Reads a file, TOML or JSON, and checks every declaration in it.
    pub fn read(bytes: &[u8]) -> Result<File, Error> {
        let Document {
            queues, topics, subscriptions, routes, operations, pushes, alerts, vhosts, users, ..
        } = document::read(bytes)?;
        let operations = operations
            .into_iter()
            .map(|(name, spec)| ((Feature::Operation, name), Declaration::Operation(Box::new(spec))));
        let pushes =
            pushes.into_iter().map(|(name, spec)| ((Feature::Push, name), Declaration::Push(Box::new(spec))));
        let alerts = alerts
            .into_iter()
            .map(|(name, spec)| ((Feature::Alert, name), Declaration::Alert(Box::new(spec))));
        let text = document::text(bytes)?;
        let mut file = File {
            topology: Topology { queues, topics, subscriptions, routes: BTreeMap::new() },
            features: operations.chain(pushes).chain(alerts).collect(),
            left_out: BTreeMap::new(),
            subjects: Subjects { vhosts, users }.checked().map_err(|(target, wrong)| {
                wrong_in(text, &target.kind, (target.kind.table(), &target.name), wrong)
            })?,
        };
        for (name, fields) in routes {
            let kind = fields.read().map_err(|(field, reason)| {
                let at = document::locate_field(text, &["routes", name.as_str()], &field);
                Error::at(text, at, format!("route '{name}': field '{field}': {reason}"))
            })?;
            match kind {
                Kind::Bindings(route) => drop(file.topology.routes.insert(name, route)),
                Kind::Steps(spec) => {
                    drop(file.features.insert((Feature::Route, name), Declaration::Route(spec)));
                }
            }
        }
        file.topology.check_in(text)?;
        for ((feature, name), declaration) in &file.features {
            declaration
                .check(name)
                .map_err(|wrong| wrong_in(text, feature, (feature.table(), name.as_str()), wrong))?;
        }
        Ok(file)
    }

    /// How many declarations there are.
    pub fn count(&self) -> usize {
        self.topology.specs().len() + self.features.len() + self.subjects.count()
    }

    /// The file's text; defaults are left out, and what is secret, with a word about that.
    pub fn write(&self, format: Format) -> Result<String, Unwritable> {
        let text = export::write(&export::governed(&self.topology), format)?;
        match format {
            Format::Toml => {
                let text = self.subjects.said().into_iter().try_fold(text, |text, (target, said)| {
                    let one = json!({target.kind.table(): {target.name.as_str(): said}});
                    Ok(format!("{text}\n{}", toml::to_string(&one).map_err(Unwritable::new)?))
                })?;
                let mut features = self.features.iter();
                features.try_fold(text, |text, (key, declaration)| Ok(text + &self.toml(key, declaration)?))
            }
            Format::Json => Ok(self.json(&text)),
        }
    }

    fn toml(&self, key: &(Feature, Name), declaration: &Declaration) -> Result<String, Unwritable> {
        let (feature, name) = key;
        let one = json!({feature.table(): {name.as_str(): declaration.said()}});
        let written = toml::to_string(&one).map_err(Unwritable::new)?;
        let word = self.left_out.get(key).map_or_else(String::new, |left_out| {
            let what = left_out.join(", ");
            format!(
                "# Left out, because the server does not show it: {what}. Applied so, it keeps what it has.\n"
            )
        });
        Ok(format!("\n{word}{written}"))
    }

    fn json(&self, topology: &str) -> String {
        let mut all: Map<String, Value> = serde_json::from_str(topology).unwrap_or_default();
        let mut put = |table: &str, key: String, value: Value| {
            let table = all.entry(table).or_insert_with(|| json!({}));
            table[key] = value;
        };
        for ((feature, name), declaration) in &self.features {
            put(feature.table(), name.to_string(), Value::Object(declaration.said()));
        }
        for (target, said) in self.subjects.said() {
            put(target.kind.table(), target.name, Value::Object(said));
        }
        for ((feature, name), left_out) in &self.left_out {
            put("left_out", format!("{}.{name}", feature.table()), json!(left_out));
        }
        format!("{:#}\n", Value::Object(all))
    }
}

/// What is wrong in one declaration, where it stands.
fn wrong_in(
    text: &str,
    what: &dyn fmt::Display,
    (table, name): (&str, &str),
    (field, reason): Wrong,
) -> Error {
    let at = document::locate_field(text, &[table, name], &field);
    let field = if field.is_empty() { String::new() } else { format!("field '{field}': ") };
    Error::at(text, at, format!("{what} '{name}': {field}{reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        let error = File::read(text.as_bytes()).expect_err(text);
        assert!(error.to_string().contains(expected), "{error}\n  should say: {expected}");
    }

    const ALL: &str = "[queues.q]\n[operations.ship]\nqueue = 'q'\n[operations.ship.upstream]\nurl = 'https://a.example/'\n\
        retry = { first_ms = 5 }\n[pushes.p]\nqueue = 'q'\nurl = 'https://b.example/'\nbreaker = { failures = 7 }\n\
        [alerts.eu]\non = 'orders.eu.#'\nlag = { age_ms = 60000 }\noff = ['no_consumer']\n";

    #[test]
    fn what_is_written_reads_back_the_same_and_says_what_it_leaves_out() {
        let mut file = File::read(ALL.as_bytes()).expect("a good file");
        assert_eq!(file.count(), 4);
        let is_push = |key: &&(Feature, Name)| key.0 == Feature::Push;
        let key = file.features.keys().find(is_push).expect("a push").clone();
        file.left_out.insert(key, vec!["secrets (v1)".to_owned()]);
        for format in [Format::Toml, Format::Json] {
            let text = file.write(format).expect("written");
            assert!(text.contains("secrets (v1)") && !text.contains("timeout_ms"), "{text}");
            let read = File::read(text.as_bytes()).expect("read back");
            assert_eq!(
                (read.topology, read.features),
                (file.topology.clone(), file.features.clone()),
                "{text}"
            );
        }
    }

    #[test]
    fn errors_name_the_place_and_the_near_word() {
        check("[operation.a]", "did you mean 'operations'?");
        check("[operations.a]\ntimeout_s = 5", "line 2, column 1: unknown field `timeout_s`");
        check("[operations.a]\n\nmax_attempts = 0", "line 3, column 1: operation 'a': field 'max_attempts'");
        check(
            "[operations.a]\ncallback_secrets = ['x']",
            "line 2, column 1: operation 'a': field 'callback_secrets'",
        );
        check(
            "[operations.'$a']",
            "line 1, column 13: operation '$a': names that start with '$' are reserved",
        );
        check("[pushes.p]\nurl = 'https://a.example/'", "push 'p': field 'queue': give either");
        check("[pushes.p]\nqueue='q'\nconcurrency = 0", "line 3, column 1: push 'p': field 'concurrency'");
        check(
            "[pushes.p]\nqueue='q'\nretry = { jitter_percent = 101 }",
            "line 3, column 11: push 'p': field 'retry.jitter_percent'",
        );
        check(r#"{"pushes": {"p": {"queue": "q"}, "p": {"queue": "q"}}}"#, "'p' is declared twice");
    }
}
