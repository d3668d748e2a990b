//! What can be wrong with bytes from a client, and which reply code says so (AMQP 0-9-1 §1.2, §4.2.3).

use super::limits::{TABLE_DEPTH_MAX, TABLE_VALUES_MAX};

/// The reply codes of AMQP 0-9-1, with the names that RabbitMQ puts in front of its texts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u16)]
pub enum ReplyCode {
    /// All went well.
    Success = 200,
    /// A body past what is taken.
    ContentTooLarge = 311,
    /// A mandatory message that no queue took.
    NoRoute = 312,
    /// An immediate message that no consumer stood ready for.
    NoConsumers = 313,
    /// An operator closed the connection.
    ConnectionForced = 320,
    /// No such virtual host.
    InvalidPath = 402,
    /// Not allowed to this user.
    AccessRefused = 403,
    /// No such exchange, queue or delivery.
    NotFound = 404,
    /// Another connection has it for itself.
    ResourceLocked = 405,
    /// Something is otherwise than the request asks.
    PreconditionFailed = 406,
    /// A frame that could not be read.
    FrameError = 501,
    /// Arguments that could not be read.
    SyntaxError = 502,
    /// A method that has no place here.
    CommandInvalid = 503,
    /// A channel that is not open, or open already.
    ChannelError = 504,
    /// A frame that does not continue what was begun.
    UnexpectedFrame = 505,
    /// More than the server can give.
    ResourceError = 506,
    /// Against a rule of the server.
    NotAllowed = 530,
    /// Part of AMQP, but not of this server.
    NotImplemented = 540,
    /// The server's own fault.
    InternalError = 541,
}

impl ReplyCode {
    /// The name in capitals.
    pub fn name(self) -> &'static str {
        match self {
            ReplyCode::Success => "SUCCESS",
            ReplyCode::ContentTooLarge => "CONTENT_TOO_LARGE",
            ReplyCode::NoRoute => "NO_ROUTE",
            ReplyCode::NoConsumers => "NO_CONSUMERS",
            ReplyCode::ConnectionForced => "CONNECTION_FORCED",
            ReplyCode::InvalidPath => "INVALID_PATH",
            ReplyCode::AccessRefused => "ACCESS_REFUSED",
            ReplyCode::NotFound => "NOT_FOUND",
            ReplyCode::ResourceLocked => "RESOURCE_LOCKED",
            ReplyCode::PreconditionFailed => "PRECONDITION_FAILED",
            ReplyCode::FrameError => "FRAME_ERROR",
            ReplyCode::SyntaxError => "SYNTAX_ERROR",
            ReplyCode::CommandInvalid => "COMMAND_INVALID",
            ReplyCode::ChannelError => "CHANNEL_ERROR",
            ReplyCode::UnexpectedFrame => "UNEXPECTED_FRAME",
            ReplyCode::ResourceError => "RESOURCE_ERROR",
            ReplyCode::NotAllowed => "NOT_ALLOWED",
            ReplyCode::NotImplemented => "NOT_IMPLEMENTED",
            ReplyCode::InternalError => "INTERNAL_ERROR",
        }
    }

    /// The number on the wire.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// Whether it closes the connection; else it closes the channel (AMQP 0-9-1 §1.2: soft and hard errors).
    pub fn closes_connection(self) -> bool {
        matches!(self.number(), 320 | 402 | 501..)
    }
}

/// What is wrong with the bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A frame type of no frame.
    #[error("frame type {0} is unknown")]
    FrameType(u8),
    /// A frame that does not end in 0xCE.
    #[error("frame ends in {0:#04x} instead of 0xce")]
    FrameEnd(u8),
    /// A frame past what was agreed on.
    #[error("frame of {bytes} bytes is larger than the negotiated {max}")]
    FrameTooLarge {
        /// The whole frame.
        bytes: u64,
        /// What was agreed on.
        max: u32,
    },
    /// A heartbeat with a channel or a payload.
    #[error("heartbeat on channel {channel} with {bytes} bytes of payload")]
    Heartbeat {
        /// Its channel.
        channel: u16,
        /// Its payload.
        bytes: usize,
    },
    /// A body frame past the body size of its header.
    #[error("content body frame of {found} bytes exceeds the remaining {expected}")]
    BodyTooLong {
        /// What was still to come.
        expected: u64,
        /// What came.
        found: u64,
    },
    /// A short string that is not UTF-8.
    #[error("malformed UTF-8 in short string")]
    Utf8,
    /// The payload ends within an argument.
    #[error("arguments end too early")]
    Truncated,
    /// The payload goes on behind the last argument.
    #[error("{0} bytes behind the last argument")]
    Trailing(usize),
    /// A type letter that no table field has.
    #[error("table field type {:?} is unknown", char::from(*.0))]
    FieldType(u8),
    /// Tables in tables past [`TABLE_DEPTH_MAX`].
    #[error("table is nested deeper than {TABLE_DEPTH_MAX}")]
    TableDepth,
    /// More values than [`TABLE_VALUES_MAX`].
    #[error("table has more than {TABLE_VALUES_MAX} values")]
    TableValues,
    /// Property flags that announce further flags, of which there are none.
    #[error("property flags {0:#06x} announce properties that do not exist")]
    PropertyFlags(u16),
    /// The arguments of a method, which is to blame (RabbitMQ answers so with 501, not with 502).
    #[error("{error}")]
    Arguments {
        /// Class and method.
        method: (u16, u16),
        /// What is wrong with them.
        error: Box<Error>,
    },
    /// No such class.
    #[error("class {0} is unknown")]
    UnknownClass(u16),
    /// No such method in that class.
    #[error("method {method} of class {class} is unknown")]
    UnknownMethod {
        /// The class.
        class: u16,
        /// The method.
        method: u16,
    },
    /// A class of AMQP 0-8 or 0-9 that RabbitMQ does not have either.
    #[error("class {0} is not implemented")]
    NotImplemented(u16),
    /// A content frame on channel 0.
    #[error("content frame on channel 0")]
    ContentOnChannelZero,
    /// A method was to come.
    #[error("expected method frame, got non method frame instead")]
    ExpectedMethod,
    /// A header was to come.
    #[error("expected content header for class {0}, got non content header frame instead")]
    ExpectedHeader(u16),
    /// A header of another class than its method.
    #[error("expected content header for class {expected}, got one for class {found} instead")]
    HeaderClass {
        /// The method's class.
        expected: u16,
        /// The header's.
        found: u16,
    },
    /// A body was to come.
    #[error("expected content body, got non content body frame instead")]
    ExpectedBody,
    /// A body past what the server takes. The channel is closed, not the connection.
    #[error("message size {bytes} is larger than configured max size {max}")]
    MessageTooLarge {
        /// As announced.
        bytes: u64,
        /// What is taken.
        max: u64,
    },
}

impl Error {
    /// The reply code that says so.
    pub fn code(&self) -> ReplyCode {
        match self {
            Error::FrameType(_)
            | Error::FrameEnd(_)
            | Error::FrameTooLarge { .. }
            | Error::Heartbeat { channel: 0, .. }
            | Error::BodyTooLong { .. }
            | Error::Arguments { .. }
            | Error::Utf8 => ReplyCode::FrameError,
            Error::Truncated
            | Error::Trailing(_)
            | Error::FieldType(_)
            | Error::TableDepth
            | Error::TableValues
            | Error::PropertyFlags(_) => ReplyCode::SyntaxError,
            Error::UnknownClass(_) | Error::UnknownMethod { .. } => ReplyCode::CommandInvalid,
            Error::NotImplemented(_) => ReplyCode::NotImplemented,
            Error::ContentOnChannelZero => ReplyCode::ChannelError,
            // The specification says 501 here; RabbitMQ, and so what clients know, says 505.
            Error::Heartbeat { .. }
            | Error::ExpectedMethod
            | Error::ExpectedHeader(_)
            | Error::HeaderClass { .. }
            | Error::ExpectedBody => ReplyCode::UnexpectedFrame,
            Error::MessageTooLarge { .. } => ReplyCode::PreconditionFailed,
        }
    }

    /// Says whose arguments these were, if it is about arguments.
    pub(super) fn of_method(self, payload: &[u8]) -> Error {
        let &[c0, c1, m0, m1, ..] = payload else { return self };
        match self.code() {
            ReplyCode::SyntaxError | ReplyCode::FrameError => {
                let method = (u16::from_be_bytes([c0, c1]), u16::from_be_bytes([m0, m1]));
                Error::Arguments { method, error: Box::new(self) }
            }
            _ => self,
        }
    }

    /// Code and text as a close method carries them: `FRAME_ERROR - frame type 7 is unknown`.
    pub fn reply_text(&self) -> String {
        format!("{} - {self}", self.code().name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_error_has_its_reply_code_and_says_what_was_found() {
        for (error, code, text) in [
            (Error::FrameType(7), 501, "FRAME_ERROR - frame type 7 is unknown"),
            (Error::FieldType(b'?'), 502, "SYNTAX_ERROR - table field type '?' is unknown"),
            (Error::UnknownClass(61), 503, "COMMAND_INVALID - class 61 is unknown"),
            (
                Error::Heartbeat { channel: 0, bytes: 1 },
                501,
                "FRAME_ERROR - heartbeat on channel 0 with 1 bytes of payload",
            ),
            (
                Error::Heartbeat { channel: 1, bytes: 0 },
                505,
                "UNEXPECTED_FRAME - heartbeat on channel 1 with 0 bytes of payload",
            ),
            (Error::ContentOnChannelZero, 504, "CHANNEL_ERROR - content frame on channel 0"),
            (Error::NotImplemented(80), 540, "NOT_IMPLEMENTED - class 80 is not implemented"),
        ] {
            assert_eq!((error.code().number(), error.reply_text().as_str()), (code, text));
        }
        assert_eq!(Error::ExpectedMethod.code(), ReplyCode::UnexpectedFrame);
    }

    #[test]
    fn soft_errors_close_the_channel_and_hard_ones_the_connection() {
        assert!(!ReplyCode::PreconditionFailed.closes_connection());
        assert!(!ReplyCode::NoRoute.closes_connection());
        assert!(ReplyCode::InvalidPath.closes_connection());
        assert!(ReplyCode::ConnectionForced.closes_connection());
        assert!(ReplyCode::FrameError.closes_connection());
    }
}
