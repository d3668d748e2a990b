//! How does a route run? It consumes its source within a window, evaluates several messages at a time, and settles those that are
//! done together: outputs, dead letters, records and acknowledgements in one transaction.

mod decide;
mod release;
mod sequence;
mod settle;

use std::{collections::VecDeque, pin::Pin, sync::Arc, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{sync::watch, time};
use waystation_base::Name;
use waystation_broker::{Source, command::Hold, spec::RetryPolicy};
use waystation_host::{Broker, Consumer, Delivery, Event};

use crate::{
    Program, Tools,
    hold::{Holder, Plan},
    limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, WINDOW_BYTES_MAX, WINDOW_MESSAGES_MAX},
    live::{Live, SOURCE},
    run::{self, Evaluation},
    spec::Order,
};
pub(crate) use decide::{Failing, Meaning, class_of, clipped, letter, meaning};
use release::Held;
pub(crate) use release::{Unsettled, release};
use sequence::Sequence;
use settle::Settler;

/// How long to wait before looking again for what is not there.
const AGAIN: Duration = Duration::from_secs(1);
/// How long what is being stored may take when the route is stopped.
const GRACE: Duration = Duration::from_secs(5);

/// Runs one route.
pub(crate) struct Worker {
    pub broker: Broker,
    pub tools: Tools,
    pub program: Arc<Program>,
    pub source: Source,
    pub dead_letter: Name,
    pub order: Order,
    pub retry: RetryPolicy,
    pub record: bool,
    pub live: Arc<Live>,
}

/// A message that was evaluated.
pub(crate) struct Done {
    pub delivery: Delivery,
    pub evaluation: Evaluation,
}

type Evaluating = Pin<Box<dyn Future<Output = (u64, Done)> + Send>>;
/// What was settled, or why nothing can be stored.
type Settling = Pin<Box<dyn Future<Output = Result<Vec<Held>, String>> + Send>>;

impl Worker {
    /// What runs beside it, for steps that hold messages.
    pub fn holders(&self) -> Vec<Holder> {
        let holder = |plan: &Plan| Holder {
            broker: self.broker.clone(),
            tools: self.tools.clone(),
            program: self.program.clone(),
            plan: plan.clone(),
            source: self.source.clone(),
            dead_letter: self.dead_letter.clone(),
            retry: self.retry.clone(),
            record: self.record,
            live: self.live.clone(),
        };
        self.program.holds.iter().map(holder).collect()
    }

    /// Works until it is told to stop (or the teller is gone).
    pub async fn run(&self, mut stop: watch::Receiver<bool>) {
        loop {
            match self.consume(&mut stop).await {
                None => return,
                Some(why) => {
                    tracing::warn!(route = %self.program.name, %why, "a route waits");
                    self.live.waits(SOURCE, why);
                }
            }
            tokio::select! {
                biased;
                () = stopped(&mut stop) => return,
                () = time::sleep(AGAIN) => {}
            }
        }
    }

    /// Works until it is told to stop, or says why it cannot.
    async fn consume(&self, stop: &mut watch::Receiver<bool>) -> Option<String> {
        let session = self.broker.session();
        let attached =
            self.broker.consume(self.source.clone(), WINDOW_MESSAGES_MAX, Hold::Attached, session).await;
        let consumer = match attached {
            Ok(consumer) => consumer,
            Err(refusal) => return Some(refusal.to_string()),
        };
        self.live.works(SOURCE);
        let mut turn = Turn {
            worker: self,
            settler: Arc::new(Settler::new(self)),
            consumer,
            sequence: Sequence::new(self.order),
            evaluating: FuturesUnordered::new(),
            ready: VecDeque::new(),
            settling: None,
            unsettled: Unsettled::new(),
            held_bytes: 0,
        };
        let left = turn.go(stop).await;
        turn.finish().await;
        let Turn { consumer, unsettled, .. } = turn;
        release(&self.broker, &self.source, consumer, unsettled).await;
        let _ = self.broker.close_session(session).await;
        left
    }
}

/// Resolves when the stop is given.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A teller that is gone says the same.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// One time of being attached.
struct Turn<'a> {
    worker: &'a Worker,
    settler: Arc<Settler>,
    consumer: Consumer,
    sequence: Sequence<Done>,
    evaluating: FuturesUnordered<Evaluating>,
    ready: VecDeque<Done>,
    /// One at a time, so that what a refusal leaves to be tried again is not overtaken.
    settling: Option<Settling>,
    unsettled: Unsettled,
    held_bytes: usize,
}

impl Turn<'_> {
    async fn go(&mut self, stop: &mut watch::Receiver<bool>) -> Option<String> {
        loop {
            let has_room = self.held_bytes < WINDOW_BYTES_MAX;
            // What is begun is ended first: it makes room for what comes, and is bounded by it.
            tokio::select! {
                biased;
                () = stopped(stop) => return None,
                settled = next_settled(&mut self.settling), if self.settling.is_some() => {
                    self.settling = None;
                    match settled {
                        Ok(settled) => self.settled(&settled),
                        Err(why) => return Some(why),
                    }
                }
                Some((number, done)) = self.evaluating.next(), if !self.evaluating.is_empty() => {
                    let key = done.delivery.message.key.clone();
                    self.ready.extend(self.sequence.end(number, key.as_ref(), done));
                }
                event = self.consumer.next(), if has_room => match event {
                    Some(Event::Messages(messages)) => messages.into_iter().for_each(|it| self.begin(it)),
                    Some(Event::Unreadable(why)) => return Some(why),
                    Some(Event::Closed(_)) | None => return Some("its source is gone".to_owned()),
                },
            }
            if self.settling.is_none() && !self.ready.is_empty() {
                self.settle();
            }
        }
    }

    fn begin(&mut self, delivery: Delivery) {
        self.held_bytes += delivery.message.size();
        self.unsettled.insert((delivery.tag, delivery.attempt));
        let number = self.sequence.begin(delivery.message.key.as_ref());
        let (program, tools) = (self.worker.program.clone(), self.worker.tools.clone());
        let verbose = self.worker.record;
        self.evaluating.push(Box::pin(async move {
            let (address, message) = (delivery.address.clone(), delivery.message.clone());
            let evaluation = run::evaluate(&program, &tools, address, message, run::Say::why(verbose)).await;
            (number, Done { delivery, evaluation })
        }));
    }

    /// Settles what is ready, up to a bound.
    fn settle(&mut self) {
        let (mut batch, mut bytes) = (Vec::new(), 0);
        while let Some(done) = self.ready.front() {
            let more = done.evaluation.size();
            if !batch.is_empty() && (batch.len() == BATCH_MESSAGES_MAX || bytes + more > BATCH_BYTES_MAX) {
                break;
            }
            bytes += more;
            self.held_bytes -= done.delivery.message.size();
            batch.extend(self.ready.pop_front());
        }
        let settler = self.settler.clone();
        self.settling = Some(Box::pin(async move {
            let held = batch.iter().map(|done| (done.delivery.tag, done.delivery.attempt)).collect();
            settler.settle(batch).await.map(|()| held)
        }));
    }

    /// Lets what is being stored end, for a while.
    async fn finish(&mut self) {
        self.settler.end();
        if let Some(settling) = self.settling.take() {
            // What is not known to be stored comes back.
            if let Ok(Ok(settled)) = time::timeout(GRACE, settling).await {
                self.settled(&settled);
            }
        }
    }

    fn settled(&mut self, settled: &[Held]) {
        for held in settled {
            self.unsettled.remove(held);
        }
    }
}

async fn next_settled(settling: &mut Option<Settling>) -> Result<Vec<Held>, String> {
    match settling {
        Some(settling) => settling.await,
        None => std::future::pending().await,
    }
}
