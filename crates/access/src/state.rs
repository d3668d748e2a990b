//! Which users and permissions are there? A picture of the documents in the broker, ready to be asked.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::de::DeserializeOwned;
use waystation_base::{Name, vhost};

use crate::{
    check::Secret,
    grant::{Grant, Permission, TopicGrant, TopicPermission},
    user::{GUEST, Tags, User},
};

/// Users at a time.
pub const USERS_MAX: usize = 100_000;
/// What the names of these documents begin with.
pub(crate) const PREFIX: &str = "access/";

/// A user ready to be asked.
#[derive(Clone)]
pub(crate) struct Known {
    pub user: User,
    pub secret: Arc<Secret>,
}

/// Users and permissions at one time.
#[derive(Clone, Default)]
pub(crate) struct State {
    pub users: BTreeMap<String, Known>,
    /// By user, then by virtual host.
    pub grants: HashMap<String, BTreeMap<String, Grant>>,
    /// By user, then by virtual host and exchange.
    pub topics: HashMap<String, BTreeMap<(String, String), TopicGrant>>,
    /// Whether a token is configured: then there is no guest who is not declared.
    pub has_tokens: bool,
    /// What the guest may do who is there before anybody is declared.
    guest: BTreeMap<String, Grant>,
}

/// The name of a document, made of any texts.
pub(crate) fn document(kind: &str, parts: &[&str]) -> String {
    let mut name = format!("{PREFIX}{kind}");
    for part in parts {
        name.push('/');
        // A single '%' is what no text is escaped to.
        name += &if part.is_empty() { "%".to_owned() } else { vhost::escape(part).replace('/', "%2F") };
    }
    name
}

pub(crate) fn user_document(name: &str) -> String {
    document("user", &[name])
}

pub(crate) fn permission_document(host: &str, user: &str) -> String {
    document("permission", &[host, user])
}

pub(crate) fn topic_document(host: &str, user: &str, exchange: &str) -> String {
    document("topic-permission", &[host, user, exchange])
}

fn read<T: DeserializeOwned>(name: &str, body: &[u8]) -> Option<T> {
    match serde_json::from_slice(body) {
        Ok(value) => Some(value),
        Err(error) => {
            tracing::error!(document = name, %error, "a document cannot be read; whom it is about is not let in by it");
            None
        }
    }
}

impl State {
    /// The picture of these documents. One that cannot be read allows nothing.
    pub fn read(documents: Vec<(Name, impl AsRef<[u8]>)>, has_tokens: bool) -> State {
        let mut state = State { has_tokens, ..State::default() };
        for (name, body) in documents {
            let (name, body) = (name.as_str(), body.as_ref());
            match name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/')).map(|(kind, _)| kind) {
                Some("user") => read(name, body).into_iter().for_each(|user| state.put_user(user)),
                Some("permission") => {
                    let grant = read(name, body).map(Grant::new);
                    grant.and_then(Result::ok).into_iter().for_each(|grant| state.put_grant(grant));
                }
                Some("topic-permission") => {
                    let grant = read(name, body).map(TopicGrant::new);
                    grant.and_then(Result::ok).into_iter().for_each(|grant| state.put_topic(grant));
                }
                _ => tracing::warn!(document = name, "a document that this version does not know"),
            }
        }
        state.settle_guest();
        state
    }

    pub fn put_user(&mut self, user: User) {
        let secret = Arc::new(Secret::new(user.hashing_algorithm, user.password_hash.clone()));
        self.users.insert(user.name.clone(), Known { user, secret });
    }

    pub fn put_grant(&mut self, grant: Grant) {
        let Permission { user, vhost, .. } = grant.permission.clone();
        self.grants.entry(user).or_default().insert(vhost, grant);
    }

    pub fn put_topic(&mut self, grant: TopicGrant) {
        let TopicPermission { user, vhost, exchange, .. } = grant.permission.clone();
        self.topics.entry(user).or_default().insert((vhost, exchange), grant);
    }

    /// To be called after each change: whether the guest is there who is not declared.
    pub fn settle_guest(&mut self) {
        let administrator = self.users.values().any(|known| known.user.tags.is_administrator());
        let is_there = !self.has_tokens && !administrator && !self.users.contains_key(GUEST);
        self.guest = if is_there {
            BTreeMap::from([(vhost::DEFAULT.to_owned(), everything(GUEST))])
        } else {
            BTreeMap::new()
        };
    }

    /// Whether the guest is there without being declared.
    pub fn has_implicit_guest(&self) -> bool {
        !self.guest.is_empty()
    }

    pub fn has_user(&self, name: &str) -> bool {
        self.users.contains_key(name) || (name == GUEST && self.has_implicit_guest())
    }

    pub fn tags(&self, name: &str) -> Tags {
        match self.users.get(name) {
            Some(known) => known.user.tags.clone(),
            None if self.has_user(name) => Tags::parse("administrator"),
            None => Tags::default(),
        }
    }

    /// What a user may do in a virtual host. The guest who is not declared may do everything everywhere.
    pub fn grant(&self, user: &str, host: &str) -> Option<&Grant> {
        if user == GUEST && self.has_implicit_guest() {
            return self.guest.get(vhost::DEFAULT);
        }
        self.users.get(user).and_then(|_| self.grants.get(user)?.get(host))
    }

    pub fn topic_grant(&self, user: &str, host: &str, exchange: &str) -> Option<&TopicGrant> {
        let grants = self.topics.get(user)?;
        grants.get(&(host.to_owned(), exchange.to_owned()))
    }
}

/// Everything, in the default virtual host.
fn everything(user: &str) -> Grant {
    let all = || ".*".to_owned();
    let vhost = vhost::DEFAULT.to_owned();
    let permission = Permission { user: user.to_owned(), vhost, configure: all(), write: all(), read: all() };
    Grant::new(permission).unwrap_or_else(|_| unreachable!("it has no expression to be wrong"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{caller::Action, password::Algorithm};

    fn documents(pairs: &[(String, &str)]) -> Vec<(Name, Vec<u8>)> {
        let pair = |(name, body): &(String, &str)| Some((Name::new(name).ok()?, body.as_bytes().to_vec()));
        pairs.iter().filter_map(pair).collect()
    }

    #[test]
    fn documents_become_users_with_permissions() {
        let state = State::read(
            documents(&[
                (user_document("shop"), r#"{"name": "shop", "tags": ["management"]}"#),
                (
                    permission_document("v", "shop"),
                    r#"{"user": "shop", "vhost": "v", "configure": "", "write": "^orders", "read": ".*"}"#,
                ),
                (
                    topic_document("v", "shop", ""),
                    r#"{"user": "shop", "vhost": "v", "exchange": "", "write": "^a", "read": ".*"}"#,
                ),
                (user_document("broken"), "{"),
            ]),
            false,
        );
        assert_eq!(state.users["shop"].user.hashing_algorithm, Algorithm::RabbitSha256);
        assert!(state.grant("shop", "v").is_some_and(|grant| grant.allows(Action::Write, "orders.eu")));
        assert!(state.grant("shop", "/").is_none());
        assert!(state.topic_grant("shop", "v", "").is_some_and(|grant| !grant.allows(Action::Write, "b")));
        assert!(!state.has_user("broken"));
    }

    #[test]
    fn the_guest_is_there_until_an_administrator_is() {
        let read =
            |pairs: &[(String, &str)], has_tokens| State::read(documents(pairs), has_tokens).has_user(GUEST);
        assert!(read(&[], false));
        assert!(!read(&[], true));
        assert!(read(&[(user_document("a"), r#"{"name": "a"}"#)], false));
        let admin = (user_document("a"), r#"{"name": "a", "tags": ["administrator"]}"#);
        assert!(!read(std::slice::from_ref(&admin), false));
        assert!(read(&[admin, (user_document("guest"), r#"{"name": "guest"}"#)], false));
    }

    #[test]
    fn names_of_documents_hold_any_text() {
        assert_eq!(topic_document("/", "a/b", ""), "access/topic-permission/%2F/a%2Fb/%");
    }
}
