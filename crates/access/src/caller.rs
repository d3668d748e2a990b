//! Who calls, and what may it do? Asked anew each time, so that a change takes effect at once.

use std::sync::Arc;

use waystation_base::{name, vhost};

use crate::{Access, grant::DEFAULT_EXCHANGE, token::Token, user::Tags};

/// What may be allowed on a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Action {
    /// Declare, change, purge, move and delete.
    Configure,
    /// Publish.
    Write,
    /// Receive, settle, follow and browse.
    Read,
}

impl Action {
    /// All of them.
    pub const ALL: [Action; 3] = [Action::Configure, Action::Write, Action::Read];
}

/// Somebody who was let in.
#[derive(Clone, Debug)]
pub struct Caller {
    access: Access,
    who: Who,
}

#[derive(Clone, Debug)]
enum Who {
    /// Somebody on this machine: everything is allowed.
    Local,
    /// The bearer of a token.
    Token(Arc<Token>),
    /// A user by name.
    User(Arc<str>),
}

impl Caller {
    pub(crate) fn token(access: Access, token: Arc<Token>) -> Caller {
        Caller { access, who: Who::Token(token) }
    }

    pub(crate) fn user(access: Access, name: &str) -> Caller {
        Caller { access, who: Who::User(name.into()) }
    }

    /// Somebody on this machine who needs no proof.
    pub fn local(access: Access) -> Caller {
        Caller { access, who: Who::Local }
    }

    /// The user's or token's name; nothing for somebody on this machine.
    pub fn name(&self) -> Option<&str> {
        match &self.who {
            Who::Local => None,
            Who::Token(token) => Some(&token.name),
            Who::User(name) => Some(name),
        }
    }

    /// In words, for a refusal.
    pub fn describe(&self) -> String {
        match &self.who {
            Who::Local => "the local caller".to_owned(),
            Who::Token(token) => format!("token '{}'", token.name),
            Who::User(name) => format!("user '{name}'"),
        }
    }

    /// The tags as they are now.
    pub fn tags(&self) -> Tags {
        match &self.who {
            Who::Local => Tags::parse("administrator"),
            Who::Token(token) => token.tags(),
            Who::User(name) => self.access.state().tags(name),
        }
    }

    /// Whether it is (still) let in at all.
    pub fn is_known(&self) -> bool {
        match &self.who {
            Who::Local => true,
            Who::Token(token) => self.access.has_token(token),
            Who::User(name) => self.access.state().has_user(name),
        }
    }

    /// Whether it may work in a virtual host.
    pub fn may_enter(&self, host: &str) -> bool {
        match &self.who {
            Who::Local => true,
            Who::User(name) => self.access.state().grant(name, host).is_some(),
            Who::Token(token) => {
                let mut patterns = Action::ALL.iter().flat_map(|action| token.patterns(*action));
                patterns.any(|pattern| reaches(pattern, host))
            }
        }
    }

    /// Whether it may do this to a name of a virtual host. The empty name, or `amq.default`, is the default exchange; a token,
    /// whose patterns are about addresses, may write to it if it may write to anything: see [`Caller::may_publish`].
    pub fn may(&self, action: Action, host: &str, name: &str) -> bool {
        match &self.who {
            Who::Local => true,
            Who::User(user) => {
                self.access.state().grant(user, host).is_some_and(|grant| grant.allows(action, name))
            }
            Who::Token(token) if matches!(name, "" | DEFAULT_EXCHANGE) => {
                action == Action::Write && token.patterns(action).iter().any(|pattern| reaches(pattern, host))
            }
            Who::Token(token) => token.covers(action, &vhost::join(host, name)),
        }
    }

    /// Whether it may publish to an exchange with a routing key: of the default exchange that is the queue's name.
    pub fn may_publish(&self, host: &str, exchange: &str, key: &str) -> bool {
        let by_key = exchange.is_empty() && matches!(self.who, Who::Token(_));
        self.may(Action::Write, host, if by_key { key } else { exchange })
    }

    /// Whether it may publish with, or bind by, a routing key of a topic exchange. Asked beside [`Caller::may`].
    pub fn may_topic(&self, action: Action, host: &str, exchange: &str, key: &str) -> bool {
        match &self.who {
            Who::Local | Who::Token(_) => true,
            Who::User(user) => {
                let state = self.access.state();
                state.topic_grant(user, host, exchange).is_none_or(|grant| grant.allows(action, key))
            }
        }
    }

    /// Whether it may do this to all that `asked`, an address or a pattern of addresses, stands for.
    pub fn may_all(&self, action: Action, asked: &str) -> bool {
        match &self.who {
            Who::Local => true,
            Who::Token(token) => token.covers(action, asked),
            // Waystation's own names belong to no virtual host: those who may see everything may look.
            Who::User(_) if asked.starts_with('$') => action == Action::Read && self.tags().may_monitor(),
            Who::User(user) => {
                let state = self.access.state();
                if !name::is_pattern(asked) {
                    let (host, plain) = vhost::split(asked);
                    return state.grant(user, &host).is_some_and(|grant| grant.allows(action, &plain));
                }
                // A regular expression covers a pattern if it covers everything in the only host that the pattern reaches.
                let host = host_of(asked);
                host.and_then(|host| state.grant(user, &host)).is_some_and(|grant| grant.allows_all(action))
            }
        }
    }

    /// Whether anything at all is allowed on an address, so that it may be seen.
    pub fn may_see(&self, address: &str) -> bool {
        Action::ALL.iter().any(|action| self.may_all(*action, address))
    }
}

/// The virtual host that a pattern's names lie in; nothing if they may lie in several.
fn host_of(pattern: &str) -> Option<String> {
    let first = pattern.split('.').next().unwrap_or_default();
    match first.split_once("::") {
        Some((host, _)) => vhost::unescape(host),
        None if matches!(first, "#" | "*") => None,
        None => Some(vhost::DEFAULT.to_owned()),
    }
}

/// Whether a token's pattern stands for some name of a host.
fn reaches(pattern: &str, host: &str) -> bool {
    host_of(pattern).is_none_or(|reached| reached == host)
}
