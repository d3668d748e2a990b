//! Text that grows up to a bound.

use crate::{Error, OUTPUT_BYTES_MAX};

/// Appends `part`, unless `out` would grow past [`OUTPUT_BYTES_MAX`].
pub fn put(out: &mut String, part: &str) -> Result<(), Error> {
    if out.len() + part.len() > OUTPUT_BYTES_MAX {
        return Err(Error::Size);
    }
    out.push_str(part);
    Ok(())
}
