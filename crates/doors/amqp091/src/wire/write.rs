//! How are numbers, strings and bits put behind what a buffer holds?

use bytes::{BufMut, Bytes, BytesMut};
use smol_str::SmolStr;

use super::{Table, limits::SHORT_BYTES_MAX};

/// Writes the types of AMQP behind what a buffer holds.
pub trait Put {
    /// A short string. What does not fit is cut off between two characters.
    fn put_short_text(&mut self, text: &str);
    /// A short string that need not be text; the same holds between any two bytes.
    fn put_short_bytes(&mut self, bytes: &[u8]);
    /// A long string.
    fn put_long_bytes(&mut self, bytes: &[u8]);
}

impl Put for BytesMut {
    #[inline]
    fn put_short_text(&mut self, text: &str) {
        let fits = |at: &usize| text.is_char_boundary(*at);
        let end = if text.len() <= SHORT_BYTES_MAX {
            text.len()
        } else {
            (0..=SHORT_BYTES_MAX).rfind(fits).unwrap_or(0)
        };
        self.put_short_bytes(&text.as_bytes()[..end]);
    }

    #[inline]
    fn put_short_bytes(&mut self, bytes: &[u8]) {
        let bytes = &bytes[..bytes.len().min(SHORT_BYTES_MAX)];
        self.put_u8(bytes.len() as u8);
        self.put_slice(bytes);
    }

    fn put_long_bytes(&mut self, bytes: &[u8]) {
        // What is written fits a frame or was read from one, so four bytes hold its length.
        self.put_u32(u32::try_from(bytes.len()).expect("a long string below 4 GiB"));
        self.put_slice(bytes);
    }
}

/// A method's arguments on their way out, neighbouring bits gathered into one octet.
#[derive(Debug)]
pub(super) struct Writer<'a> {
    out: &'a mut BytesMut,
    bits: u8,
    bit_count: u8,
}

impl<'a> Writer<'a> {
    pub(super) fn new(out: &'a mut BytesMut) -> Writer<'a> {
        Writer { out, bits: 0, bit_count: 0 }
    }

    #[inline]
    fn bit(&mut self, bit: bool) {
        self.bits |= u8::from(bit) << self.bit_count;
        self.bit_count += 1;
        if self.bit_count == 8 {
            self.flush();
        }
    }

    #[inline]
    fn flush(&mut self) {
        if self.bit_count > 0 {
            self.out.put_u8(self.bits);
            self.bits = 0;
            self.bit_count = 0;
        }
    }

    /// The buffer, with no bits waiting.
    #[inline]
    fn aligned(&mut self) -> &mut BytesMut {
        self.flush();
        self.out
    }

    pub(super) fn finish(mut self) {
        self.flush();
    }
}

/// An argument's type: how it is written.
pub(super) trait Field {
    fn put(&self, writer: &mut Writer<'_>);
}

macro_rules! field {
    ($($type:ty => |$value:ident, $writer:ident| $put:expr;)*) => {$(
        impl Field for $type {
            #[inline]
            fn put(&self, $writer: &mut Writer<'_>) {
                let $value = self;
                $put;
            }
        }
    )*};
}

field! {
    u8 => |value, writer| writer.aligned().put_u8(*value);
    u16 => |value, writer| writer.aligned().put_u16(*value);
    u32 => |value, writer| writer.aligned().put_u32(*value);
    u64 => |value, writer| writer.aligned().put_u64(*value);
    bool => |value, writer| writer.bit(*value);
    SmolStr => |value, writer| writer.aligned().put_short_text(value);
    Bytes => |value, writer| writer.aligned().put_long_bytes(value);
    Table => |value, writer| value.write(writer.aligned());
}
