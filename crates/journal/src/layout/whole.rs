//! What files have in common that are written whole, once, and end with a trailer: settled files and record files.
//!
//! ```text
//! header   0   8   magic       (all numbers little-endian)
//!          8   4   version
//!          12  4   file id
//!          16  4   CRC-32C of bytes 0..16
//!          20  12  zeros
//! ```
//!
//! Magic and version keep their places in every later version.

use super::u32_at;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 32;

/// One kind of such files.
#[derive(Clone, Copy, Debug)]
pub struct Form {
    /// With what a file begins.
    pub magic: [u8; 8],
    /// The version that this code writes and reads.
    pub version: u32,
    /// What people call it: `settled`, `record`.
    pub name: &'static str,
}

/// What does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LayoutError {
    /// Too few bytes.
    #[error("the file is too short")]
    TooShort,
    /// It does not begin or end like a file of its kind.
    #[error("the file does not look like a complete {0} file")]
    Magic(&'static str),
    /// A later or foreign version.
    #[error("the file has format version {found}, and this program reads version {read} only")]
    Version {
        /// What the file says.
        found: u32,
        /// What can be read.
        read: u32,
    },
    /// A checksum does not fit.
    #[error("the checksum does not fit")]
    Checksum,
    /// A length, offset or number contradicts another or a limit.
    #[error("the lengths and offsets contradict each other")]
    Contradiction,
}

impl Form {
    /// The header of a file.
    pub fn encode_header(&self, id: u32) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&self.magic);
        bytes[8..12].copy_from_slice(&self.version.to_le_bytes());
        bytes[12..16].copy_from_slice(&id.to_le_bytes());
        let crc = crc32c::crc32c(&bytes[..16]);
        bytes[16..20].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Reads the header of a file; gives its id.
    pub fn decode_header(&self, bytes: &[u8]) -> Result<u32, LayoutError> {
        let bytes = bytes.get(..HEADER_BYTES).ok_or(LayoutError::TooShort)?;
        if bytes[..8] != self.magic {
            return Err(LayoutError::Magic(self.name));
        }
        if crc32c::crc32c(&bytes[..16]) != u32_at(bytes, 16) {
            return Err(LayoutError::Checksum);
        }
        match u32_at(bytes, 8) {
            found if found == self.version => Ok(u32_at(bytes, 12)),
            found => Err(LayoutError::Version { found, read: self.version }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Form = Form { magic: *b"WAYTEST\n", version: 3, name: "test" };

    #[track_caller]
    fn check(change: impl FnOnce(&mut [u8; HEADER_BYTES]), expected: Result<u32, LayoutError>) {
        let mut bytes = FORM.encode_header(7);
        change(&mut bytes);
        assert_eq!(FORM.decode_header(&bytes), expected);
    }

    #[test]
    fn a_header_comes_back_and_what_is_bent_is_told() {
        check(|_| (), Ok(7));
        check(|bytes| bytes[0] = b'X', Err(LayoutError::Magic("test")));
        check(|bytes| bytes[12] ^= 1, Err(LayoutError::Checksum));
        check(
            |bytes| {
                bytes[8] = 4;
                let crc = crc32c::crc32c(&bytes[..16]);
                bytes[16..20].copy_from_slice(&crc.to_le_bytes());
            },
            Err(LayoutError::Version { found: 4, read: 3 }),
        );
        assert_eq!(
            FORM.decode_header(&FORM.encode_header(7)[..HEADER_BYTES - 1]),
            Err(LayoutError::TooShort)
        );
    }
}
