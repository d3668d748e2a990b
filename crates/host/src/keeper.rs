//! Who writes snapshots and copies old messages: a thread of low priority that gives way to the publish path.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread::JoinHandle,
    time::{Duration, Instant},
};

use tokio::sync::mpsc as tokio_mpsc;
use waystation_base::{Position, disk::Disk};
use waystation_broker::settle::{Outcome, Plan};
use waystation_journal::{
    Committer,
    settled::Store,
    snapshot::{self, KEEP},
};

use crate::{loader::Files, settler};

/// How much less than others the thread is given of the processor.
const NICE: i32 = 5;
/// The longest pause after one step of copying.
const PAUSE_MAX: Duration = Duration::from_millis(20);

/// What the thread is to do.
pub(crate) enum Chore {
    /// Writes the state at a position, and removes older snapshots.
    Snapshot(Position, Vec<u8>),
    /// Copies what a plan names into the settled file of that number.
    Settle(Plan, u32),
}

/// What it has done.
pub(crate) enum Done {
    /// The positions of the snapshots that are there now, oldest first.
    Snapshot(Result<Vec<Position>, String>),
    /// What is where now.
    Settled(Result<Outcome, settler::Error>),
}

/// The way to the thread.
pub(crate) struct Keeper {
    chores: Option<mpsc::SyncSender<Chore>>,
    rest_percent: Arc<AtomicU32>,
    /// Dropped to end a copying job.
    stop: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread works with.
pub(crate) struct Tools {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) snapshots: PathBuf,
    pub(crate) committer: Arc<Committer>,
    pub(crate) store: Arc<Store>,
    pub(crate) files: Files,
}

impl Keeper {
    /// Starts the thread; what it has done arrives at the returned receiver.
    pub(crate) fn start(mut tools: Tools) -> std::io::Result<(Keeper, tokio_mpsc::Receiver<Done>)> {
        // One snapshot and one copying job at most are under way.
        let (chores, queue) = mpsc::sync_channel(2);
        let (stop, stopped) = mpsc::sync_channel(1);
        let (sender, done) = tokio_mpsc::channel(2);
        let rest_percent = Arc::new(AtomicU32::new(0));
        let pace = Pace { rest_percent: rest_percent.clone(), stopped };
        let work = move || {
            // Without the right to it the thread keeps its priority.
            let _ = rustix::process::nice(NICE);
            while let Ok(chore) = queue.recv() {
                if sender.blocking_send(tools.carry_out(chore, &pace)).is_err() {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("keeper".to_owned()).spawn(work)?;
        Ok((Keeper { chores: Some(chores), rest_percent, stop: Some(stop), thread: Some(thread) }, done))
    }

    /// Has something done.
    pub(crate) fn ask(&self, chore: Chore) {
        if let Some(chores) = &self.chores {
            // There is room for one of each kind, and never more than one of a kind is asked for.
            let taken = chores.try_send(chore);
            debug_assert!(taken.is_ok(), "a chore of each kind at most");
        }
    }

    /// How long copying rests after each step, in percent of the time that the step took.
    pub(crate) fn set_rest(&self, percent: u32) {
        self.rest_percent.store(percent, Ordering::Relaxed);
    }
}

/// Ends a copying job, then the thread. What it has done must not be waited for any more, nor be listened to.
impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        self.chores = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Tools {
    fn carry_out(&mut self, chore: Chore, pace: &Pace) -> Done {
        match chore {
            Chore::Snapshot(position, state) => Done::Snapshot(self.snapshot(position, &state)),
            Chore::Settle(plan, id) => {
                let mut step = pace.begin();
                let mut pause = || pace.pause(&mut step);
                Done::Settled(settler::copy(plan, id, &mut self.files, &self.store, &mut pause))
            }
        }
    }

    fn snapshot(&self, position: Position, state: &[u8]) -> Result<Vec<Position>, String> {
        self.committer.sync_through(position).map_err(|error| error.to_string())?;
        let disk = self.disk.as_ref();
        snapshot::write(disk, &self.snapshots, position, [state]).map_err(|error| error.to_string())?;
        snapshot::remove_older(disk, &self.snapshots, KEEP).map_err(|error| error.to_string())?;
        snapshot::positions(disk, &self.snapshots).map_err(|error| error.to_string())
    }
}

/// How fast copying goes.
struct Pace {
    rest_percent: Arc<AtomicU32>,
    stopped: mpsc::Receiver<()>,
}

impl Pace {
    #[allow(clippy::disallowed_methods, reason = "paces copying; nothing that is written depends on it")]
    fn begin(&self) -> Instant {
        Instant::now()
    }

    /// Rests after a step, so that disk and processor are left to others; says whether to go on.
    fn pause(&self, step: &mut Instant) -> bool {
        let rest = (step.elapsed() * self.rest_percent.load(Ordering::Relaxed) / 100).min(PAUSE_MAX);
        let stopped = self.stopped.recv_timeout(rest);
        *step = self.begin();
        stopped == Err(mpsc::RecvTimeoutError::Timeout)
    }
}
