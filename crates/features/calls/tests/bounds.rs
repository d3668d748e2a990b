//! Does each bound of the engine hold, at it and past it: by a refusal that names it, or by waiting?

mod common;

use common::{PATIENCE, Running, op, start};
use futures_util::future::join_all;
use tempfile::TempDir;
use waystation_base::{Clock, os::OsClock};
use waystation_calls::{CallId, Change, Error, Filter, Operation, Progress, RetryAs, State, limits::Limits};

fn running(dir: &TempDir, change: impl FnOnce(&mut Limits)) -> Running {
    let mut limits = Limits::default();
    change(&mut limits);
    Running::with(dir.path(), limits)
}

fn limit(what: &'static str, limit: u64) -> Option<Error> {
    Some(Error::Limit { what, limit })
}

#[tokio::test]
async fn past_so_many_calls_none_is_accepted_or_tried_anew_until_one_is_forgotten() {
    let dir = TempDir::new().expect("a folder");
    let running = running(&dir, |limits| limits.calls_max = 2);
    running.declare("op", Operation { retention_ms: 200, ..Operation::default() }).await;
    let first = running.call("op", "1").await;
    running.call("op", "2").await;
    assert_eq!(running.call_with("op", start("3")).await.err(), limit("calls", 2));
    running.calls.cancel(first).await.expect("cancelled");
    let retry = RetryAs { id: CallId(common::message("").id), now: OsClock.now() };
    let refused = running.calls.retry(first, retry).await.err();
    assert!(refused == limit("calls", 2) || refused == Some(Error::Gone), "{refused:?}");
    let accepted = async {
        while running.call_with("op", start("4")).await.is_err() {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, accepted).await.expect("the first is forgotten");
    // A restart keeps to the bound with what it finds.
    assert_eq!(running.call_with("op", start("5")).await.err(), limit("calls", 2));
    running.crash().await;
}

#[tokio::test]
async fn past_so_many_operations_none_is_declared_and_those_that_are_can_be_changed() {
    let dir = TempDir::new().expect("a folder");
    let running = running(&dir, |limits| limits.operations_max = 2);
    running.declare("a", Operation::default()).await;
    running.declare("b", Operation::default()).await;
    let declare = |name: &str, operation: Operation| {
        running.calls.declare(running.broker.clone(), op(name), operation, true)
    };
    assert_eq!(declare("c", Operation::default()).await.err(), limit("operations", 2));
    declare("b", Operation { timeout_ms: 5, ..Operation::default() }).await.expect("changed");
    running.calls.remove(running.broker.clone(), op("a")).await.expect("removed");
    declare("c", Operation::default()).await.expect("declared");
    running.crash().await;
}

#[tokio::test]
async fn so_many_changes_wait_for_one_call_and_the_next_is_refused() {
    let dir = TempDir::new().expect("a folder");
    let running = running(&dir, |limits| limits.waiting_max = 2);
    running.declare("op", Operation::default()).await;
    let id = running.call("op", "x").await;
    // One is on its way, two wait, and the fourth is one too many.
    let report = |percent| {
        let progress = Progress { percent: Some(percent), note: None };
        running.calls.change(id, Change::Progress { attempt: None, progress })
    };
    let all = join_all((1..=4).map(report)).await;
    assert!(all[..3].iter().all(Result::is_ok), "{all:?}");
    assert_eq!(all[3].clone().err(), limit("changes that wait for one call", 2));
    running.crash().await;
}

#[tokio::test]
async fn what_finds_no_room_on_the_way_waits_and_is_done_all_the_same() {
    let narrow: [fn(&mut Limits); 4] = [
        |limits| limits.flights_max = 1,
        |limits| limits.asks_max = 1,
        |limits| limits.timers_max = 1,
        |limits| limits.replies_held_max = 1,
    ];
    for change in narrow {
        let dir = TempDir::new().expect("a folder");
        let running = running(&dir, change);
        running.declare("op", Operation { timeout_ms: 400, ..Operation::default() }).await;
        let ids = join_all((0..20).map(|_| running.call("op", "x"))).await;
        join_all(ids[..10].iter().map(|id| running.reply(*id, &[], "ok"))).await;
        for (at, id) in ids.iter().enumerate() {
            let state = running.outcome(*id).await.record.state;
            assert!(state == State::Expired || at < 10 && state == State::Succeeded, "{at}: {state}");
        }
        let page = running.calls.list(Filter { max: 100, ..Filter::default() }).await.expect("a page");
        assert_eq!(page.calls.len(), 20);
        running.crash().await;
    }
}
