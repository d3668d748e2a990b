//! What is kept about one connection, one channel, one consumer while they live?

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use smol_str::SmolStr;
use tokio::{sync::mpsc, time::Instant};
use waystation_base::{ConsumerId, Millis};

use super::{ChannelCounts, ChannelInfo, ConnectionInfo, ConsumerInfo, Order, client_name, connection_name};

/// For how long a connection that was held up is shown as such: it goes on and off too quickly to be seen otherwise.
const FLOW_SHOWN: Duration = Duration::from_secs(5);
/// Why a connection that publishes faster than the disk writes is held up.
const BEHIND: &str = "what it published waits to be on disk";

/// A number that one task writes and others read.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, count: u64) {
        self.0.fetch_add(count, Ordering::Relaxed);
    }

    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is known once the handshake has told it.
#[derive(Clone, Debug, Default)]
pub(crate) struct About {
    pub user: SmolStr,
    pub vhost: SmolStr,
    pub mechanism: SmolStr,
    pub client_properties: serde_json::Map<String, serde_json::Value>,
    pub channel_max: u16,
    pub frame_max: u32,
    pub heartbeat: u16,
    pub state: &'static str,
    /// Why nothing is read from it, while it is blocked.
    pub held_up_by: Option<&'static str>,
}

/// One connection.
#[derive(Debug)]
pub(crate) struct ConnectionEntry {
    pub name: String,
    peer: SocketAddr,
    local: SocketAddr,
    tls: bool,
    connected_at: Millis,
    about: Mutex<About>,
    /// When it last published faster than the disk writes.
    flow_at: Mutex<Option<Instant>>,
    channels: Mutex<BTreeMap<u16, Arc<ChannelEntry>>>,
    orders: mpsc::Sender<Order>,
    pub received_bytes: Counter,
    pub sent_bytes: Counter,
    pub received_frames: Counter,
    pub writes: Counter,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ConnectionEntry {
    pub fn new(
        peer: SocketAddr,
        local: SocketAddr,
        tls: bool,
        connected_at: Millis,
        orders: mpsc::Sender<Order>,
    ) -> ConnectionEntry {
        ConnectionEntry {
            name: connection_name(peer, local),
            peer,
            local,
            tls,
            connected_at,
            about: Mutex::new(About { state: "starting", ..About::default() }),
            flow_at: Mutex::default(),
            channels: Mutex::default(),
            orders,
            received_bytes: Counter::default(),
            sent_bytes: Counter::default(),
            received_frames: Counter::default(),
            writes: Counter::default(),
        }
    }

    /// Tells the connection's task. One that has as many orders waiting as fit has an ending among them or is stuck.
    pub fn order(&self, order: Order) {
        let _ = self.orders.try_send(order);
    }

    /// Changes what is known.
    pub fn describe(&self, change: impl FnOnce(&mut About)) {
        change(&mut lock(&self.about));
    }

    /// It publishes faster than the disk writes, and is not read from for now.
    pub fn note_flow(&self) {
        *lock(&self.flow_at) = Some(Instant::now());
    }

    pub fn add_channel(&self, number: u16) -> Arc<ChannelEntry> {
        let channel = Arc::new(ChannelEntry { number, ..ChannelEntry::default() });
        lock(&self.channels).insert(number, channel.clone());
        channel
    }

    pub fn remove_channel(&self, number: u16) -> Option<Arc<ChannelEntry>> {
        lock(&self.channels).remove(&number)
    }

    pub fn channel_numbers(&self) -> Vec<u16> {
        lock(&self.channels).keys().copied().collect()
    }

    /// What it is doing, and why it is held up if it is.
    pub fn state(&self) -> (&'static str, Option<&'static str>) {
        let flows = lock(&self.flow_at).is_some_and(|at| at.elapsed() < FLOW_SHOWN);
        let about = lock(&self.about);
        match about.state {
            "running" if flows => ("flow", Some(BEHIND)),
            state => (state, about.held_up_by),
        }
    }

    pub fn info(&self) -> ConnectionInfo {
        let (state, held_up_by) = self.state();
        let about = lock(&self.about).clone();
        ConnectionInfo {
            name: self.name.clone(),
            client_name: client_name(&about.client_properties).map(String::from),
            user: about.user.into(),
            vhost: about.vhost.into(),
            peer: self.peer,
            local: self.local,
            tls: self.tls,
            mechanism: about.mechanism.into(),
            state,
            held_up_by,
            connected_at: self.connected_at,
            client_properties: about.client_properties,
            channel_max: about.channel_max,
            frame_max: about.frame_max,
            heartbeat: about.heartbeat,
            channels: lock(&self.channels).len(),
            received_bytes: self.received_bytes.get(),
            sent_bytes: self.sent_bytes.get(),
            received_frames: self.received_frames.get(),
            writes: self.writes.get(),
        }
    }

    pub fn user_and_vhost(&self) -> (String, String) {
        let about = lock(&self.about);
        (about.user.to_string(), about.vhost.to_string())
    }

    pub fn channels(&self) -> Vec<ChannelInfo> {
        let (user, vhost) = self.user_and_vhost();
        let channels: Vec<_> = lock(&self.channels).values().cloned().collect();
        channels.iter().map(|channel| channel.info(&self.name, &user, &vhost)).collect()
    }

    pub fn consumers(&self) -> Vec<ConsumerInfo> {
        let (user, vhost) = self.user_and_vhost();
        let channels: Vec<_> = lock(&self.channels).values().cloned().collect();
        let info = |channel: &ChannelEntry, consumer: &ConsumerEntry| ConsumerInfo {
            connection: self.name.clone(),
            channel: channel.number,
            tag: consumer.tag.to_string(),
            user: user.clone(),
            vhost: vhost.clone(),
            queue: consumer.queue.to_string(),
            ack_required: consumer.ack_required,
            exclusive: consumer.exclusive,
            prefetch: consumer.prefetch,
            priority: consumer.priority,
            arguments: consumer.arguments.clone(),
            id: consumer.id,
        };
        let of_channel = |channel: &Arc<ChannelEntry>| {
            lock(&channel.consumers).values().map(|consumer| info(channel, consumer)).collect::<Vec<_>>()
        };
        channels.iter().flat_map(of_channel).collect()
    }
}

/// One channel.
#[derive(Debug, Default)]
pub(crate) struct ChannelEntry {
    pub number: u16,
    pub confirm: AtomicBool,
    pub transactional: AtomicBool,
    pub prefetch: Counter,
    pub prefetch_global: Counter,
    pub unacknowledged: Counter,
    pub unconfirmed: Counter,
    pub published: Counter,
    pub confirmed: Counter,
    pub returned: Counter,
    pub delivered: Counter,
    pub delivered_no_ack: Counter,
    pub got: Counter,
    pub got_no_ack: Counter,
    pub got_empty: Counter,
    pub redelivered: Counter,
    pub acknowledged: Counter,
    consumers: Mutex<BTreeMap<SmolStr, ConsumerEntry>>,
}

/// One consumer.
#[derive(Clone, Debug)]
pub(crate) struct ConsumerEntry {
    pub tag: SmolStr,
    pub queue: SmolStr,
    pub ack_required: bool,
    pub exclusive: bool,
    pub prefetch: u16,
    pub priority: i32,
    pub arguments: serde_json::Map<String, serde_json::Value>,
    pub id: ConsumerId,
}

impl ChannelEntry {
    pub fn add_consumer(&self, consumer: ConsumerEntry) {
        lock(&self.consumers).insert(consumer.tag.clone(), consumer);
    }

    pub fn remove_consumer(&self, tag: &str) {
        lock(&self.consumers).remove(tag);
    }

    pub fn counts(&self) -> ChannelCounts {
        ChannelCounts {
            published: self.published.get(),
            confirmed: self.confirmed.get(),
            returned: self.returned.get(),
            delivered: self.delivered.get(),
            delivered_no_ack: self.delivered_no_ack.get(),
            got: self.got.get(),
            got_no_ack: self.got_no_ack.get(),
            got_empty: self.got_empty.get(),
            redelivered: self.redelivered.get(),
            acknowledged: self.acknowledged.get(),
        }
    }

    fn info(&self, connection: &str, user: &str, vhost: &str) -> ChannelInfo {
        ChannelInfo {
            connection: connection.to_owned(),
            number: self.number,
            user: user.to_owned(),
            vhost: vhost.to_owned(),
            confirm: self.confirm.load(Ordering::Relaxed),
            transactional: self.transactional.load(Ordering::Relaxed),
            prefetch: self.prefetch.get() as u16,
            prefetch_global: self.prefetch_global.get() as u16,
            consumers: lock(&self.consumers).len(),
            unacknowledged: self.unacknowledged.get(),
            unconfirmed: self.unconfirmed.get(),
            counts: self.counts(),
        }
    }
}
