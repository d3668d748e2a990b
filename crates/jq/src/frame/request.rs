//! What the server asks of a child.
//!
//! ```text
//! 1 define  id u64, count u8, count * (length u32, name), text to the end
//! 2 run     id u64, output_bytes u32, outputs u32, input (length u32, JSON), count u8, count * (length u32, JSON)
//! 3 forget  nothing
//! ```

use super::{Error, Parts, put, put_prefixed};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Here is a program.
    Define {
        /// How it is called from now on.
        id: u64,
        /// Its variables, with dollar signs.
        variables: Vec<&'a str>,
        /// Its text.
        text: &'a str,
    },
    /// Run it.
    Run {
        /// Which.
        id: u64,
        /// How long its results may be together.
        output_bytes: u32,
        /// How many they may be.
        outputs: u32,
        /// JSON.
        input: &'a [u8],
        /// JSON each, in the order of the definition.
        variables: Vec<&'a [u8]>,
    },
    /// Forget all programs.
    Forget,
}

/// Appends it as a frame.
pub fn encode(request: &Request<'_>, out: &mut Vec<u8>) {
    put(out, |out| match request {
        Request::Define { id, variables, text } => {
            out.push(1);
            out.extend(id.to_le_bytes());
            out.push(variables.len() as u8);
            variables.iter().for_each(|name| put_prefixed(out, name.as_bytes()));
            out.extend_from_slice(text.as_bytes());
        }
        Request::Run { id, output_bytes, outputs, input, variables } => {
            out.push(2);
            out.extend(id.to_le_bytes());
            out.extend(output_bytes.to_le_bytes());
            out.extend(outputs.to_le_bytes());
            put_prefixed(out, input);
            out.push(variables.len() as u8);
            variables.iter().for_each(|value| put_prefixed(out, value));
        }
        Request::Forget => out.push(3),
    });
}

/// Reads a payload.
pub fn decode(payload: &[u8]) -> Result<Request<'_>, Error> {
    let mut parts = Parts(payload);
    match parts.u8()? {
        1 => {
            let id = parts.u64()?;
            let count = parts.u8()?;
            let names = (0..count).map(|_| parts.prefixed().and_then(Parts::text));
            let variables = names.collect::<Result<_, _>>()?;
            Ok(Request::Define { id, variables, text: Parts::text(parts.0)? })
        }
        2 => {
            let (id, output_bytes, outputs) = (parts.u64()?, parts.u32()?, parts.u32()?);
            let input = parts.prefixed()?;
            let count = parts.u8()?;
            let variables = (0..count).map(|_| parts.prefixed()).collect::<Result<_, _>>()?;
            parts.end()?;
            Ok(Request::Run { id, output_bytes, outputs, input, variables })
        }
        3 => parts.end().map(|()| Request::Forget),
        other => Err(Error::Kind(other)),
    }
}
