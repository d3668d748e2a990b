//! Which messages a subscription or a browser wants: the filter dialects of CloudEvents Subscriptions
//! (`exact`, `prefix`, `suffix`, `all`, `any`, `not`) over a message's attributes.
//!
//! An attribute is a header by its name, or `key`, `priority`, or `topic`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{
    limits::{FILTER_DEPTH_MAX, HEADER_NAME_BYTES_MAX},
    message::Message,
    value::Value,
};

/// A condition on one message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Filter {
    /// Each named attribute has exactly this text.
    Exact(BTreeMap<String, String>),
    /// Each named attribute begins with this text.
    Prefix(BTreeMap<String, String>),
    /// Each named attribute ends with this text.
    Suffix(BTreeMap<String, String>),
    /// Every part holds.
    All(Vec<Filter>),
    /// Some part holds.
    Any(Vec<Filter>),
    /// The part does not hold.
    Not(Box<Filter>),
}

/// Why a filter was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Past [`FILTER_DEPTH_MAX`].
    #[error("a filter may be nested {FILTER_DEPTH_MAX} deep")]
    Depth,
    /// `exact: {}`, `all: []` and the like say nothing.
    #[error("a filter part must name at least one attribute or part")]
    Empty,
    /// No such attribute can be.
    #[error("attribute name {0:?} must have 1 to {HEADER_NAME_BYTES_MAX} bytes")]
    Attribute(String),
}

impl Filter {
    /// Checks depth and that each part says something.
    pub fn check(&self) -> Result<(), Error> {
        self.check_at(1)
    }

    fn check_at(&self, depth: usize) -> Result<(), Error> {
        if depth > FILTER_DEPTH_MAX {
            return Err(Error::Depth);
        }
        match self {
            Filter::Exact(texts) | Filter::Prefix(texts) | Filter::Suffix(texts) => {
                let bad = texts.keys().find(|name| name.is_empty() || name.len() > HEADER_NAME_BYTES_MAX);
                match bad {
                    Some(name) => Err(Error::Attribute(name.clone())),
                    None if texts.is_empty() => Err(Error::Empty),
                    None => Ok(()),
                }
            }
            Filter::All(parts) | Filter::Any(parts) if parts.is_empty() => Err(Error::Empty),
            Filter::All(parts) | Filter::Any(parts) => {
                parts.iter().try_for_each(|part| part.check_at(depth + 1))
            }
            Filter::Not(part) => part.check_at(depth + 1),
        }
    }

    /// Whether the condition holds for a message of that topic or queue.
    pub fn matches(&self, address: &str, message: &Message) -> bool {
        let each = |texts: &BTreeMap<String, String>, holds: fn(&str, &str) -> bool| {
            texts.iter().all(|(name, text)| with_attribute(address, message, name, |have| holds(have, text)))
        };
        match self {
            Filter::Exact(texts) => each(texts, |have, text| have == text),
            Filter::Prefix(texts) => each(texts, |have, text| have.starts_with(text)),
            Filter::Suffix(texts) => each(texts, |have, text| have.ends_with(text)),
            Filter::All(parts) => parts.iter().all(|part| part.matches(address, message)),
            Filter::Any(parts) => parts.iter().any(|part| part.matches(address, message)),
            Filter::Not(part) => !part.matches(address, message),
        }
    }
}

/// An attribute of a message of that topic or queue, as filters compare it.
pub fn attribute(address: &str, message: &Message, name: &str) -> Option<String> {
    let mut found = None;
    with_attribute(address, message, name, |have| {
        found = Some(have.to_owned());
        true
    });
    found
}

fn with_attribute(address: &str, message: &Message, name: &str, mut holds: impl FnMut(&str) -> bool) -> bool {
    match name {
        "topic" => holds(address),
        "key" => message.key.as_deref().and_then(|key| std::str::from_utf8(key).ok()).is_some_and(holds),
        "priority" => holds(&message.priority.to_string()),
        _ => match message.headers.get(name) {
            None | Some(Value::Null) => false,
            Some(Value::String(text)) => holds(text),
            Some(value) => {
                let mut plain = Vec::new();
                value.put_plain(&mut plain);
                std::str::from_utf8(&plain).is_ok_and(holds)
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(json: &str) -> Filter {
        serde_json::from_str(json).expect("a filter")
    }

    fn check(json: &str, expected: bool) {
        let mut message = Message { key: Some("N14228".into()), priority: 7, ..Message::default() };
        message.headers.set("type", "flight.late");
        message.headers.set("delay", 75);
        assert_eq!(filter(json).matches("flights", &message), expected, "{json}");
    }

    #[test]
    fn dialects_compare_attributes() {
        check(r#"{"exact":{"type":"flight.late"}}"#, true);
        check(r#"{"exact":{"type":"flight.late","delay":"76"}}"#, false);
        check(r#"{"exact":{"delay":"75","key":"N14228","priority":"7","topic":"flights"}}"#, true);
        check(r#"{"prefix":{"type":"flight."}}"#, true);
        check(r#"{"suffix":{"type":".early"}}"#, false);
        check(r#"{"not":{"exact":{"absent":"x"}}}"#, true);
        check(
            r#"{"all":[{"prefix":{"key":"N"}},{"any":[{"exact":{"type":"x"}},{"suffix":{"key":"8"}}]}]}"#,
            true,
        );
    }

    #[test]
    fn filters_that_say_nothing_or_nest_past_filter_depth_max_are_refused() {
        assert_eq!(filter(r#"{"all":[]}"#).check(), Err(Error::Empty));
        assert_eq!(filter(r#"{"exact":{}}"#).check(), Err(Error::Empty));
        assert_eq!(filter(r#"{"exact":{"":"x"}}"#).check(), Err(Error::Attribute(String::new())));
        let leaf = || filter(r#"{"exact":{"a":"b"}}"#);
        let nested = |depth| (1..depth).fold(leaf(), |inner, _| Filter::Not(Box::new(inner)));
        assert_eq!(nested(FILTER_DEPTH_MAX).check(), Ok(()));
        assert_eq!(nested(FILTER_DEPTH_MAX + 1).check(), Err(Error::Depth));
    }
}
