//! How many connections and channels may a user or virtual host have, and for how long may a delivery stay unsettled?

mod common;

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use common::{Client, Server};
use waystation_amqp091::{
    directory::{Bounds, Directory, Login, Loopback, Proof},
    wire::{Method, Table, methods::*},
};
use waystation_base::{os::OsDisk, value::Value};

/// `guest` in `/`, within these bounds.
struct Bounded {
    vhost: Bounds,
    user: Bounds,
}

impl Directory for Bounded {
    fn login<'a>(&'a self, proof: &'a Proof, peer: SocketAddr) -> Login<'a> {
        Loopback.login(proof, peer)
    }

    fn has_vhost(&self, vhost: &str) -> bool {
        Loopback.has_vhost(vhost)
    }

    fn bounds_of_vhost(&self, vhost: &str) -> Bounds {
        if vhost == "/" { self.vhost } else { Bounds::default() }
    }

    fn bounds_of_user(&self, user: &str) -> Bounds {
        if user == "guest" { self.user } else { Bounds::default() }
    }

    fn generation(&self) -> u64 {
        0
    }
}

async fn server(vhost: Bounds, user: Bounds) -> Server {
    Server::serving(Arc::new(Bounded { vhost, user }), Arc::new(OsDisk), 0, |_| ()).await
}

/// A client that has logged in and asks for `/`.
async fn knocks(server: &Server) -> Client {
    let mut client = server.connect().await;
    client.greet().await;
    client.say(0, connection::TuneOk { channel_max: 9, frame_max: 4096, heartbeat: 0 }).await;
    client.say(0, connection::Open { virtual_host: "/".into(), ..Default::default() }).await;
    client
}

async fn leaves(server: &Server, client: Client, left: usize) {
    drop(client);
    while server.registry.connections().len() > left {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_virtual_host_and_a_user_have_as_many_connections_as_they_may_and_no_more() {
    let two = Bounds { connections: Some(2), channels: None };
    for (vhost, user, said) in [
        (
            two,
            Bounds::default(),
            "access to vhost '/' refused for user 'guest': connection limit (2) is reached",
        ),
        (Bounds::default(), two, "Connection refused for user 'guest': user connection limit (2) is reached"),
    ] {
        let server = server(vhost, user).await;
        let (first, second) = (server.open().await, server.open().await);
        knocks(&server).await.connection_ends(530, &format!("NOT_ALLOWED - {said}")).await;
        leaves(&server, first, 1).await;
        let third = server.open().await;
        drop((second, third));
        server.end().await;
    }
}

#[tokio::test]
async fn a_user_has_as_many_channels_as_it_may_over_all_its_connections() {
    let server = server(Bounds::default(), Bounds { connections: None, channels: Some(2) }).await;
    let mut one = server.channel().await;
    let mut other = server.channel().await;
    other.say(2, channel::Open::default()).await;
    let said = "NOT_ALLOWED - number of channels opened for user 'guest' has reached the maximum allowed user limit of (2)";
    let Method::ConnectionClose(close) = other.method().await else { panic!("no open-ok before it") };
    assert_eq!((close.reply_code, close.reply_text.as_str()), (530, said));
    leaves(&server, other, 1).await;
    one.open_channel(2).await;
    drop(one);
    server.end().await;
}

async fn declare_with_timeout(client: &mut Client, ms: i64) {
    let arguments: Table = [("x-consumer-timeout".into(), Value::I64(ms))].into_iter().collect();
    client.say(1, queue::Declare { queue: "q".into(), arguments, ..Default::default() }).await;
    let Method::QueueDeclareOk(_) = client.method().await else { panic!("declare-ok") };
}

#[tokio::test]
async fn a_delivery_that_is_not_settled_in_time_ends_its_channel_and_comes_back() {
    let server = Server::start().await;
    let mut client = server.channel().await;
    declare_with_timeout(&mut client, 1_000).await;
    client.put_publish("q", &Bytes::from_static(b"late"));
    client.flush().await;
    client.say(1, basic::Consume { queue: "q".into(), ..Default::default() }).await;
    let Method::BasicConsumeOk(_) = client.method().await else { panic!("consume-ok") };
    let Method::BasicDeliver(first) = client.method().await else { panic!("a delivery") };
    assert!(!first.redelivered);
    let said = "PRECONDITION_FAILED - delivery acknowledgement on channel 1 timed out. Timeout value used: 1000 ms. This timeout \
                value can be configured, see consumers doc guide to learn more";
    client.channel_ends(406, said).await;
    client.say(1, channel::CloseOk {}).await;
    client.open_channel(1).await;
    // Without acknowledgement there is nothing to be late with; and another one that is settled is not late either.
    client.say(1, basic::Consume { queue: "q".into(), no_ack: true, ..Default::default() }).await;
    let Method::BasicConsumeOk(_) = client.method().await else { panic!("consume-ok") };
    let Method::BasicDeliver(again) = client.method().await else { panic!("it comes again") };
    assert!(again.redelivered);
    drop(client);
    server.end().await;
}

#[tokio::test]
async fn a_message_that_was_got_by_itself_is_to_be_settled_in_time_too() {
    let server = Server::start().await;
    let mut client = server.channel().await;
    declare_with_timeout(&mut client, 1).await;
    client.put_publish("q", &Bytes::from_static(b"got"));
    client.flush().await;
    client.say(1, basic::Get { queue: "q".into(), ..Default::default() }).await;
    let Method::BasicGetOk(_) = client.method().await else { panic!("get-ok") };
    let Method::ChannelClose(close) = client.method().await else { panic!("channel.close") };
    assert_eq!(close.reply_code, 406);
    drop(client);
    server.end().await;
}
