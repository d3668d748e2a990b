//! What is an operation, a push or a route with steps, for a file that declares all of them?

use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value, json};
use waystation_alerts::AlertSpec;
use waystation_base::Name;
use waystation_calls::{Operation, Upstream};
use waystation_routes::{Program, RouteSteps};
use waystation_webhooks::{Secret, push::PushSpec};

use super::fields;

/// What features declare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Feature {
    /// What can be called.
    Operation,
    /// What delivers to an endpoint.
    Push,
    /// What takes messages from a source and does steps with each.
    Route,
    /// From when on something is told of some queues and subscriptions.
    Alert,
}

impl Feature {
    /// The table of the file that holds these.
    pub fn table(self) -> &'static str {
        match self {
            Feature::Operation => "operations",
            Feature::Push => "pushes",
            Feature::Route => "routes",
            Feature::Alert => "alerts",
        }
    }

    /// Their path over HTTP.
    pub fn path(self) -> &'static str {
        match self {
            Feature::Alert => "alert-rules",
            other => other.table(),
        }
    }
}

impl fmt::Display for Feature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Feature::Operation => "operation",
            Feature::Push => "push",
            Feature::Route => "route",
            Feature::Alert => "alert rule",
        })
    }
}

/// One of them. What is secret is sent to the server and never shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declaration {
    /// Of an operation.
    Operation(Box<Operation>),
    /// Of a push.
    Push(Box<PushSpec>),
    /// Of a route with steps.
    Route(Box<RouteSteps>),
    /// Of the bounds of alerts.
    Alert(Box<AlertSpec>),
}

/// Which field is wrong, and why.
pub type Wrong = (String, String);

fn value(of: impl Serialize) -> Value {
    serde_json::to_value(of).unwrap_or_else(|error| unreachable!("texts and numbers are JSON: {error}"))
}

impl Declaration {
    /// Checks each field. Secrets may be left out, since the server may have them.
    pub fn check(&self, name: &Name) -> Result<(), Wrong> {
        if name.is_reserved() {
            return Err((String::new(), "names that start with '$' are reserved".to_owned()));
        }
        let secret = |field: &str, text: &str| match Secret::parse(text) {
            Ok(_) => Ok(()),
            Err(error) => Err((field.to_owned(), error.to_string())),
        };
        match self {
            Declaration::Operation(spec) => {
                spec.check(name).map_err(|error| (error.field.to_string(), error.reason))?;
                spec.secrets().iter().try_for_each(|it| secret("callback_secrets", &it.0))
            }
            Declaration::Push(spec) => {
                spec.check_said().map_err(|invalid| (invalid.field.to_owned(), invalid.reason))
            }
            Declaration::Route(spec) => {
                Program::compile(name, spec).map(drop).map_err(|invalid| (invalid.field, invalid.reason))
            }
            Declaration::Alert(spec) => {
                spec.check().map_err(|invalid| (invalid.field.to_owned(), invalid.reason))
            }
        }
    }

    /// All but what is secret.
    pub fn shown(&self) -> Value {
        match self {
            Declaration::Operation(spec) => value(spec.shown()),
            Declaration::Push(spec) => value(spec.shown()),
            Declaration::Route(spec) => value(spec),
            Declaration::Alert(spec) => value(spec),
        }
    }

    /// What of that is not as it would be if nothing was said.
    pub fn said(&self) -> Map<String, Value> {
        let silent = match self {
            Declaration::Operation(spec) => {
                let upstream = spec.upstream.as_ref().map(|_| Upstream::default());
                value(Operation { upstream, ..Operation::default() })
            }
            Declaration::Push(_) => value(PushSpec::default()),
            Declaration::Route(_) => value(RouteSteps::silent()),
            Declaration::Alert(_) => value(AlertSpec::default()),
        };
        fields::said(&silent, &self.shown())
    }

    /// What the server is sent: all of it.
    pub fn body(&self) -> Value {
        match self {
            Declaration::Operation(spec) => {
                let mut body = value(spec);
                if let Some(secrets) = &spec.callback_secrets {
                    body["callback_secrets"] = json!(secrets);
                }
                body
            }
            Declaration::Push(spec) => value(spec),
            Declaration::Route(spec) => value(spec),
            Declaration::Alert(spec) => value(spec),
        }
    }

    /// Fields that are given and never shown.
    pub fn secret_fields(&self) -> Vec<&'static str> {
        let given = match self {
            Declaration::Operation(spec) => {
                let headers = spec.upstream.as_ref().is_some_and(|upstream| upstream.headers.is_some());
                [("callback_secrets", spec.callback_secrets.is_some()), ("upstream.headers", headers)]
            }
            Declaration::Push(spec) => {
                [("secrets", !spec.secrets.is_empty()), ("headers", spec.headers.is_some())]
            }
            Declaration::Route(_) | Declaration::Alert(_) => return Vec::new(),
        };
        given.into_iter().filter_map(|(field, given)| given.then_some(field)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_sent_and_not_shown() {
        let operation: Operation = serde_json::from_value(json!({
            "callback_secrets": ["hunter1"],
            "upstream": {"url": "https://a.example/", "headers": {"authorization": "hunter2"}},
        }))
        .expect("an operation");
        let push: PushSpec = serde_json::from_value(json!({
            "queue": "q", "url": "https://a.example/", "secrets": ["hunter1"], "headers": {"a": "hunter2"},
        }))
        .expect("a push");
        for it in [Declaration::Operation(Box::new(operation)), Declaration::Push(Box::new(push))] {
            assert_eq!(it.secret_fields().len(), 2);
            let (shown, said, sent) =
                (it.shown().to_string(), json!(it.said()).to_string(), it.body().to_string());
            for secret in ["hunter1", "hunter2"] {
                assert!(
                    !shown.contains(secret) && !said.contains(secret) && sent.contains(secret),
                    "{shown} {sent}"
                );
            }
        }
    }
}
