//! How do messages become calls? An operation's intake is a queue like any other; what comes there is settled in the transaction
//! that begins its call, so that each message is one call, crash or no crash.

use std::sync::Arc;

use futures_util::{Stream, stream};
use tokio::sync::oneshot;
use waystation_base::{Attempt, Message, MessageId, Millis, Name, Tag, message::header as known, os};
use waystation_broker::{
    SessionId, Source,
    command::{Hold, Outcome, Publish, Transaction},
};
use waystation_host::{Broker, Consumer, Delivery, Event};

use super::{
    AGAIN_MS, Engine,
    declare::make_queue,
    flight::{Landed, publish, settle},
    start::{begin, prepare},
};
use crate::{
    CallId, Error, Operation, Start,
    limits::INTAKE_HELD_MAX,
    names::{self, header},
    reply_to,
};

/// Headers that say how a message came, and not what it is.
const LEFT_OUT: [&str; 7] = [
    known::CORRELATION_ID,
    known::REPLY_TO,
    known::MESSAGE_ID,
    known::ROUTE,
    known::ROUTING_KEY,
    known::CC,
    known::EXPIRATION,
];

/// An operation's intake that is listened to, for as long as this is kept.
pub(super) struct Intake {
    queue: Name,
    _stop: oneshot::Sender<()>,
}

/// What came by which intake.
pub(super) type Heard = (Name, Option<Event>);
pub(super) type Hearing = std::pin::Pin<Box<dyn Stream<Item = Heard> + Send>>;

fn listen(operation: Name, consumer: Consumer, stopped: oneshot::Receiver<()>) -> Hearing {
    Box::pin(stream::unfold(Some((operation, consumer, stopped)), |state| async {
        let (operation, mut consumer, mut stopped) = state?;
        tokio::select! {
            biased;
            _ = &mut stopped => None,
            event = consumer.next() => {
                let goes_on = matches!(event, Some(Event::Messages(_)));
                let heard = (operation.clone(), event);
                Some((heard, goes_on.then_some((operation, consumer, stopped))))
            }
        }
    }))
}

impl Engine {
    /// Listens to the intakes that operations declare, and to no others.
    pub(super) async fn listen_to_intakes(&mut self) {
        let operations = self.operations.borrow().clone();
        let wanted = |name: &Name| operations.get(name).and_then(|it| it.intake_name().ok().flatten());
        self.intakes.retain(|name, intake| wanted(name).as_ref() == Some(&intake.queue));
        let missing: Vec<_> = operations
            .keys()
            .filter(|name| !self.intakes.contains_key(*name))
            .filter_map(|name| Some((name.clone(), wanted(name)?)))
            .collect();
        self.intakes_at = Millis::NEVER;
        for (name, queue) in missing {
            if let Err(error) = self.listen_to(name, queue.clone()).await {
                tracing::warn!(%error, %queue, "an intake of calls is not listened to; trying again");
                self.intakes_at = self.now().plus(AGAIN_MS);
            }
        }
    }

    async fn listen_to(&mut self, operation: Name, queue: Name) -> Result<(), Error> {
        make_queue(&self.broker, "intake", queue.clone()).await?;
        let source = Source::Queue(queue.clone());
        let consumer =
            self.broker.consume(source, INTAKE_HELD_MAX, Hold::Attached, SessionId::default()).await?;
        let (stop, stopped) = oneshot::channel();
        self.heard.push(listen(operation.clone(), consumer, stopped));
        self.intakes.insert(operation, Intake { queue, _stop: stop });
        Ok(())
    }

    /// Something came by an intake.
    pub(super) fn hear_intake(&mut self, (operation, event): Heard) {
        match event {
            Some(Event::Messages(deliveries)) => {
                deliveries.into_iter().for_each(|delivery| self.admit(&operation, delivery));
            }
            other => {
                if let Some(Intake { queue, .. }) = self.intakes.remove(&operation) {
                    tracing::warn!(?other, %queue, "an intake of calls is not heard; trying again");
                    self.intakes_at = self.now().plus(AGAIN_MS);
                }
            }
        }
    }

    /// Makes a message a call.
    fn admit(&mut self, name: &Name, delivery: Delivery) {
        let broker = self.broker.clone();
        let operation = self.operations.borrow().get(name).cloned();
        let queue = self.intakes.get(name).map(|intake| intake.queue.clone());
        let (Some(operation), Some(queue)) = (operation, queue) else {
            // It is no intake any more: the message stays a message.
            return self.launch(async move {
                put_back(&broker, &delivery, Outcome::Released).await;
                Landed::Aside
            });
        };
        let room = self.check_room();
        let admission = Admission { broker, name: name.clone(), operation, queue, now: self.now() };
        self.new += 1;
        self.launch(async move {
            let result = match room {
                Ok(()) => admission.begin(&delivery).await,
                Err(error) => Err(error),
            };
            let begun = match result {
                Ok(begun) => Some(begun),
                Err(error) => {
                    admission.refuse(&delivery, error).await;
                    None
                }
            };
            Landed::Admitted(begun)
        });
    }
}

/// What it takes to make messages calls.
struct Admission {
    broker: Broker,
    name: Name,
    operation: Arc<Operation>,
    queue: Name,
    now: Millis,
}

impl Admission {
    async fn begin(&self, delivery: &Delivery) -> Result<super::start::Begun, Error> {
        let message = &delivery.message;
        let reply = reply_to::resolve(&self.broker, &self.operation, &self.queue, message).await?;
        let random = os::random().map_err(|error| Error::Damaged(format!("no randomness: {error}")))?;
        let id = CallId(MessageId::new(self.now, random));
        let start = Start { reply, ..self.start(id, message) };
        let (record, mut transaction) = prepare(&self.name, &self.operation, &start, None)?;
        transaction.settlements.push(self.settled(delivery.tag, delivery.attempt));
        begin(&self.broker, record, transaction).await.map(|(begun, _)| begun)
    }

    fn settled(&self, tag: Tag, attempt: Attempt) -> waystation_broker::command::Settle {
        settle(self.queue.clone(), tag, attempt, Outcome::Accepted)
    }

    fn start(&self, id: CallId, message: &Message) -> Start {
        let text = |name: &str| message.headers.text(name).map(str::to_owned);
        let kept = |name: &str| !LEFT_OUT.contains(&name) && !name.starts_with("ws-death");
        let fields = message.headers.0.iter().filter(|(name, _)| kept(name));
        let mut headers: Vec<_> = fields.cloned().collect();
        headers.retain(|(name, _)| name != known::CAUSE);
        headers.push((known::CAUSE.into(), message.id.to_string().as_str().into()));
        Start {
            id,
            now: self.now,
            caller: text("user-id"),
            body: message.body.clone(),
            headers,
            key: message.key.clone(),
            priority: message.priority,
            timeout_ms: message.expires_at.map(|at| at.since(self.now)),
            correlation_id: text(known::CORRELATION_ID),
            ..Start::default()
        }
    }

    /// A message that can never be a call is kept as a fact, and its sender hears of it if that may be; what may be better soon
    /// comes again.
    async fn refuse(&self, delivery: &Delivery, error: Error) {
        if !matches!(error, Error::TooLarge { .. } | Error::ReplyTo(_) | Error::Callback(_)) {
            tracing::warn!(%error, operation = %self.name, "a message cannot become a call now; it is tried again");
            return put_back(&self.broker, delivery, Outcome::Requeued { delay_ms: AGAIN_MS }).await;
        }
        let mut refused = delivery.message.clone();
        refused.headers.set(header::REFUSED, error.to_string());
        refused.headers.set(header::OPERATION, self.name.as_str());
        refused.timestamp = self.now;
        (refused.expires_at, refused.deliver_at) = (None, None);
        let mut publishes = vec![publish(names::REFUSED, refused)];
        let resolved = reply_to::resolve(&self.broker, &self.operation, &self.queue, &delivery.message).await;
        if let Ok(Some(reply)) = resolved {
            let message = reply_to::refusal(&reply, &delivery.message, &error, self.now);
            publishes.push(Publish {
                to: reply.queue.into(),
                partition: None,
                payload: waystation_broker::command::Payload::One(message),
            });
        }
        let settlements = vec![self.settled(delivery.tag, delivery.attempt)];
        let whole = Transaction { publishes, settlements };
        let mut without_reply = whole.clone();
        without_reply.publishes.truncate(1);
        if self.broker.transact(whole).await.is_err() && self.broker.transact(without_reply).await.is_err() {
            put_back(&self.broker, delivery, Outcome::Requeued { delay_ms: AGAIN_MS }).await;
        }
    }
}

async fn put_back(broker: &Broker, delivery: &Delivery, outcome: Outcome) {
    let settlements = vec![settle(delivery.address.clone(), delivery.tag, delivery.attempt, outcome)];
    // If not even this is taken, it comes back when the consumer or the server goes.
    let _ = broker.transact(Transaction { publishes: Vec::new(), settlements }).await;
}
