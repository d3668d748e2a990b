//! Which routes are there? Declared, kept as documents, started at boot, paused, resumed, changed and removed.

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use tokio::{
    sync::{Mutex, Semaphore, watch},
    task::JoinHandle,
};
use utoipa::ToSchema;
use waystation_base::{Millis, Name};
use waystation_broker::{
    Kind, Refusal, SessionId,
    command::{Counted, Delete},
    spec::{QueueSpec, Spec},
};
use waystation_host::Broker;

use crate::{
    Counts, Error, Invalid, Program, RouteState, RouteSteps, Tools, cycles,
    document::{Document, PREFIX},
    engine::Worker,
    hold::Plan,
    limits::{COMPILING_MAX, ROUTES_MAX},
    live::Live,
    names, record,
    spec::{Destination, Needs, Taken},
};

/// What a declaration did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Put {
    /// It is new.
    Created,
    /// It was changed.
    Changed,
    /// It was there just so.
    Unchanged,
}

/// A route with steps as it is now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RouteStepsInfo {
    /// Its name.
    #[schema(value_type = String)]
    pub name: Name,
    /// How it is declared; not shown to whoever may not configure it, since programs may hold secrets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<RouteSteps>,
    /// Where its failing messages go.
    #[schema(value_type = String)]
    pub dead_letter: Name,
    /// What it is doing.
    pub state: RouteState,
    /// Why, if that needs saying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it was declared, changed, paused or resumed last.
    #[schema(value_type = u64)]
    pub since: Millis,
    /// Counted since the server started.
    pub counts: Counts,
}

/// All routes with steps of a server. Clones share them.
#[derive(Clone)]
pub struct Routes(Arc<Inner>);

struct Inner {
    broker: Broker,
    tools: Tools,
    /// One change at a time.
    changes: Mutex<()>,
    entries: Mutex<BTreeMap<Name, Entry>>,
}

struct Entry {
    document: Document,
    live: Arc<Live>,
    task: Option<Task>,
}

struct Task {
    stop: watch::Sender<bool>,
    handle: JoinHandle<()>,
}

fn invalid(field: &str, reason: impl ToString) -> Error {
    Error::Invalid(Invalid { field: field.to_owned(), reason: reason.to_string() })
}

/// Compiles beside the runtime, since many programs take their time, and few at once, since each takes a stack.
pub(crate) async fn compile(name: &Name, spec: &RouteSteps) -> Result<Arc<Program>, Error> {
    static TURNS: Semaphore = Semaphore::const_new(COMPILING_MAX);
    let (name, spec) = (name.clone(), spec.clone());
    // It is never closed.
    let _turn = TURNS.acquire().await;
    let compiled = tokio::task::spawn_blocking(move || Program::compile(&name, &spec)).await;
    let compiled = compiled.map_err(|error| Refusal::Stopped(format!("a compilation failed: {error}")))?;
    Ok(Arc::new(compiled?))
}

impl Routes {
    /// None yet; [`Routes::load`] starts those that are stored.
    pub fn new(broker: Broker, tools: Tools) -> Routes {
        let tools = Tools { broker: Some(broker.clone()), ..tools };
        let (changes, entries) = (Mutex::default(), Mutex::default());
        Routes(Arc::new(Inner { broker, tools, changes, entries }))
    }

    /// What steps work with.
    pub(crate) fn tools(&self) -> &Tools {
        &self.0.tools
    }

    pub(crate) fn broker(&self) -> &Broker {
        &self.0.broker
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
                    tracing::error!(document = %stored, %error, "a route cannot be read and does not run");
                }
                _ => tracing::error!(document = %stored, "a document has no route's name"),
            }
        }
        Ok(())
    }

    /// Runs until `end`, then stops all; what is being stored may end, for a while.
    pub async fn serve(&self, end: impl Future<Output = ()>) {
        end.await;
        let _one = self.0.changes.lock().await;
        let mut ending = Vec::new();
        for entry in self.0.entries.lock().await.values_mut() {
            ending.extend(entry.task.take());
        }
        for task in &ending {
            task.stop.send_replace(true);
        }
        for task in ending {
            // A task that failed has said so.
            let _ = task.handle.await;
        }
    }

    /// What a declaration would come to, and what is there now.
    async fn weigh(
        &self,
        name: &Name,
        spec: &RouteSteps,
        change: bool,
    ) -> Result<(Put, Option<Document>), Error> {
        if name.is_reserved() {
            return Err(invalid("name", "names that start with '$' are reserved"));
        }
        compile(name, spec).await?;
        let (old, count) = {
            let entries = self.0.entries.lock().await;
            (entries.get(name).map(|entry| entry.document.clone()), entries.len())
        };
        let put = match &old {
            Some(old) if old.route == *spec => Put::Unchanged,
            Some(_) if !change => return Err(Error::Differs(name.clone())),
            Some(_) => Put::Changed,
            None if count >= ROUTES_MAX => return Err(Error::Limit),
            None => Put::Created,
        };
        let asked = name.clone();
        if self.0.broker.query(move |view| view.route(&asked).is_some()).await? {
            return Err(Error::Taken(name.clone()));
        }
        self.check_cycles(name, spec).await?;
        Ok((put, old))
    }

    async fn check_cycles(&self, name: &Name, spec: &RouteSteps) -> Result<(), Error> {
        if spec.cycle {
            return Ok(());
        }
        let targets = spec.sends().targets;
        let others: BTreeMap<Name, RouteSteps> = {
            let entries = self.0.entries.lock().await;
            let mut sources = entries.values().map(|entry| &entry.document.route.from).chain([&spec.from]);
            let is_chain = targets.iter().any(|it| matches!(it, Destination::Route(..)))
                || sources.any(|from| from.may_take(&targets));
            // Mostly no route takes what another sends, and there may be thousands.
            if !is_chain {
                return Ok(());
            }
            entries.iter().map(|(name, entry)| (name.clone(), entry.document.route.clone())).collect()
        };
        let (name, spec) = (name.clone(), spec.clone());
        match self.0.broker.query(move |view| cycles::find(view, &name, &spec, &others)).await? {
            None => Ok(()),
            Some(path) => {
                let way = path.join(" -> ");
                let reason = format!(
                    "messages would go round: {way}, which this route takes from; with cycle = true that may be"
                );
                Err(invalid("steps", reason))
            }
        }
    }

    /// What [`Routes::put`] would come to; nothing is changed. What it names may come into being before the route does.
    pub async fn try_put(&self, name: &Name, spec: RouteSteps, change: bool) -> Result<Put, Error> {
        self.weigh(name, &spec, change).await.map(|(put, _)| put)
    }

    /// Declares a route. `broker` acts on the caller's behalf.
    pub async fn put(
        &self,
        name: Name,
        spec: RouteSteps,
        change: bool,
        broker: &Broker,
    ) -> Result<Put, Error> {
        let _one = self.0.changes.lock().await;
        let (put, old) = self.weigh(&name, &spec, change).await?;
        if put == Put::Unchanged {
            return Ok(put);
        }
        self.check_places(&name, &spec).await?;
        self.make_dead_letters(&name, &spec).await?;
        self.make_holds(&name, &spec).await?;
        let live = self.stop(&name).await.unwrap_or_default();
        if let Err(error) = self.make_source(&name, &spec, old.as_ref()).await {
            // The old one goes on.
            if let Some(old) = old {
                self.place(name, old, live).await;
            }
            return Err(error);
        }
        let is_paused = old.is_some_and(|old| old.is_paused);
        let document = Document { route: spec, is_paused, since: self.0.tools.clock.now() };
        self.write(&name, Some(&document), broker).await?;
        self.place(name, document, live).await;
        Ok(put)
    }

    /// The source and all that is named as a target are there.
    async fn check_places(&self, name: &Name, spec: &RouteSteps) -> Result<(), Error> {
        let taken = spec.from.taken(name)?;
        let sends = spec.sends();
        let named = spec.dead_letter.as_deref().and_then(|text| Name::new(text).ok());
        let missing = self.0.broker.query(move |view| {
            let is_address = |name: &Name| view.queue(name).is_some() || view.topic(name).is_some();
            let missing = |kind, name: &Name| Refusal::NotFound { kind, name: name.to_string() };
            match &taken {
                Taken::Queue(name) if view.queue(name).is_none() => return Some(missing(Kind::Queue, name)),
                Taken::Subscription(name) if view.subscription(name).is_none() => {
                    return Some(missing(Kind::Subscription, name));
                }
                _ => {}
            }
            if let Some(name) = named.as_ref().filter(|name| !is_address(name)) {
                return Some(missing(Kind::Queue, name));
            }
            let needed = sends.needs.iter().find_map(|needs| match needs {
                Needs::Replies(name) => view.queue(name).is_none().then(|| missing(Kind::Queue, name)),
                Needs::Store(name) | Needs::Reads(name) => {
                    view.topic(name).is_none().then(|| missing(Kind::Topic, name))
                }
            });
            if needed.is_some() {
                return needed;
            }
            sends.targets.iter().find_map(|target| match target {
                Destination::Address(name) => (!is_address(name)).then(|| missing(Kind::Queue, name)),
                Destination::Route(name, _) => view.route(name).is_none().then(|| missing(Kind::Route, name)),
            })
        });
        missing.await?.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// Makes the queue for dead letters, unless another address is named.
    async fn make_dead_letters(&self, name: &Name, spec: &RouteSteps) -> Result<(), Error> {
        let address = spec.dead_letter(name)?;
        let asked = address.clone();
        let is_there = self
            .0
            .broker
            .query(move |view| view.queue(&asked).is_some() || view.topic(&asked).is_some())
            .await?;
        if !is_there {
            let queue = Spec::Queue(QueueSpec::default());
            self.0.broker.declare(address, queue, false, SessionId::default()).await?;
        }
        Ok(())
    }

    /// Makes the queues of steps that hold messages. They stay if the route goes while they hold something: it is not lost, and a
    /// route of that name with such a step takes it up.
    async fn make_holds(&self, name: &Name, spec: &RouteSteps) -> Result<(), Error> {
        for plan in &compile(name, spec).await?.holds {
            let queue = Spec::Queue(Plan::declaration());
            self.0.broker.declare(plan.queue.clone(), queue, true, SessionId::default()).await?;
        }
        Ok(())
    }

    /// Takes away the queues of such steps that are empty.
    async fn drop_holds(&self, name: &Name, spec: &RouteSteps) -> Result<(), Error> {
        for plan in &compile(name, spec).await?.holds {
            let delete = Delete {
                kind: Kind::Queue,
                name: plan.queue.clone(),
                if_unused: false,
                if_empty: true,
                counted: Counted::All,
                session: SessionId::default(),
            };
            // One that holds something stays.
            if let Err(refusal) = self.0.broker.delete(delete).await {
                tracing::info!(route = %name, queue = %plan.queue, %refusal, "a step's queue stays");
            }
        }
        Ok(())
    }

    /// Makes the route's own subscription what it has to be, or takes it away.
    async fn make_source(&self, name: &Name, spec: &RouteSteps, old: Option<&Document>) -> Result<(), Error> {
        let wanted = spec.from.taken(name)?.declaration();
        let had = old.and_then(|old| old.route.from.taken(name).ok()?.declaration());
        if had == wanted && had.is_some() {
            return Ok(());
        }
        if had.is_some() {
            self.drop_source(name).await?;
        }
        if let Some((subscription, spec)) = wanted {
            let declare = Spec::Subscription(spec);
            self.0.broker.declare(subscription, declare, true, SessionId::default()).await?;
        }
        Ok(())
    }

    async fn drop_source(&self, name: &Name) -> Result<(), Error> {
        let delete = Delete {
            kind: Kind::Subscription,
            name: names::subscription(name)?,
            if_unused: false,
            if_empty: false,
            counted: Counted::All,
            session: SessionId::default(),
        };
        match self.0.broker.delete(delete).await {
            Ok(_) | Err(Refusal::NotFound { .. }) => Ok(()),
            Err(refusal) => Err(refusal.into()),
        }
    }

    async fn write(&self, name: &Name, document: Option<&Document>, broker: &Broker) -> Result<(), Error> {
        Ok(broker.put_document(names::document(name)?, document.map(Document::bytes)).await?)
    }

    /// Stops a route's task, outside of any lock that it may need, and gives what was seen of it.
    async fn stop(&self, name: &Name) -> Option<Arc<Live>> {
        let (task, live) = {
            let mut entries = self.0.entries.lock().await;
            let entry = entries.get_mut(name)?;
            (entry.task.take(), entry.live.clone())
        };
        if let Some(task) = task {
            task.stop.send_replace(true);
            // A task that failed has said so.
            let _ = task.handle.await;
        }
        Some(live)
    }

    /// Puts a route into its place and starts it, if it is to run.
    async fn place(&self, name: Name, document: Document, live: Arc<Live>) {
        let task = match document.is_paused {
            true => {
                live.set(RouteState::Paused, None);
                None
            }
            false => Some(self.start(&name, &document.route, &live)),
        };
        self.0.entries.lock().await.insert(name, Entry { document, live, task });
    }

    fn start(&self, name: &Name, spec: &RouteSteps, live: &Arc<Live>) -> Task {
        let (stop, told) = watch::channel(false);
        let (routes, name, spec, live) = (self.clone(), name.clone(), spec.clone(), live.clone());
        let handle = tokio::spawn(async move {
            match routes.worker(&name, &spec, live.clone()).await {
                Ok(worker) => {
                    let holders = worker.holders();
                    let holding = join_all(holders.iter().map(|holder| holder.run(told.clone())));
                    tokio::join!(worker.run(told.clone()), holding);
                }
                Err(error) => {
                    tracing::error!(route = %name, %error, "a route does not run");
                    live.set(RouteState::Waiting, Some(error.to_string()));
                }
            }
        });
        Task { stop, handle }
    }

    async fn worker(&self, name: &Name, spec: &RouteSteps, live: Arc<Live>) -> Result<Worker, Error> {
        Ok(Worker {
            broker: self.0.broker.clone(),
            tools: self.0.tools.clone(),
            program: compile(name, spec).await?,
            source: spec.from.taken(name)?.source(),
            dead_letter: spec.dead_letter(name)?,
            order: spec.order,
            retry: spec.retry.clone(),
            record: spec.record,
            live,
        })
    }

    /// Lets a route rest, or work again. Says whether that changed anything.
    pub async fn set_paused(&self, name: &Name, paused: bool, broker: &Broker) -> Result<bool, Error> {
        let _one = self.0.changes.lock().await;
        let old = self.document(name).await?;
        if old.is_paused == paused {
            return Ok(false);
        }
        let document = Document { is_paused: paused, since: self.0.tools.clock.now(), ..old };
        self.write(name, Some(&document), broker).await?;
        let live = self.stop(name).await.unwrap_or_default();
        self.place(name.clone(), document, live).await;
        Ok(true)
    }

    /// Removes a route; what it has not taken stays where it is, but for its own subscription's position.
    pub async fn delete(&self, name: &Name, broker: &Broker) -> Result<(), Error> {
        let _one = self.0.changes.lock().await;
        let document = self.document(name).await?;
        self.write(name, None, broker).await?;
        self.stop(name).await;
        self.0.entries.lock().await.remove(name);
        self.drop_holds(name, &document.route).await?;
        if document.route.from.taken(name)?.declaration().is_some() {
            self.drop_source(name).await?;
        }
        Ok(())
    }

    async fn document(&self, name: &Name) -> Result<Document, Error> {
        let entries = self.0.entries.lock().await;
        let entry = entries.get(name).ok_or_else(|| Error::NotFound(name.clone()))?;
        Ok(entry.document.clone())
    }

    /// Whether there is one of that name.
    pub async fn has(&self, name: &Name) -> bool {
        self.0.entries.lock().await.contains_key(name)
    }

    /// One as it is now.
    pub async fn get(&self, name: &Name) -> Result<RouteStepsInfo, Error> {
        let entries = self.0.entries.lock().await;
        let entry = entries.get(name).ok_or_else(|| Error::NotFound(name.clone()))?;
        Ok(info(name, entry))
    }

    /// The declaration of one.
    pub async fn spec(&self, name: &Name) -> Result<RouteSteps, Error> {
        Ok(self.document(name).await?.route)
    }

    /// Those after a name that somebody may see, in order, at most `max`.
    pub async fn list(
        &self,
        after: Option<&str>,
        max: usize,
        may_see: impl Fn(&Name) -> bool,
    ) -> Vec<RouteStepsInfo> {
        let entries = self.0.entries.lock().await;
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let shown = entries.range::<str, _>((from, Bound::Unbounded)).filter(|(name, _)| may_see(name));
        shown.take(max).map(|(name, entry)| info(name, entry)).collect()
    }

    /// Those that take nothing for now: from what, how they are and why.
    pub async fn idle(&self) -> Vec<(Name, waystation_broker::Source, RouteState, Option<String>)> {
        let entries = self.0.entries.lock().await;
        let row = |(name, entry): (&Name, &Entry)| {
            let (state, reason) = entry.live.now();
            let source = entry.document.route.from.taken(name).ok()?.source();
            (state != RouteState::Active).then(|| (name.clone(), source, state, reason))
        };
        entries.iter().filter_map(row).collect()
    }

    /// Figures of those first by name, at most `max`.
    pub async fn figures(&self, max: usize) -> Vec<(Name, RouteState, Counts)> {
        let entries = self.0.entries.lock().await;
        let row = |(name, entry): (&Name, &Entry)| (name.clone(), entry.live.now().0, entry.live.counts());
        entries.iter().take(max).map(row).collect()
    }
}

fn info(name: &Name, entry: &Entry) -> RouteStepsInfo {
    let spec = entry.document.route.clone();
    let (state, reason) = entry.live.now();
    RouteStepsInfo {
        // It was checked when it was declared.
        dead_letter: spec.dead_letter(name).unwrap_or_else(|_| name.clone()),
        name: name.clone(),
        spec: Some(spec),
        state,
        reason,
        since: entry.document.since,
        counts: entry.live.counts(),
    }
}
