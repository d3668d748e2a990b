//! What of which address is recorded: which part of its messages, and which business keys.

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;
use waystation_base::{Name, name};
use waystation_broker::spec::{BusinessKeys, KeyFrom, business::check_keys};
use xxhash_rust::xxh3::xxh3_64;

use crate::{fact::Place, tried::ATTEMPTS};

/// Rules that there may be.
pub const RULES_MAX: usize = 256;

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
    #[serde(default, skip_serializing_if = "BusinessKeys::is_empty")]
    pub business: BusinessKeys,
}

fn whole() -> f64 {
    1.0
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
        check_keys(&self.business)
    }
}

/// What holds for one address.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Terms {
    /// Hashes of places below this are recorded; `None` for all.
    below: Option<u64>,
    /// Business keys.
    pub business: Vec<(SmolStr, KeyFrom)>,
    /// It is where requests of pushes and callbacks are told of.
    pub tells_attempts: bool,
}

impl Terms {
    /// What holds for an address that declares these business keys: they come before those of a rule. The ledgers of Waystation's
    /// own are not recorded: they are records themselves.
    pub fn of(
        rules: &[Rule],
        address: Option<&Name>,
        is_topic: bool,
        declared: Option<&BusinessKeys>,
    ) -> Terms {
        let Some(address) = address else { return Terms::default() };
        // What comes back to a subscription is messages like others.
        let is_ledger = address.is_reserved() && is_topic && address.redriven_to().is_none();
        // A ledger is meant by its name only.
        let fits = |rule: &&Rule| match is_ledger {
            true => rule.address == address.as_str(),
            false => name::matches(&rule.address, address.as_str()),
        };
        let rule = rules.iter().find(fits);
        let below = match rule {
            Some(rule) => (rule.sample < 1.0).then_some((rule.sample * u64::MAX as f64) as u64),
            None if is_ledger => Some(0),
            None => None,
        };
        let configured = rule.into_iter().flat_map(|rule| &rule.business);
        let configured = configured.filter(|(name, _)| declared.is_none_or(|keys| !keys.contains_key(*name)));
        let business = declared.into_iter().flatten().chain(configured);
        let tells_attempts = address.as_str() == ATTEMPTS;
        Terms {
            below,
            tells_attempts,
            business: business.map(|(name, from)| (name.clone(), from.clone())).collect(),
        }
    }

    /// Whether nothing is recorded.
    pub fn is_off(&self) -> bool {
        self.below == Some(0)
    }

    /// Whether bodies are looked into.
    pub fn reads_bodies(&self) -> bool {
        self.business.iter().any(|(_, from)| matches!(from, KeyFrom::Jq(_)))
    }

    /// Whether a message is recorded: told by its place alone, so that all that becomes of it is, or nothing.
    pub fn takes(&self, place: Place) -> bool {
        self.below.is_none_or(|below| xxh3_64(&place.key().to_le_bytes()) < below)
    }
}

#[cfg(test)]
mod tests {
    use waystation_base::{EntityId, Offset};
    use waystation_broker::{place::LogId, spec::business::BUSINESS_KEYS_MAX};

    use super::*;

    fn rule(address: &str, sample: f64) -> Rule {
        Rule { address: address.into(), sample, business: BusinessKeys::new() }
    }

    fn taken(terms: &Terms) -> usize {
        let log = LogId { entity: EntityId(1), log: 0 };
        (0..10_000).filter(|offset| terms.takes(Place { log, offset: Offset(*offset) })).count()
    }

    #[test]
    fn the_first_rule_that_fits_holds() {
        let rules = [rule("a.b", 1.0), rule("a.#", 0.0), rule("#", 0.1)];
        let of = |name| taken(&Terms::of(&rules, Some(&Name::new(name).expect("a name")), false, None));
        assert_eq!((of("a.b"), of("a.c")), (10_000, 0));
        assert!((800..1200).contains(&of("x")), "{}", of("x"));
        assert_eq!(taken(&Terms::of(&[], None, false, None)), 10_000);
    }

    #[test]
    fn ledgers_of_our_own_are_left_out_unless_a_rule_wants_them() {
        let ledger = Name::reserved("$calls").expect("a name");
        assert!(Terms::of(&[], Some(&ledger), true, None).is_off());
        assert!(!Terms::of(&[], Some(&ledger), false, None).is_off());
        let redriven = Name::new("board").and_then(|name| name.redriven()).expect("a name");
        assert!(!Terms::of(&[], Some(&redriven), true, None).is_off());
        assert!(!Terms::of(&[rule("$calls", 1.0)], Some(&ledger), true, None).is_off());
        assert!(
            Terms::of(&[rule("#", 1.0)], Some(&ledger), true, None).is_off(),
            "a pattern does not mean ledgers"
        );
        assert!(!Terms::of(&[rule("#", 1.0)], Some(&redriven), true, None).is_off());
    }

    #[test]
    fn what_an_address_declares_comes_before_what_is_configured() {
        let keys = |json: &str| serde_json::from_str::<BusinessKeys>(json).expect("keys");
        let configured = Rule {
            business: keys(r#"{"order": {"header": "old"}, "shop": {"header": "shop"}}"#),
            ..rule("#", 1.0)
        };
        let declared = keys(r#"{"order": {"jq": ".order"}}"#);
        let name = Name::new("orders").expect("a name");
        let terms = Terms::of(&[configured], Some(&name), false, Some(&declared));
        let expected = keys(r#"{"order": {"jq": ".order"}, "shop": {"header": "shop"}}"#);
        assert_eq!(terms.business.into_iter().collect::<BusinessKeys>(), expected);
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
