//! What a header may hold: the types that the protocols behind the doors know, kept apart so that each comes back as sent.

use bytes::Bytes;
use smol_str::SmolStr;

use crate::{limits::VALUE_DEPTH_MAX, time::Millis, varint};

/// A typed header value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// No value.
    Null,
    /// True or false.
    Bool(bool),
    /// 8 bits, signed.
    I8(i8),
    /// 8 bits, unsigned.
    U8(u8),
    /// 16 bits, signed.
    I16(i16),
    /// 16 bits, unsigned.
    U16(u16),
    /// 32 bits, signed.
    I32(i32),
    /// 32 bits, unsigned.
    U32(u32),
    /// 64 bits, signed.
    I64(i64),
    /// 64 bits, unsigned.
    U64(u64),
    /// IEEE 754 single.
    F32(f32),
    /// IEEE 754 double.
    F64(f64),
    /// `unscaled / 10^scale` (AMQP 0-9-1 §4.2.5.4).
    Decimal {
        /// Digits after the point.
        scale: u8,
        /// The digits.
        unscaled: i32,
    },
    /// A moment.
    Timestamp(Millis),
    /// UTF-8 text.
    String(SmolStr),
    /// Bytes without a meaning of their own.
    Bytes(Bytes),
    /// What was sent as text and is not UTF-8: its bytes, and that they were called text.
    RawText(Bytes),
    /// Values in order.
    List(Vec<Value>),
    /// Named values in order.
    Map(Vec<(SmolStr, Value)>),
}

/// Why stored bytes are not a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A number, length or text was cut.
    #[error(transparent)]
    Varint(#[from] varint::Error),
    /// A type tag of no type.
    #[error("unknown value type {0}")]
    Type(u8),
    /// Text that is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
    /// Lists in lists past [`VALUE_DEPTH_MAX`].
    #[error("a value is nested deeper than {VALUE_DEPTH_MAX}")]
    Depth,
    /// Text that should be a number or truth value is not.
    #[error("text {0:?} is not of its type")]
    Text(String),
}

impl Value {
    /// The type's number in stored form.
    pub fn type_tag(&self) -> u8 {
        match self {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::I8(_) => 2,
            Value::U8(_) => 3,
            Value::I16(_) => 4,
            Value::U16(_) => 5,
            Value::I32(_) => 6,
            Value::U32(_) => 7,
            Value::I64(_) => 8,
            Value::U64(_) => 9,
            Value::F32(_) => 10,
            Value::F64(_) => 11,
            Value::Decimal { .. } => 12,
            Value::Timestamp(_) => 13,
            Value::String(_) => 14,
            Value::Bytes(_) => 15,
            Value::List(_) => 16,
            Value::Map(_) => 17,
            Value::RawText(_) => 18,
        }
    }

    /// The text, if this is text.
    pub fn as_str(&self) -> Option<&str> {
        if let Value::String(text) = self { Some(text) } else { None }
    }

    /// The number, if this is a whole number that fits.
    pub fn as_i64(&self) -> Option<i64> {
        Some(match *self {
            Value::I8(n) => n.into(),
            Value::U8(n) => n.into(),
            Value::I16(n) => n.into(),
            Value::U16(n) => n.into(),
            Value::I32(n) => n.into(),
            Value::U32(n) => n.into(),
            Value::I64(n) => n,
            Value::U64(n) => i64::try_from(n).ok()?,
            Value::Timestamp(at) => i64::try_from(at.0).ok()?,
            _ => return None,
        })
    }

    /// How deep lists and maps are nested; 0 for a plain value.
    pub fn depth(&self) -> usize {
        match self {
            Value::List(items) => 1 + items.iter().map(Value::depth).max().unwrap_or(0),
            Value::Map(items) => 1 + items.iter().map(|(_, value)| value.depth()).max().unwrap_or(0),
            _ => 0,
        }
    }

    /// Appends the form in which a header of this type is stored: text for what a person can read (so that any reader of
    /// record batches can), the raw bytes for bytes, [`Value::encode`] for lists and maps. The type tag is kept elsewhere.
    pub fn put_plain(&self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        // Writing to a Vec does not fail.
        let _ = match self {
            Value::Null => Ok(()),
            Value::Bool(v) => write!(out, "{v}"),
            Value::I8(v) => write!(out, "{v}"),
            Value::U8(v) => write!(out, "{v}"),
            Value::I16(v) => write!(out, "{v}"),
            Value::U16(v) => write!(out, "{v}"),
            Value::I32(v) => write!(out, "{v}"),
            Value::U32(v) => out.write_all(itoa::Buffer::new().format(*v).as_bytes()),
            Value::I64(v) => out.write_all(itoa::Buffer::new().format(*v).as_bytes()),
            Value::U64(v) => out.write_all(itoa::Buffer::new().format(*v).as_bytes()),
            Value::F32(v) => write!(out, "{v:?}"),
            Value::F64(v) => write!(out, "{v:?}"),
            Value::Decimal { scale, unscaled } => write!(out, "{unscaled}e-{scale}"),
            Value::Timestamp(v) => write!(out, "{}", v.0),
            Value::String(v) => out.write_all(v.as_bytes()),
            Value::Bytes(v) | Value::RawText(v) => out.write_all(v),
            Value::List(_) | Value::Map(_) => {
                self.encode(out);
                Ok(())
            }
        };
    }

    /// Reads what [`Value::put_plain`] wrote, given the type tag.
    pub fn from_plain(tag: u8, bytes: &[u8]) -> Result<Value, Error> {
        fn parse<T: std::str::FromStr>(text: &str) -> Result<T, Error> {
            text.parse().map_err(|_| Error::Text(text.chars().take(40).collect()))
        }
        match tag {
            15 => return Ok(Value::Bytes(Bytes::copy_from_slice(bytes))),
            16 | 17 => return Value::decode(&mut &bytes[..]),
            18 => return Ok(Value::RawText(Bytes::copy_from_slice(bytes))),
            _ => {}
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Error::Utf8)?;
        Ok(match tag {
            0 => Value::Null,
            1 => Value::Bool(parse(text)?),
            2 => Value::I8(parse(text)?),
            3 => Value::U8(parse(text)?),
            4 => Value::I16(parse(text)?),
            5 => Value::U16(parse(text)?),
            6 => Value::I32(parse(text)?),
            7 => Value::U32(parse(text)?),
            8 => Value::I64(parse(text)?),
            9 => Value::U64(parse(text)?),
            10 => Value::F32(parse(text)?),
            11 => Value::F64(parse(text)?),
            12 => {
                let (unscaled, scale) = text.split_once("e-").ok_or_else(|| Error::Text(text.to_owned()))?;
                Value::Decimal { scale: parse(scale)?, unscaled: parse(unscaled)? }
            }
            13 => Value::Timestamp(Millis(parse(text)?)),
            14 => Value::String(SmolStr::new(text)),
            other => return Err(Error::Type(other)),
        })
    }

    /// Appends the self-describing form: type tag, then length and plain form; lists and maps as a count and their parts.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.type_tag());
        match self {
            Value::List(items) => {
                varint::put(out, items.len() as u64);
                items.iter().for_each(|item| item.encode(out));
            }
            Value::Map(items) => {
                varint::put(out, items.len() as u64);
                for (name, value) in items {
                    varint::put_prefixed(out, name.as_bytes());
                    value.encode(out);
                }
            }
            plain => {
                let mut text = Vec::new();
                plain.put_plain(&mut text);
                varint::put_prefixed(out, &text);
            }
        }
    }

    /// Takes a self-describing value off the front of `input`.
    pub fn decode(input: &mut &[u8]) -> Result<Value, Error> {
        Value::decode_at(input, 0)
    }

    fn decode_at(input: &mut &[u8], depth: usize) -> Result<Value, Error> {
        if depth > VALUE_DEPTH_MAX {
            return Err(Error::Depth);
        }
        let tag = varint::take_bytes(input, 1)?[0];
        if !matches!(tag, 16 | 17) {
            return Value::from_plain(tag, varint::take_prefixed(input)?);
        }
        let count = varint::take(input)?;
        // Each part takes a byte at least, so a count past the input is refused before anything is reserved for it.
        if count > input.len() as u64 {
            return Err(varint::Error::Length.into());
        }
        if tag == 16 {
            return (0..count)
                .map(|_| Value::decode_at(input, depth + 1))
                .collect::<Result<_, _>>()
                .map(Value::List);
        }
        let mut items = Vec::new();
        for _ in 0..count {
            let name = std::str::from_utf8(varint::take_prefixed(input)?).map_err(|_| Error::Utf8)?;
            items.push((SmolStr::new(name), Value::decode_at(input, depth + 1)?));
        }
        Ok(Value::Map(items))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::String(text.into())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::String(text.into())
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Value {
        Value::I64(number)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Any value up to three levels deep, without NaN (which differs from itself).
    pub(crate) fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::Bool),
            any::<i8>().prop_map(Value::I8),
            any::<u8>().prop_map(Value::U8),
            any::<i16>().prop_map(Value::I16),
            any::<u16>().prop_map(Value::U16),
            any::<i32>().prop_map(Value::I32),
            any::<u32>().prop_map(Value::U32),
            any::<i64>().prop_map(Value::I64),
            any::<u64>().prop_map(Value::U64),
            any::<f32>().prop_filter("a number", |v| !v.is_nan()).prop_map(Value::F32),
            any::<f64>().prop_filter("a number", |v| !v.is_nan()).prop_map(Value::F64),
            (any::<u8>(), any::<i32>()).prop_map(|(scale, unscaled)| Value::Decimal { scale, unscaled }),
            any::<u64>().prop_map(|ms| Value::Timestamp(Millis(ms))),
            ".{0,40}".prop_map(Value::from),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(|b| Value::Bytes(b.into())),
            proptest::collection::vec(128..=255u8, 1..40).prop_map(|b| Value::RawText(b.into())),
        ];
        leaf.prop_recursive(3, 24, 6, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..6).prop_map(Value::List),
                proptest::collection::vec(("[a-z]{0,8}".prop_map(SmolStr::new), inner), 0..6)
                    .prop_map(Value::Map),
            ]
        })
    }

    proptest! {
        #[test]
        fn each_value_comes_back_with_its_type(value in any_value()) {
            let mut bytes = Vec::new();
            value.encode(&mut bytes);
            prop_assert_eq!(Value::decode(&mut &bytes[..]), Ok(value.clone()));
            let mut plain = Vec::new();
            value.put_plain(&mut plain);
            prop_assert_eq!(Value::from_plain(value.type_tag(), &plain), Ok(value));
        }

        #[test]
        fn any_bytes_give_a_value_or_an_error(bytes: Vec<u8>) {
            let _ = Value::decode(&mut &bytes[..]);
        }
    }

    #[test]
    fn nesting_is_bounded_at_value_depth_max() {
        let nested = |levels: usize| {
            let mut bytes = [16u8, 1].repeat(levels);
            bytes.extend([0, 0]);
            Value::decode(&mut &bytes[..])
        };
        assert!(nested(VALUE_DEPTH_MAX).is_ok());
        assert_eq!(nested(VALUE_DEPTH_MAX + 1), Err(Error::Depth));
    }

    #[test]
    fn a_count_past_the_input_is_refused() {
        assert_eq!(Value::decode(&mut &[16, 0xff, 0xff, 0x7f][..]), Err(varint::Error::Length.into()));
    }
}
