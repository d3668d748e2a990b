//! How do others read and write definitions, without asking over this interface?

use std::sync::Arc;

use serde_json::{Map, Value};
use waystation_access::Caller;
use waystation_broker::Refusal;
use waystation_host::Broker;

use super::{
    definitions,
    desk::{Desk, Object, Who},
    failure::Failure,
};

/// Why that cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Unsaid {
    /// The status that a client of this interface would get.
    pub status: u16,
    /// In words.
    pub reason: String,
    /// What the broker said, if it was that.
    pub refusal: Option<Box<Refusal>>,
}

impl From<Failure> for Unsaid {
    fn from(failure: Failure) -> Unsaid {
        let reason = failure.reason.as_str().map_or_else(|| failure.reason.to_string(), str::to_owned);
        Unsaid { status: failure.status.as_u16(), reason, refusal: failure.refusal }
    }
}

/// Reads and writes definitions for callers whom somebody else has let in.
#[derive(Clone)]
pub struct Office(Arc<Desk>);

impl Office {
    /// With what the interface itself is built from.
    pub fn new(options: super::Options) -> Office {
        Office(super::server::desk(options))
    }

    /// Everything that is defined, or what is in one virtual host.
    pub async fn export(&self, caller: Caller, broker: Broker, host: Option<&str>) -> Result<Value, Unsaid> {
        let who = Who { caller, broker, makes: true };
        Ok(definitions::document(&self.0, &who, host).await?)
    }

    /// Makes what definitions describe, or with `dry_run` says what it would do: each object with its step, and how many.
    pub async fn import(
        &self,
        caller: Caller,
        broker: Broker,
        definitions: Map<String, Value>,
        host: Option<&str>,
        dry_run: bool,
    ) -> Result<Value, Unsaid> {
        let who = Who { caller, broker, makes: true };
        Ok(definitions::import(&self.0, &who, &Object(definitions), host, dry_run).await?)
    }
}
