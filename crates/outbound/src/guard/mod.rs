//! Where may a request go? Never to this machine, its network or a cloud's metadata, unless somebody allowed it by name or network.
//!
//! The name is resolved where the connection is made, every address is checked, and the connection goes to one of those
//! addresses: nothing is resolved a second time, so a name that changes its answer (DNS rebinding) gains nothing.

mod address;
mod resolver;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    str::FromStr,
    sync::Arc,
};

use url::{Host, Url};

pub use address::{Network, why_denied};
pub(crate) use resolver::Guarded;
pub use resolver::{Found, Lookup, SystemLookup};

/// Bytes of a target's URL.
pub const URL_BYTES_MAX: usize = 2_048;
/// Rules of one allow-list.
pub const ALLOW_MAX: usize = 1_000;

/// Why a request does not go out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No URL at all.
    #[error("is not a URL: {0}")]
    Url(String),
    /// Past [`URL_BYTES_MAX`].
    #[error("a URL may have {URL_BYTES_MAX} bytes")]
    TooLong,
    /// Neither http nor https.
    #[error("must begin with https:// or http://, not {0}:")]
    Scheme(String),
    /// Plain HTTP where that is not allowed.
    #[error(
        "must begin with https:// ({section}.plain_http, or an entry in {section}.allow for this host, permits http://)"
    )]
    Plain {
        /// Where that is configured.
        section: &'static str,
    },
    /// A name or password in the URL.
    #[error("a URL may not carry a user or password; give a header instead")]
    UserInfo,
    /// An address that is not for the outside.
    #[error("{host} leads to {address}, which is {what}; an entry in {section}.allow permits it")]
    Address {
        /// As it stands in the URL.
        host: String,
        /// Where it leads.
        address: IpAddr,
        /// What that is.
        what: &'static str,
        /// Where it is configured what may be reached all the same.
        section: &'static str,
    },
    /// Nothing answers to the name.
    #[error("{0} cannot be resolved: {1}")]
    Unresolved(String, String),
}

/// One entry of an allow-list: a network (`10.1.0.0/16`, `fd00::/8`, an address), a host (`hooks.internal`), or all below a
/// domain (`*.svc.local`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Addresses.
    Network(Network),
    /// One host.
    Host(String),
    /// Every host below a domain; begins with a dot.
    Below(String),
}

/// Not a rule.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is neither a network like 10.1.0.0/16 nor a host like hooks.internal or *.svc.local")]
pub struct NoRule(String);

impl FromStr for Rule {
    type Err = NoRule;

    fn from_str(text: &str) -> Result<Rule, NoRule> {
        if let Ok(network) = text.parse() {
            return Ok(Rule::Network(network));
        }
        let (name, is_below) = text.strip_prefix("*.").map_or((text, false), |name| (name, true));
        let is_host = |name: &str| {
            !name.is_empty()
                && name.len() <= 253
                && name.split('.').all(|label| {
                    !label.is_empty()
                        && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
                })
                // A mistyped address must not become a host.
                && !name.split('.').all(|label| label.bytes().all(|b| b.is_ascii_digit()))
        };
        let name = name.to_ascii_lowercase();
        match is_host(&name) {
            true if is_below => Ok(Rule::Below(format!(".{name}"))),
            true => Ok(Rule::Host(name)),
            false => Err(NoRule(text.to_owned())),
        }
    }
}

/// The rules of one server. Clones share them.
#[derive(Clone)]
pub struct Guard(Arc<Inner>);

struct Inner {
    section: &'static str,
    rules: Vec<Rule>,
    plain_http: bool,
    is_open: bool,
    lookup: Arc<dyn Lookup>,
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Guard({:?})", self.0.rules)
    }
}

impl Guard {
    /// Denies what is not for the outside, but for these rules. `plain_http`: whether http:// is permitted everywhere.
    /// `section`: where both are configured, for whoever is refused.
    pub fn new(section: &'static str, rules: Vec<Rule>, plain_http: bool) -> Guard {
        Guard::with_lookup(section, rules, plain_http, Arc::new(SystemLookup))
    }

    /// The same with another way to resolve names.
    pub fn with_lookup(
        section: &'static str,
        rules: Vec<Rule>,
        plain_http: bool,
        lookup: Arc<dyn Lookup>,
    ) -> Guard {
        Guard(Arc::new(Inner { section, rules, plain_http, is_open: false, lookup }))
    }

    /// Lets everything through: for somebody who names the target himself on his own machine.
    pub fn open() -> Guard {
        Guard(Arc::new(Inner {
            section: "webhooks",
            rules: Vec::new(),
            plain_http: true,
            is_open: true,
            lookup: Arc::new(SystemLookup),
        }))
    }

    /// Reads a target and checks what can be checked before its name is resolved.
    pub fn target(&self, text: &str) -> Result<Url, Refusal> {
        if text.len() > URL_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        // The parser turns every way to write an address (decimal, octal, hexadecimal, with parts left out) into the one.
        let url = Url::parse(text).map_err(|error| Refusal::Url(error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Refusal::UserInfo);
        }
        let host = match url.host() {
            Some(Host::Ipv4(address)) => Ok(IpAddr::V4(address)),
            Some(Host::Ipv6(address)) => Ok(IpAddr::V6(address)),
            Some(Host::Domain(name)) => Err(name),
            None => return Err(Refusal::Url("there is no host".to_owned())),
        };
        let is_named = match host {
            Ok(address) => {
                self.check_address("the host", address)?;
                self.allows_address(address)
            }
            Err(name) => self.allows_host(name),
        };
        if url.scheme() == "http" && !self.0.plain_http && !is_named {
            return Err(Refusal::Plain { section: self.0.section });
        }
        Ok(url)
    }

    fn allows_host(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        self.0.is_open
            || self.0.rules.iter().any(|rule| match rule {
                Rule::Host(name) => *name == host,
                Rule::Below(domain) => host.ends_with(domain.as_str()) && host.len() > domain.len(),
                Rule::Network(_) => false,
            })
    }

    fn allows_address(&self, address: IpAddr) -> bool {
        self.0.is_open
            || self
                .0
                .rules
                .iter()
                .any(|rule| matches!(rule, Rule::Network(network) if network.contains(address)))
    }

    fn check_address(&self, host: &str, address: IpAddr) -> Result<(), Refusal> {
        match why_denied(address) {
            Some(what) if !self.allows_address(address) => {
                Err(Refusal::Address { host: host.to_owned(), address, what, section: self.0.section })
            }
            _ => Ok(()),
        }
    }

    /// Resolves a name, once, and refuses it if any of its addresses is denied.
    pub async fn resolve(&self, host: &str) -> Result<Vec<SocketAddr>, Refusal> {
        let unresolved = |why: &dyn fmt::Display| Refusal::Unresolved(host.to_owned(), why.to_string());
        let addresses = self.0.lookup.lookup(host.to_owned()).await.map_err(|error| unresolved(&error))?;
        if addresses.is_empty() {
            return Err(unresolved(&"it has no address"));
        }
        if !self.allows_host(host) {
            addresses.iter().try_for_each(|address| self.check_address(host, address.ip()))?;
        }
        Ok(addresses)
    }
}

#[cfg(test)]
mod tests;
