//! What does one connection consist of, and how does it begin and end?

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, VecDeque},
    future::{Future, poll_fn},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use bytes::BytesMut;
use futures_util::stream::FuturesUnordered;
use smol_str::SmolStr;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::mpsc,
    time::{Instant, Sleep, sleep_until, timeout, timeout_at},
};
use waystation_base::{Name, os, value::Value};
use waystation_broker::{Command, SessionId};
use waystation_host::Broker;
use waystation_net::{Stream, Timed, Times};

use super::{
    calls::Done, deliver::Consuming, door::Door, publish::Publishes, replies::Reply, settle::Settles,
    wake::Woken,
};
use crate::{
    directory::{Account, Action as Permission},
    limits::{READ_BYTES, REPLIES_WAITING_MAX},
    mapping::names,
    registry::{ChannelEntry, Entered, Order},
    session::{Action, ChannelKey, ConsumerKey, Failure, Resource, Session, Settings},
    wire::{ChannelId, Decoder, GREETING, Greeting, Output, Table},
};

/// Orders from outside that may wait.
const ORDERS_MAX: usize = 16;
/// For how long a client may take to answer `close`, and to read what was said last.
pub(super) const GOODBYE: Duration = Duration::from_secs(2);
/// An answer to `close` comes no sooner than this, as RabbitMQ's does not: aiormq 7.2 takes the end for another one if it hears of it
/// before its own write has returned, and then opens channels of its own accord.
const CLOSE_OK_AFTER: Duration = Duration::from_millis(2);
/// Bytes that are read and thrown away after the last word, so that the client comes to read it.
const LINGER_BYTES_MAX: usize = 16 << 20;
/// What the server calls itself to clients: kombu decides by it and the version how `basic.qos` is meant, and Celery by that
/// how it raises its prefetch. `platform` says what it is.
const PRODUCT: &str = "RabbitMQ";
/// The version of RabbitMQ whose behaviour clients may count on: some look at it.
const VERSION: &str = "3.13.7";
/// One in the lowest of the bytes that [`MessageId::new`] uses.
pub(super) const ID_STEP: u128 = 1 << 48;

/// What a call needs to know about its connection.
pub(super) struct Context {
    pub door: Arc<Door>,
    /// The broker, acting on the user's behalf.
    pub broker: Broker,
    pub session: SessionId,
    pub account: Arc<dyn Account>,
    pub vhost: SmolStr,
    pub replies: mpsc::Sender<Reply>,
}

impl Context {
    /// Waystation's name for a queue or exchange of this virtual host.
    pub fn name(&self, amqp: &str) -> Result<Name, Failure> {
        names::name(&self.vhost, amqp).map_err(|error| Failure::precondition(error.to_string()))
    }

    pub fn queue(&self, name: &str) -> Resource {
        Resource::queue(&self.vhost, name)
    }

    pub fn exchange(&self, name: &str) -> Resource {
        Resource::exchange(&self.vhost, name)
    }

    /// Refuses what the user may not do. The default exchange goes by a name of its own.
    pub fn require(&self, action: Permission, what: &Resource) -> Result<(), Failure> {
        let name = if what.kind == "exchange" && what.name.is_empty() { "amq.default" } else { &what.name };
        if self.account.may(action, &self.vhost, name) {
            return Ok(());
        }
        let word = match action {
            Permission::Configure => "configure",
            Permission::Write => "write",
            Permission::Read => "read",
        };
        let resource = Resource { name: name.into(), ..what.clone() };
        let user = self.account.name();
        Err(Failure::access(format!("{word} access to {resource} refused for user '{user}'")))
    }
}

/// One connection from its greeting on.
pub(super) struct Connection {
    pub door: Arc<Door>,
    pub entered: Entered,
    pub peer: SocketAddr,
    pub stream: Timed<Stream>,
    pub input: BytesMut,
    pub read_bytes: usize,
    pub decoder: Decoder,
    pub output: Output,
    /// The socket has all that was written.
    pub is_flushed: bool,
    pub session: Session,
    pub actions: Vec<Action>,
    pub broker_session: SessionId,
    pub account: Option<Arc<dyn Account>>,
    pub context: Option<Arc<Context>>,
    pub channels: BTreeMap<u16, Arc<ChannelEntry>>,
    pub publishes: Publishes,
    pub settles: Settles,
    /// Commands that go out behind what was published and settled before.
    pub commands: Vec<Command>,
    pub calls: FuturesUnordered<Pin<Box<dyn Future<Output = Done> + Send>>>,
    pub consumers: BTreeMap<ConsumerKey, Consuming>,
    pub consumer_keys: u64,
    pub ready: VecDeque<ConsumerKey>,
    /// Consumers with messages that their channel may not have yet.
    pub paused: BTreeSet<ConsumerKey>,
    /// Channels whose consumers share a limit.
    pub pools: HashSet<ChannelKey>,
    pub woken: Arc<Woken>,
    pub orders: mpsc::Receiver<Order>,
    pub replies: mpsc::Receiver<Reply>,
    pub replies_in: mpsc::Sender<Reply>,
    pub pulse: Pulse,
    pub has_published: bool,
    /// In a transaction.
    pub has_committed: bool,
    pub told_blocked: bool,
    /// Everything has been said.
    pub hangup: bool,
    /// A channel that is not opened though the client asked for it, because the connection ends for that.
    pub shut: Option<ChannelId>,
    /// Channels whose outstanding deliveries and publishes have changed.
    pub touched: Vec<ChannelId>,
    pub ids: u128,
}

/// What the connection's clock is for.
pub(super) struct Pulse {
    pub sleep: Pin<Box<Sleep>>,
    pub heartbeat: Option<Duration>,
    /// The handshake must be over, or goodbye be said, by then.
    pub deadline: Option<Instant>,
    pub last_read: Instant,
    /// The deadline is for the client's last word.
    pub is_goodbye: bool,
    /// When deliveries are looked at that must be settled in time, if there are any.
    pub watch: Option<Pin<Box<Sleep>>>,
}

/// Serves one connection to its end.
pub(super) async fn run(door: Arc<Door>, stream: Stream, peer: SocketAddr, local: SocketAddr) {
    let limits = &door.limits;
    let write = Duration::from_millis(limits.write_ms);
    let is_tls = matches!(stream, Stream::Tls(_));
    let certificate = super::certificate::common_name(&stream);
    // Reading has limits of its own here: the handshake's, and heartbeats.
    let mut stream = Timed::new(stream, Times { idle: write, head: write, write });
    stream.pace().busy();
    let deadline = Instant::now() + Duration::from_millis(limits.handshake_ms);
    let mut input = BytesMut::new();
    match timeout_at(deadline, greet(&mut stream, &mut input)).await {
        Ok(Some(Greeting::Amqp091)) => {}
        Ok(Some(_)) => {
            // Said or not, that is all.
            let _ = timeout(GOODBYE, stream.write_all(&GREETING)).await;
            return linger(&mut stream, false).await;
        }
        Ok(None) | Err(_) => return,
    }
    let (orders_in, orders) = mpsc::channel(ORDERS_MAX);
    let entered = door.registry.enter(peer, local, is_tls, door.clock.now(), orders_in);
    if door.drain.has_begun() {
        return;
    }
    let Ok(ids) = os::random() else { return tracing::error!("no randomness for message ids") };
    let mut actions = Vec::new();
    let session = Session::start(settings(&door, certificate), &mut actions);
    let (replies_in, replies) = mpsc::channel(REPLIES_WAITING_MAX);
    let mut connection = Connection {
        broker_session: door.broker.session(),
        door,
        entered,
        peer,
        stream,
        input,
        read_bytes: super::turn::READ_BYTES_MIN,
        decoder: Decoder::default(),
        output: Output::default(),
        session,
        actions,
        account: None,
        context: None,
        channels: BTreeMap::new(),
        publishes: Publishes::default(),
        settles: Settles::default(),
        commands: Vec::new(),
        calls: FuturesUnordered::new(),
        consumers: BTreeMap::new(),
        consumer_keys: 0,
        ready: VecDeque::new(),
        paused: BTreeSet::new(),
        pools: HashSet::new(),
        woken: Arc::default(),
        orders,
        replies,
        replies_in,
        pulse: Pulse {
            sleep: Box::pin(sleep_until(deadline)),
            heartbeat: None,
            deadline: Some(deadline),
            last_read: Instant::now(),
            is_goodbye: false,
            watch: None,
        },
        has_published: false,
        has_committed: false,
        told_blocked: false,
        is_flushed: true,
        hangup: false,
        shut: None,
        touched: Vec::new(),
        ids,
    };
    connection.serve().await;
}

/// Reads the greeting; none if the client leaves before.
async fn greet(stream: &mut Timed<Stream>, input: &mut BytesMut) -> Option<Greeting> {
    loop {
        if let Some(greeting) = Greeting::read(input) {
            let _ = input.split_to(input.len().min(GREETING.len()));
            return Some(greeting);
        }
        if stream.read_buf(input).await.ok()? == 0 {
            return None;
        }
    }
}

/// Ends a socket so that the client gets to read what was said last: one that is closed while bytes come in resets the peer.
/// A client that leaves ends it first.
async fn linger(stream: &mut Timed<Stream>, client_leaves: bool) {
    let drained = async {
        if !client_leaves && stream.shutdown().await.is_err() {
            return;
        }
        let mut scrap = vec![0; 16 << 10];
        let mut read = 0;
        while read < LINGER_BYTES_MAX {
            match stream.read(&mut scrap).await {
                Ok(0) | Err(_) => break,
                Ok(count) => read += count,
            }
        }
        if client_leaves {
            // What cannot be said any more need not be.
            let _ = stream.shutdown().await;
        }
    };
    // Past its time the connection is closed, read or not.
    let _ = timeout(GOODBYE, drained).await;
}

fn settings(door: &Door, certificate: Option<String>) -> Settings {
    let limits = &door.limits;
    let external = if certificate.is_some() { " EXTERNAL" } else { "" };
    Settings {
        channel_max: limits.channels_max,
        frame_max: limits.frame_bytes_max,
        heartbeat: limits.heartbeat_seconds,
        body_max: limits.message_bytes_max as u64,
        mechanisms: format!("PLAIN AMQPLAIN{external}"),
        server_properties: server_properties(),
        certificate,
    }
}

fn server_properties() -> Table {
    let capabilities = [
        "publisher_confirms",
        "exchange_exchange_bindings",
        "basic.nack",
        "consumer_cancel_notify",
        "connection.blocked",
        "consumer_priorities",
        "authentication_failure_close",
        "per_consumer_qos",
        "direct_reply_to",
    ];
    let capabilities = capabilities.map(|name| (SmolStr::new(name), Value::Bool(true)));
    let own = env!("CARGO_PKG_VERSION");
    let texts = [
        ("cluster_name", "waystation"),
        ("product", PRODUCT),
        ("version", VERSION),
        ("platform", concat!("Waystation ", env!("CARGO_PKG_VERSION"))),
        ("waystation_version", own),
    ];
    let texts = texts.map(|(name, text)| (SmolStr::new(name), Value::from(text)));
    let capabilities = (SmolStr::new("capabilities"), Value::Map(capabilities.to_vec()));
    std::iter::once(capabilities).chain(texts).collect()
}

impl Connection {
    async fn serve(&mut self) {
        self.act();
        while poll_fn(|context| self.poll(context)).await {
            self.turn().await;
            // Who floods gives way: to the broker, that it begins with what it was given, and to other connections.
            if self.read_bytes == READ_BYTES {
                tokio::task::yield_now().await;
            }
        }
        self.end().await;
    }

    /// Hands over what came in before the end, and ends all that belongs to the connection.
    async fn end(&mut self) {
        let mut actions = Vec::new();
        self.session.abandon(&mut actions);
        self.flush().await;
        for address in std::mem::take(&mut self.publishes.reply_addresses).into_values() {
            self.door.replies.close(&address);
        }
        // Consumers are dropped, and so detached, when this is done and not before: else what was acknowledged last came again.
        // One that is not taken has ended with everything else.
        if let Ok(closed) = self.broker().begin(Command::CloseSession(self.broker_session)).await {
            let _ = closed.await;
        }
        if self.hangup {
            // `close-ok` tells, as RabbitMQ's does, that what belonged to the connection has gone; here also that what it published
            // and acknowledged is on disk.
            if self.session.client_leaves() {
                tokio::time::sleep(CLOSE_OK_AFTER).await;
            }
            let said = async {
                self.stream.write_all_buf(&mut self.output).await?;
                self.stream.flush().await
            };
            let _ = timeout(GOODBYE, said).await;
            linger(&mut self.stream, self.session.client_leaves()).await;
        }
    }

    /// The broker, acting on the user's behalf once he is known.
    pub fn broker(&self) -> &Broker {
        self.context.as_ref().map_or(&self.door.broker, |context| &context.broker)
    }

    /// The counters of a channel.
    pub fn counters(&self, channel: ChannelKey) -> Option<&ChannelEntry> {
        self.channels.get(&channel.id.0).map(|entry| &**entry)
    }

    /// Tells the client that an error was found, if its channel is still there.
    pub fn fail(&mut self, channel: ChannelKey, failure: Failure) {
        self.session.fail(channel, failure, &mut self.actions);
    }
}
