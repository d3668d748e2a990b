//! What happens by itself, and when.

use waystation_base::{Attempt, ConsumerId, EntityId, Tag};

use super::vhosts::VhostId;

/// A reason to look at something at a time. A timer may come too early or for something gone: its handler checks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// A lease may have run out.
    Lease(EntityId, Tag, Attempt),
    /// A pull may have waited long enough.
    Pull(EntityId, ConsumerId),
    /// Delayed messages may be due.
    Due(EntityId),
    /// The message at a head may have expired.
    Expiry(EntityId),
    /// A queue or subscription may have been idle for long enough.
    Idle(EntityId),
    /// Dead-lettering is to be tried again.
    DeadLetter(EntityId, Tag),
    /// A log that could not be read (its number, window and find generation) is to be read again.
    Reread(EntityId, u16, u32, u32),
    /// A topic's retention is to be looked at.
    Retention(EntityId),
    /// Messages that nothing took and that were only counted may be told of; 0: those without a route.
    Untold(EntityId),
    /// A virtual host may have room again for what waits in its line.
    Vhost(VhostId),
}
