//! What does a door give every message that comes in: the time, and an id of its own.

use std::io;

use waystation_base::{Message, MessageId, Millis, os};

/// Stamps the messages of one request or batch: one time, and ids that count up from a random number.
#[derive(Clone, Copy, Debug)]
pub struct Stamp {
    now: Millis,
    random: u128,
}

/// [`MessageId::new`] uses the top ten bytes; this is one in the last of them.
const STEP: u128 = 1 << 48;

impl Stamp {
    /// A stamp for this moment.
    pub fn new(now: Millis) -> io::Result<Stamp> {
        Ok(Stamp { now, random: os::random()? })
    }

    /// A stamp with a given random number, for tests.
    pub fn with_random(now: Millis, random: u128) -> Stamp {
        Stamp { now, random }
    }

    /// The moment.
    pub fn now(&self) -> Millis {
        self.now
    }

    /// An empty message with the time and a fresh id.
    pub fn message(&mut self) -> Message {
        let id = MessageId::new(self.now, self.random);
        self.random = self.random.wrapping_add(STEP);
        Message { id, timestamp: self.now, ..Message::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_a_stamp_has_an_id_of_its_own() {
        let mut stamp = Stamp::with_random(Millis(5), u128::MAX - STEP);
        let mut ids: Vec<_> = (0..1000).map(|_| stamp.message().id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 1000);
    }
}
