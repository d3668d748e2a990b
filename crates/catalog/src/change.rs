//! How do virtual hosts, policies and parameters come, change and go: first the document, durably, then the picture, then
//! the queues and exchanges that it is about.

use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use serde::Serialize;
use waystation_access::{Access, Gone, Permission};
use waystation_base::{Name, name, vhost};
use waystation_broker::{
    Kind, Refusal, SessionId,
    command::{Counted, Delete},
    spec::{RouteKind, RouteSpec, Spec, VhostLimits},
};
use waystation_host::{Broker, Overlay};

use super::{
    book::{About, Book, Effective, Rule},
    definition,
    records::{
        GlobalParameter, PREFIX, Parameter, Policy, Rank, Vhost, global_document, parameter_document,
        policy_document, vhost_document,
    },
};

/// Virtual hosts at a time.
pub const VHOSTS_MAX: usize = 10_000;
/// Bytes of the name of a virtual host, policy or parameter: RabbitMQ's bound on names.
pub const RECORD_NAME_BYTES_MAX: usize = 255;
/// Names looked at in one go, so that others get their turn between.
const PAGE: usize = 500;

/// The exchanges that every virtual host has.
const PREDECLARED: &[(&str, RouteKind, bool)] = &[
    ("amq.direct", RouteKind::Direct, false),
    ("amq.fanout", RouteKind::Fanout, false),
    ("amq.headers", RouteKind::Headers, false),
    ("amq.match", RouteKind::Headers, false),
    ("amq.rabbitmq.trace", RouteKind::Topic, true),
    ("amq.topic", RouteKind::Topic, false),
];

/// Why a change is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// No such virtual host.
    #[error("no such vhost '{0}'")]
    NoVhost(String),
    /// The virtual host that other doors work in too.
    #[error("the default virtual host cannot be deleted: other doors use it too")]
    DefaultVhost,
    /// Too many of them.
    #[error("there are {VHOSTS_MAX} virtual hosts already")]
    Full,
    /// A name that cannot be.
    #[error("a name has 1 to {RECORD_NAME_BYTES_MAX} bytes, this one has {0}")]
    Name(usize),
    /// A policy that cannot be, in RabbitMQ's words.
    #[error("Validation failed\n\n{0}\n")]
    Policy(String),
    /// Names that are too long together.
    #[error("the names are too long to be kept: {0}")]
    Document(name::Error),
    /// Users and permissions.
    #[error(transparent)]
    Access(#[from] waystation_access::Error),
    /// The broker does not take it.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

/// Virtual hosts, policies and parameters, beside the users of [`Access`]. Clones share them.
#[derive(Clone)]
pub struct Catalog(Arc<Inner>);

struct Inner {
    access: Access,
    book: RwLock<Arc<Book>>,
    generation: AtomicU64,
    loaded: tokio::sync::OnceCell<()>,
    /// One change at a time.
    changing: tokio::sync::Mutex<()>,
}

fn body(value: &impl Serialize) -> Option<Bytes> {
    // Records of texts and JSON, which JSON always takes.
    Some(serde_json::to_vec(value).unwrap_or_default().into())
}

async fn write(broker: &Broker, document: &str, body: Option<Bytes>) -> Result<(), Error> {
    let name = Name::new(document).map_err(Error::Document)?;
    Ok(broker.put_document(name, body).await?)
}

/// Runs a change to its end even if who asked for it goes away, so that picture and documents stay the same.
async fn whole<T: Send + 'static>(
    change: impl Future<Output = Result<T, Error>> + Send + 'static,
) -> Result<T, Error> {
    tokio::spawn(change).await.map_err(|_| Error::Refused(Refusal::Draining))?
}

fn check_name(name: &str) -> Result<(), Error> {
    if (1..=RECORD_NAME_BYTES_MAX).contains(&name.len()) { Ok(()) } else { Err(Error::Name(name.len())) }
}

/// Checks a policy without setting it.
pub fn check_policy(rank: Rank, policy: &Policy) -> Result<(), Error> {
    rule(rank, policy.clone()).map(|_| ())
}

fn rule(rank: Rank, policy: Policy) -> Result<Rule, Error> {
    check_name(&policy.name)?;
    definition::check(&policy.definition, rank).map_err(Error::Policy)?;
    let wrong =
        |reason| Error::Policy(format!("pattern should be regular expression but is invalid: {reason}"));
    Rule::new(policy).map_err(wrong)
}

impl Catalog {
    /// Beside these users; nothing is read yet.
    pub fn new(access: Access) -> Catalog {
        Catalog(Arc::new(Inner {
            access,
            book: RwLock::new(Arc::new(Book::read(Vec::new()))),
            generation: AtomicU64::new(0),
            loaded: tokio::sync::OnceCell::new(),
            changing: tokio::sync::Mutex::default(),
        }))
    }

    /// Reads what the broker keeps. To be called before anybody is let in; the first call reads.
    pub async fn load(&self, broker: &Broker) -> Result<(), Refusal> {
        let read = async {
            self.0.access.load(broker).await?;
            let documents = broker.documents(PREFIX.to_owned()).await?;
            self.modify(|book| *book = Book::read(documents));
            broker.set_overlay(Arc::new(self.clone()));
            for host in self.vhosts() {
                declare_exchanges(broker, &host.name).await?;
                if host.limits != VhostLimits::default() {
                    broker.limit_vhost(host.name, host.limits).await?;
                }
            }
            Ok(())
        };
        self.0.loaded.get_or_try_init(|| read).await.copied()
    }

    /// The users.
    pub fn access(&self) -> &Access {
        &self.0.access
    }

    fn book(&self) -> Arc<Book> {
        self.0.book.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn modify(&self, change: impl FnOnce(&mut Book)) {
        let mut place = self.0.book.write().unwrap_or_else(PoisonError::into_inner);
        let mut book = place.as_ref().clone();
        change(&mut book);
        *place = Arc::new(book);
        self.0.generation.fetch_add(1, Ordering::AcqRel);
    }

    /// Changes whenever an answer about users, permissions or virtual hosts may have changed.
    pub fn generation(&self) -> u64 {
        self.0.generation.load(Ordering::Acquire).wrapping_add(self.0.access.generation())
    }

    /// All virtual hosts, by name.
    pub fn vhosts(&self) -> Vec<Vhost> {
        self.book().vhosts.values().cloned().collect()
    }

    /// One virtual host.
    pub fn vhost(&self, name: &str) -> Option<Vhost> {
        self.book().vhosts.get(name).cloned()
    }

    /// Whether there is a virtual host of that name.
    pub fn has_vhost(&self, name: &str) -> bool {
        self.book().vhosts.contains_key(name)
    }

    /// All policies of a rank, by virtual host and name.
    pub fn policies(&self, rank: Rank) -> Vec<Policy> {
        let book = self.book();
        book.policies
            .iter()
            .filter(|((of, ..), _)| *of == rank)
            .map(|(_, rule)| rule.policy.clone())
            .collect()
    }

    /// All parameters, by virtual host, component and name.
    pub fn parameters(&self) -> Vec<Parameter> {
        self.book().parameters.values().cloned().collect()
    }

    /// All parameters of the whole server, by name.
    pub fn global_parameters(&self) -> Vec<GlobalParameter> {
        self.book().globals.values().cloned().collect()
    }

    /// Which policies count for a queue or exchange.
    pub fn effective(&self, host: &str, name: &str, spec: &Spec) -> Effective {
        self.book().effective(host, About::spec(spec), name)
    }

    /// Makes a virtual host with its exchanges, or changes it; who makes it may do everything in it. Says whether it is new.
    pub async fn put_vhost(
        &self,
        broker: &Broker,
        host: Vhost,
        maker: Option<String>,
    ) -> Result<bool, Error> {
        check_name(&host.name)?;
        host.limits.check().map_err(Refusal::from)?;
        let (catalog, broker) = (self.clone(), broker.clone());
        whole(async move {
            let _one = catalog.0.changing.lock().await;
            let book = catalog.book();
            let is_new = !book.vhosts.contains_key(&host.name);
            if is_new && book.vhosts.len() >= VHOSTS_MAX {
                return Err(Error::Full);
            }
            let name = host.name.clone();
            catalog.store_vhost(&broker, host).await?;
            if is_new {
                declare_exchanges(&broker, &name).await?;
                if let Some(user) = maker.filter(|user| catalog.access().user(user).is_some()) {
                    let all = || ".*".to_owned();
                    let permission =
                        Permission { user, vhost: name, configure: all(), write: all(), read: all() };
                    catalog.access().put_permission(&broker, permission).await?;
                }
            }
            Ok(is_new)
        })
        .await
    }

    /// Stores a virtual host; its limits hold from now on.
    async fn store_vhost(&self, broker: &Broker, host: Vhost) -> Result<(), Error> {
        let (name, limits) = (host.name.clone(), host.limits.clone());
        let before = self.vhost(&name).map(|host| host.limits).unwrap_or_default();
        write(broker, &vhost_document(&name), body(&host)).await?;
        self.modify(|book| book.put_vhost(host));
        if limits != before {
            broker.limit_vhost(name, limits).await?;
        }
        Ok(())
    }

    /// Changes some of the limits of a virtual host; others may be changed meanwhile.
    pub async fn change_limits(
        &self,
        broker: &Broker,
        name: &str,
        change: impl FnOnce(&mut VhostLimits) + Send + 'static,
    ) -> Result<(), Error> {
        let (catalog, broker, name) = (self.clone(), broker.clone(), name.to_owned());
        whole(async move {
            let _one = catalog.0.changing.lock().await;
            let mut host = catalog.vhost(&name).ok_or(Error::NoVhost(name))?;
            change(&mut host.limits);
            host.limits.check().map_err(Refusal::from)?;
            catalog.store_vhost(&broker, host).await
        })
        .await
    }

    /// Removes a virtual host with all that is in it. If that fails on the way the virtual host is still there, with what is left of
    /// it, and can be removed again.
    pub async fn delete_vhost(&self, broker: &Broker, name: &str) -> Result<(), Error> {
        if name == vhost::DEFAULT {
            return Err(Error::DefaultVhost);
        }
        let (catalog, broker, name) = (self.clone(), broker.clone(), name.to_owned());
        whole(async move {
            let _one = catalog.0.changing.lock().await;
            let host = catalog.vhost(&name).ok_or_else(|| Error::NoVhost(name.clone()))?;
            // Nobody gets in any more before things go, and nobody stays.
            catalog.modify(|book| drop(book.vhosts.remove(&name)));
            catalog.access().tell_gone(Gone::Vhost(&name));
            let cleared = catalog.clear_vhost(&broker, &name).await;
            if cleared.is_err() {
                let limits = host.limits.clone();
                catalog.modify(|book| book.put_vhost(host));
                // A broker that takes nothing any more has forgotten them with its memory when it is there again.
                let _ = broker.limit_vhost(name, limits).await;
            }
            cleared
        })
        .await
    }

    /// Removes all that belongs to a virtual host, and its document last.
    async fn clear_vhost(&self, broker: &Broker, name: &str) -> Result<(), Error> {
        let book = self.book();
        for (rank, host, policy) in book.policies.keys().filter(|(_, host, _)| host == name) {
            write(broker, &policy_document(*rank, host, policy), None).await?;
        }
        for (host, component, parameter) in book.parameters.keys().filter(|(host, ..)| host == name) {
            write(broker, &parameter_document(host, component, parameter), None).await?;
        }
        self.access().forget_host(broker, name).await?;
        empty_host(broker, name).await?;
        broker.limit_vhost(name.to_owned(), VhostLimits::default()).await?;
        write(broker, &vhost_document(name), None).await?;
        self.modify(|book| book.remove_vhost(name));
        Ok(())
    }

    /// Sets a policy and applies it; says whether it is new.
    pub async fn put_policy(&self, broker: &Broker, rank: Rank, policy: Policy) -> Result<bool, Error> {
        let rule = rule(rank, policy.clone())?;
        let (catalog, broker) = (self.clone(), broker.clone());
        whole(async move {
            let _one = catalog.0.changing.lock().await;
            let book = catalog.book();
            let host = policy.vhost.clone();
            if !book.vhosts.contains_key(&host) {
                return Err(Error::NoVhost(host));
            }
            let is_new = !book.policies.contains_key(&(rank, host.clone(), policy.name.clone()));
            write(&broker, &policy_document(rank, &host, &policy.name), body(&policy)).await?;
            catalog.modify(|book| book.put_policy(rank, rule));
            catalog.reapply(&broker, &host).await?;
            Ok(is_new)
        })
        .await
    }

    /// Takes a policy away, and what it did; says whether it was there.
    pub async fn delete_policy(
        &self,
        broker: &Broker,
        rank: Rank,
        host: &str,
        name: &str,
    ) -> Result<bool, Error> {
        let (catalog, broker) = (self.clone(), broker.clone());
        let key = (rank, host.to_owned(), name.to_owned());
        whole(async move {
            let _one = catalog.0.changing.lock().await;
            if !catalog.book().policies.contains_key(&key) {
                return Ok(false);
            }
            write(&broker, &policy_document(rank, &key.1, &key.2), None).await?;
            catalog.modify(|book| drop(book.policies.remove(&key)));
            catalog.reapply(&broker, &key.1).await?;
            Ok(true)
        })
        .await
    }

    /// Sets a parameter; says whether it is new.
    pub async fn put_parameter(&self, broker: &Broker, parameter: Parameter) -> Result<bool, Error> {
        check_name(&parameter.name)?;
        check_name(&parameter.component)?;
        let (catalog, broker) = (self.clone(), broker.clone());
        whole(async move {
            let _one = catalog.0.changing.lock().await;
            let Parameter { vhost, component, name, .. } = &parameter;
            let book = catalog.book();
            if !book.vhosts.contains_key(vhost) {
                return Err(Error::NoVhost(vhost.clone()));
            }
            let is_new = !book.parameters.contains_key(&(vhost.clone(), component.clone(), name.clone()));
            write(&broker, &parameter_document(vhost, component, name), body(&parameter)).await?;
            catalog.modify(|book| book.put_parameter(parameter));
            Ok(is_new)
        })
        .await
    }

    /// Takes a parameter away; says whether it was there.
    pub async fn delete_parameter(
        &self,
        broker: &Broker,
        host: &str,
        component: &str,
        name: &str,
    ) -> Result<bool, Error> {
        let (catalog, broker) = (self.clone(), broker.clone());
        let key = (host.to_owned(), component.to_owned(), name.to_owned());
        whole(async move {
            let _one = catalog.0.changing.lock().await;
            if !catalog.book().parameters.contains_key(&key) {
                return Ok(false);
            }
            write(&broker, &parameter_document(&key.0, &key.1, &key.2), None).await?;
            catalog.modify(|book| drop(book.parameters.remove(&key)));
            Ok(true)
        })
        .await
    }

    /// Sets a parameter of the whole server; says whether it is new.
    pub async fn put_global(&self, broker: &Broker, parameter: GlobalParameter) -> Result<bool, Error> {
        check_name(&parameter.name)?;
        let (catalog, broker) = (self.clone(), broker.clone());
        whole(async move {
            let _one = catalog.0.changing.lock().await;
            let is_new = !catalog.book().globals.contains_key(&parameter.name);
            write(&broker, &global_document(&parameter.name), body(&parameter)).await?;
            catalog.modify(|book| book.put_global(parameter));
            Ok(is_new)
        })
        .await
    }

    /// Takes a parameter of the whole server away; says whether it was there.
    pub async fn delete_global(&self, broker: &Broker, name: &str) -> Result<bool, Error> {
        let (catalog, broker, name) = (self.clone(), broker.clone(), name.to_owned());
        whole(async move {
            let _one = catalog.0.changing.lock().await;
            if !catalog.book().globals.contains_key(&name) {
                return Ok(false);
            }
            write(&broker, &global_document(&name), None).await?;
            catalog.modify(|book| drop(book.globals.remove(&name)));
            Ok(true)
        })
        .await
    }

    /// Makes of each queue and exchange of a virtual host what the policies say now.
    async fn reapply(&self, broker: &Broker, host: &str) -> Result<(), Error> {
        let book = self.book();
        for (name, spec, session) in contents(broker, host).await? {
            let (_, amqp_name) = vhost::split(name.as_str());
            let changed = book.apply(host, &amqp_name, spec.clone());
            if changed != spec {
                match broker.declare(name.clone(), changed, true, session).await {
                    Ok(_) | Err(Refusal::NotFound { .. }) => {}
                    // One that its owner has just deleted, or that cannot be so, must not keep the others from it.
                    Err(error) => tracing::warn!(%name, %error, "a policy cannot be applied"),
                }
            }
        }
        Ok(())
    }
}

impl Overlay for Catalog {
    fn lay(&self, name: &Name, declared: Spec) -> Spec {
        if name.is_reserved() {
            return declared;
        }
        let (host, plain) = vhost::split(name.as_str());
        self.book().apply(&host, &plain, declared)
    }
}

async fn declare_exchanges(broker: &Broker, host: &str) -> Result<(), Refusal> {
    for (name, kind, internal) in PREDECLARED {
        let Ok(name) = Name::new(vhost::join(host, name)) else { continue };
        let spec = RouteSpec { kind: *kind, internal: *internal, ..RouteSpec::default() };
        match broker.declare(name, Spec::Route(spec), false, SessionId::default()).await {
            // What a policy made of it stays.
            Ok(_) | Err(Refusal::Exists { .. }) => {}
            Err(refusal) => return Err(refusal),
        }
    }
    Ok(())
}

/// Every queue, stream and exchange of a virtual host, with the session that may change it.
async fn contents(broker: &Broker, host: &str) -> Result<Vec<(Name, Spec, SessionId)>, Refusal> {
    let mut found = Vec::new();
    for kind in [Kind::Queue, Kind::Topic, Kind::Route] {
        let mut after: Option<String> = None;
        loop {
            let (host, from) = (host.to_owned(), after.take());
            let (page, last) = broker
                .query(move |view| {
                    let names = view.names(kind, from.as_deref(), PAGE);
                    let last = (names.len() == PAGE).then(|| names.last().map(Name::to_string)).flatten();
                    let of_host = names
                        .into_iter()
                        .filter(|name| !name.is_reserved() && vhost::of(name.as_str()) == host);
                    let specs = of_host.filter_map(|name| {
                        spec_of(view, kind, &name).map(|(spec, session)| (name, spec, session))
                    });
                    (specs.collect::<Vec<_>>(), last)
                })
                .await?;
            found.extend(page);
            match last {
                Some(last) => after = Some(last),
                None => break,
            }
        }
    }
    Ok(found)
}

/// A queue, stream or exchange as it is now, with the session that may change it.
fn spec_of(view: &waystation_host::View<'_>, kind: Kind, name: &Name) -> Option<(Spec, SessionId)> {
    match kind {
        Kind::Queue => view.queue(name).map(|info| (Spec::Queue(info.spec), info.owner.unwrap_or_default())),
        Kind::Topic => view.topic(name).map(|info| (Spec::Topic(info.spec), SessionId::default())),
        Kind::Route => view.route(name).map(|info| (Spec::Route(info.spec), SessionId::default())),
        Kind::Subscription => None,
    }
}

/// Deletes everything in a virtual host.
async fn empty_host(broker: &Broker, host: &str) -> Result<(), Error> {
    let mut by_kind: BTreeMap<Kind, Vec<(Name, SessionId)>> = BTreeMap::new();
    for (name, spec, session) in contents(broker, host).await? {
        by_kind.entry(spec.kind()).or_default().push((name, session));
    }
    for (kind, names) in by_kind {
        for (name, session) in names {
            let delete =
                Delete { kind, name, if_unused: false, if_empty: false, counted: Counted::All, session };
            match broker.delete(delete).await {
                Ok(_) | Err(Refusal::NotFound { .. }) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
    }
    Ok(())
}
