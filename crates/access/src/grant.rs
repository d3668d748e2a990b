//! What may a user do in a virtual host? Regular expressions over names, as RabbitMQ's permissions.

use regex::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::caller::Action;

/// Bytes of one regular expression.
pub const REGEX_BYTES_MAX: usize = 4096;
/// Bytes that one may take when compiled.
const COMPILED_BYTES_MAX: usize = 256 << 10;
/// What the default exchange is called in permissions.
pub(crate) const DEFAULT_EXCHANGE: &str = "amq.default";

/// Permissions of one user in one virtual host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// Whose.
    pub user: String,
    /// Where.
    pub vhost: String,
    /// Names of exchanges and queues that it may declare, change and delete.
    pub configure: String,
    /// Names that it may publish to.
    pub write: String,
    /// Names that it may consume from.
    pub read: String,
}

/// Permissions of one user on the routing keys of one topic exchange.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicPermission {
    /// Whose.
    pub user: String,
    /// Where.
    pub vhost: String,
    /// On which exchange.
    pub exchange: String,
    /// Routing keys that it may publish with; `{username}` and `{vhost}` stand for what they say.
    pub write: String,
    /// Routing keys that it may bind with.
    pub read: String,
}

/// A regular expression ready for use.
#[derive(Clone, Debug)]
enum Rule {
    /// Every name.
    All,
    /// Only the empty name: what an empty expression means.
    Nothing,
    Regex(Regex),
}

impl Rule {
    fn new(text: &str) -> Result<Rule, String> {
        if text.len() > REGEX_BYTES_MAX {
            return Err(format!("it has {} bytes, {REGEX_BYTES_MAX} are allowed", text.len()));
        }
        match text {
            "" | "^$" => Ok(Rule::Nothing),
            ".*" | "^.*" | "^.*$" | ".*$" => Ok(Rule::All),
            _ => {
                let built = RegexBuilder::new(text).size_limit(COMPILED_BYTES_MAX).build();
                built.map(Rule::Regex).map_err(|error| error.to_string())
            }
        }
    }

    fn allows(&self, name: &str) -> bool {
        match self {
            Rule::All => true,
            Rule::Nothing => name.is_empty(),
            Rule::Regex(regex) => regex.is_match(name),
        }
    }
}

/// A [`Permission`] ready for use.
#[derive(Clone, Debug)]
pub(crate) struct Grant {
    pub permission: Permission,
    configure: Rule,
    write: Rule,
    read: Rule,
}

/// A [`TopicPermission`] ready for use.
#[derive(Clone, Debug)]
pub(crate) struct TopicGrant {
    pub permission: TopicPermission,
    write: Rule,
    read: Rule,
}

/// Which expression cannot be used, and why.
pub(crate) type Wrong = (&'static str, String);

impl Grant {
    pub fn new(permission: Permission) -> Result<Grant, Wrong> {
        let rule = |field, text: &str| Rule::new(text).map_err(|reason| (field, reason));
        Ok(Grant {
            configure: rule("configure", &permission.configure)?,
            write: rule("write", &permission.write)?,
            read: rule("read", &permission.read)?,
            permission,
        })
    }

    fn rule(&self, action: Action) -> &Rule {
        match action {
            Action::Configure => &self.configure,
            Action::Write => &self.write,
            Action::Read => &self.read,
        }
    }

    pub fn allows(&self, action: Action, name: &str) -> bool {
        self.rule(action).allows(if name.is_empty() { DEFAULT_EXCHANGE } else { name })
    }

    /// Whether every name is allowed.
    pub fn allows_all(&self, action: Action) -> bool {
        matches!(self.rule(action), Rule::All)
    }
}

impl TopicGrant {
    pub fn new(permission: TopicPermission) -> Result<TopicGrant, Wrong> {
        let expanded = |text: &str| {
            let user = regex::escape(&permission.user);
            text.replace("{username}", &user).replace("{vhost}", &regex::escape(&permission.vhost))
        };
        let rule = |field, text: &str| Rule::new(&expanded(text)).map_err(|reason| (field, reason));
        Ok(TopicGrant {
            write: rule("write", &permission.write)?,
            read: rule("read", &permission.read)?,
            permission,
        })
    }

    pub fn allows(&self, action: Action, key: &str) -> bool {
        match action {
            Action::Read => self.read.allows(key),
            Action::Write | Action::Configure => self.write.allows(key),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(expression: &str, name: &str, expected: bool) {
        let permission = Permission {
            user: "shop".into(),
            vhost: "/".into(),
            configure: String::new(),
            write: expression.into(),
            read: String::new(),
        };
        let grant = Grant::new(permission).expect("good");
        assert_eq!(grant.allows(Action::Write, name), expected, "{expression:?} on {name:?}");
        assert!(!grant.allows(Action::Read, name));
    }

    #[test]
    fn expressions_mean_what_they_mean_in_rabbitmq() {
        check(".*", "orders", true);
        check("^orders", "orders.eu", true);
        check("orders", "my-orders-2", true);
        check("^orders$", "orders.eu", false);
        check("", "orders", false);
        check("^$", "orders", false);
        check("^(amq\\.gen.*|amq\\.default)$", "", true);
        check("^orders", "", false);
        check(".*", "", true);
    }

    #[test]
    fn an_expression_holds_at_its_bound_and_is_refused_past_it() {
        assert!(Rule::new(&"x".repeat(REGEX_BYTES_MAX)).is_ok());
        assert!(Rule::new(&"x".repeat(REGEX_BYTES_MAX + 1)).is_err());
        assert!(Rule::new("(").is_err());
        assert!(Rule::new("((a{100}){100}){100}").is_err(), "too large when compiled");
    }

    #[test]
    fn a_topic_permission_knows_whose_it_is() {
        let permission = TopicPermission {
            user: "a.b".into(),
            vhost: "v".into(),
            exchange: "amq.topic".into(),
            write: "^{username}\\.".into(),
            read: "^{vhost}$".into(),
        };
        let grant = TopicGrant::new(permission).expect("good");
        assert!(grant.allows(Action::Write, "a.b.orders"));
        assert!(!grant.allows(Action::Write, "aXb.orders"));
        assert!(grant.allows(Action::Read, "v"));
        assert!(!grant.allows(Action::Read, "w"));
    }
}
