//! How do routes run? Each in a task of its own, started when it is put into its place and stopped before it is changed.

use std::sync::Arc;

use futures_util::future::join_all;
use waystation_base::Name;
use waystation_host::task::Task;

use super::{Entry, Routes};
use crate::{
    Error, RouteSteps,
    document::Document,
    engine::Worker,
    live::{Live, SOURCE},
};

impl Routes {
    /// Stops a route's task, outside of any lock that it may need, and gives what was seen of it.
    pub(super) async fn stop(&self, name: &Name) -> Option<Arc<Live>> {
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

    /// Puts a route into its place and starts it, if it is to run.
    pub(super) async fn place(&self, name: Name, document: Document, live: Arc<Live>) {
        live.begin(document.is_paused);
        let task = (!document.is_paused).then(|| self.start(&name, &document.route, &live));
        let replies = document.route.replies().map(|(_, queue)| queue).collect();
        self.0.entries.lock().await.insert(name, Entry { document, replies, live, task });
    }

    fn start(&self, name: &Name, spec: &RouteSteps, live: &Arc<Live>) -> Task {
        let (routes, name, spec, live) = (self.clone(), name.clone(), spec.clone(), live.clone());
        Task::start(|told| async move {
            match routes.worker(&name, &spec, live.clone()).await {
                Ok(worker) => {
                    let holders = worker.holders();
                    let holding = join_all(holders.iter().map(|holder| holder.run(told.clone())));
                    tokio::join!(worker.run(told.clone()), holding);
                }
                Err(error) => {
                    tracing::error!(route = %name, %error, "a route does not run");
                    live.waits(SOURCE, error.to_string());
                }
            }
        })
    }

    async fn worker(&self, name: &Name, spec: &RouteSteps, live: Arc<Live>) -> Result<Worker, Error> {
        Ok(Worker {
            broker: self.0.broker.clone(),
            tools: self.0.tools.clone(),
            program: self.compile(name, spec).await?,
            source: spec.from.taken(name)?.source(),
            dead_letter: spec.dead_letter(name)?,
            order: spec.order,
            retry: spec.retry.clone(),
            record: spec.record,
            live,
        })
    }
}
