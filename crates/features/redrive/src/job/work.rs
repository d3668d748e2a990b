//! What does the task of one redrive do? It takes a step while there is something to do, and hears what it is told between two steps.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot, watch},
    time::{Instant, sleep_until},
};
use waystation_base::{Clock, Millis};
use waystation_broker::{
    Refusal,
    command::{Publish, Transaction},
    effect::Published,
};
use waystation_host::Broker;

use super::{
    Error,
    figures::Counts,
    forward::Goal,
    record::{Record, State, Walk},
};
use crate::{letters::Letters, limits::BATCH_MESSAGES};

/// First pause before something is tried again that could not be done.
const PAUSE_MIN: Duration = Duration::from_millis(100);
/// Longest such pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// What a redrive is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Pause,
    Resume,
    Abort,
    Undo,
}

/// A wish, and where to say what came of it.
pub(super) struct Ask {
    pub wish: Wish,
    pub reply: oneshot::Sender<Result<(), Error>>,
}

/// How a step ended.
pub(super) enum Step {
    /// So many messages were moved; there may be more.
    Moved(usize),
    /// Nothing more is to do.
    Finished,
    /// It cannot go on now, for this reason.
    Wait(String),
    /// It cannot go on by itself, for this reason.
    Rest(String),
}

/// Resolves when the stop is given.
async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A teller that is gone says the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// The task of one redrive.
pub(super) struct Work {
    pub broker: Broker,
    pub letters: Letters,
    pub counts: Arc<Counts>,
    pub clock: Arc<dyn Clock>,
    pub record: Record,
    pub seen: watch::Sender<Record>,
    pub asks: mpsc::Receiver<Ask>,
    pub stop: watch::Receiver<bool>,
    /// Messages of the next transaction; fewer after one was refused as too many.
    pub batch: usize,
    /// What changes messages, if anything does; or why that cannot be.
    pub editor: Result<Option<super::edit::Editor>, crate::which::Invalid>,
    /// Of edited messages: where each is kept as it was. Read when undoing begins.
    pub originals: Option<super::undo::Originals>,
}

impl Work {
    /// Works and listens until it is stopped or nobody can ask any more.
    pub async fn run(mut self) {
        let mut pause = PAUSE_MIN;
        let mut ready = Instant::now();
        loop {
            let is_active = self.record.redrive.state.is_active();
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => return,
                ask = self.asks.recv() => {
                    let Some(ask) = ask else { return };
                    let answer = self.heed(ask.wish).await;
                    (pause, ready) = (PAUSE_MIN, Instant::now());
                    // An asker that is gone needs no answer.
                    let _ = ask.reply.send(answer);
                    continue;
                }
                () = sleep_until(ready), if is_active => {}
            }
            match self.step().await {
                Ok(Step::Moved(count)) => {
                    pause = PAUSE_MIN;
                    ready = Instant::now() + self.pace(count);
                    self.batch = (self.batch * 2).min(BATCH_MESSAGES);
                    self.tell(None);
                }
                Ok(Step::Finished) => {
                    if let Err(refusal) = self.finish().await {
                        ready = Instant::now() + pause;
                        self.tell(Some(refusal.to_string()));
                    }
                }
                Ok(Step::Wait(reason)) => {
                    ready = Instant::now() + pause;
                    pause = (pause * 2).min(PAUSE_MAX);
                    self.tell(Some(reason));
                }
                Ok(Step::Rest(reason)) => {
                    if let Err(error) = self.rest(reason).await {
                        ready = Instant::now() + pause;
                        self.tell(Some(error.to_string()));
                    }
                }
                Err(Refusal::Draining | Refusal::Stopped(_)) => return,
                Err(refusal) => {
                    ready = Instant::now() + pause;
                    pause = (pause * 2).min(PAUSE_MAX);
                    self.tell(Some(refusal.to_string()));
                }
            }
        }
    }

    async fn step(&mut self) -> Result<Step, Refusal> {
        match self.record.redrive.state {
            State::Undoing => self.undo_step().await,
            _ => self.forward_step().await,
        }
    }

    /// How long a step of so many messages takes at the rate that was asked for.
    fn pace(&self, count: usize) -> Duration {
        let rate = self.record.redrive.spec.rate.filter(|_| self.record.redrive.state == State::Running);
        rate.map_or(Duration::ZERO, |rate| Duration::from_secs_f64(count as f64 / f64::from(rate)))
    }

    /// Shows how it stands. Why it waits is not worth a write.
    fn tell(&mut self, reason: Option<String>) {
        self.record.redrive.reason = reason;
        self.seen.send_replace(self.record.clone());
    }

    pub(super) fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Takes over a record once it is durable together with what else is in the transaction.
    pub(super) async fn commit(
        &mut self,
        mut record: Record,
        mut transaction: Transaction,
    ) -> Result<Vec<Published>, Refusal> {
        let now = self.now();
        record.redrive.changed = now.0;
        let publish: Publish = record.publish(now)?;
        transaction.publishes.push(publish);
        let published = self.broker.transact(transaction).await?;
        self.counts.add(&self.record.redrive, &record.redrive);
        self.record = record;
        Ok(published)
    }

    async fn become_state(&mut self, state: State, reason: Option<String>) -> Result<(), Refusal> {
        let mut record = self.record.clone();
        (record.redrive.state, record.redrive.reason) = (state, reason);
        self.commit(record, Transaction::default()).await?;
        self.seen.send_replace(self.record.clone());
        Ok(())
    }

    async fn finish(&mut self) -> Result<(), Refusal> {
        let state =
            if self.record.redrive.state == State::Undoing { State::Undone } else { State::Completed };
        self.originals = None;
        self.become_state(state, None).await
    }

    async fn rest(&mut self, reason: String) -> Result<(), Refusal> {
        self.become_state(State::Paused, Some(reason)).await
    }

    async fn heed(&mut self, wish: Wish) -> Result<(), Error> {
        let state = self.record.redrive.state;
        let (next, what) = match (wish, state) {
            (Wish::Pause, State::Running) => (Some(State::Paused), ""),
            (Wish::Resume, State::Paused) => (Some(State::Running), ""),
            (Wish::Abort, State::Running | State::Paused | State::Undoing) => (Some(State::Aborted), ""),
            (Wish::Undo, State::Running | State::Paused | State::Completed | State::Aborted) => {
                return self.begin_undo().await;
            }
            // It is so already.
            (Wish::Pause, State::Paused) | (Wish::Resume, State::Running) | (Wish::Abort, State::Aborted) => {
                return Ok(());
            }
            (Wish::Undo, State::Undoing | State::Undone) => return Ok(()),
            (Wish::Pause, _) => (None, "paused"),
            (Wish::Resume, _) => (None, "resumed"),
            (Wish::Abort, _) => (None, "aborted"),
        };
        let Some(next) = next else {
            return Err(Error::State { id: self.record.redrive.id.clone(), state, what });
        };
        Ok(self.become_state(next, None).await?)
    }

    async fn begin_undo(&mut self) -> Result<(), Error> {
        let targets: Vec<_> =
            self.record.redrive.targets.keys().filter_map(|target| Goal::place(target)).collect();
        let extents = self.broker.query(move |view| {
            let each =
                targets.into_iter().filter_map(|name| view.extents(&name).map(|extents| (name, extents)));
            each.collect::<Vec<_>>()
        });
        let mut record = self.record.clone();
        record.walk = Walk::through(extents.await?);
        (record.redrive.state, record.redrive.reason) = (State::Undoing, None);
        self.commit(record, Transaction::default()).await?;
        self.seen.send_replace(self.record.clone());
        Ok(())
    }
}
