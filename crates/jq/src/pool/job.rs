//! One document that waits for its results.

use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{OwnedSemaphorePermit, oneshot},
    time::Instant,
};

use super::APART;
use crate::{
    Failure,
    eval::Verdict,
    frame::{FRAME_BYTES_MAX, request::Request},
    program::Inner,
};

/// What a document may use.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub time: Duration,
    pub output_bytes: usize,
    pub outputs: usize,
}

/// A document, and who waits for it.
#[derive(Debug)]
pub struct Job {
    pub program: Arc<Inner>,
    pub bounds: Bounds,
    pub input: Bytes,
    pub variables: Vec<Bytes>,
    reply: oneshot::Sender<Result<Vec<Bytes>, Failure>>,
    /// How long it was likely to take when a child was given it.
    pub expected: Duration,
    _permit: Option<OwnedSemaphorePermit>,
}

impl Job {
    /// A document, as soon as there is room for one more of its program.
    pub async fn new(
        program: Arc<Inner>,
        bounds: Bounds,
        input: Bytes,
        variables: Vec<Bytes>,
        reply: oneshot::Sender<Result<Vec<Bytes>, Failure>>,
    ) -> Job {
        // It is never closed.
        let permit = program.room.clone().acquire_owned().await.ok();
        Job { program, bounds, input, variables, reply, expected: Duration::ZERO, _permit: permit }
    }

    /// Whether somebody still waits for its results.
    pub fn is_wanted(&self) -> bool {
        !self.reply.is_closed()
    }

    /// Whether it can be given to a child at all.
    pub fn check(&self) -> Result<(), Failure> {
        let given = self.variables.len();
        let wanted = self.program.variables.len();
        if given != wanted {
            return Err(Failure::Error(format!("{given} variables given to a program with {wanted}")));
        }
        // Half a frame for the document leaves room for what is around it.
        if self.bytes() > FRAME_BYTES_MAX / 2 {
            return Err(Failure::Error(format!("the input is longer than {} bytes", FRAME_BYTES_MAX / 2)));
        }
        Ok(())
    }

    /// How long it is.
    pub fn bytes(&self) -> usize {
        self.input.len() + self.variables.iter().map(Bytes::len).sum::<usize>()
    }

    /// Whether its program overran a short while ago.
    pub fn is_apart(&self, start: Instant) -> bool {
        let now = start.elapsed().as_millis() as u64;
        self.program.apart_until.load(Ordering::Relaxed) > now
    }

    /// Its program overran.
    pub fn set_apart(&self, start: Instant) {
        let until = (start.elapsed() + APART).as_millis() as u64;
        self.program.apart_until.store(until, Ordering::Relaxed);
    }

    /// The request to define its program.
    pub fn definition(&self) -> Request<'_> {
        let variables = self.program.variables.iter().map(String::as_str).collect();
        Request::Define { id: self.program.id, variables, text: &self.program.text }
    }

    /// The request to run it.
    pub fn request(&self) -> Request<'_> {
        Request::Run {
            id: self.program.id,
            output_bytes: u32::try_from(self.bounds.output_bytes).unwrap_or(u32::MAX),
            outputs: u32::try_from(self.bounds.outputs).unwrap_or(u32::MAX),
            input: &self.input,
            variables: self.variables.iter().map(|value| &value[..]).collect(),
        }
    }

    /// Tells who waits.
    pub fn finish(self, verdict: Verdict) {
        let bounds = self.bounds;
        let result = match verdict {
            Verdict::Results { bytes, ends } => Ok(slices(bytes.into(), &ends)),
            Verdict::Error(text) => Err(Failure::Error(text)),
            Verdict::Size => Err(Failure::Size(bounds.output_bytes)),
            Verdict::Outputs => Err(Failure::Outputs(bounds.outputs)),
        };
        let _ = self.reply.send(result);
    }

    /// Tells who waits that it failed.
    pub fn fail(self, failure: Failure) {
        let _ = self.reply.send(Err(failure));
    }
}

fn slices(bytes: Bytes, ends: &[u32]) -> Vec<Bytes> {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    starts.zip(ends).map(|(start, end)| bytes.slice(start as usize..*end as usize)).collect()
}
