//! How a door talks to the broker: a cheap handle whose calls answer when what they did is durable.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use waystation_base::{
    Attempt, ClientId, ConsumerId, Message, Millis, Name, Offset, Position, Tag,
    filter::Filter,
    message::header::TRACEPARENT,
    trace::{Context as Trace, Parent, delivery_span},
};
use waystation_broker::{
    Command, Kind, Refusal, Reply, SessionId, Source,
    command::{
        Attach, Bind, Declare, Delete, Extend, Hold, Outcome, Payload, Publish, Seek, Settle, Settlement,
        Target as To, Transaction,
    },
    effect::{Closed, Declared, Published},
    spec::{Spec, VhostLimits},
    view::{Binding, BindingFilter, QueueInfo, RouteInfo, SubscriptionInfo, TopicInfo},
};

use waystation_record::Record;

use crate::alarms::Alarms;
use crate::audit::Origin;
use crate::mailbox::{Attention, Inbox, Outbox, mailbox};
use crate::overlay::{self, Overlay};

/// The broker, for doors. Clones are cheap and talk to the same shard.
#[derive(Clone, Debug)]
pub struct Broker {
    requests: mpsc::Sender<Request>,
    shared: Arc<Shared>,
    /// On whose behalf it acts; without one its changes leave no trail.
    origin: Option<Arc<Origin>>,
    /// What became of messages, if that is recorded.
    record: Option<Record>,
}

/// What all handles and the driver share.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    ids: AtomicU64,
    /// Consumers that call for the driver.
    pub(crate) attention: Arc<Attention>,
    /// Why writing ended, if so.
    pub(crate) failure: OnceLock<String>,
    /// Whoever knows the policies.
    pub(crate) overlay: overlay::Place,
}

/// A message in a consumer's hands.
#[derive(Clone, Debug, PartialEq)]
pub struct Delivery {
    /// Its name towards the source; settle it by this.
    pub tag: Tag,
    /// How often it has been handed out, this time included; settle it by this.
    pub attempt: Attempt,
    /// Until when it is held; [`Millis::NEVER`] while the consumer is attached.
    pub held_until: Millis,
    /// The queue, or the topic that it was published to.
    pub address: Name,
    /// The topic's partition; the lane of a queue.
    pub partition: u16,
    /// Its offset there.
    pub offset: Offset,
    /// The message.
    pub message: Message,
}

impl Delivery {
    /// What settles it.
    pub fn settlement(&self, outcome: Outcome) -> Settlement {
        Settlement { tag: self.tag, attempt: self.attempt, outcome }
    }

    /// What a span is made below of what is done with it; none if its producer sent no sampled trace context.
    pub fn parent(&self, source: &Source) -> Option<Parent> {
        let context = self.message.headers.text(TRACEPARENT).and_then(Trace::parse);
        let copy = match source {
            Source::Queue(_) => "",
            Source::Subscription(name) => name.as_str(),
        };
        let (id, attempt) = (self.message.id, self.attempt.0);
        let delivery = delivery_span(id, self.address.as_str(), self.offset, copy, attempt);
        context.filter(|context| context.is_sampled).map(|context| Parent { context, delivery })
    }
}

/// What a consumer hears.
#[derive(Clone, Debug)]
pub enum Event {
    /// Messages, in order.
    Messages(Vec<Delivery>),
    /// It has ended.
    Closed(Closed),
    /// The next message cannot be read, for this reason: the consumer has ended, and what it holds and has not settled
    /// comes back. Whoever consumes next meets that message again, until the damage is mended or the message goes.
    Unreadable(String),
}

/// A command that was handed over: what became of it, once that is durable. Dropping it gives up the answer, not the command.
#[derive(Debug)]
pub struct Pending {
    answer: oneshot::Receiver<Result<Reply, Refusal>>,
    broker: Broker,
}

impl Future for Pending {
    type Output = Result<Reply, Refusal>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let answer = Pin::new(&mut self.answer).poll(context);
        answer.map(|answer| answer.unwrap_or_else(|_| Err(self.broker.gone())))
    }
}

/// An attached consumer. Dropping it detaches it, and what it held comes back.
#[derive(Debug)]
pub struct Consumer {
    /// Its id.
    pub id: ConsumerId,
    events: Inbox,
    broker: Broker,
}

/// How to look at messages without consuming them.
#[derive(Clone, Debug, Default)]
pub struct Browse {
    /// Begin at this message (queues: a tag; topics and subscriptions: partition and offset packed as a tag); none: the first.
    pub from: Option<Tag>,
    /// Topics: at the first message at or after this time.
    pub from_time: Option<Millis>,
    /// Topics: this partition only.
    pub partition: Option<u32>,
    /// Only these.
    pub filter: Option<Filter>,
    /// Most messages to give back.
    pub max: usize,
    /// Most bytes of messages to give back; one message at least comes.
    pub bytes_max: usize,
}

/// A page of messages looked at.
#[derive(Clone, Debug, Default)]
pub struct Page {
    /// The messages; `attempt` says how often each was handed out so far.
    pub messages: Vec<Delivery>,
    /// Where to go on ([`Browse::from`]); none at the end.
    pub next: Option<Tag>,
}

/// What the whole broker looks like now.
#[derive(Clone, Debug, Default)]
pub struct Overview {
    /// Why nothing is accepted any more, if so.
    pub stopped: Option<String>,
    /// What there is too little of, so that publishing is refused.
    pub alarms: Alarms,
    /// The end of the journal.
    pub journal_end: Position,
    /// How far it is durable.
    pub journal_durable: Position,
    /// Where the oldest kept journal file begins.
    pub journal_start: Position,
    /// Bytes in settled files.
    pub settled_bytes: u64,
    /// Settled files.
    pub settled_files: u64,
    /// Bytes of the tail cache in use.
    pub cache_bytes: u64,
    /// Commit groups synced so far.
    pub groups: u64,
    /// Bytes of them.
    pub group_bytes: u64,
    /// Attached consumers and waiting pulls.
    pub consumers: u64,
    /// Messages given to consumers so far.
    pub delivered: u64,
    /// Reads of messages that were not in memory so far.
    pub disk_reads: u64,
    /// Snapshots written so far.
    pub snapshots: u64,
    /// Jobs that settled or compacted messages so far.
    pub settle_jobs: u64,
    /// Bytes of file system still free.
    pub disk_free_bytes: u64,
    /// Bytes of memory that the process has; 0 where that is not looked at.
    pub memory_used_bytes: u64,
    /// Bytes of memory from which on publishing is refused; 0: there is no such bound.
    pub memory_high_bytes: u64,
    /// Queues, topics and subscriptions.
    pub entities: u64,
}

/// What a handle sends to the driver.
pub(crate) enum Request {
    /// A command whose reply goes back when durable.
    Command(Command, Option<Arc<Origin>>, oneshot::Sender<Result<Reply, Refusal>>),
    /// A new consumer and where its events go.
    Attach(Attach, Outbox, Option<Arc<Origin>>, oneshot::Sender<Result<Reply, Refusal>>),
    /// Messages to look at.
    Browse(Target, Browse, oneshot::Sender<Result<Page, Refusal>>),
    /// Something to read off the shard's state.
    Query(Box<dyn FnOnce(&crate::View<'_>) + Send>),
}

/// What can be browsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A queue's waiting, held and delayed messages.
    Queue(Name),
    /// A topic's log.
    Topic(Name),
    /// A subscription's unacknowledged messages.
    Subscription(Name),
}

impl Broker {
    /// A handle, what its driver shares with it, and where its requests arrive; `requests_max` of them may wait.
    pub(crate) fn new(
        requests_max: usize,
        record: Option<Record>,
    ) -> (Broker, Arc<Shared>, mpsc::Receiver<Request>) {
        let (requests, inbox) = mpsc::channel(requests_max);
        let shared = Arc::new(Shared::default());
        (Broker { requests, shared: shared.clone(), origin: None, record }, shared, inbox)
    }

    /// The same broker, acting on somebody's behalf: what is changed by it is recorded under that name.
    pub fn with_origin(&self, origin: Origin) -> Broker {
        Broker { origin: Some(Arc::new(origin)), ..self.clone() }
    }

    /// The same broker, acting as a part of the server: the record of messages names it, the trail of changes does not.
    pub fn as_part(&self, part: &'static str, name: Option<String>) -> Broker {
        self.with_origin(Origin { door: part, name, inner: true, ..Origin::default() })
    }

    /// What became of messages, if that is recorded. Its answers read files: ask on a thread that may wait.
    pub fn record(&self) -> Option<&Record> {
        self.record.as_ref()
    }

    /// From now on policies are laid over all that is declared. The first who knows them stays.
    pub fn set_overlay(&self, overlay: Arc<dyn Overlay>) {
        self.shared.overlay.set(overlay);
    }

    async fn send(&self, request: Request) -> Result<(), Refusal> {
        self.requests.send(request).await.map_err(|_| self.gone())
    }

    /// Why the driver does not answer.
    fn gone(&self) -> Refusal {
        self.shared.failure.get().map_or(Refusal::Draining, |why| Refusal::Stopped(why.clone()))
    }

    async fn command(&self, command: Command) -> Result<Reply, Refusal> {
        self.begin(command).await?.await
    }

    /// Hands a command over, waiting only for room among the requests. Commands that one caller begins one after the other are
    /// carried out in that order. What becomes of it the [`Pending`] says, which may be dropped. Not for [`Command::Attach`].
    pub async fn begin(&self, command: Command) -> Result<Pending, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Command(command, self.origin.clone(), reply)).await?;
        Ok(Pending { answer, broker: self.clone() })
    }

    fn next_id(&self) -> u64 {
        // 0 is nobody's.
        self.shared.ids.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// A new session, to own consumers and exclusive queues. Close it with [`Broker::close_session`].
    pub fn session(&self) -> SessionId {
        SessionId(self.next_id())
    }

    /// Ends all that belongs to a session.
    pub async fn close_session(&self, session: SessionId) -> Result<(), Refusal> {
        self.command(Command::CloseSession(session)).await.map(|_| ())
    }

    /// Makes a queue, topic or subscription, or finds it there just so; with `change`, changes what differs.
    pub async fn declare(
        &self,
        name: Name,
        spec: Spec,
        change: bool,
        session: SessionId,
    ) -> Result<Declared, Refusal> {
        match self.command(Command::Declare(Declare { name, spec, change, session })).await? {
            Reply::Declared(declared) => Ok(declared),
            other => unreachable!("a declaration was answered with {other:?}"),
        }
    }

    /// Removes a queue, topic or subscription and says how many messages went with it.
    pub async fn delete(&self, delete: Delete) -> Result<u64, Refusal> {
        self.removed(Command::Delete(delete)).await
    }

    /// Drops every message of a queue that is not held by a consumer and says how many.
    pub async fn purge(&self, queue: Name) -> Result<u64, Refusal> {
        self.removed(Command::Purge(queue)).await
    }

    async fn removed(&self, command: Command) -> Result<u64, Refusal> {
        match self.command(command).await? {
            Reply::Removed(messages) => Ok(messages),
            other => unreachable!("a removal was answered with {other:?}"),
        }
    }

    /// Stores messages at a queue or topic. When this returns they are durable.
    pub async fn publish(&self, address: Name, messages: Vec<Message>) -> Result<Published, Refusal> {
        let publish =
            Publish { to: To::Address(address), partition: None, payload: Payload::Messages(messages) };
        let mut published =
            self.transact(Transaction { publishes: vec![publish], settlements: Vec::new() }).await?;
        Ok(published.pop().unwrap_or_default())
    }

    /// Publishes one after the other, each for itself. When this returns those that were taken are durable.
    pub async fn publish_each(
        &self,
        publishes: Vec<Publish>,
    ) -> Result<Vec<Result<Published, Refusal>>, Refusal> {
        match self.command(Command::PublishEach(publishes)).await? {
            Reply::PublishedEach(published) => Ok(published),
            other => unreachable!("publishes were answered with {other:?}"),
        }
    }

    /// Lets a route hand on; says whether the binding is new.
    pub async fn bind(&self, bind: Bind) -> Result<bool, Refusal> {
        match self.command(Command::Bind(bind)).await? {
            Reply::Declared(declared) => Ok(declared == Declared::Created),
            other => unreachable!("a binding was answered with {other:?}"),
        }
    }

    /// Takes a binding away; says whether it was there.
    pub async fn unbind(&self, bind: Bind) -> Result<bool, Refusal> {
        self.removed(Command::Unbind(bind)).await.map(|removed| removed > 0)
    }

    /// Lets a consumer get nothing more. What it holds stays held until it is settled or its session closes. Keep the
    /// [`Consumer`] until it has said [`Closed::Cancelled`]: what was on its way to it comes before that.
    pub async fn cancel(&self, consumer: ConsumerId) -> Result<(), Refusal> {
        self.command(Command::Cancel(consumer)).await.map(|_| ())
    }

    /// Takes one message at once, if there is one; it is held until it is settled or the session closes.
    pub async fn get_once(&self, source: Source, session: SessionId) -> Result<Option<Delivery>, Refusal> {
        let mut consumer = self.consume(source, 1, Hold::Once, session).await?;
        let mut message = None;
        while let Some(event) = consumer.next().await {
            match event {
                Event::Messages(mut messages) => message = messages.pop(),
                Event::Unreadable(why) => return Err(Refusal::Damaged(why)),
                Event::Closed(_) => break,
            }
        }
        Ok(message)
    }

    /// Writes a document, or with no body deletes it. When this returns that is durable.
    pub async fn put_document(&self, name: Name, body: Option<Bytes>) -> Result<(), Refusal> {
        self.command(Command::Document { name, body }).await.map(|_| ())
    }

    /// Documents whose names begin so, by name.
    pub async fn documents(&self, prefix: String) -> Result<Vec<(Name, Bytes)>, Refusal> {
        self.query(move |view| view.documents(&prefix)).await
    }

    /// A route as it is now.
    pub async fn route(&self, name: Name) -> Result<RouteInfo, Refusal> {
        self.query(move |view| view.route(&name).ok_or_else(|| not_found(Kind::Route, &name))).await?
    }

    /// Bindings, by route and in the order in which they were made.
    pub async fn bindings(&self, filter: BindingFilter) -> Result<Vec<Binding>, Refusal> {
        self.query(move |view| view.bindings(&filter)).await
    }

    /// Publishes and settles as one: all of it takes effect, or nothing.
    pub async fn transact(&self, transaction: Transaction) -> Result<Vec<Published>, Refusal> {
        match self.command(Command::Transact(transaction)).await? {
            Reply::Committed(published) => Ok(published),
            other => unreachable!("a transaction was answered with {other:?}"),
        }
    }

    /// Settles messages. When this returns the outcomes are durable.
    pub async fn settle(&self, source: Source, settlements: Vec<Settlement>) -> Result<(), Refusal> {
        let settle = Settle { source, settlements };
        self.transact(Transaction { publishes: Vec::new(), settlements: vec![settle] }).await.map(|_| ())
    }

    /// Accepts one message.
    pub async fn accept(&self, source: Source, delivery: &Delivery) -> Result<(), Refusal> {
        self.settle(source, vec![delivery.settlement(Outcome::Accepted)]).await
    }

    /// Gives messages back that were not tried: that counts as no attempt.
    pub async fn release(
        &self,
        source: Source,
        deliveries: impl IntoIterator<Item = Delivery>,
    ) -> Result<(), Refusal> {
        let released = |delivery: Delivery| delivery.settlement(Outcome::Released);
        self.settle(source, deliveries.into_iter().map(released).collect()).await
    }

    /// Prolongs leases to `lease_ms` from now and returns their new end.
    pub async fn extend(
        &self,
        source: Source,
        held: Vec<(Tag, Attempt)>,
        lease_ms: u64,
    ) -> Result<Millis, Refusal> {
        match self.command(Command::Extend(Extend { source, held, lease_ms })).await? {
            Reply::Extended(until) => Ok(until),
            other => unreachable!("an extension was answered with {other:?}"),
        }
    }

    /// Moves a subscription: what it reads next of each named topic partition.
    pub async fn seek(&self, subscription: Name, to: Vec<(Name, u32, Offset)>) -> Result<(), Refusal> {
        self.command(Command::Seek(Seek { subscription, to })).await.map(|_| ())
    }

    /// Takes up to `max` messages under a lease, waiting up to `wait` for the first.
    pub async fn receive(
        &self,
        source: Source,
        max: u32,
        wait: Duration,
        lease_ms: Option<u64>,
        now: Millis,
    ) -> Result<Vec<Delivery>, Refusal> {
        let until = now.plus(wait.as_millis() as u64);
        let hold = Hold::Pull { lease_ms, until };
        let mut consumer = self.consume(source, max, hold, SessionId::default()).await?;
        let mut messages = Vec::new();
        while let Some(event) = consumer.next().await {
            match event {
                Event::Messages(more) => messages.extend(more),
                Event::Closed(Closed::PullEnded | Closed::Cancelled) => break,
                Event::Closed(Closed::SourceDeleted) if messages.is_empty() => {
                    return Err(Refusal::NotAttached);
                }
                Event::Unreadable(why) if messages.is_empty() => return Err(Refusal::Damaged(why)),
                Event::Closed(Closed::SourceDeleted) | Event::Unreadable(_) => break,
            }
        }
        Ok(messages)
    }

    /// Attaches a consumer that may hold up to `credit` messages at a time.
    pub async fn consume(
        &self,
        source: Source,
        credit: u32,
        hold: Hold,
        session: SessionId,
    ) -> Result<Consumer, Refusal> {
        let consumer = ConsumerId(self.next_id());
        self.attach(Attach {
            consumer,
            source,
            credit,
            pool: None,
            hold,
            priority: 0,
            exclusive: false,
            session,
            client: ClientId(0),
        })
        .await
    }

    /// Attaches a consumer with all options. Its id is replaced by a fresh one, and who it is by the origin of this handle.
    pub async fn attach(&self, mut attach: Attach) -> Result<Consumer, Refusal> {
        let id = ConsumerId(self.next_id());
        attach.consumer = id;
        let (outbox, events) = mailbox(id, self.shared.attention.clone());
        let (reply, answer) = oneshot::channel();
        // Made before anything is awaited, so that a caller who gives up detaches it.
        let consumer = Consumer { id, events, broker: self.clone() };
        self.send(Request::Attach(attach, outbox, self.origin.clone(), reply)).await?;
        answer.await.map_err(|_| self.gone())??;
        Ok(consumer)
    }

    /// Sets what a virtual host may have together; to be said again after a restart.
    pub async fn limit_vhost(&self, host: String, limits: VhostLimits) -> Result<(), Refusal> {
        self.command(Command::LimitVhost { host, limits }).await.map(|_| ())
    }

    /// Looks at messages without consuming them.
    pub async fn browse(&self, target: Target, browse: Browse) -> Result<Page, Refusal> {
        let (reply, answer) = oneshot::channel();
        self.send(Request::Browse(target, browse, reply)).await?;
        answer.await.map_err(|_| self.gone())?
    }

    /// Reads something off the state, between two commands.
    pub async fn query<T: Send + 'static>(
        &self,
        read: impl FnOnce(&crate::View<'_>) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let (reply, answer) = oneshot::channel();
        let query = Box::new(move |view: &crate::View<'_>| {
            // A caller that gave up needs no answer.
            let _ = reply.send(read(view));
        });
        self.send(Request::Query(query)).await?;
        answer.await.map_err(|_| self.gone())
    }

    /// A queue as it is now.
    pub async fn queue(&self, name: Name) -> Result<QueueInfo, Refusal> {
        self.query(move |view| view.queue(&name).ok_or_else(|| not_found(Kind::Queue, &name))).await?
    }

    /// A topic as it is now.
    pub async fn topic(&self, name: Name) -> Result<TopicInfo, Refusal> {
        self.query(move |view| view.topic(&name).ok_or_else(|| not_found(Kind::Topic, &name))).await?
    }

    /// A subscription as it is now.
    pub async fn subscription(&self, name: Name) -> Result<SubscriptionInfo, Refusal> {
        self.query(move |view| view.subscription(&name).ok_or_else(|| not_found(Kind::Subscription, &name)))
            .await?
    }

    /// Names of a kind after `after`, in order, at most `max`.
    pub async fn names(&self, kind: Kind, after: Option<String>, max: usize) -> Result<Vec<Name>, Refusal> {
        self.query(move |view| view.names(kind, after.as_deref(), max)).await
    }

    /// The whole as it is now.
    pub async fn overview(&self) -> Result<Overview, Refusal> {
        self.query(|view| view.overview()).await
    }
}

fn not_found(kind: Kind, name: &Name) -> Refusal {
    Refusal::NotFound { kind, name: name.to_string() }
}

impl Consumer {
    /// The next event; `None` when the consumer has ended and all was said.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|context| self.events.poll_next(context)).await
    }

    /// Sets how many messages it may hold at a time. Takes effect soon.
    pub async fn set_credit(&self, credit: u32) -> Result<(), Refusal> {
        let (reply, _) = oneshot::channel();
        self.broker.send(Request::Command(Command::Credit(self.id, credit), None, reply)).await
    }
}
