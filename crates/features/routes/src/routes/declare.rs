//! How is a route declared, changed, paused and removed? Weighed first, then made with all that it needs.

use std::{collections::BTreeMap, sync::Arc};

use tokio::sync::Semaphore;
use waystation_base::Name;
use waystation_broker::{Refusal, effect::Declared};
use waystation_host::{Broker, task::to_its_end};

use super::Routes;
use crate::{
    Error, Invalid, Program, RouteSteps, cycles,
    document::Document,
    limits::{COMPILING_MAX, ROUTES_MAX},
    live::Live,
    names,
    spec::Destination,
    tools::Compiling,
};

pub(super) fn invalid(field: &str, reason: impl ToString) -> Error {
    Error::Invalid(Invalid { field: field.to_owned(), reason: reason.to_string() })
}

impl Routes {
    /// Compiles beside the runtime, since many programs take their time, and few at once, since each takes a stack.
    pub(crate) async fn compile(&self, name: &Name, spec: &RouteSteps) -> Result<Arc<Program>, Error> {
        static TURNS: Semaphore = Semaphore::const_new(COMPILING_MAX);
        if self.0.tools.compiling == Compiling::Here {
            return Ok(Arc::new(Program::compile(name, spec)?));
        }
        let (name, spec) = (name.clone(), spec.clone());
        // It is never closed.
        let _turn = TURNS.acquire().await;
        let compiled = tokio::task::spawn_blocking(move || Program::compile(&name, &spec)).await;
        let compiled =
            compiled.map_err(|error| Refusal::Stopped(format!("a compilation failed: {error}")))?;
        Ok(Arc::new(compiled?))
    }

    /// What a declaration would come to, and what is there now.
    async fn weigh(
        &self,
        name: &Name,
        spec: &RouteSteps,
        change: bool,
    ) -> Result<(Declared, Option<Document>), Error> {
        if name.is_reserved() {
            return Err(invalid("name", "names that start with '$' are reserved"));
        }
        self.compile(name, spec).await?;
        let (old, count) = {
            let entries = self.0.entries.lock().await;
            (entries.get(name).map(|entry| entry.document.clone()), entries.len())
        };
        let put = match &old {
            Some(old) if old.route == *spec => Declared::Unchanged,
            Some(_) if !change => return Err(Error::Differs(name.clone())),
            Some(_) => Declared::Changed,
            None if count >= ROUTES_MAX => return Err(Error::Limit),
            None => Declared::Created,
        };
        let asked = name.clone();
        if self.0.broker.query(move |view| view.route(&asked).is_some()).await? {
            return Err(Error::Taken(name.clone()));
        }
        self.check_replies(name, spec).await?;
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
    pub async fn try_put(&self, name: &Name, spec: RouteSteps, change: bool) -> Result<Declared, Error> {
        self.weigh(name, &spec, change).await.map(|(put, _)| put)
    }

    /// Declares a route. `broker` acts on the caller's behalf. What is begun goes on to its end if nobody waits any more.
    pub async fn put(
        &self,
        name: Name,
        spec: RouteSteps,
        change: bool,
        broker: &Broker,
    ) -> Result<Declared, Error> {
        let (routes, broker) = (self.clone(), broker.clone());
        to_its_end(async move { routes.declare(name, spec, change, &broker).await }).await
    }

    /// The present route works until the new one is written down: a write that fails changes nothing.
    async fn declare(
        &self,
        name: Name,
        spec: RouteSteps,
        change: bool,
        broker: &Broker,
    ) -> Result<Declared, Error> {
        let _one = self.0.changes.lock().await;
        let (declared, old) = self.weigh(&name, &spec, change).await?;
        if declared == Declared::Unchanged {
            return Ok(declared);
        }
        self.check_places(&name, &spec).await?;
        self.make_dead_letters(&name, &spec).await?;
        self.make_holds(&name, &spec).await?;
        let is_paused = old.as_ref().is_some_and(|old| old.is_paused);
        let document = Document { route: spec, is_paused, since: self.0.tools.clock.now() };
        self.write(&name, Some(&document), broker).await?;
        let live = self.stop(&name).await.unwrap_or_default();
        if let Err(error) = self.make_source(&name, &document.route).await {
            self.put_back(name, old, live, broker).await;
            return Err(error);
        }
        let dropped = match &old {
            Some(old) => self.drop_holds(&name, &old.route, Some(&document.route)).await,
            None => Ok(()),
        };
        self.place(name, document, live).await;
        dropped.map(|()| declared)
    }

    /// The source of a new declaration cannot be had: what was there goes on.
    async fn put_back(&self, name: Name, old: Option<Document>, live: Arc<Live>, broker: &Broker) {
        if let Err(error) = self.write(&name, old.as_ref(), broker).await {
            tracing::error!(route = %name, %error, "a declaration that failed could not be taken back");
        }
        let Some(old) = old else { return };
        if let Err(error) = self.make_source(&name, &old.route).await {
            tracing::error!(route = %name, %error, "the source of a route could not be made again");
        }
        self.place(name, old, live).await;
    }

    async fn write(&self, name: &Name, document: Option<&Document>, broker: &Broker) -> Result<(), Error> {
        Ok(broker.put_document(names::document(name)?, document.map(Document::bytes)).await?)
    }

    /// Lets a route rest, or work again. Says whether that changed anything.
    pub async fn set_paused(&self, name: &Name, paused: bool, broker: &Broker) -> Result<bool, Error> {
        let (routes, name, broker) = (self.clone(), name.clone(), broker.clone());
        to_its_end(async move { routes.rest(name, paused, &broker).await }).await
    }

    async fn rest(&self, name: Name, paused: bool, broker: &Broker) -> Result<bool, Error> {
        let _one = self.0.changes.lock().await;
        let old = self.document(&name).await?;
        if old.is_paused == paused {
            return Ok(false);
        }
        let document = Document { is_paused: paused, since: self.0.tools.clock.now(), ..old };
        self.write(&name, Some(&document), broker).await?;
        let live = self.stop(&name).await.unwrap_or_default();
        self.place(name, document, live).await;
        Ok(true)
    }

    /// Removes a route; what it has not taken stays where it is, but for its own subscription's position.
    pub async fn delete(&self, name: &Name, broker: &Broker) -> Result<(), Error> {
        let (routes, name, broker) = (self.clone(), name.clone(), broker.clone());
        to_its_end(async move { routes.remove(&name, &broker).await }).await
    }

    async fn remove(&self, name: &Name, broker: &Broker) -> Result<(), Error> {
        let _one = self.0.changes.lock().await;
        let document = self.document(name).await?;
        self.write(name, None, broker).await?;
        self.stop(name).await;
        self.0.entries.lock().await.remove(name);
        self.drop_holds(name, &document.route, None).await?;
        if document.route.from.taken(name)?.declaration().is_some() {
            self.drop_source(name).await?;
        }
        Ok(())
    }
}
