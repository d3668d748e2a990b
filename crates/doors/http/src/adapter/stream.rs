//! How are a gigabyte of lines published in constant memory?
//!
//! Lines are read while the batch before them is on its way; one batch is on its way at a time, so that what is accepted is
//! always a prefix of what was sent, whatever goes wrong. A stream is not atomic: what was accepted stays.

use std::{future::Future, pin::Pin, sync::Arc};

use axum::{
    body::Body,
    http::{HeaderMap, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use waystation_base::Message;
use waystation_broker::effect::Published;
use waystation_net::Permit;

use super::{
    extract, ok,
    publish::{self, Address},
};
use crate::{
    api::{Accepted, Progress, media},
    door::Door,
    failure::Failure,
    incoming,
    wire::{
        line,
        lines::{self, Lines},
        stamp::Stamp,
    },
};

/// Messages in one batch; reading pauses when so many wait.
pub const BATCH_MESSAGES_MAX: usize = 4_096;
/// Bytes of lines in one batch; reading pauses when so many wait.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// Bytes that a stream may hold without counting against what all bodies may hold.
const FREE_BYTES: usize = 64 << 10;
/// Progress lines that may wait for the client to take them.
const PROGRESS_WAITING_MAX: usize = 16;

/// Messages that go together, each with its line.
#[derive(Default)]
struct Batch {
    messages: Vec<Message>,
    lines: Vec<u64>,
    bytes: usize,
}

impl Batch {
    fn has_room(&self) -> bool {
        self.messages.len() < BATCH_MESSAGES_MAX && self.bytes < BATCH_BYTES_MAX
    }
}

type Sent = Pin<Box<dyn Future<Output = Result<Published, Failure>> + Send>>;

/// One stream being published.
struct Stream {
    door: Arc<Door>,
    address: Address,
    lines: Lines,
    /// Lines read.
    line: u64,
    stamp: Stamp,
    batch: Batch,
    /// The batch on its way, and the lines of its messages.
    sent: Option<(Sent, Vec<u64>)>,
    done: Progress,
    room: Option<Permit>,
    /// There is no room to gather more while a batch is on its way.
    is_cramped: bool,
}

/// Publishes the lines of a body and answers at the end, or batch by batch if that is asked for.
pub(super) async fn publish(
    door: Arc<Door>,
    permit: Permit,
    address: Address,
    headers: &HeaderMap,
    body: Body,
) -> Result<Response, Failure> {
    let mut stream = Stream {
        address,
        lines: Lines::default(),
        line: 0,
        stamp: door.stamp()?,
        batch: Batch::default(),
        sent: None,
        done: Progress::default(),
        room: None,
        is_cramped: false,
        door,
    };
    if extract::accepts(headers, media::NDJSON) {
        return Ok(answer_as_it_goes(stream, permit, body));
    }
    let result = stream.run(body, |_| std::future::ready(())).await;
    let done = stream.done;
    match result {
        Ok(()) => ok(&Accepted {
            accepted: done.accepted,
            duplicates: done.duplicates,
            lines: Some(done.lines),
            ..Accepted::default()
        }),
        Err(failure) => Err(failure.with(|problem| {
            problem.accepted = Some(done.accepted);
            problem.duplicates = Some(done.duplicates);
        })),
    }
}

/// Answers with a line for each batch. It runs beside the answer and ends with the connection.
fn answer_as_it_goes(mut stream: Stream, permit: Permit, body: Body) -> Response {
    let (sender, receiver) = mpsc::channel::<Progress>(PROGRESS_WAITING_MAX);
    tokio::spawn(async move {
        let _permit = permit;
        let told = sender.clone();
        let tell = |progress: Progress| {
            let told = told.clone();
            // A client that has gone is noticed below.
            async move { drop(told.send(progress).await) }
        };
        let run = stream.run(body, tell);
        let result = tokio::select! {
            result = run => result,
            () = sender.closed() => return,
        };
        let (is_done, problem) = match result {
            Ok(()) => (true, None),
            Err(failure) => (false, Some(*failure.0)),
        };
        let last = Progress { done: is_done, problem, ..stream.done };
        // Nobody is left to be told.
        let _ = sender.send(last).await;
    });
    let line = |progress: Progress| {
        let mut text = serde_json::to_vec(&progress)?;
        text.push(b'\n');
        Ok::<_, serde_json::Error>(Bytes::from(text))
    };
    let body = Body::from_stream(ReceiverStream::new(receiver).map(line));
    ([(header::CONTENT_TYPE, media::NDJSON)], body).into_response()
}

impl Stream {
    /// Reads and publishes to the end or to the first failure; before it returns, everything read is settled.
    async fn run<F: Future<Output = ()>>(
        &mut self,
        mut body: Body,
        tell: impl Fn(Progress) -> F,
    ) -> Result<(), Failure> {
        let read = self.read(&mut body, &tell).await;
        // Whatever stopped the reading, the lines before it are good.
        while self.sent.is_some() || !self.batch.messages.is_empty() {
            self.send();
            let arrived = arrive(&mut self.sent).await;
            self.count(arrived)?;
            tell(self.done.clone()).await;
        }
        read?;
        self.done.lines = self.line;
        Ok(())
    }

    async fn read<F: Future<Output = ()>>(
        &mut self,
        body: &mut Body,
        tell: &impl Fn(Progress) -> F,
    ) -> Result<(), Failure> {
        let door = self.door.clone();
        loop {
            let has_room = self.batch.has_room() && !(self.is_cramped && self.sent.is_some());
            let part = tokio::select! {
                biased;
                arrived = arrive(&mut self.sent) => {
                    self.count(arrived)?;
                    tell(self.done.clone()).await;
                    self.send();
                    continue;
                }
                part = incoming::next(&door, body), if has_room => part?,
            };
            match part {
                Some(part) => self.take(part)?,
                None => {
                    let last = self.lines.finish();
                    return last.map_or(Ok(()), |text| self.parse(&text));
                }
            }
            self.send();
        }
    }

    /// Counts a batch that is durable, or says at which line the first one stands that is not.
    fn count(&mut self, (result, lines): (Result<Published, Failure>, Vec<u64>)) -> Result<(), Failure> {
        self.sent = None;
        let published = result.map_err(|failure| {
            // What came after a refused batch must not be stored without it.
            self.batch = Batch::default();
            failure.with(|problem| {
                let at = problem.index.take().and_then(|index| usize::try_from(index).ok()).unwrap_or(0);
                problem.line = lines.get(at).copied();
            })
        })?;
        let duplicates = u64::from(published.duplicates);
        self.done.duplicates += duplicates;
        self.done.accepted += (lines.len() as u64).saturating_sub(duplicates);
        self.done.lines = lines.last().copied().unwrap_or(self.done.lines);
        Ok(())
    }

    /// Takes the lines of one part.
    fn take(&mut self, part: Bytes) -> Result<(), Failure> {
        self.stamp = self.door.stamp()?;
        self.lines.push(part);
        while let Some(text) =
            self.lines.next_line().map_err(|error| publish::at_line(error, self.line + 1))?
        {
            self.parse(&text)?;
        }
        let (carried, gathered) = (self.lines.carried(), self.batch.bytes);
        let made = match carried + gathered {
            0..=FREE_BYTES => Ok(()),
            held => incoming::make_room(&self.door, &mut self.room, held),
        };
        // What has gathered can be sent; only a long line cannot do without room.
        self.is_cramped = made.is_err();
        if carried > FREE_BYTES { made } else { Ok(()) }
    }

    fn parse(&mut self, text: &Bytes) -> Result<(), Failure> {
        self.line += 1;
        if lines::is_blank(text) {
            return Ok(());
        }
        let batch = &mut self.batch;
        let message =
            line::parse(text, text, &mut self.stamp).map_err(|error| publish::at_line(error, self.line))?;
        batch.messages.push(message);
        batch.lines.push(self.line);
        batch.bytes += text.len();
        Ok(())
    }

    /// Sends what has gathered, unless a batch is on its way.
    fn send(&mut self) {
        if self.sent.is_some() || self.batch.messages.is_empty() {
            return;
        }
        let Batch { messages, lines, .. } = std::mem::take(&mut self.batch);
        let (door, address) = (self.door.clone(), self.address.clone());
        let sent = async move { publish::send(&door, &address, messages).await };
        self.sent = Some((Box::pin(sent), lines));
    }
}

/// Waits for the batch on its way; for ever, if there is none.
async fn arrive(sent: &mut Option<(Sent, Vec<u64>)>) -> (Result<Published, Failure>, Vec<u64>) {
    match sent {
        Some((result, lines)) => (result.await, std::mem::take(lines)),
        None => std::future::pending().await,
    }
}
