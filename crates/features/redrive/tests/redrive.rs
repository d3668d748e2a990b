//! Dead letters in groups, and bringing them back: what is chosen, where it goes, what it says, and what becomes of it through crashes.

mod common;

use std::collections::BTreeMap;

use common::{Running, name, number, numbered, once, spec};
use waystation_base::{Value, message::header};
use waystation_broker::{
    Source,
    command::Outcome,
    spec::{Spec as Declaration, SubscriptionSpec, TopicSpec},
};
use waystation_redrive::{
    groups::Asked,
    job::{Error, Maker, State},
    limits::ACTIVE_MAX,
};

fn stock_or_card(number: u64) -> String {
    if number.is_multiple_of(2) {
        format!("no stock for {number}")
    } else {
        format!("card '{number}' declined")
    }
}

async fn group_of(running: &Running, error: &str) -> String {
    let groups = running.letters().groups(Asked::default(), 100).await.expect("groups");
    let group = groups.groups.into_iter().find(|group| group.error.as_deref() == Some(error));
    group.unwrap_or_else(|| panic!("no group {error}")).id
}

#[tokio::test]
async fn dead_letters_are_grouped_over_all_queues_and_counted_as_they_come_and_go() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = Running::start(dir.path());
    running.dying("orders").await;
    running.dying("bills").await;
    running.fail("orders", 0..6, stock_or_card).await;
    running.fail("bills", 10..12, stock_or_card).await;
    let groups = running.letters().groups(Asked::default(), 100).await.expect("groups");
    assert_eq!((groups.messages, groups.other, groups.unread), (8, 0, 0));
    let shown: Vec<_> =
        groups.groups.iter().map(|g| (g.error.as_deref().expect("one"), g.messages)).collect();
    assert_eq!(shown.iter().map(|(_, count)| count).sum::<u64>(), 8);
    let stock =
        groups.groups.iter().find(|g| g.error.as_deref() == Some("no stock for <number>")).expect("it");
    assert_eq!(stock.queues, BTreeMap::from([("bills.dead".into(), 1), ("orders.dead".into(), 3)]));
    assert_eq!(stock.origins, BTreeMap::from([("bills".into(), 1), ("orders".into(), 3)]));
    assert!(stock.cause == "rejected" && stock.first > 0 && stock.last >= stock.first);

    // A page of members, then the next.
    let asked = Asked { group: Some(stock.id.clone()), ..Asked::default() };
    let (mut seen, mut from) = (Vec::new(), None);
    loop {
        let page = running.letters().members(&asked, from, 1, 1 << 20).await.expect("a page");
        seen.extend(page.messages.iter().map(|delivery| number(&delivery.message)));
        from = page.next;
        if from.is_none() {
            break;
        }
    }
    assert_eq!(seen, [10, 0, 2, 4], "queue by queue in order of names");

    let taken = running.take("orders.dead", 1).await;
    running.broker.accept(Source::Queue(name("orders.dead")), &taken[0]).await.expect("accepted");
    running.broker.purge(name("bills.dead")).await.expect("purged");
    let groups = running.letters().groups(Asked::default(), 100).await.expect("groups");
    assert_eq!(groups.groups.iter().map(|group| group.messages).sum::<u64>(), 5);
}

#[tokio::test]
async fn a_group_is_redriven_and_the_rest_stays_and_a_second_failure_says_how_often_it_was_redriven() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = Running::start(dir.path());
    running.dying("orders").await;
    running.fail("orders", 0..6, stock_or_card).await;
    let group = group_of(&running, "no stock for <number>").await;
    for round in 1..=2 {
        let redrive = running.run(&format!(r#"{{"which": {{"group": "{group}"}}}}"#)).await;
        assert_eq!((redrive.moved, redrive.total, redrive.left()), (3, Some(3), 0));
        assert_eq!(running.numbers("orders").await, once([0, 2, 4]));
        assert_eq!(running.numbers("orders.dead").await, once([1, 3, 5]));
        for message in running.messages("orders").await {
            let count = message.headers.get(header::REDRIVE_COUNT).and_then(Value::as_i64);
            assert_eq!(
                (message.headers.text(header::REDRIVE), count),
                (Some(redrive.id.as_str()), Some(round))
            );
        }
        let again = running.take("orders", 3).await;
        let rejected = again.iter().map(|delivery| {
            delivery.settlement(Outcome::Rejected {
                error: Some(stock_or_card(number(&delivery.message))),
                class: None,
            })
        });
        running.broker.settle(Source::Queue(name("orders")), rejected.collect()).await.expect("rejected");
        running.until("orders.dead", |ready| ready == 6).await;
    }
    let twice = running.messages("orders.dead").await;
    let twice = twice
        .iter()
        .filter(|message| message.headers.get(header::REDRIVE_COUNT).and_then(Value::as_i64) == Some(2));
    assert_eq!(twice.count(), 3);
}

#[tokio::test]
async fn what_is_chosen_by_ids_filter_error_or_time_is_moved_elsewhere_and_a_preview_says_so_before() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = Running::start(dir.path());
    running.dying("orders").await;
    running.queue("mended", |_| ()).await;
    running.fail("orders", 0..8, stock_or_card).await;
    let first = running.messages("orders.dead").await.remove(0).id;
    for (which, expected) in [
        (format!(r#"{{"ids": ["{first}"]}}"#), 1),
        (r#"{"error": "declined"}"#.to_owned(), 4),
        (r#"{"filter": {"prefix": {"ws-death-error": "no stock for 2"}}}"#.to_owned(), 1),
        (r#"{"after": 1}"#.to_owned(), 2),
        (r#"{"all": true}"#.to_owned(), 0),
    ] {
        let json = format!(r#"{{"from": ["orders.dead"], "to": "mended", "which": {which}}}"#);
        let (preview, samples) = running
            .redrives
            .preview(&spec(&json), &[name("orders.dead")], &Maker::default())
            .await
            .expect("a preview");
        assert_eq!((preview.messages, samples.len() as u64), (expected, expected.min(5)), "{which}");
        assert_eq!(running.run(&json).await.moved, expected, "{which}");
    }
    assert_eq!(running.numbers("mended").await, once(0..8));
}

#[tokio::test]
async fn what_cannot_go_stays_with_the_reason_counted() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = Running::start(dir.path());
    running.dying("orders").await;
    running.fail("orders", 0..2, stock_or_card).await;
    // Of a subscription, to which it comes back, and of nobody.
    let broker = &running.broker;
    broker
        .declare(name("t"), Declaration::Topic(TopicSpec::default()), false, Default::default())
        .await
        .expect("a topic");
    let mut subscription = SubscriptionSpec::new("t");
    subscription.dead_letter = Some("orders.dead".into());
    broker
        .declare(name("s"), Declaration::Subscription(subscription), false, Default::default())
        .await
        .expect("made");
    running.publish("t", vec![numbered(7)]).await;
    let source = Source::Subscription(name("s"));
    let wait = std::time::Duration::from_secs(5);
    let clock = waystation_base::os::OsClock;
    let now = waystation_base::Clock::now(&clock);
    let taken = broker.receive(source.clone(), 1, wait, None, now).await.expect("received");
    let reject = taken[0].settlement(Outcome::Rejected { error: None, class: None });
    broker.settle(source, vec![reject]).await.expect("rejected");
    running.publish("orders.dead", vec![numbered(8)]).await;
    running.until("orders.dead", |ready| ready == 4).await;
    let json = r#"{"which": {"all": true}}"#;
    let (preview, _) = running
        .redrives
        .preview(&spec(json), &[name("orders.dead")], &Maker::default())
        .await
        .expect("a preview");
    assert_eq!(preview.targets, BTreeMap::from([("orders".into(), 2), ("subscription s".into(), 1)]));
    assert_eq!((preview.messages, preview.left.values().sum::<u64>()), (4, 1));
    let redrive = running.run(json).await;
    assert_eq!((redrive.moved, &redrive.left, &redrive.targets), (3, &preview.left, &preview.targets));
    assert_eq!(running.numbers("orders.dead").await, once([8]));
    // It is kept for the subscription from now on, though it was published long ago.
    let browse = waystation_host::Browse { max: 9, bytes_max: 1 << 20, ..Default::default() };
    let back = waystation_host::Target::Topic(name("$redriven.s"));
    let back = broker.browse(back, browse).await.expect("a page").messages;
    assert_eq!(back.len(), 1);
    assert!(back[0].message.timestamp >= now, "{:?}", back[0]);

    let denied = Maker { name: Some("joe".into()), may: Some(vec!["other".into()]) };
    let to = spec(r#"{"which": {"all": true}, "to": "orders"}"#);
    let begun = running.redrives.begin(to, vec![name("orders.dead")], denied).await.expect("begun");
    let ended = running.ended(&begun.id).await;
    assert_eq!((ended.moved, ended.left()), (0, 1));
    assert!(ended.left.keys().all(|reason| reason.contains("may not publish")), "{ended:?}");
}

#[tokio::test]
async fn an_edited_message_says_where_its_original_is_and_undoing_brings_back_what_nobody_was_given() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = Running::start(dir.path());
    running.dying("orders").await;
    running.fail("orders", 0..6, stock_or_card).await;
    let before = running.messages("orders.dead").await;
    let edit = r#"{"set": {"type": "order"}, "remove": ["nothing"]}"#;
    let redrive = running.run(&format!(r#"{{"which": {{"all": true}}, "edit": {edit}}}"#)).await;
    let moved = running.messages("orders").await;
    assert!(moved.iter().all(|message| message.headers.text("type") == Some("order")));
    for (moved, before) in moved.iter().zip(&before) {
        let original = running.redrives.original(&redrive.id, &moved.id.to_string()).await.expect("kept");
        assert_eq!(&original.message, before);
    }
    // One is being worked on, and one was given back untried.
    let taken = running.take("orders", 2).await;
    let release = taken[1].settlement(Outcome::Released);
    running.broker.settle(Source::Queue(name("orders")), vec![release]).await.expect("released");
    running.redrives.undo(&redrive.id).await.expect("begun");
    let undone = running.reach(&redrive.id, |redrive| redrive.state == State::Undone).await;
    assert_eq!((undone.moved, undone.undone), (6, 5));
    assert_eq!(running.numbers("orders.dead").await, once(1..6));
    for mut back in running.messages("orders.dead").await {
        assert_eq!(back.headers.text(header::REDRIVE_UNDONE), Some(redrive.id.as_str()));
        back.headers.remove(header::REDRIVE_UNDONE);
        assert_eq!(Some(&back), before.iter().find(|message| message.id == back.id));
    }
    assert!(matches!(running.redrives.original(&redrive.id, "no-such").await, Err(Error::NotFound(_))));
}

#[tokio::test]
async fn an_undo_brings_nothing_to_a_queue_that_the_redrive_did_not_take_from() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = Running::start(dir.path());
    running.dying("orders").await;
    running.queue("vault", |_| ()).await;
    running.fail("orders", 0..2, stock_or_card).await;
    let redrive = running.run(r#"{"from": ["orders.dead"], "which": {"all": true}}"#).await;
    // Somebody who may publish to the target says of a message of his own that the redrive took it from elsewhere.
    let mut forged = running.messages("orders").await.remove(0);
    let place = ["vault", "", ""].map(|text| Value::String(text.into())).to_vec();
    forged.headers.set(header::REDRIVE_FROM, Value::List(place));
    running.broker.publish(name("orders"), vec![forged]).await.expect("published");
    running.redrives.undo(&redrive.id).await.expect("begun");
    let undone = running.reach(&redrive.id, |redrive| redrive.state == State::Undone).await;
    assert_eq!((undone.moved, undone.undone, undone.left()), (2, 2, 1), "{undone:?}");
    assert_eq!(running.numbers("vault").await, once([]));
    assert_eq!(running.numbers("orders.dead").await, once(0..2));
    assert_eq!(running.messages("orders").await.len(), 1);
}

#[tokio::test]
async fn whoever_goes_away_while_he_begins_a_redrive_takes_no_place_from_others() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = Running::start(dir.path());
    running.dying("orders").await;
    running.fail("orders", 0..2, stock_or_card).await;
    let all = r#"{"from": ["orders.dead"], "which": {"all": true}}"#;
    for _ in 0..ACTIVE_MAX {
        let begin = running.redrives.begin(spec(all), vec![name("orders.dead")], Maker::default());
        let mut begin = std::pin::pin!(begin);
        let is_pending =
            std::future::poll_fn(|cx| std::task::Poll::Ready(begin.as_mut().poll(cx).is_pending()));
        assert!(is_pending.await, "it is dropped midway");
    }
    assert_eq!(running.run(all).await.moved, 2);
}

#[tokio::test]
async fn a_redrive_keeps_to_its_rate_rests_goes_on_and_is_aborted() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = Running::start(dir.path());
    running.dying("orders").await;
    running.fail("orders", 0..200, stock_or_card).await;
    let begun = running.begin(r#"{"which": {"all": true}, "rate": 20}"#).await;
    running.reach(&begun.id, |redrive| redrive.moved >= 4).await;
    let rests = running.redrives.pause(&begun.id).await.expect("paused");
    assert!(rests.moved < 200 && rests.state == State::Paused, "{rests:?}");
    assert_eq!(running.numbers("orders").await.len() as u64, rests.moved);
    assert_eq!(running.redrives.pause(&begun.id).await.expect("again").moved, rests.moved);
    running.redrives.resume(&begun.id).await.expect("resumed");
    running.reach(&begun.id, |redrive| redrive.moved > rests.moved).await;
    let ended = running.redrives.abort(&begun.id).await.expect("aborted");
    assert!(ended.moved < 200, "{ended:?}");
    let refused = running.redrives.resume(&begun.id).await;
    assert!(matches!(refused, Err(Error::State { .. })), "{refused:?}");
    let count = running.numbers("orders").await.len() + running.numbers("orders.dead").await.len();
    assert_eq!(count, 200);
    running.redrives.undo(&begun.id).await.expect("undone");
    running.reach(&begun.id, |redrive| redrive.state == State::Undone).await;
    assert_eq!(running.numbers("orders.dead").await, once(0..200));
}

#[tokio::test]
async fn a_full_target_is_waited_for_and_what_others_take_meanwhile_is_left_to_them() {
    let dir = tempfile::tempdir().expect("a folder");
    let running = Running::start(dir.path());
    running.dying("orders").await;
    running.queue("small", |spec| spec.max_messages = Some(10)).await;
    running.fail("orders", 0..25, stock_or_card).await;
    let held = running.take("orders.dead", 3).await;
    let begun = running.begin(r#"{"which": {"all": true}, "to": "small"}"#).await;
    let mut got = BTreeMap::new();
    while got.len() < 22 {
        for delivery in running.take("small", 10).await {
            *got.entry(number(&delivery.message)).or_default() += 1;
            running.broker.accept(Source::Queue(name("small")), &delivery).await.expect("accepted");
        }
    }
    let ended = running.ended(&begun.id).await;
    assert_eq!((ended.moved, ended.left()), (22, 3));
    assert_eq!(got, once(3..25));
    assert_eq!(held.len(), 3);
}

#[tokio::test]
async fn nothing_is_lost_or_doubled_or_forgotten_when_the_server_dies_midway() {
    const COUNT: u64 = 6_000;
    let dir = tempfile::tempdir().expect("a folder");
    let mut running = Running::start(dir.path());
    running.dying("orders").await;
    running.fail("orders", 0..COUNT, stock_or_card).await;
    let begun =
        running.begin(r#"{"which": {"all": true}, "rate": 4000, "edit": {"set": {"mended": true}}}"#).await;
    for wanted in [1, 1_500, 3_000, 4_500] {
        running.reach(&begun.id, |redrive| redrive.moved >= wanted).await;
        running.crash().await;
        running = Running::start(dir.path());
    }
    let ended = running.ended(&begun.id).await;
    assert_eq!((ended.state, ended.moved, ended.left()), (State::Completed, COUNT, 0));
    assert_eq!(
        (running.numbers("orders").await, running.numbers("orders.dead").await),
        (once(0..COUNT), once([]))
    );
    running.redrives.undo(&begun.id).await.expect("begun");
    running.reach(&begun.id, |redrive| redrive.undone >= 1_000).await;
    running.crash().await;
    let running = Running::start(dir.path());
    let undone = running.reach(&begun.id, |redrive| redrive.state == State::Undone).await;
    assert_eq!(undone.undone, COUNT);
    assert_eq!(
        (running.numbers("orders").await, running.numbers("orders.dead").await),
        (once([]), once(0..COUNT))
    );
}
