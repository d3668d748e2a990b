//! Fresh ids of one moment.

use waystation_base::{Chance, MessageId, Millis};
use waystation_broker::Refusal;

/// [`MessageId::new`] uses the top ten bytes; this is one in the last of them.
const STEP: u128 = 1 << 48;

/// Gives one after the other.
pub(crate) struct Ids {
    now: Millis,
    random: u128,
}

impl Ids {
    /// From now on.
    pub fn draw(now: Millis, chance: &dyn Chance) -> Result<Ids, Refusal> {
        match chance.draw() {
            Ok(random) => Ok(Ids { now, random }),
            Err(error) => Err(Refusal::Stopped(format!("no randomness: {error}"))),
        }
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
