//! What do the lapin scenarios share: connections, names, and short ways to publish and to collect?

use std::{
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures_util::StreamExt;
use lapin::{
    BasicProperties, Channel, Connection, ConnectionProperties, Consumer, ExchangeKind,
    message::Delivery,
    options::*,
    types::{AMQPValue, FieldTable},
};

pub type Error = Box<dyn std::error::Error + Send + Sync>;

/// Where the server listens, and who may log in.
#[derive(Clone)]
pub struct Server {
    pub host: String,
    pub port: u16,
    pub user: String,
    pub password: String,
}

impl Server {
    pub fn url(&self, port: u16) -> String {
        format!("amqp://{}:{}@{}:{port}/%2f?heartbeat=60", self.user, self.password, self.host)
    }

    pub async fn connect(&self) -> Result<Connection, Error> {
        Ok(Connection::connect(&self.url(self.port), ConnectionProperties::default()).await?)
    }

    /// A connection with one channel.
    pub async fn channel(&self) -> Result<(Connection, Channel), Error> {
        let connection = self.connect().await?;
        let channel = connection.create_channel().await?;
        Ok((connection, channel))
    }
}

/// A name that no other scenario has.
pub fn fresh(label: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
    format!("{label}-{now:x}-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

pub fn arguments<const N: usize>(entries: [(&str, AMQPValue); N]) -> FieldTable {
    let mut table = FieldTable::default();
    for (name, value) in entries {
        table.insert(name.into(), value);
    }
    table
}

pub fn text(value: &str) -> AMQPValue {
    AMQPValue::LongString(value.into())
}

/// A queue of this connection alone; named by the server if `name` is empty.
pub async fn exclusive(channel: &Channel, name: &str, arguments: FieldTable) -> Result<String, Error> {
    let options = QueueDeclareOptions { exclusive: true, ..Default::default() };
    let queue = channel.queue_declare(name.into(), options, arguments).await?;
    Ok(queue.name().to_string())
}

pub async fn exchange(channel: &Channel, kind: ExchangeKind) -> Result<String, Error> {
    let name = fresh("exchange");
    let options = ExchangeDeclareOptions { auto_delete: true, ..Default::default() };
    channel.exchange_declare(name.as_str().into(), kind, options, FieldTable::default()).await?;
    Ok(name)
}

pub async fn bind(channel: &Channel, queue: &str, exchange: &str, key: &str) -> Result<(), Error> {
    let options = QueueBindOptions::default();
    Ok(channel.queue_bind(queue.into(), exchange.into(), key.into(), options, FieldTable::default()).await?)
}

/// Publishes, and waits for the confirm where the channel has confirms.
pub async fn publish(
    channel: &Channel,
    exchange: &str,
    key: &str,
    body: &str,
    properties: BasicProperties,
) -> Result<(), Error> {
    let options = BasicPublishOptions::default();
    channel.basic_publish(exchange.into(), key.into(), options, body.as_bytes(), properties).await?.await?;
    Ok(())
}

pub async fn put(channel: &Channel, queue: &str, body: &str) -> Result<(), Error> {
    publish(channel, "", queue, body, BasicProperties::default()).await
}

pub async fn consume(channel: &Channel, queue: &str, no_ack: bool) -> Result<Consumer, Error> {
    let options = BasicConsumeOptions { no_ack, ..Default::default() };
    Ok(channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await?)
}

/// The next delivery, which must come soon.
pub async fn next(consumer: &mut Consumer) -> Result<Delivery, Error> {
    let delivery = tokio::time::timeout(Duration::from_secs(10), consumer.next()).await;
    Ok(delivery.map_err(|_| "no delivery came")?.ok_or("the consumer has ended")??)
}

/// Nothing more comes for a while.
pub async fn quiet(consumer: &mut Consumer) -> bool {
    tokio::time::timeout(Duration::from_millis(200), consumer.next()).await.is_err()
}

pub fn body(delivery: &Delivery) -> String {
    String::from_utf8_lossy(&delivery.data).into_owned()
}

/// The next message by basic.get, acknowledged; waits for it.
pub async fn take(channel: &Channel, queue: &str) -> Result<Delivery, Error> {
    for _ in 0..250 {
        if let Some(message) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await? {
            return Ok(message.delivery);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Err(format!("no message came in {queue}").into())
}

/// The bodies of everything that stands ready now.
pub async fn ready(channel: &Channel, queue: &str) -> Result<Vec<String>, Error> {
    let mut bodies = Vec::new();
    while let Some(message) = channel.basic_get(queue.into(), BasicGetOptions { no_ack: true }).await? {
        bodies.push(body(&message.delivery));
    }
    Ok(bodies)
}

/// An answer that must be an error with this code and these words.
pub fn refused<T>(answer: lapin::Result<T>, code: u16, words: &str) {
    let Err(error) = answer else { panic!("was not refused; wanted {code} {words}") };
    match error.kind() {
        lapin::ErrorKind::ProtocolError(told) => {
            assert_eq!(told.get_id(), code, "{told:?}");
            assert!(told.get_message().as_str().contains(words), "{told:?} does not say {words:?}");
        }
        other => panic!("{other:?} instead of {code} {words}"),
    }
}
