//! What waits for a child: the documents of each program in a line of their own, and the lines take turns, so that a program
//! that is slow, or has many documents, holds up no other.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use tokio::sync::Notify;

use super::job::Job;

/// See the module.
#[derive(Debug, Default)]
pub struct Queue {
    lines: Mutex<Lines>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Lines {
    /// By program; none is empty.
    of: HashMap<u64, VecDeque<Job>>,
    /// Programs that have a line, in the order of their turns.
    turns: VecDeque<u64>,
    closed: bool,
}

impl Queue {
    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a document. How many there are is bounded by the permits that they hold.
    pub fn push(&self, job: Job) {
        let id = job.program.id;
        let mut lines = self.lines();
        if !lines.of.contains_key(&id) {
            lines.turns.push_back(id);
        }
        lines.of.entry(id).or_default().push_back(job);
        drop(lines);
        self.changed.notify_one();
    }

    /// Nobody brings documents any more.
    pub fn close(&self) {
        self.lines().closed = true;
        self.changed.notify_waiters();
    }

    /// The next document that somebody waits for, if there is one.
    pub fn take(&self) -> Option<Job> {
        let mut lines = self.lines();
        while let Some(id) = lines.turns.pop_front() {
            let Some(line) = lines.of.get_mut(&id) else { continue };
            let job = line.pop_front();
            if line.is_empty() {
                lines.of.remove(&id);
            } else {
                lines.turns.push_back(id);
            }
            if let Some(job) = job.filter(Job::is_wanted) {
                return Some(job);
            }
        }
        None
    }

    /// The same, when there is one; none when there will be none any more. May be dropped at any await.
    pub async fn next(&self) -> Option<Job> {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            changed.as_mut().enable();
            if let Some(job) = self.take() {
                return Some(job);
            }
            if self.lines().closed {
                return None;
            }
            changed.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use tokio::sync::oneshot;

    use super::*;
    use crate::{Failure, Program, pool::job::Bounds};

    type Answer = oneshot::Receiver<Result<Vec<Bytes>, Failure>>;

    async fn add(queue: &Queue, program: &Program, input: &'static str) -> Answer {
        let (reply, answer) = oneshot::channel();
        let bounds = Bounds { time: std::time::Duration::MAX, output_bytes: 1, outputs: 1 };
        let job =
            Job::new(program.inner.clone(), bounds, Bytes::from_static(input.as_bytes()), Vec::new(), reply);
        queue.push(job.await);
        answer
    }

    fn taken(queue: &Queue) -> Vec<Bytes> {
        std::iter::from_fn(|| queue.take()).map(|job| job.input.clone()).collect()
    }

    #[tokio::test]
    async fn programs_take_turns() {
        let (queue, many, few) = (Queue::default(), program(), program());
        let mut answers = Vec::new();
        for input in ["1", "2", "3"] {
            answers.push(add(&queue, &many, input).await);
        }
        answers.push(add(&queue, &few, "a").await);
        assert_eq!(taken(&queue), ["1", "a", "2", "3"]);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_passed_over() {
        let (queue, program) = (Queue::default(), program());
        let kept = add(&queue, &program, "1").await;
        drop(add(&queue, &program, "2").await);
        let last = add(&queue, &program, "3").await;
        assert_eq!(taken(&queue), ["1", "3"]);
        drop((kept, last));
    }

    #[tokio::test]
    async fn who_waits_hears_of_what_comes_and_of_the_end() {
        let (queue, program) = (std::sync::Arc::new(Queue::default()), program());
        let waits = tokio::spawn({
            let queue = queue.clone();
            async move { (queue.next().await.is_some(), queue.next().await.is_none()) }
        });
        tokio::task::yield_now().await;
        let answer = add(&queue, &program, "1").await;
        tokio::task::yield_now().await;
        queue.close();
        assert_eq!(waits.await.expect("no panic"), (true, true));
        drop(answer);
    }

    fn program() -> Program {
        Program::compile(".", &[]).expect("a program")
    }
}
