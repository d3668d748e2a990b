//! Does a field of a declaration lie within its bounds?

/// A field that lies outside of its range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct Invalid {
    /// Which.
    pub field: &'static str,
    /// What is wrong.
    pub reason: String,
}

/// Checks a number against its bounds.
pub fn check_range(field: &'static str, value: u64, min: u64, max: u64) -> Result<(), Invalid> {
    match (min..=max).contains(&value) {
        true => Ok(()),
        false => Err(Invalid { field, reason: format!("must lie between {min} and {max}, is {value}") }),
    }
}
