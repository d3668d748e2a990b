//! Fresh ids of one moment.

use waystation_base::{MessageId, Millis};

/// [`MessageId::new`] uses the top ten bytes; this is one in the last of them.
const STEP: u128 = 1 << 48;

/// Gives one after the other.
pub(crate) struct Ids {
    now: Millis,
    random: u128,
}

impl Ids {
    pub fn new(now: Millis, random: u128) -> Ids {
        Ids { now, random }
    }

    /// The moment.
    pub fn now(&self) -> Millis {
        self.now
    }

    pub fn next(&mut self) -> MessageId {
        self.random = self.random.wrapping_add(STEP);
        MessageId::new(self.now, self.random)
    }
}
