//! What do steps work with? Shared by all routes of a server.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use waystation_base::Clock;
use waystation_jq::{Failure, Pool, Program};

use crate::{
    packet::{Packet, to_json},
    spec::Limits,
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
}

impl Tools {
    /// Runs a program on a body that is JSON.
    pub(crate) async fn jq(
        &self,
        program: &Program,
        packet: &Packet,
        body: Bytes,
        limits: &Limits,
    ) -> Result<Vec<Bytes>, Failure> {
        let variables = vec![
            packet.headers_json(),
            packet.key_json(),
            to_json(&packet.address.as_str()),
            to_json(&self.clock.now().0),
            to_json(&packet.message.id.to_string()),
        ];
        let (time, outputs) = (Duration::from_millis(limits.time_ms), limits.outputs as usize);
        self.jq.run_within(program, body, variables, time, limits.output_bytes, outputs).await
    }
}
