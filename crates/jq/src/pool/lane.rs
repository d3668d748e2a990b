//! One place for a child: takes documents from the common queue, starts a child when there is one, and another when it died.

use std::{collections::VecDeque, sync::Arc};

use tokio::time::Instant;

use super::{
    Command,
    child::{Child, Ended, Turn},
    job::Job,
    process::End,
    queue::Queue,
};
use crate::{Failure, Limits};

/// The place.
#[derive(Debug)]
pub struct Lane {
    command: Command,
    limits: Limits,
    start: Instant,
    jobs: Arc<Queue>,
    /// Where documents go whose program overran; `None` if this is that place.
    apart: Option<Arc<Queue>>,
    /// What is to be given to a child next, before the queue.
    next: VecDeque<Job>,
}

impl Lane {
    /// A place without a child.
    pub fn new(
        command: Command,
        limits: Limits,
        start: Instant,
        jobs: Arc<Queue>,
        apart: Option<Arc<Queue>>,
    ) -> Lane {
        Lane { command, limits, start, jobs, apart, next: VecDeque::new() }
    }

    /// Works until nobody can bring documents any more.
    pub async fn run(mut self) {
        while !self.next.is_empty() || self.wait().await {
            match Child::spawn(&self.command, self.limits.memory_bytes) {
                Ok(child) => self.drive(child).await,
                Err(cause) => self.fail_first(Failure::Worker(cause.to_string())),
            }
        }
    }

    /// Waits for a document and takes it; whether there will be more.
    async fn wait(&mut self) -> bool {
        let job = self.jobs.next().await;
        let open = job.is_some();
        self.next.extend(job);
        self.send_apart();
        open
    }

    /// The next document for a child, if there is one.
    fn take(&mut self) -> Option<Job> {
        if self.next.is_empty() {
            self.next.extend(self.jobs.take());
            self.send_apart();
        }
        self.next.pop_front()
    }

    /// Hands on the documents whose program has overrun, so that they hold nobody else up.
    fn send_apart(&mut self) {
        let Some(apart) = &self.apart else { return };
        for job in std::mem::take(&mut self.next) {
            match job.is_apart(self.start) {
                true => apart.push(job),
                false => self.next.push_back(job),
            }
        }
    }

    /// Feeds a child until it is gone, idle for long, or no longer needed.
    async fn drive(&mut self, mut child: Child) {
        let mut open = true;
        let turn = loop {
            while child.has_room()
                && let Some(job) = self.take()
            {
                child.give(job);
            }
            if !open && child.is_idle() {
                break Turn::Idle;
            }
            let has_room = child.has_room();
            let turn = tokio::select! {
                turn = child.turn() => turn,
                more = self.wait(), if open && has_room => { open = more; Turn::Moved }
            };
            if turn != Turn::Moved {
                break turn;
            }
        };
        let Ended { unanswered, answered, end, ready } = child.end().await;
        // What it left unanswered comes before what it had not been given.
        let rest = std::mem::replace(&mut self.next, unanswered);
        // One that was late, and had answered after all, leaves behind what has hardly begun.
        if turn != Turn::Idle && !(turn == Turn::Late && answered) {
            self.blame_first(ready, turn, end);
        }
        self.next.extend(rest);
    }

    /// The first that a child left unanswered is what it died of; the others go to the next one.
    fn blame_first(&mut self, ready: bool, turn: Turn, end: End) {
        let Some(job) = self.next.front() else { return };
        let failure = match (turn, end) {
            (Turn::Late, _) => Failure::Time(job.bounds.time),
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
