//! What a caller should do about an error.

use serde::{Deserialize, Serialize};

/// The class of an error; each door maps it to its protocol's own codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Class {
    /// Try the same thing again later: a limit was reached, a resource is busy.
    Retry,
    /// This request cannot succeed as it stands: change it.
    Reject,
    /// The connection or session broke the rules and ends.
    Close,
    /// The process must stop accepting writes: durability is in doubt.
    Stop,
}
