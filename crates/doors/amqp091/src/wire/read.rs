//! How are numbers, strings and bits taken off the front of a payload? Nothing is trusted before it is there.

use bytes::Bytes;
use smol_str::SmolStr;

use super::{Error, Table};

/// What is left of a payload.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    rest: &'a [u8],
    bits: u8,
    /// Bits of `bits` that are already taken; 8: all.
    bits_taken: u8,
}

impl<'a> Reader<'a> {
    /// Reads from the front of `payload`.
    pub fn new(payload: &'a [u8]) -> Reader<'a> {
        Reader { rest: payload, bits: 0, bits_taken: 8 }
    }

    /// The next `count` bytes.
    #[inline]
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (head, rest) = self.rest.split_at_checked(count).ok_or(Error::Truncated)?;
        self.rest = rest;
        self.bits_taken = 8;
        Ok(head)
    }

    #[inline]
    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self.rest.split_first_chunk().ok_or(Error::Truncated)?;
        self.rest = rest;
        self.bits_taken = 8;
        Ok(*head)
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self) -> Result<u8, Error> {
        self.array().map(u8::from_be_bytes)
    }

    /// Two bytes.
    #[inline]
    pub fn u16(&mut self) -> Result<u16, Error> {
        self.array().map(u16::from_be_bytes)
    }

    /// Four bytes.
    #[inline]
    pub fn u32(&mut self) -> Result<u32, Error> {
        self.array().map(u32::from_be_bytes)
    }

    /// Eight bytes.
    #[inline]
    pub fn u64(&mut self) -> Result<u64, Error> {
        self.array().map(u64::from_be_bytes)
    }

    /// One bit; neighbouring bits share an octet, the first in its lowest bit (AMQP 0-9-1 §4.2.5.2).
    #[inline]
    pub fn bit(&mut self) -> Result<bool, Error> {
        if self.bits_taken == 8 {
            self.bits = self.u8()?;
            self.bits_taken = 0;
        }
        let bit = self.bits >> self.bits_taken & 1 == 1;
        self.bits_taken += 1;
        Ok(bit)
    }

    /// The bytes of a short string, whatever they are.
    #[inline]
    pub fn short_bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = self.u8()?;
        self.bytes(length.into())
    }

    /// A short string.
    #[inline]
    pub fn short_text(&mut self) -> Result<&'a str, Error> {
        std::str::from_utf8(self.short_bytes()?).map_err(|_| Error::Utf8)
    }

    /// The bytes of a long string.
    #[inline]
    pub fn long_bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = self.u32()?;
        self.bytes(usize::try_from(length).map_err(|_| Error::Truncated)?)
    }

    /// Whether nothing is left.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Refuses what is left over.
    #[inline]
    pub fn finish(&self) -> Result<(), Error> {
        if self.rest.is_empty() { Ok(()) } else { Err(Error::Trailing(self.rest.len())) }
    }
}

/// An argument's type: how it is read. [`super::write::Field`] is how it is written.
pub(super) trait Take: Sized {
    fn take(reader: &mut Reader<'_>) -> Result<Self, Error>;
}

macro_rules! take {
    ($($type:ty => |$reader:ident| $read:expr;)*) => {$(
        impl Take for $type {
            #[inline]
            fn take($reader: &mut Reader<'_>) -> Result<Self, Error> {
                $read
            }
        }
    )*};
}

take! {
    u8 => |reader| reader.u8();
    u16 => |reader| reader.u16();
    u32 => |reader| reader.u32();
    u64 => |reader| reader.u64();
    bool => |reader| reader.bit();
    SmolStr => |reader| reader.short_text().map(SmolStr::new);
    Bytes => |reader| reader.long_bytes().map(Bytes::copy_from_slice);
    Table => |reader| Table::read(reader);
}
