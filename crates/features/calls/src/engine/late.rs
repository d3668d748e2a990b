//! What happens to a result that comes too late, or for no call? It is kept as a fact in a topic of its own, and the reply leaves.

use bytes::Bytes;
use waystation_base::{Message, MessageId, Millis, message::header as known};
use waystation_broker::command::{Outcome, Transaction};
use waystation_host::{Broker, Delivery};

use super::{
    AGAIN_MS, Engine,
    flight::{Landed, publish, settle},
};
use crate::{
    Answer, CallId,
    names::{self, header, own},
};

impl Engine {
    /// Moves a reply to the topic of late results, in one transaction.
    pub(super) fn keep_late(&mut self, delivery: Delivery, state: &'static str) {
        self.shared.figures.late();
        let broker = self.broker.clone();
        let mut message = delivery.message.clone();
        message.headers.set(header::LATE_STATE, state);
        message.timestamp = self.now();
        // Times of delivery are over.
        (message.expires_at, message.deliver_at) = (None, None);
        self.launch(async move {
            let transaction = Transaction {
                publishes: vec![publish(names::LATE, message)],
                settlements: vec![settle(
                    own(names::REPLIES),
                    delivery.tag,
                    delivery.attempt,
                    Outcome::Accepted,
                )],
            };
            if let Err(error) = broker.transact(transaction).await {
                tracing::warn!(%error, "a late reply cannot be kept now; it is tried again");
                put_back(&broker, &delivery).await;
            }
            Landed::Aside
        });
    }
}

/// Gives a reply back to its queue, to come again.
pub(super) async fn put_back(broker: &Broker, delivery: &Delivery) {
    let outcome = Outcome::Requeued { delay_ms: AGAIN_MS };
    let settlements = vec![settle(own(names::REPLIES), delivery.tag, delivery.attempt, outcome)];
    // If not even this is taken, it comes back when the server starts again.
    let _ = broker.transact(Transaction { publishes: Vec::new(), settlements }).await;
}

/// A result that a worker gave by another way than the reply queue, as the message to keep.
pub(super) fn message(id: CallId, answer: &Answer, state: &str, now: Millis) -> Message {
    let body = if answer.fault().is_none() { answer.body.clone() } else { Bytes::new() };
    let mut message = Message::new(MessageId(id.0.0), now, body);
    if answer.fault().is_none() {
        for (name, value) in &answer.headers {
            message.headers.set(name.as_str(), value.as_str());
        }
    }
    message.headers.set(known::CORRELATION_ID, id.to_string());
    message.headers.set(header::STATUS, waystation_base::Value::U16(answer.status));
    if let Some(error) = &answer.error {
        message.headers.set(header::ERROR, error.as_str());
    }
    message.headers.set(header::LATE_STATE, state);
    message
}
