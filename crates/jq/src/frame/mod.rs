//! What goes through the pipes between the server and a child.
//!
//! Each frame is a length (32 bits, little-endian, of what follows it) and a payload that begins with its kind (8 bits). All numbers
//! are little-endian. The child trusts what the server sends no more than the server trusts the child: both check every length.

pub mod answer;
pub mod request;

/// The longest frame: a document with its variables, or all results of one.
pub const FRAME_BYTES_MAX: usize = 256 << 20;
const LENGTH_BYTES: usize = 4;

/// Why bytes are no frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A length points past the end, or past [`FRAME_BYTES_MAX`].
    #[error("a length is wrong")]
    Length,
    /// No such kind.
    #[error("kind {0} is unknown")]
    Kind(u8),
    /// Text is not UTF-8.
    #[error("text is not UTF-8")]
    Utf8,
}

/// How long the frame at the front of `bytes` is, its length included; `None` while that is not known.
pub fn length(bytes: &[u8]) -> Result<Option<usize>, Error> {
    let Some(prefix) = bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let payload = u32::from_le_bytes(*prefix) as usize;
    if payload > FRAME_BYTES_MAX {
        return Err(Error::Length);
    }
    Ok(Some(LENGTH_BYTES + payload))
}

/// The payload of the whole frame at the front of `bytes`, and how long the frame is; `None` while it is not whole.
pub fn whole(bytes: &[u8]) -> Result<Option<(&[u8], usize)>, Error> {
    let length = length(bytes)?;
    Ok(length.and_then(|length| bytes.get(LENGTH_BYTES..length).map(|payload| (payload, length))))
}

/// Appends a frame whose payload `fill` appends.
fn put(out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend([0; LENGTH_BYTES]);
    fill(out);
    let payload = (out.len() - start - LENGTH_BYTES) as u32;
    out[start..start + LENGTH_BYTES].copy_from_slice(&payload.to_le_bytes());
}

fn put_prefixed(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend((bytes.len() as u32).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// Takes parts off the front of a payload.
struct Parts<'a>(&'a [u8]);

impl<'a> Parts<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Error> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Error::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn number<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        self.take(N)?.try_into().map_err(|_| Error::Length)
    }

    fn u8(&mut self) -> Result<u8, Error> {
        Ok(u8::from_le_bytes(self.number()?))
    }

    fn u32(&mut self) -> Result<u32, Error> {
        Ok(u32::from_le_bytes(self.number()?))
    }

    fn u64(&mut self) -> Result<u64, Error> {
        Ok(u64::from_le_bytes(self.number()?))
    }

    fn prefixed(&mut self) -> Result<&'a [u8], Error> {
        let count = self.u32()? as usize;
        self.take(count)
    }

    fn text(bytes: &[u8]) -> Result<&str, Error> {
        std::str::from_utf8(bytes).map_err(|_| Error::Utf8)
    }

    fn end(self) -> Result<(), Error> {
        if self.0.is_empty() { Ok(()) } else { Err(Error::Length) }
    }
}

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
