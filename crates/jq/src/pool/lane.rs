//! One place for a child: takes documents from the common queue, starts a child when there is one, and another when it died.

use std::{collections::VecDeque, sync::Arc};

use tokio::{
    sync::{Mutex, mpsc},
    time::Instant,
};

use super::{
    Command,
    child::{Child, Turn},
    job::Job,
    process::End,
};
use crate::{Failure, Limits};

/// The place.
#[derive(Debug)]
pub struct Lane {
    command: Command,
    limits: Limits,
    start: Instant,
    jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
    /// Where documents go whose program overran; `None` if this is that place.
    apart: Option<mpsc::Sender<Job>>,
    /// What is to be given to a child next, before the queue.
    next: VecDeque<Job>,
}

impl Lane {
    /// A place without a child.
    pub fn new(
        command: Command,
        limits: Limits,
        start: Instant,
        jobs: Arc<Mutex<mpsc::Receiver<Job>>>,
        apart: Option<mpsc::Sender<Job>>,
    ) -> Lane {
        Lane { command, limits, start, jobs, apart, next: VecDeque::new() }
    }

    /// Works until nobody can bring documents any more.
    pub async fn run(mut self) {
        while !self.next.is_empty() || self.take(1).await {
            match Child::spawn(&self.command, self.limits.memory_bytes) {
                Ok(child) => self.drive(child).await,
                Err(cause) => self.fail_first(Failure::Worker(cause.to_string())),
            }
        }
    }

    /// Waits for documents and takes up to `most` of them; whether there will be more.
    async fn take(&mut self, most: usize) -> bool {
        let mut taken = Vec::new();
        let open = self.jobs.lock().await.recv_many(&mut taken, most).await > 0;
        self.next.extend(taken);
        self.send_apart();
        open
    }

    /// Hands on the documents whose program has overrun, so that they hold nobody else up.
    fn send_apart(&mut self) {
        let Some(apart) = &self.apart else { return };
        for job in std::mem::take(&mut self.next) {
            if !job.is_apart(self.start) {
                self.next.push_back(job);
            } else if let Err(refused) = apart.try_send(job) {
                self.next.push_back(refused.into_inner());
            }
        }
    }

    /// Feeds a child until it is gone, idle for long, or no longer needed.
    async fn drive(&mut self, mut child: Child) {
        let mut open = true;
        let turn = loop {
            while child.room() > 0
                && let Some(job) = self.next.pop_front()
            {
                child.give(job);
            }
            if !open && child.is_idle() {
                break Turn::Idle;
            }
            let room = child.room();
            let turn = tokio::select! {
                turn = child.turn() => turn,
                more = self.take(room), if open && room > 0 => { open = more; Turn::Moved }
            };
            if turn != Turn::Moved {
                break turn;
            }
        };
        let late = turn == Turn::Late;
        let (unanswered, end, ready) = child.end().await;
        self.next.extend(unanswered);
        if turn != Turn::Idle {
            self.blame_first(late, ready, turn, end);
        }
    }

    /// The first that a child left unanswered is what it died of; the others go to the next one.
    fn blame_first(&mut self, late: bool, ready: bool, turn: Turn, end: End) {
        let Some(job) = self.next.front() else { return };
        let failure = match (turn, end) {
            _ if late => Failure::Time(job.bounds.time),
            (_, End::Exhausted) if ready => Failure::Memory(self.limits.memory_bytes),
            (Turn::Gone(why), End::Exhausted) => Failure::Worker(why),
            (_, End::Exhausted) => Failure::Worker("it was killed".into()),
            (_, End::Other(text)) => Failure::Worker(text),
        };
        tracing::debug!(%failure, "a jq worker was ended");
        if matches!(failure, Failure::Time(_) | Failure::Memory(_)) {
            job.set_apart(self.start);
        }
        self.fail_first(failure);
        self.send_apart();
    }

    fn fail_first(&mut self, failure: Failure) {
        if let Some(job) = self.next.pop_front() {
            job.fail(failure);
        }
    }
}
