//! What shall a redrive do?

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use utoipa::ToSchema;
use waystation_base::{Message, Name, Value, limits::HEADER_NAME_BYTES_MAX, message::header};
use waystation_jq::Program;

use crate::{
    groups::Asked,
    limits::RATE_MAX,
    which::{Invalid, Which},
};

/// What a program of an edit is given, in this order.
pub(crate) const VARIABLES: [&str; 3] = ["cause", "error", "origin"];
/// Headers that an edit may name.
const EDIT_HEADERS_MAX: usize = 64;

/// What a redrive shall do. An unknown field is an error.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Spec {
    /// Queues to take dead letters from; none: all queues where dead letters go.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schema(value_type = Vec<String>)]
    pub from: Vec<Name>,
    /// Which of them.
    pub which: Which,
    /// The queue or topic to bring them to; none: each to where it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub to: Option<Name>,
    /// What to change in them on the way. What they were is kept for 30 days.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub edit: Option<Edit>,
    /// At most so many messages a second.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate: Option<u32>,
    /// At most so many messages in all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max: Option<u64>,
}

/// A change to each message.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Edit {
    /// Headers to set: text, number or boolean.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    #[schema(value_type = BTreeMap<String, Object>)]
    pub set: BTreeMap<String, Json>,
    /// Headers to take away.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub remove: Vec<String>,
    /// A jq program that makes the new body of the old one; it has one result. `$cause`, `$error` and `$origin` are what the dead letter says. Bodies
    /// of other types than JSON are brought to it and back, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub jq: Option<String>,
}

impl Spec {
    /// Checks all that shows without looking at what there is.
    pub fn check(&self) -> Result<(), Invalid> {
        self.which.check()?;
        if self.to.as_ref().is_some_and(|to| self.from.contains(to)) {
            return Err(Invalid::new("to", "is one of the queues that it takes from"));
        }
        if self.rate.is_some_and(|rate| rate == 0 || rate > RATE_MAX) {
            return Err(Invalid::new("rate", format!("must be 1 to {RATE_MAX} messages a second")));
        }
        if self.max == Some(0) {
            return Err(Invalid::new("max", "must be 1 at least"));
        }
        self.edit.as_ref().map_or(Ok(()), Edit::check)
    }

    /// What the groups in memory can answer of it; nothing if messages have to be read for that.
    pub(crate) fn asked(&self, queues: Vec<Name>) -> Option<Asked> {
        let Which { all: _, group, cause, origin, origin_kind, error, after, before, filter, ids } =
            &self.which;
        let by_groups = error.is_none() && filter.is_none() && ids.is_empty() && after.or(*before).is_none();
        let (group, cause, origin) = (group.clone(), cause.clone(), origin.clone());
        by_groups.then_some(Asked { queues: Some(queues), group, cause, origin, origin_kind: *origin_kind })
    }
}

impl Edit {
    fn check(&self) -> Result<(), Invalid> {
        if self.set.len() + self.remove.len() > EDIT_HEADERS_MAX {
            return Err(Invalid::new("edit", format!("may name {EDIT_HEADERS_MAX} headers")));
        }
        for name in self.set.keys().chain(&self.remove) {
            if name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX {
                let reason = format!("header name {name:?} must have 1 to {HEADER_NAME_BYTES_MAX} bytes");
                return Err(Invalid::new("edit", reason));
            }
            if name.starts_with("ws-") && !name.starts_with(header::BUSINESS_PREFIX) {
                return Err(Invalid::new("edit", format!("header {name:?} is Waystation's own")));
            }
        }
        self.program()?;
        let bad = self.set.iter().find(|(_, json)| value(json).is_none());
        bad.map_or(Ok(()), |(name, _)| {
            Err(Invalid::new("edit.set", format!("{name:?} must be text, a number or a boolean")))
        })
    }

    /// The program, compiled.
    pub(crate) fn program(&self) -> Result<Option<Program>, Invalid> {
        let compile = |text: &String| Program::compile(text, &VARIABLES);
        self.jq.as_ref().map(compile).transpose().map_err(|error| Invalid::new("edit.jq", error.to_string()))
    }

    /// Changes a message's headers.
    pub(crate) fn apply(&self, message: &mut Message) {
        self.remove.iter().for_each(|name| message.headers.remove(name));
        for (name, value) in self.set.iter().filter_map(|(name, json)| Some((name, value(json)?))) {
            message.headers.set(name.as_str(), value);
        }
    }
}

fn value(json: &Json) -> Option<Value> {
    Some(match json {
        Json::String(text) => Value::from(text.as_str()),
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match number.as_i64() {
            Some(number) => Value::I64(number),
            None => Value::F64(number.as_f64()?),
        },
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(json: &str, field: Option<&str>) {
        let spec: Spec = serde_json::from_str(json).expect("a spec");
        assert_eq!(spec.check().err().map(|invalid| invalid.field), field, "{json}");
    }

    #[test]
    fn what_cannot_be_meant_is_refused_by_its_field() {
        check(r#"{"which": {"all": true}}"#, None);
        check(r#"{}"#, Some("which"));
        check(r#"{"which": {"all": true}, "from": ["d"], "to": "d"}"#, Some("to"));
        check(&format!(r#"{{"which": {{"all": true}}, "rate": {RATE_MAX}, "max": 1}}"#), None);
        check(&format!(r#"{{"which": {{"all": true}}, "rate": {}}}"#, RATE_MAX + 1), Some("rate"));
        check(r#"{"which": {"all": true}, "rate": 0}"#, Some("rate"));
        check(r#"{"which": {"all": true}, "max": 0}"#, Some("max"));
        check(
            r#"{"which": {"all": true}, "edit": {"set": {"a": 1, "b": "x", "c": true}, "remove": ["d"]}}"#,
            None,
        );
        check(r#"{"which": {"all": true}, "edit": {"set": {"a": []}}}"#, Some("edit.set"));
        check(r#"{"which": {"all": true}, "edit": {"remove": ["ws-death-count"]}}"#, Some("edit"));
        check(r#"{"which": {"all": true}, "edit": {"remove": [""]}}"#, Some("edit"));
        check(r#"{"which": {"all": true}, "edit": {"jq": ".a = $error"}}"#, None);
        check(r#"{"which": {"all": true}, "edit": {"jq": ".a = ("}}"#, Some("edit.jq"));
        let headers = |count: usize| (0..count).map(|n| format!("h{n}")).collect::<Vec<_>>();
        let edit = |count| Edit { remove: headers(count), ..Edit::default() };
        assert_eq!(edit(EDIT_HEADERS_MAX).check(), Ok(()));
        assert!(edit(EDIT_HEADERS_MAX + 1).check().is_err());
    }
}
