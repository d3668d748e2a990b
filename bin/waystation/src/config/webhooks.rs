//! What can be configured of webhooks?

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use waystation_webhooks::{
    Guard, Secret,
    guard::{ALLOW_MAX, Rule},
    push::spec::Hidden,
    sign::SECRETS_MAX,
};

use super::{Problem, problem};

/// Where webhooks may go.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    pub allow: Vec<String>,
    pub plain_http: bool,
    pub callback_secrets: Vec<Hidden>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

/// Reads what may be reached besides the outside.
pub(super) fn rules(allow: &[String]) -> Result<Vec<Rule>, String> {
    if allow.len() > ALLOW_MAX {
        return Err(format!("may have {ALLOW_MAX} entries"));
    }
    allow.iter().map(|rule| rule.parse::<Rule>().map_err(|error| error.to_string())).collect()
}

impl Webhooks {
    fn rules(&self) -> Result<Vec<Rule>, String> {
        rules(&self.allow)
    }

    /// The guard, of a configuration that is good.
    pub fn guard(&self) -> Guard {
        Guard::new("webhooks", self.rules().unwrap_or_default(), self.plain_http)
    }

    /// What signs callbacks.
    pub fn secrets(&self) -> Result<Vec<Secret>, String> {
        if self.callback_secrets.len() > SECRETS_MAX {
            return Err(format!("may have {SECRETS_MAX} entries"));
        }
        self.callback_secrets
            .iter()
            .map(|secret| Secret::parse(&secret.0).map_err(|error| error.to_string()))
            .collect()
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        if let Err(reason) = self.secrets() {
            return problem(["webhooks", "callback_secrets"], reason);
        }
        match self.rules() {
            Ok(_) => Ok(()),
            Err(reason) => problem(["webhooks", "allow"], reason),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_allowed_is_checked_when_it_is_read() {
        let check = |allow: &[&str]| {
            let allow = allow.iter().map(|rule| (*rule).to_owned()).collect();
            Webhooks { allow, ..Webhooks::default() }.check().err().map(|problem| problem.path)
        };
        assert_eq!(check(&["10.0.0.0/8", "*.svc.local", "hooks.internal", "::1"]), None);
        assert_eq!(check(&["10.0.0.0/99"]), Some(["webhooks", "allow"]));
        let secret = |text: &str| {
            let callback_secrets = vec![Hidden(text.to_owned())];
            Webhooks { callback_secrets, ..Webhooks::default() }.check().err().map(|problem| problem.path)
        };
        assert_eq!(secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"), None);
        assert_eq!(secret("hunter2"), Some(["webhooks", "callback_secrets"]));
        assert_eq!(check(&vec!["a"; ALLOW_MAX]), None);
        assert_eq!(check(&vec!["a"; ALLOW_MAX + 1]), Some(["webhooks", "allow"]));
    }
}
