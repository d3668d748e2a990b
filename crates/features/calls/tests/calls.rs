//! Is a call durable, worked on, answered, and does it end with one outcome, whatever comes at once?

mod common;

use common::{PATIENCE, Running, complete, op, start, topic, with_key};
use tempfile::TempDir;
use waystation_base::{Name, Value, message::header as known, os::OsClock};
use waystation_broker::spec::{QueueSpec, Spec};
use waystation_calls::{
    Change, Error, Filter, Operation, Progress, Start, State,
    limits::{BODY_BYTES_MAX, TWINS_MAX},
    names::{self, CALLBACKS, LATE, header},
};

static OP: std::sync::OnceLock<Name> = std::sync::OnceLock::new();

#[tokio::test]
async fn any_queue_client_serves_a_call_by_a_reply() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    running.declare("op", Operation::default()).await;
    let headers = vec![("content-type".into(), Value::from("text/plain")), ("x-a".into(), "b".into())];
    let id = running.call_with("op", Start { headers, ..start("hello") }).await.expect("accepted").id;
    let seen = running.calls.see(id).await.expect("there");
    assert_eq!((seen.state, seen.place, seen.version), (State::Queued, Some(1), 1));
    let request = running.take("op").await.expect("a request").message;
    assert_eq!(&request.body[..], b"hello");
    let text = |name: &str| request.headers.text(name).map(str::to_owned);
    assert_eq!(text(known::CORRELATION_ID), Some(id.to_string()));
    assert_eq!(text(known::REPLY_TO).as_deref(), Some(names::REPLIES));
    assert_eq!((text("content-type").as_deref(), text("x-a").as_deref()), (Some("text/plain"), Some("b")));
    running.reply(id, &[(header::PROGRESS, "50".into())], "half").await;
    assert!(running.calls.wait(id, Some(1), PATIENCE).await.expect("a step"));
    let half = running.calls.show(id).await.expect("shown").record;
    let progress = Progress { percent: Some(50), note: Some("half".into()) };
    assert_eq!((half.state, half.progress), (State::Working, Some(progress)));
    running.reply(id, &[(header::STATUS, Value::I32(201)), ("x-c", "d".into())], "done").await;
    let call = running.outcome(id).await;
    assert_eq!((call.record.state, &call.body[..]), (State::Succeeded, &b"done"[..]));
    let result = call.record.result.expect("a result");
    assert_eq!((result.status, result.headers), (201, vec![("x-c".to_owned(), "d".to_owned())]));
    running.crash().await;
}

#[tokio::test]
async fn a_worker_pulls_reports_and_completes_and_the_request_leaves_the_queue() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    running.declare("op", Operation { queue: Some("work".into()), ..Operation::default() }).await;
    let id = running.call("op", "x").await;
    let work = running.receive("op").await.pop().expect("work");
    assert_eq!((work.id, work.attempt, &work.delivery.message.body[..]), (id, 1, &b"x"[..]));
    let progress = Progress { percent: Some(10), note: None };
    let told = running.calls.change(id, Change::Progress { attempt: Some(1), progress }).await;
    assert_eq!(told.expect("told").state, State::Working);
    running.calls.extend(id, Some(1), 60_000).await.expect("extended");
    assert_eq!(running.calls.extend(id, Some(2), 60_000).await, Err(Error::NotHeld(2)));
    assert_eq!(running.calls.change(id, complete(Some(2), 200, "")).await.err(), Some(Error::NotHeld(2)));
    running.calls.change(id, complete(Some(1), 200, "ok")).await.expect("completed");
    let queue = running.broker.queue(op("work")).await.expect("a queue");
    assert_eq!((queue.ready, queue.in_flight), (0, 0));
    assert_eq!(&running.outcome(id).await.body[..], b"ok");
    running.crash().await;
}

#[tokio::test]
async fn an_operation_gives_up_no_later_than_its_queue() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    let dead = Spec::Queue(QueueSpec::default());
    running.broker.declare(op("dead"), dead, false, Default::default()).await.expect("declared");
    let spec =
        QueueSpec { max_attempts: Some(3), dead_letter: Some("dead".to_owned()), ..QueueSpec::default() };
    running.broker.declare(op("work"), Spec::Queue(spec), false, Default::default()).await.expect("declared");
    let operation =
        |max_attempts| Operation { queue: Some("work".into()), max_attempts, ..Operation::default() };
    let refused = running.calls.declare(running.broker.clone(), op("op"), operation(4), false).await;
    let Err(Error::Spec(error)) = refused else { panic!("{refused:?}") };
    assert_eq!(error.field, "max_attempts");
    assert!(error.reason.contains("'work' gives up after 3 attempts"), "{}", error.reason);
    running.declare("op", operation(3)).await;
    running.crash().await;
}

#[tokio::test]
async fn a_failed_attempt_is_tried_again_and_the_last_one_is_the_calls() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    running.declare("op", Operation { max_attempts: 2, ..Operation::default() }).await;
    let id = running.call("op", "x").await;
    for attempt in 1..=2 {
        let work = running.receive("op").await.pop().expect("work");
        assert_eq!(work.attempt, attempt);
        let error = format!("no {attempt}");
        let fail = Change::Fail { attempt: Some(attempt), error, retry: true, delay_ms: 0 };
        let changed = running.calls.change(id, fail).await.expect("noted");
        let expected = if attempt == 1 { State::Queued } else { State::Failed };
        assert_eq!(changed.state, expected);
    }
    let record = running.outcome(id).await.record;
    assert_eq!(record.fault.map(|fault| fault.detail), Some("no 2".into()));
    running.crash().await;
}

#[tokio::test]
async fn a_call_whose_workers_die_goes_to_the_next_and_at_last_to_the_dead_letters() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    let queue = QueueSpec { dead_letter: Some("dead".into()), ..QueueSpec::default() };
    for (name, spec) in [("dead", QueueSpec::default()), ("op", queue)] {
        let declared = running.broker.declare(op(name), Spec::Queue(spec), false, Default::default());
        declared.await.expect("declared");
    }
    running.declare("op", Operation { max_attempts: 2, ..Operation::default() }).await;
    let id = running.call("op", "x").await;
    let take = |lease_ms| {
        let wait = std::time::Duration::from_secs(5);
        running.calls.receive(OP.get_or_init(|| op("op")), 1, wait, Some(lease_ms), &OsClock)
    };
    for attempt in 1..=2 {
        let work = take(20).await.expect("received").pop().expect("work");
        assert_eq!((work.id, work.attempt), (id, attempt));
    }
    // The earlier worker's result would have counted until now, and the later one's until the next takes it.
    let nobody = take(20).await.expect("received");
    assert!(nobody.is_empty(), "{nobody:?}");
    let record = running.outcome(id).await.record;
    assert_eq!((record.state, record.attempt), (State::Failed, 2));
    assert_eq!(&running.take("dead").await.expect("a dead letter").message.body[..], b"x");
    running.crash().await;
}

#[tokio::test]
async fn a_failed_calls_request_is_a_dead_letter_wherever_its_message_was_when_it_failed() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    let queue = QueueSpec { dead_letter: Some("dead".into()), ..QueueSpec::default() };
    for (name, spec) in [("dead", QueueSpec::default()), ("op", queue)] {
        let declared = running.broker.declare(op(name), Spec::Queue(spec), false, Default::default());
        declared.await.expect("declared");
    }
    running.declare("op", Operation::default()).await;
    let id = running.call("op", "x").await;
    // Nobody holds it.
    let fail = Change::Fail { attempt: None, error: "no".into(), retry: false, delay_ms: 0 };
    let changed = running.calls.change(id, fail).await.expect("failed");
    assert_eq!(changed.state, State::Failed);
    let wait = std::time::Duration::from_millis(1);
    let nobody = running.calls.receive(&op("op"), 1, wait, Some(30_000), &OsClock).await.expect("received");
    assert!(nobody.is_empty(), "{nobody:?}");
    assert_eq!(running.take("dead").await.expect("a dead letter").message.id, id.0);
    running.crash().await;
}

#[tokio::test]
async fn a_cancelled_call_is_not_handed_out_and_a_late_result_is_kept_as_a_fact() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    running.declare("op", Operation::default()).await;
    let (first, second) = (running.call("op", "1").await, running.call("op", "2").await);
    let cancelled = running.calls.cancel(first).await.expect("cancelled");
    assert_eq!((cancelled.is_cancelled, cancelled.before), (true, State::Queued));
    let again = running.calls.cancel(first).await.expect("known");
    assert_eq!((again.is_cancelled, again.state), (false, State::Cancelled));
    assert_eq!(running.receive("op").await.pop().expect("work").id, second);
    let late = running.calls.change(first, complete(None, 200, "late")).await;
    assert_eq!(late.err(), Some(Error::Closed(State::Cancelled)));
    running.reply(first, &[], "later").await;
    running.reply(common::start("").id, &[], "whose").await;
    let mut found = Vec::new();
    common::message("");
    while found.len() < 3 {
        found = topic(&running.broker, LATE).await;
        tokio::task::yield_now().await;
    }
    let of = |at: usize| {
        let message = &found[at].message;
        (message.body.clone(), message.headers.text(header::LATE_STATE).map(str::to_owned))
    };
    assert_eq!(of(0), ("late".into(), Some("cancelled".into())));
    assert_eq!(of(1), ("later".into(), Some("cancelled".into())));
    assert_eq!(of(2), ("whose".into(), Some("unknown".into())));
    assert_eq!(running.calls.see(first).await.expect("there").state, State::Cancelled);
    assert!(running.calls.figures().contains("late_results_total 3"), "{}", running.calls.figures());
    running.crash().await;
}

#[tokio::test]
async fn a_call_expires_and_is_forgotten_in_time_also_after_a_crash() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    let operation = Operation { timeout_ms: 300, retention_ms: 400, ..Operation::default() };
    running.declare("op", operation).await;
    let id = running.call("op", "x").await;
    running.crash().await;
    let running = Running::start(dir.path());
    let call = running.outcome(id).await;
    assert_eq!(call.record.state, State::Expired);
    assert_eq!(call.record.fault.map(|fault| fault.status), Some(504));
    let gone = async {
        while running.calls.see(id).await != Err(Error::Gone) {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("forgotten");
    running.crash().await;
    let running = Running::start(dir.path());
    assert_eq!(running.calls.see(id).await, Err(Error::Gone));
    running.crash().await;
}

#[tokio::test]
async fn one_idempotency_key_is_one_call_at_once_later_and_after_a_crash() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    running.declare("op", Operation::default()).await;
    let all = (0..TWINS_MAX + 1).map(|_| running.call_with("op", with_key("x", "k")));
    let all = futures_util::future::join_all(all).await;
    let started: Vec<_> = all.into_iter().map(|it| it.expect("accepted")).collect();
    assert_eq!(started.iter().filter(|it| !it.is_replay).count(), 1);
    assert!(started.iter().all(|it| it.id == started[0].id));
    assert_eq!(running.call_with("op", with_key("y", "k")).await.err(), Some(Error::KeyReused));
    running.crash().await;
    let running = Running::start(dir.path());
    let again = running.call_with("op", with_key("x", "k")).await.expect("found");
    assert_eq!((again.id, again.is_replay), (started[0].id, true));
    assert_eq!(running.call_with("op", with_key("y", "k")).await.err(), Some(Error::KeyReused));
    assert_eq!(running.broker.queue(op("op")).await.expect("a queue").ready, 1);
    running.crash().await;
}

#[tokio::test]
async fn a_finished_call_asks_for_its_callback_in_the_same_step() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    let allow = vec!["https://*.example.com/*".parse().expect("a pattern")];
    running.declare("op", Operation { callback_allow: allow, ..Operation::default() }).await;
    let to = |url: &str| Start { callback: Some(url.into()), ..start("x") };
    for url in ["https://evil.com/", "http://127.0.0.1/", "nonsense"] {
        let refused = running.call_with("op", to(url)).await;
        assert!(matches!(refused, Err(Error::Callback(_))), "{url}");
    }
    let id = running.call_with("op", to("https://a.example.com/hook")).await.expect("accepted").id;
    running.reply(id, &[("content-type", "application/json".into())], r#"{"n":1}"#).await;
    running.outcome(id).await;
    let message = running.take(CALLBACKS).await.expect("a callback").message;
    assert_eq!(message.headers.text(header::CALLBACK_URL), Some("https://a.example.com/hook"));
    assert_eq!(message.headers.text(header::WEBHOOK_ID), Some(id.to_string().as_str()));
    let body: serde_json::Value = serde_json::from_slice(&message.body).expect("JSON");
    assert_eq!((&body["type"], &body["data"]["state"]), (&"call.succeeded".into(), &"succeeded".into()));
    assert_eq!(body["data"]["result"]["body"]["n"], 1);
    running.crash().await;
}

#[tokio::test]
async fn what_comes_at_once_for_one_call_has_one_outcome() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    let allow = vec!["https://a.example.com/*".parse().expect("a pattern")];
    let callback = Some("https://a.example.com/x".to_owned());
    let operation = Operation { timeout_ms: 150, callback_allow: allow, callback, ..Operation::default() };
    running.declare("op", operation).await;
    let mut ids = Vec::new();
    for round in 0..60u64 {
        let id = running.call("op", "x").await;
        ids.push(id);
        let pause = std::time::Duration::from_millis(round * 3);
        let wait = || tokio::time::sleep(pause);
        let by_pull = async {
            wait().await;
            running.calls.change(id, complete(None, 200, "pull")).await.is_ok()
        };
        let by_cancel = async {
            wait().await;
            running.calls.cancel(id).await.is_ok_and(|it| it.is_cancelled)
        };
        let by_reply = async {
            wait().await;
            running.reply(id, &[], "reply").await;
        };
        let (pulled, cancelled, ()) = tokio::join!(by_pull, by_cancel, by_reply);
        let call = running.outcome(id).await;
        let said = match call.record.state {
            State::Succeeded if &call.body[..] == b"pull" => (true, false),
            State::Cancelled => (false, true),
            State::Succeeded | State::Expired => (false, false),
            other => panic!("{other}"),
        };
        assert_eq!((pulled, cancelled), said, "{:?}", call.record);
    }
    let mut finals = std::collections::HashMap::new();
    for delivery in topic(&running.broker, names::CALLS).await {
        let line = delivery.message.body.split(|byte| *byte == b'\n').next().expect("a line").to_vec();
        let record: waystation_calls::Record = serde_json::from_slice(&line).expect("a record");
        *finals.entry(record.id).or_insert(0) += u32::from(record.state.is_finished());
    }
    assert!(ids.iter().all(|id| finals[id] == 1), "{finals:?}");
    for _ in &ids {
        running.take(CALLBACKS).await.expect("one callback for each");
    }
    let queue = waystation_base::Name::reserved(CALLBACKS).expect("a name");
    assert_eq!(running.broker.queue(queue).await.expect("a queue").ready, 0);
    running.crash().await;
}

#[tokio::test]
async fn calls_go_on_after_a_crash_where_they_were() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    running.declare("op", Operation::default()).await;
    let (working, done, waits) =
        (running.call("op", "1").await, running.call("op", "2").await, running.call("op", "3").await);
    assert_eq!(running.receive("op").await.pop().expect("work").id, working);
    assert_eq!(running.receive("op").await.pop().expect("work").id, done);
    running.calls.change(done, complete(Some(1), 200, "two")).await.expect("completed");
    running.crash().await;
    let running = Running::start(dir.path());
    assert_eq!(&running.outcome(done).await.body[..], b"two");
    let seen = running.calls.see(working).await.expect("there");
    assert_eq!((seen.state, seen.attempt), (State::Working, 1));
    running.calls.change(working, complete(Some(1), 200, "one")).await.expect("completed");
    assert_eq!(running.calls.see(waits).await.expect("there").place, Some(1));
    running.reply(waits, &[], "three").await;
    assert_eq!(&running.outcome(waits).await.body[..], b"three");
    let page = running.calls.list(Filter { max: 10, ..Filter::default() }).await.expect("a page");
    assert_eq!(page.calls.len(), 3);
    running.crash().await;
}

#[tokio::test]
async fn a_call_stays_with_its_queue_whatever_becomes_of_its_operation() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    running.declare("op", Operation { queue: Some("old".into()), ..Operation::default() }).await;
    let (moved, left) = (running.call("op", "1").await, running.call("op", "2").await);
    assert_eq!(running.receive("op").await.pop().expect("work").id, moved);
    assert_eq!(running.receive("op").await.pop().expect("work").id, left);
    let new = Operation { queue: Some("new".into()), ..Operation::default() };
    running.calls.declare(running.broker.clone(), op("op"), new, true).await.expect("changed");
    // The same tag and attempt are held on the new queue: they are another call's.
    let other = running.call("op", "3").await;
    assert_eq!(running.receive("op").await.pop().expect("work").id, other);
    running.calls.extend(moved, Some(1), 60_000).await.expect("extended");
    running.calls.change(moved, complete(Some(1), 200, "one")).await.expect("completed");
    assert_eq!(running.broker.queue(op("new")).await.expect("a queue").in_flight, 1);
    running.calls.remove(running.broker.clone(), op("op")).await.expect("removed");
    running.calls.change(left, complete(Some(1), 200, "two")).await.expect("completed");
    running.calls.change(other, complete(Some(1), 200, "three")).await.expect("completed");
    for queue in ["old", "new"] {
        let queue = running.broker.queue(op(queue)).await.expect("a queue");
        assert_eq!((queue.ready, queue.in_flight), (0, 0), "{}", queue.name);
    }
    running.crash().await;
}

#[tokio::test]
async fn what_cannot_be_started_is_refused_with_the_reason() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    let missing = running.call_with("op", start("")).await;
    assert_eq!(missing.err(), Some(Error::NoOperation("op".into())));
    running.declare("op", Operation { body_bytes_max: 4, ..Operation::default() }).await;
    assert!(running.call_with("op", start("1234")).await.is_ok());
    let large = running.call_with("op", start("12345")).await;
    assert_eq!(large.err(), Some(Error::TooLarge { limit: 4 }));
    let declare =
        |operation, change| running.calls.declare(running.broker.clone(), op("op"), operation, change);
    let differs = declare(Operation::default(), false).await;
    assert_eq!(differs.err(), Some(Error::Differs("op".into())));
    let wrong = Operation { body_bytes_max: BODY_BYTES_MAX + 1, ..Operation::default() };
    assert!(matches!(declare(wrong, true).await, Err(Error::Spec(_))));
    declare(Operation::default(), true).await.expect("changed");
    assert!(running.call_with("op", start("12345")).await.is_ok());
    running.calls.remove(running.broker.clone(), op("op")).await.expect("removed");
    assert!(running.call_with("op", start("")).await.is_err());
    running.crash().await;
    let running = Running::start(dir.path());
    assert!(running.calls.operation(&op("op")).await.is_err());
    running.crash().await;
}
