//! How do connections come in, and how does it all end?

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use waystation_base::Clock;
use waystation_host::Broker;
use waystation_net::{Drain, Listener, Permits, Stream};

use super::{
    connection, direct,
    door::{Door, Low},
    replies::Replies,
};
use crate::{Limits, Registry, directory::Directory, registry::Order};

/// How often certificate files are looked at for change.
const TLS_WATCH: Duration = Duration::from_secs(30);
/// How often the disk is looked at.
const ROOM_WATCH: Duration = Duration::from_millis(500);
/// What clients are told when the server shuts down; they know the words.
const SHUTDOWN: &str = "broker forced connection closure with reason 'shutdown'";

/// What the door is built from.
pub struct Options {
    /// The broker behind it.
    pub broker: Broker,
    /// Users, virtual hosts, permissions and policies.
    pub directory: Arc<dyn Directory>,
    /// Where live connections are noted. Keep a clone to look at them.
    pub registry: Arc<Registry>,
    /// The bounds.
    pub limits: Limits,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// When it begins, the door stops accepting, says goodbye and closes.
    pub drain: Drain,
}

/// A door that cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A listener without an address.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

/// Serves until the drain has begun and every connection has ended, or its time is over.
pub async fn serve(listeners: Vec<Listener>, options: Options) -> Result<(), Error> {
    let Options { broker, directory, registry, limits, clock, drain } = options;
    let door = Arc::new(Door {
        connections: Permits::new(limits.connections_max),
        broker,
        directory,
        registry,
        limits,
        clock,
        drain,
        replies: Replies::default(),
        low: Low::default(),
        vhosts: Mutex::default(),
    });
    let mut accepting = JoinSet::new();
    for listener in listeners {
        let address = listener.address()?;
        accepting.spawn(accept(listener, address, door.clone()));
    }
    if !accepting.is_empty() {
        accepting.spawn(direct::run(door.clone()));
    }
    let mut watch = tokio::time::interval(ROOM_WATCH);
    loop {
        tokio::select! {
            ended = accepting.join_next() => match ended {
                None => return Ok(()),
                Some(Err(error)) => tracing::error!(%error, "a listener failed"),
                Some(Ok(())) => {}
            },
            _ = watch.tick() => door.look_for_room().await,
        }
    }
}

/// Accepts until the drain begins, then sees the connections out.
async fn accept(listener: Listener, address: SocketAddr, door: Arc<Door>) {
    let mut connections = JoinSet::new();
    let mut watch = tokio::time::interval(TLS_WATCH);
    loop {
        tokio::select! {
            biased;
            () = door.drain.begun() => break,
            (stream, peer) = listener.accept() => admit(&listener, address, &door, &mut connections, stream, peer),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            _ = watch.tick() => watch_tls(&listener),
        }
    }
    drop(listener);
    door.registry.order_all(&Order::Close(SHUTDOWN.to_owned()));
    let all_ended = async { while connections.join_next().await.is_some() {} };
    if timeout(Duration::from_millis(door.limits.drain_ms), all_ended).await.is_err() {
        tracing::warn!(open = connections.len(), "closing AMQP connections that did not end in time");
        connections.shutdown().await;
    }
}

fn watch_tls(listener: &Listener) {
    match listener.tls().map(waystation_net::Tls::reload_if_changed) {
        Some(Ok(true)) => tracing::info!("certificate files have changed and are in use"),
        Some(Err(error)) => {
            tracing::error!(%error, "changed certificate files cannot be used; the old ones stay in use")
        }
        _ => {}
    }
}

fn admit(
    listener: &Listener,
    address: SocketAddr,
    door: &Arc<Door>,
    connections: &mut JoinSet<()>,
    stream: TcpStream,
    peer: SocketAddr,
) {
    let Some(permit) = door.connections.take() else {
        // Before the greeting nothing can be said.
        return door.registry.refused.add(1);
    };
    let tls = listener.tls().cloned();
    let door = door.clone();
    let local = stream.local_addr().unwrap_or(address);
    connections.spawn(async move {
        let _permit = permit;
        let limit = Duration::from_millis(door.limits.handshake_ms);
        let stream = match tls {
            None => Stream::Plain(stream),
            Some(tls) => match tls.handshake(stream, limit).await {
                Ok(stream) => Stream::Tls(Box::new(stream)),
                Err(error) => return tracing::debug!(%peer, %error, "no TLS"),
            },
        };
        connection::run(door, stream, peer, local).await;
    });
}
