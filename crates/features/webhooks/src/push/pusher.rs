//! How does a queue or subscription reach endpoints: taken within a window, sent, and settled by what the endpoint said?
//!
//! What fails goes back to the queue with its pause, so that attempts and pauses survive a restart; nothing is accepted before
//! the endpoint took it. In order: what fails goes back to its place at once, and nothing is taken until the pause is over; unless
//! its source keeps the order of each key itself, where only that key waits.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet, time};
use waystation_base::{Clock, Millis, Name, limits::CREDIT_MAX};
use waystation_broker::{Source, command::Hold};
use waystation_host::{Broker, Delivery, Event};
use waystation_outbound::Valve;

use super::{
    live::{Live, PushState},
    plan::Plan,
    settle::{Settler, Step},
};
use crate::sender::Sender;

/// How long to wait before looking again for what is not there.
const AGAIN: Duration = Duration::from_secs(3);
/// How long requests under way may take to end when the pusher is stopped.
const GRACE: Duration = Duration::from_secs(5);

/// How a pusher works.
#[derive(Clone, Debug)]
pub struct Options {
    /// What it is called in logs and records.
    pub name: String,
    /// What it delivers.
    pub source: Source,
    /// One request at a time, in order.
    pub ordered: bool,
    /// Requests at a time.
    pub requests_max: u32,
    /// Messages of one request.
    pub events_max: u32,
    /// Where given-up messages go, instead of the source's own dead-letter address.
    pub dead_letter: Option<Name>,
}

/// Delivers one source.
pub struct Pusher {
    /// Where the messages are.
    pub broker: Broker,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// What sends.
    pub sender: Sender,
    /// What messages become.
    pub plan: Arc<dyn Plan>,
    /// How it works.
    pub options: Options,
    /// What is seen of it.
    pub live: Arc<Live>,
}

/// Why a pusher ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// Its one endpoint answered 410.
    Gone,
}

enum Left {
    For(Ended),
    Because(String),
}

impl Pusher {
    /// Delivers until it is told to stop (or the teller is gone), or nobody wants anything more.
    pub async fn run(&self, mut stop: watch::Receiver<bool>) -> Ended {
        loop {
            match self.consume(&mut stop).await {
                Left::For(ended) => return ended,
                Left::Because(why) => self.live.set(PushState::Waiting, Some(why), None),
            }
            tokio::select! {
                () = stopped(&mut stop) => return Ended::Stopped,
                () = time::sleep(AGAIN) => {}
            }
        }
    }

    fn window(&self) -> u32 {
        self.options.requests_max.saturating_mul(self.options.events_max).min(CREDIT_MAX)
    }

    async fn consume(&self, stop: &mut watch::Receiver<bool>) -> Left {
        let settler = match Settler::new(self).await {
            Ok(settler) => Arc::new(settler),
            Err(refusal) => return Left::Because(refusal.to_string()),
        };
        let session = self.broker.session();
        let attached =
            self.broker.consume(self.options.source.clone(), self.window(), Hold::Attached, session).await;
        let consumer = match attached {
            Ok(consumer) => consumer,
            Err(refusal) => return Left::Because(refusal.to_string()),
        };
        let mut turn = Turn {
            pusher: self,
            settler,
            consumer,
            valve: Valve::new(self.window()),
            given: self.window(),
            pending: VecDeque::new(),
            has_failed: false,
            flying: JoinSet::new(),
        };
        self.live.set(PushState::Active, None, None);
        let left = turn.go(stop).await;
        turn.finish().await;
        // What it still held comes back.
        let _ = self.broker.close_session(session).await;
        left
    }
}

/// Resolves when the stop is given.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A teller that is gone says the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One time of being attached.
struct Turn<'a> {
    pusher: &'a Pusher,
    settler: Arc<Settler>,
    consumer: waystation_host::Consumer,
    valve: Valve,
    given: u32,
    pending: VecDeque<Delivery>,
    /// In order, what was taken behind a message that failed may be of its key: it goes back.
    has_failed: bool,
    flying: JoinSet<Step>,
}

impl Turn<'_> {
    async fn go(&mut self, stop: &mut watch::Receiver<bool>) -> Left {
        loop {
            let wake = self.valve.shut_until().map(|until| until.since(self.pusher.clock.now()));
            tokio::select! {
                () = stopped(stop) => return Left::For(Ended::Stopped),
                Some(step) = self.flying.join_next() => {
                    if let Some(left) = self.step(step) {
                        return left;
                    }
                }
                event = self.consumer.next() => match event {
                    Some(Event::Messages(messages)) => self.pending.extend(messages),
                    Some(Event::Unreadable(why)) => return Left::Because(why),
                    Some(Event::Closed(_)) | None => return Left::Because("its source is gone".to_owned()),
                },
                () = sleep_ms(wake) => {
                    self.valve.try_one();
                    self.pusher.live.set(PushState::Active, None, None);
                }
            }
            if let Err(why) = self.move_on().await {
                return Left::Because(why);
            }
        }
    }

    /// Takes note of how an attempt ended.
    fn step(&mut self, step: Result<Step, tokio::task::JoinError>) -> Option<Left> {
        match step {
            Ok(Step::Arrived) => self.valve.arrived(),
            Ok(Step::Again { hold_until }) => {
                self.has_failed = self.pusher.options.ordered;
                let Some(until) = hold_until else {
                    // A trial that failed without suspending the endpoint leaves the way as it was before.
                    self.valve.arrived();
                    return None;
                };
                self.valve.shut(until);
                let reason =
                    self.pusher.live.history.show().0.first().and_then(|attempt| attempt.cause.clone());
                self.pusher.live.set(PushState::Suspended, reason, Some(until));
            }
            Ok(Step::Gone) => return Some(Left::For(Ended::Gone)),
            Ok(Step::Refused(why)) => return Some(Left::Because(why)),
            Err(error) => return Some(Left::Because(format!("an attempt failed: {error}"))),
        }
        None
    }

    /// Starts what may be started, gives back what may not be held, and sets the window.
    async fn move_on(&mut self) -> Result<(), String> {
        if std::mem::take(&mut self.has_failed) || self.valve.shut_until().is_some() {
            self.release().await?;
        } else {
            self.launch();
        }
        self.pusher.live.set_requests(self.flying.len());
        let credit = self.valve.credit();
        if credit != self.given {
            self.given = credit;
            self.consumer.set_credit(credit).await.map_err(|refusal| refusal.to_string())?;
        }
        Ok(())
    }

    fn launch(&mut self) {
        let most = self.pusher.options.requests_max as usize;
        while self.flying.len() < most && !self.pending.is_empty() {
            let count = self.pending.len().min(self.pusher.options.events_max as usize);
            let chunk: Vec<Delivery> = self.pending.drain(..count).collect();
            let settler = self.settler.clone();
            self.flying.spawn(async move { settler.attempt(chunk).await });
        }
    }

    /// Gives back what was not tried; that counts as no attempt.
    async fn release(&mut self) -> Result<(), String> {
        if self.pending.is_empty() {
            return Ok(());
        }
        // The window must be shut before they come back.
        if self.given != 0 {
            self.given = 0;
            self.consumer.set_credit(0).await.map_err(|refusal| refusal.to_string())?;
        }
        let source = self.pusher.options.source.clone();
        self.pusher
            .broker
            .release(source, self.pending.drain(..))
            .await
            .map_err(|refusal| refusal.to_string())
    }

    /// Lets requests under way end, for a while.
    async fn finish(&mut self) {
        let rest = async { while self.flying.join_next().await.is_some() {} };
        if time::timeout(GRACE, rest).await.is_err() {
            self.flying.shutdown().await;
        }
        self.pusher.live.set_requests(0);
    }
}

async fn sleep_ms(ms: Option<u64>) {
    match ms {
        Some(ms) => time::sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}

/// When a message was stored: its id says so.
pub(crate) fn stored_at(delivery: &Delivery) -> Millis {
    // RFC 9562 §5.7: the first 48 bits are milliseconds.
    let bytes = delivery.message.id.as_bytes();
    Millis(bytes[..6].iter().fold(0, |ms, byte| ms << 8 | u64::from(*byte)))
}
