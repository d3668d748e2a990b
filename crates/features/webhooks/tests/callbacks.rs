//! Do messages with an address of their own get there, signed, under their own id, and to the dead letters if they cannot?

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
    sync::{mpsc, oneshot},
};
use waystation_base::{
    Message, MessageId, Name, Value,
    message::header,
    os::{self, OsClock, OsDisk},
};
use waystation_broker::{
    Refusal, SessionId, Source,
    effect::Declared,
    spec::{QueueSpec, Spec},
};
use waystation_host::Broker;
use waystation_webhooks::{
    Guard, Secret, Sender,
    push::{
        Callbacks, Standing, addressed, callbacks,
        redrive::{Redriven, Which},
    },
    sign::signature,
};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

/// Tells what it is asked; answers 500 the first time and then 200.
async fn receiver() -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (tell, told) = mpsc::channel(16);
    tokio::spawn(async move {
        let mut status = 500;
        while let Ok((mut stream, _)) = listener.accept().await {
            let (mut text, mut part) = (Vec::new(), [0; 4096]);
            while !text.ends_with(b"}") {
                let length = stream.read(&mut part).await.expect("a request");
                text.extend_from_slice(&part[..length]);
            }
            let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.expect("answered");
            status = 200;
            tell.send(String::from_utf8_lossy(&text).into_owned()).await.expect("somebody listens");
        }
    });
    (address, told)
}

fn callback(url: &str, id: &str) -> Message {
    let now = waystation_base::Clock::now(&OsClock);
    let id_of_message = MessageId::new(now, os::random().expect("randomness"));
    let mut message = Message::new(id_of_message, now, "{\"type\":\"call.succeeded\"}");
    for (name, value) in
        [(addressed::URL, url), (addressed::ID, id), (header::CONTENT_TYPE, "application/json")]
    {
        message.headers.set(name, value);
    }
    message
}

async fn take(broker: &Broker, queue: &Name) -> Message {
    let now = waystation_base::Clock::now(&OsClock);
    let wait = Duration::from_secs(20);
    let mut all =
        broker.receive(Source::Queue(queue.clone()), 1, wait, Some(1_000), now).await.expect("received");
    all.pop().expect("a message").message
}

/// Waits until a callback was given up.
async fn dies(callbacks: &Callbacks, id: &str) {
    while callbacks.fate(id).map(|it| it.state) != Some(Standing::Dead) {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_callback_is_delivered_again_until_it_arrives_and_a_hostile_one_is_buried_with_its_cause() {
    let dir = tempfile::tempdir().expect("a folder");
    let mut options = waystation_host::Options::new(dir.path());
    options.disk_reserve_bytes = 0;
    let clock = Arc::new(OsClock);
    let (broker, driver, _) = waystation_host::open(options, Arc::new(OsDisk), clock.clone()).expect("opens");
    let (stop, stopped) = oneshot::channel::<()>();
    let driver = tokio::spawn(driver.run(async { drop(stopped.await) }));
    let queue = Name::reserved(callbacks::QUEUE).expect("a name");
    let (address, mut told) = receiver().await;
    let url = format!("http://{address}/back");
    let rule = "127.0.0.1".parse().expect("a rule");
    let sender =
        Sender::new(Guard::new("webhooks", vec![rule], false), clock.clone(), None).expect("a sender");
    let secrets: Arc<[Secret]> = Arc::new([Secret::parse(SECRET).expect("a secret")]);
    let (end, ended) = oneshot::channel::<()>();
    let callbacks = Callbacks::new(broker.clone(), clock, sender, secrets.clone(), None);
    let serving = tokio::spawn(callbacks.clone().serve(async { drop(ended.await) }));
    // It is there before anybody has called, as calls declare it.
    while broker.queue(queue.clone()).await.is_err() {
        tokio::task::yield_now().await;
    }
    let spec = Spec::Queue(QueueSpec::default());
    let declared = broker.declare(queue.clone(), spec, false, SessionId::default()).await;
    assert_eq!(declared, Ok(Declared::Unchanged));
    broker
        .publish(queue.clone(), vec![callback(&url, "call-1"), callback("http://10.0.0.1/", "call-2")])
        .await
        .expect("published");
    let dead = Name::reserved(callbacks::DEAD).expect("a name");
    let first = told.recv().await.expect("a request");
    dies(&callbacks, "call-2").await;
    let which =
        |operation: Option<&str>| Which { operation: operation.map(str::to_owned), ..Which::default() };
    let buried = callbacks.dead(&which(None), |_| true).await.expect("looked at").callbacks;
    assert_eq!(buried.iter().map(|it| it.id.as_str()).collect::<Vec<_>>(), ["call-2"]);
    assert!(buried[0].error.contains("a private address"), "{buried:?}");
    let nothing = |found: Result<Redriven, Refusal>| assert_eq!(found, Ok(Redriven::default()));
    nothing(callbacks.dead(&which(Some("other")), |_| true).await);
    nothing(callbacks.dead(&which(None), |_| false).await);
    nothing(callbacks.redrive(&which(Some("other")), |_| true).await);
    let done = callbacks.redrive(&which(None), |_| true).await.expect("redriven").callbacks;
    assert_eq!(done, buried);
    dies(&callbacks, "call-2").await;
    let again = take(&broker, &dead).await;
    assert_eq!(again.headers.text(addressed::ID), Some("call-2"), "under the id that it had");
    assert_eq!(again.headers.get(header::DEATH_COUNT), Some(&Value::I64(1)), "without its earlier death");
    let second = told.recv().await.expect("the same again, after its pause");
    for asked in [&first, &second] {
        let header = |name: &str| {
            let line = asked.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
            line.unwrap_or_else(|| panic!("no {name} in {asked}")).to_owned()
        };
        let timestamp_s = header("webhook-timestamp").parse().expect("seconds");
        let body = asked.rsplit("\r\n").next().expect("a body");
        let expected = signature("call-1", timestamp_s, body.as_bytes(), &secrets);
        assert_eq!((header("webhook-id"), header("webhook-signature")), ("call-1".to_owned(), expected));
    }
    drop(end);
    serving.await.expect("no panic").expect("a good end");
    let left = broker.queue(queue).await.expect("it is there");
    assert_eq!((left.ready, left.in_flight, left.delayed), (0, 0, 0));
    drop(stop);
    driver.await.expect("no panic").expect("a good end");
}
