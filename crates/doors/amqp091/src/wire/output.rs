//! What goes out next, and how is it written with few calls and few copies?
//!
//! Frames are put behind each other in one buffer. A large body is kept where it lies and written from there: [`Output`] is a
//! [`Buf`] of several chunks, so that one vectored write takes them all.

use std::{collections::VecDeque, io::IoSlice};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::{
    Arguments, ChannelId, Method, Put,
    frame::{BODY, END, HEAD_BYTES, HEADER, HEARTBEAT, METHOD},
    limits::{COPIED_BODY_BYTES_MAX, FRAME_BYTES_MIN, FRAME_OVERHEAD_BYTES},
    methods::{BASIC_CLASS, basic},
};

/// Room that a new buffer has.
const BUFFER_BYTES: usize = 64 << 10;

/// Frames on their way out.
#[derive(Debug)]
pub struct Output {
    /// What is complete, in front of `tail`.
    chunks: VecDeque<Bytes>,
    /// Bytes in `chunks`.
    chunk_bytes: usize,
    tail: BytesMut,
    frame_max: usize,
}

impl Default for Output {
    fn default() -> Output {
        Output {
            chunks: VecDeque::new(),
            chunk_bytes: 0,
            tail: BytesMut::new(),
            frame_max: FRAME_BYTES_MIN as usize,
        }
    }
}

impl Output {
    /// Sets the largest frame, as agreed on; not below [`FRAME_BYTES_MIN`].
    pub fn set_frame_max(&mut self, bytes: u32) {
        self.frame_max = bytes.max(FRAME_BYTES_MIN) as usize;
    }

    /// Bytes that wait to be written.
    pub fn len(&self) -> usize {
        self.chunk_bytes + self.tail.len()
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts bytes that are not a frame: the greeting.
    pub fn put_raw(&mut self, bytes: &[u8]) {
        self.tail.put_slice(bytes);
    }

    /// A heartbeat.
    pub fn put_heartbeat(&mut self) {
        self.tail.put_slice(&[HEARTBEAT, 0, 0, 0, 0, 0, 0, END]);
    }

    /// A method of a known type, without content.
    #[inline]
    pub fn put(&mut self, channel: ChannelId, arguments: &impl Arguments) {
        self.put_frame(METHOD, channel, |out| arguments.write_payload(out));
    }

    /// Any method, without content.
    pub fn put_method(&mut self, channel: ChannelId, method: &Method) {
        self.put_frame(METHOD, channel, |out| method.write_payload(out));
    }

    /// A message for a consumer. `properties` writes flags and properties.
    #[inline]
    pub fn put_deliver(
        &mut self,
        channel: ChannelId,
        consumer_tag: &str,
        delivery_tag: u64,
        redelivered: bool,
        (exchange, routing_key): (&str, &str),
        properties: impl FnOnce(&mut BytesMut),
        body: &Bytes,
    ) {
        self.put_frame(METHOD, channel, |out| {
            out.put_u16(basic::Deliver::CLASS);
            out.put_u16(basic::Deliver::METHOD);
            out.put_short_text(consumer_tag);
            out.put_u64(delivery_tag);
            out.put_u8(u8::from(redelivered));
            out.put_short_text(exchange);
            out.put_short_text(routing_key);
        });
        self.put_content(channel, properties, body);
    }

    /// The content header and body behind a method of class basic. `properties` writes flags and properties.
    #[inline]
    pub fn put_content(&mut self, channel: ChannelId, properties: impl FnOnce(&mut BytesMut), body: &Bytes) {
        self.put_frame(HEADER, channel, |out| {
            out.put_u16(BASIC_CLASS);
            out.put_u16(0);
            out.put_u64(body.len() as u64);
            properties(out);
        });
        if body.len() <= COPIED_BODY_BYTES_MAX.min(self.frame_max - FRAME_OVERHEAD_BYTES) {
            if !body.is_empty() {
                self.put_frame(BODY, channel, |out| out.put_slice(body));
            }
            return;
        }
        let mut rest = body.clone();
        while !rest.is_empty() {
            let piece = rest.split_to(rest.len().min(self.frame_max - FRAME_OVERHEAD_BYTES));
            self.put_body(channel, piece);
        }
    }

    /// One body frame around bytes that stay where they are.
    fn put_body(&mut self, channel: ChannelId, piece: Bytes) {
        self.put_head(BODY, channel, piece.len() as u32);
        if piece.len() <= COPIED_BODY_BYTES_MAX {
            self.tail.put_slice(&piece);
        } else {
            let front = self.tail.split().freeze();
            self.chunk_bytes += front.len() + piece.len();
            self.chunks.extend([front, piece]);
        }
        self.tail.put_u8(END);
    }

    fn put_head(&mut self, kind: u8, channel: ChannelId, size: u32) {
        let mut head = [kind, 0, 0, 0, 0, 0, 0];
        head[1..3].copy_from_slice(&channel.0.to_be_bytes());
        head[3..].copy_from_slice(&size.to_be_bytes());
        self.tail.put_slice(&head);
    }

    /// A frame whose size is filled in when its payload is written.
    #[inline]
    fn put_frame(&mut self, kind: u8, channel: ChannelId, payload: impl FnOnce(&mut BytesMut)) {
        if self.tail.capacity() - self.tail.len() < COPIED_BODY_BYTES_MAX {
            self.tail.reserve(BUFFER_BYTES);
        }
        let at = self.tail.len();
        self.put_head(kind, channel, 0);
        payload(&mut self.tail);
        let size = (self.tail.len() - at - HEAD_BYTES) as u32;
        self.tail[at + 3..at + HEAD_BYTES].copy_from_slice(&size.to_be_bytes());
        self.tail.put_u8(END);
    }
}

impl Buf for Output {
    fn remaining(&self) -> usize {
        self.len()
    }

    fn chunk(&self) -> &[u8] {
        self.chunks.front().map_or(&self.tail[..], |front| &front[..])
    }

    fn chunks_vectored<'a>(&'a self, slices: &mut [IoSlice<'a>]) -> usize {
        let tail = (!self.tail.is_empty()).then_some(&self.tail[..]);
        let pieces = self.chunks.iter().map(|chunk| &chunk[..]).chain(tail);
        slices.iter_mut().zip(pieces).map(|(slice, piece)| *slice = IoSlice::new(piece)).count()
    }

    fn advance(&mut self, mut count: usize) {
        assert!(count <= self.len(), "advanced past what waits");
        while let Some(front) = self.chunks.front_mut() {
            let step = count.min(front.len());
            front.advance(step);
            self.chunk_bytes -= step;
            count -= step;
            if !front.is_empty() {
                return;
            }
            self.chunks.pop_front();
        }
        if count == self.tail.len() {
            // Keeps the room in front, which `advance` would give up.
            self.tail.clear();
        } else {
            self.tail.advance(count);
        }
    }
}
