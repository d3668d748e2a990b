//! What the tests of redrives share: a broker with dead letters in this process, which can crash and come back.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::{collections::BTreeMap, path::Path, sync::Arc, time::Duration};

use tokio::{sync::oneshot, task::JoinHandle};
use waystation_base::{
    Clock, Message, MessageId, Millis, Name,
    os::{OsClock, OsDisk},
};
use waystation_broker::{
    Refusal, SessionId, Source,
    command::Outcome,
    spec::{QueueSpec, Spec as Declaration},
};
use waystation_host::{Broker, Browse, Delivery, Options, Target};
use waystation_redrive::{
    Letters, Redrive, Redrives, Spec,
    job::{Error, Maker, State},
};

/// Long enough for anything that happens at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// A broker with its redrives.
pub struct Running {
    pub broker: Broker,
    pub redrives: Redrives,
    stop: oneshot::Sender<()>,
    engine: JoinHandle<Result<(), Refusal>>,
    driver: JoinHandle<Result<(), waystation_host::Failure>>,
}

pub fn name(text: &str) -> Name {
    if text.starts_with('$') { Name::reserved(text) } else { Name::new(text) }.expect("a name")
}

pub fn spec(json: &str) -> Spec {
    serde_json::from_str(json).expect("a spec")
}

/// A message whose body and id are a number.
pub fn numbered(number: u64) -> Message {
    Message::new(MessageId::new(OsClock.now(), u128::from(number) << 64), Millis(1), number.to_string())
}

impl Running {
    pub fn start(dir: &Path) -> Running {
        let mut options = Options::new(dir);
        options.disk_reserve_bytes = 0;
        let clock: Arc<dyn Clock> = Arc::new(OsClock);
        let (broker, driver, _) =
            waystation_host::open(options, Arc::new(OsDisk), clock.clone()).expect("opened");
        let driver = tokio::spawn(driver.run(std::future::pending()));
        let (redrives, engine) = Redrives::new(broker.clone(), clock, None);
        let (stop, stopped) = oneshot::channel::<()>();
        let engine = tokio::spawn(engine.run(async { drop(stopped.await) }));
        Running { broker, redrives, stop, engine, driver }
    }

    /// Ends without any farewell.
    pub async fn crash(self) {
        self.driver.abort();
        let _ = self.driver.await;
        self.engine.abort();
        let _ = self.engine.await;
    }

    pub fn letters(&self) -> &Letters {
        self.redrives.letters()
    }

    pub async fn queue(&self, text: &str, change: impl FnOnce(&mut QueueSpec)) {
        let mut spec = QueueSpec::default();
        change(&mut spec);
        let declared = self.broker.declare(name(text), Declaration::Queue(spec), false, SessionId::default());
        declared.await.expect("declared");
    }

    /// A queue `q` whose dead letters go to `q.dead`.
    pub async fn dying(&self, text: &str) {
        let dead = format!("{text}.dead");
        self.queue(&dead, |_| ()).await;
        self.queue(text, |spec| spec.dead_letter = Some(dead)).await;
    }

    pub async fn publish(&self, to: &str, messages: Vec<Message>) {
        self.broker.publish(name(to), messages).await.expect("published");
    }

    pub async fn take(&self, queue: &str, max: u32) -> Vec<Delivery> {
        let source = Source::Queue(name(queue));
        self.broker
            .receive(source, max, Duration::from_secs(5), Some(60_000), OsClock.now())
            .await
            .expect("received")
    }

    /// Lets messages with these numbers fail in a queue, each with an error of its own.
    pub async fn fail(
        &self,
        queue: &str,
        numbers: impl IntoIterator<Item = u64>,
        error: impl Fn(u64) -> String,
    ) {
        let numbers: Vec<u64> = numbers.into_iter().collect();
        for few in numbers.chunks(1_000) {
            self.publish(queue, few.iter().copied().map(numbered).collect()).await;
            let mut left = few.len();
            while left > 0 {
                let taken = self.take(queue, left as u32).await;
                left -= taken.len();
                let rejected = taken.iter().map(|delivery| {
                    let error = Some(error(number(&delivery.message)));
                    delivery.settlement(Outcome::Rejected { error, class: None })
                });
                self.broker.settle(Source::Queue(name(queue)), rejected.collect()).await.expect("rejected");
            }
        }
        self.until(&format!("{queue}.dead"), |ready| ready >= numbers.len() as u64).await;
    }

    /// Waits until so many messages stand ready in a queue.
    pub async fn until(&self, queue: &str, is_so: impl Fn(u64) -> bool) {
        let wait = async {
            while !is_so(self.broker.queue(name(queue)).await.expect("a queue").ready) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, wait).await.expect("in time");
    }

    pub async fn begin(&self, json: &str) -> Redrive {
        self.try_begin(json).await.expect("begun")
    }

    pub async fn try_begin(&self, json: &str) -> Result<Redrive, Error> {
        let spec = spec(json);
        let queues = self.redrives.queues(&spec).await?;
        self.redrives.begin(spec, queues, Maker::default()).await
    }

    /// Waits until a redrive does something.
    pub async fn reach(&self, id: &str, is_so: impl Fn(&Redrive) -> bool) -> Redrive {
        let wait = async {
            loop {
                match self.redrives.get(id) {
                    Ok(redrive) if is_so(&redrive) => return redrive,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        match tokio::time::timeout(PATIENCE, wait).await {
            Ok(redrive) => redrive,
            Err(_) => panic!("in time: {:?}", self.redrives.get(id)),
        }
    }

    pub async fn ended(&self, id: &str) -> Redrive {
        self.reach(id, |redrive| redrive.state.is_ended()).await
    }

    pub async fn run(&self, json: &str) -> Redrive {
        let begun = self.begin(json).await;
        let ended = self.ended(&begun.id).await;
        assert_eq!(ended.state, State::Completed);
        ended
    }

    /// All messages of a queue, by number, with how often each is there.
    pub async fn numbers(&self, queue: &str) -> BTreeMap<u64, u64> {
        let mut numbers = BTreeMap::new();
        for message in self.messages(queue).await {
            *numbers.entry(number(&message)).or_default() += 1;
        }
        numbers
    }

    pub async fn messages(&self, queue: &str) -> Vec<Message> {
        let (mut messages, mut from) = (Vec::new(), None);
        loop {
            let browse = Browse { from, max: 5_000, bytes_max: 64 << 20, ..Browse::default() };
            let page = self.broker.browse(Target::Queue(name(queue)), browse).await.expect("browsed");
            messages.extend(page.messages.into_iter().map(|delivery| delivery.message));
            from = page.next;
            if from.is_none() {
                return messages;
            }
        }
    }
}

pub fn number(message: &Message) -> u64 {
    std::str::from_utf8(&message.body).expect("text").parse().expect("a number")
}

/// Each of these once.
pub fn once(numbers: impl IntoIterator<Item = u64>) -> BTreeMap<u64, u64> {
    numbers.into_iter().map(|number| (number, 1)).collect()
}
