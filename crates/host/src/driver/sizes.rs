//! How many bytes may commands add to a commit group?

use waystation_base::Message;
use waystation_broker::command::{Outcome, Payload, Publish, Transaction};

use super::MESSAGE_OVERHEAD_BYTES;

/// Bytes of what a transaction publishes and says of what it settles.
pub fn transaction_bytes(transaction: &Transaction) -> usize {
    let publishes = transaction.publishes.iter().map(publish_bytes);
    let texts = transaction.settlements.iter().flat_map(|settle| &settle.settlements);
    let errors = texts.map(|settlement| match &settlement.outcome {
        Outcome::Rejected { error, class } => texts_bytes(error, class),
        Outcome::Failed(failure) => texts_bytes(&failure.error, &failure.class),
        _ => 0,
    });
    publishes.sum::<usize>() + errors.sum::<usize>()
}

fn texts_bytes(error: &Option<String>, class: &Option<String>) -> usize {
    error.as_ref().map_or(0, String::len) + class.as_ref().map_or(0, String::len)
}

/// Bytes of what a publish stores, at most.
pub fn publish_bytes(publish: &Publish) -> usize {
    let of = |message: &Message| message.size() + MESSAGE_OVERHEAD_BYTES + 4 * message.headers.0.len();
    match &publish.payload {
        Payload::One(message) => of(message),
        Payload::Messages(messages) => messages.iter().map(of).sum(),
        Payload::Batch(batch) => batch.len(),
    }
}
