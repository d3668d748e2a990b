//! What can be configured of upstreams?

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use waystation_calls::limits::UPSTREAM_BUFFER_BYTES_MIN;
use waystation_outbound::{Guard, guard::Rule};

use super::{Problem, problem, range, webhooks::rules};

/// Where the upstreams of operations may be, and what they may use.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Upstreams {
    pub allow: Vec<String>,
    pub plain_http: bool,
    pub buffer_bytes_max: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Default for Upstreams {
    fn default() -> Upstreams {
        Upstreams { allow: Vec::new(), plain_http: false, buffer_bytes_max: 256 << 20, ca: None }
    }
}

impl Upstreams {
    fn rules(&self) -> Result<Vec<Rule>, String> {
        rules(&self.allow)
    }

    /// The guard, of a configuration that is good.
    pub fn guard(&self) -> Guard {
        Guard::new("upstreams", self.rules().unwrap_or_default(), self.plain_http)
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        range(["upstreams", "buffer_bytes_max"], self.buffer_bytes_max, UPSTREAM_BUFFER_BYTES_MIN, 1 << 40)?;
        match self.rules() {
            Ok(_) => Ok(()),
            Err(reason) => problem(["upstreams", "allow"], reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use waystation_outbound::guard::ALLOW_MAX;

    use super::*;

    #[test]
    fn what_is_allowed_and_used_is_checked_when_it_is_read() {
        let check = |upstreams: Upstreams| upstreams.check().err().map(|problem| problem.path);
        let allowing = |allow: &[&str]| {
            let allow = allow.iter().map(|rule| (*rule).to_owned()).collect();
            check(Upstreams { allow, ..Upstreams::default() })
        };
        assert_eq!(allowing(&["10.0.0.0/8", "*.svc.local", "billing.internal", "::1"]), None);
        assert_eq!(allowing(&["10.0.0.0/99"]), Some(["upstreams", "allow"]));
        assert_eq!(allowing(&vec!["a"; ALLOW_MAX]), None);
        assert_eq!(allowing(&vec!["a"; ALLOW_MAX + 1]), Some(["upstreams", "allow"]));
        let buffering = |buffer_bytes_max| check(Upstreams { buffer_bytes_max, ..Upstreams::default() });
        assert_eq!(buffering(UPSTREAM_BUFFER_BYTES_MIN), None);
        assert_eq!(buffering(UPSTREAM_BUFFER_BYTES_MIN - 1), Some(["upstreams", "buffer_bytes_max"]));
    }
}
