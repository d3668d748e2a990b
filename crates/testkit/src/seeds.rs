//! Which stories a run of a test lives through.

use std::ops::Range;

/// The number that a variable of the environment gives; none if it is not set.
///
/// # Panics
/// If it is set to anything else.
pub fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} must be a number, is {text:?}")))
}

/// The one seed that `{name}_SEED` gives, or else as many as `{name}_SEEDS` says, or `ordinary`, from 0 on.
///
/// # Panics
/// If one of them is set and is no number.
pub fn chosen(name: &str, ordinary: u64) -> Range<u64> {
    match number(&format!("{name}_SEED")) {
        Some(seed) => seed..seed + 1,
        None => 0..number(&format!("{name}_SEEDS")).unwrap_or(ordinary),
    }
}
