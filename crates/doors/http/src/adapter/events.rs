//! How is a queue or subscription followed as server-sent events, and what holds for a follower?

use std::{future::Future, pin::Pin, sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use futures_util::FutureExt as _;
use serde::Deserialize;
use tokio::{sync::mpsc, time::MissedTickBehavior};
use tokio_stream::{StreamExt as _, wrappers::ReceiverStream};
use utoipa::IntoParams;
use waystation_broker::{
    Refusal, SessionId, Source,
    command::{Hold, Outcome, Settlement},
};
use waystation_host::{Broker, Consumer, Delivery, Event};

use super::extract::{Named, Params, at_most};
use crate::{
    api::{Problem, ServerSentEvent, media},
    auth::{Caller, Permission},
    door::{Counts, Door},
    failure::Failure,
    limits::WINDOW_MAX,
    wire::show::Shown,
};

/// How often a silent stream says that it is alive.
pub const HEARTBEAT: Duration = Duration::from_secs(15);
/// Messages past which no more are gathered for one part of a stream.
const PART_MESSAGES_MAX: usize = 256;
/// Milliseconds after which a client should connect again.
const RETRY: &str = "retry: 1000\n\n";

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct FollowParams {
    /// Messages that may be under way unacknowledged: 1 to 10000 (default 64).
    window: Option<u32>,
    /// `auto` (default): a message is accepted once it is written to the connection. `manual`: settle it by tag and attempt
    /// while the stream is open; what is not settled when it ends comes back.
    #[serde(default)]
    #[param(inline)]
    ack: Ack,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Ack {
    /// By being written.
    #[default]
    Auto,
    /// By the client.
    Manual,
}

/// The writing end of a stream of events.
pub(super) struct Feed {
    parts: mpsc::Sender<Bytes>,
}

impl Feed {
    /// A feed and the response that it writes.
    pub fn open() -> (Feed, Response) {
        // One part is under way at a time: when there is room again, the part before is in the connection's hands.
        let (parts, receiver) = mpsc::channel(1);
        let body = Body::from_stream(ReceiverStream::new(receiver).map(Ok::<_, std::convert::Infallible>));
        let headers = [(header::CONTENT_TYPE, media::EVENTS), (header::CACHE_CONTROL, "no-store")];
        (Feed { parts }, (headers, body).into_response())
    }

    /// Writes a part and waits until the connection has taken it; whether it has.
    pub async fn write(&self, part: impl Into<Bytes>) -> bool {
        self.parts.send(part.into()).await.is_ok() && self.parts.reserve().await.is_ok()
    }

    /// Waits until the client has gone.
    pub async fn closed(&self) {
        self.parts.closed().await;
    }

    /// Tells the client how to come back.
    pub async fn begin(&self) -> bool {
        self.write(Bytes::from_static(RETRY.as_bytes())).await
    }

    /// Says that the stream is alive.
    pub async fn beat(&self) -> bool {
        self.write(Bytes::from_static(b": alive\n\n")).await
    }

    /// Says why the stream ends.
    pub async fn fail(&self, failure: Failure) {
        let problem = crate::failure::to_json(&failure.0);
        self.write(format!("event: problem\ndata: {problem}\n\n")).await;
    }
}

/// Messages as events, each with what `id` gives for it.
pub(super) fn render(
    messages: &[Delivery],
    mut id: impl FnMut(&Delivery) -> String,
) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    for message in messages {
        text.extend_from_slice(b"id: ");
        text.extend_from_slice(id(message).as_bytes());
        text.extend_from_slice(b"\ndata: ");
        serde_json::to_writer(&mut text, &Shown(message)).map_err(Failure::internal)?;
        text.extend_from_slice(b"\n\n");
    }
    Ok(text)
}

/// A clock for [`Feed::beat`].
pub(super) fn heartbeat() -> tokio::time::Interval {
    let mut beats = tokio::time::interval(HEARTBEAT);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats.reset();
    beats
}

async fn follow(
    door: Arc<Door>,
    caller: Caller,
    source: Source,
    params: FollowParams,
) -> Result<Response, Failure> {
    caller.require(Permission::Read, source.name())?;
    let window = at_most("window", params.window.unwrap_or(64), 1, WINDOW_MAX)?;
    let permit = door.begin_wait()?;
    let broker = caller.broker(&door.broker);
    let consumer = broker.consume(source.clone(), window, Hold::Attached, SessionId::default()).await?;
    let (feed, response) = Feed::open();
    tokio::spawn(async move {
        let _permit = permit;
        if let Err(failure) = run(&door, &broker, consumer, &source, params.ack, &feed).await {
            feed.fail(failure).await;
        }
    });
    Ok(response)
}

async fn run(
    door: &Door,
    broker: &Broker,
    mut consumer: Consumer,
    source: &Source,
    ack: Ack,
    feed: &Feed,
) -> Result<(), Failure> {
    let mut beats = heartbeat();
    let mut accepting = Accepting::new(door, broker, source);
    let mut is_open = feed.begin().await;
    while is_open {
        tokio::select! {
            biased;
            () = feed.closed() => return Ok(()),
            () = door.drain.begun() => break,
            event = consumer.next() => {
                let messages = gather(event, &mut consumer)?;
                let text = render(&messages, |message| format!("{}:{}", message.partition, message.offset))?;
                is_open = feed.write(text).await;
                Counts::add(&door.counts.delivered, messages.len() as u64);
                if is_open && ack == Ack::Auto {
                    accepting.add(&messages);
                }
            }
            accepted = accepting.next() => accepted?,
            _ = beats.tick() => is_open = feed.beat().await,
        }
    }
    // What was written is accepted even if the client has gone since.
    accepting.finish().await
}

/// The messages of an event and of those that wait behind it, to be written as one part.
fn gather(first: Option<Event>, consumer: &mut Consumer) -> Result<Vec<Delivery>, Failure> {
    let gone = || Failure::new(crate::failure::Kind::Gone, "what was followed is gone");
    let mut messages = match first {
        Some(Event::Messages(messages)) => messages,
        Some(Event::Unreadable(why)) => return Err(Refusal::Damaged(why).into()),
        Some(Event::Closed(_)) | None => return Err(gone()),
    };
    while messages.len() < PART_MESSAGES_MAX {
        match consumer.next().now_or_never() {
            Some(Some(Event::Messages(more))) => messages.extend(more),
            // The end is heard of again at the next look.
            Some(Some(Event::Closed(_) | Event::Unreadable(_)) | None) | None => break,
        }
    }
    Ok(messages)
}

/// Accepts what was written, beside the writing: many at a time, one request at a time.
struct Accepting<'a> {
    door: &'a Door,
    /// Acting on the caller's behalf.
    broker: &'a Broker,
    source: &'a Source,
    waiting: Vec<Settlement>,
    sent: Option<Pin<Box<dyn Future<Output = Result<(), Refusal>> + Send + 'a>>>,
}

impl<'a> Accepting<'a> {
    fn new(door: &'a Door, broker: &'a Broker, source: &'a Source) -> Accepting<'a> {
        Accepting { door, broker, source, waiting: Vec::new(), sent: None }
    }

    fn add(&mut self, messages: &[Delivery]) {
        let accepted = |delivery: &Delivery| {
            let Delivery { tag, attempt, .. } = *delivery;
            Settlement { tag, attempt, outcome: Outcome::Accepted }
        };
        self.waiting.extend(messages.iter().map(accepted));
        self.send();
    }

    fn send(&mut self) {
        if self.sent.is_some() || self.waiting.is_empty() {
            return;
        }
        let settlements = std::mem::take(&mut self.waiting);
        Counts::add(&self.door.counts.settled, settlements.len() as u64);
        self.sent = Some(Box::pin(self.broker.settle(self.source.clone(), settlements)));
    }

    /// Waits for the request on its way; for ever, if there is none.
    async fn next(&mut self) -> Result<(), Failure> {
        let Some(sent) = &mut self.sent else { return std::future::pending().await };
        let result = sent.await;
        self.sent = None;
        self.send();
        Ok(result?)
    }

    async fn finish(mut self) -> Result<(), Failure> {
        while self.sent.is_some() {
            self.next().await?;
        }
        Ok(())
    }
}

/// Follow a queue as server-sent events: consuming.
#[utoipa::path(get, path = "/v1/queues/{name}/events", tag = "queues",
    params(("name" = String, Path), FollowParams), responses(
    (status = 200, description = "Events; `data` is a message", body = ServerSentEvent, content_type = "text/event-stream"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn follow_queue(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<FollowParams>,
) -> Result<Response, Failure> {
    follow(door, caller, Source::Queue(name), params).await
}

/// Follow a subscription as server-sent events: consuming.
#[utoipa::path(get, path = "/v1/subscriptions/{name}/events", tag = "subscriptions",
    params(("name" = String, Path), FollowParams), responses(
    (status = 200, description = "Events; `data` is a message", body = ServerSentEvent, content_type = "text/event-stream"),
    (status = "default", description = "Refused", body = Problem, content_type = "application/problem+json"),
))]
pub(super) async fn follow_subscription(
    State(door): State<Arc<Door>>,
    caller: Caller,
    Named(name): Named,
    Params(params): Params<FollowParams>,
) -> Result<Response, Failure> {
    follow(door, caller, Source::Subscription(name), params).await
}
