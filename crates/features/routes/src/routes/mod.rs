//! Which routes are there? Declared, kept as documents, started at boot, paused, resumed, changed and removed.

mod declare;
mod places;
mod tasks;

use std::{collections::BTreeMap, ops::Bound, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use utoipa::ToSchema;
use waystation_base::{Millis, Name};
use waystation_broker::Refusal;
use waystation_host::{Broker, task::Task};

use crate::{
    Counts, Error, RouteState, RouteSteps, Tools,
    document::{Document, PREFIX},
    live::Live,
    record,
};

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
    /// The queues that its steps take replies from.
    replies: Vec<Name>,
    live: Arc<Live>,
    task: Option<Task>,
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
                (Some(Ok(name)), Ok(document)) => {
                    if let Err(error) = self.make_source(&name, &document.route).await {
                        tracing::error!(route = %name, %error, "the source of a route cannot be made");
                    }
                    self.place(name, document, Arc::default()).await;
                }
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
        let ending: Vec<Task> =
            self.0.entries.lock().await.values_mut().filter_map(|entry| entry.task.take()).collect();
        Task::end_all(ending).await;
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
