//! The children and what waits for them.

mod child;
#[cfg(feature = "by-hand")]
mod hand;
mod job;
mod lane;
mod process;
mod queue;

use std::{ffi::OsString, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use tokio::{sync::oneshot, time::Instant};

use crate::{Failure, Limits, Program};
#[cfg(feature = "by-hand")]
pub use hand::Hand;
use job::{Bounds, Job};
use lane::Lane;
use queue::Queue;

/// How many documents of a program are with the pool before whoever brings more of them has to wait.
pub(crate) const WAITING_MAX: usize = 1024;
/// How long a program that overran shares its child with nobody but its like.
const APART: Duration = Duration::from_secs(60);

/// How a child is started: a program that comes to [`serve_worker`](crate::serve_worker), by its arguments. The limit of memory, in
/// bytes, is added as the last one.
#[derive(Clone, Debug)]
pub struct Command {
    /// The binary.
    pub program: PathBuf,
    /// What makes it a worker.
    pub arguments: Vec<OsString>,
}

/// Children that evaluate; cheap to clone. They start when there is something to do, and end with the last clone.
#[derive(Clone, Debug)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    limits: Limits,
    /// Where `apart_until` of programs counts from.
    start: Instant,
    common: Arc<Queue>,
    apart: Arc<Queue>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.common.close();
        self.apart.close();
    }
}

impl Pool {
    /// A pool; must be called in a tokio runtime, which its tasks then live in.
    pub fn new(command: Command, limits: Limits) -> Pool {
        let start = Instant::now();
        let lanes = |workers: usize, elsewhere: Option<&Arc<Queue>>| {
            let queue = Arc::new(Queue::default());
            for _ in 0..workers {
                let (command, limits, jobs) = (command.clone(), limits.clone(), queue.clone());
                tokio::spawn(Lane::new(command, limits, start, jobs, elsewhere.cloned()).run());
            }
            queue
        };
        let apart = lanes(1, None);
        let common = lanes(limits.workers.max(1), Some(&apart));
        Pool { shared: Arc::new(Shared { limits, start, common, apart }) }
    }

    /// Runs `program` on `input`, which is JSON, with its `variables` (JSON each, in the order in which it was compiled for them),
    /// within the pool's limits; gives its results, JSON each.
    pub async fn run(
        &self,
        program: &Program,
        input: Bytes,
        variables: Vec<Bytes>,
    ) -> Result<Vec<Bytes>, Failure> {
        let Limits { time, output_bytes, outputs, .. } = self.shared.limits;
        self.run_within(program, input, variables, time, output_bytes, outputs).await
    }

    /// The same within tighter bounds; the pool's hold all the same.
    pub async fn run_within(
        &self,
        program: &Program,
        input: Bytes,
        variables: Vec<Bytes>,
        time: Duration,
        output_bytes: usize,
        outputs: usize,
    ) -> Result<Vec<Bytes>, Failure> {
        let limits = &self.shared.limits;
        let bounds = Bounds {
            time: time.min(limits.time),
            output_bytes: output_bytes.min(limits.output_bytes),
            outputs: outputs.min(limits.outputs),
        };
        let (reply, answer) = oneshot::channel();
        let job = Job::new(program.inner.clone(), bounds, input, variables, reply).await;
        job.check()?;
        let queue = if job.is_apart(self.shared.start) { &self.shared.apart } else { &self.shared.common };
        queue.push(job);
        answer.await.map_err(|_| Failure::Worker("the pool has ended".into()))?
    }
}
