//! What can be configured of spans that go to a collector?

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use url::Url;
use waystation_otlp::Options;
use waystation_outbound::{Guard, guard::Rule};

use super::{Problem, problem, range};

/// Where spans go, if anywhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    pub headers: Vec<String>,
    pub service_name: String,
    pub timeout_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<PathBuf>,
}

impl Default for Otlp {
    fn default() -> Otlp {
        let (endpoint, headers, ca) = (None, Vec::new(), None);
        Otlp { endpoint, headers, service_name: "waystation".to_owned(), timeout_ms: 10_000, ca }
    }
}

impl Otlp {
    /// What the exporter takes; none if spans go nowhere.
    pub fn options(&self) -> Option<Options> {
        let endpoint = self.endpoint.clone()?;
        let headers = self.headers.iter().filter_map(|header| header.split_once('='));
        let headers =
            headers.map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned())).collect();
        let (service_name, timeout_ms) = (self.service_name.clone(), self.timeout_ms);
        Some(Options { endpoint, headers, service_name, timeout_ms })
    }

    /// Lets requests go to the collector and nowhere else: whoever configures it says where it is.
    pub fn guard(&self) -> Guard {
        let url = self.endpoint.as_ref().and_then(|endpoint| Url::parse(endpoint).ok());
        let host = url.as_ref().and_then(Url::host_str).map(|host| host.trim_matches(['[', ']']));
        let rule: Option<Rule> = host.and_then(|host| host.parse().ok());
        Guard::new("otlp", rule.into_iter().collect(), true)
    }

    pub(super) fn check(&self) -> Result<(), Problem> {
        range(["otlp", "timeout_ms"], self.timeout_ms, 100, 600_000)?;
        if let Some(header) = self.headers.iter().find(|header| !header.contains('=')) {
            return problem(["otlp", "headers"], format!("'{header}' is not NAME=VALUE"));
        }
        match self.options().map(|options| options.check()) {
            Some(Err(error)) => problem(["otlp", "endpoint"], error.to_string()),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_or_header_that_is_none_is_refused() {
        let check = |endpoint: &str, header: &str| {
            let headers = Some(header.to_owned()).filter(|header| !header.is_empty()).into_iter().collect();
            let otlp = Otlp { endpoint: Some(endpoint.to_owned()), headers, ..Otlp::default() };
            otlp.check().err().map(|problem| problem.path[1])
        };
        assert_eq!(check("http://127.0.0.1:4318", "authorization=Bearer a=b"), None);
        assert_eq!(check("http://[::1]:4318", ""), None);
        assert_eq!(check("127.0.0.1:4318", ""), Some("endpoint"));
        assert_eq!(check("http://a", "authorization"), Some("headers"));
        assert_eq!(Otlp::default().check().err(), None);
        assert_eq!(Otlp::default().options().map(|options| options.endpoint), None);
    }
}
