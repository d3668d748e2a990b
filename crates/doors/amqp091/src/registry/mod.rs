//! Which connections, channels and consumers are there now, what have they done, and how is one ended from outside?
//!
//! The tasks that own them write counters here; whoever asks gets copies. No lock is held for longer than a copy takes.

mod entries;
mod figures;

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use smol_str::SmolStr;
use tokio::sync::mpsc;
use waystation_base::Millis;

pub(crate) use entries::{ChannelEntry, ConnectionEntry, ConsumerEntry, Counter};

/// What a connection may be doing.
pub(crate) const STATES: [&str; 5] = ["starting", "running", "flow", "blocked", "closing"];

/// Told to a connection from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Order {
    /// Say goodbye with 320 and this text.
    Close(String),
    /// Publishing is refused for this reason; none: not any more.
    Blocked(Option<&'static str>),
}

/// A connection now.
#[derive(Clone, Debug)]
pub struct ConnectionInfo {
    /// `127.0.0.1:50000 -> 127.0.0.1:5672`: what it is closed by.
    pub name: String,
    /// What the client calls itself (`connection_name` of its properties).
    pub client_name: Option<String>,
    /// Who logged in; empty until then.
    pub user: String,
    /// The virtual host; empty until it is opened.
    pub vhost: String,
    /// The client's end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    /// Whether it is inside TLS.
    pub tls: bool,
    /// How it logged in.
    pub mechanism: String,
    /// One of `STATES`: publishes faster than the disk writes (`flow`), or may not for want of room (`blocked`).
    pub state: &'static str,
    /// Why it is held up, if it is or was a moment ago.
    pub held_up_by: Option<&'static str>,
    /// When it came.
    pub connected_at: Millis,
    /// What the client said about itself.
    pub client_properties: serde_json::Map<String, serde_json::Value>,
    /// As agreed.
    pub channel_max: u16,
    /// As agreed.
    pub frame_max: u32,
    /// Seconds, as agreed; 0: none.
    pub heartbeat: u16,
    /// Open channels.
    pub channels: usize,
    /// Bytes from the client.
    pub received_bytes: u64,
    /// Bytes to the client.
    pub sent_bytes: u64,
    /// Frames from the client.
    pub received_frames: u64,
    /// Writes to the client.
    pub writes: u64,
}

/// A channel now.
#[derive(Clone, Debug)]
pub struct ChannelInfo {
    /// Its connection's name.
    pub connection: String,
    /// Its number.
    pub number: u16,
    /// Who logged in.
    pub user: String,
    /// The virtual host.
    pub vhost: String,
    /// Whether publishes are confirmed.
    pub confirm: bool,
    /// Whether it has transactions.
    pub transactional: bool,
    /// For new consumers; 0: no limit.
    pub prefetch: u16,
    /// For the whole channel; 0: no limit.
    pub prefetch_global: u16,
    /// Its consumers.
    pub consumers: usize,
    /// Delivered and not acknowledged.
    pub unacknowledged: u64,
    /// Published and not confirmed.
    pub unconfirmed: u64,
    /// What happened so far.
    pub counts: ChannelCounts,
}

/// What happened on a channel so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChannelCounts {
    /// Published.
    pub published: u64,
    /// Confirmed, acks only.
    pub confirmed: u64,
    /// Returned as not routable.
    pub returned: u64,
    /// Delivered to consumers, to be acknowledged.
    pub delivered: u64,
    /// Delivered to consumers without acknowledgement.
    pub delivered_no_ack: u64,
    /// Got one by one, to be acknowledged.
    pub got: u64,
    /// Got one by one without acknowledgement.
    pub got_no_ack: u64,
    /// Asked for in vain.
    pub got_empty: u64,
    /// Of those delivered or got: not for the first time.
    pub redelivered: u64,
    /// Acknowledged.
    pub acknowledged: u64,
}

/// A consumer now.
#[derive(Clone, Debug)]
pub struct ConsumerInfo {
    /// Its connection's name.
    pub connection: String,
    /// Its channel's number.
    pub channel: u16,
    /// Its tag.
    pub tag: String,
    /// Who logged in.
    pub user: String,
    /// The virtual host.
    pub vhost: String,
    /// The queue, by the client's name for it.
    pub queue: String,
    /// Whether messages are to be acknowledged.
    pub ack_required: bool,
    /// Whether nobody else may consume.
    pub exclusive: bool,
    /// Unacknowledged messages that it may hold; 0: no limit.
    pub prefetch: u16,
    /// Higher goes first.
    pub priority: i32,
    /// As given by the client.
    pub arguments: serde_json::Map<String, serde_json::Value>,
    /// Its id at the broker.
    pub id: waystation_base::ConsumerId,
}

/// Why a connection is not let in, with the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowded {
    /// The virtual host has as many as it may.
    Vhost(u32),
    /// The user has as many as it may.
    User(u32),
}

/// What is open now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Open {
    /// Connections by virtual host.
    pub vhosts: HashMap<String, u64>,
    /// Connections and the channels on them, by user.
    pub users: HashMap<String, (u64, u64)>,
}

/// Totals since the server started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Connections accepted.
    pub connections_opened: u64,
    /// Connections ended.
    pub connections_closed: u64,
    /// Connections turned away at the bound.
    pub connections_refused: u64,
    /// Logins refused.
    pub logins_refused: u64,
    /// Channels opened.
    pub channels_opened: u64,
    /// Channels ended.
    pub channels_closed: u64,
    /// What happened on all channels.
    pub counts: ChannelCounts,
}

/// The live connections of the door. Cheap to clone an [`Arc`] of.
#[derive(Debug, Default)]
pub struct Registry {
    connections: Mutex<BTreeMap<u64, Arc<ConnectionEntry>>>,
    ids: AtomicU64,
    pub(crate) opened: Counter,
    pub(crate) closed: Counter,
    pub(crate) refused: Counter,
    pub(crate) logins_refused: Counter,
    pub(crate) channels_opened: Counter,
    pub(crate) channels_closed: Counter,
    /// What happened on channels that are gone.
    past: Mutex<ChannelCounts>,
}

impl Registry {
    fn live(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<ConnectionEntry>>> {
        self.connections.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn entries(&self) -> Vec<Arc<ConnectionEntry>> {
        self.live().values().cloned().collect()
    }

    /// All connections, oldest first.
    pub fn connections(&self) -> Vec<ConnectionInfo> {
        self.entries().iter().map(|entry| entry.info()).collect()
    }

    /// All channels.
    pub fn channels(&self) -> Vec<ChannelInfo> {
        self.entries().iter().flat_map(|entry| entry.channels()).collect()
    }

    /// All consumers.
    pub fn consumers(&self) -> Vec<ConsumerInfo> {
        self.entries().iter().flat_map(|entry| entry.consumers()).collect()
    }

    /// Ends the connection of that name: the client is told 320 with `reason`. Whether there was one.
    pub fn close(&self, name: &str, reason: &str) -> bool {
        let found: Vec<_> = self.entries().into_iter().filter(|entry| entry.name == name).collect();
        found.iter().for_each(|entry| entry.order(Order::Close(reason.to_owned())));
        !found.is_empty()
    }

    /// Ends every connection of a user, or to a virtual host; says how many.
    pub fn close_where(&self, matches: impl Fn(&ConnectionInfo) -> bool, reason: &str) -> usize {
        let found: Vec<_> = self.entries().into_iter().filter(|entry| matches(&entry.info())).collect();
        found.iter().for_each(|entry| entry.order(Order::Close(reason.to_owned())));
        found.len()
    }

    /// Tells all connections.
    pub(crate) fn order_all(&self, order: &Order) {
        self.entries().iter().for_each(|entry| entry.order(order.clone()));
    }

    /// How many connections there are.
    pub fn len(&self) -> usize {
        self.live().len()
    }

    /// How many connections are in each state.
    pub(crate) fn by_state(&self) -> [u64; STATES.len()] {
        let mut counts = [0; STATES.len()];
        for entry in self.entries() {
            let state = entry.state().0;
            if let Some(count) = STATES.iter().position(|it| *it == state).and_then(|at| counts.get_mut(at)) {
                *count += 1;
            }
        }
        counts
    }

    /// Messages delivered and not acknowledged, and published and not confirmed.
    pub(crate) fn under_way(&self) -> (u64, u64) {
        let channels = self.channels();
        channels.iter().fold((0, 0), |(unacknowledged, unconfirmed), channel| {
            (unacknowledged + channel.unacknowledged, unconfirmed + channel.unconfirmed)
        })
    }

    /// Totals since the server started, what is still going on included.
    pub fn totals(&self) -> Totals {
        let mut counts = *self.past.lock().unwrap_or_else(PoisonError::into_inner);
        for channel in self.channels() {
            counts.add(&channel.counts);
        }
        Totals {
            connections_opened: self.opened.get(),
            connections_closed: self.closed.get(),
            connections_refused: self.refused.get(),
            logins_refused: self.logins_refused.get(),
            channels_opened: self.channels_opened.get(),
            channels_closed: self.channels_closed.get(),
            counts,
        }
    }

    /// Adds a connection; it leaves when the guard is dropped.
    pub(crate) fn enter(
        self: &Arc<Registry>,
        peer: SocketAddr,
        local: SocketAddr,
        tls: bool,
        now: Millis,
        orders: mpsc::Sender<Order>,
    ) -> Entered {
        let id = self.ids.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(ConnectionEntry::new(peer, local, tls, now, orders));
        self.live().insert(id, entry.clone());
        self.opened.add(1);
        Entered { registry: self.clone(), id, entry }
    }

    /// Lets a connection into a virtual host, if there are not as many of that virtual host or user as there may be.
    pub(crate) fn admit(
        &self,
        entry: &Arc<ConnectionEntry>,
        (vhost, of_vhost): (&SmolStr, Option<u32>),
        (user, of_user): (&str, Option<u32>),
    ) -> Result<(), Crowded> {
        // Held until it is counted itself, so that two do not take one place.
        let live = self.live();
        let others = || {
            let others = live.values().filter(|other| !Arc::ptr_eq(other, entry));
            others.map(|other| other.user_and_vhost()).filter(|(_, vhost)| !vhost.is_empty())
        };
        if let Some(most) = of_vhost
            && others().filter(|(_, at)| *at == vhost.as_str()).count() >= most as usize
        {
            return Err(Crowded::Vhost(most));
        }
        if let Some(most) = of_user
            && others().filter(|(who, _)| who == user).count() >= most as usize
        {
            return Err(Crowded::User(most));
        }
        entry.describe(|about| about.vhost = vhost.clone());
        Ok(())
    }

    /// Connections by virtual host, and connections with their channels by user: what limits count.
    pub fn open(&self) -> Open {
        let mut open = Open::default();
        for entry in self.entries() {
            let (user, vhost) = entry.user_and_vhost();
            if !vhost.is_empty() {
                *open.vhosts.entry(vhost).or_default() += 1;
                let (connections, channels) = open.users.entry(user).or_default();
                *connections += 1;
                *channels += entry.channel_numbers().len() as u64;
            }
        }
        open
    }

    /// Channels that a user has open.
    pub(crate) fn channels_of(&self, user: &str) -> usize {
        let own = self.entries().into_iter().filter(|entry| entry.user_and_vhost().0 == user);
        own.map(|entry| entry.channel_numbers().len()).sum()
    }

    /// Keeps the counts of a channel that ends.
    pub(crate) fn channel_ended(&self, channel: &ChannelEntry) {
        self.channels_closed.add(1);
        self.past.lock().unwrap_or_else(PoisonError::into_inner).add(&channel.counts());
    }
}

/// A connection's place in the registry.
#[derive(Debug)]
pub(crate) struct Entered {
    registry: Arc<Registry>,
    id: u64,
    pub(crate) entry: Arc<ConnectionEntry>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        for number in self.entry.channel_numbers() {
            if let Some(channel) = self.entry.remove_channel(number) {
                self.registry.channel_ended(&channel);
            }
        }
        self.registry.live().remove(&self.id);
        self.registry.closed.add(1);
    }
}

impl ChannelCounts {
    fn add(&mut self, other: &ChannelCounts) {
        self.published += other.published;
        self.confirmed += other.confirmed;
        self.returned += other.returned;
        self.delivered += other.delivered;
        self.delivered_no_ack += other.delivered_no_ack;
        self.got += other.got;
        self.got_no_ack += other.got_no_ack;
        self.got_empty += other.got_empty;
        self.redelivered += other.redelivered;
        self.acknowledged += other.acknowledged;
    }
}

/// The name of a connection between two ends, as RabbitMQ writes it.
fn connection_name(peer: SocketAddr, local: SocketAddr) -> String {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    format!("{} -> {}", plain(peer), plain(local))
}

/// The client's name for itself, if it gave one.
fn client_name(properties: &serde_json::Map<String, serde_json::Value>) -> Option<SmolStr> {
    properties.get("connection_name").and_then(|name| name.as_str()).map(SmolStr::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entered(registry: &Arc<Registry>, port: u16) -> (Entered, mpsc::Receiver<Order>) {
        let (orders, inbox) = mpsc::channel(1);
        let (peer, local) = (([127, 0, 0, 1], port).into(), ([127, 0, 0, 1], 5672).into());
        (registry.enter(peer, local, false, Millis(7), orders), inbox)
    }

    #[test]
    fn a_connection_is_seen_until_it_leaves_and_its_counts_stay() {
        let registry = Arc::new(Registry::default());
        let (entered, _inbox) = entered(&registry, 1);
        let channel = entered.entry.add_channel(3);
        channel.published.add(5);
        channel.unacknowledged.set(2);
        assert_eq!(registry.connections()[0].name, "127.0.0.1:1 -> 127.0.0.1:5672");
        let seen = registry.channels();
        assert_eq!((seen[0].number, seen[0].counts.published, seen[0].unacknowledged), (3, 5, 2));
        drop(entered);
        assert!(registry.connections().is_empty() && registry.channels().is_empty());
        let totals = registry.totals();
        assert_eq!((totals.counts.published, totals.connections_closed, totals.channels_closed), (5, 1, 1));
    }

    #[test]
    fn what_is_open_is_counted_by_virtual_host_and_user_as_limits_count_it() {
        let registry = Arc::new(Registry::default());
        let (of_both, _one) = entered(&registry, 1);
        let (greeting, _two) = entered(&registry, 2);
        of_both.entry.describe(|about| (about.user, about.vhost) = ("u".into(), "v".into()));
        of_both.entry.add_channel(1);
        of_both.entry.add_channel(7);
        greeting.entry.describe(|about| about.user = "u".into());
        let expected =
            Open { vhosts: [("v".to_owned(), 1)].into(), users: [("u".to_owned(), (1, 2))].into() };
        assert_eq!(registry.open(), expected);
        drop(of_both);
        assert_eq!(registry.open(), Open::default());
    }

    #[test]
    fn connections_are_counted_by_what_they_are_doing() {
        let registry = Arc::new(Registry::default());
        let connections = [1, 2, 3, 4].map(|port| entered(&registry, port).0);
        for (connection, state) in connections.iter().zip(["running", "running", "blocked"]) {
            connection.entry.describe(|about| about.state = state);
        }
        connections[1].entry.note_flow();
        let channel = connections[0].entry.add_channel(1);
        channel.unacknowledged.set(3);
        channel.unconfirmed.set(2);
        assert_eq!(
            STATES.into_iter().zip(registry.by_state()).collect::<Vec<_>>(),
            [("starting", 1), ("running", 1), ("flow", 1), ("blocked", 1), ("closing", 0)]
        );
        assert_eq!(registry.under_way(), (3, 2));
        assert!(registry.figures().contains("waystation_amqp_connections_by_state{state=\"blocked\"} 1\n"));
    }

    #[test]
    fn a_connection_is_closed_by_its_name_and_no_other_one() {
        let registry = Arc::new(Registry::default());
        let (_one, mut one) = entered(&registry, 1);
        let (_two, mut two) = entered(&registry, 2);
        assert!(registry.close("127.0.0.1:2 -> 127.0.0.1:5672", "enough"));
        assert!(!registry.close("127.0.0.1:3 -> 127.0.0.1:5672", "enough"));
        assert_eq!(two.try_recv(), Ok(Order::Close("enough".to_owned())));
        assert!(one.try_recv().is_err());
    }
}
