//! Which method does a header or body frame belong to? One assembler for each channel (AMQP 0-9-1 §4.2.6).

use bytes::{Bytes, BytesMut};

use super::{ContentHeader, Error, Frame, Method};

/// A method, with its content if it has one.
#[derive(Clone, Debug, PartialEq)]
pub struct Command {
    /// The method.
    pub method: Method,
    /// What followed it.
    pub content: Option<Content>,
}

/// Properties and body of one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Content {
    /// Flags and properties as sent.
    pub properties: Bytes,
    /// The whole body: a slice of the read buffer where it came in one frame.
    pub body: Bytes,
}

/// What a channel waits for.
#[derive(Debug, Default)]
enum State {
    #[default]
    Method,
    Header(Method),
    Body {
        method: Method,
        header: ContentHeader,
        /// What came so far, once there is more than one frame.
        body: BytesMut,
    },
}

/// Puts the frames of one channel together.
#[derive(Debug)]
pub struct Assembler {
    state: State,
    body_max: u64,
}

/// Room that is reserved for a body before it has come.
const BODY_RESERVED_BYTES_MAX: u64 = 1 << 20;

impl Assembler {
    /// Refuses bodies past `body_max` bytes.
    pub fn new(body_max: u64) -> Assembler {
        Assembler { state: State::Method, body_max }
    }

    /// The method that the channel is in the midst of, for the close method after an error.
    pub fn method(&self) -> Option<&Method> {
        match &self.state {
            State::Method => None,
            State::Header(method) | State::Body { method, .. } => Some(method),
        }
    }

    /// Whether the next frame begins a command, which may have a body frame of so many bytes: none is empty.
    pub fn takes_whole(&self, body_bytes: usize) -> bool {
        matches!(self.state, State::Method) && (1..=self.body_max).contains(&(body_bytes as u64))
    }

    /// Takes the channel's next frame; gives the command that it completes. A heartbeat changes nothing.
    #[inline]
    pub fn take(&mut self, frame: Frame) -> Result<Option<Command>, Error> {
        match frame {
            Frame::Method(_, method) => self.take_method(method),
            Frame::Header(_, header) => self.take_header(header),
            Frame::Body(_, bytes) => self.take_body(bytes),
            Frame::Heartbeat => Ok(None),
        }
    }

    #[inline]
    fn take_method(&mut self, method: Method) -> Result<Option<Command>, Error> {
        match &self.state {
            State::Method if method.has_content() => {
                self.state = State::Header(method);
                Ok(None)
            }
            State::Method => Ok(Some(Command { method, content: None })),
            State::Header(begun) => Err(Error::ExpectedHeader(begun.numbers().0)),
            State::Body { .. } => Err(Error::ExpectedBody),
        }
    }

    #[inline]
    fn take_header(&mut self, header: ContentHeader) -> Result<Option<Command>, Error> {
        let method = match std::mem::take(&mut self.state) {
            State::Header(method) => method,
            State::Method => return Err(Error::ExpectedMethod),
            body @ State::Body { .. } => {
                self.state = body;
                return Err(Error::ExpectedBody);
            }
        };
        let class = method.numbers().0;
        if header.class != class {
            self.state = State::Header(method);
            return Err(Error::HeaderClass { expected: class, found: header.class });
        }
        if header.body_bytes > self.body_max {
            let bytes = header.body_bytes;
            self.state = State::Header(method);
            return Err(Error::MessageTooLarge { bytes, max: self.body_max });
        }
        if header.body_bytes == 0 {
            let content = Content { properties: header.properties, body: Bytes::new() };
            return Ok(Some(Command { method, content: Some(content) }));
        }
        self.state = State::Body { method, header, body: BytesMut::new() };
        Ok(None)
    }

    #[inline]
    fn take_body(&mut self, bytes: Bytes) -> Result<Option<Command>, Error> {
        let State::Body { header, body, .. } = &mut self.state else {
            return Err(match &self.state {
                State::Header(method) => Error::ExpectedHeader(method.numbers().0),
                _ => Error::ExpectedMethod,
            });
        };
        let expected = header.body_bytes - body.len() as u64;
        let found = bytes.len() as u64;
        if found > expected {
            return Err(Error::BodyTooLong { expected, found });
        }
        let whole = if found == expected && body.is_empty() {
            bytes
        } else {
            if body.is_empty() {
                body.reserve(header.body_bytes.min(BODY_RESERVED_BYTES_MAX) as usize);
            }
            body.extend_from_slice(&bytes);
            if found < expected {
                return Ok(None);
            }
            std::mem::take(body).freeze()
        };
        let State::Body { method, header, .. } = std::mem::take(&mut self.state) else {
            return Ok(None);
        };
        let content = Content { properties: header.properties, body: whole };
        Ok(Some(Command { method, content: Some(content) }))
    }
}
