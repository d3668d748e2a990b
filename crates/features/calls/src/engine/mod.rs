//! The one task that owns all calls: it takes requests, replies and the time, one after the other, and lets what they come to
//! become durable before it tells.
//!
//! A change to a call is a **flight**: its record is read, the next one written with what belongs to it, and only when that is
//! durable does the entry in memory change and the asker hear of it. While a call has a flight, further changes to it wait in
//! line; so each is decided on what is durable, and a call has one outcome whatever comes at once.

mod declare;
mod flight;
mod intake;
mod land;
mod late;
mod pages;
mod rebuild;
mod retry;
mod start;

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    Future, StreamExt,
    stream::{FuturesUnordered, SelectAll},
};
use tokio::sync::{mpsc, watch};
use waystation_base::{Clock, Millis, Name};
use waystation_broker::{SessionId, Source, command::Hold, effect::Closed};
use waystation_host::{Broker, Consumer, Event};

use crate::{
    CallId, Change, Changed, Error, Operation, Seen, Start, Started,
    ask::{Answering, Ask},
    handle::Shared,
    index::Index,
    limits::Limits,
    names::{self, own},
    reply,
    request::Older,
};
use flight::Landed;
pub(crate) use flight::read;
use intake::{Hearing, Intake};
use pages::Pages;

/// Longest time without a look at the timers: the clock may be set.
const TICK: Duration = Duration::from_secs(1);
/// Milliseconds after which something that could not be done is tried again.
const AGAIN_MS: u64 = 1_000;
/// For how long what is under way is seen to its end when the server goes down.
const END: Duration = Duration::from_secs(5);

/// Something on its way to the journal, with the generation in which it began.
type Flight = Pin<Box<dyn Future<Output = (u64, Landed)> + Send>>;
/// Operations by name, as everybody may see them.
pub(crate) type Operations = Arc<BTreeMap<Name, Arc<Operation>>>;

/// A change that waits until the call's present flight has landed.
struct Waiting {
    change: Change,
    reply: Option<Answering<Changed>>,
}

/// The engine. [`Engine::run`] it beside the broker's driver.
pub struct Engine {
    broker: Broker,
    limits: Limits,
    clock: Arc<dyn Clock>,
    asks: mpsc::Receiver<Ask>,
    shared: Arc<Shared>,
    operations: watch::Sender<Operations>,
    index: Index,
    flights: FuturesUnordered<Flight>,
    pages: Pages,
    /// Calls that have a flight, and what waits for its end.
    busy: HashMap<CallId, VecDeque<Waiting>>,
    /// Idempotency keys whose first call is being started, and requests that wait for it.
    starting: HashMap<u128, Vec<(Name, Box<Start>, Answering<Started>)>>,
    /// Calls on their way to be new.
    new: usize,
    watchers: HashMap<CallId, watch::Sender<u32>>,
    /// Workers of our own who wait to see a call as it is after its present flight.
    attending: HashMap<CallId, Vec<Answering<(Seen, watch::Receiver<u32>)>>>,
    /// Where requests of earlier runs are kept.
    older: Arc<Older>,
    replies: Option<Consumer>,
    /// Intakes that are listened to, by operation, and what comes by them.
    intakes: HashMap<Name, Intake>,
    heard: SelectAll<Hearing>,
    /// When to look for intakes again.
    intakes_at: Millis,
    /// The topic and queues are there.
    is_set_up: bool,
    /// When to attach to the replies again.
    attach_at: Millis,
}

impl Engine {
    pub(crate) fn new(
        broker: Broker,
        limits: Limits,
        clock: Arc<dyn Clock>,
        asks: mpsc::Receiver<Ask>,
        shared: Arc<Shared>,
        operations: watch::Sender<Operations>,
    ) -> Engine {
        Engine {
            broker,
            limits,
            clock,
            asks,
            shared,
            operations,
            index: Index::default(),
            flights: FuturesUnordered::new(),
            pages: Pages::default(),
            busy: HashMap::new(),
            starting: HashMap::new(),
            new: 0,
            watchers: HashMap::new(),
            attending: HashMap::new(),
            older: Arc::default(),
            replies: None,
            intakes: HashMap::new(),
            heard: SelectAll::new(),
            intakes_at: Millis::NEVER,
            is_set_up: false,
            attach_at: Millis(0),
        }
    }

    /// Reads back what there is, then serves until `stopped`, or until nobody can ask any more.
    pub async fn run(mut self, stopped: impl Future<Output = ()>) -> Result<(), Error> {
        tokio::pin!(stopped);
        tokio::select! {
            biased;
            () = &mut stopped => return Ok(()),
            read = self.rebuild() => read?,
        }
        self.shared.set_ready();
        loop {
            let has_room = self.flights.len() < self.limits.flights_max;
            let sleep = self.sleep();
            tokio::select! {
                biased;
                () = &mut stopped => break,
                Some(landed) = self.flights.next(), if !self.flights.is_empty() => self.landed(landed),
                ask = self.asks.recv(), if has_room => match ask {
                    Some(ask) => self.take(ask).await,
                    None => break,
                },
                event = next(&mut self.replies), if has_room => self.hear(event),
                Some(heard) = self.heard.next(), if has_room && !self.heard.is_empty() => self.hear_intake(heard),
                () = tokio::time::sleep(sleep), if has_room => self.tick().await,
            }
        }
        if tokio::time::timeout(END, self.end()).await.is_err() {
            tracing::warn!("changes to calls were under way at the end; nothing that was told is lost");
        }
        Ok(())
    }

    /// Sees to its end what is under way, and lets the next start have little to read.
    async fn end(&mut self) {
        while let Some(landed) = self.flights.next().await {
            self.landed(landed);
        }
        self.write_last_pages();
        while let Some(landed) = self.flights.next().await {
            self.landed(landed);
        }
    }

    /// Sends something on its way to the journal.
    fn launch(&mut self, flight: impl Future<Output = Landed> + Send + 'static) {
        let generation = self.pages.launched();
        self.flights.push(Box::pin(async move { (generation, flight.await) }));
    }

    fn landed(&mut self, (generation, landed): (u64, Landed)) {
        self.land(landed);
        self.pages.landed(generation);
        self.keep_pages();
    }

    fn now(&self) -> Millis {
        self.clock.now()
    }

    /// Until something is due.
    fn sleep(&self) -> Duration {
        let now = self.now();
        let due = self.index.next_due().unwrap_or(Millis::NEVER);
        let attach = if self.is_set_up && self.replies.is_none() { self.attach_at } else { Millis::NEVER };
        due.min(attach).min(self.intakes_at).duration_since(now).min(TICK)
    }

    async fn take(&mut self, ask: Ask) {
        // An asker that is gone needs no answer.
        match ask {
            Ask::TryDeclare { name, operation, change, reply } => {
                let _ = reply.send(self.try_declare(&name, *operation, change));
            }
            Ask::Declare { broker, name, operation, change, reply } => {
                let _ = reply.send(self.declare(broker, name, *operation, change).await);
            }
            Ask::Remove { broker, name, reply } => {
                let _ = reply.send(self.remove(broker, name).await);
            }
            Ask::Start { operation, start, reply } => self.start(operation, start, reply),
            Ask::See { id, reply } => {
                let _ = reply.send(self.index.see(id));
            }
            Ask::Watch { id, reply } => {
                let _ = reply.send(self.watch(id));
            }
            Ask::Attend { id, reply } => match self.busy.contains_key(&id) {
                // A message may be back before the step is known that sent it there.
                true => self.attending.entry(id).or_default().push(reply),
                false => self.attend(id, reply),
            },
            Ask::List { filter, reply } => {
                let _ = reply.send(Ok(self.index.list(&filter, self.limits.scan_calls_max)));
            }
            Ask::Change { id, change, reply } => self.change(id, change, reply),
        }
    }

    /// Tells of each step of a call from now on. What ends it closes the channel.
    fn watch(&mut self, id: CallId) -> Result<watch::Receiver<u32>, Error> {
        let entry = self.index.get(id)?;
        if entry.state.is_finished() {
            return Ok(watch::channel(entry.version).1);
        }
        if self.watchers.len().is_multiple_of(1024) {
            self.watchers.retain(|_, watcher| watcher.receiver_count() > 0);
        }
        let version = entry.version;
        Ok(self.watchers.entry(id).or_insert_with(|| watch::Sender::new(version)).subscribe())
    }

    fn attend(&mut self, id: CallId, reply: Answering<(Seen, watch::Receiver<u32>)>) {
        let seen = self.index.glance(id);
        // An asker that is gone needs no answer.
        let _ = reply.send(seen.and_then(|seen| Ok((seen, self.watch(id)?))));
    }

    /// Begins a change, or lets it wait for the one that is under way.
    fn change(&mut self, id: CallId, change: Change, reply: Option<Answering<Changed>>) {
        match self.busy.get_mut(&id) {
            Some(waiting) if waiting.len() >= self.limits.waiting_max && reply.is_some() => {
                let limit = self.limits.waiting_max as u64;
                let refusal = Error::Limit { what: "changes that wait for one call", limit };
                reply.map(|reply| reply.send(Err(refusal)));
            }
            Some(waiting) => waiting.push_back(Waiting { change, reply }),
            None => self.begin(id, change, reply),
        }
    }

    /// Something came on the reply queue.
    fn hear(&mut self, event: Option<Event>) {
        let deliveries = match event {
            Some(Event::Messages(deliveries)) => deliveries,
            Some(Event::Closed(Closed::SourceDeleted)) => {
                tracing::warn!(queue = names::REPLIES, "the queue for replies was deleted; it is made anew");
                return self.detach();
            }
            other => {
                tracing::warn!(?other, queue = names::REPLIES, "replies are not heard; trying again");
                return self.detach();
            }
        };
        for delivery in deliveries {
            match reply::call_of(&delivery.message) {
                Some(id) => self.change(id, Change::Reply(Box::new(delivery)), None),
                None => self.keep_late(delivery, "unknown"),
            }
        }
    }

    fn detach(&mut self) {
        self.replies = None;
        self.attach_at = self.now().plus(AGAIN_MS);
    }

    /// Hears replies from now on.
    async fn attach(&mut self) {
        let source = Source::Queue(own(names::REPLIES));
        match self
            .broker
            .consume(source, self.limits.replies_held_max, Hold::Attached, SessionId::default())
            .await
        {
            Ok(consumer) => self.replies = Some(consumer),
            Err(error) => {
                tracing::warn!(%error, queue = names::REPLIES, "replies cannot be consumed; trying again");
                self.detach();
            }
        }
    }

    /// Carries out what is due.
    async fn tick(&mut self) {
        let now = self.now();
        if self.is_set_up && self.replies.is_none() && self.attach_at <= now {
            if let Err(error) = self.set_up().await {
                tracing::warn!(%error, "the queues of calls cannot be made; trying again");
            }
            self.attach().await;
        }
        if self.intakes_at <= now {
            self.listen_to_intakes().await;
        }
        for id in self.index.take_due(now, self.limits.timers_max) {
            let is_finished = self.index.get(id).is_ok_and(|entry| entry.state.is_finished());
            let change = if is_finished { Change::Forget } else { Change::Expire };
            self.change(id, change, None);
        }
        self.keep_pages();
    }
}

/// The next event of a consumer; never, without one.
async fn next(consumer: &mut Option<Consumer>) -> Option<Event> {
    match consumer {
        Some(consumer) => consumer.next().await,
        None => std::future::pending().await,
    }
}
