//! What can be configured of the record of messages?

use serde::{Deserialize, Serialize};
use waystation_record::{Options, RULES_MAX, Rule};

use super::{Problem, problem, range};

/// What became of messages: how long that is kept, and of which.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Record {
    pub enabled: bool,
    pub retention_ms: u64,
    pub retention_bytes: u64,
    pub lag_bytes: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<Rule>,
}

impl Default for Record {
    fn default() -> Record {
        let Options { retention_ms, retention_bytes, rules, lag_bytes } = Options::default();
        Record { enabled: true, retention_ms, retention_bytes, lag_bytes, rules }
    }
}

impl Record {
    /// How the record is kept; none: it is not.
    pub fn options(&self) -> Option<Options> {
        let Record { enabled, retention_ms, retention_bytes, lag_bytes, rules } = self.clone();
        enabled.then_some(Options { retention_ms, retention_bytes, rules, lag_bytes })
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        range(["record", "retention_ms"], self.retention_ms, 1_000, 10 * 365 * 24 * 60 * 60 * 1000)?;
        range(["record", "retention_bytes"], self.retention_bytes, 1 << 20, 1 << 50)?;
        range(["record", "lag_bytes"], self.lag_bytes, 1 << 20, 1 << 50)?;
        if self.rules.len() > RULES_MAX {
            return problem(["record", "rules"], format!("may have {RULES_MAX} entries"));
        }
        match self.rules.iter().find_map(|rule| rule.check().err()) {
            Some(reason) => problem(["record", "rules"], reason),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn check(change: impl Fn(&mut Record), expected: Option<[&str; 2]>) {
        let mut record = Record::default();
        change(&mut record);
        assert_eq!(record.check().err().map(|problem| problem.path), expected, "{record:?}");
    }

    #[test]
    fn values_are_checked_at_their_bounds_and_past_them() {
        let rule = |sample| Rule { address: "a.#".into(), sample, business: BTreeMap::new() };
        check(|_| (), None);
        check(|it| it.retention_ms = 999, Some(["record", "retention_ms"]));
        check(|it| it.retention_bytes = 1 << 20, None);
        check(|it| it.retention_bytes = (1 << 20) - 1, Some(["record", "retention_bytes"]));
        check(|it| it.lag_bytes = 0, Some(["record", "lag_bytes"]));
        check(|it| it.rules = vec![rule(0.5); RULES_MAX], None);
        check(|it| it.rules = vec![rule(0.5); RULES_MAX + 1], Some(["record", "rules"]));
        check(|it| it.rules = vec![rule(1.1)], Some(["record", "rules"]));
        assert!(Record { enabled: false, ..Record::default() }.options().is_none());
    }
}
