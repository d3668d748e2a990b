//! How does an upstream get calls: taken from the queue within a window that is shut while the upstream is left alone?

use std::{collections::VecDeque, pin::pin, sync::Arc, time::Duration};

use http::HeaderMap;
use tokio::{
    sync::{Mutex, watch},
    task::{JoinError, JoinSet},
    time,
};
use url::Url;
use waystation_base::{Clock, Name};
use waystation_broker::{Source, command::Hold};
use waystation_host::{Broker, Consumer, Delivery, Event};
use waystation_outbound::{Invalid, Valve, client::endpoint, rate::Bucket};

use super::{
    attempt::{Desk, Step},
    live::{Live, UpstreamState},
    spec::Upstream,
    upstreams::Outbound,
};
use crate::{Calls, Operation};

/// How long to wait before looking again for what is not there.
const AGAIN: Duration = Duration::from_secs(3);
/// How long requests under way may take to end when the server does.
const GRACE: Duration = Duration::from_secs(5);

/// Whether a worker is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It is not.
    Not,
    /// It takes nothing more, and ends when its requests have.
    Drained,
    /// The server ends.
    Now,
}

/// What serves the calls of one operation.
pub(super) struct Worker {
    pub name: Name,
    pub queue: Name,
    pub max_attempts: u32,
    pub upstream: Upstream,
    pub url: Url,
    pub headers: HeaderMap,
    pub live: Arc<Live>,
    /// What is left of the rate.
    pub bucket: Option<Mutex<Bucket>>,
}

enum Left {
    /// It was told to.
    Stopped,
    /// Something is not there.
    Because(String),
}

impl Worker {
    /// The worker of an operation that has an upstream.
    pub fn new(name: &Name, operation: &Operation, live: Arc<Live>) -> Result<Worker, Invalid> {
        let invalid = |field, reason: &dyn std::fmt::Display| Invalid { field, reason: reason.to_string() };
        let upstream = operation.upstream.clone().unwrap_or_default();
        Ok(Worker {
            name: name.clone(),
            queue: operation.queue_name(name).map_err(|error| invalid("queue", &error))?,
            max_attempts: operation.max_attempts,
            url: Url::parse(&upstream.url).map_err(|error| invalid("url", &error))?,
            headers: upstream.header_map()?,
            bucket: upstream.rate.clone().map(|rate| Mutex::new(Bucket::new(rate))),
            upstream,
            live,
        })
    }

    /// Where its requests go.
    pub fn url(&self) -> &Url {
        &self.url
    }

    /// Serves until it is told to stop, or the teller is gone.
    pub async fn run(
        self,
        calls: Calls,
        broker: Broker,
        clock: Arc<dyn Clock>,
        outbound: Outbound,
        mut stop: watch::Receiver<Stop>,
    ) {
        let broker = broker.as_part("upstream", Some(self.url().to_string()));
        let desk = Arc::new(Desk { worker: self, calls, broker, clock, outbound });
        loop {
            match consume(&desk, &mut stop).await {
                Left::Stopped => return,
                Left::Because(why) => desk.worker.live.set(UpstreamState::Waiting, Some(why), None),
            }
            tokio::select! {
                () = stopped(&mut stop) => return,
                () = time::sleep(AGAIN) => {}
            }
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<Stop>) {
    // A teller that is gone says the same.
    let _ = stop.wait_for(|stop| *stop != Stop::Not).await;
}

async fn consume(desk: &Arc<Desk>, stop: &mut watch::Receiver<Stop>) -> Left {
    let window = desk.worker.upstream.concurrency;
    let session = desk.broker.session();
    let source = Source::Queue(desk.worker.queue.clone());
    let consumer = match desk.broker.consume(source, window, Hold::Attached, session).await {
        Ok(consumer) => consumer,
        Err(refusal) => return Left::Because(refusal.to_string()),
    };
    let mut turn = Turn {
        desk: desk.clone(),
        consumer,
        valve: Valve::new(window),
        given: window,
        pending: VecDeque::new(),
        flying: JoinSet::new(),
    };
    desk.worker.live.set(UpstreamState::Active, None, None);
    let left = turn.go(stop).await;
    turn.finish(stop).await;
    // What it still held comes back.
    let _ = desk.broker.close_session(session).await;
    left
}

/// One time of being attached.
struct Turn {
    desk: Arc<Desk>,
    consumer: Consumer,
    valve: Valve,
    given: u32,
    pending: VecDeque<Delivery>,
    flying: JoinSet<Step>,
}

impl Turn {
    async fn go(&mut self, stop: &mut watch::Receiver<Stop>) -> Left {
        loop {
            let wake = self.valve.shut_until().map(|until| until.since(self.desk.clock.now()));
            // Bodies are taken over only when there is something to do with them.
            let has_room = self.pending.is_empty();
            tokio::select! {
                () = stopped(stop) => return Left::Stopped,
                Some(step) = self.flying.join_next() => {
                    if let Err(why) = self.step(step) {
                        return Left::Because(why);
                    }
                }
                event = self.consumer.next(), if has_room => match event {
                    Some(Event::Messages(messages)) => self.pending.extend(messages),
                    Some(Event::Unreadable(why)) => return Left::Because(why),
                    Some(Event::Closed(_)) | None => return Left::Because("its queue is gone".to_owned()),
                },
                () = sleep_ms(wake) => self.try_one(),
                () = self.desk.worker.live.woken(), if wake.is_some() => {
                    self.desk.outbound.breakers.reset(&endpoint(self.desk.worker.url()));
                    self.try_one();
                }
            }
            if let Err(why) = self.move_on().await {
                return Left::Because(why);
            }
        }
    }

    fn try_one(&mut self) {
        self.valve.try_one();
        self.desk.worker.live.set(UpstreamState::Active, None, None);
    }

    /// Takes note of how an attempt ended.
    fn step(&mut self, step: Result<Step, JoinError>) -> Result<(), String> {
        match step {
            Ok(Step::Done) => self.valve.arrived(),
            Ok(Step::Shut { until, by_rate, why }) => {
                self.valve.shut(until);
                let live = &self.desk.worker.live;
                let state = if by_rate { UpstreamState::Throttled } else { UpstreamState::Suspended };
                let why = why.or_else(|| live.show().reason);
                live.set(state, why, self.valve.shut_until());
            }
            Ok(Step::Refused(why)) => return Err(why),
            Err(error) => return Err(format!("an attempt crashed: {error}")),
        }
        Ok(())
    }

    /// Starts what may be started, gives back what may not be held, and sets the window.
    async fn move_on(&mut self) -> Result<(), String> {
        if self.valve.shut_until().is_some() {
            self.release().await?;
        } else {
            self.launch();
        }
        let credit = self.valve.credit();
        if credit != self.given {
            self.given = credit;
            self.consumer.set_credit(credit).await.map_err(|refusal| refusal.to_string())?;
        }
        Ok(())
    }

    fn launch(&mut self) {
        let most = self.desk.worker.upstream.concurrency as usize;
        while self.flying.len() < most
            && let Some(delivery) = self.pending.pop_front()
        {
            let desk = self.desk.clone();
            self.flying.spawn(async move { desk.attempt(delivery).await });
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
        let source = Source::Queue(self.desk.worker.queue.clone());
        self.desk.broker.release(source, self.pending.drain(..)).await.map_err(|refusal| refusal.to_string())
    }

    /// Lets requests under way end: all of them, or when the server ends those that do soon.
    async fn finish(&mut self, stop: &mut watch::Receiver<Stop>) {
        if self.flying.is_empty() {
            return;
        }
        self.desk.worker.live.set(UpstreamState::Draining, None, None);
        // What it took and has not tried is for whoever is next; if this fails, closing the session does it.
        self.given = 0;
        let mut is_attached = self.consumer.set_credit(0).await.is_ok() && self.release().await.is_ok();
        let mut late = pin!(async {
            let _ = stop.wait_for(|stop| *stop == Stop::Now).await;
            time::sleep(GRACE).await;
        });
        while !self.flying.is_empty() {
            tokio::select! {
                _ = self.flying.join_next() => {}
                () = &mut late => break,
                event = self.consumer.next(), if is_attached => {
                    // It was on its way before the window was shut.
                    if let Some(Event::Messages(messages)) = event {
                        self.pending.extend(messages);
                        is_attached = self.release().await.is_ok();
                    } else {
                        is_attached = false;
                    }
                }
            }
        }
        self.flying.shutdown().await;
    }
}

async fn sleep_ms(ms: Option<u64>) {
    match ms {
        Some(ms) => time::sleep(Duration::from_millis(ms)).await,
        None => std::future::pending().await,
    }
}
