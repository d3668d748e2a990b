//! How small integers are written: base-128 varints, plain and zigzag (as in Kafka's records and Protocol Buffers).

/// Why a varint, or bytes behind a length, could not be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The input ended inside.
    #[error("input ends inside a value")]
    Truncated,
    /// More than 64 bits.
    #[error("a varint has more than 64 bits")]
    Overflow,
    /// A length below zero or past what is left.
    #[error("a length points outside the input")]
    Length,
}

/// Bytes of the longest varint.
pub const BYTES_MAX: usize = 10;

/// Appends an unsigned varint.
#[inline]
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends a signed varint, zigzag-coded.
#[inline]
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, ((value << 1) ^ (value >> 63)) as u64);
}

/// How many bytes [`put_signed`] will write.
#[inline]
pub fn signed_len(value: i64) -> usize {
    let zigzag = ((value << 1) ^ (value >> 63)) as u64;
    (64 - (zigzag | 1).leading_zeros() as usize).div_ceil(7)
}

/// Takes an unsigned varint off the front of `input`.
#[inline]
pub fn take(input: &mut &[u8]) -> Result<u64, Error> {
    match input.split_first() {
        Some((&byte, rest)) if byte < 0x80 => {
            *input = rest;
            Ok(u64::from(byte))
        }
        _ => take_long(input),
    }
}

fn take_long(input: &mut &[u8]) -> Result<u64, Error> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = input.split_first().ok_or(Error::Truncated)?;
        *input = rest;
        if shift == 63 && byte > 1 {
            return Err(Error::Overflow);
        }
        value |= u64::from(byte & 0x7f) << shift;
        if byte < 0x80 {
            return Ok(value);
        }
    }
    Err(Error::Overflow)
}

/// Takes a zigzag-coded varint off the front of `input`.
#[inline]
pub fn take_signed(input: &mut &[u8]) -> Result<i64, Error> {
    let value = take(input)?;
    Ok((value >> 1) as i64 ^ -((value & 1) as i64))
}

/// Takes `length` bytes off the front of `input`.
#[inline]
pub fn take_bytes<'a>(input: &mut &'a [u8], length: usize) -> Result<&'a [u8], Error> {
    if length > input.len() {
        return Err(Error::Length);
    }
    let (bytes, rest) = input.split_at(length);
    *input = rest;
    Ok(bytes)
}

/// Takes bytes behind a plain varint length.
#[inline]
pub fn take_prefixed<'a>(input: &mut &'a [u8]) -> Result<&'a [u8], Error> {
    let length = usize::try_from(take(input)?).map_err(|_| Error::Length)?;
    take_bytes(input, length)
}

/// Appends bytes behind a plain varint length.
#[inline]
pub fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back(value: u64, signed: i64) {
            let mut out = Vec::new();
            put(&mut out, value);
            let before = out.len();
            put_signed(&mut out, signed);
            prop_assert_eq!(out.len() - before, signed_len(signed));
            let mut input = &out[..];
            prop_assert_eq!(take(&mut input), Ok(value));
            prop_assert_eq!(take_signed(&mut input), Ok(signed));
            prop_assert!(input.is_empty());
        }

        #[test]
        fn any_bytes_give_a_number_or_an_error(bytes: Vec<u8>) {
            let _ = take(&mut &bytes[..]);
            let _ = take_prefixed(&mut &bytes[..]);
        }
    }

    #[test]
    fn the_65th_bit_and_a_cut_are_refused() {
        assert_eq!(take(&mut &[0xff; 10][..]), Err(Error::Overflow));
        assert_eq!(take(&mut &[0xff; 3][..]), Err(Error::Truncated));
        assert_eq!(take_prefixed(&mut &[5, 1][..]), Err(Error::Length));
    }
}
