//! How much may be asked of this door at once, and for how long?

use std::time::Duration;

use serde::{Deserialize, Serialize};
use waystation_base::limits::BATCH_BYTES_MAX;
use waystation_net::Times;

/// Bytes of a request that declares or settles something.
pub const CONTROL_BYTES_MAX: usize = 4 << 20;
/// Bytes of definitions.
pub const DEFINITIONS_BYTES_MAX: usize = 32 << 20;
/// Bytes of a request that is one transaction: a transaction, a batch of events, an atomic stream.
pub const TRANSACTION_BYTES_MAX: usize = BATCH_BYTES_MAX;
/// Bytes of a request's head; a longer one is answered with 431.
pub const HEAD_BYTES_MAX: usize = 64 << 10;
/// Headers of a request; more are answered with 431.
pub const HEADERS_MAX: usize = 300;
/// Messages that one receive or browse may ask for.
pub const PAGE_MESSAGES_MAX: u32 = 10_000;
/// Bytes of messages in one page of a browse; one message at least comes.
pub const PAGE_BYTES_MAX: usize = 4 << 20;
/// Queues, topics or subscriptions on one page of a list.
pub const PAGE_ENTITIES_MAX: usize = 1_000;
/// Milliseconds that one receive may wait.
pub const WAIT_MS_MAX: u64 = 60_000;
/// Messages that one follower may hold unacknowledged.
pub const WINDOW_MAX: u32 = 10_000;
/// Settlements or extensions in one request.
pub const SETTLEMENTS_MAX: usize = 10_000;

/// The bounds that a deployment may choose. An unknown one is an error.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Open connections; one more is answered with 503 and closed.
    pub connections_max: usize,
    /// Publishes, settlements and other short requests being worked on.
    pub requests_max: usize,
    /// Long polls and followers.
    pub waits_max: usize,
    /// Bytes of request bodies held in memory, over all connections.
    pub buffered_bytes_max: usize,
    /// Milliseconds for which a connection may stay open between requests.
    pub idle_ms: u64,
    /// Milliseconds for a request's head, from its first byte to its last.
    pub head_ms: u64,
    /// Milliseconds for the next part of a body.
    pub body_ms: u64,
    /// Milliseconds for which a client may leave an answer untaken.
    pub write_ms: u64,
    /// Milliseconds for a TLS handshake.
    pub handshake_ms: u64,
    /// Milliseconds for open requests to finish when the server shuts down.
    pub drain_ms: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections_max: 10_000,
            requests_max: 4_096,
            waits_max: 8_192,
            buffered_bytes_max: 256 << 20,
            idle_ms: 75_000,
            head_ms: 10_000,
            body_ms: 30_000,
            write_ms: 30_000,
            handshake_ms: 10_000,
            drain_ms: 10_000,
        }
    }
}

impl Limits {
    pub(crate) fn times(&self) -> Times {
        Times {
            idle: Duration::from_millis(self.idle_ms),
            head: Duration::from_millis(self.head_ms),
            write: Duration::from_millis(self.write_ms),
        }
    }
}
