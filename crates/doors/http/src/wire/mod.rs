//! Bytes to messages and back, without a socket or the broker: NDJSON, JSON, CloudEvents, property headers.

pub mod cloud;
pub mod cloud_out;
pub mod headers;
pub mod json;
pub mod line;
pub mod lines;
pub mod show;
pub mod stamp;

use std::borrow::Cow;

use waystation_base::message;
pub use waystation_events::{body, time, value};

/// Why bytes are not a message.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Not the JSON that was expected.
    #[error("{reason}")]
    Json {
        /// The line, from 1.
        line: u64,
        /// The byte in that line, from 1.
        column: u64,
        /// What is wrong there.
        reason: String,
    },
    /// A member, header or parameter with a value that cannot be.
    #[error("{field}: {reason}")]
    Field {
        /// Which.
        field: Cow<'static, str>,
        /// What is wrong with it.
        reason: String,
    },
    /// The whole message is past a limit.
    #[error(transparent)]
    Message(#[from] message::Error),
    /// A line, event or array past its limit.
    #[error("{what} may have {limit} bytes")]
    TooLarge {
        /// What.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
}

impl Error {
    pub(crate) fn field(field: impl Into<Cow<'static, str>>, reason: impl ToString) -> Error {
        Error::Field { field: field.into(), reason: reason.to_string() }
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Error {
        let text = error.to_string();
        // The place has members of its own.
        let reason = text.rsplit_once(" at line ").map_or(text.as_str(), |(reason, _)| reason).to_owned();
        Error::Json { line: error.line() as u64, column: error.column() as u64, reason }
    }
}
