//! Is a call that ended badly tried anew as it was, once, by a call that each of both shows?

mod common;

use common::{Running, complete, op, start, topic, with_key};
use futures_util::future::join_all;
use tempfile::TempDir;
use waystation_base::{Clock, MessageId, Millis, Value, os::OsClock};
use waystation_calls::{
    CallId, Change, Error, Filter, Operation, RetryAs, Start, State,
    names::{self, CALLBACKS},
};

fn retry() -> RetryAs {
    let id = CallId(common::message("").id);
    RetryAs { id, now: OsClock.now() }
}

fn fail() -> Change {
    Change::Fail { attempt: None, error: "no".into(), retry: false, delay_ms: 0 }
}

#[tokio::test]
async fn a_failed_call_is_tried_anew_with_all_that_its_request_had() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    let allow = vec!["https://a.example.com/*".parse().expect("a pattern")];
    running.declare("op", Operation { callback_allow: allow, ..Operation::default() }).await;
    let headers = vec![("content-type".into(), Value::from("text/plain")), ("x-n".into(), Value::I32(3))];
    let callback = Some("https://a.example.com/hook".to_owned());
    let key = Some(bytes::Bytes::from_static(b"k"));
    let asked = Start { headers, callback, key, caller: Some("shop".into()), ..start("hello") };
    let id = running.call_with("op", asked).await.expect("accepted").id;
    let first = running.receive("op").await.pop().expect("work").delivery.message;
    running.calls.change(id, fail()).await.expect("failed");
    let retry = retry();
    let again = running.calls.retry(id, retry).await.expect("tried anew");
    assert_eq!((again.id, again.is_replay), (retry.id, false));
    let work = running.receive("op").await.pop().expect("work");
    let second = work.delivery.message;
    assert_eq!((work.id, work.attempt, &second.body), (again.id, 1, &first.body));
    assert_eq!((&second.key, second.headers.get("x-n")), (&first.key, first.headers.get("x-n")));
    assert_eq!(second.headers.0.len(), first.headers.0.len(), "{:?}", second.headers);
    running.calls.change(again.id, complete(None, 200, "done")).await.expect("completed");
    let (old, new) = (running.outcome(id).await.record, running.outcome(again.id).await.record);
    assert_eq!((old.state, old.retried_as, old.version), (State::Failed, Some(again.id), 4));
    assert_eq!((new.state, new.retry_of), (State::Succeeded, Some(id)));
    assert_eq!((new.callback, new.caller.as_deref()), (old.callback, Some("shop")));
    let calls = [id, again.id].map(|id| id.to_string());
    for id in calls {
        let callback = running.take(CALLBACKS).await.expect("one for each call").message;
        assert_eq!(callback.headers.text(names::header::WEBHOOK_ID), Some(id.as_str()));
    }
    running.crash().await;
}

#[tokio::test]
async fn whoever_asks_at_once_and_again_hears_of_one_new_call_also_after_a_crash() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    running.declare("op", Operation::default()).await;
    let id = running.call_with("op", with_key("x", "k")).await.expect("accepted").id;
    running.calls.cancel(id).await.expect("cancelled");
    let all = join_all((0..20).map(|_| running.calls.retry(id, retry()))).await;
    let all: Vec<_> = all.into_iter().map(|it| it.expect("tried anew")).collect();
    assert_eq!(all.iter().filter(|it| !it.is_replay).count(), 1);
    assert!(all.iter().all(|it| it.id == all[0].id));
    running.crash().await;
    let running = Running::start(dir.path());
    let later = running.calls.retry(id, retry()).await.expect("known");
    assert_eq!((later.id, later.is_replay), (all[0].id, true));
    let twin = running.call_with("op", with_key("x", "k")).await.expect("known");
    assert_eq!(twin.id, id, "the key stays with the call that it came with");
    let filter = |is_retried| Filter { is_retried: Some(is_retried), max: 9, ..Filter::default() };
    for (is_retried, expected) in [(true, id), (false, all[0].id)] {
        let page = running.calls.list(filter(is_retried)).await.expect("a page");
        assert_eq!(page.calls.iter().map(|call| call.id).collect::<Vec<_>>(), [expected]);
    }
    running.crash().await;
}

#[tokio::test]
async fn a_request_is_found_after_a_crash_whether_its_call_took_a_step_before_or_not() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    running.declare("op", Operation::default()).await;
    let (stepped, fresh) = (running.call("op", "stepped").await, running.call("op", "fresh").await);
    running.calls.cancel(stepped).await.expect("cancelled");
    running.crash().await;
    let running = Running::start(dir.path());
    running.calls.cancel(fresh).await.expect("cancelled");
    for (id, body) in [(stepped, "stepped"), (fresh, "fresh")] {
        let again = running.calls.retry(id, retry()).await.expect("tried anew").id;
        let work = running.receive("op").await.pop().expect("work");
        assert_eq!((work.id, &work.delivery.message.body[..]), (again, body.as_bytes()));
    }
    running.crash().await;
}

#[tokio::test]
async fn what_cannot_be_tried_anew_says_why() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    running.declare("op", Operation::default()).await;
    running.declare("bare", Operation { keep_requests: false, ..Operation::default() }).await;
    let id = running.call("op", "x").await;
    assert_eq!(running.calls.retry(id, retry()).await.err(), Some(Error::Open(State::Queued)));
    running.calls.change(id, complete(None, 200, "")).await.expect("completed");
    assert_eq!(running.calls.retry(id, retry()).await.err(), Some(Error::Succeeded));
    let bare = running.call("bare", "x").await;
    running.calls.cancel(bare).await.expect("cancelled");
    assert_eq!(running.calls.retry(bare, retry()).await.err(), Some(Error::NoRequest));
    let unknown = CallId(MessageId::new(Millis(1), 1));
    assert_eq!(running.calls.retry(unknown, retry()).await.err(), Some(Error::NoCall));
    let left = running.call("op", "x").await;
    running.calls.cancel(left).await.expect("cancelled");
    running.calls.remove(running.broker.clone(), op("op")).await.expect("removed");
    assert_eq!(running.calls.retry(left, retry()).await.err(), Some(Error::NoOperation("op".into())));
    running.crash().await;
}

#[tokio::test]
async fn a_request_is_kept_until_its_call_has_succeeded_or_is_forgotten() {
    let dir = TempDir::new().expect("a folder");
    let running = Running::start(dir.path());
    running.declare("op", Operation { retention_ms: 300, ..Operation::default() }).await;
    let (good, bad) = (running.call("op", "good").await, running.call("op", "bad").await);
    running.calls.change(good, complete(None, 200, "")).await.expect("completed");
    running.calls.cancel(bad).await.expect("cancelled");
    while running.calls.see(bad).await != Err(Error::Gone) {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    let kept = topic(&running.broker, names::REQUESTS).await;
    let bodies: Vec<_> = kept.iter().map(|it| std::str::from_utf8(&it.message.body).expect("text")).collect();
    assert_eq!(bodies, ["good", "bad", "", ""], "each is kept and then dropped, by its key");
    assert!(kept[2].message.key == kept[0].message.key && kept[3].message.key == kept[1].message.key);
    assert_eq!(running.calls.retry(bad, retry()).await.err(), Some(Error::Gone));
    running.crash().await;
}
