//! What AMQP says in Waystation's words, and back: names, messages, declarations. Pure.

mod delivery;
mod exchange;
mod header;
mod message;
pub mod names;
mod queue;
mod same;
#[cfg(test)]
mod tests;
mod types;

use crate::wire::{self, ReplyCode};

pub use delivery::{Extras, Outgoing};
pub use exchange::{ExchangeAsk, exchange_type, route_spec};
pub use message::{Incoming, read_message};
pub(crate) use queue::whole;
pub use queue::{QueueAsk, queue_spec};
pub use same::{check_same_exchange, check_same_queue};
pub use types::{from_json, json, to_json};
pub use waystation_catalog::terms::{QueueType, queue_type};

/// A request that cannot be carried out as it was put.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} - {text}", code.name())]
pub struct Invalid {
    /// The reply code.
    pub code: ReplyCode,
    /// What is wrong, without the code's name in front; in RabbitMQ's words where clients know them.
    pub text: String,
}

impl Invalid {
    pub(crate) fn precondition(text: String) -> Invalid {
        Invalid { code: ReplyCode::PreconditionFailed, text }
    }
}

impl From<wire::Error> for Invalid {
    fn from(error: wire::Error) -> Invalid {
        Invalid { code: error.code(), text: error.to_string() }
    }
}
