//! Who acts on calls: callers, workers of all kinds, those who cancel, those who try anew, and those who look.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use waystation_base::{Clock, Message, Millis, Name, message::header as known};
use waystation_broker::Source;
use waystation_calls::{
    Answer, AttemptEnd, CallId, Calls, Change, Error, Fault, Filter, Held, Key, Progress, RetryAs, Start,
    State, names::REPLIES,
};
use waystation_host::Broker;
use waystation_testkit::random::Random;

use crate::world::{Ids, OPERATIONS, Told, World, name};

/// What one actor does, one after the other.
const DEEDS_MAX: u64 = 10;
/// Milliseconds of a lease: some run out.
const LEASE_MS: u64 = 9;

pub struct Actor {
    broker: Broker,
    calls: Calls,
    clock: Arc<dyn Clock>,
    told: Arc<Mutex<Told>>,
    ids: Ids,
    random: Random,
}

impl Actor {
    pub fn new(world: &World, random: Random) -> Actor {
        let life = world.life();
        Actor {
            broker: life.broker.clone(),
            calls: life.calls.clone(),
            clock: life.clock.clone(),
            told: world.told.clone(),
            ids: world.ids(),
            random,
        }
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pause(&mut self) -> Duration {
        Duration::from_millis(self.random.below(8))
    }

    fn now(&self) -> Millis {
        self.clock.now()
    }

    /// A text that nobody else gives.
    fn mark(&mut self) -> String {
        format!("{:x}", self.random.any())
    }

    pub async fn act(mut self) {
        for _ in 0..self.random.range(1, DEEDS_MAX) {
            let pause = self.pause();
            tokio::time::sleep(pause).await;
            match self.random.below(12) {
                0..=3 => self.call().await,
                4 | 5 => self.pull().await,
                6 => self.attempt().await,
                7 => self.reply().await,
                8 => self.complete_unasked().await,
                9 => self.cancel().await,
                10 => self.retry().await,
                _ => self.look().await,
            }
        }
    }

    async fn call(&mut self) {
        let operation = *self.random.pick(&OPERATIONS).expect("an operation");
        let number = self.random.below(6) as u8;
        let body = if self.random.one_in(5) { "other" } else { "x" };
        let key = Key::new(&number.to_string(), "op", "me", "", body.as_bytes()).expect("a key");
        let has_key = operation == "op" && self.random.one_in(2);
        let start = Start {
            id: self.ids.next(),
            now: self.now(),
            body: body.into(),
            idempotency: has_key.then_some(key),
            correlation_id: self.random.one_in(3).then(|| "c".to_owned()),
            ..Start::default()
        };
        match self.calls.start(name(operation), start).await {
            Ok(started) => {
                let mut told = self.told();
                told.accepted.push(started.id);
                told.replayed += u64::from(started.is_replay);
                if has_key && body == "x" {
                    told.keys.entry(number).or_default().push(started.id);
                }
            }
            Err(error) => assert_eq!(error, Error::KeyReused),
        }
    }

    async fn any_call(&mut self) -> Option<CallId> {
        let page = self.calls.list(Filter { max: 1_000, ..Filter::default() }).await.expect("a page");
        self.random.pick(&page.calls).map(|seen| seen.id)
    }

    fn is_told(&self, id: CallId, state: State, mark: String) {
        self.told().outcomes.entry(id).or_default().push((state, mark));
    }

    /// A worker that receives under a lease, and may be slow, fail, or never come back.
    async fn pull(&mut self) {
        let operation = name(self.random.pick(&OPERATIONS).expect("an operation"));
        let clock = self.clock.clone();
        let wait = Duration::from_millis(10);
        let work =
            self.calls.receive(&operation, 2, wait, Some(LEASE_MS), clock.as_ref()).await.expect("received");
        for work in work {
            let pause = self.pause() * 2;
            tokio::time::sleep(pause).await;
            let (id, attempt) = (work.id, Some(work.attempt));
            match self.random.below(7) {
                0 => {}
                1 => {
                    let progress = Progress { percent: Some(40), note: None };
                    // It may be another's by now, or over.
                    let _ = self.calls.change(id, Change::Progress { attempt, progress }).await;
                    self.complete(id, attempt).await;
                }
                2 => self.fail(id, attempt, true).await,
                3 => self.fail(id, attempt, false).await,
                _ => self.complete(id, attempt).await,
            }
        }
    }

    async fn complete(&mut self, id: CallId, attempt: Option<u32>) {
        let mark = self.mark();
        let answer = Answer { status: 200, body: mark.clone().into(), ..Answer::default() };
        match self.calls.change(id, Change::Complete { attempt, answer }).await {
            Ok(changed) => self.is_told(id, changed.state, mark),
            Err(error) => assert_is_late(&error),
        }
    }

    async fn complete_unasked(&mut self) {
        if let Some(id) = self.any_call().await {
            self.complete(id, None).await;
        }
    }

    async fn fail(&mut self, id: CallId, attempt: Option<u32>, retry: bool) {
        let error = self.mark();
        let delay_ms = self.random.below(5);
        match self.calls.change(id, Change::Fail { attempt, error, retry, delay_ms }).await {
            Ok(changed) if changed.state.is_finished() => self.is_told(id, changed.state, String::new()),
            Ok(_) => {}
            Err(error) => assert_is_late(&error),
        }
    }

    /// An attempt as upstreams make it: taken from the queue, and told of at its end, or never.
    async fn attempt(&mut self) {
        let queue = name(self.random.pick(&OPERATIONS).expect("an operation"));
        let (source, wait) = (Source::Queue(queue.clone()), Duration::from_millis(5));
        let taken = self.broker.receive(source, 1, wait, Some(LEASE_MS), self.now()).await.expect("received");
        for delivery in taken {
            let id = CallId(delivery.message.id);
            let held = Held { tag: delivery.tag, attempt: delivery.attempt };
            if self.random.one_in(2) {
                // It may be over.
                let _ = self.calls.change(id, Change::Begin { held, queue: queue.clone() }).await;
            }
            let pause = self.pause();
            tokio::time::sleep(pause).await;
            let mark = self.mark();
            let end = match self.random.below(3) {
                0 => AttemptEnd::Answered(Answer {
                    status: 200,
                    body: mark.clone().into(),
                    ..Answer::default()
                }),
                1 => AttemptEnd::Again { error: "no".into(), delay_ms: self.random.below(5) },
                _ => AttemptEnd::Broken(Fault { status: 504, kind: "x".into(), detail: "late".into() }),
            };
            match self.calls.change(id, Change::Attempted { held, queue: queue.clone(), end }).await {
                Ok(changed) if changed.state.is_finished() => {
                    let mark = if changed.state == State::Succeeded { mark } else { String::new() };
                    self.is_told(id, changed.state, mark);
                }
                Ok(_) => {}
                Err(error) => assert_is_late(&error),
            }
        }
    }

    /// A queue client's reply; whoever sends it hears nothing of what it came to.
    async fn reply(&mut self) {
        let Some(id) = self.any_call().await else { return };
        let mark = self.mark();
        let mut message = Message::new(self.ids.next().0, self.now(), mark);
        message.headers.set(known::CORRELATION_ID, id.to_string());
        let address = Name::reserved(REPLIES).expect("a name");
        self.broker.publish(address, vec![message]).await.expect("published");
    }

    async fn cancel(&mut self) {
        let Some(id) = self.any_call().await else { return };
        match self.calls.cancel(id).await {
            Ok(cancelled) if cancelled.is_cancelled => self.is_told(id, State::Cancelled, String::new()),
            Ok(cancelled) => assert!(cancelled.state.is_finished(), "it could not be cancelled and goes on"),
            Err(error) => assert_is_late(&error),
        }
    }

    async fn retry(&mut self) {
        let Some(id) = self.any_call().await else { return };
        let retry = RetryAs { id: self.ids.next(), now: self.now() };
        match self.calls.retry(id, retry).await {
            Ok(started) => self.told().accepted.push(started.id),
            Err(Error::Open(_) | Error::Succeeded | Error::Gone | Error::NoCall) => {}
            Err(error) => panic!("trying anew: {error}"),
        }
    }

    /// Whoever sees an outcome sees the one.
    async fn look(&mut self) {
        let Some(id) = self.any_call().await else { return };
        match self.calls.show(id).await {
            Ok(call) if call.record.state.is_finished() => {
                let body = String::from_utf8_lossy(&call.body).into_owned();
                self.told().seen.entry(id).or_default().push((call.record.state, body));
            }
            Ok(_) | Err(Error::Gone) => {}
            Err(error) => panic!("{id} was there: {error}"),
        }
    }
}

/// What a worker may hear whose result came too late.
fn assert_is_late(error: &Error) {
    let is_late = matches!(error, Error::Closed(_) | Error::NotHeld(_) | Error::Gone | Error::NoCall);
    assert!(is_late, "a worker was told: {error}");
}
