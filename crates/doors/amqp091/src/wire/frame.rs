//! Where does one frame end and the next begin? An incremental decoder over what was read so far (AMQP 0-9-1 §4.2.3).

use bytes::{Buf, Bytes, BytesMut};

use super::{
    Error, Method, Reader,
    limits::{FRAME_BYTES_HANDSHAKE, FRAME_OVERHEAD_BYTES},
};

pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;
pub(super) const HEARTBEAT: u8 = 8;
/// Each frame's last byte.
pub(super) const END: u8 = 0xce;
/// Type, channel and size.
pub(super) const HEAD_BYTES: usize = 7;
/// Class, weight and size of the body at the front of a header frame's payload.
pub(super) const HEADER_FIXED_BYTES: usize = 12;

/// A channel of a connection; 0 is the connection itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ChannelId(pub u16);

impl ChannelId {
    /// The connection itself.
    pub const CONNECTION: ChannelId = ChannelId(0);
}

/// One frame.
#[derive(Clone, Debug, PartialEq)]
pub enum Frame {
    /// A method with its arguments.
    Method(ChannelId, Method),
    /// What follows a method with content: the size of the body and the properties.
    Header(ChannelId, ContentHeader),
    /// A piece of a body.
    Body(ChannelId, Bytes),
    /// The peer is alive.
    Heartbeat,
}

/// A content header; its properties are read when they are needed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContentHeader {
    /// The method's class.
    pub class: u16,
    /// Bytes of the whole body.
    pub body_bytes: u64,
    /// Flags and properties as sent: [`super::Properties::read`], or straight into a message.
    pub properties: Bytes,
}

/// Takes frames off the front of what was read.
#[derive(Clone, Debug)]
pub struct Decoder {
    frame_max: u32,
}

impl Default for Decoder {
    fn default() -> Decoder {
        Decoder { frame_max: FRAME_BYTES_HANDSHAKE }
    }
}

impl Decoder {
    /// Sets the largest frame, as agreed on.
    pub fn set_frame_max(&mut self, bytes: u32) {
        self.frame_max = bytes;
    }

    /// The next whole frame; none while bytes are missing. Bodies and properties are slices of `input`, not copies.
    ///
    /// After an error the connection cannot go on: where the next frame begins is not known any more, or not to be trusted.
    #[inline]
    pub fn decode(&self, input: &mut BytesMut) -> Result<Option<Frame>, Error> {
        let Some((kind, channel, payload)) = self.measure(input)? else {
            return Ok(None);
        };
        let frame = match kind {
            METHOD => {
                let bytes = &input[HEAD_BYTES..HEAD_BYTES + payload];
                let method = Method::read(bytes).map_err(|error| error.of_method(bytes))?;
                input.advance(payload + FRAME_OVERHEAD_BYTES);
                Frame::Method(channel, method)
            }
            HEADER => Frame::Header(channel, read_header(take_payload(input, payload))?),
            BODY => Frame::Body(channel, take_payload(input, payload)),
            _ => {
                input.advance(payload + FRAME_OVERHEAD_BYTES);
                Frame::Heartbeat
            }
        };
        Ok(Some(frame))
    }

    /// How many more bytes the frame at the front needs at least; 0 if it is whole. For reserving before reading.
    pub fn missing(&self, input: &[u8]) -> usize {
        let Some(size) = input.get(3..HEAD_BYTES) else {
            return HEAD_BYTES - input.len();
        };
        let size = u32::from_be_bytes([size[0], size[1], size[2], size[3]]).min(self.frame_max);
        (size as usize + FRAME_OVERHEAD_BYTES).saturating_sub(input.len())
    }

    /// Type, channel and payload size of the whole frame at the front, all checked.
    #[inline]
    pub(super) fn measure(&self, input: &[u8]) -> Result<Option<(u8, ChannelId, usize)>, Error> {
        let Some((head, rest)) = input.split_first_chunk::<HEAD_BYTES>() else {
            return check_kind(input.first().copied()).map(|()| None);
        };
        check_kind(Some(head[0]))?;
        let channel = u16::from_be_bytes([head[1], head[2]]);
        let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]);
        let whole = u64::from(size) + FRAME_OVERHEAD_BYTES as u64;
        if whole > u64::from(self.frame_max) {
            return Err(Error::FrameTooLarge { bytes: whole, max: self.frame_max });
        }
        let payload = size as usize;
        match rest.get(payload) {
            None => return Ok(None),
            Some(&END) => {}
            Some(&other) => return Err(Error::FrameEnd(other)),
        }
        match head[0] {
            HEARTBEAT if channel != 0 || payload != 0 => Err(Error::Heartbeat { channel, bytes: payload }),
            HEADER | BODY if channel == 0 => Err(Error::ContentOnChannelZero),
            kind => Ok(Some((kind, ChannelId(channel), payload))),
        }
    }
}

/// A first byte that begins no frame is told at once: the peer may be waiting for an answer.
fn check_kind(kind: Option<u8>) -> Result<(), Error> {
    match kind {
        None | Some(METHOD | HEADER | BODY | HEARTBEAT) => Ok(()),
        Some(other) => Err(Error::FrameType(other)),
    }
}

/// Cuts a frame's payload out as a shared slice.
#[inline]
fn take_payload(input: &mut BytesMut, payload: usize) -> Bytes {
    input.advance(HEAD_BYTES);
    take_rest(input, payload)
}

/// Cuts the rest of a frame's payload out as a shared slice; the frame's end goes with it.
#[inline]
pub(super) fn take_rest(input: &mut BytesMut, bytes: usize) -> Bytes {
    let taken = input.split_to(bytes).freeze();
    input.advance(1);
    taken
}

#[inline]
fn read_header(mut payload: Bytes) -> Result<ContentHeader, Error> {
    let (class, body_bytes) = read_header_fixed(&payload)?;
    payload.advance(HEADER_FIXED_BYTES);
    Ok(ContentHeader { class, body_bytes, properties: payload })
}

/// What a header frame says before flags and properties: class, and size of the body.
#[inline]
pub(super) fn read_header_fixed(payload: &[u8]) -> Result<(u16, u64), Error> {
    let mut reader = Reader::new(payload);
    let (class, _weight, body_bytes) = (reader.u16()?, reader.u16()?, reader.u64()?);
    // The flags at least must follow.
    reader.u16()?;
    Ok((class, body_bytes))
}
