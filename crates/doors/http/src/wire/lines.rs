//! Where do lines end in a body that comes in chunks? Whole lines are shared with their chunk; only one that
//! crosses chunks is put together.

use bytes::{Buf, Bytes, BytesMut};
use waystation_base::limits::MESSAGE_BYTES_MAX;

use super::Error;

/// Bytes of one line: a message at its limit in base 64, and room for the rest of the line.
pub const LINE_BYTES_MAX: usize = MESSAGE_BYTES_MAX / 3 * 4 + (1 << 20);

/// Takes chunks, gives lines without their ends.
#[derive(Debug)]
pub struct Lines {
    carry: BytesMut,
    chunk: Bytes,
    line_max: usize,
}

impl Default for Lines {
    fn default() -> Lines {
        Lines::with_limit(LINE_BYTES_MAX)
    }
}

impl Lines {
    /// With a bound of its own on one line.
    pub fn with_limit(line_max: usize) -> Lines {
        Lines { carry: BytesMut::new(), chunk: Bytes::new(), line_max }
    }

    /// Adds a chunk. The lines of the one before must have been taken.
    pub fn push(&mut self, chunk: Bytes) {
        assert!(self.chunk.is_empty(), "lines are taken before the next chunk");
        self.chunk = chunk;
    }

    /// Bytes of a begun line that wait for its end.
    pub fn carried(&self) -> usize {
        self.carry.len()
    }

    /// The next whole line, or `None` until there is more.
    pub fn next_line(&mut self) -> Result<Option<Bytes>, Error> {
        let end = memchr::memchr(b'\n', &self.chunk);
        let length = self.carry.len() + end.unwrap_or(self.chunk.len());
        if length > self.line_max {
            return Err(Error::TooLarge { what: "a line", limit: self.line_max });
        }
        let Some(end) = end else {
            self.carry.extend_from_slice(&self.chunk);
            self.chunk.clear();
            return Ok(None);
        };
        let line = self.chunk.split_to(end);
        self.chunk.advance(1);
        if self.carry.is_empty() {
            return Ok(Some(line));
        }
        self.carry.extend_from_slice(&line);
        Ok(Some(self.carry.split().freeze()))
    }

    /// What stands after the last line end, when no more comes.
    pub fn finish(&mut self) -> Option<Bytes> {
        assert!(self.chunk.is_empty(), "lines are taken before the end");
        Some(self.carry.split().freeze()).filter(|line| !line.is_empty())
    }
}

/// Whether a line holds nothing but blanks.
pub fn is_blank(line: &[u8]) -> bool {
    line.iter().all(u8::is_ascii_whitespace)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn split(lines: &mut Lines, chunks: &[&[u8]]) -> Result<Vec<Bytes>, Error> {
        let mut found = Vec::new();
        for chunk in chunks {
            lines.push(Bytes::copy_from_slice(chunk));
            while let Some(line) = lines.next_line()? {
                found.push(line);
            }
        }
        found.extend(lines.finish());
        Ok(found)
    }

    #[test]
    fn a_line_holds_at_its_limit_and_is_refused_past_it_whole_or_in_pieces() {
        let split = |chunks: &[&[u8]]| split(&mut Lines::with_limit(4), chunks).map(|lines| lines.len());
        let error = Err(Error::TooLarge { what: "a line", limit: 4 });
        assert_eq!(split(&[b"abcd\nabcd"]), Ok(2));
        assert_eq!(split(&[b"abcde\n"]), error);
        assert_eq!(split(&[b"ab", b"cd\n"]), Ok(1));
        assert_eq!(split(&[b"ab", b"cde\n"]), error);
        assert_eq!(split(&[b"ab", b"cde"]), error);
    }

    #[test]
    fn the_public_limit_holds_a_message_at_message_bytes_max_in_base_64() {
        assert!(LINE_BYTES_MAX > MESSAGE_BYTES_MAX.div_ceil(3) * 4);
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter_to_lines(text in "[ab\n]{0,60}", cuts in proptest::collection::vec(0usize..60, 0..6)) {
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.extend([0, text.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|pair| &text.as_bytes()[pair[0]..pair[1]]).collect();
            let found = split(&mut Lines::default(), &chunks).expect("within limits");
            let mut expected: Vec<_> = text.split('\n').map(|line| Bytes::copy_from_slice(line.as_bytes())).collect();
            if text.is_empty() || text.ends_with('\n') {
                expected.pop();
            }
            prop_assert_eq!(found, expected);
        }
    }
}
