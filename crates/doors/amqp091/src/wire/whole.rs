//! How is a message read whose frames have all come? At one go: most come in three frames that lie behind one another.

use bytes::{Buf, BytesMut};

use super::{
    Arguments, ChannelId, Content, ContentHeader, Decoder, Frame, Reader,
    frame::{BODY, HEAD_BYTES, HEADER, HEADER_FIXED_BYTES, METHOD, read_header_fixed, take_rest},
    limits::FRAME_OVERHEAD_BYTES,
    methods::basic,
};

/// A message to be published, of three frames: `basic.publish`, header and one body frame, which is not empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// The channel of all three.
    pub channel: ChannelId,
    /// The method.
    pub publish: basic::Publish,
    /// Properties and body.
    pub content: Content,
}

impl Whole {
    /// How many frames it came in.
    pub const FRAMES: u64 = 3;

    /// The same, frame by frame.
    pub fn into_frames(self) -> [Frame; Whole::FRAMES as usize] {
        let Whole { channel, publish, content: Content { properties, body } } = self;
        let header =
            ContentHeader { class: basic::Publish::CLASS, body_bytes: body.len() as u64, properties };
        [Frame::Method(channel, publish.into()), Frame::Header(channel, header), Frame::Body(channel, body)]
    }
}

impl Decoder {
    /// Takes a message off the front if its three frames are all there and nothing is wrong with them. Else takes nothing:
    /// [`Decoder::decode`] says what is there.
    #[inline]
    pub fn decode_whole(&self, input: &mut BytesMut) -> Option<Whole> {
        let (channel, method) = self.expect(input, METHOD)?;
        let arguments = method.strip_prefix(&PUBLISH)?;
        let header_at = method.len() + FRAME_OVERHEAD_BYTES;
        let (header_channel, header) = self.expect(&input[header_at..], HEADER)?;
        let body_at = header_at + header.len() + FRAME_OVERHEAD_BYTES;
        let (body_channel, body) = self.expect(&input[body_at..], BODY)?;
        let (class, body_bytes) = read_header_fixed(header).ok()?;
        if (header_channel, body_channel) != (channel, channel)
            || class != basic::Publish::CLASS
            || body_bytes != body.len() as u64
            || body.is_empty()
        {
            return None;
        }
        let mut reader = Reader::new(arguments);
        let publish = basic::Publish::read(&mut reader).ok()?;
        reader.finish().ok()?;
        let (properties_bytes, body_bytes) = (header.len() - HEADER_FIXED_BYTES, body.len());
        input.advance(header_at + HEAD_BYTES + HEADER_FIXED_BYTES);
        let properties = take_rest(input, properties_bytes);
        input.advance(HEAD_BYTES);
        let body = take_rest(input, body_bytes);
        Some(Whole { channel, publish, content: Content { properties, body } })
    }

    /// The channel and payload of the frame at the front, if it is whole, right and of that kind.
    #[inline]
    fn expect<'a>(&self, input: &'a [u8], kind: u8) -> Option<(ChannelId, &'a [u8])> {
        if input.first() != Some(&kind) {
            return None;
        }
        let (_, channel, payload) = self.measure(input).ok()??;
        Some((channel, &input[HEAD_BYTES..HEAD_BYTES + payload]))
    }
}

/// Class and method of `basic.publish`.
const PUBLISH: [u8; 4] = [0, basic::Publish::CLASS as u8, 0, basic::Publish::METHOD as u8];
