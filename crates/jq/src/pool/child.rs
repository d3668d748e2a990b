//! One child with the documents that it has been given: writes ahead, reads answers, watches the time of the first.

use std::{
    collections::{HashSet, VecDeque},
    io,
    time::Duration,
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    process::{ChildStdin, ChildStdout},
    time::{Instant, sleep_until},
};

use super::{
    Command,
    job::Job,
    process::{self, End, Process},
};
use crate::frame::{
    self,
    answer::{self, Answer},
    request::{self, Request},
};

/// How many documents a child is given ahead of its answers.
const AHEAD_MAX: usize = 64;
/// How long they may be together, so that a child's death does not repeat more than this.
const AHEAD_BYTES_MAX: usize = 1 << 20;
/// How long they may take together, as far as is known, so that what is slow holds up what comes after it for no longer.
const AHEAD_TIME: Duration = Duration::from_millis(20);
/// How many programs a child keeps compiled before it forgets them all.
const PROGRAMS_MAX: usize = 1024;
/// How long a child may take to start.
const START: Duration = Duration::from_secs(30);
/// How long a child with nothing to do is kept.
const IDLE: Duration = Duration::from_secs(60);
/// Into how many parts the time of a document is cut to see whether the child had the processor.
const PARTS: u32 = 4;
/// How many times its time a document may take while its child is kept from the processor.
const STARVED_TIMES: u32 = 20;
/// Parts of time that are shorter cannot be compared with processor time, which the system tells in hundredths of a second.
const PART_MIN: Duration = Duration::from_millis(50);
/// How much less processor time than it had the system may tell of.
const TICK: Duration = Duration::from_millis(10);

/// A running child.
#[derive(Debug)]
pub struct Child {
    process: Process,
    stdin: ChildStdin,
    stdout: ChildStdout,
    outgoing: BytesMut,
    incoming: BytesMut,
    known: HashSet<u64>,
    /// Given and not answered, in order.
    pending: VecDeque<Job>,
    pending_bytes: usize,
    pending_time: Duration,
    ready: bool,
    watch: Watch,
}

/// What is left of a child.
#[derive(Debug)]
pub struct Ended {
    /// What it was given and did not answer, in order.
    pub unanswered: VecDeque<Job>,
    /// Whether answers were found that it had given before its end was decided on: the first of the unanswered is then another one
    /// than before.
    pub answered: bool,
    pub end: End,
    /// Whether it had started.
    pub ready: bool,
}

/// How long the first document is at it.
#[derive(Debug)]
struct Watch {
    since: Instant,
    until: Instant,
    /// What the child had used of the processor at the first look.
    used: Option<Duration>,
}

/// What a turn of [`Child::turn`] came to.
#[derive(Debug, PartialEq, Eq)]
pub enum Turn {
    /// Something went through the pipes.
    Moved,
    /// There was nothing to do for long.
    Idle,
    /// The first document has taken too long.
    Late,
    /// The child is gone, or speaks nonsense.
    Gone(String),
}

impl Child {
    /// Starts one.
    pub fn spawn(command: &Command, memory_bytes: usize) -> io::Result<Child> {
        let (process, stdin, stdout) = process::spawn(command, memory_bytes)?;
        let now = Instant::now();
        Ok(Child {
            process,
            stdin,
            stdout,
            outgoing: BytesMut::new(),
            incoming: BytesMut::new(),
            known: HashSet::new(),
            pending: VecDeque::new(),
            pending_bytes: 0,
            pending_time: Duration::ZERO,
            ready: false,
            watch: Watch { since: now, until: now + START, used: None },
        })
    }

    /// Whether it may be given one more document.
    pub fn has_room(&self) -> bool {
        self.pending.len() < AHEAD_MAX
            && self.pending_bytes < AHEAD_BYTES_MAX
            && self.pending_time < AHEAD_TIME
    }

    /// Whether it has nothing to answer.
    pub fn is_idle(&self) -> bool {
        self.pending.is_empty()
    }

    /// Gives it a document.
    pub fn give(&mut self, mut job: Job) {
        job.expected = job.program.expected();
        let mut out = Vec::new();
        if self.known.len() >= PROGRAMS_MAX && !self.known.contains(&job.program.id) {
            self.known.clear();
            request::encode(&Request::Forget, &mut out);
        }
        if self.known.insert(job.program.id) {
            request::encode(&job.definition(), &mut out);
        }
        request::encode(&job.request(), &mut out);
        self.outgoing.extend_from_slice(&out);
        self.pending_bytes += job.bytes();
        self.pending_time += job.expected;
        self.pending.push_back(job);
        if self.ready && self.pending.len() == 1 {
            self.watch_first();
        }
    }

    /// Waits for something to happen, and does what belongs to it. May be dropped at any await.
    pub async fn turn(&mut self) -> Turn {
        let writing = !self.outgoing.is_empty();
        tokio::select! {
            read = self.stdout.read_buf(&mut self.incoming) => match read {
                Ok(0) => Turn::Gone("it ended".into()),
                Ok(_) => self.take_answers(),
                Err(cause) => Turn::Gone(cause.to_string()),
            },
            written = self.stdin.write_buf(&mut self.outgoing), if writing => match written {
                // What it answered before it went is still to be read.
                Err(_) => { self.outgoing.clear(); Turn::Moved }
                Ok(_) => Turn::Moved,
            },
            () = sleep_until(self.watch.until) => self.look_at_time(),
        }
    }

    fn take_answers(&mut self) -> Turn {
        loop {
            let (answer, length) = match frame::whole(&self.incoming) {
                Ok(None) => return Turn::Moved,
                Ok(Some((payload, length))) => (answer::decode(payload), length),
                Err(error) => return Turn::Gone(error.to_string()),
            };
            self.incoming.advance(length);
            match answer {
                Ok(Answer::Ready) => self.ready = true,
                Ok(Answer::Verdict(verdict)) => {
                    let Some(job) = self.pending.pop_front() else {
                        return Turn::Gone("it answered what was not asked".into());
                    };
                    self.pending_bytes -= job.bytes();
                    self.pending_time -= job.expected;
                    job.program.took(self.watch.since.elapsed());
                    job.finish(verdict);
                }
                Err(error) => return Turn::Gone(error.to_string()),
            }
            self.watch_first();
        }
    }

    /// The first document's time begins now.
    fn watch_first(&mut self) {
        let since = Instant::now();
        let until = match self.pending.front() {
            None => since + IDLE,
            Some(job) if job.bounds.time / PARTS < PART_MIN => since + job.bounds.time,
            Some(job) => since + job.bounds.time / PARTS,
        };
        self.watch = Watch { since, until, used: None };
    }

    /// A moment of the watch has come: the document is late when it has had its time of the processor since the first look, less
    /// the part before that. A child that was kept from the processor (a machine that is overloaded, or was suspended) is given more
    /// time: that its document took long is not the document's fault.
    fn look_at_time(&mut self) -> Turn {
        let Some(time) = self.pending.front().map(|job| job.bounds.time) else { return Turn::Idle };
        let part = time / PARTS;
        if !self.ready {
            return Turn::Gone("it did not start".into());
        }
        let (Some(used), true) = (self.process.processor_time(), part >= PART_MIN) else { return Turn::Late };
        let had = used.saturating_sub(*self.watch.used.get_or_insert(used));
        let due = time - part;
        if had + TICK >= due || self.watch.since.elapsed() >= time * STARVED_TIMES {
            return Turn::Late;
        }
        self.watch.until = Instant::now() + (due - had).max(part / PARTS);
        Turn::Moved
    }

    /// Ends it. What it had answered by then counts.
    pub async fn end(mut self) -> Ended {
        self.process.kill();
        while matches!(self.stdout.read_buf(&mut self.incoming).await, Ok(1..)) {}
        let before = self.pending.len();
        self.take_answers();
        let answered = self.pending.len() < before;
        Ended { unanswered: self.pending, answered, end: self.process.end().await, ready: self.ready }
    }
}
