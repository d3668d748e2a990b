//! Who evaluates when there are no children? A simulation, in its own thread and when it says so: which document is answered when is then
//! decided by its seed alone. Programs do what they do in a child; but nothing limits their time and memory.

use std::sync::Arc;

use tokio::time::Instant;

use super::{Pool, Shared, job::Job, queue::Queue};
use crate::{
    Failure, Limits,
    worker::{Programs, obey},
};

/// Evaluates for a [`Pool::by_hand`].
pub struct Hand {
    waiting: Arc<Queue>,
    programs: Programs,
}

impl Pool {
    /// A pool without children: what is brought waits for the hand.
    pub fn by_hand(limits: Limits) -> (Pool, Hand) {
        // No program is ever apart: none overruns.
        let (common, apart) = (Arc::new(Queue::default()), Arc::new(Queue::default()));
        let hand = Hand { waiting: common.clone(), programs: Programs::new() };
        (Pool { shared: Arc::new(Shared { limits, start: Instant::now(), common, apart }) }, hand)
    }
}

impl Hand {
    /// Evaluates the document that waits first, as a child would; whether there was one.
    pub fn evaluate(&mut self) -> bool {
        let Some(job) = self.waiting.take() else { return false };
        if !self.programs.contains_key(&job.program.id) {
            obey(&mut self.programs, &job.definition());
        }
        match obey(&mut self.programs, &job.request()) {
            Some(verdict) => job.finish(verdict),
            None => unreachable!("each document has a verdict"),
        }
        true
    }

    /// Lets the document that waits first fail as if no child could be had; whether there was one.
    pub fn fail(&mut self) -> bool {
        let job = self.waiting.take();
        job.map(|job: Job| job.fail(Failure::Worker("the simulation has none".into()))).is_some()
    }
}
