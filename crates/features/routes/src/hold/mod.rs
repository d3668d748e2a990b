//! Steps that hold messages until others have come or time has passed. What they hold is a queue of the route's own, consumed and not
//! settled: the queue is the state, so that it is there again after a crash, and a step of it is one transaction.

mod act;
mod combine;
mod draft;
mod due;
mod evaluate;
pub(crate) mod groups;
pub(crate) mod plan;
mod rebuild;
pub(crate) mod room;
pub(crate) mod says;
pub(crate) mod sequence;
mod state;
mod store;
mod turn;

use std::{sync::Arc, time::Duration};

use tokio::{sync::watch, time};
use waystation_base::Name;
use waystation_broker::{SessionId, Source, spec::RetryPolicy};
use waystation_host::Broker;

pub(crate) use plan::Plan;
pub(crate) use room::{Entry, Full, NoRoom};
use turn::Turn;

use crate::{Program, Tools, engine::stopped, live::Live};

/// How long to wait before looking again for what is not there.
const AGAIN: Duration = Duration::from_secs(1);

/// Runs one step of a route that holds messages.
pub(crate) struct Holder {
    pub broker: Broker,
    pub tools: Tools,
    pub program: Arc<Program>,
    pub plan: Plan,
    /// What the route takes from: messages came from there before they were held.
    pub source: Source,
    pub dead_letter: Name,
    /// When it is tried again what cannot be done now.
    pub retry: RetryPolicy,
    pub record: bool,
    pub live: Arc<Live>,
}

impl Holder {
    /// Works until it is told to stop (or the teller is gone).
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        loop {
            let session = self.broker.session();
            let left = self.hold(session, &mut stop).await;
            // What it still held in its own queue comes back.
            let _ = self.broker.close_session(session).await;
            let Err(why) = left else { return };
            tracing::warn!(route = %self.program.name, step = %self.plan.at, %why, "a step waits");
            self.live.waits(&self.plan.at, why);
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                () = time::sleep(AGAIN) => {}
            }
        }
    }

    fn sources(&self) -> Vec<Source> {
        std::iter::once(&self.plan.queue).chain(&self.plan.replies).cloned().map(Source::Queue).collect()
    }

    /// Works until it is told to stop, or says why it cannot.
    async fn hold(&self, session: SessionId, stop: &mut watch::Receiver<bool>) -> Result<(), String> {
        // What the route adds meanwhile would be counted twice, or not at all.
        let counting = self.plan.room.counting().await;
        let mut turn = Turn::attach(self, session).await.map_err(|refusal| refusal.to_string())?;
        let rebuilt = turn.rebuild().await;
        drop(counting);
        let left = match rebuilt {
            Ok(()) => {
                self.live.works(&self.plan.at);
                turn.go(stop).await
            }
            Err(why) => Err(why),
        };
        turn.end().await;
        left
    }
}
