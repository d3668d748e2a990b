//! What do steps work with? Shared by all routes of a server.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use waystation_base::{Chance, Clock, os::OsChance};
use waystation_host::Broker;
use waystation_jq::{Failure, Pool, Program};
use waystation_outbound::{breaker::Breakers, exchange::Client};

use crate::{
    packet::{Packet, to_json},
    spec::Limits,
    tables::Tables,
};

/// Variables that every jq program of a route may use, in the order in which [`Tools::jq`] gives them.
pub const VARIABLES: &[&str] = &["headers", "key", "address", "now", "id"];

/// What steps work with.
#[derive(Clone)]
pub struct Tools {
    /// Where jq programs run.
    pub jq: Pool,
    /// The clock.
    pub clock: Arc<dyn Clock>,
    /// Where ids and jitter come from.
    pub(crate) chance: Arc<dyn Chance>,
    /// Where routes are compiled.
    pub(crate) compiling: Compiling,
    /// Who may be asked by HTTP.
    pub(crate) services: Option<Arc<Services>>,
    /// What holds the topics that steps look into.
    pub(crate) broker: Option<Broker>,
    /// Tables on topics.
    pub(crate) tables: Tables,
}

/// Where routes are compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Compiling {
    /// Beside the runtime's own threads.
    Beside,
    /// Where it is asked for.
    Here,
}

/// HTTP services that steps may ask.
pub struct Services {
    /// Asks, within its guard.
    pub client: Client,
    /// Which are left alone for a while.
    pub breakers: Breakers,
}

impl Tools {
    /// For routes that ask no services.
    pub fn new(jq: Pool, clock: Arc<dyn Clock>) -> Tools {
        let (chance, compiling) = (Arc::new(OsChance), Compiling::Beside);
        Tools { jq, clock, chance, compiling, services: None, broker: None, tables: Tables::default() }
    }

    /// The same with nothing that a seed does not decide: chance is given, and routes are compiled by whoever declares them, not by other
    /// threads that run as they like.
    #[must_use]
    pub fn simulated(self, chance: Arc<dyn Chance>) -> Tools {
        Tools { chance, compiling: Compiling::Here, ..self }
    }

    /// The same for routes that may.
    #[must_use]
    pub fn with_services(self, client: Client) -> Tools {
        Tools { services: Some(Arc::new(Services { client, breakers: Breakers::default() })), ..self }
    }

    /// Runs a program on a body that is JSON.
    pub(crate) async fn jq(
        &self,
        program: &Program,
        packet: &Packet,
        body: Bytes,
        limits: &Limits,
    ) -> Result<Vec<Bytes>, Failure> {
        self.jq_with(program, packet, body, Vec::new(), limits).await
    }

    /// The same with more variables than the usual.
    pub(crate) async fn jq_with(
        &self,
        program: &Program,
        packet: &Packet,
        body: Bytes,
        more: Vec<Bytes>,
        limits: &Limits,
    ) -> Result<Vec<Bytes>, Failure> {
        let mut variables = vec![
            packet.headers_json(),
            packet.key_json(),
            to_json(&packet.address.as_str()),
            to_json(&self.clock.now().0),
            to_json(&packet.message.id.to_string()),
        ];
        variables.extend(more);
        let (time, outputs) = (Duration::from_millis(limits.time_ms), limits.outputs as usize);
        self.jq.run_within(program, body, variables, time, limits.output_bytes, outputs).await
    }
}
