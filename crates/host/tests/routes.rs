//! What doors with routes need of the handle: publishing without waiting, bindings, documents, cancelling, one message at once.

mod common;

use std::time::Duration;

use bytes::Bytes;
use common::*;
use waystation_base::Attempt;
use waystation_broker::{
    Command, Kind, Refusal, Reply, Source,
    command::{Bind, Destination, Hold, Outcome, Payload, Publish, Target},
    effect::Closed,
    spec::{RouteKind, RouteSpec, Spec},
    view::BindingFilter,
};
use waystation_host::{Broker, Event, Options};

fn bind(route: &str, to: &str, key: &str) -> Bind {
    let to = Destination::Address(name(to));
    Bind { route: name(route), to, key: key.into(), arguments: Default::default() }
}

fn by_route(route: &str, key: &str, text: impl Into<String>) -> Publish {
    let keys = [key.into()].into_iter().collect();
    let to = Target::Route { route: name(route), keys, told: false };
    Publish { to, partition: None, payload: Payload::One(message(text)) }
}

async fn declare_route(broker: &Broker, route: &str, kind: RouteKind) {
    declare(broker, route, Spec::Route(RouteSpec::new(kind))).await;
}

fn texts(deliveries: &[waystation_host::Delivery]) -> Vec<String> {
    deliveries.iter().map(text).collect()
}

#[tokio::test]
async fn what_was_begun_is_carried_out_in_order_though_nobody_waits_for_it() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = running.broker.clone();
    declare_queue(&broker, "q").await;
    declare_route(&broker, "r", RouteKind::Topic).await;
    drop(broker.begin(Command::Bind(bind("r", "q", "x.#"))).await.expect("begun"));
    let mut last = None;
    for n in 0..500 {
        let publishes = vec![by_route("r", "x.y", n.to_string()), by_route("r", "z", "lost")];
        last = Some(broker.begin(Command::PublishEach(publishes)).await.expect("begun"));
    }
    let Ok(Reply::PublishedEach(results)) = last.expect("some").await else { panic!("not published") };
    let of = |n: usize| results[n].as_ref().map(|published| (published.copies, published.unrouted));
    assert_eq!((of(0), of(1)), (Ok((1, 0)), Ok((0, 1))));
    assert_eq!(drain(&broker, queue("q")).await, (0..500).map(|n| n.to_string()).collect::<Vec<_>>());
    let info = broker.route(name("r")).await.expect("a route");
    assert_eq!((info.published, info.unrouted, info.bindings), (1000, 500, 1));
    running.stop().await;
}

#[tokio::test]
async fn routes_bindings_and_documents_are_there_after_a_crash() {
    let (dir, copy) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let running = start(Options::new(dir.path()));
    let broker = running.broker.clone();
    declare_queue(&broker, "q").await;
    declare_route(&broker, "r", RouteKind::Direct).await;
    assert_eq!(broker.bind(bind("r", "q", "k")).await, Ok(true));
    assert_eq!(broker.bind(bind("r", "q", "k")).await, Ok(false));
    assert_eq!(broker.bind(bind("r", "q", "gone")).await, Ok(true));
    assert_eq!(broker.unbind(bind("r", "q", "gone")).await, Ok(true));
    assert_eq!(broker.unbind(bind("r", "q", "gone")).await, Ok(false));
    broker.put_document(name("users/a"), Some(Bytes::from_static(b"1"))).await.expect("written");
    broker.put_document(name("users/b"), Some(Bytes::from_static(b"2"))).await.expect("written");
    broker.put_document(name("users/a"), None).await.expect("erased");
    let results = broker.publish_each(vec![by_route("r", "k", "m"), by_route("none", "k", "m")]).await;
    let results = results.expect("answered");
    assert!(results[0].is_ok());
    assert!(matches!(results[1], Err(Refusal::NotFound { kind: Kind::Route, .. })), "{results:?}");
    let whole = copy.path().join("data");
    copy_dir(dir.path(), &whole);
    running.stop().await;
    let running = start(Options::new(&whole));
    let broker = running.broker.clone();
    let bindings = broker.bindings(BindingFilter::All).await.expect("bindings");
    assert_eq!(bindings.iter().map(|binding| binding.key.as_str()).collect::<Vec<_>>(), ["k"]);
    let documents = broker.documents("users/".into()).await.expect("documents");
    assert_eq!(documents, [(name("users/b"), Bytes::from_static(b"2"))]);
    assert_eq!(drain(&broker, queue("q")).await, ["m"]);
    running.stop().await;
}

#[tokio::test]
async fn one_message_is_taken_at_once_and_an_empty_queue_answers_at_once() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = running.broker.clone();
    declare_queue(&broker, "q").await;
    let session = broker.session();
    assert_eq!(broker.get_once(queue("q"), session).await, Ok(None));
    publish(&broker, "q", ["a", "b"].map(str::to_owned)).await;
    let first = broker.get_once(queue("q"), session).await.expect("asked").expect("a message");
    let second = broker.get_once(queue("q"), session).await.expect("asked").expect("a message");
    assert_eq!(texts(&[first.clone(), second.clone()]), ["a", "b"]);
    assert_eq!(broker.get_once(queue("q"), session).await, Ok(None));
    broker.accept(queue("q"), &second).await.expect("still held");
    broker.close_session(session).await.expect("closed");
    let again = receive(&broker, queue("q"), 9).await;
    assert_eq!((texts(&again), again[0].attempt), (vec!["a".to_owned()], Attempt(2)));
    let missing = broker.get_once(queue("none"), session).await;
    assert!(matches!(missing, Err(Refusal::NotFound { .. })), "{missing:?}");
    running.stop().await;
}

#[tokio::test]
async fn a_cancelled_consumer_hears_what_was_on_its_way_and_then_its_end() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    let broker = running.broker.clone();
    declare_queue(&broker, "q").await;
    publish(&broker, "q", ["a", "b", "c"].map(str::to_owned)).await;
    let session = broker.session();
    let mut consumer = broker.consume(queue("q"), 2, Hold::Attached, session).await.expect("attached");
    broker.cancel(consumer.id).await.expect("cancelled");
    let mut had = Vec::new();
    while let Some(event) = consumer.next().await {
        match event {
            Event::Messages(messages) => had.extend(messages),
            Event::Closed(reason) => assert_eq!(reason, Closed::Cancelled),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(texts(&had), ["a", "b"]);
    drop(consumer);
    assert_eq!(broker.cancel(waystation_base::ConsumerId(0)).await, Err(Refusal::NotAttached));
    let info = broker.queue(name("q")).await.expect("there");
    assert_eq!((info.in_flight, info.ready, info.consumers), (2, 1, 0), "what it holds it holds on");
    broker.settle(queue("q"), vec![settlement(&had[0], Outcome::Accepted)]).await.expect("accepted");
    broker.close_session(session).await.expect("closed");
    assert_eq!(drain(&broker, queue("q")).await, ["b", "c"]);
    running.stop().await;
}

fn settlement(
    delivery: &waystation_host::Delivery,
    outcome: Outcome,
) -> waystation_broker::command::Settlement {
    waystation_broker::command::Settlement { tag: delivery.tag, attempt: delivery.attempt, outcome }
}

#[tokio::test]
async fn one_message_at_once_is_read_back_when_it_is_not_in_memory() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = start(Options::new(dir.path()));
    declare_queue(&running.broker, "q").await;
    publish(&running.broker, "q", ["cold".to_owned()]).await;
    running.stop().await;
    let running = start(Options::new(dir.path()));
    let broker = running.broker.clone();
    let asked = broker.get_once(Source::Queue(name("q")), broker.session());
    let got = tokio::time::timeout(Duration::from_secs(30), asked).await.expect("an answer").expect("asked");
    assert_eq!(got.map(|delivery| text(&delivery)).as_deref(), Some("cold"));
    running.stop().await;
}
