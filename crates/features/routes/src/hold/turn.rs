//! How does a step run that holds messages? It consumes its queue without settling, decides by what it holds and by the clock, and lets go
//! in transactions: what leaves, and the settlement of all that it is made of. What cannot go on now waits for its next try; the rest goes on.

use std::{collections::VecDeque, pin::Pin, time::Duration};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio::{
    sync::watch,
    time::{self, Instant},
};
use waystation_base::{Millis, message::header};
use waystation_broker::{Refusal, SessionId, command::Hold};
use waystation_host::{Consumer, Delivery, Event};

use super::{
    Holder,
    act::Act,
    draft::{Held, OWN, REPLIES},
    due::{Due, Weight},
    evaluate::Evaluated,
    rebuild::Doomed,
    says::{Role, Says},
    state::{State, stray},
    store::{Lost, Stored},
};
use crate::{
    engine::{Unsettled, release, stopped},
    limits::{BATCH_BYTES_MAX, BATCH_MESSAGES_MAX, HELD_WORKED_ON_MAX},
    trial::stored_at,
};

/// How long to wait for a message that should come back at the beginning.
pub(super) const BACK: Duration = Duration::from_secs(5);
/// How long what is being stored may take when the step is stopped.
const GRACE: Duration = Duration::from_secs(5);
/// How many deliveries may be held: more than what its queue may hold.
const CREDIT: u32 = waystation_base::limits::CREDIT_MAX;

type Evaluating<'a> = Pin<Box<dyn Future<Output = Evaluated> + Send + 'a>>;
type Storing<'a> = Pin<Box<dyn Future<Output = Result<Vec<Stored>, Lost>> + Send + 'a>>;

/// One time of being attached.
pub struct Turn<'a> {
    pub(super) holder: &'a Holder,
    pub(super) own: Consumer,
    replies: Option<Consumer>,
    /// Which of both was heard last.
    heard: usize,
    /// How many messages should come back from each.
    pub(super) back: [u64; 2],
    /// Until then replies are waited for that should come back; no time is up before they are there.
    pub(super) patience: Instant,
    pub(super) state: State,
    pub(super) due: Due<Held>,
    evaluating: FuturesUnordered<Evaluating<'a>>,
    ready: VecDeque<Evaluated>,
    /// One at a time, so that what a refusal leaves is not overtaken.
    storing: Option<Storing<'a>>,
    /// All that is held, whether it is due or not.
    pub(super) held: Weight,
    /// Replies that are held, to be given back.
    unsettled: Unsettled,
    /// Nothing is begun before, since nothing can be stored.
    quiet_until: Millis,
    /// Groups that were given up when the server died, until their replies have come back.
    pub(super) doomed: Vec<Doomed>,
}

impl<'a> Turn<'a> {
    pub async fn attach(holder: &'a Holder, session: SessionId) -> Result<Turn<'a>, Refusal> {
        let (mut back, mut consumers) = ([0; 2], Vec::new());
        for (index, source) in holder.sources().into_iter().enumerate() {
            let info = holder.broker.queue(source.name().clone()).await?;
            back[index] = (info.ready + info.in_flight).min(CREDIT.into());
            consumers.push(holder.broker.consume(source, CREDIT, Hold::Attached, session).await?);
        }
        let mut consumers = consumers.into_iter();
        let Some(own) = consumers.next() else { unreachable!("a step has a queue") };
        Ok(Turn {
            holder,
            own,
            replies: consumers.next(),
            heard: REPLIES,
            back,
            patience: Instant::now(),
            state: State::new(holder.plan.rules),
            due: Due::new(holder.plan.due()),
            evaluating: FuturesUnordered::new(),
            ready: VecDeque::new(),
            storing: None,
            held: Weight::default(),
            unsettled: Unsettled::new(),
            quiet_until: Millis(0),
            doomed: Vec::new(),
        })
    }

    pub(super) fn now(&self) -> Millis {
        self.holder.tools.clock.now()
    }

    pub async fn go(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), String> {
        loop {
            self.work();
            let (has_room, pause) = (self.due.has_room(), self.pause());
            // What time brings is looked for in each turn, whatever else comes.
            tokio::select! {
                biased;
                () = stopped(stop) => return Ok(()),
                stored = next_stored(&mut self.storing), if self.storing.is_some() => {
                    self.storing = None;
                    self.stored(stored.map_err(|Lost(why)| why)?);
                }
                Some(evaluated) = self.evaluating.next(), if !self.evaluating.is_empty() => {
                    self.ready.push_back(evaluated);
                }
                (source, event) = next_of(&mut self.own, &mut self.replies, self.heard), if has_room => {
                    self.heard = source;
                    if source == REPLIES {
                        self.patience = Instant::now() + BACK;
                    }
                    self.take(source, event)?;
                }
                () = time::sleep(pause.unwrap_or_default()), if pause.is_some() => {}
            }
        }
    }

    /// Until something is to be done though nothing comes.
    fn pause(&self) -> Option<Duration> {
        // Without room for another task, one that ends is waited for.
        let again = self.due.at().filter(|_| self.may_begin()).map(|at| at.max(self.quiet_until));
        let time = if self.awaits_replies() { None } else { self.state.at() };
        let next = again.into_iter().chain(time).min();
        let next = next.map(|at| Duration::from_millis(at.0.saturating_sub(self.now().0)));
        let awaits = self.awaits_replies() && self.due.has_room();
        let patience = awaits.then(|| self.patience.saturating_duration_since(Instant::now()));
        next.into_iter().chain(patience).min()
    }

    /// Whether replies are still to come that were there before: a group whose time has passed may have them.
    fn awaits_replies(&self) -> bool {
        self.back[REPLIES] > 0 && (Instant::now() < self.patience || !self.due.has_room())
    }

    fn take(&mut self, source: usize, event: Option<Event>) -> Result<(), String> {
        match event {
            Some(Event::Messages(messages)) => {
                self.back[source] = self.back[source].saturating_sub(messages.len() as u64);
                for delivery in messages {
                    let says = match source {
                        OWN => Says::read(&delivery.message.headers),
                        _ => reply_says(&delivery),
                    };
                    self.put(Held { source, delivery }, says);
                }
                Ok(())
            }
            Some(Event::Unreadable(why)) => Err(why),
            Some(Event::Closed(_)) | None => Err("its queue is gone".to_owned()),
        }
    }

    /// Takes a message.
    pub(super) fn put(&mut self, held: Held, says: Option<Says>) {
        // What is noted of tries is known to whoever wrote it, and was read before anything else at the beginning.
        if says.as_ref().is_some_and(|says| says.role == Role::Tried) {
            return;
        }
        self.held.add(held.weight());
        if held.source == REPLIES {
            self.unsettled.insert((held.delivery.tag, held.delivery.attempt));
        }
        let at = stored_at(held.delivery.message.id.as_bytes());
        match says {
            Some(Says { key, role: Role::GivenUp, .. }) => self.due.push(Act::Done { key, note: held }),
            Some(says) if self.is_doomed(&held, &says) => self.doom(held, says),
            Some(says) => self.state.put(says, at, held),
            // A reply that answers nothing, or what is no message of this step.
            None => self.due.push(stray(held)),
        }
        self.collect();
        let (most, mut before) = (self.holder.plan.held_bytes, usize::MAX);
        while self.undecided() > most && self.undecided() < before {
            before = self.undecided();
            self.state.relieve(at);
            self.collect();
        }
    }

    /// Bytes of what is held and not due.
    fn undecided(&self) -> usize {
        self.held.bytes.saturating_sub(self.due.weight().bytes)
    }

    /// Takes over what is to be done.
    fn collect(&mut self) {
        let now = self.now();
        while let Some(act) = self.state.next(now) {
            self.due.push(act);
        }
    }

    /// Begins what is to be done by now.
    fn work(&mut self) {
        let now = self.now();
        if !self.awaits_replies() {
            self.give_up_doomed();
            self.state.tick(now);
            self.collect();
        }
        while now >= self.quiet_until && self.may_begin() {
            let Some(task) = self.due.next(now) else { break };
            self.evaluating.push(Box::pin(self.holder.evaluate(task)));
        }
        if self.storing.is_none() && !self.ready.is_empty() {
            let batch = self.batch();
            self.storing = Some(Box::pin(self.holder.store(batch)));
        }
    }

    /// Whether one task more may be worked on.
    fn may_begin(&self) -> bool {
        self.evaluating.len() + self.ready.len() < HELD_WORKED_ON_MAX
    }

    /// What is stored together.
    fn batch(&mut self) -> Vec<Evaluated> {
        let (mut batch, mut messages, mut bytes) = (Vec::new(), 0, 0);
        while let Some(next) = self.ready.front() {
            for part in &next.parts {
                messages += Weight::of(&part.act).messages;
                bytes += part.evaluations.iter().map(crate::run::Evaluation::size).sum::<usize>();
            }
            if !batch.is_empty() && (messages > BATCH_MESSAGES_MAX || bytes > BATCH_BYTES_MAX) {
                break;
            }
            batch.extend(self.ready.pop_front());
        }
        batch
    }

    fn stored(&mut self, all: Vec<Stored>) {
        let mut nothing = None;
        for one in all {
            self.held.add(one.noted);
            self.due.noted(one.noted);
            self.held.take(one.stored);
            self.holder.plan.room.take(one.own);
            for (_, tag, attempt) in one.settled.iter().filter(|(source, ..)| *source == REPLIES) {
                self.unsettled.remove(&(*tag, *attempt));
            }
            nothing = one.nothing.or(nothing);
            if nothing.is_some() {
                self.quiet_until = one.at.unwrap_or_default().max(self.quiet_until);
            }
            self.due.end(one.left, one.stored, one.at);
        }
        let (live, at) = (&self.holder.live, &self.holder.plan.at);
        match nothing {
            Some(why) => live.waits(at, why),
            None => live.works(at),
        }
    }

    /// Lets what is being stored end, for a while, and gives replies back that are held, as not tried.
    pub async fn end(mut self) {
        if let Some(storing) = self.storing.take()
            && let Ok(Ok(stored)) = time::timeout(GRACE, storing).await
        {
            self.stored(stored);
        }
        let Turn { holder, replies, unsettled, .. } = self;
        if let (Some(consumer), Some(source)) = (replies, holder.sources().get(REPLIES)) {
            release(&holder.broker, source, consumer, unsettled).await;
        }
    }
}

/// The next of either, and from which: the one that was not heard last comes first, so that much of one keeps nobody from hearing the other.
async fn next_of(own: &mut Consumer, replies: &mut Option<Consumer>, heard: usize) -> (usize, Option<Event>) {
    let replies = async {
        match replies {
            Some(consumer) => consumer.next().await,
            None => std::future::pending().await,
        }
    };
    match heard {
        REPLIES => tokio::select! {
            biased;
            event = own.next() => (OWN, event),
            event = replies => (REPLIES, event),
        },
        _ => tokio::select! {
            biased;
            event = replies => (REPLIES, event),
            event = own.next() => (OWN, event),
        },
    }
}

async fn next_stored(storing: &mut Option<Storing<'_>>) -> Result<Vec<Stored>, Lost> {
    match storing {
        Some(storing) => storing.await,
        None => std::future::pending().await,
    }
}

/// A reply belongs to the request whose correlation id it has.
fn reply_says(delivery: &Delivery) -> Option<Says> {
    let key = delivery.message.headers.text(header::CORRELATION_ID)?;
    Some(Says { key: key.into(), role: Role::Member, number: None })
}
