//! A broker with its AMQP door in this process, and a client that says exactly what it is told to say.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use bytes::{Bytes, BytesMut};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};
use waystation_amqp091::{
    Error, Limits, Options, Registry,
    directory::{Directory, Loopback},
    serve,
    wire::{ChannelId, Decoder, Frame, GREETING, Method, Output, Table, limits::FRAME_BYTES_MAX, methods::*},
};
use waystation_base::{
    disk::Disk,
    os::{OsClock, OsDisk},
    value::Value,
};
use waystation_net::{Drain, Listener};

/// Long enough for anything that happens at all.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A server; it ends with [`Server::end`].
pub struct Server {
    pub address: SocketAddr,
    pub drain: Drain,
    pub registry: Arc<Registry>,
    door: JoinHandle<Result<(), Error>>,
    stop: oneshot::Sender<()>,
    driver: JoinHandle<Result<(), waystation_host::Failure>>,
    _dir: TempDir,
}

impl Server {
    pub async fn start() -> Server {
        Server::with(|_| ()).await
    }

    /// With other bounds.
    pub async fn with(change: impl FnOnce(&mut Limits)) -> Server {
        Server::on(Arc::new(OsDisk), 0, change).await
    }

    /// On a disk of one's own, of which so many bytes must stay free.
    pub async fn on(
        disk: Arc<dyn Disk>,
        disk_reserve_bytes: u64,
        change: impl FnOnce(&mut Limits),
    ) -> Server {
        Server::serving(Arc::new(Loopback), disk, disk_reserve_bytes, change).await
    }

    /// With users and virtual hosts of one's own.
    pub async fn serving(
        directory: Arc<dyn Directory>,
        disk: Arc<dyn Disk>,
        disk_reserve_bytes: u64,
        change: impl FnOnce(&mut Limits),
    ) -> Server {
        Server::opened(directory, disk, |options| options.disk_reserve_bytes = disk_reserve_bytes, change)
            .await
    }

    /// With bounds of the broker, too.
    pub async fn opened(
        directory: Arc<dyn Directory>,
        disk: Arc<dyn Disk>,
        open: impl FnOnce(&mut waystation_host::Options),
        change: impl FnOnce(&mut Limits),
    ) -> Server {
        let dir = tempfile::tempdir().expect("a folder");
        let mut options = waystation_host::Options::new(dir.path());
        open(&mut options);
        let clock = Arc::new(OsClock);
        let (broker, driver, _) =
            waystation_host::open(options, disk, clock.clone()).expect("an empty folder opens");
        let (stop, stopped) = oneshot::channel::<()>();
        let driver = tokio::spawn(driver.run(async { drop(stopped.await) }));
        let listener = Listener::bind(([127, 0, 0, 1], 0).into(), None).await.expect("any port");
        let address = listener.address().expect("bound");
        let (drain, registry) = (Drain::default(), Arc::new(Registry::default()));
        let mut limits = Limits::default();
        change(&mut limits);
        let options =
            Options { broker, directory, registry: registry.clone(), limits, clock, drain: drain.clone() };
        let door = tokio::spawn(serve(vec![listener], options));
        Server { address, drain, registry, door, stop, driver, _dir: dir }
    }

    /// Drains the door and stops the broker.
    pub async fn end(self) {
        self.drain.begin();
        self.door.await.expect("no panic").expect("a good end");
        drop(self.stop);
        self.driver.await.expect("no panic").expect("a good end");
    }

    /// A client that has said nothing yet.
    pub async fn connect(&self) -> Client {
        let stream = TcpStream::connect(self.address).await.expect("connected");
        let mut decoder = Decoder::default();
        decoder.set_frame_max(FRAME_BYTES_MAX);
        Client { stream, input: BytesMut::new(), decoder, out: Output::default() }
    }

    /// A client with an open virtual host, as it is agreed on by these numbers.
    pub async fn tuned(&self, channel_max: u16, frame_max: u32, heartbeat: u16) -> Client {
        let mut client = self.connect().await;
        client.greet().await;
        let tune = connection::TuneOk { channel_max, frame_max, heartbeat };
        client.out.set_frame_max(frame_max);
        client.say(0, tune).await;
        client.say(0, connection::Open { virtual_host: "/".into(), ..Default::default() }).await;
        let Method::ConnectionOpenOk(_) = client.method().await else { panic!("open") };
        client
    }

    /// A client with an open virtual host.
    pub async fn open(&self) -> Client {
        self.tuned(2047, 131_072, 0).await
    }

    /// A client with channel 1.
    pub async fn channel(&self) -> Client {
        let mut client = self.open().await;
        client.open_channel(1).await;
        client
    }
}

/// A client.
pub struct Client {
    pub stream: TcpStream,
    input: BytesMut,
    decoder: Decoder,
    pub out: Output,
}

impl Client {
    /// Up to the server's `tune`.
    pub async fn greet(&mut self) {
        self.raw(&GREETING).await;
        let Method::ConnectionStart(start) = self.method().await else { panic!("start") };
        assert_eq!(&start.mechanisms[..], b"PLAIN AMQPLAIN");
        let capabilities = ["authentication_failure_close", "consumer_cancel_notify", "connection.blocked"]
            .map(|name| (name.into(), Value::Bool(true)));
        let properties = [("capabilities".into(), Value::Map(capabilities.to_vec()))];
        let ok = connection::StartOk {
            client_properties: Table(properties.to_vec()),
            mechanism: "PLAIN".into(),
            response: Bytes::from_static(b"\0guest\0guest"),
            locale: "en_US".into(),
        };
        self.say(0, ok).await;
        let Method::ConnectionTune(_) = self.method().await else { panic!("tune") };
    }

    pub async fn open_channel(&mut self, id: u16) {
        self.say(id, channel::Open::default()).await;
        let Method::ChannelOpenOk(_) = self.method().await else { panic!("open-ok") };
    }

    /// Writes bytes as they are.
    pub async fn raw(&mut self, bytes: &[u8]) {
        timeout(PATIENCE, self.stream.write_all(bytes)).await.expect("in time").expect("written");
    }

    /// Sends what has gathered in `out`.
    pub async fn flush(&mut self) {
        while !self.out.is_empty() {
            timeout(PATIENCE, self.stream.write_buf(&mut self.out)).await.expect("in time").expect("written");
        }
    }

    pub async fn say(&mut self, channel: u16, method: impl Into<Method>) {
        self.out.put_method(ChannelId(channel), &method.into());
        self.flush().await;
    }

    /// Publishes on channel 1 to a queue, without waiting.
    pub fn put_publish(&mut self, queue: &str, body: &Bytes) {
        let publish = basic::Publish { routing_key: queue.into(), ..Default::default() };
        self.out.put_method(ChannelId(1), &publish.into());
        self.out.put_content(ChannelId(1), |out| out.extend_from_slice(&[0, 0]), body);
    }

    /// Declares a queue on channel 1 and gives messages and consumers that it has.
    pub async fn declare(&mut self, queue: &str) -> (u32, u32) {
        self.say(1, queue::Declare { queue: queue.into(), ..Default::default() }).await;
        let Method::QueueDeclareOk(ok) = self.method().await else { panic!("declare-ok") };
        (ok.message_count, ok.consumer_count)
    }

    /// The next frame; none at the end of the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        loop {
            if let Some(frame) = self.decoder.decode(&mut self.input).expect("a good frame") {
                return Some(frame);
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await.expect("in time");
            // A reset is an end too.
            if read.unwrap_or(0) == 0 {
                return None;
            }
        }
    }

    /// The next method; heartbeats, headers and bodies are passed over.
    pub async fn method(&mut self) -> Method {
        self.next_method().await.expect("the connection has ended")
    }

    async fn next_method(&mut self) -> Option<Method> {
        loop {
            if let Frame::Method(_, method) = self.frame().await? {
                return Some(method);
            }
        }
    }

    /// The server closes the channel with this code and text.
    #[track_caller]
    pub fn channel_ends(&mut self, code: u16, text: &str) -> impl Future<Output = ()> {
        let text = text.to_owned();
        async move {
            let Method::ChannelClose(close) = self.method().await else { panic!("channel.close") };
            assert_eq!((close.reply_code, close.reply_text.as_str()), (code, text.as_str()));
        }
    }

    /// The server closes the connection with this code and a text that begins so, and hangs up when that is answered.
    pub async fn connection_ends(mut self, code: u16, text: &str) {
        let close = loop {
            match self.next_method().await {
                Some(Method::ConnectionClose(close)) => break close,
                Some(_) => {}
                None => panic!("ended without a word"),
            }
        };
        assert_eq!(close.reply_code, code, "{close:?}");
        assert!(close.reply_text.starts_with(text), "{close:?}");
        self.out.put_method(ChannelId(0), &connection::CloseOk {}.into());
        // The server may have hung up already.
        let _ = self.stream.write_buf(&mut self.out).await;
        self.ends().await;
    }

    /// The server hangs up.
    pub async fn ends(mut self) {
        while self.frame().await.is_some() {}
    }
}
