//! What does each decoder promise about any bytes at all? One function for each, that panics when the promise breaks.
//!
//! The same functions are called by `cargo-fuzz` (the folder `fuzz/`), which finds its way by coverage and needs a nightly
//! compiler, and by a seeded test in every test run, which mutates well-formed input and needs nothing.
//!
//! This crate refuses to be used by anything that is shipped.

pub mod mutate;
mod targets;

/// A decoder under test.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// As `cargo xtask fuzz` takes it.
    pub name: &'static str,
    /// Well-formed inputs to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Whether the bytes are well-formed; panics if they break what the decoder promises.
    pub run: fn(&[u8]) -> bool,
}

pub use targets::ALL;

/// Calls the target of that name.
///
/// # Panics
/// If there is none, or the promise breaks.
pub fn run(name: &str, data: &[u8]) -> bool {
    let target = ALL.iter().find(|target| target.name == name);
    let target = target.unwrap_or_else(|| panic!("no decoder is called {name}"));
    (target.run)(data)
}
