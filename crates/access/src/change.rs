//! How do users and permissions come, change and go: first the document, durably, then the picture of it.

use std::future::Future;

use bytes::Bytes;
use serde::Serialize;
use waystation_base::{Name, name};
use waystation_broker::Refusal;
use waystation_host::Broker;

use crate::{
    Access,
    check::WAITING_MAX,
    grant::{Grant, Permission, TopicGrant, TopicPermission},
    password::{Algorithm, PASSWORD_BYTES_MAX},
    state::{State, USERS_MAX, permission_document, topic_document, user_document},
    user::{GUEST, LimitsChange, Tags, USER_NAME_BYTES_MAX, User, UserLimits},
};

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// A name that no user can have.
    #[error("a user's name has 1 to {USER_NAME_BYTES_MAX} bytes, this one has {0}")]
    Name(usize),
    /// A password past its bound.
    #[error("a password has 1 to {PASSWORD_BYTES_MAX} bytes")]
    Password,
    /// A hash that is none.
    #[error("password_hash is no {algorithm} hash: {reason}", algorithm = .algorithm.name())]
    Hash {
        /// Of what kind it was said to be.
        algorithm: Algorithm,
        /// What is wrong with it.
        reason: String,
    },
    /// A regular expression that cannot be used.
    #[error("{field}: {reason}")]
    Expression {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// Nobody is called so.
    #[error("user '{0}' is not known")]
    Unknown(String),
    /// Nobody could manage users any more.
    #[error("the last administrator cannot be deleted")]
    LastAdministrator,
    /// Names that are too long together.
    #[error("the names are too long to be kept: {0}")]
    Document(name::Error),
    /// Too many users.
    #[error("there are {USERS_MAX} users already")]
    Full,
    /// Too many passwords are being hashed.
    #[error("{WAITING_MAX} callers wait for their secrets to be checked")]
    Busy,
    /// The broker does not take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// What a user's password becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// This one; hashed here.
    Password(String),
    /// The one that this was made from.
    Hash(Algorithm, String),
    /// None: only a certificate lets it in.
    Nothing,
    /// What it is; for a new user none.
    Keep,
}

/// What a user becomes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserChange {
    /// Which user.
    pub name: String,
    /// Its password.
    pub credential: Credential,
    /// Its tags; none: what they are.
    pub tags: Option<Tags>,
    /// How much it may have open.
    pub limits: LimitsChange,
}

impl UserChange {
    /// Checks what can be checked without doing it.
    pub fn check(&self) -> Result<(), Error> {
        if !(1..=USER_NAME_BYTES_MAX).contains(&self.name.len()) {
            return Err(Error::Name(self.name.len()));
        }
        match &self.credential {
            Credential::Password(text) if !(1..=PASSWORD_BYTES_MAX).contains(&text.len()) => {
                Err(Error::Password)
            }
            Credential::Hash(algorithm, hash) if !hash.is_empty() => {
                algorithm.check(hash).map_err(|reason| Error::Hash { algorithm: *algorithm, reason })
            }
            _ => Ok(()),
        }
    }
}

fn expression((field, reason): (&'static str, String)) -> Error {
    Error::Expression { field, reason }
}

impl Permission {
    /// Checks the expressions.
    pub fn check(&self) -> Result<(), Error> {
        Grant::new(self.clone()).map(|_| ()).map_err(expression)
    }
}

impl TopicPermission {
    /// Checks the expressions.
    pub fn check(&self) -> Result<(), Error> {
        TopicGrant::new(self.clone()).map(|_| ()).map_err(expression)
    }
}

fn body(value: &impl Serialize) -> Option<Bytes> {
    // Texts only, which JSON always takes.
    Some(serde_json::to_vec(value).unwrap_or_default().into())
}

async fn write(broker: &Broker, document: &str, body: Option<Bytes>) -> Result<(), Error> {
    let name = Name::new(document).map_err(Error::Document)?;
    Ok(broker.put_document(name, body).await?)
}

/// Runs a change to its end even if who asked for it goes away, so that picture and documents stay the same.
pub(crate) async fn whole<T: Send + 'static>(
    change: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(change).await.map_err(|_| Error::Refused(Refusal::Draining))?
}

impl Access {
    /// All users, by name.
    pub fn users(&self) -> Vec<User> {
        let state = self.state();
        let implicit = state.has_implicit_guest().then(guest);
        let mut users: Vec<User> =
            state.users.values().map(|known| known.user.clone()).chain(implicit).collect();
        users.sort_by(|a, b| a.name.cmp(&b.name));
        users
    }

    /// One user.
    pub fn user(&self, name: &str) -> Option<User> {
        let state = self.state();
        let declared = state.users.get(name).map(|known| known.user.clone());
        declared.or_else(|| state.has_user(name).then(guest))
    }

    /// All permissions, by virtual host and user.
    pub fn permissions(&self) -> Vec<Permission> {
        let state = self.state();
        let declared = state.grants.values().flat_map(|hosts| hosts.values());
        let implicit = state.has_implicit_guest().then(|| state.grant(GUEST, "/")).flatten();
        let mut all: Vec<Permission> =
            declared.chain(implicit).map(|grant| grant.permission.clone()).collect();
        all.sort_by(|a, b| (&a.vhost, &a.user).cmp(&(&b.vhost, &b.user)));
        all
    }

    /// All topic permissions, by virtual host, user and exchange.
    pub fn topic_permissions(&self) -> Vec<TopicPermission> {
        let state = self.state();
        let declared = state.topics.values().flat_map(|grants| grants.values());
        let mut all: Vec<TopicPermission> = declared.map(|grant| grant.permission.clone()).collect();
        all.sort_by(|a, b| (&a.vhost, &a.user, &a.exchange).cmp(&(&b.vhost, &b.user, &b.exchange)));
        all
    }

    /// Makes a user or changes it; says whether it is new.
    pub async fn put_user(&self, broker: &Broker, change: UserChange) -> Result<bool, Error> {
        change.check()?;
        let (access, broker) = (self.clone(), broker.clone());
        whole(async move {
            let _one = access.changing().lock().await;
            let before = access.user(&change.name);
            let is_new = before.is_none();
            if is_new && access.state().users.len() >= USERS_MAX {
                return Err(Error::Full);
            }
            let mut user = before.unwrap_or_else(|| blank(&change.name));
            match change.credential {
                Credential::Password(text) => {
                    user.password_hash = access.checker().hash(&text).await.map_err(|_| Error::Busy)?;
                    user.hashing_algorithm = Algorithm::Argon2id;
                }
                Credential::Hash(algorithm, hash) => {
                    (user.hashing_algorithm, user.password_hash) = (algorithm, hash);
                }
                Credential::Nothing => user.password_hash = String::new(),
                Credential::Keep => {}
            }
            user.tags = change.tags.unwrap_or(user.tags);
            user.limits = change.limits.of(user.limits);
            if change.name == GUEST {
                access.declare_guest(&broker).await?;
            }
            access.store_user(&broker, user).await?;
            Ok(is_new)
        })
        .await
    }

    /// Changes some of a user's limits; others may be changed meanwhile.
    pub async fn change_limits(
        &self,
        broker: &Broker,
        name: &str,
        change: impl FnOnce(&mut UserLimits) + Send + 'static,
    ) -> Result<(), Error> {
        let (access, broker, name) = (self.clone(), broker.clone(), name.to_owned());
        whole(async move {
            let _one = access.changing().lock().await;
            if name == GUEST {
                access.declare_guest(&broker).await?;
            }
            let mut user = access.user(&name).ok_or(Error::Unknown(name))?;
            change(&mut user.limits);
            access.store_user(&broker, user).await
        })
        .await
    }

    async fn store_user(&self, broker: &Broker, user: User) -> Result<(), Error> {
        write(broker, &user_document(&user.name), body(&user)).await?;
        self.modify(|state| state.put_user(user));
        Ok(())
    }

    /// Declares the guest who is there without, with what he may: before something would make him go that should not.
    pub async fn keep_guest(&self, broker: &Broker) -> Result<(), Error> {
        let (access, broker) = (self.clone(), broker.clone());
        whole(async move {
            let _one = access.changing().lock().await;
            access.declare_guest(&broker).await
        })
        .await
    }

    pub(crate) async fn declare_guest(&self, broker: &Broker) -> Result<(), Error> {
        let state = self.state();
        let Some(grant) = state.grant(GUEST, "/").filter(|_| state.has_implicit_guest()).cloned() else {
            return Ok(());
        };
        let mut user = guest();
        user.password_hash = self.checker().hash(GUEST).await.map_err(|_| Error::Busy)?;
        let permission = grant.permission.clone();
        write(broker, &permission_document(&permission.vhost, GUEST), body(&permission)).await?;
        self.modify(|state| state.put_grant(grant));
        self.store_user(broker, user).await
    }

    /// Removes a user with its permissions. One change at a time: the caller sees to it.
    pub(crate) async fn remove_user(&self, broker: &Broker, name: &str) -> Result<(), Error> {
        let state = self.state();
        if !state.users.contains_key(name) {
            return Err(Error::Unknown(name.to_owned()));
        }
        for document in documents_of(&state, |_, user| user == name) {
            write(broker, &document, None).await?;
        }
        write(broker, &user_document(name), None).await?;
        self.modify(|state| {
            state.users.remove(name);
            state.grants.remove(name);
            state.topics.remove(name);
        });
        Ok(())
    }

    /// Says what a user may do in a virtual host; says whether that is new.
    pub async fn put_permission(&self, broker: &Broker, permission: Permission) -> Result<bool, Error> {
        let grant = Grant::new(permission.clone()).map_err(expression)?;
        let (access, broker) = (self.clone(), broker.clone());
        whole(async move {
            let _one = access.changing().lock().await;
            let Permission { user, vhost, .. } = &permission;
            if user == GUEST {
                access.declare_guest(&broker).await?;
            }
            let state = access.state();
            if !state.users.contains_key(user) {
                return Err(Error::Unknown(user.clone()));
            }
            let is_new = state.grant(user, vhost).is_none();
            write(&broker, &permission_document(vhost, user), body(&permission)).await?;
            access.modify(|state| state.put_grant(grant));
            Ok(is_new)
        })
        .await
    }

    /// Takes a user's permissions in a virtual host away; says whether there were any.
    pub async fn delete_permission(&self, broker: &Broker, host: &str, user: &str) -> Result<bool, Error> {
        let (access, broker, host, user) = (self.clone(), broker.clone(), host.to_owned(), user.to_owned());
        whole(async move {
            let _one = access.changing().lock().await;
            if user == GUEST {
                access.declare_guest(&broker).await?;
            }
            if access.state().grant(&user, &host).is_none() {
                return Ok(false);
            }
            write(&broker, &permission_document(&host, &user), None).await?;
            access.modify(|state| {
                state.grants.get_mut(&user).and_then(|hosts| hosts.remove(&host));
            });
            Ok(true)
        })
        .await
    }

    /// Says what a user may do on a topic exchange; says whether that is new.
    pub async fn put_topic_permission(
        &self,
        broker: &Broker,
        permission: TopicPermission,
    ) -> Result<bool, Error> {
        let grant = TopicGrant::new(permission.clone()).map_err(expression)?;
        let (access, broker) = (self.clone(), broker.clone());
        whole(async move {
            let _one = access.changing().lock().await;
            let TopicPermission { user, vhost, exchange, .. } = &permission;
            if user == GUEST {
                access.declare_guest(&broker).await?;
            }
            let state = access.state();
            if !state.users.contains_key(user) {
                return Err(Error::Unknown(user.clone()));
            }
            let is_new = state.topic_grant(user, vhost, exchange).is_none();
            write(&broker, &topic_document(vhost, user, exchange), body(&permission)).await?;
            access.modify(|state| state.put_topic(grant));
            Ok(is_new)
        })
        .await
    }

    /// Takes a user's topic permissions in a virtual host away, on one exchange or on all; says how many there were.
    pub async fn delete_topic_permissions(
        &self,
        broker: &Broker,
        host: &str,
        user: &str,
        exchange: Option<&str>,
    ) -> Result<usize, Error> {
        let (access, broker) = (self.clone(), broker.clone());
        let (host, user, exchange) = (host.to_owned(), user.to_owned(), exchange.map(str::to_owned));
        whole(async move {
            let _one = access.changing().lock().await;
            let state = access.state();
            let grants = state.topics.get(&user).into_iter().flat_map(|grants| grants.keys());
            let is_meant = |on: &str| exchange.as_deref().is_none_or(|wanted| wanted == on);
            let gone: Vec<_> = grants.filter(|(at, on)| *at == host && is_meant(on)).cloned().collect();
            for (_, on) in &gone {
                write(&broker, &topic_document(&host, &user, on), None).await?;
            }
            access.modify(|state| {
                let grants = state.topics.entry(user).or_default();
                gone.iter().for_each(|key| drop(grants.remove(key)));
            });
            Ok(gone.len())
        })
        .await
    }

    /// Takes everybody's permissions in a virtual host away: it is gone.
    pub async fn forget_host(&self, broker: &Broker, host: &str) -> Result<(), Error> {
        let (access, broker, host) = (self.clone(), broker.clone(), host.to_owned());
        whole(async move {
            let _one = access.changing().lock().await;
            for document in documents_of(&access.state(), |at, _| at == host) {
                write(&broker, &document, None).await?;
            }
            access.modify(|state| {
                state.grants.values_mut().for_each(|hosts| drop(hosts.remove(&host)));
                state.topics.values_mut().for_each(|grants| grants.retain(|(at, _), _| *at != host));
            });
            Ok(())
        })
        .await
    }
}

/// The documents of all permissions whose virtual host and user are meant.
fn documents_of(state: &State, is_meant: impl Fn(&str, &str) -> bool) -> Vec<String> {
    let grants = state.grants.values().flat_map(|hosts| hosts.values()).map(|grant| &grant.permission);
    let topics = state.topics.values().flat_map(|grants| grants.values()).map(|grant| &grant.permission);
    let mut documents: Vec<String> = grants
        .filter(|it| is_meant(&it.vhost, &it.user))
        .map(|it| permission_document(&it.vhost, &it.user))
        .collect();
    let topics = topics.filter(|it| is_meant(&it.vhost, &it.user));
    documents.extend(topics.map(|it| topic_document(&it.vhost, &it.user, &it.exchange)));
    documents
}

fn blank(name: &str) -> User {
    User {
        name: name.to_owned(),
        password_hash: String::new(),
        hashing_algorithm: Algorithm::Argon2id,
        tags: Tags::default(),
        limits: UserLimits::default(),
    }
}

/// The guest as he is before anybody declares him.
fn guest() -> User {
    User { tags: Tags::parse("administrator"), ..blank(GUEST) }
}
