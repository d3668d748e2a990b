//! Which pushes are there? Declared, kept as documents, started at boot, paused, resumed, tried and removed.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use utoipa::ToSchema;
use waystation_base::{
    Attempt as Count, Clock, Message, MessageId, Millis, Name, Offset, Tag, message::header, os,
};
use waystation_broker::{Kind, Refusal, Source, effect::Declared};
use waystation_host::{
    Broker, Delivery,
    task::{Task, to_its_end},
};

use super::{
    document::{Document, PREFIX, Wanted, document_name},
    live::{Live, PushState},
    plan::{self, Endpoint, Plan},
    pusher::{Ended, Options, Pusher},
    record,
    spec::PushSpec,
};
use crate::{
    attempt::{Attempt, Counts},
    retry::Invalid,
    sender::{Sender, Sent},
};

/// Pushes of one server.
pub const PUSHES_MAX: usize = 1_000;
/// The type of the event that `test` sends.
pub const TEST_TYPE: &str = "waystation.test";

/// Why a push cannot be had so.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is none of that name.
    #[error("there is no push '{0}'")]
    NotFound(Name),
    /// It is there and differs.
    #[error("push '{0}' is there and differs; with change=true it is changed")]
    Differs(Name),
    /// A field is wrong.
    #[error(transparent)]
    Invalid(#[from] Invalid),
    /// Too many.
    #[error("there may be {PUSHES_MAX} pushes")]
    Limit,
    /// The broker refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<plan::Error> for Error {
    fn from(error: plan::Error) -> Error {
        match error {
            plan::Error::Invalid(invalid) => Error::Invalid(invalid),
            plan::Error::Url(refusal) => Invalid { field: "url", reason: refusal.to_string() }.into(),
        }
    }
}

fn invalid(field: &'static str, reason: impl ToString) -> Error {
    Error::Invalid(Invalid { field, reason: reason.to_string() })
}

/// A push as it is now. Secrets and the values of headers are never shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PushInfo {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// How it is declared.
    pub spec: PushSpec,
    /// Which signature each secret makes: `v1` or `v1a`.
    pub signatures: Vec<String>,
    /// With what receivers verify `v1a`.
    pub public_keys: Vec<String>,
    /// Names of the headers of one's own.
    pub header_names: Vec<String>,
    /// What it is doing.
    pub state: PushState,
    /// Why, if that needs saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Until when it is suspended, in milliseconds since 1970.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub until: Option<Millis>,
    /// When it was declared, changed, paused, resumed or disabled last.
    #[schema(value_type = u64)]
    pub since: Millis,
    /// Requests under way.
    pub requests: u32,
    /// Counted since the server started.
    pub counts: Counts,
    /// The last attempts since the server started, newest first.
    pub attempts: Vec<Attempt>,
}

/// What a test request came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Tested {
    /// Whether the answer was 2xx.
    pub delivered: bool,
    /// Its `webhook-id`.
    pub webhook_id: String,
    /// The answer's status; none if there was no answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// What went wrong, if it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
    /// The beginning of the answer's body.
    pub answer: String,
    /// Milliseconds that it took.
    pub took_ms: u64,
}

impl Tested {
    /// What became of a request.
    pub fn new(webhook_id: &str, sent: &Sent) -> Tested {
        Tested {
            delivered: sent.cause().is_none(),
            webhook_id: webhook_id.to_owned(),
            status: sent.status(),
            cause: sent.cause(),
            answer: sent.result.as_ref().map(|answer| answer.excerpt.clone()).unwrap_or_default(),
            took_ms: sent.took_ms,
        }
    }
}

/// A push in numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figures {
    /// It delivers what comes: neither suspended, waiting, paused nor disabled.
    pub is_active: bool,
    /// Requests under way.
    pub requests: u32,
    /// Since the server started.
    pub counts: Counts,
}

/// All pushes of a server. Clones share them.
#[derive(Clone)]
pub struct Pushes(Arc<Inner>);

struct Inner {
    broker: Broker,
    clock: Arc<dyn Clock>,
    sender: Sender,
    /// One change at a time.
    changes: Mutex<()>,
    entries: Mutex<BTreeMap<Name, Entry>>,
}

struct Entry {
    document: Document,
    live: Arc<Live>,
    task: Option<Task>,
}

impl Pushes {
    /// None yet; [`Pushes::load`] starts those that are stored.
    pub fn new(broker: Broker, clock: Arc<dyn Clock>, sender: Sender) -> Pushes {
        let (changes, entries) = (Mutex::default(), Mutex::default());
        Pushes(Arc::new(Inner { broker, clock, sender, changes, entries }))
    }

    /// Starts what is stored.
    pub async fn load(&self) -> Result<(), Refusal> {
        let _one = self.0.changes.lock().await;
        record::declare(&self.0.broker).await?;
        for (stored, body) in self.0.broker.documents(PREFIX.to_owned()).await? {
            let name = stored.as_str().strip_prefix(PREFIX).map(Name::new);
            match (name, serde_json::from_slice::<Document>(&body)) {
                (Some(Ok(name)), Ok(document)) => self.place(name, document, Arc::default()).await,
                (_, Err(error)) => {
                    tracing::error!(document = %stored, %error, "a push cannot be read and does not run");
                }
                _ => tracing::error!(document = %stored, "a document has no push's name"),
            }
        }
        Ok(())
    }

    /// Stops all; what is under way may end, for a while.
    pub async fn close(&self) {
        let _one = self.0.changes.lock().await;
        let ending: Vec<Task> =
            self.0.entries.lock().await.values_mut().filter_map(|entry| entry.task.take()).collect();
        Task::end_all(ending).await;
    }

    /// Runs until `end`, then stops all.
    pub async fn serve(&self, end: impl Future<Output = ()>) {
        end.await;
        self.close().await;
    }

    /// What a declaration would come to, as far as that shows without what it names; with it the push as it would be kept.
    async fn weigh(
        &self,
        name: &Name,
        mut spec: PushSpec,
        change: bool,
    ) -> Result<(Declared, PushSpec, Option<Document>), Error> {
        let (old, count) = {
            let entries = self.0.entries.lock().await;
            (entries.get(name).map(|entry| entry.document.clone()), entries.len())
        };
        if let Some(old) = old.as_ref().map(Document::spec) {
            if spec.secrets.is_empty() {
                spec.secrets = old.secrets;
            }
            spec.headers = spec.headers.or(old.headers);
        }
        spec.check()?;
        Endpoint::new(&spec, self.0.sender.guard())?;
        let put = match &old {
            Some(old) if old.spec() == spec => Declared::Unchanged,
            Some(_) if !change => return Err(Error::Differs(name.clone())),
            Some(_) => Declared::Changed,
            None if count >= PUSHES_MAX => return Err(Error::Limit),
            None => Declared::Created,
        };
        Ok((put, spec, old))
    }

    /// What [`Pushes::put`] would come to; nothing is changed. The fields are checked, and not what they name: that may come
    /// into being before the push does.
    pub async fn try_put(&self, name: &Name, spec: PushSpec, change: bool) -> Result<Declared, Error> {
        self.weigh(name, spec, change).await.map(|(put, ..)| put)
    }

    /// Declares a push. `broker` acts on the caller's behalf. What is begun goes on to its end if nobody waits any more.
    pub async fn put(
        &self,
        name: Name,
        spec: PushSpec,
        change: bool,
        broker: &Broker,
    ) -> Result<Declared, Error> {
        let (pushes, broker) = (self.clone(), broker.clone());
        to_its_end(async move { pushes.declare(name, spec, change, &broker).await }).await
    }

    async fn declare(
        &self,
        name: Name,
        spec: PushSpec,
        change: bool,
        broker: &Broker,
    ) -> Result<Declared, Error> {
        let _one = self.0.changes.lock().await;
        let (put, spec, old) = self.weigh(&name, spec, change).await?;
        if put == Declared::Unchanged {
            return Ok(put);
        }
        self.check_places(&spec).await?;
        // Whoever declares it anew has another endpoint in mind than the one that was gone.
        let wanted = old.as_ref().map(|old| old.wanted).filter(|wanted| *wanted != Wanted::Disabled);
        let document = Document::new(&spec, wanted.unwrap_or_default(), self.0.clock.now());
        self.write(&name, Some(&document), broker).await?;
        let live = self.stop(&name).await.unwrap_or_default();
        self.place(name, document, live).await;
        Ok(put)
    }

    /// The source is there, and there is a place for what cannot be delivered.
    async fn check_places(&self, spec: &PushSpec) -> Result<(), Error> {
        let broker = &self.0.broker;
        let (source, has_dead_letters) = match spec.source()? {
            Source::Queue(name) => {
                let has = broker.queue(name.clone()).await?.spec.has_dead_letters();
                (format!("queue '{name}'"), has)
            }
            Source::Subscription(name) => {
                let has = broker.subscription(name.clone()).await?.spec.dead_letter.is_some();
                (format!("subscription '{name}'"), has)
            }
        };
        let Some(address) = spec.dead_letter()? else {
            let why = format!(
                "{source} has none, and what cannot be delivered needs a place: name a queue or topic"
            );
            return if has_dead_letters { Ok(()) } else { Err(invalid("dead_letter", why)) };
        };
        let asked = address.clone();
        let is_there =
            broker.query(move |view| view.queue(&asked).is_some() || view.topic(&asked).is_some()).await?;
        let absent = Refusal::NotFound { kind: Kind::Queue, name: address.to_string() };
        if is_there { Ok(()) } else { Err(absent.into()) }
    }

    async fn write(&self, name: &Name, document: Option<&Document>, broker: &Broker) -> Result<(), Error> {
        let stored = document_name(name).map_err(|error| invalid("name", error))?;
        Ok(broker.put_document(stored, document.map(Document::bytes)).await?)
    }

    /// Stops a push's task, outside of any lock that it may need, and gives what was seen of it.
    async fn stop(&self, name: &Name) -> Option<Arc<Live>> {
        let (task, live) = {
            let mut entries = self.0.entries.lock().await;
            let entry = entries.get_mut(name)?;
            (entry.task.take(), entry.live.clone())
        };
        if let Some(task) = task {
            task.end().await;
        }
        Some(live)
    }

    /// Puts a push into its place and starts it, if it is to run.
    async fn place(&self, name: Name, document: Document, live: Arc<Live>) {
        let task = match document.wanted {
            Wanted::Paused => {
                live.set(PushState::Paused, None, None);
                None
            }
            Wanted::Disabled => {
                live.set(PushState::Disabled, Some("the endpoint answered 410 Gone".to_owned()), None);
                None
            }
            Wanted::Active => match self.start(&name, &document, &live) {
                Ok(task) => Some(task),
                Err(error) => {
                    tracing::error!(push = %name, %error, "a push does not run");
                    live.set(PushState::Waiting, Some(error.to_string()), None);
                    None
                }
            },
        };
        self.0.entries.lock().await.insert(name, Entry { document, live, task });
    }

    fn start(&self, name: &Name, document: &Document, live: &Arc<Live>) -> Result<Task, Error> {
        let spec = document.spec();
        let options = Options {
            name: name.to_string(),
            source: spec.source()?,
            ordered: spec.ordered,
            requests_max: spec.requests_max(),
            events_max: spec.events_max(),
            dead_letter: spec.dead_letter()?,
        };
        let plan = Arc::new(Endpoint::new(&spec, self.0.sender.guard())?);
        let pusher = Pusher {
            broker: self.0.broker.as_part("push", Some(name.to_string())),
            clock: self.0.clock.clone(),
            sender: self.0.sender.clone(),
            plan,
            options,
            live: live.clone(),
        };
        let (pushes, name) = (self.clone(), name.clone());
        Ok(Task::start(|told| async move {
            if pusher.run(told).await == Ended::Gone {
                pushes.disable(&name).await;
            }
        }))
    }

    /// The endpoint is gone: written down, so that a restart does not ask it again.
    async fn disable(&self, name: &Name) {
        let document = {
            let mut entries = self.0.entries.lock().await;
            // Somebody is stopping, changing or removing it: then his word holds.
            let Some(entry) = entries.get_mut(name).filter(|entry| entry.task.is_some()) else { return };
            entry.task = None;
            entry.document.wanted = Wanted::Disabled;
            entry.document.since = self.0.clock.now();
            entry.live.set(PushState::Disabled, Some("the endpoint answered 410 Gone".to_owned()), None);
            entry.document.clone()
        };
        tracing::warn!(push = %name, "the endpoint answered 410 Gone; the push is disabled");
        if let Err(error) = self.write(name, Some(&document), &self.0.broker).await {
            tracing::error!(push = %name, %error, "that it is disabled could not be written down");
        }
    }

    /// Lets a push rest, or deliver again. Says whether that changed anything.
    pub async fn set_paused(&self, name: &Name, paused: bool, broker: &Broker) -> Result<bool, Error> {
        let (pushes, name, broker) = (self.clone(), name.clone(), broker.clone());
        to_its_end(async move { pushes.rest(name, paused, &broker).await }).await
    }

    async fn rest(&self, name: Name, paused: bool, broker: &Broker) -> Result<bool, Error> {
        let _one = self.0.changes.lock().await;
        let old = self.document(&name).await?;
        let wanted = if paused { Wanted::Paused } else { Wanted::Active };
        let url = old.spec().url;
        if !paused && let Ok(url) = self.0.sender.guard().target(&url) {
            self.0.sender.reset(&crate::sender::endpoint(&url));
        }
        let is_new = old.wanted != wanted;
        let since = if is_new { self.0.clock.now() } else { old.since };
        let document = Document::new(&old.spec(), wanted, since);
        if is_new {
            self.write(&name, Some(&document), broker).await?;
        }
        // Somebody who resumes what runs wants it to try at once.
        let live = self.stop(&name).await.unwrap_or_default();
        self.place(name, document, live).await;
        Ok(is_new)
    }

    /// Removes a push; what it would have delivered stays where it is.
    pub async fn delete(&self, name: &Name, broker: &Broker) -> Result<(), Error> {
        let (pushes, name, broker) = (self.clone(), name.clone(), broker.clone());
        to_its_end(async move { pushes.remove(&name, &broker).await }).await
    }

    async fn remove(&self, name: &Name, broker: &Broker) -> Result<(), Error> {
        let _one = self.0.changes.lock().await;
        self.document(name).await?;
        self.write(name, None, broker).await?;
        self.stop(name).await;
        self.0.entries.lock().await.remove(name);
        Ok(())
    }

    async fn document(&self, name: &Name) -> Result<Document, Error> {
        let entries = self.0.entries.lock().await;
        let entry = entries.get(name).ok_or_else(|| Error::NotFound(name.clone()))?;
        Ok(entry.document.clone())
    }

    /// One as it is now.
    pub async fn get(&self, name: &Name) -> Result<PushInfo, Error> {
        let entries = self.0.entries.lock().await;
        let entry = entries.get(name).ok_or_else(|| Error::NotFound(name.clone()))?;
        Ok(info(name, entry))
    }

    /// The declaration of one, for whoever has to ask what it touches.
    pub async fn spec(&self, name: &Name) -> Result<PushSpec, Error> {
        Ok(self.document(name).await?.spec().shown())
    }

    /// Those after a name that somebody may see, in order, at most `max`.
    pub async fn list(
        &self,
        after: Option<&str>,
        max: usize,
        may_see: impl Fn(&Name) -> bool,
    ) -> Vec<PushInfo> {
        let entries = self.0.entries.lock().await;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let shown = entries.range::<str, _>((from, Bound::Unbounded)).filter(|(name, _)| may_see(name));
        shown.take(max).map(|(name, entry)| info(name, entry)).collect()
    }

    /// Figures of those first by name, at most `max`.
    pub async fn figures(&self, max: usize) -> Vec<(Name, Figures)> {
        let entries = self.0.entries.lock().await;
        let row = |(name, entry): (&Name, &Entry)| {
            let (now, counts) = (entry.live.now(), entry.live.history.counts());
            let is_active = now.state == PushState::Active;
            (name.clone(), Figures { is_active, requests: now.requests, counts })
        };
        entries.iter().take(max).map(row).collect()
    }

    /// Sends one event of the type `waystation.test` to the endpoint, whatever the push is doing.
    pub async fn test(&self, name: &Name) -> Result<Tested, Error> {
        let plan = Endpoint::new(&self.document(name).await?.spec(), self.0.sender.guard())?;
        let now = self.0.clock.now();
        let delivery = test_event(name.clone(), now);
        let job = plan.job(&[delivery]).map_err(|why| invalid("format", why))?;
        let sent = self.0.sender.probe(&job).await;
        Ok(Tested::new(&job.id, &sent))
    }
}

/// A message that says what it is.
pub fn test_event(address: Name, now: Millis) -> Delivery {
    let id = MessageId::new(now, os::random().unwrap_or_default());
    let body = format!("{{\"test\":true,\"sent_by\":\"waystation\",\"at\":{}}}", now.0);
    let mut message = Message::new(id, now, body);
    message.headers.set(header::CONTENT_TYPE, "application/json");
    message.headers.set(header::TYPE, TEST_TYPE);
    let (attempt, offset) = (Count(1), Offset(0));
    Delivery { tag: Tag(0), attempt, held_until: Millis::NEVER, address, partition: 0, offset, message }
}

fn info(name: &Name, entry: &Entry) -> PushInfo {
    let (spec, now) = (entry.document.spec(), entry.live.now());
    let (attempts, counts) = entry.live.history.show();
    let keys = spec.keys().unwrap_or_default();
    PushInfo {
        name: name.clone(),
        signatures: keys.iter().map(|key| key.version().to_owned()).collect(),
        public_keys: keys.iter().filter_map(crate::Secret::public).collect(),
        header_names: spec.headers.iter().flatten().map(|(name, _)| name.clone()).collect(),
        spec: spec.shown(),
        state: now.state,
        reason: now.reason,
        until: now.until,
        since: entry.document.since,
        requests: now.requests,
        counts,
        attempts,
    }
}
