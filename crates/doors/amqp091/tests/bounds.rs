//! What is answered to a client that breaks the rules, floods, dawdles or falls silent? It alone is cut off.

mod common;

use bytes::Bytes;
use common::{PATIENCE, Server};
use tokio::{io::AsyncReadExt, time::timeout};
use waystation_amqp091::wire::{ChannelId, GREETING, Method, methods::*};

#[tokio::test]
async fn another_version_of_the_protocol_is_answered_with_ours() {
    let server = Server::start().await;
    for greeting in [&b"AMQP\x00\x01\x00\x00"[..], b"GET / HTTP/1.1\r\n\r\n"] {
        let mut client = server.connect().await;
        client.raw(greeting).await;
        let mut answer = Vec::new();
        let read = timeout(PATIENCE, client.stream.read_to_end(&mut answer)).await.expect("in time");
        assert!(read.is_ok() && answer == GREETING, "{answer:?}");
    }
    server.end().await;
}

#[tokio::test]
async fn a_client_that_does_not_finish_its_handshake_is_cut_off() {
    let server = Server::with(|limits| limits.handshake_ms = 200).await;
    let silent = server.connect().await;
    let mut half = server.connect().await;
    half.greet().await;
    let mut whole = server.open().await;
    silent.ends().await;
    half.ends().await;
    whole.open_channel(1).await;
    server.end().await;
}

#[tokio::test]
async fn a_wrong_password_is_refused_with_403_and_a_wrong_vhost_with_530() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.raw(&GREETING).await;
    client.method().await;
    let capability = [("authentication_failure_close".into(), waystation_base::value::Value::Bool(true))];
    let properties = [("capabilities".into(), waystation_base::value::Value::Map(capability.to_vec()))];
    let ok = connection::StartOk {
        client_properties: properties.into_iter().collect(),
        mechanism: "PLAIN".into(),
        response: Bytes::from_static(b"\0guest\0wrong"),
        locale: "en_US".into(),
    };
    client.say(0, ok).await;
    client
        .connection_ends(403, "ACCESS_REFUSED - Login was refused using authentication mechanism PLAIN")
        .await;

    let mut client = server.connect().await;
    client.greet().await;
    client.say(0, connection::TuneOk { channel_max: 9, frame_max: 4096, heartbeat: 0 }).await;
    client.say(0, connection::Open { virtual_host: "nope".into(), ..Default::default() }).await;
    client.connection_ends(530, "NOT_ALLOWED - vhost nope not found").await;
    server.end().await;
}

#[tokio::test]
async fn a_frame_of_the_agreed_size_is_taken_and_a_larger_one_ends_the_connection_with_501() {
    let server = Server::start().await;
    let mut client = server.tuned(10, 4096, 0).await;
    client.open_channel(1).await;
    client.declare("q").await;
    let body = Bytes::from(vec![b'x'; 4096 - 8]);
    client.put_publish("q", &body);
    client.flush().await;
    assert_eq!(client.declare("q").await.0, 1);
    client.raw(&[&[3, 0, 1][..], &4089u32.to_be_bytes()].concat()).await;
    client.connection_ends(501, "FRAME_ERROR - ").await;
    server.end().await;
}

#[tokio::test]
async fn a_giant_frame_is_refused_before_it_has_come() {
    let server = Server::start().await;
    let mut client = server.channel().await;
    client.raw(&[1, 0, 1, 0xff, 0xff, 0xff, 0xff]).await;
    client.connection_ends(501, "FRAME_ERROR - ").await;
    server.end().await;
}

#[tokio::test]
async fn bytes_that_are_no_frame_end_the_connection_with_501() {
    let server = Server::start().await;
    for bytes in [&[7u8, 0, 0, 0, 0, 0, 0, 0xce][..], &[8, 0, 0, 0, 0, 0, 0, 0]] {
        let mut client = server.channel().await;
        client.raw(bytes).await;
        client.connection_ends(501, "FRAME_ERROR - ").await;
    }
    server.end().await;
}

#[tokio::test]
async fn unknown_methods_and_classes_end_the_connection() {
    let server = Server::start().await;
    for (class, method, code) in [(60u16, 999u16, 503), (999, 10, 503), (80, 10, 540)] {
        let mut client = server.channel().await;
        let payload = [class.to_be_bytes(), method.to_be_bytes()].concat();
        client.raw(&[&[1, 0, 1, 0, 0, 0, 4][..], &payload, &[0xce]].concat()).await;
        client.connection_ends(code, "").await;
    }
    server.end().await;
}

#[tokio::test]
async fn content_frames_out_of_order_end_the_connection_with_505() {
    let server = Server::start().await;
    let mut client = server.channel().await;
    client.raw(&[3, 0, 1, 0, 0, 0, 1, b'x', 0xce]).await;
    client.connection_ends(505, "UNEXPECTED_FRAME - ").await;

    let mut client = server.channel().await;
    client.out.put_method(ChannelId(1), &basic::Publish::default().into());
    client.out.put_method(ChannelId(1), &basic::Publish::default().into());
    client.flush().await;
    client.connection_ends(505, "UNEXPECTED_FRAME - ").await;
    server.end().await;
}

#[tokio::test]
async fn channels_up_to_the_agreed_number_are_opened_and_one_more_ends_the_connection() {
    let server = Server::start().await;
    let mut client = server.tuned(3, 4096, 0).await;
    for id in [1, 2, 9] {
        client.open_channel(id).await;
    }
    client.say(4, channel::Open::default()).await;
    let text = "NOT_ALLOWED - number of channels opened (3) has reached the negotiated channel_max (3)";
    client.connection_ends(530, text).await;
    server.end().await;
}

#[tokio::test]
async fn a_channel_is_opened_once_and_before_it_is_used() {
    let server = Server::start().await;
    let mut client = server.channel().await;
    client.say(1, channel::Open::default()).await;
    client.connection_ends(504, "CHANNEL_ERROR - second 'channel.open' seen").await;
    let mut client = server.open().await;
    client.say(1, tx::Select {}).await;
    client.connection_ends(504, "CHANNEL_ERROR - expected 'channel.open'").await;
    server.end().await;
}

#[tokio::test]
async fn a_body_of_the_largest_size_is_taken_and_a_larger_one_closes_its_channel_alone() {
    let server = Server::with(|limits| limits.message_bytes_max = 10_000).await;
    let mut client = server.channel().await;
    client.declare("q").await;
    client.put_publish("q", &Bytes::from(vec![b'x'; 10_000]));
    client.flush().await;
    assert_eq!(client.declare("q").await.0, 1);
    client.put_publish("q", &Bytes::from(vec![b'x'; 10_001]));
    client.flush().await;
    let text = "PRECONDITION_FAILED - message size 10001 is larger than configured max size 10000";
    client.channel_ends(406, text).await;
    client.say(1, channel::CloseOk {}).await;
    client.open_channel(1).await;
    assert_eq!(client.declare("q").await.0, 1);
    server.end().await;
}

#[tokio::test]
async fn a_client_without_heartbeats_is_cut_off_and_one_with_them_is_not() {
    let server = Server::start().await;
    let silent = server.tuned(10, 4096, 1).await;
    let mut alive = server.tuned(10, 4096, 1).await;
    alive.open_channel(1).await;
    let beat = async {
        loop {
            alive.out.put_heartbeat();
            alive.flush().await;
            tokio::time::sleep(std::time::Duration::from_millis(400)).await;
        }
    };
    tokio::select! {
        () = silent.ends() => {}
        () = beat => {}
    }
    assert_eq!(alive.declare("q").await, (0, 0));
    server.end().await;
}

#[tokio::test]
async fn a_client_that_takes_no_answer_is_not_read_from_and_holds_up_nobody() {
    let server = Server::start().await;
    let mut greedy = server.channel().await;
    greedy.declare("big").await;
    let body = Bytes::from(vec![b'x'; 100_000]);
    for _ in 0..300 {
        greedy.put_publish("big", &body);
        greedy.flush().await;
    }
    while greedy.declare("big").await.0 < 300 {}
    // Thirty megabytes are asked for, and nothing is read.
    let consume = basic::Consume { queue: "big".into(), no_ack: true, ..Default::default() };
    greedy.say(1, consume).await;
    let mut other = server.channel().await;
    assert_eq!(other.declare("small").await, (0, 0));
    let sent = |server: &Server| server.registry.connections().iter().map(|it| it.sent_bytes).max();
    let mut seen = sent(&server);
    loop {
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        assert_eq!(other.declare("small").await, (0, 0));
        let now = sent(&server);
        if now == seen {
            break;
        }
        seen = now;
    }
    // What the sockets hold and no more: the rest waits at the broker.
    assert!(seen.is_some_and(|bytes| bytes < 25_000_000), "{seen:?}");
    // When it reads, it gets all of them.
    let mut got = 0;
    while got < 300 {
        if let Method::BasicDeliver(_) = greedy.method().await {
            got += 1;
        }
    }
    server.end().await;
}

#[tokio::test]
async fn a_client_that_leaves_what_is_written_untaken_is_cut_off_in_time() {
    let server = Server::with(|limits| limits.write_ms = 300).await;
    let mut greedy = server.channel().await;
    greedy.declare("big").await;
    let body = Bytes::from(vec![b'x'; 100_000]);
    for _ in 0..300 {
        greedy.put_publish("big", &body);
        greedy.flush().await;
    }
    while greedy.declare("big").await.0 < 300 {}
    greedy.say(1, basic::Consume { queue: "big".into(), ..Default::default() }).await;
    while !server.registry.connections().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let mut other = server.channel().await;
    assert_eq!(other.declare("big").await, (300, 0), "nothing was acknowledged, nothing is lost");
    server.end().await;
}

#[tokio::test]
async fn at_the_end_of_the_server_connections_are_told_320() {
    let server = Server::start().await;
    let client = server.channel().await;
    let drain = server.drain.clone();
    drain.begin();
    client.connection_ends(320, "CONNECTION_FORCED - broker forced connection closure").await;
    server.end().await;
}

#[tokio::test]
async fn a_connection_is_closed_by_name_and_its_exclusive_queue_goes() {
    let server = Server::start().await;
    let mut client = server.channel().await;
    client.say(1, queue::Declare { queue: "mine".into(), exclusive: true, ..Default::default() }).await;
    client.method().await;
    let name = server.registry.connections()[0].name.clone();
    assert!(server.registry.close(&name, "enough"));
    client.connection_ends(320, "CONNECTION_FORCED - enough").await;
    let mut other = server.channel().await;
    loop {
        // It goes with the connection, which ends a moment after its last word.
        other.say(1, queue::Declare { queue: "mine".into(), passive: true, ..Default::default() }).await;
        match other.method().await {
            Method::ChannelClose(close) if close.reply_code == 404 => break,
            Method::ChannelClose(close) => assert_eq!(close.reply_code, 405),
            method => panic!("{method:?}"),
        }
        other.say(1, channel::CloseOk {}).await;
        other.open_channel(1).await;
    }
    server.end().await;
}

#[tokio::test]
async fn connections_up_to_the_bound_are_let_in_and_one_more_is_hung_up_on() {
    let server = Server::with(|limits| limits.connections_max = 2).await;
    let _one = server.open().await;
    let two = server.open().await;
    server.connect().await.ends().await;
    drop(two);
    loop {
        let mut next = server.connect().await;
        next.raw(&GREETING).await;
        if next.frame().await.is_some() {
            break;
        }
    }
    server.end().await;
}
