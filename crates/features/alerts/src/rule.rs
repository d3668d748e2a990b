//! When is something wrong enough to be told? Defaults for everything, and settings for some.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use waystation_base::{Name, name};

use crate::alert::Kind;

/// Longest time that a rule may speak of: a week.
const TIME_MS_MAX: u64 = 7 * 24 * 60 * 60 * 1000;
/// Shortest: things are looked at every few seconds.
const TIME_MS_MIN: u64 = 5_000;
/// Most messages that a rule may speak of.
const MESSAGES_MAX: u64 = 1_000_000_000;

/// When dead letters have grown too much.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Growth {
    /// So many came…
    pub messages: u64,
    /// …within so many milliseconds.
    pub within_ms: u64,
}

/// When a consumer is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Absence {
    /// Messages wait, and for so many milliseconds nobody consumes and none was handed out.
    pub for_ms: u64,
}

/// When something lags.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Lag {
    /// The oldest message that is not done is so many milliseconds old.
    pub age_ms: u64,
}

impl Default for Growth {
    fn default() -> Growth {
        Growth { messages: 10, within_ms: 5 * 60 * 1000 }
    }
}

impl Default for Absence {
    fn default() -> Absence {
        Absence { for_ms: 60 * 1000 }
    }
}

impl Default for Lag {
    fn default() -> Lag {
        Lag { age_ms: 10 * 60 * 1000 }
    }
}

/// Settings for the queues and subscriptions that a name or pattern stands for. What is left out is as by default; an unknown field is an error.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct AlertSpec {
    /// A name, or a pattern: `*` stands for one word, `#` for any number of words, words parted by dots. Of several that fit the longest holds, a name
    /// before any pattern.
    pub on: String,
    /// Of a queue where dead letters go: when they have grown too much.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letters: Option<Growth>,
    /// When a consumer is missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_consumer: Option<Absence>,
    /// When it lags.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub lag: Option<Lag>,
    /// Of these nothing is told.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub off: Vec<Kind>,
}

/// A field, and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

fn within(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), Invalid> {
    let reason = || format!("must lie between {min} and {max}, is {value}");
    if (min..=max).contains(&value) { Ok(()) } else { Err(Invalid { field, reason: reason() }) }
}

impl AlertSpec {
    /// Checks each field.
    pub fn check(&self) -> Result<(), Invalid> {
        if !name::is_pattern(&self.on) {
            Name::new(&self.on).map_err(|error| Invalid { field: "on", reason: error.to_string() })?;
        }
        let Growth { messages, within_ms } = self.dead_letters.unwrap_or_default();
        within("dead_letters.messages", messages, 1, MESSAGES_MAX)?;
        within("dead_letters.within_ms", within_ms, TIME_MS_MIN, TIME_MS_MAX)?;
        within("no_consumer.for_ms", self.no_consumer.unwrap_or_default().for_ms, TIME_MS_MIN, TIME_MS_MAX)?;
        within("lag.age_ms", self.lag.unwrap_or_default().age_ms, TIME_MS_MIN, TIME_MS_MAX)
    }
}

/// All settings, to find those that hold for a name.
#[derive(Clone, Debug, Default)]
pub(crate) struct Settings(Vec<(Name, AlertSpec)>);

/// What holds for one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Terms {
    pub growth: Growth,
    pub absence: Absence,
    pub lag: Lag,
    pub off: Vec<Kind>,
    /// The settings by name; none: the defaults.
    pub rule: Option<Name>,
}

impl Settings {
    pub fn new(mut all: Vec<(Name, AlertSpec)>) -> Settings {
        // Names before patterns, long ones first.
        all.sort_by_key(|(name, spec)| {
            (name::is_pattern(&spec.on), std::cmp::Reverse(spec.on.len()), name.clone())
        });
        Settings(all)
    }

    pub fn of(&self, thing: &Name) -> Terms {
        let fits = |spec: &AlertSpec| {
            spec.on == thing.as_str() || name::is_pattern(&spec.on) && name::matches(&spec.on, thing.as_str())
        };
        let Some((name, spec)) = self.0.iter().find(|(_, spec)| fits(spec)) else { return Terms::default() };
        Terms {
            growth: spec.dead_letters.unwrap_or_default(),
            absence: spec.no_consumer.unwrap_or_default(),
            lag: spec.lag.unwrap_or_default(),
            off: spec.off.clone(),
            rule: Some(name.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(json: &str) -> AlertSpec {
        serde_json::from_str(json).expect("settings")
    }

    fn name(text: &str) -> Name {
        Name::new(text).expect("a name")
    }

    #[test]
    fn a_name_holds_before_a_pattern_and_a_long_pattern_before_a_short_one() {
        let all = [("a", "#"), ("b", "orders.#"), ("c", "orders.eu"), ("d", "orders.eu.#")];
        let all = all.map(|(rule, on)| (name(rule), AlertSpec { on: on.into(), ..AlertSpec::default() }));
        let settings = Settings::new(all.to_vec());
        for (thing, rule) in [("bills", "a"), ("orders.us", "b"), ("orders.eu", "c"), ("orders.eu.x", "d")] {
            assert_eq!(settings.of(&name(thing)).rule, Some(name(rule)), "{thing}");
        }
        assert_eq!(Settings::default().of(&name("x")), Terms::default());
    }

    #[test]
    fn each_bound_holds_and_past_it_the_field_is_named() {
        let check = |json: &str, field: Option<&str>| {
            assert_eq!(spec(json).check().err().map(|invalid| invalid.field), field, "{json}");
        };
        check(r#"{"on": "orders.#"}"#, None);
        check(r#"{"on": ""}"#, Some("on"));
        check(r#"{"on": "$x"}"#, Some("on"));
        check(&format!(r#"{{"on": "a", "lag": {{"age_ms": {TIME_MS_MIN}}}}}"#), None);
        check(&format!(r#"{{"on": "a", "lag": {{"age_ms": {}}}}}"#, TIME_MS_MIN - 1), Some("lag.age_ms"));
        check(&format!(r#"{{"on": "a", "no_consumer": {{"for_ms": {TIME_MS_MAX}}}}}"#), None);
        check(
            &format!(r#"{{"on": "a", "no_consumer": {{"for_ms": {}}}}}"#, TIME_MS_MAX + 1),
            Some("no_consumer.for_ms"),
        );
        check(&format!(r#"{{"on": "a", "dead_letters": {{"messages": {MESSAGES_MAX}}}}}"#), None);
        check(
            &format!(r#"{{"on": "a", "dead_letters": {{"messages": {}}}}}"#, MESSAGES_MAX + 1),
            Some("dead_letters.messages"),
        );
        check(r#"{"on": "a", "dead_letters": {"within_ms": 1}}"#, Some("dead_letters.within_ms"));
    }
}
