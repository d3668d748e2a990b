//! What of which address is recorded: which part of its messages, and which business keys.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use std::collections::BTreeMap;
use waystation_base::{Name, name};
use xxhash_rust::xxh3::xxh3_64;

use crate::{fact::Place, path::Path};

/// Rules that there may be.
pub const RULES_MAX: usize = 256;
/// Business keys of one rule.
pub const BUSINESS_KEYS_MAX: usize = 16;

/// For addresses whose names a pattern stands for. The first rule that fits holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// A name or pattern: `*` is one word, `#` any number.
    pub address: String,
    /// Which part of the messages is recorded, from 0 (none) to 1 (all).
    #[serde(default = "whole")]
    pub sample: f64,
    /// Business keys by their names, and where their values are found.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub business: BTreeMap<SmolStr, KeyFrom>,
}

fn whole() -> f64 {
    1.0
}

/// Where a business key's value is found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum KeyFrom {
    /// In this header.
    Header(SmolStr),
    /// At this path of the JSON body, as jq writes paths.
    Jq(Path),
}

impl Rule {
    /// Whether it can be used; else why not.
    pub fn check(&self) -> Result<(), String> {
        if self.address.is_empty() {
            return Err("address must be a name or pattern".into());
        }
        if !(0.0..=1.0).contains(&self.sample) {
            return Err(format!("sample must lie between 0 and 1, is {}", self.sample));
        }
        if self.business.len() > BUSINESS_KEYS_MAX {
            let count = self.business.len();
            return Err(format!("an address may have {BUSINESS_KEYS_MAX} business keys, here are {count}"));
        }
        match self.business.keys().find(|name| name.is_empty() || name.contains(['=', ':'])) {
            Some(name) => {
                Err(format!("'{name}' is no name for a business key: it must not be empty nor hold = or :"))
            }
            None => Ok(()),
        }
    }
}

/// What holds for one address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terms {
    /// Hashes of places below this are recorded; `None` for all.
    below: Option<u64>,
    /// Business keys.
    pub business: Vec<(SmolStr, KeyFrom)>,
}

impl Terms {
    /// What holds for an address. The ledgers of Waystation's own are not recorded: they are records themselves.
    pub fn of(rules: &[Rule], address: Option<&Name>, is_topic: bool) -> Terms {
        let Some(address) = address else { return Terms::default() };
        let rule = rules.iter().find(|rule| name::matches(&rule.address, address.as_str()));
        match rule {
            Some(rule) => Terms {
                below: (rule.sample < 1.0).then_some((rule.sample * u64::MAX as f64) as u64),
                business: rule.business.iter().map(|(name, from)| (name.clone(), from.clone())).collect(),
            },
            None if address.is_reserved() && is_topic => Terms { below: Some(0), business: Vec::new() },
            None => Terms::default(),
        }
    }

    /// Whether nothing is recorded.
    pub fn is_off(&self) -> bool {
        self.below == Some(0)
    }

    /// Whether a message is recorded: told by its place alone, so that all that becomes of it is, or nothing.
    pub fn takes(&self, place: Place) -> bool {
        self.below.is_none_or(|below| xxh3_64(&place.key().to_le_bytes()) < below)
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::{EntityId, Offset};
    use waystation_broker::place::LogId;

    use super::*;

    fn rule(address: &str, sample: f64) -> Rule {
        Rule { address: address.into(), sample, business: BTreeMap::new() }
    }

    fn taken(terms: &Terms) -> usize {
        let log = LogId { entity: EntityId(1), log: 0 };
        (0..10_000).filter(|offset| terms.takes(Place { log, offset: Offset(*offset) })).count()
    }

    #[test]
    fn the_first_rule_that_fits_holds() {
        let rules = [rule("a.b", 1.0), rule("a.#", 0.0), rule("#", 0.1)];
        let of = |name| taken(&Terms::of(&rules, Some(&Name::new(name).expect("a name")), false));
        assert_eq!((of("a.b"), of("a.c")), (10_000, 0));
        assert!((800..1200).contains(&of("x")), "{}", of("x"));
        assert_eq!(taken(&Terms::of(&[], None, false)), 10_000);
    }

    #[test]
    fn ledgers_of_our_own_are_left_out_unless_a_rule_wants_them() {
        let ledger = Name::reserved("$calls").expect("a name");
        assert!(Terms::of(&[], Some(&ledger), true).is_off());
        assert!(!Terms::of(&[], Some(&ledger), false).is_off());
        assert!(!Terms::of(&[rule("$calls", 1.0)], Some(&ledger), true).is_off());
    }

    #[test]
    fn wrong_rules_are_told() {
        let key = |name: &str| (SmolStr::new(name), KeyFrom::Header("x".into()));
        assert!(
            rule("a", 1.5).check().is_err()
                && rule("", 1.0).check().is_err()
                && rule("a", 0.5).check().is_ok()
        );
        let with =
            |names: Vec<String>| Rule { business: names.iter().map(|n| key(n)).collect(), ..rule("a", 1.0) };
        let names = |count| (0..count).map(|n| format!("k{n}")).collect();
        assert!(with(names(BUSINESS_KEYS_MAX)).check().is_ok());
        assert!(with(names(BUSINESS_KEYS_MAX + 1)).check().is_err());
        assert!(with(vec!["a:b".into()]).check().is_err());
    }
}
