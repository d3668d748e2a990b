//! What names a call?

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use waystation_base::{MessageId, Millis};

/// A call's id, which is also its request message's: a UUID version 7, so that ids sort by time and cannot be guessed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CallId(pub MessageId);

impl CallId {
    /// When it was made.
    pub fn time(self) -> Millis {
        let bytes = self.0.as_bytes();
        Millis(bytes[..6].iter().fold(0, |time, byte| time << 8 | u64::from(*byte)))
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for CallId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<CallId, uuid::Error> {
        uuid::Uuid::try_parse(text).map(|uuid| CallId(MessageId(uuid)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_from_its_text_and_knows_its_time() {
        let id = CallId(MessageId::new(Millis(1_700_000_000_123), 7));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.time(), Millis(1_700_000_000_123));
        assert!("x".parse::<CallId>().is_err());
    }
}
