//! Do messages get from publishers to consumers, each once, whoever else is slow or gone?

mod common;

use std::{collections::BTreeSet, time::Duration};

use common::*;
use waystation_base::{Attempt, Clock, Millis, os::OsClock};
use waystation_broker::{
    Kind, Refusal, SessionId, Source,
    command::{Counted, Delete, Hold, Outcome, Publish, Settle, Settlement, Transaction},
    effect::Closed,
    spec::{SubscriptionSpec, TopicSpec},
};
use waystation_host::{Browse, Event, Options, Target};

#[tokio::test]
async fn what_is_published_is_received_accepted_and_gone() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = &running.broker;
    declare_queue(broker, "q").await;
    publish(broker, "q", ["a", "b", "c"].map(str::to_owned)).await;
    let got = receive(broker, queue("q"), 2).await;
    assert_eq!(got.iter().map(text).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!((got[0].address.as_str(), got[0].attempt), ("q", Attempt(1)));
    assert!(got[0].held_until > OsClock.now() && got[0].held_until < Millis::NEVER);
    accept(broker, queue("q"), &got).await;
    let again = broker.accept(queue("q"), &got[0]).await;
    assert!(matches!(again, Err(Refusal::NotHeld { .. })), "{again:?}");
    let info = broker.queue(name("q")).await.expect("there");
    assert_eq!((info.ready, info.in_flight, info.counters.acknowledged), (1, 0, 2));
    assert_eq!(drain(broker, queue("q")).await, ["c"]);
    running.stop().await;
}

#[tokio::test]
async fn a_pull_that_waits_gets_what_is_published_later_and_an_empty_one_ends() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = running.broker.clone();
    declare_queue(&broker, "q").await;
    let none = broker.receive(queue("q"), 10, Duration::ZERO, None, OsClock.now()).await;
    assert_eq!(none, Ok(Vec::new()));
    let waiting = tokio::spawn({
        let broker = broker.clone();
        async move { receive(&broker, queue("q"), 10).await }
    });
    tokio::task::yield_now().await;
    publish(&broker, "q", ["x".to_owned()]).await;
    assert_eq!(waiting.await.expect("no panic").iter().map(text).collect::<Vec<_>>(), ["x"]);
    running.stop().await;
}

#[tokio::test]
async fn many_publishers_and_consumers_share_a_queue_and_each_message_is_had_once() {
    const PUBLISHERS: usize = 50;
    const EACH: usize = 200;
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = &running.broker;
    declare_queue(broker, "q").await;
    let publishers: Vec<_> = (0..PUBLISHERS)
        .map(|publisher| {
            let broker = broker.clone();
            tokio::spawn(async move {
                for n in 0..EACH {
                    publish(&broker, "q", [format!("{publisher}-{n}")]).await;
                }
            })
        })
        .collect();
    let consumers: Vec<_> = (0..5)
        .map(|_| {
            let broker = broker.clone();
            tokio::spawn(async move { drain(&broker, queue("q")).await })
        })
        .collect();
    for publisher in publishers {
        publisher.await.expect("no panic");
    }
    let mut all = Vec::new();
    for consumer in consumers {
        all.extend(consumer.await.expect("no panic"));
    }
    all.extend(drain(broker, queue("q")).await);
    assert_eq!(all.len(), PUBLISHERS * EACH);
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), PUBLISHERS * EACH);
    running.stop().await;
}

#[tokio::test]
async fn a_consumer_that_does_not_read_holds_up_nobody_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = &running.broker;
    declare_topic(broker, "t", TopicSpec::default()).await;
    for subscription in ["slow", "fast"] {
        declare_subscription(broker, subscription, SubscriptionSpec::new("t")).await;
    }
    let source = |text| Source::Subscription(name(text));
    let mut slow =
        broker.consume(source("slow"), 60_000, Hold::Attached, SessionId::default()).await.expect("attached");
    let mut fast =
        broker.consume(source("fast"), 60_000, Hold::Attached, SessionId::default()).await.expect("attached");
    // Far more than a mailbox holds.
    let body = "x".repeat(10_000);
    for n in 0..100 {
        publish(broker, "t", (0..10).map(|k| format!("{} {body}", n * 10 + k))).await;
    }
    for consumer in [&mut fast, &mut slow] {
        let mut seen = 0;
        while seen < 1000 {
            let Some(Event::Messages(messages)) = consumer.next().await else { panic!("ended") };
            for delivery in messages {
                assert_eq!(text(&delivery).split(' ').next(), Some(seen.to_string().as_str()));
                seen += 1;
            }
        }
    }
    running.stop().await;
}

#[tokio::test]
async fn what_a_dropped_consumer_held_comes_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = &running.broker;
    declare_queue(broker, "q").await;
    publish(broker, "q", ["a".to_owned(), "b".to_owned()]).await;
    let mut consumer =
        broker.consume(queue("q"), 10, Hold::Attached, SessionId::default()).await.expect("attached");
    let Some(Event::Messages(messages)) = consumer.next().await else { panic!("ended") };
    assert_eq!(messages.len(), 2);
    assert_eq!(messages[0].held_until, Millis::NEVER);
    drop(consumer);
    let again = receive(broker, queue("q"), 10).await;
    assert_eq!(again.iter().map(text).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(again[0].attempt, Attempt(2));
    assert_eq!(broker.overview().await.expect("there").consumers, 0);
    running.stop().await;
}

#[tokio::test]
async fn consumers_of_a_deleted_queue_hear_of_it_after_their_messages() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = &running.broker;
    declare_queue(broker, "q").await;
    let mut consumer =
        broker.consume(queue("q"), 10, Hold::Attached, SessionId::default()).await.expect("attached");
    publish(broker, "q", ["a".to_owned()]).await;
    let delete = Delete {
        kind: Kind::Queue,
        name: name("q"),
        if_unused: false,
        if_empty: false,
        counted: Counted::All,
        session: SessionId::default(),
    };
    assert_eq!(broker.delete(delete).await, Ok(1));
    assert!(matches!(consumer.next().await, Some(Event::Messages(_))));
    assert!(matches!(consumer.next().await, Some(Event::Closed(Closed::SourceDeleted))));
    assert!(consumer.next().await.is_none());
    let refused = broker.consume(queue("q"), 10, Hold::Attached, SessionId::default()).await;
    assert!(matches!(refused, Err(Refusal::NotFound { .. })));
    running.stop().await;
}

#[tokio::test]
async fn a_transaction_takes_and_publishes_as_one() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = &running.broker;
    declare_queue(broker, "in").await;
    declare_queue(broker, "out").await;
    publish(broker, "in", ["a".to_owned()]).await;
    let got = receive(broker, queue("in"), 1).await;
    let transaction = |delivery: &waystation_host::Delivery| Transaction {
        publishes: vec![Publish {
            to: name("out").into(),
            partition: None,
            payload: waystation_broker::command::Payload::Messages(vec![message("b")]),
        }],
        settlements: vec![Settle {
            source: queue("in"),
            settlements: vec![Settlement {
                tag: delivery.tag,
                attempt: delivery.attempt,
                outcome: Outcome::Accepted,
            }],
        }],
    };
    broker.transact(transaction(&got[0])).await.expect("committed");
    // The same once more: nothing of it takes effect.
    assert!(matches!(broker.transact(transaction(&got[0])).await, Err(Refusal::NotHeld { .. })));
    assert_eq!(drain(broker, queue("out")).await, ["b"]);
    running.stop().await;
}

#[tokio::test]
async fn messages_are_looked_at_page_by_page_and_stay() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = &running.broker;
    declare_queue(broker, "q").await;
    publish(broker, "q", (0..25).map(|n| n.to_string())).await;
    let mut browse = Browse { max: 10, bytes_max: 1 << 20, ..Browse::default() };
    let mut seen = Vec::new();
    loop {
        let page = broker.browse(Target::Queue(name("q")), browse.clone()).await.expect("a page");
        assert!(page.messages.len() <= 10);
        seen.extend(page.messages.iter().map(text));
        match page.next {
            Some(next) => browse.from = Some(next),
            None => break,
        }
    }
    assert_eq!(seen, (0..25).map(|n| n.to_string()).collect::<Vec<_>>());
    let small = Browse { max: 10, bytes_max: 1, ..Browse::default() };
    let page = broker.browse(Target::Queue(name("q")), small).await.expect("a page");
    assert_eq!(page.messages.len(), 1, "one message at least comes");
    assert_eq!(broker.queue(name("q")).await.expect("there").ready, 25);
    let missing = broker.browse(Target::Queue(name("none")), browse).await;
    assert!(matches!(missing, Err(Refusal::NotFound { .. })));
    running.stop().await;
}

#[tokio::test]
async fn a_request_at_request_bytes_max_is_taken_and_one_past_it_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = &running.broker;
    declare_queue(broker, "q").await;
    let publish_of = |bytes: usize| Publish {
        to: name("q").into(),
        partition: None,
        payload: waystation_broker::command::Payload::Messages(vec![message("x".repeat(bytes))]),
    };
    let transaction =
        |bytes: [usize; 3]| Transaction { publishes: bytes.map(publish_of).into(), settlements: Vec::new() };
    let third = waystation_host::REQUEST_BYTES_MAX / 3;
    let taken = broker.transact(transaction([third - 64; 3])).await;
    assert!(taken.is_ok(), "{taken:?}");
    let refused = broker.transact(transaction([third - 64, third - 64, third - 60])).await;
    assert!(matches!(refused, Err(Refusal::TooLarge { .. })), "{refused:?}");
    assert_eq!(broker.queue(name("q")).await.expect("there").ready, 3);
    assert_eq!(drain(broker, queue("q")).await.len(), 3);
    running.stop().await;
}

#[tokio::test]
async fn a_consumer_whose_deliveries_count_as_accepted_gets_its_credit_and_more_when_it_asks() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = running.broker.clone();
    declare_queue(&broker, "q").await;
    let mut consumer =
        broker.consume(queue("q"), 10, Hold::None, SessionId::default()).await.expect("attached");
    let publisher = tokio::spawn(async move {
        for n in 0..100 {
            publish(&broker, "q", [n.to_string()]).await;
        }
    });
    let mut seen = Vec::new();
    while seen.len() < 100 {
        let Some(Event::Messages(messages)) = consumer.next().await else { panic!("ended") };
        seen.extend(messages.iter().map(text));
        if seen.len().is_multiple_of(10) {
            assert_eq!(
                running.broker.queue(name("q")).await.expect("there").counters.acknowledged,
                seen.len() as u64
            );
            consumer.set_credit(10).await.expect("taken");
        }
    }
    assert_eq!(seen, (0..100).map(|n| n.to_string()).collect::<Vec<_>>());
    publisher.await.expect("no panic");
    let info = running.broker.queue(name("q")).await.expect("there");
    assert_eq!((info.ready, info.in_flight, info.counters.acknowledged), (0, 0, 100));
    running.stop().await;
}
