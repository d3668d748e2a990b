//! What is a message, as routes see it?

use serde::{Deserialize, Serialize};
use waystation_base::{Message, MessageId, Millis};

/// Values that `a` may have: all arithmetic on it is modulo this.
pub const VALUES: u64 = 12;
/// What the header `kind` may say.
pub const KINDS: [&str; 3] = ["x", "y", "z"];

/// The body, and the header that conditions ask for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Doc {
    /// The number of the message that it came from.
    pub n: u64,
    /// What conditions ask for.
    pub a: u64,
    /// What was done with it on its way.
    pub way: String,
    /// The sequence that it belongs to, and its number there, from 1.
    pub line: u64,
    pub number: u64,
    /// The header.
    #[serde(skip)]
    pub kind: String,
}

impl Doc {
    /// What a message holds.
    pub fn of(message: &Message) -> Doc {
        let kind = message.headers.text("kind").unwrap_or_default().to_owned();
        let body = serde_json::from_slice(&message.body);
        let doc: Doc = body.unwrap_or_else(|error| panic!("{error}: {:?}", message.body));
        Doc { kind, ..doc }
    }

    /// What an aggregate holds, or a message alone.
    pub fn all_of(message: &Message) -> Vec<Doc> {
        match serde_json::from_slice(&message.body) {
            Ok(all) => all,
            Err(_) => vec![Doc::of(message)],
        }
    }

    /// The same as far as an aggregate tells it.
    pub fn bare(self) -> Doc {
        Doc { kind: String::new(), ..self }
    }

    /// The message that is published for it.
    pub fn message(&self, now: Millis) -> Message {
        let body = serde_json::to_string(self).expect("JSON");
        let mut message = Message::new(MessageId::new(now, u128::from(self.n) << 64), now, body);
        message.headers.set("content-type", "application/json");
        message.headers.set("kind", self.kind.as_str());
        message
    }

    /// The same with another value, and one word more about its way.
    pub fn moved(&self, by: u64, word: &str) -> Doc {
        Doc { a: (self.a + by) % VALUES, way: format!("{}{word}", self.way), ..self.clone() }
    }
}
