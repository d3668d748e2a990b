//! Which numbers name what: one type for each meaning, so that swapped arguments do not compile.

use std::fmt;

use serde::{Deserialize, Serialize};

macro_rules! number {
    ($(#[$doc:meta])* $name:ident($inner:ty)) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// A byte offset in the journal as one endless stream, counted from its very first byte.
    Position(u64)
}
number! {
    /// The place of a message in one log: a partition of a topic, or one priority lane of a queue. Dense when written.
    Offset(u64)
}
number! {
    /// A queue, topic or subscription, for as long as the data directory lives; never used twice.
    EntityId(u32)
}
number! {
    /// An attached consumer, from attach to detach, within one run of the process.
    ConsumerId(u64)
}
number! {
    /// A client as the journal tells of it: door, address and user. 0: nobody who is known.
    ClientId(u32)
}
number! {
    /// How often a message has been handed to a consumer, the present time included: 1 at the first delivery.
    Attempt(u32)
}

impl Offset {
    /// The offset after this one.
    pub fn next(self) -> Offset {
        Offset(self.0 + 1)
    }
}

/// Names one message of a queue or a subscription: the log that it is in and its offset there.
///
/// Packed into 64 bits (log in the top 16, offset below) so that it fits a protocol's delivery tag.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Tag(pub u64);

impl Tag {
    const OFFSET_BITS: u32 = 48;

    /// Packs a log number (`lane` of a queue, source number of a subscription) and an offset below 2^48.
    pub fn new(log: u16, offset: Offset) -> Tag {
        assert!(offset.0 < 1 << Self::OFFSET_BITS, "offset {offset} outgrew its 48 bits");
        Tag(u64::from(log) << Self::OFFSET_BITS | offset.0)
    }

    /// The log number.
    pub fn log(self) -> u16 {
        (self.0 >> Self::OFFSET_BITS) as u16
    }

    /// The offset in that log.
    pub fn offset(self) -> Offset {
        Offset(self.0 & ((1 << Self::OFFSET_BITS) - 1))
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// A message's own id: a UUID version 7 (RFC 9562 §5.7), given when a door accepts the message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MessageId(pub uuid::Uuid);

impl MessageId {
    /// Makes an id from a time and 74 bits of randomness.
    pub fn new(now: crate::Millis, random: u128) -> MessageId {
        let bytes = random.to_be_bytes();
        let random_bytes: [u8; 10] = bytes[..10].try_into().expect("ten of sixteen");
        MessageId(uuid::Builder::from_unix_timestamp_millis(now.0, &random_bytes).into_uuid())
    }

    /// The sixteen bytes in network order.
    pub fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }

    /// Reads sixteen bytes in network order.
    pub fn from_bytes(bytes: [u8; 16]) -> MessageId {
        MessageId(uuid::Uuid::from_bytes(bytes))
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_gives_back_its_log_and_offset() {
        let tag = Tag::new(300, Offset((1 << 48) - 1));
        assert_eq!((tag.log(), tag.offset()), (300, Offset((1 << 48) - 1)));
    }

    #[test]
    fn a_message_id_is_a_version_7_uuid_that_sorts_by_time() {
        let (a, b) = (MessageId::new(crate::Millis(1), u128::MAX), MessageId::new(crate::Millis(2), 0));
        assert_eq!(a.0.get_version_num(), 7);
        assert!(a < b);
    }
}
