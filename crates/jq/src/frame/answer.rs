//! What a child answers: one frame when it is ready, then one for each document, in order.
//!
//! ```text
//! 0 ready    nothing
//! 1 results  count u32, count * end u32 (where each result ends), the results' JSON one behind the other to the end
//! 2 error    text to the end
//! 3 size     nothing
//! 4 outputs  nothing
//! ```

use super::{Error, Parts, put};
use crate::eval::Verdict;

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The child has started.
    Ready,
    /// What came of the next document.
    Verdict(Verdict),
}

/// Appends it as a frame.
pub fn encode(answer: &Answer, out: &mut Vec<u8>) {
    put(out, |out| match answer {
        Answer::Ready => out.push(0),
        Answer::Verdict(Verdict::Results { bytes, ends }) => {
            out.push(1);
            out.extend((ends.len() as u32).to_le_bytes());
            ends.iter().for_each(|end| out.extend(end.to_le_bytes()));
            out.extend_from_slice(bytes);
        }
        Answer::Verdict(Verdict::Error(text)) => {
            out.push(2);
            out.extend_from_slice(text.as_bytes());
        }
        Answer::Verdict(Verdict::Size) => out.push(3),
        Answer::Verdict(Verdict::Outputs) => out.push(4),
    });
}

/// Reads a payload.
pub fn decode(payload: &[u8]) -> Result<Answer, Error> {
    let mut parts = Parts(payload);
    Ok(match parts.u8()? {
        0 => parts.end().map(|()| Answer::Ready)?,
        1 => Answer::Verdict(results(parts)?),
        2 => Answer::Verdict(Verdict::Error(Parts::text(parts.0)?.to_owned())),
        3 => parts.end().map(|()| Answer::Verdict(Verdict::Size))?,
        4 => parts.end().map(|()| Answer::Verdict(Verdict::Outputs))?,
        other => return Err(Error::Kind(other)),
    })
}

/// Results whose ends go up and lie within: whoever slices by them need not check again.
fn results(mut parts: Parts<'_>) -> Result<Verdict, Error> {
    let count = parts.u32()? as usize;
    let listed = parts.take(count.checked_mul(4).ok_or(Error::Length)?)?;
    let (chunks, _) = listed.as_chunks::<4>();
    let ends: Vec<u32> = chunks.iter().map(|chunk| u32::from_le_bytes(*chunk)).collect();
    let bytes = parts.0.to_vec();
    let rising = ends.is_sorted() && ends.last().copied().unwrap_or(0) as usize == bytes.len();
    if rising { Ok(Verdict::Results { bytes, ends }) } else { Err(Error::Length) }
}
