//! Does each call have one outcome and one callback whatever comes at once: workers, replies, cancellations, deadlines, retries, crashes?
//! What comes, and when, is drawn from a seed; a failure prints it. `CALLS_SEED=n` runs that one.

mod common;

use std::{collections::HashMap, time::Duration};

use common::{PATIENCE, Running, complete, topic};
use futures_util::future::join_all;
use tempfile::TempDir;
use waystation_base::{Clock, Name, os::OsClock};
use waystation_calls::{
    CallId, Change, Error, Filter, Operation, Progress, Record, RetryAs, State,
    names::{self, CALLBACKS},
};

const SEEDS: u64 = 6;
const ROUNDS: u64 = 12;
const ACTORS: u64 = 24;

/// Numbers that look like chance (SplitMix64).
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut next = self.0;
        next = (next ^ (next >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        next = (next ^ (next >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (next ^ (next >> 31)) % bound
    }
}

/// What somebody was told is a call's outcome.
type Told = HashMap<CallId, Vec<(State, String)>>;

fn operation() -> Operation {
    let allow = vec!["https://a.example.com/*".parse().expect("a pattern")];
    let callback = Some("https://a.example.com/x".to_owned());
    Operation { callback_allow: allow, callback, max_attempts: 3, ..Operation::default() }
}

/// Does one thing to a call; gives what it was told the outcome is, if it was.
async fn act(
    running: &Running,
    id: CallId,
    what: u64,
    pause_us: u64,
    mark: String,
) -> Option<(State, String)> {
    tokio::time::sleep(Duration::from_micros(pause_us)).await;
    let fail = |retry| Change::Fail { attempt: None, error: mark.clone(), retry, delay_ms: 0 };
    match what {
        0 | 1 => {
            let done = running.calls.change(id, complete(None, 200, &mark)).await;
            return done.is_ok().then(|| (State::Succeeded, mark.clone()));
        }
        2 => {
            let done = running.calls.cancel(id).await;
            return done.is_ok_and(|it| it.is_cancelled).then(|| (State::Cancelled, String::new()));
        }
        3 => {
            let done = running.calls.change(id, fail(false)).await;
            return done.is_ok_and(|it| it.state == State::Failed).then(|| (State::Failed, String::new()));
        }
        4 => drop(running.calls.change(id, fail(true)).await),
        5 => running.reply(id, &[], &mark).await,
        6 => drop(running.calls.change(id, Change::Expire).await),
        7 => {
            let progress = Progress { percent: Some(50), note: None };
            drop(running.calls.change(id, Change::Progress { attempt: None, progress }).await);
        }
        _ => {
            let retry = RetryAs { id: CallId(common::message("").id), now: OsClock.now() };
            drop(running.calls.retry(id, retry).await);
        }
    }
    None
}

async fn all_calls(running: &Running) -> Vec<(CallId, State)> {
    let filter = Filter { max: 10_000, ..Filter::default() };
    let page = running.calls.list(filter).await.expect("a page");
    page.calls.into_iter().map(|call| (call.id, call.state)).collect()
}

/// One story; what it was told, and the calls at its end.
async fn story(seed: u64) -> (Told, Running, TempDir) {
    let (mut chance, mut told) = (Chance(seed), Told::new());
    let dir = TempDir::new().expect("a folder");
    let mut running = Running::start(dir.path());
    running.declare("op", operation()).await;
    for round in 0..ROUNDS {
        for _ in 0..1 + chance.below(3) {
            running.call("op", "x").await;
        }
        let calls = all_calls(&running).await;
        let drawn: Vec<_> = (0..ACTORS)
            .map(|actor| {
                let id = calls[chance.below(calls.len() as u64) as usize].0;
                (id, chance.below(10), chance.below(3_000), format!("{round}-{actor}"))
            })
            .collect();
        let crash_us = chance.below(4).eq(&0).then(|| chance.below(3_000));
        let actors = drawn.into_iter().map(|(id, what, pause_us, mark)| {
            let running = &running;
            async move { (id, act(running, id, what, pause_us, mark).await) }
        });
        let mut heard = Vec::new();
        // Whoever has not heard by the crash was told nothing.
        let acting = futures_util::StreamExt::for_each(
            actors.collect::<futures_util::stream::FuturesUnordered<_>>(),
            |one| {
                heard.push(one);
                std::future::ready(())
            },
        );
        let patience = crash_us.map_or(PATIENCE, Duration::from_micros);
        let is_over = tokio::time::timeout(patience, acting).await.is_ok();
        assert!(is_over || crash_us.is_some(), "seed {seed}: somebody never heard");
        for (id, outcome) in heard {
            told.entry(id).or_default().extend(outcome);
        }
        if crash_us.is_some() {
            running.crash().await;
            running = Running::start(dir.path());
            running.calls.ready().await;
        }
    }
    (told, running, dir)
}

/// All records of each call, in order.
async fn records(running: &Running) -> HashMap<CallId, Vec<(Record, String)>> {
    let mut all: HashMap<CallId, Vec<_>> = HashMap::new();
    for delivery in topic(&running.broker, names::CALLS).await {
        let mut parts = delivery.message.body.splitn(2, |byte| *byte == b'\n');
        let record: Record = serde_json::from_slice(parts.next().expect("a line")).expect("a record");
        let body = String::from_utf8_lossy(parts.next().expect("a body")).into_owned();
        all.entry(record.id).or_default().push((record, body));
    }
    all
}

async fn check(seed: u64) {
    let (told, running, _dir) = story(seed).await;
    let open: Vec<_> =
        all_calls(&running).await.into_iter().filter(|(_, state)| !state.is_finished()).collect();
    let ended = join_all(open.iter().map(|(id, _)| running.outcome(*id)));
    let cancel = join_all(open.iter().map(|(id, _)| running.calls.cancel(*id)));
    tokio::join!(ended, cancel);
    let records = records(&running).await;
    for (id, all) in &records {
        let finals: Vec<_> = all.iter().filter(|(record, _)| record.state.is_finished()).collect();
        let (outcome, body) = finals.first().unwrap_or_else(|| panic!("seed {seed}: {id} never ended"));
        for (again, same) in &finals {
            // A call that is tried anew is written once more, with its outcome as it was.
            let is_same = again.state == outcome.state && again.finished == outcome.finished && same == body;
            assert!(is_same, "seed {seed}: {id} has two outcomes: {outcome:?} and {again:?}");
        }
        assert!(
            finals.len() <= 2 && (finals.len() == 1 || finals[1].0.retried_as.is_some()),
            "seed {seed}: {finals:?}"
        );
        let said = told.get(id).map_or(&[][..], Vec::as_slice);
        assert!(said.len() <= 1, "seed {seed}: {id}: several were told that theirs is the outcome: {said:?}");
        for (state, mark) in said {
            assert_eq!((outcome.state, body), (*state, mark), "seed {seed}: {id}");
        }
        if let Some(new) = finals.last().and_then(|(record, _)| record.retried_as) {
            let first = &records.get(&new).unwrap_or_else(|| panic!("seed {seed}: {new} is not there"))[0].0;
            assert_eq!(first.retry_of, Some(*id), "seed {seed}: {new}");
        }
    }
    let of = |id: &CallId| records[id].iter().any(|(record, _)| record.retry_of.is_some());
    let (anew, tried) = (records.keys().filter(|id| of(id)).count(), records.values());
    let tried = tried.filter(|all| all.iter().any(|(record, _)| record.retried_as.is_some())).count();
    assert_eq!(anew, tried, "seed {seed}: each that was tried anew has one that does so");
    let mut callbacks: HashMap<String, usize> = HashMap::new();
    let queue = Name::reserved(CALLBACKS).expect("a name");
    for _ in 0..running.broker.queue(queue.clone()).await.expect("a queue").ready {
        let message = running.take(CALLBACKS).await.expect("a callback").message;
        let id = message.headers.text(names::header::WEBHOOK_ID).expect("an id").to_owned();
        *callbacks.entry(id).or_default() += 1;
    }
    for id in records.keys() {
        assert_eq!(callbacks.get(&id.to_string()), Some(&1), "seed {seed}: callbacks of {id}");
    }
    assert_eq!(callbacks.len(), records.len(), "seed {seed}");
    let gone = running.calls.see(CallId(common::message("").id)).await;
    assert_eq!(gone.err(), Some(Error::NoCall));
    running.crash().await;
}

#[tokio::test]
async fn each_call_has_one_outcome_and_one_callback_whatever_comes_at_once() {
    let chosen = std::env::var("CALLS_SEED").ok().and_then(|text| text.parse().ok());
    for seed in chosen.map_or(0..SEEDS, |seed| seed..seed + 1) {
        println!("seed {seed}");
        check(seed).await;
    }
}
