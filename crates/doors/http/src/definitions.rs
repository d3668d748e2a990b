//! Who speaks RabbitMQ's definitions? Another door does; this one passes on what is asked of it.

use std::{future::Future, pin::Pin};

use serde_json::{Map, Value};
use waystation_access::Caller;
use waystation_broker::Refusal;
use waystation_host::Broker;

/// An answer under way.
pub type Saying<'a> = Pin<Box<dyn Future<Output = Result<Value, Unsaid>> + Send + 'a>>;

/// Why there is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unsaid {
    /// As a status of HTTP.
    pub status: u16,
    /// In words.
    pub reason: String,
    /// What the broker said, if it was that.
    pub refusal: Option<Box<Refusal>>,
}

/// Reads and writes everything that is defined, on behalf of a caller who may do everything.
pub trait Definitions: Send + Sync {
    /// Everything, or one virtual host, as RabbitMQ writes it.
    fn export(&self, caller: Caller, broker: Broker, vhost: Option<String>) -> Saying<'_>;

    /// Makes what they describe, or only says what would be done; [`crate::api::Imported`].
    fn import(
        &self,
        caller: Caller,
        broker: Broker,
        definitions: Map<String, Value>,
        vhost: Option<String>,
        dry_run: bool,
    ) -> Saying<'_>;
}
