//! Where do the lines of a publish come from, piece by piece, however large the file is?

use std::{
    io::{self, BufRead, Read},
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use waystation_http::api::Line;

/// Bytes of one line: a message of full size in base64, with its headers.
pub const LINE_BYTES_MAX: usize = 32 << 20;
/// Bytes of one piece, unless a single line is longer.
pub const PIECE_BYTES: usize = 128 << 10;
/// Pieces that wait between the reading thread and the connection.
const PIECES_MAX: usize = 4;

/// What is to be published.
pub enum Feed {
    /// The same line so many times.
    Repeat {
        /// The line, with its end.
        line: Vec<u8>,
        /// How often still.
        left: u64,
    },
    /// Lines that are messages.
    Messages(Box<dyn BufRead + Send>),
    /// Lines that are bodies, with all else of their messages.
    Bodies(Box<dyn BufRead + Send>, Box<Line>),
}

/// Some lines.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// Their bytes.
    pub bytes: Bytes,
    /// How many.
    pub lines: u64,
    /// How many bytes of the input they were.
    pub read_bytes: u64,
}

/// How far a publish is, seen from several places.
#[derive(Debug, Default)]
pub struct Sent {
    /// Lines given to the connection.
    pub lines: AtomicU64,
    /// Bytes of the input given to the connection.
    pub bytes: AtomicU64,
}

impl Feed {
    /// Passes over lines that an earlier run has published.
    pub fn skip(&mut self, lines: u64) -> io::Result<()> {
        for skipped in 0..lines {
            if self.line(skipped)?.is_none() {
                return Err(io::Error::other(format!("there are only {skipped} lines to skip")));
            }
        }
        Ok(())
    }

    /// The next lines: at least one, at most `lines_max`; none at the end. `number` is that of the first, from 0.
    pub fn piece(&mut self, number: u64, lines_max: u64) -> io::Result<Option<Piece>> {
        let (mut bytes, mut lines, mut read_bytes) = (Vec::new(), 0, 0);
        while lines < lines_max && bytes.len() < PIECE_BYTES {
            let Some((line, read)) = self.line(number + lines)? else { break };
            bytes.extend_from_slice(&line);
            lines += 1;
            read_bytes += read;
        }
        Ok((lines > 0).then(|| Piece { bytes: bytes.into(), lines, read_bytes }))
    }

    /// One line as it is sent, and its bytes in the input.
    fn line(&mut self, number: u64) -> io::Result<Option<(Vec<u8>, u64)>> {
        match self {
            Feed::Repeat { left: 0, .. } => Ok(None),
            Feed::Repeat { line, left } => {
                *left -= 1;
                Ok(Some((line.clone(), line.len() as u64)))
            }
            Feed::Messages(input) => Ok(read_line(input, number)?.map(|mut line| {
                let read = line.len() as u64;
                if line.last() != Some(&b'\n') {
                    line.push(b'\n');
                }
                (line, read)
            })),
            Feed::Bodies(input, rest) => match read_line(input, number)? {
                None => Ok(None),
                Some(line) => {
                    let body = line.strip_suffix(b"\n").unwrap_or(&line);
                    let body = body.strip_suffix(b"\r").unwrap_or(body);
                    Ok(Some((message(body, rest)?, line.len() as u64)))
                }
            },
        }
    }
}

fn read_line(input: &mut dyn BufRead, number: u64) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    input.take(LINE_BYTES_MAX as u64 + 1).read_until(b'\n', &mut line)?;
    if line.len() > LINE_BYTES_MAX {
        let text = format!("line {} is longer than {LINE_BYTES_MAX} bytes", number + 1);
        return Err(io::Error::other(text));
    }
    Ok((!line.is_empty()).then_some(line))
}

/// A message as one line: its body as JSON, text or base64, whichever the bytes allow.
pub fn message(body: &[u8], rest: &Line) -> io::Result<Vec<u8>> {
    let mut line = rest.clone();
    let as_json = rest.content_type.as_deref().is_none_or(|kind| kind == "application/json");
    match std::str::from_utf8(body) {
        // A newline in it would end the line.
        Ok(text) if as_json && !text.contains(['\n', '\r']) => match serde_json::from_str(text) {
            Ok(value) => line.body = Some(value),
            Err(_) => line.body_text = Some(text.to_owned()),
        },
        Ok(text) => line.body_text = Some(text.to_owned()),
        Err(_) => line.body_base64 = Some(BASE64_STANDARD.encode(body)),
    }
    let mut bytes = serde_json::to_vec(&line)?;
    bytes.push(b'\n');
    Ok(bytes)
}

/// Reads pieces on a thread of its own, so that a slow file or pipe does not hold up the connection.
pub fn spawn(mut feed: Feed, skip: u64, lines_max: u64) -> tokio::sync::mpsc::Receiver<io::Result<Piece>> {
    let (sender, receiver) = tokio::sync::mpsc::channel(PIECES_MAX);
    std::thread::spawn(move || {
        let mut number = skip;
        let mut next = feed.skip(skip).and_then(|()| feed.piece(number, lines_max));
        // The receiver goes when the publish has ended early.
        while let Some(piece) = next.transpose() {
            let lines = piece.as_ref().map_or(0, |piece| piece.lines);
            if sender.blocking_send(piece).is_err() || lines == 0 {
                return;
            }
            number += lines;
            next = feed.piece(number, lines_max);
        }
    });
    receiver
}

/// Counts a piece that goes out.
pub fn count(sent: &Arc<Sent>, piece: &Piece) {
    sent.lines.fetch_add(piece.lines, Ordering::Relaxed);
    sent.bytes.fetch_add(piece.read_bytes, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(bytes: &[u8]) -> Box<dyn BufRead + Send> {
        Box::new(io::Cursor::new(bytes.to_vec()))
    }

    fn all(mut feed: Feed, lines_max: u64) -> Vec<String> {
        let mut pieces = Vec::new();
        while let Some(piece) = feed.piece(0, lines_max).expect("good input") {
            pieces.push(String::from_utf8(piece.bytes.to_vec()).expect("text"));
        }
        pieces
    }

    #[test]
    fn messages_are_passed_on_as_they_stand_in_pieces_of_whole_lines() {
        let pieces = all(Feed::Messages(input(b"{\"body\":1}\n{\"body\":2}\n\n{}")), 2);
        assert_eq!(pieces, ["{\"body\":1}\n{\"body\":2}\n", "\n{}\n"]);
    }

    #[test]
    fn a_piece_ends_with_the_line_that_fills_it() {
        let line = [vec![b'x'; PIECE_BYTES - 1], b"\n".to_vec()].concat();
        let pieces = all(Feed::Messages(input(&line.repeat(2))), u64::MAX);
        assert_eq!(pieces.iter().map(String::len).collect::<Vec<_>>(), [PIECE_BYTES, PIECE_BYTES]);
    }

    #[test]
    fn bodies_become_json_text_or_base64() {
        let rest = Box::new(Line { key: Some("k".into()), ..Line::default() });
        let pieces = all(Feed::Bodies(input(b"{\"a\": 1}\r\nplain\n\xff\n"), rest), 1);
        assert_eq!(
            pieces,
            [
                "{\"key\":\"k\",\"body\":{\"a\": 1}}\n",
                "{\"key\":\"k\",\"body_text\":\"plain\"}\n",
                "{\"key\":\"k\",\"body_base64\":\"/w==\"}\n",
            ]
        );
    }

    #[test]
    fn json_with_line_ends_and_other_types_stay_text() {
        let text =
            |body: &[u8], rest: &Line| String::from_utf8(message(body, rest).expect("json")).expect("text");
        assert_eq!(text(b"{\n}", &Line::default()), "{\"body_text\":\"{\\n}\"}\n");
        let plain = Line { content_type: Some("text/plain".into()), ..Line::default() };
        assert_eq!(text(b"5", &plain), "{\"content_type\":\"text/plain\",\"body_text\":\"5\"}\n");
    }

    #[test]
    fn lines_are_read_up_to_line_bytes_max() {
        let line = |length: usize| [vec![b'x'; length - 1], b"\n".to_vec()].concat();
        let mut feed = Feed::Messages(input(&line(LINE_BYTES_MAX)));
        assert!(feed.piece(0, 1).is_ok());
        let mut feed = Feed::Messages(input(&line(LINE_BYTES_MAX + 1)));
        let error = feed.piece(6, 1).expect_err("too long");
        assert_eq!(error.to_string(), "line 7 is longer than 33554432 bytes");
    }

    #[test]
    fn skipping_more_than_there_is_is_told() {
        let mut feed = Feed::Repeat { line: b"{}\n".to_vec(), left: 2 };
        assert!(feed.skip(2).is_ok());
        assert_eq!(feed.piece(2, 9).expect("fine"), None);
        let error = Feed::Messages(input(b"a\nb\n")).skip(3).expect_err("too many");
        assert_eq!(error.to_string(), "there are only 2 lines to skip");
    }
}
